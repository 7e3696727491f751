//! Attacks on what a plugin promises, and the smallest batch that shows a promise broken.
//!
//! A promise is a statement about two ways to show the same messages. `deterministic`: to a fresh instance, and to one that
//! has another clock and other randomness, or has seen other messages before. `stateless`: as one batch, and cut in any
//! way, in any order. The first way is always the same: the whole batch, a fresh instance, a clock that stands still.

use super::generate::{Dice, Mint};
use super::message::{Fate, Message, Placed, SIMPLER, bytes_shown, placed};
use super::settings::{self, Setting};
use super::subject::{Answer, Subject, Time};
use culvert_host::Promises;
use serde::Serialize;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How often and how long a smaller batch is looked for. By eye: the smallest is mostly found in some 50 tries.
const TRIES_MAX: usize = 400;
const TIME_MAX: Duration = Duration::from_secs(10);

/// So many messages of a batch are each shown alone: an instance of an interpreter is not for nothing.
const ALONE_MAX: usize = 24;

/// The topic of messages that no case has.
pub(super) const TOPIC: &str = "anything";

/// What a plugin may promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// A transform: the same batch, the same answer.
    Deterministic,
    /// A transform: each message is looked at alone.
    Stateless,
    /// A sink: the same batch put twice is there once.
    Idempotent,
    /// A sink: token and data are written in one step.
    Transactional,
    /// A source: from the same resume point come the same messages.
    Replayable,
}

impl Promise {
    pub(super) const ALL: [Promise; 5] = [
        Promise::Deterministic,
        Promise::Stateless,
        Promise::Idempotent,
        Promise::Transactional,
        Promise::Replayable,
    ];

    /// As the contract spells it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Promise::Deterministic => "deterministic",
            Promise::Stateless => "stateless",
            Promise::Idempotent => "idempotent",
            Promise::Transactional => "transactional",
            Promise::Replayable => "replayable",
        }
    }

    /// Whether a plugin says so of itself.
    pub(super) fn is_of(self, promises: &Promises) -> bool {
        match self {
            Promise::Deterministic => promises.deterministic,
            Promise::Stateless => promises.stateless,
            Promise::Idempotent => promises.idempotent,
            Promise::Transactional => promises.transactional,
            Promise::Replayable => promises.replayable,
        }
    }
}

/// A promise that does not hold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Breach {
    /// What was done.
    pub how: String,
    /// The settings, passwords left out.
    pub settings: String,
    /// What a sink was given to write, or a source was asked, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
    /// Batches that a transform's instance had seen before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Vec<Value>>,
    /// A transform's batch, in the parts in which it was shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Vec<Value>>,
    /// The message that was answered differently, counted from 1 over all parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<usize>,
    /// What should be: what became of the message when a fresh instance was shown the whole batch; what is there after a
    /// run without any fault.
    pub expected: String,
    /// What was.
    pub got: String,
}

/// The other way to show the same messages.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// At another time, with other randomness.
    AnotherTime(u64),
    /// To an instance that has seen other batches.
    After,
    /// Each part to a fresh instance.
    Cut,
    /// The parts to one instance, the last first.
    Reversed,
}

#[derive(Clone, Debug)]
struct Scenario {
    way: Way,
    before: Vec<Vec<Placed>>,
    parts: Vec<Vec<Placed>>,
}

struct Difference {
    message: usize,
    expected: String,
    got: String,
}

/// Tries to break a promise with this batch. How often, and what broke it.
pub(super) fn attack(
    promise: Promise,
    subject: &Subject,
    settings: &[Setting],
    batch: &[Placed],
    mint: &Mint,
    dice: &mut Dice,
) -> (u64, Option<Breach>) {
    let scenarios = match promise {
        Promise::Deterministic => against_determinism(batch, mint, dice),
        Promise::Stateless => against_statelessness(batch, mint, dice),
        Promise::Idempotent | Promise::Transactional | Promise::Replayable => Vec::new(),
    };
    let judge = Judge { subject, settings };
    let mut attacks = 0;
    let scenario = scenarios.into_iter().find(|scenario| {
        attacks += 1;
        judge.difference(scenario).is_some()
    });
    let breach = scenario.and_then(|scenario| judge.smallest(scenario));
    (attacks, breach)
}

