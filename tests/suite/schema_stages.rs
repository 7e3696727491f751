//! Stages see JSON of records that were written with schemas: decode, stages, encode, between two registries.

use crate::cluster::{Record, Topic, send};
use crate::line::{CUTS, Line, Plan};
use anyhow::{Context, ensure};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use culvert_tests::figures::figure;
use culvert_tests::{Registry, registry, wait_for};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

const PARTITIONS: i32 = 3;

const COUNT: u64 = 300;

/// Every seventh record is a tombstone.
pub(crate) fn is_tombstone(number: u64) -> bool {
    number % 7 == 3
}

/// With a stage at the source that masks `note`; of tombstones, Connect's transformations want to know beforehand.
pub(crate) fn masks(plan: Plan) -> Plan {
    const TRANSFORMS: &str = "org.apache.kafka.connect.transforms";
    plan.source_key("transforms", "mask")
        .source_key("transforms.mask.type", &format!("{TRANSFORMS}.MaskField$Value"))
        .source_key("transforms.mask.fields", "note")
        .source_key("transforms.mask.replacement", "***")
        .source_key("transforms.mask.predicate", "tombstone")
        .source_key("transforms.mask.negate", "true")
        .source_key("predicates", "tombstone")
        .source_key(
            "predicates.tombstone.type",
            &format!("{TRANSFORMS}.predicates.RecordIsTombstone"),
        )
}

/// The same between converters of this class, each with a registry of its own.
fn masking(name: &str, class: &str, origin: &Registry, sink: &Registry) -> Plan {
    masks(Plan::new(name))
        .source_key("value.converter", class)
        .source_key("value.converter.schema.registry.url", &origin.url())
        .sink_key("value.converter", class)
        .sink_key("value.converter.schema.registry.url", &sink.url())
}

fn write(topic: &Topic, value: impl Fn(u64) -> anyhow::Result<Vec<u8>>) -> anyhow::Result<()> {
    topic.create(PARTITIONS, &[])?;
    let producer = topic.producer(&[])?;
    for number in 0..COUNT {
        let value = if is_tombstone(number) {
            None
        } else {
            Some(value(number)?)
        };
        let record = Record {
            value,
            ..Record::order(number, PARTITIONS)
        };
        send(&producer, &topic.name, &record)?;
    }
    rdkafka::producer::Producer::flush(&producer, DEADLINE)?;
    Ok(())
}

/// Every record is there once, and `check` agrees with its value.
fn judge(line: &Line, check: impl Fn(u64, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let arrived = line.arrived(COUNT, DEADLINE)?;
    let mut seen = BTreeSet::new();
    for record in &arrived {
        let number = record.number().context("a record of the test has a number")?;
        ensure!(seen.insert(number), "{number} is there twice");
        match &record.value {
            None => ensure!(is_tombstone(number), "{number} has become a tombstone"),
            Some(value) => {
                ensure!(!is_tombstone(number), "{number} was a tombstone");
                check(number, value).with_context(|| format!("{number}: {}", value.escape_ascii()))?;
            }
        }
    }
    ensure!(seen.len() as u64 == COUNT, "{} of {COUNT} arrived", seen.len());
    Ok(())
}

/// The number in front, and what stands behind it.
fn unframed(bytes: &[u8]) -> anyhow::Result<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<5>().context("no prefix")?;
    let [0, id @ ..] = head else {
        anyhow::bail!("the first byte is {}", head[0]);
    };
    Ok((u32::from_be_bytes(*id), rest))
}

fn framed(id: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), bytes].concat()
}

// ----- Avro --------------------------------------------------------------------------------------------------------

fn order_schema(more: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Order","namespace":"shop","fields":[{{"name":"n","type":"long"}},{{"name":"note","type":["null","string"]}},{{"name":"price","type":{{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}}}}{more}]}}"#
    )
}

const SITE: &str = r#",{"name":"site","type":"string","default":"?"}"#;

fn order(number: u64, note: &str, site: Option<&str>) -> anyhow::Result<Value> {
    let price = apache_avro::Decimal::from(vec![1, u8::try_from(number % 100)?]);
    let mut fields = vec![
        ("n".to_owned(), Value::Long(i64::try_from(number)?)),
        (
            "note".to_owned(),
            Value::Union(1, Box::new(Value::String(note.to_owned()))),
        ),
        ("price".to_owned(), Value::Decimal(price)),
    ];
    fields.extend(site.map(|site| ("site".to_owned(), Value::String(site.to_owned()))));
    Ok(Value::Record(fields))
}

