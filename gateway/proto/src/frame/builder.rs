//! Writes frames.

use super::routes::RoutesBuilder;
use super::{
    COMPACTED, ENDS_IN_HOLE, EXPANDED, FINGERPRINT_BYTES, Frame, Header, MAGIC, ROUTED, STREAM_AT, VERSION,
    check_holes, invalid,
};
use crate::batch::{BatchBuilder, Codec, Compression, check_size};
use crate::checksum::crc32c;
use crate::field::Field;
use crate::limits;
use crate::position::Guard;
use crate::record::RecordRef;
use crate::schema::Fingerprint;
use crate::sequence::{Interval, Sequence};
use crate::stream::StreamId;
use crate::wire::Malformed;
use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes of one record's guard.
const GUARD_BYTES: usize = 4;

/// The frames of one stream, one behind the other: each begins where the one before it ended, with the guard of the
/// last record before it, so that no gap can come from here.
///
/// Size, number of records and epoch close a frame ([`Push`]); how long one stays open is the caller's to decide.
#[derive(Debug)]
pub struct FrameBuilder {
    stream: Vec<u8>,
    from: Sequence,
    to: Sequence,
    epoch: i32,
    guard_from: Guard,
    guard: Guard,
    /// Below here the source confirmed that places without a record hold none.
    confirmed: Sequence,
    /// Places of the open frame without a record, and how many of them were not confirmed.
    holes: u64,
    holes_unconfirmed: u64,
    batch: BatchBuilder,
    guards: Vec<u8>,
    routes: RoutesBuilder,
    /// A place holds several records.
    expanded: bool,
    /// The schemas of the open frame's records, and for how many of them there is room before its batch.
    schemas: Vec<Fingerprint>,
    schemas_room: usize,
}

/// One of the records that stages made of one, with the topic it goes to where that is not its stream's.
pub type Part<'a> = (Option<&'a str>, RecordRef<'a>);

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Push {
    /// It is in the open frame.
    Taken,
    /// It is in the open frame, which is full: [`FrameBuilder::finish`] it.
    Full,
    /// It was not taken: [`FrameBuilder::finish`], and push it again, until it is.
    NotTaken,
}

impl FrameBuilder {
    /// The first frame will begin at `from`, behind the record that `guard` identifies.
    ///
    /// # Errors
    /// When a name in `stream` is above its limit.
    pub fn new(stream: &StreamId, from: Sequence, guard: Guard) -> Result<FrameBuilder, Malformed> {
        let mut spelled = Vec::new();
        stream.put(&mut spelled, "stream")?;
        let mut builder = FrameBuilder {
            stream: spelled,
            from,
            to: from,
            epoch: guard.epoch,
            guard_from: guard,
            guard,
            confirmed: Sequence::ZERO,
            holes: 0,
            holes_unconfirmed: 0,
            batch: BatchBuilder::new(0, from),
            guards: Vec::new(),
            routes: RoutesBuilder::default(),
            expanded: false,
            schemas: Vec::new(),
            schemas_room: 0,
        };
        builder.restart(from, guard);
        Ok(builder)
    }

    /// Forgets the open frame and goes on at another place, as after a seek.
    pub fn restart(&mut self, from: Sequence, guard: Guard) {
        self.confirmed = Sequence::ZERO;
        self.open(from, guard);
    }

    fn open(&mut self, from: Sequence, guard: Guard) {
        self.from = from;
        self.to = from;
        self.epoch = guard.epoch;
        self.guard_from = guard;
        self.guard = guard;
        self.holes = 0;
        self.holes_unconfirmed = 0;
        self.guards.clear();
        self.routes.clear();
        self.expanded = false;
        // The next frame's records are most often written with the schemas of this one's.
        self.schemas_room = self.schemas.len();
        self.batch.begin(self.head_bytes(), from);
        self.schemas.clear();
    }

