//! Kafka's record batch, magic 2 (KIP-98), exactly as brokers store it: the form in which records lie in an outbox
//! and cross a link.
//!
//! ```text
//! i64 base offset | i32 length of what follows | i32 leader epoch | i8 magic = 2 | u32 CRC32C of all that follows
//! i16 attributes | i32 last offset delta | i64 base timestamp | i64 max timestamp
//! i64 producer id | i16 producer epoch | i32 base sequence | i32 count | records, compressed as a whole
//!
//! a record:  varint length | i8 attributes | varint timestamp delta | varint offset delta
//!            varint key length (-1: none) | key | varint value length | value | varint header count | headers
//! ```
//!
//! - Base offset, length, leader epoch and magic stand outside the checksum, because a broker sets them.
//! - A batch covers `[base, base + last offset delta]`, and may hold fewer records than places.
//! - [`BatchBuilder`] writes one; [`BatchView`] reads ours and every broker's.

use crate::wire::Malformed;
use alloc::vec::Vec;

mod builder;
#[cfg(test)]
pub(crate) mod tests;
mod view;

pub use builder::BatchBuilder;
pub(crate) use builder::check_size;
pub use view::{BatchView, Records, parse_all};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// How the records of a batch are compressed, by the numbers of Kafka's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy, framed as `snappy-java` does it.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// Zstandard (RFC 8878), since KIP-110.
    Zstd,
}

impl Codec {
    /// The three bits of the attributes that name it.
    const MASK: i16 = 0b111;

    fn of(attributes: i16) -> Result<Codec, Malformed> {
        match attributes & Codec::MASK {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            _ => Err(Malformed::Invalid {
                what: "batch attributes",
                why: "name an unknown compression",
            }),
        }
    }

    fn bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }
}

/// Compresses and decompresses the records of a batch. The gateway has all codecs; this crate has none of them.
pub trait Compression {
    /// Writes `input`, compressed, behind `out`.
    ///
    /// # Errors
    /// When the codec is not to be had here.
    fn compress(&self, codec: Codec, input: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed>;

    /// Writes `input`, decompressed, behind `out`.
    ///
    /// # Errors
    /// When the bytes are damaged, when they grow beyond `max` bytes (checked while they grow: a small input must
    /// not take much memory), or when the codec is not to be had here.
    fn decompress(&self, codec: Codec, input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Malformed>;
}

/// Knows [`Codec::None`] alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCompression;

impl Compression for NoCompression {
    fn compress(&self, codec: Codec, input: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.decompress(codec, input, input.len(), out)
    }

    fn decompress(&self, codec: Codec, input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if codec != Codec::None {
            return Err(Malformed::Invalid {
                what: "records",
                why: "are compressed by a codec that is missing here",
            });
        }
        if input.len() > max {
            return Err(Malformed::TooLarge {
                what: "records",
                size: input.len(),
                max,
            });
        }
        out.extend_from_slice(input);
        Ok(())
    }
}
