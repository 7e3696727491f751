//! Records that go to another topic.

use super::{Flow, Opened, Step};
use crate::date::Pattern;
use crate::record::Record;
use crate::settings::{Given, Mistakes};
use culvert_plugin::Rejection;
use regex_lite::{Captures, Regex};
use std::cell::RefCell;

/// The topic with the record's time in it.
pub(super) struct TimestampRouter {
    topic: String,
    timestamp: Pattern,
}

impl TimestampRouter {
    pub(super) fn open(given: &Given) -> Opened {
        let timestamp = Pattern::parse(&given.string("timestamp.format"));
        Ok(Box::new(TimestampRouter {
            topic: given.string("topic.format"),
            timestamp: timestamp.map_err(|mistake| vec![("timestamp.format", mistake)])?,
        }))
    }
}

impl Step for TimestampRouter {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let timestamp = record.timestamp.ok_or_else(|| {
            Rejection::new(
                "no-timestamp",
                "TimestampRouter needs a timestamp, and there is none",
            )
        })?;
        let topic = self.topic.replace("${topic}", &record.topic);
        let topic = topic.replace("${timestamp}", &self.timestamp.format(timestamp));
        record.reroute(topic);
        Ok(Flow::GoesOn)
    }
}

/// The topic by a regular expression.
pub(super) struct RegexRouter {
    /// The whole topic.
    whole: Regex,
    /// The match in it that is replaced.
    first: Regex,
    replacement: Vec<Piece>,
    /// The last topic, and what it became: topics come in runs.
    last: RefCell<Option<(String, Option<String>)>>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Literal(String),
    Group(usize),
    Named(String),
}

impl RegexRouter {
    pub(super) fn open(given: &Given) -> Opened {
        let text = given.string("regex");
        let mut mistakes = Mistakes::new();
        let compile = |text: &str| {
            Regex::new(text).map_err(|error| {
                let why = format!("cannot be read: {error}; look-around and back references are not offered");
                ("regex", why)
            })
        };
        let compiled = compile(&text).and_then(|first| Ok((compile(&format!("^(?:{text})$"))?, first)));
        let groups = compiled.as_ref().ok().map(|(_, first)| first);
        let replacement = pieces(&given.string("replacement"), groups);
        match (compiled, replacement) {
            (Ok((whole, first)), Ok(replacement)) => Ok(Box::new(RegexRouter {
                whole,
                first,
                replacement,
                last: RefCell::new(None),
            })),
            (compiled, replacement) => {
                mistakes.extend(compiled.err());
                mistakes.extend(replacement.err().map(|mistake| ("replacement", mistake)));
                Err(mistakes)
            }
        }
    }

    fn routed(&self, topic: &str) -> Option<String> {
        if !self.whole.is_match(topic) {
            return None;
        }
        // Connect replaces the first match, which may be shorter than the whole.
        let groups = self.first.captures(topic)?;
        let found = groups.get(0)?;
        let mut routed = topic[..found.start()].to_owned();
        for piece in &self.replacement {
            routed.push_str(piece.of(&groups));
        }
        routed.push_str(&topic[found.end()..]);
        Some(routed)
    }
}

impl Piece {
    /// A group that took no part is empty.
    fn of<'a>(&'a self, groups: &'a Captures<'_>) -> &'a str {
        let group = match self {
            Piece::Literal(literal) => return literal,
            Piece::Group(number) => groups.get(*number),
            Piece::Named(name) => groups.name(name),
        };
        group.map_or("", |group| group.as_str())
    }
}

/// A replacement of `java.util.regex.Matcher`: `$1` and `${name}` are groups, a backslash makes the next character plain.
/// A number takes as many digits as there are groups for.
fn pieces(text: &str, regex: Option<&Regex>) -> Result<Vec<Piece>, String> {
    let groups = regex.map_or(usize::MAX, Regex::captures_len);
    let is_named =
        |name: &str| regex.is_none_or(|regex| regex.capture_names().any(|known| known == Some(name)));
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\\' => literal.push(
                rest.next()
                    .ok_or("ends with a backslash that makes nothing plain")?,
            ),
            '$' => {
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                if rest.next_if_eq(&'{').is_some() {
                    let name: String = std::iter::from_fn(|| rest.next_if(|next| *next != '}')).collect();
                    if rest.next().is_none() || !is_named(&name) {
                        return Err(format!("names the group {name:?}, which regex has not"));
                    }
                    pieces.push(Piece::Named(name));
                    continue;
                }
                let digit = rest.next().and_then(|digit| digit.to_digit(10));
                let mut number =
                    digit.ok_or("has a $ without a group; write \\$ for the character")? as usize;
                if number >= groups {
                    return Err(format!("names the group {number}, which regex has not"));
                }
                while let Some(digit) = rest.peek().and_then(|digit| digit.to_digit(10)) {
                    let longer = number.saturating_mul(10).saturating_add(digit as usize);
                    if longer >= groups {
                        break;
                    }
                    number = longer;
                    rest.next();
                }
                pieces.push(Piece::Group(number));
            }
            other => literal.push(other),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

impl Step for RegexRouter {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let mut last = self.last.borrow_mut();
        let is_known = last.as_ref().is_some_and(|(topic, _)| *topic == record.topic);
        if !is_known {
            *last = Some((record.topic.clone().into_owned(), self.routed(&record.topic)));
        }
        if let Some((_, Some(routed))) = &*last {
            record.reroute(routed.clone());
        }
        Ok(Flow::GoesOn)
    }
}
