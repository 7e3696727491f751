//! Goes through a message by a plan, and tells what it meets to whoever writes it down.
//!
//! Fields may stand in any order and more than once. So a message is first looked through: what is known of it is noted
//! in a list that all messages share, and then told by rising number. Of a scalar the last counts, of a message all are
//! one, of a oneof the last field. Nothing is reserved by a length that the bytes merely claim.

use crate::plan::View;
use crate::schema::{Field, Key, Kind, Message, MessageId, Shape};
use crate::wire::{Content, Cursor, Tag, Wire, unzigzag};
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, too_deep};
use std::ops::Range;

/// Fields of one payload whose messages are not told yet: as many as the contract has entries in a list.
const FOUND_MAX: usize = 1_000_000;

/// Takes down values, in their order. Containers are begun and ended; `next` and the keys come before each child.
pub(crate) trait Emit {
    fn null(&mut self);
    fn boolean(&mut self, truth: bool);
    /// Of 32 bits.
    fn integer(&mut self, number: i64);
    /// Of 64 bits.
    fn long(&mut self, number: i64);
    /// Of 64 bits.
    fn unsigned(&mut self, number: u64);
    fn single(&mut self, number: f32);
    fn double(&mut self, number: f64);
    fn text(&mut self, text: &str);
    fn bytes(&mut self, bytes: &[u8]);
    /// Since 1970-01-01, with nanoseconds from 0 to 999,999,999.
    fn timestamp(&mut self, seconds: i64, nanos: i32) -> Outcome<()>;

    fn begin_items(&mut self);
    /// Before the item of this number.
    fn next_item(&mut self, index: usize);
    fn end_items(&mut self);
    fn begin_entries(&mut self);
    fn next_field(&mut self, index: usize, key: &Key);
    fn next_entry(&mut self, index: usize, key: &str);
    fn end_entries(&mut self);

    /// Whether all that was taken down has grown beyond what one answer may hold.
    fn is_full(&self) -> bool;
}

/// One field of a message that was looked through.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// Its place in the message.
    pub(crate) field: u32,
    pub(crate) content: Content,
}

/// Reads one message by a plan.
pub(crate) struct Walk<'p, 'a, 'e, E> {
    pub(crate) view: View<'p>,
    pub(crate) bytes: &'a [u8],
    pub(crate) emit: &'e mut E,
    /// Whether fields that cannot tell absent from zero are told where they are zero.
    defaults: bool,
    pub(crate) found: Vec<Found>,
    depth: u32,
}

impl<'p, 'a, 'e, E: Emit> Walk<'p, 'a, 'e, E> {
    /// `found` is a list to be used; what it holds does not matter.
    pub(crate) fn new(
        view: View<'p>,
        bytes: &'a [u8],
        emit: &'e mut E,
        defaults: bool,
        mut found: Vec<Found>,
    ) -> Self {
        found.clear();
        Walk {
            view,
            bytes,
            emit,
            defaults,
            found,
            depth: 0,
        }
    }

    /// The message that is all of the bytes. Gives the list back.
    pub(crate) fn whole(mut self) -> (Outcome<()>, Vec<Found>) {
        let Ok(end) = u32::try_from(self.bytes.len()) else {
            let reason = "the payload has more than 4 GiB";
            return (Err(Trouble::new(code::TOO_LARGE, reason)), self.found);
        };
        self.found.push(Found {
            field: 0,
            content: Content {
                wire: Wire::Bytes,
                start: 0,
                end,
                bits: 0,
            },
        });
        (self.message(self.view.root, 0..1), self.found)
    }

    /// The message that all of these pieces are.
    pub(crate) fn message(&mut self, id: MessageId, pieces: Range<usize>) -> Outcome<()> {
        self.enter()?;
        let message = &self.view.messages[id as usize];
        let base = self.found.len();
        self.scan(message, pieces)?;
        match message.special {
            Some(special) => self.special(special, message, base)?,
            None => {
                self.emit.begin_entries();
                self.fields(message, base, 0)?;
                self.emit.end_entries();
            }
        }
        self.found.truncate(base);
        self.leave()
    }

