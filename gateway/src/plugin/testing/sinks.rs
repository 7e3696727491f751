//! Attacks on what a sink promises. It is run in the host, in a place of its own, and cut off at each of its calls to the
//! outside; what is there at the end must be what is there after a run without any fault.
//!
//! - `transactional`: opened anew, it is asked for its tokens and given what they say is missing. An older writer is fenced,
//!   whenever the newer one came; a token is taken only from where its stream stands; a refused or deadly message costs
//!   itself alone.
//! - `idempotent`: opened anew, it is given the whole write again, and so it is after every write.
//!
//! What is there: files of its folder, and what the server took. Things that hold no message and differ between two runs
//! without fault are the sink's own books, and are not compared.

mod attack;
mod material;
mod script;
mod writer;

use super::case::Case;
use super::explore::{Explored, Opening, Options, Trouble, Verdict, settings_tried, verdicts};
use super::generate::Mint;
use super::message::{Fate, Message};
use super::messages_of;
use super::place::Place;
use super::promises::{Breach, Promise};
use super::settings::{self, Setting};
use super::subject::Subject;
use attack::Trial;
use material::Material;
use script::{Form, Script};
use writer::Maker;

/// One script of chance for so many runs: each is written some hundred times.
const RUNS_PER_SCRIPT: u64 = 50;

/// Tries a sink; `progress` is called after each script.
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
        material: messages_of(cases),
        explored: Explored {
            promises: of_writes(subject),
            ..Explored::default()
        },
    };
    let tried = settings_tried(subject, cases, &options.set, settings::choices)?;
    let mut places = Vec::new();
    for (number, settings) in tried.iter().enumerate() {
        places.extend(explorer.place(number, settings));
    }
    let mint = Mint::new(options.seed, Vec::new());
    let chances = options.runs.div_ceil(RUNS_PER_SCRIPT);
    if options.runs > 0 {
        for ready in &places {
            explorer.attack(ready, &Script::small(&ready.material.form));
        }
    }
    for (ready, chance) in places.iter().cycle().zip(0..chances) {
        let script = Script::random(&ready.material.form, &mut mint.dice(chance));
        explorer.attack(ready, &script);
        progress(((chance + 1) * RUNS_PER_SCRIPT).min(options.runs));
    }
    Ok(explorer.finished())
}

/// What became of each message of a case, each written alone.
///
/// # Errors
/// When the sink does not open with the case's settings, or a message makes it fail as a whole.
pub(super) fn fates(
    subject: &Subject,
    settings: &[Setting],
    messages: &[Message],
) -> Result<Vec<Fate>, String> {
    let place = Place::new(subject.plugin(), settings)?;
    let maker = Maker::new(subject.plugin(), subject.limits(), &place);
    messages
        .iter()
        .map(|message| material::fate(&maker, &place, message))
        .collect()
}

fn of_writes(subject: &Subject) -> Vec<Verdict> {
    let promises = &subject.plugin().description.promises;
    verdicts(subject, |promise| match promise {
        Promise::Transactional => None,
        Promise::Idempotent if promises.transactional && promises.idempotent => {
            Some("its tokens say what is there, so that nothing is written again".to_owned())
        }
        Promise::Idempotent => None,
        Promise::Deterministic | Promise::Stateless => Some("a promise of transforms".to_owned()),
        Promise::Replayable => Some("a promise of sources".to_owned()),
    })
}

/// A sink that opens, and what it takes.
struct Ready {
    place: Place,
    material: Material,
    /// The settings, for a person.
    shown: String,
}

struct Explorer<'a> {
    subject: &'a Subject,
    /// Messages of cases.
    material: Vec<Message>,
    explored: Explored,
}

impl Explorer<'_> {
    /// A place for these settings, if the sink opens there.
    fn place(&mut self, number: usize, settings: &[Setting]) -> Option<Ready> {
        let plugin = self.subject.plugin();
        let shown = settings::shown(settings, &plugin.description.fields);
        let opened = self.subject.place(settings).and_then(|place| {
            let maker = Maker::new(plugin, self.subject.limits(), &place);
            let mut writer = maker.writer(None).map_err(|fall| fall.got)?;
            writer.open(1).map_err(|fall| fall.got)?;
            Ok((place, maker))
        });
        let (place, maker) = match opened {
            Ok(opened) => opened,
            Err(refused) => {
                // With the first, all that follows would be tried.
                let failure =
                    (number == 0).then(|| "give settings that it takes: --set KEY=VALUE".to_owned());
                self.explored.openings.push(Opening {
                    settings: shown,
                    refused: Some(refused),
                    failure,
                });
                return None;
            }
        };
        let material = Material::find(&maker, &place, &self.material);
        let (refused, failure) = match &material {
            Ok(_) => (None, None),
            Err(why) => (
                Some(why.clone()),
                (number == 0).then(|| "show it messages that it takes: --cases DIR".to_owned()),
            ),
        };
        self.explored.openings.push(Opening {
            settings: shown.clone(),
            refused,
            failure,
        });
        Some(Ready {
            place,
            material: material.ok()?,
            shown,
        })
    }

    fn attack(&mut self, ready: &Ready, script: &Script) {
        let promises = &self.subject.plugin().description.promises;
        let maker = Maker::new(self.subject.plugin(), self.subject.limits(), &ready.place);
        let mut trial = Trial::new(maker, &ready.place, &ready.material);
        let (promise, script) = match (promises.transactional, promises.idempotent) {
            (true, _) => (Some(Promise::Transactional), script.clone()),
            (false, true) => (Some(Promise::Idempotent), script.clone().without_tokens()),
            (false, false) => (None, script.clone().without_tokens()),
        };
        if self
            .verdict(promise)
            .is_some_and(|verdict| verdict.breach.is_some())
        {
            return;
        }
        let found = match promise {
            Some(Promise::Transactional) => trial.transactional(&script),
            Some(_) => trial.idempotent(&script),
            None => trial.plain(&script),
        };
        self.explored.runs += trial.attacks;
        self.explored.messages += trial.messages;
        for note in std::mem::take(&mut trial.notes) {
            self.explored.note(note);
        }
        if let Some(verdict) = self.verdict(promise) {
            verdict.attacks += trial.attacks;
        }
        let Err(broken) = found else {
            return;
        };
        let breach = Breach {
            how: broken.how,
            settings: ready.shown.clone(),
            steps: script.shown(),
            expected: broken.fall.expected,
            got: broken.fall.got,
            ..Breach::default()
        };
        match self.verdict(promise) {
            Some(verdict) => verdict.breach = Some(breach),
            None => self.explored.troubles.push(Trouble {
                what: format!("{}: expected {}, got {}", breach.how, breach.expected, breach.got),
                settings: breach.settings,
                batch: Vec::new(),
            }),
        }
    }

    fn verdict(&mut self, promise: Option<Promise>) -> Option<&mut Verdict> {
        let mut verdicts = self.explored.promises.iter_mut();
        verdicts.find(|verdict| Some(verdict.promise) == promise)
    }

    fn finished(mut self) -> Explored {
        let promises = &self.subject.plugin().description.promises;
        if !promises.transactional && !promises.idempotent {
            let note = "it promises neither to be transactional nor idempotent: after a kill, records may be there twice";
            self.explored.notes.push(note.into());
        }
        self.explored
    }
}

/// The message of this form alone.
fn alone(form: &Form) -> Script {
    let mut script = Script::small(form);
    script.writes.truncate(1);
    script
}
