//! `culvert generate`: writes test records, or the lines of a file, to a topic or as JSON lines.

use super::cluster::ClusterArgs;
use super::pace::Pace;
use super::{Exit, Format as Output, Session};
use crate::connector::generator::records::{Format, Generator, Kind, Recipe};
use crate::connector::kafka::producer::Producer;
use anyhow::{Context, bail};
use clap::ValueEnum;
use culvert_proto::digest::{self, Digest};
use culvert_proto::limits::RECORD_BYTES_MAX;
use culvert_proto::record::{Headers, RecordRef};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

const EXAMPLES: &str = "\
Each generated record carries its stream, its sequence and a checksum, by which `culvert verify`
finds gaps, duplicates, broken order and changed bytes at any target.

Examples:
  culvert generate --bootstrap localhost:9092 --topic orders --partitions 4 --count 1000000
  culvert generate --bootstrap localhost:9092 --topic iot --kind sensors --count 9000 --rate 100
  culvert generate --to - --kind clicks --count 5
  culvert generate --bootstrap localhost:9092 --topic mine --input mine.jsonl --key-field id

With --output json it says what was written as one object: count, bytes, content, partitions.";

/// Write test records, or the lines of a file, to a topic
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The topic to write to; made when it is not there
    #[arg(long, required_unless_present = "to", conflicts_with = "to")]
    topic: Option<String>,
    /// Write the values as JSON lines to a file instead, `-` for standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bootstrap", "settings", "properties"])]
    to: Option<PathBuf>,
    /// Partitions of the topic [default: as many as it has, or 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: Option<u32>,
    /// How many records, over all partitions
    #[arg(long, required_unless_present = "input")]
    count: Option<u64>,
    /// Records a second [default: as fast as they are taken]
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// What the records are about
    #[arg(long, value_enum, default_value = "orders")]
    kind: KindArg,
    /// How values are written
    #[arg(long, value_enum, default_value = "json", conflicts_with = "to")]
    format: FormatArg,
    /// The id of the Avro schema in the registry that readers will ask
    #[arg(long, value_name = "ID", default_value_t = 1)]
    schema_id: u32,
    /// Other seeds make other records
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The share of records that are bad on purpose, for example 0.01
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    faults: f64,
    /// Send the lines of this file, each a JSON value, instead of generated records
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "format", "seed", "faults"])]
    input: Option<PathBuf>,
    /// The field of an input line that becomes the record's key
    #[arg(long, value_name = "NAME", requires = "input")]
    key_field: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    /// Food orders; key: the order
    Orders,
    /// Readings of sensors; key: the device
    Sensors,
    /// Visits of pages; key: the user
    Clicks,
    /// Movements of accounts; key: the account
    Transactions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// One JSON object a record
    Json,
    /// Avro behind Confluent framing
    Avro,
}

/// Writes the records and says what was written.
pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let bar = progress(args.count, session.terminal.is_moving());
    let written = match &args.to {
        Some(path) if path.as_os_str() == "-" => write_lines(args, &bar, std::io::stdout().lock())?,
        Some(path) => {
            let file = File::create(path).with_context(|| format!("open {}", path.display()))?;
            write_lines(args, &bar, file)?
        }
        None => write_topic(args, &bar)?,
    };
    bar.finish_and_clear();
    match session.terminal.format() {
        // Standard output holds the records.
        _ if args.to.as_ref().is_some_and(|path| path.as_os_str() == "-") => session.terminal.note(&written),
        Output::Text => session.terminal.answer(&written)?,
        Output::Json => session.terminal.json(&written)?,
    }
    Ok(Exit::Ok)
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    records: u64,
    /// Keys and values.
    bytes: u64,
    seconds: f64,
    /// Records that are bad on purpose.
    faults: u64,
    /// The sum of the records' content hashes: what `verify --expect-content` compares.
    content: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    partitions: BTreeMap<u32, u64>,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.records as f64 / self.seconds.max(0.001);
        let megabytes = self.bytes as f64 / 1e6;
        write!(
            f,
            "{} records, {megabytes:.1} MB in {:.2} s ({rate:.0} records/s)",
            self.records, self.seconds
        )?;
        if self.faults > 0 {
            write!(f, ", {} of them bad on purpose", self.faults)?;
        }
        for (partition, records) in &self.partitions {
            write!(f, "\npartition {partition}: {records}")?;
        }
        write!(f, "\ncontent {}", self.content)
    }
}

fn write_topic(args: &Args, bar: &ProgressBar) -> anyhow::Result<Written> {
    let settings = args.cluster.settings()?;
    let topic = args.topic.as_deref().context("no topic is named")?;
    let mut producer = Producer::open(&settings, topic)?;
    let partitions = producer.ensure_topic(&settings, args.partitions)?;
    let began = Instant::now();
    let mut tally = Tally::new(bar, args.rate);
    each_record(args, partitions, &mut |partition, faulty, record| {
        tally.add(faulty, record);
        Ok(producer.send(partition, record)?)
    })?;
    let partitions = producer.flush()?;
    Ok(tally.written(began, partitions))
}

