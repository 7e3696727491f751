//! What tests do to a cluster beside the connector.

use crate::tap::Owned;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::future::Future;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(30);

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn admin(address: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", address)
        .create()
        .expect("an admin client")
}

pub(crate) fn create_topic(address: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let deadline = Instant::now() + WAIT;
    loop {
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let new = settings
            .iter()
            .fold(new, |new, (name, value)| new.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(WAIT));
        let outcome = wait(admin(address).create_topics([&new], &options)).expect("a broker answers");
        match &outcome[0] {
            Ok(_) => return,
            // Made again at once after it was deleted.
            Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(crate) fn delete_topic(address: &str, topic: &str) {
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    let outcome = wait(admin(address).delete_topics(&[topic], &options)).expect("a broker answers");
    outcome[0].as_ref().expect("the topic is deleted");
}

/// Deletes the records below `before`, as retention does.
pub(crate) fn delete_records(address: &str, topic: &str, partition: i32, before: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before))
        .expect("an offset");
    let options = AdminOptions::new().operation_timeout(Some(WAIT));
    wait(admin(address).delete_records(&list, &options)).expect("records are deleted");
}

pub(crate) fn producer(address: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("linger.ms", "0");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().expect("a producer")
}

pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, record: &Owned) {
    let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    message = message.partition(partition).timestamp(record.timestamp);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    if !record.headers.is_empty() {
        let add = |headers: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
            headers.insert(Header {
                key,
                value: value.as_deref(),
            })
        };
        message.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), add));
    }
    producer
        .send(message)
        .map_err(|(error, _)| error)
        .expect("queued");
}

/// Writes `values` and waits for them.
pub(crate) fn produce(address: &str, topic: &str, partition: i32, values: &[&str]) {
    let producer = producer(address, &[]);
    for value in values {
        send(&producer, topic, partition, &Owned::new(Some("k"), Some(value)));
    }
    producer.flush(WAIT).expect("delivered");
}

/// A transaction of `values`, committed or aborted.
pub(crate) fn transact(address: &str, id: &str, topic: &str, values: &[&str], commit: bool) {
    let producer = producer(address, &[("transactional.id", id)]);
    producer.init_transactions(WAIT).expect("a producer id");
    producer.begin_transaction().expect("a transaction");
    for value in values {
        send(&producer, topic, 0, &Owned::new(Some("k"), Some(value)));
    }
    producer.flush(WAIT).expect("written");
    if commit {
        producer.commit_transaction(WAIT).expect("committed");
    } else {
        producer.abort_transaction(WAIT).expect("aborted");
    }
}
