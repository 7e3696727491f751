//! What becomes of messages.

use crate::bindings::columns::exports::culvert::plugin::transform_columns::Results;
use crate::bindings::shared::culvert::plugin::types::RetryLater;
use crate::{Failure, NewMessage, Rejection};
use std::fmt;
use std::time::Duration;

/// In `verdicts`.
pub(crate) const KEEP: u8 = 0;
/// In `verdicts`: one entry of `values` follows.
pub(crate) const VALUE: u8 = 1;
/// In `verdicts`.
pub(crate) const DROP: u8 = 2;
/// In `verdicts`: one entry of `rejections` follows.
pub(crate) const REJECT: u8 = 3;
/// In `verdicts`: one entry of `rewritten` follows.
pub(crate) const REWRITE: u8 = 4;

/// The most messages that one message may become.
pub(crate) const EXPANDED_MAX: usize = 1_000;

/// What becomes of one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes on unchanged. No bytes cross back.
    Keep,
    /// It goes on with this value; its key, headers, timestamp and topic stay.
    Value(Vec<u8>),
    /// This goes on in its place. [`Message::to_new`](crate::Message::to_new) is where to begin.
    Replace(NewMessage),
    /// These go on in its place, in this order, all in one commit: at most 1,000, or the message is rejected with
    /// `expanded-too-far`. None at all is the same as `Drop`.
    Expand(Vec<NewMessage>),
    /// Nothing goes on, on purpose: counted, not dead-lettered.
    Drop,
    /// It becomes a dead letter. The others of the batch go on.
    Reject(Rejection),
}

impl Outcome {
    /// A dead letter, without a field.
    pub fn reject(code: impl Into<String>, reason: impl Into<String>) -> Outcome {
        Outcome::Reject(Rejection::new(code, reason))
    }

    /// The message with a value written as JSON.
    ///
    /// # Errors
    /// `not-writable` where `value` cannot be JSON, such as a map whose keys are no texts.
    #[cfg(feature = "json")]
    pub fn json(value: &impl serde::Serialize) -> Result<Outcome, Rejection> {
        serde_json::to_vec(value)
            .map(Outcome::Value)
            .or_reject("not-writable", "the value cannot be written as JSON")
    }
}

/// What a transform answers for one message. `?` takes a [`Rejection`], whatever can become one, and a [`Failure`].
pub type Answer = Result<Outcome, Fault>;

/// Why there is no outcome.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Of this message: it becomes a dead letter.
    Reject(Rejection),
    /// Of the whole call: nothing of it counts.
    Failure(Failure),
}

impl<E: Into<Rejection>> From<E> for Fault {
    fn from(rejection: E) -> Fault {
        Fault::Reject(rejection.into())
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault::Failure(failure)
    }
}

impl Rejection {
    /// `code`: stable and of few values, lower-case words joined by `-`, at most 64 bytes. `reason`: for a person, about
    /// this message; it is stored and shown, so it holds no secrets.
    pub fn new(code: impl Into<String>, reason: impl Into<String>) -> Rejection {
        Rejection {
            code: code.into(),
            reason: reason.into(),
            field: None,
        }
    }

    /// JSON pointer to the field at fault, such as `/items/0/quantity`.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Rejection {
        Rejection {
            field: Some(field.into()),
            ..self
        }
    }
}

impl Failure {
    /// Needs a person: the task fails with this text, and everything stays where it is.
    pub fn fatal(text: impl Into<String>) -> Failure {
        Failure::Fatal(text.into())
    }

    /// Heals by waiting: the gateway makes the same call again, after a pause that grows from 50 ms to 5 s.
    pub fn retry(reason: impl Into<String>) -> Failure {
        Failure::Retry(RetryLater {
            reason: reason.into(),
            after_ms: None,
        })
    }

    /// With a least pause before the next attempt. A fatal failure stays as it is.
    #[must_use]
    pub fn after(self, pause: Duration) -> Failure {
        match self {
            Failure::Retry(later) => Failure::Retry(RetryLater {
                after_ms: Some(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX)),
                ..later
            }),
            Failure::Fatal(_) => self,
        }
    }

    /// What it says; whether it heals by waiting is the variant's to say.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Failure::Retry(later) => &later.reason,
            Failure::Fatal(text) => text,
        }
    }
}

