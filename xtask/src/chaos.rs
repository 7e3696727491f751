//! `cargo xtask chaos`: builds the product for speed and lets `culvert-chaos` break it by schedules of a seed.

use crate::{prepare, steps};
use anyhow::Context;
use culvert_tests::workspace;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What `culvert-chaos run` is told, for example `--seed 7 --minutes 10` (`-- --help` lists it all).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds and becomes the chaos lab: Ctrl-C is for it alone. `CULVERT_BIN` names another program to break, which is then
/// not built.
///
/// # Errors
/// When something cannot be built or started.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut chaos = lab()?;
    chaos.arg("run").args(&arguments.arguments);
    Err(chaos.exec()).context("start the chaos lab")
}

/// Prepares the host and builds `culvert-chaos`, and the product unless `CULVERT_BIN` names another one.
///
/// # Errors
/// When something is missing or cannot be built.
pub(crate) fn lab() -> anyhow::Result<Command> {
    const PROFILE: &str = "bench-fast";
    prepare::run(&prepare::Arguments::default())?;
    let mut build = vec!["build", "--locked", "--profile", PROFILE, "-p", "culvert-chaos"];
    if std::env::var_os("CULVERT_BIN").is_none() {
        build.extend(["-p", "culvert"]);
    }
    steps::run(steps::cargo(&build)).context("build what is broken")?;
    let mut chaos = Command::new(workspace().join("target").join(PROFILE).join("culvert-chaos"));
    chaos.current_dir(workspace());
    Ok(chaos)
}
