//! What stands before the bytes of a message.

use crate::wire::{Cursor, put_varint, unzigzag, zigzag};
use culvert_plugin::Choice;
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code};

/// What stands before the bytes of a message.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    None,
    /// A byte 0, the schema's number in its registry (4 bytes, big-endian), and which of its messages it is, as
    /// Confluent's serializers have it.
    Confluent,
}

const MAGIC: u8 = 0;

/// A payload without its frame.
pub(crate) struct Opened<'a> {
    /// The message's path in its file, where the frame names it.
    pub(crate) path: Option<Vec<u32>>,
    pub(crate) bytes: &'a [u8],
}

impl Framing {
    /// `id` is the number of the writer's schema in its registry.
    pub(crate) fn opened(self, id: u32, bytes: &[u8]) -> Outcome<Opened<'_>> {
        if self == Framing::None {
            return Ok(Opened { path: None, bytes });
        }
        let Some((&[magic, a, b, c, d], rest)) = bytes.split_first_chunk() else {
            return Err(bad(format!(
                "there are {} bytes, and the frame alone has 6",
                bytes.len()
            )));
        };
        if magic != MAGIC {
            return Err(bad(format!("the first byte is {magic}, and must be 0")));
        }
        let found = u32::from_be_bytes([a, b, c, d]);
        if found != id {
            let reason = format!("it names the schema {found}, and is read with {id}");
            return Err(Trouble::new(code::SCHEMA_ID_MISMATCH, reason));
        }
        let (path, length) = path(rest)?;
        Ok(Opened {
            path: Some(path),
            bytes: &rest[length..],
        })
    }

    /// Puts the frame before the message at a path.
    pub(crate) fn begin(self, id: u32, path: &[u32], bytes: &mut Vec<u8>) -> Outcome<()> {
        if self == Framing::None {
            return Ok(());
        }
        if id == 0 {
            let reason = "the schema has no number in a registry, which this framing writes";
            return Err(Trouble::new(code::SCHEMA_ID_MISMATCH, reason));
        }
        bytes.push(MAGIC);
        bytes.extend_from_slice(&id.to_be_bytes());
        if path == [0] {
            bytes.push(0);
            return Ok(());
        }
        put_varint(bytes, zigzag(path.len() as i64));
        for index in path {
            put_varint(bytes, zigzag(i64::from(*index)));
        }
        Ok(())
    }
}

/// How many indexes, and each, zigzag; none at all stand for the first message. The path, and its length in bytes.
fn path(bytes: &[u8]) -> Outcome<(Vec<u32>, usize)> {
    let mut cursor = Cursor::new(bytes);
    let mut next = |least: i64, most: i64| {
        let number = cursor.varint().map(unzigzag).ok();
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| bad("the indexes of its message are no path".to_owned()))
    };
    let count = next(0, i64::from(DEPTH_MAX))?;
    let mut path = Vec::new();
    for _ in 0..count {
        path.push(next(0, i64::from(i32::MAX))? as u32);
    }
    if path.is_empty() {
        path.push(0);
    }
    Ok((path, cursor.at()))
}

#[cold]
fn bad(reason: String) -> Trouble {
    Trouble::new(code::BAD_FRAMING, reason)
}
