//! One live authenticated session with a peer: the hello that makes it, its control messages and its lanes.

use super::carried::Ended;
use super::lane::{LaneReceiver, LaneSender};
use super::local::Local;
use super::pieces::{Pieces, Stop, budget};
use super::{Fault, Peer, Reason};
use crate::identity::{Name, Side};
use bytes::{Buf, Bytes};
use culvert_proto::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use culvert_proto::message::{self, LaneHeader, Message};
use quinn::{Connection, SendStream, WriteError};
use rustls_pki_types::CertificateDer;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};

/// How long the two hellos may take: a few round trips of the slowest path we know (geostationary, 0.6 s).
const HELLO_WAIT: Duration = Duration::from_secs(5);

/// How long a lane may take to say whose it is. The header travels with the lane's first packet, so only loss
/// delays it.
const LANE_HEADER_WAIT: Duration = Duration::from_secs(10);

/// Control messages go out before frames, however urgent these are: credit and positions must not wait behind data.
const CONTROL_PRIORITY: i32 = 2;

/// One live authenticated session with a peer. Cheap to clone; all clones are the same session.
///
/// It does not come back: after it has ended, the room makes another and announces it as an
/// [`super::Event::Up`].
#[derive(Clone)]
pub struct Link(Arc<Session>);

struct Session {
    connection: Connection,
    peer: Peer,
    /// Whether we dialled.
    side: Side,
    path: Path,
    chain: Vec<CertificateDer<'static>>,
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Pieces>,
    /// A lane whose header has not arrived in full.
    opening: Mutex<Option<Pieces>>,
    /// What unfinished frames may hold in memory, all lanes together.
    lane_budget: Arc<Semaphore>,
    /// The same for messages and lane headers, of their own: frames must not hold them up.
    control_budget: Arc<Semaphore>,
    /// Why this side closed it.
    closed_for: OnceLock<Reason>,
}

/// What carries the datagrams of a session.
pub(super) enum Path {
    Udp,
    /// And why it has ended, once it has.
    Tcp(Ended),
}

/// Traffic of a link since it came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Round-trip time, smoothed.
    pub rtt: Duration,
    /// Bytes in datagrams sent.
    pub sent_bytes: u64,
    /// Bytes in datagrams received.
    pub received_bytes: u64,
    /// Packets that had to be sent again.
    pub lost_packets: u64,
}

