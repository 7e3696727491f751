//! Giving back space: sled's files do not shrink, so what is live moves to a new generation.
//!
//! A thread copies frames beside the running outbox until it has nearly caught up. Then, between two commits, the
//! flush thread copies the rest with lanes, settings and counters, makes it durable, and the MANIFEST is renamed to
//! name it. Until that rename the old generation is the truth, and after a crash the other one is removed.

use super::{
    COUNTERS, Key, Sled, Tree, counters_value, directory, frame_key, guarded, lane_entry, open_tree,
    setting_key, setting_value, settle,
};
use crate::outbox::change::{LaneId, Life};
use crate::outbox::engine::{FrameRef, Index, Upkeep};
use ::sled::Batch;
use culvert_proto::Sequence;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A move that failed, or that did not help, is not tried again sooner.
const PAUSE: Duration = Duration::from_secs(30);

/// Frames are copied in batches of about this size.
const COPY_BYTES: u64 = 2 << 20;

/// The thread has caught up when one pass over all lanes found no more than this.
const REST_BYTES: u64 = 1 << 20;

/// It gives up catching up after so many passes; the flush thread then copies a larger rest.
const PASSES_MAX: usize = 20;

/// The state of a move.
pub(super) struct Moving {
    /// What is granted beyond twice what is live.
    slack_bytes: u64,
    not_before: Option<Instant>,
    copier: Option<Copier>,
    ready: Option<(Tree, VecDeque<Key>)>,
}

struct Copier {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Copy, String>>,
}

/// The new store and what was copied into it.
struct Copy {
    tree: Tree,
    lanes: BTreeMap<(LaneId, Life), Progress>,
}

#[derive(Default)]
struct Progress {
    /// Where to go on.
    next: Sequence,
    copied: VecDeque<Sequence>,
}

impl Moving {
    pub(super) fn new(slack_bytes: u64) -> Moving {
        Moving {
            slack_bytes,
            not_before: None,
            copier: None,
            ready: None,
        }
    }

    /// Whether nothing but the engine and its readers has the tree open.
    pub(super) fn is_idle(&self) -> bool {
        self.copier.is_none() && self.ready.is_none()
    }
}

impl Sled {
    /// Begins a move when it is worth it, and carries one on.
    pub(super) fn move_step(&mut self, index: &Arc<dyn Index>) -> Result<Upkeep, String> {
        match &self.moving.copier {
            None if self.is_worth_moving(index.live_bytes()) => {
                self.begin_move(index.clone());
                Ok(Upkeep::Later)
            }
            None => Ok(Upkeep::Done),
            Some(copier) if !copier.thread.is_finished() => Ok(Upkeep::Later),
            Some(_) => Ok(self.complete_move(&**index)),
        }
    }

    fn is_worth_moving(&self, live: u64) -> bool {
        let used = self.measured.1;
        let waits = self.moving.not_before.is_some_and(|at| Instant::now() < at);
        // The copy needs space of its own, which a full disk does not have.
        let free = || {
            self.disk
                .free_bytes()
                .is_ok_and(|free| free > 2 * live + (64 << 20))
        };
        !waits && used > 2 * live + self.moving.slack_bytes && free()
    }

