//! The path of a record, in travel order: [`intake`] → [`transit`] → [`delivery`].
//!
//! This room declares what it needs of the outside world, [`Source`] and [`Sink`]; connectors implement it. What is
//! decided about a record is decided by the pure machines of `culvert-proto`; this room gives them threads, disks
//! and links.

use culvert_proto::columns::Rejection;
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::{Guard, Position, Sequence, StreamId};
use std::time::Duration;

#[cfg(test)]
mod bench;
pub mod delivery;
pub mod exchange;
pub mod intake;
pub mod letters;
pub mod mend;
pub mod paged;
pub mod predicate;
pub mod prove;
pub mod schema;
pub mod seen;
pub mod stage;
pub mod transit;

/// The outside system that records come from: one task of one source connector.
///
/// A source runs on a thread of its own and may block in [`Source::poll`], and nowhere else for longer than it
/// takes to talk to its own client library. It does not decide what is delivered, freed or committed: intake tells
/// it where to read, when to pause and what may be committed.
pub trait Source: Send {
    /// Waits at most `wait` for news and hands everything that is there to `intake`, in stream order.
    ///
    /// A stream that was assigned reads nothing until [`Source::seek`] has placed it.
    ///
    /// # Errors
    /// [`SourceFault::Retry`] for what heals by waiting (the outside system is away), [`SourceFault::Stop`] for
    /// what needs an operator. A fault of one stream alone goes to [`Intake::halted`] instead (L3).
    fn poll(&mut self, wait: Duration, intake: &mut dyn Intake) -> Result<(), SourceFault>;

    /// Reads the stream in `slot` from `place` on. What was read before and not yet handed over is discarded.
    ///
    /// With a guard, the source first checks that its history below `place` is the one that was delivered
    /// (A1): same topic, the guard's epoch reaches `place`, the log still holds `place`, and the
    /// record before it, where it still exists, has the guard's CRC. The outcome, [`Intake::placed`] or
    /// [`Intake::halted`], comes from a later [`Source::poll`].
    ///
    /// # Errors
    /// As [`Source::poll`].
    fn seek(&mut self, slot: Slot, place: Place) -> Result<(), SourceFault>;

    /// Stops handing over records of this stream until [`Source::resume`]; keeps its assignment (A7).
    ///
    /// # Errors
    /// As [`Source::poll`].
    fn pause(&mut self, slot: Slot) -> Result<(), SourceFault>;

    /// Goes on where [`Source::pause`] stopped.
    ///
    /// # Errors
    /// As [`Source::poll`].
    fn resume(&mut self, slot: Slot) -> Result<(), SourceFault>;

    /// Tells the outside system that everything below `applied` has arrived (A6). For people and for a cold start;
    /// correctness does not rest on it. Never called with a place that no sink has applied (S5).
    ///
    /// # Errors
    /// As [`Source::poll`].
    fn commit(&mut self, applied: &[(Slot, Sequence)]) -> Result<(), SourceFault>;

    /// Leaves the outside system in good order. Called once, last.
    fn close(&mut self);
}

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first record there is.
    Earliest,
    /// Behind the last record there is now.
    Latest,
    /// Exactly here. Never moved to somewhere else when it is gone: that halts the stream.
    At {
        /// The next record wanted.
        at: Sequence,
        /// Identity of the record before it; [`Guard::NONE`] where nothing was delivered yet.
        guard: Guard,
    },
}

/// A source's own small number for a stream that is assigned to it. A number is not used again for another stream
/// while the source lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// What a [`Source`] reports to, implemented by [`intake`].
pub trait Intake {
    /// This task now reads `stream`, and calls it `slot`. `committed` is what [`Source::commit`] last stored for
    /// it, if the outside system remembers.
    fn assigned(&mut self, slot: Slot, stream: StreamId, committed: Option<Sequence>);

    /// This task no longer reads this stream. Nothing of it may be sent from now on that was not durable before.
    fn revoked(&mut self, slot: Slot);

    /// A seek was carried out: the next record will be at or behind `at`. `guard` identifies the record before
    /// `at` if the source knows it, else repeats what the seek carried.
    fn placed(&mut self, slot: Slot, at: Sequence, guard: Guard);

