//! The outside systems: one folder each, with the same few files. Each implements [`crate::flow::Source`] or
//! [`crate::flow::Sink`] and knows nothing else of the gateway.

pub mod generator;
pub mod kafka;
pub mod sqlite;
