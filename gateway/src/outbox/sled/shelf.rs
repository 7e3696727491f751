//! Reading frames out of sled beside the flush thread.

use super::{Tree, frame_key, guarded};
use crate::outbox::engine::{FrameRef, Shelf};
use crate::outbox::entry::{HEADER_BYTES, Header};
use crate::outbox::error::Error;
use bytes::Bytes;
use parking_lot::Mutex;
use std::path::PathBuf;

/// Clones of the tree for readers: a tree cannot be shared between threads, and dropping a clone flushes.
pub(super) struct Pool {
    /// For messages.
    path: PathBuf,
    idle: Mutex<Idle>,
}

struct Idle {
    generation: u64,
    /// Cloned when there is no other.
    first: Option<Tree>,
    others: Vec<Tree>,
}

impl Pool {
    pub(super) fn new(path: PathBuf, generation: u64, tree: &Tree) -> Pool {
        let idle = Idle {
            generation,
            first: Some(tree.clone()),
            others: Vec::new(),
        };
        Pool {
            path,
            idle: Mutex::new(idle),
        }
    }

    /// From now on readers read this generation. Returns the old clones, to be dropped where nobody waits.
    pub(super) fn renew(&self, generation: u64, tree: &Tree) -> Vec<Tree> {
        let mut idle = self.idle.lock();
        let next = Idle {
            generation,
            first: Some(tree.clone()),
            others: Vec::new(),
        };
        let old = std::mem::replace(&mut *idle, next);
        old.others.into_iter().chain(old.first).collect()
    }

    /// Nothing is read any more.
    pub(super) fn clear(&self) {
        let mut idle = self.idle.lock();
        idle.generation = u64::MAX;
        let old: Vec<Tree> = idle.others.drain(..).collect();
        let first = idle.first.take();
        drop(idle);
        let _ = guarded("close sled", move || {
            drop((old, first));
            Ok(())
        });
    }

    fn with<T>(&self, read: impl FnOnce(&Tree) -> T) -> Option<T> {
        let mut idle = self.idle.lock();
        let generation = idle.generation;
        let tree = idle.others.pop().or_else(|| idle.first.clone())?;
        drop(idle);
        let value = read(&tree);
        let mut idle = self.idle.lock();
        if idle.generation == generation {
            idle.others.push(tree);
        } else {
            // The last of an old generation: the next one is complete, nothing is lost if this flush fails.
            drop(idle);
            let _ = guarded("close an old generation of sled", move || {
                drop(tree);
                Ok(())
            });
        }
        Some(value)
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
