//! The source group's offset never passes what the sink holds: any Kafka tool's lag says what has not arrived (S5).

use crate::cluster::{Load, Tail};
use crate::line::{CUTS, Line, Plan};
use anyhow::ensure;
use culvert_tests::figures::figure;
use culvert_tests::wait_for;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

const PARTITIONS: i32 = 3;

#[test]
fn the_groups_lag_is_what_has_not_arrived() -> anyhow::Result<()> {
    let plan = Plan::new("lag");
    plan.source().create(PARTITIONS, &[])?;
    let (topic, target, group) = (plan.source(), plan.target(), plan.group());
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, 500);
    let mut tail = wait_for(DEADLINE, "the target topic", || Tail::open(&target).ok())?;
    tail.until(1_000, DEADLINE)?;
    let mut looks = watch(&line, &mut tail, Duration::from_secs(3))?;

    // The sink's network is cut: what gateway 1 takes in from now on is lag, although it is safe on two disks.
    line.east.cut();
    // What gateway 3 had received before is written still.
    let mut held = 0;
    while tail.records.len() as u64 != held {
        held = tail.records.len() as u64;
        looks += watch(&line, &mut tail, Duration::from_secs(1))?;
    }
    let behind = wait_for(DEADLINE, "lag of 1,000 records", || {
        let (ends, committed) = (topic.ends().ok()?, topic.committed(&group).ok()?);
        let lag: i64 = ends
            .iter()
            .zip(&committed)
            .map(|(end, at)| end - at.unwrap_or(0))
            .sum();
        (lag > 1_000).then_some(lag)
    })?;
    looks += watch(&line, &mut tail, Duration::from_secs(2))?;
    ensure!(
        tail.records.len() as u64 == held,
        "records arrived over a cut link"
    );

    line.east.heal();
    let count = load.stop()?;
    looks += watch(&line, &mut tail, Duration::from_secs(2))?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == count, "{verdict}");
    wait_for(DEADLINE, "the group to have no lag", || {
        let (ends, committed) = (topic.ends().ok()?, topic.committed(&group).ok()?);
        ends.iter()
            .zip(&committed)
            .all(|(end, at)| Some(*end) == *at)
            .then_some(())
    })?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "lag: {looks} looks, never ahead of the sink; {behind} records of lag while the link was cut, 0 after"
    ));
    Ok(())
}

/// Compares the group with the sink for a while. Answers how often.
fn watch(line: &Line, tail: &mut Tail, time: Duration) -> anyhow::Result<u64> {
    let (until, mut looks) = (Instant::now() + time, 0);
    while Instant::now() < until {
        // First the group, then the sink: what the sink gains in between is no excuse for the group.
        let committed = line.plan.source().committed(&line.plan.group())?;
        tail.read_to_end()?;
        for (partition, at) in committed.iter().enumerate() {
            let held = tail.count(partition as i32);
            let at = at.unwrap_or(0);
            ensure!(
                at <= held,
                "partition {partition}: the group is at {at}, the sink holds {held}"
            );
        }
        looks += 1;
    }
    Ok(looks)
}
