//! The ends in Kafka: which clusters, what is written to the first, and what has to be in the second.

use super::Plan;
use super::ends::{Connector, TOPICS, words};
use crate::cli::cluster::ClusterArgs;
use crate::cli::words::thousands;
use crate::config::is_secret;
use anyhow::{Context, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The arguments that name both clusters.
#[derive(Debug, clap::Args)]
#[group(id = "clusters")]
pub(super) struct Args {
    /// Brokers of the source cluster, as host:port, separated by commas
    #[arg(long, value_name = "HOSTS", requires = "bootstrap_target", help_heading = HEADING)]
    bootstrap_source: Option<String>,
    /// Brokers of the target cluster
    #[arg(long, value_name = "HOSTS", requires = "bootstrap_source", help_heading = HEADING)]
    bootstrap_target: Option<String>,
    /// librdkafka settings of the source cluster, one key=value a line, with absolute paths in them
    #[arg(long, value_name = "FILE", requires = "bootstrap_source", help_heading = HEADING)]
    properties_source: Option<PathBuf>,
    /// librdkafka settings of the target cluster
    #[arg(long, value_name = "FILE", requires = "bootstrap_target", help_heading = HEADING)]
    properties_target: Option<PathBuf>,
    /// Send the lines of this file, each a JSON value, instead of generated records
    #[arg(long, value_name = "FILE", requires = "bootstrap_source", help_heading = HEADING)]
    input: Option<PathBuf>,
    /// The field of an input line that becomes the record's key
    #[arg(long, value_name = "NAME", requires = "input", help_heading = HEADING)]
    key_field: Option<String>,
}

const HEADING: &str = "With Kafka at both ends";

/// Both clusters, and what crosses from one to the other.
pub(super) struct Clusters {
    source: Cluster,
    target: Cluster,
    topics: Vec<Topic>,
    /// The records of a file, and how many.
    input: Option<Input>,
    /// Names of this demo end in it: what was there before is left alone.
    id: String,
}

struct Cluster {
    bootstrap: String,
    settings: BTreeMap<String, String>,
    properties: Option<PathBuf>,
}

/// A topic that is made, at both ends under one name.
struct Topic {
    name: String,
    kind: &'static str,
    partitions: u64,
}

struct Input {
    file: PathBuf,
    key_field: Option<String>,
    lines: u64,
}

/// Partitions of the topic for the lines of a file.
const INPUT_PARTITIONS: u64 = 3;

impl Args {
    /// The clusters, where any are named.
    ///
    /// # Errors
    /// A file cannot be read, or has nothing in it.
    pub(super) fn open(&self) -> anyhow::Result<Option<Clusters>> {
        let (Some(source), Some(target)) = (&self.bootstrap_source, &self.bootstrap_target) else {
            return Ok(None);
        };
        let id = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
        let topic = |name: &str, kind, partitions| Topic {
            name: format!("{name}-{id}"),
            kind,
            partitions,
        };
        let input = self
            .input
            .as_deref()
            .map(|file| Input::open(file, self.key_field.clone()));
        let topics = match &input {
            Some(_) => vec![topic("lines", "", INPUT_PARTITIONS)],
            None => TOPICS
                .map(|(name, kind, partitions)| topic(name, kind, partitions))
                .into(),
        };
        Ok(Some(Clusters {
            source: Cluster::open(source, self.properties_source.as_ref())?,
            target: Cluster::open(target, self.properties_target.as_ref())?,
            topics,
            input: input.transpose()?,
            id,
        }))
    }
}

impl Clusters {
    pub(super) fn describe(&self) -> String {
        let what = match &self.input {
            Some(input) => format!("{} lines of {}", thousands(input.lines), input.file.display()),
            None => "generated records".into(),
        };
        format!(
            "{what} → Kafka {} → gateway 1 → gateway 2 → gateway 3 → Kafka {}; topics {}",
            self.source.bootstrap,
            self.target.bootstrap,
            self.names(", ")
        )
    }

    /// How many lines of a file there are to send, if it is a file.
    pub(super) fn lines(&self) -> Option<u64> {
        self.input.as_ref().map(|input| input.lines)
    }

    pub(super) fn records(&self, plan: &Plan) -> u64 {
        self.topics.iter().map(|topic| self.share(topic, plan)).sum()
    }

    pub(super) fn source(&self) -> Connector {
        Connector {
            name: format!("source-{}", self.id),
            config: json!({
                "connector.class": "io.culvert.kafka.KafkaSource",
                "topics": self.names(","),
            }),
        }
    }

    pub(super) fn sink(&self) -> Connector {
        // Each partition goes to the one of the same number, so that order can be proven.
        let most = self
            .topics
            .iter()
            .map(|topic| topic.partitions)
            .max()
            .unwrap_or(1);
        Connector {
            name: format!("target-{}", self.id),
            config: json!({
                "connector.class": "io.culvert.kafka.KafkaSink",
                "topics": self.names(","),
                "topic.creation.default.partitions": most.to_string(),
                "topic.creation.default.replication.factor": "-1",
            }),
        }
    }

    pub(super) fn tables(&self) -> [String; 2] {
        [self.source.table(), self.target.table()]
    }

    pub(super) fn generates(&self, plan: &Plan) -> Vec<Vec<String>> {
        let generate = |topic: &Topic| {
            let count = self.share(topic, plan);
            let rate = plan.rate * count as f64 / self.records(plan).max(1) as f64;
            let mut arguments = words(&["generate", "--output", "json", "--topic", &topic.name]);
            arguments.extend(self.source.arguments());
            arguments.extend(words(&["--partitions", &topic.partitions.to_string()]));
            arguments.extend(words(&["--rate", &rate.to_string()]));
            arguments.extend(match &self.input {
                Some(input) => input.arguments(),
                None => {
                    let (count, seed) = (count.to_string(), plan.seed.to_string());
                    words(&["--kind", topic.kind, "--count", &count, "--seed", &seed])
                }
            });
            arguments
        };
        self.topics.iter().map(generate).collect()
    }

    pub(super) fn verifies(&self, plan: &Plan, contents: &[String]) -> Vec<Vec<String>> {
        let verify = |(topic, content): (&Topic, &String)| {
            let records = self.share(topic, plan).to_string();
            let mut arguments = words(&["verify", "--topic", &topic.name]);
            arguments.extend(self.target.arguments());
            arguments.extend(words(&["--expect", &records, "--expect-content", content]));
            arguments
        };
        self.topics.iter().zip(contents).map(verify).collect()
    }

    /// How many of the records are this topic's.
    fn share(&self, topic: &Topic, plan: &Plan) -> u64 {
        let partitions: u64 = self.topics.iter().map(|topic| topic.partitions).sum();
        match &self.input {
            Some(input) => input.lines,
            None => (plan.records * topic.partitions).div_ceil(partitions),
        }
    }

    fn names(&self, between: &str) -> String {
        let names: Vec<&str> = self.topics.iter().map(|topic| topic.name.as_str()).collect();
        names.join(between)
    }
}

impl Cluster {
    fn open(bootstrap: &str, properties: Option<&PathBuf>) -> anyhow::Result<Cluster> {
        // Gateways and programs run in directories of their own.
        let absolute = |path: &PathBuf| {
            path.canonicalize()
                .with_context(|| format!("open {}", path.display()))
        };
        let properties = properties.map(absolute).transpose()?;
        let settings = ClusterArgs::new(bootstrap, properties.as_deref()).settings()?;
        Ok(Cluster {
            bootstrap: bootstrap.to_owned(),
            settings,
            properties,
        })
    }

    /// As arguments of a verb that talks to it.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = words(&["--bootstrap", &self.bootstrap]);
        if let Some(properties) = &self.properties {
            arguments.extend(["--properties".to_owned(), properties.display().to_string()]);
        }
        arguments
    }

    /// As a `[kafka]` table, in which secrets are references to the file they stand in.
    fn table(&self) -> String {
        let mut table = toml::Table::new();
        for (key, value) in &self.settings {
            let value = match &self.properties {
                Some(file) if is_secret(key) => format!("${{file:{}:{key}}}", file.display()),
                _ => value.clone(),
            };
            table.insert(key.clone(), value.into());
        }
        format!("\n[kafka]\n{table}")
    }
}

impl Input {
    fn open(file: &Path, key_field: Option<String>) -> anyhow::Result<Input> {
        let name = file.display().to_string();
        let opened = File::open(file).with_context(|| format!("open {name}"))?;
        let mut lines = 0;
        for line in BufReader::new(opened).split(b'\n') {
            lines += u64::from(
                !line
                    .with_context(|| format!("read {name}"))?
                    .trim_ascii()
                    .is_empty(),
            );
        }
        if lines == 0 {
            bail!("{name} holds no records\n\nEach line is one JSON value.");
        }
        Ok(Input {
            file: file.canonicalize()?,
            key_field,
            lines,
        })
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = words(&["--input", &self.file.display().to_string()]);
        if let Some(field) = &self.key_field {
            arguments.extend(words(&["--key-field", field]));
        }
        arguments
    }
}
