//! Baseline (a): what librdkafka's two ends cost, with nothing in between.
//!
//! One process and one thread: a consumer in a group, a transactional producer, a commit as often as a gateway commits.
//! Settings that matter are a gateway's own. No encryption, no outbox, no second process, and no positions: it could not
//! go on after a crash without losing or repeating records.

use anyhow::Context;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::{Duration, Instant};

/// A gateway's own least time between commits.
const COMMIT_EVERY: Duration = Duration::from_millis(10);

/// A gateway's own limit of a commit.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

const PATIENCE: Duration = Duration::from_secs(30);

/// Copies until it is killed. `arguments`: brokers and topic to read, brokers and topic to write.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [from, topic, to, target] = arguments else {
        anyhow::bail!("plain <brokers> <topic> <brokers> <topic>");
    };
    let producer = producer(to)?;
    let consumer = consumer(from, topic)?;
    producer.init_transactions(PATIENCE)?;
    loop {
        copy(&consumer, &producer, target)?;
    }
}

/// One transaction.
fn copy(consumer: &BaseConsumer, producer: &BaseProducer, target: &str) -> anyhow::Result<()> {
    let mut wait = Duration::from_millis(200);
    let mut began: Option<Instant> = None;
    let mut bytes = 0;
    while bytes < COMMIT_BYTES {
        if let Some(message) = consumer.poll(wait) {
            let message = message?;
            if began.is_none() {
                producer.begin_transaction()?;
                began = Some(Instant::now());
            }
            bytes += message.payload_len() + message.key_len();
            send(producer, target, &message)?;
        }
        wait = match began {
            Some(began) if began.elapsed() >= COMMIT_EVERY => break,
            Some(began) => COMMIT_EVERY.saturating_sub(began.elapsed()),
            None => return Ok(()),
        };
    }
    // Emptied first: the wrapper's own flush would wait in steps of 100 ms.
    let deadline = Instant::now() + PATIENCE;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::from_micros(500));
    }
    producer.commit_transaction(PATIENCE).context("commit")
}

fn send(producer: &BaseProducer, target: &str, message: &impl Message) -> anyhow::Result<()> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(target).partition(message.partition());
    record.key = message.key();
    record.payload = message.payload();
    record.timestamp = message.timestamp().to_millis();
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(1));
                record = back;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

fn consumer(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("plain.{topic}"))
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.wait.max.ms", "50")
        .set("check.crcs", "true");
    let consumer: BaseConsumer = settings.create()?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

fn producer(brokers: &str) -> anyhow::Result<BaseProducer> {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", brokers)
        .set("transactional.id", "plain")
        .set("linger.ms", "5")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "1000000")
        .set("delivery.report.only.error", "true")
        .set("acks", "all");
    Ok(settings.create()?)
}
