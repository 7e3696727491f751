//! What the handles and the flush thread share.
//!
//! There are two views of each lane. *Asked*: what callers have said; appends are checked against it. *Held*: what is
//! durable; readers see it. Changes wait in one queue between the two, in the order they were asked for, and the
//! flush thread alone moves the held view. A lane that was restarted shows itself empty until the restart is durable.

use super::cache::Cache;
use super::change::{Catalog, Change, Held, LaneId, Life};
use super::engine::{FrameRef, Index, Place, Shelf};
use super::entry::HEADER_BYTES;
use super::error::{Error, Full};
use super::group::{Group, Step};
use super::options::Options;
use super::quota::LaneQuota;
use super::recover::Lanes;
use super::stats::{Flushes, Stats};
use super::{Extent, SETTINGS_BYTES_MAX};
use bytes::Bytes;
use culvert_proto::{Interval, Sequence};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// The most bytes that may wait for the disk. Four times what a flush takes at once.
const PENDING_BYTES_MAX: u64 = 64 << 20;

/// A commit is closed at this size: large enough for any disk's full rate, small enough that what comes behind it
/// does not wait long.
const COMMIT_BYTES_MAX: u64 = 16 << 20;

/// Settings and their changes are small; this many in one commit is plenty.
const COMMIT_CHANGES_MAX: usize = 16 * 1024;

/// Shared by all handles and the flush thread.
pub(super) struct Shared {
    /// For messages.
    pub(super) path: PathBuf,
    pub(super) state: Mutex<State>,
    /// Wakes the flush thread.
    pub(super) wake: Condvar,
    /// Wakes those who wait in [`Shared::sync`].
    pub(super) settled: Condvar,
    /// The newest stamp that is durable; for those who wait without a thread.
    pub(super) durable: watch::Sender<u64>,
    pub(super) room: watch::Sender<bool>,
    pub(super) shelf: Arc<dyn Shelf>,
}

/// How far the outbox is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The last flush is asked for.
    Closing,
    /// Ends without a flush, as a crash would.
    #[cfg(test)]
    Abandoned,
    Stopped(String),
    Closed,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) lanes: BTreeMap<LaneId, LaneState>,
    names: HashMap<Bytes, LaneId>,
    next_lane: u32,
    settings: BTreeMap<Bytes, Bytes>,
    settings_bytes: usize,
    /// Each with the stamp that is durable when it is. Those of a group have one stamp and go into one commit.
    pending: VecDeque<(u64, Change)>,
    pending_bytes: u64,
    /// Lanes that have something to trim.
    trims: BTreeSet<LaneId>,
    /// The newest stamp given out; the newest out of the queue that is durable; and up to which nothing is left to do.
    asked: u64,
    committed: u64,
    done: u64,
    /// Threads that wait for the next flush: it is not put off for them.
    pub(super) waiting: usize,
    quota_bytes: u64,
    held_bytes: u64,
    added_bytes: u64,
    held_frames: u64,
    room: bool,
    /// The largest append that was refused since there was room.
    refused_bytes: u64,
    pub(super) disk_full: bool,
    pub(super) disk_bytes: u64,
    pub(super) flushes: Flushes,
    cache: Cache,
}

/// One lane.
pub(super) struct LaneState {
    name: Bytes,
    /// Asked.
    life: Life,
    tail: Sequence,
    fresh: bool,
    trim_below: Sequence,
    trim_stamp: u64,
    /// Where this life began.
    begin: Sequence,
    removed: bool,
    /// What its frames count to, if to anything: the lane whose quota it is.
    pub(super) counts_to: Option<LaneId>,
    /// What it may hold, where it has a limit of its own.
    pub(super) quota: Option<LaneQuota>,
    /// Bytes of frames that wait for the disk, those of a former life among them.
    pub(super) pending_bytes: u64,
    /// Held.
    held_life: Life,
    base: Sequence,
    durable: Sequence,
    held: VecDeque<Held>,
    /// Bytes of `held`.
    pub(super) held_bytes: u64,
    /// Whether the lane's number is durable.
    opened: bool,
    extent: watch::Sender<Extent>,
}

/// What the flush thread takes out of the queue.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    pub(super) bytes: u64,
    /// Of each change; 0 for one that did not come from the queue's front.
    stamps: Vec<u64>,
}

