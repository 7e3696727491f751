//! A plugin that brings records in.
//!
//! An instance lives from [`Source::open`] to the first call that does not come back; the next `open` goes on behind what
//! was kept. A [`Page`] is one unit: its records, its resume points and what the call put into the plugin's store are kept
//! together or not at all, and by whoever asked for it: [`Source::kept`] says that it was.

use crate::bindings::{config, source, types};
use crate::capability::state::Changes;
use crate::component::{Plugin, Role};
use crate::fault::{LoadError, OpenError, Poison};
use crate::guest::{self, Guest, Instance, Limits, Meter, Nursery};
use crate::surroundings::Surroundings;
use crate::transform::{pause, settings_of};
use culvert_proto::columns::Made;
use culvert_proto::limits;
use culvert_proto::record::HeadersBuf;
use source::exports::culvert::plugin::source as exported;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The most messages of one page: 20 full frames.
const MESSAGES_MAX: usize = 10_000;

/// The most resume points of one page.
const POINTS_MAX: usize = 1_000;

/// The most topics of one page: each has a frame of its own.
const TOPICS_MAX: usize = 100;

/// The most bytes of one page: half of what the outbox takes as one.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// The longest pause that a plugin may ask for.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// Where a source goes on: its partition and its offset there, both JSON objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResumePoint {
    /// Which part of the outside system.
    pub partition: String,
    /// How far.
    pub offset: String,
}

/// A record that a plugin brought.
#[derive(Clone, Debug)]
pub struct Produced {
    /// Its topic.
    pub topic: String,
    /// The record.
    pub record: Made,
}

/// What one poll brought.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// In order; of several with one partition the last one counts.
    pub points: Vec<ResumePoint>,
    /// The records, in order.
    pub records: Vec<Produced>,
    /// There is nothing more now: how long to wait.
    pub idle: Option<Duration>,
    /// What the call put into the plugin's store.
    pub changes: Changes,
}

/// What is wanted of one poll.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// At most so many records.
    pub records: usize,
    /// About so many bytes.
    pub bytes: usize,
    /// As long as this may be waited for the first.
    pub wait: Duration,
}

/// Why a call brought nothing. Nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub enum SourceFault {
    /// Heals by waiting. The instance lives on.
    #[error("{reason}")]
    Retry {
        /// The plugin's own words.
        reason: String,
        /// The least pause.
        after: Option<Duration>,
    },
    /// Needs a person.
    #[error("[{code}] {reason}")]
    Stop {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened.
        reason: String,
    },
    /// It did not come back, or its answer is none. The instance is gone: the source must be opened again.
    #[error("{0}")]
    Poison(Poison),
}

/// A plugin of role source, for one task. Used by one thread at a time.
pub struct Source {
    plugin: Plugin,
    settings: Vec<config::Value>,
    nursery: Nursery,
    pre: source::SourcePre<Guest>,
    live: Option<Instance<source::Source>>,
}

impl Source {
    /// Links a plugin, with what its store holds. Nothing of it runs before [`Source::open`].
    ///
    /// # Errors
    /// When it is no source, or imports what is not there or what `around` does not grant.
    pub fn new(
        plugin: &Plugin,
        settings: &[(String, Option<String>)],
        limits: Limits,
        around: Surroundings,
        state: &Changes,
    ) -> Result<Source, OpenError> {
        if plugin.examined.roles.first() != Some(&Role::Source) {
            let name = &plugin.description.name;
            return Err(OpenError::Fatal(format!("plugin {name} is no source")));
        }
        around.check(plugin)?;
        let veil = around.veil(plugin, settings);
        let linked = guest::link(&plugin.engine, &plugin.component)?;
        let pre = source::SourcePre::new(linked).map_err(|error| LoadError::MissingExport {
            missing: format!("what its role holds ({error:#})"),
        })?;
        let nursery = Nursery::new(plugin.engine.clone(), limits, around, veil);
        nursery.stored.apply(state);
        Ok(Source {
            nursery,
            plugin: plugin.clone(),
            settings: settings_of(settings),
            pre,
            live: None,
        })
    }

