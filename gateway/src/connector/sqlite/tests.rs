use super::{Error, SqliteConfig, SqliteReader, SqliteSink};
use crate::flow::{Reader, Sink, SinkFault};
use culvert_proto::digest::{self, Digest};
use culvert_proto::record::{Headers, HeadersBuf, RecordRef};
use culvert_proto::{Guard, Lineage, Position, Sequence, StreamId};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn config(path: &Path, more: &[(&str, &str)]) -> SqliteConfig {
    let mut map = BTreeMap::from([
        ("topics".to_owned(), "orders".to_owned()),
        ("sqlite.path".to_owned(), path.to_str().unwrap().to_owned()),
        ("sqlite.busy.timeout.ms".to_owned(), "20".to_owned()),
    ]);
    map.extend(
        more.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    SqliteConfig::from_map("store", &map).unwrap()
}

fn sink(path: &Path) -> SqliteSink {
    SqliteSink::new(config(path, &[]))
}

fn taken(path: &Path) -> SqliteSink {
    let mut sink = sink(path);
    sink.take().unwrap();
    sink
}

fn stream(partition: u32, lineage: u8) -> StreamId {
    let lineage = Lineage::Replayable {
        cluster: "a/b:c".into(),
        topic: [lineage; 16],
    };
    StreamId {
        site: "site1".into(),
        topic: "orders".into(),
        partition,
        lineage,
    }
}

fn value(sequence: u64) -> String {
    format!("value {sequence}")
}

fn record(value: &str) -> RecordRef<'_> {
    RecordRef {
        timestamp: 1_000,
        key: Some(b"key"),
        value: Some(value.as_bytes()),
        headers: Headers::NONE,
    }
}

/// The position behind `[0, to)` of the records that [`write()`] makes.
fn position(to: u64) -> Position {
    let mut digest = Digest::EMPTY;
    (0..to).for_each(|sequence| digest.add(digest::content(&record(&value(sequence)))));
    let guard = Guard {
        epoch: 3,
        crc: u32::try_from(to).unwrap(),
    };
    let mut position = Position::beginning(0, Sequence::ZERO, guard);
    (position.at, position.digest) = (Sequence(to), digest);
    position
}

fn write(sink: &mut SqliteSink, stream: &StreamId, from: u64, to: u64) -> Result<(), SinkFault> {
    let values: Vec<String> = (from..to).map(value).collect();
    sink.write(
        stream,
        &mut (from..to)
            .zip(&values)
            .map(|(at, value)| (Sequence(at), record(value))),
    )
}

fn deliver(sink: &mut SqliteSink, stream: &StreamId, from: u64, to: u64) -> Result<(), SinkFault> {
    write(sink, stream, from, to)?;
    sink.commit(&[(stream.clone(), position(to))])
}

