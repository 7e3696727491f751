//! Topics, loads and progress.

use anyhow::{Context, bail};
use culvert_tests::Broker;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Partitions of every topic of the lab.
pub(crate) const PARTITIONS: u32 = 3;

/// Bytes of a record's value; its key has 8.
pub(crate) const VALUE_BYTES: usize = 200;

/// How long the broker may take for anything it is asked.
const ASK: Duration = Duration::from_secs(20);

/// A client that asks for offsets is replaced at this age.
const ASKER_AGE_MAX: Duration = Duration::from_secs(10);

/// One broker of the lab.
pub(crate) struct Cluster {
    broker: Broker,
    admin: AdminClient<DefaultClientContext>,
}

fn stable(asker: &BaseConsumer, topic: &str) -> anyhow::Result<u64> {
    let mut sum = 0;
    for partition in 0..PARTITIONS {
        let (_, end) = asker.fetch_watermarks(topic, partition as i32, ASK)?;
        sum += u64::try_from(end)?;
    }
    Ok(sum)
}

impl Cluster {
    pub(crate) fn new(broker: Broker) -> Cluster {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", broker.bootstrap());
        let admin = settings.create().expect("settings of the lab's own");
        Cluster { broker, admin }
    }

    /// A client that asks for offsets: a new one each time, since librdkafka remembers for long that it did not find a
    /// topic.
    fn asker(&self) -> anyhow::Result<BaseConsumer> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", self.bootstrap())
            .set("isolation.level", "read_committed")
            .set("group.id", "lab");
        Ok(settings.create()?)
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    pub(crate) fn make(&self, topic: &str) -> anyhow::Result<()> {
        let new = NewTopic::new(topic, PARTITIONS as i32, TopicReplication::Fixed(1));
        let made = wait(self.admin.create_topics([&new], &AdminOptions::new()))?;
        made.into_iter()
            .next()
            .context("no answer")?
            .map_err(|(_, code)| code)
            .context("make topic")?;
        Ok(())
    }

    pub(crate) fn delete(&self, topic: &str) -> anyhow::Result<()> {
        wait(self.admin.delete_topics(&[topic], &AdminOptions::new()))?;
        Ok(())
    }

    /// The sum of all partitions' last stable offsets: what a read_committed consumer may see, transactions' own
    /// markers included (one a partition and commit: about one in a thousand).
    pub(crate) fn stable(&self, topic: &str) -> anyhow::Result<u64> {
        stable(&self.asker()?, topic)
    }

    /// Polls [`Cluster::stable`] until it says `enough`. Returns what it said and when.
    pub(crate) fn wait_stable(
        &self,
        topic: &str,
        enough: impl Fn(u64) -> bool,
        every: Duration,
        deadline: Duration,
    ) -> anyhow::Result<(u64, Instant)> {
        let give_up = Instant::now() + deadline;
        let mut asker = self.asker()?;
        let mut asker_since = Instant::now();
        loop {
            if asker_since.elapsed() > ASKER_AGE_MAX {
                (asker, asker_since) = (self.asker()?, Instant::now());
            }
            // A topic that the mirror is still making has no offsets.
            let stable = stable(&asker, topic);
            let now = Instant::now();
            match stable {
                Ok(stable) if enough(stable) => return Ok((stable, now)),
                Ok(stable) if now > give_up => bail!("{topic} stands at {stable} after {deadline:?}"),
                Err(error) if now > give_up => {
                    return Err(error.context(format!("{topic} has no offsets after {deadline:?}")));
                }
                Ok(_) | Err(_) => std::thread::sleep(every),
            }
        }
    }

