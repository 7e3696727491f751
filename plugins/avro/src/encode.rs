//! Values written as Avro binary: from plain JSON, from the contract's tree, and from a schema's defaults, which are JSON
//! of another form.
//!
//! A union's branch is chosen by looking at the value once, never by trying: what was tried would have to be tried again
//! at each depth. The branch that fits best wins, and of equals the first.

use crate::form::{BytesFormat, DecimalFormat, Form, TimeFormat, UnknownFields, uuid_of};
use crate::schema::{Enum, Field, Kind, Logical, Record, Schema, TypeId, Unit};
use culvert_plugin::codec::Tree;
use plain::json::{Json, Token};
use plain::number::{NoDecimal, days_of, decimal_bytes, decimal_text, time_of, timestamp_of, widened};
use plain::source::{Nodes, Source, View, parsed};
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, cut, too_deep};
use std::borrow::Cow;
use std::collections::HashMap;

/// Writes JSON as a value of the schema.
pub(crate) fn from_json(schema: &Schema, text: &[u8], form: Form, bytes: &mut Vec<u8>) -> Outcome<()> {
    let json = &parsed(text)?;
    Encoder::new(schema, &json, Some(form), bytes).value(schema.root, 0)
}

/// Writes each item of a JSON list as a value of the schema.
pub(crate) fn list_from_json(
    schema: &Schema,
    text: &[u8],
    form: Form,
    mut item: impl FnMut(&[u8]),
) -> Outcome<()> {
    let json = &parsed(text)?;
    let Token::Array(_) = json.token(0) else {
        return Err(Trouble::new(
            code::WRONG_TYPE,
            "a container file is made of a list of its records",
        ));
    };
    let mut bytes = Vec::new();
    for (index, at) in json.items(0).enumerate() {
        bytes.clear();
        let written = Encoder::new(schema, &json, Some(form), &mut bytes).value(schema.root, at);
        written.map_err(|trouble| trouble.below(&index))?;
        item(&bytes);
    }
    Ok(())
}

/// Writes a tree as a value of the schema.
pub(crate) fn from_tree(
    schema: &Schema,
    tree: &Tree,
    unknown: UnknownFields,
    bytes: &mut Vec<u8>,
) -> Outcome<()> {
    let source = Nodes::new(tree)?;
    Encoder::new(schema, &source, Some(tree_form(unknown)), bytes).value(schema.root, 0)
}

/// Writes each item of a tree as a value of the schema.
pub(crate) fn list_from_tree(
    schema: &Schema,
    tree: &Tree,
    unknown: UnknownFields,
    mut item: impl FnMut(&[u8]),
) -> Outcome<()> {
    let source = Nodes::new(tree)?;
    let View::Items = source.view(0)? else {
        return Err(Trouble::new(
            code::WRONG_TYPE,
            "a container file is made of a list of its records",
        ));
    };
    let mut bytes = Vec::new();
    for (index, at) in source.items(0).enumerate() {
        bytes.clear();
        let written =
            Encoder::new(schema, &source, Some(tree_form(unknown)), &mut bytes).value(schema.root, at);
        written.map_err(|trouble| trouble.below(&index))?;
        item(&bytes);
    }
    Ok(())
}

/// What of it matters for a tree is only the unknown fields: its texts are texts.
fn tree_form(unknown: UnknownFields) -> Form {
    Form {
        decimal: DecimalFormat::String,
        bytes: BytesFormat::Base64,
        time: TimeFormat::Number,
        unknown,
    }
}

/// A default in the encoding of its type. What is wrong is said as a sentence's rest.
pub(crate) fn default_bytes(schema: &Schema, kind: TypeId, text: &str) -> Result<Vec<u8>, String> {
    let json = Json::parse(text.as_bytes(), DEPTH_MAX as usize);
    let json = &json.map_err(|wrong| format!("is no JSON: {}", wrong.why))?;
    let mut bytes = Vec::new();
    let written = Encoder::new(schema, &json, None, &mut bytes).value(kind, 0);
    match written {
        Ok(()) => Ok(bytes),
        Err(trouble) => {
            let why = culvert_plugin::Rejection::from(trouble);
            Err(format!("does not fit its type: {}", why.reason))
        }
    }
}