/// Sequences and values of one partition.
fn rows(path: &Path, partition: u32) -> Vec<(u64, String)> {
    let mut rows = Vec::new();
    let mut reader = SqliteReader::open(path).unwrap();
    reader
        .read(
            "orders",
            partition,
            Sequence::ZERO,
            None,
            &mut |sequence, record| {
                rows.push((
                    sequence.0,
                    String::from_utf8(record.value.unwrap().to_vec()).unwrap(),
                ));
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    rows
}

fn expected(sequences: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    sequences
        .into_iter()
        .map(|sequence| (sequence, value(sequence)))
        .collect()
}

/// Changes the file behind the sink's back.
pub(crate) fn tamper(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn stop_code<T>(outcome: Result<T, SinkFault>) -> &'static str {
    match outcome {
        Err(SinkFault::Stop { code, .. }) => code,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("no fault"),
    }
}

#[test]
fn what_was_committed_is_there_after_a_restart_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut first = sink(&path);
    assert_eq!(first.take().unwrap(), []);
    first.commit(&[(stream(0, 1), position(0))]).unwrap();
    deliver(&mut first, &stream(0, 1), 0, 3).unwrap();
    deliver(&mut first, &stream(1, 1), 0, 2).unwrap();
    deliver(&mut first, &stream(0, 1), 3, 5).unwrap();
    drop(first);
    let mut positions = sink(&path).take().unwrap();
    positions.sort_by_key(|(stream, _)| stream.partition);
    assert_eq!(
        positions,
        [(stream(0, 1), position(5)), (stream(1, 1), position(2))]
    );
    assert_eq!(rows(&path, 0), expected(0..5));
    assert_eq!(rows(&path, 1), expected(0..2));
}

#[test]
fn a_record_comes_back_as_it_was_with_headers_tombstones_and_absent_keys() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut headers = HeadersBuf::new();
    headers.push("a", Some(&[0, 255]));
    headers.push("a", None);
    let records = [
        RecordRef {
            timestamp: 5,
            key: Some(b""),
            value: None,
            headers: headers.as_headers(),
        },
        RecordRef {
            timestamp: -1,
            key: None,
            value: Some(b""),
            headers: Headers::NONE,
        },
    ];
    let mut sink = taken(&path);
    sink.write(&stream(0, 1), &mut (7..).map(Sequence).zip(records))
        .unwrap();
    sink.commit(&[(stream(0, 1), position(9))]).unwrap();
    let mut found = 0;
    let mut reader = SqliteReader::open(&path).unwrap();
    reader
        .read("orders", 0, Sequence::ZERO, None, &mut |sequence, record| {
            assert_eq!((sequence.0, *record), (7 + found as u64, records[found]));
            found += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, 2);
}

#[test]
fn nothing_is_seen_before_the_commit_and_nothing_stays_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    deliver(&mut sink, &stream(0, 1), 0, 2).unwrap();
    write(&mut sink, &stream(0, 1), 2, 50).unwrap();
    assert_eq!(rows(&path, 0), expected(0..2));
    assert_eq!(
        sink.take().unwrap(),
        [(stream(0, 1), position(2))],
        "take drops what was not committed"
    );
    deliver(&mut sink, &stream(0, 1), 2, 4).unwrap();
    assert_eq!(rows(&path, 0), expected(0..4));
}

#[test]
fn a_second_writer_fences_the_first_also_for_streams_nobody_knew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let (mut first, mut second) = (taken(&path), sink(&path));
    deliver(&mut first, &stream(0, 1), 0, 2).unwrap();
    assert_eq!(second.take().unwrap(), [(stream(0, 1), position(2))]);
    assert!(matches!(
        deliver(&mut first, &stream(0, 1), 2, 3),
        Err(SinkFault::Fenced(_))
    ));
    assert!(
        matches!(deliver(&mut first, &stream(0, 1), 2, 3), Err(SinkFault::Retry(_))),
        "not used before take"
    );
    first.take().unwrap();
    assert!(matches!(
        deliver(&mut second, &stream(9, 1), 0, 1),
        Err(SinkFault::Fenced(_))
    ));
    deliver(&mut first, &stream(0, 1), 2, 3).unwrap();
    assert_eq!((rows(&path, 0), rows(&path, 9)), (expected(0..3), vec![]));
}

#[test]
fn two_routes_share_a_file_and_do_not_fence_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut one = taken(&path);
    let mut other = SqliteSink::new(SqliteConfig {
        name: "other".into(),
        ..config(&path, &[])
    });
    other.take().unwrap();
    deliver(&mut one, &stream(0, 1), 0, 2).unwrap();
    deliver(&mut other, &stream(0, 1), 0, 2).unwrap();
    deliver(&mut one, &stream(0, 1), 2, 3).unwrap();
    assert_eq!(rows(&path, 0), expected((0..3).chain(0..2)));
}

