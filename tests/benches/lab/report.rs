//! The table for people and the numbers for programs.

use crate::latency;
use crate::mirror::Kind;
use crate::{backlog, meter, starts};
use anyhow::Context;
use culvert_tests::workspace;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Bytes of key and value of a record, for MB/s.
const RECORD_BYTES: f64 = (crate::kafka::VALUE_BYTES + 8) as f64;

/// Everything measured in one run of the lab.
pub(crate) struct Report {
    command: String,
    machine: String,
    quick: bool,
    backlog: Vec<backlog::Row>,
    latency: Vec<latency::Row>,
    starts: Vec<starts::Row>,
    failures: Vec<String>,
}

/// The table stands between these in `docs/benchmarks.md`; what people wrote around it stays.
const BEGIN: &str = "<!-- begin: written by cargo xtask bench -->";
const END: &str = "<!-- end: written by cargo xtask bench -->";

impl Report {
    pub(crate) fn begin(quick: bool) -> Report {
        let arguments: Vec<String> = std::env::args()
            .skip(1)
            .filter(|argument| argument != "--bench")
            .collect();
        Report {
            command: format!("cargo xtask bench {}", arguments.join(" ")),
            machine: meter::machine(),
            quick,
            backlog: Vec::new(),
            latency: Vec::new(),
            starts: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn backlog(&mut self, row: backlog::Row) {
        self.backlog.push(row);
    }

    pub(crate) fn floor(&mut self, row: latency::Row) {
        self.latency.push(row);
    }

    pub(crate) fn latency(&mut self, row: latency::Row) {
        self.latency.push(row);
    }

    pub(crate) fn starts(&mut self, row: starts::Row) {
        self.starts.push(row);
    }

    pub(crate) fn failed(&mut self, fault: &anyhow::Error) {
        eprintln!("not measured: {fault:#}");
        self.failures
            .push(format!("{fault:#}").lines().next().unwrap_or_default().to_owned());
    }

    /// How many times as fast as `baseline` in the same run.
    fn ratio(&self, row: &backlog::Row, baseline: Kind) -> Option<f64> {
        let other = self.backlog.iter().find(|other| other.kind == baseline)?;
        Some(row.rate / other.rate)
    }

    /// The tables of plugins, with the machine.
    pub(crate) fn plugins(&self, rows: &crate::plugins::Rows) -> anyhow::Result<String> {
        let failures: String = self
            .failures
            .iter()
            .map(|failure| format!("Not measured: {failure}\n\n"))
            .collect();
        Ok(format!(
            "Machine: {}\n\n{}{failures}",
            self.machine,
            rows.table()?
        ))
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("Command: `{}`  \nMachine: {}\n\n", self.command, self.machine);
        let _ = self.write_backlog(&mut text);
        let _ = self.write_latency(&mut text);
        let _ = self.write_starts(&mut text);
        for failure in &self.failures {
            let _ = writeln!(text, "Not measured: {failure}\n");
        }
        text
    }

    fn write_backlog(&self, text: &mut String) -> std::fmt::Result {
        if self.backlog.is_empty() {
            return Ok(());
        }
        text.push_str(
            "| backlog | records/s | MB/s | of (a) | of (b) | CPU s per million | RSS peak MiB | start to first record | \
             kill -9 to new commits | others |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for row in &self.backlog {
            let ratio = |baseline| {
                self.ratio(row, baseline)
                    .map_or_else(String::new, |ratio| format!("{ratio:.2}"))
            };
            let restarts: Vec<String> = row
                .restarts
                .iter()
                .map(|(name, took)| format!("{name} {:.2} s", took.as_secs_f64()))
                .collect();
            writeln!(
                text,
                "| {} | {:.0} | {:.1} | {} | {} | {:.2} | {} | {:.2} s | {} | {:.2} |",
                row.kind.title(),
                row.rate,
                row.rate * RECORD_BYTES / 1e6,
                ratio(Kind::Plain),
                ratio(Kind::Mm2),
                row.cpu,
                whole(&row.peaks),
                row.first.as_secs_f64(),
                restarts.join(", "),
                row.others,
            )?;
        }
        text.push('\n');
        Ok(())
    }

    fn write_latency(&self, text: &mut String) -> std::fmt::Result {
        if self.latency.is_empty() {
            return Ok(());
        }
        text.push_str(
            "| 10,000 records/s | p95 of each run, ms | median p50 | median p95 | median p99 | worst | cores | RSS peak MiB | \
             others |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for row in &self.latency {
            let each: Vec<String> = row.runs.iter().map(|run| format!("{:.1}", run.p95)).collect();
            writeln!(
                text,
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {:.2} | {} | {:.2} |",
                row.title,
                each.join(" "),
                median(row.runs.iter().map(|run| run.p50)),
                median(row.runs.iter().map(|run| run.p95)),
                median(row.runs.iter().map(|run| run.p99)),
                row.runs.iter().map(|run| run.max).fold(0.0, f64::max),
                row.cores,
                whole(&row.peaks),
                row.others,
            )?;
        }
        text.push('\n');
        Ok(())
    }

    fn write_starts(&self, text: &mut String) -> std::fmt::Result {
        if self.starts.is_empty() {
            return Ok(());
        }
        text.push_str(
            "| first start to first record, s | each | median | worst |\n| --- | --- | --- | --- |\n",
        );
        for row in &self.starts {
            let seconds = || row.took.iter().map(Duration::as_secs_f64);
            let each: Vec<String> = seconds().map(|took| format!("{took:.2}")).collect();
            writeln!(
                text,
                "| {} | {} | {:.2} | {:.2} |",
                row.title,
                each.join(" "),
                median(seconds()),
                seconds().fold(0.0, f64::max),
            )?;
        }
        text.push('\n');
        Ok(())
    }

    fn numbers(&self) -> Value {
        let backlog = self.backlog.iter().map(|row| {
            json!({
                "mirror": row.kind.title(),
                "records_per_second": row.rate,
                "ratio_to_librdkafka": self.ratio(row, Kind::Plain),
                "ratio_to_mirrormaker": self.ratio(row, Kind::Mm2),
                "cpu_seconds_per_million": row.cpu,
                "rss_peak_mib": row.peaks,
                "first_record_seconds": row.first.as_secs_f64(),
                "restart_seconds": row.restarts.iter().map(|(name, took)| json!({"killed": name, "seconds": took.as_secs_f64()})).collect::<Vec<_>>(),
                "others_share": row.others,
            })
        });
        let latency = self.latency.iter().map(|row| {
            json!({
                "mirror": row.title,
                "records_per_second": 10_000,
                "runs_ms": row.runs.iter().map(|run| json!({"p50": run.p50, "p95": run.p95, "p99": run.p99, "max": run.max})).collect::<Vec<_>>(),
                "median_p95_ms": median(row.runs.iter().map(|run| run.p95)),
                "cores": row.cores,
                "rss_peak_mib": row.peaks,
                "others_share": row.others,
            })
        });
        let starts = self.starts.iter().map(|row| {
            json!({
                "mirror": row.title,
                "seconds": row.took.iter().map(Duration::as_secs_f64).collect::<Vec<_>>(),
            })
        });
        json!({
            "command": self.command,
            "machine": self.machine,
            "quick": self.quick,
            "backlog": backlog.collect::<Vec<_>>(),
            "latency": latency.collect::<Vec<_>>(),
            "starts": starts.collect::<Vec<_>>(),
            "not_measured": self.failures,
        })
    }

    /// Writes both files. A quick run is no figure to publish: without `--out` it goes to `target/bench`.
    pub(crate) fn write(&self, folder: Option<&Path>) -> anyhow::Result<()> {
        let default = if self.quick { "target/bench" } else { "docs" };
        let folder = folder.map_or_else(|| workspace().join(default), Path::to_owned);
        fs::create_dir_all(&folder)?;
        let page = folder.join("benchmarks.md");
        let around = fs::read_to_string(&page).unwrap_or_default();
        let table = format!("{BEGIN}\n{}\n{END}", self.table().trim_end());
        let text = match (around.split_once(BEGIN), around.split_once(END)) {
            (Some((before, _)), Some((_, after))) => format!("{before}{table}{after}"),
            _ => format!("{table}\n"),
        };
        fs::write(&page, text).with_context(|| format!("write {}", page.display()))?;
        let numbers = serde_json::to_string_pretty(&self.numbers())? + "\n";
        fs::write(folder.join("benchmarks.json"), numbers).context("write benchmarks.json")?;
        eprintln!("written: {} and benchmarks.json", page.display());
        Ok(())
    }
}

fn whole(peaks: &[f64]) -> String {
    let peaks: Vec<String> = peaks.iter().map(|peak| format!("{peak:.0}")).collect();
    peaks.join(" + ")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
