//! Settings: what a plugin can be told, as data for the gateway and as types for the author.
//!
//! `#[derive(Config)]` on a struct makes one key of each field. The field's type gives the key its type, its
//! doc comment the documentation, and `#[config(…)]` the rest:
//!
//! | attribute | meaning |
//! | --- | --- |
//! | `name = "max.items"` | the key; else the field's name with `.` for `_` |
//! | `default = "mark"` | what holds where nothing is set; a key without one is required, unless it is an `Option` |
//! | `one_of = ["a", "b"]` | one of these texts |
//! | `min = 1`, `max = 10` | least and greatest number, inclusive |
//! | `min_length = 1`, `max_length = 64` | in characters |
//! | `pattern = "[a-z]+"` | a regular expression (RE2) that matches all of it; the gateway alone checks it |
//! | `non_empty` | not the empty text |
//! | `url`, `url = ["https"]` | an address, with one of these schemes |
//! | `importance = "high"` | `high`, `medium` (unless said), `low` |
//! | `group = "Limits"`, `width = "short"`, `display = "Most items"` | for forms |
//! | `dependents = ["other"]` | keys whose recommended values or visibility depend on this one |
//! | `aliases = ["max"]` | former names, still taken |
//! | `deprecated = "use max.items"` | what to use in its place |
//! | `example = "100"` | shown in pages |
//! | `grants = ["files.read"]` | writing the key grants what its value names: `http.get` and so on, `files.read`, `files.write` |
//! | `internal` | taken, and not shown in pages |
//!
//! Types: `bool`, `i16`, `i32`, `i64`, `u16`, `u32`, `f64`, `String`, [`Vec`] (texts between commas), [`Option`],
//! [`Duration`] (`250ms`, `5s`, `2m`, `1h`), [`Size`] (`100`, `64KiB`, `1GB`), [`Secret`], an enum with
//! `#[derive(Choice)]`, and whatever implements [`Setting`].

use crate::{Failure, Field, FieldType, Importance, Validator, Value, Verdict, Width};
use std::fmt;
use std::time::Duration;

/// The settings of a plugin; `()` for none.
pub trait Config: Sized {
    /// The keys, in the order in which they are read.
    fn fields() -> Vec<Field>;

    /// Reads every key, also after one was wrong; nothing where the reader has mistakes to report.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

impl Config for () {
    fn fields() -> Vec<Field> {
        Vec::new()
    }

    fn read(_: &mut Reader<'_>) -> Option<()> {
        Some(())
    }
}

/// Reads settings from what the gateway has sent.
///
/// # Errors
/// Every mistake, by key. The gateway has checked most of it before, so this is the last line of defence.
pub fn read<C: Config>(values: &[Value]) -> Result<C, Mistakes> {
    let mut reader = Reader {
        values,
        fields: C::fields().into_iter(),
        mistakes: Mistakes(Vec::new()),
    };
    let read = C::read(&mut reader);
    match read {
        Some(settings) if reader.mistakes.0.is_empty() => Ok(settings),
        _ => Err(reader.mistakes),
    }
}

/// What the exported `validate` does: the checks of single keys, and behind them the plugin's own.
#[doc(hidden)]
pub fn validated<C: Config>(values: &[Value], check: fn(&C) -> Vec<Verdict>) -> Vec<Verdict> {
    match read::<C>(values) {
        Ok(settings) => check(&settings),
        Err(mistakes) => mistakes.into_verdicts(),
    }
}

/// The settings that a plugin is opened with.
///
/// # Errors
/// A fatal failure that names every mistake.
#[doc(hidden)]
pub fn opened<C: Config>(values: &[Value], check: fn(&C) -> Vec<Verdict>) -> Result<C, Failure> {
    let settings = read::<C>(values).map_err(|mistakes| wrong_settings(&mistakes))?;
    let verdicts = check(&settings).into_iter();
    let errors = verdicts.flat_map(|verdict| {
        let name = verdict.name;
        verdict.errors.into_iter().map(move |error| (name.clone(), error))
    });
    let mistakes = Mistakes(errors.collect());
    if !mistakes.0.is_empty() {
        return Err(wrong_settings(&mistakes));
    }
    Ok(settings)
}

fn wrong_settings(mistakes: &Mistakes) -> Failure {
    Failure::fatal(format!("settings are wrong:\n{mistakes}"))
}

/// What is wrong with settings: (key, mistake), in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<(String, String)>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.iter().map(|(key, mistake)| format!("`{key}` {mistake}"));
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Mistakes {}

impl Mistakes {
    pub(crate) fn into_verdicts(self) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = Vec::new();
        for (key, mistake) in self.0 {
            match verdicts.iter_mut().find(|verdict| verdict.name == key) {
                Some(verdict) => verdict.errors.push(mistake),
                None => verdicts.push(Verdict::error(key, mistake)),
            }
        }
        verdicts
    }
}

