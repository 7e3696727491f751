//! Parts of records as JSON for the stages of a connector, and back: [`Decoder`], the stages, [`Encoder`].
//!
//! - A part is read with the schema that it was written with, and written with the same one, or with the one that the
//!   connector's settings name ([`Writes`]). What stages made of it must fit that schema: a record that does not is refused.
//! - A part that the stages left alone keeps its bytes; at a sink only its number changes.
//! - Where records cross as JSON ([`Carried`]), the decoder stands alone at the source, and the encoder at the sink.
//! - A codec is called once a batch in each direction for each schema and message in it, never for a record.
//! - Where nothing is to be decoded, these stages are not there.
//!
//! A stage may expand a record. Its parts are written with the schemas of the record that they came from.

mod envelope;
mod side;
#[cfg(test)]
mod tests;
mod wish;

pub use wish::{
    Carried, Converted, MakeCodec, Message, Payloads, Prepared, SchemaCodec, Schemas, Shown, Translated,
    Writes,
};

use super::{Ledger, Named, Target, part_of, remade};
use crate::flow::stage::{Stage, StageFault};
use culvert_proto::columns::{Columns, Outcomes, Rejection};
use culvert_proto::record::RecordRef;
use culvert_proto::schema::{Fingerprint, Part};
use culvert_proto::{Sequence, StreamId};
use parking_lot::Mutex;
use side::{Place, Side, Written};
use std::borrow::Cow;
use std::sync::Arc;

/// A record has a key and a value: where each lies in what its side has seen, in the order of the sides.
type Places = [Option<Place>; 2];

/// Which end of a route records are translated at.
#[derive(Clone)]
pub enum End {
    /// Schemas are those of the source's registry; what records are written with is kept here.
    Source(Arc<Ledger>),
    /// Schemas come with frames; subjects are named for the topics that this makes of theirs.
    Sink(Arc<Target>),
}

/// What decoder and encoder of one task know together.
struct Shared {
    sides: Vec<Side>,
    /// The records of the batch that was decoded last, in their order, and where the parts of each lie.
    seen: Vec<(Sequence, Places)>,
}

/// Both ends of what stages stand between.
///
/// # Errors
/// When a codec cannot be opened.
pub fn pair(translated: Vec<Translated>, end: &End) -> Result<(Decoder, Encoder), StageFault> {
    let shared = Arc::new(Mutex::new(Shared {
        sides: sides(translated, end)?,
        seen: Vec::new(),
    }));
    let decoder = Decoder {
        shared: shared.clone(),
        checks: false,
    };
    Ok((decoder, Encoder { shared }))
}

/// Reads every part with its schema and leaves the records alone: what does not fit is refused.
///
/// # Errors
/// As [`pair`].
pub fn checker(translated: Vec<Translated>, end: &End) -> Result<Decoder, StageFault> {
    let shared = Shared {
        sides: sides(translated, end)?,
        seen: Vec::new(),
    };
    Ok(Decoder {
        shared: Arc::new(Mutex::new(shared)),
        checks: true,
    })
}

fn sides(translated: Vec<Translated>, end: &End) -> Result<Vec<Side>, StageFault> {
    let open = |translated| Side::open(translated, end.clone());
    translated.into_iter().map(open).collect()
}

/// Shows the stages JSON in the place of bytes.
pub struct Decoder {
    shared: Arc<Mutex<Shared>>,
    /// Records go on as they are.
    checks: bool,
}

