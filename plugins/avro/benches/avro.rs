//! The codec beside the crate apache-avro, natively: bytes to JSON, to values and back, of an ordinary order.
//!
//! Each figure is of one payload. `apache-avro` reads a `Value` and gives it to serde_json, as a program without this
//! codec would.

#![allow(missing_docs, reason = "made by criterion's macros")]

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use avro::{Avro, Settings};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use culvert_plugin::codec::{Codec, Schema};
use culvert_plugin::testing::settings;
use std::hint::black_box;

const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"order_id","type":"string"},{"name":"customer_id","type":["null","string"],"default":null},
    {"name":"placed_ms","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
        {"name":"sku","type":"string"},{"name":"quantity","type":"int"},{"name":"price","type":"double"}]}}},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID","SENT"]}},
    {"name":"tags","type":{"type":"map","values":"string"}},
    {"name":"total_cents","type":"long"},{"name":"currency","type":"string"}]}"#;

/// A later version: a field more, one fewer, one promoted, another order.
const LATER: &str = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
    {"name":"customer_id","type":["null","string"],"default":null},{"name":"order_id","type":"string"},
    {"name":"placed_ms","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"items","type":{"type":"array","items":{"type":"record","name":"Item","fields":[
        {"name":"sku","type":"string"},{"name":"quantity","type":"long"},{"name":"price","type":"double"}]}}},
    {"name":"state","type":{"type":"enum","name":"State","symbols":["NEW","PAID","SENT"]}},
    {"name":"total_cents","type":"long"},{"name":"currency","type":"string"},
    {"name":"channel","type":"string","default":"web"}]}"#;

const VALUE: &str = r#"{"order_id":"o-4711-0815","customer_id":"c-99817","placed_ms":1700000000123,
    "items":[{"sku":"quattro formaggi","quantity":2,"price":11.9},{"sku":"lemonade","quantity":1,"price":3.5},
        {"sku":"tiramisu","quantity":3,"price":5.9}],
    "state":"PAID","tags":{"source":"app","region":"eu-central"},"total_cents":4500,"currency":"EUR"}"#;

fn named(text: &str) -> Schema {
    Schema {
        id: 1,
        subject: String::new(),
        version: 1,
        text: text.to_owned(),
        references: Vec::new(),
        attributes: Vec::new(),
    }
}

fn benches(criterion: &mut Criterion) {
    let settings = settings::<Settings>([]).expect("the defaults are right");
    let mut codec = Avro::open(settings).expect("it opens");
    let order = codec.prepare(&named(ORDER)).expect("a schema");
    let later = codec.prepare(&named(LATER)).expect("a schema");
    let mut bytes = Vec::new();
    codec
        .from_json(&order, VALUE.as_bytes(), &mut bytes)
        .expect("an order");
    let tree = codec.decode(&order, &order, &bytes).expect("an order");

    let theirs = apache_avro::Schema::parse_str(ORDER).expect("a schema");
    let theirs_later = apache_avro::Schema::parse_str(LATER).expect("a schema");
    let read = GenericDatumReader::builder(&theirs).build().expect("a reader");
    let read_later = GenericDatumReader::builder(&theirs)
        .reader_schema(&theirs_later)
        .build()
        .expect("a reader");
    let write = GenericDatumWriter::builder(&theirs).build().expect("a writer");
    let as_json = |value| serde_json::Value::try_from(value).expect("JSON");

    let mut group = criterion.benchmark_group("avro");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = Vec::new();
    group.bench_function("to-json/this", |bencher| {
        bencher.iter(|| {
            out.clear();
            codec
                .to_json(&order, &order, black_box(&bytes), &mut out)
                .expect("an order");
        });
    });
    group.bench_function("to-json/apache-avro", |bencher| {
        bencher.iter(|| {
            let value = read
                .read_value(&mut black_box(bytes.as_slice()))
                .expect("an order");
            serde_json::to_vec(&as_json(value)).expect("JSON")
        });
    });
    group.bench_function("to-json-resolved/this", |bencher| {
        bencher.iter(|| {
            out.clear();
            codec
                .to_json(&order, &later, black_box(&bytes), &mut out)
                .expect("an order");
        });
    });
    group.bench_function("to-json-resolved/apache-avro", |bencher| {
        bencher.iter(|| {
            let value = read_later
                .read_value(&mut black_box(bytes.as_slice()))
                .expect("an order");
            serde_json::to_vec(&as_json(value)).expect("JSON")
        });
    });
    group.bench_function("decode/this", |bencher| {
        bencher.iter(|| codec.decode(&order, &order, black_box(&bytes)).expect("an order"));
    });
    group.bench_function("decode/apache-avro", |bencher| {
        bencher.iter(|| {
            read.read_value(&mut black_box(bytes.as_slice()))
                .expect("an order")
        });
    });
    group.bench_function("from-json/this", |bencher| {
        bencher.iter(|| {
            out.clear();
            codec
                .from_json(&order, black_box(VALUE.as_bytes()), &mut out)
                .expect("an order");
        });
    });
    let value = read.read_value(&mut bytes.as_slice()).expect("an order");
    group.bench_function("encode/this", |bencher| {
        bencher.iter(|| {
            out.clear();
            codec
                .encode(&order, black_box(&tree), &mut out)
                .expect("an order");
        });
    });
    group.bench_function("encode/apache-avro", |bencher| {
        bencher.iter(|| {
            out.clear();
            write
                .write_value_ref(&mut out, black_box(&value))
                .expect("an order");
        });
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
