//! Known mistakes of exactly-once protocols, each of which can be planted at the one line where a naive
//! implementation errs, so that the simulation can show that it would see it.
//!
//! Without the feature `traps` (the gateway is always built without) [`planted`] is a constant `false` and every
//! planted line disappears. With it, at most one trap is planted per thread.

/// A mistake that can be planted. The numbers in brackets are those of the invariants (`ARCHITECTURE.md`) it must violate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Trap {
    /// The sink takes a frame that begins behind its position: "sequence above the last seen" (S2).
    GapAccepted,
    /// The sink writes all of a frame that overlaps its position (S1).
    OverlapAppliedWhole,
    /// The sink lets the first frame say where a stream begins (S2).
    FirstFrameBegins,
    /// A beginning that arrives late replaces the position that is there (S9).
    BeginOverwrites,
    /// A question for a fresh position is answered from memory, without proving to be the writer (A6).
    AnswerFromMemory,
    /// The record before the seam is not compared with the one the sink holds (S6).
    GuardUnchecked,
    /// What a next hop asks for is taken for what the sink has applied (S4).
    HopIsTruth,
    /// A position that arrives late moves `applied` back (A4, A6).
    StaleGoesBack,
    /// An answer counts whoever asked the question, and when (A4, A6).
    AnyAnswerCounts,
    /// The group's offset is committed once the records are in the outbox (S5).
    CommitOnAppend,
    /// Records are freed once they were sent (S5).
    TrimOnSend,
    /// Space is freed as soon as one of several sinks has applied (S5).
    TrimByFastest,
    /// A place that was asked for earlier and confirmed late counts for the place asked for now (S2).
    LatePlaceCounts,
    /// The relay keeps its queue when the next hop needs what lies below it (L1).
    RelayKeepsQueue,
    /// The sink's gateway reads the positions, then fences the earlier writer (S1).
    ReadBeforeFence,
    /// The positions are written after the data (S3).
    PositionApart,
    /// A commit of which the outcome is unknown is tried again by the same writer (S3).
    RetryUncertain,
    /// Each gateway has its own transactional id, so that none fences the other (S7).
    NoFence,
    /// A stream is known by its topic's name (S6).
    TopicByName,
    /// A batch ends behind its last record, not at the consumer's position (L1).
    LastPlusOne,
    /// The group takes commits of a member that lost the partition (A6).
    ZombieCommits,
    /// A flush that began in an earlier life of a lane speaks for its present one (A2).
    FlushOfAnyLife,
    /// The next hop is not told that what is held begins elsewhere (L1).
    RestartUntold,
    /// A relay passes the sink's registration on once, though a new next hop lost what was asked before (L1).
    RegistrationStops,
    /// A sink that took its shard does not say anew what it wants (L1).
    NewWriterSilent,
    /// A relay writes a frame before it restarts the lane (B1).
    AppendBeforeRestart,
}

impl Trap {
    /// Every trap, in the order of the list.
    pub const ALL: [Trap; 26] = [
        Trap::GapAccepted,
        Trap::OverlapAppliedWhole,
        Trap::FirstFrameBegins,
        Trap::BeginOverwrites,
        Trap::AnswerFromMemory,
        Trap::GuardUnchecked,
        Trap::HopIsTruth,
        Trap::StaleGoesBack,
        Trap::AnyAnswerCounts,
        Trap::CommitOnAppend,
        Trap::TrimOnSend,
        Trap::TrimByFastest,
        Trap::LatePlaceCounts,
        Trap::RelayKeepsQueue,
        Trap::ReadBeforeFence,
        Trap::PositionApart,
        Trap::RetryUncertain,
        Trap::NoFence,
        Trap::TopicByName,
        Trap::LastPlusOne,
        Trap::ZombieCommits,
        Trap::FlushOfAnyLife,
        Trap::RestartUntold,
        Trap::RegistrationStops,
        Trap::NewWriterSilent,
        Trap::AppendBeforeRestart,
    ];
}

/// Whether `trap` is planted on this thread.
#[cfg(not(feature = "traps"))]
#[inline(always)]
#[must_use]
pub const fn planted(_trap: Trap) -> bool {
    false
}

#[cfg(feature = "traps")]
pub use self::planting::{plant, planted};

#[cfg(feature = "traps")]
mod planting {
    extern crate std;

    use super::Trap;
    use core::cell::Cell;

    std::thread_local! {
        static PLANTED: Cell<Option<Trap>> = const { Cell::new(None) };
    }

    /// Whether `trap` is planted on this thread.
    #[must_use]
    pub fn planted(trap: Trap) -> bool {
        PLANTED.get() == Some(trap)
    }

    /// Plants `trap` on this thread, in place of the one that was planted before.
    pub fn plant(trap: Option<Trap>) {
        PLANTED.set(trap);
    }
}
