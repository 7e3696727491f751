//! A golden case: one file of `cases/`. Its format is described for authors in the README of every new plugin.

use super::message::{Bytes, Fate, Given, MEMBERS, Message, bytes_shown, read_headers, read_timestamp};
use super::settings::{self, Settings};
use culvert_host::{Description, Field};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The largest file of a case. By eye.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The topic where a case names none.
const TOPIC: &str = "cases";

/// What a file of `cases/` says.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file.
    pub file: PathBuf,
    /// What it shows.
    pub about: String,
    /// All of the plugin's settings.
    pub(super) settings: Settings,
    pub(super) topic: String,
    /// Of a codec: the text of the schema that its values are of.
    pub(super) schema: Option<String>,
    /// One batch.
    pub(super) messages: Vec<Message>,
    pub(super) expected: Expected,
    /// As it was read, to be written anew.
    document: Value,
}

/// What is to come of it.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// One for each message; none where the file has none yet.
    Outcomes(Vec<Option<Wanted>>),
    /// Opening, or the batch as a whole, fails.
    Fails(Failure),
}

/// How a call fails as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Retry,
    Fatal,
}

/// What is to become of a message. Only what is given is compared.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    Keep,
    Drop,
    Reject {
        code: Option<String>,
        reason: Option<String>,
        /// `Some(None)`: no field is to be named.
        field: Option<Option<String>>,
    },
    Replace(WantedMessage),
    Expand(Vec<WantedMessage>),
}

/// A message that goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct WantedMessage {
    topic: Option<Option<String>>,
    key: Option<Option<Bytes>>,
    value: Option<Option<Bytes>>,
    headers: Option<Vec<(String, Option<Bytes>)>>,
    timestamp: Option<Option<i64>>,
}

/// The cases of a folder, by name. A folder that is not there has none.
///
/// # Errors
/// All that is wrong, a line each.
pub fn read_cases(folder: &Path, description: &Description) -> Result<Vec<Case>, String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let is_case = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_case)
        .collect();
    files.sort();
    let (mut cases, mut mistakes) = (Vec::new(), Vec::new());
    for file in files {
        match Case::read(&file, description) {
            Ok(case) => cases.push(case),
            Err(mistake) => mistakes.push(format!("{}: {mistake}", file.display())),
        }
    }
    if mistakes.is_empty() {
        Ok(cases)
    } else {
        Err(mistakes.join("\n"))
    }
}

impl Case {
    fn read(file: &Path, description: &Description) -> Result<Case, String> {
        let size = std::fs::metadata(file).map_err(|fault| fault.to_string())?.len();
        if size > FILE_BYTES_MAX {
            return Err(format!("it has {size} bytes; at most {FILE_BYTES_MAX} are read"));
        }
        let text = std::fs::read_to_string(file).map_err(|fault| fault.to_string())?;
        Case::parse(file, &text, &description.fields)
    }

    pub(super) fn parse(file: &Path, text: &str, fields: &[Field]) -> Result<Case, String> {
        const VALID: [&str; 7] = [
            "about",
            "settings",
            "topic",
            "schema",
            "attributes",
            "messages",
            "fails",
        ];
        let document: Value = serde_json::from_str(text).map_err(|fault| fault.to_string())?;
        let object = document.as_object().ok_or("valid: a JSON object")?;
        if let Some(stranger) = object.keys().find(|key| !VALID.contains(&key.as_str())) {
            return Err(format!(
                "{stranger:?} is no member of a case; valid: {}",
                VALID.join(", ")
            ));
        }
        let has_attributes = match object.get("attributes") {
            None | Some(Value::Null) => false,
            Some(Value::Object(attributes)) => !attributes.is_empty(),
            Some(other) => return Err(format!("attributes: {other}; valid: an object of texts")),
        };
        if has_attributes {
            return Err("attributes: this version gives a plugin none\n\nLeave them out.".into());
        }
        let word = |name: &str| match object.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("{name}: {other}; valid: a text")),
        };
        let fails = match word("fails")?.as_deref() {
            None => None,
            Some("retry") => Some(Failure::Retry),
            Some("fatal") => Some(Failure::Fatal),
            Some(other) => return Err(format!("fails: {other:?}; valid: retry, fatal")),
        };
        let list = match object.get("messages") {
            None => &Vec::new(),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(format!("messages: {other}; valid: a list")),
        };
        let (mut messages, mut outcomes) = (Vec::new(), Vec::new());
        for (number, message) in (1..).zip(list) {
            let read = read_message(message, fails.is_some());
            let (message, outcome) = read.map_err(|why| format!("message {number}: {why}"))?;
            messages.push(message);
            outcomes.push(outcome);
        }
        let case = Case {
            file: file.to_owned(),
            about: word("about")?.unwrap_or_default(),
            settings: settings::of_json(object.get("settings"), fields)?,
            topic: word("topic")?.unwrap_or_else(|| TOPIC.into()),
            schema: match object.get("schema") {
                None => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(json) => Some(json.to_string()),
            },
            messages,
            expected: fails.map_or(Expected::Outcomes(outcomes), Expected::Fails),
            document,
        };
        Ok(case)
    }

    /// What it opens the plugin with, all of its keys.
    #[must_use]
    pub fn settings(&self) -> &[(String, Option<String>)] {
        &self.settings
    }

    /// Whether it shows a failure.
    #[must_use]
    pub fn is_to_fail(&self) -> bool {
        matches!(self.expected, Expected::Fails(_))
    }

    /// The file with other outcomes for the messages at these places.
    pub(super) fn blessed(&self, fates: &[(usize, Fate)]) -> String {
        let mut document = self.document.clone();
        for (at, fate) in fates {
            let Some(message) = document.pointer_mut(&format!("/messages/{at}")) else {
                continue;
            };
            let as_json = message.pointer("/value/json").is_some();
            if let Value::Object(object) = message {
                object.insert("outcome".into(), fate.to_json(&self.messages[*at], as_json));
            }
        }
        format!("{}\n", super::pretty::text(&document))
    }
}

