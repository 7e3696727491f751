//! What a disk holds, and what of it would be there after a power cut.
//!
//! Nothing here is a file system yet: no kernel, no clock, no threads. Nodes are named by numbers, the root is
//! [`ROOT`].

use crate::dice::Dice;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// The number of the root directory.
pub(super) const ROOT: u64 = 1;

/// What a medium writes whole or not at all. Page caches hand out pages of this size.
const BLOCK_BYTES: u64 = 4096;

/// What becomes of the acts that were not synced when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// None: the strictest reading of what fsync promises.
    Synced,
    /// All up to a random one, in the order they were done; the last write is torn at a random byte.
    Prefix,
    /// Each name and each block of each write by the toss of a coin.
    Some,
}

/// The medium. Acts are done to the live state; what was synced of it is kept apart.
pub(super) struct Medium {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    /// Acts so far, syncs included.
    acts: u64,
}

enum Node {
    File(Kept<Vec<u8>, FileAct>),
    Directory(Kept<Names, NameAct>),
}

type Names = BTreeMap<OsString, u64>;

/// A thing as it is, as it was when it was synced, and what was done to it since, each with its number.
struct Kept<T, A> {
    live: T,
    synced: T,
    since: Vec<(u64, A)>,
}

enum FileAct {
    Write { offset: u64, bytes: Vec<u8> },
    Resize { length: u64 },
}

enum NameAct {
    Set {
        name: OsString,
        node: u64,
    },
    Unset {
        name: OsString,
    },
    /// One act on the medium: a journal keeps both names of a rename together.
    Rename {
        from: OsString,
        to: OsString,
        node: u64,
    },
}

/// What [`Medium`] tells of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File { length: u64 },
    Directory,
}

/// What was asked for, or what is wrong.
pub(super) type Found<T> = Result<T, Errno>;

impl Medium {
    pub(super) fn new() -> Medium {
        Medium {
            nodes: BTreeMap::from([(ROOT, Node::Directory(Kept::restored(Default::default())))]),
            next_node: ROOT + 1,
            acts: 0,
        }
    }

    pub(super) fn kind(&self, node: u64) -> Found<Kind> {
        match self.nodes.get(&node).ok_or(Errno::NOENT)? {
            Node::File(file) => Ok(Kind::File {
                length: file.live.len() as u64,
            }),
            Node::Directory(_) => Ok(Kind::Directory),
        }
    }

    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Found<u64> {
        let names = &self.directory(directory)?.live;
        names.get(name).copied().ok_or(Errno::NOENT)
    }

    /// The names in a directory with their nodes, in the order of the nodes.
    pub(super) fn list(&self, directory: u64) -> Found<Vec<(u64, OsString)>> {
        let names = &self.directory(directory)?.live;
        let mut listed: Vec<_> = names.iter().map(|(name, node)| (*node, name.clone())).collect();
        listed.sort();
        Ok(listed)
    }

    /// At most `length` bytes of a file.
    pub(super) fn read(&self, node: u64, offset: u64, length: u32) -> Found<&[u8]> {
        let content = &self.file(node)?.live;
        let begin = index(offset).min(content.len());
        let end = begin.saturating_add(length as usize).min(content.len());
        Ok(&content[begin..end])
    }

    pub(super) fn bytes(&self) -> u64 {
        let of = |node: &Node| match node {
            Node::File(file) => file.live.len() as u64,
            Node::Directory(_) => 0,
        };
        self.nodes.values().map(of).sum()
    }

    fn file(&self, node: u64) -> Found<&Kept<Vec<u8>, FileAct>> {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(Errno::ISDIR),
            None => Err(Errno::NOENT),
        }
    }

    fn directory(&self, node: u64) -> Found<&Kept<Names, NameAct>> {
        match self.nodes.get(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(Errno::NOTDIR),
            None => Err(Errno::NOENT),
        }
    }
}

/// Acts.
impl Medium {
    pub(super) fn create(&mut self, directory: u64, name: &OsStr) -> Found<u64> {
        self.add(directory, name, Node::File(Kept::restored(Default::default())))
    }

    pub(super) fn make_directory(&mut self, directory: u64, name: &OsStr) -> Found<u64> {
        self.add(
            directory,
            name,
            Node::Directory(Kept::restored(Default::default())),
        )
    }

