use super::*;

/// What data of one schema, given as JSON, is as another: JSON, or `code field`.
fn check(writer: &str, json: &str, reader: &str, expected: &str) {
    let mut bench = Bench::new([]);
    let bytes = bench.from_json(writer, json).expect(json);
    let read = bench.to_json(writer, reader, &bytes);
    let said = read.clone().unwrap_or_else(|why| said(&why));
    assert_eq!(said, expected, "{writer} as {reader}: {read:?}");
    // A tree has the same fate.
    let tree = bench.decode(writer, reader, &bytes);
    assert_eq!(
        tree.map(drop).map_err(|why| why.code),
        read.map(drop).map_err(|why| why.code)
    );
}

#[test]
fn numbers_and_texts_are_promoted() {
    for reader in ["int", "long"] {
        check(r#""int""#, "7", &format!("\"{reader}\""), "7");
    }
    check(r#""int""#, "7", r#""float""#, "7.0");
    check(r#""long""#, "7", r#""double""#, "7.0");
    check(r#""long""#, "16777217", r#""float""#, "16777216.0");
    check(r#""float""#, "0.5", r#""double""#, "0.5");
    check(r#""string""#, "\"a\"", r#""bytes""#, "\"YQ==\"");
    check(r#""bytes""#, "\"YQ==\"", r#""string""#, "\"a\"");
    check(r#""bytes""#, "\"/w==\"", r#""string""#, "malformed");
    check(r#""long""#, "7", r#""int""#, "schemas-do-not-match");
    check(r#""double""#, "7.0", r#""float""#, "schemas-do-not-match");
    check(r#""int""#, "7", r#""string""#, "schemas-do-not-match");
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"n.R","aliases":["Old"],"fields":[{fields}]}}"#)
}

#[test]
fn fields_are_found_by_name_and_alias_in_any_order() {
    let writer = record(
        r#"{"name":"a","type":"int"},{"name":"b","type":{"type":"array","items":"string"}},{"name":"c","type":"long"}"#,
    );
    let json = r#"{"a":1,"b":["x","y"],"c":3}"#;
    check(
        &writer,
        json,
        &record(r#"{"name":"a","type":"int"}"#),
        r#"{"a":1}"#,
    );
    check(
        &writer,
        json,
        &record(r#"{"name":"c","type":"long"}"#),
        r#"{"c":3}"#,
    );
    check(
        &writer,
        json,
        &record(r#"{"name":"c","type":"long"},{"name":"a","type":"double"}"#),
        r#"{"c":3,"a":1.0}"#,
    );
    check(
        &writer,
        json,
        &record(r#"{"name":"z","aliases":["y","b"],"type":{"type":"array","items":"bytes"}}"#),
        r#"{"z":["eA==","eQ=="]}"#,
    );
    check(
        &writer,
        json,
        &record(r#"{"name":"z","type":"int"}"#),
        "schemas-do-not-match",
    );
    check(
        &writer,
        json,
        &record(r#"{"name":"b","type":"int"}"#),
        "schemas-do-not-match /b",
    );
    check(&writer, json, &record(""), "{}");
}

#[test]
fn a_field_that_the_writer_lacks_is_its_default() {
    let writer = record(r#"{"name":"a","type":"int"}"#);
    let with = |kind: &str, default: &str| {
        record(&format!(
            r#"{{"name":"x","type":{kind},"default":{default}}},{{"name":"a","type":"int"}}"#
        ))
    };
    let check = |kind: &str, default: &str, expected: &str| {
        check(
            &writer,
            r#"{"a":1}"#,
            &with(kind, default),
            &format!("{{\"x\":{expected},\"a\":1}}"),
        );
    };
    check(r#""string""#, r#""é""#, "\"é\"");
    check(r#""bytes""#, r#""\u00ff\u0000""#, "\"/wA=\"");
    check(r#"["null","int"]"#, "null", "null");
    check(r#"["null","int"]"#, "5", "5");
    check(
        r#"{"type":"array","items":{"type":"map","values":"int"}}"#,
        r#"[{},{"k":1}]"#,
        r#"[{},{"k":1}]"#,
    );
    check(
        r#"{"type":"record","name":"I","fields":[{"name":"p","type":"int"},{"name":"q","type":"int","default":2}]}"#,
        r#"{"p":1}"#,
        r#"{"p":1,"q":2}"#,
    );
    check(r#"{"type":"enum","name":"E","symbols":["A"]}"#, r#""A""#, "\"A\"");
    check(
        r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":1}"#,
        r#""\u000c""#,
        "\"1.2\"",
    );
    check(
        r#"{"type":"long","logicalType":"timestamp-millis"}"#,
        "1000",
        "1000",
    );
}

#[test]
fn a_wrong_default_harms_only_those_who_need_it() {
    let writer = record(r#"{"name":"a","type":"int"}"#);
    let both = record(r#"{"name":"a","type":"int"},{"name":"x","type":"long","default":"0"}"#);
    check(&writer, r#"{"a":1}"#, &both, "schemas-do-not-match");
    check(&both, r#"{"a":1,"x":2}"#, &both, r#"{"a":1,"x":2}"#);
}

#[test]
fn enums_fall_back_to_their_default() {
    let of = |rest: &str| format!(r#"{{"type":"enum","name":"E","symbols":{rest}}}"#);
    check(&of(r#"["A","B"]"#), "\"B\"", &of(r#"["B","A"]"#), "\"B\"");
    check(
        &of(r#"["A","B"]"#),
        "\"B\"",
        &of(r#"["A"],"default":"A""#),
        "\"A\"",
    );
    check(&of(r#"["A","B"]"#), "\"A\"", &of(r#"["A"]"#), "\"A\"");
    check(
        &of(r#"["A","B"]"#),
        "\"B\"",
        &of(r#"["A"]"#),
        "schemas-do-not-match",
    );
}

#[test]
fn unions_meet_branch_by_branch() {
    check(r#"["null","int"]"#, "5", r#""long""#, "5");
    check(r#"["null","int"]"#, "null", r#""long""#, "schemas-do-not-match");
    check(r#""int""#, "5", r#"["null","long"]"#, "5");
    check(r#""int""#, "5", r#"["double","int"]"#, "5");
    check(r#""int""#, "5", r#"["string","double","long"]"#, "5.0");
    check(r#""int""#, "5", r#"["null","string"]"#, "schemas-do-not-match");
    check(r#"["int","string"]"#, "\"x\"", r#"["string","null"]"#, "\"x\"");
    check(
        r#"["int","string"]"#,
        "1",
        r#"["string","null"]"#,
        "schemas-do-not-match",
    );
}

#[test]
fn named_types_meet_by_name_or_alias() {
    let fixed = |name: &str| format!(r#"{{"type":"fixed","name":"{name}","size":1}}"#);
    check(&fixed("a.F"), "\"AA==\"", &fixed("b.F"), "\"AA==\"");
    check(&fixed("a.F"), "\"AA==\"", &fixed("a.G"), "schemas-do-not-match");
    check(
        &fixed("n.Old"),
        "\"AA==\"",
        r#"{"type":"fixed","name":"n.New","aliases":["Old"],"size":1}"#,
        "\"AA==\"",
    );
    check(
        &fixed("F"),
        "\"AA==\"",
        r#"{"type":"fixed","name":"F","size":2}"#,
        "schemas-do-not-match",
    );
    check(
        &fixed("F"),
        "\"AA==\"",
        r#"{"type":"enum","name":"F","symbols":["A"]}"#,
        "schemas-do-not-match",
    );
    let two = r#"[{"type":"record","name":"x.R","fields":[]},{"type":"record","name":"y.R","fields":[{"name":"f","type":"int","default":1}]}]"#;
    check(
        r#"{"type":"record","name":"y.R","fields":[]}"#,
        "{}",
        two,
        "{\"f\":1}",
    );
}

#[test]
fn two_logical_types_are_never_mixed_up() {
    let of = |kind: &str, name: &str| format!(r#"{{"type":"{kind}","logicalType":"{name}"}}"#);
    check(
        &of("long", "timestamp-millis"),
        "1",
        &of("long", "timestamp-millis"),
        "1",
    );
    check(
        &of("long", "timestamp-millis"),
        "1",
        &of("long", "timestamp-micros"),
        "schemas-do-not-match",
    );
    check(&of("long", "timestamp-millis"), "1", r#""long""#, "1");
    check(r#""long""#, "1", &of("long", "timestamp-millis"), "1");
    check(r#""int""#, "1", &of("long", "timestamp-millis"), "1");
    check(
        &of("int", "date"),
        "1",
        &of("long", "timestamp-millis"),
        "schemas-do-not-match",
    );
    let decimal = |precision, scale| {
        format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#)
    };
    check(&decimal(4, 2), "\"1.20\"", &decimal(9, 2), "\"1.20\"");
    check(&decimal(4, 2), "\"1.20\"", &decimal(9, 3), "schemas-do-not-match");
}

#[test]
fn schemas_that_hold_themselves_meet() {
    let list = |kind: &str| {
        format!(
            r#"{{"type":"record","name":"L","fields":[{{"name":"v","type":"{kind}"}},{{"name":"next","type":["null","L"]}}]}}"#
        )
    };
    check(
        &list("int"),
        r#"{"v":1,"next":{"v":2,"next":null}}"#,
        &list("double"),
        r#"{"v":1.0,"next":{"v":2.0,"next":null}}"#,
    );
    // Two rings of coprime lengths meet in all their pairs, without recursion.
    let ring = |length: usize| {
        let links: Vec<String> = (0..length)
            .map(|at| format!(r#"{{"type":"record","name":"n{at}.R","fields":[{{"name":"next","type":["null","n{}.R"]}}]}}"#, (at + 1) % length))
            .collect();
        links
    };
    let references = |length: usize| -> Vec<(String, String)> {
        ring(length)
            .into_iter()
            .enumerate()
            .map(|(at, text)| (format!("n{at}.R"), text))
            .collect()
    };
    let (one, other) = (references(61), references(59));
    let one = crate::Schema::parse("n0.R", &one).unwrap();
    let other = crate::Schema::parse("n0.R", &other).unwrap();
    let plan = crate::plan::Plan::new(&one.into(), &other.into()).unwrap();
    assert!(plan.steps.len() > 61 * 59, "{}", plan.steps.len());
}
