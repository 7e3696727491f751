//! Links in Markdown lead somewhere, and a test that is named is there.

use super::{Files, numbered};
use regex::Regex;

pub(super) fn faults(files: &Files) -> Vec<String> {
    let pattern = Regex::new(r"\]\(([^)\s]+)[^)]*\)").expect("a constant pattern");
    let named = Regex::new(r"\[`([a-z0-9_]+)`\]\(([^)\s]+\.rs)\)").expect("a constant pattern");
    let mut faults = Vec::new();
    for (path, text) in files.under("", ".md") {
        for (number, line) in prose(text) {
            for target in pattern.captures_iter(line).filter_map(|found| found.get(1)) {
                let fault = broken(files, path, text, target.as_str());
                faults.extend(fault.map(|fault| format!("{path}:{number}: {fault}")));
            }
            for [name, file] in named.captures_iter(line).map(|found| found.extract().1) {
                let fault = absent(files, path, name, file);
                faults.extend(fault.map(|fault| format!("{path}:{number}: {fault}")));
            }
        }
    }
    faults
}

/// The lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    numbered(text).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// What is wrong with a link of `page`, if it is one inside the repository.
fn broken(files: &Files, page: &str, own_text: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let (path, text) = if file.is_empty() {
        (page.to_owned(), Some(own_text))
    } else {
        let path = resolve(page, file);
        if !path.is_empty() && !files.contains(path.trim_end_matches('/')) {
            return Some(format!("link to {target}: there is no {path}"));
        }
        let text = files
            .0
            .iter()
            .find(|(known, _)| *known == path)
            .map(|(_, text)| text.as_str());
        (path, text)
    };
    let is_missing = |text| !prose(text).any(|(_, line)| line.starts_with('#') && slug(line) == anchor);
    let missing = !anchor.is_empty() && path.ends_with(".md") && text.is_some_and(is_missing);
    missing.then(|| format!("link to {target}: no such heading in {path}"))
}

/// What is wrong where a page names a function of a source file, or the file itself: `[name](path.rs)`.
fn absent(files: &Files, page: &str, name: &str, file: &str) -> Option<String> {
    let path = resolve(page, file);
    let (_, text) = files.0.iter().find(|(known, _)| *known == path)?;
    let is_there = path.ends_with(&format!("/{name}.rs")) || text.contains(&format!("fn {name}("));
    (!is_there).then(|| format!("{path} has no `fn {name}`"))
}

/// `link`, written in `page`, as a path from the root.
fn resolve(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = match link.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => page
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
    };
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// A heading as GitHub names it in links.
fn slug(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let files = [
            ("docs/page.md", text),
            ("docs/errors/x.md", "# A `b` heading!"),
            ("README.md", ""),
            ("tests/line.rs", "fn it_goes_on() {}\n"),
        ];
        super::super::check(faults, &files, expected);
    }

    #[test]
    fn links_lead_somewhere() {
        check(
            "[a](errors/x.md) [b](../README.md) [c](errors) [d](https://example.org/x)",
            &[],
        );
        check(
            "text\n[a](gone.md)",
            &["docs/page.md:2: link to gone.md: there is no docs/gone.md"],
        );
        check("```\n[a](gone.md)\n```", &[]);
    }

    #[test]
    fn a_test_that_is_named_is_there() {
        check("[`it_goes_on`](../tests/line.rs) [`line`](../tests/line.rs)", &[]);
        check(
            "[`it_stops`](../tests/line.rs)",
            &["docs/page.md:1: tests/line.rs has no `fn it_stops`"],
        );
    }

    #[test]
    fn anchors_name_a_heading() {
        check("# Own\n[a](errors/x.md#a-b-heading) [b](#own)", &[]);
        check("[a](errors/x.md#other)", &["no such heading in docs/errors/x.md"]);
    }
}
