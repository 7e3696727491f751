//! A TCP proxy on loopback that misbehaves on command, and understands enough of Kafka to hold one single request.

use anyhow::Context;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Numbers of Kafka's requests (`api_key` of the protocol) that tests hold or count.
pub mod api {
    /// Produce.
    pub const PRODUCE: i16 = 0;
    /// Fetch.
    pub const FETCH: i16 = 1;
    /// Metadata.
    pub const METADATA: i16 = 3;
    /// OffsetCommit.
    pub const OFFSET_COMMIT: i16 = 8;
    /// FindCoordinator.
    pub const FIND_COORDINATOR: i16 = 10;
    /// JoinGroup.
    pub const JOIN_GROUP: i16 = 11;
    /// ApiVersions.
    pub const API_VERSIONS: i16 = 18;
    /// InitProducerId.
    pub const INIT_PRODUCER_ID: i16 = 22;
    /// AddPartitionsToTxn.
    pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
    /// EndTxn.
    pub const END_TXN: i16 = 26;
}

/// A proxy in front of one server. Dropping it closes everything.
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// Which piece of a Kafka conversation to hold: the request on its way in, or the answer on its way back (the broker
/// has acted and the client does not know).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A request with this api key.
    Request(i16),
    /// The answer to a request with this api key.
    Answer(i16),
}

/// What has gone through so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Connections accepted.
    pub connections: u64,
    /// Bytes from clients to the server.
    pub bytes_in: u64,
    /// Bytes from the server to clients.
    pub bytes_out: u64,
}

impl TcpProxy {
    /// A proxy for any protocol: bytes as they come.
    ///
    /// # Errors
    /// When loopback cannot be bound.
    pub fn raw(target: SocketAddr) -> anyhow::Result<TcpProxy> {
        TcpProxy::raw_at((Ipv4Addr::LOCALHOST, 0).into(), target)
    }

    /// As [`TcpProxy::raw`], for clients who find it at `front`.
    ///
    /// # Errors
    /// When that cannot be bound.
    pub fn raw_at(front: SocketAddr, target: SocketAddr) -> anyhow::Result<TcpProxy> {
        TcpProxy::start(front, target, Framing::None)
    }

    /// A proxy for Kafka without TLS: whole requests and answers, at most [`FRAME_BYTES_MAX`] each.
    ///
    /// # Errors
    /// When loopback cannot be bound.
    pub fn kafka(target: SocketAddr) -> anyhow::Result<TcpProxy> {
        TcpProxy::kafka_at(Ipv4Addr::LOCALHOST, target)
    }

    /// As [`TcpProxy::kafka`], for clients who find it at `host`.
    ///
    /// # Errors
    /// When that cannot be bound.
    pub fn kafka_at(host: Ipv4Addr, target: SocketAddr) -> anyhow::Result<TcpProxy> {
        TcpProxy::start((host, 0).into(), target, Framing::Kafka)
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and refuses new ones until [`TcpProxy::heal`].
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.cut = true;
        state.close_all();
        self.shared.changed.notify_all();
    }

    /// Keeps connections open and passes nothing until [`TcpProxy::heal`]: a black hole.
    pub fn stall(&self) {
        self.shared.lock().stalled = true;
    }

    /// Ends a cut, a stall and a delay; holds stay.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        (state.cut, state.stalled, state.delay) = (false, false, Duration::ZERO);
        self.shared.changed.notify_all();
    }

    /// Lets every piece wait this long, one after the other: a slow line rather than a long one.
    pub fn delay(&self, each: Duration) {
        self.shared.lock().delay = each;
    }

    /// Holds the next `piece` that comes by, and only that one. Its connection waits behind it.
    pub fn hold(&self, piece: Piece) -> Hold {
        let mut state = self.shared.lock();
        let id = state.next_hold;
        state.next_hold += 1;
        state.holds.insert(id, (piece, HoldState::Waiting));
        Hold {
            id,
            shared: Arc::clone(&self.shared),
        }
    }

    /// What has gone through.
    pub fn passed(&self) -> Passed {
        Passed {
            connections: self.shared.connections.load(Ordering::Relaxed),
            bytes_in: self.shared.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.shared.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// How many requests with this api key have come by ([`TcpProxy::kafka`] only).
    pub fn requests(&self, api_key: i16) -> u64 {
        self.shared.lock().requests.get(&api_key).copied().unwrap_or(0)
    }

    fn start(front: SocketAddr, target: SocketAddr, framing: Framing) -> anyhow::Result<TcpProxy> {
        let listener = TcpListener::bind(front).context("bind the proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, target, framing, &shared))
        };
        Ok(TcpProxy {
            address,
            shared,
            acceptor: Some(acceptor),
        })
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.ended = true;
            state.close_all();
            self.shared.changed.notify_all();
        }
        // Wakes the acceptor, which then sees the end.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// One piece that is, or will be, held. Dropping it lets the piece go.
pub struct Hold {
    id: u64,
    shared: Arc<Shared>,
}

impl Hold {
    /// Waits until the piece has arrived and is held.
    ///
    /// # Errors
    /// When it has not come by `deadline`.
    pub fn wait_caught(&self, deadline: Duration) -> anyhow::Result<()> {
        crate::wait_for(deadline, "the piece to hold", || {
            matches!(
                self.shared.lock().holds.get(&self.id),
                Some((_, HoldState::Caught))
            )
            .then_some(())
        })
    }

    /// Lets it go on its way.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.lock().holds.remove(&self.id);
        self.shared.changed.notify_all();
    }
}

/// The largest Kafka request or answer that is passed on; Kafka's own default limit for a request.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Kafka,
}

