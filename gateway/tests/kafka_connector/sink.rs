//! Writing topics.

use crate::broker::broker;
use crate::cluster::{create_topic, delete_topic, produce, producer, send};
use crate::tap::{Owned, PATIENCE, sink, sink_config, take, unique, write};
use culvert::connector::kafka::{KafkaReader, KafkaSink};
use culvert::flow::{Reader, Sink, SinkFault};
use culvert_proto::digest::{self, Digest};
use culvert_proto::record::HeadersBuf;
use culvert_proto::{Guard, Lineage, Position, Sequence, StreamId};
use rdkafka::producer::Producer;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const CREATE: [(&str, &str); 2] = [
    ("topic.creation.default.partitions", "1"),
    ("topic.creation.default.replication.factor", "1"),
];

pub(crate) fn stream(topic: &str, partition: u32) -> StreamId {
    StreamId {
        site: "plant".into(),
        topic: topic.into(),
        partition,
        lineage: Lineage::Replayable {
            cluster: "c".into(),
            topic: [7; 16],
        },
    }
}

pub(crate) fn position(at: u64, records: &[Owned]) -> Position {
    let mut position = Position::beginning(0, Sequence::ZERO, Guard::NONE);
    position.at = Sequence(at);
    position.guard = Guard { epoch: 4, crc: 99 };
    position.digest = Digest::EMPTY;
    for record in records {
        record.lend(&mut HeadersBuf::new(), |lent| {
            position.digest.add(digest::content(&lent));
        });
    }
    position
}

pub(crate) fn values(texts: &[&str]) -> Vec<Owned> {
    texts
        .iter()
        .map(|text| Owned::new(Some("k"), Some(text)))
        .collect()
}

/// What a consumer that reads committed records sees.
pub(crate) fn committed(address: &str, topic: &str, partition: u32) -> Vec<Owned> {
    let mut reader =
        KafkaReader::of_sink(&sink_config(address, topic, &[("topics", topic)])).expect("a reader");
    let mut found = Vec::new();
    reader
        .read(topic, partition, Sequence::ZERO, None, &mut |_, record| {
            found.push(Owned::of(record));
            ControlFlow::Continue(())
        })
        .expect("the topic can be read");
    found
}

/// A commit is decided before it is visible: its markers are written after the answer.
#[track_caller]
pub(crate) fn check_committed(address: &str, topic: &str, partition: u32, expected: &[Owned]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = committed(address, topic, partition);
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < deadline && expected.starts_with(&found),
            "{found:?} is not {expected:?}"
        );
    }
}

fn creating(address: &str, topic: &str) -> KafkaSink {
    sink(address, topic, &[("topics", topic), CREATE[0], CREATE[1]])
}

#[track_caller]
fn check_stop<T: std::fmt::Debug>(outcome: Result<T, SinkFault>, page: &str, said: &str) {
    match outcome {
        Err(SinkFault::Stop { code, reason }) => {
            assert_eq!(code, page, "{reason}");
            assert!(reason.contains(said), "{reason}");
        }
        other => panic!("expected a stop, got {other:?}"),
    }
}

#[test]
fn data_and_position_appear_together_and_are_found_again() {
    let (address, topic) = (broker(), unique("together"));
    let mut records = values(&["a", "b"]);
    records[0].headers = vec![("h".to_owned(), Some(b"1".to_vec())), ("h".to_owned(), None)];
    records.push(Owned::new(None, Some("no key")));
    records.push(Owned::new(Some("tombstone"), None));
    records.push(Owned::new(Some(""), Some("")));
    let mut untimed = Owned::new(None, Some("untimed"));
    untimed.timestamp = -1;
    records.push(untimed);
    let stream = stream(&topic, 0);
    let mut first = creating(&address, &topic);
    assert_eq!(take(&mut first), []);
    write(&mut first, &stream, 0, &records).unwrap();
    check_committed(&address, &topic, 0, &[]); // nothing is visible before the commit
    first.commit(&[(stream.clone(), position(6, &records))]).unwrap();
    check_committed(&address, &topic, 0, &records);

    let mut second = creating(&address, &topic);
    assert_eq!(take(&mut second), [(stream.clone(), position(6, &records))]);
    second.commit(&[(stream.clone(), position(9, &records))]).unwrap();
    assert_eq!(
        take(&mut first),
        [(stream, position(9, &records))],
        "a position moves without records"
    );
}

