//! Connector JSON → checked settings. All mistakes are reported together, each with its key and the nearest valid one.
//!
//! Settings of librdkafka go by their own names: `kafka.<setting>` for every client of the connector,
//! `consumer.override.<setting>`, `producer.override.<setting>` and `admin.override.<setting>` for one kind. What
//! exactly-once delivery rests on is ours alone and refused with the reason.

use super::partition::PartitionMap;
use crate::connector::Mistake;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use regex::Regex;
use std::collections::BTreeMap;
use std::time::Duration;

/// The class name of [`SourceConfig`]'s connector.
pub const SOURCE_CLASS: &str = "io.culvert.kafka.KafkaSource";
/// The class name of [`SinkConfig`]'s connector.
pub const SINK_CLASS: &str = "io.culvert.kafka.KafkaSink";

/// One configuration key, as the reference page shows it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name; `*` stands for a setting of librdkafka.
    pub name: &'static str,
    /// What it does, with its unit.
    pub doc: &'static str,
    /// Its value when it is not given; `None` where it must be given or has no value.
    pub default: Option<&'static str>,
    /// The version that brought it.
    pub since: &'static str,
}

const fn key(name: &'static str, default: Option<&'static str>, doc: &'static str) -> Key {
    Key {
        name,
        doc,
        default,
        since: "0.1",
    }
}

/// The keys of a Kafka source.
pub const SOURCE_KEYS: &[Key] = &[
    key(
        "kafka.*",
        None,
        "A librdkafka setting for every client of this connector, as kafka.bootstrap.servers.",
    ),
    key(
        "consumer.override.*",
        None,
        "A librdkafka setting for the consumer alone.",
    ),
    key(
        "admin.override.*",
        None,
        "A librdkafka setting for the client that asks about topics.",
    ),
    key(
        "topics",
        None,
        "The topics to read, separated by commas. Either this or topics.regex.",
    ),
    key(
        "topics.regex",
        None,
        "Reads every topic whose whole name matches; new ones are found within 30 s.",
    ),
    key(
        "tasks.max",
        Some("1"),
        "How many consumers share the partitions in this gateway.",
    ),
    key(
        "culvert.start",
        Some("earliest"),
        "Where a partition begins on its first start: earliest or latest.",
    ),
    key(
        "producer.override.*",
        None,
        "A librdkafka setting for the producer of dead letters, with errors.tolerance=all.",
    ),
    key(
        "errors.deadletterqueue.topic.name",
        None,
        "Where records go that a stage refuses, with errors.tolerance=all: a topic of the cluster that is read. Made when it is not there.",
    ),
    key(
        "errors.deadletterqueue.topic.replication.factor",
        Some("-1"),
        "How many replicas that topic is made with; -1: the broker's default.",
    ),
    key(
        "errors.deadletterqueue.context.headers.enable",
        Some("true"),
        "Whether a dead letter says in its headers (__connect.errors.*, culvert.*) where it came from and why it is one.",
    ),
];

/// The keys of a Kafka sink.
pub const SINK_KEYS: &[Key] = &[
    key(
        "kafka.*",
        None,
        "A librdkafka setting for every client of this connector, as kafka.bootstrap.servers.",
    ),
    key(
        "producer.override.*",
        None,
        "A librdkafka setting for the producers alone.",
    ),
    key(
        "consumer.override.*",
        None,
        "A librdkafka setting for the consumer that reads positions back.",
    ),
    key(
        "admin.override.*",
        None,
        "A librdkafka setting for the client that makes topics.",
    ),
    key(
        "topics",
        None,
        "The topics to deliver, separated by commas. Either this or topics.regex.",
    ),
    key(
        "topics.regex",
        None,
        "Delivers every topic whose whole name matches.",
    ),
    key(
        "tasks.max",
        Some("1"),
        "How many writers (shards) deliver. Fixed once the route has delivered.",
    ),
    key(
        "culvert.from",
        None,
        "The site whose topics are delivered. Has to be there.",
    ),
    key(
        "culvert.via",
        None,
        "The site that relays, where the other one is not reached directly.",
    ),
    key(
        "culvert.partitioner",
        Some("same"),
        "same: the source's partition. key: by the key's hash, as Java clients do. custom: by culvert.partitioner.map.",
    ),
    key(
        "culvert.partitioner.map",
        None,
        "Where source partitions go with custom, as 0-3:0, 4:7, *:same. * stands for all others and must be there.",
    ),
    key(
        "culvert.topic.rename",
        Some("${topic}"),
        "The target's name; ${topic} stands for the source's.",
    ),
    key(
        "topic.creation.default.partitions",
        None,
        "Makes missing target topics with this many partitions; -1: the broker's default.",
    ),
    key(
        "topic.creation.default.replication.factor",
        None,
        "Makes missing target topics with this many replicas; -1: the broker's default.",
    ),
    key(
        "errors.deadletterqueue.topic.name",
        None,
        "Where records go that a stage refuses, with errors.tolerance=all. Made when it is not there.",
    ),
    key(
        "errors.deadletterqueue.topic.replication.factor",
        Some("-1"),
        "How many replicas that topic is made with; -1: the broker's default.",
    ),
    key(
        "errors.deadletterqueue.context.headers.enable",
        Some("true"),
        "Whether a dead letter says in its headers (__connect.errors.*, culvert.*) where it came from and why it is one.",
    ),
];

