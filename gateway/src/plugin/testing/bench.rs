//! How fast a plugin is on this host.

use super::message::{Message, Placed, columns, placed};
use super::settings::Setting;
use super::subject::{Refusal, Subject, Time};
use culvert_host::{Limits, LoadError, StageFault, Stream};
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often an instance is opened to know how long that takes.
const OPENED: usize = 20;

/// How long it takes until there is an instance.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// From the file to compiled code, in milliseconds.
    pub compiled_ms: f64,
    /// The same from the cache.
    pub cached_ms: f64,
    /// A fresh instance that is opened, in microseconds: the middle of 20.
    pub instance_us: f64,
}

/// Batches of one size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// Messages in a batch.
    pub batch: usize,
    /// Messages a second, on one core.
    pub records_per_second: f64,
    /// Time a message.
    pub us_per_record: f64,
    /// The most memory an instance had.
    pub memory_bytes_peak: u64,
    /// Calls that did not come back: the figures are worth little then.
    pub faults: u64,
}

/// A plugin, and how long it took to load it: compiled, and from a cache in `folder`.
///
/// # Errors
/// When it cannot be run.
pub fn loaded(component: &[u8], folder: &Path) -> Result<(Subject, Duration, Duration), LoadError> {
    let load = || {
        let began = Instant::now();
        let subject = Subject::load(component, Some(folder.to_owned()), Limits::default())?;
        Ok((subject, began.elapsed()))
    };
    let (_, compiled) = load()?;
    let (subject, cached) = load()?;
    Ok((subject, compiled, cached))
}

/// The figures of each batch size, `seconds` for each; `messages` come round and round.
///
/// # Errors
/// The plugin does not open with these settings, or fails a batch as a whole.
pub fn measure(
    subject: &Subject,
    settings: &[Setting],
    messages: &[Message],
    sizes: &[usize],
    time: Duration,
    mut each: impl FnMut(&Row),
) -> Result<(Duration, Vec<Row>), String> {
    let instance = instance_time(subject, settings)?;
    let mut rows = Vec::new();
    for size in sizes {
        let row = row(subject, settings, messages, *size, time)?;
        each(&row);
        rows.push(row);
    }
    Ok((instance, rows))
}

fn instance_time(subject: &Subject, settings: &[Setting]) -> Result<Duration, String> {
    let mut times = Vec::with_capacity(OPENED);
    for _ in 0..OPENED {
        let began = Instant::now();
        subject.open(settings, Time::Real).map_err(refused)?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times[OPENED / 2])
}

fn refused(refusal: Refusal) -> String {
    match refusal {
        Refusal::Fatal(why) | Refusal::Retry(why) => {
            format!("the plugin does not open with these settings: {why}\n\nGive others: --set KEY=VALUE")
        }
        Refusal::Broken(why) => why,
    }
}

fn row(
    subject: &Subject,
    settings: &[Setting],
    messages: &[Message],
    size: usize,
    time: Duration,
) -> Result<Row, String> {
    let batch: Vec<Placed> = placed(0, messages.iter().cycle().take(size).cloned());
    let columns = columns(&batch).map_err(|why| format!("a batch of {size}: {why}"))?;
    let stream = Stream {
        id: "site/stream/0",
        topic: "bench",
        partition: 0,
    };
    let mut opened = subject.open(settings, Time::Real).map_err(refused)?;
    let mut call = || match opened.transform().process(&stream, &columns) {
        Ok(outcomes) => Ok(outcomes.len()),
        Err(StageFault::Retry { reason, .. } | StageFault::Stop { reason, .. }) => {
            Err(format!("a batch of {size} fails as a whole: {reason}"))
        }
    };
    // What is done once, such as growing memory, is done before.
    let warm = Instant::now();
    while warm.elapsed() < time / 10 {
        call()?;
    }
    let (began, mut records) = (Instant::now(), 0);
    while began.elapsed() < time {
        records += call()?;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(Row {
        batch: size,
        records_per_second: records as f64 / seconds,
        us_per_record: seconds * 1e6 / records.max(1) as f64,
        memory_bytes_peak: opened.usage().memory_bytes_peak,
        faults: opened.faults(),
    })
}
