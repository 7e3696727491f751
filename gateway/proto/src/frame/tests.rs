use super::*;
use crate::batch::tests::records as samples;
use crate::batch::{Codec, NoCompression};
use crate::position::Seam;
use crate::record::Headers;
use crate::stream::Lineage;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

const BEFORE: Guard = Guard {
    epoch: 3,
    crc: 0xdead_beef,
};

fn stream() -> StreamId {
    let lineage = Lineage::Replayable {
        cluster: "k".into(),
        topic: [9; 16],
    };
    StreamId {
        site: "a".into(),
        topic: "t".into(),
        partition: 3,
        lineage,
    }
}

fn builder(from: u64) -> FrameBuilder {
    FrameBuilder::new(&stream(), Sequence(from), BEFORE).unwrap()
}

fn record(value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        timestamp: 1_700_000_000_000,
        key: None,
        value: Some(value),
        headers: Headers::NONE,
    }
}

fn finish(builder: &mut FrameBuilder) -> Frame {
    builder
        .finish(Codec::None, &NoCompression)
        .unwrap()
        .expect("the frame covers something")
}

/// A marker that a transaction left under a later leader must not be taken for a place of the last record's epoch:
/// asked how far that epoch reaches, the source would deny the place.
#[test]
fn a_control_record_of_a_later_epoch_ends_no_frame_of_an_earlier_one() {
    let mut builder = builder(10);
    assert_eq!(builder.push(Sequence(10), 7, &record(b"a")).unwrap(), Push::Taken);
    assert_eq!(builder.advance_in(Sequence(12), 9).unwrap(), Push::NotTaken);
    let records = finish(&mut builder);
    assert_eq!(builder.advance_in(Sequence(12), 9).unwrap(), Push::Taken);
    let marker = finish(&mut builder);
    assert_eq!(records.interval().to, Sequence(11));
    assert_eq!(marker.guard_from(), records.guard_end());
    let reread = Frame::decode(marker.bytes().clone()).unwrap();
    assert_eq!(reread.guard_end(), Guard { epoch: 9, crc: 0 });
}

#[test]
fn a_frame_that_ends_in_a_hole_does_not_name_the_record_before_it() {
    let frame = frame_with(&[12, 13]);
    let reread = Frame::decode(frame.bytes().clone()).unwrap();
    assert_eq!(reread.guard_end(), Guard { epoch: 7, crc: 0 });
    assert_ne!(frame_with(&[12, 19]).guard_end().crc, 0);
}

/// A frame of `[10, 20)` with records at these places.
fn frame_with(places: &[u64]) -> Frame {
    let mut builder = builder(10);
    for place in places {
        assert_eq!(
            builder.push(Sequence(*place), 7, &record(b"v")).unwrap(),
            Push::Taken
        );
    }
    assert_eq!(builder.advance(Sequence(20)).unwrap(), Push::Taken);
    finish(&mut builder)
}

#[test]
fn the_head_of_a_frame_is_fixed_byte_for_byte() {
    let mut builder = builder(10);
    assert_eq!(
        builder
            .push_as(Sequence(11), 7, 0x0102_0304, &record(b"v"))
            .unwrap(),
        Push::Taken
    );
    let frame = finish(&mut builder);
    let bytes = frame.bytes();
    let mut head = vec![0, 0, 0, 147, 0xc5, 1, 0, 0];
    head.extend([0, 0, 0, 0, 0, 0, 0, 10]); // from
    head.extend([0, 0, 0, 0, 0, 0, 0, 12]); // to
    head.extend([0, 0, 0, 7]); // leader epoch
    head.extend([0, 0, 0, 3, 0xde, 0xad, 0xbe, 0xef]); // guard before it
    head.extend([0, 0, 0, 1]); // count
    head.extend(b"\0\x1e\0\x01a\0\x01t\0\0\0\x03\0\0\x01k"); // stream: 30 bytes
    head.extend([9; 16]);
    head.extend([0, 0]); // schemas
    assert_eq!(bytes[..head.len()], head);
    assert_eq!(frame.batch_bytes(), &bytes[head.len()..bytes.len() - 8]);
    assert_eq!(bytes[bytes.len() - 8..bytes.len() - 4], [1, 2, 3, 4]);
    let crc = crc32c(&bytes[..bytes.len() - 4]);
    assert_eq!(bytes[bytes.len() - 4..], crc.to_be_bytes());
    assert_eq!(
        announced([bytes[0], bytes[1], bytes[2], bytes[3]]).unwrap(),
        bytes.len() - 4
    );
}

