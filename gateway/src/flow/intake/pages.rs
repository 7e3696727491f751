//! The task of a source that brings pages ([`PagedSource`]).
//!
//! Each topic is a stream of its own, numbered here: a run ([`Lineage::Run`](culvert_proto::Lineage)). It begins with the
//! task's first page on this disk and lives as long as the outbox that holds it. What it holds exists nowhere else, so it
//! is kept until every sink has it, and nothing is ever read again by number.
//!
//! Constraints:
//! - One page at a time: it passes the stages, becomes frames, and is given to the outbox as one group, with its resume
//!   points and what the source stored ([`Memory`]). Only then is the next one asked for. What is in the group becomes
//!   durable as one, in the order of groups.
//! - While the outbox is full, or one of the task's streams is at its quota, the page waits, and nothing is asked for (A7).
//! - The source hears that a page is durable when it is (A2).
//! - A source that breaks is opened again behind what was kept; nothing of the call that failed is.

#[cfg(test)]
mod tests;

use super::memory::{End, Memory, Unfit};
use super::{
    COMMIT_EVERY, MakeChain, Order, OriginStream, POLL_MAX, RETRY_MAX, STAGE_RETRY_MIN, Status, Task, Terms,
    at_quota, outbox_full,
};
use crate::codec::compression::Codecs;
use crate::flow::delivery::Trouble;
use crate::flow::exchange::{Exchange, Role};
use crate::flow::mend::{self, Halt, halt_of_runs};
use crate::flow::paged::{Changes, Page, PageFault, PagedSource, ResumePoint};
use crate::flow::stage::{Chain, StageFault};
use crate::flow::{Place, Slot, SourceFault, transit};
use crate::observe::metrics;
use crate::outbox::{self, Group};
use culvert_proto::batch::Codec;
use culvert_proto::columns::Columns;
use culvert_proto::frame::{Frame, FrameBuilder, Part, Push};
use culvert_proto::message::Fault;
use culvert_proto::record::RecordRef;
use culvert_proto::wire::Malformed;
use culvert_proto::{Guard, Sequence, limits};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long a source may wait for the first record of a page. Orders (a stop) wait as long.
const POLL_WAIT: Duration = Duration::from_millis(500);

/// The pause behind a page that brought nothing and does not say when to ask again.
const NOTHING_WAIT: Duration = Duration::from_millis(100);

/// How many resume points `status` shows.
const SHOWN_POINTS_MAX: usize = 100;

/// Makes the source of one task, with what is in its store.
pub type MakePaged = dyn Fn(&Changes) -> Result<Box<dyn PagedSource>, SourceFault> + Send + Sync;

/// Which task of which connector.
#[derive(Clone, Debug)]
pub struct TaskId {
    /// The connector.
    pub connector: Arc<str>,
    /// The task's number in it.
    pub number: u32,
}

/// Starts the task on a thread of its own. `stages` makes what its records pass through.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(
    exchange: &Arc<Exchange>,
    id: TaskId,
    terms: Terms,
    stages: Arc<MakeChain>,
    make: Box<MakePaged>,
) -> std::io::Result<Task> {
    let (orders, inbox) = mpsc::channel();
    let status = Arc::new(Mutex::new(Status::default()));
    let (thread_orders, thread_status) = (orders.clone(), status.clone());
    let exchange = exchange.clone();
    let thread = std::thread::Builder::new()
        .name(format!("{}-{}", id.connector, id.number))
        .spawn(move || {
            let (memory, state) = match Memory::load(&exchange.outbox, &id.connector, id.number) {
                Ok(loaded) => loaded,
                Err(damaged) => {
                    let end = TaskEnd {
                        inbox: &inbox,
                        status: &thread_status,
                        connector: &id.connector,
                    };
                    return end.failed("CULVERT-F038", &damaged.to_string());
                }
            };
            let runner = Runner {
                exchange,
                id,
                terms,
                orders: thread_orders,
                inbox,
                status: thread_status,
                chain: Chain::default(),
                memory,
                topics: BTreeMap::new(),
                is_open: false,
                idle_until: Instant::now(),
                told: Told::default(),
            };
            runner.run(&*stages, &*make, &state);
        })?;
    Ok(Task {
        orders,
        thread: Mutex::new(Some(thread)),
        status,
    })
}

