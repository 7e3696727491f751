//! A message while steps change it. Keys, values and headers are read where a step asks for them, and written where one
//! has changed them.

use crate::envelope;
use crate::json::{Fields, Json};
use culvert_plugin::{Message, NewMessage, OrReject, Outcome, Rejection};
use std::borrow::Cow;

/// What a step looks at and changes.
pub(crate) struct Record<'a> {
    /// The topic it goes to.
    pub(crate) topic: Cow<'a, str>,
    is_rerouted: bool,
    pub(crate) partition: u32,
    /// Kafka's offset, where the stream comes from Kafka.
    pub(crate) sequence: u64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Part<'a>,
    pub(crate) value: Part<'a>,
    /// Read where a step asks for them.
    headers: Option<Vec<Header<'a>>>,
    are_headers_changed: bool,
    message: Option<Message<'a>>,
}

/// Key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Key,
    Value,
}

/// A key or a value: its bytes, and what they say once somebody has asked.
pub(crate) struct Part<'a> {
    side: Side,
    bytes: Option<&'a [u8]>,
    json: Option<Json<'a>>,
    /// Connect's schema, where it came in an envelope with the payload.
    schema: Option<Json<'a>>,
    is_changed: bool,
}

/// A header's name and value.
pub(crate) type Header<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// Parts of a message that steps have changed.
#[derive(Debug, PartialEq)]
pub(crate) struct Changes<'a> {
    pub(crate) topic: Option<String>,
    pub(crate) key: Option<Option<Vec<u8>>>,
    pub(crate) value: Option<Option<Vec<u8>>>,
    pub(crate) headers: Option<Vec<Header<'a>>>,
}

impl<'a> Record<'a> {
    pub(crate) fn new(topic: &'a str, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
        Record {
            topic: Cow::Borrowed(topic),
            is_rerouted: false,
            partition: 0,
            sequence: 0,
            timestamp: None,
            key: Part::new(Side::Key, key),
            value: Part::new(Side::Value, value),
            headers: None,
            are_headers_changed: false,
            message: None,
        }
    }

    pub(crate) fn of(message: &Message<'a>) -> Record<'a> {
        Record {
            partition: message.batch().partition(),
            sequence: message.sequence(),
            timestamp: message.timestamp(),
            message: Some(*message),
            ..Record::new(message.topic(), message.key(), message.value())
        }
    }

    pub(crate) fn part(&mut self, side: Side) -> &mut Part<'a> {
        match side {
            Side::Key => &mut self.key,
            Side::Value => &mut self.value,
        }
    }

    pub(crate) fn reroute(&mut self, topic: String) {
        self.is_rerouted = self.is_rerouted || topic != self.topic;
        self.topic = Cow::Owned(topic);
    }

    /// The headers, to be looked at.
    pub(crate) fn headers(&mut self) -> &mut Vec<Header<'a>> {
        let message = self.message;
        self.headers
            .get_or_insert_with(|| message.map(|message| headers_of(&message)).unwrap_or_default())
    }

    /// The headers, to be changed.
    pub(crate) fn change_headers(&mut self) -> &mut Vec<Header<'a>> {
        self.are_headers_changed = true;
        self.headers()
    }

    pub(crate) fn changes(self) -> Changes<'a> {
        Changes {
            topic: self.is_rerouted.then(|| self.topic.into_owned()),
            key: self.key.change(),
            value: self.value.change(),
            headers: self.headers.filter(|_| self.are_headers_changed),
        }
    }
}

impl<'a> Part<'a> {
    fn new(side: Side, bytes: Option<&'a [u8]>) -> Part<'a> {
        Part {
            side,
            bytes,
            json: None,
            schema: None,
            is_changed: false,
        }
    }

    /// What it says; `null` where there is nothing, as Connect has it.
    ///
    /// # Errors
    /// `not-json`, and `schema-envelope` where a schema comes with it, which a step that asks here would make untrue.
    pub(crate) fn json(&mut self) -> Result<&Json<'a>, Rejection> {
        self.without_schema()?;
        Ok(self.json.get_or_insert(Json::NULL))
    }

    /// Schema and payload, to be changed.
    ///
    /// # Errors
    /// `not-json`.
    pub(crate) fn change_both(&mut self) -> Result<(Option<&mut Json<'a>>, &mut Json<'a>), Rejection> {
        self.read()?;
        self.is_changed = true;
        Ok((self.schema.as_mut(), self.json.get_or_insert(Json::NULL)))
    }

    /// It was not changed after all.
    pub(crate) fn keep(&mut self) {
        self.is_changed = false;
    }

