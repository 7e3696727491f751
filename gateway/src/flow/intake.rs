//! The first leg: from a source into the outbox.
//!
//! One thread a source task. Records become frames as they come: a frame is closed at its size, its count, a change
//! of leader epoch, or [`FRAME_AGE_MAX`] after its first record (later while nobody takes it, [`FRAME_AGE_BEHIND`]),
//! and appended to the stream's lane; the outbox makes it durable, and only then may it be sent (A2). Where a source
//! reads is decided by the stream's [`Origin`](culvert_proto::origin::Origin) machine.
//!
//! Where the connector has stages, records wait side by side until their frame would be closed, pass through the stages as
//! one batch, and what is left of them becomes frames. The guard of a record is that of what the source gave.
//!
//! | module | what it holds |
//! | --- | --- |
//! | this one | the task: its thread, and how often it polls, commits and tries again |
//! | [`desk`] | where records are handed over and become frames |
//! | [`stream`] | the stream that they become part of |
//! | [`pages`] | the same for sources that bring pages |
//!
//! Constraints:
//! - A record is encoded once, here, and decoded once, at delivery. Nothing is allocated for a record.
//! - While the outbox is full, the source is paused; at most one closed frame a stream waits in memory (A7). A stream that is
//!   at its quota is paused alone.

mod desk;
mod memory;
pub mod pages;
mod stream;
#[cfg(test)]
mod tests;

pub(super) use memory::remembers_runs;
pub(super) use stream::ORIGIN;
pub use stream::{OriginStream, remembered_streams};

use self::desk::Desk;
use self::stream::Order;
use super::delivery::Trouble;
use super::exchange::Exchange;
use super::paged::ResumePoint;
use super::stage::{Chain, MakeChain, StageFault};
use super::{Place, Slot, Source, SourceFault};
use crate::outbox;
use culvert_proto::batch::Codec;
use culvert_proto::message::{Fault, Priority};
use culvert_proto::{Sequence, StreamId, limits};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long the first record of a frame waits for company. Bounds what batching adds to latency; at 10,000 records a
/// second it makes frames of 50.
const FRAME_AGE_MAX: Duration = Duration::from_millis(5);

/// The same while the stream is behind: no next hop takes its frames, or [`BEHIND_PLACES`] wait to be sent. Latency is
/// not decided here then; fewer and larger frames cost less of everything, on disk, in memory and when they drain.
const FRAME_AGE_BEHIND: Duration = Duration::from_millis(100);

/// A stream with more places than this to send is behind: two full frames, many times what a flush leaves waiting.
const BEHIND_PLACES: u64 = 2 * limits::FRAME_RECORDS_MAX as u64;

/// A stream with more places than this to send, to a next hop that takes them, is ahead. A source that can be read again
/// is then read no faster than [`AHEAD_PAUSE`] allows: a record that waits there costs nothing, one that waits here is
/// written and read back. By eye: a tenth of a second at full speed, and a few MB.
const AHEAD_PLACES: u64 = 32 * limits::FRAME_RECORDS_MAX as u64;

/// The pause between two polls that bring much while a stream is ahead. Short, since streams that are not are read by the
/// same thread: they lose no more than this, and none of their rate below some 100,000 records a second.
const AHEAD_PAUSE: Duration = Duration::from_millis(10);

/// How long a source is polled when nothing is under way. Orders (a seek, a commit) wait as long.
const POLL_MAX: Duration = Duration::from_millis(10);

/// How often a source is told what has been applied. For people and for a cold start; a second of lag harms neither.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// A pause as long as this is told to people: shorter ones are the outbox keeping the source to its own pace.
const PAUSE_TOLD: Duration = Duration::from_secs(1);

/// The first pause of a stage that asked to be tried again later.
const STAGE_RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest wait between attempts while the outside system is away.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// One task of a source connector, running.
pub struct Task {
    orders: mpsc::Sender<Order>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    status: Arc<Mutex<Status>>,
}

/// What `status` shows of a source task.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Records taken in since the start.
    pub records: u64,
    /// Why the task stands, is being tried again, or stopped for good.
    pub trouble: Option<Trouble>,
    /// Where a source that brings pages goes on; the first of them.
    pub resume: Vec<ResumePoint>,
    /// Streams of a source that brings pages.
    pub streams: Vec<StreamId>,
}

