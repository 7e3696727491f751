//! What the outside answered to an instance, kept so that the same run can be played again.
//!
//! Recording, every answer of the clock, of requests, files and secrets is noted in order, with a digest of what was asked.
//! Playing, the same answers are given in the same order, and nothing outside is touched: what is asked otherwise ends the
//! run there. Of secrets only that they are there is noted; a run in which the bytes of one were seen is not recordable.
//!
//! Constraints:
//! - What is held has a limit. Above it nothing of the call is kept, and the reason is.
//! - What an instance asked for when it was opened belongs to every call of it; what it asked for in calls between does not.

mod taped;

use crate::fault::Poison;
use crate::grants::Veil;
use crate::transform::Stream;
use culvert_proto::columns::Columns;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
pub(crate) use taped::Taped;

/// The most bytes of answers that are kept of one call, with those of its instance's opening.
const TAPE_BYTES_MAX: usize = 8 << 20;

/// The most acts.
const ACTS_MAX: usize = 100_000;

/// One thing that was asked of the outside, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// As in `files.append`.
    pub call: String,
    /// SHA-256 of what was asked.
    pub asked: [u8; 32],
    /// What the plugin was given.
    pub answer: Answer,
}

/// What an act came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was answered. The bytes have a form of their own for each call.
    Given(Vec<u8>),
    /// The instance was ended, in these words.
    Ended(String),
}

/// Who is told of failing batches.
pub trait Failures: Send + Sync {
    /// A batch failed, the smallest that does.
    fn failed(&self, failure: &Failure<'_>);
}

/// A batch that failed.
pub struct Failure<'a> {
    /// Whose it is.
    pub stream: &'a Stream<'a>,
    /// Its records.
    pub batch: &'a Columns,
    /// What was seen.
    pub fault: &'a Fault,
    /// What the outside answered, or why that could not be kept.
    pub acts: Result<&'a [Act], &'a str>,
    /// How many batches the same instance had treated before. What it remembers of them is not recorded.
    pub batches_before: u64,
    veil: &'a Veil,
}

impl Failure<'_> {
    /// Whether a secret, or a password of the settings, is in these bytes. Those below 4 bytes are not looked for.
    #[must_use]
    pub fn has_secret(&self, bytes: &[u8]) -> bool {
        self.veil.is_in(bytes)
    }
}

/// How a batch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `trap`, `timeout`, `memory`, `answer`; `fatal` where the plugin itself says that it cannot go on.
    pub kind: String,
    /// In words.
    pub text: String,
}

impl Fault {
    /// What did not come back.
    pub(crate) fn of_poison(poison: &Poison, text: String) -> Fault {
        let kind = match poison {
            Poison::Trap(_) => "trap",
            Poison::Timeout(_) => "timeout",
            Poison::Memory(_) => "memory",
            Poison::Answer(_) => "answer",
        };
        let kind = kind.into();
        Fault { kind, text }
    }

