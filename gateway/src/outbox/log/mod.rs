//! The segment log: plain files, one fdatasync a commit.
//!
//! Constraints:
//! - One commit is one group at the end of the newest segment. The next is only written after it was synced, so at
//!   most one group can ever be torn.
//! - A segment begins with a snapshot of the catalog (lanes and settings). Older segments are therefore needed for
//!   the frames in them alone, and go as soon as nothing in them is held.
//! - A new segment is complete, synced and named in a synced directory before anything is committed to it (an
//!   earlier log that rotated without syncing lost a batch in a power cut; measured).
//! - An open never writes to a segment of an earlier process: it begins a new one.
//! - A slow lane does not pin the disk: the few frames of a mostly dead segment are copied to the end ([`upkeep`]).

mod attack;
mod replay;
mod segment;
mod survey;
mod upkeep;

use super::change::{Catalog, Change};
use super::disk::{Disk, DiskFile, is_full};
use super::engine::{Engine, Fault, FrameRef, Index, Place, Shelf, Upkeep};
use super::entry::{HEADER_BYTES, Header};
use super::error::Error;
pub use attack::read_segment;
use bytes::Bytes;
use parking_lot::Mutex;
pub(super) use replay::open;
use segment::{GroupWriter, OutboxId, SEGMENT_HEADER_BYTES, segment_header};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
pub(super) use survey::survey;

/// A new segment is begun at this size. Small enough that a few of them are far below the 64 MB that the outbox may
/// take beyond what it holds; large enough that the syncs of a rotation do not count (by eye). Tests rotate often.
const SEGMENT_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 16 << 20 };

/// Segments that a reader keeps open. By eye: a few lanes at different places.
const OPEN_FILES_MAX: usize = 32;

/// A buffer that grew beyond this for one large commit is not kept.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

struct Segment {
    length: u64,
    live_bytes: u64,
}

/// The engine.
pub(super) struct Log {
    shelf: Arc<LogShelf>,
    segments: BTreeMap<u32, Segment>,
    current: u32,
    file: Arc<dyn DiskFile>,
    offset: u64,
    /// Where the first group behind the snapshot stands.
    first: u64,
    commits: u64,
    catalog: Catalog,
    buffer: Vec<u8>,
    copying: Option<upkeep::Copying>,
    /// Segments that could not be copied; whoever reads them is told why.
    unreadable: BTreeSet<u32>,
}

impl Log {
    /// Writes one group and makes it durable. Returns where each of `pushed` lies.
    fn write_group(&mut self, group: GroupWriter, pushed: &[u32]) -> Result<Vec<Place>, Fault> {
        let offset = u32::try_from(self.offset).map_err(|_| Fault::Fatal("segment is too long".into()))?;
        let commit = self.commits + 1;
        let bytes = group.finish(&self.shelf.id, self.current, offset, commit);
        if let Err(error) = self.file.write_all_at(&bytes, self.offset) {
            // What was written of it is cut off, or written over by the next group, or found torn.
            let _ = self.file.cut(self.offset);
            return Err(self.fault("write", &error));
        }
        self.file.sync().map_err(|error| self.fatal("sync", &error))?;
        self.commits = commit;
        self.offset += bytes.len() as u64;
        if let Some(segment) = self.segments.get_mut(&self.current) {
            segment.length = self.offset;
        }
        if bytes.capacity() <= BUFFER_BYTES_KEPT {
            self.buffer = bytes;
        }
        Ok(pushed
            .iter()
            .map(|at| Place {
                segment: self.current,
                offset: offset + at,
            })
            .collect())
    }

    /// Makes room for a group of so many bytes: begins a new segment when this one is full.
    fn rotate_for(&mut self, bytes: u64) -> Result<(), Fault> {
        // A large snapshot is spread over a longer segment, so that it stays a small part of what is written.
        let size = SEGMENT_BYTES.max(4 * self.first);
        if self.offset == self.first || self.offset + bytes <= size {
            return Ok(());
        }
        let number = self
            .current
            .checked_add(1)
            .ok_or(Fault::Fatal("segment numbers are used up".into()))?;
        let begun = begin_segment(&self.shelf, number, self.commits + 1, &self.catalog);
        let (file, length) = match begun {
            Ok(begun) => begun,
            Err(Begin::Write(error)) => {
                let _ = self.shelf.disk.remove(&self.shelf.name(number));
                return Err(self.fault("begin a segment of", &error));
            }
            Err(Begin::Sync(error)) => return Err(self.fatal("sync a new segment of", &error)),
        };
        let sealed = self.current;
        self.commits += 1;
        self.current = number;
        self.file = file;
        self.offset = length;
        self.first = length;
        self.segments.insert(
            number,
            Segment {
                length,
                live_bytes: 0,
            },
        );
        self.remove_if_dead(sealed);
        Ok(())
    }

    /// Removes a segment that holds nothing any more. The newest stays: it has the snapshot.
    fn remove_if_dead(&mut self, number: u32) {
        let dead = self
            .segments
            .get(&number)
            .is_some_and(|segment| segment.live_bytes == 0);
        if !dead || number == self.current {
            return;
        }
        self.shelf.files.lock().remove(&number);
        match self.shelf.disk.remove(&self.shelf.name(number)) {
            Ok(()) => drop(self.segments.remove(&number)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => drop(self.segments.remove(&number)),
            Err(error) => {
                tracing::warn!(segment = number, error = %error, "cannot remove a drained outbox segment");
            }
        }
    }

    fn fault(&self, doing: &str, error: &io::Error) -> Fault {
        if is_full(error) {
            Fault::Full
        } else {
            self.fatal(doing, error)
        }
    }

    fn fatal(&self, doing: &str, error: &io::Error) -> Fault {
        Fault::Fatal(format!(
            "{doing} outbox log {}: {error}",
            self.shelf.path.display()
        ))
    }

    fn take_back(&mut self, frame: FrameRef) -> u32 {
        let number = frame.held.place.segment;
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.live_bytes = segment.live_bytes.saturating_sub(stored_bytes(frame.held.bytes));
        }
        number
    }
}

