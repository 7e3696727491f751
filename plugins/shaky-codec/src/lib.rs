//! Reads and writes a text behind its length, and breaks one rule of codecs in the way that its setting names: what
//! `culvert plugin test` must find. Each fault is one that real codecs have.

use culvert_plugin::codec::{Codec, Node, Schema, Span, Tree};
use culvert_plugin::prelude::*;
use culvert_plugin::{Language, clock};
use serde_json::{Value, json};

/// What is wrong.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Rule {
    /// Nothing.
    None,
    /// Bytes are taken without a look at how many there are.
    Panics,
    /// What is there of bytes that are cut off is taken for all.
    Lenient,
    /// JSON is put together without escapes.
    Unescaped,
    /// A line break is added to what is written.
    Grows,
    /// Bytes that are none of its own end the task.
    Fatal,
    /// Anything is a schema.
    AnySchema,
    /// The time is in the answer.
    Clock,
    /// What came before is refused when it comes again.
    Seen,
    /// Values are in other letters than JSON.
    Tree,
}

/// The settings.
#[derive(Config)]
struct Settings {
    /// What is wrong.
    #[config(default = "none")]
    breaks: Rule,
}

struct Shaky {
    breaks: Rule,
    last: Vec<u8>,
}

impl Codec for Shaky {
    type Config = Settings;
    type Schema = ();

    const ABOUT: About = culvert_plugin::about!()
        .reads(Language::JsonSchema)
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<Shaky, Failure> {
        Ok(Shaky {
            breaks: settings.breaks,
            last: Vec::new(),
        })
    }

    fn prepare(&mut self, schema: &Schema) -> Result<(), Rejection> {
        let is_one = schema.text.is_empty() || serde_json::from_str::<Value>(&schema.text).is_ok();
        match is_one || self.breaks == Rule::AnySchema {
            true => Ok(()),
            false => Err(Rejection::new("schema-invalid", "the schema is no JSON")),
        }
    }

    fn decode(&mut self, (): &(), (): &(), bytes: &[u8]) -> Result<Tree, Fault> {
        let text = self.read(bytes)?;
        let text = match self.breaks {
            Rule::Tree => text.to_uppercase(),
            _ => text,
        };
        Ok(Tree {
            nodes: vec![
                Node::Entries(Span { first: 1, count: 2 }),
                Node::Text("text".to_owned()),
                Node::Text(text),
            ],
        })
    }

    fn encode(&mut self, (): &(), tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        match tree.nodes.as_slice() {
            [Node::Entries(_), Node::Text(_), Node::Text(text)] => self.write(text, bytes),
            _ => Err(Rejection::new("schema-mismatch", "it is an object with a text").into()),
        }
    }

    fn to_json(&mut self, (): &(), (): &(), bytes: &[u8], json: &mut Vec<u8>) -> Result<(), Fault> {
        let text = self.read(bytes)?;
        let made = match self.breaks {
            Rule::Unescaped => format!("{{\"text\":\"{text}\"}}"),
            Rule::Clock => json!({ "text": text, "at": clock::now_ms() }).to_string(),
            _ => json!({ "text": text }).to_string(),
        };
        json.extend_from_slice(made.as_bytes());
        Ok(())
    }

    fn from_json(&mut self, (): &(), json: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let refuse = |reason: &str| Rejection::new("schema-mismatch", reason);
        let value: Value = serde_json::from_slice(json).map_err(|error| refuse(&error.to_string()))?;
        let text = value.get("text").and_then(Value::as_str);
        let text = text.ok_or_else(|| refuse("it has no text").at("/text"))?;
        match self.breaks {
            Rule::Grows => self.write(&format!("{text}\n"), bytes),
            _ => self.write(text, bytes),
        }
    }
}

impl Shaky {
    fn read(&mut self, bytes: &[u8]) -> Result<String, Fault> {
        let seen = std::mem::replace(&mut self.last, bytes.to_vec());
        if self.breaks == Rule::Seen && seen == bytes {
            return Err(Rejection::new("seen", "it came before").into());
        }
        let text = match self.breaks {
            Rule::Panics => &bytes[1..=usize::from(bytes[0])],
            _ => match bytes.split_first() {
                Some((length, text)) if usize::from(*length) == text.len() => text,
                Some((length, text)) if usize::from(*length) > text.len() && self.breaks == Rule::Lenient => {
                    text
                }
                _ if self.breaks == Rule::Fatal => {
                    return Err(Failure::fatal("these bytes are not mine").into());
                }
                _ => return Err(Rejection::new("truncated", "the length is another").into()),
            },
        };
        let text = String::from_utf8(text.to_vec());
        Ok(text.map_err(|_| Rejection::new("not-utf-8", "it is no text"))?)
    }

    fn write(&self, text: &str, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let length = u8::try_from(text.len())
            .map_err(|_| Rejection::new("out-of-range", "it is longer than 255 bytes").at("/text"))?;
        bytes.push(length);
        bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

culvert_plugin::export_codec!(Shaky);
