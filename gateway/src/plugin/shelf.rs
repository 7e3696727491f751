//! The plugins there are: those built into the program, and files of the plugin directory, which win.

use super::asking::Asking;
use super::trust::Trust;
use bytes::Bytes;
use culvert_host::{Description, Digest, Examined, Limits, LoadError, Role, Wrong as Unfit};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

/// A component in the program, compressed.
#[derive(Debug)]
struct Bundled {
    name: &'static str,
    size: usize,
    packed: &'static [u8],
}

impl Bundled {
    fn bytes(&self) -> Result<Vec<u8>, LoadError> {
        zstd::bulk::decompress(self.packed, self.size).map_err(|source| LoadError::Io {
            doing: format!("unpack the bundled plugin {}", self.name),
            source,
        })
    }
}

// By name, as build.rs found them.
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
    /// Which file it was when it was looked at.
    pub digest: Digest,
    bundled: Option<&'static Bundled>,
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

    /// Whether a store of its own would be kept: that of a source is, with its pages.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.role() == Some(Role::Source)
    }

    /// The component, unpacked or read again from its file: it is needed once, when it is compiled.
    ///
    /// # Errors
    /// When the file cannot be read, or is another one than was looked at.
    pub fn bytes(&self) -> Result<Bytes, LoadError> {
        let path = match (&self.origin, self.bundled) {
            (_, Some(bundled)) => return bundled.bytes().map(Bytes::from),
            (Origin::File(path), None) => path,
            (Origin::Bundled, None) => return Ok(Bytes::new()),
        };
        let io = |source| LoadError::Io {
            doing: format!("read {}", path.display()),
            source,
        };
        let bytes = std::fs::read(path).map_err(io)?;
        if Digest::of(&bytes) != self.digest {
            let changed = "it has changed since the configuration was read; reload that";
            return Err(io(std::io::Error::other(changed)));
        }
        Ok(bytes.into())
    }
}

/// All plugins, by name. Looked at when one is first asked for: a configuration without plugins reads none of their files.
#[derive(Clone, Debug)]
pub struct Shelf {
    directory: PathBuf,
    trust: Arc<Trust>,
    looked: Arc<OnceLock<Looked>>,
    /// Who asks plugins about their settings; without, nobody does.
    asking: Option<Arc<Asking>>,
}

#[derive(Clone, Debug, Default)]
struct Looked {
    plugins: BTreeMap<String, Found>,
    refused: Vec<(PathBuf, String)>,
}

impl Shelf {
    /// The bundled plugins, and those in `directory`. A directory that is not there holds none. Nothing is run.
    #[must_use]
    pub fn open(directory: &Path) -> Shelf {
        Shelf {
            directory: directory.to_owned(),
            trust: Arc::default(),
            looked: Arc::default(),
            asking: None,
        }
    }

    /// The same, where plugins are asked about their settings.
    #[must_use]
    pub fn asking(self, asking: Option<Asking>) -> Shelf {
        Shelf {
            asking: asking.map(Arc::new),
            ..self
        }
    }

    /// What a plugin finds wrong with these settings; nothing, where nobody asks.
    ///
    /// # Errors
    /// When it cannot be asked: the code of the page, and what happened.
    pub fn ask(
        &self,
        found: &Found,
        settings: &[(String, Option<String>)],
        limits: &Limits,
    ) -> Result<Vec<Unfit>, (&'static str, String)> {
        match &self.asking {
            Some(asking) => asking.ask(found, settings, limits),
            None => Ok(Vec::new()),
        }
    }

    /// The same, with files of the directory only as far as they are trusted.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Shelf {
        Shelf {
            trust: Arc::new(trust),
            looked: Arc::default(),
            ..self
        }
    }

    /// The plugin of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Found> {
        self.looked().plugins.get(name)
    }

    /// All of them, by name.
    pub fn plugins(&self) -> impl Iterator<Item = &Found> {
        self.looked().plugins.values()
    }

    /// Files of the directory that are no plugins, and why.
    #[must_use]
    pub fn refused(&self) -> &[(PathBuf, String)] {
        &self.looked().refused
    }

    /// Why the file that would be the plugin of this name is none.
    #[must_use]
    pub fn why_not(&self, name: &str) -> Option<String> {
        let named = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == name);
        let (path, reason) = self.refused().iter().find(|(path, _)| named(path))?;
        Some(format!("{}: {reason}", path.display()))
    }

    fn looked(&self) -> &Looked {
        self.looked.get_or_init(|| {
            let mut looked = BUNDLED_FOUND.clone();
            for path in files(&self.directory) {
                if let Err(reason) = looked.add(&path, &self.trust) {
                    looked.refused.push((path, reason));
                }
            }
            looked
        })
    }
}

impl Looked {
    fn add(&mut self, path: &Path, trust: &Trust) -> Result<(), String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let found = found(Origin::File(path.to_owned()), &bytes).map_err(|error| error.to_string())?;
        let name = found.description.name.clone();
        if let Some(other) = self.plugins.get(&name)
            && let Origin::File(other) = &other.origin
        {
            return Err(format!("{name} is also the name of {}", other.display()));
        }
        if let Err(reason) = trust.check(&bytes) {
            // Nor does the bundled one of that name run in its place: who put the file there means another.
            self.plugins.remove(&name);
            return Err(reason);
        }
        self.plugins.insert(name, found);
        Ok(())
    }
}

/// What is in the program does not change: it is looked at once.
static BUNDLED_FOUND: LazyLock<Looked> = LazyLock::new(|| {
    let mut looked = Looked::default();
    for bundled in BUNDLED {
        let found = bundled.bytes().and_then(|bytes| found(Origin::Bundled, &bytes));
        match found {
            Ok(mut found) => {
                found.bundled = Some(bundled);
                looked.plugins.insert(found.description.name.clone(), found);
            }
            Err(error) => looked
                .refused
                .push((PathBuf::from(bundled.name), error.to_string())),
        }
    }
    looked
});

fn found(origin: Origin, bytes: &[u8]) -> Result<Found, LoadError> {
    let examined = culvert_host::examine(bytes)?;
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
        digest: Digest::of(bytes),
        bundled: None,
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
