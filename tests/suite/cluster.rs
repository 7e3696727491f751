//! What tests do to a Kafka cluster beside the product: with librdkafka, and none of the product's own code.

use anyhow::{Context, bail};
use culvert_tests::ledger::content_hash;
use culvert_tests::{Broker, BrokerOptions, Ledger, wait_for};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a cluster may take for anything it is asked.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);

/// Network 1's cluster, shared by the tests of this process.
pub(crate) fn source() -> String {
    static SOURCE: OnceLock<Broker> = OnceLock::new();
    SOURCE
        .get_or_init(|| start().expect("the source's broker starts"))
        .bootstrap()
}

/// Network 3's cluster, shared by the tests of this process.
pub(crate) fn target() -> String {
    static TARGET: OnceLock<Broker> = OnceLock::new();
    TARGET
        .get_or_init(|| start().expect("the target's broker starts"))
        .bootstrap()
}

/// A cluster for a test that kills it.
pub(crate) fn start() -> anyhow::Result<Broker> {
    start_with(BrokerOptions::default())
}

/// The same with other listeners.
pub(crate) fn start_with(options: BrokerOptions) -> anyhow::Result<Broker> {
    let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Broker::start(BrokerOptions {
        properties: vec![
            // The times of our records follow from their numbers and lie years back.
            set("log.retention.ms", "-1"),
            // Compaction is a thing to see, not to wait for.
            set("log.cleaner.backoff.ms", "100"),
        ],
        ..options
    })
}

/// Whether every copy of every partition is up to date, those of internal topics too.
pub(crate) fn is_whole(cluster: &str) -> anyhow::Result<bool> {
    let metadata = reader(cluster)?.fetch_metadata(None, ANSWER)?;
    let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    Ok(partitions.all(|partition| partition.isr().len() == partition.replicas().len()))
}

/// A topic of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) cluster: String,
    pub(crate) name: String,
}

impl Topic {
    pub(crate) fn new(cluster: &str, name: &str) -> Topic {
        Topic {
            cluster: cluster.into(),
            name: name.into(),
        }
    }

    /// Makes it; waits while one of the same name is still being deleted.
    pub(crate) fn create(&self, partitions: i32, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        let made = wait_for(ANSWER, &format!("topic {} to be made", self.name), || {
            // As many copies as the cluster gives unless told otherwise.
            let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(-1));
            let new = settings
                .iter()
                .fold(new, |new, (name, value)| new.set(name, value));
            match block_on(admin(&self.cluster).ok()?.create_topics([&new], &patient())) {
                Ok(outcome) if matches!(outcome[0], Err((_, Code::TopicAlreadyExists))) => None,
                outcome => Some(outcome),
            }
        })??;
        made[0]
            .as_ref()
            .map_err(|(topic, code)| anyhow::anyhow!("create {topic}: {code}"))?;
        wait_for(ANSWER, "the topic's leaders", || self.ends().ok())?;
        Ok(())
    }

    pub(crate) fn delete(&self) -> anyhow::Result<()> {
        let outcome = block_on(admin(&self.cluster)?.delete_topics(&[&self.name], &patient()))?;
        outcome[0]
            .as_ref()
            .map_err(|(topic, code)| anyhow::anyhow!("delete {topic}: {code}"))?;
        Ok(())
    }

    /// Gives the topic this setting, and the broker's defaults for all others.
    pub(crate) fn set(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.name)).set(name, value);
        let outcome = block_on(admin(&self.cluster)?.alter_configs(&[change], &patient()))?;
        outcome[0]
            .as_ref()
            .map_err(|(topic, code)| anyhow::anyhow!("set {name} of {topic:?}: {code}"))?;
        Ok(())
    }

    /// Deletes the records of a partition below `before`, as retention does.
    pub(crate) fn delete_records(&self, partition: i32, before: i64) -> anyhow::Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(before))?;
        block_on(admin(&self.cluster)?.delete_records(&list, &patient()))?;
        Ok(())
    }

    /// The end of each partition, by the broker's word.
    pub(crate) fn ends(&self) -> anyhow::Result<Vec<i64>> {
        let consumer = reader(&self.cluster)?;
        (0..partitions(&consumer, &self.name)?)
            .map(|partition| Ok(consumer.fetch_watermarks(&self.name, partition, ANSWER)?.1))
            .collect()
    }

    /// Who leads each partition, by the cluster's word.
    pub(crate) fn leaders(&self) -> anyhow::Result<Vec<i32>> {
        let metadata = reader(&self.cluster)?.fetch_metadata(Some(&self.name), ANSWER)?;
        let topic = metadata.topics().first().context("no topic in the answer")?;
        Ok(topic
            .partitions()
            .iter()
            .map(|partition| partition.leader())
            .collect())
    }

    /// All records that are committed now, in each partition's order.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<Record>> {
        let mut tail = Tail::open(self)?;
        tail.read_to_end()?;
        Ok(tail.records)
    }

    /// Makes producers of its records.
    pub(crate) fn producer(&self, settings: &[(&str, &str)]) -> anyhow::Result<BaseProducer> {
        let mut config = client(&self.cluster);
        // One request at a time: see `culvert::connector::kafka::producer`.
        config
            .set("linger.ms", "1")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "1");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        Ok(config.create()?)
    }

    /// Writes `count` orders spread over `partitions` with numbers from `first`, and waits until they are acknowledged.
    pub(crate) fn write(&self, partitions: i32, first: u64, count: u64) -> anyhow::Result<()> {
        let producer = self.producer(&[])?;
        for number in first..first + count {
            send(&producer, &self.name, &Record::order(number, partitions))?;
        }
        producer.flush(ANSWER)?;
        Ok(())
    }

    /// A transaction of the orders of these numbers that have a key, committed or aborted.
    pub(crate) fn transact(&self, partitions: i32, numbers: Range<u64>, commit: bool) -> anyhow::Result<()> {
        let producer = self.producer(&[("transactional.id", &self.name)])?;
        producer.init_transactions(ANSWER)?;
        producer.begin_transaction()?;
        for order in numbers.map(|number| Record::order(number, partitions)) {
            if order.key.is_some() {
                send(&producer, &self.name, &order)?;
            }
        }
        producer.flush(ANSWER)?;
        if commit {
            producer.commit_transaction(ANSWER)?;
        } else {
            producer.abort_transaction(ANSWER)?;
        }
        Ok(())
    }

    /// The lag of a group: what it has committed for each partition.
    pub(crate) fn committed(&self, group: &str) -> anyhow::Result<Vec<Option<i64>>> {
        let consumer: BaseConsumer = client(&self.cluster).set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions(&consumer, &self.name)? {
            list.add_partition(&self.name, partition);
        }
        let found = consumer.committed_offsets(list, ANSWER)?;
        Ok(found
            .elements()
            .iter()
            .map(|element| element.offset().to_raw().filter(|at| *at >= 0))
            .collect())
    }
}

