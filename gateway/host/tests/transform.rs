//! What a plugin can do to the gateway, and what it cannot. The plugin is `plugins/hostile`, made by `cargo xtask plugins`.

mod common;

use common::{batch, plugin};
use culvert_host::{
    Level, Limits, Line, LogSink, OpenError, Plugin, StageFault, Stream, Surroundings, Transform,
};
use culvert_proto::columns::Outcome;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

static HOSTILE: LazyLock<Plugin> = LazyLock::new(|| plugin("tests/hostile"));

/// Keeps the lines it is given.
#[derive(Default)]
struct Kept(Mutex<Vec<(Level, String, Option<u64>)>>);

impl LogSink for Kept {
    fn line(&self, line: &Line<'_>) {
        let line = (line.level, line.text.to_owned(), line.sequence);
        self.0.lock().expect("no line panics").push(line);
    }
}

const STREAM: Stream<'static> = Stream {
    id: "a/orders/0",
    topic: "orders",
    partition: 0,
};

fn limits() -> Limits {
    Limits {
        memory_bytes_max: 16 << 20,
        call_time_max: Duration::from_millis(200),
        ..Limits::default()
    }
}

fn open(settings: &[(&str, &str)]) -> Result<(Transform, Arc<Kept>), OpenError> {
    let settings: Vec<(String, Option<String>)> = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect();
    let log = Arc::new(Kept::default());
    Ok((
        Transform::open(&HOSTILE, &settings, limits(), Surroundings::new(log.clone()))?,
        log,
    ))
}

/// What became of each: a word, or the code of a rejection.
fn told(transform: &mut Transform, values: &[&str]) -> Result<Vec<String>, StageFault> {
    let outcomes = transform.process(&STREAM, &batch(values))?;
    let word = |outcome| match outcome {
        Outcome::Keep => "keep".to_owned(),
        Outcome::Value(_) => "value".to_owned(),
        Outcome::Drop => "drop".to_owned(),
        Outcome::Reject(rejection) => rejection.code.clone(),
        Outcome::Rewrite(made) => format!("rewrite {}", made.len()),
    };
    Ok(outcomes.iter().map(word).collect())
}

/// One record at fault among many costs one dead letter; the others are treated, in order.
fn check_poison(fault: &str, code: &str) {
    let (mut transform, _) = open(&[]).expect("hostile opens");
    for (count, at) in [(1, 0), (2, 1), (500, 0), (500, 137), (500, 499)] {
        let mut values = vec!["fine"; count];
        values[at] = fault;
        let started = Instant::now();
        let told = told(&mut transform, &values).expect("the batch is treated");
        let mut expected = vec!["keep"; count];
        expected[at] = code;
        assert_eq!(told, expected, "{fault} at {at} of {count}");
        // The second time limit is that of the record alone; the rest is a wide margin for a busy machine.
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{fault}: {:?}",
            started.elapsed()
        );
    }
}

#[test]
fn a_panic_costs_one_record() {
    check_poison("panic", "plugin-trap");
}

#[test]
fn an_endless_loop_costs_one_record() {
    check_poison("spin", "plugin-timeout");
}

#[test]
fn a_memory_bomb_costs_one_record() {
    check_poison("bomb", "plugin-memory");
}

#[test]
fn endless_recursion_costs_one_record() {
    check_poison("recurse", "plugin-trap");
}

#[test]
fn a_wrong_number_of_outcomes_costs_one_record() {
    check_poison("short", "plugin-trap");
    check_poison("long", "plugin-trap");
}

#[test]
fn several_faults_in_one_batch_cost_one_record_each() {
    let (mut transform, _) = open(&[]).expect("hostile opens");
    let values = ["fine", "panic", "drop", "spin", "reject", "bomb", "fine"];
    let told = told(&mut transform, &values).expect("the batch is treated");
    assert_eq!(told[0], "keep");
    assert_eq!(told[1], "plugin-trap");
    assert_eq!(told[2], "drop");
    assert_eq!(told[3], "plugin-timeout");
    assert_eq!(told[5], "plugin-memory");
    assert_eq!(told[6], "keep");
    let usage = transform.meter().usage();
    assert!(
        usage.traps > 0 && usage.timeouts > 0 && usage.memory_faults > 0,
        "{usage:?}"
    );
    assert!(usage.memory_bytes_peak <= 16 << 20, "{usage:?}");
}

#[test]
fn a_panics_text_reaches_the_log_and_the_dead_letter() {
    let (mut transform, log) = open(&[]).expect("hostile opens");
    let outcomes = transform.process(&STREAM, &batch(&["panic"])).expect("treated");
    let Some(Outcome::Reject(rejection)) = outcomes.iter().next() else {
        panic!("{outcomes:?}");
    };
    assert!(rejection.reason.contains("panic"), "{rejection:?}");
    let lines = log.0.lock().expect("no line panics");
    assert!(
        lines
            .iter()
            .any(|(level, text, _)| *level == Level::Error && text.contains("panic")),
        "{lines:?}"
    );
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let (mut transform, log) = open(&[]).expect("hostile opens");
    told(&mut transform, &["log"]).expect("treated");
    let meter = transform.meter();
    drop(transform);
    let lines = log.0.lock().expect("no line panics").len();
    let seconds = 1 + 100_000 / 100; // however slow the machine, no more than the limit for each second
    assert!(lines <= 102 * seconds && lines < 100_000, "{lines} lines");
    assert!(meter.usage().log_lines_suppressed > 0);
}

#[test]
fn a_plugin_that_asks_to_be_tried_later_is_not_at_fault() {
    let (mut transform, _) = open(&[]).expect("hostile opens");
    assert!(matches!(
        told(&mut transform, &["fine", "retry"]),
        Err(StageFault::Retry { .. })
    ));
    assert!(matches!(
        told(&mut transform, &["fine", "fatal"]),
        Err(StageFault::Stop {
            code: "CULVERT-W022",
            ..
        })
    ));
    assert_eq!(told(&mut transform, &["fine"]).expect("it goes on"), ["keep"]);
}

#[test]
fn a_plugin_that_does_not_open_is_told_apart() {
    assert!(matches!(open(&[("open", "fatal")]), Err(OpenError::Fatal(_))));
    assert!(matches!(open(&[("open", "panic")]), Err(OpenError::Poison(_))));
}

/// What a storm of traps leaves behind would grow with it.
#[test]
fn a_storm_of_traps_leaks_nothing() {
    let (mut transform, _) = open(&[]).expect("hostile opens");
    let storm = |transform: &mut Transform, count: usize| {
        for _ in 0..count {
            assert_eq!(told(transform, &["panic"]).expect("treated"), ["plugin-trap"]);
        }
    };
    storm(&mut transform, 1_000);
    let before = resident();
    storm(&mut transform, 100_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "grew by {grown} bytes in 100,000 traps");
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = pages
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number");
    pages * 4096
}
