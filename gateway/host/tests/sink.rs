//! A plugin as a writer: what is certain of a write, however it ends. The plugin is `plugins/leaky-sink`, made by
//! `cargo xtask plugins`; it keeps every promise but the one its settings name.

mod common;

use common::plugin;
use culvert_host::{
    Cut, FolderGrant, Grants, Limits, Line, LogSink, OpenError, Plugin, Poison, PutFault, Sink, Stream,
    Surroundings, Token, Written,
};
use culvert_proto::Sequence;
use culvert_proto::columns::Columns;
use culvert_proto::record::{Headers, RecordRef};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static LEAKY: LazyLock<Plugin> = LazyLock::new(|| plugin("tests/leaky-sink"));

struct Silent;

impl LogSink for Silent {
    fn line(&self, _line: &Line<'_>) {}
}

const STREAM: &str = "a/orders/0@00";

/// A sink that writes `out.txt` in `folder`, with one fault, cut off after so many calls to the outside.
fn sink(folder: &Path, fault: &str, cut: Option<Cut>) -> Sink {
    let path = folder.join("out.txt").display().to_string();
    let settings = [("file", path.as_str()), ("fault", fault)]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let grant = |word: &str| {
        FolderGrant::parse(&format!("{word} {}", folder.display()), Path::new("/")).expect("a grant")
    };
    let grants = Grants {
        files: vec![grant("read"), grant("write")],
        ..Grants::default()
    };
    let mut around = Surroundings::new(Arc::new(Silent)).granting(Arc::new(grants));
    around.cut = cut;
    let limits = Limits {
        call_time_max: Duration::from_millis(300),
        ..Limits::default()
    };
    Sink::new(&LEAKY, &settings, limits, around).expect("leaky-sink is linked")
}

fn batch(from: u64, values: &[&str]) -> Columns {
    let mut batch = Columns::begin(Sequence(from));
    for (at, value) in (from..).zip(values) {
        let record = RecordRef {
            timestamp: 5,
            key: None,
            value: Some(value.as_bytes()),
            headers: Headers::NONE,
        };
        batch.push(Sequence(at), &record).expect("a small record");
    }
    batch
}

fn token(from: u64, to: u64) -> Token {
    Token {
        stream: STREAM.into(),
        incarnation: 0,
        from,
        to,
        position: vec![to.to_le_bytes()[0]; 3],
    }
}

fn put(sink: &mut Sink, from: u64, values: &[&str]) -> Result<(), PutFault> {
    let records = batch(from, values);
    let written = Written {
        stream: Stream {
            id: STREAM,
            topic: "orders",
            partition: 0,
        },
        attributes: &[],
        is_whole: false,
        records: &records,
    };
    sink.put(&[written], &[token(from, from + values.len() as u64)])
}

/// Where the stream stands.
fn place(tokens: &[Token]) -> Option<u64> {
    tokens.first().map(|token| token.to)
}

/// The places in the file, in its order, up to where it counts.
fn places(folder: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("out.txt")).unwrap_or_default();
    let place = |line: &str| line.split('\t').nth(1).and_then(|place| place.parse().ok());
    text.lines().filter_map(place).collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_token_is_found_again_as_it_was_given() {
    let folder = folder();
    let mut first = sink(folder.path(), "none", None);
    assert_eq!(first.open([1; 16]).expect("it opens"), []);
    put(&mut first, 0, &["a", "b"]).expect("it is written");
    put(&mut first, 2, &["c"]).expect("it is written");
    drop(first);
    let mut second = sink(folder.path(), "none", None);
    let tokens = second.open([2; 16]).expect("it opens");
    assert_eq!(place(&tokens), Some(3));
    assert_eq!(tokens[0].position, [3; 3]);
    assert_eq!(places(folder.path()), [0, 1, 2]);
    let usage = second.meter().usage();
    assert!(usage.calls >= 2 && usage.traps == 0, "{usage:?}");
}

#[test]
fn who_opens_later_fences_who_opened_before() {
    let folder = folder();
    let (mut first, mut second) = (
        sink(folder.path(), "none", None),
        sink(folder.path(), "none", None),
    );
    first.open([1; 16]).expect("it opens");
    put(&mut first, 0, &["a"]).expect("it is written");
    assert_eq!(place(&second.open([2; 16]).expect("it opens")), Some(1));
    let fault = put(&mut first, 1, &["b"]).expect_err("it has been fenced");
    assert!(matches!(fault, PutFault::Fenced(_)), "{fault:?}");
    put(&mut second, 1, &["b"]).expect("the later one writes");
    assert_eq!(places(folder.path()), [0, 1]);
    // What is put without records proves the writer too.
    let fault = first.put(&[], &[]).expect_err("it must be opened again");
    assert!(matches!(fault, PutFault::Uncertain(_)), "{fault:?}");
}

#[test]
fn what_is_refused_is_named_and_nothing_is_written() {
    let folder = folder();
    let mut sink = sink(folder.path(), "none", None);
    sink.open([1; 16]).expect("it opens");
    let PutFault::Refused(refusals) = put(&mut sink, 0, &["a", "refuse", "b"]).expect_err("one is refused")
    else {
        panic!("refusals");
    };
    assert_eq!((refusals.len(), refusals[0].batch, refusals[0].record), (1, 0, 1));
    assert_eq!(refusals[0].rejection.code, "asked-for");
    assert_eq!(places(folder.path()), [0; 0]);
    put(&mut sink, 0, &["a", "b"]).expect("the same writer goes on");
}

#[test]
fn a_call_that_does_not_come_back_costs_the_instance_and_leaves_the_outcome_open() {
    let folder = folder();
    let mut sink = sink(folder.path(), "none", None);
    sink.open([1; 16]).expect("it opens");
    let fault = put(&mut sink, 0, &["a", "panic"]).expect_err("it panics");
    assert!(
        matches!(&fault, PutFault::Poison { poison: Poison::Trap(text), .. } if text.contains("as asked for")),
        "{fault:?}"
    );
    assert!(
        matches!(put(&mut sink, 0, &["a"]), Err(PutFault::Uncertain(_))),
        "it is gone"
    );
    assert_eq!(sink.open([2; 16]).expect("it opens"), []);
    let fault = put(&mut sink, 0, &["spin"]).expect_err("it spins");
    assert!(
        matches!(
            fault,
            PutFault::Poison {
                poison: Poison::Timeout(_),
                was_busy: true,
            }
        ),
        "{fault:?}"
    );
    sink.open([3; 16]).expect("it opens");
    put(&mut sink, 0, &["a"]).expect("it is written");
    assert_eq!(places(folder.path()), [0]);
}

#[test]
fn without_its_grant_it_is_not_opened() {
    let settings = [("file".to_owned(), Some("/tmp/x".to_owned()))];
    let around = Surroundings::new(Arc::new(Silent));
    let refused = Sink::new(&LEAKY, &settings, Limits::default(), around).err();
    assert!(
        matches!(refused, Some(OpenError::NotGranted { .. })),
        "{refused:?}"
    );
}

/// Cut off at every call to the outside in turn: token and data agree afterwards, whatever was reached.
fn places_after_cuts(fault: &str) -> Vec<Vec<u64>> {
    let mut found = Vec::new();
    for calls in 0.. {
        let folder = folder();
        let mut before = sink(folder.path(), fault, None);
        before.open([1; 16]).expect("it opens");
        put(&mut before, 0, &["a", "b"]).expect("it is written");
        let cut = Cut::after(calls);
        let mut during = sink(folder.path(), fault, Some(cut.clone()));
        let held = during.open([2; 16]).ok().and_then(|tokens| place(&tokens));
        let is_through = held.is_some() && put(&mut during, 2, &["c", "d"]).is_ok();
        let mut after = sink(folder.path(), fault, None);
        // A target that cannot be opened any more is as broken as one that lost a record.
        let held = after.open([3; 16]).ok().and_then(|tokens| place(&tokens));
        if held == Some(2) {
            put(&mut after, 2, &["c", "d"]).expect("it is written");
        }
        found.push(held.map_or(Vec::new(), |_| places(folder.path())));
        if is_through {
            assert!(calls > 3, "its calls were counted");
            break;
        }
    }
    found
}

#[test]
fn cut_off_anywhere_a_sink_that_keeps_its_promise_has_every_record_once() {
    for places in places_after_cuts("none") {
        assert_eq!(places, [0, 1, 2, 3]);
    }
}

#[test]
fn cut_off_anywhere_a_sink_that_breaks_its_promise_is_seen() {
    for fault in ["token-first", "no-truncate"] {
        let broken = places_after_cuts(fault)
            .iter()
            .any(|places| *places != [0, 1, 2, 3]);
        assert!(broken, "{fault}");
    }
}
