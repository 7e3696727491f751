//! A connector's `key.converter` and `value.converter`: codec plugins by their names, and the names that Kafka Connect and
//! Confluent gave their classes, which stand for bundled ones.
//!
//! A codec whose schemas a registry keeps is given one; another has the schema of a file, or none. All other converters
//! leave the bytes as they are. A key that is of no converter is a mistake, as everywhere.
//!
//! A codec runs where stages are to see JSON, where what is written is another schema than what was read, where records
//! cross as JSON (`culvert.value.carried`), and to look at records that nothing else looks at.

mod codec;
mod registry;
mod written;

pub use registry::RegistryPlan;

use super::connector::Definition;
use super::mistake::{CONTRADICTION, Found, MISSING, UNKNOWN_KEY, UNSUPPORTED, VALUE, nearest};
use crate::plugin::{Carried, Message, PluginPlan, Shelf, Writes};
use codec::{Codec, OWN};
use culvert_proto::schema::{Kind, Part, Schema};
use registry::KEYS;
use std::path::Path;
use std::sync::Arc;

/// A converter that knows what its bytes mean, checked.
#[derive(Clone, Debug)]
pub struct ConverterPlan {
    /// The part of a record that it is of.
    pub part: Part,
    /// Where its schemas are from.
    pub from: From,
    /// What crosses the border.
    pub carried: Carried,
    /// What reads and writes it, where anything is decoded.
    pub codec: Option<PluginPlan>,
}

/// Where the schemas of a part are from.
#[derive(Clone, Debug)]
pub enum From {
    /// A registry.
    Registry(RegistryPlan),
    /// All records are of this one, of a file or without a text, and nothing stands before their bytes.
    One(Arc<Schema>, Message),
    /// Each record's stands beside its payload.
    Within,
}

/// Classes that stand for codecs with schemas, by the last word of their names.
const WITH_SCHEMAS: [(&str, &str, &str); 3] = [
    ("io.confluent.connect.avro.", "AvroConverter", "avro"),
    ("io.confluent.connect.protobuf.", "ProtobufConverter", "protobuf"),
    ("io.confluent.connect.json.", "JsonSchemaConverter", "json"),
];

/// Converters that leave bytes as they are.
const PLAIN: [(&str, &str); 3] = [
    ("org.apache.kafka.connect.converters.", "ByteArrayConverter"),
    ("org.apache.kafka.connect.storage.", "StringConverter"),
    ("org.apache.kafka.connect.json.", "JsonConverter"),
];

/// Keys of `JsonConverter`, behind `value.converter.`.
const ENVELOPE: [&str; 4] = [
    "schemas.enable",
    "schemas.cache.size",
    "decimal.format",
    "replace.null.with.default",
];

/// Whether keys and values of a connector are objects of schema and payload, as far as its settings say so.
pub(super) fn enveloped(definition: &Definition<'_>, shelf: &Shelf) -> [bool; 2] {
    ["key.converter", "value.converter"].map(|key| {
        let name = definition.settings.get(key).unwrap_or_default();
        let class = name.rsplit('.').next();
        let plain = definition.settings.get(&format!("{key}.schemas.enable")) == Some("false");
        let codec = || shelf.get(name).and_then(|plugin| plugin.description.schemas());
        (class == Some("JsonConverter") && !plain) || codec() == Some("envelope")
    })
}

/// A connector that has converters.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) definition: &'a Definition<'a>,
    pub(super) shelf: &'a Shelf,
    /// It has stages, which see JSON.
    pub(super) staged: bool,
    /// Whether it is a source; none where that is not known.
    pub(super) is_source: Option<bool>,
    /// Where files are.
    pub(super) base: &'a Path,
}

/// Both parts' converters that know what bytes mean. What is wrong goes to `found`.
pub(super) fn converters(owner: &Owner<'_>, found: &mut Found) -> Vec<ConverterPlan> {
    [("key", Part::Key), ("value", Part::Value)]
        .into_iter()
        .filter_map(|(word, part)| {
            Asked {
                definition: owner.definition,
                shelf: owner.shelf,
                owner: *owner,
                key: match part {
                    Part::Key => "key.converter",
                    Part::Value => "value.converter",
                },
                schema: format!("culvert.{word}.schema"),
                carried: format!("culvert.{word}.carried"),
                part,
            }
            .plan(found)
        })
        .collect()
}

/// What a connector's settings say of one converter.
struct Asked<'a> {
    definition: &'a Definition<'a>,
    shelf: &'a Shelf,
    owner: Owner<'a>,
    key: &'static str,
    /// What the keys about the schema to write with begin with.
    schema: String,
    /// The key about what crosses the border.
    carried: String,
    part: Part,
}

impl<'a> Asked<'a> {
    fn plan(&self, found: &mut Found) -> Option<ConverterPlan> {
        let class = self.definition.settings.get(self.key);
        let is = |package: &str, name: &str| {
            class.is_some_and(|class| class == name || class.strip_prefix(package) == Some(name))
        };
        let with_schemas = WITH_SCHEMAS.iter().find(|(package, name, _)| is(package, name));
        let plain = PLAIN.iter().find(|(package, name)| is(package, name));
        match (with_schemas, plain, class) {
            (Some((_, _, codec)), _, _) => self.coded(self.of_class(codec, found)?, found),
            (None, Some((_, "JsonConverter")), _) if !self.truth("schemas.enable", true, found) => {
                self.no_schema(found);
                self.unknown(&ENVELOPE, found);
                None
            }
            (None, Some((_, "JsonConverter")), _) => {
                self.enveloped(self.of_class("connect-json", found)?, found)
            }
            (None, Some(_), _) | (None, None, None) => {
                self.no_schema(found);
                self.not_carried(found);
                self.unknown(&[], found);
                None
            }
            (None, None, Some(name)) => self.coded(self.of_name(name, found)?, found),
        }
    }

