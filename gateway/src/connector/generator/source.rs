//! The generator as a [`Source`]: replayable, `sequence` = index.

use super::config::GeneratorConfig;
use super::records::{Format, Generator, Recipe};
use super::{HISTORY_CHANGED, PLACE_GONE};
use crate::flow::{Halt, Intake, Place, Reader, Slot, Source, SourceFault};
use culvert_proto::record::RecordRef;
use culvert_proto::{Guard, Lineage, Sequence, StreamId};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128;

/// One task of `io.culvert.generator.GeneratorSource`.
///
/// Its streams are told from those of other generators by connector name and recipe, so that a changed seed is
/// another history and never "the same numbers, other records" (S6). It remembers nothing: any place can be asked
/// for at any time, [`Source::commit`] has nothing to do, and no place is behind the end of a stream without
/// `count`, so that [`Place::Latest`] is its beginning.
pub struct GeneratorSource {
    generator: Generator,
    count: Option<u64>,
    streams: Vec<Stream>,
    announced: bool,
    /// Which stream comes first in the next poll, so that none starves.
    turn: usize,
    pace: Option<Pace>,
}

struct Stream {
    id: StreamId,
    partition: u32,
    state: State,
    paused: bool,
}

enum State {
    /// Assigned, and never placed.
    Waiting,
    /// A seek is to be carried out by the next poll.
    Seeking(Place),
    /// The next record is the one at this index.
    Reading(u64),
    /// Halted: stands still until it is placed again.
    Halted,
}

/// The most records one poll hands over: two frames' worth, so that a seek or a pause is heard soon.
const POLL_RECORDS_MAX: u64 = 1_000;

impl GeneratorSource {
    /// The source of `config` at `site`.
    #[must_use]
    pub fn new(config: &GeneratorConfig, site: Arc<str>) -> GeneratorSource {
        let lineage = lineage(&config.name, &config.recipe);
        let stream = move |partition| Stream {
            id: StreamId {
                site: site.clone(),
                topic: config.topic.clone(),
                partition,
                lineage: lineage.clone(),
            },
            partition,
            state: State::Waiting,
            paused: false,
        };
        GeneratorSource {
            generator: Generator::new(config.recipe),
            count: config.count,
            streams: (0..config.partitions.get()).map(stream).collect(),
            announced: false,
            turn: 0,
            pace: config.rate.map(Pace::new),
        }
    }

    fn announce(&mut self, intake: &mut dyn Intake) {
        for stream in &self.streams {
            intake.assigned(Slot(stream.partition), stream.id.clone(), None);
        }
        self.announced = true;
    }

    /// Carries out the seeks that came since the last poll.
    fn place(&mut self, intake: &mut dyn Intake) {
        for stream in &mut self.streams {
            let State::Seeking(place) = stream.state else {
                continue;
            };
            let slot = Slot(stream.partition);
            match find(&mut self.generator, self.count, stream, place) {
                Ok((at, guard)) => {
                    stream.state = State::Reading(at);
                    intake.placed(slot, Sequence(at), guard);
                }
                Err(halt) => {
                    stream.state = State::Halted;
                    intake.halted(slot, halt);
                }
            }
        }
    }

    /// Hands over at most `records_max` records, the streams in turn; answers how many there were.
    fn hand_over(&mut self, records_max: u64, intake: &mut dyn Intake) -> u64 {
        let streams = self.streams.len();
        let open = self
            .streams
            .iter()
            .filter(|stream| stream.left(self.count) > 0)
            .count() as u64;
        if open == 0 || records_max == 0 {
            return 0;
        }
        let share = records_max.div_ceil(open);
        let mut handed = 0;
        for offset in 0..streams {
            let stream = &mut self.streams[(self.turn + offset) % streams];
            let records = stream.left(self.count).min(share).min(records_max - handed);
            if records > 0 {
                stream.hand_over(&mut self.generator, records, intake);
                handed += records;
            }
            if handed == records_max {
                self.turn = (self.turn + offset + 1) % streams;
                break;
            }
        }
        handed
    }

    fn stream(&mut self, slot: Slot) -> Result<&mut Stream, SourceFault> {
        let unknown = || SourceFault::Retry(format!("generator: no stream in slot {}", slot.0));
        self.streams.get_mut(slot.0 as usize).ok_or_else(unknown)
    }
}

impl Source for GeneratorSource {
    fn poll(&mut self, wait: Duration, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        if !self.announced {
            self.announce(intake);
            return Ok(());
        }
        self.place(intake);
        let due = self
            .pace
            .as_ref()
            .map_or(POLL_RECORDS_MAX, |pace| pace.due(Instant::now()));
        let handed = self.hand_over(due.min(POLL_RECORDS_MAX), intake);
        if let Some(pace) = &mut self.pace {
            pace.passed(handed, due, Instant::now());
        }
        if handed == 0 {
            let soon = match &self.pace {
                Some(pace) if due == 0 => pace.until_next().min(wait),
                _ => wait,
            };
            std::thread::sleep(soon);
        }
        Ok(())
    }

    fn seek(&mut self, slot: Slot, place: Place) -> Result<(), SourceFault> {
        self.stream(slot)?.state = State::Seeking(place);
        Ok(())
    }

    fn pause(&mut self, slot: Slot) -> Result<(), SourceFault> {
        self.stream(slot)?.paused = true;
        Ok(())
    }

    fn resume(&mut self, slot: Slot) -> Result<(), SourceFault> {
        self.stream(slot)?.paused = false;
        Ok(())
    }