    /// What it has used.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        self.nursery.meter.clone()
    }

    /// The plugin.
    #[must_use]
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Whether an instance lives.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.live.is_some()
    }

    /// Opens a fresh instance behind these resume points. Answers what it put into its store.
    ///
    /// # Errors
    /// When the plugin cannot, or does not come back.
    pub fn open(&mut self, resume: &[ResumePoint]) -> Result<Changes, SourceFault> {
        self.live = None;
        let time = self.nursery.limits().open_time_max;
        let instance = self.nursery.instantiate(|store| self.pre.instantiate(store));
        self.live = Some(instance.map_err(|poison| opening(&poison))?);
        let points: Vec<exported::ResumePoint> = resume.iter().map(told).collect();
        let settings = self.settings.clone();
        let opened = self.call(time, |source, store| source.call_open(store, &settings, &points));
        let ((), changes) = opened.map_err(|fault| match fault {
            SourceFault::Poison(poison) => opening(&poison),
            SourceFault::Stop { reason, .. } => SourceFault::Stop {
                code: "CULVERT-W020",
                reason,
            },
            retry @ SourceFault::Retry { .. } => {
                // It was never open.
                self.live = None;
                retry
            }
        })?;
        Ok(changes)
    }

    /// Asks for the next page.
    ///
    /// # Errors
    /// When the plugin cannot now, not at all, or does not come back with a page.
    pub fn poll(&mut self, want: Want) -> Result<Page, SourceFault> {
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let wait_ms = u32::try_from(want.wait.as_millis()).unwrap_or(u32::MAX);
        let time = self.nursery.limits().call_time_max;
        let (page, changes) = self.call(time, |source, store| {
            source.call_poll(store, number(want.records), number(want.bytes), wait_ms)
        })?;
        match read_page(page) {
            Ok((page, bytes)) => {
                self.nursery.meter.shown(page.records.len(), 0);
                self.nursery.meter.answered(bytes);
                Ok(Page { changes, ..page })
            }
            Err(why) => {
                // Its memory believes that all of this was taken.
                self.live = None;
                let poison = Poison::Answer(why);
                self.nursery.meter.faulted(&poison);
                Err(SourceFault::Poison(poison))
            }
        }
    }

    /// Says that everything up to these resume points is durable. Answers what the plugin put into its store.
    ///
    /// # Errors
    /// When the plugin cannot, or does not come back. To be said again.
    pub fn committed(&mut self, points: &[ResumePoint]) -> Result<Changes, SourceFault> {
        let points: Vec<exported::ResumePoint> = points.iter().map(told).collect();
        let time = self.nursery.limits().call_time_max;
        let ((), changes) = self.call(time, |source, store| source.call_committed(store, &points))?;
        Ok(changes)
    }

    /// These changes are kept: what the plugin looks up next holds them.
    pub fn kept(&self, changes: &Changes) {
        self.nursery.stored.apply(changes);
    }

    /// Takes leave of the instance, if it is in order. What it makes of it changes nothing.
    pub fn close(&mut self) {
        let Some(mut instance) = self.live.take() else {
            return;
        };
        let time = self.nursery.limits().call_time_max;
        let _ = self.nursery.call(&mut instance, time, |exports, store| {
            exports.culvert_plugin_source().call_close(store)
        });
    }

    fn failed(&self, failure: types::Failure) -> SourceFault {
        match failure {
            types::Failure::Retry(later) => SourceFault::Retry {
                after: pause(&later),
                reason: self.nursery.words(later.reason),
            },
            types::Failure::Fatal(reason) => SourceFault::Stop {
                code: "CULVERT-W022",
                reason: self.nursery.words(reason),
            },
        }
    }

    /// One call, with what it put into the store. An instance that did not come back is dropped.
    fn call<Answer>(
        &mut self,
        time: Duration,
        call: impl FnOnce(
            &exported::Guest,
            &mut wasmtime::Store<Guest>,
        ) -> wasmtime::Result<Result<Answer, types::Failure>>,
    ) -> Result<(Answer, Changes), SourceFault> {
        let Some(mut instance) = self.live.take() else {
            return Err(SourceFault::Retry {
                reason: "the source is not open".into(),
                after: None,
            });
        };
        let told = self.nursery.call(&mut instance, time, |exports, store| {
            call(exports.culvert_plugin_source(), store)
        });
        let told = told.map_err(SourceFault::Poison)?;
        let changes = instance.store.data_mut().state.take();
        self.live = Some(instance);
        match told {
            Ok(answer) => Ok((answer, changes)),
            Err(failure) => Err(self.failed(failure)),
        }
    }
}

