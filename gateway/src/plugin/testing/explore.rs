//! Any message at all, settings at their edges, and the promises.

use super::case::Case;
use super::generate::{Dice, Mint};
use super::message::{Fate, Placed, SIMPLER, placed};
use super::promises::{self, Breach, Promise, TOPIC};
use super::settings::{self, Setting, Settings};
use super::subject::{Answer, Refusal, Subject, Time};
use super::{codecs, messages_of, settings_of, sinks, sources};
use culvert_host::{Field, Role};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// More different codes than that are no codes: each becomes a metric's label. By eye.
const CODES_MAX: usize = 50;

/// How much is tried.
#[derive(Clone, Debug)]
pub struct Options {
    /// What luck begins with.
    pub seed: u64,
    /// How many batches.
    pub runs: u64,
    /// Settings that are the same in all of them.
    pub set: Settings,
}

/// What was tried, and what came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explored {
    /// Each set of settings.
    pub openings: Vec<Opening>,
    /// Batches that were shown, and their messages, each once.
    pub runs: u64,
    /// See `runs`.
    pub messages: u64,
    /// Batches that the plugin did not answer as it must.
    pub troubles: Vec<Trouble>,
    /// What each promise came to.
    pub promises: Vec<Verdict>,
    /// Worth a look, and no failure.
    pub notes: Vec<String>,
}

/// What came of opening the plugin with some settings.
#[derive(Clone, Debug, Serialize)]
pub struct Opening {
    /// The settings, passwords left out.
    pub settings: String,
    /// The plugin's own words, where it refused them.
    pub refused: Option<String>,
    /// Why that is a failure.
    pub failure: Option<String>,
}

/// A batch that a plugin did not answer as it must.
#[derive(Clone, Debug, Serialize)]
pub struct Trouble {
    /// What happened.
    pub what: String,
    /// The settings, passwords left out.
    pub settings: String,
    /// The smallest batch found.
    pub batch: Vec<Value>,
}

/// What a promise came to.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// Which.
    pub promise: Promise,
    /// Whether the plugin makes it.
    pub declared: bool,
    /// How often it was attacked.
    pub attacks: u64,
    /// Why it cannot be attacked, where that is so.
    pub cannot: Option<String>,
    /// How it was broken, if it was.
    pub breach: Option<Breach>,
}

impl Explored {
    /// Says it once.
    pub(super) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn held(&self) -> bool {
        let is_broken = |verdict: &Verdict| verdict.declared && verdict.breach.is_some();
        self.troubles.is_empty()
            && self.openings.iter().all(|opening| opening.failure.is_none())
            && !self.promises.iter().any(is_broken)
    }
}

/// Tries a plugin; `progress` is called with the runs that were made.
///
/// # Errors
/// Settings that are no keys of the plugin, or are missing.
pub fn explore(
    subject: &Subject,
    cases: &[Case],
    options: &Options,
    progress: &mut dyn FnMut(u64),
) -> Result<Explored, String> {
    match subject.role() {
        Some(Role::Sink) => sinks::explore(subject, cases, options, progress),
        Some(Role::Source) => sources::explore(subject, cases, options, progress),
        Some(Role::Codec) => codecs::explore(subject, cases, options, progress),
        Some(Role::Transform | Role::TransformColumns) | None => transform(subject, cases, options, progress),
    }
}

fn transform(
    subject: &Subject,
    cases: &[Case],
    options: &Options,
    progress: &mut dyn FnMut(u64),
) -> Result<Explored, String> {
    let mut explorer = Explorer {
        subject,
        mint: Mint::new(options.seed, messages_of(cases)),
        codes: BTreeSet::new(),
        explored: Explored {
            promises: of_answers(subject),
            ..Explored::default()
        },
    };
    let opened = explorer.open_all(settings_tried(subject, cases, &options.set, settings::edges)?);
    if !opened.is_empty() {
        for run in 0..options.runs {
            let settings = &opened[usize::try_from(run).unwrap_or(0) % opened.len()];
            explorer.run(run, settings);
            progress(run + 1);
            if explorer.is_too_slow() {
                break;
            }
        }
    }
    Ok(explorer.finished(options.runs))
}

/// Other settings than these, made from them, the plugin's fields and the names of those that stay.
type Others = fn(&[Setting], &[Field], &[String]) -> Vec<Settings>;

