//! A codec: one plugin opened with one connector's settings, and what it makes of bytes of a schema.
//!
//! - Schemas have a number of the host's own ([`Prepared`]), which outlives an instance: a fresh one is shown the text
//!   again when the schema is used.
//! - A call that does not come back costs its instance, never the batch, as for a [`Transform`](crate::Transform): the
//!   payloads are cut until the one at fault stands alone, and that one is rejected with [`Poison::code`].
//! - Payloads go in as they lie in the caller's memory, and come out in one piece.

use crate::bindings::codec::exports::culvert::plugin::codec as contract;
use crate::bindings::{codec, config, types};
use crate::component::{Plugin, Role};
use crate::fault::{LoadError, OpenError, Poison, StageFault};
use crate::guest::{self, Guest, Instance, Limits, Meter, Nursery};
use crate::transform::{open_error, rejection, settings_of, stage_fault};
use crate::{CONTRACT, Surroundings};
use culvert_proto::columns::Rejection;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Func, Lift, Lower};

/// Values as the contract spells them: flat trees.
pub mod value {
    pub use crate::bindings::codec::exports::culvert::plugin::codec::{Decimal, Node, Span, Tree};
}

/// A schema, as it is shown to a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The registry's number; 0 where there is none.
    pub id: u32,
    /// Its subject in the registry.
    pub subject: String,
    /// Its version there.
    pub version: u32,
    /// In the codec's own language.
    pub text: String,
    /// What the text refers to: the name it uses, and the text meant.
    pub references: Vec<(String, String)>,
    /// `message` (Protobuf: the message's full name).
    pub attributes: Vec<(String, String)>,
}

/// A schema that a [`Codec`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prepared(usize);

/// Many byte strings as one: entry i is `bytes[ends[i-1] .. ends[i]]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payloads<'a> {
    /// Where each ends.
    pub ends: &'a [u32],
    /// All of them.
    pub bytes: &'a [u8],
}

/// What became of many payloads, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Where each ends; one entry for each payload, empty for a rejected one.
    pub ends: Vec<u32>,
    /// All of them.
    pub bytes: Vec<u8>,
    /// The payloads at fault, ascending.
    pub rejections: Vec<(u32, Rejection)>,
}

/// One codec of one task. Used by one thread at a time.
pub struct Codec {
    plugin: Plugin,
    settings: Vec<config::Value>,
    nursery: Nursery,
    pre: codec::CodecsPre<Guest>,
    live: Option<Live>,
    schemas: Vec<Schema>,
}

/// An instance that was opened, and its own numbers of schemas.
struct Live {
    instance: Instance<Exports>,
    numbers: BTreeMap<Prepared, u32>,
}

/// The exports; what is called with borrowed payloads stands apart.
struct Exports {
    codec: codec::Codecs,
    decode: Func,
    to_json: Func,
    from_json: Func,
}

/// How an attempt ended that did come back: with the plugin's answer, or its failure.
type Told<Answer> = Result<Answer, types::Failure>;

