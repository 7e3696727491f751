//! The sink's side: one shard, its only writer, and what may be written next of each stream (rules C1-C4).
//!
//! What it keeps, by the numbers in `ARCHITECTURE.md`:
//! - S1, S2: a frame is applied from the place behind the last record written: overlap is cut, a gap refused.
//! - S3: the position that goes into the atomic write is the end of what was written in it.
//! - S6: what is cut off as known is the very record the sink holds: its identity is compared at the seam.
//! - S7: nothing is written or answered before the shard was taken, and after any fault it is taken again.
//! - C1: an answer to a question is given only after this writer has proven, by a commit or by taking the shard,
//!   that it still is the writer. While it is, nobody else has written: what it knows to be absent is absent.

use crate::digest::Digest;
use crate::position::{Guard, Position, Seam};
use crate::sequence::{Interval, Sequence};
use crate::stream::StreamId;
use crate::traps::{Trap, planted};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// One shard of one sink, as its gateway sees it.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    incarnation: u32,
    writer: Option<u128>,
    streams: BTreeMap<StreamId, Stream>,
    asked: Vec<Question>,
}

#[derive(Clone, Debug)]
struct Stream {
    /// As the sink holds it.
    position: Position,
    /// As it will be once the open write is committed.
    written: Position,
    halted: bool,
}

/// A question for fresh positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the question.
    pub nonce: u128,
    /// Of which streams.
    pub streams: Vec<StreamId>,
}

/// What the sink holds of the streams asked about: read from the sink after the question (fresh).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question.
    pub nonce: u128,
    /// Who answers: positions made known later count only from the same writer.
    pub writer: u128,
    /// Of each stream asked about: its position, or none.
    pub positions: Vec<(StreamId, Option<Position>)>,
}

/// What to do with a frame that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write its records from here on.
    Apply(Sequence),
    /// The sink holds all of it, or will when the open write is committed.
    Known,
    /// It begins behind what is held: ask to be sent from here.
    Gap(Sequence),
    /// The stream was never begun here; its origin must say where it begins.
    Unbegun,
    /// The stream stands still, or the shard is not ours now.
    NotNow,
}

/// Whether a frame continues what the sink holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The record before the seam is the one the sink holds, as far as both know.
    Admitted,
    /// It is another one: the source's history changed (S6). The stream stands still until an operator decides.
    Forked {
        /// The seam.
        at: Sequence,
        /// Identity of what the sink holds before it.
        held: Guard,
        /// What the frame has before it.
        found: Seam,
    },
}

impl Receiver {
    /// A shard that was not taken yet. Positions of another incarnation are left alone and not answered with.
    #[must_use]
    pub fn new(incarnation: u32) -> Receiver {
        Receiver {
            incarnation,
            ..Receiver::default()
        }
    }

    // ----- the shard -------------------------------------------------------------------------------------------

    /// Whether the shard must be taken before anything else can be done.
    #[must_use]
    pub fn must_take(&self) -> bool {
        self.writer.is_none()
    }

    /// The shard was taken: earlier writers are fenced, and these are the positions read since (C1). `writer` is
    /// random and names this taking.
    pub fn taken(&mut self, writer: u128, positions: impl IntoIterator<Item = (StreamId, Position)>) {
        self.writer = Some(writer);
        self.streams = positions
            .into_iter()
            .filter(|(_, position)| position.incarnation == self.incarnation)
            .map(|(id, position)| {
                (
                    id,
                    Stream {
                        written: position.clone(),
                        position,
                        halted: false,
                    },
                )
            })
            .collect();
    }

    /// The writer is no longer of use: its outcome is uncertain, it was fenced, or the sink went away (C3). What
    /// was written and not committed is forgotten; questions stay.
    pub fn lost(&mut self) {
        self.writer = None;
    }

    /// Who the writer is, once the shard was taken.
    #[must_use]
    pub fn writer(&self) -> Option<u128> {
        self.writer
    }

    // ----- frames ----------------------------------------------------------------------------------------------

    /// A frame of `interval` came. What is to be applied must be admitted first ([`Receiver::admit`]).
    #[must_use]
    pub fn frame(&self, id: &StreamId, interval: Interval) -> Verdict {
        if self.must_take() {
            return Verdict::NotNow;
        }
        let Some(stream) = self.streams.get(id) else {
            return Verdict::Unbegun;
        };
        let at = stream.written.at;
        if stream.halted {
            Verdict::NotNow
        } else if interval.to <= at {
            Verdict::Known
        } else if interval.from > at && !planted(Trap::GapAccepted) {
            Verdict::Gap(at)
        } else if planted(Trap::GapAccepted) || planted(Trap::OverlapAppliedWhole) {
            Verdict::Apply(interval.from)
        } else {
            Verdict::Apply(at)
        }
    }

