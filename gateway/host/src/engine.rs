//! The engine: how components are compiled and how time runs for them.

use crate::cache::{Cache, Digest};
use crate::component::{self, Plugin};
use crate::fault::LoadError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::component::Component;

/// How often a plugin at work is looked at. A call is ended up to this much late; finer costs more wake-ups than it is
/// worth.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// The largest component taken: Python's interpreter makes 18 MB, SpiderMonkey's 12.
pub(crate) const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How deep a plugin may call itself, in bytes of stack: half of what a thread of ours has to give. CPython needs more than
/// 512 KiB to notice by itself that JSON is nested too deeply.
const STACK_BYTES_MAX: usize = 1024 * 1024;

/// What a compiling child may take. SpiderMonkey's 12 MB took 5 s on two cores and below 1 GB.
const COMPILE_SECONDS_MAX: u64 = 120;
const COMPILE_MEMORY_MAX: u64 = 4 << 30;

/// Where compiling happens and where its results are kept.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where compiled components are kept; none keeps none.
    pub cache: Option<PathBuf>,
    /// What is kept there is only looked up: nothing is written, not even the folder.
    pub is_reader: bool,
    /// Who compiles.
    pub compiler: Compiler,
}

/// Who compiles a component that is not in the cache.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// This process: for tools whose user waits for it, and can end it.
    #[default]
    Here,
    /// A child, `program arguments… INPUT OUTPUT`, that calls [`compile`]: it may take 120 s of processor time and
    /// 4 GiB of memory.
    Child {
        /// The program.
        program: PathBuf,
        /// What comes before the two files.
        arguments: Vec<OsString>,
    },
}

/// Compiles, loads and times plugins. Cheap to clone; one for a process.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasmtime: wasmtime::Engine,
    cache: Option<Cache>,
    compiler: Compiler,
    ticker: Ticker,
}

impl Engine {
    /// An engine and its clock.
    ///
    /// # Errors
    /// When this processor or system cannot run compiled components, or the cache's folder cannot be made.
    pub fn new(options: Options) -> Result<Engine, LoadError> {
        let wasmtime = wasmtime_engine()?;
        let cache = options
            .cache
            .map(|folder| Cache::open(folder, options.is_reader, &wasmtime))
            .transpose()?;
        let ticker = Ticker::start(&wasmtime).map_err(|source| LoadError::Io {
            doing: "start the clock of plugins".into(),
            source,
        })?;
        Ok(Engine {
            inner: Arc::new(Inner {
                wasmtime,
                cache,
                compiler: options.compiler,
                ticker,
            }),
        })
    }

    /// A plugin from the bytes of its file. Takes as long as compiling (seconds for an interpreter) unless it is cached.
    ///
    /// # Errors
    /// [`LoadError`], which names what is wrong with the file.
    pub fn load(&self, bytes: &[u8]) -> Result<Plugin, LoadError> {
        let examined = component::examine(bytes)?;
        let digest = Digest::of(bytes);
        let component = self.component(bytes, &digest)?;
        Plugin::new(self.clone(), examined, digest, component)
    }

    fn component(&self, bytes: &[u8], digest: &Digest) -> Result<Component, LoadError> {
        let Inner {
            wasmtime,
            cache,
            compiler,
            ..
        } = &*self.inner;
        if let Some(cache) = cache
            && let Some(component) = cache.load(wasmtime, digest)
        {
            return Ok(component);
        }
        let compiled = match compiler {
            Compiler::Here => compile_here(wasmtime, bytes)?,
            Compiler::Child { program, arguments } => compile_in_child(program, arguments, bytes)?,
        };
        if let Some(cache) = cache
            && let Err(error) = cache.keep(digest, &compiled)
        {
            tracing::warn!(%error, "compiled plugin not kept; it will be compiled again");
        }
        crate::cache::deserialize(wasmtime, &compiled)
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.wasmtime
    }

