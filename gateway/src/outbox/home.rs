//! The directory of an outbox, whichever engine lives in it.
//!
//! ```text
//! lock        held by the process that has it open
//! MANIFEST    format, engine, generation, id; replaced by rename; written last when an outbox is made
//! mark        how many commits were acknowledged, in two slots that take turns
//! reserve     space that is given up when the disk is full (L2)
//! gen-<n>/    what the engine stores
//! repair/     a sound store that is made of a damaged one
//! quarantine/ what was damaged, a directory for each repair
//! ```
//!
//! The mark is the sentinel. It is written after each commit and made durable about once a second and when the
//! outbox is closed. It is therefore never ahead of the truth, and after a mere crash of the process it is exact:
//! a store that holds fewer commits than it says has lost something, however clean it looks.

use super::disk::{Disk, DiskFile, is_full};
use super::error::Error;
use super::options::EngineKind;
use culvert_proto::checksum::crc32c;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The newest format of the directory that this program knows.
const FORMAT: u16 = 1;
/// A lock that was just let go may live on for a moment in a child that another thread is starting: between fork and
/// exec it has our files open.
const LOCK_WAIT: Duration = Duration::from_millis(300);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
pub(super) const MANIFEST: &str = "MANIFEST";
const MANIFEST_BYTES_MAX: u64 = 4096;
pub(super) const MARK: &str = "mark";
const MARK_MAGIC: &[u8; 8] = b"CVOMARK1";
const MARK_BYTES: usize = 36;
/// Slots lie in different blocks, so that a torn write spoils one of them only.
const MARK_STRIDE: u64 = 4096;
const RESERVE: &str = "reserve";
/// What a generation's directory begins with.
pub(super) const GENERATION: &str = "gen-";
/// Where a sound store is made of a damaged one, and where that goes: `salvage.rs`.
pub(super) const REPAIR: &str = "repair";
pub(super) const QUARANTINE: &str = "quarantine";

/// Takes the outbox in `root` for this process; it is free again when the file is dropped.
///
/// # Errors
/// [`Error::Locked`] when another process holds it, [`Error::Io`].
pub(super) fn lock(root: &Path) -> Result<File, Error> {
    let doing = || format!("lock outbox {}", root.display());
    make_directory(root).map_err(Error::io(doing()))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join("lock"))
        .map_err(Error::io(doing()))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked {
                    path: root.to_path_buf(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(doing())(error)),
        }
    }
}

/// Makes the directory, with those above it, and makes their names durable: an outbox whose own name is lost by a
/// power cut would be opened as a new one.
fn make_directory(root: &Path) -> io::Result<()> {
    let root = std::path::absolute(root)?;
    let missing = root.ancestors().take_while(|path| !path.exists()).count();
    std::fs::create_dir_all(&root)?;
    // That of the outbox itself each time: a crash may have come between making and syncing it.
    for parent in root.ancestors().skip(1).take(missing.max(1)) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// What the MANIFEST says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) engine: EngineKind,
    pub(super) generation: u64,
    pub(super) id: [u8; 16],
}

impl Manifest {
    /// The directory the engine stores in.
    pub(super) fn directory(&self) -> String {
        format!("{GENERATION}{}", self.generation)
    }

    fn encode(&self) -> String {
        let body = format!(
            "culvert outbox\nformat {FORMAT}\nengine {}\ngeneration {}\nid {:032x}\n",
            self.engine.name(),
            self.generation,
            u128::from_be_bytes(self.id)
        );
        let crc = crc32c(body.as_bytes());
        format!("{body}crc32c {crc:08x}\n")
    }

