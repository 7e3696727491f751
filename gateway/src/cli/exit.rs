//! How the program ends: the one place that decides exit codes.

use crate::config::Mistakes;
use crate::observe::control;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::process::ExitCode;

/// How a verb ended. The codes are those of Conduit and of the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; for `prove`, nothing is missing, doubled or out of order.
    Ok,
    /// 1: it failed, or the answer is no.
    Failed,
    /// 2: arguments or configuration are wrong. The argument parser ends with the same code.
    Invalid,
    /// 3: something it needs is not there: a file, a running gateway, a free port.
    Absent,
    /// 128 + n: signal n ended it.
    Signal(u8),
}

/// Something that is needed is not there. Wrap an error in it to end with [`Exit::Absent`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Absent(pub Cow<'static, str>);

/// A file that a verb was given is wrong. Wrap an error in it to end with [`Exit::Invalid`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Exit {
    /// Whoever read our output has stopped reading: not worth a word.
    pub const CLOSED_PIPE: Exit = Exit::Signal(13);

    /// What an error means for the exit code.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Exit {
        for cause in error.chain() {
            if let Some(mistakes) = cause.downcast_ref::<Mistakes>() {
                return if mistakes.only_unreadable() {
                    Exit::Absent
                } else {
                    Exit::Invalid
                };
            }
            if let Some(control::AskError::NoGateway { .. }) = cause.downcast_ref() {
                return Exit::Absent;
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                match io.kind() {
                    ErrorKind::BrokenPipe => return Exit::CLOSED_PIPE,
                    ErrorKind::AddrInUse | ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                        return Exit::Absent;
                    }
                    _ => {}
                }
            }
        }
        if error.downcast_ref::<Absent>().is_some() {
            Exit::Absent
        } else if error.downcast_ref::<Invalid>().is_some() {
            Exit::Invalid
        } else {
            Exit::Failed
        }
    }

    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Invalid => 2,
            Exit::Absent => 3,
            Exit::Signal(number) => 128u8.saturating_add(number),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