impl Shared {
    pub(super) fn new(catalog: Catalog, held: Lanes, shelf: Arc<dyn Shelf>, options: &Options) -> Shared {
        let Options {
            quota_bytes,
            cache_bytes,
            ..
        } = *options;
        Shared {
            path: options.path.clone(),
            state: Mutex::new(State::new(catalog, held, quota_bytes, cache_bytes)),
            wake: Condvar::new(),
            settled: Condvar::new(),
            durable: watch::Sender::new(0),
            room: watch::Sender::new(true),
            shelf,
        }
    }

    /// Asks for something and wakes the flush thread.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.state.lock();
        state.alive()?;
        let asked = ask(&mut state);
        self.say_room(state.room());
        drop(state);
        self.wake.notify_one();
        asked
    }

    /// Waits until everything asked for so far is durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        let stamp = state.asked;
        state.waiting += 1;
        self.wake.notify_one();
        while state.done < stamp && state.alive().is_ok() {
            self.settled.wait(&mut state);
        }
        state.waiting -= 1;
        if state.done >= stamp {
            Ok(())
        } else {
            state.alive()
        }
    }

    /// The stamp of everything asked for so far.
    pub(super) fn stamp(&self) -> u64 {
        self.state.lock().asked
    }

    pub(super) fn say_room(&self, room: bool) {
        self.room
            .send_if_modified(|said| std::mem::replace(said, room) != room);
    }

    /// Ends a phase: wakes everyone who waits.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Stopped(_) | Phase::Closed) {
            return;
        }
        let over = matches!(phase, Phase::Stopped(_) | Phase::Closed);
        state.phase = phase;
        let done = state.done;
        drop(state);
        self.wake.notify_one();
        self.settled.notify_all();
        if over {
            self.say_room(false);
            self.durable.send_replace(done);
        }
    }

    /// What the lane holds from the frame that covers `from`, at least one frame if there is any, and not much more
    /// than `bytes_max`.
    pub(super) fn plan(&self, lane: LaneId, from: Sequence, bytes_max: usize) -> Result<Vec<Planned>, Error> {
        self.state.lock().plan(lane, from, bytes_max)
    }
}

/// A frame that a reader is going to get.
pub(super) struct Planned {
    pub(super) interval: Interval,
    pub(super) frame: FrameRef,
    /// Where it is in memory.
    pub(super) cached: Option<Bytes>,
}

impl State {
    fn new(catalog: Catalog, mut held: Lanes, quota_bytes: u64, cache_bytes: usize) -> State {
        let mut state = State {
            phase: Phase::Open,
            lanes: BTreeMap::new(),
            names: HashMap::new(),
            next_lane: catalog.next_lane,
            settings_bytes: catalog
                .settings
                .iter()
                .map(|(key, value)| key.len() + value.len())
                .sum(),
            settings: catalog.settings,
            pending: VecDeque::new(),
            pending_bytes: 0,
            trims: BTreeSet::new(),
            asked: 0,
            committed: 0,
            done: 0,
            waiting: 0,
            quota_bytes,
            held_bytes: 0,
            added_bytes: 0,
            held_frames: 0,
            room: true,
            refused_bytes: 0,
            disk_full: false,
            disk_bytes: 0,
            flushes: Flushes::default(),
            cache: Cache::new(cache_bytes),
        };
        for (lane, record) in catalog.lanes {
            let held = held.remove(&lane).unwrap_or_default();
            state.names.insert(record.name.clone(), lane);
            let mut found = LaneState::new(record.name, record.life);
            found.held_bytes = held.iter().map(stored_bytes).sum();
            state.held_frames += held.len() as u64;
            state.held_bytes += found.held_bytes;
            found.held = held;
            found.opened = true;
            (found.base, found.durable, found.tail) = (record.base, record.tail, record.tail);
            found.fresh = record.fresh;
            found.extent.send_replace(found.extent());
            state.lanes.insert(lane, found);
        }
        state
    }

