//! Goes through bytes by a plan, and tells what it meets to whoever writes it down.
//!
//! Nothing is reserved by a length that the bytes merely claim: lists grow with what is really there, and items that
//! take no bytes at all are counted.

use crate::plan::{FieldStep, From, Move, Order, Plan, RecordStep, Step, StepId};
use crate::schema::{Key, Kind, Schema, TypeId, Unit};
use plain::number::is_decimal;
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, too_deep};

/// Items without bytes, such as nulls, in one payload: as many as the contract has entries in a list.
const EMPTY_ITEMS_MAX: u32 = 1_000_000;

/// Takes down values, in their order. Containers are begun and ended; `next` and the keys come before each child.
pub(crate) trait Emit {
    fn null(&mut self);
    fn boolean(&mut self, truth: bool);
    fn integer(&mut self, number: i64);
    fn single(&mut self, number: f32);
    fn double(&mut self, number: f64);
    fn text(&mut self, text: &str);
    fn bytes(&mut self, bytes: &[u8]);
    /// Big-endian two's complement.
    fn decimal(&mut self, unscaled: &[u8], scale: i32) -> Outcome<()>;
    fn uuid(&mut self, bytes: [u8; 16]);
    fn duration(&mut self, months: u32, days: u32, millis: u32);
    fn date(&mut self, days: i32) -> Outcome<()>;
    /// Since midnight.
    fn time(&mut self, number: i64, unit: Unit) -> Outcome<()>;
    /// Since 1970-01-01.
    fn timestamp(&mut self, number: i64, unit: Unit, local: bool) -> Outcome<()>;

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

/// The bytes of one payload, and how far they are read.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn rest(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..count)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => Err(self.truncated(count as u64)),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        let taken = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(taken);
        Ok(array)
    }

    /// A variable-length zigzag number of 64 bits.
    #[inline]
    pub(crate) fn long(&mut self) -> Outcome<i64> {
        let mut value = 0u64;
        for (index, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                if index == 9 && *byte > 1 {
                    break;
                }
                self.at += index + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(self.no_number())
    }

    #[cold]
    fn no_number(&self) -> Trouble {
        if self.rest() < 10 {
            return self.truncated(1);
        }
        self.malformed("a number has more than 64 bits")
    }

    #[inline]
    fn int(&mut self) -> Outcome<i32> {
        let number = self.long()?;
        i32::try_from(number).map_err(|_| self.malformed("a number has more than 32 bits"))
    }

    fn boolean(&mut self) -> Outcome<bool> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.malformed("a boolean is neither 0 nor 1")),
        }
    }

    /// Bytes with their length before them.
    #[inline]
    pub(crate) fn bytes(&mut self) -> Outcome<&'a [u8]> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) if length > 0 => Err(self.truncated(length as u64)),
            Err(_) => Err(self.malformed("a length is negative")),
        }
    }

    #[inline]
    fn text(&mut self) -> Outcome<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    /// How many items the next block of a list or map holds, and how many bytes where it says so. 0 is the end.
    #[inline]
    fn block(&mut self) -> Outcome<(u64, Option<usize>)> {
        let count = self.long()?;
        if count >= 0 {
            return Ok((count as u64, None));
        }
        self.sized_block(count)
    }

    #[cold]
    fn sized_block(&mut self, count: i64) -> Outcome<(u64, Option<usize>)> {
        let size = self.long()?;
        let size = usize::try_from(size).map_err(|_| self.malformed("a block's size is negative"))?;
        if size > self.rest() {
            return Err(self.truncated(size as u64));
        }
        Ok((count.unsigned_abs(), Some(size)))
    }

    /// A block that began with so many bytes behind it has ended.
    #[inline]
    fn end_block(&self, before: usize, size: Option<usize>) -> Outcome<()> {
        match size {
            Some(size) if before - self.rest() != size => Err(self.malformed(&format!(
                "a block is said to have {size} bytes and has {}",
                before - self.rest()
            ))),
            _ => Ok(()),
        }
    }

    /// The place of a value in a list of this length.
    #[inline]
    fn index(&mut self, length: usize, of: &str) -> Outcome<usize> {
        let index = self.long()?;
        let place = usize::try_from(index).ok().filter(|index| *index < length);
        place.ok_or_else(|| self.malformed(&format!("{of} {index} of {length}")))
    }

    #[cold]
    fn truncated(&self, wanted: u64) -> Trouble {
        let reason = format!(
            "the bytes end at {}, and {wanted} more are wanted at {}",
            self.bytes.len(),
            self.at
        );
        Trouble::new(code::TRUNCATED, reason)
    }

    #[cold]
    fn malformed(&self, what: &str) -> Trouble {
        Trouble::new(code::MALFORMED, format!("{what}, at byte {}", self.at))
    }
}

