//! A look at sled's metadata log before sled reads it.
//!
//! sled reads a log up to the first frame that is not intact and takes the rest for a torn end (alpha.124,
//! `metadata_store::read_log`). Behind damage in the middle its state is then older than the slots it points to, and
//! its search for a leaf can go round for ever. Here: only the last frame of the last log may be broken, which is
//! what a crash leaves; whether it was acknowledged the mark tells.
//!
//! ```text
//! frame:    length (6, little-endian) | CRC of it (2) | payload | CRC over all before, XOR 0xaf (4, little-endian)
//! payload:  zstd of: object (8) | collection (8) | slab + 1 (1) slot (7), or 0 when it is gone | length (8) | low key …
//! ```
//!
//! A snapshot is one frame, a log any number of them; numbers in payloads are little-endian, but for slab and slot.

use crate::outbox::disk::Disk;
use crc_fast::{CrcAlgorithm, checksum};
use std::collections::BTreeMap;
use std::io::{self, Read as _};

const LOG: &str = "log_";
const SNAPSHOT: &str = "snapshot_";
const FRAME_HEADER_BYTES: usize = 8;
const FRAME_TRAILER_BYTES: usize = 4;

/// One frame says where some thousand leaves lie; far above what a store of the largest quota needs.
const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

/// A leaf, as the metadata knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) collection: u64,
    pub(super) low_key: Vec<u8>,
    /// Which file it lies in, by its number.
    pub(super) slab: u8,
    pub(super) slot: u64,
}

/// Every leaf by its number.
pub(super) type Objects = BTreeMap<u64, Object>;

/// Reads the metadata below `directory` as sled does, and says which leaves there are.
///
/// # Errors
/// Says which file is damaged and where.
pub(super) fn read(disk: &dyn Disk, directory: &str) -> Result<Objects, String> {
    let (objects, damage) = read_whole(disk, directory)?;
    damage.map_or(Ok(objects), Err)
}

/// As [`read`]; where there is damage, with what was read before and behind it.
///
/// # Errors
/// When the directory cannot be read at all.
pub(super) fn read_whole(disk: &dyn Disk, directory: &str) -> Result<(Objects, Option<String>), String> {
    let directory = format!("{directory}/metadata");
    let names = names(disk, &directory)?;
    let (mut objects, mut damage) = (Objects::new(), None);
    let mut found = |what: String| {
        damage.get_or_insert(what);
    };
    let newest = names.iter().filter_map(|name| number(name, SNAPSHOT)).max();
    if let Some(newest) = newest {
        let path = format!("{directory}/{SNAPSHOT}{newest:016x}");
        match content(disk, &path) {
            Ok(bytes) if frame(&bytes).is_none() => found(format!("{path} is damaged at byte 0")),
            Ok(bytes) => apply(&bytes, &mut objects).unwrap_or_else(|why| found(format!("{path}: {why}"))),
            Err(why) => found(why),
        }
    }
    let logs: Vec<&String> = names
        .iter()
        .filter(|name| number(name, LOG).is_some_and(|log| Some(log) > newest))
        .collect();
    if newest.is_none() && number_of(logs.first()).is_some_and(|first| first > 1) {
        found(format!("{directory}: the snapshot before {} is missing", logs[0]));
    }
    for (at, name) in logs.iter().enumerate() {
        let path = format!("{directory}/{name}");
        let before = if at == 0 {
            newest
        } else {
            number(logs[at - 1], LOG)
        };
        if before.is_some_and(|before| number(name, LOG) != Some(before + 1)) {
            found(format!("{directory}: the log before {name} is missing"));
        }
        let bytes = match content(disk, &path) {
            Ok(bytes) => bytes,
            Err(why) => {
                found(why);
                continue;
            }
        };
        let mut end = 0;
        while let Some(length) = frame(&bytes[end..]) {
            apply(&bytes[end..], &mut objects)
                .unwrap_or_else(|why| found(format!("{path} at byte {end}: {why}")));
            end += length;
        }
        let is_last = at + 1 == logs.len();
        if end < bytes.len() && !(is_last && is_torn_end(&bytes[end..])) {
            found(format!("{path} is damaged at byte {end}"));
        }
    }
    Ok((objects, damage))
}

fn number_of(name: Option<&&String>) -> Option<u64> {
    number(name?, LOG)
}

fn content(disk: &dyn Disk, path: &str) -> Result<Vec<u8>, String> {
    read_file(disk, path).map_err(|error| format!("read {path}: {error}"))
}

/// Takes in what the intact frame at the begin of `bytes` says.
fn apply(bytes: &[u8], objects: &mut Objects) -> Result<(), String> {
    let length = frame(bytes).ok_or("no frame stands here")?;
    let payload = &bytes[FRAME_HEADER_BYTES..length - FRAME_TRAILER_BYTES];
    let mut unpacked = Vec::new();
    zstd::stream::read::Decoder::new(payload)
        .and_then(|decoder| decoder.take(PAYLOAD_BYTES_MAX).read_to_end(&mut unpacked))
        .map_err(|error| error.to_string())?;
    let mut rest = &unpacked[..];
    while !rest.is_empty() {
        let mut take = |count: usize| rest.split_off(..count).ok_or("an entry is cut off");
        let mut word = || take(8).map(|bytes| bytes.try_into().unwrap_or([0; 8]));
        let object = u64::from_le_bytes(word()?);
        let collection = u64::from_le_bytes(word()?);
        let [slot @ .., slab] = word()?;
        let low_key_bytes = usize::try_from(u64::from_le_bytes(word()?)).unwrap_or(usize::MAX);
        let low_key = take(low_key_bytes)?.to_vec();
        let Some(slab) = slab.checked_sub(1) else {
            objects.remove(&object);
            continue;
        };
        let [a, b, c, d, e, f, g] = slot;
        let slot = u64::from_le_bytes([a, b, c, d, e, f, g, 0]);
        objects.insert(
            object,
            Object {
                collection,
                low_key,
                slab,
                slot,
            },
        );
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

fn read_file(disk: &dyn Disk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
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

    fn check(disk: &RealDisk) -> Result<(), String> {
        read(disk, "gen-1").map(|_| ())
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
        assert_eq!(check(&disk), Ok(()));
        let names = disk.list("gen-1/metadata").unwrap();
        let log = names.iter().rfind(|name| name.starts_with("log_")).unwrap();
        let path = place.path().join("gen-1/metadata").join(log);
        let good = std::fs::read(&path).unwrap();
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
                check(&disk).is_err(),
                at < last,
                "byte {at}, last frame at {last}"
            );
        }
    }
}