/// The compare on the position, apart from the writer: somebody moved it by hand.
#[test]
fn a_position_that_moved_meanwhile_stops_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    deliver(&mut sink, &stream(0, 1), 0, 2).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute("UPDATE culvert_position SET at = 1", ())
        .unwrap();
    assert!(matches!(
        deliver(&mut sink, &stream(0, 1), 2, 3),
        Err(SinkFault::Fenced(_))
    ));
    assert_eq!(rows(&path, 0), expected(0..2));
    sink.take().unwrap();
    assert_eq!(stop_code(deliver(&mut sink, &stream(0, 1), 1, 3)), "CULVERT-S007");
    assert_eq!(rows(&path, 0), expected(0..2));
}

#[test]
fn holes_and_commits_without_records_move_the_position_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    write(&mut sink, &stream(0, 1), 0, 2).unwrap();
    write(&mut sink, &stream(0, 1), 10, 11).unwrap();
    sink.commit(&[(stream(0, 1), position(20))]).unwrap();
    sink.commit(&[(stream(0, 1), position(30))]).unwrap();
    assert_eq!(rows(&path, 0), expected([0, 1, 10]));
    assert_eq!(sink.take().unwrap(), [(stream(0, 1), position(30))]);
}

#[test]
fn a_recreated_topic_is_another_stream_and_a_reset_another_incarnation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    deliver(&mut sink, &stream(0, 1), 0, 2).unwrap();
    deliver(&mut sink, &stream(0, 2), 0, 1).unwrap();
    let beginning = Position::beginning(1, Sequence::ZERO, Guard::NONE);
    sink.commit(&[(stream(0, 1), beginning.clone())]).unwrap();
    let anew = Position {
        at: Sequence(3),
        ..beginning
    };
    write(&mut sink, &stream(0, 1), 0, 3).unwrap();
    sink.commit(&[(stream(0, 1), anew.clone())]).unwrap();
    let mut positions = sink.take().unwrap();
    positions.sort_by_key(|(stream, _)| stream.lineage_hex());
    assert_eq!(positions, [(stream(0, 1), anew), (stream(0, 2), position(1))]);
    assert_eq!(
        rows(&path, 0),
        expected((0..2).chain(0..1).chain(0..3)),
        "what was there before stays"
    );
}

#[test]
fn records_without_a_position_are_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    write(&mut sink, &stream(0, 1), 0, 2).unwrap();
    assert_eq!(
        stop_code(sink.commit(&[(stream(1, 1), position(1))])),
        "CULVERT-S009"
    );
    assert_eq!(sink.take().unwrap(), []);
    assert_eq!(rows(&path, 0), []);
}

#[test]
fn a_position_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    deliver(&mut sink, &stream(0, 1), 0, 3).unwrap();
    assert_eq!(
        stop_code(sink.commit(&[(stream(0, 1), position(2))])),
        "CULVERT-S009"
    );
    let anew = Position::beginning(2, Sequence::ZERO, Guard::NONE);
    sink.take().unwrap();
    sink.commit(&[(stream(0, 1), anew.clone())]).unwrap();
    assert_eq!(
        stop_code(sink.commit(&[(stream(0, 1), position(9))])),
        "CULVERT-S009"
    );
    assert_eq!(sink.take().unwrap(), [(stream(0, 1), anew)]);
}

#[test]
fn a_sequence_sqlite_cannot_hold_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    let outcome = sink.write(
        &stream(0, 1),
        &mut [0, 1 << 63].into_iter().map(|at| (Sequence(at), record("x"))),
    );
    assert!(matches!(
        outcome,
        Err(SinkFault::Record {
            sequence: Sequence(0x8000_0000_0000_0000),
            ..
        })
    ));
    sink.commit(&[(stream(0, 1), position(1))]).unwrap();
    assert_eq!(rows(&path, 0), [(0, "x".to_owned())]);
}

#[test]
fn a_locked_file_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(
        deliver(&mut sink, &stream(0, 1), 0, 1),
        Err(SinkFault::Retry(_))
    ));
    assert!(matches!(sink.take(), Err(SinkFault::Retry(_))));
    other.execute_batch("ROLLBACK").unwrap();
    sink.take().unwrap();
    deliver(&mut sink, &stream(0, 1), 0, 1).unwrap();
    assert_eq!(rows(&path, 0), expected(0..1));
}

