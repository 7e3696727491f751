//! Disks that damage what an outbox holds: what a source or a peer still has comes again by itself, each record once; what is
//! nowhere else is not given up but by name.

use crate::line::{CUTS, Line, Plan, account, status};
use crate::plugin_sinks::delivered;
use anyhow::{Context, ensure};
use culvert_tests::{Gateway, Scratch, wait_for, workspace};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(180);
const PARTITIONS: i32 = 3;

/// What a gateway warns of when it has mended its outbox.
const MENDED: &str = "outbox was damaged";

#[test]
fn what_the_source_still_has_is_read_again() -> anyhow::Result<()> {
    for engine in ["log", "sled"] {
        let line = filled(&format!("mended-first-{engine}"), engine, 1)?;
        mended(&line, &line.first, "read-again").with_context(|| engine.to_owned())?;
    }
    Ok(())
}

#[test]
fn what_the_peer_still_has_is_sent_again() -> anyhow::Result<()> {
    for engine in ["log", "sled"] {
        let line = filled(&format!("mended-relay-{engine}"), engine, 2)?;
        mended(&line, &line.relay, "sent-again").with_context(|| engine.to_owned())?;
    }
    Ok(())
}

/// A line in which gateway 1, or the relay, holds what it cannot send on.
fn filled(name: &str, engine: &str, number: usize) -> anyhow::Result<Line> {
    let plan = Plan::new(name).setting(number, &format!("outbox.engine = \"{engine}\""));
    plan.source().create(PARTITIONS, &[])?;
    let line = plan.start()?;
    line.plan.source().write(PARTITIONS, 0, 30)?;
    line.arrived(30, DEADLINE)?;
    let (cut, holder) = match number {
        1 => (&line.west, &line.first),
        _ => (&line.east, &line.relay),
    };
    cut.cut();
    line.plan.source().write(PARTITIONS, 30, 3_000)?;
    let held = || holder.metric("culvert_outbox_held_bytes").ok();
    wait_for(DEADLINE, "records that wait in the outbox", || {
        let taken = line.first.metric("culvert_taken_in_records_total").ok()?;
        let before = held().filter(|bytes| *bytes > 100_000.0 && taken >= 3_030.0)?;
        std::thread::sleep(Duration::from_millis(300));
        (held() == Some(before)).then_some(())
    })
    .with_context(|| account(holder))?;
    Ok(line)
}

/// Kills a gateway, damages its outbox, and starts it again: each record arrives once.
fn mended(line: &Line, gateway: &Gateway, remedy: &str) -> anyhow::Result<()> {
    gateway.kill9()?;
    let report = damage(gateway)?;
    let missing: Vec<&Value> = lanes_that_miss(&report).collect();
    ensure!(missing.iter().all(|lane| lane["remedy"] == remedy), "{missing:?}");
    line.west.heal();
    line.east.heal();
    gateway.restart()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 3_030, "{verdict}");
    let log = gateway.log()?;
    ensure!(log.contains("CULVERT-O011"), "{log}");
    ensure!(
        status(gateway)?["outbox"]["mended_lanes"].is_u64(),
        "{}",
        account(gateway)
    );
    let quarantine = gateway.directory().join("state/outbox/quarantine");
    ensure!(fs::read_dir(quarantine)?.count() == 1, "what was damaged is kept");
    line.assert_no_unlisted_alarms(&[CUTS, &[MENDED]].concat());
    Ok(())
}

fn lanes_that_miss(report: &Value) -> impl Iterator<Item = &Value> {
    let lanes = report["lanes"].as_array().into_iter().flatten();
    lanes.filter(|lane| {
        lane["missing"]
            .as_array()
            .is_some_and(|missing| !missing.is_empty())
    })
}

