//! The frames of the simulation as the bytes that disks and links really hold: spelled, damaged, and read again.

use super::outbox::Frame;
use super::source::crc_of;
use super::world::World;
use culvert_proto::batch::{Codec, NoCompression};
use culvert_proto::frame::{self, FrameBuilder, Push};
use culvert_proto::record::{Headers, RecordRef};
use culvert_proto::wire::Malformed;
use culvert_proto::{Sequence, StreamId};

impl World {
    /// Sends the frame's real bytes through the same cuts, and through one flipped bit.
    pub fn check_bytes(&mut self, stream: usize, frame: &Frame) {
        let spelled = match spell(&self.histories[stream].id, frame) {
            Ok(spelled) => spelled,
            Err(error) => {
                self.violated(
                    "S6",
                    format!("frame {} cannot be spelled: {error}", frame.interval),
                );
                return;
            }
        };
        if let Err(seen) = compare(&spelled, frame) {
            self.violated("S6", format!("frame {}: {seen}", frame.interval));
        }
        let mut bytes = spelled.bytes().to_vec();
        let bit = self.rng.below(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if frame::Frame::decode(bytes.into()).is_ok() {
            self.violated(
                "S6",
                format!("frame {} is believed with bit {bit} flipped", frame.interval),
            );
        }
        self.stats.bits_flipped += 1;
    }
}

fn spell(stream: &StreamId, frame: &Frame) -> Result<frame::Frame, Malformed> {
    let mut builder = FrameBuilder::new(stream, frame.interval.from, frame.guard_from)?;
    for record in &frame.records {
        let value = record.key.to_be_bytes();
        let spelled = RecordRef {
            timestamp: 0,
            key: None,
            value: Some(&value),
            headers: Headers::NONE,
        };
        if builder.push_as(record.at, record.epoch, crc_of(record.key), &spelled)? == Push::NotTaken {
            return Err(Malformed::Invalid {
                what: "record",
                why: "was not taken",
            });
        }
    }
    if builder.advance_in(frame.interval.to, frame.epoch)? == Push::NotTaken {
        return Err(Malformed::Invalid {
            what: "hole",
            why: "was not taken",
        });
    }
    let finished = builder.finish(Codec::None, &NoCompression)?;
    let finished = finished.ok_or(Malformed::Invalid {
        what: "frame",
        why: "is empty",
    })?;
    frame::Frame::decode(finished.bytes().clone())
}

/// Whether the bytes say what the frame says, wherever it is cut.
fn compare(spelled: &frame::Frame, frame: &Frame) -> Result<(), String> {
    if (spelled.interval(), spelled.guard_end()) != (frame.interval, frame.guard_end()) {
        return Err(format!(
            "reads {} and ends with {:?}",
            spelled.interval(),
            spelled.guard_end()
        ));
    }
    let mut scratch = Vec::new();
    for at in (frame.interval.from.0..=frame.interval.to.0).map(Sequence) {
        let records = spelled
            .records(at, &mut scratch, &NoCompression)
            .map_err(|error| error.to_string())?;
        if records.seam() != frame.seam(at) {
            return Err(format!(
                "cut at {at}: {:?} instead of {:?}",
                records.seam(),
                frame.seam(at)
            ));
        }
        let found: Vec<Sequence> = records.filter_map(|record| Some(record.ok()?.0)).collect();
        let behind = frame
            .records
            .iter()
            .map(|record| record.at)
            .filter(|place| *place >= at);
        if !behind.eq(found.iter().copied()) {
            return Err(format!("cut at {at}: finds {found:?}"));
        }
    }
    Ok(())
}
