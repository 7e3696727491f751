//! Values written as plain JSON.

use crate::form::{Form, Int64Format};
use crate::schema::Key;
use crate::special::beyond;
use crate::walk::Emit;
use crate::well_known::timestamp_text;
use plain::base64;
use plain::json::write_text;
use plain::trouble::Outcome;

/// What one call may return, by the contract.
const JSON_BYTES_MAX: usize = 64 << 20;

pub(crate) struct JsonOut<'a> {
    json: &'a mut Vec<u8>,
    form: Form,
}

impl<'a> JsonOut<'a> {
    pub(crate) fn new(json: &'a mut Vec<u8>, form: Form) -> JsonOut<'a> {
        JsonOut { json, form }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.json.extend_from_slice(bytes);
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.json.push(b',');
        }
    }

    fn digits(&mut self, digits: &str) {
        match self.form.int64 {
            Int64Format::Number => self.put(digits.as_bytes()),
            Int64Format::String => {
                self.json.push(b'"');
                self.put(digits.as_bytes());
                self.json.push(b'"');
            }
        }
    }

    /// JSON has no words for these; the mapping's are texts.
    #[cold]
    fn not_finite(&mut self, number: f64) {
        self.put(match number {
            number if number.is_nan() => b"\"NaN\"",
            number if number > 0.0 => b"\"Infinity\"",
            _ => b"\"-Infinity\"",
        });
    }
}

impl Emit for JsonOut<'_> {
    fn null(&mut self) {
        self.put(b"null");
    }

    fn boolean(&mut self, truth: bool) {
        self.put(if truth { b"true" } else { b"false" });
    }

    fn integer(&mut self, number: i64) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    fn long(&mut self, number: i64) {
        self.digits(itoa::Buffer::new().format(number));
    }

    fn unsigned(&mut self, number: u64) {
        self.digits(itoa::Buffer::new().format(number));
    }

    fn single(&mut self, number: f32) {
        if !number.is_finite() {
            return self.not_finite(number.into());
        }
        self.put(zmij::Buffer::new().format_finite(number).as_bytes());
    }

    fn double(&mut self, number: f64) {
        if !number.is_finite() {
            return self.not_finite(number);
        }
        self.put(zmij::Buffer::new().format_finite(number).as_bytes());
    }

    fn text(&mut self, text: &str) {
        write_text(text, self.json);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.json.push(b'"');
        base64::write(bytes, self.json);
        self.json.push(b'"');
    }

    fn timestamp(&mut self, seconds: i64, nanos: i32) -> Outcome<()> {
        let text = timestamp_text(seconds, nanos).ok_or_else(|| beyond("a timestamp", seconds, nanos))?;
        self.text(&text);
        Ok(())
    }

    fn begin_items(&mut self) {
        self.json.push(b'[');
    }

    fn next_item(&mut self, index: usize) {
        self.comma(index);
    }

    fn end_items(&mut self) {
        self.json.push(b']');
    }

    fn begin_entries(&mut self) {
        self.json.push(b'{');
    }

    fn next_field(&mut self, index: usize, key: &Key) {
        self.comma(index);
        self.put(&key.json);
    }

    fn next_entry(&mut self, index: usize, key: &str) {
        self.comma(index);
        write_text(key, self.json);
        self.json.push(b':');
    }

    fn end_entries(&mut self) {
        self.json.push(b'}');
    }

    fn is_full(&self) -> bool {
        self.json.len() > JSON_BYTES_MAX
    }
}
