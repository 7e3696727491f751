//! `cargo xtask test`: everything, with a closing summary that a person and CI both read.

use crate::plugins;
use crate::prepare;
use crate::steps;
use crate::summary::Tally;
use anyhow::{Context, bail};
use culvert_tests::broker::Runtime;
use culvert_tests::figures::FIGURES;
use culvert_tests::host::NOT_RUN;
use culvert_tests::prepared;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
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
    let mut of_plugins = plugins::tests(&arguments.filter);
    for command in [&mut tests, &mut of_plugins] {
        command.env(NOT_RUN, &not_run).env(FIGURES, &figures);
    }
    // Mistakes planted in the protocol's own code, which no other build may contain.
    let traps = steps::cargo(&[
        "test",
        "--locked",
        "--package",
        "culvert-proto",
        "--features",
        "traps",
        "--test",
        "simulation",
    ]);
    let ahead = match arguments.filter {
        Some(_) => Vec::new(),
        None => vec![built_only(&of_plugins), built_only(&traps)],
    };
    let ahead = thread::spawn(|| build_ahead(ahead));
    let started = Instant::now();
    let mut outcome = watch(tests, tally);
    tally.note("tests", started.elapsed());
    let started = Instant::now();
    if ahead.join().is_err() {
        bail!("the thread that builds ahead has panicked");
    }
    outcome = outcome.and(watch(of_plugins, tally));
    tally.note("tests of plugins", started.elapsed());
    if arguments.filter.is_none() {
        let started = Instant::now();
        outcome = outcome.and(watch(traps, tally));
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

/// `cargo test …` without running anything, with what others leave of the processors.
fn built_only(tests: &Command) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(tests.get_program());
    command.args(["test", "--no-run", "--quiet"]);
    command.args(tests.get_args().skip(1).take_while(|argument| *argument != "--"));
    if let Some(folder) = tests.get_current_dir() {
        command.current_dir(folder);
    }
    for (name, value) in tests.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Builds what is tested last while what is tested first waits for clusters. What goes wrong here goes wrong again, and is
/// told, when it is that one's turn.
fn build_ahead(commands: Vec<Command>) {
    for mut command in commands {
        let _ = command.status();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_ahead_is_what_runs_later() {
        let mut tests = steps::cargo(&["test", "--locked", "--package", "one", "--"]);
        tests.arg("a_name").current_dir("somewhere").env("OF_MINE", "1");
        let ahead = built_only(&tests);
        let arguments: Vec<_> = ahead
            .get_args()
            .filter_map(|argument| argument.to_str())
            .collect();
        assert_eq!(arguments[..2], ["-n", "19"]);
        assert_eq!(
            arguments[3..],
            ["test", "--no-run", "--quiet", "--locked", "--package", "one"]
        );
        assert_eq!(ahead.get_current_dir(), tests.get_current_dir());
        assert_eq!(
            ahead.get_envs().collect::<Vec<_>>(),
            tests.get_envs().collect::<Vec<_>>()
        );
    }
}
