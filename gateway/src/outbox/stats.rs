//! What an outbox tells about itself.

use std::time::Duration;

/// Upper bounds of the buckets of [`Flushes`] in seconds: from what a fast disk does to what someone should look at.
pub const FLUSH_SECONDS_BOUNDS: [f64; 11] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5,
];

/// How long flushes took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flushes {
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub seconds_sum: f64,
    /// The longest.
    pub seconds_max: f64,
    /// How many took at most the bound of the same index in [`FLUSH_SECONDS_BOUNDS`]; the last: longer.
    pub buckets: [u64; FLUSH_SECONDS_BOUNDS.len() + 1],
}

impl Flushes {
    pub(super) fn record(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.seconds_sum += seconds;
        self.seconds_max = self.seconds_max.max(seconds);
        let bucket = FLUSH_SECONDS_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.buckets[bucket.unwrap_or(FLUSH_SECONDS_BOUNDS.len())] += 1;
    }
}

/// A look at an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Bytes of durable frames that are held, with their headers.
    pub held_bytes: u64,
    /// How many frames that is.
    pub held_frames: u64,
    /// Bytes of frames that were made durable since the outbox was opened, freed ones among them.
    pub added_bytes: u64,
    /// Bytes that were appended and are not durable yet.
    pub pending_bytes: u64,
    /// The most bytes that may be held and pending.
    pub quota_bytes: u64,
    /// Bytes the store takes on disk, without the reserve.
    pub disk_bytes: u64,
    /// Lanes known.
    pub lanes: u64,
    /// Whether the disk has no space left.
    pub disk_full: bool,
    /// Flushes since the outbox was opened.
    pub flushes: Flushes,
}
