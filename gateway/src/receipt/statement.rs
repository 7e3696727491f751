//! What one gateway says of an interval of a stream, in the bytes that it signs.

use super::Refusal;
use culvert_proto::hex::{bytes_of, hex};
use ring::digest::Context;
use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The format of statements. Another one has another name.
const FORMAT: &str = "culvert-statement/1";

/// Which end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The gateway that reads the source.
    Origin,
    /// The gateway that writes the target, and reads it back.
    Sink,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Origin => "origin",
            Role::Sink => "sink",
        })
    }
}

/// A statement. Its bytes are JSON without spaces, with the fields in the order in which they stand here; no other spelling
/// is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// `culvert-statement/1`.
    pub format: String,
    /// Which end speaks.
    pub role: Role,
    /// Who speaks, as its certificate says it: `spiffe://<trust domain>/<gateway>`.
    pub gateway: String,
    /// The site it says it belongs to.
    pub site: String,
    /// `site/connector`.
    pub route: String,
    /// `site/topic/partition`.
    pub stream: String,
    /// What the stream's numbers rest on, in hexadecimal.
    pub lineage: String,
    /// The first place.
    pub from: u64,
    /// The end: `[from, to)` is spoken of.
    pub to: u64,
    /// The place of the first record. Absent without records. In a target that keeps no places those of the origin are
    /// meant, to whose records the target's are equal one by one.
    pub first: Option<u64>,
    /// The place of the last record.
    pub last: Option<u64>,
    /// How many records.
    pub count: u64,
    /// SHA-256 of their content in order, as `flow::seen` spells it.
    pub content: Hash,
    /// The parts of records (`key`, `value`) that were hashed without the numbers of their schemas.
    pub without_ids: Vec<String>,
    /// Records of the interval that are not there. At the origin: that it could not read again.
    pub gaps: u64,
    /// Records that are there more than once. At the origin: that stood at a place not above the one before.
    pub duplicates: u64,
    /// When, by the clock of the gateway, which proves nothing: RFC 3339, UTC, whole seconds.
    pub time: String,
    /// The hash of the receipt before, of the same route and stream. Absent in the first of a chain.
    pub before: Option<Hash>,
}

impl Statement {
    /// A statement about nothing, for its fields to be set, at `seconds` after 1970.
    #[must_use]
    pub fn new(role: Role, seconds: i64) -> Statement {
        let text = String::new;
        Statement {
            format: FORMAT.to_owned(),
            role,
            gateway: text(),
            site: text(),
            route: text(),
            stream: text(),
            lineage: text(),
            from: 0,
            to: 0,
            first: None,
            last: None,
            count: 0,
            content: Hash([0; 32]),
            without_ids: Vec::new(),
            gaps: 0,
            duplicates: 0,
            time: rfc3339(seconds),
            before: None,
        }
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers can be written")
    }

    /// Reads what was signed.
    ///
    /// # Errors
    /// [`Refusal::Format`] when it is no statement, one of another format, or spelled otherwise than [`Statement::bytes`]
    /// does.
    pub fn read(bytes: &[u8]) -> Result<Statement, Refusal> {
        let statement: Statement = serde_json::from_slice(bytes)
            .map_err(|error| Refusal::Format(format!("a statement cannot be read: {error}")))?;
        if statement.format != FORMAT {
            return Err(Refusal::Format(format!(
                "a statement has format {:?}, {FORMAT:?} is known here",
                statement.format
            )));
        }
        if statement.bytes() != bytes {
            return Err(Refusal::Format(
                "a statement is spelled in another way".to_owned(),
            ));
        }
        Ok(statement)
    }

    /// [`Statement::time`] as seconds after 1970.
    ///
    /// # Errors
    /// [`Refusal::Format`] when it is none.
    pub fn seconds(&self) -> Result<u64, Refusal> {
        let moment = OffsetDateTime::parse(&self.time, &Rfc3339).ok();
        let seconds = moment.map(OffsetDateTime::unix_timestamp);
        seconds
            .filter(|seconds| rfc3339(*seconds) == self.time)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .ok_or_else(|| Refusal::Format(format!("{:?} is no time", self.time)))
    }
}

fn rfc3339(seconds: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(seconds);
    moment
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// SHA-256, in lower-case hexadecimal wherever it is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    pub(super) fn of(context: Context) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Hash(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        bytes_of(&text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Hash)
            .ok_or_else(|| serde::de::Error::custom("a hash is 64 digits, 0 to 9 and a to f"))
    }
}
