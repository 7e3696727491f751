//! What a sink holds of a stream.

use crate::digest::Digest;
use crate::sequence::Sequence;
use alloc::vec::Vec;

/// What a sink holds of one stream, stored in the same atomic write as the data (S3). It is the only truth about
/// delivery; outbox cursors, group offsets and `applied` are caches of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Raised by an operator's reset only. A position of another incarnation is about another history.
    pub incarnation: u32,
    /// Where this route began to read the stream. The sink holds exactly `[start, at)` (S2).
    pub start: Sequence,
    /// The next place wanted: everything below is in the sink.
    pub at: Sequence,
    /// Identity of the last applied source record, by which a changed history is found (S6).
    pub guard: Guard,
    /// Count and content of all records in `[start, at)`.
    pub digest: Digest,
    /// A resume-point source's own opaque place, at most [`crate::limits::RESUME_POINT_BYTES_MAX`]. Empty for
    /// replayable streams.
    pub resume_point: Vec<u8>,
}

impl Position {
    /// The position of a stream of which the sink holds nothing yet, beginning at `start`.
    #[must_use]
    pub fn beginning(incarnation: u32, start: Sequence, guard: Guard) -> Position {
        Position {
            incarnation,
            start,
            at: start,
            guard,
            digest: Digest::EMPTY,
            resume_point: Vec::new(),
        }
    }
}

/// Identity of what lies directly before a place, so that "the same number" can be told from "the same record".
///
/// It speaks of the one place before, never of a record further back: between the two, compaction may have taken a
/// record that another gateway still saw, and a control record may have been written under a later leader epoch. With
/// the last record's identity in their stead, both would look like a changed history.
///
/// Kafka: the leader epoch (KIP-101, KIP-320) and the CRC32C of the record, each of which catches truncations the
/// other misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Leader epoch under which the place before was written; -1 where the source has none, or where it is not known.
    pub epoch: i32,
    /// CRC32C of the source record in the place before, as [`crate::record::RecordRef::crc32c`] takes it; 0 where that
    /// place holds no record, or where it is not known. For a run: the chain hash.
    pub crc: u32,
}

impl Guard {
    /// Nothing is known: the beginning of a stream.
    pub const NONE: Guard = Guard { epoch: -1, crc: 0 };
}

/// What a frame knows about the place before one of its own: the other half of the comparison with a [`Guard`].
///
/// Inside a frame, a place without a record has no epoch of its own: control records and what compaction took are
/// not seen. But epochs only grow along a log, so it lies between those of its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seam {
    /// The place was not written under an earlier epoch; -1 where that is not known.
    pub epoch_min: i32,
    /// Nor under a later one; -1 where that is not known.
    pub epoch_max: i32,
    /// CRC32C of the record there; 0 where there is none (any more), or where it is not known.
    pub crc: u32,
}

impl Seam {
    /// Whether the place can be the one that `held` names. What one side does not know is not held against the
    /// other.
    #[must_use]
    pub fn fits(self, held: Guard) -> bool {
        let knows = |epoch: i32| epoch >= 0 && held.epoch >= 0;
        let not_before = !knows(self.epoch_min) || self.epoch_min <= held.epoch;
        let not_behind = !knows(self.epoch_max) || held.epoch <= self.epoch_max;
        let same_record = held.crc == 0 || self.crc == 0 || held.crc == self.crc;
        not_before && not_behind && same_record
    }
}

impl From<Guard> for Seam {
    fn from(guard: Guard) -> Seam {
        Seam {
            epoch_min: guard.epoch,
            epoch_max: guard.epoch,
            crc: guard.crc,
        }
    }
}
