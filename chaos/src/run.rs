//! One schedule after the other on one site under load, each followed by calm in which everything must arrive.

use crate::course::{Course, Incident, Sample};
use crate::disk::Disks;
use crate::judge;
use crate::kafka::Reader;
use crate::load::Load;
use crate::observer::{Mark, Observer};
use crate::perform::{Stage, lacking};
use crate::planted::{Planted, Tamper};
use crate::sample::resident;
use crate::schedule::{Kind, Place, Planned, Schedule, word};
use crate::site::{Options, Site, TOPIC};
use anyhow::{Context, bail};
use clap::ValueEnum;
use culvert_tests::{Verdict, wait_for};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of the first schedule; those behind it count up.
    pub seed: u64,
    /// Schedules begin until this has passed.
    pub minutes: f64,
    /// How long the faults of one schedule may take.
    pub length: Duration,
    /// Records a second.
    pub rate: u64,
    /// Of the topic.
    pub partitions: i32,
    /// `outbox.engine` of all gateways.
    pub engine: &'static str,
    /// What may be broken; all that this host can when empty.
    pub kinds: Vec<Kind>,
    /// In place of what seeds make: this, once.
    pub given: Option<Schedule>,
    /// Sites in networks of their own.
    pub apart: bool,
    /// A second gateway at site 1.
    pub spare: bool,
    /// Links may go over TCP.
    pub tcp: bool,
    /// The outboxes of gateways 1 and 2 on disks that can lose their power.
    pub lossy: bool,
    /// A fault in what the lab sees, which must fail the run.
    pub planted: Option<Planted>,
}

/// How long everything may take to arrive when nothing is broken any more: a broker's group and a transaction's
/// timeout fit in, one after the other.
const SETTLES: Duration = Duration::from_secs(120);

/// How often a sample is taken.
const EVERY: Duration = Duration::from_millis(500);

/// Runs it to its verdict. `course` holds what happened, also when it fails; `tell` is given a line for a person.
///
/// # Errors
/// When something was lost, doubled, put out of order or hangs, or the lab itself fails.
pub fn run(
    plan: &Plan,
    course: &mut Course,
    over: &AtomicBool,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<Verdict> {
    let site = Site::prepare(&Options {
        engine: plan.engine,
        partitions: plan.partitions,
        apart: plan.apart,
        spare: plan.spare,
        tcp: plan.tcp,
        ..Options::new(plan.seed)
    })?;
    let disks = disks(plan, &site, tell);
    let kinds = kinds(plan, &disks, tell);
    site.launch()?;
    let stage = Stage { site: &site, disks };
    let outcome = break_it(plan, &kinds, &stage, course, over, tell);
    course.alarms = judge::alarms(&site);
    // Also of a run that passed: what took long is explained there.
    site.keep(&course.folder.join("logs"))?;
    outcome
}

/// Disks of their own for gateways 1 and 2. Small ones with engine `log` alone, because sled may need a hand on a full one
/// (decision 8).
fn disks(plan: &Plan, site: &Site, tell: &mut dyn FnMut(String)) -> Disks {
    let made = match (plan.apart, plan.lossy, plan.engine) {
        (true, true, _) => Disks::lossy(site),
        (true, false, "log") => Disks::small(site),
        _ => return Disks::None,
    };
    made.unwrap_or_else(|fault| {
        tell(format!("no disks of their own: {fault:#}"));
        Disks::None
    })
}

/// What may be broken, and a word about what this host cannot.
fn kinds(plan: &Plan, disks: &Disks, tell: &mut dyn FnMut(String)) -> Vec<Kind> {
    let (mut able, mut unable) = (Vec::new(), Vec::new());
    for &kind in &plan.kinds {
        match lacking(kind, plan, disks) {
            None => able.push(kind),
            Some(why) => unable.push(format!("{} ({why})", word(&kind))),
        }
    }
    if !unable.is_empty() {
        tell(format!("not on this host: {}", unable.join(", ")));
    }
    able
}

fn break_it(
    plan: &Plan,
    kinds: &[Kind],
    stage: &Stage<'_>,
    course: &mut Course,
    over: &AtomicBool,
    tell: &mut dyn FnMut(String),
) -> anyhow::Result<Verdict> {
    let site = stage.site;
    let observer = Observer::start(site, Tamper::new(plan.planted))?;
    let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
    let load = Load::start(site, Some(plan.rate), None, plan.seed)?;
    wait_for(SETTLES, "the first records to arrive", || {
        (observer.totals().arrived > plan.rate).then_some(())
    })?;
    course.begin();
    let until = Instant::now() + Duration::from_secs_f64(plan.minutes * 60.0);
    let scene = Scene {
        stage,
        observer: &observer,
        active: Mutex::new(Active::default()),
        parts: Place::value_variants()
            .iter()
            .map(|&part| (part, Mutex::new(())))
            .collect(),
        began: Instant::now(),
        ended: AtomicBool::new(false),
    };
    let samples = Mutex::new(Vec::new());
    let outcome = thread::scope(|scope| {
        scope.spawn(|| scene.watch(&samples));
        let outcome = scene.rounds(plan, kinds, until, over, course, tell);
        scene.ended.store(true, Ordering::Relaxed);
        outcome
    });
    course.samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome?;
    load.stop()?;
    let verdict = observer.verdict(&source, SETTLES)?;
    course.verdict = Some(verdict.clone());
    judge::agree(site, SETTLES.max(PROOF), verdict.sent)?;
    Ok(verdict)
}

/// A proof reads both topics: some hundred thousand records a second.
const PROOF: Duration = Duration::from_secs(600);

/// A site under load while it is broken.
struct Scene<'a> {
    stage: &'a Stage<'a>,
    observer: &'a Observer,
    active: Mutex<Active>,
    /// Held by the fault that breaks it: one that lasts longer than planned, as a broker's start may, makes the next wait.
    parts: BTreeMap<Place, Mutex<()>>,
    began: Instant,
    ended: AtomicBool,
}

