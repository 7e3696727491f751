//! The third leg: from a link into the sink, records and position in one atomic write.
//!
//! One thread a shard, and on it, in this order: take the shard if it is not ours (C1), gather what arrived, write
//! it from the place behind the last record the sink holds (C2), commit, and only then say so. Any fault but a
//! refused record ends the writer, and the next one reads from the sink what really happened (C3). Where a sink says that
//! its commit is to be made again, it is, by the same writer, and what comes meanwhile waits.
//!
//! Constraints:
//! - What waits for a shard is bounded by the credit of its lanes; it is given back when a frame was written.
//! - A stream that halts stops no other (L3). A route that fails keeps everything at the origin.

mod caution;
#[cfg(test)]
mod tests;

use super::exchange::{Exchange, Outlet, Route};
use super::stage::{Chain, MakeChain, Passed, StageFault};
use super::transit::{Window, registration};
use super::{DeadLetter, Sink, SinkFault};
use crate::codec::compression::Codecs;
use crate::observe::metrics;
use caution::Caution;
use culvert_proto::columns::{Columns, Rejection};
use culvert_proto::digest::{self, Digest};
use culvert_proto::frame::{Frame, FrameRecords};
use culvert_proto::message::{Fault, Message};
use culvert_proto::receiver::{Admission, Answer, Question, Receiver, Verdict};
use culvert_proto::stream::RouteId;
use culvert_proto::wire::Malformed;
use culvert_proto::{Guard, Interval, Position, Sequence, StreamId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One commit takes at most about this many bytes of frames: at 200 MB/s a fiftieth of a second.
const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a shard looks at an empty inbox before it looks around.
const IDLE: Duration = Duration::from_millis(200);

/// The first wait between two attempts.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// The longest wait between two attempts to take a shard whose sink is away. Most of the time that a sink needs after it is
/// back; an attempt at a cluster that is away takes 5 s by itself.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// The longest wait between two attempts at the same commit, unless the sink asks for more: what plugins are promised.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Makes the sink of one shard; called once for each shard at start.
pub type MakeSink = dyn Fn(usize) -> Result<Box<dyn Sink>, SinkFault> + Send + Sync;

/// How a sink is run.
#[derive(Clone)]
pub struct Options {
    /// Shards, each with one writer.
    pub shards: usize,
    /// The least time from one commit to the next: below it, records of several frames share a commit.
    pub commit_interval: Duration,
    /// Makes what records pass through before they are written.
    pub stages: Arc<MakeChain>,
    /// Records that a stage refuses become dead letters, in the transaction of those that go on; else the first one
    /// stops its stream.
    pub dead_letters: bool,
}

/// The sink end of one route.
pub struct Delivery {
    /// The route.
    pub route: RouteId,
    shards: Vec<mpsc::Sender<Work>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    status: Arc<Mutex<Status>>,
}

/// What `status` shows of a sink.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Shards that are ours now.
    pub taken: BTreeSet<usize>,
    /// Shards whose positions were read since the start.
    pub read: BTreeSet<usize>,
    /// Why a shard is being tried again, or why it stopped for good.
    pub trouble: BTreeMap<usize, Trouble>,
    /// The origin did not take the registration.
    pub refused: Option<Fault>,
    /// What the sink holds of each stream.
    pub positions: BTreeMap<StreamId, Position>,
    /// Commits since the start.
    pub commits: u64,
}

/// Why a shard does not write.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Tried again by itself.
    Retrying(String),
    /// Stands because there is no room; goes on by itself.
    Paused(Fault),
    /// Waits for what is named; goes on by itself.
    Waiting(Fault),
    /// Waits for an operator.
    Failed(Fault),
}

/// What reaches a shard.
enum Work {
    Offered {
        outlet: Outlet,
        stream: StreamId,
        held: Interval,
    },
    Frame {
        frame: Frame,
        window: Arc<Window>,
    },
    Ask {
        outlet: Outlet,
        question: Question,
    },
    Begin {
        outlet: Outlet,
        nonce: u128,
        stream: StreamId,
        start: Sequence,
        guard: Guard,
    },
    Stop,
}

