//! The store that is damaged, and what it holds.

use super::super::{at, options, places};
use super::mix;
use crate::outbox::change::{Catalog, LaneId};
use crate::outbox::engine::{FrameRef, Recovered};
use crate::outbox::{EngineKind, Error, Full, Group, Lane, Outbox, Salvage};
use bytes::Bytes;
use culvert_proto::{Interval, Sequence};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The files of a directory tree, by their paths below it.
pub(super) type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// A store as it is, and as it was.
pub(super) struct Stores {
    pub(super) now: Files,
    pub(super) older: Vec<Files>,
}

const NOW: &str = "now";
const LANES: u64 = 24;
const SETTINGS: u64 = 40;

impl Stores {
    pub(super) fn load(place: &Path) -> Stores {
        let older = (0..).map(|copy| place.join(older(copy)));
        Stores {
            now: load(&place.join(NOW)),
            older: older
                .take_while(|path| path.exists())
                .map(|path| load(&path))
                .collect(),
        }
    }
}

/// Memory, where the system has a directory for it.
pub(super) fn fast_place() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        shared.to_owned()
    } else {
        std::env::temp_dir()
    }
}

/// Makes a store of about `bytes`, with earlier copies of itself beside it. It has been opened several times, written to by
/// many lanes, trimmed, restarted, regrouped. A log's ends with a commit that never came to its end.
pub(super) fn make(place: &Path, engine: EngineKind, bytes: u64, seed: u64) {
    let work = place.join("work");
    let mut maker = Maker { seed, act: 0 };
    for copy in 0..4 {
        let outbox = Outbox::open(&options(&work, engine)).unwrap();
        maker.write(&outbox, bytes / 8);
        outbox.sync().unwrap();
        keep(&work, &place.join(older(copy)));
        maker.write(&outbox, bytes / 8);
        if copy == 0 {
            // Whole files go with it, which an older copy brings back.
            maker.trim_all(&outbox);
        }
        if copy % 2 == 0 {
            outbox.close_blocking().unwrap();
        } else {
            outbox.sync().unwrap();
            outbox.crash();
        }
    }
    let outbox = Outbox::open(&options(&work, engine)).unwrap();
    maker.write(&outbox, bytes / 3);
    outbox.sync().unwrap();
    // Of now, but for the last commits: the newest files are there by half.
    keep(&work, &place.join(older(4)));
    maker.write(&outbox, bytes / 200);
    if engine == EngineKind::Sled {
        outbox.close_blocking().unwrap();
        keep(&work, &place.join(NOW));
    } else {
        tear(&mut maker, &outbox, &work, &place.join(NOW));
        outbox.crash();
    }
    fs::remove_dir_all(work).unwrap();
}

/// Keeps a copy in which the last commit stands by half, and the mark does not know it.
fn tear(maker: &mut Maker, outbox: &Outbox, work: &Path, to: &Path) {
    let lane = outbox.lane(&name(0)).unwrap();
    loop {
        outbox.sync().unwrap();
        let before = settled(work);
        maker.append(&lane, 0);
        outbox.sync().unwrap();
        let after = settled(work);
        let newest = |files: &Files| files.keys().rfind(|path| path.ends_with(".log")).unwrap().clone();
        let segment = newest(&after);
        if segment != newest(&before) {
            continue;
        }
        let whole = before[&segment].len();
        let half = whole + (after[&segment].len() - whole) / 2;
        let mut files = before;
        files.insert(segment.clone(), Arc::new(after[&segment][..half].to_vec()));
        return store(&files, to);
    }
}

struct Maker {
    seed: u64,
    act: u64,
}

impl Maker {
    fn next(&mut self, below: u64) -> u64 {
        self.act += 1;
        mix(self.seed, self.act) % below
    }

    fn write(&mut self, outbox: &Outbox, bytes: u64) {
        let lanes: Vec<Lane> = (0..LANES).map(|lane| outbox.lane(&name(lane)).unwrap()).collect();
        let mut written = 0;
        while written < bytes {
            let number = self.next(LANES);
            let lane = &lanes[usize::try_from(number).unwrap()];
            match self.next(40) {
                0 => lane.trim(at(lane.extent().tail.0.saturating_sub(30))).unwrap(),
                1..4 => {
                    let key = format!("setting/{}", self.next(SETTINGS));
                    let value = vec![b'v'; usize::try_from(self.next(200)).unwrap()];
                    outbox
                        .put(key.as_bytes(), &[&self.act.to_be_bytes()[..], &value].concat())
                        .unwrap();
                }
                4 => outbox
                    .delete(format!("setting/{}", self.next(SETTINGS)).as_bytes())
                    .unwrap(),
                5 => {
                    let mut group = Group::default();
                    let tail = lane.extent().tail.0;
                    group
                        .append(lane, places(tail, tail + 2), self.frame(number, tail))
                        .unwrap();
                    group.put(b"setting/of a group", &tail.to_be_bytes()).unwrap();
                    outbox.together(group).unwrap();
                }
                6 if number % 8 == 3 => lane.restart(at(lane.extent().tail.0 + 5)).unwrap(),
                7 if number == 5 => {
                    let passing = outbox.lane(b"passing").unwrap();
                    passing.append(places(0, 1), self.frame(99, 0)).unwrap();
                    outbox.remove_lane(&passing).unwrap();
                }
                _ => written += self.append(lane, number),
            }
            if self.next(12) == 0 {
                outbox.sync().unwrap();
            }
        }
    }

    fn trim_all(&self, outbox: &Outbox) {
        for lane in 0..LANES {
            let lane = outbox.lane(&name(lane)).unwrap();
            lane.trim(lane.extent().tail).unwrap();
        }
    }

