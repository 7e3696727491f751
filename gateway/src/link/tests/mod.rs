//! Real gateways on 127.0.0.1, with real certificates.

pub(crate) mod bench;
mod carried;
mod guests;
mod hostile;
mod outage;
mod relay;
mod traffic;
