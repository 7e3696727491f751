//! Kafka as a sink: one transactional producer for one shard, the position in the transaction of the data.
//!
//! - T1 [`Sink::take`] opens a producer under the shard's transactional id, which fences every earlier one and ends its
//!   transaction, and only then reads the positions, up to an end offset asked for after that.
//! - T2 librdkafka sends a commit again in the same epoch when its connection breaks, and the first one, delayed, could
//!   then end a later transaction. So a commit gets less time than a request ([`COMMIT_TIMEOUT`]), and one during which
//!   any connection broke counts as uncertain although it returned well. librdkafka reports broken connections as
//!   errors only when they are unlike the last one; its debug log holds each of them, so that is what is read.
//!   In the same log librdkafka says when it takes the records of a refused request for written because the next one
//!   was taken. A broker that has just got a partition does take it (it knows nothing of this writer there), so they
//!   are lost; such a transaction is not committed.
//! - T3 a position names its writer. Writers other than this one are fenced before their positions are believed.
//!   A fence ends the transaction of who was before, in every partition. A broker may leave one open all the same
//!   (KAFKA-20734: a coordinator takes a partition without a leader for a deleted one), and the next commit of the same
//!   producer would decide it, whichever way it was meant. So nothing is read or written while a transaction is open
//!   that was open when the shard was taken.
//! - T4 the transaction's time-out is above the longest commit. T5 the positions topic must be compacted.
//! - T6 a position names the target topic's id. Another topic under that name stops the route.

use super::admin::Admin;
use super::config::{COMMIT_TIMEOUT, Creation, SinkConfig};
use super::native::{Edge, Event, Failure, News, Producer, TopicDescription};
use super::positions::{self, Stored};
use super::reader::KafkaReader;
use super::{ASK_TIMEOUT, Remedy, TOPIC_CHECK_EVERY, partition, remedy};
use crate::flow::{DeadLetter, Sink, SinkFault, SourceFault};
use culvert_proto::record::{Headers, HeadersBuf, RecordRef};
use culvert_proto::schema::behind_prefix;
use culvert_proto::{Position, Sequence, StreamId};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a writer may take to become one: a transaction of its predecessor has to be ended first.
const INIT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a full producer queue may stay full before the broker counts as away.
const QUEUE_FULL_TIMEOUT: Duration = Duration::from_secs(30);

/// What a batch may be in bytes, unless a target topic takes less. librdkafka's own default.
const BATCH_BYTES_MAX: usize = 1_000_000;

/// What a record batch adds to its one record: 61 bytes of header and less than 40 of lengths (KIP-98).
const RECORD_OVERHEAD: usize = 128;

/// The target topic's limit where it may not be asked for: the broker's default.
const MESSAGE_BYTES_DEFAULT: usize = 1_048_588;

/// Events are looked at each time this many records were written.
const RECORDS_BETWEEN_NOTES: u32 = 1_000;

/// One shard of a Kafka sink connector.
pub struct KafkaSink {
    config: SinkConfig,
    shard: u32,
    /// Positions of an earlier one say nothing of the targets there are now.
    incarnation: u32,
    /// The writer, from a successful [`Sink::take`] to the first fault.
    writer: Option<Writer>,
    /// By source topic, or the topic that a stage named in its place.
    targets: BTreeMap<Arc<str>, Target>,
    /// Source topics whose target was not there, or too narrow, when it was looked for; the next record of one says so.
    absent: BTreeSet<Arc<str>>,
    /// Of the positions read last: the target that each stream had.
    held_targets: BTreeMap<StreamId, [u8; 16]>,
    /// Records pass through stages, which may send all of them elsewhere: a stream's own target need not be there.
    staged: bool,
    targets_due: Instant,
    /// Old writers that this process has fenced.
    fenced: BTreeSet<String>,
    batch_bytes_max: usize,
    /// Where dead letters go, once there was one.
    dead_letter_topic: Option<Target>,
}

/// The id of a target that was never written to.
const NO_TARGET: [u8; 16] = [0; 16];

/// Where the records of a source topic go.
struct Target {
    name: String,
    id: [u8; 16],
    partitions: u32,
    record_bytes_max: usize,
}

