//! What a damaged store still holds, and a sound store made of it.
//!
//! ```text
//! repair/              the sound store while it is made; what was damaged stands where it stood
//! quarantine/<time>/   what was damaged, from then on; nothing removes it
//! ```
//!
//! Constraints:
//! - Nothing of the damaged store is written or removed; its pieces are renamed, once the sound one is complete and durable.
//! - The MANIFEST goes first and comes last. In between, an outbox cannot be opened here; who repairs goes on
//!   where it was cut short.

use super::change::{Catalog, Held, LaneId, LaneRecord, Life};
use super::disk::{Disk, RealDisk};
use super::engine::{FrameRef, Place, Shelf};
use super::error::{Error, Full};
use super::home::{self, GENERATION, Look, MANIFEST, MARK, QUARANTINE, REPAIR};
use super::lane::Lane;
use super::options::{EngineKind, Options};
use super::{Outbox, log, sled};
use bytes::Bytes;
use culvert_proto::{Interval, Sequence};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file or directory, below that of the outbox.
    pub file: String,
    /// Where in it.
    pub byte: u64,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.byte, self.what)
    }
}

/// A frame whose bytes are right.
pub(super) struct FoundFrame {
    pub(super) to: Sequence,
    pub(super) bytes: u32,
    pub(super) place: Place,
}

/// Frames by lane, life and begin.
pub(super) type Found = BTreeMap<(LaneId, Life, Sequence), FoundFrame>;

/// What an engine's files still say.
pub(super) struct Survey {
    pub(super) damage: Vec<Damage>,
    pub(super) catalog: Catalog,
    pub(super) certain: bool,
    pub(super) commits: u64,
    pub(super) frames: Found,
    pub(super) shelf: Arc<dyn Shelf>,
}

/// Is told how far the reading is.
pub(super) struct Watch<'a> {
    told: &'a mut dyn FnMut(u64, u64),
    total: u64,
}

impl Watch<'_> {
    /// So many bytes were read since the begin.
    pub(super) fn read(&mut self, bytes: u64) {
        (self.told)(bytes.min(self.total), self.total);
    }
}

/// A store as it can be read. As long as this lives, no gateway opens it.
pub struct Salvage {
    path: PathBuf,
    /// Which engine wrote it.
    pub engine: EngineKind,
    /// What is not as it was written. Nothing: the store is sound.
    pub damage: Vec<Damage>,
    /// Whether lanes and settings are known as they were last acknowledged, so that only frames can be missing.
    pub certain: bool,
    /// Commits that are there.
    pub commits: u64,
    /// Commits that were acknowledged, where that can be read.
    pub acknowledged: Option<u64>,
    /// All lanes, by name.
    pub lanes: Vec<SalvagedLane>,
    /// All settings.
    pub settings: BTreeMap<Bytes, Bytes>,
    shelf: Arc<dyn Shelf>,
    _lock: Option<File>,
}

/// A lane, and what is whole of it.
pub struct SalvagedLane {
    /// Its name.
    pub name: Bytes,
    /// What it held.
    pub interval: Interval,
    id: LaneId,
    life: Life,
    /// Each with its end, in order.
    frames: Vec<(Sequence, Held)>,
}

impl SalvagedLane {
    fn new(id: LaneId, record: &LaneRecord, found: &Found) -> SalvagedLane {
        let life = record.life;
        let mine = found.range((id, life, record.base)..(id, life, record.tail));
        let frames = mine.map(|((.., from), frame)| {
            let held = Held {
                from: *from,
                bytes: frame.bytes,
                place: frame.place,
            };
            (frame.to, held)
        });
        SalvagedLane {
            name: record.name.clone(),
            interval: Interval::new(record.base, record.tail),
            id,
            life,
            frames: frames.collect(),
        }
    }

    /// What it held and does not any more, in order.
    #[must_use]
    pub fn missing(&self) -> Vec<Interval> {
        let mut missing = Vec::new();
        let mut next = self.interval.from;
        let ends = self.frames.iter().map(|(to, held)| (held.from, *to));
        for (from, to) in ends.chain([(self.interval.to, self.interval.to)]) {
            if from > next {
                missing.push(Interval::new(next, from));
            }
            next = next.max(to);
        }
        missing
    }

    /// Up to where nothing is missing.
    #[must_use]
    pub fn whole_to(&self) -> Sequence {
        self.missing().first().map_or(self.interval.to, |hole| hole.from)
    }

    /// How many frames are whole, and their bytes.
    #[must_use]
    pub fn held(&self) -> (u64, u64) {
        let bytes = self.frames.iter().map(|(_, held)| u64::from(held.bytes));
        (self.frames.len() as u64, bytes.sum())
    }
}

