//! What must hold of every codec, and attacks on what one promises.
//!
//! - JSON that was made of bytes makes bytes again, and these the same JSON.
//! - Bytes that are cut off, changed or any at all, and texts that are no JSON, are refused with a code: without a trap, and
//!   without the end of the task. A part of bytes that the codec takes for whole must be what it would write itself.
//! - A text that is no schema is refused, of a codec whose schemas a registry keeps.
//! - The same bytes are the same JSON (`deterministic`), whatever came before and whatever is beside them (`stateless`).
//!
//! Bytes come from cases, and from JSON that the codec takes for one of its schemas: what it refuses names the field at
//! fault, and another value is tried there ([`samples`]).

mod bench;
mod samples;

use super::case::Case;
use super::explore::{Explored, Opening, Options, Trouble, of_answers, settings_tried};
use super::generate::{Dice, Mint};
use super::message::{Fate, Given, Message, bytes_shown};
use super::promises::{Breach, Promise};
use super::settings::{self, Setting, Settings};
use super::subject::{Refusal, Subject, Time};
use bench::{Bench, Fault, Told};

/// How many payloads of one kind stand in a batch. By eye.
const OF_A_KIND: usize = 6;

/// So many places at which bytes are cut off.
const CUTS_MAX: usize = 48;

/// What is no schema in any language.
const NO_SCHEMAS: [&str; 3] = ["{\"type\": ", "no schema {{", "\u{1}\u{2}"];

/// What became of the values of a case: the JSON of each.
///
/// # Errors
/// The codec's words, where it is not opened or does not take the schema.
pub(super) fn fates(subject: &Subject, case: &Case) -> Result<Vec<Fate>, String> {
    let mut bench = Bench::open(subject, &case.settings, Time::Still).map_err(|why| why.told())?;
    let text = case.schema.clone().unwrap_or_default();
    bench
        .prepare(&text)
        .map_err(|why| format!("the schema is refused: {}: {}", why.code, why.reason))?;
    let mut fates = Vec::with_capacity(case.messages.len());
    for message in &case.messages {
        let Some(value) = &message.value else {
            fates.push(Fate::Keep);
            continue;
        };
        let told = bench
            .json_of(std::slice::from_ref(value))
            .map_err(|fault| fault.text)?;
        fates.extend(told.into_iter().map(|told| match told {
            Ok(json) => Fate::Gives(vec![Given {
                topic: None,
                message: Message {
                    value: Some(json),
                    ..message.clone()
                },
            }]),
            Err(why) => Fate::Reject(why),
        }));
    }
    Ok(fates)
}

/// Tries a codec; `progress` is called with the runs that were made.
///
/// # Errors
/// Settings that are no keys of the plugin, or are missing.
pub(super) fn explore(
    subject: &Subject,
    cases: &[Case],
    options: &Options,
    progress: &mut dyn FnMut(u64),
) -> Result<Explored, String> {
    let mut explorer = Explorer {
        subject,
        mint: Mint::new(options.seed, Vec::new()),
        explored: Explored {
            promises: of_answers(subject),
            ..Explored::default()
        },
    };
    let tried = settings_tried(subject, cases, &options.set, settings::choices)?;
    let schemas = schemas(cases);
    let mut trials = Vec::new();
    for (number, settings) in tried.iter().enumerate() {
        if explorer.opens(number, settings) {
            trials.extend(
                schemas
                    .iter()
                    .filter_map(|schema| explorer.trial(settings, schema)),
            );
        }
    }
    if trials.is_empty() {
        let note = "no schema was found that it takes: give a case with one, or settings (--set KEY=VALUE)";
        explorer.explored.note(note.to_owned());
    }
    for (trial, run) in trials.iter().cycle().zip(0..options.runs) {
        explorer.run(trial, run);
        progress(run + 1);
        if !explorer.explored.troubles.is_empty() {
            break;
        }
    }
    Ok(explorer.explored)
}

/// A schema, and bytes that cases have of it.
struct Known {
    text: String,
    values: Vec<Vec<u8>>,
}

/// The schemas of cases; without any, one without a text.
fn schemas(cases: &[Case]) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    for case in cases.iter().filter(|case| !case.is_to_fail()) {
        let text = case.schema.clone().unwrap_or_default();
        let values = case.messages.iter().filter_map(|message| message.value.clone());
        match known.iter_mut().find(|known| known.text == text) {
            Some(known) => known.values.extend(values),
            None => known.push(Known {
                text,
                values: values.collect(),
            }),
        }
    }
    if known.is_empty() {
        known.push(Known {
            text: String::new(),
            values: Vec::new(),
        });
    }
    known
}

