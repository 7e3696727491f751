//! Files of granted folders. Every part of a path is opened from the folder before it and never through a symbolic link, so
//! that a link put there between a look and a write leads nowhere either.

use super::Reach;
use crate::bindings::capabilities::culvert::plugin::files as contract;
use crate::grants::{FolderGrant, Use};
use crate::tape::{Taped, ask};
use contract::{Condition, Entry, Error, Kind, Piece, Status};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::thread;
use std::time::Duration;

/// The most bytes of one read, and of one write.
const READ_BYTES_MAX: u32 = 4 << 20;
const WRITE_BYTES_MAX: usize = 16 << 20;

/// The most entries of one answer, and of a folder.
const PAGE_MAX: usize = 1_000;
const ENTRIES_MAX: usize = 100_000;

/// What new files may be: of the gateway's user and group.
const MODE: u32 = 0o640;

/// How often a folder is asked for that another gateway holds. By eye.
const PAUSE: Duration = Duration::from_millis(2);

/// How a file is opened: never through a link, and without waiting for the other end of a pipe.
const SAFELY: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

impl contract::Host for Reach {
    fn look(&mut self, path: String) -> wasmtime::Result<Result<Status, Error>> {
        self.taped("files.look", &path, |_| (), |reach| Reach::look(reach, &path))
    }

    fn list(&mut self, folder: String, after: Option<String>) -> wasmtime::Result<Result<Vec<Entry>, Error>> {
        self.taped(
            "files.list",
            &folder,
            |out| after.put(out),
            |reach| Reach::list(reach, &folder, after.as_deref()),
        )
    }

    fn read(&mut self, path: String, offset: u64, length: u32) -> wasmtime::Result<Result<Piece, Error>> {
        self.taped(
            "files.read",
            &path,
            |out| (offset, length).put(out),
            |reach| Reach::read(reach, &path, offset, length),
        )
    }

    fn append(
        &mut self,
        path: String,
        at: Option<u64>,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let tape = self.tape.clone();
        let asked = ask(tape.as_ref(), "files.append", |out| {
            path.put(out);
            at.put(out);
            bytes.put(out);
        });
        asked.answer(|| {
            if let Err(cut) = self.outside("files.append") {
                // A write that is cut short may have got half-way.
                let _ = Reach::append(self, &path, at, &bytes[..bytes.len() / 2]);
                return Err(cut);
            }
            Ok(self.reach_out(|reach| Reach::append(reach, &path, at, &bytes)))
        })
    }

    fn truncate(&mut self, path: String, size: u64) -> wasmtime::Result<Result<(), Error>> {
        self.taped(
            "files.truncate",
            &path,
            |out| size.put(out),
            |reach| Reach::truncate(reach, &path, size),
        )
    }

    fn replace(
        &mut self,
        path: String,
        bytes: Vec<u8>,
        only: Condition,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.taped(
            "files.replace",
            &path,
            |out| {
                bytes.put(out);
                only.put(out);
            },
            |reach| Reach::replace(reach, &path, &bytes, &only),
        )
    }

    fn sync(&mut self, path: String) -> wasmtime::Result<Result<(), Error>> {
        self.taped("files.sync", &path, |_| (), |reach| Reach::sync(reach, &path))
    }

    fn remove(&mut self, path: String) -> wasmtime::Result<Result<(), Error>> {
        self.taped("files.remove", &path, |_| (), |reach| Reach::remove(reach, &path))
    }
}

impl Reach {
    /// One call of a plugin about `path`; `more` are its other arguments.
    fn taped<Given: Taped>(
        &mut self,
        call: &'static str,
        path: &String,
        more: impl FnOnce(&mut Vec<u8>),
        act: impl FnOnce(&Reach) -> Result<Given, Error>,
    ) -> wasmtime::Result<Result<Given, Error>> {
        let tape = self.tape.clone();
        let asked = ask(tape.as_ref(), call, |out| {
            path.put(out);
            more(out);
        });
        asked.answer(|| {
            self.outside(call)?;
            Ok(self.reach_out(|reach| act(reach)))
        })
    }

