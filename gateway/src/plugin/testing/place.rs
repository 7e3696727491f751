//! Where a plugin under test acts on the outside: a folder of its own, and a server in this process. Both are empty at the
//! beginning of every attack, and what is there at its end can be looked at.
//!
//! Settings that grant what they name ([`imply`]) are turned there: a file keeps its name and gets into the folder, an address
//! keeps its path and gets the server's host and port. In any other setting `${folder}` and `${server}` stand for the two.

mod server;

pub(super) use server::Server;

use super::settings::Settings;
use crate::plugin::imply;
use culvert_host::{AddressGrant, Capability, Field, FolderGrant, Grants, Plugin};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The most that a plugin may leave behind, and the most files.
const EFFECT_BYTES_MAX: u64 = 64 << 20;
const FILES_MAX: usize = 10_000;

/// A folder and a server.
pub(super) struct Place {
    root: TempDir,
    pub(super) server: Server,
    /// The plugin's, turned to this place.
    pub(super) settings: Settings,
    pub(super) grants: Arc<Grants>,
}

impl Place {
    /// A place for these settings of a plugin.
    ///
    /// # Errors
    /// When there is none on this machine, or a setting cannot be turned to it.
    pub(super) fn new(plugin: &Plugin, settings: &[(String, Option<String>)]) -> Result<Place, String> {
        let root = folder().map_err(|error| format!("make a folder: {error}"))?;
        let server = Server::start().map_err(|error| format!("listen at a port: {error}"))?;
        let mut place = Place {
            root,
            server,
            settings: Vec::new(),
            grants: Arc::default(),
        };
        let mut grants = Grants {
            state: plugin.examined.imports_capability(Capability::State),
            ..Grants::default()
        };
        for (name, value) in settings {
            let field = plugin.description.fields.iter().find(|field| field.name == *name);
            let value = match (field, value) {
                (Some(field), Some(value)) if !value.trim().is_empty() => {
                    let value = place.turned(field, value.trim());
                    imply(field, &value, Path::new("/"), &mut grants)
                        .map_err(|why| format!("{name}: {why}"))?;
                    Some(value)
                }
                (_, value) => value.clone(),
            };
            place.settings.push((name.clone(), value));
        }
        place.grant_what_no_setting_names(plugin, &mut grants)?;
        place.grants = Arc::new(grants);
        place.clear()?;
        Ok(place)
    }

    fn turned(&self, field: &Field, value: &str) -> String {
        let spelled = value
            .replace("${folder}", &self.folder().display().to_string())
            .replace("${server}", &self.server.url());
        let grants: Vec<&str> = field.grants().collect();
        if spelled != value || grants.is_empty() {
            spelled
        } else if grants.iter().any(|word| word.starts_with("http.")) {
            let path = value
                .split_once("://")
                .and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
            format!("{}{}", self.server.url(), path.unwrap_or("/"))
        } else {
            let name = value.trim_end_matches('/').rsplit('/').next();
            let name = name.filter(|name| !name.is_empty()).unwrap_or("file");
            self.folder().join(name).display().to_string()
        }
    }

    /// The whole folder, the whole server: the plugin says by other settings where it goes.
    fn grant_what_no_setting_names(&self, plugin: &Plugin, grants: &mut Grants) -> Result<(), String> {
        let imports = |what| plugin.examined.imports_capability(what);
        if imports(Capability::Files) && grants.files.is_empty() {
            let grant = format!("write {}", self.folder().display());
            grants.files.push(FolderGrant::parse(&grant, Path::new("/"))?);
        }
        if imports(Capability::Http) && grants.http.is_empty() {
            let grant = format!("GET,HEAD,POST,PUT,PATCH,DELETE {}/*", self.server.url());
            grants.http.push(AddressGrant::parse(&grant)?);
        }
        Ok(())
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.root.path().join("place")
    }

    /// Nothing is there any more.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn clear(&self) -> Result<(), String> {
        let folder = self.folder();
        let failed = |error: std::io::Error| format!("empty {}: {error}", folder.display());
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        self.server.clear();
        std::fs::create_dir(&folder).map_err(failed)
    }

    /// What is there.
    ///
    /// # Errors
    /// The disk, or more than is looked at.
    pub(super) fn effect(&self) -> Result<Effect, String> {
        let mut things = self.server.held();
        let (mut folders, mut bytes) = (vec![self.folder()], 0);
        while let Some(folder) = folders.pop() {
            let failed = |error: std::io::Error| format!("read {}: {error}", folder.display());
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                let status = std::fs::symlink_metadata(&path).map_err(failed)?;
                if status.is_dir() {
                    folders.push(path);
                    continue;
                }
                bytes += status.len();
                if bytes > EFFECT_BYTES_MAX || things.len() > FILES_MAX {
                    return Err(format!(
                        "it leaves more than {EFFECT_BYTES_MAX} bytes or {FILES_MAX} files"
                    ));
                }
                let name = path.strip_prefix(self.folder()).unwrap_or(&path);
                things.insert(
                    format!("file {}", name.display()),
                    std::fs::read(&path).map_err(failed)?,
                );
            }
        }
        Ok(Effect { things })
    }
}