/// What a configuration is read for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// This gateway's name.
    pub gateway: &'a str,
    /// This gateway's site.
    pub site: &'a str,
    /// librdkafka settings of the gateway's local Kafka, which the connector's own override.
    pub cluster: &'a BTreeMap<String, String>,
    /// Keys that somebody else accounts for, such as `name` and `connector.class`; one that ends with `.` stands for
    /// all that begin with it. Every other key that is unknown here is a mistake.
    pub known: &'a [&'a str],
}

/// A Kafka source, checked.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// What to read.
    pub topics: Topics,
    /// How many consumers share the partitions in this gateway.
    pub tasks_max: u32,
    /// Where a partition begins when no sink has a position for it.
    pub start: Start,
    /// The site that the streams are named after.
    pub site: String,
    /// Where dead letters go; `None`: nowhere.
    pub dead_letters: Option<DeadLetters>,
    pub(super) connector: String,
    pub(super) gateway: String,
    consumer: Settings,
    producer: Settings,
    admin: Settings,
}

/// What a sink is for. Each has positions and transactions of its own, whatever connectors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    /// What a route delivers.
    Delivered,
    /// What the stages of a source refuse.
    Refused,
}

/// A Kafka sink, checked.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// What to deliver.
    pub topics: Topics,
    /// How many shards, each with one writer and one partition of the positions topic.
    pub tasks_max: u32,
    /// The site whose topics are delivered. The gateway's configuration refuses a sink without it.
    pub from: Option<String>,
    /// The site that relays.
    pub via: Option<String>,
    /// How a record finds its target partition.
    pub partitioner: Partitioner,
    /// Keys begin with the number of a schema, which is not the same at other sites: their partition is decided by what
    /// stands behind it.
    pub keys_have_ids: bool,
    /// How missing target topics are made; `None`: they are not.
    pub creation: Option<Creation>,
    /// Where dead letters go; `None`: nowhere.
    pub dead_letters: Option<DeadLetters>,
    pub(super) connector: String,
    keeps: Keeps,
    pub(super) rename: String,
    producer: Settings,
    consumer: Settings,
    admin: Settings,
}

/// Where dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The topic.
    pub topic: String,
    /// Its replicas when it is made; -1: the broker's default.
    pub replication: i32,
    /// Whether headers say why.
    pub context_headers: bool,
}

/// Which topics.
#[derive(Clone, Debug)]
pub enum Topics {
    /// These.
    Named(Vec<String>),
    /// Every topic whose whole name matches, but for internal ones (`__…`, `culvert.positions.…`).
    Matching(Regex),
}

impl Topics {
    /// Whether `topic` is one of them.
    #[must_use]
    pub fn include(&self, topic: &str) -> bool {
        match self {
            Topics::Named(names) => names.iter().any(|name| name == topic),
            Topics::Matching(pattern) => !is_internal(topic) && pattern.is_match(topic),
        }
    }
}

fn is_internal(topic: &str) -> bool {
    let ours = [
        super::positions::TOPIC_PREFIX,
        super::positions::REFUSED_TOPIC_PREFIX,
    ];
    topic.starts_with("__") || ours.iter().any(|prefix| topic.starts_with(prefix))
}

/// Where a partition begins on its very first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
}

/// How a record finds its target partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// The number of the source's partition: order is kept whatever the keys are.
    Same,
    /// By the hash of the key, as Java's default partitioner does. A record without a key follows its source
    /// partition, so that its order is kept.
    Key,
    /// By the source's partition, as the map says: the order of each source partition is kept, and several may share
    /// one of the target.
    Custom(PartitionMap),
}

impl Partitioner {
    /// As it is spelled in `culvert.partitioner`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Partitioner::Same => "same",
            Partitioner::Key => "key",
            Partitioner::Custom(_) => "custom",
        }
    }

    /// The target partition of all records of a source partition; `None` where each record's key decides.
    pub(super) fn fixed(&self, partition: u32) -> Option<u32> {
        match self {
            Partitioner::Same => Some(partition),
            Partitioner::Key => None,
            Partitioner::Custom(map) => Some(map.of(partition)),
        }
    }
}

/// How missing target topics are made. -1 leaves the choice to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Creation {
    /// How many partitions at least.
    pub partitions: i32,
    /// How many replicas.
    pub replication: i32,
}

