//! Schemas on their way with the records that were written with them.
//!
//! - At the origin a [`Tagger`] reads the number before each key and value, asks the registry what it means, and names the
//!   schema in the record's frame. The schema lies in the outbox before the first frame that names it.
//! - [`Ledger`] holds the schemas a gateway knows, at the origin, at relays and at the sink. Each is sent once in a session,
//!   before the first frame that names it.
//! - At the sink a [`Renumberer`] gives each schema a number of the sink's own registry and puts it in the place of the
//!   origin's, before the sink's stages and the write.
//!
//! Constraints:
//! - The bytes of a record pass as they are, but for 4 of them at the sink. Only where stages are to see JSON, or something is
//!   to be written with another schema, are they decoded ([`translate`]).
//! - A registry that is away is waited for (C4). A number that its registry does not know is the record's own fault.
//! - A schema is named by the SHA-256 of what it says, so nobody on the way can put another in its place unnoticed.

#[cfg(test)]
mod tests;
pub mod translate;

use super::stage::{Stage, StageFault};
use crate::codec::registry::{Fault, Registry, Subjects};
use crate::outbox::{self, Outbox};
use culvert_proto::StreamId;
use culvert_proto::columns::{Columns, Made, Outcomes, Rejection};
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::schema::{Fingerprint, Kind, Part, Schema, prefix, renumbered};
use parking_lot::RwLock;
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The most schemas a gateway holds. A thousand topics of ten versions each.
const SCHEMAS_MAX: usize = 10_000;

/// Where schemas stand in the outbox.
const SCHEMA_KEYS: &[u8] = b"schema/";

/// How long a frame waits for a schema that it names and that was not sent: it was posted before the frame, on another QUIC
/// stream of the same session.
const SCHEMA_WAIT_MAX: Duration = Duration::from_secs(30);

/// The pause before a registry that is away is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

// ----- what is known -----------------------------------------------------------------------------------------------

/// The schemas this gateway knows, by fingerprint; as durable as the frames that name them.
pub struct Ledger {
    outbox: Outbox,
    known: RwLock<HashMap<Fingerprint, Arc<Schema>>>,
    /// How many are known: told to frames that wait for one.
    count: watch::Sender<usize>,
}

/// Why a schema is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum NotHeld {
    /// There are too many.
    #[error("[CULVERT-R006] {SCHEMAS_MAX} schemas are held here, and one more is not taken")]
    TooMany,
    /// It cannot be spelled.
    #[error("a schema that is none: {0}")]
    Malformed(#[from] culvert_proto::wire::Malformed),
    /// The outbox.
    #[error(transparent)]
    Outbox(#[from] outbox::Error),
}

impl Ledger {
    /// The schemas that the outbox remembers.
    #[must_use]
    pub fn open(outbox: Outbox) -> Ledger {
        let mut known = HashMap::new();
        for (key, value) in outbox.scan(SCHEMA_KEYS) {
            match (Schema::decode(&value), fingerprint_of(&value)) {
                (Ok(schema), fingerprint) if key.ends_with(&fingerprint) => {
                    known.insert(fingerprint, Arc::new(schema));
                }
                _ => tracing::error!("a schema in the outbox is damaged; frames that name it wait for it"),
            }
        }
        let (count, _) = watch::channel(known.len());
        Ledger {
            outbox,
            known: RwLock::new(known),
            count,
        }
    }

    /// Holds a schema from now on, durable before any frame that is appended later.
    ///
    /// # Errors
    /// [`NotHeld`].
    pub fn put(&self, schema: Schema) -> Result<Fingerprint, NotHeld> {
        let bytes = schema.encode()?;
        let fingerprint = fingerprint_of(&bytes);
        let mut known = self.known.write();
        if known.contains_key(&fingerprint) {
            return Ok(fingerprint);
        }
        if known.len() >= SCHEMAS_MAX {
            return Err(NotHeld::TooMany);
        }
        self.outbox.put(&[SCHEMA_KEYS, &fingerprint].concat(), &bytes)?;
        known.insert(fingerprint, Arc::new(schema));
        let count = known.len();
        // Told without the lock: who waits looks in while it holds the channel's.
        drop(known);
        self.count.send_modify(|told| *told = count.max(*told));
        Ok(fingerprint)
    }

    /// The schema of this fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: &Fingerprint) -> Option<Arc<Schema>> {
        self.known.read().get(fingerprint).cloned()
    }

    /// Those of these schemas that are known.
    #[must_use]
    pub fn all(&self, fingerprints: &[Fingerprint]) -> Vec<Named> {
        let named = |name: &Fingerprint| Some((*name, self.get(name)?));
        fingerprints.iter().filter_map(named).collect()
    }

    /// Waits until all of these are known. Answers whether they are.
    pub async fn holds(&self, fingerprints: &[Fingerprint]) -> bool {
        let mut count = self.count.subscribe();
        let all = || {
            let known = self.known.read();
            fingerprints.iter().all(|named| known.contains_key(named))
        };
        let wait = count.wait_for(|_| all());
        tokio::time::timeout(SCHEMA_WAIT_MAX, wait)
            .await
            .is_ok_and(|known| known.is_ok())
    }
}

