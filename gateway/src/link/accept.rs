//! Being reached: what an unknown sender of datagrams may cost, and the way from a datagram to a session.

use super::endpoint::server_config;
use super::local::Local;
use super::room::News;
use super::session::{Path, establish};
use super::{Link, Reason, carried};
use crate::identity::{Name, Side, Verdict};
use quinn::{Incoming, ServerConfig, TransportConfig};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
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
        match self.room() {
            Some(permit) => Some((incoming, permit)),
            None => {
                incoming.refuse();
                None
            }
        }
    }

    /// Room for one more handshake.
    pub(super) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.handshakes).try_acquire_owned().ok()
    }
}

/// Who calls, and how.
#[expect(clippy::large_enum_variant)] // one for each handshake, moved once
pub(super) enum Caller {
    Udp(Incoming),
    Tcp(TcpStream, SocketAddr),
}

/// Makes a session of an attempt that was let in, and tells the room how it went.
pub(super) async fn receive(
    local: Arc<Local>,
    caller: Caller,
    permit: OwnedSemaphorePermit,
    news: mpsc::Sender<News>,
) {
    let address = match &caller {
        Caller::Udp(incoming) => incoming.remote_address(),
        Caller::Tcp(_, address) => *address,
    };
    let session = async {
        match caller {
            Caller::Udp(incoming) => over_udp(&local, incoming).await,
            Caller::Tcp(tcp, address) => over_tcp(&local, tcp, address).await,
        }
    };
    let outcome = match timeout(HANDSHAKE_MAX, session).await {
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

async fn over_udp(local: &Local, incoming: Incoming) -> Result<Link, Reason> {
    let accepting = Accepting::of(local, &local.transport);
    let refused = |error: &quinn::ConnectionError| accepting.refused(error);
    let connecting = incoming
        .accept_with(Arc::new(accepting.config.clone()))
        .map_err(|error| refused(&error))?;
    let connection = connecting.await.map_err(|error| refused(&error))?;
    establish(connection, Side::Client, Path::Udp, local, &accepting.peers).await
}

async fn over_tcp(local: &Local, tcp: TcpStream, from: SocketAddr) -> Result<Link, Reason> {
    let accepting = Accepting::of(local, &local.carried);
    let carriage = carried::receive(local, tcp, from, accepting.config.clone()).await?;
    let refused = |error: &quinn::ConnectionError| accepting.refused(error);
    let connecting = carriage
        .attempt()
        .await?
        .accept()
        .map_err(|error| refused(&error))?;
    let connection = carriage.connection(connecting, refused).await?;
    establish(connection, Side::Client, carriage.path(), local, &accepting.peers).await
}

/// What an attempt is judged by: the configuration as it is when it comes.
struct Accepting {
    peers: Arc<BTreeSet<Name>>,
    config: ServerConfig,
    verdict: Verdict,
}

impl Accepting {
    fn of(local: &Local, transport: &Arc<TransportConfig>) -> Accepting {
        let config = local.config();
        let peers = Arc::clone(&config.peers.names);
        let (tls, verdict) = config.identity.accepting(Arc::clone(&peers));
        Accepting {
            peers,
            config: server_config(tls, transport),
            verdict,
        }
    }

    fn refused(&self, error: &quinn::ConnectionError) -> Reason {
        Reason::judged(&self.verdict, || Reason::of(error))
    }
}
