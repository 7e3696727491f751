//! What is measured: each mirror copies the lab's topic from broker A to broker B.

use crate::kafka::{Cluster, PARTITIONS};
use anyhow::{Context, bail};
use culvert_tests::broker::Runtime;
use culvert_tests::process::Process;
use culvert_tests::{Gateway, Scratch, TestCa, TlsFiles, ports};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// The mirrors, as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Baseline (a): librdkafka's two ends in one process, in transactions.
    Plain,
    /// Culvert with segment files as outbox.
    Log,
    /// Culvert with sled as outbox.
    Sled,
    /// Culvert with a relay between the two gateways, segment files in all three.
    Relayed,
    /// Baseline (b): MirrorMaker 2, exactly-once.
    Mm2,
}

impl Kind {
    /// As the table names it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Plain => "(a) librdkafka alone",
            Kind::Log => "Culvert, `log` outbox",
            Kind::Sled => "Culvert, `sled` outbox",
            Kind::Relayed => "Culvert, `log`, with a relay",
            Kind::Mm2 => "(b) MirrorMaker 2",
        }
    }

    /// Prepares a mirror of `topic`; starts nothing.
    pub(crate) fn prepare(
        self,
        source: &Cluster,
        target: &Cluster,
        topic: &str,
    ) -> anyhow::Result<Box<dyn Mirror>> {
        Ok(match self {
            Kind::Plain => Box::new(Plain::prepare(source, target, topic)?),
            Kind::Log => Box::new(Gateways::prepare(source, target, topic, "log", false)?),
            Kind::Sled => Box::new(Gateways::prepare(source, target, topic, "sled", false)?),
            Kind::Relayed => Box::new(Gateways::prepare(source, target, topic, "log", true)?),
            Kind::Mm2 => Box::new(Mm2::prepare(source, target, topic)?),
        })
    }
}

/// A mirror: one process or several.
pub(crate) trait Mirror {
    /// Starts all processes at once and waits for nothing.
    fn launch(&mut self) -> anyhow::Result<()>;

    /// The processes, the one that reads first.
    fn processes(&self) -> anyhow::Result<Vec<u32>>;

    /// The topic at the target.
    fn target_topic(&self) -> String;

    /// The processes whose death is tried, by what they do.
    fn mortals(&self) -> Vec<&'static str>;

    /// Kills the process of this name with SIGKILL.
    fn kill(&mut self, name: &str) -> anyhow::Result<()>;

    /// Starts it again and waits for nothing.
    fn revive(&mut self, name: &str) -> anyhow::Result<()>;

    /// Fails when something was logged that asks a person to look.
    fn judge(&self) -> anyhow::Result<()>;

    /// How each process stands and what it said last, for who asks why a measurement failed.
    fn last_words(&self) -> String;
}

/// What `run` makes of a mirror; when it fails, the mirror's last words are shown with it.
pub(crate) fn watched<T>(
    mirror: &mut dyn Mirror,
    run: impl FnOnce(&mut dyn Mirror) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let outcome = run(mirror);
    if outcome.is_err() {
        eprintln!("{}", mirror.last_words());
    }
    outcome
}

// ----- Culvert ---------------------------------------------------------------------------------------------------

/// Two gateways, or three in a row, as users run them.
struct Gateways {
    origin: Gateway,
    relay: Option<Gateway>,
    sink: Gateway,
    topic: String,
    _ca: TestCa,
}

/// The trust domain of the lab's gateways.
pub(crate) const DOMAIN: &str = "bench.test";

/// Killed processes break links, which is logged.
const EXPECTED_ALARMS: &[&str] = &[];

impl Gateways {
    fn prepare(
        source: &Cluster,
        target: &Cluster,
        topic: &str,
        engine: &str,
        relayed: bool,
    ) -> anyhow::Result<Gateways> {
        Gateways::prepare_beside(source, target, topic, engine, relayed, None)
    }

