//! A plugin as a sink of the flow.
//!
//! Constraints:
//! - Records of the open atomic write are held here until [`Sink::commit`]; delivery bounds how many those are. One commit
//!   is one `put`.
//! - Of a transactional plugin, the position of each stream is a note of ours in its token ([`notes`]): the plugin stores it
//!   with the data and gives it back unread. Exactly once rests on that alone.
//! - Of any other, positions lie in this gateway's outbox ([`ledger`]), durable after the put: what was put and not noted is
//!   put again. Stream and place name a record for ever, so that an idempotent target holds it once.
//! - A put whose outcome is not known is never tried again by the same writer (C3). One that is to be made again is made by
//!   the same instance, which may know what it has done of it: a target that takes a little at a time gets all of it.

mod ledger;
mod notes;
#[cfg(test)]
mod tests;

use crate::flow::{DeadLetter, Sink, SinkFault};
use crate::observe::metrics;
use crate::outbox::Outbox;
use culvert_host::{OpenError, Poison, PutFault, Refusal, Stream, Token, Written};
use culvert_proto::columns::{Columns, Rejection};
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::stream::RouteId;
use culvert_proto::{Position, Sequence, StreamId};
use ledger::Ledger;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch is closed at this many records, as the contract says.
const BATCH_RECORDS_MAX: usize = 500;

/// And at this many bytes, unless it is one larger record.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The open write is to be committed at this many bytes: records of compressed frames, and what stages made of them, may be
/// much more than the frames. An instance has to hold them too.
const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The longest pause that a connector that is a plugin may ask for.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(300);

/// By whom records were refused that the plugin itself refused.
const SINK_STAGE: &str = "sink";

/// What a sink plugin is run with, beside the plugin.
#[derive(Clone)]
pub struct RouteEnd {
    /// The route it is the end of.
    pub route: RouteId,
    /// The connector's name.
    pub connector: Arc<str>,
    /// What the plugin refuses becomes a dead letter; else it halts its stream.
    pub dead_letters: bool,
    /// Where positions are kept of a plugin that is not transactional.
    pub outbox: Outbox,
}

/// The one shard of a sink plugin.
pub(super) struct PluginSink {
    around: RouteEnd,
    sink: culvert_host::Sink,
    is_transactional: bool,
    ledger: Ledger,
    streams: BTreeMap<StreamId, Known>,
    batches: Vec<Batch>,
    bytes: usize,
    /// The plugin asked not to be called before.
    not_before: Option<(Instant, String)>,
}

/// A stream of which something was read or written.
struct Known {
    /// As the plugin knows it.
    id: String,
    /// What it holds, once it holds something.
    position: Option<Position>,
}

/// Records of one stream in the open write.
struct Batch {
    stream: StreamId,
    /// Where a stage sent them; their stream's own topic where it did not.
    topic: Option<Arc<str>>,
    records: Columns,
    are_dead_letters: bool,
}

impl PluginSink {
    pub(super) fn new(sink: culvert_host::Sink, around: RouteEnd) -> PluginSink {
        PluginSink {
            is_transactional: sink.plugin().description.promises.transactional,
            ledger: Ledger::new(&around.outbox, &around.route),
            around,
            sink,
            streams: BTreeMap::new(),
            batches: Vec::new(),
            bytes: 0,
            not_before: None,
        }
    }

    /// Positions as the target holds them.
    fn positions(&self, tokens: &[Token]) -> Result<Vec<(StreamId, Position)>, SinkFault> {
        if self.is_transactional {
            let read = |token| notes::read(token, &self.around.route);
            let unreadable = |error: notes::Error| SinkFault::Stop {
                code: "CULVERT-W046",
                reason: format!("connector {}: {error}", self.around.connector),
            };
            tokens
                .iter()
                .map(read)
                .collect::<Result<_, _>>()
                .map_err(unreadable)
        } else {
            self.ledger.positions()
        }
    }

