//! A frame: what an outbox holds and a link carries. An interval of one stream, its records as one Kafka batch, and
//! the identity of each record.
//!
//! ```text
//! u32 length of what follows | u8 magic 0xC5 | u8 version = 1 | u16 flags
//! u64 from | u64 to | i32 leader epoch of the records
//! i32 epoch and u32 crc of the guard before `from` | u32 count of records
//! u16 length | stream id | u16 count | schema fingerprints, 32 bytes each
//! record batch: base offset = from, last offset delta = to - from - 1; absent where there are no records
//! count × u32: the guard of each record
//! where stages sent records to other topics: `routes.rs`
//! u32 CRC32C of all before it
//! ```
//!
//! - Encoded once at intake, decoded once at delivery; an outbox, a link and a relay keep the bytes as they are.
//! - The guards stand apart from the records because they identify the *source's* record, which a stage may have
//!   changed since; all records of a frame have one leader epoch, so 4 bytes say which one it was.
//! - A stage may have expanded one record to several: they lie behind each other in one place, with one guard, in one
//!   frame, and [`Frame::is_expanded`].
//! - A frame may be cut anywhere. What lies before the cut is in the batch: [`Frame::records`] walks there and
//!   [`FrameRecords::seam`] tells. Without holes, [`Frame::guard_before`] knows without walking.
//! - The flags of the high byte are critical: a reader that does not know one refuses the frame.

use crate::batch::{BatchView, Compression, Records};
use crate::checksum::crc32c;
use crate::field::{self, Field};
use crate::limits;
use crate::position::{Guard, Seam};
use crate::record::RecordRef;
use crate::schema::Fingerprint;
use crate::sequence::{Interval, Sequence};
use crate::stream::StreamId;
use crate::wire::{self, Malformed};
use alloc::vec::Vec;
use bytes::Bytes;

mod builder;
mod routes;
#[cfg(test)]
mod tests;

pub use builder::{FrameBuilder, Part, Push};
use routes::Routes;

/// The first byte behind the length, so that a frame is told from a message and from noise.
const MAGIC: u8 = 0xC5;

/// The layout written and read here.
const VERSION: u8 = 1;

/// Holes of more than [`limits::HOLE_MAX`] places are meant: the source confirmed that it holds nothing there.
const COMPACTED: u16 = 0x0100;

/// A place may hold several records: what a stage expanded one to. (Kafka's batches know no such thing.)
const EXPANDED: u16 = 0x0200;

/// Some records go to another topic than their stream's.
const ROUTED: u16 = 0x0400;

/// The critical flags that are known here.
const KNOWN: u16 = COMPACTED | EXPANDED | ROUTED;

/// It has records, and its last place holds none: its end is not known by a record.
const ENDS_IN_HOLE: u16 = 0x0001;

/// Flags that must be known to be ignored.
const CRITICAL: u16 = 0xff00;

/// Where the stream id begins.
const STREAM_AT: usize = 42;

/// Bytes of a schema's fingerprint.
const FINGERPRINT_BYTES: usize = 32;

/// How many bytes of a frame follow the four in `head`.
///
/// # Errors
/// [`Malformed::TooLarge`] above [`limits::FRAME_BYTES_MAX`].
pub fn announced(head: [u8; 4]) -> Result<usize, Malformed> {
    field::announced(head, limits::FRAME_BYTES_MAX, "frame")
}

/// The schemas that a frame names, without checking the rest of it: for who stored it itself.
///
/// # Errors
/// When the bytes are no frame's.
pub fn schemas_named(bytes: &[u8]) -> Result<&[Fingerprint], Malformed> {
    let mut rest = bytes.get(STREAM_AT - 2..).unwrap_or_default();
    let stream_length = u16::take(&mut rest, "frame stream")?;
    wire::take(&mut rest, stream_length.into(), "frame stream")?;
    let count = usize::from(u16::take(&mut rest, "frame schemas")?);
    Ok(wire::take(&mut rest, count * FINGERPRINT_BYTES, "frame schemas")?
        .as_chunks()
        .0)
}

/// A frame whose bytes were checked once, with its header read. Owned and cheap to clone, as [`Bytes`] are, or
/// borrowed as a [`FrameView`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<B = Bytes> {
    bytes: B,
    header: Header,
}

/// A frame in someone else's bytes.
pub type FrameView<'a> = Frame<&'a [u8]>;

/// What is read once and carried along. The places are those in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    flags: u16,
    interval: Interval,
    epoch: i32,
    guard_from: Guard,
    count: usize,
    stream_end: usize,
    batch_at: usize,
    guards_at: usize,
}

