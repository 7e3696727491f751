//! What can happen to an outbox, and the small state that follows from it.

use super::engine::Place;
use bytes::Bytes;
use culvert_proto::{Interval, Sequence};
use std::collections::BTreeMap;

/// The number a lane has on disk. Never used again for another lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(pub(super) u32);

/// How often a lane was restarted. Frames of an earlier life are garbage wherever they are found, so that the same
/// places may be appended again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Life(pub(super) u32);

/// One act. Engines make them durable in the order they are given.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A lane gets its number.
    Open { lane: LaneId, name: Bytes },
    /// A frame at the tail of its lane.
    Frame {
        lane: LaneId,
        life: Life,
        interval: Interval,
        frame: Bytes,
    },
    /// The lane begins at `base` now; `base` is the begin of a frame or the lane's tail.
    Trim { lane: LaneId, base: Sequence },
    /// The lane is empty at `at`, in a new life.
    Restart { lane: LaneId, life: Life, at: Sequence },
    /// The lane is forgotten.
    Remove { lane: LaneId },
    /// A setting gets a value.
    Put { key: Bytes, value: Bytes },
    /// A setting is forgotten.
    Delete { key: Bytes },
}

impl Change {
    /// The lane that it is about.
    pub(super) fn lane(&self) -> Option<LaneId> {
        match self {
            Change::Open { lane, .. }
            | Change::Frame { lane, .. }
            | Change::Trim { lane, .. }
            | Change::Restart { lane, .. }
            | Change::Remove { lane } => Some(*lane),
            Change::Put { .. } | Change::Delete { .. } => None,
        }
    }

    /// About how many bytes it takes on disk.
    pub(super) fn bytes(&self) -> u64 {
        let payload = match self {
            Change::Frame { frame, .. } => frame.len(),
            Change::Put { key, value } => key.len() + value.len(),
            Change::Open { name, .. } => name.len(),
            Change::Delete { key } => key.len(),
            Change::Trim { .. } | Change::Restart { .. } | Change::Remove { .. } => 0,
        };
        payload as u64 + super::entry::HEADER_BYTES as u64
    }
}

/// What an engine knows of a lane besides its frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneRecord {
    pub(super) name: Bytes,
    pub(super) life: Life,
    pub(super) base: Sequence,
    pub(super) tail: Sequence,
    /// Nothing was appended in this life yet.
    pub(super) fresh: bool,
}

/// All that an outbox holds besides its frames; small enough to be kept in memory and written out whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    pub(super) lanes: BTreeMap<LaneId, LaneRecord>,
    pub(super) settings: BTreeMap<Bytes, Bytes>,
    /// The number the next lane gets.
    pub(super) next_lane: u32,
}

impl Catalog {
    /// What follows from `change`.
    ///
    /// # Errors
    /// Says what is impossible about it; then the store it was read from is damaged.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), &'static str> {
        match change {
            Change::Open { lane, name } => {
                let (life, place) = (Life::default(), Sequence::ZERO);
                let record = LaneRecord {
                    name: name.clone(),
                    life,
                    base: place,
                    tail: place,
                    fresh: true,
                };
                self.next_lane = self.next_lane.max(lane.0.saturating_add(1));
                match self.lanes.insert(*lane, record) {
                    None => Ok(()),
                    Some(_) => Err("a lane is opened twice"),
                }
            }
            Change::Frame {
                lane, life, interval, ..
            } => {
                let record = self.lane(*lane)?;
                if record.life != *life || record.tail != interval.from {
                    return Err("a frame does not continue its lane");
                }
                record.tail = interval.to;
                record.fresh = false;
                Ok(())
            }
            Change::Trim { lane, base } => {
                let record = self.lane(*lane)?;
                if *base < record.base || record.tail < *base {
                    return Err("a lane is trimmed outside of what it holds");
                }
                record.base = *base;
                Ok(())
            }
            Change::Restart { lane, life, at } => {
                let record = self.lane(*lane)?;
                *record = LaneRecord {
                    name: record.name.clone(),
                    life: *life,
                    base: *at,
                    tail: *at,
                    fresh: true,
                };
                Ok(())
            }
            Change::Remove { lane } => match self.lanes.remove(lane) {
                Some(_) => Ok(()),
                None => Err("a lane is removed that does not exist"),
            },
            Change::Put { key, value } => {
                self.settings.insert(key.clone(), value.clone());
                Ok(())
            }
            Change::Delete { key } => {
                self.settings.remove(key);
                Ok(())
            }
        }
    }

    fn lane(&mut self, lane: LaneId) -> Result<&mut LaneRecord, &'static str> {
        self.lanes
            .get_mut(&lane)
            .ok_or("a lane is used that does not exist")
    }
}

/// A durable frame of a lane. Its end is the begin of the next, or the end of what is durable. 24 bytes: a backlog
/// of a million frames costs 24 MB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) from: Sequence,
    pub(super) bytes: u32,
    pub(super) place: Place,
}
