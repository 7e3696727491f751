//! The second leg: from an outbox over a link to the next gateway.
//!
//! - [`serve`] runs one session: it says which routes end here, reads control messages and takes in lanes.
//! - [`handle`] is the whole conversation, one arm a message.
//! - [`Sending`] is a stream on its way to the next hop, [`receive_lane`] its arrival, [`RelayQueue`] what a relay
//!   holds in between.
//!
//! Constraints:
//! - Nothing is sent that is not on disk (A2); a relay's queue is durable like an origin's (B1).
//! - What may wait for a stream on either side is bounded by credit, counted in bytes since its lane was opened. A
//!   stream that takes nothing stops no other.
//! - A wish (`Want`) says where to send from. It never means that anything was delivered (A4).

#[cfg(test)]
mod tests;
mod turns;

pub(super) use turns::Turns;

use super::delivery::Delivery;
use super::exchange::{Exchange, Outlet, Role, Route, Topics};
use super::intake::OriginStream;
use super::prove::Question;
use super::schema::{Ledger, NotHeld};
use crate::identity::Name;
use crate::link::{LaneReceiver, Link};
use crate::observe::metrics;
use crate::outbox::{self, Extent, Lane, Outbox};
use bytes::Bytes;
use culvert_proto::frame::{self, Frame};
use culvert_proto::message::{Fault, LaneHeader, Message, Priority, Start, TopicFilter};
use culvert_proto::queue::{self, Queue};
use culvert_proto::schema::Schema;
use culvert_proto::stream::RouteId;
use culvert_proto::{Interval, Sequence, StreamId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Notify, mpsc};

/// How many bytes of frames may be on their way or wait at the receiver, for each stream. 4 MiB keep 300 Mbit/s busy
/// at 100 ms of round trip; fifty streams that all stand still cost 200 MB at most.
const CREDIT_WINDOW: u64 = 4 * 1024 * 1024;

/// How much is read from the outbox at a time.
const READ_BYTES: usize = 1024 * 1024;

