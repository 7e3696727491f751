//! The world: everything there is, and one step of it at a time.

use super::net::{Late, Message, Node, Session};
use super::oracle::{Oracle, Violation};
use super::origin::OriginGateway;
use super::outbox::{Image, Outbox};
use super::relay::Relay;
use super::rng::Rng;
use super::sink::SinkGateway;
use super::source::{Entry, Group, Partition, StreamHistory};
use super::store::{Kind, Store};
use super::trace::{Stats, Trace};
use culvert_proto::stream::RouteId;
use culvert_proto::traps::{Trap, planted};
use culvert_proto::{Lineage, StreamId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// What the seed makes of the world before its first step.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Gateways of the origin's site, which share the partitions out among them.
    pub gateways: usize,
    pub partitions: usize,
    pub routes: usize,
    /// Relays in a row on each route.
    pub relays: usize,
    pub sink: Kind,
    pub records_max: usize,
    pub outbox_frames_max: usize,
    /// Percent of commits that go wrong.
    pub commit_faults: u64,
    /// Steps with faults, before the calm.
    pub steps: usize,
    /// One fault in so many steps, about.
    pub fault_rarity: usize,
    /// Whether the source's history may change or be lost.
    pub history_changes: bool,
    /// Whether the sink may be restored from a backup.
    pub sink_restores: bool,
    /// Whether disks of origins and relays report durable what is not.
    pub disks_lie: bool,
    /// Whether outboxes are copied, and copies put in the place of newer ones, or of another gateway's.
    pub outbox_copies: bool,
    /// Offset of the first record there is.
    pub first_offset: u64,
}

impl Topology {
    fn draw(rng: &mut Rng) -> Topology {
        let firsts = [
            0,
            0,
            0,
            1,
            7,
            255,
            65_534,
            u64::from(u32::MAX) - 3,
            i64::MAX as u64 - 10_000,
        ];
        Topology {
            gateways: [2, 2, 3][rng.below(3)],
            partitions: 1 + rng.below(2),
            routes: if rng.chance(25) { 2 } else { 1 },
            relays: [0, 0, 0, 1, 1, 2][rng.below(6)],
            sink: if rng.chance(65) {
                Kind::Transactional
            } else {
                Kind::CompareAndSet
            },
            records_max: 4 + rng.below(36),
            outbox_frames_max: [3, 8, 1_000][rng.below(3)],
            commit_faults: [0, 5, 20, 40][rng.below(4)],
            steps: 100 + rng.below(700),
            fault_rarity: [8, 20, 60, 1_000_000][rng.below(4)],
            history_changes: rng.chance(25),
            sink_restores: rng.chance(25),
            disks_lie: rng.chance(20),
            outbox_copies: rng.chance(20),
            first_offset: firsts[rng.below(firsts.len())],
        }
    }
}

pub struct Route {
    pub id: RouteId,
}

pub struct World {
    pub rng: Rng,
    pub topology: Topology,
    pub trace: Trace,
    pub stats: Stats,
    pub oracle: Oracle,
    pub violation: Option<Violation>,
    /// Whether faults still happen.
    pub faults: bool,

    pub partitions: Vec<Partition>,
    pub histories: Vec<StreamHistory>,
    pub group: Group,
    pub routes: Vec<Route>,
    pub stores: Vec<Store>,
    pub a: Vec<OriginGateway>,
    pub b: Vec<Relay>,
    pub c: Vec<SinkGateway>,

    pub sessions: BTreeMap<u64, Session>,
    session_last: u64,
    pub late: Vec<Late>,
    /// (gateway of the origin, route) whose sink has registered through the live session.
    pub registered: BTreeSet<(usize, usize)>,
    pub keys: u64,
    /// Copies of outboxes, and whose they are.
    pub copies: Vec<(Node, Image)>,
}

