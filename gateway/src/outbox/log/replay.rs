//! Opening a log: reading back what was acknowledged, all of it or an error.
//!
//! Only the newest segment can end in a torn group, and only when that group was never acknowledged. Everything else
//! that does not read as written is damage and is left alone.

use super::segment::{Damage, Entry, OutboxId, Walk, catalog_of};
use super::{Log, LogShelf, Segment, begin_segment, stored_bytes};
use crate::outbox::change::{Catalog, Change, Held, LaneId, LaneRecord};
use crate::outbox::disk::Disk;
use crate::outbox::engine::{Engine as _, FrameRef, Place, Recovered, Shelf as _};
use crate::outbox::entry::Kind;
use crate::outbox::error::Error;
use crate::outbox::home::Home;
use crate::outbox::recover::{Frames, Lanes, contiguous};
use culvert_proto::Sequence;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Opens the log in the home's directory, or makes it; with `reads_all`, every frame that is held is read.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Shorter`], [`Error::Io`].
pub(in crate::outbox) fn open(home: &Home, reads_all: bool) -> Result<Recovered, Error> {
    let manifest = home.manifest();
    let shelf = LogShelf {
        disk: home.disk().clone(),
        path: home.path().to_path_buf(),
        directory: manifest.directory(),
        id: manifest.id,
        files: parking_lot::Mutex::default(),
    };
    let mut replay = Replay {
        shelf: &shelf,
        acknowledged: home.acknowledged(),
        segments: BTreeMap::new(),
    };
    let mut numbers = replay.numbers()?;
    let Newest {
        catalog,
        commits,
        mut frames,
    } = replay.newest(&mut numbers)?;
    // The newest segment was read first: what it says of a frame's place wins.
    let sealed: Vec<u32> = numbers
        .iter()
        .copied()
        .take(numbers.len().saturating_sub(1))
        .collect();
    replay.sealed(&sealed, &catalog, &mut frames)?;
    let held = contiguous(&shelf.path, &catalog, &frames)?;
    if reads_all {
        read_all(&shelf, &catalog, &held)?;
    }
    let segments = std::mem::take(&mut replay.segments);
    begin(shelf, segments, catalog, commits, held)
}

#[derive(Default)]
struct Newest {
    catalog: Catalog,
    commits: u64,
    frames: Frames,
}

struct Replay<'a> {
    shelf: &'a LogShelf,
    acknowledged: u64,
    /// Segments read, with first and last commit and length.
    segments: BTreeMap<u32, (u64, u64, u64)>,
}

