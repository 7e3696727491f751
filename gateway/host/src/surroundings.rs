//! What an instance stands in: everything that it can reach beyond its own memory.

use crate::capability::clock::{self, Now};
use crate::capability::log::{LogSink, NoLog};
use crate::component::Plugin;
use crate::description::FieldType;
use crate::fault::OpenError;
use crate::grants::{Grants, Veil};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the instances of one plugin for one connector stand in. Cheap to clone.
#[derive(Clone)]
pub struct Surroundings {
    /// Where its lines go.
    pub log: Arc<dyn LogSink>,
    /// What time it is.
    pub now: Now,
    /// What it may use.
    pub grants: Arc<Grants>,
    /// When it is cut off, as by a kill; only tests do that.
    pub cut: Option<Cut>,
}

/// Ends instances at a call to the outside: whatever a plugin does between two of them, a kill may come there.
#[derive(Clone, Debug)]
pub struct Cut(Arc<AtomicU64>);

impl Cut {
    /// So many calls are made; every later one ends its instance.
    #[must_use]
    pub fn after(calls: u64) -> Cut {
        Cut(Arc::new(AtomicU64::new(calls)))
    }

    /// How many calls may still be made.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn is_due(&self) -> bool {
        let spend = |left: u64| left.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_err()
    }
}

impl Surroundings {
    /// A log, this machine's clock, and no grants.
    #[must_use]
    pub fn new(log: Arc<dyn LogSink>) -> Surroundings {
        Surroundings {
            log,
            now: clock::system(),
            grants: Arc::default(),
            cut: None,
        }
    }

    /// Nothing but the clock.
    pub(crate) fn bare() -> Surroundings {
        Surroundings::new(Arc::new(NoLog))
    }

    /// With another clock than this machine's: to see what a plugin makes of the time.
    #[must_use]
    pub fn at(self, now: Now) -> Surroundings {
        Surroundings { now, ..self }
    }

    /// With an end that comes at one of its calls.
    #[must_use]
    pub fn cut(self, cut: Cut) -> Surroundings {
        Surroundings {
            cut: Some(cut),
            ..self
        }
    }

    /// With these grants.
    #[must_use]
    pub fn granting(self, grants: Arc<Grants>) -> Surroundings {
        Surroundings { grants, ..self }
    }

    /// Whether all is granted that the plugin cannot do without.
    ///
    /// # Errors
    /// All that is not.
    pub(crate) fn check(&self, plugin: &Plugin) -> Result<(), OpenError> {
        let lacks = self.grants.lacks(&plugin.examined, &plugin.description);
        if lacks.is_empty() {
            return Ok(());
        }
        let lacks: Vec<String> = lacks.iter().map(ToString::to_string).collect();
        Err(OpenError::NotGranted {
            plugin: plugin.description.name.clone(),
            lacks: lacks.join("; it also "),
        })
    }

    /// What must not be read in the plugin's words: secrets that were granted, and passwords among its settings.
    pub(crate) fn veil(&self, plugin: &Plugin, settings: &[(String, Option<String>)]) -> Veil {
        let fields = &plugin.description.fields;
        let is_password = |name: &str| {
            let mut fields = fields.iter().filter(|field| field.name == name);
            fields.any(|field| field.kind == FieldType::Password)
        };
        let passwords = settings.iter().filter(|(name, _)| is_password(name));
        Veil::new(&self.grants, passwords.filter_map(|(_, value)| value.as_deref()))
    }
}
