//! Schemas cross the border with their records: each end has a registry of its own, and numbers of its own.

use crate::cluster::{Record, Topic, send};
use crate::line::{CUTS, Line, Plan, status};
use anyhow::{Context, ensure};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use culvert_tests::figures::figure;
use culvert_tests::{Registry, registry, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

const PARTITIONS: i32 = 3;

const KEY: &str =
    r#"{"type":"record","name":"OrderKey","namespace":"shop","fields":[{"name":"n","type":"long"}]}"#;

/// The versions of an order: a field more each time.
fn order_schema(version: usize) -> String {
    let more = [
        r#",{"name":"channel","type":"string","default":"web"}"#,
        r#",{"name":"tip","type":"long","default":0}"#,
    ];
    format!(
        r#"{{"type":"record","name":"Order","namespace":"shop","fields":[{{"name":"n","type":"long"}},{{"name":"note","type":"string"}}{}]}}"#,
        more[..version - 1].concat()
    )
}

/// The value of an order as its schema's version has it.
fn order_value(number: u64, version: usize) -> Value {
    let long = |number: u64| Value::Long(i64::try_from(number).expect("a small number"));
    let fields = [
        ("n", long(number)),
        ("note", Value::String(format!("order {number}"))),
        ("channel", Value::String("app".into())),
        ("tip", long(number % 7)),
    ];
    let named = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    Value::Record(named.take(version + 1).collect())
}

/// In Confluent's framing.
#[allow(clippy::needless_pass_by_value, reason = "made where it is given")]
fn framed(id: u32, schema: &str, value: Value) -> anyhow::Result<Vec<u8>> {
    let schema = apache_avro::Schema::parse_str(schema)?;
    let mut bytes = [&[0][..], &id.to_be_bytes()].concat();
    GenericDatumWriter::builder(&schema)
        .build()?
        .write_value_ref(&mut bytes, &value)?;
    Ok(bytes)
}

/// Reads with the schema that a registry has under the number in front.
fn decoded(registry: &Registry, bytes: &[u8], schemas: &mut BTreeMap<u32, String>) -> anyhow::Result<Value> {
    let (head, mut rest) = bytes.split_first_chunk::<5>().context("no prefix")?;
    let [0, id @ ..] = head else {
        anyhow::bail!("the first byte is {}", head[0]);
    };
    let id = u32::from_be_bytes(*id);
    if let std::collections::btree_map::Entry::Vacant(vacant) = schemas.entry(id) {
        vacant.insert(registry.schema(id)?);
    }
    let schema = apache_avro::Schema::parse_str(&schemas[&id])?;
    Ok(GenericDatumReader::builder(&schema)
        .build()?
        .read_value(&mut rest)?)
}

/// The numbers of the origin's schemas: of keys, and of the versions of orders.
struct Numbers {
    key: u32,
    orders: Vec<(usize, u32)>,
}

fn write(topic: &Topic, numbers: std::ops::Range<u64>, known: &Numbers) -> anyhow::Result<()> {
    let producer = topic.producer(&[])?;
    for number in numbers {
        // All versions that there are, mixed.
        let (version, id) = known.orders[usize::try_from(number)? % known.orders.len()];
        let key = Value::Record(vec![("n".to_owned(), Value::Long(i64::try_from(number)?))]);
        let record = Record {
            key: Some(framed(known.key, KEY, key)?),
            value: Some(framed(id, &order_schema(version), order_value(number, version))?),
            ..Record::order(number, PARTITIONS)
        };
        send(&producer, &topic.name, &record)?;
    }
    rdkafka::producer::Producer::flush(&producer, DEADLINE)?;
    Ok(())
}

fn avro(plan: Plan, origin: &Registry, sink: &Registry) -> Plan {
    let mut plan = plan;
    for part in ["key", "value"] {
        let (class, url) = (
            format!("{part}.converter"),
            format!("{part}.converter.schema.registry.url"),
        );
        plan = plan
            .source_key(&class, "io.confluent.connect.avro.AvroConverter")
            .source_key(&url, &origin.url())
            .sink_key(&class, "io.confluent.connect.avro.AvroConverter")
            .sink_key(&url, &sink.url());
    }
    plan
}

/// Every record arrived once, in order, and means at the sink what it meant at the origin.
fn check(line: &Line, sink: &Registry, count: u64, versions: &dyn Fn(u64) -> usize) -> anyhow::Result<()> {
    let arrived = line.arrived(count, DEADLINE)?;
    ensure!(
        arrived.len() as u64 == count,
        "{} of {count} arrived",
        arrived.len()
    );
    let (mut seen, mut last, mut schemas) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for record in &arrived {
        let number = record.number().context("a record of the test has a number")?;
        ensure!(seen.insert(number), "{number} is there twice");
        let before = last.insert(record.partition, number);
        ensure!(
            before.is_none_or(|before| before < number),
            "{number} is out of order"
        );
        let value = decoded(sink, record.value.as_deref().unwrap_or_default(), &mut schemas)?;
        ensure!(
            value == order_value(number, versions(number)),
            "{number}: {value:?}"
        );
        let key = decoded(sink, record.key.as_deref().unwrap_or_default(), &mut schemas)?;
        let expected = Value::Record(vec![("n".to_owned(), Value::Long(i64::try_from(number)?))]);
        ensure!(key == expected, "{number}: {key:?}");
    }
    Ok(())
}

/// Two registries that number their schemas differently; the sink's is stopped for a while, and a third version appears
/// meanwhile. Gateways are killed too.
#[test]
fn schemas_cross_three_networks_between_two_registries() -> anyhow::Result<()> {
    let (origin, sink) = registry::pair()?;
    let plan = avro(Plan::new("avro-orders"), &origin, &sink);
    let source = plan.source();
    source.create(PARTITIONS, &[])?;
    let register = |version| {
        let id = origin.register("avro-orders-value", &order_schema(version))?;
        anyhow::Ok((version, id))
    };
    let mut known = Numbers {
        key: origin.register("avro-orders-key", KEY)?,
        orders: vec![register(1)?],
    };
    write(&source, 0..300, &known)?;
    let line = plan.start()?;
    check(&line, &sink, 300, &|_| 1)?;

    sink.stop()?;
    // What was seen passes while the registry is away, also in a gateway that begins anew.
    line.last.kill9()?;
    line.last.launch()?;
    write(&source, 300..400, &known)?;
    line.arrived(400, DEADLINE)?;
    known.orders.push(register(2)?);
    write(&source, 400..700, &known)?;
    wait_for(DEADLINE, "the sink to say what it waits for", || {
        let status = status(&line.last).ok()?.to_string();
        status.contains("CULVERT-R001").then_some(())
    })
    .with_context(|| line.statuses())?;
    line.first.kill9()?;
    line.first.launch()?;
    line.relay.kill9()?;
    line.relay.launch()?;
    known.orders.push(register(3)?);
    write(&source, 700..1_000, &known)?;
    sink.launch()?;
    let versions = |number: u64| match number {
        0..400 => 1,
        400..700 => [1, 2][(number % 2) as usize],
        _ => [1, 2, 3][(number % 3) as usize],
    };
    check(&line, &sink, 1_000, &versions)?;
    line.proven(DEADLINE)?;
    let subjects = sink.subjects()?;
    ensure!(
        subjects.contains(&"avro-orders-value".to_owned())
            && subjects.contains(&"avro-orders-key".to_owned()),
        "{subjects:?}"
    );
    line.assert_no_unlisted_alarms(&[CUTS, &["stage cannot now, trying again"]].concat());
    figure(
        "schemas: 1,000 records of 3 versions between 2 registries, one of them away for a while, 3 kills: each once",
    );
    Ok(())
}

#[test]
fn each_strategy_names_schemas_at_the_sink() -> anyhow::Result<()> {
    let (origin, sink) = registry::pair()?;
    for (strategy, expected) in [
        ("TopicNameStrategy", "avro-0-value"),
        ("RecordNameStrategy", "shop.Order"),
        ("TopicRecordNameStrategy", "avro-2-shop.Order"),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (strategy, expected))| ((at, strategy), expected))
    {
        let (at, strategy) = strategy;
        let plan = avro(Plan::new(&format!("avro-{at}")), &origin, &sink)
            .sink_key("value.converter.value.subject.name.strategy", strategy);
        let source = plan.source();
        source.create(PARTITIONS, &[])?;
        let known = Numbers {
            key: origin.register(&format!("avro-{at}-key"), KEY)?,
            orders: vec![(1, origin.register(&format!("avro-{at}-value"), &order_schema(1))?)],
        };
        write(&source, 0..60, &known)?;
        let line = plan.start()?;
        check(&line, &sink, 60, &|_| 1)?;
        let subjects = sink.subjects()?;
        ensure!(
            subjects.contains(&expected.to_owned()),
            "{strategy}: {subjects:?}"
        );
        line.assert_no_unlisted_alarms(CUTS);
    }
    Ok(())
}

