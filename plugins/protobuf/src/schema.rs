//! Schemas, read and checked, as what reading and writing needs of them.
//!
//! All messages of a schema lie in one list and name each other by their place, so that a message may hold itself.

mod build;
mod text;

use crate::form::Names;
use crate::wire::Wire;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

/// A schema that is ready to be used.
pub struct Schema {
    pub(crate) messages: Vec<Message>,
    pub(crate) enums: Vec<Enum>,
    /// By full name: of the file and all it imports.
    by_name: HashMap<String, MessageId>,
    /// Of the file itself.
    declared: Vec<Declared>,
}

/// A message as the file declares it, with those that are declared in it.
struct Declared {
    id: MessageId,
    nested: Vec<Declared>,
}

/// A message's place in its schema.
pub(crate) type MessageId = u32;

/// An enum's place in its schema.
pub(crate) type EnumId = u32;

/// Why a text is no schema.
#[derive(Debug, PartialEq)]
pub struct Invalid(pub(crate) String);

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) full_name: Rc<str>,
    /// By rising number.
    pub(crate) fields: Rc<[Field]>,
    pub(crate) special: Option<Special>,
    /// Fields of proto2 that must be there.
    pub(crate) required: Rc<[u32]>,
    lookup: Rc<Lookup>,
}

/// How fields are found.
struct Lookup {
    /// The place of each field by its number, for small numbers; `NONE` where there is no such field.
    small: Vec<u32>,
    names: HashMap<String, u32>,
}

const NONE: u32 = u32::MAX;

/// Numbers below are looked up in a table.
const SMALL_MAX: u32 = 256;

#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) key: Rc<Key>,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// The oneof it belongs to, counted in its message.
    pub(crate) oneof: Option<u32>,
    /// Why what was written of this number is nothing that this field could be.
    pub(crate) mismatch: Option<Rc<str>>,
}

/// The name of a field, as trees and as JSON have it.
pub(crate) struct Key {
    pub(crate) text: String,
    /// In quotes, with a colon behind.
    pub(crate) json: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shape {
    /// At most once. Without `presence`, zero is the same as absent.
    Single {
        presence: bool,
    },
    Repeated {
        packed: bool,
    },
    /// The kind is the message of one entry: its key is field 1, its value field 2.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
    Group(MessageId),
}

/// Messages that JSON has a form of its own for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    Timestamp,
    Duration,
    FieldMask,
    Any,
    Struct,
    Value,
    ListValue,
    /// A scalar in a message, so that it may be absent.
    Wrapper,
}

pub(crate) struct Enum {
    pub(crate) full_name: String,
    names: HashMap<String, i32>,
    /// By rising number. Of several names, the first.
    numbers: Vec<(i32, String)>,
    /// `google.protobuf.NullValue`: null.
    pub(crate) is_null: bool,
}

impl Schema {
    /// Reads the text of a `.proto` file, or descriptors as base64; `references` are what it imports, by the names it
    /// uses.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, references: &[(String, String)], names: Names) -> Result<Schema, Invalid> {
        let files = text::files(text, references)?;
        build::schema(&files, names)
    }

    pub(crate) fn message(&self, name: &str) -> Option<MessageId> {
        self.by_name.get(name.trim_start_matches('.')).copied()
    }

    /// The first message that the file declares.
    pub(crate) fn first(&self) -> Option<MessageId> {
        self.declared.first().map(|declared| declared.id)
    }

    /// The message at a path of the file: its place among those declared, then in that among those declared in it, …
    pub(crate) fn at_path(&self, path: &[u32]) -> Option<MessageId> {
        let mut among = &self.declared;
        let mut found = None;
        for index in path {
            let declared = among.get(*index as usize)?;
            found = Some(declared.id);
            among = &declared.nested;
        }
        found
    }

    /// The path of a message; nothing where another file declares it.
    pub(crate) fn path_of(&self, id: MessageId) -> Option<Vec<u32>> {
        fn find(among: &[Declared], id: MessageId, path: &mut Vec<u32>) -> bool {
            among.iter().enumerate().any(|(index, declared)| {
                path.push(index as u32);
                let is_there = declared.id == id || find(&declared.nested, id, path);
                if !is_there {
                    path.pop();
                }
                is_there
            })
        }
        let mut path = Vec::new();
        find(&self.declared, id, &mut path).then_some(path)
    }
}

