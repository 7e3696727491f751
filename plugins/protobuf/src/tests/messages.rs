use super::*;

fn proto3(fields: &str) -> String {
    format!("syntax = \"proto3\"; enum E {{ ZERO = 0; ONE = 1; }} message M {{ {fields} }}")
}

#[test]
fn fields_come_in_any_order_and_the_last_counts() {
    let check = |fields: &str, bytes: &[u8], json: &str| {
        let mut bench = Bench::new([]);
        let schema = bench.schema(&proto3(fields));
        assert_eq!(
            bench.to_json(&schema, &schema, bytes).as_deref(),
            Ok(json),
            "{fields}"
        );
    };
    check(
        "int32 a = 1; int32 b = 2;",
        &[16, 2, 8, 1, 16, 3],
        r#"{"a":1,"b":3}"#,
    );
    check(
        "repeated int32 a = 1;",
        &[8, 1, 10, 2, 2, 3, 8, 4],
        r#"{"a":[1,2,3,4]}"#,
    );
    check(
        "M a = 1; int32 b = 2; int32 c = 3;",
        &[10, 2, 16, 1, 10, 2, 24, 2],
        r#"{"a":{"b":1,"c":2}}"#,
    );
    check(
        "oneof o { int32 a = 1; int32 b = 2; }",
        &[8, 1, 16, 2],
        r#"{"b":2}"#,
    );
    check(
        "oneof o { M a = 1; int32 b = 2; } int32 c = 3;",
        &[10, 2, 24, 1, 16, 2, 10, 0],
        r#"{"a":{}}"#,
    );
    check(
        "map<int32, string> a = 1;",
        &[10, 2, 8, 1, 10, 5, 8, 1, 18, 1, b'x'],
        r#"{"a":{"1":"x"}}"#,
    );
    check(
        "E a = 1; repeated E b = 2;",
        &[8, 1, 18, 2, 0, 9],
        r#"{"a":"ONE","b":["ZERO",9]}"#,
    );
    // What is not known is passed over, groups too; zero is the same as absent unless it is `optional`.
    check("int32 a = 1;", &[0x13, 0x18, 1, 0x14, 0x2a, 1, 0, 8, 0], "{}");
    check("optional int32 a = 1;", &[8, 0], r#"{"a":0}"#);
}

#[test]
fn settings_choose_names_numbers_and_defaults() {
    let check = |setting: (&'static str, &'static str), json: &str| {
        let mut bench = Bench::new([setting]);
        let schema = bench.schema(&proto3(
            "int64 my_number = 1; repeated string other = 2; optional bool set = 3;",
        ));
        let bytes = [8, 5];
        assert_eq!(
            bench.to_json(&schema, &schema, &bytes).as_deref(),
            Ok(json),
            "{setting:?}"
        );
        assert_eq!(
            bench.from_json(&schema, json).as_deref(),
            Ok(&bytes[..]),
            "{setting:?}"
        );
    };
    check(("names", "json"), r#"{"myNumber":"5"}"#);
    check(("names", "proto"), r#"{"my_number":"5"}"#);
    check(("int64.format", "number"), r#"{"myNumber":5}"#);
    check(("defaults", "write"), r#"{"myNumber":"5","other":[]}"#);
}

#[test]
fn what_the_type_cannot_hold_is_refused_with_its_field() {
    let check = |fields: &str, json: &str, expected: &str| {
        let mut bench = Bench::new([]);
        let schema = bench.schema(&proto3(fields));
        let why = bench.from_json(&schema, json).unwrap_err();
        assert_eq!(said(&why), expected, "{json}: {}", why.reason);
    };
    check("int32 a = 1;", r#"{"a":2147483648}"#, "out-of-range /a");
    check("int32 a = 1;", r#"{"a":1.5}"#, "out-of-range /a");
    check("int32 a = 1;", r#"{"a":"x"}"#, "wrong-type /a");
    check("uint64 a = 1;", r#"{"a":"-1"}"#, "out-of-range /a");
    check("float a = 1;", r#"{"a":1e39}"#, "out-of-range /a");
    check(
        "repeated bytes a = 1;",
        r#"{"a":["AA==","?"]}"#,
        "wrong-type /a/1",
    );
    check(
        "map<bool, int32> a = 1;",
        r#"{"a":{"yes":1}}"#,
        "wrong-type /a/yes",
    );
    check("E a = 1;", r#"{"a":"TWO"}"#, "out-of-range /a");
    check("int32 a = 1;", r#"{"b":1}"#, "unknown-field /b");
    check("int32 a = 1;", r#"{"a":1,"a":1}"#, "unknown-field /a");
    check(
        "oneof o { int32 a = 1; int32 b = 2; }",
        r#"{"a":1,"b":2}"#,
        "wrong-type /b",
    );
    check("M a = 1;", "{", "not-json");
}

#[test]
fn a_later_schema_reads_by_numbers_and_refuses_other_kinds() {
    let read = |from: &str, to: &str, bytes: &[u8]| {
        let mut bench = Bench::new([]);
        let (writer, reader) = (bench.schema(&proto3(from)), bench.schema(&proto3(to)));
        bench.to_json(&writer, &reader, bytes).map_err(|why| said(&why))
    };
    assert_eq!(
        read("int32 a = 1;", "int64 b = 1;", &[8, 1]).as_deref(),
        Ok(r#"{"b":"1"}"#)
    );
    assert_eq!(
        read("int32 a = 1;", "string c = 2;", &[8, 1]).as_deref(),
        Ok("{}")
    );
    // The bytes would be read without complaint, and mean something else.
    let refused = Err("schemas-do-not-match /a".to_owned());
    assert_eq!(read("int32 a = 1;", "sint32 a = 1;", &[8, 1]), refused);
    assert_eq!(read("int32 a = 1;", "string a = 1;", &[8, 1]), refused);
    assert_eq!(read("string a = 1;", "M a = 1;", &[10, 0]), refused);
    assert_eq!(
        read("int64 a = 1;", "int32 a = 1;", &[8, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        Err("out-of-range /a".to_owned())
    );
}

#[test]
fn a_null_value_is_null_and_another_number_in_its_place_is_not_lost() {
    let mut bench = Bench::new([]);
    let schema = bench.schema(
        r#"syntax = "proto3"; import "google/protobuf/struct.proto";
        message W { repeated google.protobuf.NullValue k = 1; }"#,
    );
    let bytes = [10, 4, 0, 144, 244, 29];
    let json = bench.to_json(&schema, &schema, &bytes).unwrap();
    assert_eq!(json, r#"{"k":[null,490000]}"#);
    assert_eq!(bench.from_json(&schema, &json).unwrap(), bytes);
}
