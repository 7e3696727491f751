//! The codec beside the crate prost-reflect, natively: bytes to JSON and back, of an ordinary order.

#![allow(missing_docs, reason = "made by criterion's macros")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use culvert_plugin::codec::{Codec, Schema};
use culvert_plugin::testing::settings;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use protobuf::{Protobuf, Settings};
use std::hint::black_box;

const ORDER: &str = r#"syntax = "proto3"; package shop;
    message Order {
        string order_id = 1; string customer_id = 2; int64 placed_ms = 3; repeated Item items = 4; State state = 5;
        map<string, string> tags = 6; int64 total_cents = 7; string currency = 8;
        message Item { string sku = 1; int32 quantity = 2; double price = 3; }
    }
    enum State { NEW = 0; PAID = 1; SENT = 2; }"#;

const VALUE: &str = r#"{"orderId":"o-4711-0815","customerId":"c-99817","placedMs":"1700000000123",
    "items":[{"sku":"quattro formaggi","quantity":2,"price":11.9},{"sku":"lemonade","quantity":1,"price":3.5},
        {"sku":"tiramisu","quantity":3,"price":5.9}],
    "state":"PAID","tags":{"source":"app","region":"eu-central"},"totalCents":"4500","currency":"EUR"}"#;

fn benches(criterion: &mut Criterion) {
    let mut codec =
        Protobuf::open(settings::<Settings>([]).expect("the defaults are right")).expect("it opens");
    let schema = Schema {
        id: 1,
        subject: String::new(),
        version: 1,
        text: ORDER.to_owned(),
        references: Vec::new(),
        attributes: Vec::new(),
    };
    let schema = codec.prepare(&schema).expect("a schema");
    let mut bytes = Vec::new();
    codec
        .from_json(&schema, VALUE.as_bytes(), &mut bytes)
        .expect("an order");
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(protox_parse::parse("order.proto", ORDER).expect("a schema"))
        .expect("a schema");
    let theirs = pool.get_message_by_name("shop.Order").expect("an order");

    let mut group = criterion.benchmark_group("protobuf");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = Vec::new();
    group.bench_function("to-json/this", |bencher| {
        bencher.iter(|| {
            out.clear();
            codec
                .to_json(&schema, &schema, black_box(&bytes), &mut out)
                .expect("an order");
        });
    });
    group.bench_function("to-json/prost-reflect", |bencher| {
        bencher.iter(|| {
            let message =
                DynamicMessage::decode(theirs.clone(), black_box(bytes.as_slice())).expect("an order");
            serde_json::to_vec(&message).expect("JSON")
        });
    });
    group.bench_function("from-json/this", |bencher| {
        bencher.iter(|| {
            out.clear();
            codec
                .from_json(&schema, black_box(VALUE.as_bytes()), &mut out)
                .expect("an order");
        });
    });
    group.bench_function("from-json/prost-reflect", |bencher| {
        bencher.iter(|| {
            let mut json = serde_json::Deserializer::from_str(black_box(VALUE));
            let message = DynamicMessage::deserialize(theirs.clone(), &mut json).expect("an order");
            message.encode_to_vec()
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
