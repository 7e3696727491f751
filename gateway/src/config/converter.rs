//! A connector's `key.converter` and `value.converter`, by the names that Kafka Connect and Confluent gave their keys.
//!
//! Converters with schemas name a registry; all others leave the bytes as they are. A key that is of no converter is a
//! mistake, as everywhere.
//!
//! Where stages are to see JSON, or what is written is another schema than what was read, a bundled plugin decodes and
//! encodes. Its own settings stand behind `value.converter.culvert.`.

mod codec;
mod registry;
mod written;

pub use registry::RegistryPlan;

use super::connector::Definition;
use super::mistake::{Found, UNKNOWN_KEY, UNSUPPORTED, VALUE, nearest};
use crate::plugin::{Message, PluginPlan, Shelf, Writes};
use culvert_proto::schema::{Kind, Part, Schema};
use registry::KEYS;
use std::path::Path;
use std::sync::Arc;

/// A converter with schemas, checked.
#[derive(Clone, Debug)]
pub struct ConverterPlan {
    /// The part of a record that it is of.
    pub part: Part,
    /// The language of its schemas.
    pub kind: Kind,
    /// Where its schemas are from.
    pub from: From,
    /// What reads and writes it, where anything is decoded.
    pub codec: Option<PluginPlan>,
}

/// Where the schemas of a part are from.
#[derive(Clone, Debug)]
pub enum From {
    /// A registry.
    Registry(RegistryPlan),
    /// A file: all records are of its schema, and nothing stands before their bytes.
    File(Arc<Schema>, Message),
}

/// Converters with schemas, by the last word of their names.
const WITH_SCHEMAS: [(&str, &str, Kind); 3] = [
    ("io.confluent.connect.avro.", "AvroConverter", Kind::Avro),
    (
        "io.confluent.connect.protobuf.",
        "ProtobufConverter",
        Kind::Protobuf,
    ),
    ("io.confluent.connect.json.", "JsonSchemaConverter", Kind::Json),
];

/// Converters that leave bytes as they are.
const PLAIN: [(&str, &str); 3] = [
    ("org.apache.kafka.connect.converters.", "ByteArrayConverter"),
    ("org.apache.kafka.connect.storage.", "StringConverter"),
    ("org.apache.kafka.connect.json.", "JsonConverter"),
];

/// What keys of the codec begin with, behind `value.converter.`.
const OWN: &str = "culvert.";

/// The codecs' setting that the converter decides.
const FRAMING: &str = "framing";

/// Both parts' converters with schemas. What is wrong goes to `found`; files are below `base`. `staged`: the connector has
/// stages, which see JSON.
pub(super) fn converters(
    definition: &Definition<'_>,
    shelf: &Shelf,
    staged: bool,
    base: &Path,
    found: &mut Found,
) -> Vec<ConverterPlan> {
    [
        ("key.converter", "culvert.key.schema", Part::Key),
        ("value.converter", "culvert.value.schema", Part::Value),
    ]
    .into_iter()
    .filter_map(|(key, schema, part)| {
        Asked {
            definition,
            shelf,
            staged,
            key,
            schema,
            part,
            base,
        }
        .plan(found)
    })
    .collect()
}

/// What a connector's settings say of one converter.
struct Asked<'a> {
    definition: &'a Definition<'a>,
    shelf: &'a Shelf,
    staged: bool,
    key: &'static str,
    /// What the keys about the schema to write with begin with.
    schema: &'static str,
    part: Part,
    base: &'a Path,
}

