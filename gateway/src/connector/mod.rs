//! The outside systems: one folder each, with the same few files. Each implements [`crate::flow::Source`] or
//! [`crate::flow::Sink`] and knows nothing else of the gateway.

pub mod generator;
pub mod kafka;
mod settings;
pub mod sqlite;

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
