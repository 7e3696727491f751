//! One Apache Kafka node as a process, on loopback, with its data in a temporary directory.

use crate::proxy::Proxy;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A broker of one's own, for a test that stops it.
pub(crate) struct Broker {
    directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

/// The address of the broker that all tests of this process share.
pub(crate) fn broker() -> String {
    static SHARED: OnceLock<Broker> = OnceLock::new();
    SHARED.get_or_init(Broker::start).address()
}

impl Broker {
    pub(crate) fn start() -> Broker {
        let port = free_port();
        Broker::start_at(port, port)
    }

    /// A broker that tells its clients to come through `proxy`.
    pub(crate) fn start_behind(proxy: &Proxy) -> Broker {
        let port = free_port();
        proxy.forward_to(port);
        Broker::start_at(port, proxy.port)
    }

    fn start_at(port: u16, advertised: u16) -> Broker {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let properties = properties(directory.path(), port, advertised, free_port());
        fs::write(directory.path().join("server.properties"), properties).expect("server.properties");
        let mut broker = Broker {
            directory,
            port,
            child: None,
        };
        broker.run_tool(&[
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "5L6g3nShT-eMCtK--X86sw",
            "-c",
            "server.properties",
        ]);
        broker.restart();
        broker
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts a stopped broker on its old data and waits until it answers.
    pub(crate) fn restart(&mut self) {
        // The shell outlives a test that is killed, sees its own input end, and takes the broker along.
        let script = r#"java "$@" >server.log 2>&1 & trap 'kill -9 $!' EXIT; cat >/dev/null"#;
        let child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(java_arguments())
            .args(["kafka.Kafka", "server.properties"])
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        self.child = Some(child);
        self.wait_until_ready();
    }

    /// Kills the broker; its data stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            child.wait().expect("the shell ends");
        }
    }

    /// Removes what a stopped broker holds of a partition, as a lost disk does.
    pub(crate) fn lose(&self, topic: &str, partition: i32) {
        let log = format!("data/{topic}-{partition}");
        fs::remove_dir_all(self.directory.path().join(log)).expect("the partition's log");
    }

    fn wait_until_ready(&self) {
        let probe: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .create()
            .expect("a client");
        let deadline = Instant::now() + Duration::from_secs(90);
        while probe.fetch_metadata(None, Duration::from_secs(1)).is_err() {
            let log = self.directory.path().join("server.log");
            assert!(
                Instant::now() < deadline,
                "Kafka did not start: {}",
                fs::read_to_string(log).unwrap_or_default()
            );
        }
    }

    fn run_tool(&self, arguments: &[&str]) {
        let output = Command::new("java")
            .args(java_arguments())
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .expect("java, which Kafka needs, is installed");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn java_arguments() -> Vec<String> {
    let class_path = format!("{}/*", libraries().display());
    [
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xshare:auto",
        "-cp",
        &class_path,
    ]
    .map(str::to_owned)
    .into()
}

fn libraries() -> PathBuf {
    let home = std::env::var("KAFKA_HOME").map(PathBuf::from);
    let lab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.lab/kafka");
    let candidates = home.into_iter().chain([lab]).map(|home| home.join("libs"));
    let found = candidates.into_iter().find(|libs| libs.is_dir());
    found.expect("Apache Kafka's jars are in .lab/kafka/libs (cargo xtask prepare) or $KAFKA_HOME/libs")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn properties(directory: &Path, port: u16, advertised: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=100
log.retention.ms=-1
",
        directory.display()
    )
}
