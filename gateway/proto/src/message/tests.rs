use super::envelope::BODY_VERSION;
use super::*;
use crate::checksum::crc32c;
use crate::schema::{Kind, Piece};
use crate::stream::Lineage;
use alloc::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn what_was_written_is_read_back(message in message()) {
        let mut bytes = vec![7]; // something stands before it
        message.encode(&mut bytes).unwrap();
        let head = [bytes[1], bytes[2], bytes[3], bytes[4]];
        prop_assert_eq!(announced(head).unwrap(), bytes.len() - 5);
        prop_assert_eq!(Message::decode(&bytes[1..]), Ok(Some(message)));
    }

    #[test]
    fn a_message_cut_short_or_changed_by_a_bit_is_refused(message in message()) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes).unwrap();
        for cut in 0..bytes.len() {
            prop_assert!(Message::decode(&bytes[..cut]).is_err(), "cut at {}", cut);
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Message::decode(&bytes).is_err(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// A peer with a valid certificate can compute checksums too: no body may panic the decoder.
    #[test]
    fn a_body_of_any_bytes_is_read_or_refused(tag in any::<u16>(), body in vec_of(any::<u8>(), 0..200)) {
        for tag in [tag, 0x8001 + tag % 18, tag % 20, LANE] {
            let mut bytes = Vec::new();
            seal(tag, limits::MESSAGE_BYTES_MAX, "message", &mut bytes, |out| {
                out.extend_from_slice(&body);
                Ok(())
            }).unwrap();
            if let Ok(Some(read)) = Message::decode(&bytes) {
                let mut again = Vec::new();
                read.encode(&mut again).unwrap();
                prop_assert_eq!(&again, &bytes, "one message has one spelling");
            }
            let _ = LaneHeader::decode(&bytes);
        }
    }

    #[test]
    fn a_lane_header_is_read_back_and_damage_is_refused(route in route(), stream in stream()) {
        let header = LaneHeader { route, stream };
        let mut bytes = Vec::new();
        header.encode(&mut bytes).unwrap();
        prop_assert_eq!(LaneHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(LaneHeader::decode(&bytes).is_err(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

fn spelled_stream() -> StreamId {
    StreamId {
        site: "a".into(),
        topic: "t".into(),
        partition: 3,
        lineage: Lineage::Replayable {
            cluster: "k".into(),
            topic: [9; 16],
        },
    }
}

/// Route `b/c` and that stream, byte for byte.
const SPELLED: &[u8] = b"\0\x03b/c\0\x01a\0\x01t\0\0\0\x03\0\0\x01k\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09\x09";

/// The layout is a promise to peers of other versions: byte for byte.
#[test]
fn the_spelling_of_want_is_fixed() {
    let want = Message::Want {
        route: RouteId::new("b", "c"),
        stream: spelled_stream(),
        at: Sequence(0x0102_0304),
    };
    let mut bytes = Vec::new();
    want.encode(&mut bytes).unwrap();
    let mut expected = vec![0, 0, 0, 50, 0x80, 0x07, 1];
    expected.extend(SPELLED);
    expected.extend([0, 0, 0, 0, 1, 2, 3, 4]);
    expected.extend(crc32c(&expected).to_be_bytes());
    assert_eq!(bytes, expected);
}

/// Gateways that know no priorities pass over it.
#[test]
fn the_spelling_of_a_priority_is_fixed_and_it_may_be_skipped() {
    for (priority, byte) in [(Priority::Low, 0), (Priority::Normal, 1), (Priority::High, 2)] {
        let said = Message::PriorityIs {
            route: RouteId::new("b", "c"),
            stream: spelled_stream(),
            priority,
        };
        let mut bytes = Vec::new();
        said.encode(&mut bytes).unwrap();
        let mut expected = vec![0, 0, 0, 43, 0, 0x13, 1];
        expected.extend(SPELLED);
        expected.push(byte);
        expected.extend(crc32c(&expected).to_be_bytes());
        assert_eq!(bytes, expected, "{priority:?}");
        assert_eq!(said.tag() & CRITICAL, 0, "{priority:?}");
    }
}

#[test]
fn an_unknown_message_is_skipped_unless_it_is_critical() {
    let unknown = |tag| {
        let mut bytes = Vec::new();
        seal(tag, limits::MESSAGE_BYTES_MAX, "message", &mut bytes, |_| Ok(())).unwrap();
        Message::decode(&bytes)
    };
    assert_eq!(unknown(0x0777), Ok(None));
    assert!(matches!(unknown(0x8777), Err(Malformed::Invalid { .. })));
}

#[test]
fn fields_added_by_a_newer_version_are_ignored_and_others_are_not() {
    let forget = Message::Forget {
        route: RouteId::new("b", "c"),
    };
    let with_version = |version| {
        let mut bytes = Vec::new();
        forget.encode(&mut bytes).unwrap();
        bytes.truncate(bytes.len() - 4);
        bytes[6] = version;
        bytes.extend_from_slice(b"more");
        let size = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        Message::decode(&bytes)
    };
    assert_eq!(with_version(BODY_VERSION + 1), Ok(Some(forget.clone())));
    assert!(matches!(
        with_version(BODY_VERSION),
        Err(Malformed::Invalid { .. })
    ));
    assert!(matches!(with_version(0), Err(Malformed::Version { .. })));
}

#[test]
fn what_is_above_a_limit_is_not_written() {
    let mut out = vec![1, 2, 3];
    let mut refuse = |message: Message| {
        assert!(matches!(
            message.encode(&mut out),
            Err(Malformed::TooLarge { .. } | Malformed::Invalid { .. })
        ));
        assert_eq!(out, [1, 2, 3], "nothing is left behind");
    };
    let route = RouteId::new("b", "c");
    let long: Arc<str> = "x".repeat(limits::NAME_BYTES_MAX + 1).into();
    let stream = StreamId {
        site: "a".into(),
        topic: "t".into(),
        partition: 0,
        lineage: Lineage::Run {
            outbox: [0; 16],
            run: [0; 16],
        },
    };
    refuse(Message::Forget { route: RouteId(long) });
    refuse(Message::Forget {
        route: RouteId("a\nb".into()),
    });
    refuse(Message::Forget {
        route: RouteId("".into()),
    });
    refuse(Message::Ask {
        nonce: 1,
        route: route.clone(),
        streams: vec![stream.clone(); limits::STREAMS_PER_MESSAGE_MAX + 1],
    });
    let mut position = Position::beginning(0, Sequence(1), Guard::NONE);
    position.resume_point = vec![0; limits::RESUME_POINT_BYTES_MAX];
    let positions = vec![(stream.clone(), Some(position.clone())); limits::STREAMS_PER_MESSAGE_MAX];
    refuse(Message::Answer {
        nonce: 1,
        route: route.clone(),
        writer: 2,
        positions,
    });
    let mut signed = Signed {
        statement: vec![0; limits::STATEMENT_BYTES_MAX + 1],
        scheme: 1,
        signature: Vec::new(),
        certificates: Vec::new(),
    };
    let mut statement = |signed: &Signed| {
        refuse(Message::Statement {
            nonce: 1,
            route: route.clone(),
            signed: signed.clone(),
        });
    };
    statement(&signed);
    signed.statement = Vec::new();
    signed.certificates = vec![Vec::new(); limits::CERTIFICATES_MAX + 1];
    statement(&signed);
    position.at = Sequence::ZERO;
    refuse(Message::PositionIs {
        writer: 1,
        route,
        stream,
        position,
    });
}

#[test]
fn a_long_reason_is_cut_at_a_character() {
    let fault = Fault {
        code: "CULVERT-F001".into(),
        reason: "ü".repeat(limits::REASON_BYTES_MAX),
    };
    let mut bytes = Vec::new();
    Message::Refused {
        route: RouteId::new("b", "c"),
        fault,
    }
    .encode(&mut bytes)
    .unwrap();
    let Ok(Some(Message::Refused { fault, .. })) = Message::decode(&bytes) else {
        panic!("the message is read back");
    };
    assert_eq!(fault.reason, "ü".repeat(limits::REASON_BYTES_MAX / 2));
}

#[test]
fn a_length_above_the_limit_is_refused_before_anything_is_read() {
    assert!(matches!(announced([0xff; 4]), Err(Malformed::TooLarge { .. })));
    assert!(matches!(
        LaneHeader::announced([0, 0xff, 0, 0]),
        Err(Malformed::TooLarge { .. })
    ));
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<(u16, u16, [u8; 16])>(), name(), name(), name()).prop_map(
            |((version_min, version_max, instance), gateway, site, build)| Message::Hello {
                version_min,
                version_max,
                gateway,
                site,
                instance,
                build,
            }
        ),
        (
            route(),
            name(),
            vec_of(name(), 0..4),
            any::<(Option<String>, bool, u32)>()
        )
            .prop_map(
                |(route, origin, names, (pattern, latest, incarnation))| Message::Register {
                    route,
                    origin,
                    topics: TopicFilter { names, pattern },
                    start: if latest { Start::Latest } else { Start::Earliest },
                    incarnation,
                }
            ),
        route().prop_map(|route| Message::Registered { route }),
        (route(), fault()).prop_map(|(route, fault)| Message::Refused { route, fault }),
        route().prop_map(|route| Message::Forget { route }),
        (route(), stream(), interval(), any::<Option<u64>>()).prop_map(|(route, stream, held, applied)| {
            Message::Offer {
                route,
                stream,
                held,
                applied: applied.map(Sequence),
            }
        }),
        (route(), stream(), any::<u64>()).prop_map(|(route, stream, at)| Message::Want {
            route,
            stream,
            at: Sequence(at)
        }),
        (route(), stream(), any::<u64>()).prop_map(|(route, stream, bytes)| Message::Credit {
            route,
            stream,
            bytes
        }),
        (route(), stream(), priority()).prop_map(|(route, stream, priority)| Message::PriorityIs {
            route,
            stream,
            priority
        }),
        (route(), stream(), any::<u128>(), position()).prop_map(|(route, stream, writer, position)| {
            Message::PositionIs {
                writer,
                route,
                stream,
                position,
            }
        }),
        (any::<u128>(), route(), vec_of(stream(), 0..4)).prop_map(|(nonce, route, streams)| Message::Ask {
            nonce,
            route,
            streams
        }),
        (
            any::<(u128, u128)>(),
            route(),
            vec_of((stream(), proptest::option::of(position())), 0..4)
        )
            .prop_map(|((nonce, writer), route, positions)| Message::Answer {
                nonce,
                route,
                writer,
                positions
            }),
        (any::<(u128, u64)>(), route(), stream(), guard()).prop_map(
            |((nonce, start), route, stream, guard)| Message::Begin {
                nonce,
                route,
                stream,
                start: Sequence(start),
                guard,
            }
        ),
        (route(), stream(), fault()).prop_map(|(route, stream, fault)| Message::Halted {
            route,
            stream,
            fault
        }),
        (
            any::<(u128, u32)>(),
            route(),
            stream(),
            interval(),
            vec_of(part(), 0..3)
        )
            .prop_map(|((nonce, block_records), route, stream, interval, without_ids)| {
                Message::DigestAsk {
                    nonce,
                    route,
                    stream,
                    interval,
                    block_records,
                    without_ids,
                }
            }),
        (any::<(u128, Option<[u8; 32]>)>(), route(), stream()).prop_map(
            |((nonce, before), route, stream)| Message::StatementAsk {
                nonce,
                route,
                stream,
                before,
            }
        ),
        (any::<u128>(), route(), signed()).prop_map(|(nonce, route, signed)| Message::Statement {
            nonce,
            route,
            signed,
        }),
        (part(), any::<u32>(), vec_of(piece(), 1..4)).prop_map(|(part, id, pieces)| Message::Schema {
            schema: Schema {
                kind: Kind::Protobuf,
                part,
                id,
                pieces,
            }
        }),
        (
            any::<(u128, bool)>(),
            route(),
            stream(),
            vec_of(block(), 0..4),
            proptest::option::of(fault())
        )
            .prop_map(
                |((nonce, done), route, stream, blocks, fault)| Message::DigestAnswer {
                    nonce,
                    route,
                    stream,
                    blocks,
                    done,
                    fault,
                }
            ),
    ]
}

fn signed() -> impl Strategy<Value = Signed> {
    let bytes = || vec_of(any::<u8>(), 0..40);
    (bytes(), any::<u16>(), bytes(), vec_of(bytes(), 0..4)).prop_map(
        |(statement, scheme, signature, certificates)| Signed {
            statement,
            scheme,
            signature,
            certificates,
        },
    )
}

fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Low), Just(Priority::Normal), Just(Priority::High)]
}

fn part() -> impl Strategy<Value = Part> {
    any::<bool>().prop_map(|is_key| if is_key { Part::Key } else { Part::Value })
}

fn piece() -> impl Strategy<Value = Piece> {
    ("[a-z.]{0,9}", any::<u32>(), ".{0,40}").prop_map(|(subject, version, text)| Piece {
        subject,
        version,
        text,
        references: Vec::new(),
    })
}

fn vec_of<S: Strategy>(element: S, size: core::ops::Range<usize>) -> impl Strategy<Value = Vec<S::Value>> {
    proptest::collection::vec(element, size)
}

fn name() -> impl Strategy<Value = Arc<str>> {
    "[a-z0-9ü._/-]{1,20}".prop_map(Arc::from)
}

fn route() -> impl Strategy<Value = RouteId> {
    name().prop_map(RouteId)
}

fn fault() -> impl Strategy<Value = Fault> {
    (name(), any::<String>()).prop_map(|(code, reason)| Fault { code, reason })
}

fn stream() -> impl Strategy<Value = StreamId> {
    let lineage = prop_oneof![
        (name(), any::<[u8; 16]>()).prop_map(|(cluster, topic)| Lineage::Replayable { cluster, topic }),
        any::<([u8; 16], [u8; 16])>().prop_map(|(outbox, run)| Lineage::Run { outbox, run }),
    ];
    (name(), name(), any::<u32>(), lineage).prop_map(|(site, topic, partition, lineage)| StreamId {
        site,
        topic,
        partition,
        lineage,
    })
}

fn interval() -> impl Strategy<Value = Interval> {
    any::<(u64, u64)>().prop_map(|(a, b)| Interval::new(Sequence(a.min(b)), Sequence(a.max(b))))
}

fn guard() -> impl Strategy<Value = Guard> {
    any::<(i32, u32)>().prop_map(|(epoch, crc)| Guard { epoch, crc })
}

fn block() -> impl Strategy<Value = Block> {
    any::<(u64, u64, u128, u128)>().prop_map(|(to, count, order, set)| Block {
        to: Sequence(to),
        digest: Digest::from_parts(count, order, set),
    })
}

fn position() -> impl Strategy<Value = Position> {
    (
        any::<(u32, u128, u128, u64)>(),
        interval(),
        guard(),
        vec_of(any::<u8>(), 0..40),
    )
        .prop_map(
            |((incarnation, order, set, count), covered, guard, resume_point)| Position {
                incarnation,
                start: covered.from,
                at: covered.to,
                guard,
                digest: Digest::from_parts(count, order, set),
                resume_point,
            },
        )
}
