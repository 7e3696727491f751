use super::*;
use crate::OrReject;

/// Puts a schema's text before what it encodes, and counts how often schemas were read.
struct Prefix {
    prepared: usize,
}

impl Codec for Prefix {
    type Config = ();
    type Schema = String;
    const ABOUT: About = About::new("prefix", "0.1.0", "Puts a prefix before bytes");

    fn open((): ()) -> Result<Prefix, Failure> {
        Ok(Prefix { prepared: 0 })
    }

    fn prepare(&mut self, schema: &Schema) -> Result<String, Rejection> {
        self.prepared += 1;
        match schema.text.as_str() {
            "" => Err(Rejection::new("bad-schema", "it is empty")),
            text => Ok(text.to_owned()),
        }
    }

    fn decode(&mut self, writer: &String, _: &String, bytes: &[u8]) -> Result<Tree, Fault> {
        let rest = bytes
            .strip_prefix(writer.as_bytes())
            .or_reject("no-prefix", "it is not there")?;
        Ok(Tree {
            nodes: vec![Node::Bytes(rest.to_vec())],
        })
    }

    fn encode(&mut self, writer: &String, tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let [Node::Bytes(value)] = tree.nodes.as_slice() else {
            return Err(Rejection::new("no-bytes", "bytes alone have a place here").into());
        };
        bytes.extend_from_slice(writer.as_bytes());
        bytes.extend_from_slice(value);
        Ok(())
    }

    fn to_json(
        &mut self,
        writer: &String,
        _: &String,
        bytes: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        json.push(b'"');
        json.extend_from_slice(
            bytes
                .strip_prefix(writer.as_bytes())
                .or_reject("no-prefix", "it is not there")?,
        );
        json.push(b'"');
        Ok(())
    }

    fn from_json(&mut self, _: &String, _: &[u8], _: &mut Vec<u8>) -> Result<(), Fault> {
        Err(Failure::retry("not now").into())
    }
}

crate::export_codec!(Prefix);

fn schema(text: &str) -> Schema {
    Schema {
        id: 1,
        subject: "s".to_owned(),
        version: 1,
        text: text.to_owned(),
        references: Vec::new(),
        attributes: Vec::new(),
    }
}

fn payloads(all: &[&[u8]]) -> Payloads {
    let mut end = 0;
    let ends = all.iter().map(|bytes| {
        end += bytes.len() as u32;
        end
    });
    Payloads {
        ends: ends.collect(),
        bytes: all.concat(),
    }
}

fn opened() -> Opened<Prefix> {
    Opened::new(Prefix::open(()).unwrap())
}

#[test]
fn the_same_schema_has_the_same_number_and_a_wrong_one_none() {
    let mut codec = opened();
    let numbers = ["a", "b", "a"].map(|text| codec.prepare(schema(text)).unwrap());
    assert_eq!(numbers, [0, 1, 0]);
    assert_eq!(codec.prepare(schema("")).unwrap_err().code, "bad-schema");
    assert_eq!(
        codec.decode(7, 0, &payloads(&[])).unwrap_err().text(),
        "schema 7 was never prepared"
    );
}

#[test]
fn one_payload_at_fault_is_refused_and_the_others_are_not() {
    let mut codec = opened();
    let number = codec.prepare(schema("p:")).unwrap();
    let decoded = codec
        .decode(number, number, &payloads(&[b"p:1", b"q:2", b"p:"]))
        .unwrap();
    let tree = |bytes: &[u8]| Tree {
        nodes: vec![Node::Bytes(bytes.to_vec())],
    };
    assert!(matches!(&decoded[0], Decoded::Ok(ok) if *ok == tree(b"1")));
    assert!(matches!(&decoded[1], Decoded::Reject(why) if why.code == "no-prefix"));
    assert!(matches!(&decoded[2], Decoded::Ok(ok) if *ok == tree(b"")));

    let made = codec
        .to_json(number, number, &payloads(&[b"p:1", b"q:2", b"p:3"]))
        .unwrap();
    assert_eq!(made.payloads.bytes, b"\"1\"\"3\"");
    assert_eq!(
        made.payloads.ends,
        [3, 3, 6],
        "what was written of the refused one is gone"
    );
    assert_eq!(made.rejections[0].0, 1);

    let encoded = codec
        .encode(
            number,
            &[
                tree(b"x"),
                Tree {
                    nodes: vec![Node::Null],
                },
            ],
        )
        .unwrap();
    assert!(matches!(&encoded[0], Encoded::Ok(bytes) if bytes == b"p:x"));
    assert!(matches!(&encoded[1], Encoded::Reject(why) if why.code == "no-bytes"));
    assert_eq!(
        codec.from_json(number, &payloads(&[b"1"])).unwrap_err().text(),
        "not now"
    );
}

#[test]
fn a_schema_that_fell_out_is_read_again_and_keeps_its_number() {
    let mut codec = opened();
    let numbers: Vec<u32> = (0..=READY_MAX)
        .map(|number| codec.prepare(schema(&number.to_string())).unwrap())
        .collect();
    let ready = |codec: &Opened<Prefix>| codec.schemas.iter().filter(|known| known.ready.is_some()).count();
    assert_eq!(ready(&codec), READY_MAX);
    assert!(codec.schemas[0].ready.is_none(), "the one that rested longest");
    let before = codec.codec.prepared;
    codec
        .to_json(numbers[0], numbers[0], &payloads(&[b"0x"]))
        .unwrap();
    assert_eq!(codec.codec.prepared, before + 1);
    assert_eq!(ready(&codec), READY_MAX);
}

#[test]
fn payloads_that_do_not_fit_are_refused() {
    let mut codec = opened();
    let number = codec.prepare(schema("p")).unwrap();
    for ends in [vec![5], vec![2, 1]] {
        let payloads = Payloads {
            ends,
            bytes: b"abc".to_vec(),
        };
        let failure = codec.decode(number, number, &payloads).unwrap_err();
        assert_eq!(failure.text(), "the gateway sent payloads whose ends do not fit");
    }
}
