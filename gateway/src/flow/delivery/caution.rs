//! How the one record is found at which a sink fails.
//!
//! A commit that ends its writer may have held one record at fault among thousands. The next one holds half as many, and so
//! on, until a record fails alone. What a writer has failed at three times alone, with nothing committed in between, is a
//! fault of the record and not of its surroundings.

use culvert_proto::columns::Rejection;
use culvert_proto::{Sequence, StreamId, limits};
use std::collections::BTreeMap;

/// How often a record must have failed alone. By eye: twice may be chance.
const ALONE_MAX: u32 = 3;

/// A record, by its place.
pub(super) type Place = (StreamId, Sequence);

/// What one shard knows of the records at which its sink fails.
#[derive(Default)]
pub(super) struct Caution {
    /// The most records of one commit; no limit where nothing fails.
    records_max: Option<usize>,
    /// The first record of the open write, and how many it holds.
    first: Option<Place>,
    records: usize,
    /// Commits of one record that failed, one after the other.
    alone: u32,
    /// Records at fault that are yet to be written as dead letters.
    poison: BTreeMap<Place, Rejection>,
}

impl Caution {
    /// The most records that may be written before a commit.
    pub(super) fn records_max(&self) -> Option<usize> {
        self.records_max
    }

    /// Records were written into the open write, the first of them `first`.
    pub(super) fn wrote(&mut self, first: Option<Place>, records: usize) {
        self.records += records;
        self.first = self.first.take().or(first);
    }

    /// What is open was given up.
    pub(super) fn lost(&mut self) {
        (self.first, self.records) = (None, 0);
    }

    /// The open write is done.
    pub(super) fn committed(&mut self) {
        if let Some(first) = self.first.take() {
            self.poison.remove(&first);
        }
        self.records = 0;
        self.alone = 0;
        // Those that are found are written alone, so that they are known by being first.
        if self.poison.is_empty() {
            let more = self.records_max.map(|records| records * 2);
            self.records_max = more.filter(|records| *records <= limits::FRAME_RECORDS_MAX);
        }
    }

    /// The commit ended its writer. Answers the record that is at fault, once it is certain.
    pub(super) fn failed(&mut self) -> Option<Place> {
        let (first, records) = (self.first.take(), std::mem::take(&mut self.records));
        if records > 1 {
            self.records_max = Some(records.div_ceil(2));
            self.alone = 0;
            return None;
        }
        self.records_max = Some(1);
        self.alone += 1;
        let is_certain = self.alone >= ALONE_MAX;
        first.filter(|_| is_certain)
    }

    /// The record is to be written as a dead letter. Answers whether it was to be already: then there is no way on.
    pub(super) fn is_poison(&mut self, place: Place, rejection: Rejection) -> bool {
        self.alone = 0;
        self.poison.insert(place, rejection).is_some()
    }

    /// Whether there are records at fault that are yet to be written.
    pub(super) fn has_found(&self) -> bool {
        !self.poison.is_empty()
    }

    /// Why the record is a dead letter, if it is one.
    pub(super) fn poison(&self, stream: &StreamId, sequence: Sequence) -> Option<Rejection> {
        self.poison.get(&(stream.clone(), sequence)).cloned()
    }

    /// Nothing of this stream is written any more.
    pub(super) fn forget(&mut self, stream: &StreamId) {
        self.poison.retain(|(other, _), _| other != stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::Lineage;

    fn stream() -> StreamId {
        StreamId {
            site: "a".into(),
            topic: "t".into(),
            partition: 0,
            lineage: Lineage::Run {
                outbox: [0; 16],
                run: [0; 16],
            },
        }
    }

    /// Writes places 0 to 999 to a sink that fails at `bad`; answers the place found and the commits it took.
    fn found(bad: u64) -> (u64, u32) {
        let (mut caution, mut at, mut commits) = (Caution::default(), 0, 0);
        loop {
            let to = (at + caution.records_max().unwrap_or(1_000) as u64).min(1_000);
            caution.wrote(Some((stream(), Sequence(at))), usize::try_from(to - at).unwrap());
            commits += 1;
            if (at..to).contains(&bad) {
                if let Some((_, sequence)) = caution.failed() {
                    return (sequence.0, commits);
                }
            } else {
                caution.committed();
                at = to;
            }
        }
    }

    #[test]
    fn the_one_record_is_found_wherever_it_is() {
        for bad in [0, 1, 499, 500, 998, 999] {
            let (sequence, commits) = found(bad);
            assert_eq!(sequence, bad);
            assert!(commits < 60, "{commits} commits for {bad}");
        }
    }

    #[test]
    fn a_record_that_is_written_once_it_was_alone_is_not_at_fault() {
        let mut caution = Caution::default();
        let write = |caution: &mut Caution| caution.wrote(Some((stream(), Sequence(7))), 1);
        for _ in 0..2 {
            write(&mut caution);
            assert_eq!(caution.failed(), None);
        }
        write(&mut caution);
        caution.committed();
        write(&mut caution);
        assert_eq!(caution.failed(), None, "counted from the last commit on");
    }

    #[test]
    fn a_dead_letter_at_which_the_sink_fails_too_leaves_no_way_on() {
        let mut caution = Caution::default();
        let place = (stream(), Sequence(7));
        assert!(!caution.is_poison(place.clone(), Rejection::default()));
        assert!(caution.poison(&stream(), Sequence(7)).is_some());
        assert!(caution.is_poison(place, Rejection::default()));
        caution.forget(&stream());
        assert!(caution.poison(&stream(), Sequence(7)).is_none());
    }
}
