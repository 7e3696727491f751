//! What stands at the two ends: without any service a generator and a SQLite file, else two Kafka clusters.

use super::Plan;
use super::kafka::{self, Clusters};
use serde_json::{Value, json};

/// The topics of generated records: their name, what `kind` they are, and how many partitions they get.
pub(super) const TOPICS: [(&str, &str, u64); 2] = [("orders", "orders", 3), ("readings", "sensors", 2)];

/// The file of the SQLite sink, in gateway 3's directory.
const FILE: &str = "delivered.db";

/// The two ends.
pub(super) enum Ends {
    /// Generator sources and a SQLite sink.
    Embedded,
    /// Two clusters and what is written to the first.
    Kafka(Box<Clusters>),
}

/// A connector: the name of its file and what stands in it.
pub(super) struct Connector {
    pub(super) name: String,
    pub(super) config: Value,
}

impl Ends {
    /// Clusters where any are named.
    ///
    /// # Errors
    /// A file cannot be read, or has nothing in it.
    pub(super) fn open(clusters: &kafka::Args) -> anyhow::Result<Ends> {
        let clusters = clusters.open()?;
        Ok(clusters.map_or(Ends::Embedded, |clusters| Ends::Kafka(Box::new(clusters))))
    }

    /// How many lines of a file there are to send, if it is a file.
    pub(super) fn lines(&self) -> Option<u64> {
        match self {
            Ends::Kafka(clusters) => clusters.lines(),
            Ends::Embedded => None,
        }
    }

    /// How it is said.
    pub(super) fn describe(&self) -> String {
        match self {
            Ends::Embedded => "generators → gateway 1 → gateway 2 → gateway 3 → SQLite".into(),
            Ends::Kafka(clusters) => clusters.describe(),
        }
    }

    /// How many records there will be: at least the plan's, the same number in each partition of a generator.
    pub(super) fn records(&self, plan: &Plan) -> u64 {
        match self {
            Ends::Embedded => TOPICS
                .iter()
                .map(|(_, _, partitions)| partitions * per_partition(plan))
                .sum(),
            Ends::Kafka(clusters) => clusters.records(plan),
        }
    }

    /// In how many streams there will be records for certain: the keys of somebody's file may all fall into one.
    pub(super) fn streams(&self) -> usize {
        let generated = || TOPICS.iter().map(|(_, _, partitions)| *partitions).sum::<u64>();
        match self {
            Ends::Kafka(clusters) if clusters.lines().is_some() => 1,
            Ends::Kafka(_) | Ends::Embedded => usize::try_from(generated()).unwrap_or(1),
        }
    }

    /// How long records flow unless a rate is given: long enough to see something happen, short enough to watch.
    /// Clusters take some seconds before the first record crosses.
    pub(super) fn flow_seconds(&self) -> f64 {
        match self {
            Ends::Embedded => 20.0,
            Ends::Kafka(_) => 40.0,
        }
    }

    /// What gateway 1 runs.
    pub(super) fn sources(&self, plan: &Plan) -> Vec<Connector> {
        match self {
            Ends::Embedded => TOPICS.iter().map(|topic| generator(plan, *topic)).collect(),
            Ends::Kafka(clusters) => vec![clusters.source()],
        }
    }

    /// What gateway 3 runs. It names the origin and the relay by their sites.
    pub(super) fn sink(&self, from: &str, via: &str) -> Connector {
        let mut sink = match self {
            Ends::Embedded => Connector {
                name: "delivered".into(),
                config: json!({
                    "connector.class": "io.culvert.sqlite.SqliteSink",
                    "topics": TOPICS.map(|(topic, _, _)| topic).join(","),
                    "sqlite.path": FILE,
                }),
            },
            Ends::Kafka(clusters) => clusters.sink(),
        };
        sink.config["culvert.from"] = from.into();
        sink.config["culvert.via"] = via.into();
        sink
    }

    /// The `[kafka]` tables of gateways 1 and 3, as TOML.
    pub(super) fn tables(&self) -> [String; 2] {
        match self {
            Ends::Embedded => Default::default(),
            Ends::Kafka(clusters) => clusters.tables(),
        }
    }

    /// `culvert generate …` for what no gateway makes itself; they run in gateway 1's directory.
    pub(super) fn generates(&self, plan: &Plan) -> Vec<Vec<String>> {
        match self {
            Ends::Embedded => Vec::new(),
            Ends::Kafka(clusters) => clusters.generates(plan),
        }
    }

    /// `culvert verify …` for each part of the target, in gateway 3's directory. `contents` are the hashes that the
    /// programs of [`Ends::generates`] gave.
    pub(super) fn verifies(&self, plan: &Plan, contents: &[String]) -> Vec<Vec<String>> {
        match self {
            Ends::Embedded => {
                let records = self.records(plan).to_string();
                vec![words(&["verify", "--sqlite", FILE, "--expect", &records])]
            }
            Ends::Kafka(clusters) => clusters.verifies(plan, contents),
        }
    }
}

fn per_partition(plan: &Plan) -> u64 {
    let partitions: u64 = TOPICS.iter().map(|(_, _, partitions)| partitions).sum();
    plan.records.div_ceil(partitions)
}

/// The rate is shared by partitions, so that all end together.
fn generator(plan: &Plan, (topic, kind, partitions): (&str, &str, u64)) -> Connector {
    let all: u64 = TOPICS.iter().map(|(_, _, partitions)| partitions).sum();
    Connector {
        name: topic.into(),
        config: json!({
            "connector.class": "io.culvert.generator.GeneratorSource",
            "topic": topic,
            "kind": kind,
            "partitions": partitions.to_string(),
            "count": per_partition(plan).to_string(),
            "rate": (plan.rate * partitions as f64 / all as f64).to_string(),
            "seed": plan.seed.to_string(),
        }),
    }
}

/// Arguments from literals.
pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
