//! JSON as these transformations need it: fields in their order, numbers as they are written, and nothing below a field
//! read before somebody asks for it.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// Above so many fields an index finds those that are there twice.
const FIELDS_FEW: usize = 32;

/// A JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Json<'a> {
    /// As it is written, and known to be JSON.
    Text(Cow<'a, str>),
    /// An object that was opened: names as they read, each once.
    Object(Fields<'a>),
}

/// What a value is, in Kafka Connect's terms for JSON without a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    /// Connect's INT64: a number without a point and an exponent.
    Integer,
    /// Connect's FLOAT64.
    Decimal,
    String,
    Array,
    Map,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Boolean => "a boolean",
            Kind::Integer | Kind::Decimal => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Map => "an object",
        })
    }
}

impl<'a> Json<'a> {
    pub(crate) const NULL: Json<'static> = Json::Text(Cow::Borrowed("null"));

    /// # Errors
    /// Where the text is no JSON.
    pub(crate) fn read(text: &'a str) -> Result<Json<'a>, serde_json::Error> {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        if text.starts_with('{') {
            return serde_json::from_str(text).map(Json::Object);
        }
        serde_json::from_str::<&RawValue>(text).map(|raw| Json::Text(Cow::Borrowed(raw.get())))
    }

    /// A string.
    pub(crate) fn string(text: &str) -> Json<'static> {
        let mut written = String::with_capacity(text.len() + 2);
        write_string(text, &mut written);
        Json::Text(Cow::Owned(written))
    }

    /// A number, `true` or `false`, as it is written.
    pub(crate) fn written(text: impl Into<Cow<'a, str>>) -> Json<'a> {
        Json::Text(text.into())
    }

    pub(crate) fn kind(&self) -> Kind {
        let Json::Text(text) = self else {
            return Kind::Map;
        };
        match text.as_bytes().first() {
            Some(b'{') => Kind::Map,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') => Kind::Null,
            _ if text.contains(['.', 'e', 'E']) => Kind::Decimal,
            _ => Kind::Integer,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// Scalars as they are written; nothing of an opened object.
    pub(crate) fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            Json::Object(_) => "",
        }
    }

    /// A string as it reads.
    pub(crate) fn as_string(&self) -> Option<Cow<'_, str>> {
        let inner = self.text().strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        serde_json::from_str(self.text()).ok().map(Cow::Owned)
    }

    /// The fields of an object, opened where it was not; nothing of any other value.
    pub(crate) fn fields(&mut self) -> Option<&mut Fields<'a>> {
        if let Json::Text(text) = self
            && text.starts_with('{')
        {
            let fields = match text {
                Cow::Borrowed(text) => serde_json::from_str(text).ok()?,
                Cow::Owned(text) => serde_json::from_str::<Fields<'_>>(text).ok()?.into_owned(),
            };
            *self = Json::Object(fields);
        }
        match self {
            Json::Object(fields) => Some(fields),
            Json::Text(_) => None,
        }
    }

    /// What an array holds.
    pub(crate) fn items(&self) -> Option<Vec<Json<'a>>> {
        let Json::Text(text) = self else { return None };
        match text {
            Cow::Borrowed(text) => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                let item = |item: &'a RawValue| Json::Text(Cow::Borrowed(item.get()));
                Some(items.into_iter().map(item).collect())
            }
            Cow::Owned(text) => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
                let item = |item: Box<RawValue>| Json::Text(Cow::Owned(item.get().to_owned()));
                Some(items.into_iter().map(item).collect())
            }
        }
    }

    pub(crate) fn into_owned(self) -> Json<'static> {
        match self {
            Json::Text(text) => Json::Text(Cow::Owned(text.into_owned())),
            Json::Object(fields) => Json::Object(fields.into_owned()),
        }
    }

    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Json::Text(text) => out.push_str(text),
            Json::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.0.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_string(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// The fields of an object, in order, each name once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Fields<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Json<'a>> {
        self.0
            .iter_mut()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// In the place of the field of this name, or behind all.
    pub(crate) fn put(&mut self, name: impl Into<Cow<'a, str>>, value: Json<'a>) {
        let name = name.into();
        match self.get_mut(&name) {
            Some(known) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self) -> Vec<(Cow<'a, str>, Json<'a>)> {
        std::mem::take(&mut self.0)
    }

    /// Of fields of the same name the last counts, in the place of the first, as Jackson has it.
    pub(crate) fn of(fields: Vec<(Cow<'a, str>, Json<'a>)>) -> Fields<'a> {
        let mut unique = Fields(Vec::with_capacity(fields.len()));
        if fields.len() <= FIELDS_FEW {
            for (name, value) in fields {
                unique.put(name, value);
            }
            return unique;
        }
        let mut places: HashMap<Cow<'a, str>, usize> = HashMap::with_capacity(fields.len());
        for (name, value) in fields {
            if let Some(place) = places.get(&name) {
                unique.0[*place].1 = value;
            } else {
                places.insert(name.clone(), unique.0.len());
                unique.0.push((name, value));
            }
        }
        unique
    }

    fn into_owned(self) -> Fields<'static> {
        let owned =
            |(name, value): (Cow<'a, str>, Json<'a>)| (Cow::Owned(name.into_owned()), value.into_owned());
        Fields(self.0.into_iter().map(owned).collect())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields<'a>, D::Error> {
        deserializer.deserialize_map(FieldsVisitor).map(Fields::of)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Vec<(Cow<'de, str>, Json<'de>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            fields.push((name, Json::Text(Cow::Borrowed(value.get()))));
        }
        Ok(fields)
    }
}

/// A field's name: borrowed where no escape is in it.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name<'de>, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// A text as a JSON string, with its quotes.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|character| matches!(character, '"' | '\\' | '\0'..' ')) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            control => out.push_str(&format!("\\u{control:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}