    /// The next record. `epoch` is the leader epoch it was written under, -1 where there is none. Sequences grow
    /// and may leave holes.
    fn record(&mut self, slot: Slot, sequence: Sequence, epoch: i32, record: &RecordRef<'_>);

    /// Everything below `to` was handed over: places without a record (control records, compaction) are accounted
    /// for too. `epoch` is the leader epoch of the very place before `to`, which may be later than that of the last
    /// record; -1 where there is none or it is not known.
    fn advanced(&mut self, slot: Slot, to: Sequence, epoch: i32);

    /// This stream cannot go on. It alone stops; the operator decides (L3).
    fn halted(&mut self, slot: Slot, halt: Halt);

    /// What the task waits for although its outside system answers, such as a topic that is not there; `None` once
    /// it waits no more. It goes on by itself: this is for people only.
    fn waits_for(&mut self, _what: Option<Halt>) {}
}

/// Why one stream stands still until an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Halt {
    /// The code of the page in `docs/errors/`.
    pub code: &'static str,
    /// What happened, with the numbers, and what the operator can do.
    pub reason: String,
}

/// Why a source cannot go on as it is.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// Heals by waiting: the task tries again.
    #[error("{0}")]
    Retry(String),
    /// Needs an operator: the task fails with this text.
    #[error("[{code}] {reason}")]
    Stop {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened and what the operator can do.
        reason: String,
    },
}

/// The outside system that records go to: one shard of one sink connector, with exactly one writer (S7).
///
/// A sink runs on a thread of its own and may block. Between [`Sink::take`] and the first fault it is the writer;
/// after any [`SinkFault`] but `Record` and `Again` it must not be used before `take` succeeded again.
pub trait Sink: Send {
    /// Becomes the shard's only writer: fences every earlier one, then reads the positions to the end, in this
    /// order (C1, T1). Drops whatever was written and not committed.
    ///
    /// # Errors
    /// [`SinkFault::Retry`] while the outside system is away; [`SinkFault::Stop`] for what needs an operator.
    fn take(&mut self) -> Result<Vec<(StreamId, Position)>, SinkFault>;