fn read_message(message: &Value, fails: bool) -> Result<(Message, Option<Wanted>), String> {
    let object = message.as_object().ok_or("valid: an object")?;
    let read = Message::read(object, &["outcome"])?;
    let outcome = match object.get("outcome") {
        Some(_) if fails => return Err("it has an outcome, and the case says that all fails".into()),
        Some(outcome) => Some(Wanted::read(outcome).map_err(|why| format!("outcome: {why}"))?),
        None => None,
    };
    Ok((read, outcome))
}

impl Wanted {
    fn read(outcome: &Value) -> Result<Wanted, String> {
        const VALID: &str =
            "valid: \"keep\", \"drop\", {\"replace\": …}, {\"expand\": […]} or {\"reject\": …}";
        let invalid = || format!("{outcome}; {VALID}");
        match outcome {
            Value::String(word) if word == "keep" => Ok(Wanted::Keep),
            Value::String(word) if word == "drop" => Ok(Wanted::Drop),
            Value::Object(object) if object.len() == 1 => {
                let (name, inner) = object.iter().next().ok_or_else(invalid)?;
                match name.as_str() {
                    "replace" => Ok(Wanted::Replace(WantedMessage::read(inner)?)),
                    "expand" => {
                        let parts = inner
                            .as_array()
                            .filter(|parts| !parts.is_empty())
                            .ok_or_else(invalid)?;
                        let parts = parts.iter().map(WantedMessage::read).collect::<Result<_, _>>()?;
                        Ok(Wanted::Expand(parts))
                    }
                    "reject" => Wanted::read_rejection(inner),
                    _ => Err(invalid()),
                }
            }
            _ => Err(invalid()),
        }
    }

