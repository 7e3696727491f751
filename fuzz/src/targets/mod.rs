//! All targets.

mod avro;
mod columns;
mod envelope;
#[cfg(feature = "gateway")]
mod gateway;
mod json;
mod protobuf;
mod wire;

use crate::Target;
use culvert_plugin::Fault;
use culvert_plugin::codec::{Codec, Schema};

/// Every decoder that this build has.
pub const TARGETS: &[Target] = &[
    target(
        "frame",
        "frames, as a link brings them and an outbox holds them",
        wire::frame,
    ),
    target(
        "message",
        "control messages and the headers of lanes",
        wire::message,
    ),
    target("stream", "identities of streams", wire::stream),
    target("batch", "record batches that are not compressed", wire::batch),
    target("columns", "what a plugin answers by columns", columns::answer),
    target("avro-schema", "the text of an Avro schema", avro::schema),
    target(
        "avro-datum",
        "an Avro value, under schemas that fit and that do not",
        avro::datum,
    ),
    target("avro-json", "JSON to be written as Avro", avro::json),
    target("avro-container", "Avro's container files", avro::container),
    target("protobuf-schema", "the text of a .proto file", protobuf::schema),
    target(
        "protobuf-message",
        "a Protobuf message, under schemas that fit and that do not",
        protobuf::message,
    ),
    target("protobuf-json", "JSON to be written as Protobuf", protobuf::json),
    target("json-schema", "the text of a JSON Schema", json::schema),
    target("json-value", "JSON to be checked by a schema", json::value),
    target(
        "envelope",
        "schema and payload in one JSON, as Kafka Connect writes them",
        envelope::envelope,
    ),
    #[cfg(feature = "gateway")]
    target(
        "compression",
        "record batches of every compression",
        gateway::compression,
    ),
    #[cfg(feature = "gateway")]
    target("examine", "a plugin's file", gateway::examine),
    #[cfg(feature = "gateway")]
    target(
        "description",
        "what a plugin's file says about it",
        gateway::description,
    ),
    #[cfg(feature = "gateway")]
    target("segment", "a segment of an outbox's log", gateway::segment),
    #[cfg(feature = "gateway")]
    target("positions", "records of a positions topic", gateway::positions),
    #[cfg(feature = "gateway")]
    target("config", "culvert.toml", gateway::config),
    #[cfg(feature = "gateway")]
    target("connector", "a connector's definition", gateway::connector),
    #[cfg(feature = "gateway")]
    target("receipt", "receipts and statements", gateway::receipt),
    #[cfg(feature = "gateway")]
    target("registry", "what a schema registry answers", gateway::registry),
    #[cfg(feature = "gateway")]
    target("failure", "a recorded failure of a plugin", gateway::failure),
];

const fn target(name: &'static str, about: &'static str, run: fn(&[u8])) -> Target {
    Target { name, about, run }
}

/// A schema as codecs are shown it.
fn named(text: &str) -> Schema {
    Schema {
        id: 1,
        subject: String::new(),
        version: 1,
        text: text.to_owned(),
        references: Vec::new(),
        attributes: Vec::new(),
    }
}

/// What a codec calls a fault.
fn code(fault: &Fault) -> &str {
    match fault {
        Fault::Reject(rejection) => &rejection.code,
        Fault::Failure(_) => "failure",
    }
}

/// What was written is read, and written again: the same bytes.
fn writes_the_same<C: Codec>(codec: &mut C, schema: &C::Schema, once: &[u8]) {
    let again = codec
        .decode(schema, schema, once)
        .expect("what was written can be read");
    let mut twice = Vec::new();
    codec
        .encode(schema, &again, &mut twice)
        .expect("what was read can be written");
    assert_eq!(once, twice, "writing is stable");
}

/// JSON that can be written at all is shown as JSON that is written the same.
fn shows_the_same<C: Codec>(codec: &mut C, schema: &C::Schema, json: &[u8]) {
    let mut written = Vec::new();
    if codec.from_json(schema, json, &mut written).is_err() {
        return;
    }
    let mut shown = Vec::new();
    codec
        .to_json(schema, schema, &written, &mut shown)
        .expect("what was written can be read");
    let mut again = Vec::new();
    codec
        .from_json(schema, &shown, &mut again)
        .expect("what was shown can be written");
    assert_eq!(written, again, "what was shown is the same");
}
