//! Three gateways in a row: Kafka → `gw1` → `gw2`, who relays → `gw3` → Kafka, with a network between each two.

use crate::cluster::{self, Load, Record, Tail, Topic};
use anyhow::{Context, bail, ensure};
use culvert_tests::{Gateway, TestCa, TlsFiles, UdpRelay, Verdict, ports, wait_for};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What a gateway warns of when processes and links fail on purpose: all of it is over by itself.
pub(crate) const CUTS: &[&str] = &["link down", "no link", "is away, trying again"];

/// The trust domain of all certificates.
pub(crate) const DOMAIN: &str = "suite.test";

/// What a line is made of. The connectors of both ends have the line's name, so that lines share clusters and nothing else.
pub(crate) struct Plan {
    pub(crate) name: String,
    /// What gateway 1 reads, as `topics` of the source.
    pub(crate) topics: String,
    pub(crate) source_cluster: String,
    pub(crate) target_cluster: String,
    /// More keys of the source's definition; they win over the plan's own.
    pub(crate) source_keys: Vec<(String, String)>,
    /// The same of the sink's definition.
    pub(crate) sink_keys: Vec<(String, String)>,
    /// More lines of each gateway's file, before its tables: dotted keys.
    pub(crate) settings: [String; 3],
    /// The gateways that may speak for site 1.
    pub(crate) first_names: Vec<String>,
}

impl Plan {
    /// Between the shared clusters, with the topic of the same name in each.
    pub(crate) fn new(name: &str) -> Plan {
        Plan {
            name: name.into(),
            topics: name.into(),
            source_cluster: cluster::source(),
            target_cluster: cluster::target(),
            source_keys: Vec::new(),
            sink_keys: Vec::new(),
            settings: Default::default(),
            first_names: vec!["gw1".into()],
        }
    }

    /// Between two plugins that need no cluster. Their own settings are given as keys.
    pub(crate) fn of_plugins(name: &str, source: &str, sink: &str) -> Plan {
        let plan = Plan {
            name: name.into(),
            topics: name.into(),
            source_cluster: String::new(),
            target_cluster: String::new(),
            source_keys: Vec::new(),
            sink_keys: Vec::new(),
            settings: Default::default(),
            first_names: vec!["gw1".into()],
        };
        plan.source_key("connector.class", source)
            .source_key("kafka.bootstrap.servers", "")
            .sink_key("connector.class", sink)
            .sink_key("kafka.bootstrap.servers", "")
            .sink_key("topic.creation.default.partitions", "")
            .sink_key("topic.creation.default.replication.factor", "")
    }

    pub(crate) fn source_key(mut self, key: &str, value: &str) -> Plan {
        self.source_keys.push((key.into(), value.into()));
        self
    }

    pub(crate) fn sink_key(mut self, key: &str, value: &str) -> Plan {
        self.sink_keys.push((key.into(), value.into()));
        self
    }

    /// Adds a line to the file of gateway `number`, 1 to 3.
    pub(crate) fn setting(mut self, number: usize, line: &str) -> Plan {
        self.settings[number - 1] += &format!("{line}\n");
        self
    }

    /// The topic of the plan's name at network 1.
    pub(crate) fn source(&self) -> Topic {
        Topic::new(&self.source_cluster, &self.name)
    }

    /// The topic of the plan's name at network 3.
    pub(crate) fn target(&self) -> Topic {
        Topic::new(&self.target_cluster, &self.name)
    }

    /// The consumer group of the source.
    pub(crate) fn group(&self) -> String {
        format!("culvert.{}", self.name)
    }

    /// Writes all files and starts nothing but the network.
    pub(crate) fn prepare(self) -> anyhow::Result<Line> {
        let ca = TestCa::new("suite")?;
        let tunnel: SocketAddr = (Ipv4Addr::LOCALHOST, ports::free_udp()).into();
        let [west, east] = [1, 2].map(|seed| UdpRelay::start(tunnel, seed));
        let (west, east) = (west?, east?);
        let first = self.first(&ca, "gw1", &west)?;
        let relay = self.relay(&ca, tunnel)?;
        let last = self.last(&ca, &east)?;
        Ok(Line {
            plan: self,
            first,
            relay,
            last,
            west,
            east,
            tunnel,
            ca,
        })
    }

    /// Starts all three, the relay first.
    pub(crate) fn start(self) -> anyhow::Result<Line> {
        let line = self.prepare()?;
        line.launch()?;
        Ok(line)
    }

    /// A gateway of site 1 called `name`.
    pub(crate) fn first(&self, ca: &TestCa, name: &str, west: &UdpRelay) -> anyhow::Result<Gateway> {
        let file = format!(
            "{head}[[peer]]\nsite = \"site2\"\ngateways = [\"gw2\"]\naddress = [\"{address}\"]\n\
             [[grant]]\nto = \"site3\"\ntopics = [\"*\"]\nvia = [\"site2\"]\n",
            head = head(name, "site1", &ca.gateway(DOMAIN, name)?, None, &self.settings[0]),
            address = west.address(),
        );
        Gateway::prepare(name, &file, &[("source", &self.source_definition().to_string())])
    }

