//! A failing batch in a file: all that is needed to see the same failure on another machine.
//!
//! ```text
//! culvert-failure 1 <sha256 of what follows, hex>\n
//! {JSON}
//! ```
//!
//! Bytes of records and answers are base64 in it. It holds no secrets: passwords among the settings are left out, secrets
//! are there by name, and a batch in which the text of one is found is not recorded at all. It does hold users' records.

mod folder;

pub(super) use folder::Recorder;
pub use folder::{Failures, KEPT_MAX};

use super::testing::base64;
use culvert_host::{Act, Answer, CONTRACT, Digest, Fault, Limits};
use culvert_proto::Sequence;
use culvert_proto::columns::Columns;
use culvert_proto::record::{HeadersBuf, RecordRef};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The form that is written and read.
const FORMAT: &str = "1";

const MAGIC: &str = "culvert-failure";

/// The largest file.
pub const FILE_BYTES_MAX: usize = 8 << 20;

/// What stands for a password.
const LEFT_OUT: &str = "[hidden]";

/// Bounds of limits in a file that came from elsewhere: what settings may say.
const MEMORY_MAX: usize = 1 << 30;
const TIME_MAX: Duration = Duration::from_secs(60);

/// A failing batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// The version of the contract.
    contract: String,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub recorded_ms: i64,
    /// The connector.
    pub connector: String,
    /// Its stage.
    pub stage: String,
    /// The plugin's name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, hex.
    pub digest: String,
    /// What was seen.
    pub fault: Seen,
    /// How many batches the same instance had treated before.
    pub batches_before: u64,
    settings: Vec<Setting>,
    limits: Bounds,
    stream: Named,
    batch: Batch,
    acts: Vec<Step>,
}

/// How it failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `trap`, `timeout`, `memory`, `answer` or `fatal`.
    pub kind: String,
    /// In words.
    pub text: String,
}

