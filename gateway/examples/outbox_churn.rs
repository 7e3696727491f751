//! Data passes through an outbox: so many megabytes through a window of so many, and then it is drained. Prints what
//! it cost.
//!
//! ```text
//! cargo run --profile bench-fast --example outbox_churn -- <log|sled> <directory> [total MB] [window MB] [frame KB]
//! ```
//!
//! The content is incompressible. A record is taken for 200 bytes.
#![allow(clippy::print_stdout)] // an example is a command line

use anyhow::{Context as _, bail};
use bytes::Bytes;
use culvert::outbox::{EngineKind, Error, FLUSH_SECONDS_BOUNDS, Flushes, Lane, Options, Outbox};
use culvert_proto::{Interval, Sequence};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RECORD_BYTES: u64 = 200;
const MB: u64 = 1 << 20;

struct Arguments {
    engine: EngineKind,
    directory: PathBuf,
    total_bytes: u64,
    window_bytes: u64,
    frame_bytes: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    let Arguments {
        engine,
        directory,
        total_bytes,
        window_bytes,
        frame_bytes,
    } = &arguments;
    let outbox = Outbox::open(&Options {
        engine: *engine,
        quota_bytes: 4 * window_bytes + 256 * MB,
        ..Options::new(directory)
    })?;
    let lane = outbox.lane(b"churn")?;
    lane.restart(Sequence::ZERO)?;
    let content = content(64 * MB);
    let records = frame_bytes / RECORD_BYTES;
    let (frames, window) = (total_bytes / frame_bytes, window_bytes / frame_bytes);

    let (begin, mut peak, mut measured) = (
        Instant::now(),
        Disk {
            bytes: 0,
            beyond_twice_live: i64::MIN,
        },
        Instant::now(),
    );
    for number in 0..frames {
        let at = usize::try_from(number * frame_bytes % (content.len() as u64 - frame_bytes))?;
        let frame = content.slice(at..at + usize::try_from(*frame_bytes)?);
        let interval = Interval::new(Sequence(number * records), Sequence((number + 1) * records));
        while let Err(error) = lane.append(interval, frame.clone()) {
            match error {
                Error::Full(_) => outbox.sync()?,
                error => return Err(error.into()),
            }
        }
        if number >= window {
            lane.trim(Sequence((number - window) * records))?;
        }
        if measured.elapsed() > Duration::from_millis(100) {
            measured = Instant::now();
            peak.raise(Disk::of(directory, &outbox)?);
        }
    }
    outbox.sync()?;
    let took = begin.elapsed();
    let held = outbox.stats().held_bytes;
    println!("engine                {}", engine.name());
    println!(
        "passed                {} MB in {:.1} s",
        total_bytes / MB,
        took.as_secs_f64()
    );
    println!(
        "rate                  {:.0} records/s",
        (frames * records) as f64 / took.as_secs_f64()
    );
    println!("live in the window    {} MB", held / MB);
    println!(
        "disk at the end       {} MB",
        Disk::of(directory, &outbox)?.bytes / MB
    );
    println!(
        "disk, most            {} MB; at most 2 times live {:+} MB",
        peak.bytes / MB,
        peak.beyond_twice_live / MB.cast_signed()
    );
    println!("RSS                   {} MB", rss_bytes()? / MB);
    flushes(&outbox.stats().flushes);

    pace(&lane, &content, frames * records, directory)?;

    lane.trim(Sequence(u64::MAX))?;
    outbox.sync()?;
    let (drained, deadline) = (Instant::now(), Duration::from_secs(120));
    while Disk::of(directory, &outbox)?.bytes > 64 * MB && drained.elapsed() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "disk after draining   {} MB, {:.1} s later",
        Disk::of(directory, &outbox)?.bytes / MB,
        drained.elapsed().as_secs_f64()
    );
    outbox.close_blocking()?;
    Ok(())
}

/// A frame of 20 KB every 5 ms, 20,000 records a second, and how long it takes from append to durable; beside it what
/// a bare write and fdatasync of as much takes on the same disk at the same time.
fn pace(lane: &Lane, content: &Bytes, begin: u64, directory: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (mut took, mut bare) = (Vec::new(), Vec::new());
    let mut extents = lane.watch();
    let yardstick = std::fs::File::create(directory.join("yardstick"))?;
    for number in 0..400 {
        let interval = Interval::new(Sequence(begin + number), Sequence(begin + number + 1));
        let at = usize::try_from(number)? * 20_000;
        let frame = content.slice(at..at + 20_000);
        let written = Instant::now();
        yardstick.write_all_at(&frame, at as u64)?;
        yardstick.sync_data()?;
        bare.push(written.elapsed());
        std::thread::sleep(Duration::from_millis(5));
        let appended = Instant::now();
        lane.append(interval, frame)?;
        runtime.block_on(extents.wait_for(|extent| extent.durable >= interval.to))?;
        took.push(appended.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_file(directory.join("yardstick"))?;
    println!("append to durable     {}", percentiles(took));
    println!("bare write + sync     {}", percentiles(bare));
    Ok(())
}

fn percentiles(mut took: Vec<Duration>) -> String {
    took.sort();
    let of = |part: usize| took[took.len() * part / 100].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms", of(50), of(95), of(99))
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut words = std::env::args().skip(1);
    let engine = match words.next().as_deref() {
        Some("log") => EngineKind::Log,
        Some("sled") => EngineKind::Sled,
        _ => bail!("usage: outbox_churn <log|sled> <directory> [total MB] [window MB] [frame KB]"),
    };
    let directory = words.next().context("name a directory")?.into();
    let mut number = |default: u64| words.next().map_or(Ok(default), |word| word.parse());
    let (total, window, frame) = (number(5_200)?, number(200)?, number(200)?);
    Ok(Arguments {
        engine,
        directory,
        total_bytes: total * MB,
        window_bytes: window * MB,
        frame_bytes: frame << 10,
    })
}

fn content(bytes: u64) -> Bytes {
    let mut content = vec![0; usize::try_from(bytes).unwrap_or(0)];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut content);
    content.into()
}

#[derive(Clone, Copy)]
struct Disk {
    bytes: u64,
    beyond_twice_live: i64,
}

impl Disk {
    /// What the directory takes, without the reserve.
    fn of(directory: &Path, outbox: &Outbox) -> anyhow::Result<Disk> {
        let bytes = used(directory)?;
        let live = outbox.stats().held_bytes;
        Ok(Disk {
            bytes,
            beyond_twice_live: bytes.cast_signed() - 2 * live.cast_signed(),
        })
    }

    fn raise(&mut self, other: Disk) {
        self.bytes = self.bytes.max(other.bytes);
        self.beyond_twice_live = self.beyond_twice_live.max(other.beyond_twice_live);
    }
}

fn used(directory: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // Files come and go meanwhile.
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            bytes += used(&entry.path()).unwrap_or(0);
        } else if entry.file_name() != "reserve" {
            bytes += found.blocks() * 512;
        }
    }
    Ok(bytes)
}

fn rss_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn flushes(flushes: &Flushes) {
    let Flushes {
        count,
        seconds_sum,
        seconds_max,
        buckets,
    } = flushes;
    println!(
        "flushes               {count}, mean {:.2} ms, longest {:.0} ms",
        seconds_sum / *count as f64 * 1e3,
        seconds_max * 1e3
    );
    let mut below = 0;
    for (bound, bucket) in FLUSH_SECONDS_BOUNDS.iter().zip(buckets) {
        below += bucket;
        println!(
            "  within {:8.2} ms  {:5.1} %",
            bound * 1e3,
            below as f64 * 100.0 / *count as f64
        );
    }
}
