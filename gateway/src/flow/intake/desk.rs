//! Where a source hands over its records: they wait for stages, become frames, and are appended to their streams.

use super::stream::{Order, OriginStream};
use super::{AHEAD_PLACES, POLL_MAX, RETRY_MAX, STAGE_RETRY_MIN};
use crate::codec::compression::Codecs;
use crate::flow::exchange::{Exchange, Role};
use crate::flow::letters;
use crate::flow::stage::{Chain, Passed, Refused, StageFault};
use crate::flow::{Halt, Intake, Slot, Source, SourceFault};
use crate::observe::metrics;
use crate::outbox::{self, Group};
use culvert_proto::batch::Codec;
use culvert_proto::columns::Columns;
use culvert_proto::frame::{Frame, FrameBuilder, Part, Push};
use culvert_proto::message::{Fault, Priority};
use culvert_proto::origin::Halted;
use culvert_proto::record::RecordRef;
use culvert_proto::schema::Fingerprint;
use culvert_proto::wire::Malformed;
use culvert_proto::{Guard, Sequence, StreamId, limits};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Where a source hands its records over.
pub(super) struct Desk {
    pub(super) exchange: Arc<Exchange>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) codec: Codec,
    /// What each stream may hold here, in bytes.
    pub(super) quota: Option<u64>,
    /// How urgent they are.
    pub(super) priority: Priority,
    /// What records pass through, shared by the streams of the task.
    pub(super) chain: Chain,
    pub(super) slots: BTreeMap<Slot, Reading>,
    pub(super) taken: u64,
    /// What the source waits for, told to people.
    pub(super) wanted: Option<Halt>,
}

/// A stream that is being read.
pub(super) struct Reading {
    stream: Arc<OriginStream>,
    /// Records on their way to the stages; without stages, none.
    unstaged: Unstaged,
    /// The frame under way; begins where the one before ended.
    frame: FrameBuilder,
    /// When it must be closed, once a first record or a first hole has come.
    due: Option<Instant>,
    /// Dead letters on their way, where they are kept.
    letters: Option<LettersUnderWay>,
    /// Closed frames that the outbox had no room for, or that are above the quota.
    waiting: VecDeque<Closed>,
    /// The first of them is above the quota: other streams go on.
    above_quota: bool,
    /// Whether its quota has room.
    quota_room: watch::Receiver<bool>,
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
    pub(super) fn patience(&self) -> Duration {
        let first = self.slots.values().filter_map(|reading| reading.due).min();
        first.map_or(POLL_MAX, |due| {
            due.saturating_duration_since(Instant::now()).min(POLL_MAX)
        })
    }

    /// Whether a stream is ahead, and all have somebody who takes them. While one has nobody, everything is taken in as it
    /// comes: that is what the outbox is for.
    pub(super) fn is_ahead(&self) -> bool {
        let mut unsent = self.slots.values().map(|reading| reading.stream.unsent());
        let most = unsent.try_fold(0, |most, unsent| Some(most.max(unsent?)));
        most.is_some_and(|most| most > AHEAD_PLACES)
    }

    /// Whether all streams wait: for the outbox, or for a stage that they share.
    pub(super) fn waits(&self) -> bool {
        self.slots.values().any(|reading| {
            let for_outbox = !reading.waiting.is_empty() && !reading.above_quota;
            for_outbox || reading.unstaged.held_back.is_some()
        })
    }

    /// Closes what is due by `now`, and tries again what waits for room or for a stage.
    pub(super) fn close_batches(&mut self, now: Instant) {
        for reading in self.slots.values_mut() {
            if reading.due.is_some_and(|due| due <= now) && reading.stage(&mut self.chain, self.codec) {
                reading.close(self.codec);
            }
            reading.append_waiting();
        }
    }

    /// Pauses every stream or lets it go on, also those that were assigned since (A7). One at its quota stays paused alone.
    pub(super) fn pause(&mut self, source: &mut dyn Source, full: bool) -> Result<(), SourceFault> {
        for (slot, reading) in &mut self.slots {
            let pauses = full || reading.is_at_quota();
            if reading.paused == pauses {
                continue;
            }
            if pauses {
                source.pause(*slot)?;
            } else {
                source.resume(*slot)?;
            }
            reading.paused = pauses;
        }
        Ok(())
    }

    /// Forgets what was read of a stream that is about to be read from another place.
    pub(super) fn restart(&mut self, slot: Slot, seek: u64) -> bool {
        let Some(reading) = self.slots.get_mut(&slot) else {
            return false;
        };
        reading.seek = seek;
        reading.forget_waiting();
        reading.unstaged.restart(Sequence::ZERO);
        reading.due = None;
        reading.placed = false;
        true
    }

    /// Why a stage holds records back, if one does.
    pub(super) fn held_back(&self) -> Option<&str> {
        let mut unstaged = self.slots.values().map(|reading| &reading.unstaged);
        let held_back = unstaged.find_map(|unstaged| unstaged.held_back.as_ref())?;
        Some(&held_back.reason)
    }

    pub(super) fn revoke_all(&mut self) {
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
            if let Err(error) = crate::flow::transit::link_stream(&self.exchange, &route, &stream) {
                tracing::error!(stream = %id, route = %route.id, %error, "route cannot be served");
            }
        }
        stream.ask_aside();
        stream.set_priority(self.priority);
        if let Err(error) = stream.set_quota(self.quota) {
            return refuse(error.to_string());
        }
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
            quota_room: stream.quota_room(),
            stream,
            unstaged: Unstaged::default(),
            frame,
            due: None,
            waiting: VecDeque::new(),
            above_quota: false,
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
    /// Whether it is to be read no further until some of it is freed.
    pub(super) fn is_at_quota(&self) -> bool {
        self.above_quota || !*self.quota_room.borrow()
    }

    fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.above_quota = false;
    }

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
        self.forget_waiting();
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
            self.above_quota = matches!(appended, Err(outbox::Error::AtQuota { .. }));
            match appended {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(outbox::Error::Full(_) | outbox::Error::AtQuota { .. }) => return,
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
