//! What plugins cost: a stage that keeps everything, one that works on JSON, loading one that is compiled, a fresh instance.
//!
//! `cargo xtask bench plugins` runs this beside `plugins/order-check/benches/native.rs`, which does the same work natively, and
//! makes the ratios. Plugins are those that `cargo xtask plugins` made; with `CULVERT_BENCH_PLUGINS` also those in that
//! folder, one for each language.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use culvert_host::{Engine, Limits, Line, LogSink, Options, Plugin, Stream, Surroundings, Transform};
use culvert_proto::Sequence;
use culvert_proto::columns::Columns;
use culvert_proto::record::{Headers, RecordRef};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const STREAM: Stream<'static> = Stream {
    id: "a/orders/0",
    topic: "orders",
    partition: 0,
};

/// Records of a batch. A frame has 500; the figure for JSON is asked for at 1,000.
const KEPT: u64 = 500;
const ORDERS: u64 = 1_000;

struct Silent;

impl LogSink for Silent {
    fn line(&self, _: &Line<'_>) {}
}

fn built() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/plugins"))
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins`", path.display()))
}

/// A plugin with settings, with room for an interpreter.
fn open(plugin: &Plugin, settings: &[(&str, &str)]) -> Transform {
    let settings: Vec<(String, Option<String>)> = settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect();
    let limits = Limits {
        memory_bytes_max: 256 << 20,
        ..Limits::default()
    };
    Transform::open(plugin, &settings, limits, Surroundings::new(Arc::new(Silent))).expect("the plugin opens")
}

fn record(value: &[u8]) -> RecordRef<'_> {
    RecordRef {
        timestamp: 1_700_000_000_000,
        key: Some(b"12345678"),
        value: Some(value),
        headers: Headers::NONE,
    }
}

fn order(number: u64) -> String {
    format!(
        "{{\"order_id\":\"o-{number}\",\"customer_id\":\"c-{}\",\"restaurant_id\":\"r-17\",\"items\":[{{\"sku\":\"quattro formaggi\",\
         \"quantity\":2,\"price_cents\":1190}},{{\"sku\":\"lemonade\",\"quantity\":1,\"price_cents\":350}}],\"total_cents\":2730,\
         \"currency\":\"EUR\"}}",
        number % 97
    )
}

/// What a stage adds to a record that it keeps: putting it beside the others, the call, and reading it from there.
fn keep(criterion: &mut Criterion) {
    let engine = Engine::new(Options::default()).expect("an engine starts");
    let plugin = engine
        .load(&read(&built().join("tests/hostile.wasm")))
        .expect("it loads");
    let mut stage = open(&plugin, &[]);
    let values: Vec<[u8; 200]> = (0..KEPT)
        .map(|number| [b'a' + (number % 26) as u8; 200])
        .collect();
    let mut group = criterion.benchmark_group("keep");
    group.throughput(Throughput::Elements(KEPT));
    group.bench_function("none", |bencher| {
        bencher.iter(|| {
            values.iter().for_each(|value| {
                black_box(record(value));
            });
        });
    });
    group.bench_function("stage", |bencher| {
        let mut batch = Columns::begin(Sequence::ZERO);
        bencher.iter(|| {
            batch.restart(Sequence::ZERO);
            for (at, value) in (0..).zip(&values) {
                batch.push(Sequence(at), &record(value)).expect("a small record");
            }
            let outcomes = stage.process(&STREAM, &batch).expect("it keeps");
            assert!(outcomes.are_all_kept());
            batch.iter().for_each(|(_, record)| {
                black_box(record);
            });
        });
    });
    group.finish();
}

/// Reading an order, checking it and making a row of it.
fn json(criterion: &mut Criterion) {
    let engine = Engine::new(Options::default()).expect("an engine starts");
    let plugin = engine
        .load(&read(&built().join("order-check.wasm")))
        .expect("it loads");
    let mut stage = open(&plugin, &[("transform", "storage")]);
    let mut batch = Columns::begin(Sequence::ZERO);
    for number in 0..ORDERS {
        batch
            .push(Sequence(number), &record(order(number).as_bytes()))
            .expect("a small record");
    }
    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Elements(ORDERS));
    group.bench_function("component", |bencher| {
        bencher.iter(|| black_box(stage.process(&STREAM, &batch).expect("orders in order")));
    });
    group.finish();
}

/// Everything there is: loading it when it is compiled, and opening one more instance, as after a trap.
fn instances(criterion: &mut Criterion) {
    let cache = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(Options {
        cache: Some(cache.path().to_owned()),
        ..Options::default()
    })
    .expect("an engine starts");
    let mut files = vec![built().join("order-check.wasm")];
    if let Some(folder) = std::env::var_os("CULVERT_BENCH_PLUGINS") {
        let entries = std::fs::read_dir(folder).expect("the folder of more plugins");
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    let mut group = criterion.benchmark_group("instances");
    group.sample_size(20);
    for file in files {
        let bytes = read(&file);
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        engine.load(&bytes).expect("it compiles");
        group.bench_function(format!("load/{name}"), |bencher| {
            bencher.iter(|| engine.load(&bytes).expect("it loads"));
        });
        let plugin = engine.load(&bytes).expect("it loads");
        group.bench_function(format!("fresh/{name}"), |bencher| {
            bencher.iter(|| open(&plugin, &[]));
        });
    }
    group.finish();
}

criterion_group!(benches, keep, json, instances);
criterion_main!(benches);
