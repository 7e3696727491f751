//! Configuration: `culvert.toml`, the `CULVERT_…` environment over it, and the connectors' JSON beside it.
//!
//! Constraints of this room:
//! - Read once into a raw form, turned once into [`Config`]; whoever holds a `Config` holds a valid one.
//! - All mistakes are reported together, each with its place, key, problem and way out ([`Mistakes`]).
//! - Every key is declared once, in [`keys`]; the reference page and the suggestions come from there.
//! - Nothing else in the program reads the environment.
//! - Secrets are references in files, resolved here, and never printed ([`Secret`], [`Settings`]).
//!
//! The way of a value: `raw` (file and environment) → `read` (kinds and bounds) → here (what belongs together) →
//! [`connector`] (each connector's own settings).

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod asked;
pub mod connector;
mod converter;
mod environment;
mod grant;
mod json;
pub mod keys;
mod mistake;
mod names;
mod predicate;
mod raw;
mod read;
mod reference;
pub mod reference_page;
mod secret;
mod stage;
mod transformation;

#[cfg(test)]
mod tests;

pub use crate::units::{ByteSize, parse_duration, show_duration};
pub use connector::Connector;
pub use converter::{ConverterPlan, From as SchemasFrom, RegistryPlan};
pub use environment::Environment;
pub use mistake::{Mistake, Mistakes, Place};
pub use names::{Endpoint, TopicPattern};
pub use read::Effective;
pub use secret::{HIDDEN, Secret, Settings, is_secret};

use crate::plugin::{self, Asking, Shelf, Trust};
use mistake::{CONTRADICTION, Found, MISSING, REFERENCE, SECRET_IN_CLEAR, UNREADABLE, VALUE};
use raw::{Literal, Raw};
use read::Reader;

/// The file, where `--config` does not name one: the first of these that exists.
pub const PLACES: [&str; 2] = ["culvert.toml", "/etc/culvert/culvert.toml"];

/// The longest file that is read, `culvert.toml` or a connector's.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The configuration of one gateway, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// This gateway's name.
    pub gateway: String,
    /// The network it stands in.
    pub site: String,
    /// Where it keeps what must survive a restart.
    pub state: PathBuf,
    /// The durable queue.
    pub outbox: Outbox,
    /// Certificate, key and authorities; always there when there are peers.
    pub identity: Option<Identity>,
    /// The tunnel.
    pub tunnel: Tunnel,
    /// The sites it has links to. No two have the same site or a gateway in common.
    pub peers: Vec<Peer>,
    /// Which site may read which topics of this one.
    pub grants: Vec<Grant>,
    /// Whose streams it carries on, and to whom.
    pub relays: Vec<Relay>,
    /// The local Kafka cluster, in librdkafka's names.
    pub kafka: Settings,
    /// The connectors, ordered by name.
    pub connectors: Vec<Connector>,
    /// The plugins that connectors may name.
    pub plugins: Shelf,
    /// How many failing batches of plugins are kept.
    pub plugin_failures: u16,
    /// Logs, metrics and health.
    pub telemetry: Telemetry,
    /// The Unix socket for `status` and `prove`.
    pub control_socket: PathBuf,
    /// Every value in force and where it comes from, for `culvert config show`.
    pub effective: Vec<Effective>,
    environment: Environment,
}

/// The durable queue. See `outbox.*` in the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbox {
    /// How records are stored.
    pub engine: Engine,
    /// Whether a start mends a damaged one.
    pub heals: bool,
    /// Bytes of records that may wait.
    pub quota: ByteSize,
    /// Disk space kept free of records.
    pub reserve: ByteSize,
    /// A warning is due when it will be full within this time.
    pub alarm: Duration,
    /// The longest wait for durability.
    pub flush_every: Duration,
    /// Memory for the newest records.
    pub cache: ByteSize,
}

/// How the outbox stores records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A sled tree.
    Sled,
    /// Segment files.
    Log,
}

/// Who this gateway is, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities peers are checked against, PEM. Never empty.
    pub ca: Vec<PathBuf>,
    /// The trust domain of all names.
    pub trust_domain: String,
}

