use super::*;
use crate::codec::registry::tests::{Server, error};
use crate::outbox::{EngineKind, Options};
use culvert_proto::record::Headers;
use culvert_proto::{Lineage, Sequence};
use serde_json::json;
use std::path::Path;

pub(super) fn stream() -> StreamId {
    StreamId {
        site: "a".into(),
        topic: "orders".into(),
        partition: 0,
        lineage: Lineage::Replayable {
            cluster: "k".into(),
            topic: [9; 16],
        },
    }
}

pub(super) fn outbox(path: &Path) -> Outbox {
    let mut options = Options::new(path);
    options.engine = EngineKind::Log;
    Outbox::open(&options).unwrap()
}

pub(super) fn converters(server: &Server, directory: &tempfile::TempDir, parts: &[Part]) -> Vec<Converter> {
    let registry = Arc::new(server.client(directory));
    let converter = |part: &Part| Converter {
        part: *part,
        kind: Kind::Avro,
        registry: registry.clone(),
        subjects: Subjects::Topic,
        registers: true,
    };
    parts.iter().map(converter).collect()
}

/// Key and value.
pub(super) type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

pub(super) fn batch(records: &[Pair<'_>]) -> Columns {
    let mut batch = Columns::begin(Sequence(0));
    for (at, (key, value)) in (0..).zip(records) {
        let record = RecordRef {
            timestamp: 1,
            key: *key,
            value: *value,
            headers: Headers::NONE,
        };
        batch.push(Sequence(at), &record).unwrap();
    }
    batch
}

/// What became of each: a word, or the code of its rejection.
pub(super) fn told(outcomes: &Outcomes) -> Vec<String> {
    use culvert_proto::columns::Outcome;
    let word = |outcome| match outcome {
        Outcome::Keep => "keep".to_owned(),
        Outcome::Value(value) => format!("value {}", value.escape_ascii()),
        Outcome::Drop => "drop".to_owned(),
        Outcome::Reject(rejection) => rejection.code.clone(),
        Outcome::Rewrite(made) => format!(
            "key {}",
            made[0].key.as_deref().unwrap_or_default().escape_ascii()
        ),
    };
    outcomes.iter().map(word).collect()
}

/// The origin's registry numbers a long 7 and a string 8; the sink's 70 and 8.
fn at_origin() -> Server {
    Server::start(|asked| match asked.line.as_str() {
        "GET /schemas/ids/7" => (200, json!({"schema": "\"long\""})),
        "GET /schemas/ids/8" => (200, json!({"schema": "\"string\""})),
        "GET /schemas/ids/9" => (200, json!({"schema": "{}", "schemaType": "JSON"})),
        _ => error(404, 40_403),
    })
}

fn at_sink() -> Server {
    Server::start(|asked| match asked.body.contains("long") {
        true if asked.line == "POST /subjects/plant-orders-value" => (200, json!({"version": 1, "id": 70})),
        false if asked.line == "POST /subjects/plant-orders-key" => (200, json!({"version": 1, "id": 88})),
        _ => error(409, 409),
    })
}

fn renumberer(converters: Vec<Converter>, named: &[Named]) -> Renumberer {
    let mut renumberer = Renumberer::new(converters, Arc::new(|topic| format!("plant-{topic}")));
    renumberer.named(named);
    renumberer
}

#[test]
fn the_schemas_of_records_are_named_and_held_before_their_frames() {
    let (server, directory) = (at_origin(), tempfile::tempdir().unwrap());
    let path = directory.path().join("outbox");
    let ledger = Arc::new(Ledger::open(outbox(&path)));
    let mut tagger = Tagger::new(converters(&server, &directory, &[Part::Value]), ledger.clone());
    let records = batch(&[
        (None, Some(b"\0\0\0\0\x07\x02")),
        (None, None),
        (None, Some(b"\0\0\0\0\x63\x02")),
        (None, Some(b"{\"a\":1}")),
        (None, Some(b"\0\0\0\0\x09{}")),
        (None, Some(b"\0\0\0\0\x08\x02a")),
    ]);
    let outcomes = tagger.process(&stream(), "orders", &records).unwrap();
    assert_eq!(
        told(&outcomes),
        [
            "keep",
            "keep",
            "schema-unknown",
            "bad-framing",
            "schema-invalid",
            "keep"
        ]
    );
    let named: Vec<Vec<Fingerprint>> = records
        .iter()
        .map(|(_, record)| {
            let mut named = Vec::new();
            tagger.schemas_of(&record, &mut named);
            named
        })
        .collect();
    let counts: Vec<usize> = named.iter().map(Vec::len).collect();
    assert_eq!(counts, [1, 0, 0, 0, 0, 1]);
    let texts = |ledger: &Ledger| -> Vec<String> {
        let all = ledger.all(&[named[0][0], named[5][0]]);
        all.iter()
            .map(|(_, schema)| schema.root().unwrap().text.clone())
            .collect()
    };
    assert_eq!(texts(&ledger), ["\"long\"", "\"string\""]);
    // Also in the next life of the gateway.
    ledger.outbox.sync().unwrap();
    drop((tagger, ledger));
    let next = wait(|| {
        let mut options = Options::new(&path);
        options.engine = EngineKind::Log;
        Outbox::open(&options).ok()
    });
    assert_eq!(texts(&Ledger::open(next)), ["\"long\"", "\"string\""]);
}

/// The outbox lets go of its lock a moment after its last handle.
fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "it does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_registry_that_is_away_is_waited_for_at_both_ends() {
    let (server, directory) = (at_origin(), tempfile::tempdir().unwrap());
    server.goes_away();
    let ledger = Arc::new(Ledger::open(outbox(&directory.path().join("outbox"))));
    let mut tagger = Tagger::new(converters(&server, &directory, &[Part::Value]), ledger);
    let records = batch(&[(None, Some(b"\0\0\0\0\x07\x02"))]);
    let check = |stage: &mut dyn Stage| {
        let fault = stage.process(&stream(), "orders", &records).unwrap_err();
        let StageFault::Retry { reason, .. } = fault else {
            panic!("{fault}");
        };
        assert!(reason.contains("CULVERT-R001"), "{reason}");
    };
    check(&mut tagger);
    let long = Arc::new(crate::codec::registry::tests::schema(7, "\"long\""));
    let sink = converters(&server, &directory, &[Part::Value]);
    check(&mut renumberer(sink, &[([1; 32], long)]));
}