    fn enter(&mut self) -> Outcome<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(())
    }

    fn leave(&mut self) -> Outcome<()> {
        self.depth -= 1;
        self.check_full()
    }

    fn check_full(&self) -> Outcome<()> {
        if self.emit.is_full() {
            return Err(Trouble::new(
                code::TOO_LARGE,
                "the value is larger than one answer may be",
            ));
        }
        Ok(())
    }

    /// Notes the fields of all pieces, by rising number, behind what is noted already.
    pub(crate) fn scan(&mut self, message: &'p Message, pieces: Range<usize>) -> Outcome<()> {
        let base = self.found.len();
        let (mut is_sorted, mut last) = (true, 0);
        // A oneof of which two fields were met; more than 64 oneofs are always looked at.
        let (mut oneofs, mut is_contested) = (0u64, false);
        for piece in pieces {
            let Content { start, end, .. } = self.found[piece].content;
            let mut cursor = Cursor::part(self.bytes, start as usize, end as usize);
            while !cursor.is_done() {
                let (number, wire) = match cursor.tag()? {
                    Tag::Field(number, wire) => (number, wire),
                    Tag::GroupEnds(_) => return Err(cursor.malformed("a group ends that has not begun")),
                };
                let Some(place) = message.numbered(number) else {
                    cursor.content(number, wire, self.depth)?;
                    continue;
                };
                let field = &message.fields[place as usize];
                check_wire(field, wire)?;
                let content = cursor.content(number, wire, self.depth);
                let content = content.map_err(|trouble| trouble.below(&field.key.text))?;
                if let Some(oneof) = field.oneof {
                    let bit = 1u64.checked_shl(oneof).unwrap_or(0);
                    is_contested |= bit == 0 || oneofs & bit != 0;
                    oneofs |= bit;
                }
                is_sorted &= place >= last;
                last = place;
                if self.found.len() == FOUND_MAX {
                    return Err(Trouble::new(
                        code::TOO_LARGE,
                        format!("it has more than {FOUND_MAX} fields"),
                    ));
                }
                self.found.push(Found {
                    field: place,
                    content,
                });
            }
        }
        if is_contested {
            self.settle_oneofs(message, base);
        }
        if !is_sorted {
            // What is equal stays in its order.
            self.found[base..].sort_by_key(|found| found.field);
        }
        self.check_required(message, base)
    }

    /// Of each oneof only the last field is there: what stands before another field of it is forgotten.
    #[cold]
    fn settle_oneofs(&mut self, message: &Message, base: usize) {
        let mut winners: Vec<Option<u32>> = Vec::new();
        let mut is_settled: Vec<bool> = Vec::new();
        let mut keep = vec![true; self.found.len() - base];
        for (index, found) in self.found[base..].iter().enumerate().rev() {
            let Some(oneof) = message.fields[found.field as usize].oneof else {
                continue;
            };
            let oneof = oneof as usize;
            if winners.len() <= oneof {
                winners.resize(oneof + 1, None);
                is_settled.resize(oneof + 1, false);
            }
            let winner = *winners[oneof].get_or_insert(found.field);
            is_settled[oneof] |= winner != found.field;
            keep[index] = !is_settled[oneof];
        }
        let mut keep = keep.into_iter();
        let mut index = 0;
        self.found.retain(|_| {
            index += 1;
            index <= base || keep.next().unwrap_or(true)
        });
    }

    fn check_required(&self, message: &Message, base: usize) -> Outcome<()> {
        for place in message.required.iter() {
            let is_there = self.found[base..]
                .binary_search_by_key(place, |found| found.field)
                .is_ok();
            if !is_there {
                let field = &message.fields[*place as usize];
                return Err(missing(message).below(&field.key.text));
            }
        }
        Ok(())
    }

    /// Tells the fields that are noted from `base` on; the first is entry number `index` of its container.
    pub(crate) fn fields(&mut self, message: &'p Message, base: usize, mut index: usize) -> Outcome<()> {
        let (mut at, end) = (base, self.found.len());
        let mut next = 0;
        while at < end || (self.defaults && next < message.fields.len()) {
            let place = match self.defaults {
                true => next as u32,
                false => self.found[at].field,
            };
            let from = at;
            while at < end && self.found[at].field == place {
                at += 1;
            }
            let field = &message.fields[place as usize];
            let told = self.field(field, from..at, index);
            index += usize::from(told.map_err(|trouble| trouble.below(&field.key.text))?);
            next += 1;
        }
        Ok(())
    }

    /// Tells a field with all that was met of it, and answers whether there was anything to tell.
    fn field(&mut self, field: &'p Field, met: Range<usize>, index: usize) -> Outcome<bool> {
        let is_there = match field.shape {
            Shape::Single { presence: true } => !met.is_empty(),
            Shape::Single { presence: false } => self.defaults || self.is_other_than_zero(&met),
            Shape::Repeated { .. } => self.defaults || self.has_items(field.kind, &met),
            Shape::Map => self.defaults || !met.is_empty(),
        };
        if !is_there {
            return Ok(false);
        }
        self.emit.next_field(index, &field.key);
        match field.shape {
            Shape::Single { .. } => self.value(field.kind, met)?,
            Shape::Repeated { .. } => self.items(field.kind, met)?,
            Shape::Map => self.map(field.kind, met)?,
        }
        self.check_full()?;
        Ok(true)
    }

    fn is_other_than_zero(&self, met: &Range<usize>) -> bool {
        self.found[met.clone()]
            .last()
            .is_some_and(|found| match found.content.wire {
                Wire::Bytes | Wire::Group => found.content.start != found.content.end,
                _ => found.content.bits != 0,
            })
    }

    /// A packed list may be written without an item.
    fn has_items(&self, kind: Kind, met: &Range<usize>) -> bool {
        let mut all = self.found[met.clone()].iter();
        !kind.can_be_packed() && !met.is_empty()
            || all.any(|Found { content, .. }| content.wire != Wire::Bytes || content.start != content.end)
    }

    /// A message of all pieces, or the last scalar; zero where there is none.
    pub(crate) fn value(&mut self, kind: Kind, met: Range<usize>) -> Outcome<()> {
        match (kind.message(), self.found[met.clone()].last()) {
            (Some(id), _) => self.message(id, met),
            (None, Some(last)) => self.scalar(kind, last.content),
            (None, None) => self.scalar(kind, zero(kind)),
        }
    }

    pub(crate) fn items(&mut self, kind: Kind, met: Range<usize>) -> Outcome<()> {
        self.enter()?;
        self.emit.begin_items();
        let mut index = 0;
        for at in met {
            let content = self.found[at].content;
            if content.wire == Wire::Bytes && kind.can_be_packed() {
                self.packed(kind, content, &mut index)?;
                continue;
            }
            self.emit.next_item(index);
            let told = self.value(kind, at..at + 1);
            told.map_err(|trouble| trouble.below(&index))?;
            index += 1;
        }
        self.emit.end_items();
        self.leave()
    }

    fn packed(&mut self, kind: Kind, content: Content, index: &mut usize) -> Outcome<()> {
        let mut cursor = Cursor::part(self.bytes, content.start as usize, content.end as usize);
        while !cursor.is_done() {
            self.emit.next_item(*index);
            let item = cursor.content(0, kind.wire(), self.depth);
            let told = item.and_then(|item| self.scalar(kind, item));
            told.map_err(|trouble| trouble.below(index))?;
            *index += 1;
            self.check_full()?;
        }
        Ok(())
    }

    /// The entries of a map; of those with the same key the last.
    pub(crate) fn map(&mut self, kind: Kind, met: Range<usize>) -> Outcome<()> {
        let Some(id) = kind.message() else {
            return Err(Trouble::new(
                code::SCHEMA_INVALID,
                "the entries of a map are no messages",
            ));
        };
        let entry = &self.view.messages[id as usize];
        let [key, value] = &*entry.fields else {
            return Err(Trouble::new(
                code::SCHEMA_INVALID,
                "the entry of a map has other than two fields",
            ));
        };
        self.enter()?;
        self.emit.begin_entries();
        let superseded = match met.len() {
            0 | 1 => Vec::new(),
            _ => self.superseded(entry, key.kind, met.clone())?,
        };
        let mut index = 0;
        for (number, at) in met.enumerate() {
            if superseded.get(number).is_some_and(|superseded| *superseded) {
                continue;
            }
            let base = self.found.len();
            self.scan(entry, at..at + 1)?;
            let behind = self.found[base..].partition_point(|found| found.field == 0) + base;
            let text = match self.key(key.kind, base..behind)? {
                MapKey::Text(text) => std::borrow::Cow::Borrowed(text),
                MapKey::Number(number) if key.kind == Kind::Bool => (number != 0).to_string().into(),
                MapKey::Number(number) => number.to_string().into(),
            };
            self.emit.next_entry(index, &text);
            let told = self.value(value.kind, behind..self.found.len());
            told.map_err(|trouble| trouble.below(&text))?;
            self.found.truncate(base);
            self.check_full()?;
            index += 1;
        }
        self.emit.end_entries();
        self.leave()
    }

    /// For each entry, whether a later one has its key.
    fn superseded(&mut self, entry: &'p Message, kind: Kind, met: Range<usize>) -> Outcome<Vec<bool>> {
        let first = met.start;
        let mut keys = Vec::with_capacity(met.len());
        for at in met {
            let base = self.found.len();
            self.scan(entry, at..at + 1)?;
            let behind = self.found[base..].partition_point(|found| found.field == 0) + base;
            keys.push((self.key(kind, base..behind)?, at));
            self.found.truncate(base);
        }
        let mut superseded = vec![false; keys.len()];
        keys.sort_unstable();
        for pair in keys.windows(2) {
            if pair[0].0 == pair[1].0 {
                superseded[pair[0].1 - first] = true;
            }
        }
        Ok(superseded)
    }

    /// The last key among those met, or its zero.
    fn key(&self, kind: Kind, met: Range<usize>) -> Outcome<MapKey<'a>> {
        let content = self.found[met]
            .last()
            .map_or_else(|| zero(kind), |found| found.content);
        Ok(match kind {
            Kind::String => MapKey::Text(self.text_of(content)?),
            Kind::Uint64 | Kind::Fixed64 => MapKey::Number(content.bits.into()),
            Kind::Bool => MapKey::Number((content.bits != 0).into()),
            _ => MapKey::Number(whole(kind, content.bits)?.into()),
        })
    }

    pub(crate) fn text_of(&self, content: Content) -> Outcome<&'a str> {
        std::str::from_utf8(self.bytes_of(content)).map_err(|_| {
            Trouble::new(
                code::MALFORMED,
                format!("a text is not UTF-8, at byte {}", content.start),
            )
        })
    }

    pub(crate) fn bytes_of(&self, content: Content) -> &'a [u8] {
        &self.bytes[content.start as usize..content.end as usize]
    }

    fn scalar(&mut self, kind: Kind, content: Content) -> Outcome<()> {
        let bits = content.bits;
        match kind {
            Kind::String => self.emit.text(self.text_of(content)?),
            Kind::Bytes => self.emit.bytes(self.bytes_of(content)),
            Kind::Bool => self.emit.boolean(bits != 0),
            Kind::Float => self.emit.single(f32::from_bits(bits as u32)),
            Kind::Double => self.emit.double(f64::from_bits(bits)),
            Kind::Uint64 | Kind::Fixed64 => self.emit.unsigned(bits),
            Kind::Int64 | Kind::Sfixed64 => self.emit.long(bits as i64),
            Kind::Sint64 => self.emit.long(unzigzag(bits)),
            Kind::Enum(of) => {
                let number = whole(kind, bits)?;
                let of = &self.view.schema.enums[of as usize];
                match of.name(number as i32) {
                    Some(_) if of.is_null => self.emit.null(),
                    Some(name) => self.emit.text(name),
                    None => self.emit.integer(number),
                }
            }
            _ => self.emit.integer(whole(kind, bits)?),
        }
        Ok(())
    }
}

