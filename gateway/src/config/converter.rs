//! A connector's `key.converter` and `value.converter`, by the names that Kafka Connect and Confluent gave their keys.
//!
//! Converters with schemas name a registry; all others leave the bytes as they are. A key that is of no converter is a
//! mistake, as everywhere.
//!
//! Where stages are to see JSON, or what is written is another schema than what was read, a bundled plugin decodes and
//! encodes. Its own settings stand behind `value.converter.culvert.`.

use super::connector::Definition;
use super::mistake::{
    CONNECTOR, CONTRADICTION, Found, MISSING, UNKNOWN_KEY, UNREADABLE, UNSUPPORTED, VALUE, nearest,
};
use crate::codec::registry::{Auth, Options, Subjects, Tls};
use crate::plugin::{self, Field, Limits, Message, PluginPlan, Shelf, Writes};
use culvert_proto::limits::SCHEMA_BYTES_MAX;
use culvert_proto::schema::{Kind, Part, Piece, Schema};
use std::path::{Path, PathBuf};
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

/// A registry, and what is done with it.
#[derive(Clone, Debug)]
pub struct RegistryPlan {
    /// What a schema stands under.
    pub subjects: Subjects,
    /// Schemas that are not there yet are registered.
    pub registers: bool,
    /// What is written.
    pub writes: Writes,
    urls: Vec<String>,
    auth: Auth,
    tls: Tls,
}

impl RegistryPlan {
    /// How it is reached; what was seen of it is kept in `directory`.
    #[must_use]
    pub fn options(&self, directory: PathBuf) -> Options {
        Options {
            urls: self.urls.clone(),
            auth: self.auth.clone(),
            tls: self.tls.clone(),
            directory,
        }
    }
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

const STRATEGIES: [(&str, Subjects); 3] = [
    ("TopicNameStrategy", Subjects::Topic),
    ("RecordNameStrategy", Subjects::Record),
    ("TopicRecordNameStrategy", Subjects::TopicRecord),
];

/// Where Confluent's strategies live.
const STRATEGIES_IN: &str = "io.confluent.kafka.serializers.subject.";

/// Keys of converters with schemas, behind `value.converter.`.
const KEYS: [&str; 13] = [
    "schema.registry.url",
    "basic.auth.credentials.source",
    "basic.auth.user.info",
    "bearer.auth.credentials.source",
    "bearer.auth.token",
    "schema.registry.ssl.truststore.type",
    "schema.registry.ssl.truststore.location",
    "schema.registry.ssl.keystore.type",
    "schema.registry.ssl.keystore.location",
    "key.subject.name.strategy",
    "value.subject.name.strategy",
    "auto.register.schemas",
    "use.latest.version",
];

/// What keys of the codec begin with, behind `value.converter.`.
const OWN: &str = "culvert.";

/// The codecs' setting that the converter decides.
const FRAMING: &str = "framing";

/// The most addresses of one registry. By eye.
const URLS_MAX: usize = 16;

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

    fn registry(&self, given: Option<(Arc<Schema>, Message)>, found: &mut Found) -> RegistryPlan {
        self.unknown(&KEYS, found);
        let urls = self.urls(found);
        let auth = self.auth(found);
        let tls = Tls {
            authorities: self.pem("truststore", found),
            identity: self.pem("keystore", found),
        };
        RegistryPlan {
            subjects: self.subjects(found),
            registers: self.truth("auto.register.schemas", true, found),
            writes: self.writes(given, found),
            urls,
            auth,
            tls,
        }
    }

    // ----- the schema to write with --------------------------------------------------------------------------------

    fn writes(&self, given: Option<(Arc<Schema>, Message)>, found: &mut Found) -> Writes {
        let latest = self.truth("use.latest.version", false, found);
        let subject = self.definition.settings.get(self.schema);
        let is_said = self.get("use.latest.version").is_some();
        match (subject, given) {
            (Some(_), Some(_)) => {
                let hint = format!("keep one of {} and {}.file", self.schema, self.schema);
                self.own_mistake(CONTRADICTION, "", "is given beside a file", hint, found);
                Writes::Own
            }
            (None, Some(_)) if latest => {
                let hint = format!(
                    "keep one of {}.use.latest.version and {}.file",
                    self.key, self.schema
                );
                self.own_mistake(
                    CONTRADICTION,
                    ".file",
                    "is given beside use.latest.version",
                    hint,
                    found,
                );
                Writes::Own
            }
            (None, Some((schema, message))) => Writes::This(schema, message),
            (Some(_), None) if is_said && !latest => {
                let hint =
                    "what is written is the newest schema of that subject: leave use.latest.version out";
                self.own_mistake(
                    CONTRADICTION,
                    "",
                    "is given with use.latest.version = false",
                    hint,
                    found,
                );
                Writes::Own
            }
            (Some(subject), None) => Writes::Latest(Some(subject.to_owned())),
            (None, None) if latest => Writes::Latest(None),
            (None, None) => Writes::Own,
        }
    }