impl Verdict {
    /// Something is wrong with this key, as a sentence's rest: ``"needs `hash.key` too"``.
    pub fn error(name: impl Into<String>, mistake: impl Into<String>) -> Verdict {
        Verdict {
            name: name.into(),
            errors: vec![mistake.into()],
            recommended: Vec::new(),
            visible: true,
        }
    }
}

/// Goes through the keys in their order; what a derived [`Config`] reads from.
pub struct Reader<'a> {
    values: &'a [Value],
    fields: std::vec::IntoIter<Field>,
    mistakes: Mistakes,
}

impl Reader<'_> {
    /// The value of the next key, or nothing and a mistake noted.
    ///
    /// # Panics
    /// When asked for more keys than there are fields.
    pub fn take<T: Setting>(&mut self) -> Option<T> {
        let field = self.fields.next().expect("a key is read for each field");
        match value_of(&field, self.values) {
            Ok(setting) => Some(setting),
            Err(mistake) => {
                self.mistakes.0.push((field.name, mistake));
                None
            }
        }
    }
}

fn value_of<T: Setting>(field: &Field, values: &[Value]) -> Result<T, String> {
    let set = |name: &String| values.iter().find(|value| value.name == *name)?.value.as_deref();
    let text = std::iter::once(&field.name).chain(&field.aliases).find_map(set);
    let Some(text) = text.or(field.default_value.as_deref()) else {
        return T::absent().ok_or_else(|| "is required and not set".to_owned());
    };
    if text.is_empty()
        && let Some(absent) = T::absent()
    {
        return Ok(absent);
    }
    for validator in &field.validators {
        if let Some(mistake) = validator.mistake(text) {
            return Err(mistake);
        }
    }
    T::parse(text)
}

impl Validator {
    /// What is wrong with a text, as a sentence's rest. Patterns are left to the gateway: a plugin carries no engine
    /// for them.
    fn mistake(&self, text: &str) -> Option<String> {
        let count = || text.chars().count();
        match self {
            Validator::Range((least, greatest)) => {
                let number: f64 = text.trim().parse().ok()?; // what is no number, the type's own parser refuses
                let below = least.is_some_and(|least| number < least);
                let above = greatest.is_some_and(|greatest| number > greatest);
                (below || above).then(|| format!("is {text}, and must be {}", span(*least, *greatest)))
            }
            Validator::OneOf(texts) => (!texts.iter().any(|known| known == text))
                .then(|| format!("is `{text}`, and must be one of {}", texts.join(", "))),
            Validator::NonEmpty => text.is_empty().then(|| "must not be empty".to_owned()),
            Validator::Length((least, greatest)) => {
                let below = least.is_some_and(|least| count() < least as usize);
                let above = greatest.is_some_and(|greatest| count() > greatest as usize);
                let (least, greatest) = (least.map(f64::from), greatest.map(f64::from));
                (below || above).then(|| {
                    format!(
                        "has {} characters, and must have {}",
                        count(),
                        span(least, greatest)
                    )
                })
            }
            Validator::Url(schemes) => {
                let known = |scheme: &str| schemes.is_empty() || schemes.iter().any(|known| known == scheme);
                let is_url = text
                    .split_once("://")
                    .is_some_and(|(scheme, rest)| known(scheme) && !rest.is_empty());
                (!is_url).then(|| match schemes.as_slice() {
                    [] => format!("is `{text}`, and must be an address such as https://example.org"),
                    _ => format!(
                        "is `{text}`, and must be an address that begins with {}",
                        schemes.join(", ")
                    ),
                })
            }
            Validator::Duration => parse_duration(text).err(),
            Validator::Size => parse_size(text).err(),
            Validator::Pattern(_) => None,
        }
    }
}

