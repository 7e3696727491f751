//! Brokers that go away, and commits whose outcome is not known.

use crate::broker::Broker;
use crate::cluster::{create_topic, produce};
use crate::proxy::{Fault, Proxy};
use crate::sink::{check_committed, position, stream, values};
use crate::tap::{Driven, PATIENCE, sink, source, take, unique, write};
use culvert::flow::{Place, Sink, SinkFault};
use std::time::{Duration, Instant};

const SESSION: Duration = Duration::from_secs(12);
const SHORT: Duration = Duration::from_secs(5);

#[test]
fn a_broker_that_comes_back_is_used_again() {
    let mut broker = Broker::start();
    let (address, topic) = (broker.address(), unique("back"));
    create_topic(&address, &topic, 1, &[]);
    produce(&address, &topic, 0, &["a"]);
    broker.stop();

    // Both start while nothing answers.
    let name = unique("reader");
    let mut reading = Driven::new(
        source(&address, &name, "gw", &[("topics", &topic)]),
        Some(Place::Earliest),
    );
    let started = Instant::now();
    while reading.faults.is_empty() {
        assert!(started.elapsed() < PATIENCE, "no word of a broker that is away");
        reading.poll();
    }
    let mut writing = sink(&address, &unique("writer"), &[("topics", &topic)]);
    assert!(matches!(writing.take(), Err(SinkFault::Retry(_))));
    broker.restart();
    reading.until("the record", |tap| tap.records.len() == 1);
    let stream = stream(&topic, 0);
    take(&mut writing);
    write(&mut writing, &stream, 0, &values(&["b"])).unwrap();
    writing
        .commit(&[(stream.clone(), position(1, &values(&["b"])))])
        .unwrap();
    reading.until("what the sink wrote", |tap| tap.values() == ["a", "b"]);

    // It goes away in the middle of a transaction.
    write(&mut writing, &stream, 1, &values(&["c"])).unwrap();
    broker.stop();
    reading.faults.clear();
    let stopped = Instant::now();
    // Longer than the session: the group forgets this member.
    while reading.faults.is_empty() || stopped.elapsed() < SESSION {
        assert!(stopped.elapsed() < PATIENCE, "no word of a broker that is away");
        reading.poll();
    }
    broker.restart();
    let outcome = writing.commit(&[(stream.clone(), position(2, &values(&["b", "c"])))]);
    assert!(
        matches!(outcome, Err(SinkFault::Retry(_) | SinkFault::Uncertain(_))),
        "{outcome:?}"
    );
    assert_eq!(
        take(&mut writing),
        [(stream.clone(), position(1, &values(&["b"])))]
    );
    write(&mut writing, &stream, 1, &values(&["c"])).unwrap();
    writing
        .commit(&[(stream, position(2, &values(&["b", "c"])))])
        .unwrap();
    reading.until("everything once", |tap| tap.values() == ["a", "b", "c"]);
}

#[test]
fn a_commit_during_which_a_connection_broke_is_uncertain() {
    let proxy = Proxy::start();
    let _broker = Broker::start_behind(&proxy);
    let (address, topic) = (format!("127.0.0.1:{}", proxy.port), unique("uncertain"));
    create_topic(&address, &topic, 1, &[]);
    let stream = stream(&topic, 0);
    let mut sink = sink(&address, &topic, &[("topics", &topic)]);
    take(&mut sink);
    let mut done = Vec::new();
    // Twice, as librdkafka keeps quiet about an error that is like the last one.
    for round in 1..=2 {
        write(&mut sink, &stream, round - 1, &values(&["a"])).unwrap();
        done.extend(values(&["a"]));
        proxy.fail_next(Fault::LoseAnswer);
        let outcome = sink.commit(&[(stream.clone(), position(round, &done))]);
        assert!(proxy.failed());
        assert!(matches!(outcome, Err(SinkFault::Uncertain(_))), "{outcome:?}");
        assert_eq!(
            take(&mut sink),
            [(stream.clone(), position(round, &done))],
            "it was committed after all"
        );
    }
    check_committed(&address, &topic, 0, &done);
}

#[test]
fn a_delayed_commit_cannot_end_a_later_transaction() {
    let proxy = Proxy::start();
    let _broker = Broker::start_behind(&proxy);
    let (address, topic) = (format!("127.0.0.1:{}", proxy.port), unique("delayed"));
    create_topic(&address, &topic, 1, &[]);
    let stream = stream(&topic, 0);
    let mut sink = sink(&address, &topic, &[("topics", &topic)]);
    take(&mut sink);
    write(&mut sink, &stream, 0, &values(&["a"])).unwrap();
    proxy.fail_next(Fault::Delay);
    let outcome = sink.commit(&[(stream.clone(), position(1, &values(&["a"])))]);
    assert!(matches!(outcome, Err(SinkFault::Uncertain(_))), "{outcome:?}");
    // librdkafka sent it again, and that one was carried out.
    assert_eq!(take(&mut sink), [(stream.clone(), position(1, &values(&["a"])))]);
    write(&mut sink, &stream, 1, &values(&["half"])).unwrap();
    let half = Instant::now();
    let refused = proxy.release();
    assert!(half.elapsed() < SHORT);
    assert_ne!(refused, 0, "the first one comes too late, and is refused");
    check_committed(&address, &topic, 0, &values(&["a"])); // half a transaction is not visible
    sink.commit(&[(stream, position(2, &values(&["a", "half"])))])
        .unwrap();
    check_committed(&address, &topic, 0, &values(&["a", "half"]));
}
