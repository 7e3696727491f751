use super::mark::{self, Mark, Reading};
use super::records::{Fault, Format, Generator, Kind, Recipe};
use super::{GeneratorConfig, GeneratorReader, GeneratorSource, HISTORY_CHANGED, PLACE_GONE};
use crate::flow::{Halt, Intake, Place, Reader, Slot, Source};
use culvert_proto::record::RecordRef;
use culvert_proto::{Guard, Sequence, StreamId};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const AVRO: Format = Format::Avro { schema_id: 42 };

fn recipe(kind: Kind, format: Format, faults: f64) -> Recipe {
    Recipe {
        kind,
        format,
        seed: 7,
        faults,
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

/// The first records of each kind, to the byte: a difference here is a changed history of every generator.
#[test]
fn records_are_those_of_the_golden_file() {
    let mut found = String::new();
    for kind in Kind::ALL {
        for format in [Format::Json, AVRO] {
            let mut generator = Generator::new(recipe(kind, format, 0.0));
            for (partition, index) in [(0, 0), (0, 1), (3, 1_000_000)] {
                let record = generator.record(partition, index);
                let value = match format {
                    Format::Json => text(record.value),
                    Format::Avro { .. } => record.value.unwrap().iter().map(|b| format!("{b:02x}")).collect(),
                };
                found += &format!("{} {value}\n", text(record.key));
            }
        }
    }
    let golden = include_str!("golden.txt");
    for (line, (found, golden)) in found.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, golden, "golden.txt:{}", line + 1);
    }
    assert_eq!(
        found.lines().count(),
        golden.lines().count(),
        "all found:\n{found}"
    );
}

#[test]
fn avro_values_decode_by_the_published_schema_and_say_what_json_says() {
    for kind in Kind::ALL {
        let schema = apache_avro::Schema::parse_str(kind.schema()).unwrap();
        let mut avro = Generator::new(recipe(kind, AVRO, 0.5));
        let mut json = Generator::new(recipe(kind, Format::Json, 0.5));
        for index in 0..200 {
            if avro.fault(1, index) == Some(Fault::Unreadable) {
                continue;
            }
            let value = avro.record(1, index).value.unwrap().to_vec();
            assert_eq!(value[..5], [0, 0, 0, 0, 42]);
            let mut rest = &value[5..];
            let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
                .build()
                .unwrap();
            let decoded = reader.read_value(&mut rest).unwrap();
            assert!(rest.is_empty(), "{kind} {index}: bytes behind the record");
            let mut decoded: serde_json::Value = decoded.try_into().unwrap();
            let mut expected: serde_json::Value =
                serde_json::from_slice(json.record(1, index).value.unwrap()).unwrap();
            for value in [&mut decoded, &mut expected] {
                let fields = value.as_object_mut().unwrap();
                fields.remove("checksum");
                fields.retain(|_, field| !field.is_null());
            }
            assert_eq!(decoded, expected);
        }
    }
}

#[test]
fn an_order_adds_up_unless_it_is_bad_on_purpose() {
    let mut generator = Generator::new(recipe(Kind::Orders, Format::Json, 0.4));
    let mut faults = BTreeMap::new();
    for index in 0..2_000 {
        let fault = generator.fault(0, index);
        *faults.entry(format!("{fault:?}")).or_insert(0) += 1;
        let value = serde_json::from_slice(generator.record(0, index).value.unwrap());
        let Ok(order): Result<serde_json::Value, _> = value else {
            assert_eq!(fault, Some(Fault::Unreadable));
            continue;
        };
        let items = order["items"].as_array().unwrap();
        let sum: i64 = items
            .iter()
            .map(|item| item["quantity"].as_i64().unwrap() * item["price_cents"].as_i64().unwrap())
            .sum();
        let negative = items.iter().any(|item| item["quantity"].as_i64().unwrap() < 1);
        assert_eq!(fault == Some(Fault::Missing), order.get("customer").is_none());
        assert_eq!(fault == Some(Fault::Negative), negative);
        assert_eq!(
            fault == Some(Fault::Contradiction),
            order["total_cents"].as_i64().unwrap() != sum
        );
        assert_ne!(fault, Some(Fault::Unreadable));
    }
    assert_eq!(faults.len(), 5, "every fault occurs: {faults:?}");
}

