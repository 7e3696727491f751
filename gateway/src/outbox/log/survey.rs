//! What a log's files still say, whatever is damaged: for repair. Nothing is written.
//!
//! Only what is provably of this log is taken: a group names its place and is checked together with the outbox's id, and an
//! entry counts where the one before it ends. Behind an entry whose length is lost, the next group goes on.

use super::LogShelf;
use super::segment::{
    Damage, Entry, GROUP_HEADER_BYTES, Group, GroupHead, OutboxId, SEGMENT_HEADER_BYTES, Walk, catalog_of,
    segment_header,
};
use crate::outbox::change::{Catalog, Change, LaneRecord};
use crate::outbox::disk::Disk;
use crate::outbox::engine::Place;
use crate::outbox::entry::{Header, Kind};
use crate::outbox::error::Error;
use crate::outbox::salvage::{self, Found, FoundFrame, Survey, Watch};
use std::path::Path;
use std::sync::Arc;

/// Reads every segment in `directory`. Without an id, because the MANIFEST is lost, that of the first segment counts.
///
/// # Errors
/// When the directory cannot be read.
pub(in crate::outbox) fn survey(
    disk: &Arc<dyn Disk>,
    path: &Path,
    directory: &str,
    id: Option<OutboxId>,
    acknowledged: Option<u64>,
    watch: &mut Watch<'_>,
) -> Result<Survey, Error> {
    let names = disk
        .list(directory)
        .map_err(Error::io(format!("list {directory}")))?;
    let numbers: Vec<u32> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .collect();
    let mut shelf = LogShelf {
        disk: disk.clone(),
        path: path.to_path_buf(),
        directory: directory.into(),
        id: id.unwrap_or_default(),
        files: parking_lot::Mutex::default(),
    };
    if id.is_none() {
        let ids = numbers.iter().filter_map(|number| id_of(&shelf, *number));
        shelf.id = ids.into_iter().next().unwrap_or_default();
    }
    let mut story = Story::default();
    for (at, number) in numbers.iter().enumerate() {
        let is_newest = at + 1 == numbers.len();
        story.segment(&shelf, *number, is_newest, acknowledged)?;
        watch.read(story.bytes);
    }
    if acknowledged.is_none_or(|acknowledged| story.commits < acknowledged) {
        story.certain = false;
        if let Some(acknowledged) = acknowledged {
            let what = format!(
                "{acknowledged} commits were acknowledged, {} are there",
                story.commits
            );
            story.damage.push((damage(directory, 0, what), None));
        }
    }
    // A frame that was freed, or that was copied since, may be damaged as it likes.
    let is_needed = |header: &Header| {
        let record = story.catalog.lanes.get(&header.lane);
        let is_held = record.is_some_and(|record| {
            record.life == header.life
                && header.interval.from >= record.base
                && header.interval.to <= record.tail
        });
        let found = (header.lane, header.life, header.interval.from);
        !is_frame(header) || (is_held && !story.frames.contains_key(&found))
    };
    let damage = story
        .damage
        .iter()
        .filter(|(_, header)| header.as_ref().is_none_or(is_needed))
        .map(|(damage, _)| damage.clone())
        .collect();
    Ok(Survey {
        damage,
        certain: story.certain,
        commits: story.commits,
        catalog: story.catalog,
        frames: story.frames,
        shelf: Arc::new(shelf),
    })
}

fn id_of(shelf: &LogShelf, number: u32) -> Option<OutboxId> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    shelf.file(number).ok()?.read_exact_at(&mut bytes, 0).ok()?;
    let mut id = OutboxId::default();
    id.copy_from_slice(&bytes[16..32]);
    (bytes == segment_header(&id, number)).then_some(id)
}

fn damage(file: impl Into<String>, byte: u64, what: impl Into<String>) -> salvage::Damage {
    salvage::Damage {
        file: file.into(),
        byte,
        what: what.into(),
    }
}

/// What was read so far.
#[derive(Default)]
struct Story {
    catalog: Catalog,
    certain: bool,
    commits: u64,
    frames: Found,
    /// With the header of the entry whose payload it is, where that is known.
    damage: Vec<(salvage::Damage, Option<Header>)>,
    bytes: u64,
}

/// A group as far as it could be read.
struct Part {
    commit: Option<u64>,
    entries: Vec<Entry>,
    /// Something may be missing that is not a frame.
    has_gap: bool,
}

impl Story {
    fn segment(
        &mut self,
        shelf: &LogShelf,
        number: u32,
        is_newest: bool,
        acknowledged: Option<u64>,
    ) -> Result<(), Error> {
        let name = shelf.name(number);
        let doing = || format!("read outbox segment {name}");
        let file = shelf.file(number).map_err(Error::io(doing()))?;
        let length = file.length().map_err(Error::io(doing()))?;
        self.bytes += length;
        let start = self.damage.len();
        let may_be_torn = is_newest && acknowledged.is_some_and(|acknowledged| self.commits >= acknowledged);
        let walk = Walk::anywhere(&*file, &shelf.id, number);
        if let Err(Damage { offset, what }) = Walk::new(&*file, &shelf.id, number, true) {
            self.damage.push((damage(&name, offset, what), None));
        }
        let mut at = (SEGMENT_HEADER_BYTES as u64).min(length);
        let mut is_first = true;
        while at < length {
            let torn = is_newest && acknowledged.is_some_and(|acknowledged| self.commits >= acknowledged);
            let before = self.damage.len();
            let (part, next) = self.part(&walk, &name, at, length);
            let is_whole = self.damage.len() == before;
            if torn && !is_whole && next == length && !walk.any_group_behind(at) {
                // It was never acknowledged: an open cuts it off.
                self.damage.truncate(if is_first { start } else { before });
                return Ok(());
            }
            self.take(number, part, is_first);
            is_first = false;
            at = next;
        }
        if is_first && may_be_torn {
            self.damage.truncate(start);
        }
        Ok(())
    }

