//! The flush thread: the only one that writes.
//!
//! It makes everything that was asked for since the last flush durable together. When idle it flushes at once; under
//! load it pauses between flushes for four times what the last one took, so that a slow disk gets fewer and larger
//! ones, and never longer than `flush_every`.

use super::disk::is_full;
use super::engine::{Engine, Fault, Index, Upkeep};
use super::home::Home;
use super::options::Fatal;
use super::state::{Batch, Phase, Shared, State};
use parking_lot::MutexGuard;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A flush is not put off while this much waits.
const HURRY_BYTES: u64 = 4 << 20;

/// The pause after a flush, in times of what it took: at most a fifth of the time is spent flushing.
const PAUSE_FACTOR: u32 = 4;

/// How often things are looked at that nobody asks for: the mark, the reserve, space to give back.
const TICK: Duration = Duration::from_secs(1);

/// How soon upkeep is looked at again when it waits for a thread of its own.
const UPKEEP_TICK: Duration = Duration::from_millis(20);

/// How often a full disk is looked at. The outbox has to go on by itself within a second.
const FULL_TICK: Duration = Duration::from_millis(50);

/// The thread's belongings.
pub(super) struct Flusher {
    pub(super) shared: Arc<Shared>,
    pub(super) engine: Box<dyn Engine>,
    pub(super) home: Home,
    /// Held as long as the thread lives; simulated disks have none.
    pub(super) lock: Option<File>,
    pub(super) flush_every: Duration,
    pub(super) fatal: Fatal,
    pub(super) not_before: Instant,
    pub(super) next_tick: Instant,
    pub(super) mark_due: Instant,
}

enum Next {
    Commit(Batch),
    Upkeep,
    End,
}

impl Flusher {
    /// Works until the outbox is closed or a flush failed.
    pub(super) fn run(mut self) {
        let ended = catch_unwind(AssertUnwindSafe(|| self.work()))
            .unwrap_or_else(|_| Err("the flush thread panicked".into()));
        let shared = self.shared.clone();
        match ended {
            Ok(()) => {
                self.engine.close();
                drop((self.home, self.lock));
                shared.enter(Phase::Closed);
            }
            Err(why) => {
                tracing::error!(code = "CULVERT-O009", reason = %why, "outbox cannot go on, the process ends");
                (self.fatal.0)(&why);
                // Only where that did not end the process. Nothing is tidied up: what is on disk is for the next
                // process to judge.
                std::mem::forget(self.engine);
                drop((self.home, self.lock));
                shared.enter(Phase::Stopped(why));
            }
        }
    }

    fn work(&mut self) -> Result<(), String> {
        loop {
            match self.next() {
                Next::Commit(batch) => self.commit(batch)?,
                Next::Upkeep => {}
                Next::End => break,
            }
            self.upkeep()?;
        }
        #[cfg(test)]
        if self.shared.state.lock().phase == Phase::Abandoned {
            return Ok(());
        }
        self.home
            .sync_mark()
            .map_err(|error| format!("sync outbox mark: {error}"))
    }

    fn next(&mut self) -> Next {
        let shared = self.shared.clone();
        let mut state = shared.state.lock();
        loop {
            let now = Instant::now();
            match &state.phase {
                Phase::Open => {}
                Phase::Closing if state.has_work() && !state.disk_full => {}
                _ => return Next::End,
            }
            if state.disk_full {
                if let Some(next) = self.next_when_full(&mut state) {
                    return next;
                }
            } else if state.has_work() && (now >= self.not_before || self.hurries(&state)) {
                let batch = state.take_batch();
                if !batch.is_empty() {
                    return Next::Commit(batch);
                }
                state.settle();
                shared.settled.notify_all();
                shared.durable.send_replace(state.done());
                continue;
            }
            if now >= self.next_tick {
                return Next::Upkeep;
            }
            let mut until = self.next_tick;
            if state.disk_full {
                until = until.min(now + FULL_TICK);
            } else if state.has_work() {
                until = until.min(self.not_before);
            }
            shared.wake.wait_until(&mut state, until);
        }
    }

    fn hurries(&self, state: &State) -> bool {
        state.pending_bytes() >= HURRY_BYTES || state.waiting > 0 || state.phase != Phase::Open
    }

