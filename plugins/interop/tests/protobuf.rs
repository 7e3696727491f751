//! The Protobuf codec beside protoc, Python's protobuf and Confluent's client: a seeded generator makes schemas and
//! messages, and both sides must read and write the same.

#![allow(clippy::print_stdout, reason = "a test says what it compared")]
#![allow(clippy::unwrap_used, reason = "a test")]

use culvert_plugin::codec::{Codec, Schema};
use culvert_plugin::{Fault, Rejection};
use interop::{Python, not_run};
use protobuf::{Protobuf, Settings};
use serde_json::{Value, json};

/// What is made unless `CULVERT_INTEROP_SEED` and `CULVERT_INTEROP_SCHEMAS` say otherwise.
const SEED: &str = "20260131";
const SCHEMAS: &str = "220";

/// A codec with some settings, and a schema of a case.
struct Side {
    codec: Protobuf,
    id: u32,
}

#[allow(clippy::wrong_self_convention, reason = "the contract's words")]
impl Side {
    fn new(with: &[(&'static str, &'static str)]) -> Side {
        let settings = culvert_plugin::testing::settings::<Settings>(with.iter().copied()).unwrap();
        Side {
            codec: Protobuf::open(settings).unwrap(),
            id: 0,
        }
    }

    fn schema(&mut self, of: &Value, form: &str, message: &str) -> <Protobuf as Codec>::Schema {
        let pair = |pair: &Value| {
            let [name, text] = [&pair[0], &pair[1]].map(|text| text.as_str().unwrap().to_owned());
            (name, text)
        };
        let references = match form {
            "schema" => of["references"].as_array().unwrap().iter().map(pair).collect(),
            _ => Vec::new(),
        };
        let attributes = match message {
            "" => Vec::new(),
            name => vec![("message".to_owned(), name.to_owned())],
        };
        let schema = Schema {
            id: self.id,
            subject: String::new(),
            version: 1,
            text: of[form].as_str().unwrap().to_owned(),
            references,
            attributes,
        };
        self.codec
            .prepare(&schema)
            .unwrap_or_else(|why| panic!("{}: {}", schema.text, why.reason))
    }

    fn to_json(
        &mut self,
        writer: &<Protobuf as Codec>::Schema,
        reader: &<Protobuf as Codec>::Schema,
        bytes: &[u8],
    ) -> Result<Value, Rejection> {
        let mut json = Vec::new();
        rejected(self.codec.to_json(writer, reader, bytes, &mut json))?;
        Ok(serde_json::from_slice(&json)
            .unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&json))))
    }

    fn from_json(&mut self, schema: &<Protobuf as Codec>::Schema, value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self
            .codec
            .from_json(schema, value.to_string().as_bytes(), &mut bytes);
        rejected(written).unwrap_or_else(|why| panic!("{value}: {why:?}"));
        bytes
    }

    /// Through the contract's tree.
    fn by_tree(&mut self, schema: &<Protobuf as Codec>::Schema, bytes: &[u8]) -> Vec<u8> {
        let tree = rejected(self.codec.decode(schema, schema, bytes)).unwrap();
        let mut bytes = Vec::new();
        let written = self.codec.encode(schema, &tree, &mut bytes);
        rejected(written).unwrap_or_else(|why| panic!("{tree:?}: {why:?}"));
        bytes
    }
}

fn rejected<T>(answer: Result<T, Fault>) -> Result<T, Rejection> {
    answer.map_err(|fault| match fault {
        Fault::Reject(rejection) => rejection,
        Fault::Failure(failure) => panic!("{}", failure.text()),
    })
}

/// Equal as JSON means it: a number is the same with and without a point, and in as many digits as a float has.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let single = |number: &serde_json::Number| number.as_f64().map(|number| number as f32);
            one == other || one.as_f64() == other.as_f64() || single(one) == single(other)
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

fn bytes_of(text: &Value) -> Vec<u8> {
    plain::base64::read(text.as_str().unwrap()).unwrap()
}

fn text_of(bytes: &[u8]) -> Value {
    let mut text = Vec::new();
    plain::base64::write(bytes, &mut text);
    json!(String::from_utf8(text).unwrap())
}

