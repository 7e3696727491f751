//! What no file of the repository may hold: the machine it was written on, and promises to write it later.

use super::{Files, numbered};
use regex::Regex;

/// (pattern, what is wrong with it).
const BANNED: &[(&str, &str)] = &[
    (
        r#"(^|[\s"'`(=:])/(root|home|Users|work|workspace|builds)/\w"#,
        "a path of one machine",
    ),
    (r"\.\./shared\b", "a path outside the repository"),
    (
        r"https?://[\w.:-]*(artifactory|nexus|jfrog|/repository/|mirror)",
        "the host of one registry",
    ),
    (r"\b(TODO|FIXME|XXX)\b", "write it, or open an issue"),
];

/// Where crates may come from (`Cargo.lock` names the source of each).
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn faults(files: &Files) -> Vec<String> {
    let banned: Vec<(Regex, &str)> = BANNED
        .iter()
        .map(|(pattern, why)| (Regex::new(pattern).expect("a constant pattern"), *why))
        .collect();
    let mut faults = Vec::new();
    // This file lists what it bans.
    // CI's own hosts have an engine's scripts beside the repository; nobody else is to need them.
    for (path, text) in files
        .under("", "")
        .filter(|(path, _)| *path != "xtask/src/tidy/words.rs" && *path != ".ci/run")
    {
        for (number, line) in numbered(text) {
            let found = banned
                .iter()
                .filter_map(|(pattern, why)| Some((pattern.find(line)?, why)));
            faults.extend(
                found.map(|(what, why)| format!("{path}:{number}: `{}`: {why}", what.as_str().trim())),
            );
        }
        if !text.is_empty() && !text.ends_with('\n') {
            faults.push(format!("{path}: does not end with a line break"));
        }
    }
    for (path, text) in files.under("", "Cargo.lock") {
        let foreign =
            numbered(text).filter(|(_, line)| line.starts_with("source = ") && !line.contains(CRATES_IO));
        faults.extend(
            foreign.map(|(number, line)| format!("{path}:{number}: {line}: crates come from crates.io")),
        );
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        super::super::check(faults, &[(path, text)], expected);
    }

    #[test]
    fn machine_paths_and_promises_are_found() {
        check("a.md", "see /etc/culvert/culvert.toml and file:/path:key\n", &[]);
        check(
            "a.md",
            "x\nsee /home/me/culvert\n",
            &["a.md:2: `/home/m`: a path of one machine"],
        );
        check("a.rs", "// TODO later\n", &["write it, or open an issue"]);
        check("a.rs", "no end", &["does not end with a line break"]);
    }

    #[test]
    fn crates_come_from_crates_io() {
        check(
            "Cargo.lock",
            "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
            &[],
        );
        check(
            "Cargo.lock",
            "source = \"git+https://example.org/x\"\n",
            &["crates come from crates.io"],
        );
    }
}
