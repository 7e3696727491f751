//! Where routes, links and streams meet: the tables of one gateway, shared by the legs of the path.
//!
//! The tables say who is where; what happens to a record is said in [`super::intake`], [`super::transit`] and
//! [`super::delivery`]. Locks are held for look-ups only, never while something is awaited.

use super::delivery::Delivery;
use super::intake::OriginStream;
use super::letters::Letters;
use super::prove::Proofs;
use super::schema::Ledger;
use super::transit::{RelayQueue, Sending, Turns};
use crate::identity::Name;
use crate::link::Link;
use crate::outbox::{self, Outbox};
use culvert_proto::StreamId;
use culvert_proto::message::{Fault, Message, Start, TopicFilter};
use culvert_proto::schema::Fingerprint;
use culvert_proto::stream::RouteId;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// How many control messages may wait for one link. A peer that lets more pile up does not read, and is cut off.
const POSTS_MAX: usize = 16 * 1024;

/// The tables of one gateway.
pub struct Exchange {
    /// This gateway's site.
    pub site: Arc<str>,
    /// Its durable queues.
    pub outbox: Outbox,
    /// What peers may read and carry.
    pub grants: Grants,
    /// The schemas that frames on their way name.
    pub schemas: Arc<Ledger>,
    /// Questions about digests that wait for their answer.
    pub proofs: Proofs,
    /// For work that threads hand to the links.
    pub runtime: Handle,
    tables: RwLock<Tables>,
    halts: Mutex<BTreeMap<(StreamId, Option<RouteId>), Fault>>,
}

#[derive(Default)]
struct Tables {
    outlets: BTreeMap<Name, Outlet>,
    routes: BTreeMap<RouteId, Route>,
    streams: BTreeMap<StreamId, Arc<OriginStream>>,
    queues: BTreeMap<(RouteId, StreamId), Arc<RelayQueue>>,
    sendings: HashMap<(RouteId, StreamId), Arc<Sending>>,
    deliveries: BTreeMap<RouteId, Arc<Delivery>>,
    letters: Vec<Arc<Letters>>,
}

impl Tables {
    fn is_present(&self, outlet: &Outlet) -> bool {
        let present = self.outlets.get(&outlet.link.peer().gateway);
        present.is_some_and(|present| present.is(outlet))
    }
}

/// A route that passes through this gateway.
#[derive(Clone)]
pub struct Route {
    /// Its name.
    pub id: RouteId,
    /// The site whose topics it reads.
    pub origin: Arc<str>,
    /// Which topics.
    pub topics: Arc<Topics>,
    /// Where streams begin that the sink never held.
    pub start: Start,
    /// Of the positions the route stores.
    pub incarnation: u32,
    /// What this gateway is on it.
    pub role: Role,
    /// The link towards the sink, while the route is registered over it in this session.
    pub downstream: Option<Outlet>,
}

/// What a gateway is on a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its site owns the topics.
    Origin,
    /// It stores and forwards.
    Relay,
    /// Its site owns the sink; frames come from the site named here.
    Sink {
        /// The next hop towards the origin: the relay's site, or the origin's own.
        upstream: Arc<str>,
    },
}

/// Which topics a route reads, ready to be asked.
pub struct Topics {
    filter: TopicFilter,
    pattern: Option<regex::Regex>,
}

impl Topics {
    /// Prepares a filter.
    ///
    /// # Errors
    /// When the pattern is not a regular expression, or one of more than 1 MiB when compiled.
    pub fn new(filter: TopicFilter) -> Result<Topics, regex::Error> {
        let whole = |pattern: &String| format!("^(?:{pattern})$");
        let build = |pattern: String| regex::RegexBuilder::new(&pattern).size_limit(1 << 20).build();
        let pattern = filter.pattern.as_ref().map(whole).map(build).transpose()?;
        Ok(Topics { filter, pattern })
    }

    /// Whether the route reads `topic`.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.filter.names.iter().any(|name| &**name == topic)
            || self
                .pattern
                .as_ref()
                .is_some_and(|pattern| pattern.is_match(topic))
    }

    /// As it is written in a registration.
    #[must_use]
    pub fn filter(&self) -> &TopicFilter {
        &self.filter
    }
}

