//! A stage: one plugin opened with one connector's settings, and what becomes of a batch shown to it.
//!
//! A call that does not come back costs its instance, never the batch: a fresh instance is opened and the batch is cut
//! until the record at fault stands alone. That one is rejected with [`Poison::code`]; the others are treated as if it had
//! not been there. After a trap or too much memory the batch is halved each time, about 20 calls for one poison record
//! among 500; after a time-out each record is tried alone, so that one endless loop costs one more time limit and not
//! nine.

use crate::CONTRACT;
use crate::bindings::{columns, config, meta::culvert::plugin::types, rows};
use crate::component::{Plugin, Role};
use crate::description::{Capability, Needs};
use crate::fault::{LoadError, OpenError, Poison, StageFault};
use crate::guest::{self, Guest, Instance, Limits, Meter, Nursery};
use crate::surroundings::Surroundings;
use crate::tape::{Fault, Taken};
use columns::exports::culvert::plugin::transform_columns::Results;
use culvert_proto::columns::{Columns, Made, Outcomes, Rejection, Unfit};
use culvert_proto::record::{Headers, HeadersBuf, RecordRef};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Store;
use wasmtime::component::Func;

/// What one record may become.
const PARTS_MAX: usize = 1_000;

/// How long a code is at most.
const CODE_BYTES_MAX: usize = 64;

/// Which stream a batch is of, as the plugin is told.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// Its identity, opaque to the plugin.
    pub id: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
}

/// One stage of one task. Used by one thread at a time.
pub struct Transform {
    plugin: Plugin,
    settings: Vec<config::Value>,
    nursery: Nursery,
    open: Opener,
    live: Option<Live>,
    /// Failures that the tape was told of.
    recorded: u64,
}

/// How instances are made.
enum Opener {
    Rows(rows::RowsPre<Guest>),
    Columns(columns::ColumnsPre<Guest>),
}

/// An instance that was opened.
enum Live {
    Rows(Instance<rows::Rows>),
    Columns(Instance<ByColumns>),
}

/// The exports of a transform by columns; `process` as it is called with borrowed columns.
struct ByColumns {
    exports: columns::Columns,
    process: Func,
}