impl SourceConfig {
    /// Reads the configuration of a [`SOURCE_CLASS`].
    ///
    /// # Errors
    /// All mistakes found.
    pub fn from_map(
        raw: &BTreeMap<String, String>,
        context: &Context<'_>,
    ) -> Result<SourceConfig, Vec<Mistake>> {
        let mut form = Form::new(raw, context, SOURCE_KEYS);
        let config = SourceConfig {
            topics: form.topics(),
            tasks_max: form.number("tasks.max", 1, 1..=1_000),
            start: form.choice(
                "culvert.start",
                &[("earliest", Start::Earliest), ("latest", Start::Latest)],
            ),
            site: context.site.to_owned(),
            connector: context.connector.to_owned(),
            gateway: context.gateway.to_owned(),
            dead_letters: form.dead_letters(),
            consumer: form.settings("consumer.override.", OWNED_BY_SOURCE),
            producer: form.settings("producer.override.", OWNED_BY_SINK),
            admin: form.settings("admin.override.", &[]),
        };
        if let Some(letters) = &config.dead_letters
            && config.topics.include(&letters.topic)
        {
            form.mistake(
                "errors.deadletterqueue.topic.name",
                format!("{:?} is one of the topics that are read", letters.topic),
                Some("name a topic that this connector does not read, or its dead letters come back to it"),
            );
        }
        form.finish(config)
    }

    /// The sink of this source's dead letters, on the cluster that is read; `None` where there is no topic for them. Its
    /// positions and its transactions are its own.
    #[must_use]
    pub fn letters(&self) -> Option<SinkConfig> {
        Some(SinkConfig {
            topics: self.topics.clone(),
            tasks_max: 1,
            from: None,
            via: None,
            partitioner: Partitioner::Same,
            creation: None,
            dead_letters: Some(self.dead_letters.clone()?),
            connector: self.connector.clone(),
            keeps: Keeps::Refused,
            keys_have_ids: false,
            rename: "${topic}".to_owned(),
            producer: self.producer.clone(),
            consumer: self.consumer.clone(),
            admin: self.admin.clone(),
        })
    }

    /// The consumer group: `culvert.<connector>`.
    #[must_use]
    pub fn group(&self) -> String {
        format!("culvert.{}", self.connector)
    }

    /// Settings of the consumer of task `task`. Each of ours has its reason.
    pub(super) fn consumer(&self, task: u32) -> ClientConfig {
        let mut settings = self.consumer.defaults(&[
            // Measured: 1,000 (the default) stops a partition's fetches for a second whenever its queue is full.
            ("fetch.queue.backoff.ms", "5"),
            // 50 connectors with the default of 64 MB each would hold 3 GB.
            ("queued.max.messages.kbytes", "16384"),
            // The broker answers at the first byte; this bounds how long a seek waits for the fetch before it.
            ("fetch.wait.max.ms", "50"),
            // A gateway that starts again is back before its partitions are given away; takeover within 15 s.
            ("session.timeout.ms", "10000"),
            ("heartbeat.interval.ms", "3000"),
            // New partitions are noticed within this time.
            ("topic.metadata.refresh.interval.ms", "30000"),
            ("reconnect.backoff.max.ms", "1000"),
            ("socket.keepalive.enable", "true"),
            ("check.crcs", "true"),
        ]);
        settings
            .set("client.id", format!("culvert-{}-{task}", self.connector))
            .set("group.id", self.group())
            .set("group.instance.id", format!("{}-{task}", self.gateway))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            // The only notice of a topic that was made again under the same name (see `Source`).
            .set("debug", "metadata")
            .set_log_level(RDKafkaLogLevel::Debug);
        settings
    }

    /// Settings of a consumer that reads beside the group and never joins it.
    pub(super) fn reader(&self) -> ClientConfig {
        reader(&self.consumer, &self.connector)
    }
}

impl SinkConfig {
    /// Reads the configuration of a [`SINK_CLASS`].
    ///
    /// # Errors
    /// All mistakes found.
    pub fn from_map(
        raw: &BTreeMap<String, String>,
        context: &Context<'_>,
    ) -> Result<SinkConfig, Vec<Mistake>> {
        let mut form = Form::new(raw, context, SINK_KEYS);
        let config = SinkConfig {
            topics: form.topics(),
            tasks_max: form.number("tasks.max", 1, 1..=1_000),
            from: form.text("culvert.from"),
            via: form.text("culvert.via"),
            partitioner: form.partitioner(),
            keys_have_ids: false,
            creation: form.creation(),
            dead_letters: form.dead_letters(),
            connector: context.connector.to_owned(),
            keeps: Keeps::Delivered,
            rename: form.rename(),
            producer: form.settings("producer.override.", OWNED_BY_SINK),
            consumer: form.settings("consumer.override.", OWNED_BY_SOURCE),
            admin: form.settings("admin.override.", &[]),
        };
        if config.via.is_some() && config.from.is_none() {
            form.mistake(
                "culvert.via",
                "names a relay, but no site to read from",
                Some("set culvert.from"),
            );
        }
        form.finish(config)
    }

    /// The target's name for a source topic.
    #[must_use]
    pub fn target(&self, topic: &str) -> String {
        self.rename.replace("${topic}", topic)
    }

    /// The topic that holds this connector's positions.
    #[must_use]
    pub fn positions_topic(&self) -> String {
        let prefix = match self.keeps {
            Keeps::Delivered => super::positions::TOPIC_PREFIX,
            Keeps::Refused => super::positions::REFUSED_TOPIC_PREFIX,
        };
        format!("{prefix}{}", self.connector)
    }

