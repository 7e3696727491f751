//! The medium as a file system: what the kernel asks, answered.

use super::medium::{Found, Kind, Medium};
use super::{Power, Switch};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs,
    ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Nobody changes anything behind the kernel's back, so it may remember what it was told.
const TTL: Duration = Duration::from_secs(60);

const BLOCK_BYTES: u32 = 4096;

/// Large enough for everything a test does.
const SIZE_BYTES: u64 = 64 << 30;

/// The file system of one mount.
pub(super) struct Kernel {
    pub(super) power: Arc<Power>,
}

impl Kernel {
    /// Looks, as long as there is power.
    fn look<T>(&self, look: impl FnOnce(&Medium) -> Found<T>) -> Result<T, Errno> {
        let switch = self.power.switch();
        match &*switch {
            Switch { on: true, medium, .. } => look(medium).map_err(told),
            _ => Err(Errno::EIO),
        }
    }

    /// Acts, unless the power goes at this very act.
    fn act<T>(&self, act: impl FnOnce(&mut Medium) -> Found<T>) -> Result<T, Errno> {
        let mut switch = self.power.switch();
        if switch.next_act() {
            act(&mut switch.medium).map_err(told)
        } else {
            Err(Errno::EIO)
        }
    }

    fn attributes(&self, node: u64) -> Result<FileAttr, Errno> {
        self.look(|medium| medium.kind(node))
            .map(|kind| attributes(node, kind))
    }

    fn entry(&self, found: Result<u64, Errno>, reply: ReplyEntry) {
        match found.and_then(|node| self.attributes(node)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }
}

fn told(error: rustix::io::Errno) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

fn attributes(node: u64, kind: Kind) -> FileAttr {
    let (kind, perm, size) = match kind {
        Kind::File { length } => (FileType::RegularFile, 0o644, length),
        Kind::Directory => (FileType::Directory, 0o755, 0),
    };
    FileAttr {
        ino: INodeNo(node),
        size,
        blocks: size.div_ceil(BLOCK_BYTES.into()) * u64::from(BLOCK_BYTES / 512),
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

fn done(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Kernel {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(self.look(|medium| medium.find(parent.0, name)), reply);
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(node.0) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        length: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let resized = match length {
            Some(length) => self.act(|medium| medium.resize(node.0, length)),
            None => Ok(()),
        };
        match resized.and_then(|()| self.attributes(node.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.act(|medium| medium.create(parent.0, name));
        match created.and_then(|node| self.attributes(node)) {
            Ok(attributes) => reply.created(
                &TTL,
                &attributes,
                Generation(0),
                FileHandle(0),
                FopenFlags::empty(),
            ),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        self.entry(self.act(|medium| medium.make_directory(parent.0, name)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.act(|medium| medium.remove(parent.0, name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.act(|medium| medium.remove(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if parent != new_parent || !flags.is_empty() {
            return reply.error(Errno::EXDEV);
        }
        let renamed = self.act(|medium| medium.rename(parent.0, name, new_name));
        if renamed.is_ok() {
            self.power.switch().renamed(new_name);
        }
        done(renamed, reply);
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.look(|medium| medium.read(node.0, offset, size).map(<[u8]>::to_vec)) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.act(|medium| medium.write(node.0, offset, bytes)) {
            Ok(()) => reply.written(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error),
        }
    }

    /// close(2) writes nothing that was not written: there is no cache above the medium.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        done(self.act(|medium| medium.sync(node.0)), reply);
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        done(self.act(|medium| medium.sync(node.0)), reply);
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.look(|medium| {
            let kinds = |(node, name)| Ok((node, medium.kind(node)?, name));
            medium
                .list(node.0)?
                .into_iter()
                .map(kinds)
                .collect::<Found<Vec<_>>>()
        });
        match listed {
            Ok(listed) => {
                // The node is the place in the list, so that what is removed meanwhile moves nothing.
                for (node, kind, name) in listed.into_iter().filter(|(node, ..)| *node > offset) {
                    let kind = attributes(node, kind).kind;
                    if reply.add(INodeNo(node), node, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.look(|medium| Ok(medium.bytes())) {
            Ok(used) => {
                let block = u64::from(BLOCK_BYTES);
                let free = SIZE_BYTES.saturating_sub(used) / block;
                reply.statfs(
                    SIZE_BYTES / block,
                    free,
                    free,
                    1 << 20,
                    1 << 20,
                    BLOCK_BYTES,
                    255,
                    BLOCK_BYTES,
                );
            }
            Err(error) => reply.error(error),
        }
    }
}