/// Why the task does not go on with what it was at.
enum Interrupt {
    /// It was asked to end.
    Stop,
    /// Heals by waiting.
    Retry { reason: String, after: Option<Duration> },
    /// The source is to be opened again.
    Broken(String),
    /// Needs an operator.
    Failed { code: &'static str, reason: String },
}

impl From<PageFault> for Interrupt {
    fn from(fault: PageFault) -> Interrupt {
        match fault {
            PageFault::Retry { reason, after } => Interrupt::Retry { reason, after },
            PageFault::Broken(reason) => Interrupt::Broken(reason),
            PageFault::Stop { code, reason } => Interrupt::Failed { code, reason },
        }
    }
}

impl From<StageFault> for Interrupt {
    fn from(fault: StageFault) -> Interrupt {
        match fault {
            StageFault::Retry { reason, after } => Interrupt::Retry { reason, after },
            // A page is one unit: where a stream of it stands, all do.
            StageFault::Stream { code, reason } | StageFault::Stop { code, reason } => {
                Interrupt::Failed { code, reason }
            }
        }
    }
}

impl From<SourceFault> for Interrupt {
    fn from(fault: SourceFault) -> Interrupt {
        match fault {
            SourceFault::Retry(reason) => Interrupt::Retry { reason, after: None },
            SourceFault::Stop { code, reason } => Interrupt::Failed { code, reason },
        }
    }
}

fn failed(code: &'static str, reason: impl std::fmt::Display) -> Interrupt {
    let reason = reason.to_string();
    Interrupt::Failed { code, reason }
}

struct Runner {
    exchange: Arc<Exchange>,
    id: TaskId,
    terms: Terms,
    orders: mpsc::Sender<Order>,
    inbox: mpsc::Receiver<Order>,
    status: Arc<Mutex<Status>>,
    /// What records pass through.
    chain: Chain,
    memory: Memory,
    topics: BTreeMap<Arc<str>, Topic>,
    /// The source was opened, and did not break since.
    is_open: bool,
    /// The source said that there is nothing before.
    idle_until: Instant,
    told: Told,
}

/// A topic, and the stream that it is.
struct Topic {
    stream: Arc<OriginStream>,
    slot: Slot,
    /// The assignment.
    reader: u64,
    /// Where the next record comes, and what names those before it.
    end: End,
    frame: FrameBuilder,
}

/// What the source was told to be durable.
#[derive(Default)]
struct Told {
    /// Groups that the outbox was given.
    groups: u64,
    /// Groups that are on disk for certain.
    stored: Arc<AtomicU64>,
    /// What is to be told once so many groups are.
    waiting: Option<(u64, Vec<ResumePoint>)>,
    /// There are resume points that it was not told of.
    news: bool,
    due: Option<Instant>,
}

/// A page as the outbox takes it.
struct Prepared {
    group: Group,
    tails: Vec<Tail>,
    records: u64,
}

/// How far a page moves one stream.
struct Tail {
    topic: Arc<str>,
    stream: Arc<OriginStream>,
    end: End,
    guard: Guard,
    records: u64,
}

impl Runner {
    fn run(mut self, stages: &MakeChain, make: &MakePaged, state: &Changes) {
        let mut source = None;
        let mut pause = STAGE_RETRY_MIN;
        loop {
            let groups = self.told.groups;
            let Err(interrupt) = self.work(&mut source, stages, make, state);
            if self.told.groups > groups {
                pause = STAGE_RETRY_MIN;
            }
            let (reason, after) = match interrupt {
                Interrupt::Stop => break,
                Interrupt::Failed { code, reason } => {
                    if let Some(mut source) = source {
                        source.close();
                    }
                    return self.failed(code, &reason);
                }
                Interrupt::Retry { reason, after } => (reason, after),
                Interrupt::Broken(reason) => {
                    self.is_open = false;
                    (reason, None)
                }
            };
            self.tell_retrying(reason);
            let until = Instant::now() + pause.max(after.unwrap_or_default());
            if self.wait(until).is_err() {
                break;
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
        if let Some(mut source) = source {
            source.close();
        }
        self.topics
            .values()
            .for_each(|topic| topic.stream.revoked(topic.reader));
    }

    /// Asks for pages and keeps them.
    fn work(
        &mut self,
        source: &mut Option<Box<dyn PagedSource>>,
        stages: &MakeChain,
        make: &MakePaged,
        state: &Changes,
    ) -> Result<std::convert::Infallible, Interrupt> {
        if let Some(reason) = halt_of_runs(&self.exchange.outbox) {
            return Err(failed("CULVERT-O012", reason));
        }
        // Also what nobody adds to is sent on.
        for topic in self.memory.topics().to_vec() {
            self.open_topic(&topic)?;
        }
        if self.chain.is_empty() {
            self.chain = stages()?;
        }
        let source = match source {
            Some(source) => source,
            None => source.insert(make(state)?),
        };
        let mut room = self.exchange.outbox.room();
        loop {
            if !self.is_open {
                self.open(&mut **source)?;
            }
            self.attend()?;
            self.tell_durable(&mut **source)?;
            if !*room.borrow_and_update() || self.stream_at_quota().is_some() {
                self.wait_for_room()?;
            } else if Instant::now() < self.idle_until {
                self.wait(self.idle_until.min(Instant::now() + COMMIT_EVERY))?;
            } else {
                let page = source.poll(POLL_WAIT)?;
                let nothing = page.records.is_empty().then_some(NOTHING_WAIT);
                self.idle_until = Instant::now() + page.idle.or(nothing).unwrap_or_default();
                self.keep(&mut **source, page)?;
            }
        }
    }

    fn open(&mut self, source: &mut dyn PagedSource) -> Result<(), Interrupt> {
        let changes = source.open(&self.memory.points())?;
        self.is_open = true;
        self.idle_until = Instant::now();
        self.told.waiting = None;
        // What it opened behind is told as soon as it is certain.
        self.told.news = !self.memory.points().is_empty();
        self.told.due = None;
        self.keep(
            source,
            Page {
                changes,
                ..Page::default()
            },
        )
    }

    // ----- a page ----------------------------------------------------------------------------------------------

    /// Gives a page to the outbox, however long it takes to have room.
    #[allow(clippy::needless_pass_by_value, reason = "a page is used up")]
    fn keep(&mut self, source: &mut dyn PagedSource, page: Page) -> Result<(), Interrupt> {
        if page.records.is_empty() && page.points.is_empty() && page.changes.is_empty() {
            self.show();
            return Ok(());
        }
        let prepared = self.prepared(&page)?;
        loop {
            match self.append(&prepared) {
                Ok(()) => break,
                Err(outbox::Error::Full(_) | outbox::Error::AtQuota { .. }) => self.wait_for_room()?,
                Err(error) => return Err(failed("CULVERT-F020", format!("outbox: {error}"))),
            }
        }
        let topics: Vec<Arc<str>> = prepared.tails.iter().map(|tail| tail.topic.clone()).collect();
        self.memory.taken(&topics, &page.points);
        for tail in prepared.tails {
            if let Some(topic) = self.topics.get_mut(&tail.topic) {
                topic.end = tail.end;
            }
            metrics::TAKEN_IN_RECORDS
                .with(&[&tail.topic])
                .increment(tail.records);
        }
        source.kept(&page.changes);
        self.told.groups += 1;
        self.told.news |= !page.points.is_empty();
        self.status.lock().records += prepared.records;
        self.show();
        Ok(())
    }

    /// The page as a group; a stage that cannot now is waited for.
    fn prepared(&mut self, page: &Page) -> Result<Prepared, Interrupt> {
        let mut pause = STAGE_RETRY_MIN;
        loop {
            match self.prepare(page) {
                Err(Interrupt::Retry { reason, after }) => {
                    self.tell_retrying(reason);
                    self.wait(Instant::now() + pause.max(after.unwrap_or_default()))?;
                    pause = (pause * 2).min(RETRY_MAX);
                }
                done => return done,
            }
        }
    }

    fn prepare(&mut self, page: &Page) -> Result<Prepared, Interrupt> {
        let mut names: Vec<Arc<str>> = Vec::new();
        for (topic, _) in &page.records {
            if !names.iter().any(|name| **name == **topic) {
                names.push(topic.as_str().into());
            }
        }
        let too_much = |unfit: Unfit| {
            failed(
                "CULVERT-W041",
                format!("what the plugin brought cannot be kept: {unfit}"),
            )
        };
        let mut group = Group::default();
        self.memory
            .put(&mut group, &names, &page.points, &page.changes)
            .map_err(too_much)?;
        let mut tails = Vec::new();
        for name in names {
            self.open_topic(&name)?;
            let Some(topic) = self.topics.get_mut(&name) else {
                continue;
            };
            let records = page.records.iter().filter(|(of, _)| **of == *name);
            let records = records.map(|(_, record)| record.as_record());
            let (frames, end) = topic.frames(records, &mut self.chain, self.terms.codec)?;
            for frame in &frames {
                let appended = group.append(&topic.stream.lane, frame.interval(), frame.bytes().clone());
                appended.map_err(|error| too_much(error.into()))?;
            }
            end.put(&mut group, &topic.stream.spelled)
                .map_err(|error| too_much(error.into()))?;
            tails.push(Tail {
                records: frames.iter().map(Frame::count).sum::<usize>() as u64,
                guard: frames.last().map_or(Guard::NONE, Frame::guard_end),
                stream: topic.stream.clone(),
                topic: name,
                end,
            });
        }
        Ok(Prepared {
            group,
            tails,
            records: page.records.len() as u64,
        })
    }

    /// All of the page or nothing. The machines are told in the same breath: a sender that sees frames on disk before
    /// they count as held would not look again.
    fn append(&self, prepared: &Prepared) -> Result<(), outbox::Error> {
        let mut machines: Vec<_> = prepared
            .tails
            .iter()
            .map(|tail| tail.stream.machine.lock())
            .collect();
        self.exchange.outbox.together(prepared.group.clone())?;
        for (machine, tail) in machines.iter_mut().zip(&prepared.tails) {
            machine.appended(tail.end.at, tail.guard);
        }
        Ok(())
    }

    fn open_topic(&mut self, name: &Arc<str>) -> Result<(), Interrupt> {
        if self.topics.contains_key(name) {
            return Ok(());
        }
        let exchange = &self.exchange;
        let id = self.memory.stream(&exchange.site, name, self.id.number);
        let refuse = |error: String| failed("CULVERT-F020", format!("outbox of {id}: {error}"));
        let stream = OriginStream::open(exchange, &id).map_err(|error| refuse(error.to_string()))?;
        if let Some(halt) = Halt::of(&exchange.outbox, &stream.spelled) {
            let fault = halt.fault(&id);
            exchange.halted(&id, None, fault.clone());
            return Err(failed("CULVERT-O012", fault.reason));
        }
        if let Some(lost) = mend::accepted(&exchange.outbox, &stream.spelled) {
            tracing::info!(stream = %id, lost, "goes on without records whose loss was accepted");
        }
        let end = End::load(&exchange.outbox, &stream.spelled);
        let tail = stream.lane.extent().tail;
        if tail != end.at {
            return Err(refuse(format!("it ends at {tail}, and {} is remembered", end.at)));
        }
        let routes = exchange.routes().into_iter();
        for route in routes.filter(|route| route.role == Role::Origin) {
            transit::link_stream(exchange, &route, &stream).map_err(|error| refuse(error.to_string()))?;
        }
        stream.set_priority(self.terms.priority);
        stream
            .set_quota(self.terms.quota)
            .map_err(|error| refuse(error.to_string()))?;
        let frame = FrameBuilder::new(&id, end.at, Guard::NONE).map_err(|error| refuse(error.to_string()))?;
        let slot = Slot(u32::try_from(self.topics.len()).unwrap_or(u32::MAX));
        let reader = stream.assigned(slot, self.orders.clone(), None);
        let topic = Topic {
            stream,
            slot,
            reader,
            end,
            frame,
        };
        tracing::info!(stream = %id, at = %end.at, "stream of a plugin's topic");
        self.topics.insert(name.clone(), topic);
        self.status.lock().streams.push(id);
        self.attend()
    }

    // ----- orders and pauses -----------------------------------------------------------------------------------

    /// Does what was ordered meanwhile.
    fn attend(&mut self) -> Result<(), Interrupt> {
        while let Ok(order) = self.inbox.try_recv() {
            self.obey(order)?;
        }
        Ok(())
    }

    #[allow(clippy::needless_pass_by_value, reason = "an order is used up")]
    fn obey(&self, order: Order) -> Result<(), Interrupt> {
        match order {
            Order::Stop => return Err(Interrupt::Stop),
            Order::Seek(slot, Place::At { at, guard }, number) => {
                // Nothing is read by number here: the stream goes on at its own end, and that is where it was told to be.
                if let Some(topic) = self.topics.values().find(|topic| topic.slot == slot) {
                    topic.stream.act(|machine| {
                        if topic.stream.is_last_seek(number) {
                            machine.placed(at, guard);
                        }
                    });
                }
            }
            // A run begins with its first record, and its resume points are not the sink's to move.
            Order::Seek(..) | Order::Commit(..) => {}
        }
        Ok(())
    }

    fn wait(&self, until: Instant) -> Result<(), Interrupt> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(order) => self.obey(order)?,
                Err(mpsc::RecvTimeoutError::Timeout) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Interrupt::Stop),
            }
        }
    }

    fn wait_for_room(&mut self) -> Result<(), Interrupt> {
        let trouble = match self.stream_at_quota() {
            Some(fault) => Trouble::Paused(fault),
            None => outbox_full(&self.exchange.outbox),
        };
        self.status.lock().trouble = Some(trouble);
        self.wait(Instant::now() + POLL_MAX)
    }

    /// The first stream that is at its quota. A page is one unit: where one of its streams waits, all do.
    fn stream_at_quota(&self) -> Option<Fault> {
        self.terms.quota?;
        self.topics.values().find_map(|topic| {
            let quota = topic.stream.quota_use().filter(|quota| !quota.has_room)?;
            Some(at_quota(&topic.stream.id, &quota))
        })
    }

    /// Tells the source about once a second what is durable by then.
    fn tell_durable(&mut self, source: &mut dyn PagedSource) -> Result<(), Interrupt> {
        if self.told.due.is_some_and(|due| Instant::now() < due) {
            return Ok(());
        }
        let stored = self.told.stored.load(Ordering::Acquire);
        if let Some((number, points)) = self.told.waiting.take_if(|(number, _)| *number <= stored) {
            self.told.due = Some(Instant::now() + COMMIT_EVERY);
            match source.committed(&points) {
                Ok(changes) => self.keep(
                    source,
                    Page {
                        changes,
                        ..Page::default()
                    },
                )?,
                Err(fault) => {
                    // To be said again: nothing that came since is said before it.
                    self.told.waiting = Some((number, points));
                    return Err(fault.into());
                }
            }
        }
        if self.told.waiting.is_none() && std::mem::take(&mut self.told.news) {
            let number = self.told.groups;
            self.told.waiting = Some((number, self.memory.points()));
            let (outbox, stored) = (self.exchange.outbox.clone(), self.told.stored.clone());
            self.exchange.runtime.spawn(async move {
                if outbox.synced().await.is_ok() {
                    stored.fetch_max(number, Ordering::AcqRel);
                }
            });
        }
        Ok(())
    }

    // ----- what people see -------------------------------------------------------------------------------------

    fn show(&self) {
        let mut status = self.status.lock();
        status.trouble = None;
        status.resume = self.memory.points();
        status.resume.truncate(SHOWN_POINTS_MAX);
    }

    fn tell_retrying(&self, reason: String) {
        let mut status = self.status.lock();
        if !matches!(status.trouble, Some(Trouble::Retrying(_))) {
            tracing::warn!(connector = %self.id.connector, reason, "source cannot now, trying again");
        }
        status.trouble = Some(Trouble::Retrying(reason));
    }

    /// What is held goes on its way; the source stands.
    fn failed(self, code: &'static str, reason: &str) {
        let end = TaskEnd {
            inbox: &self.inbox,
            status: &self.status,
            connector: &self.id.connector,
        };
        end.told(code, reason);
        while let Ok(order) = self.inbox.recv() {
            if self.obey(order).is_err() {
                break;
            }
        }
        self.topics
            .values()
            .for_each(|topic| topic.stream.revoked(topic.reader));
    }
}

