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
    // Most are one byte: small deltas, absent keys, short names.
    match *rest {
        [byte, behind @ ..] if *byte < 0x80 => {
            *rest = behind;
            Ok(unzigzag(u64::from(*byte)))
        }
        _ => take_long_varint(rest, what),
    }
}

fn take_long_varint(rest: &mut &[u8], what: &'static str) -> Result<i64, Malformed> {
    let mut raw = 0u64;
    for (index, byte) in rest.iter().enumerate().take(10) {
        if index == 9 && *byte > 1 {
            break;
        }
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Ok(unzigzag(raw));
        }
    }
    if rest.len() < 10 {
        return Err(Malformed::Truncated { what });
    }
    Err(Malformed::Invalid {
        what,
        why: "is a varint longer than 64 bits",
    })
}

fn unzigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -((raw & 1).cast_signed())
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    /// Zigzag varints as the Protocol Buffers documentation tables them.
    #[test]
    fn varints_are_spelled_as_protocol_buffers_does() {
        let check = |value: i64, bytes: &[u8]| {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varint_len(value), bytes.len(), "{value}");
            assert_eq!(take_varint(&mut &out[..], "number"), Ok(value));
        };
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(63, &[0x7e]);
        check(64, &[0x80, 1]);
        check(-65, &[0x81, 1]);
        check(i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check(
            i64::MAX,
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        );
        check(
            i64::MIN,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        );
    }

    #[test]
    fn a_varint_that_never_ends_is_refused() {
        let too_long = Malformed::Invalid {
            what: "number",
            why: "is a varint longer than 64 bits",
        };
        assert_eq!(take_varint(&mut &[0x80; 11][..], "number"), Err(too_long));
        assert_eq!(
            take_varint(
                &mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..],
                "number"
            ),
            Err(too_long)
        );
        let cut = Err(Malformed::Truncated { what: "number" });
        assert_eq!(take_varint(&mut &[0x80; 9][..], "number"), cut);
        assert_eq!(take_varint(&mut &[][..], "number"), cut);
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let mut bytes = vec![0; 3];
        put_varint(&mut bytes, -2);
        assert!(take_varint_bytes(&mut &bytes[3..], "field").is_err(), "below -1");
        let mut bytes = Vec::new();
        put_varint(&mut bytes, i64::MAX);
        assert!(
            take_varint_bytes(&mut &bytes[..], "field").is_err(),
            "far outside"
        );
        assert_eq!(take_varint_bytes(&mut &[1][..], "field"), Ok(None));
        assert_eq!(take_varint_bytes(&mut &[0][..], "field"), Ok(Some(&[][..])));
    }

    proptest! {
        #[test]
        fn varints_are_read_back_and_what_is_behind_stays(value in any::<i64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            for cut in 0..out.len() {
                prop_assert_eq!(take_varint(&mut &out[..cut], "n"), Err(Malformed::Truncated { what: "n" }));
            }
            out.extend_from_slice(b"behind");
            let mut rest = &out[..];
            prop_assert_eq!(take_varint(&mut rest, "n"), Ok(value));
            prop_assert_eq!(rest, b"behind");
        }

        #[test]
        fn bytes_are_read_back(bytes in any::<Option<Vec<u8>>>()) {
            let mut out = Vec::new();
            put_varint_bytes(&mut out, bytes.as_deref());
            let mut rest = &out[..];
            prop_assert_eq!(take_varint_bytes(&mut rest, "field"), Ok(bytes.as_deref()));
            prop_assert!(rest.is_empty());
        }
    }
}