fn fingerprint_of(spelled: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest(&SHA256, spelled).as_ref());
    fingerprint
}

// ----- what a connector asks for -----------------------------------------------------------------------------------

/// A connector's converter of one part of its records.
#[derive(Clone)]
pub struct Converter {
    /// The part.
    pub part: Part,
    /// The language that its schemas are in.
    pub kind: Kind,
    /// Where their numbers mean something.
    pub registry: Arc<Registry>,
    /// What a schema stands under at a sink's registry.
    pub subjects: Subjects,
    /// A sink registers schemas that are not there yet.
    pub registers: bool,
}

/// What is wrong with one part of a record.
fn refuse(part: Part, code: &str, reason: impl Into<String>) -> Rejection {
    let part = match part {
        Part::Key => "key",
        Part::Value => "value",
    };
    Rejection {
        code: code.into(),
        reason: format!("its {part}: {}", reason.into()),
        field: None,
    }
}

fn part_of<'a>(part: Part, record: &RecordRef<'a>) -> Option<&'a [u8]> {
    match part {
        Part::Key => record.key,
        Part::Value => record.value,
    }
}

/// A part's number. Connect's converters take a part that is not there for null.
fn number(part: Part, record: &RecordRef<'_>) -> Result<Option<u32>, Rejection> {
    match part_of(part, record) {
        None => Ok(None),
        Some(bytes) => match prefix(bytes) {
            Some(id) => Ok(Some(id)),
            None => Err(refuse(
                part,
                "bad-framing",
                "it does not begin with a 0 and the number of a schema",
            )),
        },
    }
}

/// What became of one number: the schema's, or why its records are refused.
type Known<T> = Result<T, Rejection>;

// ----- at the origin -----------------------------------------------------------------------------------------------

/// Finds the schemas of records that are taken in. A stage: what it does not know is refused as a stage's refusal is.
pub struct Tagger {
    converters: Vec<Converter>,
    ledger: Arc<Ledger>,
    known: HashMap<(Part, u32), Known<Fingerprint>>,
}

impl Tagger {
    /// For one task of a source.
    #[must_use]
    pub fn new(converters: Vec<Converter>, ledger: Arc<Ledger>) -> Tagger {
        Tagger {
            converters,
            ledger,
            known: HashMap::new(),
        }
    }

    /// Makes all numbers of a record known.
    fn know(&mut self, record: &RecordRef<'_>) -> Result<Known<()>, StageFault> {
        for converter in &self.converters {
            let part = converter.part;
            let id = match number(part, record) {
                Ok(Some(id)) => id,
                Ok(None) => continue,
                Err(refused) => return Ok(Err(refused)),
            };
            let known = match self.known.get(&(part, id)) {
                Some(known) => known,
                None => {
                    let found = converter.find(id, &self.ledger)?;
                    self.known.entry((part, id)).or_insert(found)
                }
            };
            if let Err(refused) = known {
                let refused = refused.clone();
                // It may be registered by the time another record names it.
                self.known.remove(&(part, id));
                return Ok(Err(refused));
            }
        }
        Ok(Ok(()))
    }
}

impl Converter {
    fn find(&self, id: u32, ledger: &Ledger) -> Result<Known<Fingerprint>, StageFault> {
        let part = self.part;
        let schema = match self.schema(id)? {
            Ok(schema) => schema,
            Err(refused) => return Ok(Err(refused)),
        };
        match ledger.put(schema) {
            Ok(fingerprint) => Ok(Ok(fingerprint)),
            Err(NotHeld::Malformed(error)) => Ok(Err(refuse(part, "schema-invalid", error.to_string()))),
            Err(fault @ NotHeld::TooMany) => Err(StageFault::Stop {
                code: "CULVERT-R006",
                reason: fault.to_string(),
            }),
            Err(NotHeld::Outbox(error)) => Err(StageFault::Retry {
                reason: format!("schema {id} is not stored yet: {error}"),
                after: None,
            }),
        }
    }
}