    /// Nobody but a later writer moves a target on, and nobody moves it back: a plugin that confirmed a write and does not
    /// find it again did not keep it.
    fn check_kept(&self, found: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        for (stream, known) in &self.streams {
            let Some(confirmed) = &known.position else {
                continue;
            };
            let held = found
                .iter()
                .find(|(other, _)| other == stream)
                .map(|(_, position)| position);
            let is_kept =
                held.is_some_and(|held| (held.incarnation, held.at) >= (confirmed.incarnation, confirmed.at));
            if !is_kept {
                let held = held.map_or("nothing".to_owned(), |held| {
                    format!("[{}, {})", held.start, held.at)
                });
                return Err(SinkFault::Stop {
                    code: "CULVERT-W047",
                    reason: format!(
                        "connector {}: {stream}: the plugin confirmed a write up to {} and now holds {held}; was the \
                         target put back to an older state? Restart the gateway to go on from there",
                        self.around.connector, confirmed.at
                    ),
                });
            }
        }
        Ok(())
    }

    fn know(&mut self, stream: &StreamId) -> &mut Known {
        self.streams.entry(stream.clone()).or_insert_with(|| Known {
            id: notes::stream_id(stream),
            position: None,
        })
    }

    /// Adds a record behind those of its stream and kind.
    fn push(
        &mut self,
        stream: &StreamId,
        topic: Option<&str>,
        are_dead_letters: bool,
        sequence: Sequence,
        record: &RecordRef<'_>,
    ) -> Result<(), SinkFault> {
        let size = record.size();
        let has_room = |batch: &Batch| {
            batch.are_dead_letters == are_dead_letters
                && batch.records.len() < BATCH_RECORDS_MAX
                && batch.records.bytes() + size <= BATCH_BYTES_MAX
        };
        let open = self.batches.iter_mut().rev().find(|batch| {
            batch.stream == *stream
                && batch.topic.as_deref() == topic
                && batch.are_dead_letters == are_dead_letters
        });
        let batch = match open.filter(|batch| has_room(batch)) {
            Some(batch) => batch,
            None => {
                self.batches.push(Batch {
                    stream: stream.clone(),
                    topic: topic.map(Arc::from),
                    records: Columns::begin(sequence),
                    are_dead_letters,
                });
                self.batches.last_mut().expect("it was just put there")
            }
        };
        batch
            .records
            .push(sequence, record)
            .map_err(|error| SinkFault::Record {
                sequence,
                reason: error.to_string(),
            })?;
        self.bytes += size;
        Ok(())
    }

    /// One put with all that is open.
    fn put(&mut self, tokens: &[Token]) -> Result<(), PutFault> {
        let dead_letter = [("dead-letter".to_owned(), "true".to_owned())];
        let written: Vec<Written<'_>> = self
            .batches
            .iter()
            .map(|batch| {
                let id = self
                    .streams
                    .get(&batch.stream)
                    .map_or("", |known| known.id.as_str());
                Written {
                    stream: Stream {
                        id,
                        topic: batch.topic.as_deref().unwrap_or(&batch.stream.topic),
                        partition: batch.stream.partition,
                    },
                    attributes: if batch.are_dead_letters { &dead_letter } else { &[] },
                    is_whole: batch.are_dead_letters,
                    records: &batch.records,
                }
            })
            .collect();
        self.sink.put(&written, tokens)
    }

    /// Puts until the plugin refuses nothing more. Each time at least one record more is a dead letter: this ends.
    fn put_what_is_taken(&mut self, tokens: &[Token]) -> Result<(), SinkFault> {
        loop {
            match self.put(tokens) {
                Ok(()) => return Ok(()),
                Err(PutFault::Refused(refusals)) => self.take_out(&refusals)?,
                Err(fault) => return Err(self.fault(fault)),
            }
        }
    }