/// Why a session or a lane ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The link ended.
    #[error(transparent)]
    Link(#[from] crate::link::Fault),
    /// The outbox refused.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
    /// The peer sent bytes that are no frame.
    #[error("frame from the peer: {0}")]
    Malformed(#[from] culvert_proto::wire::Malformed),
    /// A frame in the outbox names a schema that is not held.
    #[error("a frame names a schema that is not held here")]
    SchemaLost,
    /// The peer did what it may not do.
    #[error("peer overstepped: {0}")]
    Overstepped(String),
}

// ----- the session -----------------------------------------------------------------------------------------------

/// Takes a session up, in the order of the calls, and runs it until it ends.
pub fn serve(exchange: Arc<Exchange>, link: Link) -> impl Future<Output = ()> + Send {
    let (outlet, posts) = Outlet::new(link);
    exchange.link_up(&outlet, |route| upstream_registration(route, &outlet));
    run_session(exchange, outlet, posts)
}

async fn run_session(exchange: Arc<Exchange>, outlet: Outlet, posts: mpsc::Receiver<Message>) {
    let link = outlet.link.clone();
    let writer = tokio::spawn(write_posts(link.clone(), posts));
    let acceptor = tokio::spawn(accept_lanes(exchange.clone(), outlet.clone()));
    let reason = loop {
        match link.recv().await {
            Ok(message) => {
                if let Err(error) = handle(&exchange, &outlet, message) {
                    tracing::error!(peer = %link.peer().gateway, %error, "session ended by an error of the peer");
                    link.close(&error.to_string());
                    break error.to_string();
                }
            }
            Err(error) => break error.to_string(),
        }
    };
    tracing::info!(peer = %link.peer().gateway, %reason, "link down");
    writer.abort();
    acceptor.abort();
    exchange.link_down(&outlet);
    unlink_routes(&exchange, &outlet);
}

async fn write_posts(link: Link, mut posts: mpsc::Receiver<Message>) {
    while let Some(message) = posts.recv().await {
        match link.send(&message).await {
            Ok(()) => {}
            // This one alone cannot be said; what stands behind it can.
            Err(fault @ crate::link::Fault::Unspeakable(_)) => {
                tracing::error!(peer = %link.peer().gateway, %fault, "control message not sent");
            }
            Err(_) => return,
        }
    }
}

/// The registration of a route that this gateway wants to be served over a session: its own, or one that it relays.
fn upstream_registration(route: &Route, outlet: &Outlet) -> Option<Message> {
    let upstream = match &route.role {
        Role::Sink { upstream } => upstream,
        Role::Relay => &route.origin,
        Role::Origin => return None,
    };
    (upstream == outlet.site()).then(|| registration(route))
}

/// A route as it is registered.
#[must_use]
pub fn registration(route: &Route) -> Message {
    Message::Register {
        route: route.id.clone(),
        origin: route.origin.clone(),
        topics: route.topics.filter().clone(),
        start: route.start,
        incarnation: route.incarnation,
    }
}

/// The streams of routes that were served over this session can no longer be sent.
fn unlink_routes(exchange: &Exchange, outlet: &Outlet) {
    for route in exchange
        .routes()
        .into_iter()
        .filter(|route| route.downstream.is_none())
    {
        match route.role {
            Role::Origin => exchange
                .streams()
                .iter()
                .for_each(|stream| stream.unlinked(&route.id, outlet)),
            Role::Relay => exchange
                .queues(&route.id)
                .iter()
                .for_each(|queue| queue.unlinked(outlet)),
            Role::Sink { .. } => {}
        }
    }
}

// ----- the conversation ------------------------------------------------------------------------------------------

/// Does what one control message asks for.
///
/// # Errors
/// [`Error::Overstepped`] when the peer may not say this, which ends the session; faults of the outbox.
pub fn handle(exchange: &Arc<Exchange>, outlet: &Outlet, message: Message) -> Result<(), Error> {
    if !exchange.is_present(outlet) {
        // Its successor was told all that it needs; an older wish or offer must not win over a newer one.
        return Ok(());
    }
    match message {
        Message::Hello { .. } => Err(Error::Overstepped("a second hello".into())),
        Message::Register {
            route,
            origin,
            topics,
            start,
            incarnation,
        } => register(exchange, outlet, &route, origin, topics, start, incarnation),
        Message::Registered { route } => {
            tracing::info!(%route, peer = %outlet.link.peer().gateway, "route registered");
            Ok(())
        }
        Message::Refused { route, fault } => {
            refused(exchange, &route, &fault);
            Ok(())
        }
        Message::Forget { route } => forget(exchange, outlet, &route),

        Message::Offer {
            route,
            stream,
            held,
            applied,
        } => {
            match bound_for(exchange, outlet, &route, &stream)? {
                Towards::Sink(delivery) => delivery.offered(outlet, &stream, held),
                Towards::Relay(queue) => queue.offered(outlet, held, applied),
            }
            Ok(())
        }
        Message::Want { route, stream, at } => {
            let sending = sending_of(exchange, outlet, &route, &stream)?;
            sending.map_or(Ok(()), |sending| sending.want(at))
        }
        Message::Credit { route, stream, bytes } => {
            if let Some(sending) = sending_of(exchange, outlet, &route, &stream)? {
                sending.credit(bytes);
            }
            Ok(())
        }

        Message::PriorityIs {
            route,
            stream,
            priority,
        } => {
            // A sink sends nothing on.
            if let Towards::Relay(queue) = bound_for(exchange, outlet, &route, &stream)? {
                *queue.priority.lock() = Some(priority);
                exchange.wake(&route, &stream);
            }
            Ok(())
        }

        Message::PositionIs {
            ref route,
            ref stream,
            writer,
            ref position,
        } => {
            match downstream_role(exchange, outlet, route)? {
                Some(Role::Origin) => {
                    if let Some(origin) = exchange.stream(stream) {
                        origin.act(|machine| machine.position(route, writer, position.clone()));
                    }
                    exchange.wake(route, stream);
                }
                Some(_) => {
                    exchange.queue(route, stream)?.position(exchange, position.at)?;
                    exchange.post_to_site(&stream.site, &message);
                }
                None => {}
            }
            Ok(())
        }
        Message::Answer {
            nonce,
            ref route,
            writer,
            ref positions,
        } => {
            match downstream_role(exchange, outlet, route)? {
                Some(Role::Origin) => {
                    for (stream, position) in positions {
                        if let Some(origin) = exchange.stream(stream) {
                            origin.act(|machine| machine.answer(route, nonce, writer, position.clone()));
                        }
                        exchange.wake(route, stream);
                    }
                }
                Some(_) => {
                    for (stream, position) in positions {
                        if let Some(position) = position {
                            exchange.queue(route, stream)?.position(exchange, position.at)?;
                        }
                    }
                    if let Some(relayed) = exchange.route(route) {
                        exchange.post_to_site(&relayed.origin, &message);
                    }
                }
                None => {}
            }
            Ok(())
        }
        Message::Ask {
            nonce,
            ref route,
            ref streams,
        } => {
            for stream in streams {
                must_own(outlet, exchange, route, stream)?;
            }
            match exchange.delivery(route) {
                Some(delivery) => delivery.ask(outlet, nonce, streams),
                None => forward_downstream(exchange, route, &message),
            }
            Ok(())
        }
        Message::Begin {
            nonce,
            ref route,
            ref stream,
            start,
            guard,
        } => {
            must_own(outlet, exchange, route, stream)?;
            match exchange.delivery(route) {
                Some(delivery) => delivery.begin(outlet, nonce, stream, start, guard),
                None => forward_downstream(exchange, route, &message),
            }
            Ok(())
        }

        Message::Halted {
            ref route,
            ref stream,
            ref fault,
        } => {
            // Whoever looks at any gateway on the way is to see it, so a relay passes it on to the other side.
            let from_sink = matches!(downstream_role(exchange, outlet, route), Ok(Some(_)));
            if !from_sink {
                must_own(outlet, exchange, route, stream)?;
            }
            exchange.halted(stream, Some(route), fault.clone());
            match exchange.route(route).map(|route| route.role) {
                Some(Role::Relay) if from_sink => exchange.post_to_site(&stream.site, &message),
                Some(Role::Relay) => forward_downstream(exchange, route, &message),
                _ => {}
            }
            Ok(())
        }
        Message::DigestAsk {
            nonce,
            ref route,
            ref stream,
            interval,
            block_records,
            ref without_ids,
        } => {
            match downstream_role(exchange, outlet, route)? {
                Some(Role::Origin) => {
                    let question = Question {
                        route,
                        stream,
                        interval,
                        block_records,
                        without_ids,
                    };
                    super::prove::answer(exchange, outlet, nonce, &question);
                }
                Some(_) => exchange.post_to_site(&stream.site, &message),
                None => {}
            }
            Ok(())
        }
        Message::StatementAsk {
            nonce,
            ref route,
            ref stream,
            before,
        } => {
            match downstream_role(exchange, outlet, route)? {
                Some(Role::Origin) => exchange.proofs.want_statement(nonce, before),
                Some(_) => exchange.post_to_site(&stream.site, &message),
                None => {}
            }
            Ok(())
        }
        Message::Schema { schema } => take_schema(exchange, outlet, schema),
        Message::DigestAnswer { nonce, ref route, .. } | Message::Statement { nonce, ref route, .. } => {
            match exchange.delivery(route) {
                Some(_) => exchange.proofs.answered(nonce, message.clone()),
                None => forward_downstream(exchange, route, &message),
            }
            Ok(())
        }
    }
}

/// A schema that frames to come name. Only from a side on which an origin lies.
fn take_schema(exchange: &Exchange, outlet: &Outlet, schema: Schema) -> Result<(), Error> {
    let is_upstream = |route: &Route| match &route.role {
        Role::Sink { upstream } => upstream == outlet.site(),
        Role::Relay => route.origin == *outlet.site(),
        Role::Origin => false,
    };
    if !exchange.routes().iter().any(is_upstream) {
        return Err(Error::Overstepped(
            "a schema from a site of which nothing is read".into(),
        ));
    }
    match exchange.schemas.put(schema) {
        Ok(_) => Ok(()),
        Err(NotHeld::Outbox(error)) => Err(error.into()),
        Err(NotHeld::Malformed(error)) => Err(error.into()),
        Err(fault @ NotHeld::TooMany) => Err(Error::Overstepped(fault.to_string())),
    }
}

/// A peer asks to be sent the topics of a route: at their origin, or at a relay on the way there.
fn register(
    exchange: &Arc<Exchange>,
    outlet: &Outlet,
    id: &RouteId,
    origin: Arc<str>,
    filter: TopicFilter,
    start: Start,
    incarnation: u32,
) -> Result<(), Error> {
    let (reader, hop) = (id.site().to_owned(), outlet.site().clone());
    let refuse = |code: &str, reason: String| {
        tracing::warn!(route = %id, peer = %hop, code, reason, "route refused");
        outlet.post(Message::Refused {
            route: id.clone(),
            fault: Fault {
                code: code.into(),
                reason,
            },
        });
        Ok(())
    };
    let role = if origin == exchange.site {
        if !exchange.grants.knows(&reader, &hop) {
            let reason = format!(
                "site {origin} grants nothing to {reader} over {hop}: add [[grant]] to = \"{reader}\" there"
            );
            return refuse("CULVERT-F001", reason);
        }
        Role::Origin
    } else if exchange.grants.relays(&origin, &reader) && *hop == *reader {
        Role::Relay
    } else {
        let here = &exchange.site;
        let reason = format!(
            "site {here} does not relay from {origin} to {reader}: add [[relay]] there, or correct culvert.via"
        );
        return refuse("CULVERT-F002", reason);
    };
    let topics = match Topics::new(filter) {
        Ok(topics) => Arc::new(topics),
        Err(error) => return refuse("CULVERT-F003", format!("topics.regex: {error}")),
    };
    let route = Route {
        id: id.clone(),
        origin,
        topics,
        start,
        incarnation,
        role,
        downstream: Some(outlet.clone()),
    };
    let is_new = remember_route(exchange, &route)?;
    if !exchange.put_route(route.clone()) {
        return Ok(());
    }
    if !is_new {
        return serve_route(exchange, outlet, &route);
    }
    for stream in exchange.streams() {
        if reads(&route, &stream) {
            stream.register(&route)?;
        }
    }
    // Nobody waits here for the disk: while it is full, the positions behind this message are what frees it (L2).
    let (exchange, outlet) = (exchange.clone(), outlet.clone());
    exchange.runtime.clone().spawn(async move {
        if exchange.outbox.synced().await.is_ok()
            && let Err(error) = serve_route(&exchange, &outlet, &route)
        {
            tracing::error!(route = %route.id, %error, "route cannot be served");
        }
    });
    Ok(())
}

/// Confirms a registration, which is stored by now, and begins to serve it over the session that it came by.
fn serve_route(exchange: &Arc<Exchange>, outlet: &Outlet, route: &Route) -> Result<(), Error> {
    let registered = exchange.route(&route.id).and_then(|route| route.downstream);
    if !registered.is_some_and(|registered| registered.is(outlet)) {
        return Ok(());
    }
    outlet.post(Message::Registered {
        route: route.id.clone(),
    });
    match route.role {
        Role::Origin => {
            for stream in exchange.streams() {
                link_stream(exchange, route, &stream)?;
            }
        }
        _ => {
            exchange.post_to_site(&route.origin, &registration(route));
            for queue in exchange.queues(&route.id) {
                send_from(exchange, outlet, Supply::Relay(queue.clone()));
                if let Some(sending) = exchange.sending(&route.id, &queue.stream) {
                    sending.offer_again();
                }
            }
        }
    }
    Ok(())
}

/// From now on nothing is freed below what this route has applied. Says whether that is still to be stored: a route that
/// is known since an earlier session is not stored again.
fn remember_route(exchange: &Exchange, route: &Route) -> Result<bool, Error> {
    let mut bytes = Vec::new();
    registration(route).encode(&mut bytes)?;
    let key = route_key(&route.id);
    let is_new = exchange.outbox.get(&key).is_none_or(|known| *known != *bytes);
    if is_new {
        exchange.outbox.put(&key, &bytes)?;
    }
    Ok(is_new)
}

fn route_key(route: &RouteId) -> Vec<u8> {
    [ROUTE_KEYS, route.0.as_bytes()].concat()
}

/// Where registrations stand in the outbox.
const ROUTE_KEYS: &[u8] = b"route/";

/// Routes registered in an earlier life of this gateway.
///
/// # Errors
/// When the outbox cannot be read or holds what is no registration.
pub fn remembered_routes(exchange: &Exchange) -> Result<(), Error> {
    for (_, value) in exchange.outbox.scan(ROUTE_KEYS) {
        let Some(Message::Register {
            route,
            origin,
            topics,
            start,
            incarnation,
        }) = Message::decode(&value)?
        else {
            continue;
        };
        let role = if origin == exchange.site {
            Role::Origin
        } else {
            Role::Relay
        };
        let Ok(topics) = Topics::new(topics) else { continue };
        let topics = Arc::new(topics);
        exchange.put_route(Route {
            id: route,
            origin,
            topics,
            start,
            incarnation,
            role,
            downstream: None,
        });
    }
    Ok(())
}

/// Joins a stream to a route that reads its topic, and begins to send if there is a way to the sink now.
///
/// # Errors
/// When the outbox cannot be read.
pub fn link_stream(exchange: &Arc<Exchange>, route: &Route, stream: &Arc<OriginStream>) -> Result<(), Error> {
    if !reads(route, stream) {
        return Ok(());
    }
    stream.register(route)?;
    let Some(outlet) = &route.downstream else {
        return Ok(());
    };
    if !exchange
        .grants
        .may_read(route.id.site(), outlet.site(), &stream.id.topic)
    {
        let (topic, reader) = (&stream.id.topic, route.id.site());
        let reason = format!(
            "topic {topic} is not granted to {reader}: add it to [[grant]] at {}",
            exchange.site
        );
        let fault = Fault {
            code: "CULVERT-F004".into(),
            reason,
        };
        outlet.post(Message::Halted {
            route: route.id.clone(),
            stream: stream.id.clone(),
            fault,
        });
        return Ok(());
    }
    stream.linked(&route.id, outlet);
    send_from(exchange, outlet, Supply::Origin(stream.clone(), route.id.clone()));
    if let Some(sending) = exchange.sending(&route.id, &stream.id) {
        sending.offer_again();
    }
    Ok(())
}

/// Whether a route reads a stream of this site.
fn reads(route: &Route, stream: &OriginStream) -> bool {
    route.role == Role::Origin && route.topics.matches(&stream.id.topic)
}

fn refused(exchange: &Exchange, route: &RouteId, fault: &Fault) {
    match exchange.delivery(route) {
        Some(delivery) => delivery.refused(fault),
        None => {
            let message = Message::Refused {
                route: route.clone(),
                fault: fault.clone(),
            };
            forward_downstream(exchange, route, &message);
        }
    }
}

fn forget(exchange: &Exchange, outlet: &Outlet, id: &RouteId) -> Result<(), Error> {
    let (Some(role), Some(route)) = (downstream_role(exchange, outlet, id)?, exchange.route(id)) else {
        return Ok(());
    };
    exchange.outbox.delete(&route_key(id))?;
    match role {
        Role::Origin => exchange
            .streams()
            .iter()
            .for_each(|stream| stream.act(|machine| machine.forget(id))),
        _ => exchange.post_to_site(&route.origin, &Message::Forget { route: id.clone() }),
    }
    Ok(())
}

fn forward_downstream(exchange: &Exchange, route: &RouteId, message: &Message) {
    if let Some(outlet) = exchange.route(route).and_then(|route| route.downstream) {
        outlet.post(message.clone());
    }
}

// ----- who may say what (S12) ------------------------------------------------------------------------------------

/// What this gateway is on the route, if this peer is its next hop towards the sink: only it may speak for the sink. None
/// where nobody has registered the route since it was refused or its session ended: what is said of it then moves
/// nothing, and is no reason to cut off the peer's other routes (L3).
fn downstream_role(exchange: &Exchange, outlet: &Outlet, id: &RouteId) -> Result<Option<Role>, Error> {
    let Some(route) = exchange.route(id) else {
        return Ok(None);
    };
    match (&route.role, &route.downstream) {
        (Role::Origin | Role::Relay, None) => Ok(None),
        (_, Some(downstream)) if downstream.is(outlet) => Ok(Some(route.role)),
        _ => Err(Error::Overstepped(format!(
            "{} speaks for route {id}, which it has not registered",
            outlet.site()
        ))),
    }
}

/// The stream must come from the side on which its origin lies.
fn must_own(outlet: &Outlet, exchange: &Exchange, id: &RouteId, stream: &StreamId) -> Result<(), Error> {
    let route = exchange
        .route(id)
        .ok_or_else(|| Error::Overstepped(format!("route {id} is not known here")))?;
    let upstream = match &route.role {
        Role::Sink { upstream } => upstream,
        _ => &route.origin,
    };
    if upstream == outlet.site() && stream.site == route.origin && route.role != Role::Origin {
        return Ok(());
    }
    Err(Error::Overstepped(format!(
        "{} speaks for stream {stream} on route {id}",
        outlet.site()
    )))
}

/// Where frames of a stream go from here.
enum Towards {
    Sink(Arc<Delivery>),
    Relay(Arc<RelayQueue>),
}

fn bound_for(
    exchange: &Exchange,
    outlet: &Outlet,
    route: &RouteId,
    stream: &StreamId,
) -> Result<Towards, Error> {
    must_own(outlet, exchange, route, stream)?;
    match exchange.delivery(route) {
        Some(delivery) => Ok(Towards::Sink(delivery)),
        None => Ok(Towards::Relay(exchange.queue(route, stream)?)),
    }
}

/// The lane the peer speaks of; none where it is of an earlier session.
fn sending_of(
    exchange: &Exchange,
    outlet: &Outlet,
    route: &RouteId,
    stream: &StreamId,
) -> Result<Option<Arc<Sending>>, Error> {
    if downstream_role(exchange, outlet, route)?.is_none() {
        return Ok(None);
    }
    Ok(exchange
        .sending(route, stream)
        .filter(|sending| sending.outlet.is(outlet)))
}

// ----- sending ---------------------------------------------------------------------------------------------------

/// A stream on its way to the next hop of a route, in one session.
pub struct Sending {
    /// The route.
    pub route: RouteId,
    /// The stream.
    pub stream: StreamId,
    outlet: Outlet,
    supply: Supply,
    schemas: Arc<Ledger>,
    credit: AtomicU64,
    /// The next hop must be told anew what is held.
    offer_due: AtomicBool,
    wake: Notify,
}

/// What is sent from: a stream of this site, or a relay's queue.
pub enum Supply {
    /// A stream of this site, for one of its routes.
    Origin(Arc<OriginStream>, RouteId),
    /// What is relayed.
    Relay(Arc<RelayQueue>),
}

impl Supply {
    fn lane(&self) -> &Lane {
        match self {
            Supply::Origin(stream, _) => &stream.lane,
            Supply::Relay(queue) => &queue.lane,
        }
    }

    fn name(&self) -> (RouteId, StreamId) {
        match self {
            Supply::Origin(stream, route) => (route.clone(), stream.id.clone()),
            Supply::Relay(queue) => (queue.route.clone(), queue.stream.clone()),
        }
    }

    fn held(&self) -> Option<Interval> {
        match self {
            Supply::Origin(stream, _) => stream.act(|machine| machine.held().map(|held| held.interval())),
            Supply::Relay(queue) => queue.held(),
        }
    }

    fn applied(&self) -> Option<Sequence> {
        match self {
            Supply::Origin(stream, route) => stream.applied(route),
            Supply::Relay(queue) => queue.machine.lock().applied(),
        }
    }

    /// How urgent it is, where that was said.
    fn priority(&self) -> Option<Priority> {
        match self {
            Supply::Origin(stream, _) => stream.priority(),
            Supply::Relay(queue) => queue.priority(),
        }
    }

    fn restarts(&self) -> u64 {
        match self {
            Supply::Origin(stream, _) => stream.restarts(),
            Supply::Relay(queue) => queue.restarts.load(Ordering::Acquire),
        }
    }

    /// Where the next hop of this session must be sent to from, if there is anything to send.
    fn next(&self, outlet: &Outlet) -> Option<Sequence> {
        match self {
            Supply::Origin(stream, route) => stream.next_to_send(route, outlet),
            Supply::Relay(queue) => queue.next(outlet),
        }
    }

    /// Whether a frame of `interval` is what is due in this session. It then counts as sent, before anything else can be
    /// heard: a wish that comes later wins.
    fn take(&self, outlet: &Outlet, interval: Interval) -> bool {
        match self {
            Supply::Origin(stream, route) => stream.take_to_send(route, outlet, interval),
            Supply::Relay(queue) => queue.take(outlet, interval),
        }
    }
}

/// Opens a lane for the supply in this session and sends on it what the next hop wants.
pub fn send_from(exchange: &Exchange, outlet: &Outlet, supply: Supply) {
    let (route, stream) = supply.name();
    let (outlet, credit, wake) = (outlet.clone(), AtomicU64::new(0), Notify::new());
    let offer_due = AtomicBool::new(false);
    let sending = Arc::new(Sending {
        route,
        stream,
        outlet,
        supply,
        schemas: exchange.schemas.clone(),
        credit,
        offer_due,
        wake,
    });
    if !exchange.put_sending(&sending) {
        return;
    }
    exchange.runtime.spawn(async move {
        if let Err(error) = sending.run().await {
            sending.ended(&error);
        }
    });
}

impl Sending {
    async fn run(&self) -> Result<(), Error> {
        let header = LaneHeader {
            route: self.route.clone(),
            stream: self.stream.clone(),
        };
        let mut lane = self.outlet.link.open_lane(&header).await?;
        let mut extents = self.supply.lane().watch();
        let (mut spent, mut offered, mut priority) = (0, None, None);
        loop {
            // Whoever reads the stream says it, or the gateway that a relay has it from: often after the lane was opened.
            let said = self.supply.priority();
            if priority != said
                && let Some(said) = said
            {
                lane.set_priority(said);
                self.tell(said);
                priority = Some(said);
            }
            let restarts = self.supply.restarts();
            if (offered != Some(restarts) || self.offer_due.swap(false, Ordering::AcqRel))
                && let Some(held) = self.supply.held()
            {
                self.offer(held);
                offered = Some(restarts);
            }
            let due = self
                .supply
                .next(&self.outlet)
                .filter(|_| spent < self.credit.load(Ordering::Acquire));
            let frames = due.map_or_else(|| Ok(Vec::new()), |at| self.read(at))?;
            if frames.is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    changed = extents.changed() => if changed.is_err() { return Ok(()) },
                    _ = self.outlet.link.closed() => return Ok(()),
                }
                continue;
            }
            for (interval, frame) in frames {
                // A wish may have come in between: what was read is then not what is due.
                if spent >= self.credit.load(Ordering::Acquire) || !self.supply.take(&self.outlet, interval) {
                    break;
                }
                if !self
                    .outlet
                    .tell_schemas(&self.schemas, frame::schemas_named(&frame)?)
                {
                    return Err(Error::SchemaLost);
                }
                spent += frame.len() as u64;
                metrics::LINK_SENT_BYTES.with(&[]).increment(frame.len() as u64);
                let _turn = self.outlet.turns.take(priority.unwrap_or_default()).await;
                lane.send(frame).await?;
            }
        }
    }

    /// Without its lane the stream stands still until the next session.
    fn ended(&self, error: &Error) {
        match error {
            Error::Link(_) => {
                tracing::debug!(stream = %self.stream, route = %self.route, %error, "lane ended");
            }
            _ => tracing::error!(stream = %self.stream, route = %self.route, %error, "lane ended"),
        }
    }

    /// Tells the next hop how urgent the stream is, for the links beyond it.
    fn tell(&self, priority: Priority) {
        let (route, stream) = (self.route.clone(), self.stream.clone());
        self.outlet.post(Message::PriorityIs {
            route,
            stream,
            priority,
        });
    }

    /// Tells the next hop what is held; it answers with where it wants to be sent from.
    fn offer(&self, held: Interval) {
        let (route, stream) = (self.route.clone(), self.stream.clone());
        let applied = self.supply.applied();
        self.outlet.post(Message::Offer {
            route,
            stream,
            held,
            applied,
        });
    }

    /// The session it is of.
    pub(super) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Frames from `at` on; most often out of the outbox's cache. None where they were freed since they were due: then
    /// something else is due, or nothing, and whoever freed them wakes us.
    fn read(&self, at: Sequence) -> Result<Vec<(Interval, Bytes)>, outbox::Error> {
        match tokio::task::block_in_place(|| self.supply.lane().read(at, READ_BYTES)) {
            Err(outbox::Error::Trimmed { .. }) => Ok(Vec::new()),
            read => read,
        }
    }

    fn want(&self, at: Sequence) -> Result<(), Error> {
        match &self.supply {
            Supply::Origin(stream, route) => stream.act(|machine| machine.want(route, at)),
            Supply::Relay(queue) => queue.want(&self.outlet, at)?,
        }
        // What was freed, the sink has: a next hop that asks for it must be told where we begin.
        if self.supply.held().is_some_and(|held| at < held.from) {
            self.offer_again();
        }
        self.wake();
        Ok(())
    }

    /// The next hop may not know what is held: tell it anew.
    fn offer_again(&self) {
        self.offer_due.store(true, Ordering::Release);
        self.wake();
    }

    /// What is due may have changed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    fn credit(&self, bytes: u64) {
        self.credit.fetch_max(bytes, Ordering::AcqRel);
        self.wake.notify_one();
    }
}