impl Replay<'_> {
    fn disk(&self) -> &dyn Disk {
        &*self.shelf.disk
    }

    fn id(&self) -> &OutboxId {
        &self.shelf.id
    }

    fn numbers(&self) -> Result<BTreeSet<u32>, Error> {
        let doing = format!("list outbox segments in {}", self.shelf.path.display());
        let names = self
            .disk()
            .list(&self.shelf.directory)
            .map_err(Error::io(doing))?;
        Ok(names
            .iter()
            .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
            .collect())
    }

    /// Reads the newest segment whole and takes the state of the outbox from it. A torn last group is cut off, and
    /// a segment that was never finished is removed, once it is clear that nothing acknowledged goes with it.
    fn newest(&mut self, numbers: &mut BTreeSet<u32>) -> Result<Newest, Error> {
        let mut unfinished = Vec::new();
        let mut newest = Newest::default();
        while let Some(number) = numbers.last().copied() {
            match self.read_newest(number)? {
                Ok(found) => {
                    newest = found;
                    break;
                }
                Err(damage) => {
                    numbers.remove(&number);
                    unfinished.push((number, damage));
                }
            }
        }
        if newest.commits < self.acknowledged {
            if let Some((number, damage)) = unfinished.first() {
                return Err(self.shelf.damaged(*number, damage.offset, &damage.what));
            }
            let (path, found) = (self.shelf.path.clone(), newest.commits);
            return Err(Error::Shorter {
                path,
                found,
                acknowledged: self.acknowledged,
            });
        }
        for (number, _) in unfinished {
            let name = self.shelf.name(number);
            self.disk()
                .remove(&name)
                .map_err(Error::io(format!("remove unfinished segment {name}")))?;
        }
        Ok(newest)
    }

    /// What is damaged where the segment has no whole snapshot and nothing behind it: it was being made when the power
    /// went, if what was acknowledged stands before it.
    fn read_newest(&mut self, number: u32) -> Result<Result<Newest, Damage>, Error> {
        let name = self.shelf.name(number);
        let file = self
            .disk()
            .open(&name)
            .map_err(Error::io(format!("open outbox segment {name}")))?;
        let mut walk = match Walk::new(&*file, self.id(), number, true) {
            Ok(walk) => walk,
            Err(damage) => return self.unfinished(number, &*file, damage),
        };
        let snapshot = match walk.next() {
            Ok(Some(group)) => group,
            Ok(None) => {
                let what = "no snapshot".into();
                return self.unfinished(number, &*file, Damage { offset: 0, what });
            }
            Err(damage) => return self.unfinished(number, &*file, damage),
        };
        let wrong = |what: &str| self.shelf.damaged(number, walk.offset(), what);
        let catalog = catalog_of(&snapshot).ok_or_else(|| wrong("its snapshot is not one"))?;
        let mut newest = Newest {
            catalog,
            commits: snapshot.commit,
            frames: Frames::new(),
        };
        let first = snapshot.commit;
        loop {
            let at = walk.offset();
            match walk.next() {
                Ok(Some(group)) => {
                    let wrong = |what: &str| self.shelf.damaged(number, at, what);
                    if group.commit != newest.commits + 1 {
                        return Err(wrong("a commit is missing before this one"));
                    }
                    newest.commits = group.commit;
                    for entry in &group.entries {
                        newest.take(number, entry).map_err(wrong)?;
                    }
                }
                Ok(None) => break,
                Err(damage) => {
                    self.torn(number, &walk, &damage, newest.commits)?;
                    let doing = format!("cut the torn end off outbox segment {name}");
                    file.cut(walk.offset())
                        .and_then(|()| file.sync())
                        .map_err(Error::io(doing))?;
                    break;
                }
            }
        }
        self.segments
            .insert(number, (first, newest.commits, walk.offset()));
        Ok(Ok(newest))
    }

    /// Whether a segment without a whole snapshot may be taken for one that was never finished.
    fn unfinished(
        &self,
        number: u32,
        file: &dyn crate::outbox::disk::DiskFile,
        damage: Damage,
    ) -> Result<Result<Newest, Damage>, Error> {
        // What was acknowledged may stand in it only if the mark counts beyond the segments before it. That shows
        // when those have been read: their last commit is compared with the mark. Here: nothing may follow.
        let walk = Walk::anywhere(file, self.id(), number);
        if walk.any_group_behind(damage.offset) {
            return Err(self.shelf.damaged(number, damage.offset, &damage.what));
        }
        Ok(Err(damage))
    }

    /// Whether what does not read as a group may be cut off.
    fn torn(&self, number: u32, walk: &Walk<'_>, damage: &Damage, commits: u64) -> Result<(), Error> {
        if walk.any_group_behind(walk.offset()) || commits < self.acknowledged {
            return Err(self.shelf.damaged(number, damage.offset, &damage.what));
        }
        Ok(())
    }

    /// Finds the frames that older segments hold.
    fn sealed(&mut self, numbers: &[u32], catalog: &Catalog, frames: &mut Frames) -> Result<(), Error> {
        for &number in numbers {
            let name = self.shelf.name(number);
            let file = self
                .disk()
                .open(&name)
                .map_err(Error::io(format!("open outbox segment {name}")))?;
            let wrong = |damage: Damage| self.shelf.damaged(number, damage.offset, &damage.what);
            let mut walk = Walk::new(&*file, self.id(), number, false).map_err(wrong)?;
            let mut commits = None;
            while let Some(group) = walk.next().map_err(wrong)? {
                let (first, last) = commits.unwrap_or((group.commit, group.commit - 1));
                if group.commit != last + 1 {
                    return Err(self.shelf.damaged(number, walk.offset(), "a commit is missing"));
                }
                commits = Some((first, group.commit));
                for entry in &group.entries {
                    if let Some((key, found)) = live(number, entry, catalog) {
                        frames.entry(key).or_insert(found);
                    }
                }
            }
            let (first, last) =
                commits.ok_or_else(|| self.shelf.damaged(number, walk.offset(), "it holds no commit"))?;
            self.segments.insert(number, (first, last, walk.offset()));
        }
        self.neighbours_follow_each_other()
    }

    /// A segment cut off between two groups shows in the commits of the one behind it.
    fn neighbours_follow_each_other(&self) -> Result<(), Error> {
        for ((number, (_, last, length)), (next, (first, ..))) in
            self.segments.iter().zip(self.segments.iter().skip(1))
        {
            if *next == number + 1 && *first != last + 1 {
                return Err(self
                    .shelf
                    .damaged(*number, *length, "commits are missing at its end"));
            }
        }
        Ok(())
    }
}

