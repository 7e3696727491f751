//! How soon the first record is there: a new pair of gateways, with new state and a new connector, and a record that
//! waits at A. The brokers are warm, nothing else runs.

use crate::kafka::Cluster;
use crate::mirror::{FIRST, Kind, watched};
use anyhow::Context;
use std::time::{Duration, Instant};

/// How often progress is asked for.
const CLOSELY: Duration = Duration::from_millis(4);

/// What the starts of one mirror took.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    /// From the start of all processes to the first committed record, in order.
    pub(crate) took: Vec<Duration>,
}

/// Starts a mirror `times` times.
pub(crate) fn measure(kind: Kind, source: &Cluster, target: &Cluster, times: usize) -> anyhow::Result<Row> {
    eprintln!("{}: {times} starts", kind.title());
    let took = (0..times)
        .map(|number| start(kind, source, target, number))
        .collect::<anyhow::Result<_>>()?;
    Ok(Row {
        title: kind.title(),
        took,
    })
}

fn start(kind: Kind, source: &Cluster, target: &Cluster, number: usize) -> anyhow::Result<Duration> {
    let topic = format!("start-{number}");
    source.make(&topic)?;
    source.fill(&topic, 1)?;
    let mut mirror = kind.prepare(source, target, &topic)?;
    let arriving = mirror.target_topic();
    let started = Instant::now();
    let (_, at) = watched(&mut *mirror, |mirror| {
        mirror.launch()?;
        target
            .wait_stable(&arriving, |stable| stable > 0, CLOSELY, FIRST)
            .with_context(|| format!("the first record of start {number}"))
    })?;
    drop(mirror);
    source.delete(&topic)?;
    target.delete(&arriving)?;
    Ok(at - started)
}
