//! What a plugin may reach, one module each. In a component each call is an import; in a native test it meets the fake
//! that `testing` sets up, in the thread of the test.

pub mod log;

#[cfg(feature = "clock")]
pub mod clock;
#[cfg(feature = "files")]
pub mod files;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "state")]
pub mod state;
