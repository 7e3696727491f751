//! A sample of messages, and what a plugin makes of them.

use super::message::{Fate, MEMBERS, Message, placed};
use super::settings::Setting;
use super::subject::{Answer, Refusal, Subject, Time};
use culvert_host::{LogSink, Usage};
use serde_json::Value;
use std::sync::Arc;

/// As much as a batch of the flow holds.
const MESSAGES_MAX: usize = 500;
const BYTES_MAX: usize = 256 * 1024;

/// Messages that were given, one a line.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// In their order.
    pub messages: Vec<Message>,
}

impl Sample {
    /// Each line is a message as cases write it, or else a value. Empty lines are passed over.
    #[must_use]
    pub fn read(text: &[u8]) -> Sample {
        let lines = text.split(|byte| *byte == b'\n');
        let bare = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        Sample {
            messages: bare.filter(|line| !line.is_empty()).map(message).collect(),
        }
    }

    /// Batches as the flow would make them.
    fn batches(&self) -> Vec<&[Message]> {
        let (mut batches, mut rest) = (Vec::new(), self.messages.as_slice());
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |message: &&Message| {
                bytes += message.size();
                bytes <= BYTES_MAX
            };
            let count = rest.iter().take(MESSAGES_MAX).take_while(fits).count().max(1);
            let (batch, behind) = rest.split_at(count);
            batches.push(batch);
            rest = behind;
        }
        batches
    }
}

fn message(line: &[u8]) -> Message {
    let beside = ["outcome"];
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(object)) if object.keys().any(|key| MEMBERS.contains(&key.as_str())) => {
            Message::read(&object, &beside).unwrap_or_else(|_| Message::of_value(line))
        }
        _ => Message::of_value(line),
    }
}

/// A message and what became of it.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its number in the sample, from 1.
    pub number: usize,
    /// The message.
    pub message: Message,
    /// What became of it.
    pub fate: Fate,
}

/// Shows a sample in batches as the flow makes them, and hands on each answer as it comes.
///
/// # Errors
/// The plugin does not open with these settings, or a batch fails as a whole; or what `each` says.
pub fn run<E: From<String>>(
    subject: &Subject,
    settings: &[Setting],
    sample: &Sample,
    log: Arc<dyn LogSink>,
    mut each: impl FnMut(Answered) -> Result<(), E>,
) -> Result<Usage, E> {
    let mut opened = subject
        .open_with(settings, Time::Real, log)
        .map_err(|refusal| match refusal {
            Refusal::Fatal(why) => format!("the plugin does not open with these settings: {why}"),
            Refusal::Retry(why) => format!("the plugin does not open now: {why}"),
            Refusal::Broken(why) => why,
        })?;
    let mut number = 0;
    for batch in sample.batches() {
        let range = format!("messages {} to {}", number + 1, number + batch.len());
        match opened.show("sample", &placed(number as u64, batch.iter().cloned())) {
            Answer::Fates(fates) => {
                for (message, fate) in batch.iter().zip(fates) {
                    number += 1;
                    let message = message.clone();
                    each(Answered {
                        number,
                        message,
                        fate,
                    })?;
                }
            }
            Answer::Retry(why) => {
                return Err(format!("{range}: the batch is to be tried again: {why}").into());
            }
            Answer::Fatal(why) => return Err(format!("{range}: the batch ends the task: {why}").into()),
        }
    }
    Ok(opened.usage())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_or_a_value() {
        let check = |line: &str, key: Option<&str>, value: Option<&str>| {
            let sample = Sample::read(line.as_bytes());
            let [message] = sample.messages.as_slice() else {
                panic!("{line}: {sample:?}");
            };
            let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
            assert_eq!(
                (&message.key, &message.value),
                (&bytes(key), &bytes(value)),
                "{line}"
            );
        };
        check("plain", None, Some("plain"));
        check("{\"amount\":3}\r\n", None, Some("{\"amount\":3}"));
        check(r#"{"key":"7","value":"a"}"#, Some("7"), Some("a"));
        check(
            r#"{"value":{"json":{"a": 1}},"outcome":"keep"}"#,
            None,
            Some(r#"{"a":1}"#),
        );
        check(r#"{"key":"7","value":null}"#, Some("7"), None);
        check(
            r#"{"key":"7","amount":1}"#,
            None,
            Some(r#"{"key":"7","amount":1}"#),
        );
        check(r#"{"value":3}"#, None, Some(r#"{"value":3}"#));
        check("{}", None, Some("{}"));
        assert!(Sample::read(b"\n\n").messages.is_empty());
    }

    #[test]
    fn batches_are_no_larger_than_those_of_the_flow() {
        let check = |messages: Vec<Message>, expected: &[usize]| {
            let sample = Sample { messages };
            let sizes: Vec<usize> = sample.batches().into_iter().map(<[Message]>::len).collect();
            assert_eq!(sizes, expected);
        };
        check(vec![Message::of_value("x"); 1_001], &[500, 500, 1]);
        check(vec![Message::of_value(vec![0; 200 * 1024]); 3], &[1, 1, 1]);
        check(
            vec![Message::of_value(vec![0; 300 * 1024]), Message::of_value("x")],
            &[1, 1],
        );
        check(Vec::new(), &[]);
    }
}
