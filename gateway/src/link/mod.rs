//! Links: authenticated sessions with peers over QUIC.
//!
//! Constraints of this room:
//! - TLS 1.3 with certificates on both sides; the peer must be a configured gateway, of the site the configuration
//!   puts it in, in a protocol version that both speak. Otherwise there is no link, on neither side.
//! - At most one link for each peer gateway; when both dial, the one dialled by the smaller name stays.
//! - A link is not revived. When it is lost, another one takes its place; what was under way is sent again by those
//!   who know what arrived. Nothing sent here counts as delivered.
//! - A peer that was started anew is noticed at once (stateless reset), one that falls silent after a second: then a
//!   new session is dialled beside the old one, which goes only when the new one is there.
//! - What a peer can make us hold in memory has a limit: windows, lanes, unfinished frames, handshakes.
//! - Bytes of frames are not looked into and, sending, not copied.
//!
//! On the wire, inside QUIC (ALPN `culvert`):
//!
//! ```text
//! one bidirectional QUIC stream, opened by the dialler   messages, both ways; first the hellos
//! one unidirectional QUIC stream a lane                  lane header, frame, frame, ...
//! ```
//!
//! This room alone imports quinn.

mod accept;
mod dial;
mod endpoint;
mod fault;
mod lane;
mod pieces;
mod roster;
mod session;
#[cfg(test)]
mod tests;

pub use fault::{Error, Fault, Reason};
pub use lane::{LaneReceiver, LaneSender};
pub use session::{Link, Stats};

use crate::identity::{self, Identity, Name};
use accept::Door;
use culvert_proto::message::Message;
use dial::Dialler;
use parking_lot::{Mutex, RwLock};
use quinn::{Endpoint, Incoming, TransportConfig, VarInt};
use roster::{Admission, Roster};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

/// The protocol versions this program speaks.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;

/// How often live sessions are checked again: expired certificates and removed peers are cut within this time.
const RECHECK_EVERY: Duration = Duration::from_secs(60);

/// How often a link is asked whether anything was heard.
const LISTEN_EVERY: Duration = Duration::from_millis(250);

/// After so many times without anything heard, one second in all, a new session is dialled. Counted in looks, not
/// in time, so that a stall of our own process is not taken for silence of the peer.
const QUIET_LOOKS: u32 = 4;

/// How long the peers get to hear that we leave.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// What this room needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where peers can dial us; none for a gateway that only dials.
    pub listen: Option<SocketAddr>,
    /// Our certificate, key and authorities, and our name.
    pub identity: identity::Options,
    /// The site we belong to.
    pub site: Arc<str>,
    /// Random, fresh at each start of the process: tells a peer a new life from a second session.
    pub instance: [u8; 16],
    /// Random, made once and kept in the state directory: tells peers of a former life that it is over.
    pub secret: [u8; 32],
    /// Who may be linked with us.
    pub peers: Vec<PeerConfig>,
    /// What one peer can make us hold: received and not yet read bytes, and unfinished frames. Never taken for less
    /// than two of the largest frames. 64 MiB are four full lanes.
    pub per_peer_bytes_max: usize,
    /// How many lanes one peer may have open towards us.
    pub lanes_max: u32,
}

/// A site whose gateways may be linked with us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The site.
    pub site: Arc<str>,
    /// Its gateways, by the names in their certificates.
    pub gateways: Arc<BTreeSet<Name>>,
    /// Where to dial, `host:port`, in order of preference; any of the gateways may answer. Empty: they dial us.
    pub addresses: Vec<String>,
}

/// A gateway at the other end of a link, as authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, by its certificate.
    pub gateway: Name,
    /// Its site, by our configuration and its hello.
    pub site: Arc<str>,
    /// Which life of it.
    pub instance: [u8; 16],
    /// Its program version, for people.
    pub build: Arc<str>,
    /// The protocol version that is spoken with it.
    pub version: u16,
    /// Where it is.
    pub address: SocketAddr,
}

/// What happens to links.
#[derive(Debug)]
pub enum Event {
    /// A link is there. If there was one with the same gateway, that one is over and this takes its place.
    Up(Link),
    /// There is no link with this gateway any more.
    Down {
        /// Who it was.
        peer: Peer,
        /// Why.
        reason: Reason,
    },
}

/// The room: owns the socket, dials, accepts, and keeps one link for each peer.
pub struct Links {
    local: Arc<Local>,
    events: mpsc::Sender<Event>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    roster: Roster,
    diallers: Vec<DialControl>,
    door: Door,
    tasks: JoinSet<()>,
}

