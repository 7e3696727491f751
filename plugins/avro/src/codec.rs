//! The plugin.

use crate::container::{self, Compression, Container, Writer};
use crate::encode::{from_json, from_tree, list_from_json, list_from_tree};
use crate::form::{BytesFormat, DecimalFormat, Form, TimeFormat, UnknownFields};
use crate::framing::Framing;
use crate::json_out::JsonOut;
use crate::plan::Plan;
use crate::schema::Schema;
use crate::walk::{Emit, Walk};
use culvert_plugin::codec::{Codec, Schema as Named, Tree};
use culvert_plugin::{About, Config, Failure, Fault, Language, Promises, Rejection};
use plain::tree::TreeOut;
use plain::trouble::{Outcome, Trouble, code};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The settings.
#[derive(Config)]
pub struct Settings {
    /// What stands before the bytes of a value.
    #[config(default = "none", importance = "high", example = "confluent")]
    framing: Framing,

    /// How the blocks of a container file are compressed. Both are read.
    #[config(default = "deflate", importance = "low")]
    container_compression: Compression,

    /// How a decimal is written as JSON. Both are read.
    #[config(default = "string")]
    decimal_format: DecimalFormat,

    /// How bytes and fixed stand in JSON.
    #[config(default = "base64")]
    bytes_format: BytesFormat,

    /// How dates, times and timestamps are written as JSON. Both are read.
    #[config(default = "number")]
    time_format: TimeFormat,

    /// What happens to values with a field that the schema does not have.
    #[config(default = "reject")]
    unknown_fields: UnknownFields,
}

/// How many pairs of schemas keep their plan: as many as there are schemas ready.
const PLANS_MAX: usize = 1_000;

/// The codec.
pub struct Avro {
    framing: Framing,
    compression: Compression,
    form: Form,
    /// How many schemas were prepared: the next one's name in the table of plans.
    prepared: u64,
    plans: Plans,
}

/// A schema that was read.
pub struct Prepared {
    schema: Rc<Schema>,
    /// The registry's.
    id: u32,
    /// No other schema has it, and none that is read again.
    serial: u64,
}

impl Prepared {
    /// The schema itself.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

impl Codec for Avro {
    type Config = Settings;
    type Schema = Prepared;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .reads(Language::Avro)
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<Avro, Failure> {
        Ok(Avro {
            framing: settings.framing,
            compression: settings.container_compression,
            form: Form {
                decimal: settings.decimal_format,
                bytes: settings.bytes_format,
                time: settings.time_format,
                unknown: settings.unknown_fields,
            },
            prepared: 0,
            plans: Plans::default(),
        })
    }

    fn prepare(&mut self, schema: &Named) -> Result<Prepared, Rejection> {
        let read = Schema::parse(&schema.text, &schema.references);
        let read = read.map_err(|invalid| Rejection::new(code::SCHEMA_INVALID, invalid.to_string()))?;
        self.prepared += 1;
        Ok(Prepared {
            schema: Rc::new(read),
            id: schema.id,
            serial: self.prepared,
        })
    }

    fn decode(&mut self, writer: &Prepared, reader: &Prepared, bytes: &[u8]) -> Result<Tree, Fault> {
        let mut tree = TreeOut::default();
        self.read(writer, reader, bytes, &mut tree)?;
        if tree.is_full() {
            return Err(Trouble::new(code::TOO_LARGE, "the value is larger than one answer may be").into());
        }
        Ok(tree.finish())
    }

    fn encode(&mut self, writer: &Prepared, tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let schema = &writer.schema;
        if self.framing == Framing::Container {
            let mut out = Writer::new(schema, self.compression, bytes);
            list_from_tree(schema, tree, self.form.unknown, |record| out.record(record))?;
            out.finish();
            return Ok(());
        }
        self.framing.begin(schema, writer.id, bytes)?;
        Ok(from_tree(schema, tree, self.form.unknown, bytes)?)
    }

    fn to_json(
        &mut self,
        writer: &Prepared,
        reader: &Prepared,
        bytes: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let form = self.form;
        Ok(self.read(writer, reader, bytes, &mut JsonOut::new(json, form))?)
    }