#[test]
fn a_new_writer_fences_the_old_one_and_drops_what_it_wrote() {
    let (address, topic) = (broker(), unique("fence"));
    let stream = stream(&topic, 0);
    let (mut old, mut new) = (creating(&address, &topic), creating(&address, &topic));
    take(&mut old);
    write(&mut old, &stream, 0, &values(&["old"])).unwrap();
    take(&mut new);
    let outcome = old.commit(&[(stream.clone(), position(1, &values(&["old"])))]);
    assert!(matches!(outcome, Err(SinkFault::Fenced(_))), "{outcome:?}");
    let again = old.commit(&[]);
    assert!(
        matches!(again, Err(SinkFault::Retry(_))),
        "a fenced writer has to take again: {again:?}"
    );
    write(&mut new, &stream, 0, &values(&["new"])).unwrap();
    new.commit(&[(stream, position(1, &values(&["new"])))]).unwrap();
    check_committed(&address, &topic, 0, &values(&["new"]));
}

#[test]
fn records_of_a_writer_that_died_are_never_seen() {
    let (address, topic) = (broker(), unique("died"));
    let stream = stream(&topic, 0);
    let mut dies = creating(&address, &topic);
    take(&mut dies);
    write(&mut dies, &stream, 0, &values(&["lost"])).unwrap();
    drop(dies);
    let mut next = creating(&address, &topic);
    assert_eq!(take(&mut next), []);
    write(&mut next, &stream, 0, &values(&["kept"])).unwrap();
    next.commit(&[(stream, position(1, &values(&["kept"])))]).unwrap();
    check_committed(&address, &topic, 0, &values(&["kept"]));
}