fn span(least: Option<f64>, greatest: Option<f64>) -> String {
    match (least, greatest) {
        (Some(least), Some(greatest)) => format!("{least} to {greatest}"),
        (Some(least), None) => format!("{least} or more"),
        (None, Some(greatest)) => format!("{greatest} or less"),
        (None, None) => "any".to_owned(),
    }
}

/// The type of one key.
pub trait Setting: Sized {
    /// What the key is in Kafka Connect's terms.
    const KIND: FieldType;

    /// Checks that come with the type.
    #[must_use]
    fn validators() -> Vec<Validator> {
        Vec::new()
    }

    /// What the type adds to the key's documentation.
    #[must_use]
    fn documentation() -> String {
        String::new()
    }

    /// What an unset key means; nothing where it is a mistake.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }

    /// # Errors
    /// What is wrong, as a sentence's rest: ``"is `x`, and must be true or false"``.
    fn parse(text: &str) -> Result<Self, String>;
}

impl Setting for bool {
    const KIND: FieldType = FieldType::Boolean;

    fn parse(text: &str) -> Result<bool, String> {
        match text.trim() {
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => Err(format!("is `{text}`, and must be true or false")),
        }
    }
}

macro_rules! number {
    ($($type:ty: $kind:ident $(in $least:expr, $greatest:expr)?;)*) => {$(
        impl Setting for $type {
            const KIND: FieldType = FieldType::$kind;

            fn validators() -> Vec<Validator> {
                vec![$(Validator::Range((Some(f64::from($least)), Some(f64::from($greatest)))))?]
            }

            fn parse(text: &str) -> Result<$type, String> {
                let parsed = text.trim().parse();
                parsed.map_err(|_| format!("is `{text}`, and must be a number of type {}", stringify!($type)))
            }
        }
    )*};
}

// Connect has no unsigned types: the next larger one, with the range that is left.
number! {
    i16: Short;
    i32: Int;
    i64: Long;
    u16: Int in u16::MIN, u16::MAX;
    u32: Long in u32::MIN, u32::MAX;
}

impl Setting for f64 {
    const KIND: FieldType = FieldType::Double;

    fn parse(text: &str) -> Result<f64, String> {
        let parsed = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        parsed.ok_or_else(|| format!("is `{text}`, and must be a number"))
    }
}

impl Setting for String {
    const KIND: FieldType = FieldType::String;

    fn parse(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

/// Texts between commas; spaces around them do not count. An item cannot hold a comma.
impl<T: Setting> Setting for Vec<T> {
    const KIND: FieldType = FieldType::List;

    fn documentation() -> String {
        T::documentation()
    }

    fn parse(text: &str) -> Result<Vec<T>, String> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let items = text.split(',').map(str::trim);
        items
            .map(|item| T::parse(item).map_err(|mistake| format!("holds what {mistake}")))
            .collect()
    }
}

/// Unset, and set to nothing, is `None`.
impl<T: Setting> Setting for Option<T> {
    const KIND: FieldType = T::KIND;

    fn validators() -> Vec<Validator> {
        T::validators()
    }

    fn documentation() -> String {
        T::documentation()
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }

    fn parse(text: &str) -> Result<Option<T>, String> {
        T::parse(text).map(Some)
    }
}

/// `250ms`, `5s`, `2m`, `1h`.
impl Setting for Duration {
    const KIND: FieldType = FieldType::String;

    fn validators() -> Vec<Validator> {
        vec![Validator::Duration]
    }

    fn parse(text: &str) -> Result<Duration, String> {
        parse_duration(text)
    }
}

/// A number of bytes: `100`, `64KiB`, `1GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Setting for Size {
    const KIND: FieldType = FieldType::String;

    fn validators() -> Vec<Validator> {
        vec![Validator::Size]
    }

    fn parse(text: &str) -> Result<Size, String> {
        parse_size(text).map(Size)
    }
}

/// A password: masked wherever the gateway shows it, and never printed by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Setting for Secret {
    const KIND: FieldType = FieldType::Password;

    fn parse(text: &str) -> Result<Secret, String> {
        Ok(Secret(text.to_owned()))
    }
}

