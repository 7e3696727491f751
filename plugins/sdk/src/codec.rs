//! Bytes to values and back.
//!
//! A value crosses as a flat [`Tree`]: node 0 is the root, and children are ranges of the same list, behind their
//! parent.

pub use crate::bindings::codec::exports::culvert::plugin::codec::{Decimal, Node, Schema, Span, Tree};

use crate::bindings::codec::exports::culvert::plugin::codec::{Decoded, Encoded, Payloads, Transcoded};
use crate::config::Config;
use crate::{About, Failure, Fault, Rejection, Verdict};
use std::rc::Rc;

/// The most schemas that are kept ready. One that fell out is made ready again from its text when it is named.
const READY_MAX: usize = 1_000;

/// A plugin that reads and writes one format. The numbers by which the gateway names schemas are kept for it: it only
/// ever sees what it made of them.
pub trait Codec: Sized + 'static {
    /// The settings: a struct with `#[derive(Config)]`, or `()`.
    type Config: Config;

    /// A schema that was read and is ready to be used.
    type Schema: 'static;

    /// What the plugin is.
    const ABOUT: About;

    /// Called once, before anything else.
    ///
    /// # Errors
    /// When it cannot work: for now (`retry`) or with these settings (`fatal`).
    fn open(settings: Self::Config) -> Result<Self, Failure>;

    /// Reads a schema. The same text must give the same schema, whenever it is asked again.
    ///
    /// # Errors
    /// When it is no schema of this format.
    fn prepare(&mut self, schema: &Schema) -> Result<Self::Schema, Rejection>;

    /// Bytes written with `writer`, as a value of `reader`.
    ///
    /// # Errors
    /// A rejection of these bytes, or a failure of the whole call.
    fn decode(&mut self, writer: &Self::Schema, reader: &Self::Schema, bytes: &[u8]) -> Result<Tree, Fault>;

    /// A value as bytes of schema `writer`, appended to `bytes`.
    ///
    /// # Errors
    /// A rejection of this value, or a failure of the whole call.
    fn encode(&mut self, writer: &Self::Schema, tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault>;

    /// Bytes written with `writer`, as plain JSON of `reader`, appended to `json`.
    ///
    /// # Errors
    /// A rejection of these bytes, or a failure of the whole call.
    fn to_json(
        &mut self,
        writer: &Self::Schema,
        reader: &Self::Schema,
        bytes: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), Fault>;

    /// Plain JSON as bytes of schema `writer`, appended to `bytes`.
    ///
    /// # Errors
    /// A rejection of this JSON, or a failure of the whole call.
    #[allow(clippy::wrong_self_convention, reason = "the contract's word")]
    fn from_json(&mut self, writer: &Self::Schema, json: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault>;

    /// What the checks of single keys cannot see. Pure: no capability is there.
    #[must_use]
    fn check(settings: &Self::Config) -> Vec<Verdict> {
        let _ = settings;
        Vec::new()
    }
}

/// Makes a type the codec that this component exports. Called once, at the top of a crate of type `cdylib`.
#[macro_export]
macro_rules! export_codec {
    ($plugin:ty) => {
        #[allow(unsafe_code, reason = "made from the contract")]
        const _: () = {
            use ::std::result::Result;
            use ::std::vec::Vec;
            use contract::codec::{Decoded, Encoded, Payloads, Schema, Transcoded, Tree};
            use $crate::bindings::codec::exports::culvert::plugin as contract;
            use $crate::bindings::meta::exports::culvert::plugin::meta;

            ::std::thread_local! {
                static PLUGIN: $crate::slot::Slot<$crate::codec::Opened<$plugin>> =
                    const { $crate::slot::Slot::new() };
            }

            fn opened<R>(
                act: impl FnOnce(&mut $crate::codec::Opened<$plugin>) -> Result<R, $crate::Failure>,
            ) -> Result<R, $crate::Failure> {
                PLUGIN.with(|slot| slot.with(act)?)
            }

            struct Exported;

            impl meta::Guest for Exported {
                fn describe() -> meta::Description {
                    type Settings = <$plugin as $crate::codec::Codec>::Config;
                    $crate::description::<Settings>(&<$plugin as $crate::codec::Codec>::ABOUT)
                }

                fn validate(values: Vec<$crate::Value>) -> Vec<$crate::Verdict> {
                    $crate::config::validated(&values, <$plugin as $crate::codec::Codec>::check)
                }
            }

            impl contract::codec::Guest for Exported {
                fn open(values: Vec<$crate::Value>) -> Result<(), $crate::Failure> {
                    $crate::panics::report();
                    let settings = $crate::config::opened(&values, <$plugin as $crate::codec::Codec>::check)?;
                    let plugin = <$plugin as $crate::codec::Codec>::open(settings)?;
                    PLUGIN.with(|slot| slot.put($crate::codec::Opened::new(plugin)));
                    Result::Ok(())
                }

                fn prepare(schema: Schema) -> Result<u32, $crate::Rejection> {
                    PLUGIN.with(|slot| {
                        slot.with(|opened| opened.prepare(schema))
                            .unwrap_or_else(|failure| {
                                Result::Err($crate::Rejection::new("not-open", failure.text()))
                            })
                    })
                }

                fn decode(
                    writer: u32,
                    reader: u32,
                    payloads: Payloads,
                ) -> Result<Vec<Decoded>, $crate::Failure> {
                    opened(|opened| opened.decode(writer, reader, &payloads))
                }

                fn encode(writer: u32, trees: Vec<Tree>) -> Result<Vec<Encoded>, $crate::Failure> {
                    opened(|opened| opened.encode(writer, &trees))
                }

                fn to_json(
                    writer: u32,
                    reader: u32,
                    payloads: Payloads,
                ) -> Result<Transcoded, $crate::Failure> {
                    opened(|opened| opened.to_json(writer, reader, &payloads))
                }

                fn from_json(writer: u32, payloads: Payloads) -> Result<Transcoded, $crate::Failure> {
                    opened(|opened| opened.from_json(writer, &payloads))
                }
            }

            $crate::__export_role!(Exported, codec, contract::codec::Guest);
        };
    };
}

/// A codec with the schemas that were prepared: a schema's number is its place here.
#[doc(hidden)]
pub struct Opened<C: Codec> {
    codec: C,
    schemas: Vec<Known<C>>,
    /// Grows with each use of a schema, to find the one that rested longest.
    uses: u64,
}

struct Known<C: Codec> {
    schema: Schema,
    ready: Option<Rc<C::Schema>>,
    used: u64,
}

impl<C: Codec> Opened<C> {
    #[must_use]
    pub fn new(codec: C) -> Opened<C> {
        Opened {
            codec,
            schemas: Vec::new(),
            uses: 0,
        }
    }

    /// # Errors
    /// What the codec says of the schema.
    pub fn prepare(&mut self, schema: Schema) -> Result<u32, Rejection> {
        if let Some(number) = self.schemas.iter().position(|known| known.schema == schema) {
            return Ok(number as u32);
        }
        let ready = self.codec.prepare(&schema)?;
        self.make_room();
        self.uses += 1;
        self.schemas.push(Known {
            schema,
            ready: Some(Rc::new(ready)),
            used: self.uses,
        });
        Ok(self.schemas.len() as u32 - 1)
    }

    /// # Errors
    /// A failure of the whole call.
    pub fn decode(&mut self, writer: u32, reader: u32, payloads: &Payloads) -> Result<Vec<Decoded>, Failure> {
        let (writer, reader) = (self.schema(writer)?, self.schema(reader)?);
        let mut decoded = Vec::with_capacity(payloads.ends.len());
        for bytes in parts(payloads)? {
            decoded.push(match self.codec.decode(&writer, &reader, bytes) {
                Ok(tree) => Decoded::Ok(tree),
                Err(Fault::Reject(rejection)) => Decoded::Reject(rejection),
                Err(Fault::Failure(failure)) => return Err(failure),
            });
        }
        Ok(decoded)
    }

    /// # Errors
    /// A failure of the whole call.
    pub fn encode(&mut self, writer: u32, trees: &[Tree]) -> Result<Vec<Encoded>, Failure> {
        let writer = self.schema(writer)?;
        let mut encoded = Vec::with_capacity(trees.len());
        for tree in trees {
            let mut bytes = Vec::new();
            encoded.push(match self.codec.encode(&writer, tree, &mut bytes) {
                Ok(()) => Encoded::Ok(bytes),
                Err(Fault::Reject(rejection)) => Encoded::Reject(rejection),
                Err(Fault::Failure(failure)) => return Err(failure),
            });
        }
        Ok(encoded)
    }

    /// # Errors
    /// A failure of the whole call.
    pub fn to_json(&mut self, writer: u32, reader: u32, payloads: &Payloads) -> Result<Transcoded, Failure> {
        let (writer, reader) = (self.schema(writer)?, self.schema(reader)?);
        let codec = &mut self.codec;
        transcoded(payloads, |bytes, json| {
            codec.to_json(&writer, &reader, bytes, json)
        })
    }

    /// # Errors
    /// A failure of the whole call.
    pub fn from_json(&mut self, writer: u32, payloads: &Payloads) -> Result<Transcoded, Failure> {
        let writer = self.schema(writer)?;
        let codec = &mut self.codec;
        transcoded(payloads, |json, bytes| codec.from_json(&writer, json, bytes))
    }

    fn schema(&mut self, number: u32) -> Result<Rc<C::Schema>, Failure> {
        let at = number as usize;
        let known = self.schemas.get(at);
        let known = known.ok_or_else(|| Failure::fatal(format!("schema {number} was never prepared")))?;
        self.uses += 1;
        let ready = match &known.ready {
            Some(ready) => Rc::clone(ready),
            None => {
                let again = self.codec.prepare(&known.schema);
                let again = again.map_err(|rejection| {
                    Failure::fatal(format!(
                        "schema {number} cannot be read again: {}",
                        rejection.reason
                    ))
                })?;
                self.make_room();
                Rc::new(again)
            }
        };
        self.schemas[at].ready = Some(Rc::clone(&ready));
        self.schemas[at].used = self.uses;
        Ok(ready)
    }

    /// Lets go of the schema that rested longest, where as many are ready as may be.
    fn make_room(&mut self) {
        let ready = self.schemas.iter_mut().filter(|known| known.ready.is_some());
        if ready.count() < READY_MAX {
            return;
        }
        let ready = self.schemas.iter_mut().filter(|known| known.ready.is_some());
        if let Some(oldest) = ready.min_by_key(|known| known.used) {
            oldest.ready = None;
        }
    }
}

/// Each of many byte strings.
fn parts(payloads: &Payloads) -> Result<impl Iterator<Item = &[u8]>, Failure> {
    let ends = &payloads.ends;
    let fits = ends.is_sorted()
        && ends
            .last()
            .is_none_or(|last| *last as usize <= payloads.bytes.len());
    if !fits {
        return Err(Failure::fatal("the gateway sent payloads whose ends do not fit"));
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    Ok(starts
        .zip(ends)
        .map(|(start, end)| &payloads.bytes[start as usize..*end as usize]))
}

fn transcoded(
    payloads: &Payloads,
    mut one: impl FnMut(&[u8], &mut Vec<u8>) -> Result<(), Fault>,
) -> Result<Transcoded, Failure> {
    let mut made = Payloads {
        ends: Vec::with_capacity(payloads.ends.len()),
        bytes: Vec::new(),
    };
    let mut rejections = Vec::new();
    for (index, bytes) in parts(payloads)?.enumerate() {
        let before = made.bytes.len();
        match one(bytes, &mut made.bytes) {
            Ok(()) => {}
            Err(Fault::Reject(rejection)) => {
                made.bytes.truncate(before);
                rejections.push((index as u32, rejection));
            }
            Err(Fault::Failure(failure)) => return Err(failure),
        }
        let end = u32::try_from(made.bytes.len()).expect("a plugin's memory has 32-bit addresses");
        made.ends.push(end);
    }
    Ok(Transcoded {
        payloads: made,
        rejections,
    })
}

#[cfg(test)]
mod tests;