    /// What is asked of a codec whose records hold their own schemas. Where nobody looks at them, their bytes pass.
    fn enveloped(&self, codec: Codec<'_>, found: &mut Found) -> Option<ConverterPlan> {
        let before = found.len();
        self.no_schema(found);
        let carried = self.carried(found);
        let plan = self.codec_plan(codec, None, found);
        let is_needed = self.owner.staged || carried == Carried::Json;
        (is_needed && found.len() == before).then_some(ConverterPlan {
            part: self.part,
            from: From::Within,
            carried,
            codec: plan,
        })
    }

    /// What is asked of a codec.
    fn coded(&self, codec: Codec<'_>, found: &mut Found) -> Option<ConverterPlan> {
        if codec.has_envelopes() {
            return self.enveloped(codec, found);
        }
        let before = found.len();
        let carried = self.carried(found);
        let kind = codec.language();
        if codec.by_class {
            self.unknown(&KEYS, found);
        }
        let given = self.given(kind.unwrap_or(Kind::Other), found);
        let (from, framing) = match (kind, self.get("schema.registry.url"), given) {
            // What is wrong with the file is said.
            (_, None, None) if self.schema_key(".file").is_some() => return None,
            (Some(_), None, Some((schema, message))) => {
                self.no_registry(found);
                (From::One(schema, message), Some("none"))
            }
            (Some(kind), _, given) => (
                From::Registry(self.registry(kind, given, found)),
                Some("confluent"),
            ),
            (None, _, given) => {
                self.no_subject(codec.name(), found);
                let (schema, message) = given.unwrap_or_else(|| (self.no_text(), Message::Any));
                (From::One(schema, message), None)
            }
        };
        self.check_carried(carried, &from, found);
        let plan = self.codec_plan(codec, framing, found);
        let decodes = match &from {
            From::One(..) | From::Within => true,
            From::Registry(registry) => {
                self.owner.staged || registry.writes != Writes::Own || carried == Carried::Json
            }
        };
        if codec.by_class
            && !decodes
            && let Some(key) = self.own_keys().next()
        {
            let way = "leave it out: nothing is decoded where there are no stages";
            self.mistake(UNKNOWN_KEY, &key, "has nothing to say here", way, found);
        }
        (found.len() == before).then_some(ConverterPlan {
            part: self.part,
            from,
            carried,
            codec: plan.filter(|_| decodes),
        })
    }

    // ----- what crosses the border ---------------------------------------------------------------------------------

    fn carried(&self, found: &mut Found) -> Carried {
        match self.definition.settings.get(&self.carried) {
            None | Some("bytes") => Carried::Bytes,
            Some("json") => Carried::Json,
            Some(text) => {
                let problem = format!("{text:?} is not one of its words");
                let hint = "valid: bytes (default) or json";
                self.definition
                    .mistake(VALUE, &self.carried, problem, hint, found);
                Carried::Bytes
            }
        }
    }

    /// Where records cross as JSON, the source writes nothing, and the sink must know what to write with.
    fn check_carried(&self, carried: Carried, from: &From, found: &mut Found) {
        let From::Registry(registry) = from else { return };
        match (carried, self.owner.is_source, &registry.writes) {
            (Carried::Bytes, _, _) | (Carried::Json, None, _) => {}
            (Carried::Json, Some(true), Writes::Own) => {}
            (Carried::Json, Some(true), _) => {
                let problem = "is given beside a schema to write with";
                let hint = "name that at the sink: what crosses is JSON";
                self.definition
                    .mistake(CONTRADICTION, &self.carried, problem, hint, found);
            }
            (Carried::Json, Some(false), Writes::Own) => {
                let hint = format!(
                    "JSON does not say what schema it has: name one here, or {}.file, or {}.use.latest.version",
                    self.schema, self.key
                );
                self.own_mistake(MISSING, "", "is missing", hint, found);
            }
            (Carried::Json, Some(false), _) => {}
        }
    }

    /// Nothing decodes or encodes here.
    fn not_carried(&self, found: &mut Found) {
        if self.definition.settings.get(&self.carried).is_some() {
            let hint = format!("name a codec as {}, or leave it out", self.key);
            self.definition.mistake(
                UNKNOWN_KEY,
                &self.carried,
                "has no converter to use it",
                hint,
                found,
            );
        }
    }

    // ----- keys ----------------------------------------------------------------------------------------------------

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

    /// Keys of this converter that are none; those of its codec are looked at with that.
    fn unknown(&self, known: &[&'static str], found: &mut Found) {
        let has_codec = known == KEYS;
        let own = |key: &str| {
            let own = key.strip_prefix(self.key)?.strip_prefix('.')?;
            let is_codecs = own.starts_with(OWN) && has_codec;
            (!is_codecs && !known.contains(&own)).then(|| own.to_owned())
        };
        for own in self.definition.settings.shown().filter_map(|(key, _)| own(key)) {
            let hint = match (known, nearest(&own, known.iter().copied())) {
                (_, Some(near)) => format!("did you mean {}.{near}?", self.key),
                ([], None) => format!("leave it out, or name a converter with schemas as {}", self.key),
                (known, None) => format!("valid: {}", known.join(", ")),
            };
            self.mistake(UNKNOWN_KEY, &own, "is no key of this converter", hint, found);
        }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
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