impl Stage for Decoder {
    fn name(&self) -> &'static str {
        "converter"
    }

    fn named(&mut self, schemas: &[Named]) {
        let mut shared = self.shared.lock();
        shared.sides.iter_mut().for_each(|side| side.named(schemas));
    }

    fn process(&mut self, _: &StreamId, _: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let mut shared = self.shared.lock();
        let Shared { sides, seen } = &mut *shared;
        seen.clear();
        seen.extend(batch.iter().map(|(sequence, _)| (sequence, Places::default())));
        for (at, side) in sides.iter_mut().enumerate().filter(|(_, side)| side.reads()) {
            side.begin();
            for ((_, record), (_, places)) in batch.iter().zip(&mut *seen) {
                if let Some(bytes) = part_of(side.part(), &record) {
                    places[at] = Some(side.see(bytes)?);
                }
            }
            side.decode()?;
        }
        let mut outcomes = Outcomes::default();
        for ((_, record), (_, places)) in batch.iter().zip(&*seen) {
            let json = sides.iter().zip(places).filter_map(|(side, place)| {
                let json = side.decoded((*place)?);
                Some(json.map(|json| (side.part(), Cow::Borrowed(json))))
            });
            match json.collect::<Result<Vec<_>, &Rejection>>() {
                Ok(_) if self.checks => outcomes.keep(),
                json => put(&record, json, &mut outcomes),
            }
        }
        Ok(outcomes)
    }
}

/// Turns what stages made back into bytes.
pub struct Encoder {
    shared: Arc<Mutex<Shared>>,
}

impl Stage for Encoder {
    fn name(&self) -> &'static str {
        "converter"
    }

    fn process(&mut self, _: &StreamId, topic: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let mut shared = self.shared.lock();
        let Shared { sides, seen } = &mut *shared;
        let mut written: Vec<[Option<Written>; 2]> = Vec::new();
        written.resize_with(batch.len(), Default::default);
        for (at, side) in sides.iter_mut().enumerate().filter(|(_, side)| side.writes()) {
            side.begin_writing();
            let mut before = Before::default();
            for ((sequence, record), written) in batch.iter().zip(&mut written) {
                let place = before.of(sequence, seen).and_then(|places| places[at]);
                if let Some(json) = part_of(side.part(), &record) {
                    written[at] = Some(side.write(topic, place, json)?);
                }
            }
            side.encode()?;
        }
        let mut outcomes = Outcomes::default();
        for ((_, record), written) in batch.iter().zip(&written) {
            let bytes = sides.iter().zip(written).filter_map(|(side, written)| {
                let bytes = side.written(written.as_ref()?);
                Some(bytes.map(|bytes| (side.part(), bytes)))
            });
            put(&record, bytes.collect(), &mut outcomes);
        }
        Ok(outcomes)
    }

    fn schemas_of(&self, record: &RecordRef<'_>, into: &mut Vec<Fingerprint>) {
        let shared = self.shared.lock();
        let named = shared.sides.iter().filter_map(|side| side.names(record));
        into.extend(named);
    }
}

/// Finds what a record was before the stages. Records come in order; the parts of one stand one behind the other.
#[derive(Default)]
struct Before {
    last: Option<Sequence>,
    /// How many of the same place came before.
    count: usize,
}

impl Before {
    /// The parts of an expanded record are those of the record; where several stood at its place before, each in turn.
    fn of<'s>(&mut self, sequence: Sequence, seen: &'s [(Sequence, Places)]) -> Option<&'s Places> {
        self.count = if self.last == Some(sequence) {
            self.count + 1
        } else {
            0
        };
        self.last = Some(sequence);
        let first = seen.partition_point(|(seen, _)| *seen < sequence);
        let behind = seen.partition_point(|(seen, _)| *seen <= sequence);
        let same = &seen[first..behind];
        let at = self.count.min(same.len().checked_sub(1)?);
        Some(&same[at].1)
    }
}

/// Parts of a record, or why there are none.
type Parts<'a> = Result<Vec<(Part, Cow<'a, [u8]>)>, &'a Rejection>;

/// The record with these parts, or why there is none.
fn put(record: &RecordRef<'_>, parts: Parts<'_>, outcomes: &mut Outcomes) {
    let mut parts = match parts {
        Ok(parts) => parts,
        Err(why) => return outcomes.reject(why.clone()),
    };
    parts.retain(|(part, bytes)| part_of(*part, record) != Some(&**bytes));
    match parts.as_slice() {
        [] => outcomes.keep(),
        [(Part::Value, value)] => outcomes.value(value),
        _ => {
            let owned = parts.into_iter().map(|(part, bytes)| (part, bytes.into_owned()));
            outcomes.rewrite(vec![remade(record, owned.collect())]);
        }
    }
}