/// A record of a test. Its number is in the header `n`, so that the value may be anything, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// An order: partition, key, content and time follow from its number. One in 50 is a tombstone, one in 70 has no key.
    pub(crate) fn order(number: u64, partitions: i32) -> Record {
        let text = format!(
            "{{\"order\":{number},\"item\":\"{}\"}}",
            "x".repeat((number % 97) as usize)
        );
        let trace_value = number.is_multiple_of(10).then(|| vec![0, 255]);
        let trace = number
            .is_multiple_of(5)
            .then(|| ("trace".to_owned(), trace_value));
        Record {
            partition: (number % partitions as u64) as i32,
            timestamp: 1_700_000_000_000 + number as i64,
            key: (number % 70 != 69).then(|| format!("customer-{}", number % 1_000).into_bytes()),
            value: (number % 50 != 49).then(|| text.into_bytes()),
            headers: [("n".to_owned(), Some(number.to_string().into_bytes()))]
                .into_iter()
                .chain(trace)
                .collect(),
        }
    }

    /// The number that the test gave it.
    pub(crate) fn number(&self) -> Option<u64> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == "n")?;
        std::str::from_utf8(value.as_ref()?).ok()?.parse().ok()
    }

    fn hash(&self) -> u64 {
        let timestamp = self.timestamp.to_be_bytes();
        let mut fields = vec![self.key.as_deref(), self.value.as_deref(), Some(&timestamp[..])];
        for (name, value) in &self.headers {
            fields.extend([Some(name.as_bytes()), value.as_deref()]);
        }
        content_hash(&fields)
    }

    fn of(message: &BorrowedMessage<'_>) -> Record {
        let headers = message.headers().map(|headers| {
            let own = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
            headers.iter().map(own).collect()
        });
        Record {
            partition: message.partition(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// What the two ends hold, as the judge wants it.
///
/// # Errors
/// When a record has no number, or an end cannot be read.
pub(crate) fn ledger(sent: &[Record], arrived: &[Record]) -> anyhow::Result<Ledger> {
    let mut ledger = Ledger::default();
    let number = |record: &Record| {
        record
            .number()
            .with_context(|| format!("no number in {record:?}"))
    };
    for record in sent {
        ledger.sent(record.partition, number(record)?, record.hash());
    }
    for record in arrived {
        ledger.arrived(record.partition, number(record)?, record.hash());
    }
    Ok(ledger)
}

/// Writes one record to its partition.
pub(crate) fn send(producer: &BaseProducer, topic: &str, record: &Record) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
            .partition(record.partition)
            .timestamp(record.timestamp);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        let add = |headers: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
            headers.insert(Header {
                key,
                value: value.as_deref(),
            })
        };
        message.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), add));
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), _)) if started.elapsed() < ANSWER => {
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => bail!("write to {topic}: {error}"),
        }
    }
}

