//! How the trial of plugins is tried itself: on plugins with one fault each, which it must find, and on plugins without,
//! in which it must find none. They are made by `cargo xtask plugins`.

mod codecs;
mod sinks;
mod sources;

use super::case::Case;
use super::*;
use std::sync::LazyLock;
use std::time::Duration;

static FAULTY: LazyLock<Subject> = LazyLock::new(|| subject("tests/faulty"));

fn subject(name: &str) -> Subject {
    let path = format!("{}/../target/plugins/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    let component =
        std::fs::read(&path).unwrap_or_else(|fault| panic!("{path}: {fault}; run `cargo xtask plugins`"));
    let limits = culvert_host::Limits {
        call_time_max: Duration::from_millis(300),
        ..culvert_host::Limits::default()
    };
    Subject::load(&component, None, limits).expect("it loads")
}

fn options(seed: u64, set: &[(&str, &str)]) -> Options {
    let set = set
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
    Options {
        seed,
        runs: 100,
        set: set.collect(),
    }
}

fn broken(explored: &Explored) -> Vec<Promise> {
    let verdicts = explored.promises.iter();
    let broken = verdicts.filter(|verdict| verdict.declared && verdict.breach.is_some());
    broken.map(|verdict| verdict.promise).collect()
}

/// Each fault breaks what it must break, with any seed, and is shown with few messages.
#[test]
fn a_plugin_that_does_not_keep_its_promise_is_found() {
    use Promise::{Deterministic, Stateless};
    let check = |fault: &str, expected: &[Promise], messages_max: usize| {
        for seed in [1, 2] {
            let explored =
                explore(&FAULTY, &[], &options(seed, &[("fault", fault)]), &mut |_| ()).expect(fault);
            assert_eq!(broken(&explored), expected, "{fault}, seed {seed}");
            assert_eq!(explored.held(), expected.is_empty(), "{fault}, seed {seed}");
            assert!(
                explored.troubles.is_empty(),
                "{fault}, seed {seed}: {:?}",
                explored.troubles
            );
            for breach in explored
                .promises
                .iter()
                .filter_map(|verdict| verdict.breach.as_ref())
            {
                let shown: usize = breach.before.iter().chain(&breach.parts).map(Vec::len).sum();
                assert!(
                    shown <= messages_max,
                    "{fault}, seed {seed}: {shown} messages: {}",
                    breach.how
                );
            }
        }
    };
    check("none", &[], 0);
    check("clock", &[Deterministic], 1);
    check("calendar", &[Deterministic], 1);
    check("opened-at", &[Deterministic], 1);
    check("counter", &[Deterministic, Stateless], 2);
    check("exhausted", &[Deterministic, Stateless], 750); // of 700: one by one would take too long
    check("seen", &[Deterministic, Stateless], 2);
    check("last-key", &[Deterministic, Stateless], 2);
    check("float-format", &[Deterministic, Stateless], 2);
    check("after-error", &[Deterministic, Stateless], 2);
    check("batch-size", &[Stateless], 2);
    check("position", &[Stateless], 2);
    check("last-of-long", &[Stateless], 110);
    check("neighbour", &[Stateless], 2);
    check("running-total", &[Stateless], 2);
}

/// What is left to chance is found too; which promises it is seen to break, and how small, is left to chance.
#[test]
fn randomness_is_found() {
    for seed in [1, 2, 3] {
        let explored =
            explore(&FAULTY, &[], &options(seed, &[("fault", "chance")]), &mut |_| ()).expect("it opens");
        assert!(broken(&explored).contains(&Promise::Deterministic), "seed {seed}");
    }
}

#[test]
fn a_batch_that_is_not_answered_is_shown_with_the_message_at_fault() {
    let check = |fault: &str, what: &str, batch: &str| {
        let explored = explore(&FAULTY, &[], &options(1, &[("fault", fault)]), &mut |_| ()).expect(fault);
        assert!(!explored.held(), "{fault}");
        let [trouble] = explored.troubles.as_slice() else {
            panic!("{fault}: {:?}", explored.troubles);
        };
        assert!(trouble.what.contains(what), "{fault}: {}", trouble.what);
        assert_eq!(trouble.batch.len(), 1, "{fault}: {:?}", trouble.batch);
        let value = trouble.batch[0]["value"].to_string();
        assert!(value.starts_with(batch), "{fault}: {value}");
    };
    check("panic-at-tombstone", "there is a value", "null");
    check("fatal-at-bytes", "ends the task (fatal)", "{\"base64\"");
    check("retry-at-empty", "tried again for ever (retry)", "\"\"");
    check("spin-at-mark", "does not come back in time", "\"\u{feff}");
}

#[test]
fn settings_are_tried_at_their_edges_and_a_refusal_needs_a_reason() {
    let explored = explore(&FAULTY, &[], &options(1, &[]), &mut |_| ()).expect("it opens");
    assert_eq!(explored.openings.len(), 21, "each value of the one key");
    let failed: Vec<&Opening> = explored
        .openings
        .iter()
        .filter(|opening| opening.failure.is_some())
        .collect();
    assert!(
        matches!(failed.as_slice(), [one] if one.settings == "fault=silent-refusal"),
        "{failed:?}"
    );
    let unknown =
        explore(&FAULTY, &[], &options(1, &[("falt", "none")]), &mut |_| ()).expect_err("no such key");
    assert!(
        unknown.contains("\"falt\" is no key") && unknown.contains("valid: fault"),
        "{unknown}"
    );
}

/// What is wrong is found in nothing that is right.
#[test]
fn bundled_plugins_hold_their_cases_and_promises() {
    for (name, folder) in [
        ("order-check", "order-check"),
        ("field-policy", "field-policy"),
        ("connect-transforms", "connect"),
    ] {
        let subject = subject(name);
        let folder = format!("{}/../plugins/{folder}/cases", env!("CARGO_MANIFEST_DIR"));
        let cases = read_cases(Path::new(&folder), &subject.plugin().description).expect(name);
        assert!(cases.len() >= 3, "{name}: {} cases", cases.len());
        for case in &cases {
            let (report, _) = run_case(&subject, case, false);
            assert!(
                report.misses.is_empty(),
                "{}: {:#?}",
                case.file.display(),
                report.misses
            );
        }
        let explored = explore(&subject, &cases, &options(1, &[]), &mut |_| ()).expect(name);
        assert!(explored.held(), "{name}: {explored:#?}");
        let of_transforms = [Promise::Deterministic, Promise::Stateless];
        for verdict in explored.promises {
            let is_ours = of_transforms.contains(&verdict.promise);
            assert_eq!(verdict.declared, is_ours, "{name}");
            assert_eq!(verdict.attacks > 100, is_ours, "{name}: {verdict:?}");
        }
    }
}

// ----- cases -----------------------------------------------------------------------------------------------------------

fn case(text: &str) -> Result<Case, String> {
    Case::parse(
        Path::new("cases/one.json"),
        text,
        &FAULTY.plugin().description.fields,
    )
}

/// What is said of the one message of a case, with the plugin that keeps all.
#[track_caller]
fn check_miss(fault: &str, message: &str, expected: &[&str]) {
    let text = format!(r#"{{ "settings": {{ "fault": "{fault}" }}, "messages": [{message}] }}"#);
    let (report, _) = run_case(&FAULTY, &case(&text).expect(message), false);
    let said: Vec<&String> = report.misses.iter().flat_map(|miss| &miss.differences).collect();
    assert_eq!(said, expected, "{message}");
}

#[test]
fn only_what_a_case_gives_is_compared() {
    check_miss("none", r#"{ "value": "a", "outcome": "keep" }"#, &[]);
    check_miss(
        "none",
        r#"{ "value": "a", "outcome": "drop" }"#,
        &["another outcome"],
    );
    check_miss("position", r#"{ "value": "a", "outcome": "drop" }"#, &[]);
    check_miss(
        "counter",
        r#"{ "value": "a", "outcome": { "replace": {} } }"#,
        &[],
    );
    check_miss(
        "counter",
        r#"{ "value": "a", "outcome": { "replace": { "value": "a1", "key": null } } }"#,
        &[],
    );
    check_miss(
        "counter",
        r#"{ "key": "k", "value": "a", "outcome": { "replace": { "key": "k" } } }"#,
        &[],
    );
    check_miss(
        "counter",
        r#"{ "value": "a", "outcome": { "expand": [{ "value": "a1" }] } }"#,
        &[],
    );
    check_miss(
        "counter",
        r#"{ "value": "a", "outcome": { "replace": { "value": "a2", "key": "k", "timestamp": 3, "topic": "t" } } }"#,
        &[
            "topic: expected t, got none",
            "key: expected k, got none",
            "value: expected a2, got a1 (they differ from byte 2 on)",
            "timestamp: expected 3, got none",
        ],
    );
    check_miss(
        "counter",
        r#"{ "value": "a", "outcome": { "expand": [{ "value": "a1" }, { "value": "b" }] } }"#,
        &["messages: expected 2, got 1"],
    );
    check_miss(
        "after-error",
        r#"{ "value": { "base64": "//79" }, "outcome": "keep" }, { "value": "a", "outcome": { "reject": { "code": "other", "field": "/a" } } }"#,
        &[
            "code: expected \"other\", got \"after-error\"",
            "field: expected \"/a\", got none",
        ],
    );
    check_miss(
        "none",
        r#"{ "value": "a" }"#,
        &["the case says nothing of it; --bless writes what came"],
    );
}

#[test]
fn json_is_compared_by_what_it_says() {
    let wanted = |json: &str| {
        format!(r#"{{ "value": "", "outcome": {{ "replace": {{ "value": {{ "json": {json} }} }} }} }}"#)
    };
    check_miss("counter", &wanted("1"), &[]);
    check_miss("counter", &wanted("2"), &["value: expected 2, got 1"]);
    let given = r#"{ "value": "{\"a\": {\"b\": [1, 2]}, \"c\":", "outcome": { "replace": { "value": { "json": {"a":{"b":[1,3]},"c":{}} } } } }"#;
    check_miss(
        "counter",
        given,
        &[
            "value: expected JSON, got {\"a\": {\"b\": [1, 2]}, \"c\":1: EOF while parsing an object at line 1 column 26",
        ],
    );
}

#[test]
fn a_case_may_say_that_all_fails() {
    let check = |fault: &str, fails: &str, holds: bool| {
        let text = format!(
            r#"{{ "settings": {{ "fault": "{fault}" }}, "fails": "{fails}", "messages": [{{ "value": "" }}] }}"#
        );
        let (report, _) = run_case(&FAULTY, &case(&text).expect(fault), false);
        assert_eq!(
            report.misses.is_empty(),
            holds,
            "{fault} {fails}: {:?}",
            report.misses
        );
    };
    check("silent-refusal", "fatal", true);
    check("silent-refusal", "retry", false);
    check("retry-at-empty", "retry", true);
    check("retry-at-empty", "fatal", false);
    check("none", "fatal", false);
}

#[test]
fn mistakes_in_a_case_are_named_with_what_would_be_valid() {
    let check = |text: &str, expected: &str| {
        let mistake = case(text).expect_err(text);
        assert!(mistake.contains(expected), "{text}: {mistake}");
    };
    check("{", "EOF while parsing");
    check("[]", "valid: a JSON object");
    check(
        r#"{ "mesages": [] }"#,
        "\"mesages\" is no member of a case; valid: about",
    );
    check(
        r#"{ "settings": { "mode": "x" } }"#,
        "settings: \"mode\" is no key of this plugin; valid: fault",
    );
    check(
        r#"{ "settings": { "fault": [] } }"#,
        "settings: fault: []; valid: a text",
    );
    check(r#"{ "fails": "often" }"#, "valid: retry, fatal");
    check(
        r#"{ "attributes": { "a": "b" } }"#,
        "attributes: this version gives a plugin none",
    );
    check(
        r#"{ "messages": [{ "vale": "x" }] }"#,
        "message 1: \"vale\" is no member of a message",
    );
    check(
        r#"{ "messages": [{}, { "value": 3 }] }"#,
        "message 2: value: 3 is no bytes; valid: a text",
    );
    check(
        r#"{ "messages": [{ "value": { "base64": "?" } }] }"#,
        "is not base64",
    );
    check(
        r#"{ "messages": [{ "headers": ["a"] }] }"#,
        "valid: [name, value]",
    );
    check(
        r#"{ "messages": [{ "timestamp": -1 }] }"#,
        "timestamp: -1; valid: milliseconds since 1970",
    );
    check(
        r#"{ "messages": [{ "outcome": "kep" }] }"#,
        "outcome: \"kep\"; valid: \"keep\"",
    );
    check(
        r#"{ "messages": [{ "outcome": { "expand": [] } }] }"#,
        "valid: \"keep\"",
    );
    check(
        r#"{ "messages": [{ "outcome": { "reject": { "cod": "a" } } }] }"#,
        "valid: code, reason, field",
    );
    check(
        r#"{ "fails": "fatal", "messages": [{ "outcome": "keep" }] }"#,
        "the case says that all fails",
    );
}

#[test]
fn bless_writes_what_came_where_it_was_something_else() {
    let text = r#"{
  "about": "shown",
  "settings": { "fault": "after-error" },
  "messages": [
    { "value": { "base64": "//79" }, "outcome": "keep" },
    { "value": "a", "outcome": "keep" },
    { "value": "b" }
  ]
}
"#;
    let expected = text
        .replace(
            r#"{ "value": "a", "outcome": "keep" }"#,
            r#"{ "value": "a", "outcome": { "reject": { "code": "after-error", "reason": "the one before it was no text" } } }"#,
        )
        .replace(r#"{ "value": "b" }"#, r#"{ "value": "b", "outcome": "keep" }"#);
    let blessed = |text: &str| run_case(&FAULTY, &case(text).expect("it is right"), true).1;
    let written = blessed(text).expect("it differs");
    assert_eq!(written, expected);
    assert_eq!(blessed(&written), None, "it holds now");
    let replaced =
        r#"{ "settings": { "fault": "counter" }, "messages": [{ "key": "k", "value": { "json": {} } }] }"#;
    let written = blessed(replaced).expect("it differs");
    assert!(
        written.contains(r#""outcome": { "replace": { "value": "{}1" } }"#),
        "{written}"
    );
    assert_eq!(blessed(&written), None);
}
