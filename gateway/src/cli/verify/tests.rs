use super::ledger::{Expected, Kind, Ledger, Report};
use super::{Args, verify};
use crate::cli::generate::{progress, tests::generate};
use crate::connector::generator::records::{Format, Generator, Kind as Records, Recipe};
use crate::connector::kafka::producer::{Producer, imitation};
use crate::connector::sqlite::tests::tamper;
use crate::connector::sqlite::{SqliteConfig, SqliteSink};
use crate::flow::Sink;
use clap::Parser;
use culvert_proto::digest::{self, Digest};
use culvert_proto::record::{Headers, RecordRef};
use culvert_proto::{Guard, Lineage, Position, Sequence, StreamId};
use std::collections::BTreeMap;
use std::path::Path;

/// A record as it lies in the target: partition, key, value.
type Row = (u32, Vec<u8>, Vec<u8>);

fn made(format: Format, partition: u32, sequences: impl IntoIterator<Item = u64>) -> Vec<Row> {
    let recipe = Recipe {
        kind: Records::Sensors,
        format,
        seed: 3,
        faults: 0.2,
    };
    let mut generator = Generator::new(recipe);
    let mut row = |sequence| {
        let record = generator.record(partition, sequence);
        (
            partition,
            record.key.unwrap().to_vec(),
            record.value.unwrap().to_vec(),
        )
    };
    sequences.into_iter().map(&mut row).collect()
}

fn record<'a>(key: &'a [u8], value: &'a [u8]) -> RecordRef<'a> {
    RecordRef {
        timestamp: 1,
        key: Some(key),
        value: Some(value),
        headers: Headers::NONE,
    }
}

fn report(rows: &[Row], expected: &Expected) -> Report {
    let mut ledger = Ledger::new();
    for (place, (partition, key, value)) in rows.iter().enumerate() {
        ledger
            .enter(*partition, Sequence(place as u64), &record(key, value))
            .unwrap();
    }
    ledger.close(expected)
}

/// Plants something into 300 records of two partitions, and expects these findings and no others.
fn check(plant: impl Fn(&mut Vec<Row>), expected: &[(Kind, u64, &str)]) {
    for format in [Format::Json, Format::Avro { schema_id: 9 }] {
        let mut rows = made(format, 0, 0..200);
        rows.extend(made(format, 1, 0..100));
        plant(&mut rows);
        let report = report(&rows, &Expected::default());
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|(kind, found)| (*kind, found.count))
            .collect();
        let wanted: Vec<_> = expected.iter().map(|(kind, count, _)| (*kind, *count)).collect();
        assert_eq!(found, wanted, "{report}");
        assert_eq!(report.clean, expected.is_empty());
        for (kind, _, says) in expected {
            assert_eq!(report.findings[kind].first[0], *says);
        }
    }
}

#[test]
fn what_was_generated_is_clean_also_with_faults_in_it() {
    check(|_| {}, &[]);
}

#[test]
fn a_gap_is_named() {
    check(
        |rows| {
            rows.drain(50..53);
        },
        &[(Kind::Missing, 3, "sensors/3/0 [50, 53)")],
    );
}

#[test]
fn a_duplicate_is_named_and_is_not_disorder_as_well() {
    check(
        |rows| rows.insert(180, rows[5].clone()),
        &[(
            Kind::Duplicate,
            1,
            "sensors/3/0 5 at partition 0, 180: it was there before",
        )],
    );
}

#[test]
fn disorder_is_named() {
    check(
        |rows| rows.swap(10, 11),
        &[(
            Kind::Disorder,
            1,
            "sensors/3/0 10 at partition 0, 11: comes after 11",
        )],
    );
}

#[test]
fn disorder_of_a_key_is_named() {
    let first = made(Format::Json, 0, 0..200);
    let same_key = |at: usize| (at + 1..200).find(|other| first[*other].1 == first[at].1);
    let (one, other) = (0..200)
        .find_map(|at| same_key(at).map(|other| (at, other)))
        .unwrap();
    let plant = |rows: &mut Vec<Row>| rows.swap(one, other);
    let mut rows = made(Format::Json, 0, 0..200);
    plant(&mut rows);
    let report = report(&rows, &Expected::default());
    let says = format!("sensors/3/0 {one} at partition 0, {other}: its key comes after {other}");
    assert_eq!(report.findings[&Kind::KeyDisorder].first, [says]);
    assert!(report.findings[&Kind::Disorder].count > 0);
    assert_eq!(report.findings.len(), 2, "{report}");
}

