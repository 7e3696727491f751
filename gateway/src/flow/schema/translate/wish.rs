//! What a connector wishes for a part of its records, and what a codec must be able to do for it.

use crate::flow::schema::Converter;
use crate::flow::stage::StageFault;
use culvert_proto::columns::Rejection;
use culvert_proto::schema::{Part, Schema};
use std::sync::Arc;

/// What a schema language is read and written by; opened for one task.
pub trait SchemaCodec: Send {
    /// Makes a schema known. The same one may be shown again.
    ///
    /// # Errors
    /// The outer one when it cannot now, or not at all; the inner one when it takes this for no schema.
    fn prepare(&mut self, shown: &Shown) -> Result<Result<Prepared, Rejection>, StageFault>;

    /// Bytes of a schema as plain JSON, one entry for each payload.
    ///
    /// # Errors
    /// When it cannot now, or not at all. Nothing of the payloads counts then.
    fn decode(&mut self, schema: Prepared, payloads: Payloads<'_>) -> Result<Converted, StageFault>;

    /// And back.
    ///
    /// # Errors
    /// As [`SchemaCodec::decode`].
    fn encode(&mut self, schema: Prepared, payloads: Payloads<'_>) -> Result<Converted, StageFault>;
}

/// Opens a codec for one task.
pub type MakeCodec = dyn Fn() -> Result<Box<dyn SchemaCodec>, StageFault> + Send + Sync;

/// A schema that a codec knows.
pub type Prepared = usize;

/// A schema, as a codec is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// With all it refers to.
    pub schema: Arc<Schema>,
    /// The number that stands before the bytes.
    pub id: u32,
    /// Which of its messages is written.
    pub message: Message,
}

/// A message of a Protobuf schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Message {
    /// What the bytes say, or the first.
    #[default]
    Any,
    /// By its full name.
    Named(String),
    /// By its place among the messages of the file, then in that message, and so on.
    At(Vec<u32>),
}

/// Many byte strings as one: entry i is `bytes[ends[i-1] .. ends[i]]`.
#[derive(Clone, Copy, Debug)]
pub struct Payloads<'a> {
    /// Where each ends.
    pub ends: &'a [u32],
    /// All of them.
    pub bytes: &'a [u8],
}

/// What became of many payloads, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Where each ends; empty for a rejected one.
    pub ends: Vec<u32>,
    /// All of them.
    pub bytes: Vec<u8>,
    /// The payloads at fault, ascending.
    pub rejections: Vec<(u32, Rejection)>,
}

/// A connector's wish for one part of its records.
#[derive(Clone)]
pub struct Translated {
    /// The part.
    pub part: Part,
    /// Where the schemas of what is read are from.
    pub schemas: Schemas,
    /// What is written.
    pub writes: Writes,
    /// What crosses the border.
    pub carried: Carried,
    /// What reads and writes it.
    pub codec: Arc<MakeCodec>,
}

/// Where schemas are from.
#[derive(Clone)]
pub enum Schemas {
    /// Each part begins with a number of this registry.
    Registry(Converter),
    /// All of this one, without anything before the bytes.
    One(Arc<Schema>, Message),
    /// Each part is a JSON object whose member `schema` is its own.
    Within,
}

/// What crosses the border between a source and its sinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Carried {
    /// The bytes of the outside system, in the source's form.
    #[default]
    Bytes,
    /// The JSON that stages see: the source decodes, and the sink encodes.
    Json,
}

/// What a part is written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// With the schema that it was read with.
    Own,
    /// With the newest one of a subject: this one, or that of the topic.
    Latest(Option<String>),
    /// With this one, which is registered if it may be.
    This(Arc<Schema>, Message),
}
