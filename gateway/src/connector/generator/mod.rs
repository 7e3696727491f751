//! Test records that anybody can make again: food orders, sensor readings, clicks and transactions, each a pure
//! function of (kind, seed, partition, index).
//!
//! Constraints of this room:
//! - The same recipe gives the same bytes on every machine and in every later version of the program: the source
//!   is replayable (`sequence` = index), so a changed byte would be a changed history. The golden test holds it.
//! - Each record carries its stream, its sequence and a checksum ([`mark`]), so that `culvert verify` can tell a
//!   gap, a duplicate, a broken order or a changed byte at any target, without a second source.
//! - No clock, and no timestamp: a generated record was not written at any time. A target gives it its own.
//!
//! Delivery: exactly-once into any sink that stores its position with the data.

mod config;
mod dice;
pub mod mark;
pub mod records;
mod shapes;
mod source;
#[cfg(test)]
mod tests;

pub use config::GeneratorConfig;
pub use source::{GeneratorReader, GeneratorSource};

/// A place was asked for that this generator does not make.
pub const PLACE_GONE: &str = "CULVERT-S101";
/// The record before the place asked for is not the one that was delivered.
pub const HISTORY_CHANGED: &str = "CULVERT-S102";