    fn relay(&self, ca: &TestCa, tunnel: SocketAddr) -> anyhow::Result<Gateway> {
        let file = format!(
            "{head}[[peer]]\nsite = \"site1\"\ngateways = {first:?}\n[[peer]]\nsite = \"site3\"\ngateways = [\"gw3\"]\n\
             [[relay]]\nfrom = \"site1\"\nto = \"site3\"\n",
            head = head(
                "gw2",
                "site2",
                &ca.gateway(DOMAIN, "gw2")?,
                Some(tunnel),
                &self.settings[1]
            ),
            first = self.first_names,
        );
        Gateway::prepare("gw2", &file, &[])
    }

    fn last(&self, ca: &TestCa, east: &UdpRelay) -> anyhow::Result<Gateway> {
        let file = format!(
            "{head}[[peer]]\nsite = \"site2\"\ngateways = [\"gw2\"]\naddress = [\"{address}\"]\n",
            head = head(
                "gw3",
                "site3",
                &ca.gateway(DOMAIN, "gw3")?,
                None,
                &self.settings[2]
            ),
            address = east.address(),
        );
        Gateway::prepare("gw3", &file, &[("sink", &self.sink_definition().to_string())])
    }

    fn source_definition(&self) -> Value {
        let mut config = json!({
            "connector.class": "io.culvert.kafka.KafkaSource",
            "topics": self.topics,
            "kafka.bootstrap.servers": self.source_cluster,
        });
        merge(&mut config, &self.source_keys);
        json!({"name": self.name, "config": config})
    }

    fn sink_definition(&self) -> Value {
        let mut config = json!({
            "connector.class": "io.culvert.kafka.KafkaSink",
            "topics": self.topics,
            "culvert.from": "site1",
            "culvert.via": "site2",
            "kafka.bootstrap.servers": self.target_cluster,
            "topic.creation.default.partitions": "3",
            "topic.creation.default.replication.factor": "1",
        });
        merge(&mut config, &self.sink_keys);
        json!({"name": self.name, "config": config})
    }
}

/// Adds the keys of a definition; an empty value takes a key away.
fn merge(config: &mut Value, keys: &[(String, String)]) {
    for (key, value) in keys {
        if value.is_empty() {
            config
                .as_object_mut()
                .expect("a definition is an object")
                .remove(key);
        } else {
            config[key] = json!(value);
        }
    }
}

/// How long all gateways may take to be ready on a busy host.
const READY: Duration = Duration::from_secs(60);

/// The part of a gateway's file that all have.
pub(crate) fn head(name: &str, site: &str, tls: &TlsFiles, tunnel: Option<SocketAddr>, more: &str) -> String {
    let listen = tunnel.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, ports::free_udp()).into());
    format!(
        "gateway = \"{name}\"\nsite = \"{site}\"\nstate = \"state\"\ntunnel.listen = \"{listen}\"\n{more}\
         [identity]\ncertificate = {:?}\nkey = {:?}\nca = [{:?}]\ntrust_domain = \"{DOMAIN}\"\n",
        tls.certificate, tls.key, tls.ca
    )
}

/// A line that stands.
pub(crate) struct Line {
    pub(crate) plan: Plan,
    pub(crate) first: Gateway,
    pub(crate) relay: Gateway,
    pub(crate) last: Gateway,
    /// Between gateway 1 and gateway 2.
    pub(crate) west: UdpRelay,
    /// Between gateway 3 and gateway 2.
    pub(crate) east: UdpRelay,
    /// Where gateway 2 listens.
    pub(crate) tunnel: SocketAddr,
    pub(crate) ca: TestCa,
}

impl Line {
    pub(crate) fn gateways(&self) -> [&Gateway; 3] {
        [&self.first, &self.relay, &self.last]
    }

    /// Starts all three, the relay first, and waits until they are ready.
    pub(crate) fn launch(&self) -> anyhow::Result<()> {
        for gateway in [&self.relay, &self.last, &self.first] {
            gateway.launch()?;
        }
        for gateway in self.gateways() {
            wait_for(READY, "a gateway to be ready", || {
                gateway.is_ready().then_some(())
            })
            .with_context(|| account(gateway))?;
        }
        Ok(())
    }

    /// Adds a source and a sink of this name, for the topic of this name, to both ends. They start with their gateways.
    pub(crate) fn add_connectors(&self, name: &str, source_keys: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut source = json!({
            "name": name,
            "connector.class": "io.culvert.kafka.KafkaSource",
            "topics": name,
            "kafka.bootstrap.servers": self.plan.source_cluster,
        });
        for (key, value) in source_keys {
            source[*key] = json!(value);
        }
        let mut sink = self.plan.sink_definition()["config"].clone();
        sink["name"] = json!(name);
        sink["topics"] = json!(name);
        for (gateway, definition) in [(&self.first, source), (&self.last, sink)] {
            let file = gateway.directory().join(format!("connectors/{name}.json"));
            std::fs::write(file, definition.to_string())?;
        }
        Ok(())
    }

