//! Outboxes that are damaged, mended and looked into.

use super::*;
use crate::outbox::{EngineKind, Options};
use culvert_proto::Lineage;
use culvert_proto::checksum::crc32c;
use culvert_proto::record::{Headers, RecordRef};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::fs;
use std::path::Path;

const ENGINES: [EngineKind; 2] = [EngineKind::Log, EngineKind::Sled];
/// Places of one frame, and frames of one lane.
const PLACES: u64 = 10;
const FRAMES: u64 = 60;

fn stream(topic: &str, lineage: Lineage) -> StreamId {
    StreamId {
        site: "edge".into(),
        topic: topic.into(),
        partition: 0,
        lineage,
    }
}

fn orders() -> StreamId {
    let cluster = "cluster".into();
    stream(
        "orders",
        Lineage::Replayable {
            cluster,
            topic: [1; 16],
        },
    )
}

fn files() -> StreamId {
    let (outbox, run) = ([2; 16], [3; 16]);
    stream("files", Lineage::Run { outbox, run })
}

fn origin(stream: &StreamId) -> Vec<u8> {
    [ORIGIN, &stream.encode().unwrap()].concat()
}

fn relay(stream: &StreamId) -> Vec<u8> {
    let mut key = RELAY.to_vec();
    let route = RouteId::new("far", "sink");
    let stream = stream.clone();
    LaneHeader { route, stream }.encode(&mut key).unwrap();
    key
}

/// A record of the place that does not compress, and is found in the store's files.
fn content(stream: &StreamId, place: u64) -> Vec<u8> {
    let seed = u64::from(crc32c(stream.topic.as_bytes())) << 32 | place;
    let mut bytes = vec![0; 300];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn frame(stream: &StreamId, number: u64) -> Frame {
    let from = number * PLACES;
    let guard = Guard { epoch: -1, crc: 7 };
    let mut builder = FrameBuilder::new(stream, Sequence(from), guard).unwrap();
    for place in from..from + PLACES {
        let value = content(stream, place);
        let record = RecordRef {
            timestamp: 0,
            key: None,
            value: Some(&value),
            headers: Headers::default(),
        };
        let pushed = builder.push_as(Sequence(place), -1, 7, &record).unwrap();
        assert_eq!(pushed, Push::Taken);
    }
    builder.finish(Codec::None, &Codecs::default()).unwrap().unwrap()
}

fn options(place: &Path, engine: EngineKind) -> Options {
    Options {
        engine,
        reserve_bytes: 0,
        cache_bytes: 0,
        ..Options::new(place)
    }
}

/// An outbox with a stream that can be read again, one that passes through, and a run.
fn make(place: &Path, engine: EngineKind) {
    let outbox = Outbox::open(&options(place, engine)).unwrap();
    for (name, stream) in [
        (origin(&orders()), orders()),
        (relay(&orders()), orders()),
        (origin(&files()), files()),
    ] {
        let lane = outbox.lane(&name).unwrap();
        for number in 0..FRAMES {
            let frame = frame(&stream, number);
            lane.append(frame.interval(), frame.bytes().clone()).unwrap();
        }
        lane.trim(Sequence(2 * PLACES)).unwrap();
    }
    outbox.put(b"start/orders", b"kept").unwrap();
    outbox.put(b"task/files/0/run", b"kept").unwrap();
    end_run_at(&outbox, &files().encode().unwrap(), Sequence(FRAMES * PLACES)).unwrap();
    outbox.close_blocking().unwrap();
}

/// Flips a bit wherever the record of this place lies in the store's files; sled leaves copies of what it wrote anew.
fn damage(place: &Path, stream: &StreamId, record: u64) {
    let wanted = content(stream, record);
    let mut waiting = vec![place.join("gen-1")];
    let mut found = false;
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let mut bytes = fs::read(&path).unwrap();
            let lies_at = |(_, window): &(usize, &[u8])| *window == wanted;
            let places: Vec<usize> = bytes
                .windows(wanted.len())
                .enumerate()
                .filter(lies_at)
                .map(|(at, _)| at)
                .collect();
            for at in &places {
                bytes[at + 20] ^= 4;
            }
            found |= !places.is_empty();
            fs::write(path, bytes).unwrap();
        }
    }
    assert!(found, "record {record} of {stream} is not there");
}

fn open(place: &Path) -> Salvage {
    Salvage::open(place, &mut |_, _| {}).unwrap()
}

fn lane_of<'a>(report: &'a Report, holds: &str, stream: &StreamId) -> &'a LaneReport {
    let stream = stream.to_string();
    report
        .lanes
        .iter()
        .find(|lane| lane.holds == holds && lane.stream == stream)
        .unwrap()
}

