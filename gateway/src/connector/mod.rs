//! The outside systems: one folder each, with the same few files. Each implements [`crate::flow::Source`] or
//! [`crate::flow::Sink`] and knows nothing else of the gateway.

pub mod generator;
pub mod kafka;
pub mod sqlite;

/// One mistake in a connector's configuration. All of them are reported together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key as it was written.
    pub key: String,
    /// What is wrong with it or its value.
    pub problem: String,
    /// What would be right: the nearest valid key, or what to do instead.
    pub hint: Option<String>,
}
