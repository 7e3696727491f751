//! The origin's side of one stream: where to read, what may be sent, freed and committed (rules A1-A7).
//!
//! One [`Origin`] lives in the gateway that a stream is assigned to. It is told what happened and answers with
//! [`Action`]s; it holds no record. Every route that reads the stream has a [`Route`] in it.
//!
//! What it keeps, by the numbers in `ARCHITECTURE.md`:
//! - S4: `applied` of a route never exceeds what its sink said, in answer to a question of ours or by the same
//!   writer since (A4). A relay's wish ([`Origin::want`]) moves only where we send from.
//! - S5: nothing is freed or committed beyond the lowest `applied` of all registered routes, and nothing while one
//!   of them is unknown.
//! - A1: reading begins at a fresh position with its guard. Until one was heard, at what the outbox or the source's
//!   group remembers, provisionally: such a start is read again once the position is known.
//! - A6: the group's offset moves only on fresh knowledge, and back only after a fresh lower position.

use crate::position::{Guard, Position, Seam};
use crate::sequence::{Interval, Sequence};
use crate::stream::RouteId;
use crate::traps::{Trap, planted};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// The origin's side of one stream.
#[derive(Clone, Debug)]
pub struct Origin {
    replayable: bool,
    start: Option<Sequence>,
    held: Option<Held>,
    reading: Reading,
    committed: Option<Sequence>,
    routes: BTreeMap<RouteId, Route>,
    halted: Option<Halted>,
    /// The place that the source refused last.
    refused: Option<Place>,
    nonce: u128,
    actions: Vec<Action>,
}

/// What the outbox holds of the stream: `[base, tail)`, of which `[base, durable)` is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The first place that can be sent.
    pub base: Sequence,
    /// The first place that is not on disk yet. Nothing at or behind it is sent (A2).
    pub durable: Sequence,
    /// The first place that was not appended yet; intake goes on here.
    pub tail: Sequence,
    /// Identity of the record before `base`, if it is known: the first frame starts with it.
    pub guard_base: Option<Guard>,
    /// Identity of the record before `tail`, if it is known.
    pub guard_tail: Option<Guard>,
}

impl Held {
    fn empty_at(at: Sequence, guard: Option<Guard>) -> Held {
        Held {
            base: at,
            durable: at,
            tail: at,
            guard_base: guard,
            guard_tail: guard,
        }
    }

    /// `[base, tail)`.
    #[must_use]
    pub fn interval(&self) -> Interval {
        Interval::new(self.base, self.tail)
    }
}

/// How far the reading side of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Assigned to another gateway, or to none.
    Elsewhere,
    /// Ours, and no place to begin at is known yet.
    Waiting,
    /// The source was told to read there and has not confirmed.
    Placing(Place),
    /// Records arrive at the tail.
    Here,
}

/// What the origin knows of one route.
#[derive(Clone, Debug)]
struct Route {
    incarnation: u32,
    /// Not a sink, but who keeps what does not go on.
    beside: bool,
    /// The sink once named a position of this stream: if it names none any more, it lost it.
    known: bool,
    linked: bool,
    asked: Option<u128>,
    /// Who answered our last question; positions of any other writer only make us ask again.
    writer: Option<u128>,
    /// The sink's position as last heard: `applied`.
    position: Option<Position>,
    /// The sink answered that it holds nothing, and waits to be told the beginning.
    beginning: bool,
    /// Where the next hop must be sent to from, in this session: what it asked for, and what was sent since.
    cursor: Option<Sequence>,
}

impl Route {
    fn applied(&self) -> Option<Sequence> {
        self.position.as_ref().map(|position| position.at)
    }

    fn is_fresh(&self) -> bool {
        self.writer.is_some() && self.asked.is_none() && self.position.is_some()
    }

    /// What to say to a sink that waits to be told the beginning.
    fn begin(&mut self, route: &RouteId, start: Sequence, guard: Guard) -> Option<Action> {
        let nonce = self.asked.filter(|_| self.beginning && self.linked)?;
        self.beginning = false;
        Some(Action::Begin {
            route: route.clone(),
            nonce,
            start,
            guard,
        })
    }
}

