//! What an outbox is opened with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Which store lies underneath.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// sled, one tree.
    #[default]
    Sled,
    /// Plain segment files.
    Log,
}

impl EngineKind {
    /// The name in configuration and on disk.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EngineKind::Sled => "sled",
            EngineKind::Log => "log",
        }
    }
}

/// What to do when a flush failed and nothing about the disk is certain any more. Must end the process: a second
/// fsync would report success for pages the kernel has thrown away (ATC 2020, "Can Applications Recover from fsync
/// Failures?"). Tests put something observable here.
#[derive(Clone)]
pub struct Fatal(pub Arc<dyn Fn(&str) + Send + Sync>);

impl Default for Fatal {
    fn default() -> Fatal {
        Fatal(Arc::new(|_| std::process::abort()))
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fatal")
    }
}

/// How an outbox is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its directory; made if it does not exist.
    pub path: PathBuf,
    /// The store underneath. Fixed when the directory is made.
    pub engine: EngineKind,
    /// The most bytes of frames that are held. Appends beyond it are refused with [`super::Error::Full`].
    pub quota_bytes: u64,
    /// Size of a file that is given up when the disk is full, so that freeing space always has space (L2).
    pub reserve_bytes: u64,
    /// What a sled store may take on disk beyond twice what it holds before what is live is copied to a new one and the
    /// space is given back. The segment log gives back segment by segment.
    pub slack_bytes: u64,
    /// Under load, the longest pause between two flushes. When idle a flush follows an append at once.
    pub flush_every: Duration,
    /// The most bytes of recent frames kept in memory for reading, all lanes together.
    pub cache_bytes: usize,
    /// Whether every frame that is held is read when a log is opened. Without it, one that is damaged shows when it is read
    /// for sending. A sled store is always read whole.
    pub reads_all: bool,
    /// A program that is run as `<program> outbox verify <path>` before a sled store is opened here, so that damage
    /// which panics or aborts the engine ends that process and not this one. The gateway names its own executable.
    pub verifier: Option<PathBuf>,
    /// What a failed flush leads to.
    pub fatal: Fatal,
}

impl Options {
    /// An outbox in `path` with the defaults: sled, 10 GiB, a reserve of 64 MiB, a slack of 40 MiB, 5 ms, 32 MiB of cache.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Options {
        Options {
            path: path.into(),
            engine: EngineKind::default(),
            quota_bytes: 10 << 30,
            reserve_bytes: 64 << 20,
            slack_bytes: 40 << 20,
            flush_every: Duration::from_millis(5),
            cache_bytes: 32 << 20,
            reads_all: false,
            verifier: None,
            fatal: Fatal::default(),
        }
    }
}
