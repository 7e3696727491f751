//! Random acts against a plain model, with crashes. A failure names its seed; the ranges below replay it.

use super::{append, at, frame, options};
use crate::outbox::{EngineKind, Error, Extent, Group, Lane, Options, Outbox};
use bytes::Bytes;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Opening sled runs `sync` and writes a good deal, so it gets fewer.
const LOG_SEEDS: Range<u64> = 0..12;
const SLED_SEEDS: Range<u64> = 100..104;
const ACTS: usize = 400;
const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

/// What the first of them may hold: twenty frames.
const QUOTA: u64 = 3_000;

#[test]
fn log_keeps_what_the_model_keeps() {
    LOG_SEEDS.for_each(|seed| run(EngineKind::Log, seed));
}

#[test]
fn sled_keeps_what_the_model_keeps() {
    SLED_SEEDS.for_each(|seed| run(EngineKind::Sled, seed));
}

/// A lane as asked for.
#[derive(Clone, Debug, Default, PartialEq)]
struct ModelLane {
    /// Every frame of this life, also those trimmed.
    frames: Vec<(u64, u64)>,
    begin: u64,
    tail: u64,
    fresh: bool,
    /// The base lies between what was trimmed for certain and what was asked for.
    trimmed: u64,
    trim_asked: u64,
}

/// What was asked for, up to one moment.
#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    lanes: BTreeMap<&'static [u8], ModelLane>,
    settings: BTreeMap<Vec<u8>, Vec<u8>>,
}

struct Run {
    seed: u64,
    options: Options,
    random: ChaCha8Rng,
    outbox: Option<Outbox>,
    now: World,
    /// After each act since the last that is certainly durable; a crash goes back to one of them.
    possible: VecDeque<World>,
    act: usize,
}

fn run(engine: EngineKind, seed: u64) {
    let place = tempfile::tempdir().unwrap();
    let options = Options {
        cache_bytes: 2_000,
        quota_bytes: 30_000,
        ..options(place.path(), engine)
    };
    let outbox = Outbox::open(&options).unwrap();
    let mut run = Run {
        seed,
        options,
        random: ChaCha8Rng::seed_from_u64(seed),
        outbox: Some(outbox),
        now: World::default(),
        possible: VecDeque::from([World::default()]),
        act: 0,
    };
    for act in 0..ACTS {
        run.act = act;
        run.step();
    }
    run.outbox.take().unwrap().close_blocking().unwrap();
}

