//! A Kafka-like source: partitions with leader epochs, holes, retention, truncation and recreation, and the
//! consumer group that reads them.

use culvert_proto::{Guard, Sequence};
use std::collections::{BTreeMap, VecDeque};

/// Identity of one record in all the world; 0 stands for a control record, which no reader sees.
pub type RecordKey = u64;

/// CRC32C of the record, as far as the simulation cares: some number that only this record has.
pub fn crc_of(key: RecordKey) -> u32 {
    (key as u32).wrapping_mul(0x9e37_79b1) | 1
}

/// What the record contains, hashed.
pub fn content_of(key: RecordKey) -> u128 {
    u128::from(key).wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15) ^ 0x1234_5678
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub epoch: i32,
    pub key: RecordKey,
}

/// One partition of one topic as its brokers hold it now.
pub struct Partition {
    /// Index of the stream that this topic's id gives.
    pub stream: usize,
    /// Offset of `log[0]`.
    pub base: u64,
    pub log: Vec<Entry>,
    /// Below this nothing can be read any more.
    pub log_start: u64,
    pub epoch: i32,
    /// Member of the group that owns it, and the generation since when.
    pub owner: usize,
    pub generation: u32,
}

impl Partition {
    pub fn end(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    pub fn entry(&self, offset: u64) -> Option<Entry> {
        self.log.get(offset.checked_sub(self.base)? as usize).copied()
    }

    /// OffsetForLeaderEpoch (KIP-101): where the first later epoch begins.
    pub fn end_of_epoch(&self, epoch: i32) -> u64 {
        let later = self.log.iter().position(|entry| entry.epoch > epoch);
        later.map_or(self.end(), |index| self.base + index as u64)
    }
}

/// What the world keeps about a stream beyond what its brokers still hold: the oracle's memory of history.
pub struct StreamHistory {
    pub id: culvert_proto::StreamId,
    pub partition: usize,
    /// Whether its topic still exists.
    pub alive: bool,
    /// Offset of index 0 of every branch.
    pub base: u64,
    /// Logs as they were before each truncation.
    pub branches: Vec<Vec<Entry>>,
    /// The log when the topic was deleted.
    pub last: Vec<Entry>,
    /// Entries that were read by nobody in particular may be gone: the log was truncated.
    pub truncated: bool,
    /// The log's start moved past what some sink still needed.
    pub passed: bool,
}

/// The group's committed offsets; fenced by generation.
#[derive(Default)]
pub struct Group {
    pub committed: BTreeMap<usize, Sequence>,
    /// By gateway: commits on their way to the group, in order.
    pub on_the_way: BTreeMap<usize, VecDeque<Commit>>,
}

/// A commit as the group gets it.
#[derive(Clone, Copy)]
pub struct Commit {
    pub partition: usize,
    pub stream: usize,
    pub at: Sequence,
    pub generation: u32,
}

/// A record on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rec {
    pub at: Sequence,
    pub epoch: i32,
    pub key: RecordKey,
}

impl Rec {
    pub fn guard(&self) -> Guard {
        Guard {
            epoch: self.epoch,
            crc: crc_of(self.key),
        }
    }
}
