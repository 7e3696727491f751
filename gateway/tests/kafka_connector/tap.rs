//! What a source says, written down; and how tests drive sources and sinks.

use culvert::connector::kafka::config::{Context, SinkConfig, SourceConfig};
use culvert::connector::kafka::{KafkaSink, KafkaSource};
use culvert::flow::{Halt, Intake, Place, Sink, SinkFault, Slot, Source, SourceFault};
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::{Guard, Position, Sequence, StreamId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Owned {
    pub(crate) fn new(key: Option<&str>, value: Option<&str>) -> Owned {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Owned {
            timestamp: 1_700_000_000_000,
            key: key.map(bytes),
            value: value.map(bytes),
            headers: Vec::new(),
        }
    }

    pub(crate) fn of(record: &RecordRef<'_>) -> Owned {
        Owned {
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    pub(crate) fn lend<T>(&self, headers: &mut HeadersBuf, then: impl FnOnce(RecordRef<'_>) -> T) -> T {
        headers.clear();
        for (name, value) in &self.headers {
            headers.push(name, value.as_deref());
        }
        then(RecordRef {
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: headers.as_headers(),
        })
    }

    pub(crate) fn crc(&self) -> u32 {
        self.lend(&mut HeadersBuf::new(), |record| record.crc32c())
    }
}

/// Everything a source said, by slot.
#[derive(Default)]
pub(crate) struct Tap {
    pub(crate) assigned: Vec<(Slot, StreamId, Option<Sequence>)>,
    pub(crate) revoked: Vec<Slot>,
    pub(crate) placed: Vec<(Slot, Sequence, Guard)>,
    pub(crate) records: Vec<(Slot, Sequence, i32, Owned)>,
    pub(crate) advanced: BTreeMap<Slot, Sequence>,
    /// The leader epoch of the place before [`Tap::advanced`].
    pub(crate) epochs: BTreeMap<Slot, i32>,
    pub(crate) halted: Vec<(Slot, Halt)>,
}

impl Intake for Tap {
    fn assigned(&mut self, slot: Slot, stream: StreamId, committed: Option<Sequence>) {
        assert!(
            self.assigned.iter().all(|(other, ..)| *other != slot),
            "a slot is given once"
        );
        self.assigned.push((slot, stream, committed));
    }
    fn revoked(&mut self, slot: Slot) {
        self.revoked.push(slot);
    }
    fn placed(&mut self, slot: Slot, at: Sequence, guard: Guard) {
        self.placed.push((slot, at, guard));
    }
    fn record(&mut self, slot: Slot, sequence: Sequence, epoch: i32, record: &RecordRef<'_>) {
        let placed = self
            .placed
            .iter()
            .rfind(|(placed, ..)| *placed == slot)
            .expect("placed before it reads");
        assert!(sequence >= placed.1);
        let last = self.records.iter().rfind(|(other, ..)| *other == slot);
        assert!(
            last.is_none_or(|(_, last, ..)| *last < sequence || sequence == placed.1),
            "sequences grow"
        );
        self.records.push((slot, sequence, epoch, Owned::of(record)));
    }
    fn advanced(&mut self, slot: Slot, to: Sequence, epoch: i32) {
        self.advanced.insert(slot, to);
        self.epochs.insert(slot, epoch);
    }
    fn halted(&mut self, slot: Slot, halt: Halt) {
        self.halted.push((slot, halt));
    }
}

impl Tap {
    pub(crate) fn values(&self) -> Vec<String> {
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        self.records
            .iter()
            .map(|(.., record)| record.value.as_ref().map(text).unwrap_or_default())
            .collect()
    }

    pub(crate) fn slot_of(&self, partition: u32) -> Option<Slot> {
        let mut held = self
            .assigned
            .iter()
            .rev()
            .filter(|(slot, ..)| !self.revoked.contains(slot));
        held.find(|(_, stream, _)| stream.partition == partition)
            .map(|(slot, ..)| *slot)
    }

    /// Where to go on in a stream that was read before under another slot.
    fn next_of(&self, stream: &StreamId) -> Option<Place> {
        let is_ours = |slot: &Slot| {
            self.assigned
                .iter()
                .any(|(other, its, _)| other == slot && its == stream)
        };
        let (_, sequence, epoch, record) = self.records.iter().rfind(|(slot, ..)| is_ours(slot))?;
        let guard = Guard {
            epoch: *epoch,
            crc: record.crc(),
        };
        Some(Place::At {
            at: sequence.next(),
            guard,
        })
    }

    /// Identity of the place where the stream in `slot` was last found to end, as far as no record tells it.
    pub(crate) fn guard_at_end(&self, slot: Slot) -> Guard {
        let epoch = self.epochs.get(&slot).copied().unwrap_or(-1);
        Guard { epoch, crc: 0 }
    }

    pub(crate) fn held(&self) -> usize {
        self.assigned.len() - self.revoked.len()
    }
}

/// A source, what it said, and where new streams are placed.
pub(crate) struct Driven {
    pub(crate) source: KafkaSource,
    pub(crate) tap: Tap,
    pub(crate) faults: Vec<SourceFault>,
    place: Option<Place>,
    placed: usize,
}

impl Driven {
    pub(crate) fn new(source: KafkaSource, place: Option<Place>) -> Driven {
        Driven {
            source,
            tap: Tap::default(),
            faults: Vec::new(),
            place,
            placed: 0,
        }
    }

    pub(crate) fn poll(&mut self) {
        if let Err(fault) = self.source.poll(Duration::from_millis(20), &mut self.tap) {
            self.faults.push(fault);
        }
        while let (Some(first), Some((slot, stream, _))) = (self.place, self.tap.assigned.get(self.placed)) {
            let place = self.tap.next_of(stream).unwrap_or(first);
            self.source.seek(*slot, place).expect("a seek");
            self.placed += 1;
        }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, done: impl Fn(&Tap) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.tap) {
            assert!(
                Instant::now() < deadline,
                "{what}: records {:?}, placed {:?}, halted {:?}, faults {:?}",
                self.tap.values(),
                self.tap.placed,
                self.tap.halted,
                self.faults
            );
            self.poll();
        }
    }
}

fn settings(address: &str, pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let servers = [("kafka.bootstrap.servers", address)];
    servers
        .iter()
        .chain(pairs)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn context<'a>(connector: &'a str, gateway: &'a str, cluster: &'a BTreeMap<String, String>) -> Context<'a> {
    Context {
        connector,
        gateway,
        site: "plant",
        cluster,
        known: &[],
    }
}

pub(crate) fn source_config(
    address: &str,
    name: &str,
    gateway: &str,
    pairs: &[(&str, &str)],
) -> SourceConfig {
    let none = BTreeMap::new();
    SourceConfig::from_map(&settings(address, pairs), &context(name, gateway, &none))
        .expect("a right configuration")
}

pub(crate) fn source(address: &str, name: &str, gateway: &str, pairs: &[(&str, &str)]) -> KafkaSource {
    KafkaSource::new(source_config(address, name, gateway, pairs), 0).expect("a source")
}

pub(crate) fn sink_config(address: &str, name: &str, pairs: &[(&str, &str)]) -> SinkConfig {
    let none = BTreeMap::new();
    SinkConfig::from_map(&settings(address, pairs), &context(name, "gw", &none))
        .expect("a right configuration")
}

pub(crate) fn sink(address: &str, name: &str, pairs: &[(&str, &str)]) -> KafkaSink {
    KafkaSink::new(sink_config(address, name, pairs), 0, 0)
}

/// Becomes writer, however long the cluster needs.
#[track_caller]
pub(crate) fn take(sink: &mut KafkaSink) -> Vec<(StreamId, Position)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match sink.take() {
            Ok(positions) => return positions,
            Err(SinkFault::Retry(_)) if Instant::now() < deadline => {}
            Err(fault) => panic!("take: {fault}"),
        }
    }
}

/// Writes `records` as sequences from `from` on.
pub(crate) fn write(
    sink: &mut KafkaSink,
    stream: &StreamId,
    from: u64,
    records: &[Owned],
) -> Result<(), SinkFault> {
    for (sequence, record) in (from..).zip(records) {
        record.lend(&mut HeadersBuf::new(), |lent| {
            sink.write(stream, &mut std::iter::once((Sequence(sequence), lent)))
        })?;
    }
    Ok(())
}

/// A name that no other test uses.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{name}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}