    /// Writes records of one stream, in order, into the open atomic write, opening one if there is none. Takes
    /// every item of `records` unless it fails. Nothing is visible before [`Sink::commit`].
    ///
    /// # Errors
    /// Any [`SinkFault`].
    fn write(
        &mut self,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault>;

    /// As [`Sink::write`], for records that a stage sent to another topic than their stream's.
    ///
    /// # Errors
    /// Any [`SinkFault`]. Only called where [`Sink::takes_topics`].
    fn write_to(
        &mut self,
        topic: &str,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        let (_, _) = (topic, records);
        Err(SinkFault::Retry(format!(
            "{stream}: this sink has one topic for each stream"
        )))
    }

    /// Whether records can be written to other topics than their stream's.
    fn takes_topics(&self) -> bool {
        false
    }

    /// Whether several records of one place can be written: the parts that a stage expanded one record to.
    fn takes_parts(&self) -> bool {
        true
    }

    /// Whether the open atomic write is to be committed before more is written into it.
    fn is_full(&self) -> bool {
        false
    }

    /// Writes records that a stage refused to where this sink keeps dead letters, into the same open atomic write. A
    /// record is refused or written, never both (S10). Only called where [`delivery::Options::dead_letters`] is set.
    ///
    /// # Errors
    /// Any [`SinkFault`] but `Record`.
    fn refuse(&mut self, stream: &StreamId, letters: &[DeadLetter<'_>]) -> Result<(), SinkFault>;

    /// Makes the open write and these positions visible together and durable, or nothing of it (S3). Also called
    /// without records: positions move over holes, and a stream's beginning is stored before its first record. And
    /// without positions: success always proves that nobody has taken the shard since (C1).
    ///
    /// # Errors
    /// [`SinkFault::Uncertain`] when the outcome is not known: never tried again by the same writer (C3, T2).
    fn commit(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault>;
}

/// A record that does not go on, and why.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Its place in the stream.
    pub sequence: Sequence,
    /// The record as it came from its origin.
    pub record: RecordRef<'a>,
    /// The stage that refused it.
    pub stage: &'a str,
    /// Its reason.
    pub rejection: &'a Rejection,
}

impl DeadLetter<'_> {
    /// Adds the headers by which Kafka Connect's tools know a dead letter, and ours.
    pub fn put_context(&self, headers: &mut HeadersBuf, connector: &str, shard: u32, stream: &StreamId) {
        let rejection = self.rejection;
        let mut put = |name: &str, value: &str| headers.push(name, Some(value.as_bytes()));
        put("__connect.errors.topic", &stream.topic);
        put("__connect.errors.partition", &stream.partition.to_string());
        put("__connect.errors.offset", &self.sequence.to_string());
        put("__connect.errors.connector.name", connector);
        put("__connect.errors.task.id", &shard.to_string());
        put("__connect.errors.stage", "TRANSFORMATION");
        put("__connect.errors.class.name", self.stage);
        put("__connect.errors.exception.class.name", &rejection.code);
        put("__connect.errors.exception.message", &rejection.reason);
        put("culvert.site", &stream.site);
        put("culvert.code", &rejection.code);
        if let Some(field) = &rejection.field {
            put("culvert.field", field);
        }
    }
}

/// Why an atomic write did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum SinkFault {
    /// The environment: wait, `take` again, and the same records again. Never a dead letter (C4).
    #[error("{0}")]
    Retry(String),
    /// Only of [`Sink::commit`]: nothing became visible, for certain, and this writer goes on. Wait, and the same commit
    /// again (C4).
    #[error("{reason}")]
    Again {
        /// What it waits for.
        reason: String,
        /// The pause; one that grows where none is named. Of no length: it is not in trouble, only not done.
        after: Option<Duration>,
    },
    /// The outcome is not known: a new writer must read what happened (C3).
    #[error("outcome unknown: {0}")]
    Uncertain(String),
    /// Another writer has taken the shard; `take` again, it is not an error of the route (C3).
    #[error("fenced by another writer: {0}")]
    Fenced(String),
    /// This one record cannot be written, whatever is tried.
    #[error("record {sequence} refused: {reason}")]
    Record {
        /// Which record.
        sequence: Sequence,
        /// Why.
        reason: String,
    },
    /// This stream alone cannot go on, until an operator has decided.
    #[error("[{code}] {reason}")]
    Stream {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened and what the operator can do.
        reason: String,
    },
    /// As `Record`, of a record that was written into the open atomic write before: nothing of it happened.
    #[error("{stream}: record {sequence} refused: {reason}")]
    Unwritable {
        /// Its stream.
        stream: StreamId,
        /// Which record.
        sequence: Sequence,
        /// Why.
        reason: String,
    },
    /// The open atomic write ended its writer, as a record may do at which a plugin fails. The outcome is not known: as
    /// `Uncertain`, and next time with less in it, until the record at fault stands alone.
    #[error("[{code}] {reason}")]
    Poison {
        /// The code of the dead letter.
        code: &'static str,
        /// What happened.
        reason: String,
    },
    /// A stage refused this record, and there is nowhere to put it.
    #[error("record {sequence} refused by {reason}")]
    Refused {
        /// Which record.
        sequence: Sequence,
        /// Which stage, and why.
        reason: String,
    },
    /// Needs an operator: the route stops with this text.
    #[error("[{code}] {reason}")]
    Stop {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened and what the operator can do.
        reason: String,
    },
}

/// Reads back what one end holds, for `prove`. Opened beside a running source or sink; never disturbs it.
pub trait Reader: Send {
    /// Hands over every committed record of one target or source partition in order, beginning at `from` and
    /// ending before `to` in the outside system's own numbers, until `each` says stop.
    ///
    /// # Errors
    /// As [`Source::poll`].
    fn read(
        &mut self,
        topic: &str,
        partition: u32,
        from: Sequence,
        to: Option<Sequence>,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), SourceFault>;
}
