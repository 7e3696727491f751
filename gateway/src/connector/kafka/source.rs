//! Kafka as a source: one consumer of a group, driven by intake's thread.
//!
//! - The group only shares partitions out. Where to read is intake's word: a partition is paused from its assignment
//!   to its seek, and `auto.offset.reset=error`, so that librdkafka never chooses a place.
//! - librdkafka 2.12 tells topics by name. When a topic is deleted and made again, it goes on at the old offset in the
//!   new topic if that offset exists there (known to its authors, see `rdkafka_topic.c`). The only notice is a line of its debug
//!   log, written before the first fetch from the new topic: the source reads that line, stops, asks for topic ids,
//!   and goes on with a new stream. Ids are also asked for at each seek and every 30 s.
//! - After an outage of the group's coordinator that is longer than the session, librdkafka may be fenced by its own
//!   second joining as the same static member (a heartbeat of the first one is still on its way), which it takes for
//!   fatal. The client is then opened again; only being fenced twice in a row means another gateway of this name.
//! - How far a stream was read comes from ends of partitions: the event stands behind all records in the same queue
//!   and carries the fetch position, which control records and compacted offsets have moved. It does not carry the
//!   leader epoch of the place before; librdkafka knows that of the last record or control record it passed on, which
//!   is asked for at each end ([`native::epoch_before`]).

use super::config::{SourceConfig, Topics};
use super::native::{self, Consumer, Edge, Event, Failure, Message, News, Target, TopicDescription};
use super::streams::{self, Arrived, Headers, State, Stream, Streams};
use super::{ASK_TIMEOUT, Remedy, TOPIC_CHECK_EVERY, remedy};
use crate::flow::{Halt, Intake, Place, Slot, Source, SourceFault};
use culvert_proto::record::RecordRef;
use culvert_proto::{Lineage, Sequence, StreamId};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many events one poll hands over at most, so that intake closes its frames in time: about 2 ms of work.
const EVENTS_PER_POLL: usize = 2_000;

/// A client that becomes unusable again within this time does not heal by itself.
const REOPEN_EVERY: Duration = Duration::from_secs(60);

/// How long a question that only wakes may take: without it, fetching begins within a second.
const WAKE_TIMEOUT: Duration = Duration::from_millis(200);

/// How long a cluster of which no broker is connected may take to answer before it counts as away.
const AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a topic that is not there is looked for: somebody may be making it, and watches. Costs one request.
const ABSENT_CHECK_EVERY: Duration = Duration::from_secs(2);

/// One task of a Kafka source connector.
pub struct KafkaSource {
    config: SourceConfig,
    task: u32,
    consumer: Consumer,
    streams: Streams,
    headers: Headers,
    /// Assigned, but their topic's id is not known yet.
    unnamed: Vec<(String, i32)>,
    /// Assigned, but the broker that was asked knew no such topic.
    unknown: Vec<(String, i32)>,
    /// To be fetched again, which librdkafka may not have noticed yet.
    resumed: BTreeSet<(Arc<str>, i32)>,
    subscribed: BTreeSet<String>,
    /// Topics that are named and were not there when last asked for.
    absent: BTreeSet<String>,
    cluster: Option<Arc<str>>,
    check_due: Instant,
    /// A topic may have been made again: nothing is handed over before its id was asked for.
    ids_in_doubt: bool,
    /// Why the client cannot be used any more.
    broken: Option<Failure>,
    reopened: Option<Instant>,
}