    fn from_json(&mut self, writer: &Prepared, json: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let schema = &writer.schema;
        if self.framing == Framing::Container {
            let mut out = Writer::new(schema, self.compression, bytes);
            list_from_json(schema, json, self.form, |record| out.record(record))?;
            out.finish();
            return Ok(());
        }
        self.framing.begin(schema, writer.id, bytes)?;
        Ok(from_json(schema, json, self.form, bytes)?)
    }
}

impl Avro {
    fn read(
        &mut self,
        writer: &Prepared,
        reader: &Prepared,
        bytes: &[u8],
        emit: &mut impl Emit,
    ) -> Outcome<()> {
        if self.framing == Framing::Container {
            return self.read_container(reader, bytes, emit);
        }
        let bytes = self.framing.opened(&writer.schema, writer.id, bytes)?;
        let plan = self.plans.of(writer, reader)?;
        Walk::new(plan, bytes, emit).whole()
    }

    /// The file's own schema is the writer's, whatever was named as such.
    fn read_container(&mut self, reader: &Prepared, bytes: &[u8], emit: &mut impl Emit) -> Outcome<()> {
        let Container { schema, data, ends } = container::read(bytes)?;
        let plan = Plan::new(&Rc::new(schema), &reader.schema).map_err(no_plan)?;
        emit.begin_items();
        let mut start = 0;
        for (index, end) in ends.into_iter().enumerate() {
            emit.next_item(index);
            let read = Walk::new(&plan, &data[start..end], emit).whole();
            read.map_err(|trouble| trouble.below(&index))?;
            if emit.is_full() {
                return Err(Trouble::new(
                    code::TOO_LARGE,
                    "the file holds more than one answer may",
                ));
            }
            start = end;
        }
        emit.end_items();
        Ok(())
    }
}

/// The plans of pairs that were used, and of these the ones that rested longest go first.
#[derive(Default)]
struct Plans {
    known: BTreeMap<(u64, u64), Kept>,
    /// Payloads come in batches of one pair.
    last: Option<((u64, u64), Rc<Plan>)>,
    /// Grows with each change of the pair.
    uses: u64,
}

struct Kept {
    plan: Rc<Plan>,
    used: u64,
}

impl Plans {
    fn of(&mut self, writer: &Prepared, reader: &Prepared) -> Outcome<&Plan> {
        let pair = (writer.serial, reader.serial);
        if self.last.as_ref().is_none_or(|(last, _)| *last != pair) {
            self.last = Some((pair, self.found(pair, writer, reader)?));
        }
        match &self.last {
            Some((_, plan)) => Ok(plan),
            None => Err(no_plan("it was lost".to_owned())),
        }
    }

    fn found(&mut self, pair: (u64, u64), writer: &Prepared, reader: &Prepared) -> Outcome<Rc<Plan>> {
        self.uses += 1;
        if let Some(kept) = self.known.get_mut(&pair) {
            kept.used = self.uses;
            return Ok(Rc::clone(&kept.plan));
        }
        let plan = Rc::new(Plan::new(&writer.schema, &reader.schema).map_err(no_plan)?);
        if self.known.len() >= PLANS_MAX
            && let Some(oldest) = self.known.iter().min_by_key(|(_, kept)| kept.used)
        {
            let oldest = *oldest.0;
            self.known.remove(&oldest);
        }
        let kept = Kept {
            plan: Rc::clone(&plan),
            used: self.uses,
        };
        self.known.insert(pair, kept);
        Ok(plan)
    }
}

#[cold]
fn no_plan(why: String) -> Trouble {
    Trouble::new(code::SCHEMAS_DO_NOT_MATCH, why)
}

culvert_plugin::export_codec!(Avro);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_that_rested_longest_goes_first() {
        let mut plans = Plans::default();
        let text = r#""int""#;
        let prepared = |serial| Prepared {
            schema: Rc::new(Schema::parse(text, &[]).unwrap()),
            id: 0,
            serial,
        };
        let all: Vec<Prepared> = (0..PLANS_MAX as u64 + 1).map(prepared).collect();
        for schema in &all[..PLANS_MAX] {
            plans.of(schema, schema).unwrap();
        }
        plans.of(&all[0], &all[0]).unwrap();
        plans.of(&all[PLANS_MAX], &all[PLANS_MAX]).unwrap();
        assert_eq!(plans.known.len(), PLANS_MAX);
        assert!(plans.known.contains_key(&(0, 0)) && !plans.known.contains_key(&(1, 1)));
    }
}