#[test]
fn keys_land_where_a_java_client_would_put_them() {
    let (address, by_client, by_sink) = (broker(), unique("client"), unique("sink"));
    create_topic(&address, &by_client, 7, &[]);
    create_topic(&address, &by_sink, 7, &[]);
    let keyed: Vec<Owned> = (0..50)
        .map(|n| Owned::new(Some(&format!("key-{n}")), Some("v")))
        .collect();
    // librdkafka's own partitioner is checked against Java's in its test suite.
    let producer = producer(&address, &[("partitioner", "murmur2_random")]);
    for record in &keyed {
        send(&producer, &by_client, -1, record);
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let mut sink = sink(
        &address,
        &by_sink,
        &[("topics", &by_sink), ("culvert.partitioner", "key")],
    );
    take(&mut sink);
    let stream = stream(&by_sink, 12);
    write(&mut sink, &stream, 0, &keyed).unwrap();
    write(&mut sink, &stream, 50, &[Owned::new(None, Some("no key"))]).unwrap();
    sink.commit(&[]).unwrap();
    for partition in 0..7 {
        let mut expected = committed(&address, &by_client, partition);
        if partition == 12 % 7 {
            expected.push(Owned::new(None, Some("no key")));
        }
        check_committed(&address, &by_sink, partition, &expected);
    }
}

#[test]
fn a_map_decides_where_source_partitions_go() {
    let (address, topic) = (broker(), unique("map"));
    let map = "0-1:2, 2:0, *:same";
    let pairs = [
        ("topics", topic.as_str()),
        ("culvert.partitioner", "custom"),
        ("culvert.partitioner.map", map),
        CREATE[0],
        CREATE[1],
    ];
    let mut sink = sink(&address, &topic, &pairs);
    take(&mut sink);
    // Keys decide nothing here, and partitions are made as they are needed.
    for (partition, value) in [(0, "a"), (1, "b"), (2, "c"), (3, "d")] {
        write(&mut sink, &stream(&topic, partition), 0, &values(&[value])).unwrap();
    }
    sink.commit(&[]).unwrap();
    for (partition, expected) in [["c"].as_slice(), &[], &["a", "b"], &["d"]]
        .into_iter()
        .enumerate()
    {
        let partition = i32::try_from(partition).unwrap();
        check_committed(&address, &topic, partition.cast_unsigned(), &values(expected));
    }

    let mut strict = self::sink(&address, &topic, &pairs[..3]);
    take(&mut strict);
    check_stop(
        write(&mut strict, &stream(&topic, 4), 0, &values(&["e"])),
        "CULVERT-K013",
        "culvert.partitioner=custom needs 5",
    );
}

/// C1 where nothing is held: the commit has no position in it, and still nobody but the writer may make it.
#[test]
fn a_commit_without_positions_proves_the_writer() {
    let (address, topic) = (broker(), unique("proof"));
    let (mut old, mut new) = (creating(&address, &topic), creating(&address, &topic));
    take(&mut old);
    old.commit(&[]).unwrap();
    old.commit(&[]).unwrap();
    assert_eq!(take(&mut new), [], "a proof is no position");
    let outcome = old.commit(&[]);
    assert!(matches!(outcome, Err(SinkFault::Fenced(_))), "{outcome:?}");
    new.commit(&[(stream(&topic, 0), position(1, &[]))]).unwrap();
    new.commit(&[]).unwrap();
    assert_eq!(take(&mut old).len(), 1, "a proof takes no position away");
}

/// librdkafka takes 0 for "now" and -1 for "none"; neither may change when a record was made.
#[test]
fn the_beginning_of_time_is_kept_to_the_millisecond() {
    let (address, topic) = (broker(), unique("time"));
    let mut records = values(&["zero", "one", "none"]);
    for (record, timestamp) in records.iter_mut().zip([0, 1, -1]) {
        record.timestamp = timestamp;
    }
    let mut sink = creating(&address, &topic);
    take(&mut sink);
    write(&mut sink, &stream(&topic, 0), 0, &records).unwrap();
    sink.commit(&[]).unwrap();
    records[0].timestamp = 1; // as near as it can be said
    check_committed(&address, &topic, 0, &records);
}

/// The next commit of the same producer would decide a transaction that hangs, and nobody knows which way it was meant.
#[test]
fn a_transaction_that_is_open_in_the_target_is_waited_for() {
    let (address, topic) = (broker(), unique("open"));
    let positions = format!("culvert.positions.{topic}");
    create_topic(&address, &topic, 2, &[]);
    create_topic(&address, &positions, 1, &[("cleanup.policy", "compact")]);
    let stream = stream(&topic, 0);
    let mut sink = sink(&address, &topic, &[("topics", &topic)]);
    let open = |topic: &str, partition| {
        let writer = producer(&address, &[("transactional.id", &unique("hanging"))]);
        writer.init_transactions(PATIENCE).unwrap();
        writer.begin_transaction().unwrap();
        send(&writer, topic, partition, &Owned::new(Some("k"), Some("open")));
        writer.flush(PATIENCE).unwrap();
        writer
    };
    let check_waits = |outcome: Result<(), SinkFault>, place: &str| {
        let fault = outcome.expect_err("it waits");
        assert!(matches!(fault, SinkFault::Retry(_)), "{fault:?}");
        assert!(
            fault.to_string().contains("CULVERT-K016") && fault.to_string().contains(place),
            "{fault}"
        );
    };
    let hanging = open(&positions, 0);
    check_waits(sink.take().map(|_| ()), &format!("{positions}/0"));
    hanging.abort_transaction(PATIENCE).unwrap();
    take(&mut sink);

    // In any partition of the target, for nobody knows where a transaction wrote to.
    let hanging = open(&topic, 1);
    check_waits(
        write(&mut sink, &stream, 0, &values(&["a"])),
        &format!("{topic}/1"),
    );
    hanging.abort_transaction(PATIENCE).unwrap();
    take(&mut sink);
    write(&mut sink, &stream, 0, &values(&["a"])).unwrap();
    // One that begins later is not waited for.
    let later = open(&topic, 1);
    sink.commit(&[(stream.clone(), position(1, &[]))]).unwrap();
    write(&mut sink, &stream, 1, &values(&["b"])).unwrap();
    sink.commit(&[(stream, position(2, &[]))]).unwrap();
    later.abort_transaction(PATIENCE).unwrap();
    check_committed(&address, &topic, 0, &values(&["a", "b"]));
}

#[test]
fn target_topics_are_made_and_grow_only_where_that_was_asked_for() {
    let (address, topic) = (broker(), unique("made"));
    let mut strict = sink(&address, &topic, &[("topics", &topic)]);
    take(&mut strict);
    check_stop(
        write(&mut strict, &stream(&topic, 0), 0, &values(&["a"])),
        "CULVERT-K014",
        &topic,
    );

    let mut sink = creating(&address, &topic);
    take(&mut sink);
    write(&mut sink, &stream(&topic, 0), 0, &values(&["a"])).unwrap();
    write(&mut sink, &stream(&topic, 2), 0, &values(&["c"])).unwrap();
    sink.commit(&[]).unwrap();
    check_committed(&address, &topic, 2, &values(&["c"]));

    take(&mut strict);
    check_stop(
        write(&mut strict, &stream(&topic, 3), 0, &values(&["d"])),
        "CULVERT-K013",
        "needs 4",
    );
}

#[test]
fn another_topic_under_the_targets_name_stops_the_route() {
    let (address, topic) = (broker(), unique("target"));
    let stream = stream(&topic, 0);
    let mut sink = creating(&address, &topic);
    take(&mut sink);
    write(&mut sink, &stream, 0, &values(&["a"])).unwrap();
    sink.commit(&[(stream, position(1, &values(&["a"])))]).unwrap();
    delete_topic(&address, &topic);
    check_stop(sink.take(), "CULVERT-K012", "was deleted");
    create_topic(&address, &topic, 1, &[]);
    check_stop(sink.take(), "CULVERT-K012", "made again");
}

#[test]
fn a_positions_topic_that_cannot_be_trusted_stops_the_route() {
    let address = broker();
    let wrong = |connector: &str, partitions, policy: &str| {
        let name = format!("culvert.positions.{connector}");
        create_topic(&address, &name, partitions, &[("cleanup.policy", policy)]);
        (sink(&address, connector, &[("topics", "t")]), name)
    };
    let (mut sink, _) = wrong(&unique("many"), 2, "compact");
    check_stop(sink.take(), "CULVERT-K010", "tasks.max=2");
    let (mut sink, _) = wrong(&unique("deleting"), 1, "compact,delete");
    check_stop(sink.take(), "CULVERT-K011", "cleanup.policy=compact,delete");
    let (mut sink, name) = wrong(&unique("garbage"), 1, "compact");
    produce(&address, &name, 0, &["garbage"]);
    check_stop(sink.take(), "CULVERT-K015", "read position 0");
}

#[test]
fn a_record_that_the_target_cannot_hold_is_refused_alone() {
    let (address, topic) = (broker(), unique("large"));
    create_topic(&address, &topic, 1, &[("max.message.bytes", "2000")]);
    let stream = stream(&topic, 0);
    let mut sink = creating(&address, &topic);
    take(&mut sink);
    let outcome = write(&mut sink, &stream, 0, &values(&["small"]));
    assert!(
        matches!(outcome, Err(SinkFault::Retry(_))),
        "opened again with batches that fit: {outcome:?}"
    );
    take(&mut sink);
    let large = "x".repeat(3_000);
    let many: Vec<String> = (0..100).map(|n| format!("{n:0>100}")).collect();
    let many = values(&many.iter().map(String::as_str).collect::<Vec<_>>());
    write(&mut sink, &stream, 0, &many).unwrap();
    match write(&mut sink, &stream, 100, &values(&[&large])) {
        Err(SinkFault::Record {
            sequence: Sequence(100),
            reason,
        }) => {
            assert!(reason.contains("max.message.bytes=2000"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    write(&mut sink, &stream, 101, &values(&["next"])).unwrap();
    sink.commit(&[(stream, position(102, &[]))]).unwrap();
    let expected: Vec<Owned> = many.into_iter().chain(values(&["next"])).collect();
    check_committed(&address, &topic, 0, &expected);
}

#[test]
fn the_writer_that_a_position_names_is_fenced_before_it_is_believed() {
    let (address, old, new) = (broker(), unique("old"), unique("new"));
    let stream = stream(&old, 0);
    let mut first = creating(&address, &old);
    take(&mut first);
    first.commit(&[(stream.clone(), position(3, &[]))]).unwrap();
    // A connector that got another name takes its positions along.
    create_topic(
        &address,
        &format!("culvert.positions.{new}"),
        1,
        &[("cleanup.policy", "compact")],
    );
    let positions = format!("culvert.positions.{old}");
    let deadline = Instant::now() + PATIENCE;
    let moved = loop {
        let moved = committed(&address, &positions, 0);
        assert!(Instant::now() < deadline, "no position appears");
        if !moved.is_empty() {
            break moved;
        }
    };
    let producer = producer(&address, &[]);
    for record in &moved {
        send(&producer, &format!("culvert.positions.{new}"), 0, record);
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let mut second = sink(&address, &new, &[("topics", &old)]);
    assert_eq!(take(&mut second), [(stream.clone(), position(3, &[]))]);
    let outcome = first.commit(&[(stream, position(4, &[]))]);
    assert!(matches!(outcome, Err(SinkFault::Fenced(_))), "{outcome:?}");
}
