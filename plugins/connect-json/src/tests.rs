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
