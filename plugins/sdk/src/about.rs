//! What a plugin says of itself.

use crate::Needs;
use crate::bindings::meta::exports::culvert::plugin::meta::{Description, RequestFor};
use crate::config::Config;

/// `Capability`: what needs a grant; log, metrics and clock need none. `Promises`: flags, joined by `union`.
pub use crate::bindings::meta::exports::culvert::plugin::meta::{Capability, Promises};

/// What a plugin is: the constant `ABOUT` of every role. Begin with [`about!`](crate::about), which takes name, version
/// and summary from the plugin's `Cargo.toml`.
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) documentation: &'static str,
    pub(crate) needs: Needs,
    pub(crate) promises: Promises,
    pub(crate) memory_mb: Option<u32>,
    pub(crate) batch_ms: Option<u32>,
    pub(crate) asks: &'static [Ask],
    pub(crate) optional: &'static [Capability],
    pub(crate) keeps_dead_letters: bool,
    pub(crate) reads: Option<Language>,
}

/// An [`About`] with name, version and summary of the crate that is built.
#[macro_export]
macro_rules! about {
    () => {
        $crate::About::new(
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
            env!("CARGO_PKG_DESCRIPTION"),
        )
    };
}

impl About {
    /// `name`: lower-case words joined by `-`; `version`: as in semver.org; `summary`: one line.
    #[must_use]
    pub const fn new(name: &'static str, version: &'static str, summary: &'static str) -> About {
        About {
            name,
            version,
            summary,
            documentation: "",
            needs: Needs::all(),
            promises: Promises::empty(),
            memory_mb: None,
            batch_ms: None,
            asks: &[],
            optional: &[],
            keeps_dead_letters: false,
            reads: None,
        }
    }

    /// Markdown, for the plugin's page; often `include_str!("../README.md")`.
    #[must_use]
    pub const fn documentation(self, documentation: &'static str) -> About {
        About {
            documentation,
            ..self
        }
    }

    /// The parts of a message that the plugin looks at; all of them unless said. Others are not copied in, and reading
    /// one is a mistake that the first test shows.
    #[must_use]
    pub const fn needs(self, needs: Needs) -> About {
        About { needs, ..self }
    }

    /// What the plugin keeps to. `culvert plugin test` tries to break each promise.
    #[must_use]
    pub const fn promises(self, promises: Promises) -> About {
        About { promises, ..self }
    }

    /// Memory that an instance would like, in MiB. What the gateway allows always wins.
    #[must_use]
    pub const fn memory_mb(self, memory_mb: u32) -> About {
        About {
            memory_mb: Some(memory_mb),
            ..self
        }
    }

    /// Time that a call would like, in milliseconds. What the gateway allows always wins.
    #[must_use]
    pub const fn batch_ms(self, batch_ms: u32) -> About {
        About {
            batch_ms: Some(batch_ms),
            ..self
        }
    }

    /// The capabilities that must be granted, each with its reason.
    #[must_use]
    pub const fn asks(self, asks: &'static [Ask]) -> About {
        About { asks, ..self }
    }

    /// A sink that is to be shown dead letters too, in batches with the attribute `dead-letter`.
    #[must_use]
    pub const fn keeps_dead_letters(self) -> About {
        About {
            keeps_dead_letters: true,
            ..self
        }
    }

    /// A codec whose schemas are in a language that registries know: a converter may name one, and bytes then begin with
    /// the number of a schema, where the codec's setting `framing` (if it has one) is `confluent`, and not where it is
    /// `none`. Without it a codec is shown the schema of a file, or a schema with an empty text.
    #[must_use]
    pub const fn reads(self, language: Language) -> About {
        About {
            reads: Some(language),
            ..self
        }
    }

    /// Those of the capabilities that the plugin can do without: where one was not granted, its calls answer `denied`.
    #[must_use]
    pub const fn optional(self, optional: &'static [Capability]) -> About {
        About { optional, ..self }
    }
}

/// A language of schemas, as a schema registry names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Apache Avro.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    JsonSchema,
    /// Kafka Connect's schemas in JSON, which no registry has: bytes are an object of `schema` and `payload`, and the text
    /// of `schema` is shown as their schema.
    Envelope,
}

/// A capability that the plugin uses, and why: a person reads the reason before granting it.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// What is asked for.
    pub what: Capability,
    /// One sentence.
    pub because: &'static str,
}

/// What `describe` answers.
#[doc(hidden)]
#[must_use]
pub fn description<C: Config>(about: &About) -> Description {
    let ask = |ask: &Ask| RequestFor {
        what: ask.what,
        because: ask.because.to_owned(),
    };
    Description {
        name: about.name.to_owned(),
        version: about.version.to_owned(),
        summary: about.summary.to_owned(),
        documentation: about.documentation.to_owned(),
        fields: C::fields(),
        capabilities: about.asks.iter().map(ask).collect(),
        needs: about.needs,
        promises: about.promises,
        memory_mb: about.memory_mb,
        batch_ms: about.batch_ms,
        extra: extra(about),
    }
}

fn extra(about: &About) -> Vec<(String, String)> {
    let mut extra = optional(about.optional);
    if about.keeps_dead_letters {
        extra.push(("dead-letters".to_owned(), "true".to_owned()));
    }
    let language = about.reads.map(|language| match language {
        Language::Avro => "avro",
        Language::Protobuf => "protobuf",
        Language::JsonSchema => "json-schema",
        Language::Envelope => "envelope",
    });
    extra.extend(language.map(|word| ("schemas".to_owned(), word.to_owned())));
    extra
}

fn optional(capabilities: &[Capability]) -> Vec<(String, String)> {
    let word = |capability: &Capability| match capability {
        Capability::State => "state",
        Capability::Secrets => "secrets",
        Capability::SecretsReveal => "secrets-reveal",
        Capability::Http => "http",
        Capability::Files => "files",
    };
    let words: Vec<&str> = capabilities.iter().map(word).collect();
    match words.as_slice() {
        [] => Vec::new(),
        words => vec![("optional".to_owned(), words.join(","))],
    }
}
