//! A ledger that never ends: what was sent and what arrived, compared as it comes and then forgotten.
//!
//! - Each side comes in the order of its partition, from a reader of its own; neither waits for the other.
//! - What is kept: records on their way (16 bytes each), and the places where something was passed over.
//! - The verdict is the same as that of [`culvert_tests::Ledger`], which keeps everything.

use culvert_tests::Verdict;
use std::collections::{BTreeMap, VecDeque};

/// See the module.
#[derive(Debug)]
pub struct RunningLedger {
    partitions: Vec<Partition>,
    verdict: Verdict,
}

#[derive(Debug, Default)]
struct Partition {
    /// Sent, and not yet looked at: sequence and content hash.
    sent: VecDeque<(u64, u64)>,
    /// Arrived, and waiting for the reader of what was sent.
    arrived: VecDeque<(u64, u64)>,
    /// A later one arrived first: sequence and content hash.
    passed_over: BTreeMap<u64, u64>,
    /// One behind the last that was sent.
    end: u64,
}

impl RunningLedger {
    /// An empty one.
    pub fn new(partitions: usize) -> RunningLedger {
        RunningLedger {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            verdict: Verdict::default(),
        }
    }

    /// Notes a record that the source holds. Sequences of a partition rise.
    pub fn sent(&mut self, partition: i32, sequence: u64, hash: u64) {
        self.verdict.sent += 1;
        if let Some(lane) = lane(&mut self.partitions, partition) {
            lane.sent.push_back((sequence, hash));
            lane.end = sequence + 1;
            lane.compare(partition, &mut self.verdict);
        }
    }

    /// Notes a record that a reader of the sink has seen.
    pub fn arrived(&mut self, partition: i32, sequence: u64, hash: u64) {
        self.verdict.arrived += 1;
        match lane(&mut self.partitions, partition) {
            Some(lane) => {
                lane.arrived.push_back((sequence, hash));
                lane.compare(partition, &mut self.verdict);
            }
            None => self.verdict.invented.add(partition, sequence),
        }
    }

    /// Records sent and not arrived.
    pub fn on_their_way(&self) -> u64 {
        self.verdict.sent.saturating_sub(self.verdict.arrived)
    }

    /// What is wrong whatever still comes; records that were passed over may, late. `lost` is not known before the end.
    pub fn so_far(&self) -> &Verdict {
        &self.verdict
    }

    /// Whether a record was passed over and has not come since: lost, or late.
    pub fn has_gap(&self) -> bool {
        self.partitions.iter().any(|lane| !lane.passed_over.is_empty())
    }

    /// The verdict when nothing more comes.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = self.verdict.clone();
        for (partition, lane) in (0..).zip(&self.partitions) {
            let missing = lane.passed_over.keys();
            for &sequence in missing.chain(lane.sent.iter().map(|(sequence, _)| sequence)) {
                verdict.lost.add(partition, sequence);
            }
            for &(sequence, _) in &lane.arrived {
                verdict.invented.add(partition, sequence);
            }
        }
        verdict
    }
}

fn lane(partitions: &mut [Partition], number: i32) -> Option<&mut Partition> {
    usize::try_from(number)
        .ok()
        .and_then(|place| partitions.get_mut(place))
}