impl Converter {
    /// The schema of a number of this registry.
    fn schema(&self, id: u32) -> Result<Known<Schema>, StageFault> {
        let part = self.part;
        let schema = match self.registry.schema(part, id) {
            Ok(schema) => schema,
            Err(fault @ Fault::Away(_)) => return Err(away(&fault)),
            Err(Fault::Unknown(why)) => {
                let reason = format!("the registry has {why}");
                return Ok(Err(refuse(part, "schema-unknown", reason)));
            }
            Err(fault) => return Ok(Err(refuse(part, "schema-invalid", fault.to_string()))),
        };
        if schema.kind == self.kind {
            return Ok(Ok(schema));
        }
        let reason = format!(
            "schema {id} is of {:?}, and the converter of {:?}",
            schema.kind, self.kind
        );
        Ok(Err(refuse(part, "schema-invalid", reason)))
    }
}

fn away(fault: &Fault) -> StageFault {
    StageFault::Retry {
        reason: fault.to_string(),
        after: Some(AGAIN_AFTER),
    }
}

impl Stage for Tagger {
    fn name(&self) -> &'static str {
        "converter"
    }

    fn process(&mut self, _: &StreamId, _: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let mut outcomes = Outcomes::default();
        for (_, record) in batch.iter() {
            match self.know(&record)? {
                Ok(()) => outcomes.keep(),
                Err(refused) => outcomes.reject(refused),
            }
        }
        Ok(outcomes)
    }

    fn schemas_of(&self, record: &RecordRef<'_>, into: &mut Vec<Fingerprint>) {
        for converter in &self.converters {
            let id = part_of(converter.part, record).and_then(prefix);
            let known = id.and_then(|id| self.known.get(&(converter.part, id)));
            if let Some(Ok(fingerprint)) = known {
                into.push(*fingerprint);
            }
        }
    }
}

// ----- at the sink -------------------------------------------------------------------------------------------------

/// The name of a target topic, by that of its source.
pub type Target = dyn Fn(&str) -> String + Send + Sync;

/// A schema with its name.
pub type Named = (Fingerprint, Arc<Schema>);

/// Puts the numbers of the sink's registry in the place of the origin's. A stage, before all others.
pub struct Renumberer {
    converters: Vec<Converter>,
    target: Arc<Target>,
    /// The schemas of the batch to come, by the numbers they have at their origin.
    named: BTreeMap<(Part, u32), Named>,
    known: HashMap<(Arc<str>, Fingerprint), u32>,
}

/// The numbers of one batch's schemas: the origin's, and ours.
type Numbers = BTreeMap<(Part, u32), Known<u32>>;

/// Parts of a record with another number before their bytes.
type Renumbered = Vec<(Part, Vec<u8>)>;

impl Renumberer {
    /// For one shard of a sink.
    #[must_use]
    pub fn new(converters: Vec<Converter>, target: Arc<Target>) -> Renumberer {
        Renumberer {
            converters,
            target,
            named: BTreeMap::new(),
            known: HashMap::new(),
        }
    }

    /// The parts of a record that get another number.
    fn renumber(
        &mut self,
        topic: &str,
        record: &RecordRef<'_>,
        numbers: &mut Numbers,
    ) -> Result<Known<Renumbered>, StageFault> {
        let mut changed = Vec::new();
        for at in 0..self.converters.len() {
            let part = self.converters[at].part;
            let id = match number(part, record) {
                Ok(Some(id)) => id,
                Ok(None) => continue,
                Err(refused) => return Ok(Err(refused)),
            };
            let own = match numbers.get(&(part, id)) {
                Some(own) => own.clone(),
                None => {
                    let own = self.own_number(at, topic, id)?;
                    numbers.entry((part, id)).or_insert(own).clone()
                }
            };
            match own {
                Ok(own) => {
                    let bytes = part_of(part, record).filter(|_| own != id);
                    changed.extend(bytes.map(|bytes| (part, renumbered(bytes, own))));
                }
                Err(refused) => return Ok(Err(refused)),
            }
        }
        Ok(Ok(changed))
    }

