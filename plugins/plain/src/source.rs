//! Where values come from: plain JSON, or the contract's tree. What writes a format reads both in the same way.

use crate::json::{self, Json, NotJson, Token};
use crate::number::shortest;
use crate::trouble::{DEPTH_MAX, Outcome, Trouble, code};
use culvert_plugin::codec::{Node, Tree};
use std::borrow::Cow;
use std::cell::Cell;

/// A payload that is JSON.
///
/// # Errors
/// `not-json`, also where values lie too deep in each other.
pub fn parsed(text: &[u8]) -> Outcome<Json<'_>> {
    Json::parse(text, DEPTH_MAX as usize)
        .map_err(|NotJson { at, why }| Trouble::new(code::NOT_JSON, format!("at byte {at}, {why}")))
}

/// Where values come from.
pub trait Source<'a> {
    /// Places of values.
    type Items: Iterator<Item = u32>;
    /// Keys with places of values.
    type Members: Iterator<Item = (Cow<'a, str>, u32)> + Clone;

    /// Whether texts may stand for bytes, decimals and times, as they do in JSON.
    const IS_JSON: bool;

    /// The value at a place; the root is at 0.
    fn view(&self, at: u32) -> Outcome<View<'a>>;
    /// How many items or keys it holds.
    fn count(&self, at: u32) -> usize;
    /// The items of a list; nothing for what is none.
    fn items(&self, at: u32) -> Self::Items;
    /// The keys of an object with their values; nothing for what is none.
    fn members(&self, at: u32) -> Self::Members;
}

/// One value, without what it holds.
#[derive(Clone, Debug)]
pub enum View<'a> {
    /// Null.
    Null,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Above what has a sign: a tree's alone, JSON's is a `Number`.
    Unsigned(u64),
    /// JSON's, with a point, an exponent or more than 64 bits.
    Number(&'a str),
    /// A tree's: any number of 64 bits.
    Float(f64),
    /// A tree's: big-endian two's complement in as few bytes as there can be, and the scale.
    Decimal(&'a [u8], i32),
    /// A text.
    Text(Cow<'a, str>),
    /// A tree's.
    Bytes(&'a [u8]),
    /// Microseconds.
    Timestamp(i64),
    /// Since 1970-01-01.
    Days(i32),
    /// A list.
    Items,
    /// An object.
    Entries,
}

impl View<'_> {
    /// What it is, for a sentence.
    pub fn title(&self) -> &'static str {
        match self {
            View::Null => "null",
            View::Boolean(_) => "a boolean",
            View::Integer(_) | View::Unsigned(_) | View::Number(_) | View::Float(_) => "a number",
            View::Decimal(..) => "a decimal",
            View::Text(_) => "a text",
            View::Bytes(_) => "bytes",
            View::Timestamp(_) => "a timestamp",
            View::Days(_) => "a date",
            View::Items => "a list",
            View::Entries => "an object",
        }
    }
}
impl<'j, 'a> Source<'a> for &'j Json<'a> {
    type Items = json::Items<'j, 'a>;
    type Members = JsonMembers<'j, 'a>;
    const IS_JSON: bool = true;

    fn view(&self, at: u32) -> Outcome<View<'a>> {
        Ok(match self.token(at) {
            Token::Null => View::Null,
            Token::Boolean(truth) => View::Boolean(truth),
            Token::Number(text) => text.parse().map_or(View::Number(text), View::Integer),
            Token::Text(text) => View::Text(text.read()),
            Token::Array(_) => View::Items,
            Token::Object(_) => View::Entries,
        })
    }

    fn count(&self, at: u32) -> usize {
        match self.token(at) {
            Token::Array(count) | Token::Object(count) => count as usize,
            _ => 0,
        }
    }

    fn items(&self, at: u32) -> Self::Items {
        Json::items(self, at)
    }

    fn members(&self, at: u32) -> Self::Members {
        JsonMembers(Json::members(self, at))
    }
}

/// The members of an object of JSON.
#[derive(Clone)]
pub struct JsonMembers<'j, 'a>(json::Members<'j, 'a>);

impl<'a> Iterator for JsonMembers<'_, 'a> {
    type Item = (Cow<'a, str>, u32);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, at)| (key.read(), at))
    }
}

