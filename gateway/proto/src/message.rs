//! What gateways say to each other beside the frames: one [`Message`] is one envelope on a link's control stream.
//!
//! ```text
//! u32 length of what follows | u16 tag | u8 body version | fields in fixed order | u32 CRC32C of all before it
//! ```
//!
//! - The high bit of a tag says *critical*: who does not know such a message cannot go on. Others are skipped.
//! - A newer body version only adds fields at the end; an older reader ignores them.
//! - Nothing in here moves `applied` but [`Message::PositionIs`] and [`Message::Answer`] (A4): a next hop's wish
//!   never means that something was delivered.

use crate::digest::Digest;
use crate::field::{self, Field};
use crate::limits;
use crate::schema::{Part, Schema};
use crate::sequence::{Interval, Sequence};
use crate::stream::{RouteId, StreamId};
use crate::wire::Malformed;
use crate::{Guard, Position};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

mod envelope;
#[cfg(test)]
mod tests;

use envelope::{Envelope, seal};

/// Declares [`Message`] and spells it, so that writing and reading cannot name different fields.
macro_rules! messages {
    ($($(#[doc = $doc:expr])* $tag:literal $name:ident {
        $($(#[doc = $field_doc:expr])* $field:ident: $type:ty,)*
    })*) => {
        /// One control message of a link.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $($(#[doc = $doc])* $name { $($(#[doc = $field_doc])* $field: $type,)* },)*
        }

        impl Message {
            fn tag(&self) -> u16 {
                match self {
                    $(Message::$name { .. } => $tag,)*
                }
            }

            fn put_fields(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
                match self {
                    $(Message::$name { $($field,)* } => {
                        $($field.put(out, concat!(stringify!($name), " ", stringify!($field)))?;)*
                    })*
                }
                Ok(())
            }

            /// `None` for a tag that is not known.
            fn take_fields(tag: u16, rest: &mut &[u8]) -> Result<Option<Message>, Malformed> {
                match tag {
                    $($tag => Ok(Some(Message::$name {
                        $($field: Field::take(rest, concat!(stringify!($name), " ", stringify!($field)))?,)*
                    })),)*
                    _ => Ok(None),
                }
            }
        }
    };
}

messages! {
    /// First on every link, from both ends: who speaks, and in which versions. The name is only believed where the
    /// certificate says the same.
    0x8001 Hello {
        /// The oldest protocol version spoken.
        version_min: u16,
        /// The newest protocol version spoken.
        version_max: u16,
        /// The gateway's name.
        gateway: Arc<str>,
        /// The site it belongs to.
        site: Arc<str>,
        /// Fresh at each start of the process.
        instance: [u8; 16],
        /// Program version, for people.
        build: Arc<str>,
    }

    /// The sink's gateway to the origin: this route reads these topics. Nothing is freed below its `applied` from
    /// now on.
    0x8002 Register {
        /// The route.
        route: RouteId,
        /// The site whose topics are wanted.
        origin: Arc<str>,
        /// Which topics.
        topics: TopicFilter,
        /// Where streams begin that the sink never held.
        start: Start,
        /// The incarnation of the positions the route stores.
        incarnation: u32,
    }

    /// The origin has stored the registration durably.
    0x8003 Registered {
        /// The route.
        route: RouteId,
    }

    /// The origin does not take the registration.
    0x8004 Refused {
        /// The route.
        route: RouteId,
        /// Why, and what can be done.
        fault: Fault,
    }

    /// The route is gone for good: space need no longer be kept for it.
    0x8005 Forget {
        /// The route.
        route: RouteId,
    }

    /// Sender to next hop: what it holds of a stream.
    0x8006 Offer {
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// What can be sent from here.
        held: Interval,
        /// The highest position heard from the sink, if any was.
        applied: Option<Sequence>,
    }

    /// Next hop to sender: send from here. Never means that anything below was delivered.
    0x8007 Want {
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// The first place wanted.
        at: Sequence,
    }

    /// Next hop to sender: how much may be sent on the stream's lane.
    0x8008 Credit {
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// Bytes of frames since the lane was opened, in all: a repeated or late credit does no harm.
        bytes: u64,
    }

    /// What the sink holds now; relays pass it on towards the origin.
    0x8009 PositionIs {
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// Who committed it: counts only from the writer that answered the origin's last question.
        writer: u128,
        /// Committed at the sink.
        position: Position,
    }

    /// Origin to sink: read the positions from the sink's store now. Relays forward it and never answer.
    0x800a Ask {
        /// Fresh for each question; the answer repeats it.
        nonce: u128,
        /// The route.
        route: RouteId,
        /// Of which streams.
        streams: Vec<StreamId>,
    }

    /// The fresh positions that were asked for.
    0x800b Answer {
        /// Of the question.
        nonce: u128,
        /// The route.
        route: RouteId,
        /// The sink's one writer when it read them.
        writer: u128,
        /// A position for each stream asked for; none where the sink never held the stream.
        positions: Vec<(StreamId, Option<Position>)>,
    }

    /// Origin to sink: where a stream begins that the sink never held. Stored there before its first record.
    0x800c Begin {
        /// Repeats the nonce of the answer it rests on.
        nonce: u128,
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// The first place.
        start: Sequence,
        /// Identity of the record before it, where the origin knows it.
        guard: Guard,
    }

    /// One stream stands still until an operator decides; either way, for status.
    0x000d Halted {
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// Why, and what can be done.
        fault: Fault,
    }

    /// What does the other end hold of this interval? For `prove`.
    0x000e DigestAsk {
        /// Fresh for each question.
        nonce: u128,
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// Which part of it.
        interval: Interval,
        /// One digest for each so many records.
        block_records: u32,
        /// The parts of records that are compared without the numbers of their schemas: the sink gives them others.
        without_ids: Vec<Part>,
    }

    /// Part of the answer; parts come in order, each going on where the one before ended.
    0x000f DigestAnswer {
        /// Of the question.
        nonce: u128,
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// Digests of neighbouring pieces.
        blocks: Vec<Block>,
        /// Whether this is the last part.
        done: bool,
        /// Why the rest of the answer does not come.
        fault: Option<Fault>,
    }

    /// Sender to next hop, before the first frame that names it in this session: a schema of the origin's registry.
    0x8010 Schema {
        /// The schema.
        schema: Schema,
    }

    /// Goes before a [`Message::DigestAsk`] with the same nonce: before the last part of its answer, a
    /// [`Message::Statement`] is wanted. Who does not know this answers without one.
    0x0011 StatementAsk {
        /// Of the question.
        nonce: u128,
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// The hash of the receipt before, which is to stand in the statement; none begins a chain.
        before: Option<[u8; 32]>,
    }

    /// What the origin has read of the interval that it was asked for, signed. Relays pass it on as it is.
    0x0012 Statement {
        /// Of the question.
        nonce: u128,
        /// The route.
        route: RouteId,
        /// What was signed, and by whom.
        signed: Signed,
    }

    /// Sender to next hop: how urgent the stream is. For the links beyond it; who does not know this sends all streams on
    /// alike.
    0x0013 PriorityIs {
        /// The route.
        route: RouteId,
        /// The stream.
        stream: StreamId,
        /// As the source of the stream says.
        priority: Priority,
    }
}

/// Which topics of an origin a route reads: those named, and those the pattern matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFilter {
    /// Topics by name.
    pub names: Vec<Arc<str>>,
    /// A regular expression over whole names, at most [`limits::PATTERN_BYTES_MAX`] bytes.
    pub pattern: Option<String>,
}

