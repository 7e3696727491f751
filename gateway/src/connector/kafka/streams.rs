//! The streams of one source: which are assigned, what was asked of each, how far each was read.
//!
//! This is the source without its client: it decides what an event means for a stream, and never talks to a broker.
//!
//! ```text
//! Idle ──seek──▶ Seek ──carried out──▶ Landing ──first event──▶ Reading
//!                 ▲                       │                        │
//!                 └── record before the place is gone, place lost ─┘      any ──▶ Halted
//! ```

use crate::flow::{Halt, Intake, Place, Slot};
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::{Guard, Lineage, Sequence, StreamId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// All streams of a source.
#[derive(Default)]
pub(super) struct Streams {
    all: Vec<Stream>,
    slots_given: u32,
    /// The stream of the last record: records come in runs of one partition.
    last: usize,
}

/// One assigned partition.
pub(super) struct Stream {
    pub(super) slot: Slot,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) topic_id: [u8; 16],
    pub(super) state: State,
    /// Whether intake asked to wait. A seek is carried out all the same, so that its outcome is known.
    pub(super) paused: bool,
    /// Everything below was handed over.
    pub(super) next: u64,
    /// Whether the client was told to stop fetching a halted stream.
    pub(super) quiet: bool,
    /// Slots of streams that this partition held before its topic was made again.
    former: Vec<Slot>,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Assigned; intake has not said where to read.
    Idle,
    /// A seek is to be carried out.
    Seek(Seek),
    /// A seek was carried out; the first event tells where it led.
    Landing {
        /// The first record wanted.
        at: u64,
        /// As in [`Seek`].
        before: Before,
        /// As in [`Seek`].
        announce: bool,
    },
    /// Records are handed over.
    Reading,
    /// Stands still until an operator decides.
    Halted,
}

/// What to seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seek {
    pub(super) place: Place,
    /// What is known of the record before the place.
    pub(super) before: Before,
    /// Whether intake waits for word of the outcome.
    pub(super) announce: bool,
}

/// What is known of the record before a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// There is none, or it was compared already: not read again. The guard is repeated to intake.
    Settled(Guard),
    /// It is read again, and must be the one of this guard if it still exists.
    Compare(Guard),
    /// It is read to learn its guard.
    Learn,
}

/// A record as the client hands it over.
pub(super) struct Arrived<'a> {
    pub(super) offset: u64,
    pub(super) epoch: i32,
    pub(super) record: RecordRef<'a>,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.all.iter_mut()
    }

    pub(super) fn partitions(&self) -> Vec<(String, i32)> {
        self.all
            .iter()
            .map(|stream| (stream.topic.to_string(), stream.partition))
            .collect()
    }

    pub(super) fn by_slot(&mut self, slot: Slot) -> Option<&mut Stream> {
        self.all.iter_mut().find(|stream| stream.slot == slot)
    }

    /// The stream of a partition, quick for the partition that was asked for last.
    pub(super) fn find(&mut self, topic: &str, partition: i32) -> Option<&mut Stream> {
        let fits = |stream: &Stream| stream.partition == partition && *stream.topic == *topic;
        if !self.all.get(self.last).is_some_and(fits) {
            self.last = self.all.iter().position(fits)?;
        }
        self.all.get_mut(self.last)
    }

    /// Takes up a partition and tells intake.
    pub(super) fn assign(&mut self, stream: StreamId, committed: Option<Sequence>, intake: &mut dyn Intake) {
        let (Ok(partition), Lineage::Replayable { topic: topic_id, .. }) =
            (i32::try_from(stream.partition), &stream.lineage)
        else {
            return; // Kafka's own partitions always fit
        };
        let topic_id = *topic_id;
        let mut former = Vec::new();
        if let Some(index) = self
            .all
            .iter()
            .position(|old| old.partition == partition && old.topic == stream.topic)
        {
            let old = self.all.swap_remove(index);
            former = old.former;
            former.push(old.slot);
        }
        let slot = Slot(self.slots_given);
        self.slots_given += 1;
        self.all.push(Stream {
            slot,
            topic: stream.topic.clone(),
            partition,
            topic_id,
            state: State::Idle,
            paused: false,
            next: 0,
            quiet: false,
            former,
        });
        intake.assigned(slot, stream, committed);
    }

    /// Gives up a partition and tells intake.
    pub(super) fn revoke(&mut self, topic: &str, partition: i32, intake: &mut dyn Intake) {
        let Some(index) = self
            .all
            .iter()
            .position(|stream| stream.partition == partition && *stream.topic == *topic)
        else {
            return;
        };
        let stream = self.all.swap_remove(index);
        for slot in stream.former.iter().chain([&stream.slot]) {
            intake.revoked(*slot);
        }
    }
}