impl Asked<'_> {
    fn plan(&self, found: &mut Found) -> Option<ConverterPlan> {
        let class = self.definition.settings.get(self.key);
        let is = |package: &str, name: &str| {
            class.is_some_and(|class| class == name || class.strip_prefix(package) == Some(name))
        };
        let with_schemas = WITH_SCHEMAS.iter().find(|(package, name, _)| is(package, name));
        let plain = PLAIN.iter().find(|(package, name)| is(package, name));
        match (with_schemas, plain, class) {
            (Some((_, _, kind)), _, _) => self.with_schemas(*kind, found),
            (None, Some((_, "JsonConverter")), _) => {
                self.no_schema(found);
                self.unknown(&["schemas.enable"], found);
                if self.get("schemas.enable") != Some("false") {
                    let way = "write \"false\", and the JSON passes as it is: there are no envelopes of schema and payload yet";
                    self.unsupported("schemas.enable", way, found);
                }
                None
            }
            (None, Some(_), _) | (None, None, None) => {
                self.no_schema(found);
                self.unknown(&[], found);
                None
            }
            (None, None, Some(class)) => {
                let names = WITH_SCHEMAS.iter().map(|(_, name, _)| *name);
                let names: Vec<&str> = names.chain(PLAIN.iter().map(|(_, name)| *name)).collect();
                let last = class.rsplit('.').next().unwrap_or(class);
                let hint = nearest(last, names.iter().copied()).map_or_else(
                    || format!("valid: {}", names.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                let problem = format!("no converter is called {class:?}");
                self.definition
                    .mistake(UNSUPPORTED, self.key, problem, hint, found);
                None
            }
        }
    }

    fn with_schemas(&self, kind: Kind, found: &mut Found) -> Option<ConverterPlan> {
        let before = found.len();
        let codec = self.codec(kind, found);
        let given = self.given(kind, found);
        let from = match (self.get("schema.registry.url"), given) {
            // What is wrong with the file is said.
            (None, None) if self.schema_key(".file").is_some() => return None,
            (None, Some((schema, message))) => {
                self.no_registry(found);
                From::File(schema, message)
            }
            (_, given) => From::Registry(self.registry(given, found)),
        };
        let decodes = match &from {
            From::File(..) => true,
            From::Registry(registry) => self.staged || registry.writes != Writes::Own,
        };
        let framing = match &from {
            From::File(..) => "none",
            From::Registry(_) => "confluent",
        };
        if !decodes && let Some(key) = self.own_keys().next() {
            let way = "leave it out: nothing is decoded where there are no stages";
            self.mistake(UNKNOWN_KEY, &key, "has nothing to say here", way, found);
        }
        let codec = codec.map(|mut plan| {
            plan.settings.retain(|(name, _)| name != FRAMING);
            plan.settings.push((FRAMING.into(), Some(framing.into())));
            plan
        });
        (found.len() == before).then_some(ConverterPlan {
            part: self.part,
            kind,
            from,
            codec: codec.filter(|_| decodes),
        })
    }

    fn truth(&self, key: &str, default: bool, found: &mut Found) -> bool {
        match self.get(key) {
            None => default,
            Some("true") => true,
            Some("false") => false,
            Some(text) => {
                self.mistake(
                    VALUE,
                    key,
                    format!("{text:?} is no truth value"),
                    "valid: true or false",
                    found,
                );
                default
            }
        }
    }

    /// Keys of this converter that are none.
    fn unknown(&self, known: &[&'static str], found: &mut Found) {
        for own in self.strange(known, known == KEYS) {
            let hint = match (known, nearest(&own, known.iter().copied())) {
                (_, Some(near)) => format!("did you mean {}.{near}?", self.key),
                ([], None) => format!("leave it out, or name a converter with schemas as {}", self.key),
                (known, None) => format!("valid: {}", known.join(", ")),
            };
            self.mistake(UNKNOWN_KEY, &own, "is no key of this converter", hint, found);
        }
    }

    /// Keys behind `value.converter.` that are not known, but for those of the codec.
    fn strange(&self, known: &[&str], has_codec: bool) -> Vec<String> {
        let own = |key: &str| {
            let own = key.strip_prefix(self.key)?.strip_prefix('.')?;
            let is_codecs = own.starts_with(OWN) && has_codec;
            (!is_codecs && !known.contains(&own)).then(|| own.to_owned())
        };
        self.definition
            .settings
            .shown()
            .filter_map(|(key, _)| own(key))
            .collect()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.definition.settings.get(&format!("{}.{key}", self.key))
    }

    fn unsupported(&self, key: &str, way: &str, found: &mut Found) {
        self.mistake(UNSUPPORTED, key, "is not supported by this version", way, found);
    }

    /// About a key that says what is written.
    fn own_mistake(
        &self,
        code: &'static str,
        behind: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
        found: &mut Found,
    ) {
        let key = format!("{}{behind}", self.schema);
        self.definition.mistake(code, &key, problem, hint, found);
    }

    fn mistake(
        &self,
        code: &'static str,
        key: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
        found: &mut Found,
    ) {
        let key = format!("{}.{key}", self.key);
        self.definition.mistake(code, &key, problem, hint, found);
    }
}
