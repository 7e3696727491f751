//! `culvert plugin test`: the cases, any message at all, and what the plugin promises.

use super::target::{Cases, Target};
use crate::cli::table::Table;
use crate::cli::terminal::{Terminal, Tone};
use crate::cli::words::{count, thousands};
use crate::cli::{Exit, Format, Session, exit};
use crate::plugin::testing::{
    Breach, Case, CaseReport, Explored, Message, Miss, Opening, Options, Promise, Subject, Trouble, Verdict,
    explore, run_case,
};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// How many messages of a batch are shown to a person; the whole of it stands in JSON.
const SHOWN_MAX: usize = 12;

/// How much is tried.
#[derive(Debug, clap::Args)]
#[command(
    about = "Try a plugin: its cases, any message at all, and what it promises",
    after_help = "\
Cases are JSON files; a plugin's README says what stands in them. Then come messages that nobody
thought of: those of the cases, changed, and strange ones, with settings at the edges of what they
may be. Each message must get one outcome, and no batch may trap, take too long or end the task.
A promise is attacked: `deterministic` at another time and after other messages, `stateless` with
the batch cut in any way. What breaks it is shown with the smallest batch found. The same seed
tries the same messages.

A codec is shown the values of its cases, and JSON that it takes: there and back they must be the
same, and bytes that are cut off, changed or any at all must be refused without a trap.

A sink or a source gets a folder and a server of its own for that, in which files and addresses of
its settings are turned. `transactional` and `idempotent`: it is cut off at each of its calls to the
outside and opened anew, by one writer or two, and what is there at the end must be what is there
without a fault. `replayable`: it is opened from each resume point, cut off, and read at another
time; the same records must come. What promises came to stands in a table at the end.

Examples:
  culvert plugin test
  culvert plugin test order-check --seed 7 --runs 2000
  culvert plugin test order-check.wasm --cases mine --set transform=storage
  culvert plugin test file-sink --set format=json
  culvert plugin test --bless

The exit code is 0 when all of it held, 1 when something did not, 2 when a case or a setting is
wrong, 3 when the plugin is not there."
)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    cases: Cases,
    /// What luck begins with
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many batches of messages are tried
    #[arg(long, value_name = "N", default_value_t = 200)]
    runs: u64,
    /// Write what came into the cases, where they say something else
    #[arg(long)]
    bless: bool,
}

/// All that was tried.
#[derive(Serialize)]
struct Report {
    plugin: String,
    version: String,
    held: bool,
    seed: u64,
    cases: Vec<CaseReport>,
    #[serde(flatten)]
    explored: Explored,
    /// The command that tries the same again.
    again: String,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let component = args.target.component(session)?;
    let subject = Target::subject(&component)?;
    let description = &subject.plugin().description;
    let cases = args.cases.read(&component, description)?;
    let reports = run_cases(&subject, &cases, args.bless, &session.terminal)?;
    let options = Options {
        seed: args.seed,
        runs: args.runs,
        set: args.target.given(),
    };
    let bar = bar(args.runs, &session.terminal);
    let explored = explore(&subject, &cases, &options, &mut |done| bar.set_position(done));
    bar.finish_and_clear();
    let explored = explored.map_err(exit::Invalid)?;
    let report = Report {
        plugin: description.name.clone(),
        version: description.version.clone(),
        held: explored.held() && reports.iter().all(|case| case.misses.is_empty()),
        seed: args.seed,
        cases: reports,
        explored,
        again: again(args),
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&report)?,
        Format::Text => session
            .terminal
            .answer(text(&report, &|text, tone| session.terminal.paint(text, tone)))?,
    }
    Ok(if report.held { Exit::Ok } else { Exit::Failed })
}

fn again(args: &Args) -> String {
    let (plugin, cases) = (args.target.typed(), args.cases.typed());
    format!(
        "culvert plugin test {plugin}{cases} --seed {} --runs {}",
        args.seed, args.runs
    )
}