impl Stream {
    /// Asks for a place. What was asked for before is forgotten.
    pub(super) fn seek(&mut self, place: Place) {
        self.quiet = false;
        let before = match place {
            Place::Earliest => Before::Settled(Guard::NONE),
            Place::Latest => Before::Learn,
            Place::At {
                guard: Guard::NONE, ..
            } => Before::Settled(Guard::NONE),
            Place::At { guard, .. } => Before::Compare(guard),
        };
        self.state = State::Seek(Seek {
            place,
            before,
            announce: true,
        });
    }

    /// Asks for the next place again, for example because the client lost it. Intake need not hear of it.
    fn seek_next(&mut self) {
        let place = Place::At {
            at: Sequence(self.next),
            guard: Guard::NONE,
        };
        self.state = State::Seek(Seek {
            place,
            before: Before::Settled(Guard::NONE),
            announce: false,
        });
    }

    /// The seek to carry out now. A pause delays it only if nobody waits for its outcome.
    pub(super) fn due(&self) -> Option<Seek> {
        match self.state {
            State::Seek(seek) if seek.announce || !self.paused => Some(seek),
            _ => None,
        }
    }

    /// Whether the client should fetch this partition.
    pub(super) fn fetches(&self) -> bool {
        matches!(self.state, State::Landing { .. }) || (self.state == State::Reading && !self.paused)
    }

    /// A record was read. A record of another place than the one that is read is left out.
    pub(super) fn arrived(&mut self, arrived: &Arrived<'_>, intake: &mut dyn Intake) {
        if let State::Landing { at, before, announce } = self.state {
            self.landed_on(arrived, at, before, announce, intake);
        }
        if self.state == State::Reading && arrived.offset >= self.next {
            self.next = arrived.offset + 1;
            intake.record(
                self.slot,
                Sequence(arrived.offset),
                arrived.epoch,
                &arrived.record,
            );
        }
    }

    fn landed_on(
        &mut self,
        arrived: &Arrived<'_>,
        at: u64,
        before: Before,
        announce: bool,
        intake: &mut dyn Intake,
    ) {
        let found = || Guard {
            epoch: arrived.epoch,
            crc: arrived.record.crc32c(),
        };
        match before {
            _ if arrived.offset >= at => self.landed_behind(at, before, announce, intake),
            Before::Settled(_) => {} // a record below the place: left over from before the seek
            Before::Learn if arrived.offset + 1 == at => self.landed(at, found(), announce, intake),
            Before::Compare(guard) if arrived.offset + 1 == at => {
                if is_same(guard, found()) {
                    self.landed(at, guard, announce, intake);
                } else {
                    self.halt(other_record(at, guard, found()), intake);
                }
            }
            Before::Learn | Before::Compare(_) => {}
        }
    }

    /// Nothing is left below `offset` that was not handed over; the place before it is of leader epoch `epoch`, or
    /// -1 where that is not known.
    pub(super) fn ended(&mut self, offset: u64, epoch: i32, intake: &mut dyn Intake) {
        match self.state {
            State::Landing { at, before, announce } if offset >= at => {
                self.landed_behind(at, before, announce, intake);
            }
            State::Landing { at, .. } => self.halt(truncated(at, offset), intake),
            _ => {}
        }
        if self.state == State::Reading && offset >= self.next {
            self.next = offset;
            intake.advanced(self.slot, Sequence(offset), epoch);
        }
    }

    /// The first thing read lies at or behind the place: the record before it is settled or does not exist.
    fn landed_behind(&mut self, at: u64, before: Before, announce: bool, intake: &mut dyn Intake) {
        match before {
            Before::Settled(guard) => self.landed(at, guard, announce, intake),
            Before::Learn => self.reseek(at, Guard::NONE, announce),
            // Compacted away, or a control record. The leader epoch is then compared at `at` itself.
            Before::Compare(guard) => self.reseek(at, guard, announce),
        }
    }

