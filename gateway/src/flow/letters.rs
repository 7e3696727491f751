//! Dead letters at the source: records that a stage there refuses, kept at the origin and never sent anywhere.
//!
//! A stream that keeps them has a second lane. Intake puts a refused record there, as it came, in the same step of the
//! outbox as the hole that it leaves in the stream. One thread a connector writes what the lane holds to the origin's own
//! system, letters and position in one atomic write, in the order of a delivery (C1-C3).
//!
//! Constraints:
//! - To the stream the writer is one more route: nothing is freed or committed above what it has written, and when an
//!   outbox is lost, reading begins below it. So each letter is there once, whatever is lost (S10).
//! - The position moves over places without a letter too, [`MOVE_EVERY`], or a lost outbox would be read again from the
//!   last letter.
//! - Both lanes are freed together: a writer that goes back within what the stream holds finds its letters.

#[cfg(test)]
mod tests;

use super::delivery::{Trouble, side_by_side};
use super::exchange::Exchange;
use super::intake::OriginStream;
use super::{DeadLetter, Sink, SinkFault};
use crate::codec::compression::Codecs;
use crate::observe::metrics;
use crate::outbox::{self, Lane};
use culvert_proto::columns::{Columns, Rejection};
use culvert_proto::digest::Digest;
use culvert_proto::frame::Frame;
use culvert_proto::message::{Fault, Message};
use culvert_proto::origin::Halted;
use culvert_proto::receiver::{Admission, Question, Receiver, Verdict};
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::stream::RouteId;
use culvert_proto::wire::Malformed;
use culvert_proto::{Position, Sequence, StreamId, limits};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One commit takes at most about this many bytes of frames.
const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is read of one stream at a time.
const READ_BYTES: usize = 1024 * 1024;

/// How often the lanes are looked at while nothing is asked.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often positions move over places without a letter. What was freed and committed lags by as much.
const MOVE_EVERY: Duration = Duration::from_secs(1);

/// The shortest and the longest wait before the positions are taken again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// The last header of a letter in the outbox: what refused it, as JSON. A letter of another version has another name.
const REFUSED: &str = "culvert.refused.1";

/// What a reason may add to a record.
const REASON_MAX: usize = 16 * 1024;

/// Makes the sink of the letters of one connector.
pub type MakeLetters = dyn Fn() -> Result<Box<dyn Sink>, SinkFault> + Send + Sync;

/// What the names of lanes of letters begin with; their streams follow.
pub(super) const REFUSED_LANES: &[u8] = b"refused/";

/// The lane of the letters of a stream.
pub(super) fn lane_key(spelled: &[u8]) -> Vec<u8> {
    [REFUSED_LANES, spelled].concat()
}

// ----- a letter in the outbox ------------------------------------------------------------------------------------

/// The headers of a refused record in the outbox: its own, and one that says why.
pub(super) fn headers_with(record: &RecordRef<'_>, stage: &str, rejection: &Rejection) -> HeadersBuf {
    let mut headers = HeadersBuf::new();
    for (name, value) in record.headers.iter() {
        headers.push(name, value);
    }
    let Rejection { code, reason, field } = rejection;
    let reason = cut(reason, REASON_MAX / 2);
    let field = field.as_deref().map(|field| cut(field, REASON_MAX / 8));
    let why = serde_json::json!([
        cut(stage, REASON_MAX / 8),
        cut(code, REASON_MAX / 8),
        reason,
        field
    ]);
    headers.push(REFUSED, Some(why.to_string().as_bytes()));
    headers
}

fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Whether a letter is within the limits of a record.
pub(super) fn fits(letter: &RecordRef<'_>) -> bool {
    letter.size() <= limits::RECORD_BYTES_MAX && letter.headers.len() <= limits::HEADERS_MAX
}

/// A letter that was taken out of the outbox.
struct Opened<'a> {
    sequence: Sequence,
    record: RecordRef<'a>,
    headers: HeadersBuf,
    stage: String,
    rejection: Rejection,
}