    fn decode(text: &str, path: &Path) -> Result<Manifest, Error> {
        let damaged = || Error::Damaged {
            path: path.to_path_buf(),
            what: "MANIFEST is not readable".into(),
        };
        let end = text.rfind("crc32c ").ok_or_else(damaged)?;
        let (body, crc) = text.split_at(end);
        if crc != format!("crc32c {:08x}\n", crc32c(body.as_bytes())) {
            return Err(damaged());
        }
        let value = |key: &str| {
            body.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .ok_or_else(damaged)
        };
        let found: u16 = value("format")?.parse().map_err(|_| damaged())?;
        if found != FORMAT {
            return Err(Error::Format {
                path: path.to_path_buf(),
                found,
                newest: FORMAT,
            });
        }
        let engine = [EngineKind::Sled, EngineKind::Log]
            .into_iter()
            .find(|engine| value("engine").is_ok_and(|name| name == engine.name()))
            .ok_or_else(damaged)?;
        let generation = value("generation")?.parse().map_err(|_| damaged())?;
        let id = u128::from_str_radix(value("id")?, 16)
            .map_err(|_| damaged())?
            .to_be_bytes();
        Ok(Manifest {
            engine,
            generation,
            id,
        })
    }
}

/// The directory while it is open.
pub(super) struct Home {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    manifest: Manifest,
    mark: Arc<dyn DiskFile>,
    acknowledged: u64,
    mark_synced: u64,
    reserve_bytes: u64,
    reserve_held: bool,
}