    /// Makes dead letters of what the plugin refused. The record is kept as the sink was shown it: behind the stages.
    fn take_out(&mut self, refusals: &[Refusal]) -> Result<(), SinkFault> {
        let place = |refusal: &Refusal| {
            let batch = &self.batches[refusal.batch];
            // The host has looked whether the record is there.
            let (sequence, _) = batch.records.get(refusal.record).expect("a record of the batch");
            (batch, sequence)
        };
        let cannot_stay =
            |refusal: &&Refusal| !self.around.dead_letters || self.batches[refusal.batch].are_dead_letters;
        if let Some(refusal) = refusals.iter().find(cannot_stay) {
            let (batch, sequence) = place(refusal);
            return Err(SinkFault::Unwritable {
                stream: batch.stream.clone(),
                sequence,
                reason: words(&refusal.rejection),
            });
        }
        // All parts of a place are refused with it (S10).
        let mut refused: BTreeMap<(StreamId, Sequence), &Rejection> = BTreeMap::new();
        for refusal in refusals {
            let (batch, sequence) = place(refusal);
            refused
                .entry((batch.stream.clone(), sequence))
                .or_insert(&refusal.rejection);
        }
        let mut letters = Vec::new();
        for batch in self.batches.iter_mut().filter(|batch| !batch.are_dead_letters) {
            let mut stays = BTreeSet::new();
            for (index, (sequence, record)) in batch.records.iter().enumerate() {
                match refused.get(&(batch.stream.clone(), sequence)) {
                    Some(rejection) => {
                        letters.push((
                            batch.stream.clone(),
                            sequence,
                            owned(&record),
                            (*rejection).clone(),
                        ));
                    }
                    None => drop(stays.insert(index)),
                }
            }
            if stays.len() < batch.records.len() {
                batch.records = batch.records.retained(|index| stays.contains(&index));
            }
        }
        self.batches.retain(|batch| !batch.records.is_empty());
        metrics::DEAD_LETTERS
            .with(&[&self.around.route.0])
            .increment(refused.len() as u64);
        for (stream, sequence, made, rejection) in letters {
            let letter = DeadLetter {
                sequence,
                record: made.as_record(),
                stage: SINK_STAGE,
                rejection: &rejection,
            };
            self.push_letter(&stream, &letter)?;
        }
        Ok(())
    }

    fn push_letter(&mut self, stream: &StreamId, letter: &DeadLetter<'_>) -> Result<(), SinkFault> {
        let mut headers = HeadersBuf::new();
        for (name, value) in letter.record.headers.iter() {
            headers.push(name, value);
        }
        letter.put_context(&mut headers, &self.around.connector, 0, stream);
        let record = RecordRef {
            headers: headers.as_headers(),
            ..letter.record
        };
        self.push(stream, None, true, letter.sequence, &record)
    }

    fn fault(&self, fault: PutFault) -> SinkFault {
        match fault {
            PutFault::Refused(_) => SinkFault::Uncertain("refusals were not treated".into()),
            PutFault::Retry { reason, after } => SinkFault::Again {
                reason,
                after: after.map(|pause| pause.min(PAUSE_MAX)),
            },
            PutFault::Stop(reason) => SinkFault::Stop {
                code: "CULVERT-W045",
                reason: format!("connector {}: {reason}", self.around.connector),
            },
            PutFault::Uncertain(reason) => SinkFault::Uncertain(reason),
            PutFault::Fenced(reason) => SinkFault::Fenced(reason),
            // What it waited for took too long: no fault of a record (C4).
            PutFault::Poison {
                poison: poison @ Poison::Timeout(_),
                was_busy: false,
            } => SinkFault::Uncertain(format!("{poison}, which it spent waiting")),
            PutFault::Poison { poison, .. } => SinkFault::Poison {
                code: poison.code(),
                reason: poison.to_string(),
            },
        }
    }

    fn rest(&mut self, pause: Option<Duration>, reason: &str) {
        self.not_before = pause.map(|pause| (Instant::now() + pause.min(PAUSE_MAX), reason.to_owned()));
    }

    fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }
}

