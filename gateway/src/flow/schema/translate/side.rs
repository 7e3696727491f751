//! One part of the records of a task: its codec, and the batch under way.

use super::End;
use super::envelope;
use super::wish::{
    Carried, Converted, Message, Payloads, Prepared, SchemaCodec, Schemas, Shown, Translated, Writes,
};
use crate::flow::schema::{Known, Named, NotHeld, part_of, refuse, renumbered};
use crate::flow::stage::StageFault;
use culvert_proto::columns::Rejection;
use culvert_proto::limits::SCHEMA_BYTES_MAX;
use culvert_proto::record::RecordRef;
use culvert_proto::schema::{Fingerprint, Kind, Part, Schema, behind_prefix, prefix};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many schemas a codec is shown before it is opened anew: it keeps 1,000 ready (`wit/culvert-plugin/codec.wit`).
const PREPARED_MAX: usize = 900;

/// For how many topics it is remembered what is written to them.
const TOPICS_MAX: usize = 10_000;

/// The most messages within each other that a frame is read for; codecs have the same limit.
const INDEXES_MAX: u64 = 100;

/// A part's place in what was seen of a batch: the group, and the payload in it. Or why its schema is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    In(usize, usize),
    Refused(usize),
}

/// What a part becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// What it was, under this number.
    Before(Place, Option<u32>),
    /// What the codec makes of it.
    Made(usize, usize),
    /// Nothing.
    Refused(Rejection),
}

/// Payloads of one schema and message in one batch, and what a codec made of them.
struct Group {
    shown: Shown,
    ends: Vec<u32>,
    bytes: Vec<u8>,
    made: Converted,
    rejected: BTreeMap<usize, Rejection>,
}

/// Where a schema lies that is held as long as it is named by this: by the ledger at a sink, by its side at a source.
type Address = usize;

/// One part of the records of a task.
pub(super) struct Side {
    translated: Translated,
    end: End,
    codec: Box<dyn SchemaCodec>,
    /// What the codec was shown.
    prepared: Vec<(Shown, Prepared)>,
    /// At a sink: what the numbers of the batch mean.
    named: BTreeMap<u32, Arc<Schema>>,
    /// At a source: what the numbers of its registry mean.
    found: HashMap<u32, Arc<Schema>>,
    /// What is written to each topic with one schema for all, and its number at a sink's registry for each schema.
    targets: HashMap<String, HashMap<Address, Arc<Schema>>>,
    numbers: HashMap<String, HashMap<Address, u32>>,
    /// At a source: what frames name the numbers by that were not those of the records read.
    names: HashMap<u32, Fingerprint>,
    read: Vec<Group>,
    refused: Vec<Rejection>,
    write: Vec<Group>,
}

impl Side {
    pub(super) fn open(translated: Translated, end: End) -> Result<Side, StageFault> {
        let mut codec = (translated.codec)()?;
        check_given(&translated, &mut *codec)?;
        Ok(Side {
            codec,
            translated,
            end,
            prepared: Vec::new(),
            named: BTreeMap::new(),
            found: HashMap::new(),
            targets: HashMap::new(),
            numbers: HashMap::new(),
            names: HashMap::new(),
            read: Vec::new(),
            refused: Vec::new(),
            write: Vec::new(),
        })
    }

    pub(super) fn part(&self) -> Part {
        self.translated.part
    }

    /// Whether what comes in is decoded here.
    pub(super) fn reads(&self) -> bool {
        self.translated.carried == Carried::Bytes || matches!(self.end, End::Source(_))
    }

    /// Whether what goes out is encoded here.
    pub(super) fn writes(&self) -> bool {
        self.translated.carried == Carried::Bytes || matches!(self.end, End::Sink(_))
    }

    pub(super) fn named(&mut self, schemas: &[Named]) {
        let own = schemas.iter().filter(|(_, schema)| schema.part == self.part());
        self.named = own.map(|(_, schema)| (schema.id, schema.clone())).collect();
    }

    /// The schema that a record names by this number.
    pub(super) fn names(&self, record: &RecordRef<'_>) -> Option<Fingerprint> {
        let id = part_of(self.part(), record).and_then(prefix)?;
        self.names.get(&id).copied()
    }

    // ----- reading -------------------------------------------------------------------------------------------------

