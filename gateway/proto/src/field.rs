//! How the words of the core are spelled inside frames, messages and stored positions.
//!
//! - Numbers are big-endian and of fixed width; names, lists and blobs stand behind a `u16` count.
//! - One byte tells an absent value (0) from a present one (1).
//! - Writing refuses what reading would refuse, so that nothing is stored or sent that cannot be read back.

use crate::digest::Digest;
use crate::limits;
use crate::sequence::{Interval, Sequence};
use crate::stream::{Lineage, RouteId, StreamId};
use crate::wire::{self, Malformed};
use crate::{Guard, Position};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A value with one spelling in bytes. `what` names it in errors.
pub trait Field: Sized {
    /// Writes the value behind `out`.
    ///
    /// # Errors
    /// When the value is above a limit that [`Field::take`] holds it to. `out` may then end in half a value.
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed>;

    /// Takes the value off the front of `rest`.
    ///
    /// # Errors
    /// When the bytes end too early, say something that no value means, or are above a limit.
    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed>;
}

/// How many bytes follow the `u32` length in `head`: of a frame, a message or a lane header.
///
/// # Errors
/// [`Malformed::TooLarge`] above `max`, so that nothing is allocated on a stranger's word.
pub(crate) fn announced(head: [u8; 4], max: usize, what: &'static str) -> Result<usize, Malformed> {
    let size = u32::from_be_bytes(head) as usize;
    if size > max {
        Err(Malformed::TooLarge { what, size, max })
    } else {
        Ok(size)
    }
}

macro_rules! number {
    ($($number:ty)*) => { $(impl Field for $number {
        fn put(&self, out: &mut Vec<u8>, _: &'static str) -> Result<(), Malformed> {
            out.extend_from_slice(&self.to_be_bytes());
            Ok(())
        }

        fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
            wire::take_int(rest, what)
        }
    })* };
}
number!(u8 u16 u32 u64 u128 i32);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        u8::from(*self).put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        match u8::take(rest, what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Invalid {
                what,
                why: "is neither 0 nor 1",
            }),
        }
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut Vec<u8>, _: &'static str) -> Result<(), Malformed> {
        out.extend_from_slice(self);
        Ok(())
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(wire::take(rest, N, what)?);
        Ok(array)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.is_some().put(out, what)?;
        self.as_ref().map_or(Ok(()), |value| value.put(out, what))
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        if bool::take(rest, what)? {
            T::take(rest, what).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.0.put(out, what)?;
        self.1.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Ok((A::take(rest, what)?, B::take(rest, what)?))
    }
}

/// A list of at most [`limits::STREAMS_PER_MESSAGE_MAX`] values.
impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        put_count(self.len(), limits::STREAMS_PER_MESSAGE_MAX, out, what)?;
        self.iter().try_for_each(|value| value.put(out, what))
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        let count = take_count(rest, limits::STREAMS_PER_MESSAGE_MAX, what)?;
        (0..count).map(|_| T::take(rest, what)).collect()
    }
}

/// A name: 1 to [`limits::NAME_BYTES_MAX`] bytes of UTF-8 without control characters.
impl Field for Arc<str> {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        check_name(self, what)?;
        put_text(self, limits::NAME_BYTES_MAX, out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        let name = take_text(rest, limits::NAME_BYTES_MAX, what)?;
        check_name(name, what)?;
        Ok(name.into())
    }
}

fn check_name(name: &str, what: &'static str) -> Result<(), Malformed> {
    if name.is_empty() {
        return Err(Malformed::Invalid {
            what,
            why: "is an empty name",
        });
    }
    if name.chars().any(char::is_control) {
        return Err(Malformed::Invalid {
            what,
            why: "is a name with a control character",
        });
    }
    Ok(())
}

impl Field for Sequence {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.0.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        u64::take(rest, what).map(Sequence)
    }
}

impl Field for Interval {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        check_order(self.from, self.to, what)?;
        self.from.put(out, what)?;
        self.to.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        let (from, to) = Field::take(rest, what)?;
        check_order(from, to, what)?;
        Ok(Interval { from, to })
    }
}

fn check_order(from: Sequence, to: Sequence, what: &'static str) -> Result<(), Malformed> {
    if from <= to {
        Ok(())
    } else {
        Err(Malformed::Invalid {
            what,
            why: "ends before it begins",
        })
    }
}

impl Field for Guard {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.epoch.put(out, what)?;
        self.crc.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Ok(Guard {
            epoch: Field::take(rest, what)?,
            crc: Field::take(rest, what)?,
        })
    }
}