#[test]
fn a_frame_answers_what_was_put_in() {
    let frame = frame_with(&[12, 13, 17]);
    assert_eq!(Frame::decode(frame.bytes().clone()).as_ref(), Ok(&frame));
    assert_eq!(frame.stream(), stream());
    assert!(frame.is_of(&stream()));
    assert!(!frame.is_of(&StreamId {
        partition: 4,
        ..stream()
    }));
    assert_eq!(frame.interval(), Interval::new(Sequence(10), Sequence(20)));
    assert_eq!((frame.count(), frame.epoch(), frame.guard_from()), (3, 7, BEFORE));
    assert!(frame.schemas().is_empty());
    let (batch, rest) = BatchView::parse(frame.batch_bytes()).unwrap();
    assert!(
        rest.is_empty(),
        "a batch any reader of Kafka's format can check by itself"
    );
    assert_eq!((batch.base(), batch.last()), (Sequence(10), Sequence(19)));
}

/// What stages made of records: parts and other topics.
#[test]
fn parts_lie_in_one_place_and_keep_their_topics() {
    let mut builder = builder(10);
    let taken = |pushed: Result<Push, Malformed>| assert_eq!(pushed.unwrap(), Push::Taken);
    taken(builder.push_as(Sequence(10), 7, 1, &record(b"a")));
    taken(builder.push_parts(
        Sequence(12),
        7,
        2,
        &[(None, record(b"b")), (Some("other"), record(b"c"))],
    ));
    taken(builder.push_as(Sequence(13), 7, 3, &record(b"d")));
    taken(builder.push_parts(Sequence(14), 7, 4, &[(Some("far"), record(b"e"))]));
    taken(builder.push_parts(
        Sequence(15),
        7,
        5,
        &[(Some("other"), record(b"f")), (Some("other"), record(b"g"))],
    ));
    taken(builder.advance(Sequence(20)));
    let frame = Frame::decode(finish(&mut builder).bytes().clone()).unwrap();
    assert!(frame.is_expanded() && frame.is_routed());
    assert_eq!(
        (frame.count(), frame.interval()),
        (7, Interval::new(Sequence(10), Sequence(20)))
    );
    let other = Some(String::from("other"));
    let all = [
        (10, "a", None),
        (12, "b", None),
        (12, "c", other.clone()),
        (13, "d", None),
        (14, "e", Some("far".into())),
        (15, "f", other.clone()),
        (15, "g", other),
    ];
    let mut scratch = Vec::new();
    for at in 10..=20 {
        let mut records = frame.records(Sequence(at), &mut scratch, &NoCompression).unwrap();
        let mut found = Vec::new();
        while let Some(item) = records.next() {
            let (sequence, record) = item.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push((sequence.0, value, records.topic().map(String::from)));
        }
        let behind = all.iter().filter(|(place, ..)| *place >= at);
        let expected: Vec<_> = behind
            .map(|(place, value, topic)| (*place, String::from(*value), topic.clone()))
            .collect();
        assert_eq!(found, expected, "from {at}");
    }
    // One guard for all parts of a record, whoever stops behind it.
    let guard = |at| {
        let mut scratch = Vec::new();
        frame
            .records(Sequence(at), &mut scratch, &NoCompression)
            .unwrap()
            .seam()
    };
    assert_eq!(guard(13), Seam::from(Guard { epoch: 7, crc: 2 }));
    assert_eq!(guard(16), Seam::from(Guard { epoch: 7, crc: 5 }));
    assert_eq!(frame.guard_before(Sequence(13)), None);
    // The next frame knows nothing of it.
    taken(builder.push_as(Sequence(20), 7, 6, &record(b"h")));
    let next = finish(&mut builder);
    assert!(!next.is_expanded() && !next.is_routed());
    let plain = Frame::decode(next.bytes().clone()).unwrap();
    assert_eq!(plain.guard_from(), Guard { epoch: 7, crc: 0 });
}

