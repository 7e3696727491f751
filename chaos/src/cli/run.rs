//! `culvert-chaos run`: schedules of faults, judged all the time, with a report.

use anyhow::Context;
use clap::ValueEnum;
use culvert_chaos::course::Course;
use culvert_chaos::planted::Planted;
use culvert_chaos::run::{self, Plan};
use culvert_chaos::schedule::{Kind, Schedule};
use culvert_chaos::{record, report};
use culvert_tests::network;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Of the first schedule; those behind it count up [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Schedules begin for this long; 0 runs one
    #[arg(long, default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// How long the faults of one schedule take, seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    length: u64,
    /// Records a second
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    rate: u64,
    /// Partitions of the topic
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=100))]
    partitions: i32,
    /// The outbox engine of all gateways
    #[arg(long, value_enum, default_value = "log")]
    engine: Engine,
    /// A second gateway at site 1
    #[arg(long)]
    spare: bool,
    /// Links may go over TCP where UDP does not pass
    #[arg(long)]
    tcp: bool,
    /// The outboxes of gateways 1 and 2 on disks that can lose their power, in place of small ones
    #[arg(long)]
    lossy: bool,
    /// Break nothing else [default: everything that this host can]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Do not break these
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Kind>,
    /// Do what this file says, once, instead of what seeds say
    #[arg(long, value_name = "FILE")]
    schedule: Option<PathBuf>,
    /// Print the schedules and do nothing
    #[arg(long)]
    dry: bool,
    /// All sites on loopback, though this host could make networks
    #[arg(long)]
    loopback: bool,
    /// Plant this in what the lab sees, to see it found: the run must fail
    #[arg(long, value_enum)]
    plant: Option<Planted>,
    /// Append a run that passed to this table
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Where the report goes, in a folder of the seed's name
    #[arg(long, value_name = "FOLDER", default_value = "target/chaos")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Log,
    Sled,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.0..=100_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("a number of minutes, 0 to 100000".into()),
    }
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match passes(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            println!("FAILED: {fault:#}");
            ExitCode::FAILURE
        }
    }
}

fn passes(arguments: &Arguments) -> anyhow::Result<()> {
    let mut plan = plan(arguments)?;
    if arguments.dry {
        print!("{}", Schedule::from_seed(plan.seed, plan.length, &plan.kinds));
        return Ok(());
    }
    if !arguments.loopback && !network::is_alone() {
        // The seed is settled before, so that both say the same.
        match alone(plan.seed) {
            Ok(mut command) => return Err(command.exec()).context("start again in a network of its own"),
            Err(why) => println!("all sites on loopback: {why:#}"),
        }
    }
    plan.apart = network::is_alone();
    if plan.apart {
        network::begin()?;
    }
    let over = Arc::new(AtomicBool::new(false));
    end_early(&over)?;
    let mut course = Course {
        folder: arguments.out.join(plan.seed.to_string()),
        ..Course::default()
    };
    println!(
        "seed {}; the report goes to {}",
        plan.seed,
        course.folder.display()
    );
    let began = Instant::now();
    let mut tell = |line: String| println!("{:>7.1} s  {line}", began.elapsed().as_secs_f64());
    let outcome = run::run(&plan, &mut course, &over, &mut tell).map(drop);
    report::write(&plan, &course, &outcome)?;
    outcome?;
    let line = report::line(&course);
    println!("passed: {line}");
    match &arguments.record {
        Some(file) => record::append_run(file, plan.seed, &line),
        None => Ok(()),
    }
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let given = arguments.schedule.as_deref().map(read).transpose()?;
    let seed = given.as_ref().map(|given| given.seed).or(arguments.seed);
    let kinds = match arguments.only.as_slice() {
        [] => Kind::value_variants(),
        some => some,
    };
    let kinds = kinds.iter().filter(|kind| !arguments.without.contains(kind));
    Ok(Plan {
        seed: seed.unwrap_or_else(|| rand::random_range(1..1_000_000)),
        minutes: arguments.minutes,
        length: Duration::from_secs(arguments.length),
        rate: arguments.rate,
        partitions: arguments.partitions,
        engine: match arguments.engine {
            Engine::Log => "log",
            Engine::Sled => "sled",
        },
        kinds: kinds.copied().collect(),
        given,
        apart: false,
        spare: arguments.spare,
        tcp: arguments.tcp,
        lossy: arguments.lossy,
        planted: arguments.plant,
    })
}

fn read(file: &Path) -> anyhow::Result<Schedule> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.parse().with_context(|| format!("in {}", file.display()))
}

/// This very command line in namespaces of its own.
fn alone(seed: u64) -> anyhow::Result<Command> {
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1));
    if !std::env::args().any(|word| word.starts_with("--seed") || word.starts_with("--schedule")) {
        again.args(["--seed", &seed.to_string()]);
    }
    network::alone(&again)
}

/// The first Ctrl-C ends the run behind the schedule at hand, with its verdict; the second ends everything at once.
fn end_early(over: &Arc<AtomicBool>) -> anyhow::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(over))?;
        signal_hook::flag::register(signal, Arc::clone(over))?;
    }
    Ok(())
}
