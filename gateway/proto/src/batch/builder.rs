//! Writes a batch.

use super::{Codec, Compression, HEADER_BYTES};
use crate::checksum::crc32c;
use crate::limits;
use crate::record::RecordRef;
use crate::sequence::Sequence;
use crate::wire::{self, Malformed};
use alloc::vec::Vec;

/// Records on their way into one batch.
///
/// Each record is written once, straight into the buffer that becomes the batch; no record costs an allocation. The
/// buffer may begin with room for a header of the caller's, so that batch and header end in one piece of memory.
#[derive(Debug)]
pub struct BatchBuilder {
    /// Room, batch header (zeros until the end), records.
    buffer: Vec<u8>,
    room: usize,
    base: Sequence,
    last: Option<Sequence>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// A batch that begins at `base`, behind `room` bytes for the caller.
    #[must_use]
    pub fn new(room: usize, base: Sequence) -> BatchBuilder {
        let mut builder = BatchBuilder {
            buffer: Vec::new(),
            room,
            base,
            last: None,
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
        };
        builder.begin(room, base);
        builder
    }

    /// Begins a batch at `base`, behind `room` bytes for the caller. What was open is forgotten.
    pub fn begin(&mut self, room: usize, base: Sequence) {
        self.buffer.clear();
        self.buffer.resize(room + HEADER_BYTES, 0);
        self.room = room;
        self.base = base;
        self.last = None;
        self.count = 0;
        self.base_timestamp = -1;
        self.max_timestamp = -1;
    }

    /// How many records are in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the records in it, not compressed.
    #[must_use]
    pub fn records_bytes(&self) -> usize {
        self.buffer.len().saturating_sub(self.room + HEADER_BYTES)
    }

    /// Writes a record down.
    ///
    /// # Errors
    /// When `sequence` is not behind the last one or more than `i32::MAX` places from the base, or when the record
    /// is larger than [`limits`] allow. The batch is then as before.
    pub fn push(&mut self, sequence: Sequence, record: &RecordRef<'_>) -> Result<(), Malformed> {
        if self.last == Some(sequence) {
            return Err(OUT_OF_ORDER);
        }
        self.push_part(sequence, record)
    }

    /// As [`BatchBuilder::push`], where the record may lie in the place of the one before it: a batch that no reader of
    /// Kafka's format takes.
    pub(crate) fn push_part(&mut self, sequence: Sequence, record: &RecordRef<'_>) -> Result<(), Malformed> {
        let offset_delta = self.offset_delta(sequence)?;
        check_size(record)?;
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let timestamp_delta = record.timestamp.wrapping_sub(self.base_timestamp);
        put_record(&mut self.buffer, timestamp_delta, offset_delta, record);
        self.last = Some(sequence);
        self.count += 1;
        Ok(())
    }

    fn offset_delta(&self, sequence: Sequence) -> Result<i64, Malformed> {
        if sequence < self.base || self.last.is_some_and(|last| sequence < last) {
            return Err(OUT_OF_ORDER);
        }
        let delta = sequence.since(self.base);
        i32::try_from(delta)
            .map(i64::from)
            .map_err(|_| Malformed::Invalid {
                what: "record",
                why: "is too far from the batch's base",
            })
    }

    /// Ends the batch: room, header and records in one piece, with `spare` bytes of capacity behind. `to` is the
    /// first place behind the batch; one too far for the format's 32 bits is written as the furthest it can say.
    ///
    /// Records that compression would make larger are left as they are. The next batch begins at `to`, unless
    /// [`BatchBuilder::begin`] says otherwise.
    ///
    /// # Errors
    /// When the codec is missing. The batch is then still open, and can be finished with another one.
    pub fn finish(
        &mut self,
        to: Sequence,
        epoch: i32,
        spare: usize,
        codec: Codec,
        compression: &dyn Compression,
    ) -> Result<Vec<u8>, Malformed> {
        let (mut batch, codec) = match self.compressed(spare, codec, compression)? {
            Some(smaller) => (smaller, codec),
            None => (self.take_buffer(spare), Codec::None),
        };
        let last_delta = i32::try_from(to.since(self.base).saturating_sub(1)).unwrap_or(i32::MAX);
        let written = self.write_header(&mut batch[self.room..], last_delta, epoch, codec);
        self.begin(self.room, to);
        written.map(|()| batch)
    }

