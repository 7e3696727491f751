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
//! QUIC goes over UDP; where that does not pass and both ends allow it, its datagrams are [`carried`] over TLS on TCP until UDP
//! passes again.
//!
//! This room alone imports quinn.

mod accept;
mod carried;
mod dial;
mod endpoint;
mod fault;
mod lane;
mod local;
mod pieces;
mod room;
mod roster;
mod session;
#[cfg(test)]
pub(crate) mod tests;

pub use fault::{Error, Fault, Reason};
pub use lane::{LaneReceiver, LaneSender};
pub use room::Links;
pub use session::{Link, Stats};

use crate::identity::{self, Identity, Name};
use local::{Config, Local, Peers};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The protocol versions this program speaks.
pub const VERSIONS: RangeInclusive<u16> = 1..=1;

/// What this room needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where peers can dial us; none for a gateway that only dials.
    pub listen: Option<Listen>,
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
    /// What one peer can make us hold: so much received and not yet read (at least 4 MiB), and so much in unfinished
    /// frames (at least two of the largest). 64 MiB are four lanes that nobody reads; with more such lanes, the
    /// others and control wait too, so credit has to keep lanes from filling.
    pub per_peer_bytes_max: usize,
    /// How many lanes one peer may have open towards us.
    pub lanes_max: u32,
    /// Whether a link may go over TCP, at the same port, where UDP does not pass.
    pub tcp: bool,
}

/// The UDP socket of a gateway that can be dialled.
#[derive(Clone, Debug)]
pub enum Listen {
    /// One that we open.
    At(SocketAddr),
    /// One that was open before us.
    Handed(Arc<UdpSocket>),
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen::At(address)
    }
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

    /// Our own identity as it is in use.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.0.config().identity)
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