    /// The frame to be applied has `found` before the place where it is to be applied from.
    #[must_use]
    pub fn admit(&mut self, id: &StreamId, found: impl Into<Seam>) -> Admission {
        let found = found.into();
        let Some(stream) = self.streams.get_mut(id) else {
            return Admission::Admitted;
        };
        let held = stream.written.guard;
        let unchecked = [Trap::GuardUnchecked, Trap::GapAccepted, Trap::OverlapAppliedWhole];
        if found.fits(held) || unchecked.into_iter().any(planted) {
            return Admission::Admitted;
        }
        stream.halted = true;
        Admission::Forked {
            at: stream.written.at,
            held,
            found,
        }
    }

    /// Records of `id` up to `to` were written into the open write: `digest` is theirs, `guard` names what lies before
    /// `to`.
    pub fn wrote(&mut self, id: &StreamId, to: Sequence, guard: Guard, digest: &Digest) {
        if let Some(stream) = self.streams.get_mut(id) {
            let written = &mut stream.written;
            written.at = written.at.max(to);
            written.digest = written.digest.then(digest);
            written.guard = guard;
        }
    }

    /// The origin says where a stream begins of which the sink holds nothing. Goes into the next commit; a stream
    /// that has a position keeps it.
    pub fn begin(&mut self, question: u128, id: &StreamId, start: Sequence, guard: Guard) {
        let is_held = self.streams.contains_key(id) && !planted(Trap::BeginOverwrites);
        if !self.must_take() && !is_held {
            let written = Position::beginning(self.incarnation, start, guard);
            // Not held before its first commit: an impossible earlier position makes it part of that commit.
            let position = Position {
                incarnation: self.incarnation.wrapping_sub(1),
                ..written.clone()
            };
            self.streams.insert(
                id.clone(),
                Stream {
                    position,
                    written,
                    halted: false,
                },
            );
        }
        self.asked.push(Question {
            nonce: question,
            streams: Vec::from([id.clone()]),
        });
    }

    /// One record or stream cannot go on until an operator decides; the others do (L3).
    pub fn halt(&mut self, id: &StreamId) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.halted = true;
        }
    }

    // ----- commit ----------------------------------------------------------------------------------------------

    /// Whether there is something to commit: records written, beginnings, or questions to prove oneself for.
    #[must_use]
    pub fn must_commit(&self) -> bool {
        !self.asked.is_empty()
            || self
                .streams
                .values()
                .any(|stream| stream.position != stream.written)
    }

    /// The positions that go into the open atomic write (S3): of each stream written to, and of each asked about,
    /// so that the commit proves this writer (C1). Empty where only streams were asked about of which the sink holds
    /// nothing: a commit without positions must then prove the writer.
    #[must_use]
    pub fn to_commit(&self) -> Vec<(StreamId, Position)> {
        let asked: BTreeSet<&StreamId> = self.asked.iter().flat_map(|question| &question.streams).collect();
        self.streams
            .iter()
            .filter(|(id, stream)| stream.position != stream.written || asked.contains(id))
            .map(|(id, stream)| (id.clone(), stream.written.clone()))
            .collect()
    }

    /// The atomic write is done: the positions that moved are now the sink's, to be made known, and the questions
    /// that can be answered are.
    #[must_use]
    pub fn committed(&mut self) -> (Vec<(StreamId, Position)>, Vec<Answer>) {
        let mut moved = Vec::new();
        for (id, stream) in &mut self.streams {
            if stream.position != stream.written {
                stream.position = stream.written.clone();
                moved.push((id.clone(), stream.position.clone()));
            }
        }
        (moved, self.answer())
    }

    /// The sink's position of a stream, as far as this writer knows.
    #[must_use]
    pub fn position(&self, id: &StreamId) -> Option<&Position> {
        self.streams
            .get(id)
            .map(|stream| &stream.position)
            .filter(|p| p.incarnation == self.incarnation)
    }

    /// Where the stream must be sent from.
    #[must_use]
    pub fn wants(&self, id: &StreamId) -> Option<Sequence> {
        self.streams.get(id).map(|stream| stream.written.at)
    }

    /// All streams with a position.
    pub fn streams(&self) -> impl Iterator<Item = (&StreamId, &Position)> {
        self.streams
            .iter()
            .map(|(id, stream)| (id, &stream.position))
            .filter(|(_, p)| p.incarnation == self.incarnation)
    }

    // ----- questions -------------------------------------------------------------------------------------------

    /// Somebody asks for fresh positions. Answered by a later [`Receiver::committed`] or
    /// [`Receiver::answer_after_taking`].
    pub fn ask(&mut self, question: Question) {
        if self.asked.contains(&question) {
            return;
        }
        self.asked.push(question);
    }

    /// The questions that taking the shard has just answered.
    #[must_use]
    pub fn answer_after_taking(&mut self) -> Vec<Answer> {
        self.answer()
    }

    fn answer(&mut self) -> Vec<Answer> {
        let Some(writer) = self.writer else {
            return Vec::new();
        };
        let asked = core::mem::take(&mut self.asked);
        let position = |id: &StreamId| (id.clone(), self.position(id).cloned());
        asked
            .into_iter()
            .map(|question| Answer {
                nonce: question.nonce,
                writer,
                positions: question.streams.iter().map(position).collect(),
            })
            .collect()
    }
}
