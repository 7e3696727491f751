//! The Avro codec beside fastavro and Confluent's client: a seeded generator makes schemas, values and later versions of
//! the schemas, and both sides must read and write the same.

#![allow(clippy::print_stdout, reason = "a test says what it compared")]
#![allow(clippy::unwrap_used, reason = "a test")]

use avro::{Avro, Settings};
use culvert_plugin::codec::{Codec, Schema};
use culvert_plugin::{Fault, Rejection};
use interop::{Python, not_run};
use serde_json::{Value, json};

/// What is made unless `CULVERT_INTEROP_SEED` and `CULVERT_INTEROP_SCHEMAS` say otherwise.
const SEED: &str = "20260131";
const SCHEMAS: &str = "400";

/// A codec with some settings.
struct Side(Avro);

#[allow(clippy::wrong_self_convention, reason = "the contract's words")]
impl Side {
    fn new(with: &[(&'static str, &'static str)]) -> Side {
        let settings = culvert_plugin::testing::settings::<Settings>(with.iter().copied()).unwrap();
        Side(Avro::open(settings).unwrap())
    }

    fn schema(&mut self, text: &Value, id: u32) -> <Avro as Codec>::Schema {
        let text = text.as_str().unwrap().to_owned();
        let schema = Schema {
            id,
            subject: String::new(),
            version: 1,
            text,
            references: Vec::new(),
            attributes: Vec::new(),
        };
        self.0
            .prepare(&schema)
            .unwrap_or_else(|why| panic!("{}: {}", schema.text, why.reason))
    }

    fn to_json(&mut self, writer: &Value, reader: &Value, id: u32, bytes: &[u8]) -> Result<Value, Rejection> {
        let (writer, reader) = (self.schema(writer, id), self.schema(reader, id));
        let mut json = Vec::new();
        rejected(self.0.to_json(&writer, &reader, bytes, &mut json))?;
        Ok(serde_json::from_slice(&json)
            .unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&json))))
    }

    fn from_json(&mut self, schema: &Value, id: u32, value: &Value) -> Vec<u8> {
        let schema = self.schema(schema, id);
        let mut bytes = Vec::new();
        let written = self
            .0
            .from_json(&schema, value.to_string().as_bytes(), &mut bytes);
        rejected(written).unwrap_or_else(|why| panic!("{value}: {why:?}"));
        bytes
    }

    /// Through the contract's tree.
    fn by_tree(&mut self, schema: &Value, id: u32, bytes: &[u8]) -> Vec<u8> {
        let schema = self.schema(schema, id);
        let tree = rejected(self.0.decode(&schema, &schema, bytes)).unwrap();
        let mut bytes = Vec::new();
        let written = self.0.encode(&schema, &tree, &mut bytes);
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

/// Equal as JSON means it: a number is the same with and without a point.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
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

/// Base64 by the codec itself: its own tests hold it to the standard.
fn bytes_of(text: &Value) -> Vec<u8> {
    let binary = json!("\"bytes\"");
    let framed = Side::new(&[]).from_json(&binary, 0, text);
    let length = framed.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    framed[length..].to_vec()
}

fn text_of(bytes: &[u8]) -> Value {
    let mut framed = Vec::new();
    let mut length = bytes.len() * 2;
    while length >= 0x80 {
        framed.push(length as u8 | 0x80);
        length >>= 7;
    }
    framed.push(length as u8);
    framed.extend_from_slice(bytes);
    let binary = json!("\"bytes\"");
    Side::new(&[]).to_json(&binary, &binary, 0, &framed).unwrap()
}

/// What was compared.
#[derive(Default)]
struct Counts {
    schemas: usize,
    values: usize,
    pairs: usize,
    refused: usize,
    files: usize,
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
    let made = python.run("avro_cases.py", &["generate", &seed, &schemas], "");
    let lines: Vec<Value> = made
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut counts = Counts::default();
    // What the codec writes of each line, for the other side to read, and what it must find.
    let mut asked = String::new();
    let mut expected = Vec::new();
    for line in &lines {
        let (ask, expect) = match (line.get("case"), line.get("confluent")) {
            (Some(case), _) => {
                check_case(case, &mut counts);
                check_readers(case, &mut counts);
                ours_of(case)
            }
            (None, Some(frame)) => confluent_of(frame, &mut counts),
            (None, None) => panic!("{line}"),
        };
        asked.push_str(&format!("{ask}\n"));
        expected.push((ask, expect));
    }
    let read = python.run("avro_cases.py", &["read"], &asked);
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
        "seed {seed}: {} schemas, {} values, {} container files, {} frames, {} pairs of schemas of which both refuse {}",
        counts.schemas, counts.values, counts.files, counts.frames, counts.pairs, counts.refused
    );
    // A generator that makes nothing would agree with anybody.
    assert!(counts.schemas >= 200 && counts.frames >= 10, "too few schemas");
    assert!(
        counts.refused >= 50 && counts.pairs - counts.refused >= 200,
        "{} pairs, {} refused",
        counts.pairs,
        counts.refused
    );
}

