//! The codec from outside, a module for each promise.

mod bad_input;
mod containers;
mod framings;
mod json;
mod logical;
mod resolution;
mod schemas;
mod trees;

use crate::{Avro, Settings};
use culvert_plugin::codec::{Codec, Schema as Named, Tree};
use culvert_plugin::testing::settings;
use culvert_plugin::{Fault, Rejection};

/// A codec with some settings, and the schemas it was given.
struct Bench {
    codec: Avro,
    id: u32,
}

#[allow(clippy::wrong_self_convention, reason = "the contract's words")]
impl Bench {
    fn new<'a>(with: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bench {
        let settings = settings::<Settings>(with).unwrap();
        Bench {
            codec: Avro::open(settings).unwrap(),
            id: 7,
        }
    }

    fn schema(&mut self, text: &str) -> crate::codec::Prepared {
        self.codec.prepare(&named(text, self.id, &[])).unwrap()
    }

    fn to_json(&mut self, writer: &str, reader: &str, bytes: &[u8]) -> Result<String, Rejection> {
        let (writer, reader) = (self.schema(writer), self.schema(reader));
        let mut json = Vec::new();
        rejected(self.codec.to_json(&writer, &reader, bytes, &mut json))?;
        Ok(String::from_utf8(json).unwrap())
    }

    fn from_json(&mut self, schema: &str, json: &str) -> Result<Vec<u8>, Rejection> {
        let schema = self.schema(schema);
        let mut bytes = Vec::new();
        rejected(self.codec.from_json(&schema, json.as_bytes(), &mut bytes))?;
        Ok(bytes)
    }

    fn decode(&mut self, writer: &str, reader: &str, bytes: &[u8]) -> Result<Tree, Rejection> {
        let (writer, reader) = (self.schema(writer), self.schema(reader));
        rejected(self.codec.decode(&writer, &reader, bytes))
    }

    fn encode(&mut self, schema: &str, tree: &Tree) -> Result<Vec<u8>, Rejection> {
        let schema = self.schema(schema);
        let mut bytes = Vec::new();
        rejected(self.codec.encode(&schema, tree, &mut bytes))?;
        Ok(bytes)
    }
}

fn rejected<T>(answer: Result<T, Fault>) -> Result<T, Rejection> {
    answer.map_err(|fault| match fault {
        Fault::Reject(rejection) => rejection,
        Fault::Failure(failure) => panic!("the call failed: {}", failure.text()),
    })
}

fn named(text: &str, id: u32, references: &[(&str, &str)]) -> Named {
    Named {
        id,
        subject: "s-value".to_owned(),
        version: 1,
        text: text.to_owned(),
        references: references
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
        attributes: Vec::new(),
    }
}

/// `code field`, or the code alone.
fn said(rejection: &Rejection) -> String {
    let field = rejection.field.as_deref().unwrap_or_default();
    format!("{} {field}", rejection.code).trim().to_owned()
}

/// JSON that is written and comes back the same, by bytes and by a tree.
fn check_round(schema: &str, json: &str) {
    let mut bench = Bench::new([]);
    let bytes = bench
        .from_json(schema, json)
        .unwrap_or_else(|why| panic!("{schema}: {json}: {why:?}"));
    assert_eq!(
        bench.to_json(schema, schema, &bytes).as_deref(),
        Ok(json),
        "{schema}: {bytes:?}"
    );
    let tree = bench.decode(schema, schema, &bytes).unwrap();
    assert_eq!(
        bench.encode(schema, &tree).as_ref(),
        Ok(&bytes),
        "{schema}: {tree:?}"
    );
}

/// A record of one field `f`.
fn field(kind: &str, rest: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{kind}{rest}}}]}}"#)
}