/// Bytes that a frame takes in a segment.
fn stored_bytes(frame_bytes: u32) -> u64 {
    u64::from(frame_bytes) + HEADER_BYTES as u64
}

impl Engine for Log {
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Place>, Fault> {
        self.rotate_for(changes.iter().map(Change::bytes).sum())?;
        let mut group = GroupWriter::new(std::mem::take(&mut self.buffer));
        let mut pushed = Vec::new();
        for change in changes {
            let at = group.push_change(change);
            if matches!(change, Change::Frame { .. }) {
                pushed.push(at);
            }
        }
        let places = self.write_group(group, &pushed)?;
        for change in changes {
            if let (Change::Frame { frame, .. }, Some(segment)) =
                (change, self.segments.get_mut(&self.current))
            {
                segment.live_bytes += frame.len() as u64 + HEADER_BYTES as u64;
            }
            self.catalog
                .apply(change)
                .map_err(|what| Fault::Fatal(format!("outbox accepted an impossible change: {what}")))?;
        }
        Ok(places)
    }

    fn commits(&self) -> u64 {
        self.commits
    }

    fn need_bytes(&self, commit_bytes: u64) -> u64 {
        // A rotation may come first, and file systems take space in blocks.
        let settings: usize = self
            .catalog
            .settings
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        commit_bytes + settings as u64 + (1 << 20)
    }

    fn free(&mut self, frames: &[FrameRef]) {
        let touched: BTreeSet<u32> = frames.iter().map(|frame| self.take_back(*frame)).collect();
        for number in touched {
            self.remove_if_dead(number);
        }
    }

    fn upkeep(&mut self, index: &Arc<dyn Index>) -> Result<Upkeep, Fault> {
        self.copy_step(&**index)
    }

    fn switched(&mut self, _done: bool) {}

    fn shelf(&self) -> Arc<dyn Shelf> {
        self.shelf.clone()
    }

    fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.length).sum()
    }

    fn close(self: Box<Self>) {}
}

enum Begin {
    /// Nothing depends on the new file yet.
    Write(io::Error),
    /// What the disk holds is unknown.
    Sync(io::Error),
}

/// Makes segment `number` with a snapshot of `catalog`, durable with its name. Returns it and its length.
fn begin_segment(
    shelf: &LogShelf,
    number: u32,
    commit: u64,
    catalog: &Catalog,
) -> Result<(Arc<dyn DiskFile>, u64), Begin> {
    let mut group = GroupWriter::new(Vec::new());
    group.push_catalog(catalog);
    // The header's length is a small constant.
    #[expect(clippy::cast_possible_truncation)]
    let snapshot = group.finish(&shelf.id, number, SEGMENT_HEADER_BYTES as u32, commit);
    let bytes = [&segment_header(&shelf.id, number)[..], &snapshot].concat();
    let file = shelf.disk.create(&shelf.name(number)).map_err(Begin::Write)?;
    file.write_all_at(&bytes, 0).map_err(Begin::Write)?;
    file.sync().map_err(Begin::Sync)?;
    shelf.disk.sync_directory(&shelf.directory).map_err(Begin::Sync)?;
    Ok((file, bytes.len() as u64))
}

/// What readers need of the log.
struct LogShelf {
    disk: Arc<dyn Disk>,
    /// For messages.
    path: PathBuf,
    directory: String,
    id: OutboxId,
    files: Mutex<BTreeMap<u32, Arc<dyn DiskFile>>>,
}

impl LogShelf {
    fn name(&self, segment: u32) -> String {
        format!("{}/{segment:010}.log", self.directory)
    }

    fn file(&self, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock();
        if let Some(file) = files.get(&segment) {
            return Ok(file.clone());
        }
        let file = self.disk.open(&self.name(segment))?;
        if files.len() >= OPEN_FILES_MAX {
            // The oldest: readers move on towards the newest.
            files.pop_first();
        }
        files.insert(segment, file.clone());
        Ok(file)
    }

    fn damaged(&self, segment: u32, offset: u64, what: &str) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            what: format!("{} at byte {offset}: {what}", self.name(segment)),
        }
    }
}

impl Shelf for LogShelf {
    fn read(&self, frame: FrameRef) -> Result<Option<Bytes>, Error> {
        let FrameRef { lane, life, held } = frame;
        let Place { segment, offset } = held.place;
        let file = match self.file(segment) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::io(format!("open outbox segment {}", self.name(segment)))(
                    error,
                ));
            }
        };
        let mut bytes = vec![0; HEADER_BYTES + held.bytes as usize];
        let damaged = |what: &str| self.damaged(segment, offset.into(), what);
        file.read_exact_at(&mut bytes, offset.into())
            .map_err(|error| damaged(&error.to_string()))?;
        let header = Header::decode(&bytes).map_err(|error| damaged(&error.to_string()))?;
        if !header.is_frame(lane, life, held.from) {
            return Err(damaged("another entry stands here"));
        }
        header
            .check(&bytes[HEADER_BYTES..])
            .map_err(|error| damaged(&error.to_string()))?;
        Ok(Some(Bytes::from(bytes).slice(HEADER_BYTES..)))
    }
}