    /// As [`Line::judge`] for the topic of a connector that was added.
    pub(crate) fn judge_topic(&self, name: &str, deadline: Duration) -> anyhow::Result<Verdict> {
        let sent = Topic::new(&self.plan.source_cluster, name).read()?;
        let target = Topic::new(&self.plan.target_cluster, name);
        let mut arrived = wait_for(deadline, "the target topic", || Tail::open(&target).ok())
            .with_context(|| self.statuses())?;
        arrived
            .until(sent.len() as u64, deadline)
            .with_context(|| self.statuses())?;
        arrived.read_to_end()?;
        Ok(cluster::ledger(&sent, &arrived.records)?.verdict())
    }

    /// Waits until so many records more have arrived.
    pub(crate) fn more(&self, tail: &mut Tail, count: u64, deadline: Duration) -> anyhow::Result<()> {
        let goal = tail.records.len() as u64 + count;
        tail.until(goal, deadline).with_context(|| self.statuses())
    }

    /// No gateway has warned of anything but `expected`.
    #[track_caller]
    pub(crate) fn assert_no_unlisted_alarms(&self, expected: &[&str]) {
        for gateway in self.gateways() {
            gateway.assert_no_unlisted_alarms(expected);
        }
    }

    /// Waits until everything that network 1 holds has arrived, has the product prove it, and judges it independently.
    pub(crate) fn judge(&self, deadline: Duration) -> anyhow::Result<Verdict> {
        let sent = self.plan.source().read()?;
        let arrived = self.arrived(sent.len() as u64, deadline)?;
        let verdict = cluster::ledger(&sent, &arrived)?.verdict();
        if !verdict.is_exactly_once() {
            bail!("{verdict}");
        }
        self.proven(deadline)?;
        // What came after the count was reached would be a duplicate.
        let arrived = self.plan.target().read()?;
        Ok(cluster::ledger(&sent, &arrived)?.verdict())
    }

    /// Ends the load and judges that all it wrote has arrived, once.
    pub(crate) fn judge_load(&self, load: Load, deadline: Duration) -> anyhow::Result<Verdict> {
        let count = load.stop()?;
        let verdict = self.judge(deadline)?;
        ensure!(
            verdict.is_exactly_once() && verdict.sent == count,
            "{verdict}, {count} were acknowledged"
        );
        Ok(verdict)
    }

    /// All records of the target, as soon as `count` are there.
    pub(crate) fn arrived(&self, count: u64, deadline: Duration) -> anyhow::Result<Vec<Record>> {
        let mut tail = wait_for(deadline, "the target topic", || {
            Tail::open(&self.plan.target()).ok()
        })
        .with_context(|| self.statuses())?;
        tail.until(count, deadline).with_context(|| self.statuses())?;
        tail.read_to_end()?;
        Ok(tail.records)
    }

    /// `culvert prove` says that all has arrived.
    pub(crate) fn proven(&self, deadline: Duration) -> anyhow::Result<Value> {
        let wait = format!("{}s", deadline.as_secs());
        let proof = self.last.cli_ok(&["prove", "--wait", &wait, "--output", "json"]);
        Ok(serde_json::from_str(&proof.with_context(|| self.statuses())?)?)
    }

    /// What every gateway says of itself, for a failure: a test that ends with an error leaves no files behind.
    pub(crate) fn statuses(&self) -> String {
        self.gateways().map(account).concat()
    }
}

/// A gateway's status and the end of its log.
pub(crate) fn account(gateway: &Gateway) -> String {
    const LINES: usize = 12;
    let status = match gateway.cli(&["status", "--streams"]) {
        Ok(output) => [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat(),
        Err(fault) => format!("{fault:#}\n"),
    };
    let log = gateway.log().unwrap_or_default();
    let first = log.lines().count().saturating_sub(LINES);
    let tail: Vec<&str> = log.lines().skip(first).collect();
    let ended = gateway
        .exit_code()
        .map(|code| format!("ended with {code}\n"))
        .unwrap_or_default();
    format!("{status}{ended}{}\n\n", tail.join("\n"))
}

/// `culvert status --output json`.
pub(crate) fn status(gateway: &Gateway) -> anyhow::Result<Value> {
    let output = gateway.cli(&["status", "--output", "json"])?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A connector as `culvert status` shows it.
pub(crate) fn connector(gateway: &Gateway, name: &str) -> anyhow::Result<Value> {
    let status = status(gateway)?;
    let connectors = status["connectors"].as_array().context("connectors")?;
    let found = connectors.iter().find(|connector| connector["name"] == name);
    found.cloned().with_context(|| format!("no connector {name}"))
}

/// The streams of a connector.
pub(crate) fn streams(gateway: &Gateway, name: &str) -> anyhow::Result<Vec<Value>> {
    let connector = connector(gateway, name)?;
    Ok(connector["streams"].as_array().context("streams")?.clone())
}

/// How many places its streams have taken in, all together.
pub(crate) fn taken_in(gateway: &Gateway, name: &str) -> anyhow::Result<u64> {
    let streams = streams(gateway, name)?;
    Ok(streams.iter().filter_map(|stream| stream["tail"].as_u64()).sum())
}
