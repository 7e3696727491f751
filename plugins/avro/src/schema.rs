//! Schemas, read and checked.
//!
//! All types of a schema lie in one list and name each other by their place, so that a type may hold itself. Names,
//! aliases and symbols follow the specification; a logical type that does not fit its type is no logical type, as the
//! specification says. A default is looked at where a reader needs it: registries hold schemas whose defaults are wrong,
//! and their data is readable all the same.

mod canonical;
mod parser;

pub(crate) use canonical::fingerprint_of;

use plain::json::write_text;
pub(crate) use plain::number::Unit;
use std::fmt;

/// A schema that is ready to be used.
#[derive(Debug)]
pub struct Schema {
    pub(crate) types: Vec<Type>,
    pub(crate) root: TypeId,
    fingerprint: u64,
}

/// A type's place in its schema.
pub(crate) type TypeId = u32;

#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) kind: Kind,
    pub(crate) logical: Option<Logical>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Record),
    Enum(Enum),
    Fixed(Fixed),
}

impl Kind {
    /// Avro's word for it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Int => "int",
            Kind::Long => "long",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Bytes => "bytes",
            Kind::String => "string",
            Kind::Array(_) => "array",
            Kind::Map(_) => "map",
            Kind::Union(_) => "union",
            Kind::Record(_) => "record",
            Kind::Enum(_) => "enum",
            Kind::Fixed(_) => "fixed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Logical {
    /// Of bytes or fixed.
    Decimal { precision: u32, scale: u32 },
    /// Of int: days since 1970-01-01.
    Date,
    /// Of int: milliseconds since midnight.
    TimeMillis,
    /// Of long.
    TimeMicros,
    /// Of long: since 1970-01-01, UTC unless it is `local`.
    Timestamp { unit: Unit, local: bool },
    /// Of string, or of 16 bytes.
    Uuid,
    /// Of 12 bytes: months, days, milliseconds.
    Duration,
}

/// The name of a record, enum or fixed.
#[derive(Debug)]
pub(crate) struct Name {
    /// With its namespace.
    pub(crate) full: String,
    /// With their namespaces.
    pub(crate) aliases: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) key: Key,
    pub(crate) aliases: Vec<String>,
    pub(crate) kind: TypeId,
    /// JSON, as the schema has it.
    pub(crate) default: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Enum {
    pub(crate) name: Name,
    pub(crate) symbols: Vec<String>,
    pub(crate) default: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Fixed {
    pub(crate) name: Name,
    pub(crate) size: usize,
}

/// A field's name, and how JSON has it.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    /// With quotes and colon.
    pub(crate) json: Vec<u8>,
}

impl Key {
    pub(crate) fn new(text: &str) -> Key {
        let mut json = Vec::with_capacity(text.len() + 3);
        write_text(text, &mut json);
        json.push(b':');
        Key {
            text: text.to_owned(),
            json,
        }
    }
}

impl Name {
    /// Without its namespace.
    pub(crate) fn short(&self) -> &str {
        self.full
            .rsplit_once('.')
            .map_or(self.full.as_str(), |(_, short)| short)
    }

    /// Whether data of a type `writer` may be read as this one: the same name without its namespace, or an alias.
    pub(crate) fn answers_to(&self, writer: &Name) -> bool {
        self.short() == writer.short() || self.aliases.contains(&writer.full)
    }
}

/// Why a text is no schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The reference that is at fault; the schema itself where there is none.
    pub reference: Option<String>,
    /// JSON pointer to the place in its text.
    pub at: String,
    /// As a sentence's rest.
    pub why: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Some(reference) => write!(f, "in its reference {reference}, ")?,
            None => f.write_str("the schema is invalid: ")?,
        }
        let place = if self.at.is_empty() { "the root" } else { &self.at };
        write!(f, "{place} {}", self.why)
    }
}

impl std::error::Error for Invalid {}

impl Schema {
    /// Reads a schema. `references` are schemas whose names it uses, in any order, each with the name it is known by.
    ///
    /// # Errors
    /// When it is no schema: where, and why.
    pub fn parse(text: &str, references: &[(String, String)]) -> Result<Schema, Invalid> {
        let (types, root) = parser::parse(text, references)?;
        let mut schema = Schema {
            types,
            root,
            fingerprint: 0,
        };
        if schema.is_too_deep() {
            return Err(Invalid {
                reference: None,
                at: String::new(),
                why: "holds types that lie too deep in each other".to_owned(),
            });
        }
        schema.fingerprint = fingerprint_of(schema.canonical().as_bytes());
        Ok(schema)
    }

    /// CRC-64-AVRO of the schema's Parsing Canonical Form: what single objects begin with.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub(crate) fn of(&self, id: TypeId) -> &Type {
        &self.types[id as usize]
    }

    /// What a person calls the type.
    pub(crate) fn title(&self, id: TypeId) -> String {
        let of = self.of(id);
        let logical = of.logical.map(Logical::title);
        let kind = match &of.kind {
            Kind::Union(branches) => {
                let titles: Vec<String> = branches.iter().map(|branch| self.title(*branch)).collect();
                return format!("the union of {}", titles.join(", "));
            }
            Kind::Record(record) => return format!("record {}", record.name.full),
            Kind::Enum(of) => return format!("enum {}", of.name.full),
            Kind::Fixed(fixed) => {
                let title = format!("fixed {} of {} bytes", fixed.name.full, fixed.size);
                return logical.map_or(title.clone(), |logical| format!("{logical} in {title}"));
            }
            other => other.word(),
        };
        logical.map_or(kind.to_owned(), |logical| format!("{logical} in {kind}"))
    }
}

impl Logical {
    pub(crate) fn title(self) -> String {
        match self {
            Logical::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            other => other.name().to_owned(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Logical::Decimal { .. } => "decimal",
            Logical::Date => "date",
            Logical::TimeMillis => "time-millis",
            Logical::TimeMicros => "time-micros",
            Logical::Timestamp { unit, local } => match (unit, local) {
                (Unit::Millis, false) => "timestamp-millis",
                (Unit::Micros, false) => "timestamp-micros",
                (Unit::Nanos, false) => "timestamp-nanos",
                (Unit::Millis, true) => "local-timestamp-millis",
                (Unit::Micros, true) => "local-timestamp-micros",
                (Unit::Nanos, true) => "local-timestamp-nanos",
            },
            Logical::Uuid => "uuid",
            Logical::Duration => "duration",
        }
    }
}