impl KafkaSink {
    /// Shard `shard` of the connector, in this incarnation of its route. Nothing is contacted before [`Sink::take`].
    #[must_use]
    pub fn new(config: SinkConfig, shard: u32, incarnation: u32) -> KafkaSink {
        KafkaSink {
            config,
            shard,
            incarnation,
            writer: None,
            targets: BTreeMap::new(),
            targets_due: Instant::now(),
            fenced: BTreeSet::new(),
            batch_bytes_max: BATCH_BYTES_MAX,
            dead_letter_topic: None,
            absent: BTreeSet::new(),
            held_targets: BTreeMap::new(),
            staged: false,
        }
    }

    /// A stream's own target is looked for when its first record is written, and not before.
    #[must_use]
    pub fn staged(mut self, staged: bool) -> KafkaSink {
        self.staged = staged;
        self
    }
}

impl Sink for KafkaSink {
    fn take(&mut self) -> Result<Vec<(StreamId, Position)>, SinkFault> {
        self.writer = None;
        self.targets.clear();
        self.absent.clear();
        self.dead_letter_topic = None;
        let mut reader = KafkaReader::of_sink(&self.config)?;
        self.prepare_positions_topic(&reader)?;
        let id = self.config.transactional_id(self.shard);
        let writer = Writer::open(&self.config, &id, self.batch_bytes_max)?;
        self.wait_for_decisions(&reader, &[(&self.config.positions_topic(), self.shard)])?;
        let mut stored = self.read_positions(&mut reader)?;
        if self.fence_others(&id, &stored)? {
            stored = self.read_positions(&mut reader)?;
        }
        self.check_targets(&reader, &stored)?;
        self.targets_due = Instant::now() + TOPIC_CHECK_EVERY;
        self.writer = Some(writer);
        self.held_targets = stored
            .iter()
            .map(|(stream, stored)| (stream.clone(), stored.target))
            .collect();
        Ok(stored
            .into_iter()
            .map(|(stream, stored)| (stream, stored.position))
            .collect())
    }

    /// After [`SinkFault::Record`] the records before it are in the open write, and the writer goes on.
    fn write(
        &mut self,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        let outcome = self.write_records(&stream.topic, stream, records);
        self.end_writer_after(outcome)
    }

    fn write_to(
        &mut self,
        topic: &str,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        let outcome = self.write_records(topic, stream, records);
        self.end_writer_after(outcome)
    }

    fn takes_topics(&self) -> bool {
        true
    }

    fn refuse(&mut self, stream: &StreamId, letters: &[DeadLetter<'_>]) -> Result<(), SinkFault> {
        let outcome = self.write_dead_letters(stream, letters);
        self.end_writer_after(outcome)
    }

    fn commit(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        let outcome = self.commit_positions(positions);
        self.end_writer_after(outcome)
    }
}

impl KafkaSink {
    fn write_records(
        &mut self,
        topic: &str,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        self.know_target(topic, stream.partition)?;
        let (Some(writer), Some(target)) = (&mut self.writer, self.targets.get(topic)) else {
            return Err(not_taken());
        };
        let fixed = self.config.partitioner.fixed(stream.partition);
        writer.begin()?;
        for (sequence, record) in records {
            if record.size() + RECORD_OVERHEAD > target.record_bytes_max {
                return Err(too_large(sequence, &record, target));
            }
            let partition = match (fixed, record.key) {
                (Some(fixed), _) => fixed,
                (None, Some(key)) if self.config.keys_have_ids => {
                    partition::of_key(behind_prefix(key), target.partitions)
                }
                (None, Some(key)) => partition::of_key(key, target.partitions),
                (None, None) => stream.partition % target.partitions.max(1),
            };
            // librdkafka takes the timestamp 0 for "now"; 1 ms is the nearest that it takes for itself.
            let timestamp = if record.timestamp == 0 {
                1
            } else {
                record.timestamp
            };
            writer.send(
                &target.name,
                partition,
                sequence,
                &RecordRef { timestamp, ..record },
            )?;
        }
        Ok(())
    }

