//! Part `zombie`: each gateway is frozen for longer than every session lasts, and wakes up with old beliefs.

use super::{DRAIN, Orders, with_site};
use crate::judge::{self, alarms};
use crate::kafka::Reader;
use crate::load::Load;
use crate::record::Figures;
use crate::site::{Options, Site, TOPIC};
use crate::watch::Watch;
use std::thread;
use std::time::Duration;

/// Longer than a consumer's session (10 s) and a link's idle time.
const FROZEN: Duration = Duration::from_secs(15);

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let site = Site::start(&Options {
        spare: true,
        ..Options::new(orders.seed)
    })?;
    with_site(orders, "zombie", &site, || freeze(orders, &site))
}

fn freeze(orders: &Orders, site: &Site) -> anyhow::Result<Figures> {
    let watch = Watch::start(site)?;
    let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
    let load = Load::start(site, Some(2_000), None, orders.seed)?;
    watch.reaches(&vec![1; site.partitions as usize], DRAIN)?;
    let mut figures = Figures::default();
    for (number, name) in [(3, "gw3 awake"), (1, "gw1 awake"), (2, "gw2 awake")] {
        site.gateway(number).pause()?;
        thread::sleep(FROZEN);
        site.gateway(number).resume()?;
        let caught_up = watch.reaches(&source.ends()?, DRAIN)?;
        figures.add(name, format!("{:.2} s to catch up", caught_up.as_secs_f64()));
    }
    load.stop()?;
    let count = judge::judge(site, &watch, DRAIN, true)?;
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add("alarms", alarms(site).join(", "));
    Ok(figures)
}
