//! What is broken, where, when and for how long: chosen by a seed, written as text, read from text.
//!
//! ```text
//! # seed 17, 20 s
//! at   1.250 s for  2.000 s  cut              west
//! at   4.100 s for  0.300 s  kill             gw2
//! at   9.000 s for  3.500 s  loss             east     120
//! ```
//!
//! A seed says what is done and when; when processes get the processor it cannot say. A schedule that found something
//! finds it again often, not always.

use anyhow::{Context, bail};
use clap::ValueEnum;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A kind of fault. What `amount` means is said with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// A link passes nothing either way
    Cut,
    /// A link passes nothing towards gateway 2
    CutIn,
    /// A link passes nothing from gateway 2
    CutOut,
    /// A link is cut and heals this many times
    Flap,
    /// A link drops this many packets of a thousand
    Loss,
    /// A link delays each packet by this many milliseconds
    Delay,
    /// A link delays each packet by up to this many milliseconds more or less, so that they overtake each other
    Reorder,
    /// A link sends this many packets of a thousand twice
    Duplicate,
    /// A link changes a byte in this many packets of a thousand
    Damage,
    /// A link passes this many KiB a second
    Narrow,
    /// A link passes no datagrams, and TCP still
    NoUdp,
    /// A link's router forgets its addresses, this many times
    Rebind,
    /// A whole network loses its cable
    Unplug,
    /// A gateway is killed (SIGKILL), stays away and is started again
    Kill,
    /// All three gateways are killed at once
    KillAll,
    /// A gateway is killed this many times, hardly started
    KillAgain,
    /// A gateway is frozen (SIGSTOP)
    Freeze,
    /// A gateway is stopped in good order (SIGTERM), stays away and is started again
    Restart,
    /// One gateway after the other is stopped in good order and started at once
    Roll,
    /// A broker is killed, stays away and is started again
    BrokerKill,
    /// A broker is stopped in good order, stays away and is started again
    BrokerStop,
    /// A broker is frozen
    BrokerFreeze,
    /// Gateway 3's connections to its broker are closed and refused
    BrokerCut,
    /// Gateway 3's connections to its broker stay open and pass nothing
    BrokerStall,
    /// This many datagrams of random bytes are sent to gateway 2's listener
    Garbage,
    /// A gateway gets a new certificate and reads it
    Rotate,
    /// A gateway's certificate ends, and it gets a new one late
    Expire,
    /// A gateway's disk is full
    DiskFull,
    /// A gateway's disk loses its power so many acts from now, and the gateway with it
    PowerCut,
    /// A gateway's clock jumps by this many seconds, and back
    Clock,
    /// The next fsync of a gateway fails; it ends, and is started again
    Fsync,
    /// A gateway's state is set back to what it was when the fault began
    Restore,
    /// A gateway's host burns down with its disk; a new one of its name comes, with an empty one
    Burn,
    /// As burn, for longer than a consumer's session: the second gateway of its site goes on
    Takeover,
    /// A gateway and its clone, state and all, run at the same time; then the clone is gone, and the gateway started anew
    Twin,
}

/// Where a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Place {
    /// Between gateways 1 and 2.
    West,
    /// Between gateways 3 and 2.
    East,
    /// Gateway 1.
    Gw1,
    /// Gateway 2.
    Gw2,
    /// Gateway 3.
    Gw3,
    /// All gateways.
    Gateways,
    /// Network 1.
    Net1,
    /// Network 2.
    Net2,
    /// Network 3.
    Net3,
    /// Network 1's broker.
    Source,
    /// Network 3's broker.
    Target,
}

/// One fault of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From the schedule's beginning, whole milliseconds.
    pub at: Duration,
    /// From then to its end, whole milliseconds.
    pub lasts: Duration,
    /// What.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// How much; see [`Kind`]. 0 where nothing is counted.
    pub amount: u64,
}

/// What is done in one go, and by which seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Also the seed of what the faults themselves leave open, such as which packets are lost.
    pub seed: u64,
    /// How long it takes, the last fault included.
    pub length: Duration,
    /// By their beginning.
    pub faults: Vec<Planned>,
}

impl Schedule {
    /// What this seed makes of these kinds in this time.
    ///
    /// Two gateways are killed in each, where kills are among the kinds; else every kind has the same chance. Nothing
    /// happens twice in one place at a time, and faults in different places may overlap.
    pub fn from_seed(seed: u64, length: Duration, kinds: &[Kind]) -> Schedule {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut faults: Vec<Planned> = Vec::new();
        let room = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let wanted = 4 + dice.random_range(0..3) + room / 20_000;
        for number in 0..wanted {
            let always = (number < KILLS && kinds.contains(&Kind::Kill)).then_some(&Kind::Kill);
            let Some(&kind) = always.or_else(|| kinds.choose(&mut dice)) else {
                break;
            };
            // A place may be taken; then the kind has another try elsewhere or later, and at last none.
            let found = (0..TRIES)
                .map(|_| planned(&mut dice, kind, room))
                .find(|new| faults.iter().all(|old| !new.meets(old)));
            faults.extend(found);
        }
        faults.sort_by_key(|fault| (fault.at, fault.place));
        Schedule { seed, length, faults }
    }
}

