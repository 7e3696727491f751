//! How an origin's gateway drives [`culvert_proto::origin::Origin`]: the source's thread, the outbox and the links
//! around it.

use super::net::Message;
use super::oracle::Oracle;
use super::outbox::{Frame, Lane, Op, Outbox};
use super::source::{Commit, Entry, Partition, Rec};
use super::world::World;
use culvert_proto::origin::{Action, Halted, Held, Origin, Place};
use culvert_proto::traps::{Trap, planted};
use culvert_proto::{Guard, Interval, Sequence};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

#[derive(Default)]
pub struct OriginGateway {
    pub up: bool,
    /// It does nothing before this step: a long pause of the process or its machine.
    pub paused_until: u64,
    /// It is not there before this step: its host is lost, and another is set up.
    pub away_until: u64,
    pub disk: Outbox,
    pub streams: BTreeMap<usize, Origin>,
    /// By partition: what the group has assigned to this gateway, as far as it knows.
    pub readers: BTreeMap<usize, Reader>,
    /// By route: the live session towards its sink.
    pub sessions: BTreeMap<usize, u64>,
    /// Operations that must be on disk before anything leaves the gateway that rests on them.
    remembered: u64,
    /// What waits for that: (operations that must be durable, stream, action).
    waiting: VecDeque<(u64, usize, Action)>,
}

/// The source's client for one partition.
pub struct Reader {
    pub stream: usize,
    generation: u32,
    /// The consumer's position and the epoch of what it read last; none until a seek was carried out.
    place: Option<(u64, i32)>,
    /// A seek that was asked for and not carried out.
    seek: Option<Place>,
    /// The outcome of the last seek, not told yet.
    outcome: Option<Result<(Sequence, Guard), ()>>,
    commit: Option<Sequence>,
}

/// What an outbox says after a restart: a lane that is empty does not know where it was.
fn held(lane: &Lane) -> Option<Held> {
    (lane.base < lane.tail).then(|| Held {
        base: lane.base,
        durable: lane.tail,
        tail: lane.tail,
        guard_base: lane.guard_base,
        guard_tail: lane.guard_tail(),
    })
}

impl World {
    // ----- life ------------------------------------------------------------------------------------------------

    pub fn origin_starts(&mut self, a: usize) {
        self.a[a].up = true;
        let image = self.a[a].disk.now.clone();
        for (stream, start) in image.start.iter().map(|(s, at)| (*s, Some(*at))) {
            self.make_origin(a, stream, start);
        }
        for stream in image.lanes.keys() {
            self.make_origin(a, *stream, image.start.get(stream).copied());
        }
    }

    fn make_origin(&mut self, a: usize, stream: usize, start: Option<Sequence>) {
        let seed = self.rng.wide();
        let routes = self.routes.len();
        let gateway = &mut self.a[a];
        if gateway.streams.contains_key(&stream) {
            return;
        }
        let image = &gateway.disk.now;
        let mut origin = Origin::new(true, seed);
        origin.restored(start, image.lanes.get(&stream).and_then(held));
        for route in 0..routes {
            let known = image.known.contains(&(stream, route));
            origin.register(self.routes[route].id.clone(), 0, known);
        }
        gateway.streams.insert(stream, origin);
    }

    pub fn origin_stops(&mut self, a: usize) {
        let gateway = &mut self.a[a];
        gateway.up = false;
        gateway.streams.clear();
        gateway.readers.clear();
        gateway.sessions.clear();
        gateway.waiting.clear();
        gateway.remembered = 0;
    }

    /// A host that was lost is there again.
    pub fn origin_returns(&mut self, a: usize) -> bool {
        let due = !self.a[a].up && (!self.faults || self.a[a].away_until <= self.trace.step);
        if due {
            self.note(format_args!("A{a} is there again"));
            self.origin_starts(a);
        }
        due
    }

    // ----- the source ------------------------------------------------------------------------------------------

