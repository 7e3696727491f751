//! What stands before the text of a value.

use culvert_plugin::Choice;
use plain::trouble::{Outcome, Trouble, code};

/// What stands before the text of a value.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    None,
    /// A byte 0 and the schema's number in its registry, 4 bytes big-endian, as Confluent's serializers have it.
    Confluent,
}

const MAGIC: u8 = 0;

impl Framing {
    /// The text behind the frame. `id` is the number of the writer's schema in its registry.
    pub(crate) fn opened(self, id: u32, bytes: &[u8]) -> Outcome<&[u8]> {
        if self == Framing::None {
            return Ok(bytes);
        }
        let Some((&[magic, a, b, c, d], rest)) = bytes.split_first_chunk() else {
            let reason = format!("there are {} bytes, and the frame alone has 5", bytes.len());
            return Err(Trouble::new(code::BAD_FRAMING, reason));
        };
        if magic != MAGIC {
            let reason = format!("the first byte is {magic}, and must be 0");
            return Err(Trouble::new(code::BAD_FRAMING, reason));
        }
        let found = u32::from_be_bytes([a, b, c, d]);
        if found != id {
            let reason = format!("it names the schema {found}, and is read with {id}");
            return Err(Trouble::new(code::SCHEMA_ID_MISMATCH, reason));
        }
        Ok(rest)
    }

    /// Puts the frame before a value.
    pub(crate) fn begin(self, id: u32, bytes: &mut Vec<u8>) -> Outcome<()> {
        match self {
            Framing::None => {}
            Framing::Confluent if id == 0 => {
                let reason = "the schema has no number in a registry, which this framing writes";
                return Err(Trouble::new(code::SCHEMA_ID_MISMATCH, reason));
            }
            Framing::Confluent => {
                bytes.push(MAGIC);
                bytes.extend_from_slice(&id.to_be_bytes());
            }
        }
        Ok(())
    }
}
