//! Headers that are added, left out, and made of fields.

use super::fields::header_value;
use super::{Flow, Opened, Step};
use crate::json::Json;
use crate::record::{Record, Side};
use crate::settings::Given;
use culvert_plugin::Rejection;
use std::borrow::Cow;
use std::collections::HashSet;

/// Adds one, behind all others.
pub(super) struct InsertHeader {
    header: String,
    value: Option<String>,
}

impl InsertHeader {
    pub(super) fn open(given: &Given) -> Opened {
        // Connect reads the literal as a value, in which `null` is none.
        let value = Some(given.string("value.literal")).filter(|value| value != "null");
        let header = given.string("header");
        Ok(Box::new(InsertHeader { header, value }))
    }
}

impl Step for InsertHeader {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let value = self.value.as_ref().map(|value| Cow::Borrowed(value.as_bytes()));
        let header = (Cow::Borrowed(self.header.as_str()), value);
        record.change_headers().push(header);
        Ok(Flow::GoesOn)
    }
}

/// Leaves all of some names out.
pub(super) struct DropHeaders {
    headers: HashSet<String>,
}

impl DropHeaders {
    pub(super) fn open(given: &Given) -> Opened {
        let headers = given.list("headers").into_iter().collect();
        Ok(Box::new(DropHeaders { headers }))
    }
}

impl Step for DropHeaders {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let is_dropped = |name: &str| self.headers.contains(name);
        if record.headers().iter().any(|(name, _)| is_dropped(name)) {
            record.change_headers().retain(|(name, _)| !is_dropped(name));
        }
        Ok(Flow::GoesOn)
    }
}

/// Copies or moves fields.
pub(super) struct HeaderFrom {
    side: Side,
    /// Fields, and the headers they become.
    pairs: Vec<(String, String)>,
    moves: bool,
}

impl HeaderFrom {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let (fields, headers) = (given.list("fields"), given.list("headers"));
        if fields.len() != headers.len() {
            let mistake = format!(
                "names {} headers for {} fields; give one for each",
                headers.len(),
                fields.len()
            );
            return Err(vec![("headers", mistake)]);
        }
        Ok(Box::new(HeaderFrom {
            side,
            pairs: fields.into_iter().zip(headers).collect(),
            moves: given.text("operation") == Some("move"),
        }))
    }
}

impl Step for HeaderFrom {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let part = record.part(self.side);
        let fields = part.fields("HeaderFrom")?;
        let value = |field: &String| header_value(fields.get(field).unwrap_or(&Json::NULL));
        let made: Vec<_> = self
            .pairs
            .iter()
            .map(|(field, header)| (Cow::Borrowed(header.as_str()), value(field)))
            .collect();
        if self.moves {
            let fields = part.change_fields("HeaderFrom")?;
            for (field, _) in &self.pairs {
                fields.remove(field);
            }
        }
        record.change_headers().extend(made);
        Ok(Flow::GoesOn)
    }
}