    /// Hears from the group what it reads now.
    pub fn origin_notices_group(&mut self, a: usize) -> bool {
        let p = self.rng.below(self.partitions.len());
        let partition = &self.partitions[p];
        let (stream, generation, ours) = (partition.stream, partition.generation, partition.owner == a);
        if let Some(reader) = self.a[a].readers.get(&p) {
            if reader.generation == generation && reader.stream == stream {
                return false;
            }
            let (old, recreated) = (reader.stream, reader.stream != stream);
            self.a[a].readers.remove(&p);
            self.note(format_args!("A{a} hears that partition {p} was taken away"));
            if let Some(origin) = self.a[a].streams.get_mut(&old) {
                if recreated {
                    // What is in the outbox is still delivered; nothing more can be read.
                    origin.halt(Halted::Source);
                } else {
                    origin.revoked();
                }
            }
            self.origin_acts(a, old);
            return true;
        }
        if !ours {
            return false;
        }
        let committed = self.group.committed.get(&stream).copied();
        self.note(format_args!(
            "A{a} is assigned stream {stream}, group at {committed:?}"
        ));
        let reader = Reader {
            stream,
            generation,
            place: None,
            seek: None,
            outcome: None,
            commit: None,
        };
        self.a[a].readers.insert(p, reader);
        let start = self.a[a].disk.now.start.get(&stream).copied();
        self.make_origin(a, stream, start);
        let linked: Vec<usize> = self.a[a].sessions.keys().copied().collect();
        let registered: Vec<usize> = linked.into_iter().filter(|r| self.is_registered(a, *r)).collect();
        if let Some(origin) = self.a[a].streams.get_mut(&stream) {
            origin.assigned(committed);
            for route in &registered {
                origin.linked(&self.routes[*route].id);
            }
        }
        self.origin_acts(a, stream);
        for route in registered {
            self.offer(a, route, stream);
        }
        true
    }

    /// The source's thread carries out what was asked for.
    pub fn origin_seeks(&mut self, a: usize) -> bool {
        let Some(p) = self.pick_reader(a, |reader| reader.seek.is_some()) else {
            return false;
        };
        let Some(reader) = self.a[a].readers.get_mut(&p) else {
            return false;
        };
        let Some(place) = reader.seek.take() else {
            return false;
        };
        let partition = &self.partitions[p];
        let outcome = if partition.stream == reader.stream {
            seek(partition, &self.oracle, place)
        } else {
            Err(())
        };
        reader.place = outcome.ok().map(|(at, guard)| (at.0, guard.epoch));
        reader.outcome = Some(outcome);
        self.note(format_args!("A{a} seeks partition {p} to {place:?}: {outcome:?}"));
        true
    }

    /// The source's thread tells how its last seek went.
    pub fn origin_hears_seek(&mut self, a: usize) -> bool {
        let Some(p) = self.pick_reader(a, |reader| reader.outcome.is_some()) else {
            return false;
        };
        let Some(reader) = self.a[a].readers.get_mut(&p) else {
            return false;
        };
        let (stream, outcome) = (reader.stream, reader.outcome.take());
        if reader.seek.is_some() && !planted(Trap::LatePlaceCounts) {
            // Another place was asked for meanwhile; only its outcome counts.
            return true;
        }
        self.note(format_args!(
            "A{a} hears how its seek of stream {stream} went: {outcome:?}"
        ));
        if let Some(origin) = self.a[a].streams.get_mut(&stream) {
            match outcome {
                Some(Ok((at, guard))) => origin.placed(at, guard),
                Some(Err(())) => origin.halt(Halted::Source),
                None => {}
            }
        }
        self.origin_acts(a, stream);
        true
    }

