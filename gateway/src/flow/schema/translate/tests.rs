//! Decoder and encoder with a codec whose JSON is easily read: a text in quotes. The bundled ones are met in the suite.

use super::*;
use crate::codec::registry::tests::{Server, error, schema};
use crate::flow::schema::Converter;
use crate::flow::schema::tests::{batch, converters, outbox, stream, told};
use crate::flow::stage::Chain;
use culvert_proto::schema::{Kind, Schema, renumbered};
use serde_json::json;

/// Calls that were made, with how many payloads.
type Calls = Arc<Mutex<Vec<(&'static str, usize)>>>;

struct Quotes {
    calls: Calls,
    shown: Vec<Shown>,
}

impl SchemaCodec for Quotes {
    fn prepare(&mut self, shown: &Shown) -> Result<Result<Prepared, Rejection>, StageFault> {
        if shown.schema.root().is_some_and(|root| root.text == "none") {
            return Ok(Err(rejection("schema-invalid")));
        }
        self.shown.push(shown.clone());
        Ok(Ok(self.shown.len() - 1))
    }

    fn decode(&mut self, _: Prepared, payloads: Payloads<'_>) -> Result<Converted, StageFault> {
        self.calls.lock().push(("to", payloads.ends.len()));
        Ok(converted(payloads, |payload| {
            let text = payload.strip_prefix(b"\0").map_or(payload, |rest| &rest[4..]);
            match text {
                b"broken" => Err(rejection("truncated")),
                text => Ok([b"\"", text, b"\""].concat()),
            }
        }))
    }

    fn encode(&mut self, schema: Prepared, payloads: Payloads<'_>) -> Result<Converted, StageFault> {
        self.calls.lock().push(("from", payloads.ends.len()));
        let id = self.shown[schema].id;
        Ok(converted(payloads, |payload| {
            let text = payload
                .strip_prefix(b"\"")
                .and_then(|rest| rest.strip_suffix(b"\""));
            let text = text.ok_or_else(|| Rejection {
                field: Some("/x".into()),
                ..rejection("wrong-type")
            })?;
            Ok(match id {
                0 => text.to_vec(),
                id => renumbered(text, id),
            })
        }))
    }
}

fn rejection(code: &str) -> Rejection {
    Rejection {
        code: code.into(),
        ..Rejection::default()
    }
}

fn converted(payloads: Payloads<'_>, convert: impl Fn(&[u8]) -> Result<Vec<u8>, Rejection>) -> Converted {
    let mut made = Converted::default();
    let mut start = 0;
    for (at, end) in (0..).zip(payloads.ends) {
        match convert(&payloads.bytes[start..*end as usize]) {
            Ok(bytes) => made.bytes.extend(bytes),
            Err(why) => made.rejections.push((at, why)),
        }
        made.ends.push(u32::try_from(made.bytes.len()).unwrap());
        start = *end as usize;
    }
    made
}

/// Does what a value says.
struct Obedient;

impl Stage for Obedient {
    fn name(&self) -> &'static str {
        "obedient"
    }

    fn process(&mut self, _: &StreamId, _: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let mut outcomes = Outcomes::default();
        for (_, record) in batch.iter() {
            let made = |value: &[u8]| culvert_proto::columns::Made {
                value: Some(value.to_vec()),
                ..Default::default()
            };
            match record.value {
                Some(b"\"change\"") => outcomes.value(b"\"changed\""),
                Some(b"\"unfit\"") => outcomes.value(b"17"),
                Some(b"\"drop\"") => outcomes.dropped(),
                Some(b"\"twice\"") => outcomes.rewrite(vec![made(b"\"one\""), made(b"\"two\"")]),
                None => outcomes.value(b"\"made\""),
                _ => outcomes.keep(),
            }
        }
        Ok(outcomes)
    }
}

struct Bench {
    calls: Calls,
    /// Kept as long as a client of it.
    _server: Server,
    directory: tempfile::TempDir,
    converter: Converter,
}

impl Bench {
    fn new(answer: impl Fn(&str) -> (u16, serde_json::Value) + Send + Sync + 'static) -> Bench {
        let server = Server::start(move |asked| answer(&asked.line));
        let directory = tempfile::tempdir().unwrap();
        let converter = converters(&server, &directory, &[Part::Value]).remove(0);
        Bench {
            calls: Calls::default(),
            _server: server,
            directory,
            converter,
        }
    }

    fn translated(&self, schemas: Schemas, writes: Writes) -> Translated {
        let calls = self.calls.clone();
        Translated {
            part: Part::Value,
            schemas,
            writes,
            carried: Carried::Bytes,
            codec: Arc::new(move || {
                Ok(Box::new(Quotes {
                    calls: calls.clone(),
                    shown: Vec::new(),
                }))
            }),
        }
    }

