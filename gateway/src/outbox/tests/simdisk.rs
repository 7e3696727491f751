//! A disk in memory that can lose its power, run full and fail to sync.
//!
//! It keeps a journal of everything that was done to it. A power cut is a point in that journal and a choice of what
//! else got onto the medium besides what was synced before that point.

use crate::outbox::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// One act on the disk.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Create {
        path: String,
        file: usize,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    Cut {
        file: usize,
        length: u64,
    },
    Sync {
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    MakeDirectory {
        path: String,
    },
    RemoveDirectory {
        path: String,
    },
    SyncDirectory {
        path: String,
    },
    /// The test was told that everything up to this number is durable.
    Acknowledged(u64),
}

/// What survives of the writes that were not synced when the power went.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survives {
    Nothing,
    Everything,
    /// Everything, but of the last write only so many bytes.
    Torn(usize),
    /// Each name and each write by the toss of a coin.
    Some(u64),
}

#[derive(Clone, Default)]
struct World {
    names: BTreeMap<String, usize>,
    directories: BTreeSet<String>,
    files: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Inner {
    world: World,
    journal: Vec<Op>,
    capacity: Option<u64>,
    /// Whether [`Disk::free_bytes`] tells the truth.
    frank: bool,
    /// The sync with this number fails.
    failing_sync: Option<usize>,
    syncs: usize,
}

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct SimDisk(Arc<Mutex<Inner>>);

impl SimDisk {
    pub(super) fn acknowledged(&self, number: u64) {
        self.0.lock().journal.push(Op::Acknowledged(number));
    }

    pub(super) fn journal(&self) -> Vec<Op> {
        self.0.lock().journal.clone()
    }

    pub(super) fn set_capacity(&self, bytes: Option<u64>, frank: bool) {
        let mut inner = self.0.lock();
        (inner.capacity, inner.frank) = (bytes, frank);
    }

    pub(super) fn fail_sync(&self, number: usize) {
        self.0.lock().failing_sync = Some(number);
    }

    pub(super) fn syncs(&self) -> usize {
        self.0.lock().syncs
    }

    pub(super) fn used(&self) -> u64 {
        self.0.lock().used()
    }

    /// The files by name.
    pub(super) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let inner = self.0.lock();
        let World { names, files, .. } = &inner.world;
        names
            .iter()
            .map(|(name, file)| (name.clone(), files[*file].clone()))
            .collect()
    }

    /// A copy of this disk with another content of one file.
    pub(super) fn with(&self, path: &str, content: Vec<u8>) -> SimDisk {
        let mut world = self.0.lock().world.clone();
        let file = world.names[path];
        world.files[file] = content;
        SimDisk(Arc::new(Mutex::new(Inner {
            world,
            ..Inner::default()
        })))
    }

    /// The disk after a power cut right behind `journal`. What was synced is there; of the rest what `survives`.
    pub(super) fn after_power_cut(journal: &[Op], survives: Survives) -> SimDisk {
        let last_write = journal.iter().rposition(|op| matches!(op, Op::Write { .. }));
        let mut world = World {
            directories: BTreeSet::from([String::new()]),
            ..World::default()
        };
        let unsynced_names: Vec<usize> = (0..journal.len())
            .filter(|at| journal[*at].directory().is_some() && !is_synced(journal, *at))
            .collect();
        for (at, op) in journal.iter().enumerate() {
            let synced = is_synced(journal, at);
            let survives_whole = synced
                || match survives {
                    Survives::Nothing => false,
                    Survives::Everything | Survives::Torn(_) => true,
                    // Names change in order, as in a journalling file system; writes in any.
                    Survives::Some(seed) => match unsynced_names.iter().position(|name| *name == at) {
                        Some(order) => order < seed as usize % (unsynced_names.len() + 1),
                        None => toss(seed, at),
                    },
                };
            match (op, survives) {
                (Op::Write { file, offset, bytes }, Survives::Torn(length))
                    if Some(at) == last_write && !synced =>
                {
                    world.write(*file, *offset, &bytes[..length.min(bytes.len())]);
                }
                (Op::Write { file, offset, bytes }, Survives::Some(seed)) if !survives_whole => {
                    // A part of it, or nothing.
                    let length = if toss(seed, at + 7777) { bytes.len() / 2 } else { 0 };
                    world.write(*file, *offset, &bytes[..length]);
                }
                _ if survives_whole => world.apply(op),
                (Op::Create { file, .. }, _) => world.file(*file).clear(),
                _ => {}
            }
        }
        SimDisk(Arc::new(Mutex::new(Inner {
            world,
            ..Inner::default()
        })))
    }
}

/// The highest number that was acknowledged.
pub(super) fn acknowledged(journal: &[Op]) -> u64 {
    let numbers = journal.iter().filter_map(|op| match op {
        Op::Acknowledged(number) => Some(*number),
        _ => None,
    });
    numbers.max().unwrap_or(0)
}

