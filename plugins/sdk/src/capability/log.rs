//! Lines for the connector's log: [`info!`](crate::info) and its kin. Needs no grant.
//!
//! At most 100 lines and 64 KiB a second reach the log; what is above is counted. A line is cut at 4 KiB.

use crate::Message;
use std::cell::Cell;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of use to the plugin's author.
    Debug,
    /// Worth knowing.
    Info,
    /// A person should look.
    Warn,
    /// A person must look.
    Error,
}

thread_local! {
    /// The number of the message that is being looked at.
    static ABOUT: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Lines are about this message from now on: the gateway adds its stream and sequence. [`Transform::each`] is called
/// with it set; a `batch` of one's own sets it as it likes.
///
/// [`Transform::each`]: crate::Transform::each
pub fn about(message: Option<&Message<'_>>) {
    ABOUT.set(message.and_then(|message| u32::try_from(message.index()).ok()));
}

/// Writes a line.
pub fn write(level: Level, text: &str) {
    let message = ABOUT.get();
    #[cfg(target_family = "wasm")]
    {
        use crate::bindings::capabilities::culvert::plugin::log;
        let level = match level {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::write(level, text, message);
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::fake::log(level, text, message);
}

/// Writes a line of level debug, as `format!` would make it.
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($text)+)) };
}

/// Writes a line of level info, as `format!` would make it.
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($text)+)) };
}

/// Writes a line of level warn, as `format!` would make it.
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($text)+)) };
}

/// Writes a line of level error, as `format!` would make it.
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($text)+)) };
}
