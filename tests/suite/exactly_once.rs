//! Every record arrives once, unchanged and in order, whatever fails on the way (S1, S2, S8).

use crate::cluster::{self, Load, Record, Tail};
use crate::faults::seed;
use crate::line::{CUTS, Plan};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{relay, wait_for};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

/// Kills in one run; the promise is 25.
const KILLS: usize = 27;

/// Partitions of the topics of this promise.
const PARTITIONS: i32 = 3;

#[test]
fn keys_values_headers_and_times_cross_unchanged() -> anyhow::Result<()> {
    let plan = Plan::new("unchanged");
    plan.source().create(PARTITIONS, &[])?;
    plan.source().write(PARTITIONS, 0, 5_000)?;
    let line = plan.start()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 5_000, "{verdict}");
    line.assert_no_unlisted_alarms(&[]);
    Ok(())
}

#[test]
fn aborted_transactions_and_compacted_records_leave_holes_that_cross() -> anyhow::Result<()> {
    let plan = Plan::new("holes");
    let topic = plan.source();
    let compacting = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "200"),
    ];
    topic.create(1, &compacting)?;
    // The second thousand has the keys of the first, so what was committed first may be compacted away.
    topic.transact(1, 0..300, true)?;
    topic.transact(1, 300..600, false)?;
    topic.transact(1, 1_000..1_300, true)?;
    // Counted, not read: the broker may have compacted some of it by now.
    let written = (0..300)
        .chain(1_000..1_300)
        .map(|number| Record::order(number, 1));
    let before = written.filter(|order| order.key.is_some()).count();
    let mut closing = 5_000;
    wait_for(DEADLINE, "the topic to be compacted", || {
        // Only closed segments are compacted, and it takes a record to close one.
        topic.transact(1, closing..closing + 1, true).ok()?;
        closing += 1;
        (topic.read().ok()?.len() < before).then_some(())
    })?;
    let line = plan.start()?;
    line.arrived(1, DEADLINE)?;
    line.proven(DEADLINE)?;
    let arrived = line.plan.target().read()?;
    let numbers: Vec<u64> = arrived.iter().filter_map(Record::number).collect();
    ensure!(
        numbers.iter().all(|number| !(300..600).contains(number)),
        "an aborted record arrived"
    );
    ensure!(
        numbers.is_sorted_by(|a, b| a < b),
        "out of order, or twice: {numbers:?}"
    );
    // Compaction goes on meanwhile: whatever the source still holds has arrived, and little else.
    let verdict = cluster::ledger(&topic.read()?, &arrived)?.verdict();
    ensure!(
        verdict.lost.count + verdict.duplicated.count + verdict.changed.count == 0,
        "{verdict}"
    );
    line.assert_no_unlisted_alarms(&[]);
    figure(&format!(
        "holes: 300 records aborted, {} of {before} compacted away, {} arrived once",
        before.saturating_sub(arrived.len()),
        arrived.len()
    ));
    Ok(())
}

#[test]
fn killing_gateways_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let seed = seed("kills");
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    // Both engines, and two writers at the sink.
    let plan = Plan::new("killed")
        .sink_key("tasks.max", "2")
        .setting(2, "outbox.engine = \"log\"");
    plan.source().create(PARTITIONS, &[])?;
    let (topic, target) = (plan.source(), plan.target());
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, 1_500);
    let mut tail = wait_for(DEADLINE, "the target topic", || Tail::open(&target).ok())?;
    let started = Instant::now();
    for kill in 0..KILLS {
        let victim = line.gateways()[dice.random_range(0..3)];
        victim.kill9()?;
        // Sometimes it stays away, so that others notice.
        watch(
            &mut tail,
            Duration::from_millis(dice.random_range(0..2) * dice.random_range(0..800)),
        )?;
        victim.launch()?;
        if kill % 3 == 2 {
            // Not every kill may fall into a recovery: some must hit a line in full flow.
            let had = tail.records.len() as u64;
            tail.until(had + 500, DEADLINE).with_context(|| line.statuses())?;
        }
        watch(&mut tail, Duration::from_millis(dice.random_range(50..700)))?;
    }
    let took = started.elapsed();
    let verdict = line.judge_load(load, DEADLINE)?;
    let count = verdict.sent;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "exactly once: {KILLS} kills in {:.0} s, {count} records, lost {}, duplicated {} (seed {seed})",
        took.as_secs_f64(),
        verdict.lost.count,
        verdict.duplicated.count
    ));
    Ok(())
}

#[test]
fn cutting_and_degrading_links_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let seed = seed("cuts");
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let plan = Plan::new("cut");
    plan.source().create(PARTITIONS, &[])?;
    let (topic, target) = (plan.source(), plan.target());
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, 1_000);
    let mut tail = wait_for(DEADLINE, "the target topic", || Tail::open(&target).ok())?;
    const CUTS_COUNT: u64 = 6;
    for cut in 0..CUTS_COUNT {
        let network = if dice.random() { &line.west } else { &line.east };
        network.cut();
        watch(&mut tail, Duration::from_millis(dice.random_range(200..3_000)))?;
        network.set(relay::Weather {
            loss: 0.02,
            duplication: 0.02,
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(20),
            ..relay::Weather::default()
        });
        if cut % 2 == 1 {
            let had = tail.records.len() as u64;
            tail.until(had + 500, DEADLINE).with_context(|| line.statuses())?;
        }
    }
    line.west.heal();
    line.east.heal();
    let count = line.judge_load(load, DEADLINE)?.sent;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "exactly once: {CUTS_COUNT} cuts, then loss 2 % and 20 to 40 ms, {count} records, lost 0, duplicated 0 (seed {seed})"
    ));
    Ok(())
}

/// Looks at the target for a while.
fn watch(tail: &mut Tail, time: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        tail.look(left.min(Duration::from_millis(50)))?;
    }
    Ok(())
}
