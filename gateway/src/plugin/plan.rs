//! What a connector's settings ask of plugins, checked.

use crate::flow::predicate::Selection;
use culvert_host::{Grants, Limits};
use culvert_proto::message::TopicFilter;
use std::fmt;
use std::sync::Arc;

/// A plugin with one connector's settings for it.
#[derive(Clone)]
pub struct PluginPlan {
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's settings, defaults filled in. Secrets are resolved: never shown.
    pub settings: Vec<(String, Option<String>)>,
    /// What one instance may take.
    pub limits: Limits,
    /// What it may use.
    pub grants: Arc<Grants>,
}

/// Names without values: settings hold secrets that are resolved.
impl fmt::Debug for PluginPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.settings.iter().map(|(name, _)| name).collect();
        write!(f, "{} {names:?}", self.plugin)
    }
}

/// One stage.
#[derive(Clone, Debug)]
pub struct StagePlan {
    /// Its name in `transforms`.
    pub name: Arc<str>,
    /// What it runs.
    pub plan: PluginPlan,
    /// The records that it sees; none for all.
    pub selection: Option<Selection>,
    /// It sees schema and payload where a schema stands beside the payload; all others see the payload.
    pub envelopes: bool,
}

/// A sink.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// What it runs.
    pub plan: PluginPlan,
    /// `topics` or `topics.regex`: what it reads.
    pub topics: TopicFilter,
}