    /// The transactional id of a shard: stable, so that a new writer fences the old one (T1).
    #[must_use]
    pub fn transactional_id(&self, shard: u32) -> String {
        match self.keeps {
            Keeps::Delivered => format!("culvert.{}.{shard}", self.connector),
            // Unlike any of a sink: `#` is in no connector's name.
            Keeps::Refused => format!("culvert.{}#refused.{shard}", self.connector),
        }
    }

    /// Settings of a transactional producer. `batch_bytes_max` bounds a batch below what its target topics take.
    pub(super) fn producer(&self, transactional_id: &str, batch_bytes_max: usize) -> ClientConfig {
        let mut settings = self.producer.defaults(&[
            ("linger.ms", "5"),
            ("batch.num.messages", "10000"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "131072"),
            ("reconnect.backoff.max.ms", "1000"),
            ("socket.keepalive.enable", "true"),
        ]);
        let batch = settings
            .get("batch.size")
            .and_then(|size| size.parse().ok())
            .unwrap_or(1_000_000);
        settings
            .set("client.id", transactional_id)
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("batch.size", batch_bytes_max.min(batch).to_string())
            // The target topic's own limit is checked record by record; see `sink::Target`.
            .set(
                "message.max.bytes",
                (culvert_proto::limits::RECORD_BYTES_MAX + 1024).to_string(),
            )
            .set("socket.timeout.ms", SOCKET_TIMEOUT.as_millis().to_string())
            .set(
                "transaction.timeout.ms",
                TRANSACTION_TIMEOUT.as_millis().to_string(),
            )
            // Successful deliveries need no word each: a commit vouches for all of them.
            .set("delivery.report.only.error", "true")
            .set("allow.auto.create.topics", "false")
            // Tells of each lost connection, also of those that error events leave out, of records that are taken for
            // written without the broker's word (see `sink::trouble`), and of a target topic that was made again.
            .set("debug", "broker,eos,metadata")
            .set_log_level(RDKafkaLogLevel::Debug);
        settings
    }

    /// Settings of a consumer that reads beside any group.
    pub(super) fn reader(&self) -> ClientConfig {
        reader(&self.consumer, &self.connector)
    }

    /// Settings of the client that asks about topics and makes them.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut settings = self.admin.defaults(&[("reconnect.backoff.max.ms", "1000")]);
        settings.set("client.id", format!("culvert-{}-admin", self.connector));
        settings
    }
}

/// How long a request to a broker may take. Above [`COMMIT_TIMEOUT`], so that a commit is given up, and its outcome
/// called uncertain, before librdkafka sends it a second time (T2).
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a commit may take before its outcome counts as unknown.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// When a broker aborts a transaction whose writer is gone: above the longest write and commit (T4).
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

// T2 and T4. A commit empties its queue first, and that may take as long again.
const _: () = assert!(COMMIT_TIMEOUT.as_secs() < SOCKET_TIMEOUT.as_secs());
const _: () = assert!(2 * COMMIT_TIMEOUT.as_secs() < TRANSACTION_TIMEOUT.as_secs());

fn reader(settings: &Settings, connector: &str) -> ClientConfig {
    let mut settings = settings.defaults(&[
        ("fetch.queue.backoff.ms", "5"),
        ("queued.max.messages.kbytes", "16384"),
        ("fetch.wait.max.ms", "50"),
        ("reconnect.backoff.max.ms", "1000"),
        ("check.crcs", "true"),
    ]);
    settings
        .set("client.id", format!("culvert-{connector}-reader"))
        // librdkafka wants a name for assigned partitions; without a subscription or a commit it joins nothing.
        .set("group.id", format!("culvert.{connector}.reader"))
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false");
    settings
}

/// librdkafka settings that were given, each accepted by librdkafka. Passwords and keys are among them: only names are
/// ever printed.
#[derive(Clone, Default)]
struct Settings(BTreeMap<String, String>);

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Settings {
    /// `defaults`, overridden by what was given.
    fn defaults(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut settings = ClientConfig::new();
        for (name, value) in defaults {
            settings.set(*name, *value);
        }
        for (name, value) in &self.0 {
            settings.set(name, value);
        }
        settings
    }
}

/// Settings that a source decides, with the reason.
const OWNED_BY_SOURCE: &[(&str, &str)] = &[
    (
        "auto.offset.reset",
        "a place that is gone halts the stream; culvert.start says where to begin",
    ),
    ("enable.auto.commit", "only what a sink has applied is committed"),
    (
        "enable.auto.offset.store",
        "only what a sink has applied is committed",
    ),
    (
        "isolation.level",
        "records of aborted transactions must not be delivered",
    ),
    ("group.id", "the group is culvert.<connector name>"),
    (
        "group.instance.id",
        "it is the gateway's name, so that a restart keeps its partitions",
    ),
    (
        "group.protocol",
        "rebalances are carried out by the classic protocol",
    ),
    (
        "partition.assignment.strategy",
        "partitions move one by one (cooperative-sticky)",
    ),
    (
        "enable.partition.eof",
        "ends of partitions tell how far a stream was read",
    ),
    ("client.id", "it names the connector"),
    ("debug", "the connector reads librdkafka's log"),
];

