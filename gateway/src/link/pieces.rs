//! Pieces that stand behind their own length on a QUIC stream: messages, lane headers, frames.

use super::{Fault, Reason};
use bytes::{BufMut, Bytes, BytesMut};
use culvert_proto::wire::Malformed;
use quinn::{ReadError, RecvStream, VarInt};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for a piece is taken in steps of at most this much as its bytes arrive, so that a length alone costs
/// nothing. Above the usual frame, so that those are read into one allocation.
const STEP_BYTES: usize = 1024 * 1024;

/// What one permit of a budget stands for: a [`Semaphore`] hands out at most `u32::MAX` at once.
const PERMIT_BYTES: usize = 1024;

/// A budget of `bytes` for the unfinished pieces of one session.
pub(super) fn budget(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes.div_ceil(PERMIT_BYTES)))
}

/// Reads whole pieces, each with its length in front.
///
/// Cancel safe: what has arrived of a piece stays here until [`Pieces::next`] is asked again.
pub(super) struct Pieces {
    stream: RecvStream,
    head: [u8; 4],
    head_len: usize,
    piece: Option<Piece>,
    /// Bounds what all unfinished pieces of one session hold together.
    budget: Arc<Semaphore>,
}

struct Piece {
    bytes: BytesMut,
    total: usize,
    _permit: OwnedSemaphorePermit,
}

/// What stopped the reading of pieces.
#[derive(Debug)]
pub(super) enum Stop {
    /// The session is gone.
    Closed(quinn::ConnectionError),
    /// The sender reset the QUIC stream, or ended it inside a piece.
    Cut,
    /// The length in front is not acceptable.
    Length(Malformed),
}

impl Stop {
    /// As a fault of a stream without which the session has no use.
    pub(super) fn reason(&self, what: &str) -> Reason {
        match self {
            Stop::Closed(error) => Reason::of(error),
            Stop::Cut => Reason::protocol(format!("{what} was cut off")),
            Stop::Length(malformed) => Reason::protocol(malformed.to_string()),
        }
    }

    /// As a fault of one lane.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Stop::Closed(error) => Fault::Closed(Reason::of(error)),
            Stop::Length(Malformed::TooLarge { size, max, .. }) => Fault::FrameSize {
                size: *size,
                max: *max,
            },
            Stop::Cut | Stop::Length(_) => Fault::LaneCut,
        }
    }
}

impl Pieces {
    pub(super) fn new(stream: RecvStream, budget: Arc<Semaphore>) -> Pieces {
        Pieces {
            stream,
            head: [0; 4],
            head_len: 0,
            piece: None,
            budget,
        }
    }

    /// The same stream; the pieces to come are charged to `budget`.
    pub(super) fn charged_to(self, budget: &Arc<Semaphore>) -> Pieces {
        Pieces {
            budget: Arc::clone(budget),
            ..self
        }
    }

    /// The next piece, its length included, or `None` where the sender finished. `announced` judges the length
    /// before anything is allocated for it.
    pub(super) async fn next(
        &mut self,
        announced: fn([u8; 4]) -> Result<usize, Malformed>,
    ) -> Result<Option<Bytes>, Stop> {
        if self.piece.is_none() {
            if !self.read_head().await? {
                return Ok(None);
            }
            let total = 4 + announced(self.head).map_err(Stop::Length)?;
            self.piece = Some(self.begin(total).await?);
        }
        while let Some(piece) = &mut self.piece {
            let missing = piece.total - piece.bytes.len();
            if missing == 0 {
                break;
            }
            piece.bytes.reserve(missing.min(STEP_BYTES));
            read_some(&mut self.stream, &mut (&mut piece.bytes).limit(missing)).await?;
        }
        self.head_len = 0;
        Ok(self.piece.take().map(|piece| piece.bytes.freeze()))
    }

    /// Tells the sender that nothing more is wanted.
    pub(super) fn stop(&mut self) {
        let _ = self.stream.stop(VarInt::from_u32(0)); // already ended: nothing to tell
    }

    async fn read_head(&mut self) -> Result<bool, Stop> {
        while self.head_len < 4 {
            match self.stream.read(&mut self.head[self.head_len..]).await {
                Ok(Some(count)) => self.head_len += count,
                Ok(None) if self.head_len == 0 => return Ok(false),
                Ok(None) => return Err(Stop::Cut),
                Err(error) => return Err(stop(error)),
            }
        }
        Ok(true)
    }

    async fn begin(&self, total: usize) -> Result<Piece, Stop> {
        let permits = u32::try_from(total.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| Stop::Cut)?;
        let mut bytes = BytesMut::with_capacity(total.min(STEP_BYTES));
        bytes.put_slice(&self.head);
        Ok(Piece {
            bytes,
            total,
            _permit: permit,
        })
    }
}

async fn read_some(stream: &mut RecvStream, into: &mut impl BufMut) -> Result<(), Stop> {
    match stream.read_buf(into).await {
        Ok(0) => Err(Stop::Cut),
        Ok(_) => Ok(()),
        Err(error) => Err(error.downcast::<ReadError>().map_or(Stop::Cut, stop)),
    }
}

fn stop(error: ReadError) -> Stop {
    match error {
        ReadError::ConnectionLost(error) => Stop::Closed(error),
        _ => Stop::Cut,
    }
}