    /// Waits until nothing new was committed for `quiet`.
    pub(crate) fn wait_still(&self, topic: &str, quiet: Duration) -> anyhow::Result<u64> {
        let asker = self.asker()?;
        let (mut last, mut since) = (stable(&asker, topic)?, Instant::now());
        while since.elapsed() < quiet {
            std::thread::sleep(Duration::from_millis(20));
            let now = stable(&asker, topic)?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    /// A producer for loads: fast, not transactional.
    pub(crate) fn producer(&self, linger_ms: u32) -> anyhow::Result<BaseProducer> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", self.bootstrap())
            .set("linger.ms", linger_ms.to_string())
            .set("batch.num.messages", "10000")
            .set("queue.buffering.max.messages", "1000000")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("delivery.report.only.error", "true");
        Ok(settings.create()?)
    }

    /// A consumer of committed records, placed by hand.
    pub(crate) fn reader(&self, topic: &str, from: Offset) -> anyhow::Result<BaseConsumer> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", "lab-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", "16384")
            .set("auto.offset.reset", "earliest");
        let reader: BaseConsumer = settings.create()?;
        let mut places = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            places.add_partition_offset(topic, partition as i32, from)?;
        }
        reader.assign(&places)?;
        Ok(reader)
    }

    /// Puts `count` records into the topic, key and value as described at [`Load`].
    pub(crate) fn fill(&self, topic: &str, count: u64) -> anyhow::Result<()> {
        let producer = self.producer(20)?;
        let mut load = Load::default();
        for _ in 0..count {
            load.send(&producer, topic, 0)?;
        }
        producer.flush(Duration::from_secs(120))?;
        Ok(())
    }

    /// Fills the topic with values of the caller's, each partition in turn.
    pub(crate) fn fill_with(
        &self,
        topic: &str,
        count: u64,
        value: impl Fn(u64) -> String,
    ) -> anyhow::Result<()> {
        let producer = self.producer(20)?;
        for number in 0..count {
            let (key, value) = (number.to_be_bytes(), value(number));
            let partition = i32::try_from(number % u64::from(PARTITIONS))?;
            let record = BaseRecord::to(topic).partition(partition).key(&key);
            enqueue(&producer, record.payload(value.as_bytes()))?;
        }
        producer.flush(Duration::from_secs(120))?;
        Ok(())
    }

    /// Puts a record with this value into the topic twice a second, until told to end.
    pub(crate) fn keep_saying(&self, topic: &str, value: &[u8], ended: &AtomicBool) -> anyhow::Result<()> {
        let producer = self.producer(0)?;
        while !ended.load(Ordering::Acquire) {
            let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(value);
            producer.send(record).map_err(|(error, _)| error)?;
            producer.flush(Duration::from_secs(10))?;
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    /// Reads the topic to its end and checks that it holds the first `count` records of a [`Load`], each once and in
    /// order.
    pub(crate) fn verify(&self, topic: &str, count: u64) -> anyhow::Result<()> {
        let reader = self.reader(topic, Offset::Beginning)?;
        let mut next = [0; PARTITIONS as usize];
        for arrived in 0..count {
            let message = reader
                .poll(ASK)
                .with_context(|| format!("{arrived} of {count} records arrived"))??;
            let key = message
                .key()
                .and_then(|key| <[u8; 8]>::try_from(key).ok())
                .context("a key was changed")?;
            let expected = &mut next[usize::try_from(message.partition())?];
            if u64::from_be_bytes(key) != *expected {
                bail!(
                    "partition {}: {expected} expected, {key:?} arrived",
                    message.partition()
                );
            }
            *expected += 1;
        }
        match reader.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => bail!("more than was sent: {:?}", message.key()),
            _ => Ok(()),
        }
    }
}

/// Records as the lab sends them, spread over the partitions in turn.
///
/// - key: the record's number in its partition, 8 bytes, big-endian;
/// - value: like JSON, [`VALUE_BYTES`] long, half of it random hexadecimal digits; it begins with the time at which it
///   should have been sent.
#[derive(Default)]
pub(crate) struct Load {
    sent: u64,
    noise: u64,
}

/// Where the time stands in a value.
const TIME: std::ops::Range<usize> = 7..27;

impl Load {
    /// Sends the next record, stamped `due_ns`.
    pub(crate) fn send(&mut self, producer: &BaseProducer, topic: &str, due_ns: u64) -> anyhow::Result<()> {
        let (partition, number) = (
            self.sent % u64::from(PARTITIONS),
            self.sent / u64::from(PARTITIONS),
        );
        let (key, value) = (number.to_be_bytes(), self.value(due_ns));
        let record = BaseRecord::to(topic)
            .partition(i32::try_from(partition)?)
            .key(&key)
            .payload(value.as_slice());
        enqueue(producer, record)?;
        self.sent += 1;
        Ok(())
    }

    /// How many were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    fn value(&mut self, due_ns: u64) -> [u8; VALUE_BYTES] {
        const FORM: &[u8; VALUE_BYTES] = b"{\"due\":00000000000000000000,\"kind\":\"order\",\"currency\":\"EUR\",\"shop\":\"north\",\"state\":\"shipped\",\"id\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"   }";
        let mut value = *FORM;
        let mut rest = due_ns;
        for digit in value[TIME].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for block in value[99..195].chunks_exact_mut(16) {
            // xorshift64*: cheap, and no compressor finds a pattern in it.
            self.noise ^= self.noise >> 12;
            self.noise ^= self.noise << 25;
            self.noise ^= self.noise >> 27;
            self.noise = if self.noise == 0 {
                0x9e37_79b9_7f4a_7c15
            } else {
                self.noise
            };
            let bits = self.noise.wrapping_mul(0x2545_f491_4f6c_dd1d);
            for (digit, shift) in block.iter_mut().zip((0..64).step_by(4)) {
                *digit = b"0123456789abcdef"[(bits >> shift & 15) as usize];
            }
        }
        value
    }
}

/// When a record should have been sent, as its value says.
pub(crate) fn due_ns(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value.get(TIME)?).ok()?.parse().ok()
}

/// Waits for room.
fn enqueue(producer: &BaseProducer, mut record: BaseRecord<'_, [u8; 8], [u8]>) -> anyhow::Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, back))
                if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) =>
            {
                producer.poll(Duration::from_millis(5));
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

fn wait<T>(work: impl Future<Output = rdkafka::error::KafkaResult<T>>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .build()?
        .block_on(work)?)
}
