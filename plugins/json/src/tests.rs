//! The codec from outside.

use crate::{JsonCodec, Settings};
use culvert_plugin::codec::{Codec, Schema as Named};
use culvert_plugin::testing::settings;
use culvert_plugin::{Fault, Rejection};
use proptest::prelude::*;

fn codec(with: &[(&'static str, &'static str)]) -> JsonCodec {
    JsonCodec::open(settings::<Settings>(with.iter().copied()).unwrap()).unwrap()
}

fn named(text: &str, references: &[(&str, &str)]) -> Named {
    Named {
        id: 7,
        subject: "s-value".to_owned(),
        version: 1,
        text: text.to_owned(),
        references: references
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
        attributes: Vec::new(),
    }
}

fn rejected<T>(answer: Result<T, Fault>) -> Result<T, Rejection> {
    answer.map_err(|fault| match fault {
        Fault::Reject(rejection) => rejection,
        Fault::Failure(failure) => panic!("the call failed: {}", failure.text()),
    })
}

/// What is said of a value: nothing, or code and field.
fn said(codec: &mut JsonCodec, schema: &Named, value: &[u8]) -> String {
    let schema = codec
        .prepare(schema)
        .unwrap_or_else(|why| panic!("{}", why.reason));
    let mut json = Vec::new();
    match rejected(codec.to_json(&schema, &schema, value, &mut json)) {
        Ok(()) => String::new(),
        Err(why) => format!("{} {}", why.code, why.field.unwrap_or_default())
            .trim()
            .to_owned(),
    }
}

