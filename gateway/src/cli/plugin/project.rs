//! A plugin's folder, and what its `plugin.toml` says of it.

use crate::cli::exit;
use crate::config::{ByteSize, parse_duration};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// What `culvert plugin` looks for in a folder.
pub(super) const FILE: &str = "plugin.toml";

/// At most so many bytes of `plugin.toml` are read; a real one has 400.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The languages that there is a template and a build for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Language {
    Rust,
    C,
    Go,
    Js,
    Ts,
    Python,
}

impl Language {
    /// As people write it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::C => "C",
            Language::Go => "Go",
            Language::Js => "JavaScript",
            Language::Ts => "TypeScript",
            Language::Python => "Python",
        }
    }

    /// What a component of this language carries to be run at all, as large as it is.
    pub(super) fn interpreter(self) -> Option<&'static str> {
        match self {
            Language::Rust | Language::C | Language::Go => None,
            Language::Js | Language::Ts => Some("QuickJS"),
            Language::Python => Some("CPython"),
        }
    }
}

/// A plugin's name: lower-case words joined by `-`, at most 64 bytes. It names the folder, the component and the
/// package of its language.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub(super) struct Name(String);

impl Name {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let is_word = |word: &str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        if begins_well && text.len() <= 64 && text.split('-').all(is_word) {
            Ok(Name(text.to_owned()))
        } else {
            Err("valid: lower-case words joined by `-`, beginning with a letter, at most 64 bytes, such as order-check".into())
        }
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Name, String> {
        text.parse()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a build may come to. What is not given is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) size: Option<ByteSize>,
    pub(super) time: Option<Duration>,
}

/// A plugin's folder.
#[derive(Clone, Debug)]
pub(super) struct Project {
    pub(super) folder: PathBuf,
    pub(super) name: Name,
    pub(super) version: String,
    pub(super) language: Language,
    /// The world of `wit/` that the component is of.
    pub(super) world: String,
    pub(super) budget: Budget,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Name,
    version: String,
    language: Language,
    world: String,
    #[serde(default)]
    budget: RawBudget,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    size: Option<String>,
    time: Option<String>,
}

impl Project {
    /// The plugin in `folder`.
    ///
    /// # Errors
    /// It has no `plugin.toml` (nothing is there), or a wrong one (invalid).
    pub(super) fn open(folder: &Path) -> anyhow::Result<Project> {
        let path = folder.join(FILE);
        let text = read(&path).with_context(|| {
            format!(
                "read {}\n\nName the plugin's folder, or make one: culvert plugin new --lang go NAME",
                path.display()
            )
        })?;
        let raw: Raw = toml::from_str(&text).map_err(|fault| {
            exit::Invalid(format!("{}: {}", path.display(), fault.to_string().trim_end()))
        })?;
        let budget = Budget::of(&raw.budget)
            .map_err(|fault| exit::Invalid(format!("{}: [budget] {fault}", path.display())))?;
        Ok(Project {
            folder: folder.to_owned(),
            name: raw.name,
            version: raw.version,
            language: raw.language,
            world: raw.world,
            budget,
        })
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "it has {size} bytes; at most {FILE_BYTES_MAX} are read"
        )));
    }
    std::fs::read_to_string(path)
}

impl Budget {
    fn of(raw: &RawBudget) -> Result<Budget, String> {
        let size = raw.size.as_deref().map(|text| {
            ByteSize::parse(text)
                .ok_or_else(|| format!("size = {text:?}; valid: bytes with a unit, such as \"512 KiB\""))
        });
        let time = raw.time.as_deref().map(|text| {
            parse_duration(text)
                .ok_or_else(|| format!("time = {text:?}; valid: a number and a unit, such as \"60s\""))
        });
        match (size.transpose(), time.transpose()) {
            (Ok(size), Ok(time)) => Ok(Budget { size, time }),
            (size, time) => {
                let faults: Vec<String> = size.err().into_iter().chain(time.err()).collect();
                Err(faults.join("; "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(toml: &str) -> anyhow::Result<Project> {
        let folder = tempfile::tempdir().expect("a directory");
        std::fs::write(folder.path().join(FILE), toml).expect("write the file");
        Project::open(folder.path())
    }

    #[track_caller]
    fn check(toml: &str, expected: &str) {
        let error = opened(toml).expect_err(expected);
        let text = format!("{error:#}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(exit::Exit::of(&error), exit::Exit::Invalid, "{text}");
    }

    const GOOD: &str = "name = \"order-check\"\nversion = \"0.1.0\"\nlanguage = \"go\"\nworld = \"plugin\"\n";

    #[test]
    fn a_plugin_without_a_budget_is_not_limited() -> anyhow::Result<()> {
        let project = opened(GOOD)?;
        assert_eq!(
            (project.language, project.budget),
            (Language::Go, Budget::default())
        );
        let project = opened(&format!("{GOOD}[budget]\nsize = \"6 MiB\"\ntime = \"60s\"\n"))?;
        assert_eq!(project.budget.size, Some(ByteSize(6 << 20)));
        assert_eq!(project.budget.time, Some(Duration::from_secs(60)));
        Ok(())
    }

    #[test]
    fn mistakes_name_the_place_and_what_would_be_valid() {
        check(&GOOD.replace("\"go\"", "\"cobol\""), "expected one of");
        check(
            &GOOD.replace("order-check", "Order Check"),
            "valid: lower-case words",
        );
        check(&GOOD.replace("world", "word"), "unknown field `word`");
        check(
            &format!("{GOOD}[budget]\nsize = \"big\"\ntime = \"5\"\n"),
            "such as \"512 KiB\"; time = \"5\"; valid",
        );
    }

    #[test]
    fn a_folder_without_a_plugin_is_absent() {
        let folder = tempfile::tempdir().expect("a directory");
        let error = Project::open(folder.path()).expect_err("it is empty");
        assert_eq!(exit::Exit::of(&error), exit::Exit::Absent);
    }

    #[test]
    fn names_are_words_joined_by_hyphens() {
        for name in ["a", "order-check", "mask2-pii"] {
            assert!(name.parse::<Name>().is_ok(), "{name}");
        }
        for name in [
            "",
            "-a",
            "a-",
            "a--b",
            "2a",
            "Order",
            "a_b",
            "a b",
            "../a",
            &"a".repeat(65),
        ] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
    }
}
