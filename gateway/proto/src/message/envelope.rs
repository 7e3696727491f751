//! What stands around the fields of a message or a lane's header: length, tag, version, checksum.

use crate::checksum::crc32c;
use crate::field::{self, Field};
use crate::wire::{self, Malformed};
use alloc::vec::Vec;

/// The newest layout of a body.
pub(super) const BODY_VERSION: u8 = 1;

/// Writes an envelope around what `fields` writes; `out` is as before when that fails or grows beyond `max`.
pub(super) fn seal(
    tag: u16,
    max: usize,
    what: &'static str,
    out: &mut Vec<u8>,
    fields: impl FnOnce(&mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&tag.to_be_bytes());
    out.push(BODY_VERSION);
    let size = fields(out).and_then(|()| {
        let size = out.len() - start; // not the length before it, but the checksum to come: 4 bytes each
        let spelled = u32::try_from(size).ok().filter(|_| size <= max);
        spelled.ok_or(Malformed::TooLarge { what, size, max })
    });
    match size {
        Ok(size) => {
            out[start..start + 4].copy_from_slice(&size.to_be_bytes());
            let crc = crc32c(&out[start..]);
            out.extend_from_slice(&crc.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// What an envelope holds, its length and checksum verified.
pub(super) struct Envelope<'a> {
    pub(super) tag: u16,
    version: u8,
    pub(super) fields: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(super) fn open(bytes: &'a [u8], max: usize, what: &'static str) -> Result<Envelope<'a>, Malformed> {
        let mut rest = bytes;
        let size = field::announced(Field::take(&mut rest, what)?, max, what)?;
        if rest.len() > size {
            return Err(Malformed::Invalid {
                what,
                why: "is followed by other bytes",
            });
        }
        let body = size.checked_sub(4).ok_or(Malformed::Truncated { what })?;
        let mut body = wire::take(&mut rest, body, what)?;
        let stored = u32::take(&mut rest, what)?;
        let computed = crc32c(&bytes[..bytes.len() - 4]);
        if stored != computed {
            return Err(Malformed::Checksum {
                what,
                stored,
                computed,
            });
        }
        Ok(Envelope {
            tag: Field::take(&mut body, what)?,
            version: match Field::take(&mut body, what)? {
                0 => {
                    return Err(Malformed::Version {
                        what,
                        found: 0,
                        newest: u16::from(BODY_VERSION),
                    });
                }
                version => version,
            },
            fields: body,
        })
    }

    /// Only a newer layout may have fields behind those known here.
    pub(super) fn check_end(&self, rest: &[u8], what: &'static str) -> Result<(), Malformed> {
        if rest.is_empty() || self.version > BODY_VERSION {
            return Ok(());
        }
        Err(Malformed::Invalid {
            what,
            why: "has bytes behind its last field",
        })
    }
}
