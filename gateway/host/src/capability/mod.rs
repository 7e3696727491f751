//! What a plugin may call, one file a capability.

use crate::bindings::capabilities::culvert::plugin as imported;
use crate::grants::Grants;
use crate::guest::Guest;
use crate::surroundings::{Cut, Surroundings};
use crate::tape::Tape;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::{HasSelf, Linker, ResourceTable};

pub(crate) mod clock;
mod files;
pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod secrets;
pub(crate) mod state;

/// Links all there is. Whether a plugin may be opened that imports it is decided before, by [`Grants::lacks`]; and each
/// call is looked at again, so that what was not granted is denied.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    imported::log::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.logbook)?;
    imported::metrics::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.figures)?;
    imported::clock::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.clock)?;
    imported::secrets::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.reach)?;
    imported::secrets_reveal::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.reach)?;
    imported::http::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.reach)?;
    imported::files::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.reach)?;
    imported::state::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.state)
}

/// What an instance reaches by its grants.
pub(crate) struct Reach {
    grants: Arc<Grants>,
    cut: Option<Cut>,
    tape: Option<Tape>,
    /// Handles that the plugin holds.
    handles: ResourceTable,
    /// Made with the first request; holds connections that are open.
    client: Option<ureq::Agent>,
    /// When the call that is being made has to be over. The clock of plugins ends their own work only: what waits here
    /// has to keep to it by itself.
    deadline: Instant,
    /// How long that call has been outside.
    waited: Duration,
}

impl Reach {
    pub(crate) fn new(around: &Surroundings) -> Reach {
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(secrets::HANDLES_MAX);
        Reach {
            grants: around.grants.clone(),
            cut: around.cut.clone(),
            tape: around.tape.clone(),
            handles,
            client: None,
            deadline: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// Before every call that reaches the outside: a cut ends the instance there.
    fn outside(&self, call: &'static str) -> wasmtime::Result<()> {
        outside(self.cut.as_ref(), call)
    }

    /// What the plugin waits for is done, and counted as waiting.
    fn reach_out<Answer>(&mut self, act: impl FnOnce(&mut Reach) -> Answer) -> Answer {
        let since = Instant::now();
        let answer = act(self);
        self.waited += since.elapsed();
        answer
    }

    /// A call begins that may take `time`.
    pub(crate) fn begin(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
        self.waited = Duration::ZERO;
    }

    /// How long the call has waited for what is outside.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// How long may be waited, so that a little is left for the plugin to make an answer of what comes of it.
    fn patience(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.saturating_sub((left / 10).min(Duration::from_millis(100)))
    }
}

fn outside(cut: Option<&Cut>, call: &'static str) -> wasmtime::Result<()> {
    match cut {
        Some(cut) if cut.is_due(call) => Err(wasmtime::format_err!("cut off from the outside at {call}")),
        _ => Ok(()),
    }
}