/// Where a route begins to read a stream that its sink never held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is when the route is registered.
    Latest,
}

/// Which streams go first while a link has less room than all of them want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Behind all others.
    Low,
    /// Where nothing is said.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// What went wrong, for people and for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The code of the page in `docs/errors/`.
    pub code: Arc<str>,
    /// What happened and what can be done. Cut at [`limits::REASON_BYTES_MAX`] when it is sent.
    pub reason: String,
}

/// Count and content of one piece of a stream, which begins where the piece before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The first place behind the piece.
    pub to: Sequence,
    /// Of its records.
    pub digest: Digest,
}

/// A statement as its gateway signed it. Nobody on the way looks inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The very bytes that were signed, at most [`limits::STATEMENT_BYTES_MAX`].
    pub statement: Vec<u8>,
    /// How, by its number in TLS (RFC 8446, section 4.2.3).
    pub scheme: u16,
    /// At most [`limits::SIGNATURE_BYTES_MAX`].
    pub signature: Vec<u8>,
    /// The certificate of the key (DER), and behind it those between it and its authority: at most
    /// [`limits::CERTIFICATES_MAX`] of [`limits::CERTIFICATE_BYTES_MAX`].
    pub certificates: Vec<Vec<u8>>,
}

/// The first bytes of a QUIC stream that carries frames: whose frames they are. In an envelope like a message's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneHeader {
    /// The route.
    pub route: RouteId,
    /// The stream.
    pub stream: StreamId,
}

