//! The whole product, by its promises: real brokers, real gateways, real faults, and a ledger that judges.
//!
//! Each module is a promise. The tests of one process share two Kafka clusters ([`cluster`]) and use topics,
//! connectors and gateways of their own ([`line`]; [`pair`] needs no broker); only what kills brokers starts its own.
//! [`faults`] are chosen by a seed.

mod cluster;
mod faults;
mod line;
mod pair;

mod chart;
mod damage;
mod demo;
mod documents;
mod envelopes;
mod exactly_once;
mod fallback;
mod halts;
mod lag;
mod leaders;
mod letters;
mod operation;
mod own_codecs;
mod partitions;
mod patience;
mod plugin_files;
mod plugin_http;
mod plugin_line;
mod plugin_sinks;
mod plugins;
mod power_cut;
mod priorities;
mod quotas;
mod receipts;
mod refusals;
mod runway;
mod schema_stages;
mod schemas;
mod secure;
mod service;
mod sources;
mod starts;
mod takeover;
mod toolchains;
mod upgrade;
