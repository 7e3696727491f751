//! Reads a batch.

use super::{Codec, Compression, HEADER_BYTES};
use crate::checksum::crc32c;
use crate::record::{Headers, RecordRef};
use crate::sequence::Sequence;
use crate::wire::{self, Malformed};
use alloc::vec::Vec;

/// A batch in someone else's bytes: its header, read and checked, and its records, untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchView<'a> {
    base: Sequence,
    epoch: i32,
    attributes: i16,
    codec: Codec,
    last_delta: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: u32,
    /// A place may hold several records.
    expanded: bool,
    records: &'a [u8],
}

/// The batches that stand one behind the other in `bytes`, as in a broker's log or its answer to a fetch. An answer
/// may be cut off inside its last batch: that ends in [`Malformed::Truncated`]. Nothing follows an error.
pub fn parse_all(bytes: &[u8]) -> impl Iterator<Item = Result<BatchView<'_>, Malformed>> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = BatchView::parse(rest);
        rest = parsed.map_or(&[], |(_, behind)| behind);
        Some(parsed.map(|(batch, _)| batch))
    })
}

impl<'a> BatchView<'a> {
    /// Reads the batch at the start of `bytes` and checks its CRC; answers it and what is behind it.
    ///
    /// # Errors
    /// When the bytes end too early, are damaged, or are of another magic (Kafka before 0.11).
    pub fn parse(bytes: &'a [u8]) -> Result<(BatchView<'a>, &'a [u8]), Malformed> {
        let (batch, rest) = BatchView::parse_unsummed(bytes, false)?;
        let own = &bytes[..bytes.len() - rest.len()];
        let mut stored = &own[17..21];
        let stored = wire::take_int(&mut stored, "batch checksum")?;
        let computed = crc32c(&own[21..]);
        if stored != computed {
            return Err(Malformed::Checksum {
                what: "batch",
                stored,
                computed,
            });
        }
        Ok((batch, rest))
    }

    /// As [`BatchView::parse`], for bytes that a checksum around them covers already, and where `expanded` for batches
    /// whose places may hold several records.
    pub(crate) fn parse_unsummed(
        bytes: &'a [u8],
        expanded: bool,
    ) -> Result<(BatchView<'a>, &'a [u8]), Malformed> {
        let mut rest = bytes;
        let base: i64 = wire::take_int(&mut rest, "batch offset")?;
        let length: i32 = wire::take_int(&mut rest, "batch length")?;
        let magic = rest.get(4).ok_or(Malformed::Truncated { what: "batch magic" })?;
        if *magic != 2 {
            return Err(Malformed::Version {
                what: "batch",
                found: u16::from(*magic),
                newest: 2,
            });
        }
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length >= HEADER_BYTES - 12);
        let length = length.ok_or(invalid("batch length", "is below that of a header"))?;
        let mut own = wire::take(&mut rest, length, "batch")?;
        let epoch = wire::take_int(&mut own, "batch epoch")?;
        let _magic_and_crc = wire::take(&mut own, 5, "batch checksum")?;
        let attributes = wire::take_int(&mut own, "batch attributes")?;
        let last_delta: i32 = wire::take_int(&mut own, "batch last offset")?;
        let batch = BatchView {
            base: u64::try_from(base)
                .map(Sequence)
                .map_err(|_| invalid("batch offset", "is negative"))?,
            epoch,
            attributes,
            codec: Codec::of(attributes)?,
            last_delta: u32::try_from(last_delta).map_err(|_| invalid("batch last offset", "is negative"))?,
            base_timestamp: wire::take_int(&mut own, "batch timestamp")?,
            max_timestamp: wire::take_int(&mut own, "batch timestamp")?,
            producer_id: wire::take_int(&mut own, "batch producer")?,
            producer_epoch: wire::take_int(&mut own, "batch producer")?,
            base_sequence: wire::take_int(&mut own, "batch producer")?,
            count: wire::take_int(&mut own, "batch count")?,
            expanded,
            records: own,
        };
        if !expanded && u64::from(batch.count) > u64::from(batch.last_delta) + 1 {
            return Err(invalid("batch count", "is above the places it covers"));
        }
        Ok((batch, rest))
    }

    /// The first place the batch covers. Its first record may lie behind it.
    #[must_use]
    pub fn base(&self) -> Sequence {
        self.base
    }

    /// The last place the batch covers. Its last record may lie before it.
    #[must_use]
    pub fn last(&self) -> Sequence {
        Sequence(self.base.0 + u64::from(self.last_delta)) // at most i64::MAX + i32::MAX
    }

    /// How many records it says it holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The leader epoch it was appended under; -1 where there is none.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// How its records are compressed.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The largest timestamp; with [`BatchView::is_append_time`] the timestamp of every record.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Whether the broker's clock gave the timestamp, `LogAppendTime`, instead of the producer.
    #[must_use]
    pub fn is_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }

    /// Whether it is part of a transaction, which may still be aborted.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether its records are the broker's own marks, the end of a transaction for one, and no one's data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// Id and epoch of an idempotent producer, and the number of the first record; -1 where there is none.
    #[must_use]
    pub fn producer(&self) -> (i64, i16, i32) {
        (self.producer_id, self.producer_epoch, self.base_sequence)
    }

    /// The records, decompressed into `scratch` where they are compressed, else where they lie.
    ///
    /// # Errors
    /// When they cannot be decompressed, or to more than `max` bytes. What is wrong inside comes as an item.
    pub fn records<'s>(
        &self,
        scratch: &'s mut Vec<u8>,
        compression: &dyn Compression,
        max: usize,
    ) -> Result<Records<'s>, Malformed>
    where
        'a: 's,
    {
        let bytes = if self.codec == Codec::None || self.records.is_empty() {
            self.records
        } else {
            scratch.clear();
            compression.decompress(self.codec, self.records, max, scratch)?;
            scratch
        };
        Ok(Records {
            rest: bytes,
            left: self.count,
            base: self.base,
            next_delta: 0,
            step: i64::from(!self.expanded),
            last_delta: i64::from(self.last_delta),
            base_timestamp: self.base_timestamp,
            append_time: self.is_append_time().then_some(self.max_timestamp),
        })
    }
}

