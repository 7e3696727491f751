//! What stands before the bytes of a payload.

use crate::schema::Schema;
use culvert_plugin::Choice;
use plain::trouble::{Outcome, Trouble, code};

/// What stands before the bytes of a value.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    None,
    /// A byte 0 and the schema's number in its registry, 4 bytes big-endian, as Confluent's serializers have it.
    Confluent,
    /// `C3 01` and the schema's fingerprint (CRC-64-AVRO), 8 bytes little-endian: Avro's single-object encoding.
    SingleObject,
    /// Each payload is an object container file: its value is the list of its records, and the schema in it is the one
    /// it was written with.
    Container,
}

const MAGIC: u8 = 0;
const MARKER: [u8; 2] = [0xc3, 0x01];

impl Framing {
    /// The bytes behind the frame. `id` is the number of the schema `writer` in its registry.
    pub(crate) fn opened<'a>(self, writer: &Schema, id: u32, bytes: &'a [u8]) -> Outcome<&'a [u8]> {
        match self {
            Framing::None | Framing::Container => Ok(bytes),
            Framing::Confluent => {
                let Some((&[magic, a, b, c, d], rest)) = bytes.split_first_chunk() else {
                    return Err(too_short(bytes, 5));
                };
                if magic != MAGIC {
                    return Err(Trouble::new(
                        code::BAD_FRAMING,
                        format!("the first byte is {magic}, and must be 0"),
                    ));
                }
                let found = u32::from_be_bytes([a, b, c, d]);
                if found != id {
                    let reason = format!("it names the schema {found}, and is read with {id}");
                    return Err(Trouble::new(code::SCHEMA_ID_MISMATCH, reason));
                }
                Ok(rest)
            }
            Framing::SingleObject => {
                let Some((&[a, b, fingerprint @ ..], rest)) = bytes.split_first_chunk::<10>() else {
                    return Err(too_short(bytes, 10));
                };
                if [a, b] != MARKER {
                    let reason = format!("the first bytes are {a:02X} {b:02X}, and must be C3 01");
                    return Err(Trouble::new(code::BAD_FRAMING, reason));
                }
                let found = u64::from_le_bytes(fingerprint);
                if found != writer.fingerprint() {
                    let reason = format!(
                        "it names the schema of fingerprint {found:016x}, and is read with {:016x}",
                        writer.fingerprint()
                    );
                    return Err(Trouble::new(code::SCHEMA_ID_MISMATCH, reason));
                }
                Ok(rest)
            }
        }
    }

    /// Puts the frame before a value.
    pub(crate) fn begin(self, writer: &Schema, id: u32, bytes: &mut Vec<u8>) -> Outcome<()> {
        match self {
            Framing::None | Framing::Container => {}
            Framing::Confluent if id == 0 => {
                let reason = "the schema has no number in a registry, which this framing writes";
                return Err(Trouble::new(code::SCHEMA_ID_MISMATCH, reason));
            }
            Framing::Confluent => {
                bytes.push(MAGIC);
                bytes.extend_from_slice(&id.to_be_bytes());
            }
            Framing::SingleObject => {
                bytes.extend_from_slice(&MARKER);
                bytes.extend_from_slice(&writer.fingerprint().to_le_bytes());
            }
        }
        Ok(())
    }
}

fn too_short(bytes: &[u8], wanted: usize) -> Trouble {
    Trouble::new(
        code::BAD_FRAMING,
        format!(
            "there are {} bytes, and the frame alone has {wanted}",
            bytes.len()
        ),
    )
}