/// Settings and a schema with which the codec opens, and bytes of it.
struct Trial {
    settings: Settings,
    schema: String,
    samples: Vec<Vec<u8>>,
}

struct Explorer<'a> {
    subject: &'a Subject,
    mint: Mint,
    explored: Explored,
}

impl Explorer<'_> {
    /// Whether it opens with these settings.
    fn opens(&mut self, number: usize, settings: &[Setting]) -> bool {
        let checked = self.subject.check(settings);
        let opened = checked.and_then(|()| Bench::open(self.subject, settings, Time::Still).map(drop));
        let (refused, failure) = match opened {
            Ok(()) => (None, None),
            // With the first, all that follows would be tried.
            Err(why) if number == 0 => (
                Some(why.told()),
                Some("give settings that it takes: --set KEY=VALUE"),
            ),
            Err(Refusal::Fatal(why)) => (Some(why), None),
            Err(why) => (
                Some(why.told()),
                Some("opening must answer: open, or fatal with a reason"),
            ),
        };
        let opens = refused.is_none();
        self.explored.openings.push(Opening {
            settings: self.shown(settings),
            refused,
            failure: failure.map(str::to_owned),
        });
        opens
    }

    fn shown(&self, settings: &[Setting]) -> String {
        settings::shown(settings, &self.subject.plugin().description.fields)
    }

    /// What is tried with these settings and this schema, if the codec takes it.
    fn trial(&mut self, settings: &[Setting], known: &Known) -> Option<Trial> {
        let mut trial = Trial {
            settings: settings.to_vec(),
            schema: known.text.clone(),
            samples: known.values.clone(),
        };
        if let Err(fault) = self.no_schemas(&trial) {
            self.trouble(&trial, fault);
            return None;
        }
        let mut bench = Bench::open(self.subject, settings, Time::Still).ok()?;
        bench.prepare(&known.text).ok()?;
        let mut dice = self.mint.dice(u64::MAX);
        match samples::made(&mut bench, known, &mut dice) {
            Ok(made) => trial.samples.extend(made),
            Err(fault) => {
                self.trouble(&trial, fault);
                return None;
            }
        }
        if trial.samples.is_empty() {
            let note = format!("no value was found that it takes with {}", self.shown(settings));
            self.explored.note(note);
            return None;
        }
        Some(trial)
    }

    /// What is no schema is refused.
    fn no_schemas(&self, trial: &Trial) -> Result<(), Fault> {
        let is_registered = self.subject.plugin().description.schemas().is_some();
        for text in NO_SCHEMAS {
            let opened = Bench::open(self.subject, &trial.settings, Time::Still);
            let mut bench =
                opened.map_err(|why| Fault::new("opened before, it does not open again", why.told()))?;
            let prepared = bench.prepare(text);
            bench.check_faults()?;
            if prepared.is_ok() && is_registered {
                let told = format!("{text:?} is prepared");
                return Err(Fault::new("what is no schema is taken for one", told));
            }
        }
        Ok(())
    }

    fn trouble(&mut self, trial: &Trial, fault: Fault) {
        self.explored.troubles.push(Trouble {
            what: format!("{}: {}", fault.kind, fault.text),
            settings: self.told(trial),
            batch: fault
                .payloads
                .into_iter()
                .map(|bytes| Message::of_value(bytes).to_json())
                .collect(),
        });
    }

    fn told(&self, trial: &Trial) -> String {
        match trial.schema.as_str() {
            "" => self.shown(&trial.settings),
            text => format!("{}, schema {text}", self.shown(&trial.settings)),
        }
    }

    /// One batch: bytes that are whole, and others.
    fn run(&mut self, trial: &Trial, run: u64) {
        let mut dice = self.mint.dice(run);
        let batch = batch(trial, &mut dice);
        self.explored.runs += 1;
        self.explored.messages += batch.len() as u64;
        let tried = self.bench(trial, Time::Still).and_then(|mut bench| {
            let told = bench.json_of(&batch)?;
            round(&mut bench, &batch, &told)?;
            if run < 4 {
                parts(&mut bench, &trial.samples[dice.below(trial.samples.len())])?;
            }
            strange(&mut bench, &mut dice)?;
            Ok(told)
        });
        match tried {
            Ok(told) => self.attack(trial, &batch, &told, &mut dice),
            Err(fault) => self.trouble(trial, self.smallest(trial, fault)),
        }
    }

    fn bench(&self, trial: &Trial, time: Time) -> Result<Bench, Fault> {
        let again = |why: Refusal| Fault::new("opened before, it does not open again", why.told());
        let mut bench = Bench::open(self.subject, &trial.settings, time).map_err(again)?;
        bench
            .prepare(&trial.schema)
            .map_err(|why| Fault::new("prepared before, the schema is refused", why.reason))?;
        Ok(bench)
    }

    /// The fault with the one payload that has it alone, where there is one.
    fn smallest(&self, trial: &Trial, fault: Fault) -> Fault {
        let alone = |bytes: &Vec<u8>| {
            let mut bench = self.bench(trial, Time::Still).ok()?;
            let tried = bench
                .json_of(std::slice::from_ref(bytes))
                .and_then(|told| round(&mut bench, std::slice::from_ref(bytes), &told));
            tried.err().filter(|found| found.kind == fault.kind)
        };
        fault.payloads.iter().find_map(alone).unwrap_or(fault)
    }

    // ----- promises ------------------------------------------------------------------------------------------------

    fn attack(&mut self, trial: &Trial, batch: &[Vec<u8>], told: &[Told], dice: &mut Dice) {
        for promise in [Promise::Deterministic, Promise::Stateless] {
            let at = self
                .explored
                .promises
                .iter()
                .position(|verdict| verdict.promise == promise);
            let Some(at) = at.filter(|at| self.explored.promises[*at].breach.is_none()) else {
                continue;
            };
            let breach = match promise {
                Promise::Deterministic => self.other_time(trial, batch, told, dice),
                _ => self.other_parts(trial, batch, told),
            };
            let shown = self.told(trial);
            let verdict = &mut self.explored.promises[at];
            verdict.attacks += 1;
            verdict.breach = breach.map(|breach| Breach {
                settings: shown,
                ..breach
            });
        }
    }

    /// Another instance, at another time, that has seen the batch before.
    fn other_time(&self, trial: &Trial, batch: &[Vec<u8>], told: &[Told], dice: &mut Dice) -> Option<Breach> {
        let mut bench = self.bench(trial, Time::Wild(dice.seed())).ok()?;
        for _ in 0..2 {
            let again = bench.json_of(batch).ok()?;
            let how = "at another time, or after other bytes, another instance answers something else";
            if let Some(breach) = difference(how, batch, told, &again) {
                return Some(breach);
            }
        }
        None
    }

    /// Each alone, the last one first.
    fn other_parts(&self, trial: &Trial, batch: &[Vec<u8>], told: &[Told]) -> Option<Breach> {
        let mut bench = self.bench(trial, Time::Still).ok()?;
        let mut again = Vec::with_capacity(batch.len());
        for bytes in batch.iter().rev() {
            again.extend(bench.json_of(std::slice::from_ref(bytes)).ok()?);
        }
        again.reverse();
        let how = "each alone, the last one first, the answer is another";
        difference(how, batch, told, &again)
    }
}

