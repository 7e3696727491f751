use super::*;

fn check_invalid(text: &str, part: &str) {
    let refused = Bench::new([]).codec.prepare(&named(text, ""));
    let why = refused.err().unwrap_or_else(|| panic!("{text} is taken"));
    assert_eq!(why.code, "schema-invalid");
    assert!(why.reason.contains(part), "{text}: {}", why.reason);
}

#[test]
fn what_is_wrong_with_a_schema_is_named() {
    check_invalid("", "declares no message");
    check_invalid("syntax = \"proto3\";\nmessage M { int32 a = ; }", "line 2: ");
    check_invalid("syntax = \"proto3\"; message M { Other a = 1; }", "Other");
    check_invalid("syntax = \"proto3\"; import \"x.proto\"; message M {}", "x.proto");
    check_invalid("edition = \"2023\"; message M {}", "");
    check_invalid("AAAA", "no descriptors");
    check_invalid(
        &format!("message M {}{}", "{ message M ".repeat(100), "}".repeat(100)),
        "64 deep",
    );
    let refused = Bench::new([]).codec.prepare(&named("message M {}", "N"));
    assert!(refused.is_err_and(|why| why.reason.contains("no message `N`")));
}

#[test]
fn custom_options_need_no_definition_and_built_in_imports_no_reference() {
    let text = r#"syntax = "proto3"; import "confluent/meta.proto"; import "confluent/type/decimal.proto";
        message M { confluent.type.Decimal a = 1 [(confluent.field_meta).doc = "x", (other.option) = 3]; }"#;
    let mut bench = Bench::new([]);
    let schema = bench.schema(text);
    let json = r#"{"a":{"value":"AQ==","scale":2}}"#;
    let bytes = bench.from_json(&schema, json).unwrap();
    assert_eq!(bench.to_json(&schema, &schema, &bytes).as_deref(), Ok(json));
}
