//! What the promises are tried against, chosen by a seed that is printed.

use anyhow::{Context, ensure};
use culvert_tests::{Gateway, wait_for};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};

/// How long something may take to arrive behind a kill.
const DEADLINE: Duration = Duration::from_secs(90);

/// `CULVERT_SUITE_SEED`, or a new one; printed, so that a run can be repeated as far as its choices go.
#[allow(clippy::print_stdout, reason = "the test harness shows it beside a failure")]
pub(crate) fn seed(test: &str) -> u64 {
    let given = std::env::var("CULVERT_SUITE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| rand::random_range(0..1_000_000));
    println!("{test}: CULVERT_SUITE_SEED={seed}");
    seed
}

/// `CULVERT_SUITE_KILLS`, or `usual`.
pub(crate) fn kills(usual: usize) -> anyhow::Result<usize> {
    match std::env::var("CULVERT_SUITE_KILLS") {
        Ok(kills) => kills.parse().context("CULVERT_SUITE_KILLS is a number"),
        Err(_) => Ok(usual),
    }
}

/// Kills of gateways at random moments.
pub(crate) struct Kills {
    /// How many.
    pub(crate) count: usize,
    pub(crate) seed: u64,
    dice: ChaCha8Rng,
}

impl Kills {
    /// As many as `CULVERT_SUITE_KILLS` says, or `usual`.
    pub(crate) fn new(test: &str, usual: usize) -> anyhow::Result<Kills> {
        let seed = seed(test);
        Ok(Kills {
            count: kills(usual)?,
            seed,
            dice: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// Kills one of the victims after another, whom the dice choose, and starts each again at once. Behind one in two
    /// something new has to arrive before the next kill, so that not every one falls into a start. `arrived` says how much
    /// has. Answers how long it took.
    ///
    /// # Errors
    /// When nothing new arrives, or so much has that the last kills hit nothing: `all` of it.
    pub(crate) fn carry_out(
        &mut self,
        victims: &[&Gateway],
        all: u64,
        arrived: impl Fn() -> u64,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for kill in 0..self.count {
            std::thread::sleep(Duration::from_millis(self.dice.random_range(0..400)));
            let before = arrived();
            ensure!(
                before < all,
                "all has arrived before kill {kill}: it hits nothing"
            );
            let victim = victims[self.dice.random_range(0..victims.len())];
            victim.kill9()?;
            victim.launch()?;
            if self.dice.random() {
                wait_for(DEADLINE, "something new behind a kill", || {
                    (arrived() > before).then_some(())
                })
                .with_context(|| format!("kill {kill}, seed {}", self.seed))?;
            }
        }
        Ok(started.elapsed())
    }
}
