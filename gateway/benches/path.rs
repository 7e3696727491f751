//! Parts of the path in one thread: what a record costs on its way, without network and brokers.

#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use culvert::codec::compression::Codecs;
use culvert::outbox::{EngineKind, Options, Outbox};
use culvert_proto::batch::Codec;
use culvert_proto::digest::{self, Digest};
use culvert_proto::frame::{Frame, FrameBuilder};
use culvert_proto::record::{Headers, RecordRef};
use culvert_proto::{Guard, Interval, Lineage, Sequence, StreamId};
use std::hint::black_box;

/// Records of a frame, as intake closes them.
const RECORDS: u64 = 500;

/// Frames between two flushes: about what 5 ms bring at 500,000 records a second.
const FRAMES_PER_FLUSH: u64 = 5;

fn stream() -> StreamId {
    StreamId {
        site: "west".into(),
        topic: "orders".into(),
        partition: 0,
        lineage: Lineage::Replayable {
            cluster: "cluster".into(),
            topic: [7; 16],
        },
    }
}

/// 200 bytes that no compressor makes small, behind a key of 8.
fn value(number: u64) -> [u8; 200] {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::array::from_fn(|_| {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        b"0123456789abcdef"[(bits >> 60) as usize]
    })
}

fn record<'a>(key: &'a [u8; 8], value: &'a [u8; 200]) -> RecordRef<'a> {
    RecordRef {
        timestamp: 1_700_000_000_000,
        key: Some(key),
        value: Some(value),
        headers: Headers::NONE,
    }
}

fn fill(builder: &mut FrameBuilder, from: Sequence, values: &[[u8; 200]]) {
    builder.restart(from, Guard::NONE);
    for (at, value) in (from.0..).zip(values) {
        let push = builder.push(Sequence(at), 0, &record(&at.to_be_bytes(), value));
        let _ = black_box(push.expect("the record is within all limits"));
    }
}

fn finish(builder: &mut FrameBuilder, codec: Codec) -> Frame {
    let finished = builder.finish(codec, &Codecs::default());
    finished
        .expect("the codec is there")
        .expect("the frame holds records")
}

fn frames(criterion: &mut Criterion) {
    let values: Vec<_> = (0..RECORDS).map(value).collect();
    let mut builder = FrameBuilder::new(&stream(), Sequence::ZERO, Guard::NONE).expect("a valid stream");
    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Elements(RECORDS));
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        group.bench_function(format!("build {codec:?}"), |bench| {
            bench.iter(|| {
                fill(&mut builder, Sequence(5), &values);
                finish(&mut builder, codec)
            });
        });
        fill(&mut builder, Sequence(5), &values);
        let bytes = finish(&mut builder, codec).bytes().clone();
        group.bench_function(format!("check and read {codec:?}"), |bench| {
            let mut scratch = Vec::new();
            bench.iter(|| {
                let frame = Frame::decode(bytes.clone()).expect("just built");
                let records = frame.records(Sequence(5), &mut scratch, &Codecs::default());
                let mut digest = Digest::EMPTY;
                for item in records.expect("just built") {
                    digest.add(digest::content(&item.expect("just built").1));
                }
                digest
            });
        });
    }
    group.finish();
}

/// Frames appended and made durable, and trimmed behind, so that space stays bounded.
fn outbox(criterion: &mut Criterion) {
    let values: Vec<_> = (0..RECORDS).map(value).collect();
    let mut builder = FrameBuilder::new(&stream(), Sequence::ZERO, Guard::NONE).expect("a valid stream");
    let mut group = criterion.benchmark_group("outbox");
    group.throughput(Throughput::Elements(RECORDS * FRAMES_PER_FLUSH));
    for engine in [EngineKind::Log, EngineKind::Sled] {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let outbox = Outbox::open(&Options {
            engine,
            ..Options::new(folder.path())
        })
        .expect("a fresh outbox");
        let lane = outbox.lane(b"bench").expect("a fresh lane");
        let mut next = 0;
        group.bench_function(format!("append and flush, {}", engine.name()), |bench| {
            bench.iter_batched(
                || {
                    let from = next;
                    next += RECORDS * FRAMES_PER_FLUSH;
                    let frames = (from..next).step_by(RECORDS as usize).map(|from| {
                        fill(&mut builder, Sequence(from), &values);
                        let interval = Interval::new(Sequence(from), Sequence(from + RECORDS));
                        (interval, finish(&mut builder, Codec::None).bytes().clone())
                    });
                    frames.collect::<Vec<_>>()
                },
                |frames| {
                    let from = frames[0].0.from;
                    for (interval, bytes) in frames {
                        lane.append(interval, bytes).expect("room in the outbox");
                    }
                    outbox.sync().expect("a disk that works");
                    lane.trim(Sequence(from.0.saturating_sub(20 * RECORDS * FRAMES_PER_FLUSH)))
                        .expect("a lane");
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(path, frames, outbox);
criterion_main!(path);
