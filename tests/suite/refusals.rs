//! What must not be is refused with a code that has a page, and nothing is delivered (S7, S12).

use crate::cluster::Load;
use crate::halts::halted;
use crate::line::{DOMAIN, Line, Plan, account};
use anyhow::{Context, ensure};
use culvert_tests::{Gateway, TestCa, TlsFiles, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::{Duration, SystemTime};

const DEADLINE: Duration = Duration::from_secs(60);

const PARTITIONS: i32 = 3;

#[test]
fn a_certificate_of_another_authority_is_refused() -> anyhow::Result<()> {
    let line = standing("other-authority")?;
    let stranger = TestCa::new("stranger")?;
    let tls = stranger.gateway(DOMAIN, "gw3")?;
    // It trusts us; we do not trust it.
    shows(&line.last, &tls)?;
    line.launch()?;
    logged(&line.relay, "CULVERT-P010")?;
    delivers_nothing(&line)
}

#[test]
fn a_certificate_of_a_gateway_that_is_no_peer_is_refused() -> anyhow::Result<()> {
    let line = standing("no-peer")?;
    let tls = line.ca.gateway(DOMAIN, "gw9")?;
    edit(&line.last, |text| {
        text.replace("gateway = \"gw3\"", "gateway = \"gw9\"")
    })?;
    shows(&line.last, &tls)?;
    line.launch()?;
    logged(&line.relay, "CULVERT-P014")?;
    delivers_nothing(&line)
}

#[test]
fn a_gateway_with_anothers_certificate_does_not_start() -> anyhow::Result<()> {
    let line = standing("not-mine")?;
    let tls = line.ca.gateway(DOMAIN, "gw9")?;
    shows(&line.last, &tls)?;
    ends_with(&line.last, "CULVERT-P006")
}

#[test]
fn a_gateway_with_an_expired_certificate_does_not_start() -> anyhow::Result<()> {
    let line = standing("expired")?;
    let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    line.ca.gateway_until(DOMAIN, "gw3", yesterday)?;
    ends_with(&line.last, "CULVERT-P004")
}

#[test]
fn a_certificate_that_expires_ends_the_session() -> anyhow::Result<()> {
    let line = standing("expiring")?;
    line.ca
        .gateway_until(DOMAIN, "gw3", SystemTime::now() + Duration::from_secs(12))?;
    line.launch()?;
    line.arrived(300, DEADLINE)?;
    logged(&line.relay, "CULVERT-P011")?;
    line.plan.source().write(PARTITIONS, 300, 100)?;
    // A fresh one, and a word: no restart.
    line.ca.gateway(DOMAIN, "gw3")?;
    hangup(&line.last)?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 400, "{verdict}");
    Ok(())
}

#[test]
fn a_site_without_a_grant_gets_nothing() -> anyhow::Result<()> {
    let line = standing("no-grant")?;
    edit(&line.first, |text| {
        text.replace("to = \"site3\"", "to = \"site2\"")
    })?;
    line.launch()?;
    halted(&line.last, "CULVERT-F001")?;
    delivers_nothing(&line)
}

#[test]
fn a_topic_that_is_not_granted_is_not_delivered() -> anyhow::Result<()> {
    let line = standing("no-topic")?;
    edit(&line.first, |text| {
        text.replace("topics = [\"*\"]", "topics = [\"something-else\"]")
    })?;
    line.launch()?;
    logged(&line.last, "CULVERT-F004")?;
    delivers_nothing(&line)
}

#[test]
fn a_relay_that_may_not_does_not_carry() -> anyhow::Result<()> {
    let line = standing("no-relay")?;
    edit(&line.relay, |text| {
        text.replace("[[relay]]\nfrom = \"site1\"\nto = \"site3\"\n", "")
    })?;
    line.launch()?;
    halted(&line.last, "CULVERT-F002")?;
    delivers_nothing(&line)
}

#[test]
fn mistakes_in_files_are_all_named_with_what_was_meant() -> anyhow::Result<()> {
    let line = standing("mistyped")?;
    edit(&line.first, |text| {
        text.replace("state = \"state\"", "sate = \"state\"")
            .replace("trust_domain", "trust_domian")
    })?;
    let definition = line.first.directory().join("connectors/source.json");
    fs::write(
        &definition,
        fs::read_to_string(&definition)?.replace("\"topics\"", "\"topic\""),
    )?;
    let output = line.first.cli(&["check"])?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(
        output.status.code() == Some(2),
        "check ended with {}: {said}",
        output.status
    );
    for meant in ["state", "identity.trust_domain", "topics"] {
        ensure!(said.contains(meant), "{meant} is not named in:\n{said}");
    }
    ensure!(said.contains("did you mean"), "{said}");
    line.first.launch()?;
    let code = wait_for(DEADLINE, "the gateway to end", || line.first.exit_code())?;
    ensure!(code == 2, "run ended with {code}");

    fs::remove_file(line.last.directory().join("culvert.toml"))?;
    let output = line.last.cli(&["check"])?;
    ensure!(
        output.status.code() == Some(3),
        "check without a file ended with {}",
        output.status
    );
    Ok(())
}