    /// How many ticks a call may see, to be at work for `time`. One more than fit: the first may come at once.
    pub(crate) fn ticks(time: Duration) -> u64 {
        u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2) + 1
    }

    /// Time runs until the guard is dropped.
    pub(crate) fn at_work(&self) -> AtWork<'_> {
        self.inner.ticker.begin();
        AtWork(&self.inner.ticker)
    }
}

/// The settings under which code is compiled and run; they are part of what the cache knows a compiled component by.
fn wasmtime_engine() -> Result<wasmtime::Engine, LoadError> {
    let mut config = wasmtime::Config::new();
    config
        .strategy(wasmtime::Strategy::Cranelift)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        // The same bytes on every processor, so that a recorded batch gives the same answer elsewhere.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    wasmtime::Engine::new(&config).map_err(|error| LoadError::Compile {
        reason: format!("{error:#}"),
    })
}

fn compile_here(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    engine
        .precompile_component(bytes)
        .map_err(|error| LoadError::Invalid {
            reason: format!("{error:#}"),
        })
}

fn compile_in_child(program: &Path, arguments: &[OsString], bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    let io = |doing: &str| {
        let doing = doing.to_owned();
        move |source| LoadError::Io { doing, source }
    };
    let folder = tempfile::tempdir().map_err(io("make a folder to compile in"))?;
    let (input, output) = (folder.path().join("in.wasm"), folder.path().join("out.cwasm"));
    std::fs::write(&input, bytes).map_err(io("write the component to compile"))?;
    let ended = Command::new(program)
        .args(arguments)
        .args([&input, &output])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(io("start the compiler"))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        let says = |line: &&str| !line.trim().is_empty() && !line.starts_with("note:");
        let last = said.lines().rev().find(says).unwrap_or("it said nothing");
        return Err(LoadError::Compile {
            reason: format!("{}: {last}", ended.status),
        });
    }
    std::fs::read(&output).map_err(io("read what was compiled"))
}

/// Compiles `input` to `output` under limits of this process: what a [`Compiler::Child`] does, and nothing else may be
/// done in that process.
///
/// # Errors
/// When the file is no component, or the disk fails.
pub fn compile(input: &Path, output: &Path) -> Result<(), LoadError> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // A limit that cannot be set is one the system already holds lower.
    let _ = setrlimit(Resource::Cpu, limit(COMPILE_SECONDS_MAX));
    let _ = setrlimit(Resource::As, limit(COMPILE_MEMORY_MAX));
    let io = |doing: String| move |source| LoadError::Io { doing, source };
    let bytes = std::fs::read(input).map_err(io(format!("read {}", input.display())))?;
    component::examine(&bytes)?;
    let compiled = compile_here(&wasmtime_engine()?, &bytes)?;
    std::fs::write(output, compiled).map_err(io(format!("write {}", output.display())))
}

/// Raises the epoch while a plugin is at work, and rests otherwise.
struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    at_work: AtomicUsize,
    ended: AtomicBool,
}

impl Ticker {
    fn start(engine: &wasmtime::Engine) -> std::io::Result<Ticker> {
        let (engine, shared) = (engine.weak(), Arc::new(Shared::default()));
        let seen = shared.clone();
        let thread = std::thread::Builder::new()
            .name("plugin-clock".into())
            .spawn(move || {
                while !seen.ended.load(Ordering::Acquire) {
                    if seen.at_work.load(Ordering::Acquire) == 0 {
                        std::thread::park();
                        continue;
                    }
                    std::thread::sleep(TICK);
                    if let Some(engine) = engine.upgrade() {
                        engine.increment_epoch();
                    }
                }
            })?;
        Ok(Ticker {
            shared,
            thread: Some(thread),
        })
    }

    fn begin(&self) {
        if self.shared.at_work.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A plugin is at work.
pub(crate) struct AtWork<'a>(&'a Ticker);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.shared.at_work.fetch_sub(1, Ordering::AcqRel);
    }
}
