//! Receipts: what both ends have signed is checked elsewhere by others, who have the file and an authority, and nothing else.

use crate::cluster::{Record, send};
use crate::line::Plan;
use crate::pair::Pair;
use anyhow::{Context, ensure};
use culvert_tests::gateway::program;
use culvert_tests::{Gateway, Scratch, TestCa, wait_for};
use rdkafka::producer::Producer;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(90);

const WAIT: &str = "90s";

/// Somebody in a directory of their own, without a configuration, a gateway or an environment.
struct Auditor(Scratch);

impl Auditor {
    /// Gets copies of files of a gateway, and of the authority's certificate as `ca.pem`.
    fn with(gateway: &Gateway, files: &[&str], ca: &TestCa) -> anyhow::Result<Auditor> {
        let scratch = Scratch::new("auditor")?;
        for file in files {
            fs::copy(gateway.directory().join(file), scratch.path().join(file))?;
        }
        fs::copy(ca.certificate(), scratch.path().join("ca.pem"))?;
        Ok(Auditor(scratch))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn verifies(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let run = Command::new(program()?)
            .args(["prove", "--verify"])
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .output();
        run.with_context(|| format!("verify {arguments:?}"))
    }

    /// Everything holds. Answers what is said.
    fn believes(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.verifies(arguments)?;
        let said = said(&output);
        ensure!(
            output.status.success(),
            "{arguments:?}: {}: {said}",
            output.status
        );
        Ok(said)
    }

    /// It is refused with this code, and exit code 1.
    fn refuses(&self, arguments: &[&str], code: &str) -> anyhow::Result<()> {
        let output = self.verifies(arguments)?;
        let said = said(&output);
        ensure!(
            output.status.code() == Some(1) && said.contains(code),
            "{arguments:?}, not {code}: {}: {said}",
            output.status
        );
        Ok(())
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

/// `culvert prove --receipt`, which must not make one and ends with 1. Answers what was said.
fn nothing_is_signed(gateway: &Gateway, file: &str, more: &[&str]) -> anyhow::Result<String> {
    let arguments = [&["prove", "--receipt", file], more].concat();
    let output = gateway.cli(&arguments)?;
    let said = said(&output);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(
        !gateway.directory().join(file).exists(),
        "{file} is there: {said}"
    );
    Ok(said)
}

fn generated_to_sqlite(name: &str) -> anyhow::Result<Pair> {
    let source = json!({
        "connector.class": "io.culvert.generator.GeneratorSource",
        "topic": name, "partitions": "2", "count": "600",
    });
    let sink = json!({
        "connector.class": "io.culvert.sqlite.SqliteSink",
        "topics": name, "sqlite.path": "out.db",
    });
    let pair = Pair::start(name, &[source], &sink)?;
    wait_for(DEADLINE, "1,200 records in the file", || {
        (pair.last.metric("culvert_delivered_records_total").ok()? >= 1_200.0).then_some(())
    })
    .with_context(|| pair.account())?;
    Ok(pair)
}

#[test]
fn a_receipt_is_believed_elsewhere_and_the_next_one_follows_it() -> anyhow::Result<()> {
    let pair = generated_to_sqlite("signed")?;
    let gateway = &pair.last;
    let first = gateway
        .cli_ok(&["prove", "--wait", WAIT, "--receipt", "first.json"])
        .with_context(|| pair.account())?;
    ensure!(
        first.matches("begins a new chain").count() == 2 && first.contains("signed by both ends: first.json"),
        "{first}"
    );
    // The chain outlives the process.
    gateway.restart()?;
    let part = ["--stream", "site1/signed/0", "--from", "100", "--to", "300"];
    let second = gateway
        .cli_ok(
            &[
                &["prove", "--receipt", "second.json", "--output", "json"],
                &part[..],
            ]
            .concat(),
        )
        .with_context(|| pair.account())?;
    let second: Value = serde_json::from_str(&second)?;
    ensure!(
        second["receipt_file"] == "second.json" && second["streams"][0]["receipt"]["count"] == 200,
        "{second}"
    );
    let again = gateway.cli(&["prove", "--receipt", "second.json"])?;
    ensure!(again.status.code() == Some(2), "{}", said(&again));

    let auditor = Auditor::with(gateway, &["first.json", "second.json"], &pair.ca)?;
    pair.first.kill9()?;
    pair.last.kill9()?;
    let believed = auditor.believes(&["first.json", "--ca", "ca.pem"])?;
    ensure!(
        believed.contains("holds: 1,200 records in 2 receipts") && !believed.contains("NOT PROVEN"),
        "{believed}"
    );
    let unproven = auditor.believes(&["first.json"])?;
    ensure!(
        unproven.matches("NOT PROVEN without --ca").count() == 2,
        "{unproven}"
    );
    let followed = auditor.believes(&[
        "second.json",
        "--ca",
        "ca.pem",
        "--after",
        "first.json",
        "--output",
        "json",
    ])?;
    let followed: Value = serde_json::from_str(&followed)?;
    for (pointer, expected) in [
        ("/verdict", json!("holds")),
        ("/names_proven", json!(true)),
        ("/follows", json!(true)),
        (
            "/receipts/0/before",
            second["streams"][0]["receipt"]["before"].clone(),
        ),
        (
            "/receipts/0/hash",
            second["streams"][0]["receipt"]["hash"].clone(),
        ),
        ("/receipts/0/origin/gateway", json!("spiffe://suite.test/gw1")),
        ("/receipts/0/sink/gateway", json!("spiffe://suite.test/gw2")),
        ("/receipts/0/origin/first", json!(100)),
        ("/receipts/0/sink/last", json!(299)),
        ("/receipts/0/sink/count", json!(200)),
    ] {
        ensure!(
            followed.pointer(pointer) == Some(&expected),
            "{pointer} in {followed}"
        );
    }
    let (origin, sink) = (
        &followed["receipts"][0]["origin"],
        &followed["receipts"][0]["sink"],
    );
    ensure!(origin["content"] == sink["content"] && origin["before"] == sink["before"]);

    auditor.refuses(&["first.json", "--after", "second.json"], "CULVERT-F065")?;
    let stranger = TestCa::new("stranger")?;
    let stranger = stranger.certificate().display().to_string();
    auditor.refuses(&["first.json", "--ca", &stranger], "CULVERT-F062")?;
    let absent = auditor.verifies(&["nowhere.json"])?;
    ensure!(absent.status.code() == Some(3), "{}", said(&absent));
    changed(&auditor)
}

/// A byte here and there; each byte in turn is a test of the room itself.
fn changed(auditor: &Auditor) -> anyhow::Result<()> {
    let bytes = fs::read(auditor.path().join("second.json"))?;
    for at in (0..bytes.len()).step_by(bytes.len() / 12) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(auditor.path().join("changed.json"), &changed)?;
        auditor.refuses(&["changed.json", "--ca", "ca.pem"], "CULVERT-F06")?;
        let judged = auditor.verifies(&["changed.json", "--output", "json"])?;
        let judged: Value = serde_json::from_slice(&judged.stdout)?;
        ensure!(judged["verdict"] == "refused", "{judged}");
    }
    Ok(())
}

#[test]
fn a_record_that_is_missing_leaves_no_receipt_and_no_link() -> anyhow::Result<()> {
    let pair = generated_to_sqlite("unsigned")?;
    let gateway = &pair.last;
    gateway
        .cli_ok(&["prove", "--wait", WAIT, "--receipt", "first.json"])
        .with_context(|| pair.account())?;
    let file = rusqlite::Connection::open(gateway.directory().join("out.db"))?;
    file.busy_timeout(DEADLINE)?;
    let robbed = file.execute("DELETE FROM unsigned WHERE sequence = 321 AND partition = 0", ())?;
    ensure!(robbed == 1, "the row is there to be deleted");
    let said = nothing_is_signed(gateway, "second.json", &[])?;
    for words in ["record 321 is missing", "no receipts", "CULVERT-F067", "broken"] {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    let said = nothing_is_signed(gateway, "second.json", &["--stream", "site1/unsigned/7"])?;
    ensure!(said.contains("CULVERT-F069"), "{said}");
    let beyond = ["--stream", "site1/unsigned/1", "--to", "601"];
    let said = nothing_is_signed(gateway, "second.json", &beyond)?;
    ensure!(
        said.contains("CULVERT-F069") && said.contains("[0, 600)"),
        "{said}"
    );

    // Nothing of that is a link: what comes next follows the first receipt, beside the hole and in the other stream.
    let whole = [
        "prove",
        "--receipt",
        "second.json",
        "--stream",
        "site1/unsigned/1",
    ];
    gateway.cli_ok(&whole).with_context(|| pair.account())?;
    let beside = ["--stream", "site1/unsigned/0", "--from", "322"];
    gateway
        .cli_ok(&[&["prove", "--receipt", "third.json"], &beside[..]].concat())
        .with_context(|| pair.account())?;
    let auditor = Auditor::with(gateway, &["first.json", "second.json", "third.json"], &pair.ca)?;
    for file in ["second.json", "third.json"] {
        auditor.believes(&[file, "--ca", "ca.pem", "--after", "first.json"])?;
    }

    // A lost link begins a new chain, a damaged one is named.
    let links = gateway.directory().join("state/receipts");
    for link in fs::read_dir(&links)? {
        fs::write(link?.path(), "{}")?;
    }
    let said = nothing_is_signed(gateway, "fourth.json", &["--stream", "site1/unsigned/1"])?;
    ensure!(
        said.contains("CULVERT-F068") && said.contains("state/receipts/"),
        "{said}"
    );
    fs::remove_dir_all(&links)?;
    let fourth = gateway.cli_ok(&[
        "prove",
        "--receipt",
        "fourth.json",
        "--stream",
        "site1/unsigned/1",
    ])?;
    ensure!(fourth.contains("begins a new chain"), "{fourth}");
    Ok(())
}

#[test]
fn a_receipt_crosses_a_relay_and_is_of_the_records_in_a_topic() -> anyhow::Result<()> {
    let plan = Plan::new("sealed");
    let topic = plan.source();
    topic.create(3, &[])?;
    topic.write(3, 0, 300)?;
    let line = plan.start()?;
    line.judge(DEADLINE)?;
    let gateway = &line.last;
    gateway
        .cli_ok(&["prove", "--wait", WAIT, "--receipt", "first.json"])
        .with_context(|| line.statuses())?;
    let part = ["--stream", "site1/sealed/1", "--from", "20", "--to", "70"];
    gateway
        .cli_ok(&[&["prove", "--receipt", "second.json"], &part[..]].concat())
        .with_context(|| line.statuses())?;
    let auditor = Auditor::with(gateway, &["first.json", "second.json"], &line.ca)?;
    let believed = auditor.believes(&["first.json", "--ca", "ca.pem"])?;
    ensure!(
        believed.contains("holds: 300 records in 3 receipts")
            && believed.contains("spiffe://suite.test/gw1 signed for site site1")
            && believed.contains("spiffe://suite.test/gw3 signed for site site3"),
        "{believed}"
    );
    let part = auditor.believes(&["second.json", "--ca", "ca.pem", "--after", "first.json"])?;
    ensure!(
        part.contains("[20, 70)") && part.contains("holds: 50 records"),
        "{part}"
    );

    // A record once more in the target, behind the part that is asked for: no receipt of either.
    let target = line.plan.target();
    let producer = target.producer(&[])?;
    send(&producer, &target.name, &Record::order(151, 3))?;
    producer.flush(DEADLINE)?;
    let part = ["--stream", "site1/sealed/1", "--from", "20", "--to", "40"];
    let said = nothing_is_signed(gateway, "third.json", &part)?;
    for words in ["record 50 is there more than once", "CULVERT-F067"] {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    gateway
        .cli_ok(&["prove", "--receipt", "third.json", "--stream", "site1/sealed/2"])
        .with_context(|| line.statuses())?;
    line.assert_no_unlisted_alarms(&[]);
    Ok(())
}