/// The tunnel's own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The UDP address.
    pub listen: SocketAddr,
    /// Memory for records in flight from or to one peer.
    pub memory_per_peer: ByteSize,
    /// What links go over where UDP does not pass.
    pub fallback: Fallback,
}

/// What links go over where UDP does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing: they wait for UDP.
    None,
    /// TLS on TCP, until UDP passes again.
    Tcp,
}

/// One site on the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its site.
    pub site: String,
    /// The gateways that may speak for it. Never empty.
    pub gateways: Vec<String>,
    /// Where to dial it, in turn; empty where the peer dials.
    pub addresses: Vec<Endpoint>,
}

/// A capability: `to` may read `topics` of this site, over the sites `via`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The site that reads.
    pub to: String,
    /// What it may read. Never empty.
    pub topics: Vec<TopicPattern>,
    /// The sites that may relay.
    pub via: Vec<String>,
}

/// This gateway carries streams of the site `from` on to the site `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Whose streams.
    pub from: String,
    /// To whom.
    pub to: String,
}

/// Logs, metrics and health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The TCP address of `/metrics`, `/healthz` and `/readyz`.
    pub listen: SocketAddr,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged, in `EnvFilter`'s words.
    pub log_filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Who asks plugins about their settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Nobody: no plugin runs.
    Nobody,
    /// Somebody who writes nothing.
    Reader,
    /// The gateway, which keeps what was compiled for it.
    Gateway,
}

impl Config {
    /// Reads and checks everything: the file, the environment, the connectors.
    ///
    /// # Errors
    /// Every mistake that was found. A file that is not TOML hides the mistakes behind it.
    pub fn load(file: &Path, environment: &Environment) -> Result<Config, Mistakes> {
        Config::read(file, environment, Asks::Nobody)
    }

    /// The same, and plugins are asked what they think of their settings: they run for that, with nothing granted. What
    /// they find wrong is among the mistakes.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_and_ask(file: &Path, environment: &Environment, asks: Asks) -> Result<Config, Mistakes> {
        Config::read(file, environment, asks)
    }

    fn read(file: &Path, environment: &Environment, asks: Asks) -> Result<Config, Mistakes> {
        let mut found = Found::default();
        let config = read_file(file, &mut found)
            .and_then(|text| Raw::read(file, &text, environment, &mut found))
            .and_then(|raw| check(file, &raw, environment, asks, &mut found));
        found.or(config)
    }

    /// Reads the same file again. The environment of a process does not change, but files do, also those that
    /// references lead to.
    ///
    /// # Errors
    /// As [`Config::load`]; what runs goes on with the configuration it has.
    pub fn reload(&self) -> Result<Config, Mistakes> {
        Config::load(&self.file, &self.environment)
    }

    /// Checks that the files the configuration names can be read. Apart from [`Config::load`], since a question to
    /// a running gateway needs none of them.
    ///
    /// # Errors
    /// A mistake for each file.
    pub fn check_files(&self) -> Result<(), Mistakes> {
        let mut found = Found::default();
        if let Some(identity) = &self.identity {
            let files = [
                ("identity.certificate", &identity.certificate),
                ("identity.key", &identity.key),
            ];
            let authorities = identity.ca.iter().map(|path| ("identity.ca", path));
            for (key, path) in files.into_iter().chain(authorities) {
                if let Err(e) = std::fs::File::open(path).and_then(|mut file| file.read(&mut [0])) {
                    let problem = format!("read {}: {e}", path.display());
                    let hint = "make it with `culvert pki`, and let the gateway's user read it";
                    let given = self.effective.iter().find(|value| value.key == key);
                    let place = given.map_or_else(|| Place::file(&self.file), |value| value.from.clone());
                    found.add(UNREADABLE, place, key, problem, hint);
                }
            }
        }
        found.or(Some(()))
    }

    /// The peer of this site.
    #[must_use]
    pub fn peer(&self, site: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.site == site)
    }
}

