#![doc = include_str!("../README.md")]

mod check;
mod codec;
mod formats;
mod framing;
mod number;
mod schema;
mod tree;

pub use codec::{Formats, JsonCodec, Settings};
pub use framing::Framing;
pub use schema::{Invalid, Schema};

#[cfg(test)]
mod tests;