    fn reseek(&mut self, at: u64, guard: Guard, announce: bool) {
        let place = Place::At {
            at: Sequence(at),
            guard,
        };
        self.state = State::Seek(Seek {
            place,
            before: Before::Settled(guard),
            announce,
        });
    }

    fn landed(&mut self, at: u64, guard: Guard, announce: bool, intake: &mut dyn Intake) {
        self.next = at;
        if announce {
            intake.placed(self.slot, Sequence(at), guard);
        }
        if self.paused {
            self.seek_next();
        } else {
            self.state = State::Reading;
        }
    }

    /// The client lost its place: it is looked up anew, and judged then.
    pub(super) fn lost(&mut self, reason: &str, intake: &mut dyn Intake) {
        match self.state {
            State::Reading | State::Landing { .. }
                if reason.contains("truncation") || reason.contains("epoch") =>
            {
                self.halt(epoch_ended(self.next, reason), intake);
            }
            State::Reading => self.seek_next(),
            State::Landing { at, before, announce } => {
                let guard = match before {
                    Before::Settled(guard) | Before::Compare(guard) => guard,
                    Before::Learn => Guard::NONE,
                };
                let place = Place::At {
                    at: Sequence(at),
                    guard,
                };
                self.state = State::Seek(Seek {
                    place,
                    before,
                    announce,
                });
            }
            State::Idle | State::Seek(_) | State::Halted => {}
        }
    }

    /// Stands still from now on, and says why. Said once.
    pub(super) fn halt(&mut self, halt: Halt, intake: &mut dyn Intake) {
        if self.state != State::Halted {
            self.state = State::Halted;
            intake.halted(self.slot, halt);
        }
    }
}

/// Where to read first, by what was asked and what the log holds: the offset, the epoch to compare, what is then
/// expected.
///
/// # Errors
/// Why the place cannot be read.
pub(super) fn resolve(seek: Seek, start: u64, end: u64) -> Result<(u64, i32, State), Halt> {
    let at = match seek.place {
        Place::Earliest => start,
        Place::Latest => end,
        Place::At { at, .. } if at.0 < start => return Err(retention_passed(at.0, start)),
        Place::At { at, .. } if at.0 > end => return Err(truncated(at.0, end)),
        Place::At { at, .. } => at.0,
    };
    let exists = at > start; // else there is no record before `at` to read
    let (first, epoch, before) = match seek.before {
        Before::Settled(guard) => (at, guard.epoch, seek.before),
        Before::Learn if exists => (at - 1, -1, seek.before),
        Before::Learn => (at, -1, Before::Settled(Guard::NONE)),
        Before::Compare(guard) if exists => (at - 1, guard.epoch, seek.before),
        Before::Compare(guard) => (at, guard.epoch, Before::Settled(guard)),
    };
    Ok((
        first,
        epoch,
        State::Landing {
            at,
            before,
            announce: seek.announce,
        },
    ))
}

/// What is not known of the place is not held against it: a record that a stage left out has its epoch only.
fn is_same(expected: Guard, found: Guard) -> bool {
    let same_record = expected.crc == 0 || expected.crc == found.crc;
    same_record && (expected.epoch == -1 || expected.epoch == found.epoch)
}

fn retention_passed(at: u64, start: u64) -> Halt {
    Halt {
        code: "CULVERT-K003",
        reason: format!(
            "the records [{at}, {start}) are wanted and no longer in the log, which begins at {start}: the sink stands \
             before them; accept the loss by beginning the route anew (culvert.incarnation)"
        ),
    }
}

fn truncated(at: u64, end: u64) -> Halt {
    Halt {
        code: "CULVERT-K005",
        reason: format!(
            "{at} is the next record wanted, but the log ends at {end}: records that were delivered are gone from the \
             source; begin the route anew (culvert.incarnation) to deliver what is there now"
        ),
    }
}

fn epoch_ended(at: u64, reason: &str) -> Halt {
    Halt {
        code: "CULVERT-K005",
        reason: format!(
            "the log below {at} is not the one that was delivered ({reason}); begin the route anew \
             (culvert.incarnation) to deliver what is there now"
        ),
    }
}

fn other_record(at: u64, expected: Guard, found: Guard) -> Halt {
    let last = at.saturating_sub(1);
    Halt {
        code: "CULVERT-K006",
        reason: format!(
            "record {last} is not the one that was delivered (leader epoch {} and checksum {:08x} then, {} and {:08x} \
             now); begin the route anew (culvert.incarnation) to deliver what is there now",
            expected.epoch, expected.crc, found.epoch, found.crc
        ),
    }
}

