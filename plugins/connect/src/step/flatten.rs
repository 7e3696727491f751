//! `Flatten`: fields of objects within become fields of the whole.

use super::{Flow, Opened, Step, pointer};
use crate::json::{Fields, Json, Kind};
use crate::record::{Record, Side};
use crate::settings::Given;
use culvert_plugin::Rejection;
use std::borrow::Cow;

/// The deepest nesting that is read; what common JSON libraries read too.
const DEPTH_MAX: usize = 128;

pub(super) struct Flatten {
    side: Side,
    delimiter: String,
}

impl Flatten {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let delimiter = given.string("delimiter");
        Ok(Box::new(Flatten { side, delimiter }))
    }

    fn collect<'a>(
        &self,
        fields: &mut Fields<'a>,
        prefix: &str,
        depth: usize,
        flat: &mut Vec<(Cow<'a, str>, Json<'a>)>,
    ) -> Result<(), Rejection> {
        for (name, mut value) in fields.take() {
            let name = if prefix.is_empty() {
                name
            } else {
                Cow::Owned(format!("{prefix}{}{name}", self.delimiter))
            };
            match value.fields() {
                Some(inner) if depth < DEPTH_MAX => self.collect(inner, &name, depth + 1, flat)?,
                Some(_) => {
                    let reason = format!("objects lie in each other deeper than {DEPTH_MAX} times");
                    return Err(Rejection::new("too-deep", reason).at(pointer(&name)));
                }
                None => flat.push((name, value)),
            }
        }
        Ok(())
    }
}

impl Step for Flatten {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let part = record.part(self.side);
        if part.json()?.kind() == Kind::Null {
            return Ok(Flow::GoesOn);
        }
        let fields = part.change_fields("Flatten")?;
        let mut flat = Vec::with_capacity(fields.len());
        self.collect(fields, "", 0, &mut flat)?;
        *fields = Fields::of(flat);
        Ok(Flow::GoesOn)
    }
}