    fn own_number(&mut self, at: usize, topic: &str, id: u32) -> Result<Known<u32>, StageFault> {
        let converter = &self.converters[at];
        let Some((fingerprint, schema)) = self.named.get(&(converter.part, id)) else {
            return Ok(Err(converter.unnamed(id)));
        };
        let key = (Arc::<str>::from(topic), *fingerprint);
        if let Some(own) = self.known.get(&key) {
            return Ok(Ok(*own));
        }
        let own = converter.own_number(&(self.target)(topic), schema)?;
        if self.known.len() >= SCHEMAS_MAX {
            self.known.clear();
        }
        self.known.insert(key, own);
        Ok(Ok(own))
    }
}

fn stands(code: &'static str, reason: String) -> StageFault {
    StageFault::Stream { code, reason }
}

impl Converter {
    /// What a record is told whose schema did not come with its frame.
    fn unnamed(&self, id: u32) -> Rejection {
        let reason =
            format!("its origin did not say what schema {id} is: name the same converter at the source");
        refuse(self.part, "schema-unknown", reason)
    }

    /// The number that a schema has here, under its subject.
    fn own_number(&self, topic: &str, schema: &Schema) -> Result<u32, StageFault> {
        if schema.kind != self.kind {
            let reason = format!(
                "schema {} is of {:?}, and the sink's converter of {:?}",
                schema.id, schema.kind, self.kind
            );
            return Err(stands("CULVERT-R004", reason));
        }
        let subject = self.subjects.subject(topic, schema);
        let subject = subject.map_err(|reason| stands("CULVERT-R004", reason))?;
        let told = |why: &Fault| {
            let origin = match schema.id {
                0 => "the schema to write with".to_owned(),
                id => format!("schema {id} of the origin"),
            };
            format!("{origin}, subject {subject}: {why}")
        };
        self.registry
            .id(schema, &subject, self.registers)
            .map_err(|fault| match fault {
                Fault::Away(_) => away(&fault),
                Fault::Unknown(_) => stands("CULVERT-R002", told(&fault)),
                Fault::Incompatible(_) => stands("CULVERT-R003", told(&fault)),
                Fault::Invalid(_) => stands("CULVERT-R004", told(&fault)),
            })
    }

    /// The newest schema of a subject: the one that is named, or that of a topic and what was read from it.
    fn latest(&self, topic: &str, subject: Option<&str>, own: Option<&Schema>) -> Result<Schema, StageFault> {
        let subject = match (subject, own) {
            (Some(subject), _) => Ok(subject.to_owned()),
            (None, Some(own)) => self.subjects.subject(topic, own),
            (None, None) => self.subjects.of_topic(topic, self.part),
        };
        let subject = subject.map_err(|reason| stands("CULVERT-R007", reason))?;
        let schema = self
            .registry
            .latest(self.part, &subject)
            .map_err(|fault| match fault {
                Fault::Away(_) => away(&fault),
                fault => stands("CULVERT-R007", format!("subject {subject}: {fault}")),
            })?;
        if schema.kind == self.kind {
            return Ok(schema);
        }
        let reason = format!(
            "subject {subject}: its newest schema is of {:?}, and the converter of {:?}",
            schema.kind, self.kind
        );
        Err(stands("CULVERT-R004", reason))
    }
}

impl Stage for Renumberer {
    fn name(&self) -> &'static str {
        "converter"
    }

    fn named(&mut self, schemas: &[Named]) {
        let by_number = |named: &Named| ((named.1.part, named.1.id), named.clone());
        self.named = schemas.iter().map(by_number).collect();
    }

    fn process(&mut self, _: &StreamId, topic: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let mut outcomes = Outcomes::default();
        let mut numbers = Numbers::new();
        for (_, record) in batch.iter() {
            let changed = match self.renumber(topic, &record, &mut numbers)? {
                Ok(changed) => changed,
                Err(refused) => {
                    outcomes.reject(refused);
                    continue;
                }
            };
            match changed.as_slice() {
                [] => outcomes.keep(),
                [(Part::Value, value)] => outcomes.value(value),
                _ => outcomes.rewrite(vec![remade(&record, changed)]),
            }
        }
        Ok(outcomes)
    }
}

/// The record with other parts.
fn remade(record: &RecordRef<'_>, changed: Vec<(Part, Vec<u8>)>) -> Made {
    let mut headers = HeadersBuf::new();
    for (name, value) in record.headers.iter() {
        headers.push(name, value);
    }
    let mut made = Made {
        topic: None,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers,
        timestamp: record.timestamp,
    };
    for (part, bytes) in changed {
        match part {
            Part::Key => made.key = Some(bytes),
            Part::Value => made.value = Some(bytes),
        }
    }
    made
}