// ----- arriving --------------------------------------------------------------------------------------------------

async fn accept_lanes(exchange: Arc<Exchange>, outlet: Outlet) {
    while let Ok((header, lane)) = outlet.link.accept_lane().await {
        let (exchange, outlet) = (exchange.clone(), outlet.clone());
        tokio::spawn(async move {
            if let Err(error) = receive_lane(&exchange, &outlet, &header, lane).await {
                match error {
                    Error::Link(_) => tracing::debug!(stream = %header.stream, %error, "lane ended"),
                    _ => {
                        tracing::error!(stream = %header.stream, peer = %outlet.site(), %error, "lane refused");
                        outlet.link.close(&error.to_string());
                    }
                }
            }
        });
    }
}

/// Takes in the frames of one stream: into a relay's queue, or to the sink.
async fn receive_lane(
    exchange: &Arc<Exchange>,
    outlet: &Outlet,
    header: &LaneHeader,
    mut lane: LaneReceiver,
) -> Result<(), Error> {
    let towards = bound_for(exchange, outlet, &header.route, &header.stream)?;
    let window = Arc::new(Window::open(outlet.clone(), header.clone()));
    if let Towards::Relay(queue) = &towards
        && let Some(downstream) = exchange.route(&header.route).and_then(|route| route.downstream)
    {
        send_from(exchange, &downstream, Supply::Relay(queue.clone()));
    }
    while let Some(bytes) = lane.recv().await? {
        metrics::LINK_RECEIVED_BYTES
            .with(&[])
            .increment(bytes.len() as u64);
        let frame = Frame::decode(bytes)?;
        if !frame.is_of(&header.stream) {
            return Err(Error::Overstepped(format!(
                "a frame of another stream on the lane of {}",
                header.stream
            )));
        }
        if !exchange.schemas.holds(frame.schemas()).await {
            return Err(Error::Overstepped(
                "a frame names a schema that was not sent".into(),
            ));
        }
        match &towards {
            Towards::Sink(delivery) => delivery.frame(frame, &window),
            Towards::Relay(queue) => {
                let size = frame.bytes().len();
                queue.store(&exchange.outbox, frame, &window).await?;
                window.consumed(size);
            }
        }
    }
    Ok(())
}