const TIMES: [(&str, u64); 7] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

const SIZES: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

fn parse_duration(text: &str) -> Result<Duration, String> {
    let micros = with_unit(text, &TIMES);
    micros
        .map(Duration::from_micros)
        .ok_or_else(|| format!("is `{text}`, and must be a time such as 250ms, 5s, 2m, 1h"))
}

fn parse_size(text: &str) -> Result<u64, String> {
    with_unit(text, &SIZES).ok_or_else(|| format!("is `{text}`, and must be a size such as 100, 64KiB, 1GB"))
}

/// A whole number with a unit behind it, without regard to case.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// How a field is described, key by key. What `#[derive(Config)]` calls; an author may as well.
impl Field {
    /// A required key of type `T`. Where `T` is an `Option`, `extra` says `optional`.
    #[must_use]
    pub fn of<T: Setting>(name: &str, documentation: &str) -> Field {
        let optional = T::absent().map(|_| ("optional".to_owned(), "true".to_owned()));
        let documentation = [documentation, &T::documentation()];
        Field {
            name: name.to_owned(),
            kind: T::KIND,
            default_value: None,
            validators: T::validators(),
            importance: Importance::Medium,
            documentation: documentation.map(str::trim).join("\n\n").trim().to_owned(),
            group: None,
            order_in_group: 0,
            width: match T::KIND {
                FieldType::List | FieldType::Class => Width::Long,
                FieldType::String | FieldType::Password => Width::Medium,
                _ => Width::Short,
            },
            display_name: displayed(name),
            dependents: Vec::new(),
            internal: false,
            aliases: Vec::new(),
            deprecated: None,
            example: None,
            extra: optional.into_iter().collect(),
        }
    }

    /// What holds where nothing is set.
    #[must_use]
    pub fn default_value(self, text: &str) -> Field {
        Field {
            default_value: Some(text.to_owned()),
            ..self
        }
    }

    /// One more check.
    #[must_use]
    pub fn validator(mut self, validator: Validator) -> Field {
        self.validators.push(validator);
        self
    }

    /// How much it matters.
    #[must_use]
    pub fn importance(self, importance: Importance) -> Field {
        Field { importance, ..self }
    }

    /// The heading it stands under in a form.
    #[must_use]
    pub fn group(self, group: &str) -> Field {
        Field {
            group: Some(group.to_owned()),
            ..self
        }
    }

    /// Its place in the group.
    #[must_use]
    pub fn order(self, order_in_group: i32) -> Field {
        Field {
            order_in_group,
            ..self
        }
    }

    /// How wide it is in a form.
    #[must_use]
    pub fn width(self, width: Width) -> Field {
        Field { width, ..self }
    }

    /// Its name in a form.
    #[must_use]
    pub fn display(self, name: &str) -> Field {
        Field {
            display_name: name.to_owned(),
            ..self
        }
    }

    /// Keys whose recommended values or visibility depend on it.
    #[must_use]
    pub fn dependents(self, names: &[&str]) -> Field {
        Field {
            dependents: owned(names),
            ..self
        }
    }

    /// Former names, still taken.
    #[must_use]
    pub fn aliases(self, names: &[&str]) -> Field {
        Field {
            aliases: owned(names),
            ..self
        }
    }

    /// What to use in its place.
    #[must_use]
    pub fn deprecated(self, instead: &str) -> Field {
        Field {
            deprecated: Some(instead.to_owned()),
            ..self
        }
    }

    /// A value to show in pages.
    #[must_use]
    pub fn example(self, text: &str) -> Field {
        Field {
            example: Some(text.to_owned()),
            ..self
        }
    }

    /// Writing the key grants what its value names: `http.get` and the other methods, `files.read`, `files.write`.
    #[must_use]
    pub fn grants(mut self, words: &[&str]) -> Field {
        self.extra.push(("grants".to_owned(), words.join(",")));
        self
    }

    /// Taken, and not shown in pages.
    #[must_use]
    pub fn internal(self) -> Field {
        Field {
            internal: true,
            ..self
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// `max.items` as `Max items`.
fn displayed(name: &str) -> String {
    let words = name.replace(['.', '_', '-'], " ");
    let mut characters = words.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

#[cfg(test)]
mod tests;
