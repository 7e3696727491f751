//! Decimals as Connect's JSON has them: the bytes of the unscaled number in base64, or a number (KIP-481).

use crate::schema::{Kind, Schema};
use crate::value::Value;
use culvert_plugin::Choice;
use plain::base64;
use plain::number::{NoDecimal, decimal_bytes, decimal_text};
use plain::trouble::{Outcome, Trouble, code};

/// Digits behind the point. Far more than a database has, and few enough that a schema does not fill the memory.
const SCALE_MAX: u32 = 1_000;

/// How a decimal is written.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecimalFormat {
    /// Base64: `"BNI="`.
    #[config(name = "BASE64")]
    Base64,
    /// A number with all its digits: `12.34`. Many readers of JSON keep only 15 of them.
    #[config(name = "NUMERIC")]
    Numeric,
}

/// The payload with its decimals in this format. What is not of its schema stays.
///
/// # Errors
/// `schema-invalid` where a decimal's schema has no scale, `out-of-range` where a number does not fit it.
pub(crate) fn formatted(schema: &Schema, value: Value, format: DecimalFormat) -> Outcome<Value> {
    Ok(match (&schema.kind, value) {
        (Kind::Bytes, Value::Text(text)) if format == DecimalFormat::Numeric && schema.is_decimal() => {
            number(schema, &text)?.map_or(Value::Text(text), Value::Number)
        }
        (Kind::Bytes, Value::Number(text)) if format == DecimalFormat::Base64 && schema.is_decimal() => {
            Value::Text(unscaled(schema, &text)?)
        }
        (Kind::Array(of), Value::Array(items)) => {
            let items = items.into_iter().enumerate();
            Value::Array(each(items.map(|(at, item)| (at, &**of, item)), format)?)
        }
        (Kind::Map(keys, values), Value::Array(pairs)) if keys.kind != Kind::String => {
            let pairs = pairs.into_iter().enumerate();
            let pairs = pairs.map(|(at, pair)| match pair {
                Value::Array(both) if both.len() == 2 => {
                    let both = [&**keys, &**values].into_iter().zip(both);
                    let both = both.enumerate().map(|(side, (of, value))| (side, of, value));
                    let both = each(both, format).map_err(|why| why.below(&at))?;
                    Ok(Value::Array(both))
                }
                other => Ok(other),
            });
            Value::Array(pairs.collect::<Outcome<_>>()?)
        }
        (Kind::Map(_, values), Value::Object(members)) => within(members, |_| Some(values), format)?,
        (Kind::Struct(fields), Value::Object(members)) => {
            let of = |name: &str| {
                let field = fields.iter().find(|(known, _)| known == name);
                field.map(|(_, field)| field)
            };
            within(members, of, format)?
        }
        (_, value) => value,
    })
}

/// Places, schemas and values.
fn each<'s>(
    values: impl Iterator<Item = (usize, &'s Schema, Value)>,
    format: DecimalFormat,
) -> Outcome<Vec<Value>> {
    let formatted = |(at, of, value)| formatted(of, value, format).map_err(|why| why.below(&at));
    values.map(formatted).collect()
}

/// An object whose members are of these schemas.
fn within<'s>(
    members: Vec<(String, Value)>,
    of: impl Fn(&str) -> Option<&'s Schema>,
    format: DecimalFormat,
) -> Outcome<Value> {
    let formatted = |(name, value): (String, Value)| {
        let value = match of(&name) {
            Some(schema) => formatted(schema, value, format).map_err(|why| why.below(&name))?,
            None => value,
        };
        Ok((name, value))
    };
    Ok(Value::Object(
        members.into_iter().map(formatted).collect::<Outcome<_>>()?,
    ))
}

/// Base64 as a number. Nothing where it is no base64, which whoever reads it is told.
fn number(schema: &Schema, text: &str) -> Outcome<Option<String>> {
    let Some(bytes) = base64::read(text) else {
        return Ok(None);
    };
    let scale = i32::try_from(scale(schema)?).unwrap_or(i32::MAX);
    let number = decimal_text(&bytes, scale);
    number.map(Some).ok_or_else(|| too_long("it has too many digits"))
}

/// A number as base64.
fn unscaled(schema: &Schema, text: &str) -> Outcome<String> {
    let bytes = decimal_bytes(text, u32::MAX, scale(schema)?).map_err(|why| match why {
        NoDecimal::NotANumber => too_long("its exponent is too large"),
        NoDecimal::OutOfRange(why) => too_long(&why),
    })?;
    let mut text = Vec::new();
    base64::write(&bytes, &mut text);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn too_long(why: &str) -> Trouble {
    Trouble::new(
        code::OUT_OF_RANGE,
        format!("the decimal cannot be written: {why}"),
    )
}

/// Connect has negative ones too, which no database's connector writes.
fn scale(schema: &Schema) -> Outcome<u32> {
    let parameter = schema.source.get("parameters").and_then(|all| all.get("scale"));
    let scale = match parameter {
        Some(Value::Text(scale)) => scale.parse().ok(),
        _ => None,
    };
    scale.filter(|scale| *scale <= SCALE_MAX).ok_or_else(|| {
        let reason = format!("a decimal has a parameter \"scale\", a text from 0 to {SCALE_MAX}");
        Trouble::new(code::SCHEMA_INVALID, reason)
    })
}