impl Salvage {
    /// Reads all that can be read in the outbox at `path`, and tells `watch` how many bytes of how many that were. Blocks.
    ///
    /// # Errors
    /// [`Error::Locked`] while a gateway has it open, [`Error::Format`] when a newer version wrote it, [`Error::Unfinished`]
    /// when a repair was cut short, [`Error::Io`] when there is no outbox or it cannot be read.
    pub fn open(path: &Path, watch: &mut dyn FnMut(u64, u64)) -> Result<Salvage, Error> {
        check_place(path)?;
        let lock = home::lock(path)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(path));
        Salvage::on(&disk, Some(lock), watch)
    }

    pub(super) fn on(
        disk: &Arc<dyn Disk>,
        lock: Option<File>,
        watch: &mut dyn FnMut(u64, u64),
    ) -> Result<Salvage, Error> {
        let path = disk.root();
        let Look {
            manifest,
            acknowledged,
            generations,
            is_in_repair,
        } = home::look(&**disk)?;
        if is_in_repair {
            return Err(Error::Unfinished { path: path.into() });
        }
        let mut damage = Vec::new();
        let mut note = |file: &str, what: &str| {
            damage.push(Damage {
                file: file.into(),
                byte: 0,
                what: what.into(),
            });
        };
        if manifest.is_none() {
            if generations.is_empty() {
                return Err(Error::Damaged {
                    path: path.into(),
                    what: "nothing of it is left".into(),
                });
            }
            note(MANIFEST, "it is missing, or not readable");
        }
        if acknowledged.is_none() {
            note(MARK, "it is missing, or not readable");
        }
        // Without a MANIFEST, the generation that holds most is the one that was.
        let named = manifest.map(|manifest| manifest.directory());
        let candidates: Vec<String> = match &named {
            Some(named) if generations.contains(named) => vec![named.clone()],
            Some(named) => {
                note(named, "the directory is missing");
                Vec::new()
            }
            None => generations,
        };
        let mut surveys = Vec::new();
        for directory in candidates {
            let engine = manifest.map_or_else(|| engine_of(&**disk, &directory), |manifest| manifest.engine);
            let mut watch = Watch {
                told: &mut *watch,
                total: disk.used_bytes(&directory).unwrap_or(0),
            };
            let id = manifest.map(|manifest| manifest.id);
            let survey = match engine {
                EngineKind::Log => log::survey(disk, path, &directory, id, acknowledged, &mut watch)?,
                EngineKind::Sled => sled::survey(disk, &directory, acknowledged, &mut watch)?,
            };
            surveys.push((engine, survey));
        }
        let best = surveys
            .into_iter()
            .max_by_key(|(_, survey)| (survey.certain, survey.commits));
        let Some((engine, survey)) = best else {
            let what = damage.first().map(ToString::to_string).unwrap_or_default();
            return Err(Error::Damaged {
                path: path.into(),
                what,
            });
        };
        damage.extend(survey.damage);
        let lanes = survey.catalog.lanes.iter();
        let mut lanes: Vec<SalvagedLane> = lanes
            .map(|(id, record)| SalvagedLane::new(*id, record, &survey.frames))
            .collect();
        lanes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Salvage {
            path: path.to_path_buf(),
            engine,
            damage,
            certain: survey.certain,
            commits: survey.commits,
            acknowledged,
            lanes,
            settings: survey.catalog.settings,
            shelf: survey.shelf,
            _lock: lock,
        })
    }

    /// The outbox's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an outbox that is opened here finds all that was acknowledged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.certain && self.lanes.iter().all(|lane| lane.missing().is_empty())
    }

    /// Begins a sound store beside the damaged one, empty. What a repair that was cut short left is removed.
    ///
    /// # Errors
    /// As [`Outbox::open`].
    pub fn begin(&self) -> Result<Outbox, Error> {
        let path = self.path.join(REPAIR);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io(format!("remove {}", path.display())))?;
        }
        Outbox::open(&Options {
            engine: self.engine,
            quota_bytes: u64::MAX >> 1,
            reserve_bytes: 0,
            cache_bytes: 0,
            ..Options::new(path)
        })
    }

    /// Every frame of a lane that is whole, with its begin.
    #[cfg(test)]
    pub(super) fn frames(&self, lane: &SalvagedLane) -> Vec<(Sequence, Bytes)> {
        let frames = lane.frames.iter().map(|(_, held)| {
            let frame = FrameRef {
                lane: lane.id,
                life: lane.life,
                held: *held,
            };
            (held.from, self.shelf.read(frame).unwrap().unwrap())
        });
        frames.collect()
    }

    /// Copies what is whole of `interval` of a lane behind what `to` holds. It must begin where `to` ends, or `to` be empty.
    ///
    /// # Errors
    /// When a frame cannot be read any more, or not be written.
    pub fn copy(
        &self,
        lane: &SalvagedLane,
        interval: Interval,
        to: &Lane,
        outbox: &Outbox,
    ) -> Result<(), Error> {
        for (end, held) in &lane.frames {
            if held.from < interval.from || *end > interval.to {
                continue;
            }
            let frame = FrameRef {
                lane: lane.id,
                life: lane.life,
                held: *held,
            };
            let bytes = self.shelf.read(frame)?.ok_or_else(|| Error::Damaged {
                path: self.path.clone(),
                what: format!("the frame at {} is gone since it was read", held.from),
            })?;
            append(to, Interval::new(held.from, *end), &bytes, outbox)?;
        }
        Ok(())
    }

    /// Puts the sound store in place of the damaged one, which goes to quarantine under this name. Returns where it is.
    ///
    /// # Errors
    /// [`Error::Io`]; [`resume`] then goes on.
    pub fn finish(self, sound: Outbox, time: &str) -> Result<PathBuf, Error> {
        sound.close_blocking()?;
        exchange(&self.path, time)
    }
}

