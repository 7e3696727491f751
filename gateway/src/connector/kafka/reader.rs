//! Reads back what a cluster holds, for `prove` and for a sink's positions. Beside every group, in bounded memory.

use super::config::{SinkConfig, SourceConfig};
use super::native::{self, Consumer, Edge, Event, Failure, News, TopicDescription};
use super::source::{fault, settings_refused, signed, unsigned};
use super::{ASK_TIMEOUT, Remedy, remedy};
use crate::flow::{Reader, SourceFault};
use culvert_proto::Sequence;
use culvert_proto::record::{HeadersBuf, RecordRef};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How long a read may go without any progress before the cluster counts as away.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(15);

/// How often an open transaction is looked at. One whose writer was fenced is decided already, and shows it within
/// milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Reads committed records of any partition of one cluster.
pub struct KafkaReader {
    consumer: Consumer,
    headers: HeadersBuf,
}

impl KafkaReader {
    /// A reader of the cluster that `config` reads from.
    ///
    /// # Errors
    /// [`SourceFault::Stop`] when librdkafka refuses a setting.
    pub fn of_source(config: &SourceConfig) -> Result<KafkaReader, SourceFault> {
        KafkaReader::open(&config.reader())
    }

    /// A reader of the cluster that `config` writes to.
    ///
    /// # Errors
    /// [`SourceFault::Stop`] when librdkafka refuses a setting.
    pub fn of_sink(config: &SinkConfig) -> Result<KafkaReader, SourceFault> {
        KafkaReader::open(&config.reader())
    }

    fn open(settings: &ClientConfig) -> Result<KafkaReader, SourceFault> {
        let consumer = Consumer::open(settings).map_err(|error| settings_refused(&error))?;
        Ok(KafkaReader {
            consumer,
            headers: HeadersBuf::new(),
        })
    }

    /// The first offset of a partition, and the one behind its last decided record.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub fn bounds(&self, topic: &str, partition: u32) -> Result<(Sequence, Sequence), SourceFault> {
        let start = self.edge(topic, partition, Edge::Start)?;
        Ok((
            Sequence(start),
            Sequence(self.edge(topic, partition, Edge::CommittedEnd)?),
        ))
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// As [`Reader::read`]; also when there is no such topic.
    pub fn partitions(&self, topic: &str) -> Result<u32, SourceFault> {
        match self.describe(&[topic])?.into_iter().next() {
            Some(Ok(found)) => Ok(found.partitions),
            Some(Err(code)) => Err(fault(code, &format!("describe topic {topic}: {code}"))),
            None => Err(fault(
                Code::UnknownTopic,
                &format!("describe topic {topic}: no answer"),
            )),
        }
    }

    /// What the brokers say about `topics`, in their order.
    pub(super) fn describe(
        &self,
        topics: &[&str],
    ) -> Result<Vec<Result<TopicDescription, Code>>, SourceFault> {
        native::describe_topics(&self.consumer, topics, ASK_TIMEOUT)
            .map_err(|code| fault(code, &self.with_trouble(&format!("describe topics: {code}"))))
    }

    /// Adds what the client has complained of: a question that is not answered in time does not say that, for
    /// example, the password was wrong.
    fn with_trouble(&self, reason: &str) -> String {
        let mut trouble: Option<Failure> = None;
        while let Some(event) = self.consumer.next(Duration::ZERO) {
            // That all brokers are down comes last and says least.
            if let Event::News(News::Failed(failure)) = event
                && trouble
                    .as_ref()
                    .is_none_or(|known| known.code == Code::AllBrokersDown)
            {
                trouble = Some(failure);
            }
        }
        match trouble {
            Some(trouble) => format!("{reason} ({})", trouble.text),
            None => reason.to_owned(),
        }
    }

    pub(super) fn edge(&self, topic: &str, partition: u32, edge: Edge) -> Result<u64, SourceFault> {
        // As many answers as questions.
        Ok(self
            .edges(&[(topic, partition)], edge)?
            .first()
            .copied()
            .unwrap_or(0))
    }