/// In memory, where this machine has such a place: what a plugin makes durable costs nothing there, and no attack cuts the
/// power.
fn folder() -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("culvert-plugin-test-");
    builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir())
}

/// What is there after an attack: files, and what the server took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) things: BTreeMap<String, Vec<u8>>,
}

/// Two effects that differ, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The thing that differs.
    pub(super) thing: String,
    pub(super) expected: String,
    pub(super) got: String,
}

impl Effect {
    /// The first thing in which it is not as it should be.
    pub(super) fn differs(
        &self,
        expected: &Effect,
        passed_over: &dyn Fn(&str) -> bool,
    ) -> Option<Difference> {
        let names = expected.things.keys().chain(self.things.keys());
        for name in names.filter(|name| !passed_over(name)) {
            let (wanted, got) = (expected.things.get(name), self.things.get(name));
            if wanted == got {
                continue;
            }
            let (expected, got) = match (wanted, got) {
                (Some(wanted), Some(got)) => at_difference(wanted, got),
                (Some(wanted), None) => (size(wanted), "it is not there".into()),
                (None, _) => (
                    "it is not there".into(),
                    got.map_or(String::new(), |got| size(got)),
                ),
            };
            return Some(Difference {
                thing: name.clone(),
                expected,
                got,
            });
        }
        None
    }

    /// How often a text is in each thing that holds it.
    pub(super) fn count(&self, mark: &str) -> Vec<(&str, usize)> {
        let finder = |bytes: &Vec<u8>| {
            bytes
                .windows(mark.len())
                .filter(|part| *part == mark.as_bytes())
                .count()
        };
        let counted = self
            .things
            .iter()
            .map(|(name, bytes)| (name.as_str(), finder(bytes)));
        counted.filter(|(_, count)| *count > 0).collect()
    }
}

fn size(bytes: &[u8]) -> String {
    format!("{} bytes", bytes.len())
}

/// The first line in which they differ, of either.
fn at_difference(wanted: &[u8], got: &[u8]) -> (String, String) {
    let line = |bytes: &[u8], number: usize| match bytes.split(|byte| *byte == b'\n').nth(number) {
        Some([]) | None => format!("nothing more ({} bytes)", bytes.len()),
        Some(line) => super::message::bytes_shown(Some(line)),
    };
    let lines = |bytes: &[u8]| {
        bytes
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (one, other) = (lines(wanted), lines(got));
    let same = one
        .iter()
        .zip(&other)
        .take_while(|(one, other)| one == other)
        .count();
    let shown = |bytes| format!("line {}: {}", same + 1, line(bytes, same));
    (shown(wanted), shown(got))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(things: &[(&str, &str)]) -> Effect {
        let thing = |(name, bytes): &(&str, &str)| ((*name).to_owned(), bytes.as_bytes().to_vec());
        Effect {
            things: things.iter().map(thing).collect(),
        }
    }

    #[test]
    fn what_differs_is_told_by_the_first_line() {
        let check = |expected: &[(&str, &str)], got: &[(&str, &str)], said: Option<[&str; 3]>| {
            let found = effect(got).differs(&effect(expected), &|name| name == "file ledger");
            let found = found.map(|found| [found.thing, found.expected, found.got]);
            assert_eq!(found, said.map(|said| said.map(str::to_owned)));
        };
        check(&[("file a", "1\n2\n")], &[("file a", "1\n2\n")], None);
        check(
            &[("file a", "1\n2\n3\n")],
            &[("file a", "1\n3\n")],
            Some(["file a", "line 2: 2", "line 2: 3"]),
        );
        check(
            &[("file a", "1\n")],
            &[("file a", "1\n1\n")],
            Some(["file a", "line 2: nothing more (2 bytes)", "line 2: 1"]),
        );
        check(
            &[("file a", "1\n")],
            &[],
            Some(["file a", "2 bytes", "it is not there"]),
        );
        check(
            &[],
            &[("POST /x key 1", "1")],
            Some(["POST /x key 1", "it is not there", "1 bytes"]),
        );
        check(&[("file ledger", "1")], &[("file ledger", "2")], None);
    }

    #[test]
    fn a_text_is_counted_in_each_thing() {
        let effect = effect(&[("file a", "m1 m2 m1"), ("file b", "m1"), ("file c", "")]);
        assert_eq!(effect.count("m1"), [("file a", 2), ("file b", 1)]);
    }
}