    /// The schema of a file, and which of its messages.
    fn given(&self, kind: Kind, found: &mut Found) -> Option<(Arc<Schema>, Message)> {
        let named = self.schema_key(".message");
        let message = match (named, kind) {
            (Some(name), Kind::Protobuf) => Message::Named(name.to_owned()),
            (Some(_), Kind::Avro | Kind::Json) => {
                let hint = "leave it out: only schemas of Protobuf have messages";
                self.own_mistake(CONTRADICTION, ".message", "is given", hint, found);
                Message::Any
            }
            (None, _) => Message::Any,
        };
        let Some(file) = self.schema_key(".file") else {
            if named.is_some() {
                let hint = format!("add {}.file, or leave it out", self.schema);
                self.own_mistake(CONTRADICTION, ".message", "is given without a file", hint, found);
            }
            return None;
        };
        let path = self.base.join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let text = text.and_then(|text| match text.len() {
            0..=SCHEMA_BYTES_MAX => Ok(text),
            size => Err(format!(
                "it has {size} bytes, and {SCHEMA_BYTES_MAX} are the most"
            )),
        });
        match text {
            Ok(text) => {
                let piece = Piece {
                    subject: file.to_owned(),
                    text,
                    ..Piece::default()
                };
                let schema = Schema {
                    kind,
                    part: self.part,
                    id: 0,
                    pieces: vec![piece],
                };
                Some((Arc::new(schema), message))
            }
            Err(error) => {
                let problem = format!("{}: {error}", path.display());
                let hint = "valid: a file with the schema's text, relative to the configuration";
                self.own_mistake(UNREADABLE, ".file", problem, hint, found);
                None
            }
        }
    }

    fn schema_key(&self, behind: &str) -> Option<&str> {
        self.definition.settings.get(&format!("{}{behind}", self.schema))
    }

    /// Keys about a schema that no converter asks for.
    fn no_schema(&self, found: &mut Found) {
        for behind in ["", ".file", ".message"] {
            if self.schema_key(behind).is_some() {
                let hint = format!("name a converter with schemas as {}, or leave it out", self.key);
                self.own_mistake(UNKNOWN_KEY, behind, "has no converter to use it", hint, found);
            }
        }
    }

    // ----- what decodes --------------------------------------------------------------------------------------------

    fn codec(&self, kind: Kind, found: &mut Found) -> Option<PluginPlan> {
        let (name, defaults): (_, &[(&str, &str)]) = match kind {
            Kind::Avro => ("avro", &[]),
            // What Connect's transformations are written for: the schema's own names, numbers, and fields that are there.
            Kind::Protobuf => (
                "protobuf",
                &[
                    ("names", "proto"),
                    ("int64.format", "number"),
                    ("defaults", "write"),
                ],
            ),
            Kind::Json => ("json", &[]),
        };
        let codec = self
            .shelf
            .get(name)
            .filter(|plugin| plugin.role() == Some(plugin::Role::Codec));
        let Some(codec) = codec else {
            let problem = self.shelf.why_not(name);
            let problem = problem.unwrap_or_else(|| format!("there is no codec {name} in this program"));
            self.definition
                .mistake(VALUE, self.key, problem, "see plugins.directory", found);
            return None;
        };
        let fields: Vec<&Field> = codec
            .description
            .fields
            .iter()
            .filter(|field| field.name != FRAMING)
            .collect();
        let known = |key: &str| {
            fields
                .iter()
                .any(|field| format!("culvert.{}", field.name) == key)
        };
        for key in self.own_keys().filter(|key| !known(key)) {
            let names: Vec<String> = fields
                .iter()
                .map(|field| format!("culvert.{}", field.name))
                .collect();
            let hint = nearest(&key, names.iter().map(String::as_str)).map_or_else(
                || format!("valid: {}", names.join(", ")),
                |near| format!("did you mean {}.{near}?", self.key),
            );
            self.mistake(UNKNOWN_KEY, &key, format!("is no setting of {name}"), hint, found);
        }
        let settings = fields.iter().map(|field| {
            let key = format!("culvert.{}", field.name);
            let given = self.get(&key);
            if let Some(Err(wrong)) = given.map(|value| plugin::check(field, value)) {
                let hint = format!("valid: {}", wrong.valid);
                self.mistake(CONNECTOR, &key, wrong.problem, hint, found);
            }
            let ours = defaults.iter().find(|(name, _)| *name == field.name);
            let value = given.or(ours.map(|(_, value)| *value)).map(str::to_owned);
            (field.name.clone(), value.or_else(|| field.default_value.clone()))
        });
        Some(PluginPlan {
            plugin: name.to_owned(),
            settings: settings.collect(),
            limits: Limits::default(),
            grants: Arc::default(),
        })
    }

