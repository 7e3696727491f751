//! A backlog waits at A; a mirror starts, catches up, and is killed on the way.

use crate::Sizes;
use crate::kafka::Cluster;
use crate::meter::{Moment, peak_mib};
use crate::mirror::{FIRST, Kind, Mirror, watched};
use anyhow::{Context, bail};
use std::time::{Duration, Instant};

/// The topic at A.
const TOPIC: &str = "orders";

/// How long the window, the tail and the reading back may each take.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often progress is asked for: at start and after a kill, and during the window.
const CLOSELY: Duration = Duration::from_millis(4);
const NOW_AND_THEN: Duration = Duration::from_millis(25);

/// After a kill, what was on its way has arrived when nothing came for this long.
const STILL: Duration = Duration::from_millis(400);

/// What one mirror did.
pub(crate) struct Row {
    pub(crate) kind: Kind,
    /// From the start of all processes to the first committed record.
    pub(crate) first: Duration,
    /// Records a second over the window.
    pub(crate) rate: f64,
    /// CPU seconds a million records, all processes of the mirror together.
    pub(crate) cpu: f64,
    /// Share of the machine that strangers used in the window.
    pub(crate) others: f64,
    /// The most memory of each process, MiB.
    pub(crate) peaks: Vec<f64>,
    /// From the restart after SIGKILL to the first new commit, by what was killed.
    pub(crate) restarts: Vec<(&'static str, Duration)>,
}

/// Puts at A what the largest of these mirrors needs.
pub(crate) fn fill(source: &Cluster, sizes: &Sizes, kinds: &[Kind]) -> anyhow::Result<()> {
    let most = kinds.iter().map(|kind| total(*kind, sizes)).max().unwrap_or(0);
    eprintln!("filling {most} records");
    source.make(TOPIC)?;
    source.fill(TOPIC, most).context("fill the source topic")?;
    if source.stable(TOPIC)? != most {
        bail!(
            "the source topic holds {} records and should hold {most}",
            source.stable(TOPIC)?
        );
    }
    Ok(())
}

fn total(kind: Kind, sizes: &Sizes) -> u64 {
    let (warm_up, window) = span(kind, sizes);
    warm_up + window + sizes.tail
}

fn span(kind: Kind, sizes: &Sizes) -> (u64, u64) {
    match kind {
        Kind::Mm2 => (sizes.warm_up_jvm, sizes.window_jvm),
        _ => (sizes.warm_up, sizes.window),
    }
}

/// Runs one mirror over the backlog, and reads back what arrived.
pub(crate) fn measure(kind: Kind, source: &Cluster, target: &Cluster, sizes: &Sizes) -> anyhow::Result<Row> {
    eprintln!("{}: backlog", kind.title());
    let mut mirror = kind.prepare(source, target, TOPIC)?;
    let row = watched(&mut *mirror, |mirror| {
        catch_up(kind, mirror, source, target, sizes)
    })?;
    let topic = mirror.target_topic();
    drop(mirror);
    target.delete(&topic)?;
    eprintln!(
        "  {:.0} records/s, {:.2} CPU s a million, others {:.2}",
        row.rate, row.cpu, row.others
    );
    Ok(row)
}

fn catch_up(
    kind: Kind,
    mirror: &mut dyn Mirror,
    source: &Cluster,
    target: &Cluster,
    sizes: &Sizes,
) -> anyhow::Result<Row> {
    let topic = mirror.target_topic();
    let started = Instant::now();
    mirror.launch()?;
    let (_, at) = target
        .wait_stable(&topic, |stable| stable > 0, CLOSELY, FIRST)
        .context("the first record")?;
    let first = at - started;

    let (warm_up, window) = span(kind, sizes);
    let processes = mirror.processes()?;
    let (from, began) = target.wait_stable(&topic, |stable| stable >= warm_up, NOW_AND_THEN, PATIENCE)?;
    let before = Moment::now(&processes)?;
    let (to, ended) = target.wait_stable(&topic, |stable| stable >= from + window, NOW_AND_THEN, PATIENCE)?;
    let used = Moment::now(&processes)?.since(&before);
    let delivered = (to - from) as f64;
    let peaks = processes
        .iter()
        .map(|id| peak_mib(*id))
        .collect::<anyhow::Result<_>>()?;

    let restarts = mirror
        .mortals()
        .into_iter()
        .map(|name| Ok((name, restart(mirror, name, target)?)))
        .collect::<anyhow::Result<_>>()?;

    let all = source.stable(TOPIC)?;
    target
        .wait_stable(&topic, |stable| stable >= all, NOW_AND_THEN, PATIENCE)
        .context("the rest")?;
    target.verify(&topic, all).context("read back what arrived")?;
    mirror.judge()?;
    Ok(Row {
        kind,
        first,
        rate: delivered / (ended - began).as_secs_f64(),
        cpu: used.cpu.as_secs_f64() / delivered * 1e6,
        others: used.others,
        peaks,
        restarts,
    })
}

/// From the restart of a killed process to the first new commit.
fn restart(mirror: &mut dyn Mirror, name: &str, target: &Cluster) -> anyhow::Result<Duration> {
    let topic = mirror.target_topic();
    mirror.kill(name)?;
    let still = target.wait_still(&topic, STILL)?;
    let again = Instant::now();
    mirror.revive(name)?;
    let (_, at) = target
        .wait_stable(&topic, |stable| stable > still, CLOSELY, FIRST)
        .with_context(|| format!("new commits after {name} was killed"))?;
    Ok(at - again)
}
