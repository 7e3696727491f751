//! What every engine must do.

use super::{DEADLINE, append, at, frame, held, options, places};
use crate::outbox::{EngineKind, Error, Extent, Full, Group, Lane, Options, Outbox};
use std::path::Path;

/// One test for each engine.
macro_rules! every_engine {
    ($($(#[$doc:meta])* fn $name:ident($place:ident: &Path, $engine:ident: EngineKind) $body:block)*) => {
        $($(#[$doc])* fn $name($place: &Path, $engine: EngineKind) $body)*
        mod log {
            $(#[test] fn $name() { super::$name(tempfile::tempdir().unwrap().path(), super::EngineKind::Log); })*
        }
        mod sled {
            $(#[test] fn $name() { super::$name(tempfile::tempdir().unwrap().path(), super::EngineKind::Sled); })*
        }
    };
}

fn open(options: &Options) -> (Outbox, Lane) {
    let outbox = Outbox::open(options).unwrap();
    let lane = outbox.lane(b"orders").unwrap();
    (outbox, lane)
}

fn extent(base: u64, durable: u64, tail: u64) -> Extent {
    Extent {
        base: at(base),
        durable: at(durable),
        tail: at(tail),
    }
}

every_engine! {
    fn what_is_durable_is_there_after_a_crash(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        for from in 10..20 {
            append(&lane, from * 10, from * 10 + 10).unwrap();
        }
        outbox.sync().unwrap();
        outbox.crash();

        let (_outbox, lane) = open(&options(place, engine));
        assert_eq!(lane.extent(), extent(100, 200, 200));
        assert_eq!(held(&lane), (10..20).map(|from| (from * 10, from * 10 + 10)).collect::<Vec<_>>());
        assert!(matches!(append(&lane, 201, 202), Err(Error::Gap { .. })));
        append(&lane, 200, 201).unwrap();
    }

    fn lanes_and_settings_are_found_again(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        append(&lane, 0, 1).unwrap();
        outbox.lane(b"empty").unwrap();
        let gone = outbox.lane(b"gone").unwrap();
        append(&gone, 0, 1).unwrap();
        outbox.sync().unwrap();
        outbox.remove_lane(&gone).unwrap();
        assert!(matches!(append(&gone, 1, 2), Err(Error::Removed)));
        outbox.put(b"route/b", b"2").unwrap();
        outbox.put(b"route/a", b"1").unwrap();
        outbox.put(b"router", b"x").unwrap();
        outbox.put(b"route/c", b"3").unwrap();
        outbox.delete(b"route/c").unwrap();
        outbox.put_durable(b"route/a", b"one").unwrap();
        outbox.close_blocking().unwrap();

        let outbox = Outbox::open(&options(place, engine)).unwrap();
        let mut names: Vec<_> = outbox.lanes().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["empty", "orders"]);
        let found = outbox.scan(b"route/");
        assert_eq!(found, [("route/a".into(), "one".into()), ("route/b".into(), "2".into())]);
        assert_eq!(outbox.get(b"router").as_deref(), Some(&b"x"[..]));
        assert_eq!(outbox.get(b"route/c"), None);
        assert_eq!(outbox.stats().held_frames, 1);
    }

    fn a_read_begins_with_the_frame_that_covers_the_place(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        for from in [0, 10, 20, 30] {
            append(&lane, from, from + 10).unwrap();
        }
        outbox.sync().unwrap();
        let begins = |from, bytes| -> Vec<u64> {
            lane.read(at(from), bytes).unwrap().iter().map(|(interval, _)| interval.from.0).collect()
        };
        assert_eq!(begins(0, usize::MAX), [0, 10, 20, 30]);
        assert_eq!(begins(15, usize::MAX), [10, 20, 30]);
        assert_eq!(begins(20, 0), [20]);
        assert_eq!(begins(20, 250), [20, 30]);
        assert_eq!(begins(39, 1), [30]);
        assert_eq!(begins(40, 1), [0; 0]);
        assert_eq!(begins(1000, 1), [0; 0]);
    }

    fn trim_frees_whole_frames_and_remembers_the_tail(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        for from in [0, 10, 20] {
            append(&lane, from, from + 10).unwrap();
        }
        outbox.sync().unwrap();
        lane.trim(at(19)).unwrap();
        outbox.sync().unwrap();
        assert_eq!(lane.extent(), extent(10, 30, 30));
        assert!(matches!(lane.read(at(9), 1), Err(Error::Trimmed { .. })));
        lane.trim(at(5)).unwrap();
        lane.trim(at(30)).unwrap();
        outbox.sync().unwrap();
        assert_eq!(lane.extent(), extent(30, 30, 30));
        assert_eq!(outbox.stats().held_bytes, 0);
        outbox.crash();

        let (_outbox, lane) = open(&options(place, engine));
        assert_eq!(lane.extent(), extent(30, 30, 30));
        assert!(matches!(append(&lane, 31, 32), Err(Error::Gap { .. })));
        append(&lane, 30, 40).unwrap();
    }

    fn a_trim_ahead_of_the_disk_is_not_forgotten(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        append(&lane, 0, 10).unwrap();
        lane.trim(at(10)).unwrap();
        outbox.sync().unwrap();
        outbox.sync().unwrap();
        assert_eq!(lane.extent(), extent(10, 10, 10));
    }

    fn a_restarted_lane_is_empty_where_it_was_told(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        for from in [0, 10, 20] {
            append(&lane, from, from + 10).unwrap();
        }
        outbox.sync().unwrap();
        append(&lane, 30, 40).unwrap();
        lane.restart(at(12)).unwrap();
        assert_eq!(lane.extent(), extent(12, 12, 12));
        assert!(lane.read(at(12), 1).unwrap().is_empty());
        assert!(matches!(lane.read(at(0), 1), Err(Error::Trimmed { .. })));
        append(&lane, 12, 25).unwrap();
        assert_eq!(lane.extent().tail, at(25));
        outbox.sync().unwrap();
        assert_eq!(held(&lane), [(12, 25)]);
        outbox.crash();

        let (outbox, lane) = open(&options(place, engine));
        assert_eq!(held(&lane), [(12, 25)]);
        lane.restart(at(7)).unwrap();
        outbox.sync().unwrap();
        outbox.crash();

        let (outbox, lane) = open(&options(place, engine));
        assert_eq!(lane.extent(), extent(7, 7, 7));
        append(&lane, 90, 91).unwrap();
        outbox.sync().unwrap();
        assert_eq!(lane.extent(), extent(90, 91, 91));
    }

    fn a_full_outbox_refuses_and_recovers(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&Options { quota_bytes: 1500, ..options(place, engine) });
        outbox.sync().unwrap(); // the lane's own opening counts while it waits
        let mut room = outbox.room();
        let refused = (0..).find(|from| append(&lane, *from, *from + 1).is_err()).unwrap();
        assert!(!*room.borrow_and_update());
        let again = append(&lane, refused, refused + 1);
        assert!(matches!(again, Err(Error::Full(Full::Quota { quota_bytes: 1500 }))), "{again:?}");
        outbox.sync().unwrap();
        assert_eq!(lane.extent(), extent(0, refused, refused));
        assert!(!*room.borrow());
        lane.trim(at(refused / 2)).unwrap();
        outbox.sync().unwrap();
        assert!(*room.borrow());
        append(&lane, refused, refused + 1).unwrap();
    }

    fn a_lane_at_its_quota_refuses_alone_and_recovers(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        let other = outbox.lane(b"readings").unwrap();
        lane.set_quota(Some(15_000), &[]).unwrap();
        let (mut room, of_all) = (lane.quota_room(), outbox.room());
        let refused = (0..).find(|from| append(&lane, *from, *from + 1).is_err()).unwrap();
        assert!(!*room.borrow_and_update());
        let again = append(&lane, refused, refused + 1);
        assert!(matches!(again, Err(Error::AtQuota { quota_bytes: 15_000, .. })), "{again:?}");
        append(&other, 0, 1).unwrap();
        assert!(*of_all.borrow(), "the outbox takes no note of it");
        outbox.sync().unwrap();
        assert_eq!(lane.extent(), extent(0, refused, refused));
        let used = lane.quota_use().unwrap();
        assert_eq!((used.used_bytes, used.has_room), (lane.held_bytes(), false));
        assert!(used.used_bytes <= 15_000 && other.quota_use().is_none(), "{used:?}");

        lane.trim(at(1)).unwrap();
        outbox.sync().unwrap();
        assert!(!*room.borrow(), "a tenth is not free");
        lane.trim(at(refused / 2)).unwrap();
        outbox.sync().unwrap();
        assert!(*room.borrow());
        append(&lane, refused, refused + 1).unwrap();
    }

    fn a_quota_is_said_anew_in_each_life_and_counts_what_is_there(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        for from in 0..20 {
            append(&lane, from, from + 1).unwrap();
        }
        outbox.sync().unwrap();
        outbox.crash();

        let (outbox, lane) = open(&options(place, engine));
        assert_eq!(lane.quota_use(), None);
        lane.set_quota(Some(1_000), &[]).unwrap();
        let mut room = lane.quota_room();
        assert!(!*room.borrow_and_update(), "it holds more than it may");
        assert!(matches!(append(&lane, 20, 21), Err(Error::AtQuota { .. })));
        lane.set_quota(Some(1 << 20), &[]).unwrap();
        assert!(*room.borrow(), "who waits hears of a larger one");
        append(&lane, 20, 21).unwrap();
        lane.set_quota(Some(1_000), &[]).unwrap();
        lane.set_quota(None, &[]).unwrap();
        assert!(*room.borrow(), "and of none");
        append(&lane, 21, 22).unwrap();
        lane.set_quota(Some(1_000), &[]).unwrap();
        lane.restart(at(100)).unwrap();
        outbox.sync().unwrap();
        assert_eq!(lane.quota_use().map(|used| (used.used_bytes, used.has_room)), Some((0, true)));
    }

    fn an_empty_lane_takes_a_frame_above_its_quota(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        lane.set_quota(Some(1_000), &[]).unwrap();
        lane.append(places(0, 1), frame(0, 0, 1, 5_000)).unwrap();
        outbox.sync().unwrap();
        let room = lane.quota_room();
        assert!(!*room.borrow());
        assert!(matches!(append(&lane, 1, 2), Err(Error::AtQuota { .. })));
        lane.trim(at(1)).unwrap();
        outbox.sync().unwrap();
        assert!(*room.borrow());
        lane.append(places(1, 2), frame(0, 1, 2, 5_000)).unwrap();
    }

    fn lanes_beside_a_quota_count_to_it_and_a_group_is_taken_whole_or_not(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        let letters = outbox.lane(b"letters").unwrap();
        lane.set_quota(Some(1_500), &[&letters]).unwrap();
        let both = |from: u64| {
            let mut group = Group::default();
            for lane in [&lane, &letters] {
                group.append(lane, places(from, from + 1), frame(0, from, from + 1, 100)).unwrap();
            }
            outbox.together(group)
        };
        let refused = (0..).find(|from| both(*from).is_err()).unwrap();
        assert!(matches!(both(refused), Err(Error::AtQuota { .. })));
        assert_eq!((lane.extent().tail, letters.extent().tail), (at(refused), at(refused)));
        outbox.sync().unwrap();
        let used = lane.quota_use().unwrap().used_bytes;
        assert_eq!(used, lane.held_bytes() + letters.held_bytes());
        // Only the letters are freed: that is room for both.
        letters.trim(at(refused)).unwrap();
        outbox.sync().unwrap();
        assert!(*lane.quota_room().borrow());
        both(refused).unwrap();
        outbox.remove_lane(&letters).unwrap();
        outbox.sync().unwrap();
        assert_eq!(lane.quota_use().unwrap().used_bytes, lane.held_bytes());
    }

    fn limits_hold(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        assert!(matches!(outbox.lane(&[0; 1025]), Err(Error::TooLarge { .. })));
        assert!(matches!(outbox.put(&[0; 1025], b""), Err(Error::TooLarge { .. })));
        assert!(matches!(outbox.put(b"x", &vec![0; (1 << 20) + 1]), Err(Error::TooLarge { .. })));
        assert!(matches!(lane.append(places(5, 5), frame(0, 5, 5, 1)), Err(Error::Empty { .. })));
        assert_eq!(lane.extent(), Extent::default());
    }

    fn a_second_process_is_refused(place: &Path, engine: EngineKind) {
        let (outbox, _lane) = open(&options(place, engine));
        assert!(matches!(Outbox::open(&options(place, engine)), Err(Error::Locked { .. })));
        outbox.close_blocking().unwrap();
        Outbox::open(&options(place, engine)).unwrap();
    }

    fn dropping_every_handle_flushes(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        append(&lane, 0, 1).unwrap();
        drop((outbox, lane));
        let deadline = std::time::Instant::now() + DEADLINE;
        let outbox = loop {
            match Outbox::open(&options(place, engine)) {
                Err(Error::Locked { .. }) if std::time::Instant::now() < deadline => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert_eq!(held(&outbox.lane(b"orders").unwrap()), [(0, 1)]);
    }

    fn watchers_hear_of_flushes_and_trims(place: &Path, engine: EngineKind) {
        let (outbox, lane) = open(&options(place, engine));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut watch = lane.watch();
            append(&lane, 0, 1).unwrap();
            let heard = tokio::time::timeout(DEADLINE, watch.wait_for(|extent| extent.durable == at(1)));
            heard.await.unwrap().unwrap();
            lane.trim(at(1)).unwrap();
            let heard = tokio::time::timeout(DEADLINE, watch.wait_for(|extent| extent.base == at(1)));
            heard.await.unwrap().unwrap();
            append(&lane, 1, 2).unwrap();
            tokio::time::timeout(DEADLINE, outbox.synced()).await.unwrap().unwrap();
            assert_eq!(lane.extent().durable, at(2));
            tokio::time::timeout(DEADLINE, outbox.close()).await.unwrap().unwrap();
        });
        assert!(matches!(append(&lane, 2, 3), Err(Error::Closed)));
    }

    fn many_lanes_do_not_mix(place: &Path, engine: EngineKind) {
        let outbox = Outbox::open(&Options { cache_bytes: 4096, ..options(place, engine) }).unwrap();
        let lanes: Vec<Lane> = (0..20u8).map(|name| outbox.lane(&[name]).unwrap()).collect();
        for from in 0..50 {
            for (number, lane) in lanes.iter().enumerate() {
                lane.append(places(from, from + 1), frame(number as u64, from, from + 1, 300)).unwrap();
            }
        }
        outbox.sync().unwrap();
        for (number, lane) in lanes.iter().enumerate() {
            for (interval, bytes) in lane.read(at(0), usize::MAX).unwrap() {
                assert_eq!(bytes, frame(number as u64, interval.from.0, interval.to.0, 300));
            }
        }
    }
}