impl World {
    pub fn new(seed: u64, loud: bool) -> World {
        let mut rng = Rng::new(seed);
        let topology = Topology::draw(&mut rng);
        let routes: Vec<Route> = (0..topology.routes)
            .map(|route| Route {
                id: RouteId::new("sink", &format!("c{route}")),
            })
            .collect();
        let mut world = World {
            rng,
            trace: Trace::new(loud),
            stats: Stats::default(),
            oracle: Oracle::default(),
            violation: None,
            faults: true,
            partitions: Vec::new(),
            histories: Vec::new(),
            group: Group::default(),
            stores: routes.iter().map(|_| Store::new(topology.sink)).collect(),
            a: (0..topology.gateways).map(|_| OriginGateway::default()).collect(),
            b: Vec::new(),
            c: Vec::new(),
            routes,
            topology,
            sessions: BTreeMap::new(),
            session_last: 0,
            late: Vec::new(),
            registered: BTreeSet::new(),
            keys: 0,
            copies: Vec::new(),
        };
        for route in 0..world.routes.len() {
            for hop in 0..world.topology.relays {
                world.b.push(Relay {
                    route,
                    hop,
                    up: true,
                    disk: Outbox::default(),
                    queues: BTreeMap::new(),
                    uppers: BTreeSet::new(),
                    lower: None,
                    registered: false,
                    passed: false,
                });
            }
            world.c.push(SinkGateway::new(route, 0));
            world.c.push(SinkGateway::new(route, 1));
        }
        for p in 0..world.topology.partitions {
            let stream = world.new_stream(p, world.topology.first_offset);
            world.partitions.push(Partition {
                stream,
                base: world.topology.first_offset,
                log: Vec::new(),
                log_start: world.topology.first_offset,
                epoch: 0,
                owner: 0,
                generation: 1,
            });
        }
        for a in 0..world.a.len() {
            world.origin_starts(a);
        }
        world.note(format_args!("{:?}", world.topology.clone()));
        world
    }

    /// A topic was made: its partition gives a stream.
    pub fn new_stream(&mut self, partition: usize, base: u64) -> usize {
        let index = self.histories.len();
        let mut topic = [0; 16];
        if !planted(Trap::TopicByName) {
            topic[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        }
        let same_name = |history: &StreamHistory| history.partition == partition;
        if let (true, Some(same)) = (
            planted(Trap::TopicByName),
            self.histories.iter().position(same_name),
        ) {
            return same;
        }
        self.histories.push(StreamHistory {
            id: StreamId {
                site: "factory".into(),
                topic: "orders".into(),
                partition: partition as u32,
                lineage: Lineage::Replayable {
                    cluster: "k".into(),
                    topic,
                },
            },
            partition,
            alive: true,
            base,
            branches: Vec::new(),
            last: Vec::new(),
            truncated: false,
            passed: false,
        });
        index
    }

    pub fn stream_index(&self, id: &StreamId) -> usize {
        self.histories
            .iter()
            .position(|history| history.id == *id)
            .unwrap_or(usize::MAX)
    }

    pub fn route_index(&self, id: &RouteId) -> usize {
        self.routes
            .iter()
            .position(|route| route.id == *id)
            .unwrap_or(usize::MAX)
    }

    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.trace.note(what);
    }

    /// Something that must never be. Always true, so that a step can end with it.
    pub fn violated(&mut self, invariant: &'static str, seen: String) -> bool {
        self.note(format_args!("VIOLATED {invariant}: {seen}"));
        self.violation.get_or_insert(Violation { invariant, seen });
        true
    }

    // ----- steps -----------------------------------------------------------------------------------------------

    /// Does one thing that can be done now, if the first few drawn can.
    pub fn step(&mut self) -> bool {
        self.trace.step += 1;
        self.stats.steps += 1;
        if self.faults && self.rng.below(self.topology.fault_rarity) == 0 && self.fault() {
            return true;
        }
        for _ in 0..12 {
            if self.act() {
                return true;
            }
        }
        false
    }

    fn act(&mut self) -> bool {
        let a = self.rng.below(self.a.len());
        let b = self.rng.below(self.b.len().max(1));
        let c = self.rng.below(self.c.len());
        let up_a = self.origin_runs(a);
        let up_b = self.b.get(b).is_some_and(|relay| relay.up);
        let up_c = self.c[c].up;
        match self.rng.below(101) {
            0..7 => self.faults && self.producer_writes(),
            7..13 => up_a && self.origin_notices_group(a),
            13..19 => up_a && self.origin_seeks(a),
            19..25 => up_a && self.origin_hears_seek(a),
            25..32 => up_a && self.origin_polls(a),
            32..38 => up_a && self.origin_flushes(a),
            38..40 => up_a && self.origin_commits(a),
            40..42 => self.group_hears_commit(a),
            42..52 => up_a && self.origin_sends(a),
            52..58 => up_b && self.relay_sends(b),
            58..62 => up_b && self.relay_flushes(b),
            62..74 => up_c && self.sink_works(c),
            74..94 => self.network_delivers(),
            94..95 => self.network_delivers_late(),
            95..97 => self.network_connects(),
            97..99 => self.network_tells_cut(),
            99 => self.origin_returns(a),
            _ => self.faults && self.retention(),
        }
    }

    fn origin_runs(&self, a: usize) -> bool {
        self.a[a].up && self.a[a].paused_until <= self.trace.step
    }

    /// Whether it can hear something now.
    fn listens(&self, node: Node) -> bool {
        match node {
            Node::A(a) => self.origin_runs(a),
            Node::B(b) => self.b[b].up,
            Node::C(c) => self.sink_is_free(c),
        }
    }

