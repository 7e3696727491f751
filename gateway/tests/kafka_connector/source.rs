//! Reading topics.

use crate::broker::{Broker, broker};
use crate::cluster::{create_topic, delete_records, delete_topic, produce, producer, send, transact};
use crate::tap::{Driven, Owned, PATIENCE, Tap, source, unique};
use culvert::flow::{Place, Source};
use culvert_proto::{Guard, Sequence};
use rdkafka::producer::Producer;
use std::time::Duration;

fn reading(address: &str, topic: &str, place: Place) -> Driven {
    Driven::new(source(address, topic, "gw", &[("topics", topic)]), Some(place))
}

fn at(at: u64, guard: Guard) -> Place {
    Place::At {
        at: Sequence(at),
        guard,
    }
}

#[test]
fn a_record_arrives_as_it_was_written() {
    let address = broker();
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = unique(compression);
        create_topic(&address, &topic, 1, &[]);
        let mut full = Owned::new(Some("key"), Some("value"));
        full.headers = vec![
            ("name".to_owned(), Some(b"value".to_vec())),
            ("name".to_owned(), None),
            ("empty".to_owned(), Some(Vec::new())),
        ];
        let mut untimed = Owned::new(None, Some("untimed"));
        untimed.timestamp = -1;
        let written = [
            full,
            Owned::new(None, Some("no key")),
            Owned::new(Some("tombstone"), None),
            Owned::new(Some(""), Some("")),
            untimed,
        ];
        let producer = producer(&address, &[("compression.type", compression)]);
        for record in &written {
            send(&producer, &topic, 0, record);
        }
        producer.flush(Duration::from_secs(10)).unwrap();

        let mut driven = reading(&address, &topic, Place::Earliest);
        driven.until("all records", |tap| tap.records.len() == written.len());
        let read: Vec<&Owned> = driven.tap.records.iter().map(|(.., record)| record).collect();
        assert_eq!(read, written.iter().collect::<Vec<_>>(), "{compression}");
        driven.until("the end", |tap| {
            tap.advanced.values().any(|to| *to == Sequence(5))
        });
        driven.source.close();
    }
}

#[test]
fn aborted_records_are_holes_that_the_stream_moves_over() {
    let (address, topic) = (broker(), unique("holes"));
    create_topic(&address, &topic, 1, &[]);
    transact(&address, &topic, &topic, &["a", "b"], true); // 0, 1, marker 2
    transact(&address, &topic, &topic, &["lost"], false); // 3, marker 4
    transact(&address, &topic, &topic, &["c"], true); // 5, marker 6
    transact(&address, &topic, &topic, &["lost"], false); // 7, marker 8
    let mut driven = reading(&address, &topic, Place::Earliest);
    driven.until("the end behind the last marker", |tap| {
        tap.advanced.values().any(|to| *to == Sequence(9))
    });
    assert_eq!(driven.tap.values(), ["a", "b", "c"]);
    let sequences: Vec<u64> = driven
        .tap
        .records
        .iter()
        .map(|(_, sequence, ..)| sequence.0)
        .collect();
    assert_eq!(sequences, [0, 1, 5]);
    // The record before 9 is a marker: nothing to compare, and no reason to halt.
    let (.., epoch, last) = driven.tap.records.last().unwrap();
    let guard = Guard {
        epoch: *epoch,
        crc: last.crc(),
    };
    let slot = driven.tap.slot_of(0).unwrap();
    driven.source.seek(slot, at(9, guard)).unwrap();
    driven.until("placed behind the marker", |tap| {
        tap.placed.last() == Some(&(slot, Sequence(9), guard))
    });
}

#[test]
fn a_place_is_taken_up_again_with_its_guard() {
    let (address, topic) = (broker(), unique("guard"));
    create_topic(&address, &topic, 1, &[]);
    produce(&address, &topic, 0, &["a", "b", "c", "d"]);
    let mut first = reading(&address, &topic, Place::Earliest);
    first.until("all", |tap| tap.records.len() == 4);
    let (.., epoch, second) = first.tap.records[1].clone();
    let guard = Guard {
        epoch,
        crc: second.crc(),
    };
    let slot = first.tap.slot_of(0).unwrap();
    first.source.seek(slot, at(2, guard)).unwrap();
    first.until("again from 2", |tap| tap.records.len() == 6);
    assert_eq!(first.tap.placed.last(), Some(&(slot, Sequence(2), guard)));
    assert_eq!(first.tap.values()[4..], ["c", "d"]);

    let wrong = Guard {
        crc: guard.crc ^ 1,
        ..guard
    };
    first.source.seek(slot, at(2, wrong)).unwrap();
    first.until("halted", |tap| !tap.halted.is_empty());
    assert_eq!(first.tap.halted[0].1.code, "CULVERT-K006");
    assert_eq!(first.tap.records.len(), 6, "nothing is handed over");

    first.source.seek(slot, Place::Latest).unwrap();
    first.until("the operator moves it", |tap| tap.placed.len() == 3);
    let last = Guard {
        epoch,
        crc: first.tap.records[3].3.crc(),
    };
    assert_eq!(
        first.tap.placed.last(),
        Some(&(slot, Sequence(4), last)),
        "with the guard of the last record"
    );
}