/// Appends, and waits for the disk where it must.
///
/// # Errors
/// As [`Lane::append`].
pub fn append(to: &Lane, interval: Interval, bytes: &Bytes, outbox: &Outbox) -> Result<(), Error> {
    loop {
        match to.append(interval, bytes.clone()) {
            Err(Error::Full(Full::Pending { .. })) => outbox.sync()?,
            done => return done,
        }
    }
}

/// Goes on with a repair that was cut short when the sound store was complete. Says where the damaged one is.
///
/// # Errors
/// [`Error::Locked`], [`Error::Io`].
pub fn resume(path: &Path, time: &str) -> Result<Option<PathBuf>, Error> {
    check_place(path)?;
    let _lock = home::lock(path)?;
    let look = home::look(&RealDisk::new(path))?;
    look.is_in_repair.then(|| exchange(path, time)).transpose()
}

/// Whether there is, or was, an outbox: nothing is made where there is none.
fn check_place(path: &Path) -> Result<(), Error> {
    let doing = || format!("open outbox {}", path.display());
    let names = RealDisk::new(path).list("").map_err(Error::io(doing()))?;
    let is_ours =
        |name: &String| [MANIFEST, MARK, REPAIR].contains(&name.as_str()) || name.starts_with(GENERATION);
    if names.iter().any(is_ours) {
        return Ok(());
    }
    let none = io::Error::new(io::ErrorKind::NotFound, "there is none in this directory");
    Err(Error::io(doing())(none))
}

fn engine_of(disk: &dyn Disk, directory: &str) -> EngineKind {
    let has_slabs = disk.list(&format!("{directory}/slabs")).is_ok();
    if has_slabs {
        EngineKind::Sled
    } else {
        EngineKind::Log
    }
}

/// A repair by root is for the user whose outbox it is.
fn give_to(path: &Path, owner: &Metadata) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if (found.uid(), found.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))?;
    }
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to(&entry?.path(), owner)?;
        }
    }
    Ok(())
}

/// Every step may be the last before a crash; done again from the begin, each finds what is left to do.
fn exchange(path: &Path, time: &str) -> Result<PathBuf, Error> {
    let quarantine = path.join(QUARANTINE).join(time);
    let exchanged = || -> io::Result<()> {
        let repair = path.join(REPAIR);
        fs::create_dir_all(&quarantine)?;
        let owner = fs::metadata(path)?;
        give_to(&repair, &owner)?;
        give_to(&path.join(QUARANTINE), &owner)?;
        let aside = |name: &str| match fs::rename(path.join(name), quarantine.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let sync = |path: &Path| File::open(path)?.sync_all();
        aside(MANIFEST)?;
        sync(path)?;
        let generations = |of: &Path| -> io::Result<Vec<String>> {
            let names = fs::read_dir(of)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            Ok(names.filter(|name| name.starts_with(GENERATION)).collect())
        };
        let made = generations(&repair)?;
        // Once the new one has moved, what stands here is it.
        if !made.is_empty() {
            for name in generations(path)? {
                aside(&name)?;
            }
        }
        if repair.join(MARK).exists() {
            aside(MARK)?;
        }
        for name in made.iter().map(String::as_str).chain([MARK]) {
            if repair.join(name).exists() {
                fs::rename(repair.join(name), path.join(name))?;
            }
        }
        sync(&quarantine)?;
        sync(path)?;
        fs::rename(repair.join(MANIFEST), path.join(MANIFEST))?;
        sync(path)?;
        fs::remove_dir_all(repair)
    };
    exchanged().map_err(Error::io(format!(
        "put the repaired outbox into {}",
        path.display()
    )))?;
    Ok(quarantine)
}