/// Kills of single gateways in each schedule.
const KILLS: u64 = 2;

/// Tries to find room for a fault.
const TRIES: usize = 20;

/// Between two faults in one place: a gateway has started by then.
const APART: Duration = Duration::from_millis(1_500);

impl Planned {
    /// Whether both touch the same thing at the same time.
    fn meets(&self, other: &Planned) -> bool {
        let touch = self
            .place
            .parts()
            .iter()
            .any(|part| other.place.parts().contains(part));
        touch && self.at < other.at + other.lasts + APART && other.at < self.at + self.lasts + APART
    }
}

impl Place {
    /// What nothing else may break meanwhile, in the order of their kind.
    pub(crate) fn parts(self) -> &'static [Place] {
        match self {
            Place::West => &[Place::West],
            Place::East => &[Place::East],
            Place::Gw1 => &[Place::Gw1],
            Place::Gw2 => &[Place::Gw2],
            Place::Gw3 => &[Place::Gw3],
            Place::Gateways => &[Place::Gw1, Place::Gw2, Place::Gw3],
            Place::Net1 => &[Place::Net1],
            Place::Net2 => &[Place::Net2],
            Place::Net3 => &[Place::Net3],
            // A broker that is away for longer than planned must not meet another.
            Place::Source | Place::Target => &[Place::Source, Place::Target],
        }
    }
}

/// A fault of this kind, wherever the dice fall.
fn planned(dice: &mut ChaCha8Rng, kind: Kind, room: u64) -> Planned {
    let links = [Place::West, Place::East];
    let gateways = [Place::Gw1, Place::Gw2, Place::Gw3];
    let brokers = [Place::Source, Place::Target];
    // Places, shortest and longest in milliseconds, amounts.
    let (places, lasts, amounts): (&[Place], _, _) = match kind {
        Kind::Cut | Kind::CutIn | Kind::CutOut => (&links, 300..5_000, 0..1),
        Kind::Flap => (&links, 1_000..4_000, 2..8),
        Kind::Loss => (&links, 1_000..6_000, 10..300),
        Kind::Delay => (&links, 1_000..6_000, 5..250),
        Kind::Reorder => (&links, 1_000..6_000, 2..80),
        Kind::Duplicate => (&links, 1_000..6_000, 50..1_000),
        Kind::Damage => (&links, 1_000..6_000, 5..200),
        Kind::Narrow => (&links, 1_000..5_000, 500..6_000),
        Kind::NoUdp => (&links, 3_000..15_000, 0..1),
        Kind::Rebind => (&links, 500..3_000, 1..4),
        Kind::Unplug => (&[Place::Net1, Place::Net2, Place::Net3], 300..4_000, 0..1),
        Kind::Kill => (&gateways, 0..1_000, 0..1),
        Kind::KillAll => (&[Place::Gateways], 0..1_500, 0..1),
        Kind::KillAgain => (&gateways, 500..2_500, 3..8),
        Kind::Freeze => (&gateways, 300..9_000, 0..1),
        Kind::Restart => (&gateways, 0..1_000, 0..1),
        Kind::Roll => (&[Place::Gateways], 1_500..3_000, 0..1),
        Kind::BrokerKill | Kind::BrokerStop => (&brokers, 500..2_500, 0..1),
        Kind::BrokerFreeze => (&brokers, 500..5_000, 0..1),
        Kind::BrokerCut | Kind::BrokerStall => (&[Place::Target], 500..5_000, 0..1),
        Kind::Garbage => (&[Place::Gw2], 500..2_000, 2_000..20_000),
        Kind::Rotate => (&gateways, 0..1, 0..1),
        Kind::Expire => (&gateways, 2_000..6_000, 0..1),
        Kind::DiskFull => (&[Place::Gw1, Place::Gw2], 1_000..5_000, 0..1),
        Kind::PowerCut => (&[Place::Gw1, Place::Gw2], 200..1_000, 1..400),
        Kind::Clock => (&gateways, 1_000..4_000, 1..100_000_000),
        Kind::Fsync => (&[Place::Gw1, Place::Gw2], 500..1_500, 1..40),
        Kind::Restore => (&[Place::Gw1, Place::Gw2], 1_500..5_000, 0..1),
        Kind::Burn => (&[Place::Gw1, Place::Gw2], 1_000..4_000, 0..1),
        Kind::Takeover => (&[Place::Gw1], 11_000..16_000, 0..1),
        Kind::Twin => (&[Place::Gw1, Place::Gw3], 1_000..6_000, 0..1),
    };
    let lasts = dice.random_range(lasts);
    let latest = room.saturating_sub(lasts).max(1);
    Planned {
        at: Duration::from_millis(dice.random_range(0..latest)),
        lasts: Duration::from_millis(lasts),
        kind,
        place: *places.choose(dice).unwrap_or(&places[0]),
        amount: dice.random_range(amounts),
    }
}

