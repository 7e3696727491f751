//! The book a target's records are entered in, and what does not add up in it.
//!
//! Memory is bounded: sequences are kept as bitmaps ([`super::seen`]), streams and partitions up to a limit, the
//! order of keys in a table of fixed size, and of each kind of finding the first few with the count of all.

use super::seen::{Insert, Seen};
use crate::connector::generator::mark::{self, Mark, Reading};
use anyhow::bail;
use culvert_proto::Sequence;
use culvert_proto::digest::{self, Digest};
use culvert_proto::record::RecordRef;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Findings of each kind that are spelled out.
const SAMPLES_MAX: usize = 10;

/// Streams (kind, seed, partition) in one target; by eye.
const STREAMS_MAX: usize = 20_000;

/// What is wrong with a target, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Kind {
    /// A sequence below the highest one is not there.
    Missing,
    /// A sequence is there again.
    Duplicate,
    /// A generated record whose bytes are not those that were generated.
    Corrupt,
    /// In one partition, a stream's sequence is followed by a lower one.
    Disorder,
    /// In one partition, a key's sequence is followed by a lower one of this key.
    KeyDisorder,
    /// A key of one stream lies in two partitions: nothing orders its records.
    KeySplit,
    /// Between generated records, one that nobody generated.
    Foreign,
    /// The position stored with the records does not describe them.
    Position,
    /// The target is not what was expected of it.
    Expectation,
}

impl Kind {
    /// The kind in words, for `n` of them.
    pub(in crate::cli) fn words(self) -> &'static str {
        match self {
            Kind::Missing => "missing",
            Kind::Duplicate => "duplicated",
            Kind::Corrupt => "corrupt",
            Kind::Disorder => "out of order",
            Kind::KeyDisorder => "out of order for their key",
            Kind::KeySplit => "with their key in another partition too",
            Kind::Foreign => "foreign",
            Kind::Position => "positions that do not fit",
            Kind::Expectation => "expectations not met",
        }
    }
}

/// All of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::cli) struct Findings {
    /// How many records, positions or expectations.
    pub(in crate::cli) count: u64,
    /// The first ten, each with its place.
    pub(in crate::cli) first: Vec<String>,
}

impl Findings {
    fn add(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.count += count;
        if self.first.len() < SAMPLES_MAX {
            self.first.push(what());
        }
    }
}

/// What a target holds, and what is wrong with it.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Report {
    /// Nothing was found.
    pub(in crate::cli) clean: bool,
    pub(in crate::cli) records: u64,
    /// Records with an intact mark of a generator, duplicates too.
    pub(in crate::cli) generated: u64,
    /// The sum of all content hashes, which does not depend on order and partition.
    pub(in crate::cli) content: String,
    pub(in crate::cli) partitions: BTreeMap<u32, Part>,
    pub(in crate::cli) streams: BTreeMap<String, u64>,
    pub(in crate::cli) findings: BTreeMap<Kind, Findings>,
}

/// One partition of the target.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Part {
    pub(in crate::cli) records: u64,
    /// The ordered hash of its content: equal for equal records in equal order.
    pub(in crate::cli) content: String,
}

/// The book.
#[derive(Clone)]
pub(in crate::cli) struct Ledger {
    partitions: BTreeMap<u32, Digest>,
    streams: HashMap<String, Stream>,
    keys: Keys,
    generated: u64,
    foreign: Findings,
    findings: BTreeMap<Kind, Findings>,
}

#[derive(Clone)]
struct Stream {
    number: u32,
    records: u64,
    seen: Seen,
    /// Places that corrupt records claim: what lies there is corrupt, and not missing as well.
    damaged: Seen,
    /// The last sequence in each partition of the target.
    last: HashMap<u32, u64>,
}

impl Ledger {
    pub(in crate::cli) fn new() -> Ledger {
        Ledger {
            partitions: BTreeMap::new(),
            streams: HashMap::new(),
            keys: Keys::new(),
            generated: 0,
            foreign: Findings::default(),
            findings: BTreeMap::new(),
        }
    }