impl Transform {
    /// Opens a plugin with settings: names and values, defaults filled in.
    ///
    /// # Errors
    /// When it is no transform, imports what `around` does not grant, refuses the settings, or does not come back.
    pub fn open(
        plugin: &Plugin,
        settings: &[(String, Option<String>)],
        limits: Limits,
        around: Surroundings,
    ) -> Result<Transform, OpenError> {
        around.check(plugin)?;
        if plugin.examined.imports_capability(Capability::State) {
            return Err(OpenError::Load(LoadError::UnknownImport {
                import: "culvert:plugin/state".into(),
                hint: "a stage has no store in this version; a source has",
            }));
        }
        let veil = around.veil(plugin, settings);
        let missing = |error: wasmtime::Error| LoadError::MissingExport {
            missing: format!("what its role holds ({error:#})"),
        };
        let linked = guest::link(&plugin.engine, &plugin.component)?;
        let open = match plugin.examined.roles.first() {
            Some(Role::TransformColumns) => {
                Opener::Columns(columns::ColumnsPre::new(linked).map_err(missing)?)
            }
            Some(Role::Transform) => Opener::Rows(rows::RowsPre::new(linked).map_err(missing)?),
            _ => {
                return Err(OpenError::Fatal(format!(
                    "plugin {} is no transform",
                    plugin.description.name
                )));
            }
        };
        let settings = settings_of(settings);
        let mut transform = Transform {
            nursery: Nursery::new(plugin.engine.clone(), limits, around, veil),
            plugin: plugin.clone(),
            settings,
            open,
            live: None,
            recorded: 0,
        };
        transform.live = Some(transform.fresh()?);
        Ok(transform)
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

    /// One outcome for each record of the batch, in order.
    ///
    /// # Errors
    /// When the plugin says that it cannot now, or not at all. Nothing of the batch counts then.
    pub fn process(&mut self, stream: &Stream<'_>, batch: &Columns) -> Result<Outcomes, StageFault> {
        if batch.is_empty() {
            return Ok(Outcomes::default());
        }
        match self.attempt(stream, batch)? {
            Ok(outcomes) => Ok(outcomes),
            Err(poison) => {
                let fault = || Fault::of_poison(&poison, self.nursery.words(poison.to_string()));
                let taken = self.nursery.tape().and_then(|tape| tape.taken(fault()));
                let recorded = self.recorded;
                let outcomes = self.isolate(stream, batch, &poison);
                // Where none of its parts fails alone, it is itself the smallest that does.
                if self.recorded == recorded {
                    self.tell(taken.as_ref(), stream, batch);
                }
                outcomes
            }
        }
    }

    fn tell(&mut self, taken: Option<&Taken>, stream: &Stream<'_>, batch: &Columns) {
        if let (Some(tape), Some(taken)) = (self.nursery.tape(), taken) {
            tape.tell(taken, stream, batch, &self.nursery.veil);
            self.recorded += 1;
        }
    }

    /// The plugin says that it cannot go on.
    fn note_fatal(&mut self, fault: &StageFault, stream: &Stream<'_>, batch: &Columns) {
        if let StageFault::Stop { reason, .. } = fault {
            let taken = self
                .nursery
                .tape()
                .and_then(|tape| tape.taken(Fault::fatal(reason)));
            self.tell(taken.as_ref(), stream, batch);
        }
    }

    /// One call, in which nothing is tried again: how a failing batch is played.
    ///
    /// # Errors
    /// How it failed; `retry` where the plugin asks to be called again.
    pub fn once(&mut self, stream: &Stream<'_>, batch: &Columns) -> Result<Outcomes, Fault> {
        match self.attempt(stream, batch) {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(poison)) => Err(Fault::of_poison(&poison, self.nursery.words(poison.to_string()))),
            Err(StageFault::Stop { reason, .. }) => Err(Fault::fatal(&reason)),
            Err(StageFault::Retry { reason, .. }) => Err(Fault {
                kind: "retry".into(),
                text: reason,
            }),
        }
    }

    /// Finds the records at fault, one by one.
    fn isolate(
        &mut self,
        stream: &Stream<'_>,
        batch: &Columns,
        poison: &Poison,
    ) -> Result<Outcomes, StageFault> {
        let mut outcomes = Outcomes::default();
        if batch.len() == 1 {
            outcomes.reject(Rejection {
                code: poison.code().into(),
                reason: self.nursery.words(poison.to_string()),
                field: None,
            });
            return Ok(outcomes);
        }
        let size = match poison {
            Poison::Timeout(_) => 1,
            _ => batch.len().div_ceil(2),
        };
        let mut first = 0;
        while first < batch.len() {
            let behind = (first + size).min(batch.len());
            outcomes.append(&self.process(stream, &batch.part(first..behind))?);
            first = behind;
        }
        Ok(outcomes)
    }

