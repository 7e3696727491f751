//! Damage: stores whose bytes were changed, whose files were cut short, removed, exchanged, or are older than the others.
//!
//! Whatever was done, a store must say so ([`Verdict::Detected`]), have mended it ([`Verdict::Healed`]), or be as it
//! was ([`Verdict::Identical`]). Each attempt is looked at in a child process, which is this test binary again: one that
//! dies or hangs is told apart from the others, and a new one goes on behind it.
//!
//! `cargo xtask damage` runs the whole of it, which takes minutes; the ordinary tests a sample.

mod attempt;
mod child;
mod memory;
mod store;

use crate::outbox::EngineKind;
use attempt::{Attempt, Extent, attempts};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use store::Stores;

/// How long a child may be silent. Far above what one attempt takes beside builds; sled can search for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Attempts that one child makes: what sled leaks when it panics stays small.
const BATCH: usize = 2_000;

/// Children at a time.
const CHILDREN: usize = 2;

/// What became of a store that was damaged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// It says what is wrong, at the opening or at the reading.
    Detected,
    /// All is there, and the damage is gone: it was cut off, removed or written over.
    Healed,
    /// All is there; what was damaged means nothing.
    Identical,
    /// Something is missing or different, and nobody said so.
    Wrong(String),
    /// The child died of it; how, and its last words.
    Died(String),
    /// The child came to no end.
    Hung,
}

/// A sample in each run of the tests; [`the_whole_of_a_log`] is the rest.
#[test]
fn a_damaged_log_says_so_or_mends_it() {
    sample(EngineKind::Log, Extent::Sample(2_000));
}

#[test]
fn a_damaged_sled_says_so_or_mends_it() {
    sample(EngineKind::Sled, Extent::Sample(60));
}

/// Every byte of a store of 1 MB, twice.
#[test]
#[ignore = "a long run: cargo xtask damage"]
fn the_whole_of_a_log() {
    whole(EngineKind::Log, Extent::Whole);
}

/// All of its metadata, and 20,000 bytes of the rest.
#[test]
#[ignore = "a long run: cargo xtask damage"]
fn the_whole_of_a_sled() {
    whole(EngineKind::Sled, Extent::Sample(20_000));
}

/// A row for each kind of damage: how often each verdict was spoken.
#[derive(Default)]
struct Table {
    rows: BTreeMap<&'static str, BTreeMap<Verdict, usize>>,
    /// Errors that name the file.
    named: usize,
    /// What must not have been, with the attempt.
    faults: Vec<String>,
}

impl Table {
    fn count(&mut self, attempt: &Attempt, shown: &str, verdict: Verdict, named: bool) {
        if matches!(verdict, Verdict::Wrong(_) | Verdict::Died(_) | Verdict::Hung) {
            self.faults.push(format!("{shown}: {verdict:?}"));
        }
        let verdict = match verdict {
            Verdict::Wrong(_) => Verdict::Wrong(String::new()),
            Verdict::Died(_) => Verdict::Died(String::new()),
            other => other,
        };
        self.named += usize::from(named);
        *self
            .rows
            .entry(attempt.kind())
            .or_default()
            .entry(verdict)
            .or_default() += 1;
    }

