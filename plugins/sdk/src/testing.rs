//! Tests of a plugin without a gateway: it runs natively, and what it answers is taken apart as strictly as a gateway
//! would.

use crate::bindings::columns::exports::culvert::plugin::transform_columns::{Columns, Results};
use crate::config::{self, Config};
use crate::message::{NO_KEY, NO_TIMESTAMP, NO_VALUE};
use crate::outcome::{DROP, EXPANDED_MAX, KEEP, REJECT, REWRITE, VALUE};
use crate::transform::{open, process};
use crate::{Failure, Needs, NewMessage, Outcome, Transform, Value};

pub(crate) mod fake;

pub use fake::Line;

/// A transform that is open, and messages that wait for it.
pub struct Harness<T: Transform> {
    plugin: T,
    topic: String,
    attributes: Vec<(String, String)>,
    /// The place of the next message in its stream.
    next: u64,
    waiting: Vec<NewMessage>,
}

impl<T: Transform> Harness<T> {
    /// Opens the plugin with some settings; the others have their defaults.
    ///
    /// # Errors
    /// What opening fails with: wrong settings are named as a gateway would name them.
    pub fn open<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Harness<T>, Failure> {
        let values = values::<T::Config>(settings)?;
        Ok(Harness {
            plugin: open(&values)?,
            topic: "topic".to_owned(),
            attributes: Vec::new(),
            next: 0,
            waiting: Vec::new(),
        })
    }

    /// Messages come by this topic from now on; `topic` unless said.
    pub fn topic(&mut self, topic: &str) -> &mut Self {
        topic.clone_into(&mut self.topic);
        self
    }

    /// Batches have this attribute from now on.
    pub fn attribute(&mut self, name: &str, value: &str) -> &mut Self {
        self.attributes.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more message for the next [`run`](Harness::run): a value alone, or a [`NewMessage`] with all it has.
    pub fn message(&mut self, message: impl Into<NewMessage>) -> &mut Self {
        self.waiting.push(message.into());
        self
    }

    /// Gives the plugin what waits, as one batch: an outcome for each message, in order.
    ///
    /// # Errors
    /// The failure of the call; the messages wait still, as they would at a gateway.
    ///
    /// # Panics
    /// When the answer is one that a gateway would not take.
    pub fn run(&mut self) -> Result<Vec<Outcome>, Failure> {
        let batch = columns(
            &self.topic,
            &self.attributes,
            self.next,
            &self.waiting,
            T::ABOUT.needs,
        );
        let results = process(&mut self.plugin, &batch)?;
        self.next = batch.to;
        self.waiting.clear();
        Ok(outcomes(results))
    }

    /// The outcome of one message alone.
    ///
    /// # Panics
    /// When the call fails, or its answer is one that a gateway would not take.
    pub fn one(&mut self, message: impl Into<NewMessage>) -> Outcome {
        match self.message(message).run().as_deref() {
            Ok([outcome]) => outcome.clone(),
            Ok(outcomes) => panic!("messages wait from before: {outcomes:?}"),
            Err(failure) => panic!("the call failed: {}", failure.text()),
        }
    }

    /// The plugin itself.
    pub fn plugin(&mut self) -> &mut T {
        &mut self.plugin
    }
}

/// Reads settings as the plugin would, the others by their defaults: for tests of the roles without a harness.
///
/// # Errors
/// Every mistake.
pub fn settings<'a, C: Config>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<C, Failure> {
    config::opened(&values::<C>(settings)?, |_| Vec::new())
}

/// What a gateway would send for some settings; one that the plugin does not know is a mistake of the test.
fn values<'a, C: Config>(
    settings: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<Value>, Failure> {
    let fields = C::fields();
    let known = |name: &str| {
        fields
            .iter()
            .any(|field| field.name == name || field.aliases.iter().any(|alias| alias == name))
    };
    settings
        .into_iter()
        .map(|(name, value)| {
            if !known(name) {
                let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                return Err(Failure::fatal(format!(
                    "there is no key `{name}`; one of {}",
                    names.join(", ")
                )));
            }
            Ok(Value {
                name: name.to_owned(),
                value: Some(value.to_owned()),
            })
        })
        .collect()
}

/// Log lines written since the last call, in this thread.
#[must_use]
pub fn lines() -> Vec<Line> {
    fake::take_lines()
}

/// Figures given since the last call, in this thread: (kind, name, value, labels) with the kinds `count`, `gauge`,
/// `observe`.
#[cfg(feature = "metrics")]
#[must_use]
pub fn metrics() -> Vec<fake::Metric> {
    fake::take_metrics()
}

/// Sets the clock, in milliseconds since 1970-01-01 UTC; it stands still. It begins at 0.
#[cfg(feature = "clock")]
pub fn set_clock(now_ms: i64) {
    fake::set_clock(now_ms);
}

/// Makes a secret known.
#[cfg(feature = "secrets")]
pub fn set_secret(name: &str, bytes: &[u8]) {
    fake::set_secret(name, bytes);
}

/// Answers requests from now on. Without it each is denied.
#[cfg(feature = "http")]
pub fn set_http(
    answer: impl FnMut(&crate::http::Request) -> Result<crate::http::Response, crate::http::Error> + 'static,
) {
    fake::set_http(answer);
}

