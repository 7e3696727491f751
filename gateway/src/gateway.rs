//! The composition root: builds every room, joins them, and owns the order in which they start and stop.
//!
//! Start: state and outbox, then what the outbox remembers, then sinks (their writers need longest), then links,
//! then sources. Stop, in reverse: sources hand over what they read, the outbox makes it durable, sinks finish the
//! commit under way, links say goodbye. Any step may be cut short by a kill: nothing depends on a good end.

use crate::config::connector::{self as definition, Checked};
use crate::config::{self, Config, Connector, ConverterPlan, SchemasFrom};
use crate::connector::{generator, kafka, sqlite};
use crate::flow::delivery::{self, Delivery, MakeSink};
use crate::flow::exchange::{Exchange, Grants, ReadGrant, RelayGrant, Role, Route, Topics};
use crate::flow::intake::{self, MakeSource, Task, pages};
use crate::flow::letters::{self, Letters};
use crate::flow::prove::OpenReader;
use crate::flow::schema::Target;
use crate::flow::stage::{Chain, MakeChain};
use crate::flow::{Place, Reader, Source, SourceFault, mend, transit};
use crate::link::{self, Links, Listen, PeerConfig};
use crate::observe::health::Health;
use crate::observe::stop::Stop;
use crate::observe::systemd::Sockets;
use crate::outbox::{self, EngineKind};
use crate::plugin::{Carried, PluginPlan, Writes};
use crate::{executable, identity, observe, plugin};
use culvert_proto::batch::Codec;
use culvert_proto::message::{Start, TopicFilter};
use culvert_proto::schema::Part;
use culvert_proto::stream::RouteId;
use parking_lot::Mutex;
use rand::Rng;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

mod answer;
mod converters;
mod healing;
mod holdings;
mod proof;
mod quotas;
mod receipts;
mod runway;
mod sample;

/// Lanes one peer may have open: a thousand topics of a few partitions.
const LANES_MAX: u32 = 4096;

