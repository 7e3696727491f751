//! Values written as Protobuf: from plain JSON and from the contract's tree.
//!
//! Fields are written by rising number, so that equal values are equal bytes (but for maps, whose entries stay in their
//! order).

mod scalar;
mod special;

use crate::form::UnknownFields;
use crate::schema::{Field, Kind, Message, MessageId, Schema, Shape, Special};
use crate::walk::missing;
use crate::wire::{Wire, put_varint};
use culvert_plugin::codec::Tree;
use plain::source::{Nodes, Source, View, parsed};
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, cut, too_deep};
use std::ops::Range;

/// Writes JSON as a message of the schema.
pub(crate) fn from_json(
    schema: &Schema,
    root: MessageId,
    text: &[u8],
    unknown: UnknownFields,
    bytes: &mut Vec<u8>,
) -> Outcome<()> {
    let json = &parsed(text)?;
    Encoder::new(schema, &json, unknown, bytes).root(root)
}

/// Writes a tree as a message of the schema.
pub(crate) fn from_tree(
    schema: &Schema,
    root: MessageId,
    tree: &Tree,
    unknown: UnknownFields,
    bytes: &mut Vec<u8>,
) -> Outcome<()> {
    let nodes = Nodes::new(tree)?;
    Encoder::new(schema, &nodes, unknown, bytes).root(root)
}

struct Encoder<'s, 'o, S> {
    schema: &'s Schema,
    source: &'s S,
    unknown: UnknownFields,
    bytes: &'o mut Vec<u8>,
    /// The fields of messages that are not written yet, with the places of their values.
    found: Vec<(u32, u32)>,
    depth: u32,
}

impl<'a, 's, 'o, S: Source<'a>> Encoder<'s, 'o, S> {
    fn new(schema: &'s Schema, source: &'s S, unknown: UnknownFields, bytes: &'o mut Vec<u8>) -> Self {
        Encoder {
            schema,
            source,
            unknown,
            bytes,
            found: Vec::new(),
            depth: 0,
        }
    }

    fn root(mut self, id: MessageId) -> Outcome<()> {
        self.message(id, 0)
    }

    /// The fields of a message, without tag and length.
    fn message(&mut self, id: MessageId, at: u32) -> Outcome<()> {
        let message = &self.schema.messages[id as usize];
        self.enter()?;
        match message.special {
            Some(special) => self.special(special, message, at)?,
            None => match self.source.view(at)? {
                View::Entries => self.fields(message, at, None)?,
                other => {
                    let reason = format!("message {} cannot be {}", message.full_name, other.title());
                    return Err(Trouble::new(code::WRONG_TYPE, reason));
                }
            },
        }
        self.depth -= 1;
        Ok(())
    }

