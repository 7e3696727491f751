//! Giving back memory: a tree that has grown is closed and opened again.
//!
//! alpha.124 pages out no leaf that it has flushed (`object_cache.rs`: a leaf's `max_unflushed_epoch` is never cleared, so
//! its eviction waits for a flush long past), and keeps the last leaf it read in each of 256 shards of its cache, whatever
//! their size. What was written or read stays in memory until it is removed: little while links keep up, and all of a
//! backlog, while it grows and again while it drains. Measured: 300,000 records of 300 bytes held, 115 MiB more; with
//! the tree opened again at [`RESIDENT_BYTES_MAX`], flat.
//!
//! All is durable when this begins, so it may fail or be cut short anywhere. Readers wait meanwhile. It takes some ten
//! milliseconds, and as long as the two `sync` take that sled runs first, for all file systems of the machine: up to a
//! second where others write much. Only a backlog ever pays it, and not too often ([`REOPEN_EVERY`]).

use super::{Sled, directory, guarded, open_tree};
use std::time::{Duration, Instant};

/// How much of what was written or read since the tree was opened may still be held. By eye: as much as the cache of
/// recent frames. Small in this crate's own tests, so that each of them meets it.
pub(super) const RESIDENT_BYTES_MAX: u64 = if cfg!(test) { 32 << 10 } else { 32 << 20 };

/// A tree is left open at least this long: most of what a source brings at once is gone by then.
const REOPEN_EVERY: Duration = if cfg!(test) {
    Duration::ZERO
} else {
    Duration::from_secs(5)
};

/// Where [`REOPEN_EVERY`] no longer counts.
const RESIDENT_BYTES_LIMIT: u64 = 4 * RESIDENT_BYTES_MAX;

impl Sled {
    /// Whether sled's memory is worth giving back. What it holds of `live` frames is at most all that passed through it.
    pub(super) fn has_grown(&self, live: u64) -> bool {
        let passed = self.written_bytes + self.pool.read_bytes();
        let resident = passed.min(live);
        let is_due = self.opened.elapsed() >= REOPEN_EVERY || resident > RESIDENT_BYTES_LIMIT;
        resident > RESIDENT_BYTES_MAX && is_due && self.moving.is_idle()
    }

    /// Closes the tree and opens it again.
    ///
    /// # Errors
    /// When it does not open. What was acknowledged is on disk, for the next process to find.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        // A clone flushes when it is dropped, and waits for ever once that has failed: here it has nothing to do.
        self.flush()?;
        let (pool, clones) = (self.pool.clone(), self.pool.recall());
        let own = self.tree.take();
        let path = self.disk.root().join(directory(self.generation));
        let opened = guarded("close sled", move || {
            drop((clones, own));
            Ok(())
        })
        .and_then(|()| open_tree(&path));
        match opened {
            Ok(tree) => {
                pool.renew(self.generation, &tree);
                self.tree = Some(tree);
                self.written_bytes = 0;
                self.opened = Instant::now();
                Ok(())
            }
            Err(why) => {
                pool.clear();
                Err(format!("open sled again: {why}"))
            }
        }
    }
}