    /// Enters the record at `place` of `partition`. The places of a partition come in order.
    ///
    /// # Errors
    /// When the target holds more streams, or sequences further apart, than the memory is meant for.
    pub(in crate::cli) fn enter(
        &mut self,
        partition: u32,
        place: Sequence,
        record: &RecordRef<'_>,
    ) -> anyhow::Result<()> {
        self.partitions
            .entry(partition)
            .or_insert(Digest::EMPTY)
            .add(digest::content(record));
        match mark::read(record) {
            Reading::Intact(mark) => self.intact(mark, partition, place, record.key),
            Reading::Corrupt(mark) => self.corrupt(mark, partition, place),
            Reading::Foreign => {
                self.foreign.add(1, || {
                    format!("partition {partition}, {place}: not a generated record")
                });
                Ok(())
            }
        }
    }

    /// Enters something that was found wrong elsewhere.
    pub(in crate::cli) fn note(&mut self, kind: Kind, count: u64, what: impl FnOnce() -> String) {
        self.findings.entry(kind).or_default().add(count, what);
    }

    pub(in crate::cli) fn records(&self) -> u64 {
        self.partitions.values().map(|digest| digest.count).sum()
    }

    /// Closes the book.
    pub(in crate::cli) fn close(mut self, expected: &Expected) -> Report {
        self.gaps();
        if self.generated > 0 || self.findings.contains_key(&Kind::Corrupt) {
            let foreign = std::mem::take(&mut self.foreign);
            if foreign.count > 0 {
                self.findings.insert(Kind::Foreign, foreign);
            }
        }
        let content = self
            .partitions
            .values()
            .fold(0, |sum: u128, part| sum.wrapping_add(part.set));
        let content = format!("{content:032x}");
        self.compare(expected, &content);
        let part = |digest: &Digest| Part {
            records: digest.count,
            content: format!("{:032x}", digest.order),
        };
        Report {
            clean: self.findings.is_empty(),
            records: self.records(),
            generated: self.generated,
            content,
            partitions: self
                .partitions
                .iter()
                .map(|(partition, digest)| (*partition, part(digest)))
                .collect(),
            streams: self
                .streams
                .into_iter()
                .map(|(name, stream)| (name, stream.records))
                .collect(),
            findings: self.findings,
        }
    }

    fn intact(
        &mut self,
        mark: Mark<'_>,
        partition: u32,
        place: Sequence,
        key: Option<&[u8]>,
    ) -> anyhow::Result<()> {
        self.generated += 1;
        let Mark {
            stream: name,
            sequence,
        } = mark;
        let stream = stream(&mut self.streams, name)?;
        let mut found = |kind, what: &dyn Fn() -> String| {
            self.findings.entry(kind).or_default().add(1, || {
                format!("{name} {sequence} at partition {partition}, {place}: {}", what())
            });
        };
        match stream.seen.insert(sequence) {
            Insert::New => stream.records += 1,
            // A record that is there again says nothing about order.
            Insert::Known => {
                found(Kind::Duplicate, &|| "it was there before".to_owned());
                return Ok(());
            }
            Insert::TooScattered => {
                bail!("the sequences of {name} lie too far apart to be remembered ({sequence})")
            }
        }
        if let Some(last) = stream
            .last
            .insert(partition, sequence)
            .filter(|last| *last > sequence)
        {
            found(Kind::Disorder, &|| format!("comes after {last}"));
        }
        match key.map(|key| self.keys.check(stream.number, key, partition, sequence)) {
            Some(KeyOrder::After(last)) => {
                found(Kind::KeyDisorder, &|| format!("its key comes after {last}"));
            }
            Some(KeyOrder::Elsewhere(other)) => {
                found(Kind::KeySplit, &|| format!("its key is in partition {other} too"));
            }
            Some(KeyOrder::Kept) | None => {}
        }
        Ok(())
    }

    fn corrupt(&mut self, mark: Mark<'_>, partition: u32, place: Sequence) -> anyhow::Result<()> {
        let Mark {
            stream: name,
            sequence,
        } = mark;
        // What does not fit is left out here: the sequence itself may be the damage.
        stream(&mut self.streams, name)?.damaged.insert(sequence);
        self.note(Kind::Corrupt, 1, || {
            format!(
                "partition {partition}, {place}: it says {name} {sequence}, and its checksum does not match"
            )
        });
        Ok(())
    }