impl Sink for PluginSink {
    fn take(&mut self) -> Result<Vec<(StreamId, Position)>, SinkFault> {
        self.clear();
        if let Some((until, reason)) = &self.not_before {
            if Instant::now() < *until {
                return Err(SinkFault::Retry(reason.clone()));
            }
            self.not_before = None;
        }
        let tokens = match self.sink.open(rand::random()) {
            Ok(tokens) => tokens,
            Err(OpenError::Retry { reason, after }) => {
                self.rest(after, &reason);
                return Err(SinkFault::Retry(reason));
            }
            Err(error) => return Err(open_fault(&self.around.connector, error)),
        };
        let found = self.positions(&tokens)?;
        self.check_kept(&found)?;
        self.streams.clear();
        for (stream, position) in &found {
            self.know(stream).position = Some(position.clone());
        }
        Ok(found)
    }

    fn write(
        &mut self,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        self.know(stream);
        for (sequence, record) in records {
            self.push(stream, None, false, sequence, &record)?;
        }
        Ok(())
    }

    fn write_to(
        &mut self,
        topic: &str,
        stream: &StreamId,
        records: &mut dyn Iterator<Item = (Sequence, RecordRef<'_>)>,
    ) -> Result<(), SinkFault> {
        self.know(stream);
        for (sequence, record) in records {
            self.push(stream, Some(topic), false, sequence, &record)?;
        }
        Ok(())
    }

    fn takes_topics(&self) -> bool {
        true
    }

    /// A target that knows a record by its place alone would keep the last part of it.
    fn takes_parts(&self) -> bool {
        self.is_transactional
    }

    fn is_full(&self) -> bool {
        self.bytes >= WRITE_BYTES_MAX
    }

    fn refuse(&mut self, stream: &StreamId, letters: &[DeadLetter<'_>]) -> Result<(), SinkFault> {
        self.know(stream);
        letters
            .iter()
            .try_for_each(|letter| self.push_letter(stream, letter))
    }

    fn commit(&mut self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        for (stream, _) in positions {
            self.know(stream);
        }
        if self.is_transactional {
            let token = |(stream, position): &(StreamId, Position)| {
                notes::token(
                    &self.streams[stream].id,
                    self.streams[stream].position.as_ref(),
                    stream,
                    position,
                    &self.around.route,
                )
            };
            let unspeakable = |error: notes::Error| SinkFault::Stop {
                code: "CULVERT-W046",
                reason: format!("connector {}: {error}", self.around.connector),
            };
            let tokens: Vec<Token> = positions
                .iter()
                .map(token)
                .collect::<Result<_, _>>()
                .map_err(unspeakable)?;
            self.put_what_is_taken(&tokens)?;
        } else {
            if !self.batches.is_empty() {
                self.put_what_is_taken(&[])?;
            }
            self.ledger.keep(positions)?;
        }
        self.clear();
        for (stream, position) in positions {
            self.know(stream).position = Some(position.clone());
        }
        Ok(())
    }
}

impl Drop for PluginSink {
    fn drop(&mut self) {
        self.sink.close();
    }
}

pub(super) fn open_fault(connector: &str, error: OpenError) -> SinkFault {
    match error {
        OpenError::Poison(poison @ Poison::Timeout(_)) => SinkFault::Retry(format!("open: {poison}")),
        other => match culvert_host::StageFault::from(other) {
            culvert_host::StageFault::Retry { reason, .. } => SinkFault::Retry(reason),
            culvert_host::StageFault::Stop { code, reason } => SinkFault::Stop {
                code,
                reason: format!("connector {connector}: {reason}"),
            },
        },
    }
}

fn words(rejection: &Rejection) -> String {
    let field = rejection
        .field
        .as_ref()
        .map_or(String::new(), |field| format!(" (at {field})"));
    format!(
        "the plugin refused it with code {}: {}{field}",
        rejection.code, rejection.reason
    )
}

fn owned(record: &RecordRef<'_>) -> culvert_proto::columns::Made {
    let mut headers = HeadersBuf::new();
    for (name, value) in record.headers.iter() {
        headers.push(name, value);
    }
    culvert_proto::columns::Made {
        topic: None,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers,
        timestamp: record.timestamp,
    }
}
