//! A connector's stages: Kafka Connect's `transforms`, each a plugin with settings of its own.
//!
//! ```json
//! "transforms": "check",
//! "transforms.check.type": "order-check",
//! "transforms.check.transform": "storage",
//! "transforms.check.culvert.memory.max": "32MiB"
//! ```
//!
//! How the keys of one stage are checked is in `asked.rs`. `type` may also be a class of Kafka Connect's own (`transformation.rs`). The settings of a connector that is itself a plugin are checked alike: they stand
//! beside those that connectors have in common.

use super::asked::{Asked, LIMITS};
use super::connector::Definition;
use super::mistake::{CONTRADICTION, Found, MISSING, UNKNOWN_KEY, VALUE, nearest};
use super::predicate::Predicates;
use super::transformation::{self, Transformation};
use super::{converter, names};
use crate::plugin::{self, PluginPlan, Shelf, StagePlan};
use std::time::Duration;

/// The most stages of one connector. By eye.
const STAGES_MAX: usize = 20;

/// How long a call of a connector may take unless its settings say otherwise: an outside system answers within 10 s, or not
/// at all.
const CONNECTOR_TIME: Duration = Duration::from_secs(10);

/// All stages, in order. What is wrong goes to `found`.
pub(super) fn stages(definition: &Definition<'_>, shelf: &Shelf, found: &mut Found) -> Vec<StagePlan> {
    let names: Vec<&str> = definition
        .settings
        .get("transforms")
        .map(|list| {
            list.split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .collect()
        })
        .unwrap_or_default();
    strangers(definition, &names, found);
    if names.len() > STAGES_MAX {
        let problem = format!("names {} stages", names.len());
        definition.mistake(
            VALUE,
            "transforms",
            problem,
            format!("valid: at most {STAGES_MAX}"),
            found,
        );
        return Vec::new();
    }
    let predicates = Predicates::read(definition, found);
    let enveloped = converter::enveloped(definition, shelf);
    let mut plans = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            let problem = format!("names {name:?} twice");
            definition.mistake(
                CONTRADICTION,
                "transforms",
                problem,
                "name each stage once",
                found,
            );
        } else if !names::is_plain(name, 100) {
            let problem = format!("{name:?} is not a name");
            let hint = "valid: letters, digits, '.', '_' and '-'";
            definition.mistake(VALUE, "transforms", problem, hint, found);
        } else {
            let prefix = format!("transforms.{name}.");
            let asked = Asked {
                definition,
                own: prefix.clone(),
                whole: format!("{prefix}type"),
                prefix,
                ours: [&LIMITS[..], &["type", "predicate", "negate"]].concat(),
            };
            // What is wrong with either is said, whatever the other is.
            let selection = predicates.selection(&asked.prefix, found);
            let stage = stage(&asked, name, shelf, enveloped, found);
            plans.extend(stage.map(|stage| StagePlan { selection, ..stage }));
        }
    }
    predicates.unused(found);
    transformation::joined(plans, enveloped.contains(&true))
}

/// Settings of stages that `transforms` does not name.
fn strangers(definition: &Definition<'_>, names: &[&str], found: &mut Found) {
    for (key, _) in definition.settings.shown() {
        let Some(inner) = key.strip_prefix("transforms.") else {
            continue;
        };
        let is_named = |name: &&str| {
            inner
                .strip_prefix(*name)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        if !names.iter().any(is_named) {
            let hint = "name the stage in transforms, or leave the key out";
            definition.mistake(
                UNKNOWN_KEY,
                key,
                "is of no stage that transforms names",
                hint,
                found,
            );
        }
    }
}

/// What a connector's settings say to the plugin that it is.
pub(super) fn connector_plan(
    definition: &Definition<'_>,
    plugin: &plugin::Found,
    shelf: &Shelf,
    found: &mut Found,
) -> Option<PluginPlan> {
    let asked = Asked {
        definition,
        prefix: String::new(),
        own: String::new(),
        whole: "connector.class".to_owned(),
        ours: LIMITS.to_vec(),
    };
    let mut plan = asked.plan(plugin, shelf, found)?;
    // A connector's call waits for what is outside.
    if definition.settings.get("culvert.time.max").is_none() {
        plan.limits.call_time_max = CONNECTOR_TIME;
    }
    Some(plan)
}

fn stage(
    asked: &Asked<'_>,
    name: &str,
    shelf: &Shelf,
    enveloped: [bool; 2],
    found: &mut Found,
) -> Option<StagePlan> {
    let wanted = wanted(asked).unwrap_or_default();
    let mut envelopes = false;
    let plan = match Transformation::find(wanted, shelf) {
        Some(transformation) => {
            let fields = transformation.fields();
            envelopes = transformation.sees_envelopes(enveloped);
            let plan = asked.plan_with(transformation.plugin, &fields, found)?;
            PluginPlan {
                settings: transformation.settings(name, plan.settings),
                ..plan
            }
        }
        None => asked.plan(plugin(asked, shelf, found)?, shelf, found)?,
    };
    Some(StagePlan {
        name: name.into(),
        plan,
        selection: None,
        envelopes,
    })
}

fn plugin<'s>(asked: &Asked<'_>, shelf: &'s Shelf, found: &mut Found) -> Option<&'s plugin::Found> {
    let transforms = || shelf.plugins().filter(|plugin| plugin.is_transform());
    let valid = || {
        let names: Vec<&str> = transforms()
            .map(|plugin| plugin.description.name.as_str())
            .collect();
        match names.as_slice() {
            [] => "there is none here: see plugins.directory".to_owned(),
            names => format!("valid: {}", names.join(", ")),
        }
    };
    let Some(wanted) = wanted(asked) else {
        asked
            .definition
            .mistake(MISSING, &asked.whole, "is missing", valid(), found);
        return None;
    };
    let plugin = shelf.get(wanted).filter(|plugin| plugin.is_transform());
    if plugin.is_none() {
        let near = nearest(
            wanted,
            transforms().map(|plugin| plugin.description.name.as_str()),
        );
        let instead = transformation::instead(wanted, shelf);
        let hint = near.map(|near| format!("did you mean {near}?"));
        let hint = instead.or(hint).unwrap_or_else(valid);
        let problem = shelf.why_not(wanted);
        let problem = problem.unwrap_or_else(|| format!("no transform plugin is called {wanted:?}"));
        asked
            .definition
            .mistake(VALUE, &asked.whole, problem, hint, found);
    }
    plugin
}

/// The plugin or class that is named.
fn wanted<'a>(asked: &'a Asked<'_>) -> Option<&'a str> {
    asked.definition.settings.get(&asked.whole)
}
