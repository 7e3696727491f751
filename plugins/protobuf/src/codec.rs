//! The plugin.

use crate::encode::{from_json, from_tree};
use crate::form::{Defaults, Form, Int64Format, Names, UnknownFields};
use crate::framing::{Framing, Opened};
use crate::json_out::JsonOut;
use crate::plan::{Plan, View};
use crate::schema::{MessageId, Schema};
use crate::walk::{Emit, Found, Walk};
use culvert_plugin::codec::{Codec, Schema as Named, Tree};
use culvert_plugin::{About, Config, Failure, Fault, Language, Promises, Rejection};
use plain::tree::TreeOut;
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, cut};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The settings.
#[derive(Config)]
pub struct Settings {
    /// What stands before the bytes of a message.
    #[config(default = "none", importance = "high", example = "confluent")]
    framing: Framing,

    /// What fields are called in JSON and trees. Both names are read.
    #[config(default = "json")]
    names: Names,

    /// How whole numbers of 64 bits are written as JSON. Both are read.
    #[config(default = "string")]
    int64_format: Int64Format,

    /// What happens to fields that cannot tell absent from zero, where they are zero.
    #[config(default = "omit")]
    defaults: Defaults,

    /// What happens to values with a field that the schema does not have.
    #[config(default = "reject")]
    unknown_fields: UnknownFields,
}

/// How many plans are kept: as many as there are schemas ready.
const PLANS_MAX: usize = 1_000;

/// The codec.
pub struct Protobuf {
    framing: Framing,
    names: Names,
    form: Form,
    /// How many schemas were prepared: the next one's name in the table of plans.
    prepared: u64,
    plans: BTreeMap<Pair, Rc<Plan>>,
    /// Used by one message after the other.
    found: Vec<Found>,
}

/// Writer and its message, reader and its message.
type Pair = (u64, MessageId, u64, MessageId);

/// A schema that was read.
pub struct Prepared {
    schema: Rc<Schema>,
    /// The registry's.
    id: u32,
    /// No other schema has it, and none that is read again.
    serial: u64,
    /// The message that the attribute `message` names.
    message: Option<MessageId>,
}

impl Codec for Protobuf {
    type Config = Settings;
    type Schema = Prepared;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .reads(Language::Protobuf)
        .promises(Promises::DETERMINISTIC.union(Promises::STATELESS));

    fn open(settings: Settings) -> Result<Protobuf, Failure> {
        Ok(Protobuf {
            framing: settings.framing,
            names: settings.names,
            form: Form {
                int64: settings.int64_format,
                defaults: settings.defaults,
                unknown: settings.unknown_fields,
            },
            prepared: 0,
            plans: BTreeMap::new(),
            found: Vec::new(),
        })
    }

    fn prepare(&mut self, schema: &Named) -> Result<Prepared, Rejection> {
        let invalid = |reason: String| Rejection::new(code::SCHEMA_INVALID, reason);
        let read = Schema::parse(&schema.text, &schema.references, self.names);
        let read = read.map_err(|error| invalid(error.to_string()))?;
        let attribute = |wanted| schema.attributes.iter().find(|(name, _)| name == wanted);
        let message = match (attribute("message"), attribute("message.indexes")) {
            (None, None) => None,
            (Some((_, name)), _) => match read.message(name) {
                Some(message) => Some(message),
                None => return Err(invalid(format!("there is no message `{}`", cut(name)))),
            },
            (None, Some((_, path))) => match indexes(path).and_then(|path| read.at_path(&path)) {
                Some(message) => Some(message),
                None => return Err(invalid(format!("there is no message at `{}`", cut(path)))),
            },
        };
        if message.or_else(|| read.first()).is_none() {
            return Err(invalid("it declares no message".to_owned()));
        }
        self.prepared += 1;
        Ok(Prepared {
            schema: Rc::new(read),
            id: schema.id,
            serial: self.prepared,
            message,
        })
    }

    fn decode(&mut self, writer: &Prepared, reader: &Prepared, bytes: &[u8]) -> Result<Tree, Fault> {
        let mut tree = TreeOut::default();
        self.read(writer, reader, bytes, &mut tree)?;
        Ok(tree.finish())
    }

    fn encode(&mut self, writer: &Prepared, tree: &Tree, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let root = self.begin(writer, bytes)?;
        Ok(from_tree(&writer.schema, root, tree, self.form.unknown, bytes)?)
    }

    fn to_json(
        &mut self,
        writer: &Prepared,
        reader: &Prepared,
        bytes: &[u8],
        json: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let form = self.form;
        Ok(self.read(writer, reader, bytes, &mut JsonOut::new(json, form))?)
    }

