//! A plugin as the sink: every record once and in order, whichever gateway is killed (S1, S2, S3, S8), and what the plugin
//! refuses or fails at costs one record (S10). No broker is needed: the plugin, `plugins/leaky-sink`, writes a file that is
//! read here.

use crate::faults::Kills;
use crate::line::{CUTS, status};
use crate::pair::Pair;
use anyhow::{Context, bail, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Scratch, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(90);

const PARTITIONS: u64 = 3;

/// Kills in one run, unless `CULVERT_SUITE_KILLS` says another number.
const KILLS: usize = 12;

/// Two gateways, and a file that the second one's plugin writes.
struct Leaky {
    pair: Pair,
    file: PathBuf,
    _scratch: Scratch,
}

impl Leaky {
    /// `count` records in each stream, `rate` in a second, made by the generator.
    fn generated(name: &str, count: u64, rate: u64) -> anyhow::Result<Leaky> {
        let source = json!({
            "connector.class": "io.culvert.generator.GeneratorSource",
            "topic": name, "partitions": PARTITIONS.to_string(),
            "count": count.to_string(), "rate": rate.to_string(),
        });
        Leaky::start(name, Scratch::new(name)?, &[source], name, &[])
    }

    /// Each topic has these lines as values, behind one another in one stream.
    fn lines(name: &str, topics: &[(&str, Vec<String>)], more: &[(&str, &str)]) -> anyhow::Result<Leaky> {
        let scratch = Scratch::new(name)?;
        let mut sources = Vec::new();
        for (topic, lines) in topics {
            let log = scratch.write(&format!("{topic}.log"), &(lines.join("\n") + "\n"))?;
            sources.push(json!({
                "connector.class": "file-source", "file": log, "topic": topic, "batch.size": "100",
                "poll.interval": "50ms",
            }));
        }
        let names: Vec<&str> = topics.iter().map(|(topic, _)| *topic).collect();
        Leaky::start(name, scratch, &sources, &names.join(","), more)
    }

    fn start(
        name: &str,
        scratch: Scratch,
        sources: &[Value],
        topics: &str,
        more: &[(&str, &str)],
    ) -> anyhow::Result<Leaky> {
        let file = scratch.path().join("out.txt");
        let mut sink = json!({ "connector.class": "leaky-sink", "topics": topics, "file": file });
        for (key, value) in more {
            sink[*key] = json!(value);
        }
        let pair = Pair::start(name, sources, &sink)?;
        Ok(Leaky {
            pair,
            file,
            _scratch: scratch,
        })
    }

    /// Waits until so many records count, dead letters among them.
    fn wait(&self, all: u64) -> anyhow::Result<()> {
        wait_for(DEADLINE, "all records in the file", || {
            (delivered(&self.file) >= all).then_some(())
        })
        .with_context(|| self.pair.account())
    }

    /// Waits for all records of all streams, and looks that each is there once, in order.
    fn judge(&self, count: u64) -> anyhow::Result<()> {
        self.wait(count * PARTITIONS)?;
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
}

/// How many records count, as the plugin's own state says.
pub(crate) fn delivered(file: &Path) -> u64 {
    let state = file.with_extension("txt.state");
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

/// Code and place of each dead letter, in the order of places.
fn dead_letters(file: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let mut letters = Vec::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let Some(letter) = line.strip_prefix('!') else {
            continue;
        };
        let mut words = letter.split('\t');
        let (code, place) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
        letters.push((
            code.to_owned(),
            place.parse().with_context(|| format!("{line:?}"))?,
        ));
    }
    letters.sort_by_key(|(_, place)| *place);
    Ok(letters)
}

#[test]
fn killing_gateways_loses_and_doubles_nothing_in_a_plugins_target() -> anyhow::Result<()> {
    let mut kills = Kills::new("plugin sinks", KILLS)?;
    // Enough records for a kill every half a second.
    let (rate, count) = (3_000, kills.count as u64 * 500 + 2_000);
    let leaky = Leaky::generated("plugin-killed", count, rate)?;
    let (first, last) = (&leaky.pair.first, &leaky.pair.last);
    let took = kills
        .carry_out(&[first, last, last], count * PARTITIONS, || {
            delivered(&leaky.file)
        })
        .with_context(|| leaky.pair.account())?;
    leaky
        .judge(count)
        .with_context(|| format!("seed {}", kills.seed))?;
    leaky.pair.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "plugin sink: {} kills in {:.0} s, {} records in {PARTITIONS} streams, each once and in order (seed {})",
        kills.count,
        took.as_secs_f64(),
        count * PARTITIONS,
        kills.seed
    ));
    Ok(())
}

#[test]
fn what_a_plugin_promises_is_what_status_says() -> anyhow::Result<()> {
    let leaky = Leaky::generated("plugin-status", 1_000, 10_000)?;
    leaky.judge(1_000)?;
    let sink = leaky.pair.sink()?;
    ensure!(sink["guarantee"] == "exactly-once", "{sink}");
    ensure!(sink["class"] == "io.culvert.plugin.leaky-sink", "{sink}");
    let used: &Value = &sink["stages"][0];
    ensure!(used["records"].as_u64() >= Some(3_000), "{used}");
    leaky.pair.assert_no_unlisted_alarms(&[]);
    Ok(())
}