struct Encoder<'s, 'o, S> {
    schema: &'s Schema,
    source: &'s S,
    /// None for defaults: bytes are ISO-8859-1 there, and logical types do not count.
    form: Option<Form>,
    bytes: &'o mut Vec<u8>,
    depth: u32,
}

/// How well a value fits a type. The numbers only compare.
type Fit = u8;

const NO_FIT: Fit = 0;
/// By a conversion that another branch may do better.
const LOOSE: Fit = 1;
const FAIR: Fit = 2;
const EXACT: Fit = 3;

impl<'a, 's, 'o, S: Source<'a>> Encoder<'s, 'o, S> {
    fn new(schema: &'s Schema, source: &'s S, form: Option<Form>, bytes: &'o mut Vec<u8>) -> Self {
        Encoder {
            schema,
            source,
            form,
            bytes,
            depth: 0,
        }
    }

    fn logical(&self, kind: TypeId) -> Option<Logical> {
        self.schema.of(kind).logical.filter(|_| self.form.is_some())
    }

    fn value(&mut self, kind: TypeId, at: u32) -> Outcome<()> {
        let schema = self.schema;
        let view = self.source.view(at)?;
        if let View::Unsigned(number) = view {
            let reason = format!("Avro has no number as large as {number}");
            return Err(Trouble::new(code::OUT_OF_RANGE, reason));
        }
        match (&schema.of(kind).kind, &view) {
            (Kind::Union(branches), _) => {
                let index = self.branch(kind, branches, &view, at)?;
                put_long(self.bytes, index as i64);
                return self.value(branches[index], at);
            }
            (Kind::Null, View::Null) => {}
            (Kind::Boolean, View::Boolean(truth)) => self.bytes.push(u8::from(*truth)),
            (Kind::Int | Kind::Long, _) => {
                let number = self.whole_number(kind, &view)?;
                put_long(self.bytes, number);
            }
            (Kind::Float, _) => {
                let number = self.float(kind, &view)?;
                self.bytes.extend_from_slice(&(number as f32).to_le_bytes());
            }
            (Kind::Double, _) => {
                let number = self.float(kind, &view)?;
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
            (Kind::String, View::Text(text)) => put_bytes(self.bytes, text.as_bytes()),
            (Kind::Bytes, _) => {
                let bytes = self.binary(kind, &view)?;
                put_bytes(self.bytes, &bytes);
            }
            (Kind::Fixed(_), View::Entries) if self.logical(kind) == Some(Logical::Duration) => {
                self.duration(at)?;
            }
            (Kind::Fixed(fixed), _) => {
                let bytes = self.binary(kind, &view)?;
                if bytes.len() != fixed.size {
                    let reason = format!("{} cannot be {} bytes", schema.title(kind), bytes.len());
                    return Err(Trouble::new(code::OUT_OF_RANGE, reason));
                }
                self.bytes.extend_from_slice(&bytes);
            }
            (Kind::Enum(of), View::Text(text)) => match position(of, text) {
                Some(index) => put_long(self.bytes, index as i64),
                None => {
                    let reason = format!("enum {} has no symbol `{}`", of.name.full, cut(text));
                    return Err(Trouble::new(code::OUT_OF_RANGE, reason));
                }
            },
            (Kind::Array(item), View::Items) => return self.array(*item, at),
            (Kind::Map(value), View::Entries) => return self.map(*value, at),
            (Kind::Record(record), View::Entries) => return self.record(record, at),
            _ => return Err(self.wrong(kind, &view)),
        }
        Ok(())
    }

    #[cold]
    fn wrong(&self, kind: TypeId, view: &View<'_>) -> Trouble {
        let reason = format!("{} cannot be {}", self.schema.title(kind), view.title());
        Trouble::new(code::WRONG_TYPE, reason)
    }

    #[cold]
    fn beyond(&self, kind: TypeId, what: impl std::fmt::Display) -> Trouble {
        let reason = format!("{} cannot hold {what}", self.schema.title(kind));
        Trouble::new(code::OUT_OF_RANGE, reason)
    }

    fn enter(&mut self) -> Outcome<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(())
    }

