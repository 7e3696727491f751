//! The outbox in a process that dies: kill -9 at random, and stores whose bytes were changed.
//!
//! The child is this test binary again, told by an environment variable what to do ([`child`]).
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // tests all through

use bytes::Bytes;
use culvert::outbox::{EngineKind, Error, Lane, Options, Outbox, verify_main};
use culvert_proto::{Interval, Sequence};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

const ROLE: &str = "CULVERT_TEST_OUTBOX_ROLE";
const PLACE: &str = "CULVERT_TEST_OUTBOX_PLACE";
const BEGIN: &str = "CULVERT_TEST_OUTBOX_BEGIN";
const LANES: usize = 3;

/// Frames the child keeps before it trims.
const WINDOW: u64 = 40;

/// Where a child of these tests begins. In the test run itself there is nothing to do.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    match role.as_str() {
        "feed log" => feed(&place, EngineKind::Log),
        "feed sled" => feed(&place, EngineKind::Sled),
        "flip" => flip(&place),
        "verify" => {
            if let Err(why) = verify_main(&[place.into_os_string()]) {
                eprintln!("{why}");
                std::process::exit(1);
            }
        }
        _ => panic!("{role}"),
    }
}

fn start(role: &str, place: &Path, begin: usize) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(PLACE, place)
        .env(BEGIN, begin.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    (child, said)
}

fn options(place: &Path, engine: EngineKind) -> Options {
    Options {
        engine,
        reserve_bytes: 0,
        cache_bytes: 0,
        ..Options::new(place)
    }
}

fn frame(lane: usize, interval: Interval) -> Bytes {
    let Interval { from, to } = interval;
    let mut random = ChaCha8Rng::seed_from_u64(from.0 << 8 | lane as u64);
    let mut content = format!("{lane} {from} {to} ").into_bytes();
    content.resize(random.random_range(100..3000), 0);
    random.fill_bytes(&mut content[24..]);
    Bytes::from(content)
}

fn lanes(outbox: &Outbox) -> Vec<Lane> {
    (0..LANES)
        .map(|lane| outbox.lane(format!("lane {lane}").as_bytes()).unwrap())
        .collect()
}

/// Appends for ever and says what is durable.
fn feed(place: &Path, engine: EngineKind) {
    let outbox = Outbox::open(&options(place, engine)).unwrap();
    let lanes = lanes(&outbox);
    let mut out = std::io::stdout();
    loop {
        for (number, lane) in lanes.iter().enumerate() {
            let tail = lane.extent().tail;
            let interval = Interval::new(tail, Sequence(tail.0 + 1 + tail.0 % 3));
            lane.append(interval, frame(number, interval)).unwrap();
            lane.trim(Sequence(tail.0.saturating_sub(WINDOW * (number as u64 + 1))))
                .unwrap();
        }
        outbox.sync().unwrap();
        for (number, lane) in lanes.iter().enumerate() {
            writeln!(out, "acknowledged {number} {}", lane.extent().durable).unwrap();
        }
        out.flush().unwrap();
    }
}

/// A2 in the small: what was acknowledged before a kill -9 is there, in order and unchanged.
#[test]
fn kill_9_loses_nothing_acknowledged() {
    for (engine, role) in [(EngineKind::Log, "feed log"), (EngineKind::Sled, "feed sled")] {
        let place = tempfile::tempdir().unwrap();
        let seed = rand::random();
        println!("seed {seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut acknowledged = [0; LANES];
        for round in 0..12 {
            let (mut child, said) = start(role, place.path(), 0);
            let enough = random.random_range(1..600);
            let mut heard = 0;
            for line in said.lines() {
                let line = line.unwrap();
                let Some((_, words)) = line.split_once("acknowledged ") else {
                    continue;
                };
                // The last line may have been cut off by the kill.
                let Some((lane, durable)) = words.split_once(' ') else {
                    continue;
                };
                let durable = durable.parse::<u64>().unwrap_or(0);
                let lane = lane.parse::<usize>().unwrap();
                acknowledged[lane] = durable.max(acknowledged[lane]);
                heard += 1;
                if heard == enough {
                    child.kill().unwrap(); // what it said before that is still in the pipe
                }
            }
            child.wait().unwrap();
            assert!(
                heard >= enough,
                "{engine:?}, round {round}: the child ended by itself"
            );
            let outbox = Outbox::open(&options(place.path(), engine)).unwrap();
            for (number, lane) in lanes(&outbox).iter().enumerate() {
                let durable = lane.extent().durable.0;
                let context = format!("{engine:?}, round {round}, seed {seed}, lane {number}: {lane:?}");
                assert!(
                    durable >= acknowledged[number],
                    "{context}, acknowledged {acknowledged:?}"
                );
                assert!(lane.extent().base.0 <= acknowledged[number], "{context}");
                check(number, lane).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            outbox.close_blocking().unwrap();
        }
    }
}

/// Reads all of a lane; wrong content panics.
fn check(number: usize, lane: &Lane) -> Result<(), Error> {
    let extent = lane.extent();
    let mut next = extent.base;
    while next < extent.durable {
        for (interval, bytes) in lane.read(next, 100_000)? {
            assert_eq!(interval.from, next, "gap");
            assert_eq!(bytes, frame(number, interval), "wrong content");
            next = interval.to;
        }
    }
    Ok(())
}

const FLIPPED_FRAMES: u64 = 12;

/// The same for sled as for the log in its own tests. In a child, because damage may abort or hang the process; the gateway's verifier guards against that.
#[test]
fn flipped_bytes_in_sled_are_never_wrong_or_missing_content() {
    let place = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(&options(place.path(), EngineKind::Sled)).unwrap();
    for from in 0..FLIPPED_FRAMES {
        for (number, lane) in lanes(&outbox).iter().enumerate() {
            let interval = Interval::new(Sequence(from), Sequence(from + 1));
            lane.append(interval, frame(number, interval)).unwrap();
        }
        outbox.put_durable(b"step", &from.to_be_bytes()).unwrap();
    }
    outbox.close_blocking().unwrap();

    let (mut begin, mut outcomes) = (0, BTreeMap::new());
    loop {
        let (mut child, said) = start("flip", place.path(), begin);
        let (tell, told) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            said.lines()
                .map_while(Result::ok)
                .all(|line| tell.send(line).is_ok())
        });
        let mut finished = false;
        let outcome = loop {
            match told.recv_timeout(Duration::from_secs(5)) {
                Ok(line) => match line.split_once(' ') {
                    Some(("flip", number)) => begin = number.parse::<usize>().unwrap() + 1,
                    Some(("outcome", outcome)) => *outcomes.entry(outcome.to_string()).or_insert(0) += 1,
                    _ => finished |= line == "finished",
                },
                Err(RecvTimeoutError::Timeout) => break "hung",
                Err(RecvTimeoutError::Disconnected) => break "died",
            }
        };
        let _ = child.kill();
        child.wait().unwrap();
        drop(told);
        reader.join().unwrap();
        if finished {
            break;
        }
        println!("flip {} {outcome}", begin.saturating_sub(1));
        *outcomes.entry(outcome.to_string()).or_insert(0) += 1;
        assert!(begin > 0, "the child did not begin");
    }
    println!("{outcomes:?}");
    assert_eq!(outcomes.get("wrong"), None, "{outcomes:?}");
    assert!(
        outcomes.get("found").is_some_and(|found| *found > 50),
        "{outcomes:?}"
    );
}

