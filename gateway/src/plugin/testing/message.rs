//! Messages and what becomes of them, owned, and as cases and samples write them in JSON.
//!
//! Bytes are a text, `{ "base64": … }` or `{ "json": … }`: JSON that is handed over without spaces. `null` is none.

use super::base64;
use culvert_proto::Sequence;
use culvert_proto::columns::{Columns, Made, Outcome, Rejection};
use culvert_proto::record::{HeadersBuf, RecordRef};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// A message of a case, of a sample or of the generator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970-01-01 UTC, not below 0.
    pub timestamp: Option<i64>,
}

impl Message {
    /// A message with nothing but a value.
    pub fn of_value(value: impl Into<Vec<u8>>) -> Message {
        Message {
            value: Some(value.into()),
            ..Message::default()
        }
    }

    /// Bytes of key, value and headers.
    #[must_use]
    pub fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + of(value))
            .sum();
        of(&self.key) + of(&self.value) + headers
    }

    /// Reads the members of a message; those of `beside` may stand there too.
    ///
    /// # Errors
    /// What is wrong and what would be valid.
    pub(super) fn read(object: &Map<String, Value>, beside: &[&str]) -> Result<Message, String> {
        if let Some(stranger) = object
            .keys()
            .find(|key| !MEMBERS.contains(&key.as_str()) && !beside.contains(&key.as_str()))
        {
            return Err(format!(
                "{stranger:?} is no member of a message; valid: {}",
                MEMBERS.join(", ")
            ));
        }
        let bytes = |name: &str| {
            let found = object.get(name).map_or(Ok(None), Bytes::read);
            found.map_err(|why| format!("{name}: {why}"))
        };
        Ok(Message {
            key: bytes("key")?.map(Bytes::into_vec),
            value: bytes("value")?.map(Bytes::into_vec),
            headers: match object.get("headers") {
                None | Some(Value::Null) => Vec::new(),
                Some(list) => read_headers(list)?
                    .into_iter()
                    .map(|(name, value)| (name, value.map(Bytes::into_vec)))
                    .collect(),
            },
            timestamp: object.get("timestamp").map_or(Ok(None), read_timestamp)?,
        })
    }

    /// A message that [`Message::to_json`] wrote.
    #[must_use]
    pub fn of_json(value: &Value) -> Option<Message> {
        Message::read(value.as_object()?, &[]).ok()
    }

    /// As cases write it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        if let Some(key) = &self.key {
            object.insert("key".into(), bytes_json(Some(key)));
        }
        object.insert("value".into(), bytes_json(self.value.as_deref()));
        if !self.headers.is_empty() {
            let named =
                |(name, value): &(String, Option<Vec<u8>>)| json!([name, bytes_json(value.as_deref())]);
            object.insert("headers".into(), self.headers.iter().map(named).collect());
        }
        if let Some(timestamp) = self.timestamp {
            object.insert("timestamp".into(), timestamp.into());
        }
        Value::Object(object)
    }

    /// On one line, for a person.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text = bytes_shown(self.value.as_deref());
        if let Some(key) = &self.key {
            let _ = write!(text, ", key {}", bytes_shown(Some(key)));
        }
        for (name, value) in &self.headers {
            let _ = write!(text, ", header {name:?} {}", bytes_shown(value.as_deref()));
        }
        if let Some(timestamp) = self.timestamp {
            let _ = write!(text, ", timestamp {timestamp}");
        }
        text
    }

    /// What `made` would be as a message.
    pub(super) fn of_made(made: &Made) -> Message {
        Message {
            key: made.key.clone(),
            value: made.value.clone(),
            headers: made
                .headers
                .as_headers()
                .iter()
                .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                .collect(),
            timestamp: Some(made.timestamp).filter(|timestamp| *timestamp >= 0),
        }
    }

    fn with_record<T>(&self, act: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        let mut headers = HeadersBuf::new();
        for (name, value) in &self.headers {
            headers.push(name, value.as_deref());
        }
        act(&RecordRef {
            timestamp: self.timestamp.unwrap_or(-1),
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: headers.as_headers(),
        })
    }
}

/// Ways to make a message simpler, each to be gone again as long as it says true.
pub(super) const SIMPLER: [fn(&mut Message) -> bool; 6] = [
    |message| !std::mem::take(&mut message.headers).is_empty(),
    |message| message.timestamp.take().is_some(),
    |message| message.key.take().is_some(),
    |message| shorten(message, |_| b"{}".to_vec()),
    |message| shorten(message, |_| Vec::new()),
    |message| shorten(message, |value| value[..value.len() / 2].to_vec()),
];