/// A link and the messages that wait to be written to it, in order.
#[derive(Clone)]
pub struct Outlet {
    /// The session.
    pub link: Link,
    /// Since when.
    pub since: Instant,
    posts: mpsc::Sender<Message>,
    /// Those that were sent in this session.
    schemas: Arc<Mutex<HashSet<Fingerprint>>>,
    /// Whose turn it is to hand over a frame.
    pub(super) turns: Arc<Turns>,
}

impl Outlet {
    /// An outlet, and the end its writer reads.
    #[must_use]
    pub fn new(link: Link) -> (Outlet, mpsc::Receiver<Message>) {
        let (posts, waiting) = mpsc::channel(POSTS_MAX);
        (
            Outlet {
                link,
                since: Instant::now(),
                posts,
                schemas: Arc::default(),
                turns: Arc::default(),
            },
            waiting,
        )
    }

    /// Queues a message. Never waits: threads call it too. A message for a link that ended is dropped; the next
    /// session begins with what its peer needs to know.
    pub fn post(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.posts.try_send(message) {
            self.link.close("control messages are not read");
        }
    }

    /// Sends those of these schemas that were not sent in this session. Answers whether all are known here: a frame that
    /// names one which is not must not be sent.
    #[must_use]
    pub fn tell_schemas(&self, ledger: &Ledger, named: &[Fingerprint]) -> bool {
        let mut sent = self.schemas.lock();
        named.iter().all(|fingerprint| {
            if sent.contains(fingerprint) {
                return true;
            }
            let Some(schema) = ledger.get(fingerprint) else {
                return false;
            };
            let schema = (*schema).clone();
            self.post(Message::Schema { schema });
            sent.insert(*fingerprint)
        })
    }

    /// The peer's site.
    #[must_use]
    pub fn site(&self) -> &Arc<str> {
        &self.link.peer().site
    }

    /// Whether this is the same session.
    #[must_use]
    pub fn is(&self, other: &Outlet) -> bool {
        self.posts.same_channel(&other.posts)
    }
}

/// What peers may read, and what this gateway carries for others.
#[derive(Clone, Default)]
pub struct Grants {
    /// Sites that may read topics of ours.
    pub read: Vec<ReadGrant>,
    /// Pairs of sites between which this gateway relays.
    pub relay: Vec<RelayGrant>,
}

/// A site may read topics of ours.
#[derive(Clone)]
pub struct ReadGrant {
    /// The sink's site.
    pub to: Arc<str>,
    /// Whether a topic is among those granted.
    pub covers: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Sites that may carry them there; the reader itself always may.
    pub via: Vec<Arc<str>>,
}

/// This gateway carries streams between two sites.
#[derive(Clone, Debug)]
pub struct RelayGrant {
    /// The origin's site.
    pub from: Arc<str>,
    /// The sink's site.
    pub to: Arc<str>,
}

impl Grants {
    /// Whether `reader` may read `topic` of ours over a link to `hop`.
    #[must_use]
    pub fn may_read(&self, reader: &str, hop: &str, topic: &str) -> bool {
        self.read.iter().any(|grant| {
            let carried = hop == reader || grant.via.iter().any(|via| &**via == hop);
            &*grant.to == reader && carried && (grant.covers)(topic)
        })
    }

    /// Whether anything at all is granted to `reader` over `hop`.
    #[must_use]
    pub fn knows(&self, reader: &str, hop: &str) -> bool {
        let carried = |grant: &ReadGrant| hop == reader || grant.via.iter().any(|via| &**via == hop);
        self.read
            .iter()
            .any(|grant| &*grant.to == reader && carried(grant))
    }

    /// Whether this gateway relays from `origin` to `sink`.
    #[must_use]
    pub fn relays(&self, origin: &str, sink: &str) -> bool {
        self.relay
            .iter()
            .any(|grant| &*grant.from == origin && &*grant.to == sink)
    }
}

impl Exchange {
    /// Empty tables.
    #[must_use]
    pub fn new(site: Arc<str>, outbox: Outbox, grants: Grants, runtime: Handle) -> Exchange {
        Exchange {
            site,
            schemas: Arc::new(Ledger::open(outbox.clone())),
            outbox,
            grants,
            proofs: Proofs::default(),
            runtime,
            tables: RwLock::default(),
            halts: Mutex::default(),
        }
    }

    // ----- links -------------------------------------------------------------------------------------------------

