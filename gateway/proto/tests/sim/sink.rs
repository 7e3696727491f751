//! How a sink's gateway drives [`culvert_proto::receiver::Receiver`]: one thread that hears, writes and commits. While
//! it takes the shard or commits it hears nothing, so no question can be answered by a commit that began before it.

use super::net::Message;
use super::outbox::Frame;
use super::source::{Rec, content_of};
use super::store::Kind;
use super::world::World;
use culvert_proto::digest::Digest;
use culvert_proto::receiver::{Admission, Answer, Question, Receiver, Verdict};
use culvert_proto::traps::{Trap, planted};
use culvert_proto::{Position, StreamId};
use std::collections::BTreeSet;
use std::rc::Rc;

pub struct SinkGateway {
    pub route: usize,
    pub replica: usize,
    pub up: bool,
    pub receiver: Receiver,
    pub phase: Phase,
    /// The producer epoch that the last taking gave.
    epoch: u64,
    pub uppers: BTreeSet<u64>,
    /// Sessions through which it registered anew since it took the shard.
    told: BTreeSet<u64>,
    /// Records and positions that a naive sink stores after the data.
    apart: Vec<(usize, Position)>,
}

#[derive(Clone, Debug)]
pub enum Phase {
    Idle,
    /// Earlier writers are fenced; the positions are read next. A naive sink has read them already.
    Fenced(Option<Vec<(usize, Position)>>),
    /// A naive sink that reads the positions first.
    ReadFirst(Vec<(usize, Position)>),
    /// The positions were written; the outcome of the commit is due.
    Committing,
    /// A naive sink: the data is committed, the positions are stored next.
    StoringApart,
}

impl SinkGateway {
    pub fn new(route: usize, replica: usize) -> SinkGateway {
        SinkGateway {
            route,
            replica,
            up: true,
            receiver: Receiver::new(0),
            phase: Phase::Idle,
            epoch: 0,
            uppers: BTreeSet::new(),
            told: BTreeSet::new(),
            apart: Vec::new(),
        }
    }
}

impl World {
    pub fn sink_stops(&mut self, c: usize) {
        let gateway = &mut self.c[c];
        gateway.up = false;
        gateway.receiver = Receiver::new(0);
        gateway.phase = Phase::Idle;
        gateway.uppers.clear();
        gateway.apart.clear();
    }

    pub fn sink_is_free(&self, c: usize) -> bool {
        self.c[c].up && matches!(self.c[c].phase, Phase::Idle)
    }

    // ----- the shard -------------------------------------------------------------------------------------------

    /// One step of what the sink's thread does by itself: take the shard, or commit.
    pub fn sink_works(&mut self, c: usize) -> bool {
        let phase = self.c[c].phase.clone();
        match phase {
            Phase::Idle if self.c[c].receiver.must_take() => self.sink_takes(c),
            Phase::ReadFirst(positions) => self.sink_fences(c, Some(positions)),
            Phase::Fenced(read) => self.sink_taken(c, read),
            Phase::Idle if self.c[c].receiver.must_commit() => self.sink_commits(c),
            Phase::Committing => self.sink_ends(c),
            Phase::StoringApart => self.sink_stores_apart(c),
            Phase::Idle => return false,
        }
        true
    }

    fn sink_takes(&mut self, c: usize) {
        if planted(Trap::ReadBeforeFence) {
            let read = self.stores[self.c[c].route].positions();
            self.c[c].phase = Phase::ReadFirst(read);
        } else {
            self.sink_fences(c, None);
        }
    }

    fn sink_fences(&mut self, c: usize, read: Option<Vec<(usize, Position)>>) {
        self.note(format_args!("C{c} fences earlier writers"));
        let gateway = &mut self.c[c];
        gateway.epoch = self.stores[gateway.route].fence(gateway.replica);
        gateway.phase = Phase::Fenced(read);
    }

    fn sink_taken(&mut self, c: usize, read: Option<Vec<(usize, Position)>>) {
        let route = self.c[c].route;
        let positions = read.unwrap_or_else(|| self.stores[route].positions());
        let writer = self.rng.wide();
        let named: Vec<(StreamId, Position)> = positions
            .iter()
            .map(|(stream, position)| (self.histories[*stream].id.clone(), position.clone()))
            .collect();
        self.note(format_args!("C{c} has taken the shard: {:?}", short(&positions)));
        let gateway = &mut self.c[c];
        gateway.phase = Phase::Idle;
        gateway.told.clear();
        let known: Vec<StreamId> = gateway.receiver.streams().map(|(id, _)| id.clone()).collect();
        gateway.receiver.taken(writer, named);
        let answers = gateway.receiver.answer_after_taking();
        self.sink_answers(c, answers);
        // A stream that it held and holds no more cannot be told as a position: its origin must ask.
        if known.iter().any(|id| self.c[c].receiver.position(id).is_none()) {
            self.sink_says(c, &Message::Register);
        }
        // What was sent to the writer before us is lost, and its origins believe him: tell them all.
        for (stream, position) in positions {
            self.sink_tells(c, stream, position.clone());
            if !planted(Trap::NewWriterSilent) {
                self.sink_wants(c, stream);
            }
        }
    }

