//! How numbers and bytes are spelled, and what can be wrong with bytes from outside.
//!
//! Our own encodings are big-endian with explicit lengths. Inside a record batch, Kafka's zigzag varints hold
//! (KIP-98; the encoding is that of Protocol Buffers).

use alloc::vec::Vec;
use core::fmt;

/// What is wrong with bytes that came from a disk, a peer or a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes end inside `what`.
    Truncated {
        /// The thing that was being read.
        what: &'static str,
    },
    /// `what` is not as its format demands.
    Invalid {
        /// The thing that was being read.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `what` is larger than this side accepts.
    TooLarge {
        /// The thing that was being read.
        what: &'static str,
        /// Its size as claimed.
        size: usize,
        /// The most that is accepted.
        max: usize,
    },
    /// The checksum over `what` does not match: the bytes were changed after they were written.
    Checksum {
        /// The thing that was being read.
        what: &'static str,
        /// The checksum stored with it.
        stored: u32,
        /// The checksum of the bytes that are there.
        computed: u32,
    },
    /// A version of `what` that this program does not know.
    Version {
        /// The thing that was being read.
        what: &'static str,
        /// The version found.
        found: u16,
        /// The newest version known.
        newest: u16,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Truncated { what } => write!(f, "{what}: bytes end too early"),
            Malformed::Invalid { what, why } => write!(f, "{what}: {why}"),
            Malformed::TooLarge { what, size, max } => {
                write!(f, "{what}: {size} is above the limit of {max}")
            }
            Malformed::Checksum {
                what,
                stored,
                computed,
            } => {
                write!(
                    f,
                    "{what}: checksum mismatch (stored {stored:08x}, computed {computed:08x})"
                )
            }
            Malformed::Version { what, found, newest } => {
                write!(f, "{what}: version {found} is unknown (newest known is {newest})")
            }
        }
    }
}

impl core::error::Error for Malformed {}

/// Takes `count` bytes off the front of `rest`.
///
/// # Errors
/// [`Malformed::Truncated`] when fewer are left.
pub fn take<'a>(rest: &mut &'a [u8], count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
    let (head, tail) = rest
        .split_at_checked(count)
        .ok_or(Malformed::Truncated { what })?;
    *rest = tail;
    Ok(head)
}

/// Takes a big-endian number off the front of `rest`.
///
/// # Errors
/// [`Malformed::Truncated`] when its bytes are not all there.
pub fn take_int<T: Int>(rest: &mut &[u8], what: &'static str) -> Result<T, Malformed> {
    Ok(T::from_be(take(rest, size_of::<T>(), what)?))
}

/// A fixed-width number with a big-endian form.
pub trait Int: Copy {
    /// From exactly `size_of::<Self>()` bytes.
    fn from_be(bytes: &[u8]) -> Self;
}

macro_rules! int {
    ($($number:ty)*) => { $(impl Int for $number {
        fn from_be(bytes: &[u8]) -> Self {
            let mut array = [0; size_of::<Self>()];
            array.copy_from_slice(bytes);
            <$number>::from_be_bytes(array)
        }
    })* };
}
int!(u8 i8 u16 i16 u32 i32 u64 i64 u128);

/// Takes a zigzag varint of at most ten bytes.
///
/// # Errors
/// [`Malformed::Truncated`], or [`Malformed::Invalid`] when it runs on past 64 bits.
pub fn take_varint(rest: &mut &[u8], what: &'static str) -> Result<i64, Malformed> {
    let mut raw = 0u64;
    for shift in (0..70).step_by(7) {
        let byte: u8 = take_int(rest, what)?;
        if shift == 63 && byte > 1 {
            break;
        }
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()));
        }
    }
    Err(Malformed::Invalid {
        what,
        why: "is a varint longer than 64 bits",
    })
}

/// Takes bytes behind their length as a varint; -1 stands for none.
///
/// # Errors
/// When the length is below -1 or points outside of `rest`.
pub fn take_varint_bytes<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
    match take_varint(rest, what)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| Malformed::Invalid {
                what,
                why: "has a negative length",
            })?;
            take(rest, length, what).map(Some)
        }
    }
}

/// Writes a zigzag varint.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        #[expect(clippy::cast_possible_truncation)] // the low seven bits are what is meant
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    #[expect(clippy::cast_possible_truncation)]
    out.push(raw as u8);
}

/// How many bytes [`put_varint`] writes.
#[must_use]
pub fn varint_len(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    ((64 - (raw | 1).leading_zeros()) as usize).div_ceil(7)
}

/// Writes bytes behind their length as a varint; none as -1.
pub fn put_varint_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            out.extend_from_slice(bytes);
        }
    }
}