/// Reads a topic to its end, again and again.
pub(crate) struct Tail {
    consumer: BaseConsumer,
    topic: Topic,
    partitions: i32,
    /// All that was read so far.
    pub(crate) records: Vec<Record>,
    next: Vec<i64>,
}

impl Tail {
    pub(crate) fn open(topic: &Topic) -> anyhow::Result<Tail> {
        let consumer = reader(&topic.cluster)?;
        let partitions = partitions(&consumer, &topic.name)?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(&topic.name, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Tail {
            consumer,
            topic: topic.clone(),
            partitions,
            records: Vec::new(),
            next: vec![-1; partitions as usize],
        })
    }

    /// Reads whatever comes within `patience`.
    pub(crate) fn look(&mut self, patience: Duration) -> anyhow::Result<usize> {
        match self.consumer.poll(patience) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Ok(message)) => {
                self.next[message.partition() as usize] = message.offset() + 1;
                self.records.push(Record::of(&message));
            }
            Some(Err(error)) if is_passing(&error) => {}
            Some(Err(error)) => bail!("read {}: {error}", self.topic.name),
        }
        Ok(self.records.len())
    }

    /// Reads until `count` records are there.
    pub(crate) fn until(&mut self, count: u64, deadline: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        while (self.records.len() as u64) < count {
            if started.elapsed() > deadline {
                bail!(
                    "waited {deadline:?} for {count} records in {}, {} are there",
                    self.topic.name,
                    self.records.len()
                );
            }
            self.look(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Reads to the last record that is committed now.
    pub(crate) fn read_to_end(&mut self) -> anyhow::Result<()> {
        let mut ends = vec![false; self.partitions as usize];
        let mut wanted = Vec::new();
        for partition in 0..self.partitions {
            let (start, end) = self
                .consumer
                .fetch_watermarks(&self.topic.name, partition, ANSWER)?;
            wanted.push(end);
            ends[partition as usize] = start >= end;
        }
        let started = Instant::now();
        while !(0..self.partitions as usize)
            .all(|p| ends[p] || self.next[p] >= wanted[p] || self.place(p) >= wanted[p])
        {
            if started.elapsed() > ANSWER {
                bail!(
                    "read {} to its end: stands at {:?} of {wanted:?}",
                    self.topic.name,
                    self.next
                );
            }
            self.look(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// How many records of a partition were read.
    pub(crate) fn count(&self, partition: i32) -> i64 {
        self.records
            .iter()
            .filter(|record| record.partition == partition)
            .count() as i64
    }

    /// Whether a record of a partition was read that the source had not before its end was `end`. The source must
    /// hold nothing but orders, dealt out to the partitions in turn.
    pub(crate) fn has_passed(&self, partition: i32, end: i64) -> bool {
        self.count(partition) > end
    }

    /// Where the consumer stands: control records move it, too.
    fn place(&self, partition: usize) -> i64 {
        let place = self.consumer.position().ok();
        place
            .and_then(|list| {
                list.find_partition(&self.topic.name, partition as i32)?
                    .offset()
                    .to_raw()
            })
            .unwrap_or(-1)
    }
}

/// Records that are written while something else goes on.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<u64>>,
}

impl Load {
    /// Writes orders from number `first` at about `rate` a second until it is told to stop.
    pub(crate) fn start(topic: &Topic, partitions: i32, first: u64, rate: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (topic, stopped) = (topic.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let producer = topic.producer(&[])?;
            let started = Instant::now();
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let due = started.elapsed().as_millis() as u64 * rate / 1_000;
                while count < due {
                    send(&producer, &topic.name, &Record::order(first + count, partitions))?;
                    count += 1;
                }
                producer.poll(Duration::from_millis(5));
            }
            producer.flush(ANSWER)?;
            Ok(count)
        });
        Load { stop, thread }
    }

    /// Stops it, waits until all is acknowledged, and says how many there were.
    pub(crate) fn stop(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::UnknownTopicOrPartition
        )
    )
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let found = metadata.topics().first().context("no topic in the answer")?;
    if let Some(error) = found.error() {
        bail!("topic {topic}: {:?}", Code::from(error));
    }
    Ok(i32::try_from(found.partitions().len())?)
}

fn reader(cluster: &str) -> anyhow::Result<BaseConsumer> {
    Ok(client(cluster)
        .set("group.id", "beside")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .create()?)
}

fn admin(cluster: &str) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    Ok(client(cluster).create()?)
}

fn client(cluster: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster)
        .set("log_level", "0")
        .set("allow.auto.create.topics", "false");
    config
}

fn patient() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(ANSWER))
        .request_timeout(Some(ANSWER))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime needs nothing but memory")
        .block_on(future)
}