    fn append(&mut self, lane: &Lane, number: u64) -> u64 {
        let tail = lane.extent().tail.0;
        let to = tail + 1 + self.next(3);
        let frame = self.frame(number, tail);
        loop {
            match lane.append(places(tail, to), frame.clone()) {
                Ok(()) => return frame.len() as u64,
                Err(Error::Full(Full::Pending { .. })) => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Bytes that do not compress, and say what they are.
    fn frame(&mut self, lane: u64, from: u64) -> Bytes {
        let words = 12 + self.next(130);
        let seed = mix(self.seed ^ lane, from);
        let words = (0..words).flat_map(|word| mix(seed, word).to_be_bytes());
        Bytes::from(
            format!("{lane} {from} ")
                .into_bytes()
                .into_iter()
                .chain(words)
                .collect::<Vec<u8>>(),
        )
    }
}

fn name(lane: u64) -> Vec<u8> {
    format!("origin/lane {lane}").into_bytes()
}

fn older(copy: u64) -> String {
    format!("older {copy}")
}

/// The files of a directory whose owner is done with them: as they are twice in a row.
fn settled(directory: &Path) -> Files {
    let mut before = load(directory);
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = load(directory);
        if now == before {
            return now;
        }
        before = now;
    }
}

fn keep(directory: &Path, to: &Path) {
    store(&settled(directory), to);
}

/// Writes files below `directory`.
pub(super) fn store(files: &Files, directory: &Path) {
    for (path, content) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &**content).unwrap();
    }
}

fn load(directory: &Path) -> Files {
    let mut files = Files::new();
    let mut waiting = vec![(PathBuf::new(), directory.to_owned())];
    while let Some((below, path)) = waiting.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let Ok(entry) = entry else { continue };
            let below = below.join(entry.file_name());
            if entry.path().is_dir() {
                waiting.push((below, entry.path()));
            } else if let Ok(content) = fs::read(entry.path()) {
                files.insert(below.to_str().unwrap().to_owned(), Arc::new(content));
            }
        }
    }
    files
}

/// All that a store holds.
#[derive(Debug, PartialEq)]
pub(super) struct Contents {
    catalog: Catalog,
    frames: BTreeMap<(LaneId, Sequence), Bytes>,
}

impl Contents {
    pub(super) fn of(recovered: &Recovered) -> Result<Contents, Error> {
        let shelf = recovered.engine.shelf();
        let mut frames = BTreeMap::new();
        for (lane, held) in &recovered.held {
            let life = recovered.catalog.lanes[lane].life;
            for held in held {
                let frame = FrameRef {
                    lane: *lane,
                    life,
                    held: *held,
                };
                // A frame that is not there is one that is missing: the comparison finds it.
                if let Some(bytes) = shelf.read(frame)? {
                    frames.insert((*lane, held.from), bytes);
                }
            }
        }
        Ok(Contents {
            catalog: recovered.catalog.clone(),
            frames,
        })
    }

    /// What a salvage says that is not so, in a word. It may hold less, and must know that.
    pub(super) fn contradiction(&self, salvage: &Salvage) -> Option<String> {
        if salvage.is_sound() {
            return Some("salvage finds it sound".into());
        }
        let lanes: BTreeMap<&Bytes, (LaneId, Interval)> = self
            .catalog
            .lanes
            .iter()
            .map(|(id, record)| (&record.name, (*id, Interval::new(record.base, record.tail))))
            .collect();
        for lane in &salvage.lanes {
            let known = lanes
                .get(&lane.name)
                .filter(|(_, interval)| *interval == lane.interval);
            let Some((id, _)) = known.or(lanes.get(&lane.name)) else {
                if salvage.certain {
                    return Some("salvage is certain of a lane that is none".into());
                }
                continue;
            };
            if salvage.certain && known.is_none() {
                return Some("salvage is certain of another extent".into());
            }
            let frames = salvage.frames(lane);
            let is_other = |(from, bytes): &(Sequence, Bytes)| {
                // Where it is not certain, frames may be there that were freed since.
                self.frames.get(&(*id, *from)).is_some_and(|right| right != bytes)
            };
            if frames.iter().any(is_other) {
                return Some("salvage has another frame".into());
            }
            let missing = lane.missing();
            let is_hidden = |((of, from), _): &(&(LaneId, Sequence), &Bytes)| {
                of == id
                    && !frames.iter().any(|(have, _)| have == from)
                    && !missing.iter().any(|hole| hole.from <= *from && *from < hole.to)
            };
            if salvage.certain && self.frames.iter().any(|frame| is_hidden(&frame)) {
                return Some("salvage lacks a frame and does not know it".into());
            }
        }
        let all = salvage.lanes.len() == lanes.len() && salvage.settings == self.catalog.settings;
        (salvage.certain && !all).then(|| "salvage is certain of other lanes or settings".into())
    }

    /// What is different, in a word.
    pub(super) fn difference(&self, other: &Contents) -> Option<String> {
        if self.catalog != other.catalog {
            return Some("lanes or settings are others".into());
        }
        let missing = self.frames.keys().find(|frame| !other.frames.contains_key(frame));
        let changed = self
            .frames
            .iter()
            .find(|(frame, bytes)| other.frames.get(frame) != Some(bytes));
        match (missing, changed) {
            (Some(frame), _) => Some(format!("frame {frame:?} is missing")),
            (None, Some((frame, _))) => Some(format!("frame {frame:?} is another")),
            (None, None) => (self != other).then(|| "frames are there that were freed".into()),
        }
    }
}
