//! What targets hold, read back for a proof.

use super::renumbered_parts;
use crate::config::Connector;
use crate::config::connector::Checked;
use crate::connector::kafka;
use crate::connector::sqlite::SqliteReader;
use crate::flow::seen::Seen;
use crate::flow::{Reader, SourceFault};
use crate::observe::report::Fault;
use culvert_proto::digest::{self, Digest};
use culvert_proto::record::RecordRef;
use culvert_proto::schema::Part;
use culvert_proto::{Position, Sequence, StreamId};
use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

/// Places of a target that look like a stream's beginning, of which the last are remembered.
const ALIKE_MAX: usize = 1_000;

/// Reads a target on a thread that may wait.
pub(super) async fn reading_the_sink<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, SourceFault> + Send + 'static,
) -> Result<T, Fault> {
    let outcome = tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|error| Err(SourceFault::Retry(error.to_string())));
    outcome.map_err(|fault| Fault {
        code: "CULVERT-F036".into(),
        message: format!("read the sink: {fault}"),
    })
}

/// How a target is looked at.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) block_records: u32,
    pub(super) span: Span,
    /// So many of the first records are to be signed for.
    pub(super) witnessed: Option<u64>,
}

impl Look {
    pub(super) fn at(block_records: u32, span: Span) -> Look {
        Look {
            block_records,
            span,
            witnessed: None,
        }
    }
}

/// Which of a target's records are compared: `count` behind the first `front`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) front: u64,
    pub(super) count: u64,
}

impl Span {
    pub(super) const ALL: Span = Span {
        front: 0,
        count: u64::MAX,
    };

    /// The span behind its first `records`.
    pub(super) fn without(self, records: u64) -> Span {
        Span {
            front: self.front + records,
            count: self.count.saturating_sub(records),
        }
    }
}

/// What one target holds of one stream.
pub(super) struct Holdings {
    reader: Box<dyn Reader>,
    topic: String,
    partition: u32,
    from: Sequence,
    to: Option<Sequence>,
    without_ids: Vec<Part>,
}

impl Holdings {
    pub(super) fn open(
        connector: &Connector,
        stream: &StreamId,
        position: &Position,
    ) -> Result<Holdings, SourceFault> {
        let partition = stream.partition;
        let without_ids = renumbered_parts(connector);
        match &connector.checked {
            Checked::SqliteSink(config) => Ok(Holdings {
                reader: Box::new(SqliteReader::open(&config.path)?),
                topic: stream.topic.to_string(),
                partition,
                from: position.start,
                to: Some(position.at),
                without_ids,
            }),
            Checked::KafkaSink(config) => Ok(Holdings {
                reader: Box::new(kafka::KafkaReader::of_sink(config)?),
                topic: config.target(&stream.topic),
                partition,
                from: Sequence::ZERO,
                to: None,
                without_ids,
            }),
            other => {
                let reason = format!("{} is no sink", other.class_name());
                Err(SourceFault::Stop {
                    code: "CULVERT-G002",
                    reason,
                })
            }
        }
    }

    /// How many records stand before the stream's own, and how many there are. A target partition may hold older ones:
    /// of other origins, of an earlier incarnation. The last place that looks like the beginning and has enough behind
    /// it is the beginning; where none looks so, as many as are more than the position counts stand in front.
    pub(super) fn front(&mut self, first: Option<u128>, count: u64) -> Result<(u64, u64), SourceFault> {
        let (mut all, mut alike) = (0u64, VecDeque::new());
        self.each(|content| {
            if Some(content) == first {
                if alike.len() == ALIKE_MAX {
                    alike.pop_front();
                }
                alike.push_back(all);
            }
            all += 1;
            ControlFlow::Continue(())
        })?;
        let enough = alike.iter().rev().find(|front| all - **front >= count);
        let front = enough.or(alike.front()).copied();
        Ok((front.unwrap_or(all.saturating_sub(count)), all))
    }

    pub(super) fn digests(&mut self, look: Look) -> Result<(Vec<Digest>, Option<Seen>), SourceFault> {
        let end = look.span.front.saturating_add(look.span.count);
        let (mut seen, mut blocks, mut open) = (0u64, Vec::new(), Digest::EMPTY);
        let mut witnessed = look.witnessed.map(|_| Seen::new(&self.without_ids));
        self.each_record(|sequence, record, content| {
            if seen >= end {
                return ControlFlow::Break(());
            }
            if seen >= look.span.front {
                if let (Some(witnessed), Some(most)) = (&mut witnessed, look.witnessed)
                    && witnessed.count < most
                {
                    witnessed.add(sequence, record);
                }
                open.add(content);
                if open.count >= u64::from(look.block_records.max(1)) {
                    blocks.push(std::mem::replace(&mut open, Digest::EMPTY));
                }
            }
            seen += 1;
            ControlFlow::Continue(())
        })?;
        if open.count > 0 {
            blocks.push(open);
        }
        Ok((blocks, witnessed))
    }

    fn each(&mut self, mut each: impl FnMut(u128) -> ControlFlow<()>) -> Result<(), SourceFault> {
        self.each_record(|_, _, content| each(content))
    }

    fn each_record(
        &mut self,
        mut each: impl FnMut(Sequence, &RecordRef<'_>, u128) -> ControlFlow<()>,
    ) -> Result<(), SourceFault> {
        self.reader.read(
            &self.topic,
            self.partition,
            self.from,
            self.to,
            &mut |sequence, record| {
                let content = digest::content_without_ids(record, &self.without_ids);
                each(sequence, record, content)
            },
        )
    }
}

/// The digest of everything that these topics hold, in all of their partitions.
pub(super) fn digest_of_topics(
    config: &kafka::config::SinkConfig,
    topics: &BTreeSet<String>,
    without_ids: &[Part],
) -> Result<Digest, SourceFault> {
    let mut reader = kafka::KafkaReader::of_sink(config)?;
    let mut digest = Digest::EMPTY;
    for topic in topics {
        for partition in 0..reader.partitions(topic)? {
            reader.read(topic, partition, Sequence::ZERO, None, &mut |_, record| {
                digest.add(digest::content_without_ids(record, without_ids));
                ControlFlow::Continue(())
            })?;
        }
    }
    Ok(digest)
}
