//! A plugin as the sink: every record once and in order, whichever gateway is killed (S1, S2, S3, S8), and what the plugin
//! refuses or fails at costs one record (S10). No broker is needed: a generator makes the records, and the plugin,
//! `plugins/leaky-sink`, writes a file that is read here.

use crate::line::{CUTS, DOMAIN, account, head, status};
use anyhow::{Context, bail, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Gateway, Scratch, TestCa, ports, wait_for, workspace};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

const PARTITIONS: u64 = 3;

/// Kills in one run, unless `CULVERT_SUITE_KILLS` says another number.
const KILLS: usize = 12;

/// Two gateways, and a file that the second one's plugin writes.
struct Pair {
    first: Gateway,
    last: Gateway,
    file: PathBuf,
    _target: Scratch,
    _ca: TestCa,
}

impl Pair {
    /// `count` records in each stream, `rate` in a second, into the plugin with more keys of its own.
    fn start(name: &str, count: u64, rate: u64, more: &[(&str, &str)]) -> anyhow::Result<Pair> {
        let (ca, target) = (TestCa::new("suite")?, Scratch::new(name)?);
        let tunnel: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free_udp()).into();
        let file = target.path().join("out.txt");
        let first = format!(
            "{head}[[peer]]\nsite = \"site2\"\ngateways = [\"gw2\"]\n[[grant]]\nto = \"site2\"\ntopics = [\"*\"]\n",
            head = head("gw1", "site1", &ca.gateway(DOMAIN, "gw1")?, Some(tunnel), ""),
        );
        let source = json!({
            "name": name,
            "connector.class": "io.culvert.generator.GeneratorSource",
            "topic": name, "partitions": PARTITIONS.to_string(),
            "count": count.to_string(), "rate": rate.to_string(),
        });
        let plugins = format!(
            "plugins.directory = {:?}\n",
            workspace().join("target/plugins/tests")
        );
        let last = format!(
            "{head}[[peer]]\nsite = \"site1\"\ngateways = [\"gw1\"]\naddress = [\"{tunnel}\"]\n",
            head = head("gw2", "site2", &ca.gateway(DOMAIN, "gw2")?, None, &plugins),
        );
        let mut sink = json!({
            "name": name, "connector.class": "leaky-sink",
            "topics": name, "culvert.from": "site1", "file": file,
        });
        for (key, value) in more {
            sink[*key] = json!(value);
        }
        let pair = Pair {
            first: Gateway::prepare("gw1", &first, &[("source", &source.to_string())])?,
            last: Gateway::prepare("gw2", &last, &[("sink", &sink.to_string())])?,
            file,
            _target: target,
            _ca: ca,
        };
        pair.first.launch()?;
        pair.last.launch()?;
        Ok(pair)
    }

    /// Waits for all records of all streams, and looks that each is there once, in order.
    fn judge(&self, count: u64) -> anyhow::Result<()> {
        let all = count * PARTITIONS;
        wait_for(DEADLINE, "all records in the file", || {
            (delivered(&self.file) >= all).then_some(())
        })
        .with_context(|| self.account())?;
        let streams = streams(&self.file)?;
        ensure!(streams.len() as u64 == PARTITIONS, "{} streams", streams.len());
        for (stream, places) in streams {
            ensure!(
                places.iter().copied().eq(0..count),
                "{stream}: {} lines, not 0 to {count} in order: {:?}",
                places.len(),
                places.iter().zip(0..).find(|(place, wanted)| *place != wanted)
            );
        }
        Ok(())
    }

    fn account(&self) -> String {
        format!("{}{}", account(&self.first), account(&self.last))
    }
}

/// How many records count, as the plugin's own state says.
fn delivered(file: &Path) -> u64 {
    let state = file.with_file_name("out.txt.state");
    let text = std::fs::read_to_string(state).unwrap_or_default();
    let place = |line: &str| {
        line.split('\t')
            .nth(2)
            .and_then(|place| place.parse::<u64>().ok())
    };
    text.lines().filter_map(place).sum()
}

/// The places of each stream, in the order of the file. Dead letters are no part of it.
fn streams(file: &Path) -> anyhow::Result<BTreeMap<String, Vec<u64>>> {
    let mut streams: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in std::fs::read_to_string(file)?
        .lines()
        .filter(|line| !line.starts_with('!'))
    {
        let mut words = line.split('\t');
        let (Some(stream), Some(place)) = (words.next(), words.next()) else {
            bail!("a line that is none: {line:?}");
        };
        let place = place.parse().with_context(|| format!("{line:?}"))?;
        streams.entry(stream.to_owned()).or_default().push(place);
    }
    Ok(streams)
}

#[test]
fn killing_gateways_loses_and_doubles_nothing_in_a_plugins_target() -> anyhow::Result<()> {
    let kills = match std::env::var("CULVERT_SUITE_KILLS") {
        Ok(kills) => kills.parse().context("CULVERT_SUITE_KILLS is a number")?,
        Err(_) => KILLS,
    };
    let seed = std::env::var("CULVERT_SUITE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    // Enough records for a kill every half a second.
    let (rate, count) = (3_000, kills as u64 * 500 + 2_000);
    let pair = Pair::start("plugin-killed", count, rate, &[])?;
    wait_for(DEADLINE, "the first records", || {
        (delivered(&pair.file) > 0).then_some(())
    })
    .with_context(|| pair.account())?;
    let started = Instant::now();
    for _ in 0..kills {
        let victim = if dice.random_bool(0.7) {
            &pair.last
        } else {
            &pair.first
        };
        let before = delivered(&pair.file);
        victim.kill9()?;
        victim.launch()?;
        // Killed again while it starts, now and then; else once something new was written.
        if dice.random_bool(0.8) {
            let all = count * PARTITIONS;
            wait_for(DEADLINE, "records after a kill", || {
                let now = delivered(&pair.file);
                (now > before || now == all).then_some(())
            })
            .with_context(|| format!("seed {seed}\n{}", pair.account()))?;
        }
    }
    pair.judge(count).with_context(|| format!("seed {seed}"))?;
    pair.first.assert_no_unlisted_alarms(CUTS);
    pair.last.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "plugin sink: {kills} kills in {:.0} s, {} records in {PARTITIONS} streams, each once and in order (seed {seed})",
        started.elapsed().as_secs_f64(),
        count * PARTITIONS
    ));
    Ok(())
}

#[test]
fn what_a_plugin_promises_is_what_status_says() -> anyhow::Result<()> {
    let pair = Pair::start("plugin-status", 1_000, 10_000, &[])?;
    pair.judge(1_000)?;
    let status = status(&pair.last)?;
    let sink: &Value = &status["connectors"][0];
    ensure!(sink["guarantee"] == "exactly-once", "{sink}");
    ensure!(sink["class"] == "io.culvert.plugin.leaky-sink", "{sink}");
    let used: &Value = &sink["stages"][0];
    ensure!(used["records"].as_u64() >= Some(3_000), "{used}");
    pair.last.assert_no_unlisted_alarms(&[]);
    Ok(())
}
