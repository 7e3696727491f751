//! Settings of a plugin under test: filled as a connector's would be, and at the edges of what their checks let pass.

use crate::plugin::check;
use culvert_host::{Field, FieldType, Validator};
use serde_json::Value;

/// Names and values, all of the plugin's keys, in its order.
pub type Settings = Vec<Setting>;

/// A key and its value.
pub type Setting = (String, Option<String>);

/// The most values of one key that are tried.
const EDGES_MAX: usize = 24;

/// The longest text that is tried, in characters. By eye.
const LENGTH_MAX: usize = 10_000;

/// What a case or a person gave, and defaults for the rest.
///
/// # Errors
/// A name that is no key of the plugin, or a value that is no text, number or truth value.
pub(super) fn of_json(given: Option<&Value>, fields: &[Field]) -> Result<Settings, String> {
    let object = match given {
        None | Some(Value::Null) => &serde_json::Map::new(),
        Some(Value::Object(object)) => object,
        Some(other) => return Err(format!("settings: {other}; valid: an object")),
    };
    let mut set = Vec::new();
    for (name, value) in object {
        let value = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            other => {
                return Err(format!(
                    "settings: {name}: {other}; valid: a text, a number, true or false"
                ));
            }
        };
        set.push((name.clone(), value));
    }
    filled(&set, fields).map_err(|why| format!("settings: {why}"))
}

/// All keys: what is given, by name or former name, else the default.
///
/// # Errors
/// A name that is no key of the plugin.
pub(super) fn filled(given: &[Setting], fields: &[Field]) -> Result<Settings, String> {
    let is_of =
        |name: &str, field: &Field| field.name == name || field.aliases.iter().any(|alias| alias == name);
    if let Some((stranger, _)) = given
        .iter()
        .find(|(name, _)| !fields.iter().any(|field| is_of(name, field)))
    {
        let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        return Err(match known.as_slice() {
            [] => format!("{stranger:?} is no key of this plugin; it has none"),
            known => format!(
                "{stranger:?} is no key of this plugin; valid: {}",
                known.join(", ")
            ),
        });
    }
    let value = |field: &Field| match given.iter().find(|(name, _)| is_of(name, field)) {
        Some((_, value)) => value.clone(),
        None => field.default_value.clone(),
    };
    Ok(fields
        .iter()
        .map(|field| (field.name.clone(), value(field)))
        .collect())
}

/// Keys that a connector must give and `settings` lack.
pub(super) fn missing<'a>(settings: &[Setting], fields: &'a [Field]) -> Vec<&'a Field> {
    let is_missing = |field: &&Field| field.is_required() && get(settings, &field.name).is_none();
    fields.iter().filter(is_missing).collect()
}

/// `settings`, with their examples for the keys that a connector must give.
pub(super) fn with_examples(settings: &[Setting], fields: &[Field]) -> Settings {
    let mut settings = settings.to_vec();
    let lacking: Vec<Field> = missing(&settings, fields).into_iter().cloned().collect();
    for field in lacking {
        set(&mut settings, &field.name, field.example);
    }
    settings
}

fn get<'a>(settings: &'a [Setting], name: &str) -> Option<&'a str> {
    let (_, value) = settings.iter().find(|(known, _)| known == name)?;
    value.as_deref()
}

pub(super) fn set(settings: &mut [Setting], name: &str, value: Option<String>) {
    if let Some((_, known)) = settings.iter_mut().find(|(known, _)| known == name) {
        *known = value;
    }
}

/// `base` with one key changed to a value that its checks just let pass, and all keys at their examples. Keys of `fixed`
/// stay.
pub(super) fn edges(base: &[Setting], fields: &[Field], fixed: &[String]) -> Vec<Settings> {
    let mut all: Vec<Settings> = Vec::new();
    let mut add = |settings: Settings| {
        if settings != base && !all.contains(&settings) {
            all.push(settings);
        }
    };
    let free = |field: &&Field| !fixed.contains(&field.name);
    let mut examples = base.to_vec();
    for field in fields.iter().filter(free).filter(|field| field.example.is_some()) {
        set(&mut examples, &field.name, field.example.clone());
    }
    add(examples);
    for field in fields.iter().filter(free) {
        for value in edge_values(field) {
            let mut settings = base.to_vec();
            set(&mut settings, &field.name, Some(value));
            add(settings);
        }
    }
    all
}

