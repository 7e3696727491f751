//! What the outbox remembers of a task whose source brings pages.
//!
//! ```text
//! task/<connector>/<task>/run                          16 bytes of the outbox, 16 of the run
//! task/<connector>/<task>/topic/<topic>                the topic has a stream
//! task/<connector>/<task>/point/<SHA-256 of partition> u16 length | partition | offset
//! task/<connector>/<task>/state/<SHA-256 of key>       u16 length | key | value
//! chain/<stream>                                       u64 place | u32 guard of the record before it
//! ```
//!
//! All of it is written in the commits of the frames it belongs to.

use crate::flow::paged::{Changes, ResumePoint};
use crate::outbox::{self, Group, Outbox};
use culvert_proto::checksum::crc32c;
use culvert_proto::{Lineage, Sequence, StreamId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most partitions of one task that are remembered: 4 MiB of resume points, which the outbox keeps in memory.
const PARTITIONS_MAX: usize = 1_000;

/// The most topics of one task.
const TOPICS_MAX: usize = 1_000;

/// What is remembered of one task.
pub(super) struct Memory {
    prefix: String,
    run: Run,
    points: BTreeMap<String, String>,
    topics: Vec<Arc<str>>,
}

/// What gives the streams of a task their identity.
struct Run {
    outbox: [u8; 16],
    run: [u8; 16],
    /// It is on disk, or asked for.
    is_kept: bool,
}

/// Why a page cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// Above a limit of ours.
    #[error("{what}: {count}; at most {max}")]
    TooMany {
        what: &'static str,
        count: usize,
        max: usize,
    },
    /// The outbox cannot take it.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
}

impl Memory {
    /// What the outbox remembers of task `task` of `connector`, and what is in the store of its source. A task that was
    /// never begun on this disk gets a run of its own, which is kept with its first page.
    pub(super) fn load(outbox: &Outbox, connector: &str, task: u32) -> Result<(Memory, Changes), Damaged> {
        let prefix = format!("{TASK}{connector}/{task}/");
        let damaged = |what: &str| Damaged(format!("{prefix}{what}"));
        let run = match outbox.get(format!("{prefix}run").as_bytes()) {
            Some(kept) => {
                let (halves, rest) = kept.as_chunks::<16>();
                let ([outbox, run], []) = (halves, rest) else {
                    return Err(damaged("run"));
                };
                Run {
                    outbox: *outbox,
                    run: *run,
                    is_kept: true,
                }
            }
            None => Run {
                outbox: rand::random(),
                run: rand::random(),
                is_kept: false,
            },
        };
        let scan = |what: &str| outbox.scan(format!("{prefix}{what}/").as_bytes());
        let mut points = BTreeMap::new();
        for (_, value) in scan("point") {
            let (partition, offset) = split(&value).ok_or_else(|| damaged("point"))?;
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| damaged("point"));
            points.insert(text(partition)?, text(offset)?);
        }
        let mut state = Changes::new();
        for (_, value) in scan("state") {
            let (key, value) = split(&value).ok_or_else(|| damaged("state"))?;
            state.push((key.to_vec(), Some(value.to_vec())));
        }
        let mut topics = Vec::new();
        for (key, _) in scan("topic") {
            let topic = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            topics.push(std::str::from_utf8(topic).map_err(|_| damaged("topic"))?.into());
        }
        let memory = Memory {
            prefix,
            run,
            points,
            topics,
        };
        Ok((memory, state))
    }

    /// The stream of a topic.
    pub(super) fn stream(&self, site: &Arc<str>, topic: &str, task: u32) -> StreamId {
        StreamId {
            site: site.clone(),
            topic: topic.into(),
            partition: task,
            lineage: Lineage::Run {
                outbox: self.run.outbox,
                run: self.run.run,
            },
        }
    }

    /// Topics that have a stream.
    pub(super) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    /// Where the source goes on.
    pub(super) fn points(&self) -> Vec<ResumePoint> {
        let point = |(partition, offset): (&String, &String)| ResumePoint {
            partition: partition.clone(),
            offset: offset.clone(),
        };
        self.points.iter().map(point).collect()
    }

    /// Adds to a group what is to be remembered with it.
    pub(super) fn put(
        &self,
        group: &mut Group,
        topics: &[Arc<str>],
        points: &[ResumePoint],
        changes: &Changes,
    ) -> Result<(), Unfit> {
        self.check_counts(topics, points)?;
        if !self.run.is_kept {
            let run = [self.run.outbox, self.run.run].concat();
            group.put(format!("{}run", self.prefix).as_bytes(), &run)?;
        }
        for topic in topics.iter().filter(|topic| !self.topics.contains(topic)) {
            group.put(format!("{}topic/{topic}", self.prefix).as_bytes(), b"")?;
        }
        let last: BTreeMap<&str, &str> = points
            .iter()
            .map(|point| (point.partition.as_str(), point.offset.as_str()))
            .collect();
        for (partition, offset) in last {
            let key = self.hashed("point", partition.as_bytes());
            group.put(&key, &joined(partition.as_bytes(), offset.as_bytes()))?;
        }
        for (key, value) in changes {
            let hashed = self.hashed("state", key);
            match value {
                Some(value) => group.put(&hashed, &joined(key, value))?,
                None => group.delete(&hashed)?,
            }
        }
        Ok(())
    }

    fn check_counts(&self, topics: &[Arc<str>], points: &[ResumePoint]) -> Result<(), Unfit> {
        let fresh = |count: usize, known: usize, max: usize, what: &'static str| {
            let count = count + known;
            if count > max {
                return Err(Unfit::TooMany { what, count, max });
            }
            Ok(())
        };
        let new_topics = topics.iter().filter(|topic| !self.topics.contains(topic));
        fresh(
            new_topics.count(),
            self.topics.len(),
            TOPICS_MAX,
            "topics of one task",
        )?;
        let mut partitions: Vec<&str> = points.iter().map(|point| point.partition.as_str()).collect();
        partitions.sort_unstable();
        partitions.dedup();
        let new_points = partitions
            .iter()
            .filter(|partition| !self.points.contains_key(**partition));
        fresh(
            new_points.count(),
            self.points.len(),
            PARTITIONS_MAX,
            "partitions of one task",
        )
    }

    /// The group with these was taken.
    pub(super) fn taken(&mut self, topics: &[Arc<str>], points: &[ResumePoint]) {
        self.run.is_kept = true;
        for topic in topics {
            if !self.topics.contains(topic) {
                self.topics.push(topic.clone());
            }
        }
        for point in points {
            self.points.insert(point.partition.clone(), point.offset.clone());
        }
    }

    fn hashed(&self, what: &str, name: &[u8]) -> Vec<u8> {
        let digest = ring::digest::digest(&ring::digest::SHA256, name);
        [self.prefix.as_bytes(), what.as_bytes(), b"/", digest.as_ref()].concat()
    }
}

