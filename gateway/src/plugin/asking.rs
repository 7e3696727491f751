//! Asks plugins what they think of their settings, before anything starts.
//!
//! A plugin has to be compiled for that: what the gateway keeps compiled is used, and kept where the gateway itself asks.
//! Where only `culvert check` asks, nothing is written, and what is not compiled yet costs its time each time.

use super::shelf::Found;
use crate::executable;
use culvert_host::{Compiler, Engine, Limits, LoadError, OpenError, Options, Plugin, Wrong, validate};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Whoever asks, and the plugins that were loaded for it.
pub struct Asking {
    options: Mutex<Option<Options>>,
    engine: OnceLock<Result<Engine, String>>,
    loaded: Mutex<BTreeMap<String, Plugin>>,
}

impl Asking {
    /// Looks into `cache`, and writes nothing.
    #[must_use]
    pub fn reading(cache: PathBuf) -> Asking {
        Asking::new(Options {
            cache: Some(cache),
            is_reader: true,
            compiler: Compiler::Here,
        })
    }

    /// Keeps in `cache` what is compiled, as the gateway does.
    #[must_use]
    pub fn keeping(cache: PathBuf) -> Asking {
        let compiler = match executable::own() {
            Some(program) => Compiler::Child {
                program,
                arguments: vec!["plugin".into(), "compile".into()],
            },
            None => Compiler::Here,
        };
        Asking::new(Options {
            cache: Some(cache),
            is_reader: false,
            compiler,
        })
    }

    fn new(options: Options) -> Asking {
        Asking {
            options: Mutex::new(Some(options)),
            engine: OnceLock::new(),
            loaded: Mutex::default(),
        }
    }

    /// What the plugin finds wrong with these settings, all of its keys. At most 100 answers.
    ///
    /// # Errors
    /// When it cannot be asked: the code of the page, and what happened.
    pub fn ask(
        &self,
        found: &Found,
        settings: &[(String, Option<String>)],
        limits: &Limits,
    ) -> Result<Vec<Wrong>, (&'static str, String)> {
        let plugin = self
            .plugin(found)
            .map_err(|error| (error.code(), error.to_string()))?;
        validate(&plugin, settings, limits.clone()).map_err(|error| match error {
            OpenError::Load(error) => (error.code(), error.to_string()),
            other => ("CULVERT-W060", told(&other)),
        })
    }

    fn plugin(&self, found: &Found) -> Result<Plugin, LoadError> {
        let name = &found.description.name;
        if let Some(plugin) = self.loaded.lock().get(name) {
            return Ok(plugin.clone());
        }
        let engine = self.engine.get_or_init(|| {
            let options = self.options.lock().take().unwrap_or_default();
            Engine::new(options).map_err(|error| error.to_string())
        });
        let engine = engine.as_ref().map_err(|reason| LoadError::Compile {
            reason: reason.clone(),
        })?;
        let plugin = engine.load(&found.bytes()?)?;
        self.loaded.lock().insert(name.clone(), plugin.clone());
        Ok(plugin)
    }
}

fn told(error: &OpenError) -> String {
    match error {
        OpenError::Poison(poison) => poison.to_string(),
        other => other.to_string(),
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}