/// What is broken now.
#[derive(Default)]
struct Active {
    faults: Vec<Planned>,
    /// All since nothing was broken last.
    group: Vec<String>,
    incidents: Vec<Incident>,
    /// A gateway that ended by itself, or a fault that could not be performed.
    fault: Option<String>,
}

impl Scene<'_> {
    fn rounds(
        &self,
        plan: &Plan,
        kinds: &[Kind],
        until: Instant,
        over: &AtomicBool,
        course: &mut Course,
        tell: &mut dyn FnMut(String),
    ) -> anyhow::Result<()> {
        for round in 0.. {
            let schedule = match &plan.given {
                Some(given) => given.clone(),
                None => Schedule::from_seed(plan.seed.wrapping_add(round), plan.length, kinds),
            };
            course.schedules.push(schedule.clone());
            let told = self.round(&schedule, course);
            course.incidents.append(&mut self.lock().incidents);
            tell(told.with_context(|| format!("schedule of seed {}", schedule.seed))?);
            if plan.given.is_some() || Instant::now() >= until || over.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    /// One schedule, and the calm behind it. Returns what to tell of it.
    fn round(&self, schedule: &Schedule, course: &mut Course) -> anyhow::Result<String> {
        let began = Instant::now();
        thread::scope(|scope| {
            for (number, fault) in (0..).zip(&schedule.faults) {
                let seed = schedule.seed.rotate_left(32) ^ number;
                scope.spawn(move || self.act(schedule.seed, fault, seed, began));
            }
        });
        thread::sleep((began + schedule.length).saturating_duration_since(Instant::now()));
        if let Some(fault) = self.lock().fault.take() {
            bail!("{fault}");
        }
        let settled = self
            .observer
            .settle(SETTLES)
            .with_context(|| self.site().statuses());
        let settled = settled.inspect_err(|_| course.hung = true)?;
        self.site().ready()?;
        let marks = self.observer.take_marks();
        let told = told(schedule, &marks, settled, self.observer.totals().arrived);
        course.marks.extend(marks);
        Ok(told)
    }

    /// One fault at its time.
    fn act(&self, schedule: u64, fault: &Planned, seed: u64, began: Instant) {
        thread::sleep((began + fault.at).saturating_duration_since(Instant::now()));
        let parts = fault.place.parts().iter();
        let _held: Vec<_> = parts
            .filter_map(|part| self.parts.get(part))
            .map(|part| part.lock().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let from = self.began.elapsed();
        {
            let mut active = self.lock();
            if active.fault.is_some() {
                return;
            }
            active.faults.push(*fault);
            active
                .group
                .push(format!("{} {}", word(&fault.kind), word(&fault.place)));
            self.observer.disturb();
        }
        let performed = self.stage.perform(fault, seed);
        let mut active = self.lock();
        active.faults.retain(|other| other != fault);
        active.incidents.push(Incident {
            from,
            until: self.began.elapsed(),
            fault: *fault,
        });
        if let Err(fault) = performed {
            active.fault.get_or_insert(format!("{fault:#}"));
        }
        if active.faults.is_empty() {
            let group = std::mem::take(&mut active.group);
            self.observer.mark(schedule, group.join(" + "));
        }
    }

    /// Samples until the end, and sees gateways that end by themselves.
    fn watch(&self, samples: &Mutex<Vec<Sample>>) {
        while !self.ended.load(Ordering::Relaxed) {
            let totals = self.observer.totals();
            let memory = self
                .site()
                .gateways
                .iter()
                .map(|gateway| resident(gateway).unwrap_or(0));
            let sample = Sample {
                at: self.began.elapsed(),
                sent: totals.sent,
                arrived: totals.arrived,
                memory: memory.collect(),
            };
            samples
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sample);
            let mut active = self.lock();
            for (number, gateway) in (1..).zip(&self.site().gateways) {
                let excused = |fault: &Planned| matches!(fault.kind, Kind::Fsync | Kind::PowerCut);
                if gateway.has_ended() && !active.faults.iter().any(excused) {
                    let code = gateway.exit_code();
                    active
                        .fault
                        .get_or_insert(format!("gw{number} ended by itself, code {code:?}"));
                }
            }
            drop(active);
            thread::sleep(EVERY);
        }
    }

    fn site(&self) -> &Site {
        self.stage.site
    }

    fn lock(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(schedule: &Schedule, marks: &[Mark], settled: Duration, arrived: u64) -> String {
    let kinds: Vec<String> = schedule
        .faults
        .iter()
        .map(|fault| format!("{} {}", word(&fault.kind), word(&fault.place)))
        .collect();
    let slowest = marks
        .iter()
        .filter(|mark| !mark.disturbed)
        .filter_map(|mark| mark.first)
        .max();
    let slowest = slowest.map_or("-".into(), |time| format!("{:.2} s", time.as_secs_f64()));
    format!(
        "seed {}: {}; flows again within {slowest}, all there after {:.1} s; {arrived} records, each once",
        schedule.seed,
        kinds.join(", "),
        settled.as_secs_f64()
    )
}
