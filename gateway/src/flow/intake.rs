//! The first leg: from a source into the outbox.
//!
//! One thread a source task. Records become frames as they come: a frame is closed at its size, its count, a change
//! of leader epoch, or [`FRAME_AGE_MAX`] after its first record (later while nobody takes it, [`FRAME_AGE_BEHIND`]),
//! and appended to the stream's lane; the outbox makes it durable, and only then may it be sent (A2). Where a source
//! reads is decided by the stream's [`Origin`] machine.
//!
//! Where the connector has stages, records wait side by side until their frame would be closed, pass through the stages as
//! one batch, and what is left of them becomes frames. The guard of a record is that of what the source gave.
//!
//! Constraints:
//! - A record is encoded once, here, and decoded once, at delivery. Nothing is allocated for a record.
//! - While the outbox is full, the source is paused; at most one closed frame a stream waits in memory (A7).

mod memory;
pub mod pages;
#[cfg(test)]
mod tests;

use super::delivery::Trouble;
use super::exchange::{Exchange, Outlet, Role, Route};
use super::letters::{self, Aside};
use super::paged::ResumePoint;
use super::stage::{Chain, MakeChain, Passed, Refused, StageFault};
use super::transit::Error;
use super::{Halt, Intake, Place, Slot, Source, SourceFault};
use crate::codec::compression::Codecs;
use crate::observe::metrics;
use crate::outbox::{self, Extent, Group, Lane};
use culvert_proto::batch::Codec;
use culvert_proto::columns::Columns;
use culvert_proto::frame::{Frame, FrameBuilder, Part, Push};
use culvert_proto::message::{Fault, Message};
use culvert_proto::origin::{self, Action, Halted, Held, Origin};
use culvert_proto::record::RecordRef;
use culvert_proto::schema::Fingerprint;
use culvert_proto::stream::RouteId;
use culvert_proto::wire::Malformed;
use culvert_proto::{Guard, Interval, Sequence, StreamId, limits};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long the first record of a frame waits for company. Bounds what batching adds to latency; at 10,000 records a
/// second it makes frames of 50.
const FRAME_AGE_MAX: Duration = Duration::from_millis(5);

/// The same while the stream is behind: no next hop takes its frames, or [`BEHIND_PLACES`] wait to be sent. Latency is
/// not decided here then; fewer and larger frames cost less of everything, on disk, in memory and when they drain.
const FRAME_AGE_BEHIND: Duration = Duration::from_millis(100);

/// A stream with more places than this to send is behind: two full frames, many times what a flush leaves waiting.
const BEHIND_PLACES: u64 = 2 * limits::FRAME_RECORDS_MAX as u64;

/// A stream with more places than this to send, to a next hop that takes them, is ahead. A source that can be read again
/// is then read no faster than [`AHEAD_PAUSE`] allows: a record that waits there costs nothing, one that waits here is
/// written and read back. By eye: a tenth of a second at full speed, and a few MB.
const AHEAD_PLACES: u64 = 32 * limits::FRAME_RECORDS_MAX as u64;

/// The pause between two polls that bring much while a stream is ahead. Short, since streams that are not are read by the
/// same thread: they lose no more than this, and none of their rate below some 100,000 records a second.
const AHEAD_PAUSE: Duration = Duration::from_millis(10);

/// How long a source is polled when nothing is under way. Orders (a seek, a commit) wait as long.
const POLL_MAX: Duration = Duration::from_millis(10);

/// How often a source is told what has been applied. For people and for a cold start; a second of lag harms neither.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// A pause as long as this is told to people: shorter ones are the outbox keeping the source to its own pace.
const PAUSE_TOLD: Duration = Duration::from_secs(1);

/// The first pause of a stage that asked to be tried again later.
const STAGE_RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest wait between attempts while the outside system is away.
const RETRY_MAX: Duration = Duration::from_secs(5);

// ----- the stream ------------------------------------------------------------------------------------------------

/// One stream of this site: its lane in the outbox and the machine that decides about it.
pub struct OriginStream {
    /// Which stream.
    pub id: StreamId,
    /// The same, as it is spelled in keys of the outbox.
    spelled: Vec<u8>,
    /// What is held of it.
    pub lane: Lane,
    /// Where its dead letters go, if they go anywhere.
    aside: Option<Aside>,
    machine: Mutex<Origin>,
    exchange: Arc<Exchange>,
    /// The source task that reads it now.
    reader: Mutex<Option<Reader>>,
    /// What waits for the disk before it may be said. Locked inside `machine`'s lock only.
    unsaid: Mutex<Unsaid>,
    readers: AtomicU64,
    seeks: AtomicU64,
    restarts: AtomicU64,
    outlets: Mutex<BTreeMap<RouteId, Outlet>>,
}