impl KafkaSource {
    /// Task `task` of the connector. Connects in the background.
    ///
    /// # Errors
    /// [`SourceFault::Stop`] when librdkafka refuses a setting.
    pub fn new(config: SourceConfig, task: u32) -> Result<KafkaSource, SourceFault> {
        let consumer = Consumer::open(&config.consumer(task)).map_err(|error| settings_refused(&error))?;
        Ok(KafkaSource {
            config,
            task,
            consumer,
            streams: Streams::default(),
            headers: Headers::new(),
            unnamed: Vec::new(),
            unknown: Vec::new(),
            resumed: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            absent: BTreeSet::new(),
            cluster: None,
            check_due: Instant::now(),
            ids_in_doubt: false,
            broken: None,
            reopened: None,
        })
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, wait: Duration, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        if let Some(failure) = self.broken.take() {
            self.open_again(&failure, intake)?;
        }
        let prepared = self.prepare(intake);
        self.wake_fetchers();
        if self.ids_in_doubt {
            return prepared;
        }
        // Also after a fault: assignments that were taken away must be told.
        let wait = if prepared.is_ok() { wait } else { Duration::ZERO };
        let read = self.read(wait, intake);
        prepared.and(read)
    }

    fn seek(&mut self, slot: Slot, place: Place) -> Result<(), SourceFault> {
        if let Some(stream) = self.streams.by_slot(slot) {
            stream.seek(place);
        }
        Ok(())
    }

    fn pause(&mut self, slot: Slot) -> Result<(), SourceFault> {
        if let Some(stream) = self.streams.by_slot(slot) {
            stream.paused = true;
        }
        self.apply_fetching(slot)
    }

    fn resume(&mut self, slot: Slot) -> Result<(), SourceFault> {
        if let Some(stream) = self.streams.by_slot(slot) {
            stream.paused = false;
        }
        self.apply_fetching(slot)
    }

    fn commit(&mut self, applied: &[(Slot, Sequence)]) -> Result<(), SourceFault> {
        let mut offsets = TopicPartitionList::new();
        for (slot, sequence) in applied {
            let Some(stream) = self.streams.by_slot(*slot) else {
                continue;
            };
            let offset = Offset::Offset(i64::try_from(sequence.0).unwrap_or(i64::MAX));
            // Refuses only special offsets, which a sequence cannot be.
            let _ = offsets.add_partition_offset(&stream.topic, stream.partition, offset);
        }
        if offsets.count() > 0
            && let Err(error) = self.consumer.commit(&offsets, CommitMode::Async)
        {
            // For people only (A6); the next commit says it again.
            tracing::debug!(connector = self.config.connector, %error, "offset commit not sent");
        }
        Ok(())
    }

    /// Leaves without leaving the group, as a static member does: a restart within the session time finds its
    /// partitions again. Waits at most 5 s for the last commits.
    fn close(&mut self) {
        if self.consumer.close_queue().is_err() {
            return; // closed before
        }
        let deadline = Instant::now() + ASK_TIMEOUT;
        while !self.consumer.closed() && Instant::now() < deadline {
            if let Some(Event::News(News::Revoked(partitions))) =
                self.consumer.next(Duration::from_millis(50))
            {
                let _ = self.consumer.incremental_unassign(&beginnings(&partitions));
            }
        }
    }
}

impl KafkaSource {
    /// Replaces a client that cannot be used any more. Its assignments are gone.
    fn open_again(&mut self, failure: &Failure, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        for (topic, partition) in self.streams.partitions() {
            self.streams.revoke(&topic, partition, intake);
        }
        if self.reopened.is_some_and(|at| at.elapsed() < REOPEN_EVERY) {
            return Err(stopped(failure.code, &failure.text));
        }
        tracing::warn!(connector = self.config.connector, code = %failure.code, text = failure.text, "client opened again");
        self.consumer =
            Consumer::open(&self.config.consumer(self.task)).map_err(|error| settings_refused(&error))?;
        self.reopened = Some(Instant::now());
        self.unnamed.clear();
        self.unknown.clear();
        self.resumed.clear();
        self.subscribed.clear();
        self.check_due = Instant::now();
        self.ids_in_doubt = false;
        Ok(())
    }

    /// All that needs a broker's answer and is not reading.
    fn prepare(&mut self, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        if Instant::now() >= self.check_due {
            self.unnamed.append(&mut self.unknown);
            let begun = self.subscribe()?;
            self.check_topic_ids(intake)?;
            self.look_for_absent(begun, intake);
            self.check_due = Instant::now() + self.check_every();
        }
        if self.ids_in_doubt {
            self.check_topic_ids(intake)?;
            self.ids_in_doubt = false;
        }
        self.name_streams(intake)?;
        self.carry_out_seeks(intake)
    }

