//! `culvert completions`: scripts that let a shell complete verbs and options.

use super::{Exit, Session};
use clap_complete::Shell;

/// Which shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  culvert completions bash > /usr/share/bash-completion/completions/culvert"
)]
pub(super) struct Args {
    /// The shell to write for
    shell: Shell,
}

pub(super) fn run(args: &Args, session: &Session, mut command: clap::Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "culvert", &mut script);
    session
        .terminal
        .answer(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Ok)
}