#[test]
fn a_sound_outbox_is_left_alone() {
    for engine in ENGINES {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), engine);
        let report = report(&open(place.path()));
        assert!(report.sound && report.certain, "{report:#?}");
        let lane = lane_of(&report, "origin", &orders());
        assert_eq!((lane.from, lane.to), (2 * PLACES, FRAMES * PLACES));
        assert!(lane.missing.is_empty());
        assert_eq!(lane.remedy, Remedy::ReadAgain);
        assert_eq!(lane_of(&report, "relay", &orders()).remedy, Remedy::SentAgain);
        assert_eq!(lane_of(&report, "origin", &files()).remedy, Remedy::OnlyHere);
    }
}

#[test]
fn what_a_source_or_a_peer_has_goes_on_where_it_is_whole() {
    for engine in ENGINES {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), engine);
        // The lane of the origin, and the one that passes through, hold the same record.
        damage(place.path(), &orders(), 20 * PLACES + 3);
        let salvage = open(place.path());
        assert!(!salvage.is_sound() && salvage.certain && heals_by_itself(&salvage));
        let repaired = repair(salvage, "then").unwrap();
        assert!(repaired.quarantine.join("gen-1").is_dir());
        assert!(repaired.mended.iter().all(|lane| !lane.halted));
        assert_eq!(repaired.mended.len(), 2, "{:?}", repaired.mended);

        assert!(open(place.path()).is_sound());
        let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
        for mended in &repaired.mended {
            let name = if mended.route.is_some() {
                relay(&orders())
            } else {
                origin(&orders())
            };
            let lane = outbox.lane(&name).unwrap();
            let extent = lane.extent();
            // A leaf of sled holds some frames, which are lost together.
            assert!(
                extent.tail.0 <= 30 * PLACES && extent.tail.0 >= 10 * PLACES,
                "{extent:?}"
            );
            assert_eq!(extent.tail.0, mended.kept_to);
            check_frames(&lane, &orders());
        }
        let whole = outbox.lane(&origin(&files())).unwrap();
        assert_eq!(whole.extent().tail, Sequence(FRAMES * PLACES));
        check_frames(&whole, &files());
        assert_eq!(outbox.get(b"start/orders").as_deref(), Some(&b"kept"[..]));
        assert!(Halt::of(&outbox, &files().encode().unwrap()).is_none());
        outbox.close_blocking().unwrap();
    }
}

/// Every frame is the one that was written, or holds nothing.
fn check_frames(lane: &Lane, stream: &StreamId) -> Vec<Interval> {
    let mut empty = Vec::new();
    let mut next = lane.extent().base;
    while next < lane.extent().durable {
        for (interval, bytes) in lane.read(next, 1 << 20).unwrap() {
            let found = Frame::decode(bytes.clone()).unwrap();
            if found.count() == 0 {
                empty.push(interval);
            } else {
                assert_eq!(&bytes, frame(stream, interval.from.0 / PLACES).bytes());
            }
            next = interval.to;
        }
    }
    empty
}

#[test]
fn a_run_stands_still_until_its_loss_is_accepted() {
    for engine in ENGINES {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), engine);
        let spelled = files().encode().unwrap();
        damage(place.path(), &files(), 10 * PLACES + 1);
        // Of sled a whole leaf is lost, and the last ones hold the lanes too.
        let holes = if engine == EngineKind::Log { 2 } else { 1 };
        if holes == 2 {
            damage(place.path(), &files(), 45 * PLACES + 1);
        }
        let salvage = open(place.path());
        assert!(salvage.certain && !heals_by_itself(&salvage));
        let missing: Vec<Missing> = lane_of(&report(&salvage), "origin", &files()).missing.clone();
        assert_eq!(missing.len(), holes, "{missing:?}");
        let repaired = repair(salvage, "then").unwrap();
        assert_eq!(repaired.mended.len(), 1);
        assert!(repaired.mended[0].halted);

        let halted = report(&open(place.path()));
        assert!(halted.sound);
        assert_eq!(
            lane_of(&halted, "origin", &files()).halted_at,
            Some(missing[0].from)
        );

        let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
        let halt = Halt::of(&outbox, &spelled).unwrap();
        assert_eq!(halt.end, Sequence(FRAMES * PLACES));
        assert!(halt.fault(&files()).reason.contains("--accept-loss edge/files/0"));
        assert!(matches!(
            accept_loss(&outbox, "edge/orders/0"),
            Err(Error::NotHalted(_))
        ));

        let accepted = accept_loss(&outbox, "edge/files/0").unwrap();
        let lost: u64 = missing.iter().map(|hole| hole.to - hole.from).sum();
        assert_eq!(accepted.len(), 1);
        assert_eq!(accepted[0].count, lost);
        assert!(accepted[0].certain);
        let lane = outbox.lane(&origin(&files())).unwrap();
        assert_eq!(lane.extent().tail, Sequence(FRAMES * PLACES));
        let empty: u64 = check_frames(&lane, &files())
            .iter()
            .map(|hole| hole.to.0 - hole.from.0)
            .sum();
        assert_eq!(empty, lost);
        assert!(Halt::of(&outbox, &spelled).is_none());
        assert_eq!(outbox.lanes().len(), 3, "what stood behind is in its lane again");
        assert_eq!(run_end(&outbox, &spelled), Sequence(FRAMES * PLACES));
        outbox.close_blocking().unwrap();
    }
}