fn write_lines(args: &Args, bar: &ProgressBar, out: impl Write) -> anyhow::Result<Written> {
    let began = Instant::now();
    let mut out = BufWriter::new(out);
    let mut tally = Tally::new(bar, args.rate);
    each_record(args, args.partitions.unwrap_or(1), &mut |_, faulty, record| {
        tally.add(faulty, record);
        out.write_all(record.value.unwrap_or_default())?;
        Ok(out.write_all(b"\n")?)
    })?;
    out.flush()?;
    Ok(tally.written(began, BTreeMap::new()))
}

/// Takes a record, the partition it belongs to where that is not for its key to decide, and whether it is bad on
/// purpose.
type Take<'a> = dyn FnMut(Option<u32>, bool, &RecordRef<'_>) -> anyhow::Result<()> + 'a;

fn each_record(args: &Args, partitions: u32, take: &mut Take<'_>) -> anyhow::Result<()> {
    match &args.input {
        Some(path) => each_line(
            path,
            args.key_field.as_deref(),
            args.count.unwrap_or(u64::MAX),
            take,
        ),
        None => each_generated(args, partitions, take),
    }
}

/// The partitions in turn, so that all of them are written at the same pace.
fn each_generated(args: &Args, partitions: u32, take: &mut Take<'_>) -> anyhow::Result<()> {
    let mut generator = Generator::new(args.recipe());
    for number in 0..args.count.unwrap_or(0) {
        let (index, partition) = (number / u64::from(partitions), number % u64::from(partitions));
        let partition = u32::try_from(partition).unwrap_or(0);
        let faulty = generator.fault(partition, index).is_some();
        take(Some(partition), faulty, &generator.record(partition, index))?;
    }
    Ok(())
}

fn each_line(path: &Path, key_field: Option<&str>, count: u64, take: &mut Take<'_>) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut lines = BufReader::new(file);
    let (mut line, mut number, mut sent) = (Vec::new(), 0, 0);
    while sent < count && next_line(&mut lines, &mut line)? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let key = key(&line, key_field).with_context(|| format!("{}:{number}", path.display()))?;
        let record = RecordRef {
            timestamp: -1,
            key: key.as_deref(),
            value: Some(&line),
            headers: Headers::NONE,
        };
        take(None, false, &record)?;
        sent += 1;
    }
    Ok(())
}

/// The next line without its end; false when there is none.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> anyhow::Result<bool> {
    line.clear();
    let limit = u64::try_from(RECORD_BYTES_MAX).unwrap_or(u64::MAX);
    let read = lines.by_ref().take(limit).read_until(b'\n', line)?;
    while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        line.pop();
    }
    if u64::try_from(read).is_ok_and(|read| read == limit) {
        bail!("a line is longer than {limit} bytes, the largest record");
    }
    Ok(read > 0)
}

/// A text is taken as it is, anything else in its JSON form. The line has to be JSON even where no key is asked for.
fn key(line: &[u8], field: Option<&str>) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(field) = field else {
        serde_json::from_slice::<serde::de::IgnoredAny>(line).context("not JSON")?;
        return Ok(None);
    };
    let value: serde_json::Value = serde_json::from_slice(line).context("not JSON")?;
    match value.get(field) {
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone().into_bytes())),
        Some(other) => Ok(Some(other.to_string().into_bytes())),
        None => bail!("has no field {field:?}"),
    }
}

impl Args {
    fn recipe(&self) -> Recipe {
        Recipe {
            kind: match self.kind {
                KindArg::Orders => Kind::Orders,
                KindArg::Sensors => Kind::Sensors,
                KindArg::Clicks => Kind::Clicks,
                KindArg::Transactions => Kind::Transactions,
            },
            format: match self.format {
                FormatArg::Json => Format::Json,
                FormatArg::Avro => Format::Avro {
                    schema_id: self.schema_id,
                },
            },
            seed: self.seed,
            faults: self.faults,
        }
    }
}

/// Counts what goes out, shows it, and holds the rate.
struct Tally<'a> {
    bar: &'a ProgressBar,
    pace: Option<Pace>,
    digest: Digest,
    bytes: u64,
    faults: u64,
}

/// How often the bar and the clock are looked at: often enough for an even rate, too rarely to cost any.
const GLANCE_RECORDS: u64 = 256;

