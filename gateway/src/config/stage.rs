//! A connector's stages: Kafka Connect's `transforms`, each a plugin with settings of its own.
//!
//! ```json
//! "transforms": "check",
//! "transforms.check.type": "order-check",
//! "transforms.check.transform": "storage",
//! "transforms.check.culvert.memory.max": "32MiB"
//! ```
//!
//! Keys beginning with `culvert.` are the gateway's, all others the plugin's: they are checked against what the plugin says
//! about itself, and where they pass, the plugin is asked (`Asked::ask`). `type` may also be a class of Kafka Connect's own (`transformation.rs`). The settings of a connector that is itself a plugin are checked alike: they stand
//! beside those that connectors have in common.

use super::connector::{self, Definition};
use super::mistake::{CONNECTOR, CONTRADICTION, Found, MISSING, UNKNOWN_KEY, VALUE, nearest};
use super::predicate::Predicates;
use super::transformation::{self, Transformation};
use super::{grant, names};
use crate::plugin::{self, Field, Limits, PluginPlan, Shelf, StagePlan};
use crate::units::{ByteSize, parse_duration};
use std::sync::Arc;
use std::time::Duration;

/// The most stages of one connector. By eye.
const STAGES_MAX: usize = 20;

/// The most memory one instance may be given.
const MEMORY_MAX: u64 = 1 << 30;

/// The least memory: below it, nothing wakes up.
const MEMORY_MIN: u64 = 1 << 20;

/// The longest a call may take: a shard is held up as long.
const TIME_MAX: Duration = Duration::from_secs(60);

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
            let asked = Asked { definition, prefix };
            // What is wrong with either is said, whatever the other is.
            let selection = predicates.selection(&asked.prefix, found);
            let stage = asked.stage(name, shelf, found);
            plans.extend(stage.map(|stage| StagePlan { selection, ..stage }));
        }
    }
    predicates.unused(found);
    transformation::joined(plans)
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
    let prefix = String::new();
    let mut plan = Asked { definition, prefix }.plan(plugin, shelf, found)?;
    // A connector's call waits for what is outside.
    if definition.settings.get("culvert.time.max").is_none() {
        plan.limits.call_time_max = CONNECTOR_TIME;
    }
    Some(plan)
}

/// What a connector's settings say to one plugin.
struct Asked<'a> {
    definition: &'a Definition<'a>,
    /// Of the plugin's keys; empty where the connector itself is the plugin.
    prefix: String,
}

