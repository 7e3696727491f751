//! Files of folders that were granted. A path is spelled as in the grant, or in the setting that is described as granting
//! what it names. Symbolic links below a granted folder are refused. Needs a grant.

use crate::Failure;

pub use crate::bindings::capabilities::culvert::plugin::files::{
    Condition, Entry, Error, Kind, Piece, Status,
};

#[cfg(target_family = "wasm")]
use crate::bindings::capabilities::culvert::plugin::files as gateway;
#[cfg(not(target_family = "wasm"))]
use crate::testing::fake::files as gateway;

/// The most bytes that one `read` brings.
pub const READ_MAX: u32 = 4 << 20;

/// The most bytes that `append` and `replace` take.
pub const WRITE_MAX: usize = 16 << 20;

/// What a file or folder is.
///
/// # Errors
/// [`Error::Missing`] where there is none.
pub fn look(path: &str) -> Result<Status, Error> {
    gateway::look(path)
}

/// Entries of a folder by name, behind `after`: at most 1,000 at a time.
///
/// # Errors
/// [`Error::TooLarge`] for a folder of more than 100,000.
pub fn list(folder: &str, after: Option<&str>) -> Result<Vec<Entry>, Error> {
    gateway::list(folder, after)
}

/// Up to `length` bytes from `offset` on, at most 4 MiB, and what the file was that they are from.
///
/// # Errors
/// [`Error::Missing`] where there is none.
pub fn read(path: &str, offset: u64, length: u32) -> Result<Piece, Error> {
    gateway::read(path, offset, length)
}

/// Adds at the end of a file, with `at` only where it is that long, and gives its new size. Makes a file that is not there.
/// Durable after [`sync`].
///
/// # Errors
/// [`Error::Conflict`] where it has another length than `at`.
pub fn append(path: &str, at: Option<u64>, bytes: &[u8]) -> Result<u64, Error> {
    gateway::append(path, at, bytes)
}

/// Cuts a file to a size.
///
/// # Errors
/// [`Error::Conflict`] where it is shorter.
pub fn truncate(path: &str, size: u64) -> Result<(), Error> {
    gateway::truncate(path, size)
}

/// Writes a whole file in one step, durable when it returns.
///
/// # Errors
/// [`Error::Conflict`] where the condition does not hold.
pub fn replace(path: &str, bytes: &[u8], only: &Condition) -> Result<(), Error> {
    gateway::replace(path, bytes, only)
}

/// Makes what was appended or cut durable.
///
/// # Errors
/// When the disk fails.
pub fn sync(path: &str) -> Result<(), Error> {
    gateway::sync(path)
}

/// Removes a file.
///
/// # Errors
/// [`Error::Missing`] where there is none.
pub fn remove(path: &str) -> Result<(), Error> {
    gateway::remove(path)
}

/// Trouble of the disk heals by waiting; all else needs a person.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Denied(what) => Failure::fatal(format!("{what} was not granted to this connector")),
            Error::Missing => Failure::fatal("there is no such file or folder"),
            Error::Conflict => Failure::fatal("somebody else has changed the file"),
            Error::TooLarge => Failure::fatal("it is above what one call may hold"),
            Error::Failed(what) => Failure::retry(what),
        }
    }
}