    fn chain(&self, writes: Writes, end: &End) -> Chain {
        let schemas = Schemas::Registry(self.converter.clone());
        let (decoder, encoder) = pair(vec![self.translated(schemas, writes)], end).unwrap();
        let chain = Chain::new(vec![Box::new(Obedient)]);
        chain.behind(Box::new(decoder)).before(Box::new(encoder))
    }

    fn ledger(&self) -> Arc<Ledger> {
        Arc::new(Ledger::open(outbox(&self.directory.path().join("outbox"))))
    }
}

/// A text behind the number 7.
fn seven(text: &str) -> Vec<u8> {
    renumbered(text.as_bytes(), 7)
}

/// Values through a chain: what goes on, with its number, and what does not, with its code and field.
fn check(chain: &mut Chain, values: &[Option<&str>], expected: &[&str]) {
    let values: Vec<Option<Vec<u8>>> = values.iter().map(|value| value.map(seven)).collect();
    let records: Vec<_> = values.iter().map(|value| (None, value.as_deref())).collect();
    let records = batch(&records);
    let passed = chain.pass(&stream(), &records).unwrap();
    let word = |value: Option<&[u8]>| match value {
        None => "none".to_owned(),
        Some(bytes) => format!("{} {}", bytes[4], bytes[5..].escape_ascii()),
    };
    let mut told: Vec<(u64, String)> = passed
        .records
        .iter()
        .map(|(at, record)| (at.0, word(record.value)))
        .collect();
    told.extend(passed.refused.iter().map(|(at, refused)| {
        let Rejection { code, field, .. } = &refused.rejection;
        let field = field.as_deref().unwrap_or_default();
        (at.0, format!("{code} {field}").trim().to_owned())
    }));
    told.sort_by_key(|(at, _)| *at);
    let told: Vec<String> = told
        .into_iter()
        .map(|(at, told)| format!("{at}: {told}"))
        .collect();
    assert_eq!(told, expected);
}

const LONG: &str = "\"long\"";

fn at_origin(line: &str) -> (u16, serde_json::Value) {
    match line {
        "GET /schemas/ids/7" => (200, json!({ "schema": LONG })),
        "GET /subjects/other/versions/latest" => {
            (200, json!({"id": 9, "version": 2, "schema": "\"string\""}))
        }
        _ => error(404, 40_403),
    }
}

#[test]
fn stages_at_a_source_see_json_and_what_they_leave_alone_keeps_its_bytes() {
    let bench = Bench::new(at_origin);
    let mut chain = bench.chain(Writes::Own, &End::Source(bench.ledger()));
    check(
        &mut chain,
        &[
            Some("a"),
            Some("change"),
            Some("drop"),
            Some("twice"),
            Some("unfit"),
            Some("broken"),
        ],
        &[
            "0: 7 a",
            "1: 7 changed",
            "3: 7 one",
            "3: 7 two",
            "4: schema-mismatch /x",
            "5: truncated",
        ],
    );
    assert_eq!(*bench.calls.lock(), [("to", 6), ("from", 4)], "one call each way");
}

#[test]
fn a_value_that_was_made_of_none_needs_a_schema_that_is_named() {
    let bench = Bench::new(at_origin);
    let end = End::Source(bench.ledger());
    let mut own = bench.chain(Writes::Own, &end);
    check(&mut own, &[None, Some("a")], &["0: schema-mismatch", "1: 7 a"]);
    let mut other = bench.chain(Writes::Latest(Some("other".into())), &end);
    check(&mut other, &[None, Some("a")], &["0: 9 made", "1: 9 a"]);
}

#[test]
fn what_is_written_with_another_schema_names_it_in_its_frame() {
    let bench = Bench::new(at_origin);
    let ledger = bench.ledger();
    let mut chain = bench.chain(Writes::Latest(Some("other".into())), &End::Source(ledger.clone()));
    check(&mut chain, &[Some("a")], &["0: 9 a"]);
    let written = renumbered(b"a", 9);
    let records = batch(&[(None, Some(&written))]);
    let mut named = Vec::new();
    chain.schemas_of(&records.get(0).unwrap().1, &mut named);
    assert_eq!(named.len(), 1);
    assert_eq!(ledger.get(&named[0]).unwrap().id, 9);
}

