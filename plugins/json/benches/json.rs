//! The codec beside serde_json, natively: an ordinary order, checked and passed through, beside one that is only parsed
//! and written again.

#![allow(missing_docs, reason = "made by criterion's macros")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use culvert_plugin::codec::{Codec, Schema};
use culvert_plugin::testing::settings;
use json::{JsonCodec, Settings};
use std::hint::black_box;

const SCHEMA: &str = r#"{"type":"object","required":["order_id","items"],"additionalProperties":false,"properties":{
    "order_id":{"type":"string","minLength":1},"customer_id":{"type":["string","null"]},"placed_ms":{"type":"integer"},
    "items":{"type":"array","items":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"},
        "quantity":{"type":"integer","minimum":1},"price":{"type":"number"}}}},
    "state":{"enum":["NEW","PAID","SENT"]},"total_cents":{"type":"integer"},"currency":{"type":"string","maxLength":3}}}"#;

const VALUE: &str = r#"{"order_id":"o-4711-0815","customer_id":"c-99817","placed_ms":1700000000123,"items":[{"sku":"quattro formaggi","quantity":2,"price":11.9},{"sku":"lemonade","quantity":1,"price":3.5},{"sku":"tiramisu","quantity":3,"price":5.9}],"state":"PAID","total_cents":4500,"currency":"EUR"}"#;

fn benches(criterion: &mut Criterion) {
    let mut codec =
        JsonCodec::open(settings::<Settings>([]).expect("the defaults are right")).expect("it opens");
    let schema = Schema {
        id: 1,
        subject: String::new(),
        version: 1,
        text: SCHEMA.to_owned(),
        references: Vec::new(),
        attributes: Vec::new(),
    };
    let schema = codec.prepare(&schema).expect("a schema");
    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Bytes(VALUE.len() as u64));
    let mut out = Vec::new();
    group.bench_function("to-json/this", |bencher| {
        bencher.iter(|| {
            out.clear();
            codec
                .to_json(&schema, &schema, black_box(VALUE.as_bytes()), &mut out)
                .expect("an order");
        });
    });
    group.bench_function("to-json/serde_json-unchecked", |bencher| {
        bencher.iter(|| {
            let value: serde_json::Value = serde_json::from_str(black_box(VALUE)).expect("JSON");
            serde_json::to_vec(&value).expect("JSON")
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
