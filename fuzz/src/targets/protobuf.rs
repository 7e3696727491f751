//! The bundled codec for Protobuf, natively: the very code that runs as a plugin.

use super::{code, named};
use culvert_plugin::codec::Codec;
use culvert_plugin::testing::settings;
use protobuf::{Protobuf, Settings};
use std::cell::RefCell;

type Prepared = <Protobuf as Codec>::Schema;

/// Schemas of every kind there is, the second of each pair a later version of the first.
const PAIRS: [(&str, &str); 5] = [
    (
        r#"syntax = "proto2"; enum E { ZERO = 0; ONE = 1; }
        message M {
            optional int32 a = 1; optional sint64 b = 2; optional fixed32 c = 3; optional double d = 4; optional string e = 5;
            optional bytes f = 6; repeated int32 g = 7 [packed = true]; repeated string h = 8; map<string, M> i = 9;
            optional group Grouped = 10 { optional M m = 1; } optional E j = 11; optional M k = 12;
            oneof o { uint64 l = 13; M n = 14; } map<int32, bool> t = 19; optional float u = 20; optional sfixed64 v = 21; }"#,
        r#"syntax = "proto2"; enum E { ZERO = 0; ONE = 1; }
        message M {
            optional int64 a = 1; optional sint32 b = 2; optional string f = 6; repeated bytes h = 8; map<string, M> i = 9;
            optional E j = 11; optional M k = 12; repeated uint32 l = 13; optional string x = 40; }"#,
    ),
    (
        r#"syntax = "proto3"; import "google/protobuf/any.proto"; import "google/protobuf/struct.proto";
        import "google/protobuf/timestamp.proto"; import "google/protobuf/duration.proto";
        import "google/protobuf/field_mask.proto"; import "google/protobuf/wrappers.proto";
        message W {
            google.protobuf.Any a = 1; google.protobuf.Struct b = 2; google.protobuf.Value c = 3; google.protobuf.ListValue d = 4;
            google.protobuf.Timestamp e = 5; google.protobuf.Duration f = 6; google.protobuf.FieldMask g = 7;
            google.protobuf.Int64Value h = 8; google.protobuf.StringValue i = 9; google.protobuf.BytesValue j = 10;
            google.protobuf.NullValue k = 11; repeated google.protobuf.Timestamp l = 12; map<string, google.protobuf.Value> m = 13; }"#,
        r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
        message W { google.protobuf.Timestamp e = 5; repeated google.protobuf.Timestamp l = 12; }"#,
    ),
    (
        r#"syntax = "proto2"; message R { required int32 a = 1; optional R b = 2; repeated R c = 3; }"#,
        r#"syntax = "proto2"; message R { optional int32 a = 1; optional R b = 2; repeated R c = 3; }"#,
    ),
    (
        r#"syntax = "proto3"; message P { repeated double a = 1; repeated bool b = 2; repeated sint64 c = 3; optional bool d = 4;
            message Q { P p = 1; } Q q = 5; oneof o { string e = 6; Q f = 7; bytes g = 8; } }"#,
        r#"syntax = "proto3"; message P { repeated double a = 1 [packed = false]; repeated int64 b = 2; bool d = 4; }"#,
    ),
    (
        r#"syntax = "proto3"; message Empty {}"#,
        r#"syntax = "proto3"; message Empty { string a = 1; }"#,
    ),
];

/// Schemas are prepared once, as in a gateway: else a run would hardly do anything else.
struct Held {
    plain: Protobuf,
    pairs: Vec<(Prepared, Prepared)>,
    framed: (Protobuf, Prepared),
}

thread_local! {
    static HELD: RefCell<Held> = RefCell::new(Held::new());
}

impl Held {
    fn new() -> Held {
        let (mut plain, mut framed) = (codec("none"), codec("confluent"));
        let pairs =
            PAIRS.map(|(writer, reader)| (prepared(&mut plain, writer), prepared(&mut plain, reader)));
        let packed = prepared(&mut framed, PAIRS[3].0);
        Held {
            plain,
            pairs: pairs.into(),
            framed: (framed, packed),
        }
    }
}

/// The text of a schema. One that is taken reads a message without fields, or says what is missing.
pub(super) fn schema(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let mut codec = codec("none");
    let Ok(schema) = codec.prepare(&named(text)) else {
        return;
    };
    let mut json = Vec::new();
    match codec.to_json(&schema, &schema, &[], &mut json) {
        Ok(()) => {
            let mut again = Vec::new();
            let written = codec.from_json(&schema, &json, &mut again);
            assert!(written.is_ok(), "what was shown can be written");
        }
        Err(why) => assert_eq!(code(&why), "missing-field"),
    }
}

/// A message. The first byte says of which schemas.
pub(super) fn message(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    HELD.with_borrow_mut(|held| {
        framed(&mut held.framed, bytes);
        let (writer, reader) = &held.pairs[usize::from(*choice) % held.pairs.len()];
        one_message(&mut held.plain, writer, reader, bytes);
    });
}

fn one_message(codec: &mut Protobuf, writer: &Prepared, reader: &Prepared, bytes: &[u8]) {
    let _ = codec.to_json(writer, reader, bytes, &mut Vec::new());
    let _ = codec.decode(writer, reader, bytes);
    let mut json = Vec::new();
    let as_json = codec.to_json(writer, writer, bytes, &mut json);
    let tree = codec.decode(writer, writer, bytes);
    assert_eq!(as_json.is_ok(), tree.is_ok(), "both ways read the same messages");
    let Ok(tree) = tree else { return };
    assert!(str::from_utf8(&json).is_ok(), "JSON is UTF-8");
    let mut once = Vec::new();
    // Lists and objects between messages nest the value deeper than the messages are.
    if let Err(why) = codec.encode(writer, &tree, &mut once) {
        assert_eq!(code(&why), "too-deep");
        return;
    }
    super::writes_the_same(codec, writer, &once);
}

/// The bytes behind the number of a frame: which message it is, and the message.
fn framed((codec, schema): &mut (Protobuf, Prepared), bytes: &[u8]) {
    let frame = [&[0, 0, 0, 0, 1], bytes].concat();
    let _ = codec.to_json(schema, schema, &frame, &mut Vec::new());
}

/// JSON that is to become a message. The first byte says of which schema.
pub(super) fn json(bytes: &[u8]) {
    let Some((choice, json)) = bytes.split_first() else {
        return;
    };
    HELD.with_borrow_mut(|held| {
        let (writer, _) = &held.pairs[usize::from(*choice) % held.pairs.len()];
        super::shows_the_same(&mut held.plain, writer, json);
    });
}

fn codec(framing: &'static str) -> Protobuf {
    let codec = settings::<Settings>([("framing", framing)]).and_then(Protobuf::open);
    codec.expect("the settings are right")
}

fn prepared(codec: &mut Protobuf, text: &str) -> Prepared {
    codec.prepare(&named(text)).expect("a schema that can be read")
}
