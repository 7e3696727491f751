use super::*;
use culvert_plugin::codec::Node;
use plain::number::{decimal_bytes, decimal_text, widened};

/// Bytes, what they are in the tree, and as JSON in both formats of times.
fn check(schema: &str, bytes: &[u8], node: &Node, number: &str, iso: &str) {
    for (format, expected) in [("number", number), ("iso", iso)] {
        let mut bench = Bench::new([("time.format", format)]);
        let json = bench.to_json(schema, schema, bytes).unwrap();
        assert_eq!(json, expected, "{schema}");
        assert_eq!(
            bench.from_json(schema, &json).as_deref(),
            Ok(bytes),
            "{schema}: {json}"
        );
        let tree = bench.decode(schema, schema, bytes).unwrap();
        assert_eq!(&tree.nodes[0], node, "{schema}");
        assert_eq!(
            bench.encode(schema, &tree).as_deref(),
            Ok(bytes),
            "{schema}: {tree:?}"
        );
    }
}

#[test]
fn times_are_what_the_table_says() {
    check(
        r#"{"type":"int","logicalType":"date"}"#,
        &[0x01],
        &Node::Days(-1),
        "-1",
        "\"1969-12-31\"",
    );
    check(
        r#"{"type":"int","logicalType":"time-millis"}"#,
        &[0x02],
        &Node::Integer(1),
        "1",
        "\"00:00:00.001\"",
    );
    check(
        r#"{"type":"long","logicalType":"time-micros"}"#,
        &[0x02],
        &Node::Integer(1),
        "1",
        "\"00:00:00.000001\"",
    );
    let stamp = |name: &str| format!(r#"{{"type":"long","logicalType":"{name}"}}"#);
    let second = [0xd0, 0x0f]; // 1000
    check(
        &stamp("timestamp-millis"),
        &second,
        &Node::Timestamp(1_000_000),
        "1000",
        "\"1970-01-01T00:00:01.000Z\"",
    );
    check(
        &stamp("timestamp-micros"),
        &second,
        &Node::Timestamp(1_000),
        "1000",
        "\"1970-01-01T00:00:00.001000Z\"",
    );
    check(
        &stamp("timestamp-nanos"),
        &second,
        &Node::Integer(1_000),
        "1000",
        "\"1970-01-01T00:00:00.000001000Z\"",
    );
    check(
        &stamp("local-timestamp-millis"),
        &second,
        &Node::Timestamp(1_000_000),
        "1000",
        "\"1970-01-01T00:00:01.000\"",
    );
    check(
        &stamp("local-timestamp-micros"),
        &second,
        &Node::Timestamp(1_000),
        "1000",
        "\"1970-01-01T00:00:00.001000\"",
    );
}

#[test]
fn decimals_uuids_and_durations_are_what_the_table_says() {
    let node = |unscaled: &[u8]| {
        Node::Decimal(culvert_plugin::codec::Decimal {
            unscaled: unscaled.to_vec(),
            scale: 2,
        })
    };
    let bytes = r#"{"type":"bytes","logicalType":"decimal","precision":6,"scale":2}"#;
    check(
        bytes,
        &[0x04, 0x04, 0xce],
        &node(&[0x04, 0xce]),
        "\"12.30\"",
        "\"12.30\"",
    );
    check(bytes, &[0x02, 0xff], &node(&[0xff]), "\"-0.01\"", "\"-0.01\"");
    let fixed = r#"{"type":"fixed","name":"D","size":4,"logicalType":"decimal","precision":6,"scale":2}"#;
    check(
        fixed,
        &[0xff, 0xff, 0xfb, 0x32],
        &node(&[0xff, 0xff, 0xfb, 0x32]),
        "\"-12.30\"",
        "\"-12.30\"",
    );
    let id = "\"00112233-4455-6677-8899-aabbccddeeff\"";
    let raw: Vec<u8> = (0..16).map(|at| at * 0x11).collect();
    let text = Node::Text(id.trim_matches('"').to_owned());
    check(
        r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#,
        &raw,
        &text,
        id,
        id,
    );
    let framed = [&[72][..], id.trim_matches('"').as_bytes()].concat();
    check(
        r#"{"type":"string","logicalType":"uuid"}"#,
        &framed,
        &text,
        id,
        id,
    );
    let duration = r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#;
    let json = r#"{"months":1,"days":2,"millis":4294967295}"#;
    let span = Node::Entries(culvert_plugin::codec::Span { first: 1, count: 6 });
    check(
        duration,
        &[1, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255],
        &span,
        json,
        json,
    );
}

/// Turning bytes into digits costs the square of their number.
#[test]
fn a_decimal_has_a_limit_in_every_form() {
    let schema = r#"{"type":"bytes","logicalType":"decimal","precision":1000,"scale":2}"#;
    let datum = |bytes: &[u8]| {
        let size = u16::try_from(bytes.len() * 2).unwrap();
        let low = u8::try_from(size & 0x7f).unwrap() | 0x80;
        [&[low, u8::try_from(size >> 7).unwrap()], bytes].concat()
    };
    let mut bench = Bench::new([]);
    // What stands before the number itself does not count.
    for bytes in [[1; 256].as_slice(), &[0; 400], &[0xff; 400]] {
        bench.to_json(schema, schema, &datum(bytes)).unwrap();
        bench.decode(schema, schema, &datum(bytes)).unwrap();
    }
    let long = datum(&[1; 257]);
    let refusals = [
        bench.to_json(schema, schema, &long).expect_err("it is too long"),
        bench.decode(schema, schema, &long).expect_err("it is too long"),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code, "too-large", "{}", refusal.reason);
    }
}

