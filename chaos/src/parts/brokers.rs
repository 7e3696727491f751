//! Part `brokers`: the brokers of both ends go away and come back under load, in good order and not.

use super::{DRAIN, Orders, with_site};
use crate::judge::{self, alarms};
use crate::kafka::Reader;
use crate::load::Load;
use crate::record::Figures;
use crate::site::{Options, Site, TOPIC};
use crate::watch::Watch;
use culvert_tests::Broker;
use std::thread;
use std::time::Duration;

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let site = Site::start(&Options::new(orders.seed))?;
    with_site(orders, "brokers", &site, || restart(orders, &site))
}

fn restart(orders: &Orders, site: &Site) -> anyhow::Result<Figures> {
    let watch = Watch::start(site)?;
    let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
    let load = Load::start(site, Some(2_000), None, orders.seed)?;
    watch.reaches(&vec![1; site.partitions as usize], DRAIN)?;
    let mut figures = Figures::default();
    for (broker, orderly, name) in [
        (&site.target, false, "target killed"),
        (&site.source, false, "source killed"),
        (&site.target, true, "target stopped"),
        (&site.source, true, "source stopped"),
    ] {
        go_away(broker, orderly)?;
        let caught_up = watch.reaches(&source.ends()?, DRAIN)?;
        figures.add(name, format!("{:.2} s to catch up", caught_up.as_secs_f64()));
    }
    load.stop()?;
    let count = judge::judge(site, &watch, DRAIN, true)?;
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add("alarms", alarms(site).join(", "));
    Ok(figures)
}

/// Long enough that clients see more than one failed attempt.
const AWAY: Duration = Duration::from_secs(5);

fn go_away(broker: &Broker, orderly: bool) -> anyhow::Result<()> {
    if orderly {
        broker.stop()?;
    } else {
        broker.kill9()?;
    }
    thread::sleep(AWAY);
    broker.restart()
}