/// What was compared.
#[derive(Default)]
struct Counts {
    schemas: usize,
    messages: usize,
    later: usize,
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
    let made = python.run("protobuf_cases.py", &["generate", &seed, &schemas], "");
    let mut counts = Counts::default();
    // What the codec writes of each line, for the other side to read, and what it must find.
    let mut asked = String::new();
    let mut expected = Vec::new();
    for line in made.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (ask, expect) = match (line.get("case"), line.get("confluent")) {
            (Some(case), _) => check_case(case, &mut counts),
            (None, Some(frame)) => check_frame(frame, &mut counts),
            (None, None) => panic!("{line}"),
        };
        asked.push_str(&format!("{ask}\n"));
        expected.push((ask, expect));
    }
    let read = python.run("protobuf_cases.py", &["read"], &asked);
    let read: Vec<Value> = read
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(read.len(), expected.len());
    for (read, (ask, expected)) in read.iter().zip(&expected) {
        assert!(
            same(read, expected),
            "of {ask}\nthey read {read}\nand not   {expected}"
        );
    }
    println!(
        "seed {seed}: {} schemas, {} messages, {} of them read by a later schema, {} frames",
        counts.schemas, counts.messages, counts.later, counts.frames
    );
    // A generator that makes nothing would agree with anybody.
    assert!(
        counts.schemas >= 200 && counts.later >= 800 && counts.frames >= 30,
        "too little was compared"
    );
}

/// The codec reads what the reference wrote, in each form; what it writes itself is for the reference to read.
fn check_case(case: &Value, counts: &mut Counts) -> (Value, Value) {
    let mut sides = [
        (Side::new(&[]), "plain"),
        (Side::new(&[("names", "proto")]), "proto"),
        (Side::new(&[("defaults", "write")]), "full"),
    ];
    let (mut messages, mut plain) = (Vec::new(), Vec::new());
    for value in case["values"].as_array().unwrap() {
        let (name, bytes) = (value["message"].as_str().unwrap(), bytes_of(&value["bytes"]));
        for (side, form) in &mut sides {
            for of in ["schema", "set"] {
                let schema = side.schema(case, of, name);
                let read = side.to_json(&schema, &schema, &bytes);
                let read = read.unwrap_or_else(|why| panic!("{}: {value}: {why:?}", case["schema"]));
                assert!(
                    same(&read, &value[*form]),
                    "{}\nwe read {read}\nand not {}",
                    case["schema"].as_str().unwrap(),
                    value[*form]
                );
            }
            // Either form is written, by JSON and by trees, and is the same message again.
            let schema = side.schema(case, "schema", name);
            messages.push(json!([name, text_of(&side.from_json(&schema, &value[*form]))]));
            messages.push(json!([name, text_of(&side.by_tree(&schema, &bytes))]));
            // What is written with its defaults may set what was absent before: only where there is no presence.
            plain.extend([value["plain"].clone(), value["plain"].clone()]);
        }
        let side = &mut sides[0].0;
        let (writer, reader) = (
            side.schema(case, "schema", name),
            side.schema(case, "later", name),
        );
        let later = side.to_json(&writer, &reader, &bytes);
        let later = later.unwrap_or_else(|why| panic!("{}: {value}: {why:?}", case["schema"]));
        assert!(
            same(&later, &value["later"]),
            "{}\nwe read {later}\nand not {}",
            case["schema"].as_str().unwrap(),
            value["later"]
        );
        counts.later += 1;
        counts.messages += 1;
    }
    counts.schemas += 1;
    let ask = json!({ "schema": case["schema"], "references": case["references"], "messages": messages });
    (ask, json!(plain))
}

/// A frame of Confluent's serializer is read by its indexes, and one is written for its deserializer.
fn check_frame(frame: &Value, counts: &mut Counts) -> (Value, Value) {
    let name = frame["message"].as_str().unwrap();
    let mut side = Side::new(&[("framing", "confluent")]);
    side.id = u32::try_from(frame["id"].as_u64().unwrap()).unwrap();
    let schema = side.schema(frame, "schema", "");
    let bytes = bytes_of(&frame["frame"]);
    let read = side.to_json(&schema, &schema, &bytes).unwrap();
    assert!(same(&read, &frame["plain"]), "{frame}\n{read}");
    side.id += 1;
    let other = side.schema(frame, "schema", "");
    let wrong = side.to_json(&other, &other, &bytes).unwrap_err();
    assert_eq!(wrong.code, "schema-id-mismatch");
    side.id -= 1;
    let named = side.schema(frame, "schema", name);
    let ours = side.from_json(&named, &frame["plain"]);
    counts.frames += 1;
    let ask = json!({
        "schema": frame["schema"], "references": frame["references"], "framed": true, "messages": [[name, text_of(&ours)]],
    });
    (ask, json!([frame["plain"]]))
}
