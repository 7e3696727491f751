//! One record, as Kafka shapes it.

use crate::checksum::Crc32c;
use crate::limits;
use crate::wire::{self, Malformed};
use alloc::vec::Vec;

/// A record somewhere else: in a broker's message, in a decoded batch, in a generator's buffer. Nothing is copied
/// until a [`crate::batch::BatchBuilder`] writes it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Milliseconds since 1970-01-01 UTC; -1 where the record has none.
    pub timestamp: i64,
    /// The key; `None` is not the same as an empty key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; names may repeat.
    pub headers: Headers<'a>,
}

impl RecordRef<'_> {
    /// Bytes of key, value and headers: what limits and quotas count.
    #[must_use]
    pub fn size(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.headers.bytes.len()
    }

    /// CRC32C over timestamp and content: the identity of a source record in a [`crate::Guard`]. It does not
    /// depend on the batch in which the record travels.
    #[must_use]
    pub fn crc32c(&self) -> u32 {
        let mut crc = Crc32c::new();
        crc.update(&self.timestamp.to_be_bytes());
        self.content_parts(|part| crc.update(part));
        crc.finish()
    }

    /// Key, value and headers as a byte sequence that no other content spells: each part behind its length, an
    /// absent part as length -1.
    pub(crate) fn content_parts(&self, mut part: impl FnMut(&[u8])) {
        for field in [self.key, self.value] {
            match field {
                None => part(&(-1i32).to_be_bytes()),
                Some(bytes) => {
                    part(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
                    part(bytes);
                }
            }
        }
        part(&self.headers.count.to_be_bytes());
        part(self.headers.bytes);
    }
}

/// Headers in the form in which Kafka's record format (KIP-98) writes them: for each, the name's length as a
/// zigzag varint, the name, the value's length (-1 for none), the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    count: u32,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const NONE: Headers<'static> = Headers { count: 0, bytes: &[] };

    /// Takes `count` headers that stand at the start of `bytes`, and what is behind them.
    ///
    /// # Errors
    /// When a length points outside of `bytes`, a name is not UTF-8, or `count` is above
    /// [`limits::HEADERS_MAX`].
    pub fn parse(count: usize, bytes: &'a [u8]) -> Result<(Headers<'a>, &'a [u8]), Malformed> {
        if count > limits::HEADERS_MAX {
            return Err(Malformed::TooLarge {
                what: "header count",
                size: count,
                max: limits::HEADERS_MAX,
            });
        }
        let mut rest = bytes;
        for _ in 0..count {
            take_header(&mut rest)?;
        }
        let (own, rest) = bytes.split_at(bytes.len() - rest.len());
        Ok((
            Headers {
                count: u32::try_from(count).unwrap_or(u32::MAX),
                bytes: own,
            },
            rest,
        ))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded form, without the count.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.bytes;
        // The bytes were walked once when they were parsed or pushed, so the walk cannot fail here.
        core::iter::from_fn(move || {
            if rest.is_empty() {
                None
            } else {
                take_header(&mut rest).ok()
            }
        })
    }
}

fn take_header<'a>(rest: &mut &'a [u8]) -> Result<(&'a str, Option<&'a [u8]>), Malformed> {
    let name = wire::take_varint_bytes(rest, "header name")?.ok_or(Malformed::Invalid {
        what: "header name",
        why: "is absent",
    })?;
    let name = core::str::from_utf8(name).map_err(|_| Malformed::Invalid {
        what: "header name",
        why: "is not UTF-8",
    })?;
    Ok((name, wire::take_varint_bytes(rest, "header value")?))
}

/// A buffer to collect headers in; reused from record to record, so that records with headers cost no allocation
/// of their own.
#[derive(Clone, Debug, Default)]
pub struct HeadersBuf {
    count: u32,
    bytes: Vec<u8>,
}

impl HeadersBuf {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> HeadersBuf {
        HeadersBuf::default()
    }

    /// Forgets the headers, keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// Adds one header behind the others.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        self.count += 1;
        wire::put_varint_bytes(&mut self.bytes, Some(name.as_bytes()));
        wire::put_varint_bytes(&mut self.bytes, value);
    }

    /// The headers collected so far.
    #[must_use]
    pub fn as_headers(&self) -> Headers<'_> {
        Headers {
            count: self.count,
            bytes: &self.bytes,
        }
    }
}
