//! The segment log on a simulated disk: power cuts at every point, failed syncs, full disks, flipped bytes.

use super::simdisk::{Op, SimDisk, Survives, acknowledged};
use super::{append, at, frame, held, options, places};
use crate::outbox::{EngineKind, Error, Fatal, Full, Lane, Options, Outbox};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

fn log_options() -> Options {
    options(Path::new("simulated"), EngineKind::Log)
}

fn open(disk: &SimDisk) -> Result<Outbox, Error> {
    Outbox::open_on(Arc::new(disk.clone()), &log_options(), None)
}

/// Two lanes that grow, the first trimmed behind a window, with settings, a restart and a rotation every few
/// commits. Step n appends frame n to both and is acknowledged as n + 1. Stops when a step fails.
fn work(disk: &SimDisk, outbox: &Outbox, steps: u64) -> Result<(), Error> {
    let (fast, slow) = (outbox.lane(b"fast")?, outbox.lane(b"slow")?);
    for step in 0..steps {
        append(&fast, step, step + 1)?;
        if step % 8 == 0 {
            append(&slow, step, step + 8)?;
        }
        outbox.put(b"step", &step.to_be_bytes())?;
        outbox.sync()?;
        disk.acknowledged(step + 1);
        if step % 4 == 3 {
            fast.trim(at(step - 2))?;
        }
    }
    Ok(())
}

/// Everything that was acknowledged is there.
fn check(outbox: &Outbox, steps: u64, context: &dyn Fn() -> String) {
    if steps == 0 {
        return;
    }
    let (fast, slow) = (outbox.lane(b"fast").unwrap(), outbox.lane(b"slow").unwrap());
    assert!(
        fast.extent().durable >= at(steps),
        "{}: {fast:?} of {steps}",
        context()
    );
    assert!(
        fast.extent().base <= at(steps),
        "{}: {fast:?} of {steps}",
        context()
    );
    assert!(
        slow.extent().durable >= at(steps),
        "{}: {slow:?} of {steps}",
        context()
    );
    assert_eq!(slow.extent().base, at(0), "{}", context());
    held(&fast);
    held(&slow);
    let step = outbox
        .get(b"step")
        .map(|step| u64::from_be_bytes(step[..].try_into().unwrap()));
    assert!(step >= Some(steps - 1), "{}: step {step:?} of {steps}", context());
}

fn journal_of(steps: u64) -> Vec<Op> {
    let disk = SimDisk::default();
    let outbox = open(&disk).unwrap();
    work(&disk, &outbox, steps).unwrap();
    outbox.close_blocking().unwrap();
    disk.journal()
}

/// A2, with a torn tail.
#[test]
fn a_power_cut_at_any_point_loses_nothing_acknowledged() {
    let journal = journal_of(60);
    assert!(
        journal
            .iter()
            .filter(|op| matches!(op, Op::Create { path, .. } if path.ends_with(".log")))
            .count()
            > 4
    );
    for end in 0..=journal.len() {
        let (before, steps) = (&journal[..end], acknowledged(&journal[..end]));
        let ways = [
            Survives::Nothing,
            Survives::Everything,
            Survives::Torn(end % 50),
            Survives::Torn(150),
            Survives::Some(end as u64),
            Survives::Some(!(end as u64)),
        ];
        for survives in ways {
            let context = || format!("cut behind act {end} ({:?}), {survives:?}", before.last());
            let disk = SimDisk::after_power_cut(before, survives);
            let outbox = open(&disk).unwrap_or_else(|error| panic!("{}: {error}", context()));
            check(&outbox, steps, &context);
            outbox.close_blocking().unwrap();
        }
    }
}

/// A group torn at each of its bytes, with and without the mark that says it was never acknowledged.
#[test]
fn a_torn_commit_is_cut_off_whole() {
    let journal = journal_of(12);
    let last = journal
        .iter()
        .rposition(|op| matches!(op, Op::Write { bytes, .. } if bytes.len() > 150))
        .unwrap();
    let Op::Write { bytes, .. } = &journal[last] else {
        unreachable!()
    };
    let steps = acknowledged(&journal[..last]);
    for torn in 0..bytes.len() {
        let disk = SimDisk::after_power_cut(&journal[..=last], Survives::Torn(torn));
        let outbox = open(&disk).unwrap();
        check(&outbox, steps, &|| format!("torn at {torn}"));
        let fast = outbox.lane(b"fast").unwrap();
        append(&fast, fast.extent().tail.0, 1000).unwrap();
        outbox.sync().unwrap();
        outbox.close_blocking().unwrap();
        let outbox = open(&disk).unwrap();
        assert_eq!(outbox.lane(b"fast").unwrap().extent().durable, at(1000));
    }
}

