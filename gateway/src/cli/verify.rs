//! `culvert verify`: looks at a target alone and says whether what generators sent is there once, whole and in order.

pub(super) mod ledger;
mod seen;

use super::cluster::ClusterArgs;
use super::generate::progress;
use super::{Exit, Format, Session};
use crate::connector::kafka::producer::TopicReader;
use crate::connector::sqlite::{Held, SqliteReader};
use crate::flow::{Reader, SourceFault};
use anyhow::bail;
use culvert_proto::Sequence;
use culvert_proto::digest::{self, Digest};
use culvert_proto::record::RecordRef;
use indicatif::ProgressBar;
use ledger::{Expected, Kind, Ledger, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Generated records are checked one by one: gaps, duplicates, order in each partition and for each
key, changed bytes. Of other records the count and a hash of the content are given, to be compared
with what `culvert generate` said.

Examples:
  culvert verify --bootstrap localhost:9092 --topic orders --expect 1000000
  culvert verify --sqlite demo/orders.db
  culvert verify --bootstrap localhost:9092 --topic mine --expect-content 7c0f...

The exit code is 0 only when nothing is wrong, and 1 when something is.";

/// Check that a topic or a SQLite file holds every generated record once, whole and in order
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The topic to read; only what is committed counts
    #[arg(long, required_unless_present = "sqlite", conflicts_with = "sqlite")]
    topic: Option<String>,
    /// A file that a SQLite sink has written, instead of a topic
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bootstrap", "settings", "properties"])]
    sqlite: Option<PathBuf>,
    /// One table of the file [default: all that a sink has written]
    #[arg(long, requires = "sqlite")]
    table: Option<String>,
    /// The connector whose records are checked, where several have written to the file
    #[arg(long, value_name = "NAME", requires = "sqlite")]
    connector: Option<String>,
    /// How many records there must be
    #[arg(long, value_name = "COUNT")]
    expect: Option<u64>,
    /// What the content's hash must be, as `culvert generate` said
    #[arg(long, value_name = "HASH")]
    expect_content: Option<String>,
}

/// Reads the target and reports; ends with 0 only when nothing is wrong.
pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let bar = progress(args.expect, session.terminal.is_moving());
    let report = verify(args, &bar)?;
    bar.finish_and_clear();
    match session.terminal.format() {
        Format::Text => session.terminal.answer(&report)?,
        Format::Json => session.terminal.json(&report)?,
    }
    Ok(if report.clean { Exit::Ok } else { Exit::Failed })
}

fn verify(args: &Args, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut ledger = Ledger::new();
    match &args.sqlite {
        Some(path) => enter_file(args, path, &mut ledger, bar)?,
        None => enter_topic(args, &mut ledger, bar)?,
    }
    let content = args
        .expect_content
        .as_ref()
        .map(|content| content.trim().to_ascii_lowercase());
    Ok(ledger.close(&Expected {
        records: args.expect,
        content,
    }))
}

fn enter_topic(args: &Args, ledger: &mut Ledger, bar: &ProgressBar) -> anyhow::Result<()> {
    let Some(topic) = &args.topic else {
        bail!("neither --topic nor --sqlite is given")
    };
    let mut reader = TopicReader::open(&args.cluster.settings()?)?;
    for partition in 0..reader.partitions(topic)? {
        let mut outcome = Ok(());
        reader.read(topic, partition, Sequence::ZERO, None, &mut |offset, record| {
            outcome = enter(ledger, bar, partition, offset, record);
            flow(&outcome)
        })?;
        outcome?;
    }
    Ok(())
}

/// What a stage refused is a dead letter in the file, and not missing. The file is seen as it was when the reading began. Rows are read by their sequence: the table keeps no other
/// order, so what can be broken is the order inside the records, not that of the rows.
fn enter_file(args: &Args, path: &Path, ledger: &mut Ledger, bar: &ProgressBar) -> anyhow::Result<()> {
    let mut reader = SqliteReader::open(path).map_err(SourceFault::from)?;
    reader.pin().map_err(SourceFault::from)?;
    for held in streams(args, reader.streams().map_err(SourceFault::from)?)? {
        let partition = held.stream().partition;
        let (mut outcome, mut found) = (Ok(()), Digest::EMPTY);
        let read = reader.read_stream_with_letters(&held, &mut |sequence, record| {
            found.add(digest::content(record));
            outcome = enter(ledger, bar, partition, sequence, record);
            flow(&outcome)
        });
        read.map_err(SourceFault::from)?;
        outcome?;
        compare(&held, &found, ledger);
    }
    Ok(())
}