    fn array(&mut self, item: TypeId, at: u32) -> Outcome<()> {
        self.enter()?;
        let count = self.source.count(at);
        if count > 0 {
            put_long(self.bytes, count as i64);
            for (index, at) in self.source.items(at).enumerate() {
                self.value(item, at).map_err(|trouble| trouble.below(&index))?;
            }
        }
        put_long(self.bytes, 0);
        self.depth -= 1;
        Ok(())
    }

    fn map(&mut self, value: TypeId, at: u32) -> Outcome<()> {
        self.enter()?;
        let count = self.source.count(at);
        if count > 0 {
            put_long(self.bytes, count as i64);
            for (key, at) in self.source.members(at) {
                put_bytes(self.bytes, key.as_bytes());
                self.value(value, at).map_err(|trouble| trouble.below(&key))?;
            }
        }
        put_long(self.bytes, 0);
        self.depth -= 1;
        Ok(())
    }

    fn record(&mut self, record: &'s Record, at: u32) -> Outcome<()> {
        self.enter()?;
        let mut members = Members::new(self.source.members(at), self.source.count(at));
        for field in &record.fields {
            match members.take(&field.key.text) {
                Some(at) => self.value(field.kind, at),
                None => self.absent(record, field),
            }
            .map_err(|trouble| trouble.below(&field.key.text))?;
        }
        let ignores = self
            .form
            .is_some_and(|form| form.unknown == UnknownFields::Ignore);
        if !ignores && let Some(name) = members.left(record) {
            let reason = match record.fields.iter().any(|field| field.key.text == *name) {
                true => format!("the field `{}` is there twice", cut(&name)),
                false => format!("record {} has no field `{}`", record.name.full, cut(&name)),
            };
            return Err(Trouble::new(code::UNKNOWN_FIELD, reason).below(&name));
        }
        self.depth -= 1;
        Ok(())
    }

    /// A field that is not there is its default, or null where it may be null.
    fn absent(&mut self, record: &Record, field: &Field) -> Outcome<()> {
        if let Some(default) = &field.default {
            let bytes = default_bytes(self.schema, field.kind, default).map_err(|why| {
                Trouble::new(
                    code::MISSING_FIELD,
                    format!("it is not there, and its default {why}"),
                )
            })?;
            self.bytes.extend_from_slice(&bytes);
            return Ok(());
        }
        let null = |branch: &TypeId| matches!(self.schema.of(*branch).kind, Kind::Null);
        match &self.schema.of(field.kind).kind {
            Kind::Null => Ok(()),
            Kind::Union(branches) if self.form.is_some() && branches.iter().any(null) => {
                let index = branches.iter().position(null).unwrap_or(0);
                put_long(self.bytes, index as i64);
                Ok(())
            }
            _ => Err(Trouble::new(
                code::MISSING_FIELD,
                format!(
                    "record {} needs this field, which has no default",
                    record.name.full
                ),
            )),
        }
    }

    /// The branch of a union that the value becomes.
    fn branch(&self, kind: TypeId, branches: &[TypeId], view: &View<'a>, at: u32) -> Outcome<usize> {
        // Where only one branch has the value's shape, what is wrong inside is said better there.
        let mut shaped =
            (0..branches.len()).filter(|index| has_shape(&self.schema.of(branches[*index]).kind, view));
        let first = shaped.next();
        if let Some(only) = first
            && shaped.next().is_none()
        {
            return Ok(only);
        }
        let mut best = (NO_FIT, 0);
        for (index, branch) in branches.iter().enumerate() {
            let fit = self.fit(*branch, view, at);
            if fit > best.0 {
                best = (fit, index);
            }
        }
        match best {
            (NO_FIT, _) => Err(self.wrong(kind, view)),
            (_, index) => Ok(index),
        }
    }