impl Link {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Sends a control message. Messages arrive in the order in which they were sent.
    ///
    /// Cancel safe for the link: a message whose future is dropped may or may not be sent, and the ones after it
    /// arrive whole.
    ///
    /// # Errors
    /// [`Fault::Closed`]; [`Fault::Unspeakable`] when the message is above a limit.
    pub async fn send(&self, message: &Message) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).map_err(Fault::Unspeakable)?;
        let mut outgoing = self.0.outgoing.lock().await;
        outgoing.flush().await.map_err(|error| self.lost(error))?;
        outgoing.pending = bytes.into();
        outgoing.flush().await.map_err(|error| self.lost(error))
    }

    /// The next control message. One reader at a time; cancel safe. Messages that this version does not know and
    /// may skip are skipped.
    ///
    /// # Errors
    /// [`Fault::Closed`]. Bytes that are no message close the link.
    pub async fn recv(&self) -> Result<Message, Fault> {
        let mut incoming = self.0.incoming.lock().await;
        loop {
            let piece = match incoming.next(message::announced).await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Err(self.broken(Reason::protocol("the control stream was ended"))),
                Err(stop) => return Err(self.broken(stop.reason("the control stream"))),
            };
            match Message::decode(&piece) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(malformed) => return Err(self.broken(Reason::protocol(malformed.to_string()))),
            }
        }
    }

    /// Opens the lane that `header` names. Waits while the peer allows no more lanes at once.
    ///
    /// # Errors
    /// [`Fault::Closed`]; [`Fault::Unspeakable`] when a name is above its limit.
    pub async fn open_lane(&self, header: &LaneHeader) -> Result<LaneSender, Fault> {
        let stream = self
            .0
            .connection
            .open_uni()
            .await
            .map_err(|error| self.ended(&error))?;
        LaneSender::begin(stream, header).await
    }

    /// The next lane that the peer opens. One caller at a time; cancel safe.
    ///
    /// # Errors
    /// [`Fault::Closed`]. A lane that does not say whose it is closes the link.
    pub async fn accept_lane(&self) -> Result<(LaneHeader, LaneReceiver), Fault> {
        let mut opening = self.0.opening.lock().await;
        loop {
            let pieces = match &mut *opening {
                Some(pieces) => pieces,
                none => {
                    let stream = self
                        .0
                        .connection
                        .accept_uni()
                        .await
                        .map_err(|error| self.ended(&error))?;
                    none.insert(Pieces::new(stream, Arc::clone(&self.0.control_budget)))
                }
            };
            let header = tokio::time::timeout(LANE_HEADER_WAIT, pieces.next(LaneHeader::announced)).await;
            let lane = opening.take();
            match (header, lane) {
                (Ok(Ok(Some(bytes))), Some(pieces)) => {
                    let header = LaneHeader::decode(&bytes)
                        .map_err(|malformed| self.broken(Reason::protocol(malformed.to_string())))?;
                    return Ok((header, LaneReceiver::new(pieces.charged_to(&self.0.lane_budget))));
                }
                // Given up by its sender before it said anything, or too slow: dropping it tells the sender.
                (Ok(Ok(_) | Err(Stop::Cut)) | Err(_), _) => {}
                (Ok(Err(stop)), _) => return Err(self.broken(stop.reason("a lane"))),
            }
        }
    }

    /// Ends the session in good order. `reason` is shown at the other end.
    pub fn close(&self, reason: &str) {
        self.close_for(Reason::Closed {
            reason: reason.to_owned(),
        });
    }

    /// Waits until the session has ended, and answers why.
    pub async fn closed(&self) -> Reason {
        let error = self.0.connection.closed().await;
        self.reason_of(&error)
    }

    /// Traffic and round-trip time.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let stats = self.0.connection.stats();
        Stats {
            rtt: stats.path.rtt,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }

    pub(super) fn close_for(&self, reason: Reason) {
        let reason = self.0.closed_for.get_or_init(|| reason);
        self.0
            .connection
            .close(reason.close_code(), reason.to_string().as_bytes());
    }

    /// Grows whenever something authentic arrives: acknowledgements, pings, data.
    pub(super) fn heard(&self) -> u64 {
        let frames = self.0.connection.stats().frame_rx;
        frames.acks + frames.ping + frames.stream
    }

    /// Distinguishes sessions of one endpoint.
    pub(super) fn id(&self) -> usize {
        self.0.connection.stable_id()
    }

    /// Whether we dialled ([`Side::Server`]: the peer is the server) or the peer did.
    pub(super) fn side(&self) -> Side {
        self.0.side
    }

    /// Waits until the TCP connection under it has ended; where there is none, not at all.
    pub(super) async fn path_ended(&self) {
        if let Path::Tcp(ended) = &self.0.path {
            let _ = ended.clone().wait_for(Option::is_some).await;
        }
    }

    /// Whether it goes over TCP, because UDP did not pass when it was made.
    #[must_use]
    pub fn is_carried(&self) -> bool {
        matches!(self.0.path, Path::Tcp(_))
    }

    /// What the peer showed in the handshake.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }

    /// Sends bytes where messages belong.
    #[cfg(test)]
    pub(super) async fn send_raw(&self, bytes: &[u8]) {
        let mut outgoing = self.0.outgoing.lock().await;
        outgoing.pending = bytes.to_vec().into();
        let _ = outgoing.flush().await;
    }

    fn reason_of(&self, error: &quinn::ConnectionError) -> Reason {
        let ours = self.0.closed_for.get().cloned();
        let of_path = || match (&self.0.path, error) {
            (Path::Tcp(ended), quinn::ConnectionError::LocallyClosed) => ended.borrow().clone(),
            _ => None,
        };
        ours.or_else(of_path).unwrap_or_else(|| Reason::of(error))
    }

    fn ended(&self, error: &quinn::ConnectionError) -> Fault {
        Fault::Closed(self.reason_of(error))
    }

    fn lost(&self, error: WriteError) -> Fault {
        match error {
            WriteError::ConnectionLost(error) => self.ended(&error),
            other => self.broken(Reason::protocol(format!(
                "the control stream was given up: {other}"
            ))),
        }
    }

    /// Closes the link for `reason`, unless it has ended already, and answers the fault.
    fn broken(&self, reason: Reason) -> Fault {
        match self.0.connection.close_reason() {
            Some(error) => self.ended(&error),
            None => {
                self.close_for(reason.clone());
                Fault::Closed(reason)
            }
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Link({} at {}, {:?})",
            self.0.peer.gateway, self.0.peer.address, self.0.side
        )
    }
}

/// The sending half of the control stream.
struct Outgoing {
    stream: SendStream,
    /// What of the last message QUIC has not taken yet; not empty only after a cancelled send.
    pending: Bytes,
}

impl Outgoing {
    async fn flush(&mut self) -> Result<(), WriteError> {
        while !self.pending.is_empty() {
            let taken = self.stream.write(&self.pending).await?;
            self.pending.advance(taken);
        }
        Ok(())
    }
}

/// Makes a session of a connection whose certificates were accepted on both sides.
///
/// ```text
/// dialler                         dialled
///   hello ─────────────────────────▶  checks it
///   checks it  ◀───────────────────── hello
///   hello, again ──────────────────▶  up: now both have agreed
///   up
/// ```
///
/// The repeated hello means "agreed": without it the dialled side would announce a link that the dialler is about
/// to refuse.
pub(super) async fn establish(
    connection: Connection,
    side: Side,
    path: Path,
    local: &Local,
    expected: &BTreeSet<Name>,
) -> Result<Link, Reason> {
    let outcome = tokio::time::timeout(HELLO_WAIT, greet(&connection, side, path, local, expected)).await;
    let reason = match outcome {
        Ok(Ok(link)) => return Ok(link),
        Ok(Err(reason)) => reason,
        Err(_) => Reason::protocol("no hello came"),
    };
    connection.close(reason.close_code(), reason.to_string().as_bytes());
    Err(reason)
}

