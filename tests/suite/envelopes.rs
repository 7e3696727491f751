//! Records as Kafka Connect's `JsonConverter` writes them by default: an object of schema and payload.

use crate::cluster::{Record, Topic, send};
use crate::line::{CUTS, Plan};
use anyhow::{Context, ensure};
use culvert_tests::figures::figure;
use culvert_tests::wait_for;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

const PARTITIONS: i32 = 3;

const COUNT: u64 = 300;

const CONVERTER: &str = "org.apache.kafka.connect.json.JsonConverter";

fn schema(more: &[Value]) -> Value {
    let fields = [
        json!({"type": "int32", "optional": false, "field": "n"}),
        json!({"type": "string", "optional": true, "field": "note"}),
    ];
    let fields: Vec<&Value> = fields.iter().chain(more).collect();
    json!({"type": "struct", "fields": fields, "optional": false, "name": "shop.Order"})
}

fn value(number: u64) -> Vec<u8> {
    let payload = json!({"n": number, "note": format!("order {number}")});
    match number % 50 {
        7 => payload.to_string(),
        8 => json!({"schema": schema(&[]), "payload": {"n": "eight", "note": null}}).to_string(),
        _ => json!({"schema": schema(&[]), "payload": payload}).to_string(),
    }
    .into_bytes()
}

/// What the dead letter of a record says; none of one that goes on.
fn refused(number: u64) -> Option<&'static str> {
    match number % 50 {
        7 => Some("not-an-envelope"),
        8 => Some("wrong-type"),
        _ => None,
    }
}

/// A stage that sees the payload, and one that keeps the schema true itself.
#[test]
fn envelopes_pass_stages_and_keep_a_schema_that_is_true() -> anyhow::Result<()> {
    const TRANSFORMS: &str = "org.apache.kafka.connect.transforms";
    let name = "envelopes";
    let plan = Plan::new(name)
        .source_key("value.converter", CONVERTER)
        .source_key("errors.tolerance", "all")
        .source_key("errors.deadletterqueue.topic.name", "envelopes-dead")
        .source_key("transforms", "mask,site")
        .source_key("transforms.mask.type", &format!("{TRANSFORMS}.MaskField$Value"))
        .source_key("transforms.mask.fields", "note")
        .source_key("transforms.mask.replacement", "***")
        .source_key("transforms.site.type", &format!("{TRANSFORMS}.InsertField$Value"))
        .source_key("transforms.site.static.field", "site")
        .source_key("transforms.site.static.value", "plant")
        .sink_key("value.converter", CONVERTER)
        .sink_key("value.converter.schemas.enable", "true");
    let source = plan.source();
    source.create(PARTITIONS, &[])?;
    let producer = source.producer(&[])?;
    for number in 0..COUNT {
        let record = Record {
            value: Some(value(number)),
            ..Record::order(number, PARTITIONS)
        };
        send(&producer, &source.name, &record)?;
    }
    rdkafka::producer::Producer::flush(&producer, DEADLINE)?;
    let letters = Topic::new(&plan.source_cluster, "envelopes-dead");
    let line = plan.start()?;
    let bad: Vec<u64> = (0..COUNT).filter(|number| refused(*number).is_some()).collect();
    let arrived = line.arrived(COUNT - bad.len() as u64, DEADLINE)?;
    // What Connect's InsertField adds to a schema.
    let site = json!({"type": "string", "optional": true, "field": "site"});
    let mut seen = BTreeSet::new();
    for record in &arrived {
        let number = record.number().context("a record of the test has a number")?;
        ensure!(
            seen.insert(number) && refused(number).is_none(),
            "{number} arrived"
        );
        let found: Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        let expected = json!({"n": number, "note": "***", "site": "plant"});
        ensure!(found["payload"] == expected, "{number}: {found}");
        ensure!(
            found["schema"] == schema(std::slice::from_ref(&site)),
            "{number}: {found}"
        );
    }
    let letters = wait_for(DEADLINE, "all dead letters", || {
        letters.read().ok().filter(|letters| letters.len() >= bad.len())
    })
    .with_context(|| line.statuses())?;
    let mut told = BTreeSet::new();
    for letter in &letters {
        let number = letter.number().context("a record of the test has a number")?;
        let code = letter.headers.iter().find(|(name, _)| name == "culvert.code");
        let code = code.and_then(|(_, value)| value.clone()).unwrap_or_default();
        ensure!(
            refused(number).map(str::as_bytes) == Some(&code[..]),
            "{letter:?}"
        );
        ensure!(
            letter.value == Some(value(number)),
            "a letter keeps its bytes: {letter:?}"
        );
        told.insert(number);
    }
    ensure!(told.into_iter().eq(bad), "other letters than poison");
    line.assert_no_unlisted_alarms(CUTS);
    figure(&format!(
        "codecs: {COUNT} records of schema and payload through a stage on payloads and one on both"
    ));
    Ok(())
}
