//! Sources that bring pages: outside systems that cannot be asked for a record by its number, only told where to go on.
//!
//! A page is one unit: its records, the resume points behind them and what the source put into its store become durable
//! in one commit of the outbox, or none of it does. What was not kept is brought again behind the last resume points
//! that were.

use culvert_proto::columns::Made;
use std::time::Duration;

/// The outside system of one task, asked page by page. Called by one thread, which it may block for as long as a call may
/// take.
pub trait PagedSource: Send {
    /// Goes on behind these resume points, the last of each partition that was kept. Nothing of an earlier life counts.
    ///
    /// # Errors
    /// [`PageFault`]; it is to be opened again.
    fn open(&mut self, resume: &[ResumePoint]) -> Result<Changes, PageFault>;

    /// The next page. Waits at most `wait` for its first record.
    ///
    /// # Errors
    /// [`PageFault`]; nothing of the call counts.
    fn poll(&mut self, wait: Duration) -> Result<Page, PageFault>;

    /// All up to these resume points is durable: the outside system may forget it.
    ///
    /// # Errors
    /// [`PageFault`]; to be said again.
    fn committed(&mut self, points: &[ResumePoint]) -> Result<Changes, PageFault>;

    /// These changes are kept: what the source looks up from now on holds them.
    fn kept(&mut self, changes: &Changes);

    /// Leaves the outside system in good order. Called once, last.
    fn close(&mut self);
}

/// Where a source goes on: its own partition and its own offset there. Partitions are told apart by their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResumePoint {
    /// Which part of the outside system.
    pub partition: String,
    /// How far.
    pub offset: String,
}

/// What a call put into the source's store; without a value, the key is forgotten.
pub type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What one poll brought.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Where to go on behind it; of several points of one partition the last one counts.
    pub points: Vec<ResumePoint>,
    /// Topics and records, in order.
    pub records: Vec<(String, Made)>,
    /// There is nothing more now: how long to wait.
    pub idle: Option<Duration>,
    /// What the call put into the store.
    pub changes: Changes,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum PageFault {
    /// Heals by waiting: the same call again.
    #[error("{reason}")]
    Retry {
        /// What it waits for.
        reason: String,
        /// The least pause.
        after: Option<Duration>,
    },
    /// The source broke: it is opened again behind what was kept, after a pause.
    #[error("{0}")]
    Broken(String),
    /// Needs an operator: the task fails with this text.
    #[error("[{code}] {reason}")]
    Stop {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened and what the operator can do.
        reason: String,
    },
}
