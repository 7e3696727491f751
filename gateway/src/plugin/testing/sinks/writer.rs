//! Whoever writes to a sink under test, as a gateway does: opened, it reads the tokens, and goes on from there.

use super::script::Write;
use crate::plugin::testing::message::columns_from;
use crate::plugin::testing::place::Place;
use crate::plugin::testing::subject::Silent;
use culvert_host::{Cut, Limits, OpenError, Plugin, PutFault, Sink, Stream, Surroundings, Token, Written};
use culvert_proto::Sequence;
use culvert_proto::columns::Columns;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often the same write is tried: what asks to be tried again for ever is broken.
const ATTEMPTS_MAX: usize = 6;

/// What was to be and what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fall {
    pub(super) expected: String,
    pub(super) got: String,
}

pub(super) fn fall<T>(expected: impl Into<String>, got: impl Into<String>) -> Result<T, Fall> {
    Err(Fall {
        expected: expected.into(),
        got: got.into(),
    })
}

/// Tokens by stream.
pub(super) type Tokens = BTreeMap<String, Token>;

/// What a writer is made from; cheap to clone.
#[derive(Clone)]
pub(super) struct Maker {
    pub(super) plugin: Plugin,
    pub(super) limits: Limits,
    pub(super) settings: Arc<Vec<(String, Option<String>)>>,
    pub(super) around: Surroundings,
    pub(super) is_transactional: bool,
}

impl Maker {
    pub(super) fn new(plugin: &Plugin, limits: &Limits, place: &Place) -> Maker {
        Maker {
            plugin: plugin.clone(),
            limits: limits.clone(),
            settings: Arc::new(place.settings.clone()),
            around: Surroundings::new(Arc::new(Silent)).granting(place.grants.clone()),
            is_transactional: plugin.description.promises.transactional,
        }
    }

    /// Nothing of the plugin runs yet.
    pub(super) fn writer(&self, cut: Option<Cut>) -> Result<Writer, Fall> {
        let mut around = self.around.clone();
        around.cut = cut;
        let sink = Sink::new(&self.plugin, &self.settings, self.limits.clone(), around);
        match sink {
            Ok(sink) => Ok(Writer {
                sink,
                is_transactional: self.is_transactional,
                found: Tokens::new(),
            }),
            Err(error) => fall("it can be linked", error.to_string()),
        }
    }
}

/// One writer of the target.
pub(super) struct Writer {
    pub(super) sink: Sink,
    is_transactional: bool,
    /// Where each stream stands, as it found them and as far as it wrote.
    pub(super) found: Tokens,
}

/// Where the target stands to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Before,
    Behind,
}