impl Partition {
    /// Takes what both sides have said off the queues.
    fn compare(&mut self, number: i32, verdict: &mut Verdict) {
        while let Some(&(sequence, hash)) = self.arrived.front() {
            if sequence >= self.end {
                return; // its own record has not been read at the source yet, or never was there
            }
            self.arrived.pop_front();
            while let Some(&(due, expected)) = self.sent.front()
                && due < sequence
            {
                self.sent.pop_front();
                self.passed_over.insert(due, expected);
            }
            let expected = match self.sent.front() {
                Some(&(due, expected)) if due == sequence => {
                    self.sent.pop_front();
                    expected
                }
                _ => match self.passed_over.remove(&sequence) {
                    Some(expected) => {
                        verdict.reordered.add(number, sequence);
                        expected
                    }
                    None => {
                        verdict.duplicated.add(number, sequence);
                        continue;
                    }
                },
            };
            if expected != hash {
                verdict.changed.add(number, sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_tests::Ledger;

    /// Two partitions of ten records each; what arrives is edited, then compared by both ledgers, sent and arrived
    /// interleaved in three ways.
    fn check(edit: impl Fn(&mut Vec<(i32, u64, u64)>), expected: &str) {
        let sent: Vec<(i32, u64, u64)> = (0..20).map(|n| (n % 2, n as u64 / 2, n as u64 * 7)).collect();
        let mut arrived = sent.clone();
        edit(&mut arrived);
        let mut whole = Ledger::default();
        sent.iter().for_each(|&(p, s, h)| whole.sent(p, s, h));
        arrived.iter().for_each(|&(p, s, h)| whole.arrived(p, s, h));
        for lead in [0, 3, 20] {
            let mut running = RunningLedger::new(2);
            let length = sent.len().max(arrived.len()) + lead;
            for step in 0..length {
                if let Some(&(p, s, h)) = sent.get(step) {
                    running.sent(p, s, h);
                }
                if let Some(&(p, s, h)) = step.checked_sub(lead).and_then(|step| arrived.get(step)) {
                    running.arrived(p, s, h);
                }
            }
            let verdict = running.verdict();
            assert_eq!(verdict.to_string(), expected, "lead {lead}");
            let clean = whole.verdict().is_exactly_once();
            assert_eq!(verdict.is_exactly_once(), clean, "{}", whole.verdict());
        }
    }

    #[test]
    fn planted_faults_are_found() {
        let counts = |arrived, lost, duplicated, reordered, changed, invented| {
            format!(
                "sent 20, arrived {arrived}, lost {lost}, duplicated {duplicated}, reordered {reordered}, \
                 changed {changed}, invented {invented}"
            )
        };
        check(|_| {}, &counts(20, "0", "0", "0", "0", "0"));
        let lost = |arrived: &mut Vec<_>| {
            arrived.remove(7);
        };
        check(lost, &counts(19, "1 (first [(1, 3)])", "0", "0", "0", "0"));
        let last_lost = |arrived: &mut Vec<_>| {
            arrived.pop();
        };
        check(last_lost, &counts(19, "1 (first [(1, 9)])", "0", "0", "0", "0"));
        let doubled = |arrived: &mut Vec<(i32, u64, u64)>| arrived.insert(9, arrived[7]);
        check(doubled, &counts(21, "0", "1 (first [(1, 3)])", "0", "0", "0"));
        let swapped = |arrived: &mut Vec<_>| arrived.swap(4, 6);
        check(swapped, &counts(20, "0", "0", "1 (first [(0, 2)])", "0", "0"));
        let altered = |arrived: &mut Vec<(i32, u64, u64)>| arrived[5].2 += 1;
        check(altered, &counts(20, "0", "0", "0", "1 (first [(1, 2)])", "0"));
        let to_a_stranger = |arrived: &mut Vec<(i32, u64, u64)>| arrived[5].0 = 2;
        check(
            to_a_stranger,
            &counts(20, "1 (first [(1, 2)])", "0", "0", "0", "1 (first [(2, 2)])"),
        );
        let made_up = |arrived: &mut Vec<(i32, u64, u64)>| arrived.push((0, 99, 1));
        check(made_up, &counts(21, "0", "0", "0", "0", "1 (first [(0, 99)])"));
    }

    #[test]
    fn a_record_in_the_wrong_partition_is_missed_in_its_own_and_too_much_in_the_other() {
        let mut ledger = RunningLedger::new(2);
        for sequence in 0..3 {
            ledger.sent(0, sequence, 10 + sequence);
            ledger.sent(1, sequence, 20 + sequence);
        }
        for (partition, sequence, hash) in [
            (0, 0, 10),
            (1, 0, 20),
            (1, 1, 11),
            (1, 1, 21),
            (0, 2, 12),
            (1, 2, 22),
        ] {
            ledger.arrived(partition, sequence, hash);
        }
        let verdict = ledger.verdict();
        assert_eq!(verdict.lost.first, [(0, 1)]);
        assert_eq!(verdict.duplicated.first, [(1, 1)]);
        assert_eq!(verdict.changed.first, [(1, 1)]);
    }

    #[test]
    fn what_has_arrived_is_forgotten() {
        let mut ledger = RunningLedger::new(1);
        for sequence in 0..10_000 {
            ledger.sent(0, sequence, sequence);
            if sequence >= 10 {
                ledger.arrived(0, sequence - 10, sequence - 10);
            }
        }
        assert_eq!(ledger.on_their_way(), 10);
        assert_eq!(ledger.partitions[0].sent.len(), 10);
        assert!(ledger.partitions[0].arrived.is_empty() && !ledger.has_gap());
    }
}
