//! Three networks in a row with a broker at each end, and what can be broken between them.

use crate::kafka;
use crate::road::Road;
use anyhow::{Context, bail};
use culvert_tests::{Broker, BrokerOptions, Gateway, Network, TestCa, TlsFiles, ports, wait_for};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The one topic, of the same name at both ends.
pub const TOPIC: &str = "orders";

/// How a site differs from the plain one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Partitions of the topic.
    pub partitions: i32,
    /// `outbox.engine` of all gateways.
    pub engine: &'static str,
    /// A second gateway in network 1, with the same connector.
    pub spare: bool,
    /// Decides what the relays drop.
    pub seed: u64,
    /// Each site in a network of its own, instead of all on loopback.
    pub apart: bool,
    /// Links may go over TCP, and the roads have it.
    pub tcp: bool,
}

impl Options {
    /// Three partitions, the default engine, no spare.
    pub fn new(seed: u64) -> Options {
        Options {
            partitions: 3,
            engine: "sled",
            spare: false,
            seed,
            apart: false,
            tcp: false,
        }
    }
}

/// What stands. Dropping it ends all of it and removes its directories.
pub struct Site {
    /// Network 1's cluster.
    pub source: Broker,
    /// Network 3's cluster. Gateway 3 reaches it through [`Broker::proxy`], the judges directly.
    pub target: Broker,
    /// `gw1`, `gw2`, `gw3`, and `gw4` when there is a spare.
    pub gateways: Vec<Gateway>,
    /// Between network 1 and network 2.
    pub west: Road,
    /// Between network 3 and network 2.
    pub east: Road,
    /// Of the three sites, where they are apart.
    pub networks: Option<[Network; 3]>,
    /// Where gateway 2 listens for links.
    pub tunnel: SocketAddr,
    /// Of the topic.
    pub partitions: i32,
    /// Its files are read again at each start of a gateway.
    ca: TestCa,
}

const DOMAIN: &str = "soak.test";
const READY: Duration = Duration::from_secs(90);

impl Site {
    /// Starts brokers, network and gateways, and waits until all are ready.
    ///
    /// # Errors
    /// When something does not come up in time.
    pub fn start(options: &Options) -> anyhow::Result<Site> {
        let site = Site::prepare(options)?;
        site.launch()?;
        Ok(site)
    }

    /// Starts the gateways and waits until all are ready.
    ///
    /// # Errors
    /// When one does not come up in time.
    pub fn launch(&self) -> anyhow::Result<()> {
        self.gateways.iter().try_for_each(Gateway::launch)?;
        self.ready()
    }

    /// Starts brokers and network, and writes what the gateways are given.
    ///
    /// # Errors
    /// When something does not come up in time.
    pub fn prepare(options: &Options) -> anyhow::Result<Site> {
        let networks = match options.apart {
            true => Some([Network::new(1)?, Network::new(2)?, Network::new(3)?]),
            false => None,
        };
        let network = |number: usize| networks.as_ref().map(|networks| networks[number - 1].clone());
        let (source, target) = std::thread::scope(|scope| {
            let target = scope.spawn(|| Broker::start(broker(true, network(3))));
            (Broker::start(broker(false, network(1))), target.join())
        });
        let target = target.map_err(|_| anyhow::anyhow!("the target's broker panicked"))?;
        let (source, target) = (source.context("start the source's broker")?, target?);
        for broker in [&source, &target] {
            kafka::create(&broker.bootstrap(), TOPIC, options.partitions)?;
        }
        let ca = TestCa::new("soak")?;
        let gate = |number| network(number).map_or(Ipv4Addr::LOCALHOST, |network| network.gate());
        let inside = |number| network(number).map_or(Ipv4Addr::LOCALHOST, |network| network.outward());
        let tunnel: SocketAddr = (inside(2), ports::free_udp()).into();
        let road = |number, seed| Road::between(gate(number), gate(2), tunnel, seed, options.tcp);
        let west = road(1, options.seed)?;
        let east = road(3, options.seed.wrapping_add(1))?;
        let files = Files {
            ca: &ca,
            options,
            hosts: [inside(1), inside(2), inside(3)],
            source: source.bootstrap(),
            target: target.bootstrap_proxied(),
        };
        let mut gateways = vec![
            files.first("gw1", west.address())?,
            files.relay(tunnel)?,
            files.last(east.address())?,
        ];
        if options.spare {
            gateways.push(files.first("gw4", west.address())?);
        }
        for (gateway, number) in gateways.iter_mut().zip([1, 2, 3, 1]) {
            if let Some(network) = network(number) {
                gateway.set_network(&network);
            }
        }
        Ok(Site {
            source,
            target,
            gateways,
            west,
            east,
            networks,
            tunnel,
            partitions: options.partitions,
            ca,
        })
    }