    /// Reads some records into the outbox.
    pub fn origin_polls(&mut self, a: usize) -> bool {
        // How the seek went is told before the first record behind it.
        let Some(p) = self.pick_reader(a, |reader| reader.place.is_some() && reader.outcome.is_none()) else {
            return false;
        };
        let partition = &self.partitions[p];
        let count = 1 + self.rng.below(4);
        let gateway = &mut self.a[a];
        let Some(reader) = gateway.readers.get_mut(&p) else {
            return false;
        };
        let stream = reader.stream;
        let (Some((from, epoch)), true) = (reader.place, stream == partition.stream) else {
            return false;
        };
        let (Some(origin), Some(lane)) = (
            gateway.streams.get_mut(&stream),
            gateway.disk.now.lanes.get(&stream),
        ) else {
            return false;
        };
        let truncated = epoch >= 0 && partition.end_of_epoch(epoch) < from && !planted(Trap::GuardUnchecked);
        if truncated || from > partition.end() || from < partition.log_start {
            // The broker says that the place is not in its history (KIP-320); nothing is ever reset by itself.
            reader.place = None;
            origin.halt(Halted::Source);
            self.note(format_args!(
                "A{a} finds its place {from} of stream {stream} gone"
            ));
            self.origin_acts(a, stream);
            return true;
        }
        if from == partition.end() || lane.frames.len() >= self.topology.outbox_frames_max {
            return false;
        }
        // The position rests behind what is there, never behind what compaction took.
        let (mut to, mut ahead) = (from, from);
        let mut records = Vec::new();
        let mut last_epoch = None;
        while let Some(entry) = partition.entry(ahead) {
            ahead += 1;
            if self.oracle.is_compacted(entry.key) {
                continue;
            }
            if last_epoch.is_some_and(|epoch| epoch != entry.epoch) || to - from >= count as u64 {
                break;
            }
            last_epoch = Some(entry.epoch);
            if entry.key != 0 {
                let (at, epoch, key) = (Sequence(ahead - 1), entry.epoch, entry.key);
                records.push(Rec { at, epoch, key });
            }
            to = ahead;
        }
        if to == from {
            return false;
        }
        reader.place = Some((to, last_epoch.unwrap_or(epoch)));
        if !origin.reads() {
            // Polled before the seek that is under way: discarded, the seek decides where reading goes on.
            return true;
        }
        // A batch ends at the consumer's position: what lies behind the last record is accounted for too.
        let mut end = Sequence(to);
        if planted(Trap::LastPlusOne) {
            match records.last() {
                Some(last) => end = last.at.next(),
                None => return true,
            }
        }
        let tail = lane.tail;
        records.retain(|record| record.at >= tail);
        if end <= tail {
            return true;
        }
        let begins = if planted(Trap::LastPlusOne) {
            records.first().map_or(tail, |r| r.at)
        } else {
            Sequence(from)
        };
        if begins > tail && !planted(Trap::LastPlusOne) {
            return self.violated(
                "S2",
                format!("A{a} reads stream {stream} at {from}, its outbox ends at {tail}"),
            );
        }
        let frame = Frame {
            interval: Interval::new(tail.max(begins), end),
            guard_from: origin
                .held()
                .and_then(|held| held.guard_tail)
                .unwrap_or(Guard::NONE),
            records,
            epoch: last_epoch.unwrap_or(epoch),
        };
        let guard = frame.guard_end();
        self.note(format_args!(
            "A{a} takes {} of stream {stream} in, {} records",
            frame.interval,
            frame.records.len()
        ));
        self.a[a].disk.write(Op::Append(stream, Rc::new(frame)));
        if let Some(origin) = self.a[a].streams.get_mut(&stream) {
            origin.appended(end, guard);
        }
        self.origin_acts(a, stream);
        true
    }