    /// The interval of the open frame: empty where nothing was pushed and nothing advanced.
    #[must_use]
    pub fn interval(&self) -> Interval {
        Interval::new(self.from, self.to)
    }

    /// How many records are in the open frame.
    #[must_use]
    pub fn count(&self) -> usize {
        self.guards.len() / GUARD_BYTES
    }

    /// Bytes of the records in the open frame, not compressed.
    #[must_use]
    pub fn records_bytes(&self) -> usize {
        self.batch.records_bytes()
    }

    /// Adds a record as the source gave it; its own CRC identifies it.
    ///
    /// # Errors
    /// As [`FrameBuilder::push_as`].
    pub fn push(
        &mut self,
        sequence: Sequence,
        epoch: i32,
        record: &RecordRef<'_>,
    ) -> Result<Push, Malformed> {
        if !self.makes_room(sequence, epoch, 1, record.size())? {
            return Ok(Push::NotTaken);
        }
        self.add(None, sequence, epoch, record.crc32c(), record)
    }

    /// Adds a record that a stage may have changed: `crc` identifies the one the source gave, or is the chain hash
    /// of a run.
    ///
    /// # Errors
    /// When `sequence` is not behind what the frame covers, when the record is above a limit, or when more than
    /// [`limits::HOLE_MAX`] places would be left out without [`FrameBuilder::confirm_hole`]. The frame is then as
    /// before.
    pub fn push_as(
        &mut self,
        sequence: Sequence,
        epoch: i32,
        crc: u32,
        record: &RecordRef<'_>,
    ) -> Result<Push, Malformed> {
        if !self.makes_room(sequence, epoch, 1, record.size())? {
            return Ok(Push::NotTaken);
        }
        self.add(None, sequence, epoch, crc, record)
    }