    /// Dead letters go to their topic in the transaction of the records that go on, with the headers by which Kafka
    /// Connect's tools know them.
    fn write_dead_letters(&mut self, stream: &StreamId, letters: &[DeadLetter<'_>]) -> Result<(), SinkFault> {
        let Some(settings) = self.config.dead_letters.clone() else {
            return Err(SinkFault::Stop {
                code: "CULVERT-K017",
                reason: "errors.deadletterqueue.topic.name is not set, and a stage refused a record".into(),
            });
        };
        if self.dead_letter_topic.is_none() {
            let creation = Some(Creation {
                partitions: -1,
                replication: settings.replication,
            });
            self.dead_letter_topic = Some(self.find_topic(&settings.topic, 1, creation)?);
        }
        let (Some(writer), Some(target)) = (&mut self.writer, &self.dead_letter_topic) else {
            return Err(not_taken());
        };
        writer.begin()?;
        let partition = stream.partition % target.partitions.max(1);
        let mut headers = HeadersBuf::new();
        for letter in letters {
            headers.clear();
            for (name, value) in letter.record.headers.iter() {
                headers.push(name, value);
            }
            if settings.context_headers {
                letter.put_context(&mut headers, &self.config.connector, self.shard, stream);
            }
            let record = RecordRef {
                headers: headers.as_headers(),
                timestamp: letter.record.timestamp.max(1),
                ..letter.record
            };
            if record.size() + RECORD_OVERHEAD > target.record_bytes_max {
                return Err(too_large(letter.sequence, &record, target));
            }
            writer.send(&target.name, partition, letter.sequence, &record)?;
        }
        Ok(())
    }

    fn commit_positions(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        self.check_known_targets()?;
        self.look_for_targets(positions)?;
        let topic = self.config.positions_topic();
        let id = self.config.transactional_id(self.shard);
        let Some(writer) = &mut self.writer else {
            return Err(not_taken());
        };
        writer.begin()?;
        for (stream, position) in positions {
            let known = self.targets.get(&stream.topic).map(|target| target.id);
            let held = || self.held_targets.get(stream).copied();
            let target = known.or_else(held).unwrap_or(NO_TARGET);
            let key = positions::encode_key(stream);
            let stored = Stored {
                position: position.clone(),
                target,
                writer: id.clone(),
            };
            let value = positions::encode_value(&key, &stored);
            let record = RecordRef {
                timestamp: NOW,
                key: Some(&key),
                value: Some(&value),
                headers: Headers::NONE,
            };
            writer.send(&topic, self.shard, position.at, &record)?;
        }
        if positions.is_empty() {
            writer.send(&topic, self.shard, Sequence::ZERO, &PROOF)?;
        }
        writer.commit()
    }

    /// Looks once, before any record, for the targets of streams: where that is asked for they are made.
    fn look_for_targets(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        if self.staged {
            return Ok(());
        }
        for (stream, _) in positions {
            if self.absent.contains(&stream.topic) {
                continue;
            }
            match self.know_target(&stream.topic, stream.partition) {
                Ok(()) => {}
                // Nothing was written there, and perhaps nothing ever is: stages at the origin may send all of it elsewhere.
                Err(SinkFault::Stop {
                    code: "CULVERT-K013" | "CULVERT-K014",
                    ..
                }) => {
                    self.absent.insert(stream.topic.clone());
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    /// After a fault the writer is gone; only a single record's fault leaves it.
    fn end_writer_after(&mut self, outcome: Result<(), SinkFault>) -> Result<(), SinkFault> {
        if !matches!(outcome, Ok(()) | Err(SinkFault::Record { .. })) {
            self.writer = None;
        }
        outcome
    }

    /// Makes the positions topic, or checks the one there is (T5).
    fn prepare_positions_topic(&self, reader: &KafkaReader) -> Result<(), SinkFault> {
        let topic = self.config.positions_topic();
        let shards = self.config.tasks_max;
        let admin = Admin::open(&self.config.admin()).map_err(|error| settings_refused(&error))?;
        let found = match describe(reader, &topic)? {
            Some(found) => found,
            None => {
                let replication = self.config.creation.map_or(-1, |creation| creation.replication);
                let partitions = i32::try_from(shards).unwrap_or(i32::MAX);
                admin
                    .create(&topic, partitions, replication, &[("cleanup.policy", "compact")])
                    .map_err(|code| fault(code, &format!("make topic {topic}: {code}")))?;
                wait_for_topic(reader, &topic)?
            }
        };
        if found.partitions != shards {
            return Err(SinkFault::Stop {
                code: "CULVERT-K010",
                reason: format!(
                    "{topic} has {} partitions and tasks.max is {shards}; a route keeps the number of writers it began \
                     with: set tasks.max={}",
                    found.partitions, found.partitions
                ),
            });
        }
        let settings = admin
            .settings(&topic)
            .map_err(|code| fault(code, &format!("read settings of {topic}: {code}")))?;
        match settings
            .get("cleanup.policy")
            .and_then(|entry| entry.value.as_deref())
        {
            Some("compact") => Ok(()),
            other => Err(SinkFault::Stop {
                code: "CULVERT-K011",
                reason: format!(
                    "{topic} has cleanup.policy={}, under which positions would be deleted; set it to compact",
                    other.unwrap_or("unknown")
                ),
            }),
        }
    }

    /// Waits for the ends of transactions that are open in `partitions`. After a fence none of them is this shard's.
    fn wait_for_decisions(&self, reader: &KafkaReader, partitions: &[(&str, u32)]) -> Result<(), SinkFault> {
        match reader.wait_for_decisions(partitions, ASK_TIMEOUT)? {
            None => Ok(()),
            Some((topic, partition)) => Err(SinkFault::Retry(format!(
                "[CULVERT-K016] a transaction is open in {topic}/{partition} since before this writer took the shard; it must \
                 be committed or aborted before anything is written"
            ))),
        }
    }

    /// All positions of this shard, up to the end that the partition has now. Waits for other open transactions.
    fn read_positions(&self, reader: &mut KafkaReader) -> Result<BTreeMap<StreamId, Stored>, SinkFault> {
        let topic = self.config.positions_topic();
        let start = reader.edge(&topic, self.shard, Edge::Start)?;
        let end = reader.edge(&topic, self.shard, Edge::End)?;
        let mut found = BTreeMap::new();
        let mut refused = None;
        reader.read_to(
            &topic,
            self.shard,
            start,
            end,
            &mut |at, record| match note_position(&mut found, record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    refused = Some(SinkFault::Stop {
                        code: "CULVERT-K015",
                        reason: format!("read position {at} of {topic}/{}: {error}", self.shard),
                    });
                    ControlFlow::Break(())
                }
            },
        )?;
        refused.map_or(Ok(found), Err)
    }

    /// Fences the writers of these positions that are not this one (T3). Says whether there were any.
    fn fence_others(&mut self, own: &str, stored: &BTreeMap<StreamId, Stored>) -> Result<bool, SinkFault> {
        let writers: BTreeSet<&String> = stored.values().map(|stored| &stored.writer).collect();
        let mut any = false;
        for other in writers {
            if other != own && !self.fenced.contains(other) {
                drop(Writer::open(&self.config, other, self.batch_bytes_max)?);
                self.fenced.insert(other.clone());
                any = true;
            }
        }
        Ok(any)
    }

    /// Compares the topics that positions were stored with to those there are now (T6).
    fn check_targets(
        &self,
        reader: &KafkaReader,
        stored: &BTreeMap<StreamId, Stored>,
    ) -> Result<(), SinkFault> {
        let mut expected = BTreeMap::new();
        let is_ours = |stream: &StreamId, position: &Position| {
            self.config.topics.include(&stream.topic) && position.incarnation >= self.incarnation
        };
        for (stream, stored) in stored
            .iter()
            .filter(|(stream, stored)| is_ours(stream, &stored.position) && stored.target != NO_TARGET)
        {
            expected.insert(self.config.target(&stream.topic), stored.target);
        }
        compare_targets(reader, &expected)
    }

    /// The same for the topics in use, now and then and when librdkafka has noticed something.
    fn check_known_targets(&mut self) -> Result<(), SinkFault> {
        let doubt = self.writer.as_ref().is_some_and(|writer| writer.ids_in_doubt);
        if self.targets.is_empty() || (Instant::now() < self.targets_due && !doubt) {
            return Ok(());
        }
        let expected = self
            .targets
            .values()
            .map(|target| (target.name.clone(), target.id))
            .collect();
        compare_targets(&KafkaReader::of_sink(&self.config)?, &expected)?;
        self.targets_due = Instant::now() + TOPIC_CHECK_EVERY;
        if let Some(writer) = &mut self.writer {
            writer.ids_in_doubt = false;
        }
        Ok(())
    }

    /// Finds out where the records of a topic's partition go, and makes room for them where that was asked for.
    fn know_target(&mut self, topic: &str, partition: u32) -> Result<(), SinkFault> {
        let least = self.config.partitioner.fixed(partition).map_or(1, |to| to + 1);
        if self
            .targets
            .get(topic)
            .is_some_and(|target| target.partitions >= least)
        {
            return Ok(());
        }
        let target = self.find_target(topic, least)?;
        let narrower = target.record_bytes_max < self.batch_bytes_max;
        let (name, bytes) = (target.name.clone(), target.record_bytes_max);
        self.targets.insert(topic.into(), target);
        if narrower {
            self.batch_bytes_max = bytes;
            return Err(SinkFault::Retry(format!(
                "topic {name} takes at most {bytes} bytes at once: the producer is opened again with smaller batches"
            )));
        }
        Ok(())
    }

    fn find_target(&self, topic: &str, least: u32) -> Result<Target, SinkFault> {
        self.find_topic(&self.config.target(topic), least, self.config.creation)
    }

    fn find_topic(&self, name: &str, least: u32, creation: Option<Creation>) -> Result<Target, SinkFault> {
        let name = name.to_owned();
        let reader = KafkaReader::of_sink(&self.config)?;
        let admin = Admin::open(&self.config.admin()).map_err(|error| settings_refused(&error))?;
        let mut found = describe(&reader, &name)?;
        let existed = found.as_ref().map_or(0, |found| found.partitions);
        if found.as_ref().is_none_or(|found| found.partitions < least) {
            self.make_room(&admin, &name, found.as_ref(), least, creation)?;
            let deadline = Instant::now() + ASK_TIMEOUT;
            found = Some(wait_for_topic(&reader, &name)?);
            while found.as_ref().is_none_or(|found| found.partitions < least) {
                if Instant::now() > deadline {
                    return Err(SinkFault::Retry(format!(
                        "topic {name} has not {least} partitions yet"
                    )));
                }
                found = describe(&reader, &name)?;
            }
        }
        let Some(TopicDescription { id, partitions }) = found else {
            return Err(SinkFault::Retry(format!("topic {name} does not exist yet")));
        };
        // What was made just now holds nothing. A topic that another source topic goes to was looked at before this shard
        // wrote into it.
        if !self.targets.values().any(|known| known.name == name) {
            let all: Vec<(&str, u32)> = (0..existed).map(|partition| (&*name, partition)).collect();
            self.wait_for_decisions(&reader, &all)?;
        }
        let record_bytes_max = record_bytes_max(&admin, &name)?;
        Ok(Target {
            name,
            id,
            partitions,
            record_bytes_max,
        })
    }

    fn make_room(
        &self,
        admin: &Admin,
        name: &str,
        found: Option<&TopicDescription>,
        least: u32,
        creation: Option<Creation>,
    ) -> Result<(), SinkFault> {
        let count = i32::try_from(least).unwrap_or(i32::MAX);
        match (found, creation) {
            (None, Some(creation)) => {
                // -1 may be less than needed; then the topic grows in the next step.
                let partitions = if creation.partitions == -1 {
                    count
                } else {
                    creation.partitions.max(count)
                };
                admin
                    .create(name, partitions, creation.replication, &[])
                    .map_err(|code| fault(code, &format!("make topic {name}: {code}")))
            }
            (Some(_), Some(_)) => admin
                .grow(name, least)
                .map_err(|code| fault(code, &format!("add partitions to {name}: {code}"))),
            (None, None) => Err(SinkFault::Stop {
                code: "CULVERT-K014",
                reason: format!(
                    "topic {name} does not exist; make it, or set topic.creation.default.partitions and \
                     topic.creation.default.replication.factor"
                ),
            }),
            (Some(found), None) => Err(SinkFault::Stop {
                code: "CULVERT-K013",
                reason: format!(
                    "topic {name} has {} partitions, and culvert.partitioner={} needs {least}; add partitions, set \
                     topic.creation.default.partitions, or use culvert.partitioner=key",
                    found.partitions,
                    self.config.partitioner.name()
                ),
            }),
        }
    }
}

/// A transactional producer, the only one of its shard until it is fenced.
struct Writer {
    producer: Producer,
    in_transaction: bool,
    /// What first happened since the transaction began that makes its outcome doubtful (T2).
    trouble: Option<String>,
    /// The first message that was not delivered, or what made the producer unusable.
    failed: Option<Failure>,
    ids_in_doubt: bool,
    since_notes: u32,
}

impl Writer {
    /// Fences every earlier writer of `transactional_id` and ends its transaction (T1).
    fn open(
        config: &SinkConfig,
        transactional_id: &str,
        batch_bytes_max: usize,
    ) -> Result<Writer, SinkFault> {
        let settings = config.producer(transactional_id, batch_bytes_max);
        let producer = Producer::open(&settings).map_err(|error| settings_refused(&error))?;
        let mut writer = Writer {
            producer,
            in_transaction: false,
            trouble: None,
            failed: None,
            ids_in_doubt: false,
            since_notes: 0,
        };
        // Without a connection librdkafka asks for the coordinator again after half a second; this waits for one.
        let _ = writer.producer.client().fetch_cluster_id(ASK_TIMEOUT);
        match writer.producer.init_transactions(INIT_TIMEOUT) {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.take_notes();
                let reason = format!("become writer {transactional_id}: {error}");
                Err(fault(writer.code_of(&error), &writer.with_trouble(reason)))
            }
        }
    }

    fn begin(&mut self) -> Result<(), SinkFault> {
        if self.in_transaction {
            return Ok(());
        }
        self.take_notes();
        self.trouble = None; // before the transaction nothing was on its way
        self.producer
            .begin_transaction()
            .map_err(|error| fault(self.code_of(&error), &format!("begin transaction: {error}")))?;
        self.in_transaction = true;
        Ok(())
    }

    fn send(
        &mut self,
        topic: &str,
        partition: u32,
        sequence: Sequence,
        record: &RecordRef<'_>,
    ) -> Result<(), SinkFault> {
        self.since_notes += 1;
        if self.since_notes >= RECORDS_BETWEEN_NOTES {
            self.take_notes();
            self.go_on()?;
        }
        let mut message = message(topic, partition, record);
        let (mut deadline, mut asked) = (None, false);
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    let deadline = deadline.get_or_insert_with(|| Instant::now() + QUEUE_FULL_TIMEOUT);
                    if Instant::now() > *deadline {
                        return Err(SinkFault::Retry("the producer's queue stays full".to_owned()));
                    }
                    self.note_next(Duration::from_millis(1));
                    self.go_on()?;
                    message = back;
                }
                // It grew a moment ago, and the producer has not heard of it.
                Err((KafkaError::MessageProduction(Code::UnknownPartition), back)) if !asked => {
                    asked = true;
                    let outcome = self.producer.client().fetch_metadata(Some(topic), ASK_TIMEOUT);
                    outcome
                        .map_err(|error| fault(self.code_of(&error), &format!("look up {topic}: {error}")))?;
                    message = back;
                }
                Err((KafkaError::MessageProduction(Code::MessageSizeTooLarge), _)) => {
                    let reason = format!("{} bytes are more than a message may have", record.size());
                    return Err(SinkFault::Record { sequence, reason });
                }
                Err((error, _)) => {
                    return Err(fault(self.code_of(&error), &format!("write to {topic}: {error}")));
                }
            }
        }
    }

