//! The soak: real gateway processes, real Kafka brokers, real faults, and a ledger that judges.
//!
//! ```text
//! generate ─► Kafka ─► gw1 ─╌west╌─ gw2 ─╌east╌─ gw3 ─╌proxy╌─ Kafka ─► Watch, Ledger, prove, verify
//!                      gw4 (spare of site 1, only where a part asks for it)
//! ```
//!
//! - A **part** ([`parts`]) builds a [`Site`](site::Site), puts load on it, breaks something, drains, and asks three judges
//!   who share no code: the ledger (reads both topics with librdkafka), `culvert prove` and `culvert verify`.
//! - What is broken, when and for how long follows from the seed; when processes get the processor does not. A seed
//!   repeats the faults of a run, not its interleaving.
//! - A **run** ([`run`]) breaks one site by one [`schedule`] after the other, compares all the time ([`observer`],
//!   [`running`]) and ends with a [`report`].
//! - Parts stand on loopback, runs in networks of their own where the host has them ([`culvert_tests::network`]). Every
//!   process is tied to this one: nothing outlives it, however it ends (`culvert_tests::process`).

pub mod course;
pub mod disk;
pub mod judge;
pub mod kafka;
pub mod load;
pub mod observer;
pub mod parts;
pub mod perform;
pub mod planted;
pub mod record;
pub mod report;
pub mod road;
pub mod run;
pub mod running;
pub mod sample;
pub mod schedule;
pub mod site;
pub mod watch;