/// Puts a file on the disk in memory that stands for the granted folders; another one, where there was one.
#[cfg(feature = "files")]
pub fn set_file(path: &str, bytes: &[u8]) {
    fake::files::set(path, bytes);
}

/// What a file holds.
#[cfg(feature = "files")]
#[must_use]
pub fn file(path: &str) -> Option<Vec<u8>> {
    fake::files::get(path)
}

/// Gives a file another name, as a rotation does.
///
/// # Panics
/// When there is no such file.
#[cfg(feature = "files")]
pub fn rename_file(from: &str, to: &str) {
    fake::files::rename(from, to);
}

/// What somebody else does to the disk: called before every call that the plugin makes to it.
#[cfg(feature = "files")]
pub fn set_meanwhile(act: impl FnMut() + 'static) {
    fake::files::set_meanwhile(act);
}

/// Messages as a gateway would send them: parts that are not needed do not come.
fn columns(
    topic: &str,
    attributes: &[(String, String)],
    from: u64,
    messages: &[NewMessage],
    needs: Needs,
) -> Columns {
    let mut columns = Columns {
        stream: "site/topic/0".to_owned(),
        topic: topic.to_owned(),
        partition: 0,
        from,
        to: from + messages.len() as u64,
        sequences: Vec::new(),
        attributes: attributes.to_vec(),
        count: length(messages.len()),
        absent: Vec::new(),
        timestamps: Vec::new(),
        key_ends: Vec::new(),
        keys: Vec::new(),
        value_ends: Vec::new(),
        values: Vec::new(),
        header_ends: Vec::new(),
        headers: Vec::new(),
    };
    for NewMessage(routed) in messages {
        let message = &routed.message;
        let mark = |missing: bool, bit: u8| if missing { bit } else { 0 };
        columns.absent.push(
            mark(message.key.is_none(), NO_KEY)
                | mark(message.value.is_none(), NO_VALUE)
                | mark(message.timestamp.is_none(), NO_TIMESTAMP),
        );
        if needs.contains(Needs::KEY) {
            columns
                .keys
                .extend_from_slice(message.key.as_deref().unwrap_or_default());
            columns.key_ends.push(length(columns.keys.len()));
        }
        if needs.contains(Needs::VALUE) {
            columns
                .values
                .extend_from_slice(message.value.as_deref().unwrap_or_default());
            columns.value_ends.push(length(columns.values.len()));
        }
        if needs.contains(Needs::TIMESTAMP) {
            columns.timestamps.push(message.timestamp.unwrap_or(-1));
        }
        if needs.contains(Needs::HEADERS) {
            put_varint(&mut columns.headers, message.headers.len() as i64);
            for header in &message.headers {
                put_varint(&mut columns.headers, header.name.len() as i64);
                columns.headers.extend_from_slice(header.name.as_bytes());
                put_varint(
                    &mut columns.headers,
                    header.value.as_ref().map_or(-1, |value| value.len() as i64),
                );
                columns
                    .headers
                    .extend_from_slice(header.value.as_deref().unwrap_or_default());
            }
            columns.header_ends.push(length(columns.headers.len()));
        }
    }
    if columns.absent.iter().all(|absent| *absent == 0) {
        columns.absent.clear();
    }
    columns
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a test's batch is small")
}

fn put_varint(bytes: &mut Vec<u8>, number: i64) {
    let mut zigzag = (number << 1 ^ number >> 63) as u64;
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
}

/// Takes an answer apart, and panics where a gateway would refuse it.
fn outcomes(results: Results) -> Vec<Outcome> {
    let mut start = 0;
    let mut ends = results.value_ends.into_iter();
    let mut rejections = results.rejections.into_iter();
    let mut rewritten = results.rewritten.into_iter();
    let outcome = |verdict: u8| match verdict {
        KEEP => Outcome::Keep,
        VALUE => {
            let end = ends.next().expect("a value for each verdict 1") as usize;
            let value = results.values[start..end].to_vec();
            start = end;
            Outcome::Value(value)
        }
        DROP => Outcome::Drop,
        REJECT => {
            let rejection = rejections.next().expect("a rejection for each verdict 3");
            assert!(
                is_proper_code(&rejection.code),
                "the code `{}` must be lower-case words joined by `-`, at most 64 bytes",
                rejection.code
            );
            Outcome::Reject(rejection)
        }
        REWRITE => {
            let messages = rewritten.next().expect("messages for each verdict 4");
            assert!(
                (1..=EXPANDED_MAX).contains(&messages.len()),
                "1 to {EXPANDED_MAX} messages for a verdict 4"
            );
            let mut messages: Vec<NewMessage> = messages.into_iter().map(NewMessage).collect();
            match messages.len() {
                1 => Outcome::Replace(messages.remove(0)),
                _ => Outcome::Expand(messages),
            }
        }
        unknown => panic!("there is no verdict {unknown}"),
    };
    let outcomes = results.verdicts.into_iter().map(outcome).collect();
    assert_eq!(
        start,
        results.values.len(),
        "each byte of the values belongs to a verdict 1"
    );
    assert!(
        ends.next().is_none() && rejections.next().is_none() && rewritten.next().is_none(),
        "too many entries"
    );
    outcomes
}

/// Whether labels and searches can hold it.
fn is_proper_code(code: &str) -> bool {
    let is_proper = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_proper);
    code.len() <= 64 && code.split('-').all(is_word)
}

#[cfg(test)]
mod tests;
