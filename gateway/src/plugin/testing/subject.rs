//! A plugin under test: opened as often as wanted, at any time of the clock, and shown one batch or many.

use super::message::{Fate, Placed, columns};
use super::place::Place;
use super::settings::Setting;
use culvert_host::{
    Codec, Engine, Limits, Line, LoadError, LogSink, Now, OpenError, Options, Plugin, Role, StageFault,
    Stream, Surroundings, Transform, Usage, validate,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where the clock stands, in milliseconds since 1970: 2023-11-14.
pub(super) const STILL_MS: i64 = 1_700_000_000_000;

/// As long as a call of a source or sink may take unless its connector says otherwise.
const CONNECTOR_TIME: Duration = Duration::from_secs(10);

/// A hundred years.
const CENTURY_MS: u64 = 3_155_760_000_000;

/// A plugin that is compiled, and what its instances may take.
#[derive(Clone)]
pub struct Subject {
    plugin: Plugin,
    limits: Limits,
}

/// What a plugin under test takes for the time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Time {
    /// Always the same.
    Still,
    /// Another one, in any direction, each time that it is asked for.
    Wild(u64),
    /// This machine's.
    Real,
}

/// Why a plugin was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// By its own word.
    Fatal(String),
    /// It asks to be tried again.
    Retry(String),
    /// It did not come back, or cannot be linked.
    Broken(String),
}

impl Refusal {
    fn of(error: OpenError) -> Refusal {
        match error {
            OpenError::Fatal(text) => Refusal::Fatal(text),
            OpenError::Retry { reason, .. } => Refusal::Retry(reason),
            other @ (OpenError::Poison(_) | OpenError::NotGranted { .. } | OpenError::Load(_)) => {
                Refusal::Broken(other.to_string())
            }
        }
    }

    pub(super) fn told(&self) -> String {
        match self {
            Refusal::Fatal(text) | Refusal::Retry(text) | Refusal::Broken(text) => text.clone(),
        }
    }
}

/// What came of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// One for each message.
    Fates(Vec<Fate>),
    /// The whole call is to be made again.
    Retry(String),
    /// The connector's task would stop.
    Fatal(String),
}

/// Tells nobody.
pub(super) struct Silent;

impl LogSink for Silent {
    fn line(&self, _line: &Line<'_>) {}
}

impl Subject {
    /// Compiles a plugin, as long as that takes; compiled code is kept in `cache`, where one is named. A call of a source or
    /// sink waits for what is outside, and gets as long as it has in a gateway.
    ///
    /// # Errors
    /// When the file is no plugin that can be run.
    pub fn load(component: &[u8], cache: Option<PathBuf>, limits: Limits) -> Result<Subject, LoadError> {
        let engine = Engine::new(Options {
            cache,
            ..Options::default()
        })?;
        let plugin = engine.load(component)?;
        let is_connector = matches!(plugin.examined.roles.first(), Some(Role::Sink | Role::Source));
        let limits = match is_connector {
            true => Limits {
                call_time_max: limits.call_time_max.max(CONNECTOR_TIME),
                ..limits
            },
            false => limits,
        };
        Ok(Subject { plugin, limits })
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place for a sink or source with these settings.
    ///
    /// # Errors
    /// When it needs what a test has none of, or the plugin does not take them.
    pub(super) fn place(&self, settings: &[Setting]) -> Result<Place, String> {
        let place = Place::new(&self.plugin, settings)?;
        let lacks = place
            .grants
            .lacks(&self.plugin.examined, &self.plugin.description);
        if let Some(lack) = lacks.first() {
            return Err(format!("it needs {}, which a test has none of", lack.what.word()));
        }
        self.check(&place.settings).map_err(|refusal| refusal.told())?;
        Ok(place)
    }

    /// What it does.
    pub(super) fn role(&self) -> Option<Role> {
        self.plugin.examined.roles.first().copied()
    }

    /// Whether the plugin itself finds nothing wrong with these settings: with others, no gateway opens it.
    ///
    /// # Errors
    /// What it finds wrong, or that it did not come back.
    pub(super) fn check(&self, settings: &[Setting]) -> Result<(), Refusal> {
        let broken = |error: OpenError| {
            Refusal::Broken(format!("asked about its settings, it does not answer: {error}"))
        };
        let wrong = validate(&self.plugin, settings, self.limits.clone()).map_err(broken)?;
        if wrong.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = wrong
            .iter()
            .map(|wrong| format!("{}: {}", wrong.key, wrong.problem))
            .collect();
        Err(Refusal::Fatal(told.join("; ")))
    }

    pub(super) fn open(&self, settings: &[Setting], time: Time) -> Result<Opened, Refusal> {
        self.open_with(settings, time, Arc::new(Silent))
    }

    pub(super) fn open_with(
        &self,
        settings: &[Setting],
        time: Time,
        log: Arc<dyn LogSink>,
    ) -> Result<Opened, Refusal> {
        let around = time.around(log);
        let opened = Transform::open(&self.plugin, settings, self.limits.clone(), around);
        Ok(Opened {
            transform: opened.map_err(Refusal::of)?,
        })
    }

    /// Opens a codec.
    pub(super) fn codec(&self, settings: &[Setting], time: Time) -> Result<Codec, Refusal> {
        let around = time.around(Arc::new(Silent));
        Codec::open(&self.plugin, settings, self.limits.clone(), around).map_err(Refusal::of)
    }
}

impl Time {
    fn around(self, log: Arc<dyn LogSink>) -> Surroundings {
        let around = Surroundings::new(log);
        match self {
            Time::Real => around,
            Time::Still => around.at(Arc::new(|| STILL_MS)),
            Time::Wild(seed) => around.at(wild(seed)),
        }
    }
}

/// Any time from 1970 to 2070, another at each reading (splitmix64).
pub(super) fn wild(seed: u64) -> Now {
    let state = AtomicU64::new(seed);
    Arc::new(move || {
        let mut bits = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        i64::try_from((bits ^ (bits >> 31)) % CENTURY_MS).unwrap_or(0)
    })
}

/// An instance, and fresh ones in its place after a trap.
pub(super) struct Opened {
    transform: Transform,
}

impl Opened {
    /// Shows one batch of a stream of `topic`.
    pub(super) fn show(&mut self, topic: &str, batch: &[Placed]) -> Answer {
        let columns = match columns(batch) {
            Ok(columns) => columns,
            Err(why) => return Answer::Fatal(format!("the batch cannot be shown: {why}")),
        };
        let stream = Stream {
            id: "site/stream/0",
            topic,
            partition: 0,
        };
        match self.transform.process(&stream, &columns) {
            Ok(outcomes) => Answer::Fates(
                outcomes
                    .iter()
                    .zip(batch)
                    .map(|(outcome, placed)| Fate::of(outcome, &placed.message))
                    .collect(),
            ),
            Err(StageFault::Retry { reason, .. }) => Answer::Retry(reason),
            Err(StageFault::Stop { reason, .. }) => Answer::Fatal(reason),
        }
    }

    pub(super) fn transform(&mut self) -> &mut Transform {
        &mut self.transform
    }

    /// What its instances have used.
    pub(super) fn usage(&self) -> Usage {
        self.transform.meter().usage()
    }

    /// How often it did not come back.
    pub(super) fn faults(&self) -> u64 {
        let usage = self.usage();
        usage.traps + usage.timeouts + usage.memory_faults
    }
}
