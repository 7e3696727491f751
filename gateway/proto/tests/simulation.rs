//! Exactly once, in a simulated world: see `sim/mod.rs` and the crate's README.

#![allow(clippy::print_stdout)] // counts, for people

mod sim;

use sim::trace::Stats;

/// Schedules of a run in CI: measured 12 s of one core. `CULVERT_SCHEDULES` asks for more.
const SCHEDULES: u64 = 20_000;

#[test]
fn every_record_arrives_exactly_once_whatever_fails() {
    let schedules =
        std::env::var("CULVERT_SCHEDULES").map_or(SCHEDULES, |text| text.parse().expect("a number"));
    let mut stats = Stats::default();
    for seed in 1..=schedules {
        let outcome = sim::run(seed, false);
        stats.add(&outcome.stats);
        if let Some(failure) = outcome.failure {
            panic!("{}", failure.report);
        }
    }
    println!("{stats}");
    let faults: u64 = stats.faults.values().sum();
    assert!(
        stats.delivered > schedules,
        "hardly anything was delivered: {stats}"
    );
    assert!(faults > schedules, "hardly anything went wrong: {stats}");
}

#[test]
fn one_seed_is_one_schedule() {
    for seed in [1, 7, 42, 1_000_003] {
        assert_eq!(
            sim::run(seed, false).hash,
            sim::run(seed, false).hash,
            "seed {seed}"
        );
    }
    assert_ne!(sim::run(1, false).hash, sim::run(2, false).hash);
}

/// Each known mistake, planted in the very code that the gateway runs, must be seen.
#[test]
#[cfg(feature = "traps")]
fn every_trap_is_caught() {
    use culvert_proto::traps::{Trap, plant};
    /// The slowest one needs 1,386.
    const SEEDS_MAX: u64 = 20_000;

    let mut missed = Vec::new();
    for trap in Trap::ALL {
        plant(Some(trap));
        let caught = (1..=SEEDS_MAX).find_map(|seed| Some((seed, sim::run(seed, false).failure?)));
        match caught {
            Some((seeds, failure)) => {
                let violation = failure.violation;
                println!(
                    "{trap:?} | {seeds} | {} | {}",
                    violation.invariant,
                    violation.seen.lines().next().unwrap_or("")
                );
            }
            None => missed.push(trap),
        }
    }
    plant(None);
    assert!(
        missed.is_empty(),
        "not caught in {SEEDS_MAX} schedules each: {missed:?}"
    );
}
