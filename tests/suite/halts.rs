//! History that changed halts the stream it belongs to, says why with a code, and stops nothing else (L3).

use crate::cluster::{self, Record, Topic, ledger, send};
use crate::line::{CUTS, Plan, account, status};
use anyhow::{Context, ensure};
use culvert_tests::{Gateway, wait_for};
use rdkafka::producer::Producer;
use serde_json::Value;
use std::fs;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_topic_that_is_made_again_is_a_new_stream() -> anyhow::Result<()> {
    let plan = Plan::new("reborn");
    let topic = plan.source();
    topic.create(1, &[])?;
    topic.write(1, 0, 100)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    let first = topic.read()?;

    topic.delete()?;
    topic.create(1, &[])?;
    // Fewer than before: the old place does not exist in the new topic, nor may it ever be read there.
    topic.write(1, 1_000, 50)?;
    let arrived = line.arrived(150, DEADLINE)?;
    let verdict = ledger(&[first, topic.read()?].concat(), &arrived)?.verdict();
    ensure!(verdict.is_exactly_once() && verdict.arrived == 150, "{verdict}");

    let streams = streams(&line.last)?;
    let lineages: Vec<&Value> = streams.iter().map(|stream| &stream["lineage"]).collect();
    ensure!(lineages.len() == 2 && lineages[0] != lineages[1], "{streams:?}");
    line.assert_no_unlisted_alarms(&["CULVERT-K004"]);
    Ok(())
}

#[test]
fn records_that_retention_took_are_named_and_other_partitions_go_on() -> anyhow::Result<()> {
    let plan = Plan::new("retention");
    let topic = plan.source();
    topic.create(3, &[])?;
    topic.write(3, 0, 300)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    line.first.kill9()?;
    topic.write(3, 300, 300)?;
    topic.delete_records(0, 150)?;
    fs::remove_dir_all(line.first.directory().join("state"))?;
    line.first.restart()?;

    let fault = halted(&line.first, "CULVERT-K003")?;
    ensure!(
        fault.contains("[100, 150)"),
        "the missing interval is not named: {fault}"
    );
    let arrived = line.arrived(500, DEADLINE)?;
    ensure!(
        arrived.iter().filter(|record| record.partition == 0).count() == 100,
        "partition 0 went on"
    );
    ensure!(arrived.len() == 500, "{} arrived", arrived.len());
    line.first.assert_no_unlisted_alarms(&["CULVERT-K003"]);
    Ok(())
}

#[test]
fn a_route_begun_anew_goes_on_behind_what_retention_took() -> anyhow::Result<()> {
    let plan = Plan::new("loss-accepted");
    let topic = plan.source();
    topic.create(1, &[])?;
    topic.write(1, 0, 100)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    let delivered = topic.read()?;
    line.first.kill9()?;
    topic.write(1, 100, 100)?;
    topic.delete_records(0, 150)?;
    fs::remove_dir_all(line.first.directory().join("state"))?;
    line.first.restart()?;
    halted(&line.first, "CULVERT-K003")?;
    let said = line.first.cli(&["status"])?;
    ensure!(
        said.status.code() == Some(1),
        "what stands until somebody decides ends with {}",
        said.status
    );

    // As its page says. Nothing that the log still has was delivered before, so nothing comes twice.
    begin_anew(&line.last)?;
    let arrived = line.arrived(150, DEADLINE)?;
    let verdict = ledger(&[delivered, topic.read()?].concat(), &arrived)?.verdict();
    ensure!(verdict.is_exactly_once() && verdict.arrived == 150, "{verdict}");
    wait_for(DEADLINE, "the origin to be without a fault", || {
        faults(&status(&line.first).ok()?).is_empty().then_some(())
    })
    .with_context(|| line.statuses())?;
    Ok(())
}

#[test]
fn a_record_above_the_limit_of_the_target_is_named() -> anyhow::Result<()> {
    const LIMIT: &str = "2000";
    let plan = Plan::new("too-large");
    let topic = plan.source();
    topic.create(1, &[])?;
    plan.target().create(1, &[("max.message.bytes", LIMIT)])?;
    topic.write(1, 0, 100)?;
    let large = Record {
        value: Some(vec![b'x'; 5_000]),
        ..Record::order(100, 1)
    };
    let producer = topic.producer(&[])?;
    send(&producer, &topic.name, &large)?;
    producer.flush(DEADLINE)?;
    topic.write(1, 101, 50)?;
    let line = plan.start()?;
    let fault = halted(&line.last, "CULVERT-F012")?;
    for named in ["record 100 ", "max.message.bytes=2000", "too-large"] {
        ensure!(fault.contains(named), "{named} is not named: {fault}");
    }
    let held = line.plan.target().read()?.len();
    ensure!(held <= 100, "{held} records are in the target");

    // As its page says.
    line.plan.target().set("max.message.bytes", "1000000")?;
    line.last.restart()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 151, "{verdict}");
    Ok(())
}

#[test]
fn a_sink_that_lost_its_positions_is_not_delivered_to_twice() -> anyhow::Result<()> {
    let plan = Plan::new("positions-lost");
    let topic = plan.source();
    topic.create(1, &[])?;
    topic.write(1, 0, 200)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    line.last.kill9()?;
    Topic::new(&line.plan.target_cluster, "culvert.positions.positions-lost").delete()?;
    line.last.restart()?;
    topic.write(1, 200, 100)?;
    halted(&line.first, "CULVERT-F021").with_context(|| line.statuses())?;
    let held = line.plan.target().read()?.len();
    ensure!(held == 200, "{held} records are in the target");

    // As its page says: everything comes again, behind what was there.
    begin_anew(&line.last)?;
    let held = line.arrived(500, DEADLINE)?.len();
    ensure!(held == 500, "{held} records are in the target");
    Ok(())
}