/// The settings of cases, and others.
pub(super) fn settings_tried(
    subject: &Subject,
    cases: &[Case],
    set: &[Setting],
    others: Others,
) -> Result<Vec<Settings>, String> {
    let fields = &subject.plugin().description.fields;
    let base = settings_of(subject, set);
    let names: Vec<String> = set.iter().map(|(name, _)| name.clone()).collect();
    let with_set = |case: &Case| {
        let mut settings = case.settings.clone();
        for (name, value) in set {
            settings::set(&mut settings, name, value.clone());
        }
        settings
    };
    let is_complete = |settings: &Settings| settings::missing(settings, fields).is_empty();
    let of_cases: Vec<Settings> = cases
        .iter()
        .filter(|case| !case.is_to_fail())
        .map(with_set)
        .filter(is_complete)
        .collect();
    let base = match (base, of_cases.first()) {
        (Ok(base), _) => base,
        (Err(_), Some(first)) if settings::filled(set, fields).is_ok() => first.clone(),
        (Err(why), _) => return Err(why),
    };
    let mut all = vec![base.clone()];
    for settings in of_cases.into_iter().chain(others(&base, fields, &names)) {
        if !all.contains(&settings) {
            all.push(settings);
        }
    }
    Ok(all)
}

/// Of transforms and codecs: what they are given decides what they answer, and nothing else.
pub(super) fn of_answers(subject: &Subject) -> Vec<Verdict> {
    let whose = |promise| match promise {
        Promise::Deterministic | Promise::Stateless => None,
        Promise::Idempotent | Promise::Transactional => Some("a promise of sinks".to_owned()),
        Promise::Replayable => Some("a promise of sources".to_owned()),
    };
    verdicts(subject, whose)
}

/// One for each promise, before anything was tried; `cannot` says why one is not attacked.
pub(super) fn verdicts(subject: &Subject, cannot: impl Fn(Promise) -> Option<String>) -> Vec<Verdict> {
    let declared = &subject.plugin().description.promises;
    let verdict = |promise: Promise| Verdict {
        promise,
        declared: promise.is_of(declared),
        attacks: 0,
        cannot: cannot(promise),
        breach: None,
    };
    Promise::ALL.into_iter().map(verdict).collect()
}

struct Explorer<'a> {
    subject: &'a Subject,
    mint: Mint,
    codes: BTreeSet<String>,
    explored: Explored,
}

impl Explorer<'_> {
    /// Those that the plugin opens with.
    fn open_all(&mut self, tried: Vec<Settings>) -> Vec<Settings> {
        let fields = &self.subject.plugin().description.fields;
        let mut opened = Vec::new();
        for (number, settings) in tried.into_iter().enumerate() {
            let checked = self.subject.check(&settings);
            let (refused, failure) = match checked.and_then(|()| self.subject.open(&settings, Time::Still)) {
                Ok(_) => (None, None),
                Err(Refusal::Fatal(why)) if why.trim().is_empty() => (
                    Some(why),
                    Some("it is refused without a word; say what is wrong and what would be valid"),
                ),
                // With these, all that follows would be tried.
                Err(Refusal::Fatal(why)) if number == 0 => {
                    (Some(why), Some("give settings that it takes: --set KEY=VALUE"))
                }
                Err(Refusal::Fatal(why)) => (Some(why), None),
                Err(Refusal::Retry(why)) => (
                    Some(why),
                    Some("it asks to be tried again, and nothing will change"),
                ),
                Err(Refusal::Broken(why)) => (
                    Some(why),
                    Some("opening must answer: open, or fatal with a reason"),
                ),
            };
            self.explored.openings.push(Opening {
                settings: settings::shown(&settings, fields),
                refused: refused.clone(),
                failure: failure.map(str::to_owned),
            });
            if refused.is_none() {
                opened.push(settings);
            }
        }
        opened
    }

    fn run(&mut self, run: u64, settings: &[Setting]) {
        let mut dice = self.mint.dice(run);
        let batch = placed(dice.below(1_000) as u64, self.mint.batch(&mut dice));
        self.explored.runs += 1;
        self.explored.messages += batch.len() as u64;
        match trouble(self.subject, settings, &batch) {
            Ok(fates) => {
                self.note_codes(&fates);
                self.attack(settings, &batch, &mut dice);
            }
            Err(what) => self.note_trouble(what, settings, batch),
        }
    }

    /// Each message that is not answered in time costs all of that time: what else there is, is not worth hours.
    fn is_too_slow(&self) -> bool {
        self.explored
            .troubles
            .iter()
            .any(|trouble| trouble.what.starts_with(TOO_LONG))
    }

    fn note_codes(&mut self, fates: &[Fate]) {
        for fate in fates {
            if let Fate::Reject(rejection) = fate
                && self.codes.len() <= CODES_MAX
            {
                self.codes.insert(rejection.code.clone());
            }
        }
    }

    /// One of a kind is enough.
    fn note_trouble(&mut self, what: Fault, settings: &[Setting], batch: Vec<Placed>) {
        let is_known = self
            .explored
            .troubles
            .iter()
            .any(|trouble| trouble.what.starts_with(what.kind));
        if is_known {
            return;
        }
        let (what, batch) = smallest(self.subject, settings, batch, what);
        self.explored.troubles.push(Trouble {
            what: format!("{}: {}", what.kind, what.text),
            settings: settings::shown(settings, &self.subject.plugin().description.fields),
            batch: batch.iter().map(|placed| placed.message.to_json()).collect(),
        });
    }

    /// Each promise that is not broken yet, whether it is made or not.
    fn attack(&mut self, settings: &[Setting], batch: &[Placed], dice: &mut Dice) {
        for verdict in &mut self.explored.promises {
            if verdict.breach.is_none() && verdict.cannot.is_none() {
                let (subject, mint) = (self.subject, &self.mint);
                let (attacks, breach) =
                    promises::attack(verdict.promise, subject, settings, batch, mint, dice);
                verdict.attacks += attacks;
                verdict.breach = breach;
            }
        }
    }

    fn finished(mut self, runs: u64) -> Explored {
        if self.is_too_slow() {
            let note = format!(
                "{} of {runs} batches were tried: mend first what does not come back",
                self.explored.runs
            );
            self.explored.notes.push(note);
        }
        if self.codes.len() > CODES_MAX {
            let note = format!(
                "there are more than {CODES_MAX} codes of rejections; a code is of few values, and becomes a metric's label"
            );
            self.explored.notes.push(note);
        }
        for verdict in &self.explored.promises {
            if !verdict.declared
                && verdict.attacks > 0
                && verdict.breach.is_none()
                && self.explored.runs == runs
            {
                let note = format!(
                    "it was {} in all {runs} runs, and does not promise it",
                    verdict.promise.word()
                );
                self.explored.notes.push(note);
            }
        }
        self.explored
    }
}