/// A2: each sync of a run fails once. Nothing is acknowledged by it, the process is told to end, and what was
/// acknowledged before is there afterwards, even if nothing unsynced survives.
#[test]
fn a_failed_sync_stops_the_outbox_without_an_acknowledgement() {
    let all = {
        let disk = SimDisk::default();
        let outbox = open(&disk).unwrap();
        work(&disk, &outbox, 30).unwrap();
        outbox.close_blocking().unwrap();
        disk.syncs()
    };
    let mut stopped = 0;
    for failing in 1..=all {
        let disk = SimDisk::default();
        disk.fail_sync(failing);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let options = Options {
            fatal: Fatal(Arc::new(move |why| tell.lock().push(why.to_string()))),
            ..log_options()
        };
        if let Ok(outbox) = Outbox::open_on(Arc::new(disk.clone()), &options, None) {
            if let Err(error) = work(&disk, &outbox, 30) {
                assert!(matches!(error, Error::Stopped(_)), "sync {failing}: {error}");
                assert!(matches!(outbox.lane(b"fast").map(|_| ()), Err(Error::Stopped(_))));
                stopped += 1;
            }
            let closed = outbox.close_blocking();
            assert_eq!(
                closed.is_err(),
                !told.lock().is_empty(),
                "sync {failing}: {closed:?}"
            );
        }
        let steps = acknowledged(&disk.journal());
        let disk = SimDisk::after_power_cut(&disk.journal(), Survives::Nothing);
        check(&open(&disk).unwrap(), steps, &|| format!("sync {failing}"));
    }
    assert!(stopped > 20, "{stopped}");
}

/// L2: on a full disk the outbox pauses, trims still go through, and it goes on by itself. Once the disk
/// tells how much is free, once only the failing write does.
#[test]
fn a_full_disk_pauses_and_recovers() {
    for frank in [true, false] {
        for capacity in (40_000..60_000).step_by(997) {
            let disk = SimDisk::default();
            let options = Options {
                reserve_bytes: 8 << 10,
                ..log_options()
            };
            let outbox = Outbox::open_on(Arc::new(disk.clone()), &options, None).unwrap();
            let base = if frank { 1 << 20 } else { 0 };
            disk.set_capacity(Some(capacity + base), frank);
            let lane = outbox.lane(b"fast").unwrap();
            let mut next = fill(&outbox, &lane, 0);
            for _ in 0..3 {
                let durable = lane.extent().durable;
                assert!(
                    durable > at(0),
                    "frank {frank}, capacity {capacity}: nothing fits"
                );
                lane.trim(durable).unwrap();
                wait_until(&outbox, || lane.extent().base == durable);
                wait_until(&outbox, || *outbox.room().borrow());
                next = fill(&outbox, &lane, next);
            }
            assert!(disk.used() <= capacity + base);
            disk.set_capacity(None, false);
            wait_until(&outbox, || *outbox.room().borrow());
            outbox.sync().unwrap();
            assert_eq!(lane.extent().durable, at(next));
            held(&lane);
            outbox.close_blocking().unwrap();
        }
    }
}

/// Appends until the disk is full.
fn fill(outbox: &Outbox, lane: &Lane, mut next: u64) -> u64 {
    loop {
        match append(lane, next, next + 1) {
            Ok(()) => next += 1,
            Err(Error::Full(Full::Disk)) => return next,
            Err(error) => panic!("{error}"),
        }
        // One at a time: what is durable and what the disk refused stay close together.
        while lane.extent().durable < at(next) && !outbox.stats().disk_full {
            std::thread::yield_now();
        }
    }
}

fn wait_until(outbox: &Outbox, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + super::DEADLINE;
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "stuck: {:?}",
            outbox.stats()
        );
        std::thread::yield_now();
    }
}

