//! To be filled.

pub mod producer;
