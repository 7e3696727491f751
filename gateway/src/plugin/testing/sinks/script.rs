//! What is written to a sink under test: a script of writes to several streams, with tokens. Each message holds a mark of its
//! own, by which it is found again in what the sink leaves behind.

use crate::plugin::testing::generate::Dice;
use crate::plugin::testing::message::{Message, Placed};
use culvert_host::Token;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Streams: what they are called, their topic, how often they were begun anew, and the place at which the test begins.
const STREAMS: [(&str, &str, u32, u64); 4] = [
    ("site/orders/0@00", "orders", 0, 0),
    ("site/orders/1@00", "orders", 1, 100),
    ("site/returns/0@00", "returns", 0, 7),
    ("other/orders/0@00", "orders", 3, 1 << 40),
];

/// The most writes and the most messages of one batch. By eye: a write is cut off at each of its calls.
const WRITES_MAX: usize = 5;
const MESSAGES_MAX: usize = 30;

/// Messages of one stream, as one batch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) stream: usize,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) messages: Vec<Placed>,
}

impl Part {
    pub(super) fn id(&self) -> &'static str {
        STREAMS[self.stream].0
    }

    pub(super) fn topic(&self) -> &'static str {
        STREAMS[self.stream].1
    }
}

/// One atomic write.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Write {
    pub(super) parts: Vec<Part>,
    pub(super) tokens: Vec<Token>,
}

/// Writes, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Script {
    pub(super) writes: Vec<Write>,
    pub(super) marks: Vec<String>,
}

/// How a message that the sink takes is made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// A JSON object of a mark and little else.
    Object,
    /// A mark and nothing else.
    Text,
    /// A JSON object of a case, with the mark as one member more.
    Case(Map<String, Value>),
    /// A message of a case: its mark is nowhere.
    Unmarked(Message),
}

impl Form {
    pub(super) fn message(&self, mark: &str, number: usize) -> Message {
        let mut message = match self {
            Form::Object => Message::of_value(json!({ "mark": mark, "amount": number }).to_string()),
            Form::Text => Message::of_value(mark),
            Form::Case(object) => {
                let mut object = object.clone();
                object.insert("mark".into(), mark.into());
                Message::of_value(Value::Object(object).to_string())
            }
            Form::Unmarked(message) => message.clone(),
        };
        if !matches!(self, Form::Unmarked(_)) {
            message.key = Some(format!("k{}", number % 3).into_bytes());
            message.timestamp = Some(1_700_000_000_000 + number as i64);
        }
        message
    }

    pub(super) fn is_marked(&self) -> bool {
        !matches!(self, Form::Unmarked(_))
    }
}

/// No mark is a part of another.
pub(super) fn mark(number: usize) -> String {
    format!("m{number:05}e")
}

/// Writes scripts.
struct Author<'a> {
    form: &'a Form,
    script: Script,
    /// Where each stream stands.
    at: [u64; STREAMS.len()],
    number: usize,
}

impl Script {
    /// The smallest one that has a bit of everything: one stream, two together, a token without messages, a place without a
    /// message, the first tokens of a stream in the middle of it.
    pub(super) fn small(form: &Form) -> Script {
        let mut author = Author::new(form);
        author.write(&[(0, &[true, true])]);
        author.write(&[(0, &[true, true]), (1, &[true, true])]);
        author.write(&[(0, &[])]);
        author.write(&[(1, &[true]), (0, &[true, false, true])]);
        author.script
    }

    /// Anything.
    pub(super) fn random(form: &Form, dice: &mut Dice) -> Script {
        let mut author = Author::new(form);
        for _ in 0..2 + dice.below(WRITES_MAX - 1) {
            let streams: Vec<usize> = (0..STREAMS.len()).filter(|_| dice.below(2) == 0).collect();
            let places: Vec<(usize, Vec<bool>)> = streams
                .into_iter()
                .map(|stream| {
                    let count = dice.below(MESSAGES_MAX + 1);
                    (stream, (0..count).map(|_| dice.below(8) > 0).collect())
                })
                .collect();
            let places: Vec<(usize, &[bool])> = places
                .iter()
                .map(|(stream, places)| (*stream, places.as_slice()))
                .collect();
            author.write(&places);
        }
        author.script
    }

