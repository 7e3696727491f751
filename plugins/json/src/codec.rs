//! The plugin.

use crate::check::check;
use crate::framing::Framing;
use crate::schema::Schema;
use crate::tree;
use culvert_plugin::codec::{Codec, Schema as Named, Tree};
use culvert_plugin::{About, Choice, Config, Failure, Fault, Language, Promises, Rejection};
use plain::json::Json;
use plain::source::parsed;
use plain::trouble::{Outcome, code};

/// The settings.
#[derive(Config)]
pub struct Settings {
    /// What stands before the text of a value.
    #[config(default = "none", importance = "high", example = "confluent")]
    framing: Framing,

    /// Whether the keyword `format` is checked.
    #[config(default = "ignore")]
    formats: Formats,
}

/// Whether the keyword `format` is checked.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Formats {
    /// It is a note to people.
    Ignore,
    /// A text that has not its format is refused.
    Check,
}

/// The codec.
pub struct JsonCodec {
    framing: Framing,
    formats: bool,
}

/// A schema that was read.
pub struct Prepared {
    schema: Schema,
    /// The registry's.
    id: u32,
}

impl Codec for JsonCodec {
    type Config = Settings;
    type Schema = Prepared;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .reads(Language::JsonSchema)
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<JsonCodec, Failure> {
        Ok(JsonCodec {
            framing: settings.framing,
            formats: settings.formats == Formats::Check,
        })
    }

    fn prepare(&mut self, schema: &Named) -> Result<Prepared, Rejection> {
        let read = Schema::parse(&schema.text, &schema.references);
        let schema_of = read.map_err(|error| Rejection::new(code::SCHEMA_INVALID, error.to_string()))?;
        Ok(Prepared {
            schema: schema_of,
            id: schema.id,
        })
    }

    fn decode(&mut self, writer: &Prepared, reader: &Prepared, bytes: &[u8]) -> Result<Tree, Fault> {
        let text = self.framing.opened(writer.id, bytes)?;
        let json = self.checked(&reader.schema, text)?;
        Ok(tree::of_json(&json)?)
    }

    fn encode(&mut self, writer: &Prepared, tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        self.framing.begin(writer.id, bytes)?;
        let start = bytes.len();
        tree::to_json(tree, bytes)?;
        self.checked(&writer.schema, &bytes[start..])?;
        Ok(())
    }

    fn to_json(
        &mut self,
        writer: &Prepared,
        reader: &Prepared,
        bytes: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let text = self.framing.opened(writer.id, bytes)?;
        self.checked(&reader.schema, text)?;
        json.extend_from_slice(text);
        Ok(())
    }

    fn from_json(&mut self, writer: &Prepared, json: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
        self.checked(&writer.schema, json)?;
        self.framing.begin(writer.id, bytes)?;
        bytes.extend_from_slice(json);
        Ok(())
    }
}

impl JsonCodec {
    fn checked<'a>(&self, schema: &Schema, text: &'a [u8]) -> Outcome<Json<'a>> {
        let json = parsed(text)?;
        check(schema, &json, self.formats)?;
        Ok(json)
    }
}

culvert_plugin::export_codec!(JsonCodec);
