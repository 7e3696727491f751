//! Reads both topics all the time, keeps the ledger, and times how soon records flow again.

use crate::kafka::{Reader, Seen};
use crate::planted::Tamper;
use crate::running::RunningLedger;
use crate::schedule::{Kind, word};
use crate::site::{Site, TOPIC};
use anyhow::{Context, bail};
use culvert_tests::Verdict;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Two readers on threads of their own. Dropping it ends them.
pub struct Observer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    ended: AtomicBool,
}

struct State {
    ledger: RunningLedger,
    /// The sequence that comes next in each partition, at the source and at the target.
    sent: Vec<u64>,
    arrived: Vec<u64>,
    /// Marks that wait to see records flow.
    open: Vec<Mark>,
    /// Marks that have, or never will.
    done: Vec<Mark>,
    fault: Option<String>,
}

/// A moment, and how long after it records flowed again that were sent after it.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Of the schedule.
    pub seed: u64,
    /// What ended at that moment.
    pub name: String,
    /// When.
    pub at: Instant,
    at_ms: i64,
    seen: Vec<bool>,
    /// Until any record arrived, also one that had waited.
    pub any: Option<Duration>,
    /// Until the first arrived that was sent after it, in any partition.
    pub first: Option<Duration>,
    /// Until the source showed one that was sent after it: a broker that serves does not always take records in yet.
    pub held: Option<Duration>,
    /// Until one had arrived in every partition.
    pub all: Option<Duration>,
    /// Something else was broken before that: the times say nothing.
    pub disturbed: bool,
}

/// How far both ends are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Records at the source.
    pub sent: u64,
    /// Records at the target.
    pub arrived: u64,
}