/// What is stored under this key is not what this program stores.
#[derive(Debug, thiserror::Error)]
#[error("the outbox holds under {0} what this version does not write")]
pub(super) struct Damaged(String);

fn joined(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("names are at most 4 KiB, which was checked");
    [&length.to_be_bytes(), name, value].concat()
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

// ----- the chain -------------------------------------------------------------------------------------------------

/// The end of a run's stream: the next place, and what names all of the records before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: Sequence,
    pub(super) chain: u32,
}

impl End {
    /// Where a run begins.
    pub(super) const START: End = End {
        at: Sequence::ZERO,
        chain: 0,
    };

    /// The end of a stream as the outbox remembers it.
    pub(super) fn load(outbox: &Outbox, spelled: &[u8]) -> End {
        let kept = outbox.get(&chain_key(spelled));
        let read = |kept: bytes::Bytes| {
            let (at, chain) = kept.split_first_chunk::<8>()?;
            Some(End {
                at: Sequence(u64::from_be_bytes(*at)),
                chain: u32::from_be_bytes(chain.try_into().ok()?),
            })
        };
        kept.and_then(read).unwrap_or(End::START)
    }

    pub(super) fn put(self, group: &mut Group, spelled: &[u8]) -> Result<(), outbox::Error> {
        let kept = [&self.at.0.to_be_bytes()[..], &self.chain.to_be_bytes()].concat();
        group.put(&chain_key(spelled), &kept)
    }

    /// Behind one more record. The chain names every record from the first to this one: two lives of a run that went
    /// apart never have the same again. 0 would mean that nothing is known.
    pub(super) fn then(self, crc: u32) -> End {
        let link = [self.chain.to_be_bytes(), crc.to_be_bytes()].concat();
        End {
            at: self.at.next(),
            chain: crc32c(&link).max(1),
        }
    }
}

const TASK: &str = "task/";
const CHAIN: &[u8] = b"chain/";

/// Whether these keys hold what a task whose source brings pages remembers.
pub(in crate::flow) fn remembers_runs<'k>(mut keys: impl Iterator<Item = &'k bytes::Bytes>) -> bool {
    keys.any(|key| key.starts_with(TASK.as_bytes()) || key.starts_with(CHAIN))
}

fn chain_key(spelled: &[u8]) -> Vec<u8> {
    [CHAIN, spelled].concat()
}