/// A key of a map, to be compared.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum MapKey<'a> {
    Number(i128),
    Text(&'a str),
}

/// A whole number other than those of 64 bits without a sign. Others cut off the bits that a type has no place for; here
/// they are refused, because the value would be another.
fn whole(kind: Kind, bits: u64) -> Outcome<i64> {
    let number = match kind {
        Kind::Sint32 | Kind::Sint64 => unzigzag(bits),
        Kind::Sfixed32 => (bits as u32 as i32).into(),
        // Old writers write negative numbers of 32 bits without the upper ones.
        Kind::Int32 | Kind::Enum(_) if bits <= u64::from(u32::MAX) => (bits as u32 as i32).into(),
        _ => bits as i64,
    };
    let fits = match kind {
        Kind::Uint32 | Kind::Fixed32 => bits <= u64::from(u32::MAX),
        Kind::Int64 | Kind::Sfixed64 | Kind::Sint64 => true,
        _ => i32::try_from(number).is_ok(),
    };
    match fits {
        true => Ok(number),
        false => Err(Trouble::new(
            code::OUT_OF_RANGE,
            format!("{} cannot hold {number}", kind.title()),
        )),
    }
}

/// What stands for a scalar that is not there.
pub(crate) fn zero(kind: Kind) -> Content {
    Content {
        wire: kind.wire(),
        start: 0,
        end: 0,
        bits: 0,
    }
}

#[inline]
fn check_wire(field: &Field, wire: Wire) -> Outcome<()> {
    let wanted = field.kind.wire();
    let is_packed =
        wire == Wire::Bytes && matches!(field.shape, Shape::Repeated { .. }) && field.kind.can_be_packed();
    if (wire == wanted || is_packed) && field.mismatch.is_none() {
        return Ok(());
    }
    Err(mismatch(field, wire))
}

#[cold]
fn mismatch(field: &Field, wire: Wire) -> Trouble {
    let reason = match &field.mismatch {
        Some(reason) => reason.to_string(),
        None => format!(
            "field {} was written as {} and is read as {}",
            field.number,
            wire.title(),
            field.kind.title()
        ),
    };
    Trouble::new(code::SCHEMAS_DO_NOT_MATCH, reason).below(&field.key.text)
}

#[cold]
pub(crate) fn missing(message: &Message) -> Trouble {
    Trouble::new(
        code::MISSING_FIELD,
        format!("message {} needs this field", message.full_name),
    )
}