fn avro(schema: &str, value: &Value) -> anyhow::Result<Vec<u8>> {
    let schema = apache_avro::Schema::parse_str(schema)?;
    let mut bytes = Vec::new();
    let writer = GenericDatumWriter::builder(&schema).build()?;
    writer.write_value_ref(&mut bytes, value)?;
    Ok(bytes)
}

fn read_avro(schema: &str, mut bytes: &[u8]) -> anyhow::Result<Value> {
    let schema = apache_avro::Schema::parse_str(schema)?;
    Ok(GenericDatumReader::builder(&schema)
        .build()?
        .read_value(&mut bytes)?)
}

const AVRO: &str = "io.confluent.connect.avro.AvroConverter";

/// A field is masked at the source, and one is added at the sink, whose newest schema has it.
#[test]
fn fields_of_avro_are_changed_and_added_on_the_way() -> anyhow::Result<()> {
    let (origin, sink) = registry::pair()?;
    let plan = masking("stages-avro", AVRO, &origin, &sink)
        .sink_key("culvert.value.schema", "orders-with-site")
        .sink_key("transforms", "site")
        .sink_key(
            "transforms.site.type",
            "org.apache.kafka.connect.transforms.InsertField$Value",
        )
        .sink_key("transforms.site.static.field", "site")
        .sink_key("transforms.site.static.value", "plant");
    let id = origin.register("stages-avro-value", &order_schema(""))?;
    let with_site = sink.register("orders-with-site", &order_schema(SITE))?;
    write(&plan.source(), |number| {
        let value = order(number, &format!("order {number}"), None)?;
        Ok(framed(id, &avro(&order_schema(""), &value)?))
    })?;
    let line = plan.start()?;
    judge(&line, |number, bytes| {
        let (found, bytes) = unframed(bytes)?;
        ensure!(found == with_site, "schema {found} in place of {with_site}");
        let value = read_avro(&order_schema(SITE), bytes)?;
        ensure!(value == order(number, "***", Some("plant"))?, "{value:?}");
        Ok(())
    })?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "schemas: {COUNT} Avro records decoded, changed by stages at both ends and encoded"
    ));
    Ok(())
}

/// What stages made of a record must fit its schema: else it is a dead letter that names the field.
#[test]
fn a_record_that_fits_its_schema_no_longer_is_a_dead_letter() -> anyhow::Result<()> {
    let (origin, sink) = registry::pair()?;
    let plan = masking("stages-unfit", AVRO, &origin, &sink)
        .sink_key("transforms", "site")
        .sink_key(
            "transforms.site.type",
            "org.apache.kafka.connect.transforms.InsertField$Value",
        )
        .sink_key("transforms.site.static.field", "site")
        .sink_key("transforms.site.static.value", "plant")
        .sink_key("errors.tolerance", "all")
        .sink_key("errors.deadletterqueue.topic.name", "stages-unfit-dead");
    let id = origin.register("stages-unfit-value", &order_schema(""))?;
    write(&plan.source(), |number| {
        Ok(framed(id, &avro(&order_schema(""), &order(number, "x", None)?)?))
    })?;
    let tombstones = (0..COUNT).filter(|number| is_tombstone(*number)).count();
    let letters = Topic::new(&plan.target_cluster, "stages-unfit-dead");
    let line = plan.start()?;
    let arrived = line.arrived(tombstones as u64, DEADLINE)?;
    ensure!(
        arrived.iter().all(|record| record.value.is_none()),
        "only tombstones pass"
    );
    let letters = wait_for(DEADLINE, "all dead letters", || {
        let letters = letters.read().ok()?;
        (letters.len() + tombstones == COUNT as usize).then_some(letters)
    })
    .with_context(|| line.statuses())?;
    for letter in letters {
        let header = |name: &str| {
            let found = letter.headers.iter().find(|(known, _)| known == name);
            found.and_then(|(_, value)| value.clone()).unwrap_or_default()
        };
        ensure!(header("culvert.code") == b"schema-mismatch", "{letter:?}");
        ensure!(header("culvert.field") == b"/site", "{letter:?}");
    }
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}

// ----- Protobuf ----------------------------------------------------------------------------------------------------

const ITEM: &str = "syntax = \"proto3\";\npackage shop;\nmessage Item { string name = 1; }\n";

const PROTO: &str = "syntax = \"proto3\";\npackage shop;\nimport \"item.proto\";\n\
    message Other { int32 x = 1; }\nmessage Order { int64 n = 1; string note = 2; repeated Item items = 3; }\n";