impl Delivery {
    /// Starts one thread for each shard.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        exchange: &Arc<Exchange>,
        route: &Route,
        upstream: &Arc<str>,
        options: &Options,
        make: &Arc<MakeSink>,
    ) -> std::io::Result<Arc<Delivery>> {
        let status = Arc::new(Mutex::new(Status::default()));
        let (mut shards, mut threads) = (Vec::new(), Vec::new());
        for number in 0..options.shards.max(1) {
            let (send, inbox) = mpsc::channel();
            let shard = Shard {
                exchange: Arc::downgrade(exchange),
                route: route.id.clone(),
                upstream: upstream.clone(),
                number,
                make: make.clone(),
                stages: options.stages.clone(),
                chain: Chain::default(),
                dead_letters: options.dead_letters,
                sink: None,
                receiver: Receiver::new(route.incarnation),
                inbox,
                kept: VecDeque::new(),
                is_stopping: false,
                windows: HashMap::new(),
                asked_by: HashMap::new(),
                halted: BTreeSet::new(),
                caution: Caution::default(),
                scratch: Vec::new(),
                status: status.clone(),
                commit_interval: options.commit_interval,
                committed_at: Instant::now(),
            };
            shards.push(send);
            let name = format!("{}#{number}", route.id);
            threads.push(
                std::thread::Builder::new()
                    .name(name)
                    .spawn(move || shard.run())?,
            );
        }
        Ok(Arc::new(Delivery {
            route: route.id.clone(),
            shards,
            threads: Mutex::new(threads),
            status,
        }))
    }

    /// What `status` shows.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Whether every shard has read its positions since the start: before that, streams are missing in the status.
    #[must_use]
    pub fn knows_positions(&self) -> bool {
        self.status.lock().read.len() == self.shards.len()
    }

    /// Finishes the commit under way and ends the threads. What was not committed stays at the origin.
    pub fn stop(&self) {
        for shard in &self.shards {
            let _ = shard.send(Work::Stop);
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!(route = %self.route, "a delivery thread panicked");
            }
        }
    }

    pub(super) fn offered(&self, outlet: &Outlet, stream: &StreamId, held: Interval) {
        self.give(
            stream,
            Work::Offered {
                outlet: outlet.clone(),
                stream: stream.clone(),
                held,
            },
        );
    }

    pub(super) fn frame(&self, frame: Frame, window: &Arc<Window>) {
        self.give(
            window.stream(),
            Work::Frame {
                frame,
                window: window.clone(),
            },
        );
    }

    pub(super) fn ask(&self, outlet: &Outlet, nonce: u128, streams: &[StreamId]) {
        for stream in streams {
            let question = Question {
                nonce,
                streams: vec![stream.clone()],
            };
            self.give(
                stream,
                Work::Ask {
                    outlet: outlet.clone(),
                    question,
                },
            );
        }
    }

    pub(super) fn begin(
        &self,
        outlet: &Outlet,
        nonce: u128,
        stream: &StreamId,
        start: Sequence,
        guard: Guard,
    ) {
        let (outlet, named) = (outlet.clone(), stream.clone());
        self.give(
            stream,
            Work::Begin {
                outlet,
                nonce,
                stream: named,
                start,
                guard,
            },
        );
    }

    pub(super) fn refused(&self, fault: &Fault) {
        tracing::error!(route = %self.route, code = %fault.code, reason = %fault.reason, "route refused by its origin");
        self.status.lock().refused = Some(fault.clone());
    }

    /// A stream's shard is fixed by its name, so that it has one writer (S7).
    fn give(&self, stream: &StreamId, work: Work) {
        // A name that cannot be spelled came over no link.
        let name = stream.encode().unwrap_or_default();
        let shard = xxhash_rust::xxh3::xxh3_64(&name) % self.shards.len() as u64;
        // A shard that ended is stopping: what was on its way stays at the origin.
        let _ = self.shards[usize::try_from(shard).unwrap_or(0)].send(work);
    }
}