    /// Room, empty header and compressed records, if that is smaller.
    fn compressed(
        &self,
        spare: usize,
        codec: Codec,
        compression: &dyn Compression,
    ) -> Result<Option<Vec<u8>>, Malformed> {
        if codec == Codec::None {
            return Ok(None);
        }
        let (head, records) = self.buffer.split_at(self.room + HEADER_BYTES);
        let mut out = Vec::with_capacity(head.len() + records.len() / 2 + spare);
        out.extend_from_slice(head);
        compression.compress(codec, records, &mut out)?;
        if out.len() >= self.buffer.len() {
            return Ok(None);
        }
        if out.len() + spare < out.capacity() / 2 {
            out.shrink_to(out.len() + spare);
        }
        Ok(Some(out))
    }

    /// The buffer itself where it is well filled; a copy of its own size where a lot of memory would lie idle in an
    /// outbox's queue for a few records.
    fn take_buffer(&mut self, spare: usize) -> Vec<u8> {
        if self.buffer.len() >= self.buffer.capacity() / 2 {
            let next = Vec::with_capacity(self.buffer.len().min(limits::FRAME_BYTES_TARGET + spare));
            core::mem::replace(&mut self.buffer, next)
        } else {
            let mut copy = Vec::with_capacity(self.buffer.len() + spare);
            copy.extend_from_slice(&self.buffer);
            copy
        }
    }

    fn write_header(
        &self,
        batch: &mut [u8],
        last_delta: i32,
        epoch: i32,
        codec: Codec,
    ) -> Result<(), Malformed> {
        const UNKNOWN_PRODUCER: [u8; 8 + 2 + 4] = [0xff; 14];
        let too_large = |size| Malformed::TooLarge {
            what: "batch",
            size,
            max: limits::FRAME_BYTES_MAX,
        };
        let length = i32::try_from(batch.len() - 12).map_err(|_| too_large(batch.len()))?;
        batch[0..8].copy_from_slice(&self.base.0.to_be_bytes());
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch[12..16].copy_from_slice(&epoch.to_be_bytes());
        batch[16] = 2;
        batch[21..23].copy_from_slice(&codec.bits().to_be_bytes());
        batch[23..27].copy_from_slice(&last_delta.to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        batch[43..57].copy_from_slice(&UNKNOWN_PRODUCER);
        batch[57..61].copy_from_slice(&self.count.to_be_bytes());
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}

const OUT_OF_ORDER: Malformed = Malformed::Invalid {
    what: "record",
    why: "does not come behind the one before it",
};

/// Whether the record is within the limits of every record.
pub(crate) fn check_size(record: &RecordRef<'_>) -> Result<(), Malformed> {
    let within = |what, size, max| {
        if size > max {
            Err(Malformed::TooLarge { what, size, max })
        } else {
            Ok(())
        }
    };
    within("record", record.size(), limits::RECORD_BYTES_MAX)?;
    within("header count", record.headers.len(), limits::HEADERS_MAX)
}

fn put_record(out: &mut Vec<u8>, timestamp_delta: i64, offset_delta: i64, record: &RecordRef<'_>) {
    let header_count = signed(record.headers.len());
    let length = 1
        + wire::varint_len(timestamp_delta)
        + wire::varint_len(offset_delta)
        + spelled_len(record.key)
        + spelled_len(record.value)
        + wire::varint_len(header_count)
        + record.headers.as_bytes().len();
    out.reserve(length + 10);
    wire::put_varint(out, signed(length));
    out.push(0); // attributes: none are defined
    wire::put_varint(out, timestamp_delta);
    wire::put_varint(out, offset_delta);
    wire::put_varint_bytes(out, record.key);
    wire::put_varint_bytes(out, record.value);
    wire::put_varint(out, header_count);
    out.extend_from_slice(record.headers.as_bytes());
}

fn spelled_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| wire::varint_len(signed(bytes.len())) + bytes.len())
}

/// A size that was checked against a limit, as the format's signed numbers.
fn signed(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
