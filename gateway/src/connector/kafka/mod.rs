//! Kafka, by librdkafka: a source that can be read again from any place, and a sink that stores its position in the
//! transaction of the data.
//!
//! Constraints:
//! - Transactions of librdkafka 2.12 are those before KIP-890: an uncertain commit is never tried again by the same
//!   producer (T2). [`sink`] says how that is noticed.
//! - librdkafka tells topics apart by name. A topic that is deleted and made again is another stream, so topic ids
//!   are asked for beside it. [`source`] says when.
//! - Nothing of rdkafka shows outside of this folder, and nothing `unsafe` outside of `native.rs`.

use rdkafka::error::RDKafkaErrorCode as Code;
use std::time::Duration;

mod admin;
pub mod config;
mod native;
mod partition;
mod positions;
pub mod producer;
mod reader;
mod sink;
mod source;
mod streams;

#[doc(hidden)]
pub use positions::read_record;
pub use reader::KafkaReader;
pub use sink::KafkaSink;
pub use source::KafkaSource;

/// How long one question to a broker may take before it counts as away.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// How often topic ids are asked for again, and new topics looked for.
const TOPIC_CHECK_EVERY: Duration = Duration::from_secs(30);

/// What to do about an error code of librdkafka or of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// It heals by waiting.
    Wait,
    /// Another client with the same identity took over.
    Fenced,
    /// An operator has to grant something or change a setting; the page in `docs/errors/`.
    Operator(&'static str),
}

fn remedy(code: Code) -> Remedy {
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::FencedInstanceId => {
            Remedy::Fenced
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => Remedy::Operator("CULVERT-K002"),
        Code::InvalidTransactionTimeout
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedSASLMechanism
        | Code::InvalidReplicationFactor
        | Code::PolicyViolation
        | Code::InvalidGroupId => Remedy::Operator("CULVERT-K008"),
        _ => Remedy::Wait,
    }
}
