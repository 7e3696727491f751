//! One instance of a plugin: its store, its limits, what it used.

use crate::bindings::meta;
use crate::capability::clock::Clock;
use crate::capability::log::Logbook;
use crate::capability::metrics::{Counted, Figure, Figures, Labels};
use crate::capability::{self, Reach, state};
use crate::description::Description;
use crate::engine::Engine;
use crate::fault::{LoadError, Poison};
use crate::grants::Veil;
use crate::surroundings::Surroundings;
use crate::tape::Tape;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{ResourceLimiter, Store, Trap};

/// What one instance may take. The operator's word; what a plugin asks for in its description is a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, all memories together.
    pub memory_bytes_max: usize,
    /// Time of one call.
    pub call_time_max: Duration,
    /// Time of `open`, in which an interpreter wakes up.
    pub open_time_max: Duration,
    /// Bytes that one call may hand to the gateway.
    pub answer_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes_max: 64 << 20,
            call_time_max: Duration::from_secs(1),
            open_time_max: Duration::from_secs(10),
            answer_bytes_max: 64 << 20,
        }
    }
}

/// How long a reason is at most.
const WORDS_BYTES_MAX: usize = 4 * 1024;

/// Elements of all tables of an instance. CPython's function tables have below 10,000.
const TABLE_ELEMENTS_MAX: usize = 100_000;

/// Core instances, memories and tables of one component: an interpreter has four of each.
const PARTS_MAX: usize = 100;

/// What a plugin has used, over all of its instances. Read at any time.
#[derive(Debug, Default)]
pub struct Meter {
    calls: AtomicU64,
    records: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    cpu_nanos: AtomicU64,
    memory_bytes_peak: AtomicU64,
    traps: AtomicU64,
    timeouts: AtomicU64,
    memory_faults: AtomicU64,
    log_lines_suppressed: AtomicU64,
    pub(crate) figures: Mutex<Figures>,
}

/// What a [`Meter`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls, also those that did not come back.
    pub calls: u64,
    /// Records shown to the plugin.
    pub records: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Bytes that came back.
    pub bytes_out: u64,
    /// Processor time of calls.
    pub cpu: Duration,
    /// The most memory an instance had.
    pub memory_bytes_peak: u64,
    /// Calls that trapped.
    pub traps: u64,
    /// Calls that were ended.
    pub timeouts: u64,
    /// Calls that wanted too much memory.
    pub memory_faults: u64,
    /// Lines above the limit of the log.
    pub log_lines_suppressed: u64,
}

