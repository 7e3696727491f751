//! What a steady load meets: from the moment at which a record should have been sent to the moment at which a consumer
//! of committed records at B has it.
//!
//! The load is open: a record that could not be sent in time keeps its time, so a stall counts for everything that waited
//! behind it.

use crate::Sizes;
use crate::kafka::{Cluster, Load, due_ns};
use crate::meter::{Moment, forget_peak, peak_mib};
use crate::mirror::{FIRST, Kind};
use anyhow::{Context, bail};
use rdkafka::message::Message;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::Offset;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Records a second.
const PACE: u64 = 10_000;

/// How long the last records may take.
const DRAIN: Duration = Duration::from_secs(30);

/// What the load met.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) runs: Vec<Run>,
    /// Cores in use, all processes of the mirror together.
    pub(crate) cores: f64,
    pub(crate) others: f64,
    /// The most memory of each process while the load ran, MiB.
    pub(crate) peaks: Vec<f64>,
}

/// One run, in milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// The same load with no mirror in between: what brokers and clients cost.
pub(crate) fn floor(source: &Cluster, sizes: &Sizes) -> anyhow::Result<Row> {
    eprintln!("no mirror: paced");
    let topic = "floor";
    source.make(topic)?;
    let before = Moment::now(&[])?;
    let runs = load(source, topic, source, topic, sizes)?;
    let used = Moment::now(&[])?.since(&before);
    source.delete(topic)?;
    Ok(Row {
        title: "no mirror (A = B)",
        runs,
        cores: 0.0,
        others: used.others,
        peaks: Vec::new(),
    })
}

/// Puts the load on one mirror.
pub(crate) fn measure(kind: Kind, source: &Cluster, target: &Cluster, sizes: &Sizes) -> anyhow::Result<Row> {
    eprintln!("{}: paced", kind.title());
    let topic = "paced";
    source.make(topic)?;
    source.fill(topic, 1)?;
    let mut mirror = kind.prepare(source, target, topic)?;
    let arriving = mirror.target_topic();
    mirror.launch()?;
    target.wait_stable(&arriving, |stable| stable > 0, Duration::from_millis(20), FIRST)?;
    let processes = mirror.processes()?;
    processes.iter().try_for_each(|id| forget_peak(*id))?;
    let before = Moment::now(&processes)?;
    let runs = load(source, topic, target, &arriving, sizes)?;
    let used = Moment::now(&processes)?.since(&before);
    let peaks = processes
        .iter()
        .map(|id| peak_mib(*id))
        .collect::<anyhow::Result<_>>()?;
    mirror.judge()?;
    drop(mirror);
    source.delete(topic)?;
    target.delete(&arriving)?;
    let cores = used.cpu.as_secs_f64() / used.wall.as_secs_f64();
    for run in &runs {
        eprintln!(
            "  p50 {:.1} p95 {:.1} p99 {:.1} max {:.1} ms",
            run.p50, run.p95, run.p99, run.max
        );
    }
    eprintln!("  {cores:.2} cores, {peaks:.0?} MiB, others {:.2}", used.others);
    Ok(Row {
        title: kind.title(),
        runs,
        cores,
        others: used.others,
        peaks,
    })
}

/// Sends and receives at the same time; one [`Run`] for each stretch of the load.
pub(crate) fn load(
    from: &Cluster,
    topic: &str,
    to: &Cluster,
    arriving: &str,
    sizes: &Sizes,
) -> anyhow::Result<Vec<Run>> {
    let producer = from.producer(1)?;
    let reader = to.reader(arriving, Offset::End)?;
    // Assigned in the background; a second is far more than it takes, and nothing is measured in it.
    let settled = Instant::now() + Duration::from_secs(1);
    while Instant::now() < settled {
        reader.poll(Duration::from_millis(50)).transpose()?;
    }
    let seconds = sizes.paced_warm_up + sizes.paced_run * sizes.paced_runs as u64;
    let (epoch, ended) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| -> anyhow::Result<u64> {
            let mut load = Load::default();
            while load.sent() < seconds * PACE {
                let due = u64::try_from(epoch.elapsed().as_nanos())? * PACE / 1_000_000_000;
                while load.sent() < due.min(seconds * PACE) {
                    let due_ns = load.sent() * (1_000_000_000 / PACE);
                    load.send(&producer, topic, due_ns)?;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            producer.flush(DRAIN)?;
            ended.store(true, Ordering::Release);
            Ok(load.sent())
        });
        let mut waits = vec![Vec::new(); sizes.paced_runs];
        let (mut arrived, mut give_up) = (0, None);
        while arrived < seconds * PACE {
            if let Some(message) = reader.poll(Duration::from_millis(100)) {
                let due = message?
                    .payload()
                    .and_then(due_ns)
                    .context("a value was changed")?;
                arrived += 1;
                let waited = u64::try_from(epoch.elapsed().as_nanos())?.saturating_sub(due);
                let second = (due / 1_000_000_000).checked_sub(sizes.paced_warm_up);
                if let Some(run) = second.map(|second| second / sizes.paced_run)
                    && let Some(waits) = waits.get_mut(usize::try_from(run)?)
                {
                    waits.push(waited);
                }
            }
            if ended.load(Ordering::Acquire)
                && Instant::now() > *give_up.get_or_insert_with(|| Instant::now() + DRAIN)
            {
                bail!("{arrived} of {} records arrived", seconds * PACE);
            }
        }
        sender
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        Ok(waits.iter_mut().map(|waits| summarise(waits)).collect())
    })
}

fn summarise(waits: &mut [u64]) -> Run {
    waits.sort_unstable();
    let at = |share: f64| {
        let last = waits.len().saturating_sub(1);
        let index = (waits.len() as f64 * share) as usize;
        waits.get(index.min(last)).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    };
    Run {
        p50: at(0.5),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}