/// A task that does not go on.
struct TaskEnd<'a> {
    inbox: &'a mpsc::Receiver<Order>,
    status: &'a Mutex<Status>,
    connector: &'a str,
}

impl TaskEnd<'_> {
    fn told(&self, code: &'static str, reason: &str) {
        tracing::error!(connector = self.connector, code, reason, "source stopped");
        let (code, reason) = (code.into(), reason.into());
        self.status.lock().trouble = Some(Trouble::Failed(Fault { code, reason }));
    }

    fn failed(&self, code: &'static str, reason: &str) {
        self.told(code, reason);
        while !matches!(self.inbox.recv(), Ok(Order::Stop) | Err(_)) {}
    }
}

// ----- frames ----------------------------------------------------------------------------------------------------

impl Topic {
    /// The frames of records at the end of the stream, and the end behind them. May be made again from the same records.
    fn frames<'r>(
        &mut self,
        records: impl Iterator<Item = RecordRef<'r>>,
        chain: &mut Chain,
        codec: Codec,
    ) -> Result<(Vec<Frame>, End), Interrupt> {
        let Topic {
            stream, end, frame, ..
        } = self;
        let mut end = *end;
        frame.restart(end.at, guard(end));
        let mut filling = Filling {
            frame,
            codec,
            frames: Vec::new(),
        };
        let mut records = records.peekable();
        while records.peek().is_some() {
            let (mut batch, mut guards) = (Columns::begin(end.at), Vec::new());
            // A batch that stages are shown is no larger than a frame.
            while batch.len() < limits::FRAME_RECORDS_MAX && batch.bytes() < limits::FRAME_BYTES_TARGET {
                let Some(record) = records.next() else { break };
                batch
                    .push(end.at, &record)
                    .map_err(|error| unfit(end.at, &error))?;
                end = end.then(record.crc32c());
                guards.push(guard(end).crc);
            }
            filling.pass(stream, &batch, &guards, chain)?;
        }
        filling.close().map_err(|error| unfit(end.at, &error))?;
        Ok((filling.frames, end))
    }
}

