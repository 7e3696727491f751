//! The process's environment, read here and nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;

/// Every variable that overrides a key begins so.
const PREFIX: &str = "CULVERT_";

/// The variables of the process, taken once at start.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of this process. Variables that are not Unicode are left out: no key and no value of ours is.
    #[must_use]
    pub fn of_process() -> Environment {
        let unicode = |text: &OsStr| text.to_str().map(str::to_owned);
        Environment(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((unicode(&k)?, unicode(&v)?)))
                .collect(),
        )
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The user asked for output without colour: `NO_COLOR` is set and not empty (no-color.org).
    #[must_use]
    pub fn no_color(&self) -> bool {
        self.get("NO_COLOR").is_some_and(|value| !value.is_empty())
    }

    /// The terminal cannot do more than print.
    #[must_use]
    pub fn dumb_terminal(&self) -> bool {
        self.get("TERM") == Some("dumb")
    }

    /// Every variable that overrides no key: what a program gets that is to have a configuration of its own.
    pub fn without_overrides(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        all.filter(|(name, _)| !name.starts_with(PREFIX))
    }

    /// Every `CULVERT_…` variable: its name, the key it would override (`CULVERT_OUTBOX__QUOTA` is
    /// `outbox.quota`) and its value.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, String, &str)> {
        self.0.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase().replace("__", ".");
            Some((name.as_str(), key, value.as_str()))
        })
    }
}

/// Other programs' secrets stand in the environment too.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Environment {
        Environment(pairs.into_iter().collect())
    }
}
