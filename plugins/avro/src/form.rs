//! What JSON looks like where Avro has types that JSON has not.

use culvert_plugin::Choice;
use plain::base64;
use plain::trouble::{Outcome, Trouble, code};

/// How values are written as JSON and read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) decimal: DecimalFormat,
    pub(crate) bytes: BytesFormat,
    pub(crate) time: TimeFormat,
    pub(crate) unknown: UnknownFields,
}

/// How a decimal is written as JSON. Both are read.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalFormat {
    /// A text with all its digits: `"12.30"`.
    String,
    /// A number with all its digits: `12.30`. Many readers of JSON keep only 15 of them.
    Number,
}

/// How bytes and fixed stand in JSON.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesFormat {
    /// Base64 with padding (RFC 4648), as Kafka Connect's JsonConverter has it.
    Base64,
    /// The characters of the bytes' numbers (ISO-8859-1), as Avro's own JSON encoding and kafka-avro-console-consumer
    /// have it.
    Latin1,
}

/// How dates, times and timestamps are written as JSON. Both are read.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// The number that Avro holds, in the unit of the schema, as Kafka's tools show it.
    Number,
    /// ISO 8601: `"2026-01-31"`, `"12:30:00.250"`, `"2026-01-31T12:30:00.250Z"`.
    Iso,
}

/// What happens to JSON with a field that the schema does not have.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// It is refused, with `unknown-field`.
    Reject,
    /// The field is left out.
    Ignore,
}

fn read_latin1(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect()
}

impl BytesFormat {
    pub(crate) fn read(self, text: &str) -> Outcome<Vec<u8>> {
        match self {
            BytesFormat::Base64 => base64::read(text).ok_or_else(|| wrong("the text is no base64")),
            BytesFormat::Latin1 => {
                read_latin1(text).ok_or_else(|| wrong("the text has characters above U+00FF"))
            }
        }
    }
}

fn wrong(reason: &str) -> Trouble {
    Trouble::new(code::WRONG_TYPE, reason)
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// As RFC 9562 writes it.
pub(crate) fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

/// 32 hexadecimal digits, in groups of 8, 4, 4, 4 and 12.
pub(crate) fn uuid_of(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    if groups.iter().map(|group| group.len()).ne([8, 4, 4, 4, 12]) {
        return None;
    }
    let digits = groups.concat();
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
}
