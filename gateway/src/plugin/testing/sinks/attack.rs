//! The attacks of one script on one sink.

mod tokens;
mod untaken;

use super::material::Material;
use super::script::{Script, Write};
use super::writer::{Fall, Maker, Standing, Tokens, Writer, fall, shown};
use crate::plugin::testing::place::{Effect, Place};
use culvert_host::{Cut, PutFault};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most calls of one write at which it is cut off. By eye: the last ones of a longer write do what the first ones do.
const CALLS_MAX: u64 = 60;

/// The writer that looks at the end: the same in every run, since sinks note who opened them.
const LAST: u8 = 0xee;

/// How a promise was broken.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) how: String,
    pub(super) fall: Fall,
}

type Outcome = Result<(), Broken>;

/// The writer that came while another was at work, and what it found of the write.
type Came = Result<(Writer, Standing), Fall>;

/// A sink at its place, and what was done to it.
pub(super) struct Trial<'a> {
    maker: Maker,
    place: &'a Place,
    material: &'a Material,
    /// Its own books: they hold no message, and differ from run to run.
    books: BTreeSet<String>,
    pub(super) attacks: u64,
    pub(super) messages: u64,
    pub(super) notes: BTreeSet<String>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(maker: Maker, place: &'a Place, material: &'a Material) -> Trial<'a> {
        Trial {
            maker,
            place,
            material,
            books: BTreeSet::new(),
            attacks: 0,
            messages: 0,
            notes: BTreeSet::new(),
        }
    }

    /// Everything that a transactional sink must stand.
    pub(super) fn transactional(&mut self, script: &Script) -> Outcome {
        let expected = self.without_fault(script)?;
        self.cut_off(script, &expected)?;
        self.another_writer(script, &expected)?;
        self.fenced(script, &expected)?;
        self.tokens_from_elsewhere(script, &expected)?;
        self.begun_anew(script)?;
        self.not_taken(script, &expected)
    }

    /// Everything that an idempotent sink must stand.
    pub(super) fn idempotent(&mut self, script: &Script) -> Outcome {
        let expected = self.without_fault(script)?;
        self.again(script, &expected)?;
        self.cut_off(script, &expected)?;
        self.unanswered(script, &expected)?;
        self.not_taken(script, &expected)
    }

    /// What every sink must do.
    pub(super) fn plain(&mut self, script: &Script) -> Outcome {
        self.without_fault(script).map(drop)
    }

    // ----- without any fault -------------------------------------------------------------------------------------------

    /// What is there when nothing went wrong; and which things are the sink's own books.
    fn without_fault(&mut self, script: &Script) -> Result<Effect, Broken> {
        const HOW: &str = "written without any fault";
        let expected = self.attempt(script, || HOW.into(), |trial| trial.written(script, false))?;
        self.attempt(
            script,
            || HOW.into(),
            |trial| trial.check_marks(script, &expected),
        )?;
        let how = || "written without any fault, by a new writer each time".to_owned();
        let reopened = self.attempt(script, how, |trial| trial.written(script, true))?;
        let is_of_messages = |thing: &str| {
            let held = expected
                .things
                .get(thing)
                .into_iter()
                .chain(reopened.things.get(thing));
            let text: Vec<u8> = held.flatten().copied().collect();
            script
                .marks
                .iter()
                .any(|mark| text.windows(mark.len()).any(|part| part == mark.as_bytes()))
        };
        let names = expected.things.keys().chain(reopened.things.keys());
        let differ = names.filter(|name| expected.things.get(*name) != reopened.things.get(*name));
        self.books = differ.filter(|name| !is_of_messages(name)).cloned().collect();
        self.attempt(script, how, |trial| trial.compared(&expected, &reopened))?;
        Ok(expected)
    }

    fn written(&self, script: &Script, by_new_writers: bool) -> Result<Effect, Fall> {
        self.clear()?;
        let (mut writer, mut at) = (self.opened(1)?, Tokens::new());
        writer.check_found(&at)?;
        for (number, write) in (0..).zip(&script.writes) {
            if by_new_writers {
                writer = self.opened(0x10 + number)?;
                writer.check_found(&at)?;
            }
            self.deliver(&mut writer, write, &mut at)?;
        }
        self.end(&at)
    }

    /// Each message is somewhere, and nowhere twice in one thing.
    fn check_marks(&mut self, script: &Script, effect: &Effect) -> Result<(), Fall> {
        let counted: Vec<_> = script
            .marks
            .iter()
            .map(|mark| (mark, effect.count(mark)))
            .collect();
        if counted.iter().all(|(_, counts)| counts.is_empty()) {
            let note = "what is in its target cannot be read here: runs are compared with each other, and messages not looked for";
            self.notes.insert(note.into());
            return Ok(());
        }
        for (mark, counts) in counted {
            if counts.is_empty() {
                return fall(format!("message {mark} is there"), "it is nowhere");
            }
            if let Some((thing, count)) = counts.iter().find(|(_, count)| *count > 1) {
                return fall(
                    format!("message {mark} is in {thing} once"),
                    format!("it is there {count} times"),
                );
            }
        }
        Ok(())
    }

    // ----- cut off -----------------------------------------------------------------------------------------------------

    /// At each call of each write in turn, the opening before it too.
    fn cut_off(&mut self, script: &Script, expected: &Effect) -> Outcome {
        let then = match self.maker.is_transactional {
            true => "given what its tokens say is missing",
            false => "given the whole write again",
        };
        for number in 0..script.writes.len() {
            for call in 0..CALLS_MAX {
                let cut = Cut::after(call);
                let how = || {
                    let (at, write) = (cut.call().unwrap_or("no call"), number + 1);
                    format!(
                        "cut off at call {} of write {write} ({at}), opened anew, {then}",
                        call + 1
                    )
                };
                if self.attempt(script, how, |trial| trial.cut_at(script, number, &cut, expected))? {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the write came to its end before the cut.
    fn cut_at(&self, script: &Script, number: usize, cut: &Cut, expected: &Effect) -> Result<bool, Fall> {
        let (mut at, write) = (self.before(script, number)?, &script.writes[number]);
        let mut during = self.maker.writer(Some(cut.clone()))?;
        let opened = during.open_once(2);
        let put = opened.is_ok().then(|| during.put(write));
        if cut.call().is_none() {
            opened?;
            return match put {
                Some(Err(fault)) => fall("it is written", shown(&fault)),
                _ => Ok(true),
            };
        }
        drop(during);
        let mut after = self.opened(3)?;
        self.rest(&mut after, script, number, &mut at)?;
        self.compared(expected, &self.end(&at)?)?;
        Ok(false)
    }

    /// Written up to the write of this number by a writer that is gone.
    fn before(&self, script: &Script, number: usize) -> Result<Tokens, Fall> {
        self.clear()?;
        let (mut writer, mut at) = (self.opened(1)?, Tokens::new());
        for write in &script.writes[..number] {
            self.deliver(&mut writer, write, &mut at)?;
        }
        Ok(at)
    }

    /// From the write of this number on, which may have been written, or not.
    fn rest(&self, writer: &mut Writer, script: &Script, number: usize, at: &mut Tokens) -> Result<(), Fall> {
        let write = &script.writes[number];
        match writer.standing(at, write)? {
            Standing::Before => self.deliver(writer, write, at)?,
            Standing::Behind => advance(at, write),
        }
        for write in &script.writes[number + 1..] {
            self.deliver(writer, write, at)?;
        }
        Ok(())
    }

    // ----- two writers -------------------------------------------------------------------------------------------------

    /// Another writer comes while one is writing: before each of its calls in turn; it opens only, or writes too.
    fn another_writer(&mut self, script: &Script, expected: &Effect) -> Outcome {
        for number in 0..script.writes.len() {
            // Calls of opening come first: who opens later is the newer one, which is tried where one is fenced.
            let opening = self.attempt(
                script,
                || "written without any fault".into(),
                |trial| {
                    trial.before(script, number)?;
                    trial.calls_of_opening()
                },
            )?;
            for writes in [false, true] {
                for call in 0..CALLS_MAX {
                    let and = if writes {
                        "opened the target and wrote"
                    } else {
                        "opened the target"
                    };
                    let how = || {
                        format!(
                            "another writer {and} before call {} of write {}",
                            call + 1,
                            number + 1
                        )
                    };
                    let act = |trial: &mut Trial<'a>| {
                        trial.overtaken(script, (number, opening + call), writes, expected)
                    };
                    if self.attempt(script, how, act)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the write came to its end before the other writer came.
    fn overtaken(
        &self,
        script: &Script,
        (number, call): (usize, u64),
        writes: bool,
        expected: &Effect,
    ) -> Result<bool, Fall> {
        let (mut at, write) = (self.before(script, number)?, &script.writes[number]);
        let came: Arc<Mutex<Option<Came>>> = Arc::default();
        let other = {
            let (maker, at, write, came) = (self.maker.clone(), at.clone(), write.clone(), came.clone());
            move || *came.lock() = Some(overtakes(&maker, &at, &write, writes))
        };
        let cut = Cut::meanwhile(call, other);
        let mut older = self.maker.writer(Some(cut))?;
        older.open_once(2)?;
        let told = older.put(write);
        let Some(came) = came.lock().take() else {
            return Ok(true);
        };
        let (mut newer, found) = came?;
        match told {
            Ok(()) if found == Standing::Before => {
                return fall(
                    "the older writer is fenced",
                    "its write is confirmed, and the newer writer found nothing of it",
                );
            }
            Err(fault @ (PutFault::Stop(_) | PutFault::Refused(_))) => {
                return fall(
                    "the older writer is fenced, or the outcome uncertain",
                    shown(&fault),
                );
            }
            _ => {}
        }
        drop(older);
        match (found, writes) {
            (Standing::Before, false) => self.deliver(&mut newer, write, &mut at)?,
            _ => advance(&mut at, write),
        }
        for write in &script.writes[number + 1..] {
            self.deliver(&mut newer, write, &mut at)?;
        }
        self.compared(expected, &self.end(&at)?)?;
        Ok(false)
    }

    fn calls_of_opening(&self) -> Result<u64, Fall> {
        let cut = Cut::after(u64::MAX);
        self.maker.writer(Some(cut.clone()))?.open_once(2)?;
        Ok(u64::MAX - cut.left())
    }

    /// A writer goes on after another one has opened the target.
    fn fenced(&mut self, script: &Script, expected: &Effect) -> Outcome {
        let nothing = Write::default();
        for number in 0..script.writes.len() {
            for is_proof in [false, true] {
                let how = || match is_proof {
                    true => {
                        "an older writer proved without a message that it is still the only one".to_owned()
                    }
                    false => format!("an older writer went on with write {}", number + 1),
                };
                self.attempt(script, how, |trial| {
                    let (mut at, write) = (trial.before(script, number)?, &script.writes[number]);
                    let mut older = trial.opened(2)?;
                    let mut newer = trial.opened(3)?;
                    let put = older.put(if is_proof { &nothing } else { write });
                    check_fenced(put)?;
                    trial.rest(&mut newer, script, number, &mut at)?;
                    trial.compared(expected, &trial.end(&at)?)
                })?;
            }
        }
        Ok(())
    }

    // ----- the same again ----------------------------------------------------------------------------------------------

    /// Every write twice, by the same writer and by a new one.
    fn again(&mut self, script: &Script, expected: &Effect) -> Outcome {
        for by_new_writer in [false, true] {
            let how = || match by_new_writer {
                true => "each write was made again by a new writer".to_owned(),
                false => "each write was made twice".to_owned(),
            };
            self.attempt(script, how, |trial| {
                trial.clear()?;
                let (mut writer, mut at) = (trial.opened(1)?, Tokens::new());
                for write in &script.writes {
                    trial.deliver(&mut writer, write, &mut at)?;
                    if by_new_writer {
                        writer = trial.opened(2)?;
                    }
                    trial.deliver(&mut writer, write, &mut at)?;
                }
                trial.compared(expected, &trial.end(&at)?)
            })?;
        }
        Ok(())
    }

    /// The server takes a request, and its answer is lost: each request in turn.
    fn unanswered(&mut self, script: &Script, expected: &Effect) -> Outcome {
        for request in 0..CALLS_MAX {
            let how = || format!("the answer to request {} was lost", request + 1);
            let is_through = self.attempt(script, how, |trial| {
                trial.clear()?;
                trial.place.server.loses_answer(request);
                let (mut writer, mut at) = (trial.opened(1)?, Tokens::new());
                for write in &script.writes {
                    trial.deliver(&mut writer, write, &mut at)?;
                }
                let is_through = trial.place.server.requests() <= request;
                trial.compared(expected, &trial.end(&at)?)?;
                Ok(is_through)
            })?;
            if is_through {
                break;
            }
        }
        Ok(())
    }

    // ----- what attacks are made of ------------------------------------------------------------------------------------

    /// One attack; `how` it was made is asked for where it succeeds.
    fn attempt<T>(
        &mut self,
        script: &Script,
        how: impl FnOnce() -> String,
        act: impl FnOnce(&mut Self) -> Result<T, Fall>,
    ) -> Result<T, Broken> {
        self.attacks += 1;
        self.messages += script
            .writes
            .iter()
            .map(|write| write.messages() as u64)
            .sum::<u64>();
        act(self).map_err(|fall| Broken { how: how(), fall })
    }

    fn clear(&self) -> Result<(), Fall> {
        self.place.clear().or_else(|why| fall("an empty place", why))
    }

    fn opened(&self, number: u8) -> Result<Writer, Fall> {
        let mut writer = self.maker.writer(None)?;
        writer.open(number)?;
        Ok(writer)
    }

    fn deliver(&self, writer: &mut Writer, write: &Write, at: &mut Tokens) -> Result<(), Fall> {
        writer.deliver(write, 9)?;
        advance(at, write);
        Ok(())
    }

    /// What is there, and that the tokens are found.
    fn end(&self, at: &Tokens) -> Result<Effect, Fall> {
        self.opened(LAST)?.check_found(at)?;
        self.place
            .effect()
            .or_else(|why| fall("it can be looked at", why))
    }

    fn compared(&self, expected: &Effect, got: &Effect) -> Result<(), Fall> {
        match got.differs(expected, &|thing| self.books.contains(thing)) {
            None => Ok(()),
            Some(difference) => fall(
                format!("{}: {}", difference.thing, difference.expected),
                format!("{}: {}", difference.thing, difference.got),
            ),
        }
    }
}

/// What the other writer does, while the older one is at work.
fn overtakes(maker: &Maker, at: &Tokens, write: &Write, writes: bool) -> Came {
    let mut newer = maker.writer(None)?;
    newer.open(5)?;
    let found = newer.standing(at, write)?;
    if writes && found == Standing::Before {
        newer.deliver(write, 6)?;
    }
    Ok((newer, found))
}

fn check_fenced(put: Result<(), PutFault>) -> Result<(), Fall> {
    const EXPECTED: &str = "it is fenced";
    match put {
        Err(PutFault::Fenced(_) | PutFault::Uncertain(_)) => Ok(()),
        Ok(()) => fall(EXPECTED, "it is written, and confirmed"),
        Err(fault) => fall(EXPECTED, shown(&fault)),
    }
}

fn advance(at: &mut Tokens, write: &Write) {
    for token in &write.tokens {
        at.insert(token.stream.clone(), token.clone());
    }
}
