//! Values taken down as the contract's flat tree.

use crate::form::uuid_text;
use crate::schema::{Key, Unit};
use crate::trouble::{Outcome, Trouble, code};
use crate::walk::Emit;
use culvert_plugin::codec::{Decimal, Node, Span, Tree};

/// The contract has no longer lists.
pub(crate) const NODES_MAX: usize = 1_000_000;

/// Texts and bytes of one tree: what one call may return, by the contract.
const BYTES_MAX: usize = 64 << 20;

/// Values come with the innermost ended first, and the tree has each before its children. So all is put down from the
/// back: the children of a container that ends are moved behind those before, in reverse, and at the end all is turned
/// round.
#[derive(Default)]
pub(crate) struct TreeOut {
    /// Children of ended containers.
    done: Vec<Node>,
    /// Values whose container has not ended.
    waiting: Vec<Node>,
    /// Where in `waiting` each container that has not ended begins.
    begins: Vec<usize>,
    /// Of texts and bytes.
    bytes: usize,
}

impl TreeOut {
    /// The tree of the one value that came.
    pub(crate) fn finish(mut self) -> Tree {
        self.done.append(&mut self.waiting);
        self.done.reverse();
        let length = self.done.len() as u32;
        for node in &mut self.done {
            if let Node::Items(span) | Node::Entries(span) = node {
                span.first = length - span.first - span.count;
            }
        }
        Tree { nodes: self.done }
    }

    fn push(&mut self, node: Node) {
        self.waiting.push(node);
    }

    fn push_text(&mut self, text: &str) {
        self.bytes += text.len();
        self.push(Node::Text(text.to_owned()));
    }

    fn begin(&mut self) {
        self.begins.push(self.waiting.len());
    }

    /// The span counts from the back until the tree is turned round.
    fn end(&mut self) -> Span {
        let begin = self.begins.pop().unwrap_or(0);
        let span = Span {
            first: self.done.len() as u32,
            count: (self.waiting.len() - begin) as u32,
        };
        self.done.extend(self.waiting.drain(begin..).rev());
        span
    }
}

impl Emit for TreeOut {
    fn null(&mut self) {
        self.push(Node::Null);
    }

    fn boolean(&mut self, truth: bool) {
        self.push(Node::Boolean(truth));
    }

    fn integer(&mut self, number: i64) {
        self.push(Node::Integer(number));
    }

    fn single(&mut self, number: f32) {
        self.push(Node::Float(number.into()));
    }

    fn double(&mut self, number: f64) {
        self.push(Node::Float(number));
    }

    fn text(&mut self, text: &str) {
        self.push_text(text);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.push(Node::Bytes(bytes.to_vec()));
    }

    fn decimal(&mut self, unscaled: &[u8], scale: i32) -> Outcome<()> {
        self.bytes += unscaled.len();
        let unscaled = unscaled.to_vec();
        self.push(Node::Decimal(Decimal { unscaled, scale }));
        Ok(())
    }

    fn uuid(&mut self, bytes: [u8; 16]) {
        self.push_text(&uuid_text(bytes));
    }

    fn duration(&mut self, months: u32, days: u32, millis: u32) {
        self.begin();
        for (name, number) in [("months", months), ("days", days), ("millis", millis)] {
            self.push_text(name);
            self.integer(number.into());
        }
        self.end_entries();
    }

    fn date(&mut self, days: i32) -> Outcome<()> {
        self.push(Node::Days(days));
        Ok(())
    }

    fn time(&mut self, number: i64, _: Unit) -> Outcome<()> {
        self.integer(number);
        Ok(())
    }

    fn timestamp(&mut self, number: i64, unit: Unit, _: bool) -> Outcome<()> {
        let micros = match unit {
            Unit::Millis => number.checked_mul(1_000),
            Unit::Micros => Some(number),
            Unit::Nanos => {
                self.integer(number);
                return Ok(());
            }
        };
        let micros = micros.ok_or_else(|| {
            Trouble::new(
                code::OUT_OF_RANGE,
                format!("a timestamp of {number} ms has more than 64 bits of microseconds"),
            )
        })?;
        self.push(Node::Timestamp(micros));
        Ok(())
    }

    fn begin_items(&mut self) {
        self.begin();
    }

    fn next_item(&mut self, _: usize) {}

    fn end_items(&mut self) {
        let span = self.end();
        self.push(Node::Items(span));
    }

    fn begin_entries(&mut self) {
        self.begin();
    }

    fn next_field(&mut self, _: usize, key: &Key) {
        self.push_text(&key.text);
    }

    fn next_entry(&mut self, _: usize, key: &str) {
        self.push_text(key);
    }

    fn end_entries(&mut self) {
        let span = self.end();
        self.push(Node::Entries(span));
    }

    fn is_full(&self) -> bool {
        self.done.len() + self.waiting.len() > NODES_MAX || self.bytes > BYTES_MAX
    }
}
