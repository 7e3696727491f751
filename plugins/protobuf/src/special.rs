//! Reads messages that JSON has a form of its own for.

use crate::schema::{Message, Special};
use crate::walk::{Emit, Found, Walk};
use crate::well_known::{duration_text, path_to_json};
use crate::wire::{Content, Wire};
use plain::trouble::{Outcome, Trouble, code};
use std::ops::Range;

impl<'p, E: Emit> Walk<'p, '_, '_, E> {
    /// Tells a message whose fields are noted from `base` on.
    pub(crate) fn special(&mut self, special: Special, message: &'p Message, base: usize) -> Outcome<()> {
        let first = &message.fields[0];
        let all = base..self.found.len();
        match special {
            Special::Timestamp => {
                let (seconds, nanos) = self.time(base);
                self.emit.timestamp(seconds, nanos)
            }
            Special::Duration => {
                let (seconds, nanos) = self.time(base);
                let text =
                    duration_text(seconds, nanos).ok_or_else(|| beyond("a duration", seconds, nanos))?;
                self.emit.text(&text);
                Ok(())
            }
            Special::Wrapper => self.value(first.kind, all),
            Special::Struct => self.map(first.kind, all),
            Special::ListValue => self.items(first.kind, all),
            Special::FieldMask => self.field_mask(all),
            Special::Value => self.any_value(message, all),
            Special::Any => self.any(base),
        }
    }

    /// The last that was met of the field at this place.
    fn last(&self, base: usize, place: u32) -> Option<Content> {
        let mut all = self.found[base..].iter().rev();
        all.find(|found| found.field == place).map(|found| found.content)
    }

    fn time(&self, base: usize) -> (i64, i32) {
        let bits = |place| self.last(base, place).map_or(0, |content| content.bits);
        // What has more than 32 bits is no number of nanoseconds either way.
        (bits(0) as i64, i32::try_from(bits(1) as i64).unwrap_or(i32::MIN))
    }

    fn field_mask(&mut self, all: Range<usize>) -> Outcome<()> {
        let mut text = String::new();
        for at in all {
            if !text.is_empty() {
                text.push(',');
            }
            let path = self.text_of(self.found[at].content)?;
            let path = path_to_json(path).ok_or_else(|| {
                let reason = "a path has letters that JSON's form of a field mask has no place for";
                Trouble::new(code::OUT_OF_RANGE, reason)
            })?;
            text.push_str(&path);
        }
        self.emit.text(&text);
        Ok(())
    }

    /// `google.protobuf.Value`: its fields are one oneof of null, number, string, bool, struct and list.
    fn any_value(&mut self, message: &'p Message, all: Range<usize>) -> Outcome<()> {
        let Some(Found { field, content }) = self.found[all.clone()].first().copied() else {
            self.emit.null();
            return Ok(());
        };
        if content.wire == Wire::Fixed64 && !f64::from_bits(self.found[all.end - 1].content.bits).is_finite()
        {
            return Err(Trouble::new(
                code::OUT_OF_RANGE,
                "a Value cannot be a number without end",
            ));
        }
        self.value(message.fields[field as usize].kind, all)
    }

    /// `google.protobuf.Any`: the type's name in an address, and the bytes of a message of it.
    fn any(&mut self, base: usize) -> Outcome<()> {
        let (address, content) = (self.last(base, 0), self.last(base, 1));
        self.emit.begin_entries();
        if address.is_some() || content.is_some() {
            let address = address.map_or(Ok(""), |address| self.text_of(address))?;
            self.emit.next_entry(0, "@type");
            self.emit.text(address);
            self.any_content(address, content)?;
        }
        self.emit.end_entries();
        Ok(())
    }

    fn any_content(&mut self, address: &str, content: Option<Content>) -> Outcome<()> {
        let name = address.rsplit('/').next().unwrap_or_default();
        let Some(id) = self.view.schema.message(name) else {
            if let Some(content) = content {
                self.emit.next_entry(1, "value");
                self.emit.bytes(self.bytes_of(content));
            }
            return Ok(());
        };
        let piece = self.found.len();
        if let Some(content) = content {
            self.found.push(Found { field: 0, content });
        }
        let message = &self.view.messages[id as usize];
        let pieces = piece..self.found.len();
        if message.special.is_some() {
            self.emit.next_entry(1, "value");
            return self.message(id, pieces);
        }
        let inner = self.found.len();
        self.scan(message, pieces)?;
        self.fields(message, inner, 1)
    }
}

#[cold]
pub(crate) fn beyond(what: &str, seconds: i64, nanos: i32) -> Trouble {
    Trouble::new(
        code::OUT_OF_RANGE,
        format!("{what} cannot be of {seconds} seconds and {nanos} nanoseconds"),
    )
}
