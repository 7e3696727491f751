//! Tokens from elsewhere than where their stream stands.

use super::super::script::{Script, Write, mark};
use super::super::writer::Tokens;
use super::{Outcome, Trial, advance, check_fenced};
use crate::plugin::testing::message::{Message, placed};
use crate::plugin::testing::place::Effect;
use culvert_host::Token;

/// What a message is called that must not be there.
const FORBIDDEN: usize = 99_999;

impl Trial<'_> {
    /// Tokens that do not go on where their stream stands.
    pub(super) fn tokens_from_elsewhere(&mut self, script: &Script, expected: &Effect) -> Outcome {
        let mut at = Tokens::new();
        script.writes.iter().for_each(|write| advance(&mut at, write));
        let moved = |token: &Token, from: u64, to: u64, incarnation: u32| Token {
            from,
            to,
            incarnation,
            ..token.clone()
        };
        let mut wrong = Vec::new();
        if let Some(last) = at.values().next() {
            let (to, incarnation) = (last.to, last.incarnation);
            wrong.push((
                "a token that begins behind where its stream stands",
                moved(last, to + 3, to + 5, incarnation),
            ));
            wrong.push((
                "a token that begins before where its stream stands",
                moved(last, last.from, to, incarnation),
            ));
        }
        if let Some(last) = at.values().find(|token| token.incarnation > 0) {
            let lower = moved(last, last.to, last.to + 2, last.incarnation - 1);
            wrong.push(("a token of a lower incarnation", lower));
        }
        for (what, token) in wrong {
            self.attempt(
                script,
                || format!("{what} was put behind the last write"),
                |trial| {
                    let at = trial.before(script, script.writes.len())?;
                    let mut writer = trial.opened(2)?;
                    let message = trial.material.form.message(&mark(FORBIDDEN), FORBIDDEN);
                    let put = writer.put(&trial.one(script, &token, &message));
                    check_fenced(put)?;
                    trial.compared(expected, &trial.end(&at)?)
                },
            )?;
        }
        Ok(())
    }

    /// A higher incarnation begins a stream anew, anywhere.
    pub(super) fn begun_anew(&mut self, script: &Script) -> Outcome {
        let Some(last) = script
            .writes
            .iter()
            .flat_map(|write| &write.tokens)
            .next_back()
            .cloned()
        else {
            return Ok(());
        };
        let token = Token {
            incarnation: last.incarnation + 1,
            from: 50,
            to: 52,
            position: b"anew".to_vec(),
            ..last
        };
        self.attempt(
            script,
            || "its stream was begun anew, with a higher incarnation".into(),
            |trial| {
                let mut at = trial.before(script, script.writes.len())?;
                let mut writer = trial.opened(2)?;
                let message = trial.material.form.message(&mark(FORBIDDEN), FORBIDDEN);
                let write = trial.one(script, &token, &message);
                trial.deliver(&mut writer, &write, &mut at)?;
                trial.end(&at).map(drop)
            },
        )
    }

    /// One message with one token, of a stream of the script.
    fn one(&self, script: &Script, token: &Token, message: &Message) -> Write {
        let parts = script.writes.iter().flat_map(|write| &write.parts);
        let part = parts.into_iter().find(|part| part.id() == token.stream).cloned();
        let part = part.map(|mut part| {
            (part.from, part.to) = (token.from, token.to);
            part.messages = placed(token.from, [message.clone()]);
            part
        });
        Write {
            parts: part.into_iter().collect(),
            tokens: vec![token.clone()],
        }
    }
}
