//! A record as a line.

use culvert_plugin::Rejection;
use culvert_plugin::sink::{Batch, Message};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The value as it is.
pub(crate) fn value(message: &Message, lines: &mut Vec<u8>) -> Result<(), Rejection> {
    let value = message
        .value
        .as_deref()
        .ok_or_else(|| Rejection::new("no-value", "a tombstone has no line; `format` = `json` writes it"))?;
    if value.contains(&b'\n') {
        return Err(Rejection::new(
            "line-break",
            "the value has a line break; `format` = `json` writes it",
        ));
    }
    lines.extend_from_slice(value);
    lines.push(b'\n');
    Ok(())
}

/// All of the record. JSON stays JSON, byte for byte but for its line breaks; other text is text, and all else base64.
pub(crate) fn json(
    batch: &Batch,
    sequence: u64,
    message: &Message,
    lines: &mut Vec<u8>,
) -> Result<(), Rejection> {
    let headers: Vec<Value> = message
        .headers
        .iter()
        .map(|header| json!([header.name, header.value.as_deref().map(text)]))
        .collect();
    let head = json!({
        "topic": batch.topic,
        "partition": batch.partition,
        "sequence": sequence,
        "timestamp": message.timestamp,
        "headers": headers,
        "key": message.key.as_deref().map(text),
    });
    let mut line = head.to_string();
    line.pop();
    line.push_str(",\"value\":");
    line.push_str(&content(message.value.as_deref()));
    line.push_str("}\n");
    lines.extend_from_slice(line.as_bytes());
    Ok(())
}

fn content(value: Option<&[u8]>) -> String {
    let Some(value) = value else {
        return "null".to_owned();
    };
    match serde_json::from_slice::<&RawValue>(value) {
        // Between tokens a line break means nothing, and in texts it does not occur.
        Ok(raw) => raw.get().replace(['\n', '\r'], " "),
        Err(_) => text(value).to_string(),
    }
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::Object(Map::from_iter([("base64".to_owned(), base64(bytes).into())])),
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}