impl Frame {
    /// Takes over the bytes of exactly one frame, and checks all of them but the insides of its records.
    ///
    /// # Errors
    /// When they are damaged, above a limit, of an unknown version, or say what no frame may say.
    pub fn decode(bytes: Bytes) -> Result<Frame, Malformed> {
        let header = Header::parse(&bytes)?;
        Ok(Frame { bytes, header })
    }

    /// The bytes, as they are stored and sent.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<'a> FrameView<'a> {
    /// As [`Frame::decode`], without taking the bytes.
    ///
    /// # Errors
    /// As [`Frame::decode`].
    pub fn parse(bytes: &'a [u8]) -> Result<FrameView<'a>, Malformed> {
        let header = Header::parse(bytes)?;
        Ok(Frame { bytes, header })
    }
}

impl<B: AsRef<[u8]>> Frame<B> {
    /// Which stream it is of. Makes a new id each time; to compare with a known one, [`Frame::is_of`].
    #[must_use]
    pub fn stream(&self) -> StreamId {
        let mut spelled = self.stream_bytes();
        StreamId::take(&mut spelled, "frame stream").expect("a frame's stream was read when it was checked")
    }

    /// Whether it is of `stream`.
    #[must_use]
    pub fn is_of(&self, stream: &StreamId) -> bool {
        let mut spelled = Vec::with_capacity(self.stream_bytes().len());
        stream.put(&mut spelled, "stream").is_ok() && spelled == self.stream_bytes()
    }

    /// The stream's id as it is spelled by [`Field::put`]: equal bytes are equal streams.
    #[must_use]
    pub fn stream_bytes(&self) -> &[u8] {
        &self.as_slice()[STREAM_AT..self.header.stream_end]
    }

    /// The places it accounts for; never empty.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.header.interval
    }

    /// Whether a place of it may hold several records.
    #[must_use]
    pub fn is_expanded(&self) -> bool {
        self.header.flags & EXPANDED != 0
    }

    /// Whether records of it go to another topic than their stream's; [`FrameRecords::topic`] says which.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.header.flags & ROUTED != 0
    }

    /// How many records it holds; the other places of its interval hold none.
    #[must_use]
    pub fn count(&self) -> usize {
        self.header.count
    }

    /// The leader epoch under which its records were written; -1 where there is none.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.header.epoch
    }

    /// Whether the source confirmed that holes of more than [`limits::HOLE_MAX`] places are in it.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.header.flags & COMPACTED != 0
    }

    /// The schemas its records were written with.
    #[must_use]
    pub fn schemas(&self) -> &[Fingerprint] {
        let behind_count = self.header.stream_end + 2;
        self.as_slice()[behind_count..self.header.batch_at].as_chunks().0
    }

    /// The record batch, byte for byte; empty where there are no records.
    #[must_use]
    pub fn batch_bytes(&self) -> &[u8] {
        &self.as_slice()[self.header.batch_at..self.header.guards_at]
    }

    /// Identity of the record before the frame.
    #[must_use]
    pub fn guard_from(&self) -> Guard {
        self.header.guard_from
    }

    /// Identity of the last place in it: the guard of whoever applied all of it.
    #[must_use]
    pub fn guard_end(&self) -> Guard {
        let epoch = self.header.epoch;
        if self.header.count == 0 || self.header.flags & ENDS_IN_HOLE != 0 {
            Guard { epoch, crc: 0 }
        } else {
            self.guard_behind(self.header.count)
        }
    }

    /// Identity of the place before `at`, where it can be told without decoding the records: at both ends, and
    /// anywhere in a frame without holes. Otherwise `None`, and [`FrameRecords::seam`] says what is known.
    #[must_use]
    pub fn guard_before(&self, at: Sequence) -> Option<Guard> {
        let Interval { from, to } = self.header.interval;
        if at >= to {
            return Some(self.guard_end());
        }
        if at == from {
            return Some(self.header.guard_from);
        }
        let has_no_hole = self.header.count as u64 == to.since(from) && !self.is_expanded();
        let below = usize::try_from(at.since(from)).ok()?;
        (has_no_hole && at > from).then(|| self.guard_behind(below))
    }

    /// The records at or behind `at`, decompressed into `scratch` where they are compressed.
    ///
    /// # Errors
    /// When the records before `at` are damaged, or when they cannot be decompressed. A frame's checksum was right,
    /// so this is a mistake of who wrote it.
    pub fn records<'s>(
        &'s self,
        at: Sequence,
        scratch: &'s mut Vec<u8>,
        compression: &dyn Compression,
    ) -> Result<FrameRecords<'s>, Malformed> {
        let mut records = FrameRecords {
            records: self.all_records(scratch, compression)?,
            guards: self.guards(),
            epoch: self.header.epoch,
            guard: self.header.guard_from,
            seam: self.header.guard_from.into(),
            routes: self.routes()?,
            passed: 0,
        };
        if at > self.header.interval.from {
            let passed = records.skip_to(at)?;
            records.seam = self.seam(at, passed, records.guard);
        }
        Ok(records)
    }

    fn all_records<'s>(
        &'s self,
        scratch: &'s mut Vec<u8>,
        compression: &dyn Compression,
    ) -> Result<Records<'s>, Malformed> {
        if self.header.count == 0 {
            return Ok(Records::NONE);
        }
        let (batch, _) = BatchView::parse_unsummed(self.batch_bytes(), self.is_expanded())?;
        batch.records(scratch, compression, limits::FRAME_BYTES_MAX)
    }

    /// What is known of the place before `at`, given the last record before it and that record's identity.
    fn seam(&self, at: Sequence, passed: Option<Sequence>, guard: Guard) -> Seam {
        let epoch = self.header.epoch;
        match passed {
            Some(passed) if passed.next() == at => guard.into(),
            // All records of a frame are of one epoch, so what lies between them is too.
            Some(_) => Guard { epoch, crc: 0 }.into(),
            None => Seam {
                epoch_min: self.header.guard_from.epoch,
                epoch_max: epoch,
                crc: 0,
            },
        }
    }

    fn guard_behind(&self, records: usize) -> Guard {
        match records.checked_sub(1).and_then(|last| self.guards().get(last)) {
            None => self.header.guard_from,
            Some(crc) => Guard {
                epoch: self.header.epoch,
                crc: u32::from_be_bytes(*crc),
            },
        }
    }

    fn guards(&self) -> &[[u8; 4]] {
        let guards = &self.as_slice()[self.header.guards_at..];
        let (guards, _) = guards.as_chunks::<4>();
        &guards[..self.header.count] // what is behind is the checksum
    }

    fn routes(&self) -> Result<Routes<'_>, Malformed> {
        if !self.is_routed() {
            return Ok(Routes::default());
        }
        let bytes = self.as_slice();
        Routes::parse(&bytes[..bytes.len() - 4], self.header.count).map(|(routes, _)| routes)
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// The records of a frame from some place on, and the identity of the record before the next one.
#[derive(Clone, Debug)]
pub struct FrameRecords<'a> {
    records: Records<'a>,
    /// Of the records not yet passed.
    guards: &'a [[u8; 4]],
    epoch: i32,
    guard: Guard,
    seam: Seam,
    routes: Routes<'a>,
    /// How many were passed.
    passed: usize,
}

