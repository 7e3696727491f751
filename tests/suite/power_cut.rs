//! What the outbox acknowledged is there after a power cut, whenever it comes and whatever else the disk kept: every
//! frame, in order, unchanged, and nothing that was never asked for (A2).
//!
//! A child process, this binary again, works on a [`LossyDisk`] and says what it asks for and what it was told is
//! durable. The power goes at a random act on the disk; the next child opens what is left and checks it against its
//! predecessor's words, and goes on from there.
//!
//! `CULVERT_POWER_CUTS` sets how many cuts each engine gets, `CULVERT_POWER_SEED` the first seed.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use culvert::outbox::{self, EngineKind, Lane, Options, Outbox};
use culvert_proto::{Interval, Sequence};
use culvert_tests::figures::figure;
use culvert_tests::lossy_disk::{Moment, Survivors};
use culvert_tests::process::Process;
use culvert_tests::{LossyDisk, Scratch, host, wait_for};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Cuts for each engine, unless told otherwise.
const CUTS: u64 = 32;

/// What nobody waits for: a child that neither meets its cut nor ends.
const DEADLINE: Duration = Duration::from_secs(60);

/// A cut that is tied to an event comes without it after this long.
const PATIENCE: Duration = Duration::from_secs(2);

const LANES: usize = 3;

#[test]
fn nothing_acknowledged_is_lost_by_the_segment_log() -> anyhow::Result<()> {
    const NAME: &str = "nothing_acknowledged_is_lost_by_the_segment_log";
    cut_power_again_and_again(NAME, EngineKind::Log)
}

#[test]
fn nothing_acknowledged_is_lost_by_sled() -> anyhow::Result<()> {
    const NAME: &str = "nothing_acknowledged_is_lost_by_sled";
    cut_power_again_and_again(NAME, EngineKind::Sled)
}

fn cut_power_again_and_again(test: &str, engine: EngineKind) -> anyhow::Result<()> {
    let mut disk = match LossyDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            host::not_run(test, &format!("{why:#}"));
            return Ok(());
        }
    };
    let cuts = number_from("CULVERT_POWER_CUTS").unwrap_or(CUTS);
    let seed = number_from("CULVERT_POWER_SEED").unwrap_or_else(rand::random);
    let scratch = Scratch::new("power-cut")?;
    let mut promises = Promises::default();
    let mut count = Count::default();
    for cut in 0..cuts {
        let seed = seed.wrapping_add(cut);
        round(&mut disk, engine, seed, &scratch, &mut promises, &mut count)
            .with_context(|| format!("{} with CULVERT_POWER_SEED={seed}, cut {cut}", engine.name()))?;
    }
    let last = Worker::start(&disk, engine, seed, &scratch, true)?;
    wait_for(DEADLINE, "the last look", || last.process.ended())?;
    promises.hear(&last.words()?)?;
    ensure!(
        promises.opened,
        "the last look did not end well: {}",
        last.process.tail()
    );

    let swaps = disk.renames_to("MANIFEST");
    figure(&format!(
        "power cut, {}: {cuts} cuts from seed {seed}, {} of them while opening, {} commands acknowledged, {} MANIFEST \
         swaps, {} of the cuts beside one, lost 0, invented 0",
        engine.name(),
        count.opening,
        promises.acknowledged_total,
        swaps.saturating_sub(1),
        count.beside_a_swap,
    ));
    ensure!(
        promises.acknowledged_total > 10 * cuts,
        "hardly anything was acknowledged"
    );
    ensure!(
        engine == EngineKind::Log || swaps > cuts / 4,
        "sled moved {swaps} times only"
    );
    Ok(())
}

#[derive(Default)]
struct Count {
    opening: u64,
    beside_a_swap: u64,
}

/// One child's life and the cut that ends it.
fn round(
    disk: &mut LossyDisk,
    engine: EngineKind,
    seed: u64,
    scratch: &Scratch,
    promises: &mut Promises,
    count: &mut Count,
) -> anyhow::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let moment = moment(engine, &mut random);
    disk.cut_at(moment);
    let swaps = disk.renames_to("MANIFEST");
    let worker = Worker::start(disk, engine, seed, scratch, false)?;
    let started = Instant::now();
    wait_for(DEADLINE, "the power cut", || {
        if started.elapsed() > PATIENCE && matches!(moment, Moment::Rename { .. }) {
            disk.cut_at(Moment::Acts(0));
        }
        (disk.is_cut() || worker.process.ended().is_some()).then_some(())
    })
    .with_context(|| format!("the cut was to come {moment:?}"))
    .with_context(|| worker.process.tail())?;
    let ended_by_itself = !disk.is_cut();
    worker.process.kill9()?;
    promises.hear(&worker.words()?)?;
    ensure!(
        !ended_by_itself,
        "the child ended by itself: {}",
        worker.process.tail()
    );
    count.opening += u64::from(!promises.opened);
    count.beside_a_swap += u64::from(disk.renames_to("MANIFEST") > swaps && promises.opened);
    let survivors = [Survivors::Synced, Survivors::Prefix, Survivors::Some][random.random_range(0..3)];
    disk.restore(survivors, seed)
}

