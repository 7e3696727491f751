//! A program that another one has started as a part of itself ends with it.

use anyhow::{Context, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Has the kernel kill this process when process `parent` ends, however it ends (prctl(2), `PR_SET_PDEATHSIG`).
///
/// # Errors
/// It has ended already.
pub(super) fn end_with(parent: u32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("tie this process to its parent")?;
    // Between the start of this process and the call before, nobody watched.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now != Some(parent) {
        bail!("process {parent}, which this one was to end with, has ended");
    }
    Ok(())
}