    /// Commits what was written. The queue is emptied first: rdkafka's commit would wait for it in steps of 100 ms.
    fn commit(&mut self) -> Result<(), SinkFault> {
        let deadline = Instant::now() + COMMIT_TIMEOUT;
        while !self.producer.flush(Duration::from_millis(100)) {
            self.take_notes();
            self.go_on()?;
            if Instant::now() > deadline {
                return Err(SinkFault::Retry(
                    self.with_trouble("the broker does not take what was written".into()),
                ));
            }
        }
        self.take_notes();
        self.go_on()?;
        let committed = self.producer.commit_transaction(COMMIT_TIMEOUT);
        self.take_notes();
        if let Err(error) = committed {
            let reason = format!("commit: {error}");
            return Err(match remedy(self.code_of(&error)) {
                Remedy::Fenced => SinkFault::Fenced(reason),
                Remedy::Wait | Remedy::Operator(_) => SinkFault::Uncertain(self.with_trouble(reason)),
            });
        }
        if let Some(trouble) = &self.trouble {
            return Err(SinkFault::Uncertain(format!("during the commit {trouble}")));
        }
        self.in_transaction = false;
        Ok(())
    }

    /// Whether the open transaction may still be committed.
    fn go_on(&self) -> Result<(), SinkFault> {
        if let Some(failure) = &self.failed {
            let place = failure
                .place
                .as_ref()
                .map(|place| format!(" to {}/{}", place.topic, place.partition));
            let reason = format!("write{}: {}", place.unwrap_or_default(), failure.text);
            return Err(fault(failure.code, &reason));
        }
        match &self.trouble {
            Some(trouble) => Err(SinkFault::Retry(format!("during the transaction {trouble}"))),
            None => Ok(()),
        }
    }

