//! A plugin as the writer of a target.
//!
//! Every [`Sink::open`] is a fresh instance with a writer of its own. A [`Sink::put`] that does not come back may have
//! written all of its batches or nothing: its instance is gone, and the next `open` reads from the target which of the two
//! it was.

use crate::bindings::{config, sink, types};
use crate::component::{Plugin, Role};
use crate::description::Needs;
use crate::fault::{LoadError, OpenError, Poison};
use crate::guest::{self, Guest, Instance, Limits, Meter, Nursery};
use crate::surroundings::Surroundings;
use crate::transform::{Stream, message, open_error, pause, rejection, settings_of};
use culvert_proto::columns::{Columns, Rejection};
use sink::exports::culvert::plugin::sink as exported;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What the target keeps for the gateway with one stream, at most.
const NOTES_BYTES_MAX: usize = 8 * 1024;

/// The most streams of one target. By eye: a thousand topics of a hundred partitions.
const TOKENS_MAX: usize = 100_000;

/// How far a stream has come in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The stream, as in [`Stream::id`].
    pub stream: String,
    /// Raised by a person to begin the stream anew.
    pub incarnation: u32,
    /// Where the stream stood before the write.
    pub from: u64,
    /// Where it stands behind it.
    pub to: u64,
    /// The gateway's notes, at most 8 KiB.
    pub position: Vec<u8>,
}

/// Records of one stream, to be written in order.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// The stream.
    pub stream: Stream<'a>,
    /// What is known of all of them.
    pub attributes: &'a [(String, String)],
    /// All parts of the records are shown, whatever the plugin needs.
    pub is_whole: bool,
    /// The records.
    pub records: &'a Columns,
}

/// A record that the target cannot take, by its numbers in the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which batch.
    pub batch: usize,
    /// Which record of the batch.
    pub record: usize,
    /// Why.
    pub rejection: Rejection,
}

/// Why a write did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum PutFault {
    /// These records cannot be written, whatever is tried. Nothing was.
    #[error("{} records refused", .0.len())]
    Refused(Vec<Refusal>),
    /// Heals by waiting. Nothing was written.
    #[error("{reason}")]
    Retry {
        /// The plugin's own words.
        reason: String,
        /// The least pause.
        after: Option<Duration>,
    },
    /// Needs a person. Nothing was written.
    #[error("{0}")]
    Stop(String),
    /// Whether anything was written is not known.
    #[error("{0}")]
    Uncertain(String),
    /// Another writer has taken the target.
    #[error("{0}")]
    Fenced(String),
    /// The call did not come back with an answer: whether anything was written is not known.
    #[error("{poison}")]
    Poison {
        /// How it ended.
        poison: Poison,
        /// Its time was spent by the plugin itself, not by what it waited for.
        was_busy: bool,
    },
}

/// A plugin of role sink, opened by one shard. Used by one thread at a time.
pub struct Sink {
    plugin: Plugin,
    settings: Vec<config::Value>,
    nursery: Nursery,
    pre: sink::SinkPre<Guest>,
    live: Option<Instance<sink::Sink>>,
}