/// Why a gateway does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
    /// The tunnel.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// Our own certificate, key or authorities.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A damaged outbox could not be mended.
    #[error(transparent)]
    Mend(#[from] mend::Error),
    /// What the outbox remembers is not what this program stores.
    #[error(transparent)]
    Remembered(#[from] transit::Error),
    /// Logs, metrics, health or the control socket.
    #[error(transparent)]
    Observe(#[from] observe::Error),
    /// The system.
    #[error("[CULVERT-G001] {doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A plugin that connectors name cannot be run.
    #[error("[CULVERT-G003] plugin {name}: {reason}")]
    Plugin {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// A connector that passed the check cannot be built.
    #[error("[CULVERT-G002] connector {name}: {reason}")]
    Connector {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
}

fn io_error(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let doing = doing.into();
    move |source| Error::Io { doing, source }
}

/// A gateway that runs.
pub struct Gateway {
    config: Config,
    exchange: Arc<Exchange>,
    tasks: BTreeMap<String, Vec<Task>>,
    links: Option<link::Handle>,
    health: Health,
    started: Instant,
    rates: sample::Rates,
    runway: Mutex<runway::Runway>,
    /// It was warned that the outbox fills.
    alarmed: AtomicBool,
    /// Streams that it was warned of.
    quota_alarms: Mutex<quotas::Alarms>,
    /// Held by whoever makes receipts: each names the one before.
    receipting: tokio::sync::Mutex<()>,
    /// Lanes that were cut at the start, because the outbox was damaged.
    mended_lanes: Option<u64>,
    /// There where a connector has stages, or is a plugin.
    plugins: Option<Arc<plugin::Runner>>,
}

/// Runs a gateway until it is asked to stop, then ends it in good order. Sockets that were handed over stand in place of
/// those that the configuration names.
///
/// # Errors
/// When it cannot start, or the tunnel ends by itself.
pub async fn run(config: Config, handed: Sockets, stop: Stop) -> Result<(), Error> {
    let metrics = observe::metrics::install()?;
    let health = Health::new();
    let (store, serving) = (health.part("outbox"), health.part("connectors"));
    let mut gateway = Gateway::open(config, health.clone()).await?;
    store.ready();
    let rooms = CancellationToken::new();
    let http = observe::http::Server::bind(
        gateway.config.telemetry.listen,
        handed.telemetry,
        health.clone(),
        metrics,
    )
    .await?;
    tokio::spawn(http.run(rooms.clone()));
    let tunnel = gateway.open_tunnel(handed.tunnel)?;
    let control = observe::control::Server::bind(&gateway.config.control_socket)?;
    gateway.start_sources()?;
    let gateway = Arc::new(gateway);
    tokio::spawn(control.run(gateway.clone(), rooms.clone()));
    tokio::spawn(observe::systemd::watchdog(health, rooms.clone()));
    tokio::spawn(sample::run(gateway.clone(), rooms.clone()));
    serving.ready();
    observe::systemd::ready(&format!("site {}", gateway.config.site));
    tracing::info!(gateway = %gateway.config.gateway, site = %gateway.config.site, "gateway runs");

    let links_end = CancellationToken::new();
    let mut running = tokio::spawn(run_tunnel(tunnel, links_end.clone()));
    let mut reloads = stop.reloads();
    let outcome = loop {
        tokio::select! {
            () = stop.drain().cancelled() => break Ok(()),
            Ok(()) = reloads.changed() => gateway.reload(),
            ended = &mut running => break joined("run the tunnel", ended).and_then(|ended| ended),
        }
    };
    observe::systemd::stopping();
    serving.starting();
    tokio::select! {
        () = gateway.drain(links_end, running) => tracing::info!("gateway stopped"),
        () = stop.now().cancelled() => tracing::info!("gateway stopped at once"),
    }
    rooms.cancel();
    outcome
}

/// Compiles the plugins that connectors name, all before the first connector starts: it may take seconds.
async fn load_plugins(config: &Config) -> Result<Option<Arc<plugin::Runner>>, Error> {
    if plans(config).next().is_none() {
        return Ok(None);
    }
    let refuse = |name: &str| {
        let name = name.to_owned();
        move |error: plugin::LoadError| Error::Plugin {
            name,
            reason: error.to_string(),
        }
    };
    let config = config.clone();
    let loaded = tokio::task::spawn_blocking(move || -> Result<_, Error> {
        let cache = config.state.join("plugins");
        let runner = plugin::Runner::new(cache, executable::own()).map_err(refuse("any"))?;
        let failures = match config.plugin_failures {
            0 => None,
            kept => Some(plugin::Failures::new(config.state.join("failures"), kept)),
        };
        let runner = runner.recording(failures);
        for plan in plans(&config) {
            if let Some(found) = config.plugins.get(&plan.plugin) {
                let started = Instant::now();
                runner.load(found).map_err(refuse(&plan.plugin))?;
                let took_ms = started.elapsed().as_millis();
                tracing::info!(plugin = %plan.plugin, from = %found.origin, took_ms, "plugin loaded");
            }
        }
        Ok(Some(Arc::new(runner)))
    })
    .await;
    joined("load plugins", loaded)?
}

/// Every use of a plugin in connectors.
fn plans(config: &Config) -> impl Iterator<Item = &PluginPlan> {
    config.connectors.iter().flat_map(|connector| {
        let stages = connector.stages.iter().map(|stage| &stage.plan);
        let codecs = connector.converters.iter().filter_map(|plan| plan.codec.as_ref());
        stages.chain(codecs).chain(connector.checked.plugin())
    })
}

async fn run_tunnel(tunnel: Option<Tunnel>, end: CancellationToken) -> Result<(), Error> {
    match tunnel {
        Some(tunnel) => tunnel.run(end).await,
        None => {
            end.cancelled().await;
            Ok(())
        }
    }
}

fn joined<T>(doing: &str, outcome: Result<T, JoinError>) -> Result<T, Error> {
    outcome.map_err(|error| Error::Io {
        doing: doing.to_owned(),
        source: error.into(),
    })
}

impl Gateway {
    /// Opens the state, remembers, and starts the sinks.
    async fn open(config: Config, health: Health) -> Result<Gateway, Error> {
        prepare_state(&config.state).map_err(io_error(format!("make {}", config.state.display())))?;
        let (options, heals) = (outbox_options(&config), config.outbox.heals);
        let opened = tokio::task::spawn_blocking(move || healing::open(&options, heals)).await;
        let (outbox, mended_lanes) = joined("open the outbox", opened)??;
        let site = config.site.as_str().into();
        let exchange = Arc::new(Exchange::new(site, outbox, grants(&config), Handle::current()));
        transit::remembered_routes(&exchange)?;
        let started = Instant::now();
        let plugins = load_plugins(&config).await?;
        let runway = runway::Runway::new(config.outbox.quota.0);
        let gateway = Gateway {
            plugins,
            config,
            exchange,
            tasks: BTreeMap::new(),
            links: None,
            health,
            started,
            rates: sample::Rates::default(),
            runway: Mutex::new(runway),
            alarmed: AtomicBool::new(false),
            quota_alarms: Mutex::default(),
            receipting: tokio::sync::Mutex::default(),
            mended_lanes,
        };
        for connector in gateway
            .config
            .connectors
            .iter()
            .filter(|connector| !connector.checked.is_source())
        {
            gateway.start_sink(connector)?;
        }
        for connector in &gateway.config.connectors {
            gateway.start_letters(connector)?;
        }
        transit::remembered_queues(&gateway.exchange)?;
        intake::remembered_streams(&gateway.exchange)?;
        Ok(gateway)
    }

    // ----- the tunnel --------------------------------------------------------------------------------------------

    fn open_tunnel(&mut self, handed: Option<UdpSocket>) -> Result<Option<Tunnel>, Error> {
        let Some(identity) = &self.config.identity else {
            return Ok(None);
        };
        let secret_path = self.config.state.join("identity").join("secret");
        let options = link::Options {
            listen: Some(match handed {
                Some(socket) => Listen::Handed(Arc::new(socket)),
                None => Listen::At(self.config.tunnel.listen),
            }),
            identity: identity::Options {
                gateway: self.config.gateway.parse()?,
                trust_domain: identity.trust_domain.parse()?,
                certificate: identity.certificate.clone(),
                key: identity.key.clone(),
                authorities: identity.ca.clone(),
            },
            site: self.config.site.as_str().into(),
            instance: rand::random(),
            secret: kept_secret(&secret_path).map_err(io_error(format!("keep {}", secret_path.display())))?,
            peers: peers(&self.config)?,
            per_peer_bytes_max: usize::try_from(self.config.tunnel.memory_per_peer.0).unwrap_or(usize::MAX),
            lanes_max: LANES_MAX,
            tcp: self.config.tunnel.fallback == config::Fallback::Tcp,
        };
        let (links, events) = Links::new(options)?;
        self.links = Some(links.handle());
        let origin = receipts::Signer::new(&self.config, links.handle());
        self.exchange.proofs.set_witness(origin.witness());
        Ok(Some(Tunnel {
            links,
            events,
            exchange: self.exchange.clone(),
        }))
    }

    /// Reads certificates anew; live links go on.
    pub fn reload(&self) {
        if let Some(links) = &self.links {
            match links.reload() {
                Ok(()) => tracing::info!("certificates reloaded"),
                Err(error) => tracing::error!(%error, "certificates not reloaded, the old ones stay"),
            }
        }
    }

    // ----- sinks -------------------------------------------------------------------------------------------------

    fn start_sink(&self, connector: &Connector) -> Result<(), Error> {
        let refuse = |reason: String| Error::Connector {
            name: connector.name.clone(),
            reason,
        };
        let (filter, shards, make) = self.sink_of(connector).map_err(refuse)?;
        let Some(from) = &connector.from else {
            return Err(refuse(
                "culvert.from is missing: name the site whose topics it reads".into(),
            ));
        };
        if connector.via.len() > 1 {
            return Err(refuse(
                "culvert.via names several relays: this version goes through one".into(),
            ));
        }
        let upstream: Arc<str> = connector.via.last().unwrap_or(from).as_str().into();
        let route = Route {
            id: RouteId::new(&self.config.site, &connector.name),
            origin: from.as_str().into(),
            topics: Arc::new(Topics::new(filter).map_err(|error| refuse(error.to_string()))?),
            start: match connector.start {
                definition::Start::Earliest => Start::Earliest,
                definition::Start::Latest => Start::Latest,
            },
            incarnation: connector.incarnation,
            role: Role::Sink {
                upstream: upstream.clone(),
            },
            downstream: None,
        };
        self.exchange.put_route(route.clone());
        let options = delivery::Options {
            shards,
            commit_interval: COMMIT_INTERVAL,
            stages: self.chain_of(connector)?,
            dead_letters: connector.dead_letters,
        };
        let delivery = Delivery::start(&self.exchange, &route, &upstream, &options, &make)
            .map_err(io_error(format!("start connector {}", connector.name)))?;
        self.exchange.put_delivery(delivery);
        Ok(())
    }

    /// What a sink connector reads, in how many shards, and how one of them is made.
    fn sink_of(&self, connector: &Connector) -> Result<(TopicFilter, usize, Arc<MakeSink>), String> {
        match &connector.checked {
            Checked::KafkaSink(config) => {
                let (filter, shards) = (filter_of(&config.topics), usize::from(connector.tasks_max));
                let (mut config, incarnation) = (config.clone(), connector.incarnation);
                config.keys_have_ids = renumbered_parts(connector).contains(&Part::Key);
                let staged = !connector.stages.is_empty();
                let make = move |shard: usize| {
                    let shard = u32::try_from(shard).unwrap_or(u32::MAX);
                    let sink = kafka::KafkaSink::new(config.clone(), shard, incarnation);
                    Ok(Box::new(sink.staged(staged)) as Box<_>)
                };
                Ok((filter, shards, Arc::new(make)))
            }
            Checked::SqliteSink(config) => {
                let (filter, config) = (config.topics.clone(), config.clone());
                let make = move |_| Ok(Box::new(sqlite::SqliteSink::new(config.clone())) as Box<_>);
                Ok((filter, 1, Arc::new(make)))
            }
            Checked::PluginSink(sink) => {
                let Some(plugins) = &self.plugins else {
                    return Err(format!("plugin {} was not loaded", sink.plan.plugin));
                };
                let end = plugin::RouteEnd {
                    route: RouteId::new(&self.config.site, &connector.name),
                    connector: connector.name.as_str().into(),
                    dead_letters: connector.dead_letters,
                    outbox: self.exchange.outbox.clone(),
                };
                Ok((sink.topics.clone(), 1, plugins.sink(&sink.plan, end)))
            }
            other => Err(format!("{} is no sink", other.class_name())),
        }
    }

    /// What opens the stages of one task of a connector, behind its converters.
    fn chain_of(&self, connector: &Connector) -> Result<Arc<MakeChain>, Error> {
        let stages: Arc<MakeChain> = match &self.plugins {
            Some(plugins) if !connector.stages.is_empty() => {
                plugins.chain(&connector.name, &connector.stages)
            }
            _ => Arc::new(|| Ok(Chain::default())),
        };
        if connector.converters.is_empty() {
            return Ok(stages);
        }
        converters::chain(self, connector, stages)
    }

    // ----- dead letters at the source ----------------------------------------------------------------------------

    /// Starts to write what stages of a source refuse, where that is kept.
    fn start_letters(&self, connector: &Connector) -> Result<(), Error> {
        let Checked::KafkaSource(config) = &connector.checked else {
            return Ok(());
        };
        let Some(letters) = config.letters().filter(|_| connector.dead_letters) else {
            return Ok(());
        };
        let (topics, site, incarnation) = (
            config.topics.clone(),
            self.exchange.site.clone(),
            connector.incarnation,
        );
        let options = letters::Options {
            connector: connector.name.as_str().into(),
            incarnation,
            covers: Box::new(move |stream| stream.site == site && topics.include(&stream.topic)),
            make: Arc::new(move || {
                let sink = kafka::KafkaSink::new(letters.clone(), 0, incarnation);
                Ok(Box::new(sink.staged(true)) as Box<_>)
            }),
        };
        let started = Letters::start(&self.exchange, options).map_err(io_error(format!(
            "start the dead letters of connector {}",
            connector.name
        )))?;
        self.exchange.put_letters(started);
        Ok(())
    }

    // ----- sources -----------------------------------------------------------------------------------------------

    fn start_sources(&mut self) -> Result<(), Error> {
        let sources: Vec<Connector> = self
            .config
            .connectors
            .iter()
            .filter(|connector| connector.checked.is_source())
            .cloned()
            .collect();
        self.exchange.proofs.set_sources(reader_of(&sources));
        for connector in sources {
            let mut tasks = Vec::new();
            for number in 0..connector.tasks_max {
                tasks.push(self.start_task(&connector, u32::from(number))?);
            }
            self.tasks.insert(connector.name.clone(), tasks);
        }
        Ok(())
    }

    fn start_task(&self, connector: &Connector, number: u32) -> Result<Task, Error> {
        let stages = self.chain_of(connector)?;
        let terms = intake::Terms {
            codec: Codec::None,
            beginning: match connector.start {
                definition::Start::Earliest => Place::Earliest,
                definition::Start::Latest => Place::Latest,
            },
            quota: connector.quota.map(|quota| quota.0),
            priority: connector.priority,
        };
        let failed = || io_error(format!("start connector {}", connector.name));
        if let (Checked::PluginSource(plan), Some(plugins)) = (&connector.checked, &self.plugins) {
            let id = pages::TaskId {
                connector: connector.name.as_str().into(),
                number,
            };
            let make = plugins.source(&connector.name, plan);
            return pages::start(&self.exchange, id, terms, stages, make).map_err(failed());
        }
        let make = self.source_of(connector, number);
        let name = format!("{}-{number}", connector.name);
        Task::start(&self.exchange, &name, terms, stages, make).map_err(failed())
    }

    fn source_of(&self, connector: &Connector, task: u32) -> Box<MakeSource> {
        let site: Arc<str> = self.config.site.as_str().into();
        match connector.checked.clone() {
            Checked::KafkaSource(config) => Box::new(move || {
                Ok(Box::new(kafka::KafkaSource::new(config.clone(), task)?) as Box<dyn Source>)
            }),
            Checked::GeneratorSource(config) => Box::new(move || {
                Ok(Box::new(generator::GeneratorSource::new(&config, site.clone())) as Box<dyn Source>)
            }),
            other => Box::new(move || {
                let reason = format!("{} is no source", other.class_name());
                Err(SourceFault::Stop {
                    code: "CULVERT-G002",
                    reason,
                })
            }),
        }
    }

    // ----- the end -----------------------------------------------------------------------------------------------

    /// Sources hand over what they read, sinks finish their commit, links say goodbye, the outbox is flushed.
    async fn drain(
        self: &Arc<Gateway>,
        links_end: CancellationToken,
        running: JoinHandle<Result<(), Error>>,
    ) {
        let gateway = self.clone();
        let connectors = tokio::task::spawn_blocking(move || {
            gateway.tasks.values().flatten().for_each(Task::stop);
            gateway
                .exchange
                .deliveries()
                .iter()
                .for_each(|delivery| delivery.stop());
            gateway
                .exchange
                .all_letters()
                .iter()
                .for_each(|letters| letters.stop());
        });
        let _ = connectors.await;
        links_end.cancel();
        // A task that has ended by itself was waited for already, and cannot be twice.
        if !running.is_finished() {
            let _ = running.await;
        }
        if let Err(error) = self.exchange.outbox.clone().close().await {
            tracing::error!(%error, "outbox not closed in good order; the next start checks it");
        }
    }
}

/// Links and what happens to them.
struct Tunnel {
    links: Links,
    events: tokio::sync::mpsc::Receiver<link::Event>,
    exchange: Arc<Exchange>,
}

impl Tunnel {
    async fn run(self, end: CancellationToken) -> Result<(), Error> {
        let Tunnel {
            links,
            mut events,
            exchange,
        } = self;
        let served = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let link::Event::Up(link) = event {
                    tracing::info!(peer = %link.peer().gateway, site = %link.peer().site, "link up");
                    tokio::spawn(transit::serve(exchange.clone(), link));
                }
            }
        });
        let outcome = links.run(end.cancelled_owned()).await;
        served.abort();
        Ok(outcome?)
    }
}

/// The least time between two commits of a sink: half of it is the latency it costs on average; at 10,000 records a
/// second a commit then holds 100.
const COMMIT_INTERVAL: Duration = Duration::from_millis(10);

/// How a sink names the topics that records go to.
fn target_of(checked: &Checked) -> Arc<Target> {
    match checked.clone() {
        Checked::KafkaSink(config) => Arc::new(move |topic: &str| config.target(topic)),
        _ => Arc::new(|topic: &str| topic.to_owned()),
    }
}

/// The parts of records whose schemas have other numbers at the two ends of a route.
fn renumbered_parts(sink: &Connector) -> Vec<Part> {
    let numbered = |plan: &&ConverterPlan| matches!(plan.from, SchemasFrom::Registry(_));
    let plans = sink.converters.iter().filter(numbered);
    plans.map(|plan| plan.part).collect()
}

/// What makes that which a connector passes on another thing than what it took in; the numbers of schemas do not count.
fn changer_of(connector: &Connector) -> Option<&'static str> {
    let writes_own = |plan: &ConverterPlan| match &plan.from {
        _ if plan.carried == Carried::Json => false,
        SchemasFrom::Registry(registry) => registry.writes == Writes::Own,
        SchemasFrom::One(..) | SchemasFrom::Within => true,
    };
    if !connector.stages.is_empty() {
        Some("stages")
    } else if !connector.converters.iter().all(writes_own) {
        Some("converters")
    } else {
        None
    }
}

