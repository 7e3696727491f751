//! Which partition a record goes to: by its key, as Java's clients decide it, or by its source's partition.

use std::ops::RangeInclusive;

/// Where each source partition goes: `0-3:0, 4:7, *:same`. Total, so that a partition that is added to the source later
/// has a place too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMap {
    /// Do not overlap.
    named: Vec<(RangeInclusive<u32>, Goal)>,
    rest: Goal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// The partition of the same number.
    Same,
    /// This one.
    Fixed(u32),
}

impl PartitionMap {
    /// Reads `from:to` entries, separated by commas. `from` is a partition, a range `first-last`, or `*` for all
    /// others; `to` is a partition or `same`.
    ///
    /// # Errors
    /// All that is wrong with it, a sentence each.
    pub(super) fn parse(text: &str) -> Result<PartitionMap, Vec<String>> {
        let (mut named, mut rest, mut wrong) = (Vec::<(RangeInclusive<u32>, Goal)>::new(), None, Vec::new());
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let Some((from, goal)) = read_entry(entry) else {
                wrong.push(format!("holds {entry:?}, which is no from:to"));
                continue;
            };
            match from {
                None if rest.is_some() => wrong.push("names * twice".to_owned()),
                None => rest = Some(goal),
                Some(from) => {
                    if let Some((other, _)) = named.iter().find(|(other, _)| overlap(other, &from)) {
                        let both = *from.start().max(other.start());
                        wrong.push(format!("names partition {both} twice"));
                    }
                    named.push((from, goal));
                }
            }
        }
        match rest {
            Some(rest) if wrong.is_empty() => Ok(PartitionMap { named, rest }),
            Some(_) => Err(wrong),
            None => {
                wrong.push("does not say where all other partitions go".to_owned());
                Err(wrong)
            }
        }
    }

    /// The target partition of a source partition.
    pub(super) fn of(&self, partition: u32) -> u32 {
        let named = self.named.iter().find(|(from, _)| from.contains(&partition));
        match named.map_or(self.rest, |(_, goal)| *goal) {
            Goal::Same => partition,
            Goal::Fixed(to) => to,
        }
    }
}

/// One `from:to`; no `from` for `*`.
fn read_entry(entry: &str) -> Option<(Option<RangeInclusive<u32>>, Goal)> {
    let (from, to) = entry.split_once(':')?;
    let goal = match to.trim() {
        "same" => Goal::Same,
        number => Goal::Fixed(read_partition(number)?),
    };
    let from = match from.trim() {
        "*" => None,
        range => {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let range = read_partition(first)?..=read_partition(last)?;
            Some(range).filter(|range| !range.is_empty()).map(Some)?
        }
    };
    Some((from, goal))
}

/// Kafka's partitions are numbers of 31 bits.
fn read_partition(text: &str) -> Option<u32> {
    let number = text.trim().parse().ok()?;
    (number < i32::MAX.cast_unsigned()).then_some(number)
}

fn overlap(one: &RangeInclusive<u32>, other: &RangeInclusive<u32>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

/// The partition of `key` among `partitions`: what `BuiltInPartitioner.partitionForKey` of Kafka's Java client answers.
/// 0 partitions count as 1.
pub(super) fn of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (index, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_says_where_each_partition_goes() {
        let check = |text: &str, expected: [u32; 6]| {
            let map = PartitionMap::parse(text).unwrap();
            assert_eq!([0, 1, 2, 3, 4, 9].map(|from| map.of(from)), expected, "{text}");
        };
        check("*:same", [0, 1, 2, 3, 4, 9]);
        check("*:0", [0; 6]);
        check("0-2:1, 4:7, *:same", [1, 1, 1, 3, 7, 9]);
        check(" 3 : same ,*: 5,", [5, 5, 5, 3, 5, 5]);
    }

    #[test]
    fn all_that_is_wrong_with_a_map_is_told() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(PartitionMap::parse(text).unwrap_err(), expected, "{text}");
        };
        let no_rest = "does not say where all other partitions go";
        check("", &[no_rest]);
        check("0:1", &[no_rest]);
        check("*:1,*:2", &["names * twice"]);
        check("0-3:1, 2-5:0, *:1", &["names partition 2 twice"]);
        check(
            "0>1, 3-1:0, 1:, -1:0, 2147483647:0, *:9",
            &["0>1", "3-1:0", "1:", "-1:0", "2147483647:0"]
                .map(|entry| format!("holds {entry:?}, which is no from:to"))
                .each_ref()
                .map(String::as_str),
        );
    }

    /// The values of `UtilsTest.testMurmur2` in Apache Kafka.
    #[test]
    fn keys_hash_as_in_java() {
        let golden: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in golden {
            assert_eq!(murmur2(key).cast_signed(), hash, "{}", key.escape_ascii());
        }
    }
}
