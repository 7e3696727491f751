use super::*;

const NESTED: &str = r#"syntax = "proto3"; package p;
message A { int32 x = 1; map<string, string> m = 2; message In { int32 y = 1; } }
message B { int32 z = 1; }"#;

#[test]
fn a_frame_names_its_message_by_its_place() {
    let check = |message: &str, json: &str, frame: &[u8]| {
        let mut bench = Bench::new([("framing", "confluent")]);
        let schema = bench.codec.prepare(&named(NESTED, message)).unwrap();
        assert_eq!(bench.from_json(&schema, json).as_deref(), Ok(frame), "{message}");
        let open = bench.schema(NESTED);
        assert_eq!(
            bench.to_json(&open, &open, frame).as_deref(),
            Ok(json),
            "{message}"
        );
    };
    check("p.A", r#"{"x":1}"#, &[0, 0, 0, 0, 7, 0, 8, 1]);
    check("p.B", r#"{"z":1}"#, &[0, 0, 0, 0, 7, 2, 2, 8, 1]);
    check("p.A.In", r#"{"y":1}"#, &[0, 0, 0, 0, 7, 4, 0, 0, 8, 1]);
}

#[test]
fn a_frame_that_is_none_or_of_another_message_is_refused() {
    let check = |message: &str, frame: &[u8], code: &str| {
        let mut bench = Bench::new([("framing", "confluent")]);
        let schema = bench.codec.prepare(&named(NESTED, message)).unwrap();
        let why = bench.to_json(&schema, &schema, frame).unwrap_err();
        assert_eq!(why.code, code, "{frame:?}: {}", why.reason);
    };
    check("", &[], "bad-framing");
    check("", &[0, 0, 0, 0, 7], "bad-framing");
    check("", &[1, 0, 0, 0, 7, 0], "bad-framing");
    check("", &[0, 0, 0, 0, 8, 0], "schema-id-mismatch");
    check("", &[0, 0, 0, 0, 7, 1], "bad-framing");
    check("", &[0, 0, 0, 0, 7, 0xfe, 0xff, 0xff, 0xff, 0x0f], "bad-framing");
    check("", &[0, 0, 0, 0, 7, 2, 6], "message-mismatch");
    check("p.A", &[0, 0, 0, 0, 7, 2, 2], "message-mismatch");
}

#[test]
fn a_message_is_named_by_its_place_too() {
    let prepared = |indexes: &str| {
        let mut named = named(NESTED, "");
        named.attributes = vec![("message.indexes".to_owned(), indexes.to_owned())];
        let mut bench = Bench::new([("framing", "confluent")]);
        let prepared = bench.codec.prepare(&named);
        prepared.map(|schema| bench.from_json(&schema, "{}").unwrap())
    };
    assert_eq!(prepared("0,0").unwrap(), [0, 0, 0, 0, 7, 4, 0, 0]);
    assert_eq!(prepared("1").unwrap(), [0, 0, 0, 0, 7, 2, 2]);
    for none in ["", "2", "0,1", "x", "-1"] {
        assert_eq!(prepared(none).unwrap_err().code, "schema-invalid", "{none}");
    }
}