/// Reads one value by a plan.
pub(crate) struct Walk<'p, 'a, 'e, E> {
    pub(crate) plan: &'p Plan,
    pub(crate) cursor: Cursor<'a>,
    pub(crate) emit: &'e mut E,
    depth: u32,
    empty_items: u32,
}

impl<'p, 'a, 'e, E: Emit> Walk<'p, 'a, 'e, E> {
    pub(crate) fn new(plan: &'p Plan, bytes: &'a [u8], emit: &'e mut E) -> Walk<'p, 'a, 'e, E> {
        Walk {
            plan,
            cursor: Cursor::new(bytes),
            emit,
            depth: 0,
            empty_items: 0,
        }
    }

    /// The value that is all of the bytes.
    pub(crate) fn whole(&mut self) -> Outcome<()> {
        self.value(self.plan.root)?;
        all_read(&self.cursor)
    }

    fn value(&mut self, step: StepId) -> Outcome<()> {
        let cursor = &mut self.cursor;
        match self.plan.step(step) {
            Step::Null => self.emit.null(),
            Step::Boolean => self.emit.boolean(cursor.boolean()?),
            Step::Int => self.emit.integer(cursor.int()?.into()),
            Step::Long => self.emit.integer(cursor.long()?),
            Step::Text => self.emit.text(cursor.text()?),
            Step::Bytes => self.emit.bytes(cursor.bytes()?),
            Step::Double => self.emit.double(f64::from_le_bytes(cursor.array()?)),
            Step::Float => self.emit.single(f32::from_le_bytes(cursor.array()?)),
            Step::FloatAsDouble => self.emit.double(f32::from_le_bytes(cursor.array()?).into()),
            Step::IntAsFloat => self.emit.double(cursor.int()?.into()),
            Step::LongAsFloat { single: true } => self.emit.single(cursor.long()? as f32),
            Step::LongAsFloat { single: false } => self.emit.double(cursor.long()? as f64),
            Step::Fixed(size) => self.emit.bytes(cursor.take(*size)?),
            Step::Decimal { size, scale } => {
                let unscaled = match size {
                    Some(size) => cursor.take(*size)?,
                    None => cursor.bytes()?,
                };
                // Here and not in JSON alone: a value is the same in every form, or in none.
                if !is_decimal(unscaled) {
                    let why = format!("a decimal has {} bytes", unscaled.len());
                    return Err(Trouble::new(code::TOO_LARGE, why));
                }
                self.emit.decimal(unscaled, *scale)?;
            }
            Step::Uuid => self.emit.uuid(cursor.array()?),
            Step::Duration => {
                let [months, days, millis] = [cursor.array()?, cursor.array()?, cursor.array()?];
                let number = u32::from_le_bytes;
                self.emit.duration(number(months), number(days), number(millis));
            }
            Step::Date => self.emit.date(cursor.int()?)?,
            Step::TimeMillis => self.emit.time(cursor.int()?.into(), Unit::Millis)?,
            Step::TimeMicros => self.emit.time(cursor.long()?, Unit::Micros)?,
            Step::Timestamp { unit, local } => self.emit.timestamp(cursor.long()?, *unit, *local)?,
            Step::Enum(symbols) => {
                let index = cursor.index(symbols.len(), "symbol")?;
                match &symbols[index] {
                    Some(symbol) => self.emit.text(symbol),
                    None => {
                        return Err(mismatch(
                            "the reader's enum has neither the writer's symbol nor a default",
                        ));
                    }
                }
            }
            Step::Union(branches) => {
                let index = cursor.index(branches.len(), "branch")?;
                // No container of its own, and a branch is no union: one frame deeper at most.
                return self.value(branches[index]);
            }
            Step::Array(item) => return self.array(*item),
            Step::Map(value) => return self.map(*value),
            Step::Record(record) => return self.record(record),
            Step::Mismatch(why) => return Err(mismatch(why)),
        }
        Ok(())
    }

    fn array(&mut self, item: StepId) -> Outcome<()> {
        self.enter()?;
        self.emit.begin_items();
        let mut index = 0;
        loop {
            let (count, size) = self.cursor.block()?;
            if count == 0 {
                break;
            }
            let begin = self.cursor.rest();
            for _ in 0..count {
                let before = self.cursor.at();
                self.emit.next_item(index);
                self.value(item).map_err(|trouble| trouble.below(&index))?;
                self.count_item(before)?;
                index += 1;
            }
            self.cursor.end_block(begin, size)?;
        }
        self.emit.end_items();
        self.depth -= 1;
        Ok(())
    }

    fn map(&mut self, value: StepId) -> Outcome<()> {
        self.enter()?;
        self.emit.begin_entries();
        let mut index = 0;
        loop {
            let (count, size) = self.cursor.block()?;
            if count == 0 {
                break;
            }
            let begin = self.cursor.rest();
            for _ in 0..count {
                let before = self.cursor.at();
                let key = self.cursor.text()?;
                self.emit.next_entry(index, key);
                self.value(value).map_err(|trouble| trouble.below(&key))?;
                self.count_item(before)?;
                index += 1;
            }
            self.cursor.end_block(begin, size)?;
        }
        self.emit.end_entries();
        self.depth -= 1;
        Ok(())
    }

    fn record(&mut self, record: &'p RecordStep) -> Outcome<()> {
        self.enter()?;
        let before = self.cursor.at();
        self.emit.begin_entries();
        match &record.order {
            Order::Forward(moves) => {
                for step in moves {
                    match step {
                        Move::Field(index) => self.field(*index as usize, &record.fields[*index as usize])?,
                        Move::Skip(kind) => self.skip(*kind)?,
                    }
                }
            }
            Order::Mixed => self.mixed(record)?,
        }
        self.emit.end_entries();
        self.depth -= 1;
        // Records of records of nothing multiply with their depth.
        self.count_item(before)
    }

    #[inline]
    fn field(&mut self, index: usize, field: &'p FieldStep) -> Outcome<()> {
        self.emit.next_field(index, &field.key);
        let read = match &field.from {
            From::Bytes { step, .. } => self.value(*step),
            From::Default { bytes, step } => self.default(bytes, *step),
        };
        read.map_err(|trouble| trouble.below(&field.key.text))
    }

    /// Fields that the reader has in another order than the writer.
    fn mixed(&mut self, record: &'p RecordStep) -> Outcome<()> {
        let Kind::Record(written) = &self.plan.writer.of(record.of).kind else {
            return Err(mismatch("the writer's type is no record"));
        };
        let mut begins = Vec::with_capacity(written.fields.len());
        for field in &written.fields {
            begins.push(self.cursor.clone());
            self.skip(field.kind)
                .map_err(|trouble| trouble.below(&field.key.text))?;
        }
        let behind = self.cursor.clone();
        for (index, field) in record.fields.iter().enumerate() {
            if let From::Bytes { at, .. } = field.from {
                self.cursor = begins[at as usize].clone();
            }
            self.field(index, field)?;
        }
        self.cursor = behind;
        Ok(())
    }

    fn default(&mut self, bytes: &'p [u8], step: StepId) -> Outcome<()> {
        let Some(plan) = &self.plan.defaults else {
            return Err(mismatch("the plan holds no defaults"));
        };
        let mut walk = Walk {
            plan,
            cursor: Cursor::new(bytes),
            emit: &mut *self.emit,
            depth: self.depth,
            empty_items: self.empty_items,
        };
        walk.value(step)?;
        self.empty_items = walk.empty_items;
        Ok(())
    }

    fn skip(&mut self, kind: TypeId) -> Outcome<()> {
        skip(
            &self.plan.writer,
            kind,
            &mut self.cursor,
            self.depth,
            &mut self.empty_items,
        )
    }

    fn enter(&mut self) -> Outcome<()> {
        self.depth += 1;
        check_depth(self.depth)
    }

    #[inline]
    fn count_item(&mut self, before: usize) -> Outcome<()> {
        if self.cursor.at() == before {
            count_empty(&mut self.empty_items)?;
        }
        if self.emit.is_full() {
            return Err(Trouble::new(
                code::TOO_LARGE,
                "the value is larger than one answer may be",
            ));
        }
        Ok(())
    }
}

/// Nothing may stand behind a value.
pub(crate) fn all_read(cursor: &Cursor<'_>) -> Outcome<()> {
    match cursor.rest() {
        0 => Ok(()),
        rest => Err(Trouble::new(
            code::TRAILING_BYTES,
            format!("the value ends at byte {}, and {rest} more follow", cursor.at()),
        )),
    }
}

/// Passes over a value of a schema.
pub(crate) fn skip(
    schema: &Schema,
    kind: TypeId,
    cursor: &mut Cursor<'_>,
    depth: u32,
    empty_items: &mut u32,
) -> Outcome<()> {
    match &schema.of(kind).kind {
        Kind::Null => {}
        Kind::Boolean => drop(cursor.boolean()?),
        Kind::Int | Kind::Long => drop(cursor.long()?),
        Kind::Enum(of) => drop(cursor.index(of.symbols.len(), "symbol")?),
        Kind::Float => drop(cursor.take(4)?),
        Kind::Double => drop(cursor.take(8)?),
        Kind::Bytes | Kind::String => drop(cursor.bytes()?),
        Kind::Fixed(fixed) => drop(cursor.take(fixed.size)?),
        Kind::Union(branches) => {
            let index = cursor.index(branches.len(), "branch")?;
            return skip(schema, branches[index], cursor, depth, empty_items);
        }
        Kind::Record(record) => {
            check_depth(depth + 1)?;
            let before = cursor.at();
            for field in &record.fields {
                skip(schema, field.kind, cursor, depth + 1, empty_items)?;
            }
            if cursor.at() == before {
                count_empty(empty_items)?;
            }
        }
        Kind::Array(child) | Kind::Map(child) => {
            check_depth(depth + 1)?;
            let has_keys = matches!(schema.of(kind).kind, Kind::Map(_));
            loop {
                let (count, size) = cursor.block()?;
                match (count, size) {
                    (0, _) => break,
                    (_, Some(size)) => drop(cursor.take(size)?),
                    (_, None) => {
                        for _ in 0..count {
                            let before = cursor.at();
                            if has_keys {
                                cursor.bytes()?;
                            }
                            skip(schema, *child, cursor, depth + 1, empty_items)?;
                            if cursor.at() == before {
                                count_empty(empty_items)?;
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

fn check_depth(depth: u32) -> Outcome<()> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    Ok(())
}

fn count_empty(empty_items: &mut u32) -> Outcome<()> {
    *empty_items += 1;
    if *empty_items > EMPTY_ITEMS_MAX {
        return Err(Trouble::new(
            code::TOO_LARGE,
            format!("there are more than {EMPTY_ITEMS_MAX} items without bytes"),
        ));
    }
    Ok(())
}

#[cold]
fn mismatch(why: &str) -> Trouble {
    Trouble::new(code::SCHEMAS_DO_NOT_MATCH, why)
}
