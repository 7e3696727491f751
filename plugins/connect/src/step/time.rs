//! `TimestampConverter`: times as numbers and as texts.

use super::{Flow, Opened, Step, pointer};
use crate::date::Pattern;
use crate::json::{Json, Kind};
use crate::record::{Record, Side};
use crate::settings::Given;
use culvert_plugin::Rejection;

pub(super) struct TimestampConverter {
    side: Side,
    /// None is the whole.
    field: Option<String>,
    target: Target,
    pattern: Option<Pattern>,
    precision: Precision,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    String,
    Unix,
    /// Of a schema alone.
    Logical,
}

#[derive(Clone, Copy)]
enum Precision {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Precision {
    fn to_ms(self, count: i64) -> i64 {
        match self {
            Precision::Seconds => count.saturating_mul(1_000),
            Precision::Milliseconds => count,
            Precision::Microseconds => count / 1_000,
            Precision::Nanoseconds => count / 1_000_000,
        }
    }

    fn of_ms(self, ms: i64) -> i64 {
        match self {
            Precision::Seconds => ms / 1_000,
            Precision::Milliseconds => ms,
            Precision::Microseconds => ms.saturating_mul(1_000),
            Precision::Nanoseconds => ms.saturating_mul(1_000_000),
        }
    }
}

impl TimestampConverter {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let target = match given.text("target.type") {
            Some("string") => Target::String,
            Some("unix") => Target::Unix,
            _ => Target::Logical,
        };
        let format = given.string("format");
        if target == Target::String && format.trim().is_empty() {
            return Err(vec![("format", "is missing: texts need it".to_owned())]);
        }
        let pattern = match format.trim() {
            "" => None,
            _ => Some(Pattern::parse(&format).map_err(|mistake| vec![("format", mistake)])?),
        };
        let precision = match given.text("unix.precision") {
            Some("seconds") => Precision::Seconds,
            Some("microseconds") => Precision::Microseconds,
            Some("nanoseconds") => Precision::Nanoseconds,
            _ => Precision::Milliseconds,
        };
        let field = Some(given.string("field")).filter(|field| !field.is_empty());
        Ok(Box::new(TimestampConverter {
            side,
            field,
            target,
            pattern,
            precision,
        }))
    }

    fn converted(&self, value: &Json<'_>) -> Result<Json<'static>, Rejection> {
        let not_a_time = |reason: String| Rejection::new("not-a-time", reason);
        let time = match value.kind() {
            Kind::Null => return Ok(Json::NULL),
            Kind::Integer => {
                let count = value.text().parse();
                let count = count.map_err(|_| not_a_time("it is a number beyond 64 bits".to_owned()))?;
                self.precision.to_ms(count)
            }
            Kind::String => {
                let Some(pattern) = &self.pattern else {
                    return Err(not_a_time(
                        "it is a text, and no format says how to read it".to_owned(),
                    ));
                };
                let text = value.as_string();
                let read = text.and_then(|text| pattern.read(&text));
                read.ok_or_else(|| not_a_time(format!("its text does not match {}", pattern.text)))?
            }
            kind => return Err(not_a_time(format!("it is {kind}, which is not read as a time"))),
        };
        match (self.target, &self.pattern) {
            (Target::Unix, _) => Ok(Json::written(self.precision.of_ms(time).to_string())),
            (Target::String, Some(pattern)) => Ok(Json::string(&pattern.format(time))),
            _ => Err(Rejection::new(
                "no-schema",
                "Date, Time and Timestamp are types of a schema, and there is none; use unix or string",
            )),
        }
    }
}

impl Step for TimestampConverter {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let part = record.part(self.side);
        if part.json()?.is_null() {
            return Ok(Flow::GoesOn);
        }
        let Some(name) = &self.field else {
            let converted = self.converted(part.json()?)?;
            part.set(converted);
            return Ok(Flow::GoesOn);
        };
        let fields = part.change_fields("TimestampConverter")?;
        let value = fields.get(name).unwrap_or(&Json::NULL);
        let converted = self.converted(value).map_err(|why| why.at(pointer(name)))?;
        fields.put(name.as_str(), converted);
        Ok(Flow::GoesOn)
    }
}