/// Settings that a sink decides, with the reason.
const OWNED_BY_SINK: &[(&str, &str)] = &[
    (
        "transactional.id",
        "it is culvert.<connector name>.<shard>, so that a new writer fences the old one",
    ),
    ("enable.idempotence", "transactions need it"),
    ("acks", "transactions need all"),
    ("request.required.acks", "transactions need all"),
    ("transaction.timeout.ms", "it is set above the longest commit"),
    (
        "socket.timeout.ms",
        "it is set above the time after which a commit counts as uncertain",
    ),
    (
        "message.max.bytes",
        "the target topic's max.message.bytes decides",
    ),
    (
        "delivery.report.only.error",
        "the connector reads delivery reports",
    ),
    ("client.id", "it names the connector"),
    ("debug", "the connector reads librdkafka's log"),
];

/// Settings of Java clients that people bring along, and what to write instead.
const JAVA_NAMES: &[(&str, &str)] = &[
    ("sasl.jaas.config", "sasl.username and sasl.password"),
    ("ssl.truststore.location", "ssl.ca.location, a PEM file"),
    ("ssl.truststore.password", "ssl.ca.location, a PEM file"),
    (
        "ssl.keystore.location",
        "ssl.certificate.location and ssl.key.location, PEM files",
    ),
    ("ssl.keystore.password", "ssl.key.password"),
    (
        "max.poll.records",
        "nothing: batches are bounded by the outbox's frames",
    ),
    ("buffer.memory", "queue.buffering.max.kbytes"),
    (
        "max.request.size",
        "nothing: the target topic's max.message.bytes decides",
    ),
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
];

/// A raw configuration while it is read: what was asked for counts as known, mistakes are collected.
struct Form<'a> {
    raw: &'a BTreeMap<String, String>,
    context: &'a Context<'a>,
    keys: &'static [Key],
    mistakes: Vec<Mistake>,
}

