//! What one lane may hold, beside what all of them may hold together.
//!
//! - A quota is a lane's own. Frames of other lanes may count to it: a stream's dead letters lie in a lane of their own.
//! - Frames count from their append until they are freed.
//! - At its quota a lane refuses ([`Error::AtQuota`]) and the outbox as a whole takes no note of it: other lanes go on.
//! - Where nothing is held, one append of any size is taken. A frame that is larger than the quota does not stand in the way
//!   of its lane for ever.
//! - A quota is not stored. Who opens a lane says what it may hold, and more than that may be there already.

use super::change::LaneId;
use super::error::Error;
use super::state::State;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// A look at the quota of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaUse {
    /// Bytes of frames that count to it, those among them that wait for the disk.
    pub used_bytes: u64,
    /// The most that there may be.
    pub quota_bytes: u64,
    /// Whether appends are welcome: false once one was refused, or nothing fits; true again when that one would fit and a
    /// tenth is free.
    pub has_room: bool,
}

/// The quota of a lane.
pub(super) struct LaneQuota {
    bytes: u64,
    /// The lanes whose frames count, its own among them.
    lanes: Vec<LaneId>,
    /// The largest append that was refused since there was room.
    refused_bytes: u64,
    room: watch::Sender<bool>,
}

impl LaneQuota {
    /// Says whether there is room, now that so much is used.
    fn settle(&mut self, used: u64) {
        let had_room = *self.room.borrow();
        let has_room = if used >= self.bytes {
            false
        } else if had_room {
            true
        } else {
            let fits = used + self.refused_bytes <= self.bytes;
            used == 0 || (fits && used <= self.bytes - self.bytes / 10)
        };
        if has_room {
            self.refused_bytes = 0;
        }
        self.say(has_room);
    }

    fn say(&self, room: bool) {
        self.room
            .send_if_modified(|said| std::mem::replace(said, room) != room);
    }
}

impl State {
    /// The lane and those beside it hold at most `bytes` from now on; `None`: what the outbox has room for.
    pub(super) fn set_quota(
        &mut self,
        lane: LaneId,
        bytes: Option<u64>,
        beside: &[LaneId],
    ) -> Result<(), Error> {
        let former = self.lane_mut(lane)?.quota.take();
        for counted in former.iter().flat_map(|quota| &quota.lanes) {
            if let Ok(counted) = self.lane_mut(*counted) {
                counted.counts_to = None;
            }
        }
        // Who waits for room by the former quota goes on by this one.
        let room = former.map_or_else(|| watch::Sender::new(true), |quota| quota.room);
        let Some(bytes) = bytes else {
            room.send_replace(true);
            return Ok(());
        };
        let lanes: Vec<LaneId> = std::iter::once(lane).chain(beside.iter().copied()).collect();
        for counted in &lanes {
            self.lane_mut(*counted)?.counts_to = Some(lane);
        }
        self.lane_mut(lane)?.quota = Some(LaneQuota {
            bytes: bytes.max(1),
            lanes,
            refused_bytes: 0,
            room,
        });
        self.settle_quota(lane);
        Ok(())
    }

    pub(super) fn quota_use(&self, lane: LaneId) -> Option<QuotaUse> {
        let quota = self.lane(lane).ok()?.quota.as_ref()?;
        Some(QuotaUse {
            used_bytes: self.used(quota),
            quota_bytes: quota.bytes,
            has_room: *quota.room.borrow(),
        })
    }

    /// Follows whether the lane's quota has room. Without a quota it always has.
    pub(super) fn quota_room(&self, lane: LaneId) -> watch::Receiver<bool> {
        let quota = self.lane(lane).ok().and_then(|lane| lane.quota.as_ref());
        quota.map_or_else(
            || watch::Sender::new(true).subscribe(),
            |quota| quota.room.subscribe(),
        )
    }

    /// Whether the quotas have room for all that is to be appended, by lane.
    pub(super) fn check_quotas(
        &mut self,
        appends: impl IntoIterator<Item = (LaneId, u64)>,
    ) -> Result<(), Error> {
        let mut wanted: BTreeMap<LaneId, u64> = BTreeMap::new();
        for (lane, bytes) in appends {
            if let Some(owner) = self.lane(lane)?.counts_to {
                *wanted.entry(owner).or_default() += bytes;
            }
        }
        // Each is looked at: who waits for one of them must not be woken by a trim of another.
        let mut outcome = Ok(());
        for (owner, bytes) in wanted {
            let checked = self.check_quota(owner, bytes);
            outcome = outcome.and(checked);
        }
        outcome
    }

    fn check_quota(&mut self, owner: LaneId, bytes: u64) -> Result<(), Error> {
        let Some(quota) = self.lane(owner)?.quota.as_ref() else {
            return Ok(());
        };
        let (used_bytes, quota_bytes) = (self.used(quota), quota.bytes);
        if used_bytes == 0 || used_bytes + bytes <= quota_bytes {
            return Ok(());
        }
        if let Some(quota) = &mut self.lane_mut(owner)?.quota {
            quota.refused_bytes = quota.refused_bytes.max(bytes);
            quota.say(false);
        }
        Err(Error::AtQuota {
            used_bytes,
            quota_bytes,
        })
    }

    /// What counts to the quota of this lane has changed.
    pub(super) fn settle_quota(&mut self, lane: LaneId) {
        let Some(owner) = self.lane(lane).ok().and_then(|lane| lane.counts_to) else {
            return;
        };
        let quota = self.lane(owner).ok().and_then(|lane| lane.quota.as_ref());
        let Some(used) = quota.map(|quota| self.used(quota)) else {
            return;
        };
        if let Ok(owner) = self.lane_mut(owner)
            && let Some(quota) = &mut owner.quota
        {
            quota.settle(used);
        }
    }

    fn used(&self, quota: &LaneQuota) -> u64 {
        let lanes = quota.lanes.iter().filter_map(|lane| self.lane(*lane).ok());
        lanes.map(|lane| lane.held_bytes + lane.pending_bytes).sum()
    }
}