/// The control socket that `file` names. Other mistakes in the file do not matter: a gateway that runs can be
/// asked while its configuration is being edited.
///
/// # Errors
/// The mistakes that keep the socket from being known.
pub fn control_socket(file: &Path, environment: &Environment) -> Result<PathBuf, Mistakes> {
    let (mut found, mut elsewhere) = (Found::default(), Found::default());
    let socket = read_file(file, &mut found).and_then(|text| {
        // A file that is not TOML does matter.
        let raw = match Raw::read(file, &text, environment, &mut elsewhere) {
            Some(raw) => raw,
            None => return Raw::read(file, &text, environment, &mut found).and(None),
        };
        let mut reader = Reader {
            raw: &raw,
            file,
            found: &mut found,
            effective: Vec::new(),
        };
        let state = base(file).join(reader.path("state")?);
        Some(state.join(reader.path("control.socket")?))
    });
    found.or(socket)
}

fn check(file: &Path, raw: &Raw, environment: &Environment, asks: Asks, found: &mut Found) -> Option<Config> {
    let base = base(file);
    let mut reader = Reader {
        raw,
        file,
        found,
        effective: Vec::new(),
    };
    let gateway = reader.gateway("gateway");
    let site = reader.site("site");
    let state = reader.path("state").map(|path| base.join(path));
    let outbox = outbox(&mut reader);
    let peers = peers(&mut reader);
    let resolver = reference::Resolver { environment, base };
    let identity = identity(&mut reader, &resolver, !raw.list("peer").is_empty());
    let tunnel = tunnel(&mut reader);
    let grants = grants(&mut reader);
    let relays = relays(&mut reader);
    let kafka = kafka(&mut reader, &resolver);
    let directory = reader.path("connectors.directory").map(|path| base.join(path));
    let plugins = reader.path("plugins.directory").map(|path| base.join(path));
    let plugins =
        Shelf::open(plugins.as_deref().unwrap_or(Path::new("plugins"))).trusting(trust(&mut reader, base));
    let plugin_failures = reader.count("plugins.record_failures");
    let compiled = state.as_ref().map(|state| state.join("plugins"));
    let plugins = plugins.asking(match asks {
        Asks::Nobody => None,
        Asks::Reader => compiled.map(Asking::reading),
        Asks::Gateway => compiled.map(Asking::keeping),
    });
    let telemetry = telemetry(&mut reader);
    let socket = reader.path("control.socket");
    let own = Own {
        gateway: gateway.as_deref(),
        site: site.as_deref(),
    };
    belongs_together(&mut reader, &own, &peers, &grants, &relays);

    let effective = std::mem::take(&mut reader.effective);
    let sites: Vec<&str> = peers.iter().map(|peer| peer.site.as_str()).collect();
    let directory_was_given = raw.get("connectors.directory").is_some();
    let connectors = connector::load_all(
        &connector::Surroundings {
            directory: directory.as_deref().unwrap_or(Path::new("connectors")),
            directory_was_given,
            resolver: reference::Resolver { environment, base },
            kafka: &kafka,
            sites: &sites,
            plugins: &plugins,
            gateway: gateway.as_deref().unwrap_or_default(),
            site: site.as_deref().unwrap_or_default(),
        },
        found,
    );
    let state = state?;
    Some(Config {
        file: file.to_owned(),
        gateway: gateway?,
        site: site?,
        outbox: outbox?,
        identity,
        tunnel: tunnel?,
        peers,
        grants,
        relays,
        kafka,
        connectors,
        plugins,
        plugin_failures: plugin_failures?,
        telemetry: telemetry?,
        control_socket: state.join(socket?),
        state,
        effective,
        environment: environment.clone(),
    })
}

