//! The codec from outside, a module for each promise.

mod bad_input;
mod framings;
mod messages;
mod schemas;

use crate::codec::Prepared;
use crate::{Protobuf, Settings};
use culvert_plugin::codec::{Codec, Schema as Named};
use culvert_plugin::testing::settings;
use culvert_plugin::{Fault, Rejection};

/// A codec with some settings.
struct Bench {
    codec: Protobuf,
}

#[allow(clippy::wrong_self_convention, reason = "the contract's words")]
impl Bench {
    fn new<'a>(with: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bench {
        let settings = settings::<Settings>(with).unwrap();
        Bench {
            codec: Protobuf::open(settings).unwrap(),
        }
    }

    fn schema(&mut self, text: &str) -> Prepared {
        self.codec.prepare(&named(text, "")).unwrap()
    }

    fn to_json(&mut self, writer: &Prepared, reader: &Prepared, bytes: &[u8]) -> Result<String, Rejection> {
        let mut json = Vec::new();
        rejected(self.codec.to_json(writer, reader, bytes, &mut json))?;
        Ok(String::from_utf8(json).unwrap())
    }

    fn from_json(&mut self, schema: &Prepared, json: &str) -> Result<Vec<u8>, Rejection> {
        let mut bytes = Vec::new();
        rejected(self.codec.from_json(schema, json.as_bytes(), &mut bytes))?;
        Ok(bytes)
    }
}

fn rejected<T>(answer: Result<T, Fault>) -> Result<T, Rejection> {
    answer.map_err(|fault| match fault {
        Fault::Reject(rejection) => rejection,
        Fault::Failure(failure) => panic!("the call failed: {}", failure.text()),
    })
}

fn named(text: &str, message: &str) -> Named {
    let attributes = match message {
        "" => Vec::new(),
        name => vec![("message".to_owned(), name.to_owned())],
    };
    Named {
        id: 7,
        subject: "s-value".to_owned(),
        version: 1,
        text: text.to_owned(),
        references: Vec::new(),
        attributes,
    }
}

/// `code field`, or the code alone.
fn said(rejection: &Rejection) -> String {
    let field = rejection.field.as_deref().unwrap_or_default();
    format!("{} {field}", rejection.code).trim().to_owned()
}
