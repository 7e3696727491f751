//! Part `long-cut`: a link is down for minutes; the backlog goes to disk, memory does not grow, and it all drains.

use super::{DRAIN, Orders, with_site};
use crate::judge::{self, alarms};
use crate::kafka::Reader;
use crate::load::Load;
use crate::record::Figures;
use crate::sample::{disk, mib, peak, resident};
use crate::site::{Options, Site, TOPIC};
use crate::watch::Watch;
use anyhow::{bail, ensure};
use std::thread;
use std::time::{Duration, Instant};

/// Records a second.
const RATE: u64 = 10_000;

/// Resident memory may grow by this between the first and the last third of a cut: allocator and page tables, no record.
const GROWTH_MAX: u64 = 64 << 20;

pub(super) fn run(orders: &Orders) -> anyhow::Result<Figures> {
    let site = Site::start(&Options::new(orders.seed))?;
    with_site(orders, "long-cut", &site, || cut(orders, &site))
}

fn cut(orders: &Orders, site: &Site) -> anyhow::Result<Figures> {
    let watch = Watch::start(site)?;
    let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
    let load = Load::start(site, Some(RATE), None, orders.seed)?;
    watch.reaches(&vec![RATE; site.partitions as usize], DRAIN)?;
    let before = disk(site.gateway(1));
    site.west.cut();
    let length = Duration::from_secs(if orders.quick { 30 } else { 300 });
    let samples = observe(site, &watch, &source, length)?;
    site.west.heal();
    let catch_up = catch_up(&watch, &source)?;
    load.stop()?;
    let count = judge::judge(site, &watch, DRAIN, true)?;
    let after = given_back(site, before);

    let mut figures = Figures::default();
    let [first, last] = samples.resident_thirds();
    figures.add("cut", format!("{} s", length.as_secs()));
    figures.add(
        "backlog",
        format!("{} records", samples.backlogs.last().copied().unwrap_or(0)),
    );
    figures.add("backlog, halves", format!("{:.2} : 1", samples.evenness()));
    figures.add(
        "gw1 memory",
        format!(
            "{} at first, {} at last: {}",
            mib(first),
            mib(last),
            samples.resident_course()
        ),
    );
    let peaks: Vec<String> = site
        .gateways
        .iter()
        .map(|gateway| peak(gateway).map(mib))
        .collect::<anyhow::Result<_>>()?;
    figures.add("memory at most, catch-up too", peaks.join(", "));
    figures.add(
        "catch-up",
        format!(
            "{:.0} records/s, {:.1} x arrival, {:.1} s",
            catch_up.rate,
            catch_up.rate / samples.arrival,
            catch_up.took.as_secs_f64()
        ),
    );
    let disk_peak = samples.disks.iter().max().copied().unwrap_or(0);
    figures.add(
        "gw1 disk",
        format!(
            "{} before, {} at most, {} after",
            mib(before),
            mib(disk_peak),
            mib(after)
        ),
    );
    figures.add("records", format!("{count}, lost 0, doubled 0, reordered 0"));
    figures.add("alarms", alarms(site).join(", "));
    ensure!(
        last <= first + GROWTH_MAX,
        "memory grew during the cut: {}",
        figures.line()
    );
    ensure!(
        (0.7..1.4).contains(&samples.evenness()),
        "the backlog did not grow evenly: {}",
        figures.line()
    );
    ensure!(
        after <= before + (disk_peak - before) / 4,
        "disk was not given back: {}",
        figures.line()
    );
    if catch_up.rate < 5.0 * samples.arrival {
        figures.add("SLOW", "catch-up is below 5 x arrival");
    }
    Ok(figures)
}

/// What a cut looked like, once a second.
struct Samples {
    resident: Vec<u64>,
    disks: Vec<u64>,
    backlogs: Vec<u64>,
    /// Records a second that the source really took.
    arrival: f64,
}

fn observe(site: &Site, watch: &Watch, source: &Reader, length: Duration) -> anyhow::Result<Samples> {
    let (mut resident_bytes, mut disks, mut backlogs) = (Vec::new(), Vec::new(), Vec::new());
    let at_first: u64 = source.ends()?.iter().sum();
    let started = Instant::now();
    while started.elapsed() < length {
        thread::sleep(Duration::from_secs(1));
        resident_bytes.push(resident(site.gateway(1))?);
        disks.push(disk(site.gateway(1)));
        backlogs.push(source.ends()?.iter().sum::<u64>() - watch.view().total);
    }
    let arrived = backlogs.last().copied().unwrap_or(0) + watch.view().total - at_first;
    Ok(Samples {
        resident: resident_bytes,
        disks,
        backlogs,
        arrival: arrived as f64 / started.elapsed().as_secs_f64(),
    })
}

impl Samples {
    /// The mean of the first and of the last third.
    fn resident_thirds(&self) -> [u64; 2] {
        let third = (self.resident.len() / 3).max(1);
        let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len().max(1) as u64;
        [
            mean(&self.resident[..third]),
            mean(&self.resident[self.resident.len() - third..]),
        ]
    }

    /// Ten samples, evenly spread: whether it still grows or has come to rest.
    fn resident_course(&self) -> String {
        let step = (self.resident.len() / 10).max(1);
        let course = self.resident.iter().step_by(step);
        course
            .map(|bytes| (bytes >> 20).to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// How much the backlog grew in the second half for each record of the first.
    fn evenness(&self) -> f64 {
        let at = |place: usize| self.backlogs.get(place).copied().unwrap_or(0) as f64;
        let half = self.backlogs.len() / 2;
        (at(self.backlogs.len().saturating_sub(1)) - at(half)) / (at(half) - at(0)).max(1.0)
    }
}

struct CatchUp {
    rate: f64,
    took: Duration,
}

/// Until less than a tenth of a second's load is on its way.
fn catch_up(watch: &Watch, source: &Reader) -> anyhow::Result<CatchUp> {
    let (started, at_first) = (Instant::now(), watch.view().total);
    loop {
        let view = watch.view();
        if let Some(fault) = view.fault {
            bail!("{fault}");
        }
        if source.ends()?.iter().sum::<u64>() < view.total + RATE / 2 {
            let took = started.elapsed();
            return Ok(CatchUp {
                rate: (view.total - at_first) as f64 / took.as_secs_f64(),
                took,
            });
        }
        if started.elapsed() > DRAIN {
            bail!("not caught up within {DRAIN:?}: {view:?}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Space is given back in the background: what it comes to within a minute.
fn given_back(site: &Site, before: u64) -> u64 {
    let patience = Instant::now();
    loop {
        let now = disk(site.gateway(1));
        if now <= before || patience.elapsed() > Duration::from_secs(60) {
            return now;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_and_halves_are_told_apart() {
        let samples = Samples {
            resident: vec![10, 10, 20, 20, 30, 30],
            disks: Vec::new(),
            backlogs: vec![0, 10, 20, 30, 60],
            arrival: 0.0,
        };
        assert_eq!(samples.resident_thirds(), [10, 30]);
        assert_eq!(samples.evenness(), 2.0);
    }
}