async fn greet(
    connection: &Connection,
    side: Side,
    path: Path,
    local: &Local,
    expected: &BTreeSet<Name>,
) -> Result<Link, Reason> {
    let lost = |error: quinn::ConnectionError| Reason::of(&error);
    let (send, recv) = match side {
        Side::Server => connection.open_bi().await.map_err(lost)?,
        Side::Client => connection.accept_bi().await.map_err(lost)?,
    };
    let _ = send.set_priority(CONTROL_PRIORITY);
    let mut outgoing = Outgoing {
        stream: send,
        pending: Bytes::new(),
    };
    let control_budget = budget(4 * MESSAGE_BYTES_MAX);
    let mut incoming = Pieces::new(recv, Arc::clone(&control_budget));

    let chain = chain(connection);
    let config = local.config();
    let gateway = config.identity.check(&chain, side, expected)?;
    let site = config.peers.site_of(&gateway);
    let hello = match side {
        Side::Server => {
            say_hello(&mut outgoing, local).await?;
            let hello = hear_hello(&mut incoming, &local.versions, &gateway, site).await?;
            say_hello(&mut outgoing, local).await?;
            hello
        }
        Side::Client => {
            let hello = hear_hello(&mut incoming, &local.versions, &gateway, site.clone()).await?;
            say_hello(&mut outgoing, local).await?;
            if hear_hello(&mut incoming, &local.versions, &gateway, site).await? != hello {
                return Err(Reason::protocol("the second hello differs from the first"));
            }
            hello
        }
    };
    let peer = Peer {
        gateway,
        site: hello.site,
        instance: hello.instance,
        build: hello.build,
        version: hello.version,
        address: connection.remote_address(),
    };
    Ok(Link(Arc::new(Session {
        connection: connection.clone(),
        peer,
        side,
        path,
        chain,
        outgoing: Mutex::new(outgoing),
        incoming: Mutex::new(incoming),
        opening: Mutex::new(None),
        // One frame of the largest size must always fit, or it could never be read.
        lane_budget: budget(local.per_peer_bytes_max.max(2 * FRAME_BYTES_MAX)),
        control_budget,
        closed_for: OnceLock::new(),
    })))
}

/// What a peer's hello says, checked.
#[derive(PartialEq, Eq)]
struct Greeting {
    site: Arc<str>,
    instance: [u8; 16],
    build: Arc<str>,
    /// The newest version that both speak.
    version: u16,
}

async fn say_hello(outgoing: &mut Outgoing, local: &Local) -> Result<(), Reason> {
    let mut bytes = Vec::new();
    local
        .hello()
        .encode(&mut bytes)
        .map_err(|malformed| Reason::protocol(malformed.to_string()))?;
    outgoing.pending = bytes.into();
    outgoing.flush().await.map_err(|error| match error {
        WriteError::ConnectionLost(error) => Reason::of(&error),
        other => Reason::protocol(other.to_string()),
    })
}

async fn hear_hello(
    incoming: &mut Pieces,
    ours: &RangeInclusive<u16>,
    gateway: &Name,
    site: Option<Arc<str>>,
) -> Result<Greeting, Reason> {
    let piece = match incoming.next(message::announced).await {
        Ok(Some(piece)) => piece,
        Ok(None) => return Err(Reason::protocol("the control stream ended before a hello")),
        Err(stop) => return Err(stop.reason("the hello")),
    };
    match Message::decode(&piece).map_err(|malformed| Reason::protocol(malformed.to_string()))? {
        Some(hello @ Message::Hello { .. }) => check_hello(hello, ours, gateway, site),
        _ => Err(Reason::protocol("the first message is no hello")),
    }
}

fn check_hello(
    hello: Message,
    ours: &RangeInclusive<u16>,
    gateway: &Name,
    expected: Option<Arc<str>>,
) -> Result<Greeting, Reason> {
    let Message::Hello {
        version_min,
        version_max,
        gateway: name,
        site,
        instance,
        build,
    } = hello
    else {
        return Err(Reason::protocol("the first message is no hello"));
    };
    let version = version_max.min(*ours.end());
    if version_min > version_max || version < version_min.max(*ours.start()) {
        return Err(Reason::Version {
            gateway: gateway.clone(),
            ours: ours.clone(),
            theirs: version_min..=version_max,
        });
    }
    if *name != *gateway.as_str() {
        return Err(Reason::Name {
            gateway: gateway.clone(),
            found: name.to_string(),
        });
    }
    match expected {
        Some(expected) if *expected == *site => Ok(Greeting {
            site,
            instance,
            build,
            version,
        }),
        expected => Err(Reason::Site {
            gateway: gateway.clone(),
            expected: expected.as_deref().unwrap_or_default().to_owned(),
            found: site.to_string(),
        }),
    }
}

fn chain(connection: &Connection) -> Vec<CertificateDer<'static>> {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map_or_else(Vec::new, |chain| *chain)
}
