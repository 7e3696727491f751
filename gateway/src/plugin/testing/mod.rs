//! Tries a plugin without a gateway: its cases, any message at all, and what it promises. Prints nothing.
//!
//! Constraints of this room:
//! - What a plugin does here it does in the host that a gateway runs it in, under the same limits.
//! - The same seed tries the same messages.
//! - A failure is shown with the smallest batch that was found for it.

pub(super) mod base64;
mod bench;
mod case;
mod codecs;
mod explore;
mod generate;
mod message;
mod place;
mod pretty;
mod promises;
mod sample;
mod settings;
mod sinks;
mod sources;
mod subject;

#[cfg(test)]
mod tests;

pub use bench::{Figures, Row, loaded, measure};
pub use case::{Case, read_cases};
pub use explore::{Explored, Opening, Options, Trouble, Verdict, explore};
pub use message::{Fate, Message};
pub use promises::{Breach, Promise};
pub use sample::{Answered, Sample, run};
pub use settings::{Setting, Settings};
pub use subject::Subject;

use case::{Expected, Failure, Wanted};
use culvert_host::Role;
use message::placed;
use serde::Serialize;
use std::path::{Path, PathBuf};
use subject::{Answer, Refusal, Time};

/// All of a plugin's settings, as a connector that sets `given` would open it; examples for what it must set and did not.
///
/// # Errors
/// A name that is no key of the plugin, or a key that must be set and has no example.
pub fn settings_of(subject: &Subject, given: &[Setting]) -> Result<Settings, String> {
    let fields = &subject.plugin().description.fields;
    let filled = settings::with_examples(&settings::filled(given, fields)?, fields);
    match settings::missing(&filled, fields).as_slice() {
        [] => Ok(filled),
        missing => {
            let names: Vec<&str> = missing.iter().map(|field| field.name.as_str()).collect();
            let first = names.first().copied().unwrap_or_default();
            Err(format!(
                "the plugin must be given {}, and has no example\n\nGive it: --set {first}=…",
                names.join(", ")
            ))
        }
    }
}

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// The file.
    pub file: PathBuf,
    /// What it shows.
    pub about: String,
    /// How many messages.
    pub messages: usize,
    /// What is not as the case says. Empty: it holds.
    pub misses: Vec<Miss>,
}

/// One thing that is not as a case says.
#[derive(Clone, Debug, Serialize)]
pub struct Miss {
    /// The message, counted from 1; none where it is about the case as a whole.
    pub message: Option<usize>,
    /// The message itself, on one line.
    pub shown: String,
    /// What was to come.
    pub expected: String,
    /// What came.
    pub got: String,
    /// Where they differ.
    pub differences: Vec<String>,
}

/// Runs a case on a fresh instance. With `bless`, the file as it would hold is returned too, where that differs.
#[must_use]
pub fn run_case(subject: &Subject, case: &Case, bless: bool) -> (CaseReport, Option<String>) {
    let (misses, fates) = misses(subject, case);
    let wrong: Vec<usize> = misses.iter().filter_map(|miss| miss.message).collect();
    let fresh: Vec<(usize, Fate)> = fates
        .into_iter()
        .enumerate()
        .filter(|(at, _)| wrong.contains(&(at + 1)))
        .collect();
    let document = (bless && !fresh.is_empty()).then(|| case.blessed(&fresh));
    let report = CaseReport {
        file: case.file.clone(),
        about: case.about.clone(),
        messages: case.messages.len(),
        misses,
    };
    (report, document)
}

/// About the case as a whole.
fn whole(expected: &str, got: String) -> Miss {
    Miss {
        message: None,
        shown: String::new(),
        expected: expected.into(),
        got,
        differences: Vec::new(),
    }
}

/// What is not as the case says, and what became of each message.
fn misses(subject: &Subject, case: &Case) -> (Vec<Miss>, Vec<Fate>) {
    if subject.role() == Some(Role::Codec) {
        return match codecs::fates(subject, case) {
            Ok(fates) => judged(case, Answer::Fates(fates)),
            Err(why) => judged(case, Answer::Fatal(why)),
        };
    }
    if subject.role() == Some(Role::Sink) {
        return match sinks::fates(subject, &case.settings, &case.messages) {
            Ok(fates) => judged(case, Answer::Fates(fates)),
            Err(why) => judged(case, Answer::Fatal(why)),
        };
    }
    let answer = match subject.open(&case.settings, Time::Still) {
        Ok(mut opened) => opened.show(&case.topic, &placed(0, case.messages.iter().cloned())),
        Err(Refusal::Fatal(why)) => Answer::Fatal(why),
        Err(Refusal::Retry(why)) => Answer::Retry(why),
        Err(Refusal::Broken(why)) => return (vec![whole("the plugin opens", why)], Vec::new()),
    };
    judged(case, answer)
}

fn judged(case: &Case, answer: Answer) -> (Vec<Miss>, Vec<Fate>) {
    match (&case.expected, answer) {
        (Expected::Fails(Failure::Fatal), Answer::Fatal(_))
        | (Expected::Fails(Failure::Retry), Answer::Retry(_)) => (Vec::new(), Vec::new()),
        (Expected::Fails(failure), answer) => {
            let got = match answer {
                Answer::Fates(_) => "an outcome for each message".into(),
                Answer::Fatal(why) => format!("it fails for good: {why}"),
                Answer::Retry(why) => format!("it fails, to be tried again: {why}"),
            };
            let expected = match failure {
                Failure::Fatal => "it fails for good (fatal)",
                Failure::Retry => "it fails, to be tried again (retry)",
            };
            (vec![whole(expected, got)], Vec::new())
        }
        (Expected::Outcomes(wanted), Answer::Fates(fates)) => (compared(case, wanted, &fates), fates),
        (Expected::Outcomes(_), Answer::Fatal(why)) => (
            vec![whole(
                "an outcome for each message",
                format!("it fails for good: {why}"),
            )],
            Vec::new(),
        ),
        (Expected::Outcomes(_), Answer::Retry(why)) => {
            let got = format!("it fails, to be tried again: {why}");
            (vec![whole("an outcome for each message", got)], Vec::new())
        }
    }
}

fn compared(case: &Case, wanted: &[Option<Wanted>], fates: &[Fate]) -> Vec<Miss> {
    let mut misses = Vec::new();
    for (at, ((message, wanted), fate)) in case.messages.iter().zip(wanted).zip(fates).enumerate() {
        let differences = match wanted {
            Some(wanted) => wanted.differences(fate),
            None => vec!["the case says nothing of it; --bless writes what came".into()],
        };
        if !differences.is_empty() {
            misses.push(Miss {
                message: Some(at + 1),
                shown: message.shown(),
                expected: wanted.as_ref().map_or("nothing yet".into(), Wanted::shown),
                got: fate.shown(message),
                differences,
            });
        }
    }
    misses
}

/// The messages of cases: what other messages are made from.
#[must_use]
pub fn messages_of(cases: &[Case]) -> Vec<Message> {
    cases
        .iter()
        .flat_map(|case| case.messages.iter().cloned())
        .collect()
}

/// Where the cases of a component's file are looked for.
#[must_use]
pub fn cases_beside(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join("cases")
}
