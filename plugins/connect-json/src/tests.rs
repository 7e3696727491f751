use crate::codec::ConnectJson;
use culvert_plugin::Fault;
use culvert_plugin::codec::{Codec, Schema};
use culvert_plugin::testing;
use serde_json::{Value, json};

fn codec() -> ConnectJson {
    ConnectJson::open(testing::settings([]).expect("settings")).expect("it opens")
}

fn shown(text: &str) -> Schema {
    Schema {
        id: 0,
        subject: String::new(),
        version: 0,
        text: text.to_owned(),
        references: Vec::new(),
        attributes: Vec::new(),
    }
}

fn told(made: Result<(), Fault>, json: &[u8]) -> Result<Value, String> {
    match made {
        Ok(()) => Ok(serde_json::from_slice(json).expect("JSON")),
        Err(Fault::Reject(why)) => Err(format!("{} {}", why.code, why.field.unwrap_or_default())
            .trim()
            .to_owned()),
        Err(Fault::Failure(failure)) => panic!("{failure:?}"),
    }
}

/// The payload of an envelope.
fn read(envelope: &Value) -> Result<Value, String> {
    let mut json = Vec::new();
    let made = codec().to_json(&None, &None, envelope.to_string().as_bytes(), &mut json);
    told(made, &json)
}

/// The envelope of a payload that was read with this schema.
fn written(schema: &Value, payload: &Value) -> Result<Value, String> {
    let mut codec = codec();
    let schema = codec.prepare(&shown(&schema.to_string())).expect("a schema");
    let mut bytes = Vec::new();
    let made = codec.from_json(&schema, payload.to_string().as_bytes(), &mut bytes);
    told(made, &bytes)
}

/// Numbers are the same whether a point is written or not.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_there =
                |(name, value): (&String, &Value)| other.get(name).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(is_there)
        }
        _ => one == other,
    }
}

/// What Connect 4.3.1 answered (`truth/README.md`): where it refuses, so is it here; where it reads, the payload is the same, or
/// Connect has made another value of it without a word, which is refused here.
#[test]
fn envelopes_are_read_as_kafka_connect_reads_them() {
    let (mut alike, mut stricter, mut inferred) = (0, 0, 0);
    for line in include_str!("../truth/truth.jsonl").lines() {
        let answer: Value = serde_json::from_str(line).expect("a line of JSON");
        if let Some(value) = answer.get("value") {
            // A field of a struct, which has no other schema.
            let old = json!({"type": "struct", "fields": [], "optional": false});
            let ours = written(&old, &json!({ "new": value }));
            let ours = ours.map(|envelope| envelope["schema"]["fields"][0].clone());
            let is_nested = value.to_string().matches(['[', '{']).count() > 1;
            match &answer["inferred"] {
                Value::Null => assert!(ours.is_err() || is_nested, "{value}: {ours:?}"),
                schema => {
                    let mut schema = schema.clone();
                    schema["field"] = json!("new");
                    assert!(
                        is_nested || ours.as_ref() == Ok(&schema),
                        "{value}: {ours:?} in place of {schema}"
                    );
                }
            }
            inferred += 1;
            continue;
        }
        let envelope = &answer["envelope"];
        match (read(envelope), answer.get("written")) {
            (Ok(payload), Some(theirs)) if same(&payload, &theirs["payload"]) => alike += 1,
            (Err(_), None) => alike += 1,
            // See the test of decimals.
            (Ok(payload), _) if payload.is_number() && line.contains(DECIMAL) => {}
            // It writes these itself, and reads 0.
            (Ok(payload), Some(_)) if payload == "NaN" => {}
            (Err(_), Some(theirs)) if !same(&theirs["payload"], &envelope["payload"]) => stricter += 1,
            // Nothing of nothing: it falls over its own null.
            (Ok(Value::Null), None) if envelope["schema"].is_null() => {}
            (ours, theirs) => panic!("{envelope}: {ours:?}, and Connect {theirs:?}"),
        }
    }
    assert!(
        alike > 45 && stricter > 10 && inferred > 20,
        "{alike}, {stricter}, {inferred}"
    );
}

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// What is written of an envelope that was read, with this `decimal.format`.
fn formatted(text: &str, format: &str) -> Result<String, String> {
    let settings = testing::settings([("decimal.format", format)]).expect("settings");
    let mut codec = ConnectJson::open(settings).expect("it opens");
    let envelope: Value = serde_json::from_str(text).expect("JSON");
    let schema = codec
        .prepare(&shown(&envelope["schema"].to_string()))
        .expect("a schema");
    let (mut json, mut bytes) = (Vec::new(), Vec::new());
    codec
        .to_json(&schema, &schema, text.as_bytes(), &mut json)
        .expect("it is read");
    let made = codec.from_json(&schema, &json, &mut bytes);
    told(made, &bytes).map(|_| String::from_utf8(bytes).expect("text"))
}

