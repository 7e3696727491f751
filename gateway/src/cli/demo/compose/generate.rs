//! `culvert demo generate`: fills topics with Avro records, one a kind, and goes on where they end.
//!
//! No record of a topic is lost or there twice, whenever this process or its broker dies: a partition holds a stream from
//! its beginning, so that its end says which record is next. The producer is idempotent and never gives up on a record.

use super::beat::Beat;
use super::{Ending, duration};
use crate::cli::cluster::ClusterArgs;
use crate::cli::pace::Pace;
use crate::cli::words::thousands;
use crate::cli::{Exit, Session};
use crate::connector::generator::mark::{self, Mark, Reading};
use crate::connector::generator::records::{Format, Generator, Kind, Recipe};
use crate::connector::kafka::producer::{Producer, Settings, TopicReader};
use crate::flow::Reader;
use anyhow::bail;
use culvert_proto::Sequence;
use culvert_proto::record::RecordRef;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Keep topics filled with Avro records, and go on where they end
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes one topic for each kind, under the kind's name, until all of them together hold --count
records; then it stays, and writes no more. Started again, it goes on behind the last record.
The schemas are those of schemas/avro; the framing is Confluent's, with the ids 1 to 4.

Examples:
  culvert demo generate --bootstrap kafka1:9092 --count 100000 --rate 1000")]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// What the records are about, and the topics' names: orders, sensors, clicks, transactions
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_values = ["orders", "sensors"])]
    kinds: Vec<Kind>,
    /// Partitions of each topic
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    partitions: u32,
    /// At least so many records in all
    #[arg(long, value_name = "N", env = "DEMO_RECORDS", default_value_t = 100_000)]
    count: u64,
    /// Records a second
    #[arg(long, value_name = "N", env = "DEMO_RATE", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Other seeds make other records; a topic goes on with its own only
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Say in this file how it goes, for a health check
    #[arg(long, value_name = "FILE")]
    beat: Option<PathBuf>,
    /// How often it is said
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    every: Duration,
}

/// What a predecessor sent just before it was killed may still be on its way into the log.
const SETTLES: Duration = Duration::from_millis(500);

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (ending, settings) = (Ending::new()?, args.settings()?);
    if let Some(topics) = ending.until_done(session, || args.open(&settings, &ending)) {
        let mut fill = Fill::new(args, topics);
        fill.run(&ending, session)?;
        if !ending.is_wanted() {
            fill.stay(&ending, session)?;
        }
    }
    Ok(Exit::Ok)
}

impl Args {
    fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = self.cluster.settings()?;
        // A record that is given up on is a gap for ever.
        settings.insert("message.timeout.ms".into(), "0".into());
        // Few records a second in few requests.
        settings.entry("linger.ms".into()).or_insert("50".into());
        Ok(settings)
    }

    fn open(&self, settings: &Settings, ending: &Ending) -> anyhow::Result<Vec<Topic>> {
        let mut reader = TopicReader::open(settings)?;
        let open = |kind: &Kind| Topic::open(*kind, self, settings, &mut reader, ending);
        self.kinds.iter().map(open).collect()
    }

    fn recipe(&self, kind: Kind) -> Recipe {
        Recipe {
            kind,
            format: Format::Avro {
                schema_id: 1 + kind as u32,
            },
            seed: self.seed,
            faults: 0.0,
        }
    }
}

/// A topic: how far each of its partitions is, and who writes on.
struct Topic {
    producer: Producer,
    generator: Generator,
    next: Vec<u64>,
}

impl Topic {
    fn open(
        kind: Kind,
        args: &Args,
        settings: &Settings,
        reader: &mut TopicReader,
        ending: &Ending,
    ) -> anyhow::Result<Topic> {
        let producer = Producer::open(settings, kind.name())?;
        let partitions = producer.ensure_topic(settings, Some(args.partitions))?;
        let ends = settled(ending, || {
            (0..partitions)
                .map(|partition| Ok(reader.end(kind.name(), partition)?))
                .collect()
        })?;
        for (partition, end) in (0..partitions).zip(&ends) {
            check_last(kind, args.seed, partition, *end, reader)?;
        }
        Ok(Topic {
            producer,
            generator: Generator::new(args.recipe(kind)),
            next: ends,
        })
    }
}

/// Looks until two looks agree.
fn settled(ending: &Ending, look: impl Fn() -> anyhow::Result<Vec<u64>>) -> anyhow::Result<Vec<u64>> {
    let mut before = look()?;
    loop {
        ending.pause(SETTLES);
        let now = look()?;
        if now == before || ending.is_wanted() {
            return Ok(now);
        }
        before = now;
    }
}

/// The last record of a partition must be the one whose number its offset is: else nobody knows which is next.
fn check_last(
    kind: Kind,
    seed: u64,
    partition: u32,
    end: u64,
    reader: &mut TopicReader,
) -> anyhow::Result<()> {
    let Some(last) = end.checked_sub(1) else {
        return Ok(());
    };
    let stream = format!("{kind}/{seed}/{partition}");
    let mut fits = true;
    let mut look = |_: Sequence, record: &RecordRef<'_>| {
        let expected = Mark {
            stream: &stream,
            sequence: last,
        };
        fits = mark::read(record) == Reading::Intact(expected);
        ControlFlow::Break(())
    };
    // What retention took is not looked at: there is nothing to read.
    reader.read(
        kind.name(),
        partition,
        Sequence(last),
        Some(Sequence(end)),
        &mut look,
    )?;
    if !fits {
        bail!(
            "[CULVERT-D003] topic {kind}/{partition} ends with a record that is not number {last} of {stream}\n\n\
             hint: give the topic's own --seed, or delete the topic."
        );
    }
    Ok(())
}