    /// The source's thread carries out a commit of the group's offset.
    pub fn origin_commits(&mut self, a: usize) -> bool {
        let Some(p) = self.pick_reader(a, |reader| reader.commit.is_some()) else {
            return false;
        };
        let Some(reader) = self.a[a].readers.get_mut(&p) else {
            return false;
        };
        let (Some(at), stream, generation) = (reader.commit.take(), reader.stream, reader.generation) else {
            return false;
        };
        self.check_commit_sent(a, stream, at);
        self.group.on_the_way.entry(a).or_default().push_back(Commit {
            partition: p,
            stream,
            at,
            generation,
        });
        true
    }

    /// The group gets a commit. Whoever sent it may have lost the partition since.
    pub fn group_hears_commit(&mut self, a: usize) -> bool {
        let Some(commit) = self.group.on_the_way.get_mut(&a).and_then(VecDeque::pop_front) else {
            return false;
        };
        let Commit { stream, at, .. } = commit;
        let partition = &self.partitions[commit.partition];
        let fenced = partition.generation != commit.generation && !planted(Trap::ZombieCommits);
        if fenced || partition.stream != stream {
            self.note(format_args!(
                "A{a}'s commit of stream {stream} at {at} is refused by the group"
            ));
            return true;
        }
        self.note(format_args!("the group's offset of stream {stream} is {at}"));
        self.group.committed.insert(stream, at);
        self.check_committed(stream, at);
        true
    }

    fn pick_reader(&mut self, a: usize, due: impl Fn(&Reader) -> bool) -> Option<usize> {
        let due: Vec<usize> = self.a[a]
            .readers
            .iter()
            .filter(|(_, r)| due(r))
            .map(|(p, _)| *p)
            .collect();
        self.rng.pick(&due)
    }

    // ----- the outbox ------------------------------------------------------------------------------------------

    pub fn origin_flushes(&mut self, a: usize) -> bool {
        let disk = &mut self.a[a].disk;
        if !disk.is_flushing() {
            if disk.is_dirty() {
                disk.flush_begins();
                return true;
            }
            return false;
        }
        let lies = self.faults && self.topology.disks_lie && self.rng.chance(50);
        let durable = disk.flush_ends(lies);
        for (stream, to) in durable {
            self.with_origin(a, stream, |origin| origin.durable(to));
        }
        self.note(format_args!("A{a}'s outbox is on disk"));
        while let Some((operations, stream, action)) = self.a[a].waiting.pop_front() {
            if operations > self.a[a].disk.durable {
                self.a[a].waiting.push_front((operations, stream, action));
                break;
            }
            self.origin_speaks(a, stream, action);
        }
        true
    }

    // ----- links -----------------------------------------------------------------------------------------------

    /// A session towards the sink of `route` is there; questions wait until the sink has registered through it.
    pub fn origin_linked(&mut self, a: usize, route: usize, session: u64) {
        self.a[a].sessions.insert(route, session);
    }

    pub fn origin_unlinked(&mut self, a: usize, route: usize) {
        self.a[a].sessions.remove(&route);
        self.registered.remove(&(a, route));
        let id = self.routes[route].id.clone();
        for origin in self.a[a].streams.values_mut() {
            origin.unlinked(&id);
        }
    }

    fn is_registered(&self, a: usize, route: usize) -> bool {
        self.registered.contains(&(a, route))
    }

    pub fn origin_hears(&mut self, a: usize, route: usize, current: bool, message: Message) {
        let id = self.routes[route].id.clone();
        match message {
            Message::Register if current => {
                self.registered.insert((a, route));
                let streams: Vec<usize> = self.a[a].streams.keys().copied().collect();
                for stream in streams {
                    self.with_origin(a, stream, |origin| origin.linked(&id));
                    self.offer(a, route, stream);
                }
            }
            Message::Want { stream, at } if current => {
                self.with_origin(a, stream, |origin| origin.want(&id, at));
                // The next hop asks for what was freed because the sink has it: tell it where we begin.
                let begins = self.a[a].streams.get(&stream).and_then(Origin::held);
                if begins.is_some_and(|held| at < held.base) {
                    self.offer(a, route, stream);
                }
            }
            Message::PositionIs {
                stream,
                writer,
                position,
            } => self.with_origin(a, stream, |origin| origin.position(&id, writer, position)),
            Message::Answer {
                nonce,
                writer,
                positions,
                restores,
            } => {
                for (stream, position) in positions {
                    let told = position.clone();
                    self.with_origin(a, stream, |origin| origin.answer(&id, nonce, writer, position));
                    let origin = self.a[a].streams.get(&stream);
                    let believed = origin.and_then(|origin| origin.applied(&id));
                    if told.is_some() && believed == told.as_ref() {
                        self.oracle.answered(a, stream, route, nonce, restores);
                    }
                }
            }
            _ => {}
        }
    }

