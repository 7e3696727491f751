//! How bytes become something else and back: the compression of record batches.

pub mod compression;