    /// What the plugin named fatal.
    pub(crate) fn fatal(text: &str) -> Fault {
        Fault {
            kind: "fatal".into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// A tape in the surroundings of one plugin for one connector's stage. Cheap to clone; the clones are one tape, of one
/// instance at a time.
#[derive(Clone)]
pub struct Tape(Arc<Turning>);

struct Turning {
    failures: Option<Arc<dyn Failures>>,
    reel: Mutex<Reel>,
}

enum Reel {
    Recording(Recording),
    Playing(Playing),
}

#[derive(Default)]
struct Recording {
    acts: Vec<Act>,
    bytes: usize,
    /// Acts of the opening, their bytes, and why that cannot be kept.
    opened: (usize, usize, Option<&'static str>),
    batches: u64,
    spoiled: Option<&'static str>,
}

struct Playing {
    acts: Vec<Act>,
    next: usize,
    strayed: Option<String>,
}

impl Tape {
    /// Records, and tells `failures` of batches that fail.
    #[must_use]
    pub fn recording(failures: Arc<dyn Failures>) -> Tape {
        Tape::new(Some(failures), Reel::Recording(Recording::default()))
    }

    /// Plays: one instance, opened and shown one batch.
    #[must_use]
    pub fn playing(acts: Vec<Act>) -> Tape {
        let playing = Playing {
            acts,
            next: 0,
            strayed: None,
        };
        Tape::new(None, Reel::Playing(playing))
    }

    fn new(failures: Option<Arc<dyn Failures>>, reel: Reel) -> Tape {
        let reel = Mutex::new(reel);
        Tape(Arc::new(Turning { failures, reel }))
    }

    /// What was recorded of the opening and the last call.
    ///
    /// # Errors
    /// Why that could not be kept.
    pub fn acts(&self) -> Result<Vec<Act>, String> {
        match &*self.0.reel.lock() {
            Reel::Recording(recording) => match recording.spoiled {
                Some(why) => Err(why.into()),
                None => Ok(recording.acts.clone()),
            },
            Reel::Playing(playing) => Ok(playing.acts.clone()),
        }
    }

    /// Where a run that is played went another way than the recorded one, in words; none where it did not.
    #[must_use]
    pub fn strayed(&self) -> Option<String> {
        match &*self.0.reel.lock() {
            Reel::Recording(_) => None,
            Reel::Playing(playing) => playing.strayed.clone(),
        }
    }

    /// How many acts of those recorded were not asked for when they were played.
    #[must_use]
    pub fn left(&self) -> usize {
        match &*self.0.reel.lock() {
            Reel::Recording(_) => 0,
            Reel::Playing(playing) => playing.acts.len() - playing.next,
        }
    }

    /// Whether nothing outside is touched.
    pub(crate) fn is_played(&self) -> bool {
        matches!(&*self.0.reel.lock(), Reel::Playing(_))
    }

    // ----- what the host does ------------------------------------------------------------------------------------

    /// An instance is made: what the one before asked for is forgotten.
    pub(crate) fn begin(&self) {
        if let Reel::Recording(recording) = &mut *self.0.reel.lock() {
            *recording = Recording::default();
        }
    }

    /// The instance is open.
    pub(crate) fn opened(&self) {
        if let Reel::Recording(recording) = &mut *self.0.reel.lock() {
            recording.opened = (recording.acts.len(), recording.bytes, recording.spoiled);
        }
    }

    /// A batch is shown to it: what it asked for since it was opened is forgotten.
    pub(crate) fn call(&self) {
        if let Reel::Recording(recording) = &mut *self.0.reel.lock() {
            let (acts, bytes, spoiled) = recording.opened;
            recording.acts.truncate(acts);
            recording.bytes = bytes;
            recording.spoiled = spoiled;
            recording.batches += 1;
        }
    }

    /// The call that was made last failed: what was recorded of it.
    pub(crate) fn taken(&self, fault: Fault) -> Option<Taken> {
        self.0.failures.as_ref()?;
        let acts = self.acts();
        let batches = match &*self.0.reel.lock() {
            Reel::Recording(recording) => recording.batches,
            Reel::Playing(_) => return None,
        };
        Some(Taken {
            fault,
            acts,
            batches_before: batches.saturating_sub(1),
        })
    }

    /// No smaller batch fails.
    pub(crate) fn tell(&self, taken: &Taken, stream: &Stream<'_>, batch: &Columns, veil: &Veil) {
        let Some(failures) = &self.0.failures else { return };
        let (keys, values, headers) = (batch.keys().1, batch.values().1, batch.headers().1);
        let shows_one = |acts: &[Act]| {
            let answers = acts.iter().map(|act| match &act.answer {
                Answer::Given(bytes) => bytes.as_slice(),
                Answer::Ended(text) => text.as_bytes(),
            });
            answers
                .chain([keys, values, headers])
                .any(|bytes| veil.is_in(bytes))
        };
        let acts = match &taken.acts {
            Ok(acts) if shows_one(acts) => Err("a secret is in its records or in what it was answered"),
            Ok(acts) => Ok(acts.as_slice()),
            Err(why) => Err(why.as_str()),
        };
        failures.failed(&Failure {
            stream,
            batch,
            fault: &taken.fault,
            acts,
            batches_before: taken.batches_before,
            veil,
        });
    }

    /// The call cannot be recorded.
    fn spoil(&self, why: &'static str) {
        if let Reel::Recording(recording) = &mut *self.0.reel.lock() {
            recording.spoil(why);
        }
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").finish_non_exhaustive()
    }
}

/// A call that failed, as it was recorded.
pub(crate) struct Taken {
    fault: Fault,
    acts: Result<Vec<Act>, String>,
    batches_before: u64,
}

impl Recording {
    fn spoil(&mut self, why: &'static str) {
        self.spoiled = Some(why);
        // They would be of no use.
        self.acts.truncate(self.opened.0);
    }

    fn note(&mut self, act: Act) {
        if self.spoiled.is_some() {
            return;
        }
        let size = match &act.answer {
            Answer::Given(bytes) => bytes.len(),
            Answer::Ended(text) => text.len(),
        };
        self.bytes += size;
        if self.bytes > TAPE_BYTES_MAX || self.acts.len() >= ACTS_MAX {
            return self.spoil("what it was answered is more than 8 MiB or 100,000 answers");
        }
        self.acts.push(act);
    }
}

impl Playing {
    fn answer(&mut self, call: &str, asked: &[u8; 32]) -> Result<Answer, String> {
        let number = self.next + 1;
        let went = |how: String| format!("went another way than recorded at act {number}: {how}");
        let Some(act) = self.acts.get(self.next) else {
            return Err(went(format!("{call}, and nothing more was asked for then")));
        };
        if act.call != call {
            return Err(went(format!("{call}, and it was {} then", act.call)));
        }
        if act.asked != *asked {
            return Err(went(format!("{call} with other arguments than then")));
        }
        self.next += 1;
        Ok(act.answer.clone())
    }
}

/// Something is asked of the outside: recorded, played, or neither.
pub(crate) struct Asked<'t> {
    tape: Option<&'t Tape>,
    call: &'static str,
    digest: [u8; 32],
}

/// Before an act. `asked` spells its arguments; a secret's name stands for the secret.
pub(crate) fn ask<'t>(
    tape: Option<&'t Tape>,
    call: &'static str,
    asked: impl FnOnce(&mut Vec<u8>),
) -> Asked<'t> {
    let mut digest = [0; 32];
    if tape.is_some() {
        let mut bytes = Vec::new();
        asked(&mut bytes);
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
    }
    Asked { tape, call, digest }
}

impl Asked<'_> {
    /// What the plugin is given: by the outside, or by the tape.
    pub(crate) fn answer<Given: Taped>(
        self,
        outside: impl FnOnce() -> wasmtime::Result<Given>,
    ) -> wasmtime::Result<Given> {
        let Some(tape) = self.tape else { return outside() };
        if let Reel::Playing(playing) = &mut *tape.0.reel.lock() {
            return self.played(playing);
        }
        let given = outside();
        let answer = match &given {
            Ok(given) => {
                let mut bytes = Vec::new();
                given.put(&mut bytes);
                Answer::Given(bytes)
            }
            Err(error) => Answer::Ended(error.root_cause().to_string()),
        };
        if let Reel::Recording(recording) = &mut *tape.0.reel.lock() {
            recording.note(Act {
                call: self.call.into(),
                asked: self.digest,
                answer,
            });
        }
        given
    }

