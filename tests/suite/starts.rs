//! How long it takes from the start of a process to the first record that is new in the target.

use crate::cluster::{Load, Tail};
use crate::line::{CUTS, Line, Plan};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Gateway, wait_for};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

const PARTITIONS: i32 = 4;

/// Several times what a quiet host takes (see the figures), for one that also builds.
const START_MAX: Duration = Duration::from_secs(10);

/// As often as this the target is looked at.
const LOOK: Duration = Duration::from_millis(10);

#[test]
fn the_first_record_follows_the_first_start_within_seconds() -> anyhow::Result<()> {
    let plan = Plan::new("first-start");
    let (topic, target) = (plan.source(), plan.target());
    topic.create(PARTITIONS, &[])?;
    topic.write(PARTITIONS, 0, 400)?;
    target.create(PARTITIONS, &[])?;
    let mut tail = Tail::open(&target)?;
    let line = plan.prepare()?;
    let started = Instant::now();
    for gateway in [&line.relay, &line.last, &line.first] {
        gateway.launch()?;
    }
    let first = until(&line, &mut tail, 1)?.duration_since(started);
    let all = until(&line, &mut tail, 400)?.duration_since(started);
    ensure!(first < START_MAX, "the first record took {first:?}");
    line.judge(DEADLINE)?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "first start: first record {} ms after three processes were started, all of {PARTITIONS} partitions after {} ms; taking the \
         shard {:?} ms",
        first.as_millis(),
        all.as_millis(),
        takings(&line.last)?
    ));
    Ok(())
}

#[test]
fn records_flow_again_within_seconds_after_a_gateway_was_killed() -> anyhow::Result<()> {
    let plan = Plan::new("killed-start");
    let (topic, target) = (plan.source(), plan.target());
    topic.create(PARTITIONS, &[])?;
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, 500);
    let mut tail = wait_for(DEADLINE, "the target topic", || Tail::open(&target).ok())?;
    until(&line, &mut tail, 500)?;
    let mut took = Vec::new();
    for (name, gateway) in [
        ("sink", &line.last),
        ("origin", &line.first),
        ("relay", &line.relay),
    ] {
        let mut rounds = (0..3)
            .map(|_| first_after_kill(&line, &mut tail, gateway))
            .collect::<anyhow::Result<Vec<Duration>>>()?;
        rounds.sort_unstable();
        ensure!(rounds[2] < START_MAX, "{name}: {rounds:?}");
        took.push(format!(
            "{name} {} to {} ms",
            rounds[0].as_millis(),
            rounds[2].as_millis()
        ));
    }
    let count = load.stop()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == count, "{verdict}");
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "restart after kill -9, from the start of the process to the first new record: {}; taking the shard {:?} ms",
        took.join(", "),
        takings(&line.last)?
    ));
    Ok(())
}

/// How long each taking of a shard took, in milliseconds, since the gateway was first started.
fn takings(gateway: &Gateway) -> anyhow::Result<Vec<u64>> {
    let log = gateway.log()?;
    let digits = |text: &str| text.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned();
    let number = |text: String| {
        text.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    };
    Ok(log
        .split("took_ms")
        .skip(1)
        .filter_map(|text| number(digits(text)))
        .collect())
}

/// Kills a gateway, lets what it had under way arrive or be aborted, starts it, and says how long the first new record took.
fn first_after_kill(line: &Line, tail: &mut Tail, gateway: &Gateway) -> anyhow::Result<Duration> {
    gateway.kill9()?;
    // What others still had under way has arrived once nothing new comes for a while.
    let (mut before, mut last) = (tail.records.len() as u64, Instant::now());
    while last.elapsed() < Duration::from_millis(500) {
        tail.look(LOOK)?;
        if tail.records.len() as u64 > before {
            (before, last) = (tail.records.len() as u64, Instant::now());
        }
    }
    let started = Instant::now();
    gateway.launch()?;
    let first = until(line, tail, before + 1)?;
    let more = tail.records.len() as u64 + 500;
    until(line, tail, more)?;
    Ok(first.duration_since(started))
}

/// Waits until so many records are in the target, and says when they were.
fn until(line: &Line, tail: &mut Tail, count: u64) -> anyhow::Result<Instant> {
    let started = Instant::now();
    while (tail.records.len() as u64) < count {
        if started.elapsed() > DEADLINE {
            return Err(anyhow::anyhow!("{} of {count} arrived", tail.records.len()))
                .with_context(|| line.statuses());
        }
        tail.look(LOOK)?;
    }
    Ok(Instant::now())
}
