//! What we write into a sink's token beside the numbers it can read: the stream's whole identity and its position.
//!
//! ```text
//! u8 magic 0xC6 | u8 version | u16 length, route | stream | position | u32 CRC32C of all before it
//! ```

use culvert_host::Token;
use culvert_proto::field::Field;
use culvert_proto::stream::RouteId;
use culvert_proto::wire::Malformed;
use culvert_proto::{Position, StreamId};

/// The first byte: a note is told from a plugin's own bytes and from noise.
const MAGIC: u8 = 0xC6;

/// The version written, and the newest one read.
const VERSION: u8 = 1;

const WHAT: &str = "note of the gateway";

/// Why a token cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The bytes are not those that were given to the plugin.
    #[error(
        "the token of stream {stream:?} cannot be read: {cause}; restore the target, or begin its streams anew with culvert.incarnation"
    )]
    Unreadable {
        /// As the plugin names it.
        stream: String,
        /// What is wrong.
        cause: Malformed,
    },
    /// The note says something else than the token around it.
    #[error(
        "the token of stream {stream:?} says [{from}, {to}) and its note {note}: the plugin mixed up what it keeps"
    )]
    Mixed {
        /// As the plugin names it.
        stream: String,
        /// Of the token.
        from: u64,
        /// Of the token.
        to: u64,
        /// What the note says.
        note: String,
    },
    /// Another connector's target.
    #[error(
        "the target belongs to route {found}, and this is {ours}: give each connector a target of its own"
    )]
    OtherRoute {
        /// Whose it is.
        found: RouteId,
        /// Which one asks.
        ours: RouteId,
    },
    /// The note cannot be written.
    #[error("the position of {stream} cannot be noted: {cause}")]
    Unwritable {
        /// The stream.
        stream: String,
        /// What is wrong.
        cause: Malformed,
    },
}

/// A stream's name for plugins: equal for equal streams, and only for them.
pub(super) fn stream_id(stream: &StreamId) -> String {
    format!("{stream}@{}", stream.lineage_hex())
}

/// The token that moves a stream from what is held to `position`.
pub(super) fn token(
    id: &str,
    held: Option<&Position>,
    stream: &StreamId,
    position: &Position,
    route: &RouteId,
) -> Result<Token, Error> {
    let held = held.filter(|held| held.incarnation == position.incarnation);
    Ok(Token {
        stream: id.into(),
        incarnation: position.incarnation,
        from: held.unwrap_or(position).at.0,
        to: position.at.0,
        position: write(route, stream, position).map_err(|cause| Error::Unwritable {
            stream: stream.to_string(),
            cause,
        })?,
    })
}

/// What a token says that the plugin gave back.
pub(super) fn read(token: &Token, route: &RouteId) -> Result<(StreamId, Position), Error> {
    let (found, stream, position) = parse(&token.position).map_err(|cause| Error::Unreadable {
        stream: token.stream.clone(),
        cause,
    })?;
    if found != *route {
        return Err(Error::OtherRoute {
            found,
            ours: route.clone(),
        });
    }
    let told = (token.stream.as_str(), token.incarnation, token.to);
    if told != (stream_id(&stream).as_str(), position.incarnation, position.at.0) {
        return Err(Error::Mixed {
            stream: token.stream.clone(),
            from: token.from,
            to: token.to,
            note: format!(
                "{stream} at {}, incarnation {}",
                position.at, position.incarnation
            ),
        });
    }
    Ok((stream, position))
}

fn write(route: &RouteId, stream: &StreamId, position: &Position) -> Result<Vec<u8>, Malformed> {
    let mut bytes = vec![MAGIC, VERSION];
    route.put(&mut bytes, "route")?;
    stream.put(&mut bytes, "stream")?;
    position.put(&mut bytes, "position")?;
    let checksum = culvert_proto::checksum::crc32c(&bytes);
    checksum.put(&mut bytes, "checksum")?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<(RouteId, StreamId, Position), Malformed> {
    let (body, mut sum) = bytes
        .split_at_checked(bytes.len().wrapping_sub(4))
        .ok_or(Malformed::Truncated { what: WHAT })?;
    let mut rest = body;
    let [magic, version] = <[u8; 2]>::take(&mut rest, WHAT)?;
    if magic != MAGIC {
        return Err(Malformed::Invalid {
            what: WHAT,
            why: "does not begin as one",
        });
    }
    if version == 0 || version > VERSION {
        return Err(Malformed::Version {
            what: WHAT,
            found: version.into(),
            newest: VERSION.into(),
        });
    }
    let (stored, computed) = (u32::take(&mut sum, WHAT)?, culvert_proto::checksum::crc32c(body));
    if stored != computed {
        return Err(Malformed::Checksum {
            what: WHAT,
            stored,
            computed,
        });
    }
    let route = RouteId::take(&mut rest, "route")?;
    let stream = StreamId::take(&mut rest, "stream")?;
    let position = Position::take(&mut rest, "position")?;
    if !rest.is_empty() {
        return Err(Malformed::Invalid {
            what: WHAT,
            why: "has bytes behind it",
        });
    }
    Ok((route, stream, position))
}
