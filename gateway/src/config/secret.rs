//! Values that must not be seen.

use std::collections::BTreeMap;
use std::fmt;

/// What stands in place of a secret wherever it would be shown.
pub const HIDDEN: &str = "[hidden]";

/// A text that does not print. Only [`Secret::expose`] gives it away, at the place where it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// A flat map of settings, as Kafka and Kafka Connect spell them. It prints what the user wrote: placeholders stay
/// placeholders, and a literal under a secret's name is hidden.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, Setting>);

#[derive(Clone, PartialEq, Eq)]
struct Setting {
    shown: String,
    value: Secret,
}

impl Settings {
    /// Puts `key` in, as `written` by the user and as `resolved` from its references.
    pub(super) fn insert(&mut self, key: &str, written: &str, resolved: String) {
        let in_clear = is_secret(key) && written == resolved;
        let shown = if in_clear {
            HIDDEN.to_owned()
        } else {
            written.to_owned()
        };
        self.0.insert(
            key.to_owned(),
            Setting {
                shown,
                value: Secret::new(resolved),
            },
        );
    }

    /// Takes every setting of `other` that is not here yet, its key behind `prefix`.
    pub(super) fn default_to(&mut self, prefix: &str, other: &Settings) {
        for (key, setting) in &other.0 {
            self.0
                .entry(format!("{prefix}{key}"))
                .or_insert_with(|| setting.clone());
        }
    }

    /// The resolved value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|setting| setting.value.expose())
    }

    /// Every key with its resolved value, secrets included: for the client library, not for people.
    #[must_use]
    pub fn expose(&self) -> BTreeMap<String, String> {
        self.0
            .iter()
            .map(|(key, setting)| (key.clone(), setting.value.expose().to_owned()))
            .collect()
    }

    /// Every key with what may be shown of its value.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, setting)| (key.as_str(), setting.shown.as_str()))
    }

    /// `text` with every resolved value in it that is not what the user wrote, put back to what the user wrote.
    /// Messages of a connector about its settings go through here: Kafka Connect's own `validate` is known to
    /// answer with the resolved secret.
    ///
    /// Values shorter than four bytes stay: replacing them would tear every other word apart.
    pub(super) fn redact(&self, text: &str) -> String {
        self.0
            .values()
            .filter(|s| s.value.expose().len() >= 4 && s.shown != s.value.expose())
            .fold(text.to_owned(), |text, setting| {
                text.replace(setting.value.expose(), &setting.shown)
            })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

/// Whether the setting named `key` holds a secret. By its words, so that settings of client libraries we do not
/// know are covered too; the words are those of librdkafka's and Kafka Connect's sensitive settings.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 10] = [
        "password",
        "passphrase",
        "secret",
        "token",
        "jaas",
        "credentials",
        "user.info",
        "oauthbearer.config",
        "key.pem",
        "private.key",
    ];
    const NOT: [&str; 2] = ["token.endpoint", "secret.provider"];
    let key = key.to_lowercase();
    WORDS.iter().any(|word| key.contains(word)) && !NOT.iter().any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let mut settings = Settings::default();
        settings.insert("sasl.password", "hunter2", "hunter2".into());
        settings.insert("ssl.key.password", "${file:/k:p}", "swordfish".into());
        settings.insert("sasl.username", "ann", "ann".into());
        let printed = format!("{settings:?} {:?}", Secret::new("hunter2".into()));
        assert!(
            !printed.contains("hunter2") && !printed.contains("swordfish"),
            "{printed}"
        );
        assert!(
            printed.contains("${file:/k:p}") && printed.contains("ann"),
            "{printed}"
        );
        assert_eq!(settings.get("ssl.key.password"), Some("swordfish"));
        assert_eq!(
            settings.redact("bad value swordfish of ann"),
            "bad value ${file:/k:p} of ann"
        );
    }

    #[test]
    fn secrets_are_known_by_their_words() {
        for key in [
            "kafka.sasl.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.jaas.config",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "ssl.key.location",
            "sasl.username",
            "topics",
            "sasl.oauthbearer.token.endpoint.url",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
