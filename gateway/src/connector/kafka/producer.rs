//! Plain access to a topic for the command line: a producer for `generate` and a reader for `verify`. No
//! transactions, no groups; the gateway's own path does not come through here.

use crate::flow::{Reader, SourceFault};
use culvert_proto::Sequence;
use culvert_proto::record::{HeadersBuf, RecordRef};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// librdkafka's settings by their own names, for example `bootstrap.servers`.
pub type Settings = BTreeMap<String, String>;

/// Why a topic cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// librdkafka refuses a setting.
    #[error("set up a Kafka client: {0}")]
    Settings(KafkaError),
    /// The cluster does not answer, or refuses.
    #[error("{doing} topic {topic}: {cause}")]
    Topic {
        /// What was being done.
        doing: &'static str,
        /// The topic.
        topic: String,
        /// What the cluster, or librdkafka, said.
        cause: String,
    },
    /// The topic has another number of partitions than was asked for.
    #[error(
        "topic {topic} has {found} partitions, not {wanted}; leave --partitions out, or name another topic"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it has.
        found: u32,
        /// How many were asked for.
        wanted: u32,
    },
}

/// How long a cluster may take to answer about a topic: long enough for a broker that is just starting.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the last records may take to be acknowledged; librdkafka gives up on each after five minutes itself.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(330);

/// An idempotent producer for one topic: no record twice and none out of order, also when a broker goes away (KIP-98).
pub struct Producer {
    producer: BaseProducer<Deliveries>,
    topic: String,
    sent: u32,
}

/// What the brokers have acknowledged.
#[derive(Default)]
struct Deliveries {
    partitions: Mutex<BTreeMap<u32, u64>>,
    failed: Mutex<Option<String>>,
}

impl rdkafka::ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let partition = u32::try_from(message.partition()).unwrap_or(u32::MAX);
                *self.partitions.lock().entry(partition).or_default() += 1;
            }
            Err((error, _)) => {
                self.failed.lock().get_or_insert_with(|| error.to_string());
            }
        }
    }
}

