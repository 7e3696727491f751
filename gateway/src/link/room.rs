//! The room's loop: it decides who is linked, and starts and ends the tasks that dial, accept and watch.

use super::accept::{self, Caller, Door};
use super::dial::{Dialler, Wanted};
use super::local::Local;
use super::roster::{Admission, Roster};
use super::{Error, Event, Handle, Link, Options, PeerConfig, Reason, VERSIONS, carried, fault};
use quinn::{Incoming, VarInt};
use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

/// How often live sessions are checked again: expired certificates and removed peers are cut within this time.
const RECHECK_EVERY: Duration = Duration::from_secs(60);

/// How often a link is asked whether anything was heard.
const LISTEN_EVERY: Duration = Duration::from_millis(250);

/// After so many times without anything heard, one second in all, a new session is dialled. Counted in looks, not
/// in time, so that a stall of our own process is not taken for silence of the peer.
const QUIET_LOOKS: u32 = 4;

/// How long the peers get to hear that we leave.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// The room: owns the socket, dials, accepts, and keeps one link for each peer.
pub struct Links {
    pub(super) local: Arc<Local>,
    /// Where links may go over TCP, and peers can dial us.
    listener: Option<TcpListener>,
    events: mpsc::Sender<Event>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    roster: Roster,
    diallers: Vec<DialControl>,
    door: Door,
    tasks: JoinSet<()>,
}

/// What the parts of the room tell it.
pub(super) enum News {
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
    Call(TcpStream, SocketAddr),
    Recheck,
    Reconfigured,
    Reaped(Result<(), JoinError>),
}

struct DialControl {
    peer: PeerConfig,
    wanted: watch::Sender<Wanted>,
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

    pub(super) fn speaking(
        options: Options,
        versions: RangeInclusive<u16>,
    ) -> Result<(Links, mpsc::Receiver<Event>), Error> {
        let is_dialled = options.listen.is_some();
        let local = Arc::new(Local::open(options, versions)?);
        let listener = (local.tcp && is_dialled).then(|| listen(&local)).transpose()?;
        let (events, received) = mpsc::channel(64);
        let links = Links {
            local,
            listener,
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
                Some(outcome) = self.tasks.join_next() => Next::Reaped(outcome),
                incoming = self.local.endpoint.accept() => Next::Attempt(incoming),
                (stream, address) = carried::accept(self.listener.as_ref()) => Next::Call(stream, address),
            };
            match next {
                Next::Stop => break,
                Next::News(news) => self.hear(news).await,
                Next::Attempt(Some(incoming)) => self.attempt(incoming),
                Next::Attempt(None) => return Err(Error::EndpointLost),
                Next::Call(stream, address) => self.call(stream, address),
                Next::Recheck => self.recheck(),
                Next::Reconfigured => self.reconfigure(),
                Next::Reaped(outcome) => self.reaped(outcome),
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
                tell_of(&link);
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
            self.receive(Caller::Udp(incoming), permit);
        }
    }

    /// Where there is no room for another handshake, the connection is closed: peers try again.
    fn call(&mut self, stream: TcpStream, address: SocketAddr) {
        if let Some(permit) = self.door.room() {
            self.receive(Caller::Tcp(stream, address), permit);
        }
    }

    fn receive(&mut self, caller: Caller, permit: OwnedSemaphorePermit) {
        let news = self.news.0.clone();
        self.tasks
            .spawn(accept::receive(Arc::clone(&self.local), caller, permit, news));
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

    /// A task that ended by a panic must not leave a peer undialled.
    fn reaped(&mut self, outcome: Result<(), JoinError>) {
        if let Err(error) = outcome
            && error.is_panic()
        {
            tracing::error!(%error, "a task of the tunnel panicked");
            self.diallers.retain(|dialler| !dialler.task.is_finished());
            self.reconfigure();
        }
    }

    fn start_dialler(&mut self, peer: PeerConfig) {
        let (wanted, wanted_here) = watch::channel(Wanted::Nothing);
        let dialler = Dialler {
            local: Arc::clone(&self.local),
            peer: peer.clone(),
            wanted: wanted_here,
            news: self.news.0.clone(),
        };
        let task = self.tasks.spawn(dialler.run());
        self.diallers.push(DialControl { peer, wanted, task });
    }

    /// Tells each dialler what is wanted: a session where none of the peer's gateways is heard, one over UDP where
    /// there is one over TCP.
    fn want(&self) {
        for dialler in &self.diallers {
            let gateways = &dialler.peer.gateways;
            let wished = if !gateways.iter().any(|gateway| self.roster.is_served(gateway)) {
                Wanted::Session
            } else if gateways.iter().any(|gateway| self.roster.is_carried(gateway)) {
                Wanted::Udp
            } else {
                Wanted::Nothing
            };
            let is_new = |wanted: &mut Wanted| std::mem::replace(wanted, wished) != wished;
            dialler.wanted.send_if_modified(is_new);
        }
    }

    fn publish(&self) {
        *self.local.links.write() = self.roster.links().cloned().collect();
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await; // nobody wants to know any more
    }

    async fn leave(mut self) {
        const WHY: &str = "the gateway stops";
        self.tasks.abort_all();
        self.local
            .endpoint
            .close(VarInt::from_u32(fault::code::CLOSED), WHY.as_bytes());
        // Those over TCP have endpoints of their own.
        let carried: Vec<&Link> = self.roster.links().filter(|link| link.is_carried()).collect();
        carried.iter().for_each(|link| link.close(WHY));
        let farewell = async {
            self.local.endpoint.wait_idle().await;
            for link in carried {
                link.path_ended().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL_MAX, farewell).await;
    }
}

fn listen(local: &Local) -> Result<TcpListener, Error> {
    let failed = |address| {
        move |cause| Error::Bind {
            protocol: "TCP",
            address,
            cause,
        }
    };
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = local.endpoint.local_addr().map_err(failed(unknown))?;
    carried::listen(address).map_err(failed(address))
}

/// Says in the log that there is a link.
fn tell_of(link: &Link) {
    let peer = link.peer();
    if link.is_carried() {
        tracing::warn!(
            peer = %peer.gateway, site = %peer.site, address = %peer.address,
            "[CULVERT-L011] link up over TCP: UDP does not pass"
        );
    } else {
        tracing::info!(peer = %peer.gateway, site = %peer.site, address = %peer.address, "link up");
    }
}

/// Says in the log who was not let in. Anybody can send datagrams, and a peer may die while it is let in; only who has a
/// certificate or speaks to us as a peer would is worth a warning.
fn turned_away(address: SocketAddr, reason: &Reason) {
    match reason {
        Reason::Protocol { .. }
        | Reason::Silent
        | Reason::Cut { .. }
        | Reason::Restarted
        | Reason::Closed { .. }
        | Reason::Superseded => {
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
