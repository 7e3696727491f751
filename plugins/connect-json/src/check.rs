//! Whether a payload is of its schema, as `org.apache.kafka.connect.json.JsonConverter` reads it, and stricter where that
//! makes another value of what it does not understand: text for a number is 0 there, and refused here.

use crate::schema::{Kind, Schema};
use crate::value::Value;
use plain::base64;
use plain::trouble::{Outcome, Trouble, code, cut};

/// The payload as Connect has it: null where a default stands for it (`defaults`) is that, and members that are no fields are
/// gone.
///
/// # Errors
/// `wrong-type`, `out-of-range`, `missing-field`.
pub(crate) fn check(schema: &Schema, value: &Value, defaults: bool) -> Outcome<Value> {
    if *value == Value::Null {
        return match &schema.default {
            Some(default) if defaults => Ok(default.clone()),
            _ if schema.optional => Ok(Value::Null),
            _ => Err(Trouble::new(
                code::MISSING_FIELD,
                format!("it is null, and its schema requires {}", schema.word()),
            )),
        };
    }
    match (&schema.kind, value) {
        (Kind::Integer(bits), Value::Number(text)) => {
            let number = text.parse::<i64>().ok();
            let range = match *bits {
                64 => i64::MIN..=i64::MAX,
                bits => -(1 << (bits - 1))..=(1 << (bits - 1)) - 1,
            };
            match number {
                Some(number) if range.contains(&number) => Ok(value.clone()),
                _ if text.contains(['.', 'e', 'E']) => Err(wrong(schema, value)),
                _ => Err(Trouble::new(
                    code::OUT_OF_RANGE,
                    format!("{} is no {}", cut(text), schema.word()),
                )),
            }
        }
        (Kind::Float, Value::Number(_))
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::String, Value::Text(_)) => Ok(value.clone()),
        // As Jackson writes what is no number.
        (Kind::Float, Value::Text(text)) if ["NaN", "Infinity", "-Infinity"].contains(&text.as_str()) => {
            Ok(value.clone())
        }
        (Kind::Bytes, Value::Text(text)) if base64::read(text).is_some() => Ok(value.clone()),
        (Kind::Bytes, Value::Number(_)) if schema.is_decimal() => Ok(value.clone()),
        (Kind::Array(inner), Value::Array(items)) => {
            let items = items.iter().enumerate();
            let checked = items.map(|(at, item)| check(inner, item, defaults).map_err(|why| why.below(&at)));
            Ok(Value::Array(checked.collect::<Outcome<_>>()?))
        }
        (Kind::Map(keys, values), Value::Object(members)) if keys.kind == Kind::String => {
            let checked = members.iter().map(|(name, value)| {
                let value = check(values, value, defaults).map_err(|why| why.below(name))?;
                Ok((name.clone(), value))
            });
            Ok(Value::Object(checked.collect::<Outcome<_>>()?))
        }
        (Kind::Map(keys, values), Value::Array(pairs)) if keys.kind != Kind::String => {
            let pairs = pairs.iter().enumerate().map(|(at, pair)| match pair {
                Value::Array(both) if both.len() == 2 => {
                    let key = check(keys, &both[0], defaults).map_err(|why| why.below(&at))?;
                    let value = check(values, &both[1], defaults).map_err(|why| why.below(&at))?;
                    Ok(Value::Array(vec![key, value]))
                }
                other => Err(wrong(schema, other).below(&at)),
            });
            Ok(Value::Array(pairs.collect::<Outcome<_>>()?))
        }
        (Kind::Struct(fields), Value::Object(members)) => {
            let mut checked = Vec::with_capacity(fields.len());
            for (name, value) in members {
                if let Some((_, field)) = fields.iter().find(|(known, _)| known == name) {
                    let value = check(field, value, defaults).map_err(|why| why.below(name))?;
                    checked.push((name.clone(), value));
                }
            }
            for (name, field) in fields {
                if value.get(name).is_none() {
                    let value = check(field, &Value::Null, defaults).map_err(|why| why.below(name))?;
                    checked.push((name.clone(), value));
                }
            }
            Ok(Value::Object(checked))
        }
        _ => Err(wrong(schema, value)),
    }
}

fn wrong(schema: &Schema, value: &Value) -> Trouble {
    let reason = match (&schema.kind, value) {
        (Kind::Bytes, Value::Text(_)) => "it is no base64, as which bytes are written".to_owned(),
        _ => format!("it is {}, and its schema says {}", value.kind(), schema.word()),
    };
    Trouble::new(code::WRONG_TYPE, reason)
}
