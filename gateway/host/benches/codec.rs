//! The bundled `avro` in the host beside the crate apache-avro called natively: 500 ordinary orders a batch, as a frame
//! holds them, from bytes to JSON in one call, and by way of values.
//!
//! `apache-avro` reads a `Value` and gives it to serde_json, as a program without this codec would. Figures are of one
//! batch.

#![allow(missing_docs, reason = "made by criterion's macros")]

use apache_avro::reader::datum::GenericDatumReader;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use culvert_host::{Codec, Engine, Limits, Line, LogSink, Options, Payloads, Schema, Surroundings};
use std::hint::black_box;
use std::sync::Arc;

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"order_id","type":"string"},{"name":"customer_id","type":["null","string"],"default":null},
    {"name":"placed_ms","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
        {"name":"sku","type":"string"},{"name":"quantity","type":"int"},{"name":"price","type":"double"}]}}},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID","SENT"]}},
    {"name":"tags","type":{"type":"map","values":"string"}},
    {"name":"total_cents","type":"long"},{"name":"currency","type":"string"}]}"#;

/// How many orders a batch has: as many as a frame.
const COUNT: u64 = 500;

struct NoLog;

impl LogSink for NoLog {
    fn line(&self, _: &Line<'_>) {}
}

fn order(number: u64) -> String {
    format!(
        "{{\"order_id\":\"o-4711-{number}\",\"customer_id\":\"c-{}\",\"placed_ms\":{},\"items\":[\
         {{\"sku\":\"quattro formaggi\",\"quantity\":2,\"price\":11.9}},{{\"sku\":\"lemonade\",\"quantity\":1,\"price\":3.5}},\
         {{\"sku\":\"tiramisu\",\"quantity\":3,\"price\":5.9}}],\"state\":\"PAID\",\
         \"tags\":{{\"source\":\"app\",\"region\":\"eu-central\"}},\"total_cents\":{},\"currency\":\"EUR\"}}",
        number * 37,
        1_700_000_000_123 + number,
        4_500 + number
    )
}

fn benches(criterion: &mut Criterion) {
    let path = format!("{}/../../target/plugins/avro.wasm", env!("CARGO_MANIFEST_DIR"));
    let bytes =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}; run `cargo xtask plugins`"));
    let engine = Engine::new(Options::default()).expect("an engine starts");
    let plugin = engine.load(&bytes).expect("avro loads");
    let mut codec = Codec::open(
        &plugin,
        &[],
        Limits::default(),
        Surroundings::new(Arc::new(NoLog)),
    )
    .expect("avro opens");
    let schema = Schema {
        text: ORDER.into(),
        ..Schema::default()
    };
    let schema = codec.prepare(schema).expect("avro works").expect("a schema");
    let mut json = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        json.1.extend_from_slice(order(number).as_bytes());
        json.0.push(u32::try_from(json.1.len()).expect("little"));
    }
    let made = codec
        .from_json(
            schema,
            Payloads {
                ends: &json.0,
                bytes: &json.1,
            },
        )
        .expect("avro works");
    assert!(made.rejections.is_empty());
    let payloads = Payloads {
        ends: &made.ends,
        bytes: &made.bytes,
    };
    let each = |each: &mut dyn FnMut(&[u8])| {
        let mut start = 0;
        for end in &made.ends {
            each(&made.bytes[start..*end as usize]);
            start = *end as usize;
        }
    };

    let theirs = apache_avro::Schema::parse_str(ORDER).expect("a schema");
    let reader = GenericDatumReader::builder(&theirs).build().expect("a reader");

    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(COUNT));
    group.bench_function("to-json/avro in the host", |bencher| {
        bencher.iter(|| {
            codec
                .to_json(schema, schema, black_box(payloads))
                .expect("avro works")
        });
    });
    group.bench_function("to-json/native apache-avro", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::new();
            each(&mut |mut payload| {
                let value = reader.read_value(&mut payload).expect("an order");
                let json = serde_json::Value::try_from(value).expect("JSON");
                serde_json::to_writer(&mut out, &json).expect("memory takes it");
            });
            black_box(out)
        });
    });
    group.bench_function("values/avro in the host", |bencher| {
        bencher.iter(|| {
            codec
                .decode(schema, schema, black_box(payloads))
                .expect("avro works")
        });
    });
    group.bench_function("values/native apache-avro", |bencher| {
        bencher.iter(|| {
            let mut values = Vec::new();
            each(&mut |mut payload| values.push(reader.read_value(&mut payload).expect("an order")));
            black_box(values)
        });
    });
    group.bench_function("from-json/avro in the host", |bencher| {
        let payloads = Payloads {
            ends: &json.0,
            bytes: &json.1,
        };
        bencher.iter(|| codec.from_json(schema, black_box(payloads)).expect("avro works"));
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
