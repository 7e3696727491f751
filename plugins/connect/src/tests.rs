//! Kafka Connect's own answers (`truth/`), and what only this plugin says.

use super::*;
use crate::record::{Changes, Record};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A record of `truth/records.json`.
#[derive(Deserialize)]
struct Sent {
    #[serde(default = "orders")]
    topic: String,
    key: Option<String>,
    value: Option<String>,
    timestamp: Option<i64>,
    /// Keys and values come with their schemas.
    #[serde(default)]
    schemas: bool,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
}

fn orders() -> String {
    "orders".to_owned()
}

impl Sent {
    fn record(&self) -> Record<'_> {
        let mut record = Record::new(
            &self.topic,
            self.key.as_deref().map(str::as_bytes),
            self.value.as_deref().map(str::as_bytes),
        );
        record.partition = 3;
        record.sequence = 42;
        record.timestamp = self.timestamp;
        for (name, value) in &self.headers {
            let value = value.as_deref().map(|value| Cow::Borrowed(value.as_bytes()));
            record.headers().push((Cow::Borrowed(name), value));
        }
        record
    }
}

/// What came of it, in Kafka Connect and here.
#[derive(Debug, Deserialize)]
struct Answer {
    step: usize,
    record: usize,
    settings: Option<String>,
    refused: Option<String>,
    #[serde(default)]
    dropped: bool,
    topic: Option<String>,
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Option<String>)>,
}

/// Steps whose settings are refused here when they are opened, and in Kafka Connect at the first record.
const REFUSED_EARLIER: [&str; 2] = ["bad", "$3"];

#[test]
fn every_answer_is_that_of_kafka_connect() {
    let steps: Vec<BTreeMap<String, String>> = read(include_str!("../truth/steps.json"));
    let records: Vec<Sent> = read(include_str!("../truth/records.json"));
    let answers = include_str!("../truth/truth.jsonl").lines().map(read::<Answer>);
    let mut count = 0;
    let mut wrong = Vec::new();
    for answer in answers {
        let opened = opened(&steps[answer.step]);
        let ours = opened.as_ref().map_err(|failure| failure.text().to_owned());
        let ours = ours.map(|plugin| plugin.apply(records[answer.record].record()));
        if let Err(difference) = compare(&steps[answer.step], &records[answer.record], &answer, ours) {
            wrong.push(format!(
                "{:?}, record {}: {difference}",
                steps[answer.step], answer.record
            ));
        }
        count += 1;
    }
    assert_eq!(count, steps.len() * records.len());
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn opened(settings: &BTreeMap<String, String>) -> Result<ConnectTransforms, Failure> {
    let mut settings = settings.clone();
    let given = Given {
        name: String::new(),
        class: settings.remove("type").unwrap_or_default(),
        settings,
    };
    ConnectTransforms::of(&[given])
}

fn compare(
    step: &BTreeMap<String, String>,
    sent: &Sent,
    theirs: &Answer,
    ours: Result<Result<Option<Changes<'_>>, Rejection>, String>,
) -> Result<(), String> {
    let ours = match (&theirs.settings, ours) {
        (Some(_), Err(_)) => return Ok(()),
        (None, Err(_))
            if step
                .values()
                .any(|value| REFUSED_EARLIER.contains(&value.as_str())) =>
        {
            return Ok(());
        }
        (theirs, Err(ours)) => return Err(format!("settings: {theirs:?} and {ours:?}")),
        (Some(theirs), Ok(_)) => {
            return Err(format!("these settings are refused by Kafka Connect: {theirs}"));
        }
        (None, Ok(ours)) => ours,
    };
    let changes = match (&theirs.refused, ours) {
        (Some(_), Err(_)) => return Ok(()),
        // What would make a schema untrue is refused.
        (None, Err(ours)) if sent.schemas && ours.code == "schema-envelope" => return Ok(()),
        (None, Err(ours)) => return Err(format!("refused: {ours:?}")),
        (Some(theirs), Ok(ours)) => return Err(format!("{ours:?} in place of: {theirs}")),
        (None, Ok(None)) if theirs.dropped => return Ok(()),
        (None, Ok(None)) => return Err("dropped".to_owned()),
        (None, Ok(Some(changes))) => changes,
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
    let key = changes.key.map_or_else(|| sent.key.clone(), |key| key.map(text));
    let value = changes
        .value
        .map_or_else(|| sent.value.clone(), |value| value.map(text));
    let topic = changes.topic.unwrap_or_else(|| sent.topic.clone());
    let header = |(name, value): (Cow<'_, str>, Option<Cow<'_, [u8]>>)| {
        (name.into_owned(), value.map(|value| text(value.into_owned())))
    };
    let headers = changes.headers.map_or_else(
        || sent.headers.clone(),
        |headers| headers.into_iter().map(header).collect(),
    );
    if Some(&topic) != theirs.topic.as_ref() {
        return Err(format!("topic {topic} in place of {:?}", theirs.topic));
    }
    if !are_same_headers(&headers, &theirs.headers) {
        return Err(format!("headers {headers:?} in place of {:?}", theirs.headers));
    }
    for (ours, theirs) in [(&key, &theirs.key), (&value, &theirs.value)] {
        if !is_same(ours.as_deref(), theirs.as_deref()) {
            return Err(format!("{ours:?} in place of {theirs:?}"));
        }
    }
    Ok(())
}

/// Objects and arrays are written into headers with spaces where their record has some.
fn are_same_headers(one: &[(String, Option<String>)], other: &[(String, Option<String>)]) -> bool {
    let is_open = |text: &Option<String>| text.as_ref().is_some_and(|text| text.starts_with(['{', '[']));
    one.len() == other.len()
        && one.iter().zip(other).all(|((name, one), (other_name, other))| {
            let is_json = is_open(one) && is_open(other);
            name == other_name && (one == other || is_json && is_same(one.as_deref(), other.as_deref()))
        })
}

/// Whether two texts are the same JSON: a null is nothing, fields have no order, and decimals are equal as numbers of 64
/// bits, or of 32 where Java of before 19 has written more digits than it must.
fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    let parsed = |text: Option<&str>| match text.map_or(Value::Null, read::<Value>) {
        // What came without a schema is written with none by a converter that writes schemas.
        Value::Object(mut fields) if fields.len() == 2 && fields.get("schema") == Some(&Value::Null) => {
            fields.remove("payload").unwrap_or(Value::Null)
        }
        value => value,
    };
    equal(&parsed(one), &parsed(other))
}

fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() && other.is_f64() => {
            let (one, other) = (one.as_f64(), other.as_f64());
            one == other || one.map(|number| number as f32) == other.map(|number| number as f32)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, one)| other.get(name).is_some_and(|other| equal(one, other)))
        }
        (one, other) => one == other,
    }
}