    pub fn sink_lost(&mut self, c: usize, why: &str) {
        self.note(format_args!("C{c} gives its writer up: {why}"));
        self.c[c].receiver.lost();
        self.c[c].phase = Phase::Idle;
    }

    // ----- commit ----------------------------------------------------------------------------------------------

    fn sink_commits(&mut self, c: usize) {
        let (route, replica, epoch) = (self.c[c].route, self.c[c].replica, self.c[c].epoch);
        let to_commit = self.c[c].receiver.to_commit();
        let positions: Vec<(usize, Position)> = to_commit
            .into_iter()
            .map(|(id, position)| (self.stream_index(&id), position))
            .collect();
        self.note(format_args!("C{c} commits {:?}", short(&positions)));
        let with_data = if planted(Trap::PositionApart) {
            self.c[c].apart = positions;
            Vec::new()
        } else {
            positions
        };
        match self.stores[route].write_positions(replica, epoch, with_data) {
            Ok(()) => self.c[c].phase = Phase::Committing,
            Err(_) => self.sink_lost(c, "fenced"),
        }
    }

    fn sink_ends(&mut self, c: usize) {
        let (route, replica, epoch) = (self.c[c].route, self.c[c].replica, self.c[c].epoch);
        let faulty = self.faults && self.rng.chance(self.topology.commit_faults);
        let how = if faulty { 1 + self.rng.below(4) } else { 0 };
        let store = &mut self.stores[route];
        match how {
            1 => {
                self.stats.commits_uncertain += 1;
                let _ = store.end(replica, epoch);
                self.sink_lost(c, "commit arrived, its answer did not");
            }
            2 => {
                self.stats.commits_uncertain += 1;
                self.sink_lost(c, "commit did not arrive");
            }
            3 if store.kind == Kind::Transactional => {
                self.stats.commits_uncertain += 1;
                store.delay_end(replica, epoch);
                if planted(Trap::RetryUncertain) && store.end(replica, epoch).is_ok() {
                    self.sink_committed(c);
                } else {
                    self.sink_lost(c, "commit is under way somewhere");
                }
            }
            4 => self.sink_lost(c, "the sink is away"),
            _ => match store.end(replica, epoch) {
                Ok(()) if planted(Trap::PositionApart) => self.c[c].phase = Phase::StoringApart,
                Ok(()) => self.sink_committed(c),
                Err(_) => self.sink_lost(c, "fenced"),
            },
        }
        self.check_store(route);
    }

    fn sink_stores_apart(&mut self, c: usize) {
        let positions = std::mem::take(&mut self.c[c].apart);
        let route = self.c[c].route;
        self.stores[route].show(Vec::new(), positions);
        self.sink_committed(c);
        self.check_store(route);
    }

    fn sink_committed(&mut self, c: usize) {
        self.c[c].phase = Phase::Idle;
        let known: BTreeSet<StreamId> = self.c[c].receiver.streams().map(|(id, _)| id.clone()).collect();
        let (moved, answers) = self.c[c].receiver.committed();
        self.stats.commits += 1;
        self.check_writer(c, &moved);
        for (id, position) in moved {
            let stream = self.stream_index(&id);
            self.sink_tells(c, stream, position);
            // A stream that has just begun: now its records can come.
            if !known.contains(&id) {
                self.sink_wants(c, stream);
            }
        }
        self.sink_answers(c, answers);
    }

    // ----- what is heard ---------------------------------------------------------------------------------------

    pub fn sink_linked(&mut self, c: usize, session: u64) {
        self.c[c].uppers.insert(session);
        self.send_up(session, Message::Register);
        let Some(writer) = self.c[c].receiver.writer() else {
            return;
        };
        let held: Vec<(usize, Position)> = self.c[c]
            .receiver
            .streams()
            .map(|(id, position)| (self.stream_index(id), position.clone()))
            .collect();
        for (stream, position) in held {
            let tells = Message::PositionIs {
                stream,
                writer,
                position,
            };
            self.send_up(session, tells);
            if let Some(at) = self.c[c].receiver.wants(&self.histories[stream].id) {
                self.send_up(session, Message::Want { stream, at });
            }
        }
    }

