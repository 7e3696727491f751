//! Values taken down as the contract's tree.

use crate::form::uuid_text;
use crate::schema::{Key, Unit};
use crate::walk::Emit;
use culvert_plugin::codec::Node;
use plain::tree::TreeOut;
use plain::trouble::{Outcome, Trouble, code};

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
        self.push_bytes(bytes);
    }

    fn decimal(&mut self, unscaled: &[u8], scale: i32) -> Outcome<()> {
        self.push_decimal(unscaled, scale);
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
        TreeOut::end_entries(self);
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