fn shorten(message: &mut Message, shorter: fn(&[u8]) -> Vec<u8>) -> bool {
    let Some(value) = &mut message.value else {
        return false;
    };
    let shorter = shorter(value);
    let is_shorter = shorter.len() < value.len();
    if is_shorter {
        *value = shorter;
    }
    is_shorter
}

/// What a message may say.
pub(super) const MEMBERS: [&str; 4] = ["key", "value", "headers", "timestamp"];

/// A message and its place in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// The place.
    pub sequence: u64,
    /// The message.
    pub message: Message,
}

/// Messages at the places from `from` on.
pub(super) fn placed(from: u64, messages: impl IntoIterator<Item = Message>) -> Vec<Placed> {
    let place = |(sequence, message)| Placed { sequence, message };
    (from..).zip(messages).map(place).collect()
}

/// The batch that a plugin is shown.
///
/// # Errors
/// When it is larger than a frame may be, or its places go back.
pub(super) fn columns(batch: &[Placed]) -> Result<Columns, String> {
    columns_from(batch.first().map_or(0, |first| first.sequence), batch)
}

/// The same, of a batch that accounts for its places from `from` on.
///
/// # Errors
/// As [`columns`].
pub(super) fn columns_from(from: u64, batch: &[Placed]) -> Result<Columns, String> {
    let mut columns = Columns::begin(Sequence(from));
    for placed in batch {
        let sequence = Sequence(placed.sequence);
        let pushed = placed
            .message
            .with_record(|record| columns.push(sequence, record));
        pushed.map_err(|fault| fault.to_string())?;
    }
    Ok(columns)
}

// ----- what becomes of a message -------------------------------------------------------------------------------------

/// What became of one message. How a plugin spelled a replacement makes no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Keep,
    /// Nothing goes on.
    Drop,
    /// It goes to the dead letters.
    Reject(Rejection),
    /// These go on in its place; one is a replacement, more an expansion.
    Gives(Vec<Given>),
}

/// A message that a plugin made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Another topic than the batch's.
    pub topic: Option<String>,
    /// The message.
    pub message: Message,
}

impl Fate {
    pub(super) fn of(outcome: Outcome<'_>, original: &Message) -> Fate {
        match outcome {
            Outcome::Keep => Fate::Keep,
            Outcome::Drop => Fate::Drop,
            Outcome::Reject(rejection) => Fate::Reject(rejection.clone()),
            Outcome::Value(value) => Fate::Gives(vec![Given {
                topic: None,
                message: Message {
                    value: Some(value.to_vec()),
                    ..original.clone()
                },
            }]),
            Outcome::Rewrite(parts) => {
                let given = |made: &Made| Given {
                    topic: made.topic.clone(),
                    message: Message::of_made(made),
                };
                Fate::Gives(parts.iter().map(given).collect())
            }
        }
    }

    /// On one line, for a person: what is as in the original is left out.
    #[must_use]
    pub fn shown(&self, original: &Message) -> String {
        match self {
            Fate::Keep => "keep".into(),
            Fate::Drop => "drop".into(),
            Fate::Reject(Rejection { code, reason, field }) => {
                let at = field
                    .as_ref()
                    .map_or(String::new(), |field| format!(" at {field}"));
                format!("reject {code}{at}: {reason}")
            }
            Fate::Gives(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| part.shown(original)).collect();
                match parts.as_slice() {
                    [one] => format!("replace by {one}"),
                    many => format!("expand to {}: {}", many.len(), many.join("; ")),
                }
            }
        }
    }

    /// As a case writes an outcome: what is as in the original is left out, but for the value. JSON stays JSON where
    /// `as_json` says so.
    #[must_use]
    pub fn to_json(&self, original: &Message, as_json: bool) -> Value {
        match self {
            Fate::Keep => "keep".into(),
            Fate::Drop => "drop".into(),
            Fate::Reject(Rejection { code, reason, field }) => match field {
                Some(field) => json!({ "reject": { "code": code, "reason": reason, "field": field } }),
                None => json!({ "reject": { "code": code, "reason": reason } }),
            },
            Fate::Gives(parts) => {
                let parts: Vec<Value> = parts.iter().map(|part| part.to_json(original, as_json)).collect();
                match parts.as_slice() {
                    [one] => json!({ "replace": one }),
                    many => json!({ "expand": many }),
                }
            }
        }
    }
}