/// The records of one batch, in order. Ends behind the last one or the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
    base: Sequence,
    next_delta: i64,
    /// From a record's place to the least of the next: 0 where several may lie in one.
    step: i64,
    last_delta: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> Records<'a> {
    /// No records.
    pub(crate) const NONE: Records<'static> = Records {
        rest: &[],
        left: 0,
        base: Sequence::ZERO,
        next_delta: 0,
        step: 1,
        last_delta: 0,
        base_timestamp: 0,
        append_time: None,
    };

    fn take_record(&mut self) -> Result<(Sequence, RecordRef<'a>), Malformed> {
        let length = wire::take_varint(&mut self.rest, "record length")?;
        let length = usize::try_from(length).map_err(|_| invalid("record length", "is negative"))?;
        let mut body = wire::take(&mut self.rest, length, "record")?;
        let _attributes: u8 = wire::take_int(&mut body, "record attributes")?;
        let timestamp_delta = wire::take_varint(&mut body, "record timestamp")?;
        let offset_delta = wire::take_varint(&mut body, "record offset")?;
        if offset_delta < self.next_delta || offset_delta > self.last_delta {
            return Err(invalid(
                "record offset",
                "is out of order or outside of its batch",
            ));
        }
        self.next_delta = offset_delta + self.step;
        let key = wire::take_varint_bytes(&mut body, "record key")?;
        let value = wire::take_varint_bytes(&mut body, "record value")?;
        let header_count = wire::take_varint(&mut body, "header count")?;
        let header_count =
            usize::try_from(header_count).map_err(|_| invalid("header count", "is negative"))?;
        let (headers, behind) = Headers::parse(header_count, body)?;
        if !behind.is_empty() {
            return Err(invalid("record", "has bytes behind its last header"));
        }
        let timestamp = self
            .append_time
            .unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta));
        let sequence = Sequence(self.base.0 + offset_delta.cast_unsigned()); // 0 <= delta <= i32::MAX
        Ok((
            sequence,
            RecordRef {
                timestamp,
                key,
                value,
                headers,
            },
        ))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(Sequence, RecordRef<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.left {
            0 if self.rest.is_empty() => return None,
            0 => Err(invalid("batch", "has bytes behind its last record")),
            _ => {
                self.left -= 1;
                self.take_record()
            }
        };
        if item.is_err() {
            *self = Records::NONE;
        }
        Some(item)
    }
}

const fn invalid(what: &'static str, why: &'static str) -> Malformed {
    Malformed::Invalid { what, why }
}