/// What a plugin did in place of an answer.
struct Fault {
    kind: &'static str,
    text: String,
    /// The message that the host found at fault.
    at: Option<usize>,
}

/// The kind of a call that had to be ended.
const TOO_LONG: &str = "it does not come back in time";

/// One outcome for each message, without a trap, a time-out, too much memory, or the end of the task.
fn trouble(subject: &Subject, settings: &[Setting], batch: &[Placed]) -> Result<Vec<Fate>, Fault> {
    let fault = |kind, text| Err(Fault { kind, text, at: None });
    let mut opened = match subject.open(settings, Time::Still) {
        Ok(opened) => opened,
        Err(Refusal::Fatal(why) | Refusal::Retry(why) | Refusal::Broken(why)) => {
            return fault("opened before, it does not open again", why);
        }
    };
    let answer = opened.show(TOPIC, batch);
    let fates = match answer {
        Answer::Fatal(why) => {
            return fault("a message ends the task (fatal) where it should be rejected", why);
        }
        Answer::Retry(why) => return fault("a message is to be tried again for ever (retry)", why),
        Answer::Fates(fates) => fates,
    };
    if opened.faults() == 0 {
        return Ok(fates);
    }
    let usage = opened.usage();
    let kind = match (usage.traps, usage.timeouts) {
        (0, 0) => "it takes too much memory",
        (0, _) => TOO_LONG,
        _ => "it traps, or its answer is not valid",
    };
    let told = fates.iter().enumerate().find_map(|(at, fate)| match fate {
        Fate::Reject(rejection) if rejection.code.starts_with("plugin-") => {
            Some((at, rejection.reason.clone()))
        }
        _ => None,
    });
    Err(match told {
        Some((at, text)) => Fault {
            kind,
            text,
            at: Some(at),
        },
        None => Fault {
            kind,
            text: "the same messages in smaller batches do not".into(),
            at: None,
        },
    })
}

/// Fewer and simpler messages with the same kind of fault.
fn smallest(
    subject: &Subject,
    settings: &[Setting],
    mut batch: Vec<Placed>,
    mut fault: Fault,
) -> (Fault, Vec<Placed>) {
    let kind = fault.kind;
    // A time-out costs its whole time at each try. By eye.
    let tries_max = if kind == TOO_LONG { 10 } else { 200 };
    let mut tries = 0;
    let mut same = |candidate: &[Placed]| {
        tries += 1;
        if tries > tries_max || candidate.is_empty() {
            return None;
        }
        trouble(subject, settings, candidate)
            .err()
            .filter(|fault| fault.kind == kind)
    };
    if let Some(at) = fault.at
        && let Some(alone) = same(&batch[at..=at])
    {
        (fault, batch) = (alone, vec![batch[at].clone()]);
    }
    let mut chunk = batch.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < batch.len() && batch.len() > 1 {
            let outside = |place: &usize| !(at..at + chunk).contains(place);
            let fewer: Vec<Placed> = (0..batch.len())
                .filter(outside)
                .map(|place| batch[place].clone())
                .collect();
            match same(&fewer) {
                Some(smaller) => (fault, batch) = (smaller, fewer),
                None => at += chunk,
            }
        }
        chunk /= 2;
    }
    for at in 0..batch.len() {
        for simplify in SIMPLER {
            loop {
                let mut candidate = batch.clone();
                if !simplify(&mut candidate[at].message) {
                    break;
                }
                match same(&candidate) {
                    Some(smaller) => (fault, batch) = (smaller, candidate),
                    None => break,
                }
            }
        }
    }
    (fault, batch)
}