/// One record is one unit: its parts are never divided over frames.
#[test]
fn parts_of_a_record_stay_together() {
    let mut builder = builder(0);
    let parts = |count: usize| vec![(None, record(b"part")); count];
    assert_eq!(
        builder.push_parts(Sequence(0), 7, 1, &parts(300)).unwrap(),
        Push::Taken
    );
    assert_eq!(
        builder.push_parts(Sequence(1), 7, 1, &parts(300)).unwrap(),
        Push::NotTaken
    );
    assert_eq!(finish(&mut builder).count(), 300);
    assert_eq!(
        builder.push_parts(Sequence(1), 7, 1, &parts(1_000)).unwrap(),
        Push::Full
    );
    let frame = Frame::decode(finish(&mut builder).bytes().clone()).unwrap();
    assert_eq!((frame.count(), frame.interval().len()), (1_000, 1));
    let topics: Vec<String> = (0..=limits::TOPICS_PER_FRAME_MAX)
        .map(|at| at.to_string())
        .collect();
    let routed = |topics: &'static [u8], names: &[String]| {
        names
            .iter()
            .map(|name| (Some(name.clone()), topics))
            .collect::<Vec<_>>()
    };
    let many = routed(b"v", &topics);
    let many: Vec<Part<'_>> = many
        .iter()
        .map(|(name, value)| (name.as_deref(), record(value)))
        .collect();
    assert!(builder.push_parts(Sequence(2), 7, 1, &many).is_err());
    assert_eq!(
        builder.push_parts(Sequence(2), 7, 1, &many[1..]).unwrap(),
        Push::Full
    );
    assert_eq!(
        builder.push_parts(Sequence(3), 7, 1, &many[..1]).unwrap(),
        Push::NotTaken
    );
}

#[test]
fn routes_that_do_not_fit_are_refused() {
    let mut builder = builder(10);
    let parts = [(Some("other"), record(b"a")), (None, record(b"b"))];
    assert_eq!(
        builder.push_parts(Sequence(10), 7, 2, &parts).unwrap(),
        Push::Taken
    );
    let frame = finish(&mut builder).bytes().to_vec();
    let section = b"\0\x01\0\x05other\0\x01\0\0\0\0\0\x0d";
    assert!(frame[..frame.len() - 4].ends_with(section));
    let check = |bad: &[u8]| {
        let mut bytes = frame[..frame.len() - 4 - section.len()].to_vec();
        bytes.extend_from_slice(bad);
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        assert!(Frame::decode(bytes.into()).is_err(), "{bad:?}");
    };
    check(b"\0\x01\0\x05other\0\x02\0\0\0\0\0\x0d"); // a topic that is not there
    check(b"\0\x01\0\x05other\0\x01\0\0\0\x0b"); // too few
    check(b"\0\x01\0\x05oth\xffr\0\x01\0\0\0\0\0\x0d");
    check(b"\0\x01\0\x00\0\x01\0\0\0\0\0\x08");
    check(b"\0\x01\0\x05other\0\x01\0\0\0\0\0\x0c");
    check(b"\0\x01\0\x05other\0\x01\0\0\xff\xff\xff\xff");
    check(b"");
}

