//! Positions as records of the compacted topic `culvert.positions.<connector>`: one partition for each shard, written
//! in the transaction of the data (S3).
//!
//! ```text
//! key:   u8 version | u16 site | u16 topic | u32 partition | u8 1 | u16 cluster | 16 topic id     (replayable)
//!                                                          | u8 2 | 16 outbox   | 16 run          (a run)
//! value: u8 version | u32 incarnation | u64 start | u64 at | i32 epoch | u32 crc
//!        | u64 count | u128 order | u128 set | u16 resume point | 16 target topic id | u16 writer | u32 CRC32C
//! ```
//!
//! A key of one byte 0 ([`PROOF`]) without a value says only that its writer was the writer; it is no position.
//!
//! Numbers are big-endian, `u16 name` is a length with its bytes. The CRC covers key and value, so that a value under
//! another key is noticed. A newer version is refused, never guessed.

use culvert_proto::checksum::Crc32c;
use culvert_proto::digest::Digest;
use culvert_proto::limits::{NAME_BYTES_MAX, RESUME_POINT_BYTES_MAX};
use culvert_proto::wire::{Malformed, take, take_int};
use culvert_proto::{Guard, Lineage, Position, Sequence, StreamId};
use std::sync::Arc;

/// How the names of positions topics begin.
pub(super) const TOPIC_PREFIX: &str = "culvert.positions.";

/// The same, of those that tell up to where a source's dead letters were kept.
pub(super) const REFUSED_TOPIC_PREFIX: &str = "culvert.refused-positions.";

/// The key of a record that proves its writer where no position is to be written. It has no value, so that
/// compaction takes it away.
pub(super) const PROOF: &[u8] = &[0];

const KEY_VERSION: u8 = 1;
const VALUE_VERSION: u8 = 1;
const REPLAYABLE: u8 = 1;
const RUN: u8 = 2;

/// A position as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) position: Position,
    /// The id of the topic that the data went to (T6).
    pub(super) target: [u8; 16],
    /// The transactional id of who wrote it: who has to be fenced when shards are dealt out anew (T3).
    pub(super) writer: String,
}

/// The key of a stream's position.
pub(super) fn encode_key(stream: &StreamId) -> Vec<u8> {
    let mut out = vec![KEY_VERSION];
    put_name(&mut out, stream.site.as_bytes());
    put_name(&mut out, stream.topic.as_bytes());
    out.extend_from_slice(&stream.partition.to_be_bytes());
    match &stream.lineage {
        Lineage::Replayable { cluster, topic } => {
            out.push(REPLAYABLE);
            put_name(&mut out, cluster.as_bytes());
            out.extend_from_slice(topic);
        }
        Lineage::Run { outbox, run } => {
            out.push(RUN);
            out.extend_from_slice(outbox);
            out.extend_from_slice(run);
        }
    }
    out
}

/// The stream of a key.
///
/// # Errors
/// When the bytes are no key of a version that is known.
pub(super) fn decode_key(bytes: &[u8]) -> Result<StreamId, Malformed> {
    let mut rest = bytes;
    version(&mut rest, "position key", KEY_VERSION)?;
    let stream = StreamId {
        site: take_name(&mut rest, "site")?,
        topic: take_name(&mut rest, "topic")?,
        partition: take_int(&mut rest, "partition")?,
        lineage: match take_int(&mut rest, "lineage")? {
            REPLAYABLE => Lineage::Replayable {
                cluster: take_name(&mut rest, "cluster")?,
                topic: take_id(&mut rest, "topic id")?,
            },
            RUN => Lineage::Run {
                outbox: take_id(&mut rest, "outbox")?,
                run: take_id(&mut rest, "run")?,
            },
            _ => {
                return Err(Malformed::Invalid {
                    what: "lineage",
                    why: "is of an unknown kind",
                });
            }
        },
    };
    ends(rest, "position key")?;
    Ok(stream)
}

