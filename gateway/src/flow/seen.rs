//! What one end has seen of an interval of a stream: what its gateway can answer for with its signature.

use culvert_proto::digest;
use culvert_proto::message::Signed;
use culvert_proto::record::RecordRef;
use culvert_proto::schema::Part;
use culvert_proto::stream::RouteId;
use culvert_proto::{Interval, Sequence, StreamId};
use ring::digest::{Context, SHA256};

/// Records in the order in which they were read, and a hash of their content against which nobody can make others.
///
/// The hash is SHA-256 over the records one behind the other: of each its key and its value, every one behind its length
/// as `u32` (big-endian; absent: all ones), the count of its headers as `u32`, and the headers as Kafka spells them.
/// Timestamps are left out, as in [`digest::content`].
#[derive(Clone)]
pub struct Seen {
    /// The place of the first record.
    pub first: Option<Sequence>,
    /// The place of the last one.
    pub last: Option<Sequence>,
    /// How many there are.
    pub count: u64,
    /// How many of them stood at a place not above the one before.
    pub repeated: u64,
    /// The parts of records that are seen without the numbers of their schemas.
    pub without_ids: Vec<Part>,
    content: Context,
}

impl Seen {
    /// Nothing yet.
    #[must_use]
    pub fn new(without_ids: &[Part]) -> Seen {
        Seen {
            first: None,
            last: None,
            count: 0,
            repeated: 0,
            without_ids: without_ids.to_vec(),
            content: Context::new(&SHA256),
        }
    }

    /// The record behind all others.
    pub fn add(&mut self, at: Sequence, record: &RecordRef<'_>) {
        self.repeated += u64::from(self.last.is_some_and(|last| at <= last));
        self.first = self.first.or(Some(at));
        self.last = Some(at);
        self.count += 1;
        let content = &mut self.content;
        digest::spell_without_ids(record, &self.without_ids, |piece| content.update(piece));
    }

    /// The hash of all there is so far.
    #[must_use]
    pub fn content(&self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.content.clone().finish().as_ref());
        hash
    }
}

/// What a gateway is to sign.
#[derive(Clone, Copy)]
pub struct Testimony<'a> {
    /// The route.
    pub route: &'a RouteId,
    /// The stream.
    pub stream: &'a StreamId,
    /// All that was read lies in it, and all of it was read.
    pub interval: Interval,
    /// The hash of the receipt before.
    pub before: Option<[u8; 32]>,
    /// What was read.
    pub seen: &'a Seen,
}

/// Signs with the gateway's own key, or says why it cannot.
pub type Witness = dyn Fn(&Testimony<'_>) -> Result<Signed, String> + Send + Sync;

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::hex::hex;
    use culvert_proto::record::{Headers, HeadersBuf};

    fn seen(records: &[(u64, &str)]) -> Seen {
        let mut seen = Seen::new(&[]);
        for (at, value) in records {
            let record = RecordRef {
                timestamp: -1,
                key: None,
                value: Some(value.as_bytes()),
                headers: Headers::NONE,
            };
            seen.add(Sequence(*at), &record);
        }
        seen
    }

    #[test]
    fn content_order_and_borders_of_records_are_seen() {
        let of = |records: &[(u64, &str)]| seen(records).content();
        let whole = of(&[(1, "ab"), (2, "c")]);
        assert_eq!(whole, of(&[(7, "ab"), (9, "c")]), "places are no content");
        for other in [
            &[(1, "c"), (2, "ab")][..],
            &[(1, "a"), (2, "bc")],
            &[(1, "ab")],
            &[(1, "ab"), (2, "c"), (3, "")],
        ] {
            assert_ne!(whole, of(other), "{other:?}");
        }
    }

    /// The spelling is a promise to whoever has the records: computed here by another program, from what the guide says.
    #[test]
    fn the_spelling_of_content_is_fixed() {
        let mut seen = seen(&[(0, "ab")]);
        let mut headers = HeadersBuf::new();
        headers.push("n", Some(b"v"));
        let record = RecordRef {
            timestamp: 7,
            key: Some(b"k"),
            value: None,
            headers: headers.as_headers(),
        };
        seen.add(Sequence(1), &record);
        assert_eq!(
            hex(&seen.content()),
            "f263035dc4c37e4ba45536fceae3a67421cc70045a403f9368ed9ddd83b55b06"
        );
    }

    #[test]
    fn numbers_of_schemas_are_left_out_where_both_ends_have_their_own() {
        let of = |id: u8, parts: &[Part]| {
            let mut seen = Seen::new(parts);
            let record = RecordRef {
                timestamp: -1,
                key: None,
                value: Some(&[0, 0, 0, 0, id, b'x']),
                headers: Headers::NONE,
            };
            seen.add(Sequence(0), &record);
            seen.content()
        };
        assert_eq!(of(1, &[Part::Value]), of(2, &[Part::Value]));
        assert_ne!(of(1, &[Part::Key]), of(2, &[Part::Key]));
    }

    #[test]
    fn places_are_kept_and_one_that_does_not_rise_is_counted() {
        let seen = seen(&[(3, "a"), (5, "b"), (5, "b"), (4, "c")]);
        assert_eq!((seen.first, seen.last), (Some(Sequence(3)), Some(Sequence(4))));
        assert_eq!((seen.count, seen.repeated), (4, 2));
    }
}