    /// Waits until every transaction is decided that was open in one of `partitions` when this was called; those that
    /// begin later are not waited for. Answers the first partition where one stays open, after `patience`.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(super) fn wait_for_decisions<'a>(
        &self,
        partitions: &[(&'a str, u32)],
        patience: Duration,
    ) -> Result<Option<(&'a str, u32)>, SourceFault> {
        let ends = self.edges(partitions, Edge::End)?;
        let deadline = Instant::now() + patience;
        loop {
            let decided = self.edges(partitions, Edge::CommittedEnd)?;
            let open = partitions
                .iter()
                .zip(decided.iter().zip(&ends))
                .find(|(_, (decided, end))| decided < end);
            match open {
                None => return Ok(None),
                Some((place, _)) if Instant::now() > deadline => return Ok(Some(*place)),
                Some(_) => std::thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn edges(&self, partitions: &[(&str, u32)], edge: Edge) -> Result<Vec<u64>, SourceFault> {
        let places: Vec<(&str, i32)> = partitions
            .iter()
            .map(|(topic, partition)| (*topic, i32::try_from(*partition).unwrap_or(i32::MAX)))
            .collect();
        let refused = |code: Code| {
            let what = match (code, partitions.first()) {
                // What librdkafka answers where no partition that was asked for has a leader.
                (Code::NoEnt, Some((topic, partition))) => {
                    format!("no broker leads {topic}/{partition}: all that have a copy of it are down")
                }
                _ => format!("list offsets: {code}"),
            };
            fault(code, &self.with_trouble(&what))
        };
        let found = native::list_offsets(&self.consumer, &places, edge, ASK_TIMEOUT).map_err(refused)?;
        let named = |((topic, partition), offset): (&(&str, i32), Result<i64, Code>)| {
            let describe = |code: Code| fault(code, &format!("list offsets of {topic}/{partition}: {code}"));
            offset.map(unsigned).map_err(describe)
        };
        places.iter().zip(found).map(named).collect()
    }

    /// Reads `[from, to)`. Unlike [`Reader::read`] it waits for transactions that are open below `to`.
    pub(super) fn read_to(
        &mut self,
        topic: &str,
        partition: u32,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceFault> {
        if from >= to {
            return Ok(());
        }
        let mut place = TopicPartitionList::new();
        place
            .add_partition_offset(
                topic,
                i32::try_from(partition).unwrap_or(i32::MAX),
                Offset::Offset(signed(from)),
            )
            .and_then(|()| self.consumer.assign(&place))
            .map_err(|error| settings_refused(&error))?;
        let outcome = self.take_records(topic, to, each);
        // Ends the fetching; what is still queued is dropped with the assignment.
        self.consumer
            .unassign()
            .map_err(|error| settings_refused(&error))?;
        outcome
    }

    fn take_records(
        &mut self,
        topic: &str,
        to: u64,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceFault> {
        let mut deadline = Instant::now() + PROGRESS_TIMEOUT;
        while Instant::now() < deadline {
            match self.consumer.next(Duration::from_millis(100)) {
                Some(Event::Record(message)) => {
                    let offset = unsigned(message.offset());
                    if offset >= to {
                        return Ok(());
                    }
                    message
                        .headers(&mut self.headers)
                        .map_err(|_| unreadable(topic, offset))?;
                    let record = RecordRef {
                        timestamp: message.timestamp(),
                        key: message.key(),
                        value: message.value(),
                        headers: self.headers.as_headers(),
                    };
                    if each(Sequence(offset), &record).is_break() || offset + 1 >= to {
                        return Ok(());
                    }
                    deadline = Instant::now() + PROGRESS_TIMEOUT;
                }
                Some(Event::News(News::End(place))) if unsigned(place.offset) >= to => return Ok(()),
                Some(Event::News(News::Failed(failure))) => judge(&failure)?,
                _ => {}
            }
        }
        Err(SourceFault::Retry(format!(
            "read {topic} up to {to}: no progress within {} s; the broker is away, or a transaction is still open",
            PROGRESS_TIMEOUT.as_secs()
        )))
    }
}

impl Reader for KafkaReader {
    /// Ends at the last stable offset at the latest.
    fn read(
        &mut self,
        topic: &str,
        partition: u32,
        from: Sequence,
        to: Option<Sequence>,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceFault> {
        let (start, end) = self.bounds(topic, partition)?;
        let to = to.map_or(end, |to| to.min(end));
        self.read_to(topic, partition, from.max(start).0, to.0, each)
    }
}

fn judge(failure: &Failure) -> Result<(), SourceFault> {
    match (failure.code, remedy(failure.code)) {
        (Code::AutoOffsetReset, _) => Err(SourceFault::Retry(failure.text.clone())),
        // Of the group, which is never joined.
        (Code::GroupAuthorizationFailed, _) => Ok(()),
        (_, Remedy::Operator(page)) => Err(SourceFault::Stop {
            code: page,
            reason: failure.text.clone(),
        }),
        _ => Ok(()), // heals, or the deadline tells
    }
}

fn unreadable(topic: &str, offset: u64) -> SourceFault {
    SourceFault::Stop {
        code: "CULVERT-K007",
        reason: format!("record {offset} of {topic} has a header whose name is not UTF-8"),
    }
}
