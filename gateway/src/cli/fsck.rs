//! `culvert fsck`: what an outbox holds, what is damaged, and what can be done about it.

use super::table::Table;
use super::terminal::Tone;
use super::words::{bytes, count, thousands};
use super::{Exit, Format, Session, exit};
use crate::flow::mend::{self, LaneReport, Missing, Remedy, Repaired, Report};
use crate::outbox::{self, Outbox, Salvage};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Which outbox, and what is done.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads an outbox that no gateway has open: all of it, and without the store's own engine. For each
lane it says what is whole, what is missing, and whether that can be had again.

--repair makes a sound store of what is whole. What was damaged goes to quarantine/ in the outbox's
directory, and nothing is deleted. What a source or a peer still has is read again from there; a
stream whose records are nowhere else stands still until a copy is put back, or until
--accept-loss names it.

Examples:
  culvert fsck
  culvert fsck /var/lib/culvert/edge/outbox --output json
  culvert fsck --repair
  culvert fsck --accept-loss edge/orders/0

The exit code is 0 when the outbox is sound, or was repaired; 1 when it is damaged.")]
pub(super) struct Args {
    /// The outbox's directory, or the gateway's state directory [default: that of the configuration]
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Make a sound store of what is whole, and move what is damaged aside
    #[arg(long)]
    repair: bool,
    /// Let a stream that stands still go on without its missing records: site/topic/partition, or all
    #[arg(long, value_name = "STREAM", conflicts_with = "repair")]
    accept_loss: Option<String>,
}

/// The report, with what was done.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    repaired: Option<&'a Repaired>,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let directory = directory(args, session)?;
    if let Some(stream) = &args.accept_loss {
        return accept(&directory, stream, session);
    }
    let time = mend::time();
    if args.repair
        && let Some(quarantine) = outbox::resume(&directory, &time)?
    {
        let quarantine = quarantine.display();
        session
            .terminal
            .note(format_args!("finished a repair that was cut short: {quarantine}"));
    }
    let salvage = read(&directory, session)?;
    let report = mend::report(&salvage);
    let is_sound = report.sound;
    let repaired = (args.repair && !is_sound)
        .then(|| mend::repair(salvage, &time))
        .transpose()?;
    match session.terminal.format() {
        Format::Json => session.terminal.json(&Answer {
            report: &report,
            repaired: repaired.as_ref(),
        })?,
        Format::Text => {
            let paint = |text: &str, tone| session.terminal.paint(text, tone);
            session
                .terminal
                .answer(text(&report, repaired.as_ref(), &paint))?;
        }
    }
    Ok(if is_sound || repaired.is_some() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// The outbox that is meant.
fn directory(args: &Args, session: &Session) -> anyhow::Result<PathBuf> {
    let state = match &args.directory {
        Some(directory) => directory.clone(),
        None => session.config()?.state,
    };
    let below = state.join("outbox");
    let directory = if below.is_dir() { below } else { state };
    if !directory.is_dir() {
        let text = format!("{}: there is no such directory", directory.display());
        return Err(anyhow::Error::new(exit::Absent(text.into())));
    }
    Ok(directory)
}

fn read(directory: &Path, session: &Session) -> anyhow::Result<Salvage> {
    let bar = if session.terminal.is_moving() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style = ProgressStyle::with_template("{wide_bar} {binary_bytes} of {binary_total_bytes}");
    bar.set_style(style.expect("the template is a constant"));
    let salvage = Salvage::open(directory, &mut |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    });
    bar.finish_and_clear();
    Ok(salvage?)
}

fn accept(directory: &Path, stream: &str, session: &Session) -> anyhow::Result<Exit> {
    // A store that is not sound must be repaired first: this says so.
    let salvage = read(directory, session)?;
    let engine = salvage.engine;
    anyhow::ensure!(
        salvage.is_sound(),
        "outbox {} is damaged: run culvert fsck --repair first",
        directory.display()
    );
    drop(salvage);
    let outbox = Outbox::open(&outbox::Options {
        engine,
        quota_bytes: u64::MAX >> 1,
        reserve_bytes: 0,
        ..outbox::Options::new(directory)
    })?;
    let accepted = mend::accept_loss(&outbox, stream);
    outbox.close_blocking().context("close the outbox")?;
    let accepted = accepted?;
    match session.terminal.format() {
        Format::Json => session.terminal.json(&accepted)?,
        Format::Text if accepted.is_empty() => session.terminal.answer("sources of plugins go on")?,
        Format::Text => {
            for accepted in &accepted {
                let stream = &accepted.stream;
                session
                    .terminal
                    .answer(format_args!("{stream} goes on without {accepted}"))?;
            }
        }
    }
    Ok(Exit::Ok)
}

