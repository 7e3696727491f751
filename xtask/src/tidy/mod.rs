//! `cargo xtask tidy`: what the compiler cannot check. Each rule is a function from the repository's files to faults.

mod arrows;
mod commands;
mod errors;
mod links;
mod words;

use crate::steps;
use anyhow::{Context, bail};
use culvert_tests::workspace;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Checks every rule and shows every fault.
///
/// # Errors
/// When a rule is broken or git does not answer.
pub(crate) fn run() -> anyhow::Result<()> {
    let files = Files::of_repository(workspace())?;
    let faults = files.faults();
    if !faults.is_empty() {
        bail!("tidy: {} faults\n  {}", faults.len(), faults.join("\n  "));
    }
    eprintln!("tidy: {} files in order", files.0.len());
    Ok(())
}

/// What a fuzzer is fed with is bytes, whatever it looks like.
const INPUTS: [&str; 2] = ["fuzz/corpus/", "fuzz/regressions/"];

/// The text files that git knows or would add: (path from the root with `/`, content).
pub(crate) struct Files(Vec<(String, String)>);

impl Files {
    fn of_repository(root: &Path) -> anyhow::Result<Files> {
        let mut git = Command::new("git");
        git.args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root);
        let listed = steps::output(git).context("list the repository's files")?;
        let read = |path: &str| Some((path.to_owned(), fs::read_to_string(root.join(path)).ok()?));
        let is_text = |path: &&str| !INPUTS.iter().any(|folder| path.starts_with(folder));
        Ok(Files(listed.lines().filter(is_text).filter_map(read).collect()))
    }

    fn faults(&self) -> Vec<String> {
        [
            arrows::faults(self),
            commands::faults(self),
            errors::faults(self),
            links::faults(self),
            words::faults(self),
        ]
        .concat()
    }

    /// The files under `folder` whose names end in `ending`.
    fn under<'a>(&'a self, folder: &'a str, ending: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        all.filter(move |(path, _)| path.starts_with(folder) && path.ends_with(ending))
    }

    fn contains(&self, path: &str) -> bool {
        self.0
            .iter()
            .any(|(known, _)| known == path || known.starts_with(&format!("{path}/")))
    }
}

/// Each line of a text with its number.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Checks one rule on made-up files: `expected` lists a part of each fault.
#[cfg(test)]
fn check(rule: fn(&Files) -> Vec<String>, files: &[(&str, &str)], expected: &[&str]) {
    let files = Files(
        files
            .iter()
            .map(|&(path, text)| (path.to_owned(), text.to_owned()))
            .collect(),
    );
    let faults = rule(&files);
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, part) in faults.iter().zip(expected) {
        assert!(fault.contains(part), "{fault:?} should say {part:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let faults = Files::of_repository(workspace()).unwrap().faults();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