    /// Adds what stages made of one record: one or more, which go into one frame whatever their number. `crc` identifies the
    /// record as in [`FrameBuilder::push_as`].
    ///
    /// # Errors
    /// As [`FrameBuilder::push_as`], and when a topic's name is none or there are more than
    /// [`limits::TOPICS_PER_FRAME_MAX`].
    pub fn push_parts(
        &mut self,
        sequence: Sequence,
        epoch: i32,
        crc: u32,
        parts: &[Part<'_>],
    ) -> Result<Push, Malformed> {
        let mut size = 0;
        for (_, record) in parts {
            check_size(record)?;
            size += record.size();
        }
        let has_room_for_topics = self.routes.check(parts.iter().filter_map(|(topic, _)| *topic))?;
        if !self.makes_room(sequence, epoch, parts.len(), size)? || !has_room_for_topics {
            return Ok(Push::NotTaken);
        }
        let mut pushed = Push::Taken;
        for (topic, record) in parts {
            pushed = self.add(*topic, sequence, epoch, crc, record)?;
        }
        self.expanded |= parts.len() > 1;
        Ok(pushed)
    }

    /// Whether the open frame can name these schemas too. One without records always can.
    #[must_use]
    pub fn has_room_for(&self, schemas: &[Fingerprint]) -> bool {
        let is_new = |schema: &&Fingerprint| !self.schemas.contains(schema);
        let named = self.schemas.len() + schemas.iter().filter(is_new).count();
        self.count() == 0 || named <= limits::SCHEMAS_PER_FRAME_MAX
    }

    /// The record that was pushed last was written with these schemas, for which there was room.
    pub fn name(&mut self, schemas: &[Fingerprint]) {
        for schema in schemas {
            if !self.schemas.contains(schema) {
                self.schemas.push(*schema);
            }
        }
    }

    /// Accounts for all places below `to`: those not pushed hold no record. Going back is ignored. The last of them is
    /// taken to be of the epoch of what came before; a source that knows better says so
    /// ([`FrameBuilder::advance_in`]).
    ///
    /// # Errors
    /// When more than [`limits::HOLE_MAX`] places would be left out without [`FrameBuilder::confirm_hole`].
    pub fn advance(&mut self, to: Sequence) -> Result<Push, Malformed> {
        self.advance_in(to, self.guard.epoch)
    }

    /// As [`FrameBuilder::advance`], where the place before `to` was written under leader epoch `epoch`. A control
    /// record behind the last record may be of a later epoch than it: with the record's own, the source would later
    /// deny that this epoch reaches `to`, and a history that never changed would look truncated.
    ///
    /// # Errors
    /// As [`FrameBuilder::advance`].
    pub fn advance_in(&mut self, to: Sequence, epoch: i32) -> Result<Push, Malformed> {
        if to <= self.to {
            return Ok(Push::Taken);
        }
        let is_other_epoch = self.count() > 0 && epoch != self.epoch;
        if !self.has_room_for_hole(to)? || is_other_epoch {
            return Ok(Push::NotTaken);
        }
        self.cover(to);
        self.epoch = epoch;
        self.guard = Guard { epoch, crc: 0 };
        Ok(Push::Taken)
    }

    /// The source was asked: from the end of the open frame up to `to` it holds no record, however far that is.
    pub fn confirm_hole(&mut self, to: Sequence) {
        self.confirmed = to;
    }

    /// Ends the open frame and begins the next one behind it. `None` when the open one covers nothing.
    ///
    /// # Errors
    /// When the codec is missing. The frame is then still open, and can be finished with another one.
    pub fn finish(
        &mut self,
        codec: Codec,
        compression: &dyn Compression,
    ) -> Result<Option<Frame>, Malformed> {
        if self.interval().is_empty() {
            return Ok(None);
        }
        let head = self.head_bytes();
        let mut bytes = if self.count() == 0 {
            alloc::vec![0; head]
        } else {
            let spare = self.guards.len() + 4; // routes are rare
            let mut bytes = self
                .batch
                .finish(self.to, self.epoch, spare, codec, compression)?;
            let room = self.stream_head_bytes() + self.schemas_room * FINGERPRINT_BYTES;
            if room != head {
                bytes.splice(..room, core::iter::repeat_n(0, head));
            }
            bytes
        };
        let guards_at = bytes.len();
        bytes.extend_from_slice(&self.guards);
        if !self.routes.is_empty() {
            self.routes.write(&mut bytes)?;
        }
        let header = self.header(guards_at);
        self.write_head(&mut bytes, &header)?;
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        self.open(self.to, self.guard);
        Ok(Some(Frame {
            bytes: Bytes::from(bytes),
            header,
        }))
    }

    /// Whether so many records and bytes go into the open frame; if not, that one must be finished first, and is not empty.
    fn makes_room(
        &mut self,
        sequence: Sequence,
        epoch: i32,
        count: usize,
        size: usize,
    ) -> Result<bool, Malformed> {
        if sequence < self.to {
            return Err(invalid("record", "does not come behind what its frame covers"));
        }
        let has_room_for_hole = self.has_room_for_hole(sequence)?;
        let is_far = sequence.since(self.from) > i32::MAX as u64;
        if self.count() > 0 {
            let must_close = is_far
                || epoch != self.epoch
                || self.count() + count > limits::FRAME_RECORDS_MAX
                || self.records_bytes() + size > limits::FRAME_BYTES_TARGET;
            return Ok(has_room_for_hole && !must_close);
        }
        if has_room_for_hole && is_far {
            // A hole larger than a batch can say becomes a frame of its own, without a batch.
            self.cover(sequence);
            return Ok(false);
        }
        Ok(has_room_for_hole)
    }

    /// Whether the places from the frame's end up to `to` can be left out in the open frame.
    fn has_room_for_hole(&self, to: Sequence) -> Result<bool, Malformed> {
        if to.0 >= i64::MAX.cast_unsigned() {
            return Err(invalid("sequence", "is beyond Kafka's 63 bits"));
        }
        let hole = to.since(self.to.max(self.confirmed));
        check_holes(hole, false)?;
        Ok(self.holes_unconfirmed + hole <= limits::HOLE_MAX)
    }

    /// Leaves out all places from the frame's end up to `to`.
    fn cover(&mut self, to: Sequence) {
        self.holes += to.since(self.to);
        self.holes_unconfirmed += to.since(self.to.max(self.confirmed));
        self.to = to;
    }

    fn add(
        &mut self,
        topic: Option<&str>,
        sequence: Sequence,
        epoch: i32,
        crc: u32,
        record: &RecordRef<'_>,
    ) -> Result<Push, Malformed> {
        self.batch.push_part(sequence, record)?;
        self.routes.push(topic, self.count());
        self.cover(sequence);
        self.to = sequence.next();
        self.guards.extend_from_slice(&crc.to_be_bytes());
        self.epoch = epoch;
        self.guard = Guard { epoch, crc };
        let is_full =
            self.count() >= limits::FRAME_RECORDS_MAX || self.records_bytes() >= limits::FRAME_BYTES_TARGET;
        Ok(if is_full { Push::Full } else { Push::Taken })
    }

    /// Bytes before the batch.
    fn head_bytes(&self) -> usize {
        self.stream_head_bytes() + self.schemas.len() * FINGERPRINT_BYTES
    }

    /// Bytes before the first schema.
    fn stream_head_bytes(&self) -> usize {
        STREAM_AT + self.stream.len() + 2
    }

    fn flags(&self) -> u16 {
        let compacted = if self.holes > limits::HOLE_MAX {
            COMPACTED
        } else {
            0
        };
        // A record's identity is never without its CRC, but in one case of 2^32, where less is known than could be.
        let ends_in_hole = if self.count() > 0 && self.guard.crc == 0 {
            ENDS_IN_HOLE
        } else {
            0
        };
        let expanded = if self.expanded { EXPANDED } else { 0 };
        let routed = if self.routes.is_empty() { 0 } else { ROUTED };
        compacted | ends_in_hole | expanded | routed
    }

    fn header(&self, guards_at: usize) -> Header {
        Header {
            flags: self.flags(),
            interval: self.interval(),
            epoch: self.epoch,
            guard_from: self.guard_from,
            count: self.count(),
            stream_end: STREAM_AT + self.stream.len(),
            batch_at: self.head_bytes(),
            guards_at,
        }
    }

    /// Fills the room before the batch. What is in `bytes` lacks the checksum only.
    fn write_head(&self, bytes: &mut [u8], header: &Header) -> Result<(), Malformed> {
        let size = bytes.len(); // not the length before it, but the checksum to come: 4 bytes each
        let max = limits::FRAME_BYTES_MAX;
        let too_large = Malformed::TooLarge {
            what: "frame",
            size,
            max,
        };
        let length = u32::try_from(size)
            .ok()
            .filter(|_| size <= max)
            .ok_or(too_large)?;
        let mut head = Vec::with_capacity(header.batch_at);
        length.put(&mut head, "frame length")?;
        MAGIC.put(&mut head, "frame magic")?;
        VERSION.put(&mut head, "frame version")?;
        header.flags.put(&mut head, "frame flags")?;
        header.interval.put(&mut head, "frame interval")?;
        header.epoch.put(&mut head, "frame epoch")?;
        header.guard_from.put(&mut head, "frame guard")?;
        let count = u32::try_from(header.count).map_err(|_| too_large)?;
        count.put(&mut head, "frame count")?;
        let stream_length = u16::try_from(self.stream.len()).map_err(|_| too_large)?;
        stream_length.put(&mut head, "frame stream")?;
        head.extend_from_slice(&self.stream);
        let schemas = u16::try_from(self.schemas.len()).map_err(|_| too_large)?;
        schemas.put(&mut head, "frame schemas")?;
        head.extend_from_slice(self.schemas.as_flattened());
        bytes[..header.batch_at].copy_from_slice(&head);
        Ok(())
    }
}