impl Given {
    fn shown(&self, original: &Message) -> String {
        let Given { topic, message } = self;
        let mut text = bytes_shown(message.value.as_deref());
        if let Some(topic) = topic {
            let _ = write!(text, ", topic {topic}");
        }
        if message.key != original.key {
            let _ = write!(text, ", key {}", bytes_shown(message.key.as_deref()));
        }
        if message.headers != original.headers {
            let named = |(name, value): &(String, Option<Vec<u8>>)| {
                format!("{name:?} {}", bytes_shown(value.as_deref()))
            };
            let headers: Vec<String> = message.headers.iter().map(named).collect();
            let _ = write!(text, ", headers [{}]", headers.join(", "));
        }
        if message.timestamp != original.timestamp {
            let _ = match message.timestamp {
                Some(timestamp) => write!(text, ", timestamp {timestamp}"),
                None => write!(text, ", no timestamp"),
            };
        }
        text
    }

    fn to_json(&self, original: &Message, as_json: bool) -> Value {
        let Given { topic, message } = self;
        let mut object = Map::new();
        if let Some(topic) = topic {
            object.insert("topic".into(), topic.as_str().into());
        }
        if message.key != original.key {
            object.insert("key".into(), bytes_json(message.key.as_deref()));
        }
        let read = |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).ok();
        let value = match message.value.as_ref().filter(|_| as_json).and_then(read) {
            Some(value) => json!({ "json": value }),
            None => bytes_json(message.value.as_deref()),
        };
        object.insert("value".into(), value);
        if message.headers != original.headers {
            let named =
                |(name, value): &(String, Option<Vec<u8>>)| json!([name, bytes_json(value.as_deref())]);
            object.insert("headers".into(), message.headers.iter().map(named).collect());
        }
        if message.timestamp != original.timestamp {
            object.insert("timestamp".into(), message.timestamp.into());
        }
        Value::Object(object)
    }
}

// ----- bytes -----------------------------------------------------------------------------------------------------------

/// Bytes as a case gives them: JSON is compared by what it says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Bytes {
    Raw(Vec<u8>),
    Json(Value),
}

impl Bytes {
    /// `null` is none.
    pub(super) fn read(value: &Value) -> Result<Option<Bytes>, String> {
        const VALID: &str = "valid: a text, null, {\"base64\": …} or {\"json\": …}";
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(Bytes::Raw(text.clone().into_bytes()))),
            Value::Object(object) if object.len() == 1 => {
                match (object.get("base64").and_then(Value::as_str), object.get("json")) {
                    (Some(text), _) => base64::decoded(text)
                        .map(|bytes| Some(Bytes::Raw(bytes)))
                        .ok_or_else(|| format!("{text:?} is not base64 (RFC 4648, with padding)")),
                    (None, Some(json)) => Ok(Some(Bytes::Json(json.clone()))),
                    (None, None) => Err(format!("{value} is no bytes; {VALID}")),
                }
            }
            other => Err(format!("{other} is no bytes; {VALID}")),
        }
    }

    pub(super) fn into_vec(self) -> Vec<u8> {
        match self {
            Bytes::Raw(bytes) => bytes,
            Bytes::Json(json) => json.to_string().into_bytes(),
        }
    }
}

pub(super) fn read_headers(list: &Value) -> Result<Vec<(String, Option<Bytes>)>, String> {
    let list = list.as_array().ok_or("headers: valid: a list of [name, value]")?;
    list.iter()
        .map(|pair| match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(name), value]) => {
                let value = Bytes::read(value).map_err(|why| format!("headers: {name}: {why}"))?;
                Ok((name.clone(), value))
            }
            _ => Err(format!("headers: {pair}; valid: [name, value]")),
        })
        .collect()
}

pub(super) fn read_timestamp(value: &Value) -> Result<Option<i64>, String> {
    match value {
        Value::Null => Ok(None),
        other => match other.as_i64().filter(|timestamp| *timestamp >= 0) {
            Some(timestamp) => Ok(Some(timestamp)),
            None => Err(format!(
                "timestamp: {other}; valid: milliseconds since 1970, or null"
            )),
        },
    }
}

fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => Value::Null,
        Some((_, Ok(text))) => text.into(),
        Some((bytes, Err(_))) => json!({ "base64": base64::encoded(bytes) }),
    }
}

/// The longest text of bytes that is shown whole, in characters.
const SHOWN_MAX: usize = 160;

/// Bytes on one line, for a person; long ones are cut.
pub(super) fn bytes_shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "none".into();
    };
    let (text, is_text) = match std::str::from_utf8(bytes) {
        Ok(text) => (
            text.escape_debug()
                .to_string()
                .replace("\\\"", "\"")
                .replace("\\'", "'"),
            true,
        ),
        Err(_) => (base64::encoded(&bytes[..bytes.len().min(SHOWN_MAX)]), false),
    };
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    let rest = if cut.len() < text.len() || (!is_text && bytes.len() > SHOWN_MAX) {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    match is_text {
        true if cut.is_empty() => "\"\"".into(),
        true => format!("{cut}{rest}"),
        false => format!("base64 {cut}{rest}"),
    }
}
