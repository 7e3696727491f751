//! What the outbox asks of the store underneath.

use super::change::{Catalog, Change, Held, LaneId, Life};
use super::error::Error;
use super::recover::Lanes;
use bytes::Bytes;
use culvert_proto::Sequence;
use std::sync::Arc;

/// Where an engine keeps a frame. Engines that find frames by name leave it at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// One frame by name and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameRef {
    pub(super) lane: LaneId,
    pub(super) life: Life,
    pub(super) held: Held,
}

/// A store. Used by the flush thread alone; what readers need is its [`Shelf`].
pub(super) trait Engine: Send {
    /// Makes `changes` durable, in order, all or nothing. Returns where each frame among them lies, in order.
    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Place>, Fault>;

    /// How many commits this store has ever made durable.
    fn commits(&self) -> u64;

    /// About how many bytes of free disk a commit of so many bytes needs to be safe from running out of space.
    fn need_bytes(&self, commit_bytes: u64) -> u64;

    /// These frames are needed no more, and the change that says so is durable.
    fn free(&mut self, frames: &[FrameRef]);

    /// Gives back space, one bounded step, between two commits. Says whether there is more to do at once.
    fn upkeep(&mut self, index: &Arc<dyn Index>) -> Result<Upkeep, Fault>;

    /// The answer to [`Upkeep::Switch`]: the MANIFEST names the new generation, or could not be written.
    fn switched(&mut self, done: bool);

    /// What readers read from.
    fn shelf(&self) -> Arc<dyn Shelf>;

    /// Bytes on disk now.
    fn disk_bytes(&self) -> u64;

    /// Leaves the store in good order. Everything committed is durable already.
    fn close(self: Box<Self>);
}

/// What a step of upkeep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upkeep {
    /// Nothing, or the last of it.
    Done,
    /// A part; the next step is worth taking as soon as nobody waits.
    More,
    /// A thread of its own is at it; look again soon.
    Later,
    /// The store of this generation is complete and durable; it takes over once the MANIFEST names it, and
    /// [`Engine::switched`] says so.
    Switch(u64),
}

/// Why a commit did not happen.
#[derive(Debug)]
pub(super) enum Fault {
    /// No space. Nothing was changed; the same commit may be tried again.
    Full,
    /// What is on disk is not known any more. The process must end without acknowledging.
    Fatal(String),
}

/// Reads frames while the flush thread goes on.
pub(super) trait Shelf: Send + Sync {
    /// The frame, checked; `None` when it has been freed or moved since the caller looked it up.
    fn read(&self, frame: FrameRef) -> Result<Option<Bytes>, Error>;
}

/// What is held, for engines that move it.
pub(super) trait Index: Send + Sync {
    /// Whether this very frame, at this very place, is still held.
    fn holds(&self, frame: FrameRef) -> bool;

    /// The frame lies elsewhere now. False when it is not held any more; then the new place is garbage.
    fn moved(&self, frame: FrameRef, to: Place) -> bool;

    /// Bytes of all frames held, with their headers.
    fn live_bytes(&self) -> u64;

    /// Every lane with its current life and the first place held.
    fn lanes(&self) -> Vec<(LaneId, Life, Sequence)>;

    /// At most `count` durable frames of that life of that lane, from the first that begins at or behind `from`.
    fn frames(&self, lane: LaneId, life: Life, from: Sequence, count: usize) -> Vec<FrameRef>;
}

/// What an engine found when it was opened.
pub(super) struct Recovered {
    pub(super) engine: Box<dyn Engine>,
    pub(super) catalog: Catalog,
    pub(super) held: Lanes,
}
