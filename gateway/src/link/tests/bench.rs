//! An authority and gateways that are linked through it.

use super::super::*;
use crate::identity::issue::{Authority, Kind};
use bytes::Bytes;
use culvert_proto::message::{LaneHeader, Message};
use culvert_proto::stream::RouteId;
use culvert_proto::{Lineage, StreamId};
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No test waits longer for anything; far above what each needs on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for `future`, and fails with `what` when it does not come.
#[track_caller]
pub(crate) fn soon<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let what = what.to_owned();
    async move {
        timeout(PATIENCE, future)
            .await
            .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
    }
}

/// Waits until `holds`.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub(crate) struct Bench {
    directory: TempDir,
    authority: Authority,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let domain = "example.org".parse().unwrap();
        let authority = Authority::init(directory.path(), &domain, 30, false).unwrap();
        Bench { directory, authority }
    }

    /// Identity of `name`, with a certificate made now.
    pub(crate) fn identity(&self, name: &str) -> identity::Options {
        let certificate = self
            .authority
            .issue(&Kind::Gateway(name.parse().unwrap()), 30, true)
            .unwrap();
        self.identity_at(name, certificate)
    }

    pub(crate) fn identity_at(&self, name: &str, certificate: PathBuf) -> identity::Options {
        identity::Options {
            gateway: name.parse().unwrap(),
            trust_domain: "example.org".parse().unwrap(),
            key: certificate.with_extension("key"),
            certificate,
            authorities: vec![self.authority.certificate()],
        }
    }

    pub(crate) fn renew(&self, identity: &identity::Options) {
        self.authority.renew(&identity.certificate, 30).unwrap();
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Gateway `name` of the site of the same name, listening, without peers.
    pub(crate) fn options(&self, name: &str) -> Options {
        Options {
            listen: Some(free_address().into()),
            identity: self.identity(name),
            site: format!("{name}-site").into(),
            instance: rand::random(),
            secret: rand::random(),
            peers: Vec::new(),
            per_peer_bytes_max: 64 * 1024 * 1024,
            lanes_max: 64,
            tcp: false,
        }
    }

    /// `north`, which listens, and `south`, which only dials, linked.
    pub(crate) async fn pair(&self) -> (Gateway, Gateway, Link, Link) {
        let mut north = Gateway::start(with_peers(self.options("north"), [peer("south", &[])]));
        let address = north.address().to_string();
        let options = Options {
            listen: None,
            ..self.options("south")
        };
        let mut south = Gateway::start(with_peers(options, [peer("north", &[&address])]));
        let there = south.up().await;
        let here = north.up().await;
        (north, south, here, there)
    }
}

/// An address that is free for UDP and TCP, below what Linux gives to outgoing connections: of the ports that it gives for UDP
/// some are another test's connection over TCP.
pub(crate) fn free_address() -> SocketAddr {
    let is_free = |address: &SocketAddr| {
        UdpSocket::bind(address).is_ok() && std::net::TcpListener::bind(address).is_ok()
    };
    let mut tried =
        (0..1_000).map(|_| SocketAddr::from(([127, 0, 0, 1], rand::random_range(12_000..20_000))));
    tried.find(is_free).expect("a free port")
}

pub(crate) fn peer(name: &str, addresses: &[&str]) -> PeerConfig {
    PeerConfig {
        site: format!("{name}-site").into(),
        gateways: Arc::new([name.parse().unwrap()].into()),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
    }
}

pub(crate) fn with_peers(options: Options, peers: impl IntoIterator<Item = PeerConfig>) -> Options {
    Options {
        peers: peers.into_iter().collect(),
        ..options
    }
}

/// A running room.
pub(crate) struct Gateway {
    pub(crate) handle: Handle,
    pub(crate) events: mpsc::Receiver<Event>,
    stop: Option<oneshot::Sender<()>>,
    room: JoinHandle<Result<(), Error>>,
}

impl Gateway {
    pub(crate) fn start(options: Options) -> Gateway {
        Gateway::speaking(options, VERSIONS)
    }

    pub(crate) fn speaking(options: Options, versions: RangeInclusive<u16>) -> Gateway {
        let (links, events) = Links::speaking(options, versions).unwrap();
        Gateway::run(links, events)
    }

    pub(crate) fn run(links: Links, events: mpsc::Receiver<Event>) -> Gateway {
        let handle = links.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let room = tokio::spawn(links.run(async {
            let _ = stopped.await;
        }));
        Gateway {
            handle,
            events,
            stop: Some(stop),
            room,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.handle.local_address().unwrap()
    }

    /// The next event, which must be a link.
    pub(crate) async fn up(&mut self) -> Link {
        match soon("a link", self.events.recv()).await {
            Some(Event::Up(link)) => link,
            other => panic!("no link but {other:?}"),
        }
    }

    /// The next link. Where one session takes the place of another, the two ends notice it apart: the end of the old one, for
    /// a reason that `allows` knows, may be told first.
    pub(crate) async fn up_after(&mut self, allows: impl Fn(&Reason) -> bool) -> Link {
        loop {
            match soon("a link", self.events.recv()).await {
                Some(Event::Up(link)) => return link,
                Some(Event::Down { reason, .. }) if allows(&reason) => {}
                other => panic!("no link but {other:?}"),
            }
        }
    }

    /// The next event, which must be the loss of a link.
    pub(crate) async fn down(&mut self) -> Reason {
        match soon("the loss of a link", self.events.recv()).await {
            Some(Event::Down { reason, .. }) => reason,
            other => panic!("not down but {other:?}"),
        }
    }

    /// Whether any link was ever announced.
    pub(crate) fn has_accepted(&mut self) -> bool {
        self.events.try_recv().is_ok() || !self.handle.links().is_empty()
    }

    /// Waits until a dial to `site` has failed, and answers why.
    pub(crate) async fn refused(&self, site: &str) -> Reason {
        until("a refused dial", || self.handle.unreached().contains_key(site)).await;
        self.handle.unreached()[site].clone()
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        soon("the room to stop", &mut self.room).await.unwrap().unwrap();
    }
}

pub(crate) fn lane(route: &str) -> LaneHeader {
    let stream = StreamId {
        site: "north".into(),
        topic: "orders".into(),
        partition: 0,
        lineage: Lineage::Run {
            outbox: [1; 16],
            run: [2; 16],
        },
    };
    LaneHeader {
        route: RouteId::new("south", route),
        stream,
    }
}

/// A frame as lanes see it: a length and so many bytes that depend on `seed`.
pub(crate) fn frame(seed: u32, size: usize) -> Bytes {
    let mut bytes = u32::try_from(size).unwrap().to_be_bytes().to_vec();
    bytes.extend((0..size).map(|at| {
        seed.wrapping_mul(31)
            .wrapping_add(u32::try_from(at).unwrap())
            .to_le_bytes()[0]
    }));
    bytes.into()
}

/// A small control message that carries `number`.
pub(crate) fn numbered(number: u64) -> Message {
    let LaneHeader { route, stream } = lane("orders");
    Message::Credit {
        route,
        stream,
        bytes: number,
    }
}

/// Says a message both ways and waits for its arrival.
pub(crate) async fn converse(here: &Link, there: &Link) {
    for (from, to) in [(here, there), (there, here)] {
        let message = numbered(rand::random::<u32>().into());
        soon("sending", from.send(&message)).await.unwrap();
        assert_eq!(soon("a message", to.recv()).await.unwrap(), message);
    }
}
