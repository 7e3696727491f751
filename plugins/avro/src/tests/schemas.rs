use super::*;
use crate::Schema;

/// Why a text is no schema.
fn check(text: &str, expected: &str) {
    let why = Bench::new([])
        .codec
        .prepare(&named(text, 1, &[]))
        .err()
        .expect(text);
    assert_eq!(why.code, "schema-invalid");
    assert!(why.reason.contains(expected), "{text}: {}", why.reason);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    check("{", "the root is no JSON: at byte 1");
    check("7", "the root is no type");
    check("\"strin\"", "the root names the type `strin`, and there is none");
    check("{}", "the root has no `type`");
    check("[]", "a union of nothing");
    check(r#"["int","int"]"#, "/1 is the second `int`");
    check(r#"["int",["null"]]"#, "/1 is a union in a union");
    check(r#"{"type":"array"}"#, "has no `items`");
    check(
        r#"{"type":"map","values":{"type":"array","items":"x"}}"#,
        "/values/items names the type `x`",
    );
    check(
        r#"{"type":"record","name":"R"}"#,
        "the record `R` without a list of `fields`",
    );
    check(r#"{"type":"record","fields":[]}"#, "has no `name`");
    check(&field(r#""strin""#, ""), "/fields/0/type names the type `strin`");
    check(
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
        "/fields/1 is the second field `a`",
    );
    check(
        r#"{"type":"record","name":"R","fields":[{"name":"1a","type":"int"}]}"#,
        "/fields/0 is a field whose name `1a`",
    );
    check(
        r#"{"type":"enum","name":"E","symbols":["A","B","A"]}"#,
        "/symbols/2 is the second `A`",
    );
    check(
        r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#,
        "its default `B`",
    );
    check(r#"{"type":"fixed","name":"F","size":-1}"#, "without a `size`");
    check(
        r#"{"type":"fixed","name":"F","size":99999999999999999999}"#,
        "without a `size`",
    );
    check(
        r#"{"type":"fixed","name":"int","size":1}"#,
        "a type of Avro's own",
    );
    check(
        r#"[{"type":"fixed","name":"F","size":1},{"type":"record","name":"R","fields":[{"name":"f","type":{"type":"enum","name":"F","symbols":[]}}]}]"#,
        "/1/fields/0/type is the second type of the name `F`",
    );
    check(
        &format!(
            "{}\"int\"{}",
            r#"{"type":"array","items":"#.repeat(300),
            "}".repeat(300)
        ),
        "nested too deeply",
    );
}

#[test]
fn the_same_text_is_read_the_same_and_a_name_alone_is_a_schema() {
    for text in [
        "\"string\"",
        "string",
        r#"{"type":"string"}"#,
        r#"{"type":{"type":"string"}}"#,
    ] {
        assert_eq!(
            Schema::parse(text, &[]).unwrap().canonical(),
            "\"string\"",
            "{text}"
        );
    }
}

#[test]
fn references_are_found_whatever_their_order() {
    let parse = |text: &str, references: &[(&str, &str)]| {
        let references: Vec<_> = references
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        Schema::parse(text, &references)
    };
    let money = r#"{"type":"record","name":"shop.Money","fields":[{"name":"currency","type":"Currency"}]}"#;
    let currency = r#"{"type":"enum","name":"Currency","namespace":"shop","symbols":["EUR"]}"#;
    let order = r#"{"type":"record","name":"shop.Order","fields":[{"name":"total","type":"shop.Money"},{"name":"paid","type":"Money"}]}"#;
    for references in [
        [("shop.Money", money), ("shop.Currency", currency)],
        [("currency.avsc", currency), ("money.avsc", money)],
    ] {
        let schema = parse(order, &references).unwrap();
        assert!(schema.canonical().contains(r#""symbols":["EUR"]"#));
        // Without references it is still one whole schema.
        let whole = schema.whole();
        assert_eq!(parse(&whole, &[]).unwrap().fingerprint(), schema.fingerprint());
    }
    assert!(parse(order, &[("a", money), ("b", currency), ("c", money)]).is_ok());
    let why = parse(
        order,
        &[(
            "shop.Money",
            r#"{"type":"record","name":"shop.Money","fields":[{"name":"x","type":"nothing"}]}"#,
        )],
    )
    .unwrap_err();
    assert_eq!(
        why.to_string(),
        "in its reference shop.Money, /fields/0/type names the type `shop.nothing`, and there is none of that name"
    );
}

#[test]
fn fingerprints_are_the_specification_s() {
    let check = |text: &str, canonical: &str, fingerprint: u64| {
        let schema = Schema::parse(text, &[]).unwrap();
        assert_eq!(schema.canonical(), canonical);
        assert_eq!(
            format!("{:016x}", schema.fingerprint()),
            format!("{fingerprint:016x}"),
            "{text}"
        );
    };
    // As Avro's own libraries have them.
    check("\"null\"", "\"null\"", 7_195_948_357_588_979_594);
    check(r#"{"type":"boolean"}"#, "\"boolean\"", 0x9f42_fc78_a4d4_f764);
    check(
        r#"{"type":"fixed", "name":"Test", "size":1}"#,
        r#"{"name":"Test","type":"fixed","size":1}"#,
        0x5b35_4940_7b89_6968,
    );
    // Logical types, defaults and documentation are not in it.
    check(
        r#"{"type":"record","name":"a","doc":"d","fields":[{"name":"d","default":"","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}},{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#,
        r#"{"name":"a","type":"record","fields":[{"name":"d","type":"bytes"},{"name":"t","type":"long"}]}"#,
        u64::from_le_bytes([0xde, 0x1f, 0x0c, 0x7d, 0xfc, 0x4f, 0x17, 0xa1]), // as fastavro has it
    );
}

#[test]
fn a_schema_that_no_data_could_have_is_refused() {
    // A chain of names, each in a reference of its own: deeper than a stack, and than any value.
    let references: Vec<_> = (0..5_000)
        .map(|at| {
            let text = format!(
                r#"{{"type":"record","name":"R{at}","fields":[{{"name":"f","type":"R{}"}}]}}"#,
                at + 1
            );
            (format!("R{at}"), text)
        })
        .collect();
    let why = Schema::parse("R0", &references).unwrap_err();
    assert_eq!(why.why, "is nested too deeply");
    let chain: Vec<String> = (0..5_000)
        .map(|at| match at {
            0 => r#"{"type":"record","name":"R0","fields":[]}"#.to_owned(),
            _ => format!(
                r#"{{"type":"record","name":"R{at}","fields":[{{"name":"f","type":"R{}"}}]}}"#,
                at - 1
            ),
        })
        .collect();
    let list = [("all".to_owned(), format!("[{}]", chain.join(",")))];
    assert_eq!(
        Schema::parse("R4999", &list).unwrap_err().why,
        "holds types that lie too deep in each other"
    );
    let flat = Schema::parse(&list[0].1, &[]).unwrap();
    assert!(flat.canonical().len() > 100_000);
}
