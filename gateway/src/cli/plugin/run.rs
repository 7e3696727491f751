//! `culvert plugin run`: what a plugin makes of a sample of messages.

use super::target::Target;
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::{Exit, Format, Session, exit};
use crate::plugin::testing::{Answered, Fate, Sample, run as run_sample, settings_of};
use crate::plugin::{Line, LogSink};
use anyhow::Context;
use serde_json::json;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest sample. By eye.
const SAMPLE_BYTES_MAX: u64 = 1 << 30;

/// What is shown to the plugin.
#[derive(Debug, clap::Args)]
#[command(
    about = "Show a plugin a sample of messages, and what becomes of each",
    after_help = "\
A sample holds one message a line: as cases write it ({\"key\": …, \"value\": …}), or else the line is
the value. It is shown in batches as a gateway makes them. The plugin's log goes to standard error.
With --output json each outcome is one line, message and outcome as cases write them.

Examples:
  culvert plugin run order-check --sample orders.jsonl
  culvert generate --to - --count 5 | culvert plugin run order-check --sample -
  culvert plugin run mine.wasm --sample orders.jsonl --set mode=mark --output json

The exit code is 0 when each message got an outcome, 1 when the plugin trapped or a batch failed,
2 when a setting is wrong, 3 when the plugin or the sample is not there."
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    target: Target,
    /// Messages, one a line; `-` for standard input
    #[arg(long, value_name = "FILE")]
    sample: PathBuf,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let sample = Sample::read(&read(&args.sample)?);
    let subject = Target::subject(&args.target.transform(session)?)?;
    let settings = settings_of(&subject, &args.target.given()).map_err(exit::Invalid)?;
    let terminal = session.terminal;
    let log = Arc::new(Notes(terminal));
    let usage = run_sample(&subject, &settings, &sample, log, |answered| {
        terminal.answer(line(&answered, &terminal)).map_err(Ended::from)
    })?;
    let faults = usage.traps + usage.timeouts + usage.memory_faults;
    Ok(if faults == 0 { Exit::Ok } else { Exit::Failed })
}

fn read(sample: &Path) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("read {}", sample.display());
    let mut bytes = Vec::new();
    let mut source: Box<dyn Read> = match sample.to_str() {
        Some("-") => Box::new(std::io::stdin().lock()),
        _ => Box::new(std::fs::File::open(sample).with_context(reading)?),
    };
    source
        .by_ref()
        .take(SAMPLE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    anyhow::ensure!(
        bytes.len() as u64 <= SAMPLE_BYTES_MAX,
        "{} is larger than {SAMPLE_BYTES_MAX} bytes\n\nGive a part of it.",
        sample.display()
    );
    Ok(bytes)
}

/// A sample that did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Plugin(String),
    #[error(transparent)]
    Output(#[from] std::io::Error),
}

impl From<String> for Ended {
    fn from(why: String) -> Ended {
        Ended::Plugin(why)
    }
}

fn line(answered: &Answered, terminal: &Terminal) -> String {
    let Answered {
        number,
        message,
        fate,
    } = answered;
    match terminal.format() {
        Format::Json => {
            let is_json = message
                .value
                .as_ref()
                .is_some_and(|value| value.starts_with(b"{"));
            json!({ "message": number, "given": message.to_json(), "outcome": fate.to_json(message, is_json) }).to_string()
        }
        Format::Text => {
            let tone = match fate {
                Fate::Keep => Tone::Dim,
                Fate::Gives(_) => Tone::Good,
                Fate::Drop => Tone::Warning,
                Fate::Reject(_) => Tone::Bad,
            };
            format!(
                "{number:>4}  {}\n      {}",
                message.shown(),
                terminal.paint(&fate.shown(message), tone)
            )
        }
    }
}

/// The plugin's log, on standard error.
pub(super) struct Notes(pub(super) Terminal);

impl LogSink for Notes {
    fn line(&self, line: &Line<'_>) {
        let about = line
            .sequence
            .map_or(String::new(), |sequence| format!(" message {}", sequence + 1));
        self.0
            .note(format_args!("log {:?}{about}: {}", line.level, line.text));
    }
}
