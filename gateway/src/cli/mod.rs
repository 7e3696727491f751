//! The command line: one file for each verb, each a thin call.
//!
//! Constraints of this room:
//! - What was asked for goes to standard output; everything else, errors and progress too, to standard error.
//! - `--output json` changes what stands on standard output, and nothing else.
//! - Exit codes are decided in one place, [`exit`].
//! - Colour and moving progress only on terminals, and never against `NO_COLOR` or `--color never`.

use crate::config::{Config, Environment, PLACES, parse_duration};
use crate::observe::stop::Stop;
use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;

mod asking;
mod check;
mod cluster;
mod completions;
mod config;
mod demo;
pub mod exit;
mod fsck;
mod generate;
mod install;
mod outbox;
mod pace;
mod parent;
mod pki;
mod plugin;
mod prove;
mod receipts;
mod run;
mod status;
mod table;
mod terminal;
mod verify;
mod words;

pub use exit::Exit;
pub use terminal::{Color, Format, Terminal};

/// Records cross networks exactly once, over QUIC with mutual TLS.
#[derive(Debug, Parser)]
#[command(name = "culvert", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  culvert demo                         three networks on this host, in half a minute
  culvert check                        find every mistake in ./culvert.toml and the connectors
  culvert run                          start the gateway
  culvert status                       what each connector and stream is doing
  culvert prove --wait 30s             prove that nothing was lost, doubled or put out of order

Exit codes: 0 done; 1 failed; 2 wrong configuration or arguments; 3 something needed is not there;
128 + n ended by signal n.";

const CHECK: &str = "\
Reads culvert.toml, the connectors beside it and the files they name. Each mistake has its file
and line, its code, and what would be valid.

Examples:
  culvert check
  culvert check --config /etc/culvert/culvert.toml --output json

The exit code is 0 when nothing is wrong, 2 when something is, 3 when only files are not there.";

const HEADING: &str = "Options of every verb";

/// What every verb understands.
#[derive(Debug, Args)]
struct Global {
    /// The configuration file [default: ./culvert.toml, then /etc/culvert/culvert.toml]
    #[arg(long, value_name = "PATH", global = true, help_heading = HEADING)]
    config: Option<PathBuf>,
    /// How the answer looks: text or json
    #[arg(long, value_name = "FORMAT", global = true, value_enum, default_value_t, hide_possible_values = true,
          help_heading = HEADING)]
    output: Format,
    /// When to use colour: auto, always or never
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t, hide_possible_values = true,
          help_heading = HEADING)]
    color: Color,
    /// For programs that this one starts as a part of itself: end with process N
    #[arg(long, value_name = "N", global = true, hide = true)]
    parent: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// See records cross three networks, and survive what kills gateways
    Demo(Box<demo::Args>),
    /// Break the demo by a seed, and prove that nothing is lost or doubled
    Chaos(Box<demo::chaos::Args>),
    /// Run the gateway
    Run(run::Args),
    /// Find every mistake in the configuration, without starting anything
    #[command(after_help = CHECK)]
    Check,
    /// Show the configuration in force
    #[command(subcommand)]
    Config(config::Verb),
    /// Make and show certificates
    Pki(pki::Args),
    /// Show what a running gateway is doing
    Status(status::Args),
    /// Prove that nothing was lost, doubled or put out of order
    Prove(prove::Args),
    /// Check the outbox, and repair it
    Fsck(fsck::Args),
    Generate(Box<generate::Args>),
    Verify(Box<verify::Args>),
    /// Make plugins: from an empty folder to a component
    #[command(subcommand)]
    Plugin(plugin::Verb),
    /// Install this program and its units on a host
    Install(install::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    #[command(subcommand, hide = true)]
    Outbox(outbox::Verb),
}

/// What a verb works with: the answers' way out, the environment and the configuration's place.
pub struct Session {
    /// Where answers and notes go.
    pub terminal: Terminal,
    /// The process's variables.
    pub environment: Environment,
    config: Option<PathBuf>,
}

impl Session {
    /// The configuration file: the named one, else the first of [`PLACES`] that exists.
    ///
    /// # Errors
    /// None was named and none exists.
    pub fn config_file(&self) -> anyhow::Result<PathBuf> {
        match &self.config {
            Some(path) => Ok(path.clone()),
            None => PLACES
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .context(exit::Absent("no configuration: neither ./culvert.toml nor /etc/culvert/culvert.toml is there [CULVERT-C001]\n\n\
                          Name one with --config, or run the command in its directory.".into())),
        }
    }

    /// The checked configuration.
    ///
    /// # Errors
    /// As [`Session::config_file`], and every mistake in it.
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config_file()?, &self.environment)?)
    }
}

/// A runtime with so many threads, as many as the host has processors where none is said, and the wish to stop that the
/// process's signals express.
fn runtime(threads: Option<usize>) -> anyhow::Result<(Runtime, Stop)> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().context("start the runtime")?;
    let stop = runtime
        .block_on(async { Stop::on_signals() })
        .context("listen to signals")?;
    Ok((runtime, stop))
}

/// A duration among arguments.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .ok_or_else(|| "not a duration; valid: a number and a unit, such as 30s or 5min".into())
}

/// Reads the arguments, runs the verb, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    let terminal = Terminal::new(cli.global.output, cli.global.color, &environment);
    let session = Session {
        terminal,
        environment,
        config: cli.global.config,
    };
    let tied = cli.global.parent.map_or(Ok(()), parent::end_with);
    let ran = tied.and_then(|()| dispatch(cli.verb, &session));
    let exit = ran.unwrap_or_else(|error| {
        let exit = Exit::of(&error);
        if exit != Exit::CLOSED_PIPE {
            session.terminal.error(&error);
        }
        exit
    });
    exit.into()
}

fn dispatch(verb: Verb, session: &Session) -> anyhow::Result<Exit> {
    match verb {
        Verb::Demo(args) => demo::run(&args, session),
        Verb::Chaos(args) => demo::chaos::run(&args, session),
        Verb::Run(args) => run::run(&args, session),
        Verb::Check => check::run(session),
        Verb::Pki(args) => pki::run(&args, session),
        Verb::Config(verb) => config::run(&verb, session),
        Verb::Status(args) => status::run(&args, session),
        Verb::Prove(args) => prove::run(&args, session),
        Verb::Generate(args) => generate::run(&args, session),
        Verb::Verify(args) => verify::run(&args, session),
        Verb::Plugin(verb) => plugin::run(&verb, session),
        Verb::Fsck(args) => fsck::run(&args, session),
        Verb::Outbox(verb) => outbox::run(verb),
        Verb::Install(args) => install::run(&args, session, Cli::command()),
        Verb::Completions(args) => completions::run(&args, session, Cli::command()),
    }
}
