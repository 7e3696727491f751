//! The recipe of a stream of test records, and the generator that follows it.

use super::dice::Dice;
use super::mark;
use super::shapes::{self, Body, Place};
use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use culvert_proto::record::{Headers, RecordRef};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What is generated. Two equal recipes make the same records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// What the records are about.
    pub kind: Kind,
    /// How their values are written.
    pub format: Format,
    /// Other seeds make other records.
    pub seed: u64,
    /// The share of records that are bad on purpose, 0 to 1.
    pub faults: f64,
}

/// What records are about, and with it what their key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Food orders; key: the order. 100 customers, 20 dishes.
    Orders,
    /// Readings of sensors; key: the device, 64 in each partition.
    Sensors,
    /// Visits of pages; key: the user, 500 in each partition.
    Clicks,
    /// Movements of accounts; key: the account, 200 in each partition.
    Transactions,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object, its fields always in the same order.
    Json,
    /// Avro binary behind Confluent framing: a zero byte and the id of the schema, big-endian.
    Avro {
        /// The id the schema is registered under, in the registry that readers will ask.
        schema_id: u32,
    },
}

/// How a record is bad on purpose. A share of the records, decided by the same dice as the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The field that names the customer, device, user or account is not there (Avro: null).
    Missing,
    /// A number that counts something is below zero.
    Negative,
    /// Two fields contradict each other: the total is not the sum, the reading is above its maximum.
    Contradiction,
    /// The value cannot be decoded: JSON without its last brace, Avro with a wrong first byte.
    Unreadable,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 4] = [Kind::Orders, Kind::Sensors, Kind::Clicks, Kind::Transactions];

    /// The kind's name in settings, in stream names and in Avro.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Orders => "orders",
            Kind::Sensors => "sensors",
            Kind::Clicks => "clicks",
            Kind::Transactions => "transactions",
        }
    }

    /// The Avro schema of this kind, to be registered under the id that [`Format::Avro`] names.
    #[must_use]
    pub fn schema(self) -> &'static str {
        shapes::schema_text(self)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("{name:?} is none of orders, sensors, clicks, transactions"))
    }
}

/// Makes records by a [`Recipe`]. Holds the buffers the last record was written into: a record costs no memory
/// beyond what serde takes.
pub struct Generator {
    recipe: Recipe,
    avro: Option<Avro>,
    key: Vec<u8>,
    value: Vec<u8>,
}

struct Avro {
    schema_id: u32,
    writer: GenericDatumWriter<'static>,
}

impl Generator {
    /// A generator for `recipe`.
    ///
    /// # Panics
    /// Never: the schemas it compiles are constants, and a test compiles them all.
    #[must_use]
    pub fn new(recipe: Recipe) -> Generator {
        let avro = match recipe.format {
            Format::Json => None,
            Format::Avro { schema_id } => Some(Avro {
                schema_id,
                writer: writer(shapes::open_schema(recipe.kind)),
            }),
        };
        Generator {
            recipe,
            avro,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// The recipe it follows.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The record at `index` of `partition`. It has no timestamp (-1) and no headers.
    pub fn record(&mut self, partition: u32, index: u64) -> RecordRef<'_> {
        let Recipe { kind, seed, .. } = self.recipe;
        let (mut dice, fault) = self.roll(partition, index);
        let place = Place {
            kind,
            seed,
            partition,
            index,
        };
        let Generator { avro, key, value, .. } = self;
        shapes::with_body(place, fault, &mut dice, |body| {
            key.clear();
            value.clear();
            body.write_key(key);
            match avro {
                None => write_json(key, value, body),
                Some(avro) => avro.write(key, value, body),
            }
        });
        if fault == Some(Fault::Unreadable) {
            self.spoil();
        }
        RecordRef {
            timestamp: -1,
            key: Some(&self.key),
            value: Some(&self.value),
            headers: Headers::NONE,
        }
    }

    /// How the record at `index` of `partition` is bad on purpose, if it is.
    #[must_use]
    pub fn fault(&self, partition: u32, index: u64) -> Option<Fault> {
        self.roll(partition, index).1
    }

    /// The first rolls decide about the fault, so that records of recipes that differ only in their share of
    /// faults are the same where neither is bad.
    fn roll(&self, partition: u32, index: u64) -> (Dice, Option<Fault>) {
        const FAULTS: [Fault; 4] = [
            Fault::Missing,
            Fault::Negative,
            Fault::Contradiction,
            Fault::Unreadable,
        ];
        let mut dice = Dice::new(self.recipe.seed, partition, index);
        let (chance, which) = (dice.below(u32::MAX), dice.pick(&FAULTS));
        let bad = f64::from(chance) < self.recipe.faults * f64::from(u32::MAX);
        (dice, bad.then_some(which))
    }

    fn spoil(&mut self) {
        if self.avro.is_some() {
            self.value[0] = 1;
        } else {
            self.value.pop();
        }
    }
}

fn write_json(key: &[u8], value: &mut Vec<u8>, body: &Body<'_>) {
    let written = body.serialize(&mut serde_json::Serializer::new(&mut *value));
    written.expect("a shape has string keys and finite numbers, and a vector takes every byte");
    mark::seal_json(key, value);
}

impl Avro {
    fn write(&self, key: &[u8], value: &mut Vec<u8>, body: &Body<'_>) {
        value.push(0);
        value.extend_from_slice(&self.schema_id.to_be_bytes());
        let written = body.write_avro(&self.writer, value);
        written.expect("a shape has the fields of its schema, in its order");
        mark::seal_avro(key, value);
    }
}

fn writer(schema: &'static Schema) -> GenericDatumWriter<'static> {
    GenericDatumWriter::builder(schema)
        .build()
        .expect("the schema is a constant without open references")
}
