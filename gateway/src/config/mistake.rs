//! What is wrong with a configuration: each mistake with its place, key, problem and way out.

use std::fmt;
use std::path::{Path, PathBuf};

/// The file, or one of the files, cannot be read.
pub(super) const UNREADABLE: &str = "CULVERT-C001";
/// The file is not TOML, or not JSON.
pub(super) const SYNTAX: &str = "CULVERT-C002";
/// No such key.
pub(super) const UNKNOWN_KEY: &str = "CULVERT-C003";
/// The value is of the wrong kind, in the wrong unit or out of bounds.
pub(super) const VALUE: &str = "CULVERT-C004";
/// A key without a default is absent.
pub(super) const MISSING: &str = "CULVERT-C005";
/// Two keys contradict each other: a name nobody has, or one that two have.
pub(super) const CONTRADICTION: &str = "CULVERT-C006";
/// A secret stands in the clear where only a reference may stand.
pub(super) const SECRET_IN_CLEAR: &str = "CULVERT-C007";
/// A `${provider:…}` reference leads nowhere.
pub(super) const REFERENCE: &str = "CULVERT-C008";
/// No such connector class.
pub(super) const CLASS: &str = "CULVERT-C009";
/// A Kafka Connect setting that this version cannot honour.
pub(super) const UNSUPPORTED: &str = "CULVERT-C010";
/// A connector refuses one of its own settings.
pub(super) const CONNECTOR: &str = "CULVERT-C011";

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In no place: it is the default.
    Default,
    /// In a file; `line` counts from 1 and is absent where the whole file is meant.
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
    },
    /// In this environment variable.
    Environment(String),
}

impl Place {
    /// The whole of a file.
    #[must_use]
    pub fn file(path: &Path) -> Place {
        Place::File {
            path: path.to_owned(),
            line: None,
        }
    }

    /// One line of a file, counted from 1.
    #[must_use]
    pub fn line(path: &Path, line: usize) -> Place {
        Place::File {
            path: path.to_owned(),
            line: Some(line),
        }
    }
}

/// As it prints.
impl serde::Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `default`, `culvert.toml:4` or `env CULVERT_SITE`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("default"),
            Place::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", tidy(path)),
            Place::File { path, line: None } => tidy(path).fmt(f),
            Place::Environment(name) => write!(f, "env {name}"),
        }
    }
}

fn tidy(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix("./").unwrap_or(path).display()
}

/// One thing that is wrong, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mistake {
    /// The code of the page in `docs/errors/`.
    pub code: &'static str,
    /// Where.
    pub place: Place,
    /// The key, in full (`outbox.quota`, `peer[0].site`); empty where the whole file is meant.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What would be valid.
    pub hint: String,
}

/// Two lines: place, key, problem and code; then what would be valid.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", escape(&self.place.to_string()))?;
        if !self.key.is_empty() {
            write!(f, "{}: ", escape(&self.key))?;
        }
        write!(
            f,
            "{} [{}]\n    {}",
            escape(&self.problem),
            self.code,
            escape(&self.hint)
        )
    }
}

/// A mistake quotes what somebody wrote, who must not move our terminal or forge our lines.
fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if c.is_control() {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        })
}

/// Every mistake of a configuration, in the order of their places. Never empty.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// Whether nothing is wrong but that files cannot be read: the fault of the host rather than of their content.
    #[must_use]
    pub fn only_unreadable(&self) -> bool {
        self.0.iter().all(|mistake| mistake.code == UNREADABLE)
    }
}

fn list(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(Mistake::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Collects mistakes while the reading goes on.
#[derive(Default)]
pub(super) struct Found(Vec<Mistake>);

impl Found {
    pub(super) fn add(
        &mut self,
        code: &'static str,
        place: Place,
        key: impl Into<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let (key, problem, hint) = (key.into(), problem.into(), hint.into());
        self.0.push(Mistake {
            code,
            place,
            key,
            problem,
            hint,
        });
    }

    /// How many mistakes were found by now.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// As [`Found::add`], unless something was found wrong with this key in this place already.
    pub(super) fn add_new(
        &mut self,
        code: &'static str,
        place: Place,
        key: impl Into<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let key = key.into();
        if !self
            .0
            .iter()
            .any(|known| known.key == key && known.place == place)
        {
            self.add(code, place, key, problem, hint);
        }
    }

    /// `value` if nothing was found, else everything that was. `None` stands for a value that could not be built,
    /// which always has a mistake to go with it.
    pub(super) fn or<T>(self, value: Option<T>) -> Result<T, Mistakes> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Mistakes(by_place(self.0))),
        }
    }
}

/// By line within a file; files in the order in which they were read.
fn by_place(mut mistakes: Vec<Mistake>) -> Vec<Mistake> {
    let source = |place: &Place| match place {
        Place::File { path, .. } => Some(path.clone()),
        Place::Default | Place::Environment(_) => None,
    };
    let mut order = Vec::new();
    for mistake in &mistakes {
        let source = source(&mistake.place);
        if !order.contains(&source) {
            order.push(source);
        }
    }
    mistakes.sort_by_key(|mistake| {
        let source = source(&mistake.place);
        (
            order.iter().position(|known| *known == source),
            mistake.place.clone(),
        )
    });
    mistakes
}

/// The one of `known` that `wrong` was probably meant to be, if any is near.
///
/// 0.8 on the Jaro-Winkler scale, by eye: `quotta` finds `quota`, `qouta` too; `listen` does not find `level`.
pub(crate) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| {
            (
                strsim::jaro_winkler(&wrong.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
