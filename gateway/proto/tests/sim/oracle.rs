//! The oracle sees everything, and after every step compares it with the invariants of `ARCHITECTURE.md`.
//!
//! - S1, S2, S3, S8, S10 whenever something became visible in a sink: its records are those of one history of the
//!   source between the beginning and the position, each once and in order, and the digest is theirs.
//! - S4 after every step; not between a sink's restore and the next answer that was read after it.
//! - S5, S6 whenever an origin frees records or commits the group's offset.
//! - S7 by what a sink that believes to have committed finds there. S9 whenever a position moves.
//! - A halt must have a reason: the source's history did change, or its retention did pass what a sink needed.
//! - L1 at the end: all is delivered, freed and committed, or the stream rightly stands still.
//!
//! S11 holds by construction (there is no clock), S12 is the links' (nobody here speaks for another).

use super::source::{Entry, RecordKey, StreamHistory};
use super::store::Content;
use super::world::World;
use culvert_proto::digest::Digest;
use culvert_proto::origin::{Halted, Origin};
use culvert_proto::traps::{Trap, planted};
use culvert_proto::{Position, Sequence, StreamId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub seen: String,
}

#[derive(Default)]
pub struct Oracle {
    /// Records that compaction took: a sink may hold them or not.
    pub compacted: BTreeSet<RecordKey>,
    /// (origin's gateway, stream, route) that has not heard from its sink since it was restored.
    suspended: BTreeSet<(usize, usize, usize)>,
    /// By (route, stream): the position when it was last looked at.
    positions: BTreeMap<(usize, usize), Position>,
    /// Streams that a sink's gateway halted as forked.
    forked: BTreeSet<usize>,
    /// By (origin's gateway, stream, route): its last question.
    asked: BTreeMap<(usize, usize, usize), u128>,
    /// By stream: what the group was last told.
    committed: BTreeMap<usize, Sequence>,
    /// Routes whose sink was restored.
    restored: BTreeMap<usize, u32>,
}

impl Oracle {
    pub fn is_compacted(&self, key: RecordKey) -> bool {
        self.compacted.contains(&key)
    }

    pub fn origin_crashed(&mut self, a: usize) {
        self.suspended.retain(|(gateway, ..)| *gateway != a);
    }

    /// An origin asked.
    pub fn asked(&mut self, a: usize, stream: usize, route: usize, nonce: u128) {
        self.asked.insert((a, stream, route), nonce);
    }

    /// An origin took an answer that was read when the sink had been restored so many times. Relays bring it the
    /// answers to others' questions too, which say nothing to it.
    pub fn answered(&mut self, a: usize, stream: usize, route: usize, nonce: u128, restores: u32) {
        if self.asked.get(&(a, stream, route)) == Some(&nonce)
            && self.restored.get(&route).copied().unwrap_or(0) == restores
        {
            self.suspended.remove(&(a, stream, route));
        }
    }
}

impl World {
    // ----- sinks -----------------------------------------------------------------------------------------------

    /// Looks at what became visible in a sink.
    pub fn check_store(&mut self, route: usize) {
        for stream in std::mem::take(&mut self.stores[route].touched) {
            let content = self.stores[route]
                .streams
                .get(&stream)
                .cloned()
                .unwrap_or_default();
            if let Err((invariant, seen)) = self.judge(route, stream, &content) {
                self.violated(invariant, format!("sink {route}, stream {stream}: {seen}"));
            }
            if let Some(position) = content.position {
                self.oracle.positions.insert((route, stream), position);
            }
        }
    }

    fn judge(
        &mut self,
        route: usize,
        stream: usize,
        content: &Content,
    ) -> Result<(), (&'static str, String)> {
        let mut keys = BTreeSet::new();
        if let Some(twice) = content.records.iter().find(|record| !keys.insert(record.key)) {
            return Err(("S1", format!("holds record {} at {} twice", twice.key, twice.at)));
        }
        if let Some(pair) = content.records.windows(2).find(|pair| pair[0].at >= pair[1].at) {
            return Err(("S8", format!("holds {} before {}", pair[0].at, pair[1].at)));
        }
        let Some(position) = &content.position else {
            return Err(("S3", "holds records and no position".to_owned()));
        };
        let before = self.oracle.positions.get(&(route, stream));
        if let Some(before) =
            before.filter(|before| position.at < before.at || position.start != before.start)
        {
            let (was, is) = ((before.start, before.at), (position.start, position.at));
            return Err(("S9", format!("position (start, at) went from {was:?} to {is:?}")));
        }
        let first = before.is_none();
        if let Some(outside) = content
            .records
            .iter()
            .find(|r| r.at < position.start || r.at >= position.at)
        {
            let (start, at) = (position.start, position.at);
            return Err((
                "S3",
                format!("holds {} and its position is [{start}, {at})", outside.at),
            ));
        }
        let mut digest = Digest::EMPTY;
        content
            .records
            .iter()
            .for_each(|record| digest.add(super::source::content_of(record.key)));
        if digest != position.digest {
            let (held, told) = (digest.count, position.digest.count);
            return Err((
                "S10",
                format!("holds {held} records, its position's digest speaks of {told}"),
            ));
        }
        self.judge_history(stream, content, position)?;
        if first {
            self.judge_start(stream, position)
        } else {
            Ok(())
        }
    }

