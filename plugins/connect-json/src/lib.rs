#![doc = include_str!("../README.md")]

mod check;
mod codec;
mod derive;
mod schema;
mod value;

#[cfg(test)]
mod tests;
