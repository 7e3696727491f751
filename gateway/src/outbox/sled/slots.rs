//! A look at sled's leaves before sled reads them.
//!
//! sled reads a leaf when a key in it is asked for. One that does not begin where the metadata says, or that ends before
//! the next begins, it looks for again and again, for ever; of one that is damaged it names neither file nor place
//! (alpha.124, `Tree::page_in`, `Tree::leaf_for_key`, `Slab::read`). Here each is read once, in the order of keys.
//!
//! ```text
//! slot:  zstd of the leaf | zeros | length of the first (1, 2, 4 or 8) | CRC over all before, XOR 0xaf (4)
//! leaf:  low key | 1, next low key, or 0 | bytes of its low key that its keys leave out (8) | entries (8) | entry …
//! key and value, low keys too:  length (8) | bytes                     (all numbers little-endian)
//! durability_cookie:  version (2) | fanout (8) | zeros (50) | CRC over all before, XOR 0xaf (4)
//! ```

use super::metadata::{self, Object, Objects};
use crate::outbox::disk::Disk;
use crate::outbox::salvage::Damage;
use crc_fast::{CrcAlgorithm, checksum};
use std::collections::BTreeSet;
use std::io::Read as _;

/// sled's own tree of names, and the one that all is stored in (alpha.124, `lib.rs`).
const OURS: u64 = 1;

/// What a leaf may unpack to: as many of the largest values as it has places, with room to spare.
const LEAF_BYTES_MAX: u64 = 1 << 30;