impl Field for Digest {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.count.put(out, what)?;
        self.order.put(out, what)?;
        self.set.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Ok(Digest::from_parts(
            Field::take(rest, what)?,
            Field::take(rest, what)?,
            Field::take(rest, what)?,
        ))
    }
}

/// Holds `start <= at`.
impl Field for Position {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        check_order(self.start, self.at, what)?;
        self.incarnation.put(out, what)?;
        self.start.put(out, what)?;
        self.at.put(out, what)?;
        self.guard.put(out, what)?;
        self.digest.put(out, what)?;
        put_blob(
            &self.resume_point,
            limits::RESUME_POINT_BYTES_MAX,
            out,
            "resume point",
        )
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        let position = Position {
            incarnation: Field::take(rest, what)?,
            start: Field::take(rest, what)?,
            at: Field::take(rest, what)?,
            guard: Field::take(rest, what)?,
            digest: Field::take(rest, what)?,
            resume_point: take_blob(rest, limits::RESUME_POINT_BYTES_MAX, "resume point")?,
        };
        check_order(position.start, position.at, what)?;
        Ok(position)
    }
}

impl Field for Lineage {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        match self {
            Lineage::Replayable { cluster, topic } => {
                0u8.put(out, what)?;
                cluster.put(out, "cluster of a stream")?;
                topic.put(out, what)
            }
            Lineage::Run { outbox, run } => {
                1u8.put(out, what)?;
                outbox.put(out, what)?;
                run.put(out, what)
            }
        }
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        match u8::take(rest, what)? {
            0 => Ok(Lineage::Replayable {
                cluster: Field::take(rest, "cluster of a stream")?,
                topic: Field::take(rest, what)?,
            }),
            1 => Ok(Lineage::Run {
                outbox: Field::take(rest, what)?,
                run: Field::take(rest, what)?,
            }),
            _ => Err(Malformed::Invalid {
                what,
                why: "has a lineage of unknown kind",
            }),
        }
    }
}

impl Field for StreamId {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.site.put(out, "site of a stream")?;
        self.topic.put(out, "topic of a stream")?;
        self.partition.put(out, what)?;
        self.lineage.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Ok(StreamId {
            site: Field::take(rest, "site of a stream")?,
            topic: Field::take(rest, "topic of a stream")?,
            partition: Field::take(rest, what)?,
            lineage: Field::take(rest, what)?,
        })
    }
}

impl Field for RouteId {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.0.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Field::take(rest, what).map(RouteId)
    }
}

/// Text of at most `max` bytes behind its length.
pub(crate) fn put_text(
    text: &str,
    max: usize,
    out: &mut Vec<u8>,
    what: &'static str,
) -> Result<(), Malformed> {
    put_count(text.len(), max, out, what)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// The counterpart of [`put_text`].
pub(crate) fn take_text<'a>(
    rest: &mut &'a [u8],
    max: usize,
    what: &'static str,
) -> Result<&'a str, Malformed> {
    let length = take_count(rest, max, what)?;
    core::str::from_utf8(wire::take(rest, length, what)?).map_err(|_| Malformed::Invalid {
        what,
        why: "is not UTF-8",
    })
}

/// Bytes, at most `max` of them, behind their length.
pub(crate) fn put_blob(
    bytes: &[u8],
    max: usize,
    out: &mut Vec<u8>,
    what: &'static str,
) -> Result<(), Malformed> {
    put_count(bytes.len(), max, out, what)?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// The counterpart of [`put_blob`].
pub(crate) fn take_blob(rest: &mut &[u8], max: usize, what: &'static str) -> Result<Vec<u8>, Malformed> {
    let length = take_count(rest, max, what)?;
    wire::take(rest, length, what).map(<[u8]>::to_vec)
}

pub(crate) fn put_count(
    count: usize,
    max: usize,
    out: &mut Vec<u8>,
    what: &'static str,
) -> Result<(), Malformed> {
    let too_large = Malformed::TooLarge {
        what,
        size: count,
        max,
    };
    let spelled = u16::try_from(count).map_err(|_| too_large)?;
    if count > max {
        Err(too_large)
    } else {
        spelled.put(out, what)
    }
}

pub(crate) fn take_count(rest: &mut &[u8], max: usize, what: &'static str) -> Result<usize, Malformed> {
    let count = usize::from(u16::take(rest, what)?);
    if count > max {
        Err(Malformed::TooLarge {
            what,
            size: count,
            max,
        })
    } else {
        Ok(count)
    }
}

/// The front of `text` that has at most `max` bytes and ends at a character.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_string()
}