/// A tree of the contract. It comes from outside: a node that two containers hold would be written twice, and in ever
/// more ways with each level, so no more values are looked at than there are nodes.
pub struct Nodes<'a> {
    nodes: &'a [Node],
    looks: Cell<usize>,
}

impl<'a> Nodes<'a> {
    /// A tree that was looked through: each node has one parent before it, and entries are texts with values.
    ///
    /// # Errors
    /// `malformed`.
    pub fn new(tree: &'a Tree) -> Outcome<Nodes<'a>> {
        let nodes = tree.nodes.as_slice();
        let mut children = 0;
        for (at, node) in nodes.iter().enumerate() {
            let (span, has_keys) = match node {
                Node::Items(span) => (span, false),
                Node::Entries(span) => (span, true),
                _ => continue,
            };
            let range = span.first as usize..span.first as usize + span.count as usize;
            children += range.len();
            let is_behind = range.is_empty() || range.start > at;
            // Each node but the root has one parent.
            if !is_behind || range.end > nodes.len() || children >= nodes.len() {
                return Err(no_tree(
                    at,
                    "holds a range that is no range of children behind it",
                ));
            }
            let are_keys = |range: std::ops::Range<usize>| {
                range.len().is_multiple_of(2)
                    && nodes[range]
                        .iter()
                        .step_by(2)
                        .all(|key| matches!(key, Node::Text(_)))
            };
            if has_keys && !are_keys(range) {
                return Err(no_tree(at, "holds entries that are no texts with values"));
            }
        }
        if nodes.is_empty() {
            return Err(no_tree(0, "is missing"));
        }
        Ok(Nodes {
            nodes,
            looks: Cell::new(0),
        })
    }

    fn span(&self, at: u32) -> (u32, u32) {
        match &self.nodes[at as usize] {
            Node::Items(span) | Node::Entries(span) if span.count > 0 => (span.first, span.count),
            _ => (0, 0),
        }
    }
}

#[cold]
fn no_tree(at: usize, why: &str) -> Trouble {
    Trouble::new(code::MALFORMED, format!("node {at} of the tree {why}"))
}

impl<'a> Source<'a> for Nodes<'a> {
    type Items = std::ops::Range<u32>;
    type Members = NodeMembers<'a>;
    const IS_JSON: bool = false;

    fn view(&self, at: u32) -> Outcome<View<'a>> {
        self.looks.set(self.looks.get() + 1);
        // Once as what it is, and once more as a branch of a union.
        if self.looks.get() > self.nodes.len() * 2 + 1 {
            return Err(no_tree(at as usize, "has more than one parent"));
        }
        Ok(match &self.nodes[at as usize] {
            Node::Null => View::Null,
            Node::Boolean(truth) => View::Boolean(*truth),
            Node::Integer(number) => View::Integer(*number),
            Node::Unsigned(number) => i64::try_from(*number).map_or(View::Unsigned(*number), View::Integer),
            Node::Float(number) => View::Float(*number),
            Node::Decimal(decimal) => View::Decimal(shortest(&decimal.unscaled), decimal.scale),
            Node::Text(text) => View::Text(Cow::Borrowed(text)),
            Node::Bytes(bytes) => View::Bytes(bytes),
            Node::Timestamp(micros) => View::Timestamp(*micros),
            Node::Days(days) => View::Days(*days),
            Node::Items(_) => View::Items,
            Node::Entries(_) => View::Entries,
        })
    }

    fn count(&self, at: u32) -> usize {
        match &self.nodes[at as usize] {
            Node::Items(span) => span.count as usize,
            Node::Entries(span) => span.count as usize / 2,
            _ => 0,
        }
    }

    fn items(&self, at: u32) -> Self::Items {
        let (first, count) = self.span(at);
        first..first + count
    }

    fn members(&self, at: u32) -> Self::Members {
        let (first, count) = self.span(at);
        NodeMembers {
            nodes: self.nodes,
            range: first..first + count,
        }
    }
}

/// The entries of a node.
#[derive(Clone)]
pub struct NodeMembers<'a> {
    nodes: &'a [Node],
    range: std::ops::Range<u32>,
}

impl<'a> Iterator for NodeMembers<'a> {
    type Item = (Cow<'a, str>, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = (self.range.next()?, self.range.next()?);
        match &self.nodes[key as usize] {
            Node::Text(key) => Some((Cow::Borrowed(key), value)),
            _ => None,
        }
    }
}