    /// As [`Gateways::prepare`], with one connector more at either end: another topic, and at the sink stages from a folder.
    fn prepare_beside(
        source: &Cluster,
        target: &Cluster,
        topic: &str,
        engine: &str,
        relayed: bool,
        neighbour: Option<Neighbour<'_>>,
    ) -> anyhow::Result<Gateways> {
        let ca = TestCa::new("bench")?;
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free_udp()).into();
        let head = |name: &str, site: &str, listens: bool| -> anyhow::Result<String> {
            let TlsFiles { ca, certificate, key } = ca.gateway(DOMAIN, name)?;
            let listen = if listens {
                address
            } else {
                (Ipv4Addr::LOCALHOST, ports::free_udp()).into()
            };
            Ok(format!(
                "gateway = \"{name}\"\nsite = \"{site}\"\nstate = \"state\"\n[outbox]\nengine = \"{engine}\"\n\
                 [identity]\ncertificate = {certificate:?}\nkey = {key:?}\nca = [{ca:?}]\ntrust_domain = \"{DOMAIN}\"\n\
                 [tunnel]\nlisten = \"{listen}\"\n"
            ))
        };
        let peer = |site: &str, gateway: &str, dialled: bool| {
            let address = if dialled {
                format!("address = [\"{address}\"]\n")
            } else {
                String::new()
            };
            format!("[[peer]]\nsite = \"{site}\"\ngateways = [\"{gateway}\"]\n{address}")
        };
        let grant = |via: &str| format!("[[grant]]\nto = \"east\"\ntopics = [\"*\"]\n{via}");
        let relay = if relayed {
            let config = head("relay", "middle", true)?
                + &peer("west", "origin", false)
                + &peer("east", "sink", false)
                + "[[relay]]\nfrom = \"west\"\nto = \"east\"\n";
            Some(Gateway::prepare("relay", &config, &[])?)
        } else {
            None
        };
        let (origin, sink) = if relayed {
            let origin = head("origin", "west", false)?
                + &peer("middle", "relay", true)
                + &grant("via = [\"middle\"]\n");
            (
                origin,
                head("sink", "east", false)? + &peer("middle", "relay", true),
            )
        } else {
            let origin = head("origin", "west", true)? + &peer("east", "sink", false) + &grant("");
            (
                origin,
                head("sink", "east", false)? + &peer("west", "origin", true),
            )
        };
        // Each pair has connectors of its own name, and so a group and positions of its own.
        let name = format!("{topic}-{engine}{}", if relayed { "-relayed" } else { "" });
        let reads = json!({"name": name, "config": {
            "connector.class": "io.culvert.kafka.KafkaSource",
            "topics": topic,
            "kafka.bootstrap.servers": source.bootstrap(),
        }});
        let mut writes = json!({"name": name, "config": {
            "connector.class": "io.culvert.kafka.KafkaSink",
            "topics": topic,
            "culvert.from": "west",
            "culvert.topic.rename": name,
            "kafka.bootstrap.servers": target.bootstrap(),
            "topic.creation.default.partitions": PARTITIONS.to_string(),
            "topic.creation.default.replication.factor": "1",
        }});
        if relayed {
            writes["config"]["culvert.via"] = "middle".into();
        }
        target.make(&name)?;
        let (mut sources, mut sinks) = (
            vec![("source", reads.to_string())],
            vec![("sink", writes.to_string())],
        );
        let mut sink = sink;
        if let Some((beside, folder, stages)) = neighbour {
            let named = |connector: &serde_json::Value, more: &serde_json::Value| {
                let mut connector = connector.clone();
                connector["name"] = beside.into();
                connector["config"]["topics"] = beside.into();
                if let (Some(settings), Some(more)) = (connector["config"].as_object_mut(), more.as_object())
                {
                    settings.extend(more.clone());
                }
                connector.to_string()
            };
            target.make(beside)?;
            sources.push(("source-beside", named(&reads, &json!({}))));
            let mut more = stages.clone();
            more["culvert.topic.rename"] = beside.into();
            sinks.push(("sink-beside", named(&writes, &more)));
            sink += &format!("[plugins]\ndirectory = {folder:?}\n");
        }
        let named = |files: &[(&'static str, String)], name: &str, config: &str| {
            let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
            Gateway::prepare(name, config, &files)
        };
        Ok(Gateways {
            origin: named(&sources, "origin", &origin)?,
            relay,
            sink: named(&sinks, "sink", &sink)?,
            topic: name,
            _ca: ca,
        })
    }

    fn all(&self) -> impl Iterator<Item = &Gateway> {
        [&self.origin, &self.sink].into_iter().chain(&self.relay)
    }

    fn named(&self, name: &str) -> anyhow::Result<&Gateway> {
        match name {
            "origin" => Ok(&self.origin),
            "sink" => Ok(&self.sink),
            _ => bail!("no gateway {name}"),
        }
    }
}

