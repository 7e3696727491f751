//! A rate that is held.

use std::time::{Duration, Instant};

/// So many records a second, from now on.
#[derive(Debug)]
pub(super) struct Pace {
    rate: f64,
    began: Instant,
    /// How many there are when the clock is looked at next.
    look_at: u64,
}

impl Pace {
    pub(super) fn new(rate: f64) -> Pace {
        Pace {
            rate,
            began: Instant::now(),
            look_at: 0,
        }
    }

    /// Waits until it is time for the record behind `done` of them. What is late is made up for.
    pub(super) fn hold(&mut self, done: u64) {
        if done < self.look_at {
            return;
        }
        // At a high rate a few records go together: a sleep is not that exact.
        self.look_at = done.saturating_add((self.rate / 1_000.0).ceil().max(1.0) as u64);
        let due = Duration::try_from_secs_f64(done as f64 / self.rate).unwrap_or(Duration::MAX);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}