    fn fit(&self, kind: TypeId, view: &View<'a>, at: u32) -> Fit {
        let of = self.schema.of(kind);
        match (&of.kind, view) {
            (Kind::Null, View::Null) | (Kind::Boolean, View::Boolean(_)) | (Kind::Array(_), View::Items) => {
                EXACT
            }
            (Kind::Int | Kind::Long, _) => match (self.whole_number(kind, view), view) {
                (Ok(_), View::Float(_) | View::Number(_)) => LOOSE,
                (Ok(_), _) => EXACT,
                (Err(_), _) => NO_FIT,
            },
            (Kind::Float | Kind::Double, _) => match self.float(kind, view) {
                Err(_) => NO_FIT,
                Ok(number) => match (&of.kind, view) {
                    (_, View::Text(_)) => LOOSE,
                    (_, View::Integer(whole)) if number as i64 != *whole => LOOSE,
                    (Kind::Float, _) if f64::from(number as f32) != number && !number.is_nan() => LOOSE,
                    (_, View::Integer(_)) => FAIR,
                    _ => EXACT,
                },
            },
            (Kind::String, View::Text(_)) => EXACT,
            (Kind::Enum(of), View::Text(text)) if position(of, text).is_some() => EXACT,
            (Kind::Bytes, _) => match self.binary(kind, view) {
                Ok(_) if matches!(view, View::Bytes(_) | View::Decimal(..)) => EXACT,
                Ok(_) => LOOSE,
                Err(_) => NO_FIT,
            },
            (Kind::Fixed(_), View::Entries) => {
                let is_one = self.logical(kind) == Some(Logical::Duration) && self.is_duration(at);
                if is_one { EXACT } else { NO_FIT }
            }
            (Kind::Fixed(fixed), _) => match self.binary(kind, view) {
                Ok(bytes) if bytes.len() == fixed.size => match view {
                    View::Bytes(_) | View::Decimal(..) => EXACT,
                    _ => FAIR,
                },
                _ => NO_FIT,
            },
            (Kind::Map(_), View::Entries) => FAIR,
            (Kind::Record(record), View::Entries) => self.fit_of_record(record, at),
            _ => NO_FIT,
        }
    }

    /// How well an object fits a record: not at all with fields that the record does not have, or without one that it
    /// needs, and better with all of them than with some.
    fn fit_of_record(&self, record: &Record, at: u32) -> Fit {
        let mut members = Members::new(self.source.members(at), self.source.count(at));
        let null = |branch: &TypeId| matches!(self.schema.of(*branch).kind, Kind::Null);
        let may_miss = |field: &Field| {
            let may_be_null = match &self.schema.of(field.kind).kind {
                Kind::Null => true,
                Kind::Union(branches) => branches.iter().any(null),
                _ => false,
            };
            field.default.is_some() || may_be_null
        };
        let mut fit = EXACT;
        for field in &record.fields {
            if members.take(&field.key.text).is_some() {
                continue;
            }
            if !may_miss(field) {
                return NO_FIT;
            }
            fit = LOOSE;
        }
        let ignores = self
            .form
            .is_some_and(|form| form.unknown == UnknownFields::Ignore);
        if ignores || members.left(record).is_none() {
            fit
        } else {
            NO_FIT
        }
    }

    fn is_duration(&self, at: u32) -> bool {
        let mut members = Members::new(self.source.members(at), self.source.count(at));
        let parts = ["months", "days", "millis"];
        self.source.count(at) == parts.len() && parts.into_iter().all(|part| members.take(part).is_some())
    }

    /// An int or long, of whatever logical type.
    fn whole_number(&self, kind: TypeId, view: &View<'_>) -> Outcome<i64> {
        let logical = self.logical(kind);
        let number = match (logical, view) {
            (_, View::Integer(number)) => *number,
            (_, View::Float(number)) => whole(*number).ok_or_else(|| self.beyond(kind, number))?,
            (_, View::Number(text)) => {
                let number = text.parse().ok().and_then(whole);
                number.ok_or_else(|| self.beyond(kind, cut(text)))?
            }
            (Some(Logical::Date), View::Days(days)) => i64::from(*days),
            (Some(Logical::Timestamp { unit, .. }), View::Timestamp(micros)) => {
                let number = match unit {
                    Unit::Millis if micros % 1_000 == 0 => Some(micros / 1_000),
                    Unit::Millis => None,
                    Unit::Micros => Some(*micros),
                    Unit::Nanos => micros.checked_mul(1_000),
                };
                number.ok_or_else(|| self.beyond(kind, format!("{micros} µs")))?
            }
            (Some(logical), View::Text(text)) if S::IS_JSON => {
                let number = match logical {
                    Logical::Date => days_of(text),
                    Logical::TimeMillis => time_of(text, Unit::Millis),
                    Logical::TimeMicros => time_of(text, Unit::Micros),
                    Logical::Timestamp { unit, local } => timestamp_of(text, unit, local),
                    _ => None,
                };
                number.ok_or_else(|| {
                    let reason = format!("{} cannot be the text `{}`", self.schema.title(kind), cut(text));
                    Trouble::new(code::WRONG_TYPE, reason)
                })?
            }
            _ => return Err(self.wrong(kind, view)),
        };
        let is_int = matches!(self.schema.of(kind).kind, Kind::Int);
        if is_int && i32::try_from(number).is_err() {
            return Err(self.beyond(kind, number));
        }
        Ok(number)
    }

