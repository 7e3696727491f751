//! What a running gateway shows of itself: log lines, metrics, health, the control socket, and its words to systemd.
//!
//! Constraints of this room:
//! - Nothing here is on the path of a record, and nothing here can stop it: a client that does not read, a full
//!   standard error or a scraper that hangs cost a bounded amount of memory and no waiting.
//! - Every metric is declared in [`metrics`], and nowhere else.
//! - Nothing is told to whom it is not meant for: telemetry listens on loopback unless set, and the control socket
//!   answers its own user and root alone.

pub mod control;
pub mod health;
pub mod http;
pub mod log;
pub mod metrics;
pub mod report;
pub mod stop;
pub mod systemd;

/// Why a part of this room cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of metrics and health is taken, or not this host's.
    #[error(
        "listen on {address} for metrics and health [CULVERT-C021]\n\nFree the port, or name another as telemetry.listen."
    )]
    Listen {
        /// `telemetry.listen`.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The service manager hands over sockets that are not ours.
    #[error(
        "the service manager hands over {0} [CULVERT-C024]\n\n\
         Sockets of the gateway are one of UDP, the tunnel's, and one of TCP, that of metrics and health."
    )]
    Handed(&'static str),
    /// The control socket cannot be made.
    #[error(
        "make the control socket {} [CULVERT-C022]\n\n\
         Its directory must exist and be the gateway's own, and its path be at most {} bytes; \
         control.socket names another.",
        path.display(),
        control::PATH_BYTES_MAX
    )]
    Socket {
        /// `control.socket`.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A second log, or a second set of metrics, in one process.
    #[error("set up {0}: it is set up already")]
    Twice(&'static str),
    /// The log filter is not one; the config room lets none through.
    #[error("read the log filter: {0}")]
    Filter(String),
}
