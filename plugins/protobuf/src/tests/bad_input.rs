use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// All kinds there are, in one message that holds itself.
const ALL: &str = r#"syntax = "proto2"; import "google/protobuf/any.proto"; import "google/protobuf/struct.proto";
    import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
    enum E { ZERO = 0; ONE = 1; }
    message M {
        optional int32 a = 1; optional sint64 b = 2; optional fixed32 c = 3; optional double d = 4; optional string e = 5;
        optional bytes f = 6; repeated int32 g = 7 [packed = true]; repeated string h = 8; map<string, M> i = 9;
        optional group Grouped = 10 { optional M m = 1; } optional E j = 11; optional M k = 12;
        oneof o { uint64 l = 13; M n = 14; } optional google.protobuf.Any p = 15; optional google.protobuf.Value q = 16;
        optional google.protobuf.Timestamp r = 17; optional google.protobuf.Duration s = 18; map<int32, bool> t = 19; }"#;

const VALUE: &str = r#"{"a":-1,"b":"-5","c":7,"d":0.5,"e":"text","f":"AAEC","g":[1,300,-1],"h":["x","y"],
    "i":{"k":{"a":1},"l":{}},"j":"ONE","k":{"k":{"n":{}}},"l":"9",
    "p":{"@type":"t/M","a":3},"q":{"x":[1,null,{"y":true}]},"r":"2026-01-31T00:00:00.5Z","s":"-1.5s","t":{"3":true}}"#;

struct Subject {
    bench: Bench,
    schema: Prepared,
}

impl Subject {
    fn new() -> Subject {
        let mut bench = Bench::new([]);
        let schema = bench.schema(ALL);
        Subject { bench, schema }
    }

    fn valid(&mut self) -> Vec<u8> {
        self.bench.from_json(&self.schema, VALUE).unwrap()
    }

    /// There is an answer, it is the same for a tree as for JSON, and what is read can be written again.
    fn check(&mut self, bytes: &[u8]) {
        let codec = &mut self.bench.codec;
        let mut json = Vec::new();
        let read = rejected(codec.to_json(&self.schema, &self.schema, bytes, &mut json));
        let tree = rejected(codec.decode(&self.schema, &self.schema, bytes));
        match (read, tree) {
            (Ok(()), Ok(tree)) => {
                let by_tree = rejected(codec.encode(&self.schema, &tree, &mut Vec::new()));
                let by_json = rejected(codec.from_json(&self.schema, &json, &mut Vec::new()));
                // JSON nests deeper than messages do where lists and objects are between them.
                let is_sound = |written: &Result<(), Rejection>| {
                    written
                        .as_ref()
                        .err()
                        .is_none_or(|why| ["too-deep", "not-json"].contains(&why.code.as_str()))
                };
                assert!(is_sound(&by_tree), "{bytes:?}: {by_tree:?}");
                assert!(
                    is_sound(&by_json),
                    "{bytes:?}: {by_json:?}: {}",
                    String::from_utf8_lossy(&json)
                );
            }
            (Err(one), Err(other)) => assert_eq!(one.code, other.code, "{bytes:?}"),
            (read, tree) => panic!("{bytes:?}: {read:?} {tree:?}"),
        }
    }
}

fn check_code(bytes: &[u8], code: &str) {
    let Subject { mut bench, schema } = Subject::new();
    let why = bench.to_json(&schema, &schema, bytes).unwrap_err();
    assert_eq!(why.code, code, "{bytes:?}: {}", why.reason);
}

#[test]
fn bytes_that_mean_nothing_have_their_code() {
    check_code(&[8], "truncated");
    check_code(&[0x80], "truncated");
    check_code(
        &[8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02],
        "malformed",
    );
    check_code(&[0, 1], "malformed"); // field number 0
    check_code(&[0x0f, 1], "malformed"); // wire type 7
    check_code(
        &[0x2a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        "truncated",
    );
    check_code(&[0x2a, 1, 0xff], "malformed"); // no UTF-8
    check_code(&[0x3a, 1, 0x80], "truncated"); // within packed numbers
    check_code(&[0x54], "malformed"); // a group ends that has not begun
    check_code(&[0x53, 0x5c], "malformed"); // another ends
    check_code(&[0x53], "truncated");
    check_code(&[0x0a, 0], "schemas-do-not-match");
    check_code(&[8, 0xff, 0xff, 0xff, 0xff, 0x7f], "out-of-range");
}

#[test]
fn depth_ends_at_a_hundred_on_a_small_stack() {
    let deep = |depth: usize| {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![0x62];
            crate::wire::put_varint(&mut outer, bytes.len() as u64);
            outer.append(&mut bytes);
            bytes = outer;
        }
        bytes
    };
    // As in a component, whose stack is 1 MiB; builds that are not optimised have larger frames.
    let size = if cfg!(debug_assertions) {
        2 << 20
    } else {
        448 << 10
    };
    let run = move || {
        let Subject { mut bench, schema } = Subject::new();
        let json = bench.to_json(&schema, &schema, &deep(99)).unwrap();
        assert_eq!(bench.from_json(&schema, &json), Ok(deep(99)));
        check_code(&deep(100), "too-deep");
        check_code(&deep(10_000), "too-deep");
        check_code(&[0x53; 1_000], "too-deep");
        check_code(&[0xa3, 1].repeat(1_000), "too-deep"); // groups that are not known
    };
    let thread = std::thread::Builder::new().stack_size(size).spawn(run);
    thread.unwrap().join().unwrap();
}