impl<'a> Opened<'a> {
    fn of(sequence: Sequence, record: RecordRef<'a>) -> Result<Opened<'a>, Malformed> {
        let unknown = Malformed::Invalid {
            what: "dead letter",
            why: "does not say what refused it, or in a way this version does not know",
        };
        let own = record.headers.len().saturating_sub(1);
        let mut headers = HeadersBuf::new();
        for (name, value) in record.headers.iter().take(own) {
            headers.push(name, value);
        }
        let last = record.headers.iter().nth(own);
        let why = last.filter(|(name, _)| *name == REFUSED).and_then(|(_, why)| why);
        let why = why.and_then(|why| serde_json::from_slice(why).ok());
        let (stage, code, reason, field) = why.ok_or(unknown)?;
        Ok(Opened {
            sequence,
            record,
            headers,
            stage,
            rejection: Rejection { code, reason, field },
        })
    }

    fn as_letter(&self) -> DeadLetter<'_> {
        DeadLetter {
            sequence: self.sequence,
            record: RecordRef {
                headers: self.headers.as_headers(),
                ..self.record
            },
            stage: &self.stage,
            rejection: &self.rejection,
        }
    }
}

// ----- the writer ------------------------------------------------------------------------------------------------

/// The letters of one stream: their lane, and who writes them.
pub(super) struct Aside {
    pub(super) lane: Lane,
    pub(super) writer: Arc<Letters>,
}

/// Who writes the dead letters of one source connector.
pub struct Letters {
    /// Its name among the routes of a stream. `#` is in no name of a connector.
    pub route: RouteId,
    incarnation: u32,
    covers: Box<dyn Fn(&StreamId) -> bool + Send + Sync>,
    work: mpsc::Sender<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
    status: Arc<Mutex<Status>>,
}

/// What `status` shows of the dead letters of a source.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Letters written since the start.
    pub letters: u64,
    /// Why they are not written now.
    pub trouble: Option<Trouble>,
}

/// What reaches the writer.
enum Work {
    Said(StreamId, Box<Message>),
    Stop,
}

/// How to write the letters of a connector.
pub struct Options {
    /// The connector.
    pub connector: Arc<str>,
    /// Of its positions: raised by an operator who begins anew.
    pub incarnation: u32,
    /// Which streams are the connector's.
    pub covers: Box<dyn Fn(&StreamId) -> bool + Send + Sync>,
    /// Makes the sink. Of what it can do, letters and commits are asked for.
    pub make: Arc<MakeLetters>,
}

impl Letters {
    /// Starts the writer's thread. It must be known to the exchange before the streams are opened.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(exchange: &Arc<Exchange>, options: Options) -> std::io::Result<Arc<Letters>> {
        let (work, inbox) = mpsc::channel();
        let route = RouteId::new(&exchange.site, &format!("{}#refused", options.connector));
        let status = Arc::new(Mutex::new(Status::default()));
        let writer = Writer {
            exchange: Arc::downgrade(exchange),
            route: route.clone(),
            make: options.make,
            sink: None,
            receiver: Receiver::new(options.incarnation),
            inbox,
            halted: BTreeMap::new(),
            scratch: Vec::new(),
            first: 0,
            is_behind: false,
            written: 0,
            move_at: Instant::now(),
            status: status.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(route.0.to_string())
            .spawn(move || writer.run())?;
        Ok(Arc::new(Letters {
            route,
            incarnation: options.incarnation,
            covers: options.covers,
            work,
            thread: Mutex::new(Some(thread)),
            status,
        }))
    }

    /// What `status` shows.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Finishes the commit under way and ends the thread. What was not committed stays in the outbox.
    pub fn stop(&self) {
        let _ = self.work.send(Work::Stop);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!(route = %self.route, "a writer of dead letters panicked");
        }
    }

    pub(super) fn covers(&self, stream: &StreamId) -> bool {
        (self.covers)(stream)
    }

    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// What a stream's machine says to the sink of a route. Never waits: it is said with the machine in hand.
    pub(super) fn hear(&self, stream: &StreamId, message: Message) {
        let _ = self.work.send(Work::Said(stream.clone(), Box::new(message)));
    }
}

struct Writer {
    exchange: Weak<Exchange>,
    route: RouteId,
    make: Arc<MakeLetters>,
    sink: Option<Box<dyn Sink>>,
    receiver: Receiver,
    inbox: mpsc::Receiver<Work>,
    /// Streams whose letters wait for an operator, and why.
    halted: BTreeMap<StreamId, Fault>,
    scratch: Vec<u8>,
    /// Which stream is looked at first: each in its turn, so that none has to wait for a busy one.
    first: usize,
    /// The last turn left letters that are ready to be written.
    is_behind: bool,
    /// Letters in the open write.
    written: u64,
    move_at: Instant,
    status: Arc<Mutex<Status>>,
}