    /// Takes in what the client has to tell by now.
    fn take_notes(&mut self) {
        self.since_notes = 0;
        while self.note_next(Duration::ZERO) {}
    }

    fn note_next(&mut self, wait: Duration) -> bool {
        let news = match self.producer.next(wait) {
            None => return false,
            Some(Event::News(news)) => news,
            Some(Event::Record(_)) => return true, // a producer reads none
        };
        match news {
            News::Undelivered(failure) => {
                self.failed.get_or_insert(failure);
            }
            News::Failed(failure) if failure.fatal => {
                self.failed.get_or_insert(failure);
            }
            News::Failed(failure) => {
                self.trouble
                    .get_or_insert_with(|| format!("a connection broke: {}", failure.text));
            }
            News::Log { facility, text, .. } => {
                if let Some(trouble) = trouble(&facility, &text) {
                    self.trouble.get_or_insert(trouble);
                } else if facility == "METADATA" && text.contains(" changed id from ") {
                    self.ids_in_doubt = true;
                }
            }
            _ => {}
        }
        true
    }

    /// The code behind an error; for a producer that is beyond use, the first cause.
    fn code_of(&self, error: &KafkaError) -> Code {
        let first = self.producer.client().fatal_error().map(|(code, _)| code);
        first.or_else(|| error.rdkafka_error_code()).unwrap_or(Code::Fail)
    }