/// What all parts of the room share.
struct Local {
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    identity: identity::Options,
    site: Arc<str>,
    instance: [u8; 16],
    versions: RangeInclusive<u16>,
    per_peer_bytes_max: usize,
    /// Replaced as a whole.
    config: RwLock<Arc<Config>>,
    /// Rung when `config` was replaced.
    changed: Notify,
    /// For [`Handle::links`].
    links: RwLock<Vec<Link>>,
    /// The last dial of each site that failed, while it is not linked.
    unreached: Mutex<BTreeMap<Arc<str>, Reason>>,
    /// Why the last caller was not let in.
    last_turned_away: Mutex<Option<Reason>>,
}

/// What can change while the room runs.
struct Config {
    identity: Arc<Identity>,
    peers: Arc<Peers>,
}

/// The configured peers, in the forms that are asked for.
struct Peers {
    list: Vec<PeerConfig>,
    names: Arc<BTreeSet<Name>>,
    sites: BTreeMap<Name, Arc<str>>,
}

impl Peers {
    fn new(list: Vec<PeerConfig>) -> Peers {
        let sites: BTreeMap<Name, Arc<str>> = list
            .iter()
            .flat_map(|peer| {
                peer.gateways
                    .iter()
                    .map(|name| (name.clone(), Arc::clone(&peer.site)))
            })
            .collect();
        Peers {
            list,
            names: Arc::new(sites.keys().cloned().collect()),
            sites,
        }
    }

    fn site_of(&self, gateway: &Name) -> Option<Arc<str>> {
        self.sites.get(gateway).cloned()
    }
}

impl Local {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    fn replace(&self, change: impl FnOnce(&Config) -> Config) {
        let mut config = self.config.write();
        *config = Arc::new(change(&config));
        drop(config);
        self.changed.notify_one();
    }

    fn hello(&self) -> Message {
        Message::Hello {
            version_min: *self.versions.start(),
            version_max: *self.versions.end(),
            gateway: self.identity.gateway.as_str().into(),
            site: Arc::clone(&self.site),
            instance: self.instance,
            build: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// What the parts of the room tell it.
enum News {
    /// A session was made; `decided` is dropped when the room has decided whether it stays.
    Established {
        link: Link,
        decided: Option<oneshot::Sender<()>>,
    },
    /// A session ended.
    Ended { link: Link, reason: Reason },
    /// Nothing is heard on a session, or something is again.
    Quiet { link: Link, quiet: bool },
    /// A dial led to nothing.
    Unreached {
        site: Arc<str>,
        address: String,
        reason: Reason,
    },
    /// Somebody dialled us and was not let in.
    TurnedAway { address: SocketAddr, reason: Reason },
}

/// What the room's loop wakes up for.
#[expect(clippy::large_enum_variant)] // one at a time, on the loop's own stack
enum Next {
    Stop,
    News(News),
    Attempt(Option<Incoming>),
    Recheck,
    Reconfigured,
    Reaped,
}

struct DialControl {
    peer: PeerConfig,
    wanted: watch::Sender<bool>,
    task: AbortHandle,
}

impl Links {
    /// Reads the identity and opens the socket; nothing is dialled or accepted before [`Links::run`]. Events must be
    /// read: the room waits when 64 are unread.
    ///
    /// # Errors
    /// [`Error::Identity`] and [`Error::Bind`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(options: Options) -> Result<(Links, mpsc::Receiver<Event>), Error> {
        Links::speaking(options, VERSIONS)
    }

    fn speaking(
        options: Options,
        versions: RangeInclusive<u16>,
    ) -> Result<(Links, mpsc::Receiver<Event>), Error> {
        let identity = Arc::new(Identity::load(&options.identity)?);
        let endpoint = endpoint::open(&options, &identity)?;
        let transport = endpoint::transport(&options);
        let local = Arc::new(Local {
            endpoint,
            transport,
            identity: options.identity,
            site: options.site,
            instance: options.instance,
            versions,
            per_peer_bytes_max: options.per_peer_bytes_max,
            config: RwLock::new(Arc::new(Config {
                identity,
                peers: Arc::new(Peers::new(options.peers)),
            })),
            changed: Notify::new(),
            links: RwLock::new(Vec::new()),
            unreached: Mutex::new(BTreeMap::new()),
            last_turned_away: Mutex::new(None),
        });
        let (events, received) = mpsc::channel(64);
        let links = Links {
            local,
            events,
            news: mpsc::channel(64),
            roster: Roster::default(),
            diallers: Vec::new(),
            door: Door::new(),
            tasks: JoinSet::new(),
        };
        Ok((links, received))
    }

    /// To steer and watch the room while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.local))
    }

    /// Dials, accepts and watches until `stop` is done; then closes every link. The socket is
    /// given back when the last [`Handle`] and [`Link`] are gone.
    ///
    /// # Errors
    /// [`Error::EndpointLost`] when the task that moves datagrams ended by itself.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(stop);
        let mut recheck = interval(RECHECK_EVERY);
        recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.reconfigure();
        loop {
            let next = tokio::select! {
                biased;
                () = &mut stop => Next::Stop,
                Some(news) = self.news.1.recv() => Next::News(news),
                () = self.local.changed.notified() => Next::Reconfigured,
                _ = recheck.tick() => Next::Recheck,
                Some(_) = self.tasks.join_next() => Next::Reaped,
                incoming = self.local.endpoint.accept() => Next::Attempt(incoming),
            };
            match next {
                Next::Stop => break,
                Next::News(news) => self.hear(news).await,
                Next::Attempt(Some(incoming)) => self.attempt(incoming),
                Next::Attempt(None) => return Err(Error::EndpointLost),
                Next::Recheck => self.recheck(),
                Next::Reconfigured => self.reconfigure(),
                Next::Reaped => {}
            }
        }
        self.leave().await;
        Ok(())
    }

