//! What a plugin may call, one file a capability.

use crate::bindings::capabilities::culvert::plugin as imported;
use crate::guest::Guest;
use wasmtime::component::{HasSelf, Linker};

pub(crate) mod clock;
pub(crate) mod log;
pub(crate) mod metrics;

/// Links what needs no grant.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    imported::log::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.logbook)?;
    imported::metrics::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.figures)?;
    imported::clock::add_to_linker::<_, HasSelf<_>>(linker, |guest: &mut Guest| &mut guest.clock)
}
