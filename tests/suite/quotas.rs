//! A stream at its quota waits alone, for its own room, and goes on by itself.

use crate::cluster::Topic;
use crate::line::{CUTS, Line, Plan, connector, streams, taken_in};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::wait_for;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

const PARTITIONS: i32 = 3;

/// Records that are there before the link is cut.
const FEW: u64 = 300;

/// Some 2 MiB in each partition: twice the quota.
const BULK: u64 = 60_000;

const QUOTA: u64 = 1 << 20;

#[test]
fn a_stream_at_its_quota_waits_alone_and_everything_arrives_once() -> anyhow::Result<()> {
    let plan = Plan::new("quota-bulk").source_key("culvert.quota", "1 MiB");
    let bulk = plan.source();
    let orders = Topic::new(&plan.source_cluster, "quota-orders");
    bulk.create(PARTITIONS, &[])?;
    orders.create(PARTITIONS, &[])?;
    let line = plan.prepare()?;
    line.add_connectors(&orders.name, &[])?;
    line.launch()?;
    bulk.write(PARTITIONS, 0, FEW)?;
    orders.write(PARTITIONS, 0, FEW)?;
    // Both have begun at their sinks: from here on each is read with the link cut.
    line.arrived(FEW, DEADLINE)?;
    line.judge_topic(&orders.name, DEADLINE)?;

    line.west.cut();
    bulk.write(PARTITIONS, FEW, BULK)?;
    let held = all_wait(&line)?;
    let connector = connector(&line.first, &bulk.name)?;
    ensure!(
        connector["state"] == "paused" && connector["fault"].is_null(),
        "it waits for the outbox: {connector}"
    );
    waiting_streams(&line, PARTITIONS)?;
    let shown = line.first.cli_ok(&["status", "--streams"])?;
    ensure!(
        shown.contains("of 1.0 MiB") && shown.contains("CULVERT-O020"),
        "{shown}"
    );

    // The other connector goes on as if nothing were.
    orders.write(PARTITIONS, FEW, 10 * FEW)?;
    wait_for(DEADLINE, "the other connector to take in all there is", || {
        (taken_in(&line.first, &orders.name).ok()? == 11 * FEW).then_some(())
    })
    .with_context(|| line.statuses())?;
    for stream in streams(&line.first, &orders.name)? {
        ensure!(
            stream["state"] == "running" && stream["quota"].is_null(),
            "{stream}"
        );
    }

    line.first.kill9()?;
    line.first.restart()?;
    all_wait(&line).context("in its next life")?;
    line.west.heal();
    line.first.kill9()?;
    line.first.restart()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(
        verdict.is_exactly_once() && verdict.sent == FEW + BULK,
        "{verdict}"
    );
    let verdict = line.judge_topic(&orders.name, DEADLINE)?;
    ensure!(verdict.is_exactly_once(), "{verdict}");
    waiting_streams(&line, 0)?;
    ensure!(
        line.first.log()?.contains("CULVERT-O021"),
        "it was not warned of before"
    );
    line.assert_no_unlisted_alarms(&[CUTS, &["CULVERT-O021"]].concat());
    figure(&format!(
        "quotas: {PARTITIONS} streams waited at {held} of {QUOTA} bytes each, another connector went on, {} records once",
        FEW + BULK
    ));
    Ok(())
}

/// Waits until the gauge says that so many streams wait for their quota.
fn waiting_streams(line: &Line, expected: i32) -> anyhow::Result<()> {
    wait_for(DEADLINE, "the gauge of streams that wait", || {
        let waiting = line.first.metric("culvert_streams_at_quota").ok()?;
        (waiting as i32 == expected).then_some(())
    })
    .with_context(|| line.statuses())
}

/// Waits until each stream of the bulk waits for its quota, and answers the most that one of them holds.
fn all_wait(line: &Line) -> anyhow::Result<u64> {
    let waiting = wait_for(DEADLINE, "every stream to wait for its quota", || {
        let streams = streams(&line.first, &line.plan.name).ok()?;
        let all = streams.len() == PARTITIONS as usize
            && streams.iter().all(|stream| stream["quota"]["waits"] == true);
        all.then_some(streams)
    })
    .with_context(|| line.statuses())?;
    let mut most = 0;
    for stream in &waiting {
        let held = stream["quota"]["held_bytes"]
            .as_u64()
            .context("it holds something")?;
        ensure!(
            stream["quota"]["quota_bytes"] == QUOTA && held <= QUOTA,
            "more than its quota: {stream}"
        );
        ensure!(
            stream["state"] == "paused" && stream["fault"]["code"] == "CULVERT-O020",
            "{stream}"
        );
        most = held.max(most);
    }
    Ok(most)
}
