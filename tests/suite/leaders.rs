//! Brokers of a cluster come and go, and leaders and coordinators move, while records flow: every record arrives once (S1, S2, S8).

use crate::cluster::{Load, Tail, Topic, is_whole};
use crate::line::{CUTS, Plan};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Broker, BrokerCluster, BrokerOptions, wait_for};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

const PARTITIONS: i32 = 3;

/// Records a second meanwhile.
const RATE: u64 = 500;

#[test]
fn leaders_that_move_at_the_source_lose_and_double_nothing() -> anyhow::Result<()> {
    let cluster = BrokerCluster::start(&options())?;
    let mut plan = Plan::new("leaders-source");
    plan.source_cluster = cluster.bootstrap();
    leaders_move(plan, &cluster, Plan::source)
}

#[test]
fn leaders_that_move_at_the_target_lose_and_double_nothing() -> anyhow::Result<()> {
    let cluster = BrokerCluster::start(&options())?;
    // What the sink makes for itself, its positions, has as many copies as the topic.
    let mut plan = Plan::new("leaders-target").sink_key("topic.creation.default.replication.factor", "3");
    plan.target_cluster = cluster.bootstrap();
    leaders_move(plan, &cluster, Plan::target)
}

fn options() -> BrokerOptions {
    BrokerOptions {
        // The times of our records follow from their numbers and lie years back.
        properties: vec![("log.retention.ms".into(), "-1".into())],
        ..BrokerOptions::default()
    }
}

fn leaders_move(plan: Plan, cluster: &BrokerCluster, moving: fn(&Plan) -> Topic) -> anyhow::Result<()> {
    let (topic, target) = (plan.source(), plan.target());
    topic.create(PARTITIONS, &[])?;
    target.create(PARTITIONS, &[])?;
    let moving = moving(&plan);
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, RATE);
    let mut tail = Tail::open(&target)?;
    line.more(&mut tail, RATE, DEADLINE)?;
    let mut moved = 0;
    let ends: [fn(&Broker) -> anyhow::Result<()>; 2] = [Broker::kill9, Broker::stop];
    for (end, how) in ends.into_iter().zip(["killed", "stopped"]) {
        for (number, broker) in (1..).zip(cluster.brokers()) {
            whole(cluster)?;
            let before = moving.leaders()?;
            end(broker)?;
            // One that was killed leads until its session with the controller has ended.
            let now = wait_for(DEADLINE, "its partitions to have other leaders", || {
                let leaders = moving.leaders().ok()?;
                leaders.iter().all(|leader| *leader != number).then_some(leaders)
            })?;
            line.more(&mut tail, RATE, DEADLINE)
                .with_context(|| format!("broker {number} {how}"))?;
            moved += before
                .iter()
                .zip(&now)
                .filter(|(before, now)| before != now)
                .count();
            broker.restart()?;
            line.more(&mut tail, RATE, DEADLINE)
                .with_context(|| format!("broker {number} back"))?;
        }
    }
    let verdict = line.judge_load(load, DEADLINE)?;
    ensure!(moved >= 4, "{moved} leaders moved");
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "{}: {moved} leaders moved by 3 kills and 3 stops of brokers, {} records, each once",
        line.plan.name, verdict.sent
    ));
    Ok(())
}

/// Waits until every copy is up to date: else the next broker that goes takes records along that only it has.
fn whole(cluster: &BrokerCluster) -> anyhow::Result<()> {
    let bootstrap = cluster.bootstrap();
    wait_for(DEADLINE, "every copy to be up to date", || {
        is_whole(&bootstrap).is_ok_and(|whole| whole).then_some(())
    })
}
