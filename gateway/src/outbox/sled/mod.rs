//! The sled engine: one tree of sled 1.0.0-alpha.124.
//!
//! Constraints:
//! - One tree with key prefixes: batches are not atomic across trees (alpha.124, `Tree::apply_batch`).
//! - The flush thread alone writes and flushes; sled's own flusher is off. A flush that failed is never repeated: sled
//!   has forgotten what was dirty.
//! - Running out of space inside sled kills the store for this process, so a commit is only begun when there is
//!   space to spare ([`Engine::need_bytes`]).
//! - A new store is not durable because sled has flushed it: [`settle`].
//! - A clone of a tree flushes when it is dropped: readers borrow clones and give them back ([`shelf::Pool`]).
//! - Frames are removed one by one, which merges emptied leaves; a batch of removes leaves them behind for ever
//!   (alpha.124, `apply_batch` collects merges and drops them).
//! - Every call may panic on damage and is caught.
//! - What sled has written stays in its memory: a tree that has grown is closed and opened again ([`reopen`]).
//! - Files do not shrink: space is given back by moving to a new generation ([`moving`]).
//!
//! ```text
//! "c"                        commits, next lane, how many lanes and settings there are, and their sum (sum.rs)
//! "f" lane life from         a frame                     (numbers big-endian)
//! "l" lane                   a lane as it stands
//! "s" key                    a setting
//! ```
//!
//! Each value is an entry with header and checksums of its own (`entry.rs`), whatever sled checks besides.

mod metadata;
mod moving;
mod recovery;
mod reopen;
mod shelf;
mod slots;
mod sum;
mod survey;

use super::change::{Catalog, Change, LaneId, LaneRecord, Life};
use super::disk::Disk;
use super::engine::{Engine, Fault, FrameRef, Index, Place, Shelf, Upkeep};
use super::entry::{Header, Kind};
use ::sled::{Batch, Db, InlineArray};
use culvert_proto::{Interval, Sequence};
use moving::Moving;
pub(super) use recovery::open;
pub(super) use recovery::walk;
use shelf::Pool;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sum::Sum;
pub(super) use survey::survey;

/// Values in a leaf, the unit of writing. Measured: 16 gave the best latency and CPU with one frame a value.
const FANOUT: usize = 16;

/// Measured: RSS stays flat at this size over 20 GB.
const CACHE_BYTES: usize = 16 << 20;

/// Frames are compressed before they get here; level -5 halves the CPU that sled's own compression takes.
const ZSTD_LEVEL: i32 = -5;

/// Dead frames are removed together: each time rewrites the leaf they lie in.
const DEAD_AT_ONCE: usize = 64;

/// The most dead frames removed with one commit; bounds what it adds to the commit's time.
const DEAD_MAX: usize = 512;

/// How often the directory is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

type Tree = Db<FANOUT>;
type Key = Vec<u8>;

/// The engine.
pub(super) struct Sled {
    pool: Arc<Pool>,
    /// There but for the moment in which it is opened again.
    tree: Option<Tree>,
    opened: Instant,
    /// Bytes of frames written since the tree was opened.
    written_bytes: u64,
    disk: Arc<dyn Disk>,
    generation: u64,
    commits: u64,
    catalog: Catalog,
    /// Of the catalog's lanes and settings.
    sum: Sum,
    /// Frames that are needed no more and still stored.
    dead: VecDeque<Key>,
    /// Commits at the last upkeep: the same again means that nobody is writing.
    commits_seen: u64,
    moving: Moving,
    measured: (Instant, u64),
}