impl Run {
    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..35 => self.append(),
            35..45 => self.together(),
            45..60 => self.trim(),
            60..64 => self.restart(),
            64..66 => self.remove(),
            66..74 => self.put(),
            74..76 => self.delete(),
            76..84 => self.sync(),
            84..94 => self.read(),
            94..97 => self.crash(),
            _ => self.close(),
        }
        if self.possible.back() != Some(&self.now) {
            self.possible.push_back(self.now.clone());
        }
    }

    fn outbox(&self) -> &Outbox {
        self.outbox.as_ref().unwrap()
    }

    fn name(&mut self) -> &'static [u8] {
        NAMES[self.random.random_range(0..NAMES.len())]
    }

    /// A lane, made if need be.
    fn lane(&mut self) -> (&'static [u8], Lane) {
        let name = self.name();
        let fresh = ModelLane {
            fresh: true,
            ..ModelLane::default()
        };
        if !self.now.lanes.contains_key(name) {
            self.now.lanes.insert(name, fresh);
            self.possible.push_back(self.now.clone());
        }
        let lane = self.outbox().lane(name).unwrap();
        if name == NAMES[0] {
            lane.set_quota(Some(QUOTA), &[]).unwrap();
        }
        (name, lane)
    }

    fn append(&mut self) {
        let (name, lane) = self.lane();
        let wrong = self.random.random_bool(0.1);
        let length = self.random.random_range(1..10);
        let model = self.now.lanes.get_mut(name).unwrap();
        let from = model.tail + if wrong { 3 } else { 0 };
        match append(&lane, from, from + length) {
            Ok(()) => {
                assert!(
                    !wrong || model.fresh,
                    "seed {}, act {}: gap accepted",
                    self.seed,
                    self.act
                );
                if wrong {
                    // The restart that places the lane is an act of its own.
                    *model = ModelLane {
                        begin: from,
                        tail: from,
                        fresh: true,
                        ..ModelLane::default()
                    };
                    self.possible.push_back(self.now.clone());
                }
                let model = self.now.lanes.get_mut(name).unwrap();
                model.frames.push((from, from + length));
                model.tail = from + length;
                model.fresh = false;
            }
            Err(Error::Gap { .. }) => assert!(wrong && !model.fresh, "seed {}, act {}", self.seed, self.act),
            Err(Error::Full(_)) => {}
            Err(Error::AtQuota { .. }) => assert_eq!(name, NAMES[0], "seed {}, act {}", self.seed, self.act),
            Err(error) => panic!("seed {}, act {}: {error}", self.seed, self.act),
        }
    }

    /// Frames on two lanes and a setting, which a crash must not tear apart.
    fn together(&mut self) {
        let mut group = Group::default();
        let (first, second) = (self.lane(), self.lane());
        let mut after = self.now.clone();
        for (name, lane) in [first, second] {
            for _ in 0..self.random.random_range(1..3) {
                let model = after.lanes.get_mut(name).unwrap();
                let (from, to) = (model.tail, model.tail + self.random.random_range(1..10));
                group
                    .append(&lane, super::places(from, to), frame(0, from, to, 100))
                    .unwrap();
                model.frames.push((from, to));
                (model.tail, model.fresh) = (to, false);
            }
        }
        let (key, value) = (b"k-together".to_vec(), self.act.to_be_bytes().to_vec());
        group.put(&key, &value).unwrap();
        after.settings.insert(key, value);
        let wrong = self.random.random_bool(0.1);
        if wrong {
            let (name, lane) = self.lane();
            let far = after.lanes.get(name).map_or(0, |model| model.tail) + 1_000_000;
            group
                .append(&lane, super::places(far, far + 1), frame(0, far, far + 1, 100))
                .unwrap();
            // A lane without any frame may begin there: not wrong then.
            if after.lanes.get(name).is_none_or(|model| model.fresh) {
                return;
            }
        }
        match self.outbox().together(group) {
            Ok(()) => {
                assert!(!wrong, "seed {}, act {}: gap accepted", self.seed, self.act);
                self.now = after;
            }
            Err(Error::Gap { .. }) => assert!(wrong, "seed {}, act {}", self.seed, self.act),
            Err(Error::Full(_) | Error::AtQuota { .. }) => {}
            Err(error) => panic!("seed {}, act {}: {error}", self.seed, self.act),
        }
    }

    fn trim(&mut self) {
        let (name, lane) = self.lane();
        let tail = self.now.lanes[name].tail;
        let below = self.random.random_range(0..=tail + 2);
        lane.trim(at(below)).unwrap();
        // A trim becomes durable out of order: any state that is possible may have it.
        let in_this_life = self.now.lanes[name].begin;
        self.now.lanes.get_mut(name).unwrap().ask_trim(below);
        for world in &mut self.possible {
            if let Some(model) = world
                .lanes
                .get_mut(name)
                .filter(|model| model.begin == in_this_life)
            {
                model.ask_trim(below);
            }
        }
    }

    fn restart(&mut self) {
        let (name, lane) = self.lane();
        // Never twice at one place, so that lives can be told apart.
        let begin = self.act as u64 * 1_000;
        lane.restart(at(begin)).unwrap();
        let model = ModelLane {
            begin,
            tail: begin,
            fresh: true,
            ..ModelLane::default()
        };
        self.now.lanes.insert(name, model);
    }

    fn remove(&mut self) {
        let (name, lane) = self.lane();
        self.outbox().remove_lane(&lane).unwrap();
        self.now.lanes.remove(name);
    }

    fn put(&mut self) {
        let key = vec![b'k', self.random.random_range(0..5)];
        let value = self.act.to_be_bytes().to_vec();
        self.outbox().put(&key, &value).unwrap();
        self.now.settings.insert(key, value);
    }

    fn delete(&mut self) {
        let key = vec![b'k', self.random.random_range(0..5)];
        self.outbox().delete(&key).unwrap();
        self.now.settings.remove(&key);
    }

    fn sync(&mut self) {
        self.outbox().sync().unwrap();
        self.settled();
        self.compare(&self.now);
        self.compare_bytes();
    }

    /// What lanes hold adds up, and what counts to a quota is what its lane holds.
    fn compare_bytes(&self) {
        let (outbox, seed, act) = (self.outbox(), self.seed, self.act);
        let lanes = outbox.lanes();
        let all: u64 = lanes.iter().map(|(_, lane)| lane.held_bytes()).sum();
        assert_eq!(all, outbox.stats().held_bytes, "seed {seed}, act {act}");
        for (name, lane) in lanes {
            if let Some(quota) = lane.quota_use() {
                assert_eq!(
                    quota.used_bytes,
                    lane.held_bytes(),
                    "seed {seed}, act {act}, {name:?}"
                );
                assert!(quota.used_bytes <= QUOTA, "seed {seed}, act {act}, {name:?}");
            }
        }
    }

    /// Everything asked for is durable.
    fn settled(&mut self) {
        for model in self.now.lanes.values_mut() {
            model.trimmed = model.base_of(model.trim_asked);
        }
        self.possible = VecDeque::from([self.now.clone()]);
    }

    fn read(&mut self) {
        let (_, lane) = self.lane();
        let Extent { base, durable, .. } = lane.extent();
        let from = self.random.random_range(base.0..=durable.0);
        match lane.read(at(from), self.random.random_range(0..1_000)) {
            Ok(frames) => {
                let mut next = None;
                for (interval, bytes) in frames {
                    assert_eq!(next.unwrap_or(interval.from), interval.from, "seed {}", self.seed);
                    assert!(next.is_some() || interval.reaches(at(from)), "seed {}", self.seed);
                    assert_eq!(
                        bytes,
                        frame(0, interval.from.0, interval.to.0, 100),
                        "seed {}",
                        self.seed
                    );
                    next = Some(interval.to);
                }
            }
            // A trim that was asked for has come through meanwhile.
            Err(Error::Trimmed { .. }) => {}
            Err(error) => panic!("seed {}, act {}: {error}", self.seed, self.act),
        }
    }

    fn close(&mut self) {
        self.outbox.take().unwrap().close_blocking().unwrap();
        self.settled();
        for model in self.now.lanes.values_mut() {
            // A trim ahead of the tail is not remembered.
            model.trim_asked = model.trimmed;
        }
        self.possible = VecDeque::from([self.now.clone()]);
        self.reopen();
        self.compare(&self.now);
    }

    fn crash(&mut self) {
        self.outbox.take().unwrap().crash();
        self.reopen();
        // The newest that fits: a crash may lose acts at the end, never one in the middle.
        let fitting = self
            .possible
            .iter()
            .rev()
            .find(|world| self.difference(world).is_none())
            .cloned();
        self.now = fitting.unwrap_or_else(|| {
            let why: Vec<_> = self.possible.iter().map(|world| self.difference(world)).collect();
            panic!("seed {}, act {}: after a crash: {why:?}", self.seed, self.act)
        });
        let extents: Vec<_> = self
            .now
            .lanes
            .keys()
            .map(|name| (*name, self.outbox().lane(name).unwrap().extent()))
            .collect();
        for (name, extent) in extents {
            let model = self.now.lanes.get_mut(name).unwrap();
            (model.trimmed, model.trim_asked) = (extent.base.0, extent.base.0);
        }
        self.possible = VecDeque::from([self.now.clone()]);
    }

    fn reopen(&mut self) {
        let opened = Outbox::open(&self.options);
        self.outbox =
            Some(opened.unwrap_or_else(|error| panic!("seed {}, act {}: {error}", self.seed, self.act)));
    }

    fn compare(&self, world: &World) {
        let difference = self.difference(world);
        assert_eq!(difference, None, "seed {}, act {}", self.seed, self.act);
    }

    /// How the outbox differs from a world, all of which is durable.
    fn difference(&self, world: &World) -> Option<String> {
        let outbox = self.outbox();
        let mut names: Vec<Bytes> = outbox.lanes().into_iter().map(|(name, _)| name).collect();
        names.sort();
        if !names.iter().eq(world.lanes.keys()) {
            return Some(format!("lanes {names:?}"));
        }
        let settings = outbox.scan(b"");
        let expected = world.settings.iter().map(|(key, value)| (&key[..], &value[..]));
        if !settings
            .iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .eq(expected)
        {
            return Some(format!("settings {settings:?}"));
        }
        world.lanes.iter().find_map(|(name, model)| {
            let lane = outbox.lane(name).unwrap();
            let Extent { base, durable, tail } = lane.extent();
            let bases = model.trimmed..=model.base_of(model.trim_asked);
            if (durable, tail) != (at(model.tail), at(model.tail)) || !bases.contains(&base.0) {
                return Some(format!(
                    "{name:?} {lane:?}, expected base {bases:?}, tail {}",
                    model.tail
                ));
            }
            let expected: Vec<_> = model
                .frames
                .iter()
                .copied()
                .filter(|(from, _)| *from >= base.0)
                .collect();
            let held = super::held(&lane);
            (held != expected).then(|| format!("{name:?} holds {held:?}, expected {expected:?}"))
        })
    }
}

impl ModelLane {
    fn ask_trim(&mut self, below: u64) {
        self.trim_asked = self.trim_asked.max(below);
    }

    /// Where the lane begins when it is trimmed below this place.
    fn base_of(&self, below: u64) -> u64 {
        let kept = self.frames.iter().find(|(_, to)| *to > below);
        kept.map_or(self.tail, |(from, _)| *from)
            .max(self.trimmed)
            .max(self.begin)
    }
}
