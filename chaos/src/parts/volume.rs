//! Part `volume`: gigabytes through each engine's outbox. What is live stays small, so disk and memory must.

use super::{Orders, with_site};
use crate::judge::{self, alarms};
use crate::load::Load;
use crate::record::Figures;
use crate::sample::{disk, mib, resident};
use crate::site::{Options, Site};
use crate::watch::Watch;
use anyhow::bail;
use std::thread;
use std::time::{Duration, Instant};

/// How long one engine may take: 5 GB at 3 MB/s, which is a host that does much else.
const ALL: Duration = Duration::from_secs(1_800);

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for engine in ["sled", "log"] {
        let site = Site::start(&Options {
            engine,
            ..Options::new(orders.seed)
        })?;
        let shown = with_site(orders, "volume", &site, || carry(orders, &site))?;
        figures.add(engine, shown.line());
    }
    Ok(figures)
}

fn carry(orders: &Orders, site: &Site) -> anyhow::Result<Figures> {
    let bytes: u64 = if orders.quick { 250_000_000 } else { 5_000_000_000 };
    let watch = Watch::start(site)?;
    let load = Load::start(site, None, Some(bytes / RECORD_BYTES), orders.seed)?;
    let started = Instant::now();
    let (mut live_max, mut disk_max, mut memory) = (0, 0, Vec::new());
    while !load.ended() || watch.view().total < bytes / RECORD_BYTES {
        thread::sleep(Duration::from_secs(1));
        let gateway = site.gateway(1);
        live_max = live_max.max(gateway.metric("culvert_outbox_held_bytes")? as u64);
        disk_max = disk_max.max(disk(gateway));
        memory.push(resident(gateway)?);
        if started.elapsed() > ALL {
            bail!(
                "{} of {} records within {ALL:?}",
                watch.view().total,
                bytes / RECORD_BYTES
            );
        }
    }
    let took = started.elapsed().as_secs_f64();
    load.finish(Duration::from_secs(10))?;
    let count = judge::judge(site, &watch, ALL, false)?;
    let mut figures = Figures::default();
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add("bytes", format!("{:.2} GB", (count * RECORD_BYTES) as f64 / 1e9));
    figures.add("rate", format!("{:.0} records/s", count as f64 / took));
    figures.add("gw1 live at most", mib(live_max));
    figures.add("gw1 disk at most", mib(disk_max));
    let quarter = (memory.len() / 4).max(1);
    let most = |part: &[u64]| mib(part.iter().max().copied().unwrap_or(0));
    figures.add(
        "gw1 memory",
        format!(
            "{} in the first quarter, {} in the last",
            most(&memory[..quarter]),
            most(&memory[memory.len() - quarter..])
        ),
    );
    figures.add("alarms", alarms(site).join(", "));
    Ok(figures)
}

/// Key and value of a generated order on average (`culvert generate` says so).
const RECORD_BYTES: u64 = 300;
