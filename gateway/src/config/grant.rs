//! What a connector's settings allow its plugins to use: keys beginning with `culvert.grant.`.
//!
//! ```json
//! "culvert.grant.secrets.api": "${file:/etc/culvert/keys:api}",
//! "culvert.grant.http": "GET https://api.example.org/v1/*; POST https://api.example.org/v1/orders",
//! "culvert.grant.files": "read /var/lib/in; write /var/lib/out"
//! ```
//!
//! For a stage they stand below `transforms.NAME.`. Nothing is granted unless it is written there, or in a setting of the
//! plugin that is described as granting what its value names: then the operator has written the address himself.

use super::connector::Definition;
use super::mistake::{
    CONNECTOR, CONTRADICTION, Found, SECRET_IN_CLEAR, UNKNOWN_KEY, UNREADABLE, VALUE, nearest,
};
use super::names;
use super::reference;
use crate::plugin::{self, AddressGrant, Capability, FolderGrant, Grants, SecretBytes};
use std::collections::BTreeSet;

/// What all keys begin with.
const PREFIX: &str = "culvert.grant.";

/// Keys, without what they all begin with.
const STATE: &str = "state";
const REVEAL: &str = "secrets.reveal";
const SECRETS: &str = "secrets.";
const HTTP: &str = "http";
const AUTHORITIES: &str = "http.ca";
const FILES: &str = "files";

/// The most grants of one kind. By eye.
const GRANTS_MAX: usize = 100;

/// The most bytes of certificates. A system's own bundle has about 250 KiB.
const AUTHORITIES_BYTES_MAX: u64 = 4 << 20;

/// Whether a key, as the plugin's keys are spelled, is about grants.
pub(super) fn is_grant(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// What the keys behind `prefix` and the settings of the plugin grant. A plugin that lacks what it imports is a mistake, and
/// so is a grant that it has no use for.
pub(super) fn grants(
    definition: &Definition<'_>,
    prefix: &str,
    plugin: &plugin::Found,
    settings: &[(String, Option<String>)],
    found: &mut Found,
) -> Grants {
    let before = found.len();
    let granting = Granting {
        definition,
        prefix,
        plugin,
    };
    granting.check_state(found);
    let mut grants = Grants::default();
    for (key, written) in granting.keys() {
        granting.take(&key, &written, &mut grants, found);
    }
    granting.check_reveal(&grants, found);
    granting.imply(settings, &mut grants, found);
    if found.len() == before {
        granting.check_imports(&grants, found);
    }
    grants
}

struct Granting<'a> {
    definition: &'a Definition<'a>,
    prefix: &'a str,
    plugin: &'a plugin::Found,
}