    /// A new batch comes.
    pub(super) fn begin(&mut self) {
        self.read.clear();
        self.refused.clear();
    }

    /// Takes in a part that is to be decoded.
    pub(super) fn see(&mut self, bytes: &[u8]) -> Result<Place, StageFault> {
        let (schema, message) = match &self.translated.schemas {
            Schemas::One(schema, message) => (Ok(schema.clone()), message.clone()),
            Schemas::Within => {
                // What is no envelope is for the codec to refuse.
                let text = envelope::schema_of(bytes).unwrap_or_default();
                let same = |group: &Group| group.shown.schema.root().is_some_and(|root| root.text == text);
                if let Some(at) = self.read.iter().rposition(same) {
                    return Ok(Place::In(at, self.read[at].push(bytes)));
                }
                (within(self.part(), text), Message::Any)
            }
            Schemas::Registry(converter) => match prefix(bytes) {
                Some(id) => {
                    let message = match converter.kind {
                        Kind::Protobuf => message_of(behind_prefix(bytes)),
                        _ => Message::Any,
                    };
                    // Batches are of one schema, mostly.
                    let same = |group: &Group| group.shown.id == id && group.shown.message == message;
                    if let Some(at) = self.read.iter().rposition(same) {
                        return Ok(Place::In(at, self.read[at].push(bytes)));
                    }
                    (self.schema_of(id)?, message)
                }
                None => (Err(no_prefix(self.part())), Message::Any),
            },
        };
        match schema {
            Ok(schema) => {
                let id = schema.id;
                let shown = Shown { schema, id, message };
                let at = group_of(&mut self.read, shown);
                Ok(Place::In(at, self.read[at].push(bytes)))
            }
            Err(why) => {
                self.refused.push(why);
                Ok(Place::Refused(self.refused.len() - 1))
            }
        }
    }

    /// The schema of a number before the bytes.
    fn schema_of(&mut self, id: u32) -> Result<Known<Arc<Schema>>, StageFault> {
        let Schemas::Registry(converter) = &self.translated.schemas else {
            return Ok(Err(no_prefix(self.part())));
        };
        match self.end {
            End::Sink(_) => Ok(self.named.get(&id).cloned().ok_or_else(|| converter.unnamed(id))),
            End::Source(_) => {
                if let Some(known) = self.found.get(&id) {
                    return Ok(Ok(known.clone()));
                }
                let found = converter.schema(id)?.map(Arc::new);
                if let Ok(schema) = &found {
                    self.found.insert(id, schema.clone());
                }
                Ok(found)
            }
        }
    }

    /// Decodes what was taken in.
    pub(super) fn decode(&mut self) -> Result<(), StageFault> {
        // Of a codec whose schemas no registry keeps, a 0 in front says nothing.
        let may_be_framed =
            matches!(&self.translated.schemas, Schemas::One(schema, _) if schema.kind != Kind::Other);
        let part = self.part();
        let mut groups = std::mem::take(&mut self.read);
        for group in &mut groups {
            self.convert(group, |codec, schema, payloads| codec.decode(schema, payloads), |why, bytes| {
                let framed = prefix(bytes).filter(|_| may_be_framed).map(|id| {
                    format!("; it begins as a part of schema {id} of a registry does: name that as schema.registry.url")
                });
                Rejection {
                    field: why.field,
                    ..refuse(part, &why.code, format!("{}{}", why.reason, framed.unwrap_or_default()))
                }
            })?;
        }
        self.read = groups;
        Ok(())
    }

    /// The JSON of a part, or why there is none.
    pub(super) fn decoded(&self, place: Place) -> Result<&[u8], &Rejection> {
        match place {
            Place::In(group, at) => self.read[group].made(at),
            Place::Refused(at) => Err(&self.refused[at]),
        }
    }

    // ----- writing -------------------------------------------------------------------------------------------------

    pub(super) fn begin_writing(&mut self) {
        self.write.clear();
    }

