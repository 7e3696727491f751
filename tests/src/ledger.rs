//! The judge: what was produced, what arrived, and what that says.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};

/// Two lists for each partition, kept in the order of events: what the source acknowledged and what the sink shows.
///
/// A record is known by its partition and a sequence that the test gives (the source's offset, or a counter in the
/// value), and compared by a hash of its content. Each costs 16 bytes a side.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    sent: Vec<(u64, u64)>,
    arrived: Vec<(u64, u64)>,
}

impl Ledger {
    /// Notes a record that the source has acknowledged.
    pub fn sent(&mut self, partition: i32, sequence: u64, hash: u64) {
        self.partitions
            .entry(partition)
            .or_default()
            .sent
            .push((sequence, hash));
    }

    /// Notes a record that a reader of the sink has seen.
    pub fn arrived(&mut self, partition: i32, sequence: u64, hash: u64) {
        self.partitions
            .entry(partition)
            .or_default()
            .arrived
            .push((sequence, hash));
    }

    /// Compares the two sides.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for (&number, partition) in &self.partitions {
            partition.judge(number, &mut verdict);
        }
        verdict
    }
}

/// A hash of a record's content. Fields are told apart: an absent key is not an empty one.
pub fn content_hash(fields: &[Option<&[u8]>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for field in fields {
        hasher.write_i64(field.map_or(-1, |bytes| bytes.len() as i64));
        hasher.write(field.unwrap_or_default());
    }
    hasher.finish()
}

/// What a ledger says. Each finding keeps its first few places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that the source acknowledged.
    pub sent: u64,
    /// Records seen at the sink, copies included.
    pub arrived: u64,
    /// Sent and never seen.
    pub lost: Findings,
    /// Seen again, once for each extra copy.
    pub duplicated: Findings,
    /// Seen first after a later record of the same partition.
    pub reordered: Findings,
    /// Seen with other content than was sent.
    pub changed: Findings,
    /// Seen and never sent.
    pub invented: Findings,
}

impl Verdict {
    /// Whether every record arrived exactly once, unchanged and in order.
    pub fn is_exactly_once(&self) -> bool {
        let findings = [
            &self.lost,
            &self.duplicated,
            &self.reordered,
            &self.changed,
            &self.invented,
        ];
        findings.iter().all(|finding| finding.count == 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent {}, arrived {}", self.sent, self.arrived)?;
        let findings = [
            ("lost", &self.lost),
            ("duplicated", &self.duplicated),
            ("reordered", &self.reordered),
            ("changed", &self.changed),
            ("invented", &self.invented),
        ];
        for (name, finding) in findings {
            write!(f, ", {name} {}", finding.count)?;
            if !finding.first.is_empty() {
                write!(f, " (first {:?})", finding.first)?;
            }
        }
        Ok(())
    }
}

/// How often something was found, and where first: (partition, sequence).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How often.
    pub count: u64,
    /// The first [`PLACES_MAX`] places.
    pub first: Vec<(i32, u64)>,
}

/// How many places a finding names: enough to start looking.
pub const PLACES_MAX: usize = 5;

impl Findings {
    /// Notes one more.
    pub fn add(&mut self, partition: i32, sequence: u64) {
        self.count += 1;
        if self.first.len() < PLACES_MAX {
            self.first.push((partition, sequence));
        }
    }
}

impl Partition {
    fn judge(&self, number: i32, verdict: &mut Verdict) {
        verdict.sent += self.sent.len() as u64;
        verdict.arrived += self.arrived.len() as u64;
        let mut sent: BTreeMap<u64, (u64, bool)> = self
            .sent
            .iter()
            .map(|&(sequence, hash)| (sequence, (hash, false)))
            .collect();
        let mut latest = 0;
        for &(sequence, hash) in &self.arrived {
            match sent.get_mut(&sequence) {
                None => verdict.invented.add(number, sequence),
                Some((_, true)) => verdict.duplicated.add(number, sequence),
                Some((expected, seen)) => {
                    *seen = true;
                    if *expected != hash {
                        verdict.changed.add(number, sequence);
                    }
                    if sequence < latest {
                        verdict.reordered.add(number, sequence);
                    }
                    latest = latest.max(sequence);
                }
            }
        }
        for (&sequence, _) in sent.iter().filter(|(_, (_, seen))| !seen) {
            verdict.lost.add(number, sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends 0..10 in partition 3 and lets `arrived` arrive.
    fn check(arrived: &[u64], expected: &str) {
        let mut ledger = Ledger::default();
        for sequence in 0..10 {
            ledger.sent(3, sequence, sequence);
        }
        for &sequence in arrived {
            ledger.arrived(3, sequence, sequence);
        }
        let verdict = ledger.verdict();
        assert_eq!(verdict.to_string(), expected);
        let clean = "sent 10, arrived 10, lost 0, duplicated 0, reordered 0, changed 0, invented 0";
        assert_eq!(verdict.is_exactly_once(), expected == clean);
    }

    #[test]
    fn planted_faults_are_found() {
        check(
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
            "sent 10, arrived 10, lost 0, duplicated 0, reordered 0, changed 0, invented 0",
        );
        check(
            &[0, 1, 2, 4, 5, 6, 7, 8],
            "sent 10, arrived 8, lost 2 (first [(3, 3), (3, 9)]), duplicated 0, reordered 0, changed 0, invented 0",
        );
        check(
            &[0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9],
            "sent 10, arrived 12, lost 0, duplicated 2 (first [(3, 2), (3, 3)]), reordered 0, changed 0, invented 0",
        );
        check(
            &[0, 1, 3, 2, 4, 5, 6, 7, 8, 9],
            "sent 10, arrived 10, lost 0, duplicated 0, reordered 1 (first [(3, 2)]), changed 0, invented 0",
        );
        check(
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77],
            "sent 10, arrived 11, lost 0, duplicated 0, reordered 0, changed 0, invented 1 (first [(3, 77)])",
        );
    }

    #[test]
    fn changed_content_is_found() {
        let mut ledger = Ledger::default();
        ledger.sent(0, 0, content_hash(&[Some(b"key"), None]));
        ledger.arrived(0, 0, content_hash(&[Some(b"key"), Some(b"")]));
        let verdict = ledger.verdict();
        assert_eq!(verdict.changed.first, vec![(0, 0)]);
        assert_eq!(verdict.lost.count, 0);
    }

    #[test]
    fn a_partition_that_only_one_side_knows_is_judged() {
        let mut ledger = Ledger::default();
        ledger.sent(0, 5, 1);
        ledger.arrived(1, 5, 1);
        let verdict = ledger.verdict();
        assert_eq!((verdict.lost.count, verdict.invented.count), (1, 1));
    }
}