/// Whether the writer goes on.
enum Next {
    Go,
    Stop,
}

impl Writer {
    fn run(mut self) {
        let mut wait = RETRY_MIN;
        loop {
            let fault = match self.turn() {
                Ok(Next::Go) => {
                    wait = RETRY_MIN;
                    continue;
                }
                Ok(Next::Stop) => return,
                Err(SinkFault::Stop { code, reason }) => return self.failed(code, &reason),
                Err(fault) => fault,
            };
            match fault {
                SinkFault::Retry(_) => {
                    tracing::warn!(route = %self.route, %fault, "where dead letters go is away, trying again");
                }
                _ => {
                    tracing::info!(route = %self.route, %fault, "writer of dead letters given up, taking over anew");
                }
            }
            self.status.lock().trouble = Some(Trouble::Retrying(fault.to_string()));
            self.receiver.lost();
            // Who was fenced gives way: the other one has letters to write.
            let pause = match fault {
                SinkFault::Fenced(_) => RETRY_MAX,
                _ => wait,
            };
            if self.hold_back(pause) {
                return;
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// What was asked, one commit's worth of letters, and now and then positions that move without one (C2).
    fn turn(&mut self) -> Result<Next, SinkFault> {
        if self.receiver.must_take() {
            self.take()?;
        }
        let wait = if self.is_behind {
            Duration::ZERO
        } else {
            LOOK_EVERY
        };
        match self.inbox.recv_timeout(wait) {
            Ok(Work::Said(stream, message)) => self.said(&stream, *message),
            Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(Next::Stop),
            Err(RecvTimeoutError::Timeout) => {}
        }
        while let Ok(work) = self.inbox.try_recv() {
            match work {
                Work::Said(stream, message) => self.said(&stream, *message),
                Work::Stop => return Ok(Next::Stop),
            }
        }
        let streams = self.streams();
        let mut bytes = 0;
        self.is_behind = false;
        for (number, stream) in streams.iter().enumerate() {
            let taken = self.write_of(stream)?;
            bytes += taken;
            self.is_behind |= taken >= READ_BYTES;
            if bytes >= COMMIT_BYTES_MAX {
                self.first += number + 1;
                break;
            }
        }
        if Instant::now() >= self.move_at {
            for stream in &streams {
                self.move_over(stream)?;
                self.keep_halted(stream);
            }
            self.move_at = Instant::now() + MOVE_EVERY;
        }
        self.commit()?;
        Ok(Next::Go)
    }

    /// C1: fence first, then read the positions; then everyone who waits is told where this writer stands.
    fn take(&mut self) -> Result<(), SinkFault> {
        let sink = match &mut self.sink {
            Some(sink) => sink,
            none => none.insert((self.make)()?),
        };
        let positions = sink.take()?;
        self.written = 0;
        self.receiver.taken(rand::random(), positions);
        self.halted.keys().for_each(|stream| self.receiver.halt(stream));
        for stream in self.streams() {
            if let Some(position) = self.receiver.position(&stream.id) {
                self.tell(&stream, position.clone());
            }
        }
        self.answer_all();
        self.status.lock().trouble = None;
        tracing::info!(route = %self.route, "dead letters taken over");
        Ok(())
    }

    /// The streams that keep their letters here, beginning with another one each time the last did not get to all.
    fn streams(&self) -> Vec<Arc<OriginStream>> {
        let Some(exchange) = self.exchange.upgrade() else {
            return Vec::new();
        };
        let is_ours = |stream: &Arc<OriginStream>| {
            stream
                .aside()
                .is_some_and(|aside| aside.writer.route == self.route)
        };
        let mut streams: Vec<_> = exchange.streams().into_iter().filter(is_ours).collect();
        let first = self.first.checked_rem(streams.len()).unwrap_or(0);
        streams.rotate_left(first);
        streams
    }

    // ----- letters -----------------------------------------------------------------------------------------------

    /// Writes letters of a stream into the open write. Answers how many bytes of frames.
    fn write_of(&mut self, stream: &OriginStream) -> Result<usize, SinkFault> {
        if self.halted.contains_key(&stream.id) {
            return Ok(0);
        }
        let (Some(at), Some(aside)) = (self.receiver.wants(&stream.id), stream.aside()) else {
            return Ok(0);
        };
        let frames = match aside.lane.read(at, READ_BYTES) {
            Ok(frames) => frames,
            // The stream is about to be read again from here.
            Err(outbox::Error::Trimmed { .. }) => return Ok(0),
            Err(error) => return Err(SinkFault::Retry(format!("outbox of {}: {error}", stream.id))),
        };
        let mut bytes = 0;
        for (_, frame) in frames {
            bytes += frame.len();
            match Frame::decode(frame) {
                Ok(frame) => self.write(stream, &frame)?,
                Err(error) => self.halt(
                    stream,
                    "CULVERT-F011",
                    format!("a frame of dead letters: {error}"),
                ),
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, stream: &OriginStream, frame: &Frame) -> Result<(), SinkFault> {
        let Verdict::Apply(at) = self.receiver.frame(&stream.id, frame.interval()) else {
            return Ok(());
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let taken = frame
            .records(at, &mut scratch, &Codecs::default())
            .map(|records| (records.seam(), side_by_side(at, frame.interval().to, records)));
        self.scratch = scratch;
        let (seam, batch) = match taken {
            Ok((seam, Ok(batch))) => (seam, batch),
            Ok((_, Err(error))) | Err(error) => return self.damaged(stream, at, &error),
        };
        if let Admission::Forked { at, .. } = self.receiver.admit(&stream.id, seam) {
            self.forked(stream, at);
            return Ok(());
        }
        let (batch, digest) = batch;
        self.refuse(stream, at, &batch)?;
        self.written += batch.len() as u64;
        self.receiver
            .wrote(&stream.id, frame.interval().to, frame.guard_end(), &digest);
        Ok(())
    }

    fn refuse(&mut self, stream: &OriginStream, at: Sequence, batch: &Columns) -> Result<(), SinkFault> {
        let opened: Result<Vec<Opened<'_>>, Malformed> = batch
            .iter()
            .map(|(sequence, record)| Opened::of(sequence, record))
            .collect();
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.damaged(stream, at, &error),
        };
        let letters: Vec<DeadLetter<'_>> = opened.iter().map(Opened::as_letter).collect();
        let Some(sink) = self.sink.as_mut().filter(|_| !letters.is_empty()) else {
            return Ok(());
        };
        let outcome = sink.refuse(&stream.id, &letters);
        if let Err(SinkFault::Record { sequence, reason }) = &outcome {
            let reason = format!("the dead letter of record {sequence} cannot be written: {reason}");
            self.halt(stream, "CULVERT-F015", reason);
        }
        outcome
    }

    /// Moves the position over places without a letter, up to the end of what is durable. The guard is that of the stream's
    /// own last frame.
    fn move_over(&mut self, stream: &OriginStream) -> Result<(), SinkFault> {
        let Some(at) = self.receiver.wants(&stream.id) else {
            return Ok(());
        };
        let Some(to) = stream.durable_without_letters(at) else {
            return Ok(());
        };
        if !matches!(
            self.receiver
                .frame(&stream.id, culvert_proto::Interval::new(at, to)),
            Verdict::Apply(_)
        ) {
            return Ok(());
        }
        let frame_at = |at: Sequence| match stream.lane.read(at, 1) {
            Ok(frames) => match frames.into_iter().next() {
                Some((_, bytes)) => Frame::decode(bytes).map(Some),
                None => Ok(None),
            },
            // Freed or begun elsewhere since; the next look finds out.
            Err(_) => Ok(None),
        };
        let ends = frame_at(at).and_then(|first| Ok((first, frame_at(Sequence(to.0 - 1))?)));
        let (first, last) = match ends {
            Ok((Some(first), Some(last))) if last.interval().to == to => (first, last),
            Ok(_) => return Ok(()),
            Err(error) => return self.damaged(stream, at, &error),
        };
        let seam = first.records(at, &mut self.scratch, &Codecs::default());
        let seam = match seam.map(|records| records.seam()) {
            Ok(seam) => seam,
            Err(error) => return self.damaged(stream, at, &error),
        };
        if let Admission::Forked { at, .. } = self.receiver.admit(&stream.id, seam) {
            self.forked(stream, at);
            return Ok(());
        }
        self.receiver
            .wrote(&stream.id, to, last.guard_end(), &Digest::EMPTY);
        Ok(())
    }

    /// S3: letters and positions in one atomic write; the streams hear of it only afterwards.
    fn commit(&mut self) -> Result<(), SinkFault> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        if !self.receiver.must_commit() {
            return Ok(());
        }
        sink.commit(&self.receiver.to_commit())?;
        let written = std::mem::take(&mut self.written);
        if written > 0 {
            metrics::DEAD_LETTERS.with(&[&self.route.0]).increment(written);
        }
        let mut status = self.status.lock();
        status.letters += written;
        status.trouble = None;
        drop(status);
        let (moved, answers) = self.receiver.committed();
        if let Some(exchange) = self.exchange.upgrade() {
            for (id, position) in moved {
                if let Some(stream) = exchange.stream(&id) {
                    self.tell(&stream, position);
                }
            }
        }
        self.send(answers);
        Ok(())
    }

    // ----- talking to the streams --------------------------------------------------------------------------------

    fn said(&mut self, id: &StreamId, message: Message) {
        match message {
            Message::Ask { nonce, streams, .. } => self.receiver.ask(Question { nonce, streams }),
            Message::Begin {
                nonce, start, guard, ..
            } => self.receiver.begin(nonce, id, start, guard),
            _ => {}
        }
    }

    fn tell(&self, stream: &OriginStream, position: Position) {
        if let Some(writer) = self.receiver.writer() {
            stream.act(|machine| machine.position(&self.route, writer, position));
        }
    }

    fn answer_all(&mut self) {
        let answers = self.receiver.answer_after_taking();
        self.send(answers);
    }

    fn send(&self, answers: Vec<culvert_proto::receiver::Answer>) {
        let Some(exchange) = self.exchange.upgrade() else {
            return;
        };
        for answer in answers {
            for (id, position) in answer.positions {
                if let Some(stream) = exchange.stream(&id) {
                    stream.act(|machine| machine.answer(&self.route, answer.nonce, answer.writer, position));
                }
            }
        }
    }

    // ----- trouble -----------------------------------------------------------------------------------------------

    /// The stream stands still, and is read no further: what it holds waits for an operator.
    fn halt(&mut self, stream: &OriginStream, code: &str, reason: String) {
        let fault = Fault {
            code: code.into(),
            reason,
        };
        self.receiver.halt(&stream.id);
        self.halted.insert(stream.id.clone(), fault);
        self.keep_halted(stream);
    }

    /// Whatever else makes the stream be read again does not help its letters.
    fn keep_halted(&self, stream: &OriginStream) {
        let (Some(fault), Some(exchange)) = (self.halted.get(&stream.id), self.exchange.upgrade()) else {
            return;
        };
        stream.act(|machine| {
            if machine.halted().is_none() {
                exchange.halted(&stream.id, None, fault.clone());
                machine.halt(Halted::Record);
            }
        });
    }

    /// A frame's checksum held, so it was written like this. Nothing of the open write may stay.
    fn damaged(&mut self, stream: &OriginStream, at: Sequence, error: &Malformed) -> Result<(), SinkFault> {
        self.halt(
            stream,
            "CULVERT-F011",
            format!("the dead letters at {at} cannot be decoded: {error}"),
        );
        Err(SinkFault::Uncertain("a batch could not be decoded".into()))
    }

    fn forked(&mut self, stream: &OriginStream, at: Sequence) {
        let reason = format!(
            "the record before {at} is not the one up to which dead letters were kept: the source's history changed"
        );
        self.halt(stream, "CULVERT-F010", reason);
    }

    /// Waits before the next attempt. Answers whether to stop.
    fn hold_back(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(Work::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(Work::Said(stream, message)) => self.said(&stream, *message),
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// The connector waits for an operator: its streams keep what they have.
    fn failed(self, code: &'static str, reason: &str) {
        tracing::error!(route = %self.route, code, reason, "writer of dead letters stopped");
        self.status.lock().trouble = Some(Trouble::Failed(Fault {
            code: code.into(),
            reason: reason.into(),
        }));
        while !matches!(self.inbox.recv(), Ok(Work::Stop) | Err(_)) {}
    }
}