/// Whole bytes, cut ones, changed ones and any.
fn batch(trial: &Trial, dice: &mut Dice) -> Vec<Vec<u8>> {
    let mut batch = Vec::new();
    for kind in 0..4 {
        for _ in 0..=dice.below(OF_A_KIND) {
            let mut bytes = trial.samples[dice.below(trial.samples.len())].clone();
            match kind {
                0 => {}
                1 => bytes.truncate(dice.below(bytes.len())),
                2 => {
                    let at = dice.below(bytes.len());
                    let flip = u8::try_from(1 + dice.below(255)).unwrap_or(1);
                    bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
                }
                _ => bytes = dice.bytes(40),
            }
            let at = dice.below(batch.len() + 1);
            batch.insert(at, bytes);
        }
    }
    batch
}

/// Data may hold what its schema does not allow, such as a decimal of too many digits: it is shown, and not written. And JSON
/// may hold numbers that no tree has.
const OUT_OF_RANGE: &str = "out-of-range";

/// What was made of bytes makes bytes again, which are the same JSON, by way of trees too.
fn round(bench: &mut Bench, batch: &[Vec<u8>], told: &[Told]) -> Result<(), Fault> {
    let whole: Vec<&Vec<u8>> = batch
        .iter()
        .zip(told)
        .filter_map(|(bytes, told)| told.is_ok().then_some(bytes))
        .collect();
    let json: Vec<Vec<u8>> = told.iter().filter_map(|told| told.clone().ok()).collect();
    let fault = |kind, at: usize, text: String| {
        let bytes: &Vec<u8> = whole[at];
        Err(Fault {
            payloads: vec![bytes.clone()],
            ..Fault::new(kind, text)
        })
    };
    let (mut back, mut places) = (Vec::with_capacity(json.len()), Vec::with_capacity(json.len()));
    for (at, told) in bench.bytes_of(&json)?.into_iter().enumerate() {
        match told {
            Ok(bytes) => {
                back.push(bytes);
                places.push(at);
            }
            Err(why) if why.code == OUT_OF_RANGE => {}
            Err(why) => {
                let json = bytes_shown(Some(&json[at]));
                let text = format!("{json} is refused: {}: {}", why.code, why.reason);
                return fault("the JSON it makes of bytes it does not take back", at, text);
            }
        }
    }
    for (&at, told) in places.iter().zip(bench.json_of(&back)?) {
        if told.as_ref() != Ok(&json[at]) {
            let text = format!("first {}, then {}", bytes_shown(Some(&json[at])), shown(&told));
            return fault("bytes made of JSON are other JSON than that", at, text);
        }
    }
    for (&at, told) in places.iter().zip(bench.by_tree(&back)?) {
        let again = match told {
            Ok(bytes) => bench.json_of(&[bytes])?.remove(0),
            Err(why) if why.code == OUT_OF_RANGE => continue,
            Err(why) => Err(why),
        };
        if !again.as_ref().is_ok_and(|again| is_same(again, &json[at])) {
            let text = format!(
                "JSON {}, the tree {}",
                bytes_shown(Some(&json[at])),
                shown(&again)
            );
            return fault("a tree is another value than the JSON", at, text);
        }
    }
    Ok(())
}