/// The bit of a tag that says: who does not know this cannot go on.
const CRITICAL: u16 = 0x8000;

/// The tag of a lane's header; never on a control stream.
const LANE: u16 = 0x8100;

/// How many bytes of a message follow the four in `head`.
///
/// # Errors
/// [`Malformed::TooLarge`] above [`limits::MESSAGE_BYTES_MAX`]: close the link rather than read on.
pub fn announced(head: [u8; 4]) -> Result<usize, Malformed> {
    field::announced(head, limits::MESSAGE_BYTES_MAX, "message")
}

impl Message {
    /// Writes the message in its envelope behind `out`.
    ///
    /// # Errors
    /// When a name, list or the whole is above its limit: `out` is then as before. An [`Message::Answer`] or
    /// [`Message::DigestAnswer`] that is too large goes out in several.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        seal(self.tag(), limits::MESSAGE_BYTES_MAX, "message", out, |out| {
            self.put_fields(out)
        })
    }

    /// Reads one message from exactly its envelope. `None` for one that is not known here and may be skipped.
    ///
    /// # Errors
    /// When the bytes are damaged, above a limit, or a critical message of a kind that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Option<Message>, Malformed> {
        let envelope = Envelope::open(bytes, limits::MESSAGE_BYTES_MAX, "message")?;
        let mut rest = envelope.fields;
        let message = Message::take_fields(envelope.tag, &mut rest)?;
        match message {
            Some(_) => envelope.check_end(rest, "message")?,
            None if envelope.tag & CRITICAL != 0 => {
                return Err(Malformed::Invalid {
                    what: "message",
                    why: "is critical and of an unknown kind",
                });
            }
            None => {}
        }
        Ok(message)
    }
}

impl LaneHeader {
    /// How many bytes of a lane header follow the four in `head`.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`] above [`limits::LANE_HEADER_BYTES_MAX`].
    pub fn announced(head: [u8; 4]) -> Result<usize, Malformed> {
        field::announced(head, limits::LANE_HEADER_BYTES_MAX, "lane header")
    }