/// A connector beside the measured one: its topic, the folder of its plugins, and its stages at the sink.
pub(crate) type Neighbour<'a> = (&'a str, &'a std::path::Path, &'a serde_json::Value);

/// Two gateways with segment files as outbox, and perhaps a neighbour of the connector that is measured.
pub(crate) struct Pair(Gateways);

impl Pair {
    pub(crate) fn prepare(
        source: &Cluster,
        target: &Cluster,
        topic: &str,
        neighbour: Option<Neighbour<'_>>,
    ) -> anyhow::Result<Pair> {
        Gateways::prepare_beside(source, target, topic, "log", false, neighbour).map(Pair)
    }

    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        self.0.launch()
    }

    pub(crate) fn target_topic(&self) -> String {
        self.0.target_topic()
    }
}

impl Mirror for Gateways {
    fn launch(&mut self) -> anyhow::Result<()> {
        self.all().try_for_each(Gateway::launch)
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        self.all()
            .map(|gateway| gateway.id().context("a gateway does not run"))
            .collect()
    }

    fn target_topic(&self) -> String {
        self.topic.clone()
    }

    /// A relay that is ahead has all that a killed origin could show.
    fn mortals(&self) -> Vec<&'static str> {
        if self.relay.is_some() {
            vec!["sink"]
        } else {
            vec!["origin", "sink"]
        }
    }

    fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.named(name)?.kill9()
    }

    fn revive(&mut self, name: &str) -> anyhow::Result<()> {
        self.named(name)?.launch()
    }

    fn judge(&self) -> anyhow::Result<()> {
        for gateway in self.all() {
            let log = gateway.log()?;
            let alarms: Vec<&str> = log
                .lines()
                .filter(|line| {
                    ["\"WARN\"", "\"ERROR\"", "panicked"]
                        .iter()
                        .any(|word| line.contains(word))
                })
                .filter(|line| !EXPECTED_ALARMS.iter().any(|expected| line.contains(expected)))
                .collect();
            if !alarms.is_empty() {
                eprintln!(
                    "logged in {}:\n  {}",
                    gateway.directory().display(),
                    alarms.join("\n  ")
                );
            }
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let words = self.all().map(|gateway| {
            let status = gateway
                .cli_ok(&["status"])
                .unwrap_or_else(|error| error.to_string());
            let log = gateway.log().unwrap_or_default();
            let first = log.lines().count().saturating_sub(LAST_LINES);
            let lines: Vec<&str> = log.lines().skip(first).collect();
            format!(
                "{}\n{status}\n{}\n",
                gateway.directory().display(),
                lines.join("\n")
            )
        });
        words.collect()
    }
}

/// How much of a log is shown.
const LAST_LINES: usize = 30;

// ----- one process -----------------------------------------------------------------------------------------------

/// A mirror that is one process.
struct Single {
    command: Command,
    name: &'static str,
    process: Option<Process>,
    scratch: Scratch,
}

impl Single {
    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = self.scratch.path().join("log");
        self.process = Some(Process::spawn(self.name, &self.command, &log)?);
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let process = self
            .process
            .as_ref()
            .with_context(|| format!("{} does not run", self.name))?;
        if let Some(status) = process.ended() {
            bail!("{} ended ({status})\n{}", self.name, process.tail());
        }
        Ok(vec![process.id()])
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().map_or(Ok(()), |process| process.kill9())
    }

    fn last_words(&self) -> String {
        self.process.as_ref().map(Process::tail).unwrap_or_default()
    }
}

/// Baseline (a), this program under another verb; see [`crate::plain`].
struct Plain(Single, String);

impl Plain {
    fn prepare(source: &Cluster, target: &Cluster, topic: &str) -> anyhow::Result<Plain> {
        let name = format!("{topic}-plain");
        target.make(&name)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["plain", &source.bootstrap(), topic, &target.bootstrap(), &name]);
        let single = Single {
            command,
            name: "plain",
            process: None,
            scratch: Scratch::new("plain")?,
        };
        Ok(Plain(single, name))
    }
}

impl Mirror for Plain {
    fn launch(&mut self) -> anyhow::Result<()> {
        self.0.spawn()
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        self.0.processes()
    }

    fn target_topic(&self) -> String {
        self.1.clone()
    }

