//! What a connector's settings say to one plugin, whatever it is to the connector: the connector itself, a stage, a codec.
//!
//! Keys beginning with `culvert.` are the gateway's, all others the plugin's: they are checked against what the plugin says
//! about itself, and where they pass, the plugin is asked ([`Asked::ask`]).

use super::connector::{self, Definition};
use super::grant;
use super::mistake::{CONNECTOR, Found, MISSING, UNKNOWN_KEY, VALUE, nearest};
use crate::plugin::{self, Field, Limits, PluginPlan, Shelf};
use crate::units::{ByteSize, parse_duration};
use std::sync::Arc;
use std::time::Duration;

/// The most memory one instance may be given.
const MEMORY_MAX: u64 = 1 << 30;

/// The least memory: below it, nothing wakes up.
const MEMORY_MIN: u64 = 1 << 20;

/// The longest a call may take: a shard is held up as long.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The gateway's keys about any plugin.
pub(super) const LIMITS: [&str; 2] = ["culvert.memory.max", "culvert.time.max"];

/// What a connector's settings say to one plugin.
pub(super) struct Asked<'a> {
    pub(super) definition: &'a Definition<'a>,
    /// What the gateway's keys about the plugin begin with; empty where the connector itself is the plugin.
    pub(super) prefix: String,
    /// What the plugin's own keys begin with.
    pub(super) own: String,
    /// The key that names the plugin.
    pub(super) whole: String,
    /// Keys behind `prefix` that are not the plugin's.
    pub(super) ours: Vec<&'static str>,
}

impl Asked<'_> {
    /// The plan, where nothing is wrong with it.
    pub(super) fn plan(
        &self,
        plugin: &plugin::Found,
        shelf: &Shelf,
        found: &mut Found,
    ) -> Option<PluginPlan> {
        let plan = self.plan_with(plugin, &plugin.description.fields, found)?;
        let before = found.len();
        self.ask(plugin, &plan, shelf, found);
        (found.len() == before).then_some(plan)
    }

    /// What the plugin itself finds wrong with its settings, which passed all checks that are data.
    pub(super) fn ask(&self, plugin: &plugin::Found, plan: &PluginPlan, shelf: &Shelf, found: &mut Found) {
        let wrong = match shelf.ask(plugin, &plan.settings, &plan.limits) {
            Ok(wrong) => wrong,
            Err((code, why)) => {
                let problem = format!("plugin {} cannot be asked about its settings: {why}", plan.plugin);
                let hint = "tell the plugin's author, or use another version of it";
                return self.definition.mistake(code, &self.whole, problem, hint, found);
            }
        };
        for plugin::Unfit { key, problem } in wrong {
            let mut fields = plugin.description.fields.iter();
            let key = match fields.find(|field| field.name == key) {
                // As it was written, which may be by a former name.
                Some(field) => {
                    let mut names = std::iter::once(&field.name).chain(&field.aliases);
                    let given = names.find(|name| self.get(name).is_some());
                    format!("{}{}", self.own, given.unwrap_or(&field.name))
                }
                None => self.whole.clone(),
            };
            let hint = format!(
                "the plugin's own words; its settings: culvert plugin inspect {}",
                plan.plugin
            );
            self.definition.mistake(CONNECTOR, &key, problem, hint, found);
        }
    }

    /// The plan of a plugin with these fields, not asked about them yet.
    pub(super) fn plan_with(
        &self,
        plugin: &plugin::Found,
        fields: &[Field],
        found: &mut Found,
    ) -> Option<PluginPlan> {
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

    fn limits(&self, found: &mut Found) -> Limits {
        let mut limits = Limits::default();
        if let Some(text) = self.limit("culvert.memory.max") {
            match ByteSize::parse(text) {
                Some(ByteSize(bytes)) if (MEMORY_MIN..=MEMORY_MAX).contains(&bytes) => {
                    limits.memory_bytes_max = usize::try_from(bytes).unwrap_or(usize::MAX);
                }
                _ => {
                    let problem = format!("{text:?} is no amount of memory");
                    self.limit_mistake(VALUE, "culvert.memory.max", problem, "valid: 1MiB to 1GiB", found);
                }
            }
        }
        if let Some(text) = self.limit("culvert.time.max") {
            match parse_duration(text) {
                Some(time) if !time.is_zero() && time <= TIME_MAX => limits.call_time_max = time,
                _ => {
                    let problem = format!("{text:?} is no time for a call");
                    self.limit_mistake(VALUE, "culvert.time.max", problem, "valid: 1ms to 60s", found);
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
                            self.own_mistake(CONNECTOR, name, wrong.problem, hint, found);
                        }
                    }
                    None if field.is_required() => {
                        let example = field.example.as_deref().unwrap_or("…");
                        let hint = format!("for example {example:?}: {}", first_line(&field.documentation));
                        self.own_mistake(MISSING, &field.name, "is missing", hint, found);
                    }
                    None => {}
                }
                let value = given.map(|(_, value)| value.to_owned());
                (field.name.clone(), value.or_else(|| field.default_value.clone()))
            })
            .collect()
    }

    /// Keys that nobody knows.
    fn unknown(&self, fields: &[Field], found: &mut Found) {
        let known = || {
            fields
                .iter()
                .flat_map(|field| std::iter::once(&field.name).chain(&field.aliases))
        };
        for (key, _) in self.definition.settings.shown() {
            let is_ours = |inner: &str| self.ours.contains(&inner) || grant::is_grant(inner);
            if key.strip_prefix(&self.prefix).is_some_and(is_ours) {
                continue;
            }
            let Some(inner) = key.strip_prefix(&self.own) else {
                continue;
            };
            let is_common = self.is_connector() && connector::is_common(inner);
            if is_common || known().any(|name| name == inner) {
                continue;
            }
            let near = nearest(
                inner,
                known().map(String::as_str).chain(self.ours.iter().copied()),
            );
            let hint = near.map_or_else(
                || format!("valid: {}", known().cloned().collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean {near}?"),
            );
            self.own_mistake(UNKNOWN_KEY, inner, "is not a key of this plugin", hint, found);
        }
    }

    fn is_connector(&self) -> bool {
        self.prefix.is_empty()
    }

    /// What the gateway's key about the plugin holds.
    fn limit(&self, key: &str) -> Option<&str> {
        self.definition.settings.get(&format!("{}{key}", self.prefix))
    }

    fn limit_mistake(&self, code: &'static str, key: &str, problem: String, hint: &str, found: &mut Found) {
        let key = format!("{}{key}", self.prefix);
        self.definition.mistake(code, &key, problem, hint, found);
    }

    /// What the plugin's own key holds.
    fn get(&self, key: &str) -> Option<&str> {
        self.definition.settings.get(&format!("{}{key}", self.own))
    }

    /// Something is wrong with one of the plugin's own keys.
    fn own_mistake(
        &self,
        code: &'static str,
        key: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
        found: &mut Found,
    ) {
        let key = format!("{}{key}", self.own);
        self.definition.mistake(code, &key, problem, hint, found);
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
