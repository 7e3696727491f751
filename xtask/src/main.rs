//! The one door to work on Culvert: what CI runs is what a person runs.

#![allow(clippy::print_stdout, reason = "a command line")]
#![allow(clippy::print_stderr, reason = "a command line")]

mod bench;
mod chaos;
mod check;
mod damage;
mod deb;
mod demo;
mod fuzz;
mod plugins;
mod prepare;
mod soak;
mod steps;
mod summary;
mod test;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, max_term_width = 110)]
struct Door {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Two Kafka clusters, three gateways between them, a cut link, a kill of each, and a proof.
    Demo(demo::Arguments),
    /// Fetch what tests need (Kafka's jars or image) and name what this host lacks.
    Prepare(prepare::Arguments),
    /// Run every test there is and say what could not run here.
    Test(test::Arguments),
    /// Formatting, lints, licences and advisories, tidy: what a change must pass beside the tests.
    Check(check::Arguments),
    /// Build the bundled plugins, and those that only tests load, as WebAssembly components in `target/plugins`.
    Plugins(plugins::Arguments),
    /// Measure the parts and the whole, beside librdkafka alone and MirrorMaker 2.
    Bench(bench::Arguments),
    /// Real processes, real brokers, real faults, for minutes or an hour; judged, measured, written down.
    Soak(soak::Arguments),
    /// Pack a release for Debian, and try what installing, upgrading and purging it does.
    Deb(deb::Arguments),
    /// Break three sites by schedules of a seed, for minutes or hours, and report what came of it.
    Chaos(chaos::Arguments),
    /// Damage outboxes byte by byte, and see that each says so or mends it.
    Damage(damage::Arguments),
    /// Throw bytes at every decoder, guided by coverage.
    Fuzz(fuzz::Arguments),
    /// The rules that the compiler cannot check: arrows between rooms, error pages, links, paths.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Door::parse().verb {
        Verb::Prepare(arguments) => prepare::run(&arguments),
        Verb::Demo(arguments) => match demo::run(&arguments) {
            Ok(code) => return code,
            Err(fault) => Err(fault),
        },
        Verb::Test(arguments) => return test::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Plugins(arguments) => plugins::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Soak(arguments) => soak::run(&arguments),
        Verb::Deb(arguments) => deb::run(&arguments),
        Verb::Chaos(arguments) => chaos::run(&arguments),
        Verb::Damage(arguments) => damage::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault:#}");
            ExitCode::FAILURE
        }
    }
}