    fn float(&self, kind: TypeId, view: &View<'_>) -> Outcome<f64> {
        let number = match view {
            View::Integer(number) => *number as f64,
            View::Float(number) => *number,
            View::Number(text) => text.parse().map_err(|_| self.wrong(kind, view))?,
            View::Text(text) if S::IS_JSON => match &**text {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                "-Infinity" => f64::NEG_INFINITY,
                _ => return Err(self.wrong(kind, view)),
            },
            _ => return Err(self.wrong(kind, view)),
        };
        // JSON has larger numbers than a float; infinity alone is meant to be infinite.
        let is_single = matches!(self.schema.of(kind).kind, Kind::Float);
        let is_infinite = number.is_infinite() || (is_single && (number as f32).is_infinite());
        let is_meant =
            matches!(view, View::Text(_)) || matches!(view, View::Float(number) if number.is_infinite());
        if is_infinite && !is_meant {
            return Err(self.beyond(kind, "so large a number"));
        }
        Ok(number)
    }

    /// The bytes of a `bytes` or fixed, of whatever logical type.
    fn binary<'v>(&self, kind: TypeId, view: &'v View<'a>) -> Outcome<Cow<'v, [u8]>> {
        match (self.logical(kind), view) {
            (Some(Logical::Decimal { precision, scale }), _) => {
                self.decimal(kind, view, precision, scale).map(Cow::Owned)
            }
            (Some(Logical::Uuid), View::Text(text)) => match uuid_of(text) {
                Some(uuid) => Ok(Cow::Owned(uuid.to_vec())),
                None => Err(Trouble::new(
                    code::WRONG_TYPE,
                    format!("`{}` is no UUID", cut(text)),
                )),
            },
            (None, View::Bytes(bytes)) => Ok(Cow::Borrowed(bytes)),
            (None, View::Text(text)) if S::IS_JSON => {
                let format = self.form.map_or(BytesFormat::Latin1, |form| form.bytes);
                format.read(text).map(Cow::Owned)
            }
            // Bare bytes are of no logical type: in a union they belong to another branch.
            _ => Err(self.wrong(kind, view)),
        }
    }

    fn decimal(&self, kind: TypeId, view: &View<'_>, precision: u32, scale: u32) -> Outcome<Vec<u8>> {
        let text = match view {
            View::Decimal(unscaled, from) => match decimal_text(unscaled, *from) {
                Some(text) => Cow::Owned(text),
                None => return Err(self.beyond(kind, format!("{} bytes", unscaled.len()))),
            },
            View::Text(text) if S::IS_JSON => Cow::Borrowed(&**text),
            View::Number(text) => Cow::Borrowed(*text),
            View::Integer(number) => Cow::Owned(number.to_string()),
            View::Float(number) if number.is_finite() => Cow::Owned(number.to_string()),
            _ => return Err(self.wrong(kind, view)),
        };
        let bytes = decimal_bytes(&text, precision, scale).map_err(|error| match error {
            NoDecimal::NotANumber => {
                Trouble::new(code::WRONG_TYPE, format!("`{}` is no decimal number", cut(&text)))
            }
            NoDecimal::OutOfRange(why) => self.beyond(kind, format!("{}: {why}", cut(&text))),
        })?;
        match &self.schema.of(kind).kind {
            Kind::Fixed(fixed) => widened(&bytes, fixed.size).ok_or_else(|| self.beyond(kind, cut(&text))),
            _ => Ok(bytes),
        }
    }

