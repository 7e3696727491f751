//! Apache Kafka for tests: one KRaft node, started in about three seconds; or several in one cluster.

pub mod class_archive;
mod cluster;
mod properties;
mod runtime;

pub use cluster::BrokerCluster;
pub use runtime::{IMAGE, LABEL, Runtime};

use crate::{Network, Scratch, TcpProxy, TlsFiles, ports};
use anyhow::{Context, bail};
use runtime::Node;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// How a broker differs from the plain one: PLAINTEXT on loopback, no automatic topics, one copy of everything.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Adds a listener with mutual TLS that shows this certificate and trusts clients of the same authority.
    pub tls: Option<TlsFiles>,
    /// Adds a SASL listener that knows this one user by PLAIN and by SCRAM-SHA-256.
    pub sasl: Option<SaslUser>,
    /// Adds a listener whose clients all go through [`Broker::proxy`].
    pub proxied: bool,
    /// Where it runs: in a network of its own instead of on loopback.
    pub network: Option<Network>,
    /// The JVM's heap, MiB. 512 is enough for tests; benches give more.
    pub heap_mb: u32,
    /// Lets the JVM compile hot code fully. Off starts faster; benches turn it on.
    pub full_jit: bool,
    /// More arguments of the JVM.
    pub jvm: Vec<String>,
    /// More lines of `server.properties`; they win over the lab's own.
    pub properties: Vec<(String, String)>,
}

/// A user of the SASL listener.
#[derive(Clone, Debug)]
pub struct SaslUser {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        BrokerOptions {
            tls: None,
            sasl: None,
            proxied: false,
            network: None,
            heap_mb: 512,
            full_jit: false,
            jvm: Vec::new(),
            properties: Vec::new(),
        }
    }
}

/// One running Kafka node. Dropping it kills it and removes its data.
pub struct Broker {
    node: Mutex<Option<Node>>,
    proxy: Option<TcpProxy>,
    ports: Ports,
    options: BrokerOptions,
    lives: Mutex<u32>,
    scratch: Scratch,
}

/// Kafka's main class.
const SERVER: &str = "kafka.Kafka";

/// How long a start may take: 3 s alone, several times that beside a build.
const START: Duration = Duration::from_secs(90);

/// How long an orderly stop may take.
const STOP: Duration = Duration::from_secs(30);

/// What the broker's log says last, after its listeners are open and it may lead partitions.
const READY: &str = "Kafka Server started";

impl Broker {
    /// Formats a fresh directory, starts a node on free ports and waits until it serves.
    ///
    /// # Errors
    /// When nothing is prepared to run it, or it does not come up; its log's tail is part of the error.
    pub fn start(options: BrokerOptions) -> anyhow::Result<Broker> {
        let ports = Ports::choose(&options);
        let broker = Broker::prepare(options, ports, &cluster_id())?;
        broker.restart()?;
        Ok(broker)
    }

    /// A node that is formatted for a cluster, and not started.
    fn prepare(options: BrokerOptions, ports: Ports, cluster: &str) -> anyhow::Result<Broker> {
        let proxy = match ports.proxied {
            Some(port) => {
                let desk = options.network.as_ref().map(Network::desk);
                let proxy = TcpProxy::kafka_at(desk.unwrap_or(Ipv4Addr::LOCALHOST), ports.at(port));
                Some(proxy.context("start the broker's proxy")?)
            }
            None => None,
        };
        let broker = Broker {
            node: Mutex::new(None),
            proxy,
            ports,
            options,
            lives: Mutex::new(0),
            scratch: Scratch::new("broker")?,
        };
        broker.format(cluster)?;
        Ok(broker)
    }

    /// `host:port` of the PLAINTEXT listener.
    pub fn bootstrap(&self) -> String {
        self.ports.at(self.ports.plain).to_string()
    }

    /// `host:port` of the listener with mutual TLS.
    ///
    /// # Panics
    /// When the options asked for none.
    pub fn bootstrap_tls(&self) -> String {
        self.ports
            .at(self.ports.tls.expect("BrokerOptions::tls was not set"))
            .to_string()
    }

    /// `host:port` of the SASL listener.
    ///
    /// # Panics
    /// When the options asked for none.
    pub fn bootstrap_sasl(&self) -> String {
        self.ports
            .at(self.ports.sasl.expect("BrokerOptions::sasl was not set"))
            .to_string()
    }

    /// `host:port` of the listener behind [`Broker::proxy`]: the broker advertises the proxy's address there.
    ///
    /// # Panics
    /// When the options asked for none.
    pub fn bootstrap_proxied(&self) -> String {
        self.proxy().address().to_string()
    }

    /// What its proxied clients go through.
    ///
    /// # Panics
    /// When the options asked for none.
    pub fn proxy(&self) -> &TcpProxy {
        self.proxy.as_ref().expect("BrokerOptions::proxied was not set")
    }