impl<'a> Tally<'a> {
    fn new(bar: &'a ProgressBar, rate: Option<f64>) -> Tally<'a> {
        Tally {
            bar,
            pace: rate.map(Pace::new),
            digest: Digest::EMPTY,
            bytes: 0,
            faults: 0,
        }
    }

    fn add(&mut self, faulty: bool, record: &RecordRef<'_>) {
        if let Some(pace) = &mut self.pace {
            pace.hold(self.digest.count);
        }
        self.digest.add(digest::content(record));
        self.bytes += record.size() as u64;
        self.faults += u64::from(faulty);
        if self.digest.count.is_multiple_of(GLANCE_RECORDS) {
            self.bar.set_position(self.digest.count);
        }
    }

    fn written(&self, began: Instant, partitions: BTreeMap<u32, u64>) -> Written {
        Written {
            records: self.digest.count,
            bytes: self.bytes,
            seconds: began.elapsed().as_secs_f64(),
            faults: self.faults,
            content: format!("{:032x}", self.digest.set),
            partitions,
        }
    }
}

/// A bar where the end is known, else a count. On standard error, and only where it may move.
pub(super) fn progress(records: Option<u64>, moving: bool) -> ProgressBar {
    let target = if moving {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(records, target);
    let template = match records {
        Some(_) => "{wide_bar} {human_pos}/{human_len} records, {per_sec}, {eta} left",
        None => "{spinner} {human_pos} records, {per_sec}",
    };
    // A template that does not parse leaves the default look.
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a share from 0 to 1, for example 0.01".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "expected a number above 0".to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;
    use std::time::Duration;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    pub(in crate::cli) fn args(line: &str) -> Args {
        parse(line).unwrap()
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Line::try_parse_from(["generate"].into_iter().chain(line.split_whitespace())).map(|line| line.args)
    }

    pub(in crate::cli) fn generate(line: &str) -> anyhow::Result<(u64, String)> {
        let written = write_topic(&args(line), &progress(None, false))?;
        assert_eq!(written.records, written.partitions.values().sum::<u64>());
        Ok((written.records, written.content))
    }

    fn lines(line: &str) -> anyhow::Result<(Written, String)> {
        let mut out = Vec::new();
        let written = write_lines(&args(line), &progress(None, false), &mut out)?;
        Ok((written, String::from_utf8(out)?))
    }

    #[test]
    fn arguments_that_contradict_each_other_are_refused() {
        let good = [
            "--to - --count 5",
            "--topic t --bootstrap h:1 --input f",
            "--topic t --count 1 --set a=b",
        ];
        good.iter()
            .for_each(|line| assert!(parse(line).is_ok(), "{line}"));
        let bad = [
            "--count 5",
            "--topic t",
            "--to - --topic t --count 5",
            "--to - --bootstrap h:1 --count 5",
            "--to - --count 5 --format avro",
            "--to - --input f --kind clicks",
            "--to - --count 5 --key-field id",
            "--to - --count 5 --faults 2",
            "--to - --count 5 --rate 0",
            "--to - --count 5 --partitions 0",
        ];
        bad.iter()
            .for_each(|line| assert!(parse(line).is_err(), "{line}"));
    }

    #[test]
    fn lines_are_the_same_each_time_and_say_what_they_are() {
        let (written, out) = lines("--to - --count 100 --kind sensors --partitions 3 --faults 0.2").unwrap();
        assert_eq!((written.records, out.lines().count()), (100, 100));
        assert!(written.faults > 0 && written.faults < 50);
        assert!(out.starts_with("{\"stream\":\"sensors/1/0\",\"sequence\":0,"));
        let (again, _) = lines("--to - --count 100 --kind sensors --partitions 3 --faults 0.2").unwrap();
        assert_eq!(again.content, written.content);
        let (other, _) = lines("--to - --count 100 --kind sensors --partitions 3 --seed 2").unwrap();
        assert_ne!(other.content, written.content);
    }

    #[test]
    fn the_lines_of_a_file_go_out_as_they_are_and_a_bad_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in.jsonl");
        std::fs::write(&path, "{\"id\": 7}\r\n\n{\"id\":\"x\"}\n").unwrap();
        let input = format!("--to - --input {}", path.display());
        let (written, out) = lines(&input).unwrap();
        assert_eq!(
            (written.records, out.as_str()),
            (2, "{\"id\": 7}\n{\"id\":\"x\"}\n")
        );
        let mut keys = Vec::new();
        each_line(&path, Some("id"), 5, &mut |partition, _, record| {
            assert_eq!(partition, None, "the key decides");
            keys.push(record.key.unwrap().to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(keys, [b"7", b"x"]);
        let check = |text: &str, key: &str, says: &str| {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", lines(&format!("{input}{key}")).unwrap_err());
            assert!(error.contains(says), "{error}");
        };
        check("{}\n{\n", "", "in.jsonl:2: not JSON");
        check("{}\n", " --key-field id", "in.jsonl:1: has no field \"id\"");
    }

    #[test]
    fn the_rate_is_held() {
        let began = Instant::now();
        lines("--to - --count 101 --rate 1000").unwrap();
        assert!(
            began.elapsed() >= Duration::from_millis(100),
            "{:?}",
            began.elapsed()
        );
    }
}
