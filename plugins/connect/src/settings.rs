//! The keys of every transformation, as Kafka Connect 4.3 spells them, and what was given for one step.

use crate::step::Kind;
use culvert_plugin::config::{Config, Reader};
use culvert_plugin::{Failure, Field, Importance, Validator};
use std::collections::BTreeMap;

/// In a field's `extra`: it must be given where its class is used.
const NEEDED: &str = "class.required";

/// One key of one transformation.
pub(crate) struct Key {
    class: &'static str,
    name: &'static str,
    kind: Type,
    default: Option<&'static str>,
    is_needed: bool,
    one_of: &'static [&'static str],
    pattern: Option<&'static str>,
    alias: Option<&'static str>,
    doc: &'static str,
}

#[derive(Clone, Copy)]
enum Type {
    Text,
    List,
    Int,
    Bool,
}

const fn key(class: &'static str, name: &'static str, kind: Type, doc: &'static str) -> Key {
    Key {
        class,
        name,
        kind,
        default: None,
        is_needed: false,
        one_of: &[],
        pattern: None,
        alias: None,
        doc,
    }
}

impl Key {
    const fn needed(self) -> Key {
        Key {
            is_needed: true,
            ..self
        }
    }

    const fn default(self, default: &'static str) -> Key {
        Key {
            default: Some(default),
            ..self
        }
    }

    const fn one_of(self, one_of: &'static [&'static str]) -> Key {
        Key { one_of, ..self }
    }

    const fn pattern(self, pattern: &'static str) -> Key {
        Key {
            pattern: Some(pattern),
            ..self
        }
    }

    const fn alias(self, alias: &'static str) -> Key {
        Key {
            alias: Some(alias),
            ..self
        }
    }

    fn is_named(&self, name: &str) -> bool {
        self.name == name || self.alias == Some(name)
    }

    fn field(&self, order: i32) -> Field {
        let full = format!("{}.{}", self.class, self.name);
        let mut field = match self.kind {
            Type::Text => Field::of::<Option<String>>(&full, self.doc),
            Type::List => Field::of::<Option<Vec<String>>>(&full, self.doc),
            Type::Int => Field::of::<Option<i32>>(&full, self.doc),
            Type::Bool => Field::of::<Option<bool>>(&full, self.doc),
        };
        field = field.group(self.class).order(order).display(self.name);
        if let Some(default) = self.default {
            field = field.default_value(default);
        }
        if !self.one_of.is_empty() {
            let words = self.one_of.iter().map(|word| (*word).to_owned());
            field = field.validator(Validator::OneOf(words.collect()));
        }
        if let Some(pattern) = self.pattern {
            field = field.validator(Validator::Pattern(pattern.to_owned()));
        }
        if let Some(alias) = self.alias {
            field = field.aliases(&[&format!("{}.{alias}", self.class)]);
        }
        if self.is_needed {
            field = field.importance(Importance::High);
            if !matches!(self.kind, Type::Text) {
                field = field.validator(Validator::NonEmpty);
            }
            field.extra.push((NEEDED.to_owned(), "true".to_owned()));
        }
        field
    }
}

const NULLS: &str = "Taken, and without effect: nulls stay as they are.";
const OPTIONALITY: &str =
    "Field for `static.value`. As with all of these, `!` behind the name makes it needed in a schema.";

const fn nulls(class: &'static str) -> Key {
    key(class, "replace.null.with.default", Type::Bool, NULLS).default("true")
}