    /// Ends it in good order: leaders resign, logs are flushed.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.take_node().map_or(Ok(()), |node| node.term(STOP))
    }

    /// Kills it as the kernel would (SIGKILL).
    ///
    /// # Errors
    /// When the kernel or the engine refuses.
    pub fn kill9(&self) -> anyhow::Result<()> {
        self.take_node().map_or(Ok(()), |node| node.kill9())
    }

    /// Starts it again on the same ports and data; kills it first if it runs.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn restart(&self) -> anyhow::Result<()> {
        self.launch()?;
        self.await_ready()
    }

    fn await_ready(&self) -> anyhow::Result<()> {
        let log = self.log();
        self.with_node(|node| {
            node.wait_ready(START, || {
                std::fs::read_to_string(&log).is_ok_and(|said| said.contains(READY))
            })
        })
    }

    /// Starts it, and does not wait: in a cluster none is ready before most are there.
    fn launch(&self) -> anyhow::Result<()> {
        self.kill9()?;
        *self.lives.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let arguments = self.jvm(SERVER, &[self.properties_file()]);
        let node = Node::start(&arguments, &self.log(), self.options.network.as_ref())?;
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
        Ok(())
    }

    /// What its life at hand says.
    fn log(&self) -> PathBuf {
        let life = *self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        self.scratch.path().join(format!("broker-{life}.log"))
    }

    /// Freezes it (SIGSTOP): connections stay open, nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.with_node(Node::pause)
    }

    /// Lets a frozen one go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.with_node(Node::resume)
    }

    /// Its directory: `server.properties`, `data/`, `broker-<life>.log`.
    pub fn directory(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// Runs one of Kafka's own tools (a Java class) against nothing but its arguments, and returns what it printed.
    ///
    /// # Errors
    /// When it fails; what it printed is part of the error.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        Node::run(&self.jvm(class, &arguments), self.scratch.path()).with_context(|| format!("run {class}"))
    }

    fn format(&self, cluster: &str) -> anyhow::Result<()> {
        self.scratch.write("log4j2.yaml", properties::LOG4J)?;
        let text = properties::server(
            &self.options,
            &self.ports,
            self.proxy.as_ref(),
            self.scratch.path(),
        )?;
        self.scratch.write("server.properties", &text)?;
        let mut arguments = vec!["format".into(), "--cluster-id".into(), cluster.to_owned()];
        arguments.extend(["--config".into(), self.properties_file()]);
        if let Some(user) = &self.options.sasl {
            arguments.push("--add-scram".into());
            arguments.push(format!(
                "SCRAM-SHA-256=[name={},password={}]",
                user.name, user.password
            ));
        }
        Node::run(
            &self.jvm("kafka.tools.StorageTool", &arguments),
            self.scratch.path(),
        )
        .context("format the broker's directory")?;
        Ok(())
    }

    /// The arguments of `java`, class path apart.
    fn jvm(&self, class: &str, arguments: &[String]) -> Vec<String> {
        let mut all = vec![
            format!("-Xmx{}m", self.options.heap_mb),
            "-XX:+UseSerialGC".into(),
        ];
        if !self.options.full_jit {
            all.push("-XX:TieredStopAtLevel=1".into());
        }
        all.push(format!(
            "-Dlog4j2.configurationFile={}",
            self.scratch.path().join("log4j2.yaml").display()
        ));
        if class == SERVER {
            all.extend_from_slice(&self.options.jvm);
        }
        all.push(class.to_owned());
        all.extend_from_slice(arguments);
        all
    }

    fn properties_file(&self) -> String {
        self.scratch
            .path()
            .join("server.properties")
            .display()
            .to_string()
    }

    fn take_node(&self) -> Option<Node> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn with_node(&self, act: impl FnOnce(&Node) -> anyhow::Result<()>) -> anyhow::Result<()> {
        match &*self.node.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(node) => act(node),
            None => bail!("the broker does not run"),
        }
    }
}

/// The one broker of this test process, for tests that only need topics with names of their own.
///
/// # Panics
/// When it cannot be started, in each test that asks for it.
pub fn shared_broker() -> &'static Broker {
    static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();
    let started =
        SHARED.get_or_init(|| Broker::start(BrokerOptions::default()).map_err(|fault| format!("{fault:#}")));
    match started {
        Ok(broker) => broker,
        Err(fault) => panic!("start the shared broker: {fault}"),
    }
}

/// Every port a node holds, chosen once for all its lives.
struct Ports {
    host: Ipv4Addr,
    controller: u16,
    plain: u16,
    tls: Option<u16>,
    sasl: Option<u16>,
    proxied: Option<u16>,
}

impl Ports {
    fn choose(options: &BrokerOptions) -> Ports {
        let host = options.network.as_ref().map(Network::address);
        Ports {
            host: host.unwrap_or(Ipv4Addr::LOCALHOST),
            controller: ports::free_tcp(),
            plain: ports::free_tcp(),
            tls: options.tls.as_ref().map(|_| ports::free_tcp()),
            sasl: options.sasl.as_ref().map(|_| ports::free_tcp()),
            proxied: options.proxied.then(ports::free_tcp),
        }
    }

    /// Where the clients of a listener find it.
    fn at(&self, port: u16) -> SocketAddr {
        (self.host, port).into()
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A fresh cluster id: 16 random bytes in URL-safe base64. The first character is a letter, because a leading `-`
/// would be read as an option.
fn cluster_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = crate::random_bits();
    let digit = |n: u32| char::from(DIGITS[((bits >> (6 * n)) & 63) as usize]);
    // 22 digits hold 132 bits; the last may only use its upper two.
    let middle: String = (0..20).map(digit).collect();
    format!("C{middle}A")
}

#[cfg(test)]
mod tests;
