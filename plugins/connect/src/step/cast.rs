//! `Cast`: a value of another type, narrowed as Java narrows it.

use super::{Flow, Opened, Step, pointer};
use crate::json::{Json, Kind};
use crate::number::{double, double_text, float_text};
use crate::record::{Record, Side};
use crate::settings::{Given, Mistakes};
use culvert_plugin::Rejection;

pub(super) struct Cast {
    side: Side,
    what: What,
}

enum What {
    Whole(Type),
    Fields(Vec<(String, Type)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Boolean,
    String,
}

const TYPES: [(&str, Type); 8] = [
    ("int8", Type::Int8),
    ("int16", Type::Int16),
    ("int32", Type::Int32),
    ("int64", Type::Int64),
    ("float32", Type::Float32),
    ("float64", Type::Float64),
    ("boolean", Type::Boolean),
    ("string", Type::String),
];

impl Type {
    fn parse(text: &str) -> Option<Type> {
        let text = text.trim().to_ascii_lowercase();
        let (_, found) = TYPES.iter().find(|(name, _)| *name == text)?;
        Some(*found)
    }
}

impl Cast {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let spec = given.list("spec");
        let mut mistakes = Mistakes::new();
        let mut whole = None;
        let mut fields: Vec<(String, Type)> = Vec::new();
        for item in &spec {
            let (field, name) = match item.split_once(':') {
                Some((field, name)) => (Some(field.trim().to_owned()), name),
                None => (None, item.as_str()),
            };
            match (field, Type::parse(name)) {
                (Some(field), Some(kind)) => {
                    fields.retain(|(known, _)| *known != field);
                    fields.push((field, kind));
                }
                (None, Some(kind)) => whole = Some(kind),
                (_, None) => {
                    let valid: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
                    let mistake = format!("has {item:?}, whose type is none of {}", valid.join(", "));
                    mistakes.push(("spec", mistake));
                }
            }
        }
        if whole.is_some() && spec.len() > 1 {
            mistakes.push(("spec", "has a type for the whole beside others".to_owned()));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let what = whole.map_or(What::Fields(fields), What::Whole);
        Ok(Box::new(Cast { side, what }))
    }
}

impl Step for Cast {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let part = record.part(self.side);
        if part.json()?.is_null() {
            return Ok(Flow::GoesOn);
        }
        match &self.what {
            What::Whole(target) => {
                let cast = cast(part.json()?, *target).map_err(|why| rejection(part_name(self.side), why))?;
                part.set(cast);
            }
            What::Fields(casts) => {
                let fields = part.change_fields("Cast")?;
                for (name, target) in casts {
                    let value = fields.get(name).unwrap_or(&Json::NULL);
                    let cast = cast(value, *target)
                        .map_err(|why| rejection(&format!("{name:?}"), why).at(pointer(name)))?;
                    fields.put(name.as_str(), cast);
                }
            }
        }
        Ok(Flow::GoesOn)
    }
}

fn part_name(side: Side) -> &'static str {
    match side {
        Side::Key => "the key",
        Side::Value => "the value",
    }
}

fn rejection(what: &str, why: &str) -> Rejection {
    Rejection::new("cannot-cast", format!("{what} {why}"))
}

/// What a value is before it is narrowed.
enum Number {
    Whole(i64),
    Decimal(f64),
}

fn cast(value: &Json<'_>, target: Type) -> Result<Json<'static>, &'static str> {
    const NOT_OF_TYPE: &str = "is a text that its new type does not read";
    let number = match value.kind() {
        Kind::Null => return Ok(Json::NULL),
        Kind::Array | Kind::Map => return Err("is an array or an object, which cannot be cast"),
        Kind::String => {
            let text = value.as_string().ok_or(NOT_OF_TYPE)?;
            return cast_string(&text, target).ok_or(NOT_OF_TYPE);
        }
        Kind::Boolean if target == Type::String => return Ok(Json::string(value.text())),
        Kind::Boolean if target == Type::Boolean => return Ok(Json::written(value.text().to_owned())),
        Kind::Boolean => Number::Whole(i64::from(value.text() == "true")),
        Kind::Decimal => Number::Decimal(value.text().parse().map_err(|_| NOT_OF_TYPE)?),
        Kind::Integer => match (value.text().parse(), target) {
            (Ok(number), _) => Number::Whole(number),
            (Err(_), Type::String) => return Ok(Json::string(value.text())),
            (Err(_), Type::Float32 | Type::Float64) => {
                Number::Decimal(value.text().parse().map_err(|_| NOT_OF_TYPE)?)
            }
            (Err(_), _) => return Err("is a number beyond 64 bits, which its new type does not hold"),
        },
    };
    Ok(match number {
        Number::Whole(number) => cast_whole(number, target),
        Number::Decimal(number) => cast_decimal(number, target),
    })
}

fn cast_string(text: &str, target: Type) -> Option<Json<'static>> {
    Some(Json::written(match target {
        Type::Int8 => text.parse::<i8>().ok()?.to_string(),
        Type::Int16 => text.parse::<i16>().ok()?.to_string(),
        Type::Int32 => text.parse::<i32>().ok()?.to_string(),
        Type::Int64 => text.parse::<i64>().ok()?.to_string(),
        Type::Float32 => return Some(float(double(text)? as f32)),
        Type::Float64 => return Some(decimal(double(text)?)),
        Type::Boolean => text.eq_ignore_ascii_case("true").to_string(),
        Type::String => return Some(Json::string(text)),
    }))
}

fn cast_whole(number: i64, target: Type) -> Json<'static> {
    Json::written(match target {
        Type::Int8 => (number as i8).to_string(),
        Type::Int16 => (number as i16).to_string(),
        Type::Int32 => (number as i32).to_string(),
        Type::Int64 => number.to_string(),
        Type::Float32 => return float(number as f32),
        Type::Float64 => return decimal(number as f64),
        Type::Boolean => (number != 0).to_string(),
        Type::String => return Json::string(&number.to_string()),
    })
}

fn cast_decimal(number: f64, target: Type) -> Json<'static> {
    // Java narrows to 32 bits, to their ends, and cuts from there.
    Json::written(match target {
        Type::Int8 => (number as i32 as i8).to_string(),
        Type::Int16 => (number as i32 as i16).to_string(),
        Type::Int32 => (number as i32).to_string(),
        Type::Int64 => (number as i64).to_string(),
        Type::Float32 => return float(number as f32),
        Type::Float64 => return decimal(number),
        Type::Boolean => (number as i64 != 0).to_string(),
        Type::String => return Json::string(&double_text(number)),
    })
}

/// What JSON has no number for comes as a string, as Connect's own converter writes it.
fn decimal(number: f64) -> Json<'static> {
    let text = double_text(number);
    if number.is_finite() {
        Json::written(text)
    } else {
        Json::string(&text)
    }
}

fn float(number: f32) -> Json<'static> {
    let text = float_text(number);
    if number.is_finite() {
        Json::written(text)
    } else {
        Json::string(&text)
    }
}