    async fn hear(&mut self, news: News) {
        match news {
            News::Established { link, decided } => {
                self.established(link).await;
                drop(decided);
            }
            News::Ended { link, reason } => self.ended(link, reason).await,
            News::Quiet { link, quiet } => {
                self.roster.set_quiet(&link, quiet);
                self.want();
            }
            News::Unreached {
                site,
                address,
                reason,
            } => self.unreached(site, &address, reason),
            News::TurnedAway { address, reason } => {
                turned_away(address, &reason);
                *self.local.last_turned_away.lock() = Some(reason);
            }
        }
    }

    async fn established(&mut self, link: Link) {
        match self.roster.admit(&self.local.identity.gateway, link.clone()) {
            Admission::Declined(link) => link.close_for(Reason::Superseded),
            Admission::Taken(before) => {
                self.tasks.spawn(watch_over(link.clone(), self.news.0.clone()));
                self.local.unreached.lock().remove(&link.peer().site);
                self.publish();
                let peer = link.peer();
                tracing::info!(peer = %peer.gateway, site = %peer.site, address = %peer.address, "link up");
                self.tell(Event::Up(link)).await;
                if let Some(before) = before {
                    before.close_for(Reason::Superseded);
                }
            }
        }
        self.want();
    }

    async fn ended(&mut self, link: Link, reason: Reason) {
        if !self.roster.remove(&link) {
            return; // another one has its place
        }
        self.publish();
        self.want();
        let peer = link.peer().clone();
        match &reason {
            Reason::Closed { .. } | Reason::Superseded | Reason::Restarted => {
                tracing::info!(peer = %peer.gateway, reason = %reason, "link down");
            }
            _ => tracing::warn!(peer = %peer.gateway, reason = %reason, "link down"),
        }
        self.tell(Event::Down { peer, reason }).await;
    }

    /// Says once what is wrong with a peer that cannot be reached, not at each attempt.
    fn unreached(&self, site: Arc<str>, address: &str, reason: Reason) {
        let mut unreached = self.local.unreached.lock();
        if unreached.get(&site).and_then(Reason::code) != reason.code() || !unreached.contains_key(&site) {
            tracing::warn!(%site, address, reason = %reason, "no link");
        }
        unreached.insert(site, reason);
    }

    fn attempt(&mut self, incoming: Incoming) {
        if let Some((incoming, permit)) = self.door.admit(incoming) {
            let news = self.news.0.clone();
            self.tasks
                .spawn(accept::receive(Arc::clone(&self.local), incoming, permit, news));
        }
    }

    /// Cuts sessions that would not be made now: certificate expired, authority or peer removed.
    fn recheck(&self) {
        let config = self.local.config();
        for link in self.roster.links() {
            let refused = config
                .identity
                .check(link.chain(), link.side(), &config.peers.names)
                .err();
            let moved = config
                .peers
                .site_of(&link.peer().gateway)
                .is_some_and(|site| site != link.peer().site);
            match refused {
                Some(refusal) => link.close_for(Reason::Certificate(refusal)),
                None if moved => link.close("the configuration puts this gateway in another site now"),
                None => {}
            }
        }
    }

    /// Brings diallers and sessions in line with the configuration.
    fn reconfigure(&mut self) {
        self.recheck();
        let wished = Arc::clone(&self.local.config().peers);
        self.diallers.retain(|dialler| {
            let stays = wished.list.contains(&dialler.peer);
            if !stays {
                dialler.task.abort();
            }
            stays
        });
        for peer in &wished.list {
            let runs = self.diallers.iter().any(|dialler| dialler.peer == *peer);
            if !runs && !peer.addresses.is_empty() && !peer.gateways.is_empty() {
                self.start_dialler(peer.clone());
            }
        }
        self.want();
    }

