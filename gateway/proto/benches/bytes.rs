//! What bytes cost a record: a full frame of 500 records of 200 bytes, written, checked and read.
//!
//! Run with `cargo bench -p culvert-proto --profile bench-fast`; the rate printed is in records.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use culvert_proto::batch::{Codec, NoCompression};
use culvert_proto::frame::{Frame, FrameBuilder, FrameView, Push};
use culvert_proto::record::{Headers, RecordRef};
use culvert_proto::{Guard, Lineage, Sequence, StreamId, digest};
use std::hint::black_box;

const RECORDS: u64 = 500;
const VALUE: [u8; 200] = [7; 200];

fn record(key: &[u8]) -> RecordRef<'_> {
    RecordRef {
        timestamp: 1_700_000_000_000,
        key: Some(key),
        value: Some(&VALUE),
        headers: Headers::NONE,
    }
}

fn fill(builder: &mut FrameBuilder) -> Frame {
    let mut at = builder.interval().to;
    for _ in 0..RECORDS {
        let push = builder
            .push(at, 1, &record(&at.0.to_be_bytes()))
            .expect("the record fits");
        assert_ne!(push, Push::NotTaken);
        at = at.next();
    }
    let frame = builder
        .finish(Codec::None, &NoCompression)
        .expect("no codec is needed");
    frame.expect("there are records in it")
}

fn bytes(criterion: &mut Criterion) {
    let lineage = Lineage::Replayable {
        cluster: "a-cluster-of-22-bytes1".into(),
        topic: [1; 16],
    };
    let stream = StreamId {
        site: "factory".into(),
        topic: "machine.events".into(),
        partition: 1,
        lineage,
    };
    let mut builder = FrameBuilder::new(&stream, Sequence::ZERO, Guard::NONE).expect("the names are short");
    let frame = fill(&mut builder);
    let mut scratch = Vec::new();
    let mut group = criterion.benchmark_group("bytes");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("write a frame", |bench| bench.iter(|| fill(&mut builder)));
    group.bench_function("check a frame", |bench| {
        bench.iter(|| {
            FrameView::parse(black_box(frame.bytes()))
                .expect("the frame is whole")
                .count()
        });
    });
    group.bench_function("read its records", |bench| {
        bench.iter(|| {
            let from = frame.interval().from;
            let records = frame
                .records(from, &mut scratch, &NoCompression)
                .expect("no codec is needed");
            records
                .map(|record| record.expect("the record is whole").1.size())
                .sum::<usize>()
        });
    });
    group.bench_function("identify a record (guard)", |bench| {
        bench.iter(|| (0..RECORDS).fold(0, |sum, _| sum ^ black_box(record(b"a key...")).crc32c()));
    });
    group.bench_function("hash a record's content (prove)", |bench| {
        bench.iter(|| (0..RECORDS).fold(0, |sum, _| sum ^ digest::content(black_box(&record(b"a key...")))));
    });
    group.finish();
}

criterion_group!(benches, bytes);
criterion_main!(benches);