    /// Takes in a part that stages may have changed. `place` is where it was before them, if it was there.
    pub(super) fn write(
        &mut self,
        topic: &str,
        place: Option<Place>,
        json: &[u8],
    ) -> Result<Written, StageFault> {
        let before = place.and_then(|place| match place {
            Place::In(group, at) => Some((group, at)),
            Place::Refused(_) => None,
        });
        let is_same = before.is_some_and(|(group, at)| self.read[group].made(at) == Ok(json));
        let own = before.map(|(group, _)| self.read[group].shown.clone());
        let (schema, message) = match (self.target(topic, own.as_ref())?, own) {
            (None, Some(own)) => {
                if is_same {
                    return self.kept(topic, place, &own.schema);
                }
                (own.schema, own.message)
            }
            (None, None) => match &self.translated.schemas {
                Schemas::One(schema, message) => (schema.clone(), message.clone()),
                // As Connect writes what has no schema.
                Schemas::Within => (Arc::new(envelope::schema(self.part(), "")), Message::Any),
                Schemas::Registry(_) => {
                    let reason =
                        "stages made one where there was none, and no schema is named to write it with";
                    return Ok(Written::Refused(refuse(self.part(), MISMATCH, reason)));
                }
            },
            (Some((schema, message)), own) => {
                let is_own = own
                    .as_ref()
                    .is_some_and(|own| says_the_same(&own.schema, &schema));
                if is_same && is_own {
                    return self.kept(topic, place, &schema);
                }
                // Of a schema without a message named, that at the place where the record's own was.
                let own = own.map_or(Message::Any, |own| own.message);
                (schema, if message == Message::Any { own } else { message })
            }
        };
        let id = self.number_of(topic, &schema)?;
        let at = group_of(&mut self.write, Shown { schema, id, message });
        Ok(Written::Made(at, self.write[at].push(json)))
    }

    /// A part that stages left alone.
    fn kept(
        &mut self,
        topic: &str,
        place: Option<Place>,
        schema: &Arc<Schema>,
    ) -> Result<Written, StageFault> {
        let number = match &self.translated.schemas {
            Schemas::One(..) | Schemas::Within => None,
            Schemas::Registry(_) => Some(self.number_of(topic, schema)?),
        };
        Ok(place.map_or_else(
            || Written::Refused(no_prefix(self.part())),
            |place| Written::Before(place, number),
        ))
    }

    /// The one schema that parts are written with, where it is not their own.
    fn target(
        &mut self,
        topic: &str,
        own: Option<&Shown>,
    ) -> Result<Option<(Arc<Schema>, Message)>, StageFault> {
        let message = match &self.translated.writes {
            Writes::Own => return Ok(None),
            Writes::Latest(_) => Message::Any,
            Writes::This(_, message) => message.clone(),
        };
        let address = own.map_or(0, |own| Arc::as_ptr(&own.schema) as Address);
        let known = self.targets.get(topic).and_then(|known| known.get(&address));
        if let Some(known) = known {
            return Ok(Some((known.clone(), message)));
        }
        let schema = Arc::new(self.look_up(topic, own)?);
        if self.targets.len() >= TOPICS_MAX {
            self.targets.clear();
        }
        let known = self.targets.entry(topic.to_owned()).or_default();
        known.insert(address, schema.clone());
        Ok(Some((schema, message)))
    }

    fn look_up(&mut self, topic: &str, own: Option<&Shown>) -> Result<Schema, StageFault> {
        let Schemas::Registry(converter) = &self.translated.schemas else {
            return Err(nothing_to_write_with());
        };
        let topic = match &self.end {
            End::Source(_) => topic.to_owned(),
            End::Sink(target) => target(topic),
        };
        let schema = match &self.translated.writes {
            Writes::This(schema, _) => {
                let id = converter.own_number(&topic, schema)?;
                Schema {
                    id,
                    ..Schema::clone(schema)
                }
            }
            Writes::Latest(subject) => {
                converter.latest(&topic, subject.as_deref(), own.map(|own| &*own.schema))?
            }
            Writes::Own => return Err(nothing_to_write_with()),
        };
        if let End::Source(ledger) = &self.end {
            let fingerprint = ledger.put(schema.clone()).map_err(|fault| not_held(&fault))?;
            self.names.insert(schema.id, fingerprint);
        }
        Ok(schema)
    }