    fn to_markdown(&self, engine: EngineKind) -> String {
        let mut text = String::from(
            "| engine | damage | attempts | detected | healed | identical | wrong | died | hung |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        );
        for (kind, row) in &self.rows {
            let all: usize = row.values().sum();
            let _ = write!(text, "| {} | {kind} | {all} ", engine.name());
            for verdict in [
                Verdict::Detected,
                Verdict::Healed,
                Verdict::Identical,
                Verdict::Wrong(String::new()),
                Verdict::Died(String::new()),
                Verdict::Hung,
            ] {
                let _ = write!(text, "| {} ", row.get(&verdict).copied().unwrap_or(0));
            }
            text.push_str("|\n");
        }
        let detected: usize = self
            .rows
            .values()
            .filter_map(|row| row.get(&Verdict::Detected))
            .sum();
        let _ = writeln!(text, "\n{} of {detected} errors name the file.", self.named);
        text
    }
}

fn sample(engine: EngineKind, extent: Extent) {
    let table = look(engine, extent, 60_000, 11);
    assert!(
        table.faults.is_empty(),
        "{}\n{:#?}",
        table.to_markdown(engine),
        table.faults
    );
    let detected = |kind: &str| {
        let row = table.rows.get(kind);
        row.and_then(|row| row.get(&Verdict::Detected))
            .copied()
            .unwrap_or(0)
    };
    for kind in ["flipped", "cut short", "removed", "exchanged", "older"] {
        assert!(
            detected(kind) > 0,
            "{kind}: nothing was detected\n{}",
            table.to_markdown(engine)
        );
    }
}

fn whole(engine: EngineKind, extent: Extent) {
    let seed = std::env::var("CULVERT_DAMAGE_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let table = look(engine, extent, 1 << 20, seed);
    println!("{}", table.to_markdown(engine));
    for fault in table.faults.iter().take(100) {
        println!("{fault}");
    }
    assert!(
        table.faults.is_empty(),
        "{} attempts went wrong",
        table.faults.len()
    );
}

/// Makes a store, damages a copy of it once for each attempt, and has children look at it.
fn look(engine: EngineKind, extent: Extent, bytes: u64, seed: u64) -> Table {
    let place = tempfile::tempdir_in(store::fast_place()).unwrap();
    store::make(place.path(), engine, bytes, seed);
    let stores = Stores::load(place.path());
    let attempts = attempts(&stores, engine, extent, seed);
    let table = Mutex::new(Table::default());
    let next = AtomicUsize::new(0);
    let batch = BATCH.min(attempts.len().div_ceil(CHILDREN));
    std::thread::scope(|scope| {
        for _ in 0..CHILDREN {
            scope.spawn(|| {
                loop {
                    let from = next.fetch_add(batch, Ordering::Relaxed);
                    if from >= attempts.len() {
                        break;
                    }
                    let job = child::Job {
                        place: place.path().to_owned(),
                        engine,
                        extent,
                        seed,
                    };
                    let to = (from + batch).min(attempts.len());
                    watch(&job, &stores, &attempts, from, to, &table);
                    // A long look shows how far it is, and what it found so far.
                    if attempts.len() > 10_000 && from.is_multiple_of(batch * 20) {
                        let table = table.lock().unwrap().to_markdown(engine);
                        println!("about {to} of {}\n{table}", attempts.len());
                    }
                }
            });
        }
    });
    table.into_inner().unwrap()
}

/// Has children make the attempts from `from` to `to`.
fn watch(
    job: &child::Job,
    stores: &Stores,
    attempts: &[Attempt],
    mut from: usize,
    to: usize,
    table: &Mutex<Table>,
) {
    while from < to {
        let words = tempfile::NamedTempFile::new_in(&job.place).unwrap();
        let (mut child, said) = start(job, from, to, words.reopen().unwrap());
        let ended = loop {
            match said.recv_timeout(PATIENCE) {
                Ok((verdict, named)) => {
                    let attempt = &attempts[from];
                    table
                        .lock()
                        .unwrap()
                        .count(attempt, &attempt.show(stores), verdict, named);
                    from += 1;
                }
                Err(RecvTimeoutError::Timeout) => break Some(Verdict::Hung),
                Err(RecvTimeoutError::Disconnected) => {
                    break (from < to).then(|| Verdict::Died(String::new()));
                }
            }
        };
        if ended != Some(Verdict::Died(String::new())) {
            let _ = child.kill();
        }
        let status = child.wait().unwrap();
        if let Some(mut verdict) = ended {
            if let Verdict::Died(how) = &mut verdict {
                let said = std::fs::read(words.path()).unwrap();
                let last = &said[said.len().saturating_sub(600)..];
                *how = format!("{status}: {}", String::from_utf8_lossy(last));
            }
            let attempt = &attempts[from];
            table
                .lock()
                .unwrap()
                .count(attempt, &attempt.show(stores), verdict, false);
            from += 1;
        }
    }
}

fn start(job: &child::Job, from: usize, to: usize, words: File) -> (Child, mpsc::Receiver<(Verdict, bool)>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "outbox::tests::damage::child::begins",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        // sled runs `sync` each time it is opened, which waits for all disks of the machine.
        .env("PATH", job.place.join("no programs"))
        .stdout(Stdio::piped())
        .stderr(words);
    job.tell(&mut command, from, to);
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // The test harness says which test it runs on the same line.
            let Some((_, spoken)) = line.split_once(child::SPOKEN) else {
                continue;
            };
            if say.send(child::parse(spoken)).is_err() {
                break;
            }
        }
    });
    (child, said)
}

/// The same in every process: attempts are numbered by it.
fn mix(seed: u64, number: u64) -> u64 {
    let mut mixed = (seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A file that a message may name: its own name, without the directories above it.
fn names(message: &str, path: &str) -> bool {
    Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| message.contains(name))
}
