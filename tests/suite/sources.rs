//! A plugin that brings records in, the records, and where it goes on are one: whatever is killed, and however the plugin
//! breaks, each number arrives once, in order, with the sum that the plugin had kept (S1, S2, S8).

use crate::cluster::Topic;
use crate::faults::{kills, seed};
use crate::line::{CUTS, Line, Plan, status};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{wait_for, workspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

/// Kills in one run, unless `CULVERT_SUITE_KILLS` says another number.
const KILLS: usize = 15;

/// What a gateway warns of when its plugin breaks on purpose.
const BREAKS: &[&str] = &[
    "link down",
    "no link",
    "is away, trying again",
    "source cannot now, trying again",
];

/// A line whose source is `ledger`, which counts to `count` and spreads its numbers over three topics.
fn ledger(name: &str, count: u64) -> Plan {
    let directory = workspace().join("target/plugins/tests");
    let mut plan = Plan::new(name)
        .setting(1, &format!("plugins.directory = {directory:?}"))
        .source_key("connector.class", "ledger")
        .source_key("kafka.bootstrap.servers", "")
        .source_key("culvert.grant.state", "true")
        .source_key("count", &count.to_string())
        .source_key("page", "20");
    plan.topics = topics(name).join(",");
    plan
}

fn topics(name: &str) -> [String; 3] {
    [0, 1, 2].map(|number| format!("{name}-{number}"))
}

/// Numbers and sums by topic and partition.
type Arrived = BTreeMap<(String, i32), Vec<(u64, u64)>>;

/// Number and sum of all records of the target, by topic and partition, in order.
fn arrived(line: &Line) -> anyhow::Result<Arrived> {
    let mut arrived = Arrived::new();
    for topic in topics(&line.plan.name) {
        // A topic is made with its first record.
        for record in Topic::new(&line.plan.target_cluster, &topic)
            .read()
            .unwrap_or_default()
        {
            let value = record.value.as_deref().context("each has a value")?;
            let value: serde_json::Value = serde_json::from_slice(value)?;
            let field = |name: &str| value[name].as_u64().context("each has its number and sum");
            arrived
                .entry((topic.clone(), record.partition))
                .or_default()
                .push((field("number")?, field("sum")?));
        }
    }
    Ok(arrived)
}

/// Every number below `count` is there once, in order, with the sum up to it.
fn judge(line: &Line, count: u64) -> anyhow::Result<()> {
    let is_there = |line: &Line| {
        let found: usize = arrived(line).ok()?.values().map(Vec::len).sum();
        (found as u64 >= count).then_some(())
    };
    wait_for(DEADLINE, "all numbers", || is_there(line)).with_context(|| line.statuses())?;
    let arrived = arrived(line)?;
    let mut numbers = Vec::new();
    for ((topic, partition), records) in arrived {
        ensure!(
            records.is_sorted_by(|a, b| a.0 < b.0),
            "{topic}/{partition}: out of order, or twice: {records:?}"
        );
        for (number, sum) in records {
            ensure!(
                sum == number * (number + 1) / 2,
                "{topic}: number {number} came with sum {sum}"
            );
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    ensure!(
        numbers.iter().copied().eq(0..count),
        "{} numbers arrived of {count}, or one of them twice",
        numbers.len()
    );
    Ok(())
}

#[test]
fn killing_gateways_keeps_records_resume_points_and_state_one() -> anyhow::Result<()> {
    let kills = kills(KILLS)?;
    let seed = seed("ledger");
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    // About two thousand a second, and never done before the last kill.
    let count = 1_000 * (kills as u64 + 10);
    let line = ledger("sums", count).source_key("pause", "10ms").start()?;
    let started = Instant::now();
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(dice.random_range(20..500)));
        // The first gateway twice as often as both others: what it holds is nowhere else.
        let victim = line.gateways()[[0, 0, 1, 0, 0, 2][kill % 6]];
        victim.kill9()?;
        victim.launch()?;
    }
    let took = started.elapsed();
    judge(&line, count)?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "plugin source: {kills} kills in {:.0} s, {count} numbers once, in order, each with the right sum (seed {seed})",
        took.as_secs_f64()
    ));
    Ok(())
}

#[test]
fn a_source_that_breaks_goes_on_behind_what_was_kept() -> anyhow::Result<()> {
    const COUNT: u64 = 600;
    for fault in ["panics", "retry"] {
        let line = ledger(&format!("broken-{fault}"), COUNT)
            .source_key("misbehave", fault)
            .start()?;
        judge(&line, COUNT)?;
        let status = status(&line.first)?;
        let source = &status["connectors"][0];
        ensure!(
            source["resume_points"][0]["offset"] == format!("{{\"next\":{COUNT}}}"),
            "{status}"
        );
        ensure!(source["guarantee"] == "exactly-once-while-disk-lives", "{status}");
        line.assert_no_unlisted_alarms(BREAKS);
    }
    Ok(())
}