    fn add(&mut self, directory: u64, name: &OsStr, new: Node) -> Found<u64> {
        if self.directory(directory)?.live.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let (name, node) = (name.to_owned(), self.next_node);
        self.next_node += 1;
        self.nodes.insert(node, new);
        self.name(directory, NameAct::Set { name, node })?;
        Ok(node)
    }

    /// Takes a name away. The node stays until the power goes: it may be open, or be named on the medium still.
    pub(super) fn remove(&mut self, directory: u64, name: &OsStr) -> Found<()> {
        let node = self.find(directory, name)?;
        if self.directory(node).is_ok_and(|gone| !gone.live.is_empty()) {
            return Err(Errno::NOTEMPTY);
        }
        let name = name.to_owned();
        self.name(directory, NameAct::Unset { name })
    }

    /// Gives a node another name in the same directory.
    pub(super) fn rename(&mut self, directory: u64, from: &OsStr, to: &OsStr) -> Found<()> {
        let node = self.find(directory, from)?;
        let (from, to) = (from.to_owned(), to.to_owned());
        self.name(directory, NameAct::Rename { from, to, node })
    }

    pub(super) fn write(&mut self, node: u64, offset: u64, bytes: &[u8]) -> Found<()> {
        let bytes = bytes.to_vec();
        self.change(node, FileAct::Write { offset, bytes })
    }

    pub(super) fn resize(&mut self, node: u64, length: u64) -> Found<()> {
        self.change(node, FileAct::Resize { length })
    }