    /// Keys of the codec, behind `value.converter.`.
    fn own_keys(&self) -> impl Iterator<Item = String> {
        self.definition.settings.shown().filter_map(|(key, _)| {
            let own = key.strip_prefix(self.key)?.strip_prefix('.')?;
            own.starts_with(OWN).then(|| own.to_owned())
        })
    }

    fn urls(&self, found: &mut Found) -> Vec<String> {
        let key = "schema.registry.url";
        let Some(text) = self.get(key) else {
            let hint = format!(
                "for example \"http://127.0.0.1:8081\"; without a registry, {}.file",
                self.schema
            );
            self.mistake(MISSING, key, "is missing", hint, found);
            return Vec::new();
        };
        let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
        let is_address = |url: &String| {
            let rest = url
                .strip_prefix("http://")
                .or_else(|| url.strip_prefix("https://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#', ' ']))
        };
        if let Some(wrong) = urls.iter().find(|url| !is_address(url)) {
            let hint = "valid: http:// or https:// and a host, without user and password";
            self.mistake(VALUE, key, format!("{wrong:?} is no address"), hint, found);
        } else if urls.len() > URLS_MAX {
            let problem = format!("names {} addresses", urls.len());
            self.mistake(VALUE, key, problem, format!("valid: at most {URLS_MAX}"), found);
        }
        urls
    }

    fn auth(&self, found: &mut Found) -> Auth {
        let source = |key, valid| {
            let given = self.get(key);
            (given, given.is_none_or(|given| given == valid))
        };
        let (user, token) = (self.get("basic.auth.user.info"), self.get("bearer.auth.token"));
        for (key, valid) in [
            ("basic.auth.credentials.source", "USER_INFO"),
            ("bearer.auth.credentials.source", "STATIC_TOKEN"),
        ] {
            if let (Some(given), false) = source(key, valid) {
                let problem = format!("{given:?} is not offered by this version");
                self.mistake(UNSUPPORTED, key, problem, format!("valid: {valid}"), found);
            }
        }
        match (user, token) {
            (Some(_), Some(_)) => {
                let hint = "keep one of the two";
                self.mistake(
                    CONTRADICTION,
                    "bearer.auth.token",
                    "is given beside a user",
                    hint,
                    found,
                );
                Auth::None
            }
            (Some(user), None) => {
                if !user.contains(':') {
                    let hint = "valid: user and password with a colon between them";
                    self.mistake(VALUE, "basic.auth.user.info", "has no colon", hint, found);
                }
                Auth::Basic(user.to_owned())
            }
            (None, Some(token)) => Auth::Bearer(token.to_owned()),
            (None, None) => Auth::None,
        }
    }

    fn pem(&self, store: &str, found: &mut Found) -> Option<PathBuf> {
        let (kind, location) = (
            format!("schema.registry.ssl.{store}.type"),
            format!("schema.registry.ssl.{store}.location"),
        );
        let path = self.get(&location)?;
        if self.get(&kind) != Some("PEM") {
            let way = "write \"PEM\": a keystore in PEM holds the certificate and its key, not encrypted";
            self.unsupported(&kind, way, found);
        }
        Some(self.base.join(path))
    }

    fn subjects(&self, found: &mut Found) -> Subjects {
        let (own, other) = match self.part {
            Part::Key => ("key.subject.name.strategy", "value.subject.name.strategy"),
            Part::Value => ("value.subject.name.strategy", "key.subject.name.strategy"),
        };
        if self.get(other).is_some() {
            self.mistake(
                CONTRADICTION,
                other,
                "is of the other part of a record",
                format!("write {own}"),
                found,
            );
        }
        let Some(text) = self.get(own) else {
            return Subjects::default();
        };
        let name = text.strip_prefix(STRATEGIES_IN).unwrap_or(text);
        match STRATEGIES.iter().find(|(known, _)| *known == name) {
            Some((_, subjects)) => *subjects,
            None => {
                let valid = STRATEGIES.map(|(name, _)| name).join(", ");
                let problem = format!("{text:?} is no strategy that is known here");
                self.mistake(UNSUPPORTED, own, problem, format!("valid: {valid}"), found);
                Subjects::default()
            }
        }
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

    /// Keys about a registry, where there is none.
    fn no_registry(&self, found: &mut Found) {
        for own in self.strange(&[], true) {
            let hint = "name schema.registry.url, or leave it out: all records are of the file's schema";
            self.mistake(
                UNKNOWN_KEY,
                &own,
                "is of a registry, and none is named",
                hint,
                found,
            );
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
