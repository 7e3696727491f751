//! What is done to a store, and the list of all that is tried.

use super::mix;
use super::store::{Files, Stores};
use crate::outbox::EngineKind;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    /// Each byte twice: one bit of it, and all eight.
    Whole,
    /// Of a log, so many bytes; of sled, all but its leaves, and so many bytes of those.
    Sample(usize),
}

/// One thing that is done to a copy of the store. Files are known by their place in the sorted list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Flip {
        file: u32,
        at: u32,
        mask: u8,
    },
    Cut {
        file: u32,
        length: u32,
    },
    Remove {
        file: u32,
    },
    Exchange {
        one: u32,
        other: u32,
    },
    /// The file is that of an earlier copy; one that is not there now comes back.
    Older {
        copy: u32,
        file: u32,
    },
}

/// Lengths that each file is cut to.
const CUTS: u64 = 24;

impl Attempt {
    /// The name of its row.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Attempt::Flip { .. } => "flipped",
            Attempt::Cut { .. } => "cut short",
            Attempt::Remove { .. } => "removed",
            Attempt::Exchange { .. } => "exchanged",
            Attempt::Older { .. } => "older",
        }
    }

    /// The names of the files that it changes.
    pub(super) fn paths(self, stores: &Stores) -> Vec<String> {
        let now = |file: u32| stores.now.keys().nth(file as usize).cloned().unwrap_or_default();
        match self {
            Attempt::Flip { file, .. } | Attempt::Cut { file, .. } | Attempt::Remove { file } => {
                vec![now(file)]
            }
            Attempt::Exchange { one, other } => vec![now(one), now(other)],
            Attempt::Older { copy, file } => {
                vec![
                    stores.older[copy as usize]
                        .keys()
                        .nth(file as usize)
                        .unwrap()
                        .clone(),
                ]
            }
        }
    }

    /// For people.
    pub(super) fn show(self, stores: &Stores) -> String {
        let paths = self.paths(stores).join(" and ");
        match self {
            Attempt::Flip { at, mask, .. } => format!("{paths}: byte {at} flipped by {mask:#04x}"),
            Attempt::Cut { length, .. } => format!("{paths}: cut to {length}"),
            Attempt::Remove { .. } => format!("{paths}: removed"),
            Attempt::Exchange { .. } => format!("{paths}: exchanged"),
            Attempt::Older { copy, .. } => format!("{paths}: of the older copy {copy}"),
        }
    }

    /// The store as it is afterwards.
    pub(super) fn done_to(self, stores: &Stores) -> Files {
        let mut files = stores.now.clone();
        let paths = self.paths(stores);
        let path = &paths[0];
        match self {
            Attempt::Flip { at, mask, .. } => {
                let mut bytes = files[path].to_vec();
                bytes[at as usize] ^= mask;
                files.insert(path.clone(), Arc::new(bytes));
            }
            Attempt::Cut { length, .. } => {
                let bytes = files[path][..length as usize].to_vec();
                files.insert(path.clone(), Arc::new(bytes));
            }
            Attempt::Remove { .. } => drop(files.remove(path)),
            Attempt::Exchange { .. } => {
                let (one, other) = (files[path].clone(), files[&paths[1]].clone());
                files.insert(path.clone(), other);
                files.insert(paths[1].clone(), one);
            }
            Attempt::Older { copy, .. } => {
                files.insert(path.clone(), stores.older[copy as usize][path].clone());
            }
        }
        files
    }

    /// Whether the damage is still there in what the file holds now.
    pub(super) fn is_left(self, stores: &Stores, now: impl Fn(&str) -> Option<Vec<u8>>) -> bool {
        if let Attempt::Flip { at, mask, .. } = self {
            let path = &self.paths(stores)[0];
            let flipped = stores.now[path][at as usize] ^ mask;
            return now(path).is_some_and(|bytes| bytes.get(at as usize) == Some(&flipped));
        }
        let damaged = self.done_to(stores);
        self.paths(stores)
            .iter()
            .all(|path| now(path).as_ref() == damaged.get(path).map(|bytes| &**bytes))
    }
}

/// All that is tried, the same list in every process.
pub(super) fn attempts(stores: &Stores, engine: EngineKind, extent: Extent, seed: u64) -> Vec<Attempt> {
    let mut all = Vec::new();
    for (file, content) in (0..).zip(stores.now.values()) {
        all.push(Attempt::Remove { file });
        let length = content.len() as u64;
        let cuts: BTreeSet<u64> = (0..CUTS)
            .map(|number| if number == 0 { 0 } else { mix(seed ^ 3, number) })
            .filter(|_| length > 0)
            .map(|cut| cut % length)
            .collect();
        all.extend(cuts.into_iter().map(|length| Attempt::Cut {
            file,
            length: u32::try_from(length).unwrap(),
        }));
    }
    let numbered: Vec<(u32, &Arc<Vec<u8>>)> = (0..).zip(stores.now.values()).collect();
    for (at, (one, content)) in numbered.iter().enumerate() {
        let others = numbered[at + 1..].iter().filter(|(_, other)| other != content);
        all.extend(others.map(|(other, _)| Attempt::Exchange {
            one: *one,
            other: *other,
        }));
    }
    for (copy, files) in (0..).zip(&stores.older) {
        let older = (0..)
            .zip(files)
            .filter(|(_, (path, content))| stores.now.get(*path) != Some(content));
        all.extend(older.map(|(file, _)| Attempt::Older { copy, file }));
    }
    all.extend(flips(stores, engine, extent, seed));
    all
}

fn flips(stores: &Stores, engine: EngineKind, extent: Extent, seed: u64) -> Vec<Attempt> {
    let (mut certain, mut sampled) = (Vec::new(), Vec::new());
    for (file, (path, content)) in (0..).zip(&stores.now) {
        let is_leaves = engine == EngineKind::Sled && path.contains("/slabs/");
        let places = match extent {
            Extent::Sample(_) if engine == EngineKind::Log || is_leaves => &mut sampled,
            _ => &mut certain,
        };
        places.extend((0..content.len()).map(|at| (file, u32::try_from(at).unwrap())));
    }
    let wanted = match extent {
        Extent::Whole => 0,
        Extent::Sample(wanted) => wanted.min(sampled.len()),
    };
    if let Extent::Sample(count) = extent
        && count < 1_000
    {
        // The ordinary tests: no more of the metadata than of the leaves.
        let step = (certain.len() / count).max(1);
        certain = certain
            .into_iter()
            .skip(seed as usize % step)
            .step_by(step)
            .collect();
    }
    for number in 0..wanted {
        let from = sampled.len() - number;
        let chosen = usize::try_from(mix(seed, number as u64) % from as u64).unwrap();
        certain.push(sampled.swap_remove(chosen));
    }
    let one_bit = |number: u64| 1 << (mix(seed ^ 7, number) % 8);
    let numbered = || (0..).zip(&certain);
    let flip = |(file, at): (u32, u32), mask| Attempt::Flip { file, at, mask };
    match extent {
        Extent::Whole => {
            let once = numbered().map(|(number, place)| flip(*place, one_bit(number)));
            once.chain(certain.iter().map(|place| flip(*place, 0xff)))
                .collect()
        }
        Extent::Sample(_) => {
            let mask = |number: u64| {
                if number.is_multiple_of(2) {
                    one_bit(number)
                } else {
                    0xff
                }
            };
            numbered()
                .map(|(number, place)| flip(*place, mask(number)))
                .collect()
        }
    }
}