    /// The number that stands before parts of this schema.
    fn number_of(&mut self, topic: &str, schema: &Arc<Schema>) -> Result<u32, StageFault> {
        let Schemas::Registry(converter) = &self.translated.schemas else {
            return Ok(schema.id);
        };
        let (End::Sink(target), Writes::Own) = (&self.end, &self.translated.writes) else {
            return Ok(schema.id);
        };
        let address = Arc::as_ptr(schema) as Address;
        if let Some(number) = self.numbers.get(topic).and_then(|known| known.get(&address)) {
            return Ok(*number);
        }
        let number = converter.own_number(&target(topic), schema)?;
        if self.numbers.len() >= TOPICS_MAX {
            self.numbers.clear();
        }
        let known = self.numbers.entry(topic.to_owned()).or_default();
        known.insert(address, number);
        Ok(number)
    }

    /// Encodes what was taken in.
    pub(super) fn encode(&mut self) -> Result<(), StageFault> {
        let part = self.part();
        let mut groups = std::mem::take(&mut self.write);
        for group in &mut groups {
            let schema = group.shown.id;
            self.convert(
                group,
                |codec, schema, payloads| codec.encode(schema, payloads),
                |why, _| {
                    let reason = format!(
                        "what stages made of it does not fit schema {schema}: {}: {}",
                        why.code, why.reason
                    );
                    Rejection {
                        field: why.field,
                        ..refuse(part, MISMATCH, reason)
                    }
                },
            )?;
        }
        self.write = groups;
        Ok(())
    }

    /// The bytes of a part, or why there are none.
    pub(super) fn written<'s>(&'s self, written: &'s Written) -> Result<Cow<'s, [u8]>, &'s Rejection> {
        match written {
            Written::Refused(why) => Err(why),
            Written::Made(group, at) => self.write[*group].made(*at).map(Cow::Borrowed),
            Written::Before(Place::Refused(at), _) => Err(&self.refused[*at]),
            Written::Before(Place::In(group, at), number) => {
                let bytes = self.read[*group].payload(*at);
                Ok(match number {
                    Some(number) if prefix(bytes) != Some(*number) => Cow::Owned(renumbered(bytes, *number)),
                    _ => Cow::Borrowed(bytes),
                })
            }
        }
    }

    // ----- the codec -----------------------------------------------------------------------------------------------

    /// One call for all payloads of a group.
    fn convert(
        &mut self,
        group: &mut Group,
        call: impl FnOnce(&mut dyn SchemaCodec, Prepared, Payloads<'_>) -> Result<Converted, StageFault>,
        told: impl Fn(Rejection, &[u8]) -> Rejection,
    ) -> Result<(), StageFault> {
        let schema = match self.prepare(&group.shown)? {
            Ok(schema) => schema,
            Err(why) => {
                let all = (0..group.ends.len()).map(|at| (at, told(why.clone(), group.payload(at))));
                group.rejected = all.collect();
                return Ok(());
            }
        };
        let payloads = Payloads {
            ends: &group.ends,
            bytes: &group.bytes,
        };
        let mut made = call(&mut *self.codec, schema, payloads)?;
        let rejections = std::mem::take(&mut made.rejections).into_iter();
        group.rejected = rejections
            .map(|(at, why)| (at as usize, told(why, group.payload(at as usize))))
            .collect();
        group.made = made;
        Ok(())
    }

    fn prepare(&mut self, shown: &Shown) -> Result<Known<Prepared>, StageFault> {
        if let Some((_, prepared)) = self.prepared.iter().find(|(known, _)| known.is(shown)) {
            return Ok(Ok(*prepared));
        }
        if self.prepared.len() >= PREPARED_MAX {
            self.prepared.clear();
            self.codec = (self.translated.codec)()?;
        }
        let prepared = self.codec.prepare(shown)?;
        if let Ok(prepared) = prepared {
            self.prepared.push((shown.clone(), prepared));
        }
        Ok(prepared)
    }
}

/// A schema that settings name must be one: else every record would be refused.
fn check_given(translated: &Translated, codec: &mut dyn SchemaCodec) -> Result<(), StageFault> {
    let ((Schemas::One(schema, message), _) | (_, Writes::This(schema, message))) =
        (&translated.schemas, &translated.writes)
    else {
        return Ok(());
    };
    let shown = Shown {
        schema: schema.clone(),
        id: schema.id,
        message: message.clone(),
    };
    codec.prepare(&shown)?.map(drop).map_err(|why| {
        let named = schema.root().map_or("", |root| root.subject.as_str());
        match named {
            "" => StageFault::Stop {
                code: "CULVERT-R009",
                reason: format!(
                    "no schema is named, and the codec does not go without: {}",
                    why.reason
                ),
            },
            named => StageFault::Stop {
                code: "CULVERT-R008",
                reason: format!("{named}: {}", why.reason),
            },
        }
    })
}

