//! The lab: what a test needs to run Culvert against real servers and real faults, on loopback alone.
//!
//! | part | what it is |
//! | --- | --- |
//! | [`Broker`], [`shared_broker`] | one Apache Kafka node (KRaft) with TLS, SASL and a proxied listener if asked |
//! | [`Gateway`] | one running `culvert`: start, kill, restart, logs, metrics, command line |
//! | [`TcpProxy`], [`UdpRelay`] | the network between them: cut, delay, loss, one request held |
//! | [`Network`] | a network namespace for each site, where the host has them |
//! | [`WebServer`] | one HTTP server whose every answer is the test's own |
//! | [`Registry`] | one schema registry that can be stopped and started again |
//! | [`LossyDisk`] | a disk whose power can be cut at any act, and what is left of it |
//! | [`Ledger`] | what was produced and what arrived: lost, duplicated, reordered, changed |
//! | [`TestCa`] | certificates for all of them |
//! | [`wait_until`], [`ports`], [`Scratch`], [`host`] | conditions with deadlines, ports, directories, what this host lacks |
//! | [`toolchains`] | what the toolchains of plugins need in place of a network |
//! | [`figures`] | what a run measured |
//!
//! Rules the lab keeps:
//! - Nothing outlives the test process, however it ends: dropped, panicked or killed ([`process`]).
//! - Nothing needs a network after `cargo xtask prepare`.
//! - Nothing listens outside loopback, or outside a [`Network`] that only the lab can reach.
//! - A failure shows the tail of the log it comes from and keeps the directory ([`Scratch`]).

pub mod broker;
mod dice;
pub mod figures;
pub mod gateway;
pub mod host;
pub mod ledger;
pub mod lossy_disk;
pub mod network;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod relay;
mod scratch;
mod tls;
pub mod toolchains;
mod wait;
pub mod web;

pub use broker::{Broker, BrokerCluster, BrokerOptions, shared_broker};
pub use gateway::Gateway;
pub use ledger::{Ledger, Verdict};
pub use lossy_disk::LossyDisk;
pub use network::Network;
pub use proxy::TcpProxy;
pub use registry::Registry;
pub use relay::UdpRelay;
pub use scratch::Scratch;
pub use tls::{TestCa, TlsFiles};
pub use wait::{wait_for, wait_until};
pub use web::{WebAnswer, WebRequest, WebServer};

use std::path::{Path, PathBuf};

/// The root of the workspace that the lab was built from.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the lab is a folder of the workspace")
}

/// Where `cargo xtask prepare` puts what tests need: `.lab` in the workspace, ignored by git.
pub fn prepared() -> PathBuf {
    workspace().join(".lab")
}

/// 128 random bits from the standard library's hash seeds: good for names, not for secrets.
fn random_bits() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(std::time::Instant::now()));
    half() << 64 | half()
}
