//! How long the outbox lasts: the runway is what is left of the quota, at the rate at which records come in.
//!
//! Two questions, two answers:
//! - Would the link go down now, for how long would everything be kept? [`Runway::left`], by what came in within the last hour.
//! - Does it fill, and when is it full? [`Runway::full_in`], by what was added more than freed within the last minutes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a look is kept.
const EVERY: Duration = Duration::from_secs(10);

/// Over how long the rate of what comes in is taken: long enough that a batch each quarter of an hour counts.
const INTAKE: Duration = Duration::from_secs(60 * 60);

/// Over how long growth is taken: long enough that a backlog which comes and goes is no growth.
const GROWTH: Duration = Duration::from_secs(5 * 60);

/// Before this, and below this share of the quota, nothing is said about growth: a gateway that has just started, or a
/// few frames on their way, look like the steepest growth there is.
const GROWTH_AFTER: Duration = Duration::from_secs(60);
const GROWTH_SHARE_MIN: u64 = 20;

/// More is as good as for ever.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// What was seen at a moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// All bytes ever added since the start.
    added: u64,
    held: u64,
}

/// Looks at the outbox in the last hour.
#[derive(Debug)]
pub(super) struct Runway {
    quota: u64,
    looks: VecDeque<Look>,
    newest: Look,
}

impl Runway {
    /// Nothing was seen yet.
    pub(super) fn new(quota: u64) -> Runway {
        let newest = Look {
            at: Instant::now(),
            added: 0,
            held: 0,
        };
        Runway {
            quota,
            looks: VecDeque::new(),
            newest,
        }
    }

    /// `added` bytes were added since the start in all, `held` are there.
    pub(super) fn look(&mut self, at: Instant, added: u64, held: u64) {
        self.newest = Look { at, added, held };
        let is_due = self
            .looks
            .back()
            .is_none_or(|last| at.duration_since(last.at) >= EVERY);
        if is_due {
            self.looks.push_back(self.newest);
        }
        while self.looks.len() > 1 && at.duration_since(self.looks[1].at) >= INTAKE {
            self.looks.pop_front();
        }
    }

    /// For how long records can be kept while none leaves. None where none comes in.
    pub(super) fn left(&self) -> Option<Duration> {
        let first = self.looks.front()?;
        let added = self.newest.added.saturating_sub(first.added);
        self.lasts(added, self.newest.at.duration_since(first.at))
    }

    /// When it will be full, if it goes on as in the last minutes. None where it does not fill.
    pub(super) fn full_in(&self) -> Option<Duration> {
        if self.newest.held < self.quota / GROWTH_SHARE_MIN {
            return None;
        }
        let since = self
            .looks
            .iter()
            .find(|look| self.newest.at.duration_since(look.at) <= GROWTH)?;
        let span = self.newest.at.duration_since(since.at);
        if span < GROWTH_AFTER {
            return None;
        }
        let room = self.quota.saturating_sub(self.newest.held);
        if self.newest.held == since.held && room < self.quota / GROWTH_SHARE_MIN {
            // As full as it gets: intake waits.
            return Some(Duration::ZERO);
        }
        self.lasts(self.newest.held.saturating_sub(since.held), span)
    }

    /// The room that is left, at `bytes` in `span`.
    fn lasts(&self, bytes: u64, span: Duration) -> Option<Duration> {
        if bytes == 0 || span.is_zero() {
            return None;
        }
        let room = self.quota.saturating_sub(self.newest.held);
        #[expect(clippy::cast_precision_loss)] // an estimate
        let seconds = room as f64 / bytes as f64 * span.as_secs_f64();
        let lasts = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST);
        Some(lasts.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;

    /// Looks once a second for `seconds`; `more` and `less` bytes come and go in each.
    fn after(runway: &mut Runway, from: Instant, seconds: u64, more: u64, less: u64) -> Instant {
        let (mut added, mut held) = (runway.newest.added, runway.newest.held);
        for second in 1..=seconds {
            added += more;
            held = held + more - less;
            runway.look(from + Duration::from_secs(second), added, held);
        }
        from + Duration::from_secs(seconds)
    }

    fn seconds(duration: Option<Duration>) -> Option<u64> {
        duration.map(|duration| duration.as_secs())
    }

    #[test]
    fn what_leaves_as_fast_as_it_comes_never_fills_and_has_a_runway() {
        let mut runway = Runway::new(1_000_000);
        assert_eq!((runway.left(), runway.full_in()), (None, None));
        after(&mut runway, Instant::now(), 10 * MINUTE, 100, 100);
        assert_eq!(seconds(runway.left()), Some(10_000));
        assert_eq!(runway.full_in(), None);
    }

    #[test]
    fn a_link_that_is_down_fills_the_outbox_at_the_rate_of_the_last_minutes() {
        let mut runway = Runway::new(1_000_000);
        let cut = after(&mut runway, Instant::now(), 50 * MINUTE, 100, 100);
        after(&mut runway, cut, 10 * MINUTE, 200, 0);
        // 120,000 are held, 200 a second come.
        assert_eq!(seconds(runway.full_in()), Some(4_400));
        // Of the hour, ten minutes at 200 and fifty at 100.
        let left = seconds(runway.left()).expect("records come in");
        assert!((7_500..=7_600).contains(&left), "{left}");
    }

    #[test]
    fn a_short_or_small_backlog_is_no_growth() {
        let mut small = Runway::new(1_000_000);
        after(&mut small, Instant::now(), 10 * MINUTE, 50, 0);
        assert_eq!(small.full_in(), None, "a twentieth is not reached");
        let mut short = Runway::new(1_000_000);
        after(&mut short, Instant::now(), MINUTE - 1, 10_000, 0);
        assert_eq!(short.full_in(), None, "it was looked at for less than a minute");
        let mut full = Runway::new(1_000_000);
        let paused = after(&mut full, Instant::now(), 990, 1_000, 0);
        after(&mut full, paused, 20 * MINUTE, 0, 0);
        assert_eq!(seconds(full.full_in()), Some(0), "it is full, and stays so");
        let mut draining = Runway::new(1_000_000);
        let full = after(&mut draining, Instant::now(), 10 * MINUTE, 1_000, 0);
        after(&mut draining, full, 5 * MINUTE, 1_000, 1_100);
        assert_eq!(draining.full_in(), None, "it shrinks");
    }

    #[test]
    fn looks_have_a_limit() {
        let mut runway = Runway::new(1_000_000);
        after(&mut runway, Instant::now(), 3 * 60 * MINUTE, 1, 1);
        assert!(runway.looks.len() <= 362, "{}", runway.looks.len());
    }
}