/// Topics that are to be read and do not exist.
pub(super) fn topics_absent(topics: &BTreeSet<String>) -> Halt {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    Halt {
        code: "CULVERT-K020",
        reason: format!(
            "topic {} does not exist; it is read from its beginning as soon as it is made",
            names.join(", ")
        ),
    }
}

/// The topic that the stream was read from is gone.
pub(super) fn topic_gone(topic: &str, next: u64, made_again: bool) -> Halt {
    let now = if made_again {
        "; the topic that has its name now is read as a new stream"
    } else {
        ""
    };
    Halt {
        code: "CULVERT-K004",
        reason: format!("topic {topic} was deleted, and with it what was not read yet, from {next} on{now}"),
    }
}

/// Where headers of the record at hand are collected; one for all records.
pub(super) type Headers = HeadersBuf;

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::record::Headers as RecordHeaders;

    /// What intake heard, in a form to compare.
    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Intake for Heard {
        fn assigned(&mut self, slot: Slot, stream: StreamId, _: Option<Sequence>) {
            self.0.push(format!("assigned {} {stream}", slot.0));
        }
        fn revoked(&mut self, slot: Slot) {
            self.0.push(format!("revoked {}", slot.0));
        }
        fn placed(&mut self, slot: Slot, at: Sequence, guard: Guard) {
            self.0
                .push(format!("placed {} at {at} guard {}", slot.0, guard.epoch));
        }
        fn record(&mut self, slot: Slot, sequence: Sequence, _: i32, _: &RecordRef<'_>) {
            self.0.push(format!("record {} {sequence}", slot.0));
        }
        fn advanced(&mut self, slot: Slot, to: Sequence, epoch: i32) {
            self.0.push(format!("advanced {} to {to} in {epoch}", slot.0));
        }
        fn halted(&mut self, slot: Slot, halt: Halt) {
            self.0.push(format!("halted {} {}", slot.0, halt.code));
        }
    }

    fn stream(topic_id: u8) -> StreamId {
        StreamId {
            site: "plant".into(),
            topic: "orders".into(),
            partition: 0,
            lineage: Lineage::Replayable {
                cluster: "c".into(),
                topic: [topic_id; 16],
            },
        }
    }

    fn arrived(offset: u64, value: &'static [u8]) -> Arrived<'static> {
        let record = RecordRef {
            timestamp: 5,
            key: None,
            value: Some(value),
            headers: RecordHeaders::NONE,
        };
        Arrived {
            offset,
            epoch: 3,
            record,
        }
    }

    fn guard_of(value: &'static [u8]) -> Guard {
        Guard {
            epoch: 3,
            crc: arrived(0, value).record.crc32c(),
        }
    }

    /// Seeks `place` in a log `[10, 20)`, feeds `events` (`Ok` a record, `Err` an end), answers what intake heard.
    #[track_caller]
    fn check(place: Place, events: &[Result<Arrived<'_>, u64>], expected: &[&str]) {
        let (mut streams, mut heard) = (Streams::default(), Heard::default());
        streams.assign(stream(1), None, &mut heard);
        heard.0.clear();
        let stream = streams.find("orders", 0).unwrap();
        stream.seek(place);
        for event in events {
            if let Some(seek) = stream.due() {
                match resolve(seek, 10, 20) {
                    Ok((_, _, state)) => stream.state = state,
                    Err(halt) => stream.halt(halt, &mut heard),
                }
            }
            match event {
                Ok(record) => stream.arrived(record, &mut heard),
                Err(end) => stream.ended(*end, 4, &mut heard),
            }
        }
        assert_eq!(heard.0, expected);
    }

    fn at(at: u64, guard: Guard) -> Place {
        Place::At {
            at: Sequence(at),
            guard,
        }
    }

    #[test]
    fn a_place_is_announced_before_its_first_record() {
        let placed = "placed 0 at 10 guard -1";
        check(
            Place::Earliest,
            &[Ok(arrived(10, b"a"))],
            &[placed, "record 0 10"],
        );
        check(
            Place::Earliest,
            &[Ok(arrived(12, b"a")), Err(15)],
            &[placed, "record 0 12", "advanced 0 to 15 in 4"],
        );
        check(Place::Latest, &[Err(20)], &[]);
        check(
            Place::Latest,
            &[Err(20), Err(20)],
            &["placed 0 at 20 guard -1", "advanced 0 to 20 in 4"],
        );
        check(
            Place::Latest,
            &[Ok(arrived(19, b"a"))],
            &["placed 0 at 20 guard 3"],
        );
    }

    #[test]
    fn the_record_before_a_place_must_be_the_one_that_was_delivered() {
        let same = at(15, guard_of(b"a"));
        check(
            same,
            &[Ok(arrived(14, b"a")), Ok(arrived(15, b"b"))],
            &["placed 0 at 15 guard 3", "record 0 15"],
        );
        check(
            same,
            &[Ok(arrived(14, b"x")), Ok(arrived(15, b"b"))],
            &["halted 0 CULVERT-K006"],
        );
        // Left out by a stage: only its epoch is known.
        let left_out = |epoch| at(15, Guard { epoch, crc: 0 });
        check(
            left_out(3),
            &[Ok(arrived(14, b"a")), Ok(arrived(15, b"b"))],
            &["placed 0 at 15 guard 3", "record 0 15"],
        );
        check(
            left_out(2),
            &[Ok(arrived(14, b"a")), Ok(arrived(15, b"b"))],
            &["halted 0 CULVERT-K006"],
        );
        // Compacted away: the place is sought once more, now with the epoch compared at the place itself.
        check(
            same,
            &[Ok(arrived(16, b"c")), Ok(arrived(16, b"c"))],
            &["placed 0 at 15 guard 3", "record 0 16"],
        );
    }

    #[test]
    fn a_place_outside_of_the_log_halts() {
        check(at(9, Guard::NONE), &[Err(20)], &["halted 0 CULVERT-K003"]);
        check(at(21, Guard::NONE), &[Err(20)], &["halted 0 CULVERT-K005"]);
        check(at(18, Guard::NONE), &[Err(17)], &["halted 0 CULVERT-K005"]);
        check(
            at(20, Guard::NONE),
            &[Err(20)],
            &["placed 0 at 20 guard -1", "advanced 0 to 20 in 4"],
        );
    }

    #[test]
    fn nothing_of_another_place_is_handed_over() {
        let (mut streams, mut heard) = (Streams::default(), Heard::default());
        streams.assign(stream(1), None, &mut heard);
        let stream = streams.find("orders", 0).unwrap();
        heard.0.clear();
        stream.arrived(&arrived(12, b"a"), &mut heard);
        stream.ended(13, 4, &mut heard);
        stream.lost("out of range", &mut heard);
        assert_eq!(heard.0, [] as [&str; 0], "nothing was asked for yet");
        stream.state = State::Reading;
        stream.next = 15;
        stream.arrived(&arrived(14, b"a"), &mut heard);
        assert_eq!(heard.0, [] as [&str; 0], "handed over before");
    }

    #[test]
    fn a_paused_stream_is_placed_and_reads_on_after_the_pause() {
        let (mut streams, mut heard) = (Streams::default(), Heard::default());
        streams.assign(stream(1), None, &mut heard);
        let stream = streams.find("orders", 0).unwrap();
        stream.paused = true;
        stream.seek(Place::Earliest);
        stream.state = resolve(stream.due().unwrap(), 10, 20).unwrap().2;
        stream.arrived(&arrived(10, b"a"), &mut heard);
        assert_eq!(heard.0[1..], ["placed 0 at 10 guard -1"]);
        assert!(stream.due().is_none() && !stream.fetches());
        stream.paused = false;
        stream.state = resolve(stream.due().unwrap(), 10, 20).unwrap().2;
        stream.arrived(&arrived(10, b"a"), &mut heard);
        assert_eq!(heard.0[2..], ["record 0 10"]);
    }

    #[test]
    fn a_topic_made_again_is_another_stream_and_both_end_with_the_partition() {
        let (mut streams, mut heard) = (Streams::default(), Heard::default());
        streams.assign(stream(1), None, &mut heard);
        streams
            .find("orders", 0)
            .unwrap()
            .halt(topic_gone("orders", 5, true), &mut heard);
        streams.assign(stream(2), None, &mut heard);
        streams.revoke("orders", 0, &mut heard);
        assert_eq!(
            heard.0,
            [
                "assigned 0 plant/orders/0",
                "halted 0 CULVERT-K004",
                "assigned 1 plant/orders/0",
                "revoked 0",
                "revoked 1"
            ]
        );
    }
}