fn told(point: &ResumePoint) -> exported::ResumePoint {
    exported::ResumePoint {
        partition: point.partition.clone(),
        offset: point.offset.clone(),
    }
}

fn opening(poison: &Poison) -> SourceFault {
    SourceFault::Stop {
        code: "CULVERT-W021",
        reason: format!("open: {poison}"),
    }
}

// ----- a page --------------------------------------------------------------------------------------------------

/// The page, with the bytes of its records; or what is wrong with it.
fn read_page(told: exported::Page) -> Result<(Page, usize), String> {
    let at_most = |what: &str, count: usize, max: usize| {
        if count > max {
            return Err(format!("a page of {count} {what}; at most {max}"));
        }
        Ok(())
    };
    at_most("messages", told.messages.len(), MESSAGES_MAX)?;
    at_most("resume points", told.resume_points.len(), POINTS_MAX)?;
    let points = told.resume_points.into_iter().enumerate();
    let points: Vec<ResumePoint> = points.map(read_point).collect::<Result<_, _>>()?;
    let mut bytes = 0;
    let mut topics = BTreeSet::new();
    let mut records = Vec::with_capacity(told.messages.len());
    for (number, produced) in told.messages.into_iter().enumerate() {
        if produced.resume as usize >= points.len() {
            let (named, count) = (produced.resume, points.len());
            return Err(format!(
                "message {number} lies before resume point {named} of {count}"
            ));
        }
        if !topics.contains(&produced.topic) {
            check_topic(&produced.topic).map_err(|why| format!("message {number}: {why}"))?;
            topics.insert(produced.topic.clone());
        }
        let record = read_record(produced.message).map_err(|why| format!("message {number}: {why}"))?;
        bytes += record.as_record().size();
        records.push(Produced {
            topic: produced.topic,
            record,
        });
    }
    at_most("topics", topics.len(), TOPICS_MAX)?;
    at_most("bytes", bytes, PAGE_BYTES_MAX)?;
    let idle = told
        .idle_ms
        .map(|ms| Duration::from_millis(ms.into()).min(IDLE_MAX));
    let page = Page {
        points,
        records,
        idle,
        changes: Changes::new(),
    };
    Ok((page, bytes))
}

fn read_point((number, told): (usize, exported::ResumePoint)) -> Result<ResumePoint, String> {
    let exported::ResumePoint { partition, offset } = told;
    let size = partition.len() + offset.len();
    if size > limits::RESUME_POINT_BYTES_MAX {
        let max = limits::RESUME_POINT_BYTES_MAX;
        return Err(format!("resume point {number} is of {size} bytes; at most {max}"));
    }
    for (part, text) in [("partition", &partition), ("offset", &offset)] {
        type Object = serde_json::Map<String, serde_json::Value>;
        if let Err(error) = serde_json::from_str::<Object>(text) {
            return Err(format!(
                "the {part} of resume point {number} is no JSON object: {error}"
            ));
        }
    }
    Ok(ResumePoint { partition, offset })
}

/// As Kafka names topics.
fn check_topic(topic: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=limits::NAME_BYTES_MAX).contains(&topic.len());
    if fits && topic.bytes().all(plain) && topic != "." && topic != ".." {
        return Ok(());
    }
    let shown: String = topic.chars().take(100).collect();
    Err(format!(
        "{shown:?} is no name of a topic; valid: letters, digits, '.', '_' and '-', at most {} of them",
        limits::NAME_BYTES_MAX
    ))
}

fn read_record(message: types::Message) -> Result<Made, String> {
    if message.headers.len() > limits::HEADERS_MAX {
        let (count, max) = (message.headers.len(), limits::HEADERS_MAX);
        return Err(format!("{count} headers; at most {max}"));
    }
    if message.timestamp.is_some_and(|timestamp| timestamp < 0) {
        return Err("its timestamp lies before 1970".into());
    }
    let mut headers = HeadersBuf::new();
    for header in &message.headers {
        headers.push(&header.name, header.value.as_deref());
    }
    Ok(Made {
        topic: None,
        key: message.key,
        value: message.value,
        headers,
        timestamp: message.timestamp.unwrap_or(-1),
    })
}
