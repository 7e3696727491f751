//! A short run of the chaos lab, as a person starts it, and one that must fail.

use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Scratch, gateway, host, network};
use std::fs;
use std::process::{Command, Output};

/// Several kinds in the 20 s of one schedule: links, gateways, brokers.
const SEED: &str = "20";

fn chaos(scratch: &Scratch, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert-chaos"));
    command
        .args(["run", "--minutes", "0", "--rate", "2000", "--seed", SEED])
        .args(arguments)
        .arg("--out")
        .arg(scratch.path())
        .env("CULVERT_BIN", gateway::program()?);
    command.output().context("run the chaos lab")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

#[test]
fn a_schedule_of_several_kinds_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let scratch = Scratch::new("chaos")?;
    if let Err(why) = network::alone(&Command::new("true")) {
        host::not_run(
            "a_schedule_of_several_kinds_loses_and_doubles_nothing (in networks of its own)",
            &format!("{why:#}"),
        );
    }
    let output = chaos(&scratch, &["--without", "fsync,clock,disk-full"])?;
    ensure!(output.status.success(), "{}", said(&output));
    let folder = scratch.path().join(SEED);
    let report = fs::read_to_string(folder.join("report.md"))?;
    ensure!(report.contains("**Passed.**"), "{report}");
    let schedules = fs::read_to_string(folder.join("schedules.txt"))?;
    let planned = schedules.lines().filter(|line| line.starts_with("at ")).count();
    let drawn = fs::read_to_string(folder.join("timeline.svg"))?;
    ensure!(
        planned >= 4 && drawn.matches("<title>").count() == planned,
        "each fault was performed: {schedules}"
    );
    let said = said(&output);
    let line = said
        .lines()
        .find(|line| line.starts_with("passed"))
        .unwrap_or_default();
    figure(&format!("chaos: {line}"));
    Ok(())
}

#[test]
fn a_record_that_is_seen_twice_fails_a_run_and_its_report_says_so() -> anyhow::Result<()> {
    let scratch = Scratch::new("planted")?;
    let output = chaos(
        &scratch,
        &["--length", "3", "--only", "duplicate", "--plant", "doubled"],
    )?;
    ensure!(output.status.code() == Some(1), "{}", said(&output));
    let report = fs::read_to_string(scratch.path().join(SEED).join("report.md"))?;
    ensure!(
        report.contains("**FAILED.**") && report.contains("duplicated 1"),
        "{report}"
    );
    Ok(())
}