impl Writer {
    /// Opens a fresh instance as the writer of this number.
    pub(super) fn open(&mut self, number: u8) -> Result<(), Fall> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS_MAX {
            last = match self.sink.open([number; 16]) {
                Ok(tokens) => {
                    let named = tokens.into_iter().map(|token| (token.stream.clone(), token));
                    self.found = named.collect();
                    return Ok(());
                }
                Err(OpenError::Retry { reason, .. }) => format!("it asks to be opened again: {reason}"),
                Err(error) => return fall("it opens", format!("it does not open: {error}")),
            };
        }
        fall("it opens", last)
    }

    /// The same, tried once.
    pub(super) fn open_once(&mut self, number: u8) -> Result<(), Fall> {
        match self.sink.open([number; 16]) {
            Ok(tokens) => {
                let named = tokens.into_iter().map(|token| (token.stream.clone(), token));
                self.found = named.collect();
                Ok(())
            }
            Err(error) => fall("it opens", format!("it does not open: {error}")),
        }
    }

    pub(super) fn put(&mut self, write: &Write) -> Result<(), PutFault> {
        let batches = write.parts.iter().map(batch).collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(PutFault::Stop)?;
        let written = write.parts.iter().zip(&batches).map(|(part, records)| Written {
            stream: Stream {
                id: part.id(),
                topic: part.topic(),
                partition: 0,
            },
            attributes: &[],
            is_whole: false,
            records,
        });
        let written: Vec<Written<'_>> = written.collect();
        self.sink.put(&written, &write.tokens)?;
        for token in &write.tokens {
            self.found.insert(token.stream.clone(), token.clone());
        }
        Ok(())
    }

    /// Puts as a gateway does: what asks for it is put again, and what is not known is read from a fresh instance's tokens.
    /// `number` is the writer it becomes then.
    pub(super) fn deliver(&mut self, write: &Write, number: u8) -> Result<(), Fall> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS_MAX {
            let before = self.found.clone();
            last = match self.put(write) {
                Ok(()) => return Ok(()),
                Err(PutFault::Retry { reason, .. }) => format!("it asks to be tried again: {reason}"),
                Err(PutFault::Stop(reason)) => {
                    return fall("it is written", format!("it stops the connector: {reason}"));
                }
                Err(PutFault::Refused(refusals)) => {
                    let why = refusals
                        .first()
                        .map_or("", |refusal| refusal.rejection.reason.as_str());
                    return fall(
                        "it is written",
                        format!("{} messages are refused: {why}", refusals.len()),
                    );
                }
                Err(fault) => {
                    let said = shown(&fault);
                    self.open(number)?;
                    if self.standing(&before, write)? == Standing::Behind {
                        return Ok(());
                    }
                    said
                }
            };
        }
        fall(
            "it is written",
            format!("after {ATTEMPTS_MAX} attempts it is not: {last}"),
        )
    }

    /// Where the target stands, which stood at `before`, now that `write` may have been written.
    pub(super) fn standing(&self, before: &Tokens, write: &Write) -> Result<Standing, Fall> {
        if !self.is_transactional {
            return Ok(Standing::Before);
        }
        let mut behind = before.clone();
        for token in &write.tokens {
            behind.insert(token.stream.clone(), token.clone());
        }
        let is = |tokens: &Tokens| same(tokens, &self.found);
        if is(&behind) {
            Ok(Standing::Behind)
        } else if is(before) {
            Ok(Standing::Before)
        } else {
            fall(
                format!("tokens {} or {}", told(before), told(&behind)),
                format!("tokens {}", told(&self.found)),
            )
        }
    }

    /// Whether it found these tokens.
    pub(super) fn check_found(&self, expected: &Tokens) -> Result<(), Fall> {
        if !self.is_transactional || same(expected, &self.found) {
            return Ok(());
        }
        fall(
            format!("tokens {}", told(expected)),
            format!("tokens {}", told(&self.found)),
        )
    }
}

fn batch(part: &super::script::Part) -> Result<Columns, String> {
    let mut columns = columns_from(part.from, &part.messages)?;
    columns.cover(Sequence(part.to));
    Ok(columns)
}

/// From where they were moved says nothing: it is where they are that counts.
fn same(one: &Tokens, other: &Tokens) -> bool {
    let is_same = |(one, other): (&Token, &Token)| {
        (&one.stream, one.incarnation, one.to, &one.position)
            == (&other.stream, other.incarnation, other.to, &other.position)
    };
    one.len() == other.len() && one.values().zip(other.values()).all(is_same)
}

pub(super) fn told(tokens: &Tokens) -> String {
    let one = |token: &Token| {
        let Token {
            stream,
            incarnation,
            to,
            position,
            ..
        } = token;
        format!(
            "{stream} at {to} (incarnation {incarnation}, {:?})",
            String::from_utf8_lossy(position)
        )
    };
    match tokens.len() {
        0 => "none".into(),
        _ => tokens.values().map(one).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn shown(fault: &PutFault) -> String {
    match fault {
        PutFault::Refused(refusals) => format!("{} messages refused", refusals.len()),
        PutFault::Retry { reason, .. } => format!("to be tried again: {reason}"),
        PutFault::Stop(reason) => format!("fatal: {reason}"),
        PutFault::Uncertain(reason) => format!("uncertain: {reason}"),
        PutFault::Fenced(reason) => format!("fenced: {reason}"),
        PutFault::Poison { poison, .. } => format!("no answer: {poison}"),
    }
}