    fn begin_move(&mut self, index: Arc<dyn Index>) {
        self.moving.not_before = Some(Instant::now() + PAUSE);
        let next = directory(self.generation + 1);
        let path = self.disk.root().join(&next);
        if self.disk.list(&next).is_ok() && self.disk.remove_directory(&next).is_err() {
            return;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let Some(old) = self.tree.clone() else { return };
        let told = stop.clone();
        let copy = move || {
            let mut copy = Copy {
                tree: open_tree(&path)?,
                lanes: BTreeMap::new(),
            };
            for _ in 0..PASSES_MAX {
                if copy.pass(&old, &*index, &told)? <= REST_BYTES {
                    break;
                }
            }
            Ok(copy)
        };
        match std::thread::Builder::new().name("outbox-move".into()).spawn(copy) {
            Ok(thread) => self.moving.copier = Some(Copier { stop, thread }),
            Err(error) => tracing::warn!(error = %error, "cannot start a thread to give back outbox space"),
        }
    }

    /// The short stop: the rest is copied and made durable.
    fn complete_move(&mut self, index: &dyn Index) -> Upkeep {
        let Some(copier) = self.moving.copier.take() else {
            return Upkeep::Done;
        };
        let copied = copier
            .thread
            .join()
            .unwrap_or_else(|_| Err("the thread panicked".into()));
        let completed = copied.and_then(|copy| self.complete(copy, index));
        match completed {
            Ok(ready) => {
                self.moving.ready = Some(ready);
                // All that is held was just written there.
                self.written_bytes = index.live_bytes();
                Upkeep::Switch(self.generation + 1)
            }
            Err(why) => {
                tracing::warn!(reason = %why, "outbox space could not be given back");
                let _ = self.disk.remove_directory(&directory(self.generation + 1));
                Upkeep::Done
            }
        }
    }

    fn complete(&self, mut copy: Copy, index: &dyn Index) -> Result<(Tree, VecDeque<Key>), String> {
        copy.pass(self.tree()?, index, &AtomicBool::new(false))?;
        let mut batch = Batch::default();
        for lane in self.catalog.lanes.keys() {
            if let Some((key, value)) = lane_entry(&self.catalog, *lane) {
                batch.insert(key, value);
            }
        }
        for (key, value) in &self.catalog.settings {
            batch.insert(setting_key(key), setting_value(key, value));
        }
        batch.insert(COUNTERS, counters_value(&self.catalog, self.commits, self.sum));
        guarded("write to a new sled", || copy.tree.apply_batch(batch))?;
        guarded("flush a new sled", || copy.tree.flush())?;
        settle(&*self.disk, self.generation + 1)?;
        self.disk
            .sync_directory("")
            .map_err(|error| format!("sync a new generation: {error}"))?;
        let dead = copy.dead(index);
        Ok((copy.tree, dead))
    }

    /// Goes over to the new generation, or forgets it.
    pub(super) fn finish_move(&mut self, done: bool) {
        let Some((tree, dead)) = self.moving.ready.take() else {
            return;
        };
        let next = self.generation + 1;
        if !done {
            let _ = guarded("close a new sled", move || {
                drop(tree);
                Ok(())
            });
            let _ = self.disk.remove_directory(&directory(next));
            return;
        }
        let mut old = self.pool.renew(next, &tree);
        old.extend(self.tree.replace(tree));
        let gone = directory(std::mem::replace(&mut self.generation, next));
        self.dead = dead;
        self.measured.0 -= super::MEASURE_EVERY;
        let disk = self.disk.clone();
        let remove = move || {
            let _ = guarded("close an old generation of sled", move || {
                drop(old);
                Ok(())
            });
            if let Err(error) = disk.remove_directory(&gone) {
                tracing::warn!(error = %error, "cannot remove an old outbox generation; the next start will");
            }
        };
        if let Err(error) = std::thread::Builder::new()
            .name("outbox-remove".into())
            .spawn(remove)
        {
            tracing::warn!(error = %error, "cannot remove an old outbox generation; the next start will");
        }
    }

    /// Gives up a move that is under way.
    pub(super) fn stop_moving(&mut self) {
        if let Some(copier) = self.moving.copier.take() {
            copier.stop.store(true, Ordering::Relaxed);
            let _ = copier.thread.join();
            let _ = self.disk.remove_directory(&directory(self.generation + 1));
        }
    }
}

impl Copy {
    /// Copies what came since the last pass, lane by lane. Says how much it was.
    fn pass(&mut self, old: &Tree, index: &dyn Index, stop: &AtomicBool) -> Result<u64, String> {
        let mut bytes = 0;
        for (lane, life, base) in index.lanes() {
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Err("the outbox is closed".into());
                }
                let progress = self.lanes.entry((lane, life)).or_default();
                progress.next = progress.next.max(base);
                let frames = index.frames(lane, life, progress.next, 64);
                if frames.is_empty() {
                    break;
                }
                bytes += self.copy(old, &frames)?;
            }
        }
        Ok(bytes)
    }

    fn copy(&mut self, old: &Tree, frames: &[FrameRef]) -> Result<u64, String> {
        let (mut batch, mut bytes, mut total) = (Batch::default(), 0, 0);
        for FrameRef { lane, life, held } in frames {
            let key = frame_key(*lane, *life, held.from);
            let found = guarded("read from sled", || old.get(&key))?;
            let progress = self.lanes.entry((*lane, *life)).or_default();
            progress.next = held.from.next();
            // A frame that is not there was trimmed since it was listed.
            if let Some(value) = found {
                bytes += value.len() as u64;
                progress.copied.push_back(held.from);
                batch.insert(key, value);
            }
            if bytes >= COPY_BYTES {
                total += std::mem::take(&mut bytes);
                self.write(std::mem::take(&mut batch))?;
            }
        }
        self.write(batch)?;
        Ok(total + bytes)
    }

    fn write(&self, batch: Batch) -> Result<(), String> {
        guarded("write to a new sled", || self.tree.apply_batch(batch))?;
        guarded("flush a new sled", || self.tree.flush()).map(|_| ())
    }

    /// Copied frames that were freed meanwhile.
    fn dead(&self, index: &dyn Index) -> VecDeque<Key> {
        let bases: BTreeMap<(LaneId, Life), Sequence> = index
            .lanes()
            .into_iter()
            .map(|(lane, life, base)| ((lane, life), base))
            .collect();
        let mut dead = VecDeque::new();
        for ((lane, life), progress) in &self.lanes {
            let base = bases.get(&(*lane, *life)).copied().unwrap_or(Sequence(u64::MAX));
            let below = progress.copied.iter().take_while(|from| **from < base);
            dead.extend(below.map(|from| frame_key(*lane, *life, *from)));
        }
        dead
    }
}