/// The codec reads what the reference wrote, and its fingerprint is the reference's.
fn check_case(case: &Value, counts: &mut Counts) {
    let schema = &case["schema"];
    let (mut number, mut iso) = (Side::new(&[]), Side::new(&[("time.format", "iso")]));
    let fingerprint = number.schema(schema, 0).schema().fingerprint();
    let as_bytes: String = fingerprint
        .to_le_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(case["fingerprint"], as_bytes, "{schema}");
    for value in case["values"].as_array().unwrap() {
        let bytes = bytes_of(&value["bytes"]);
        for (side, form) in [(&mut number, "plain"), (&mut iso, "iso")] {
            let read = side
                .to_json(schema, schema, 0, &bytes)
                .unwrap_or_else(|why| panic!("{schema}: {value}: {why:?}"));
            assert!(
                same(&read, &value[form]),
                "{schema}\nwe read {read}\nand not {}",
                value[form]
            );
        }
        // Times as texts come back too. In a union with a string they may come back as that.
        let again = iso.from_json(schema, 0, &value["iso"]);
        let again = iso.to_json(schema, schema, 0, &again).unwrap();
        assert!(same(&again, &value["iso"]), "{schema}\n{again}\n{}", value["iso"]);
        counts.values += 1;
    }
    let file = bytes_of(&case["file"]);
    let read = Side::new(&[("framing", "container")])
        .to_json(schema, schema, 0, &file)
        .unwrap();
    let records: Vec<&Value> = case["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| &value["plain"])
        .collect();
    assert!(same(&read, &json!(records)), "{schema}\n{read}");
    counts.files += 1;
    counts.schemas += 1;
}

/// Data of one schema read as a later one: the same value, or both refuse.
fn check_readers(case: &Value, counts: &mut Counts) {
    for reader in case["readers"].as_array().unwrap() {
        let (from, to) = (&case["schema"], &reader["schema"]);
        let read = Side::new(&[]).to_json(from, to, 0, &bytes_of(&reader["bytes"]));
        match (&read, reader.get("plain")) {
            (Ok(read), Some(plain)) => assert!(
                same(read, plain),
                "{from}\nas {to}\nwe read {read}\nand not {plain}"
            ),
            (Err(why), None) => {
                let refuses = ["schemas-do-not-match", "malformed"].contains(&why.code.as_str());
                assert!(refuses, "{from}\nas {to}\n{why:?}\n{}", reader["refused"]);
                counts.refused += 1;
            }
            _ => panic!("{from}\nas {to}\nwe: {read:?}\nthey: {reader}"),
        }
        counts.pairs += 1;
    }
}

/// The values of a case as the codec writes them, by JSON and by trees, and as a container file.
fn ours_of(case: &Value) -> (Value, Value) {
    let schema = &case["schema"];
    let mut side = Side::new(&[]);
    let (mut bytes, mut plain) = (Vec::new(), Vec::new());
    for value in case["values"].as_array().unwrap() {
        bytes.push(text_of(&side.from_json(schema, 0, &value["plain"])));
        bytes.push(text_of(&side.by_tree(schema, 0, &bytes_of(&value["bytes"]))));
        plain.extend([value["plain"].clone(), value["plain"].clone()]);
    }
    let records: Vec<&Value> = case["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| &value["plain"])
        .collect();
    let file = Side::new(&[("framing", "container")]).from_json(schema, 0, &json!(records));
    let ask = json!({ "schema": schema, "bytes": bytes, "file": text_of(&file) });
    (ask, json!({ "plain": plain, "file": records }))
}

/// A frame of Confluent's serializer is read, and one is written for its deserializer.
fn confluent_of(frame: &Value, counts: &mut Counts) -> (Value, Value) {
    let (schema, plain) = (&frame["schema"], &frame["plain"]);
    let id = u32::try_from(frame["id"].as_u64().unwrap()).unwrap();
    let mut side = Side::new(&[("framing", "confluent")]);
    let read = side
        .to_json(schema, schema, id, &bytes_of(&frame["frame"]))
        .unwrap();
    assert!(same(&read, plain), "{schema}\n{read}\n{plain}");
    let wrong = side.to_json(schema, schema, id + 1, &bytes_of(&frame["frame"]));
    assert_eq!(wrong.unwrap_err().code, "schema-id-mismatch");
    counts.frames += 1;
    let ours = side.from_json(schema, id, plain);
    let ask = json!({ "schema": schema, "id": id, "frame": text_of(&ours) });
    (ask, json!({ "plain": [plain] }))
}