fn against_determinism(batch: &[Placed], mint: &Mint, dice: &mut Dice) -> Vec<Scenario> {
    let seed = dice.seed();
    vec![
        Scenario {
            way: Way::AnotherTime(seed),
            before: Vec::new(),
            parts: vec![batch.to_vec()],
        },
        after_others(batch, mint, dice),
        Scenario {
            way: Way::After,
            before: vec![batch.to_vec()],
            parts: vec![batch.to_vec()],
        },
    ]
}

fn against_statelessness(batch: &[Placed], mint: &Mint, dice: &mut Dice) -> Vec<Scenario> {
    let scenario = |way, parts| Scenario {
        way,
        before: Vec::new(),
        parts,
    };
    let parts = cut(batch, dice);
    let alone = batch
        .iter()
        .take(ALONE_MAX)
        .map(|placed| vec![placed.clone()])
        .collect();
    vec![
        scenario(Way::Cut, parts.clone()),
        scenario(Way::Cut, alone),
        scenario(Way::Reversed, parts),
        after_others(batch, mint, dice),
    ]
}

/// One or two other batches, behind this one in their stream, are shown before it.
fn after_others(batch: &[Placed], mint: &Mint, dice: &mut Dice) -> Scenario {
    let behind = batch.last().map_or(0, |last| last.sequence + 1);
    let other = |number: u64, dice: &mut Dice| placed(behind + number * 1_000, mint.batch(dice));
    Scenario {
        way: Way::After,
        before: (0..1 + dice.below(2) as u64)
            .map(|number| other(number, dice))
            .collect(),
        parts: vec![batch.to_vec()],
    }
}

/// Two to five parts, some of which may be one message.
fn cut(batch: &[Placed], dice: &mut Dice) -> Vec<Vec<Placed>> {
    let mut parts = vec![batch.to_vec()];
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(parts.len());
        let length = parts[at].len();
        let tail = parts[at].split_off(dice.below(length));
        parts.insert(at + 1, tail);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

struct Judge<'a> {
    subject: &'a Subject,
    settings: &'a [Setting],
}

