//! A gateway's program is replaced while it runs, as a package does it: another file takes the name, and the process is ended
//! and started again. Until then the old program goes on, whatever has its name (S1, S2, S8).

use crate::cluster::{Load, Tail};
use crate::line::{CUTS, Plan};
use crate::pair::{Pair, generated, sqlite};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::gateway::program;
use culvert_tests::{Gateway, Scratch, wait_for};
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(90);

const PARTITIONS: i32 = 3;

/// Records a second meanwhile.
const RATE: u64 = 1_000;

#[test]
fn a_program_that_is_replaced_under_load_loses_and_doubles_nothing() -> anyhow::Result<()> {
    let plan = Plan::new("upgraded");
    let (topic, target) = (plan.source(), plan.target());
    topic.create(PARTITIONS, &[])?;
    let host = Scratch::new("upgrade")?;
    let mut line = plan.prepare()?;
    let installed = [&mut line.first, &mut line.relay, &mut line.last].map(|gateway| {
        let path = host.path().join(format!("culvert-{}", gateway.name()));
        gateway.set_program(path.clone());
        path
    });
    for path in &installed {
        install(path, 0)?;
    }
    line.launch()?;
    let load = Load::start(&topic, PARTITIONS, 0, RATE);
    let mut tail = wait_for(DEADLINE, "the target topic", || Tail::open(&target).ok())?;
    line.more(&mut tail, RATE / 2, DEADLINE)?;

    let mut pauses = Vec::new();
    for round in 1..=2 {
        for (gateway, path) in line.gateways().into_iter().zip(&installed).rev() {
            let before = executable(gateway)?;
            ensure!(before == *path, "{} runs {}", gateway.name(), before.display());
            install(path, round)?;
            ensure!(
                executable(gateway)? != *path,
                "the old program has its name still"
            );
            line.more(&mut tail, RATE / 2, DEADLINE)
                .context("the old program, without its name")?;
            let ended = Instant::now();
            // In good order first; in the second round as where its host loses power.
            match round {
                1 => ensure!(gateway.term()? == 0, "{} does not end well", gateway.name()),
                _ => gateway.kill9()?,
            }
            gateway.restart()?;
            pauses.push(ended.elapsed());
            ensure!(
                executable(gateway)? == *path,
                "{} runs the old program",
                gateway.name()
            );
            line.more(&mut tail, RATE / 2, DEADLINE)
                .context("the new program")?;
        }
    }
    let verdict = line.judge_load(load, DEADLINE)?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "upgrade: {} programs replaced at {RATE} records/s, half of them killed; from the end of the old one to the new one's \
         being ready at most {} ms; {} records, each once",
        pauses.len(),
        pauses.iter().max().map_or(0, Duration::as_millis),
        verdict.sent
    ));
    Ok(())
}

/// What is done in a process of its own (compiling plugins, looking at a store of sled) is done by the program that runs, also
/// where its file is gone: what another version compiles it could not read.
#[test]
fn a_program_whose_file_is_gone_still_compiles_its_plugins() -> anyhow::Result<()> {
    let host = Scratch::new("upgrade")?;
    let file = host.path().join("culvert");
    let mut source = generated(500);
    source["transforms"] = json!("policy");
    source["transforms.policy.type"] = json!("field-policy");
    source["transforms.policy.drop"] = json!("/debug");
    let mut pair = Pair::prepare("nameless", &[source], &sqlite())?;
    pair.first.set_program(file.clone());
    pair.first.set_env("CULVERT_OUTBOX__ENGINE", "sled");
    // The shell opens the file, takes its name away, and becomes what it opened.
    pair.first.run_within(&[
        "sh",
        "-c",
        "exec 9<\"$0\" && rm \"$0\" && exec /proc/self/fd/9 \"$@\"",
    ]);
    // The second life finds a store to look at.
    for _ in 0..2 {
        install(&file, 0)?;
        pair.first.restart()?;
        ensure!(
            !file.exists() && executable(&pair.first)? != file,
            "its file is still there"
        );
    }
    pair.last.launch()?;
    pair.delivered(500, DEADLINE);
    pair.assert_no_unlisted_alarms(&[]);
    Ok(())
}

/// Puts a program at `path`, as a package does: written beside it, then renamed. Each `version` is a file of its own bytes.
fn install(path: &Path, version: u8) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::copy(program()?, &new).context("copy the program")?;
    // What stands behind the last section of an executable is not looked at.
    fs::OpenOptions::new()
        .append(true)
        .open(&new)?
        .write_all(&[version; 16])?;
    fs::rename(&new, path).context("rename the program")
}

/// The file that a gateway's process runs. Without a name it is called "… (deleted)".
fn executable(gateway: &Gateway) -> anyhow::Result<PathBuf> {
    let id = gateway.id().context("it runs")?;
    Ok(fs::read_link(format!("/proc/{id}/exe"))?)
}
