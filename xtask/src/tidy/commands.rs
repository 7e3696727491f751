//! Commands of `cargo` that documents show are commands that there are.

use super::{Files, numbered};
use crate::Door;
use clap::Parser;
use regex::Regex;
use std::collections::BTreeSet;

pub(super) fn faults(files: &Files) -> Vec<String> {
    let shown = Regex::new(r"cargo (xtask|test|build|run) [^`#&|>]*").expect("a constant pattern");
    let names = names(files);
    let mut faults = Vec::new();
    for (path, text) in files.under("", ".md") {
        for (number, line) in numbered(text).filter(|(_, line)| is_command(line)) {
            for said in shown.find_iter(line) {
                let said = said.as_str().split("  ").next().unwrap_or_default().trim();
                let fault = wrong(&names, said);
                faults.extend(fault.map(|fault| format!("{path}:{number}: `{said}`: {fault}")));
            }
        }
    }
    faults
}

/// A line with code in it: a span, or one to be typed.
fn is_command(line: &str) -> bool {
    line.contains("`cargo ") || line.starts_with("    cargo ") || line.starts_with("$ cargo ")
}

/// Names of crates and of their test binaries, as the manifests and folders give them.
fn names(files: &Files) -> BTreeSet<String> {
    let named = Regex::new(r#"(?m)^name = "([^"]+)""#).expect("a constant pattern");
    let given = files
        .under("", "Cargo.toml")
        .flat_map(|(_, text)| named.captures_iter(text).map(|found| found[1].to_owned()));
    let tests = files.under("", ".rs").filter_map(|(path, _)| {
        let (_, name) = path.strip_suffix(".rs")?.rsplit_once("/tests/")?;
        Some(name.to_owned())
    });
    given.chain(tests).collect()
}

fn wrong(names: &BTreeSet<String>, said: &str) -> Option<String> {
    let words: Vec<&str> = said.split_whitespace().collect();
    if words.get(1) == Some(&"xtask") {
        // The first word of what is parsed is the program's own name.
        let parsed = Door::try_parse_from(&words[1..]).err()?;
        return (parsed.kind() != clap::error::ErrorKind::DisplayHelp).then(|| {
            let text = parsed.to_string();
            text.lines().next().unwrap_or_default().to_owned()
        });
    }
    let named = words
        .windows(2)
        .filter(|pair| matches!(pair[0], "-p" | "--package" | "--test"));
    let unknown = named.map(|pair| pair[1]).find(|name| !names.contains(*name))?;
    Some(format!("there is no {unknown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let files = [
            ("docs/page.md", text),
            ("link/Cargo.toml", "name = \"link\"\n"),
            ("link/tests/crash.rs", ""),
        ];
        super::super::check(faults, &files, expected);
    }

    #[test]
    fn verbs_options_and_names_are_there() {
        check(
            "`cargo xtask tidy` and `cargo test -p link --test crash x::`",
            &[],
        );
        check("    cargo xtask check --all   # everything", &[]);
        check(
            "    cargo xtask fly",
            &["docs/page.md:1: `cargo xtask fly`: error: unrecognized"],
        );
        check("`cargo xtask check --some`", &["unexpected argument"]);
        check("`cargo test -p lynk`", &["there is no lynk"]);
        check("`cargo test -p link --test crush`", &["there is no crush"]);
    }
}
