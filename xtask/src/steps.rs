//! Commands that a verb runs one after the other.

use anyhow::{Context, bail};
use culvert_tests::workspace;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// A `cargo` command in the workspace, of the same toolchain that built this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    // What `cargo run` says about this program is not for the build scripts of others: ring's runs anew whenever it
    // changes, and half of the workspace with it.
    let about_us = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| about_us(name)) {
        command.env_remove(name);
    }
    command
}

/// Builds the program as it is shipped, and answers where it lies.
///
/// # Errors
/// When it cannot be built.
pub(crate) fn release() -> anyhow::Result<PathBuf> {
    const BUILD: [&str; 7] = [
        "build",
        "--locked",
        "--release",
        "--package",
        "culvert",
        "--bin",
        "culvert",
    ];
    run(cargo(&BUILD)).context("build the program")?;
    Ok(workspace().join("target/release/culvert"))
}

/// Runs a command with its output shown, under a line that says which.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let line = shown(&command);
    eprintln!("→ {line}");
    let status = command.status().with_context(|| format!("run {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Runs a command quietly; its output, or what it said when it failed.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let line = shown(&command);
    let output = command.output().with_context(|| format!("run {line}"))?;
    if !output.status.success() {
        bail!(
            "{line}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