    /// Without tokens, and without what is nothing then: as a sink is written to that keeps none.
    pub(super) fn without_tokens(mut self) -> Script {
        for write in &mut self.writes {
            write.tokens.clear();
        }
        self.writes.retain(|write| !write.parts.is_empty());
        self
    }

    /// One line for each write.
    pub(super) fn shown(&self) -> Vec<String> {
        (1..)
            .zip(&self.writes)
            .map(|(number, write)| write.shown(number))
            .collect()
    }
}

impl Write {
    pub(super) fn messages(&self) -> usize {
        self.parts.iter().map(|part| part.messages.len()).sum()
    }

    fn shown(&self, number: usize) -> String {
        let mut text = format!("write {number}:");
        for part in &self.parts {
            let _ = write!(
                text,
                " {} {} of places {} to {},",
                part.messages.len(),
                part.id(),
                part.from,
                part.to
            );
        }
        let token = |token: &Token| format!("{} {}→{}", token.stream, token.from, token.to);
        let tokens: Vec<String> = self.tokens.iter().map(token).collect();
        match tokens.as_slice() {
            [] => text.trim_end_matches(',').to_owned(),
            tokens => format!("{text} tokens {}", tokens.join(", ")),
        }
    }

    /// The same with one more message, at a place between two others that has none; and where it is: its batch, and its
    /// number there.
    pub(super) fn with(&self, strange: &Message) -> Option<(Write, (usize, usize))> {
        let (part, index, sequence) = self.hole()?;
        let mut write = self.clone();
        let placed = Placed {
            sequence,
            message: strange.clone(),
        };
        write.parts[part].messages.insert(index, placed);
        Some((write, (part, index)))
    }

    fn hole(&self) -> Option<(usize, usize, u64)> {
        for (number, part) in self.parts.iter().enumerate() {
            for (index, pair) in part.messages.windows(2).enumerate() {
                if pair[0].sequence + 1 < pair[1].sequence {
                    return Some((number, index + 1, pair[0].sequence + 1));
                }
            }
        }
        None
    }
}

impl Author<'_> {
    fn new(form: &Form) -> Author<'_> {
        Author {
            form,
            script: Script::default(),
            at: STREAMS.map(|(_, _, _, at)| at),
            number: 0,
        }
    }

    /// A write of these streams; for each of their places, whether it has a message.
    fn write(&mut self, streams: &[(usize, &[bool])]) {
        let mut write = Write::default();
        for (stream, places) in streams {
            let (id, _, incarnation, _) = STREAMS[*stream];
            let from = self.at[*stream];
            // A token alone passes places that have no message.
            let to = from + (places.len() as u64).max(2);
            self.at[*stream] = to;
            write.tokens.push(Token {
                stream: id.into(),
                incarnation,
                from,
                to,
                position: format!("note of {to}").into_bytes(),
            });
            let held: Vec<u64> = (from..)
                .zip(*places)
                .filter(|(_, is)| **is)
                .map(|(at, _)| at)
                .collect();
            if held.is_empty() {
                continue;
            }
            let messages = held.into_iter().map(|sequence| Placed {
                sequence,
                message: self.message(),
            });
            write.parts.push(Part {
                stream: *stream,
                from,
                to,
                messages: messages.collect(),
            });
        }
        self.script.writes.push(write);
    }

    fn message(&mut self) -> Message {
        self.number += 1;
        let mark = mark(self.number);
        let message = self.form.message(&mark, self.number);
        if self.form.is_marked() {
            self.script.marks.push(mark);
        }
        message
    }
}
