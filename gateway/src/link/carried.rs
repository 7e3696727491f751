//! QUIC carried over TLS on TCP, where a network lets no UDP pass.
//!
//! ```text
//! TCP ─ TLS 1.3, both certificates, ALPN `culvert-tcp` ─ length (2 bytes, big-endian), datagram; length, datagram; …
//! ```
//!
//! - The datagrams are those of QUIC on UDP, its handshake included. Sessions, lanes and control are the same, and so is all
//!   that is said of them.
//! - One TCP connection carries one session and ends with it.
//! - A datagram waits for room and is never dropped: QUIC sees a path without loss, and what it has not handed down yet it still
//!   sends by priority. What it costs: a second encryption, and a segment that TCP has lost holds up all lanes.

use super::endpoint::client_config;
use super::fault::{self, Reason};
use super::local::Local;
use super::session::{Path, establish};
use super::{Link, PeerConfig};
use crate::identity::Side;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use quinn::congestion::CubicConfig;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{
    AsyncUdpSocket, Connecting, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    TransportConfig, UdpPoller, VarInt,
};
use rustls_pki_types::ServerName;
use socket2::SockRef;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::PollSender;

/// The largest datagram: with its length it fits into one record of TLS, which holds 16,384 bytes.
const DATAGRAM_BYTES_MAX: u16 = 16_000;

/// What QUIC may send before anything is acknowledged. It has to be more than a datagram; TCP slows down by itself.
const WINDOW_BYTES_INITIAL: u64 = 1024 * 1024;

/// Datagrams between QUIC and TLS, each way: some 256 KB.
const WAITING_MAX: usize = 16;

/// What TCP may hold unsent or not acknowledged; the kernel doubles it. More makes control wait behind data, less costs rate on
/// long paths: this is 80 Mbit/s at 100 ms.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// How long a session that has ended may take to say so.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// The listener's pause when the system gives no connection: it has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PROTOCOL: &[u8] = b"culvert-tcp";