/// The streams to check: of one connector, of one table if asked for, each in its newest incarnation.
fn streams(args: &Args, all: Vec<Held>) -> anyhow::Result<Vec<Held>> {
    let wanted = |held: &Held| {
        args.table
            .as_ref()
            .is_none_or(|table| held.table().eq_ignore_ascii_case(table))
            && args
                .connector
                .as_ref()
                .is_none_or(|connector| held.route() == connector)
    };
    let wanted: Vec<Held> = all.into_iter().filter(wanted).collect();
    let routes: BTreeSet<&str> = wanted.iter().map(Held::route).collect();
    if routes.len() > 1 {
        let routes: Vec<&str> = routes.into_iter().collect();
        bail!(
            "several connectors have written to this file\n\nName one with --connector: {}.",
            routes.join(", ")
        );
    }
    if let (true, Some(table)) = (wanted.is_empty(), &args.table) {
        bail!("no sink has written to a table {table:?} in this file");
    }
    let mut newest: BTreeMap<_, Held> = BTreeMap::new();
    for held in wanted {
        let incarnation = held.position().incarnation;
        let older = newest
            .get(held.stream())
            .is_none_or(|known| known.position().incarnation < incarnation);
        if older {
            newest.insert(held.stream().clone(), held);
        }
    }
    Ok(newest.into_values().collect())
}

/// The position was stored in the transaction of the records, so it describes exactly those that are there (S3).
fn compare(held: &Held, found: &Digest, ledger: &mut Ledger) {
    let said = &held.position().digest;
    if (said.count, said.order, said.set) != (found.count, found.order, found.set) {
        ledger.note(Kind::Position, 1, || {
            let what = if said.count == found.count {
                "with another content"
            } else {
                "are there"
            };
            format!(
                "{}: its position tells of {} records, {} {what}",
                held.stream(),
                said.count,
                found.count
            )
        });
    }
}

fn enter(
    ledger: &mut Ledger,
    bar: &ProgressBar,
    partition: u32,
    place: Sequence,
    record: &RecordRef<'_>,
) -> anyhow::Result<()> {
    // By eye: often enough to be seen moving.
    if place.0.is_multiple_of(1_024) {
        bar.set_position(ledger.records());
    }
    ledger.enter(partition, place, record)
}

fn flow(outcome: &anyhow::Result<()>) -> ControlFlow<()> {
    if outcome.is_ok() {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            records,
            generated,
            content,
            partitions,
            streams,
            ..
        } = self;
        writeln!(
            f,
            "{records} records in {} partitions, {generated} generated in {} streams",
            partitions.len(),
            streams.len()
        )?;
        for (partition, part) in partitions {
            writeln!(
                f,
                "partition {partition}: {} records, content {} in order",
                part.records, part.content
            )?;
        }
        writeln!(f, "content {content}")?;
        for (kind, findings) in &self.findings {
            writeln!(f, "{} {}", findings.count, kind.words())?;
            for what in &findings.first {
                writeln!(f, "  {what}")?;
            }
            if findings.count > findings.first.len() as u64 && *kind != Kind::Missing {
                writeln!(f, "  and {} more", findings.count - findings.first.len() as u64)?;
            }
        }
        match (self.clean, *generated) {
            (true, 0) => write!(
                f,
                "nothing wrong found; no record was generated, so only count and content are known"
            ),
            (true, _) => write!(
                f,
                "clean: nothing missing, nothing twice, all in order, all intact"
            ),
            (false, _) => write!(f, "NOT clean"),
        }
    }
}

#[cfg(test)]
mod tests;