#[test]
fn the_place_of_a_fault_is_named() {
    let check = |schema: &str, value: &str, expected: &str| {
        let found = said(&mut codec(&[]), &named(schema, &[]), value.as_bytes());
        assert_eq!(found, expected, "{schema}: {value}");
    };
    let order = r#"{"type":"object","required":["id"],"additionalProperties":false,
        "properties":{"id":{"type":"integer"},"a/b":{"items":{"minimum":1}}}}"#;
    check(order, r#"{"id":1,"a/b":[1,2]}"#, "");
    check(order, r#"{"id":1.0}"#, "");
    check(order, r#"{"id":1,"a/b":[1,0]}"#, "schema-violation /a~1b/1");
    check(order, r#"{"id":1,"x":2}"#, "schema-violation /x");
    check(order, "{}", "schema-violation");
    check(order, "{", "not-json");
    // No digit is lost.
    check(
        r#"{"maximum":9007199254740992}"#,
        "9007199254740993",
        "schema-violation",
    );
    check(r#"{"multipleOf":0.01}"#, "1234567890123456.78", "");
    check(r#"{"const":1e400}"#, "1e400", "");
}

#[test]
fn references_are_found_by_name_and_by_address() {
    let main = r#"{"$id":"http://example.org/main.json","properties":{"a":{"$ref":"a.json"},"b":{"$ref":"b.json#/definitions/x"}}}"#;
    let references = [
        ("a.json", r#"{"type":"string"}"#),
        (
            "other",
            r#"{"$id":"http://example.org/b.json","definitions":{"x":{"type":"null"}}}"#,
        ),
    ];
    let schema = named(main, &references);
    assert_eq!(said(&mut codec(&[]), &schema, br#"{"a":"x","b":null}"#), "");
    assert_eq!(
        said(&mut codec(&[]), &schema, br#"{"a":1}"#),
        "schema-violation /a"
    );
    assert_eq!(
        said(&mut codec(&[]), &schema, br#"{"b":1}"#),
        "schema-violation /b"
    );
}

#[test]
fn what_is_no_schema_is_refused() {
    let check = |schema: &str, part: &str| {
        let why = codec(&[])
            .prepare(&named(schema, &[]))
            .err()
            .unwrap_or_else(|| panic!("{schema} is taken"));
        assert_eq!(why.code, "schema-invalid");
        assert!(why.reason.contains(part), "{schema}: {}", why.reason);
    };
    check("[]", "neither an object nor a boolean");
    check("{", "no JSON");
    check(r#"{"$schema":"http://example.org/own"}"#, "not known");
    check(r#"{"$ref":"missing.json"}"#, "not among the references");
    check(r##"{"$ref":"#/definitions/x"}"##, "leads nowhere");
    check(r#"{"type":"text"}"#, "no type `text`");
    check(r#"{"pattern":"("}"#, "no pattern");
    check(r#"{"minLength":-1}"#, "`minLength`");
    check(r#"{"multipleOf":0}"#, "not above 0");
}

#[test]
fn frames_and_formats_are_settings() {
    let schema = named(r#"{"format":"date-time"}"#, &[]);
    let mut framed = codec(&[("framing", "confluent")]);
    assert_eq!(said(&mut framed, &schema, b"\0\0\0\0\x07\"x\""), "");
    assert_eq!(
        said(&mut framed, &schema, b"\0\0\0\0\x08\"x\""),
        "schema-id-mismatch"
    );
    assert_eq!(said(&mut framed, &schema, b"\"x\""), "bad-framing");
    let prepared = framed.prepare(&schema).unwrap();
    let mut bytes = Vec::new();
    rejected(framed.from_json(&prepared, b" [1]", &mut bytes)).unwrap();
    assert_eq!(bytes, b"\0\0\0\0\x07 [1]");
    let mut checking = codec(&[("formats", "check")]);
    assert_eq!(said(&mut checking, &schema, b"\"x\""), "schema-violation");
    assert_eq!(said(&mut checking, &schema, b"\"2026-01-31T12:30:00Z\""), "");
}

#[test]
fn trees_keep_every_digit() {
    let text = r#"{"a":[1,-1,18446744073709551615,0.5,-0,null,true,"x"],"b":123456789012345678901234567890,"c":0.1234567890123456789}"#;
    let mut codec = codec(&[]);
    let schema = codec.prepare(&named("{}", &[])).unwrap();
    let tree = rejected(codec.decode(&schema, &schema, text.as_bytes())).unwrap();
    let mut json = Vec::new();
    rejected(codec.encode(&schema, &tree, &mut json)).unwrap();
    assert_eq!(String::from_utf8(json).unwrap(), text.replace("-0,", "-0.0,"));
}

/// As in a component, whose stack is 1 MiB; builds that are not optimised have larger frames.
#[test]
fn endless_schemas_and_deep_values_end_on_a_small_stack() {
    let size = if cfg!(debug_assertions) {
        4 << 20
    } else {
        448 << 10
    };
    let run = || {
        let check = |schema: &str, value: &str, expected: &str| {
            let found = said(&mut codec(&[]), &named(schema, &[]), value.as_bytes());
            assert_eq!(found.split(' ').next(), Some(expected), "{schema}");
        };
        check(r##"{"$ref":"#"}"##, "1", "too-deep");
        check(
            r##"{"items":{"$ref":"#"}}"##,
            &format!("{}{}", "[".repeat(100), "]".repeat(100)),
            "",
        );
        check("{}", &"[".repeat(100_000), "not-json");
        let twice =
            r##"{"anyOf":[{"items":{"$ref":"#"},"type":"array"},{"items":{"$ref":"#"},"type":"array"}]}"##;
        let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
        check(twice, &deep, "too-large");
    };
    let thread = std::thread::Builder::new().stack_size(size).spawn(run);
    thread.unwrap().join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_schema_and_value_have_an_answer(
        schema in "[\\[\\]{}\",:0-9a-z$#/]{0,40}", at in 0usize..200, byte in any::<u8>(), value in "[\\[\\]{}\",:0-9a-z]{0,30}",
    ) {
        const ALL: &str = r##"{"type":["object","array"],"properties":{"a":{"$ref":"#"}},"items":[{"pattern":"^a+$"}],
            "additionalItems":{"not":{"enum":[1]}},"dependencies":{"a":["b"]},"if":{"minItems":2},"then":false}"##;
        let mut codec = codec(&[("formats", "check")]);
        let mut mutated = ALL.as_bytes().to_vec();
        let at = at % mutated.len();
        mutated[at] = byte;
        for schema in [schema, String::from_utf8_lossy(&mutated).into_owned()] {
            if let Ok(schema) = codec.prepare(&named(&schema, &[])) {
                let text = rejected(codec.to_json(&schema, &schema, value.as_bytes(), &mut Vec::new()));
                let tree = rejected(codec.decode(&schema, &schema, value.as_bytes()));
                prop_assert_eq!(text.map_err(|why| why.code), tree.map(drop).map_err(|why| why.code));
            }
        }
    }
}