/// Opens a listener beside the UDP socket.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// The next caller. Never where nobody listens.
pub(super) async fn accept(listener: Option<&TcpListener>) -> (TcpStream, SocketAddr) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        match listener.accept().await {
            Ok(caller) => return caller,
            Err(error) => {
                tracing::debug!(%error, "no TCP connection was accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How QUIC behaves where nothing is lost and no datagram is too large.
pub(super) fn transport(mut flow: TransportConfig) -> Arc<TransportConfig> {
    let mut congestion = CubicConfig::default();
    congestion.initial_window(WINDOW_BYTES_INITIAL);
    flow.congestion_controller_factory(Arc::new(congestion))
        .initial_mtu(DATAGRAM_BYTES_MAX)
        .min_mtu(DATAGRAM_BYTES_MAX)
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false);
    Arc::new(flow)
}

/// Makes a session over TCP with the gateway at `address`.
pub(super) async fn dial(local: &Local, peer: &PeerConfig, address: SocketAddr) -> Result<Link, Reason> {
    let name = peer.gateways.first().map_or("", |gateway| gateway.as_str());
    let unreachable = |cause: String| Reason::Unreachable {
        address: format!("{address} over TCP"),
        cause,
    };
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let config = local.config();
    let (mut tls, verdict) = config.identity.dialling(Arc::clone(&peer.gateways));
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    let named = ServerName::try_from(name.to_owned()).map_err(|error| unreachable(error.to_string()))?;
    prepare(&tcp);
    let stream = TlsConnector::from(Arc::new(tls)).connect(named, tcp).await;
    let stream = stream.map_err(|error| Reason::judged(&verdict, || cut(&error)))?;
    let carriage = Carriage::of(stream, address, address, None).map_err(|error| cut(&error))?;

    let (tls, verdict) = config.identity.dialling(Arc::clone(&peer.gateways));
    let connecting = carriage
        .endpoint
        .connect_with(client_config(tls, &local.carried), address, name)
        .map_err(|error| unreachable(error.to_string()))?;
    let refused = |error: &quinn::ConnectionError| Reason::judged(&verdict, || Reason::of(error));
    let connection = carriage.connection(connecting, refused).await?;
    establish(connection, Side::Server, carriage.path(), local, &peer.gateways).await
}

/// The carriage of one who has called, when its certificate is one of a peer's.
pub(super) async fn receive(
    local: &Local,
    tcp: TcpStream,
    from: SocketAddr,
    server: ServerConfig,
) -> Result<Carriage, Reason> {
    let config = local.config();
    let (mut tls, verdict) = config.identity.accepting(Arc::clone(&config.peers.names));
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    prepare(&tcp);
    let here = tcp.local_addr().map_err(|error| cut(&error))?;
    let stream = TlsAcceptor::from(Arc::new(tls)).accept(tcp).await;
    let stream = stream.map_err(|error| Reason::judged(&verdict, || cut(&error)))?;
    Carriage::of(stream, here, from, Some(server)).map_err(|error| cut(&error))
}

/// Costs speed where it is refused, and nothing else.
fn prepare(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(tcp).set_send_buffer_size(SEND_BUFFER_BYTES);
}

/// A TCP connection, and the endpoint of QUIC above it.
pub(super) struct Carriage {
    endpoint: Endpoint,
    ended: Ended,
}

/// Why the TCP connection ended, once it has.
pub(super) type Ended = watch::Receiver<Option<Reason>>;

impl Carriage {
    fn of<S>(
        stream: S,
        here: SocketAddr,
        there: SocketAddr,
        server: Option<ServerConfig>,
    ) -> io::Result<Carriage>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (out, from_quic) = mpsc::channel(WAITING_MAX);
        let (to_quic, into) = mpsc::channel(WAITING_MAX);
        let (told, ended) = watch::channel(None);
        tokio::spawn(async move {
            let cause = match pump(stream, from_quic, to_quic).await {
                Ok(()) => Reason::Cut {
                    cause: "by the peer".to_owned(),
                },
                Err(error) => cut(&error),
            };
            told.send_replace(Some(cause));
        });
        let carrier = Arc::new(Carrier {
            here,
            there,
            out,
            into: Mutex::new(into),
        });
        let mut settings = EndpointConfig::default();
        settings
            .max_udp_payload_size(DATAGRAM_BYTES_MAX)
            .map_err(io::Error::other)?;
        let endpoint = Endpoint::new_with_abstract_socket(settings, server, carrier, Arc::new(TokioRuntime))?;
        Ok(Carriage { endpoint, ended })
    }

    /// The attempt of whoever is at the other end.
    pub(super) async fn attempt(&self) -> Result<quinn::Incoming, Reason> {
        let mut ended = self.ended.clone();
        tokio::select! {
            incoming = self.endpoint.accept() => incoming.ok_or_else(|| Reason::protocol("nobody connects")),
            reason = end(&mut ended) => Err(reason),
        }
    }

    /// The connection, when both handshakes are done. It is watched from then on.
    pub(super) async fn connection(
        &self,
        connecting: Connecting,
        refused: impl Fn(&quinn::ConnectionError) -> Reason,
    ) -> Result<Connection, Reason> {
        let mut ended = self.ended.clone();
        let connection = tokio::select! {
            connection = connecting => connection.map_err(|error| refused(&error))?,
            reason = end(&mut ended) => return Err(reason),
        };
        tokio::spawn(attend(self.endpoint.clone(), connection.clone(), ended));
        Ok(connection)
    }

    pub(super) fn path(&self) -> Path {
        Path::Tcp(self.ended.clone())
    }
}

/// Ends QUIC when TCP has ended, and holds TCP until QUIC has said that it ends.
async fn attend(endpoint: Endpoint, connection: Connection, mut ended: Ended) {
    tokio::select! {
        _ = connection.closed() => {}
        reason = end(&mut ended) => {
            endpoint.close(VarInt::from_u32(fault::code::CLOSED), reason.to_string().as_bytes());
        }
    }
    let _ = tokio::time::timeout(FAREWELL_MAX, endpoint.wait_idle()).await;
}

async fn end(ended: &mut Ended) -> Reason {
    let reason = ended
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|reason| reason.clone());
    reason.unwrap_or_else(|| Reason::protocol("the TCP connection is gone"))
}

/// Moves datagrams both ways until TCP ends or QUIC lets go.
async fn pump<S>(
    stream: S,
    from_quic: mpsc::Receiver<Vec<u8>>,
    to_quic: mpsc::Sender<Bytes>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        outcome = send(writer, from_quic) => outcome,
        outcome = read(reader, to_quic) => outcome,
    }
}

