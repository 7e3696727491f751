//! What an instance stands in: everything that it can reach beyond its own memory.

use crate::capability::clock::{self, Now};
use crate::capability::log::{LogSink, NoLog};
use crate::component::Plugin;
use crate::description::FieldType;
use crate::fault::OpenError;
use crate::grants::{Grants, Veil};
use crate::tape::Tape;
use parking_lot::Mutex;
use std::fmt;
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
    /// Where what it is answered is kept, or comes from. A stage's alone: sinks, sources and codecs have none.
    pub tape: Option<Tape>,
}

/// What happens at one of the calls by which instances reach the outside (files, requests, their store): whatever a plugin
/// does between two of them, a kill may come there, or another writer.
#[derive(Clone)]
pub struct Cut(Arc<At>);

struct At {
    /// Calls that are still made as they always are.
    left: AtomicU64,
    /// The call at which it came.
    call: Mutex<Option<&'static str>>,
    /// Done before the call is made; where there is nothing to do, the instance ends.
    meanwhile: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Cut {
    /// So many calls are made; every later one ends its instance. Of a write the first half is made, and a request is
    /// received and not answered.
    #[must_use]
    pub fn after(calls: u64) -> Cut {
        Cut::new(calls, None)
    }

    /// So many calls are made; before the next one `act` happens, once. The plugin sees nothing of it.
    #[must_use]
    pub fn meanwhile(calls: u64, act: impl Fn() + Send + Sync + 'static) -> Cut {
        Cut::new(calls, Some(Box::new(act)))
    }

    fn new(calls: u64, meanwhile: Option<Box<dyn Fn() + Send + Sync>>) -> Cut {
        Cut(Arc::new(At {
            left: AtomicU64::new(calls),
            call: Mutex::new(None),
            meanwhile,
        }))
    }

    /// How many calls may still be made.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.0.left.load(Ordering::Relaxed)
    }

    /// The call at which it came, as in `files.append`; none where it never came.
    #[must_use]
    pub fn call(&self) -> Option<&'static str> {
        *self.0.call.lock()
    }

    /// Whether the instance ends here.
    pub(crate) fn is_due(&self, call: &'static str) -> bool {
        let spend = |left: u64| left.checked_sub(1);
        let relaxed = Ordering::Relaxed;
        if self.0.left.fetch_update(relaxed, relaxed, spend).is_ok() {
            return false;
        }
        let is_first = self.0.call.lock().replace(call).is_none();
        match &self.0.meanwhile {
            None => true,
            Some(act) => {
                if is_first {
                    act();
                }
                false
            }
        }
    }
}

impl fmt::Debug for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cut({} left, at {:?})", self.left(), self.call())
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
            tape: None,
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

    /// With what is answered recorded or played.
    #[must_use]
    pub fn taped(self, tape: Tape) -> Surroundings {
        Surroundings {
            tape: Some(tape),
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
        // Played, nothing outside is touched: there is nothing to grant.
        if self.tape.as_ref().is_some_and(Tape::is_played) {
            return Ok(());
        }
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
