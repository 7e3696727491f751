//! What an outbox takes on disk while data passes through it, and what it gives back.
#![allow(clippy::unwrap_used)] // tests all through

use bytes::Bytes;
use culvert::outbox::{EngineKind, Error, Options, Outbox};
use culvert_proto::{Interval, Sequence};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::time::{Duration, Instant};

const MB: u64 = 1 << 20;
const TOTAL_BYTES: u64 = 400 * MB;
const WINDOW_BYTES: u64 = 50 * MB;
const FRAME_BYTES: usize = 100 << 10;

/// The room above twice what is held that an outbox may take.
const SLACK_BYTES: u64 = 64 * MB;

#[test]
fn log_stays_within_twice_what_it_holds() {
    churn(EngineKind::Log);
}

#[test]
fn sled_stays_within_twice_what_it_holds() {
    churn(EngineKind::Sled);
}

fn churn(engine: EngineKind) {
    let place = tempfile::tempdir().unwrap();
    let options = Options {
        engine,
        reserve_bytes: 0,
        quota_bytes: 300 * MB,
        ..Options::new(place.path())
    };
    let outbox = Outbox::open(&options).unwrap();
    let lane = outbox.lane(b"churn").unwrap();
    let mut content = vec![0; 8 << 20];
    ChaCha8Rng::seed_from_u64(7).fill_bytes(&mut content);
    let content = Bytes::from(content);
    let (frames, window) = (
        TOTAL_BYTES / FRAME_BYTES as u64,
        WINDOW_BYTES / FRAME_BYTES as u64,
    );
    for number in 0..frames {
        let at = usize::try_from(number * 99_991 % (7 << 20)).unwrap();
        let interval = Interval::new(Sequence(number), Sequence(number + 1));
        while let Err(error) = lane.append(interval, content.slice(at..at + FRAME_BYTES)) {
            assert!(matches!(error, Error::Full(_)), "{error}");
            outbox.sync().unwrap();
        }
        lane.trim(Sequence(number.saturating_sub(window))).unwrap();
        if number % 16 == 0 {
            outbox.sync().unwrap();
            let (used, held) = (used(place.path()), outbox.stats().held_bytes);
            assert!(
                used <= 2 * held + SLACK_BYTES,
                "{engine:?}: {used} bytes for {held} at frame {number}"
            );
        }
    }

    // A backlog of four windows, drained at once.
    for number in frames..frames + 4 * window {
        let interval = Interval::new(Sequence(number), Sequence(number + 1));
        while lane.append(interval, content.slice(..FRAME_BYTES)).is_err() {
            outbox.sync().unwrap();
        }
    }
    outbox.sync().unwrap();
    let tail = lane.extent().tail;
    lane.append(Interval::new(tail, tail.next()), Bytes::from_static(b"kept"))
        .unwrap();
    lane.trim(tail).unwrap();
    outbox.sync().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while used(place.path()) > SLACK_BYTES {
        assert!(
            Instant::now() < deadline,
            "{engine:?}: {} bytes are not given back",
            used(place.path())
        );
        std::thread::yield_now();
    }
    outbox.close_blocking().unwrap();
    let outbox = Outbox::open(&options).unwrap();
    let found = outbox.lane(b"churn").unwrap().read(tail, 1).unwrap();
    assert_eq!(
        found,
        [(Interval::new(tail, tail.next()), Bytes::from_static(b"kept"))]
    );
}

/// Bytes that a directory takes on the medium. Files come and go meanwhile.
fn used(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => used(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(of).sum()
}
