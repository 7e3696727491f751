//! Values written as plain JSON.

use crate::form::{BytesFormat, DecimalFormat, Form, TimeFormat, uuid_text};
use crate::schema::{Key, Unit};
use crate::walk::Emit;
use plain::json::{write_latin1, write_text};
use plain::number::{date_text, decimal_text, time_text, timestamp_text};
use plain::trouble::{Outcome, Trouble, code};

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

    fn quoted(&mut self, text: &str) {
        self.json.push(b'"');
        self.put(text.as_bytes());
        self.json.push(b'"');
    }

    /// JSON has no words for these; Jackson's, and so Kafka's tools', are texts.
    #[cold]
    fn not_finite(&mut self, number: f64) {
        self.put(match number {
            number if number.is_nan() => b"\"NaN\"",
            number if number > 0.0 => b"\"Infinity\"",
            _ => b"\"-Infinity\"",
        });
    }

    fn iso(&mut self, text: Option<String>, number: i64) -> Outcome<()> {
        let text = text.ok_or_else(|| {
            Trouble::new(
                code::OUT_OF_RANGE,
                format!("{number} lies beyond what ISO 8601 can say"),
            )
        })?;
        self.quoted(&text);
        Ok(())
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
        match self.form.bytes {
            BytesFormat::Latin1 => write_latin1(bytes, self.json),
            BytesFormat::Base64 => {
                self.json.push(b'"');
                plain::base64::write(bytes, self.json);
                self.json.push(b'"');
            }
        }
    }

    fn decimal(&mut self, unscaled: &[u8], scale: i32) -> Outcome<()> {
        let text = decimal_text(unscaled, scale).ok_or_else(|| {
            Trouble::new(code::TOO_LARGE, format!("a decimal has {} bytes", unscaled.len()))
        })?;
        match self.form.decimal {
            DecimalFormat::String => self.quoted(&text),
            DecimalFormat::Number => self.put(text.as_bytes()),
        }
        Ok(())
    }

    fn uuid(&mut self, bytes: [u8; 16]) {
        self.quoted(&uuid_text(bytes));
    }

    fn duration(&mut self, months: u32, days: u32, millis: u32) {
        self.put(format!("{{\"months\":{months},\"days\":{days},\"millis\":{millis}}}").as_bytes());
    }

    fn date(&mut self, days: i32) -> Outcome<()> {
        match self.form.time {
            TimeFormat::Number => self.integer(days.into()),
            TimeFormat::Iso => return self.iso(date_text(days.into()), days.into()),
        }
        Ok(())
    }

    fn time(&mut self, number: i64, unit: Unit) -> Outcome<()> {
        match self.form.time {
            TimeFormat::Number => self.integer(number),
            TimeFormat::Iso => return self.iso(time_text(number, unit), number),
        }
        Ok(())
    }

    fn timestamp(&mut self, number: i64, unit: Unit, local: bool) -> Outcome<()> {
        match self.form.time {
            TimeFormat::Number => self.integer(number),
            TimeFormat::Iso => return self.iso(timestamp_text(number, unit, local), number),
        }
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
