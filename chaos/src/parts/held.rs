//! Part `held`: a request to the target's broker, or its answer, arrives late, also after its sender has died.
//!
//! An EndTxn of a dead epoch that comes after its successor has begun is the trap that KIP-890 closes on the broker's
//! side; a sink must not depend on it.

use super::{DRAIN, Orders, with_site};
use crate::judge::{self, alarms};
use crate::load::Load;
use crate::record::Figures;
use crate::site::{Options, Site};
use crate::watch::Watch;
use culvert_tests::proxy::{Piece, api};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::thread;
use std::time::Duration;

/// A commit is asked for many times a second.
const CATCH: Duration = Duration::from_secs(30);

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let site = Site::start(&Options::new(orders.seed))?;
    with_site(orders, "held", &site, || hold(orders, &site))
}

fn hold(orders: &Orders, site: &Site) -> anyhow::Result<Figures> {
    let watch = Watch::start(site)?;
    let load = Load::start(site, Some(2_000), None, orders.seed)?;
    watch.reaches(&vec![1; site.partitions as usize], DRAIN)?;
    let mut dice = ChaCha8Rng::seed_from_u64(orders.seed);
    let rounds = if orders.quick { 1 } else { 4 };
    let mut held = 0;
    for _ in 0..rounds {
        for piece in [
            Piece::Request(api::END_TXN),
            Piece::Answer(api::END_TXN),
            Piece::Request(api::PRODUCE),
            Piece::Answer(api::PRODUCE),
        ] {
            for dies in [false, true] {
                let hold = site.target.proxy().hold(piece);
                hold.wait_caught(CATCH)?;
                if dies {
                    site.gateway(3).restart()?;
                }
                thread::sleep(Duration::from_millis(dice.random_range(0..12_000)));
                hold.release();
                held += 1;
                advance(&watch)?;
            }
        }
    }
    load.stop()?;
    let count = judge::judge(site, &watch, DRAIN, true)?;
    let mut figures = Figures::default();
    figures.add(
        "held",
        format!("{held} requests and answers, {} with a death", held / 2),
    );
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add("alarms", alarms(site).join(", "));
    Ok(figures)
}

/// Waits until each partition has gone on.
fn advance(watch: &Watch) -> anyhow::Result<()> {
    let further: Vec<u64> = watch.view().next.iter().map(|next| next + 1_000).collect();
    watch.reaches(&further, DRAIN).map(drop)
}
