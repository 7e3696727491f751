//! `culvert prove`: that nothing was lost, doubled or put out of order.

use super::asking::Asking;
use super::table::Table;
use super::terminal::Tone;
use super::words::count;
use super::{Exit, Format, Session, duration, receipts};
use crate::observe::control::{self, Progress, Prove};
use crate::observe::report::{Difference, Fault, ProofReport, StreamProof, Tally, Verdict};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is to be proven.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks the gateway of the sinks. It has the origin's gateway read the source again, reads the
target itself, and compares count and content: no host needs to reach both ends.

With --receipt, both gateways sign what they have read, for people who were not there; with
--verify, such a file is checked: offline, by anybody, without a configuration.

Examples:
  culvert prove
  culvert prove --wait 30s
  culvert prove --connector orders-in --output json
  culvert prove --receipt november.json
  culvert prove --verify november.json --ca certs/ca.pem --after october.json

The exit code is 0 only when every stream was compared and nothing is missing, doubled, out of
order or different; with --wait, only when nothing is on its way any more either; with --receipt,
only when the file was written; with --verify, only when everything in it holds.")]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Wait so long for everything that was produced to arrive, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// This sink only
    #[arg(long, value_name = "NAME")]
    connector: Option<String>,
    /// This stream only, as SITE/TOPIC/PARTITION
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// Of the stream, from this sequence on
    #[arg(long, value_name = "SEQUENCE", requires = "stream")]
    from: Option<u64>,
    /// Of the stream, up to this sequence and without it
    #[arg(long, value_name = "SEQUENCE", requires = "stream")]
    to: Option<u64>,
    /// Let both gateways sign, and write the receipts to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Check a file of receipts; asks no gateway
    #[arg(long, value_name = "FILE", conflicts_with_all = ["wait", "connector", "stream", "from", "to", "receipt", "socket"])]
    verify: Option<PathBuf>,
    /// With --verify: authorities by which the names of the gateways are proven; may be repeated
    #[arg(long, value_name = "PEM", requires = "verify")]
    ca: Vec<PathBuf>,
    /// With --verify: the file of receipts right before it
    #[arg(long, value_name = "FILE", requires = "verify")]
    after: Option<PathBuf>,
}

/// A proof that waits for a slow source is seen to be alive.
const TICK: Duration = Duration::from_millis(120);

/// The report with what follows from it, for others to read.
#[derive(Serialize)]
struct Judged<'a> {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt_file: Option<&'a Path>,
    #[serde(flatten)]
    report: &'a ProofReport,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    if let Some(file) = &args.verify {
        return receipts::verify(file, &args.ca, args.after.as_deref(), session);
    }
    let socket = args.asking.socket(session)?;
    let place = args.receipt.as_deref().map(receipts::Place::take).transpose()?;
    let wait_ms = args
        .wait
        .map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let bar = if session.terminal.is_moving() {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(TICK);
        bar
    } else {
        ProgressBar::hidden()
    };
    let prove = Prove {
        wait_ms,
        connector: args.connector.clone(),
        stream: args.stream.clone(),
        from: args.from,
        to: args.to,
        receipt: place.is_some(),
    };
    let report = control::prove(&socket, prove, &mut |progress| show(&bar, &progress));
    bar.finish_and_clear();
    let mut report = report?;
    let exit = exit(report.verdict(), args.wait.is_some());
    let Some(place) = place else {
        answer(&report, session)?;
        return Ok(exit);
    };
    let Some(document) = report.receipts.take() else {
        report.no_receipts.get_or_insert_with(|| Fault {
            code: "CULVERT-F066".into(),
            message: "the gateway runs a version that makes no receipts".into(),
        });
        drop(place);
        answer(&report, session)?;
        return Ok(Exit::Failed);
    };
    let file = place.fill(&document)?;
    answer_with(&report, Some(&file), session)?;
    Ok(exit)
}

/// Prints a report.
pub(super) fn answer(report: &ProofReport, session: &Session) -> std::io::Result<()> {
    answer_with(report, None, session)
}

fn answer_with(report: &ProofReport, receipt_file: Option<&Path>, session: &Session) -> std::io::Result<()> {
    match session.terminal.format() {
        Format::Json => session.terminal.json(&Judged {
            verdict: report.verdict(),
            receipt_file,
            report,
        }),
        Format::Text => {
            let mut text = text(report, &|text, tone| session.terminal.paint(text, tone));
            if let Some(file) = receipt_file {
                let _ = write!(text, "\nsigned by both ends: {}", file.display());
            }
            session.terminal.answer(text)
        }
    }
}