    /// Writes the header in its envelope behind `out`.
    ///
    /// # Errors
    /// When a name is above its limit: `out` is then as before.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        seal(LANE, limits::LANE_HEADER_BYTES_MAX, "lane header", out, |out| {
            self.route.put(out, "lane route")?;
            self.stream.put(out, "lane stream")
        })
    }

    /// Reads a header from exactly its envelope.
    ///
    /// # Errors
    /// When the bytes are damaged, above a limit, or something else than a lane's header.
    pub fn decode(bytes: &[u8]) -> Result<LaneHeader, Malformed> {
        let envelope = Envelope::open(bytes, limits::LANE_HEADER_BYTES_MAX, "lane header")?;
        if envelope.tag != LANE {
            return Err(Malformed::Invalid {
                what: "lane header",
                why: "is another message",
            });
        }
        let mut rest = envelope.fields;
        let header = LaneHeader {
            route: Field::take(&mut rest, "lane route")?,
            stream: Field::take(&mut rest, "lane stream")?,
        };
        envelope.check_end(rest, "lane header")?;
        Ok(header)
    }
}

impl Field for TopicFilter {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.names.put(out, what)?;
        self.pattern.is_some().put(out, what)?;
        let pattern = self.pattern.as_deref();
        pattern.map_or(Ok(()), |text| {
            field::put_text(text, limits::PATTERN_BYTES_MAX, out, "topic pattern")
        })
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        let names = Field::take(rest, what)?;
        let pattern = match bool::take(rest, what)? {
            false => None,
            true => Some(field::take_text(rest, limits::PATTERN_BYTES_MAX, "topic pattern")?.to_string()),
        };
        Ok(TopicFilter { names, pattern })
    }
}

impl Field for Start {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        matches!(self, Start::Latest).put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Ok(if bool::take(rest, what)? {
            Start::Latest
        } else {
            Start::Earliest
        })
    }
}

impl Field for Priority {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        let byte: u8 = match self {
            Priority::Low => 0,
            Priority::Normal => 1,
            Priority::High => 2,
        };
        byte.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        match u8::take(rest, what)? {
            0 => Ok(Priority::Low),
            1 => Ok(Priority::Normal),
            2 => Ok(Priority::High),
            _ => Err(Malformed::Invalid {
                what,
                why: "is no priority",
            }),
        }
    }
}

impl Field for Fault {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.code.put(out, what)?;
        let reason = field::shortened(&self.reason, limits::REASON_BYTES_MAX);
        field::put_text(&reason, limits::REASON_BYTES_MAX, out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Ok(Fault {
            code: Field::take(rest, what)?,
            reason: field::take_text(rest, limits::REASON_BYTES_MAX, what)?.to_string(),
        })
    }
}

impl Field for Block {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        self.to.put(out, what)?;
        self.digest.put(out, what)
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        Ok(Block {
            to: Field::take(rest, what)?,
            digest: Field::take(rest, what)?,
        })
    }
}

impl Field for Signed {
    fn put(&self, out: &mut Vec<u8>, what: &'static str) -> Result<(), Malformed> {
        field::put_blob(&self.statement, limits::STATEMENT_BYTES_MAX, out, what)?;
        self.scheme.put(out, what)?;
        field::put_blob(&self.signature, limits::SIGNATURE_BYTES_MAX, out, "signature")?;
        let (all, most) = (self.certificates.len(), limits::CERTIFICATES_MAX);
        field::put_count(all, most, out, "certificates")?;
        self.certificates.iter().try_for_each(|certificate| {
            field::put_blob(certificate, limits::CERTIFICATE_BYTES_MAX, out, "certificate")
        })
    }

    fn take(rest: &mut &[u8], what: &'static str) -> Result<Self, Malformed> {
        let statement = field::take_blob(rest, limits::STATEMENT_BYTES_MAX, what)?;
        let scheme = Field::take(rest, what)?;
        let signature = field::take_blob(rest, limits::SIGNATURE_BYTES_MAX, "signature")?;
        let all = field::take_count(rest, limits::CERTIFICATES_MAX, "certificates")?;
        let certificate = |_| field::take_blob(rest, limits::CERTIFICATE_BYTES_MAX, "certificate");
        Ok(Signed {
            statement,
            scheme,
            signature,
            certificates: (0..all).map(certificate).collect::<Result<_, _>>()?,
        })
    }
}
