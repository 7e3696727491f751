//! What a run has shown, printed and kept in `docs/soak.md`.

use anyhow::Context;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// What a part measured, in the order in which a person reads it.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<(&'static str, String)>);

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }

    /// All on one line.
    pub fn line(&self) -> String {
        let one = |(name, value): &(&str, String)| format!("{name} {value}");
        self.0.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// A line each.
    pub fn lines(&self) -> String {
        self.0
            .iter()
            .map(|(name, value)| format!("  {name:<28} {value}\n"))
            .collect()
    }
}

/// Appends a row to the table, under a head that is written when the file is new.
///
/// # Errors
/// When the file cannot be written.
pub fn append(file: &Path, part: &str, seed: u64, quick: bool, figures: &Figures) -> anyhow::Result<()> {
    let is_new = !file.exists();
    let mut out = File::options()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| format!("open {}", file.display()))?;
    if is_new {
        out.write_all(HEAD.as_bytes())?;
    }
    let size = if quick { "quick" } else { "full" };
    let program = culvert_tests::gateway::program()?;
    let is_debug = program.components().any(|part| part.as_os_str() == "debug");
    let build = if is_debug { "unoptimised" } else { "optimised" };
    let (commit, machine) = (commit(), machine());
    writeln!(
        out,
        "| {part} | {size}, {build} | {commit} | {seed} | {machine} | {} |",
        figures.line()
    )?;
    Ok(())
}

/// Appends a row to the table of runs, which is there.
///
/// # Errors
/// When the file cannot be written.
pub fn append_run(file: &Path, seed: u64, line: &str) -> anyhow::Result<()> {
    let mut out = File::options()
        .append(true)
        .open(file)
        .with_context(|| format!("open {}", file.display()))?;
    writeln!(out, "| {seed} | {} | {} | {line} |", commit(), machine())?;
    Ok(())
}

const HEAD: &str = "# Soak\n\n\
    What `cargo xtask soak` has measured, one row a part that passed. A part passes when the ledger, `culvert prove` and\n\
    `culvert verify` agree that nothing was lost, doubled or put out of order (`volume`: without the ledger, for memory;\n\
    `prove`: without it too, and what is planted at the end must be found).\n\n\
    | part | size | commit | seed | machine | figures |\n| --- | --- | --- | --- | --- | --- |\n";

/// The commit that is checked out.
pub(crate) fn commit() -> String {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=9"])
        .output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or("unknown".into(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}

/// Processors and memory of this host.
pub(crate) fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("/proc/cpuinfo", "model name").unwrap_or_default();
    let memory =
        field("/proc/meminfo", "MemTotal").and_then(|size| size.strip_suffix(" kB")?.parse::<u64>().ok());
    format!("{processors} CPUs {model}, {} GiB", memory.unwrap_or(0) >> 20)
}