/// How the streams of a task are begun and held.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What frames are compressed with.
    pub codec: Codec,
    /// Where streams are begun that were never read; a source that brings pages begins with its first.
    pub beginning: Place,
    /// The most bytes that each stream may hold in this gateway's outbox; `None`: what the outbox has room for.
    pub quota: Option<u64>,
    /// How urgent its frames are, on every link to their sinks.
    pub priority: Priority,
}

/// Makes the source of one task; called again after a fault that needs a new client.
pub type MakeSource = dyn Fn() -> Result<Box<dyn Source>, SourceFault> + Send + Sync;

impl Task {
    /// Starts the task on a thread of its own. `stages` makes what its records pass through.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        exchange: &Arc<Exchange>,
        name: &str,
        terms: Terms,
        stages: Arc<MakeChain>,
        make: Box<MakeSource>,
    ) -> std::io::Result<Task> {
        let Terms {
            codec,
            beginning,
            quota,
            priority,
        } = terms;
        let (orders, inbox) = mpsc::channel();
        let status = Arc::new(Mutex::new(Status::default()));
        let desk = Desk {
            exchange: exchange.clone(),
            orders: orders.clone(),
            codec,
            quota,
            priority,
            chain: Chain::default(),
            slots: BTreeMap::new(),
            taken: 0,
            wanted: None,
        };
        let runner = Runner {
            desk,
            inbox,
            beginning,
            commits: BTreeMap::new(),
            status: status.clone(),
            name: name.into(),
        };
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || runner.run(&*stages, &*make))?;
        Ok(Task {
            orders,
            thread: Mutex::new(Some(thread)),
            status,
        })
    }

    /// What `status` shows.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Hands what was read to the outbox, commits what was applied, and ends the thread.
    pub fn stop(&self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("an intake thread panicked");
        }
    }
}

/// Where the outbox remembers that a run's stream ends.
pub(super) fn run_end(outbox: &outbox::Outbox, spelled: &[u8]) -> Sequence {
    memory::End::load(outbox, spelled).at
}

/// From now on the run's stream ends at `at`, whatever lies before it; what names its records is not known unless it ended
/// there before.
pub(super) fn end_run_at(outbox: &outbox::Outbox, spelled: &[u8], at: Sequence) -> Result<(), outbox::Error> {
    if run_end(outbox, spelled) == at {
        return Ok(());
    }
    let mut group = outbox::Group::default();
    memory::End { at, chain: 0 }.put(&mut group, spelled)?;
    outbox.together(group)
}

/// Intake waits for room.
fn outbox_full(outbox: &outbox::Outbox) -> Trouble {
    let stats = outbox.stats();
    let disk = if stats.disk_full {
        ", and the disk has no space left"
    } else {
        ""
    };
    let reason = format!(
        "outbox is full: it holds {} bytes of its quota of {}{disk}; intake waits, and goes on by itself",
        stats.held_bytes, stats.quota_bytes
    );
    let code = "CULVERT-O005".into();
    Trouble::Paused(Fault { code, reason })
}

/// What is told of a stream that waits for its own quota.
#[must_use]
pub fn at_quota(stream: &StreamId, quota: &outbox::QuotaUse) -> Fault {
    let reason = format!(
        "{stream} holds {} bytes of its quota of {}: it is read no further, and goes on by itself when a tenth is \
         free",
        quota.used_bytes, quota.quota_bytes
    );
    let code = "CULVERT-O020".into();
    Fault { code, reason }
}

struct Runner {
    name: String,
    desk: Desk,
    inbox: mpsc::Receiver<Order>,
    beginning: Place,
    commits: BTreeMap<Slot, Sequence>,
    status: Arc<Mutex<Status>>,
}