impl Sled {
    fn tree(&self) -> Result<&Tree, String> {
        self.tree.as_ref().ok_or_else(|| "sled is closed".into())
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), String> {
        let (mut batch, mut written_bytes) = (Batch::default(), 0);
        let lanes: BTreeSet<LaneId> = changes.iter().filter_map(Change::lane).collect();
        for lane in &lanes {
            self.sum.remove_lane(&self.catalog, *lane);
        }
        for change in changes {
            if let Change::Put { key, .. } | Change::Delete { key } = change {
                self.sum.remove_setting(&self.catalog, key);
            }
            self.catalog
                .apply(change)
                .map_err(|what| format!("outbox accepted an impossible change: {what}"))?;
            match change {
                Change::Frame {
                    lane,
                    life,
                    interval,
                    frame,
                } => {
                    let header = Header::new(Kind::Frame, *lane, *life, *interval, frame);
                    batch.insert(frame_key(*lane, *life, interval.from), value(&header, frame));
                    written_bytes += frame.len() as u64;
                }
                Change::Open { .. } | Change::Trim { .. } | Change::Restart { .. } => {}
                Change::Remove { lane } => batch.remove(lane_key(*lane)),
                Change::Put { key, value } => {
                    self.sum.add_setting(&self.catalog, key);
                    batch.insert(setting_key(key), setting_value(key, value));
                }
                Change::Delete { key } => batch.remove(setting_key(key)),
            }
        }
        for lane in lanes {
            self.sum.add_lane(&self.catalog, lane);
            if let Some((key, value)) = lane_entry(&self.catalog, lane) {
                batch.insert(key, value);
            }
        }
        let commits = self.commits + 1;
        batch.insert(COUNTERS, counters_value(&self.catalog, commits, self.sum));
        let remove = if self.dead.len() >= DEAD_AT_ONCE {
            DEAD_MAX
        } else {
            0
        };
        let tree = self.tree()?;
        guarded("write to sled", || tree.apply_batch(batch))?;
        self.remove_dead(remove)?;
        self.flush()?;
        self.written_bytes += written_bytes;
        self.commits = commits;
        Ok(())
    }

    fn remove_dead(&mut self, count: usize) -> Result<(), String> {
        let dead: Vec<Key> = self.dead.drain(..count.min(self.dead.len())).collect();
        let tree = self.tree()?;
        for key in dead {
            guarded("remove from sled", || tree.remove(&key))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), String> {
        let tree = self.tree()?;
        guarded("flush sled", || tree.flush()).map(|_| ())
    }

    fn measure(&mut self) {
        if self.measured.0.elapsed() >= MEASURE_EVERY {
            let used = self
                .disk
                .used_bytes(&directory(self.generation))
                .unwrap_or(self.measured.1);
            self.measured = (Instant::now(), used);
        }
    }
}

impl Engine for Sled {
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Place>, Fault> {
        self.write(changes).map_err(Fault::Fatal)?;
        let frames = changes
            .iter()
            .filter(|change| matches!(change, Change::Frame { .. }));
        Ok(frames.map(|_| Place::default()).collect())
    }

    fn commits(&self) -> u64 {
        self.commits
    }

    fn need_bytes(&self, commit_bytes: u64) -> u64 {
        // Leaves are rewritten whole, in slots up to half again as large, before the old ones are given back; and the
        // metadata is rewritten now and then. By eye, with a wide margin: running out inside sled ends the process.
        4 * commit_bytes + (16 << 20)
    }

    fn free(&mut self, frames: &[FrameRef]) {
        self.dead.extend(
            frames
                .iter()
                .map(|frame| frame_key(frame.lane, frame.life, frame.held.from)),
        );
    }

    fn upkeep(&mut self, index: &Arc<dyn Index>) -> Result<Upkeep, Fault> {
        let idle = std::mem::replace(&mut self.commits_seen, self.commits) == self.commits;
        if idle && !self.dead.is_empty() {
            self.remove_dead(DEAD_MAX).map_err(Fault::Fatal)?;
            self.flush().map_err(Fault::Fatal)?;
            return Ok(Upkeep::More);
        }
        self.measure();
        if self.has_grown(index.live_bytes()) {
            self.reopen().map_err(Fault::Fatal)?;
            return Ok(Upkeep::More);
        }
        self.move_step(index).map_err(Fault::Fatal)
    }

    fn switched(&mut self, done: bool) {
        self.finish_move(done);
    }

    fn shelf(&self) -> Arc<dyn Shelf> {
        self.pool.clone()
    }

