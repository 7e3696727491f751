//! Arrows between the rooms of the gateway point down only, and each outside library has one room.

use super::Files;
use regex::Regex;

const GATEWAY: &str = "gateway/src/";

/// What stands above the rooms and may name all of them.
const ABOVE: [&str; 2] = ["cli", "gateway"];

/// Which rooms a room may name.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("observe", &["config"]),
    ("config", &["codec", "connector", "identity", "plugin", "units"]),
    ("plugin", &["executable", "flow", "observe", "outbox", "units"]),
    ("connector", &["flow", "codec"]),
    ("flow", &["outbox", "link", "codec", "identity", "observe"]),
    ("link", &["identity"]),
    ("outbox", &[]),
    ("codec", &[]),
    ("receipt", &["identity"]),
    ("identity", &[]),
    ("executable", &[]),
    ("units", &[]),
];

/// What only one room may use, and what everyone else uses instead.
const ONE_ROOM: [(&str, &str, &str); 7] = [
    (r"\bquinn(_proto)?::", "link/", "speak to a link"),
    (r"\bsled::", "outbox/", "speak to an outbox"),
    (
        r"\brdkafka(_sys)?::",
        "connector/kafka/",
        "go through flow's Source and Sink",
    ),
    (r"\brusqlite::", "connector/sqlite/", "go through flow's Sink"),
    (r"\bculvert_host::", "plugin/", "go through the plugin room"),
    (
        r"\benv::(var|vars|var_os|vars_os|set_var)\b",
        "config/",
        "take it from the checked configuration",
    ),
    (r"\be?print(ln)?!", "cli/", "log it, or return it to cli"),
];

/// The pure crate: time, randomness, disk and network come in as arguments or go out as values.
const IMPURE: &str = r"\b(std::(time|net|fs|env|thread|process)|tokio|rand)::";

pub(super) fn faults(files: &Files) -> Vec<String> {
    let mut faults = Vec::new();
    let one_room = ONE_ROOM.map(|(pattern, home, instead)| (constant(pattern), home, instead));
    for (path, text) in files.under(GATEWAY, ".rs") {
        let code = code(text);
        faults.extend(arrow_faults(path, &code));
        let inside = path.strip_prefix(GATEWAY).unwrap_or(path);
        let is_test = inside.ends_with("tests.rs") || inside.contains("/tests/");
        let strangers = one_room
            .iter()
            .filter(|(_, home, _)| !is_test && !inside.starts_with(home));
        for (pattern, home, instead) in strangers {
            faults.extend(pattern.find_iter(&code).map(|found| {
                format!(
                    "{}: {} outside {home}\n    {instead}",
                    place(path, &code, found.start()),
                    found.as_str()
                )
            }));
        }
    }
    let impure = constant(IMPURE);
    for (path, text) in files.under("gateway/proto/src/", ".rs") {
        let code = code(text);
        faults.extend(impure.find_iter(&code).map(|found| {
            let place = place(path, &code, found.start());
            format!(
                "{place}: {} in the pure crate\n    pass it in as an argument",
                found.as_str()
            )
        }));
    }
    faults
}

/// What the compiler reads, line for line, up to the tests at the end of the file; comments may name anything.
fn code(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    let is_tests = |pair: &[&str]| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_end().ends_with('{');
    let end = lines.windows(2).position(is_tests).unwrap_or(lines.len());
    lines[..end].join("\n")
}

fn arrow_faults(path: &str, code: &str) -> Vec<String> {
    let room = room(path);
    let Some((_, may_name)) = MAY_NAME.iter().find(|(known, _)| *known == room) else {
        return Vec::new();
    };
    let is_room = |name: &str| MAY_NAME.iter().any(|(known, _)| *known == name) || ABOVE.contains(&name);
    named(code)
        .into_iter()
        .filter(|(_, other)| *other != room && is_room(other) && !may_name.contains(other))
        .map(|(at, other)| {
            let place = place(path, code, at);
            format!("{place}: {room} names {other}; it may name {may_name:?}\n    see gateway/src/lib.rs")
        })
        .collect()
}

/// Where code names what of its own crate: `crate::link`, and each of `crate::{flow::Sink, link}`.
fn named(code: &str) -> Vec<(usize, &str)> {
    let word = constant(r"^\s*([a-z_]+)");
    let first_word = |at: usize| {
        let found = word.captures(&code[at..])?.get(1)?;
        Some((at + found.start(), found.as_str()))
    };
    let mut named = Vec::new();
    for found in constant(r"\bcrate::(\{?)").find_iter(code) {
        named.extend(first_word(found.end()));
        if found.as_str().ends_with('{') {
            let mut depth = 1;
            for (offset, character) in code[found.end()..].char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => named.extend(first_word(found.end() + offset + 1)),
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        }
    }
    named
}

fn place(path: &str, code: &str, at: usize) -> String {
    format!("{path}:{}", code[..at].matches('\n').count() + 1)
}

fn constant(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern")
}

/// The first folder, or the file's own name: `link` for `link/dial.rs` and for `link.rs`.
fn room(path: &str) -> &str {
    let inside = path.strip_prefix(GATEWAY).unwrap_or(path);
    inside.split(['/', '.']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        super::super::check(faults, &[(path, text)], expected);
    }

    #[test]
    fn arrows_point_down() {
        check("gateway/src/gateway.rs", "use crate::outbox::Outbox;", &[]);
        check(
            "gateway/src/link/dial.rs",
            "use crate::identity::Identity; use crate::link::Peer;",
            &[],
        );
        check(
            "gateway/src/link/dial.rs",
            "\nuse crate::flow::Intake;",
            &["dial.rs:2: link names flow"],
        );
        check(
            "gateway/src/outbox/log.rs",
            "fn f(x: crate::connector::Kafka) {}",
            &["outbox names connector"],
        );
        check("gateway/src/link/dial.rs", "/// See [`crate::flow`].", &[]);
        let group = "use crate::{\n    flow::{A, codec},\n    link,\n};";
        check(
            "gateway/src/outbox/log.rs",
            group,
            &["log.rs:2: outbox names flow", "log.rs:3: outbox names link"],
        );
    }

    #[test]
    fn a_library_has_one_room() {
        check("gateway/src/link/mod.rs", "use quinn::Endpoint;", &[]);
        check(
            "gateway/src/flow/intake.rs",
            "use quinn::Endpoint;",
            &["quinn:: outside link/"],
        );
        check(
            "gateway/src/flow/intake.rs",
            "let x = std::env::var(\"X\");",
            &["env::var outside config/"],
        );
        check(
            "gateway/src/flow/intake.rs",
            "println!(\"x\");",
            &["println! outside cli/"],
        );
        check(
            "gateway/src/flow/intake.rs",
            "#[cfg(test)]\nmod t {\n use quinn::Endpoint; }",
            &[],
        );
        check(
            "gateway/src/flow/mod.rs",
            "#[cfg(test)]\nmod tests;\nuse quinn::A;",
            &["mod.rs:3: quinn::"],
        );
    }

    #[test]
    fn the_pure_crate_stays_pure() {
        check("gateway/proto/src/queue.rs", "use core::time::Duration;", &[]);
        check(
            "gateway/proto/src/queue.rs",
            "use std::time::Instant;",
            &["std::time:: in the pure crate"],
        );
    }
}
