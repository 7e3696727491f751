//! Faults that are planted in what the lab sees, to show that it would see them: a judge who never says no is none.

use crate::kafka::Seen;
use clap::ValueEnum;

/// What happens to one record on its way into the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Planted {
    /// It is not seen.
    Lost,
    /// It is seen twice.
    Doubled,
    /// It is seen after the next one of its partition.
    Swapped,
    /// Its content is another.
    Altered,
    /// It is seen in another partition.
    Moved,
}

/// Passes records on as they are, but for one where something is planted.
#[derive(Clone, Debug, Default)]
pub struct Tamper {
    planted: Option<Planted>,
    passed: u64,
    held: Option<Seen>,
}

/// Records that pass before the one that does not.
const BEFORE: u64 = 1_000;

impl Tamper {
    /// With this planted, or nothing.
    pub fn new(planted: Option<Planted>) -> Tamper {
        Tamper {
            planted,
            ..Tamper::default()
        }
    }

    /// Takes a record and gives on what the ledger is to see.
    pub(crate) fn pass(&mut self, seen: Seen, mut on: impl FnMut(Seen)) {
        self.passed += 1;
        if let Some(held) = self.held
            && held.partition == seen.partition
        {
            on(seen);
            self.held = None;
            return on(held);
        }
        match self.planted {
            Some(planted) if self.passed == BEFORE => match planted {
                Planted::Lost => {}
                Planted::Doubled => {
                    on(seen);
                    on(seen);
                }
                Planted::Swapped => self.held = Some(seen),
                Planted::Altered => on(Seen {
                    hash: seen.hash ^ 1,
                    ..seen
                }),
                Planted::Moved => on(Seen {
                    partition: seen.partition ^ 1,
                    ..seen
                }),
            },
            _ => on(seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::RunningLedger;

    fn verdict(planted: Option<Planted>) -> culvert_tests::Verdict {
        let (mut ledger, mut tamper) = (RunningLedger::new(2), Tamper::new(planted));
        for number in 0..3_000_u64 {
            let seen = Seen {
                partition: (number % 2) as i32,
                sequence: number / 2,
                hash: number,
                sent_ms: 0,
            };
            ledger.sent(seen.partition, seen.sequence, seen.hash);
            tamper.pass(seen, |seen| {
                ledger.arrived(seen.partition, seen.sequence, seen.hash);
            });
        }
        ledger.verdict()
    }

    #[test]
    fn each_planted_fault_is_called_by_its_name() {
        assert!(verdict(None).is_exactly_once());
        // Record 999 is number 499 of partition 1.
        let place = [(1, 499)];
        assert_eq!(verdict(Some(Planted::Lost)).lost.first, place);
        assert_eq!(verdict(Some(Planted::Doubled)).duplicated.first, place);
        assert_eq!(verdict(Some(Planted::Swapped)).reordered.first, place);
        assert_eq!(verdict(Some(Planted::Altered)).changed.first, place);
        let moved = verdict(Some(Planted::Moved));
        assert_eq!(moved.lost.first, place);
        assert_eq!(moved.duplicated.first, [(0, 499)]);
    }
}
