//! A converter's schema registry: how it is reached, and what is done with it.

use super::super::mistake::{CONTRADICTION, Found, MISSING, UNKNOWN_KEY, UNSUPPORTED, VALUE};
use super::Asked;
use crate::codec::registry::{Auth, Options, Subjects, Tls};
use crate::plugin::{Message, Writes};
use culvert_proto::schema::{Kind, Part, Schema};
use std::path::PathBuf;
use std::sync::Arc;

/// A registry, and what is done with it.
#[derive(Clone, Debug)]
pub struct RegistryPlan {
    /// The language of its schemas.
    pub kind: Kind,
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

const STRATEGIES: [(&str, Subjects); 3] = [
    ("TopicNameStrategy", Subjects::Topic),
    ("RecordNameStrategy", Subjects::Record),
    ("TopicRecordNameStrategy", Subjects::TopicRecord),
];

/// Where Confluent's strategies live.
const STRATEGIES_IN: &str = "io.confluent.kafka.serializers.subject.";

/// Keys of converters with schemas, behind `value.converter.`.
pub(super) const KEYS: [&str; 13] = [
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
impl Asked<'_> {
    pub(super) fn registry(
        &self,
        kind: Kind,
        given: Option<(Arc<Schema>, Message)>,
        found: &mut Found,
    ) -> RegistryPlan {
        let urls = self.urls(found);
        let auth = self.auth(found);
        let tls = Tls {
            authorities: self.pem("truststore", found),
            identity: self.pem("keystore", found),
        };
        RegistryPlan {
            kind,
            subjects: self.subjects(found),
            registers: self.truth("auto.register.schemas", true, found),
            writes: self.writes(given, found),
            urls,
            auth,
            tls,
        }
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
        Some(self.owner.base.join(path))
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

    /// Keys about a registry, where there is none.
    pub(super) fn no_registry(&self, found: &mut Found) {
        for key in KEYS {
            if self.get(key).is_some() {
                let hint = "name schema.registry.url, or leave it out: all records are of the file's schema";
                self.mistake(
                    UNKNOWN_KEY,
                    key,
                    "is of a registry, and none is named",
                    hint,
                    found,
                );
            }
        }
    }
}