    fn with_trouble(&self, reason: String) -> String {
        match &self.trouble {
            Some(trouble) => format!("{reason} ({trouble})"),
            None => reason,
        }
    }
}

/// Lines of librdkafka's log that say that requests may have been lost on their way, or that records are taken for
/// written without the broker's word. A connection to a bootstrap address carries none of a transaction's requests and
/// is closed when it is not needed any more.
fn trouble(facility: &str, text: &str) -> Option<String> {
    match facility {
        "FAIL" | "REQTMOUT" if !text.contains("/bootstrap") => Some(format!("a connection broke: {text}")),
        "IMPLICITACK" => Some(format!("records were not acknowledged: {text}")),
        _ => None,
    }
}

/// The time at which a message is sent, in librdkafka's spelling.
const NOW: i64 = 0;

/// What a writer writes to prove itself when it has no position to write: an empty transaction would never reach the
/// broker.
const PROOF: RecordRef<'static> = RecordRef {
    timestamp: NOW,
    key: Some(positions::PROOF),
    value: None,
    headers: Headers::NONE,
};

/// A record as rdkafka wants it.
fn message<'a>(topic: &'a str, partition: u32, record: &RecordRef<'a>) -> BaseRecord<'a, [u8], [u8], ()> {
    let mut message: BaseRecord<'_, [u8], [u8], ()> = BaseRecord::to(topic);
    message = message
        .partition(i32::try_from(partition).unwrap_or(i32::MAX))
        .timestamp(record.timestamp);
    message.key = record.key;
    message.payload = record.value;
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let add = |headers: OwnedHeaders, (key, value)| headers.insert(Header { key, value });
        message.headers = Some(record.headers.iter().fold(headers, add));
    }
    message
}

