#![doc = include_str!("../README.md")]

mod codec;
pub mod container;
mod encode;
mod form;
mod framing;
mod json_out;
mod plan;
mod schema;
mod tree_out;
mod walk;

pub use codec::{Avro, Prepared, Settings};
pub use form::{BytesFormat, DecimalFormat, TimeFormat, UnknownFields};
pub use framing::Framing;
pub use schema::{Invalid, Schema};

#[cfg(test)]
mod tests;