    /// Waits until all gateways are ready.
    ///
    /// # Errors
    /// When one is not in time.
    pub fn ready(&self) -> anyhow::Result<()> {
        for gateway in &self.gateways {
            let ready = wait_for(READY, "a gateway to be ready", || {
                gateway.is_ready().then_some(())
            });
            ready.with_context(|| self.statuses())?;
        }
        Ok(())
    }

    /// The gateway `gw<number>`.
    pub fn gateway(&self, number: usize) -> &Gateway {
        &self.gateways[number - 1]
    }

    /// Looks whether a gateway has ended by itself, which explains much.
    ///
    /// # Errors
    /// When one has; with the end of its log.
    pub fn all_run(&self) -> anyhow::Result<()> {
        for (number, gateway) in (1..).zip(&self.gateways) {
            if let Some(code) = gateway.exit_code() {
                let log = gateway.log().unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(12).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
                bail!("gw{number} ended by itself with code {code}:\n{tail}");
            }
        }
        Ok(())
    }

    /// Gives a gateway a new key and certificate in the files that it reads at a start and at [`Gateway::reload`].
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn renew(&self, number: usize) -> anyhow::Result<()> {
        self.ca.gateway(DOMAIN, &format!("gw{number}")).map(drop)
    }

    /// As [`Site::renew`], with a certificate that ends soon.
    ///
    /// # Errors
    /// As [`Site::renew`].
    pub fn expire(&self, number: usize, end: SystemTime) -> anyhow::Result<()> {
        let name = format!("gw{number}");
        self.ca.gateway_until(DOMAIN, &name, end).map(drop)
    }

    /// What every gateway says of itself, for a failure.
    pub fn statuses(&self) -> String {
        let one = |gateway: &Gateway| match gateway.cli(&["status", "--streams"]) {
            Ok(said) => [said.stdout, said.stderr]
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .concat(),
            Err(fault) => format!("{fault:#}\n"),
        };
        self.gateways.iter().map(one).collect()
    }

    /// Copies the gateways' files and logs, and the brokers' logs, where they outlive the site.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("status.txt"), self.statuses())?;
        for (number, gateway) in self.gateways.iter().enumerate() {
            for file in ["culvert.log", "culvert.toml"] {
                let kept = folder.join(format!("gw{}-{file}", number + 1));
                fs::copy(gateway.directory().join(file), kept)?;
            }
        }
        for (name, broker) in [("source", &self.source), ("target", &self.target)] {
            for entry in fs::read_dir(broker.directory())?.flatten() {
                let file = entry.file_name().to_string_lossy().into_owned();
                if file.ends_with(".log") && entry.path().is_file() {
                    fs::copy(entry.path(), folder.join(format!("{name}-{file}")))?;
                }
            }
        }
        Ok(())
    }
}