    pub(super) fn alive(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Stopped(why) => Err(Error::Stopped(why.clone())),
            _ => Err(Error::Closed),
        }
    }

    pub(super) fn lane(&self, lane: LaneId) -> Result<&LaneState, Error> {
        self.lanes.get(&lane).ok_or(Error::Removed)
    }

    pub(super) fn lane_mut(&mut self, lane: LaneId) -> Result<&mut LaneState, Error> {
        self.lanes.get_mut(&lane).ok_or(Error::Removed)
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            held_bytes: self.held_bytes,
            added_bytes: self.added_bytes,
            held_frames: self.held_frames,
            pending_bytes: self.pending_bytes,
            quota_bytes: self.quota_bytes,
            disk_bytes: self.disk_bytes,
            lanes: self.lanes.len() as u64,
            disk_full: self.disk_full,
            flushes: self.flushes,
        }
    }

    /// Whether appends are welcome. No: one was refused, or nothing fits. Yes again: what was refused would fit, and
    /// a tenth of the quota and half of the queue are free. In between: as before.
    pub(super) fn room(&mut self) -> bool {
        let used = self.held_bytes + self.pending_bytes;
        let quota = self.quota_bytes;
        if self.disk_full || used >= quota || self.pending_bytes >= PENDING_BYTES_MAX {
            self.room = false;
        } else if !self.room {
            let quota_free = used + self.refused_bytes <= quota && used <= quota - quota / 10;
            self.room = quota_free && self.pending_bytes <= PENDING_BYTES_MAX / 2;
        }
        if self.room {
            self.refused_bytes = 0;
        }
        self.room
    }

    fn push(&mut self, change: Change) {
        self.asked += 1;
        self.pending_bytes += change.bytes();
        self.pending.push_back((self.asked, change));
    }
}

/// What callers ask for.
impl State {
    /// The lane of this name, made if there is none.
    pub(super) fn open_lane(&mut self, name: &[u8]) -> Result<LaneId, Error> {
        if let Some(lane) = self.names.get(name) {
            return Ok(*lane);
        }
        let (size, max) = (self.lanes.len(), super::LANES_MAX);
        if size >= max {
            return Err(Error::TooLarge {
                what: "number of lanes",
                size: size + 1,
                max,
            });
        }
        let next = self.next_lane.checked_add(1).ok_or(Error::TooLarge {
            what: "lane number",
            size,
            max,
        })?;
        let lane = LaneId(self.next_lane);
        self.next_lane = next;
        let name = Bytes::copy_from_slice(name);
        self.names.insert(name.clone(), lane);
        self.lanes
            .insert(lane, LaneState::new(name.clone(), Life::default()));
        self.push(Change::Open { lane, name });
        Ok(lane)
    }

