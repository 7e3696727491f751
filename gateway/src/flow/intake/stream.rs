//! One stream of this site: what is held of it, and what its [`Origin`] machine decides, carried out.

use super::{BEHIND_PLACES, FRAME_AGE_BEHIND, FRAME_AGE_MAX, memory};
use crate::flow::exchange::{Exchange, Outlet, Route};
use crate::flow::letters::{self, Aside};
use crate::flow::mend::Halt;
use crate::flow::transit::Error;
use crate::flow::{Place, Slot};
use crate::outbox::{self, Extent, Lane, QuotaUse};
use culvert_proto::frame::Frame;
use culvert_proto::message::{Fault, Message, Priority};
use culvert_proto::origin::{self, Action, Halted, Held, Origin};
use culvert_proto::stream::RouteId;
use culvert_proto::{Guard, Interval, Sequence, StreamId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::watch;

/// One stream of this site: its lane in the outbox and the machine that decides about it.
pub struct OriginStream {
    /// Which stream.
    pub id: StreamId,
    /// The same, as it is spelled in keys of the outbox.
    pub(super) spelled: Vec<u8>,
    /// What is held of it.
    pub lane: Lane,
    /// Where its dead letters go, if they go anywhere.
    aside: Option<Aside>,
    pub(super) machine: Mutex<Origin>,
    pub(super) exchange: Arc<Exchange>,
    /// The source task that reads it now.
    reader: Mutex<Option<Reader>>,
    /// What waits for the disk before it may be said. Locked inside `machine`'s lock only.
    unsaid: Mutex<Unsaid>,
    readers: AtomicU64,
    pub(super) seeks: AtomicU64,
    restarts: AtomicU64,
    pub(super) outlets: Mutex<BTreeMap<RouteId, Outlet>>,
    /// How urgent its frames are on links, once whoever reads it has said.
    priority: Mutex<Option<Priority>>,
}

/// A source task, as a stream knows it.
pub(super) struct Reader {
    /// Tells this assignment from every other: a task that hears late that it lost the stream must not take it from
    /// the one that has it by then.
    number: u64,
    slot: Slot,
    orders: mpsc::Sender<Order>,
}

/// What is said must not outlive the memory of it, or a crash would make us say something else.
#[derive(Default)]
struct Unsaid {
    /// Notes to the outbox that were written, and how many of them are on disk for certain.
    written: u64,
    stored: u64,
    /// What rests on the first so many notes.
    waiting: VecDeque<(u64, Action)>,
}

/// What a stream asks of the task that reads it.
pub(super) enum Order {
    /// The number grows with each seek of a stream: what an earlier one brings about no longer counts.
    Seek(Slot, Place, u64),
    Commit(Slot, Sequence),
    Stop,
}

impl OriginStream {
    /// The stream with what this gateway's disk remembers of it.
    ///
    /// # Errors
    /// When the outbox cannot be read, or holds a frame that is none.
    pub fn open(exchange: &Arc<Exchange>, id: &StreamId) -> Result<Arc<OriginStream>, Error> {
        if let Some(present) = exchange.stream(id) {
            return Ok(present);
        }
        let spelled = id.encode()?;
        let lane = exchange.outbox.lane(&lane_key(&spelled))?;
        let aside = match exchange.letters_of(id) {
            Some(writer) => Some(Aside {
                lane: exchange.outbox.lane(&letters::lane_key(&spelled))?,
                writer,
            }),
            None => None,
        };
        let mut machine = Origin::new(id.is_replayable(), rand::random());
        // As early as this: nothing is freed or committed that a letter may be missing of.
        if let Some(Aside { writer, .. }) = &aside {
            let known = remembers(exchange, &spelled, &writer.route, writer.incarnation());
            machine.register_beside(writer.route.clone(), writer.incarnation(), known);
        }
        let start = exchange
            .outbox
            .get(&start_key(&spelled))
            .and_then(|bytes| <[u8; 8]>::try_from(&*bytes).ok());
        if id.is_replayable() {
            // While it kept no letters, the stream may have begun elsewhere: it is then read again.
            let is_apart = |aside: &Aside| aside.lane.extent().tail > lane.extent().tail;
            let held = survivors(&lane)?.filter(|_| !aside.as_ref().is_some_and(is_apart));
            let start = start.map(|bytes| Sequence(u64::from_be_bytes(bytes)));
            machine.restored(start, held);
        } else {
            let end = memory::End::load(&exchange.outbox, &spelled);
            machine.restored(Some(Sequence::ZERO), Some(run_survivors(&lane, end)?));
        }
        let stream = Arc::new(OriginStream {
            id: id.clone(),
            spelled,
            lane,
            aside,
            machine: Mutex::new(machine),
            exchange: exchange.clone(),
            reader: Mutex::default(),
            unsaid: Mutex::default(),
            readers: AtomicU64::new(0),
            seeks: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            outlets: Mutex::default(),
            priority: Mutex::default(),
        });
        Ok(exchange.put_stream(stream))
    }

    /// Whoever writes the dead letters is asked where it stands. Called once the routes are registered: it begins with
    /// what they need.
    pub(in crate::flow) fn ask_aside(&self) {
        if let Some(Aside { writer, .. }) = &self.aside {
            self.act(|machine| machine.linked(&writer.route));
        }
    }

    /// What this gateway may hold of the stream, its dead letters among that; `None`: what the outbox has room for. Whoever
    /// reads it says so, and reads no further while [`OriginStream::quota_room`] says no.
    pub(super) fn set_quota(&self, bytes: Option<u64>) -> Result<(), outbox::Error> {
        let beside: Vec<&Lane> = self.aside.iter().map(|aside| &aside.lane).collect();
        self.lane.set_quota(bytes, &beside)
    }

    /// How urgent its frames are from now on; lanes that are open hear of it.
    pub(in crate::flow) fn set_priority(&self, priority: Priority) {
        if self.priority.lock().replace(priority) != Some(priority) {
            self.wake_senders();
        }
    }

    /// Nothing where no source of this gateway has read it yet: another one may, and knows.
    pub(in crate::flow) fn priority(&self) -> Option<Priority> {
        *self.priority.lock()
    }

    /// How much of its quota is used, where it has one.
    #[must_use]
    pub fn quota_use(&self) -> Option<QuotaUse> {
        self.lane.quota_use()
    }

    /// Follows whether the quota has room for more.
    pub(super) fn quota_room(&self) -> watch::Receiver<bool> {
        self.lane.quota_room()
    }

    /// Takes one step of the machine and carries out what it decides, as one: nobody sees the state in between.
    pub fn act<R>(&self, step: impl FnOnce(&mut Origin) -> R) -> R {
        let mut machine = self.machine.lock();
        machine.durable(self.lane.extent().durable);
        let result = step(&mut machine);
        for action in machine.take_actions() {
            if let Err(error) = self.carry_out(action) {
                let reason = format!("outbox of {}: {error}", self.id);
                self.exchange.halted(
                    &self.id,
                    None,
                    Fault {
                        code: "CULVERT-F020".into(),
                        reason,
                    },
                );
                machine.halt(Halted::Source);
                let _ = machine.take_actions();
            }
        }
        result
    }

    fn carry_out(&self, action: Action) -> Result<(), outbox::Error> {
        let outbox = &self.exchange.outbox;
        match action {
            Action::Ask { route, nonce } => {
                let streams = vec![self.id.clone()];
                self.post(
                    &route,
                    Message::Ask {
                        nonce,
                        route: route.clone(),
                        streams,
                    },
                );
            }
            Action::Begin { .. } | Action::Commit(_) => self.say_when_stored(action),
            Action::Restart(at) => {
                self.lane.restart(at)?;
                if let Some(aside) = &self.aside {
                    // Dead letters that were not written yet are made again: reading begins below all of them.
                    aside.lane.restart(at)?;
                }
                self.restarts.fetch_add(1, Ordering::AcqRel);
            }
            Action::Place(place) => self.seek(place),
            Action::Trim(below) => {
                self.lane.trim(below)?;
                if let Some(aside) = &self.aside {
                    aside.lane.trim(below)?;
                }
            }
            Action::RememberStart(at) => {
                outbox.put(&start_key(&self.spelled), &at.0.to_be_bytes())?;
                self.note_written();
            }
            Action::RememberKnown(route) => {
                let incarnation = match &self.aside {
                    Some(aside) if aside.writer.route == route => aside.writer.incarnation(),
                    _ => self.exchange.route(&route).map_or(0, |route| route.incarnation),
                };
                outbox.put(&known_key(&self.spelled, &route, incarnation), b"")?;
                self.note_written();
                self.wake_senders();
            }
            Action::Halt(why) => self.tell_halt(&why),
        }
        Ok(())
    }

    /// What is due to be sent may have changed: nothing is before the dead letters have begun.
    fn wake_senders(&self) {
        let routes: Vec<RouteId> = self.outlets.lock().keys().cloned().collect();
        routes
            .iter()
            .for_each(|route| self.exchange.wake(route, &self.id));
    }

    /// A note was written. Nobody waits for the disk with the machine in hand: while it is full, what the machine hears
    /// next is what frees it (L2).
    fn note_written(&self) {
        let number = {
            let mut unsaid = self.unsaid.lock();
            unsaid.written += 1;
            unsaid.written
        };
        let (exchange, id) = (self.exchange.clone(), self.id.clone());
        self.exchange.runtime.spawn(async move {
            if exchange.outbox.synced().await.is_ok()
                && let Some(stream) = exchange.stream(&id)
            {
                stream.notes_stored(number);
            }
        });
    }

    /// The first `number` notes are on disk.
    fn notes_stored(&self, number: u64) {
        let machine = self.machine.lock();
        let mut unsaid = self.unsaid.lock();
        unsaid.stored = unsaid.stored.max(number);
        while let Some((_, action)) = unsaid.waiting.pop_front_if(|(written, _)| *written <= number) {
            // What waited while the stream was lost, or while its sink went back, no longer stands.
            let stands = !matches!(action, Action::Commit(at) if machine.committed() != Some(at));
            if stands {
                self.say(action);
            }
        }
    }

    fn say_when_stored(&self, action: Action) {
        let mut unsaid = self.unsaid.lock();
        if unsaid.stored < unsaid.written {
            let rests_on = unsaid.written;
            return unsaid.waiting.push_back((rests_on, action));
        }
        self.say(action);
    }

    fn say(&self, action: Action) {
        match action {
            Action::Begin {
                route,
                nonce,
                start,
                guard,
            } => {
                let begin = Message::Begin {
                    nonce,
                    route: route.clone(),
                    stream: self.id.clone(),
                    start,
                    guard,
                };
                self.post(&route, begin);
            }
            Action::Commit(applied) => self.order(|slot| Order::Commit(slot, applied)),
            _ => {}
        }
    }

    /// What the machine alone knows: `status` and sending look in.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.machine.lock().held()
    }

    /// Changes whenever what is held begins elsewhere: the next hop must be told.
    pub(in crate::flow) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Acquire)
    }

    /// The highest position heard from the sink of `route`.
    #[must_use]
    pub fn applied(&self, route: &RouteId) -> Option<Sequence> {
        self.machine.lock().applied(route).map(|position| position.at)
    }

    /// Whether a source task of this gateway reads the stream now.
    #[must_use]
    pub fn is_read_here(&self) -> bool {
        self.reader.lock().is_some()
    }

    /// A sink reads this stream from now on.
    pub(in crate::flow) fn register(&self, route: &Route) -> Result<(), outbox::Error> {
        let known = remembers(&self.exchange, &self.spelled, &route.id, route.incarnation);
        self.act(|machine| machine.register(route.id.clone(), route.incarnation, known));
        Ok(())
    }

    /// There is a way to the sink of `route`; a new session with the next hop begins without wishes. A session over
    /// which the route is not registered any more is no way: who says so has looked before another one came.
    pub(in crate::flow) fn linked(&self, route: &RouteId, outlet: &Outlet) {
        self.act(|machine| {
            let registered = self.exchange.route(route).and_then(|route| route.downstream);
            if !registered.is_some_and(|registered| registered.is(outlet)) {
                return;
            }
            let before = self.outlets.lock().insert(route.clone(), outlet.clone());
            if before.is_some_and(|before| !before.is(outlet)) {
                machine.unlinked(route);
            }
            machine.linked(route);
        });
    }

    /// The way to the sink of `route` is cut, if it was over this session.
    pub(in crate::flow) fn unlinked(&self, route: &RouteId, outlet: &Outlet) {
        self.act(|machine| {
            let mut outlets = self.outlets.lock();
            if outlets.get(route).is_some_and(|present| present.is(outlet)) {
                outlets.remove(route);
                machine.unlinked(route);
            }
        });
    }

    /// Where the next hop of this session must be sent to from, if there is anything to send.
    pub(in crate::flow) fn next_to_send(&self, route: &RouteId, outlet: &Outlet) -> Option<Sequence> {
        self.act(|machine| self.due(machine, route, outlet))
    }

    /// Whether a frame of `interval` is what is due in this session; it then counts as sent.
    pub(in crate::flow) fn take_to_send(&self, route: &RouteId, outlet: &Outlet, interval: Interval) -> bool {
        self.act(|machine| {
            let due = self.due(machine, route, outlet);
            let is_due = due.is_some_and(|at| interval.from <= at && at < interval.to);
            if is_due {
                machine.sent(route, interval);
            }
            is_due
        })
    }

    fn due(&self, machine: &Origin, route: &RouteId, outlet: &Outlet) -> Option<Sequence> {
        let outlets = self.outlets.lock();
        let is_linked = outlets.get(route).is_some_and(|present| present.is(outlet));
        machine.next_to_send(route).filter(|_| is_linked)
    }

    /// A source task of this gateway reads the stream from now on; the answer names the assignment.
    pub(super) fn assigned(
        &self,
        slot: Slot,
        orders: mpsc::Sender<Order>,
        committed: Option<Sequence>,
    ) -> u64 {
        self.act(|machine| {
            let mut reader = self.reader.lock();
            let number = self.readers.fetch_add(1, Ordering::AcqRel);
            *reader = Some(Reader { number, slot, orders });
            machine.assigned(committed);
            number
        })
    }

    /// The task of this assignment no longer reads the stream.
    pub(super) fn revoked(&self, number: u64) {
        self.act(|machine| {
            let mut reader = self.reader.lock();
            if reader.take_if(|reader| reader.number == number).is_some() {
                machine.revoked();
            }
        });
    }

    fn post(&self, route: &RouteId, message: Message) {
        if let Some(aside) = self.aside.as_ref().filter(|aside| aside.writer.route == *route) {
            return aside.writer.hear(&self.id, message);
        }
        if let Some(outlet) = self.outlets.lock().get(route) {
            outlet.post(message);
        }
    }

    /// The dead letters of this stream, if it keeps any.
    pub(in crate::flow) fn aside(&self) -> Option<&Aside> {
        self.aside.as_ref()
    }

    /// The end of what is durable, for who has written every dead letter below `at`, where none lies in between.
    pub(in crate::flow) fn durable_without_letters(&self, at: Sequence) -> Option<Sequence> {
        let aside = self.aside.as_ref()?;
        // Both lanes are appended to and restarted with the machine in hand.
        let _machine = self.machine.lock();
        let (held, letters) = (self.lane.extent(), aside.lane.extent());
        let is_next = letters.tail <= at && held.base <= at && at < held.durable;
        is_next.then_some(held.durable)
    }

    fn order(&self, order: impl FnOnce(Slot) -> Order) {
        if let Some(Reader { slot, orders, .. }) = &*self.reader.lock() {
            // A task that ended is replaced by one that asks anew.
            let _ = orders.send(order(*slot));
        }
    }

    pub(super) fn seek(&self, place: origin::Place) {
        let place = match place {
            origin::Place::Beginning => Place::Earliest,
            origin::Place::At { at, guard } => Place::At { at, guard },
        };
        self.exchange.resumed(&self.id, None);
        let number = self.seeks.fetch_add(1, Ordering::AcqRel) + 1;
        self.order(|slot| Order::Seek(slot, place, number));
    }

    /// Whether the seek of this number is the last that was decided on. Asked inside [`OriginStream::act`] only.
    pub(super) fn is_last_seek(&self, number: u64) -> bool {
        self.seeks.load(Ordering::Acquire) == number
    }

    /// Places that the quickest next hop has not been sent; none where nobody takes the stream, or its source cannot be read
    /// again and must not wait.
    pub(super) fn unsent(&self) -> Option<u64> {
        let unsent = self.machine.lock().unsent();
        unsent.filter(|_| self.id.is_replayable())
    }

    /// How long a frame that is begun now may wait for company.
    pub(super) fn frame_age_max(&self) -> Duration {
        match self.machine.lock().unsent() {
            Some(places) if places <= BEHIND_PLACES => FRAME_AGE_MAX,
            _ => FRAME_AGE_BEHIND,
        }
    }

    fn tell_halt(&self, why: &Halted) {
        if let Some(halt) = Halt::of(&self.exchange.outbox, &self.spelled) {
            return self.exchange.halted(&self.id, None, halt.fault(&self.id));
        }
        let (code, reason) = match why {
            Halted::PositionLost { route } => (
                "CULVERT-F021",
                format!(
                    "the sink of {route} had a position of {} and has none now; beginning again would deliver twice: restore the \
                     sink's positions, or raise the route's culvert.incarnation to begin anew on purpose",
                    self.id
                ),
            ),
            Halted::Gone { wanted, held } if *wanted > held.to => (
                "CULVERT-F022",
                format!(
                    "a sink holds {} up to {wanted}, and this outbox only knows it up to {}: it was put back to an earlier state, or is \
                     a copy; run the newer one, or begin the route anew, which delivers what is held here again",
                    self.id, held.to
                ),
            ),
            Halted::Gone { wanted, held } => (
                "CULVERT-F022",
                format!(
                    "a sink wants {} from {wanted}, and only {held} is held; its source cannot be read again",
                    self.id
                ),
            ),
            Halted::Forked { route, at } => (
                "CULVERT-F010",
                format!(
                    "the record before {at} is not the one that {route} was delivered: the source's history changed"
                ),
            ),
            // Told where it was found, with its own reason.
            Halted::Source | Halted::Record => return,
        };
        self.exchange.halted(
            &self.id,
            None,
            Fault {
                code: code.into(),
                reason,
            },
        );
    }
}