/// One call of an instance for some payloads.
type Ask<'a, Answer> = dyn 'a + Fn(&Codec, &mut Live, Payloads<'_>) -> Result<Told<Answer>, Poison>;

impl Codec {
    /// Opens a plugin with settings: names and values, defaults filled in.
    ///
    /// # Errors
    /// When it is no codec, imports what `around` does not grant, refuses the settings, or does not come back.
    pub fn open(
        plugin: &Plugin,
        settings: &[(String, Option<String>)],
        limits: Limits,
        around: Surroundings,
    ) -> Result<Codec, OpenError> {
        around.check(plugin)?;
        let veil = around.veil(plugin, settings);
        let missing = |missing: String| OpenError::Load(LoadError::MissingExport { missing });
        if !plugin.examined.roles.contains(&Role::Codec) {
            return Err(missing("culvert:plugin/codec".into()));
        }
        let linked = guest::link(&plugin.engine, &plugin.component)?;
        let pre = codec::CodecsPre::new(linked)
            .map_err(|error| missing(format!("what culvert:plugin/codec holds ({error:#})")))?;
        let mut codec = Codec {
            nursery: Nursery::new(plugin.engine.clone(), limits, around, veil),
            plugin: plugin.clone(),
            settings: settings_of(settings),
            pre,
            live: None,
            schemas: Vec::new(),
        };
        codec.live = Some(codec.fresh()?);
        Ok(codec)
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

    /// Shows a schema to the plugin. The same schema has the same number. What is prepared is never forgotten: whoever
    /// calls bounds how many there are.
    ///
    /// # Errors
    /// The outer one when the plugin cannot be opened; the inner one when it is no schema of its format.
    pub fn prepare(&mut self, schema: Schema) -> Result<Result<Prepared, Rejection>, StageFault> {
        let known = self.schemas.iter().position(|known| *known == schema);
        let prepared = Prepared(known.unwrap_or(self.schemas.len()));
        if known.is_none() {
            self.schemas.push(schema);
        }
        let shown = self.attempt(|codec, live| Ok(codec.number(live, prepared)?.map(|_| prepared)))?;
        let shown = shown.unwrap_or_else(|poison| Err(self.poisoned(&poison)));
        if shown.is_err() && known.is_none() {
            self.schemas.pop();
        }
        Ok(shown)
    }

    /// From bytes of schema `writer` to the plain JSON of `reader`: one entry for each payload.
    ///
    /// # Errors
    /// When the plugin says that it cannot now, or not at all. Nothing of the payloads counts then.
    pub fn to_json(
        &mut self,
        writer: Prepared,
        reader: Prepared,
        payloads: Payloads<'_>,
    ) -> Result<Converted, StageFault> {
        self.convert(payloads, &|codec, live, part| {
            let numbers = match codec.numbers(live, &[writer, reader])? {
                Ok(numbers) => numbers,
                Err(rejection) => return Ok(Ok(part.rejected(&rejection))),
            };
            let (writer, reader) = (numbers[0], numbers[1]);
            let told = codec.ask(live, |exports| exports.to_json, (writer, reader, part.shown()))?;
            codec.read(part, told)
        })
    }

    /// From plain JSON to bytes of schema `writer`.
    ///
    /// # Errors
    /// As [`Codec::to_json`].
    pub fn from_json(&mut self, writer: Prepared, payloads: Payloads<'_>) -> Result<Converted, StageFault> {
        self.convert(payloads, &|codec, live, part| {
            let number = match codec.number(live, writer)? {
                Ok(number) => number,
                Err(rejection) => return Ok(Ok(part.rejected(&rejection))),
            };
            let told = codec.ask(live, |exports| exports.from_json, (number, part.shown()))?;
            codec.read(part, told)
        })
    }

    /// Bytes written with `writer`, as values of `reader`: one for each payload.
    ///
    /// # Errors
    /// As [`Codec::to_json`].
    pub fn decode(
        &mut self,
        writer: Prepared,
        reader: Prepared,
        payloads: Payloads<'_>,
    ) -> Result<Vec<Result<value::Tree, Rejection>>, StageFault> {
        self.convert(payloads, &|codec, live, part| {
            let numbers = match codec.numbers(live, &[writer, reader])? {
                Ok(numbers) => numbers,
                Err(why) => return Ok(Ok(vec![Err(why); part.ends.len()])),
            };
            let asked = (numbers[0], numbers[1], part.shown());
            let told: Told<Vec<contract::Decoded>> = codec.ask(live, |exports| exports.decode, asked)?;
            told.map_or_else(
                |failure| Ok(Err(failure)),
                |decoded| {
                    check_count(decoded.len(), part.ends.len())?;
                    let read = decoded.into_iter().map(|decoded| match decoded {
                        contract::Decoded::Ok(tree) => Ok(tree),
                        contract::Decoded::Reject(why) => Err(rejection(why, &codec.nursery)),
                    });
                    Ok(Ok(read.collect()))
                },
            )
        })
    }

    /// Values as bytes of schema `writer`: one entry for each tree.
    ///
    /// # Errors
    /// As [`Codec::to_json`].
    pub fn encode(
        &mut self,
        writer: Prepared,
        trees: &[value::Tree],
    ) -> Result<Vec<Result<Vec<u8>, Rejection>>, StageFault> {
        if trees.is_empty() {
            return Ok(Vec::new());
        }
        let outcome = self.attempt(|codec, live| {
            let number = match codec.number(live, writer)? {
                Ok(number) => number,
                Err(why) => return Ok(Ok(vec![Err(why); trees.len()])),
            };
            codec.nursery.meter.shown(trees.len(), 0);
            let time = codec.nursery.limits().call_time_max;
            let told = codec.nursery.call(&mut live.instance, time, |exports, store| {
                let contract = exports.codec.culvert_plugin_codec();
                contract.call_encode(store, number, trees)
            })?;
            told.map_or_else(
                |failure| Ok(Err(failure)),
                |encoded| {
                    check_count(encoded.len(), trees.len())?;
                    let read = encoded.into_iter().map(|encoded| match encoded {
                        contract::Encoded::Ok(bytes) => {
                            codec.nursery.meter.answered(bytes.len());
                            Ok(bytes)
                        }
                        contract::Encoded::Reject(why) => Err(rejection(why, &codec.nursery)),
                    });
                    Ok(Ok(read.collect()))
                },
            )
        })?;
        match outcome {
            Ok(Ok(encoded)) => Ok(encoded),
            Ok(Err(failure)) => Err(stage_fault(failure, &self.nursery)),
            Err(poison) if trees.len() == 1 => Ok(vec![Err(self.poisoned(&poison))]),
            Err(poison) => {
                let mut all = Vec::with_capacity(trees.len());
                for part in trees.chunks(smaller(&poison, trees.len())) {
                    all.extend(self.encode(writer, part)?);
                }
                Ok(all)
            }
        }
    }

    // ----- isolation -----------------------------------------------------------------------------------------------

    /// Converts payloads; where a call does not come back, part by part.
    fn convert<Answer: Gathered>(
        &mut self,
        payloads: Payloads<'_>,
        one: &Ask<'_, Answer>,
    ) -> Result<Answer, StageFault> {
        if payloads.ends.is_empty() {
            return Ok(Answer::default());
        }
        self.nursery
            .meter
            .shown(payloads.ends.len(), payloads.bytes.len());
        match self.attempt(|codec, live| one(codec, live, payloads))? {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(stage_fault(failure, &self.nursery)),
            Err(poison) if payloads.ends.len() == 1 => Ok(Answer::rejected(&self.poisoned(&poison))),
            Err(poison) => {
                let size = smaller(&poison, payloads.ends.len());
                let mut all = Answer::default();
                let mut first = 0;
                while first < payloads.ends.len() {
                    let behind = (first + size).min(payloads.ends.len());
                    let (ends, bytes) = payloads.part(first..behind);
                    let part = Payloads { ends: &ends, bytes };
                    all.gather(self.convert(part, one)?);
                    first = behind;
                }
                Ok(all)
            }
        }
    }

    /// One call. An instance that did not come back from it is dropped.
    fn attempt<Answer>(
        &mut self,
        call: impl FnOnce(&Codec, &mut Live) -> Result<Answer, Poison>,
    ) -> Result<Result<Answer, Poison>, StageFault> {
        let mut live = match self.live.take() {
            Some(live) => live,
            None => self.fresh()?,
        };
        let answer = call(self, &mut live);
        if answer.is_ok() {
            self.live = Some(live);
        }
        Ok(answer)
    }

    fn fresh(&self) -> Result<Live, OpenError> {
        let mut instance = self
            .nursery
            .instantiate(|store| exports(&self.pre, store))
            .map_err(OpenError::Poison)?;
        let time = self.nursery.limits().open_time_max;
        let opened = self.nursery.call(&mut instance, time, |exports, store| {
            exports
                .codec
                .culvert_plugin_codec()
                .call_open(store, &self.settings)
        });
        let opened = opened.map_err(OpenError::Poison)?;
        opened.map_err(|failure| open_error(failure, &self.nursery))?;
        Ok(Live {
            instance,
            numbers: BTreeMap::new(),
        })
    }

    fn poisoned(&self, poison: &Poison) -> Rejection {
        Rejection {
            code: poison.code().into(),
            reason: self.nursery.words(poison.to_string()),
            field: None,
        }
    }

    // ----- calls ---------------------------------------------------------------------------------------------------

    /// The instance's number of a schema, which it is shown if it has not seen it.
    fn number(&self, live: &mut Live, schema: Prepared) -> Result<Result<u32, Rejection>, Poison> {
        if let Some(number) = live.numbers.get(&schema) {
            return Ok(Ok(*number));
        }
        let Some(shown) = self.schemas.get(schema.0) else {
            let why = "the schema is none that was prepared here";
            return Ok(Err(Rejection {
                code: "schema-invalid".into(),
                reason: why.into(),
                field: None,
            }));
        };
        let shown = contract::Schema {
            id: shown.id,
            subject: shown.subject.clone(),
            version: shown.version,
            text: shown.text.clone(),
            references: shown.references.clone(),
            attributes: shown.attributes.clone(),
        };
        let time = self.nursery.limits().call_time_max;
        let told = self.nursery.call(&mut live.instance, time, |exports, store| {
            exports.codec.culvert_plugin_codec().call_prepare(store, &shown)
        })?;
        Ok(match told {
            Ok(number) => {
                live.numbers.insert(schema, number);
                Ok(number)
            }
            Err(why) => Err(rejection(why, &self.nursery)),
        })
    }

    fn numbers(
        &self,
        live: &mut Live,
        schemas: &[Prepared; 2],
    ) -> Result<Result<[u32; 2], Rejection>, Poison> {
        let mut numbers = [0; 2];
        for (number, schema) in numbers.iter_mut().zip(schemas) {
            match self.number(live, *schema)? {
                Ok(found) => *number = found,
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(Ok(numbers))
    }

    fn ask<Asked, Answer>(
        &self,
        live: &mut Live,
        function: impl FnOnce(&Exports) -> Func,
        asked: Asked,
    ) -> Result<Answer, Poison>
    where
        Asked: ComponentNamedList + Lower,
        Answer: Send + Sync + 'static,
        (Answer,): ComponentNamedList + Lift,
    {
        let time = self.nursery.limits().call_time_max;
        let (told,) = self.nursery.call(&mut live.instance, time, |exports, store| {
            // Looking at the types again costs some microseconds a batch; holding the borrowed ones is not possible.
            let function = function(exports).typed::<Asked, (Answer,)>(&*store)?;
            function.call(store, asked)
        })?;
        Ok(told)
    }

    fn read(&self, asked: Payloads<'_>, told: Told<contract::Transcoded>) -> Result<Told<Converted>, Poison> {
        let contract::Transcoded { payloads, rejections } = match told {
            Ok(transcoded) => transcoded,
            Err(failure) => return Ok(Err(failure)),
        };
        self.nursery.meter.answered(payloads.bytes.len());
        check_count(payloads.ends.len(), asked.ends.len())?;
        let last = payloads.ends.last().map_or(0, |last| *last as usize);
        if !payloads.ends.is_sorted() || last != payloads.bytes.len() {
            return Err(Poison::Answer("ends does not divide the bytes".into()));
        }
        let ascending = rejections.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let within = rejections
            .last()
            .is_none_or(|(last, _)| (*last as usize) < asked.ends.len());
        if !ascending || !within {
            return Err(Poison::Answer("rejections do not name payloads in order".into()));
        }
        let rejections = rejections
            .into_iter()
            .map(|(at, why)| (at, rejection(why, &self.nursery)));
        Ok(Ok(Converted {
            ends: payloads.ends,
            bytes: payloads.bytes,
            rejections: rejections.collect(),
        }))
    }
}

/// An answer that is put together from parts.
trait Gathered: Default {
    fn gather(&mut self, next: Self);
    fn rejected(why: &Rejection) -> Self;
}

impl Gathered for Converted {
    fn gather(&mut self, next: Converted) {
        let (records, bytes) = (self.ends.len(), self.bytes.len());
        let moved = |number: u32, by: usize| number.saturating_add(u32::try_from(by).unwrap_or(u32::MAX));
        self.ends.extend(next.ends.iter().map(|end| moved(*end, bytes)));
        self.bytes.extend_from_slice(&next.bytes);
        let rejections = next.rejections.into_iter();
        self.rejections
            .extend(rejections.map(|(at, why)| (moved(at, records), why)));
    }

    fn rejected(why: &Rejection) -> Converted {
        Payloads {
            ends: &[0],
            bytes: &[],
        }
        .rejected(why)
    }
}

impl Gathered for Vec<Result<value::Tree, Rejection>> {
    fn gather(&mut self, next: Self) {
        self.extend(next);
    }

    fn rejected(why: &Rejection) -> Self {
        vec![Err(why.clone())]
    }
}

impl<'a> Payloads<'a> {
    fn shown(self) -> codec::Shown<'a> {
        codec::Shown {
            ends: self.ends,
            bytes: self.bytes,
        }
    }

    /// Some of them: where each ends, and their bytes.
    fn part(self, part: Range<usize>) -> (Cow<'a, [u32]>, &'a [u8]) {
        let start = part.start.checked_sub(1).map_or(0, |before| self.ends[before]);
        let ends = &self.ends[part];
        let end = ends.last().copied().unwrap_or(start);
        let ends = match start {
            0 => Cow::Borrowed(ends),
            _ => Cow::Owned(ends.iter().map(|end| end - start).collect()),
        };
        (ends, &self.bytes[start as usize..end as usize])
    }

    /// All of them rejected for one reason.
    fn rejected(self, why: &Rejection) -> Converted {
        let count = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        Converted {
            ends: vec![0; self.ends.len()],
            bytes: Vec::new(),
            rejections: (0..count).map(|at| (at, why.clone())).collect(),
        }
    }
}

fn exports(pre: &codec::CodecsPre<Guest>, store: &mut Store<Guest>) -> wasmtime::Result<Exports> {
    let instance = pre.instance_pre().instantiate(&mut *store)?;
    let interface = format!("culvert:plugin/codec@{CONTRACT}");
    let missing = || wasmtime::format_err!("{interface} is not exported whole");
    let within = instance
        .get_export_index(&mut *store, None, &interface)
        .ok_or_else(missing)?;
    let mut function = |name: &str| {
        let index = instance
            .get_export_index(&mut *store, Some(&within), name)
            .ok_or_else(missing)?;
        instance.get_func(&mut *store, index).ok_or_else(missing)
    };
    let (decode, to_json, from_json) = (function("decode")?, function("to-json")?, function("from-json")?);
    Ok(Exports {
        codec: codec::Codecs::new(store, &instance)?,
        decode,
        to_json,
        from_json,
    })
}

/// How many payloads the next attempts are shown, as decided for transforms.
fn smaller(poison: &Poison, count: usize) -> usize {
    match poison {
        Poison::Timeout(_) => 1,
        _ => count.div_ceil(2),
    }
}

fn check_count(told: usize, shown: usize) -> Result<(), Poison> {
    if told == shown {
        return Ok(());
    }
    Err(Poison::Answer(format!("{told} answers for {shown} payloads")))
}