impl From<&Fault> for Seen {
    fn from(fault: &Fault) -> Seen {
        Seen {
            kind: fault.kind.clone(),
            text: fault.text.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Setting {
    name: String,
    value: Option<String>,
    /// A password, which is not here.
    #[serde(default)]
    left_out: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bounds {
    memory_bytes: usize,
    call_nanos: u64,
    open_nanos: u64,
    answer_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Named {
    id: String,
    topic: String,
    partition: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Batch {
    from: u64,
    to: u64,
    records: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    sequence: u64,
    timestamp: i64,
    topic: Option<String>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Step {
    call: String,
    asked: Bytes,
    /// What was answered, or else the words in which the instance was ended.
    answer: Result<Bytes, String>,
}

/// Base64 in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Bytes(Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> String {
        base64::encoded(&bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Bytes, &'static str> {
        base64::decoded(&text).map(Bytes).ok_or("not base64")
    }
}

/// Why a file is not one that can be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Another kind of file, or not as it was written.
    #[error("[CULVERT-W061] {0}")]
    Damaged(String),
    /// Of another version of this program.
    #[error("[CULVERT-W062] {what} {found} is not known here, but {known}")]
    Version {
        /// Of what.
        what: &'static str,
        /// In the file.
        found: String,
        /// Ours.
        known: &'static str,
    },
}

fn damaged(why: impl Into<String>) -> FileError {
    FileError::Damaged(why.into())
}

impl Recorded {
    /// The file.
    pub(super) fn write(&self) -> Vec<u8> {
        summed(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is none, is damaged, or of a version that is not known.
    pub fn read(file: &[u8]) -> Result<Recorded, FileError> {
        if file.len() > FILE_BYTES_MAX {
            return Err(damaged("it is larger than 8 MiB"));
        }
        let line = file.iter().take(200).position(|byte| *byte == b'\n');
        let (head, body) = file.split_at(line.map_or(0, |line| line + 1));
        let head = std::str::from_utf8(head).unwrap_or_default();
        let mut words = head.split_whitespace();
        if words.next() != Some(MAGIC) {
            return Err(damaged("it is no recorded failure of a plugin"));
        }
        let format = words.next().unwrap_or_default();
        if format != FORMAT {
            return Err(FileError::Version {
                what: "format",
                found: format.to_owned(),
                known: FORMAT,
            });
        }
        if words.next() != Some(Digest::of(body).to_string().as_str()) {
            return Err(damaged("its checksum does not fit: it was cut or changed"));
        }
        let recorded: Recorded =
            serde_json::from_slice(body).map_err(|error| damaged(format!("it cannot be read: {error}")))?;
        if recorded.contract != CONTRACT {
            return Err(FileError::Version {
                what: "the contract culvert:plugin",
                found: recorded.contract,
                known: CONTRACT,
            });
        }
        recorded.checked()
    }

    /// Who wrote the checksum may have written anything.
    fn checked(self) -> Result<Recorded, FileError> {
        let limits = self.limits();
        let is_small = limits.memory_bytes_max <= MEMORY_MAX
            && limits.call_time_max <= TIME_MAX
            && limits.open_time_max <= TIME_MAX
            && limits.answer_bytes_max <= MEMORY_MAX;
        if !is_small {
            return Err(damaged("its limits are above those that settings may give"));
        }
        self.columns()?;
        Ok(self)
    }

    /// The names of settings that are not in it.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        let left_out = self.settings.iter().filter(|setting| setting.left_out);
        left_out.map(|setting| setting.name.as_str())
    }

    /// How many records the batch has.
    #[must_use]
    pub fn records(&self) -> usize {
        self.batch.records.len()
    }

    pub(super) fn settings(&self) -> Vec<(String, Option<String>)> {
        let setting = |setting: &Setting| {
            let value = if setting.left_out {
                Some(LEFT_OUT.to_owned())
            } else {
                setting.value.clone()
            };
            (setting.name.clone(), value)
        };
        self.settings.iter().map(setting).collect()
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            memory_bytes_max: self.limits.memory_bytes,
            call_time_max: Duration::from_nanos(self.limits.call_nanos),
            open_time_max: Duration::from_nanos(self.limits.open_nanos),
            answer_bytes_max: self.limits.answer_bytes,
        }
    }

    pub(super) fn stream(&self) -> culvert_host::Stream<'_> {
        culvert_host::Stream {
            id: &self.stream.id,
            topic: &self.stream.topic,
            partition: self.stream.partition,
        }
    }

    pub(super) fn columns(&self) -> Result<Columns, FileError> {
        let unfit = |error: culvert_proto::wire::Malformed| damaged(format!("its batch: {error}"));
        let mut columns = Columns::begin(Sequence(self.batch.from));
        for record in &self.batch.records {
            let mut headers = HeadersBuf::new();
            for (name, value) in &record.headers {
                headers.push(name, value.as_ref().map(|bytes| bytes.0.as_slice()));
            }
            let bytes = |part: &'_ Option<Bytes>| part.as_ref().map(|bytes| bytes.0.clone());
            let (key, value) = (bytes(&record.key), bytes(&record.value));
            let made = RecordRef {
                timestamp: record.timestamp,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: headers.as_headers(),
            };
            if record.sequence == u64::MAX {
                return Err(damaged("its batch: a sequence has no next one"));
            }
            columns
                .push_to(record.topic.as_deref(), Sequence(record.sequence), &made)
                .map_err(unfit)?;
        }
        columns.cover(Sequence(self.batch.to));
        Ok(columns)
    }

    pub(super) fn acts(&self) -> Result<Vec<Act>, FileError> {
        let act = |step: &Step| {
            let asked = step.asked.0.as_slice().try_into();
            Ok(Act {
                call: step.call.clone(),
                asked: asked.map_err(|_| damaged("an act has no digest of what was asked"))?,
                answer: match &step.answer {
                    Ok(bytes) => Answer::Given(bytes.0.clone()),
                    Err(text) => Answer::Ended(text.clone()),
                },
            })
        };
        self.acts.iter().map(act).collect()
    }
}

/// A file with this body.
fn summed(body: &[u8]) -> Vec<u8> {
    let mut file = format!("{MAGIC} {FORMAT} {}\n", Digest::of(body)).into_bytes();
    file.extend_from_slice(body);
    file
}

/// Reads `bytes` as a file; then as the body of one, its checksum put right, since no fuzzer guesses it.
///
/// # Panics
/// When what was read is not the same after it was written.
pub fn read_failure(bytes: &[u8]) {
    for file in [bytes, &summed(bytes)] {
        let Ok(recorded) = Recorded::read(file) else {
            continue;
        };
        let again = Recorded::read(&recorded.write());
        assert_eq!(again.as_ref(), Ok(&recorded), "what was read can be written");
        let _ = (recorded.acts(), recorded.settings(), recorded.left_out().count());
    }
}

impl Bounds {
    fn of(limits: &Limits) -> Bounds {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Bounds {
            memory_bytes: limits.memory_bytes_max,
            call_nanos: nanos(limits.call_time_max),
            open_nanos: nanos(limits.open_time_max),
            answer_bytes: limits.answer_bytes_max,
        }
    }
}

impl Batch {
    fn of(columns: &Columns) -> Batch {
        let bytes = |bytes: Option<&[u8]>| bytes.map(|bytes| Bytes(bytes.to_vec()));
        let record = |(index, (sequence, record)): (usize, (Sequence, RecordRef<'_>))| Record {
            sequence: sequence.0,
            timestamp: record.timestamp,
            topic: columns.topic(index).map(str::to_owned),
            key: bytes(record.key),
            value: bytes(record.value),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), bytes(value)))
                .collect(),
        };
        Batch {
            from: columns.interval().from.0,
            to: columns.interval().to.0,
            records: columns.iter().enumerate().map(record).collect(),
        }
    }
}

impl Step {
    fn of(act: &Act) -> Step {
        Step {
            call: act.call.clone(),
            asked: Bytes(act.asked.to_vec()),
            answer: match &act.answer {
                Answer::Given(bytes) => Ok(Bytes(bytes.clone())),
                Answer::Ended(text) => Err(text.clone()),
            },
        }
    }
}

#[cfg(test)]
mod tests;