    /// The fields of an object, to be looked at. `purpose` says what for.
    ///
    /// # Errors
    /// `not-an-object`, and as [`json`](Part::json).
    pub(crate) fn fields(&mut self, purpose: &str) -> Result<&mut Fields<'a>, Rejection> {
        self.without_schema()?;
        Ok(self.look_struct(purpose)?.1)
    }

    /// Whether there is nothing, with a schema or without.
    ///
    /// # Errors
    /// `not-json`.
    pub(crate) fn is_null(&mut self) -> Result<bool, Rejection> {
        self.read()?;
        Ok(self.json.as_ref().is_none_or(Json::is_null))
    }

    /// Schema and fields of an object, to be looked at.
    ///
    /// # Errors
    /// `not-json` and `not-an-object`.
    pub(crate) fn look_struct(
        &mut self,
        purpose: &str,
    ) -> Result<(Option<&mut Json<'a>>, &mut Fields<'a>), Rejection> {
        self.read()?;
        let side = self.side;
        let json = self.json.get_or_insert(Json::NULL);
        let kind = json.kind();
        let wrong = || {
            let reason = format!("{purpose} needs an object, and the {side} is {kind}");
            Rejection::new("not-an-object", reason)
        };
        Ok((self.schema.as_mut(), json.fields().ok_or_else(wrong)?))
    }

    /// The same, to be changed.
    ///
    /// # Errors
    /// As [`look_struct`](Part::look_struct).
    pub(crate) fn change_struct(
        &mut self,
        purpose: &str,
    ) -> Result<(Option<&mut Json<'a>>, &mut Fields<'a>), Rejection> {
        // Refused records go as they came: it does not matter what is marked before.
        self.is_changed = true;
        self.look_struct(purpose)
    }

    /// Another payload and its schema.
    pub(crate) fn set_both(&mut self, schema: Option<Json<'a>>, json: Json<'a>) {
        self.schema = schema;
        self.json = Some(json);
        self.is_changed = true;
    }

    /// The fields of an object, to be changed.
    ///
    /// # Errors
    /// As [`fields`](Part::fields).
    pub(crate) fn change_fields(&mut self, purpose: &str) -> Result<&mut Fields<'a>, Rejection> {
        self.is_changed = true;
        self.fields(purpose)
    }

    pub(crate) fn set(&mut self, json: Json<'a>) {
        self.schema = None;
        self.json = Some(json);
        self.is_changed = true;
    }

    fn without_schema(&mut self) -> Result<(), Rejection> {
        self.read()?;
        if self.schema.is_none() {
            return Ok(());
        }
        Err(Rejection::new(
            "schema-envelope",
            format!(
                "the {} carries a schema beside its payload (schemas.enable=true), which this transformation does not \
                 keep true; write it with schemas.enable=false",
                self.side
            ),
        ))
    }

    fn read(&mut self) -> Result<(), Rejection> {
        if self.json.is_some() {
            return Ok(());
        }
        let Some(bytes) = self.bytes else {
            self.json = Some(Json::NULL);
            return Ok(());
        };
        let reason = format!("the {} cannot be read as JSON", self.side);
        let text = std::str::from_utf8(bytes).or_reject("not-json", &reason)?;
        let json = Json::read(text).or_reject("not-json", &reason)?;
        let (schema, json) = envelope::apart(json);
        self.schema = schema;
        self.json = Some(json);
        Ok(())
    }

    fn change(self) -> Option<Option<Vec<u8>>> {
        if !self.is_changed {
            return None;
        }
        let mut json = self.json.unwrap_or(Json::NULL);
        if let Some(schema) = self.schema {
            json = envelope::together(schema, json);
        }
        if json.is_null() {
            return Some(None);
        }
        let mut written = String::with_capacity(self.bytes.map_or(0, <[u8]>::len) + 64);
        json.write(&mut written);
        Some(Some(written.into_bytes()))
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Side::Key => "key",
            Side::Value => "value",
        })
    }
}

impl Changes<'_> {
    /// What becomes of the message.
    pub(crate) fn outcome(self, message: &Message<'_>) -> Outcome {
        match self {
            Changes {
                topic: None,
                key: None,
                value: None,
                headers: None,
            } => Outcome::Keep,
            Changes {
                topic: None,
                key: None,
                value: Some(Some(value)),
                headers: None,
            } => Outcome::Value(value),
            changes => Outcome::Replace(changes.rebuilt(message)),
        }
    }

    fn rebuilt(self, message: &Message<'_>) -> NewMessage {
        let mut made = NewMessage::tombstone();
        if let Some(topic) = self.topic {
            made = made.topic(topic);
        }
        if let Some(key) = self.key.unwrap_or_else(|| message.key().map(<[u8]>::to_vec)) {
            made = made.key(key);
        }
        if let Some(value) = self.value.unwrap_or_else(|| message.value().map(<[u8]>::to_vec)) {
            made = made.value(value);
        }
        if let Some(timestamp) = message.timestamp() {
            made = made.timestamp(timestamp);
        }
        let headers = self.headers.unwrap_or_else(|| headers_of(message));
        headers.into_iter().fold(made, |made, (name, value)| match value {
            Some(value) => made.header(name, value.into_owned()),
            None => made.header_without_value(name),
        })
    }
}

/// The headers of a message.
pub(crate) fn headers_of<'a>(message: &Message<'a>) -> Vec<Header<'a>> {
    message
        .headers()
        .map(|header| (Cow::Borrowed(header.name), header.value.map(Cow::Borrowed)))
        .collect()
}