/// How much the sender of one lane may still send: [`CREDIT_WINDOW`] beyond what was consumed here.
pub struct Window {
    outlet: Outlet,
    header: LaneHeader,
    progress: Mutex<Progress>,
}

struct Progress {
    consumed: u64,
    granted: u64,
    /// The wish that was last sent and not yet fulfilled, and the end of the last frame that did not fulfil it.
    gap: Option<(Sequence, Sequence)>,
    registered_again: bool,
}

impl Window {
    fn open(outlet: Outlet, header: LaneHeader) -> Window {
        let progress = Mutex::new(Progress {
            consumed: 0,
            granted: CREDIT_WINDOW,
            gap: None,
            registered_again: false,
        });
        let window = Window {
            outlet,
            header,
            progress,
        };
        window.grant(CREDIT_WINDOW);
        window
    }

    /// The stream of this lane.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.header.stream
    }

    /// `bytes` of frames need no room here any more.
    pub fn consumed(&self, bytes: usize) {
        let mut progress = self.progress.lock();
        progress.consumed += bytes as u64;
        let due = progress.consumed + CREDIT_WINDOW;
        if due - progress.granted >= CREDIT_WINDOW / 4 {
            progress.granted = due;
            drop(progress);
            self.grant(due);
        }
    }

    /// A frame of `interval` arrived that begins behind what is held: ask to be sent from `at`, once for all frames
    /// that follow each other, for they were on their way before the wish could be heard.
    pub fn want(&self, at: Sequence, interval: Interval) {
        let mut progress = self.progress.lock();
        let follows = progress.gap == Some((at, interval.from));
        progress.gap = Some((at, interval.to));
        if !follows {
            self.wish(at);
        }
    }

    /// A new writer has the sink, and says anew what it wants: what was wished and registered before is forgotten.
    pub fn taken_anew(&self) {
        let mut progress = self.progress.lock();
        progress.gap = None;
        progress.registered_again = false;
    }

    /// The sink knows nothing of a stream that its origin takes for begun: register again, once, so that it asks.
    pub fn register_again(&self, registration: impl FnOnce() -> Option<Message>) {
        let mut progress = self.progress.lock();
        if !progress.registered_again
            && let Some(registration) = registration()
        {
            progress.registered_again = true;
            self.outlet.post(registration);
        }
    }

    /// A frame arrived that could be used.
    pub fn fulfilled(&self) {
        self.progress.lock().gap = None;
    }

    fn wish(&self, at: Sequence) {
        let (route, stream) = (self.header.route.clone(), self.header.stream.clone());
        self.outlet.post(Message::Want { route, stream, at });
    }

    fn grant(&self, bytes: u64) {
        let (route, stream) = (self.header.route.clone(), self.header.stream.clone());
        self.outlet.post(Message::Credit { route, stream, bytes });
    }
}

