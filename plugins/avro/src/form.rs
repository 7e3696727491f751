//! What JSON looks like where Avro has types that JSON has not.

use crate::trouble::{Outcome, Trouble, code};
use culvert_plugin::Choice;

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

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends base64 with padding.
pub(crate) fn write_base64(bytes: &[u8], text: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let [one, two, three] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let group = one << 16 | two << 8 | three;
        let letter = |shift: u32| ALPHABET[(group >> shift & 63) as usize];
        let letters = [letter(18), letter(12), letter(6), letter(0)];
        let count = chunk.len() + 1;
        text.extend_from_slice(&letters[..count]);
        text.extend_from_slice(&b"=="[..4 - count]);
    }
}

const fn values() -> [u8; 256] {
    let mut values = [0xff; 256];
    let mut at = 0;
    while at < 64 {
        values[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    values
}

static VALUES: [u8; 256] = values();

/// Base64, with or without padding. Bits that belong to no byte must be 0: one text for each bytes.
fn read_base64(text: &str) -> Option<Vec<u8>> {
    let letters = text.trim_end_matches('=');
    let padding = text.len() - letters.len();
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3 + 2);
    for chunk in letters.as_bytes().chunks(4) {
        let mut group = 0u32;
        for at in 0..4 {
            let value = chunk.get(at).map_or(0, |letter| VALUES[usize::from(*letter)]);
            if value == 0xff {
                return None;
            }
            group = group << 6 | u32::from(value);
        }
        let [_, one, two, three] = group.to_be_bytes();
        match chunk.len() {
            4 => bytes.extend([one, two, three]),
            3 if three == 0 => bytes.extend([one, two]),
            2 if two == 0 && three == 0 => bytes.push(one),
            _ => return None,
        }
    }
    Some(bytes)
}

fn read_latin1(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).ok())
        .collect()
}

impl BytesFormat {
    pub(crate) fn read(self, text: &str) -> Outcome<Vec<u8>> {
        match self {
            BytesFormat::Base64 => read_base64(text).ok_or_else(|| wrong("the text is no base64")),
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
