//! Attacks on what a source promises: `replayable`. From the same resume point come the same records, whoever reads them and
//! when: instances are opened from every resume point, cut off at each of their calls, read in pages of another size and at
//! another time, and told late what is durable.
//!
//! What a source reads here lies in its place: a file for each setting that grants reading one, and a server that answers
//! with JSON. It does not change while it is read.

mod attack;
mod reader;

use super::case::Case;
use super::explore::{Explored, Opening, Options, Trouble, Verdict, settings_tried, verdicts};
use super::generate::Mint;
use super::message::Message;
use super::messages_of;
use super::place::Place;
use super::promises::{Breach, Promise};
use super::settings::{self, Setting};
use super::subject::Subject;
use attack::Trial;
use reader::Maker;

/// One size of pages for so many runs: with each, a source is read some hundred times.
const RUNS_PER_SIZE: u64 = 50;

/// Sizes of pages that are always tried: few records, so that there are many pages.
const SIZES: [usize; 2] = [7, 3];

/// The largest size that chance gives.
const SIZE_MAX: usize = 60;

/// How many lines a file has that is read.
const LINES: usize = 40;

/// Tries a source; `progress` is called after each size of pages.
///
/// # Errors
/// Settings that are no keys of the plugin, or are missing; cases, which a source has none of.
pub(super) fn explore(
    subject: &Subject,
    cases: &[Case],
    options: &Options,
    progress: &mut dyn FnMut(u64),
) -> Result<Explored, String> {
    let cannot = |promise| match promise {
        Promise::Replayable => None,
        Promise::Deterministic | Promise::Stateless => Some("a promise of transforms".to_owned()),
        Promise::Idempotent | Promise::Transactional => Some("a promise of sinks".to_owned()),
    };
    let mut explorer = Explorer {
        subject,
        lines: lines(&messages_of(cases)),
        explored: Explored {
            promises: verdicts(subject, cannot),
            ..Explored::default()
        },
    };
    let tried = settings_tried(subject, cases, &options.set, settings::choices)?;
    let mut places = Vec::new();
    for (number, settings) in tried.iter().enumerate() {
        places.extend(explorer.place(number, settings));
    }
    let mint = Mint::new(options.seed, Vec::new());
    if options.runs > 0 {
        for ready in &places {
            SIZES
                .iter()
                .for_each(|size| explorer.attack(ready, *size, options.seed));
        }
    }
    let chances = options.runs.div_ceil(RUNS_PER_SIZE);
    for (ready, chance) in places.iter().cycle().zip(0..chances) {
        let mut dice = mint.dice(chance);
        let (size, seed) = (1 + dice.below(SIZE_MAX), dice.seed());
        explorer.attack(ready, size, seed);
        progress(((chance + 1) * RUNS_PER_SIZE).min(options.runs));
    }
    Ok(explorer.explored)
}

/// What is in a file that is read: values of cases that fit on a line, and our own.
fn lines(of_cases: &[Message]) -> Vec<u8> {
    let own = (0..LINES).map(|number| format!(r#"{{"line":{number},"amount":{}}}"#, number * 3).into_bytes());
    let fits = |value: &Vec<u8>| !value.is_empty() && !value.contains(&b'\n') && !value.contains(&b'\r');
    let of_cases = of_cases
        .iter()
        .filter_map(|message| message.value.clone())
        .filter(fits);
    let mut text = Vec::new();
    for line in of_cases.take(LINES).chain(own) {
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    text
}

/// A source that opens.
struct Ready {
    place: Place,
    /// Files to be there, and what is in them.
    files: Vec<(std::path::PathBuf, Vec<u8>)>,
    /// The settings, for a person.
    shown: String,
}

struct Explorer<'a> {
    subject: &'a Subject,
    lines: Vec<u8>,
    explored: Explored,
}

impl Explorer<'_> {
    /// A place for these settings, if the source opens there.
    fn place(&mut self, number: usize, settings: &[Setting]) -> Option<Ready> {
        let plugin = self.subject.plugin();
        let shown = settings::shown(settings, &plugin.description.fields);
        let opened = self.subject.place(settings).and_then(|place| {
            let ready = Ready {
                files: self.files(&place),
                place,
                shown: shown.clone(),
            };
            Trial::new(self.maker(&ready), &ready.place, &ready.files, SIZES[0], 0).opens()?;
            Ok(ready)
        });
        let refused = opened.as_ref().err().cloned();
        // With the first, all that follows would be tried.
        let is_failure = refused.is_some() && number == 0;
        self.explored.openings.push(Opening {
            settings: shown,
            refused,
            failure: is_failure.then(|| "give settings that it takes: --set KEY=VALUE".to_owned()),
        });
        opened.ok()
    }

    fn files(&self, place: &Place) -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let fields = &self.subject.plugin().description.fields;
        let is_read = |name: &str| {
            let field = fields.iter().find(|field| field.name == name);
            field.is_some_and(|field| field.grants().any(|word| word == "files.read"))
        };
        let named = place.settings.iter().filter(|(name, _)| is_read(name));
        named
            .filter_map(|(_, value)| Some((value.as_deref()?.into(), self.lines.clone())))
            .collect()
    }

    fn maker(&self, ready: &Ready) -> Maker {
        Maker::new(self.subject.plugin(), self.subject.limits(), &ready.place)
    }

    fn attack(&mut self, ready: &Ready, size: usize, seed: u64) {
        let is_replayable = |verdict: &&mut Verdict| verdict.promise == Promise::Replayable;
        let maker = self.maker(ready);
        let Some(verdict) = self.explored.promises.iter_mut().find(is_replayable) else {
            return;
        };
        if verdict.breach.is_some() {
            return;
        }
        let mut trial = Trial::new(maker, &ready.place, &ready.files, size, seed);
        let found = trial.replayable();
        verdict.attacks += trial.attacks;
        self.explored.runs += trial.attacks;
        self.explored.messages += trial.records;
        match found {
            Ok(0) if verdict.attacks > 0 => {
                let note = format!("it brought no record with {}", ready.shown);
                self.explored.note(note);
            }
            Ok(_) => {}
            Err(broken) if broken.is_plain => {
                let what = format!("{}: expected {}, got {}", broken.how, broken.expected, broken.got);
                let is_known = self.explored.troubles.iter().any(|trouble| trouble.what == what);
                if !is_known {
                    self.explored.troubles.push(Trouble {
                        what,
                        settings: ready.shown.clone(),
                        batch: Vec::new(),
                    });
                }
            }
            Err(broken) => {
                verdict.breach = Some(Breach {
                    how: broken.how,
                    settings: ready.shown.clone(),
                    steps: broken.steps,
                    expected: broken.expected,
                    got: broken.got,
                    ..Breach::default()
                });
            }
        }
    }
}