#[test]
fn a_full_disk_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    deliver(&mut sink, &stream(0, 1), 0, 1).unwrap();
    // SQLite's own limit on pages answers as a full disk does.
    sink.limit_pages(1);
    let big = "x".repeat(1 << 20);
    let outcome = sink.write(&stream(0, 1), &mut [(Sequence(1), record(&big))].into_iter());
    assert!(matches!(outcome, Err(SinkFault::Retry(_))), "{outcome:?}");
    assert_eq!(sink.take().unwrap(), [(stream(0, 1), position(1))]);
    assert_eq!(rows(&path, 0), expected(0..1));
}

#[test]
fn a_file_put_in_place_of_the_database_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    deliver(&mut sink, &stream(0, 1), 0, 1).unwrap();
    for name in ["t.db", "t.db-wal", "t.db-shm"] {
        std::fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert!(matches!(
        deliver(&mut sink, &stream(0, 1), 1, 2),
        Err(SinkFault::Retry(_))
    ));
    assert_eq!(sink.take().unwrap(), [], "a new file holds nothing, and says so");
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let check = |code: &str, arrange: &dyn Fn(&Path)| {
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        arrange(&path);
        let Err(SinkFault::Stop { code: found, reason }) = sink(&path)
            .take()
            .and_then(|_| deliver(&mut taken(&path), &stream(0, 1), 0, 1))
        else {
            panic!("{code}: no fault");
        };
        assert_eq!(found, code, "{reason}");
        assert!(reason.contains("t.db") || code == "CULVERT-S006", "{reason}");
    };
    let used = |path: &Path| deliver(&mut taken(path), &stream(0, 1), 0, 1).unwrap();
    check("CULVERT-S001", &|path| {
        std::fs::write(path, "not a database, but long enough").unwrap();
    });
    check("CULVERT-S002", &|path| {
        used(path);
        tamper(path, "UPDATE culvert_position SET lineage = 'what'");
    });
    check("CULVERT-S002", &|path| {
        used(path);
        tamper(path, "UPDATE culvert_position SET at = -1");
    });
    check("CULVERT-S002", &|path| {
        used(path);
        tamper(path, "PRAGMA wal_checkpoint(TRUNCATE)");
        let mut bytes = std::fs::read(path).unwrap();
        // Every page but the first.
        bytes[4096..].fill(0xa5);
        std::fs::write(path, bytes).unwrap();
    });
    check("CULVERT-S004", &|path| {
        used(path);
        tamper(path, "UPDATE culvert_schema SET version = 2");
    });
    check("CULVERT-S005", &|path| {
        tamper(path, "CREATE TABLE orders (id INTEGER)");
    });
    check("CULVERT-S006", &|path| {
        used(path);
        tamper(path, "UPDATE culvert_position SET table_name = 'elsewhere'");
    });
    let missing = sink(Path::new("/nonexistent/t.db")).take();
    assert_eq!(stop_code(missing), "CULVERT-S003");
}

#[test]
fn every_code_has_its_page() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
    for number in (1..=10).chain(101..=102) {
        let code = format!("CULVERT-S{number:03}");
        let page = std::fs::read_to_string(pages.join(format!("{code}.md"))).expect(&code);
        assert!(page.starts_with(&format!("# {code}: ")), "{code}");
    }
}

#[test]
fn the_table_follows_the_pattern_whatever_a_topic_is_called() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let table = "${site}.\"${topic}\" ${partition}";
    let mut sink = SqliteSink::new(config(&path, &[("sqlite.table", table)]));
    sink.take().unwrap();
    deliver(&mut sink, &stream(4, 1), 0, 2).unwrap();
    assert_eq!(rows(&path, 4), expected(0..2));
    let held = &SqliteReader::open(&path).unwrap().streams().unwrap()[0];
    assert_eq!((held.table(), held.route()), ("site1.\"orders\" 4", "store"));
}