    pub(super) fn remove_lane(&mut self, lane: LaneId) -> Result<(), Error> {
        let removed = self.lanes.get_mut(&lane).ok_or(Error::Removed)?;
        let name = removed.name.clone();
        self.drop_pending_frames(lane);
        self.cache.clear(lane);
        self.names.remove(&name);
        self.trims.remove(&lane);
        // The held view keeps it until the removal is durable; nobody finds it by name any more.
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.removed = true;
        }
        self.push(Change::Remove { lane });
        self.settle_quota(lane);
        Ok(())
    }

    pub(super) fn append(&mut self, lane: LaneId, interval: Interval, frame: Bytes) -> Result<(), Error> {
        let state = self.lane(lane)?;
        if state.removed {
            return Err(Error::Removed);
        }
        check_place(state.tail, state.fresh, interval)?;
        let bytes = frame.len() as u64 + HEADER_BYTES as u64;
        self.check_quotas([(lane, bytes)])?;
        self.check_room(bytes)?;
        self.put_frame(lane, interval, frame)
    }

    /// Appends what was checked.
    fn put_frame(&mut self, lane: LaneId, interval: Interval, frame: Bytes) -> Result<(), Error> {
        if interval.from != self.lane(lane)?.tail {
            // Nothing was appended yet: the lane begins where its first frame does.
            self.restart(lane, interval.from)?;
        }
        let state = self.lane_mut(lane)?;
        state.tail = interval.to;
        state.fresh = false;
        let life = state.life;
        self.cache.insert(lane, interval.from, frame.clone());
        let change = Change::Frame {
            lane,
            life,
            interval,
            frame,
        };
        self.lane_mut(lane)?.pending_bytes += change.bytes();
        self.push(change);
        self.settle_quota(lane);
        Ok(())
    }

    /// All steps of the group or none.
    pub(super) fn together(&mut self, group: Group) -> Result<(), Error> {
        self.check_group(&group)?;
        let asked_before = self.asked;
        for step in group.steps {
            match step {
                Step::Append {
                    lane,
                    interval,
                    frame,
                } => self.put_frame(lane, interval, frame)?,
                Step::Put { key, value } => self.put(&key, &value)?,
                Step::Delete { key } => self.delete(&key),
            }
        }
        let stamp = self.asked;
        let ours = self.pending.iter_mut().rev();
        for (of, _) in ours.take_while(|(of, _)| *of > asked_before) {
            *of = stamp;
        }
        Ok(())
    }

    /// Everything that a step could fail at, so that none does half-way.
    fn check_group(&mut self, group: &Group) -> Result<(), Error> {
        let mut tails: BTreeMap<LaneId, (Sequence, bool)> = BTreeMap::new();
        let mut appends: Vec<(LaneId, u64)> = Vec::new();
        let mut settings_bytes = self.settings_bytes;
        for step in &group.steps {
            match step {
                Step::Append {
                    lane,
                    interval,
                    frame,
                } => {
                    let state = self.lane(*lane)?;
                    let (tail, fresh) = *tails.entry(*lane).or_insert((state.tail, state.fresh));
                    if state.removed {
                        return Err(Error::Removed);
                    }
                    check_place(tail, fresh, *interval)?;
                    tails.insert(*lane, (interval.to, false));
                    appends.push((*lane, frame.len() as u64 + HEADER_BYTES as u64));
                }
                Step::Put { key, value } => settings_bytes += key.len() + value.len(),
                Step::Delete { .. } => {}
            }
        }
        if settings_bytes > SETTINGS_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "all settings together",
                size: settings_bytes,
                max: SETTINGS_BYTES_MAX,
            });
        }
        if appends.is_empty() {
            return Ok(());
        }
        let all = appends.iter().map(|(_, bytes)| bytes).sum();
        self.check_quotas(appends)?;
        self.check_room(all)
    }

    fn check_room(&mut self, bytes: u64) -> Result<(), Error> {
        let (pending_bytes, quota_bytes) = (self.pending_bytes, self.quota_bytes);
        if bytes > quota_bytes {
            let size = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
            return Err(Error::TooLarge {
                what: "frame for the quota",
                size: size(bytes),
                max: size(quota_bytes),
            });
        }
        let full = if self.disk_full {
            Full::Disk
        } else if self.held_bytes + pending_bytes + bytes > quota_bytes {
            Full::Quota { quota_bytes }
        } else if pending_bytes > 0 && pending_bytes + bytes > PENDING_BYTES_MAX {
            // With nothing pending one frame may wait, whatever its size.
            Full::Pending { pending_bytes }
        } else {
            return Ok(());
        };
        self.room = false;
        self.refused_bytes = self.refused_bytes.max(bytes);
        Err(Error::Full(full))
    }

    pub(super) fn trim(&mut self, lane: LaneId, below: Sequence) -> Result<(), Error> {
        let stamp = self.asked + 1;
        let state = self.lane_mut(lane)?;
        if below > state.trim_below {
            state.trim_below = below;
            state.trim_stamp = stamp;
            self.trims.insert(lane);
            self.asked = stamp;
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, lane: LaneId, at: Sequence) -> Result<(), Error> {
        if self.lane(lane)?.removed {
            return Err(Error::Removed);
        }
        self.drop_pending_frames(lane);
        self.cache.clear(lane);
        self.trims.remove(&lane);
        let state = self.lane_mut(lane)?;
        let life = state.life.0.checked_add(1).ok_or(Error::TooLarge {
            what: "number of restarts",
            size: u32::MAX as usize,
            max: u32::MAX as usize,
        })?;
        state.life = Life(life);
        (state.tail, state.begin, state.fresh, state.trim_below) = (at, at, true, Sequence::ZERO);
        let life = state.life;
        state.extent.send_replace(state.extent());
        self.push(Change::Restart { lane, life, at });
        self.settle_quota(lane);
        Ok(())
    }

    fn drop_pending_frames(&mut self, lane: LaneId) {
        let mut dropped = 0;
        self.pending.retain(|(_, change)| {
            let drop = matches!(change, Change::Frame { lane: of, .. } if *of == lane);
            dropped += if drop { change.bytes() } else { 0 };
            !drop
        });
        self.pending_bytes -= dropped;
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.pending_bytes -= dropped;
        }
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let old = self.settings.get(key).map_or(0, |old| key.len() + old.len());
        let size = self.settings_bytes - old + key.len() + value.len();
        if size > SETTINGS_BYTES_MAX {
            return Err(Error::TooLarge {
                what: "all settings together",
                size,
                max: SETTINGS_BYTES_MAX,
            });
        }
        self.settings_bytes = size;
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        self.settings.insert(key.clone(), value.clone());
        self.push(Change::Put { key, value });
        Ok(())
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        if let Some((key, value)) = self.settings.remove_entry(key) {
            self.settings_bytes -= key.len() + value.len();
            self.push(Change::Delete { key });
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.settings.get(key).cloned()
    }

    pub(super) fn scan(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.settings
            .range(Bytes::copy_from_slice(prefix)..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    pub(super) fn known_lanes(&self) -> Vec<(Bytes, LaneId)> {
        self.names
            .iter()
            .map(|(name, lane)| (name.clone(), *lane))
            .collect()
    }

    fn plan(&self, lane: LaneId, from: Sequence, bytes_max: usize) -> Result<Vec<Planned>, Error> {
        self.alive_for_reading()?;
        let state = self.lane(lane)?;
        let Extent { base, durable, .. } = state.extent();
        if from < base {
            return Err(Error::Trimmed { from, base });
        }
        if from >= durable {
            return Ok(Vec::new());
        }
        let first = state
            .held
            .partition_point(|held| held.from <= from)
            .saturating_sub(1);
        let mut planned = Vec::new();
        let mut bytes = 0usize;
        for at in first..state.held.len() {
            let held = state.held[at];
            bytes = bytes.saturating_add(held.bytes as usize);
            if !planned.is_empty() && bytes > bytes_max {
                break;
            }
            let interval = Interval::new(held.from, state.end_of(at));
            let frame = FrameRef {
                lane,
                life: state.held_life,
                held,
            };
            planned.push(Planned {
                interval,
                frame,
                cached: self.cache.get(lane, held.from),
            });
        }
        Ok(planned)
    }

    fn alive_for_reading(&self) -> Result<(), Error> {
        match &self.phase {
            // What is held can be sent on while the last flush is under way.
            Phase::Closing => Ok(()),
            _ => self.alive(),
        }
    }
}

/// What the flush thread does.
impl State {
    /// Whether there is anything to flush.
    pub(super) fn has_work(&self) -> bool {
        !self.pending.is_empty() || !self.trims.is_empty()
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    /// The next commit: trims first, then the queue's front.
    pub(super) fn take_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.take_trims(&mut batch);
        let trims = batch.changes.len();
        while let Some((stamp, change)) = self.pending.pop_front() {
            let full = batch.bytes + change.bytes() > COMMIT_BYTES_MAX
                || batch.changes.len() - trims >= COMMIT_CHANGES_MAX;
            let begun = batch.stamps[trims..].last() == Some(&stamp);
            if full && !begun && batch.changes.len() > trims {
                self.pending.push_front((stamp, change));
                break;
            }
            batch.push(stamp, change);
        }
        batch
    }

    /// What frees space and adds no frame; it goes ahead of everything else when the disk is full (L2).
    pub(super) fn take_freeing(&mut self) -> Batch {
        let mut batch = Batch::default();
        self.take_trims(&mut batch);
        // A lane whose number is not durable yet has nothing to free, and its opening comes first.
        let lanes = &self.lanes;
        let opened = |lane: &LaneId| lanes.get(lane).is_some_and(|lane| lane.opened);
        let mut frees = Vec::new();
        self.pending.retain(|(_, change)| match change {
            Change::Restart { lane, .. } | Change::Remove { lane } if opened(lane) => {
                frees.push(change.clone());
                false
            }
            _ => true,
        });
        for change in frees {
            batch.push(0, change);
        }
        batch
    }

    /// Puts back what could not be committed.
    pub(super) fn put_back(&mut self, batch: Batch) {
        for (change, stamp) in batch.changes.into_iter().zip(batch.stamps).rev() {
            if let Change::Trim { lane, .. } = change {
                self.trims.insert(lane);
                continue;
            }
            // A restart or removal that came meanwhile has no use for the lane's frames.
            if let Change::Frame { lane, life, .. } = &change
                && self
                    .lanes
                    .get(lane)
                    .is_none_or(|state| state.life != *life || state.removed)
            {
                self.pending_bytes -= change.bytes();
                if let Some(state) = self.lanes.get_mut(lane) {
                    state.pending_bytes -= change.bytes();
                }
                self.settle_quota(*lane);
                continue;
            }
            self.pending.push_front((stamp, change));
        }
    }

    /// Turns trims that were asked for into changes: a lane can begin only where a durable frame does, or at the
    /// end of what is durable.
    fn take_trims(&mut self, batch: &mut Batch) {
        for lane in std::mem::take(&mut self.trims) {
            let Some(state) = self.lanes.get(&lane) else {
                continue;
            };
            if state.life != state.held_life {
                // Not of this life's frames yet: it is looked at again when they are durable.
                continue;
            }
            let base = state.base_below(state.trim_below);
            if base > state.base {
                batch.push(0, Change::Trim { lane, base });
            }
        }
    }

    /// Moves the held view: these changes are durable, their frames lie at `places`. Returns what is freed by it.
    pub(super) fn committed(&mut self, batch: &Batch, places: Vec<Place>) -> Vec<FrameRef> {
        let mut freed = Vec::new();
        let mut touched = BTreeSet::new();
        let mut places = places.into_iter();
        for change in &batch.changes {
            match change {
                Change::Open { lane, .. } => {
                    if let Some(state) = self.lanes.get_mut(lane) {
                        state.opened = true;
                    }
                }
                Change::Frame {
                    lane,
                    interval,
                    frame,
                    ..
                } => {
                    let place = places.next().unwrap_or_default();
                    let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
                    let held = Held {
                        from: interval.from,
                        bytes,
                        place,
                    };
                    self.held_frames += 1;
                    self.held_bytes += stored_bytes(&held);
                    self.added_bytes += stored_bytes(&held);
                    if let Some(state) = self.lanes.get_mut(lane) {
                        state.held.push_back(held);
                        state.held_bytes += stored_bytes(&held);
                        state.pending_bytes -= change.bytes();
                        state.durable = interval.to;
                        if state.trim_below >= interval.to && state.life == state.held_life {
                            self.trims.insert(*lane);
                        }
                    }
                    touched.insert(*lane);
                }
                Change::Trim { lane, base } => {
                    self.cache.trim(*lane, *base);
                    self.free(*lane, *base, &mut freed);
                    touched.insert(*lane);
                }
                Change::Restart { lane, life, at } => {
                    self.free(*lane, Sequence(u64::MAX), &mut freed);
                    if let Some(state) = self.lanes.get_mut(lane) {
                        (state.held_life, state.base, state.durable) = (*life, *at, *at);
                    }
                    touched.insert(*lane);
                }
                Change::Remove { lane } => {
                    self.free(*lane, Sequence(u64::MAX), &mut freed);
                    let removed = self.lanes.remove(lane);
                    touched.extend(removed.and_then(|removed| removed.counts_to));
                }
                Change::Put { .. } | Change::Delete { .. } => {}
            }
        }
        let queued = batch
            .changes
            .iter()
            .filter(|change| !matches!(change, Change::Trim { .. }));
        self.pending_bytes -= queued.map(Change::bytes).sum::<u64>();
        let newest = batch.stamps.iter().copied().max().unwrap_or(0);
        self.committed = self.committed.max(newest);
        self.settle();
        for lane in touched {
            self.settle_quota(lane);
            if let Some(state) = self.lanes.get(&lane) {
                state.extent.send_if_modified(|said| {
                    let now = state.extent();
                    std::mem::replace(said, now) != now
                });
            }
        }
        freed
    }

    /// Takes frames that begin before `base` out of the held view.
    fn free(&mut self, lane: LaneId, base: Sequence, freed: &mut Vec<FrameRef>) {
        let Some(state) = self.lanes.get_mut(&lane) else {
            return;
        };
        while state.held.front().is_some_and(|held| held.from < base) {
            if let Some(held) = state.held.pop_front() {
                freed.push(FrameRef {
                    lane,
                    life: state.held_life,
                    held,
                });
                state.held_bytes -= stored_bytes(&held);
                self.held_bytes -= stored_bytes(&held);
                self.held_frames -= 1;
            }
        }
        if state.held.is_empty() {
            state.held.shrink_to_fit();
        }
        state.base = base;
    }

    /// Finds out up to which stamp nothing is left to do. Trims that wait for their frames hold it back; with nothing
    /// left at all, what came to nothing is done too.
    pub(super) fn settle(&mut self) {
        let waiting = self
            .trims
            .iter()
            .filter_map(|lane| self.lanes.get(lane))
            .map(|lane| lane.trim_stamp - 1)
            .min();
        let done = if self.has_work() {
            self.committed.min(waiting.unwrap_or(u64::MAX))
        } else {
            self.asked
        };
        self.done = self.done.max(done);
    }

    pub(super) fn done(&self) -> u64 {
        self.done
    }
}

impl Batch {
    fn push(&mut self, stamp: u64, change: Change) {
        self.bytes += change.bytes();
        self.changes.push(change);
        self.stamps.push(stamp);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl LaneState {
    fn new(name: Bytes, life: Life) -> LaneState {
        LaneState {
            name,
            life,
            tail: Sequence::ZERO,
            fresh: true,
            trim_below: Sequence::ZERO,
            trim_stamp: 0,
            begin: Sequence::ZERO,
            removed: false,
            counts_to: None,
            quota: None,
            pending_bytes: 0,
            held_life: life,
            base: Sequence::ZERO,
            durable: Sequence::ZERO,
            held: VecDeque::new(),
            held_bytes: 0,
            opened: false,
            extent: watch::Sender::new(Extent::default()),
        }
    }

    /// What callers see.
    pub(super) fn extent(&self) -> Extent {
        if self.life == self.held_life {
            return Extent {
                base: self.base,
                durable: self.durable,
                tail: self.tail,
            };
        }
        // Restarted, and the restart is not durable yet: nothing is held.
        Extent {
            base: self.begin,
            durable: self.begin,
            tail: self.tail,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Extent> {
        self.extent.subscribe()
    }

    fn end_of(&self, at: usize) -> Sequence {
        self.held.get(at + 1).map_or(self.durable, |next| next.from)
    }

    /// Where the lane begins when every frame that ends at or below `below` is freed.
    fn base_below(&self, below: Sequence) -> Sequence {
        if below >= self.durable {
            return self.durable;
        }
        match self.held.partition_point(|held| held.from <= below) {
            0 => self.base,
            after => self.held[after - 1].from.max(self.base),
        }
    }
}

/// Whether a frame of this interval can follow.
fn check_place(tail: Sequence, fresh: bool, interval: Interval) -> Result<(), Error> {
    let from = interval.from;
    if interval.is_empty() {
        Err(Error::Empty { at: from })
    } else if from != tail && !fresh {
        Err(Error::Gap { tail, from })
    } else {
        Ok(())
    }
}

fn stored_bytes(held: &Held) -> u64 {
    u64::from(held.bytes) + HEADER_BYTES as u64
}

impl Index for Shared {
    fn holds(&self, frame: FrameRef) -> bool {
        let state = self.state.lock();
        state
            .lanes
            .get(&frame.lane)
            .is_some_and(|lane| lane.find(frame).is_some())
    }

    fn moved(&self, frame: FrameRef, to: Place) -> bool {
        let mut state = self.state.lock();
        let Some(lane) = state.lanes.get_mut(&frame.lane) else {
            return false;
        };
        let Some(at) = lane.find(frame) else { return false };
        lane.held[at].place = to;
        true
    }

    fn live_bytes(&self) -> u64 {
        self.state.lock().held_bytes
    }

    fn lanes(&self) -> Vec<(LaneId, Life, Sequence)> {
        let state = self.state.lock();
        state
            .lanes
            .iter()
            .map(|(lane, state)| (*lane, state.held_life, state.base))
            .collect()
    }

    fn frames(&self, lane: LaneId, life: Life, from: Sequence, count: usize) -> Vec<FrameRef> {
        let state = self.state.lock();
        let Some(found) = state.lanes.get(&lane).filter(|found| found.held_life == life) else {
            return Vec::new();
        };
        let first = found.held.partition_point(|held| held.from < from);
        found
            .held
            .range(first..)
            .take(count)
            .map(|held| FrameRef {
                lane,
                life,
                held: *held,
            })
            .collect()
    }
}

impl LaneState {
    fn find(&self, frame: FrameRef) -> Option<usize> {
        let at = self.held.partition_point(|held| held.from < frame.held.from);
        let same = self.held_life == frame.life && self.held.get(at) == Some(&frame.held);
        same.then_some(at)
    }
}