#[test]
fn the_share_of_faults_is_the_one_asked_for() {
    for (share, from, to) in [(0.0, 0, 0), (0.01, 850, 1_150), (1.0, 100_000, 100_000)] {
        let generator = Generator::new(recipe(Kind::Sensors, Format::Json, share));
        let bad = (0..100_000)
            .filter(|index| generator.fault(2, *index).is_some())
            .count();
        assert!((from..=to).contains(&bad), "{share}: {bad}");
    }
}

#[test]
fn records_that_are_not_bad_do_not_depend_on_the_share() {
    let mut clean = Generator::new(recipe(Kind::Clicks, Format::Json, 0.0));
    let mut mixed = Generator::new(recipe(Kind::Clicks, Format::Json, 0.5));
    for index in 0..500 {
        if mixed.fault(0, index).is_none() {
            assert_eq!(clean.record(0, index), mixed.record(0, index));
        }
    }
}

#[test]
fn a_mark_is_read_back_and_any_changed_byte_is_seen() {
    for kind in Kind::ALL {
        for format in [Format::Json, AVRO] {
            let mut generator = Generator::new(recipe(kind, format, 1.0));
            for index in [0, 1, 77] {
                let record = generator.record(5, index);
                let (key, value) = (record.key.unwrap().to_vec(), record.value.unwrap().to_vec());
                let stream = format!("{kind}/7/5");
                assert_eq!(
                    mark::read(&record),
                    Reading::Intact(Mark {
                        stream: &stream,
                        sequence: index
                    })
                );
                for at in 0..value.len() {
                    let mut changed = value.clone();
                    changed[at] ^= 0x04;
                    let changed = RecordRef {
                        value: Some(&changed),
                        ..record
                    };
                    let framing = matches!(format, Format::Avro { .. }) && (1..5).contains(&at);
                    let intact = matches!(mark::read(&changed), Reading::Intact(_));
                    assert_eq!(intact, framing, "{kind} {format:?} byte {at}");
                }
                let mut other_key = key.clone();
                other_key[0] ^= 1;
                assert!(matches!(
                    mark::read(&RecordRef {
                        key: Some(&other_key),
                        ..record
                    }),
                    Reading::Corrupt(_)
                ));
            }
        }
    }
}

#[test]
fn foreign_values_are_foreign_and_never_a_panic() {
    let foreign: [&[u8]; 10] = [
        b"",
        b"{}",
        br#"{"stream":"#,
        br#"{"stream":"orders/7/0","sequence":"#,
        br#"{"stream":"orders/7/0","sequence":99999999999999999999,"#,
        br#"{"stream":"fish/7/0","sequence":1,"checksum":"00000000"}"#,
        br#"{"stream":"orders/7/0/1","sequence":1,"checksum":"00000000"}"#,
        &[0, 0, 0, 0, 1],
        &[0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        &[0, 0, 0, 0, 1, 2, 65],
    ];
    for value in foreign {
        let record = RecordRef {
            timestamp: -1,
            key: None,
            value: Some(value),
            headers: culvert_proto::record::Headers::NONE,
        };
        assert_eq!(mark::read(&record), Reading::Foreign, "{}", value.escape_ascii());
    }
}

fn config(settings: &[(&str, &str)]) -> Result<GeneratorConfig, Vec<crate::connector::Mistake>> {
    let map = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    GeneratorConfig::from_map("test", &map)
}

#[test]
fn every_mistake_of_a_configuration_is_reported_with_what_would_be_valid() {
    let mistakes = config(&[
        ("partitions", "0"),
        ("kind", "fish"),
        ("rate", "-1"),
        ("faults", "1.5"),
        ("format", "xml"),
        ("cuont", "5"),
        ("tasks.max", "2"),
        ("errors.tolerance", "all"),
    ])
    .unwrap_err();
    let keys: Vec<&str> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "format",
            "kind",
            "faults",
            "partitions",
            "rate",
            "tasks.max",
            "cuont"
        ]
    );
    assert_eq!(mistakes[6].hint.as_deref(), Some("did you mean count?"));
    assert!(
        mistakes.iter().all(|mistake| mistake.hint.is_some()),
        "{mistakes:?}"
    );
}