/// Words that `leaky-sink` obeys, and what the dead letter is called.
const AT_FAULT: [(usize, &str, &str); 3] = [
    (400, "refuse", "asked-for"),
    (900, "panic", "plugin-trap"),
    (1_400, "spin", "plugin-timeout"),
];

fn numbers_with(count: usize, faults: &[(usize, &str, &str)]) -> Vec<String> {
    let word = |number: usize| faults.iter().find(|(at, ..)| *at == number);
    (0..count)
        .map(|number| word(number).map_or_else(|| number.to_string(), |(_, word, _)| (*word).to_owned()))
        .collect()
}

/// S10: of 2,000 records three cannot be written; each is one dead letter, in the same file, and all others are there.
#[test]
fn what_a_plugin_refuses_or_fails_at_is_one_dead_letter_and_all_others_arrive() -> anyhow::Result<()> {
    const COUNT: usize = 2_000;
    let mut kills = Kills::new("poison at a plugin sink", 5)?;
    let lines = numbers_with(COUNT, &AT_FAULT);
    let leaky = Leaky::lines(
        "plugin-poison",
        &[("orders", lines)],
        &[("errors.tolerance", "all"), ("culvert.time.max", "300ms")],
    )?;
    kills.count = kills.count.min(5);
    let last = &leaky.pair.last;
    // Each kill makes it look for the record at fault anew.
    for _ in 0..kills.count {
        std::thread::sleep(Duration::from_millis(700));
        last.kill9()?;
        last.launch()?;
    }
    leaky.wait(COUNT as u64)?;
    let letters = dead_letters(&leaky.file)?;
    let expected = AT_FAULT.map(|(at, _, code)| (code.to_owned(), at as u64));
    ensure!(letters == expected, "{letters:?}");
    let streams = streams(&leaky.file)?;
    let places = streams.values().next().context("one stream")?;
    let is_fine = |place: &u64| AT_FAULT.iter().all(|(at, ..)| *at as u64 != *place);
    ensure!(
        places.iter().copied().eq((0..COUNT as u64).filter(is_fine)),
        "{} lines",
        places.len()
    );
    let status = status(&leaky.pair.last)?;
    ensure!(status["connectors"][0]["state"] == "running", "{status}");
    leaky.pair.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "plugin sink: 3 records of {COUNT} at fault, {} kills while they are looked for: {} arrived in order, 3 dead letters",
        kills.count,
        places.len()
    ));
    Ok(())
}

/// Without dead letters the stream stands in front of the record and says which, and others go on (L3).
#[test]
fn a_record_that_a_plugin_cannot_write_stops_its_stream_and_no_other() -> anyhow::Result<()> {
    const COUNT: usize = 600;
    for (_, word, code) in AT_FAULT {
        let lines = numbers_with(COUNT, &[(300, word, code)]);
        let whole = numbers_with(COUNT, &[]);
        let leaky = Leaky::lines(
            &format!("plugin-{word}"),
            &[("bad", lines), ("good", whole)],
            &[("culvert.time.max", "300ms")],
        )?;
        let halted = wait_for(DEADLINE, "the stream to stand", || {
            let sink = leaky.pair.sink().ok()?;
            let streams = sink["streams"].as_array()?.iter();
            let is_halted = |stream: &&Value| stream["fault"]["code"] == "CULVERT-F012";
            streams.clone().find(is_halted).cloned()
        })
        .with_context(|| leaky.pair.account())?;
        let text = halted.to_string();
        ensure!(
            text.contains("/bad/") && text.contains("record 300"),
            "{word}: {text}"
        );
        wait_for(DEADLINE, "the other stream", || {
            let streams = streams(&leaky.file).ok()?;
            let good = streams.iter().find(|(stream, _)| stream.contains("/good/"))?;
            (good.1.len() == COUNT).then_some(())
        })
        .with_context(|| leaky.pair.account())?;
        let bad = streams(&leaky.file)?
            .into_iter()
            .find(|(stream, _)| stream.contains("/bad/"));
        let places = bad.map(|(_, places)| places).unwrap_or_default();
        ensure!(
            places.len() <= 300 && places.iter().copied().eq(0..places.len() as u64),
            "{word}: {places:?}"
        );
    }
    Ok(())
}

/// What a stage before the plugin refuses is shown to the plugin as a dead letter, in the call with the others.
#[test]
fn what_a_stage_refuses_is_kept_by_the_plugin_behind_it() -> anyhow::Result<()> {
    const COUNT: usize = 500;
    let lines = numbers_with(
        COUNT,
        &[(100, "reject", ""), (200, "drop", ""), (300, "panic", "")],
    );
    let leaky = Leaky::lines(
        "plugin-staged",
        &[("orders", lines)],
        &[
            ("errors.tolerance", "all"),
            ("transforms", "obey"),
            ("transforms.obey.type", "hostile"),
        ],
    )?;
    leaky.wait(COUNT as u64)?;
    let letters = dead_letters(&leaky.file)?;
    ensure!(
        letters == [("told-to".to_owned(), 100), ("plugin-trap".to_owned(), 300)],
        "{letters:?}"
    );
    let streams = streams(&leaky.file)?;
    let places = streams.values().next().context("one stream")?;
    ensure!(places.len() == COUNT - 3 && places.is_sorted(), "{places:?}");
    leaky.pair.assert_no_unlisted_alarms(&[]);
    Ok(())
}