const KEYS: &[Key] = &[
    key("InsertField", "topic.field", Type::Text, "Field for the topic."),
    key("InsertField", "partition.field", Type::Text, "Field for the partition, that of the origin."),
    key("InsertField", "offset.field", Type::Text, "Field for the place in the stream: the origin's offset, where it is Kafka."),
    key("InsertField", "timestamp.field", Type::Text, "Field for the timestamp, in milliseconds."),
    key("InsertField", "static.field", Type::Text, OPTIONALITY),
    key("InsertField", "static.value", Type::Text, "What `static.field` holds: always a string."),
    nulls("InsertField"),
    key("ReplaceField", "exclude", Type::List, "Fields to leave out; before `include`.").alias("blacklist"),
    key("ReplaceField", "include", Type::List, "Fields to keep; empty for all.").alias("whitelist"),
    key("ReplaceField", "renames", Type::List, "`old:new` pairs.").pattern(r"\s*([^:,]+:[^:,]+(\s*,\s*[^:,]+:[^:,]+)*)?\s*"),
    nulls("ReplaceField"),
    key("MaskField", "fields", Type::List, "Fields to mask. One that is not there comes as null, as in Kafka Connect.").needed(),
    key("MaskField", "replacement", Type::Text, "What strings and numbers become; else the empty text, 0, false, [] or {}.").pattern("(?s).+"),
    nulls("MaskField"),
    key("HoistField", "field", Type::Text, "The field that holds all.").needed(),
    key("ExtractField", "field", Type::Text, "The field that is taken out.").needed(),
    key("ExtractField", "field.syntax.version", Type::Text, "`V2` reads `field` as a path: names between dots, in backticks where they hold dots.").default("V1").pattern("(?i)v[12]"),
    nulls("ExtractField"),
    key("ValueToKey", "fields", Type::List, "Fields of the value that make the key.").needed(),
    nulls("ValueToKey"),
    key("SetSchemaMetadata", "schema.name", Type::Text, "The schema's name."),
    key("SetSchemaMetadata", "schema.version", Type::Int, "The schema's version."),
    nulls("SetSchemaMetadata"),
    key("TimestampRouter", "topic.format", Type::Text, "The topic, with `${topic}` and `${timestamp}` in it.").default("${topic}-${timestamp}"),
    key("TimestampRouter", "timestamp.format", Type::Text, "A pattern of `SimpleDateFormat`, in UTC.").default("yyyyMMdd"),
    key("RegexRouter", "regex", Type::Text, "What the whole topic must match.").needed(),
    key("RegexRouter", "replacement", Type::Text, "What the first match becomes; `$1` and `${name}` are groups.").needed(),
    key("Flatten", "delimiter", Type::Text, "Between the names of outer and inner fields.").default("."),
    key("Cast", "spec", Type::List, "`field:type` pairs, or one type for the whole. Types: int8, int16, int32, int64, float32, float64, boolean, string.").needed(),
    nulls("Cast"),
    key("TimestampConverter", "field", Type::Text, "The field; empty for the whole.").default(""),
    key("TimestampConverter", "target.type", Type::Text, "What it becomes. `Date`, `Time` and `Timestamp` need a schema.").one_of(&["string", "unix", "Date", "Time", "Timestamp"]).needed(),
    key("TimestampConverter", "format", Type::Text, "A pattern of `SimpleDateFormat`, in UTC, for strings read and written.").default(""),
    key("TimestampConverter", "unix.precision", Type::Text, "What numbers count.").one_of(&["seconds", "milliseconds", "microseconds", "nanoseconds"]).default("milliseconds"),
    nulls("TimestampConverter"),
    key("InsertHeader", "header", Type::Text, "The header's name.").needed(),
    key("InsertHeader", "value.literal", Type::Text, "Its value, as it is written.").needed(),
    key("DropHeaders", "headers", Type::List, "Names of the headers to leave out.").needed(),
    key("HeaderFrom", "fields", Type::List, "Fields to copy or move.").needed(),
    key("HeaderFrom", "headers", Type::List, "The headers they become, in the same order.").needed(),
    key("HeaderFrom", "operation", Type::Text, "Whether the fields stay.").one_of(&["move", "copy"]).needed(),
    nulls("HeaderFrom"),
];

/// The plugin's settings: one step by its class and keys, or several as JSON.
pub(crate) struct Settings {
    pub(crate) steps: Vec<Given>,
}

impl Config for Settings {
    fn fields() -> Vec<Field> {
        let classes = Kind::ALL.iter().flat_map(|kind| kind.names()).collect();
        let class = Field::of::<String>(
            "class",
            "The transformation, with `$Key` or `$Value` where it has the two. In a connector, write Kafka Connect's own \
             class as the stage's `type`, and the keys below without the first word.",
        )
        .validator(Validator::OneOf(classes))
        .group("Transformation")
        .importance(Importance::High)
        .example("Flatten$Value");
        let steps =
            Field::of::<Option<String>>("steps", "Several transformations, as the gateway joins them.")
                .internal();
        let keys = KEYS.iter().zip(1..).map(|(key, order)| key.field(order));
        [class, steps].into_iter().chain(keys).collect()
    }