    /// A session began; it takes the place of an earlier one with the same gateway. What `first` makes of the routes is
    /// posted before anybody else can post to it: a peer takes no word of a route that is not registered over the
    /// session.
    ///
    /// Sessions must come here in the order in which they began, or an earlier one takes the place of its successor.
    pub fn link_up(&self, outlet: &Outlet, first: impl Fn(&Route) -> Option<Message>) {
        let gateway = outlet.link.peer().gateway.clone();
        let mut tables = self.tables.write();
        let registrations: Vec<Message> = tables.routes.values().filter_map(first).collect();
        registrations.into_iter().for_each(|message| outlet.post(message));
        tables.outlets.insert(gateway, outlet.clone());
    }

    /// Whether no other session has taken the place of this one.
    #[must_use]
    pub fn is_present(&self, outlet: &Outlet) -> bool {
        self.tables.read().is_present(outlet)
    }

    /// A session ended. Routes registered over it wait for the next.
    pub fn link_down(&self, outlet: &Outlet) {
        let mut tables = self.tables.write();
        let gateway = &outlet.link.peer().gateway;
        if tables
            .outlets
            .get(gateway)
            .is_some_and(|present| present.is(outlet))
        {
            tables.outlets.remove(gateway);
        }
        for route in tables.routes.values_mut() {
            route.downstream.take_if(|downstream| downstream.is(outlet));
        }
    }

    /// The sessions with gateways of `site`.
    #[must_use]
    pub fn outlets(&self, site: &str) -> Vec<Outlet> {
        self.tables
            .read()
            .outlets
            .values()
            .filter(|outlet| &**outlet.site() == site)
            .cloned()
            .collect()
    }

    /// All sessions.
    #[must_use]
    pub fn all_outlets(&self) -> Vec<Outlet> {
        self.tables.read().outlets.values().cloned().collect()
    }

    // ----- routes ------------------------------------------------------------------------------------------------

    /// Adds a route or takes over its new registration; not one that came over a session that is over. Says whether it
    /// did.
    pub fn put_route(&self, route: Route) -> bool {
        let mut tables = self.tables.write();
        let is_over = |outlet: &Outlet| !tables.is_present(outlet);
        if route.downstream.as_ref().is_some_and(is_over) {
            return false;
        }
        tables.routes.insert(route.id.clone(), route);
        true
    }

    /// A route by name.
    #[must_use]
    pub fn route(&self, id: &RouteId) -> Option<Route> {
        self.tables.read().routes.get(id).cloned()
    }