/// Writing up to a number, at a rate.
struct Fill {
    topics: Vec<Topic>,
    per_partition: u64,
    pace: Pace,
    sent: u64,
    beat: Beat,
    every: Duration,
    said: Instant,
}

impl Fill {
    fn new(args: &Args, topics: Vec<Topic>) -> Fill {
        let partitions: usize = topics.iter().map(|topic| topic.next.len()).sum();
        Fill {
            topics,
            per_partition: args.count.div_ceil(partitions.max(1) as u64),
            pace: Pace::new(args.rate as f64),
            sent: 0,
            beat: Beat::new(args.beat.clone()),
            every: args.every,
            said: Instant::now(),
        }
    }

    /// All partitions at the same height, so that they grow at the same pace.
    fn run(&mut self, ending: &Ending, session: &Session) -> anyhow::Result<()> {
        self.say(session)?;
        let first = self
            .topics
            .iter()
            .flat_map(|topic| topic.next.iter().min().copied())
            .min();
        for index in first.unwrap_or(0)..self.per_partition {
            for topic in 0..self.topics.len() {
                if ending.is_wanted() {
                    return Ok(());
                }
                self.sent += self.topics[topic].write(index)?;
                self.pace.hold(self.sent);
                if self.said.elapsed() >= self.every {
                    self.say(session)?;
                }
            }
        }
        for topic in &mut self.topics {
            topic.producer.flush()?;
        }
        Ok(())
    }

    /// All is written: the container goes on to be there, and well.
    fn stay(&mut self, ending: &Ending, session: &Session) -> anyhow::Result<()> {
        self.say(session)?;
        while !ending.is_wanted() {
            ending.pause(self.every);
            self.beat.say(true, &self.words())?;
        }
        Ok(())
    }

    fn say(&mut self, session: &Session) -> anyhow::Result<()> {
        self.said = Instant::now();
        session.terminal.answer(self.words())?;
        self.beat.say(true, &self.words())
    }

    fn words(&self) -> String {
        let all: u64 = self.topics.iter().flat_map(|topic| &topic.next).sum();
        let partitions: usize = self.topics.iter().map(|topic| topic.next.len()).sum();
        let wanted = self.per_partition * partitions as u64;
        format!("{} of {} records written", thousands(all), thousands(wanted))
    }
}

impl Topic {
    /// Writes the record at `index` of each partition that has not got it. Answers how many.
    fn write(&mut self, index: u64) -> anyhow::Result<u64> {
        let mut written = 0;
        for (partition, next) in (0..).zip(&mut self.next) {
            if *next == index {
                let record = self.generator.record(partition, index);
                self.producer.send(Some(partition), &record)?;
                *next += 1;
                written += 1;
            }
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::verify::ledger::{Expected, Ledger};
    use crate::connector::kafka::producer::imitation;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(settings: &Settings, line: &str) -> Args {
        let bootstrap = &settings["bootstrap.servers"];
        let line = format!("generate --bootstrap {bootstrap} --kinds orders --rate 1000000 {line}");
        Line::try_parse_from(line.split_whitespace()).unwrap().args
    }

    fn fill(args: &Args) -> anyhow::Result<()> {
        let (ending, settings) = (Ending::new()?, args.settings()?);
        let topics = args.open(&settings, &ending)?;
        let session = Session {
            terminal: crate::cli::Terminal::new(
                crate::cli::Format::Text,
                crate::cli::Color::Never,
                &crate::config::Environment::default(),
            ),
            environment: crate::config::Environment::default(),
            config: None,
        };
        Fill::new(args, topics).run(&ending, &session)
    }

    #[test]
    fn a_topic_goes_on_where_it_ends_and_holds_each_record_once() {
        let (_cluster, settings) = imitation("orders", 3);
        for count in [300, 300, 1_000] {
            fill(&args(&settings, &format!("--count {count}"))).unwrap();
        }
        let (mut reader, mut ledger) = (TopicReader::open(&settings).unwrap(), Ledger::new());
        for partition in 0..3 {
            let mut enter = |place: Sequence, record: &RecordRef<'_>| {
                ledger.enter(partition, place, record).unwrap();
                ControlFlow::Continue(())
            };
            reader
                .read("orders", partition, Sequence::ZERO, None, &mut enter)
                .unwrap();
        }
        let report = ledger.close(&Expected::default());
        assert!(report.clean, "{report:?}");
        assert_eq!((report.records, report.generated), (1_002, 1_002));
    }

    #[test]
    fn a_topic_of_somebody_else_is_not_written_to() {
        let (_cluster, settings) = imitation("orders", 3);
        fill(&args(&settings, "--count 30")).unwrap();
        let error = fill(&args(&settings, "--count 60 --seed 2"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CULVERT-D003") && error.contains("not number 9 of orders/2/0"),
            "{error}"
        );
    }
}
