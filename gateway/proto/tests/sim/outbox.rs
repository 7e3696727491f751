//! A gateway's disk: an ordered log of operations. What was not flushed is lost in a crash, but for a prefix that
//! happened to reach the disk (a torn operation at its end is found by its checksum and dropped). A disk may lie: then a
//! crash loses even what it has reported durable, again but for a prefix.

use super::source::Rec;
use culvert_proto::traps::{Trap, planted};
use culvert_proto::{Guard, Interval, Seam, Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// An interval of a stream with its records, as outbox and link hold it.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub interval: Interval,
    pub guard_from: Guard,
    pub records: Vec<Rec>,
    /// Leader epoch of all its places.
    pub epoch: i32,
}

impl Frame {
    /// Identity of the last place. The source's own position rested behind it, so its epoch is known.
    pub fn guard_end(&self) -> Guard {
        let to = self.interval.to;
        let record = self.records.last().filter(|record| record.at.next() == to);
        let epoch = self.epoch;
        record.map_or(Guard { epoch, crc: 0 }, Rec::guard)
    }

    /// What is known about the place before `at`.
    pub fn seam(&self, at: Sequence) -> Seam {
        if at == self.interval.from {
            return self.guard_from.into();
        }
        let before = self.records.iter().rev().find(|record| record.at < at);
        match before {
            Some(record) if record.at.next() == at => record.guard().into(),
            // All records of a frame are of one epoch, so what lies between them is too.
            Some(record) => Guard {
                epoch: record.epoch,
                crc: 0,
            }
            .into(),
            None => Seam {
                epoch_min: self.guard_from.epoch,
                epoch_max: self.epoch,
                crc: 0,
            },
        }
    }
}

/// One stream's part of the disk.
#[derive(Clone, Debug)]
pub struct Lane {
    pub base: Sequence,
    pub tail: Sequence,
    pub guard_base: Option<Guard>,
    pub frames: Vec<Rc<Frame>>,
    /// Which life of the lane this is: a restart begins the next. A flush that began in an earlier life says
    /// nothing about this one.
    pub life: u64,
}

impl Lane {
    pub fn guard_tail(&self) -> Option<Guard> {
        match self.frames.last() {
            Some(frame) => {
                let guard = frame.guard_end();
                (guard != Guard::NONE).then_some(guard)
            }
            None => self.guard_base,
        }
    }

    /// The frame to send to someone who needs `at` next.
    pub fn covering(&self, at: Sequence) -> Option<Rc<Frame>> {
        let covers = |frame: &&Rc<Frame>| frame.interval.from <= at && at < frame.interval.to;
        self.frames.iter().find(covers).cloned()
    }
}

#[derive(Clone, Debug)]
pub enum Op {
    Append(usize, Rc<Frame>),
    Trim(usize, Sequence),
    Restart(usize, Sequence, Option<Guard>, u64),
    Start(usize, Sequence),
    Known(usize, usize),
}

#[derive(Clone, Debug, Default)]
pub struct Image {
    pub lanes: BTreeMap<usize, Lane>,
    pub start: BTreeMap<usize, Sequence>,
    /// (stream, route) of which the sink once named a position.
    pub known: BTreeSet<(usize, usize)>,
}

impl Image {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(stream, frame) => {
                if let Some(lane) = self.lanes.get_mut(stream) {
                    lane.tail = frame.interval.to;
                    lane.frames.push(Rc::clone(frame));
                }
            }
            Op::Trim(stream, below) => {
                if let Some(lane) = self.lanes.get_mut(stream) {
                    let whole = lane.frames.iter().take_while(|f| f.interval.to <= *below).count();
                    if let Some(last) = lane.frames.drain(..whole).next_back() {
                        lane.guard_base = Some(last.guard_end()).filter(|g| *g != Guard::NONE);
                    }
                    let first = lane.frames.first().map_or(lane.tail, |f| f.interval.from);
                    lane.base = lane.base.max(first);
                }
            }
            Op::Restart(stream, at, guard, life) => {
                let lane = Lane {
                    base: *at,
                    tail: *at,
                    guard_base: *guard,
                    frames: Vec::new(),
                    life: *life,
                };
                self.lanes.insert(*stream, lane);
            }
            Op::Start(stream, at) => {
                self.start.insert(*stream, *at);
            }
            Op::Known(stream, route) => {
                self.known.insert((*stream, *route));
            }
        }
    }
}