fn exit(verdict: Verdict, waited: bool) -> Exit {
    match verdict {
        Verdict::Complete => Exit::Ok,
        Verdict::OnTheWay if !waited => Exit::Ok,
        Verdict::OnTheWay | Verdict::NotProven | Verdict::Broken => Exit::Failed,
    }
}

fn show(bar: &ProgressBar, progress: &Progress) {
    if progress.total > 0 && bar.length() != Some(progress.total) {
        bar.set_length(progress.total);
        let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} records  {msg}");
        bar.set_style(style.expect("the template is a constant"));
    }
    bar.set_position(progress.done);
    bar.set_message(progress.what.clone());
}

type Paint<'a> = &'a dyn Fn(&str, Tone) -> String;

/// How a proof reads.
pub(super) fn text(report: &ProofReport, paint: Paint<'_>) -> String {
    let head = [
        "ROUTE",
        "STREAM",
        "DELIVERED",
        "ORIGIN",
        "SINK",
        "MISSING",
        "DOUBLED",
        "DISORDER",
        "VERDICT",
    ];
    let mut table = Table::new(&head, &[3, 4, 5, 6, 7]);
    let of = |tally: &Option<Tally>| {
        tally
            .as_ref()
            .map_or("?".to_owned(), |tally| tally.count.to_string())
    };
    for stream in &report.streams {
        table.row([
            stream.route.clone(),
            stream.stream.clone(),
            format!("[{}, {})", stream.start, stream.at),
            of(&stream.origin),
            of(&stream.sink),
            stream.missing.to_string(),
            stream.duplicated.to_string(),
            stream
                .out_of_order
                .map_or("by key".into(), |count| count.to_string()),
            word(stream.verdict()).into(),
        ]);
    }
    let mut text = table.to_string();
    report
        .streams
        .iter()
        .flat_map(notes)
        .for_each(|note| text += &format!("\n{note}"));
    if let Some(fault) = &report.no_receipts {
        let _ = write!(text, "\nno receipts: {} [{}]", fault.message, fault.code);
    }
    let (tone, sentence) = sentence(report);
    let _ = write!(text, "\n\n{}", paint(&sentence, tone));
    text
}

/// What the table has no column for.
fn notes(stream: &StreamProof) -> Vec<String> {
    let held = stream.held.iter().filter(|held| held.to > held.from).map(|held| {
        format!(
            "{}: [{}, {}) on the way, held by {}",
            stream.stream, held.from, held.to, held.place
        )
    });
    let fault = stream
        .fault
        .iter()
        .map(|fault| format!("{}: {} [{}]", stream.stream, fault.message, fault.code));
    let differences = stream.differences.iter().map(|difference| {
        let Difference { what, sequence } = difference;
        let words = match what.as_str() {
            "missing" => "is missing",
            "doubled" => "is there more than once",
            "moved" => "stands elsewhere",
            _ => "is followed by one that never was at the origin",
        };
        format!("{}: record {sequence} {words}", stream.stream)
    });
    let content = (stream.verdict() == Verdict::Broken
        && stream.missing + stream.duplicated + stream.out_of_order.unwrap_or(0) == 0)
        .then(|| format!("{}: content or order differs between the two ends", stream.stream));
    let receipt = stream.receipt.iter().map(|receipt| {
        let behind = match &receipt.before {
            Some(before) => format!("follows {before}"),
            None => "begins a new chain".into(),
        };
        format!(
            "{}: receipt {} of [{}, {}), {}, {behind}",
            stream.stream,
            receipt.hash,
            receipt.from,
            receipt.to,
            count(usize::try_from(receipt.count).unwrap_or(usize::MAX), "record")
        )
    });
    held.chain(differences)
        .chain(fault)
        .chain(content)
        .chain(receipt)
        .collect()
}

