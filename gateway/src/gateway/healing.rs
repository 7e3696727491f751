//! Opening the outbox, and mending it where it is damaged: what a source or a peer still has comes again, and nobody has to be
//! called for it.

use super::Error;
use crate::flow::mend::{self, Mended, Repaired};
use crate::observe::metrics;
use crate::outbox::{self, Options, Outbox, Salvage};

/// Opens the outbox. One that is damaged is mended first where `heals` says so; then with how many lanes were cut. Blocks.
///
/// # Errors
/// As [`Outbox::open`]; of a mended one too, should that not open either.
pub(super) fn open(options: &Options, heals: bool) -> Result<(Outbox, Option<u64>), Error> {
    let damage = match Outbox::open(options) {
        Ok(outbox) => return Ok((outbox, None)),
        Err(error) if heals && error.is_damage() => error,
        Err(error) => return Err(error.into()),
    };
    let time = mend::time();
    if outbox::resume(&options.path, &time)?.is_some() {
        return open(options, heals);
    }
    let Ok(salvage) = Salvage::open(&options.path, &mut |_, _| {}) else {
        return Err(damage.into());
    };
    let Repaired { quarantine, mended } = mend::repair(salvage, &time)?;
    let halted = mended.iter().filter(|lane| lane.halted).count();
    for Mended {
        stream,
        route,
        kept_to,
        remedy,
        halted,
    } in &mended
    {
        tracing::info!(stream, route, kept_to, ?remedy, halted, "outbox lane was cut");
    }
    let reason = damage.to_string();
    let reason = reason.split("\n\n").next().unwrap_or_default();
    tracing::warn!(
        code = "CULVERT-O011",
        reason,
        lanes = mended.len(),
        halted,
        quarantine = %quarantine.display(),
        "outbox was damaged: what is missing comes again from sources and peers"
    );
    metrics::OUTBOX_MENDED.with(&[]).increment(mended.len() as u64);
    Ok((Outbox::open(options)?, Some(mended.len() as u64)))
}