/// What names the place before the end.
fn guard(end: End) -> Guard {
    Guard {
        epoch: -1,
        crc: end.chain,
    }
}

fn unfit(at: Sequence, error: &Malformed) -> Interrupt {
    failed("CULVERT-F024", format!("record {at} cannot be taken in: {error}"))
}

/// Frames under way.
struct Filling<'a> {
    frame: &'a mut FrameBuilder,
    codec: Codec,
    frames: Vec<Frame>,
}

impl Filling<'_> {
    /// Adds what the stages make of a batch; what they drop leaves holes.
    fn pass(
        &mut self,
        stream: &OriginStream,
        batch: &Columns,
        guards: &[u32],
        chain: &mut Chain,
    ) -> Result<(), Interrupt> {
        let passed = chain.pass(&stream.id, batch)?;
        if let Some((sequence, refused)) = passed.refused.first_key_value() {
            let rejection = &refused.rejection;
            let field = rejection.field.as_deref().unwrap_or("-");
            return Err(failed(
                "CULVERT-F013",
                format!(
                    "record {sequence} of {} was refused by stage {} with code {}: {} (field {field})",
                    stream.id, refused.stage, rejection.code, rejection.reason
                ),
            ));
        }
        let mut made = passed.records.iter().enumerate().peekable();
        let mut given = batch.iter().map(|(sequence, _)| sequence).zip(guards);
        while let Some((index, (sequence, record))) = made.next() {
            let crc = given
                .find(|(given, _)| *given == sequence)
                .map_or(0, |(_, crc)| *crc);
            let mut parts: Vec<Part<'_>> = vec![(passed.records.topic(index), record)];
            while let Some((index, (_, part))) = made.next_if(|(_, (next, _))| *next == sequence) {
                parts.push((passed.records.topic(index), part));
            }
            self.push(|frame| match parts.as_slice() {
                [(None, record)] => frame.push_as(sequence, -1, crc, record),
                parts => frame.push_parts(sequence, -1, crc, parts),
            })
            .map_err(|error| unfit(sequence, &error))?;
        }
        let to = batch.interval().to;
        if to > self.frame.interval().to {
            self.push(|frame| frame.advance_in(to, -1))
                .map_err(|error| unfit(to, &error))?;
        }
        Ok(())
    }

    fn push(&mut self, push: impl Fn(&mut FrameBuilder) -> Result<Push, Malformed>) -> Result<(), Malformed> {
        loop {
            match push(self.frame)? {
                Push::Taken => return Ok(()),
                Push::Full => return self.close(),
                Push::NotTaken => self.close()?,
            }
        }
    }

    /// A batch that does not fit the limits of a frame when compressed is left uncompressed.
    fn close(&mut self) -> Result<(), Malformed> {
        let codecs = Codecs::default();
        let finished = self.frame.finish(self.codec, &codecs);
        let frame = finished.or_else(|_| self.frame.finish(Codec::None, &codecs))?;
        self.frames.extend(frame);
        Ok(())
    }
}
