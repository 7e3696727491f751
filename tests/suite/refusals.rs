//! What must not be is refused with a code that has a page, and nothing is delivered (S7, S12).

use crate::cluster::Load;
use crate::halts::halted;
use crate::line::{DOMAIN, Line, Plan, account, status};
use anyhow::{Context, bail, ensure};
use culvert_tests::{Gateway, TestCa, TlsFiles, ports, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
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
fn a_certificate_of_another_trust_domain_is_refused() -> anyhow::Result<()> {
    let line = standing("other-domain")?;
    // Under the same file names.
    line.ca.gateway("elsewhere.test", "gw3")?;
    edit(&line.last, |text| text.replace(DOMAIN, "elsewhere.test"))?;
    line.launch()?;
    // Who dials looks first; whom it refuses is told that much.
    let fault = halted(&line.last, "CULVERT-P016")?;
    ensure!(
        fault.contains("elsewhere.test") && fault.contains(DOMAIN),
        "not both are named: {fault}"
    );
    logged(&line.relay, "CULVERT-L005")?;
    delivers_nothing(&line)
}

#[test]
fn another_gateway_at_the_dialled_address_is_refused() -> anyhow::Result<()> {
    let line = standing("other-address")?;
    edit(&line.last, |text| text.replace("[\"gw2\"]", "[\"gw7\"]"))?;
    line.launch()?;
    let fault = halted(&line.last, "CULVERT-P013")?;
    ensure!(
        fault.contains("gw7") && fault.contains("gw2"),
        "not both are named: {fault}"
    );
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
fn a_source_topic_that_is_not_there_is_named_and_waited_for() -> anyhow::Result<()> {
    let plan = Plan::new("not-there");
    plan.target().create(PARTITIONS, &[])?;
    let line = plan.start()?;
    let fault = halted(&line.first, "CULVERT-K020")?;
    ensure!(fault.contains("not-there"), "the topic is not named: {fault}");
    let state = status(&line.first)?["connectors"][0]["state"].clone();
    ensure!(state == "waiting", "the connector is {state}");
    line.plan.source().create(PARTITIONS, &[])?;
    line.plan.source().write(PARTITIONS, 0, 300)?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 300, "{verdict}");
    let shown = status(&line.first)?;
    ensure!(shown["connectors"][0]["fault"].is_null(), "{shown}");
    line.assert_no_unlisted_alarms(&["CULVERT-K020"]);
    Ok(())
}

#[test]
fn a_target_topic_that_is_not_there_is_named() -> anyhow::Result<()> {
    let plan = Plan::new("no-target")
        .sink_key("topic.creation.default.partitions", "")
        .sink_key("topic.creation.default.replication.factor", "");
    plan.source().create(PARTITIONS, &[])?;
    plan.source().write(PARTITIONS, 0, 300)?;
    let line = plan.start()?;
    let fault = halted(&line.last, "CULVERT-K014")?;
    ensure!(fault.contains("no-target"), "the topic is not named: {fault}");
    // As its page says.
    line.plan.target().create(PARTITIONS, &[])?;
    line.last.restart()?;
    let verdict = line.judge(DEADLINE)?;
    ensure!(verdict.is_exactly_once() && verdict.sent == 300, "{verdict}");
    Ok(())
}

#[test]
fn a_broker_that_is_away_is_named() -> anyhow::Result<()> {
    let mut plan = Plan::new("nobody-there");
    plan.source_cluster = format!("127.0.0.1:{}", ports::free_tcp());
    plan.target_cluster = format!("127.0.0.1:{}", ports::free_tcp());
    // All are ready: what is away is waited for.
    let line = plan.start()?;
    for (gateway, address) in [
        (&line.first, &line.plan.source_cluster),
        (&line.last, &line.plan.target_cluster),
    ] {
        let fault = halted(gateway, "CULVERT-F040")?;
        ensure!(
            fault.contains(address.as_str()),
            "{address} is not named: {fault}"
        );
        let said = gateway.cli(&["status"])?;
        ensure!(said.status.success(), "waiting is no failure: {}", said.status);
    }
    Ok(())
}

#[test]
fn an_address_that_is_taken_is_named() -> anyhow::Result<()> {
    let line = standing("taken")?;
    let tunnel = UdpSocket::bind("127.0.0.1:0")?;
    edit(&line.first, |text| {
        let at = text.find("listen = ").unwrap_or(text.len());
        format!(
            "{}listen = \"{}\"\n{}",
            &text[..at],
            tunnel.local_addr().expect("it is bound"),
            after_line(&text[at..])
        )
    })?;
    ends_with_exit(&line.first, "CULVERT-L001", 3)?;
    let telemetry = TcpListener::bind(line.last.telemetry())?;
    ends_with_exit(&line.last, "CULVERT-C021", 3)?;
    drop((tunnel, telemetry));
    Ok(())
}

#[test]
fn a_damaged_outbox_is_named_and_moving_it_away_loses_nothing() -> anyhow::Result<()> {
    for (engine, code) in [("log", "CULVERT-O003"), ("sled", "CULVERT-O007")] {
        let settings = format!("outbox.engine = \"{engine}\"\noutbox.heal = \"never\"");
        let plan = Plan::new(&format!("damaged-{engine}")).setting(1, &settings);
        plan.source().create(PARTITIONS, &[])?;
        let line = plan.start()?;
        line.plan.source().write(PARTITIONS, 0, 30)?;
        line.arrived(30, DEADLINE)?;
        line.west.cut();
        line.plan.source().write(PARTITIONS, 30, 600)?;
        wait_for(DEADLINE, "600 records in the outbox", || {
            (line.first.metric("culvert_taken_in_records_total").ok()? >= 630.0).then_some(())
        })
        .with_context(|| account(&line.first))?;
        line.first.term()?;
        let outbox = line.first.directory().join("state/outbox");
        damage(&outbox.join("gen-1"), engine)?;
        ends_with_exit(&line.first, code, 1)?;
        // As its page says: the source can be read again.
        fs::rename(&outbox, line.first.directory().join("damaged"))?;
        line.west.heal();
        line.first.restart()?;
        let verdict = line.judge(DEADLINE)?;
        ensure!(
            verdict.is_exactly_once() && verdict.sent == 630,
            "{engine}: {verdict}"
        );
    }
    Ok(())
}

/// Spoils what a store holds durably: of plain segments a byte of a record, of sled the file that it trusts most.
fn damage(generation: &Path, engine: &str) -> anyhow::Result<()> {
    if engine == "sled" {
        return Ok(fs::write(generation.join("durability_cookie"), "spoiled")?);
    }
    for entry in fs::read_dir(generation)? {
        let file = entry?.path();
        let mut bytes = fs::read(&file)?;
        let record = b"{\"order\":100,";
        if let Some(at) = bytes.windows(record.len()).position(|window| window == record) {
            bytes[at + 2] ^= 1;
            return Ok(fs::write(&file, bytes)?);
        }
    }
    bail!("no segment in {} holds the record", generation.display())
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
    let exit = ended(gateway, code)?;
    ensure!(exit != 0, "ended with 0\n{}", account(gateway));
    Ok(())
}

/// As [`ends_with`], with this exit code.
fn ends_with_exit(gateway: &Gateway, code: &str, expected: i32) -> anyhow::Result<()> {
    let exit = ended(gateway, code)?;
    ensure!(
        exit == expected,
        "ended with {exit}, not {expected}\n{}",
        account(gateway)
    );
    Ok(())
}

fn ended(gateway: &Gateway, code: &str) -> anyhow::Result<i32> {
    gateway.launch()?;
    let exit =
        wait_for(DEADLINE, "the gateway to end", || gateway.exit_code()).with_context(|| account(gateway))?;
    ensure!(
        gateway.log()?.contains(code),
        "ended with {exit} and without {code}\n{}",
        account(gateway)
    );
    Ok(exit)
}

/// What follows the first line.
fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
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
