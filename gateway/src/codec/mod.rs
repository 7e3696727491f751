//! How bytes become something else and back: the compression of record batches, and registries of schemas.

pub mod compression;
pub mod registry;