fn note_position(
    found: &mut BTreeMap<StreamId, Stored>,
    record: &RecordRef<'_>,
) -> Result<(), culvert_proto::wire::Malformed> {
    let key = record.key.unwrap_or_default();
    if key == positions::PROOF {
        return Ok(());
    }
    let stream = positions::decode_key(key)?;
    match record.value {
        Some(value) => found.insert(stream, positions::decode_value(key, value)?),
        None => found.remove(&stream),
    };
    Ok(())
}

fn describe(reader: &KafkaReader, topic: &str) -> Result<Option<TopicDescription>, SinkFault> {
    match reader.describe(&[topic])?.into_iter().next() {
        Some(Ok(found)) => Ok(Some(found)),
        Some(Err(Code::UnknownTopicOrPartition | Code::UnknownTopic)) | None => Ok(None),
        Some(Err(code)) => Err(fault(code, &format!("describe topic {topic}: {code}"))),
    }
}

/// A topic that was just made, once the brokers know of it.
fn wait_for_topic(reader: &KafkaReader, topic: &str) -> Result<TopicDescription, SinkFault> {
    let deadline = Instant::now() + ASK_TIMEOUT;
    loop {
        if let Some(found) = describe(reader, topic)? {
            return Ok(found);
        }
        if Instant::now() > deadline {
            return Err(SinkFault::Retry(format!(
                "topic {topic} was made, and no broker knows of it yet"
            )));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn compare_targets(reader: &KafkaReader, expected: &BTreeMap<String, [u8; 16]>) -> Result<(), SinkFault> {
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    for ((name, id), found) in expected.iter().zip(reader.describe(&names)?) {
        match found {
            Ok(found) if found.id == *id => {}
            Ok(_) => return Err(target_replaced(name, "was deleted and made again")),
            Err(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                return Err(target_replaced(name, "was deleted"));
            }
            Err(code) => return Err(fault(code, &format!("describe topic {name}: {code}"))),
        }
    }
    Ok(())
}

fn record_bytes_max(admin: &Admin, topic: &str) -> Result<usize, SinkFault> {
    match admin.settings(topic) {
        Ok(settings) => {
            let limit = settings
                .get("max.message.bytes")
                .and_then(|entry| entry.value.as_deref());
            Ok(limit
                .and_then(|limit| limit.parse().ok())
                .unwrap_or(MESSAGE_BYTES_DEFAULT))
        }
        Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => Ok(MESSAGE_BYTES_DEFAULT),
        Err(code) => Err(fault(code, &format!("read settings of {topic}: {code}"))),
    }
}

fn target_replaced(name: &str, what: &str) -> SinkFault {
    SinkFault::Stop {
        code: "CULVERT-K012",
        reason: format!(
            "target topic {name} {what} since the last delivery: what it held is gone, and the position would hide \
             that; begin the route anew (culvert.incarnation) to deliver everything again"
        ),
    }
}

fn too_large(sequence: Sequence, record: &RecordRef<'_>, target: &Target) -> SinkFault {
    SinkFault::Record {
        sequence,
        reason: format!(
            "{} bytes are more than max.message.bytes={} of topic {} allows",
            record.size(),
            target.record_bytes_max,
            target.name
        ),
    }
}

fn not_taken() -> SinkFault {
    SinkFault::Retry("the shard is not taken".to_owned())
}

fn fault(code: Code, reason: &str) -> SinkFault {
    match remedy(code) {
        Remedy::Wait => SinkFault::Retry(reason.to_owned()),
        Remedy::Fenced => SinkFault::Fenced(reason.to_owned()),
        Remedy::Operator(page) => SinkFault::Stop {
            code: page,
            reason: reason.to_owned(),
        },
    }
}

fn settings_refused(error: &KafkaError) -> SinkFault {
    SinkFault::Stop {
        code: "CULVERT-K008",
        reason: error.to_string(),
    }
}

/// What a failed question means for a sink.
impl From<SourceFault> for SinkFault {
    fn from(fault: SourceFault) -> SinkFault {
        match fault {
            SourceFault::Retry(reason) => SinkFault::Retry(reason),
            SourceFault::Stop { code, reason } => SinkFault::Stop { code, reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Context;
    use super::super::producer::{imitation, refuse_the_next_request};
    use super::*;

    /// T2: librdkafka says when it takes records for written without the broker's word. The imitation compares sequence
    /// numbers in transactions only, so there is none here; librdkafka's part in it is the same.
    #[test]
    fn records_without_the_brokers_word_are_told_of() {
        let (cluster, settings) = imitation("orders", 1);
        let none = BTreeMap::new();
        let context = Context {
            connector: "orders",
            gateway: "gw1",
            site: "plant",
            cluster: &none,
            known: &[],
        };
        let raw = BTreeMap::from([
            (
                "kafka.bootstrap.servers".to_owned(),
                settings["bootstrap.servers"].clone(),
            ),
            ("topics".to_owned(), "orders".to_owned()),
        ]);
        let config = SinkConfig::from_map(&raw, &context).unwrap();
        let mut settings = config.producer("culvert.orders.0", BATCH_BYTES_MAX);
        settings.remove("transactional.id");
        settings.remove("transaction.timeout.ms");
        let producer = Producer::open(&settings).unwrap();
        let record = RecordRef {
            timestamp: 5,
            key: None,
            value: Some(b"v"),
            headers: Headers::NONE,
        };
        let send = || producer.send(message("orders", 0, &record)).unwrap();
        send();
        assert!(producer.flush(Duration::from_secs(10)));
        refuse_the_next_request(&cluster);
        send();
        std::thread::sleep(Duration::from_millis(30)); // a request each, both on their way at once
        send();
        let mut told = std::iter::from_fn(|| producer.next(Duration::from_secs(10)));
        assert!(told.any(|event| match event {
            Event::News(News::Log { facility, text, .. }) =>
                trouble(&facility, &text).is_some_and(|trouble| trouble.contains("not acknowledged")),
            _ => false,
        }));
    }
}