// ----- relaying --------------------------------------------------------------------------------------------------

/// What a relay holds of one stream on its way to one route.
pub struct RelayQueue {
    /// The route.
    pub route: RouteId,
    /// The stream.
    pub stream: StreamId,
    lane: Lane,
    machine: Mutex<Queue>,
    /// Changes whenever what is held begins elsewhere: the next hop must be told.
    restarts: AtomicU64,
    /// The sessions with gateways of the origin's side that have offered what they hold of the stream.
    upstream: Mutex<BTreeMap<Name, Outlet>>,
    /// The session in which the next hop has last said what it wants; a wish is of no account in any other.
    wished_in: Mutex<Option<Outlet>>,
    /// How urgent it is, as the gateway it comes from has said. Not stored: it says so again in each session.
    priority: Mutex<Option<Priority>>,
}

impl RelayQueue {
    /// Opens the queue with what this gateway's disk remembers of it.
    ///
    /// # Errors
    /// Those of opening its lane.
    pub fn open(outbox: &Outbox, route: &RouteId, stream: &StreamId) -> Result<RelayQueue, outbox::Error> {
        let lane = outbox.lane(&lane_key(route, stream))?;
        let Extent { base, durable, .. } = lane.extent();
        let mut machine = Queue::default();
        // A queue that was empty does not know where it was: it accepts any place (B1).
        machine.restored((base < durable).then_some(queue::Held {
            base,
            durable,
            tail: durable,
        }));
        let (route, stream) = (route.clone(), stream.clone());
        Ok(RelayQueue {
            route,
            stream,
            lane,
            machine: Mutex::new(machine),
            restarts: AtomicU64::new(0),
            upstream: Mutex::default(),
            wished_in: Mutex::default(),
            priority: Mutex::default(),
        })
    }