impl Meter {
    /// What was used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            calls: read(&self.calls),
            records: read(&self.records),
            bytes_in: read(&self.bytes_in),
            bytes_out: read(&self.bytes_out),
            cpu: Duration::from_nanos(read(&self.cpu_nanos)),
            memory_bytes_peak: read(&self.memory_bytes_peak),
            traps: read(&self.traps),
            timeouts: read(&self.timeouts),
            memory_faults: read(&self.memory_faults),
            log_lines_suppressed: read(&self.log_lines_suppressed),
        }
    }

    /// The plugin's own figures, and how many times it gave one above a limit.
    #[must_use]
    pub fn figures(&self) -> (Vec<(String, Labels, Figure)>, u64) {
        self.figures.lock().read()
    }

    pub(crate) fn shown(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn answered(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn suppressed(&self, lines: u64) {
        self.log_lines_suppressed.fetch_add(lines, Ordering::Relaxed);
    }

    pub(crate) fn faulted(&self, poison: &Poison) {
        let counter = match poison {
            Poison::Trap(_) | Poison::Answer(_) => &self.traps,
            Poison::Timeout(_) => &self.timeouts,
            Poison::Memory(_) => &self.memory_faults,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What belongs to one instance and is seen by what it imports.
pub(crate) struct Guest {
    memory: Memory,
    pub(crate) logbook: Logbook,
    pub(crate) figures: Counted,
    pub(crate) clock: Clock,
    pub(crate) reach: Reach,
    pub(crate) state: state::Desk,
}

/// The memory of an instance, all of it together.
struct Memory {
    bytes: usize,
    bytes_max: usize,
    /// More was asked for.
    denied: bool,
    table_elements: usize,
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = self.bytes - current.min(self.bytes) + desired;
        if bytes > self.bytes_max {
            // A trap at once: few allocators live on after a refusal, and this one can be told from other traps.
            self.denied = true;
            wasmtime::bail!("memory limit");
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = self.table_elements - current.min(self.table_elements) + desired;
        let is_granted = elements <= TABLE_ELEMENTS_MAX;
        if is_granted {
            self.table_elements = elements;
        }
        Ok(is_granted)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// The store of an instance and what it is counted in.
pub(crate) struct Instance<Exports> {
    pub(crate) store: Store<Guest>,
    pub(crate) exports: Exports,
}

/// Opens instances of one plugin for one connector.
pub(crate) struct Nursery {
    engine: Engine,
    limits: Limits,
    around: Surroundings,
    pub(crate) veil: Veil,
    /// What the connector's store holds; empty where it has none.
    pub(crate) stored: state::Stored,
    pub(crate) meter: Arc<Meter>,
}

impl Nursery {
    /// `veil` covers what must not be read in the plugin's words.
    pub(crate) fn new(engine: Engine, limits: Limits, around: Surroundings, veil: Veil) -> Nursery {
        Nursery {
            engine,
            limits,
            around,
            veil,
            stored: state::Stored::default(),
            meter: Arc::default(),
        }
    }

    /// What the plugin says to people: no secrets, and no more than 4 KiB.
    pub(crate) fn words(&self, text: String) -> String {
        let mut text = self.veil.covered(text);
        if text.len() > WORDS_BYTES_MAX {
            text.truncate(text.floor_char_boundary(WORDS_BYTES_MAX));
        }
        text
    }

    pub(crate) fn tape(&self) -> Option<&Tape> {
        self.around.tape.as_ref()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A fresh instance. Running what a component runs when it starts counts against `open`'s time.
    pub(crate) fn instantiate<Exports>(
        &self,
        exports: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<Exports>,
    ) -> Result<Instance<Exports>, Poison> {
        let guest = Guest {
            memory: Memory {
                bytes: 0,
                bytes_max: self.limits.memory_bytes_max,
                denied: false,
                table_elements: 0,
            },
            logbook: Logbook::new(self.around.log.clone(), self.veil.clone(), self.meter.clone()),
            figures: Counted(self.meter.clone()),
            clock: Clock {
                now: self.around.now.clone(),
                tape: self.around.tape.clone(),
            },
            reach: Reach::new(&self.around),
            state: state::Desk::new(self.stored.clone(), self.around.cut.clone()),
        };
        let mut store = Store::new(self.engine.wasmtime(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(self.limits.answer_bytes_max);
        let exports = self.timed(&mut store, self.limits.open_time_max, exports)?;
        Ok(Instance { store, exports })
    }

    /// Makes one call. After an error the store must not be used again.
    pub(crate) fn call<Exports, Answer>(
        &self,
        instance: &mut Instance<Exports>,
        time: Duration,
        call: impl FnOnce(&Exports, &mut Store<Guest>) -> wasmtime::Result<Answer>,
    ) -> Result<Answer, Poison> {
        let Instance { store, exports } = instance;
        self.timed(store, time, |store| call(exports, store))
    }

    fn timed<Answer>(
        &self,
        store: &mut Store<Guest>,
        time: Duration,
        call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<Answer>,
    ) -> Result<Answer, Poison> {
        store.set_epoch_deadline(Engine::ticks(time));
        store.data_mut().reach.begin(time);
        let before = thread_nanos();
        let outcome = {
            let _running = self.engine.at_work();
            call(store)
        };
        let meter = &self.meter;
        meter.calls.fetch_add(1, Ordering::Relaxed);
        meter
            .cpu_nanos
            .fetch_add(thread_nanos().saturating_sub(before), Ordering::Relaxed);
        let memory = &store.data().memory;
        meter
            .memory_bytes_peak
            .fetch_max(memory.bytes as u64, Ordering::Relaxed);
        outcome.map_err(|error| {
            let poison = poison(&error, store.data(), time, &self.veil);
            meter.faulted(&poison);
            poison
        })
    }
}

fn poison(error: &wasmtime::Error, guest: &Guest, time: Duration, veil: &Veil) -> Poison {
    if guest.memory.denied {
        return Poison::Memory(guest.memory.bytes_max);
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
        return Poison::Timeout(time);
    }
    let mut text = error.root_cause().to_string();
    if let Some(last) = guest.logbook.last_error() {
        text = format!("{text} ({last})");
    }
    Poison::Trap(veil.covered(text))
}

fn thread_nanos() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Joins a component with what it imports.
pub(crate) fn link(engine: &Engine, component: &Component) -> Result<InstancePre<Guest>, LoadError> {
    let invalid = |error: wasmtime::Error| LoadError::Invalid {
        reason: format!("{error:#}"),
    };
    let mut linker = Linker::new(engine.wasmtime());
    capability::link(&mut linker).map_err(invalid)?;
    linker.instantiate_pre(component).map_err(invalid)
}

/// Asks a component what it is.
pub(crate) fn describe(engine: &Engine, component: &Component) -> Result<Description, LoadError> {
    let pre = meta::MetaPre::new(link(engine, component)?).map_err(|error| LoadError::MissingExport {
        missing: format!("what culvert:plugin/meta holds ({error:#})"),
    })?;
    let limits = Limits::default();
    let time = limits.open_time_max;
    let nursery = Nursery::new(engine.clone(), limits, Surroundings::bare(), Veil::default());
    let failed = |poison: Poison| LoadError::Description {
        reason: format!("describe: {poison}"),
    };
    let mut instance = nursery
        .instantiate(|store| pre.instantiate(store))
        .map_err(failed)?;
    nursery
        .call(&mut instance, time, |exports, store| {
            exports.culvert_plugin_meta().call_describe(store)
        })
        .map_err(failed)?
        .try_into()
}
