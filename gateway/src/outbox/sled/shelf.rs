//! Reading frames out of sled beside the flush thread.

use super::{Tree, frame_key, guarded};
use crate::outbox::engine::{FrameRef, Shelf};
use crate::outbox::entry::{HEADER_BYTES, Header};
use crate::outbox::error::Error;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clones of the tree for readers: a tree cannot be shared between threads, and dropping a clone flushes.
pub(super) struct Pool {
    /// For messages.
    path: PathBuf,
    idle: Mutex<Idle>,
    /// Wakes readers when there is a tree again, and who recalls when the last clone is back.
    changed: Condvar,
    /// Bytes of frames read since the tree was opened.
    read_bytes: AtomicU64,
}

struct Idle {
    generation: u64,
    /// Clones that are being read with.
    lent: usize,
    /// Readers wait for [`Pool::renew`].
    recalled: bool,
    /// Cloned when there is no other.
    first: Option<Tree>,
    others: Vec<Tree>,
}

impl Pool {
    pub(super) fn new(path: PathBuf, generation: u64, tree: &Tree) -> Pool {
        let idle = Idle {
            generation,
            lent: 0,
            recalled: false,
            first: Some(tree.clone()),
            others: Vec::new(),
        };
        Pool {
            path,
            idle: Mutex::new(idle),
            changed: Condvar::new(),
            read_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// From now on readers read this generation. Returns the old clones, to be dropped where nobody waits.
    pub(super) fn renew(&self, generation: u64, tree: &Tree) -> Vec<Tree> {
        let mut idle = self.idle.lock();
        idle.generation = generation;
        idle.recalled = false;
        self.read_bytes.store(0, Ordering::Relaxed);
        let first = idle.first.replace(tree.clone());
        let old = idle.others.drain(..).chain(first).collect();
        drop(idle);
        self.changed.notify_all();
        old
    }

    /// Takes every clone back, also those that are being read with: nobody else has the tree open then. Readers wait
    /// until it is renewed, or cleared.
    pub(super) fn recall(&self) -> Vec<Tree> {
        let mut idle = self.idle.lock();
        idle.recalled = true;
        while idle.lent > 0 {
            self.changed.wait(&mut idle);
        }
        let first = idle.first.take();
        idle.others.drain(..).chain(first).collect()
    }

    /// Nothing is read any more.
    pub(super) fn clear(&self) {
        let mut idle = self.idle.lock();
        idle.generation = u64::MAX;
        idle.recalled = false;
        let old: Vec<Tree> = idle.others.drain(..).collect();
        let first = idle.first.take();
        drop(idle);
        self.changed.notify_all();
        let _ = guarded("close sled", move || {
            drop((old, first));
            Ok(())
        });
    }

    fn with<T>(&self, read: impl FnOnce(&Tree) -> T) -> Option<T> {
        let (generation, tree) = self.lend()?;
        let value = read(&tree);
        self.take_back(generation, tree);
        Some(value)
    }

    fn lend(&self) -> Option<(u64, Tree)> {
        let mut idle = self.idle.lock();
        while idle.recalled {
            self.changed.wait(&mut idle);
        }
        let tree = idle.others.pop().or_else(|| idle.first.clone())?;
        idle.lent += 1;
        Some((idle.generation, tree))
    }

    fn take_back(&self, generation: u64, tree: Tree) {
        let mut idle = self.idle.lock();
        if idle.generation == generation {
            idle.others.push(tree);
        } else {
            drop(idle);
            // The last of an old generation: the next one is complete, nothing is lost if this flush fails.
            let _ = guarded("close an old generation of sled", move || {
                drop(tree);
                Ok(())
            });
            idle = self.idle.lock();
        }
        idle.lent -= 1;
        if idle.recalled && idle.lent == 0 {
            self.changed.notify_all();
        }
    }
}

impl Shelf for Pool {
    fn read(&self, frame: FrameRef) -> Result<Option<Bytes>, Error> {
        let FrameRef { lane, life, held } = frame;
        let damaged = |what: String| Error::Damaged {
            path: self.path.clone(),
            what: format!("lane {}, frame at {}: {what}", lane.0, held.from),
        };
        let key = frame_key(lane, life, held.from);
        let found = self
            .with(|tree| guarded("read from sled", || tree.get(&key)))
            .ok_or(Error::Closed)?;
        let Some(bytes) = found.map_err(damaged)? else {
            return Ok(None);
        };
        self.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let header = Header::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
        if !header.is_frame(lane, life, held.from) {
            return Err(damaged("another entry stands here".into()));
        }
        header
            .check(&bytes[HEADER_BYTES..])
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Some(Bytes::copy_from_slice(&bytes[HEADER_BYTES..])))
    }
}
