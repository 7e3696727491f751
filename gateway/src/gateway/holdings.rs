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

/// How the beginning of what is compared looks.
#[derive(Clone, Copy, Default)]
pub(super) struct Beginning {
    /// The content of the first record.
    pub(super) first: Option<u128>,
    /// That of the record before it, where it is of the stream too and known.
    pub(super) before: Option<u128>,
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

    /// How many records stand before those that are compared, and how many there are. A target partition may hold older
    /// ones: of other origins, of an earlier incarnation, of the stream itself where a part of it is compared. The last
    /// place that looks like the beginning and has enough behind it is the beginning; one behind the right record wins over
    /// others, so that a doubled beginning is not passed over. Where none looks so, as many as are more than `count` stand in
    /// front.
    pub(super) fn front(&mut self, beginning: Beginning, count: u64) -> Result<(u64, u64), SourceFault> {
        let (mut all, mut previous, mut alike) = (0u64, None, VecDeque::new());
        self.each(|content| {
            if Some(content) == beginning.first {
                if alike.len() == ALIKE_MAX {
                    alike.pop_front();
                }
                let is_behind = beginning.before.is_some() && previous == beginning.before;
                alike.push_back((all, is_behind));
            }
            previous = Some(content);
            all += 1;
            ControlFlow::Continue(())
        })?;
        let is_enough = |front: &u64| all - front >= count;
        let places = || alike.iter().rev();
        let right = places().find(|(front, is_behind)| *is_behind && is_enough(front));
        let enough = || places().find(|(front, _)| is_enough(front));
        let front = right.or_else(enough).or(alike.front()).map(|(front, _)| *front);
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

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::record::Headers;

    /// A partition whose records have these bytes for values.
    struct Partition(&'static [u8]);

    impl Reader for Partition {
        fn read(
            &mut self,
            _: &str,
            _: u32,
            _: Sequence,
            _: Option<Sequence>,
            each: &mut dyn FnMut(Sequence, &RecordRef<'_>) -> ControlFlow<()>,
        ) -> Result<(), SourceFault> {
            for (at, value) in self.0.chunks(1).enumerate() {
                let _ = each(Sequence(at as u64), &record(value));
            }
            Ok(())
        }
    }

    fn record(value: &[u8]) -> RecordRef<'_> {
        RecordRef {
            timestamp: -1,
            key: None,
            value: Some(value),
            headers: Headers::NONE,
        }
    }

    /// Where the part that begins with `first`, behind `before`, and has `count` records is found.
    #[track_caller]
    fn check(target: &'static [u8], before: Option<u8>, first: u8, count: u64, expected: u64) {
        let content = |value: u8| digest::content(&record(&[value]));
        let beginning = Beginning {
            first: Some(content(first)),
            before: before.map(content),
        };
        let mut holdings = Holdings {
            reader: Box::new(Partition(target)),
            topic: "orders".into(),
            partition: 0,
            from: Sequence::ZERO,
            to: None,
            without_ids: Vec::new(),
        };
        let found = holdings.front(beginning, count).expect("it is read");
        assert_eq!(
            found,
            (expected, target.len() as u64),
            "{}",
            target.escape_ascii()
        );
    }

    #[test]
    fn a_beginning_is_the_last_one_that_has_enough_behind_it() {
        check(b"abcd", None, b'a', 4, 0);
        check(b"xyabcd", None, b'a', 4, 2);
        check(b"abcdabcd", None, b'a', 4, 4);
        check(b"abcda", None, b'a', 4, 0);
        check(b"bcd", None, b'a', 4, 0);
        check(b"xbcd", None, b'a', 3, 1);
    }

    #[test]
    fn a_part_begins_behind_its_own_record() {
        check(b"abcd", Some(b'b'), b'c', 2, 2);
        // Doubled where the part begins: the first one is taken, and one is too much.
        check(b"abccd", Some(b'b'), b'c', 2, 2);
        check(b"abccd", None, b'c', 2, 3);
        // What stood before is lost, which is no matter of the part.
        check(b"acd", Some(b'b'), b'c', 2, 1);
        check(b"cd", Some(b'b'), b'c', 2, 0);
    }
}
