//! While a link is too narrow, records of urgent streams go first, on each link of their way.

use crate::cluster::{Tail, Topic};
use crate::line::{CUTS, Line, Plan, taken_in};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::relay::Weather;
use culvert_tests::{UdpRelay, wait_for};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(180);

/// Many lanes: sharing a link evenly with them, one more would have the smallest part.
const LOW_PARTITIONS: i32 = 6;

/// Some 3 MB.
const LOW: u64 = 30_000;

/// Some 2 MB in one partition: four times what each of the others has.
const HIGH: u64 = 20_000;

/// Bytes a second: both take some twenty seconds.
const RATE: u64 = 300_000;

#[test]
fn urgent_records_go_first_over_a_narrow_link() -> anyhow::Result<()> {
    check("priority-origin", |line| &line.west)
}

#[test]
fn a_relay_keeps_what_is_urgent_on_its_own_link() -> anyhow::Result<()> {
    check("priority-relay", |line| &line.east)
}

/// Both streams have a backlog in front of the link that is narrow: all of the urgent one arrives before the other is through.
/// By even shares it would be the last of all lanes.
fn check(name: &str, narrow: fn(&Line) -> &UdpRelay) -> anyhow::Result<()> {
    let plan = Plan::new(name)
        .source_key("culvert.priority", "low")
        .sink_key("topic.creation.default.partitions", &LOW_PARTITIONS.to_string());
    let low = plan.source();
    let high = Topic::new(&plan.source_cluster, &format!("{name}-high"));
    low.create(LOW_PARTITIONS, &[])?;
    high.create(1, &[])?;
    let line = plan.prepare()?;
    line.add_connectors(&high.name, &[("culvert.priority", "high")])?;
    line.launch()?;
    // A few first: all lanes are open, and both targets are there.
    low.write(LOW_PARTITIONS, 0, 60)?;
    high.write(1, 0, 10)?;
    line.arrived(60, DEADLINE)?;
    line.judge_topic(&high.name, DEADLINE)?;

    narrow(&line).cut();
    low.write(LOW_PARTITIONS, 60, LOW)?;
    high.write(1, 10, HIGH)?;
    wait_for(DEADLINE, "all to wait in front of the link", || {
        let all = taken_in(&line.first, &low.name).ok()? == 60 + LOW
            && taken_in(&line.first, &high.name).ok()? == 10 + HIGH;
        all.then_some(())
    })
    .with_context(|| line.statuses())?;
    if std::ptr::eq(narrow(&line), &line.east) {
        wait_for(DEADLINE, "all to wait at the relay", || {
            let held = line.relay.metric("culvert_outbox_held_bytes").ok()?;
            let there = line.first.metric("culvert_outbox_held_bytes").ok()?;
            (held >= there * 0.99).then_some(())
        })
        .with_context(|| line.statuses())?;
    }
    narrow(&line).set(Weather {
        rate: RATE,
        ..Weather::default()
    });
    let urgent = Topic::new(&line.plan.target_cluster, &high.name);
    let mut urgent = Tail::open(&urgent)?;
    urgent
        .until(10 + HIGH, DEADLINE)
        .with_context(|| line.statuses())?;
    // And what comes while the other one drains.
    let written = Instant::now();
    high.write(1, 10 + HIGH, 10)?;
    urgent
        .until(20 + HIGH, DEADLINE)
        .with_context(|| line.statuses())?;
    let delay = written.elapsed();
    let behind = line.plan.target().read()?.len() as u64;
    ensure!(
        behind < 60 + LOW,
        "the backlog of the low one was through before the urgent one was"
    );

    narrow(&line).heal();
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 60 + LOW, "{verdict}");
    let verdict = line.judge_topic(&high.name, DEADLINE)?;
    ensure!(
        verdict.is_exactly_once() && verdict.sent == 20 + HIGH,
        "{verdict}"
    );
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "{name}: {RATE} bytes/s, {HIGH} urgent records through when {behind} of {LOW} others were, ten new ones in {} ms; all once",
        delay.as_millis()
    ));
    Ok(())
}
