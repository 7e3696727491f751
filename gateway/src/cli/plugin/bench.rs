//! `culvert plugin bench`: how fast a plugin is on this host.

use super::target::{Cases, Target};
use crate::cli::table::Table;
use crate::cli::words::{bytes, thousands};
use crate::cli::{Exit, Format, Session, exit};
use crate::plugin::testing::{Figures, Message, Row, Sample, loaded, measure, messages_of, settings_of};
use anyhow::Context;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// As many messages as a batch of the flow holds.
const BATCH_MAX: usize = 500;

/// What is measured.
#[derive(Debug, clap::Args)]
#[command(
    about = "Measure how fast a plugin is: messages a second, memory, and how long it takes to load",
    after_help = "\
Messages are those of the cases, or of a sample (one a line: a message as cases write it, or else
a value); they come round and round, in batches of each size. The first case's settings are used
unless --set gives others. One core works.

Examples:
  culvert plugin bench
  culvert plugin bench order-check --sample orders.jsonl --set transform=storage
  culvert plugin bench order-check.wasm --batch 1,500 --seconds 5 --output json

The exit code is 0 when it was measured, 1 when it cannot be run, 2 when a setting is wrong, 3 when
the plugin or messages to show it are not there."
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    cases: Cases,
    /// How many messages stand in a batch, at most 500: one row of figures for each
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,10,100,500", value_parser = size)]
    batch: Vec<usize>,
    /// How long each size is measured
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    seconds: f64,
    /// Messages, one a line
    #[arg(long, value_name = "FILE")]
    sample: Option<PathBuf>,
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if (1..=BATCH_MAX).contains(&size) => Ok(size),
        _ => Err(format!("valid: 1 to {BATCH_MAX}")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("valid: 0.01 to 3600".into()),
    }
}

#[derive(Serialize)]
struct Report {
    plugin: String,
    version: String,
    /// How many different messages were shown, and their bytes.
    messages: usize,
    message_bytes: usize,
    #[serde(flatten)]
    figures: Figures,
    rows: Vec<Row>,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let component = args.target.transform(session)?;
    let folder = tempfile::tempdir().context("make a folder for compiled code")?;
    let loaded = loaded(&component.bytes, folder.path()).with_context(|| component.named.clone())?;
    let (subject, compiled, cached) = loaded;
    let description = &subject.plugin().description;
    let cases = args.cases.read(&component, description)?;
    let messages = match &args.sample {
        Some(file) => {
            let text = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
            Sample::read(&text).messages
        }
        None => messages_of(&cases),
    };
    if messages.is_empty() {
        let missing = "there is no message to show the plugin\n\nGive some, one a line: --sample FILE";
        return Err(exit::Absent(missing.into()).into());
    }
    let given = args.target.given();
    let settings = match cases.iter().find(|case| !case.is_to_fail()) {
        Some(case) if given.is_empty() => case.settings().to_vec(),
        _ => settings_of(&subject, &given).map_err(exit::Invalid)?,
    };
    let time = Duration::from_secs_f64(args.seconds);
    let measured = measure(&subject, &settings, &messages, &args.batch, time, |row| {
        if session.terminal.is_moving() {
            session
                .terminal
                .note(format_args!("batches of {}: done", row.batch));
        }
    });
    let (instance, rows) = measured.map_err(anyhow::Error::msg)?;
    let report = Report {
        plugin: description.name.clone(),
        version: description.version.clone(),
        messages: messages.len(),
        message_bytes: messages.iter().map(Message::size).sum(),
        figures: Figures {
            compiled_ms: compiled.as_secs_f64() * 1e3,
            cached_ms: cached.as_secs_f64() * 1e3,
            instance_us: instance.as_secs_f64() * 1e6,
        },
        rows,
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&report)?,
        Format::Text => session.terminal.answer(text(&report))?,
    }
    Ok(Exit::Ok)
}

fn text(report: &Report) -> String {
    let Figures {
        compiled_ms,
        cached_ms,
        instance_us,
    } = report.figures;
    let mut table = Table::new(
        &["BATCH", "RECORDS/S", "US/RECORD", "MEMORY", "FAULTS"],
        &[0, 1, 2, 3, 4],
    );
    for row in &report.rows {
        table.row([
            row.batch.to_string(),
            thousands(row.records_per_second.round() as u64),
            format!("{:.2}", row.us_per_record),
            bytes(row.memory_bytes_peak),
            row.faults.to_string(),
        ]);
    }
    format!(
        "{} {}: {} different messages, {} each\nloaded in {compiled_ms:.1} ms, from the cache in {cached_ms:.2} ms; \
         an instance opens in {instance_us:.0} us\n\n{table}",
        report.plugin,
        report.version,
        report.messages,
        bytes((report.message_bytes / report.messages.max(1)) as u64),
    )
}