fn reader_of(sources: &[Connector]) -> Arc<OpenReader> {
    let sources = sources.to_vec();
    Arc::new(move |topic: &str| {
        let source = sources.iter().find(|connector| reads_topic(connector, topic));
        if let Some((source, changer)) = source.and_then(|source| Some((source, changer_of(source)?))) {
            return Err(SourceFault::Stop {
                code: "CULVERT-F037",
                reason: format!(
                    "{changer} of {} change what they pass: the ends cannot be compared",
                    source.name
                ),
            });
        }
        match source.map(|connector| &connector.checked) {
            Some(Checked::KafkaSource(config)) => {
                Ok(Box::new(kafka::KafkaReader::of_source(config)?) as Box<dyn Reader>)
            }
            Some(Checked::GeneratorSource(config)) => {
                Ok(Box::new(generator::GeneratorReader::new(config.clone())))
            }
            _ if sources
                .iter()
                .any(|source| matches!(source.checked, Checked::PluginSource(_))) =>
            {
                let reason = format!(
                    "topic {topic} may be one of a plugin, whose records cannot be read again: its ends cannot be compared"
                );
                Err(SourceFault::Stop {
                    code: "CULVERT-F039",
                    reason,
                })
            }
            _ => {
                let reason = format!("no source of this gateway reads topic {topic}");
                Err(SourceFault::Stop {
                    code: "CULVERT-F032",
                    reason,
                })
            }
        }
    })
}

