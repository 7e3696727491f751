//! A disk in memory. Folders are there as soon as a file is below them.

use crate::files::{Condition, Entry, Error, Kind, Piece, READ_MAX, Status, WRITE_MAX};
use std::cell::RefCell;
use std::collections::BTreeMap;

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, File>,
    /// Files there ever were.
    made: u64,
}

struct File {
    identity: u64,
    bytes: Vec<u8>,
}

thread_local! {
    static DISK: RefCell<Disk> = RefCell::default();
    static MEANWHILE: RefCell<Option<Box<dyn FnMut()>>> = RefCell::default();
}

/// One call of the plugin, before which others may change the disk.
fn by_plugin<Answer>(call: impl FnOnce(&mut Disk) -> Answer) -> Answer {
    // What is done meanwhile may call what a plugin calls: it is not done again for that.
    if let Some(mut act) = MEANWHILE.take() {
        act();
        MEANWHILE.set(Some(act));
    }
    DISK.with_borrow_mut(call)
}

pub(in crate::testing) fn set_meanwhile(act: impl FnMut() + 'static) {
    MEANWHILE.set(Some(Box::new(act)));
}

impl Disk {
    fn make(&mut self, path: &str, bytes: &[u8]) -> &mut File {
        self.made += 1;
        let file = File {
            identity: self.made,
            bytes: bytes.to_vec(),
        };
        self.files.insert(path.to_owned(), file);
        self.files.get_mut(path).expect("it was put there")
    }

    fn file(&mut self, path: &str) -> Result<&mut File, Error> {
        self.files.get_mut(path).ok_or(Error::Missing)
    }
}

impl File {
    fn status(&self) -> Status {
        Status {
            kind: Kind::File,
            size: self.bytes.len() as u64,
            identity: self.identity.to_string(),
            modified_ms: 0,
        }
    }
}

pub(crate) fn look(path: &str) -> Result<Status, Error> {
    by_plugin(|disk| {
        let below = format!("{path}/");
        if disk.files.keys().any(|name| name.starts_with(&below)) {
            return Ok(Status {
                kind: Kind::Folder,
                size: 0,
                identity: path.to_owned(),
                modified_ms: 0,
            });
        }
        disk.file(path).map(|file| file.status())
    })
}

pub(crate) fn list(folder: &str, after: Option<&str>) -> Result<Vec<Entry>, Error> {
    by_plugin(|disk| {
        let below = if folder == "." {
            String::new()
        } else {
            format!("{folder}/")
        };
        let entries = disk.files.iter().filter_map(|(path, file)| {
            let name = path.strip_prefix(&below).filter(|name| !name.contains('/'))?;
            let status = file.status();
            after.is_none_or(|after| name > after).then(|| Entry {
                name: name.to_owned(),
                status,
            })
        });
        Ok(entries.take(1_000).collect())
    })
}

pub(crate) fn read(path: &str, offset: u64, length: u32) -> Result<Piece, Error> {
    by_plugin(|disk| {
        let file = disk.file(path)?;
        let from = usize::try_from(offset).map_or(file.bytes.len(), |from| from.min(file.bytes.len()));
        let to = (from + length.min(READ_MAX) as usize).min(file.bytes.len());
        Ok(Piece {
            status: file.status(),
            bytes: file.bytes[from..to].to_vec(),
        })
    })
}

pub(crate) fn append(path: &str, at: Option<u64>, bytes: &[u8]) -> Result<u64, Error> {
    if bytes.len() > WRITE_MAX {
        return Err(Error::TooLarge);
    }
    by_plugin(|disk| {
        if !disk.files.contains_key(path) {
            disk.make(path, b"");
        }
        let file = disk.file(path)?;
        if at.is_some_and(|at| at != file.bytes.len() as u64) {
            return Err(Error::Conflict);
        }
        file.bytes.extend_from_slice(bytes);
        Ok(file.bytes.len() as u64)
    })
}

pub(crate) fn truncate(path: &str, size: u64) -> Result<(), Error> {
    by_plugin(|disk| {
        let file = disk.file(path)?;
        match usize::try_from(size) {
            Ok(size) if size <= file.bytes.len() => file.bytes.truncate(size),
            _ => return Err(Error::Conflict),
        }
        Ok(())
    })
}

pub(crate) fn replace(path: &str, bytes: &[u8], only: &Condition) -> Result<(), Error> {
    if bytes.len() > WRITE_MAX {
        return Err(Error::TooLarge);
    }
    by_plugin(|disk| {
        let held = disk.files.get(path).map(|file| &file.bytes);
        let holds = match only {
            Condition::Always => true,
            Condition::Absent => held.is_none(),
            Condition::Holds(expected) => held == Some(expected),
        };
        if !holds {
            return Err(Error::Conflict);
        }
        disk.make(path, bytes);
        Ok(())
    })
}

pub(crate) fn sync(path: &str) -> Result<(), Error> {
    look(path).map(drop)
}

pub(crate) fn remove(path: &str) -> Result<(), Error> {
    by_plugin(|disk| disk.files.remove(path).map(drop).ok_or(Error::Missing))
}

pub(in crate::testing) fn set(path: &str, bytes: &[u8]) {
    DISK.with_borrow_mut(|disk| {
        disk.make(path, bytes);
    });
}

pub(in crate::testing) fn get(path: &str) -> Option<Vec<u8>> {
    DISK.with_borrow(|disk| disk.files.get(path).map(|file| file.bytes.clone()))
}

pub(in crate::testing) fn rename(from: &str, to: &str) {
    DISK.with_borrow_mut(|disk| {
        let file = disk.files.remove(from).expect("a file that a test renames");
        disk.files.insert(to.to_owned(), file);
    });
}