impl Asked<'_> {
    fn stage(&self, name: &str, shelf: &Shelf, found: &mut Found) -> Option<StagePlan> {
        let wanted = self.get("type").unwrap_or_default();
        let plan = match Transformation::find(wanted, shelf) {
            Some(transformation) => {
                let fields = transformation.fields();
                let plan = self.plan_with(transformation.plugin, &fields, found)?;
                PluginPlan {
                    settings: transformation.settings(name, plan.settings),
                    ..plan
                }
            }
            None => self.plan(self.plugin(shelf, found)?, shelf, found)?,
        };
        Some(StagePlan {
            name: name.into(),
            plan,
            selection: None,
        })
    }

    fn plan(&self, plugin: &plugin::Found, shelf: &Shelf, found: &mut Found) -> Option<PluginPlan> {
        let plan = self.plan_with(plugin, &plugin.description.fields, found)?;
        let before = found.len();
        self.ask(plugin, &plan, shelf, found);
        (found.len() == before).then_some(plan)
    }

    /// What the plugin itself finds wrong with its settings, which passed all checks that are data.
    fn ask(&self, plugin: &plugin::Found, plan: &PluginPlan, shelf: &Shelf, found: &mut Found) {
        let whole = if self.is_connector() {
            "connector.class"
        } else {
            "type"
        };
        let wrong = match shelf.ask(plugin, &plan.settings, &plan.limits) {
            Ok(wrong) => wrong,
            Err((code, why)) => {
                let problem = format!("plugin {} cannot be asked about its settings: {why}", plan.plugin);
                let hint = "tell the plugin's author, or use another version of it";
                return self.mistake(code, whole, problem, hint, found);
            }
        };
        for plugin::Unfit { key, problem } in wrong {
            let mut fields = plugin.description.fields.iter();
            let key = match fields.find(|field| field.name == key) {
                // As it was written, which may be by a former name.
                Some(field) => std::iter::once(&field.name)
                    .chain(&field.aliases)
                    .find(|name| self.get(name).is_some())
                    .unwrap_or(&field.name),
                None => whole,
            };
            let hint = format!(
                "the plugin's own words; its settings: culvert plugin inspect {}",
                plan.plugin
            );
            self.mistake(CONNECTOR, key, problem, hint, found);
        }
    }

    fn plan_with(&self, plugin: &plugin::Found, fields: &[Field], found: &mut Found) -> Option<PluginPlan> {
        let before = found.len();
        let limits = self.limits(found);
        let settings = self.settings(fields, found);
        let grants = grant::grants(self.definition, &self.prefix, plugin, &settings, found);
        (found.len() == before).then(|| PluginPlan {
            plugin: plugin.description.name.clone(),
            settings,
            limits,
            grants: Arc::new(grants),
        })
    }

    fn plugin<'s>(&self, shelf: &'s Shelf, found: &mut Found) -> Option<&'s plugin::Found> {
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
        let Some(wanted) = self.get("type") else {
            self.mistake(MISSING, "type", "is missing", valid(), found);
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
            self.mistake(VALUE, "type", problem, hint, found);
        }
        plugin
    }

    fn limits(&self, found: &mut Found) -> Limits {
        let mut limits = Limits::default();
        if let Some(text) = self.get("culvert.memory.max") {
            match ByteSize::parse(text) {
                Some(ByteSize(bytes)) if (MEMORY_MIN..=MEMORY_MAX).contains(&bytes) => {
                    limits.memory_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
                }
                _ => {
                    let problem = format!("{text:?} is no amount of memory");
                    self.mistake(VALUE, "culvert.memory.max", problem, "valid: 1MiB to 1GiB", found);
                }
            }
        }
        if let Some(text) = self.get("culvert.time.max") {
            match parse_duration(text) {
                Some(time) if !time.is_zero() && time <= TIME_MAX => limits.call_time_max = time,
                _ => {
                    let problem = format!("{text:?} is no time for a call");
                    self.mistake(VALUE, "culvert.time.max", problem, "valid: 1ms to 60s", found);
                }
            }
        }
        limits
    }

    /// The plugin's own keys, with their defaults.
    fn settings(&self, fields: &[Field], found: &mut Found) -> Vec<(String, Option<String>)> {
        self.unknown(fields, found);
        fields
            .iter()
            .map(|field| {
                let given = std::iter::once(&field.name)
                    .chain(&field.aliases)
                    .find_map(|name| self.get(name).map(|value| (name, value)));
                match given {
                    Some((name, value)) => {
                        if let Err(wrong) = plugin::check(field, value) {
                            let hint = format!("valid: {}", wrong.valid);
                            self.mistake(CONNECTOR, name, wrong.problem, hint, found);
                        }
                    }
                    None if field.is_required() => {
                        let example = field.example.as_deref().unwrap_or("…");
                        let hint = format!("for example {example:?}: {}", first_line(&field.documentation));
                        self.mistake(MISSING, &field.name, "is missing", hint, found);
                    }
                    None => {}
                }
                let value = given.map(|(_, value)| value.to_owned());
                (field.name.clone(), value.or_else(|| field.default_value.clone()))
            })
            .collect()
    }

    fn unknown(&self, fields: &[Field], found: &mut Found) {
        const OURS: [&str; 5] = [
            "culvert.memory.max",
            "culvert.time.max",
            "type",
            "predicate",
            "negate",
        ];
        let ours = if self.is_connector() {
            &OURS[..2]
        } else {
            &OURS[..]
        };
        let known = || {
            fields
                .iter()
                .flat_map(|field| std::iter::once(&field.name).chain(&field.aliases))
        };
        for (key, _) in self.definition.settings.shown() {
            let Some(inner) = key.strip_prefix(&self.prefix) else {
                continue;
            };
            if ours.contains(&inner) || grant::is_grant(inner) || known().any(|name| name == inner) {
                continue;
            }
            if self.is_connector() && connector::is_common(inner) {
                continue;
            }
            let near = nearest(inner, known().map(String::as_str).chain(ours.iter().copied()));
            let hint = near.map_or_else(
                || format!("valid: {}", known().cloned().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near}?"),
            );
            self.mistake(UNKNOWN_KEY, inner, "is not a key of this plugin", hint, found);
        }
    }

    fn is_connector(&self) -> bool {
        self.prefix.is_empty()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.definition.settings.get(&format!("{}{key}", self.prefix))
    }

    fn mistake(
        &self,
        code: &'static str,
        key: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
        found: &mut Found,
    ) {
        let key = format!("{}{key}", self.prefix);
        self.definition.mistake(code, &key, problem, hint, found);
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
