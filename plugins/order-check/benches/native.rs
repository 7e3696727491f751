//! What the plugin does with an order, natively: what `cargo xtask bench plugins` compares the component to.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use order_check::row;
use std::hint::black_box;

const ORDERS: u64 = 1_000;

/// As in `gateway/host/benches/plugins.rs`.
fn order(number: u64) -> String {
    format!(
        "{{\"order_id\":\"o-{number}\",\"customer_id\":\"c-{}\",\"restaurant_id\":\"r-17\",\"items\":[{{\"sku\":\"quattro formaggi\",\
         \"quantity\":2,\"price_cents\":1190}},{{\"sku\":\"lemonade\",\"quantity\":1,\"price_cents\":350}}],\"total_cents\":2730,\
         \"currency\":\"EUR\"}}",
        number % 97
    )
}

fn json(criterion: &mut Criterion) {
    let orders: Vec<String> = (0..ORDERS).map(order).collect();
    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Elements(ORDERS));
    group.bench_function("native", |bencher| {
        bencher.iter(|| {
            for order in &orders {
                black_box(row(order.as_bytes()).expect("an order in order"));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, json);
criterion_main!(benches);
