//! Which sequences of a stream were seen, in memory that does not depend on their order.

use culvert_proto::{Interval, Sequence};
use std::collections::{BTreeMap, BTreeSet};

/// A set of sequences as a bitmap in chunks of 65,536, as in Roaring bitmaps (Lemire et al., 2016). A full chunk is a
/// word, one in the making 8 KiB: ten million sequences in whatever order take at most 1.3 MB. A list of intervals
/// would be smaller when they come in order, and without a bound when a stream is spread over partitions.
#[derive(Clone, Default)]
pub(super) struct Seen {
    chunks: BTreeMap<u64, Chunk>,
    partial: usize,
}

#[derive(Clone)]
enum Chunk {
    Full,
    Partial { count: u32, words: Box<[u64; WORDS]> },
}

const WORDS: usize = 1_024;
const CHUNK: u64 = 65_536;

/// 64 MiB for each stream at most. Only sequences strewn over more than half a billion places get there.
const PARTIAL_MAX: usize = 8_192;

/// What became of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insert {
    New,
    Known,
    /// There is no room to remember it.
    TooScattered,
}

impl Seen {
    pub(super) fn insert(&mut self, sequence: u64) -> Insert {
        let (number, word, bit) = place(sequence);
        if self.partial >= PARTIAL_MAX && !self.chunks.contains_key(&number) {
            return Insert::TooScattered;
        }
        let chunk = self.chunks.entry(number).or_insert_with(|| {
            self.partial += 1;
            Chunk::Partial {
                count: 0,
                words: Box::new([0; WORDS]),
            }
        });
        let Chunk::Partial { count, words } = chunk else {
            return Insert::Known;
        };
        if words[word] & bit != 0 {
            return Insert::Known;
        }
        words[word] |= bit;
        *count += 1;
        if u64::from(*count) == CHUNK {
            *chunk = Chunk::Full;
            self.partial -= 1;
        }
        Insert::New
    }

    /// The place behind the highest one.
    pub(super) fn end(&self) -> u64 {
        let Some((number, chunk)) = self.chunks.last_key_value() else {
            return 0;
        };
        let inside = match chunk {
            Chunk::Full => CHUNK,
            Chunk::Partial { words, .. } => {
                let last = words.iter().rposition(|word| *word != 0).unwrap_or(0);
                (last as u64 + 1) * 64 - u64::from(words[last].leading_zeros())
            }
        };
        number * CHUNK + inside
    }

    /// What is neither here nor in `other`, below the highest place here: how many, and the first `samples_max`
    /// intervals.
    pub(super) fn missing(&self, other: &Seen, samples_max: usize) -> (u64, Vec<Interval>) {
        let end = self.end();
        let mut gaps = Gaps {
            end,
            samples_max,
            total: 0,
            samples: Vec::new(),
            open: None,
        };
        let mut next = 0;
        let numbers: BTreeSet<u64> = self.chunks.keys().chain(other.chunks.keys()).copied().collect();
        for number in numbers.into_iter().take_while(|number| number * CHUNK < end) {
            gaps.absent(next * CHUNK, number * CHUNK);
            for word in 0..WORDS {
                let found = self.word(number, word) | other.word(number, word);
                gaps.word(number * CHUNK + word as u64 * 64, found);
            }
            next = number + 1;
        }
        gaps.close();
        (gaps.total, gaps.samples)
    }

    fn word(&self, number: u64, word: usize) -> u64 {
        match self.chunks.get(&number) {
            None => 0,
            Some(Chunk::Full) => u64::MAX,
            Some(Chunk::Partial { words, .. }) => words[word],
        }
    }
}

fn place(sequence: u64) -> (u64, usize, u64) {
    let inside = sequence % CHUNK;
    (
        sequence / CHUNK,
        usize::try_from(inside / 64).unwrap_or(0),
        1 << (inside % 64),
    )
}

/// Puts neighbouring places together to intervals.
struct Gaps {
    end: u64,
    samples_max: usize,
    total: u64,
    samples: Vec<Interval>,
    open: Option<(u64, u64)>,
}

impl Gaps {
    /// 64 places from `from` on, of which those with a bit were found.
    fn word(&mut self, from: u64, found: u64) {
        if found == u64::MAX {
            return;
        }
        for bit in (0..64).filter(|bit| found & (1 << bit) == 0) {
            self.absent(from + bit, from + bit + 1);
        }
    }

    fn absent(&mut self, from: u64, to: u64) {
        let to = to.min(self.end);
        if from >= to {
            return;
        }
        match &mut self.open {
            Some((_, end)) if *end == from => *end = to,
            _ => {
                self.close();
                self.open = Some((from, to));
            }
        }
    }

    fn close(&mut self) {
        let Some((from, to)) = self.open.take() else {
            return;
        };
        self.total += to - from;
        if self.samples.len() < self.samples_max {
            self.samples.push(Interval::new(Sequence(from), Sequence(to)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(
        seen: impl IntoIterator<Item = u64>,
        other: impl IntoIterator<Item = u64>,
    ) -> (u64, Vec<(u64, u64)>) {
        let (mut here, mut there) = (Seen::default(), Seen::default());
        seen.into_iter()
            .for_each(|sequence| assert_eq!(here.insert(sequence), Insert::New));
        other
            .into_iter()
            .for_each(|sequence| assert_eq!(there.insert(sequence), Insert::New));
        let (total, samples) = here.missing(&there, 100);
        (total, samples.iter().map(|gap| (gap.from.0, gap.to.0)).collect())
    }

    #[test]
    fn gaps_are_found_wherever_they_lie() {
        assert_eq!(missing([], []), (0, vec![]));
        assert_eq!(missing([0, 1, 2], []), (0, vec![]));
        assert_eq!(missing([2, 5, 0], []), (3, vec![(1, 2), (3, 5)]));
        assert_eq!(missing([3], [1, 9]), (2, vec![(0, 1), (2, 3)]));
        let far = 10 * CHUNK + 7;
        assert_eq!(missing([0, far], [5]), (far - 2, vec![(1, 5), (6, far)]));
        let holes = [63, 64, CHUNK - 1, CHUNK, CHUNK + 1];
        let seen = (0..3 * CHUNK).filter(|sequence| !holes.contains(sequence));
        assert_eq!(missing(seen, []), (5, vec![(63, 65), (CHUNK - 1, CHUNK + 2)]));
        assert_eq!(
            missing(2 * CHUNK..4 * CHUNK, [0]),
            (2 * CHUNK - 1, vec![(1, 2 * CHUNK)])
        );
    }

    #[test]
    fn a_second_time_is_known_also_in_a_full_chunk() {
        let mut seen = Seen::default();
        (0..=CHUNK)
            .rev()
            .for_each(|sequence| assert_eq!(seen.insert(sequence), Insert::New));
        assert_eq!(seen.insert(5), Insert::Known);
        assert_eq!(seen.insert(CHUNK), Insert::Known);
        assert_eq!((seen.partial, seen.end()), (1, CHUNK + 1));
    }

    #[test]
    fn memory_has_an_end() {
        let mut seen = Seen::default();
        let places = (0..).map(|chunk| chunk * CHUNK);
        let kept = places
            .take_while(|sequence| seen.insert(*sequence) == Insert::New)
            .count();
        assert_eq!(kept, PARTIAL_MAX);
        assert_eq!(seen.insert(1), Insert::New, "in a chunk that is there");
    }
}
