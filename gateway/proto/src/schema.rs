//! A schema as it crosses the border with the records that were written with it.
//!
//! Records name a schema by a number of their origin's registry, which means nothing at another site. So the origin
//! sends each schema once before the first frame that names it, and the sink's gateway gives it a number of its own
//! registry. A schema is named by the SHA-256 of its spelling here: whoever holds it can check that it is the one.
//!
//! ```text
//! u8 kind | u8 part | u32 id | u16 count of pieces | pieces
//! piece: text subject | u32 version | text | u16 count of references | references (text name | u16 piece)
//! text: u32 length | UTF-8
//! ```
//!
//! Pieces stand in an order in which each refers to earlier ones only; the last is the schema itself.

use crate::field::Field;
use crate::limits;
use crate::wire::{self, Malformed};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Apache Avro.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    Json,
    /// One of a codec's own. No registry knows it, and no border is crossed by it.
    Other,
}

/// The part of a record that is written with a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Its key.
    Key,
    /// Its value.
    Value,
}

/// The name of a schema: SHA-256 of its spelling.
pub type Fingerprint = [u8; 32];

/// A schema of an origin's registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Its language.
    pub kind: Kind,
    /// What it is of.
    pub part: Part,
    /// Its number in the origin's registry: what records name it by.
    pub id: u32,
    /// What it refers to, and last the schema itself.
    pub pieces: Vec<Piece>,
}

/// One text of a schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Its subject in the origin's registry; empty where it is not known.
    pub subject: String,
    /// Its version there; 0 where it is not known.
    pub version: u32,
    /// The text.
    pub text: String,
    /// The names it uses, and which piece each means: one before it.
    pub references: Vec<(String, u16)>,
}

impl Schema {
    /// The schema itself.
    #[must_use]
    pub fn root(&self) -> Option<&Piece> {
        self.pieces.last()
    }

    /// The texts that are referred to, by the name that is used for each.
    pub fn references(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pieces.iter().flat_map(|piece| {
            piece.references.iter().filter_map(|(name, at)| {
                let referred = self.pieces.get(usize::from(*at))?;
                Some((name.as_str(), referred.text.as_str()))
            })
        })
    }

    /// As it is spelled.
    ///
    /// # Errors
    /// Above a limit.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut out = Vec::new();
        self.put(&mut out, "schema")?;
        Ok(out)
    }

    /// Reads exactly one schema.
    ///
    /// # Errors
    /// When the bytes are none, or above a limit.
    pub fn decode(bytes: &[u8]) -> Result<Schema, Malformed> {
        let mut rest = bytes;
        let schema = Schema::take(&mut rest, "schema")?;
        if rest.is_empty() {
            return Ok(schema);
        }
        Err(invalid("schema", "is followed by other bytes"))
    }
}

impl Field for Part {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        (*self == Part::Value).put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Part, Malformed> {
        Ok(if bool::take(rest, what)? {
            Part::Value
        } else {
            Part::Key
        })
    }
}

impl Field for Schema {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        let start = out.len();
        let kind: u8 = match self.kind {
            Kind::Avro => 0,
            Kind::Protobuf => 1,
            Kind::Json => 2,
            Kind::Other => return Err(invalid(what, "is in a language that no registry knows")),
        };
        kind.put(out, what)?;
        self.part.put(out, what)?;
        self.id.put(out, what)?;
        check_pieces(&self.pieces)?;
        put_count(self.pieces.len(), out, what)?;
        for piece in &self.pieces {
            put_text(&piece.subject, out, what)?;
            piece.version.put(out, what)?;
            put_text(&piece.text, out, what)?;
            put_count(piece.references.len(), out, what)?;
            for (name, at) in &piece.references {
                put_text(name, out, what)?;
                at.put(out, what)?;
            }
        }
        check_size(out.len() - start)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Schema, Malformed> {
        let before = rest.len();
        let kind = match u8::take(rest, what)? {
            0 => Kind::Avro,
            1 => Kind::Protobuf,
            2 => Kind::Json,
            _ => return Err(invalid("schema", "is of an unknown kind")),
        };
        let part = Part::take(rest, what)?;
        let id = u32::take(rest, what)?;
        let count = take_count(rest, what)?;
        let mut pieces = Vec::new();
        for _ in 0..count {
            let subject = take_text(rest, what)?;
            let version = u32::take(rest, what)?;
            let text = take_text(rest, what)?;
            let references = take_count(rest, what)?;
            let reference = |_| Ok((take_text(rest, what)?, u16::take(rest, what)?));
            let references = (0..references).map(reference).collect::<Result<_, Malformed>>()?;
            pieces.push(Piece {
                subject,
                version,
                text,
                references,
            });
        }
        check_pieces(&pieces)?;
        check_size(before - rest.len())?;
        Ok(Schema {
            kind,
            part,
            id,
            pieces,
        })
    }
}