/// Every byte of a small store, flipped. Either an error or the very content, and never less of it.
#[test]
fn a_flipped_byte_is_never_wrong_or_missing_content() {
    let disk = SimDisk::default();
    let outbox = open(&disk).unwrap();
    work(&disk, &outbox, 22).unwrap();
    outbox.close_blocking().unwrap();
    let (mut silent, mut found) = (0, 0);
    for (path, content) in disk.files() {
        for byte in 0..content.len() {
            let mut bad = content.clone();
            bad[byte] ^= 1 << (byte % 8);
            let disk = disk.with(&path, bad);
            let Ok(outbox) = open(&disk) else {
                found += 1;
                continue;
            };
            let context = || format!("byte {byte} of {path}");
            let (fast, slow) = (outbox.lane(b"fast").unwrap(), outbox.lane(b"slow").unwrap());
            assert_eq!(fast.extent().tail, at(22), "{}", context());
            assert_eq!(
                (slow.extent().base, slow.extent().durable),
                (at(0), at(24)),
                "{}",
                context()
            );
            assert_eq!(
                outbox.get(b"step").as_deref(),
                Some(&21u64.to_be_bytes()[..]),
                "{}",
                context()
            );
            match read_all(&fast).and_then(|()| read_all(&slow)) {
                Ok(()) => silent += 1,
                Err(Error::Damaged { .. }) => found += 1,
                Err(error) => panic!("{}: {error}", context()),
            }
        }
    }
    // What may go unnoticed: the padding of the mark and its older slot, and frames that were freed.
    assert!(
        found > 1000 && silent < found + 8192,
        "{found} found, {silent} without effect"
    );
}

/// The same after a power cut that left the mark old: only the last commit can be taken for a torn one.
#[test]
fn damage_before_the_last_commit_is_never_cut_off() {
    let disk = SimDisk::default();
    let outbox = open(&disk).unwrap();
    let mark_of = |disk: &SimDisk| {
        disk.files()
            .into_iter()
            .find(|(path, _)| path == "mark")
            .unwrap()
            .1
    };
    let old = mark_of(&disk);
    work(&disk, &outbox, 22).unwrap();
    outbox.close_blocking().unwrap();
    let disk = disk.with("mark", old);
    let (path, content) = disk
        .files()
        .into_iter()
        .rfind(|(path, _)| path.ends_with(".log"))
        .unwrap();
    let mut cut = 0;
    for byte in 0..content.len() {
        let mut bad = content.clone();
        bad[byte] ^= 1;
        if let Ok(outbox) = open(&disk.with(&path, bad)) {
            let tail = outbox.lane(b"fast").unwrap().extent().tail;
            assert!(tail >= at(21), "byte {byte}: the lane ends at {tail}");
            cut += u32::from(tail == at(21));
        }
    }
    assert!(cut > 0, "the last commit was never taken for a torn one");
}

fn read_all(lane: &Lane) -> Result<(), Error> {
    let extent = lane.extent();
    let mut next = extent.base;
    while next < extent.durable {
        for (interval, bytes) in lane.read(next, 1000)? {
            assert_eq!(
                bytes,
                frame(0, interval.from.0, interval.to.0, 100),
                "wrong content"
            );
            next = interval.to;
        }
    }
    Ok(())
}

/// A store that lost a file, or the end of one between two commits, is not taken for a smaller one.
#[test]
fn a_missing_piece_is_not_a_smaller_store() {
    let disk = SimDisk::default();
    let outbox = open(&disk).unwrap();
    work(&disk, &outbox, 22).unwrap();
    outbox.close_blocking().unwrap();
    let newest = disk
        .files()
        .into_iter()
        .rfind(|(path, _)| path.ends_with(".log"))
        .unwrap();
    for length in 0..newest.1.len() {
        let cut = disk.with(&newest.0, newest.1[..length].to_vec());
        let opened = open(&cut).map(|_| ());
        assert!(
            matches!(opened, Err(Error::Damaged { .. } | Error::Shorter { .. })),
            "{length}: {opened:?}"
        );
    }
}

/// One slow lane does not pin the disk: what it holds of old segments is copied to the end.
#[test]
fn a_slow_lane_does_not_pin_the_disk() {
    let disk = SimDisk::default();
    let outbox = open(&disk).unwrap();
    let (fast, slow) = (outbox.lane(b"fast").unwrap(), outbox.lane(b"slow").unwrap());
    let mut peak = 0;
    for step in 0..2_000 {
        append(&fast, step, step + 1).unwrap();
        if step % 50 == 0 {
            slow.append(places(step, step + 50), frame(0, step, step + 50, 100))
                .unwrap();
        }
        outbox.sync().unwrap();
        fast.trim(at(step)).unwrap();
        peak = peak.max(outbox.stats().disk_bytes);
    }
    let live = outbox.stats().held_bytes;
    // The bound of 64 MB is 4 segments of the real size.
    assert!(peak <= 2 * live + 4 * 4096 + 4096, "peak {peak}, live {live}");
    assert_eq!(held(&slow).len(), 40);
    outbox.close_blocking().unwrap();
    let outbox = open(&disk).unwrap();
    assert_eq!(held(&outbox.lane(b"slow").unwrap()).len(), 40);
}
