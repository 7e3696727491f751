//! A plugin at either end of three gateways, and no outside system that could help: the source keeps its place and its sum in
//! this line alone, the sink its position in its own file. Whatever is killed, every number is there once, in order, with the
//! right sum (S1, S2, S3, S8).

use crate::faults::Kills;
use crate::line::{CUTS, Plan};
use crate::plugin_sinks::delivered;
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::{Scratch, wait_for, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(300);

/// Kills in one run, unless `CULVERT_SUITE_KILLS` says another number; the promise is 200.
const KILLS: usize = 15;

/// Numbers between two kills. With a page of 20 every 10 ms, about 2,000 come in a second, while the source runs.
const NUMBERS_PER_KILL: u64 = 800;

#[test]
fn a_source_with_state_and_a_sink_with_tokens_survive_kills_of_every_gateway() -> anyhow::Result<()> {
    let mut kills = Kills::new("plugin line", KILLS)?;
    let count = (kills.count as u64 + 4) * NUMBERS_PER_KILL;
    let scratch = Scratch::new("plugin-line")?;
    let file = scratch.path().join("out.txt");
    let directory = format!(
        "plugins.directory = {:?}",
        workspace().join("target/plugins/tests")
    );
    let mut plan = Plan::of_plugins("plugin-line", "ledger", "leaky-sink")
        .setting(1, &directory)
        .setting(3, &directory)
        .source_key("culvert.grant.state", "true")
        .source_key("count", &count.to_string())
        .source_key("page", "20")
        .source_key("pause", "10ms")
        .sink_key("file", &file.display().to_string());
    plan.topics = [0, 1, 2]
        .map(|number| format!("{}-{number}", plan.name))
        .join(",");
    let line = plan.start()?;
    let [first, relay, last] = line.gateways();
    let started = Instant::now();
    let took = kills
        .carry_out(&[first, first, relay, last, last], count, || delivered(&file))
        .with_context(|| line.statuses())?;
    wait_for(DEADLINE, "all numbers in the file", || {
        (delivered(&file) >= count).then_some(())
    })
    .with_context(|| line.statuses())?;
    judge(&file, count).with_context(|| format!("seed {}", kills.seed))?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "plugins at both ends: {} kills in {:.0} s, {count} numbers in {:.0} s, each once, in order, with the right sum (seed {})",
        kills.count,
        took.as_secs_f64(),
        started.elapsed().as_secs_f64(),
        kills.seed
    ));
    Ok(())
}

/// Every number below `count` is there once, behind the lower ones of its stream, with the sum of all up to it; every place
/// of each stream is there once, in order; and nothing lies in the file that does not count.
fn judge(file: &Path, count: u64) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let state = std::fs::read_to_string(file.with_extension("txt.state"))?;
    let counts: usize = state.lines().nth(1).context("a line with the length")?.parse()?;
    ensure!(
        counts == text.len(),
        "{} bytes count, and {} are there",
        counts,
        text.len()
    );
    let mut streams: BTreeMap<&str, (u64, Option<u64>)> = BTreeMap::new();
    let mut seen = vec![false; usize::try_from(count)?];
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [stream, place, value] = words.as_slice() else {
            anyhow::bail!("a line that is none: {line:?}");
        };
        let value: Value = serde_json::from_str(value).with_context(|| format!("{line:?}"))?;
        let field = |name: &str| value[name].as_u64().context("each has its number and sum");
        let (number, sum) = (field("number")?, field("sum")?);
        ensure!(sum == number * (number + 1) / 2, "{line:?}: the sum is wrong");
        let (next, before) = streams.entry(stream).or_default();
        ensure!(place.parse() == Ok(*next), "{line:?}: not place {next}");
        ensure!(
            before.is_none_or(|before| before < number),
            "{line:?}: out of order"
        );
        (*next, *before) = (*next + 1, Some(number));
        let seen = seen
            .get_mut(usize::try_from(number)?)
            .with_context(|| format!("{line:?}: never sent"))?;
        ensure!(!std::mem::replace(seen, true), "{line:?}: twice");
    }
    let lost = seen.iter().filter(|seen| !**seen).count();
    ensure!(lost == 0, "{lost} numbers of {count} are lost");
    ensure!(streams.len() == 3, "{} streams", streams.len());
    Ok(())
}