impl Home {
    /// Reads the directory, or begins a new outbox in it. A new one exists only after [`Home::establish`].
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::Damaged`], [`Error::Engine`], [`Error::Io`].
    pub(super) fn open(disk: Arc<dyn Disk>, engine: EngineKind, reserve_bytes: u64) -> Result<Home, Error> {
        let path = disk.root().to_path_buf();
        let doing = format!("open outbox {}", path.display());
        let names = disk.list("").map_err(Error::io(&*doing))?;
        let has = |name: &str| names.iter().any(|found| found == name);
        let damaged = |what: &str| Error::Damaged {
            path: path.clone(),
            what: what.into(),
        };

        let (manifest, acknowledged, mark) = if has(MANIFEST) {
            let manifest = Manifest::decode(&read_manifest(&*disk).map_err(Error::io(&*doing))?, &path)?;
            if manifest.engine != engine {
                let (found, configured) = (manifest.engine.name(), engine.name());
                return Err(Error::Engine {
                    path,
                    found,
                    configured,
                });
            }
            if !has(MARK) {
                return Err(damaged("the file \"mark\" is missing"));
            }
            if !has(&manifest.directory()) {
                return Err(damaged(&format!(
                    "the directory {:?} is missing",
                    manifest.directory()
                )));
            }
            let mark = disk.open(MARK).map_err(Error::io(&*doing))?;
            let acknowledged = read_mark(&*mark, &manifest.id)
                .ok_or_else(|| damaged("the file \"mark\" is not readable"))?;
            (manifest, acknowledged, mark)
        } else {
            if is_in_repair(&*disk, &names) {
                return Err(Error::Unfinished { path });
            }
            // A crash while it was made leaves pieces, and a mark that says nothing was acknowledged. Anything else
            // without a MANIFEST is an outbox that lost it.
            let has_generation = names.iter().any(|name| name.starts_with(GENERATION));
            if has_generation && !mark_is_blank(&*disk) || mark_counts(&*disk) {
                return Err(damaged("the file \"MANIFEST\" is missing"));
            }
            let manifest = Manifest {
                engine,
                generation: 1,
                id: rand::random(),
            };
            let mark = make_mark(&*disk, &manifest.id).map_err(Error::io(&*doing))?;
            remove_generations(&*disk, &names, None).map_err(Error::io(&*doing))?;
            disk.create_directory(&manifest.directory())
                .map_err(Error::io(&*doing))?;
            disk.sync_directory("").map_err(Error::io(&*doing))?;
            (manifest, 0, mark)
        };
        let mut home = Home {
            disk,
            path,
            manifest,
            mark,
            acknowledged,
            mark_synced: acknowledged,
            reserve_bytes,
            reserve_held: false,
        };
        home.renew_reserve();
        Ok(home)
    }

    /// Makes it exist, now that the engine is ready; and removes what earlier generations left behind.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn establish(&mut self) -> Result<(), Error> {
        let doing = format!("open outbox {}", self.path.display());
        let names = self.disk.list("").map_err(Error::io(&*doing))?;
        if !names.iter().any(|name| name == MANIFEST) {
            self.write_manifest(self.manifest).map_err(Error::io(&*doing))?;
        }
        remove_generations(&*self.disk, &names, Some(&self.manifest.directory())).map_err(Error::io(doing))
    }

    pub(super) fn manifest(&self) -> Manifest {
        self.manifest
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// How many commits were acknowledged, as far as the mark knows.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Remembers that this many commits are durable, before anyone is told.
    pub(super) fn acknowledge(&mut self, commits: u64) -> io::Result<()> {
        self.acknowledged = commits;
        let slot = (commits % 2) * MARK_STRIDE;
        self.mark
            .write_all_at(&encode_mark(&self.manifest.id, commits), slot)
    }

    /// Makes the mark durable.
    pub(super) fn sync_mark(&mut self) -> io::Result<()> {
        if self.mark_synced != self.acknowledged {
            self.mark.sync()?;
            self.mark_synced = self.acknowledged;
        }
        Ok(())
    }

    /// From now on the outbox is what lies in this generation's directory.
    pub(super) fn switch(&mut self, generation: u64) -> io::Result<()> {
        let next = Manifest {
            generation,
            ..self.manifest
        };
        self.write_manifest(next)?;
        self.manifest = next;
        Ok(())
    }

    fn write_manifest(&self, manifest: Manifest) -> io::Result<()> {
        const NEW: &str = "MANIFEST.new";
        let file = self.disk.create(NEW)?;
        file.write_all_at(manifest.encode().as_bytes(), 0)?;
        file.sync()?;
        self.disk.rename(NEW, MANIFEST)?;
        self.disk.sync_directory("")
    }

    /// Space that must stay free for others to be written into: the reserve, where it had to be given up.
    pub(super) fn reserve_missing_bytes(&self) -> u64 {
        if self.reserve_held { 0 } else { self.reserve_bytes }
    }

    /// Gives the reserve to the disk. Says whether there was one.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        let held = std::mem::replace(&mut self.reserve_held, false);
        held && self.disk.remove(RESERVE).is_ok()
    }

    /// Takes the reserve again when there is space for it twice over.
    pub(super) fn renew_reserve(&mut self) {
        if self.reserve_held || self.reserve_bytes == 0 {
            self.reserve_held = true;
            return;
        }
        if !self
            .disk
            .free_bytes()
            .is_ok_and(|free| free / 2 >= self.reserve_bytes)
        {
            return;
        }
        let made = self
            .disk
            .create(RESERVE)
            .and_then(|file| file.allocate(self.reserve_bytes));
        match made {
            Ok(()) => self.reserve_held = true,
            Err(error) => {
                let _ = self.disk.remove(RESERVE);
                if !is_full(&error) {
                    tracing::warn!(error = %error, "outbox cannot reserve disk space");
                    // A file system that cannot allocate ahead will not learn it: do without.
                    self.reserve_bytes = 0;
                }
            }
        }
    }
}

/// A look at a directory in which anything may be damaged.
pub(super) struct Look {
    pub(super) manifest: Option<Manifest>,
    pub(super) acknowledged: Option<u64>,
    pub(super) generations: Vec<String>,
    /// The sound store is complete, and did not take its place yet.
    pub(super) is_in_repair: bool,
}

/// Reads what can be read of it, and writes nothing.
///
/// # Errors
/// [`Error::Format`], and [`Error::Io`] when the directory cannot be read.
pub(super) fn look(disk: &dyn Disk) -> Result<Look, Error> {
    let path = disk.root();
    let names = disk
        .list("")
        .map_err(Error::io(format!("open outbox {}", path.display())))?;
    let manifest = match read_manifest(disk) {
        Ok(text) => match Manifest::decode(&text, path) {
            Err(format @ Error::Format { .. }) => return Err(format),
            decoded => decoded.ok(),
        },
        Err(_) => None,
    };
    // Which outbox the mark is of shows in it, where the MANIFEST does not.
    let mark = disk.open(MARK).ok();
    let acknowledged = mark.and_then(|mark| match manifest {
        Some(manifest) => read_mark(&*mark, &manifest.id),
        None => (0..2u64)
            .filter_map(|slot| {
                let mut id = [0; 16];
                mark.read_exact_at(&mut id, slot * MARK_STRIDE + 8).ok()?;
                read_mark_slot(&*mark, slot, &id)
            })
            .max(),
    });
    Ok(Look {
        manifest,
        acknowledged,
        is_in_repair: manifest.is_none() && is_in_repair(disk, &names),
        generations: names
            .into_iter()
            .filter(|name| name.starts_with(GENERATION))
            .collect(),
    })
}

fn is_in_repair(disk: &dyn Disk, names: &[String]) -> bool {
    let has = |names: &[String], name: &str| names.iter().any(|found| found == name);
    !has(names, MANIFEST) && has(names, REPAIR) && disk.list(REPAIR).is_ok_and(|names| has(&names, MANIFEST))
}

fn read_manifest(disk: &dyn Disk) -> io::Result<String> {
    let file = disk.open(MANIFEST)?;
    let length = file.length()?.min(MANIFEST_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn remove_generations(disk: &dyn Disk, names: &[String], keep: Option<&str>) -> io::Result<()> {
    for name in names
        .iter()
        .filter(|name| name.starts_with(GENERATION) && Some(name.as_str()) != keep)
    {
        disk.remove_directory(name)?;
    }
    Ok(())
}

fn encode_mark(id: &[u8; 16], commits: u64) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[0..8].copy_from_slice(MARK_MAGIC);
    bytes[8..24].copy_from_slice(id);
    bytes[24..32].copy_from_slice(&commits.to_be_bytes());
    let crc = crc32c(&bytes[..32]);
    bytes[32..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The larger of the slots that are intact.
fn read_mark(file: &dyn DiskFile, id: &[u8; 16]) -> Option<u64> {
    (0..2u64).filter_map(|slot| read_mark_slot(file, slot, id)).max()
}

fn read_mark_slot(file: &dyn DiskFile, slot: u64, id: &[u8; 16]) -> Option<u64> {
    let mut bytes = [0; MARK_BYTES];
    file.read_exact_at(&mut bytes, slot * MARK_STRIDE).ok()?;
    let mut commits = [0; 8];
    commits.copy_from_slice(&bytes[24..32]);
    let commits = u64::from_be_bytes(commits);
    (bytes == encode_mark(id, commits)).then_some(commits)
}

fn make_mark(disk: &dyn Disk, id: &[u8; 16]) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.create(MARK)?;
    file.write_all_at(&encode_mark(id, 0), 0)?;
    file.write_all_at(&encode_mark(id, 0), MARK_STRIDE)?;
    file.sync()?;
    disk.sync_directory("")?;
    Ok(file)
}

/// Whether the mark, of whatever outbox, says that nothing was acknowledged; so does one that was never finished.
fn mark_is_blank(disk: &dyn Disk) -> bool {
    let Ok(file) = disk.open(MARK) else { return false };
    (0..2u64).all(|slot| {
        let mut bytes = [0; MARK_BYTES];
        file.read_exact_at(&mut bytes, slot * MARK_STRIDE).is_ok()
            && bytes.starts_with(MARK_MAGIC)
            && bytes[24..32] == [0; 8]
    })
}

/// Whether the mark, of whatever outbox, says that something was acknowledged.
fn mark_counts(disk: &dyn Disk) -> bool {
    let Ok(file) = disk.open(MARK) else { return false };
    (0..2u64).any(|slot| {
        let mut bytes = [0; MARK_BYTES];
        file.read_exact_at(&mut bytes, slot * MARK_STRIDE).is_ok()
            && bytes.starts_with(MARK_MAGIC)
            && bytes[24..32] != [0; 8]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::disk::RealDisk;

    fn open(path: &Path, engine: EngineKind) -> Result<Home, Error> {
        let mut home = Home::open(Arc::new(RealDisk::new(path)), engine, 0)?;
        home.establish()?;
        Ok(home)
    }

    #[test]
    fn one_process_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let held = lock(place.path()).unwrap();
        assert!(matches!(lock(place.path()), Err(Error::Locked { .. })));
        drop(held);
        assert!(lock(place.path()).is_ok());
    }

    #[test]
    fn is_found_again() {
        let place = tempfile::tempdir().unwrap();
        let mut home = open(place.path(), EngineKind::Log).unwrap();
        let manifest = home.manifest();
        home.acknowledge(41).unwrap();
        home.acknowledge(42).unwrap();
        std::fs::create_dir(place.path().join("gen-7")).unwrap();
        home.switch(7).unwrap();
        let again = open(place.path(), EngineKind::Log).unwrap();
        assert_eq!(
            again.manifest(),
            Manifest {
                generation: 7,
                ..manifest
            }
        );
        assert_eq!(again.acknowledged(), 42);
    }

    #[test]
    fn another_engine_is_refused() {
        let place = tempfile::tempdir().unwrap();
        open(place.path(), EngineKind::Log).unwrap();
        assert!(matches!(
            open(place.path(), EngineKind::Sled),
            Err(Error::Engine { .. })
        ));
    }

    #[test]
    fn an_unknown_format_is_named() {
        let place = tempfile::tempdir().unwrap();
        open(place.path(), EngineKind::Log).unwrap();
        let body = "culvert outbox\nformat 9\nengine vapour\n";
        let text = format!("{body}crc32c {:08x}\n", crc32c(body.as_bytes()));
        std::fs::write(place.path().join(MANIFEST), text).unwrap();
        let found = open(place.path(), EngineKind::Log).map(|_| ());
        assert!(
            matches!(
                found,
                Err(Error::Format {
                    found: 9,
                    newest: FORMAT,
                    ..
                })
            ),
            "{found:?}"
        );
    }

    #[test]
    fn every_flipped_byte_of_the_manifest_is_found() {
        let place = tempfile::tempdir().unwrap();
        open(place.path(), EngineKind::Log).unwrap();
        let path = place.path().join(MANIFEST);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, bad).unwrap();
            assert!(open(place.path(), EngineKind::Log).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_missing_manifest_is_not_a_new_outbox() {
        let place = tempfile::tempdir().unwrap();
        open(place.path(), EngineKind::Log)
            .unwrap()
            .acknowledge(1)
            .unwrap();
        std::fs::remove_file(place.path().join(MANIFEST)).unwrap();
        let is_damaged = || matches!(open(place.path(), EngineKind::Log), Err(Error::Damaged { .. }));
        assert!(is_damaged());
        std::fs::remove_dir_all(place.path().join("gen-1")).unwrap();
        assert!(is_damaged());
    }

    #[test]
    fn a_missing_generation_is_not_an_empty_one() {
        for engine in [EngineKind::Log, EngineKind::Sled] {
            let place = tempfile::tempdir().unwrap();
            open(place.path(), engine).unwrap();
            std::fs::remove_dir_all(place.path().join("gen-1")).unwrap();
            assert!(matches!(open(place.path(), engine), Err(Error::Damaged { .. })));
        }
    }

    #[test]
    fn one_torn_slot_of_the_mark_is_survived() {
        let place = tempfile::tempdir().unwrap();
        let mut home = open(place.path(), EngineKind::Log).unwrap();
        home.acknowledge(7).unwrap();
        home.acknowledge(8).unwrap();
        home.mark.write_all_at(&[0xff; 20], 0).unwrap();
        assert_eq!(open(place.path(), EngineKind::Log).unwrap().acknowledged(), 7);
        home.mark.write_all_at(&[0xff; 20], MARK_STRIDE).unwrap();
        assert!(matches!(
            open(place.path(), EngineKind::Log),
            Err(Error::Damaged { .. })
        ));
    }
}