    fn from_json(&mut self, writer: &Prepared, json: &[u8], bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let root = self.begin(writer, bytes)?;
        Ok(from_json(&writer.schema, root, json, self.form.unknown, bytes)?)
    }
}

impl Protobuf {
    /// The message to be written, with its frame before it.
    fn begin(&self, writer: &Prepared, bytes: &mut Vec<u8>) -> Outcome<MessageId> {
        let root = writer.chosen()?;
        let path = match self.framing {
            Framing::None => Vec::new(),
            Framing::Confluent => writer.schema.path_of(root).ok_or_else(|| {
                let reason = "the message is declared in another file than the schema's own, and the frame names it by its place there";
                Trouble::new(MESSAGE_MISMATCH, reason)
            })?,
        };
        self.framing.begin(writer.id, &path, bytes)?;
        Ok(root)
    }

    fn read(
        &mut self,
        writer: &Prepared,
        reader: &Prepared,
        bytes: &[u8],
        emit: &mut impl Emit,
    ) -> Outcome<()> {
        let Opened { path, bytes } = self.framing.opened(writer.id, bytes)?;
        let written = writer.written(path.as_deref())?;
        let defaults = self.form.defaults == Defaults::Write;
        let found = std::mem::take(&mut self.found);
        let wanted = reader.wanted(writer, written)?;
        let pair = (writer.serial, written, reader.serial, wanted);
        let plan = match writer.serial == reader.serial && written == wanted {
            true => None,
            false => Some(self.plan(pair, writer, reader)?),
        };
        let view = match &plan {
            Some(plan) => plan.view(),
            None => View {
                messages: &reader.schema.messages,
                schema: &reader.schema,
                root: wanted,
            },
        };
        let (read, found) = Walk::new(view, bytes, emit, defaults, found).whole();
        self.found = found;
        read
    }

    fn plan(&mut self, pair: Pair, writer: &Prepared, reader: &Prepared) -> Outcome<Rc<Plan>> {
        if let Some(plan) = self.plans.get(&pair) {
            return Ok(Rc::clone(plan));
        }
        let (_, written, _, wanted) = pair;
        let plan = Plan::new(&writer.schema, written, &reader.schema, wanted);
        let plan = Rc::new(plan.map_err(|why| Trouble::new(code::SCHEMAS_DO_NOT_MATCH, why))?);
        if self.plans.len() >= PLANS_MAX {
            self.plans.clear();
        }
        self.plans.insert(pair, Rc::clone(&plan));
        Ok(plan)
    }
}

/// A message's place, as the attribute `message.indexes` has it: `1,0`.
fn indexes(text: &str) -> Option<Vec<u32>> {
    let indexes = text.split(',').map(|index| index.parse().ok());
    indexes.take(DEPTH_MAX as usize).collect()
}

/// The frame, the attribute `message` and the reader's schema do not agree on a message.
const MESSAGE_MISMATCH: &str = "message-mismatch";

impl Prepared {
    /// The message that is written: the one named, or the first.
    fn chosen(&self) -> Outcome<MessageId> {
        self.message
            .or_else(|| self.schema.first())
            .ok_or_else(|| Trouble::new(MESSAGE_MISMATCH, "the schema declares no message"))
    }

    /// The message that was written, as its frame says where there is one.
    fn written(&self, path: Option<&[u32]>) -> Outcome<MessageId> {
        let Some(path) = path else {
            return self.chosen();
        };
        let written = self.schema.at_path(path).ok_or_else(|| {
            let reason = format!("the frame names message {path:?}, which the schema does not declare");
            Trouble::new(MESSAGE_MISMATCH, reason)
        })?;
        match self.message {
            Some(named) if named != written => {
                let name = |id: MessageId| &self.schema.messages[id as usize].full_name;
                let reason = format!(
                    "the frame names message {}, and {} was expected",
                    name(written),
                    name(named)
                );
                Err(Trouble::new(MESSAGE_MISMATCH, reason))
            }
            _ => Ok(written),
        }
    }

    /// The message that is to be read: the one named, or the one of the same name, or the first where the first was
    /// written.
    fn wanted(&self, writer: &Prepared, written: MessageId) -> Outcome<MessageId> {
        let name = &writer.schema.messages[written as usize].full_name;
        let is_first = writer.chosen().is_ok_and(|chosen| chosen == written);
        self.message
            .or_else(|| self.schema.message(name))
            .or_else(|| self.schema.first().filter(|_| is_first))
            .ok_or_else(|| {
                let reason = format!("the reader's schema has no message {name}");
                Trouble::new(MESSAGE_MISMATCH, reason)
            })
    }
}

culvert_plugin::export_codec!(Protobuf);