    fn with_origin(&mut self, a: usize, stream: usize, tell: impl FnOnce(&mut Origin)) {
        if let Some(origin) = self.a[a].streams.get_mut(&stream) {
            tell(origin);
            self.origin_acts(a, stream);
        }
    }

    fn offer(&mut self, a: usize, route: usize, stream: usize) {
        let (Some(origin), Some(session)) = (
            self.a[a].streams.get(&stream),
            self.a[a].sessions.get(&route).copied(),
        ) else {
            return;
        };
        let Some(held) = origin.held() else { return };
        let applied = origin.applied(&self.routes[route].id).map(|position| position.at);
        let held = held.interval();
        self.send_down(
            session,
            Message::Offer {
                stream,
                held,
                applied,
            },
        );
    }

    /// Sends one frame that the next hop of some route needs.
    pub fn origin_sends(&mut self, a: usize) -> bool {
        let mut due = Vec::new();
        for (route, session) in &self.a[a].sessions {
            for (stream, origin) in &self.a[a].streams {
                if let Some(at) = origin.next_to_send(&self.routes[*route].id) {
                    due.push((*route, *session, *stream, at));
                }
            }
        }
        let Some((route, session, stream, at)) = self.rng.pick(&due) else {
            return false;
        };
        let Some(frame) = self.a[a]
            .disk
            .now
            .lanes
            .get(&stream)
            .and_then(|lane| lane.covering(at))
        else {
            return self.violated(
                "A2",
                format!("A{a} is to send stream {stream} at {at} and holds no such frame"),
            );
        };
        self.note(format_args!("A{a} sends {} of stream {stream}", frame.interval));
        let id = self.routes[route].id.clone();
        let sent = frame.interval;
        if !self.a[a].disk.has_reported(stream, sent) {
            return self.violated(
                "A2",
                format!("A{a} sends {sent} of stream {stream}, which is not on disk"),
            );
        }
        // Told before anything else can be: a wish that arrives later must win.
        self.with_origin(a, stream, |origin| origin.sent(&id, sent));
        self.send_down(session, Message::Frame { stream, frame });
        true
    }

    // ----- actions ---------------------------------------------------------------------------------------------

    fn origin_acts(&mut self, a: usize, stream: usize) {
        let Some(origin) = self.a[a].streams.get_mut(&stream) else {
            return;
        };
        for action in origin.take_actions() {
            self.note(format_args!("A{a}, stream {stream}: {action:?}"));
            let gateway = &mut self.a[a];
            match action {
                // What is said must not outlive the memory of it: a crash would make us say something else.
                Action::Begin { .. } | Action::Commit(_) if gateway.remembered > gateway.disk.durable => {
                    gateway.waiting.push_back((gateway.remembered, stream, action));
                }
                Action::Begin { .. } | Action::Commit(_) => self.origin_speaks(a, stream, action),
                action => self.origin_does(a, stream, action),
            }
        }
    }