#[test]
fn names_that_are_taken_are_refused_as_tables() {
    for name in ["culvert_position", "CULVERT_x", "sqlite_master"] {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = taken(&dir.path().join("t.db"));
        let stream = StreamId {
            topic: name.into(),
            ..stream(0, 1)
        };
        assert_eq!(
            stop_code(deliver(&mut sink, &stream, 0, 1)),
            "CULVERT-S005",
            "{name}"
        );
    }
}

#[test]
fn every_mistake_of_a_configuration_is_reported_with_what_would_be_valid() {
    let map = [
        ("topics", "a,,b"),
        ("topics.regex", "("),
        ("culvert.from", "site2"),
        ("sqlite.table", "${tpoic}"),
        ("sqlite.busy.timeout.ms", "long"),
        ("sqlite.pth", "x"),
        ("tasks.max", "2"),
    ];
    let map = map
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let mistakes = SqliteConfig::from_map("store", &map).unwrap_err();
    let keys: Vec<&str> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "topics.regex",
            "sqlite.path",
            "sqlite.table",
            "sqlite.busy.timeout.ms",
            "tasks.max",
            "sqlite.pth"
        ]
    );
    assert_eq!(mistakes[5].hint.as_deref(), Some("did you mean sqlite.path?"));
    assert!(
        mistakes.iter().all(|mistake| mistake.hint.is_some()),
        "{mistakes:?}"
    );
}

#[test]
fn a_file_no_sink_wrote_to_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    assert!(matches!(SqliteReader::open(&path), Err(Error::NotOpened { .. })));
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    assert!(matches!(SqliteReader::open(&path), Err(Error::Empty { .. })));
}

/// The writer that [`killed_at_any_moment_nothing_is_lost_or_doubled`] kills: it delivers batches to the database
/// named on its standard input, from the stored position on, and says so after each commit.
#[test]
#[ignore = "the child of killed_at_any_moment_nothing_is_lost_or_doubled"]
fn writer_to_be_killed() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    if path.trim().is_empty() {
        return;
    }
    let mut sink = sink(Path::new(path.trim()));
    let positions = sink.take().unwrap();
    let mut at = positions.first().map_or(0, |(_, position)| position.at.0);
    for _ in 0..5_000 {
        deliver(&mut sink, &stream(0, 1), at, at + 7).unwrap();
        at += 7;
        println!("committed {at}");
    }
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut heard = 0;
    for round in 0..10 {
        let mut child = writer(&path);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let commits = lines.map(Result::unwrap).filter_map(|line| {
            line.split_once("committed ")
                .and_then(|(_, at)| at.parse::<u64>().ok())
        });
        heard = commits.take(1 + round * 3).last().expect("the writer commits");
        child.kill().unwrap();
        child.wait().unwrap();
        let held = SqliteReader::open(&path).unwrap().streams().unwrap().remove(0);
        let at = held.position().at.0;
        assert!(at >= heard, "heard of {heard}, and {at} is stored");
        assert_eq!(*held.position(), position(at));
        assert_eq!(rows(&path, 0), expected(0..at));
    }
    assert!(heard > 0);
}

fn writer(path: &Path) -> Child {
    let child = "connector::sqlite::tests::writer_to_be_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([child, "--exact", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", path.display()).unwrap();
    child
}

/// `cargo test --profile bench-fast -p culvert --lib sqlite::tests::rate -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn rate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut sink = taken(&path);
    let value = "x".repeat(200);
    for batch in [500u64, 5_000] {
        let stream = stream(u32::try_from(batch).unwrap(), 1);
        let began = std::time::Instant::now();
        let mut at = 0;
        while at < 1_000_000 {
            let mut records = (at..at + batch).map(|sequence| (Sequence(sequence), record(&value)));
            sink.write(&stream, &mut records).unwrap();
            at += batch;
            sink.commit(&[(
                stream.clone(),
                Position {
                    at: Sequence(at),
                    ..position(0)
                },
            )])
            .unwrap();
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{batch} records of 200 bytes a commit: {:.0} records/s",
            1e6 / seconds
        );
    }
}