/// Written by the rules of the wire format, field by field: a tag, a length where there is one, and the bytes.
fn proto_order(number: u64, note: &str) -> Vec<u8> {
    let text = |field: u8, bytes: &[u8]| [&[field << 3 | 2, bytes.len() as u8], bytes].concat();
    let mut bytes = Vec::new();
    if number > 0 {
        bytes.push(1 << 3);
        let mut rest = number;
        while rest >= 0x80 {
            bytes.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text(2, note.as_bytes()));
    for name in ["a", "b"] {
        bytes.extend(text(3, &text(1, name.as_bytes())));
    }
    bytes
}

/// The second message of its file: one index, 1, both as zigzag numbers.
const INDEXES: [u8; 2] = [2, 2];

#[test]
fn messages_of_protobuf_with_references_pass_stages() -> anyhow::Result<()> {
    let (origin, sink) = registry::pair()?;
    let class = "io.confluent.connect.protobuf.ProtobufConverter";
    let plan = masking("stages-proto", class, &origin, &sink);
    let item = json!({"schemaType": "PROTOBUF", "schema": ITEM});
    origin.register_as("item", &item)?;
    let order = json!({"schemaType": "PROTOBUF", "schema": PROTO,
        "references": [{"name": "item.proto", "subject": "item", "version": 1}]});
    let id = origin.register_as("stages-proto-value", &order)?;
    write(&plan.source(), |number| {
        let message = proto_order(number, &format!("order {number}"));
        Ok(framed(id, &[&INDEXES, &message[..]].concat()))
    })?;
    let line = plan.start()?;
    judge(&line, |number, bytes| {
        let (found, bytes) = unframed(bytes)?;
        let text = sink.schema(found)?;
        ensure!(text.contains("message Order"), "schema {found} is {text}");
        ensure!(
            bytes == [&INDEXES, &proto_order(number, "***")[..]].concat(),
            "another message"
        );
        Ok(())
    })?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "schemas: {COUNT} Protobuf messages with a reference decoded, masked and encoded"
    ));
    Ok(())
}

// ----- JSON Schema -------------------------------------------------------------------------------------------------

#[test]
fn values_of_json_schema_with_references_pass_stages() -> anyhow::Result<()> {
    let (origin, sink) = registry::pair()?;
    let class = "io.confluent.connect.json.JsonSchemaConverter";
    let plan = masking("stages-json", class, &origin, &sink);
    let item = json!({"schemaType": "JSON", "schema": r#"{"type":"object","properties":{"name":{"type":"string"}}}"#});
    origin.register_as("item.json", &item)?;
    let text = r#"{"type":"object","required":["n"],"additionalProperties":false,"properties":{"n":{"type":"integer"},"note":{"type":"string","maxLength":20},"item":{"$ref":"item.json"}}}"#;
    let order = json!({"schemaType": "JSON", "schema": text,
        "references": [{"name": "item.json", "subject": "item.json", "version": 1}]});
    let id = origin.register_as("stages-json-value", &order)?;
    let value = |number: u64, note: &str| json!({"n": number, "note": note, "item": {"name": "a"}});
    write(&plan.source(), |number| {
        Ok(framed(
            id,
            value(number, &format!("order {number}")).to_string().as_bytes(),
        ))
    })?;
    let line = plan.start()?;
    judge(&line, |number, bytes| {
        let (found, bytes) = unframed(bytes)?;
        ensure!(sink.schema(found)?.contains("maxLength"), "schema {found}");
        let found: serde_json::Value = serde_json::from_slice(bytes)?;
        ensure!(found == value(number, "***"), "{found}");
        Ok(())
    })?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "schemas: {COUNT} values of JSON Schema with a reference decoded, masked and encoded"
    ));
    Ok(())
}

// ----- without a registry ------------------------------------------------------------------------------------------

/// Records without numbers, of the schema in a file: those that do not fit it are refused.
#[test]
fn records_of_a_schema_in_a_file_need_no_registry() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("order.avsc");
    std::fs::write(&file, order_schema(""))?;
    let file = file.to_str().context("a plain path")?;
    let plan = masks(Plan::new("stages-file"))
        .source_key("value.converter", AVRO)
        .source_key("culvert.value.schema.file", file)
        .sink_key("value.converter", AVRO)
        .sink_key("culvert.value.schema.file", file);
    write(&plan.source(), |number| {
        avro(&order_schema(""), &order(number, "x", None)?)
    })?;
    let line = plan.start()?;
    judge(&line, |number, bytes| {
        let value = read_avro(&order_schema(""), bytes)?;
        ensure!(value == order(number, "***", None)?, "{value:?}");
        Ok(())
    })?;
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}