    fn read_rejection(inner: &Value) -> Result<Wanted, String> {
        let object = inner
            .as_object()
            .ok_or("reject: valid: an object with code, reason or field")?;
        let text = |name: &str| match object.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Some(text.clone()))),
            Some(Value::Null) if name == "field" => Ok(Some(None)),
            Some(other) => Err(format!("reject: {name}: {other}; valid: a text")),
        };
        if let Some(stranger) = object
            .keys()
            .find(|name| !["code", "reason", "field"].contains(&name.as_str()))
        {
            return Err(format!("reject: {stranger:?}; valid: code, reason, field"));
        }
        Ok(Wanted::Reject {
            code: text("code")?.flatten(),
            reason: text("reason")?.flatten(),
            field: text("field")?,
        })
    }

    /// For a person, on one line.
    pub(super) fn shown(&self) -> String {
        match self {
            Wanted::Keep => "keep".into(),
            Wanted::Drop => "drop".into(),
            Wanted::Reject { code, reason, field } => {
                let code = code.as_ref().map_or(String::new(), |code| format!(" {code}"));
                let at = match field {
                    None => String::new(),
                    Some(None) => " without a field".into(),
                    Some(Some(field)) => format!(" at {field}"),
                };
                let reason = reason
                    .as_ref()
                    .map_or(String::new(), |reason| format!(": {reason}"));
                format!("reject{code}{at}{reason}")
            }
            Wanted::Replace(one) => format!("replace by {}", one.shown()),
            Wanted::Expand(parts) => {
                let shown: Vec<String> = parts.iter().map(WantedMessage::shown).collect();
                format!("expand to {}: {}", parts.len(), shown.join("; "))
            }
        }
    }

    /// Where what became of a message is not what was wanted. Empty where it is.
    pub(super) fn differences(&self, fate: &Fate) -> Vec<String> {
        match (self, fate) {
            (Wanted::Keep, Fate::Keep) | (Wanted::Drop, Fate::Drop) => Vec::new(),
            (Wanted::Reject { code, reason, field }, Fate::Reject(got)) => {
                let mut differences = Vec::new();
                let mut compare = |what: &str, wanted: Option<&str>, got: Option<&str>| {
                    if wanted != got {
                        let shown =
                            |text: Option<&str>| text.map_or("none".into(), |text| format!("{text:?}"));
                        differences.push(format!("{what}: expected {}, got {}", shown(wanted), shown(got)));
                    }
                };
                if code.is_some() {
                    compare("code", code.as_deref(), Some(&got.code));
                }
                if let Some(field) = field {
                    compare("field", field.as_deref(), got.field.as_deref());
                }
                if reason.is_some() {
                    compare("reason", reason.as_deref(), Some(&got.reason));
                }
                differences
            }
            (Wanted::Replace(wanted), Fate::Gives(got)) if got.len() == 1 => wanted.differences(&got[0]),
            (Wanted::Expand(wanted), Fate::Gives(got)) if got.len() == wanted.len() => (1..)
                .zip(wanted.iter().zip(got))
                .flat_map(|(part, (wanted, got))| {
                    let named = move |difference| format!("part {part}: {difference}");
                    wanted.differences(got).into_iter().map(named)
                })
                .collect(),
            (Wanted::Replace(_) | Wanted::Expand(_), Fate::Gives(got)) => {
                let wanted = match self {
                    Wanted::Expand(parts) => parts.len(),
                    _ => 1,
                };
                vec![format!("messages: expected {wanted}, got {}", got.len())]
            }
            _ => vec!["another outcome".into()],
        }
    }
}

impl WantedMessage {
    fn read(value: &Value) -> Result<WantedMessage, String> {
        let object = value
            .as_object()
            .ok_or_else(|| format!("{value} is no message; valid: an object"))?;
        let is_known = |name: &String| name == "topic" || MEMBERS.contains(&name.as_str());
        if let Some(stranger) = object.keys().find(|name| !is_known(name)) {
            let valid = MEMBERS.join(", ");
            return Err(format!(
                "{stranger:?} is no member of a message; valid: topic, {valid}"
            ));
        }
        Ok(WantedMessage {
            topic: match object.get("topic") {
                None => None,
                Some(Value::Null) => Some(None),
                Some(Value::String(topic)) => Some(Some(topic.clone())),
                Some(other) => return Err(format!("topic: {other}; valid: a text")),
            },
            key: read_given(object, "key")?,
            value: read_given(object, "value")?,
            headers: object.get("headers").map(read_headers).transpose()?,
            timestamp: object.get("timestamp").map(read_timestamp).transpose()?,
        })
    }

    fn shown(&self) -> String {
        let of = |bytes: &Option<Bytes>| match bytes {
            None => "none".to_owned(),
            Some(bytes) => bytes_shown(Some(&bytes.clone().into_vec())),
        };
        let value = self.value.as_ref().map(of);
        let key = self.key.as_ref().map(|key| format!("key {}", of(key)));
        let topic = self.topic.as_ref().map(|topic| match topic {
            Some(topic) => format!("topic {topic}"),
            None => "no other topic".into(),
        });
        let headers = self.headers.as_ref().map(|headers| {
            let named = |(name, value): &(String, Option<Bytes>)| format!("{name:?} {}", of(value));
            format!(
                "headers [{}]",
                headers.iter().map(named).collect::<Vec<_>>().join(", ")
            )
        });
        let timestamp = self.timestamp.map(|timestamp| match timestamp {
            Some(timestamp) => format!("timestamp {timestamp}"),
            None => "no timestamp".into(),
        });
        let parts: Vec<String> = [value, topic, key, headers, timestamp]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() {
            "any message".into()
        } else {
            parts.join(", ")
        }
    }