/// The mark says how much was acknowledged: without it, nobody knows whether there was more.
#[test]
fn where_nothing_is_certain_all_is_had_again_and_runs_stand_still() {
    for engine in ENGINES {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), engine);
        fs::write(place.path().join("mark"), [0; 5000]).unwrap();
        let salvage = open(place.path());
        assert!(!salvage.certain && !heals_by_itself(&salvage));
        let repaired = repair(salvage, "then").unwrap();
        assert_eq!(repaired.mended.len(), 3);

        let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
        for name in [origin(&orders()), relay(&orders())] {
            let extent = outbox.lane(&name).unwrap().extent();
            assert_eq!(extent.tail, extent.base, "{extent:?}");
        }
        let run = outbox.lane(&origin(&files())).unwrap();
        assert_eq!(run.extent().tail, Sequence(FRAMES * PLACES));
        assert!(halt_of_runs(&outbox).is_some());
        let accepted = accept_loss(&outbox, "all").unwrap();
        assert_eq!((accepted[0].count, accepted[0].certain), (0, false));
        assert!(halt_of_runs(&outbox).is_none());
        outbox.close_blocking().unwrap();
    }
}

/// Dead letters are made again with the records beside which they fell.
#[test]
fn dead_letters_and_their_stream_go_together() {
    let place = tempfile::tempdir().unwrap();
    let engine = EngineKind::Log;
    make(place.path(), engine);
    let letters = [REFUSED_LANES, &orders().encode().unwrap()].concat();
    let refused = StreamId {
        topic: "refused".into(),
        ..orders()
    };
    let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
    let lane = outbox.lane(&letters).unwrap();
    for number in 0..FRAMES {
        let frame = frame(&refused, number);
        lane.append(frame.interval(), frame.bytes().clone()).unwrap();
    }
    outbox.close_blocking().unwrap();
    damage(place.path(), &refused, 20 * PLACES);
    let repaired = repair(open(place.path()), "then").unwrap();
    assert_eq!(repaired.mended.len(), 2, "{:?}", repaired.mended);
    let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
    for name in [letters, origin(&orders())] {
        let extent = outbox.lane(&name).unwrap().extent();
        assert_eq!(extent.tail, extent.base, "{extent:?}");
    }
    assert_eq!(
        outbox.lane(&relay(&orders())).unwrap().extent().tail,
        Sequence(FRAMES * PLACES)
    );
    outbox.close_blocking().unwrap();
}

/// Whatever is damaged, nothing of it is deleted.
#[test]
fn all_that_was_there_is_in_quarantine() {
    for engine in ENGINES {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), engine);
        damage(place.path(), &orders(), 20 * PLACES + 3);
        let before = content_of(place.path());
        let repaired = repair(open(place.path()), "then").unwrap();
        let after = content_of(&repaired.quarantine);
        for (path, bytes) in before.iter().filter(|(path, _)| path != "lock") {
            let kept = after.iter().find(|(kept, _)| kept == path);
            assert!(kept.is_some_and(|(_, kept)| kept == bytes), "{path}");
        }
    }
}

fn content_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
                all.push((name, fs::read(path).unwrap()));
            }
        }
    }
    all
}

/// A crash between any two steps of putting the sound store in place.
#[test]
fn a_repair_that_was_cut_short_is_finished() {
    let engine = EngineKind::Log;
    for steps in 0..6 {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), engine);
        let salvage = open(place.path());
        let sound = salvage.begin().unwrap();
        sound.put(b"which", b"the sound one").unwrap();
        sound.close_blocking().unwrap();
        drop(salvage);
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("quarantine/then")).unwrap();
        let moves = [
            ("MANIFEST", "quarantine/then/MANIFEST"),
            ("gen-1", "quarantine/then/gen-1"),
            ("mark", "quarantine/then/mark"),
            ("repair/gen-1", "gen-1"),
            ("repair/mark", "mark"),
        ];
        for (from, to) in moves.iter().take(steps) {
            fs::rename(at(from), at(to)).unwrap();
        }
        if steps == 0 {
            // What is there is opened, and the half-made one is of no account.
            let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
            assert!(outbox.get(b"which").is_none());
            outbox.close_blocking().unwrap();
            assert!(outbox::resume(place.path(), "later").unwrap().is_none());
            continue;
        }
        let refused = Outbox::open(&options(place.path(), engine)).map(|_| ());
        assert!(
            matches!(refused, Err(outbox::Error::Unfinished { .. })),
            "{steps}: {refused:?}"
        );
        outbox::resume(place.path(), "later").unwrap().unwrap();
        let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
        assert_eq!(
            outbox.get(b"which").as_deref(),
            Some(&b"the sound one"[..]),
            "{steps}"
        );
        outbox.close_blocking().unwrap();
        assert!(!at("repair").exists());
    }
}