/// What stages made of a part does not fit the schema that it is to be written with.
const MISMATCH: &str = "schema-mismatch";

impl Shown {
    fn is(&self, other: &Shown) -> bool {
        let same = Arc::ptr_eq(&self.schema, &other.schema) || self.schema == other.schema;
        self.id == other.id && self.message == other.message && same
    }
}

impl Group {
    fn push(&mut self, payload: &[u8]) -> usize {
        self.bytes.extend_from_slice(payload);
        // A batch is below `limits::FRAME_BYTES_MAX`.
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.ends.len() - 1
    }

    fn payload(&self, at: usize) -> &[u8] {
        entry(&self.ends, &self.bytes, at)
    }

    fn made(&self, at: usize) -> Result<&[u8], &Rejection> {
        match self.rejected.get(&at) {
            Some(why) => Err(why),
            None => Ok(entry(&self.made.ends, &self.made.bytes, at)),
        }
    }
}

fn entry<'a>(ends: &[u32], bytes: &'a [u8], at: usize) -> &'a [u8] {
    let start = at
        .checked_sub(1)
        .and_then(|before| ends.get(before))
        .map_or(0, |end| *end as usize);
    let end = ends.get(at).map_or(start, |end| *end as usize);
    bytes.get(start..end).unwrap_or_default()
}

fn group_of(groups: &mut Vec<Group>, shown: Shown) -> usize {
    groups
        .iter()
        .rposition(|group| group.shown.is(&shown))
        .unwrap_or_else(|| {
            groups.push(Group {
                shown,
                ends: Vec::new(),
                bytes: Vec::new(),
                made: Converted::default(),
                rejected: BTreeMap::new(),
            });
            groups.len() - 1
        })
}

/// The place of a message, as a frame has it behind the number: how many indexes, and each, as zigzag varints. What is none
/// of them is refused by the codec.
fn message_of(mut bytes: &[u8]) -> Message {
    let mut next = || {
        let mut number = 0u64;
        for shift in (0..35).step_by(7) {
            let (first, rest) = bytes.split_first()?;
            bytes = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return (number & 1 == 0).then_some(number >> 1);
            }
        }
        None
    };
    let mut path = || -> Option<Vec<u32>> {
        let count = next().filter(|count| *count <= INDEXES_MAX)?;
        (0..count).map(|_| u32::try_from(next()?).ok()).collect()
    };
    match path() {
        None => Message::Any,
        Some(path) if path.is_empty() => Message::At(vec![0]),
        Some(path) => Message::At(path),
    }
}

/// A schema that stands beside a payload.
fn within(part: Part, text: &str) -> Known<Arc<Schema>> {
    match text.len() {
        0..=SCHEMA_BYTES_MAX => Ok(Arc::new(envelope::schema(part, text))),
        size => {
            let reason = format!("its schema has {size} bytes, and {SCHEMA_BYTES_MAX} are the most");
            Err(refuse(part, "schema-invalid", reason))
        }
    }
}

/// Whether two schemas are the same text with the same references, whatever their numbers.
fn says_the_same(one: &Schema, other: &Schema) -> bool {
    let text = |schema: &Schema| schema.root().map(|root| root.text.clone());
    one.kind == other.kind && text(one) == text(other) && one.references().eq(other.references())
}

fn no_prefix(part: Part) -> Rejection {
    refuse(
        part,
        "bad-framing",
        "it does not begin with a 0 and the number of a schema",
    )
}

fn nothing_to_write_with() -> StageFault {
    StageFault::Stop {
        code: "CULVERT-R007",
        reason: "no schema is named to write with".to_owned(),
    }
}

fn not_held(fault: &NotHeld) -> StageFault {
    match fault {
        NotHeld::TooMany => StageFault::Stop {
            code: "CULVERT-R006",
            reason: fault.to_string(),
        },
        NotHeld::Malformed(_) => StageFault::Stop {
            code: "CULVERT-R004",
            reason: fault.to_string(),
        },
        NotHeld::Outbox(_) => StageFault::Retry {
            reason: format!("the schema to write with is not stored yet: {fault}"),
            after: None,
        },
    }
}
