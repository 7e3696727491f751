//! What the judges do to a cluster, with librdkafka and none of the product's own code.

use anyhow::{Context, bail};
use culvert_tests::ledger::content_hash;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// How long a cluster may take for one answer; a broker that restarts takes 10 s on a busy host.
pub const ANSWER: Duration = Duration::from_secs(60);

/// Makes a topic with one copy of each partition.
///
/// # Errors
/// When the cluster refuses.
pub fn create(cluster: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(cluster).create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER));
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let made = tokio::runtime::Builder::new_current_thread()
        .build()?
        .block_on(admin.create_topics([&new], &options))?;
    match made.first().context("one topic, one answer")? {
        Ok(_) => Ok(()),
        Err((topic, code)) => bail!("create {topic}: {code}"),
    }
}

/// A reader of one topic, from its beginning, that sees what is committed only.
pub struct Reader {
    consumer: BaseConsumer,
    cluster: String,
    topic: String,
    partitions: i32,
}

/// A generated record, as a judge sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The partition it lies in.
    pub partition: i32,
    /// The sequence that its generator gave it, from 0 in each partition.
    pub sequence: u64,
    /// Of key, value, time and headers.
    pub hash: u64,
    /// When it was sent, milliseconds since 1970; -1 when nobody knows.
    pub sent_ms: i64,
}

impl Reader {
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn open(cluster: &str, topic: &str, partitions: i32) -> anyhow::Result<Reader> {
        let consumer: BaseConsumer = client(cluster)
            .set("group.id", "beside")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "20")
            .set("reconnect.backoff.max.ms", "500")
            .create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Reader {
            consumer,
            cluster: cluster.into(),
            topic: topic.into(),
            partitions,
        })
    }

    /// The next record, if one comes within `patience`. A cluster that is away is waited for.
    ///
    /// # Errors
    /// When reading fails for good, or a record has no mark of a generator.
    pub fn next(&self, patience: Duration) -> anyhow::Result<Option<Seen>> {
        match self.consumer.poll(patience) {
            None => Ok(None),
            Some(Ok(message)) => Seen::of(&message).map(Some),
            Some(Err(fault)) if is_passing(&fault) => Ok(None),
            Some(Err(fault)) => bail!("read {}: {fault}", self.topic),
        }
    }

    /// Reads `count` records.
    ///
    /// # Errors
    /// As [`Reader::next`], or when nothing comes for a minute.
    pub fn take(&self, count: u64, mut each: impl FnMut(Seen)) -> anyhow::Result<()> {
        let mut last = Instant::now();
        let mut taken = 0;
        while taken < count {
            if let Some(seen) = self.next(Duration::from_millis(100))? {
                each(seen);
                taken += 1;
                last = Instant::now();
            } else if last.elapsed() > ANSWER {
                bail!("{} ends after {taken} of {count} records", self.topic);
            }
        }
        Ok(())
    }

    /// The end of each partition: the first offset that is not committed yet.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn ends(&self) -> anyhow::Result<Vec<u64>> {
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.ends_now() {
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
                ends => return ends,
            }
        }
    }

    /// By a client of its own: librdkafka remembers for long that a broker which had just started knew no such topic.
    fn ends_now(&self) -> anyhow::Result<Vec<u64>> {
        let asker: BaseConsumer = client(&self.cluster)
            .set("group.id", "beside")
            .set("isolation.level", "read_committed")
            .create()?;
        let end = |partition| {
            let (_, end) = asker.fetch_watermarks(&self.topic, partition, ANSWER)?;
            Ok(u64::try_from(end)?)
        };
        (0..self.partitions).map(end).collect()
    }
}

impl Seen {
    fn of(message: &BorrowedMessage<'_>) -> anyhow::Result<Seen> {
        let sent_ms = message.timestamp().to_millis().unwrap_or(-1);
        let timestamp = sent_ms.to_be_bytes();
        let mut fields = vec![message.key(), message.payload(), Some(&timestamp[..])];
        if let Some(headers) = message.headers() {
            for header in headers.iter() {
                fields.extend([Some(header.key.as_bytes()), header.value]);
            }
        }
        Ok(Seen {
            partition: message.partition(),
            sequence: mark(message.payload().unwrap_or_default())
                .with_context(|| format!("no mark at {}/{}", message.partition(), message.offset()))?,
            hash: content_hash(&fields),
            sent_ms,
        })
    }
}

/// The sequence in `{"stream":"orders/1/0","sequence":12,…`.
fn mark(value: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"sequence\":";
    let head = &value[..value.len().min(200)];
    let at = head.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let digits = head[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&head[at..at + digits]).ok()?.parse().ok()
}

fn is_passing(fault: &KafkaError) -> bool {
    matches!(
        fault.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::Resolve
        )
    )
}

fn client(cluster: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster)
        .set("log_level", "0")
        .set("allow.auto.create.topics", "false");
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_and_only_a_mark() {
        let check = |value: &str, expected| assert_eq!(mark(value.as_bytes()), expected, "{value}");
        check(r#"{"stream":"orders/1/0","sequence":12,"item":3}"#, Some(12));
        check(r#"{"stream":"orders/1/0","sequence":,"item":3}"#, None);
        check(r#"{"item":3}"#, None);
        check("", None);
    }
}