/// `base` with one key changed to another of its choices. Keys of `fixed` stay. For plugins that act on the outside: at the
/// edges of a number, they would be tried for their patience.
pub(super) fn choices(base: &[Setting], fields: &[Field], fixed: &[String]) -> Vec<Settings> {
    let mut all: Vec<Settings> = Vec::new();
    for field in fields.iter().filter(|field| !fixed.contains(&field.name)) {
        let of_lists = field.validators.iter().filter_map(|validator| match validator {
            Validator::OneOf(texts) => Some(texts.clone()),
            _ => None,
        });
        let of_kind = match field.kind {
            FieldType::Boolean => vec!["true".to_owned(), "false".to_owned()],
            _ => Vec::new(),
        };
        for value in of_lists.flatten().chain(of_kind) {
            let mut settings = base.to_vec();
            set(&mut settings, &field.name, Some(value));
            if settings != base && !all.contains(&settings) {
                all.push(settings);
            }
        }
    }
    all
}

/// Values that a gateway lets pass: the least, the greatest, the shortest, each of a choice.
fn edge_values(field: &Field) -> Vec<String> {
    let mut values: Vec<String> = match field.kind {
        FieldType::Boolean => vec!["true".into(), "false".into()],
        FieldType::Short => vec!["0".into(), i16::MIN.to_string(), i16::MAX.to_string()],
        FieldType::Int => vec!["0".into(), i32::MIN.to_string(), i32::MAX.to_string()],
        FieldType::Long => vec!["0".into(), i64::MIN.to_string(), i64::MAX.to_string()],
        FieldType::Double => vec!["0".into(), "-1.5".into(), "1e308".into()],
        FieldType::String | FieldType::Password | FieldType::List | FieldType::Class => {
            vec![String::new(), "x".into(), "ü".into(), "x".repeat(1_000)]
        }
    };
    let is_whole = matches!(field.kind, FieldType::Short | FieldType::Int | FieldType::Long);
    for validator in &field.validators {
        match validator {
            Validator::Range(least, most) => {
                let number = |bound: f64| {
                    if is_whole {
                        format!("{bound:.0}")
                    } else {
                        bound.to_string()
                    }
                };
                values.extend(least.iter().chain(most).map(|bound| number(*bound)));
            }
            Validator::OneOf(texts) => values.extend(texts.iter().cloned()),
            Validator::Length(least, most) => {
                for length in [least, most].into_iter().flatten() {
                    values.push("x".repeat((*length as usize).min(LENGTH_MAX)));
                }
            }
            Validator::Url(schemes) => {
                let scheme = schemes.first().map_or("https", String::as_str);
                values.push(format!("{scheme}://localhost/"));
            }
            Validator::Duration => values.extend(["1ms".into(), "1h".into()]),
            Validator::Size => values.extend(["1".into(), "1GB".into()]),
            Validator::Pattern(_) | Validator::NonEmpty => {}
        }
    }
    values.extend(field.default_value.iter().chain(&field.example).cloned());
    values.retain(|value| check(field, value).is_ok());
    values.sort();
    values.dedup();
    values.truncate(EDGES_MAX);
    values
}

/// Settings on one line, for a person: what is none is left out, and so are passwords.
pub(super) fn shown(settings: &[Setting], fields: &[Field]) -> String {
    let is_secret = |name: &str| {
        let field = fields.iter().find(|field| field.name == name);
        field.is_some_and(|field| field.kind == FieldType::Password)
    };
    let one = |(name, value): &(String, Option<String>)| {
        let value = value.as_ref()?;
        let cut: String = value.chars().take(60).collect();
        let rest = if cut.len() < value.len() { "…" } else { "" };
        Some(if is_secret(name) {
            format!("{name}=***")
        } else {
            format!("{name}={cut}{rest}")
        })
    };
    let all: Vec<String> = settings.iter().filter_map(one).collect();
    if all.is_empty() {
        "no settings".into()
    } else {
        all.join(" ")
    }
}
