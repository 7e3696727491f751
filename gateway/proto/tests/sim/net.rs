//! Links: sessions in which order holds, and what is left of them when they are cut.

use super::outbox::Frame;
use culvert_proto::{Guard, Interval, Position, Sequence};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A gateway of the origin's site.
    A(usize),
    /// A relay.
    B(usize),
    /// A gateway of the sink's site.
    C(usize),
}

/// What gateways say to each other about one route. Streams are named by their index in the world.
#[derive(Clone, Debug)]
pub enum Message {
    /// The route is there, or there anew: everything asked before may be lost. Travels to the origin.
    Register,
    Offer {
        stream: usize,
        held: Interval,
        applied: Option<Sequence>,
    },
    Want {
        stream: usize,
        at: Sequence,
    },
    PositionIs {
        stream: usize,
        writer: u128,
        position: Position,
    },
    Ask {
        nonce: u128,
        streams: Vec<usize>,
    },
    Answer {
        nonce: u128,
        writer: u128,
        positions: Vec<(usize, Option<Position>)>,
        /// For the oracle: how often the sink had been restored when this was read.
        restores: u32,
    },
    Begin {
        nonce: u128,
        stream: usize,
        start: Sequence,
        guard: Guard,
    },
    Frame {
        stream: usize,
        frame: Rc<Frame>,
    },
}

impl Message {
    /// Whether it may be heard after its session ended. What speaks about the session itself may not: a gateway
    /// knows on which connection it came.
    pub fn may_come_late(&self) -> bool {
        !matches!(
            self,
            Message::Register | Message::Offer { .. } | Message::Want { .. }
        )
    }
}

/// One session of one route between two neighbours. `upper` is nearer to the origin.
pub struct Session {
    pub route: usize,
    pub upper: Node,
    pub lower: Node,
    pub to_lower: VecDeque<Message>,
    pub to_upper: VecDeque<Message>,
    /// Frames, in order within a stream and in no order to anything else.
    pub lanes: BTreeMap<usize, VecDeque<Rc<Frame>>>,
    pub cut: bool,
    pub upper_knows: bool,
    pub lower_knows: bool,
}

/// A message of a session that has ended.
#[derive(Clone)]
pub struct Late {
    pub to: Node,
    pub route: usize,
    pub message: Message,
}