#[test]
fn a_key_in_two_partitions_is_named() {
    let first = made(Format::Json, 0, 0..200);
    let again = (1..200)
        .find(|at| first[*at].1 == first[0].1)
        .expect("64 devices, 200 readings");
    let report = report(
        &first
            .into_iter()
            .enumerate()
            .map(|(at, row)| if at == again { (7, row.1, row.2) } else { row })
            .collect::<Vec<_>>(),
        &Expected::default(),
    );
    let split = &report.findings[&Kind::KeySplit];
    assert_eq!(
        split.first[0],
        format!("sensors/3/0 {again} at partition 7, {again}: its key is in partition 0 too")
    );
    assert_eq!(report.findings.len(), 1, "{report}");
}

#[test]
fn a_changed_byte_is_corrupt_and_not_missing_as_well() {
    check(
        |rows| *rows[20].2.last_mut().unwrap() ^= 1,
        &[(
            Kind::Corrupt,
            1,
            "partition 0, 20: it says sensors/3/0 20, and its checksum does not match",
        )],
    );
}

#[test]
fn a_record_that_is_no_longer_known_is_foreign_and_missing() {
    check(
        |rows| rows[20].2 = b"{}".to_vec(),
        &[
            (Kind::Missing, 1, "sensors/3/0 [20, 21)"),
            (Kind::Foreign, 1, "partition 0, 20: not a generated record"),
        ],
    );
}

#[test]
fn a_lost_end_is_seen_by_the_count_or_the_content() {
    let whole = made(Format::Json, 0, 0..20);
    let content = report(&whole, &Expected::default()).content;
    let expected = |records, content: &str| Expected {
        records,
        content: Some(content.to_owned()),
    };
    assert!(report(&whole, &expected(Some(20), &content)).clean);
    let short = report(&whole[..19], &expected(Some(20), &content));
    assert_eq!(short.findings[&Kind::Expectation].count, 2);
    assert_eq!(
        short.findings[&Kind::Expectation].first[0],
        "20 records were expected, and 19 are there"
    );
}

#[test]
fn nothing_at_all_is_not_clean_unless_expected() {
    assert!(!report(&[], &Expected::default()).clean);
    assert!(
        report(
            &[],
            &Expected {
                records: Some(0),
                content: None
            }
        )
        .clean
    );
}