    fn differences(&self, got: &Given) -> Vec<String> {
        let Given { topic, message } = got;
        let mut differences = Vec::new();
        if let Some(wanted) = &self.topic
            && wanted != topic
        {
            let shown = |topic: &Option<String>| topic.clone().unwrap_or_else(|| "none".into());
            differences.push(format!("topic: expected {}, got {}", shown(wanted), shown(topic)));
        }
        if let Some(wanted) = &self.key {
            differences.extend(bytes_differ("key", wanted.as_ref(), message.key.as_deref()));
        }
        if let Some(wanted) = &self.value {
            differences.extend(bytes_differ("value", wanted.as_ref(), message.value.as_deref()));
        }
        if let Some(wanted) = &self.headers {
            differences.extend(headers_differ(wanted, &message.headers));
        }
        if let Some(wanted) = self.timestamp
            && wanted != message.timestamp
        {
            let shown = |time: Option<i64>| time.map_or("none".into(), |time| time.to_string());
            let got = shown(message.timestamp);
            differences.push(format!("timestamp: expected {}, got {got}", shown(wanted)));
        }
        differences
    }
}

fn read_given(object: &Map<String, Value>, name: &str) -> Result<Option<Option<Bytes>>, String> {
    let read = object.get(name).map(Bytes::read).transpose();
    read.map_err(|why| format!("{name}: {why}"))
}

fn headers_differ(wanted: &[(String, Option<Bytes>)], got: &[(String, Option<Vec<u8>>)]) -> Vec<String> {
    let names = |names: Vec<&str>| format!("[{}]", names.join(", "));
    let wanted_names: Vec<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
    let got_names: Vec<&str> = got.iter().map(|(name, _)| name.as_str()).collect();
    if wanted_names != got_names {
        return vec![format!(
            "headers: expected {}, got {}",
            names(wanted_names),
            names(got_names)
        )];
    }
    wanted
        .iter()
        .zip(got)
        .filter_map(|((name, wanted), (_, got))| {
            bytes_differ(&format!("header {name:?}"), wanted.as_ref(), got.as_deref())
        })
        .collect()
}

fn bytes_differ(what: &str, wanted: Option<&Bytes>, got: Option<&[u8]>) -> Option<String> {
    match (wanted, got) {
        (None, None) => None,
        (Some(Bytes::Raw(wanted)), Some(got)) if wanted == got => None,
        (Some(Bytes::Json(wanted)), Some(bytes)) => match serde_json::from_slice::<Value>(bytes) {
            Err(fault) => Some(format!(
                "{what}: expected JSON, got {}: {fault}",
                bytes_shown(Some(bytes))
            )),
            Ok(got) => json_differ(wanted, &got, &mut String::new()).map(|where_| format!("{what}{where_}")),
        },
        (wanted, got) => {
            let wanted = wanted.map(|wanted| wanted.clone().into_vec());
            let place = wanted.as_deref().zip(got).map_or(String::new(), |(wanted, got)| {
                let same = wanted
                    .iter()
                    .zip(got)
                    .take_while(|(one, other)| one == other)
                    .count();
                format!(" (they differ from byte {} on)", same + 1)
            });
            let (wanted, got) = (bytes_shown(wanted.as_deref()), bytes_shown(got));
            Some(format!("{what}: expected {wanted}, got {got}{place}"))
        }
    }
}

/// The first place where two JSON values say different things.
fn json_differ(wanted: &Value, got: &Value, path: &mut String) -> Option<String> {
    if wanted == got {
        return None;
    }
    let before = path.len();
    let mut below = |name: &str, wanted: &Value, got: &Value| {
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let difference = json_differ(wanted, got, path);
        path.truncate(before);
        difference
    };
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) if wanted.keys().all(|name| got.contains_key(name)) => {
            match got.keys().find(|name| !wanted.contains_key(*name)) {
                Some(extra) => Some(format!("{path}/{extra}: expected none, got {}", got[extra])),
                None => wanted
                    .iter()
                    .find_map(|(name, wanted)| below(name, wanted, got.get(name)?)),
            }
        }
        (Value::Object(wanted), Value::Object(got)) => {
            let missing = wanted.iter().find(|(name, _)| !got.contains_key(*name));
            missing.map(|(name, value)| format!("{path}/{name}: expected {value}, got none"))
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => (0..)
            .zip(wanted.iter().zip(got))
            .find_map(|(at, (wanted, got)): (usize, _)| below(&at.to_string(), wanted, got)),
        _ => Some(format!("{path}: expected {wanted}, got {got}")),
    }
}
