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
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use wasmtime::component::Component;
use xxhash_rust::xxh3::Xxh3;

/// What of a file is read at a time to sum it: as much as stays near the processor.
const CHUNK: usize = 256 * 1024;

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
    /// It is looked into only.
    is_reader: bool,
    /// Of the compiler, its version and its settings.
    settings: u64,
}

impl Cache {
    pub(crate) fn open(
        folder: PathBuf,
        is_reader: bool,
        engine: &wasmtime::Engine,
    ) -> Result<Cache, LoadError> {
        if !is_reader {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|source| LoadError::Io {
                    doing: format!("make {}", folder.display()),
                    source,
                })?;
        }
        let mut hasher = Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = hasher.finish();
        Ok(Cache {
            folder,
            is_reader,
            settings,
        })
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
            if sum == checksum(File::open(entry.path()).ok()?).ok()? {
                match deserialize_file(engine, &entry.path()) {
                    Ok(component) => return Some(component),
                    Err(error) => tracing::info!(%error, "compiled plugin is not of this engine"),
                }
            }
            if !self.is_reader {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        None
    }

    pub(crate) fn keep(&self, digest: &Digest, compiled: &[u8]) -> io::Result<()> {
        if self.is_reader {
            return Ok(());
        }
        let name = format!("{}{}.cwasm", self.prefix(digest), checksum(compiled)?);
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

fn checksum(mut bytes: impl Read) -> io::Result<String> {
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match bytes.read(&mut buffer)? {
            0 => return Ok(format!("{:032x}", hasher.digest128())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// Takes in code that was compiled a moment ago.
pub(crate) fn deserialize(engine: &wasmtime::Engine, compiled: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: the bytes came from this engine, or from a child of ours that runs the same program.
    #[allow(unsafe_code, reason = "compiled code is code: see the head of this file")]
    let component = unsafe { Component::deserialize(engine, compiled) };
    component.map_err(not_taken)
}

/// Takes in code that is kept: mapped, so that an interpreter's 50 MB are neither copied nor held where nothing runs them.
fn deserialize_file(engine: &wasmtime::Engine, file: &Path) -> Result<Component, LoadError> {
    // SAFETY: a file of our own folder whose checksum matches the name that we gave it; files there are replaced and
    // removed, never written to.
    #[allow(unsafe_code, reason = "compiled code is code: see the head of this file")]
    let component = unsafe { Component::deserialize_file(engine, file) };
    component.map_err(not_taken)
}

#[allow(clippy::needless_pass_by_value, reason = "given to map_err")]
fn not_taken(error: wasmtime::Error) -> LoadError {
    LoadError::Compile {
        reason: format!("{error:#}"),
    }
}
