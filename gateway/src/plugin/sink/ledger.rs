//! Positions of a sink plugin that keeps none: settings of this gateway's outbox.
//!
//! ```text
//! sink/<u16 length, route><stream> → position
//! ```
//!
//! They are written after the put that they tell of: after a crash between the two, the put is made again.

use crate::flow::SinkFault;
use crate::outbox::{self, Outbox};
use culvert_proto::field::Field;
use culvert_proto::stream::RouteId;
use culvert_proto::wire::Malformed;
use culvert_proto::{Position, StreamId};

/// What keys of positions begin with.
const KEYS: &[u8] = b"sink/";

/// The positions of one route.
pub(super) struct Ledger {
    outbox: Outbox,
    route: RouteId,
}

impl Ledger {
    pub(super) fn new(outbox: &Outbox, route: &RouteId) -> Ledger {
        Ledger {
            outbox: outbox.clone(),
            route: route.clone(),
        }
    }

    pub(super) fn positions(&self) -> Result<Vec<(StreamId, Position)>, SinkFault> {
        let prefix = self.prefix().map_err(|error| damaged(&error))?;
        let read = |key: &[u8], mut value: &[u8]| {
            let stream = StreamId::decode(&key[prefix.len()..])?;
            Ok((stream, Position::take(&mut value, "position")?))
        };
        self.outbox
            .scan(&prefix)
            .iter()
            .map(|(key, value)| read(key, value).map_err(|error: Malformed| damaged(&error)))
            .collect()
    }

    /// Durable when it returns.
    pub(super) fn keep(&self, positions: &[(StreamId, Position)]) -> Result<(), SinkFault> {
        for (stream, position) in positions {
            let (key, value) = self.spell(stream, position).map_err(|error| damaged(&error))?;
            self.outbox.put(&key, &value).map_err(unkept)?;
        }
        self.outbox.sync().map_err(unkept)
    }

    fn spell(&self, stream: &StreamId, position: &Position) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
        let (mut key, mut value) = (self.prefix()?, Vec::new());
        stream.put(&mut key, "stream")?;
        position.put(&mut value, "position")?;
        Ok((key, value))
    }

    fn prefix(&self) -> Result<Vec<u8>, Malformed> {
        let mut prefix = KEYS.to_vec();
        self.route.put(&mut prefix, "route")?;
        Ok(prefix)
    }
}

fn damaged(error: &Malformed) -> SinkFault {
    SinkFault::Stop {
        code: "CULVERT-W046",
        reason: format!("a position in the outbox cannot be read or noted: {error}"),
    }
}

/// Nothing is guessed: the next writer reads what became durable.
#[allow(clippy::needless_pass_by_value, reason = "given to map_err")]
fn unkept(error: outbox::Error) -> SinkFault {
    SinkFault::Uncertain(format!("note a position: {error}"))
}