fn sentence(report: &ProofReport) -> (Tone, String) {
    let records: u64 = report
        .streams
        .iter()
        .filter_map(|stream| Some(stream.sink.as_ref()?.count))
        .sum();
    let counted = format!("{records} records in {}", count(report.streams.len(), "stream"));
    match report.verdict() {
        Verdict::Complete => (
            Tone::Good,
            format!("complete: {counted}, each exactly once, nothing on its way"),
        ),
        Verdict::OnTheWay => (
            Tone::Good,
            format!("on the way: {counted} arrived exactly once, more is coming"),
        ),
        Verdict::NotProven if report.streams.is_empty() => {
            (Tone::Warning, "not proven: there is no stream to compare".into())
        }
        Verdict::NotProven => (
            Tone::Warning,
            "not proven: not every stream could be compared".into(),
        ),
        Verdict::Broken => (
            Tone::Bad,
            format!("broken: of {counted}, something is not as it was produced"),
        ),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Complete => "complete",
        Verdict::OnTheWay => "on the way",
        Verdict::NotProven => "not proven",
        Verdict::Broken => "broken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::report::tests::{proof, report};
    use crate::observe::report::{Held, ReceiptLink};

    fn check(change: impl Fn(&mut StreamProof), expected: &str) {
        let mut stream = proof();
        change(&mut stream);
        let report = report(vec![stream]);
        let shown = text(&report, &|text, _| text.to_owned());
        assert_eq!(shown, expected, "\n{shown}\n");
    }

    #[test]
    fn a_proof_reads_well() {
        check(
            |_| {},
            "\
ROUTE         STREAM          DELIVERED  ORIGIN  SINK  MISSING  DOUBLED  DISORDER  VERDICT
site3/orders  site1/orders/0  [0, 5)          5     5        0        0         0  complete

complete: 5 records in 1 stream, each exactly once, nothing on its way",
        );
        check(
            |p| {
                p.held = vec![Held {
                    place: "origin outbox".into(),
                    from: 5,
                    to: 9,
                }];
            },
            "\
ROUTE         STREAM          DELIVERED  ORIGIN  SINK  MISSING  DOUBLED  DISORDER  VERDICT
site3/orders  site1/orders/0  [0, 5)          5     5        0        0         0  on the way
site1/orders/0: [5, 9) on the way, held by origin outbox

on the way: 5 records in 1 stream arrived exactly once, more is coming",
        );
        check(
            |p| {
                p.origin = None;
                p.fault = Some(Fault {
                    code: "CULVERT-F004".into(),
                    message: "the origin is away".into(),
                });
            },
            "\
ROUTE         STREAM          DELIVERED  ORIGIN  SINK  MISSING  DOUBLED  DISORDER  VERDICT
site3/orders  site1/orders/0  [0, 5)          ?     5        0        0         0  not proven
site1/orders/0: the origin is away [CULVERT-F004]

not proven: not every stream could be compared",
        );
        check(
            |p| {
                p.missing = 2;
                p.differences = [1, 3]
                    .map(|sequence| Difference {
                        what: "missing".into(),
                        sequence,
                    })
                    .into();
            },
            "\
ROUTE         STREAM          DELIVERED  ORIGIN  SINK  MISSING  DOUBLED  DISORDER  VERDICT
site3/orders  site1/orders/0  [0, 5)          5     5        2        0         0  broken
site1/orders/0: record 1 is missing
site1/orders/0: record 3 is missing

broken: of 5 records in 1 stream, something is not as it was produced",
        );
        check(
            |p| {
                p.receipt = Some(ReceiptLink {
                    hash: "c0de".into(),
                    before: None,
                    from: 0,
                    to: 5,
                    count: 5,
                });
            },
            "\
ROUTE         STREAM          DELIVERED  ORIGIN  SINK  MISSING  DOUBLED  DISORDER  VERDICT
site3/orders  site1/orders/0  [0, 5)          5     5        0        0         0  complete
site1/orders/0: receipt c0de of [0, 5), 5 records, begins a new chain

complete: 5 records in 1 stream, each exactly once, nothing on its way",
        );
    }

    #[test]
    fn only_a_whole_proof_ends_well() {
        for (verdict, waited, code) in [
            (Verdict::Complete, true, 0),
            (Verdict::OnTheWay, false, 0),
            (Verdict::OnTheWay, true, 1),
            (Verdict::NotProven, false, 1),
            (Verdict::Broken, false, 1),
        ] {
            assert_eq!(exit(verdict, waited).code(), code, "{verdict:?}");
        }
    }
}