    fn producer_writes(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        if self.partitions[p].log.len() >= self.topology.records_max {
            return false;
        }
        let control = self.rng.chance(15);
        for _ in 0..=self.rng.below(3) {
            self.keys += 1;
            let key = if control { 0 } else { self.keys };
            let partition = &mut self.partitions[p];
            let epoch = partition.epoch;
            partition.log.push(Entry { epoch, key });
            self.stats.records += u64::from(!control);
        }
        if self.rng.chance(10) {
            self.partitions[p].epoch += 1;
        }
        true
    }

    /// The worst that a source's retention may do: delete all that the group has committed.
    fn retention(&mut self) -> bool {
        let p = self.rng.below(self.partitions.len());
        let committed = self.group.committed.get(&self.partitions[p].stream).copied();
        let partition = &mut self.partitions[p];
        let Some(at) = committed.filter(|at| at.0 > partition.log_start && at.0 <= partition.end()) else {
            return false;
        };
        partition.log_start = at.0;
        self.note(format_args!("retention deletes partition {p} below {at}"));
        self.check_passed(p);
        true
    }

    // ----- the network -----------------------------------------------------------------------------------------

    pub fn send_down(&mut self, session: u64, message: Message) {
        self.send(session, message, true);
    }

    pub fn send_up(&mut self, session: u64, message: Message) {
        self.send(session, message, false);
    }

    fn send(&mut self, session: u64, message: Message, down: bool) {
        let Some(present) = self.sessions.get_mut(&session) else {
            return;
        };
        if present.cut {
            let to = if down { present.lower } else { present.upper };
            let route = present.route;
            return self.leave_behind(to, route, message);
        }
        match message {
            Message::Frame { stream, frame } => present.lanes.entry(stream).or_default().push_back(frame),
            message if down => present.to_lower.push_back(message),
            message => present.to_upper.push_back(message),
        }
    }

    /// A message of a dead session: most are lost, some come late.
    fn leave_behind(&mut self, to: Node, route: usize, message: Message) {
        if message.may_come_late() && self.rng.chance(60) && self.late.len() < 60 {
            self.late.push(Late { to, route, message });
        }
    }

    fn network_delivers(&mut self) -> bool {
        let live: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.cut)
            .map(|(id, _)| *id)
            .collect();
        let Some(id) = self.rng.pick(&live) else {
            return false;
        };
        let way = self.rng.below(4);
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let (to, route) = (
            if way == 0 { session.upper } else { session.lower },
            session.route,
        );
        if !self.listens(to) {
            return false;
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let message = match way {
            0 => session.to_upper.pop_front(),
            1 => session.to_lower.pop_front(),
            _ => {
                let lanes: Vec<usize> = session.lanes.keys().copied().collect();
                self.rng.pick(&lanes).and_then(|stream| {
                    let frame = session.lanes.get_mut(&stream)?.pop_front()?;
                    Some(Message::Frame { stream, frame })
                })
            }
        };
        let Some(message) = message else { return false };
        if let Message::Frame { stream, frame } = &message
            && self.rng.below(16) == 0
        {
            self.check_bytes(*stream, frame);
        }
        self.hears(to, route, Some(id), message);
        true
    }

    fn network_delivers_late(&mut self) -> bool {
        if self.late.is_empty() {
            return false;
        }
        let index = self.rng.below(self.late.len());
        let late = if self.rng.chance(30) {
            self.late[index].clone()
        } else {
            self.late.swap_remove(index)
        };
        let up = self.listens(late.to);
        if up {
            self.stats.late += 1;
            self.note(format_args!("late to {:?}: {:?}", late.to, brief(&late.message)));
            self.hears(late.to, late.route, None, late.message);
        }
        up
    }

    fn hears(&mut self, to: Node, route: usize, session: Option<u64>, message: Message) {
        if self.trace.loud() {
            self.note(format_args!("{to:?} hears {:?}", brief(&message)));
        }
        self.stats.messages += 1;
        match to {
            Node::A(a) => {
                let current = session.is_some() && self.a[a].sessions.get(&route).copied() == session;
                self.origin_hears(a, route, current, message);
            }
            Node::B(b) => self.relay_hears(b, session, message),
            Node::C(c) => self.sink_hears(c, session, message),
        }
    }