/// The value under `key`.
pub(super) fn encode_value(key: &[u8], stored: &Stored) -> Vec<u8> {
    let Position {
        incarnation,
        start,
        at,
        guard,
        digest,
        resume_point,
    } = &stored.position;
    let mut out = vec![VALUE_VERSION];
    out.extend_from_slice(&incarnation.to_be_bytes());
    out.extend_from_slice(&start.0.to_be_bytes());
    out.extend_from_slice(&at.0.to_be_bytes());
    out.extend_from_slice(&guard.epoch.to_be_bytes());
    out.extend_from_slice(&guard.crc.to_be_bytes());
    out.extend_from_slice(&digest.count.to_be_bytes());
    out.extend_from_slice(&digest.order.to_be_bytes());
    out.extend_from_slice(&digest.set.to_be_bytes());
    put_name(&mut out, resume_point);
    out.extend_from_slice(&stored.target);
    put_name(&mut out, stored.writer.as_bytes());
    let crc = checksum(key, &out);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

/// Any two byte strings read as a record of a positions topic, for the fuzzer: the value as it is, and with its checksum put
/// right, since no fuzzer guesses one. What was read is written, and read again.
pub fn read_record(key: &[u8], value: &[u8]) {
    if let Ok(stream) = decode_key(key) {
        assert_eq!(decode_key(&encode_key(&stream)), Ok(stream));
    }
    let body = &value[..value.len().saturating_sub(4)];
    let sealed = [body, &checksum(key, body).to_be_bytes()].concat();
    for value in [value, &sealed] {
        if let Ok(stored) = decode_value(key, value) {
            assert_eq!(decode_value(key, &encode_value(key, &stored)), Ok(stored));
        }
    }
}

/// What is stored under `key`.
///
/// # Errors
/// When the bytes were changed, or are of a version that is not known.
pub(super) fn decode_value(key: &[u8], bytes: &[u8]) -> Result<Stored, Malformed> {
    let what = "position";
    version(&mut { bytes }, what, VALUE_VERSION)?;
    let (body, mut stored_crc) = bytes
        .split_at_checked(bytes.len().saturating_sub(4))
        .unwrap_or((bytes, &[]));
    let (stored, computed) = (take_int(&mut stored_crc, what)?, checksum(key, body));
    if stored != computed {
        return Err(Malformed::Checksum {
            what,
            stored,
            computed,
        });
    }
    // Once more: in a value shorter than a checksum, the byte seen above was one of the checksum.
    let mut rest = body;
    version(&mut rest, what, VALUE_VERSION)?;
    let position = Position {
        incarnation: take_int(&mut rest, "incarnation")?,
        start: Sequence(take_int(&mut rest, "start")?),
        at: Sequence(take_int(&mut rest, "at")?),
        guard: Guard {
            epoch: take_int(&mut rest, "epoch")?,
            crc: take_int(&mut rest, "crc")?,
        },
        digest: Digest::from_parts(
            take_int(&mut rest, "count")?,
            take_int(&mut rest, "order")?,
            take_int(&mut rest, "set")?,
        ),
        resume_point: take_counted(&mut rest, "resume point", RESUME_POINT_BYTES_MAX)?.to_vec(),
    };
    if position.at < position.start {
        return Err(Malformed::Invalid {
            what,
            why: "lies before its start",
        });
    }
    let target = take_id(&mut rest, "target topic id")?;
    let writer = take_text(&mut rest, "writer")?.to_owned();
    ends(rest, what)?;
    Ok(Stored {
        position,
        target,
        writer,
    })
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(key);
    crc.update(value);
    crc.finish()
}

/// Names are at most 249 bytes and resume points at most 4 KiB, so the length always fits.
fn put_name(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

fn take_counted<'a>(rest: &mut &'a [u8], what: &'static str, max: usize) -> Result<&'a [u8], Malformed> {
    let size = usize::from(take_int::<u16>(rest, what)?);
    if size > max {
        return Err(Malformed::TooLarge { what, size, max });
    }
    take(rest, size, what)
}

fn take_text<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a str, Malformed> {
    // Transactional ids are a connector's name and a little more.
    let bytes = take_counted(rest, what, 2 * NAME_BYTES_MAX)?;
    std::str::from_utf8(bytes).map_err(|_| Malformed::Invalid {
        what,
        why: "is not UTF-8",
    })
}

fn take_name(rest: &mut &[u8], what: &'static str) -> Result<Arc<str>, Malformed> {
    Ok(take_text(rest, what)?.into())
}

fn take_id(rest: &mut &[u8], what: &'static str) -> Result<[u8; 16], Malformed> {
    let mut id = [0; 16];
    id.copy_from_slice(take(rest, 16, what)?);
    Ok(id)
}

fn version(rest: &mut &[u8], what: &'static str, newest: u8) -> Result<(), Malformed> {
    let found: u8 = take_int(rest, what)?;
    if found == newest {
        return Ok(());
    }
    Err(Malformed::Version {
        what,
        found: found.into(),
        newest: newest.into(),
    })
}

fn ends(rest: &[u8], what: &'static str) -> Result<(), Malformed> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Invalid {
            what,
            why: "has bytes behind its end",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> [StreamId; 2] {
        let stream = |lineage| StreamId {
            site: "plant".into(),
            topic: "orders".into(),
            partition: 7,
            lineage,
        };
        [
            stream(Lineage::Replayable {
                cluster: "5L6g3nShT-eMCtK--X86sw".into(),
                topic: [3; 16],
            }),
            stream(Lineage::Run {
                outbox: [1; 16],
                run: [2; 16],
            }),
        ]
    }

    fn stored() -> Stored {
        let mut digest = Digest::EMPTY;
        digest.add(5);
        digest.add(u128::MAX);
        Stored {
            position: Position {
                incarnation: 2,
                start: Sequence(10),
                at: Sequence(u64::MAX),
                guard: Guard {
                    epoch: -1,
                    crc: 0xdead_beef,
                },
                digest,
                resume_point: vec![9; RESUME_POINT_BYTES_MAX],
            },
            target: [8; 16],
            writer: "culvert.orders.3".to_owned(),
        }
    }

    #[test]
    fn what_is_stored_is_read_back() {
        for stream in streams() {
            let key = encode_key(&stream);
            assert_eq!(decode_key(&key).unwrap(), stream);
            assert_eq!(
                decode_value(&key, &encode_value(&key, &stored())).unwrap(),
                stored()
            );
        }
    }

    #[test]
    fn a_changed_byte_is_noticed_and_a_cut_one_too() {
        let key = encode_key(&streams()[0]);
        let value = encode_value(&key, &stored());
        for index in 0..value.len() {
            let mut wrong = value.clone();
            wrong[index] ^= 0x40;
            assert!(decode_value(&key, &wrong).is_err(), "byte {index}");
            assert!(decode_value(&key, &value[..index]).is_err(), "cut at {index}");
        }
        for cut in 0..key.len() {
            assert!(decode_key(&key[..cut]).is_err(), "key cut at {cut}");
        }
        let other = encode_key(&streams()[1]);
        assert!(matches!(
            decode_value(&other, &value),
            Err(Malformed::Checksum { .. })
        ));
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let key = encode_key(&streams()[0]);
        let mut value = encode_value(&key, &stored());
        value[0] = 2;
        assert!(matches!(
            decode_value(&key, &value),
            Err(Malformed::Version {
                found: 2,
                newest: 1,
                ..
            })
        ));
    }
}