    fn start_dialler(&mut self, peer: PeerConfig) {
        let (wanted, wanted_here) = watch::channel(false);
        let dialler = Dialler {
            local: Arc::clone(&self.local),
            peer: peer.clone(),
            wanted: wanted_here,
            news: self.news.0.clone(),
        };
        let task = self.tasks.spawn(dialler.run());
        self.diallers.push(DialControl { peer, wanted, task });
    }

    /// Tells each dialler whether a session is wanted: where none of the peer's gateways is heard.
    fn want(&self) {
        for dialler in &self.diallers {
            let served = dialler
                .peer
                .gateways
                .iter()
                .any(|gateway| self.roster.is_served(gateway));
            dialler
                .wanted
                .send_if_modified(|wanted| std::mem::replace(wanted, !served) == served);
        }
    }

    fn publish(&self) {
        *self.local.links.write() = self.roster.links().cloned().collect();
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await; // nobody wants to know any more
    }

    async fn leave(mut self) {
        self.tasks.abort_all();
        self.local
            .endpoint
            .close(VarInt::from_u32(fault::code::CLOSED), b"the gateway stops");
        let _ = tokio::time::timeout(FAREWELL_MAX, self.local.endpoint.wait_idle()).await;
    }
}

/// Says in the log who was not let in. Anybody can send datagrams; only who has a certificate or speaks to us as a
/// peer would is worth a warning.
fn turned_away(address: SocketAddr, reason: &Reason) {
    match reason {
        Reason::Protocol { .. } | Reason::Silent | Reason::Closed { .. } | Reason::Superseded => {
            tracing::debug!(%address, reason = %reason, "connection attempt came to nothing");
        }
        _ => tracing::warn!(%address, reason = %reason, "connection refused"),
    }
}

/// Tells the room when a session falls quiet, is heard again, or ends.
async fn watch_over(link: Link, news: mpsc::Sender<News>) {
    let mut look = interval(LISTEN_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = link.heard();
    let mut silent_looks = 0u32;
    loop {
        let told = tokio::select! {
            reason = link.closed() => {
                let _ = news.send(News::Ended { link, reason }).await; // the room is stopping
                return;
            }
            _ = look.tick() => {
                let before = silent_looks;
                let now = link.heard();
                silent_looks = if now == heard { before.saturating_add(1) } else { 0 };
                heard = now;
                match (before < QUIET_LOOKS, silent_looks < QUIET_LOOKS) {
                    (true, false) => Some(true),
                    (false, true) => Some(false),
                    _ => None,
                }
            }
        };
        if let Some(quiet) = told {
            let link = link.clone();
            if news.send(News::Quiet { link, quiet }).await.is_err() {
                return;
            }
        }
    }
}

/// Steers and watches the room while it runs. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Local>);

impl Handle {
    /// Where peers reach us, once the socket is open.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.0.endpoint.local_addr().ok()
    }

    /// The live links, one for each peer gateway.
    #[must_use]
    pub fn links(&self) -> Vec<Link> {
        self.0.links.read().clone()
    }

    /// Sites that are dialled without success, and why.
    #[must_use]
    pub fn unreached(&self) -> BTreeMap<Arc<str>, Reason> {
        self.0.unreached.lock().clone()
    }

    /// Why the last caller was not let in, if any was turned away.
    #[must_use]
    pub fn last_turned_away(&self) -> Option<Reason> {
        self.0.last_turned_away.lock().clone()
    }

    /// Our own certificate as it is in use, for status and for the alarm before it ends.
    #[must_use]
    pub fn certificate(&self) -> identity::Description {
        self.0.config().identity.description().clone()
    }

    /// Reads certificate, key and authorities again. New sessions use them; live ones go on if what their peer
    /// showed is still acceptable. Small files are read on the calling thread.
    ///
    /// # Errors
    /// [`identity::Error`]; then everything stays as it was.
    pub fn reload(&self) -> Result<(), identity::Error> {
        let identity = Arc::new(Identity::load(&self.0.identity)?);
        self.0.replace(|config| Config {
            identity,
            peers: Arc::clone(&config.peers),
        });
        Ok(())
    }

    /// Replaces the configured peers. Links with those that are gone are closed.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        let peers = Arc::new(Peers::new(peers));
        self.0.replace(|config| Config {
            identity: Arc::clone(&config.identity),
            peers,
        });
    }
}
