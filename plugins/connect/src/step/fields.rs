//! Fields that are added, left out, renamed, wrapped and taken out.

use super::{Flow, Opened, Step, path};
use crate::json::{Fields, Json, Kind};
use crate::record::{Record, Side};
use crate::settings::{Given, Mistakes};
use culvert_plugin::Rejection;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Adds what is known of a record, or what was given.
pub(super) struct InsertField {
    side: Side,
    topic: Option<String>,
    partition: Option<String>,
    offset: Option<String>,
    timestamp: Option<String>,
    fixed: Option<(String, Json<'static>)>,
}

impl InsertField {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let name = |key: &str| given.text(key).map(without_optionality);
        let mut mistakes = Mistakes::new();
        let fixed = name("static.field").map(|field| {
            let value = given.text("static.value");
            if value.is_none() {
                mistakes.push(("static.value", "is missing: it is what `static.field` holds".to_owned()));
            }
            (field, Json::string(value.unwrap_or_default()))
        });
        let step = InsertField {
            side,
            topic: name("topic.field"),
            partition: name("partition.field"),
            offset: name("offset.field"),
            timestamp: name("timestamp.field"),
            fixed,
        };
        let is_given = [&step.topic, &step.partition, &step.offset, &step.timestamp];
        if step.fixed.is_none() && is_given.iter().all(|name| name.is_none()) {
            mistakes.push(("", "inserts nothing: give it one of its fields, such as topic.field".to_owned()));
        }
        if mistakes.is_empty() { Ok(Box::new(step)) } else { Err(mistakes) }
    }
}

/// The name of a field, which `!` or `?` may follow.
fn without_optionality(spec: &str) -> String {
    spec.strip_suffix(['!', '?']).unwrap_or(spec).to_owned()
}

impl Step for InsertField {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        if record.part(self.side).json()?.is_null() {
            return Ok(Flow::GoesOn);
        }
        let topic = self.topic.as_ref().map(|name| (name, Json::string(&record.topic)));
        let (partition, sequence, timestamp) = (record.partition, record.sequence, record.timestamp);
        let fields = record.part(self.side).change_fields("InsertField")?;
        if let Some((name, topic)) = topic {
            fields.put(name.as_str(), topic);
        }
        let mut number = |name: &'a Option<String>, number: Option<i128>| {
            if let (Some(name), Some(number)) = (name, number) {
                fields.put(name.as_str(), Json::written(number.to_string()));
            }
        };
        number(&self.partition, Some(partition.into()));
        number(&self.offset, Some(sequence.into()));
        number(&self.timestamp, timestamp.map(i128::from));
        if let Some((name, value)) = &self.fixed {
            fields.put(name.as_str(), value.clone());
        }
        Ok(Flow::GoesOn)
    }
}

/// Leaves fields out, and renames them.
pub(super) struct ReplaceField {
    side: Side,
    exclude: HashSet<String>,
    include: HashSet<String>,
    renames: HashMap<String, String>,
}

impl ReplaceField {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let mut renames = HashMap::new();
        let mut mistakes = Mistakes::new();
        for pair in given.list("renames") {
            match pair.split_once(':') {
                Some((old, new)) if !new.is_empty() && !new.contains(':') => {
                    renames.insert(old.to_owned(), new.to_owned());
                }
                _ => mistakes.push(("renames", format!("has {pair:?}, which is no pair old:new"))),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Box::new(ReplaceField {
            side,
            exclude: given.list("exclude").into_iter().collect(),
            include: given.list("include").into_iter().collect(),
            renames,
        }))
    }

    fn keeps(&self, name: &str) -> bool {
        !self.exclude.contains(name) && (self.include.is_empty() || self.include.contains(name))
    }
}

impl Step for ReplaceField {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        if record.part(self.side).json()?.is_null() {
            return Ok(Flow::GoesOn);
        }
        let fields = record.part(self.side).change_fields("ReplaceField")?;
        let kept = fields.take().into_iter().filter(|(name, _)| self.keeps(name));
        let renamed = kept.map(|(name, value)| match self.renames.get(name.as_ref()) {
            Some(new) => (Cow::Borrowed(new.as_str()), value),
            None => (name, value),
        });
        *fields = Fields::of(renamed.collect());
        Ok(Flow::GoesOn)
    }
}

/// Puts all into one field.
pub(super) struct HoistField {
    side: Side,
    field: String,
}

impl HoistField {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let field = given.string("field");
        Ok(Box::new(HoistField { side, field }))
    }
}

impl Step for HoistField {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let part = record.part(self.side);
        let inner = part.json()?.clone();
        part.set(Json::Object(Fields::of(vec![(Cow::Borrowed(self.field.as_str()), inner)])));
        Ok(Flow::GoesOn)
    }
}

/// Takes one field in the place of all.
pub(super) struct ExtractField {
    side: Side,
    path: Vec<String>,
}

impl ExtractField {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let field = given.string("field");
        let path = match given.string("field.syntax.version").to_ascii_uppercase().as_str() {
            "V1" => Ok(vec![field]),
            "V2" => path::parse(&field).map_err(|mistake| vec![("field", mistake)]),
            _ => Err(vec![("field.syntax.version", "must be V1 or V2".to_owned())]),
        };
        Ok(Box::new(ExtractField { side, path: path? }))
    }
}

impl Step for ExtractField {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let part = record.part(self.side);
        if part.json()?.is_null() {
            return Ok(Flow::GoesOn);
        }
        let mut fields = part.fields("ExtractField")?;
        let mut found = Json::NULL;
        for (at, name) in self.path.iter().enumerate() {
            let Some(next) = fields.get_mut(name).filter(|next| !next.is_null()) else {
                found = Json::NULL;
                break;
            };
            if at + 1 == self.path.len() {
                found = next.clone();
                break;
            }
            let kind = next.kind();
            let Some(inner) = next.fields() else {
                let reason = format!("ExtractField looks into {name:?}, which is {kind}");
                return Err(Rejection::new("not-an-object", reason).at(super::pointer(name)));
            };
            fields = inner;
        }
        part.set(found);
        Ok(Flow::GoesOn)
    }
}

/// Makes the key of fields of the value.
pub(super) struct ValueToKey {
    fields: Vec<String>,
}

impl ValueToKey {
    pub(super) fn open(given: &Given) -> Opened {
        let fields = given.list("fields");
        Ok(Box::new(ValueToKey { fields }))
    }
}

impl Step for ValueToKey {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let value = record.value.fields("ValueToKey")?;
        let of = |name: &'a String| (Cow::Borrowed(name.as_str()), value.get(name).cloned().unwrap_or(Json::NULL));
        let key = Fields::of(self.fields.iter().map(of).collect());
        record.key.set(Json::Object(key));
        Ok(Flow::GoesOn)
    }
}

/// A scalar as a header holds it: strings without quotes, anything else as it is written.
pub(super) fn header_value<'a>(value: &Json<'a>) -> Option<Cow<'a, [u8]>> {
    match value.kind() {
        Kind::Null => None,
        Kind::String => value.as_string().map(|text| Cow::Owned(text.into_owned().into_bytes())),
        _ => {
            let mut written = String::new();
            value.write(&mut written);
            Some(Cow::Owned(written.into_bytes()))
        }
    }
}
