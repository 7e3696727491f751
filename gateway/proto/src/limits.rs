//! Sizes that hold everywhere. Decoders check them before they allocate.

/// A frame is closed at this many bytes of records. 64-256 KiB frames with 8 in flight gave the best rate at under
/// 1 ms on loopback QUIC; larger ones only queue.
pub const FRAME_BYTES_TARGET: usize = 256 * 1024;

/// A frame is closed at this many records: batches of 100 and 1,000 cost the same in a plugin call, and small
/// frames keep the unit of retry small.
pub const FRAME_RECORDS_MAX: usize = 500;

/// The largest record, key, value and headers together, unless configured lower. A record above
/// [`FRAME_BYTES_TARGET`] travels alone.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The largest frame that is accepted from disk or network: one record of the largest size and its header.
pub const FRAME_BYTES_MAX: usize = RECORD_BYTES_MAX + 64 * 1024;

/// The largest control message. Far above an answer for 1,000 streams.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// The longest name of a site, topic, cluster, route or gateway in bytes; Kafka's own limit for topics is 249.
pub const NAME_BYTES_MAX: usize = 249;

/// The most places an interval without records may cover unless the source confirmed a compacted hole. A peer that
/// could skip more could move a position past records that exist (position poisoning).
pub const HOLE_MAX: u64 = 10_000_000;

/// The most streams one control message may name.
pub const STREAMS_PER_MESSAGE_MAX: usize = 1_000;

/// The largest resume point.
pub const RESUME_POINT_BYTES_MAX: usize = 4 * 1024;

/// The most headers a record may have. Kafka sets no limit; this one bounds what a decoder walks.
pub const HEADERS_MAX: usize = 10_000;

/// The longest reason in a message, in bytes; what is longer is cut. Enough for a sentence with its numbers.
pub const REASON_BYTES_MAX: usize = 4 * 1024;

/// The longest topic pattern a route may register with, in bytes. By eye; a compiled pattern has limits of its own.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// The largest header of a lane: a route, a stream, and room to grow.
pub const LANE_HEADER_BYTES_MAX: usize = 4 * 1024;

/// The most schemas one frame may name. By eye: a topic has one or two live ones.
pub const SCHEMAS_PER_FRAME_MAX: usize = 64;

/// The most topics that the records of one frame may be sent to by stages. By eye: a router by day or by kind names few.
pub const TOPICS_PER_FRAME_MAX: usize = 500;

/// The largest schema, with all it refers to. What fits into one control message and one setting of an outbox.
pub const SCHEMA_BYTES_MAX: usize = 900 * 1024;

/// The most texts of one schema, and the most references of one text. By eye.
pub const SCHEMA_PIECES_MAX: usize = 256;

/// The largest statement of a receipt: five names, each of which may double when it is quoted, and its numbers.
pub const STATEMENT_BYTES_MAX: usize = 8 * 1024;

/// The longest signature: RSA with 8,192 bits.
pub const SIGNATURE_BYTES_MAX: usize = 1024;

/// The most certificates that come with a signature. By eye: a gateway's own and a few between it and its authority.
pub const CERTIFICATES_MAX: usize = 8;

/// The largest of them. One with an RSA key of 8,192 bits and fifty names has 5 KB.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