    /// S2 and S6: what the sink holds is one history of the source, whole.
    fn judge_history(
        &self,
        stream: usize,
        content: &Content,
        position: &Position,
    ) -> Result<(), (&'static str, String)> {
        let history = &self.histories[stream];
        let live = &self.partitions[history.partition];
        let mut reason = None;
        let logs = (live.stream == stream).then_some(&live.log);
        for log in logs.into_iter().chain(history.branches.iter().rev()) {
            match self.compare(history, log, content, position) {
                Ok(()) => return Ok(()),
                Err(why) => reason.get_or_insert(why),
            };
        }
        let at = position.at;
        Err((
            "S2",
            format!(
                "position {at}: {}",
                reason.unwrap_or_else(|| "there is no such history".to_owned())
            ),
        ))
    }

    fn compare(
        &self,
        history: &StreamHistory,
        log: &[Entry],
        content: &Content,
        position: &Position,
    ) -> Result<(), String> {
        let base = history.base;
        let was_there = |offset: u64, key: RecordKey| {
            let in_branch = |branch: &Vec<Entry>| branch.get((offset - base) as usize).map(|entry| entry.key);
            history
                .branches
                .iter()
                .any(|branch| in_branch(branch) == Some(key))
        };
        let (start, end) = (position.start.0, position.at.0);
        if end > base + log.len() as u64 {
            return Err(format!("the source ends at {}", base + log.len() as u64));
        }
        let mut held = content.records.iter().peekable();
        for offset in start..end {
            let entry = offset.checked_sub(base).and_then(|index| log.get(index as usize));
            let found = held
                .next_if(|record| record.at.0 == offset)
                .map(|record| record.key);
            let key = entry.map_or(0, |entry| entry.key);
            match found {
                // What an unclean election took from the source, and where no other record is now, is more than was
                // promised, not less: nobody can tell it from what compaction took.
                Some(found) if (key == 0 || self.oracle.is_compacted(key)) && was_there(offset, found) => {}
                Some(found) if found != key => {
                    return Err(format!("at {offset} it holds record {found}, not {key}"));
                }
                None if key != 0 && !self.oracle.is_compacted(key) => {
                    return Err(format!("at {offset} it lacks record {key}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A stream begins at the first record that the source still has (`culvert.start = earliest`).
    fn judge_start(&self, stream: usize, position: &Position) -> Result<(), (&'static str, String)> {
        let history = &self.histories[stream];
        let partition = &self.partitions[history.partition];
        if partition.stream != stream || history.passed || history.truncated {
            return Ok(());
        }
        let skipped = (partition.log_start..position.start.0)
            .filter_map(|offset| partition.entry(offset))
            .find(|entry| entry.key != 0 && !self.oracle.is_compacted(entry.key));
        match skipped {
            Some(entry) => Err((
                "S2",
                format!("begins at {}, behind record {}", position.start, entry.key),
            )),
            None => Ok(()),
        }
    }

    /// S7: what this gateway believes to have committed is what the sink holds.
    pub fn check_writer(&mut self, c: usize, moved: &[(StreamId, Position)]) {
        let route = self.c[c].route;
        for (id, position) in moved {
            let stream = self.stream_index(id);
            let content = self.stores[route].streams.get(&stream);
            let held = content.and_then(|content| content.position.as_ref());
            if held != Some(position) {
                let seen = format!(
                    "C{c} believes to have committed {} of stream {stream}",
                    position.at
                );
                self.violated(
                    "S7",
                    format!("{seen}, the sink holds {:?}", held.map(|held| held.at)),
                );
            }
        }
    }

    /// C1: an answer is what the sink holds now.
    pub fn check_answer(&mut self, c: usize, positions: &[(usize, Option<Position>)]) {
        let route = self.c[c].route;
        for (stream, told) in positions {
            let content = self.stores[route].streams.get(stream);
            let held = content
                .and_then(|content| content.position.as_ref())
                .map(|position| position.at);
            let told = told.as_ref().map(|position| position.at);
            if told != held {
                self.violated(
                    "C1",
                    format!("C{c} answers {told:?} for stream {stream}, the sink holds {held:?}"),
                );
            }
        }
    }

    pub fn oracle_sees_restore(&mut self, route: usize) {
        *self.oracle.restored.entry(route).or_default() += 1;
        for a in 0..self.a.len() {
            for stream in 0..self.histories.len() {
                self.oracle.suspended.insert((a, stream, route));
            }
        }
        self.oracle.positions.retain(|(of, _), _| *of != route);
        for (stream, position) in self.stores[route].positions() {
            self.oracle.positions.insert((route, stream), position);
        }
        for p in 0..self.partitions.len() {
            self.check_passed(p);
        }
    }

    // ----- origins ---------------------------------------------------------------------------------------------

    fn held_by_sink(&self, route: usize, stream: usize) -> Option<Sequence> {
        self.stores[route]
            .streams
            .get(&stream)?
            .position
            .as_ref()
            .map(|position| position.at)
    }

    /// S4: no origin believes more than the sink holds.
    pub fn check_applied(&mut self) {
        for a in 0..self.a.len() {
            for (stream, origin) in &self.a[a].streams {
                for (index, route) in self.routes.iter().enumerate() {
                    let Some(applied) = origin.applied(&route.id).map(|position| position.at) else {
                        continue;
                    };
                    let held = self.held_by_sink(index, *stream);
                    if Some(applied) > held && !self.oracle.suspended.contains(&(a, *stream, index)) {
                        let seen = format!(
                            "A{a} believes {applied} of stream {stream}, sink {index} holds {held:?}"
                        );
                        self.violated("S4", seen);
                        return;
                    }
                }
            }
        }
    }

    /// S5 and S6: what an origin frees is in every sink.
    pub fn check_trim(&mut self, a: usize, stream: usize, below: Sequence) {
        for route in 0..self.routes.len() {
            if self.oracle.suspended.contains(&(a, stream, route)) {
                continue;
            }
            let held = self.held_by_sink(route, stream);
            if Some(below) > held {
                self.violated(
                    "S5",
                    format!("A{a} frees stream {stream} below {below}, sink {route} holds {held:?}"),
                );
            }
        }
    }

    /// A6: the group's offset never goes back, unless a sink did.
    pub fn check_committed(&mut self, stream: usize, at: Sequence) {
        let before = self.oracle.committed.insert(stream, at);
        if let Some(before) = before.filter(|before| at < *before && self.oracle.restored.is_empty()) {
            self.violated(
                "A6",
                format!("the group's offset of stream {stream} goes back from {before} to {at}"),
            );
        }
    }

    /// S5: what an origin commits is in every sink.
    pub fn check_commit_sent(&mut self, a: usize, stream: usize, at: Sequence) {
        for route in 0..self.routes.len() {
            let held = self.held_by_sink(route, stream);
            if Some(at) > held && !self.oracle.suspended.contains(&(a, stream, route)) {
                self.violated(
                    "S5",
                    format!("the group's offset of stream {stream} is {at}, sink {route} holds {held:?}"),
                );
            }
        }
    }

    /// The log's start moved, or a sink went back: does some sink now need what the source has no more?
    pub fn check_passed(&mut self, p: usize) {
        let partition = &self.partitions[p];
        let (stream, start) = (partition.stream, partition.log_start);
        let passed = (0..self.routes.len()).any(|route| match self.held_by_sink(route, stream) {
            Some(at) => at.0 < start,
            None => start > partition.base,
        });
        self.histories[stream].passed |= passed;
    }

    // ----- halts -----------------------------------------------------------------------------------------------

    pub fn check_halt(&mut self, a: usize, stream: usize, why: &Halted) {
        let history = &self.histories[stream];
        let (name, agreed) = match why {
            Halted::Source => (
                "source refuses the place",
                history.truncated || history.passed || !history.alive,
            ),
            Halted::Forked { .. } => ("history forked at the origin", history.truncated),
            Halted::PositionLost { .. } => ("sink lost its position", !self.oracle.restored.is_empty()),
            Halted::Gone { .. } => ("outbox lost records", false),
            // Nothing here refuses records.
            Halted::Record => ("a record cannot go on", false),
        };
        *self.stats.halts.entry(name).or_default() += 1;
        if !agreed {
            self.violated(
                "L3",
                format!("A{a} halts stream {stream} without reason: {why:?}"),
            );
        }
    }

    pub fn check_forked(&mut self, stream: usize) {
        *self.stats.halts.entry("history forked at the sink").or_default() += 1;
        self.oracle.forked.insert(stream);
        if !self.histories[stream].truncated && !planted(Trap::TopicByName) {
            self.violated(
                "L3",
                format!("a sink halts stream {stream} as forked, its history never changed"),
            );
        }
    }

    // ----- the end ---------------------------------------------------------------------------------------------

    /// Whether nothing is left to do: all is delivered, freed and committed, or rightly stands still.
    pub fn is_settled(&self) -> bool {
        self.partitions.iter().all(|partition| {
            let stream = partition.stream;
            if self.stands_still(stream).is_some() {
                return true;
            }
            let end = Sequence(partition.end());
            let delivered = (0..self.routes.len()).all(|route| self.held_by_sink(route, stream) == Some(end));
            let owner = &self.a[partition.owner];
            let Some(origin) = owner.streams.get(&stream) else {
                return false;
            };
            let freed = origin.reads() && origin.held().is_some_and(|held| held.base == held.tail);
            // Or else nobody has compared yet what both ends hold.
            let heard = self.routes.iter().all(|route| {
                origin
                    .applied(&route.id)
                    .is_some_and(|position| position.at == end)
            });
            delivered && freed && heard && self.group.committed.get(&stream) == Some(&end)
        })
    }

    /// Why the stream rightly stands still, if it does.
    pub fn stands_still(&self, stream: usize) -> Option<&'static str> {
        let history = &self.histories[stream];
        let owner = &self.a[self.partitions[history.partition].owner];
        let halted = owner.streams.get(&stream).and_then(Origin::halted);
        let reason = match halted {
            Some(Halted::Source) if history.truncated => "history truncated",
            Some(Halted::Forked { .. }) if history.truncated => "history truncated, origin halted",
            Some(Halted::Source) if history.passed => "retention passed",
            Some(Halted::PositionLost { .. }) if !self.oracle.restored.is_empty() => "position lost",
            _ if history.truncated && self.oracle.forked.contains(&stream) => {
                "history truncated, sink halted"
            }
            // Nothing is left that could tell: the next record that the source gets will.
            _ if history.truncated && self.is_ahead(stream) => "history truncated, sink ahead of it",
            _ => return None,
        };
        Some(reason)
    }

    fn is_ahead(&self, stream: usize) -> bool {
        let end = self.partitions[self.histories[stream].partition].end();
        let held = (0..self.routes.len()).filter_map(|route| self.held_by_sink(route, stream));
        held.max().is_some_and(|held| held.0 > end)
    }

    /// L1 and S6 once more, now that all has settled: every record that the source has is in every sink.
    pub fn check_end(&mut self) {
        let mut delivered = 0;
        for partition in 0..self.partitions.len() {
            let stream = self.partitions[partition].stream;
            if let Some(reason) = self.stands_still(stream) {
                *self.stats.standing.entry(reason).or_default() += 1;
                continue;
            }
            for route in 0..self.routes.len() {
                let content = self.stores[route]
                    .streams
                    .get(&stream)
                    .cloned()
                    .unwrap_or_default();
                delivered += content.records.len() as u64;
                let keys: BTreeSet<RecordKey> = content.records.iter().map(|record| record.key).collect();
                let first = content.position.as_ref().map_or(0, |position| position.start.0);
                let log = &self.partitions[partition];
                let lost = (first.max(log.log_start)..log.end())
                    .filter_map(|offset| Some((offset, log.entry(offset)?)))
                    .find(|(_, e)| e.key != 0 && !self.oracle.is_compacted(e.key) && !keys.contains(&e.key));
                if let Some((offset, entry)) = lost {
                    let seen = format!("sink {route} never got record {} at {offset}", entry.key);
                    self.violated("S6", format!("stream {stream}: {seen}, and nobody halts"));
                }
            }
        }
        self.stats.delivered += delivered;
    }
}