#[test]
fn decimals_are_written_as_kafka_connect_writes_them() {
    let mut compared = 0;
    let lines = include_str!("../truth/truth.jsonl").lines();
    for line in lines.filter(|line| line.contains(r#","numeric":"#)) {
        let answer: Value = serde_json::from_str(line).expect("a line of JSON");
        if read(&answer["envelope"]).is_err() {
            // A payload of which Connect makes another one.
            continue;
        }
        // As text: numbers have more digits than `Value` keeps.
        let (rest, numeric) = line.split_once(r#","numeric":"#).expect("it is there");
        let (envelope, written) = rest.split_once(r#","written":"#).expect("it is there");
        let ours = formatted(&envelope[r#"{"envelope":"#.len()..], "BASE64").expect("base64");
        let base64: Value = serde_json::from_str(&ours).expect("JSON");
        assert_eq!(base64["payload"], answer["written"]["payload"], "{line}");
        let ours = formatted(written, "NUMERIC").expect("numbers");
        let numbers: Value = serde_json::from_str(&ours).expect("JSON");
        assert!(same(&numbers["payload"], &answer["numeric"]), "{ours}: {line}");
        assert!(
            numbers["payload"].is_object() || ours.ends_with(&format!(":{numeric}")),
            "{ours}: {line}"
        );
        compared += 1;
    }
    assert!(compared > 17, "{compared}");
}

#[test]
fn a_decimal_that_cannot_be_written_is_refused() {
    let check = |scale: &str, payload: Value, format: &str, expected: Result<&str, &str>| {
        let schema = json!({"type": "bytes", "name": DECIMAL, "parameters": {"scale": scale}});
        let written = formatted(&json!({"schema": schema, "payload": payload}).to_string(), format);
        let written = written.map(|text| text.rsplit_once(':').map_or("", |(_, end)| end).to_owned());
        let expected = expected.map(|text| format!("{text}}}")).map_err(str::to_owned);
        assert_eq!(written, expected, "{payload} of scale {scale}");
    };
    // Connect wants all digits of the scale to be written.
    check("2", json!(1.5), "BASE64", Ok("\"AJY=\""));
    check("1", json!(1.55), "BASE64", Err("out-of-range"));
    check("1", json!("BNI="), "BASE64", Ok("\"BNI=\""));
    check("", json!("BNI="), "NUMERIC", Err("schema-invalid"));
    check("1001", json!(1), "BASE64", Err("schema-invalid"));
    let long = "A".repeat(400);
    check("2", json!(long), "NUMERIC", Ok("0.00"));
    let long = "Q".repeat(400);
    check("2", json!(long), "NUMERIC", Err("out-of-range"));
}

fn order() -> Value {
    json!({"type": "struct", "optional": false, "name": "shop.Order", "fields": [
        {"type": "int32", "optional": false, "field": "id"},
        {"type": "string", "optional": true, "field": "note"},
        {"type": "array", "items": {"type": "int32", "optional": false}, "optional": false, "field": "n"},
    ]})
}

#[test]
fn what_still_fits_keeps_its_schema() {
    for payload in [
        json!({"id": 1, "note": "a", "n": [1]}),
        json!({"id": 2, "note": null, "n": []}),
    ] {
        let envelope = json!({"schema": order(), "payload": payload});
        assert_eq!(written(&order(), &payload), Ok(envelope.clone()));
        assert_eq!(read(&envelope), Ok(payload));
    }
}

#[test]
fn a_changed_payload_has_a_schema_that_is_derived_field_by_field() {
    let fields = |payload: Value| {
        let envelope = written(&order(), &payload)?;
        assert_eq!(read(&envelope), Ok(payload), "it is read again");
        assert_eq!(envelope["schema"]["name"], "shop.Order");
        Ok::<_, String>(envelope["schema"]["fields"].clone())
    };
    let unchanged = order()["fields"].clone();
    let more = fields(json!({"id": 1, "note": "a", "n": [1], "site": "plant"})).expect("a schema");
    assert_eq!(
        more[3],
        json!({"type": "string", "optional": false, "field": "site"})
    );
    assert_eq!(more[0], unchanged[0]);
    let fewer = fields(json!({"note": "a"})).expect("a schema");
    assert_eq!(fewer, json!([unchanged[1]]));
    let other = fields(json!({"id": 3_000_000_000u32, "note": 7, "n": [1, null]})).expect("a schema");
    assert_eq!(other[0]["type"], "int64");
    assert_eq!(
        other[1],
        json!({"type": "int64", "optional": true, "field": "note"})
    );
    assert_eq!(
        fields(json!({"id": 1, "new": []})),
        Err("schema-not-derived /new".to_owned())
    );
    assert_eq!(
        fields(json!({"id": 1, "new": null})),
        Err("schema-not-derived /new".to_owned())
    );
}

#[test]
fn without_a_schema_there_is_none_beside_it() {
    let payload = json!({"a": [1, "x", null]});
    assert_eq!(
        written(&Value::Null, &payload),
        Ok(json!({"schema": null, "payload": payload}))
    );
}

#[test]
fn a_default_stands_for_null_unless_settings_say_otherwise() {
    let envelope = json!({"schema": {"type": "int32", "optional": true, "default": 7}, "payload": null});
    assert_eq!(read(&envelope), Ok(json!(7)));
    let settings = testing::settings([("replace.null.with.default", "false")]).expect("settings");
    let mut json = Vec::new();
    let mut codec = ConnectJson::open(settings).expect("it opens");
    let made = codec.to_json(&None, &None, envelope.to_string().as_bytes(), &mut json);
    assert_eq!(told(made, &json), Ok(Value::Null));
}
