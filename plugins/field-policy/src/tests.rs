use super::*;
use culvert_plugin::testing::Harness;
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: &str = "a key of the hash";

fn harness(rules: &[(&'static str, &'static str)]) -> Harness<FieldPolicy> {
    Harness::open(rules.iter().copied().chain([("hash.key", KEY)])).unwrap()
}

/// What comes of a message: its value, `keep`, or the code and field of a rejection.
fn said(outcome: Outcome) -> String {
    match outcome {
        Outcome::Keep => "keep".to_owned(),
        Outcome::Value(value) => String::from_utf8(value).unwrap(),
        Outcome::Reject(rejection) => format!("{} {}", rejection.code, rejection.field.unwrap_or_default())
            .trim()
            .to_owned(),
        other => panic!("{other:?}"),
    }
}

fn check(rule: &'static str, paths: &'static str, message: &str, expected: &str) {
    assert_eq!(
        said(harness(&[(rule, paths)]).one(message)),
        expected,
        "{rule}={paths}: {message}"
    );
}

#[test]
fn a_masked_field_is_covered_whatever_it_was() {
    check("mask", "/a", r#"{"a":"x","b":"x"}"#, r#"{"a":"***","b":"x"}"#);
    check(
        "mask",
        "/a",
        r#"{ "a" : {"b":[1,2]} , "c":1}"#,
        r#"{ "a" : "***" , "c":1}"#,
    );
    check("mask", "/a/b", r#"{"a":{"b":null}}"#, r#"{"a":{"b":"***"}}"#);
    check(
        "mask",
        "/items/*/note",
        r#"{"items":[{"note":1},{},{"note":2}]}"#,
        r#"{"items":[{"note":"***"},{},{"note":"***"}]}"#,
    );
    check("mask", "/1", "[1, 2 ,3]", "[1, \"***\" ,3]");
    check("mask", "/*", "[1,[2]]", "[\"***\",\"***\"]");
    assert_eq!(
        said(harness(&[("mask", "/a"), ("mask.text", "\"\\\u{1}")]).one("{\"a\":1}")),
        r#"{"a":"\"\\\u0001"}"#
    );
}

#[test]
fn what_no_rule_names_stays_byte_for_byte() {
    let message =
        "\t{\"b\" : 1.50e+3, \"big\":123456789012345678901234567890,\"u\":\"\\u00e9\\/\", \"a\":0 }\n";
    check(
        "mask",
        "/a",
        message,
        &message.replace("\"a\":0", "\"a\":\"***\""),
    );
    check("mask", "/nothing/here", message, "keep");
    check("mask", "", message, "keep");
    check("mask", "/a", "\"a\"", "keep");
}

#[test]
fn a_dropped_field_takes_its_comma_along() {
    check("drop", "/a", r#"{"a":1}"#, "{}");
    check("drop", "/a", r#"{"a":1,"b":2}"#, r#"{"b":2}"#);
    check("drop", "/b", r#"{"a":1 , "b":2}"#, r#"{"a":1 }"#);
    check("drop", "/b", r#"{"a":1,"b":2,"c":3}"#, r#"{"a":1,"c":3}"#);
    check("drop", "/a,/b", r#"{"a":1, "b":2, "c":3}"#, r#"{"c":3}"#);
    check("drop", "/a,/c", r#"{"a":1,"b":2,"c":3}"#, r#"{"b":2}"#);
    check("drop", "/*", r#"{"a":1,"b":[2]}"#, "{}");
    check("drop", "/*/0", "[[1,2],[3],[]]", "[[2],[],[]]");
    assert_eq!(
        said(harness(&[("drop", "/a"), ("mask", "/b")]).one(r#"{"a":1,"b":2}"#)),
        r#"{"b":"***"}"#
    );
}

#[test]
fn a_hash_is_of_what_a_scalar_reads_as() {
    // As OpenSSL has them: printf x | openssl dgst -sha256 -hmac 'a key of the hash'
    let x = "d07ae5caf36119a7458b01d8aa90d1dd9ceb0bf7a3a52eb367c14a23b828d959";
    check("hash", "/a", r#"{"a":"x"}"#, &format!("{{\"a\":\"{x}\"}}"));
    let twelve = "c185a963f06517887bea2adf8e57fde223a6cbbc5b712361e606fe727538d760";
    check("hash", "/0", "[12]", &format!("[\"{twelve}\"]"));
    let same = |one: &str, other: &str| {
        let of = |value: &str| said(harness(&[("hash", "/a")]).one(format!("{{\"a\":{value}}}").as_str()));
        of(one) == of(other)
    };
    assert!(same("\"\\u00e9\"", "\"\u{e9}\""));
    assert!(same("\"12\"", "12"));
    check("hash", "/a", r#"{"a":null}"#, "keep");
    check("hash", "/a", r#"{"a":{}}"#, "hash-not-scalar /a");
    check("hash", "/*/b", r#"[{"b":[1]}]"#, "hash-not-scalar /0/b");
}

#[test]
fn a_denied_field_stops_the_message_and_is_named() {
    check(
        "deny",
        "/card/number",
        r#"{"card":{"number":null}}"#,
        "field-denied /card/number",
    );
    check(
        "deny",
        "/items/*/note",
        r#"{"items":[{},{"note":1}]}"#,
        "field-denied /items/1/note",
    );
    check(
        "deny",
        "/*/a~1b~0",
        r#"{"x/y":{"a/b~":1}}"#,
        "field-denied /x~1y/a~1b~0",
    );
    check("deny", "/card", r#"{"cards":1}"#, "keep");
    let Outcome::Reject(rejection) = harness(&[("deny", "/secret")]).one(r#"{"secret":"4711"}"#) else {
        panic!("a denied field stops its message")
    };
    assert_eq!(rejection.reason, "the field /secret may not cross");
}

#[test]
fn no_way_of_writing_it_hides_a_field() {
    check("deny", "/name", "{\"na\\u006de\":1}", "field-denied /name");
    check(
        "deny",
        "/name",
        r#"{"name2":1,"x":{"name":1},"name":2}"#,
        "field-denied /name",
    );
    check("mask", "/a", r#"{"a":1,"a":2}"#, r#"{"a":"***","a":"***"}"#);
    check("drop", "/\u{1f600}", "{\"\\ud83d\\ude00\":1}", "{}");
    check("deny", "/0", r#"{"0":1}"#, "field-denied /0");
    check("deny", "/00", "[1]", "keep");
    check("deny", "/", r#"{"":1}"#, "field-denied /");
}

#[test]
fn the_strongest_rule_wins() {
    let all = [
        ("deny", "/deny,/*/deny"),
        ("drop", "/drop,/deny"),
        ("mask", "/mask,/drop"),
        ("hash", "/mask,/hash/x"),
    ];
    let of = |message: &str| said(harness(&all).one(message));
    assert_eq!(of(r#"{"drop":1,"mask":2}"#), r#"{"mask":"***"}"#);
    assert_eq!(of(r#"{"deny":1}"#), "field-denied /deny");
    assert_eq!(of(r#"{"drop":{"deny":1}}"#), "field-denied /drop/deny");
    assert_eq!(of(r#"{"mask":[{"deny":1},{}]}"#), r#"{"mask":"***"}"#);
    assert_eq!(of(r#"{"mask":{"deny":1}}"#), "field-denied /mask/deny");
}

#[test]
fn what_is_no_json_does_not_cross() {
    let wrong = [
        "",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "[1 2]",
        "01",
        "1.",
        "-",
        "1e",
        "tru",
        "nul",
        "\"",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "{} {}",
        "{'a':1}",
        "{1:2}",
        "\u{feff}{}",
    ];
    for message in wrong {
        check("mask", "/a", message, "not-json");
    }
    assert_eq!(said(harness(&[]).one(b"\"\xff\"")), "not-json");
    check("mask", "/a", &"[".repeat(129), "too-deep");
    let deepest = format!("{}{}", "[".repeat(128), "]".repeat(128));
    check("mask", "/a", &deepest, "keep");
    assert_eq!(harness(&[]).one(NewMessage::tombstone()), Outcome::Keep);
}

#[test]
fn settings_are_checked() {
    let opened = |settings: &[(&'static str, &'static str)]| {
        let opened = Harness::<FieldPolicy>::open(settings.iter().copied());
        opened
            .map(|_| ())
            .map_err(|failure| failure.text().lines().nth(1).unwrap_or_default().to_owned())
    };
    assert_eq!(opened(&[]), Ok(()));
    assert_eq!(
        opened(&[("hash", "/a")]),
        Err("`hash.key` is needed where `hash` has paths, and not set".to_owned())
    );
    assert_eq!(
        opened(&[("hash.key", "short")]),
        Err("`hash.key` has 5 characters, and must have 16 or more".to_owned())
    );
    let pointer = "and must be a JSON pointer such as /customer/name or /items/*/note";
    assert_eq!(
        opened(&[("mask", "/a,b")]),
        Err(format!("`mask` holds what is `b`, {pointer}"))
    );
    assert_eq!(
        opened(&[("drop", "/a~2")]),
        Err(format!("`drop` holds what is `/a~2`, {pointer}"))
    );
}

/// The rules as a few lines of code that anyone can follow, on parsed JSON.
fn model(
    value: &mut Value,
    path: &[String],
    rules: &[(Action, &'static str)],
    covered: bool,
) -> Result<(), ()> {
    let action = |path: &[String]| {
        let fits = |rule: &str| {
            let names: Vec<&str> = rule[1..].split('/').collect();
            names.len() == path.len()
                && names
                    .iter()
                    .zip(path)
                    .all(|(name, step)| *name == "*" || name == step)
        };
        rules
            .iter()
            .filter(|(_, rule)| fits(rule))
            .map(|(action, _)| *action)
            .max()
    };
    let visit = |name: String, child: &mut Value| -> Result<bool, ()> {
        let path = [path, &[name]].concat();
        let action = action(&path);
        if action == Some(Action::Deny) {
            return Err(());
        }
        model(child, &path, rules, covered || action.is_some())?;
        if covered {
            return Ok(true);
        }
        match action {
            Some(Action::Mask) => *child = json!("***"),
            Some(Action::Hash) if child.is_object() || child.is_array() => return Err(()),
            Some(Action::Hash) if !child.is_null() => *child = json!("#"),
            _ => {}
        }
        Ok(action != Some(Action::Drop))
    };
    match value {
        Value::Object(object) => {
            let mut dropped = Vec::new();
            for (name, child) in object.iter_mut() {
                if !visit(name.clone(), child)? {
                    dropped.push(name.clone());
                }
            }
            object.retain(|name, _| !dropped.contains(name));
        }
        Value::Array(items) => {
            let mut kept = Vec::new();
            for (index, mut item) in std::mem::take(items).into_iter().enumerate() {
                if visit(index.to_string(), &mut item)? {
                    kept.push(item);
                }
            }
            *items = kept;
        }
        _ => {}
    }
    Ok(())
}

/// Hashes as the model writes them.
fn without_digests(value: &mut Value) {
    match value {
        Value::String(text) if text.len() == 64 => *text = "#".to_owned(),
        Value::Array(items) => items.iter_mut().for_each(without_digests),
        Value::Object(object) => object.values_mut().for_each(without_digests),
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c\\\\\"\u{e9}\n]{0,3}".prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

const PATHS: [&str; 10] = [
    "/a", "/b", "/0", "/*", "/a/b", "/*/a", "/a/*", "/*/*/b", "/b/1", "/a/a/a",
];

fn any_rules() -> impl Strategy<Value = Vec<(Action, &'static str)>> {
    let action = prop_oneof![
        4 => Just(Action::Hash),
        4 => Just(Action::Mask),
        4 => Just(Action::Drop),
        1 => Just(Action::Deny),
    ];
    proptest::collection::vec((action, proptest::sample::select(&PATHS[..])), 0..4)
}

fn policy(rules: &[(Action, &'static str)]) -> Policy {
    let mut tree = Rules::default();
    for (action, path) in rules {
        tree.add(&Pointer::parse(path).unwrap(), *action);
    }
    Policy::new(tree, "***", Some(KEY))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The walk and the model agree on any message and any rules.
    #[test]
    fn the_walk_does_what_the_rules_say(message in any_json(), rules in any_rules(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) };
        let text = text.unwrap();
        let mut expected = message;
        let allowed = model(&mut expected, &[], &rules, false);
        match policy(&rules).apply(text.as_bytes()) {
            Err(_) => prop_assert!(allowed.is_err(), "{text} with {rules:?}"),
            Ok(written) => {
                prop_assert!(allowed.is_ok(), "{text} with {rules:?}");
                let written = written.map_or(text.clone(), |written| String::from_utf8(written).unwrap());
                let mut seen: Value = serde_json::from_str(&written).expect(&written);
                without_digests(&mut seen);
                prop_assert_eq!(seen, expected, "{} with {:?} became {}", text, rules, written);
            }
        }
    }

    /// What is read as JSON here is read as JSON elsewhere, and the other way round.
    #[test]
    fn it_reads_what_others_read(text in "[\\[\\]{}\",:0-9eE.+\\-a \\\\ubtrnfls]{0,24}") {
        let ours = policy(&[]).apply(text.as_bytes()).is_ok();
        let strict = serde_json::from_str::<Value>(&text).is_ok();
        let lax = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert!(!strict || ours, "{text}");
        prop_assert!(!ours || lax, "{text}");
    }

    /// Whatever comes in, there is an outcome.
    #[test]
    fn any_bytes_have_an_outcome(value in proptest::collection::vec(any::<u8>(), 0..100), rules in any_rules()) {
        let _ = policy(&rules).apply(&value);
    }
}