fn outbox(reader: &mut Reader<'_>) -> Option<Outbox> {
    let engine = reader.choice("outbox.engine");
    let heal = reader.choice("outbox.heal");
    let quota = reader.size("outbox.quota");
    let reserve = reader.size("outbox.reserve");
    let alarm = reader.duration("outbox.alarm");
    let flush_every = reader.duration("outbox.flush_every");
    let cache = reader.size("outbox.cache");
    Some(Outbox {
        engine: if engine? == "log" {
            Engine::Log
        } else {
            Engine::Sled
        },
        heals: heal? == "replayable",
        quota: quota?,
        reserve: reserve?,
        alarm: alarm?,
        flush_every: flush_every?,
        cache: cache?,
    })
}

/// All of it or nothing: half an identity is a mistake, and none is one where there are peers.
/// Whose plugins may run.
fn trust(reader: &mut Reader<'_>, base: &Path) -> Trust {
    let files = reader.paths("plugins.trusted_keys").unwrap_or_default();
    let is_required = reader.choice("plugins.require_signature") == Some("true");
    let mut keys = Vec::new();
    for file in files.iter().map(|file| base.join(file)) {
        let key = std::fs::read(&file)
            .map_err(|error| (UNREADABLE, format!("read {}: {error}", file.display())))
            .and_then(|pem| {
                plugin::public_key(&pem).map_err(|error| (VALUE, format!("{}: {error}", file.display())))
            });
        match key {
            Ok(key) => keys.push(key),
            Err((code, problem)) => {
                let place = reader.place("plugins.trusted_keys");
                let hint = "`culvert plugin keygen` makes a key, private and public";
                reader
                    .found
                    .add(code, place, "plugins.trusted_keys", problem, hint);
            }
        }
    }
    if is_required && files.is_empty() {
        let place = reader.place("plugins.require_signature");
        let problem = "is set, and plugins.trusted_keys names nobody";
        let hint = "name whose signatures count, or leave it out";
        reader
            .found
            .add(CONTRADICTION, place, "plugins.require_signature", problem, hint);
    }
    Trust { keys, is_required }
}

fn identity(reader: &mut Reader<'_>, resolver: &reference::Resolver<'_>, needed: bool) -> Option<Identity> {
    let certificate = reader.path("identity.certificate");
    let certificate = certificate.and_then(|path| held(reader, resolver, "identity.certificate", &path));
    let key = reader.path("identity.key");
    let key = key.and_then(|path| held(reader, resolver, "identity.key", &path));
    let ca = reader.paths("identity.ca").and_then(|paths| {
        let held = paths
            .iter()
            .map(|path| held(reader, resolver, "identity.ca", path));
        held.collect()
    });
    let trust_domain = reader.trust_domain("identity.trust_domain");
    const KEYS: [&str; 3] = ["identity.certificate", "identity.key", "identity.ca"];
    let given = |key: &&str| reader.raw.get(key).is_some();
    if needed || KEYS.iter().any(given) {
        let reason = if needed {
            "is missing, and there is a [[peer]]"
        } else {
            "is missing beside the other two"
        };
        for absent in KEYS.iter().filter(|key| reader.raw.get(key).is_none()) {
            let hint = "`culvert pki init` and `culvert pki issue` make certificates, keys and authorities";
            reader
                .found
                .add(MISSING, Place::file(reader.file), *absent, reason, hint);
        }
    }
    Some(Identity {
        certificate: certificate?,
        key: key?,
        ca: ca?,
        trust_domain: trust_domain?,
    })
}

/// Where the file named `path` lies: a credential, or relative to `culvert.toml`.
fn held(
    reader: &mut Reader<'_>,
    resolver: &reference::Resolver<'_>,
    key: &str,
    path: &Path,
) -> Option<PathBuf> {
    match reference::credential(path, resolver.environment) {
        Ok(credential) => Some(credential.unwrap_or_else(|| resolver.base.join(path))),
        Err((problem, hint)) => {
            let place = Place::file(reader.file);
            reader.found.add(REFERENCE, place, key, problem, hint);
            None
        }
    }
}

fn tunnel(reader: &mut Reader<'_>) -> Option<Tunnel> {
    let listen = reader.listen("tunnel.listen");
    let memory_per_peer = reader.size("tunnel.memory_per_peer");
    let fallback = reader.choice("tunnel.fallback");
    Some(Tunnel {
        listen: listen?,
        memory_per_peer: memory_per_peer?,
        fallback: if fallback? == "tcp" {
            Fallback::Tcp
        } else {
            Fallback::None
        },
    })
}

