//! Fields that are added, left out, renamed, wrapped and taken out.

use super::{Flow, Opened, Step, path};
use crate::envelope::{self, Inserted};
use crate::json::{Fields, Json, Kind};
use crate::record::{Part, Record, Side};
use crate::settings::{Given, Mistakes};
use culvert_plugin::Rejection;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Adds what is known of a record, or what was given.
pub(super) struct InsertField {
    side: Side,
    topic: Option<Name>,
    partition: Option<Name>,
    offset: Option<Name>,
    timestamp: Option<Name>,
    fixed: Option<(Name, Json<'static>)>,
}

/// A field's name, and whether a schema may leave it out.
struct Name {
    text: String,
    optional: bool,
}

impl Name {
    /// `!` behind it makes it needed, `?` says that it is not.
    fn parse(spec: &str) -> Name {
        Name {
            text: spec.strip_suffix(['!', '?']).unwrap_or(spec).to_owned(),
            optional: !spec.ends_with('!'),
        }
    }
}

impl InsertField {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let name = |key: &str| given.text(key).map(Name::parse);
        let mut mistakes = Mistakes::new();
        let fixed = name("static.field").map(|field| {
            let value = given.text("static.value");
            if value.is_none() {
                mistakes.push((
                    "static.value",
                    "is missing: it is what `static.field` holds".to_owned(),
                ));
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
            mistakes.push((
                "",
                "inserts nothing: give it one of its fields, such as topic.field".to_owned(),
            ));
        }
        if mistakes.is_empty() {
            Ok(Box::new(step))
        } else {
            Err(mistakes)
        }
    }
}

impl Step for InsertField {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        if record.part(self.side).is_null()? {
            return Ok(Flow::GoesOn);
        }
        let number = |number: i128| Json::written(number.to_string());
        let topic = self.topic.as_ref().map(|_| Json::string(&record.topic));
        let partition = self.partition.as_ref().map(|_| number(record.partition.into()));
        let offset = self.offset.as_ref().map(|_| number(record.sequence.into()));
        let timestamp = record.timestamp.map(i128::from).map(number);
        let (mut schema, fields) = record.part(self.side).change_struct("InsertField")?;
        let mut insert = |name: Option<&'a Name>, inserted: Inserted, value: Option<Json<'a>>| {
            let Some(name) = name else { return Ok(()) };
            if let Some(schema) = schema.as_deref_mut() {
                envelope::insert(schema, &name.text, inserted, name.optional)?;
            }
            if let Some(value) = value {
                fields.put(name.text.as_str(), value);
            }
            Ok::<(), Rejection>(())
        };
        insert(self.topic.as_ref(), Inserted::String, topic)?;
        insert(self.partition.as_ref(), Inserted::Int32, partition)?;
        insert(self.offset.as_ref(), Inserted::Int64, offset)?;
        insert(self.timestamp.as_ref(), Inserted::Timestamp, timestamp)?;
        let fixed = self.fixed.as_ref();
        insert(
            fixed.map(|(name, _)| name),
            Inserted::String,
            fixed.map(|(_, value)| value.clone()),
        )?;
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
        let part = record.part(self.side);
        if part.is_null()? {
            return Ok(Flow::GoesOn);
        }
        let (schema, fields) = part.change_struct("ReplaceField")?;
        if let Some(schema) = schema {
            envelope::rename(schema, |name| {
                let new = self.renames.get(name).map_or(name, String::as_str);
                self.keeps(name).then(|| Cow::Owned(new.to_owned()))
            })?;
        }
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
        let (schema, inner) = part.change_both()?;
        let schema = schema.cloned().map(|schema| envelope::wrap(schema, &self.field));
        let outer = Fields::of(vec![(Cow::Borrowed(self.field.as_str()), inner.clone())]);
        part.set_both(schema.transpose()?, Json::Object(outer));
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
        let (schema, json) = part.change_both()?;
        let schema = schema
            .map(|schema| envelope::follow(schema, &self.path))
            .transpose()?;
        if schema.is_none() && json.is_null() {
            part.keep();
            return Ok(Flow::GoesOn);
        }
        let found = if json.is_null() {
            Json::NULL
        } else {
            self.found(part)?
        };
        if let Some(schema) = schema.clone().as_mut()
            && found.is_null()
            && !envelope::takes_null(schema)
        {
            let reason = "the field is null, and its schema does not take null";
            return Err(Rejection::new("no-field", reason));
        }
        part.set_both(schema, found);
        Ok(Flow::GoesOn)
    }
}

impl ExtractField {
    fn found<'a>(&self, part: &mut Part<'a>) -> Result<Json<'a>, Rejection> {
        let (_, mut fields) = part.change_struct("ExtractField")?;
        let Some((last, above)) = self.path.split_last() else {
            return Ok(Json::NULL);
        };
        for name in above {
            let Some(next) = fields.get_mut(name).filter(|next| !next.is_null()) else {
                return Ok(Json::NULL);
            };
            let kind = next.kind();
            fields = next.fields().ok_or_else(|| {
                let reason = format!("ExtractField looks into {name:?}, which is {kind}");
                Rejection::new("not-an-object", reason).at(super::pointer(name))
            })?;
        }
        Ok(fields.get(last).cloned().unwrap_or(Json::NULL))
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
        let (schema, value) = record.value.look_struct("ValueToKey")?;
        let schema = schema
            .map(|schema| envelope::select(schema, &self.fields))
            .transpose()?;
        let of = |name: &'a String| {
            (
                Cow::Borrowed(name.as_str()),
                value.get(name).cloned().unwrap_or(Json::NULL),
            )
        };
        let key = Fields::of(self.fields.iter().map(of).collect());
        record.key.set_both(schema, Json::Object(key));
        Ok(Flow::GoesOn)
    }
}

/// A scalar as a header holds it: strings without quotes, anything else as it is written.
pub(super) fn header_value<'a>(value: &Json<'a>) -> Option<Cow<'a, [u8]>> {
    match value.kind() {
        Kind::Null => None,
        Kind::String => value
            .as_string()
            .map(|text| Cow::Owned(text.into_owned().into_bytes())),
        _ => {
            let mut written = String::new();
            value.write(&mut written);
            Some(Cow::Owned(written.into_bytes()))
        }
    }
}
