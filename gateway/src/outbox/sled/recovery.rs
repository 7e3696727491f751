//! Opening a sled store: every entry is read and checked, and all that was acknowledged is there or it is an error.

use super::metadata;
use super::moving::Moving;
use super::reopen;
use super::slots;
use super::sum::Sum;
use super::{
    COUNTERS, Key, Pool, Sled, Tree, directory, frame_key, guarded, lane_key, open_tree, setting_key, settle,
};
use crate::outbox::change::{Catalog, Held, LaneRecord};
use crate::outbox::disk::RealDisk;
use crate::outbox::engine::{Place, Recovered};
use crate::outbox::entry::{HEADER_BYTES, Header, Kind};
use crate::outbox::error::Error;
use crate::outbox::home::Home;
use crate::outbox::options::Options;
use crate::outbox::recover::{Frames, contiguous};
use crate::outbox::verify::verify_in_child;
use bytes::Bytes;
use culvert_proto::Interval;
use culvert_proto::wire::take_int;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Opens the store in the home's directory, or makes it. With a verifier, a process of its own looks at it first.
///
/// # Errors
/// [`Error::Damaged`], [`Error::Shorter`], [`Error::Unverified`], [`Error::Io`].
pub(in crate::outbox) fn open(home: &Home, options: &Options) -> Result<Recovered, Error> {
    let generation = home.manifest().generation;
    let path = home.disk().root().join(directory(generation));
    let damaged = |what: String| Error::Damaged {
        path: home.path().to_path_buf(),
        what,
    };
    let (disk, name) = (&**home.disk(), directory(generation));
    let leaves = metadata::read(disk, &name).map_err(damaged)?;
    if leaves.is_empty() && home.acknowledged() > 0 {
        return Err(damaged(format!("{name}/metadata is not there, or names no leaf")));
    }
    metadata::keep_snapshot(disk, &name).map_err(damaged)?;
    match &options.verifier {
        _ if home.acknowledged() == 0 => {}
        Some(program) => verify_in_child(program, &path)?,
        None => slots::check(disk, &name).map_err(damaged)?,
    }
    let mut tree = open_tree(&path).map_err(damaged)?;
    settle(&**home.disk(), generation).map_err(damaged)?;
    let Contents {
        catalog,
        commits,
        frames,
        mut dead,
        sum,
    } = read(&tree).map_err(damaged)?;
    if commits < home.acknowledged() {
        let (path, acknowledged) = (home.path().to_path_buf(), home.acknowledged());
        return Err(Error::Shorter {
            path,
            found: commits,
            acknowledged,
        });
    }
    let held = contiguous(home.path(), &catalog, &frames)?;
    let read_bytes: u64 = frames.values().map(|(_, held)| u64::from(held.bytes)).sum();
    if read_bytes > reopen::RESIDENT_BYTES_MAX {
        // A leaf in each of its cache's 256 shards stays in memory from the reading, whatever its size.
        drop(tree);
        tree = open_tree(&path).map_err(damaged)?;
    }
    for ((lane, from), _) in frames {
        let record = catalog.lanes.get(&lane);
        if let Some(record) = record.filter(|record| from < record.base || from >= record.tail) {
            dead.push_back(frame_key(lane, record.life, from));
        }
    }
    let engine = Sled {
        pool: Arc::new(Pool::new(home.path().to_path_buf(), generation, &tree)),
        tree: Some(tree),
        opened: Instant::now(),
        written_bytes: 0,
        disk: home.disk().clone(),
        generation,
        commits,
        catalog: catalog.clone(),
        sum,
        dead,
        commits_seen: commits,
        moving: Moving::new(options.slack_bytes),
        measured: (
            Instant::now(),
            home.disk().used_bytes(&directory(generation)).unwrap_or(0),
        ),
    };
    Ok(Recovered {
        engine: Box::new(engine),
        catalog,
        held,
    })
}