/// Each refers to earlier ones only: what is referred to ends.
fn check_pieces(pieces: &[Piece]) -> Result<(), Malformed> {
    if pieces.is_empty() {
        return Err(invalid("schema", "has no text"));
    }
    let refers_back = |(at, piece): (usize, &Piece)| {
        piece
            .references
            .iter()
            .all(|(_, referred)| usize::from(*referred) < at)
    };
    if pieces.iter().enumerate().all(refers_back) {
        return Ok(());
    }
    Err(invalid("schema", "refers to what does not stand before it"))
}

fn check_size(size: usize) -> Result<(), Malformed> {
    let max = limits::SCHEMA_BYTES_MAX;
    if size <= max {
        return Ok(());
    }
    Err(Malformed::TooLarge {
        what: "schema",
        size,
        max,
    })
}

fn put_count(count: usize, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
    let max = limits::SCHEMA_PIECES_MAX;
    let spelled = u16::try_from(count).ok().filter(|_| count <= max);
    spelled
        .ok_or(Malformed::TooLarge {
            what,
            size: count,
            max,
        })?
        .put(out, what)
}

fn take_count(rest: &mut &[u8], what: &'static str) -> Result<usize, Malformed> {
    let (count, max) = (usize::from(u16::take(rest, what)?), limits::SCHEMA_PIECES_MAX);
    if count <= max {
        return Ok(count);
    }
    Err(Malformed::TooLarge {
        what,
        size: count,
        max,
    })
}

fn put_text(text: &str, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
    check_size(text.len())?;
    u32::try_from(text.len()).unwrap_or(u32::MAX).put(out, what)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn take_text(rest: &mut &[u8], what: &'static str) -> Result<String, Malformed> {
    let length = u32::take(rest, what)? as usize;
    check_size(length)?;
    let text = core::str::from_utf8(wire::take(rest, length, what)?);
    text.map(ToString::to_string)
        .map_err(|_| invalid("schema", "is not UTF-8"))
}

const fn invalid(what: &'static str, why: &'static str) -> Malformed {
    Malformed::Invalid { what, why }
}

// ----- in a record -------------------------------------------------------------------------------------------------

/// Bytes of a prefix.
const PREFIX_BYTES: usize = 5;

/// The number before a key or value, in Confluent's framing: a byte 0 and 4 bytes, big-endian.
#[must_use]
pub fn prefix(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// What stands behind a prefix; all of it where there is none.
#[must_use]
pub fn behind_prefix(bytes: &[u8]) -> &[u8] {
    match prefix(bytes) {
        Some(_) => &bytes[PREFIX_BYTES..],
        None => bytes,
    }
}

/// The same bytes under another number. `bytes` has a prefix.
#[must_use]
pub fn renumbered(bytes: &[u8], id: u32) -> Vec<u8> {
    let mut made = Vec::with_capacity(bytes.len());
    made.push(0);
    made.extend_from_slice(&id.to_be_bytes());
    made.extend_from_slice(behind_prefix(bytes));
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn order() -> Schema {
        let piece = |subject: &str, references: Vec<(String, u16)>| Piece {
            subject: subject.into(),
            version: 3,
            text: "{\"type\":\"long\"}".into(),
            references,
        };
        Schema {
            kind: Kind::Avro,
            part: Part::Value,
            id: 70_000,
            pieces: vec![
                piece("item", Vec::new()),
                piece("orders-value", vec![("shop.Item".into(), 0)]),
            ],
        }
    }

    #[test]
    fn a_schema_is_read_as_it_was_written() {
        let bytes = order().encode().unwrap();
        assert_eq!(Schema::decode(&bytes), Ok(order()));
        assert_eq!(
            order().references().collect::<Vec<_>>(),
            [("shop.Item", "{\"type\":\"long\"}")]
        );
        for cut in 0..bytes.len() {
            assert!(Schema::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(Schema::decode(&[&bytes[..], b"x"].concat()).is_err());
    }

    #[test]
    fn a_schema_that_refers_forward_or_has_no_text_is_refused() {
        let mut forward = order();
        forward.pieces[0].references = vec![("shop.Order".into(), 1)];
        let empty = Schema {
            pieces: Vec::new(),
            ..order()
        };
        let mut large = order();
        large.pieces[0].text = "x".repeat(limits::SCHEMA_BYTES_MAX);
        for schema in [forward, empty, large] {
            assert!(schema.encode().is_err());
        }
    }

    #[test]
    fn a_prefix_is_read_and_replaced() {
        assert_eq!(prefix(b"\0\0\0\x01\x02value"), Some(258));
        assert_eq!(renumbered(b"\0\0\0\x01\x02value", 7), b"\0\0\0\0\x07value");
        assert_eq!(behind_prefix(b"\0\0\0\x01\x02value"), b"value");
        for none in [&b""[..], b"\0\0\0\0", b"{\"a\":1}"] {
            assert_eq!(prefix(none), None);
            assert_eq!(behind_prefix(none), none);
        }
    }
}
