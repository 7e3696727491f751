#![doc = include_str!("../README.md")]

mod check;
mod codec;
mod decimal;
mod derive;
mod schema;
mod value;

pub use codec::{ConnectJson, Settings};

#[cfg(test)]
mod tests;