fn broker(proxied: bool, network: Option<Network>) -> BrokerOptions {
    BrokerOptions {
        proxied,
        network,
        full_jit: true,
        // Big enough that no load here is held up by it, small enough that disk is given back within a run.
        properties: vec![("log.segment.bytes".into(), (256 << 20).to_string())],
        ..BrokerOptions::default()
    }
}

/// Writes what the gateways are given.
struct Files<'a> {
    ca: &'a TestCa,
    options: &'a Options,
    /// What the gateways of each site listen on.
    hosts: [Ipv4Addr; 3],
    source: String,
    target: String,
}

impl Files<'_> {
    fn first(&self, name: &str, hop: SocketAddr) -> anyhow::Result<Gateway> {
        let file = format!(
            "{head}[[peer]]\nsite = \"site2\"\ngateways = [\"gw2\"]\naddress = [\"{hop}\"]\n\
             [[grant]]\nto = \"site3\"\ntopics = [\"*\"]\nvia = [\"site2\"]\n",
            head = self.head(name, 1, None)?,
        );
        let source = json!({"name": "soak", "config": {
            "connector.class": "io.culvert.kafka.KafkaSource",
            "topics": TOPIC,
            "kafka.bootstrap.servers": self.source,
        }});
        Gateway::prepare(name, &file, &[("source", &source.to_string())])
    }

    fn relay(&self, tunnel: SocketAddr) -> anyhow::Result<Gateway> {
        let file = format!(
            "{head}[[peer]]\nsite = \"site1\"\ngateways = [\"gw1\", \"gw4\"]\n\
             [[peer]]\nsite = \"site3\"\ngateways = [\"gw3\"]\n[[relay]]\nfrom = \"site1\"\nto = \"site3\"\n",
            head = self.head("gw2", 2, Some(tunnel))?,
        );
        Gateway::prepare("gw2", &file, &[])
    }

    fn last(&self, hop: SocketAddr) -> anyhow::Result<Gateway> {
        let file = format!(
            "{head}[[peer]]\nsite = \"site2\"\ngateways = [\"gw2\"]\naddress = [\"{hop}\"]\n",
            head = self.head("gw3", 3, None)?,
        );
        let sink = json!({"name": "soak", "config": {
            "connector.class": "io.culvert.kafka.KafkaSink",
            "topics": TOPIC,
            "culvert.from": "site1",
            "culvert.via": "site2",
            "kafka.bootstrap.servers": self.target,
            "topic.creation.default.partitions": self.options.partitions.to_string(),
            "topic.creation.default.replication.factor": "1",
        }});
        Gateway::prepare("gw3", &file, &[("sink", &sink.to_string())])
    }

    fn head(&self, name: &str, number: usize, tunnel: Option<SocketAddr>) -> anyhow::Result<String> {
        let listen = tunnel.unwrap_or_else(|| (self.hosts[number - 1], ports::free_udp()).into());
        let head = head(
            self.ca,
            self.options.engine,
            name,
            &format!("site{number}"),
            Some(listen),
        )?;
        let fallback = if self.options.tcp { "tcp" } else { "none" };
        Ok(format!("{head}fallback = \"{fallback}\"\n"))
    }
}

/// The part of a gateway's file that all have.
pub(crate) fn head(
    ca: &TestCa,
    engine: &str,
    name: &str,
    site: &str,
    tunnel: Option<SocketAddr>,
) -> anyhow::Result<String> {
    let TlsFiles {
        certificate, key, ca, ..
    } = &ca.gateway(DOMAIN, name)?;
    let listen = tunnel.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, ports::free_udp()).into());
    Ok(format!(
        "gateway = \"{name}\"\nsite = \"{site}\"\nstate = \"state\"\n\
         [outbox]\nengine = \"{engine}\"\nquota = \"16GiB\"\n\
         [identity]\ncertificate = {certificate:?}\nkey = {key:?}\nca = [{ca:?}]\ntrust_domain = \"{DOMAIN}\"\n\
         [tunnel]\nlisten = \"{listen}\"\n"
    ))
}
