//! What the gateway makes of a plugin that brings records in. The plugin is `plugins/ledger`, made by `cargo xtask plugins`.

mod common;

use common::plugin;
use culvert_host::{
    Grants, Level, Limits, Line, LogSink, OpenError, Page, Plugin, ResumePoint, Source, SourceFault,
    Surroundings, Want,
};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static LEDGER: LazyLock<Plugin> = LazyLock::new(|| plugin("tests/ledger"));

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, line: &Line<'_>) {
        assert_ne!(line.level, Level::Debug, "nothing is logged at this level");
    }
}

const WANT: Want = Want {
    records: 1_000,
    bytes: 1 << 20,
    wait: Duration::ZERO,
};

fn linked(settings: &[(&str, &str)], grants: Grants) -> Result<Source, OpenError> {
    let settings: Vec<(String, Option<String>)> = LEDGER
        .description
        .fields
        .iter()
        .map(|field| {
            let given = settings.iter().find(|(name, _)| *name == field.name);
            let value = given.map(|(_, value)| (*value).to_owned());
            (field.name.clone(), value.or_else(|| field.default_value.clone()))
        })
        .collect();
    let limits = Limits {
        memory_bytes_max: 16 << 20,
        call_time_max: Duration::from_millis(300),
        ..Limits::default()
    };
    let around = Surroundings::new(Arc::new(NoLog)).granting(Arc::new(grants));
    Source::new(&LEDGER, &settings, limits, around, &Vec::new())
}

fn source(settings: &[(&str, &str)]) -> Source {
    let grants = Grants {
        state: true,
        ..Grants::default()
    };
    linked(settings, grants).expect("it is a source")
}

fn values(page: &Page) -> Vec<String> {
    let value = |bytes: &Option<Vec<u8>>| String::from_utf8(bytes.clone().expect("a value")).expect("text");
    page.records
        .iter()
        .map(|produced| value(&produced.record.value))
        .collect()
}

/// Asks for a page and keeps it, as an outbox does.
fn kept(source: &mut Source, points: &mut Vec<ResumePoint>) -> Page {
    let page = source.poll(WANT).expect("a page");
    points.clone_from(&page.points);
    source.kept(&page.changes);
    page
}

#[test]
fn pages_resume_points_and_state_go_on_in_a_fresh_instance() {
    let mut source = source(&[("page", "2")]);
    let mut points = Vec::new();
    assert_eq!(source.open(&points).expect("it opens"), Vec::new());
    kept(&mut source, &mut points);
    // Not kept: for the plugin it never was.
    source.poll(WANT).expect("a page");
    source.open(&points).expect("it opens again");
    let page = kept(&mut source, &mut points);
    assert_eq!(
        values(&page),
        [r#"{"number":2,"sum":3}"#, r#"{"number":3,"sum":6}"#]
    );
    assert_eq!(page.records[0].topic, "ledger-2");
    assert_eq!(points[0].offset, r#"{"next":4}"#);
}

#[test]
fn what_was_kept_of_state_alone_does_not_fit_the_resume_point() {
    let mut source = source(&[]);
    source.open(&[]).expect("it opens");
    let page = source.poll(WANT).expect("a page");
    source.kept(&page.changes);
    let refused = source.open(&[]).expect_err("records and state were torn apart");
    assert!(
        matches!(&refused, SourceFault::Stop { code: "CULVERT-W020", reason } if reason.contains("as one")),
        "{refused}"
    );
}

#[test]
fn what_a_failed_call_put_was_not_put() {
    // Every third call fails behind what it put; the sums of the others would be wrong if that stayed.
    let mut source = source(&[("page", "1"), ("misbehave", "retry")]);
    let mut points = Vec::new();
    source.open(&points).expect("it opens");
    let (mut sums, mut failures) = (Vec::new(), 0);
    while sums.len() < 5 {
        match source.poll(WANT) {
            Ok(page) => {
                sums.extend(values(&page));
                points.clone_from(&page.points);
                source.kept(&page.changes);
            }
            Err(SourceFault::Retry { .. }) => failures += 1,
            Err(fault) => panic!("{fault}"),
        }
    }
    assert_eq!(sums.last().map(String::as_str), Some(r#"{"number":4,"sum":10}"#));
    assert!(failures > 0 && source.is_open());
}

#[test]
fn what_is_committed_is_told() {
    let mut source = source(&[("page", "2")]);
    let mut points = Vec::new();
    source.open(&points).expect("it opens");
    kept(&mut source, &mut points);
    let changes = source.committed(&points).expect("it is told");
    assert_eq!(changes, [(b"told".to_vec(), Some(b"2".to_vec()))]);
}

/// The instance is gone, and the text says what was wrong.
fn check_broken(fault: &str, said: &str) {
    let mut source = source(&[("misbehave", fault)]);
    source.open(&[]).expect("it opens");
    for _ in 0..5 {
        if let Err(fault) = source.poll(WANT) {
            assert!(fault.to_string().contains(said), "{fault}");
            assert!(matches!(fault, SourceFault::Poison(_)) && !source.is_open());
            return;
        }
    }
    panic!("{fault} went unnoticed");
}

#[test]
fn a_page_that_is_none_costs_the_instance() {
    check_broken("panics", "told to panic");
    check_broken("spin", "at work for more than");
    check_broken("page", "message 0 lies before resume point 7 of 1");
    check_broken("topic", "\"no topic\" is no name of a topic");
}

#[test]
fn who_ends_for_good_says_why() {
    let mut source = source(&[("misbehave", "fatal")]);
    source.open(&[]).expect("it opens");
    let fault = source.poll(WANT).expect_err("it ends");
    assert!(
        matches!(&fault, SourceFault::Stop { code: "CULVERT-W022", reason } if reason == "told to end"),
        "{fault}"
    );
}

#[test]
fn a_store_that_is_not_granted_is_not_there() {
    let refused = linked(&[], Grants::default()).err().expect("it is not granted");
    assert!(matches!(refused, OpenError::NotGranted { .. }), "{refused}");
}