/// What an earlier life left in the lane, with the identity of the records at its ends.
fn survivors(lane: &Lane) -> Result<Option<Held>, Error> {
    let Extent {
        base, durable: tail, ..
    } = lane.extent();
    if base >= tail {
        return Ok(None);
    }
    let frame_at = |at| -> Result<Option<Frame>, Error> {
        let found = lane.read(at, 1)?.into_iter().next();
        Ok(found.map(|(_, bytes)| Frame::decode(bytes)).transpose()?)
    };
    let known = |guard: &Guard| *guard != Guard::NONE;
    let guard_base = frame_at(base)?
        .and_then(|frame| frame.guard_before(base))
        .filter(known);
    let guard_tail = frame_at(Sequence(tail.0 - 1))?
        .map(|frame| frame.guard_end())
        .filter(known);
    Ok(Some(Held {
        base,
        durable: tail,
        tail,
        guard_base,
        guard_tail,
    }))
}

/// What is left of a run. It holds all that its sinks lack, and goes on behind what it ever held, also when that is gone.
fn run_survivors(lane: &Lane, end: memory::End) -> Result<Held, Error> {
    let Extent { durable: tail, .. } = lane.extent();
    let guard_tail = Guard {
        epoch: -1,
        crc: if tail == end.at { end.chain } else { 0 },
    };
    let held = survivors(lane)?.unwrap_or(Held {
        base: tail,
        durable: tail,
        tail,
        guard_base: Some(guard_tail),
        guard_tail: None,
    });
    Ok(Held {
        guard_base: held.guard_base.or(Some(Guard::NONE)),
        guard_tail: Some(guard_tail),
        ..held
    })
}