impl Newest {
    fn take(&mut self, segment: u32, entry: &Entry) -> Result<(), &'static str> {
        if let Some(change) = entry.change() {
            self.catalog.apply(&change)?;
            if let Change::Restart { lane, .. } | Change::Remove { lane } = change {
                self.frames.retain(|(of, _), _| *of != lane);
            }
        } else if entry.header.kind != Kind::Copy {
            return Err("an entry of a snapshot stands among changes");
        }
        if let Some((key, found)) = live(segment, entry, &self.catalog) {
            self.frames.insert(key, found);
        }
        Ok(())
    }
}

/// Reads every frame, segment by segment.
fn read_all(shelf: &LogShelf, catalog: &Catalog, held: &Lanes) -> Result<(), Error> {
    let mut all: Vec<FrameRef> = held
        .iter()
        .filter_map(|(lane, held)| Some((*lane, catalog.lanes.get(lane)?.life, held)))
        .flat_map(|(lane, life, held)| {
            held.iter().map(move |held| FrameRef {
                lane,
                life,
                held: *held,
            })
        })
        .collect();
    all.sort_unstable_by_key(|frame| frame.held.place);
    for frame in all {
        if shelf.read(frame)?.is_none() {
            let Place { segment, offset } = frame.held.place;
            return Err(shelf.damaged(segment, offset.into(), "the segment is gone"));
        }
    }
    Ok(())
}

/// The frame in `entry`, if the catalog holds it.
fn live(segment: u32, entry: &Entry, catalog: &Catalog) -> Option<((LaneId, Sequence), (Sequence, Held))> {
    let header = &entry.header;
    let record: &LaneRecord = catalog.lanes.get(&header.lane)?;
    let interval = header.interval;
    let held = matches!(header.kind, Kind::Frame | Kind::Copy)
        && header.life == record.life
        && interval.from >= record.base
        && interval.to <= record.tail;
    let place = Place {
        segment,
        offset: entry.offset,
    };
    held.then_some((
        (header.lane, interval.from),
        (
            interval.to,
            Held {
                from: interval.from,
                bytes: header.length,
                place,
            },
        ),
    ))
}

/// Begins a new segment for this process.
fn begin(
    shelf: LogShelf,
    found: BTreeMap<u32, (u64, u64, u64)>,
    catalog: Catalog,
    commits: u64,
    held: Lanes,
) -> Result<Recovered, Error> {
    let doing = format!("begin a segment of outbox {}", shelf.path.display());
    let number = found
        .last_key_value()
        .map_or(1, |(number, _)| number.saturating_add(1));
    let (file, length) =
        begin_segment(&shelf, number, commits + 1, &catalog).map_err(|begin| match begin {
            super::Begin::Write(error) | super::Begin::Sync(error) => Error::io(doing)(error),
        })?;
    let mut segments: BTreeMap<u32, Segment> = found
        .into_iter()
        .map(|(number, (_, _, length))| {
            (
                number,
                Segment {
                    length,
                    live_bytes: 0,
                },
            )
        })
        .collect();
    for frame in held.values().flatten() {
        if let Some(segment) = segments.get_mut(&frame.place.segment) {
            segment.live_bytes += stored_bytes(frame.bytes);
        }
    }
    let dead: Vec<u32> = segments.keys().copied().collect();
    segments.insert(
        number,
        Segment {
            length,
            live_bytes: 0,
        },
    );
    let mut log = Log {
        shelf: Arc::new(shelf),
        segments,
        current: number,
        file,
        offset: length,
        first: length,
        commits: commits + 1,
        catalog: catalog.clone(),
        buffer: Vec::new(),
        copying: None,
        unreadable: BTreeSet::new(),
    };
    for number in dead {
        log.remove_if_dead(number);
    }
    debug_assert!(log.commits() > commits);
    Ok(Recovered {
        engine: Box::new(log),
        catalog,
        held,
    })
}