#[test]
fn a_logical_type_that_does_not_fit_is_none() {
    for schema in [
        r#"{"type":"string","logicalType":"date"}"#,
        r#"{"type":"string","logicalType":"made-up"}"#,
        r#"{"type":"string","logicalType":7}"#,
    ] {
        check_round(schema, "\"x\"");
    }
    for wrong in [
        r#""precision":0"#,
        r#""precision":2,"scale":3"#,
        r#""scale":1"#,
        r#""precision":"4""#,
    ] {
        check_round(
            &format!(r#"{{"type":"bytes","logicalType":"decimal",{wrong}}}"#),
            "\"AA==\"",
        );
    }
    check_round(
        r#"{"type":"fixed","name":"F","size":2,"logicalType":"decimal","precision":5}"#,
        "\"AAA=\"",
    );
}

#[test]
fn nothing_is_rounded_into_a_type() {
    let refuses = |schema: &str, json: &str, code: &str| {
        let why = Bench::new([]).from_json(schema, json).expect_err(json);
        assert_eq!(why.code, code, "{schema}: {json}");
    };
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
    refuses(decimal, "\"1.234\"", "out-of-range");
    refuses(decimal, "\"123.45\"", "out-of-range");
    refuses(decimal, "\"abc\"", "wrong-type");
    refuses(decimal, "1e9999", "out-of-range");
    refuses(decimal, "\"1e99999999999999999999\"", "wrong-type");
    let stamp = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    refuses(stamp, "\"2024-01-01T00:00:00.0001Z\"", "wrong-type");
    refuses(stamp, "\"2024-02-30T00:00:00Z\"", "wrong-type");
    refuses(stamp, "\"2024-02-03T24:00:00Z\"", "wrong-type");
    refuses(stamp, "\"2024-02-03T23:00:00\"", "wrong-type");
    let schema = format!(r#"[{stamp},"double"]"#);
    let tree = |micros| Tree {
        nodes: vec![Node::Timestamp(micros)],
    };
    assert_eq!(
        Bench::new([]).encode(&schema, &tree(1_001)).unwrap_err().code,
        "wrong-type"
    );
    assert_eq!(
        Bench::new([]).encode(stamp, &tree(1_001)).unwrap_err().code,
        "out-of-range"
    );
    assert_eq!(
        Bench::new([]).encode(&schema, &tree(2_000)).as_deref(),
        Ok(&[0, 4][..])
    );
}

#[test]
fn iso_texts_are_read_with_their_zone() {
    let check = |text: &str, millis: &str| {
        let schema = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
        let mut bench = Bench::new([]);
        let bytes = bench.from_json(schema, text).unwrap();
        assert_eq!(
            bench.to_json(schema, schema, &bytes).as_deref(),
            Ok(millis),
            "{text}"
        );
    };
    check("\"2024-02-29T12:30:00Z\"", "1709209800000");
    check("\"2024-02-29T13:30:00.5+01:00\"", "1709209800500");
    check("\"2024-02-29 07:00:00.250000-0530\"", "1709209800250");
    check("\"0000-01-01T00:00:00Z\"", "-62167219200000");
    check("\"9999-12-31T23:59:59.999Z\"", "253402300799999");
}

#[test]
fn what_iso_cannot_say_is_refused() {
    let schema = r#"{"type":"int","logicalType":"date"}"#;
    let mut bench = Bench::new([("time.format", "iso")]);
    let far = bench.from_json(schema, "2147483647").unwrap();
    assert_eq!(
        bench.to_json(schema, schema, &far).unwrap_err().code,
        "out-of-range"
    );
    let stamp = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let far = bench.from_json(stamp, "9223372036854775807").unwrap();
    assert_eq!(bench.decode(stamp, stamp, &far).unwrap_err().code, "out-of-range");
}

#[test]
fn decimals_of_any_length_come_back() {
    // 2^127 and its neighbours, and numbers of more than 16 bytes.
    for text in [
        "0",
        "-1",
        "127",
        "128",
        "-128",
        "-129",
        "32768",
        "170141183460469231731687303715884105727",
        "-170141183460469231731687303715884105728",
        "170141183460469231731687303715884105728",
        "-170141183460469231731687303715884105729",
        "99999999999999999999999999999999999999999999999999999999999999999999999999999",
        "-100000000000000000000000000000000000000000000000000000000000000000000000000000",
    ] {
        let bytes = decimal_bytes(text, 100, 0).unwrap();
        assert_eq!(decimal_text(&bytes, 0).as_deref(), Some(text));
        let wide = widened(&bytes, 64).unwrap();
        assert_eq!(decimal_text(&wide, 0).as_deref(), Some(text));
    }
    assert_eq!(decimal_bytes("128", 3, 0), Ok(vec![0, 128]));
    assert_eq!(decimal_bytes("-128", 3, 0), Ok(vec![128]));
    assert_eq!(decimal_text(&[5], 3).as_deref(), Some("0.005"));
    assert_eq!(decimal_text(&[5], -3).as_deref(), Some("5000"));
    assert_eq!(decimal_text(&[], 2).as_deref(), Some("0.00"));
    assert_eq!(decimal_text(&[1; 257], 0), None);
    assert_eq!(widened(&[1, 2], 1), None);
}
