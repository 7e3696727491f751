//! Messages as a plugin sees them: views into the columns that came in, and new messages on their way out.

use crate::bindings::columns::exports::culvert::plugin::transform_columns::Columns;
use crate::bindings::shared::culvert::plugin::types;
use crate::{Failure, Needs};
use std::fmt;

/// In `absent`: the message has no key.
pub(crate) const NO_KEY: u8 = 1;
/// In `absent`: the message is a tombstone.
pub(crate) const NO_VALUE: u8 = 2;
/// In `absent`: the message has no timestamp.
pub(crate) const NO_TIMESTAMP: u8 = 4;

/// Messages of one stream, in order, and what is known of all of them.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    columns: &'a Columns,
    needs: Needs,
}

impl<'a> Batch<'a> {
    /// Looks once at what came in, so that no view has to look again.
    pub(crate) fn new(columns: &'a Columns, needs: Needs) -> Result<Batch<'a>, Failure> {
        let count = columns.count as usize;
        let wrong =
            |what: &str| Failure::fatal(format!("the gateway sent a batch with {what} that do not fit"));
        // A column that the plugin does not need may be empty.
        let length_fits = |length: usize| length == 0 || length == count;
        if !length_fits(columns.sequences.len()) {
            return Err(wrong("sequences"));
        }
        if !length_fits(columns.absent.len()) {
            return Err(wrong("absent parts"));
        }
        if !length_fits(columns.timestamps.len()) {
            return Err(wrong("timestamps"));
        }
        let fits = |ends: &[u32], bytes: &[u8]| {
            length_fits(ends.len())
                && ends.is_sorted()
                && ends.last().is_none_or(|last| *last as usize <= bytes.len())
        };
        if !fits(&columns.key_ends, &columns.keys) {
            return Err(wrong("keys"));
        }
        if !fits(&columns.value_ends, &columns.values) {
            return Err(wrong("values"));
        }
        if !fits(&columns.header_ends, &columns.headers) {
            return Err(wrong("headers"));
        }
        let batch = Batch { columns, needs };
        let readable = |message: Message<'_>| Headers::new(message.header_bytes()).is_readable();
        if !columns.headers.is_empty() && !batch.messages().all(readable) {
            return Err(wrong("headers"));
        }
        Ok(batch)
    }

    /// How many messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.count == 0
    }

    /// The messages, in order.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Message<'a>> + use<'a> {
        let batch = *self;
        (0..batch.len()).map(move |index| Message { batch, index })
    }

    /// The stream's identity, stable over restarts and outages. Opaque: compare it, keep it, do not read it.
    #[must_use]
    pub fn stream(&self) -> &'a str {
        &self.columns.stream
    }

    /// The topic of all messages here.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        &self.columns.topic
    }

    /// The partition of all messages here.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.columns.partition
    }

    /// The places of the stream that the batch accounts for: from here on.
    #[must_use]
    pub fn from(&self) -> u64 {
        self.columns.from
    }

    /// The place behind the last that the batch accounts for.
    #[must_use]
    pub fn to(&self) -> u64 {
        self.columns.to
    }

    /// What is known of the whole batch by this name (`schema.value`, `trace.parent`, …).
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        let found = self.columns.attributes.iter().find(|(known, _)| known == name)?;
        Some(&found.1)
    }
}

/// One message of a batch.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    batch: Batch<'a>,
    index: usize,
}

impl<'a> Message<'a> {
    /// None is no key, which is not the same as an empty one.
    ///
    /// # Panics
    /// When `About::needs` leaves keys out: they are not here then.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.require(Needs::KEY, "key");
        let columns = self.batch.columns;
        self.present(NO_KEY)
            .then(|| part(&columns.keys, &columns.key_ends, self.index))
    }

    /// None is a tombstone.
    ///
    /// # Panics
    /// When `About::needs` leaves values out: they are not here then.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.require(Needs::VALUE, "value");
        let columns = self.batch.columns;
        self.present(NO_VALUE)
            .then(|| part(&columns.values, &columns.value_ends, self.index))
    }

    /// The headers, in order; names may repeat.
    ///
    /// # Panics
    /// When `About::needs` leaves headers out: they are not here then.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.require(Needs::HEADERS, "headers");
        Headers::new(self.header_bytes())
    }

    /// The value of the first header of this name: none where there is no such header or it has no value.
    ///
    /// # Panics
    /// When `About::needs` leaves headers out: they are not here then.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|header| header.name == name)?.value
    }

    /// Milliseconds since 1970-01-01 UTC.
    ///
    /// # Panics
    /// When `About::needs` leaves timestamps out: they are not here then.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.require(Needs::TIMESTAMP, "timestamp");
        let timestamp = self.batch.columns.timestamps.get(self.index).copied();
        timestamp.filter(|_| self.present(NO_TIMESTAMP))
    }

    /// The message's place in its stream. Stream and place together name it for ever.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        let columns = self.batch.columns;
        columns
            .sequences
            .get(self.index)
            .copied()
            .unwrap_or(columns.from + self.index as u64)
    }

    /// The topic it came by.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.batch.topic()
    }

    /// The batch it is part of.
    #[must_use]
    pub fn batch(&self) -> Batch<'a> {
        self.batch
    }

    /// Its number in the batch.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// A copy of all of it, to be changed and sent on.
    ///
    /// # Panics
    /// When `About::needs` leaves out any part: the copy would lose it.
    #[must_use]
    pub fn to_new(&self) -> NewMessage {
        let header = |header: Header<'_>| types::Header {
            name: header.name.to_owned(),
            value: header.value.map(<[u8]>::to_vec),
        };
        NewMessage(types::Routed {
            topic: None,
            message: types::Message {
                key: self.key().map(<[u8]>::to_vec),
                value: self.value().map(<[u8]>::to_vec),
                headers: self.headers().map(header).collect(),
                timestamp: self.timestamp(),
            },
        })
    }

    /// The value as JSON.
    ///
    /// # Errors
    /// `tombstone` where there is no value, `not-json` where it is not what `T` reads.
    ///
    /// # Panics
    /// When `About::needs` leaves values out: they are not here then.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Deserialize<'a>>(&self) -> Result<T, crate::Rejection> {
        use crate::OrReject;
        let value = self.value().or_reject("tombstone", "there is no value")?;
        serde_json::from_slice(value).or_reject("not-json", "the value cannot be read as JSON")
    }

    fn present(&self, part: u8) -> bool {
        self.batch
            .columns
            .absent
            .get(self.index)
            .is_none_or(|absent| absent & part == 0)
    }

    fn header_bytes(&self) -> &'a [u8] {
        let columns = self.batch.columns;
        part(&columns.headers, &columns.header_ends, self.index)
    }

    fn require(&self, part: Needs, name: &str) {
        assert!(
            self.batch.needs.contains(part),
            "the plugin reads a message's {name}, and its `About` says with `needs` that it does not"
        );
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}