    pub fn sink_hears(&mut self, c: usize, session: Option<u64>, message: Message) {
        match message {
            Message::Frame { stream, frame } => self.sink_gets(c, session, stream, &frame),
            Message::Ask { nonce, streams } => {
                let streams = streams.iter().map(|s| self.histories[*s].id.clone()).collect();
                self.c[c].receiver.ask(Question { nonce, streams });
                if planted(Trap::AnswerFromMemory) {
                    let answers = self.c[c].receiver.answer_after_taking();
                    self.sink_answers(c, answers);
                }
            }
            Message::Begin {
                nonce,
                stream,
                start,
                guard,
            } => {
                let id = self.histories[stream].id.clone();
                self.c[c].receiver.begin(nonce, &id, start, guard);
            }
            Message::Offer { stream, held, .. } => {
                let receiver = &self.c[c].receiver;
                let id = &self.histories[stream].id;
                let (Some(session), false) = (session, receiver.must_take()) else {
                    return;
                };
                match (receiver.wants(id), receiver.writer(), receiver.position(id)) {
                    (Some(at), _, _) if held.from <= at => {
                        self.send_up(session, Message::Want { stream, at });
                    }
                    // It has freed what we need, so it believes that we hold more than we do.
                    (Some(_), Some(writer), Some(position)) => {
                        let position = position.clone();
                        let tells = Message::PositionIs {
                            stream,
                            writer,
                            position,
                        };
                        self.send_up(session, tells);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn sink_gets(&mut self, c: usize, session: Option<u64>, stream: usize, frame: &Rc<Frame>) {
        let id = self.histories[stream].id.clone();
        let verdict = self.c[c].receiver.frame(&id, frame.interval);
        self.note(format_args!(
            "C{c} gets {} of stream {stream}: {verdict:?}",
            frame.interval
        ));
        match verdict {
            Verdict::Apply(from) => {
                let seam = frame.seam(from);
                if let Admission::Forked { .. } = self.c[c].receiver.admit(&id, seam) {
                    self.note(format_args!(
                        "C{c} halts stream {stream}: {from} does not follow {seam:?} there"
                    ));
                    return self.check_forked(stream);
                }
                let records: Vec<Rec> = frame.records.iter().copied().filter(|r| r.at >= from).collect();
                self.sink_writes(c, stream, &id, frame, records);
            }
            Verdict::Gap(at) => {
                if let Some(session) = session {
                    self.send_up(session, Message::Want { stream, at });
                }
            }
            // Its origin believes that we hold something: it must ask again. (The sink was restored from a backup
            // that is older than the stream.)
            Verdict::Unbegun if planted(Trap::FirstFrameBegins) => {
                let nonce = self.rng.wide();
                let (from, guard) = (frame.interval.from, frame.guard_from);
                self.c[c].receiver.begin(nonce, &id, from, guard);
            }
            Verdict::Unbegun => {
                if let Some(session) = session.filter(|session| self.c[c].told.insert(*session)) {
                    self.send_up(session, Message::Register);
                }
            }
            Verdict::Known | Verdict::NotNow => {}
        }
    }

    fn sink_writes(&mut self, c: usize, stream: usize, id: &StreamId, frame: &Frame, records: Vec<Rec>) {
        let gateway = &mut self.c[c];
        let mut digest = Digest::EMPTY;
        records
            .iter()
            .for_each(|record| digest.add(content_of(record.key)));
        let guard = frame.guard_end();
        let named = records.into_iter().map(|record| (stream, record)).collect();
        match self.stores[gateway.route].write(gateway.replica, gateway.epoch, named) {
            Ok(()) => gateway.receiver.wrote(id, frame.interval.to, guard, &digest),
            Err(_) => self.sink_lost(c, "fenced"),
        }
    }

    // ----- what is said ----------------------------------------------------------------------------------------

    fn sink_answers(&mut self, c: usize, answers: Vec<Answer>) {
        let restores = self.stores[self.c[c].route].restores;
        for Answer {
            nonce,
            writer,
            positions,
        } in answers
        {
            let positions: Vec<(usize, Option<Position>)> = positions
                .into_iter()
                .map(|(id, position)| (self.stream_index(&id), position))
                .collect();
            self.check_answer(c, &positions);
            self.sink_says(
                c,
                &Message::Answer {
                    nonce,
                    writer,
                    positions,
                    restores,
                },
            );
        }
    }

    fn sink_tells(&mut self, c: usize, stream: usize, position: Position) {
        if let Some(writer) = self.c[c].receiver.writer() {
            self.sink_says(
                c,
                &Message::PositionIs {
                    stream,
                    writer,
                    position,
                },
            );
        }
    }

    fn sink_wants(&mut self, c: usize, stream: usize) {
        if let Some(at) = self.c[c].receiver.wants(&self.histories[stream].id) {
            self.sink_says(c, &Message::Want { stream, at });
        }
    }

    fn sink_says(&mut self, c: usize, message: &Message) {
        let uppers: Vec<u64> = self.c[c].uppers.iter().copied().collect();
        for session in uppers {
            self.send_up(session, message.clone());
        }
    }
}

fn short(positions: &[(usize, Position)]) -> Vec<(usize, u64)> {
    positions
        .iter()
        .map(|(stream, position)| (*stream, position.at.0))
        .collect()
}
