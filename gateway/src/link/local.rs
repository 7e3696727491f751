//! What all parts of the room share: who we are, and the configuration that may change while the room runs.

use super::{Error, Link, Options, PeerConfig, Reason, carried, endpoint};
use crate::identity::{self, Identity, Name};
use culvert_proto::message::Message;
use parking_lot::{Mutex, RwLock};
use quinn::{Endpoint, TransportConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use tokio::sync::Notify;

/// What all parts of the room share.
pub(super) struct Local {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Arc<TransportConfig>,
    /// Whether a link may go over TCP.
    pub(super) tcp: bool,
    /// The same as `transport` for links that do.
    pub(super) carried: Arc<TransportConfig>,
    pub(super) identity: identity::Options,
    pub(super) site: Arc<str>,
    pub(super) instance: [u8; 16],
    pub(super) versions: RangeInclusive<u16>,
    pub(super) per_peer_bytes_max: usize,
    /// Replaced as a whole.
    pub(super) config: RwLock<Arc<Config>>,
    /// Rung when `config` was replaced.
    pub(super) changed: Notify,
    /// The live ones, for those who ask.
    pub(super) links: RwLock<Vec<Link>>,
    /// The last dial of each site that failed, while it is not linked.
    pub(super) unreached: Mutex<BTreeMap<Arc<str>, Reason>>,
    /// Why the last caller was not let in.
    pub(super) last_turned_away: Mutex<Option<Reason>>,
}

/// What can change while the room runs.
pub(super) struct Config {
    pub(super) identity: Arc<Identity>,
    pub(super) peers: Arc<Peers>,
}

/// The configured peers, in the forms that are asked for.
pub(super) struct Peers {
    pub(super) list: Vec<PeerConfig>,
    pub(super) names: Arc<BTreeSet<Name>>,
    pub(super) sites: BTreeMap<Name, Arc<str>>,
}

impl Peers {
    pub(super) fn new(list: Vec<PeerConfig>) -> Peers {
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

    /// Where the configuration puts this gateway.
    pub(super) fn site_of(&self, gateway: &Name) -> Option<Arc<str>> {
        self.sites.get(gateway).cloned()
    }
}

impl Local {
    /// Reads the identity and opens the socket.
    pub(super) fn open(options: Options, versions: RangeInclusive<u16>) -> Result<Local, Error> {
        let identity = Arc::new(Identity::load(&options.identity)?);
        let endpoint = endpoint::open(&options, &identity)?;
        let transport = endpoint::transport(&options);
        let carried = carried::transport(endpoint::flow(&options));
        let peers = Arc::new(Peers::new(options.peers));
        Ok(Local {
            endpoint,
            transport,
            tcp: options.tcp,
            carried,
            identity: options.identity,
            site: options.site,
            instance: options.instance,
            versions,
            per_peer_bytes_max: options.per_peer_bytes_max,
            config: RwLock::new(Arc::new(Config { identity, peers })),
            changed: Notify::new(),
            links: RwLock::new(Vec::new()),
            unreached: Mutex::new(BTreeMap::new()),
            last_turned_away: Mutex::new(None),
        })
    }

    /// The configuration in force now.
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read())
    }

    /// Puts another configuration in force.
    pub(super) fn replace(&self, change: impl FnOnce(&Config) -> Config) {
        let mut config = self.config.write();
        *config = Arc::new(change(&config));
        drop(config);
        self.changed.notify_one();
    }

    /// How we introduce ourselves.
    pub(super) fn hello(&self) -> Message {
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