    fn disk_bytes(&self) -> u64 {
        self.measured.1
    }

    fn close(mut self: Box<Self>) {
        self.stop_moving();
        self.pool.clear();
        // Dropping the tree flushes it once more, which finds nothing to do.
        if catch_unwind(AssertUnwindSafe(|| drop(self))).is_err() {
            tracing::warn!("sled panicked while it was closed; everything acknowledged is durable");
        }
    }
}

const COUNTERS: &[u8] = b"c";

/// The directory of a generation, as the MANIFEST names it.
fn directory(generation: u64) -> String {
    format!("gen-{generation}")
}

fn frame_key(lane: LaneId, life: Life, from: Sequence) -> Key {
    [
        &b"f"[..],
        &lane.0.to_be_bytes(),
        &life.0.to_be_bytes(),
        &from.0.to_be_bytes(),
    ]
    .concat()
}

fn lane_key(lane: LaneId) -> Key {
    [&b"l"[..], &lane.0.to_be_bytes()].concat()
}

fn setting_key(key: &[u8]) -> Key {
    [b"s", key].concat()
}

fn value(header: &Header, payload: &[u8]) -> InlineArray {
    InlineArray::from([&header.encode()[..], payload].concat())
}

fn setting_value(key: &[u8], content: &[u8]) -> InlineArray {
    let (header, payload) = setting(key, content);
    value(&header, &payload)
}

fn setting(key: &[u8], content: &[u8]) -> (Header, Vec<u8>) {
    // The key is stored once more, under the checksum.
    let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes();
    let payload = [&length[..], key, content].concat();
    let nowhere = Interval::default();
    let header = Header::new(Kind::Put, LaneId(0), Life::default(), nowhere, &payload);
    (header, payload)
}

fn lane_entry(catalog: &Catalog, lane: LaneId) -> Option<(Key, InlineArray)> {
    let record = catalog.lanes.get(&lane)?;
    let header = lane_header(lane, record);
    Some((lane_key(lane), value(&header, &record.name)))
}

fn lane_header(lane: LaneId, record: &LaneRecord) -> Header {
    let interval = Interval::new(record.base, record.tail);
    Header {
        fresh: record.fresh,
        ..Header::new(Kind::Lane, lane, record.life, interval, &record.name)
    }
}

fn counters_value(catalog: &Catalog, commits: u64, sum: Sum) -> InlineArray {
    let count = |count: usize| (count as u64).to_be_bytes();
    let payload = [
        commits.to_be_bytes(),
        count(catalog.lanes.len()),
        count(catalog.settings.len()),
        sum.to_stored().to_be_bytes(),
    ]
    .concat();
    let nowhere = Interval::default();
    value(
        &Header::new(
            Kind::NextLane,
            LaneId(catalog.next_lane),
            Life::default(),
            nowhere,
            &payload,
        ),
        &payload,
    )
}

fn open_tree(path: &Path) -> Result<Tree, String> {
    let config = ::sled::Config::new()
        .path(path)
        .flush_every_ms(None)
        .cache_capacity_bytes(CACHE_BYTES)
        .zstd_compression_level(ZSTD_LEVEL);
    guarded("open sled", || config.open::<FANOUT>())
}

/// Makes a store that sled has just made stay: sled syncs neither the file that holds its settings nor the names that
/// it makes last (alpha.124, `heap::PersistentSettings::verify_or_store`). An outbox may name the store only then.
fn settle(disk: &dyn Disk, generation: u64) -> Result<(), String> {
    let directory = directory(generation);
    disk.open(&format!("{directory}/durability_cookie"))
        .and_then(|settings| settings.sync())
        .and_then(|()| disk.sync_directory(&directory))
        .map_err(|error| format!("sync {directory}: {error}"))
}

/// Calls into sled. Says what went wrong, also when sled panicked.
fn guarded<T>(doing: &str, call: impl FnOnce() -> io::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{doing}: {error}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(format!("{doing}: sled panicked: {text}"))
        }
    }
}
