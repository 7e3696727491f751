//! The Kafka connector against a real broker.

mod broker;
mod cluster;
mod faults;
mod proxy;
mod sink;
mod source;
mod tap;
