//! `culvert run`: the gateway itself.

use super::{Exit, Session};
use crate::config::{Asks, Config};
use crate::gateway;
use crate::observe::log;
use crate::observe::systemd::Sockets;

/// How to run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first SIGTERM or SIGINT finishes what is under way and ends with 0; the second ends at once
with 128 + n. Neither loses a record. SIGHUP reads the certificates again.

Examples:
  culvert run
  culvert run --config /etc/culvert/culvert.toml
  CULVERT_TELEMETRY__LOG_LEVEL=debug culvert run")]
pub(super) struct Args {}

pub(super) fn run(_: &Args, session: &Session) -> anyhow::Result<Exit> {
    let config = Config::load_and_ask(&session.config_file()?, &session.environment, Asks::Gateway)?;
    config.check_files()?;
    log::install(
        config.telemetry.log_format,
        &config.telemetry.log_filter,
        session.terminal.colors_notes(),
    )?;
    let handed = Sockets::take()?;
    let (runtime, stop) = super::runtime(None)?;
    let ended = runtime.block_on(gateway::run(config, handed, stop.clone()));
    // Threads that are stuck in a client library must not keep the process.
    runtime.shutdown_background();
    ended?;
    Ok(stop.ended_by().map_or(Exit::Ok, Exit::Signal))
}