struct Shard {
    exchange: Weak<Exchange>,
    route: RouteId,
    upstream: Arc<str>,
    number: usize,
    make: Arc<MakeSink>,
    stages: Arc<MakeChain>,
    chain: Chain,
    dead_letters: bool,
    sink: Option<Box<dyn Sink>>,
    receiver: Receiver,
    inbox: mpsc::Receiver<Work>,
    /// What came while a commit was made again. Its frames have not given back their credit, which bounds how much it is.
    kept: VecDeque<Work>,
    is_stopping: bool,
    windows: HashMap<StreamId, Arc<Window>>,
    asked_by: HashMap<(u128, StreamId), Outlet>,
    halted: BTreeSet<StreamId>,
    caution: Caution,
    scratch: Vec<u8>,
    status: Arc<Mutex<Status>>,
    commit_interval: Duration,
    committed_at: Instant,
}

/// Whether the shard goes on.
enum Next {
    Go,
    Stop,
}

/// The records of a frame from `at` on, as stages see them, and what they count for. Ends at damage, which is told.
pub(super) fn side_by_side(
    at: Sequence,
    to: Sequence,
    mut records: FrameRecords<'_>,
) -> Result<(Columns, Digest), Malformed> {
    let (mut batch, mut digest) = (Columns::begin(at), Digest::EMPTY);
    while let Some(item) = records.next() {
        let (sequence, record) = item?;
        if sequence >= to {
            break;
        }
        digest.add(digest::content(&record));
        batch.push_to(records.topic(), sequence, &record)?;
    }
    batch.cover(to);
    Ok((batch, digest))
}

/// Passes a batch through the stages, and writes what goes on and, as dead letters, what does not. Answers how many those
/// are.
fn write_staged(
    sink: &mut dyn Sink,
    chain: &mut Chain,
    dead_letters: bool,
    stream: &StreamId,
    batch: &Columns,
) -> Result<u64, SinkFault> {
    let mut passed = chain.pass(stream, batch).map_err(sink_fault)?;
    if !sink.takes_parts() {
        passed.refuse_parts();
    }
    if !sink.takes_topics() {
        passed.refuse_routed();
    }
    let Passed { records, refused } = passed;
    if let Some((sequence, refused)) = refused.first_key_value().filter(|_| !dead_letters) {
        let rejection = &refused.rejection;
        return Err(SinkFault::Refused {
            sequence: *sequence,
            reason: format!(
                "stage {} with code {}: {}",
                refused.stage, rejection.code, rejection.reason
            ),
        });
    }
    for (topic, run) in records.runs() {
        let mut run = records.range(run);
        match topic {
            None => sink.write(stream, &mut run)?,
            Some(topic) => sink.write_to(topic, stream, &mut run)?,
        }
    }
    if refused.is_empty() {
        return Ok(0);
    }
    let letters = batch.iter().filter_map(|(sequence, record)| {
        let refused = refused.get(&sequence)?;
        Some(DeadLetter {
            sequence,
            record,
            stage: &refused.stage,
            rejection: &refused.rejection,
        })
    });
    sink.refuse(stream, &letters.collect::<Vec<_>>())?;
    Ok(refused.len() as u64)
}

/// Writes what the sink failed at, one record and all of its parts, as dead letters.
fn write_poison(
    sink: &mut dyn Sink,
    stream: &StreamId,
    rejection: &Rejection,
    batch: &Columns,
) -> Result<u64, SinkFault> {
    let letter = |(sequence, record)| DeadLetter {
        sequence,
        record,
        stage: "sink",
        rejection,
    };
    sink.refuse(stream, &batch.iter().map(letter).collect::<Vec<_>>())?;
    Ok(1)
}

/// The place behind the first so many places with records, and what lies before it; `None` where the frame holds no more.
fn cut_behind(mut records: FrameRecords<'_>, places_max: usize) -> Option<(Sequence, Guard)> {
    let (mut places, mut last) = (0, None);
    loop {
        let guard = records.guard();
        let (sequence, _) = records.next()?.ok()?;
        if last != Some(sequence) {
            if let Some(last) = last.filter(|_| places == places_max) {
                return Some((last.next(), guard));
            }
            places += 1;
            last = Some(sequence);
        }
    }
}

