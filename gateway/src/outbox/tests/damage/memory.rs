//! A disk in memory over files that many share: changing one copies that one alone.

use super::store::Files;
use crate::outbox::disk::{Disk, DiskFile};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file, for all that have it open.
type Content = Arc<Mutex<Arc<Vec<u8>>>>;

/// The disk; clones are the same disk.
#[derive(Clone)]
pub(super) struct MemoryDisk(Arc<Mutex<BTreeMap<String, Content>>>);

impl MemoryDisk {
    pub(super) fn new(files: Files) -> MemoryDisk {
        let files = files.into_iter();
        let files = files.map(|(path, content)| (path, Arc::new(Mutex::new(content))));
        MemoryDisk(Arc::new(Mutex::new(files.collect())))
    }

    pub(super) fn content(&self, path: &str) -> Option<Vec<u8>> {
        let files = self.0.lock();
        files.get(path).map(|content| content.lock().to_vec())
    }
}

struct MemoryFile(Content);

impl Disk for MemoryDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let content = Content::default();
        self.0.lock().insert(path.into(), content.clone());
        Ok(Arc::new(MemoryFile(content)))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let files = self.0.lock();
        let content = files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile(content.clone())))
    }

    fn create_directory(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let files = self.0.lock();
        let prefix = if directory.is_empty() {
            String::new()
        } else {
            format!("{directory}/")
        };
        let names: BTreeSet<String> = files
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .filter_map(|path| path.split('/').next())
            .map(str::to_owned)
            .collect();
        if names.is_empty() && !directory.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names.into_iter().collect())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let removed = self.0.lock().remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        let prefix = format!("{path}/");
        self.0.lock().retain(|name, _| !name.starts_with(&prefix));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock();
        let content = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), content);
        Ok(())
    }

    fn sync_directory(&self, _directory: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn used_bytes(&self, _directory: &str) -> io::Result<u64> {
        Ok(0)
    }

    fn root(&self) -> &Path {
        Path::new("in-memory")
    }
}

impl DiskFile for MemoryFile {
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let content = self.0.lock();
        let found = content.get(from..from.saturating_add(bytes.len()));
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        let mut content = self.0.lock();
        let content = Arc::make_mut(&mut content);
        if content.len() < from + bytes.len() {
            content.resize(from + bytes.len(), 0);
        }
        content[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        let mut content = self.0.lock();
        Arc::make_mut(&mut content).truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