impl Runner {
    fn run(mut self, stages: &MakeChain, make: &MakeSource) {
        let mut wait = Duration::from_millis(50);
        loop {
            let made = self.open_stages(stages).and_then(|()| make());
            let fault = match made {
                Ok(mut source) => {
                    let outcome = self.read(&mut *source, &mut wait);
                    source.close();
                    self.desk.revoke_all();
                    // The next source counts its slots from the beginning again.
                    self.commits.clear();
                    match outcome {
                        Ok(()) => return,
                        Err(fault) => fault,
                    }
                }
                Err(fault) => fault,
            };
            match fault {
                SourceFault::Stop { code, reason } => return self.failed(code, &reason),
                SourceFault::Retry(reason) => {
                    tracing::warn!(connector = %self.name, reason, "source is away, trying again");
                    self.status.lock().trouble = Some(Trouble::Retrying(reason));
                }
            }
            if self.stopped_within(wait) {
                return;
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// Stages that were opened stay open: a source that is made again does not concern them.
    fn open_stages(&mut self, stages: &MakeChain) -> Result<(), SourceFault> {
        if self.desk.chain.is_empty() {
            self.desk.chain = stages().map_err(|fault| match fault {
                StageFault::Retry { reason, .. } => SourceFault::Retry(reason),
                StageFault::Stream { code, reason } | StageFault::Stop { code, reason } => {
                    SourceFault::Stop { code, reason }
                }
            })?;
        }
        Ok(())
    }

    /// Reads until told to stop.
    fn read(&mut self, source: &mut dyn Source, wait: &mut Duration) -> Result<(), SourceFault> {
        let mut commit_at = Instant::now() + COMMIT_EVERY;
        let mut room = self.desk.exchange.outbox.room();
        let mut full_since = None;
        loop {
            while let Ok(order) = self.inbox.try_recv() {
                match order {
                    Order::Seek(slot, place, number) => self.seek(source, slot, place, number)?,
                    Order::Commit(slot, applied) => {
                        self.commits.insert(slot, applied);
                    }
                    Order::Stop => {
                        self.desk.close_batches(Instant::now() + FRAME_AGE_BEHIND);
                        return self.commit(source);
                    }
                }
            }
            let full = !*room.borrow_and_update() || self.desk.waits();
            full_since = full.then(|| full_since.unwrap_or_else(Instant::now));
            self.desk.pause(source, full)?;
            let taken_before = self.desk.taken;
            source.poll(self.desk.patience(), &mut self.desk)?;
            self.desk.close_batches(Instant::now());
            let brought_much = self.desk.taken - taken_before > limits::FRAME_RECORDS_MAX as u64;
            if brought_much && self.desk.is_ahead() {
                std::thread::sleep(AHEAD_PAUSE);
            }
            if Instant::now() >= commit_at {
                commit_at = Instant::now() + COMMIT_EVERY;
                self.commit(source)?;
                let mut status = self.status.lock();
                status.records = self.desk.taken;
                status.trouble = self.trouble(full_since.map(|since| since.elapsed()));
                *wait = Duration::from_millis(50);
            }
        }
    }

    /// What people should know of a source that is read.
    fn trouble(&self, paused_for: Option<Duration>) -> Option<Trouble> {
        if let Some(reason) = self.desk.held_back() {
            return Some(Trouble::Retrying(reason.to_owned()));
        }
        if paused_for.is_some_and(|paused_for| paused_for >= PAUSE_TOLD) {
            return Some(outbox_full(&self.desk.exchange.outbox));
        }
        let wanted = self.desk.wanted.clone()?;
        Some(Trouble::Waiting(Fault {
            code: wanted.code.into(),
            reason: wanted.reason,
        }))
    }

    fn seek(
        &mut self,
        source: &mut dyn Source,
        slot: Slot,
        place: Place,
        number: u64,
    ) -> Result<(), SourceFault> {
        if !self.desk.restart(slot, number) {
            return Ok(());
        }
        let place = if place == Place::Earliest {
            self.beginning
        } else {
            place
        };
        source.seek(slot, place)
    }

    fn commit(&mut self, source: &mut dyn Source) -> Result<(), SourceFault> {
        let due: Vec<(Slot, Sequence)> = std::mem::take(&mut self.commits).into_iter().collect();
        if due.is_empty() {
            Ok(())
        } else {
            source.commit(&due)
        }
    }

    fn stopped_within(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            match self
                .inbox
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(Order::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return true,
                // Said again to the next reader when it is assigned the stream.
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn failed(&self, code: &'static str, reason: &str) {
        tracing::error!(connector = %self.name, code, reason, "source stopped");
        let fault = Fault {
            code: code.into(),
            reason: reason.into(),
        };
        self.status.lock().trouble = Some(Trouble::Failed(fault));
        while !matches!(self.inbox.recv(), Ok(Order::Stop) | Err(_)) {}
    }
}
