//! One queue of frames.

use super::change::LaneId;
use super::error::Error;
use super::quota::QuotaUse;
use super::state::Planned;
use super::{Handle, LANE_BYTES_MAX, check_size};
use bytes::Bytes;
use culvert_proto::{Interval, Sequence, limits};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// How far a lane reaches: `base <= durable <= tail`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The first place still held; everything below was freed.
    pub base: Sequence,
    /// The end of what is on disk. Only this much may be sent or acknowledged.
    pub durable: Sequence,
    /// The end of what was appended.
    pub tail: Sequence,
}

/// A queue of frames without gaps, named when it was made. Cheap to clone.
///
/// Frames are opaque bytes; the outbox keeps the interval of each beside it. No call waits for the disk except
/// [`Lane::read`].
#[derive(Clone)]
pub struct Lane {
    handle: Arc<Handle>,
    id: LaneId,
}

impl Lane {
    pub(super) fn new(handle: Arc<Handle>, id: LaneId) -> Lane {
        Lane { handle, id }
    }

    pub(super) fn id(&self) -> LaneId {
        self.id
    }

    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Puts a frame at the tail. It is durable when [`Extent::durable`] reaches its end, in this order with
    /// everything else that was asked of the outbox.
    ///
    /// A lane to which nothing was appended since it was made or restarted begins where its first frame begins.
    ///
    /// # Errors
    /// Nothing is changed by any of them: [`Error::Gap`] when the frame does not begin at the tail,
    /// [`Error::Empty`], [`Error::AtQuota`], [`Error::Full`], [`Error::TooLarge`], [`Error::Removed`],
    /// [`Error::Stopped`], [`Error::Closed`].
    pub fn append(&self, interval: Interval, frame: Bytes) -> Result<(), Error> {
        check_size("frame", &frame, limits::FRAME_BYTES_MAX)?;
        self.handle
            .shared
            .ask(|state| state.append(self.id, interval, frame))
    }

    /// How far it reaches now. Of a lane that was removed: nothing, at zero.
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.handle
            .shared
            .state
            .lock()
            .lane(self.id)
            .map_or_else(|_| Extent::default(), |lane| lane.extent())
    }

    /// Bytes of the durable frames it holds.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        let state = self.handle.shared.state.lock();
        state.lane(self.id).map_or(0, |lane| lane.held_bytes)
    }

    /// From now on this lane and those `beside` it, of the same outbox, hold at most so much together: beyond it appends to
    /// any of them are refused. `None`: as much as the outbox has room for. Not stored: to be said in each life.
    ///
    /// # Errors
    /// [`Error::Removed`], [`Error::Stopped`], [`Error::Closed`].
    pub fn set_quota(&self, bytes: Option<u64>, beside: &[&Lane]) -> Result<(), Error> {
        debug_assert!(
            beside.iter().all(|lane| Arc::ptr_eq(&self.handle, &lane.handle)),
            "a lane of another outbox"
        );
        let beside: Vec<LaneId> = beside.iter().map(|lane| lane.id).collect();
        self.handle
            .shared
            .ask(|state| state.set_quota(self.id, bytes, &beside))
    }

    /// How much of its quota is used; nothing where it has none.
    #[must_use]
    pub fn quota_use(&self) -> Option<QuotaUse> {
        self.handle.shared.state.lock().quota_use(self.id)
    }

    /// Follows whether its present quota has room ([`QuotaUse::has_room`]); without one it always has.
    #[must_use]
    pub fn quota_room(&self) -> watch::Receiver<bool> {
        self.handle.shared.state.lock().quota_room(self.id)
    }

    /// Follows the extent: it changes after each flush, trim and restart. The channel closes when the lane is
    /// removed; see [`super::Outbox::synced`] for the end of the outbox.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Extent> {
        let state = self.handle.shared.state.lock();
        state.lane(self.id).map_or_else(
            |_| watch::Sender::new(Extent::default()).subscribe(),
            |lane| lane.watch(),
        )
    }

    /// Frames in order, beginning with the one that covers `from`: at least one if there is any durable one, and no
    /// more than `bytes_max` beyond it. Empty at or behind the end of what is durable. Recent frames come from
    /// memory, others from disk; each is checked.
    ///
    /// Blocks while the disk is read.
    ///
    /// # Errors
    /// [`Error::Trimmed`] below the base, [`Error::Damaged`], [`Error::Io`], [`Error::Removed`],
    /// [`Error::Stopped`], [`Error::Closed`].
    pub fn read(&self, from: Sequence, bytes_max: usize) -> Result<Vec<(Interval, Bytes)>, Error> {
        let shared = &self.handle.shared;
        let mut missing = None;
        loop {
            let plan = shared.plan(self.id, from, bytes_max)?;
            let first = plan.first().map(|planned| planned.frame);
            let frames = self.fetch(plan)?;
            if !frames.is_empty() || first.is_none() {
                return Ok(frames);
            }
            // The first frame was freed or moved after it was planned: plan again. Twice the same answer means that
            // it is held and yet not there.
            if std::mem::replace(&mut missing, first) == first {
                let what = format!("lane {}: the frame at {from} is missing", self.id.0);
                return Err(Error::Damaged {
                    path: shared.path.clone(),
                    what,
                });
            }
        }
    }

    /// Gets what was planned, up to the first frame that is not there any more.
    fn fetch(&self, plan: Vec<Planned>) -> Result<Vec<(Interval, Bytes)>, Error> {
        let mut frames = Vec::with_capacity(plan.len());
        for planned in plan {
            let frame = match planned.cached {
                Some(frame) => Some(frame),
                None => self.handle.shared.shelf.read(planned.frame)?,
            };
            let Some(frame) = frame else { break };
            frames.push((planned.interval, frame));
        }
        Ok(frames)
    }

    /// Frees the frames that end at or below `below`, now or as soon as they are durable. The lane remembers its
    /// tail when all are gone. Takes effect with the next flush; needs no free disk.
    ///
    /// # Errors
    /// [`Error::Removed`], [`Error::Stopped`], [`Error::Closed`].
    pub fn trim(&self, below: Sequence) -> Result<(), Error> {
        self.handle.shared.ask(|state| state.trim(self.id, below))
    }

    /// Drops all frames: the lane is empty at `at`. Durable before anything that is appended later is.
    ///
    /// # Errors
    /// [`Error::Removed`], [`Error::Stopped`], [`Error::Closed`].
    pub fn restart(&self, at: Sequence) -> Result<(), Error> {
        self.handle.shared.ask(|state| state.restart(self.id, at))
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({}, {:?})", self.id.0, self.extent())
    }
}

/// Whether `name` can name a lane.
pub(super) fn check_name(name: &[u8]) -> Result<(), Error> {
    check_size("name of a lane", name, LANE_BYTES_MAX)
}
