//! `cargo xtask bench`: how fast, at what cost, beside what.
//!
//! - `micro`: parts in one thread (criterion): records into frames and batches and back, appending to either outbox.
//! - `starts`: how soon a new pair of gateways delivers its first record.
//! - `plugins`: what plugins cost, beside the same work natively.
//! - `mirror`, `mm2`: the whole product from broker to broker, beside librdkafka alone and beside MirrorMaker 2.
//!
//! Everything is built with the profile `bench-fast`. The whole takes the machine for itself: the table has a column for
//! what strangers used of it meanwhile.

mod plugins;

use crate::{prepare, steps};
use anyhow::Context;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    verb: Verb,
    /// Enough to see that it works, too short to be quoted.
    #[arg(long)]
    quick: bool,
    /// Only these mirrors: plain, log, sled, relayed, mm2.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out the paced load.
    #[arg(long)]
    no_latency: bool,
    /// Where `benchmarks.md` and `benchmarks.json` are written; `docs` unless `--quick`.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Verb {
    /// Parts, in one thread.
    Micro,
    /// From broker to broker with either outbox, beside librdkafka alone.
    Mirror,
    /// From broker to broker, beside MirrorMaker 2.
    Mm2,
    /// First starts, on brokers that are warm.
    Starts,
    /// Plugins: per record, beside native code, memory, a looping neighbour, starts.
    Plugins,
    /// All of them but plugins.
    All,
}

const PROFILE: [&str; 2] = ["--profile", "bench-fast"];

/// # Errors
/// When something cannot be built or does not run.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if matches!(arguments.verb, Verb::Micro | Verb::All) {
        micro(arguments.quick)?;
    }
    if arguments.verb == Verb::Plugins {
        prepare::run(&prepare::Arguments::default())?;
        return plugins::run(arguments.quick, arguments.out.as_deref());
    }
    let verb = match arguments.verb {
        Verb::Micro | Verb::Plugins => return Ok(()),
        Verb::Mirror => "mirror",
        Verb::Mm2 => "mm2",
        Verb::Starts => "starts",
        Verb::All => "all",
    };
    prepare::run(&prepare::Arguments::default())?;
    let mut build = steps::cargo(&["build", "--locked", "--package", "culvert", "--bin", "culvert"]);
    build.args(PROFILE);
    steps::run(build).context("build what is measured")?;
    let mut lab = steps::cargo(&[
        "bench",
        "--locked",
        "--package",
        "culvert-tests",
        "--bench",
        "lab",
    ]);
    lab.args(PROFILE).args(["--", verb]);
    if arguments.quick {
        lab.arg("--quick");
    }
    if arguments.no_latency {
        lab.arg("--no-latency");
    }
    if !arguments.only.is_empty() {
        lab.arg("--only").arg(arguments.only.join(","));
    }
    if let Some(folder) = &arguments.out {
        lab.arg("--out").arg(std::path::absolute(folder)?);
    }
    steps::run(lab)
}

fn micro(quick: bool) -> anyhow::Result<()> {
    let mut bench = steps::cargo(&["bench", "--locked", "--package", "culvert", "--bench", "path"]);
    bench.args(PROFILE).arg("--");
    if quick {
        bench.args(["--warm-up-time", "0.5", "--measurement-time", "1"]);
    }
    steps::run(bench)
}