/// Anywhere, as often early as late; for sled often beside the moments at which one store takes over from another.
fn moment(engine: EngineKind, random: &mut ChaCha8Rng) -> Moment {
    let acts = random.random_range(0..12);
    match (engine, random.random_range(0..4)) {
        (EngineKind::Sled, 0 | 1) => Moment::Rename { to: "MANIFEST", acts },
        (EngineKind::Sled, 2) => Moment::Rename { to: "snapshot", acts },
        _ => Moment::Acts(2_f64.powf(random.random_range(0.0..12.0)) as u64),
    }
}

/// The child, as the test sees it.
struct Worker {
    process: Process,
    log: PathBuf,
}

impl Worker {
    fn start(
        disk: &LossyDisk,
        engine: EngineKind,
        seed: u64,
        scratch: &Scratch,
        only_look: bool,
    ) -> anyhow::Result<Worker> {
        let log = scratch.path().join("words");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--exact", "power_cut::child", "--nocapture", "--test-threads=1"])
            .env(ENGINE, engine.name())
            .env(PLACE, disk.path().join("outbox"))
            .env(SEED, seed.to_string())
            .env(ONLY_LOOK, if only_look { "yes" } else { "" })
            // sled runs `sync` when it is opened. The disk does not care, but all others of this host would be written.
            .env("PATH", "");
        let process = Process::spawn("the child", &command, &log)?;
        Ok(Worker { process, log })
    }

    fn words(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).context("read what the child said")
    }
}

/// What children said, and what must therefore be there.
#[derive(Default)]
struct Promises {
    /// What the newest child asked of each lane, oldest first, beginning with what it found.
    lanes: BTreeMap<usize, Vec<Asked>>,
    /// The newest command that is durable for certain, and the newest that was given.
    acknowledged: u64,
    asked: u64,
    acknowledged_total: u64,
    /// Whether the newest child opened the outbox.
    opened: bool,
}

/// What a lane is after one command.
#[derive(Clone, Copy, Debug)]
struct Asked {
    command: u64,
    /// Where the lane began when it was made or restarted: names its life.
    begin: u64,
    tail: u64,
    /// Frames below this may be freed.
    trim: u64,
}

impl Promises {
    /// Goes through a child's words, in the order in which they were said.
    fn hear(&mut self, words: &str) -> anyhow::Result<()> {
        self.opened = false;
        let mut found = BTreeMap::new();
        // What stands behind the last line's end was cut off by the kill.
        let whole = words.rfind('\n').map_or("", |end| &words[..end]);
        for line in whole.lines() {
            // The test harness speaks too, on lines of its own and before ours.
            let Some((_, line)) = line.split_once("child: ") else {
                continue;
            };
            let (verb, numbers) = line.split_once(' ').unwrap_or((line, ""));
            let numbers = numbers
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<Vec<u64>, _>>()
                .with_context(|| line.to_owned())?;
            match (verb, &numbers[..]) {
                ("found", [lane, base, durable]) => {
                    found.insert(usize::try_from(*lane)?, (*base, *durable));
                }
                ("opened", [command]) => self.open(*command, &found)?,
                ("asked", [command, lane, begin, tail, trim]) => {
                    let (lane, command) = (usize::try_from(*lane)?, *command);
                    self.asked = command;
                    self.lanes.entry(lane).or_default().push(Asked {
                        command,
                        begin: *begin,
                        tail: *tail,
                        trim: *trim,
                    });
                }
                ("acknowledged", [command]) => {
                    self.acknowledged_total += command - self.acknowledged;
                    self.acknowledged = *command;
                }
                _ => bail!("not understood: {line}"),
            }
        }
        Ok(())
    }