    fn origin_speaks(&mut self, a: usize, stream: usize, action: Action) {
        match action {
            Action::Begin {
                route,
                nonce,
                start,
                guard,
            } => {
                let route = self.route_index(&route);
                if let Some(session) = self.a[a].sessions.get(&route).copied() {
                    let begin = Message::Begin {
                        nonce,
                        stream,
                        start,
                        guard,
                    };
                    self.send_down(session, begin);
                }
            }
            Action::Commit(at) => {
                // What waited through a loss of the assignment is no longer ours to say.
                let committed = self.a[a].streams.get(&stream).and_then(Origin::committed);
                let stands = committed == Some(at) || planted(Trap::CommitOnAppend);
                let reader = self.a[a]
                    .readers
                    .values_mut()
                    .find(|reader| reader.stream == stream);
                if let (Some(reader), true) = (reader, stands) {
                    reader.commit = Some(at);
                }
            }
            _ => {}
        }
    }

    fn origin_does(&mut self, a: usize, stream: usize, action: Action) {
        match action {
            Action::Ask { route, nonce } => {
                let route = self.route_index(&route);
                self.oracle.asked(a, stream, route, nonce);
                if let Some(session) = self.a[a].sessions.get(&route).copied() {
                    let streams = vec![stream];
                    self.send_down(session, Message::Ask { nonce, streams });
                }
            }
            Action::Restart(at) => {
                let held = self.a[a].streams.get(&stream).and_then(Origin::held);
                let guard = held
                    .filter(|held| held.base == at)
                    .and_then(|held| held.guard_base);
                self.a[a].disk.restart(stream, at, guard);
                for route in 0..self.routes.len() {
                    if self.is_registered(a, route) && !planted(Trap::RestartUntold) {
                        self.offer(a, route, stream);
                    }
                }
            }
            Action::Place(place) => {
                let reader = self.a[a]
                    .readers
                    .values_mut()
                    .find(|reader| reader.stream == stream);
                match reader {
                    Some(reader) => reader.seek = Some(place),
                    None => {
                        // Its topic is gone: there is nothing that could be read.
                        if let Some(origin) = self.a[a].streams.get_mut(&stream) {
                            origin.halt(Halted::Source);
                        }
                        self.origin_acts(a, stream);
                    }
                }
            }
            Action::Trim(below) => {
                self.check_trim(a, stream, below);
                self.a[a].disk.write(Op::Trim(stream, below));
            }
            Action::RememberStart(at) => {
                self.a[a].disk.write(Op::Start(stream, at));
                self.a[a].remembered = self.a[a].disk.written;
            }
            Action::RememberKnown(route) => {
                let route = self.route_index(&route);
                self.a[a].disk.write(Op::Known(stream, route));
                self.a[a].remembered = self.a[a].disk.written;
            }
            Action::Halt(why) => self.check_halt(a, stream, &why),
            Action::Begin { .. } | Action::Commit(_) => {}
        }
    }
}

/// What the source does about a seek (A1).
fn seek(partition: &Partition, oracle: &Oracle, place: Place) -> Result<(Sequence, Guard), ()> {
    let Place::At { at, guard } = place else {
        return Ok((Sequence(partition.log_start), Guard::NONE));
    };
    if at.0 < partition.log_start || partition.end() < at.0 {
        return Err(());
    }
    if planted(Trap::GuardUnchecked) {
        return Ok((at, guard));
    }
    if guard.epoch >= 0 && partition.end_of_epoch(guard.epoch) < at.0 {
        return Err(());
    }
    let before =
        at.0.checked_sub(1)
            .filter(|before| *before >= partition.log_start);
    let visible = |entry: &Entry| entry.key != 0 && !oracle.is_compacted(entry.key);
    let found = before.and_then(|before| partition.entry(before)).filter(visible);
    match found {
        Some(entry) => {
            let (epoch, key) = (entry.epoch, entry.key);
            let found = Rec { at, epoch, key }.guard();
            let same = guard.crc == 0 || guard.crc == found.crc;
            if same { Ok((at, found)) } else { Err(()) }
        }
        None => Ok((at, guard)),
    }
}