fn filter_of(topics: &kafka::config::Topics) -> TopicFilter {
    match topics {
        kafka::config::Topics::Named(names) => TopicFilter {
            names: names.iter().map(|name| name.as_str().into()).collect(),
            pattern: None,
        },
        kafka::config::Topics::Matching(pattern) => TopicFilter {
            names: Vec::new(),
            pattern: Some(pattern.as_str().to_owned()),
        },
    }
}

/// Whether a source connector brings in records of `topic`.
fn reads_topic(connector: &Connector, topic: &str) -> bool {
    match &connector.checked {
        Checked::KafkaSource(config) => config.topics.include(topic),
        Checked::GeneratorSource(config) => &*config.topic == topic,
        // A plugin names the topics of its records as they come: its task knows which streams are its own.
        Checked::PluginSource(_) => false,
        Checked::KafkaSink(_) | Checked::SqliteSink(_) | Checked::PluginSink(_) => false,
    }
}

fn grants(config: &Config) -> Grants {
    let read = config.grants.iter().map(|grant| {
        let patterns = grant.topics.clone();
        ReadGrant {
            to: grant.to.as_str().into(),
            covers: Arc::new(move |topic| patterns.iter().any(|pattern| pattern.matches(topic))),
            via: grant.via.iter().map(|via| via.as_str().into()).collect(),
        }
    });
    let relay = config.relays.iter().map(|relay| RelayGrant {
        from: relay.from.as_str().into(),
        to: relay.to.as_str().into(),
    });
    Grants {
        read: read.collect(),
        relay: relay.collect(),
    }
}

