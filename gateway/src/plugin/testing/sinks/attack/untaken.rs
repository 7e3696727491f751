//! Messages that a sink refuses, or at which it does not come back.

use super::super::script::Script;
use super::super::writer::{Fall, fall, shown};
use super::{Outcome, Trial};
use crate::plugin::testing::message::Message;
use crate::plugin::testing::place::Effect;
use culvert_host::PutFault;

impl Trial<'_> {
    /// Of a write, a message is refused, or the sink does not come back at it: without it, the rest is written.
    pub(super) fn not_taken(&mut self, script: &Script, expected: &Effect) -> Outcome {
        let Some(number) = script
            .writes
            .iter()
            .position(|write| write.with(&Message::default()).is_some())
        else {
            return Ok(());
        };
        let material = self.material;
        for message in &material.refused {
            for by_new_writer in [false, true] {
                // A sink that is idempotent alone may have written the others: they are written again.
                if by_new_writer && !self.maker.is_transactional {
                    continue;
                }
                let how = || {
                    let then = if by_new_writer {
                        ", and the target opened anew"
                    } else {
                        ""
                    };
                    format!(
                        "a message of write {} is refused: {}{then}",
                        number + 1,
                        message.shown()
                    )
                };
                self.attempt(script, how, |trial| {
                    trial.refused(script, number, message, by_new_writer, expected)
                })?;
            }
        }
        for message in &material.deadly {
            let how = || {
                format!(
                    "it does not come back at a message of write {}: {}",
                    number + 1,
                    message.shown()
                )
            };
            self.attempt(script, how, |trial| {
                let (mut at, write) = (trial.before(script, number)?, &script.writes[number]);
                let mut writer = trial.opened(2)?;
                let put = write.with(message).map(|(with, _)| writer.put(&with));
                match put {
                    Some(Err(PutFault::Poison { .. })) => {}
                    Some(Err(fault)) => return fall("it traps, as it does alone", shown(&fault)),
                    Some(Ok(())) | None => return fall("it traps, as it does alone", "it is written"),
                }
                drop(writer);
                let mut after = trial.opened(3)?;
                trial.rest(&mut after, script, number, &mut at)?;
                trial.compared_apart(script, expected, &trial.end(&at)?)
            })?;
        }
        Ok(())
    }

    fn refused(
        &self,
        script: &Script,
        number: usize,
        message: &Message,
        by_new_writer: bool,
        expected: &Effect,
    ) -> Result<(), Fall> {
        let (mut at, write) = (self.before(script, number)?, &script.writes[number]);
        let mut writer = self.opened(2)?;
        let Some((with, place)) = write.with(message) else {
            return Ok(());
        };
        match writer.put(&with) {
            Err(PutFault::Refused(refusals)) => {
                let named: Vec<_> = refusals.iter().map(|one| (one.batch, one.record)).collect();
                if named != [place] {
                    return fall(
                        format!(
                            "message {} of batch {} is refused, as it is alone",
                            place.1, place.0
                        ),
                        format!("refused are {named:?}, as (batch, message)"),
                    );
                }
            }
            Err(fault) => return fall("it is refused, as it is alone", shown(&fault)),
            Ok(()) => return fall("it is refused, as it is alone", "it is written"),
        }
        // Nothing was written, for certain: the same writer goes on, and a new one finds what was there before.
        if by_new_writer {
            writer = self.opened(3)?;
            writer.check_found(&at)?;
        }
        for write in &script.writes[number..] {
            self.deliver(&mut writer, write, &mut at)?;
        }
        self.compared_apart(script, expected, &self.end(&at)?)
    }

    /// Where a message was taken out of a write, an idempotent sink may have put the others into other things than it puts
    /// the whole write into: then each message counts.
    fn compared_apart(&self, script: &Script, expected: &Effect, got: &Effect) -> Result<(), Fall> {
        let is_seen = script.marks.iter().any(|mark| total(expected, mark) > 0);
        if self.maker.is_transactional || !is_seen {
            return self.compared(expected, got);
        }
        for mark in &script.marks {
            let (expected, got) = (total(expected, mark), total(got, mark));
            if expected != got {
                return fall(
                    format!("message {mark} is there {expected} times"),
                    format!("it is there {got} times"),
                );
            }
        }
        Ok(())
    }
}

/// How often a message is there, in all things together.
fn total(effect: &Effect, mark: &str) -> usize {
    effect.count(mark).iter().map(|(_, count)| count).sum()
}