/// Whether a later sync of its file or directory made this act durable.
fn is_synced(journal: &[Op], at: usize) -> bool {
    let op = &journal[at];
    journal[at..].iter().any(|later| match later {
        Op::Sync { file } => op.content_of() == Some(*file),
        Op::SyncDirectory { path } => op.directory() == Some(path.as_str()),
        _ => false,
    })
}

fn toss(seed: u64, at: usize) -> bool {
    let mixed = (seed ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 63 == 1
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Op {
    fn content_of(&self) -> Option<usize> {
        match self {
            Op::Write { file, .. } | Op::Cut { file, .. } => Some(*file),
            _ => None,
        }
    }

    fn directory(&self) -> Option<&str> {
        match self {
            Op::Create { path, .. }
            | Op::Remove { path }
            | Op::MakeDirectory { path }
            | Op::RemoveDirectory { path } => Some(parent(path)),
            Op::Rename { to, .. } => Some(parent(to)),
            _ => None,
        }
    }
}

impl World {
    fn file(&mut self, file: usize) -> &mut Vec<u8> {
        if self.files.len() <= file {
            self.files.resize(file + 1, Vec::new());
        }
        &mut self.files[file]
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).unwrap();
        let content = self.file(file);
        if content.len() < offset + bytes.len() && !bytes.is_empty() {
            content.resize(offset + bytes.len(), 0);
        }
        if !bytes.is_empty() {
            content[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { path, file } => {
                self.file(*file).clear();
                self.names.insert(path.clone(), *file);
            }
            Op::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Op::Cut { file, length } => self.file(*file).truncate(usize::try_from(*length).unwrap()),
            Op::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Op::Remove { path } => drop(self.names.remove(path)),
            Op::MakeDirectory { path } => drop(self.directories.insert(path.clone())),
            Op::RemoveDirectory { path } => {
                self.directories.remove(path);
                self.names.retain(|name, _| parent(name) != path);
            }
            Op::Sync { .. } | Op::SyncDirectory { .. } | Op::Acknowledged(_) => {}
        }
    }
}

impl Inner {
    fn act(&mut self, op: Op) {
        self.world.apply(&op);
        self.journal.push(op);
    }

    fn used(&self) -> u64 {
        let files: BTreeSet<usize> = self.world.names.values().copied().collect();
        files
            .into_iter()
            .map(|file| self.world.files[file].len() as u64)
            .sum()
    }

    fn sync(&mut self, op: Op) -> io::Result<()> {
        self.syncs += 1;
        if self.failing_sync == Some(self.syncs) {
            return Err(io::Error::other("injected"));
        }
        self.journal.push(op);
        Ok(())
    }

    fn find(&self, path: &str) -> io::Result<usize> {
        self.world
            .names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl Disk for SimDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.0.lock();
        let file = inner.world.files.len();
        inner.act(Op::Create {
            path: path.into(),
            file,
        });
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            file,
        }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.lock().find(path)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            file,
        }))
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.0.lock().act(Op::MakeDirectory { path: path.into() });
        Ok(())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let inner = self.0.lock();
        let World {
            names, directories, ..
        } = &inner.world;
        if !directory.is_empty() && !directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = names
            .keys()
            .chain(directories.iter().filter(|name| !name.is_empty()));
        let below = all.filter(|name| parent(name) == directory);
        Ok(below
            .map(|name| name.rsplit('/').next().unwrap().to_string())
            .collect())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.find(path)?;
        inner.act(Op::Remove { path: path.into() });
        Ok(())
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.0.lock().act(Op::RemoveDirectory { path: path.into() });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.find(from)?;
        inner.act(Op::Rename {
            from: from.into(),
            to: to.into(),
        });
        Ok(())
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        self.0.lock().sync(Op::SyncDirectory {
            path: directory.into(),
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let inner = self.0.lock();
        Ok(match inner.capacity {
            Some(capacity) if inner.frank => capacity.saturating_sub(inner.used()),
            _ => 1 << 40,
        })
    }

    fn used_bytes(&self, _directory: &str) -> io::Result<u64> {
        Ok(self.0.lock().used())
    }

    fn root(&self) -> &Path {
        Path::new("simulated")
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.disk.0.lock();
        let offset = usize::try_from(offset).unwrap();
        let content = inner.world.files[self.file].get(offset..offset + bytes.len());
        bytes.copy_from_slice(content.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.0.lock();
        let end = offset + bytes.len() as u64;
        let growth = end.saturating_sub(inner.world.files[self.file].len() as u64);
        let free = inner
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(inner.used()));
        if growth > free {
            // As much as fits, as a real disk does it.
            let kept = bytes.len() - usize::try_from(growth - free).unwrap();
            inner.act(Op::Write {
                file: self.file,
                offset,
                bytes: bytes[..kept].to_vec(),
            });
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.act(Op::Write {
            file: self.file,
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().world.files[self.file].len() as u64)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.disk.0.lock().act(Op::Cut {
            file: self.file,
            length,
        });
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.write_all_at(&vec![0; usize::try_from(length).unwrap()], 0)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.0.lock().sync(Op::Sync { file: self.file })
    }
}
