//! A codec of one's own in a connector: Kafka in its form, stages on JSON, Kafka in another form.

use crate::cluster::{Record, Topic, send};
use crate::line::{CUTS, Line, Plan};
use crate::schema_stages::{is_tombstone, masks};
use anyhow::{Context, ensure};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use culvert_tests::figures::figure;
use culvert_tests::{Registry, registry, wait_for, workspace};
use std::collections::BTreeMap;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

const PARTITIONS: i32 = 3;

const COUNT: u64 = 300;

/// Every fortieth record has a cell too few.
fn is_poison(number: u64) -> bool {
    number % 40 == 11
}

/// A source whose values are rows of `table-codec` and whose stage masks the cell `note`; what is refused is kept.
fn rows(name: &str) -> Plan {
    let plugins = workspace().join("target/plugins/tests");
    masks(Plan::new(name))
        .setting(1, &format!("plugins.directory = {:?}", plugins.display()))
        .source_key("value.converter", "table-codec")
        .source_key("value.converter.columns", "n,note")
        .source_key("value.converter.separator", "|")
        .source_key("culvert.value.carried", "json")
        .source_key("errors.tolerance", "all")
        .source_key("errors.deadletterqueue.topic.name", &letters(name))
}

fn letters(name: &str) -> String {
    format!("{name}-dead")
}

fn write(topic: &Topic) -> anyhow::Result<()> {
    topic.create(PARTITIONS, &[])?;
    let producer = topic.producer(&[])?;
    for number in 0..COUNT {
        let value = match number {
            number if is_tombstone(number) => None,
            number if is_poison(number) => Some(format!("{number}")),
            number => Some(format!("{number}|note {number}; secret")),
        };
        let record = Record {
            value: value.map(String::into_bytes),
            ..Record::order(number, PARTITIONS)
        };
        send(&producer, &topic.name, &record)?;
    }
    rdkafka::producer::Producer::flush(&producer, DEADLINE)?;
    Ok(())
}

/// All but poison is there, in order, and `check` agrees with each value; poison is in the source's dead letters.
fn judge(line: &Line, check: impl Fn(u64, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let poison: Vec<u64> = (0..COUNT)
        .filter(|number| is_poison(*number) && !is_tombstone(*number))
        .collect();
    let expected: Vec<u64> = (0..COUNT).filter(|number| !poison.contains(number)).collect();
    let arrived = line.arrived(expected.len() as u64, DEADLINE)?;
    let mut by_partition: BTreeMap<i32, Vec<u64>> = BTreeMap::new();
    for record in &arrived {
        let number = record.number().context("a record of the test has a number")?;
        by_partition.entry(record.partition).or_default().push(number);
        match &record.value {
            None => ensure!(is_tombstone(number), "{number} has become a tombstone"),
            Some(value) => {
                check(number, value).with_context(|| format!("{number}: {}", value.escape_ascii()))?;
            }
        }
    }
    ensure!(
        by_partition.values().all(|numbers| numbers.is_sorted()),
        "out of order: {by_partition:?}"
    );
    let mut numbers: Vec<u64> = by_partition.into_values().flatten().collect();
    numbers.sort_unstable();
    ensure!(numbers == expected, "other records than were sent: {numbers:?}");
    let letters = Topic::new(&line.plan.source_cluster, &letters(&line.plan.name));
    let letters = wait_for(DEADLINE, "all dead letters", || {
        letters
            .read()
            .ok()
            .filter(|letters| letters.len() >= poison.len())
    })
    .with_context(|| line.statuses())?;
    let mut refused: Vec<u64> = letters.iter().filter_map(Record::number).collect();
    refused.sort_unstable();
    ensure!(refused == poison, "{refused:?}");
    for letter in &letters {
        let header = |name: &str| {
            let found = letter.headers.iter().find(|(known, _)| known == name);
            found.and_then(|(_, value)| value.clone()).unwrap_or_default()
        };
        ensure!(header("culvert.code") == b"wrong-count", "{letter:?}");
        let own = letter.number().map(|number| number.to_string().into_bytes());
        ensure!(letter.value == own, "a letter keeps its bytes: {letter:?}");
    }
    Ok(())
}

/// What a row is for the stage and behind it.
fn masked(number: u64) -> serde_json::Value {
    serde_json::json!({ "n": number.to_string(), "note": "***" })
}

#[test]
fn rows_of_an_own_codec_become_json_at_the_target() -> anyhow::Result<()> {
    let plan = rows("own-codec-json")
        .sink_key("value.converter", "org.apache.kafka.connect.json.JsonConverter")
        .sink_key("value.converter.schemas.enable", "false");
    write(&plan.source())?;
    let line = plan.start()?;
    judge(&line, |number, bytes| {
        let found: serde_json::Value = serde_json::from_slice(bytes)?;
        ensure!(found == masked(number), "{found}");
        Ok(())
    })?;
    line.assert_no_unlisted_alarms(CUTS);
    Ok(())
}

const SCHEMA: &str = r#"{"type":"record","name":"Row","fields":[{"name":"n","type":"string"},{"name":"note","type":"string"}]}"#;

#[test]
fn rows_of_an_own_codec_become_avro_with_a_registry_at_the_target() -> anyhow::Result<()> {
    let (_, sink) = registry::pair()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("row.avsc");
    std::fs::write(&file, SCHEMA)?;
    let plan = rows("own-codec-avro")
        .sink_key("value.converter", "avro")
        .sink_key("value.converter.schema.registry.url", &sink.url())
        .sink_key(
            "culvert.value.schema.file",
            file.to_str().context("a plain path")?,
        )
        .sink_key("culvert.value.carried", "json");
    write(&plan.source())?;
    let line = plan.start()?;
    judge(&line, |number, bytes| check_avro(&sink, number, bytes))?;
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "codecs: {COUNT} rows of an own codec decoded at the source, masked, and Avro of a registry at the target"
    ));
    Ok(())
}

fn check_avro(sink: &Registry, number: u64, bytes: &[u8]) -> anyhow::Result<()> {
    let (head, mut rest) = bytes.split_first_chunk::<5>().context("no prefix")?;
    let [0, id @ ..] = head else {
        anyhow::bail!("the first byte is {}", head[0]);
    };
    let text = sink.schema(u32::from_be_bytes(*id))?;
    let schema = apache_avro::Schema::parse_str(&text)?;
    let value = GenericDatumReader::builder(&schema)
        .build()?
        .read_value(&mut rest)?;
    let text = |text: &str| Value::String(text.to_owned());
    let row = vec![
        ("n".to_owned(), text(&number.to_string())),
        ("note".to_owned(), text("***")),
    ];
    ensure!(value == Value::Record(row), "{value:?}");
    Ok(())
}