/// What the gateway must do next, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the sink of `route` for its position of this stream.
    Ask {
        /// The route.
        route: RouteId,
        /// Names the question; the answer repeats it.
        nonce: u128,
    },
    /// Tell the sink of `route`, which holds nothing of this stream, where it begins.
    Begin {
        /// The route.
        route: RouteId,
        /// Names the question; the answer repeats it.
        nonce: u128,
        /// The first place of the stream.
        start: Sequence,
        /// Identity of the record before it.
        guard: Guard,
    },
    /// Forget what the outbox holds of this stream; it goes on, empty, at this place.
    Restart(Sequence),
    /// Make the source read from here on; answered by [`Origin::placed`] or [`Origin::halt`].
    Place(Place),
    /// Free what lies below.
    Trim(Sequence),
    /// Commit this place for the source's group.
    Commit(Sequence),
    /// Remember durably where this stream began; before any later action.
    RememberStart(Sequence),
    /// Remember durably that the sink of this route has a position of this stream.
    RememberKnown(RouteId),
    /// The stream stands still until an operator decides.
    Halt(Halted),
}

/// Where the source is to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where the connector's `culvert.start` says; this stream was never read before.
    Beginning,
    /// Exactly here, behind the record that the guard names.
    At {
        /// The next record.
        at: Sequence,
        /// Identity of the record before it, as far as it is known.
        guard: Guard,
    },
}

/// Why the stream stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halted {
    /// The sink had a position of this stream and has none any more. Beginning again would deliver twice.
    PositionLost {
        /// The route whose sink lost it.
        route: RouteId,
    },
    /// A route wants what this outbox no longer holds, and the source cannot be read again.
    Gone {
        /// The place wanted.
        wanted: Sequence,
        /// What is held.
        held: Interval,
    },
    /// The record before the sink's position is not the one that we hold there: the source's history changed.
    Forked {
        /// The route whose sink holds another record.
        route: RouteId,
        /// Its position, and the end of what we hold.
        at: Sequence,
    },
    /// The source refused the place: its history changed or the place is gone. The reason is the source's.
    Source,
    /// The next record cannot go on: a stage refused it, or it is above a limit. Reading it again would change nothing.
    Record,
}

impl Origin {
    /// An origin that holds nothing and is not assigned. `seed` makes the nonces of its questions unlike those of
    /// any other origin; it must be random.
    #[must_use]
    pub fn new(replayable: bool, seed: u128) -> Origin {
        Origin {
            replayable,
            start: None,
            held: None,
            reading: Reading::Elsewhere,
            committed: None,
            routes: BTreeMap::new(),
            halted: None,
            refused: None,
            nonce: seed,
            actions: Vec::new(),
        }
    }

    /// What this gateway's own disk remembers from an earlier life.
    pub fn restored(&mut self, start: Option<Sequence>, held: Option<Held>) {
        self.start = start;
        self.held = held;
    }