    /// Subscribes to the topics there are. Patterns are matched here, since librdkafka's regular expressions differ
    /// from those that people know from Connect.
    /// Answers whether the subscription is a new one.
    fn subscribe(&mut self) -> Result<bool, SourceFault> {
        let wanted: BTreeSet<String> = match &self.config.topics {
            Topics::Named(names) => names.iter().cloned().collect(),
            Topics::Matching(_) => {
                let all = self
                    .consumer
                    .fetch_metadata(None, ASK_TIMEOUT)
                    .map_err(|error| away(&error))?;
                let names = all.topics().iter().map(rdkafka::metadata::MetadataTopic::name);
                names
                    .filter(|name| self.config.topics.include(name))
                    .map(str::to_owned)
                    .collect()
            }
        };
        if wanted.is_empty() || wanted == self.subscribed {
            return Ok(false);
        }
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        self.consumer.subscribe(&names).map_err(|error| away(&error))?;
        self.subscribed = wanted;
        Ok(true)
    }

    /// Finds out which of the named topics are not there: the client waits for them without a word. Task 0 looks for
    /// all of them. What cannot be asked now is asked again: nothing depends on it but what people are told.
    fn look_for_absent(&mut self, begun: bool, intake: &mut dyn Intake) {
        let Topics::Named(names) = &self.config.topics else {
            return;
        };
        let asked: BTreeSet<String> = if begun {
            names.iter().cloned().collect()
        } else {
            self.absent.clone()
        };
        if self.task > 0 || asked.is_empty() {
            return;
        }
        let Ok(found) = self.describe(asked.iter().map(String::as_str)) else {
            self.absent = asked;
            return;
        };
        let is_absent = |name: &String| {
            matches!(
                found.get(name),
                Some(Err(Code::UnknownTopicOrPartition | Code::UnknownTopic))
            )
        };
        let absent: BTreeSet<String> = asked.into_iter().filter(is_absent).collect();
        let halt = (!absent.is_empty()).then(|| streams::topics_absent(&absent));
        if let (Some(halt), true) = (&halt, absent != self.absent) {
            tracing::warn!(
                connector = self.config.connector,
                code = halt.code,
                reason = halt.reason,
                "topic not there"
            );
        }
        self.absent = absent;
        intake.waits_for(halt);
    }

    /// What is waited for is looked for more often.
    fn check_every(&self) -> Duration {
        if self.absent.is_empty() && self.unknown.is_empty() {
            TOPIC_CHECK_EVERY
        } else {
            ABSENT_CHECK_EVERY
        }
    }

    /// Asks what the topics of all streams are now, and parts with streams whose topic is gone.
    fn check_topic_ids(&mut self, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        let topics: BTreeSet<Arc<str>> = self.streams.iter().map(|stream| stream.topic.clone()).collect();
        let found = self.describe(topics.iter().map(|topic| &**topic))?;
        let mut reborn = Vec::new();
        for stream in self.streams.iter_mut() {
            match found.get(&*stream.topic) {
                Some(Ok(topic)) if topic.id != stream.topic_id => {
                    stream.halt(streams::topic_gone(&stream.topic, stream.next, true), intake);
                    reborn.push((stream.topic.to_string(), stream.partition));
                }
                Some(Err(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId)) => {
                    stream.halt(streams::topic_gone(&stream.topic, stream.next, false), intake);
                }
                _ => {}
            }
        }
        self.stop_fetching(&reborn)?;
        self.unnamed.extend(reborn);
        Ok(())
    }