#[derive(Default)]
pub struct Outbox {
    /// What was reported durable.
    disk: Image,
    /// The disk has lied since its last honest flush: what really is on it, and what it has only reported.
    lie: Option<Lie>,
    pub now: Image,
    pending: Vec<Op>,
    flushing: Option<usize>,
    lives: u64,
    /// Operations written and operations on disk, counted over all time.
    pub written: u64,
    pub durable: u64,
}

struct Lie {
    really: Image,
    reported: Vec<Op>,
}

impl Outbox {
    /// A disk that holds what a copy of some disk holds.
    pub fn of(image: Image) -> Outbox {
        let lives = image.lanes.values().map(|lane| lane.life).max().unwrap_or(0);
        Outbox {
            disk: image.clone(),
            now: image,
            lives,
            ..Outbox::default()
        }
    }

    /// A copy of what is on it.
    pub fn copy(&self) -> Image {
        self.disk.clone()
    }

    pub fn write(&mut self, op: Op) {
        self.now.apply(&op);
        self.pending.push(op);
        self.written += 1;
    }

    pub fn restart(&mut self, stream: usize, at: Sequence, guard: Option<Guard>) {
        self.lives += 1;
        self.write(Op::Restart(stream, at, guard, self.lives));
    }

    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn is_flushing(&self) -> bool {
        self.flushing.is_some()
    }

    pub fn flush_begins(&mut self) {
        self.flushing = Some(self.pending.len());
    }

    /// What the flush brought to the disk, for each stream whose lane is still in the same life; or, where the disk
    /// `lies`, what it says that it did.
    pub fn flush_ends(&mut self, lies: bool) -> Vec<(usize, Sequence)> {
        let Some(count) = self.flushing.take() else {
            return Vec::new();
        };
        self.settle(count, lies);
        let same_life = |(stream, lane): (&usize, &Lane)| {
            let now = self.now.lanes.get(stream)?;
            (now.life == lane.life || planted(Trap::FlushOfAnyLife)).then_some((*stream, lane.tail))
        };
        self.disk.lanes.iter().filter_map(same_life).collect()
    }

    /// The power fails: of what is not on the disk, the first `survive` operations are there after all. Says whether
    /// something is gone that was reported durable.
    pub fn crash(&mut self, survive: usize) -> bool {
        let lost = match self.lie.take() {
            Some(mut lie) if survive < lie.reported.len() => {
                lie.reported[..survive].iter().for_each(|op| lie.really.apply(op));
                self.disk = lie.really;
                true
            }
            lie => {
                let reported = lie.map_or(0, |lie| lie.reported.len());
                self.settle((survive - reported).min(self.pending.len()), false);
                false
            }
        };
        self.pending.clear();
        self.flushing = None;
        self.now = self.disk.clone();
        self.written = self.durable;
        lost
    }

    /// Whether all of `interval` was reported durable, in the present life of the lane.
    pub fn has_reported(&self, stream: usize, interval: Interval) -> bool {
        let (reported, now) = (self.disk.lanes.get(&stream), self.now.lanes.get(&stream));
        let lane = reported
            .zip(now)
            .filter(|(reported, now)| reported.life == now.life);
        lane.is_some_and(|(reported, _)| interval.to <= reported.tail)
    }

    /// Operations that a crash may lose.
    pub fn at_risk(&self) -> usize {
        self.pending.len() + self.lie.as_ref().map_or(0, |lie| lie.reported.len())
    }

    fn settle(&mut self, count: usize, lies: bool) {
        if !lies {
            // What an earlier flush has only reported is on the disk with this one.
            self.lie = None;
        } else if self.lie.is_none() {
            self.lie = Some(Lie {
                really: self.disk.clone(),
                reported: Vec::new(),
            });
        }
        for op in self.pending.drain(..count) {
            self.disk.apply(&op);
            if let Some(lie) = &mut self.lie {
                lie.reported.push(op);
            }
        }
        self.durable += count as u64;
    }
}