/// Entry `index` of a column whose ends were looked at; empty where the column is not there.
fn part<'a>(bytes: &'a [u8], ends: &[u32], index: usize) -> &'a [u8] {
    let end = |index: usize| ends.get(index).map_or(0, |end| *end as usize);
    let start = index.checked_sub(1).map_or(0, end);
    bytes.get(start..end(index)).unwrap_or_default()
}

/// A header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Names may repeat.
    pub name: &'a str,
    /// None is a header without a value, which is not the same as an empty one.
    pub value: Option<&'a [u8]>,
}

/// Goes through headers as Kafka's record format has them: a varint count, and for each header a varint length and the
/// name, a varint length (-1: none) and the value (KIP-98).
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    left: u64,
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    fn new(bytes: &'a [u8]) -> Headers<'a> {
        let mut rest = bytes;
        let left = varint(&mut rest)
            .and_then(|count| u64::try_from(count).ok())
            .unwrap_or(0);
        Headers { left, rest }
    }

    /// Whether the bytes hold what their count says, and nothing behind it.
    fn is_readable(mut self) -> bool {
        while self.left > 0 {
            if self.next().is_none() {
                return false;
            }
        }
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let name = sized(&mut self.rest)??;
        Some(Header {
            name: std::str::from_utf8(name).ok()?,
            value: sized(&mut self.rest)?,
        })
    }
}

/// A length and so many bytes; the inner `None` is a length of -1.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = varint(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(bytes))
}

/// A zigzag varint of at most ten bytes.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        zigzag |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64));
        }
    }
    None
}

/// A message on its way out. Without a topic of its own it goes where the batch came by.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMessage(pub(crate) types::Routed);

impl NewMessage {
    /// A message with a value and nothing else.
    pub fn new(value: impl Into<Vec<u8>>) -> NewMessage {
        NewMessage::tombstone().value(value)
    }

    /// A message with nothing at all; with a key, it deletes that key.
    #[must_use]
    pub fn tombstone() -> NewMessage {
        NewMessage(types::Routed {
            topic: None,
            message: types::Message {
                key: None,
                value: None,
                headers: Vec::new(),
                timestamp: None,
            },
        })
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> NewMessage {
        self.0.message.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> NewMessage {
        self.0.message.value = Some(value.into());
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> NewMessage {
        self.0.message.headers.push(types::Header {
            name: name.into(),
            value: Some(value.into()),
        });
        self
    }

    /// With one more header, which has no value.
    #[must_use]
    pub fn header_without_value(mut self, name: impl Into<String>) -> NewMessage {
        self.0.message.headers.push(types::Header {
            name: name.into(),
            value: None,
        });
        self
    }

    /// Without the headers of this name.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> NewMessage {
        self.0.message.headers.retain(|header| header.name != name);
        self
    }

    /// At this time, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> NewMessage {
        self.0.message.timestamp = Some(timestamp);
        self
    }

    /// To another topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> NewMessage {
        self.0.topic = Some(topic.into());
        self
    }
}

impl From<&str> for NewMessage {
    fn from(value: &str) -> NewMessage {
        NewMessage::new(value)
    }
}

impl From<&[u8]> for NewMessage {
    fn from(value: &[u8]) -> NewMessage {
        NewMessage::new(value)
    }
}

impl<const N: usize> From<&[u8; N]> for NewMessage {
    fn from(value: &[u8; N]) -> NewMessage {
        NewMessage::new(value)
    }
}

impl From<Vec<u8>> for NewMessage {
    fn from(value: Vec<u8>) -> NewMessage {
        NewMessage::new(value)
    }
}