    /// The group at `at`, and where the next one begins.
    fn part(&mut self, walk: &Walk<'_>, name: &str, at: u64, length: u64) -> (Part, u64) {
        let head = walk.head_at(at);
        let mut part = Part {
            commit: head.map(|head| head.commit),
            entries: Vec::new(),
            has_gap: false,
        };
        let end = match head {
            Some(head) => at + (GROUP_HEADER_BYTES + head.length) as u64,
            None => walk.next_group(at + 1).ok().flatten().unwrap_or(length),
        };
        if head.is_none() {
            self.damage.push((damage(name, at, "no group begins here"), None));
        }
        let mut next = at + GROUP_HEADER_BYTES as u64;
        while next < end {
            match walk.entry_at(next, end.min(length)) {
                Ok((entry, Ok(()))) => {
                    next = entry.end();
                    part.entries.push(entry);
                }
                Ok((entry, Err(Damage { offset, what }))) => {
                    self.damage.push((damage(name, offset, what), Some(entry.header)));
                    next = entry.end();
                    if entry.is_frame() {
                        // Its place in the lane is known all the same.
                        part.entries.push(entry.without_content());
                    } else {
                        part.has_gap = true;
                    }
                }
                Err(Damage { offset, what }) => {
                    self.damage.push((damage(name, offset, what), None));
                    part.has_gap = true;
                    next = end.max(next + 1);
                    if next > length {
                        next = walk.next_group(offset + 1).ok().flatten().unwrap_or(length);
                    }
                    break;
                }
            }
        }
        part.has_gap |= match head {
            Some(GroupHead { count, .. }) => count != part.entries.len(),
            // Without its header, it is whole when its entries end where the next group begins.
            None => part.entries.is_empty() || next != end,
        };
        (part, next.max(at + 1))
    }

    fn take(&mut self, segment: u32, part: Part, is_first: bool) {
        for entry in part
            .entries
            .iter()
            .filter(|entry| entry.is_frame() && entry.has_content)
        {
            let Header {
                lane,
                life,
                interval,
                length,
                ..
            } = entry.header;
            let place = Place {
                segment,
                offset: entry.offset,
            };
            let found = FoundFrame {
                to: interval.to,
                bytes: length,
                place,
            };
            self.frames.insert((lane, life, interval.from), found);
        }
        if is_first {
            return self.snapshot(part);
        }
        let follows = part.commit.is_none_or(|commit| commit == self.commits + 1);
        self.certain &= follows && !part.has_gap;
        self.commits = part.commit.unwrap_or(self.commits + 1);
        for change in part.entries.iter().filter_map(Entry::change) {
            if self.catalog.apply(&change).is_err() {
                self.certain = false;
                self.force(&change);
            }
        }
    }

    /// The first group of a segment says all there is, whatever was missed before.
    fn snapshot(&mut self, part: Part) {
        let Part {
            commit,
            entries,
            has_gap,
        } = part;
        let group = Group {
            commit: commit.unwrap_or(self.commits + 1),
            entries,
        };
        match catalog_of(&group).filter(|_| !has_gap) {
            Some(catalog) => {
                self.catalog = catalog;
                self.certain = true;
            }
            None => self.snapshot_in_pieces(&group.entries),
        }
        self.commits = group.commit;
    }

    /// What is left of a snapshot replaces what is known of the same lanes and settings; of others, nothing is certain.
    fn snapshot_in_pieces(&mut self, entries: &[Entry]) {
        self.certain = false;
        for entry in entries {
            let header = entry.header;
            match header.kind {
                Kind::NextLane => self.catalog.next_lane = header.lane.0,
                Kind::Lane => {
                    let record = LaneRecord {
                        name: entry.payload.clone(),
                        life: header.life,
                        base: header.interval.from,
                        tail: header.interval.to,
                        fresh: header.fresh,
                    };
                    self.catalog.lanes.insert(header.lane, record);
                }
                Kind::Put => {
                    if let Some((key, value)) = entry.setting() {
                        self.catalog.settings.insert(key, value);
                    }
                }
                _ => {}
            }
        }
    }

    /// A frame whose lane went on since it was last heard of.
    fn force(&mut self, change: &Change) {
        if let Change::Frame {
            lane, life, interval, ..
        } = change
            && let Some(record) = self.catalog.lanes.get_mut(lane)
            && record.life == *life
            && interval.to > record.tail
        {
            record.tail = interval.to;
            record.fresh = false;
        }
    }
}

impl Entry {
    fn end(&self) -> u64 {
        u64::from(self.offset) + crate::outbox::entry::HEADER_BYTES as u64 + u64::from(self.header.length)
    }

    fn is_frame(&self) -> bool {
        is_frame(&self.header)
    }

    fn without_content(mut self) -> Entry {
        self.has_content = false;
        self
    }
}

fn is_frame(header: &Header) -> bool {
    matches!(header.kind, Kind::Frame | Kind::Copy)
}
