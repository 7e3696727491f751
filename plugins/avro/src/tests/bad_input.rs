use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn check(schema: &str, bytes: &[u8], code: &str) {
    let mut bench = Bench::new([]);
    let why = bench.to_json(schema, schema, bytes).unwrap_err();
    assert_eq!(why.code, code, "{schema}: {bytes:?}: {}", why.reason);
    assert_eq!(
        bench.decode(schema, schema, bytes).unwrap_err().code,
        code,
        "{schema}: {bytes:?}"
    );
    // What the reader does not want is looked at as closely.
    let writer = format!(
        r#"{{"type":"record","name":"W","fields":[{{"name":"f","type":{schema}}},{{"name":"g","type":"int"}}]}}"#
    );
    let reader = r#"{"type":"record","name":"W","fields":[{"name":"g","type":"int"}]}"#;
    if code != "trailing-bytes" {
        assert!(
            bench.to_json(&writer, reader, bytes).is_err(),
            "{schema}: {bytes:?}"
        );
    }
}

#[test]
fn bytes_that_mean_nothing_have_their_code() {
    check(r#""int""#, &[], "truncated");
    check(r#""int""#, &[0x80], "truncated");
    check(r#""long""#, &[0x80; 10], "malformed");
    check(
        r#""long""#,
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        "malformed",
    );
    check(r#""boolean""#, &[2], "malformed");
    check(r#""double""#, &[0; 7], "truncated");
    check(r#""string""#, &[1], "malformed");
    check(r#""string""#, &[4, b'a'], "truncated");
    check(
        r#""bytes""#,
        &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        "truncated",
    );
    check(
        r#"{"type":"fixed","name":"F","size":2147483647}"#,
        &[0; 100],
        "truncated",
    );
    check(r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[2], "malformed");
    check(r#"{"type":"enum","name":"E","symbols":["A"]}"#, &[1], "malformed");
    check(r#"["null","int"]"#, &[4], "malformed");
    check(r#"["null","int"]"#, &[1], "malformed");
    check(r#"{"type":"array","items":"int"}"#, &[2, 2], "truncated");
    check(r#"{"type":"array","items":"int"}"#, &[1, 1, 2], "malformed");
    check(r#"{"type":"array","items":"int"}"#, &[1, 100, 2], "truncated");
    check(r#"{"type":"array","items":"int"}"#, &[1, 4, 2, 0], "malformed");
    check(r#""null""#, &[0], "trailing-bytes");
}

#[test]
fn a_text_must_be_utf_8_and_an_int_have_32_bits() {
    let codes = |schema: &str, bytes: &[u8]| Bench::new([]).to_json(schema, schema, bytes).unwrap_err().code;
    assert_eq!(codes(r#""string""#, &[2, 0xff]), "malformed");
    assert_eq!(codes(r#""int""#, &[0x80, 0x80, 0x80, 0x80, 0x20]), "malformed");
}

#[test]
fn lengths_that_are_only_claimed_cost_nothing() {
    let started = Instant::now();
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    check(r#"{"type":"array","items":"null"}"#, &huge, "too-large");
    check(
        r#"{"type":"array","items":{"type":"record","name":"R","fields":[]}}"#,
        &huge,
        "too-large",
    );
    check(r#"{"type":"array","items":"int"}"#, &huge, "truncated");
    check(r#"{"type":"map","values":"null"}"#, &huge, "truncated");
    // Records of nothing that multiply: 100^6 values in no bytes.
    let deepest = (0..6).fold("\"null\"".to_owned(), |inner, level| {
        let fields: Vec<String> = (0..100)
            .map(|at| match at {
                0 => format!(r#"{{"name":"f0","type":{inner}}}"#),
                _ if level == 0 => format!(r#"{{"name":"f{at}","type":"null"}}"#),
                _ => format!(r#"{{"name":"f{at}","type":"R{}"}}"#, level - 1),
            })
            .collect();
        format!(
            r#"{{"type":"record","name":"R{level}","fields":[{}]}}"#,
            fields.join(",")
        )
    });
    check(&deepest, &[], "too-large");
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn depth_ends_at_a_hundred() {
    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    let mut bench = Bench::new([]);
    let deep = |depth: usize| [vec![2; depth - 1], vec![0]].concat();
    let json = bench.to_json(list, list, &deep(100)).unwrap();
    assert_eq!(bench.from_json(list, &json), Ok(deep(100)));
    check(list, &deep(101), "too-deep");
    check(list, &deep(1_000_000), "too-deep");
    let nested = format!("{}null{}", r#"{"next":"#.repeat(101), "}".repeat(101));
    assert_eq!(bench.from_json(list, &nested).unwrap_err().code, "not-json");
    // A record that always holds itself has no end, and no bytes.
    check(
        r#"{"type":"record","name":"R","fields":[{"name":"f","type":"R"}]}"#,
        &[],
        "too-deep",
    );
}

/// A component's stack is 1 MiB, and wasmtime gives half of that to its frames. Optimised builds must get along with it;
/// others have larger frames.
#[test]
fn the_deepest_input_fits_on_a_small_stack() {
    let size = if cfg!(debug_assertions) {
        2 << 20
    } else {
        448 << 10
    };
    let deep = || {
        let nested = |depth: usize| {
            let record = |at: usize, inner: &str| {
                format!(
                    r#"{{"type":"record","name":"R{at}","fields":[{{"name":"f","type":["null",{inner}]}}]}}"#
                )
            };
            (0..depth).fold("\"int\"".to_owned(), |inner, at| record(at, &inner))
        };
        // A record takes four levels of JSON: 64 of them are as deep as a schema may be.
        let deepest = nested(63);
        let _ = crate::Schema::parse(&deepest, &[]).unwrap().whole();
        crate::Schema::parse(&nested(65), &[]).unwrap_err();
        let references: Vec<_> = (0..2_000)
            .map(|at| {
                let text = format!(
                    r#"{{"type":"record","name":"R{at}","fields":[{{"name":"f","type":"R{}"}}]}}"#,
                    at + 1
                );
                (format!("R{at}"), text)
            })
            .collect();
        crate::Schema::parse("R0", &references).unwrap_err();
        let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null",{"type":"array","items":"L"}]}]}"#;
        let mut bench = Bench::new([]);
        let bytes = [[2, 2].repeat(49), vec![0], vec![0; 49]].concat();
        let json = bench.to_json(list, list, &bytes).unwrap();
        assert_eq!(bench.from_json(list, &json).as_ref(), Ok(&bytes));
        let tree = bench.decode(list, list, &bytes).unwrap();
        assert_eq!(bench.encode(list, &tree), Ok(bytes));
    };
    std::thread::Builder::new()
        .stack_size(size)
        .spawn(deep)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn defaults_cannot_be_multiplied_without_end() {
    let writer = r#"{"type":"array","items":{"type":"record","name":"R","fields":[]}}"#;
    let text = "x".repeat(100_000);
    let reader = format!(
        r#"{{"type":"array","items":{{"type":"record","name":"R","fields":[{{"name":"f","type":"string","default":"{text}"}}]}}}}"#
    );
    let mut bench = Bench::new([]);
    let bytes = [0x80, 0x89, 0x7a, 0x00]; // 1,000,000 / 1 items
    assert_eq!(
        bench.to_json(writer, &reader, &bytes).unwrap_err().code,
        "too-large"
    );
    assert_eq!(
        bench.decode(writer, &reader, &bytes).unwrap_err().code,
        "too-large"
    );
}

/// All types there are, in one record that holds itself.
const ALL: &str = r#"{"type":"record","name":"n.All","fields":[
    {"name":"a","type":"boolean"},{"name":"b","type":"int"},{"name":"c","type":"long"},
    {"name":"d","type":"float"},{"name":"e","type":"double"},{"name":"f","type":"bytes"},{"name":"g","type":"string"},
    {"name":"h","type":{"type":"array","items":["null","All","long"]}},
    {"name":"i","type":{"type":"map","values":["string",{"type":"array","items":"bytes"}]}},
    {"name":"j","type":{"type":"enum","name":"E","symbols":["A","B","C"]}},
    {"name":"k","type":{"type":"fixed","name":"F","size":5}},
    {"name":"l","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":4}},
    {"name":"m","type":{"type":"fixed","name":"D","size":12,"logicalType":"duration"}},
    {"name":"n","type":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}},
    {"name":"o","type":{"type":"int","logicalType":"date"}},
    {"name":"p","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;

/// The same, with all that resolution has to do.
const OTHER: &str = r#"{"type":"record","name":"other.All","fields":[
    {"name":"g","type":"bytes"},{"name":"b","type":"double"},{"name":"new","type":["null","All"],"default":null},
    {"name":"h","type":{"type":"array","items":["All","double","null"]}},
    {"name":"x","aliases":["j"],"type":{"type":"enum","name":"E","symbols":["B","D"],"default":"D"}},
    {"name":"p","type":"long"}]}"#;

const VALUE: &str = r#"{"a":true,"b":-5,"c":1234567890123,"d":0.5,"e":-1e100,"f":"AAEC","g":"text \u00e9",
    "h":[null,7,{"a":false,"b":0,"c":0,"d":0,"e":0,"f":"","g":"","h":[],"i":{},"j":"A","k":"AAAAAAA=","l":"0",
        "m":{"months":0,"days":0,"millis":0},"n":"00000000-0000-0000-0000-000000000000","o":0,"p":0}],
    "i":{"x":"y","z":["AA==","AQ=="]},"j":"C","k":"AQIDBAU=","l":"-123456.7890",
    "m":{"months":1,"days":2,"millis":3},"n":"00112233-4455-6677-8899-aabbccddeeff","o":19000,"p":1700000000000}"#;

struct Pair {
    bench: Bench,
    writer: crate::codec::Prepared,
    reader: crate::codec::Prepared,
    valid: Vec<u8>,
}

impl Pair {
    fn new() -> Pair {
        let mut bench = Bench::new([]);
        let valid = bench.from_json(ALL, VALUE).unwrap();
        let (writer, reader) = (bench.schema(ALL), bench.schema(OTHER));
        Pair {
            bench,
            writer,
            reader,
            valid,
        }
    }

    /// There is an answer, it is the same for a tree as for JSON, and what is read can be written again.
    fn check(&mut self, bytes: &[u8]) {
        let code = |fault: &Fault| match fault {
            Fault::Reject(rejection) => rejection.code.clone(),
            Fault::Failure(failure) => panic!("{}", failure.text()),
        };
        let codec = &mut self.bench.codec;
        let mut json = Vec::new();
        let read = codec.to_json(&self.writer, &self.writer, bytes, &mut json);
        let tree = codec.decode(&self.writer, &self.writer, bytes);
        if let (Ok(()), Ok(tree)) = (&read, &tree) {
            // Data may hold a decimal of more digits than its schema allows. It is shown as it is, and not written.
            let written = codec.encode(&self.writer, tree, &mut Vec::new());
            let from_json = codec.from_json(&self.writer, &json, &mut Vec::new());
            for (from, written) in [("tree", written), ("JSON", from_json)] {
                let is_sound = written
                    .as_ref()
                    .err()
                    .is_none_or(|fault| code(fault) == "out-of-range");
                assert!(is_sound, "{bytes:?} by {from}: {written:?}");
            }
        }
        // Only a tree has a limit of its own: timestamps in microseconds.
        match (&read, &tree) {
            (Ok(()), Err(fault)) => assert_eq!(code(fault), "out-of-range"),
            (Err(one), Err(other)) => assert!(
                code(one) == code(other) || code(other) == "out-of-range",
                "{one:?} {other:?}"
            ),
            (Err(fault), Ok(_)) => panic!("{fault:?}"),
            (Ok(()), Ok(_)) => {}
        }
        let _ = codec.to_json(&self.writer, &self.reader, bytes, &mut json);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        Pair::new().check(&bytes);
    }

    #[test]
    fn any_json_has_an_answer(text in "[\\[\\]{}\",:0-9eE.+\\-a \\\\ubtrnfls]{0,40}") {
        let mut pair = Pair::new();
        let _ = pair.bench.codec.from_json(&pair.writer, text.as_bytes(), &mut Vec::new());
    }

    /// Ours reads what a strict parser reads, and no more than a lax one.
    #[test]
    fn json_is_read_as_others_read_it(text in "[\\[\\]{}\",:0-9eE.+\\-a \\\\ubtrnfls]{0,24}") {
        let ours = plain::json::Json::parse(text.as_bytes(), 100).is_ok();
        let strict = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let lax = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert!(!strict || ours, "{text}");
        prop_assert!(!ours || lax, "{text}");
    }

    #[test]
    fn any_schema_has_an_answer(text in "[\\[\\]{}\",: a-z]{0,40}", at in 0usize..1_000, byte in any::<u8>()) {
        let _ = crate::Schema::parse(&text, &[]);
        let mut mutated = ALL.as_bytes().to_vec();
        let at = at % mutated.len();
        mutated[at] = byte;
        if let Ok(schema) = crate::Schema::parse(&String::from_utf8_lossy(&mutated), &[]) {
            let again = crate::Schema::parse(&schema.whole(), &[]).expect("what is written is read");
            prop_assert_eq!(again.fingerprint(), schema.fingerprint());
        }
    }
}

/// Valid bytes with bytes changed, cut, doubled and put in, for a few seconds; `CULVERT_FUZZ_SECONDS` for longer.
#[test]
fn mutated_bytes_have_an_answer() {
    let seconds = std::env::var("CULVERT_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut pair = Pair::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let valid = pair.valid.clone();
    pair.check(&valid);
    let mut count = 0;
    while Instant::now() < deadline {
        let mut bytes = valid.clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(5) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes[at] ^= 1 << next(8),
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, next(256) as u8),
                _ => {
                    let end = (at + next(20)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        pair.check(&bytes);
        count += 1;
    }
    assert!(count > 1_000, "{count} mutations");
}
