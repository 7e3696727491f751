//! Part `kills`: whichever process dies, whenever, in whatever weather.

use super::{DRAIN, Orders, with_site};
use crate::judge::{self, alarms};
use crate::kafka::Reader;
use crate::load::Load;
use crate::record::Figures;
use crate::sample::quantile;
use crate::site::{Options, Site, TOPIC};
use crate::watch::Watch;
use culvert_tests::relay::Weather;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

struct Size {
    kills: usize,
    records: u64,
    rate: u64,
}

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let size = if orders.quick {
        Size {
            kills: 15,
            records: 50_000,
            rate: 2_000,
        }
    } else {
        Size {
            kills: 105,
            records: 1_000_000,
            rate: 4_000,
        }
    };
    let site = Site::start(&Options::new(orders.seed))?;
    with_site(orders, "kills", &site, || storm(orders, &size, &site))
}

fn storm(orders: &Orders, size: &Size, site: &Site) -> anyhow::Result<Figures> {
    let watch = Watch::start(site)?;
    let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
    let load = Load::start(site, Some(size.rate), None, orders.seed)?;
    // Begins when records arrive.
    watch.reaches(&vec![1; site.partitions as usize], DRAIN)?;
    let over = AtomicBool::new(false);
    let recoveries = thread::scope(|scope| {
        scope.spawn(|| weather(site, orders.seed, &over));
        let outcome = kill(orders, size, site, &watch, &source);
        over.store(true, Ordering::Relaxed);
        outcome
    });
    let mut recoveries = recoveries?;
    load.stop()?;
    let drained = Instant::now();
    let count = judge::judge(site, &watch, DRAIN, true)?;
    let mut figures = Figures::default();
    figures.add("kills", recoveries.kills.to_string());
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add(
        "recovery p50",
        format!("{:.2} s", quantile(&mut recoveries.seconds, 0.5)),
    );
    figures.add(
        "recovery p99",
        format!("{:.2} s", quantile(&mut recoveries.seconds, 0.99)),
    );
    figures.add(
        "drain and verdict",
        format!("{:.1} s", drained.elapsed().as_secs_f64()),
    );
    figures.add("alarms", alarms(site).join(", "));
    Ok(figures)
}

/// From a restart until all that the source held at that moment has arrived: a backlog that drains is no recovery.
#[derive(Default)]
struct Recoveries {
    kills: usize,
    seconds: Vec<f64>,
}

/// Slower than this is a fault: two commits that time out and a session that is lost fit in.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

fn kill(
    orders: &Orders,
    size: &Size,
    site: &Site,
    watch: &Watch,
    source: &Reader,
) -> anyhow::Result<Recoveries> {
    let mut dice = ChaCha8Rng::seed_from_u64(orders.seed);
    let mut done = Recoveries::default();
    while done.kills < size.kills || source.ends()?.iter().sum::<u64>() < size.records {
        let victim = site.gateway(dice.random_range(1..=3));
        victim.kill9()?;
        done.kills += 1;
        thread::sleep(Duration::from_millis(dice.random_range(0..1_000)));
        victim.launch()?;
        if dice.random_bool(0.5) {
            // The next one dies while this one still finds its way.
            thread::sleep(Duration::from_millis(dice.random_range(0..1_500)));
            continue;
        }
        let restarted = source.ends()?;
        let recovery = watch.reaches(&restarted, RECOVERY_MAX);
        recovery.as_ref().map_or_else(|_| site.all_run(), |_| Ok(()))?;
        done.seconds.push(recovery?.as_secs_f64());
        thread::sleep(Duration::from_millis(dice.random_range(0..500)));
    }
    Ok(done)
}

/// Each link has its own weather, until `over`.
fn weather(site: &Site, seed: u64, over: &AtomicBool) {
    let mut dice = ChaCha8Rng::seed_from_u64(seed ^ 0x77);
    while !over.load(Ordering::Relaxed) {
        let link = if dice.random_bool(0.5) {
            &site.west
        } else {
            &site.east
        };
        match dice.random_range(0..6) {
            0 => link.cut(),
            1 => link.udp.set(Weather {
                loss: dice.random_range(0.001..0.05),
                duplication: 0.01,
                ..Weather::default()
            }),
            2 | 3 => link.udp.set(Weather {
                delay: Duration::from_millis(dice.random_range(1..60)),
                jitter: Duration::from_millis(dice.random_range(0..20)),
                ..Weather::default()
            }),
            _ => link.heal(),
        }
        thread::sleep(Duration::from_millis(dice.random_range(100..1_200)));
        // A cut lasts one spell.
        site.west.heal();
        site.east.heal();
    }
}
