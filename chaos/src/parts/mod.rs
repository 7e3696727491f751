//! The parts of a soak, one file each.

mod brokers;
mod held;
mod kills;
mod long_cut;
mod prove;
mod storm;
mod takeover;
mod volume;
mod zombie;

use crate::record::Figures;
use crate::site::Site;
use std::path::PathBuf;
use std::time::Duration;

/// What every part is told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Decides what is broken, when and for how long.
    pub seed: u64,
    /// A run of minutes instead of hours.
    pub quick: bool,
    /// Where the logs of a part that failed are kept.
    pub keep: PathBuf,
}

/// A part of the soak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Gateways are killed again and again under load, in bad weather.
    Kills,
    /// A frozen gateway wakes up in a world that has gone on.
    Zombie,
    /// Single requests to the target's broker arrive late, also those of a gateway that is dead.
    Held,
    /// Brokers are killed and restarted under load.
    Brokers,
    /// A gateway's host and disk are gone, another one of its network goes on.
    Takeover,
    /// A link is down for minutes at 10,000 records a second.
    LongCut,
    /// 5 GB through the outbox of each engine.
    Volume,
    /// A million random datagrams, and a million made of a live link's own, are thrown at it.
    Storm,
    /// Ten million records are proven in bounded memory, and a lost and a doubled one are named.
    Prove,
}

impl Part {
    /// Runs it to its verdict.
    ///
    /// # Errors
    /// When something was lost, doubled, put out of order or too slow.
    pub fn run(self, orders: &Orders) -> anyhow::Result<Figures> {
        match self {
            Part::Kills => kills::run(orders),
            Part::Zombie => zombie::run(orders),
            Part::Held => held::run(orders),
            Part::Brokers => brokers::run(orders),
            Part::Takeover => takeover::run(orders),
            Part::LongCut => long_cut::run(orders),
            Part::Volume => volume::run(orders),
            Part::Storm => storm::run(orders),
            Part::Prove => prove::run(orders),
        }
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Part::Kills => "kills",
            Part::Zombie => "zombie",
            Part::Held => "held",
            Part::Brokers => "brokers",
            Part::Takeover => "takeover",
            Part::LongCut => "long-cut",
            Part::Volume => "volume",
            Part::Storm => "storm",
            Part::Prove => "prove",
        }
    }
}

/// How long a site may take to deliver everything once nothing is broken any more.
const DRAIN: Duration = Duration::from_secs(300);

/// Lets `act` work with a site, and keeps the site's logs when it fails.
fn with_site(
    orders: &Orders,
    name: &str,
    site: &Site,
    act: impl FnOnce() -> anyhow::Result<Figures>,
) -> anyhow::Result<Figures> {
    let outcome = act();
    if outcome.is_err() {
        site.keep(&orders.keep.join(format!("{name}-{}", orders.seed)))?;
    }
    outcome
}