/// As on the command line.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    let known = value.to_possible_value();
    known.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "at {:>7.3} s for {:>6.3} s  {:<13} {:<8}",
            self.at.as_secs_f64(),
            self.lasts.as_secs_f64(),
            word(&self.kind),
            word(&self.place)
        )?;
        match self.amount {
            0 => Ok(()),
            amount => write!(f, " {amount}"),
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# seed {}, {} s", self.seed, self.length.as_secs_f64())?;
        for fault in &self.faults {
            writeln!(f, "{}", fault.to_string().trim_end())?;
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = anyhow::Error;

    /// Reads what [`fmt::Display`] writes. Lines may be taken out, added and changed.
    fn from_str(text: &str) -> anyhow::Result<Schedule> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let head = lines.next().context("an empty schedule")?;
        let words: Vec<&str> = head.split_whitespace().collect();
        let ["#", "seed", seed, length, "s"] = words[..] else {
            bail!("a schedule begins with `# seed <number>, <seconds> s`, not with `{head}`");
        };
        let mut faults = Vec::new();
        for line in lines {
            faults.push(fault(line).with_context(|| format!("in the schedule: `{line}`"))?);
        }
        faults.sort_by_key(|fault| fault.at);
        Ok(Schedule {
            seed: seed.trim_end_matches(',').parse().context("the seed")?,
            length: seconds(length)?,
            faults,
        })
    }
}

fn fault(line: &str) -> anyhow::Result<Planned> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (words, amount) = match words[..] {
        [.., amount] if words.len() == 9 => (&words[..8], amount.parse().context("the amount")?),
        _ => (&words[..], 0),
    };
    let ["at", at, "s", "for", lasts, "s", kind, place] = words[..] else {
        bail!("not of the form `at <seconds> s for <seconds> s <kind> <place> [<amount>]`");
    };
    Ok(Planned {
        at: seconds(at)?,
        lasts: seconds(lasts)?,
        kind: Kind::from_str(kind, false).map_err(anyhow::Error::msg)?,
        place: Place::from_str(place, false).map_err(anyhow::Error::msg)?,
        amount,
    })
}

/// To the millisecond, as it is written.
fn seconds(text: &str) -> anyhow::Result<Duration> {
    let seconds: f64 = text.parse().with_context(|| format!("`{text}` as seconds"))?;
    let taken = Duration::try_from_secs_f64(seconds).context("as a time")?;
    Ok(Duration::from_millis(taken.as_millis().try_into()?).min(LENGTH_MAX))
}

/// Longer than anybody waits.
const LENGTH_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(20);

    #[test]
    fn a_seed_makes_one_schedule_and_its_text_is_that_schedule() {
        for seed in 0..200 {
            let schedule = Schedule::from_seed(seed, LENGTH, Kind::value_variants());
            assert_eq!(
                schedule,
                Schedule::from_seed(seed, LENGTH, Kind::value_variants())
            );
            assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
            assert!(schedule.faults.len() >= 3, "{schedule}");
        }
    }

    #[test]
    fn faults_stay_within_the_schedule_and_do_not_meet_in_one_place() {
        for seed in 0..500 {
            let Schedule { faults, .. } = Schedule::from_seed(seed, LENGTH, Kind::value_variants());
            for (number, fault) in faults.iter().enumerate() {
                assert!(fault.at + fault.lasts <= LENGTH, "{fault}");
                let others = faults[number + 1..].iter();
                assert!(!others.clone().any(|other| fault.meets(other)), "{faults:?}");
            }
        }
    }

    #[test]
    fn every_kind_is_chosen_by_some_seed_and_only_those_that_were_asked_for() {
        let mut seen: Vec<Kind> = (0..200)
            .flat_map(|seed| Schedule::from_seed(seed, LENGTH, Kind::value_variants()).faults)
            .map(|fault| fault.kind)
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, Kind::value_variants());
        let only = Schedule::from_seed(1, LENGTH, &[Kind::Cut]);
        assert!(only.faults.iter().all(|fault| fault.kind == Kind::Cut));
    }

    #[test]
    fn a_line_that_is_no_fault_is_named() {
        let check = |text: &str, expected: &str| {
            let said = format!("{:#}", text.parse::<Schedule>().unwrap_err());
            assert!(said.contains(expected), "{said}");
        };
        check("", "an empty schedule");
        check("at 1 s for 2 s cut west", "begins with");
        check("# seed 1, 20 s\nat 1 s for 2 s saw west", "saw");
        check("# seed 1, 20 s\nat 1 s for 2 s cut north", "north");
        check("# seed 1, 20 s\nat -1 s for 2 s cut west", "as a time");
        check("# seed 1, 20 s\nat 1 s cut west", "not of the form");
    }
}
