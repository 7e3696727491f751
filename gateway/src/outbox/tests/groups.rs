//! Groups: what is asked for as one is durable as one.

use super::simdisk::{SimDisk, Survives};
use super::{at, frame, options, places};
use crate::outbox::{EngineKind, Error, Group, Options, Outbox};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

fn open(disk: &SimDisk) -> Outbox {
    let options = Options {
        quota_bytes: 200 << 20,
        ..options(Path::new("simulated"), EngineKind::Log)
    };
    Outbox::open_on(Arc::new(disk.clone()), &options, None).unwrap()
}

/// As many commits as need be for what comes before, one for the group, wherever the power goes.
#[test]
fn a_power_cut_never_tears_a_group_apart() {
    let disk = SimDisk::default();
    let outbox = open(&disk);
    let (orders, letters) = (outbox.lane(b"orders").unwrap(), outbox.lane(b"letters").unwrap());
    for step in 0..30 {
        let mut group = Group::default();
        group
            .append(&orders, places(step, step + 1), frame(0, step, step + 1, 100))
            .unwrap();
        group
            .append(&letters, places(step, step + 1), frame(0, step, step + 1, 100))
            .unwrap();
        group.put(b"resume", &(step + 1).to_be_bytes()).unwrap();
        outbox.together(group).unwrap();
        if step % 3 == 0 {
            outbox.sync().unwrap();
        }
    }
    outbox.close_blocking().unwrap();
    let journal = disk.journal();
    for end in 0..=journal.len() {
        for survives in [
            Survives::Nothing,
            Survives::Everything,
            Survives::Torn(end % 90),
            Survives::Some(end as u64),
        ] {
            let outbox = open(&SimDisk::after_power_cut(&journal[..end], survives));
            let tail = |name: &[u8]| outbox.lane(name).unwrap().extent().tail;
            let resume = outbox.get(b"resume");
            let resume = resume.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()));
            assert_eq!(
                (tail(b"orders"), tail(b"letters")),
                (at(resume), at(resume)),
                "cut behind act {end}, {survives:?}"
            );
        }
    }
}

/// A commit is closed at 16 MiB; a group that reaches over it goes whole into the next, or is longer than one.
#[test]
fn a_group_is_not_cut_where_a_commit_would_be_closed() {
    let disk = SimDisk::default();
    let outbox = open(&disk);
    let lane = outbox.lane(b"orders").unwrap();
    outbox.sync().unwrap();
    let begun = disk.journal().len();
    let big = Bytes::from(vec![7; 6 << 20]);
    lane.append(places(0, 1), big.clone()).unwrap();
    let mut group = Group::default();
    for step in 1..5 {
        group.append(&lane, places(step, step + 1), big.clone()).unwrap();
    }
    group.put(b"resume", b"5").unwrap();
    outbox.together(group).unwrap();
    outbox.close_blocking().unwrap();
    let journal = disk.journal();
    for end in begun..=journal.len() {
        let outbox = open(&SimDisk::after_power_cut(&journal[..end], Survives::Everything));
        let tail = outbox.lane(b"orders").unwrap().extent().tail;
        let resume = outbox.get(b"resume").is_some();
        assert!(
            matches!((tail.0, resume), (0 | 1, false) | (5, true)),
            "cut behind act {end}: tail {tail}, resume point {resume}"
        );
    }
}

#[test]
fn a_group_that_cannot_be_taken_changes_nothing() {
    let outbox = open(&SimDisk::default());
    let (orders, gone) = (outbox.lane(b"orders").unwrap(), outbox.lane(b"gone").unwrap());
    super::append(&orders, 0, 5).unwrap();
    let check = |last: &dyn Fn(&mut Group), fits: fn(&Error) -> bool| {
        let mut group = Group::default();
        group.put(b"key", b"value").unwrap();
        group.append(&orders, places(5, 6), frame(0, 5, 6, 100)).unwrap();
        last(&mut group);
        let refused = outbox.together(group).unwrap_err();
        assert!(fits(&refused), "{refused}");
        assert_eq!(
            (orders.extent().tail, outbox.get(b"key")),
            (at(5), None),
            "{refused}"
        );
    };
    check(
        &|group| group.append(&orders, places(7, 8), Bytes::new()).unwrap(),
        |error| matches!(error, Error::Gap { .. }),
    );
    check(
        &|group| group.append(&orders, places(6, 6), Bytes::new()).unwrap(),
        |error| matches!(error, Error::Empty { .. }),
    );
    outbox.remove_lane(&gone).unwrap();
    check(
        &|group| group.append(&gone, places(0, 1), Bytes::new()).unwrap(),
        |error| matches!(error, Error::Removed),
    );
    let small = Options {
        quota_bytes: 2_000,
        ..options(Path::new("simulated"), EngineKind::Log)
    };
    let outbox = Outbox::open_on(Arc::new(SimDisk::default()), &small, None).unwrap();
    let lane = outbox.lane(b"orders").unwrap();
    let mut group = Group::default();
    for step in 0..3 {
        group
            .append(&lane, places(step, step + 1), frame(0, step, step + 1, 900))
            .unwrap();
    }
    assert!(matches!(
        outbox.together(group),
        Err(Error::TooLarge { .. } | Error::Full(_))
    ));
    assert_eq!(lane.extent().tail, at(0));
}