#[test]
fn an_epoch_that_never_was_halts() {
    let (address, topic) = (broker(), unique("epoch"));
    create_topic(&address, &topic, 1, &[("cleanup.policy", "compact")]);
    transact(&address, &topic, &topic, &["a"], true); // 0, marker 1
    let mut driven = reading(&address, &topic, at(2, Guard { epoch: 1_000, crc: 1 }));
    driven.until("halted", |tap| !tap.halted.is_empty());
    assert_eq!(
        driven.tap.halted[0].1.code, "CULVERT-K005",
        "{}",
        driven.tap.halted[0].1.reason
    );
}

/// A control record behind the last record is of the leader that wrote it, not of the one that wrote the record. With
/// the record's epoch the place behind it looked truncated, and a healthy stream stood still.
#[test]
fn a_control_record_of_a_later_leader_is_not_taken_for_a_truncation() {
    let mut broker = Broker::start();
    let (address, topic) = (broker.address(), unique("later"));
    create_topic(&address, &topic, 1, &[]);
    transact(&address, &topic, &topic, &["a"], true); // 0, marker 1
    let mut first = reading(&address, &topic, Place::Earliest);
    let is_at = |at: u64| move |tap: &Tap| tap.advanced.values().any(|to| *to == Sequence(at));
    first.until("the first leader's end", is_at(2));
    let before = first.tap.guard_at_end(first.tap.slot_of(0).unwrap());
    broker.stop();
    broker.restart();
    transact(&address, &topic, &topic, &["lost"], false); // 2, marker 3
    first.until("the second leader's end", is_at(4));
    let guard = first.tap.guard_at_end(first.tap.slot_of(0).unwrap());
    assert!(
        before.epoch >= 0 && guard.epoch > before.epoch,
        "{before:?}, then {guard:?}"
    );

    let go_on = |guard: Guard| {
        let source = source(&address, &unique("again"), "gw", &[("topics", &topic)]);
        Driven::new(source, Some(at(4, guard)))
    };
    let mut wrong = go_on(before);
    wrong.until("the first leader never came so far", |tap| !tap.halted.is_empty());
    assert_eq!(wrong.tap.halted[0].1.code, "CULVERT-K005");

    // A gateway that starts again with the sink's position.
    let mut again = go_on(guard);
    check_reads_on(&mut again, 1, &address, &topic, &["b"]);
}

/// Once it is placed for the `placed`th time, it reads `b` next, has `expected` then, and has not halted.
#[track_caller]
fn check_reads_on(driven: &mut Driven, placed: usize, address: &str, topic: &str, expected: &[&str]) {
    driven.until("placed", |tap| {
        tap.placed.len() == placed || !tap.halted.is_empty()
    });
    produce(address, topic, 0, &["b"]);
    driven.until("what comes next", |tap| {
        tap.values() == expected || !tap.halted.is_empty()
    });
    assert_eq!(driven.tap.halted, []);
}

/// The transaction's records are of one leader and its end is of the next.
#[test]
fn a_transaction_that_a_later_leader_ends_is_not_taken_for_a_truncation() {
    let mut broker = Broker::start();
    let (address, topic) = (broker.address(), unique("ended"));
    create_topic(&address, &topic, 1, &[]);
    let writer = producer(&address, &[("transactional.id", &topic)]);
    writer.init_transactions(PATIENCE).unwrap();
    writer.begin_transaction().unwrap();
    send(&writer, &topic, 0, &Owned::new(None, Some("a")));
    writer.flush(PATIENCE).unwrap();
    broker.stop();
    broker.restart();
    writer.commit_transaction(PATIENCE).unwrap();
    let mut first = reading(&address, &topic, Place::Earliest);
    first.until("the end", |tap| {
        tap.advanced.values().any(|to| *to == Sequence(2))
    });
    let slot = first.tap.slot_of(0).unwrap();
    let guard = first.tap.guard_at_end(slot);
    assert!(guard.epoch > first.tap.records[0].2, "{guard:?}");
    first.source.seek(slot, at(2, guard)).unwrap();
    check_reads_on(&mut first, 2, &address, &topic, &["a", "b"]);
}