impl Granting<'_> {
    /// Keys without their beginning, and what was written.
    fn keys(&self) -> Vec<(String, String)> {
        let shown = self.definition.settings.shown();
        shown
            .filter_map(|(key, written)| {
                let key = key.strip_prefix(self.prefix)?.strip_prefix(PREFIX)?;
                Some((key.to_owned(), written.to_owned()))
            })
            .collect()
    }

    fn take(&self, key: &str, written: &str, grants: &mut Grants, found: &mut Found) {
        let full = format!("{}{PREFIX}{key}", self.prefix);
        let value = self.definition.settings.get(&full).unwrap_or_default();
        match key {
            STATE => match value {
                "true" => grants.state = true,
                "false" => {}
                _ => {
                    let problem = format!("{value:?} is no truth value");
                    self.mistake(VALUE, key, problem, "valid: true or false", found);
                }
            },
            REVEAL => grants.reveal = list(value, ',').map(str::to_owned).collect::<BTreeSet<_>>(),
            HTTP => {
                let hint = "valid: GET,POST https://host:port/path/*, several between ';'";
                grants.http = self.several(key, value, hint, AddressGrant::parse, found);
            }
            AUTHORITIES => grants.http_authorities = self.authorities(key, value, found),
            FILES => {
                let base = self.definition.base();
                let hint = "valid: read /folder, write /folder, or /folder/name* for names that begin so; several between ';'";
                grants.files = self.several(key, value, hint, |text| FolderGrant::parse(text, base), found);
            }
            _ => match key.strip_prefix(SECRETS) {
                Some(name) => self.secret(key, name, written, value, grants, found),
                None => {
                    let near = nearest(key, [STATE, REVEAL, HTTP, AUTHORITIES, FILES]);
                    let hint = near.map_or_else(
                        || "valid: state, secrets.NAME, secrets.reveal, http, http.ca, files".to_owned(),
                        |near| format!("did you mean {PREFIX}{near}?"),
                    );
                    self.mistake(UNKNOWN_KEY, key, "is no grant", hint, found);
                }
            },
        }
    }

    fn secret(
        &self,
        key: &str,
        name: &str,
        written: &str,
        value: &str,
        grants: &mut Grants,
        found: &mut Found,
    ) {
        if !names::is_plain(name, 100) {
            let hint = "valid: letters, digits, '.', '_' and '-'";
            self.mistake(VALUE, key, format!("{name:?} is not a name"), hint, found);
        } else if !reference::is_reference(written) {
            let hint = "valid: a reference alone, ${file:PATH:KEY}, ${dir:PATH:NAME}, ${credential:NAME} or ${env:NAME}";
            self.mistake(SECRET_IN_CLEAR, key, "stands in the clear", hint, found);
        } else if value.is_empty() {
            let hint = "put the secret where the reference leads";
            self.mistake(VALUE, key, "leads to an empty text", hint, found);
        } else {
            let bytes = SecretBytes::new(value.as_bytes().to_vec());
            grants.secrets.insert(name.to_owned(), bytes);
        }
    }

    fn several<Grant>(
        &self,
        key: &str,
        value: &str,
        hint: &str,
        read: impl Fn(&str) -> Result<Grant, String>,
        found: &mut Found,
    ) -> Vec<Grant> {
        let mut grants = Vec::new();
        for text in list(value, ';') {
            match read(text) {
                Ok(grant) => grants.push(grant),
                Err(problem) => self.mistake(VALUE, key, problem, hint, found),
            }
        }
        if grants.len() > GRANTS_MAX {
            let problem = format!("names {}", grants.len());
            self.mistake(VALUE, key, problem, format!("valid: at most {GRANTS_MAX}"), found);
        }
        grants
    }

    fn authorities(&self, key: &str, value: &str, found: &mut Found) -> Vec<u8> {
        let path = self.definition.base().join(value);
        let read = || {
            let file = std::fs::File::open(&path)?;
            let mut bytes = Vec::new();
            let mut limited = std::io::Read::take(file, AUTHORITIES_BYTES_MAX);
            std::io::Read::read_to_end(&mut limited, &mut bytes)?;
            Ok(bytes)
        };
        let problem = match read() {
            Ok(bytes) => match plugin::check_authorities(&bytes) {
                Ok(()) => return bytes,
                Err(problem) => problem,
            },
            Err::<_, std::io::Error>(error) => error.to_string(),
        };
        let hint = "name a file of certificates in PEM that the gateway's user may read";
        let problem = format!("{}: {problem}", path.display());
        self.mistake(UNREADABLE, key, problem, hint, found);
        Vec::new()
    }

    /// A store is kept with the pages of a source; of any other plugin, what it put would be gone with its instance.
    fn check_state(&self, found: &mut Found) {
        let (name, is_imported) = (
            &self.plugin.description.name,
            self.plugin.examined.imports_capability(Capability::State),
        );
        let is_granted = self
            .keys()
            .iter()
            .any(|(key, written)| key == STATE && written == "true");
        let is_needed = !self.plugin.description.is_optional(Capability::State);
        if is_imported && !self.plugin.has_state() && (is_needed || is_granted) {
            let problem =
                format!("cannot be granted: plugin {name} is no source, and only a source has a store");
            let hint = match is_needed {
                true => "use a plugin that needs none",
                false => "leave it out: the plugin can do without",
            };
            self.mistake("CULVERT-W080", STATE, problem, hint, found);
        }
    }

    fn check_reveal(&self, grants: &Grants, found: &mut Found) {
        for name in grants
            .reveal
            .iter()
            .filter(|name| !grants.secrets.contains_key(*name))
        {
            let problem = format!("names {name:?}, which is not granted");
            let hint = format!("grant it too: {PREFIX}{SECRETS}{name}");
            self.mistake(CONTRADICTION, REVEAL, problem, hint, found);
        }
    }

    /// What the plugin's own settings grant.
    fn imply(&self, settings: &[(String, Option<String>)], grants: &mut Grants, found: &mut Found) {
        for field in &self.plugin.description.fields {
            let value = settings.iter().find(|(name, _)| *name == field.name);
            let Some(value) = value.and_then(|(_, value)| value.as_deref()).map(str::trim) else {
                continue;
            };
            if value.is_empty() {
                continue;
            }
            if let Err(problem) = plugin::imply(field, value, self.definition.base(), grants) {
                let key = format!("{}{}", self.prefix, field.name);
                let hint = "the plugin may use what this key names, so it has to name one place exactly";
                self.definition.mistake(CONNECTOR, &key, problem, hint, found);
            }
        }
    }

    fn check_imports(&self, grants: &Grants, found: &mut Found) {
        let (examined, description) = (&self.plugin.examined, &self.plugin.description);
        for lack in grants.lacks(examined, description) {
            let (key, example) = lack.key();
            let problem = format!(
                "is missing: plugin {} imports {}, for this: {}",
                description.name,
                lack.what.word(),
                lack.because
            );
            let full = format!("{}{key}", self.prefix);
            let hint = format!("for example \"{full}\": {example:?}");
            self.definition
                .mistake("CULVERT-W030", &full, problem, hint, found);
        }
        for what in Capability::ALL {
            if grants.holds(what) && !examined.imports_capability(what) {
                let problem = format!(
                    "grants {}, which plugin {} does not import",
                    what.word(),
                    description.name
                );
                let key = match what {
                    Capability::State => STATE,
                    Capability::Secrets => "secrets",
                    Capability::SecretsReveal => REVEAL,
                    Capability::Http => HTTP,
                    Capability::Files => FILES,
                };
                self.mistake(CONTRADICTION, key, problem, "leave it out", found);
            }
        }
    }

    fn mistake(
        &self,
        code: &'static str,
        key: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
        found: &mut Found,
    ) {
        let key = format!("{}{PREFIX}{key}", self.prefix);
        self.definition.mistake(code, &key, problem, hint, found);
    }
}

fn list(text: &str, between: char) -> impl Iterator<Item = &str> {
    text.split(between).map(str::trim).filter(|part| !part.is_empty())
}