impl Producer {
    /// A producer for `topic` of the cluster that `settings` describe.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn open(settings: &Settings, topic: &str) -> Result<Producer, Error> {
        let mut config = ClientConfig::new();
        // 64 MiB on the way at most; 5 ms of linger fill a batch at any rate worth batching.
        config
            .set("queue.buffering.max.kbytes", "65536")
            .set("linger.ms", "5")
            .set("compression.type", "lz4");
        config.extend(settings.clone());
        config
            .set("enable.idempotence", "true")
            // With a second request on its way, librdkafka takes the records of a first one that was refused for
            // written when the second succeeds, and a broker that has just got the partition takes a second one
            // without the first (measured; `a_refused_request_is_sent_again_before_the_next`).
            .set("max.in.flight.requests.per.connection", "1")
            .set("allow.auto.create.topics", "false");
        let producer =
            BaseProducer::from_config_and_context(&config, Deliveries::default()).map_err(Error::Settings)?;
        Ok(Producer {
            producer,
            topic: topic.to_owned(),
            sent: 0,
        })
    }

    /// How many partitions the topic has; made with `wanted` (or one) where it is not there.
    ///
    /// # Errors
    /// When the cluster does not answer, the topic cannot be made, or it has another number than `wanted`.
    pub fn ensure_topic(&self, settings: &Settings, wanted: Option<u32>) -> Result<u32, Error> {
        let topic = &self.topic;
        let found = match partitions(self.producer.client(), topic)? {
            Some(found) => found,
            None => {
                create(settings, topic, wanted.unwrap_or(1))?;
                self.wait_for_topic()?
            }
        };
        match wanted {
            Some(wanted) if wanted != found => Err(Error::Partitions {
                topic: topic.clone(),
                found,
                wanted,
            }),
            _ => Ok(found),
        }
    }

    /// A topic that was just made is not known to every broker at once.
    fn wait_for_topic(&self) -> Result<u32, Error> {
        let deadline = Instant::now() + ASK_TIMEOUT;
        loop {
            if let Some(found) = partitions(self.producer.client(), &self.topic)? {
                return Ok(found);
            }
            if Instant::now() >= deadline {
                let cause = "it was made, and does not appear".to_owned();
                return Err(Error::Topic {
                    doing: "make",
                    topic: self.topic.clone(),
                    cause,
                });
            }
            self.producer.poll(Duration::from_millis(50));
        }
    }

    /// Sends one record, to `partition` or where its key belongs. Waits while too much is on the way.
    ///
    /// # Errors
    /// When this record cannot be sent, or an earlier one was not acknowledged.
    pub fn send(&mut self, partition: Option<u32>, record: &RecordRef<'_>) -> Result<(), Error> {
        let headers = owned_headers(record);
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
        message.partition = partition.map(|partition| i32::try_from(partition).unwrap_or(i32::MAX));
        message.key = record.key;
        message.payload = record.value;
        message.timestamp = (record.timestamp >= 0).then_some(record.timestamp);
        message.headers = headers;
        // Acknowledgements are taken in batches: a call into librdkafka for each record costs a fifth of the rate.
        self.sent += 1;
        if self.sent.is_multiple_of(1_000) {
            self.acknowledged()?;
        }
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), unsent)) => {
                    message = unsent;
                    self.producer.poll(Duration::from_millis(10));
                    self.acknowledged()?;
                }
                Err((cause, _)) => return Err(self.fault("write to", cause.to_string())),
            }
        }
    }

    /// Waits until every record is acknowledged; answers how many each partition took.
    ///
    /// # Errors
    /// When one was not.
    pub fn flush(&mut self) -> Result<BTreeMap<u32, u64>, Error> {
        self.producer
            .flush(FLUSH_TIMEOUT)
            .map_err(|cause| self.fault("write to", cause.to_string()))?;
        self.acknowledged()?;
        Ok(self.producer.context().partitions.lock().clone())
    }

    fn acknowledged(&self) -> Result<(), Error> {
        self.producer.poll(Duration::ZERO);
        match self.producer.context().failed.lock().take() {
            Some(cause) => Err(self.fault("write to", cause)),
            None => Ok(()),
        }
    }

    fn fault(&self, doing: &'static str, cause: String) -> Error {
        Error::Topic {
            doing,
            topic: self.topic.clone(),
            cause,
        }
    }
}

fn owned_headers(record: &RecordRef<'_>) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let headers = OwnedHeaders::new_with_capacity(record.headers.len());
    Some(record.headers.iter().fold(headers, |headers, (key, value)| {
        headers.insert(Header { key, value })
    }))
}

/// How many partitions `topic` has, if it is there.
fn partitions<C: rdkafka::ClientContext>(
    client: &rdkafka::client::Client<C>,
    topic: &str,
) -> Result<Option<u32>, Error> {
    let fault = |cause: String| Error::Topic {
        doing: "ask about",
        topic: topic.to_owned(),
        cause,
    };
    let found = client
        .fetch_metadata(Some(topic), ASK_TIMEOUT)
        .map_err(|cause| fault(cause.to_string()))?;
    let Some(found) = found.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {
            Ok(Some(u32::try_from(found.partitions().len()).unwrap_or(u32::MAX)).filter(|count| *count > 0))
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        Some(code) => Err(fault(code.to_string())),
    }
}

