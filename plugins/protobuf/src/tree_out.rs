//! Values taken down as the contract's tree.

use crate::schema::Key;
use crate::special::beyond;
use crate::walk::Emit;
use crate::well_known::timestamp_text;
use culvert_plugin::codec::Node;
use plain::tree::TreeOut;
use plain::trouble::Outcome;

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

    fn long(&mut self, number: i64) {
        self.push(Node::Integer(number));
    }

    fn unsigned(&mut self, number: u64) {
        self.push(Node::Unsigned(number));
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
        self.push_bytes(bytes);
    }

    fn timestamp(&mut self, seconds: i64, nanos: i32) -> Outcome<()> {
        let text = timestamp_text(seconds, nanos).ok_or_else(|| beyond("a timestamp", seconds, nanos))?;
        // A tree's timestamp has microseconds: what is finer stays a text.
        match nanos % 1_000 {
            0 => self.push(Node::Timestamp(seconds * 1_000_000 + i64::from(nanos / 1_000))),
            _ => self.push_text(&text),
        }
        Ok(())
    }

    fn begin_items(&mut self) {
        self.begin();
    }

    fn next_item(&mut self, _: usize) {}

    fn end_items(&mut self) {
        TreeOut::end_items(self);
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
        TreeOut::end_entries(self);
    }

    fn is_full(&self) -> bool {
        TreeOut::is_full(self)
    }
}
