//! From linked descriptors to what reading and writing needs.

use super::text::Files;
use super::{Declared, Enum, EnumId, Field, Invalid, Key, Kind, Message, MessageId, Schema, Shape};
use crate::form::Names;
use plain::json::write_text;
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Messages of one schema, with what it imports.
const MESSAGES_MAX: usize = 10_000;

/// Of the reflection of Protobuf itself: there only where something uses it.
const OF_REFLECTION: &str = "google/protobuf/descriptor.proto";

/// What an `Any` may hold without the file's import.
const ALWAYS_THERE: &[&str] = &[
    "Any",
    "Timestamp",
    "Duration",
    "FieldMask",
    "Struct",
    "Value",
    "ListValue",
    "Empty",
    "DoubleValue",
    "FloatValue",
    "Int64Value",
    "UInt64Value",
    "Int32Value",
    "UInt32Value",
    "BoolValue",
    "StringValue",
    "BytesValue",
];

pub(super) fn schema(files: &Files, names: Names) -> Result<Schema, Invalid> {
    let main = files.pool.get_file_by_name(&files.main);
    let main = main.ok_or_else(|| Invalid(format!("there is no file {}", files.main)))?;
    let mut builder = Builder {
        names,
        ids: HashMap::new(),
        found: Vec::new(),
        enum_ids: HashMap::new(),
        enums: Vec::new(),
    };
    let mut seen = HashSet::new();
    builder.seed(&main, &mut seen);
    for name in ALWAYS_THERE {
        let message = files.pool.get_message_by_name(&format!("google.protobuf.{name}"));
        message.map(|message| builder.id(&message));
    }
    let mut messages = Vec::new();
    // The list grows while it is gone through.
    while let Some(message) = builder.found.get(messages.len()).cloned() {
        if messages.len() == MESSAGES_MAX {
            return Err(Invalid(format!("it has more than {MESSAGES_MAX} messages")));
        }
        messages.push(builder.message(&message));
    }
    let declared = main
        .messages()
        .map(|message| builder.declared(&message))
        .collect();
    Ok(Schema {
        messages,
        enums: builder.enums,
        by_name: builder.ids,
        declared,
    })
}

struct Builder {
    names: Names,
    ids: HashMap<String, MessageId>,
    found: Vec<MessageDescriptor>,
    enum_ids: HashMap<String, EnumId>,
    enums: Vec<Enum>,
}

impl Builder {
    /// All messages of a file and of what it imports.
    fn seed(&mut self, main: &FileDescriptor, seen: &mut HashSet<String>) {
        let mut open = vec![main.clone()];
        while let Some(file) = open.pop() {
            if file.name() == OF_REFLECTION || !seen.insert(file.name().to_owned()) {
                continue;
            }
            let mut messages: Vec<MessageDescriptor> = file.messages().collect();
            while let Some(message) = messages.pop() {
                if !message.is_map_entry() {
                    self.id(&message);
                }
                messages.extend(message.child_messages());
            }
            open.extend(file.dependencies());
        }
    }

    fn id(&mut self, message: &MessageDescriptor) -> MessageId {
        if let Some(id) = self.ids.get(message.full_name()) {
            return *id;
        }
        let id = self.found.len() as MessageId;
        self.ids.insert(message.full_name().to_owned(), id);
        self.found.push(message.clone());
        id
    }

    /// As the registry counts them: without the entries of maps, which no file declares.
    fn declared(&mut self, message: &MessageDescriptor) -> Declared {
        let nested = message.child_messages().filter(|nested| !nested.is_map_entry());
        Declared {
            id: self.id(message),
            nested: nested.map(|nested| self.declared(&nested)).collect(),
        }
    }

