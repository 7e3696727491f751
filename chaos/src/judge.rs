//! The verdict: three judges who share no code, and the logs.

use crate::kafka::Reader;
use crate::site::{Site, TOPIC};
use crate::watch::Watch;
use anyhow::{Context, bail};
use culvert_tests::{Gateway, Ledger};
use std::time::Duration;

/// Waits until all that network 1 holds has arrived, and has it judged. Returns the number of records.
///
/// `whole`: also by the ledger, which keeps 32 bytes for each record and more while it compares.
///
/// # Errors
/// When it does not arrive within `deadline`, or a judge says no.
pub fn judge(site: &Site, watch: &Watch, deadline: Duration, whole: bool) -> anyhow::Result<u64> {
    let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
    let ends = source.ends()?;
    let count: u64 = ends.iter().sum();
    let drained = watch.reaches(&ends, deadline);
    drained.as_ref().map_or_else(|_| site.all_run(), |_| Ok(()))?;
    drained?;
    site.ready()?;
    // All are asked, also when one says no: where they disagree is where to look.
    let mut faults = Vec::new();
    let mut ask = |said: anyhow::Result<()>| faults.extend(said.err().map(|fault| format!("{fault:#}")));
    ask(proven(site, deadline));
    ask(verified(site, count));
    if whole {
        ask(compare(site, &source, count));
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    let view = watch.view();
    if let (Some(fault), _) | (None, Some(fault)) = (view.fault, surplus(view.total, count)) {
        bail!("{fault}");
    }
    no_panics(site)?;
    Ok(count)
}

/// Asks the product itself, after another judge has counted `count` records: its proof, and its look at the target alone
/// where that is not too much for one process's memory.
///
/// # Errors
/// When one of them says no, or a gateway has panicked.
pub fn agree(site: &Site, deadline: Duration, count: u64) -> anyhow::Result<()> {
    proven(site, deadline)?;
    if count <= VERIFIED_MAX {
        verified(site, count)?;
    }
    no_panics(site)
}

/// What `culvert verify` is asked to look at: it remembers something of each record.
const VERIFIED_MAX: u64 = 5_000_000;

fn proven(site: &Site, deadline: Duration) -> anyhow::Result<()> {
    let wait = format!("{}s", deadline.as_secs());
    let said = site.gateway(3).cli_ok(&["prove", "--wait", &wait]);
    said.map(drop).context("culvert prove")
}

fn verified(site: &Site, count: u64) -> anyhow::Result<()> {
    let (target, expect) = (site.target.bootstrap(), count.to_string());
    let arguments = ["--bootstrap", &target, "--topic", TOPIC, "--expect", &expect];
    let said = site.gateway(3).cli_ok(&[&["verify"], &arguments[..]].concat());
    said.map(drop).context("culvert verify")
}

/// What came after the count was reached is a duplicate.
fn surplus(total: u64, count: u64) -> Option<String> {
    (total != count).then(|| format!("{total} arrived, {count} were sent"))
}

fn compare(site: &Site, source: &Reader, count: u64) -> anyhow::Result<()> {
    let mut ledger = Ledger::default();
    source.take(count, |seen| {
        ledger.sent(seen.partition, seen.sequence, seen.hash);
    })?;
    let target = Reader::open(&site.target.bootstrap(), TOPIC, site.partitions)?;
    target.take(count, |seen| {
        ledger.arrived(seen.partition, seen.sequence, seen.hash);
    })?;
    let verdict = ledger.verdict();
    if !verdict.is_exactly_once() {
        bail!("the ledger says: {verdict}");
    }
    Ok(())
}

/// Panics are never right, whatever was broken.
fn no_panics(site: &Site) -> anyhow::Result<()> {
    for gateway in &site.gateways {
        let log = gateway.log()?;
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            bail!("a gateway panicked: {line}");
        }
    }
    Ok(())
}

/// The ERROR lines of all gateways, each kind once with its count: a person's first look at a run.
pub fn alarms(site: &Site) -> Vec<String> {
    let mut kinds = std::collections::BTreeMap::<String, u64>::new();
    let logs = site
        .gateways
        .iter()
        .filter_map(|gateway: &Gateway| gateway.log().ok());
    for line in logs.flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>()) {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else {
            continue;
        };
        let level = event["level"].as_str().unwrap_or_default();
        if matches!(level, "WARN" | "ERROR") {
            let message = event["message"].as_str().or(event["fields"]["message"].as_str());
            *kinds
                .entry(format!("{level} {}", message.unwrap_or(&line)))
                .or_default() += 1;
        }
    }
    kinds
        .into_iter()
        .map(|(kind, count)| format!("{count} x {kind}"))
        .collect()
}
