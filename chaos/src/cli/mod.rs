//! The verbs.

pub(crate) mod run;
pub(crate) mod soak;