fn peers(reader: &mut Reader<'_>) -> Vec<Peer> {
    tables(reader, "peer", |reader, peer| {
        let site = reader.site(&format!("{peer}.site"));
        let gateways = reader.gateways(&format!("{peer}.gateways"));
        let addresses = reader.endpoints(&format!("{peer}.address")).unwrap_or_default();
        Some(Peer {
            site: site?,
            gateways: gateways?,
            addresses,
        })
    })
}

fn grants(reader: &mut Reader<'_>) -> Vec<Grant> {
    tables(reader, "grant", |reader, grant| {
        let to = reader.site(&format!("{grant}.to"));
        let topics = reader.topics(&format!("{grant}.topics"));
        let via = reader.sites(&format!("{grant}.via"));
        Some(Grant {
            to: to?,
            topics: topics?,
            via: via?,
        })
    })
}

fn relays(reader: &mut Reader<'_>) -> Vec<Relay> {
    tables(reader, "relay", |reader, relay| {
        let from = reader.site(&format!("{relay}.from"));
        let to = reader.site(&format!("{relay}.to"));
        Some(Relay { from: from?, to: to? })
    })
}

/// Reads each table of a list; those with a mistake are left out.
fn tables<T>(
    reader: &mut Reader<'_>,
    list: &str,
    read: impl Fn(&mut Reader<'_>, &str) -> Option<T>,
) -> Vec<T> {
    (0..reader.raw.list(list).len())
        .filter_map(|n| read(reader, &format!("{list}[{n}]")))
        .collect()
}

fn telemetry(reader: &mut Reader<'_>) -> Option<Telemetry> {
    let listen = reader.listen("telemetry.listen");
    let log_format = reader.choice("telemetry.log_format");
    let log_filter = reader.log_filter("telemetry.log_level");
    let log_format = if log_format? == "json" {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    Some(Telemetry {
        listen: listen?,
        log_format,
        log_filter: log_filter?,
    })
}

/// `kafka.*`: any key, its value passed on. A secret must be a reference, in the file and in the environment.
fn kafka(reader: &mut Reader<'_>, resolver: &reference::Resolver<'_>) -> Settings {
    let mut settings = Settings::default();
    for (key, item) in reader.raw.under("kafka.") {
        let full = format!("kafka.{key}");
        let (Literal::Text(text) | Literal::Bare(text)) = &item.literal else {
            reader.found.add(
                VALUE,
                item.place.clone(),
                full,
                "is not a single value",
                "valid: a text, number or boolean",
            );
            continue;
        };
        if is_secret(key) && !reference::is_reference(text) {
            let hint =
                "write a reference: ${file:PATH:KEY}, ${dir:PATH:NAME}, ${credential:NAME} or ${env:NAME}";
            reader.found.add(
                SECRET_IN_CLEAR,
                item.place.clone(),
                full,
                "is a secret and stands in the clear",
                hint,
            );
            continue;
        }
        match resolver.resolve(text) {
            Ok(value) => settings.insert(key, text, value),
            Err((problem, hint)) => {
                reader
                    .found
                    .add(REFERENCE, item.place.clone(), full, problem, hint);
                continue;
            }
        }
        reader.effective.push(Effective {
            key: full,
            value: format!("{text:?}"),
            from: item.place.clone(),
        });
    }
    settings
}

/// What this gateway is called, as far as it is known.
struct Own<'a> {
    gateway: Option<&'a str>,
    site: Option<&'a str>,
}

/// What each key may say by itself, but not beside the others.
fn belongs_together(
    reader: &mut Reader<'_>,
    own: &Own<'_>,
    peers: &[Peer],
    grants: &[Grant],
    relays: &[Relay],
) {
    unique(reader, own);
    let sites: Vec<&str> = peers.iter().map(|peer| peer.site.as_str()).collect();
    let peers_are_whole = peers.len() == reader.raw.list("peer").len();
    let known = |reader: &mut Reader<'_>, key: String, site: &str| {
        // A peer that could not be read would make every mention of it a second mistake.
        if peers_are_whole && !sites.contains(&site) {
            let hint = not_a_peer(&sites);
            let place = reader.place(&key);
            reader.found.add(
                CONTRADICTION,
                place,
                key,
                format!("no [[peer]] has the site \"{site}\""),
                hint,
            );
        }
    };
    if grants.len() == reader.raw.list("grant").len() {
        for (n, grant) in grants.iter().enumerate() {
            // A reader behind a relay has no link with us.
            if grant.via.is_empty() {
                known(reader, format!("grant[{n}].to"), &grant.to);
            }
            grant
                .via
                .iter()
                .for_each(|site| known(reader, format!("grant[{n}].via"), site));
        }
    }
    if relays.len() == reader.raw.list("relay").len() {
        for (n, relay) in relays.iter().enumerate() {
            known(reader, format!("relay[{n}].from"), &relay.from);
            known(reader, format!("relay[{n}].to"), &relay.to);
            if relay.from == relay.to {
                let place = reader.place(&format!("relay[{n}].to"));
                let hint = "a relay stands between two other sites";
                reader.found.add(
                    CONTRADICTION,
                    place,
                    format!("relay[{n}].to"),
                    "is where it comes from",
                    hint,
                );
            }
        }
    }
}