    fn commit(&mut self, _applied: &[(Slot, Sequence)]) -> Result<(), SourceFault> {
        Ok(())
    }

    fn close(&mut self) {}
}

/// Makes the records of a generator once more, for `prove`. Knows its one topic.
pub struct GeneratorReader {
    generator: Generator,
    config: GeneratorConfig,
}

impl GeneratorReader {
    /// A reader of what `config` makes.
    #[must_use]
    pub fn new(config: GeneratorConfig) -> GeneratorReader {
        GeneratorReader {
            generator: Generator::new(config.recipe),
            config,
        }
    }
}

/// Without `to` a generator without `count` is read to its end, which is far: the reader is then told to stop.
impl Reader for GeneratorReader {
    fn read(
        &mut self,
        topic: &str,
        partition: u32,
        from: Sequence,
        to: Option<Sequence>,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceFault> {
        if topic != &*self.config.topic || partition >= self.config.partitions.get() {
            let reason = format!("generator {} does not make {topic}/{partition}", self.config.name);
            return Err(SourceFault::Stop {
                code: PLACE_GONE,
                reason,
            });
        }
        let to = to.map_or(u64::MAX, |to| to.0).min(end(self.config.count));
        for index in from.0..to {
            if each(Sequence(index), &self.generator.record(partition, index)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Stream {
    /// How many records it has to hand over now.
    fn left(&self, count: Option<u64>) -> u64 {
        match self.state {
            State::Reading(next) if !self.paused => end(count).saturating_sub(next),
            _ => 0,
        }
    }

    fn hand_over(&mut self, generator: &mut Generator, records: u64, intake: &mut dyn Intake) {
        let State::Reading(from) = self.state else { return };
        let slot = Slot(self.partition);
        let to = from + records;
        for index in from..to {
            intake.record(
                slot,
                Sequence(index),
                NO_EPOCH,
                &generator.record(self.partition, index),
            );
        }
        self.state = State::Reading(to);
        intake.advanced(slot, Sequence(to), -1);
    }
}

const NO_EPOCH: i32 = -1;

/// The first index that is not made. Without `count` the largest one that every sink can store.
fn end(count: Option<u64>) -> u64 {
    count.unwrap_or(u64::MAX).min(i64::MAX.unsigned_abs())
}

/// Where `place` is, and the identity of the record before it.
fn find(
    generator: &mut Generator,
    count: Option<u64>,
    stream: &Stream,
    place: Place,
) -> Result<(u64, Guard), Halt> {
    let (at, expected) = match place {
        Place::Earliest => (0, Guard::NONE),
        Place::Latest => (count.unwrap_or(0), Guard::NONE),
        Place::At { at, guard } => (at.0, guard),
    };
    if at > end(count) {
        return Err(Halt {
            code: PLACE_GONE,
            reason: format!(
                "{}: place {at} is asked for, and the generator ends at {}; raise count to at least {at}, or give \
                 the connector another name to begin a new history",
                stream.id,
                end(count)
            ),
        });
    }
    let guard = match at.checked_sub(1) {
        None => Guard::NONE,
        Some(before) => Guard {
            epoch: NO_EPOCH,
            crc: generator.record(stream.partition, before).crc32c(),
        },
    };
    // A guard without CRC is that of a stream of which nothing was delivered yet.
    if expected.crc != 0 && expected.crc != guard.crc {
        return Err(Halt {
            code: HISTORY_CHANGED,
            reason: format!(
                "{}: the record before {at} has CRC {:08x}, the one delivered had {:08x}; restore the program's \
                 version that made it, or give the connector another name to begin a new history",
                stream.id, guard.crc, expected.crc
            ),
        });
    }
    Ok((at, guard))
}

/// 128 bits over everything that decides the bytes of the records, and over the connector's name.
fn lineage(name: &str, recipe: &Recipe) -> Lineage {
    let format = match recipe.format {
        Format::Json => "json".to_owned(),
        Format::Avro { schema_id } => format!("avro {schema_id}"),
    };
    let text = format!(
        "{name}\0{}\0{}\0{format}\0{:016x}",
        recipe.seed,
        recipe.kind,
        recipe.faults.to_bits()
    );
    Lineage::Replayable {
        cluster: "generator".into(),
        topic: xxh3_128(text.as_bytes()).to_be_bytes(),
    }
}

/// Holds the rate: what was due since the beginning, less what was handed over.
///
/// Records that were not taken in their time (paused streams, a slow sink) are made up for in a burst of at most one
/// second's worth: then the beginning moves along.
struct Pace {
    rate: f64,
    since: Instant,
    handed: u64,
}

impl Pace {
    fn new(rate: f64) -> Pace {
        Pace {
            rate,
            since: Instant::now(),
            handed: 0,
        }
    }

    /// How many records may be handed over now.
    fn due(&self, now: Instant) -> u64 {
        let earned = now.duration_since(self.since).as_secs_f64() * self.rate;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and is not negative
        let earned = earned as u64;
        // The first record is due at once.
        (earned + 1).saturating_sub(self.handed)
    }

    fn passed(&mut self, handed: u64, due: u64, now: Instant) {
        self.handed += handed;
        if due.saturating_sub(handed) as f64 > self.rate.max(1.0) {
            (self.since, self.handed) = (now, 1);
        }
    }

    fn until_next(&self) -> Duration {
        let due = Duration::try_from_secs_f64(self.handed as f64 / self.rate).unwrap_or(Duration::MAX);
        due.saturating_sub(self.since.elapsed())
    }
}
