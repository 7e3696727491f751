use super::*;
use crate::record::{HeadersBuf, RecordRef};
use crate::sequence::Sequence;
use alloc::vec;
use proptest::prelude::*;

/// One batch by hand, field for field by the table of KIP-98.
#[rustfmt::skip]
fn golden() -> Vec<u8> {
    vec![
        0, 0, 0, 0, 0, 0, 0x03, 0xe8, // base offset 1000
        0, 0, 0, 76,                  // length: 49 of the header and 27 of records
        0, 0, 0, 5,                   // leader epoch
        2,                            // magic
        0, 0, 0, 0,                   // CRC32C, filled in below
        0, 0,                         // attributes: not compressed, create time
        0, 0, 0, 9,                   // last offset delta: covers [1000, 1010)
        0, 0, 0, 0, 0, 0, 0, 100,     // base timestamp
        0, 0, 0, 0, 0, 0, 0, 100,     // max timestamp
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // producer id: none
        0xff, 0xff,                   // producer epoch
        0xff, 0xff, 0xff, 0xff,       // base sequence
        0, 0, 0, 2,                   // count
        30,                           // 15 bytes (zigzag: 2 * 15)
        0,                            // attributes
        0,                            // timestamp delta 0
        4,                            // offset delta 2
        2, b'k',                      // key of 1 byte
        6, b'a', b'b', b'c',          // value of 3 bytes
        2,                            // one header
        2, b'h', 4, b'x', b'y',       // its name and value
        20,                           // 10 bytes
        0,
        0xc7, 0x01,                   // timestamp delta -100
        16,                           // offset delta 8
        1,                            // no key
        0,                            // an empty value
        2,                            // one header
        2, b'h', 1,                   // without a value
    ]
}

fn golden_with_crc() -> Vec<u8> {
    let mut bytes = golden();
    bytes[17..21].copy_from_slice(&GOLDEN_CRC.to_be_bytes());
    bytes
}

/// Of the bytes behind it, by an implementation of the polynomial 0x82f63b78 bit by bit, outside of this program.
const GOLDEN_CRC: u32 = 0x97cb_2d43;

fn golden_headers() -> (HeadersBuf, HeadersBuf) {
    let (mut first, mut second) = (HeadersBuf::new(), HeadersBuf::new());
    first.push("h", Some(b"xy"));
    second.push("h", None);
    (first, second)
}

#[test]
fn a_batch_is_written_as_kip_98_says() {
    let (first, second) = golden_headers();
    let mut builder = BatchBuilder::new(0, Sequence(1000));
    let record = RecordRef {
        timestamp: 100,
        key: Some(b"k"),
        value: Some(b"abc"),
        headers: first.as_headers(),
    };
    builder.push(Sequence(1002), &record).unwrap();
    let record = RecordRef {
        timestamp: 0,
        key: None,
        value: Some(b""),
        headers: second.as_headers(),
    };
    builder.push(Sequence(1008), &record).unwrap();
    assert_eq!(builder.records_bytes(), 27);
    let bytes = builder
        .finish(Sequence(1010), 5, 0, Codec::None, &NoCompression)
        .unwrap();
    assert_eq!(bytes, golden_with_crc());
}

#[test]
fn a_batch_is_read_as_kip_98_says() {
    let bytes = golden_with_crc();
    let (batch, rest) = BatchView::parse(&bytes).unwrap();
    assert!(rest.is_empty());
    assert_eq!((batch.base(), batch.last()), (Sequence(1000), Sequence(1009)));
    assert_eq!((batch.epoch(), batch.count(), batch.codec()), (5, 2, Codec::None));
    assert_eq!(batch.producer(), (-1, -1, -1));
    assert!(!batch.is_control() && !batch.is_transactional() && !batch.is_append_time());
    let (first, second) = golden_headers();
    let mut scratch = Vec::new();
    let records: Result<Vec<_>, _> = batch.records(&mut scratch, &NoCompression, 0).unwrap().collect();
    let expected = [
        (
            Sequence(1002),
            RecordRef {
                timestamp: 100,
                key: Some(b"k"),
                value: Some(b"abc"),
                headers: first.as_headers(),
            },
        ),
        (
            Sequence(1008),
            RecordRef {
                timestamp: 0,
                key: None,
                value: Some(b""),
                headers: second.as_headers(),
            },
        ),
    ];
    assert_eq!(records.unwrap(), expected);
}

#[test]
fn the_attributes_of_brokers_are_understood() {
    let with = |attributes: u8| {
        let mut bytes = golden();
        bytes[22] = attributes;
        bytes[42] = 200; // max timestamp
        sum(&mut bytes);
        bytes
    };
    let append_time = with(0x08);
    let (batch, _) = BatchView::parse(&append_time).unwrap();
    let mut scratch = Vec::new();
    let mut records = batch.records(&mut scratch, &NoCompression, 0).unwrap();
    assert!(records.all(|record| record.unwrap().1.timestamp == 200));
    let control = with(0x30);
    let (batch, _) = BatchView::parse(&control).unwrap();
    assert!(batch.is_control() && batch.is_transactional());
    let unknown = with(0x05);
    assert!(matches!(
        BatchView::parse(&unknown),
        Err(Malformed::Invalid { .. })
    ));
}

#[test]
fn batches_in_a_row_are_read_until_the_first_fault() {
    let mut bytes = golden_with_crc();
    bytes.extend(golden_with_crc());
    assert_eq!(parse_all(&bytes).filter(Result::is_ok).count(), 2);
    bytes.extend(&golden_with_crc()[..30]); // a fetch is cut anywhere
    let all: Vec<_> = parse_all(&bytes).collect();
    assert_eq!(all.len(), 3);
    assert!(matches!(all[2], Err(Malformed::Truncated { .. })));
}