    /// All routes.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        self.tables.read().routes.values().cloned().collect()
    }

    /// The sink of a route that ends here.
    #[must_use]
    pub fn delivery(&self, id: &RouteId) -> Option<Arc<Delivery>> {
        self.tables.read().deliveries.get(id).cloned()
    }

    /// All sinks.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Arc<Delivery>> {
        self.tables.read().deliveries.values().cloned().collect()
    }

    /// Adds a sink.
    pub fn put_delivery(&self, delivery: Arc<Delivery>) {
        self.tables
            .write()
            .deliveries
            .insert(delivery.route.clone(), delivery);
    }

    /// Who writes the dead letters of a stream of this site, if somebody does.
    #[must_use]
    pub fn letters_of(&self, stream: &StreamId) -> Option<Arc<Letters>> {
        let tables = self.tables.read();
        tables
            .letters
            .iter()
            .find(|letters| letters.covers(stream))
            .cloned()
    }

    /// All writers of dead letters.
    #[must_use]
    pub fn all_letters(&self) -> Vec<Arc<Letters>> {
        self.tables.read().letters.clone()
    }

    /// Adds a writer of dead letters. Streams that were opened before do not know it.
    pub fn put_letters(&self, letters: Arc<Letters>) {
        self.tables.write().letters.push(letters);
    }

    // ----- streams -----------------------------------------------------------------------------------------------

    /// A stream of this site.
    #[must_use]
    pub fn stream(&self, id: &StreamId) -> Option<Arc<OriginStream>> {
        self.tables.read().streams.get(id).cloned()
    }

    /// All streams of this site that this gateway knows.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<OriginStream>> {
        self.tables.read().streams.values().cloned().collect()
    }

    /// Adds a stream of this site; answers the one that is there if it is known already.
    pub fn put_stream(&self, stream: Arc<OriginStream>) -> Arc<OriginStream> {
        self.tables
            .write()
            .streams
            .entry(stream.id.clone())
            .or_insert(stream)
            .clone()
    }

    /// The relay's queue of a stream on its way to a route, made when it is first needed.
    ///
    /// # Errors
    /// Those of opening its lane.
    pub fn queue(&self, route: &RouteId, stream: &StreamId) -> Result<Arc<RelayQueue>, outbox::Error> {
        let key = (route.clone(), stream.clone());
        if let Some(queue) = self.tables.read().queues.get(&key) {
            return Ok(queue.clone());
        }
        let queue = Arc::new(RelayQueue::open(&self.outbox, route, stream)?);
        Ok(self.tables.write().queues.entry(key).or_insert(queue).clone())
    }

    /// All relay queues of one route.
    #[must_use]
    pub fn queues(&self, route: &RouteId) -> Vec<Arc<RelayQueue>> {
        let tables = self.tables.read();
        tables
            .queues
            .values()
            .filter(|queue| &queue.route == route)
            .cloned()
            .collect()
    }

    /// The lane on which a stream is sent towards the sink of a route, in the present session.
    #[must_use]
    pub fn sending(&self, route: &RouteId, stream: &StreamId) -> Option<Arc<Sending>> {
        self.tables
            .read()
            .sendings
            .get(&(route.clone(), stream.clone()))
            .cloned()
    }

    /// Notes the lane of a stream in the session over which its route is registered; the one of an earlier session ends
    /// by itself. Says whether it did: not where that session has one already, or is not this one any more.
    pub fn put_sending(&self, sending: &Arc<Sending>) -> bool {
        let key = (sending.route.clone(), sending.stream.clone());
        let outlet = sending.outlet();
        let mut tables = self.tables.write();
        let route = tables.routes.get(&sending.route);
        let registered = route.and_then(|route| route.downstream.as_ref());
        let is_known = tables
            .sendings
            .get(&key)
            .is_some_and(|present| present.outlet().is(outlet));
        if is_known || !registered.is_some_and(|registered| registered.is(outlet)) {
            return false;
        }
        tables.sendings.insert(key, sending.clone());
        true
    }

    /// What is due on a lane may have changed.
    pub fn wake(&self, route: &RouteId, stream: &StreamId) {
        if let Some(sending) = self.sending(route, stream) {
            sending.wake();
        }
    }

    // ----- halts -------------------------------------------------------------------------------------------------

    /// A stream stands still, for one route or for all.
    pub fn halted(&self, stream: &StreamId, route: Option<&RouteId>, fault: Fault) {
        tracing::error!(%stream, route = ?route, code = %fault.code, reason = %fault.reason, "stream halted");
        self.halts.lock().insert((stream.clone(), route.cloned()), fault);
    }

    /// A stream goes on.
    pub fn resumed(&self, stream: &StreamId, route: Option<&RouteId>) {
        self.halts.lock().remove(&(stream.clone(), route.cloned()));
    }

    /// Why a stream stands still, if it does.
    #[must_use]
    pub fn halt_of(&self, stream: &StreamId, route: &RouteId) -> Option<Fault> {
        let halts = self.halts.lock();
        let own = halts.get(&(stream.clone(), Some(route.clone())));
        own.or_else(|| halts.get(&(stream.clone(), None))).cloned()
    }

    /// Positions of this stream go to every gateway of the site they come from.
    pub fn post_to_site(&self, site: &str, message: &Message) {
        for outlet in self.outlets(site) {
            outlet.post(message.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_names_reader_topic_and_carrier() {
        let grant = ReadGrant {
            to: "plant".into(),
            covers: Arc::new(|topic| topic == "orders"),
            via: vec!["relay".into()],
        };
        let grants = Grants {
            read: vec![grant],
            relay: vec![RelayGrant {
                from: "a".into(),
                to: "c".into(),
            }],
        };
        assert!(grants.may_read("plant", "plant", "orders"));
        assert!(grants.may_read("plant", "relay", "orders"));
        assert!(
            !grants.may_read("plant", "other", "orders"),
            "an unnamed site may not carry it"
        );
        assert!(!grants.may_read("plant", "relay", "payments"));
        assert!(
            !grants.may_read("relay", "relay", "orders"),
            "who carries may not read for itself"
        );
        assert!(grants.relays("a", "c") && !grants.relays("c", "a"));
    }
}