impl Sink {
    /// Links a plugin. Nothing of it runs before [`Sink::open`].
    ///
    /// # Errors
    /// When it is no sink, or needs what was not granted.
    pub fn new(
        plugin: &Plugin,
        settings: &[(String, Option<String>)],
        limits: Limits,
        around: Surroundings,
    ) -> Result<Sink, OpenError> {
        if plugin.examined.roles.first() != Some(&Role::Sink) {
            let name = &plugin.description.name;
            return Err(OpenError::Fatal(format!("plugin {name} is no sink")));
        }
        around.check(plugin)?;
        let veil = around.veil(plugin, settings);
        let linked = guest::link(&plugin.engine, &plugin.component)?;
        let pre = sink::SinkPre::new(linked).map_err(|error| LoadError::MissingExport {
            missing: format!("what its role holds ({error:#})"),
        })?;
        Ok(Sink {
            nursery: Nursery::new(plugin.engine.clone(), limits, around, veil),
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

    /// Becomes the target's only writer, with a fresh instance: whatever wrote before fails from now on. Answers how far
    /// each stream has come; nothing, where the plugin does not promise to be transactional.
    ///
    /// # Errors
    /// When the plugin refuses, does not come back, or answers what the contract does not allow.
    pub fn open(&mut self, writer: [u8; 16]) -> Result<Vec<Token>, OpenError> {
        self.close();
        let time = self.nursery.limits().open_time_max;
        let mut instance = self
            .nursery
            .instantiate(|store| self.pre.instantiate(store))
            .map_err(OpenError::Poison)?;
        let told = self
            .nursery
            .call(&mut instance, time, |exports, store| {
                exports
                    .culvert_plugin_sink()
                    .call_open(store, &self.settings, &writer)
            })
            .map_err(OpenError::Poison)?
            .map_err(|failure| open_error(failure, &self.nursery))?;
        let tokens = self
            .read_tokens(told)
            .map_err(|why| OpenError::Poison(Poison::Answer(why)))?;
        self.live = Some(instance);
        Ok(tokens)
    }

    fn read_tokens(&self, told: Vec<exported::Token>) -> Result<Vec<Token>, String> {
        if told.len() > TOKENS_MAX {
            return Err(format!("{} tokens; at most {TOKENS_MAX}", told.len()));
        }
        if !told.is_empty() && !self.plugin.description.promises.transactional {
            return Err(format!(
                "{} tokens of a sink that does not promise to be transactional",
                told.len()
            ));
        }
        let mut newest: BTreeMap<String, Token> = BTreeMap::new();
        for token in told {
            if token.from > token.to || token.position.len() > NOTES_BYTES_MAX {
                return Err(format!(
                    "a token of stream {:?} from {} to {} with {} bytes of notes",
                    token.stream,
                    token.from,
                    token.to,
                    token.position.len()
                ));
            }
            let token = Token {
                stream: token.stream,
                incarnation: token.incarnation,
                from: token.from,
                to: token.to,
                position: token.position,
            };
            if let Some(other) = newest.get(&token.stream) {
                if other.incarnation == token.incarnation {
                    return Err(format!("two tokens of stream {:?}", token.stream));
                }
                if other.incarnation > token.incarnation {
                    continue;
                }
            }
            newest.insert(token.stream.clone(), token);
        }
        Ok(newest.into_values().collect())
    }

    /// Writes all records and all tokens, or nothing.
    ///
    /// # Errors
    /// [`PutFault`], which says what is certain of the write. After any but `Refused` and `Retry` the sink must be opened
    /// again.
    pub fn put(&mut self, batches: &[Written<'_>], tokens: &[Token]) -> Result<(), PutFault> {
        let Some(mut instance) = self.live.take() else {
            return Err(PutFault::Uncertain("the sink is not open".into()));
        };
        let shown: Vec<types::Batch> = batches.iter().map(|batch| self.shown(batch)).collect();
        let kept: Vec<exported::Token> = tokens.iter().map(kept).collect();
        for batch in batches {
            self.nursery
                .meter
                .shown(batch.records.len(), batch.records.bytes());
        }
        // A line names a message of one batch: where there are several, it cannot be told of which.
        let logbook = &mut instance.store.data_mut().logbook;
        match batches {
            [batch] => logbook.about(batch.records.interval().from.0, batch.records.sequences()),
            _ => logbook.about_nothing(),
        }
        let time = self.nursery.limits().call_time_max;
        let cpu_before = self.nursery.meter.usage().cpu;
        let told = self.nursery.call(&mut instance, time, |exports, store| {
            exports.culvert_plugin_sink().call_put(store, &shown, &kept)
        });
        // The time of a call that was out of time went where it did not wait; but a machine that gave it next to no processor
        // is no fault of a record.
        let waited = instance.store.data().reach.waited();
        let worked = self.nursery.meter.usage().cpu - cpu_before;
        let was_busy = waited * 2 < time && worked * 20 >= time;
        let poisoned = |poison| PutFault::Poison { poison, was_busy };
        let fault = match told.map_err(poisoned)? {
            Ok(()) => {
                self.live = Some(instance);
                return Ok(());
            }
            Err(error) => self.put_fault(error, batches).map_err(poisoned)?,
        };
        if let PutFault::Refused(_) | PutFault::Retry { .. } = fault {
            self.live = Some(instance);
        }
        Err(fault)
    }

    fn shown(&self, batch: &Written<'_>) -> types::Batch {
        let needs = match batch.is_whole {
            true => &Needs::ALL,
            false => &self.plugin.description.needs,
        };
        let (stream, records) = (&batch.stream, batch.records);
        types::Batch {
            stream: stream.id.into(),
            topic: stream.topic.into(),
            partition: stream.partition,
            from: records.interval().from.0,
            to: records.interval().to.0,
            sequences: records.sequences().to_vec(),
            attributes: batch.attributes.to_vec(),
            messages: records
                .iter()
                .map(|(_, record)| message(needs, &record))
                .collect(),
        }
    }

    fn put_fault(&self, error: exported::PutError, batches: &[Written<'_>]) -> Result<PutFault, Poison> {
        let words = |text| self.nursery.words(text);
        Ok(match error {
            exported::PutError::Refused(refusals) => {
                PutFault::Refused(self.read_refusals(refusals, batches)?)
            }
            exported::PutError::Failure(types::Failure::Retry(later)) => PutFault::Retry {
                after: pause(&later),
                reason: words(later.reason),
            },
            exported::PutError::Failure(types::Failure::Fatal(reason)) => PutFault::Stop(words(reason)),
            exported::PutError::Uncertain(reason) => PutFault::Uncertain(words(reason)),
            exported::PutError::Fenced(reason) => PutFault::Fenced(words(reason)),
        })
    }

    fn read_refusals(
        &self,
        told: Vec<exported::Refusal>,
        batches: &[Written<'_>],
    ) -> Result<Vec<Refusal>, Poison> {
        if told.is_empty() {
            return Err(Poison::Answer("refused, and no message named".into()));
        }
        told.into_iter()
            .map(|refusal| {
                let (batch, record) = (refusal.batch as usize, refusal.message as usize);
                let is_there = batches
                    .get(batch)
                    .is_some_and(|batch| record < batch.records.len());
                if !is_there {
                    let text = format!("message {record} of batch {batch} refused: there is none");
                    return Err(Poison::Answer(text));
                }
                Ok(Refusal {
                    batch,
                    record,
                    rejection: rejection(refusal.why, &self.nursery),
                })
            })
            .collect()
    }

    /// Takes leave of the instance, if it is in order. What it makes of it changes nothing.
    pub fn close(&mut self) {
        let Some(mut instance) = self.live.take() else {
            return;
        };
        let time = self.nursery.limits().call_time_max;
        let _ = self.nursery.call(&mut instance, time, |exports, store| {
            exports.culvert_plugin_sink().call_close(store)
        });
    }
}

fn kept(token: &Token) -> exported::Token {
    exported::Token {
        stream: token.stream.clone(),
        incarnation: token.incarnation,
        from: token.from,
        to: token.to,
        position: token.position.clone(),
    }
}