/// Flips one byte after the other and says what came of it. Panics and aborts are the parent's to see.
fn flip(place: &Path) {
    let begin: usize = std::env::var(BEGIN).unwrap().parse().unwrap();
    let files = files(place);
    // An open takes some 70 ms; all bytes would take minutes.
    const FLIPS_PER_FILE: usize = 25;
    let mut flips = Vec::new();
    for (path, content) in &files {
        let stride = (content.len() / FLIPS_PER_FILE).max(1);
        flips.extend((0..content.len()).step_by(stride).map(|byte| (path, byte)));
    }
    for (number, (path, byte)) in flips.iter().enumerate().skip(begin) {
        println!("\nflip {number}");
        eprintln!("{number} {} {byte}", path.display());
        let mut bad = files[*path].clone();
        bad[*byte] ^= 1 << (byte % 8);
        std::fs::write(path, bad).unwrap();
        println!("\noutcome {}", judge(place));
        restore(place, &files);
    }
    println!("\nfinished");
}

fn judge(place: &Path) -> String {
    let outbox = match Outbox::open(&options(place, EngineKind::Sled)) {
        Ok(outbox) => outbox,
        Err(_) => return "found".into(),
    };
    let complete = lanes(&outbox).iter().all(|lane| {
        let extent = lane.extent();
        (extent.base, extent.durable) == (Sequence(0), Sequence(FLIPPED_FRAMES))
    });
    let step = outbox.get(b"step").as_deref() == Some(&(FLIPPED_FRAMES - 1).to_be_bytes()[..]);
    if !complete || !step {
        return "wrong".into();
    }
    let read = lanes(&outbox)
        .iter()
        .enumerate()
        .try_for_each(|(number, lane)| check(number, lane));
    let _ = outbox.close_blocking();
    match read {
        Ok(()) => "without effect".into(),
        Err(Error::Damaged { .. }) => "found".into(),
        Err(error) => format!("{error:?}"),
    }
}

fn files(place: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().unwrap() != "lock" {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

/// Puts the files back as they were, and removes others.
fn restore(place: &Path, good: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, content) in files(place) {
        if good.get(&path) != Some(&content) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for (path, content) in good {
        if !path.exists() {
            std::fs::write(path, content).unwrap();
        }
    }
}

/// The verifier is asked before a sled store is opened, and its verdict holds.
#[test]
fn a_store_that_the_verifier_cannot_read_is_not_opened() {
    let place = tempfile::tempdir().unwrap();
    let verifier = place.path().join("verifier");
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n{ROLE}=verify {PLACE}=\"$3\" exec {} --exact child --nocapture >/dev/null\n",
        exe.display()
    );
    std::fs::write(&verifier, script).unwrap();
    std::fs::set_permissions(&verifier, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let place = place.path().join("outbox");
    let options = Options {
        verifier: Some(verifier),
        ..options(&place, EngineKind::Sled)
    };
    let open = || Outbox::open(&options);
    for _ in 0..2 {
        let outbox = open().unwrap();
        lanes(&outbox)[0].restart(Sequence(7)).unwrap();
        outbox.put_durable(b"a", b"b").unwrap();
        outbox.close_blocking().unwrap();
    }
    std::fs::write(place.join("gen-1/durability_cookie"), "spoiled").unwrap();
    assert!(
        matches!(open(), Err(Error::Unverified { .. })),
        "{:?}",
        open().map(|_| ())
    );
    assert!(verify_main(&[OsString::from("a"), OsString::from("b")]).is_err());
}