#[test]
fn a_log_that_was_lost_behind_a_control_record_halts() {
    let mut broker = Broker::start();
    let (address, topic) = (broker.address(), unique("lost"));
    create_topic(&address, &topic, 1, &[]);
    transact(&address, &topic, &topic, &["a"], true); // 0, marker 1
    let mut first = reading(&address, &topic, Place::Earliest);
    first.until("the end", |tap| {
        tap.advanced.values().any(|to| *to == Sequence(2))
    });
    let guard = first.tap.guard_at_end(first.tap.slot_of(0).unwrap());
    assert!(guard.epoch >= 0, "{guard:?}");
    broker.stop();
    broker.lose(&topic, 0);
    broker.restart();
    // Beyond the old place, so that its number alone says nothing.
    produce(&address, &topic, 0, &["x", "y", "z"]);
    let name = unique("again");
    let mut again = Driven::new(
        source(&address, &name, "gw", &[("topics", &topic)]),
        Some(at(2, guard)),
    );
    again.until("halted", |tap| !tap.halted.is_empty() || !tap.records.is_empty());
    let codes: Vec<&str> = again.tap.halted.iter().map(|(_, halt)| halt.code).collect();
    assert_eq!(
        (codes.as_slice(), again.tap.values().len()),
        (["CULVERT-K005"].as_slice(), 0)
    );
}

#[test]
fn a_place_that_retention_has_passed_halts_with_the_interval() {
    let (address, topic) = (broker(), unique("retention"));
    create_topic(&address, &topic, 2, &[]);
    for partition in [0, 1] {
        produce(&address, &topic, partition, &["a", "b", "c", "d"]);
    }
    delete_records(&address, &topic, 0, 3);
    let mut driven = reading(&address, &topic, at(1, Guard::NONE));
    driven.until("the other partition is read", |tap| {
        tap.records.len() == 3 && !tap.halted.is_empty()
    });
    let (slot, halt) = &driven.tap.halted[0];
    assert_eq!((Some(*slot), halt.code), (driven.tap.slot_of(0), "CULVERT-K003"));
    assert!(halt.reason.contains("[1, 3)"), "{}", halt.reason);
}

#[test]
fn records_that_vanish_while_they_are_awaited_halt_the_stream() {
    let (address, topic) = (broker(), unique("vanish"));
    create_topic(&address, &topic, 1, &[]);
    produce(&address, &topic, 0, &["a"]);
    let mut driven = reading(&address, &topic, Place::Earliest);
    driven.until("the first", |tap| tap.records.len() == 1);
    let slot = driven.tap.slot_of(0).unwrap();
    driven.source.pause(slot).unwrap();
    produce(&address, &topic, 0, &["b", "c", "d"]);
    delete_records(&address, &topic, 0, 3);
    driven.source.resume(slot).unwrap();
    driven.until("halted", |tap| !tap.halted.is_empty());
    assert_eq!(driven.tap.halted[0].1.code, "CULVERT-K003");
    assert!(
        driven.tap.halted[0].1.reason.contains("[1, 3)"),
        "{}",
        driven.tap.halted[0].1.reason
    );
    assert_eq!(driven.tap.values(), ["a"]);
}

#[test]
fn a_place_behind_the_end_halts() {
    let (address, topic) = (broker(), unique("truncated"));
    create_topic(&address, &topic, 1, &[]);
    produce(&address, &topic, 0, &["a"]);
    let mut driven = reading(&address, &topic, at(5, Guard { epoch: 0, crc: 1 }));
    driven.until("halted", |tap| !tap.halted.is_empty());
    assert_eq!(driven.tap.halted[0].1.code, "CULVERT-K005");
}

#[test]
fn a_topic_made_again_is_another_stream_even_where_offsets_overlap() {
    let (address, topic) = (broker(), unique("again"));
    create_topic(&address, &topic, 1, &[]);
    produce(&address, &topic, 0, &["old 0", "old 1"]);
    let mut driven = reading(&address, &topic, Place::Earliest);
    driven.until("the old topic", |tap| {
        tap.advanced.values().any(|to| *to == Sequence(2))
    });
    delete_topic(&address, &topic);
    create_topic(&address, &topic, 1, &[]);
    produce(&address, &topic, 0, &["new 0", "new 1", "new 2", "new 3"]);
    driven.until("the new topic", |tap| tap.records.len() == 6);
    assert_eq!(driven.tap.values()[2..], ["new 0", "new 1", "new 2", "new 3"]);
    let old = driven.tap.assigned[0].0;
    assert!(
        driven
            .tap
            .halted
            .iter()
            .any(|(slot, halt)| *slot == old && halt.code == "CULVERT-K004")
    );
    assert!(
        driven.tap.records[2..].iter().all(|(slot, ..)| *slot != old),
        "no new record in the old stream"
    );
    assert_ne!(driven.tap.assigned[0].1, driven.tap.assigned.last().unwrap().1);
}