#[test]
fn at_a_sink_every_record_gets_the_sinks_number() {
    let bench = Bench::new(|line| match line {
        "POST /subjects/plant-orders-value" => (200, json!({"version": 1, "id": 70})),
        _ => error(404, 40_403),
    });
    let end = End::Sink(Arc::new(|topic: &str| format!("plant-{topic}")));
    let mut chain = bench.chain(Writes::Own, &end);
    chain.named(&[([1; 32], Arc::new(schema(7, LONG)))]);
    check(
        &mut chain,
        &[Some("a"), Some("change")],
        &["0: 70 a", "1: 70 changed"],
    );
    chain.named(&[]);
    check(&mut chain, &[Some("a")], &["0: schema-unknown"]);
}

#[test]
fn a_schema_in_a_file_is_of_all_records_and_a_number_before_one_is_told() {
    let bench = Bench::new(at_origin);
    let of = |text: &str| {
        Schemas::One(
            Arc::new(Schema {
                id: 0,
                ..schema(0, text)
            }),
            Message::Any,
        )
    };
    let end = End::Source(bench.ledger());
    let mut checker = checker(vec![bench.translated(of(LONG), Writes::Own)], &end).unwrap();
    let framed = seven("broken");
    let records = batch(&[(None, Some(b"a")), (None, Some(b"broken")), (None, Some(&framed))]);
    let outcomes = checker.process(&stream(), "orders", &records).unwrap();
    assert_eq!(told(&outcomes), ["keep", "truncated", "truncated"]);
    let reasons: Vec<&str> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            culvert_proto::columns::Outcome::Reject(why) => Some(why.reason.as_str()),
            _ => None,
        })
        .collect();
    assert!(!reasons[0].contains("schema.registry.url") && reasons[1].contains("schema.registry.url"));
    let none = super::checker(vec![bench.translated(of("none"), Writes::Own)], &end);
    assert!(matches!(
        none.err(),
        Some(StageFault::Stop {
            code: "CULVERT-R008",
            ..
        })
    ));
}

#[test]
fn a_subject_without_schemas_stops_the_stream() {
    let bench = Bench::new(at_origin);
    let end = End::Source(bench.ledger());
    let mut chain = bench.chain(Writes::Latest(None), &end);
    let written = seven("a");
    let fault = chain
        .pass(&stream(), &batch(&[(None, Some(&written))]))
        .unwrap_err();
    let StageFault::Stream { code, reason } = fault else {
        panic!("{fault}");
    };
    assert_eq!(code, "CULVERT-R007");
    assert!(reason.contains("orders-value"), "{reason}");
}

/// A schema that no registry keeps: of a file, or without a text.
fn other(text: &str, file: &str) -> Schemas {
    let mut schema = Schema {
        id: 0,
        kind: Kind::Other,
        ..schema(0, text)
    };
    schema.pieces[0].subject = file.to_owned();
    Schemas::One(Arc::new(schema), Message::Any)
}

#[test]
fn a_codec_that_wants_a_schema_is_not_opened_without() {
    let bench = Bench::new(at_origin);
    let end = End::Source(bench.ledger());
    let opened = |file: &str| pair(vec![bench.translated(other("none", file), Writes::Own)], &end).err();
    let code = |fault: Option<StageFault>| match fault {
        Some(StageFault::Stop { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(opened("")), "CULVERT-R009");
    assert_eq!(code(opened("rows.txt")), "CULVERT-R008");
}

#[test]
fn where_json_crosses_the_source_only_decodes_and_the_sink_only_encodes() {
    let bench = Bench::new(at_origin);
    let carrying = |end: &End| {
        let translated = Translated {
            carried: Carried::Json,
            ..bench.translated(other("text", ""), Writes::Own)
        };
        let (decoder, encoder) = pair(vec![translated], end).unwrap();
        let chain = Chain::new(vec![Box::new(Obedient)]);
        chain.behind(Box::new(decoder)).before(Box::new(encoder))
    };
    let passed = |chain: &mut Chain, values: &[&[u8]]| -> Vec<String> {
        let records: Vec<_> = values.iter().map(|value| (None, Some(*value))).collect();
        let records = batch(&records);
        let passed = chain.pass(&stream(), &records).unwrap();
        let values = passed.records.iter().filter_map(|(_, record)| record.value);
        values.map(|value| value.escape_ascii().to_string()).collect()
    };
    let mut source = carrying(&End::Source(bench.ledger()));
    let carried = passed(&mut source, &[b"a", b"broken", b"change"]);
    assert_eq!(carried, [r#"\"a\""#, r#"\"changed\""#]);
    let mut sink = carrying(&End::Sink(Arc::new(str::to_owned)));
    let written = passed(&mut sink, &[b"\"a\"", b"\"change\"", b"17"]);
    assert_eq!(written, ["a", "changed"]);
    assert_eq!(*bench.calls.lock(), [("to", 3), ("from", 3)]);
}