    /// The actions due, oldest first.
    #[must_use]
    pub fn take_actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.actions)
    }

    // ----- the source ------------------------------------------------------------------------------------------

    /// The stream is ours to read. `committed` is what its group remembers.
    pub fn assigned(&mut self, committed: Option<Sequence>) {
        self.reading = Reading::Waiting;
        self.committed = committed;
        self.halted = None;
        self.refused = None;
        let routes: Vec<RouteId> = self.routes.keys().cloned().collect();
        for route in routes {
            self.ask(&route);
        }
        match self.held {
            Some(Held {
                tail,
                guard_tail: Some(guard),
                ..
            }) => self.place(Place::At { at: tail, guard }),
            // What the outbox has left does not say which record came last: read it again where the group was.
            _ => match committed.or(self.start) {
                Some(at) => self.restart(at, None),
                None if self.routes.is_empty() => self.place(Place::Beginning),
                None => {}
            },
        }
    }

    /// The stream is no longer ours. What is held stays until the sink has it or it is assigned again.
    pub fn revoked(&mut self) {
        self.reading = Reading::Elsewhere;
        for route in self.routes.values_mut() {
            route.cursor = None;
        }
    }

    /// The source reads from `at` on; `guard` names what lies before it if that is known. Only the outcome of the last
    /// [`Action::Place`] may be told: an earlier one that comes late must be dropped.
    pub fn placed(&mut self, at: Sequence, guard: Guard) {
        match self.reading {
            Reading::Placing(Place::Beginning) => {}
            Reading::Placing(Place::At { at: told, .. }) if told == at || planted(Trap::LatePlaceCounts) => {}
            _ => return,
        }
        // Where nothing was delivered yet, nothing before the place needs to be proven.
        let begins = self.reading == Reading::Placing(Place::Beginning);
        let guard = (begins || guard != Guard::NONE).then_some(guard);
        self.reading = Reading::Here;
        self.refused = None;
        self.halted.take_if(|why| *why == Halted::Source);
        match &mut self.held {
            Some(held) if held.tail == at => {
                held.guard_tail = guard.or(held.guard_tail);
                if held.base == at {
                    held.guard_base = held.guard_tail.or(held.guard_base);
                }
            }
            _ => {
                self.held = Some(Held::empty_at(at, guard));
                self.actions.push(Action::Restart(at));
                self.send_from_base();
            }
        }
        // A place that is only remembered, by the group or the outbox, does not say where the stream began.
        if let (None, Some(start)) = (self.start, if begins { Some(at) } else { self.begun_at() }) {
            self.remember_start(start);
        }
        self.begin_waiting_routes();
    }

    /// The source cannot read where it was last told to, or not where it reads. Stands until a fresh position names another
    /// place, or an operator decides.
    ///
    /// A place may be refused because only we still believe in it: the outbox of a gateway that was away ends where
    /// the source has long deleted what all sinks have. So the sinks are asked first, and a place is only halted at
    /// once it was refused again after all of them have answered.
    pub fn halt(&mut self, why: Halted) {
        if why == Halted::Source && self.asks_first() {
            return;
        }
        self.halted = Some(why.clone());
        self.actions.push(Action::Halt(why));
    }

    /// Whether records of this stream are taken in at its tail now.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.reading == Reading::Here && self.halted.is_none()
    }

    /// What lies before `to` was appended to the outbox; `guard` names the last place of it.
    pub fn appended(&mut self, to: Sequence, guard: Guard) {
        if let Some(held) = &mut self.held {
            held.tail = held.tail.max(to);
            held.guard_tail = Some(guard);
        }
        if planted(Trap::CommitOnAppend) {
            self.actions.push(Action::Commit(to));
        }
    }

    /// Everything below `to` is on disk.
    pub fn durable(&mut self, to: Sequence) {
        if let Some(held) = &mut self.held {
            held.durable = held.durable.max(to.min(held.tail));
        }
        // What the sinks had before it was on disk can be freed now.
        if !self.finds_fork() {
            self.trim();
        }
    }

    // ----- the routes ------------------------------------------------------------------------------------------

    /// A sink reads this stream from now on. `known` if this gateway remembers that it once named a position.
    pub fn register(&mut self, route: RouteId, incarnation: u32, known: bool) {
        self.register_as(route, incarnation, known, false);
    }

    /// As [`Origin::register`], for who keeps what does not go on, such as dead letters. It holds back what is freed and
    /// committed as a sink does, and without a sink it lets nothing go. Where it holds nothing of a stream that is under
    /// way, it begins where the sinks are; they are sent nothing before it has begun.
    pub fn register_beside(&mut self, route: RouteId, incarnation: u32, known: bool) {
        self.register_as(route, incarnation, known, true);
    }

    fn register_as(&mut self, route: RouteId, incarnation: u32, known: bool, beside: bool) {
        let fresh = Route {
            incarnation,
            beside,
            known,
            linked: false,
            asked: None,
            writer: None,
            position: None,
            beginning: false,
            cursor: None,
        };
        match self.routes.get(&route) {
            Some(present) if present.incarnation == incarnation => {}
            _ => {
                self.begin_route_anew(&route);
                self.routes.insert(route, fresh);
            }
        }
    }

    /// The operator has decided about what this route halted for. What the source went on to hand over was left out, so
    /// it is placed anew.
    fn begin_route_anew(&mut self, route: &RouteId) {
        let decided = self.halted.take_if(|why| match why {
            Halted::PositionLost { route: of } | Halted::Forked { route: of, .. } => of == route,
            Halted::Gone { .. } => true,
            Halted::Source | Halted::Record => false,
        });
        if let (Some(_), Reading::Here | Reading::Placing(_), Some(place)) =
            (decided, self.reading, self.tail_place())
        {
            self.place(place);
        }
    }

    /// The sink no longer reads this stream: it holds back nothing any more.
    pub fn forget(&mut self, route: &RouteId) {
        self.routes.remove(route);
        self.settle();
    }

    /// There is a way to the sink of `route`, or the way beyond the next hop is a new one: ask the sink where it
    /// stands. What the next hop wished in this session still holds.
    pub fn linked(&mut self, route: &RouteId) {
        if let Some(present) = self.routes.get_mut(route) {
            present.linked = true;
            self.ask(route);
        }
    }

    /// The way to the sink of `route` is cut.
    pub fn unlinked(&mut self, route: &RouteId) {
        if let Some(present) = self.routes.get_mut(route) {
            present.linked = false;
            present.cursor = None;
        }
    }

    /// The sink's answer to our question `nonce`: a fresh position, the only thing that may move us back (A4).
    pub fn answer(&mut self, route: &RouteId, nonce: u128, writer: u128, position: Option<Position>) {
        let Some(present) = self.routes.get_mut(route) else {
            return;
        };
        if present.asked != Some(nonce) && !planted(Trap::AnyAnswerCounts) {
            return;
        }
        let Some(position) = position else {
            return self.answered_none(route);
        };
        if position.incarnation != present.incarnation {
            return;
        }
        present.asked = None;
        present.beginning = false;
        present.writer = Some(writer);
        if present.applied().is_some_and(|applied| position.at < applied) {
            // The sink went back: it was restored. So do we, and so does the group's offset (A6).
            self.committed = None;
        }
        if present.cursor.is_some_and(|cursor| position.at < cursor) {
            present.cursor = Some(position.at);
        }
        present.position = Some(position);
        if !core::mem::replace(&mut present.known, true) {
            self.actions.push(Action::RememberKnown(route.clone()));
        }
        self.begin_beside();
        if let (None, Some(start)) = (self.start, self.begun_at()) {
            self.remember_start(start);
            self.begin_waiting_routes();
        }
        let refused = self.halted == Some(Halted::Source) && self.reading != Reading::Elsewhere;
        if refused || self.reading == Reading::Waiting {
            self.retry_place();
        }
        self.settle();
    }

    /// A position that the sink of `route` made known by itself: moves `applied` forward, never back (A4).
    pub fn position(&mut self, route: &RouteId, writer: u128, position: Position) {
        let Some(present) = self.routes.get_mut(route) else {
            return;
        };
        if present.incarnation != position.incarnation {
            return;
        }
        if planted(Trap::StaleGoesBack) && present.position.is_some() {
            present.position = Some(position);
            self.committed = None;
            return self.settle();
        }
        if present.writer != Some(writer) {
            // Another writer has the sink now; what it says counts once it has answered a question of ours.
            // So does what somebody begun after it had answered that there was nothing.
            if present.asked.is_none() || present.beginning {
                self.ask(route);
            }
            return;
        }
        if present.applied().is_none_or(|applied| applied < position.at) {
            present.position = Some(position);
            self.settle();
        }
    }

    /// The next hop asks to be sent to from `at`. Says nothing about what the sink holds: moves neither `applied`
    /// nor where we read. Who asks for less than is held is either a relay that is behind the sink, or the sink has
    /// gone back: offer it what is held, and the one will ask anew, the other tell its position.
    pub fn want(&mut self, route: &RouteId, at: Sequence) {
        let base = self.held.map(|held| held.base);
        if let Some(present) = self.routes.get_mut(route) {
            present.cursor = Some(at).filter(|at| Some(*at) >= base);
            if let (true, Some(position)) = (planted(Trap::HopIsTruth), &mut present.position) {
                position.at = position.at.max(at);
                self.settle();
            }
        }
    }

    /// Where `route` must be sent from next, if there is anything on disk to send there, and it is known to follow
    /// what lies before it. Where reading began provisionally at a bare number, nothing is sent before the sink has
    /// said where it stands: its gateway could not tell our history from another one.
    #[must_use]
    pub fn next_to_send(&self, route: &RouteId) -> Option<Sequence> {
        let (held, cursor) = (self.held?, self.routes.get(route)?.cursor?);
        let on_disk = held.base <= cursor && cursor < held.durable;
        // What cannot be read again is nowhere else: it goes on its way whether or not anything is added to it.
        let ours = self.reading != Reading::Elsewhere || !self.replayable;
        // A sink that is beyond where somebody beside it begins would hide what did not go on before that.
        let all_begun = self.routes.values().all(|route| !route.beside || route.known);
        let sendable = on_disk && held.guard_base.is_some() && ours && all_begun;
        sendable.then_some(cursor)
    }

    /// How many places the next hop that is nearest to the tail has not been sent. `None` while nothing is sent to anybody.
    #[must_use]
    pub fn unsent(&self) -> Option<u64> {
        let tail = self.held?.tail;
        let cursors = self.routes.values().filter_map(|route| route.cursor);
        cursors.map(|cursor| tail.since(cursor)).min()
    }

    /// A frame of `interval` was sent to the next hop of `route`. Counts only if that is what was due: a wish may have
    /// moved the place since the frame was read.
    pub fn sent(&mut self, route: &RouteId, interval: Interval) {
        if let Some(cursor) = self
            .routes
            .get_mut(route)
            .and_then(|present| present.cursor.as_mut())
            && interval.from <= *cursor
            && *cursor < interval.to
        {
            *cursor = interval.to;
        }
        if let (true, Some(held)) = (planted(Trap::TrimOnSend), &mut self.held) {
            held.base = held.base.max(interval.to);
            self.actions.push(Action::Trim(interval.to));
        }
    }

    // ----- what is known -----------------------------------------------------------------------------------------

    /// What the outbox holds.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// The highest position heard from the sink of `route` since the last fresh one.
    #[must_use]
    pub fn applied(&self, route: &RouteId) -> Option<&Position> {
        self.routes.get(route)?.position.as_ref()
    }

    /// Why the stream stands still, if it does.
    #[must_use]
    pub fn halted(&self) -> Option<&Halted> {
        self.halted.as_ref()
    }

    /// Where this stream began, once that is decided.
    #[must_use]
    pub fn start(&self) -> Option<Sequence> {
        self.start
    }

    /// What the group was last told.
    #[must_use]
    pub fn committed(&self) -> Option<Sequence> {
        self.committed
    }

    // ----- decisions -----------------------------------------------------------------------------------------------

    fn ask(&mut self, route: &RouteId) {
        let Some(present) = self.routes.get_mut(route) else {
            return;
        };
        self.nonce = self.nonce.wrapping_add(1);
        present.asked = Some(self.nonce);
        present.beginning = false;
        if present.linked {
            self.actions.push(Action::Ask {
                route: route.clone(),
                nonce: self.nonce,
            });
        }
    }

    /// The sink holds nothing of this stream.
    fn answered_none(&mut self, route: &RouteId) {
        let Some(present) = self.routes.get_mut(route) else {
            return;
        };
        if present.known {
            return self.halt(Halted::PositionLost { route: route.clone() });
        }
        present.beginning = true;
        if !self.replayable {
            return self.begin_waiting_routes();
        }
        if present.beside && self.is_under_way() {
            return self.begin_beside();
        }
        if let (None, Some(start)) = (self.start, self.begun_at()) {
            self.remember_start(start);
        }
        let ours = !matches!(
            self.reading,
            Reading::Elsewhere | Reading::Placing(Place::Beginning)
        );
        let holds_start = self.held.is_some_and(|held| Some(held.base) == self.start);
        if self.start.is_some() && (holds_start || !ours) {
            self.begin_waiting_routes();
        } else if ours && (self.start.is_some() || self.routes.values().all(|route| route.beginning)) {
            // What a route that comes later begins with may be gone by now: begin with the first record there is.
            self.start = None;
            self.place(Place::Beginning);
        }
    }

    fn remember_start(&mut self, start: Sequence) {
        self.start = Some(start);
        self.actions.push(Action::RememberStart(start));
    }

    /// Where the stream began, as the sinks remember it.
    fn begun_at(&self) -> Option<Sequence> {
        let begun = |route: &Route| route.position.as_ref().map(|position| position.start);
        self.routes.values().filter_map(begun).min()
    }

    /// Whether the stream is delivered already, as far as is known: a sink reads it that does not wait for its beginning.
    fn is_under_way(&self) -> bool {
        let mut routes = self.routes.values();
        routes.any(|route| !route.beside && !route.beginning)
    }

    /// Who keeps what does not go on, and comes later than the sinks, begins at the lowest place that one of them needs.
    /// Below it everything went on: since somebody is beside, they were sent nothing. Waits until that is known of all.
    fn begin_beside(&mut self) {
        let sinks = self.routes.values().filter(|route| !route.beside);
        let positions: Option<Vec<&Position>> = sinks.map(|sink| sink.position.as_ref()).collect();
        let lowest = positions.and_then(|all| all.into_iter().min_by_key(|position| position.at));
        let Some((start, guard)) = lowest.map(|position| (position.at, position.guard)) else {
            return;
        };
        let beside = |(_, present): &(&RouteId, &mut Route)| present.beside;
        for (route, present) in self.routes.iter_mut().filter(beside) {
            self.actions.extend(present.begin(route, start, guard));
        }
    }

    fn begin_waiting_routes(&mut self) {
        // What cannot be read again begins, for who comes later, with the first record that is still held.
        let (start, guard) = match (self.replayable, self.held, self.start) {
            (false, Some(held), _) => (held.base, None),
            (_, held, Some(start)) => {
                let at_start = held.filter(|held| held.base == start);
                (start, at_start.and_then(|held| held.guard_base))
            }
            _ => return,
        };
        let is_under_way = self.is_under_way();
        let begins_here = |(_, present): &(&RouteId, &mut Route)| !present.beside || !is_under_way;
        for (route, present) in self.routes.iter_mut().filter(begins_here) {
            self.actions
                .extend(present.begin(route, start, guard.unwrap_or(Guard::NONE)));
        }
    }

    /// Brings what is held, freed and committed in line with what the routes need.
    fn settle(&mut self) {
        self.reach_what_is_needed();
        if self.finds_fork() {
            return;
        }
        self.trim();
        self.commit();
    }

    /// The outbox must reach the lowest place that a sink needs, and follow what it holds there; else it is restarted
    /// there and the source read again.
    fn reach_what_is_needed(&mut self) {
        let lowest = self
            .routes
            .values()
            .filter_map(|route| Some((route.position.as_ref()?, route.is_fresh())))
            .min_by_key(|(position, _)| position.at);
        let Some((position, fresh)) = lowest else { return };
        let (needed, guard) = (position.at, position.guard);
        if let Some(held) = &mut self.held {
            let unproven = held.guard_base.is_none() && fresh;
            if held.interval().reaches(needed) && !(unproven && guard != Guard::NONE) {
                if unproven {
                    // The sink holds nothing that we would have to follow.
                    held.guard_base = Some(Guard::NONE);
                }
                return;
            }
        }
        if let (Some(held), false) = (self.held, self.replayable) {
            if self.halted.is_none() && !held.interval().reaches(needed) {
                self.halt(Halted::Gone {
                    wanted: needed,
                    held: held.interval(),
                });
            }
            return;
        }
        if self.reading == Reading::Elsewhere {
            // Not ours to read: nothing we hold is of use to anyone once all sinks are beyond it.
            let applied = self.applied_by_all();
            if let Some(held) = self.held.filter(|held| Some(held.tail) < applied) {
                self.held = Some(Held {
                    base: held.tail,
                    ..held
                });
                self.actions.push(Action::Trim(held.tail));
            }
            return;
        }
        self.restart(needed, (fresh || guard != Guard::NONE).then_some(guard));
    }

    /// A sink that stands right where we end must hold our last record (S6). Where there is more to send, its own
    /// gateway compares; here nobody else would.
    fn finds_fork(&mut self) -> bool {
        let Some((tail, Some(guard))) = self.held.map(|held| (held.tail, held.guard_tail)) else {
            return false;
        };
        let fork = self.routes.iter().find_map(|(route, present)| {
            let position = present.position.as_ref().filter(|position| position.at == tail)?;
            (!Seam::from(guard).fits(position.guard)).then(|| route.clone())
        });
        let Some(route) = fork.filter(|_| !planted(Trap::GuardUnchecked)) else {
            return false;
        };
        if self.reading != Reading::Elsewhere && self.halted.is_none() {
            self.halt(Halted::Forked { route, at: tail });
        }
        true
    }

    fn asks_first(&mut self) -> bool {
        let refused = match self.reading {
            Reading::Placing(place) => Some(place),
            Reading::Here => self.tail_place(),
            Reading::Elsewhere | Reading::Waiting => return true,
        };
        let before = core::mem::replace(&mut self.refused, refused);
        if before == refused && self.routes.values().all(Route::is_fresh) {
            return false;
        }
        self.reading = Reading::Waiting;
        if before != refused {
            let routes: Vec<RouteId> = self.routes.keys().cloned().collect();
            routes.iter().for_each(|route| self.ask(route));
        }
        true
    }

    fn retry_place(&mut self) {
        self.halted.take_if(|why| *why == Halted::Source);
        if let Some(place) = self.tail_place() {
            self.place(place);
        }
    }

    /// Where reading goes on behind what is held.
    fn tail_place(&self) -> Option<Place> {
        let Held { tail, guard_tail, .. } = self.held?;
        let guard = guard_tail.unwrap_or(Guard::NONE);
        Some(Place::At { at: tail, guard })
    }

    fn restart(&mut self, at: Sequence, guard: Option<Guard>) {
        self.held = Some(Held::empty_at(at, guard));
        self.halted
            .take_if(|why| matches!(why, Halted::Source | Halted::Record));
        self.actions.push(Action::Restart(at));
        self.send_from_base();
        self.place(Place::At {
            at,
            guard: guard.unwrap_or(Guard::NONE),
        });
    }

    fn place(&mut self, place: Place) {
        self.reading = Reading::Placing(place);
        self.actions.push(Action::Place(place));
    }

    /// The lowest place every registered sink has applied; none while one of them is unknown.
    fn applied_by_all(&self) -> Option<Sequence> {
        if planted(Trap::TrimByFastest) {
            return self.routes.values().filter_map(Route::applied).max();
        }
        if self.routes.values().all(|route| route.beside) {
            return None;
        }
        let mut lowest = None;
        for route in self.routes.values() {
            let applied = route.applied()?;
            lowest = Some(lowest.map_or(applied, |low: Sequence| low.min(applied)));
        }
        lowest
    }

    fn trim(&mut self) {
        let (Some(applied), Some(held)) = (self.applied_by_all(), &mut self.held) else {
            return;
        };
        let below = applied.min(held.durable);
        if held.base < below {
            held.base = below;
            // Frames above know their own guard; the base is proven by the sink's position.
            held.guard_base = held.guard_base.or(Some(Guard::NONE));
            self.actions.push(Action::Trim(below));
            self.send_from_base();
        }
    }

    /// What lies below the base is not sent any more: whoever waits for it is told by the gap that follows.
    fn send_from_base(&mut self) {
        let Some(base) = self.held.map(|held| held.base) else {
            return;
        };
        for route in self.routes.values_mut() {
            route.cursor = route.cursor.map(|cursor| cursor.max(base));
        }
    }

    fn commit(&mut self) {
        let ours = matches!(self.reading, Reading::Here | Reading::Placing(_));
        let Some(applied) = self.applied_by_all() else {
            return;
        };
        if ours && self.routes.values().all(Route::is_fresh) && self.committed.is_none_or(|at| at < applied) {
            self.committed = Some(applied);
            self.actions.push(Action::Commit(applied));
        }
    }
}
