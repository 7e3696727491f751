//! What is broken, where and when: all of it follows from a seed.

use crate::cli::demo::network::GATEWAYS;
use clap::ValueEnum;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// No datagram passes a link.
    Cut,
    /// None passes toward gateway 2; all come back.
    CutIn,
    /// None comes back from gateway 2.
    CutOut,
    /// A share of the datagrams is lost.
    Loss,
    /// Datagrams come later.
    Delay,
    /// A gateway is killed (SIGKILL), and started again after a while.
    Kill,
    /// A gateway stands still for a while (SIGSTOP).
    Freeze,
    /// A gateway is ended in good order (SIGTERM), and started again.
    Restart,
}

impl Kind {
    const LINKS: [Kind; 5] = [Kind::Cut, Kind::CutIn, Kind::CutOut, Kind::Loss, Kind::Delay];
    const GATEWAYS: [Kind; 3] = [Kind::Kill, Kind::Freeze, Kind::Restart];

    /// Milliseconds that it lasts. A cut may outlive a session, which ends after ten seconds.
    fn lasts(self) -> Range<u64> {
        match self {
            Kind::Cut | Kind::CutIn | Kind::CutOut => 500..12_000,
            Kind::Loss | Kind::Delay => 1_000..6_000,
            Kind::Kill => 50..3_000,
            Kind::Freeze => 300..6_000,
            Kind::Restart => 0..500,
        }
    }

    /// How much of it: thousandths that are lost, milliseconds of delay.
    fn degree(self) -> Option<Range<u32>> {
        match self {
            Kind::Loss => Some(20..300),
            Kind::Delay => Some(20..200),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Where it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Place {
    /// Between gateways 1 and 2, or 3 and 2: the wire's index.
    Link(usize),
    /// The gateway's index.
    Gateway(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Link(0) => f.pad("gw1-gw2"),
            Place::Link(_) => f.pad("gw3-gw2"),
            Place::Gateway(index) => f.pad(&format!("gw{}", index + 1)),
        }
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fault {
    /// From the first record's arrival.
    pub(super) at: Duration,
    pub(super) lasts: Duration,
    pub(super) kind: Kind,
    pub(super) place: Place,
    /// See [`Kind::degree`]; else 0.
    pub(super) degree: u32,
}

impl Fault {
    /// How much of it, where there is more and less of its kind.
    pub(super) fn amount(&self) -> Option<String> {
        match self.kind {
            Kind::Loss => Some(format!("{:.1} %", f64::from(self.degree) / 10.0)),
            Kind::Delay => Some(format!("{} ms", self.degree)),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        write!(
            f,
            "at {at:7.3} s for {lasts:6.3} s  {:<8} {}",
            self.kind, self.place
        )?;
        match self.amount() {
            Some(amount) => write!(f, "  {amount}"),
            None => Ok(()),
        }
    }
}

/// Milliseconds between two faults of the same track.
const CALM: Range<u64> = 1_000..5_000;

/// The faults of `length`, by their beginnings. Links and gateways are broken side by side, each of them by one fault at a time.
/// `only` leaves out all other kinds, unless it is empty.
pub(super) fn draw(seed: u64, length: Duration, only: &[Kind]) -> Vec<Fault> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut faults = Vec::new();
    let chosen = |kinds: &[Kind]| -> Vec<Kind> {
        let kinds = kinds.iter().copied();
        kinds
            .filter(|kind| only.is_empty() || only.contains(kind))
            .collect()
    };
    let links = [0, 1].map(Place::Link);
    let gateways: [Place; GATEWAYS] = std::array::from_fn(Place::Gateway);
    for (kinds, places) in [
        (chosen(&Kind::LINKS), &links[..]),
        (chosen(&Kind::GATEWAYS), &gateways[..]),
    ] {
        let mut at = Duration::from_millis(dice.random_range(CALM));
        while let (Some(&kind), Some(&place)) = (kinds.choose(&mut dice), places.choose(&mut dice)) {
            let lasts = Duration::from_millis(dice.random_range(kind.lasts()));
            if at + lasts > length {
                break;
            }
            let degree = kind.degree().map_or(0, |degree| dice.random_range(degree));
            faults.push(Fault {
                at,
                lasts,
                kind,
                place,
                degree,
            });
            at += lasts + Duration::from_millis(dice.random_range(CALM));
        }
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_seed_draws_the_same_and_another_seed_something_else() {
        assert_eq!(draw(7, HOUR, &[]), draw(7, HOUR, &[]));
        assert_ne!(draw(7, HOUR, &[]), draw(8, HOUR, &[]));
    }

    #[test]
    fn an_hour_has_every_kind_everywhere_and_one_at_a_time_in_each_track() {
        let faults = draw(7, HOUR, &[]);
        let met: BTreeSet<String> = faults
            .iter()
            .map(|fault| format!("{} {}", fault.kind, fault.place))
            .collect();
        assert_eq!(met.len(), 5 * 2 + 3 * 3, "{met:?}");
        for is_link in [true, false] {
            let track: Vec<&Fault> = faults
                .iter()
                .filter(|fault| matches!(fault.place, Place::Link(_)) == is_link)
                .collect();
            assert!(track.len() > 300, "{}", track.len());
            for pair in track.windows(2) {
                assert!(pair[0].at + pair[0].lasts < pair[1].at, "{} {}", pair[0], pair[1]);
            }
            assert!(track.iter().all(|fault| fault.at + fault.lasts <= HOUR));
        }
    }

    #[test]
    fn only_what_was_chosen_is_done() {
        let faults = draw(7, HOUR, &[Kind::Kill]);
        assert!(faults.len() > 300 && faults.iter().all(|fault| fault.kind == Kind::Kill));
        assert_eq!(draw(7, Duration::ZERO, &[]), []);
    }
}
