//! What can go wrong with a database file, and what becomes of the task.

use crate::flow::{SinkFault, SourceFault};
use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// Why a database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Busy, full, an I/O error: heals by waiting.
    #[error("database {}: {doing}: {cause}", path.display())]
    Environment {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What SQLite, or the operating system, said.
        cause: String,
    },
    /// The file holds something else.
    #[error("{} is not a SQLite database; name another sqlite.path, or move it away", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file holds what no writer left there.
    #[error(
        "database {} is damaged ({cause}); restore it from a backup, or move it away and begin the route \
         anew (culvert.incarnation) to have everything that the origin still has delivered again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        cause: String,
    },
    /// The file cannot be opened, or not for writing.
    #[error(
        "database {} cannot be opened: {cause}; its directory must exist and be writable for the gateway's user",
        path.display()
    )]
    NotOpened {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
    /// Written by a newer program.
    #[error(
        "database {} has the layout of version {found}, newer than version {} of this program; run the newer program",
        path.display(),
        super::schema::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: i64,
    },
    /// The table is of another shape, or its name is not to be had.
    #[error("table {table:?} in {} cannot take records: {why}; change sqlite.table", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The table.
        table: String,
        /// What is wrong with it.
        why: String,
    },
    /// `sqlite.table` was changed in the middle of a stream.
    #[error(
        "the records of {stream} are in table {held:?}, and sqlite.table now says {wanted:?}; set it back, or give the \
         connector another name to deliver everything again into the new table"
    )]
    OtherTable {
        /// The stream.
        stream: String,
        /// Where its records are.
        held: String,
        /// Where the configuration wants them.
        wanted: String,
    },
    /// A row is there that the position says is not.
    #[error(
        "table {table:?} already holds sequence {sequence} of {stream}, which is not below the stored position: \
         somebody else wrote to the table or to culvert_position; remove the rows from there on"
    )]
    Occupied {
        /// The table.
        table: String,
        /// The stream.
        stream: String,
        /// The sequence.
        sequence: u64,
    },
    /// The file system cannot do what WAL needs.
    #[error(
        "database {} does not accept journal mode WAL (it stays {mode:?}); use a local file system",
        path.display()
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// The mode it has instead.
        mode: String,
    },
    /// A reader found a database without anything of ours in it.
    #[error("database {} holds no records of Culvert: no sink has written to it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A batch that cannot be stored whole.
    #[error("{stream}: {why}; nothing of the batch was stored")]
    Batch {
        /// The stream.
        stream: String,
        /// What is wrong with the batch.
        why: &'static str,
    },
}

impl Error {
    /// What `cause` means for the database at `path`.
    pub(super) fn of(path: &Path, doing: &'static str, cause: &rusqlite::Error) -> Error {
        let (path, text) = (path.to_owned(), cause.to_string());
        match cause.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Error::NotADatabase { path },
            Some(ErrorCode::DatabaseCorrupt) => Error::Damaged { path, cause: text },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::AuthorizationForStatementDenied,
            ) => Error::NotOpened { path, cause: text },
            _ => Error::Environment {
                path,
                doing,
                cause: text,
            },
        }
    }

    /// The page in `docs/errors/`; none for what heals by waiting.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Error::Environment { .. } => return None,
            Error::NotADatabase { .. } => "CULVERT-S001",
            Error::Damaged { .. } => "CULVERT-S002",
            Error::NotOpened { .. } => "CULVERT-S003",
            Error::Version { .. } => "CULVERT-S004",
            Error::Table { .. } => "CULVERT-S005",
            Error::OtherTable { .. } => "CULVERT-S006",
            Error::Occupied { .. } => "CULVERT-S007",
            Error::Journal { .. } => "CULVERT-S008",
            Error::Batch { .. } => "CULVERT-S009",
            Error::Empty { .. } => "CULVERT-S010",
        })
    }
}

impl From<Error> for SinkFault {
    fn from(error: Error) -> SinkFault {
        match error.code() {
            Some(code) => SinkFault::Stop {
                code,
                reason: error.to_string(),
            },
            None => SinkFault::Retry(error.to_string()),
        }
    }
}

impl From<Error> for SourceFault {
    fn from(error: Error) -> SourceFault {
        match error.code() {
            Some(code) => SourceFault::Stop {
                code,
                reason: error.to_string(),
            },
            None => SourceFault::Retry(error.to_string()),
        }
    }
}