impl Judge<'_> {
    /// Where the two ways differ. None too where the first way already fails: that is not about promises.
    fn difference(&self, scenario: &Scenario) -> Option<Difference> {
        let whole = scenario.parts.concat();
        let mut first = self.open(Time::Still)?;
        let Answer::Fates(expected) = first.show(TOPIC, &whole) else {
            return None;
        };
        if first.faults() > 0 {
            return None;
        }
        let got = match self.other_way(scenario, &whole)? {
            Ok(got) => got,
            Err(failed) => {
                return Some(Difference {
                    message: 1,
                    expected: expected.first()?.shown(&whole.first()?.message),
                    got: failed,
                });
            }
        };
        let at = expected
            .iter()
            .zip(&got)
            .position(|(expected, got)| expected != got)?;
        let original = &whole[at].message;
        let (expected, got) = shown_apart(&expected[at], &got[at], original);
        Some(Difference {
            message: at + 1,
            expected,
            got,
        })
    }

    fn other_way(&self, scenario: &Scenario, whole: &[Placed]) -> Option<Result<Vec<Fate>, String>> {
        match scenario.way {
            Way::AnotherTime(seed) => Some(fates(self.open(Time::Wild(seed))?.show(TOPIC, whole))),
            Way::After => {
                let mut used = self.open(Time::Still)?;
                for batch in &scenario.before {
                    let _ = used.show(TOPIC, batch);
                }
                Some(fates(used.show(TOPIC, whole)))
            }
            Way::Cut => {
                let mut all = Vec::with_capacity(whole.len());
                for part in &scenario.parts {
                    match fates(self.open(Time::Still)?.show(TOPIC, part)) {
                        Ok(fates) => all.extend(fates),
                        Err(failed) => return Some(Err(failed)),
                    }
                }
                Some(Ok(all))
            }
            Way::Reversed => {
                let mut one = self.open(Time::Still)?;
                let mut answers = Vec::new();
                for part in scenario.parts.iter().rev() {
                    match fates(one.show(TOPIC, part)) {
                        Ok(fates) => answers.push(fates),
                        Err(failed) => return Some(Err(failed)),
                    }
                }
                answers.reverse();
                Some(Ok(answers.concat()))
            }
        }
    }

    fn open(&self, time: Time) -> Option<super::subject::Opened> {
        self.subject.open(self.settings, time).ok()
    }

    /// Leaves out messages, then parts of messages, as long as the two ways differ.
    fn smallest(&self, mut scenario: Scenario) -> Option<Breach> {
        let mut last = self.difference(&scenario);
        let began = Instant::now();
        let mut tries = 0;
        let mut holds = |candidate: &Scenario, last: &mut Option<Difference>| {
            tries += 1;
            if tries > TRIES_MAX || began.elapsed() > TIME_MAX {
                return false;
            }
            let difference = self.difference(candidate);
            let differs = difference.is_some();
            if differs {
                *last = difference;
            }
            differs
        };
        let mut chunk = scenario.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < scenario.len() {
                let candidate = scenario.without(at, chunk);
                if holds(&candidate, &mut last) {
                    scenario = candidate;
                } else {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
        for at in 0..scenario.len() {
            for simplify in SIMPLER {
                loop {
                    let mut candidate = scenario.clone();
                    let is_simpler = candidate
                        .get_mut(at)
                        .is_some_and(|placed| simplify(&mut placed.message));
                    if !is_simpler || !holds(&candidate, &mut last) {
                        break;
                    }
                    scenario = candidate;
                }
            }
        }
        // What luck decides may be seen once and not again; then the last that was seen is not known.
        let difference = last.unwrap_or(Difference {
            message: 1,
            expected: "one answer".into(),
            got: "another, not at every try".into(),
        });
        Some(self.breach(&scenario, difference))
    }

    fn breach(&self, scenario: &Scenario, difference: Difference) -> Breach {
        let json = |batch: &Vec<Placed>| batch.iter().map(|placed| placed.message.to_json()).collect();
        let fields = &self.subject.plugin().description.fields;
        let parts: Vec<&Vec<Placed>> = scenario.parts.iter().filter(|part| !part.is_empty()).collect();
        let how = match scenario.way {
            Way::AnotherTime(_) => "at another time, or with other randomness, the answer is another".into(),
            Way::After => "after other messages the answer is another".into(),
            Way::Cut => format!(
                "cut in {} parts, each for a fresh instance, the answer is another",
                parts.len()
            ),
            Way::Reversed => format!(
                "cut in {} parts, the last one shown first, the answer is another",
                parts.len()
            ),
        };
        Breach {
            how,
            settings: settings::shown(self.settings, fields),
            before: scenario
                .before
                .iter()
                .filter(|batch| !batch.is_empty())
                .map(json)
                .collect(),
            parts: parts.into_iter().map(json).collect(),
            message: Some(difference.message),
            expected: difference.expected,
            got: difference.got,
            steps: Vec::new(),
        }
    }
}

impl Scenario {
    /// How many messages, those before too.
    fn len(&self) -> usize {
        self.batches().map(Vec::len).sum()
    }

    fn batches(&self) -> impl Iterator<Item = &Vec<Placed>> {
        self.before.iter().chain(&self.parts)
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut Placed> {
        self.before.iter_mut().chain(&mut self.parts).flatten().nth(at)
    }

    /// Without `count` messages from the one at `at` on.
    fn without(&self, at: usize, count: usize) -> Scenario {
        let mut number = 0;
        let mut kept = |batch: &Vec<Placed>| -> Vec<Placed> {
            let is_kept = |_: &&Placed| {
                number += 1;
                !(at..at + count).contains(&(number - 1))
            };
            batch.iter().filter(is_kept).cloned().collect()
        };
        Scenario {
            way: self.way,
            before: self.before.iter().map(&mut kept).collect(),
            parts: self.parts.iter().map(&mut kept).collect(),
        }
    }
}

fn fates(answer: Answer) -> Result<Vec<Fate>, String> {
    match answer {
        Answer::Fates(fates) => Ok(fates),
        Answer::Retry(why) => Err(format!("the batch fails, to be tried again: {why}")),
        Answer::Fatal(why) => Err(format!("the batch fails for good: {why}")),
    }
}

/// Two fates for a person. Long ones that look the same once they are cut are shown from where they differ.
fn shown_apart(expected: &Fate, got: &Fate, original: &Message) -> (String, String) {
    let shown = (expected.shown(original), got.shown(original));
    if shown.0 != shown.1 {
        return shown;
    }
    let value = |fate: &Fate| match fate {
        Fate::Gives(parts) => parts
            .first()
            .and_then(|part| part.message.value.clone())
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    let (one, other) = (value(expected), value(got));
    let at = one
        .iter()
        .zip(&other)
        .take_while(|(one, other)| one == other)
        .count();
    let from = |bytes: &[u8]| format!("from byte {} on: {}", at + 1, bytes_shown(Some(&bytes[at..])));
    (from(&one), from(&other))
}
