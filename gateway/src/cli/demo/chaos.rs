//! `culvert chaos`: the stage of the demo, broken by a schedule that a seed chooses, and a proof.

mod course;
mod schedule;

use super::ends::Ends;
use super::outcome::Judgement;
use super::{Ground, Place, Plan, kafka, set};
use crate::cli::table::Table;
use crate::cli::terminal::Tone;
use crate::cli::words::thousands;
use crate::cli::{Exit, Format, Session, prove};
use crate::observe::report::Verdict;
use course::{Course, Done};
use schedule::{Fault, Kind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What is broken, and for how long.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Three gateways run on this host, as in `culvert demo`. Meanwhile links are cut, slowed and made
lossy, and gateways killed, frozen and restarted, as a seed says. Then all must have arrived
once. Nothing is touched that this command did not start.

Examples:
  culvert chaos
  culvert chaos --seed 7 --minutes 10 --rate 10000
  culvert chaos --seed 7 --dry             the schedule alone
  culvert chaos --only kill,freeze
  culvert chaos --bootstrap-source kafka-a:9092 --bootstrap-target kafka-b:9092

The exit code is 0 only when every record is proven to have arrived exactly once.")]
pub(in crate::cli) struct Args {
    /// The seed of the schedule, and of which datagrams are lost
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long something is broken
    #[arg(long, value_name = "MINUTES", default_value_t = 1.0, value_parser = minutes)]
    minutes: f64,
    /// Records a second
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Only these kinds, separated by commas
    #[arg(long, value_name = "KINDS", value_enum, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Print the schedule, and break nothing
    #[arg(long)]
    dry: bool,
    #[command(flatten)]
    ground: Ground,
    #[command(flatten)]
    clusters: kafka::Args,
}

/// A day.
const MINUTES_MAX: f64 = 1_440.0;

/// Records flow for so much longer than something is broken.
const CALM_SECONDS: f64 = 5.0;

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok();
    minutes
        .filter(|minutes| (0.0..=MINUTES_MAX).contains(minutes))
        .ok_or_else(|| format!("not a number of minutes up to {MINUTES_MAX}"))
}

pub(in crate::cli) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let schedule = schedule::draw(
        args.seed,
        Duration::from_secs_f64(args.minutes * 60.0),
        &args.only,
    );
    if args.dry {
        show_schedule(&schedule, args.seed, session)?;
        return Ok(Exit::Ok);
    }
    let ends = Ends::open(&args.clusters)?;
    let rate = args.rate as f64;
    let plan = Plan {
        records: ends
            .lines()
            .unwrap_or(((args.minutes * 60.0 + CALM_SECONDS) * rate).ceil() as u64),
        rate,
        seed: args.seed,
        engine: args.ground.engine,
    };
    Place::open(args.ground.directory.as_deref())?.within(args.ground.keep, session, |directory| {
        let report = play(&plan, &ends, schedule, directory, session)?;
        show(&report, session)?;
        Ok(report.proven)
    })
}

fn play(
    plan: &Plan,
    ends: &Ends,
    schedule: Vec<Fault>,
    directory: &Path,
    session: &Session,
) -> anyhow::Result<Report> {
    let (stage, _runtime) = set(plan, ends, directory, session)?;
    let mut course = Course::new(stage, schedule);
    let ran = course.run();
    let Course { stage, done, .. } = course;
    stage.view.close();
    let judgement = ran?;
    let seconds = stage.view.elapsed().as_secs_f64();
    stage.network.leave(plan)?;
    Ok(Report {
        proven: judgement.is_proven(ends.records(plan)),
        verdict: judgement.verdict(),
        records: judgement.records(),
        seed: plan.seed,
        seconds,
        faults: done.iter().map(Broken::from).collect(),
        judgement,
        expected: ends.records(plan),
    })
}

/// What came of it. A field may be added; none changes its meaning.
#[derive(Serialize)]
struct Report {
    proven: bool,
    verdict: Verdict,
    records: u64,
    seed: u64,
    seconds: f64,
    faults: Vec<Broken>,
    #[serde(flatten)]
    judgement: Judgement,
    /// So many there should be at least.
    #[serde(skip)]
    expected: u64,
}

/// A fault that was.
#[derive(Serialize)]
struct Broken {
    at_seconds: f64,
    lasted_seconds: f64,
    kind: Kind,
    place: String,
    /// From its end to the first record at the target that came in after it; not where something else was broken by then.
    flows_after_seconds: Option<f64>,
}

impl From<&Done> for Broken {
    fn from(done: &Done) -> Broken {
        Broken {
            at_seconds: done.fault.at.as_secs_f64(),
            lasted_seconds: done.lasted.as_secs_f64(),
            kind: done.fault.kind,
            place: done.fault.place.to_string(),
            flows_after_seconds: done.flows_after.map(|after| after.as_secs_f64()),
        }
    }
}

fn show_schedule(schedule: &[Fault], seed: u64, session: &Session) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Drawn {
        seed: u64,
        faults: Vec<String>,
    }
    let faults: Vec<String> = schedule.iter().map(ToString::to_string).collect();
    match session.terminal.format() {
        Format::Json => session.terminal.json(&Drawn { seed, faults })?,
        Format::Text => session
            .terminal
            .answer(format!("# seed {seed}\n{}", faults.join("\n")))?,
    }
    Ok(())
}

fn show(report: &Report, session: &Session) -> anyhow::Result<()> {
    let terminal = &session.terminal;
    match terminal.format() {
        Format::Json => terminal.json(report)?,
        Format::Text => {
            let paint = |text: &str, tone: Tone| terminal.paint(text, tone);
            let proof = report.judgement.proof.as_ref();
            let proof = proof.map_or(String::new(), |proof| prove::text(proof, &paint));
            let through = format!(
                "{} faults (seed {})",
                thousands(report.faults.len() as u64),
                report.seed
            );
            let judged = report.judgement.text(report.expected, &proof, &through, &paint);
            terminal.answer(format!("{}\n\n{judged}", table(&report.faults)))?;
        }
    }
    Ok(())
}

/// Each kind, how often, and how soon records flowed again.
fn table(faults: &[Broken]) -> Table {
    let mut kinds: BTreeMap<Kind, (u64, Vec<f64>)> = BTreeMap::new();
    for fault in faults {
        let (times, flows) = kinds.entry(fault.kind).or_default();
        *times += 1;
        flows.extend(fault.flows_after_seconds);
    }
    let mut table = Table::new(
        &["BROKEN", "TIMES", "MEASURED", "RECORDS FLOW AGAIN AFTER"],
        &[1, 2],
    );
    for (kind, (times, mut flows)) in kinds {
        flows.sort_by(f64::total_cmp);
        let again = match (flows.get(flows.len() / 2), flows.last()) {
            (Some(middle), Some(worst)) => format!("{middle:.1} s, at most {worst:.1} s"),
            _ => "something else was broken by then".to_owned(),
        };
        table.row([
            kind.to_string(),
            thousands(times),
            thousands(flows.len() as u64),
            again,
        ]);
    }
    table
}
