//! What can go wrong in the outbox.

use culvert_proto::Sequence;
use std::io;
use std::path::PathBuf;

/// Why the outbox refused something. Each kind that a user can meet has a page in `docs/errors/`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has this outbox open.
    #[error(
        "[CULVERT-O001] open outbox {path}: another process holds it\n\nStop the other gateway, or give this one its own state directory."
    )]
    Locked {
        /// The outbox's directory.
        path: PathBuf,
    },
    /// Stored by a version of the program that this one does not understand.
    #[error(
        "[CULVERT-O002] open outbox {path}: format version {found} is unknown, this program knows up to {newest}\n\nStart the version of culvert that wrote it."
    )]
    Format {
        /// The outbox's directory.
        path: PathBuf,
        /// The version found.
        found: u16,
        /// The newest version known.
        newest: u16,
    },
    /// What is stored is not what was written, at a place that had been acknowledged.
    #[error(
        "[CULVERT-O003] outbox {path}: damaged: {what}\n\nNothing was cut off. culvert fsck says what is whole and what can be had again, and culvert fsck --repair makes a sound store of it."
    )]
    Damaged {
        /// The outbox's directory.
        path: PathBuf,
        /// Which piece, and what is wrong with it.
        what: String,
    },
    /// The store opens without damage, but without what it is known to have held.
    #[error(
        "[CULVERT-O004] open outbox {path}: holds {found} commits, but {acknowledged} had been acknowledged\n\nPart of the directory was lost or replaced. Put it back, or see what culvert fsck says."
    )]
    Shorter {
        /// The outbox's directory.
        path: PathBuf,
        /// Commits found.
        found: u64,
        /// Commits that were acknowledged.
        acknowledged: u64,
    },
    /// There is no room for more: the caller pauses until [`super::Outbox::room`] says yes. Nothing was changed.
    #[error("[CULVERT-O005] outbox is full: {0}")]
    Full(Full),
    /// The lane holds what it may: the caller pauses it until [`super::Lane::quota_room`] says yes, and no other one. Nothing
    /// was changed.
    #[error("[CULVERT-O020] the stream is at its quota: it holds {used_bytes} bytes of {quota_bytes}")]
    AtQuota {
        /// What counts to the quota.
        used_bytes: u64,
        /// The quota.
        quota_bytes: u64,
    },
    /// The outbox was made with another engine than the one configured.
    #[error(
        "[CULVERT-O006] open outbox {path}: it was made with engine {found}, configured is {configured}\n\nSet the engine back, or let the outbox drain and move the directory away."
    )]
    Engine {
        /// The outbox's directory.
        path: PathBuf,
        /// The engine it was made with.
        found: &'static str,
        /// The engine asked for.
        configured: &'static str,
    },
    /// The child process that looks at the store before we open it died or found damage.
    #[error(
        "[CULVERT-O007] verify outbox {path}: {what}\n\nThe store cannot be opened safely. Treat it as damaged: see the page of this code."
    )]
    Unverified {
        /// The outbox's directory.
        path: PathBuf,
        /// What the child said, or how it ended.
        what: String,
    },
    /// The operating system refused.
    #[error("[CULVERT-O008] {doing}: {source}")]
    Io {
        /// What was being done, and to what.
        doing: String,
        /// The system's own words.
        source: io::Error,
    },
    /// A write or flush failed in a way after which nothing this process knows about the disk is certain. The
    /// process is ending; nothing more is acknowledged.
    #[error("[CULVERT-O009] outbox has stopped: {0}")]
    Stopped(String),
    /// A repair made a sound store and was cut short before it took its place.
    #[error(
        "[CULVERT-O013] open outbox {path}: a repair was not finished\n\nRun culvert fsck --repair: it goes on where it was cut short."
    )]
    Unfinished {
        /// The outbox's directory.
        path: PathBuf,
    },
    /// The frame does not continue its lane.
    #[error("append to outbox lane: frame begins at {from}, the lane ends at {tail}")]
    Gap {
        /// Where the lane ends.
        tail: Sequence,
        /// Where the frame begins.
        from: Sequence,
    },
    /// The frame covers no place.
    #[error("append to outbox lane: the interval at {at} is empty")]
    Empty {
        /// Where it lies.
        at: Sequence,
    },
    /// What was asked for has been freed.
    #[error("read outbox lane: {from} was freed, the lane begins at {base}")]
    Trimmed {
        /// What was asked for.
        from: Sequence,
        /// The first place still held.
        base: Sequence,
    },
    /// Larger than this side accepts.
    #[error("{what} in outbox: {size} is above the limit of {max}")]
    TooLarge {
        /// The thing.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The most that is accepted.
        max: usize,
    },
    /// The lane was removed.
    #[error("outbox lane was removed")]
    Removed,
    /// The outbox was closed.
    #[error("outbox is closed")]
    Closed,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// Frames are held up to the quota.
    #[error("it holds its quota of {quota_bytes} bytes")]
    Quota {
        /// The quota.
        quota_bytes: u64,
    },
    /// The disk has no space left.
    #[error("the disk has no space left")]
    Disk,
    /// More was appended than the disk has taken yet.
    #[error("{pending_bytes} bytes wait for the disk")]
    Pending {
        /// How many bytes wait.
        pending_bytes: u64,
    },
}

impl Error {
    /// The code of the page in `docs/errors/`, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Error::Locked { .. } => "CULVERT-O001",
            Error::Format { .. } => "CULVERT-O002",
            Error::Damaged { .. } => "CULVERT-O003",
            Error::Shorter { .. } => "CULVERT-O004",
            Error::Full(_) => "CULVERT-O005",
            Error::Engine { .. } => "CULVERT-O006",
            Error::Unverified { .. } => "CULVERT-O007",
            Error::Io { .. } => "CULVERT-O008",
            Error::Stopped(_) => "CULVERT-O009",
            Error::Unfinished { .. } => "CULVERT-O013",
            Error::AtQuota { .. } => "CULVERT-O020",
            Error::Gap { .. }
            | Error::Empty { .. }
            | Error::Trimmed { .. }
            | Error::TooLarge { .. }
            | Error::Removed
            | Error::Closed => return None,
        })
    }

    /// Whether the store is not as it was written, so that it has to be mended before it opens.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Error::Damaged { .. }
                | Error::Shorter { .. }
                | Error::Unverified { .. }
                | Error::Unfinished { .. }
        )
    }

    /// An [`Error::Io`] about `doing`.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io {
            doing: doing.into(),
            source,
        }
    }
}