/// Turns what is missing or wrong into a rejection: `parse(value).or_reject("not-a-date", "cannot be read")?`.
pub trait OrReject<T> {
    /// # Errors
    /// A rejection with this code and reason, and behind the reason what the error says of itself.
    fn or_reject(self, code: &str, reason: &str) -> Result<T, Rejection>;
}

impl<T> OrReject<T> for Option<T> {
    fn or_reject(self, code: &str, reason: &str) -> Result<T, Rejection> {
        self.ok_or_else(|| Rejection::new(code, reason))
    }
}

impl<T, E: fmt::Display> OrReject<T> for Result<T, E> {
    fn or_reject(self, code: &str, reason: &str) -> Result<T, Rejection> {
        self.map_err(|error| Rejection::new(code, format!("{reason}: {error}")))
    }
}

/// The outcomes of a batch, one for each message, in order. They are written straight into what crosses back: a kept
/// message costs one byte, and a new value no allocation of its own.
pub struct Outcomes(Results);

impl Outcomes {
    pub(crate) fn with_room(messages: usize) -> Outcomes {
        Outcomes(Results {
            verdicts: Vec::with_capacity(messages),
            value_ends: Vec::new(),
            values: Vec::new(),
            rejections: Vec::new(),
            rewritten: Vec::new(),
        })
    }

    pub(crate) fn into_results(self) -> Results {
        self.0
    }

    /// How many there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.verdicts.len()
    }

    /// Whether there are none so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.verdicts.is_empty()
    }

    /// The next message goes on unchanged.
    pub fn keep(&mut self) {
        self.0.verdicts.push(KEEP);
    }

    /// The next message goes on with this value.
    pub fn value(&mut self, value: &[u8]) {
        self.0.values.extend_from_slice(value);
        self.end_value();
    }

    /// The next message goes on with the value that `write` appends to the buffer. What was there before must stay.
    ///
    /// # Errors
    /// What `write` gave; the message has no outcome then, and what was appended is gone.
    ///
    /// # Panics
    /// When `write` made the buffer shorter than it was.
    pub fn value_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let before = self.0.values.len();
        let written = write(&mut self.0.values);
        assert!(
            self.0.values.len() >= before,
            "a value is appended: values of other messages come before it"
        );
        match written {
            Ok(()) => self.end_value(),
            Err(_) => self.0.values.truncate(before),
        }
        written
    }

    /// This goes on in the next message's place.
    pub fn replace(&mut self, message: NewMessage) {
        self.expand([message]);
    }

    /// These go on in the next message's place: see [`Outcome::Expand`].
    pub fn expand(&mut self, messages: impl IntoIterator<Item = NewMessage>) {
        let messages: Vec<_> = messages.into_iter().map(|message| message.0).collect();
        match messages.len() {
            0 => self.drop(),
            1..=EXPANDED_MAX => {
                self.0.verdicts.push(REWRITE);
                self.0.rewritten.push(messages);
            }
            count => self.reject(Rejection::new(
                "expanded-too-far",
                format!("it would become {count} messages; {EXPANDED_MAX} is the most"),
            )),
        }
    }

    /// Nothing goes on in the next message's place, on purpose.
    #[allow(clippy::should_implement_trait, reason = "the contract's word")]
    pub fn drop(&mut self) {
        self.0.verdicts.push(DROP);
    }

    /// The next message becomes a dead letter.
    pub fn reject(&mut self, rejection: Rejection) {
        self.0.verdicts.push(REJECT);
        self.0.rejections.push(rejection);
    }

    /// The next message's outcome.
    pub fn push(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Keep => self.keep(),
            Outcome::Value(value) => self.value(&value),
            Outcome::Replace(message) => self.replace(message),
            Outcome::Expand(messages) => self.expand(messages),
            Outcome::Drop => self.drop(),
            Outcome::Reject(rejection) => self.reject(rejection),
        }
    }

    /// The next message's answer.
    ///
    /// # Errors
    /// The failure of the whole call, if that is the answer.
    pub fn answer(&mut self, answer: Answer) -> Result<(), Failure> {
        match answer {
            Ok(outcome) => self.push(outcome),
            Err(Fault::Reject(rejection)) => self.reject(rejection),
            Err(Fault::Failure(failure)) => return Err(failure),
        }
        Ok(())
    }

    fn end_value(&mut self) {
        let end = u32::try_from(self.0.values.len()).expect("a plugin's memory has 32-bit addresses");
        self.0.value_ends.push(end);
        self.0.verdicts.push(VALUE);
    }
}