    /// One call. An instance that did not come back from it is dropped.
    fn attempt(
        &mut self,
        stream: &Stream<'_>,
        batch: &Columns,
    ) -> Result<Result<Outcomes, Poison>, StageFault> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => self.fresh()?,
        };
        self.nursery.meter.shown(batch.len(), batch.bytes());
        if let Some(tape) = self.nursery.tape() {
            tape.call();
        }
        let answer = match &mut live {
            Live::Rows(instance) => self.ask_rows(instance, stream, batch),
            Live::Columns(instance) => self.ask_columns(instance, stream, batch),
        };
        match answer {
            Ok(told) => {
                self.live = Some(live);
                let told = told.map_err(|failure| stage_fault(failure, &self.nursery));
                told.map(Ok)
                    .inspect_err(|fault| self.note_fatal(fault, stream, batch))
            }
            Err(poison) => Ok(Err(poison)),
        }
    }

    fn fresh(&self) -> Result<Live, OpenError> {
        let tape = self.nursery.tape();
        tape.inspect(|tape| tape.begin());
        let live = self.begun()?;
        tape.inspect(|tape| tape.opened());
        Ok(live)
    }

    fn begun(&self) -> Result<Live, OpenError> {
        let time = self.nursery.limits().open_time_max;
        let (live, opened) = match &self.open {
            Opener::Rows(pre) => {
                let mut instance = self
                    .nursery
                    .instantiate(|store| pre.instantiate(store))
                    .map_err(OpenError::Poison)?;
                let opened = self.nursery.call(&mut instance, time, |exports, store| {
                    exports
                        .culvert_plugin_transform()
                        .call_open(store, &self.settings)
                });
                (Live::Rows(instance), opened)
            }
            Opener::Columns(pre) => {
                let mut instance = self
                    .nursery
                    .instantiate(|store| by_columns(pre, store))
                    .map_err(OpenError::Poison)?;
                let opened = self.nursery.call(&mut instance, time, |live, store| {
                    let transform = live.exports.culvert_plugin_transform_columns();
                    transform.call_open(store, &self.settings)
                });
                (Live::Columns(instance), opened)
            }
        };
        let opened = opened.map_err(OpenError::Poison)?;
        opened.map_err(|failure| open_error(failure, &self.nursery))?;
        Ok(live)
    }

    // ----- by columns ------------------------------------------------------------------------------------------

    fn ask_columns(
        &self,
        instance: &mut Instance<ByColumns>,
        stream: &Stream<'_>,
        batch: &Columns,
    ) -> Result<Result<Outcomes, types::Failure>, Poison> {
        let needs = &self.plugin.description.needs;
        let (key_ends, keys) = batch.keys();
        let (value_ends, values) = batch.values();
        let (header_ends, headers) = batch.headers();
        let shown = columns::Shown {
            stream: stream.id,
            topic: stream.topic,
            partition: stream.partition,
            from: batch.interval().from.0,
            to: batch.interval().to.0,
            sequences: batch.sequences(),
            attributes: &[],
            count: u32::try_from(batch.len()).unwrap_or(u32::MAX),
            absent: batch.absent(),
            timestamps: if needs.timestamp { batch.timestamps() } else { &[] },
            key_ends: if needs.key { key_ends } else { &[] },
            keys: if needs.key { keys } else { &[] },
            value_ends: if needs.value { value_ends } else { &[] },
            values: if needs.value { values } else { &[] },
            header_ends: if needs.headers { header_ends } else { &[] },
            headers: if needs.headers { headers } else { &[] },
        };
        let logbook = &mut instance.store.data_mut().logbook;
        logbook.about(shown.from, shown.sequences);
        let time = self.nursery.limits().call_time_max;
        let (told,) = self.nursery.call(instance, time, |live, store| {
            // Looking at the types again costs some microseconds a batch; holding the borrowed ones is not possible.
            let process = live
                .process
                .typed::<(columns::Shown<'_>,), (Result<Results, types::Failure>,)>(&*store)?;
            process.call(store, (shown,))
        })?;
        match told {
            Ok(results) => self.read_results(batch, results).map(Ok),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn read_results(&self, batch: &Columns, results: Results) -> Result<Outcomes, Poison> {
        self.nursery.meter.answered(results.values.len());
        if results.verdicts.len() != batch.len() {
            return Err(wrong_count(results.verdicts.len(), batch.len()));
        }
        let rejections = results
            .rejections
            .into_iter()
            .map(|told| rejection(told, &self.nursery))
            .collect();
        // What stands in the place of a record keeps the parts of it that the plugin does not look at.
        let originals = results.verdicts.iter().zip(batch.iter());
        let mut originals = originals.filter(|(verdict, _)| **verdict == 4);
        let rewritten = results
            .rewritten
            .into_iter()
            .map(|parts| {
                check_parts(parts.len())?;
                let original = originals.next().map(|(_, (_, record))| record);
                Ok(parts.into_iter().map(|part| self.made(part, original)).collect())
            })
            .collect::<Result<_, Poison>>()?;
        Outcomes::of_columns(
            &results.verdicts,
            results.value_ends,
            results.values,
            rejections,
            rewritten,
        )
        .map_err(|Unfit(why)| Poison::Answer(why.into()))
    }

    // ----- by rows ---------------------------------------------------------------------------------------------

    fn ask_rows(
        &self,
        instance: &mut Instance<rows::Rows>,
        stream: &Stream<'_>,
        batch: &Columns,
    ) -> Result<Result<Outcomes, types::Failure>, Poison> {
        let shown = types::Batch {
            stream: stream.id.into(),
            topic: stream.topic.into(),
            partition: stream.partition,
            from: batch.interval().from.0,
            to: batch.interval().to.0,
            sequences: batch.sequences().to_vec(),
            attributes: Vec::new(),
            messages: batch
                .iter()
                .map(|(_, record)| message(&self.plugin.description.needs, &record))
                .collect(),
        };
        let logbook = &mut instance.store.data_mut().logbook;
        logbook.about(shown.from, &shown.sequences);
        let time = self.nursery.limits().call_time_max;
        let told = self.nursery.call(instance, time, |exports, store| {
            exports.culvert_plugin_transform().call_process(store, &shown)
        })?;
        let told = match told {
            Ok(told) => told,
            Err(failure) => return Ok(Err(failure)),
        };
        if told.len() != batch.len() {
            return Err(wrong_count(told.len(), batch.len()));
        }
        let mut outcomes = Outcomes::default();
        for (outcome, (_, original)) in told.into_iter().zip(batch.iter()) {
            self.note(outcome, &original, &mut outcomes)?;
        }
        Ok(Ok(outcomes))
    }

    fn note(
        &self,
        outcome: types::Outcome,
        original: &RecordRef<'_>,
        outcomes: &mut Outcomes,
    ) -> Result<(), Poison> {
        match outcome {
            types::Outcome::Keep => outcomes.keep(),
            types::Outcome::Drop => outcomes.dropped(),
            types::Outcome::Reject(why) => outcomes.reject(rejection(why, &self.nursery)),
            types::Outcome::Replace(routed) => outcomes.rewrite(vec![self.made(routed, Some(*original))]),
            types::Outcome::Expand(parts) => {
                check_parts(parts.len())?;
                let made = |part| self.made(part, Some(*original));
                outcomes.rewrite(parts.into_iter().map(made).collect());
            }
        }
        Ok(())
    }

    /// What a plugin made. A part that it does not look at is that of the record it was made from.
    fn made(&self, routed: types::Routed, original: Option<RecordRef<'_>>) -> Made {
        let needs = &self.plugin.description.needs;
        let types::Routed { topic, message } = routed;
        let of = |is_needed: bool, made: Option<Vec<u8>>, kept: Option<&[u8]>| {
            if is_needed { made } else { kept.map(<[u8]>::to_vec) }
        };
        let mut headers = HeadersBuf::new();
        if needs.headers {
            for header in &message.headers {
                headers.push(&header.name, header.value.as_deref());
            }
        } else if let Some(original) = original {
            for (name, value) in original.headers.iter() {
                headers.push(name, value);
            }
        }
        let made = Made {
            topic,
            key: of(needs.key, message.key, original.and_then(|record| record.key)),
            value: of(
                needs.value || message.value.is_some(),
                message.value,
                original.and_then(|record| record.value),
            ),
            headers,
            timestamp: if needs.timestamp {
                message.timestamp.unwrap_or(-1)
            } else {
                original.map_or(-1, |record| record.timestamp)
            },
        };
        self.nursery.meter.answered(made.as_record().size());
        made
    }
}

/// A record with the parts that the plugin looks at.
pub(crate) fn message(needs: &Needs, record: &RecordRef<'_>) -> types::Message {
    let owned = |is_needed: bool, bytes: Option<&[u8]>| bytes.filter(|_| is_needed).map(<[u8]>::to_vec);
    let headers = if needs.headers {
        record.headers
    } else {
        Headers::NONE
    };
    types::Message {
        key: owned(needs.key, record.key),
        value: owned(needs.value, record.value),
        headers: headers
            .iter()
            .map(|(name, value)| types::Header {
                name: name.into(),
                value: value.map(<[u8]>::to_vec),
            })
            .collect(),
        timestamp: Some(record.timestamp).filter(|timestamp| needs.timestamp && *timestamp >= 0),
    }
}

fn by_columns(pre: &columns::ColumnsPre<Guest>, store: &mut Store<Guest>) -> wasmtime::Result<ByColumns> {
    let instance = pre.instance_pre().instantiate(&mut *store)?;
    let missing = || wasmtime::format_err!("transform-columns.process is not exported");
    let interface = format!("culvert:plugin/transform-columns@{CONTRACT}");
    let interface = instance
        .get_export_index(&mut *store, None, &interface)
        .ok_or_else(missing)?;
    let process = instance
        .get_export_index(&mut *store, Some(&interface), "process")
        .ok_or_else(missing)?;
    let process = instance.get_func(&mut *store, process).ok_or_else(missing)?;
    Ok(ByColumns {
        exports: columns::Columns::new(store, &instance)?,
        process,
    })
}

fn wrong_count(told: usize, shown: usize) -> Poison {
    Poison::Answer(format!("{told} outcomes for {shown} messages"))
}

fn check_parts(count: usize) -> Result<(), Poison> {
    if (1..=PARTS_MAX).contains(&count) {
        return Ok(());
    }
    Err(Poison::Answer(format!(
        "a message became {count} messages; valid: 1 to {PARTS_MAX}"
    )))
}

/// What a plugin answered to `open`.
pub(crate) fn open_error(failure: types::Failure, nursery: &Nursery) -> OpenError {
    match failure {
        types::Failure::Retry(later) => OpenError::Retry {
            after: pause(&later),
            reason: nursery.words(later.reason),
        },
        types::Failure::Fatal(reason) => OpenError::Fatal(nursery.words(reason)),
    }
}

/// What a plugin answered to a call.
pub(crate) fn stage_fault(failure: types::Failure, nursery: &Nursery) -> StageFault {
    match failure {
        types::Failure::Retry(later) => StageFault::Retry {
            after: pause(&later),
            reason: nursery.words(later.reason),
        },
        types::Failure::Fatal(reason) => StageFault::Stop {
            code: "CULVERT-W022",
            reason: nursery.words(reason),
        },
    }
}

/// The least pause that a plugin asks for.
pub(crate) fn pause(later: &types::RetryLater) -> Option<Duration> {
    later.after_ms.map(|ms| Duration::from_millis(ms.into()))
}

/// Settings as the contract spells them.
pub(crate) fn settings_of(settings: &[(String, Option<String>)]) -> Vec<config::Value> {
    let value = |(name, value): &(String, Option<String>)| config::Value {
        name: name.clone(),
        value: value.clone(),
    };
    settings.iter().map(value).collect()
}

/// A plugin's words, made safe to be a label and a line.
pub(crate) fn rejection(told: types::Rejection, nursery: &Nursery) -> Rejection {
    let mut code: String = told
        .code
        .chars()
        .take(CODE_BYTES_MAX)
        .map(|character| match character.to_ascii_lowercase() {
            plain @ ('a'..='z' | '0'..='9' | '-') => plain,
            _ => '-',
        })
        .collect();
    if code.is_empty() {
        code = "rejected".into();
    }
    Rejection {
        code,
        reason: nursery.words(told.reason),
        field: told.field.map(|field| nursery.words(field)),
    }
}
