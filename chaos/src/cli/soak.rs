//! `culvert-chaos soak`: runs parts of the soak and says what they showed.

use clap::ValueEnum;
use culvert_chaos::parts::{Orders, Part};
use culvert_chaos::record;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Minutes instead of an hour
    #[arg(long)]
    quick: bool,
    /// Decides what is broken, when and for how long [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Run each part this many times, with seeds that follow each other
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// Append what passed to this table
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Where the logs of a part that failed are kept
    #[arg(long, value_name = "FOLDER", default_value = "target/soak")]
    keep: PathBuf,
    /// The parts to run [default: all]
    #[arg(value_enum)]
    parts: Vec<Part>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let first = arguments.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    let parts = match arguments.parts.as_slice() {
        [] => Part::value_variants(),
        some => some,
    };
    let mut failed = 0;
    for seed in first..first + arguments.rounds {
        for &part in parts {
            failed += u32::from(!passes(arguments, part, seed));
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether the part passed.
fn passes(arguments: &Arguments, part: Part, seed: u64) -> bool {
    let orders = Orders {
        seed,
        quick: arguments.quick,
        keep: arguments.keep.clone(),
    };
    let (name, started) = (part.name(), Instant::now());
    println!("{name}, seed {seed}");
    let outcome = part.run(&orders).and_then(|figures| {
        print!("{}", figures.lines());
        match &arguments.record {
            Some(file) => record::append(file, name, seed, orders.quick, &figures),
            None => Ok(()),
        }
    });
    let seconds = started.elapsed().as_secs();
    match &outcome {
        Ok(()) => println!("{name}: passed in {seconds} s\n"),
        Err(fault) => {
            let quick = if orders.quick { "--quick " } else { "" };
            println!(
                "{name}: FAILED after {seconds} s: {fault:#}\nlogs: {}",
                arguments.keep.display()
            );
            println!("again: cargo xtask soak {quick}--seed {seed} {name}\n");
        }
    }
    outcome.is_ok()
}
