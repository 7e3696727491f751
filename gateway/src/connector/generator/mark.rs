//! What a generated record carries so that it can be checked wherever it arrives: its stream's name, its sequence
//! in that stream, and a checksum over key and value.
//!
//! ```text
//! JSON   {"stream":"orders/7/0","sequence":12, … ,"checksum":"1f2e3d4c"}
//! Avro   00 iiiiiiii | stream: string | sequence: long | … | checksum: fixed(4)
//! ```
//!
//! The name is `<kind>/<seed>/<partition>`. The checksum is CRC32C over the key and over the value up to the
//! checksum, without the five bytes of Avro framing: a schema id may be mapped to another one on the way. It is a
//! checksum of bytes; a chain that writes the value anew makes a new value, and its records read as foreign or
//! corrupt.

use super::records::Kind;
use culvert_proto::checksum::Crc32c;
use culvert_proto::record::RecordRef;
use culvert_proto::wire;

/// The place of a generated record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark<'a> {
    /// `<kind>/<seed>/<partition>`.
    pub stream: &'a str,
    /// Its index in that stream, from 0.
    pub sequence: u64,
}

/// What a record turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// A generated record, byte for byte.
    Intact(Mark<'a>),
    /// It begins like a generated record, and its bytes are not those that were generated. What the mark says may
    /// be part of the damage.
    Corrupt(Mark<'a>),
    /// Not a generated record.
    Foreign,
}

/// Looks for the mark of a generated record and checks it.
#[must_use]
pub fn read<'a>(record: &RecordRef<'a>) -> Reading<'a> {
    let Some(value) = record.value else {
        return Reading::Foreign;
    };
    let (found, intact) = if value.starts_with(JSON_STREAM) {
        (json_mark(value), json_intact(record.key, value))
    } else {
        (avro_mark(value), avro_intact(record.key, value))
    };
    match found {
        Some(mark) if intact => Reading::Intact(mark),
        Some(mark) => Reading::Corrupt(mark),
        None => Reading::Foreign,
    }
}

/// Closes a JSON value, which must end with its `}`, with the checksum as its last field.
pub(super) fn seal_json(key: &[u8], value: &mut Vec<u8>) {
    use std::io::Write;
    value.pop();
    let sum = checksum(Some(key), value);
    value.extend_from_slice(JSON_CHECKSUM);
    // Writing into a vector cannot fail.
    let _ = write!(value, "{sum:08x}\"}}");
}

/// Closes a framed Avro value with the checksum as its last field: a record is its fields one behind the other
/// (Avro specification, "Records"), and a fixed is its bytes.
pub(super) fn seal_avro(key: &[u8], value: &mut Vec<u8>) {
    let sum = checksum(Some(key), &value[FRAMING..]);
    value.extend_from_slice(&sum.to_be_bytes());
}

/// Confluent framing: a zero byte and four bytes of schema id.
pub(super) const FRAMING: usize = 5;
const JSON_STREAM: &[u8] = br#"{"stream":""#;
const JSON_SEQUENCE: &[u8] = br#"","sequence":"#;
const JSON_CHECKSUM: &[u8] = br#","checksum":""#;

fn json_mark(value: &[u8]) -> Option<Mark<'_>> {
    let rest = value.strip_prefix(JSON_STREAM)?;
    let (stream, rest) = split_once(rest, JSON_SEQUENCE)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    let sequence = str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    Some(Mark {
        stream: known(stream)?,
        sequence,
    })
}

/// The closing brace may be missing: that is one of the faults a generator can be asked for.
fn json_intact(key: Option<&[u8]>, value: &[u8]) -> bool {
    let open = value.strip_suffix(b"}").unwrap_or(value);
    let Some((head, tail)) = open
        .len()
        .checked_sub(JSON_CHECKSUM.len() + 9)
        .map(|at| open.split_at(at))
    else {
        return false;
    };
    let written = tail
        .strip_prefix(JSON_CHECKSUM)
        .and_then(|hex| hex.strip_suffix(b"\""))
        .and_then(|hex| str::from_utf8(hex).ok())
        .and_then(|hex| u32::from_str_radix(hex, 16).ok());
    written == Some(checksum(key, head))
}

/// The framing's first byte may be 1: that is the same fault for Avro.
fn avro_mark(value: &[u8]) -> Option<Mark<'_>> {
    let (framing, mut rest) = value.split_at_checked(FRAMING)?;
    if framing[0] > 1 {
        return None;
    }
    // Avro's long is Kafka's zigzag varint: both are those of Protocol Buffers.
    let stream = wire::take_varint_bytes(&mut rest, "stream").ok()??;
    let sequence = wire::take_varint(&mut rest, "sequence").ok()?;
    Some(Mark {
        stream: known(stream)?,
        sequence: u64::try_from(sequence).ok()?,
    })
}

fn avro_intact(key: Option<&[u8]>, value: &[u8]) -> bool {
    let Some((head, tail)) = value.split_last_chunk::<4>() else {
        return false;
    };
    head.len() >= FRAMING && u32::from_be_bytes(*tail) == checksum(key, &head[FRAMING..])
}

/// `stream` if it is the name of a stream that a generator could have made.
fn known(stream: &[u8]) -> Option<&str> {
    let name = str::from_utf8(stream).ok()?;
    let mut parts = name.split('/');
    parts.next()?.parse::<Kind>().ok()?;
    parts.next()?.parse::<u64>().ok()?;
    parts.next()?.parse::<u32>().ok()?;
    parts.next().is_none().then_some(name)
}

fn split_once<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    // A stream's name has at most 44 bytes: the search in a foreign value ends early.
    let at = bytes
        .windows(separator.len())
        .take(64)
        .position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

fn checksum(key: Option<&[u8]>, value: &[u8]) -> u32 {
    let mut sum = Crc32c::new();
    sum.update(key.unwrap_or_default());
    sum.update(value);
    sum.finish()
}