/// A source task, as a stream knows it.
struct Reader {
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
enum Order {
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
        });
        Ok(exchange.put_stream(stream))
    }

    /// Whoever writes the dead letters is asked where it stands. Called once the routes are registered: it begins with
    /// what they need.
    pub(super) fn ask_aside(&self) {
        if let Some(Aside { writer, .. }) = &self.aside {
            self.act(|machine| machine.linked(&writer.route));
        }
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
    pub(super) fn restarts(&self) -> u64 {
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
    pub(super) fn register(&self, route: &Route) -> Result<(), outbox::Error> {
        let known = remembers(&self.exchange, &self.spelled, &route.id, route.incarnation);
        self.act(|machine| machine.register(route.id.clone(), route.incarnation, known));
        Ok(())
    }

    /// There is a way to the sink of `route`; a new session with the next hop begins without wishes. A session over
    /// which the route is not registered any more is no way: who says so has looked before another one came.
    pub(super) fn linked(&self, route: &RouteId, outlet: &Outlet) {
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
    pub(super) fn unlinked(&self, route: &RouteId, outlet: &Outlet) {
        self.act(|machine| {
            let mut outlets = self.outlets.lock();
            if outlets.get(route).is_some_and(|present| present.is(outlet)) {
                outlets.remove(route);
                machine.unlinked(route);
            }
        });
    }

    /// Where the next hop of this session must be sent to from, if there is anything to send.
    pub(super) fn next_to_send(&self, route: &RouteId, outlet: &Outlet) -> Option<Sequence> {
        self.act(|machine| self.due(machine, route, outlet))
    }

    /// Whether a frame of `interval` is what is due in this session; it then counts as sent.
    pub(super) fn take_to_send(&self, route: &RouteId, outlet: &Outlet, interval: Interval) -> bool {
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
    fn assigned(&self, slot: Slot, orders: mpsc::Sender<Order>, committed: Option<Sequence>) -> u64 {
        self.act(|machine| {
            let mut reader = self.reader.lock();
            let number = self.readers.fetch_add(1, Ordering::AcqRel);
            *reader = Some(Reader { number, slot, orders });
            machine.assigned(committed);
            number
        })
    }

    /// The task of this assignment no longer reads the stream.
    fn revoked(&self, number: u64) {
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
    pub(super) fn aside(&self) -> Option<&Aside> {
        self.aside.as_ref()
    }

    /// The end of what is durable, for who has written every dead letter below `at`, where none lies in between.
    pub(super) fn durable_without_letters(&self, at: Sequence) -> Option<Sequence> {
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

    fn seek(&self, place: origin::Place) {
        let place = match place {
            origin::Place::Beginning => Place::Earliest,
            origin::Place::At { at, guard } => Place::At { at, guard },
        };
        self.exchange.resumed(&self.id, None);
        let number = self.seeks.fetch_add(1, Ordering::AcqRel) + 1;
        self.order(|slot| Order::Seek(slot, place, number));
    }

    /// Whether the seek of this number is the last that was decided on. Asked inside [`OriginStream::act`] only.
    fn is_last_seek(&self, number: u64) -> bool {
        self.seeks.load(Ordering::Acquire) == number
    }

    /// Places that the quickest next hop has not been sent; none where nobody takes the stream, or its source cannot be read
    /// again and must not wait.
    fn unsent(&self) -> Option<u64> {
        let unsent = self.machine.lock().unsent();
        unsent.filter(|_| self.id.is_replayable())
    }

    /// How long a frame that is begun now may wait for company.
    fn frame_age_max(&self) -> Duration {
        match self.machine.lock().unsent() {
            Some(places) if places <= BEHIND_PLACES => FRAME_AGE_MAX,
            _ => FRAME_AGE_BEHIND,
        }
    }

    fn tell_halt(&self, why: &Halted) {
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

/// The lane of a stream of this site.
fn lane_key(spelled: &[u8]) -> Vec<u8> {
    [b"origin/", spelled].concat()
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
        if let Some(name) = key.strip_prefix(b"origin/") {
            let stream = OriginStream::open(exchange, &StreamId::decode(name)?)?;
            for route in exchange.routes() {
                super::transit::link_stream(exchange, &route, &stream)?;
            }
            stream.ask_aside();
        }
    }
    Ok(())
}

// ----- the task --------------------------------------------------------------------------------------------------

/// One task of a source connector, running.
pub struct Task {
    orders: mpsc::Sender<Order>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    status: Arc<Mutex<Status>>,
}

/// What `status` shows of a source task.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Records taken in since the start.
    pub records: u64,
    /// Why the task stands, is being tried again, or stopped for good.
    pub trouble: Option<Trouble>,
    /// Where a source that brings pages goes on; the first of them.
    pub resume: Vec<ResumePoint>,
    /// Streams of a source that brings pages.
    pub streams: Vec<StreamId>,
}

/// Makes the source of one task; called again after a fault that needs a new client.
pub type MakeSource = dyn Fn() -> Result<Box<dyn Source>, SourceFault> + Send + Sync;

impl Task {
    /// Starts the task on a thread of its own. `beginning` is where streams are begun that were never read, `stages` makes
    /// what its records pass through.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        exchange: &Arc<Exchange>,
        name: &str,
        codec: Codec,
        beginning: Place,
        stages: Arc<MakeChain>,
        make: Box<MakeSource>,
    ) -> std::io::Result<Task> {
        let (orders, inbox) = mpsc::channel();
        let status = Arc::new(Mutex::new(Status::default()));
        let desk = Desk {
            exchange: exchange.clone(),
            orders: orders.clone(),
            codec,
            chain: Chain::default(),
            slots: BTreeMap::new(),
            taken: 0,
            wanted: None,
        };
        let runner = Runner {
            desk,
            inbox,
            beginning,
            commits: BTreeMap::new(),
            status: status.clone(),
            name: name.into(),
        };
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || runner.run(&*stages, &*make))?;
        Ok(Task {
            orders,
            thread: Mutex::new(Some(thread)),
            status,
        })
    }

    /// What `status` shows.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Hands what was read to the outbox, commits what was applied, and ends the thread.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("an intake thread panicked");
        }
    }
}

/// Intake waits for room.
fn outbox_full(outbox: &outbox::Outbox) -> Trouble {
    let stats = outbox.stats();
    let disk = if stats.disk_full {
        ", and the disk has no space left"
    } else {
        ""
    };
    let reason = format!(
        "outbox is full: it holds {} bytes of its quota of {}{disk}; intake waits, and goes on by itself",
        stats.held_bytes, stats.quota_bytes
    );
    let code = "CULVERT-O005".into();
    Trouble::Paused(Fault { code, reason })
}

struct Runner {
    name: String,
    desk: Desk,
    inbox: mpsc::Receiver<Order>,
    beginning: Place,
    commits: BTreeMap<Slot, Sequence>,
    status: Arc<Mutex<Status>>,
}

impl Runner {
    fn run(mut self, stages: &MakeChain, make: &MakeSource) {
        let mut wait = Duration::from_millis(50);
        loop {
            let made = self.open_stages(stages).and_then(|()| make());
            let fault = match made {
                Ok(mut source) => {
                    let outcome = self.read(&mut *source, &mut wait);
                    source.close();
                    self.desk.revoke_all();
                    // The next source counts its slots from the beginning again.
                    self.commits.clear();
                    match outcome {
                        Ok(()) => return,
                        Err(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            match fault {
                SourceFault::Stop { code, reason } => return self.failed(code, &reason),
                SourceFault::Retry(reason) => {
                    tracing::warn!(connector = %self.name, reason, "source is away, trying again");
                    self.status.lock().trouble = Some(Trouble::Retrying(reason));
                }
            }
            if self.stopped_within(wait) {
                return;
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Stages that were opened stay open: a source that is made again does not concern them.
    fn open_stages(&mut self, stages: &MakeChain) -> Result<(), SourceFault> {
        if self.desk.chain.is_empty() {
            self.desk.chain = stages().map_err(|fault| match fault {
                StageFault::Retry { reason, .. } => SourceFault::Retry(reason),
                StageFault::Stream { code, reason } | StageFault::Stop { code, reason } => {
                    SourceFault::Stop { code, reason }
                }
            })?;
        }
        Ok(())
    }

    /// Reads until told to stop.
    fn read(&mut self, source: &mut dyn Source, wait: &mut Duration) -> Result<(), SourceFault> {
        let mut commit_at = Instant::now() + COMMIT_EVERY;
        let mut room = self.desk.exchange.outbox.room();
        let mut full_since = None;
        loop {
            while let Ok(order) = self.inbox.try_recv() {
                match order {
                    Order::Seek(slot, place, number) => self.seek(source, slot, place, number)?,
                    Order::Commit(slot, applied) => {
                        self.commits.insert(slot, applied);
                    }
                    Order::Stop => {
                        self.desk.close_batches(Instant::now() + FRAME_AGE_BEHIND);
                        return self.commit(source);
                    }
                }
            }
            let full = !*room.borrow_and_update() || self.desk.waits();
            full_since = full.then(|| full_since.unwrap_or_else(Instant::now));
            self.desk.pause(source, full)?;
            let taken_before = self.desk.taken;
            source.poll(self.desk.patience(), &mut self.desk)?;
            self.desk.close_batches(Instant::now());
            let brought_much = self.desk.taken - taken_before > limits::FRAME_RECORDS_MAX as u64;
            if brought_much && self.desk.is_ahead() {
                std::thread::sleep(AHEAD_PAUSE);
            }
            if Instant::now() >= commit_at {
                commit_at = Instant::now() + COMMIT_EVERY;
                self.commit(source)?;
                let mut status = self.status.lock();
                status.records = self.desk.taken;
                status.trouble = self.trouble(full_since.map(|since| since.elapsed()));
                *wait = Duration::from_millis(50);
            }
        }
    }

    /// What people should know of a source that is read.
    fn trouble(&self, paused_for: Option<Duration>) -> Option<Trouble> {
        let mut unstaged = self.desk.slots.values().map(|reading| &reading.unstaged);
        if let Some(held_back) = unstaged.find_map(|unstaged| unstaged.held_back.as_ref()) {
            return Some(Trouble::Retrying(held_back.reason.clone()));
        }
        if paused_for.is_some_and(|paused_for| paused_for >= PAUSE_TOLD) {
            return Some(outbox_full(&self.desk.exchange.outbox));
        }
        let wanted = self.desk.wanted.clone()?;
        Some(Trouble::Waiting(Fault {
            code: wanted.code.into(),
            reason: wanted.reason,
        }))
    }

    fn seek(
        &mut self,
        source: &mut dyn Source,
        slot: Slot,
        place: Place,
        number: u64,
    ) -> Result<(), SourceFault> {
        if !self.desk.restart(slot, number) {
            return Ok(());
        }
        let place = if place == Place::Earliest {
            self.beginning
        } else {
            place
        };
        source.seek(slot, place)
    }

    fn commit(&mut self, source: &mut dyn Source) -> Result<(), SourceFault> {
        let due: Vec<(Slot, Sequence)> = std::mem::take(&mut self.commits).into_iter().collect();
        if due.is_empty() {
            Ok(())
        } else {
            source.commit(&due)
        }
    }

    fn stopped_within(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            match self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Order::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return true,
                // Said again to the next reader when it is assigned the stream.
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn failed(&self, code: &'static str, reason: &str) {
        tracing::error!(connector = %self.name, code, reason, "source stopped");
        let fault = Fault {
            code: code.into(),
            reason: reason.into(),
        };
        self.status.lock().trouble = Some(Trouble::Failed(fault));
        while !matches!(self.inbox.recv(), Ok(Order::Stop) | Err(_)) {}
    }
}

// ----- the desk --------------------------------------------------------------------------------------------------

/// Where a source hands its records over.
struct Desk {
    exchange: Arc<Exchange>,
    orders: mpsc::Sender<Order>,
    codec: Codec,
    /// What records pass through, shared by the streams of the task.
    chain: Chain,
    slots: BTreeMap<Slot, Reading>,
    taken: u64,
    /// What the source waits for, told to people.
    wanted: Option<Halt>,
}

/// A stream that is being read.
struct Reading {
    stream: Arc<OriginStream>,
    /// Records on their way to the stages; without stages, none.
    unstaged: Unstaged,
    /// The frame under way; begins where the one before ended.
    frame: FrameBuilder,
    /// When it must be closed, once a first record or a first hole has come.
    due: Option<Instant>,
    /// Dead letters on their way, where they are kept.
    letters: Option<LettersUnderWay>,
    /// Closed frames that the outbox had no room for.
    waiting: VecDeque<Closed>,
    /// Records are taken in: the source is where it was told to be.
    placed: bool,
    /// The source was told to hand over nothing.
    paused: bool,
    /// The assignment.
    reader: u64,
    /// The number of the seek the source was last given.
    seek: u64,
}

/// A closed frame and those of the dead letters in its places: durable together or not at all.
struct Closed {
    frame: Frame,
    letters: Vec<Frame>,
}

/// The dead letters of the frame under way.
struct LettersUnderWay {
    /// The frame that the next one goes into; begins where the lane ends.
    frame: FrameBuilder,
    /// Those that are full.
    closed: Vec<Frame>,
}

/// Records of one stream that wait to pass through the stages together.
#[derive(Default)]
struct Unstaged {
    records: Columns,
    /// The leader epoch and CRC of each, as the source gave it.
    guards: Vec<Guard>,
    /// The place accounted for behind the last record, with its epoch.
    end: Option<(Sequence, i32)>,
    /// A stage asked to be tried again later.
    held_back: Option<HeldBack>,
}

/// When stages are tried again.
struct HeldBack {
    /// What it waits for.
    reason: String,
    until: Instant,
    pause: Duration,
}

impl Unstaged {
    fn restart(&mut self, at: Sequence) {
        self.records.restart(at);
        self.guards.clear();
        self.end = None;
        self.held_back = None;
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.end.is_none()
    }

    /// A batch that stages are shown is no larger than a frame.
    fn is_full(&self) -> bool {
        self.records.len() >= limits::FRAME_RECORDS_MAX || self.records.bytes() >= limits::FRAME_BYTES_TARGET
    }
}

impl Desk {
    fn reading(&mut self, slot: Slot) -> Option<&mut Reading> {
        self.slots.get_mut(&slot)
    }

    /// How long the source may be waited for: until the oldest open frame is due.
    fn patience(&self) -> Duration {
        let first = self.slots.values().filter_map(|reading| reading.due).min();
        first.map_or(POLL_MAX, |due| {
            due.saturating_duration_since(Instant::now()).min(POLL_MAX)
        })
    }

    /// Whether a stream is ahead, and all have somebody who takes them. While one has nobody, everything is taken in as it
    /// comes: that is what the outbox is for.
    fn is_ahead(&self) -> bool {
        let mut unsent = self.slots.values().map(|reading| reading.stream.unsent());
        let most = unsent.try_fold(0, |most, unsent| Some(most.max(unsent?)));
        most.is_some_and(|most| most > AHEAD_PLACES)
    }

    fn waits(&self) -> bool {
        self.slots
            .values()
            .any(|reading| !reading.waiting.is_empty() || reading.unstaged.held_back.is_some())
    }

    /// Closes what is due by `now`, and tries again what waits for room or for a stage.
    fn close_batches(&mut self, now: Instant) {
        for reading in self.slots.values_mut() {
            if reading.due.is_some_and(|due| due <= now) && reading.stage(&mut self.chain, self.codec) {
                reading.close(self.codec);
            }
            reading.append_waiting();
        }
    }

    /// Pauses every stream or lets it go on, also those that were assigned since (A7).
    fn pause(&mut self, source: &mut dyn Source, full: bool) -> Result<(), SourceFault> {
        for (slot, reading) in self
            .slots
            .iter_mut()
            .filter(|(_, reading)| reading.paused != full)
        {
            if full {
                source.pause(*slot)?;
            } else {
                source.resume(*slot)?;
            }
            reading.paused = full;
        }
        Ok(())
    }

    /// Forgets what was read of a stream that is about to be read from another place.
    fn restart(&mut self, slot: Slot, seek: u64) -> bool {
        let Some(reading) = self.slots.get_mut(&slot) else {
            return false;
        };
        reading.seek = seek;
        reading.waiting.clear();
        reading.unstaged.restart(Sequence::ZERO);
        reading.due = None;
        reading.placed = false;
        true
    }

    fn revoke_all(&mut self) {
        let slots: Vec<Slot> = self.slots.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.revoked(slot));
    }
}

impl Intake for Desk {
    fn assigned(&mut self, slot: Slot, id: StreamId, committed: Option<Sequence>) {
        let refuse = |error: String| {
            let fault = Fault {
                code: "CULVERT-F020".into(),
                reason: format!("outbox of {id}: {error}"),
            };
            self.exchange.halted(&id, None, fault);
        };
        let stream = match OriginStream::open(&self.exchange, &id) {
            Ok(stream) => stream,
            Err(error) => return refuse(error.to_string()),
        };
        tracing::info!(stream = %id, ?committed, "stream assigned");
        for route in self
            .exchange
            .routes()
            .into_iter()
            .filter(|route| route.role == Role::Origin)
        {
            if let Err(error) = super::transit::link_stream(&self.exchange, &route, &stream) {
                tracing::error!(stream = %id, route = %route.id, %error, "route cannot be served");
            }
        }
        stream.ask_aside();
        let frame = match FrameBuilder::new(&id, Sequence::ZERO, Guard::NONE) {
            Ok(frame) => frame,
            Err(error) => return refuse(error.to_string()),
        };
        let letters = match stream.aside() {
            Some(_) => match FrameBuilder::new(&id, Sequence::ZERO, Guard::NONE) {
                Ok(frame) => Some(LettersUnderWay {
                    frame,
                    closed: Vec::new(),
                }),
                Err(error) => return refuse(error.to_string()),
            },
            None => None,
        };
        let reader = stream.assigned(slot, self.orders.clone(), committed);
        let reading = Reading {
            letters,
            stream,
            unstaged: Unstaged::default(),
            frame,
            due: None,
            waiting: VecDeque::new(),
            placed: false,
            paused: false,
            reader,
            seek: 0,
        };
        self.slots.insert(slot, reading);
    }

    fn revoked(&mut self, slot: Slot) {
        if let Some(mut reading) = self.slots.remove(&slot) {
            tracing::info!(stream = %reading.stream.id, "stream revoked");
            reading.close(self.codec);
            reading.stream.revoked(reading.reader);
        }
    }

    fn placed(&mut self, slot: Slot, at: Sequence, guard: Guard) {
        if let Some(reading) = self.reading(slot) {
            reading.frame.restart(at, guard);
            reading.unstaged.restart(at);
            reading.placed = reading.stream.act(|machine| {
                let is_last = reading.stream.is_last_seek(reading.seek);
                if is_last {
                    machine.placed(at, guard);
                }
                is_last
            });
            reading.place_letters(at, guard);
        }
    }

    fn record(&mut self, slot: Slot, sequence: Sequence, epoch: i32, record: &RecordRef<'_>) {
        let Desk {
            chain, codec, slots, ..
        } = self;
        self.taken += 1;
        let Some(reading) = slots.get_mut(&slot).filter(|reading| reading.placed) else {
            return;
        };
        if chain.is_empty() {
            reading.take(sequence, epoch, record.crc32c(), record, *codec);
        } else {
            reading.take_unstaged(sequence, epoch, record, chain, *codec);
        }
    }

    fn advanced(&mut self, slot: Slot, to: Sequence, epoch: i32) {
        let codec = self.codec;
        let Some(reading) = self.slots.get_mut(&slot).filter(|reading| reading.placed) else {
            return;
        };
        if reading.unstaged.records.is_empty() {
            reading.advance(to, epoch, codec);
        } else if to > reading.unstaged.records.interval().to {
            reading.unstaged.end = Some((to, epoch));
        }
    }

    fn halted(&mut self, slot: Slot, halt: Halt) {
        if let Some(reading) = self.reading(slot) {
            reading.stand_still(Halted::Source, halt.code, halt.reason);
        }
    }

    fn waits_for(&mut self, what: Option<Halt>) {
        self.wanted = what;
    }
}

impl Reading {
    /// A record on its way to the stages.
    fn take_unstaged(
        &mut self,
        sequence: Sequence,
        epoch: i32,
        record: &RecordRef<'_>,
        chain: &mut Chain,
        codec: Codec,
    ) {
        if self.unstaged.is_full() {
            // Where a stage cannot now, the source is told to pause; until it does, some more come together here.
            self.stage(chain, codec);
            if !self.placed {
                return;
            }
        }
        let unstaged = &mut self.unstaged;
        if let Err(error) = unstaged.records.push(sequence, record) {
            return self.halt(
                "CULVERT-F024",
                format!("record {sequence} cannot be taken in: {error}"),
            );
        }
        let crc = record.crc32c();
        unstaged.guards.push(Guard { epoch, crc });
        unstaged.end = None;
        self.begun();
    }

    /// Passes what waits through the stages, and what is left of it into frames. Answers whether nothing waits any more.
    fn stage(&mut self, chain: &mut Chain, codec: Codec) -> bool {
        if self.unstaged.is_empty() {
            return true;
        }
        let now = Instant::now();
        if self
            .unstaged
            .held_back
            .as_ref()
            .is_some_and(|held_back| now < held_back.until)
        {
            return false;
        }
        let batch = std::mem::take(&mut self.unstaged.records);
        let fresh = Columns::begin(batch.interval().to);
        match chain.pass(&self.stream.id, &batch) {
            Ok(passed) => {
                let guards = std::mem::take(&mut self.unstaged.guards);
                let end = self.unstaged.end.take();
                self.unstaged.records = fresh;
                self.unstaged.held_back = None;
                self.take_passed(&batch, &guards, &passed, chain, codec);
                if let Some((to, epoch)) = end.filter(|_| self.placed) {
                    self.advance(to, epoch, codec);
                }
                true
            }
            Err(StageFault::Retry { reason, after }) => {
                self.unstaged.records = batch;
                self.hold_back(&reason, after);
                false
            }
            Err(StageFault::Stream { code, reason } | StageFault::Stop { code, reason }) => {
                self.halt(code, reason);
                true
            }
        }
    }

    /// A stage asked to be tried again later.
    fn hold_back(&mut self, reason: &str, after: Option<Duration>) {
        let held_back = &mut self.unstaged.held_back;
        let pause = match held_back {
            Some(held_back) => (held_back.pause * 2).min(RETRY_MAX),
            None => {
                tracing::warn!(stream = %self.stream.id, reason, "stage cannot now, trying again");
                STAGE_RETRY_MIN
            }
        };
        let until = Instant::now() + pause.max(after.unwrap_or_default());
        *held_back = Some(HeldBack {
            reason: reason.to_owned(),
            until,
            pause,
        });
        self.due = Some(until);
    }

    /// What the stages made of a batch. Records they dropped leave holes, which the source need not confirm; so do those
    /// they refused, up to the first one that cannot be kept.
    fn take_passed(
        &mut self,
        batch: &Columns,
        guards: &[Guard],
        passed: &Passed<'_>,
        chain: &Chain,
        codec: Codec,
    ) {
        let mut made = passed.records.iter().enumerate().peekable();
        // Filled anew for each record: nothing is allocated for one.
        let (mut parts, mut schemas) = (Vec::new(), Vec::new());
        for ((sequence, record), guard) in batch.iter().zip(guards) {
            parts.clear();
            while let Some((index, (_, part))) = made.next_if(|(_, (next, _))| *next == sequence) {
                parts.push((passed.records.topic(index), part));
            }
            if let Some(refused) = passed.refused.get(&sequence) {
                self.set_aside(sequence, *guard, &record, refused, codec);
            } else if parts.is_empty() {
                self.advance(sequence.next(), guard.epoch, codec);
            } else {
                self.frame.confirm_hole(sequence);
                schemas.clear();
                parts
                    .iter()
                    .for_each(|(_, part)| chain.schemas_of(part, &mut schemas));
                self.take_parts(sequence, *guard, &parts, &schemas, codec);
            }
            if !self.placed {
                return;
            }
        }
    }

    /// A record that a stage refused: a dead letter where those are kept, and a hole in the stream. Else its stream stands
    /// still before it.
    fn set_aside(
        &mut self,
        sequence: Sequence,
        guard: Guard,
        record: &RecordRef<'_>,
        refused: &Refused,
        codec: Codec,
    ) {
        if self.letters.is_none() {
            self.close(codec);
            let rejection = &refused.rejection;
            let field = rejection.field.as_deref().unwrap_or("-");
            return self.halt(
                "CULVERT-F013",
                format!(
                    "record {sequence} was refused by stage {} with code {}: {} (field {field})",
                    refused.stage, rejection.code, rejection.reason
                ),
            );
        }
        let headers = letters::headers_with(record, &refused.stage, &refused.rejection);
        let letter = RecordRef {
            headers: headers.as_headers(),
            ..*record
        };
        if !letters::fits(&letter) {
            self.close(codec);
            return self.halt(
                "CULVERT-F015",
                format!(
                    "record {sequence} was refused by stage {} with code {}, and has no room for its reason: {} bytes, {} headers",
                    refused.stage, refused.rejection.code, record.size(), record.headers.len()
                ),
            );
        }
        // First the place in the stream: what is closed by that ends below the letter, and goes without it.
        self.advance(sequence.next(), guard.epoch, codec);
        if self.placed {
            self.push_letter(sequence, guard, &letter, codec);
        }
    }

    fn push_letter(&mut self, sequence: Sequence, guard: Guard, letter: &RecordRef<'_>, codec: Codec) {
        let Some(letters) = &mut self.letters else { return };
        letters.frame.confirm_hole(sequence);
        let outcome = loop {
            match letters.frame.push_as(sequence, guard.epoch, guard.crc, letter) {
                Ok(Push::Taken) => break Ok(letters.closed.is_empty()),
                Ok(Push::Full) => break Ok(false),
                Ok(Push::NotTaken) => match letters.finish(codec) {
                    Ok(()) => {}
                    Err(error) => break Err(error),
                },
                Err(error) => break Err(error),
            }
        };
        match outcome {
            Ok(true) => {}
            // Both are closed, so that little is to be durable at once.
            Ok(false) => self.close(codec),
            Err(error) => self.halt(
                "CULVERT-F015",
                format!("record {sequence} was refused, and cannot be kept: {error}"),
            ),
        }
    }

    /// Reading goes on at `at`: dead letters go on where their lane ends. No record between was refused and is not there,
    /// since both lanes are restarted together.
    fn place_letters(&mut self, at: Sequence, guard: Guard) {
        if let (Some(letters), Some(aside)) = (&mut self.letters, self.stream.aside()) {
            let tail = aside.lane.extent().tail;
            let guard = if tail == at { guard } else { Guard::NONE };
            letters.frame.restart(tail, guard);
            letters.closed.clear();
        }
    }

    fn take(&mut self, sequence: Sequence, epoch: i32, crc: u32, record: &RecordRef<'_>, codec: Codec) {
        self.push(sequence, &[], codec, |frame| {
            frame.push_as(sequence, epoch, crc, record)
        });
    }

    /// What stages made of one record, and the schemas that it was written with.
    fn take_parts(
        &mut self,
        sequence: Sequence,
        guard: Guard,
        parts: &[Part<'_>],
        schemas: &[Fingerprint],
        codec: Codec,
    ) {
        let Guard { epoch, crc } = guard;
        self.push(sequence, schemas, codec, |frame| match parts {
            [(None, record)] => frame.push_as(sequence, epoch, crc, record),
            parts => frame.push_parts(sequence, epoch, crc, parts),
        });
    }

    /// Puts something of place `sequence` into the frame under way, or into the next.
    fn push(
        &mut self,
        sequence: Sequence,
        schemas: &[Fingerprint],
        codec: Codec,
        push: impl Fn(&mut FrameBuilder) -> Result<Push, Malformed>,
    ) {
        loop {
            if !self.frame.has_room_for(schemas) {
                self.close(codec);
            }
            match push(&mut self.frame) {
                Ok(Push::Taken) => {
                    self.frame.name(schemas);
                    break;
                }
                Ok(Push::Full) => {
                    self.frame.name(schemas);
                    return self.close(codec);
                }
                Ok(Push::NotTaken) => self.close(codec),
                Err(error) => {
                    return self.halt(
                        "CULVERT-F024",
                        format!("record {sequence} cannot be taken in: {error}"),
                    );
                }
            }
        }
        self.begun();
    }

    fn advance(&mut self, to: Sequence, epoch: i32, codec: Codec) {
        if to <= self.frame.interval().to {
            return;
        }
        self.frame.confirm_hole(to);
        loop {
            match self.frame.advance_in(to, epoch) {
                Ok(Push::Taken | Push::Full) => break,
                Ok(Push::NotTaken) => self.close(codec),
                Err(error) => {
                    return self.halt(
                        "CULVERT-F024",
                        format!("hole up to {to} cannot be taken in: {error}"),
                    );
                }
            }
        }
        self.begun();
    }

    /// Something is in the frame under way.
    fn begun(&mut self) {
        if self.due.is_none() {
            self.due = Some(Instant::now() + self.stream.frame_age_max());
        }
    }

    /// Closes the frame under way and gives it to the outbox.
    fn close(&mut self, codec: Codec) {
        self.due = None;
        if !self.placed {
            return;
        }
        match self.finish(codec) {
            Ok(None) => {}
            Ok(Some(frame)) => match self.close_letters(codec) {
                Ok(letters) => {
                    metrics::TAKEN_IN_RECORDS
                        .with(&[&self.stream.id.topic])
                        .increment(frame.count() as u64);
                    self.waiting.push_back(Closed { frame, letters });
                    self.append_waiting();
                }
                Err(error) => self.halt(
                    "CULVERT-F023",
                    format!("dead letters of frame {}: {error}", frame.interval()),
                ),
            },
            Err(error) => self.halt(
                "CULVERT-F023",
                format!("frame {}: {error}", self.frame.interval()),
            ),
        }
    }

    fn finish(&mut self, codec: Codec) -> Result<Option<Frame>, Malformed> {
        finish(&mut self.frame, codec)
    }

    /// The dead letters of the frame that was just closed.
    fn close_letters(&mut self, codec: Codec) -> Result<Vec<Frame>, Malformed> {
        match &mut self.letters {
            Some(letters) => {
                letters.finish(codec)?;
                Ok(std::mem::take(&mut letters.closed))
            }
            None => Ok(Vec::new()),
        }
    }

    /// The next record cannot go on.
    fn halt(&mut self, code: &str, reason: String) {
        self.stand_still(Halted::Record, code, reason);
    }

    /// This stream stands still; what is in the outbox goes on its way. Not told when it was decided meanwhile to read
    /// elsewhere: only the outcome of the last seek counts, however an earlier one went.
    fn stand_still(&mut self, why: Halted, code: &str, reason: String) {
        self.placed = false;
        self.waiting.clear();
        let stream = &self.stream;
        stream.act(|machine| {
            if stream.is_last_seek(self.seek) {
                let fault = Fault {
                    code: code.into(),
                    reason,
                };
                stream.exchange.halted(&stream.id, None, fault);
                machine.halt(why);
            }
        });
    }

    fn append_waiting(&mut self) {
        while let Some(closed) = self.waiting.front() {
            let stream = &self.stream;
            let interval = closed.frame.interval();
            let appended = stream.act(|machine| {
                // A seek that was decided on meanwhile makes what was read before it worthless.
                if !machine.reads() || !stream.is_last_seek(self.seek) {
                    return Ok(());
                }
                closed.append(stream)?;
                machine.appended(interval.to, closed.frame.guard_end());
                Ok(())
            });
            match appended {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(outbox::Error::Full(_)) => return,
                Err(error) => {
                    return self.halt("CULVERT-F020", format!("append {interval}: {error}"));
                }
            }
        }
    }
}

impl Closed {
    fn append(&self, stream: &OriginStream) -> Result<(), outbox::Error> {
        let (interval, bytes) = (self.frame.interval(), self.frame.bytes().clone());
        let Some(aside) = stream.aside().filter(|_| !self.letters.is_empty()) else {
            return stream.lane.append(interval, bytes);
        };
        let mut group = Group::default();
        group.append(&stream.lane, interval, bytes)?;
        for letters in &self.letters {
            group.append(&aside.lane, letters.interval(), letters.bytes().clone())?;
        }
        stream.exchange.outbox.together(group)
    }
}

impl LettersUnderWay {
    /// Closes the frame that the next letter goes into.
    fn finish(&mut self, codec: Codec) -> Result<(), Malformed> {
        self.closed.extend(finish(&mut self.frame, codec)?);
        Ok(())
    }
}

/// A batch that does not fit the limits of a frame when compressed is left uncompressed.
fn finish(frame: &mut FrameBuilder, codec: Codec) -> Result<Option<Frame>, Malformed> {
    let codecs = Codecs::default();
    frame
        .finish(codec, &codecs)
        .or_else(|_| frame.finish(Codec::None, &codecs))
}
