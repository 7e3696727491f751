//! The JSON codec beside Python's jsonschema and Confluent's client: a seeded generator makes schemas of all versions and
//! values, and both sides must come to the same verdict.

#![allow(clippy::print_stdout, reason = "a test says what it compared")]
#![allow(clippy::unwrap_used, reason = "a test")]

use culvert_plugin::codec::{Codec, Schema};
use culvert_plugin::{Fault, Rejection};
use interop::{Python, not_run};
use json::{JsonCodec, Settings};
use serde_json::{Value, json};

/// What is made unless `CULVERT_INTEROP_SEED` and `CULVERT_INTEROP_SCHEMAS` say otherwise.
const SEED: &str = "20260131";
const SCHEMAS: &str = "600";

fn codec(with: &[(&'static str, &'static str)]) -> JsonCodec {
    let settings = culvert_plugin::testing::settings::<Settings>(with.iter().copied()).unwrap();
    JsonCodec::open(settings).unwrap()
}

fn schema(codec: &mut JsonCodec, of: &Value, id: u32) -> <JsonCodec as Codec>::Schema {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let references = of.get("references").and_then(Value::as_array);
    let schema = Schema {
        id,
        subject: String::new(),
        version: 1,
        text: text(&of["schema"]),
        references: references
            .into_iter()
            .flatten()
            .map(|pair| (text(&pair[0]), text(&pair[1])))
            .collect(),
        attributes: Vec::new(),
    };
    codec
        .prepare(&schema)
        .unwrap_or_else(|why| panic!("{}: {}", schema.text, why.reason))
}

fn rejected<T>(answer: Result<T, Fault>) -> Result<T, Rejection> {
    answer.map_err(|fault| match fault {
        Fault::Reject(rejection) => rejection,
        Fault::Failure(failure) => panic!("{}", failure.text()),
    })
}

/// What was compared.
#[derive(Default)]
struct Counts {
    schemas: usize,
    valid: usize,
    invalid: usize,
    frames: usize,
}

#[test]
fn reference_libraries_agree() {
    let python = match Python::ready() {
        Ok(python) => python,
        Err(why) => return not_run("reference_libraries_agree", &why),
    };
    let said = |name, other: &str| std::env::var(name).unwrap_or_else(|_| other.to_owned());
    let seed = said("CULVERT_INTEROP_SEED", SEED);
    let schemas = said("CULVERT_INTEROP_SCHEMAS", SCHEMAS);
    let made = python.run("json_cases.py", &["generate", &seed, &schemas], "");
    let mut counts = Counts::default();
    // The codec's own frames, for the other side to read, and what it must find.
    let (mut asked, mut expected) = (String::new(), Vec::new());
    for line in made.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        match (line.get("case"), line.get("confluent")) {
            (Some(case), _) => check_case(case, &mut counts),
            (None, Some(frame)) => {
                let (ask, expect) = check_frame(frame, &mut counts);
                asked.push_str(&format!("{ask}\n"));
                expected.push(expect);
            }
            (None, None) => panic!("{line}"),
        }
    }
    let read = python.run("json_cases.py", &["read"], &asked);
    let read: Vec<Value> = read
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read, expected);
    println!(
        "seed {seed}: {} schemas, {} values that fit and {} that do not, {} frames",
        counts.schemas, counts.valid, counts.invalid, counts.frames
    );
    // A generator that makes nothing would agree with anybody.
    assert!(
        counts.schemas >= 200 && counts.valid >= 500 && counts.invalid >= 500 && counts.frames >= 30,
        "too little was compared"
    );
}

/// The same verdict, at a place that the reference names too, by text and by a tree.
fn check_case(case: &Value, counts: &mut Counts) {
    let mut codec = codec(&[]);
    let schema = schema(&mut codec, case, 0);
    for value in case["values"].as_array().unwrap() {
        let text = value["value"].as_str().unwrap();
        let mut json = Vec::new();
        let checked = rejected(codec.to_json(&schema, &schema, text.as_bytes(), &mut json));
        let shown = || format!("{}\n{value}\nwe: {checked:?}", case["schema"].as_str().unwrap());
        assert_eq!(checked.is_ok(), value["valid"] == true, "{}", shown());
        let tree = rejected(codec.decode(&schema, &schema, text.as_bytes()));
        match &checked {
            Ok(()) => {
                assert_eq!(json, text.as_bytes());
                let mut again = Vec::new();
                rejected(codec.encode(&schema, &tree.unwrap(), &mut again)).unwrap();
                let [one, other] =
                    [text.as_bytes(), &again].map(|text| serde_json::from_slice::<Value>(text).unwrap());
                assert!(same(&one, &other), "{one}\n{other}");
                counts.valid += 1;
            }
            Err(why) => {
                assert_eq!(why.code, "schema-violation", "{}", shown());
                let place = why.field.as_deref().unwrap_or_default();
                let is_named = |named: &Value| {
                    // Python names the object for a member that must not be there, and the list for an item.
                    let named = named.as_str().unwrap();
                    let is_around = place.rsplit_once('/').is_some_and(|(around, _)| named == around);
                    named == place || is_around
                };
                assert!(
                    value["places"].as_array().unwrap().iter().any(is_named),
                    "{}",
                    shown()
                );
                assert_eq!(tree.unwrap_err().code, why.code);
                counts.invalid += 1;
            }
        }
    }
    counts.schemas += 1;
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len() && one.iter().all(|(key, value)| same(value, &other[key]))
        }
        _ => one == other,
    }
}

fn check_frame(frame: &Value, counts: &mut Counts) -> (Value, Value) {
    let mut codec = codec(&[("framing", "confluent")]);
    let id = u32::try_from(frame["id"].as_u64().unwrap()).unwrap();
    let other = schema(&mut codec, frame, id + 1);
    let schema = schema(&mut codec, frame, id);
    let bytes = plain::base64::read(frame["frame"].as_str().unwrap()).unwrap();
    let mut json = Vec::new();
    rejected(codec.to_json(&schema, &schema, &bytes, &mut json)).unwrap();
    let value: Value = serde_json::from_str(frame["value"].as_str().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), value);
    let wrong = rejected(codec.to_json(&other, &other, &bytes, &mut json)).unwrap_err();
    assert_eq!(wrong.code, "schema-id-mismatch");
    let (mut ours, mut text) = (Vec::new(), Vec::new());
    rejected(codec.from_json(&schema, &json, &mut ours)).unwrap();
    plain::base64::write(&ours, &mut text);
    counts.frames += 1;
    let ask = json!({ "schema": frame["schema"], "id": id, "frame": String::from_utf8(text).unwrap() });
    (ask, value)
}
