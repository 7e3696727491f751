//! Which stream a record belongs to.

use crate::field::Field;
use crate::hex::hex;
use crate::wire::Malformed;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// One totally ordered, append-only sequence of records: one partition of one topic of one origin site.
///
/// The identity names the site, never a gateway (a takeover must not make a new stream), and never a route
/// (several sinks read one stream). A topic that was deleted and made again has another [`Lineage`] and is
/// therefore another stream: its offset 0 is not a duplicate of the old offset 0 (S6).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The origin's site, as its grants and `culvert.from` name it.
    pub site: Arc<str>,
    /// The topic at the origin.
    pub topic: Arc<str>,
    /// The partition of that topic.
    pub partition: u32,
    /// Where the numbers of this stream come from.
    pub lineage: Lineage,
}

/// What gives a stream's sequences their meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lineage {
    /// The source can be read again and numbers its own records.
    Replayable {
        /// The source's own identity: for Kafka the cluster id.
        cluster: Arc<str>,
        /// The identity of the topic in that source: for Kafka the topic's UUID (KIP-516).
        topic: [u8; 16],
    },
    /// A run: the records exist only in the outbox that they were taken into, and are numbered from 0 as they arrive. Its
    /// identity is random, made when its first record was taken in, and kept there with it: it lives as long as that
    /// outbox, whatever is restarted or killed. An outbox that was put back to an earlier state, or copied, uses numbers
    /// again; that is found by the guards, each of which names every record from the first one on.
    Run {
        /// The outbox.
        outbox: [u8; 16],
        /// The run.
        run: [u8; 16],
    },
}

impl StreamId {
    /// Whether the source can be read again.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        matches!(self.lineage, Lineage::Replayable { .. })
    }
}

/// For people: `site/topic/partition`. Two lineages of one topic print alike; use [`StreamId::lineage_hex`]
/// beside it where that matters.
impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.site, self.topic, self.partition)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}@{}", self.lineage_hex())
    }
}

impl StreamId {
    /// The bytes by which the stream is known on disks and in positions topics: equal bytes are equal streams.
    ///
    /// # Errors
    /// When a name is above [`crate::limits::NAME_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = Vec::new();
        self.put(&mut bytes, "stream")?;
        Ok(bytes)
    }

    /// The stream that [`StreamId::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are damaged, or are not all of it.
    pub fn decode(mut bytes: &[u8]) -> Result<StreamId, Malformed> {
        let stream = StreamId::take(&mut bytes, "stream")?;
        if bytes.is_empty() {
            Ok(stream)
        } else {
            Err(Malformed::Invalid {
                what: "stream",
                why: "has bytes behind it",
            })
        }
    }

    /// The lineage's own 16 bytes (topic UUID or run) in hexadecimal.
    #[must_use]
    pub fn lineage_hex(&self) -> String {
        hex(match &self.lineage {
            Lineage::Replayable { topic, .. } => topic,
            Lineage::Run { run, .. } => run,
        })
    }
}

/// One sink connector reading one origin's topics. Positions belong to (route, stream).
///
/// The name is `<sink site>/<connector>`: unique among all routes an origin can be asked for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub Arc<str>);

impl RouteId {
    /// The route of connector `connector` at site `site`.
    #[must_use]
    pub fn new(site: &str, connector: &str) -> RouteId {
        RouteId(alloc::format!("{site}/{connector}").into())
    }

    /// The sink's site.
    #[must_use]
    pub fn site(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(site, _)| site)
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