impl Observer {
    /// Begins to read; `tamper` sees what the target shows before the ledger does.
    ///
    /// # Errors
    /// When a reader cannot be made.
    pub fn start(site: &Site, tamper: Tamper) -> anyhow::Result<Observer> {
        let partitions = usize::try_from(site.partitions)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(partitions)),
            ended: AtomicBool::new(false),
        });
        let source = Reader::open(&site.source.bootstrap(), TOPIC, site.partitions)?;
        let target = Reader::open(&site.target.bootstrap(), TOPIC, site.partitions)?;
        let threads = vec![
            std::thread::spawn({
                let shared = Arc::clone(&shared);
                move || look(&source, &shared, State::enter_sent)
            }),
            std::thread::spawn({
                let (shared, mut tamper) = (Arc::clone(&shared), tamper);
                move || {
                    look(&target, &shared, |state, seen| {
                        tamper.pass(seen, |seen| state.enter_arrived(seen));
                    });
                }
            }),
        ];
        Ok(Observer { shared, threads })
    }

    /// How far both ends are.
    pub fn totals(&self) -> Totals {
        let state = self.lock();
        Totals {
            sent: state.sent.iter().sum(),
            arrived: state.arrived.iter().sum(),
        }
    }

    /// Notes that all faults have ended now; the time until records flow again is taken from here.
    pub fn mark(&self, seed: u64, name: String) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        self.lock().mark(seed, name, at_ms);
    }

    /// Notes that something is broken now: whatever has not recovered yet says nothing any more.
    pub fn disturb(&self) {
        let mut state = self.lock();
        let open = std::mem::take(&mut state.open);
        let disturbed = open.into_iter().map(|mark| Mark {
            disturbed: true,
            ..mark
        });
        state.done.extend(disturbed);
    }

    /// Takes the marks that have seen records flow, or never will.
    pub fn take_marks(&self) -> Vec<Mark> {
        std::mem::take(&mut self.lock().done)
    }

    /// Waits until all that the source holds now has arrived, and that every mark has seen records flow.
    ///
    /// # Errors
    /// When it takes longer than `deadline`, or something is wrong with what has arrived.
    pub fn settle(&self, deadline: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let ends = self.lock().sent.clone();
        loop {
            self.sound()?;
            let state = self.lock();
            let there = state.arrived.iter().zip(&ends).all(|(next, end)| next >= end);
            if there && state.open.is_empty() {
                return Ok(started.elapsed());
            }
            if started.elapsed() > deadline {
                bail!(
                    "after {deadline:?} without faults {:?} of {ends:?} have arrived",
                    state.arrived
                );
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether nothing is wrong so far.
    ///
    /// # Errors
    /// When something is: what, and where first.
    pub fn sound(&self) -> anyhow::Result<()> {
        let state = self.lock();
        if let Some(fault) = &state.fault {
            bail!("{fault}");
        }
        let verdict = state.ledger.so_far();
        if !verdict.is_exactly_once() {
            bail!("{verdict}");
        }
        Ok(())
    }

    /// Waits until all that the source holds has arrived, and judges it.
    ///
    /// # Errors
    /// When it does not arrive in time, or was not each record once, whole and in order.
    pub fn verdict(&self, source: &Reader, deadline: Duration) -> anyhow::Result<Verdict> {
        let started = Instant::now();
        // What a producer that was ended had under way may still be written.
        std::thread::sleep(AFTERWARDS);
        let sent: u64 = source.ends()?.iter().sum();
        while self.totals().sent < sent {
            self.sound()?;
            if started.elapsed() > deadline {
                bail!("the source could not be read to its end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.settle(deadline.saturating_sub(started.elapsed()))
            .with_context(|| self.lock().ledger.verdict().to_string())?;
        // What still came now would be too much.
        std::thread::sleep(AFTERWARDS);
        let verdict = self.lock().ledger.verdict();
        if !verdict.is_exactly_once() || verdict.sent != sent {
            bail!("{verdict}, and the source holds {sent}");
        }
        Ok(verdict)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

/// How long one waits for what should not come.
const AFTERWARDS: Duration = Duration::from_secs(2);

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look(reader: &Reader, shared: &Shared, mut enter: impl FnMut(&mut State, Seen)) {
    while !shared.ended.load(Ordering::Relaxed) {
        match reader.next(Duration::from_millis(50)) {
            Ok(None) => {}
            Ok(Some(seen)) => enter(&mut shared.lock(), seen),
            Err(fault) => shared.lock().fault = Some(format!("{fault:#}")),
        }
    }
}

impl State {
    fn new(partitions: usize) -> State {
        State {
            ledger: RunningLedger::new(partitions),
            sent: vec![0; partitions],
            arrived: vec![0; partitions],
            open: Vec::new(),
            done: Vec::new(),
            fault: None,
        }
    }

    /// Something that was broken has ended at this time.
    fn mark(&mut self, seed: u64, name: String, at_ms: i64) {
        self.open.push(Mark {
            seed,
            name,
            at: Instant::now(),
            at_ms,
            seen: vec![false; self.sent.len()],
            any: None,
            first: None,
            held: None,
            all: None,
            disturbed: false,
        });
    }

    fn enter_sent(&mut self, seen: Seen) {
        self.ledger.sent(seen.partition, seen.sequence, seen.hash);
        if let Some(next) = of(&mut self.sent, seen.partition) {
            *next = seen.sequence + 1;
        }
        for mark in self.open.iter_mut().filter(|mark| seen.sent_ms > mark.at_ms) {
            mark.held.get_or_insert(mark.at.elapsed());
        }
    }

    fn enter_arrived(&mut self, seen: Seen) {
        self.ledger.arrived(seen.partition, seen.sequence, seen.hash);
        if let Some(next) = of(&mut self.arrived, seen.partition) {
            *next = seen.sequence + 1;
        }
        for mark in &mut self.open {
            mark.see(seen);
        }
        let flowing = self.open.extract_if(.., |mark| mark.all.is_some());
        self.done.extend(flowing);
    }
}

fn of(places: &mut [u64], partition: i32) -> Option<&mut u64> {
    usize::try_from(partition)
        .ok()
        .and_then(|place| places.get_mut(place))
}

impl Mark {
    /// Whether all that ended were kills of gateways and cuts of links, nothing else and no broker's.
    #[must_use]
    pub fn killed_or_cut(&self) -> bool {
        const KINDS: [Kind; 8] = [
            Kind::Kill,
            Kind::KillAll,
            Kind::KillAgain,
            Kind::Cut,
            Kind::CutIn,
            Kind::CutOut,
            Kind::Flap,
            Kind::Unplug,
        ];
        let known = |part: &str| {
            KINDS
                .iter()
                .any(|kind| part.split(' ').next() == Some(&word(kind)))
        };
        self.name.split(" + ").all(known)
    }

    /// Whether a broker's fault was among what ended.
    #[must_use]
    pub fn of_a_broker(&self) -> bool {
        self.name.contains("broker")
    }

    /// From the source's having one that was sent after the moment to the target's; nothing where the target's was seen
    /// before.
    #[must_use]
    pub fn behind(&self) -> Option<Duration> {
        let first = self.first?;
        Some(first.saturating_sub(self.held.unwrap_or(first)))
    }

    fn see(&mut self, seen: Seen) {
        let after = self.at.elapsed();
        self.any.get_or_insert(after);
        if seen.sent_ms <= self.at_ms {
            return;
        }
        self.first.get_or_insert(after);
        if let Some(place) = usize::try_from(seen.partition)
            .ok()
            .and_then(|place| self.seen.get_mut(place))
        {
            *place = true;
        }
        if self.seen.iter().all(|&seen| seen) {
            self.all = Some(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequence: u64, sent_ms: i64) -> Seen {
        Seen {
            partition: 0,
            sequence,
            hash: sequence,
            sent_ms,
        }
    }

    #[test]
    fn what_was_sent_before_a_fault_ended_does_not_say_that_records_flow_again() {
        let mut state = State::new(1);
        state.enter_sent(seen(0, 900));
        state.mark(7, "broker-kill source".into(), 1_000);
        state.enter_arrived(seen(0, 900));
        let waits = &state.open[0];
        assert!(waits.any.is_some() && waits.first.is_none() && waits.held.is_none());
        state.enter_sent(seen(1, 1_100));
        std::thread::sleep(Duration::from_millis(2));
        state.enter_arrived(seen(1, 1_100));
        assert!(state.open.is_empty());
        let mark = &state.done[0];
        let (first, held) = (mark.first.unwrap(), mark.held.unwrap());
        assert_eq!(mark.behind(), Some(first.checked_sub(held).unwrap()));
        assert!(held < first && !mark.killed_or_cut());
    }

    #[test]
    fn kills_and_cuts_are_told_from_what_else_is_broken_with_them() {
        let of = |name: &str| {
            let mut state = State::new(1);
            state.mark(7, name.into(), 0);
            state.open[0].killed_or_cut()
        };
        assert!(of("kill gw1") && of("cut-in west + kill-all gateways + unplug net2"));
        assert!(!of("kill gw1 + broker-kill source") && !of("loss west") && !of("kill gw1 + narrow east"));
    }
}
