//! A relay's side of one stream on its way to one route (rules B1-B3).
//!
//! A relay stores what comes in order, sends it on, and frees it when the sink's position comes by. It never opens
//! a frame, never answers a question about the sink, and may lose everything it holds: the origin still has it.

use crate::sequence::{Interval, Sequence};
use crate::traps::{Trap, planted};
use alloc::vec::Vec;

/// A relay's queue of one (route, stream).
#[derive(Clone, Debug, Default)]
pub struct Queue {
    held: Option<Held>,
    /// The highest position heard from the sink: where an empty queue asks to be sent from.
    applied: Option<Sequence>,
    /// Where the next hop asked us to send from, in this session.
    cursor: Option<Sequence>,
    actions: Vec<Action>,
}

/// `[base, tail)`, of which `[base, durable)` is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The first place that can be sent.
    pub base: Sequence,
    /// The first place that is not on disk yet; nothing at or behind it is sent (A2).
    pub durable: Sequence,
    /// The first place that was not appended yet.
    pub tail: Sequence,
}

/// What to do with a frame that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Store it: it brings this piece of the stream. The frame may begin earlier; what was held already is not
    /// held twice.
    Append(Interval),
    /// All of it is held or delivered.
    Known,
    /// It begins behind what is held. What is needed is wanted anew.
    Gap,
}

/// What the gateway must do next, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the previous hop to send from here.
    Want(Sequence),
    /// Free what lies below.
    Trim(Sequence),
    /// Forget what is held; the queue goes on, empty, at this place.
    Restart(Sequence),
}

impl Queue {
    /// What this gateway's own disk remembers from an earlier life.
    pub fn restored(&mut self, held: Option<Held>) {
        self.held = held;
    }

    /// The actions due, oldest first.
    #[must_use]
    pub fn take_actions(&mut self) -> Vec<Action> {
        core::mem::take(&mut self.actions)
    }

    /// The previous hop offers what it holds: say where to begin.
    ///
    /// What lies before it was freed, so the sink has it: a queue that ends there is of no use any more.
    pub fn offered(&mut self, offer: Interval) {
        match self.held {
            Some(held) if offer.from <= held.tail => self.actions.push(Action::Want(held.tail)),
            _ => self.restart(self.applied.map_or(offer.from, |at| at.max(offer.from))),
        }
    }

    /// A frame of `interval` came from the previous hop (B1).
    pub fn frame(&mut self, interval: Interval) -> Verdict {
        if interval.is_empty() {
            return Verdict::Known;
        }
        let Some(held) = &mut self.held else {
            self.held = Some(Held {
                base: interval.from,
                durable: interval.from,
                tail: interval.to,
            });
            self.actions.push(Action::Restart(interval.from));
            return Verdict::Append(interval);
        };
        if held.tail < interval.from {
            self.actions.push(Action::Want(held.tail));
            return Verdict::Gap;
        }
        if interval.to <= held.tail {
            return Verdict::Known;
        }
        let piece = Interval::new(held.tail, interval.to);
        held.tail = interval.to;
        Verdict::Append(piece)
    }

    /// Everything below `to` is on disk.
    pub fn durable(&mut self, to: Sequence) {
        if let Some(held) = &mut self.held {
            held.durable = held.durable.max(to.min(held.tail));
        }
        // What the sink had before it was on disk can be freed now.
        self.trim();
    }

    /// The sink's position came by on its way to the origin (B2).
    pub fn position(&mut self, at: Sequence) {
        self.applied = Some(at);
        let Some(held) = self.held else { return };
        // What the next hop waits for is kept even if the position says that it came another way: a position that
        // arrives late, from before the sink was restored, looks no different.
        let waits_for = self.cursor.map_or(at, |cursor| cursor.min(at));
        if planted(Trap::RelayKeepsQueue) && at < held.base {
            return;
        }
        if at < held.base || held.tail < waits_for {
            self.restart(at);
        } else {
            self.trim();
        }
    }

    fn trim(&mut self) {
        let (Some(held), Some(applied)) = (&mut self.held, self.applied) else {
            return;
        };
        let below = applied.min(held.durable).min(self.cursor.unwrap_or(applied));
        if held.base < below {
            held.base = below;
            self.actions.push(Action::Trim(below));
        }
    }

    /// The next hop asks to be sent to from `at`.
    pub fn want(&mut self, at: Sequence) {
        self.cursor = Some(at);
        // What is asked for is less than is held, or more: go on there, and nowhere else. Frames under way from
        // another place must not be taken for the beginning.
        match self.held {
            Some(held) if held.base <= at && at <= held.tail => {}
            Some(_) if planted(Trap::RelayKeepsQueue) => {}
            _ => self.restart(at),
        }
    }

    /// The session with the next hop ended.
    pub fn unlinked(&mut self) {
        self.cursor = None;
    }

    /// Where the next hop must be sent to from, if there is anything on disk to send there.
    #[must_use]
    pub fn next_to_send(&self) -> Option<Sequence> {
        let (held, cursor) = (self.held?, self.cursor?);
        (held.base <= cursor && cursor < held.durable).then_some(cursor)
    }

    /// A frame of `interval` was sent to the next hop. Counts only if that is what was due: a wish may have moved the
    /// place since the frame was read.
    pub fn sent(&mut self, interval: Interval) {
        if let Some(cursor) = &mut self.cursor
            && interval.from <= *cursor
            && *cursor < interval.to
        {
            *cursor = interval.to;
        }
        self.trim();
    }

    /// What is held.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// The highest position of the sink that came by.
    #[must_use]
    pub fn applied(&self) -> Option<Sequence> {
        self.applied
    }

    fn restart(&mut self, at: Sequence) {
        self.held = Some(Held {
            base: at,
            durable: at,
            tail: at,
        });
        self.actions.push(Action::Restart(at));
        self.actions.push(Action::Want(at));
        self.send_from_base();
    }

    /// What lies below the base is not sent any more: whoever waits for it is told by the gap that follows.
    fn send_from_base(&mut self) {
        if let (Some(held), Some(cursor)) = (self.held, &mut self.cursor) {
            *cursor = held.base.max(*cursor);
        }
    }
}