    fn priority(&self) -> Option<Priority> {
        *self.priority.lock()
    }

    fn act<R>(&self, step: impl FnOnce(&mut Queue) -> R) -> Result<R, outbox::Error> {
        let mut machine = self.machine.lock();
        machine.durable(self.lane.extent().durable);
        let result = step(&mut machine);
        for action in machine.take_actions() {
            match action {
                queue::Action::Want(at) => self.ask_upstream(at),
                queue::Action::Trim(below) => self.lane.trim(below)?,
                queue::Action::Restart(at) => self.restart_lane(at)?,
            }
        }
        Ok(result)
    }

    /// Where it goes on is said by the next frame.
    fn restart_lane(&self, at: Sequence) -> Result<(), outbox::Error> {
        self.lane.restart(at)?;
        self.restarts.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Asks every gateway of the origin's side: which of them reads the stream now is not known here, and the others
    /// send nothing.
    fn ask_upstream(&self, at: Sequence) {
        for outlet in self.upstream.lock().values() {
            let (route, stream) = (self.route.clone(), self.stream.clone());
            outlet.post(Message::Want { route, stream, at });
        }
    }

    fn offered(&self, outlet: &Outlet, held: Interval, applied: Option<Sequence>) {
        let gateway = outlet.link.peer().gateway.clone();
        self.upstream.lock().insert(gateway, outlet.clone());
        let outcome = self.act(|machine| {
            if let Some(applied) = applied.filter(|at| machine.applied() < Some(*at)) {
                machine.position(applied);
            }
            machine.offered(held);
        });
        if let Err(error) = outcome {
            tracing::error!(stream = %self.stream, %error, "relay queue cannot be used");
        }
    }

    /// Stores a frame if it goes on where the queue ends; waits while the outbox is full.
    async fn store(&self, outbox: &Outbox, frame: Frame, window: &Window) -> Result<(), Error> {
        let mut room = outbox.room();
        loop {
            let full = {
                // The verdict and the append are one step: nothing may move the tail in between.
                let mut machine = self.machine.lock();
                let mut trial = machine.clone();
                match trial.frame(frame.interval()) {
                    queue::Verdict::Known => return Ok(()),
                    queue::Verdict::Gap => {
                        window.want(
                            trial.held().map_or(Sequence::ZERO, |held| held.tail),
                            frame.interval(),
                        );
                        return Ok(());
                    }
                    queue::Verdict::Append(piece) => {
                        for action in trial.take_actions() {
                            if let queue::Action::Restart(at) = action {
                                self.restart_lane(at)?;
                            }
                        }
                        match self.lane.append(piece, frame.bytes().clone()) {
                            Ok(()) => {
                                *machine = trial;
                                window.fulfilled();
                                return Ok(());
                            }
                            Err(outbox::Error::Full(_)) => true,
                            Err(error) => return Err(error.into()),
                        }
                    }
                }
            };
            debug_assert!(full);
            let _ = room.wait_for(|room| *room).await;
        }
    }

    fn position(&self, exchange: &Exchange, at: Sequence) -> Result<(), Error> {
        self.act(|machine| machine.position(at))?;
        exchange.wake(&self.route, &self.stream);
        Ok(())
    }

    fn want(&self, outlet: &Outlet, at: Sequence) -> Result<(), Error> {
        Ok(self.act(|machine| {
            *self.wished_in.lock() = Some(outlet.clone());
            machine.want(at);
        })?)
    }

    /// The session with the next hop ended.
    fn unlinked(&self, outlet: &Outlet) {
        let mut machine = self.machine.lock();
        let mut wished_in = self.wished_in.lock();
        if wished_in.take_if(|wished_in| wished_in.is(outlet)).is_some() {
            machine.unlinked();
        }
    }

    fn held(&self) -> Option<Interval> {
        self.machine
            .lock()
            .held()
            .map(|held| Interval::new(held.base, held.tail))
    }

    fn next(&self, outlet: &Outlet) -> Option<Sequence> {
        self.try_act(|machine| machine.next_to_send().filter(|_| self.is_wished_in(outlet)))
            .flatten()
    }

    /// See [`Supply::take`].
    fn take(&self, outlet: &Outlet, interval: Interval) -> bool {
        self.try_act(|machine| {
            let due = machine.next_to_send().filter(|_| self.is_wished_in(outlet));
            let is_due = due.is_some_and(|at| interval.from <= at && at < interval.to);
            if is_due {
                machine.sent(interval);
            }
            is_due
        })
        .unwrap_or(false)
    }

    fn is_wished_in(&self, outlet: &Outlet) -> bool {
        let wished_in = self.wished_in.lock();
        wished_in.as_ref().is_some_and(|wished_in| wished_in.is(outlet))
    }

    fn try_act<R>(&self, step: impl FnOnce(&mut Queue) -> R) -> Option<R> {
        self.act(step)
            .inspect_err(|error| tracing::error!(stream = %self.stream, %error, "relay queue cannot be used"))
            .ok()
    }
}

/// What the names of a relay's lanes begin with; their headers follow.
pub(super) const RELAY: &[u8] = b"relay/";

/// A relay's lane is named by route and stream; an origin's by its stream alone.
fn lane_key(route: &RouteId, stream: &StreamId) -> Vec<u8> {
    let mut key = RELAY.to_vec();
    // A header that came over a link, or was read from this outbox, is within all limits.
    let header = LaneHeader {
        route: route.clone(),
        stream: stream.clone(),
    };
    header
        .encode(&mut key)
        .expect("names in a lane header were checked when it was decoded");
    key
}

/// Relay queues that this gateway's disk remembers.
///
/// # Errors
/// When the outbox cannot be read.
pub fn remembered_queues(exchange: &Exchange) -> Result<(), Error> {
    for (key, _) in exchange.outbox.lanes() {
        if let Some(header) = key.strip_prefix(RELAY) {
            let header = LaneHeader::decode(header)?;
            exchange.queue(&header.route, &header.stream)?;
        }
    }
    Ok(())
}