#[test]
fn a_state_directory_belongs_to_one_process() -> anyhow::Result<()> {
    let line = standing("one-state")?;
    line.launch()?;
    let mut second = line.plan.first(&line.ca, "gw1", &line.west)?;
    second.set_env(
        "CULVERT_STATE",
        &line.first.directory().join("state").display().to_string(),
    );
    ends_with(&second, "CULVERT-O001")?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once(), "{verdict}");
    Ok(())
}

#[test]
fn two_gateways_of_one_name_are_told_and_deliver_nothing_twice() -> anyhow::Result<()> {
    let line = standing("one-name")?;
    line.launch()?;
    line.arrived(300, DEADLINE)?;
    let load = Load::start(&line.plan.source(), PARTITIONS, 300, 300);
    let second = line.plan.first(&line.ca, "gw1", &line.west)?;
    second.restart()?;
    wait_for(DEADLINE, "CULVERT-K001 from either", || {
        [&line.first, &second]
            .into_iter()
            .any(|gateway| gateway.log().is_ok_and(|log| log.contains("CULVERT-K001")))
            .then_some(())
    })
    .with_context(|| account(&line.first) + &account(&second))?;
    second.kill9()?;
    line.first.restart()?;
    let count = 300 + load.stop()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(
        verdict.is_exactly_once() && verdict.sent == count,
        "{verdict}, {count} were acknowledged"
    );
    Ok(())
}

#[test]
fn certificates_are_renewed_under_load_without_loss() -> anyhow::Result<()> {
    let line = standing("renewed")?;
    line.launch()?;
    let load = Load::start(&line.plan.source(), PARTITIONS, 300, 500);
    line.arrived(500, DEADLINE)?;
    for (gateway, name) in line.gateways().into_iter().zip(["gw1", "gw2", "gw3"]) {
        line.ca.gateway(DOMAIN, name)?;
        hangup(gateway)?;
        logged(gateway, "certificates reloaded")?;
    }
    let count = 300 + load.stop()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(
        verdict.is_exactly_once() && verdict.sent == count,
        "{verdict}, {count} were acknowledged"
    );
    line.assert_no_unlisted_alarms(&[]);
    Ok(())
}

/// A line that is not started, with 300 records to deliver.
fn standing(name: &str) -> anyhow::Result<Line> {
    let plan = Plan::new(name);
    plan.source().create(PARTITIONS, &[])?;
    plan.source().write(PARTITIONS, 0, 300)?;
    // So that what arrives, or not, can be read.
    plan.target().create(PARTITIONS, &[])?;
    plan.prepare()
}

/// After a refusal was told, nothing is in the target.
fn delivers_nothing(line: &Line) -> anyhow::Result<()> {
    let held = line.plan.target().read()?.len();
    ensure!(held == 0, "{held} records were delivered");
    Ok(())
}

/// Waits until a gateway has logged something.
fn logged(gateway: &Gateway, what: &str) -> anyhow::Result<()> {
    wait_for(DEADLINE, what, || {
        gateway.log().ok()?.contains(what).then_some(())
    })
    .with_context(|| account(gateway))
}

/// A gateway that is started ends by itself, with a failure of this code.
fn ends_with(gateway: &Gateway, code: &str) -> anyhow::Result<()> {
    gateway.launch()?;
    let exit =
        wait_for(DEADLINE, "the gateway to end", || gateway.exit_code()).with_context(|| account(gateway))?;
    ensure!(
        exit != 0 && gateway.log()?.contains(code),
        "ended with {exit}\n{}",
        account(gateway)
    );
    Ok(())
}

/// Changes a gateway's file. It must really change.
fn edit(gateway: &Gateway, change: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
    let file = gateway.directory().join("culvert.toml");
    let before = fs::read_to_string(&file)?;
    let after = change(&before);
    ensure!(before != after, "nothing to change in\n{before}");
    Ok(fs::write(&file, after)?)
}

/// Gives a gateway another certificate to show; whom it trusts stays.
fn shows(gateway: &Gateway, tls: &TlsFiles) -> anyhow::Result<()> {
    edit(gateway, |text| {
        let line = |line: &str| match line.split_once(" = ") {
            Some(("certificate", _)) => format!("certificate = {:?}\n", tls.certificate),
            Some(("key", _)) => format!("key = {:?}\n", tls.key),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    })
}

/// Asks a gateway to read its certificates again.
fn hangup(gateway: &Gateway) -> anyhow::Result<()> {
    let id = i32::try_from(gateway.id().context("the gateway runs")?)?;
    Ok(kill_process(
        Pid::from_raw(id).context("a process has an id")?,
        Signal::HUP,
    )?)
}
