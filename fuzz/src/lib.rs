//! One function a decoder: it takes any bytes, and panics where the decoder breaks a promise.
//!
//! The same functions are run by libFuzzer (`cargo xtask fuzz`, `src/main.rs`) and, over the corpus and what a seeded
//! mutator makes of it, by ordinary tests (`tests/mutated.rs`). Where a checksum stands before a decoder, the target sees
//! the bytes twice: as they are, and with the checksum put right, since no fuzzer guesses one.

pub mod mutate;
mod targets;

pub use targets::TARGETS;

use std::path::{Path, PathBuf};

/// One decoder under attack.
#[derive(Clone, Copy)]
pub struct Target {
    /// As it is named on the command line, and its folders in `corpus/` and `regressions/`.
    pub name: &'static str,
    /// What it decodes.
    pub about: &'static str,
    /// Decodes the bytes and checks what came of it.
    pub run: fn(&[u8]),
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// This folder.
#[must_use]
pub fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of `corpus/<target>` or `regressions/<target>`, by name. None where there is no such folder.
///
/// # Errors
/// When a file cannot be read.
pub fn inputs(kind: &str, target: &Target) -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = home().join(kind).join(target.name);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| std::fs::read(&path).map(|bytes| (path, bytes)))
        .collect()
}