#[test]
fn a_target_that_is_made_again_stops_the_sink() -> anyhow::Result<()> {
    let plan = Plan::new("target-reborn");
    let topic = plan.source();
    topic.create(1, &[])?;
    topic.write(1, 0, 200)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    line.plan.target().delete()?;
    line.plan.target().create(1, &[])?;
    topic.write(1, 200, 100)?;
    halted(&line.last, "CULVERT-K012").with_context(|| line.statuses())?;
    let held = line.plan.target().read()?.len();
    ensure!(held == 0, "{held} records are in the new target");

    // As its page says: everything is delivered to the new topic.
    begin_anew(&line.last)?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 300, "{verdict}");
    Ok(())
}

/// The last place of the stream is a control record of a later leader than the last record's. The sink's position must name
/// that leader, or the source denies that the stream ever reached so far.
#[test]
fn a_control_record_of_a_later_leader_halts_nothing() -> anyhow::Result<()> {
    let broker = cluster::start()?;
    let mut plan = Plan::new("later-leader");
    plan.source_cluster = broker.bootstrap();
    let topic = plan.source();
    topic.create(1, &[])?;
    topic.transact(1, 0..50, true)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    broker.kill9()?;
    broker.restart()?;
    topic.transact(1, 50..60, false)?;
    let end = topic.ends()?[0].cast_unsigned();
    wait_for(DEADLINE, "the position behind the control record", || {
        (applied(&line.last).ok()? == end).then_some(())
    })
    .with_context(|| line.statuses())?;

    // Nothing but the sink's position says where to go on.
    line.first.kill9()?;
    fs::remove_dir_all(line.first.directory().join("state"))?;
    line.first.restart()?;
    topic.write(1, 60, 20)?;
    let verdict = line.judge(DEADLINE).with_context(|| line.statuses())?;
    ensure!(verdict.is_exactly_once(), "{verdict}");
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}

#[test]
fn a_source_that_was_truncated_halts_and_others_go_on() -> anyhow::Result<()> {
    let broker = cluster::start()?;
    let mut plan = Plan::new("truncated");
    plan.source_cluster = broker.bootstrap();
    let topic = plan.source();
    topic.create(2, &[])?;
    topic.write(2, 0, 200)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    // The disk of partition 0 is lost: its log begins anew, under the same topic id.
    broker.kill9()?;
    fs::remove_dir_all(broker.directory().join("data/truncated-0")).with_context(|| {
        format!(
            "{:?}",
            fs::read_dir(broker.directory().join("data")).map(Iterator::count)
        )
    })?;
    broker.restart()?;
    topic.write(2, 200, 20)?;
    let fault = halted(&line.first, "CULVERT-K00")?;
    ensure!(
        fault.contains("CULVERT-K005") || fault.contains("CULVERT-K006"),
        "{fault}"
    );
    let arrived = line.arrived(210, DEADLINE)?;
    ensure!(
        arrived.iter().filter(|record| record.partition == 1).count() == 110,
        "partition 1 did not go on"
    );
    line.first
        .assert_no_unlisted_alarms(&[CUTS, &["CULVERT-K005", "CULVERT-K006"]].concat());
    Ok(())
}

/// Begins the route of a sink anew, as `docs/errors/README.md` says it.
fn begin_anew(gateway: &Gateway) -> anyhow::Result<()> {
    let file = gateway.directory().join("connectors/sink.json");
    let mut definition: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    definition["config"]["culvert.incarnation"] = "1".into();
    fs::write(&file, definition.to_string())?;
    gateway.restart()
}

/// Waits until the status of a gateway shows a fault of this code. Answers code and message.
pub(crate) fn halted(gateway: &Gateway, code: &str) -> anyhow::Result<String> {
    wait_for(DEADLINE, code, || {
        let status = status(gateway).ok()?;
        faults(&status).into_iter().find(|fault| fault.starts_with(code))
    })
    .with_context(|| account(gateway))
}

/// All faults in a status, as `code message`.
fn faults(status: &Value) -> Vec<String> {
    match status {
        Value::Array(items) => items.iter().flat_map(faults).collect(),
        Value::Object(map) => {
            let own = map.get("fault").filter(|fault| fault.is_object()).map(|fault| {
                format!(
                    "{} {}",
                    fault["code"].as_str().unwrap_or(""),
                    fault["message"].as_str().unwrap_or("")
                )
            });
            own.into_iter().chain(map.values().flat_map(faults)).collect()
        }
        _ => Vec::new(),
    }
}

/// How far the sink of this gateway has applied its first stream.
fn applied(gateway: &Gateway) -> anyhow::Result<u64> {
    let streams = streams(gateway)?;
    let first = streams.first().context("a stream")?;
    first["applied"].as_u64().context("an applied place")
}

fn streams(gateway: &Gateway) -> anyhow::Result<Vec<Value>> {
    let status = status(gateway)?;
    let connectors = status["connectors"]
        .as_array()
        .context("a status lists connectors")?;
    Ok(connectors
        .iter()
        .flat_map(|connector| connector["streams"].as_array().cloned().unwrap_or_default())
        .collect())
}