#[test]
fn many_small_fields_are_a_limit_and_no_load() {
    check_code(&[0x42, 0].repeat(1_000_001), "too-large");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        Subject::new().check(&bytes);
    }

    #[test]
    fn any_schema_has_an_answer(at in 0usize..1_000, byte in any::<u8>(), cut in 0usize..1_000) {
        let mut text = ALL.as_bytes().to_vec();
        let at = at % text.len();
        text[at] = byte;
        let text = String::from_utf8_lossy(&text).into_owned();
        let _ = Bench::new([]).codec.prepare(&named(&text, ""));
        let short: String = text.chars().take(cut).collect();
        let _ = Bench::new([]).codec.prepare(&named(&short, ""));
    }
}

/// Valid bytes with bytes changed, cut and put in, for a few seconds; `CULVERT_FUZZ_SECONDS` for longer.
#[test]
fn mutated_bytes_have_an_answer() {
    let seconds = std::env::var("CULVERT_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(3));
    let mut subject = Subject::new();
    let valid = subject.valid();
    subject.check(&valid);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut count = 0;
    while Instant::now() < deadline {
        let mut bytes = valid.clone();
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes[at] ^= 1 << next(8),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, next(256) as u8),
            }
        }
        subject.check(&bytes);
        count += 1;
    }
    assert!(count > 1_000, "{count} mutations");
}

#[test]
fn a_required_field_is_missing_whether_it_is_null_or_not_there() {
    let mut bench = Bench::new([]);
    let schema = bench.schema(
        r#"syntax = "proto2"; import "google/protobuf/struct.proto";
        message R { required int32 a = 1; optional R b = 2; required google.protobuf.Value c = 3; }"#,
    );
    let mut check = |json: &str, expected: Result<(), &str>| {
        let made = bench.from_json(&schema, json);
        let made = made.map(drop).map_err(|why| said(&why));
        assert_eq!(made, expected.map_err(str::to_owned), "{json}");
    };
    check(r#"{"a":1,"c":null}"#, Ok(()));
    check(r#"{"a":null,"c":1}"#, Err("missing-field /a"));
    check(r#"{"c":1}"#, Err("missing-field /a"));
    check(r#"{"a":1}"#, Err("missing-field /c"));
    check(r#"{"a":1,"b":{"a":null,"c":1},"c":1}"#, Err("missing-field /b/a"));
}

#[test]
fn a_key_of_a_map_is_there_once_however_it_is_spelled() {
    let mut subject = Subject::new();
    let mut check = |json: &str, expected: Result<(), &str>| {
        let made = subject.bench.from_json(&subject.schema, json);
        let made = made.map(drop).map_err(|why| said(&why));
        assert_eq!(made, expected.map_err(str::to_owned), "{json}");
    };
    check(r#"{"t":{"1":true,"10":true,"-1":true}}"#, Ok(()));
    check(
        r#"{"t":{"1":true,"2":true,"1":false}}"#,
        Err("unknown-field /t/1"),
    );
    check(
        r#"{"t":{"10":true,"2":true,"1e1":false}}"#,
        Err("unknown-field /t/1e1"),
    );
    check(r#"{"i":{"k":{},"k":{"e":"text"}}}"#, Err("unknown-field /i/k"));
    check(
        r#"{"i":{"k":{"t":{"1":true,"1":true}}}}"#,
        Err("unknown-field /i/k/t/1"),
    );
    check(r#"{"q":{"x":{"y":1,"z":2,"y":1}}}"#, Err("unknown-field /q/x/y"));
    let long = "x".repeat(200);
    check(&format!(r#"{{"i":{{"k":{{"e":"{long}"}},"l":{{}}}}}}"#), Ok(()));
    check(
        &format!(r#"{{"i":{{"k":{{"e":"{long}"}},"k":{{}}}}}}"#),
        Err("unknown-field /i/k"),
    );
}