    /// A child has opened what the cut left: the newest setting it found is that of `command`.
    fn open(&mut self, command: u64, found: &BTreeMap<usize, (u64, u64)>) -> anyhow::Result<()> {
        ensure!(
            (self.acknowledged..=self.asked).contains(&command),
            "command {command} is the newest found; {} was acknowledged, {} the last",
            self.acknowledged,
            self.asked
        );
        for (lane, (base, durable)) in found {
            let asked = self.lanes.entry(*lane).or_default();
            judge(asked, command, *base, *durable).with_context(|| {
                format!("lane {lane} holds [{base}, {durable}) at command {command}; asked were {asked:?}")
            })?;
            let begin = begin_of(*base);
            *asked = vec![Asked {
                command,
                begin,
                tail: *durable,
                trim: *base,
            }];
        }
        // What was asked behind it and is there as well makes no difference: it was judged.
        (self.acknowledged, self.asked, self.opened) = (command, command, true);
        Ok(())
    }
}

/// Whether a lane may hold `[base, durable)` when everything up to `command` is durable.
fn judge(asked: &[Asked], command: u64, base: u64, durable: u64) -> anyhow::Result<()> {
    let Some(floor) = asked.iter().rposition(|asked| asked.command <= command) else {
        // Nothing of this lane was durable for certain.
        let nothing = base == 0 && durable == 0;
        let possible = nothing
            || asked
                .iter()
                .any(|asked| asked.begin == begin_of(base) && asked.tail >= durable);
        ensure!(possible, "it was invented");
        return Ok(());
    };
    let life: Vec<&Asked> = asked[floor..]
        .iter()
        .filter(|asked| asked.begin == begin_of(base))
        .collect();
    let (Some(first), Some(last)) = (life.first(), life.last()) else {
        bail!("it is of a life that is over, or never was");
    };
    ensure!(durable >= first.tail, "frames are missing at its end");
    ensure!(durable <= last.tail, "it holds frames that were never appended");
    ensure!(
        base <= last.trim.max(last.begin),
        "frames are missing at its begin"
    );
    Ok(())
}

/// Each life of a lane begins at a multiple of this.
const LIFE: u64 = 1_000_000_000;