    fn gaps(&mut self) {
        let mut streams: Vec<(&String, &Stream)> = self.streams.iter().collect();
        streams.sort_by_key(|(name, _)| *name);
        for (name, stream) in streams {
            let (total, samples) = stream.seen.missing(&stream.damaged, SAMPLES_MAX);
            if total == 0 {
                continue;
            }
            let findings = self.findings.entry(Kind::Missing).or_default();
            findings.count += total;
            let room = SAMPLES_MAX.saturating_sub(findings.first.len());
            findings
                .first
                .extend(samples.iter().take(room).map(|gap| format!("{name} {gap}")));
        }
    }

    fn compare(&mut self, expected: &Expected, content: &str) {
        let records = self.records();
        match expected.records {
            Some(expected) if expected != records => {
                self.note(Kind::Expectation, 1, || {
                    format!("{expected} records were expected, and {records} are there")
                });
            }
            None if records == 0 => self.note(Kind::Expectation, 1, || {
                "there is no record at all (--expect 0 if that is right)".to_owned()
            }),
            _ => {}
        }
        if let Some(expected) = expected
            .content
            .as_deref()
            .filter(|expected| *expected != content)
        {
            self.note(Kind::Expectation, 1, || {
                format!("content {expected} was expected, and it is {content}")
            });
        }
    }
}

/// What a target is expected to hold.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Expected {
    pub(in crate::cli) records: Option<u64>,
    pub(in crate::cli) content: Option<String>,
}

fn stream<'a>(streams: &'a mut HashMap<String, Stream>, name: &str) -> anyhow::Result<&'a mut Stream> {
    let number = streams.len();
    if number >= STREAMS_MAX && !streams.contains_key(name) {
        bail!("there are more than {STREAMS_MAX} generated streams");
    }
    // A name is looked up for each record, and copied for each stream.
    if !streams.contains_key(name) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let (seen, damaged) = (Seen::default(), Seen::default());
        streams.insert(
            name.to_owned(),
            Stream {
                number,
                records: 0,
                seen,
                damaged,
                last: HashMap::new(),
            },
        );
    }
    match streams.get_mut(name) {
        Some(stream) => Ok(stream),
        None => bail!("{name} was not entered"),
    }
}

/// The last sequence of each key, in a table of fixed size: a key has one slot, found by its hash, and a key that
/// comes to a taken slot takes it over. So a break may go unseen when there are more keys than slots (the order of
/// streams in partitions is still checked in full), and none is ever made up, but for two keys of one stream with
/// equal 64-bit hashes.
#[derive(Clone)]
struct Keys(Box<[Slot]>);

#[derive(Clone, Copy)]
struct Slot {
    /// The hash of stream and key; 0 while free.
    tag: u64,
    partition: u32,
    sequence: u64,
}

enum KeyOrder {
    Kept,
    After(u64),
    Elsewhere(u32),
}

/// 2^18 slots of 24 bytes: 6 MB, and four times the keys of a thousand partitions of sensors.
const SLOT_BITS: u32 = 18;

impl Keys {
    fn new() -> Keys {
        Keys(
            vec![
                Slot {
                    tag: 0,
                    partition: 0,
                    sequence: 0
                };
                1 << SLOT_BITS
            ]
            .into(),
        )
    }

    fn check(&mut self, stream: u32, key: &[u8], partition: u32, sequence: u64) -> KeyOrder {
        let tag = xxh3_64_with_seed(key, stream.into()) | 1;
        let slot = &mut self.0[usize::try_from(tag >> (64 - SLOT_BITS)).unwrap_or(0)];
        let before = std::mem::replace(
            slot,
            Slot {
                tag,
                partition,
                sequence,
            },
        );
        match before {
            before if before.tag != tag => KeyOrder::Kept,
            before if before.partition != partition => KeyOrder::Elsewhere(before.partition),
            before if before.sequence > sequence => KeyOrder::After(before.sequence),
            _ => KeyOrder::Kept,
        }
    }
}
