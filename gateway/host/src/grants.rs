//! What an operator allows a plugin to use. Nothing is granted unless it was named.

use crate::component::Examined;
use crate::description::{Capability, Description};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

mod address;
mod folder;

pub use address::{AddressGrant, Method, Request};
pub use folder::{FolderGrant, Use};

/// What stands in place of a secret in a plugin's words.
const HIDDEN: &str = "[hidden]";

/// Shorter secrets are not taken out of texts: it would tear every other word apart.
const HIDDEN_BYTES_MIN: usize = 4;

/// The bytes of a secret: overwritten when the last of their owners is gone. They do not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Arc<Zeroizing<Vec<u8>>>);

impl SecretBytes {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> SecretBytes {
        SecretBytes(Arc::new(Zeroizing::new(bytes)))
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The grants of one connector, or of one of its stages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// A store of its own.
    pub state: bool,
    /// Secrets, by the name that the plugin asks for.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// Names of those secrets whose bytes the plugin may see.
    pub reveal: BTreeSet<String>,
    /// Where requests may go.
    pub http: Vec<AddressGrant>,
    /// Certificates of authorities in PEM that are trusted beside the system's.
    pub http_authorities: Vec<u8>,
    /// What may be read and written on disk.
    pub files: Vec<FolderGrant>,
}

/// A capability that a plugin imports and that was not granted to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Which.
    pub what: Capability,
    /// What the plugin says it is for.
    pub because: String,
}

impl Lack {
    /// The key that grants it, and a value for example.
    #[must_use]
    pub fn key(&self) -> (&'static str, &'static str) {
        match self.what {
            Capability::State => ("culvert.grant.state", "true"),
            Capability::Secrets => ("culvert.grant.secrets.NAME", "${file:/etc/culvert/keys:NAME}"),
            Capability::SecretsReveal => ("culvert.grant.secrets.reveal", "NAME"),
            Capability::Http => ("culvert.grant.http", "GET https://example.org/path/*"),
            Capability::Files => ("culvert.grant.files", "read /var/lib/example"),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, example) = self.key();
        let (what, because) = (self.what.word(), &self.because);
        write!(
            f,
            "imports {what}, which is not granted (what for: {because}); set {key}, for example {example:?}"
        )
    }
}

impl Grants {
    /// Whether something of this capability was granted.
    #[must_use]
    pub fn holds(&self, what: Capability) -> bool {
        match what {
            Capability::State => self.state,
            Capability::Secrets => !self.secrets.is_empty(),
            Capability::SecretsReveal => !self.reveal.is_empty(),
            Capability::Http => !self.http.is_empty(),
            Capability::Files => !self.files.is_empty(),
        }
    }

    /// What the plugin imports and cannot do without, and was not granted. A component that imports `http` imports
    /// `secrets` for a type alone, so that one counts only where the plugin says that it asks for it.
    #[must_use]
    pub fn lacks(&self, examined: &Examined, description: &Description) -> Vec<Lack> {
        let because = |what: Capability| {
            let asked = description.capabilities.iter().find(|asked| asked.what == what);
            asked.map(|asked| asked.because.clone())
        };
        let imported = Capability::ALL
            .into_iter()
            .filter(|what| examined.imports_capability(*what));
        imported
            .filter(|what| !self.holds(*what) && !description.is_optional(*what))
            .filter(|what| *what != Capability::Secrets || because(*what).is_some())
            .map(|what| Lack {
                what,
                because: because(what).unwrap_or_else(|| "it does not say".into()),
            })
            .collect()
    }

    /// What was granted, for people: capability and grant, secrets by name only.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let mut shown = Vec::new();
        if self.state {
            shown.push(("state", "its own".into()));
        }
        for name in self.secrets.keys() {
            let is_revealed = self.reveal.contains(name);
            let how = if is_revealed { "its bytes" } else { "as a handle" };
            shown.push(("secrets", format!("{name}, {how}")));
        }
        shown.extend(self.http.iter().map(|address| ("http", address.to_string())));
        shown.extend(self.files.iter().map(|folder| ("files", folder.to_string())));
        shown
    }
}

/// Texts that a plugin may know and nobody should read in its log lines and reasons.
#[derive(Clone, Default)]
pub(crate) struct Veil(Arc<Vec<Zeroizing<String>>>);

impl Veil {
    /// Of all secrets that were granted, and `more` that came with the settings.
    pub(crate) fn new<'a>(grants: &'a Grants, more: impl Iterator<Item = &'a str>) -> Veil {
        let granted = grants.secrets.values();
        let granted = granted.filter_map(|secret| std::str::from_utf8(secret.expose()).ok());
        let mut texts: Vec<Zeroizing<String>> = granted
            .chain(more)
            .map(|text| Zeroizing::new(text.trim().to_owned()))
            .filter(|text| text.len() >= HIDDEN_BYTES_MIN)
            .collect();
        // The longest first, so that one that holds another does not leave its rest.
        texts.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        texts.dedup();
        Veil(Arc::new(texts))
    }

    /// The text without them.
    pub(crate) fn over<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut covered = Cow::Borrowed(text);
        for secret in &*self.0 {
            if covered.contains(secret.as_str()) {
                covered = Cow::Owned(covered.replace(secret.as_str(), HIDDEN));
            }
        }
        covered
    }

    /// Whether one of them is in these bytes.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        let mut texts = self.0.iter().map(|text| text.as_bytes());
        texts.any(|text| bytes.windows(text.len()).any(|part| part == text))
    }

    pub(crate) fn covered(&self, text: String) -> String {
        match self.over(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(covered) => covered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_words_the_longest_first() {
        let mut grants = Grants::default();
        grants
            .secrets
            .insert("a".into(), SecretBytes::new(b"hunter2\n".to_vec()));
        grants
            .secrets
            .insert("b".into(), SecretBytes::new(b"hunter2-and-more".to_vec()));
        grants
            .secrets
            .insert("short".into(), SecretBytes::new(b"abc".to_vec()));
        let veil = Veil::new(&grants, ["from-settings"].into_iter());
        let covered = veil.over("abc hunter2-and-more, hunter2; from-settings");
        assert_eq!(covered, "abc [hidden], [hidden]; [hidden]");
        assert!(!format!("{grants:?}").contains("hunter2"));
    }
}