/// A leaf that was read.
pub(super) struct Leaf {
    low_key: Vec<u8>,
    next: Option<Vec<u8>>,
    pub(super) entries: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Checks that sled will find every leaf, and come to an end.
///
/// # Errors
/// Says which file is damaged and where.
pub(super) fn check(disk: &dyn Disk, directory: &str) -> Result<(), String> {
    let objects = metadata::read(disk, directory)?;
    check_cookie(disk, directory)?;
    let mut first = None;
    visit(disk, directory, &objects, |leaf| {
        if let Err(damage) = leaf {
            first.get_or_insert(damage);
        }
    });
    first.map_or(Ok(()), |damage| Err(damage.to_string()))
}

/// Checks the file that holds sled's own settings. One that is not there is made anew: it always says the same.
///
/// # Errors
/// Says that it is damaged.
pub(super) fn check_cookie(disk: &dyn Disk, directory: &str) -> Result<(), String> {
    let path = format!("{directory}/durability_cookie");
    let Ok(file) = disk.open(&path) else {
        return Ok(());
    };
    let mut bytes = [0; 64];
    let read = file.read_exact_at(&mut bytes, 0);
    let (covered, crc) = bytes.split_at(60);
    let computed = checksum(CrcAlgorithm::Crc32IsoHdlc, covered) ^ 0xaf;
    if read.is_err() || crc != &computed.to_le_bytes()[..4] {
        return Err(format!("{path} is damaged"));
    }
    Ok(())
}

/// Reads every leaf, tree by tree in the order of keys, and shows it; where one is damaged, or keys are in none, that.
pub(super) fn visit(
    disk: &dyn Disk,
    directory: &str,
    objects: &Objects,
    mut show: impl FnMut(Result<(&Object, Leaf), Damage>),
) {
    let mut sorted: Vec<&Object> = objects.values().collect();
    sorted.sort_by(|a, b| (a.collection, &a.low_key).cmp(&(b.collection, &b.low_key)));
    let mut taken = BTreeSet::new();
    for (at, object) in sorted.iter().enumerate() {
        let following = sorted
            .get(at + 1)
            .filter(|next| next.collection == object.collection);
        let wrong = |what: &str| Damage {
            file: path(directory, object),
            byte: offset(object),
            what: what.into(),
        };
        let is_first = at == 0 || sorted[at - 1].collection != object.collection;
        if is_first && !object.low_key.is_empty() {
            show(Err(wrong("the leaf before this one is missing")));
        }
        if !taken.insert((object.slab, object.slot)) {
            show(Err(wrong("two leaves are said to lie here")));
            continue;
        }
        let leaf = match leaf(disk, directory, object) {
            Ok(leaf) if leaf.low_key == object.low_key => leaf,
            Ok(_) => {
                show(Err(wrong("another leaf stands here")));
                continue;
            }
            Err(what) => {
                show(Err(wrong(&what)));
                continue;
            }
        };
        // Behind this leaf's end, and before the next one's begin, sled would search for ever.
        let is_behind = |next: &Vec<u8>| following.is_none_or(|following| *next < following.low_key);
        if leaf.next.as_ref().is_some_and(is_behind) {
            show(Err(wrong("the leaf behind this one is missing")));
        }
        show(Ok((object, leaf)));
    }
    if !objects.is_empty() && sorted.iter().all(|object| object.collection != OURS) {
        show(Err(Damage {
            file: format!("{directory}/metadata"),
            byte: 0,
            what: "it names no leaf".into(),
        }));
    }
}

/// Whether the entries of this leaf are ours.
pub(super) fn is_ours(object: &Object) -> bool {
    object.collection == OURS
}

/// Reads one leaf.
///
/// # Errors
/// What is wrong with it.
pub(super) fn leaf(disk: &dyn Disk, directory: &str, object: &Object) -> Result<Leaf, String> {
    let size = size(object.slab).ok_or("the metadata names no file that sled has")?;
    let length = usize::try_from(size).map_err(|_| "it is too large")?;
    let file = disk
        .open(&path(directory, object))
        .map_err(|error| error.to_string())?;
    let offset = object.slot.checked_mul(size).ok_or("it lies behind every end")?;
    if file.length().map_err(|error| error.to_string())? < offset.saturating_add(size) {
        return Err("file is cut off".into());
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)
        .map_err(|error| error.to_string())?;
    unpack(&bytes).and_then(|bytes| parse(&bytes).ok_or_else(|| "what it unpacks to is no leaf".into()))
}

/// The file that a leaf lies in, below the outbox's directory.
pub(super) fn path(directory: &str, object: &Object) -> String {
    let size = size(object.slab).unwrap_or(0);
    format!("{directory}/slabs/{size}")
}

/// Where in its file a leaf lies.
pub(super) fn offset(object: &Object) -> u64 {
    object.slot.saturating_mul(size(object.slab).unwrap_or(0))
}

/// Bytes of a slot in the slab of this number (alpha.124, `heap.rs`, `SLAB_SIZES`).
fn size(slab: u8) -> Option<u64> {
    let number = u64::from(slab);
    Some(match slab {
        0..40 => (4 + number % 4) << (4 + number / 4),
        40 => 1 << 16,
        41 => 3 << 15,
        42 => 1 << 17,
        43 => 5 << 15,
        44 => 3 << 16,
        45..78 => (2 + (number - 45) % 2) << (17 + (number - 45) / 2),
        _ => return None,
    })
}

/// Takes the leaf out of its slot.
fn unpack(slot: &[u8]) -> Result<Vec<u8>, String> {
    let (covered, crc) = slot
        .split_at_checked(slot.len().wrapping_sub(4))
        .ok_or("it is too short")?;
    let computed = checksum(CrcAlgorithm::Crc32IsoHdlc, covered) ^ 0xaf;
    if crc != &computed.to_le_bytes()[..4] {
        return Err("its checksum is not that of its bytes".into());
    }
    let width = match slot.len() {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    let (space, length) = covered.split_at(covered.len().saturating_sub(width));
    let mut word = [0; 8];
    word[..length.len()].copy_from_slice(length);
    let length = usize::try_from(u64::from_le_bytes(word)).unwrap_or(usize::MAX);
    let packed = space.get(..length).ok_or("its length is beyond its slot")?;
    let mut leaf = Vec::new();
    zstd::stream::read::Decoder::new(packed)
        .and_then(|decoder| decoder.take(LEAF_BYTES_MAX).read_to_end(&mut leaf))
        .map_err(|error| error.to_string())?;
    Ok(leaf)
}

fn parse(mut rest: &[u8]) -> Option<Leaf> {
    let low_key = bytes(&mut rest)?.to_vec();
    let next = match rest.split_off_first()? {
        0 => None,
        _ => Some(bytes(&mut rest)?.to_vec()),
    };
    let prefix = low_key.get(..usize::try_from(word(&mut rest)?).ok()?)?;
    let count = word(&mut rest)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let key = [prefix, bytes(&mut rest)?].concat();
        entries.push((key, bytes(&mut rest)?.to_vec()));
    }
    Some(Leaf {
        low_key,
        next,
        entries,
    })
}

fn word(rest: &mut &[u8]) -> Option<u64> {
    let (word, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*word))
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(word(rest)?).ok()?;
    rest.split_off(..length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::disk::RealDisk;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// A store with leaves in several files, written over and merged; returns what is in it.
    fn store(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let tree = super::super::open_tree(&path.join("gen-1")).unwrap();
        let mut kept = BTreeMap::new();
        for number in 0..400u32 {
            let key = [&b"f"[..], &number.to_be_bytes()].concat();
            let value = vec![u8::try_from(number % 251).unwrap(); 20 + (number as usize * 37) % 900];
            tree.insert(&key, &*value).unwrap();
            kept.insert(key, value);
            if number % 50 == 0 {
                tree.flush().unwrap();
            }
        }
        for number in 0..250u32 {
            let key = [&b"f"[..], &number.to_be_bytes()].concat();
            tree.remove(&key).unwrap();
            kept.remove(&key);
        }
        tree.flush().unwrap();
        kept
    }

    /// Ties this page to the sled that is built in: what it wrote is read here, all of it and nothing else.
    #[test]
    fn reads_what_sled_writes() {
        let place = tempfile::tempdir().unwrap();
        let kept = store(place.path());
        let disk = RealDisk::new(place.path());
        assert_eq!(check(&disk, "gen-1"), Ok(()));
        let mut found = BTreeMap::new();
        let objects = metadata::read(&disk, "gen-1").unwrap();
        visit(&disk, "gen-1", &objects, |leaf| {
            let (object, leaf) = leaf.unwrap_or_else(|damage| panic!("{damage}"));
            if is_ours(object) {
                found.extend(leaf.entries);
            }
        });
        assert_eq!(found, kept);
    }

    #[test]
    fn names_file_and_place_of_a_damaged_leaf() {
        let place = tempfile::tempdir().unwrap();
        store(place.path());
        let disk = RealDisk::new(place.path());
        let objects = metadata::read(&disk, "gen-1").unwrap();
        for object in objects.values() {
            let path = path("gen-1", object);
            let offset = object.slot * size(object.slab).unwrap();
            let good = std::fs::read(place.path().join(&path)).unwrap();
            let mut bad = good.clone();
            bad[usize::try_from(offset).unwrap() + 7] ^= 1;
            std::fs::write(place.path().join(&path), bad).unwrap();
            let why = check(&disk, "gen-1").unwrap_err();
            assert!(why.starts_with(&format!("{path} at byte {offset}: ")), "{why}");
            std::fs::write(place.path().join(&path), good).unwrap();
        }
    }

    /// sled would look for the keys of the missing leaf for ever.
    #[test]
    fn a_leaf_that_the_metadata_lost_is_missed() {
        let place = tempfile::tempdir().unwrap();
        store(place.path());
        let disk = RealDisk::new(place.path());
        let whole = metadata::read(&disk, "gen-1").unwrap();
        let ours: Vec<u64> = whole
            .iter()
            .filter(|(_, object)| is_ours(object))
            .map(|(id, _)| *id)
            .collect();
        assert!(ours.len() > 3);
        for id in &ours {
            let mut objects = whole.clone();
            objects.remove(id);
            let mut missed = 0;
            visit(&disk, "gen-1", &objects, |leaf| {
                missed += u32::from(leaf.is_err());
            });
            assert_eq!(missed, 1, "without leaf {id}");
        }
    }
}