impl FrameRecords<'_> {
    /// The topic that the record handed out last was sent to; `None` where it is its stream's.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.routes.topic(self.passed.checked_sub(1)?)
    }

    /// What lies before the place where the walk began: what a sink must hold to begin here (S6).
    #[must_use]
    pub fn seam(&self) -> Seam {
        self.seam
    }

    /// Identity of the last record that was passed: skipped because it lies below where the walk began, or handed
    /// out since. It is what a sink stores that stops right behind that record.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.guard
    }

    /// The last record passed.
    fn skip_to(&mut self, at: Sequence) -> Result<Option<Sequence>, Malformed> {
        let mut passed = None;
        loop {
            let mut ahead = self.clone();
            match ahead.next().transpose()? {
                Some((sequence, _)) if sequence < at => {
                    passed = Some(sequence);
                    *self = ahead;
                }
                _ => return Ok(passed),
            }
        }
    }
}

impl<'a> Iterator for FrameRecords<'a> {
    type Item = Result<(Sequence, RecordRef<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.records.next()?;
        self.passed += 1;
        if item.is_ok()
            && let Some((crc, behind)) = self.guards.split_first()
        {
            self.guard = Guard {
                epoch: self.epoch,
                crc: u32::from_be_bytes(*crc),
            };
            self.guards = behind;
        }
        Some(item)
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
        check_envelope(bytes)?;
        let body = &bytes[..bytes.len() - 4];
        let mut rest = &body[6..];
        let flags = Field::take(&mut rest, "frame flags")?;
        let interval = Field::take(&mut rest, "frame interval")?;
        let epoch = Field::take(&mut rest, "frame epoch")?;
        let guard_from = Field::take(&mut rest, "frame guard")?;
        let count = u32::take(&mut rest, "frame count")? as usize;
        let stream_length = u16::take(&mut rest, "frame stream")?;
        let mut stream = wire::take(&mut rest, stream_length.into(), "frame stream")?;
        StreamId::take(&mut stream, "frame stream")?;
        if !stream.is_empty() {
            return Err(invalid("frame stream", "has bytes behind its last field"));
        }
        let stream_end = body.len() - rest.len();
        let schemas = usize::from(u16::take(&mut rest, "frame schemas")?);
        if schemas > limits::SCHEMAS_PER_FRAME_MAX {
            let max = limits::SCHEMAS_PER_FRAME_MAX;
            return Err(Malformed::TooLarge {
                what: "frame schemas",
                size: schemas,
                max,
            });
        }
        wire::take(&mut rest, schemas * FINGERPRINT_BYTES, "frame schemas")?;
        let batch_at = body.len() - rest.len();
        if flags & ROUTED != 0 {
            let (_, length) = Routes::parse(rest, count)?;
            rest = &rest[..rest.len() - length];
        }
        let batch_length = count
            .checked_mul(4)
            .and_then(|guards| rest.len().checked_sub(guards));
        let batch_length = batch_length.ok_or(Malformed::Truncated { what: "frame guards" })?;
        let guards_at = batch_at + batch_length;
        let header = Header {
            flags,
            interval,
            epoch,
            guard_from,
            count,
            stream_end,
            batch_at,
            guards_at,
        };
        header.check_meaning()?;
        header.check_batch(&body[batch_at..guards_at])?;
        Ok(header)
    }