    fn played<Given: Taped>(&self, playing: &mut Playing) -> wasmtime::Result<Given> {
        let call = self.call;
        let answer = playing
            .answer(call, &self.digest)
            .and_then(|answer| match answer {
                Answer::Ended(text) => Ok(Err(text)),
                Answer::Given(bytes) => taped::whole(&bytes)
                    .map(Ok)
                    .map_err(|error| format!("the recorded answer of {call} cannot be read: {error}")),
            });
        match answer {
            Ok(Ok(given)) => Ok(given),
            Ok(Err(text)) => Err(wasmtime::Error::msg(text)),
            Err(strayed) => {
                playing.strayed = Some(strayed.clone());
                Err(wasmtime::Error::msg(strayed))
            }
        }
    }

    /// It gives the bytes of a secret, which no tape holds.
    pub(crate) fn secret<Given>(
        self,
        outside: impl FnOnce() -> wasmtime::Result<Given>,
    ) -> wasmtime::Result<Given> {
        let Some(tape) = self.tape else { return outside() };
        if let Reel::Playing(playing) = &mut *tape.0.reel.lock() {
            let strayed = "asks for the bytes of a secret, which are never recorded";
            playing.strayed = Some(strayed.into());
            return Err(wasmtime::Error::msg(strayed));
        }
        tape.spoil("the plugin was shown the bytes of a secret");
        outside()
    }
}

#[cfg(test)]
mod tests;
