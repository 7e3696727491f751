//! What a plugin says about itself, in a form of our own: written into the component as JSON, shown by `inspect`, and
//! what settings are checked against.

use crate::bindings::{config, meta, types};
use crate::fault::LoadError;
use meta::exports::culvert::plugin::meta as exported;
use serde::{Deserialize, Serialize};

/// The longest text of a description, in bytes; the page of a plugin may be long.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// The most keys.
const FIELDS_MAX: usize = 500;

/// What a plugin is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Description {
    /// What settings name it by.
    pub name: String,
    /// As in semver.org.
    pub version: String,
    /// One line.
    pub summary: String,
    /// Markdown.
    #[serde(default)]
    pub documentation: String,
    /// Its keys.
    pub fields: Vec<Field>,
    /// What it asks for.
    pub capabilities: Vec<RequestFor>,
    /// The parts of a record that it looks at.
    pub needs: Needs,
    /// What it promises.
    pub promises: Promises,
    /// The memory it would like, in MiB.
    pub memory_mb: Option<u32>,
    /// The time for a batch it would like, in milliseconds.
    pub batch_ms: Option<u32>,
    /// What a later contract adds.
    #[serde(default)]
    pub extra: Vec<(String, String)>,
}

/// A capability and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFor {
    /// Which.
    pub what: Capability,
    /// Shown to who grants it.
    pub because: String,
}

/// What must be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// A store of the connector's own.
    State,
    /// Handles of secrets.
    Secrets,
    /// The bytes of secrets.
    SecretsReveal,
    /// Requests to granted addresses.
    Http,
    /// Files of granted folders.
    Files,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 5] = [
        Capability::State,
        Capability::Secrets,
        Capability::SecretsReveal,
        Capability::Http,
        Capability::Files,
    ];

    /// As it is spelled in settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Capability::State => "state",
            Capability::Secrets => "secrets",
            Capability::SecretsReveal => "secrets-reveal",
            Capability::Http => "http",
            Capability::Files => "files",
        }
    }
}

/// The parts of a record that are copied in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as in the contract")]
pub struct Needs {
    pub key: bool,
    pub value: bool,
    pub headers: bool,
    pub timestamp: bool,
}

impl Needs {
    /// All of them.
    pub(crate) const ALL: Needs = Needs {
        key: true,
        value: true,
        headers: true,
        timestamp: true,
    };
}

/// As in the contract: `meta.promises`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, clippy::struct_excessive_bools, reason = "as in the contract")]
pub struct Promises {
    pub deterministic: bool,
    pub stateless: bool,
    pub idempotent: bool,
    pub transactional: bool,
    pub replayable: bool,
}

/// One key, as Kafka Connect's ConfigDef has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "as in the contract")]
pub struct Field {
    pub name: String,
    pub kind: FieldType,
    pub default_value: Option<String>,
    pub validators: Vec<Validator>,
    pub importance: Importance,
    pub documentation: String,
    pub group: Option<String>,
    pub order_in_group: i32,
    pub width: Width,
    pub display_name: String,
    pub dependents: Vec<String>,
    pub internal: bool,
    pub aliases: Vec<String>,
    pub deprecated: Option<String>,
    pub example: Option<String>,
    #[serde(default)]
    pub extra: Vec<(String, String)>,
}

impl Field {
    /// What writing the key grants (`extra`, `grants`): words such as `http.get` or `files.read`.
    pub fn grants(&self) -> impl Iterator<Item = &str> {
        let grants = self.extra.iter().filter(|(name, _)| name == "grants");
        grants
            .flat_map(|(_, words)| words.split(','))
            .map(str::trim)
            .filter(|word| !word.is_empty())
    }

    /// Whether a connector must give it: it has no default, and does not say that it is optional, for which Connect's null
    /// default has no other spelling.
    #[must_use]
    pub fn is_required(&self) -> bool {
        let is_optional = |(name, value): &(String, String)| name == "optional" && value == "true";
        self.default_value.is_none() && !self.extra.iter().any(is_optional)
    }
}

/// Connect's types of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "as in the contract")]
pub enum FieldType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

/// Connect's importances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "as in the contract")]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// Connect's widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "as in the contract")]
pub enum Width {
    None,
    Short,
    Medium,
    Long,
}

/// What is checked of a value before the plugin sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "as in the contract")]
pub enum Validator {
    Range(Option<f64>, Option<f64>),
    OneOf(Vec<String>),
    Pattern(String),
    NonEmpty,
    Length(Option<u32>, Option<u32>),
    Url(Vec<String>),
    Duration,
    Size,
}

/// Reads the section that [`crate::pack`] writes.
pub(crate) fn read(bytes: &[u8]) -> Result<Description, LoadError> {
    let description: Description = serde_json::from_slice(bytes).map_err(|error| LoadError::Description {
        reason: format!("the section {}: {error}", crate::pack::SECTION),
    })?;
    description.check()?;
    Ok(description)
}

impl Description {
    /// Whether the plugin works without this capability too (`extra`, `optional`).
    #[must_use]
    pub fn is_optional(&self, what: Capability) -> bool {
        let optional = self.extra.iter().filter(|(name, _)| name == "optional");
        let mut words = optional.flat_map(|(_, words)| words.split(','));
        words.any(|word| word.trim() == what.word())
    }

    /// Whether a sink keeps dead letters too (`extra`, `dead-letters`).
    #[must_use]
    pub fn keeps_dead_letters(&self) -> bool {
        self.extra
            .iter()
            .any(|(name, value)| name == "dead-letters" && value == "true")
    }