impl Message {
    pub(crate) fn new(
        full_name: &str,
        fields: Vec<Field>,
        names: HashMap<String, u32>,
        required: Vec<u32>,
    ) -> Message {
        let mut small = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            if field.number < SMALL_MAX {
                let number = field.number as usize;
                small.resize(small.len().max(number + 1), NONE);
                small[number] = index as u32;
            }
        }
        Message {
            full_name: full_name.into(),
            fields: fields.into(),
            special: special(full_name),
            required: required.into(),
            lookup: Rc::new(Lookup { small, names }),
        }
    }

    /// The same message with its fields changed, but for their numbers and names.
    pub(crate) fn with(&self, fields: Rc<[Field]>) -> Message {
        Message {
            fields,
            ..self.clone()
        }
    }

    /// The place of the field with this number.
    #[inline]
    pub(crate) fn numbered(&self, number: u32) -> Option<u32> {
        if number < SMALL_MAX {
            let place = self.lookup.small.get(number as usize).copied();
            return place.filter(|place| *place != NONE);
        }
        let place = self.fields.binary_search_by_key(&number, |field| field.number);
        place.ok().map(|place| place as u32)
    }

    /// The place of the field with this name, in whichever form.
    pub(crate) fn named(&self, name: &str) -> Option<u32> {
        self.lookup.names.get(name).copied()
    }
}

/// A message of this name stands for what JSON has a form for.
fn special(full_name: &str) -> Option<Special> {
    Some(match full_name.strip_prefix("google.protobuf.")? {
        "Timestamp" => Special::Timestamp,
        "Duration" => Special::Duration,
        "FieldMask" => Special::FieldMask,
        "Any" => Special::Any,
        "Struct" => Special::Struct,
        "Value" => Special::Value,
        "ListValue" => Special::ListValue,
        "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
        | "BoolValue" | "StringValue" | "BytesValue" => Special::Wrapper,
        _ => return None,
    })
}

impl Enum {
    pub(crate) fn named(&self, name: &str) -> Option<i32> {
        self.names.get(name).copied()
    }

    pub(crate) fn name(&self, number: i32) -> Option<&str> {
        let place = self
            .numbers
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        Some(&self.numbers[place].1)
    }
}

impl Kind {
    /// How a value of it is written.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Sint64
            | Kind::Bool
            | Kind::Enum(_) => Wire::Varint,
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => Wire::Fixed64,
            Kind::Fixed32 | Kind::Sfixed32 | Kind::Float => Wire::Fixed32,
            Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Bytes,
            Kind::Group(_) => Wire::Group,
        }
    }

    /// Whether many of it may stand behind one tag.
    pub(crate) fn can_be_packed(self) -> bool {
        !matches!(self.wire(), Wire::Bytes | Wire::Group)
    }

    pub(crate) fn message(self) -> Option<MessageId> {
        match self {
            Kind::Message(id) | Kind::Group(id) => Some(id),
            _ => None,
        }
    }

    /// What a person calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Uint32 => "uint32",
            Kind::Uint64 => "uint64",
            Kind::Sint32 => "sint32",
            Kind::Sint64 => "sint64",
            Kind::Fixed32 => "fixed32",
            Kind::Fixed64 => "fixed64",
            Kind::Sfixed32 => "sfixed32",
            Kind::Sfixed64 => "sfixed64",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::Bool => "bool",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Enum(_) => "enum",
            Kind::Message(_) => "message",
            Kind::Group(_) => "group",
        }
    }
}
