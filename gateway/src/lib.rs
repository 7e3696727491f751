//! Culvert, an edge gateway: records cross networks exactly once over a QUIC mTLS tunnel.
//!
//! Rooms, and which may know which (arrows point down only; `cargo xtask tidy` checks it):
//!
//! ```text
//! cli → gateway → config, observe, receipt → identity
//!          │
//!          ├→ connector/<name>, plugin ──implement traits of──┐
//!          └→ flow: intake → transit → delivery  ◁────────────┘
//!                │                │
//!                └→ outbox        └→ link, codec    (they stand on culvert-proto alone)
//! ```
//!
//! [`units`] and [`executable`] stand below all of them. Only [`gateway`] names concrete types of every room. Only `link` imports quinn, only `outbox` sled, only
//! `connector/kafka` rdkafka, only `connector/sqlite` rusqlite; only `config` reads the environment, and only
//! `cli` prints.

pub mod cli;
pub mod codec;
pub mod config;
pub mod connector;
pub mod executable;
pub mod flow;
pub mod gateway;
pub mod identity;
pub mod link;
pub mod observe;
pub mod outbox;
pub mod plugin;
pub mod receipt;
pub mod units;
