//! How one entry of the outbox is stored, whichever engine stores it.
//!
//! ```text
//!  0      4        5     6      8      12     16     24   32       36            40           44
//!  | magic | version | kind | flags | lane | life | from | to | length | payload CRC | header CRC | payload…
//! ```
//!
//! Big-endian. The header's CRC32C covers its first 40 bytes, so that a walk over entries can trust lengths without
//! reading payloads; the payload's covers the payload. To the outbox a frame is opaque.

use super::change::{LaneId, Life};
use culvert_proto::checksum::crc32c;
use culvert_proto::wire::{Malformed, take_int};
use culvert_proto::{Interval, Sequence, limits};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 44;
const MAGIC: u32 = u32::from_be_bytes(*b"CVOE");
const VERSION: u8 = 1;
pub(super) const CHECKED_BYTES: usize = 40;
const FLAG_FRESH: u16 = 1;

/// The most bytes of a payload: a frame of the largest size.
pub(super) const PAYLOAD_BYTES_MAX: usize = limits::FRAME_BYTES_MAX;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A frame at the tail of its lane.
    Frame = 1,
    /// A frame that was written before, moved to free the place where it lay.
    Copy = 2,
    /// A lane gets its number; payload: its name.
    Open = 3,
    /// A lane is forgotten.
    Remove = 4,
    /// A lane begins at `from`.
    Trim = 5,
    /// A lane is empty at `from`.
    Restart = 6,
    /// A setting; payload: length of the key (u16), key, value.
    Put = 7,
    /// A setting is forgotten; payload: its key.
    Delete = 8,
    /// A lane as it stands, `[from, to)`; payload: its name.
    Lane = 9,
    /// `lane` is the number the next lane gets.
    NextLane = 10,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::{Copy, Delete, Frame, Lane, NextLane, Open, Put, Remove, Restart, Trim};
        [
            Frame, Copy, Open, Remove, Trim, Restart, Put, Delete, Lane, NextLane,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) fresh: bool,
    pub(super) lane: LaneId,
    pub(super) life: Life,
    pub(super) interval: Interval,
    pub(super) length: u32,
    pub(super) payload_crc: u32,
}

impl Header {
    /// The header of an entry of `kind` about `lane` with this payload.
    pub(super) fn new(kind: Kind, lane: LaneId, life: Life, interval: Interval, payload: &[u8]) -> Header {
        // Payloads are limited where they enter, far below 4 GiB.
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        Header {
            kind,
            fresh: false,
            lane,
            life,
            interval,
            length,
            payload_crc: crc32c(payload),
        }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = if self.fresh { FLAG_FRESH } else { 0 };
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[4] = VERSION;
        bytes[5] = self.kind as u8;
        bytes[6..8].copy_from_slice(&flags.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.lane.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.life.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.interval.from.0.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.interval.to.0.to_be_bytes());
        bytes[32..36].copy_from_slice(&self.length.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.payload_crc.to_be_bytes());
        let crc = crc32c(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// Reads a header off the front of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] for anything that [`Header::encode`] would not have written.
    pub(super) fn decode(bytes: &[u8]) -> Result<Header, Malformed> {
        const WHAT: &str = "outbox entry";
        let checked = bytes
            .get(..CHECKED_BYTES)
            .ok_or(Malformed::Truncated { what: WHAT })?;
        let mut rest = &bytes[CHECKED_BYTES..];
        let (stored, computed) = (take_int::<u32>(&mut rest, WHAT)?, crc32c(checked));
        if stored != computed {
            return Err(Malformed::Checksum {
                what: WHAT,
                stored,
                computed,
            });
        }
        let mut rest = checked;
        if take_int::<u32>(&mut rest, WHAT)? != MAGIC {
            return Err(Malformed::Invalid {
                what: WHAT,
                why: "does not begin like one",
            });
        }
        let version = take_int::<u8>(&mut rest, WHAT)?;
        if version != VERSION {
            return Err(Malformed::Version {
                what: WHAT,
                found: version.into(),
                newest: VERSION.into(),
            });
        }
        let kind = Kind::from_byte(take_int(&mut rest, WHAT)?).ok_or(Malformed::Invalid {
            what: WHAT,
            why: "has an unknown kind",
        })?;
        let header = Header {
            kind,
            fresh: take_int::<u16>(&mut rest, WHAT)? & FLAG_FRESH != 0,
            lane: LaneId(take_int(&mut rest, WHAT)?),
            life: Life(take_int(&mut rest, WHAT)?),
            interval: Interval::new(
                Sequence(take_int(&mut rest, WHAT)?),
                Sequence(take_int(&mut rest, WHAT)?),
            ),
            length: take_int(&mut rest, WHAT)?,
            payload_crc: take_int(&mut rest, WHAT)?,
        };
        let size = header.length as usize;
        if size > PAYLOAD_BYTES_MAX {
            return Err(Malformed::TooLarge {
                what: WHAT,
                size,
                max: PAYLOAD_BYTES_MAX,
            });
        }
        Ok(header)
    }

    /// Whether `payload` is what was stored under this header.
    ///
    /// # Errors
    /// [`Malformed`] when it is not.
    pub(super) fn check(&self, payload: &[u8]) -> Result<(), Malformed> {
        const WHAT: &str = "payload of an outbox entry";
        if payload.len() != self.length as usize {
            return Err(Malformed::Truncated { what: WHAT });
        }
        let computed = crc32c(payload);
        if computed != self.payload_crc {
            return Err(Malformed::Checksum {
                what: WHAT,
                stored: self.payload_crc,
                computed,
            });
        }
        Ok(())
    }

    /// Whether this is the frame `[from, …)` of that life of that lane: catches an intact entry at a wrong place.
    pub(super) fn is_frame(&self, lane: LaneId, life: Life, from: Sequence) -> bool {
        matches!(self.kind, Kind::Frame | Kind::Copy)
            && (self.lane, self.life, self.interval.from) == (lane, life, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        let interval = Interval::new(Sequence(7), Sequence(1 << 40));
        Header {
            fresh: true,
            ..Header::new(Kind::Lane, LaneId(3), Life(9), interval, b"orders")
        }
    }

    #[test]
    fn comes_back_as_written() {
        assert_eq!(Header::decode(&sample().encode()), Ok(sample()));
        assert_eq!(sample().check(b"orders"), Ok(()));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let good = sample().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
        assert!(sample().check(b"orderz").is_err());
        assert!(sample().check(b"order").is_err());
    }

    #[test]
    fn short_bytes_are_refused() {
        for length in 0..HEADER_BYTES {
            assert!(Header::decode(&sample().encode()[..length]).is_err());
        }
    }
}