fn sink_fault(fault: StageFault) -> SinkFault {
    match fault {
        StageFault::Retry { reason, .. } => SinkFault::Retry(reason),
        StageFault::Stream { code, reason } => SinkFault::Stream { code, reason },
        StageFault::Stop { code, reason } => SinkFault::Stop { code, reason },
    }
}

impl Shard {
    fn run(mut self) {
        let mut wait = WAIT_MIN;
        // A sink that can be taken and not be written to is not called without a pause.
        let mut faults = 0u32;
        loop {
            if self.receiver.must_take() {
                match self.take() {
                    Ok(()) if faults < 2 => wait = WAIT_MIN,
                    Ok(()) => {}
                    Err(SinkFault::Stop { code, reason }) => return self.failed(code, &reason),
                    Err(fault) => {
                        self.trouble(&fault);
                        if self.hold_back(wait) {
                            return;
                        }
                        wait = (wait * 2).min(RETRY_MAX);
                        continue;
                    }
                }
            }
            match self.deliver() {
                Ok(Next::Go) => (faults, wait) = (0, WAIT_MIN),
                Ok(Next::Stop) => return,
                Err(_) if self.is_stopping => return,
                Err(SinkFault::Stop { code, reason }) => return self.failed(code, &reason),
                Err(fault) => {
                    self.trouble(&fault);
                    self.learn(fault);
                    self.receiver.lost();
                    faults = faults.saturating_add(1);
                    if faults > 1 {
                        if self.hold_back(wait) {
                            return;
                        }
                        wait = (wait * 2).min(RETRY_MAX);
                    }
                }
            }
        }
    }

    /// C1: fence first, then read the positions; then everyone who waits is told where this writer stands.
    fn take(&mut self) -> Result<(), SinkFault> {
        let started = Instant::now();
        if self.chain.is_empty() {
            self.chain = (self.stages)().map_err(sink_fault)?;
        }
        let sink = match &mut self.sink {
            Some(sink) => sink,
            none => none.insert((self.make)(self.number)?),
        };
        let positions = sink.take()?;
        let writer = rand::random();
        let held_before: Vec<StreamId> = self
            .receiver
            .streams()
            .map(|(stream, _)| stream.clone())
            .collect();
        self.receiver.taken(writer, positions);
        self.halted.iter().for_each(|stream| self.receiver.halt(stream));
        self.windows.values().for_each(|window| window.taken_anew());
        self.tell_positions();
        let answers = self.receiver.answer_after_taking();
        self.send_answers(answers);
        let is_gone = |stream: &StreamId| self.receiver.position(stream).is_none();
        if held_before.iter().any(is_gone) {
            self.register_anew();
        }
        // What was offered or sent while nobody had the shard was dropped, and what the writer before us wished no
        // longer stands.
        for (stream, _) in self.receiver.streams() {
            if let Some(at) = self
                .receiver
                .wants(stream)
                .filter(|_| !self.halted.contains(stream))
            {
                self.want_everywhere(stream, at);
            }
        }
        let mut status = self.status.lock();
        status.taken.insert(self.number);
        status.read.insert(self.number);
        status.trouble.remove(&self.number);
        drop(status);
        tracing::info!(route = %self.route, shard = self.number, took_ms = started.elapsed().as_millis(), "shard taken");
        Ok(())
    }

    /// C2: one commit's worth of what arrived.
    fn deliver(&mut self) -> Result<Next, SinkFault> {
        let Some(first) = self.wait_for_work() else {
            return Ok(Next::Go);
        };
        let due = self.committed_at + self.commit_interval;
        let mut bytes = 0;
        let mut work = Some(first);
        while let Some(now) = work {
            match now {
                Work::Stop => {
                    self.is_stopping = true;
                    if let Err(fault) = self.commit() {
                        tracing::info!(route = %self.route, shard = self.number, %fault, "stopped before a commit");
                    }
                    return Ok(Next::Stop);
                }
                Work::Frame { frame, window } => {
                    bytes += frame.bytes().len();
                    let applied = self.apply(&frame, &window);
                    // Whatever became of it, it needs no room here any more. A stream that stands still is given no
                    // more credit: the rest stays where it is.
                    if !self.halted.contains(window.stream()) {
                        window.consumed(frame.bytes().len());
                    }
                    applied?;
                }
                Work::Offered { outlet, stream, held } => self.offered(&outlet, stream, held),
                Work::Ask { outlet, question } => {
                    self.note_asker(&question, &outlet);
                    self.receiver.ask(question);
                }
                Work::Begin {
                    outlet,
                    nonce,
                    stream,
                    start,
                    guard,
                } => self.begin(outlet, nonce, stream, start, guard),
            }
            let is_full = self.sink.as_ref().is_some_and(|sink| sink.is_full());
            if bytes >= COMMIT_BYTES_MAX || is_full || self.receiver.must_take() {
                break;
            }
            work = self.next(due).ok();
        }
        self.commit()?;
        Ok(Next::Go)
    }