impl<'a> Form<'a> {
    fn new(raw: &'a BTreeMap<String, String>, context: &'a Context<'a>, keys: &'static [Key]) -> Form<'a> {
        let mut form = Form {
            raw,
            context,
            keys,
            mistakes: Vec::new(),
        };
        form.unknown_keys();
        form
    }

    fn finish<T>(mut self, config: T) -> Result<T, Vec<Mistake>> {
        if !self.raw.contains_key("kafka.bootstrap.servers")
            && !self.context.cluster.contains_key("bootstrap.servers")
        {
            let hint = "set it to host:port of one or more brokers, separated by commas";
            self.mistake("kafka.bootstrap.servers", "is missing", Some(hint));
        }
        if self.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(self.mistakes)
        }
    }

    fn mistake(&mut self, key: &str, problem: impl Into<String>, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.mistakes.push(Mistake {
            key: key.to_owned(),
            problem: problem.into(),
            hint,
        });
    }

    fn text(&self, key: &str) -> Option<String> {
        self.raw
            .get(key)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    fn unknown_keys(&mut self) {
        for key in self.raw.keys() {
            let ours = self.keys.iter().any(|known| matches(known.name, key));
            let theirs = self
                .context
                .known
                .iter()
                .any(|known| known == key || (known.ends_with('.') && key.starts_with(known)));
            if !ours && !theirs {
                let names = self
                    .keys
                    .iter()
                    .map(|known| known.name)
                    .chain(self.context.known.iter().copied());
                let hint = nearest(key, names).map(|name| format!("did you mean {name}?"));
                self.mistakes.push(Mistake {
                    key: key.clone(),
                    problem: "is not a key of this connector".into(),
                    hint,
                });
            }
        }
    }

    fn topics(&mut self) -> Topics {
        match (self.text("topics"), self.text("topics.regex")) {
            (Some(_), Some(_)) => {
                self.mistake(
                    "topics.regex",
                    "is given beside topics",
                    Some("keep one of the two"),
                );
            }
            (None, None) => self.mistake("topics", "is missing", Some("set topics or topics.regex")),
            (Some(names), None) => {
                let names: Vec<String> = names
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .filter(|name| !name.is_empty())
                    .collect();
                for name in names.iter().filter(|name| !is_topic_name(name)) {
                    let problem = format!("holds {name:?}, which cannot be a topic's name");
                    self.mistake(
                        "topics",
                        problem,
                        Some("1 to 249 letters, digits, '.', '_' or '-'"),
                    );
                }
                return Topics::Named(names);
            }
            // As in Connect, the whole name has to match.
            (None, Some(pattern)) => match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(pattern) => return Topics::Matching(pattern),
                Err(error) => {
                    let hint = "lookaround and back references are not supported";
                    self.mistake(
                        "topics.regex",
                        format!("is no regular expression: {error}"),
                        Some(hint),
                    );
                }
            },
        }
        Topics::Named(Vec::new())
    }

    fn number(&mut self, key: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> u32 {
        let Some(value) = self.text(key) else {
            return default;
        };
        match value.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let problem = format!(
                    "is {value:?}, not a number from {} to {}",
                    range.start(),
                    range.end()
                );
                self.mistake(key, problem, None);
                default
            }
        }
    }

    /// One of `choices`; the first where the key is absent.
    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> T {
        let Some(value) = self.text(key) else {
            return choices[0].1;
        };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
            return *choice;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.mistake(
            key,
            format!("is {value:?}"),
            Some(&format!("one of {}", names.join(", "))),
        );
        choices[0].1
    }

    fn partitioner(&mut self) -> Partitioner {
        const MAP: &str = "culvert.partitioner.map";
        const EXAMPLE: &str = "for example 0-3:0, 4:7, *:same";
        let names = [("same", "same"), ("key", "key"), ("custom", "custom")];
        let (name, map) = (self.choice("culvert.partitioner", &names), self.text(MAP));
        match (name, map) {
            ("custom", None) => self.mistake(MAP, "is missing", Some(EXAMPLE)),
            ("custom", Some(map)) => match PartitionMap::parse(&map) {
                Ok(map) => return Partitioner::Custom(map),
                Err(wrong) => wrong
                    .into_iter()
                    .for_each(|problem| self.mistake(MAP, problem, Some(EXAMPLE))),
            },
            (_, Some(_)) => self.mistake(MAP, "is not used", Some("set culvert.partitioner=custom")),
            ("key", None) => return Partitioner::Key,
            _ => {}
        }
        Partitioner::Same
    }

    fn creation(&mut self) -> Option<Creation> {
        let partitions = self.count_or_default("topic.creation.default.partitions");
        let replication = self.count_or_default("topic.creation.default.replication.factor");
        (partitions.is_some() || replication.is_some()).then(|| Creation {
            partitions: partitions.unwrap_or(-1),
            replication: replication.unwrap_or(-1),
        })
    }

    fn dead_letters(&mut self) -> Option<DeadLetters> {
        let replication = self.count_or_default("errors.deadletterqueue.topic.replication.factor");
        let key = "errors.deadletterqueue.context.headers.enable";
        let context_headers = match self.text(key).as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => {
                self.mistake(key, format!("is {other:?}"), Some("valid: true or false"));
                true
            }
        };
        let key = "errors.deadletterqueue.topic.name";
        let topic = self.text(key)?;
        if !is_topic_name(&topic) {
            self.mistake(
                key,
                format!("{topic:?} cannot be a topic's name"),
                Some("letters, digits, '.', '_' and '-'"),
            );
        }
        Some(DeadLetters {
            topic,
            replication: replication.unwrap_or(-1),
            context_headers,
        })
    }

    fn count_or_default(&mut self, key: &str) -> Option<i32> {
        let value = self.text(key)?;
        match value.parse() {
            Ok(count) if count == -1 || (1..=10_000).contains(&count) => Some(count),
            _ => {
                self.mistake(
                    key,
                    format!("is {value:?}"),
                    Some("a count from 1, or -1 for the broker's default"),
                );
                None
            }
        }
    }

    fn rename(&mut self) -> String {
        let rename = self
            .text("culvert.topic.rename")
            .unwrap_or_else(|| "${topic}".to_owned());
        if !is_topic_name(&rename.replace("${topic}", "t")) {
            let hint = "letters, digits, '.', '_' and '-' around ${topic}";
            self.mistake(
                "culvert.topic.rename",
                format!("{rename:?} cannot be a topic's name"),
                Some(hint),
            );
        }
        rename
    }

    /// The gateway's settings, then `kafka.*`, then those under `prefix`, each checked by librdkafka itself.
    fn settings(&mut self, prefix: &str, owned: &[(&str, &str)]) -> Settings {
        let mut settings = Settings(self.context.cluster.clone());
        for prefix in ["kafka.", prefix] {
            for (key, value) in self.raw.range(prefix.to_owned()..) {
                let Some(name) = key.strip_prefix(prefix) else {
                    break;
                };
                if let Some(mistake) = refused(key, name, value, owned) {
                    if !self.mistakes.contains(&mistake) {
                        self.mistakes.push(mistake);
                    }
                    continue;
                }
                settings.0.insert(name.to_owned(), value.clone());
            }
        }
        settings
    }
}

/// Why a setting cannot be used, if it cannot.
fn refused(key: &str, name: &str, value: &str, owned: &[(&str, &str)]) -> Option<Mistake> {
    let mistake = |problem: String, hint: Option<String>| {
        Some(Mistake {
            key: key.to_owned(),
            problem,
            hint,
        })
    };
    if let Some((_, reason)) = owned.iter().find(|(owned, _)| *owned == name) {
        return mistake(
            format!("is decided by the connector: {reason}"),
            Some("remove it".to_owned()),
        );
    }
    if let Some((_, instead)) = JAVA_NAMES.iter().find(|(java, _)| *java == name) {
        return mistake(
            "is a setting of Java clients".to_owned(),
            Some(format!("use {instead}")),
        );
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, reason, ..)) if reason.starts_with("No such") => {
            let prefix = &key[..key.len() - name.len()];
            let names = super::native::setting_names();
            let hint = nearest(name, names.iter().map(String::as_str))
                .map(|near| format!("did you mean {prefix}{near}?"));
            mistake("is not a setting of librdkafka".to_owned(), hint)
        }
        Err(KafkaError::ClientConfig(_, reason, ..)) => mistake(reason, None),
        Err(error) => mistake(error.to_string(), None),
    }
}