    /// On a full disk: what frees space goes first; everything else once there is space for it again.
    fn next_when_full(&mut self, state: &mut MutexGuard<'_, State>) -> Option<Next> {
        let batch = state.take_freeing();
        if !batch.is_empty() {
            return Some(Next::Commit(batch));
        }
        let need = self.engine.need_bytes(state.pending_bytes()) + self.home.reserve_missing_bytes();
        if self.home.disk().free_bytes().is_ok_and(|free| free >= need) {
            state.disk_full = false;
            self.home.renew_reserve();
            tracing::info!("outbox has disk space again");
            let room = state.room();
            self.shared.say_room(room);
            return Some(Next::Upkeep);
        }
        None
    }

    fn commit(&mut self, batch: Batch) -> Result<(), String> {
        let freeing = self.shared.state.lock().disk_full;
        let started = Instant::now();
        let mut outcome = self.try_commit(&batch, freeing);
        if freeing && matches!(outcome, Err(Fault::Full)) && self.home.give_up_reserve() {
            outcome = self.try_commit(&batch, freeing);
        }
        let places = match outcome {
            Ok(places) => places,
            Err(Fault::Full) => {
                self.full(batch);
                return Ok(());
            }
            Err(Fault::Fatal(why)) => return Err(why),
        };
        self.home
            .acknowledge(self.engine.commits())
            .map_err(|error| format!("write outbox mark: {error}"))?;
        let took = started.elapsed();
        self.not_before = Instant::now() + (took * PAUSE_FACTOR).min(self.flush_every);
        let mut state = self.shared.state.lock();
        let freed = state.committed(&batch, places);
        state.flushes.record(took);
        // Said under the lock: who waited for this commit finds room and stamp as they are after it.
        self.shared.say_room(state.room());
        self.shared.durable.send_replace(state.done());
        drop(state);
        self.shared.settled.notify_all();
        self.engine.free(&freed);
        Ok(())
    }

    /// A commit that cannot fit is not begun: not every engine survives to be told so half-way. What frees space may
    /// use the space of the reserve; nothing else may.
    fn try_commit(&mut self, batch: &Batch, freeing: bool) -> Result<Vec<super::engine::Place>, Fault> {
        let reserve = if freeing {
            0
        } else {
            self.home.reserve_missing_bytes()
        };
        let need = self.engine.need_bytes(batch.bytes) + reserve;
        if self.home.disk().free_bytes().is_ok_and(|free| free < need)
            && !(freeing && reserve_is_gone(&self.home))
        {
            return Err(Fault::Full);
        }
        self.engine.commit(&batch.changes)
    }

    fn full(&mut self, batch: Batch) {
        let mut state = self.shared.state.lock();
        state.put_back(batch);
        if !std::mem::replace(&mut state.disk_full, true) {
            tracing::warn!(code = "CULVERT-O005", "outbox pauses: the disk has no space left");
        }
        drop(state);
        self.shared.say_room(false);
    }

    /// One step of giving space back, and once a second what else is due.
    fn upkeep(&mut self) -> Result<(), String> {
        let index: Arc<dyn Index> = self.shared.clone();
        let now = Instant::now();
        let step = match self.engine.upkeep(&index) {
            Ok(step) => step,
            Err(Fault::Full) => Upkeep::Done,
            Err(Fault::Fatal(why)) => return Err(why),
        };
        self.next_tick = match step {
            Upkeep::Done => now + TICK,
            Upkeep::More => now,
            Upkeep::Later => now + UPKEEP_TICK,
            Upkeep::Switch(generation) => {
                self.switch(generation)?;
                now
            }
        };
        let disk_bytes = self.engine.disk_bytes();
        self.shared.state.lock().disk_bytes = disk_bytes;
        if now >= self.mark_due {
            self.mark_due = now + TICK;
            self.home
                .sync_mark()
                .map_err(|error| format!("sync outbox mark: {error}"))?;
            self.home.renew_reserve();
        }
        Ok(())
    }
}

impl Flusher {
    /// Names the new generation in the MANIFEST, the one moment at which it takes over.
    fn switch(&mut self, generation: u64) -> Result<(), String> {
        let commits = self.engine.commits();
        match self.home.switch(generation) {
            Ok(()) => {
                self.engine.switched(true);
                self.home
                    .acknowledge(commits)
                    .map_err(|error| format!("write outbox mark: {error}"))
            }
            Err(error) if is_full(&error) => {
                self.engine.switched(false);
                Ok(())
            }
            Err(error) => Err(format!("write outbox manifest: {error}")),
        }
    }
}

/// Whether there is nothing left to give up: then a small commit is worth a try however little is free.
fn reserve_is_gone(home: &Home) -> bool {
    home.reserve_missing_bytes() > 0
}
