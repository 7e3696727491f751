//! The bench lab: Culvert beside its baselines, on the same brokers, in the same run.
//!
//! `cargo xtask bench` builds this program and `culvert` with optimisation and runs it. Two brokers, every mirror and
//! every client share one machine, over loopback, without TLS to the brokers; see `docs/benchmarks.md` for the method.
//!
//! | part | what it is |
//! | --- | --- |
//! | [`backlog`] | how fast a mirror catches up, at what cost, and how soon it is back after a kill |
//! | [`latency`] | what a paced load of 10,000 records a second meets on its way |
//! | [`starts`] | how soon a new pair of gateways delivers its first record |
//! | [`plugins`] | memory of plugins, a looping neighbour, starts and flows with plugins |
//! | [`mirror`] | what is measured: Culvert with either outbox, librdkafka alone, MirrorMaker 2 |
//! | [`kafka`], [`meter`] | topics, loads and progress; CPU and memory of processes |
//! | [`report`] | the table and the numbers behind it |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

mod backlog;
mod kafka;
mod latency;
mod meter;
mod mirror;
mod plain;
mod plugins;
mod report;
mod starts;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use culvert_tests::{Broker, BrokerOptions};
use kafka::Cluster;
use mirror::Kind;
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "lab", about = "Measures Culvert beside its baselines")]
struct Arguments {
    /// What to measure.
    #[arg(value_enum)]
    verb: Verb,
    /// A minute or two instead of twenty: enough to see that it works, too short to be quoted.
    #[arg(long)]
    quick: bool,
    /// Only these mirrors.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Leave out the paced load.
    #[arg(long)]
    no_latency: bool,
    /// Where `benchmarks.md` and `benchmarks.json` are written.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
    /// Of `plain`: the brokers it reads from and writes to, and the topic.
    #[arg(hide = true)]
    more: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Verb {
    /// Culvert with both outboxes, and librdkafka alone.
    Mirror,
    /// MirrorMaker 2, beside Culvert.
    Mm2,
    /// First starts of Culvert, on brokers that are warm.
    Starts,
    /// Memory of plugins, a looping neighbour, starts with plugins.
    Plugins,
    /// All of them but plugins.
    All,
    /// The baseline's own process; started by the lab.
    #[value(hide = true)]
    Plain,
}

/// How much is measured.
pub(crate) struct Sizes {
    /// Records before the window opens, so that everything is warm.
    pub(crate) warm_up: u64,
    /// Records of the window.
    pub(crate) window: u64,
    /// The same for a JVM, whose compiler needs more.
    pub(crate) warm_up_jvm: u64,
    pub(crate) window_jvm: u64,
    /// Records behind the window, for kills.
    pub(crate) tail: u64,
    /// Seconds of the paced load before the first run, of a run, and how many runs.
    pub(crate) paced_warm_up: u64,
    pub(crate) paced_run: u64,
    pub(crate) paced_runs: usize,
    /// First starts.
    pub(crate) starts: usize,
}

const FULL: Sizes = Sizes {
    warm_up: 1_000_000,
    window: 5_000_000,
    warm_up_jvm: 4_000_000,
    window_jvm: 4_000_000,
    tail: 2_500_000,
    paced_warm_up: 15,
    paced_run: 60,
    paced_runs: 5,
    starts: 10,
};

const QUICK: Sizes = Sizes {
    warm_up: 300_000,
    window: 1_000_000,
    warm_up_jvm: 500_000,
    window_jvm: 1_000_000,
    tail: 700_000,
    paced_warm_up: 5,
    paced_run: 10,
    paced_runs: 2,
    starts: 3,
};

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.verb == Verb::Plain {
        return plain::run(&arguments.more);
    }
    let sizes = if arguments.quick { QUICK } else { FULL };
    let kinds = match (&arguments.only[..], arguments.verb) {
        ([], Verb::Mirror) => vec![Kind::Plain, Kind::Log, Kind::Sled, Kind::Relayed],
        ([], Verb::Starts) => vec![Kind::Log, Kind::Sled],
        ([], Verb::Mm2) => vec![Kind::Mm2, Kind::Log, Kind::Sled],
        ([], _) => vec![Kind::Plain, Kind::Log, Kind::Sled, Kind::Relayed, Kind::Mm2],
        (only, _) => only.to_vec(),
    };
    let mut report = report::Report::begin(arguments.quick);
    if arguments.verb == Verb::Plugins {
        return measure_plugins(&arguments, &sizes, report);
    }
    let (source, target) = clusters()?;
    if arguments.verb != Verb::Starts {
        measure_load(&arguments, &source, &target, &kinds, &sizes, &mut report)?;
    }
    if arguments.verb != Verb::Mm2 {
        for &kind in kinds.iter().filter(|kind| matches!(kind, Kind::Log | Kind::Sled)) {
            match starts::measure(kind, &source, &target, sizes.starts)
                .with_context(|| format!("{kind:?}, starts"))
            {
                Ok(row) => report.starts(row),
                Err(fault) => report.failed(&fault),
            }
        }
    }
    println!("{}", report.table());
    report.write(arguments.out.as_deref())
}

fn measure_plugins(arguments: &Arguments, sizes: &Sizes, mut report: report::Report) -> anyhow::Result<()> {
    let mut rows = plugins::Rows::default();
    plugins::alone(&mut rows)?;
    let (source, target) = clusters()?;
    match plugins::neighbour(&source, &target, sizes) {
        Ok(neighbour) => rows.neighbour = Some(neighbour),
        Err(fault) => report.failed(&fault),
    }
    match plugins::flows(&source, &target) {
        Ok(flows) => rows.flows = flows,
        Err(fault) => report.failed(&fault),
    }
    let text = report.plugins(&rows)?;
    println!("{text}");
    match &arguments.out {
        Some(folder) => Ok(std::fs::write(folder.join("plugins.md"), text)?),
        None => Ok(()),
    }
}

fn measure_load(
    arguments: &Arguments,
    source: &Cluster,
    target: &Cluster,
    kinds: &[Kind],
    sizes: &Sizes,
    report: &mut report::Report,
) -> anyhow::Result<()> {
    backlog::fill(source, sizes, kinds)?;
    for &kind in kinds {
        let row = backlog::measure(kind, source, target, sizes);
        match row.with_context(|| format!("{kind:?}, backlog")) {
            Ok(row) => report.backlog(row),
            Err(fault) => report.failed(&fault),
        }
    }
    if !arguments.no_latency {
        report.floor(latency::floor(source, sizes)?);
        for &kind in kinds.iter().filter(|kind| **kind != Kind::Relayed) {
            match latency::measure(kind, source, target, sizes).with_context(|| format!("{kind:?}, paced")) {
                Ok(row) => report.latency(row),
                Err(fault) => report.failed(&fault),
            }
        }
    }
    Ok(())
}

fn clusters() -> anyhow::Result<(Cluster, Cluster)> {
    let options = BrokerOptions {
        heap_mb: 1024,
        full_jit: true,
        properties: vec![
            ("log.segment.delete.delay.ms".into(), "500".into()),
            ("log.retention.hours".into(), "-1".into()),
        ],
        ..BrokerOptions::default()
    };
    let start = |name: &str| -> anyhow::Result<Cluster> {
        let broker = Broker::start(options.clone()).with_context(|| format!("start broker {name}"))?;
        Ok(Cluster::new(broker))
    };
    Ok((start("A")?, start("B")?))
}
