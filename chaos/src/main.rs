//! `culvert-chaos`: the parts of the soak, and schedules of faults by seed. `cargo xtask soak` and `cargo xtask chaos`
//! build and start it.

#![allow(clippy::print_stdout, reason = "a command line")]
#![allow(clippy::print_stderr, reason = "a command line")]

mod cli;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Real gateway processes, real brokers, real faults, and a ledger that judges")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Parts of the soak: one kind of fault each, for minutes or an hour
    Soak(cli::soak::Arguments),
    /// Schedules of faults, chosen by a seed, for as long as you like
    Run(cli::run::Arguments),
}

fn main() -> ExitCode {
    match Arguments::parse().verb {
        Verb::Soak(arguments) => cli::soak::run(&arguments),
        Verb::Run(arguments) => cli::run::run(&arguments),
    }
}