    fn enter(&mut self) -> Outcome<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(())
    }

    /// All members of an object as fields, but for one of another meaning.
    fn fields(&mut self, message: &'s Message, at: u32, other: Option<&str>) -> Outcome<()> {
        let base = self.found.len();
        let (mut is_sorted, mut last) = (true, 0);
        for (name, at) in self.source.members(at) {
            let Some(place) = message.named(&name) else {
                if Some(&*name) == other || self.unknown == UnknownFields::Ignore {
                    continue;
                }
                let reason = format!("message {} has no field `{}`", message.full_name, cut(&name));
                return Err(Trouble::new(code::UNKNOWN_FIELD, reason).below(&*name));
            };
            is_sorted &= self.found.len() == base || place > last;
            last = place;
            self.found.push((place, at));
        }
        if !is_sorted {
            self.found[base..].sort_by_key(|(place, _)| *place);
        }
        self.check_once(message, base)?;
        for index in base..self.found.len() {
            let (place, at) = self.found[index];
            let field = &message.fields[place as usize];
            self.field(field, at)
                .map_err(|trouble| trouble.below(&field.key.text))?;
        }
        self.found.truncate(base);
        Ok(())
    }

    /// Each field at most once, of each oneof at most one, and all that must be there.
    fn check_once(&mut self, message: &Message, base: usize) -> Outcome<()> {
        if let Some(pair) = self.found[base..].windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let field = &message.fields[pair[0].0 as usize];
            let reason = format!("the field `{}` is there twice", cut(&field.key.text));
            return Err(Trouble::new(code::UNKNOWN_FIELD, reason).below(&field.key.text));
        }
        // Null is no field of a oneof, unless it is its value.
        let source = self.source;
        let fields = &message.fields;
        let is_null = |place: u32, at: u32| {
            !self.takes_null(fields[place as usize].kind) && matches!(source.view(at), Ok(View::Null))
        };
        let mut oneofs = Vec::new();
        for (place, at) in &self.found[base..] {
            let field = &message.fields[*place as usize];
            let Some(oneof) = field.oneof.filter(|_| !is_null(*place, *at)) else {
                continue;
            };
            if oneofs.contains(&oneof) {
                let reason = "another field of the same oneof is there";
                return Err(Trouble::new(code::WRONG_TYPE, reason).below(&field.key.text));
            }
            oneofs.push(oneof);
        }
        for required in message.required.iter() {
            let found = &self.found[base..];
            let there = found.binary_search_by_key(required, |(place, _)| *place);
            let is_there = there.is_ok_and(|index| !is_null(found[index].0, found[index].1));
            if !is_there {
                let field = &message.fields[*required as usize];
                return Err(missing(message).below(&field.key.text));
            }
        }
        Ok(())
    }

    fn takes_null(&self, kind: Kind) -> bool {
        match kind {
            Kind::Message(id) => self.schema.messages[id as usize].special == Some(Special::Value),
            Kind::Enum(id) => self.schema.enums[id as usize].is_null,
            _ => false,
        }
    }

    fn field(&mut self, field: &'s Field, at: u32) -> Outcome<()> {
        let view = self.source.view(at)?;
        let is_many = matches!(field.shape, Shape::Repeated { .. } | Shape::Map);
        if matches!(view, View::Null) && (is_many || !self.takes_null(field.kind)) {
            return Ok(());
        }
        match (field.shape, &view) {
            (Shape::Single { presence }, _) => {
                let before = self.bytes.len();
                self.tagged(field, at)?;
                if !presence && self.is_zero(field, before) {
                    self.bytes.truncate(before);
                }
            }
            (Shape::Repeated { packed }, View::Items) => return self.items(field, packed, at),
            (Shape::Map, View::Entries) => return self.map(field, at),
            (Shape::Repeated { .. }, _) => {
                let reason = format!("a list of {} cannot be {}", field.kind.title(), view.title());
                return Err(Trouble::new(code::WRONG_TYPE, reason));
            }
            (Shape::Map, _) => {
                return Err(Trouble::new(
                    code::WRONG_TYPE,
                    format!("a map cannot be {}", view.title()),
                ));
            }
        }
        Ok(())
    }

    /// Whether the field that was written behind a place is zero: all bytes behind its tag are.
    fn is_zero(&self, field: &Field, before: usize) -> bool {
        let tag = varint_length(u64::from(field.number) << 3);
        match field.kind.wire() {
            Wire::Bytes => self.bytes.len() == before + tag + 1,
            _ => self.bytes[before + tag..].iter().all(|byte| *byte == 0),
        }
    }

    /// One value with its tag.
    fn tagged(&mut self, field: &'s Field, at: u32) -> Outcome<()> {
        self.tag(field.number, field.kind.wire().number());
        match field.kind {
            Kind::Message(id) => self.with_length(|this| this.message(id, at)),
            Kind::Group(id) => {
                self.message(id, at)?;
                self.tag(field.number, GROUP_ENDS);
                Ok(())
            }
            kind => {
                let view = self.source.view(at)?;
                self.scalar(kind, &view)
            }
        }
    }

    fn tag(&mut self, number: u32, wire: u64) {
        put_varint(self.bytes, u64::from(number) << 3 | wire);
    }

    /// Puts the length of what `write` writes before it. One byte is kept free for it, which is nearly always enough.
    fn with_length(&mut self, write: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<()> {
        let at = self.bytes.len();
        self.bytes.push(0);
        write(self)?;
        let length = self.bytes.len() - at - 1;
        if length < 0x80 {
            self.bytes[at] = length as u8;
            return Ok(());
        }
        let mut written = Vec::with_capacity(5);
        put_varint(&mut written, length as u64);
        self.bytes.splice(at..=at, written);
        Ok(())
    }

    fn items(&mut self, field: &'s Field, packed: bool, at: u32) -> Outcome<()> {
        let count = self.source.count(at);
        if count == 0 {
            return Ok(());
        }
        self.enter()?;
        let items = self.source.items(at).enumerate();
        if packed {
            self.tag(field.number, Wire::Bytes.number());
            self.with_length(|this| {
                for (index, at) in items {
                    let view = this.source.view(at)?;
                    this.scalar(field.kind, &view)
                        .map_err(|trouble| trouble.below(&index))?;
                }
                Ok(())
            })?;
        } else {
            for (index, at) in items {
                self.tagged(field, at).map_err(|trouble| trouble.below(&index))?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn map(&mut self, field: &'s Field, at: u32) -> Outcome<()> {
        let Some(entry) = field.kind.message() else {
            return Err(Trouble::new(
                code::SCHEMA_INVALID,
                "the entries of a map are no messages",
            ));
        };
        let [key, value] = &*self.schema.messages[entry as usize].fields else {
            return Err(Trouble::new(
                code::SCHEMA_INVALID,
                "the entry of a map has other than two fields",
            ));
        };
        self.enter()?;
        let mut keys = Vec::with_capacity(self.source.count(at) as usize);
        for (name, at) in self.source.members(at) {
            let (mut key_bytes, mut entry_bytes) = (0, 0);
            self.tag(field.number, Wire::Bytes.number());
            let written = self.with_length(|this| {
                let begin = this.bytes.len();
                this.tag(key.number, key.kind.wire().number());
                this.map_key(key.kind, &name)?;
                key_bytes = this.bytes.len() - begin;
                this.tagged(value, at)?;
                entry_bytes = this.bytes.len() - begin;
                Ok(())
            });
            written.map_err(|trouble| trouble.below(&*name))?;
            let begin = self.bytes.len() - entry_bytes;
            keys.push(begin..begin + key_bytes);
        }
        self.depth -= 1;
        self.check_keys(keys, at)
    }

    /// Each key of a map at most once, however it was spelled: `1` and `1.0` are one key. Readers keep the last entry of a
    /// key, so the others would be lost.
    fn check_keys(&self, keys: Vec<Range<usize>>, at: u32) -> Outcome<()> {
        let written = |nth: usize| &self.bytes[keys[nth].clone()];
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by(|one, other| written(*one).cmp(written(*other)));
        let Some(pair) = order.windows(2).find(|pair| written(pair[0]) == written(pair[1])) else {
            return Ok(());
        };
        let later = pair[0].max(pair[1]);
        let name = self
            .source
            .members(at)
            .nth(later)
            .map(|(name, _)| name)
            .unwrap_or_default();
        let reason = format!("the key `{}` is there twice", cut(&name));
        Err(Trouble::new(code::UNKNOWN_FIELD, reason).below(&*name))
    }
}

const GROUP_ENDS: u64 = 4;

fn varint_length(number: u64) -> usize {
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}