/// A site has one [[peer]], a gateway one site, and neither is our own.
fn unique(reader: &mut Reader<'_>, own: &Own<'_>) {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, whose) in [(own.gateway, "gateway"), (own.site, "site")] {
        seen.extend(name.map(|name| {
            (
                format!("{whose} {name}"),
                format!("is this gateway's own {whose}"),
            )
        }));
    }
    let mut claim = |reader: &mut Reader<'_>, whose: &str, name: &str, key: &str, hint: &str| {
        let place = reader.place(key);
        let taken = seen.insert(format!("{whose} {name}"), format!("is also at {place}"));
        if let Some(taken) = taken {
            reader
                .found
                .add(CONTRADICTION, place, key, format!("\"{name}\" {taken}"), hint);
        }
    };
    for n in 0..reader.raw.list("peer").len() {
        let (site, gateways) = (format!("peer[{n}].site"), format!("peer[{n}].gateways"));
        for name in texts(reader.raw, &site) {
            claim(
                reader,
                "site",
                &name,
                &site,
                "write one [[peer]] for each other site, with all of its gateways",
            );
        }
        for name in texts(reader.raw, &gateways) {
            claim(
                reader,
                "gateway",
                &name,
                &gateways,
                "a gateway stands in one site, and its name is its own",
            );
        }
    }
}

/// The texts a key was given, checked or not.
fn texts(raw: &Raw, key: &str) -> Vec<String> {
    match raw.get(key).map(|item| &item.literal) {
        Some(Literal::Text(text)) => text.split(',').map(|part| part.trim().to_owned()).collect(),
        Some(Literal::List(items)) => items
            .iter()
            .filter_map(|item| match &item.literal {
                Literal::Text(text) => Some(text.clone()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The way out for a site that is none of the peers'.
fn not_a_peer(sites: &[&str]) -> String {
    match sites {
        [] => "there is no [[peer]] yet: add the one it should be".into(),
        _ => format!("the peers' sites are: {}", sites.join(", ")),
    }
}

/// The directory that relative paths are relative to.
fn base(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

fn read_file(path: &Path, found: &mut Found) -> Option<String> {
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    let (problem, hint) = match read {
        Ok(_) if text.len() as u64 <= FILE_BYTES_MAX => return Some(text),
        Ok(_) => (
            format!("is larger than {}", ByteSize(FILE_BYTES_MAX)),
            "split it, or check that it is the right file",
        ),
        Err(e) => (
            format!("cannot be read: {e}"),
            "name the file with --config, and let this user read it",
        ),
    };
    found.add(UNREADABLE, Place::file(path), "", problem, hint);
    None
}