// ----- how it reads ----------------------------------------------------------------------------------------------

type Paint<'a> = &'a dyn Fn(&str, Tone) -> String;

fn text(report: &Report, repaired: Option<&Repaired>, paint: Paint<'_>) -> String {
    let mut table = Table::new(
        &[
            "HOLDS", "STREAM", "ROUTE", "HELD", "FRAMES", "BYTES", "MISSING", "CAN BE",
        ],
        &[4, 5],
    );
    for lane in &report.lanes {
        table.row([
            lane.holds.to_owned(),
            lane.stream.clone(),
            lane.route.clone().unwrap_or_default(),
            format!("[{}, {})", lane.from, lane.to),
            lane.frames.to_string(),
            bytes(lane.bytes),
            spelled(&lane.missing),
            remedy(report, lane).to_owned(),
        ]);
    }
    let mut text = format!("{} ({})\n\n{table}", report.directory.display(), report.engine);
    for place in &report.damage {
        let _ = write!(text, "\ndamaged: {place}");
    }
    if !report.certain {
        text.push_str(
            "\nit cannot be proven that no lane or setting is missing: all that can be had again is, from the sinks' positions on",
        );
    }
    for lane in report.lanes.iter().filter(|lane| lane.halted_at.is_some()) {
        let _ = write!(
            text,
            "\n{} stands still at {}: put back a copy of the outbox, or culvert fsck --accept-loss {}",
            lane.stream,
            lane.halted_at.unwrap_or_default(),
            lane.stream
        );
    }
    let (tone, sentence) = sentence(report, repaired);
    let _ = write!(text, "\n\n{}", paint(&sentence, tone));
    text
}

fn spelled(missing: &[Missing]) -> String {
    const SHOWN_MAX: usize = 4;
    let mut parts: Vec<String> = missing
        .iter()
        .take(SHOWN_MAX)
        .map(|Missing { from, to }| format!("[{from}, {to})"))
        .collect();
    if missing.len() > SHOWN_MAX {
        parts.push(format!("and {} more", missing.len() - SHOWN_MAX));
    }
    parts.join(" ")
}

fn remedy(report: &Report, lane: &LaneReport) -> &'static str {
    if lane.missing.is_empty() && report.certain {
        return "";
    }
    match lane.remedy {
        Remedy::ReadAgain => "read again",
        Remedy::SentAgain => "sent again",
        Remedy::OnlyHere => "only here",
    }
}

fn sentence(report: &Report, repaired: Option<&Repaired>) -> (Tone, String) {
    if let Some(Repaired { quarantine, mended }) = repaired {
        let halted = mended.iter().filter(|lane| lane.halted).count();
        let stand = if halted == 0 {
            String::new()
        } else {
            format!("; {} until somebody decides", stands_still(halted))
        };
        let cut = count(mended.len() - halted, "lane");
        return (
            if halted == 0 { Tone::Good } else { Tone::Warning },
            format!(
                "repaired: {cut} will be filled again{stand}; what was damaged is in {}",
                quarantine.display()
            ),
        );
    }
    let lanes = count(report.lanes.len(), "lane");
    if report.sound {
        return (
            Tone::Good,
            format!("sound: {lanes}, {} commits", thousands(report.commits)),
        );
    }
    let places = count(report.damage.len(), "place");
    (
        Tone::Bad,
        format!("damaged: {places}, {lanes}; culvert fsck --repair makes a sound store of what is whole"),
    )
}

fn stands_still(streams: usize) -> String {
    match streams {
        1 => "1 stream stands still".into(),
        more => format!("{more} streams stand still"),
    }
}
