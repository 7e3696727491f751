//! `MaskField`: what a field holds is replaced by nothing of its type, or by what was given.

use super::{Flow, Opened, Step, pointer};
use crate::json::{Json, Kind};
use crate::number;
use crate::record::{Record, Side};
use crate::settings::Given;
use culvert_plugin::Rejection;

pub(super) struct MaskField {
    side: Side,
    fields: Vec<String>,
    replacement: Option<Replacement>,
}

/// What was given, as each type that it can be.
struct Replacement {
    text: Json<'static>,
    integer: Option<Json<'static>>,
    decimal: Option<Json<'static>>,
}

impl MaskField {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let replacement = given.text("replacement");
        if replacement.is_some_and(str::is_empty) {
            return Err(vec![("replacement", "must not be empty".to_owned())]);
        }
        Ok(Box::new(MaskField {
            side,
            fields: given.list("fields"),
            replacement: replacement.map(Replacement::of),
        }))
    }

    fn masked(&self, kind: Kind, name: &str) -> Result<Json<'static>, Rejection> {
        let Some(replacement) = &self.replacement else {
            return Ok(Json::written(match kind {
                Kind::Null => "null",
                Kind::Boolean => "false",
                Kind::Integer => "0",
                Kind::Decimal => "0.0",
                Kind::String => "\"\"",
                Kind::Array => "[]",
                Kind::Map => "{}",
            }));
        };
        let number = |number: &Option<Json<'static>>| {
            number.clone().ok_or_else(|| {
                let reason = format!("{name:?} is a number, and the replacement is none");
                Rejection::new("cannot-mask", reason).at(pointer(name))
            })
        };
        match kind {
            Kind::Null => Ok(Json::NULL),
            Kind::String => Ok(replacement.text.clone()),
            Kind::Integer => number(&replacement.integer),
            Kind::Decimal => number(&replacement.decimal),
            Kind::Boolean | Kind::Array | Kind::Map => {
                let reason = format!("{name:?} is {kind}, which a replacement cannot mask");
                Err(Rejection::new("cannot-mask", reason).at(pointer(name)))
            }
        }
    }
}

impl Replacement {
    fn of(text: &str) -> Replacement {
        let finite = number::double(text).filter(|number| number.is_finite());
        let integer = match text.trim().parse::<i64>() {
            Ok(number) => Some(number),
            // As Connect narrows it.
            Err(_) => finite.map(|number| number as i64),
        };
        Replacement {
            text: Json::string(text),
            integer: integer.map(|number| Json::written(number.to_string())),
            decimal: finite.map(|number| Json::written(number::double_text(number))),
        }
    }
}

impl Step for MaskField {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let fields = record.part(self.side).change_fields("MaskField")?;
        for name in &self.fields {
            let kind = fields.get(name).map_or(Kind::Null, Json::kind);
            fields.put(name.as_str(), self.masked(kind, name)?);
        }
        Ok(Flow::GoesOn)
    }
}
