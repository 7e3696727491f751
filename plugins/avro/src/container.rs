//! Object container files.
//!
//! ```text
//! 4f 62 6a 01 | metadata, a map of bytes: avro.schema, avro.codec | 16 bytes of a mark
//! blocks: count, size, data (compressed), the mark
//! ```
//!
//! A file is one payload, so it is read from memory. Blocks are compressed with `deflate` or not at all.

use crate::encode::{put_bytes, put_long};
use crate::schema::{Schema, fingerprint_of};
use crate::walk::{Cursor, skip};
use culvert_plugin::{Choice, Rejection};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use plain::trouble::{Outcome, Trouble, code};

const MAGIC: &[u8; 4] = b"Obj\x01";

/// A block is closed at this size, as Avro's own writers do.
const BLOCK_BYTES: usize = 64_000;

/// What all blocks of a file may hold together once they are inflated: what one call may return, by the contract.
const INFLATED_MAX: usize = 64 << 20;

/// As many as the contract has entries in a list.
const RECORDS_MAX: usize = 1_000_000;

/// How good and how slow `deflate` is: miniz's own default.
const LEVEL: u8 = 6;

/// How the blocks of a container file are compressed.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Null,
    /// By RFC 1951, which every reader of container files knows.
    Deflate,
}

/// What a container file holds.
#[derive(Debug)]
pub struct Container {
    /// What its records were written with.
    pub schema: Schema,
    /// All records, one behind the other.
    pub(crate) data: Vec<u8>,
    /// Where each of them ends.
    pub(crate) ends: Vec<usize>,
}

impl Container {
    /// Reads a whole file.
    ///
    /// # Errors
    /// When it is no container file, is compressed in a way that is not known here, or is damaged.
    pub fn read(file: &[u8]) -> Result<Container, Rejection> {
        Ok(read(file)?)
    }

    /// The records, each in Avro binary of the file's schema.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.data[start..*end])
    }
}

pub(crate) fn read(file: &[u8]) -> Outcome<Container> {
    let mut cursor = Cursor::new(file);
    if cursor.take(4).ok() != Some(MAGIC) {
        return Err(bad("it does not begin with `Obj` and 1: it is no container file"));
    }
    let head = head(&mut cursor)?;
    let mark = cursor.take(16)?;
    let mut container = Container {
        schema: head.schema,
        data: Vec::new(),
        ends: Vec::new(),
    };
    while cursor.rest() > 0 {
        let count = cursor.long()?;
        let block = cursor.bytes()?;
        if cursor.take(16)? != mark {
            return Err(bad("a block does not end with the file's mark"));
        }
        let start = container.data.len();
        match head.compression {
            Compression::Null => container.data.extend_from_slice(block),
            Compression::Deflate => {
                let room = INFLATED_MAX - start;
                let inflated = decompress_to_vec_with_limit(block, room).map_err(|error| {
                    bad(&format!(
                        "a block cannot be inflated within {room} bytes: {error}"
                    ))
                })?;
                container.data.extend_from_slice(&inflated);
            }
        }
        if container.data.len() > INFLATED_MAX {
            return Err(Trouble::new(
                code::TOO_LARGE,
                "the file holds more than one answer may",
            ));
        }
        container.split(start, count)?;
    }
    Ok(container)
}

impl Container {
    /// Finds the ends of a block's records.
    fn split(&mut self, start: usize, count: i64) -> Outcome<()> {
        let count = usize::try_from(count).map_err(|_| bad("a block has a negative number of records"))?;
        if count > RECORDS_MAX - self.ends.len() {
            let reason = format!("the file holds more than {RECORDS_MAX} records");
            return Err(Trouble::new(code::TOO_LARGE, reason));
        }
        let mut cursor = Cursor::new(&self.data[start..]);
        let mut empty_items = 0;
        for _ in 0..count {
            let index = self.ends.len();
            skip(&self.schema, self.schema.root, &mut cursor, 0, &mut empty_items)
                .map_err(|trouble| trouble.below(&index))?;
            self.ends.push(start + cursor.at());
        }
        if cursor.rest() > 0 {
            return Err(Trouble::new(
                code::TRAILING_BYTES,
                "bytes stand behind the last record of a block",
            ));
        }
        Ok(())
    }
}

struct Head {
    schema: Schema,
    compression: Compression,
}

fn head(cursor: &mut Cursor<'_>) -> Outcome<Head> {
    let (mut schema, mut compression) = (None, Compression::Null);
    loop {
        let count = cursor.long()?;
        if count == 0 {
            break;
        }
        if count < 0 {
            cursor.long()?; // the block's size
        }
        for _ in 0..count.unsigned_abs() {
            let (key, value) = (cursor.bytes()?, cursor.bytes()?);
            match key {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => compression = known(value)?,
                _ => {}
            }
        }
    }
    let text = schema.ok_or_else(|| bad("the file has no `avro.schema`"))?;
    let schema = Schema::parse(&String::from_utf8_lossy(text), &[])
        .map_err(|invalid| Trouble::new(code::SCHEMA_INVALID, invalid.to_string()))?;
    Ok(Head { schema, compression })
}

fn known(codec: &[u8]) -> Outcome<Compression> {
    match codec {
        b"null" | b"" => Ok(Compression::Null),
        b"deflate" => Ok(Compression::Deflate),
        other => {
            let name: String = String::from_utf8_lossy(other).chars().take(64).collect();
            Err(bad(&format!(
                "it is compressed with `{name}`; null and deflate are known here"
            )))
        }
    }
}

fn bad(reason: &str) -> Trouble {
    Trouble::new(code::BAD_FRAMING, reason)
}

/// Writes a container file, a record at a time.
pub struct Writer<'a> {
    file: &'a mut Vec<u8>,
    compression: Compression,
    mark: [u8; 16],
    block: Vec<u8>,
    count: i64,
}

impl<'a> Writer<'a> {
    /// Appends the head of a file whose records are of this schema. The mark is made of the schema and not random: the
    /// same records are the same file, as the plugin promises.
    pub fn new(schema: &Schema, compression: Compression, file: &'a mut Vec<u8>) -> Writer<'a> {
        let text = schema.whole();
        let halves = [fingerprint_of(text.as_bytes()), schema.fingerprint()];
        let mut mark = [0; 16];
        mark[..8].copy_from_slice(&halves[0].to_le_bytes());
        mark[8..].copy_from_slice(&halves[1].to_le_bytes());
        file.extend_from_slice(MAGIC);
        put_long(file, 2);
        put_bytes(file, b"avro.schema");
        put_bytes(file, text.as_bytes());
        put_bytes(file, b"avro.codec");
        put_bytes(
            file,
            match compression {
                Compression::Null => b"null",
                Compression::Deflate => b"deflate",
            },
        );
        put_long(file, 0);
        file.extend_from_slice(&mark);
        Writer {
            file,
            compression,
            mark,
            block: Vec::new(),
            count: 0,
        }
    }

    /// Appends a record, in Avro binary of the file's schema.
    pub fn record(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
        self.count += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.close_block();
        }
    }

    /// Writes the last block.
    pub fn finish(mut self) {
        if self.count > 0 {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        put_long(self.file, self.count);
        match self.compression {
            Compression::Null => put_bytes(self.file, &self.block),
            Compression::Deflate => put_bytes(self.file, &compress_to_vec(&self.block, LEVEL)),
        }
        self.file.extend_from_slice(&self.mark);
        self.block.clear();
        self.count = 0;
    }
}