    fn read(reader: &mut Reader<'_>) -> Option<Settings> {
        let class = reader.take::<Option<String>>();
        let steps = reader.take::<Option<String>>();
        let values: Vec<Option<Option<String>>> = KEYS.iter().map(|_| reader.take()).collect();
        let (class, steps) = (class?, steps?);
        let values = values.into_iter().collect::<Option<Vec<_>>>()?;
        if let Some(steps) = steps {
            return Some(Settings {
                steps: read_steps(&steps),
            });
        }
        let class = class.unwrap_or_default();
        let base = class.split('$').next().unwrap_or_default();
        let own = KEYS.iter().zip(values).filter(|(key, _)| key.class == base);
        let given = own.filter_map(|(key, value)| Some((key.name.to_owned(), value?)));
        Some(Settings {
            steps: vec![Given {
                name: String::new(),
                class: class.clone(),
                settings: given.collect(),
            }],
        })
    }
}

/// A text that is no list of steps is one step of a class that is not there: it is refused when it is opened.
fn read_steps(text: &str) -> Vec<Given> {
    let read: Result<Vec<BTreeMap<String, String>>, _> = serde_json::from_str(text);
    let step = |mut settings: BTreeMap<String, String>| Given {
        name: settings.remove("name").unwrap_or_default(),
        class: settings.remove("type").unwrap_or_default(),
        settings,
    };
    match read {
        Ok(steps) => steps.into_iter().map(step).collect(),
        Err(_) => vec![step(BTreeMap::new())],
    }
}

/// What was given for one step.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The stage's name; empty where there is one step alone.
    pub(crate) name: String,
    /// With `$Key` or `$Value`.
    pub(crate) class: String,
    pub(crate) settings: BTreeMap<String, String>,
}

/// What is wrong with a step's settings: keys and mistakes.
pub(crate) type Mistakes = Vec<(&'static str, String)>;

impl Given {
    pub(crate) fn base(&self) -> &str {
        self.class.split('$').next().unwrap_or_default()
    }

    /// As it was given, or its default.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let key = KEYS
            .iter()
            .find(|key| key.class == self.base() && key.name == name)?;
        let alias = || self.settings.get(key.alias?);
        let given = self.settings.get(name).or_else(alias);
        given.map(String::as_str).or(key.default)
    }

    /// The same, empty where nothing is.
    pub(crate) fn string(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// Texts between commas.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default().trim();
        if text.is_empty() {
            return Vec::new();
        }
        text.split(',').map(|item| item.trim().to_owned()).collect()
    }

    /// What single keys alone show to be wrong.
    pub(crate) fn mistakes(&self) -> Mistakes {
        let own = || KEYS.iter().filter(|key| key.class == self.base());
        let mut mistakes = Mistakes::new();
        for key in own() {
            let given = self.text(key.name);
            let is_empty = match key.kind {
                Type::Text => given.is_none(),
                _ => given.is_none_or(|text| text.trim().is_empty()),
            };
            if key.is_needed && is_empty {
                mistakes.push((key.name, "is missing".to_owned()));
                continue;
            }
            let Some(given) = given else { continue };
            if !key.one_of.is_empty() && !key.one_of.contains(&given) {
                mistakes.push((
                    key.name,
                    format!("is {given:?}, and must be one of {}", key.one_of.join(", ")),
                ));
            }
            let trimmed = given.trim();
            match key.kind {
                Type::Int if trimmed.parse::<i32>().is_err() => {
                    mistakes.push((key.name, format!("is {given:?}, and must be a whole number")));
                }
                Type::Bool if !["true", "false"].contains(&trimmed.to_ascii_lowercase().as_str()) => {
                    mistakes.push((key.name, format!("is {given:?}, and must be true or false")));
                }
                _ => {}
            }
        }
        for name in self.settings.keys() {
            if !own().any(|key| key.is_named(name)) {
                let known: Vec<&str> = own().map(|key| key.name).collect();
                mistakes.push(("", format!("has no key {name:?}; there are {}", known.join(", "))));
            }
        }
        mistakes
    }
}

/// All mistakes of a step, as the plugin's failure.
pub(crate) fn failure(given: &Given, mistakes: &Mistakes) -> Failure {
    let step = match given.name.as_str() {
        "" => given.class.clone(),
        name => format!("step {name} ({})", given.class),
    };
    let line = |(key, mistake): &(&str, String)| match *key {
        "" => format!("{step}: {mistake}"),
        key => format!("{step}: `{key}` {mistake}"),
    };
    let lines: Vec<String> = mistakes.iter().map(line).collect();
    Failure::fatal(lines.join("\n"))
}
