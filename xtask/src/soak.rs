//! `cargo xtask soak`: builds the product for speed and lets `culvert-chaos` break things around it.

use crate::{prepare, steps};
use anyhow::Context;
use culvert_tests::workspace;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What `culvert-chaos` is told, for example `--quick --seed 7 kills` (`--help` lists it all).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the soak; what passed is added to `docs/soak.md`.
///
/// # Errors
/// When something cannot be built, or a part fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    prepare::run(&prepare::Arguments::default())?;
    let build = [
        "build",
        "--locked",
        "--profile",
        PROFILE,
        "-p",
        "culvert",
        "-p",
        "culvert-chaos",
    ];
    steps::run(steps::cargo(&build)).context("build what is soaked")?;
    let mut chaos = Command::new(workspace().join("target").join(PROFILE).join("culvert-chaos"));
    chaos
        .current_dir(workspace())
        .args(["soak", "--record", "docs/soak.md"])
        .args(&arguments.arguments);
    steps::run(chaos)
}

const PROFILE: &str = "bench-fast";
