//! Compiled components, kept in a folder of the gateway's own.
//!
//! ```text
//! <folder>/<sha256 of the component>-<compiler and its settings>-<xxh3 of the file>.cwasm
//! ```
//!
//! Loading compiled code means to run what is in the file: a file from anywhere else is never loaded. The folder is
//! the gateway's alone (0700), the file's name holds the checksum of its bytes, so that a damaged one is compiled
//! again, and wasmtime refuses what another version or another processor's settings made.

use crate::fault::LoadError;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use wasmtime::component::Component;

/// SHA-256 of a component's bytes: which plugin it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of a file's bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let mut own = [0; 32];
        own.copy_from_slice(digest.as_ref());
        Digest(own)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

pub(crate) struct Cache {
    folder: PathBuf,
    /// Of the compiler, its version and its settings.
    settings: u64,
}

impl Cache {
    pub(crate) fn open(folder: PathBuf, engine: &wasmtime::Engine) -> Result<Cache, LoadError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|source| LoadError::Io {
                doing: format!("make {}", folder.display()),
                source,
            })?;
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = hasher.finish();
        Ok(Cache { folder, settings })
    }

    /// None where it is not there or is damaged.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, digest: &Digest) -> Option<Component> {
        let prefix = self.prefix(digest);
        for entry in std::fs::read_dir(&self.folder).ok()?.flatten() {
            let name = entry.file_name();
            let Some(sum) = name
                .to_str()
                .and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".cwasm"))
            else {
                continue;
            };
            let bytes = std::fs::read(entry.path()).ok()?;
            if sum == checksum(&bytes) {
                match deserialize(engine, &bytes) {
                    Ok(component) => return Some(component),
                    Err(error) => tracing::info!(%error, "compiled plugin is not of this engine"),
                }
            }
            let _ = std::fs::remove_file(entry.path());
        }
        None
    }

    pub(crate) fn keep(&self, digest: &Digest, compiled: &[u8]) -> io::Result<()> {
        let name = format!("{}{}.cwasm", self.prefix(digest), checksum(compiled));
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(compiled)?;
        file.as_file().sync_all()?;
        file.persist(self.folder.join(name))
            .map_err(|error| error.error)?;
        Ok(())
    }

    fn prefix(&self, digest: &Digest) -> String {
        format!("{digest}-{:016x}-", self.settings)
    }
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(bytes))
}

/// The one place where compiled code is taken in.
pub(crate) fn deserialize(engine: &wasmtime::Engine, compiled: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: the bytes came from this engine a moment ago, from a child of ours that runs the same program, or from a
    // file of our own folder whose checksum matches the name that we gave it.
    #[allow(unsafe_code, reason = "compiled code is code: see the head of this file")]
    let component = unsafe { Component::deserialize(engine, compiled) };
    component.map_err(|error| LoadError::Compile {
        reason: format!("{error:#}"),
    })
}