    /// Tells intake of new assignments, now that their topics' ids can be asked for.
    fn name_streams(&mut self, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        if self.unnamed.is_empty() {
            return Ok(());
        }
        let cluster = self.cluster()?;
        let topics: BTreeSet<&str> = self.unnamed.iter().map(|(topic, _)| topic.as_str()).collect();
        let found = self.describe(topics.into_iter())?;
        let committed = self.committed()?;
        for (topic, partition) in std::mem::take(&mut self.unnamed) {
            match found.get(&topic) {
                Some(Ok(description)) => {
                    let stream = StreamId {
                        site: self.config.site.as_str().into(),
                        topic: topic.as_str().into(),
                        partition: u32::try_from(partition).unwrap_or(0),
                        lineage: Lineage::Replayable {
                            cluster: cluster.clone(),
                            topic: description.id,
                        },
                    };
                    let committed = committed.get(&(topic, partition)).copied();
                    self.streams.assign(stream, committed, intake);
                }
                Some(Err(Code::UnknownTopicOrPartition | Code::UnknownTopic)) | None => {
                    // Deleted since, and the group will take it away; or not known yet to the broker that answered.
                    tracing::debug!(
                        connector = self.config.connector,
                        topic,
                        "assigned topic does not exist"
                    );
                    self.unknown.push((topic, partition));
                }
                Some(Err(code)) => {
                    let fault = fault(*code, &format!("describe topic {topic}: {code}"));
                    self.unnamed.push((topic, partition));
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// Carries out the seeks that intake asked for, and those that a lost place made necessary.
    fn carry_out_seeks(&mut self, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        if self.streams.iter().all(|stream| stream.due().is_none()) {
            return Ok(());
        }
        self.check_topic_ids(intake)?;
        let due: Vec<(Arc<str>, i32)> = self
            .streams
            .iter()
            .filter(|stream| stream.due().is_some())
            .map(|stream| (stream.topic.clone(), stream.partition))
            .collect();
        let names: Vec<(&str, i32)> = due
            .iter()
            .map(|(topic, partition)| (&**topic, *partition))
            .collect();
        let ask = |edge| native::list_offsets(&self.consumer, &names, edge, ASK_TIMEOUT);
        let starts = ask(Edge::Start).map_err(|code| fault(code, &format!("list first offsets: {code}")))?;
        let ends =
            ask(Edge::CommittedEnd).map_err(|code| fault(code, &format!("list last offsets: {code}")))?;
        let (mut targets, mut landings) = (Vec::new(), Vec::new());
        let mut refused = None;
        for ((&(topic, partition), start), end) in names.iter().zip(starts).zip(ends) {
            let Some(stream) = self.streams.find(topic, partition) else {
                continue;
            };
            let Some(seek) = stream.due() else { continue };
            match (start, end) {
                (Ok(start), Ok(end)) => match streams::resolve(seek, unsigned(start), unsigned(end)) {
                    Ok((offset, epoch, landing)) => {
                        targets.push(Target {
                            topic,
                            partition,
                            offset,
                            epoch,
                        });
                        landings.push(landing);
                    }
                    Err(halt) => stream.halt(halt, intake),
                },
                (Err(code), _) | (_, Err(code)) => refused = denied(stream, code, intake).or(refused),
            }
        }
        self.seek_all(&targets, &landings)?;
        refused.map_or(Ok(()), Err)
    }

    /// Seeks `targets`, each of which then stands at its `landings`.
    fn seek_all(&mut self, targets: &[Target<'_>], landings: &[State]) -> Result<(), SourceFault> {
        if targets.is_empty() {
            return Ok(());
        }
        let outcomes = native::seek(&self.consumer, targets, ASK_TIMEOUT)
            .map_err(|code| fault(code, &format!("seek: {code}")))?;
        let mut landed = TopicPartitionList::new();
        let mut stuck = Vec::new();
        for ((Target { topic, partition, .. }, landing), outcome) in
            targets.iter().zip(landings).zip(outcomes)
        {
            match outcome {
                Ok(()) => {
                    landed.add_partition(topic, *partition);
                    if let Some(stream) = self.streams.find(topic, *partition) {
                        stream.state = *landing;
                        self.resumed.insert((stream.topic.clone(), *partition));
                    }
                }
                Err(code) => {
                    tracing::debug!(connector = self.config.connector, topic, partition, %code, "seek to be repeated");
                    stuck.push(((*topic).to_owned(), *partition));
                }
            }
        }
        self.consumer.resume(&landed).map_err(|error| away(&error))?;
        self.take_up_again(&stuck)
    }

    /// After an error of its place, librdkafka does not seek in a partition any more; taken up again it does.
    fn take_up_again(&self, partitions: &[(String, i32)]) -> Result<(), SourceFault> {
        if partitions.is_empty() {
            return Ok(());
        }
        let list = beginnings(partitions);
        self.consumer
            .incremental_unassign(&list)
            .map_err(|error| away(&error))?;
        self.take_up(&list)
    }

    /// Takes partitions up without reading them.
    fn take_up(&self, partitions: &TopicPartitionList) -> Result<(), SourceFault> {
        self.consumer
            .incremental_assign(partitions)
            .map_err(|error| away(&error))?;
        self.consumer.pause(partitions).map_err(|error| away(&error))
    }

    fn read(&mut self, wait: Duration, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        let mut wait = wait;
        let mut outcome = Ok(());
        for _ in 0..EVENTS_PER_POLL {
            let news = match self.consumer.next(wait) {
                None => break,
                Some(Event::News(news)) => Some(news),
                Some(Event::Record(message)) => {
                    hand_over(&message, &mut self.streams, &mut self.headers, intake);
                    None
                }
            };
            if let Some(news) = news {
                outcome = self.take_note(news, intake);
            }
            if outcome.is_err() || self.ids_in_doubt || self.broken.is_some() {
                break;
            }
            wait = Duration::ZERO;
        }
        self.quiet_halted()?;
        outcome
    }

    fn take_note(&mut self, news: News, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        match news {
            News::End(place) => {
                let epoch = native::epoch_before(&self.consumer, &place);
                if let Some(stream) = self.streams.find(&place.topic, place.partition) {
                    stream.ended(unsigned(place.offset), epoch, intake);
                }
            }
            News::Assigned(partitions) => {
                self.take_up(&beginnings(&partitions))?;
                self.unnamed.extend(partitions);
            }
            News::Revoked(partitions) => {
                self.revoke(&partitions, intake);
                let list = beginnings(&partitions);
                self.consumer
                    .incremental_unassign(&list)
                    .map_err(|error| away(&error))?;
            }
            News::Failed(failure) => return self.failed(&failure, intake),
            News::Log {
                facility,
                text,
                level,
            } => {
                self.ids_in_doubt |= tells_of_another_topic(&facility, &text);
                if level <= 4 {
                    tracing::debug!(connector = self.config.connector, facility, text, "librdkafka");
                }
            }
            News::Committed(Code::NoError) | News::Undelivered(_) | News::Other => {}
            News::Committed(code) => {
                // For people only (A6). A member that lost its partitions is refused here, as it should be.
                tracing::debug!(connector = self.config.connector, %code, "offset commit refused");
            }
        }
        Ok(())
    }

    fn revoke(&mut self, partitions: &[(String, i32)], intake: &mut dyn Intake) {
        for (topic, partition) in partitions {
            self.streams.revoke(topic, *partition, intake);
        }
        self.unnamed.retain(|unnamed| !partitions.contains(unnamed));
        self.unknown.retain(|unknown| !partitions.contains(unknown));
    }

    fn failed(&mut self, failure: &Failure, intake: &mut dyn Intake) -> Result<(), SourceFault> {
        let Failure {
            code,
            text,
            fatal,
            place,
        } = failure;
        if *fatal || *code == Code::FencedInstanceId {
            self.broken.get_or_insert_with(|| failure.clone());
            return Ok(());
        }
        if *code == Code::AllBrokersDown && self.is_answered() {
            tracing::debug!(
                connector = self.config.connector,
                text,
                "no connection, and yet an answer"
            );
            return Ok(());
        }
        let stream = place
            .as_ref()
            .and_then(|place| self.streams.find(&place.topic, place.partition));
        match (code, stream) {
            (Code::AutoOffsetReset | Code::LogTruncation | Code::OffsetOutOfRange, Some(stream)) => {
                stream.lost(text, intake);
            }
            (Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId, _) => {
                self.ids_in_doubt = !self.streams.is_empty();
                tracing::debug!(connector = self.config.connector, %code, text, "topic unknown");
            }
            (code, Some(stream)) if matches!(remedy(*code), Remedy::Operator(_)) => {
                let Remedy::Operator(page) = remedy(*code) else {
                    return Ok(());
                };
                stream.halt(
                    Halt {
                        code: page,
                        reason: text.clone(),
                    },
                    intake,
                );
            }
            (code, None) if matches!(remedy(*code), Remedy::Operator(_)) => return Err(fault(*code, text)),
            (Code::AllBrokersDown | Code::Authentication | Code::SSL | Code::Resolve, None) => {
                return Err(SourceFault::Retry(text.clone()));
            }
            _ => {
                tracing::debug!(connector = self.config.connector, %code, text, "librdkafka reported an error");
            }
        }
        Ok(())
    }

    /// A halted stream is not fetched any more.
    fn quiet_halted(&mut self) -> Result<(), SourceFault> {
        let mut halted = Vec::new();
        for stream in self
            .streams
            .iter_mut()
            .filter(|stream| stream.state == State::Halted && !stream.quiet)
        {
            stream.quiet = true;
            halted.push((stream.topic.to_string(), stream.partition));
        }
        self.stop_fetching(&halted)
    }

    fn stop_fetching(&self, partitions: &[(String, i32)]) -> Result<(), SourceFault> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.consumer
            .pause(&beginnings(partitions))
            .map_err(|error| away(&error))
    }

    fn apply_fetching(&mut self, slot: Slot) -> Result<(), SourceFault> {
        let Some(stream) = self.streams.by_slot(slot) else {
            return Ok(());
        };
        let mut list = TopicPartitionList::new();
        list.add_partition(&stream.topic, stream.partition);
        let applied = match stream.state {
            State::Reading if stream.fetches() => {
                self.resumed.insert((stream.topic.clone(), stream.partition));
                self.consumer.resume(&list)
            }
            State::Reading => self.consumer.pause(&list),
            _ => Ok(()), // a seek that is due or under way decides
        };
        applied.map_err(|error| away(&error))
    }

    /// librdkafka's thread of a broker looks for partitions to fetch when something reaches it, else once a second; a
    /// partition that is resumed, or sought in while it was paused, does not reach it (2.12, `rdkafka_partition.c`,
    /// `rd_kafka_toppar_pause_resume`). A question to that broker does.
    fn wake_fetchers(&mut self) {
        let resumed = std::mem::take(&mut self.resumed);
        if resumed.is_empty() {
            return;
        }
        let names: Vec<(&str, i32)> = resumed
            .iter()
            .map(|(topic, partition)| (&**topic, *partition))
            .collect();
        // The answer is not needed.
        let _ = native::list_offsets(&self.consumer, &names, Edge::Start, WAKE_TIMEOUT);
    }

    fn cluster(&mut self) -> Result<Arc<str>, SourceFault> {
        if let Some(cluster) = &self.cluster {
            return Ok(cluster.clone());
        }
        let cluster = self.consumer.client().fetch_cluster_id(ASK_TIMEOUT);
        let cluster: Arc<str> = cluster
            .ok_or_else(|| SourceFault::Retry("no broker answers".to_owned()))?
            .into();
        self.cluster = Some(cluster.clone());
        Ok(cluster)
    }

    fn describe<'a>(
        &self,
        topics: impl Iterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Result<TopicDescription, Code>>, SourceFault> {
        let topics: Vec<&str> = topics.collect();
        let found = native::describe_topics(&self.consumer, &topics, ASK_TIMEOUT)
            .map_err(|code| fault(code, &format!("describe topics: {code}")))?;
        Ok(topics.into_iter().map(str::to_owned).zip(found).collect())
    }

    /// Whether the cluster answers. librdkafka says that all brokers are down whenever it has no connection at the moment: also
    /// where all that it had have ended and the next has not begun, as was seen 5 ms after a start.
    fn is_answered(&self) -> bool {
        let Some(topic) = self.subscribed.first() else {
            return false;
        };
        native::describe_topics(&self.consumer, &[topic], AWAY_TIMEOUT).is_ok()
    }

    /// What the group has committed for the partitions that have no name yet.
    fn committed(&self) -> Result<BTreeMap<(String, i32), Sequence>, SourceFault> {
        let asked = beginnings(&self.unnamed);
        let found = self
            .consumer
            .committed_offsets(asked, ASK_TIMEOUT)
            .map_err(|error| away(&error))?;
        let committed = found
            .elements()
            .into_iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((
                    (element.topic().to_owned(), element.partition()),
                    Sequence(unsigned(offset)),
                )),
                _ => None,
            });
        Ok(committed.collect())
    }
}

fn hand_over(message: &Message<'_>, streams: &mut Streams, headers: &mut Headers, intake: &mut dyn Intake) {
    let Some(stream) = streams.find(message.topic(), message.partition()) else {
        return;
    };
    if message.headers(headers).is_err() {
        stream.halt(unreadable_header(message.offset()), intake);
        return;
    }
    let record = RecordRef {
        timestamp: message.timestamp(),
        key: message.key(),
        value: message.value(),
        headers: headers.as_headers(),
    };
    let (offset, epoch) = (unsigned(message.offset()), message.leader_epoch());
    stream.arrived(
        &Arrived {
            offset,
            epoch,
            record,
        },
        intake,
    );
}

/// librdkafka's line about a topic that has another id now; not the one about the first id it hears of.
fn tells_of_another_topic(facility: &str, text: &str) -> bool {
    const NO_ID: &str = "changed id from AAAAAAAAAAAAAAAAAAAAAA ";
    facility == "METADATA" && text.contains(" changed id from ") && !text.contains(NO_ID)
}

fn beginnings(partitions: &[(String, i32)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        // `Beginning` is always taken. It is never read from: the partition is paused until its seek.
        let _ = list.add_partition_offset(topic, *partition, Offset::Beginning);
    }
    list
}

fn unreadable_header(offset: i64) -> Halt {
    Halt {
        code: "CULVERT-K007",
        reason: format!(
            "record {offset} has a header whose name is not UTF-8, which no Java client could read; have it \
             deleted at the source, and the writer repaired"
        ),
    }
}

/// What a refused question about one partition means: for an operator it halts the stream, else it is asked again.
fn denied(stream: &mut Stream, code: Code, intake: &mut dyn Intake) -> Option<SourceFault> {
    let reason = format!("list offsets of {}/{}: {code}", stream.topic, stream.partition);
    match remedy(code) {
        Remedy::Operator(page) => {
            stream.halt(Halt { code: page, reason }, intake);
            None
        }
        Remedy::Wait | Remedy::Fenced => Some(SourceFault::Retry(reason)),
    }
}

pub(super) fn fault(code: Code, reason: &str) -> SourceFault {
    match remedy(code) {
        Remedy::Operator(page) => SourceFault::Stop {
            code: page,
            reason: reason.to_owned(),
        },
        Remedy::Wait | Remedy::Fenced => SourceFault::Retry(reason.to_owned()),
    }
}

fn stopped(code: Code, text: &str) -> SourceFault {
    let page = if code == Code::FencedInstanceId {
        "CULVERT-K001"
    } else {
        "CULVERT-K008"
    };
    SourceFault::Stop {
        code: page,
        reason: text.to_owned(),
    }
}

pub(super) fn settings_refused(error: &KafkaError) -> SourceFault {
    SourceFault::Stop {
        code: "CULVERT-K008",
        reason: error.to_string(),
    }
}

pub(super) fn away(error: &KafkaError) -> SourceFault {
    match error.rdkafka_error_code() {
        Some(code) => fault(code, &error.to_string()),
        None => SourceFault::Retry(error.to_string()),
    }
}

pub(super) fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

pub(super) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
