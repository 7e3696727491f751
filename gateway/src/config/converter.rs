//! A connector's `key.converter` and `value.converter`, by the names that Kafka Connect and Confluent gave their keys.
//!
//! Converters with schemas name a registry; all others leave the bytes as they are. A key that is of no converter is a
//! mistake, as everywhere.

use super::connector::Definition;
use super::mistake::{CONTRADICTION, Found, MISSING, UNKNOWN_KEY, UNSUPPORTED, VALUE, nearest};
use crate::codec::registry::{Auth, Options, Subjects, Tls};
use culvert_proto::schema::{Kind, Part};
use std::path::{Path, PathBuf};

/// A converter with schemas, checked.
#[derive(Clone, Debug)]
pub struct ConverterPlan {
    /// The part of a record that it is of.
    pub part: Part,
    /// The language of its schemas.
    pub kind: Kind,
    /// What a schema stands under.
    pub subjects: Subjects,
    /// Schemas that are not there yet are registered.
    pub registers: bool,
    urls: Vec<String>,
    auth: Auth,
    tls: Tls,
}

impl ConverterPlan {
    /// How its registry is reached; what was seen of it is kept in `directory`.
    #[must_use]
    pub fn registry(&self, directory: PathBuf) -> Options {
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

/// The most addresses of one registry. By eye.
const URLS_MAX: usize = 16;

/// Both parts' converters with schemas. What is wrong goes to `found`; files are below `base`.
pub(super) fn converters(definition: &Definition<'_>, base: &Path, found: &mut Found) -> Vec<ConverterPlan> {
    [("key.converter", Part::Key), ("value.converter", Part::Value)]
        .into_iter()
        .filter_map(|(key, part)| {
            Asked {
                definition,
                key,
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
    key: &'static str,
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
                self.unknown(&["schemas.enable"], found);
                if self.get("schemas.enable") != Some("false") {
                    let way = "write \"false\", and the JSON passes as it is: there are no envelopes of schema and payload yet";
                    self.unsupported("schemas.enable", way, found);
                }
                None
            }
            (None, Some(_), _) | (None, None, None) => {
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
        self.unknown(&KEYS, found);
        let urls = self.urls(found);
        let auth = self.auth(found);
        let tls = Tls {
            authorities: self.pem("truststore", found),
            identity: self.pem("keystore", found),
        };
        let subjects = self.subjects(found);
        let registers = self.truth("auto.register.schemas", true, found);
        if self.truth("use.latest.version", false, found) {
            let way = "leave it out: a record keeps the schema that it was written with";
            self.unsupported("use.latest.version", way, found);
        }
        (found.len() == before).then_some(ConverterPlan {
            part: self.part,
            kind,
            subjects,
            registers,
            urls,
            auth,
            tls,
        })
    }

    fn urls(&self, found: &mut Found) -> Vec<String> {
        let key = "schema.registry.url";
        let Some(text) = self.get(key) else {
            let hint = "for example \"http://127.0.0.1:8081\"; several between commas are tried in turn";
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
        for (key, _) in self.definition.settings.shown() {
            let own = key.strip_prefix(self.key).and_then(|rest| rest.strip_prefix('.'));
            let Some(own) = own.filter(|own| !known.contains(own)) else {
                continue;
            };
            let hint = match (known, nearest(own, known.iter().copied())) {
                (_, Some(near)) => format!("did you mean {}.{near}?", self.key),
                ([], None) => format!("leave it out, or name a converter with schemas as {}", self.key),
                (known, None) => format!("valid: {}", known.join(", ")),
            };
            self.mistake(UNKNOWN_KEY, own, "is no key of this converter", hint, found);
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.definition.settings.get(&format!("{}.{key}", self.key))
    }

    fn unsupported(&self, key: &str, way: &str, found: &mut Found) {
        self.mistake(UNSUPPORTED, key, "is not supported by this version", way, found);
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