#[test]
fn foreign_records_alone_are_counted_and_hashed_whatever_their_order() {
    let rows: Vec<Row> = (0..5u8).map(|n| (0, vec![n], vec![n])).collect();
    let turned: Vec<Row> = rows.iter().rev().cloned().collect();
    let (one, other) = (
        report(&rows, &Expected::default()),
        report(&turned, &Expected::default()),
    );
    assert!(one.clean && one.records == 5 && one.generated == 0);
    assert_eq!(one.content, other.content);
    assert_ne!(one.partitions[&0].content, other.partitions[&0].content);
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn run(line: &str) -> anyhow::Result<Report> {
    let line = Line::try_parse_from(["verify"].into_iter().chain(line.split_whitespace()))?;
    verify(&line.args, &progress(None, false))
}

#[test]
fn a_topic_that_was_generated_is_clean_and_an_extra_record_is_found() {
    let (_cluster, settings) = imitation("orders", 3);
    let topic = format!("--topic orders --bootstrap {}", settings["bootstrap.servers"]);
    let (records, content) = generate(&format!("{topic} --count 1000 --faults 0.1")).unwrap();
    let report = run(&format!("{topic} --expect {records} --expect-content {content}")).unwrap();
    assert!(report.clean, "{report}");
    assert_eq!(
        (
            report.generated,
            report.partitions.len(),
            report.streams["orders/1/0"]
        ),
        (1000, 3, 334)
    );

    let mut producer = Producer::open(&settings, "orders").unwrap();
    let row = &made(Format::Json, 0, [0])[0];
    (0..2).for_each(|_| producer.send(Some(2), &record(&row.1, &row.2)).unwrap());
    producer.flush().unwrap();
    let report = run(&topic).unwrap();
    assert_eq!(
        report.findings[&Kind::Duplicate].first,
        ["sensors/3/0 0 at partition 2, 334: it was there before"],
        "{report}"
    );
    assert!(
        run(&format!(
            "--topic nowhere --bootstrap {}",
            settings["bootstrap.servers"]
        ))
        .is_err()
    );
}

#[test]
fn the_lines_of_a_file_arrive_by_count_and_content() {
    let (_cluster, settings) = imitation("mine", 2);
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    std::fs::write(
        &input,
        (0..50).map(|n| format!("{{\"id\":{n}}}\n")).collect::<String>(),
    )
    .unwrap();
    let topic = format!("--topic mine --bootstrap {}", settings["bootstrap.servers"]);
    let (records, content) =
        generate(&format!("{topic} --input {} --key-field id", input.display())).unwrap();
    let report = run(&format!("{topic} --expect {records} --expect-content {content}")).unwrap();
    assert!(
        report.clean && report.records == 50 && report.generated == 0,
        "{report}"
    );
}

fn store(path: &Path, name: &str, rows: &[Row]) {
    let map = [("topics", "readings"), ("sqlite.path", path.to_str().unwrap())];
    let map: BTreeMap<_, _> = map
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let mut sink = SqliteSink::new(SqliteConfig::from_map(name, &map).unwrap());
    sink.take().unwrap();
    for partition in 0..2 {
        let lineage = Lineage::Run {
            outbox: [1; 16],
            run: [2; 16],
        };
        let stream = StreamId {
            site: "site1".into(),
            topic: "readings".into(),
            partition,
            lineage,
        };
        let rows: Vec<RecordRef<'_>> = rows
            .iter()
            .filter(|row| row.0 == partition)
            .map(|row| record(&row.1, &row.2))
            .collect();
        let mut position = Position::beginning(0, Sequence::ZERO, Guard::NONE);
        (position.at, position.digest) = (Sequence(rows.len() as u64), Digest::EMPTY);
        rows.iter()
            .for_each(|row| position.digest.add(digest::content(row)));
        sink.write(&stream, &mut (0..).map(Sequence).zip(rows)).unwrap();
        sink.commit(&[(stream, position)]).unwrap();
    }
}

#[test]
fn a_file_is_checked_with_its_positions_and_one_connector_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let file = format!("--sqlite {}", path.display());
    let mut rows = made(Format::Json, 0, 0..100);
    rows.extend(made(Format::Json, 1, 0..100));
    store(&path, "store", &rows);
    let report = run(&format!("{file} --expect 200")).unwrap();
    assert!(report.clean, "{report}");
    assert!(run(&format!("{file} --table nothing")).is_err());

    store(&path, "other", &rows);
    let error = run(&file).unwrap_err().to_string();
    assert!(
        error.ends_with("Name one with --connector: other, store."),
        "{error}"
    );
    assert!(
        run(&format!("{file} --connector other --table READINGS"))
            .unwrap()
            .clean
    );

    tamper(
        &path,
        "DELETE FROM readings WHERE partition = 1 AND sequence = 40",
    );
    let report = run(&format!("{file} --connector store")).unwrap();
    assert_eq!(
        report.findings[&Kind::Missing].first,
        ["sensors/3/1 [40, 41)"],
        "{report}"
    );
    let says = "site1/readings/1: its position tells of 100 records, 99 are there";
    assert_eq!(report.findings[&Kind::Position].first, [says]);
}

#[test]
fn what_a_stage_refused_is_a_dead_letter_and_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let rows = made(Format::Json, 0, 0..100);
    store(&path, "store", &rows);
    tamper(
        &path,
        "CREATE TABLE culvert_dead_letter AS SELECT stream, partition, sequence, timestamp, key, value, headers,
             'check' AS stage, 'no' AS code, 'why' AS reason, NULL AS field FROM readings WHERE sequence IN (40, 41, 99)",
    );
    tamper(&path, "DELETE FROM readings WHERE sequence IN (40, 41, 99)");
    let report = run(&format!("--sqlite {} --expect 100", path.display())).unwrap();
    assert!(report.clean && report.records == 100, "{report}");
    tamper(&path, "DELETE FROM culvert_dead_letter WHERE sequence = 41");
    let report = run(&format!("--sqlite {}", path.display())).unwrap();
    assert_eq!(
        report.findings[&Kind::Missing].first,
        ["sensors/3/0 [41, 42)"],
        "{report}"
    );
}
