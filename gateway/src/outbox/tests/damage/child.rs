//! What a child does: damage, open, read all, and say what came of it, attempt by attempt.

use super::super::options;
use super::attempt::{Attempt, Extent, attempts};
use super::memory::MemoryDisk;
use super::store::{Contents, Files, Stores, store};
use super::{Verdict, names};
use crate::outbox::disk::{Disk, RealDisk};
use crate::outbox::{EngineKind, Error, Salvage, read_back};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// What a child says begins with this; nothing else that is printed holds it.
pub(super) const SPOKEN: &str = "spoken: ";

const PLACE: &str = "CULVERT_TEST_DAMAGE_PLACE";
const ENGINE: &str = "CULVERT_TEST_DAMAGE_ENGINE";
const SAMPLE: &str = "CULVERT_TEST_DAMAGE_SAMPLE";
const SEED: &str = "CULVERT_TEST_DAMAGE_SEED";
const FROM: &str = "CULVERT_TEST_DAMAGE_FROM";
const TO: &str = "CULVERT_TEST_DAMAGE_TO";

/// What children of one look have in common.
pub(super) struct Job {
    pub(super) place: PathBuf,
    pub(super) engine: EngineKind,
    pub(super) extent: Extent,
    pub(super) seed: u64,
}

impl Job {
    /// Tells a child what to do.
    pub(super) fn tell(&self, command: &mut Command, from: usize, to: usize) {
        let sample = match self.extent {
            Extent::Whole => "whole".into(),
            Extent::Sample(count) => count.to_string(),
        };
        command
            .env(PLACE, &self.place)
            .env(ENGINE, self.engine.name())
            .env(SAMPLE, sample)
            .env(SEED, self.seed.to_string())
            .env(FROM, from.to_string())
            .env(TO, to.to_string());
    }

    fn told() -> (Job, usize, usize) {
        let word = |name: &str| std::env::var(name).unwrap();
        let job = Job {
            place: PathBuf::from(std::env::var_os(PLACE).unwrap()),
            engine: if word(ENGINE) == "log" {
                EngineKind::Log
            } else {
                EngineKind::Sled
            },
            extent: match word(SAMPLE).parse() {
                Ok(count) => Extent::Sample(count),
                Err(_) => Extent::Whole,
            },
            seed: word(SEED).parse().unwrap(),
        };
        (job, word(FROM).parse().unwrap(), word(TO).parse().unwrap())
    }
}

#[test]
#[ignore = "the child of the tests beside it"]
fn begins() {
    let (job, from, to) = Job::told();
    let stores = Stores::load(&job.place);
    let attempts = attempts(&stores, job.engine, job.extent, job.seed);
    let scratch = tempfile::tempdir_in(&job.place).unwrap();
    let desk = Desk {
        engine: job.engine,
        scratch: scratch.path().to_owned(),
        expected: None,
    };
    let (_, opened) = desk.open(&stores.now);
    let expected = opened.unwrap_or_else(|error| panic!("the store is not sound to begin with: {error}"));
    let desk = Desk {
        expected: Some(expected),
        ..desk
    };
    let mut out = std::io::stdout();
    for (number, attempt) in (from..).zip(&attempts[from..to]) {
        // A salvage reads all once more: of so many attempts, only some.
        let salvages = match job.extent {
            Extent::Whole => number % 32 == 0,
            Extent::Sample(count) => count < 10_000 || number % 4 == 0,
        };
        let (verdict, named) = desk.look(*attempt, &stores, salvages);
        writeln!(out, "{SPOKEN}{}", spell(&verdict, named)).unwrap();
        out.flush().unwrap();
    }
}

struct Desk {
    engine: EngineKind,
    scratch: PathBuf,
    expected: Option<Contents>,
}

/// What lies at a path after the store was opened.
type After = Box<dyn Fn(&str) -> Option<Vec<u8>>>;

impl Desk {
    fn look(&self, attempt: Attempt, stores: &Stores, salvages: bool) -> (Verdict, bool) {
        let expected = self.expected.as_ref().expect("the intact store was opened first");
        let files = attempt.done_to(stores);
        let (after, opened) = self.open(&files);
        match opened {
            Err(error) => {
                let message = error.to_string();
                let named = attempt.paths(stores).iter().any(|path| names(&message, path));
                let wrong = salvages.then(|| self.salvage(&files, expected)).flatten();
                (wrong.map_or(Verdict::Detected, Verdict::Wrong), named)
            }
            Ok(found) => {
                let verdict = match expected.difference(&found) {
                    Some(difference) => Verdict::Wrong(difference),
                    None if attempt.is_left(stores, after) => Verdict::Identical,
                    None => Verdict::Healed,
                };
                (verdict, false)
            }
        }
    }

    /// Opens a store of these files and reads all of it.
    fn open(&self, files: &Files) -> (After, Result<Contents, Error>) {
        match self.engine {
            EngineKind::Log => {
                let disk = MemoryDisk::new(files.clone());
                let contents = self.contents(Arc::new(disk.clone()));
                (Box::new(move |path| disk.content(path)), contents)
            }
            EngineKind::Sled => {
                let place = self.fresh_place();
                store(files, place.path());
                let contents = self.contents(Arc::new(RealDisk::new(place.path())));
                (
                    Box::new(move |path| std::fs::read(place.path().join(path)).ok()),
                    contents,
                )
            }
        }
    }

    /// What a salvage of these files says that is not so. That it cannot be made at all is an answer too.
    fn salvage(&self, files: &Files, expected: &Contents) -> Option<String> {
        let place = self.fresh_place();
        let disk: Arc<dyn Disk> = match self.engine {
            EngineKind::Log => Arc::new(MemoryDisk::new(files.clone())),
            EngineKind::Sled => {
                store(files, place.path());
                Arc::new(RealDisk::new(place.path()))
            }
        };
        let salvage = Salvage::on(&disk, None, &mut |_, _| {}).ok()?;
        expected.contradiction(&salvage)
    }

    /// A directory of its own for each store: sled's threads may be at work on one that broke before.
    fn fresh_place(&self) -> TempDir {
        tempfile::tempdir_in(&self.scratch).unwrap()
    }

    fn contents(&self, disk: Arc<dyn Disk>) -> Result<Contents, Error> {
        let (mut home, recovered) = read_back(disk, &options(&self.scratch, self.engine))?;
        home.establish()?;
        let marked = home.acknowledge(recovered.engine.commits());
        marked
            .and_then(|()| home.sync_mark())
            .map_err(Error::io("write mark"))?;
        let contents = Contents::of(&recovered);
        recovered.engine.close();
        contents
    }
}

fn spell(verdict: &Verdict, named: bool) -> String {
    match verdict {
        Verdict::Detected if named => "named".into(),
        Verdict::Detected => "detected".into(),
        Verdict::Healed => "healed".into(),
        Verdict::Identical => "identical".into(),
        Verdict::Wrong(what) => format!("wrong {what}"),
        Verdict::Died(_) | Verdict::Hung => unreachable!("whoever can say so is neither"),
    }
}

/// What [`spell`] spelled.
pub(super) fn parse(spoken: &str) -> (Verdict, bool) {
    match spoken {
        "named" => (Verdict::Detected, true),
        "detected" => (Verdict::Detected, false),
        "healed" => (Verdict::Healed, false),
        "identical" => (Verdict::Identical, false),
        wrong => (Verdict::Wrong(wrong.into()), false),
    }
}
