//! The bundled codec, natively: the very code that runs as a plugin.

use super::named;
use avro::container::Container;
use avro::{Avro, Schema, Settings};
use culvert_plugin::codec::Codec;
use culvert_plugin::testing::settings;

/// Schemas of every type there is, the second of each pair a later version of the first.
const PAIRS: [(&str, &str); 6] = [
    (
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":["null","string"]},{"name":"b","type":{"type":"array","items":"int"}},{"name":"c","type":{"type":"map","values":"double"}}]}"#,
        r#"{"type":"record","name":"R","fields":[{"name":"b","type":{"type":"array","items":"long"}},{"name":"a","type":["string","null"]},{"name":"d","type":"string","default":"x"}]}"#,
    ),
    (
        r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]},{"name":"x","type":"boolean"}]}"#,
        r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}"#,
    ),
    (
        r#"{"type":"record","name":"L","fields":[{"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"u","type":{"type":"string","logicalType":"uuid"}},{"name":"day","type":{"type":"int","logicalType":"date"}}]}"#,
        r#"{"type":"record","name":"L","fields":[{"name":"t","type":{"type":"long","logicalType":"timestamp-micros"}}]}"#,
    ),
    (
        r#"{"type":"array","items":[{"type":"enum","name":"E","symbols":["A","B"]},{"type":"fixed","name":"F","size":4},"float","bytes"]}"#,
        r#"{"type":"array","items":[{"type":"enum","name":"E","symbols":["A","C"],"default":"A"},{"type":"fixed","name":"F","size":4},"double","string"]}"#,
    ),
    (r#""long""#, r#"["null","double"]"#),
    (
        r#"{"type":"map","values":{"type":"map","values":"bytes"}}"#,
        r#"{"type":"map","values":{"type":"map","values":"string"}}"#,
    ),
];

/// The text of a schema. What was read is written, and is the same schema.
pub(super) fn schema(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(schema) = Schema::parse(text, &[]) else {
        return;
    };
    let whole = Schema::parse(&schema.whole(), &[]).expect("what was written can be read");
    assert_eq!(whole.fingerprint(), schema.fingerprint(), "it is the same schema");
    assert_eq!(whole.canonical(), schema.canonical());
}

/// A value. The first byte says of which schemas.
pub(super) fn datum(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let (writer, reader) = PAIRS[usize::from(*choice) % PAIRS.len()];
    let mut codec = codec();
    let (writer, reader) = (prepared(&mut codec, writer), prepared(&mut codec, reader));
    let mut json = Vec::new();
    let _ = codec.to_json(&writer, &reader, bytes, &mut json);
    let _ = codec.decode(&writer, &reader, bytes);
    json.clear();
    let as_json = codec.to_json(&writer, &writer, bytes, &mut json);
    let tree = codec.decode(&writer, &writer, bytes);
    assert_eq!(as_json.is_ok(), tree.is_ok(), "both ways read the same values");
    let Ok(tree) = tree else { return };
    assert!(str::from_utf8(&json).is_ok(), "JSON is UTF-8");
    let mut once = Vec::new();
    // What is above its type's precision is read, but not written.
    if codec.encode(&writer, &tree, &mut once).is_err() {
        return;
    }
    super::writes_the_same(&mut codec, &writer, &once);
}

/// JSON that is to become a value. The first byte says of which schema.
pub(super) fn json(bytes: &[u8]) {
    let Some((choice, json)) = bytes.split_first() else {
        return;
    };
    let (writer, _) = PAIRS[usize::from(*choice) % PAIRS.len()];
    let mut codec = codec();
    let writer = prepared(&mut codec, writer);
    super::shows_the_same(&mut codec, &writer, json);
}

/// A container file, with a schema of its own.
pub(super) fn container(bytes: &[u8]) {
    let Ok(file) = Container::read(bytes) else { return };
    let size: usize = file.records().map(<[u8]>::len).sum();
    let text = file.schema.whole();
    let codec = settings::<Settings>([("framing", "container")]).and_then(Avro::open);
    let mut codec = codec.expect("the settings are right");
    let reader = prepared(&mut codec, &text);
    let mut json = Vec::new();
    let _ = codec.to_json(&reader, &reader, bytes, &mut json);
    assert!(size <= 64 << 20, "an answer has a limit");
}

fn codec() -> Avro {
    let codec = settings::<Settings>([]).and_then(Avro::open);
    codec.expect("the defaults are right")
}

fn prepared(codec: &mut Avro, text: &str) -> avro::Prepared {
    codec.prepare(&named(text)).expect("a schema that can be read")
}