/// Opens the store in `path` and reads every entry, for a process that may die of it.
///
/// # Errors
/// What is wrong with it.
pub(in crate::outbox) fn walk(path: &Path) -> Result<(), String> {
    let (root, name) = path
        .parent()
        .zip(path.file_name().and_then(|name| name.to_str()))
        .ok_or("not the directory of a store")?;
    slots::check(&RealDisk::new(root), name)?;
    let tree = open_tree(path)?;
    let Contents { catalog, frames, .. } = read(&tree)?;
    contiguous(path, &catalog, &frames)
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[derive(Default)]
pub(super) struct Contents {
    pub(super) catalog: Catalog,
    pub(super) commits: u64,
    frames: Frames,
    /// Frames of lives or lanes that are over.
    dead: VecDeque<Key>,
    /// Of the lanes and settings found.
    sum: Sum,
}

fn read(tree: &Tree) -> Result<Contents, String> {
    guarded("read back sled", || Ok(read_all(tree)))?
}

fn read_all(tree: &Tree) -> Result<Contents, String> {
    let mut contents = Contents::default();
    let mut counted = None;
    let mut unsorted = BTreeMap::new();
    for entry in tree.iter() {
        let (key, bytes) = entry.map_err(|error| format!("read back sled: {error}"))?;
        let wrong = |what: String| format!("entry {:?}: {what}", String::from_utf8_lossy(&key));
        let header = Header::decode(&bytes).map_err(|error| wrong(error.to_string()))?;
        let payload = &bytes[HEADER_BYTES..];
        header.check(payload).map_err(|error| wrong(error.to_string()))?;
        let expected = contents
            .take(&header, payload, &mut counted, &mut unsorted)
            .map_err(wrong)?;
        if *expected != *key {
            return Err(wrong("it stands under the key of another".into()));
        }
    }
    contents.sort(unsorted);
    contents.check(counted)?;
    Ok(contents)
}

/// How many lanes and settings there should be, and their sum where it was stored: stores of 0.1.0 as first written have
/// none.
pub(super) type Counted = Option<(u64, u64, Option<Sum>)>;

impl Contents {
    /// Takes one entry in; returns the key under which it must stand.
    pub(super) fn take(
        &mut self,
        header: &Header,
        payload: &[u8],
        counted: &mut Counted,
        frames: &mut BTreeMap<Key, Header>,
    ) -> Result<Key, String> {
        let Interval { from, to } = header.interval;
        if matches!(header.kind, Kind::Lane | Kind::Put) {
            self.sum.add(header);
        }
        match header.kind {
            Kind::Frame => {
                let key = frame_key(header.lane, header.life, from);
                frames.insert(key.clone(), *header);
                Ok(key)
            }
            Kind::Lane => {
                let name = Bytes::copy_from_slice(payload);
                let record = LaneRecord {
                    name,
                    life: header.life,
                    base: from,
                    tail: to,
                    fresh: header.fresh,
                };
                self.catalog.lanes.insert(header.lane, record);
                Ok(lane_key(header.lane))
            }
            Kind::Put => {
                let mut rest = payload;
                let length: u16 = take_int(&mut rest, "key").map_err(|error| error.to_string())?;
                let (key, value) = rest.split_at_checked(length.into()).ok_or("its key is cut off")?;
                self.catalog
                    .settings
                    .insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                Ok(setting_key(key))
            }
            Kind::NextLane => {
                let mut rest = payload;
                let mut number = || take_int::<u64>(&mut rest, "counters").map_err(|error| error.to_string());
                self.commits = number()?;
                let (lanes, settings) = (number()?, number()?);
                *counted = Some((lanes, settings, number().ok().map(Sum::from_stored)));
                self.catalog.next_lane = header.lane.0;
                Ok(COUNTERS.to_vec())
            }
            _ => Err("it is of a kind that is not stored here".into()),
        }
    }

    /// Tells frames of the lanes' current lives from garbage.
    fn sort(&mut self, frames: BTreeMap<Key, Header>) {
        for (key, header) in frames {
            let Interval { from, to } = header.interval;
            match self.catalog.lanes.get(&header.lane) {
                Some(record) if record.life == header.life => {
                    let held = Held {
                        from,
                        bytes: header.length,
                        place: Place::default(),
                    };
                    self.frames.insert((header.lane, from), (to, held));
                }
                _ => self.dead.push_back(key),
            }
        }
    }

    pub(super) fn check(&self, counted: Counted) -> Result<(), String> {
        let found = (
            self.catalog.lanes.len() as u64,
            self.catalog.settings.len() as u64,
        );
        let (lanes, settings, sum) = counted.unwrap_or_default();
        if sum.is_some_and(|sum| sum != self.sum) {
            return Err(
                "lanes and settings are there that were replaced since: a file is older than the others"
                    .into(),
            );
        }
        if found != (lanes, settings) || (counted.is_none() && !self.frames.is_empty()) {
            return Err(format!(
                "{lanes} lanes and {settings} settings were stored, {} and {} are there",
                found.0, found.1
            ));
        }
        Ok(())
    }
}
