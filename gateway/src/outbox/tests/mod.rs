//! Tests of the room.

mod conformance;
mod damage;
mod groups;
mod model;
mod power;
mod simdisk;

use super::{EngineKind, Error, Fatal, Lane, Options, Outbox};
use bytes::Bytes;
use culvert_proto::{Interval, Sequence};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take before a test calls it stuck.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Small limits; a failed flush does not end the test process.
pub(super) fn options(path: &Path, engine: EngineKind) -> Options {
    Options {
        engine,
        quota_bytes: 1 << 30,
        reserve_bytes: 0,
        flush_every: Duration::from_millis(1),
        cache_bytes: 0,
        fatal: Fatal(Arc::new(|_| {})),
        ..Options::new(path)
    }
}

pub(super) fn at(place: u64) -> Sequence {
    Sequence(place)
}

pub(super) fn places(from: u64, to: u64) -> Interval {
    Interval::new(at(from), at(to))
}

/// A frame whose content says which it is.
pub(super) fn frame(lane: u64, from: u64, to: u64, bytes: usize) -> Bytes {
    let mut content = format!("{lane}:{from}-{to};").into_bytes();
    let mut state = lane ^ (from << 20) ^ to;
    while content.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        content.extend_from_slice(&state.to_be_bytes());
    }
    Bytes::from(content)
}

/// Appends `[from, to)` with its frame.
pub(super) fn append(lane: &Lane, from: u64, to: u64) -> Result<(), Error> {
    lane.append(places(from, to), frame(0, from, to, 100))
}

/// Everything the lane holds, checked for order, gaps and content.
pub(super) fn held(lane: &Lane) -> Vec<(u64, u64)> {
    let extent = lane.extent();
    let mut next = extent.base;
    let mut held = Vec::new();
    while next < extent.durable {
        let frames = lane.read(next, 64 * 1024).unwrap();
        assert!(!frames.is_empty(), "nothing at {next} of {extent:?}");
        for (interval, bytes) in frames {
            assert_eq!(interval.from, next, "gap");
            let Interval { from, to } = interval;
            assert_eq!(bytes, frame(0, from.0, to.0, 100), "content of {interval}");
            held.push((from.0, to.0));
            next = to;
        }
    }
    held
}

impl Outbox {
    /// Ends without a flush, as a crash would.
    pub(super) fn crash(self) {
        self.handle.shared.enter(super::state::Phase::Abandoned);
        let _ = self.wait_for_end();
    }
}
