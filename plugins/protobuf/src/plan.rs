//! How what one schema wrote is read as another: by the numbers of fields.
//!
//! A plan is the reader's messages, with a note at each field that what was written of its number could not be. It is
//! made once for each pair of messages; where writer and reader are one schema, its own messages are the plan.

use crate::schema::{Field, Kind, Message, MessageId, Schema, Shape};
use std::collections::HashMap;
use std::rc::Rc;

/// Messages and what they are read by.
#[derive(Clone, Copy)]
pub(crate) struct View<'p> {
    pub(crate) messages: &'p [Message],
    /// The reader's: enums, and messages by name.
    pub(crate) schema: &'p Schema,
    pub(crate) root: MessageId,
}

pub(crate) struct Plan {
    messages: Vec<Message>,
    schema: Rc<Schema>,
    root: MessageId,
}

/// Pairs of messages in one plan. A plan that would be larger is none.
const PAIRS_MAX: usize = 10_000;

impl Plan {
    /// # Errors
    /// A sentence's rest, where there are too many messages.
    pub(crate) fn new(
        writer: &Schema,
        written: MessageId,
        reader: &Rc<Schema>,
        root: MessageId,
    ) -> Result<Plan, String> {
        let mut pairs = Pairs {
            writer,
            reader,
            // The reader's own come first and keep their places: what an `Any` holds is of no pair.
            messages: reader.messages.clone(),
            ids: HashMap::new(),
            open: Vec::new(),
        };
        let root = pairs.id(written, root);
        while let Some((written, read, id)) = pairs.open.pop() {
            if pairs.ids.len() > PAIRS_MAX {
                return Err(format!("more than {PAIRS_MAX} pairs of messages would be read"));
            }
            let message = pairs.message(written, read);
            pairs.messages[id as usize] = message;
        }
        Ok(Plan {
            messages: pairs.messages,
            schema: Rc::clone(reader),
            root,
        })
    }

    pub(crate) fn view(&self) -> View<'_> {
        View {
            messages: &self.messages,
            schema: &self.schema,
            root: self.root,
        }
    }
}

struct Pairs<'s> {
    writer: &'s Schema,
    reader: &'s Schema,
    messages: Vec<Message>,
    ids: HashMap<(MessageId, MessageId), MessageId>,
    open: Vec<(MessageId, MessageId, MessageId)>,
}

impl Pairs<'_> {
    fn id(&mut self, written: MessageId, read: MessageId) -> MessageId {
        if let Some(id) = self.ids.get(&(written, read)) {
            return *id;
        }
        let id = self.messages.len() as MessageId;
        self.messages.push(self.reader.messages[read as usize].clone());
        self.ids.insert((written, read), id);
        self.open.push((written, read, id));
        id
    }

    fn message(&mut self, written: MessageId, read: MessageId) -> Message {
        let (written, read) = (
            &self.writer.messages[written as usize],
            &self.reader.messages[read as usize],
        );
        let fields = read.fields.iter().map(|field| {
            let mut field = field.clone();
            if let Some(place) = written.numbered(field.number) {
                self.field(&written.fields[place as usize], &mut field);
            }
            field
        });
        read.with(fields.collect())
    }

    fn field(&mut self, written: &Field, read: &mut Field) {
        if class(written.kind) != class(read.kind)
            || (written.shape == Shape::Map) != (read.shape == Shape::Map)
        {
            let title = |field: &Field| match field.shape {
                Shape::Map => "map",
                _ => field.kind.title(),
            };
            let reason = format!(
                "field {} was written as {} and is read as {}",
                read.number,
                title(written),
                title(read)
            );
            read.mismatch = Some(reason.into());
            return;
        }
        if let (Some(from), Some(to)) = (written.kind.message(), read.kind.message()) {
            let id = self.id(from, to);
            read.kind = match read.kind {
                Kind::Group(_) => Kind::Group(id),
                _ => Kind::Message(id),
            };
        }
    }
}

/// Kinds of one class mean the same by the same bytes, as protobuf.dev's "Updating A Message Type" lists them.
#[derive(PartialEq)]
enum Class {
    Whole,
    Zigzag,
    Fixed32,
    Fixed64,
    Float,
    Double,
    Text,
    Message,
    Group,
}

fn class(kind: Kind) -> Class {
    match kind {
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Bool | Kind::Enum(_) => Class::Whole,
        Kind::Sint32 | Kind::Sint64 => Class::Zigzag,
        Kind::Fixed32 | Kind::Sfixed32 => Class::Fixed32,
        Kind::Fixed64 | Kind::Sfixed64 => Class::Fixed64,
        Kind::Float => Class::Float,
        Kind::Double => Class::Double,
        Kind::String | Kind::Bytes => Class::Text,
        Kind::Message(_) => Class::Message,
        Kind::Group(_) => Class::Group,
    }
}
