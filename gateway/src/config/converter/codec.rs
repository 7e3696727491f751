//! The plugin that decodes and encodes for a converter.
//!
//! A converter names it, or a class of Kafka Connect or Confluent stands for it. By its name its settings stand behind
//! `value.converter.`; by a class, whose own keys stand there, behind `value.converter.culvert.`.

use super::super::asked::{self, LIMITS};
use super::super::mistake::{Found, UNSUPPORTED, VALUE, nearest};
use super::registry::KEYS;
use super::{Asked, PLAIN, WITH_SCHEMAS};
use crate::plugin::{self, Field, PluginPlan, Role};
use culvert_proto::schema::Kind;

/// What keys of a class's codec begin with, behind `value.converter.`.
pub(super) const OWN: &str = "culvert.";

/// The setting that the converter decides, of a codec that reads schemas of registries.
const FRAMING: &str = "framing";

/// Defaults where a converter uses it: what Connect's transformations are written for is a schema's own names, numbers, and
/// fields that are there.
const DEFAULTS: [(&str, &str, &str); 3] = [
    ("protobuf", "names", "proto"),
    ("protobuf", "int64.format", "number"),
    ("protobuf", "defaults", "write"),
];

/// Keys of `JsonConverter` that the codec has no use for.
const ENVELOPE_OURS: [&str; 2] = ["schemas.enable", "schemas.cache.size"];

/// A codec that is named.
#[derive(Clone, Copy)]
pub(super) struct Codec<'s> {
    pub(super) plugin: &'s plugin::Found,
    /// A class of Connect's or Confluent's stands for it.
    pub(super) by_class: bool,
}

impl Codec<'_> {
    pub(super) fn name(&self) -> &str {
        &self.plugin.description.name
    }

    /// The language of its schemas, as a registry knows it.
    pub(super) fn language(&self) -> Option<Kind> {
        match self.plugin.description.schemas()? {
            "avro" => Some(Kind::Avro),
            "protobuf" => Some(Kind::Protobuf),
            "json-schema" => Some(Kind::Json),
            _ => None,
        }
    }
}

impl Codec<'_> {
    /// Whether a schema stands beside each payload.
    pub(super) fn has_envelopes(&self) -> bool {
        self.plugin.description.schemas() == Some("envelope")
    }
}

impl<'a> Asked<'a> {
    /// The codec that a class stands for.
    pub(super) fn of_class(&self, name: &str, found: &mut Found) -> Option<Codec<'a>> {
        let codec = self.codec_called(name);
        if codec.is_none() {
            let problem = self.shelf.why_not(name);
            let problem = problem.unwrap_or_else(|| format!("there is no codec {name} in this program"));
            self.definition
                .mistake(VALUE, self.key, problem, "see plugins.directory", found);
        }
        codec.map(|plugin| Codec {
            plugin,
            by_class: true,
        })
    }

    /// The codec of this name.
    pub(super) fn of_name(&self, name: &str, found: &mut Found) -> Option<Codec<'a>> {
        if let Some(plugin) = self.codec_called(name) {
            let by_class = false;
            return Some(Codec { plugin, by_class });
        }
        let other = self.shelf.get(name).and_then(plugin::Found::role);
        let (problem, hint) = match (other, self.shelf.why_not(name)) {
            (Some(role), _) => (format!("plugin {name} is a {role}, and no codec"), self.valid()),
            (None, Some(reason)) => (reason, "repair the plugin's file, or take it away".to_owned()),
            (None, None) => {
                let last = name.rsplit('.').next().unwrap_or(name);
                let near = nearest(last, self.names());
                let hint = near.map_or_else(|| self.valid(), |near| format!("did you mean {near}?"));
                (format!("no converter is called {name:?}"), hint)
            }
        };
        self.definition
            .mistake(UNSUPPORTED, self.key, problem, hint, found);
        None
    }

    fn codec_called(&self, name: &str) -> Option<&'a plugin::Found> {
        let plugin = self.shelf.get(name);
        plugin.filter(|plugin| plugin.role() == Some(Role::Codec))
    }

    /// What a converter may be called.
    fn names(&self) -> impl Iterator<Item = &'a str> {
        let classes = WITH_SCHEMAS.iter().map(|(_, name, _)| *name);
        let plain = PLAIN.iter().map(|(_, name)| *name);
        let codecs = self
            .shelf
            .plugins()
            .filter(|plugin| plugin.role() == Some(Role::Codec));
        let codecs = codecs.map(|plugin| plugin.description.name.as_str());
        classes.chain(plain).chain(codecs)
    }

    fn valid(&self) -> String {
        format!("valid: {}", self.names().collect::<Vec<_>>().join(", "))
    }

    /// What its settings say to a codec. `framing`: what stands before its bytes, where it has to know.
    pub(super) fn codec_plan(
        &self,
        codec: Codec<'_>,
        framing: Option<&'static str>,
        found: &mut Found,
    ) -> Option<PluginPlan> {
        let prefix = format!("{}.", self.key);
        let mut ours = LIMITS.to_vec();
        if codec.language().is_some() {
            ours.extend(KEYS);
        }
        if codec.has_envelopes() {
            ours.extend(ENVELOPE_OURS);
        }
        let asked = asked::Asked {
            definition: self.definition,
            own: match codec.by_class && !codec.has_envelopes() {
                true => format!("{prefix}{OWN}"),
                false => prefix.clone(),
            },
            prefix,
            whole: self.key.to_owned(),
            ours,
        };
        let described = &codec.plugin.description.fields;
        let has_framing = described.iter().any(|field| field.name == FRAMING);
        let framing = framing.filter(|_| has_framing);
        let fields: Vec<Field> = described
            .iter()
            .filter(|field| framing.is_none() || field.name != FRAMING)
            .map(|field| with_default(codec.name(), field))
            .collect();
        let mut plan = asked.plan_with(codec.plugin, &fields, found)?;
        plan.settings
            .extend(framing.map(|word| (FRAMING.to_owned(), Some(word.to_owned()))));
        let before = found.len();
        asked.ask(codec.plugin, &plan, self.shelf, found);
        (found.len() == before).then_some(plan)
    }

    /// Keys of a class's codec, behind `value.converter.`.
    pub(super) fn own_keys(&self) -> impl Iterator<Item = String> {
        self.definition.settings.shown().filter_map(|(key, _)| {
            let own = key.strip_prefix(self.key)?.strip_prefix('.')?;
            own.starts_with(OWN).then(|| own.to_owned())
        })
    }
}

fn with_default(codec: &str, field: &Field) -> Field {
    let ours = DEFAULTS
        .iter()
        .find(|(plugin, name, _)| *plugin == codec && *name == field.name);
    let ours = ours.map(|(_, _, value)| (*value).to_owned());
    Field {
        default_value: ours.or_else(|| field.default_value.clone()),
        ..field.clone()
    }
}