    /// What fsync does: content and length of a file, or the names in a directory, are on the medium now. Nothing
    /// else is: not a new file's own name.
    pub(super) fn sync(&mut self, node: u64) -> Found<()> {
        self.acts += 1;
        match self.nodes.get_mut(&node).ok_or(Errno::NOENT)? {
            Node::File(file) => {
                for (_, act) in file.since.drain(..) {
                    act.apply(&mut file.synced);
                }
            }
            Node::Directory(directory) => {
                for (_, act) in directory.since.drain(..) {
                    act.apply(&mut directory.synced);
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, directory: u64, act: NameAct) -> Found<()> {
        self.acts += 1;
        match self.nodes.get_mut(&directory) {
            Some(Node::Directory(kept)) => {
                act.apply(&mut kept.live);
                kept.since.push((self.acts, act));
                Ok(())
            }
            Some(Node::File(_)) => Err(Errno::NOTDIR),
            None => Err(Errno::NOENT),
        }
    }

    fn change(&mut self, node: u64, act: FileAct) -> Found<()> {
        self.acts += 1;
        match self.nodes.get_mut(&node) {
            Some(Node::File(kept)) => {
                act.apply(&mut kept.live);
                kept.since.push((self.acts, act));
                Ok(())
            }
            Some(Node::Directory(_)) => Err(Errno::ISDIR),
            None => Err(Errno::NOENT),
        }
    }
}

/// The power cut.
impl Medium {
    /// What the medium holds when the power is back. All of it is synced then.
    pub(super) fn after_power_cut(self, survivors: Survivors, dice: &mut Dice) -> Medium {
        let chance = Chance::of(&self, survivors, dice);
        let mut nodes = BTreeMap::new();
        for (number, node) in self.nodes {
            let left = match node {
                Node::File(kept) => Node::File(Kept::restored(file_left(kept, &chance, dice))),
                Node::Directory(kept) => Node::Directory(Kept::restored(names_left(kept, &chance, dice))),
            };
            nodes.insert(number, left);
        }
        let mut after = Medium {
            nodes,
            next_node: self.next_node,
            acts: self.acts,
        };
        after.drop_unreachable();
        after
    }

    fn drop_unreachable(&mut self) {
        let (mut reached, mut ahead) = (BTreeSet::new(), vec![ROOT]);
        while let Some(node) = ahead.pop() {
            if reached.insert(node)
                && let Ok(directory) = self.directory(node)
            {
                ahead.extend(directory.live.values());
            }
        }
        self.nodes.retain(|node, _| reached.contains(node));
    }

    /// The numbers of all acts that were not synced.
    fn unsynced(&self) -> Vec<u64> {
        let of = |node: &Node| -> Vec<u64> {
            match node {
                Node::File(kept) => kept.since.iter().map(|(number, _)| *number).collect(),
                Node::Directory(kept) => kept.since.iter().map(|(number, _)| *number).collect(),
            }
        };
        let mut numbers: Vec<u64> = self.nodes.values().flat_map(of).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// How the survivors are chosen.
enum Chance {
    Nothing,
    /// Everything before the act of this number, and a piece of this one.
    Before(u64),
    Coin,
}

impl Chance {
    fn of(medium: &Medium, survivors: Survivors, dice: &mut Dice) -> Chance {
        match survivors {
            Survivors::Synced => Chance::Nothing,
            Survivors::Prefix => {
                let unsynced = medium.unsynced();
                let end = dice.below(unsynced.len() as u64 + 1);
                Chance::Before(unsynced.get(index(end)).copied().unwrap_or(u64::MAX))
            }
            Survivors::Some => Chance::Coin,
        }
    }

    fn survives(&self, act: u64, dice: &mut Dice) -> bool {
        match self {
            Chance::Nothing => false,
            Chance::Before(end) => act < *end,
            Chance::Coin => dice.coin(),
        }
    }
}

fn names_left(kept: Kept<Names, NameAct>, chance: &Chance, dice: &mut Dice) -> Names {
    let mut names = kept.synced;
    for (number, act) in kept.since {
        if chance.survives(number, dice) {
            act.apply(&mut names);
        }
    }
    names
}

fn file_left(kept: Kept<Vec<u8>, FileAct>, chance: &Chance, dice: &mut Dice) -> Vec<u8> {
    let mut content = kept.synced;
    for (number, act) in kept.since {
        match act {
            FileAct::Write { offset, bytes } if matches!(chance, Chance::Coin) => {
                for (offset, block) in blocks(offset, &bytes) {
                    if dice.coin() {
                        write(&mut content, offset, block);
                    }
                }
            }
            FileAct::Write { offset, bytes } if matches!(chance, Chance::Before(end) if *end == number) => {
                let torn = index(dice.below(bytes.len() as u64));
                write(&mut content, offset, &bytes[..torn]);
            }
            act if chance.survives(number, dice) => act.apply(&mut content),
            _ => {}
        }
    }
    content
}

/// Cuts a write at the borders of blocks.
fn blocks(offset: u64, bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let (mut at, mut rest, mut cut) = (offset, bytes, Vec::new());
    while !rest.is_empty() {
        let room = index(BLOCK_BYTES - at % BLOCK_BYTES).min(rest.len());
        let (block, behind) = rest.split_at(room);
        cut.push((at, block));
        (at, rest) = (at + room as u64, behind);
    }
    cut
}

impl<T: Clone, A> Kept<T, A> {
    fn restored(content: T) -> Kept<T, A> {
        Kept {
            live: content.clone(),
            synced: content,
            since: Vec::new(),
        }
    }
}

impl FileAct {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            FileAct::Write { offset, bytes } => write(content, *offset, bytes),
            FileAct::Resize { length } => content.resize(index(*length), 0),
        }
    }
}

impl NameAct {
    fn apply(&self, names: &mut Names) {
        match self {
            NameAct::Set { name, node } => {
                names.insert(name.clone(), *node);
            }
            NameAct::Unset { name } => {
                names.remove(name);
            }
            NameAct::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let begin = index(offset);
    let end = begin + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[begin..end].copy_from_slice(bytes);
}

/// A place in memory. The kernel does not ask for more than fits.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(medium: Medium, survivors: Survivors, seed: u64) -> Medium {
        medium.after_power_cut(survivors, &mut Dice(seed))
    }

    fn names(medium: &Medium) -> Vec<String> {
        let listed = medium.list(ROOT).unwrap();
        listed
            .into_iter()
            .map(|(_, name)| name.into_string().unwrap())
            .collect()
    }

    fn content(medium: &Medium, name: &str) -> Vec<u8> {
        let node = medium.find(ROOT, name.as_ref()).unwrap();
        medium.read(node, 0, u32::MAX).unwrap().to_vec()
    }

    /// A file of 10,000 bytes and its name, both synced.
    fn one_file() -> (Medium, u64) {
        let mut medium = Medium::new();
        let file = medium.create(ROOT, "file".as_ref()).unwrap();
        medium.write(file, 0, &[1; 10_000]).unwrap();
        medium.sync(file).unwrap();
        medium.sync(ROOT).unwrap();
        (medium, file)
    }

    #[test]
    fn a_synced_file_needs_a_synced_name() {
        let mut medium = Medium::new();
        let file = medium.create(ROOT, "file".as_ref()).unwrap();
        medium.write(file, 0, b"content").unwrap();
        medium.sync(file).unwrap();
        assert_eq!(names(&after(medium, Survivors::Synced, 0)), [""; 0]);
    }

    #[test]
    fn a_synced_name_does_not_sync_the_file() {
        let mut medium = Medium::new();
        let file = medium.create(ROOT, "file".as_ref()).unwrap();
        medium.write(file, 0, b"content").unwrap();
        medium.sync(ROOT).unwrap();
        let medium = after(medium, Survivors::Synced, 0);
        assert_eq!(names(&medium), ["file"]);
        assert_eq!(content(&medium, "file"), b"");
    }

    #[test]
    fn what_was_not_synced_is_gone_and_what_was_is_there() {
        let (mut medium, file) = one_file();
        medium.write(file, 5_000, &[2; 10_000]).unwrap();
        medium.resize(file, 3).unwrap();
        medium.rename(ROOT, "file".as_ref(), "other".as_ref()).unwrap();
        medium.create(ROOT, "new".as_ref()).unwrap();
        assert_eq!(content(&medium, "other"), [1; 3]);
        let medium = after(medium, Survivors::Synced, 0);
        assert_eq!(names(&medium), ["file"]);
        assert_eq!(content(&medium, "file"), [1; 10_000]);
    }

    #[test]
    fn a_removed_file_is_back_when_its_directory_was_not_synced() {
        let (mut medium, _) = one_file();
        medium.remove(ROOT, "file".as_ref()).unwrap();
        assert_eq!(names(&medium), [""; 0]);
        assert_eq!(content(&after(medium, Survivors::Synced, 0), "file"), [1; 10_000]);
    }

    #[test]
    fn a_prefix_keeps_the_order_and_tears_the_last_write() {
        let mut torn = 0;
        for seed in 0..200 {
            let (mut medium, file) = one_file();
            medium.write(file, 0, &[2; 10_000]).unwrap();
            medium.rename(ROOT, "file".as_ref(), "other".as_ref()).unwrap();
            medium.write(file, 0, &[3; 10_000]).unwrap();
            let medium = after(medium, Survivors::Prefix, seed);
            let name = names(&medium).pop().unwrap();
            let content = content(&medium, &name);
            assert_eq!(content.len(), 10_000);
            let has = |byte| content.contains(&byte);
            assert!(
                name == "other" || !has(3),
                "seed {seed}: a later act without an earlier one"
            );
            assert!(
                name == "file" || !has(1),
                "seed {seed}: an earlier act is missing"
            );
            torn += u32::from(has(1) && has(2) || has(2) && has(3));
        }
        assert!(torn > 20, "{torn}");
    }

    #[test]
    fn some_survive_block_by_block_and_name_by_name() {
        let (mut mixed, mut renamed) = (0, 0);
        for seed in 0..200 {
            let (mut medium, file) = one_file();
            medium.write(file, 0, &[2; 10_000]).unwrap();
            medium.create(ROOT, "new".as_ref()).unwrap();
            let medium = after(medium, Survivors::Some, seed);
            let content = content(&medium, "file");
            for block in content.chunks(4096) {
                assert!(
                    block.iter().all(|byte| *byte == block[0]),
                    "a block is whole or not there"
                );
            }
            mixed += u32::from(content.contains(&1) && content.contains(&2));
            renamed += u32::from(names(&medium).len() == 2);
        }
        assert!(mixed > 100 && (50..150).contains(&renamed), "{mixed}, {renamed}");
    }

    #[test]
    fn the_same_seed_leaves_the_same() {
        let left = |seed| {
            let (mut medium, file) = one_file();
            medium.write(file, 0, &[2; 60_000]).unwrap();
            content(&after(medium, Survivors::Some, seed), "file")
        };
        assert_eq!(left(7), left(7));
        assert_ne!(left(7), left(8));
    }

    #[test]
    fn a_directory_that_is_lost_takes_along_what_is_in_it() {
        let mut medium = Medium::new();
        let directory = medium.make_directory(ROOT, "directory".as_ref()).unwrap();
        let file = medium.create(directory, "file".as_ref()).unwrap();
        medium.write(file, 0, b"content").unwrap();
        medium.sync(file).unwrap();
        medium.sync(directory).unwrap();
        assert_eq!(medium.remove(ROOT, "directory".as_ref()), Err(Errno::NOTEMPTY));
        let medium = after(medium, Survivors::Synced, 0);
        assert_eq!(names(&medium), [""; 0]);
        assert_eq!(medium.bytes(), 0);
    }
}