#[derive(PartialEq, Eq)]
enum HoldState {
    Waiting,
    Caught,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    connections: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

#[derive(Default)]
struct State {
    cut: bool,
    stalled: bool,
    ended: bool,
    delay: Duration,
    holds: HashMap<u64, (Piece, HoldState)>,
    next_hold: u64,
    requests: HashMap<i16, u64>,
    open: HashMap<u64, [TcpStream; 2]>,
}

impl State {
    fn close_all(&mut self) {
        for stream in self.open.drain().flat_map(|(_, both)| both) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the piece may go on; false when its connection is closed meanwhile.
    fn may_pass(&self, connection: u64, piece: Option<Piece>) -> bool {
        let mut state = self.lock();
        let caught = piece.and_then(|piece| {
            let hold = state
                .holds
                .iter_mut()
                .find(|(_, (wanted, at))| *wanted == piece && *at == HoldState::Waiting);
            hold.map(|(id, (_, at))| {
                *at = HoldState::Caught;
                *id
            })
        });
        let waits = |state: &State| state.stalled || caught.is_some_and(|id| state.holds.contains_key(&id));
        while state.open.contains_key(&connection) && waits(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let (open, delay) = (state.open.contains_key(&connection), state.delay);
        drop(state);
        if open && !delay.is_zero() {
            thread::sleep(delay);
        }
        open
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, framing: Framing, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        {
            let state = shared.lock();
            if state.ended {
                return;
            }
            if state.cut {
                continue; // dropped, which closes it
            }
        }
        // A server that is down refuses: so does the proxy, by closing.
        if let Ok(server) = TcpStream::connect(target) {
            let _ = join(client, server, framing, shared);
        }
    }
}

/// Starts the two pumps of a connection; they end with it.
fn join(client: TcpStream, server: TcpStream, framing: Framing, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
    let kept = [client.try_clone()?, server.try_clone()?];
    let ends = [(client.try_clone()?, server.try_clone()?), (server, client)];
    {
        let mut state = shared.lock();
        if state.cut || state.ended {
            return Ok(());
        }
        state.open.insert(connection, kept);
    }
    let asked = Arc::new(Mutex::new(HashMap::new()));
    for (inbound, (from, to)) in [true, false].into_iter().zip(ends) {
        let pump = Pump {
            connection,
            inbound,
            framing,
            asked: Arc::clone(&asked),
            shared: Arc::clone(shared),
        };
        thread::spawn(move || pump.run(from, to));
    }
    Ok(())
}

/// One direction of one connection.
struct Pump {
    connection: u64,
    inbound: bool,
    framing: Framing,
    /// Which api key each correlation id was asked with.
    asked: Arc<Mutex<HashMap<i32, i16>>>,
    shared: Arc<Shared>,
}

impl Pump {
    fn run(self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = Vec::new();
        while let Ok(true) = self.read(&mut from, &mut buffer) {
            let piece = (self.framing == Framing::Kafka)
                .then(|| self.piece(&buffer))
                .flatten();
            if !self.shared.may_pass(self.connection, piece) || to.write_all(&buffer).is_err() {
                break;
            }
            let counter = if self.inbound {
                &self.shared.bytes_in
            } else {
                &self.shared.bytes_out
            };
            counter.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        }
        if let Some(both) = self.shared.lock().open.remove(&self.connection) {
            for stream in both {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
    }

    /// The next piece into `buffer`: some bytes, or one whole frame. False at the end.
    fn read(&self, from: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
        if self.framing == Framing::None {
            buffer.resize(64 * 1024, 0);
            let length = from.read(buffer)?;
            buffer.truncate(length);
            return Ok(length > 0);
        }
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let body = u32::from_be_bytes(length) as usize;
        if body > FRAME_BYTES_MAX {
            return Err(io::Error::other("larger than any Kafka request"));
        }
        buffer.clear();
        buffer.extend_from_slice(&length);
        buffer.resize(4 + body, 0);
        from.read_exact(&mut buffer[4..])?;
        Ok(true)
    }

    /// What a frame is: requests begin with api key (i16), version (i16) and correlation id (i32), answers with the
    /// correlation id (Kafka protocol guide, "Messages").
    fn piece(&self, frame: &[u8]) -> Option<Piece> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if self.inbound {
            let api_key = i16::from_be_bytes(frame.get(4..6)?.try_into().ok()?);
            let correlation = i32::from_be_bytes(frame.get(8..12)?.try_into().ok()?);
            asked.insert(correlation, api_key);
            *self.shared.lock().requests.entry(api_key).or_default() += 1;
            Some(Piece::Request(api_key))
        } else {
            let correlation = i32::from_be_bytes(frame.get(4..8)?.try_into().ok()?);
            asked.remove(&correlation).map(Piece::Answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::wait_until;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that answers each Kafka frame with its correlation id, until its first client closes.
    fn echo_frames() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                thread::spawn(move || {
                    let mut frame = [0; 12];
                    while client.read_exact(&mut frame).is_ok() {
                        let mut answer = vec![0, 0, 0, 4];
                        answer.extend_from_slice(&frame[8..12]);
                        client.write_all(&answer).unwrap();
                    }
                });
            }
        });
        address
    }

    fn ask(client: &mut TcpStream, api_key: i16, correlation: i32) {
        let mut frame = vec![0, 0, 0, 8];
        frame.extend_from_slice(&api_key.to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(&correlation.to_be_bytes());
        client.write_all(&frame).unwrap();
    }

    fn answer(client: &mut TcpStream) -> io::Result<i32> {
        let mut frame = [0; 8];
        client.read_exact(&mut frame)?;
        Ok(i32::from_be_bytes(frame[4..].try_into().unwrap()))
    }

    fn connect(proxy: &TcpProxy) -> TcpStream {
        let client = TcpStream::connect(proxy.address()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client
    }

    #[test]
    fn a_cut_closes_what_is_open_and_refuses_what_comes() {
        let proxy = TcpProxy::kafka(echo_frames()).unwrap();
        let mut client = connect(&proxy);
        ask(&mut client, api::METADATA, 7);
        assert_eq!(answer(&mut client).unwrap(), 7);

        proxy.cut();
        assert!(answer(&mut client).is_err(), "the open connection is closed");
        assert!(answer(&mut connect(&proxy)).is_err(), "a new one too");

        proxy.heal();
        let mut client = connect(&proxy);
        ask(&mut client, api::METADATA, 8);
        assert_eq!(answer(&mut client).unwrap(), 8);
        assert_eq!(proxy.requests(api::METADATA), 2);
        // An answer is counted after it was passed on: the client may have it first.
        let all = Passed {
            connections: 2,
            bytes_in: 24,
            bytes_out: 16,
        };
        wait_until(SOON, "both answers to be counted", || proxy.passed() == all);
    }

    #[test]
    fn one_request_is_held_and_other_connections_go_on() {
        let proxy = TcpProxy::kafka(echo_frames()).unwrap();
        let held = proxy.hold(Piece::Request(api::END_TXN));
        let (mut slow, mut other) = (connect(&proxy), connect(&proxy));
        ask(&mut slow, api::END_TXN, 1);
        held.wait_caught(SOON).unwrap();
        ask(&mut other, api::END_TXN, 2);
        assert_eq!(answer(&mut other).unwrap(), 2, "only one is held");

        assert_eq!(
            proxy.passed().bytes_in,
            12,
            "the held request has not reached the server"
        );
        held.release();
        assert_eq!(answer(&mut slow).unwrap(), 1);
    }

    #[test]
    fn a_held_answer_that_is_cut_never_arrives() {
        let proxy = TcpProxy::kafka(echo_frames()).unwrap();
        let held = proxy.hold(Piece::Answer(api::END_TXN));
        let mut client = connect(&proxy);
        ask(&mut client, api::END_TXN, 1);
        held.wait_caught(SOON).unwrap();
        assert_eq!(proxy.passed().bytes_in, 12, "the server has seen the request");
        proxy.cut();
        held.release();
        assert!(answer(&mut client).is_err());
    }

    #[test]
    fn a_stall_keeps_the_connection_and_its_bytes() {
        let proxy = TcpProxy::raw(echo_frames()).unwrap();
        let mut client = connect(&proxy);
        proxy.stall();
        ask(&mut client, api::FETCH, 5);
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let silence = answer(&mut client).unwrap_err().kind();
        assert!(
            matches!(silence, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            "{silence:?}"
        );

        proxy.heal();
        client.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(answer(&mut client).unwrap(), 5);
    }
}
