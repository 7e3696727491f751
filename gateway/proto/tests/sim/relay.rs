//! How a relay drives [`culvert_proto::queue::Queue`]. It forwards questions and positions and never answers.

use super::net::Message;
use super::outbox::{Frame, Op, Outbox};
use super::world::World;
use culvert_proto::queue::{Action, Held, Queue, Verdict};
use culvert_proto::traps::{Trap, planted};
use culvert_proto::{Interval, Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub struct Relay {
    pub route: usize,
    /// 0 is nearest to the origin.
    pub hop: usize,
    pub up: bool,
    pub disk: Outbox,
    pub queues: BTreeMap<usize, Queue>,
    pub uppers: BTreeSet<u64>,
    pub lower: Option<u64>,
    /// The sink has registered through the session below.
    pub registered: bool,
    /// A registration was passed on in this life of the relay.
    pub passed: bool,
}

impl World {
    pub fn relay_starts(&mut self, b: usize) {
        let relay = &mut self.b[b];
        relay.up = true;
        for (stream, lane) in &relay.disk.now.lanes {
            let mut queue = Queue::default();
            // A lane that is empty does not know where it was: it accepts any place (B1).
            queue.restored((lane.base < lane.tail).then_some(Held {
                base: lane.base,
                durable: lane.tail,
                tail: lane.tail,
            }));
            relay.queues.insert(*stream, queue);
        }
    }

    pub fn relay_stops(&mut self, b: usize) {
        let relay = &mut self.b[b];
        relay.up = false;
        relay.queues.clear();
        relay.uppers.clear();
        relay.lower = None;
        relay.registered = false;
        relay.passed = false;
    }

    pub fn relay_hears(&mut self, b: usize, session: Option<u64>, message: Message) {
        match message {
            // ----- from below
            Message::Register => {
                self.b[b].registered = true;
                let passed = std::mem::replace(&mut self.b[b].passed, true);
                if !(passed && planted(Trap::RegistrationStops)) {
                    self.relay_forwards_up(b, &Message::Register);
                }
                let streams: Vec<usize> = self.b[b].queues.keys().copied().collect();
                for stream in streams {
                    self.relay_offers(b, stream);
                }
            }
            Message::Want { stream, at } => {
                self.with_queue(b, stream, |queue| queue.want(at));
                let held = self.b[b].queues.get(&stream).and_then(Queue::held);
                if held.is_some_and(|held| at < held.base) {
                    self.relay_offers(b, stream);
                }
            }
            Message::PositionIs {
                stream, ref position, ..
            } => {
                let at = position.at;
                self.relay_forwards_up(b, &message);
                self.with_queue(b, stream, |queue| queue.position(at));
            }
            Message::Answer { ref positions, .. } => {
                self.relay_forwards_up(b, &message);
                for (stream, position) in positions.clone() {
                    if let Some(position) = position {
                        self.with_queue(b, stream, |queue| queue.position(position.at));
                    }
                }
            }
            // ----- from above
            Message::Offer {
                stream,
                held,
                applied,
            } => {
                self.with_queue(b, stream, |queue| {
                    if let Some(applied) = applied.filter(|at| queue.applied() < Some(*at)) {
                        queue.position(applied);
                    }
                    queue.offered(held);
                });
            }
            Message::Ask { .. } | Message::Begin { .. } => {
                if let Some(lower) = self.b[b].lower {
                    self.send_down(lower, message);
                }
            }
            Message::Frame { stream, frame } => self.relay_takes(b, session, stream, &frame),
        }
    }

    fn relay_takes(&mut self, b: usize, _session: Option<u64>, stream: usize, frame: &Rc<Frame>) {
        let mut verdict = Verdict::Known;
        if planted(Trap::AppendBeforeRestart) {
            self.b[b].disk.write(Op::Append(stream, Rc::clone(frame)));
            return self.with_queue(b, stream, |queue| {
                let _ = queue.frame(frame.interval);
            });
        }
        // Actions first: a queue that begins anew must not forget the frame that made it begin.
        self.with_queue(b, stream, |queue| verdict = queue.frame(frame.interval));
        self.note(format_args!(
            "B{b} gets {} of stream {stream}: {verdict:?}",
            frame.interval
        ));
        if let Verdict::Append(_) = verdict {
            self.b[b].disk.write(Op::Append(stream, Rc::clone(frame)));
        }
    }

    fn with_queue(&mut self, b: usize, stream: usize, tell: impl FnOnce(&mut Queue)) {
        let relay = &mut self.b[b];
        let queue = relay.queues.entry(stream).or_default();
        tell(queue);
        for action in queue.take_actions() {
            self.note(format_args!("B{b}, stream {stream}: {action:?}"));
            match action {
                Action::Want(at) => self.relay_forwards_up(b, &Message::Want { stream, at }),
                Action::Trim(below) => self.b[b].disk.write(Op::Trim(stream, below)),
                Action::Restart(at) => {
                    self.b[b].disk.restart(stream, at, None);
                    self.relay_offers(b, stream);
                }
            }
        }
    }

    fn relay_offers(&mut self, b: usize, stream: usize) {
        let relay = &self.b[b];
        let (Some(queue), Some(lower), true) = (relay.queues.get(&stream), relay.lower, relay.registered)
        else {
            return;
        };
        if let Some(held) = queue.held() {
            let applied = queue.applied();
            let held = Interval::new(held.base, held.tail);
            self.send_down(
                lower,
                Message::Offer {
                    stream,
                    held,
                    applied,
                },
            );
        }
    }

    fn relay_forwards_up(&mut self, b: usize, message: &Message) {
        let uppers: Vec<u64> = self.b[b].uppers.iter().copied().collect();
        for session in uppers {
            self.send_up(session, message.clone());
        }
    }

    pub fn relay_flushes(&mut self, b: usize) -> bool {
        let relay = &mut self.b[b];
        if !relay.disk.is_flushing() {
            if relay.disk.is_dirty() {
                relay.disk.flush_begins();
                return true;
            }
            return false;
        }
        let lies = self.faults && self.topology.disks_lie && self.rng.chance(50);
        for (stream, to) in self.b[b].disk.flush_ends(lies) {
            self.with_queue(b, stream, |queue| queue.durable(to));
        }
        true
    }

    pub fn relay_sends(&mut self, b: usize) -> bool {
        let relay = &self.b[b];
        let Some(lower) = relay.lower else { return false };
        let due: Vec<(usize, Sequence)> = relay
            .queues
            .iter()
            .filter_map(|(stream, queue)| Some((*stream, queue.next_to_send()?)))
            .collect();
        let Some((stream, at)) = self.rng.pick(&due) else {
            return false;
        };
        let Some(frame) = self.b[b]
            .disk
            .now
            .lanes
            .get(&stream)
            .and_then(|lane| lane.covering(at))
        else {
            return self.violated(
                "B1",
                format!("B{b} is to send stream {stream} at {at} and holds no such frame"),
            );
        };
        self.note(format_args!("B{b} sends {} of stream {stream}", frame.interval));
        if !self.b[b].disk.has_reported(stream, frame.interval) {
            let sent = frame.interval;
            return self.violated(
                "A2",
                format!("B{b} sends {sent} of stream {stream}, which is not on disk"),
            );
        }
        // Told before anything else can be: a wish that arrives later must win.
        self.with_queue(b, stream, |queue| queue.sent(frame.interval));
        self.send_down(lower, Message::Frame { stream, frame });
        true
    }
}
