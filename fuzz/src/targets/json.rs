//! The bundled codec for JSON Schema, natively: the very code that runs as a plugin.

use super::{code, named};
use culvert_plugin::codec::Codec;
use culvert_plugin::testing::settings;
use json::{JsonCodec, Settings};
use std::cell::RefCell;

/// Schemas with the keywords of every draft.
const SCHEMAS: [&str; 5] = [
    r##"{"type":["object","array"],"properties":{"a":{"$ref":"#"},"n":{"type":"integer","minimum":-5,"multipleOf":0.5}},
        "items":[{"pattern":"^a+$"}],"additionalItems":{"not":{"enum":[1,{"x":[2.50]}]}},"dependencies":{"a":["b"]},
        "if":{"minItems":2},"then":{"uniqueItems":true},"patternProperties":{"^x":{"maxLength":3}},"maxProperties":20}"##,
    r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","$dynamicAnchor":"node","type":"object",
        "properties":{"children":{"type":"array","items":{"$dynamicRef":"#node"},"contains":{"required":["id"]},"minContains":0},
        "id":{"anyOf":[{"type":"integer"},{"type":"string","format":"uuid"}]}},"unevaluatedProperties":false}"##,
    r##"{"$schema":"http://json-schema.org/draft-04/schema#","type":"number","maximum":10,"exclusiveMaximum":true}"##,
    r##"{"oneOf":[{"const":null},{"type":"string","format":"date-time"},{"type":"array","contains":{"const":1e2}}],
        "propertyNames":{"pattern":"^[a-z]{1,8}$"}}"##,
    "true",
];

type Prepared = <JsonCodec as Codec>::Schema;

thread_local! {
    /// Schemas are prepared once, as in a gateway.
    static HELD: RefCell<(JsonCodec, Vec<Prepared>)> = RefCell::new({
        let mut codec = codec();
        let prepared = SCHEMAS.map(|text| codec.prepare(&named(text)).expect("a schema that can be read"));
        (codec, prepared.into())
    });
}

/// The text of a schema. One that is taken has an answer for every value.
pub(super) fn schema(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut codec = codec();
    let Ok(schema) = codec.prepare(&named(text)) else {
        return;
    };
    // Short texts: what a pattern may cost is what the time of a call is there for.
    for value in [
        "null",
        "-1.50",
        "\"aab\"",
        "[]",
        "[1,\"a\",[2],2.0]",
        "{\"a\":{\"a\":1},\"b\":\"x\",\"\":[]}",
    ] {
        let as_json = codec.to_json(&schema, &schema, value.as_bytes(), &mut Vec::new());
        let tree = codec.decode(&schema, &schema, value.as_bytes());
        assert_eq!(as_json.is_ok(), tree.is_ok(), "both ways take the same values");
    }
}

/// A value. The first byte says of which schema.
pub(super) fn value(bytes: &[u8]) {
    let Some((choice, text)) = bytes.split_first() else {
        return;
    };
    HELD.with_borrow_mut(|(codec, schemas)| {
        let schema = &schemas[usize::from(*choice) % schemas.len()];
        one_value(codec, schema, text);
    });
}

fn one_value(codec: &mut JsonCodec, schema: &Prepared, text: &[u8]) {
    let mut json = Vec::new();
    let read = codec.to_json(schema, schema, text, &mut json).is_ok();
    let tree = codec.decode(schema, schema, text);
    assert!(read || tree.is_err(), "a value that does not fit is no tree");
    if read {
        assert_eq!(json, text, "what fits is passed byte by byte");
    }
    // A tree has fewer places for numbers than JSON.
    let Ok(tree) = tree else { return };
    let mut once = Vec::new();
    // A small number with a large exponent has too many digits to be written out.
    if let Err(why) = codec.encode(schema, &tree, &mut once) {
        assert_eq!(code(&why), "too-large");
        return;
    }
    super::writes_the_same(codec, schema, &once);
}

fn codec() -> JsonCodec {
    let codec = settings::<Settings>([("formats", "check")]).and_then(JsonCodec::open);
    codec.expect("the settings are right")
}
