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

    /// Headers that this crate wrote down itself, so that nobody need walk them again.
    pub(crate) fn trusted(count: u32, bytes: &'a [u8]) -> Headers<'a> {
        Headers { count, bytes }
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn plain() -> RecordRef<'static> {
        RecordRef {
            timestamp: 1,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: Headers::NONE,
        }
    }

    #[test]
    fn headers_are_read_as_they_were_pushed() {
        let mut buf = HeadersBuf::new();
        buf.push("trace", Some(b"1"));
        buf.push("", None);
        buf.push("trace", Some(b""));
        let mut bytes = buf.as_headers().as_bytes().to_vec();
        bytes.extend_from_slice(b"behind");
        let (headers, rest) = Headers::parse(3, &bytes).unwrap();
        assert_eq!(rest, b"behind");
        assert_eq!(headers, buf.as_headers());
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(
            all,
            [("trace", Some(&b"1"[..])), ("", None), ("trace", Some(&b""[..]))]
        );
        buf.clear();
        assert!(buf.as_headers().is_empty() && buf.as_headers().iter().next().is_none());
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let check = |count, bytes: &[u8]| assert!(Headers::parse(count, bytes).is_err(), "{bytes:?}");
        check(1, &[]);
        check(1, &[1, 1]); // a name that is absent
        check(1, &[2, 0xff, 1]); // a name that is not UTF-8
        check(1, &[4, b'h', 1]); // a name longer than what is there
        check(2, &[2, b'h', 1]); // one header, not two
        check(limits::HEADERS_MAX + 1, &vec![0; 3 * limits::HEADERS_MAX]);
    }

    #[test]
    fn every_part_of_a_record_is_in_its_identity() {
        let mut headers = HeadersBuf::new();
        headers.push("h", None);
        let others = [
            RecordRef {
                timestamp: 2,
                ..plain()
            },
            RecordRef { key: None, ..plain() },
            RecordRef {
                key: Some(b""),
                ..plain()
            },
            RecordRef {
                value: None,
                ..plain()
            },
            RecordRef {
                key: Some(b""),
                value: Some(b"kv"),
                ..plain()
            },
            RecordRef {
                key: Some(b"kv"),
                value: Some(b""),
                ..plain()
            },
            RecordRef {
                headers: headers.as_headers(),
                ..plain()
            },
        ];
        let mut seen = vec![plain().crc32c()];
        for other in others {
            assert!(!seen.contains(&other.crc32c()), "{other:?}");
            seen.push(other.crc32c());
        }
    }

    /// Positions in sinks hold it: it may never change.
    #[test]
    fn the_identity_of_a_record_is_fixed() {
        let spelled = b"\0\0\0\0\0\0\0\x01\0\0\0\x01k\0\0\0\x01v\0\0\0\0";
        assert_eq!(plain().crc32c(), crate::checksum::crc32c(spelled));
        let large = vec![5; 1000];
        let record = RecordRef {
            key: None,
            value: Some(&large),
            ..plain()
        };
        let mut spelled = b"\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\0\0\x03\xe8".to_vec();
        spelled.extend_from_slice(&large);
        spelled.extend_from_slice(&[0; 4]);
        assert_eq!(record.crc32c(), crate::checksum::crc32c(&spelled));
    }
}
