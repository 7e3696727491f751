//! A lane: the frames of one (route, stream), on a QUIC stream of its own, so that a slow one stops no other.

use super::pieces::Pieces;
use super::{Fault, Reason};
use bytes::Bytes;
use culvert_proto::limits::FRAME_BYTES_MAX;
use culvert_proto::message::{LaneHeader, Priority};
use culvert_proto::wire::Malformed;
use quinn::{SendStream, VarInt, WriteError};

/// Sends the frames of one lane, in order.
///
/// Dropped without [`LaneSender::finish`], it tells the reader that the lane was cut; frames that were not read
/// there yet are dropped.
pub struct LaneSender {
    stream: SendStream,
    finished: bool,
}

impl LaneSender {
    /// Begins the lane on a QUIC stream that was just opened.
    pub(super) async fn begin(stream: SendStream, header: &LaneHeader) -> Result<LaneSender, Fault> {
        let mut bytes = Vec::new();
        header.encode(&mut bytes).map_err(Fault::Unspeakable)?;
        let mut lane = LaneSender {
            stream,
            finished: false,
        };
        lane.stream.write_all(&bytes).await.map_err(fault)?;
        Ok(lane)
    }

    /// Hands one whole frame to QUIC, without copying it. Returns when the flow control of lane and link has taken
    /// all of it, not when it has arrived.
    ///
    /// Not cancel safe: when the future is dropped half-way, so must be the lane.
    ///
    /// # Errors
    /// [`Fault::LaneStopped`] when the other end gave the lane up; [`Fault::Closed`].
    pub async fn send(&mut self, frame: Bytes) -> Result<(), Fault> {
        self.stream.write_chunk(frame).await.map_err(fault)
    }

    /// From the next packet on, this lane's frames go before those of lanes that are less urgent, and behind control messages.
    /// Strictly: while a more urgent lane has something to send, nothing of this one is sent.
    pub fn set_priority(&self, priority: Priority) {
        let number = match priority {
            Priority::Low => -1,
            Priority::Normal => 0,
            Priority::High => 1,
        };
        let _ = self.stream.set_priority(number); // stopped or closed: nothing is sent
    }

    /// Ends the lane in good order behind the last frame.
    pub fn finish(mut self) {
        self.finished = true;
        let _ = self.stream.finish(); // stopped or closed already: nothing to end
    }
}

impl Drop for LaneSender {
    fn drop(&mut self) {
        if !self.finished {
            // Without this, QUIC would end the stream in good order, even inside a frame.
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}

fn fault(error: WriteError) -> Fault {
    match error {
        WriteError::ConnectionLost(error) => Fault::Closed(Reason::of(&error)),
        _ => Fault::LaneStopped,
    }
}

/// Receives the frames of one lane, in order. Dropped, it tells the sender to stop.
pub struct LaneReceiver {
    pieces: Pieces,
}

impl LaneReceiver {
    pub(super) fn new(pieces: Pieces) -> LaneReceiver {
        LaneReceiver { pieces }
    }

    /// The next whole frame, its length included, or `None` where the sender finished. Its bytes are not looked
    /// into. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::FrameSize`] and [`Fault::LaneCut`] end this lane alone; [`Fault::Closed`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Fault> {
        match self.pieces.next(announced).await {
            Ok(frame) => Ok(frame),
            Err(stop) => {
                self.pieces.stop();
                Err(stop.fault())
            }
        }
    }
}

/// How many bytes of a frame follow the four of its length.
fn announced(head: [u8; 4]) -> Result<usize, Malformed> {
    let size = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    let max = FRAME_BYTES_MAX - 4;
    if size > max {
        Err(Malformed::TooLarge {
            what: "frame",
            size,
            max,
        })
    } else {
        Ok(size)
    }
}
