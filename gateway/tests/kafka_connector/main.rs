//! The Kafka connector against a real broker.

mod broker;
mod cluster;
mod sink;
mod source;
mod tap;
