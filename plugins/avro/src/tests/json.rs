use super::*;

#[test]
fn plain_json_goes_there_and_back() {
    check_round(r#""null""#, "null");
    check_round(r#""boolean""#, "true");
    check_round(r#""int""#, "-2147483648");
    check_round(r#""long""#, "9223372036854775807");
    check_round(r#""float""#, "0.1");
    check_round(r#""double""#, "-1.5e+300");
    check_round(r#""double""#, "\"NaN\"");
    check_round(r#""float""#, "\"-Infinity\"");
    check_round(
        r#""string""#,
        "\"a \\\"quoted\\\" \\\\ \\n \\u0001 \u{fc}\u{1f35c}\"",
    );
    check_round(r#""bytes""#, "\"AP8QgA==\"");
    check_round(r#"{"type":"fixed","name":"F","size":3}"#, "\"AP8Q\"");
    check_round(r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, "\"B\"");
    check_round(r#"{"type":"array","items":"int"}"#, "[1,2,3]");
    check_round(r#"{"type":"array","items":"int"}"#, "[]");
    check_round(r#"{"type":"map","values":"int"}"#, "{\"a\":1,\"b\\\"\":2}");
    check_round(
        &field(r#"["null",{"type":"array","items":"R"}]"#, ""),
        "{\"f\":[{\"f\":null},{\"f\":[]}]}",
    );
}

#[test]
fn bytes_are_the_specification_s() {
    let check = |schema: &str, json: &str, bytes: &[u8]| {
        assert_eq!(
            Bench::new([]).from_json(schema, json).as_deref(),
            Ok(bytes),
            "{schema}: {json}"
        );
    };
    check(r#""long""#, "-64", &[0x7f]);
    check(r#""long""#, "64", &[0x80, 0x01]);
    check(r#""string""#, "\"foo\"", &[0x06, b'f', b'o', b'o']);
    check(
        r#"{"type":"array","items":"long"}"#,
        "[3,27]",
        &[0x04, 0x06, 0x36, 0x00],
    );
    check(r#"["null","string"]"#, "\"a\"", &[0x02, 0x02, b'a']);
    let record = r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    check(record, r#"{"b":"foo","a":27}"#, &[0x36, 0x06, b'f', b'o', b'o']);
}

#[test]
fn blocks_with_sizes_are_read() {
    let list = r#"{"type":"array","items":"long"}"#;
    let bytes = [0x03, 0x04, 0x06, 0x36, 0x02, 0x01, 0x00]; // -2 items in 2 bytes, then 1 item
    assert_eq!(
        Bench::new([]).to_json(list, list, &bytes).as_deref(),
        Ok("[3,27,-1]")
    );
}

#[test]
fn settings_choose_what_json_looks_like() {
    let check = |setting: (&'static str, &'static str), schema: &str, json: &str| {
        let mut bench = Bench::new([setting]);
        let bytes = bench.from_json(schema, json).unwrap();
        assert_eq!(
            bench.to_json(schema, schema, &bytes).as_deref(),
            Ok(json),
            "{setting:?}"
        );
    };
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":30,"scale":2}"#;
    check(
        ("decimal.format", "number"),
        decimal,
        "-1234567890123456789012345.67",
    );
    check(("decimal.format", "string"), decimal, "\"-0.05\"");
    check(("bytes.format", "latin1"), r#""bytes""#, "\"a\\u0000\u{ff}\\\"\"");
    check(
        ("time.format", "iso"),
        r#"{"type":"int","logicalType":"date"}"#,
        "\"2024-02-29\"",
    );
    check(
        ("time.format", "iso"),
        r#"{"type":"long","logicalType":"timestamp-millis"}"#,
        "\"1969-12-31T23:59:59.999Z\"",
    );
    check(
        ("time.format", "number"),
        r#"{"type":"long","logicalType":"timestamp-millis"}"#,
        "-1",
    );
}

#[test]
fn a_field_that_is_not_there_is_its_default_or_null() {
    let check = |schema: &str, json: &str, expected: &str| {
        let mut bench = Bench::new([]);
        let bytes = bench.from_json(schema, json).unwrap();
        assert_eq!(
            bench.to_json(schema, schema, &bytes).as_deref(),
            Ok(expected),
            "{schema}"
        );
    };
    check(&field(r#""int""#, r#","default":7"#), "{}", "{\"f\":7}");
    check(&field(r#"["string","null"]"#, ""), "{}", "{\"f\":null}");
    check(
        &field(r#"["null","string"]"#, r#","default":null"#),
        "{}",
        "{\"f\":null}",
    );
    check(
        &field(r#"["string","null"]"#, r#","default":"x""#),
        "{}",
        "{\"f\":\"x\"}",
    );
    check(
        &field(r#""bytes""#, r#","default":"\u00ff""#),
        "{}",
        "{\"f\":\"/w==\"}",
    );
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let check = |schema: &str, json: &str, expected: &str| {
        let why = Bench::new([]).from_json(schema, json).expect_err(json);
        assert_eq!(said(&why), expected, "{schema}: {json}: {}", why.reason);
    };
    let int = field(r#""int""#, "");
    check(&int, "{", "not-json");
    check(&int, "{} {}", "not-json");
    check(&int, "{\"f\":01}", "not-json");
    check(&int, "[]", "wrong-type");
    check(&int, "{}", "missing-field /f");
    check(&int, "{\"f\":1,\"g\":2}", "unknown-field /g");
    check(&int, "{\"f\":1,\"f\":2}", "unknown-field /f");
    check(&int, "{\"f\":\"1\"}", "wrong-type /f");
    check(&int, "{\"f\":1.5}", "out-of-range /f");
    check(&int, "{\"f\":2147483648}", "out-of-range /f");
    check(r#""long""#, "9223372036854775808", "out-of-range");
    check(r#""float""#, "1e39", "out-of-range");
    check(r#""double""#, "1e999", "out-of-range");
    check(
        r#"{"type":"enum","name":"E","symbols":["A"]}"#,
        "\"B\"",
        "out-of-range",
    );
    check(
        r#"{"type":"fixed","name":"F","size":3}"#,
        "\"AAAA\\u0000\"",
        "wrong-type",
    );
    check(
        r#"{"type":"fixed","name":"F","size":2}"#,
        "\"AAAA\"",
        "out-of-range",
    );
    check(r#""bytes""#, "\"AA=\"", "wrong-type");
    check(r#"["null","int"]"#, "\"x\"", "wrong-type");
    check(
        &field(r#"{"type":"map","values":{"type":"array","items":"int"}}"#, ""),
        "{\"f\":{\"a/b\":[1,true]}}",
        "wrong-type /f/a~1b/1",
    );
}

#[test]
fn unknown_fields_are_left_out_where_that_is_wanted() {
    let mut bench = Bench::new([("unknown.fields", "ignore")]);
    let schema = field(r#""int""#, "");
    assert_eq!(
        bench.from_json(&schema, r#"{"x":{"y":[1]},"f":1}"#).as_deref(),
        Ok(&[2][..])
    );
}

#[test]
fn a_union_takes_the_branch_that_fits_best() {
    let check = |union: &str, json: &str, branch: u8| {
        let bytes = Bench::new([]).from_json(union, json).expect(json);
        assert_eq!(bytes[0], branch * 2, "{union}: {json}");
    };
    check(r#"["double","long"]"#, "5", 1);
    check(r#"["long","double"]"#, "5.5", 1);
    check(r#"["int","long"]"#, "5", 0);
    check(r#"["int","long"]"#, "5000000000", 1);
    check(r#"["float","double"]"#, "0.1", 1);
    check(r#"["float","double"]"#, "0.5", 0);
    check(r#"["bytes","string"]"#, "\"AAAA\"", 1);
    check(r#"["bytes",{"type":"fixed","name":"F","size":3}]"#, "\"AAAA\"", 1);
    check(
        r#"["string",{"type":"enum","name":"E","symbols":["A"]}]"#,
        "\"A\"",
        0,
    );
    check(
        r#"[{"type":"enum","name":"E","symbols":["A"]},"string"]"#,
        "\"B\"",
        1,
    );
    check(
        r#"[{"type":"map","values":"int"},{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}]"#,
        r#"{"a":1}"#,
        1,
    );
    check(
        r#"[{"type":"map","values":"int"},{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}]"#,
        r#"{"b":1}"#,
        0,
    );
    // All fields of a record are better than a map, and some of them are not.
    let optional = r#"[{"type":"record","name":"R","fields":[{"name":"a","type":["null","int"]}]},{"type":"map","values":"int"}]"#;
    check(optional, r#"{"a":1}"#, 0);
    check(optional, "{}", 1);
    let duration = r#"["bytes",{"type":"fixed","name":"D","size":12,"logicalType":"duration"}]"#;
    check(duration, "\"AAAAAAAAAAAAAAAA\"", 0);
    check(duration, r#"{"months":1,"days":2,"millis":3}"#, 1);
    let decimal = r#"[{"type":"fixed","name":"D","size":3,"logicalType":"decimal","precision":4},"bytes"]"#;
    check(decimal, "\"AAAA\"", 1);
    check(decimal, "\"12\"", 0);
    let two = r#"[{"type":"record","name":"A","fields":[{"name":"a","type":"int"}]},{"type":"record","name":"B","fields":[{"name":"b","type":"int"}]}]"#;
    check(two, r#"{"b":1}"#, 1);
    assert_eq!(
        said(&Bench::new([]).from_json(two, r#"{"c":1}"#).unwrap_err()),
        "wrong-type"
    );
    // Of one branch with the shape it is said what is wrong inside.
    let one = r#"["null",{"type":"record","name":"A","fields":[{"name":"a","type":"int"}]}]"#;
    assert_eq!(
        said(&Bench::new([]).from_json(one, r#"{"a":true}"#).unwrap_err()),
        "wrong-type /a"
    );
}

#[test]
fn many_members_in_any_order_are_found() {
    let fields: Vec<String> = (0..100)
        .map(|at| format!(r#"{{"name":"f{at}","type":"int"}}"#))
        .collect();
    let schema = format!(
        r#"{{"type":"record","name":"R","fields":[{}]}}"#,
        fields.join(",")
    );
    let members: Vec<String> = (0..100).rev().map(|at| format!(r#""f{at}":{at}"#)).collect();
    let mut bench = Bench::new([]);
    let bytes = bench
        .from_json(&schema, &format!("{{{}}}", members.join(",")))
        .unwrap();
    let json = bench.to_json(&schema, &schema, &bytes).unwrap();
    assert!(
        json.starts_with(r#"{"f0":0,"f1":1,"#) && json.ends_with(r#""f99":99}"#),
        "{json}"
    );
}
