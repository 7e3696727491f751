//! A codec in the host: the bundled `avro` does its work there, and a payload at fault costs itself alone.

mod common;

use common::file;
use culvert_host::{
    Codec, Engine, Limits, Line, LogSink, OpenError, Options, Payloads, Plugin, Prepared, Schema,
    Surroundings,
};
use std::sync::{Arc, LazyLock};

const SCHEMA: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"long"},{"name":"note","type":"string"}]}"#;

const LATER: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"note","type":"string"},{"name":"id","type":"long"},{"name":"channel","type":"string","default":"web"}]}"#;

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(Options::default()).expect("an engine starts"));

static AVRO: LazyLock<Plugin> = LazyLock::new(|| plugin("avro"));

fn plugin(name: &str) -> Plugin {
    ENGINE.load(&file(name)).expect("a bundled plugin loads")
}

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &Line<'_>) {}
}

/// `avro` with Confluent's framing, in little memory.
fn open(settings: &[(&str, &str)]) -> Result<Codec, OpenError> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), Some((*value).to_owned()));
    let settings: Vec<(String, Option<String>)> = settings.iter().map(own).collect();
    let limits = Limits {
        memory_bytes_max: 8 << 20,
        ..Limits::default()
    };
    Codec::open(&AVRO, &settings, limits, Surroundings::new(Arc::new(NoLog)))
}

fn framed() -> Codec {
    open(&[("framing", "confluent")]).expect("avro opens")
}

fn schema(id: u32, text: &str) -> Schema {
    Schema {
        id,
        text: text.into(),
        ..Schema::default()
    }
}

fn prepared(codec: &mut Codec, schema: Schema) -> Prepared {
    let shown = codec.prepare(schema).expect("avro works");
    shown.expect("a schema")
}

/// Texts or bytes, side by side.
#[derive(Default)]
struct Many {
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Many {
    fn of<Item: AsRef<[u8]>>(items: &[Item]) -> Many {
        let mut many = Many::default();
        for item in items {
            many.bytes.extend_from_slice(item.as_ref());
            many.ends.push(u32::try_from(many.bytes.len()).expect("little"));
        }
        many
    }

    fn shown(&self) -> Payloads<'_> {
        Payloads {
            ends: &self.ends,
            bytes: &self.bytes,
        }
    }

    fn items(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let item = |(start, end): (&u32, &u32)| &self.bytes[*start as usize..*end as usize];
        starts.zip(&self.ends).map(item).collect()
    }
}

fn orders(count: usize) -> Vec<String> {
    let order = |id| format!("{{\"id\":{id},\"note\":\"n{id}\"}}");
    (0..count).map(order).collect()
}

fn encoded(codec: &mut Codec, schema: Prepared, orders: &[String]) -> Many {
    let made = codec
        .from_json(schema, Many::of(orders).shown())
        .expect("avro works");
    assert_eq!(made.rejections, []);
    Many {
        ends: made.ends,
        bytes: made.bytes,
    }
}

#[test]
fn bytes_become_json_and_json_becomes_bytes() {
    let mut codec = framed();
    let (written, read) = (
        prepared(&mut codec, schema(7, SCHEMA)),
        prepared(&mut codec, schema(9, LATER)),
    );
    let orders = orders(500);
    let bytes = encoded(&mut codec, written, &orders);
    assert!(
        bytes
            .items()
            .iter()
            .all(|bytes| bytes.starts_with(&[0, 0, 0, 0, 7]))
    );
    let json = codec
        .to_json(written, written, bytes.shown())
        .expect("avro works");
    assert_eq!(json.bytes, orders.concat().into_bytes());
    let as_later = codec.to_json(written, read, bytes.shown()).expect("avro works");
    assert!(
        as_later
            .bytes
            .starts_with(br#"{"note":"n0","id":0,"channel":"web"}"#)
    );
    let usage = codec.meter().usage();
    assert_eq!((usage.records, usage.traps), (1_500, 0), "{usage:?}");
}

#[test]
fn values_go_there_and_back() {
    let mut codec = framed();
    let order = prepared(&mut codec, schema(7, SCHEMA));
    let bytes = encoded(&mut codec, order, &orders(50));
    let trees = codec.decode(order, order, bytes.shown()).expect("avro works");
    let trees: Vec<_> = trees.into_iter().map(|tree| tree.expect("an order")).collect();
    let again = codec.encode(order, &trees).expect("avro works");
    let again: Vec<Vec<u8>> = again.into_iter().map(|bytes| bytes.expect("an order")).collect();
    assert_eq!(Many::of(&again).items(), bytes.items());
}

#[test]
fn the_same_schema_has_the_same_number_and_an_invalid_one_none() {
    let mut codec = framed();
    let first = prepared(&mut codec, schema(7, SCHEMA));
    let refused = codec.prepare(schema(8, "{")).expect("avro works");
    assert_eq!(refused.expect_err("no schema").code, "schema-invalid");
    assert_ne!(prepared(&mut codec, schema(8, SCHEMA)), first);
    assert_eq!(prepared(&mut codec, schema(7, SCHEMA)), first);
}

/// What the codec itself refuses leaves the others as they are, and so does what it cannot take: a payload that wants
/// more memory than there is costs instances, and every other payload is converted.
#[test]
fn payloads_at_fault_cost_themselves_alone() {
    let mut codec = framed();
    let order = prepared(&mut codec, schema(7, SCHEMA));
    let orders = orders(400);
    let bytes = encoded(&mut codec, order, &orders);
    let large = [&b"\0\0\0\0\x07\x02\x80\x80\x80\x04"[..], &vec![b'x'; 4 << 20]].concat();
    for at in [0, 137, 399] {
        let mut items = bytes.items();
        items[at] = &large;
        items[200] = b"\0\0\0\0\x08\x02\x02a";
        let json = codec
            .to_json(order, order, Many::of(&items).shown())
            .expect("the others are converted");
        let mut faults: Vec<(u32, &str)> = json
            .rejections
            .iter()
            .map(|(at, why)| (*at, why.code.as_str()))
            .collect();
        let mut expected = vec![
            (at.try_into().expect("little"), "plugin-memory"),
            (200, "schema-id-mismatch"),
        ];
        expected.sort_unstable();
        faults.sort_unstable();
        assert_eq!(faults, expected);
        let json = Many {
            ends: json.ends,
            bytes: json.bytes,
        };
        for (number, item) in json.items().into_iter().enumerate() {
            let is_at_fault = number == at || number == 200;
            let expected = if is_at_fault { "" } else { &orders[number] };
            assert_eq!(item, expected.as_bytes());
        }
    }
    assert!(codec.meter().usage().memory_faults > 3);
}

#[test]
fn what_is_no_codec_is_refused() {
    let transform = plugin("order-check");
    let opened = Codec::open(
        &transform,
        &[],
        Limits::default(),
        Surroundings::new(Arc::new(NoLog)),
    );
    let error = opened.err().expect("it is a transform").to_string();
    assert!(error.contains("culvert:plugin/codec is not exported"), "{error}");
    let error = open(&[("framing", "envelope")]).err().expect("no such framing");
    assert!(matches!(error, OpenError::Fatal(_)), "{error}");
}