    /// Somebody who has no way towards a sink finds one.
    fn network_connects(&mut self) -> bool {
        let mut due = Vec::new();
        for route in 0..self.routes.len() {
            for a in 0..self.a.len() {
                if self.a[a].up && !self.a[a].sessions.contains_key(&route) {
                    due.push((Node::A(a), route, 0));
                }
            }
        }
        for (b, relay) in self.b.iter().enumerate() {
            if relay.up && relay.lower.is_none() {
                due.push((Node::B(b), relay.route, relay.hop + 1));
            }
        }
        let Some((upper, route, hop)) = self.rng.pick(&due) else {
            return false;
        };
        let mut lowers = Vec::new();
        if hop < self.topology.relays {
            let relay = self
                .b
                .iter()
                .position(|relay| relay.route == route && relay.hop == hop && relay.up);
            lowers.extend(relay.map(Node::B));
        } else {
            let sinks = self
                .c
                .iter()
                .enumerate()
                .filter(|(_, c)| c.route == route && c.up);
            lowers.extend(sinks.map(|(c, _)| Node::C(c)));
        }
        let Some(lower) = self.rng.pick(&lowers) else {
            return false;
        };
        self.session_last += 1;
        let id = self.session_last;
        self.note(format_args!(
            "session {id}: {upper:?} to {lower:?} for route {route}"
        ));
        self.sessions.insert(
            id,
            Session {
                route,
                upper,
                lower,
                to_lower: VecDeque::new(),
                to_upper: VecDeque::new(),
                lanes: BTreeMap::new(),
                cut: false,
                upper_knows: false,
                lower_knows: false,
            },
        );
        match upper {
            Node::A(a) => self.origin_linked(a, route, id),
            Node::B(b) => self.b[b].lower = Some(id),
            Node::C(_) => {}
        }
        match lower {
            Node::B(b) => {
                self.b[b].uppers.insert(id);
                if self.b[b].registered {
                    self.send_up(id, Message::Register);
                }
            }
            Node::C(c) => self.sink_linked(c, id),
            Node::A(_) => {}
        }
        true
    }

    /// The session is over; its ends hear of it when they do.
    pub fn cut(&mut self, id: u64) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.cut = true;
        let (upper, lower, route) = (session.upper, session.lower, session.route);
        let down: Vec<Message> = session.to_lower.drain(..).collect();
        let up: Vec<Message> = session.to_upper.drain(..).collect();
        let lanes = std::mem::take(&mut session.lanes);
        self.note(format_args!("session {id} is cut"));
        for message in down {
            self.leave_behind(lower, route, message);
        }
        for (stream, frames) in lanes {
            for frame in frames {
                self.leave_behind(lower, route, Message::Frame { stream, frame });
            }
        }
        for message in up {
            self.leave_behind(upper, route, message);
        }
    }

    fn network_tells_cut(&mut self) -> bool {
        let cut: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.cut)
            .map(|(id, _)| *id)
            .collect();
        let Some(id) = self.rng.pick(&cut) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let (upper, lower, route) = (session.upper, session.lower, session.route);
        if !session.upper_knows && (session.lower_knows || self.rng.chance(50)) {
            session.upper_knows = true;
            self.forget_session(upper, route, id);
        } else if !session.lower_knows {
            session.lower_knows = true;
            self.forget_session(lower, route, id);
        } else {
            self.sessions.remove(&id);
        }
        true
    }

    /// A node forgets a session that it had.
    fn forget_session(&mut self, node: Node, route: usize, id: u64) {
        match node {
            Node::A(a) => {
                if self.a[a].sessions.get(&route) == Some(&id) {
                    self.origin_unlinked(a, route);
                }
            }
            Node::B(b) => {
                let relay = &mut self.b[b];
                relay.uppers.remove(&id);
                if relay.lower == Some(id) {
                    relay.lower = None;
                    relay.registered = false;
                    for queue in relay.queues.values_mut() {
                        queue.unlinked();
                    }
                }
            }
            Node::C(c) => {
                self.c[c].uppers.remove(&id);
            }
        }
    }

    /// A process ends: its sessions do too.
    pub fn cut_all_of(&mut self, node: Node) {
        let of_node: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.cut && (s.upper == node || s.lower == node))
            .map(|(id, _)| *id)
            .collect();
        for id in of_node {
            self.cut(id);
        }
        for session in self.sessions.values_mut() {
            session.upper_knows |= session.upper == node;
            session.lower_knows |= session.lower == node;
        }
    }
}

/// A message without what is in its frame, for the trace.
pub fn brief(message: &Message) -> String {
    match message {
        Message::Frame { stream, frame } => format!("Frame {} of stream {stream}", frame.interval),
        Message::Answer {
            nonce,
            writer,
            positions,
            ..
        } => {
            let at: Vec<_> = positions
                .iter()
                .map(|(s, p)| (*s, p.as_ref().map(|p| p.at.0)))
                .collect();
            format!("Answer {:x} {at:?} by {:x}", *nonce as u16, *writer as u16)
        }
        Message::PositionIs {
            stream,
            writer,
            position,
        } => format!(
            "PositionIs {} of stream {stream} by {:x}",
            position.at, *writer as u16
        ),
        other => format!("{other:?}"),
    }
}
