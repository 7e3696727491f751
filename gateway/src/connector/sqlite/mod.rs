//! SQLite as a target: records and the position in one file, one transaction (S3). The embedded default, which needs
//! no service at all.
//!
//! Constraints of this room:
//! - WAL, `synchronous=FULL`, `BEGIN IMMEDIATE`: a committed batch survives a power cut, and no reader sees data
//!   without its position or the other way round.
//! - Each [`crate::flow::Sink::take`] writes a fresh random `writer`; each transaction begins by looking for it, and
//!   each position moves by `UPDATE … WHERE at = <the one last known>`. A writer that was overtaken cannot commit (S7).
//! - One writer a file at a time is SQLite's own limit, hence `tasks.max` = 1. Readers are never in its way.
//! - A local file system: WAL needs shared memory between the processes that have the file open.
//!
//! On disk, version 1 ([`schema`] holds the statements):
//!
//! ```text
//! culvert_schema     version
//! culvert_route      route → writer
//! culvert_position   stream (small number) → route, identity, table, position
//! <table>            (stream, sequence) → partition, timestamp, key, value, headers
//! ```
//!
//! Delivery: exactly-once.

mod config;
mod error;
mod reader;
mod schema;
mod sink;
#[cfg(test)]
pub(crate) mod tests;

pub use config::{SqliteConfig, TablePattern};
pub use error::Error;
pub use reader::{Held, SqliteReader};
pub use sink::SqliteSink;
