//! Count and content of a piece of a stream, by which two ends compare what they hold without sending it.

use crate::record::RecordRef;
use crate::schema::{Part, behind_prefix};
use xxhash_rust::xxh3::Xxh3Default;

/// Count and content of the records of one piece of a stream.
///
/// `order` is a polynomial hash, so digests of neighbouring pieces combine ([`Digest::then`]) and any grouping of
/// the same records in the same order gives the same value. `set` is a sum: it does not see order, and is what can
/// be compared where a partitioner spreads one stream over several partitions. 128 bits each, over XXH3 of the
/// record's content: proof against accidents, not against someone who forges records: receipts hash with SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// How many records.
    pub count: u64,
    /// Ordered content: `fold(order * P + content(record))` modulo 2^128.
    pub order: u128,
    /// Content without order: the sum of `content(record)` modulo 2^128.
    pub set: u128,
    /// `P^count`, kept so that digests combine in constant time.
    power: u128,
}

/// An odd multiplier (so that it is invertible modulo 2^128), from the fractional digits of the golden ratio.
const P: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

impl Digest {
    /// The digest of no records.
    pub const EMPTY: Digest = Digest {
        count: 0,
        order: 0,
        set: 0,
        power: 1,
    };

    /// A digest read back from where it was stored.
    #[must_use]
    pub fn from_parts(count: u64, order: u128, set: u128) -> Digest {
        Digest {
            count,
            order,
            set,
            power: pow(count),
        }
    }

    /// Adds the record whose content hash is `content`.
    pub fn add(&mut self, content: u128) {
        self.count += 1;
        self.order = self.order.wrapping_mul(P).wrapping_add(content);
        self.set = self.set.wrapping_add(content);
        self.power = self.power.wrapping_mul(P);
    }

    /// The digest of these records followed by those of `next`.
    #[must_use]
    pub fn then(&self, next: &Digest) -> Digest {
        Digest {
            count: self.count.saturating_add(next.count), // a peer may claim any number
            order: self.order.wrapping_mul(next.power).wrapping_add(next.order),
            set: self.set.wrapping_add(next.set),
            power: self.power.wrapping_mul(next.power),
        }
    }
}

fn pow(mut exponent: u64) -> u128 {
    let (mut base, mut result) = (P, 1u128);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// The content hash of one record: XXH3-128 over key, value and headers, each with its length or its absence, so
/// that no two different records spell the same bytes. The timestamp is left out: a target topic may be set to
/// `LogAppendTime`, and the same content would then never compare equal.
#[must_use]
pub fn content(record: &RecordRef<'_>) -> u128 {
    let mut hash = Xxh3Default::new();
    record.content_parts(|part| hash.update(part));
    hash.digest128()
}

/// As [`content`], without the numbers of schemas before key and value: what is the same at both ends of a route that
/// gives schemas other numbers. `parts` are those that may have one.
#[must_use]
pub fn content_without_ids(record: &RecordRef<'_>, parts: &[Part]) -> u128 {
    content(&without_ids(record, parts))
}

/// Hands over the bytes that [`content_without_ids`] hashes, piece by piece, for a hash of another kind: of one record
/// behind the other no other records spell the same.
pub fn spell_without_ids(record: &RecordRef<'_>, parts: &[Part], piece: impl FnMut(&[u8])) {
    without_ids(record, parts).content_parts(piece);
}

fn without_ids<'a>(record: &RecordRef<'a>, parts: &[Part]) -> RecordRef<'a> {
    let strip = |part, bytes| match bytes {
        Some(bytes) if parts.contains(&part) => Some(behind_prefix(bytes)),
        other => other,
    };
    RecordRef {
        key: strip(Part::Key, record.key),
        value: strip(Part::Value, record.value),
        ..*record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_combine_to_the_whole_in_order_and_not_otherwise() {
        let contents = [3u128, 7, 7, 11, u128::MAX, 0];
        let mut whole = Digest::EMPTY;
        contents.iter().for_each(|c| whole.add(*c));
        for cut in 0..=contents.len() {
            let (mut left, mut right) = (Digest::EMPTY, Digest::EMPTY);
            contents[..cut].iter().for_each(|c| left.add(*c));
            contents[cut..].iter().for_each(|c| right.add(*c));
            assert_eq!(left.then(&right), whole);
            assert_eq!(Digest::from_parts(left.count, left.order, left.set), left);
            if cut != 0 && cut != contents.len() {
                assert_ne!(right.then(&left).order, whole.order, "order is seen");
                assert_eq!(right.then(&left).set, whole.set, "the set is not");
            }
        }
    }
}