fn matches(pattern: &str, key: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => key.len() > prefix.len() && key.starts_with(prefix),
        None => pattern == key,
    }
}

/// Kafka's rule for topic names (`org.apache.kafka.common.internals.Topic`).
fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.bytes().all(legal)
}

fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(likeness, _)| *likeness > 0.85) // by eye: below, the guess is more often wrong than right
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["name", "connector.class", "errors."];

    fn raw(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn context(cluster: &BTreeMap<String, String>) -> Context<'_> {
        Context {
            connector: "orders",
            gateway: "gw-1",
            site: "plant",
            cluster,
            known: KNOWN,
        }
    }

    fn source(pairs: &[(&str, &str)]) -> Result<SourceConfig, Vec<Mistake>> {
        let none = BTreeMap::new();
        SourceConfig::from_map(&raw(pairs), &context(&none))
    }

    fn sink(pairs: &[(&str, &str)]) -> Result<SinkConfig, Vec<Mistake>> {
        let none = BTreeMap::new();
        SinkConfig::from_map(&raw(pairs), &context(&none))
    }

    #[track_caller]
    fn check_mistake<T: std::fmt::Debug>(outcome: Result<T, Vec<Mistake>>, key: &str, said: &str) {
        let mistakes = outcome.expect_err("a mistake");
        let mistake = mistakes
            .iter()
            .find(|mistake| mistake.key == key)
            .unwrap_or_else(|| panic!("{mistakes:?}"));
        let text = format!(
            "{} {}",
            mistake.problem,
            mistake.hint.as_deref().unwrap_or_default()
        );
        assert!(text.contains(said), "{text:?} does not say {said:?}");
    }

    const SERVERS: (&str, &str) = ("kafka.bootstrap.servers", "127.0.0.1:1");

    #[test]
    fn a_source_reads_its_keys_and_keeps_what_exactly_once_rests_on() {
        let config = source(&[
            SERVERS,
            ("name", "orders"),
            ("errors.tolerance", "none"),
            ("topics", "a, b"),
            ("culvert.start", "latest"),
            ("consumer.override.fetch.min.bytes", "1000"),
        ])
        .unwrap();
        assert!(config.topics.include("a") && config.topics.include("b") && !config.topics.include("ab"));
        assert_eq!(config.start, Start::Latest);
        let settings = config.consumer(0);
        assert_eq!(settings.get("fetch.min.bytes"), Some("1000"));
        assert_eq!(settings.get("group.id"), Some("culvert.orders"));
        assert_eq!(settings.get("group.instance.id"), Some("gw-1-0"));
        assert_eq!(settings.get("isolation.level"), Some("read_committed"));
        settings.create_native_config().unwrap();
        config.reader().create_native_config().unwrap();
        assert!(config.letters().is_none());
    }

    #[test]
    fn the_letters_of_a_source_have_positions_and_transactions_of_their_own() {
        let config = source(&[
            SERVERS,
            ("topics", "a"),
            ("kafka.security.protocol", "ssl"),
            ("errors.deadletterqueue.topic.name", "a-dead"),
        ])
        .unwrap();
        let letters = config.letters().unwrap();
        assert_eq!(letters.positions_topic(), "culvert.refused-positions.orders");
        assert_eq!(letters.transactional_id(0), "culvert.orders#refused.0");
        let settings = letters.producer(&letters.transactional_id(0), usize::MAX);
        assert_eq!(settings.get("security.protocol"), Some("ssl"));
        let read_back = [
            ("topics.regex", "a.*"),
            ("errors.deadletterqueue.topic.name", "a-dead"),
        ];
        check_mistake(
            source(&[&[SERVERS], &read_back[..]].concat()),
            "errors.deadletterqueue.topic.name",
            "come back",
        );
    }

    #[test]
    fn the_gateways_cluster_stands_in_for_bootstrap_servers() {
        let cluster = raw(&[("bootstrap.servers", "127.0.0.1:1"), ("security.protocol", "ssl")]);
        let config = SinkConfig::from_map(&raw(&[("topics", "a")]), &context(&cluster)).unwrap();
        let settings = config.producer("culvert.orders.0", usize::MAX);
        assert_eq!(settings.get("security.protocol"), Some("ssl"));
        settings.create_native_config().unwrap();
    }

    #[test]
    fn a_pattern_matches_whole_names_and_no_internal_topic() {
        let config = source(&[SERVERS, ("topics.regex", "orders|__.*|culvert.*")]).unwrap();
        assert!(config.topics.include("orders"));
        for other in ["orders2", "__consumer_offsets", "culvert.positions.orders"] {
            assert!(!config.topics.include(other), "{other}");
        }
    }

    #[test]
    fn a_sink_renames_and_creates() {
        let config = sink(&[
            SERVERS,
            ("topics", "a"),
            ("culvert.from", "plant"),
            ("culvert.topic.rename", "plant.${topic}"),
            ("topic.creation.default.partitions", "-1"),
        ])
        .unwrap();
        assert_eq!(config.target("a"), "plant.a");
        assert_eq!(
            config.creation,
            Some(Creation {
                partitions: -1,
                replication: -1
            })
        );
        assert_eq!(config.partitioner, Partitioner::Same);
    }

    #[test]
    fn mistakes_name_the_key_and_the_way_out() {
        check_mistake(source(&[("topics", "a")]), "kafka.bootstrap.servers", "missing");
        check_mistake(source(&[SERVERS]), "topics", "set topics or topics.regex");
        check_mistake(
            source(&[SERVERS, ("topics", "a"), ("topics.regex", "a")]),
            "topics.regex",
            "keep one",
        );
        check_mistake(
            source(&[SERVERS, ("topics", "a b")]),
            "topics",
            "cannot be a topic's name",
        );
        check_mistake(
            source(&[SERVERS, ("topics.regex", "(")]),
            "topics.regex",
            "no regular expression",
        );
        check_mistake(
            source(&[SERVERS, ("topics.rexeg", "a")]),
            "topics.rexeg",
            "did you mean topics.regex?",
        );
        check_mistake(
            source(&[SERVERS, ("topics", "a"), ("tasks.max", "0")]),
            "tasks.max",
            "from 1 to",
        );
        check_mistake(
            source(&[SERVERS, ("topics", "a"), ("culvert.start", "now")]),
            "culvert.start",
            "earliest",
        );
        check_mistake(
            sink(&[SERVERS, ("topics", "a"), ("culvert.via", "b")]),
            "culvert.via",
            "culvert.from",
        );
        check_mistake(
            sink(&[SERVERS, ("topics", "a"), ("culvert.topic.rename", "a/${topic}")]),
            "culvert.topic.rename",
            "cannot be",
        );
        let map = "culvert.partitioner.map";
        let custom = ("culvert.partitioner", "custom");
        let with = |pairs: &[(&str, &str)]| sink(&[&[SERVERS, ("topics", "a")], pairs].concat());
        check_mistake(with(&[custom]), map, "0-3:0, 4:7, *:same");
        check_mistake(with(&[(map, "*:0")]), map, "culvert.partitioner=custom");
        check_mistake(with(&[custom, (map, "0:1")]), map, "all other partitions");
        check_mistake(with(&[custom, (map, "x, *:0")]), map, "no from:to");
        check_mistake(
            with(&[("culvert.partitioner", "hash")]),
            "culvert.partitioner",
            "custom",
        );
        check_mistake(
            source(&[
                SERVERS,
                ("topics", "a"),
                ("consumer.override.auto.offset.reset", "latest"),
            ]),
            "consumer.override.auto.offset.reset",
            "culvert.start",
        );
        check_mistake(
            sink(&[
                SERVERS,
                ("topics", "a"),
                ("producer.override.transactional.id", "x"),
            ]),
            "producer.override.transactional.id",
            "fences",
        );
        check_mistake(
            source(&[SERVERS, ("topics", "a"), ("kafka.bootstrap.server", "x")]),
            "kafka.bootstrap.server",
            "did you mean kafka.bootstrap.servers?",
        );
        check_mistake(
            source(&[SERVERS, ("topics", "a"), ("kafka.ssl.truststore.location", "x")]),
            "kafka.ssl.truststore.location",
            "ssl.ca.location",
        );
        check_mistake(
            source(&[
                SERVERS,
                ("topics", "a"),
                ("consumer.override.fetch.min.bytes", "many"),
            ]),
            "consumer.override.fetch.min.bytes",
            "nvalid",
        );
    }

    const PAGE: &str = include_str!("../../../../docs/connectors/kafka.md");

    #[test]
    fn the_page_lists_every_key() {
        for keys in [SOURCE_KEYS, SINK_KEYS] {
            let row = |key: &Key| {
                let default = key.default.map(|value| format!("`{value}`")).unwrap_or_default();
                format!("| `{}` | {default} | {} |\n", key.name, key.doc)
            };
            let table: String = keys.iter().map(row).collect();
            assert!(
                PAGE.contains(&table),
                "docs/connectors/kafka.md must have\n{table}"
            );
        }
    }

    #[test]
    fn the_pages_examples_are_right() {
        let examples = PAGE
            .split("```json\n")
            .skip(1)
            .filter_map(|text| text.split("```").next());
        let mut count = 0;
        for example in examples {
            let pairs: BTreeMap<String, String> =
                serde_json::from_str(example).expect("an object of strings");
            let none = BTreeMap::new();
            // What all sources have is judged before it comes here.
            let around = Context {
                known: &["name", "connector.class", "culvert.quota", "culvert.priority"],
                ..context(&none)
            };
            let mistakes = match pairs["connector.class"].as_str() {
                SOURCE_CLASS => SourceConfig::from_map(&pairs, &around).err(),
                SINK_CLASS => SinkConfig::from_map(&pairs, &around).err(),
                other => panic!("{other} is no class of this page"),
            };
            assert_eq!(mistakes, None, "{example}");
            count += 1;
        }
        assert_eq!(count, 6);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mistakes =
            source(&[("topics", "a b"), ("tasks.max", "x"), ("cluvert.start", "latest")]).unwrap_err();
        assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    }
}