fn run_cases(
    subject: &Subject,
    cases: &[Case],
    bless: bool,
    terminal: &Terminal,
) -> anyhow::Result<Vec<CaseReport>> {
    let mut reports = Vec::new();
    for case in cases {
        let (mut report, blessed) = run_case(subject, case, bless);
        if let Some(text) = blessed {
            write(&case.file, &text)?;
            terminal.note(format_args!(
                "{}: {} written",
                case.file.display(),
                count(report.misses.len(), "outcome")
            ));
            report.misses.clear();
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Under another name until it is whole: an author's own work is not lost half-way.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = file.with_extension("json.fresh");
    std::fs::write(&fresh, text).with_context(|| format!("write {}", fresh.display()))?;
    std::fs::rename(&fresh, file).with_context(|| format!("rename {}", fresh.display()))
}

fn bar(runs: u64, terminal: &Terminal) -> ProgressBar {
    if !terminal.is_moving() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} batches, {elapsed}");
    ProgressBar::new(runs).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

// ----- for people ------------------------------------------------------------------------------------------------------

type Paint<'a> = &'a dyn Fn(&str, Tone) -> String;

fn text(report: &Report, paint: Paint<'_>) -> String {
    let mut text = String::new();
    for case in report.cases.iter().filter(|case| !case.misses.is_empty()) {
        text += &missed(case, paint);
    }
    let explored = &report.explored;
    for opening in explored
        .openings
        .iter()
        .filter(|opening| opening.failure.is_some())
    {
        text += &not_opened(opening, paint);
    }
    for trouble in &explored.troubles {
        text += &troubled(trouble, paint);
    }
    for verdict in &explored.promises {
        if let Some(breach) = verdict.breach.as_ref().filter(|_| verdict.declared) {
            text += &broken(verdict, breach, paint);
        }
    }
    let _ = write!(text, "{} {}", paint(&report.plugin, Tone::Strong), report.version);
    for (label, value) in [
        ("cases", cases_line(&report.cases)),
        ("settings", settings_line(&explored.openings)),
        ("messages", messages_line(explored)),
    ] {
        let _ = write!(text, "\n  {label:<8}  {value}");
    }
    for note in &explored.notes {
        let _ = write!(text, "\n  {:<8}  {note}", "note");
    }
    let _ = write!(
        text,
        "\n\n{}\n",
        promises(&explored.promises).to_string().trim_end()
    );
    let verdict = match report.held {
        true => paint("all of it held", Tone::Good),
        false => format!(
            "{}\n\nThe same again: {}",
            paint("not all of it held", Tone::Bad),
            report.again
        ),
    };
    text + "\n" + &verdict
}

fn missed(case: &CaseReport, paint: Paint<'_>) -> String {
    let about = if case.about.is_empty() {
        String::new()
    } else {
        format!(": {}", case.about)
    };
    let mut text = format!("{} {}{about}\n", paint("case", Tone::Bad), case.file.display());
    for Miss {
        message,
        shown,
        expected,
        got,
        differences,
    } in &case.misses
    {
        if let Some(number) = message {
            let _ = writeln!(text, "  message {number}  {shown}");
        }
        let _ = writeln!(text, "    expected  {expected}\n    got       {got}");
        for difference in differences
            .iter()
            .filter(|difference| *difference != "another outcome")
        {
            let _ = writeln!(text, "    {difference}");
        }
    }
    text + "\n"
}

fn not_opened(opening: &Opening, paint: Paint<'_>) -> String {
    let (refused, failure) = (opening.refused.as_deref(), opening.failure.as_deref());
    let refused = refused
        .filter(|text| !text.trim().is_empty())
        .unwrap_or("(no reason)");
    format!(
        "{} with {}\n    {refused}\n    {}\n\n",
        paint("not opened", Tone::Bad),
        opening.settings,
        failure.unwrap_or_default()
    )
}

fn troubled(trouble: &Trouble, paint: Paint<'_>) -> String {
    let mut text = format!("{} {}\n", paint("message", Tone::Bad), trouble.what);
    let _ = writeln!(text, "  with {}, smallest batch found:", trouble.settings);
    text += &numbered(&trouble.batch, 1);
    text + "\n"
}

fn broken(verdict: &Verdict, breach: &Breach, paint: Paint<'_>) -> String {
    let word = verdict.promise.word();
    let mut text = format!("{} {word}: {}\n", paint("promise broken", Tone::Bad), breach.how);
    let _ = writeln!(text, "  with {}", breach.settings);
    for step in &breach.steps {
        let _ = writeln!(text, "  {step}");
    }
    for batch in &breach.before {
        let _ = writeln!(text, "  shown before:");
        text += &numbered(batch, 1);
    }
    let mut number = 1;
    for (part, messages) in (1..).zip(&breach.parts) {
        let _ = match breach.parts.len() {
            1 => writeln!(text, "  smallest batch found:"),
            _ => writeln!(text, "  part {part} of the smallest batch found:"),
        };
        text += &numbered(messages, number);
        number += messages.len();
    }
    let Breach { expected, got, .. } = breach;
    let _ = match breach.message {
        Some(message) => writeln!(
            text,
            "  message {message}\n    fresh, whole  {expected}\n    this way      {got}\n"
        ),
        None => writeln!(text, "    expected  {expected}\n    got       {got}\n"),
    };
    text
}

fn numbered(messages: &[Value], first: usize) -> String {
    let shown = |message: &Value| match Message::of_json(message) {
        Some(message) => message.shown(),
        None => message.to_string(),
    };
    let mut text = String::new();
    for (number, message) in (first..).zip(messages.iter().take(SHOWN_MAX)) {
        let _ = writeln!(text, "    {number:>3}  {}", shown(message));
    }
    if messages.len() > SHOWN_MAX {
        let _ = writeln!(
            text,
            "         and {} more: --output json",
            messages.len() - SHOWN_MAX
        );
    }
    text
}

fn cases_line(cases: &[CaseReport]) -> String {
    let held = cases.iter().filter(|case| case.misses.is_empty()).count();
    match cases.len() {
        0 => "none there".into(),
        all => format!("{held} of {all} hold"),
    }
}

fn settings_line(openings: &[Opening]) -> String {
    let of = |is: fn(&Opening) -> bool| openings.iter().filter(|opening| is(opening)).count();
    let opened = of(|opening| opening.refused.is_none());
    let refused = of(|opening| opening.refused.is_some() && opening.failure.is_none());
    let failed = of(|opening| opening.failure.is_some());
    let mut text = format!("{opened} opened");
    for (count, what) in [(refused, "refused with a reason"), (failed, "failed")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

fn messages_line(explored: &Explored) -> String {
    let is_attacked = |verdict: &Verdict| verdict.cannot.is_none();
    let of_batches =
        |verdict: &&Verdict| matches!(verdict.promise, Promise::Deterministic | Promise::Stateless);
    if !explored.promises.iter().filter(of_batches).any(is_attacked) {
        return format!(
            "{} in {} attacks",
            thousands(explored.messages),
            thousands(explored.runs)
        );
    }
    let tried = format!(
        "{} in {} batches",
        thousands(explored.messages),
        thousands(explored.runs)
    );
    match explored.troubles.len() {
        0 if explored.runs == 0 => "none tried".into(),
        0 => format!("{tried}, one outcome for each"),
        kinds => format!("{tried}, {} of trouble", count(kinds, "kind")),
    }
}

/// What each promise came to. Promises that are neither made nor attacked are left out, unless all are.
fn promises(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new(&["PROMISE", "CLAIMED", "ATTACKS", "RESULT"], &[2]);
    let mut rows = 0;
    for verdict in verdicts
        .iter()
        .filter(|verdict| verdict.declared || verdict.attacks > 0)
    {
        let result = match (&verdict.breach, &verdict.cannot) {
            (Some(_), _) => "broken".to_owned(),
            (None, Some(why)) => format!("cannot be attacked: {why}"),
            (None, None) if verdict.attacks == 0 => "not attacked".to_owned(),
            (None, None) => "held".to_owned(),
        };
        let claimed = if verdict.declared { "yes" } else { "no" };
        table.row([
            verdict.promise.word().to_owned(),
            claimed.to_owned(),
            thousands(verdict.attacks),
            result,
        ]);
        rows += 1;
    }
    if rows == 0 {
        table.row(["none", "", "", ""].map(str::to_owned));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Report {
        let verdict = |promise, attacks, breach| Verdict {
            promise,
            declared: true,
            attacks,
            cannot: None,
            breach,
        };
        let opening = |settings: &str, refused: Option<&str>, failure: Option<&str>| Opening {
            settings: settings.into(),
            refused: refused.map(str::to_owned),
            failure: failure.map(str::to_owned),
        };
        Report {
            plugin: "order-check".into(),
            version: "0.1.0".into(),
            held: false,
            seed: 1,
            cases: vec![CaseReport {
                file: "cases/mark.json".into(),
                about: "A negative amount is refused.".into(),
                messages: 2,
                misses: vec![Miss {
                    message: Some(2),
                    shown: r#"{"amount":-1}"#.into(),
                    expected: "reject negative-amount at /amount".into(),
                    got: "reject negative-amount: -1 is below 0".into(),
                    differences: vec!["field: expected \"/amount\", got none".into()],
                }],
            }],
            explored: Explored {
                openings: vec![
                    opening("mode=mark", None, None),
                    opening("mode=x", Some("no such mode"), None),
                    opening("mode=", Some(""), Some("it is refused without a word")),
                ],
                runs: 200,
                messages: 12_345,
                troubles: vec![Trouble {
                    what: "it traps, or its answer is not valid: no value".into(),
                    settings: "mode=mark".into(),
                    batch: vec![json!({ "value": null })],
                }],
                promises: vec![
                    verdict(Promise::Deterministic, 600, None),
                    verdict(
                        Promise::Stateless,
                        1_200,
                        Some(Breach {
                            how: "cut in 2 parts, each for a fresh instance, the answer is another".into(),
                            settings: "mode=mark".into(),
                            steps: Vec::new(),
                            before: Vec::new(),
                            parts: vec![
                                vec![json!({ "key": "7", "value": "a" })],
                                vec![json!({ "value": "b" })],
                            ],
                            message: Some(2),
                            expected: "drop".into(),
                            got: "keep".into(),
                        }),
                    ),
                ],
                notes: vec!["there are more than 50 codes of rejections".into()],
            },
            again: "culvert plugin test order-check --seed 1 --runs 200".into(),
        }
    }

    #[test]
    fn a_report_reads_well() {
        let expected = r#"case cases/mark.json: A negative amount is refused.
  message 2  {"amount":-1}
    expected  reject negative-amount at /amount
    got       reject negative-amount: -1 is below 0
    field: expected "/amount", got none

not opened with mode=
    (no reason)
    it is refused without a word

message it traps, or its answer is not valid: no value
  with mode=mark, smallest batch found:
      1  none

promise broken stateless: cut in 2 parts, each for a fresh instance, the answer is another
  with mode=mark
  part 1 of the smallest batch found:
      1  a, key 7
  part 2 of the smallest batch found:
      2  b
  message 2
    fresh, whole  drop
    this way      keep

order-check 0.1.0
  cases     0 of 1 hold
  settings  1 opened, 1 refused with a reason, 1 failed
  messages  12,345 in 200 batches, 1 kind of trouble
  note      there are more than 50 codes of rejections

PROMISE        CLAIMED  ATTACKS  RESULT
deterministic  yes          600  held
stateless      yes        1,200  broken

not all of it held

The same again: culvert plugin test order-check --seed 1 --runs 200"#;
        let shown = text(&report(), &|text, _| text.to_owned());
        assert_eq!(shown, expected, "\n{shown}\n");
    }

    #[test]
    fn a_plugin_without_fault_has_a_short_report() {
        let mut report = report();
        report.held = true;
        report.cases.clear();
        report.explored.openings.truncate(1);
        report.explored.troubles.clear();
        report.explored.notes.clear();
        for verdict in &mut report.explored.promises {
            (verdict.declared, verdict.attacks, verdict.breach) = (false, 0, None);
        }
        let expected = "order-check 0.1.0\n  cases     none there\n  settings  1 opened\n  \
                        messages  12,345 in 200 batches, one outcome for each\n\n\
                        PROMISE  CLAIMED  ATTACKS  RESULT\nnone\n\nall of it held";
        assert_eq!(text(&report, &|text, _| text.to_owned()), expected);
    }
}
