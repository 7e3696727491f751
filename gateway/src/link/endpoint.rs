//! The UDP socket and how QUIC behaves on it.

use super::{Error, Listen, Options};
use crate::identity::Identity;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, NoneTokenLog, Runtime, ServerConfig, TokioRuntime,
    TransportConfig, ValidationTokenConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Both sides ask "are you there" this often when nothing else is sent, so that four questions in a row without
/// an answer make the second after which we dial anew.
const KEEP_ALIVE: Duration = Duration::from_millis(250);

/// A session that hears nothing for this long is over. Long, because a session that recovers costs less than a new
/// one, and a parallel dial is on its way since the first second.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Used until the first round trip was measured. A third of the standard's 333 ms (RFC 9002, section 6.2.2), so
/// that the first packets into a link that is just coming back are repeated sooner; too small only repeats them
/// once too often.
const RTT_INITIAL: Duration = Duration::from_millis(100);

/// What one lane may have under way. 16 MB cover 1.3 Gbit/s at 100 ms; measured: the default of 1.25 MB costs 40 %
/// of the rate on loopback.
const LANE_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Below this a session could hardly move a frame, whatever is configured.
const WINDOW_BYTES_MIN: u32 = 4 * 1024 * 1024;

/// What may be sent and not acknowledged, all lanes together: more only queues.
const SEND_WINDOW_BYTES: u64 = 16 * 1024 * 1024;

/// Asked of the kernel for each direction; it may grant less (`net.core.rmem_max`). Measured: with the default of
/// 208 KiB 0.8 % of packets are lost at full rate on loopback.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Connection attempts that wait for a decision, and the bytes kept for them.
const INCOMING_MAX: usize = 256;
const INCOMING_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Opens the socket and the endpoint on it. Must be called inside a tokio runtime.
pub(super) fn open(options: &Options, identity: &Identity) -> Result<Endpoint, Error> {
    let (socket, address) = match &options.listen {
        Some(Listen::At(address)) => (bind(*address), *address),
        Some(Listen::Handed(socket)) => take(socket),
        None => anywhere(),
    };
    let failed = |cause| Error::Bind {
        protocol: "UDP",
        address,
        cause,
    };
    let runtime = Arc::new(TokioRuntime);
    let socket = runtime.wrap_udp_socket(socket.map_err(failed)?).map_err(failed)?;
    if socket.max_transmit_segments() == 1 {
        tracing::warn!(
            "the kernel refuses UDP segmentation offload (GSO): the tunnel needs about 2.7 times the processor time"
        );
    }
    let server = options.listen.as_ref().map(|_| placeholder(identity));
    Endpoint::new_with_abstract_socket(settings(&options.secret), server, socket, runtime).map_err(failed)
}

/// What a dial uses.
pub(super) fn client_config(tls: rustls::ClientConfig, transport: &Arc<TransportConfig>) -> ClientConfig {
    let tls = QuicClientConfig::try_from(tls).expect("the ring provider has the initial cipher suite");
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::clone(transport));
    config
}

/// What an accepted connection uses.
pub(super) fn server_config(tls: rustls::ServerConfig, transport: &Arc<TransportConfig>) -> ServerConfig {
    let tls = QuicServerConfig::try_from(tls).expect("the ring provider has the initial cipher suite");
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config
        .transport_config(Arc::clone(transport))
        .validation_token_config(tokens)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX / 64)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX);
    config
}

/// How sessions over UDP behave.
pub(super) fn transport(options: &Options) -> Arc<TransportConfig> {
    Arc::new(flow(options))
}

/// Flow control and timers of every session.
pub(super) fn flow(options: &Options) -> TransportConfig {
    let window = u32::try_from(options.per_peer_bytes_max)
        .unwrap_or(u32::MAX)
        .max(WINDOW_BYTES_MIN);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(
            IdleTimeout::try_from(IDLE_MAX).expect("ten seconds fit in a QUIC integer"),
        ))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(RTT_INITIAL)
        .max_concurrent_bidi_streams(VarInt::from_u32(1)) // the control stream
        .max_concurrent_uni_streams(VarInt::from_u32(options.lanes_max))
        // A lane that nobody reads must leave room for the others and for control.
        .stream_receive_window(VarInt::from_u32(LANE_WINDOW_BYTES.min(window / 4)))
        .receive_window(VarInt::from_u32(window))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    transport
}

/// The configuration before a connection gets its own: what decides about Retry and the first packets' keys.
/// Nobody passes its list of peers, which is empty.
fn placeholder(identity: &Identity) -> ServerConfig {
    let (tls, _) = identity.accepting(Arc::new(BTreeSet::new()));
    server_config(tls, &Arc::new(TransportConfig::default()))
}

/// A restarted gateway must recognise the connection IDs of its former life and answer them with a stateless reset
/// that the peer believes; both keys come from the persisted secret. Measured: the restart is then noticed in
/// 12-15 ms instead of 9.8 s, and with only one of the two keys nothing is gained.
fn settings(secret: &[u8; 32]) -> EndpointConfig {
    let reset = hmac::Key::new(
        hmac::HMAC_SHA256,
        derive(secret, b"culvert stateless reset").as_ref(),
    );
    let derived = derive(secret, b"culvert connection id");
    let id = derived
        .as_ref()
        .iter()
        .take(8)
        .fold(0u64, |id, byte| id << 8 | u64::from(*byte));
    let mut settings = EndpointConfig::new(Arc::new(reset));
    settings.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id)));
    settings
}

/// One key for each purpose: HMAC-SHA256 of the purpose's label.
fn derive(secret: &[u8; 32], label: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), label)
}

/// Where nobody has to find us: any port, both address families if the machine has both.
fn anywhere() -> (io::Result<std::net::UdpSocket>, SocketAddr) {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    match bind(both) {
        Ok(socket) => (Ok(socket), both),
        Err(_) => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            (bind(v4), v4)
        }
    }
}

/// A socket that is bound already; its address is said where something is wrong with it.
fn take(handed: &std::net::UdpSocket) -> (io::Result<std::net::UdpSocket>, SocketAddr) {
    let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let address = handed.local_addr().unwrap_or(unknown);
    let socket = handed
        .try_clone()
        .inspect(|socket| enlarge(&SockRef::from(socket)));
    (socket, address)
}

fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    enlarge(&socket);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Smaller buffers only cost speed, so a refusal is no reason to stop.
fn enlarge(socket: &Socket) {
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
}