    /// Three numbers below 2^32.
    fn duration(&mut self, at: u32) -> Outcome<()> {
        let mut members = Members::new(self.source.members(at), self.source.count(at));
        if self.source.count(at) != 3 {
            return Err(Trouble::new(
                code::WRONG_TYPE,
                "a duration has `months`, `days` and `millis` alone",
            ));
        }
        for name in ["months", "days", "millis"] {
            let number = match members.take(name).map(|at| self.source.view(at)) {
                Some(Ok(View::Integer(number))) => u32::try_from(number).ok(),
                _ => None,
            };
            let number = number.ok_or_else(|| {
                let reason = "a duration's parts are whole numbers from 0 to 4294967295";
                Trouble::new(code::WRONG_TYPE, reason).below(&name)
            })?;
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        Ok(())
    }
}

/// Whether a value of this kind could be of the type at all, by what it is and not by what it holds. Where more than one
/// branch could, they are compared.
fn has_shape(kind: &Kind, view: &View<'_>) -> bool {
    match view {
        View::Null => matches!(kind, Kind::Null),
        View::Boolean(_) => matches!(kind, Kind::Boolean),
        View::Items => matches!(kind, Kind::Array(_)),
        View::Entries => matches!(kind, Kind::Record(_) | Kind::Map(_) | Kind::Fixed(_)),
        View::Text(_) => !matches!(
            kind,
            Kind::Null | Kind::Boolean | Kind::Array(_) | Kind::Map(_) | Kind::Record(_)
        ),
        _ => matches!(
            kind,
            Kind::Int | Kind::Long | Kind::Float | Kind::Double | Kind::Bytes | Kind::Fixed(_)
        ),
    }
}

/// A whole number that a float holds exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53: beyond, a float stands for several whole numbers
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

fn position(of: &Enum, symbol: &str) -> Option<usize> {
    of.symbols.iter().position(|known| known == symbol)
}

#[inline]
pub(crate) fn put_long(bytes: &mut Vec<u8>, number: i64) {
    let mut zigzag = (number << 1 ^ number >> 63) as u64;
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

pub(crate) fn put_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    put_long(bytes, part.len() as i64);
    bytes.extend_from_slice(part);
}

/// The members of an object, asked for by name. Mostly they come in the order in which they are asked for; where they do
/// not, and there are many, they are put into a table once.
struct Members<'a, I> {
    all: I,
    next: I,
    count: usize,
    taken: usize,
    table: Option<HashMap<Cow<'a, str>, u32>>,
}

/// Up to here it is quicker to look through the members than to make a table.
const LOOKED_THROUGH_MAX: usize = 16;

impl<'a, I: Iterator<Item = (Cow<'a, str>, u32)> + Clone> Members<'a, I> {
    fn new(all: I, count: usize) -> Self {
        Members {
            next: all.clone(),
            all,
            count,
            taken: 0,
            table: None,
        }
    }

    fn take(&mut self, name: &str) -> Option<u32> {
        let mut next = self.next.clone();
        if let Some((key, at)) = next.next()
            && key == name
        {
            self.next = next;
            self.taken += 1;
            return Some(at);
        }
        let found = match self.count {
            0..=LOOKED_THROUGH_MAX => {
                let mut all = self.all.clone();
                all.find(|(key, _)| key == name).map(|(_, at)| at)
            }
            _ => {
                let table = self.table.get_or_insert_with(|| self.all.clone().collect());
                table.get(name).copied()
            }
        };
        self.taken += usize::from(found.is_some());
        found
    }

    /// A member that no field of the record took, or took only once of two.
    fn left(&self, record: &Record) -> Option<Cow<'a, str>> {
        if self.taken == self.count {
            return None;
        }
        let fields: std::collections::HashSet<&str> = record
            .fields
            .iter()
            .map(|field| field.key.text.as_str())
            .collect();
        let mut seen = std::collections::HashSet::new();
        let mut all = self.all.clone();
        all.find(|(key, _)| !fields.contains(&**key) || !seen.insert(key.clone()))
            .map(|(key, _)| key)
    }
}
