//! What the codecs have in common: plain JSON, the contract's trees, and words for what is wrong with a payload.

pub mod base64;
pub mod json;
pub mod number;
pub mod source;
pub mod tree;
pub mod trouble;
