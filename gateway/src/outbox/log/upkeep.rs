//! Giving back the disk that a slow lane would pin: the few live frames of a mostly dead segment are copied to the
//! end of the log, a little between any two commits, until the segment holds nothing and goes.

use super::segment::{GroupWriter, Walk};
use super::{Log, SEGMENT_BYTES, stored_bytes};
use crate::outbox::change::Held;
use crate::outbox::engine::{Fault, FrameRef, Index, Place, Shelf as _, Upkeep};
use crate::outbox::entry::{Header, Kind};
use culvert_proto::Interval;
use std::collections::VecDeque;

/// Bytes copied in one step: a commit that waits behind it is late by the time that takes.
const STEP_BYTES: u64 = 1 << 20;

/// A segment is worth copying when less than this part of it is live, in percent. At 60 the log stays below 1.7
/// times what it holds, and copying one byte gives back at least two thirds of a byte.
const LIVE_PERCENT_MAX: u64 = 60;

/// A segment that is being emptied.
pub(super) struct Copying {
    segment: u32,
    /// Frames that were live when it began.
    frames: VecDeque<(Interval, FrameRef)>,
}

impl Log {
    /// One step.
    pub(super) fn copy_step(&mut self, index: &dyn Index) -> Result<Upkeep, Fault> {
        let Some(mut copying) = self.copying.take().or_else(|| self.choose(index)) else {
            return Ok(Upkeep::Done);
        };
        match self.copy(&mut copying, index) {
            Ok(()) if copying.frames.is_empty() => {
                self.remove_if_dead(copying.segment);
                Ok(Upkeep::More)
            }
            Ok(()) => {
                self.copying = Some(copying);
                Ok(Upkeep::More)
            }
            // No space to copy to: what is trimmed will make some.
            Err(Fault::Full) => Ok(Upkeep::Done),
            Err(fatal) => Err(fatal),
        }
    }

    /// The sealed segment with the smallest live part, once the log takes too much beyond what it holds.
    fn choose(&mut self, index: &dyn Index) -> Option<Copying> {
        let live = index.live_bytes();
        let taken: u64 = self.segments.values().map(|segment| segment.length).sum();
        if taken <= live + live / 2 + 2 * SEGMENT_BYTES {
            return None;
        }
        let sealed = self
            .segments
            .iter()
            .filter(|(number, _)| **number != self.current && !self.unreadable.contains(number));
        let (number, segment) =
            sealed.min_by_key(|(_, segment)| segment.live_bytes * 100 / segment.length.max(1))?;
        if segment.live_bytes * 100 / segment.length.max(1) >= LIVE_PERCENT_MAX {
            return None;
        }
        let number = *number;
        let frames = self.live_frames(number, index);
        if frames.is_none() {
            self.unreadable.insert(number);
        }
        Some(Copying {
            segment: number,
            frames: frames?,
        })
    }

    fn live_frames(&self, segment: u32, index: &dyn Index) -> Option<VecDeque<(Interval, FrameRef)>> {
        let file = self.shelf.file(segment).ok()?;
        let mut walk = Walk::new(&*file, &self.shelf.id, segment, false).ok()?;
        let mut frames = VecDeque::new();
        while let Some(group) = walk.next().ok()? {
            for entry in group.entries {
                let Header {
                    kind,
                    lane,
                    life,
                    interval,
                    length,
                    ..
                } = entry.header;
                let place = Place {
                    segment,
                    offset: entry.offset,
                };
                let frame = FrameRef {
                    lane,
                    life,
                    held: Held {
                        from: interval.from,
                        bytes: length,
                        place,
                    },
                };
                if matches!(kind, Kind::Frame | Kind::Copy) && index.holds(frame) {
                    frames.push_back((interval, frame));
                }
            }
        }
        Some(frames)
    }

    fn copy(&mut self, copying: &mut Copying, index: &dyn Index) -> Result<(), Fault> {
        let mut group = GroupWriter::new(std::mem::take(&mut self.buffer));
        let (mut chosen, mut pushed, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < STEP_BYTES {
            let Some((interval, frame)) = copying.frames.pop_front() else {
                break;
            };
            if !index.holds(frame) {
                continue;
            }
            let Ok(Some(payload)) = self.shelf.read(frame) else {
                self.unreadable.insert(copying.segment);
                copying.frames.clear();
                break;
            };
            let header = Header::new(Kind::Copy, frame.lane, frame.life, interval, &payload);
            pushed.push(group.push(&header, &payload));
            bytes += stored_bytes(frame.held.bytes);
            chosen.push(frame);
        }
        if chosen.is_empty() {
            return Ok(());
        }
        self.rotate_for(bytes)?;
        let places = self.write_group(group, &pushed)?;
        for (frame, place) in chosen.into_iter().zip(places) {
            if index.moved(frame, place) {
                self.take_back(frame);
                if let Some(segment) = self.segments.get_mut(&place.segment) {
                    segment.live_bytes += stored_bytes(frame.held.bytes);
                }
            }
        }
        Ok(())
    }
}