    /// It keeps no positions, so it has nothing to come back to.
    fn mortals(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn kill(&mut self, _: &str) -> anyhow::Result<()> {
        self.0.kill()
    }

    fn revive(&mut self, _: &str) -> anyhow::Result<()> {
        self.0.spawn()
    }

    fn judge(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn last_words(&self) -> String {
        self.0.last_words()
    }
}

/// Baseline (b): MirrorMaker 2 of the same Kafka as the brokers, in its dedicated mode.
struct Mm2(Single, String);

/// MirrorMaker 2 with exactly-once, tuned for throughput at a fair latency: large polls and batches, a short linger.
///
/// A transaction is what one poll returned (`transaction.boundary=poll`), so the size of polls decides most.
fn mm2_properties(source: &Cluster, target: &Cluster, topic: &str) -> String {
    format!(
        "clusters=A,B\nA.bootstrap.servers={}\nB.bootstrap.servers={}\n\
         A->B.enabled=true\nB->A.enabled=false\nA->B.topics={topic}\ntasks.max={PARTITIONS}\n\
         replication.factor=1\noffset-syncs.topic.replication.factor=1\nheartbeats.topic.replication.factor=1\n\
         checkpoints.topic.replication.factor=1\noffset.storage.replication.factor=1\n\
         config.storage.replication.factor=1\nstatus.storage.replication.factor=1\n\
         emit.heartbeats.enabled=false\nsync.topic.acls.enabled=false\n\
         sync.topic.configs.enabled=false\nrefresh.topics.interval.seconds=10\n\
         B.exactly.once.source.support=enabled\ndedicated.mode.enable.internal.rest=true\n\
         listeners=http://127.0.0.1:{}\n\
         A.consumer.isolation.level=read_committed\nA.consumer.auto.offset.reset=earliest\n\
         A.consumer.max.poll.records=5000\nA.consumer.fetch.max.bytes=16777216\n\
         A.consumer.max.partition.fetch.bytes=4194304\nA.consumer.receive.buffer.bytes=-1\n\
         B.producer.batch.size=524288\nB.producer.linger.ms=5\nB.producer.buffer.memory=67108864\n\
         B.producer.send.buffer.bytes=-1\n",
        source.bootstrap(),
        target.bootstrap(),
        ports::free_tcp(),
    )
}

impl Mm2 {
    fn prepare(source: &Cluster, target: &Cluster, topic: &str) -> anyhow::Result<Mm2> {
        let Runtime::Jars(libs) = Runtime::choose()? else {
            bail!(
                "MirrorMaker 2 runs from jars\n\nset CULVERT_LAB_BROKERS=jars and run `cargo xtask prepare`"
            );
        };
        let scratch = Scratch::new("mm2")?;
        let properties = scratch.write("mm2.properties", &mm2_properties(source, target, topic))?;
        let log4j = scratch.write("log4j2.yaml", LOG4J)?;
        let mut command = Command::new("java");
        command
            .args(["-Xms512m", "-Xmx1g", "-XX:+UseG1GC", "-cp"])
            .arg(format!("{}/*", libs.display()))
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .arg("org.apache.kafka.connect.mirror.MirrorMaker")
            .arg(properties);
        let single = Single {
            command,
            name: "MirrorMaker",
            process: None,
            scratch,
        };
        Ok(Mm2(single, format!("A.{topic}")))
    }
}

const LOG4J: &str = "Configuration:\n  Appenders:\n    Console:\n      name: STDOUT\n  Loggers:\n    Root:\n      level: WARN\n      AppenderRef:\n        - ref: STDOUT\n";

impl Mirror for Mm2 {
    fn launch(&mut self) -> anyhow::Result<()> {
        self.0.spawn()
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        self.0.processes()
    }

    fn target_topic(&self) -> String {
        self.1.clone()
    }

    fn mortals(&self) -> Vec<&'static str> {
        vec!["worker"]
    }

    fn kill(&mut self, _: &str) -> anyhow::Result<()> {
        self.0.kill()
    }

    fn revive(&mut self, _: &str) -> anyhow::Result<()> {
        self.0.spawn()
    }

    fn judge(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn last_words(&self) -> String {
        self.0.last_words()
    }
}

/// How long a mirror may take until its first record arrived.
pub(crate) const FIRST: Duration = Duration::from_secs(120);