/// Flips a bit of one byte in the middle of a store's file, so that frames are missing and nothing else. A small store of sled has
/// no such place, since its leaves hold lanes and settings too: then one of those. Returns what `culvert fsck` says of it.
fn damage(gateway: &Gateway) -> anyhow::Result<Value> {
    let generation = gateway.directory().join("state/outbox/gen-1");
    let mut files = Vec::new();
    let mut waiting = vec![generation];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                files.push((path.metadata()?.len(), path));
            }
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    let bytes = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
    let mut other = None;
    for (length, path) in files.iter().filter(|(length, _)| *length > 0) {
        for part in 1..8 {
            let good = bytes(path)?;
            let mut bad = good.clone();
            bad[usize::try_from(length * part / 8)?] ^= 0x10;
            fs::write(path, &bad)?;
            let said = gateway.cli(&["fsck", "--output", "json"])?;
            let report: Value = serde_json::from_slice(&said.stdout)
                .with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
            ensure!(
                said.status.code() == Some(i32::from(report["sound"] == false)),
                "{said:?}"
            );
            if report["certain"] == true && lanes_that_miss(&report).next().is_some() {
                return Ok(report);
            }
            fs::write(path, good)?;
            if report["certain"] == false && path.components().any(|part| part.as_os_str() == "slabs") {
                other = Some((path.clone(), bad, report));
            }
        }
    }
    let (path, bad, report) = other.context("no byte was found at which anything is missing")?;
    fs::write(path, bad)?;
    Ok(report)
}

#[test]
fn what_is_nowhere_else_stands_still_until_its_loss_is_accepted() -> anyhow::Result<()> {
    const COUNT: u64 = 4_000;
    let scratch = Scratch::new("damaged-run")?;
    let file = scratch.path().join("out.txt");
    let directory = format!(
        "plugins.directory = {:?}",
        workspace().join("target/plugins/tests")
    );
    let mut plan = Plan::of_plugins("damaged-run", "ledger", "leaky-sink")
        .setting(1, &directory)
        .setting(1, "outbox.engine = \"log\"")
        .setting(3, &directory)
        .source_key("culvert.grant.state", "true")
        .source_key("count", &COUNT.to_string())
        .source_key("page", "20")
        .source_key("pause", "1ms")
        .sink_key("file", &file.display().to_string());
    plan.topics = [0, 1, 2]
        .map(|number| format!("{}-{number}", plan.name))
        .join(",");
    let line = plan.prepare()?;
    line.west.cut();
    line.launch()?;
    let taken = || line.first.metric("culvert_taken_in_records_total").ok();
    wait_for(DEADLINE, "all numbers in the outbox", || {
        (taken()? >= COUNT as f64).then_some(())
    })
    .with_context(|| account(&line.first))?;
    line.first.kill9()?;
    let report = damage(&line.first)?;
    ensure!(
        lanes_that_miss(&report).all(|lane| lane["remedy"] == "only-here"),
        "{report}"
    );

    line.west.heal();
    line.first.restart()?;
    wait_for(DEADLINE, "the source to stand still", || {
        let log = line.first.log().ok()?;
        log.contains("CULVERT-O012").then_some(())
    })
    .with_context(|| account(&line.first))?;
    line.first.term()?;
    let said = line
        .first
        .cli_ok(&["fsck", "--accept-loss", "all", "--output", "json"])?;
    let accepted: Value = serde_json::from_str(&said)?;
    let lost: u64 = accepted
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|stream| stream["count"].as_u64())
        .sum();
    ensure!(lost > 0 && lost < COUNT, "{accepted}");
    line.first.restart()?;
    // Places that hold nothing are passed over.
    wait_for(DEADLINE, "every place", || {
        (delivered(&file) >= COUNT).then_some(())
    })
    .with_context(|| line.statuses())?;
    let there = fs::read_to_string(&file)?.lines().count() as u64;
    ensure!(
        there == COUNT - lost,
        "{there} of {COUNT}, and {lost} were given up"
    );
    Ok(())
}