#[test]
fn a_frame_can_be_cut_anywhere_and_says_what_lies_before_the_cut() {
    let check = |places: &[u64]| {
        let frame = frame_with(places);
        let guard = Guard {
            epoch: 7,
            crc: record(b"v").crc32c(),
        };
        let mut scratch = Vec::new();
        for at in 0..=20 {
            let mut records = frame.records(Sequence(at), &mut scratch, &NoCompression).unwrap();
            let expected = if at <= 10 {
                Seam::from(BEFORE)
            } else if places.contains(&(at - 1)) {
                guard.into()
            } else {
                let any_before = places.iter().any(|place| *place < at);
                Seam {
                    epoch_min: if any_before { 7 } else { BEFORE.epoch },
                    epoch_max: frame.epoch(),
                    crc: 0,
                }
            };
            assert_eq!(records.seam(), expected, "cut at {at}");
            if let Some(known) = frame.guard_before(Sequence(at)).filter(|_| at >= 10) {
                assert_eq!(Seam::from(known), expected, "cut at {at}, without decoding");
            }
            let rest: Vec<_> = records.by_ref().map(|record| record.unwrap().0.0).collect();
            let expected: Vec<_> = places.iter().copied().filter(|place| *place >= at).collect();
            assert_eq!(rest, expected);
        }
    };
    check(&[]);
    check(&[12, 13, 17]);
    check(&[10]);
    check(&[19]);
    check(&[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn without_holes_a_cut_needs_no_decoding() {
    let mut builder = builder(10);
    for place in 10..15 {
        let crc = u32::try_from(place).unwrap();
        assert_eq!(
            builder.push_as(Sequence(place), 7, crc, &record(b"v")).unwrap(),
            Push::Taken
        );
    }
    let frame = finish(&mut builder);
    assert_eq!(frame.guard_before(Sequence(9)), None, "not in this frame");
    assert_eq!(frame.guard_before(Sequence(10)), Some(BEFORE));
    assert_eq!(
        frame.guard_before(Sequence(13)),
        Some(Guard { epoch: 7, crc: 12 })
    );
    assert_eq!(
        frame.guard_before(Sequence(15)),
        Some(Guard { epoch: 7, crc: 14 })
    );
    assert_eq!(
        frame_with(&[12]).guard_before(Sequence(15)),
        None,
        "the holes are in the batch"
    );
}

#[test]
fn frames_follow_each_other_without_a_gap() {
    let mut builder = builder(10);
    assert_eq!(builder.finish(Codec::None, &NoCompression).unwrap(), None);
    assert_eq!(builder.push(Sequence(10), 7, &record(b"a")).unwrap(), Push::Taken);
    assert_eq!(
        builder.push(Sequence(11), 8, &record(b"b")).unwrap(),
        Push::NotTaken,
        "another epoch"
    );
    let first = finish(&mut builder);
    assert_eq!(builder.push(Sequence(11), 8, &record(b"b")).unwrap(), Push::Taken);
    let second = finish(&mut builder);
    assert_eq!(builder.advance(Sequence(30)).unwrap(), Push::Taken);
    assert_eq!(
        builder.advance(Sequence(5)).unwrap(),
        Push::Taken,
        "going back is ignored"
    );
    let third = finish(&mut builder);
    assert_eq!(first.interval().to, second.interval().from);
    assert_eq!(second.interval().to, third.interval().from);
    assert_eq!(
        first.guard_end(),
        Guard {
            epoch: 7,
            crc: record(b"a").crc32c()
        }
    );
    assert_eq!(second.guard_from(), first.guard_end());
    assert_eq!(third.guard_from(), second.guard_end());
    assert_eq!(
        third.guard_end(),
        Guard { epoch: 8, crc: 0 },
        "its last place holds no record"
    );
    assert_eq!((third.count(), third.batch_bytes().len()), (0, 0));
    assert!(
        builder.push(Sequence(29), 8, &record(b"c")).is_err(),
        "accounted for already"
    );
}

#[test]
fn a_frame_is_full_at_its_bytes_or_its_records_and_a_large_record_travels_alone() {
    let mut many = builder(0);
    for place in 0..limits::FRAME_RECORDS_MAX as u64 - 1 {
        assert_eq!(many.push(Sequence(place), 0, &record(b"")).unwrap(), Push::Taken);
    }
    let last = Sequence(limits::FRAME_RECORDS_MAX as u64 - 1);
    assert_eq!(many.push(last, 0, &record(b"")).unwrap(), Push::Full);
    assert_eq!(many.push(last.next(), 0, &record(b"")).unwrap(), Push::NotTaken);

    let large = vec![1; limits::FRAME_BYTES_TARGET];
    let mut alone = builder(0);
    assert_eq!(
        alone.push(Sequence(0), 0, &record(b"small")).unwrap(),
        Push::Taken
    );
    assert_eq!(
        alone.push(Sequence(1), 0, &record(&large)).unwrap(),
        Push::NotTaken
    );
    assert_eq!(finish(&mut alone).count(), 1);
    assert_eq!(alone.push(Sequence(1), 0, &record(&large)).unwrap(), Push::Full);
    let frame = finish(&mut alone);
    assert_eq!(Frame::decode(frame.bytes().clone()), Ok(frame));
    assert!(
        alone
            .push(Sequence(2), 0, &record(&vec![0; limits::RECORD_BYTES_MAX + 1]))
            .is_err()
    );
}

#[test]
fn a_seek_forgets_the_open_frame_and_what_was_confirmed() {
    let far = Sequence(10 + 2 * limits::HOLE_MAX);
    let mut builder = builder(10);
    builder.confirm_hole(far);
    assert_eq!(builder.push(Sequence(12), 7, &record(b"v")).unwrap(), Push::Taken);
    let elsewhere = Guard { epoch: 9, crc: 1 };
    builder.restart(Sequence(5), elsewhere);
    assert!(builder.interval().is_empty() && builder.count() == 0);
    assert!(
        builder.push(far, 9, &record(b"v")).is_err(),
        "that was confirmed of another place"
    );
    assert_eq!(builder.push(Sequence(6), 9, &record(b"v")).unwrap(), Push::Taken);
    let frame = finish(&mut builder);
    assert_eq!(
        (frame.interval().from, frame.guard_from(), frame.count()),
        (Sequence(5), elsewhere, 1)
    );
}

/// Position poisoning: places that were not seen to be empty are not skipped by the million.
#[test]
fn a_large_hole_needs_the_sources_word() {
    let far = Sequence(10 + limits::HOLE_MAX + 1);
    let mut builder = builder(10);
    assert!(matches!(builder.advance(far), Err(Malformed::TooLarge { .. })));
    assert!(matches!(
        builder.push(far, 7, &record(b"v")),
        Err(Malformed::TooLarge { .. })
    ));
    builder.confirm_hole(far);
    assert_eq!(builder.push(far, 7, &record(b"v")).unwrap(), Push::Taken);
    assert_eq!(
        builder.push(far.next(), 7, &record(b"v")).unwrap(),
        Push::Taken,
        "the next one is near"
    );
    let frame = finish(&mut builder);
    assert!(frame.is_compacted());
    assert_eq!(Frame::decode(frame.bytes().clone()).as_ref(), Ok(&frame));

    let mut lying = frame.bytes().to_vec();
    lying[6] = 0; // the same frame without the flag
    assert!(matches!(
        FrameView::parse(&resealed(lying)),
        Err(Malformed::TooLarge { .. })
    ));
}

#[test]
fn many_small_holes_fill_a_frame_as_one_large_one_does() {
    let mut builder = builder(0);
    let step = limits::HOLE_MAX / 2 + 1;
    assert_eq!(
        builder.push(Sequence(step), 7, &record(b"v")).unwrap(),
        Push::Taken
    );
    assert_eq!(
        builder.push(Sequence(2 * step), 7, &record(b"v")).unwrap(),
        Push::NotTaken
    );
    assert_eq!(builder.advance(Sequence(2 * step)).unwrap(), Push::NotTaken);
    assert!(!finish(&mut builder).is_compacted());
    assert_eq!(
        builder.push(Sequence(2 * step), 7, &record(b"v")).unwrap(),
        Push::Taken
    );
}

/// Kafka's batch says places in 32 bits.
#[test]
fn a_hole_too_large_for_a_batch_becomes_a_frame_of_its_own() {
    let far = Sequence(1 << 40);
    let mut builder = builder(0);
    assert_eq!(builder.push(Sequence(0), 7, &record(b"v")).unwrap(), Push::Taken);
    builder.confirm_hole(far);
    let mut frames = Vec::new();
    while builder.push(far, 7, &record(b"w")).unwrap() == Push::NotTaken {
        frames.push(finish(&mut builder));
    }
    frames.push(finish(&mut builder));
    let intervals: Vec<_> = frames
        .iter()
        .map(|frame| (frame.interval().from.0, frame.interval().to.0))
        .collect();
    assert_eq!(intervals, [(0, 1), (1, 1 << 40), (1 << 40, (1 << 40) + 1)]);
    assert_eq!(frames.iter().map(Frame::count).collect::<Vec<_>>(), [1, 0, 1]);
    // Behind the last record there is nothing to split: the batch says the furthest it can, the frame the truth.
    assert_eq!(builder.push(far.next(), 7, &record(b"x")).unwrap(), Push::Taken);
    builder.confirm_hole(Sequence(1 << 41));
    assert_eq!(builder.advance(Sequence(1 << 41)).unwrap(), Push::Taken);
    let frame = finish(&mut builder);
    assert_eq!(frame.interval().to, Sequence(1 << 41));
    assert_eq!(Frame::decode(frame.bytes().clone()), Ok(frame));
}

#[test]
fn damage_is_refused_wherever_it_is() {
    for frame in [frame_with(&[12, 13, 17]), frame_with(&[])] {
        let mut bytes = frame.bytes().to_vec();
        for cut in 0..bytes.len() {
            assert!(FrameView::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameView::parse(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        bytes.push(0);
        assert!(FrameView::parse(&bytes).is_err(), "a byte too many");
    }
}

#[test]
fn what_no_frame_may_say_is_refused_though_its_checksum_is_right() {
    let check = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = frame_with(&[12, 13, 17]).bytes().to_vec();
        change(&mut bytes);
        assert!(FrameView::parse(&resealed(bytes)).is_err(), "{what}");
    };
    check("an unknown critical flag", &|bytes| bytes[6] = 0x80);
    check("ends before it begins", &|bytes| bytes[23] = 9);
    check("ends where it begins", &|bytes| bytes[23] = 10);
    check("beyond 63 bits", &|bytes| bytes[16] = 0x80);
    check("more places than the batch", &|bytes| bytes[23] = 21);
    check("begins before the batch", &|bytes| bytes[15] = 9);
    check("another epoch than the batch", &|bytes| bytes[27] = 8);
    check("a record more than the batch", &|bytes| bytes[39] = 4);
    check("a record less than the batch", &|bytes| bytes[39] = 2);
    check("no records beside a batch", &|bytes| bytes[39] = 0);
    check("more guards than bytes", &|bytes| bytes[36] = 0x40);
    check("a longer stream", &|bytes| bytes[41] += 1);
    check("schemas that are not there", &|bytes| bytes[73] = 60);
    check("too many schemas", &|bytes| bytes[72] = 1);
    check("a control batch", &|bytes| bytes[74 + 22] |= 0x20);
    let mut ignored = frame_with(&[12]).bytes().to_vec();
    ignored[7] = 0x80;
    assert!(
        FrameView::parse(&resealed(ignored)).is_ok(),
        "a flag that is not critical"
    );
}

#[test]
fn a_version_that_is_unknown_is_named() {
    let mut bytes = frame_with(&[12]).bytes().to_vec();
    bytes[5] = 2;
    let error = Malformed::Version {
        what: "frame",
        found: 2,
        newest: 1,
    };
    assert_eq!(FrameView::parse(&resealed(bytes)), Err(error));
    assert!(matches!(announced([0xff; 4]), Err(Malformed::TooLarge { .. })));
}

#[test]
fn schemas_named_by_another_writer_are_read() {
    let mut bytes = frame_with(&[12]).bytes().to_vec();
    bytes[73] = 2;
    bytes.splice(74..74, [[5; 32], [6; 32]].concat());
    let size = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&size.to_be_bytes());
    let bytes = resealed(bytes);
    let frame = FrameView::parse(&bytes).unwrap();
    assert_eq!(frame.schemas(), [[5; 32], [6; 32]]);
    assert_eq!(frame.guard_end(), frame_with(&[12]).guard_end());
}

#[test]
fn a_frame_names_the_schemas_of_its_records() {
    let mut builder = FrameBuilder::new(&stream(), Sequence(10), BEFORE).unwrap();
    let mut frames = Vec::new();
    // One schema more than fit into one frame, each for two records.
    let schemas: Vec<[u8; 32]> = (0..=limits::SCHEMAS_PER_FRAME_MAX)
        .map(|n| [n as u8; 32])
        .collect();
    for (at, schema) in (10..).zip(schemas.iter().flat_map(|schema| [schema, schema])) {
        let named = [*schema];
        if !builder.has_room_for(&named) {
            frames.extend(builder.finish(Codec::None, &NoCompression).unwrap());
        }
        let value = [at as u8; 40];
        let record = RecordRef {
            timestamp: 1,
            key: None,
            value: Some(&value),
            headers: Headers::NONE,
        };
        assert_eq!(builder.push(Sequence(at), 7, &record).unwrap(), Push::Taken);
        builder.name(&named);
    }
    frames.extend(builder.finish(Codec::None, &NoCompression).unwrap());
    assert_eq!(frames.len(), 2);
    let (last, most) = schemas.split_last().unwrap();
    assert_eq!(frames[0].schemas(), most);
    assert_eq!(frames[1].schemas(), [*last]);
    for frame in &frames {
        assert_eq!(Frame::decode(frame.bytes().clone()).as_ref(), Ok(frame));
        assert_eq!(schemas_named(frame.bytes()), Ok(frame.schemas()));
    }
    assert_eq!(schemas_named(frame_with(&[12]).bytes()), Ok(&[][..]));
    assert!(schemas_named(b"no frame").is_err());
}

proptest! {
    #[test]
    fn records_survive_the_frame_and_any_cut(samples in samples(), from in 0..u64::MAX / 4, cut in 0u64..2_000_000) {
        let mut builder = builder(from);
        let mut expected = Vec::new();
        let mut at = from;
        for sample in &samples {
            at += sample.hole;
            let crc = u32::try_from(expected.len()).unwrap() + 100;
            prop_assert_eq!(builder.push_as(Sequence(at), 7, crc, &sample.borrow()).unwrap(), Push::Taken);
            expected.push((Sequence(at), sample.borrow()));
            at += 1;
        }
        let frame = Frame::decode(finish(&mut builder).bytes().clone()).unwrap();
        let cut = Sequence(from + cut % (at - from + 2));
        let skipped = expected.iter().filter(|(sequence, _)| *sequence < cut).count();
        let mut scratch = Vec::new();
        let records = frame.records(cut, &mut scratch, &NoCompression).unwrap();
        let crc = u32::try_from(skipped).unwrap() + 99;
        prop_assert_eq!(records.guard(), if skipped == 0 { BEFORE } else { Guard { epoch: 7, crc } });
        prop_assert_eq!(records.collect::<Result<Vec<_>, _>>().unwrap(), &expected[skipped..]);
    }

    /// A peer with a valid certificate can compute checksums too: nothing it sends may panic.
    #[test]
    fn a_frame_of_any_bytes_is_read_or_refused(
        changes in proptest::collection::vec((6usize..180, any::<u8>()), 1..4),
        at in 0u64..30,
    ) {
        let mut bytes = frame_with(&[12, 13, 17]).bytes().to_vec();
        let end = bytes.len() - 4;
        changes.into_iter().for_each(|(place, byte)| bytes[place.min(end)] = byte);
        let bytes = resealed(bytes);
        if let Ok(frame) = FrameView::parse(&bytes) {
            let mut scratch = Vec::new();
            if let Ok(records) = frame.records(Sequence(at), &mut scratch, &NoCompression) {
                for (sequence, _) in records.map_while(Result::ok) {
                    prop_assert!(sequence >= frame.interval().from && sequence < frame.interval().to);
                }
            }
            let _ = (frame.stream(), frame.guard_before(Sequence(at)), frame.guard_end());
        }
    }
}

/// With the checksum that belongs to the bytes.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let crc = crc32c(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_be_bytes());
    bytes
}
