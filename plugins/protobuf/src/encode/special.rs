//! Writes messages that JSON has a form of its own for.

use super::Encoder;
use super::scalar::wrong;
use crate::schema::{Field, Kind, Message, Special};
use crate::well_known::{duration, path_of_json, timestamp};
use crate::wire::{Wire, put_varint};
use plain::source::{Source, View};
use plain::trouble::{Outcome, Trouble, code, cut};

impl<'a, 's, S: Source<'a>> Encoder<'s, '_, S> {
    pub(super) fn special(&mut self, special: Special, message: &'s Message, at: u32) -> Outcome<()> {
        let first = &message.fields[0];
        let view = self.source.view(at)?;
        match (special, &view) {
            (Special::Timestamp, View::Timestamp(micros)) => {
                let nanos = micros.rem_euclid(1_000_000) as i32 * 1_000;
                self.time(message, micros.div_euclid(1_000_000), nanos);
            }
            (Special::Timestamp, View::Text(text)) => {
                let (seconds, nanos) = timestamp(text).ok_or_else(|| no(message, text))?;
                self.time(message, seconds, nanos);
            }
            (Special::Duration, View::Text(text)) => {
                let (seconds, nanos) = duration(text).ok_or_else(|| no(message, text))?;
                self.time(message, seconds, nanos);
            }
            (Special::FieldMask, View::Text(text)) => {
                for path in text.split(',').filter(|path| !path.is_empty()) {
                    let path = path_of_json(path).ok_or_else(|| no(message, text))?;
                    self.text(first, &path);
                }
            }
            (Special::Wrapper, _) => self.wrapper(first, at)?,
            (Special::Struct, View::Entries) => self.map(first, at)?,
            (Special::ListValue, View::Items) => self.items(first, false, at)?,
            (Special::Value, _) => self.any_value(message, at)?,
            (Special::Any, View::Entries) => self.any(message, at)?,
            _ => {
                let reason = format!("{} cannot be {}", message.full_name, view.title());
                return Err(Trouble::new(code::WRONG_TYPE, reason));
            }
        }
        Ok(())
    }

    fn time(&mut self, message: &Message, seconds: i64, nanos: i32) {
        for (field, number) in message.fields.iter().zip([seconds, nanos.into()]) {
            if number != 0 {
                self.tag(field.number, Wire::Varint.number());
                put_varint(self.bytes, number as u64);
            }
        }
    }

    fn text(&mut self, field: &Field, text: &str) {
        self.tag(field.number, Wire::Bytes.number());
        put_varint(self.bytes, text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Its one field; nothing where that is zero.
    fn wrapper(&mut self, field: &'s Field, at: u32) -> Outcome<()> {
        let before = self.bytes.len();
        self.tagged(field, at)?;
        if self.is_zero(field, before) {
            self.bytes.truncate(before);
        }
        Ok(())
    }

    /// Any value: null, number, text, boolean, object or list, in the order of the fields of `google.protobuf.Value`.
    fn any_value(&mut self, message: &'s Message, at: u32) -> Outcome<()> {
        let view = self.source.view(at)?;
        let place = match &view {
            View::Null => 0,
            View::Integer(_) | View::Unsigned(_) | View::Number(_) | View::Decimal(..) => 1,
            View::Float(number) if number.is_finite() => 1,
            View::Text(_) => 2,
            View::Boolean(_) => 3,
            View::Entries => 4,
            View::Items => 5,
            _ => return Err(wrong(Kind::Double, &view)),
        };
        match message.fields.get(place) {
            Some(field) => self.tagged(field, at),
            None => Err(wrong(Kind::Double, &view)),
        }
    }

    fn any(&mut self, message: &'s Message, at: u32) -> Outcome<()> {
        let [address_field, value_field] = &*message.fields else {
            return Err(Trouble::new(
                code::SCHEMA_INVALID,
                "google.protobuf.Any has two fields",
            ));
        };
        let member = |wanted: &str| self.source.members(at).filter(|(name, _)| name == wanted).last();
        let (address, value) = (member("@type"), member("value"));
        let address = match address.map(|(_, at)| self.source.view(at)) {
            None if self.source.count(at) == 0 => return Ok(()),
            Some(Ok(View::Text(address))) => address,
            _ => {
                let reason = "a google.protobuf.Any needs the text `@type`";
                return Err(Trouble::new(code::MISSING_FIELD, reason).below("@type"));
            }
        };
        self.text(address_field, &address);
        let name = address.rsplit('/').next().unwrap_or_default();
        let Some(id) = self.schema.message(name) else {
            return match value {
                Some((_, at)) => self
                    .tagged(value_field, at)
                    .map_err(|trouble| trouble.below("value")),
                None => Ok(()),
            };
        };
        let before = self.bytes.len();
        let inner = &self.schema.messages[id as usize];
        self.tag(value_field.number, Wire::Bytes.number());
        let begin = self.bytes.len();
        self.with_length(|this| match (inner.special, value) {
            (None, _) => this.fields(inner, at, Some("@type")),
            (Some(_), Some((_, at))) => this.message(id, at).map_err(|trouble| trouble.below("value")),
            (Some(_), None) => {
                Err(Trouble::new(code::MISSING_FIELD, format!("{name} is the field `value`")).below("value"))
            }
        })?;
        // No bytes are the same as no field.
        if self.bytes.len() == begin + 1 {
            self.bytes.truncate(before);
        }
        Ok(())
    }
}

#[cold]
fn no(message: &Message, text: &str) -> Trouble {
    let reason = format!("{} cannot be the text `{}`", message.full_name, cut(text));
    Trouble::new(code::WRONG_TYPE, reason)
}