/// Takes down what a source reports.
#[derive(Default)]
struct Heard {
    streams: Vec<(Slot, StreamId)>,
    placed: Vec<(Slot, Sequence, Guard)>,
    records: Vec<(Slot, Sequence, Vec<u8>, u32)>,
    advanced: BTreeMap<u32, u64>,
    halted: Vec<(Slot, Halt)>,
}

impl Intake for Heard {
    fn assigned(&mut self, slot: Slot, stream: StreamId, committed: Option<Sequence>) {
        assert_eq!(committed, None);
        self.streams.push((slot, stream));
    }
    fn revoked(&mut self, slot: Slot) {
        panic!("a generator keeps its streams, and {slot:?} was revoked");
    }
    fn placed(&mut self, slot: Slot, at: Sequence, guard: Guard) {
        self.placed.push((slot, at, guard));
    }
    fn record(&mut self, slot: Slot, sequence: Sequence, epoch: i32, record: &RecordRef<'_>) {
        assert_eq!(epoch, -1);
        self.records
            .push((slot, sequence, record.value.unwrap().to_vec(), record.crc32c()));
    }
    fn advanced(&mut self, slot: Slot, to: Sequence, _: i32) {
        self.advanced.insert(slot.0, to.0);
    }
    fn halted(&mut self, slot: Slot, halt: Halt) {
        self.halted.push((slot, halt));
    }
}

const NOW: Duration = Duration::ZERO;

fn source(settings: &[(&str, &str)]) -> (GeneratorSource, Heard) {
    let mut source = GeneratorSource::new(&config(settings).unwrap(), "site1".into());
    let mut heard = Heard::default();
    source.poll(NOW, &mut heard).unwrap();
    (source, heard)
}

#[test]
fn nothing_is_read_before_a_place_is_given_and_all_of_it_after() {
    let (mut source, mut heard) = source(&[("partitions", "3"), ("count", "700")]);
    source.poll(NOW, &mut heard).unwrap();
    assert_eq!((heard.streams.len(), heard.records.len()), (3, 0));
    (0..3).for_each(|slot| source.seek(Slot(slot), Place::Earliest).unwrap());
    (0..10).for_each(|_| source.poll(NOW, &mut heard).unwrap());
    for slot in 0..3 {
        let sequences = heard.records.iter().filter(|r| r.0 == Slot(slot)).map(|r| r.1.0);
        assert!(sequences.eq(0..700), "slot {slot}");
        assert_eq!(heard.advanced[&slot], 700);
    }
    source.poll(NOW, &mut heard).unwrap();
    assert_eq!(heard.records.len(), 2_100, "it ends quietly");
}

#[test]
fn a_seek_to_any_place_reads_the_same_records_again_and_knows_the_one_before() {
    let (mut source, mut heard) = source(&[("count", "50"), ("kind", "sensors")]);
    source.seek(Slot(0), Place::Earliest).unwrap();
    source.poll(NOW, &mut heard).unwrap();
    let first = std::mem::take(&mut heard.records);
    for at in (0..=50u64).rev() {
        let guard = match at {
            0 => Guard::NONE,
            _ => Guard {
                epoch: -1,
                crc: first[usize::try_from(at).unwrap() - 1].3,
            },
        };
        source
            .seek(
                Slot(0),
                Place::At {
                    at: Sequence(at),
                    guard,
                },
            )
            .unwrap();
        source.poll(NOW, &mut heard).unwrap();
        assert_eq!(heard.placed.pop(), Some((Slot(0), Sequence(at), guard)));
        assert_eq!(heard.records, first[usize::try_from(at).unwrap()..]);
        heard.records.clear();
    }
    assert!(heard.halted.is_empty());
}

