//! What those who run it rely on: signals, exit codes, health, metrics, status, and a proof that finds what is planted.

use crate::cluster::{Load, Record, send};
use crate::line::{CUTS, Line, Plan, account, status};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::wait_for;
use rdkafka::producer::Producer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

const PARTITIONS: i32 = 3;

#[test]
fn sigterm_drains_and_a_restart_goes_on() -> anyhow::Result<()> {
    let plan = Plan::new("drained");
    let topic = plan.source();
    topic.create(PARTITIONS, &[])?;
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, 500);
    let mut took = Duration::ZERO;
    for gateway in line.gateways() {
        let started = Instant::now();
        let code = gateway.term()?;
        took = took.max(started.elapsed());
        ensure!(
            code == 0,
            "SIGTERM ended a gateway with {code}\n{}",
            account(gateway)
        );
        gateway.restart()?;
    }
    let count = line.judge_load(load, DEADLINE)?.sent;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "operation: each gateway drained under load within {:.1} s, exit code 0, {count} records once",
        took.as_secs_f64()
    ));
    Ok(())
}

#[test]
fn a_second_sigterm_ends_at_once_and_loses_nothing() -> anyhow::Result<()> {
    let plan = Plan::new("twice");
    let topic = plan.source();
    topic.create(PARTITIONS, &[])?;
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, 500);
    line.arrived(200, DEADLINE)?;
    for _ in 0..2 {
        signal(&line, Signal::TERM)?;
    }
    let code = wait_for(Duration::from_secs(10), "the gateway to end", || {
        line.first.exit_code()
    })?;
    // 128 + SIGTERM, unless it had drained before the second one came.
    ensure!(code == 143 || code == 0, "ended with {code}");
    line.first.restart()?;
    line.judge_load(load, DEADLINE)?;
    Ok(())
}

#[test]
fn health_metrics_and_status_say_what_happened() -> anyhow::Result<()> {
    let plan = Plan::new("shown");
    let topic = plan.source();
    topic.create(PARTITIONS, &[])?;
    topic.write(PARTITIONS, 0, 300)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    for gateway in line.gateways() {
        ensure!(
            gateway.get("/healthz").is_ok() && gateway.get("/readyz").is_ok(),
            "{}",
            account(gateway)
        );
    }
    ensure!(line.first.metric("culvert_taken_in_records_total")? == 300.0);
    ensure!(line.last.metric("culvert_delivered_records_total")? == 300.0);
    wait_for(DEADLINE, "both links in the relay's metrics", || {
        (line.relay.metric("culvert_link_up").ok()? == 2.0).then_some(())
    })?;

    let shown = status(&line.first)?;
    for (pointer, expected) in [
        ("/gateway", "gw1"),
        ("/site", "site1"),
        ("/peers/0/gateway", "gw2"),
        ("/connectors/0/name", "shown"),
        ("/connectors/0/role", "source"),
        ("/connectors/0/state", "running"),
        ("/connectors/0/guarantee", "exactly-once"),
    ] {
        ensure!(
            shown.pointer(pointer) == Some(&Value::from(expected)),
            "{pointer} in {shown}"
        );
    }
    ensure!(
        shown["ready"] == true && shown["peers"][0]["up"] == true,
        "{shown}"
    );
    // The sink's word needs a moment to come back to the origin.
    wait_for(DEADLINE, "the origin to know that all was applied", || {
        let shown = status(&line.first).ok()?;
        let streams = shown.pointer("/connectors/0/streams")?.as_array()?.clone();
        (streams.len() == 3
            && streams
                .iter()
                .all(|stream| stream["applied"] == 100 && stream["backlog_records"] == 0))
        .then_some(())
    })
    .with_context(|| account(&line.first))?;
    line.assert_no_unlisted_alarms(&[]);
    Ok(())
}

#[test]
fn a_proof_under_load_finds_nothing_wrong() -> anyhow::Result<()> {
    let plan = Plan::new("flowing");
    let topic = plan.source();
    topic.create(PARTITIONS, &[])?;
    let line = plan.start()?;
    let load = Load::start(&topic, PARTITIONS, 0, 1_000);
    line.arrived(500, DEADLINE)?;
    for _ in 0..5 {
        // Without --wait, what is on its way is no fault.
        line.last
            .cli_ok(&["prove", "--output", "json"])
            .with_context(|| line.statuses())?;
    }
    load.stop()?;
    line.proven(DEADLINE)?;
    Ok(())
}

#[test]
fn a_proof_finds_a_planted_duplicate_and_a_planted_stranger() -> anyhow::Result<()> {
    let plan = Plan::new("planted");
    let topic = plan.source();
    topic.create(1, &[])?;
    topic.write(1, 0, 500)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;

    let target = line.plan.target();
    let plant = |record: &Record| -> anyhow::Result<()> {
        let producer = target.producer(&[])?;
        send(&producer, &target.name, record)?;
        Ok(producer.flush(DEADLINE)?)
    };
    plant(&Record::order(123, 1))?;
    let proof = broken(&line)?;
    ensure!(
        proof["streams"][0]["duplicated"] == 1 && proof["streams"][0]["missing"] == 0,
        "{proof}"
    );
    plant(&Record::order(77_777, 1))?;
    let proof = broken(&line)?;
    let (origin, sink) = (
        &proof["streams"][0]["origin"]["count"],
        &proof["streams"][0]["sink"]["count"],
    );
    ensure!(*origin == 500 && *sink == 502, "{proof}");
    Ok(())
}

#[test]
fn a_proof_finds_a_planted_loss() -> anyhow::Result<()> {
    let plan = Plan::new("robbed")
        .sink_key("connector.class", "io.culvert.sqlite.SqliteSink")
        .sink_key("kafka.bootstrap.servers", "")
        .sink_key("topic.creation.default.partitions", "")
        .sink_key("topic.creation.default.replication.factor", "")
        .sink_key("sqlite.path", "out.db");
    let topic = plan.source();
    topic.create(1, &[])?;
    topic.write(1, 0, 500)?;
    let line = plan.start()?;
    wait_for(DEADLINE, "500 records in the file", || {
        (line.last.metric("culvert_delivered_records_total").ok()? >= 500.0).then_some(())
    })
    .with_context(|| line.statuses())?;
    line.proven(DEADLINE)?;

    let file = rusqlite::Connection::open(line.last.directory().join("out.db"))?;
    file.busy_timeout(DEADLINE)?;
    let robbed = file.execute("DELETE FROM robbed WHERE sequence = 321", ())?;
    ensure!(robbed == 1, "the row is there to be deleted");
    let proof = broken(&line)?;
    ensure!(
        proof["streams"][0]["missing"] == 1 && proof["streams"][0]["duplicated"] == 0,
        "{proof}"
    );
    Ok(())
}

/// `culvert prove` says no, with an exit code that is not 0. Answers its report.
fn broken(line: &Line) -> anyhow::Result<Value> {
    let output = line.last.cli(&["prove", "--output", "json"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.code() == Some(1),
        "prove ended with {}: {said}\n{}",
        output.status,
        line.statuses()
    );
    let proof: Value = serde_json::from_str(&said)?;
    ensure!(proof["verdict"] == "broken", "{proof}");
    Ok(proof)
}

/// Sends gateway 1 a signal and goes on at once.
fn signal(line: &Line, signal: Signal) -> anyhow::Result<()> {
    let id = line.first.id().context("gateway 1 runs")?;
    let id = Pid::from_raw(i32::try_from(id)?).context("a process has an id")?;
    Ok(kill_process(id, signal)?)
}
