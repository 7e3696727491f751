//! Part `takeover`: a host burns down with its disk; the other gateway of its network goes on from the positions.

use super::{DRAIN, Orders, with_site};
use crate::judge::{self, alarms};
use crate::kafka::Reader;
use crate::load::Load;
use crate::record::Figures;
use crate::site::{Options, Site, TOPIC};
use crate::watch::Watch;
use anyhow::{Context, bail};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// A consumer's session is 10 s; then the group is dealt anew.
const TAKEOVER_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let site = Site::start(&Options {
        spare: true,
        partitions: 4,
        ..Options::new(orders.seed)
    })?;
    with_site(orders, "takeover", &site, || burn(orders, &site))
}

fn burn(orders: &Orders, site: &Site) -> anyhow::Result<Figures> {
    let watch = Watch::start(site)?;
    let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
    let load = Load::start(site, Some(2_000), None, orders.seed)?;
    watch.reaches(&vec![500; site.partitions as usize], DRAIN)?;

    // What was read and not yet delivered is only on the disk that burns, and must come from the source again.
    site.west.cut();
    thread::sleep(Duration::from_secs(2));
    let gone = site.gateway(1);
    gone.kill9()?;
    fs::remove_dir_all(gone.directory().join("state")).context("burn the disk")?;
    let burnt = Instant::now();
    site.west.heal();
    let ends = source.ends()?;
    let first = first_new(&watch, &ends)?;
    watch.reaches(&ends, TAKEOVER_MAX)?;
    let caught_up = burnt.elapsed();

    // A new host of the same name, with an empty disk.
    gone.restart()?;
    watch.reaches(&source.ends()?, TAKEOVER_MAX)?;
    load.stop()?;
    let count = judge::judge(site, &watch, DRAIN, true)?;
    let mut figures = Figures::default();
    figures.add(
        "first new record, any partition",
        format!("{:.1} s", first.as_secs_f64()),
    );
    figures.add(
        "all partitions go on",
        format!("{:.1} s", caught_up.as_secs_f64()),
    );
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add("alarms", alarms(site).join(", "));
    Ok(figures)
}

/// How long until a record that nobody had read before the fire arrives in some partition.
fn first_new(watch: &Watch, ends: &[u64]) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while !watch.view().next.iter().zip(ends).any(|(next, end)| next > end) {
        if started.elapsed() > TAKEOVER_MAX {
            bail!("nothing new within {TAKEOVER_MAX:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(started.elapsed())
}