/// The sink's registry is asked before anything is registered, and its own words are told.
#[test]
fn a_schema_that_is_not_compatible_stops_its_stream_with_the_registrys_reasons() -> anyhow::Result<()> {
    let (origin, sink) = registry::pair()?;
    let name = "avro-unfit";
    let plan = avro(Plan::new(name), &origin, &sink);
    let subject = format!("{name}-value");
    // A field that readers of the new schema would look for in vain.
    let other = order_schema(1).replace("\"n\",\"type\":\"long\"", "\"total\",\"type\":\"double\"");
    sink.register(&subject, &other)?;
    sink.set_compatibility(&subject, "BACKWARD")?;
    let source = plan.source();
    source.create(PARTITIONS, &[])?;
    let known = Numbers {
        key: origin.register(&format!("{name}-key"), KEY)?,
        orders: vec![(1, origin.register(&subject, &order_schema(1))?)],
    };
    write(&source, 0..30, &known)?;
    let line = plan.start()?;
    let said = wait_for(DEADLINE, "the sink to say why it stands", || {
        let said = status(&line.last).ok()?.to_string();
        said.contains("CULVERT-R003").then_some(said)
    })
    .with_context(|| line.statuses())?;
    ensure!(said.contains("subject avro-unfit-value"), "{said}");
    ensure!(said.contains("Incompatible"), "{said}");
    Ok(())
}
