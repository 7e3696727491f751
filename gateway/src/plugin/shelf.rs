//! The plugins there are: those built into the program, and files of the plugin directory, which win.

use bytes::Bytes;
use culvert_host::{Description, Examined, LoadError, Role};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// The most files looked at in the directory.
const FILES_MAX: usize = 1_000;

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built into this program.
    Bundled,
    /// A file of the plugin directory.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Bundled => f.write_str("bundled"),
            Origin::File(path) => path.display().fmt(f),
        }
    }
}

/// A plugin that can be named.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where from.
    pub origin: Origin,
    /// What its file says.
    pub examined: Examined,
    /// What it says about itself.
    pub description: Description,
    /// Shared: the configuration is cloned, a component of an interpreter is not.
    bytes: Bytes,
}

impl Found {
    /// What it does.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.examined.roles.first().copied()
    }

    /// Whether it can be a stage.
    #[must_use]
    pub fn is_transform(&self) -> bool {
        self.role().is_some_and(Role::is_transform)
    }

    /// The component.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// All plugins, by name.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    plugins: BTreeMap<String, Found>,
    refused: Vec<(PathBuf, String)>,
}

impl Shelf {
    /// The bundled plugins, and those in `directory`. A directory that is not there holds none. Nothing is run.
    #[must_use]
    pub fn open(directory: &Path) -> Shelf {
        let mut shelf = Shelf::default();
        for (name, bytes) in BUNDLED {
            match found(Origin::Bundled, Bytes::from_static(bytes)) {
                Ok(found) => drop(shelf.plugins.insert(found.description.name.clone(), found)),
                Err(error) => shelf.refused.push((PathBuf::from(name), error.to_string())),
            }
        }
        for path in files(directory) {
            if let Err(reason) = shelf.add(&path) {
                shelf.refused.push((path, reason));
            }
        }
        shelf
    }

    fn add(&mut self, path: &Path) -> Result<(), String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let found = found(Origin::File(path.to_owned()), bytes.into()).map_err(|error| error.to_string())?;
        let name = found.description.name.clone();
        if let Some(other) = self.plugins.get(&name)
            && let Origin::File(other) = &other.origin
        {
            return Err(format!("{name} is also the name of {}", other.display()));
        }
        self.plugins.insert(name, found);
        Ok(())
    }

    /// The plugin of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Found> {
        self.plugins.get(name)
    }

    /// All of them, by name.
    pub fn plugins(&self) -> impl Iterator<Item = &Found> {
        self.plugins.values()
    }

    /// Why the file that would be the plugin of this name is none.
    #[must_use]
    pub fn why_not(&self, name: &str) -> Option<String> {
        let named = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == name);
        let (path, reason) = self.refused.iter().find(|(path, _)| named(path))?;
        Some(format!("{}: {reason}", path.display()))
    }

    /// Files of the directory that are no plugins, and why.
    #[must_use]
    pub fn refused(&self) -> &[(PathBuf, String)] {
        &self.refused
    }
}

fn found(origin: Origin, bytes: Bytes) -> Result<Found, LoadError> {
    let examined = culvert_host::examine(&bytes)?;
    let description = examined
        .description
        .clone()
        .ok_or_else(|| LoadError::Description {
            reason: "there is none in the file; `culvert plugin pack` puts it in".into(),
        })?;
    Ok(Found {
        origin,
        examined,
        description,
        bytes,
    })
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let is_component = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wasm");
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_component)
        .collect();
    files.sort();
    files.truncate(FILES_MAX);
    files
}