fn create(settings: &Settings, topic: &str, partitions: u32) -> Result<(), Error> {
    let fault = |cause: String| Error::Topic {
        doing: "make",
        topic: topic.to_owned(),
        cause,
    };
    let mut config = ClientConfig::new();
    config.extend(settings.clone());
    let admin = AdminClient::<DefaultClientContext>::from_config(&config).map_err(Error::Settings)?;
    // -1: the broker's own default (KIP-464).
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    let options = AdminOptions::new()
        .request_timeout(Some(ASK_TIMEOUT))
        .operation_timeout(Some(ASK_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|cause| fault(cause.to_string()))?;
    let results = runtime
        .block_on(admin.create_topics([&new], &options))
        .map_err(|cause| fault(cause.to_string()))?;
    match results.into_iter().next() {
        None | Some(Ok(_)) | Some(Err((_, Code::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(fault(code.to_string())),
    }
}

/// Reads the committed records of any topic, beside every group.
pub struct TopicReader {
    consumer: BaseConsumer,
    headers: HeadersBuf,
}

/// How long a read may go without a record before the cluster counts as away.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

impl TopicReader {
    /// A reader of the cluster that `settings` describe.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn open(settings: &Settings) -> Result<TopicReader, Error> {
        let mut config = ClientConfig::new();
        config
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "50");
        config.extend(settings.clone());
        // The group is never joined; librdkafka asks for a name.
        config
            .set("group.id", "culvert-verify")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false");
        let consumer = config.create().map_err(Error::Settings)?;
        Ok(TopicReader {
            consumer,
            headers: HeadersBuf::new(),
        })
    }

    /// How many partitions the topic has.
    ///
    /// # Errors
    /// When the cluster does not answer, or has no such topic.
    pub fn partitions(&self, topic: &str) -> Result<u32, Error> {
        let missing = || Error::Topic {
            doing: "read",
            topic: topic.to_owned(),
            cause: "the cluster has no such topic".to_owned(),
        };
        partitions(self.consumer.client(), topic)?.ok_or_else(missing)
    }

    /// The offset behind the last record of a partition.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn end(&self, topic: &str, partition: u32) -> Result<u64, Error> {
        let fault = |cause: KafkaError| Error::Topic {
            doing: "ask about the end of",
            topic: topic.to_owned(),
            cause: cause.to_string(),
        };
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let (_, end) = self
            .consumer
            .fetch_watermarks(topic, number, ASK_TIMEOUT)
            .map_err(fault)?;
        Ok(u64::try_from(end).unwrap_or(0))
    }

    fn begin(&self, topic: &str, partition: u32, from: Sequence) -> Result<(), KafkaError> {
        let mut place = TopicPartitionList::new();
        let from = match from {
            Sequence::ZERO => Offset::Beginning,
            from => Offset::Offset(i64::try_from(from.0).unwrap_or(i64::MAX)),
        };
        place.add_partition_offset(topic, i32::try_from(partition).unwrap_or(i32::MAX), from)?;
        self.consumer.assign(&place)
    }

    fn read_on(
        &mut self,
        to: u64,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), KafkaError> {
        loop {
            let message = match self.consumer.poll(PROGRESS_TIMEOUT) {
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(heals) => continue,
                Some(Err(error)) => return Err(error),
                None => return Err(KafkaError::MessageConsumption(Code::OperationTimedOut)),
            };
            let offset = u64::try_from(message.offset()).unwrap_or(0);
            if offset >= to {
                return Ok(());
            }
            self.headers.clear();
            for header in message.headers().into_iter().flat_map(Headers::iter) {
                self.headers.push(header.key, header.value);
            }
            let record = RecordRef {
                timestamp: message.timestamp().to_millis().unwrap_or(-1),
                key: message.key(),
                value: message.payload(),
                headers: self.headers.as_headers(),
            };
            if each(Sequence(offset), &record).is_break() {
                return Ok(());
            }
        }
    }
}

/// librdkafka connects anew by itself; what counts is whether records come.
fn heals(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::NotLeaderForPartition
    )
}

