//! Numbers that look random and are the same everywhere.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014). Written here and
/// not taken from a crate, because a crate may change its algorithm and our records may not change.
pub(super) struct Dice(u64);

impl Dice {
    /// Dice for one record: far apart for neighbouring records, streams and seeds.
    pub(super) fn new(seed: u64, partition: u32, index: u64) -> Dice {
        Dice(mix(mix(mix(seed) ^ u64::from(partition)) ^ index))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..end`; `end` must not be 0. The bias for ends this small is below 2^-32.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        // The upper half of the product is below `end`.
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// One of `choices`, which must not be empty.
    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(u32::try_from(choices.len()).unwrap_or(u32::MAX)) as usize]
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
