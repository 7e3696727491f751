//! `cargo xtask fuzz`: bytes against every decoder, guided by coverage, for as long as one likes.
//!
//! libFuzzer works with the stable compiler: coverage is put in by LLVM's own pass, which `-Cpasses` names. Sanitizers would
//! need a nightly one; `docs/decisions/0015-libfuzzer-without-sanitizers.md` says why they are not missed.

use crate::steps;
use anyhow::{Context, bail};
use culvert_tests::workspace;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As `cargo fuzz` has them, without a sanitizer.
const COVERAGE: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];

/// Limits of one input: longer than this, or more than this, is a finding.
const LIMITS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=16384"];

/// What each target gets where nothing is said.
const SECONDS: u64 = 60;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For each target
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    hours: Option<u64>,
    /// For each target [default: 60]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// For each target, of processor time: on a busy host it takes longer
    #[arg(long, value_name = "N", conflicts_with_all = ["hours", "seconds"])]
    cpu_seconds: Option<u64>,
    /// Only targets that need neither the gateway nor the host: built in a minute
    #[arg(long)]
    light: bool,
    /// Only these
    targets: Vec<String>,
}

/// Runs one target after the other, also after one has failed.
///
/// # Errors
/// When the fuzzer is not built, a target is not known, or an input breaks one: it is then in `fuzz/regressions`.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let seconds = arguments.hours.map(|hours| hours * 3_600).or(arguments.seconds);
    let share = match arguments.cpu_seconds {
        Some(seconds) => Share::Processor(seconds),
        None => Share::Clock(seconds.unwrap_or(SECONDS)),
    };
    let program = build(arguments.light)?;
    let known = targets(&program)?;
    let strangers: Vec<&String> = arguments
        .targets
        .iter()
        .filter(|name| !known.contains(name))
        .collect();
    if let Some(stranger) = strangers.first() {
        bail!("there is no target {stranger}\n\none of: {}", known.join(", "));
    }
    let chosen = if arguments.targets.is_empty() {
        &known
    } else {
        &arguments.targets
    };
    let mut broken = Vec::new();
    for name in chosen {
        if let Err(fault) = attack(&program, name, share) {
            broken.push(format!("{name}: {fault:#}"));
        }
    }
    if !broken.is_empty() {
        bail!(
            "{} of {} targets broke\n{}",
            broken.len(),
            chosen.len(),
            broken.join("\n")
        );
    }
    Ok(())
}

/// In a target folder of its own: every crate is built anew, with coverage in it.
fn build(is_light: bool) -> anyhow::Result<PathBuf> {
    let host = host()?;
    let mut cargo = steps::cargo(&["build", "--locked", "--release", "--package", "culvert-fuzz"]);
    cargo.args([
        "--bin",
        "culvert-fuzz",
        "--features",
        "libfuzzer",
        "--config",
        "profile.release.lto=false",
    ]);
    cargo.arg("--target-dir").arg(folder()).args(["--target", &host]);
    if is_light {
        cargo.arg("--no-default-features");
    }
    // Named with its target, so that build scripts and macros are built without coverage.
    cargo.env("RUSTFLAGS", COVERAGE.join(" "));
    steps::run(cargo).context("build the fuzzer")?;
    Ok(folder().join(host).join("release/culvert-fuzz"))
}

fn host() -> anyhow::Result<String> {
    let mut rustc = Command::new("rustc");
    rustc.arg("-vV").current_dir(workspace());
    let told = steps::output(rustc)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names its host")
}

fn folder() -> PathBuf {
    workspace().join("target/fuzz")
}

/// The targets of this build, by name.
fn targets(program: &Path) -> anyhow::Result<Vec<String>> {
    let mut fuzzer = Command::new(program);
    fuzzer.env("CULVERT_FUZZ_NAMES", "1");
    let mut names: Vec<String> = steps::output(fuzzer)?.lines().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// What a target gets, in seconds.
#[derive(Clone, Copy)]
enum Share {
    Clock(u64),
    Processor(u64),
}

/// What is found grows in `target/fuzz/corpus`; the committed seeds are only read. What breaks goes to `fuzz/regressions`.
fn attack(program: &Path, name: &str, share: Share) -> anyhow::Result<()> {
    let broken = workspace().join("fuzz/regressions").join(name);
    let grown = folder().join("corpus").join(name);
    for folder in [&grown, &broken] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let outcome = match share {
        Share::Clock(seconds) => go_at(program, name, seconds),
        Share::Processor(seconds) => until_used(program, name, seconds),
    };
    // Nothing was found: nothing is left behind.
    let _ = fs::remove_dir(&broken);
    outcome
}

/// As often as it takes, each time for as long as it would take on an idle host.
fn until_used(program: &Path, name: &str, seconds: u64) -> anyhow::Result<()> {
    let started = children_seconds()?;
    loop {
        let used = children_seconds()? - started;
        if used >= seconds {
            println!("{name}: {used} s of processor time");
            return Ok(());
        }
        go_at(program, name, seconds - used)?;
    }
}

/// Processor time of all children that have ended (`proc_pid_stat(5)`: `cutime` and `cstime`).
fn children_seconds() -> anyhow::Result<u64> {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string("/proc/self/stat").context("read /proc/self/stat")?;
    // The name is in parentheses, and may hold anything.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("/proc/self/stat names no process")?;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks / TICKS_PER_SECOND)
}

fn go_at(program: &Path, name: &str, seconds: u64) -> anyhow::Result<()> {
    let mut found = OsString::from("-artifact_prefix=");
    found.push(workspace().join("fuzz/regressions").join(name));
    found.push("/");
    let mut fuzzer = Command::new(program);
    fuzzer.env("CULVERT_FUZZ_TARGET", name).args(LIMITS).arg(found);
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(folder().join("corpus").join(name))
        .arg(workspace().join("fuzz/corpus").join(name));
    steps::run(fuzzer)
}
