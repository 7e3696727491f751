//! The outside systems: one folder each, with the same few files. Each implements [`crate::flow::Source`] or
//! [`crate::flow::Sink`] and knows nothing else of the gateway.

pub mod generator;
pub mod kafka;
mod settings;
pub mod sqlite;

use culvert_proto::message::TopicFilter;
use std::collections::BTreeMap;

/// The topics that a sink without a room of its own reads: `topics` or `topics.regex` of its settings.
///
/// # Errors
/// What is wrong with them.
pub fn topics(map: &BTreeMap<String, String>) -> Result<TopicFilter, Vec<Mistake>> {
    let mut settings = settings::Settings::new(map);
    let topics = settings.topics();
    topics.ok_or_else(|| settings.mistakes())
}

/// One thing that is wrong with a connector's configuration. A connector reports all of its mistakes together; the
/// config room adds file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key as written.
    pub key: String,
    /// What is wrong with it, lower case, without the key.
    pub problem: String,
    /// What would be valid.
    pub hint: Option<String>,
}
