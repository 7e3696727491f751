//! Runs schedules of the simulation, one seed after another; `--trace` prints each step of them.
//!
//! ```text
//! cargo run -p culvert-proto --example simulate -- --seed 7 --schedules 1000
//! cargo run -p culvert-proto --example simulate -- --seed 7 --trace
//! ```
#![allow(clippy::print_stdout)] // a program for people

#[path = "../tests/sim/mod.rs"]
mod sim;

use std::process::ExitCode;

const USAGE: &str = "usage: simulate [--seed N] [--schedules M] [--trace] [--trap NAME]";

struct Options {
    seed: u64,
    schedules: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            println!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut stats = sim::trace::Stats::default();
    for seed in options.seed..options.seed.saturating_add(options.schedules) {
        let outcome = sim::run(seed, options.trace);
        stats.add(&outcome.stats);
        if options.trace {
            println!("trace hash {:016x}", outcome.hash);
        }
        if let Some(failure) = outcome.failure {
            println!("{}", failure.report);
            return ExitCode::FAILURE;
        }
    }
    println!("{stats}");
    ExitCode::SUCCESS
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seed: 1,
        schedules: 1,
        trace: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => options.seed = number(words.next(), "--seed")?,
            "--schedules" => options.schedules = number(words.next(), "--schedules")?,
            "--trace" => options.trace = true,
            "--trap" => plant(&words.next().unwrap_or_default())?,
            other => return Err(format!("{other:?} is not an option")),
        }
    }
    Ok(options)
}

fn number(word: Option<String>, option: &str) -> Result<u64, String> {
    let word = word.ok_or_else(|| format!("{option} needs a number"))?;
    word.parse()
        .map_err(|_| format!("{option} needs a number, not {word:?}"))
}

#[cfg(feature = "traps")]
fn plant(name: &str) -> Result<(), String> {
    use culvert_proto::traps::{Trap, plant};
    let trap = Trap::ALL.into_iter().find(|trap| format!("{trap:?}") == name);
    plant(Some(trap.ok_or_else(|| {
        format!("there is no trap {name:?}; there are {:?}", Trap::ALL)
    })?));
    Ok(())
}

#[cfg(not(feature = "traps"))]
fn plant(_name: &str) -> Result<(), String> {
    Err("traps are only there with --features traps".to_owned())
}
