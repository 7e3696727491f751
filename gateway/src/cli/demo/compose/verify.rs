//! `culvert demo verify`: reads the target as it grows, and says whether every record is there once, whole and in order.
//!
//! It knows neither source nor gateways. Since order is kept in each partition, nothing may be missing at any moment below
//! the last record of a stream.

use super::beat::Beat;
use super::{Ending, duration};
use crate::cli::cluster::ClusterArgs;
use crate::cli::verify::ledger::{Expected, Ledger, Report};
use crate::cli::words::thousands;
use crate::cli::{Exit, Session};
use crate::connector::kafka::producer::{Settings, TopicReader};
use crate::flow::Reader;
use culvert_proto::Sequence;
use culvert_proto::record::RecordRef;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// Read the target as it grows, and say whether every record is there once
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads only what is committed. `culvert verify` looks once, and says all that is wrong.

Examples:
  culvert demo verify --bootstrap kafka3:9092 --topics orders,sensors")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The topics to read; waited for where they are not there
    #[arg(long, value_name = "TOPIC", value_delimiter = ',', default_values = ["orders", "sensors"])]
    topics: Vec<String>,
    /// How often it looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    every: Duration,
    /// Say in this file how it goes, for a health check
    #[arg(long, value_name = "FILE")]
    beat: Option<PathBuf>,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (ending, settings) = (Ending::new()?, args.cluster.settings()?);
    let beat = Beat::new(args.beat.clone());
    let mut topics: Vec<Topic> = args.topics.iter().map(|name| Topic::new(name)).collect();
    let mut said = String::new();
    while !ending.is_wanted() {
        let looked = topics.iter_mut().try_for_each(|topic| topic.look(&settings));
        let (clean, mut words) = judge(&topics);
        if let Err(error) = looked {
            // A cluster that is away, or a topic that nothing was delivered to yet, says nothing about the records.
            words = format!("{words}; waits: {error:#}");
        }
        beat.say(clean, &words)?;
        if words != said {
            session.terminal.answer(&words)?;
            said = words;
        }
        ending.pause(args.every);
    }
    Ok(Exit::Ok)
}

/// What of a topic was read.
struct Topic {
    name: String,
    ledger: Ledger,
    /// Where each partition is read on.
    next: BTreeMap<u32, Sequence>,
    /// Who reads; a new one after each error.
    reader: Option<TopicReader>,
}

impl Topic {
    fn new(name: &str) -> Topic {
        Topic {
            name: name.to_owned(),
            ledger: Ledger::new(),
            next: BTreeMap::new(),
            reader: None,
        }
    }

    /// Reads what has come since the last time. What was read before an error stays read.
    fn look(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => TopicReader::open(settings)?,
        };
        for partition in 0..reader.partitions(&self.name)? {
            let next = self.next.entry(partition).or_insert(Sequence::ZERO);
            let (ledger, mut outcome) = (&mut self.ledger, Ok(()));
            let from = *next;
            let mut enter = |place: Sequence, record: &RecordRef<'_>| {
                outcome = ledger.enter(partition, place, record);
                *next = Sequence(place.0 + 1);
                match outcome {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            };
            reader.read(&self.name, partition, from, None, &mut enter)?;
            outcome?;
        }
        self.reader = Some(reader);
        Ok(())
    }

    /// The book is closed on a copy: more will be entered.
    fn report(&self) -> Report {
        let records = Some(self.ledger.records());
        self.ledger.clone().close(&Expected {
            records,
            ..Expected::default()
        })
    }
}

/// Whether all is as it should be, and how that is said.
fn judge(topics: &[Topic]) -> (bool, String) {
    let reports: Vec<Report> = topics.iter().map(Topic::report).collect();
    let said = topics
        .iter()
        .zip(&reports)
        .map(|(topic, report)| format!("{}: {}", topic.name, words(report)));
    let clean = reports.iter().all(is_clean);
    (clean, said.collect::<Vec<_>>().join(", "))
}

/// Only generated records can be told from each other.
fn is_clean(report: &Report) -> bool {
    report.clean && report.generated == report.records
}

fn words(report: &Report) -> String {
    let records = thousands(report.records);
    if is_clean(report) {
        return format!("{records} records, each once, in order");
    }
    let found: Vec<String> = report
        .findings
        .iter()
        .map(|(kind, findings)| {
            let first = findings.first.first().map_or("", String::as_str);
            format!("{} {} ({first})", findings.count, kind.words())
        })
        .collect();
    match found.as_slice() {
        [] => format!("{records} records NOT CLEAN: nobody generated them"),
        found => format!("{records} records NOT CLEAN: {}", found.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::generator::records::{Format, Generator, Kind, Recipe};
    use crate::connector::kafka::producer::{Producer, imitation};

    #[test]
    fn what_comes_is_judged_as_it_comes() {
        let (_cluster, settings) = imitation("orders", 1);
        let mut producer = Producer::open(&settings, "orders").unwrap();
        let mut generator = Generator::new(Recipe {
            kind: Kind::Orders,
            format: Format::Avro { schema_id: 1 },
            seed: 1,
            faults: 0.0,
        });
        let mut topics = [Topic::new("orders")];
        let mut check = |indices: &[u64], clean: bool, said: &str| {
            for index in indices {
                producer.send(Some(0), &generator.record(0, *index)).unwrap();
            }
            producer.flush().unwrap();
            topics[0].look(&settings).unwrap();
            let (found, words) = judge(&topics);
            assert!(found == clean && words.starts_with(said), "{words}");
        };
        check(&[], true, "orders: 0 records, each once");
        check(&[0, 1], true, "orders: 2 records, each once, in order");
        check(&[2], true, "orders: 3 records, each once, in order");
        check(
            &[4],
            false,
            "orders: 4 records NOT CLEAN: 1 missing (orders/1/0 [3, 4))",
        );
        check(&[3], false, "orders: 5 records NOT CLEAN: 1 out of order");
        check(&[3], false, "orders: 6 records NOT CLEAN: 1 duplicated");
    }

    #[test]
    fn a_topic_that_is_not_there_is_named() {
        let (_cluster, settings) = imitation("orders", 1);
        let error = Topic::new("strangers").look(&settings).unwrap_err().to_string();
        assert!(error.contains("strangers"), "{error}");
    }
}