/// What the names of lanes of this site's streams begin with; the streams follow.
pub(in crate::flow) const ORIGIN: &[u8] = b"origin/";

/// The lane of a stream of this site.
pub(super) fn lane_key(spelled: &[u8]) -> Vec<u8> {
    [ORIGIN, spelled].concat()
}

/// Where the stream began.
fn start_key(spelled: &[u8]) -> Vec<u8> {
    [b"start/", spelled].concat()
}

/// The sink of this route, in this incarnation, once named a position of the stream.
fn known_key(spelled: &[u8], route: &RouteId, incarnation: u32) -> Vec<u8> {
    [b"known/", spelled, route.0.as_bytes(), &incarnation.to_be_bytes()].concat()
}

/// Whether this gateway's disk remembers that the sink of `route` once named a position.
fn remembers(exchange: &Exchange, spelled: &[u8], route: &RouteId, incarnation: u32) -> bool {
    let key = known_key(spelled, route, incarnation);
    exchange.outbox.get(&key).is_some()
}

/// Streams of this site that this gateway's disk remembers. They are not read here until a source is assigned them,
/// but hear positions, so that what they hold is freed.
///
/// # Errors
/// When the outbox cannot be read.
pub fn remembered_streams(exchange: &Arc<Exchange>) -> Result<(), Error> {
    for (key, _) in exchange.outbox.lanes() {
        if let Some(name) = key.strip_prefix(ORIGIN) {
            let stream = OriginStream::open(exchange, &StreamId::decode(name)?)?;
            for route in exchange.routes() {
                crate::flow::transit::link_stream(exchange, &route, &stream)?;
            }
            stream.ask_aside();
        }
    }
    Ok(())
}