    fn message(&mut self, message: &MessageDescriptor) -> Message {
        let mut descriptors: Vec<FieldDescriptor> = message.fields().collect();
        descriptors.sort_by_key(FieldDescriptor::number);
        let oneofs: Vec<String> = message
            .oneofs()
            .filter(|oneof| !oneof.is_synthetic())
            .map(|oneof| oneof.full_name().to_owned())
            .collect();
        let (mut fields, mut names, mut required) = (Vec::new(), HashMap::new(), Vec::new());
        for (index, descriptor) in descriptors.iter().enumerate() {
            let index = index as u32;
            names.insert(descriptor.name().to_owned(), index);
            if descriptor.cardinality() == Cardinality::Required {
                required.push(index);
            }
            fields.push(self.field(descriptor, &oneofs));
        }
        // Where one field's name is another's in JSON, the one that is written wins.
        for (index, descriptor) in descriptors.iter().enumerate() {
            let json = descriptor.json_name().to_owned();
            match self.names {
                Names::Json => drop(names.insert(json, index as u32)),
                Names::Proto => drop(names.entry(json).or_insert(index as u32)),
            }
        }
        Message::new(message.full_name(), fields, names, required)
    }

    fn field(&mut self, descriptor: &FieldDescriptor, oneofs: &[String]) -> Field {
        let text = match self.names {
            Names::Json => descriptor.json_name(),
            Names::Proto => descriptor.name(),
        };
        let mut json = Vec::new();
        write_text(text, &mut json);
        json.push(b':');
        let shape = if descriptor.is_map() {
            Shape::Map
        } else if descriptor.is_list() {
            Shape::Repeated {
                packed: descriptor.is_packed(),
            }
        } else {
            Shape::Single {
                presence: descriptor.supports_presence(),
            }
        };
        let oneof = descriptor.containing_oneof();
        let oneof = oneof.and_then(|oneof| oneofs.iter().position(|name| name == oneof.full_name()));
        Field {
            number: descriptor.number(),
            key: Rc::new(Key {
                text: text.to_owned(),
                json,
            }),
            kind: self.kind(descriptor),
            shape,
            oneof: oneof.map(|oneof| oneof as u32),
            mismatch: None,
        }
    }

    fn kind(&mut self, descriptor: &FieldDescriptor) -> Kind {
        use prost_reflect::Kind as Of;
        match descriptor.kind() {
            Of::Double => Kind::Double,
            Of::Float => Kind::Float,
            Of::Int32 => Kind::Int32,
            Of::Int64 => Kind::Int64,
            Of::Uint32 => Kind::Uint32,
            Of::Uint64 => Kind::Uint64,
            Of::Sint32 => Kind::Sint32,
            Of::Sint64 => Kind::Sint64,
            Of::Fixed32 => Kind::Fixed32,
            Of::Fixed64 => Kind::Fixed64,
            Of::Sfixed32 => Kind::Sfixed32,
            Of::Sfixed64 => Kind::Sfixed64,
            Of::Bool => Kind::Bool,
            Of::String => Kind::String,
            Of::Bytes => Kind::Bytes,
            Of::Enum(of) => Kind::Enum(self.enum_id(&of)),
            Of::Message(of) if descriptor.is_group() => Kind::Group(self.id(&of)),
            Of::Message(of) => Kind::Message(self.id(&of)),
        }
    }

    fn enum_id(&mut self, of: &EnumDescriptor) -> EnumId {
        if let Some(id) = self.enum_ids.get(of.full_name()) {
            return *id;
        }
        let id = self.enums.len() as EnumId;
        self.enum_ids.insert(of.full_name().to_owned(), id);
        // As they are declared: of several names of a number the first is written.
        let values = || {
            let declared = of.enum_descriptor_proto().value.iter();
            declared.map(|value| (value.number(), value.name().to_owned()))
        };
        let mut numbers: Vec<(i32, String)> = values().collect();
        numbers.sort_by_key(|(number, _)| *number);
        numbers.dedup_by_key(|(number, _)| *number);
        self.enums.push(Enum {
            full_name: of.full_name().to_owned(),
            names: values().map(|(number, name)| (name, number)).collect(),
            numbers,
            is_null: of.full_name() == "google.protobuf.NullValue",
        });
        id
    }
}
