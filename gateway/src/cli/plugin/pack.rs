//! `culvert plugin pack`: for a component that was not made by `culvert plugin build`. And `compile`, hidden: what a gateway
//! runs in a process of its own, which a component may take down.

use crate::cli::{Exit, Session};
use crate::plugin;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// What to pack.
#[derive(Debug, clap::Args)]
#[command(
    about = "Write what a component says about itself into its file",
    after_help = "\
`culvert plugin build` does this already. For a component that other tools made: it is asked once
for its description, which then lies in the file, so that a gateway checks settings without
running it.

Example:
  culvert plugin pack made-elsewhere.wasm

The exit code is 0 when the file holds its description, 1 when it is no plugin."
)]
pub(in crate::cli) struct Args {
    /// The component; it is changed in place
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let component = read(&args.file)?;
    let packed = plugin::pack(&component).with_context(|| args.file.display().to_string())?;
    replace(&args.file, &packed)?;
    session
        .terminal
        .note(format!("{} holds its description", args.file.display()));
    Ok(Exit::Ok)
}

/// Under another name until it is whole: a gateway may be reading.
pub(super) fn replace(file: &Path, component: &[u8]) -> anyhow::Result<()> {
    let fresh = file.with_extension("wasm.fresh");
    std::fs::write(&fresh, component).with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, file).with_context(|| format!("rename {}", fresh.display()))
}

/// From which file to which.
#[derive(Debug, clap::Args)]
#[command(hide = true, about = "Compile a component, under limits of this process")]
pub(in crate::cli) struct Compile {
    component: PathBuf,
    compiled: PathBuf,
}

pub(super) fn compile(args: &Compile) -> anyhow::Result<Exit> {
    plugin::compile(&args.component, &args.compiled)?;
    Ok(Exit::Ok)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("read {}", file.display()))
}
