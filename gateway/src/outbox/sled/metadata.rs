//! A look at sled's metadata log before sled reads it.
//!
//! sled reads a log up to the first frame that is not intact and takes the rest for a torn end (alpha.124,
//! `metadata_store::read_log`). Behind damage in the middle its state is then older than the slots it points to, and
//! its search for a leaf can go round for ever. Here: only the last frame of the last log may be broken, which is
//! what a crash leaves; whether it was acknowledged the mark tells.
//!
//! ```text
//! frame:  length (6, little-endian) | CRC of it (2) | payload | CRC over all before, XOR 0xaf (4, little-endian)
//! ```

use crate::outbox::disk::Disk;
use crc_fast::{CrcAlgorithm, checksum};
use std::io;

const LOG: &str = "log_";
const SNAPSHOT: &str = "snapshot_";
const FRAME_HEADER_BYTES: usize = 8;
const FRAME_TRAILER_BYTES: usize = 4;

/// Checks the metadata logs below `directory`.
///
/// # Errors
/// Says which file is damaged and where.
pub(super) fn check(disk: &dyn Disk, directory: &str) -> Result<(), String> {
    let directory = format!("{directory}/metadata");
    let names = names(disk, &directory)?;
    let logs: Vec<&String> = names.iter().filter(|name| name.starts_with(LOG)).collect();
    for (at, name) in logs.iter().enumerate() {
        let path = format!("{directory}/{name}");
        let bytes = read(disk, &path).map_err(|error| format!("read {path}: {error}"))?;
        let end = intact(&bytes);
        let is_last = at + 1 == logs.len();
        if end < bytes.len() && !(is_last && is_torn_end(&bytes[end..])) {
            return Err(format!("{path} is damaged at byte {end}"));
        }
    }
    Ok(())
}

/// Keeps sled from removing its own newest snapshot. When it finds no log behind a snapshot it writes the next one
/// under the same name, and then removes what it takes for the old one (alpha.124, `read_snapshot_and_apply_logs`).
/// A power cut leaves such a store: sled makes a log at each open and syncs its name with the first flush only. An
/// empty log behind the snapshot is enough.
///
/// # Errors
/// Says what could not be written.
pub(super) fn keep_snapshot(disk: &dyn Disk, directory: &str) -> Result<(), String> {
    let directory = format!("{directory}/metadata");
    let names = names(disk, &directory)?;
    let newest = |kind: &str| names.iter().filter_map(|name| number(name, kind)).max();
    let Some(snapshot) = newest(SNAPSHOT) else {
        return Ok(());
    };
    if newest(LOG).is_some_and(|log| log > snapshot) {
        return Ok(());
    }
    let path = format!("{directory}/{LOG}{:016x}", snapshot + 1);
    disk.create(&path)
        .and_then(|log| log.sync())
        .and_then(|()| disk.sync_directory(&directory))
        .map_err(|error| format!("make {path}: {error}"))
}

/// The names in a directory; none when it is not there, as in a store that is only being made.
fn names(disk: &dyn Disk, directory: &str) -> Result<Vec<String>, String> {
    match disk.list(directory) {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("list {directory}: {error}")),
    }
}

/// The number in a file's name. Snapshots that were not finished have none.
fn number(name: &str, kind: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix(kind)?, 16).ok()
}

fn read(disk: &dyn Disk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// How far the frames are intact.
fn intact(bytes: &[u8]) -> usize {
    let mut end = 0;
    while let Some(length) = frame(&bytes[end..]) {
        end += length;
    }
    end
}

/// The length of the frame at the begin of `bytes`, if it is intact.
fn frame(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..FRAME_HEADER_BYTES)?;
    let crc = u16::from_le_bytes([header[6], header[7]]);
    if u64::from(crc) != checksum(CrcAlgorithm::Crc32IsoHdlc, &header[..6]) & 0xffff {
        return None;
    }
    let mut length = [0; 8];
    length[..6].copy_from_slice(&header[..6]);
    let end = usize::try_from(u64::from_le_bytes(length))
        .ok()?
        .checked_add(FRAME_HEADER_BYTES)?;
    let whole = bytes.get(..end.checked_add(FRAME_TRAILER_BYTES)?)?;
    let (covered, stored) = whole.split_at(end);
    let computed = checksum(CrcAlgorithm::Crc32IsoHdlc, covered) ^ 0xaf;
    (stored == &computed.to_le_bytes()[..FRAME_TRAILER_BYTES]).then_some(whole.len())
}

/// Whether no intact frame begins behind the broken one.
fn is_torn_end(rest: &[u8]) -> bool {
    (1..rest.len()).all(|at| frame(&rest[at..]).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::disk::RealDisk;

    /// A power cut between an open and the first flush takes the name of the new log.
    #[test]
    fn a_snapshot_whose_log_was_lost_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(place.path());
        let open = || super::super::open_tree(&place.path().join("gen-1")).unwrap();
        let tree = open();
        tree.insert(b"key", b"value").unwrap();
        tree.flush().unwrap();
        drop(tree);
        for _ in 0..3 {
            drop(open());
            for log in names(&disk, "gen-1/metadata").unwrap() {
                if log.starts_with(LOG) {
                    disk.remove(&format!("gen-1/metadata/{log}")).unwrap();
                }
            }
            keep_snapshot(&disk, "gen-1").unwrap();
        }
        assert_eq!(open().get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    }

    /// Ties this page to the sled that is built in: its own files are intact, and each changed byte of a log shows
    /// unless it lies in the last frame.
    #[test]
    fn reads_what_sled_writes() {
        let place = tempfile::tempdir().unwrap();
        let tree = super::super::open_tree(&place.path().join("gen-1")).unwrap();
        for number in 0..5u8 {
            tree.insert([number], vec![number; 100]).unwrap();
            tree.flush().unwrap();
        }
        let disk = RealDisk::new(place.path());
        assert_eq!(check(&disk, "gen-1"), Ok(()));
        let names = disk.list("gen-1/metadata").unwrap();
        let log = names.iter().rfind(|name| name.starts_with("log_")).unwrap();
        let path = place.path().join("gen-1/metadata").join(log);
        let good = std::fs::read(&path).unwrap();
        assert_eq!(intact(&good), good.len());
        let mut last = 0;
        while let Some(length) = frame(&good[last..]).filter(|length| last + length < good.len()) {
            last += length;
        }
        assert!(last > 0, "one frame only");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            std::fs::write(&path, bad).unwrap();
            assert_eq!(
                check(&disk, "gen-1").is_err(),
                at < last,
                "byte {at}, last frame at {last}"
            );
        }
    }
}
