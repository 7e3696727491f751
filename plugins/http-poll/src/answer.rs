//! What an answer holds.

use crate::Settings;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One record.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
}

/// An answer that was read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) records: Vec<Record>,
    pub(crate) cursor: Option<String>,
}

/// # Errors
/// What the answer lacks.
pub(crate) fn read(body: &[u8], settings: &Settings) -> Result<Reading, String> {
    let whole: Value =
        serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
    let found = whole
        .pointer(&settings.records)
        .ok_or_else(|| format!("the answer has nothing at `{}`", settings.records))?;
    let items = match found {
        Value::Array(items) => items.as_slice(),
        Value::Null => &[],
        one => std::slice::from_ref(one),
    };
    let cursor = settings
        .cursor_pointer
        .as_deref()
        .and_then(|pointer| whole.pointer(pointer));
    Ok(Reading {
        records: items.iter().map(|item| record(item, settings)).collect(),
        cursor: cursor.and_then(plain),
    })
}

fn record(item: &Value, settings: &Settings) -> Record {
    let key = settings.key.as_deref().and_then(|pointer| item.pointer(pointer));
    Record {
        key: key.and_then(plain).map(String::into_bytes),
        value: item.to_string().into_bytes(),
    }
}

/// A text as it reads, and all else as JSON writes it.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// 64 bits of the SHA-256.
pub(crate) fn checksum(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 3986: all but what is unreserved.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
