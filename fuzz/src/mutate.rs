//! A mutator for ordinary tests: far from a fuzzer, but the same inputs for the same seed.

/// A small generator of numbers (`SplitMix64`, Steele, Lea and Flood 2014): what matters is that it is the same everywhere.
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where nothing is below it.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % bound).unwrap_or(0)
    }
}

/// The longest input that is made.
const BYTES_MAX: usize = 16 * 1024;

/// Numbers at which lengths and counts turn over.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// Changes an input a few times; what is spliced in comes from `others`.
pub fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        once(input, others, dice);
    }
    input.truncate(BYTES_MAX);
}

fn once(input: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(input.len());
    let behind = (at + 1 + dice.below(16)).min(input.len());
    match dice.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = dice.roll().to_le_bytes()[0];
            }
        }
        2 => drop(input.drain(at.min(behind)..behind)),
        3 => {
            let again: Vec<u8> = input[at.min(behind)..behind].to_vec();
            input.splice(at..at, again);
        }
        4 => input.truncate(at),
        5 => {
            let width = 1 << dice.below(4);
            let edge = EDGES[dice.below(EDGES.len())].to_be_bytes();
            let behind = (at + width).min(input.len());
            input.splice(at..behind, edge[8 - width..].iter().copied());
        }
        6 => input.insert(at, dice.roll().to_le_bytes()[0]),
        _ => {
            let Some(other) = others
                .get(dice.below(others.len()))
                .filter(|other| !other.is_empty())
            else {
                return;
            };
            let from = dice.below(other.len());
            let to = (from + 1 + dice.below(64)).min(other.len());
            input.splice(at..behind, other[from..to].iter().copied());
        }
    }
}
