#![doc = include_str!("../README.md")]

mod codec;
mod encode;
mod form;
mod framing;
mod json_out;
mod plan;
mod schema;
mod special;
mod tree_out;
mod walk;
mod well_known;
mod wire;

pub use codec::{Protobuf, Settings};
pub use form::{Defaults, Int64Format, Names, UnknownFields};
pub use framing::Framing;
pub use schema::{Invalid, Schema};

#[cfg(test)]
mod tests;
