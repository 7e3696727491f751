//! `cargo xtask test`: everything, with a closing summary that a person and CI both read.

use crate::plugins;
use crate::prepare;
use crate::steps;
use crate::summary::Tally;
use anyhow::Context;
use culvert_tests::broker::Runtime;
use culvert_tests::figures::FIGURES;
use culvert_tests::host::NOT_RUN;
use culvert_tests::prepared;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fail when something could not run on this host. CI does.
    #[arg(long)]
    all: bool,
    /// Run only tests whose names contain this.
    filter: Option<String>,
}

/// Ends with a plain line `N passed, M failed`, whatever happens.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let started = Instant::now();
    let mut tally = Tally::default();
    let outcome = run_all(arguments, &mut tally);
    tally.note("total", started.elapsed());
    if let Err(fault) = &outcome {
        tally.fault(format!("{fault:#}"));
    }
    let verdict = tally.verdict(arguments.all);
    println!("{tally}");
    verdict
}

fn run_all(arguments: &Arguments, tally: &mut Tally) -> anyhow::Result<()> {
    prepare::run(&prepare::Arguments::default())?;
    tally.brokers = Runtime::choose()?.to_string();

    // The gateway takes the bundled ones in, and its tests load the others.
    let started = Instant::now();
    plugins::run(&plugins::Arguments::default()).context("build the plugins")?;
    tally.note("plugins", started.elapsed());

    let started = Instant::now();
    steps::run(steps::cargo(&[
        "build",
        "--locked",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
    ]))
    .context("build what is tested")?;
    tally.note("build", started.elapsed());

    let (not_run, figures) = (prepared().join("not-run"), prepared().join("figures"));
    for file in [&not_run, &figures] {
        fs::write(file, "").with_context(|| format!("write {}", file.display()))?;
    }
    let mut tests = steps::cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    tests.arg("--").args(&arguments.filter);
    tests.env(NOT_RUN, &not_run).env(FIGURES, &figures);
    let started = Instant::now();
    let mut outcome = watch(tests, tally);
    tally.note("tests", started.elapsed());
    let started = Instant::now();
    let mut of_plugins = plugins::tests(&arguments.filter);
    of_plugins.env(NOT_RUN, &not_run).env(FIGURES, &figures);
    outcome = outcome.and(watch(of_plugins, tally));
    tally.note("tests of plugins", started.elapsed());
    if arguments.filter.is_none() {
        // Mistakes planted in the protocol's own code, which no other build may contain.
        let traps = [
            "test",
            "--locked",
            "--package",
            "culvert-proto",
            "--features",
            "traps",
            "--test",
            "simulation",
        ];
        let started = Instant::now();
        outcome = outcome.and(watch(steps::cargo(&traps), tally));
        tally.note("planted traps", started.elapsed());
    }
    tally
        .not_run
        .extend(fs::read_to_string(&not_run)?.lines().map(str::to_owned));
    tally
        .figures
        .extend(fs::read_to_string(&figures)?.lines().map(str::to_owned));
    outcome
}

/// Runs `cargo test`, passes its lines on and counts them.
fn watch(mut tests: Command, tally: &mut Tally) -> anyhow::Result<()> {
    eprintln!("→ {}", steps::shown(&tests));
    let mut child = tests.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let lines = BufReader::new(child.stdout.take().context("cargo's output is piped")?);
    let mut out = std::io::stdout().lock();
    for line in lines.split(b'\n') {
        let line = line.context("read cargo's output")?;
        let text = String::from_utf8_lossy(&line);
        tally.see(&text);
        writeln!(out, "{text}")?;
    }
    tally.ended(child.wait()?.success());
    Ok(())
}
