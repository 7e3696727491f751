//! The durable queues of a gateway.