    fn check_meaning(&self) -> Result<(), Malformed> {
        if self.flags & CRITICAL & !KNOWN != 0 {
            return Err(invalid("frame flags", "hold a critical one that is unknown"));
        }
        if self.interval.is_empty() {
            return Err(invalid("frame interval", "is empty"));
        }
        if self.interval.to.0 > i64::MAX.cast_unsigned() {
            return Err(invalid("frame interval", "is beyond Kafka's 63 bits"));
        }
        let mut holes = self.interval.len().checked_sub(self.count as u64);
        if self.flags & EXPANDED != 0 {
            // At least so many: a part more in one place hides one hole, and a frame has no room for many of them.
            holes = Some(holes.unwrap_or(0));
        }
        let holes = holes.ok_or(invalid("frame count", "is above the places of its interval"))?;
        check_holes(holes, self.flags & COMPACTED != 0)
    }

    fn check_batch(&self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.count == 0 {
            return if bytes.is_empty() {
                Ok(())
            } else {
                Err(invalid("frame", "has a batch without records"))
            };
        }
        let (batch, rest) = BatchView::parse_unsummed(bytes, self.flags & EXPANDED != 0)?;
        if !rest.is_empty() {
            return Err(invalid("frame", "has bytes between its batch and its guards"));
        }
        let last = self
            .interval
            .from
            .0
            .saturating_add((self.interval.len() - 1).min(i32::MAX as u64));
        let is_same = batch.base() == self.interval.from
            && batch.last() == Sequence(last)
            && batch.count() as usize == self.count
            && batch.epoch() == self.epoch;
        if !is_same || batch.is_control() {
            return Err(invalid("frame", "holds a batch that is not the one it describes"));
        }
        Ok(())
    }
}

fn check_envelope(bytes: &[u8]) -> Result<(), Malformed> {
    let mut rest = bytes;
    let size = announced(Field::take(&mut rest, "frame length")?)?;
    if rest.len() < size || size < 8 {
        return Err(Malformed::Truncated { what: "frame" });
    }
    if rest.len() > size {
        return Err(invalid("frame", "is followed by other bytes"));
    }
    if rest[0] != MAGIC {
        return Err(invalid("frame", "does not begin like one"));
    }
    if rest[1] != VERSION {
        let found = u16::from(rest[1]);
        return Err(Malformed::Version {
            what: "frame",
            found,
            newest: u16::from(VERSION),
        });
    }
    let (body, mut stored) = bytes.split_at(bytes.len() - 4);
    let stored = u32::take(&mut stored, "frame checksum")?;
    let computed = crc32c(body);
    if stored != computed {
        return Err(Malformed::Checksum {
            what: "frame",
            stored,
            computed,
        });
    }
    Ok(())
}

/// A peer that could leave out any number of places could move a position past records that exist (position
/// poisoning), so large holes are only taken where the source was asked.
fn check_holes(places: u64, compacted: bool) -> Result<(), Malformed> {
    if places <= limits::HOLE_MAX || compacted {
        return Ok(());
    }
    let as_size = |places| usize::try_from(places).unwrap_or(usize::MAX);
    Err(Malformed::TooLarge {
        what: "hole in a frame",
        size: as_size(places),
        max: as_size(limits::HOLE_MAX),
    })
}

const fn invalid(what: &'static str, why: &'static str) -> Malformed {
    Malformed::Invalid { what, why }
}
