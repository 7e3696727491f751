//! The plugin.

use crate::check::check;
use crate::decimal::{DecimalFormat, formatted};
use crate::derive::derived;
use crate::schema::Schema;
use crate::value::Value;
use culvert_plugin::codec::{Codec, Schema as Named, Tree};
use culvert_plugin::{About, Config, Failure, Fault, Language, Promises, Rejection};
use plain::trouble::{Outcome, Trouble, code};
use std::borrow::Cow;

/// What is no object of schema and payload.
const NOT_AN_ENVELOPE: &str = "not-an-envelope";

/// The settings, as Kafka Connect's `JsonConverter` spells them.
#[derive(Config)]
pub struct Settings {
    /// Whether null, where its schema has a default, is that default.
    #[config(name = "replace.null.with.default", default = true, importance = "low")]
    replace_null: bool,
    /// How decimals are written. Both are read; without it they stay as they are.
    #[config(name = "decimal.format", importance = "low")]
    decimal_format: Option<DecimalFormat>,
}

/// See the crate.
pub struct ConnectJson {
    replace_null: bool,
    decimals: Option<DecimalFormat>,
}

impl Codec for ConnectJson {
    type Config = Settings;
    /// None for a payload without a schema.
    type Schema = Option<Schema>;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .reads(Language::Envelope)
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<ConnectJson, Failure> {
        Ok(ConnectJson {
            replace_null: settings.replace_null,
            decimals: settings.decimal_format,
        })
    }

    fn prepare(&mut self, schema: &Named) -> Result<Option<Schema>, Rejection> {
        if schema.text.is_empty() {
            return Ok(None);
        }
        let invalid = |why: Trouble| match why.code() {
            code::SCHEMA_INVALID => why.into(),
            _ => Rejection::new(code::SCHEMA_INVALID, "the schema is no JSON"),
        };
        let value = Value::read(schema.text.as_bytes()).map_err(invalid)?;
        Ok(Schema::read(&value)?)
    }

    fn decode(&mut self, writer: &Option<Schema>, _: &Option<Schema>, bytes: &[u8]) -> Result<Tree, Fault> {
        Ok(self.payload(writer, bytes)?.tree()?)
    }

    fn encode(&mut self, writer: &Option<Schema>, tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        Ok(self.envelope(writer, Value::of_tree(tree)?, bytes)?)
    }

    fn to_json(
        &mut self,
        writer: &Option<Schema>,
        _: &Option<Schema>,
        bytes: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        self.payload(writer, bytes)?.write(json);
        Ok(())
    }

    fn from_json(&mut self, writer: &Option<Schema>, json: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
        Ok(self.envelope(writer, Value::read(json)?, bytes)?)
    }
}

impl ConnectJson {
    /// The payload of an envelope, of the schema that stands beside it.
    fn payload(&self, writer: &Option<Schema>, bytes: &[u8]) -> Outcome<Value> {
        let (schema, payload) = match Value::read(bytes)? {
            Value::Object(members) if members.len() == 2 => {
                let (mut schema, mut payload) = (None, None);
                for (name, value) in members {
                    match name.as_str() {
                        "schema" => schema = Some(value),
                        "payload" => payload = Some(value),
                        _ => return Err(no_envelope()),
                    }
                }
                schema.zip(payload).ok_or_else(no_envelope)?
            }
            _ => return Err(no_envelope()),
        };
        let own = match writer {
            Some(known) if known.source == schema => Cow::Borrowed(writer),
            _ => Cow::Owned(Schema::read(&schema)?),
        };
        match own.as_ref() {
            Some(own) => check(own, &payload, self.replace_null),
            None => Ok(payload),
        }
    }

    /// A payload beside the schema it had, or one that is derived from it.
    fn envelope(&self, writer: &Option<Schema>, payload: Value, bytes: &mut Vec<u8>) -> Outcome<()> {
        let payload = match (writer, self.decimals) {
            (Some(writer), Some(format)) => formatted(writer, payload, format)?,
            _ => payload,
        };
        let schema = match writer {
            Some(writer) => derived(writer, &payload)?,
            None => Value::Null,
        };
        let envelope = Value::Object(vec![
            ("schema".to_owned(), schema),
            ("payload".to_owned(), payload),
        ]);
        envelope.write(bytes);
        Ok(())
    }
}

fn no_envelope() -> Trouble {
    let reason = "it is no object of \"schema\" and \"payload\" alone, as JsonConverter writes with schemas.enable=true";
    Trouble::new(NOT_AN_ENVELOPE, reason)
}

culvert_plugin::export_codec!(ConnectJson);