impl Reader for TopicReader {
    fn read(
        &mut self,
        topic: &str,
        partition: u32,
        from: Sequence,
        to: Option<Sequence>,
        each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceFault> {
        let fault = |cause: KafkaError| SourceFault::Retry(format!("read {topic}/{partition}: {cause}"));
        self.begin(topic, partition, from).map_err(fault)?;
        let outcome = self.read_on(to.map_or(u64::MAX, |to| to.0), each).map_err(fault);
        self.consumer.unassign().map_err(fault)?;
        outcome
    }
}

#[cfg(test)]
pub(crate) type Imitation = rdkafka::mocking::MockCluster<'static, rdkafka::producer::DefaultProducerContext>;

/// The broker answers slowly from now on, and the next write first of all with a refusal: as one that has just got the
/// partition, when others are on their way already.
#[cfg(test)]
pub(super) fn refuse_the_next_request(cluster: &Imitation) {
    cluster
        .broker_round_trip_time(1, Duration::from_millis(500))
        .unwrap();
    cluster.request_errors(
        rdkafka::types::RDKafkaApiKey::Produce,
        &[rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION],
    );
}

/// librdkafka's own imitation of a cluster, for tests of what does not rest on transactions.
#[cfg(test)]
pub(crate) fn imitation(topic: &str, partitions: i32) -> (Imitation, Settings) {
    let cluster = rdkafka::mocking::MockCluster::new(1).unwrap();
    cluster.create_topic(topic, partitions, 1).unwrap();
    let settings = Settings::from([("bootstrap.servers".into(), cluster.bootstrap_servers())]);
    (cluster, settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::record::Headers;

    /// A broker that has just got a partition refuses the first request for it and takes the next (seen with Kafka
    /// 4.3 under load, on a topic made a moment before).
    #[test]
    fn a_refused_request_is_sent_again_before_the_next() {
        let (cluster, settings) = imitation("orders", 1);
        let mut producer = Producer::open(&settings, "orders").unwrap();
        let send = |producer: &mut Producer, value: &str| {
            let record = RecordRef {
                timestamp: 5,
                key: None,
                value: Some(value.as_bytes()),
                headers: Headers::NONE,
            };
            producer.send(Some(0), &record).unwrap();
            std::thread::sleep(Duration::from_millis(30)); // a request each
        };
        send(&mut producer, "first");
        producer.flush().unwrap();
        refuse_the_next_request(&cluster);
        ["a", "b", "c"]
            .iter()
            .for_each(|value| send(&mut producer, value));
        assert_eq!(producer.flush().unwrap(), BTreeMap::from([(0, 4)]));
        cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
        let mut reader = TopicReader::open(&settings).unwrap();
        let mut found = Vec::new();
        let mut each = |_: Sequence, record: &RecordRef<'_>| {
            found.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
            ControlFlow::Continue(())
        };
        reader.read("orders", 0, Sequence::ZERO, None, &mut each).unwrap();
        assert_eq!(found, ["first", "a", "b", "c"]);
    }

    #[test]
    fn records_come_back_as_they_were_sent() {
        let (_cluster, settings) = imitation("orders", 2);
        let mut producer = Producer::open(&settings, "orders").unwrap();
        assert_eq!(producer.ensure_topic(&settings, None).unwrap(), 2);
        assert!(matches!(
            producer.ensure_topic(&settings, Some(3)),
            Err(Error::Partitions {
                found: 2,
                wanted: 3,
                ..
            })
        ));
        let mut headers = HeadersBuf::new();
        headers.push("a", Some(b"1"));
        headers.push("b", None);
        let sent = [
            RecordRef {
                timestamp: 5,
                key: Some(b"k"),
                value: Some(b"v"),
                headers: headers.as_headers(),
            },
            RecordRef {
                timestamp: 6,
                key: Some(b""),
                value: None,
                headers: Headers::NONE,
            },
            RecordRef {
                timestamp: 7,
                key: None,
                value: Some(b""),
                headers: Headers::NONE,
            },
        ];
        sent.iter()
            .for_each(|record| producer.send(Some(1), record).unwrap());
        assert_eq!(producer.flush().unwrap(), BTreeMap::from([(1, 3)]));
        let mut reader = TopicReader::open(&settings).unwrap();
        assert_eq!(reader.partitions("orders").unwrap(), 2);
        assert_eq!(
            [0, 1].map(|partition| reader.end("orders", partition).unwrap()),
            [0, 3]
        );
        let mut found = 0;
        let mut each = |offset: Sequence, record: &RecordRef<'_>| {
            assert_eq!((offset.0, *record), (found as u64, sent[found]));
            found += 1;
            ControlFlow::Continue(())
        };
        reader.read("orders", 0, Sequence::ZERO, None, &mut each).unwrap();
        reader.read("orders", 1, Sequence::ZERO, None, &mut each).unwrap();
        assert_eq!(found, 3);
        let mut offsets = Vec::new();
        reader
            .read("orders", 1, Sequence(1), Some(Sequence(2)), &mut |offset, _| {
                offsets.push(offset.0);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(offsets, [1]);
    }
}