#[test]
fn partitions_move_to_a_second_gateway_and_back() {
    let (address, topic) = (broker(), unique("group"));
    create_topic(&address, &topic, 4, &[]);
    for partition in 0..4 {
        produce(&address, &topic, partition, &["a"]);
    }
    let settings = [("topics", topic.as_str())];
    let mut one = Driven::new(source(&address, &topic, "gw-1", &settings), Some(Place::Earliest));
    one.until("all of them", |tap| tap.records.len() == 4);
    let committed: Vec<_> = one
        .tap
        .assigned
        .iter()
        .map(|(slot, ..)| (*slot, Sequence(1)))
        .collect();
    one.source.commit(&committed).unwrap();

    let mut two = Driven::new(
        source(&address, &topic, "gw-2", &settings),
        Some(at(1, Guard::NONE)),
    );
    let deadline = std::time::Instant::now() + PATIENCE;
    while two.tap.held() != 2 || one.tap.held() != 2 {
        assert!(
            std::time::Instant::now() < deadline,
            "{} and {}",
            one.tap.held(),
            two.tap.held()
        );
        one.poll();
        two.poll();
    }
    assert_eq!(one.tap.revoked.len(), 2, "the others stay where they are");
    assert!(
        two.tap
            .assigned
            .iter()
            .all(|(.., committed)| *committed == Some(Sequence(1)))
    );
    for partition in 0..4 {
        produce(&address, &topic, partition, &["b"]);
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while one.tap.records.len() + two.tap.records.len() < 8 {
        assert!(std::time::Instant::now() < deadline);
        one.poll();
        two.poll();
    }
    two.source.close();
    drop(two);
    one.until("taken over within the session time", |tap| tap.held() == 4);
}

#[test]
fn a_topic_that_matches_the_pattern_is_found() {
    let (address, prefix) = (broker(), unique("pattern"));
    let topic = format!("{prefix}.one");
    create_topic(&address, &topic, 1, &[]);
    create_topic(&address, &format!("other.{prefix}"), 1, &[]);
    produce(&address, &topic, 0, &["a"]);
    let pattern = format!("{prefix}\\..*");
    let source = source(&address, &prefix, "gw", &[("topics.regex", &pattern)]);
    let mut driven = Driven::new(source, Some(Place::Earliest));
    driven.until("the record", |tap| tap.records.len() == 1);
    assert_eq!(driven.tap.assigned.len(), 1);
}

#[test]
fn a_topic_that_is_made_later_is_found_by_the_pattern() {
    let (address, prefix) = (broker(), unique("later"));
    let (early, late) = (format!("{prefix}.early"), format!("{prefix}.late"));
    create_topic(&address, &early, 1, &[]);
    produce(&address, &early, 0, &["a"]);
    let pattern = format!("{prefix}\\..*");
    let source = source(&address, &prefix, "gw", &[("topics.regex", &pattern)]);
    let mut driven = Driven::new(source, Some(Place::Earliest));
    driven.until("the first topic", |tap| tap.values() == ["a"]);
    create_topic(&address, &late, 1, &[]);
    produce(&address, &late, 0, &["b"]);
    driven.until("the second topic", |tap| tap.values() == ["a", "b"]);
    assert_eq!(driven.tap.revoked, [], "the first one was not given up for it");
}

#[test]
fn a_paused_stream_hands_nothing_over() {
    let (address, topic) = (broker(), unique("pause"));
    create_topic(&address, &topic, 2, &[]);
    produce(&address, &topic, 0, &["a"]);
    produce(&address, &topic, 1, &["a"]);
    let mut driven = reading(&address, &topic, Place::Earliest);
    driven.until("both", |tap| tap.records.len() == 2);
    let paused = driven.tap.slot_of(0).unwrap();
    driven.source.pause(paused).unwrap();
    produce(&address, &topic, 0, &["b"]);
    produce(&address, &topic, 1, &["b", "c"]);
    driven.until("the other one", |tap| tap.records.len() == 4);
    assert!(driven.tap.records[2..].iter().all(|(slot, ..)| *slot != paused));
    driven.source.resume(paused).unwrap();
    driven.until("the rest", |tap| tap.records.len() == 5);
    assert_eq!(driven.tap.records[4].0, paused);
}
