//! Scalars, with all the forms that JSON may give them.

use super::Encoder;
use crate::schema::Kind;
use crate::wire::{put_varint, zigzag};
use plain::base64;
use plain::number::{decimal_bytes, decimal_text};
use plain::source::{Source, View};
use plain::trouble::{Outcome, Trouble, code, cut};
use std::borrow::Cow;

/// The most digits that a whole number of 64 bits can have, and some more: what is longer is out of range either way.
const DIGITS_MAX: u32 = 30;

impl<'a, S: Source<'a>> Encoder<'_, '_, S> {
    /// One value, without its tag.
    pub(super) fn scalar(&mut self, kind: Kind, view: &View<'a>) -> Outcome<()> {
        match kind {
            Kind::Bool => match view {
                View::Boolean(truth) => self.bytes.push(u8::from(*truth)),
                _ => return Err(wrong(kind, view)),
            },
            Kind::String => match view {
                View::Text(text) => self.put_bytes(text.as_bytes()),
                _ => return Err(wrong(kind, view)),
            },
            Kind::Bytes => match view {
                View::Bytes(bytes) => self.put_bytes(bytes),
                View::Text(text) if S::IS_JSON => {
                    let bytes = read_base64(text)
                        .ok_or_else(|| Trouble::new(code::WRONG_TYPE, "the text is no base64"))?;
                    self.put_bytes(&bytes);
                }
                _ => return Err(wrong(kind, view)),
            },
            Kind::Float => {
                let number = single::<S>(kind, view)?;
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            Kind::Double => {
                let number = double::<S>(kind, view)?;
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            Kind::Enum(_) if matches!(view, View::Text(_) | View::Null) => self.symbol(kind, view)?,
            _ => {
                let number = whole::<S>(kind, view)?;
                self.put_whole(kind, number)?;
            }
        }
        Ok(())
    }

    /// A key of a map, which is a text in JSON and in trees.
    pub(super) fn map_key(&mut self, kind: Kind, name: &str) -> Outcome<()> {
        match kind {
            Kind::String => self.put_bytes(name.as_bytes()),
            Kind::Bool => match name {
                "true" => self.bytes.push(1),
                "false" => self.bytes.push(0),
                _ => return Err(no_key(kind, name)),
            },
            _ => {
                let number = digits(name).ok_or_else(|| no_key(kind, name))?;
                self.put_whole(kind, number)?;
            }
        }
        Ok(())
    }

    fn put_bytes(&mut self, part: &[u8]) {
        put_varint(self.bytes, part.len() as u64);
        self.bytes.extend_from_slice(part);
    }

    fn symbol(&mut self, kind: Kind, view: &View<'_>) -> Outcome<()> {
        let Kind::Enum(id) = kind else {
            return Err(wrong(kind, view));
        };
        let of = &self.schema.enums[id as usize];
        let number = match view {
            View::Null if of.is_null => 0,
            View::Text(text) => of.named(text).ok_or_else(|| {
                let reason = format!("enum {} has no value `{}`", of.full_name, cut(text));
                Trouble::new(code::OUT_OF_RANGE, reason)
            })?,
            _ => return Err(wrong(kind, view)),
        };
        put_varint(self.bytes, i64::from(number) as u64);
        Ok(())
    }

    fn put_whole(&mut self, kind: Kind, number: i128) -> Outcome<()> {
        let (least, most): (i128, i128) = match kind {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Enum(_) => (i32::MIN.into(), i32::MAX.into()),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => (i64::MIN.into(), i64::MAX.into()),
            Kind::Uint32 | Kind::Fixed32 => (0, u32::MAX.into()),
            _ => (0, u64::MAX.into()),
        };
        if !(least..=most).contains(&number) {
            return Err(beyond(kind, number));
        }
        match kind {
            Kind::Sint32 | Kind::Sint64 => put_varint(self.bytes, zigzag(number as i64)),
            Kind::Fixed32 | Kind::Sfixed32 => self.bytes.extend_from_slice(&(number as u32).to_le_bytes()),
            Kind::Fixed64 | Kind::Sfixed64 => self.bytes.extend_from_slice(&(number as u64).to_le_bytes()),
            _ => put_varint(self.bytes, number as u64),
        }
        Ok(())
    }
}

/// A whole number: also as a text, and with an exponent or zeros behind a point.
fn whole<'a, S: Source<'a>>(kind: Kind, view: &View<'a>) -> Outcome<i128> {
    let text = match view {
        View::Integer(number) => return Ok((*number).into()),
        View::Unsigned(number) => return Ok((*number).into()),
        View::Number(text) => Cow::Borrowed(*text),
        View::Text(text) if S::IS_JSON => Cow::Borrowed(&**text),
        View::Float(number) if number.is_finite() => Cow::Owned(format!("{number}")),
        View::Decimal(unscaled, scale) => match decimal_text(unscaled, *scale) {
            Some(text) => Cow::Owned(text),
            None => return Err(beyond(kind, format!("{} bytes", unscaled.len()))),
        },
        _ => return Err(wrong(kind, view)),
    };
    if let Ok(number) = text.parse::<i64>()
        && !text.starts_with('+')
    {
        return Ok(number.into());
    }
    digits(&text).ok_or_else(|| match is_number(&text) {
        true => beyond(kind, cut(&text)),
        false => Trouble::new(
            code::WRONG_TYPE,
            format!("{} cannot be the text `{}`", kind.title(), cut(&text)),
        ),
    })
}

/// A number as JSON writes it, where it is whole.
fn digits(text: &str) -> Option<i128> {
    if !is_number(text) {
        return None;
    }
    let bytes = decimal_bytes(text, DIGITS_MAX, 0).ok()?;
    let sign = if bytes.first()? & 0x80 != 0 { -1 } else { 0 };
    Some(
        bytes
            .iter()
            .fold(sign, |number, byte| number << 8 | i128::from(*byte)),
    )
}

/// JSON's grammar of numbers: neither a plus, nor spaces, nor zeros in front.
fn is_number(text: &str) -> bool {
    matches!(plain::json::Json::parse(text.as_bytes(), 0), Ok(json) if matches!(json.token(0), plain::json::Token::Number(number) if number.len() == text.len()))
}

fn double<'a, S: Source<'a>>(kind: Kind, view: &View<'a>) -> Outcome<f64> {
    let number = match view {
        View::Integer(number) => *number as f64,
        View::Unsigned(number) => *number as f64,
        View::Float(number) => return Ok(*number),
        View::Number(text) => parsed(text),
        View::Text(text) if S::IS_JSON => return worded(kind, view, text, parsed),
        View::Decimal(unscaled, scale) => {
            decimal_text(unscaled, *scale).map_or(f64::INFINITY, |text| parsed(&text))
        }
        _ => return Err(wrong(kind, view)),
    };
    match number.is_finite() {
        true => Ok(number),
        false => Err(beyond(kind, "so large a number")),
    }
}

/// Read as a float at once: a way round by doubles would round twice.
fn single<'a, S: Source<'a>>(kind: Kind, view: &View<'a>) -> Outcome<f32> {
    let read = |text: &str| text.parse::<f32>().unwrap_or(f32::INFINITY);
    let number = match view {
        View::Integer(number) => *number as f32,
        View::Unsigned(number) => *number as f32,
        View::Float(number) if !number.is_finite() => return Ok(*number as f32),
        View::Float(number) => *number as f32,
        View::Number(text) => read(text),
        View::Text(text) if S::IS_JSON => {
            return worded(kind, view, text, |text| read(text).into()).map(|number| number as f32);
        }
        View::Decimal(unscaled, scale) => {
            decimal_text(unscaled, *scale).map_or(f32::INFINITY, |text| read(&text))
        }
        _ => return Err(wrong(kind, view)),
    };
    match number.is_finite() {
        true => Ok(number),
        false => Err(beyond(kind, "so large a number")),
    }
}

fn parsed(text: &str) -> f64 {
    text.parse().unwrap_or(f64::INFINITY)
}

/// A text for a number: three words for what JSON has no numbers for, or a number's digits.
fn worded(kind: Kind, view: &View<'_>, text: &str, read: impl Fn(&str) -> f64) -> Outcome<f64> {
    let number = match text {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => return Ok(f64::INFINITY),
        "-Infinity" => return Ok(f64::NEG_INFINITY),
        _ if !is_number(text) => return Err(wrong(kind, view)),
        _ => read(text),
    };
    match number.is_finite() {
        true => Ok(number),
        false => Err(beyond(kind, "so large a number")),
    }
}

/// The standard alphabet or that for addresses, with or without padding.
fn read_base64(text: &str) -> Option<Vec<u8>> {
    if text.contains(['-', '_']) {
        return base64::read(&text.replace('-', "+").replace('_', "/"));
    }
    base64::read(text)
}

#[cold]
pub(super) fn wrong(kind: Kind, view: &View<'_>) -> Trouble {
    Trouble::new(
        code::WRONG_TYPE,
        format!("{} cannot be {}", kind.title(), view.title()),
    )
}

#[cold]
fn no_key(kind: Kind, name: &str) -> Trouble {
    Trouble::new(
        code::WRONG_TYPE,
        format!("{} cannot be the key `{}`", kind.title(), cut(name)),
    )
}

#[cold]
fn beyond(kind: Kind, what: impl std::fmt::Display) -> Trouble {
    Trouble::new(code::OUT_OF_RANGE, format!("{} cannot hold {what}", kind.title()))
}