#[test]
fn the_reader_makes_what_the_source_made() {
    let settings = [("count", "50"), ("partitions", "2"), ("kind", "clicks")];
    let (mut source, mut heard) = source(&settings);
    source.seek(Slot(1), Place::Earliest).unwrap();
    source.poll(NOW, &mut heard).unwrap();
    let mut reader = GeneratorReader::new(config(&settings).unwrap());
    for (from, to, stop_after) in [
        (0, None, 50),
        (10, Some(30), 50),
        (49, Some(99), 50),
        (5, None, 3),
    ] {
        let mut read = Vec::new();
        reader
            .read(
                "clicks",
                1,
                Sequence(from),
                to.map(Sequence),
                &mut |sequence, record| {
                    read.push((Slot(1), sequence, record.value.unwrap().to_vec(), record.crc32c()));
                    if read.len() == stop_after {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            )
            .unwrap();
        let made = heard
            .records
            .iter()
            .filter(|r| r.1.0 >= from && r.1.0 < to.unwrap_or(50))
            .take(stop_after);
        assert!(read.iter().eq(made), "{from} {to:?}");
    }
    assert!(
        reader
            .read("clicks", 2, Sequence(0), None, &mut |_, _| ControlFlow::Continue(
                ()
            ))
            .is_err()
    );
}

#[test]
fn a_place_that_is_not_there_halts_that_stream_alone() {
    let (mut source, mut heard) = source(&[("count", "10"), ("partitions", "3")]);
    source
        .seek(
            Slot(0),
            Place::At {
                at: Sequence(11),
                guard: Guard::NONE,
            },
        )
        .unwrap();
    source
        .seek(
            Slot(1),
            Place::At {
                at: Sequence(4),
                guard: Guard { epoch: -1, crc: 1 },
            },
        )
        .unwrap();
    source.seek(Slot(2), Place::Earliest).unwrap();
    source.poll(NOW, &mut heard).unwrap();
    let halts: Vec<_> = heard
        .halted
        .iter()
        .map(|(slot, halt)| (slot.0, halt.code))
        .collect();
    assert_eq!(halts, [(0, PLACE_GONE), (1, HISTORY_CHANGED)]);
    assert_eq!(heard.records.len(), 10);
    source.seek(Slot(0), Place::Latest).unwrap();
    source.poll(NOW, &mut heard).unwrap();
    assert_eq!(
        (heard.records.len(), heard.placed.last().unwrap().1),
        (10, Sequence(10)),
        "placed again at the end"
    );
}

#[test]
fn a_paused_stream_stands_still_and_goes_on_where_it_was() {
    let (mut source, mut heard) = source(&[("partitions", "2")]);
    source.seek(Slot(0), Place::Earliest).unwrap();
    source.seek(Slot(1), Place::Earliest).unwrap();
    source.pause(Slot(0)).unwrap();
    source.poll(NOW, &mut heard).unwrap();
    assert!(!heard.records.is_empty() && heard.records.iter().all(|r| r.0 == Slot(1)));
    source.resume(Slot(0)).unwrap();
    source.poll(NOW, &mut heard).unwrap();
    assert_eq!(
        heard.records.iter().find(|r| r.0 == Slot(0)).unwrap().1,
        Sequence(0)
    );
}

#[test]
fn another_recipe_or_name_is_another_stream() {
    let lineage = |settings: &[(&str, &str)], name: &str| {
        let map = settings
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let config = GeneratorConfig::from_map(name, &map).unwrap();
        let mut heard = Heard::default();
        GeneratorSource::new(&config, "site1".into())
            .poll(NOW, &mut heard)
            .unwrap();
        heard.streams[0].1.lineage_hex()
    };
    let base = lineage(&[("topic", "t")], "a");
    assert_eq!(
        lineage(&[("topic", "t"), ("count", "5"), ("rate", "3")], "a"),
        base
    );
    let others: [(&[(&str, &str)], &str); 5] = [
        (&[("seed", "2")], "a"),
        (&[("kind", "clicks")], "a"),
        (&[("format", "avro")], "a"),
        (&[("faults", "0.1")], "a"),
        (&[], "b"),
    ];
    for (settings, name) in others {
        assert_ne!(lineage(settings, name), base, "{settings:?} {name}");
    }
}

#[test]
fn the_rate_is_held_over_all_partitions() {
    let (mut source, mut heard) = source(&[("partitions", "4"), ("rate", "2000")]);
    (0..4).for_each(|slot| source.seek(Slot(slot), Place::Earliest).unwrap());
    let began = Instant::now();
    while heard.records.len() < 200 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{} records",
            heard.records.len()
        );
        source.poll(Duration::from_millis(50), &mut heard).unwrap();
    }
    // 200 records at 2000/s are due after 99.5 ms; the machine may be slow, and never fast.
    assert!(
        began.elapsed() >= Duration::from_millis(90),
        "{:?}",
        began.elapsed()
    );
    assert!(
        (0..4).all(|slot| heard.advanced.contains_key(&slot)),
        "{:?}",
        heard.advanced
    );
}