async fn send(mut writer: impl AsyncWrite + Unpin, mut from_quic: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut batch = Vec::with_capacity(WAITING_MAX);
    while from_quic.recv_many(&mut batch, WAITING_MAX).await > 0 {
        for datagram in batch.drain(..) {
            writer.write_all(&datagram).await?;
        }
        writer.flush().await?;
    }
    writer.shutdown().await
}

async fn read(mut reader: impl AsyncRead + Unpin, to_quic: mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    loop {
        while let Some(datagram) = take(&mut bytes)? {
            if to_quic.send(datagram).await.is_err() {
                return Ok(());
            }
        }
        bytes.reserve(4 * usize::from(DATAGRAM_BYTES_MAX));
        if reader.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

/// The next datagram, when it is whole.
///
/// # Errors
/// When it is announced as larger than any may be.
fn take(bytes: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(&[high, low]) = bytes.first_chunk::<2>() else {
        return Ok(None);
    };
    let length = u16::from_be_bytes([high, low]);
    if length > DATAGRAM_BYTES_MAX {
        let what =
            format!("a datagram of {length} bytes was announced, and {DATAGRAM_BYTES_MAX} is the most");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let length = usize::from(length);
    if bytes.len() < 2 + length {
        return Ok(None);
    }
    bytes.advance(2);
    Ok(Some(bytes.split_to(length).freeze()))
}

/// Why TLS or TCP ended, in our words: an alert says that the peer does not want us.
fn cut(error: &io::Error) -> Reason {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => Reason::Refused {
            reason: fault::alert(0x100 + u64::from(u8::from(*alert)))
                .map_or_else(|| format!("{alert:?}"), str::to_owned),
        },
        _ => Reason::Cut {
            cause: error.to_string(),
        },
    }
}

/// What QUIC takes for its socket.
#[derive(Debug)]
struct Carrier {
    here: SocketAddr,
    there: SocketAddr,
    out: mpsc::Sender<Vec<u8>>,
    into: Mutex<mpsc::Receiver<Bytes>>,
}

impl AsyncUdpSocket for Carrier {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(PollSender::new(self.out.clone())))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let place = match self.out.try_reserve() {
            Ok(place) => place,
            Err(mpsc::error::TrySendError::Full(())) => return Err(io::ErrorKind::WouldBlock.into()),
            // As on UDP, where nobody hears it either; who watches the connection says that it ended.
            Err(mpsc::error::TrySendError::Closed(())) => return Ok(()),
        };
        let length = u16::try_from(transmit.contents.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut datagram = Vec::with_capacity(2 + transmit.contents.len());
        datagram.extend_from_slice(&length.to_be_bytes());
        datagram.extend_from_slice(transmit.contents);
        place.send(datagram);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut into = self.into.lock();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            // None: it has ended, which is told elsewhere.
            let Poll::Ready(Some(datagram)) = into.poll_recv(context) else {
                break;
            };
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta {
                addr: self.there,
                len: length,
                stride: length,
                ecn: None,
                dst_ip: None,
            };
            count += 1;
        }
        if count == 0 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(count))
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.here)
    }
}

/// Waits for room for a datagram.
#[derive(Debug)]
struct Writable(PollSender<Vec<u8>>);

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closed: sending says nothing of it either.
        let _ = ready!(self.0.poll_reserve(context));
        self.0.abort_send();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_of_a_stream_however_it_is_cut() {
        let datagrams = [vec![1; 3], Vec::new(), vec![2; usize::from(DATAGRAM_BYTES_MAX)]];
        let mut stream = Vec::new();
        for datagram in &datagrams {
            stream.extend(u16::try_from(datagram.len()).unwrap().to_be_bytes());
            stream.extend(datagram);
        }
        for size in [1, 2, 3, 1_000, stream.len()] {
            let (mut bytes, mut found) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(size) {
                bytes.extend_from_slice(piece);
                while let Some(datagram) = take(&mut bytes).unwrap() {
                    found.push(datagram.to_vec());
                }
            }
            assert_eq!(found, datagrams, "pieces of {size}");
        }
    }

    #[test]
    fn a_datagram_that_is_too_large_ends_the_connection_before_it_is_read() {
        let mut bytes = BytesMut::from(&(DATAGRAM_BYTES_MAX + 1).to_be_bytes()[..]);
        let error = take(&mut bytes).unwrap_err();
        assert!(error.to_string().contains("16001 bytes"), "{error}");
    }
}