fn begin_of(place: u64) -> u64 {
    place - place % LIFE
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

const ENGINE: &str = "CULVERT_TEST_POWER_ENGINE";
const PLACE: &str = "CULVERT_TEST_POWER_PLACE";
const SEED: &str = "CULVERT_TEST_POWER_SEED";
const ONLY_LOOK: &str = "CULVERT_TEST_POWER_ONLY_LOOK";

/// The setting that holds the number of the newest command.
const COMMAND: &[u8] = b"command";

/// A lane is trimmed when it holds more places than this.
const WINDOW: u64 = 120;

/// Where a child begins. In the test run itself there is nothing to do.
#[test]
fn child() -> anyhow::Result<()> {
    let Ok(engine) = std::env::var(ENGINE) else {
        return Ok(());
    };
    let engine = if engine == "sled" {
        EngineKind::Sled
    } else {
        EngineKind::Log
    };
    let place = std::env::var_os(PLACE).context("no place")?;
    let mut child = Child::open(Path::new(&place), engine)?;
    if std::env::var(ONLY_LOOK).is_ok_and(|only| !only.is_empty()) {
        child.outbox.close_blocking()?;
        return Ok(());
    }
    loop {
        child.step()?;
    }
}

/// The child, as it sees itself.
struct Child {
    outbox: Outbox,
    lanes: Vec<Lane>,
    states: Vec<Asked>,
    command: u64,
    random: ChaCha8Rng,
}

impl Child {
    fn open(place: &Path, engine: EngineKind) -> anyhow::Result<Child> {
        let outbox = Outbox::open(&Options {
            engine,
            reserve_bytes: 0,
            cache_bytes: 0,
            // A small store that moves often.
            slack_bytes: 256 << 10,
            ..Options::new(place)
        })?;
        let lanes = (0..LANES)
            .map(|lane| outbox.lane(&name(lane)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut states = Vec::new();
        for (number, lane) in lanes.iter().enumerate() {
            let extent = lane.extent();
            read(number, lane, extent.base, extent.base)?;
            say(format_args!("found {number} {} {}", extent.base, extent.durable))?;
            states.push(Asked {
                command: 0,
                begin: begin_of(extent.base.0),
                tail: extent.tail.0,
                trim: extent.base.0,
            });
        }
        let command = match outbox.get(COMMAND) {
            Some(command) => u64::from_be_bytes(command[..].try_into()?),
            None => 0,
        };
        say(format_args!("opened {command}"))?;
        Ok(Child {
            outbox,
            lanes,
            states,
            command,
            random: ChaCha8Rng::seed_from_u64(number_from(SEED).unwrap_or(0)),
        })
    }

    /// A few commands, and often the wait until they are durable. Meanwhile a reader reads.
    fn step(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.random.random_range(1..6) {
            let lane = self.random.random_range(0..LANES);
            match self.random.random_range(0..100) {
                0..2 => self.restart(lane)?,
                2 => self.remove(lane)?,
                3..25 => self.trim(lane)?,
                _ => self.append(lane)?,
            }
        }
        self.outbox.put(COMMAND, &self.command.to_be_bytes())?;
        if self.random.random_bool(0.6) {
            let command = self.command;
            self.outbox.sync()?;
            say(format_args!("acknowledged {command}"))?;
        }
        let lane = self.random.random_range(0..LANES);
        let extent = self.lanes[lane].extent();
        read(
            lane,
            &self.lanes[lane],
            extent.base,
            Sequence(self.states[lane].trim),
        )
    }

    fn append(&mut self, lane: usize) -> anyhow::Result<()> {
        if self.states[lane].begin == 0 {
            self.restart(lane)?; // a new lane: its life gets a begin of its own
        }
        for _ in 0..self.random.random_range(1..8) {
            let from = self.states[lane].tail;
            let interval = Interval::new(Sequence(from), Sequence(from + 1 + from % 3));
            self.ask(lane, |state| state.tail = interval.to.0)?;
            self.lanes[lane].append(interval, frame(lane, interval))?;
        }
        let Asked { tail, trim, .. } = self.states[lane];
        if tail - trim > WINDOW {
            self.trim(lane)
        } else {
            Ok(())
        }
    }

    fn trim(&mut self, lane: usize) -> anyhow::Result<()> {
        let Asked { tail, trim, .. } = self.states[lane];
        let below = self.random.random_range(trim..=tail);
        self.ask(lane, |state| state.trim = below)?;
        Ok(self.lanes[lane].trim(Sequence(below))?)
    }

    fn restart(&mut self, lane: usize) -> anyhow::Result<()> {
        let begin = self.random.random_range(1..1_000_000) * LIFE;
        self.ask(lane, |state| {
            (state.begin, state.tail, state.trim) = (begin, begin, begin);
        })?;
        Ok(self.lanes[lane].restart(Sequence(begin))?)
    }

    /// The lane is removed and a new one takes its name. It begins where its first frame does.
    fn remove(&mut self, lane: usize) -> anyhow::Result<()> {
        self.ask(lane, |state| (state.begin, state.tail, state.trim) = (0, 0, 0))?;
        self.outbox.remove_lane(&self.lanes[lane])?;
        self.lanes[lane] = self.outbox.lane(&name(lane))?;
        self.restart(lane)
    }

    /// Says what is going to be asked for, before it can be durable.
    fn ask(&mut self, lane: usize, change: impl FnOnce(&mut Asked)) -> anyhow::Result<()> {
        self.command += 1;
        let state = &mut self.states[lane];
        change(state);
        let Asked {
            begin, tail, trim, ..
        } = *state;
        say(format_args!(
            "asked {} {lane} {begin} {tail} {trim}",
            self.command
        ))
    }
}

fn say(words: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("child: {words}\n").as_bytes())?;
    Ok(out.flush()?)
}

fn name(lane: usize) -> Vec<u8> {
    format!("lane {lane}").into_bytes()
}

/// Its content says which frame it is. Most are small, a few are not.
fn frame(lane: usize, interval: Interval) -> Bytes {
    let Interval { from, to } = interval;
    let mut random = ChaCha8Rng::seed_from_u64(from.0 << 8 | lane as u64);
    let mut content = format!("{lane} {from} {to} ").into_bytes();
    let most = if from.0 % 16 == 0 { 60_000 } else { 3_000 };
    content.resize(random.random_range(100..most), 0);
    random.fill_bytes(&mut content[32..]);
    Bytes::from(content)
}

/// Reads a lane to its end; a gap or another content is an error. A trim up to `trim` may become durable meanwhile: what
/// it frees is passed over.
fn read(number: usize, lane: &Lane, from: Sequence, trim: Sequence) -> anyhow::Result<()> {
    let durable = lane.extent().durable;
    let mut next = from;
    while next < durable {
        let frames = match lane.read(next, 1 << 20) {
            Err(outbox::Error::Trimmed { base, .. }) if next < base && base <= trim => {
                next = base;
                continue;
            }
            frames => frames?,
        };
        ensure!(!frames.is_empty(), "lane {number}: nothing at {next} of {lane:?}");
        for (interval, bytes) in frames {
            ensure!(interval.from == next, "lane {number}: a gap at {next}");
            ensure!(
                bytes == frame(number, interval),
                "lane {number}: another content at {next}"
            );
            next = interval.to;
        }
    }
    Ok(())
}