    /// The language of a codec's schemas (`extra`, `schemas`): `avro`, `protobuf`, `json-schema` or `envelope`.
    #[must_use]
    pub fn schemas(&self) -> Option<&str> {
        let mut words = self.extra.iter().filter(|(name, _)| name == "schemas");
        words.next().map(|(_, word)| word.as_str())
    }

    /// What the contract's words do not say in types.
    fn check(&self) -> Result<(), LoadError> {
        let refuse = |reason: String| Err(LoadError::Description { reason });
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        if !is_name(&self.name) {
            return refuse(format!(
                "name {:?}; valid: lower-case letters, digits and '-', at most 64",
                self.name
            ));
        }
        if let Err(error) = semver::Version::parse(&self.version) {
            return refuse(format!("version {:?}: {error}", self.version));
        }
        if self.fields.len() > FIELDS_MAX {
            return refuse(format!("{} keys; at most {FIELDS_MAX}", self.fields.len()));
        }
        if self.documentation.len() > TEXT_BYTES_MAX {
            return refuse(format!(
                "{} bytes of documentation; at most {TEXT_BYTES_MAX}",
                self.documentation.len()
            ));
        }
        for (n, field) in self.fields.iter().enumerate() {
            if self.fields[..n].iter().any(|other| other.name == field.name) {
                return refuse(format!("key {:?} is there twice", field.name));
            }
            if field.name.is_empty() || field.name.starts_with("culvert.") {
                return refuse(format!(
                    "key {:?}; names beginning with culvert. are the gateway's",
                    field.name
                ));
            }
        }
        Ok(())
    }
}

impl TryFrom<exported::Description> for Description {
    type Error = LoadError;

    fn try_from(told: exported::Description) -> Result<Description, LoadError> {
        let needs = |flag| told.needs.contains(flag);
        let promises = |flag| told.promises.contains(flag);
        let description = Description {
            needs: Needs {
                key: needs(types::Needs::KEY),
                value: needs(types::Needs::VALUE),
                headers: needs(types::Needs::HEADERS),
                timestamp: needs(types::Needs::TIMESTAMP),
            },
            promises: Promises {
                deterministic: promises(exported::Promises::DETERMINISTIC),
                stateless: promises(exported::Promises::STATELESS),
                idempotent: promises(exported::Promises::IDEMPOTENT),
                transactional: promises(exported::Promises::TRANSACTIONAL),
                replayable: promises(exported::Promises::REPLAYABLE),
            },
            name: told.name,
            version: told.version,
            summary: told.summary,
            documentation: told.documentation,
            fields: told.fields.into_iter().map(Field::from).collect(),
            capabilities: told.capabilities.into_iter().map(RequestFor::from).collect(),
            memory_mb: told.memory_mb,
            batch_ms: told.batch_ms,
            extra: told.extra,
        };
        description.check()?;
        Ok(description)
    }
}

impl From<exported::RequestFor> for RequestFor {
    fn from(told: exported::RequestFor) -> RequestFor {
        RequestFor {
            what: match told.what {
                exported::Capability::State => Capability::State,
                exported::Capability::Secrets => Capability::Secrets,
                exported::Capability::SecretsReveal => Capability::SecretsReveal,
                exported::Capability::Http => Capability::Http,
                exported::Capability::Files => Capability::Files,
            },
            because: told.because,
        }
    }
}

impl From<config::Field> for Field {
    fn from(told: config::Field) -> Field {
        Field {
            name: told.name,
            kind: match told.kind {
                config::FieldType::Boolean => FieldType::Boolean,
                config::FieldType::String => FieldType::String,
                config::FieldType::Int => FieldType::Int,
                config::FieldType::Short => FieldType::Short,
                config::FieldType::Long => FieldType::Long,
                config::FieldType::Double => FieldType::Double,
                config::FieldType::List => FieldType::List,
                config::FieldType::Class => FieldType::Class,
                config::FieldType::Password => FieldType::Password,
            },
            default_value: told.default_value,
            validators: told.validators.into_iter().map(Validator::from).collect(),
            importance: match told.importance {
                config::Importance::High => Importance::High,
                config::Importance::Medium => Importance::Medium,
                config::Importance::Low => Importance::Low,
            },
            documentation: told.documentation,
            group: told.group,
            order_in_group: told.order_in_group,
            width: match told.width {
                config::Width::None => Width::None,
                config::Width::Short => Width::Short,
                config::Width::Medium => Width::Medium,
                config::Width::Long => Width::Long,
            },
            display_name: told.display_name,
            dependents: told.dependents,
            internal: told.internal,
            aliases: told.aliases,
            deprecated: told.deprecated,
            example: told.example,
            extra: told.extra,
        }
    }
}

impl From<config::Validator> for Validator {
    fn from(told: config::Validator) -> Validator {
        match told {
            config::Validator::Range((least, most)) => Validator::Range(least, most),
            config::Validator::OneOf(texts) => Validator::OneOf(texts),
            config::Validator::Pattern(pattern) => Validator::Pattern(pattern),
            config::Validator::NonEmpty => Validator::NonEmpty,
            config::Validator::Length((least, most)) => Validator::Length(least, most),
            config::Validator::Url(schemes) => Validator::Url(schemes),
            config::Validator::Duration => Validator::Duration,
            config::Validator::Size => Validator::Size,
        }
    }
}
