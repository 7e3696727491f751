//! Being reached: what an unknown sender of datagrams may cost, and the way from a datagram to a session.

use super::endpoint::server_config;
use super::local::Local;
use super::room::News;
use super::session::establish;
use super::{Link, Reason};
use crate::identity::Side;
use quinn::Incoming;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// Handshakes under way at once. More are refused: peers try again, and there are never thousands of peers.
const HANDSHAKES_MAX: usize = 64;

/// From so many on, a sender has to prove its address first (Retry, RFC 9000 section 8.1.2), which a forged one
/// cannot. Below it, a lost link comes back without that round trip.
const RETRY_ABOVE: usize = 16;

/// How long one handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Decides about connection attempts.
pub(super) struct Door {
    handshakes: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new() -> Door {
        Door {
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        }
    }

    /// Lets an attempt in, sends it back to prove its address, or turns it away.
    pub(super) fn admit(&self, incoming: Incoming) -> Option<(Incoming, OwnedSemaphorePermit)> {
        let under_way = HANDSHAKES_MAX - self.handshakes.available_permits();
        if under_way >= RETRY_ABOVE && incoming.may_retry() {
            let _ = incoming.retry(); // fails only where `may_retry` says no
            return None;
        }
        match Arc::clone(&self.handshakes).try_acquire_owned() {
            Ok(permit) => Some((incoming, permit)),
            Err(_) => {
                incoming.refuse();
                None
            }
        }
    }
}

/// Makes a session of an attempt that was let in, and tells the room how it went.
pub(super) async fn receive(
    local: Arc<Local>,
    incoming: Incoming,
    permit: OwnedSemaphorePermit,
    news: mpsc::Sender<News>,
) {
    let address = incoming.remote_address();
    let outcome = match timeout(HANDSHAKE_MAX, session(&local, incoming)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Reason::Silent),
    };
    drop(permit);
    let told = match outcome {
        Ok(link) => News::Established { link, decided: None },
        Err(reason) => News::TurnedAway { address, reason },
    };
    let _ = news.send(told).await; // the room is stopping
}

async fn session(local: &Local, incoming: Incoming) -> Result<Link, Reason> {
    let peers = Arc::clone(&local.config().peers.names);
    let (tls, verdict) = local.config().identity.accepting(Arc::clone(&peers));
    let config = server_config(tls, &local.transport);
    let refused = |error: &quinn::ConnectionError| {
        verdict
            .refusal()
            .map_or_else(|| Reason::of(error), Reason::Certificate)
    };
    let connecting = incoming
        .accept_with(Arc::new(config))
        .map_err(|error| refused(&error))?;
    let connection = connecting.await.map_err(|error| refused(&error))?;
    establish(connection, Side::Client, local, &peers).await
}
