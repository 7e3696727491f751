//! Kafka Connect's own transformations: which plugin does their work, and which of its keys are theirs.
//!
//! The bundled plugin `connect-transforms` has keys for all of them, each with the class before it
//! (`InsertField.static.field`). A connector names the class and writes the keys as Connect spells them. What classes and
//! keys there are is read from the plugin's description.

use crate::plugin::{self, Field, PluginPlan, Shelf, StagePlan, Validator};
use serde_json::{Map, Value};

/// Who does it.
const PLUGIN: &str = "connect-transforms";

/// What Connect's classes begin with.
const PACKAGE: &str = "org.apache.kafka.connect.transforms.";

/// The plugin's setting for several transformations: a list of JSON objects, settings with `type` and `name`.
const STEPS: &str = "steps";

/// In a field's `extra`: it must be given where its class is used.
const REQUIRED: &str = "class.required";

/// Classes of others that many connectors name, by what they begin with, and what to use in their place.
const ELSEWHERE: [(&str, &str); 8] = [
    (
        "io.debezium.transforms.ExtractNewRecordState",
        "use ExtractField$Value with field = after, which takes the new row and knows neither deletes nor added fields; else write a plugin",
    ),
    ("io.debezium.transforms.ByLogicalTableRouter", "use RegexRouter"),
    (
        "io.confluent.connect.transforms.ReplaceField",
        "use org.apache.kafka.connect.transforms.ReplaceField$Value",
    ),
    (
        "io.confluent.connect.transforms.TombstoneHandler",
        "use Filter with the predicate RecordIsTombstone",
    ),
    (
        "io.confluent.connect.transforms.TopicRegexRouter",
        "use RegexRouter",
    ),
    (
        "io.confluent.connect.transforms.Filter",
        "use Filter with a predicate, or write a plugin",
    ),
    (
        "io.confluent.connect.transforms.MessageTimestampRouter",
        "use TimestampRouter, or write a plugin",
    ),
    (
        "",
        "classes of Java do not run here: use one of Kafka Connect's own, or write a plugin (culvert plugin new)",
    ),
];

/// A transformation that a connector names.
pub(super) struct Transformation<'s> {
    pub(super) plugin: &'s plugin::Found,
    /// Without its package, with `$Key` or `$Value`.
    class: String,
}

impl<'s> Transformation<'s> {
    /// The transformation of this class, with its package or without.
    pub(super) fn find(wanted: &str, shelf: &'s Shelf) -> Option<Transformation<'s>> {
        let plugin = shelf.get(PLUGIN)?;
        let class = wanted.strip_prefix(PACKAGE).unwrap_or(wanted);
        classes(plugin)
            .iter()
            .any(|known| known == class)
            .then(|| Transformation {
                plugin,
                class: class.to_owned(),
            })
    }

    /// Whether it keeps a schema true that stands beside a payload, and is to see both. `enveloped`: keys, and values, are
    /// such.
    pub(super) fn sees_envelopes(&self, enveloped: [bool; 2]) -> bool {
        let base = self.class.split('$').next().unwrap_or_default();
        match base {
            "MaskField" | "Flatten" | "Cast" | "TimestampConverter" | "HeaderFrom" => false,
            // It makes the one of the other.
            "ValueToKey" => enveloped == [true, true],
            _ => true,
        }
    }

    /// The class's own keys, as Connect spells them.
    pub(super) fn fields(&self) -> Vec<Field> {
        let base = self.class.split('$').next().unwrap_or_default();
        let own = |name: &str| name.strip_prefix(base)?.strip_prefix('.').map(str::to_owned);
        let fields = self.plugin.description.fields.iter();
        fields
            .filter_map(|field| {
                let mut field = Field {
                    name: own(&field.name)?,
                    aliases: field.aliases.iter().filter_map(|alias| own(alias)).collect(),
                    ..field.clone()
                };
                if field
                    .extra
                    .iter()
                    .any(|(name, value)| name == REQUIRED && value == "true")
                {
                    field.extra.retain(|(name, _)| name != "optional");
                }
                Some(field)
            })
            .collect()
    }

    /// The plugin's settings for it, as the stage `name`.
    pub(super) fn settings(
        &self,
        name: &str,
        settings: Vec<(String, Option<String>)>,
    ) -> Vec<(String, Option<String>)> {
        let mut step = Map::new();
        step.insert("name".into(), name.into());
        step.insert("type".into(), self.class.as_str().into());
        let given = settings
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?.into())));
        step.extend(given);
        let steps = Value::Array(vec![Value::Object(step)]);
        vec![(STEPS.into(), Some(steps.to_string()))]
    }
}

/// What to do where a class is wanted that is not there; nothing where it is no class.
pub(super) fn instead(wanted: &str, shelf: &Shelf) -> Option<String> {
    let short = wanted.strip_prefix(PACKAGE).unwrap_or(wanted);
    let classes = shelf.get(PLUGIN).map(classes).unwrap_or_default();
    let sided: Vec<&str> = classes
        .iter()
        .filter(|class| class.split('$').next() == short.split('$').next())
        .map(String::as_str)
        .collect();
    if !sided.is_empty() {
        return Some(format!("valid: {}", sided.join(", ")));
    }
    if wanted.starts_with(PACKAGE) {
        return Some(format!("valid: {}", classes.join(", ")));
    }
    let is_class = wanted.contains('.') && !wanted.contains(' ');
    let hint = ELSEWHERE.iter().find(|(begin, _)| wanted.starts_with(begin));
    hint.filter(|_| is_class).map(|(_, hint)| (*hint).to_owned())
}

/// The classes that the plugin knows: the values that its key `class` takes.
fn classes(plugin: &plugin::Found) -> Vec<String> {
    let fields = &plugin.description.fields;
    let class = fields.iter().find(|field| field.name == "class");
    let validators = class.map(|field| field.validators.as_slice()).unwrap_or_default();
    let texts = validators.iter().find_map(|validator| match validator {
        Validator::OneOf(texts) => Some(texts.clone()),
        _ => None,
    });
    texts.unwrap_or_default()
}

/// Stages of this plugin that follow each other, with the same limits and no predicate, become one: a record is then read
/// and written once for all of them. Its name is theirs, with `+` between. `apart`: where some see envelopes and others do
/// not, these are not joined with those.
pub(super) fn joined(stages: Vec<StagePlan>, apart: bool) -> Vec<StagePlan> {
    let mut joined: Vec<StagePlan> = Vec::with_capacity(stages.len());
    for stage in stages {
        let steps = joined
            .last()
            .filter(|last| is_plain(last) && is_plain(&stage) && last.plan.limits == stage.plan.limits)
            .filter(|last| !apart || last.envelopes == stage.envelopes)
            .and_then(|last| Some([steps(&last.plan)?, steps(&stage.plan)?].concat()));
        match (joined.last_mut(), steps) {
            (Some(last), Some(steps)) => {
                last.name = format!("{}+{}", last.name, stage.name).into();
                last.plan.settings = vec![(STEPS.into(), Some(Value::Array(steps).to_string()))];
            }
            _ => joined.push(stage),
        }
    }
    joined
}

fn is_plain(stage: &StagePlan) -> bool {
    stage.selection.is_none() && *stage.plan.grants == plugin::Grants::default()
}

/// The steps of a stage that is nothing but steps.
fn steps(plan: &PluginPlan) -> Option<Vec<Value>> {
    let [(key, Some(text))] = plan.settings.as_slice() else {
        return None;
    };
    (plan.plugin == PLUGIN && key == STEPS).then(|| serde_json::from_str(text).ok())?
}