    fn wait_for_work(&mut self) -> Option<Work> {
        match self.next(Instant::now() + IDLE) {
            Ok(work) => Some(work),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Work::Stop),
        }
    }

    /// What came first, or comes until then.
    fn next(&mut self, until: Instant) -> Result<Work, RecvTimeoutError> {
        match self.kept.pop_front() {
            Some(work) => Ok(work),
            None => self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now())),
        }
    }

    /// Says where to send from. Who has freed what is needed here believes that more is held than is: it is told the
    /// position, and asked for nothing.
    fn offered(&self, outlet: &Outlet, stream: StreamId, held: Interval) {
        let route = self.route.clone();
        match self.receiver.wants(&stream) {
            Some(at) if held.from <= at => outlet.post(Message::Want { route, stream, at }),
            Some(_) => {
                if let Some(position) = self.receiver.position(&stream) {
                    self.tell(&stream, position.clone());
                }
            }
            None => {}
        }
    }

    /// Writes what is new in a frame into the open atomic write.
    fn apply(&mut self, frame: &Frame, window: &Arc<Window>) -> Result<(), SinkFault> {
        let stream = window.stream();
        if !self
            .windows
            .get(stream)
            .is_some_and(|present| Arc::ptr_eq(present, window))
        {
            self.windows.insert(stream.clone(), window.clone());
        }
        match self.receiver.frame(stream, frame.interval()) {
            Verdict::Apply(at) => {
                window.fulfilled();
                match self.caution.records_max() {
                    None => self.write(frame, stream, at),
                    Some(records) => self.write_in_parts(frame, stream, records),
                }
            }
            Verdict::Gap(at) => {
                window.want(at, frame.interval());
                Ok(())
            }
            Verdict::Unbegun => {
                let exchange = self.exchange.upgrade();
                let route = exchange.and_then(|exchange| exchange.route(&self.route));
                window.register_again(|| route.as_ref().map(registration));
                Ok(())
            }
            Verdict::Known | Verdict::NotNow => Ok(()),
        }
    }

    /// While a record is sought at which the sink fails: a commit for every few records.
    fn write_in_parts(
        &mut self,
        frame: &Frame,
        stream: &StreamId,
        records_max: usize,
    ) -> Result<(), SinkFault> {
        self.commit()?;
        while let Verdict::Apply(at) = self.receiver.frame(stream, frame.interval()) {
            let cut = match frame.records(at, &mut self.scratch, &Codecs::default()) {
                Ok(records) => cut_behind(records, records_max),
                // Said by who writes the rest.
                Err(_) => None,
            };
            self.write_until(frame, stream, at, cut)?;
            self.commit()?;
        }
        Ok(())
    }

    fn write(&mut self, frame: &Frame, stream: &StreamId, at: Sequence) -> Result<(), SinkFault> {
        self.write_until(frame, stream, at, None)
    }

    /// Writes the records of a frame from `at` to its end, or to a place in it.
    fn write_until(
        &mut self,
        frame: &Frame,
        stream: &StreamId,
        at: Sequence,
        cut: Option<(Sequence, Guard)>,
    ) -> Result<(), SinkFault> {
        let (end, guard_end) = cut.unwrap_or_else(|| (frame.interval().to, frame.guard_end()));
        let Some(sink) = &mut self.sink else { return Ok(()) };
        let (mut digest, mut damage, mut first) = (Digest::EMPTY, None, None);
        let (chain, dead_letters) = (&mut self.chain, self.dead_letters);
        if let Some(exchange) = self.exchange.upgrade().filter(|_| !chain.is_empty()) {
            chain.named(&exchange.schemas.all(frame.schemas()));
        }
        let is_plain =
            chain.is_empty() && !frame.is_expanded() && !frame.is_routed() && !self.caution.has_found();
        let outcome = match frame.records(at, &mut self.scratch, &Codecs::default()) {
            Err(error) => {
                damage = Some(error);
                Ok(())
            }
            Ok(mut records) => match self.receiver.admit(stream, records.seam()) {
                Admission::Admitted if is_plain => {
                    let mut sound = records.by_ref().map_while(|item| match item {
                        Ok((sequence, _)) if sequence >= end => None,
                        Ok((sequence, record)) => {
                            first = first.or(Some(sequence));
                            digest.add(digest::content(&record));
                            Some((sequence, record))
                        }
                        Err(error) => {
                            damage = Some(error);
                            None
                        }
                    });
                    sink.write(stream, &mut sound)
                }
                Admission::Admitted => match side_by_side(at, end, records) {
                    Ok((batch, counted)) => {
                        digest = counted;
                        first = batch.get(0).map(|(sequence, _)| sequence);
                        let poison = first.and_then(|first| self.caution.poison(stream, first));
                        let refused = match poison {
                            Some(rejection) => write_poison(&mut **sink, stream, &rejection, &batch),
                            None => write_staged(&mut **sink, chain, dead_letters, stream, &batch),
                        };
                        refused.map(|refused| {
                            metrics::DEAD_LETTERS.with(&[&self.route.0]).increment(refused);
                        })
                    }
                    Err(error) => {
                        damage = Some(error);
                        Ok(())
                    }
                },
                Admission::Forked { at, held, found } => {
                    let reason = format!(
                        "the record before {at} is not the one that was delivered (delivered: epoch {}, CRC {:08x}; now: \
                         epoch {} to {}, CRC {:08x}): the source's history changed",
                        held.epoch, held.crc, found.epoch_min, found.epoch_max, found.crc
                    );
                    self.halt(stream, "CULVERT-F010", reason);
                    return Ok(());
                }
            },
        };
        if let Some(error) = damage {
            // The frame's checksum held, so it was written like this; nothing of the open write may stay.
            self.halt(
                stream,
                "CULVERT-F011",
                format!("the batch at {at} cannot be decoded: {error}"),
            );
            return Err(SinkFault::Uncertain("a batch could not be decoded".into()));
        }
        if let Err(SinkFault::Record { sequence, reason }) = &outcome {
            self.halt(
                stream,
                "CULVERT-F012",
                format!("record {sequence} cannot be written: {reason}"),
            );
        }
        if let Err(SinkFault::Stream { code, reason }) = &outcome {
            self.halt(stream, code, reason.clone());
        }
        if let Err(SinkFault::Refused { sequence, reason }) = &outcome {
            self.halt(
                stream,
                "CULVERT-F013",
                format!("record {sequence} was refused by {reason}"),
            );
        }
        outcome?;
        self.receiver.wrote(stream, end, guard_end, &digest);
        let first = first.map(|sequence| (stream.clone(), sequence));
        let records = usize::try_from(digest.count).unwrap_or(usize::MAX);
        self.caution.wrote(first, records);
        Ok(())
    }

    /// S3: records and positions in one atomic write; whoever waits hears of it only afterwards.
    fn commit(&mut self) -> Result<(), SinkFault> {
        if self.sink.is_none() || !self.receiver.must_commit() {
            return Ok(());
        }
        let started = Instant::now();
        let positions = self.receiver.to_commit();
        self.commit_until_done(&positions)?;
        self.caution.committed();
        self.committed_at = Instant::now();
        metrics::COMMIT_SECONDS
            .with(&[&self.route.0])
            .record(self.committed_at.duration_since(started).as_secs_f64());
        let is_new = |stream: &&StreamId| self.receiver.position(stream).is_none();
        let begun: Vec<StreamId> = positions
            .iter()
            .map(|(stream, _)| stream)
            .filter(is_new)
            .cloned()
            .collect();
        let (moved, answers) = self.receiver.committed();
        let mut status = self.status.lock();
        status.commits += 1;
        let mut delivered = 0;
        for (stream, position) in &moved {
            let before = status.positions.insert(stream.clone(), position.clone());
            delivered += position.digest.count
                - before.map_or(0, |before| before.digest.count.min(position.digest.count));
        }
        metrics::DELIVERED_RECORDS
            .with(&[&self.route.0])
            .increment(delivered);
        drop(status);
        for (stream, position) in moved {
            self.tell(&stream, position);
        }
        // A stream that has just begun: now its records can come.
        for stream in begun {
            if let Some(at) = self.receiver.wants(&stream) {
                self.want_everywhere(&stream, at);
            }
        }
        self.send_answers(answers);
        Ok(())
    }

    /// The same commit for as often as the sink asks for it (C4).
    fn commit_until_done(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        let (mut wait, mut is_troubled) = (WAIT_MIN, false);
        loop {
            let Some(sink) = &mut self.sink else { return Ok(()) };
            let (reason, after) = match sink.commit(positions) {
                Err(SinkFault::Again { reason, after }) => (reason, after),
                done => {
                    if is_troubled {
                        self.status.lock().trouble.remove(&self.number);
                    }
                    return done;
                }
            };
            if after != Some(Duration::ZERO) {
                if !is_troubled {
                    tracing::warn!(route = %self.route, shard = self.number, fault = %reason, "sink is away, trying again");
                }
                is_troubled = true;
                let trouble = Trouble::Retrying(reason.clone());
                self.status.lock().trouble.insert(self.number, trouble);
            }
            // Who names a pause knows better than we do.
            let pause = after.unwrap_or(wait).max(WAIT_MIN);
            wait = match after {
                Some(_) => WAIT_MIN,
                None => (wait * 2).min(AGAIN_MAX),
            };
            if self.is_stopping || self.keep_until(Instant::now() + pause) {
                return Err(SinkFault::Retry(reason));
            }
        }
    }

    /// Keeps what comes until then. Answers whether the shard is to stop.
    fn keep_until(&mut self, until: Instant) -> bool {
        loop {
            match self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.is_stopping = true;
                    return true;
                }
                // It changes nothing here, and needs no commit to be answered.
                Ok(Work::Offered { outlet, stream, held }) => self.offered(&outlet, stream, held),
                Ok(work) => self.kept.push_back(work),
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    // ----- telling -----------------------------------------------------------------------------------------------

    fn tell_positions(&self) {
        let held: BTreeMap<StreamId, Position> = self
            .receiver
            .streams()
            .map(|(stream, position)| (stream.clone(), position.clone()))
            .collect();
        for (stream, position) in &held {
            self.tell(stream, position.clone());
        }
        self.status.lock().positions.extend(held);
    }

    fn tell(&self, stream: &StreamId, position: Position) {
        let (Some(exchange), Some(writer)) = (self.exchange.upgrade(), self.receiver.writer()) else {
            return;
        };
        let message = Message::PositionIs {
            route: self.route.clone(),
            stream: stream.clone(),
            writer,
            position,
        };
        exchange.post_to_site(&self.upstream, &message);
    }

    fn want_everywhere(&self, stream: &StreamId, at: Sequence) {
        if let Some(exchange) = self.exchange.upgrade() {
            let message = Message::Want {
                route: self.route.clone(),
                stream: stream.clone(),
                at,
            };
            exchange.post_to_site(&self.upstream, &message);
        }
    }

    fn begin(&mut self, outlet: Outlet, nonce: u128, stream: StreamId, start: Sequence, guard: Guard) {
        self.receiver.begin(nonce, &stream, start, guard);
        self.asked_by.insert((nonce, stream), outlet);
    }

    /// Origins ask when a route is registered: what they believe to be held is not.
    fn register_anew(&self) {
        if let Some(exchange) = self.exchange.upgrade()
            && let Some(route) = exchange.route(&self.route)
        {
            exchange.post_to_site(&self.upstream, &registration(&route));
        }
    }

    fn note_asker(&mut self, question: &Question, outlet: &Outlet) {
        for stream in &question.streams {
            self.asked_by
                .insert((question.nonce, stream.clone()), outlet.clone());
        }
    }

    fn send_answers(&mut self, answers: Vec<Answer>) {
        for Answer {
            nonce,
            writer,
            positions,
        } in answers
        {
            let Some((stream, _)) = positions.first() else {
                continue;
            };
            if let Some(outlet) = self.asked_by.remove(&(nonce, stream.clone())) {
                outlet.post(Message::Answer {
                    nonce,
                    route: self.route.clone(),
                    writer,
                    positions,
                });
            }
        }
    }

    // ----- trouble -----------------------------------------------------------------------------------------------

    fn halt(&mut self, stream: &StreamId, code: &'static str, reason: String) {
        let Some(exchange) = self.exchange.upgrade() else {
            return;
        };
        let fault = Fault {
            code: code.into(),
            reason,
        };
        self.receiver.halt(stream);
        self.caution.forget(stream);
        self.halted.insert(stream.clone());
        exchange.halted(stream, Some(&self.route), fault.clone());
        let message = Message::Halted {
            route: self.route.clone(),
            stream: stream.clone(),
            fault,
        };
        exchange.post_to_site(&self.upstream, &message);
    }

    /// What a fault says of the records that were open.
    fn learn(&mut self, fault: SinkFault) {
        match fault {
            SinkFault::Poison { code, reason } => {
                let Some((stream, sequence)) = self.caution.failed() else {
                    return;
                };
                let rejection = Rejection {
                    code: code.into(),
                    reason: reason.clone(),
                    field: None,
                };
                if !self.dead_letters || self.caution.is_poison((stream.clone(), sequence), rejection) {
                    let reason =
                        format!("record {sequence} cannot be written: each time it was alone, {reason}");
                    self.halt(&stream, "CULVERT-F012", reason);
                }
            }
            SinkFault::Unwritable {
                stream,
                sequence,
                reason,
            } => {
                self.caution.lost();
                let reason = format!("record {sequence} cannot be written: {reason}");
                self.halt(&stream, "CULVERT-F012", reason);
            }
            _ => self.caution.lost(),
        }
    }

    fn trouble(&mut self, fault: &SinkFault) {
        match fault {
            SinkFault::Retry(_) => {
                tracing::warn!(route = %self.route, shard = self.number, %fault, "sink is away, trying again");
            }
            _ => {
                tracing::info!(route = %self.route, shard = self.number, %fault, "writer given up, taking the shard anew");
            }
        }
        let mut status = self.status.lock();
        status.taken.remove(&self.number);
        status
            .trouble
            .insert(self.number, Trouble::Retrying(fault.to_string()));
    }

    /// Waits before the next attempt. Answers whether the shard is to stop. Frames that come meanwhile are dropped;
    /// the new writer asks for them again.
    fn hold_back(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            match self.next(until) {
                Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(Work::Frame { frame, window }) => {
                    window.consumed(frame.bytes().len());
                    self.windows.insert(window.stream().clone(), window);
                }
                Ok(Work::Ask { outlet, question }) => {
                    self.note_asker(&question, &outlet);
                    self.receiver.ask(question);
                }
                // Not begun, but answered when the shard is ours: the origin then says it again.
                Ok(Work::Begin {
                    outlet,
                    nonce,
                    stream,
                    start,
                    guard,
                }) => self.begin(outlet, nonce, stream, start, guard),
                // The new writer says what it wants, offered or not.
                Ok(Work::Offered { .. }) => {}
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// The route waits for an operator: nothing more is taken in, so that everything stays at the origin.
    fn failed(self, code: &'static str, reason: &str) {
        tracing::error!(route = %self.route, shard = self.number, code, reason, "sink stopped");
        let mut status = self.status.lock();
        status.taken.remove(&self.number);
        let fault = Fault {
            code: code.into(),
            reason: reason.into(),
        };
        status.trouble.insert(self.number, Trouble::Failed(fault));
        drop(status);
        while !matches!(self.inbox.recv(), Ok(Work::Stop) | Err(_)) {}
    }
}
