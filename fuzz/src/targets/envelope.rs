//! The bundled codec for Kafka Connect's JSON with schemas, natively: the very code that runs as a plugin.

use super::named;
use connect_json::{ConnectJson, Settings};
use culvert_plugin::codec::Codec;
use culvert_plugin::testing::settings;

/// What a topic holds: any bytes, or a schema and a payload with a zero between them, which no JSON has.
pub(super) fn envelope(bytes: &[u8]) {
    let Some(zero) = bytes.iter().position(|byte| *byte == 0) else {
        read(bytes);
        return;
    };
    let (schema, payload) = (&bytes[..zero], &bytes[zero + 1..]);
    let whole = [br#"{"schema":"#, schema, br#","payload":"#, payload, b"}"].concat();
    let Some(payload) = read(&whole) else { return };
    let Ok(text) = str::from_utf8(schema) else { return };
    let mut codec = codec();
    // A text that is no schema by itself may end the member, and begin another.
    let Ok(schema) = codec.prepare(&named(text)) else {
        return;
    };
    let mut written = Vec::new();
    codec
        .from_json(&schema, &payload, &mut written)
        .expect("what fits a schema is written with it");
    assert_eq!(read(&written), Some(payload), "what was written is the same");
}

/// The payload of an envelope, as JSON and as a tree.
fn read(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut codec = codec();
    let mut json = Vec::new();
    let shown = codec.to_json(&None, &None, bytes, &mut json).is_ok();
    let tree = codec.decode(&None, &None, bytes);
    // A tree has fewer places for numbers than JSON.
    assert!(shown || tree.is_err(), "what is no payload is no tree");
    if let Ok(tree) = tree {
        codec
            .encode(&None, &tree, &mut Vec::new())
            .expect("what was read can be written");
    }
    shown.then_some(json)
}

fn codec() -> ConnectJson {
    let codec = settings::<Settings>([]).and_then(ConnectJson::open);
    codec.expect("the settings are right")
}
