//! A gateway and its disk are gone; another of the same site goes on where the sink stands.

use crate::cluster::{Load, Tail};
use crate::line::{CUTS, Plan};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::wait_for;
use std::fs;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

/// The promise: from the kill until records of every partition arrive again. A member of a group is missed after
/// 10 s, as `session.timeout.ms` is set.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);

const PARTITIONS: i32 = 3;

/// Whether the second gateway ran when the first one was lost.
enum Second {
    /// It reads a part of the partitions already.
    Beside,
    /// It is started by whoever noticed.
    Fresh,
}

#[test]
fn a_gateway_beside_takes_over_within_fifteen_seconds() -> anyhow::Result<()> {
    check("beside", &Second::Beside)
}

#[test]
fn a_fresh_gateway_takes_over_within_fifteen_seconds() -> anyhow::Result<()> {
    check("fresh", &Second::Fresh)
}

fn check(name: &str, second: &Second) -> anyhow::Result<()> {
    let mut plan = Plan::new(&format!("takeover-{name}"));
    plan.first_names.push("gw1b".into());
    plan.source().create(PARTITIONS, &[])?;
    let (topic, target) = (plan.source(), plan.target());
    let line = plan.start()?;
    let spare = line.plan.first(&line.ca, "gw1b", &line.west)?;
    if let Second::Beside = second {
        spare.restart()?;
    }
    let load = Load::start(&topic, PARTITIONS, 0, 600);
    let mut tail = wait_for(DEADLINE, "the target topic", || Tail::open(&target).ok())?;
    tail.until(2_000, DEADLINE).with_context(|| line.statuses())?;

    line.first.kill9()?;
    let lost = Instant::now();
    fs::remove_dir_all(line.first.directory().join("state"))?;
    if let Second::Fresh = second {
        spare.restart()?;
    }
    let ends = topic.ends()?;
    while !(0..PARTITIONS).all(|partition| tail.has_passed(partition, ends[partition as usize])) {
        ensure!(
            lost.elapsed() < DEADLINE,
            "no takeover within {DEADLINE:?}\n{}",
            line.statuses()
        );
        tail.look(Duration::from_millis(20))?;
    }
    let took = lost.elapsed();

    let count = line.judge_load(load, DEADLINE)?.sent;
    line.assert_no_unlisted_alarms(CUTS);
    spare.assert_no_unlisted_alarms(CUTS);
    ensure!(took <= TAKEOVER_MAX, "takeover took {took:?}");
    figure(&format!(
        "takeover ({name}): {:.1} s after process and disk were lost, {count} records, lost 0, duplicated 0",
        took.as_secs_f64()
    ));
    Ok(())
}