    fn look(&self, path: &str) -> Result<Status, Error> {
        let (grant, below) = self.granted(path, Use::Read)?;
        let Some((name, folders)) = below.split_last() else {
            return status(&fs::fstat(walk(grant, &[])?).map_err(failed)?);
        };
        let folder = walk(grant, folders)?;
        status(&fs::statat(folder, *name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?)
    }

    fn list(&self, path: &str, after: Option<&str>) -> Result<Vec<Entry>, Error> {
        let (grant, below) = self.granted(path, Use::Read)?;
        let folder = walk(grant, &below)?;
        let is_root = below.is_empty();
        let mut names = Vec::new();
        for (read, entry) in fs::Dir::read_from(&folder).map_err(failed)?.enumerate() {
            if read > ENTRIES_MAX {
                return Err(Error::TooLarge);
            }
            let entry = entry.map_err(failed)?;
            // A name that is no text cannot be asked for.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let is_shown = !is_root || grant.shows(name);
            if !matches!(name, "." | "..") && is_shown && after.is_none_or(|after| name > after) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        names.truncate(PAGE_MAX);
        let look = |name: String| match fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(status(&stat).map(|status| Entry { name, status })),
            // It went while we looked.
            Err(Errno::NOENT) => None,
            Err(error) => Some(Err(failed(error))),
        };
        names.into_iter().filter_map(look).collect()
    }

    fn read(&self, path: &str, offset: u64, length: u32) -> Result<Piece, Error> {
        let (_, file) = self.open(path, Use::Read, OFlags::RDONLY)?;
        let status = status(&fs::fstat(&file).map_err(failed)?)?;
        let there = status.size.saturating_sub(offset);
        let length = there.min(length.min(READ_BYTES_MAX).into());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut read = 0;
        while read < bytes.len() {
            match rustix::io::pread(&file, &mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        bytes.truncate(read);
        Ok(Piece { status, bytes })
    }

    fn append(&self, path: &str, at: Option<u64>, bytes: &[u8]) -> Result<u64, Error> {
        check_size(bytes)?;
        let make = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
        let (folder, file) = self.open(path, Use::Write, make)?;
        self.hold(&folder)?;
        let size = status(&fs::fstat(&file).map_err(failed)?)?.size;
        if at.is_some_and(|at| at != size) {
            return Err(Error::Conflict);
        }
        if size == 0 {
            // It may be new: its name has to last too.
            fs::fsync(&folder).map_err(failed)?;
        }
        write_all(&file, bytes).inspect_err(|_| {
            // A disk that ran full leaves a part, which is taken back as far as it can be.
            let _ = fs::ftruncate(&file, size);
        })?;
        Ok(size + bytes.len() as u64)
    }

    fn truncate(&self, path: &str, size: u64) -> Result<(), Error> {
        let (folder, file) = self.open(path, Use::Write, OFlags::WRONLY)?;
        self.hold(&folder)?;
        if status(&fs::fstat(&file).map_err(failed)?)?.size < size {
            return Err(Error::Conflict);
        }
        fs::ftruncate(&file, size).map_err(failed)
    }

    fn replace(&self, path: &str, bytes: &[u8], only: &Condition) -> Result<(), Error> {
        check_size(bytes)?;
        let (folder, name) = self.place(path, Use::Write)?;
        self.hold(&folder)?;
        match fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if status(&stat)?.kind != Kind::File => return Err(not_a_file(path)),
            Err(error) if error != Errno::NOENT => return Err(failed(error)),
            _ => {}
        }
        check_condition(&folder, name, only)?;
        let fresh = format!(".{name}.new");
        match fs::unlinkat(&folder, fresh.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
        let make = SAFELY | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = fs::openat(&folder, fresh.as_str(), make, mode()).map_err(failed)?;
        write_all(&file, bytes)?;
        fs::fsync(&file).map_err(failed)?;
        fs::renameat(&folder, fresh.as_str(), &folder, name).map_err(failed)?;
        fs::fsync(&folder).map_err(failed)
    }

    fn sync(&self, path: &str) -> Result<(), Error> {
        let (_, file) = self.open(path, Use::Write, OFlags::WRONLY)?;
        fs::fdatasync(&file).map_err(failed)
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let (folder, name) = self.place(path, Use::Write)?;
        fs::unlinkat(&folder, name, AtFlags::empty()).map_err(failed)?;
        fs::fsync(&folder).map_err(failed)
    }

    /// The grant that covers a path, and the parts below its folder.
    fn granted<'p>(&self, path: &'p str, use_of: Use) -> Result<(&FolderGrant, Vec<&'p str>), Error> {
        let covering = self.grants.files.iter().filter(|grant| grant.may(use_of));
        let mut covering = covering.filter_map(|grant| Some((grant, grant.below(path)?)));
        covering.next().ok_or_else(|| {
            let word = if use_of == Use::Read { "read" } else { "write" };
            Error::Denied(format!("{word} {path}"))
        })
    }

    /// The folder that a file is in, and its name there.
    fn place<'p>(&self, path: &'p str, use_of: Use) -> Result<(OwnedFd, &'p str), Error> {
        let (grant, below) = self.granted(path, use_of)?;
        let Some((name, folders)) = below.split_last() else {
            return Err(not_a_file(path));
        };
        Ok((walk(grant, folders)?, name))
    }

    fn open(&self, path: &str, use_of: Use, how: OFlags) -> Result<(OwnedFd, OwnedFd), Error> {
        let (folder, name) = self.place(path, use_of)?;
        let file = fs::openat(&folder, name, how | SAFELY, mode()).map_err(failed)?;
        let found = fs::fstat(&file).map_err(failed)?;
        if status(&found)?.kind != Kind::File {
            return Err(not_a_file(path));
        }
        Ok((folder, file))
    }

    /// Keeps other gateways of this machine from changing the folder until it is closed.
    fn hold(&self, folder: &OwnedFd) -> Result<(), Error> {
        loop {
            match fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) if !self.patience().is_zero() => thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {
                    return Err(Error::Failed("another gateway holds the folder".into()));
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// The granted folder itself may be reached through links: its operator wrote it. What is below it may not.
fn walk(grant: &FolderGrant, below: &[&str]) -> Result<OwnedFd, Error> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let first = fs::open(grant.folder(), how, Mode::empty()).map_err(failed)?;
    below.iter().try_fold(first, |folder, part| {
        fs::openat(&folder, *part, how | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)
    })
}

fn check_condition(folder: &OwnedFd, name: &str, only: &Condition) -> Result<(), Error> {
    let held = || -> Result<Option<Vec<u8>>, Error> {
        let file = match fs::openat(folder, name, OFlags::RDONLY | SAFELY, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        let mut limited = std::io::Read::take(std::fs::File::from(file), WRITE_BYTES_MAX as u64 + 1);
        std::io::Read::read_to_end(&mut limited, &mut bytes)
            .map_err(|error| Error::Failed(error.to_string()))?;
        Ok(Some(bytes))
    };
    let holds = match only {
        Condition::Always => true,
        Condition::Absent => held()?.is_none(),
        Condition::Holds(expected) => held()?.as_ref() == Some(expected),
    };
    if holds { Ok(()) } else { Err(Error::Conflict) }
}

fn check_size(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > WRITE_BYTES_MAX {
        return Err(Error::TooLarge);
    }
    Ok(())
}

fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn mode() -> Mode {
    Mode::from_raw_mode(MODE)
}

fn status(stat: &Stat) -> Result<Status, Error> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        _ => Kind::Other,
    };
    Ok(Status {
        kind,
        size: u64::try_from(stat.st_size).map_err(|_| Error::TooLarge)?,
        identity: format!("{:x}-{:x}", stat.st_dev, stat.st_ino),
        modified_ms: stat.st_mtime * 1_000 + i64::try_from(stat.st_mtime_nsec / 1_000_000).unwrap_or(0),
    })
}

fn not_a_file(path: &str) -> Error {
    Error::Denied(format!("{path}, which is no file"))
}

#[allow(clippy::needless_pass_by_value, reason = "given to map_err")]
fn failed(error: Errno) -> Error {
    match error {
        Errno::NOENT => Error::Missing,
        // What opening a link or walking through one says.
        Errno::LOOP => Error::Denied("a symbolic link".into()),
        Errno::NOTDIR => Error::Denied("a path through what is no folder".into()),
        other => Error::Failed(other.to_string()),
    }
}