/// Whether two JSON texts are one value, written in whatever way.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let value = |text| serde_json::from_slice::<serde_json::Value>(text).ok();
    one == other || value(one).is_some_and(|one| Some(one) == value(other))
}

/// Bytes that are cut off are refused, or whole themselves: what the codec would write.
fn parts(bench: &mut Bench, whole: &[u8]) -> Result<(), Fault> {
    let own = |bench: &mut Bench, bytes: &[u8]| -> Result<Option<bool>, Fault> {
        let Ok(json) = bench.json_of(&[bytes.to_vec()])?.remove(0) else {
            return Ok(None);
        };
        let back = bench.bytes_of(&[json])?.remove(0);
        Ok(Some(back.is_ok_and(|back| back == bytes)))
    };
    if own(bench, whole)? != Some(true) {
        return Ok(());
    }
    let step = whole.len().div_ceil(CUTS_MAX).max(1);
    for end in (0..whole.len()).step_by(step) {
        let part = &whole[..end];
        if own(bench, part)? == Some(false) {
            let text = format!("{} of {}", bytes_shown(Some(part)), bytes_shown(Some(whole)));
            return Err(Fault {
                payloads: vec![part.to_vec()],
                ..Fault::new("bytes that are cut off are taken for whole", text)
            });
        }
    }
    Ok(())
}

/// Texts that are no JSON of the schema, or no JSON at all.
fn strange(bench: &mut Bench, dice: &mut Dice) -> Result<(), Fault> {
    const STRANGE: [&str; 12] = [
        "",
        "nul",
        "{",
        "[[[[",
        "\"",
        "{\"a\":1,\"a\":2}",
        "1e999",
        "-0",
        "\"\\ud800\"",
        "{}",
        "[]",
        "null",
    ];
    let mut texts: Vec<Vec<u8>> = STRANGE.iter().map(|text| text.as_bytes().to_vec()).collect();
    texts.push(dice.bytes(40));
    texts.push("[".repeat(5_000).into_bytes());
    let made = bench.bytes_of(&texts)?;
    let bytes: Vec<Vec<u8>> = made.into_iter().filter_map(Result::ok).collect();
    for (bytes, told) in bytes.iter().zip(bench.json_of(&bytes)?) {
        if let Err(why) = told {
            return Err(Fault {
                payloads: vec![bytes.clone()],
                ..Fault::new(
                    "it does not read what it wrote",
                    format!("{}: {}", why.code, why.reason),
                )
            });
        }
    }
    Ok(())
}

fn difference(how: &str, batch: &[Vec<u8>], told: &[Told], again: &[Told]) -> Option<Breach> {
    let at = (0..batch.len()).find(|at| told.get(*at) != again.get(*at))?;
    let message = |bytes: &Vec<u8>| Message::of_value(bytes.clone()).to_json();
    Some(Breach {
        how: how.to_owned(),
        parts: vec![batch.iter().map(message).collect()],
        message: Some(at + 1),
        expected: told.get(at).map(shown).unwrap_or_default(),
        got: again.get(at).map(shown).unwrap_or_default(),
        ..Breach::default()
    })
}

fn shown(told: &Told) -> String {
    match told {
        Ok(json) => bytes_shown(Some(json)),
        Err(why) => format!("refused: {}: {}", why.code, why.reason),
    }
}