fn peers(config: &Config) -> Result<Vec<PeerConfig>, identity::Error> {
    let peer = |peer: &config::Peer| {
        let gateways = peer
            .gateways
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, _>>()?;
        let addresses = peer
            .addresses
            .iter()
            .map(|address| address.as_str().to_owned())
            .collect();
        Ok(PeerConfig {
            site: peer.site.as_str().into(),
            gateways: Arc::new(gateways),
            addresses,
        })
    };
    config.peers.iter().map(peer).collect()
}

fn outbox_options(config: &Config) -> outbox::Options {
    let mut options = outbox::Options::new(config.state.join("outbox"));
    options.engine = match config.outbox.engine {
        config::Engine::Sled => EngineKind::Sled,
        config::Engine::Log => EngineKind::Log,
    };
    options.quota_bytes = config.outbox.quota.0;
    options.reserve_bytes = config.outbox.reserve.0;
    options.flush_every = config.outbox.flush_every;
    options.cache_bytes = usize::try_from(config.outbox.cache.0).unwrap_or(usize::MAX);
    options.verifier = executable::own();
    options.reads_all = true;
    options
}

fn prepare_state(state: &Path) -> io::Result<()> {
    std::fs::create_dir_all(state.join("identity"))
}

/// The secret by which peers of a former life of this gateway are told that it is over: made once, then kept.
fn kept_secret(path: &PathBuf) -> io::Result<[u8; 32]> {
    match std::fs::read(path) {
        Ok(bytes) => bytes
            .try_into()
            .map_err(|_| io::Error::other("it does not hold 32 bytes; remove it to make it anew")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut secret = [0; 32];
            rand::rng().fill_bytes(&mut secret);
            write_private(path, &secret)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