#[test]
fn records_get_the_numbers_of_the_sinks_registry() {
    let (server, directory) = (at_sink(), tempfile::tempdir().unwrap());
    let long = Arc::new(crate::codec::registry::tests::schema(7, "\"long\""));
    let mut text = crate::codec::registry::tests::schema(8, "\"string\"");
    text.part = Part::Key;
    let named = [([1; 32], long), ([2; 32], Arc::new(text))];
    let both = converters(&server, &directory, &[Part::Key, Part::Value]);
    let mut renumberer = renumberer(both, &named);
    let records = batch(&[
        (None, Some(b"\0\0\0\0\x07\x02")),
        (Some(b"\0\0\0\0\x08\x02k"), None),
        (None, Some(b"\0\0\0\0\x63\x02")),
        (None, None),
    ]);
    let outcomes = renumberer.process(&stream(), "orders", &records).unwrap();
    assert_eq!(
        told(&outcomes),
        [
            r"value \x00\x00\x00\x00F\x02",
            r"key \x00\x00\x00\x00X\x02k",
            "schema-unknown",
            "keep"
        ]
    );
    assert_eq!(server.lines().len(), 2);
    renumberer.process(&stream(), "orders", &records).unwrap();
    assert_eq!(server.lines().len(), 2, "each schema is asked for once");
}

#[test]
fn a_schema_that_its_subject_does_not_take_stops_its_stream_alone() {
    let (server, directory) = (at_sink(), tempfile::tempdir().unwrap());
    let text = Arc::new(crate::codec::registry::tests::schema(7, "\"string\""));
    let mut renumberer = renumberer(
        converters(&server, &directory, &[Part::Value]),
        &[([1; 32], text)],
    );
    let records = batch(&[(None, Some(b"\0\0\0\0\x07\x02"))]);
    let fault = renumberer.process(&stream(), "orders", &records).unwrap_err();
    let StageFault::Stream { code, reason } = fault else {
        panic!("{fault}");
    };
    assert_eq!(code, "CULVERT-R003");
    assert!(
        reason.contains("plant-orders-value") && reason.contains("because"),
        "{reason}"
    );
}

/// A frame's reader waits for its schema while the message with it comes in on another thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_schema_holds_up_none_that_comes() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::open(outbox(&directory.path().join("outbox"))));
    let schemas: Vec<Schema> = (0..2_000)
        .map(|id| Schema {
            kind: Kind::Avro,
            part: Part::Value,
            id,
            pieces: vec![culvert_proto::schema::Piece {
                text: "\"long\"".into(),
                ..culvert_proto::schema::Piece::default()
            }],
        })
        .collect();
    let named: Vec<Fingerprint> = schemas
        .iter()
        .map(|schema| fingerprint_of(&schema.encode().unwrap()))
        .collect();
    let comes = ledger.clone();
    let coming = std::thread::spawn(move || {
        for schema in schemas {
            comes.put(schema).unwrap();
        }
    });
    for name in named {
        assert!(ledger.holds(&[name]).await);
    }
    coming.join().unwrap();
    ledger.outbox.synced().await.unwrap();
}