#[test]
fn older_magics_are_named() {
    let mut bytes = golden();
    bytes[16] = 1;
    assert_eq!(
        BatchView::parse(&bytes),
        Err(Malformed::Version {
            what: "batch",
            found: 1,
            newest: 2
        })
    );
}

#[test]
fn a_batch_cut_short_is_refused_wherever_it_is_cut() {
    let bytes = golden_with_crc();
    for cut in 0..bytes.len() {
        assert!(BatchView::parse(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

/// Offset and epoch lie outside the checksum, because a broker sets them; whatever else changes is noticed.
#[test]
fn a_flipped_bit_is_noticed_unless_it_is_the_brokers() {
    let mut bytes = golden_with_crc();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let is_brokers = matches!(bit / 8, 0..8 | 12..16);
        assert!(is_brokers || BatchView::parse(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_the_batch_as_it_was() {
    let plain = RecordRef {
        timestamp: 1,
        key: None,
        value: Some(b"v"),
        headers: crate::record::Headers::NONE,
    };
    let mut builder = BatchBuilder::new(3, Sequence(10));
    builder.push(Sequence(11), &plain).unwrap();
    let before = builder.records_bytes();
    let huge = vec![0; crate::limits::RECORD_BYTES_MAX + 1];
    let mut crowd = HeadersBuf::new();
    (0..=crate::limits::HEADERS_MAX).for_each(|_| crowd.push("", None));
    assert!(builder.push(Sequence(11), &plain).is_err(), "not behind the last");
    assert!(builder.push(Sequence(11 + (1 << 31)), &plain).is_err(), "too far");
    assert!(
        builder
            .push(
                Sequence(12),
                &RecordRef {
                    value: Some(&huge),
                    ..plain
                }
            )
            .is_err(),
        "too large"
    );
    let crowded = RecordRef {
        headers: crowd.as_headers(),
        ..plain
    };
    assert!(builder.push(Sequence(12), &crowded).is_err(), "too many headers");
    assert!(
        builder
            .finish(Sequence(20), -1, 0, Codec::Zstd, &NoCompression)
            .is_err(),
        "no such codec here"
    );
    assert_eq!((builder.count(), builder.records_bytes()), (1, before));
    let bytes = builder
        .finish(Sequence(20), -1, 0, Codec::None, &NoCompression)
        .unwrap();
    let (batch, _) = BatchView::parse(&bytes[3..]).unwrap();
    assert_eq!(
        (batch.base(), batch.last(), batch.count()),
        (Sequence(10), Sequence(19), 1)
    );
}

proptest! {
    #[test]
    fn records_are_read_back(records in records(), base in 0..u64::MAX / 4, behind in 0u64..1000) {
        let mut builder = BatchBuilder::new(0, Sequence(base));
        let mut at = base;
        let mut expected = Vec::new();
        for record in &records {
            at += record.hole;
            builder.push(Sequence(at), &record.borrow()).unwrap();
            expected.push((Sequence(at), record.borrow()));
            at += 1;
        }
        let bytes = builder.finish(Sequence(at + behind), 7, 0, Codec::None, &NoCompression).unwrap();
        let (batch, rest) = BatchView::parse(&bytes).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(batch.last().next(), Sequence(at + behind));
        let mut scratch = Vec::new();
        let read: Result<Vec<_>, _> = batch.records(&mut scratch, &NoCompression, 0).unwrap().collect();
        prop_assert_eq!(read.unwrap(), expected);
    }

    /// Whoever can compute a CRC can send any records: they are read or refused, and nothing panics.
    #[test]
    fn records_of_any_bytes_are_read_or_refused(
        changes in proptest::collection::vec((21usize..88, any::<u8>()), 1..4)
    ) {
        let mut bytes = golden();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        sum(&mut bytes);
        if let Ok((batch, _)) = BatchView::parse(&bytes) {
            let mut scratch = Vec::new();
            if let Ok(records) = batch.records(&mut scratch, &NoCompression, 100) {
                let mut last = None;
                for (sequence, _) in records.map_while(Result::ok) {
                    prop_assert!(sequence >= batch.base() && sequence <= batch.last());
                    prop_assert!(last < Some(sequence));
                    last = Some(sequence);
                }
            }
        }
    }
}

fn sum(batch: &mut [u8]) {
    let crc = crate::checksum::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A record that owns its parts, and how many places lie unused before it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) hole: u64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: HeadersBuf,
}

impl Sample {
    pub(crate) fn borrow(&self) -> RecordRef<'_> {
        RecordRef {
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.as_headers(),
        }
    }
}

pub(crate) fn records() -> impl Strategy<Value = Vec<Sample>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    let headers = proptest::collection::vec(("[a-zü]{0,5}", bytes()), 0..3).prop_map(|all| {
        let mut headers = HeadersBuf::new();
        all.iter()
            .for_each(|(name, value)| headers.push(name, value.as_deref()));
        headers
    });
    let timestamp = prop_oneof![
        Just(-1),
        Just(i64::MIN),
        Just(i64::MAX),
        any::<i64>(),
        1_700_000_000_000..1_800_000_000_000i64
    ];
    let hole = prop_oneof![4 => Just(0), 1 => 0u64..100_000];
    let record =
        (hole, timestamp, bytes(), bytes(), headers).prop_map(|(hole, timestamp, key, value, headers)| {
            Sample {
                hole,
                timestamp,
                key,
                value,
                headers,
            }
        });
    proptest::collection::vec(record, 1..20)
}
