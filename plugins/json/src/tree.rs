//! JSON as the contract's tree, and back.

use culvert_plugin::codec::{Node, Tree};
use plain::base64;
use plain::json::{At, Json, Token, write_text};
use plain::number::{DECIMAL_BYTES_MAX, Unit, date_text, decimal_bytes, decimal_text, timestamp_text};
use plain::source::{Nodes, Source, View};
use plain::tree::TreeOut;
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, cut, too_deep};

/// What one call may return, by the contract.
const JSON_BYTES_MAX: usize = 64 << 20;

/// Numbers that are whole are integers where 64 bits hold them. Others are floats where that is the same number, and else
/// decimals.
pub(crate) fn of_json(json: &Json<'_>) -> Outcome<Tree> {
    let mut tree = TreeOut::default();
    put(json, 0, &mut tree)?;
    Ok(tree.finish())
}

fn put(json: &Json<'_>, at: At, tree: &mut TreeOut) -> Outcome<()> {
    match json.token(at) {
        Token::Null => tree.push(Node::Null),
        Token::Boolean(truth) => tree.push(Node::Boolean(truth)),
        Token::Text(text) => tree.push_text(&text.read()),
        Token::Number(text) => number(text, tree)?,
        Token::Array(_) => {
            tree.begin();
            for (index, item) in json.items(at).enumerate() {
                put(json, item, tree).map_err(|trouble| trouble.below(&index))?;
            }
            tree.end_items();
        }
        Token::Object(_) => {
            tree.begin();
            for (key, value) in json.members(at) {
                let key = key.read();
                tree.push_text(&key);
                put(json, value, tree).map_err(|trouble| trouble.below(&*key))?;
            }
            tree.end_entries();
        }
    }
    if tree.is_full() {
        return Err(too_large());
    }
    Ok(())
}

fn number(text: &str, tree: &mut TreeOut) -> Outcome<()> {
    if let Ok(number) = text.parse::<i64>()
        && text != "-0"
    {
        tree.push(Node::Integer(number));
    } else if let Ok(number) = text.parse::<u64>() {
        tree.push(Node::Unsigned(number));
    } else if let Some(number) = same_float(text) {
        tree.push(Node::Float(number));
    } else {
        let scale = scale(text);
        let digits = DECIMAL_BYTES_MAX as u32 * 2;
        let unscaled = decimal_bytes(text, digits, scale).map_err(|_| {
            let reason = format!("{} has more digits than a decimal may have", cut(text));
            Trouble::new(code::OUT_OF_RANGE, reason)
        })?;
        tree.push_decimal(&unscaled, scale as i32);
    }
    Ok(())
}

/// A float that is written with the same digits, or none.
fn same_float(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    let again = zmij::Buffer::new().format_finite(number).to_owned();
    let is_whole = !text.contains(['.', 'e', 'E']);
    // A whole number beyond 64 bits is a decimal, so that nobody takes it for a measured one.
    let is_same = crate::number::Number::read(&again) == crate::number::Number::read(text);
    (is_same && (!is_whole || text == "-0")).then_some(number)
}

/// How many digits stand behind the point when it is written without an exponent.
fn scale(text: &str) -> u32 {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i64>().unwrap_or(i64::MAX)),
        None => (text, 0),
    };
    let part = mantissa.split_once('.').map_or(0, |(_, part)| part.len() as i64);
    u32::try_from(part.saturating_sub(exponent)).unwrap_or(0)
}

/// A tree as JSON without spaces.
pub(crate) fn to_json(tree: &Tree, json: &mut Vec<u8>) -> Outcome<()> {
    write(&Nodes::new(tree)?, 0, 0, json)
}

fn write<'a>(nodes: &Nodes<'a>, at: u32, depth: u32, json: &mut Vec<u8>) -> Outcome<()> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    match nodes.view(at)? {
        View::Null => json.extend_from_slice(b"null"),
        View::Boolean(truth) => json.extend_from_slice(if truth { b"true" } else { b"false" }),
        View::Integer(number) => json.extend_from_slice(number.to_string().as_bytes()),
        View::Unsigned(number) => json.extend_from_slice(number.to_string().as_bytes()),
        View::Number(text) => json.extend_from_slice(text.as_bytes()),
        View::Float(number) if number.is_finite() => {
            json.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
        }
        View::Float(_) => {
            return Err(Trouble::new(
                code::OUT_OF_RANGE,
                "JSON has no such number as NaN or infinity",
            ));
        }
        View::Decimal(unscaled, scale) => {
            let text = decimal_text(unscaled, scale).ok_or_else(too_large)?;
            json.extend_from_slice(text.as_bytes());
        }
        View::Text(text) => write_text(&text, json),
        View::Bytes(bytes) => {
            json.push(b'"');
            base64::write(bytes, json);
            json.push(b'"');
        }
        View::Timestamp(micros) => quoted(timestamp_text(micros, Unit::Micros, false), micros, json)?,
        View::Days(days) => quoted(date_text(days.into()), days.into(), json)?,
        View::Items => {
            json.push(b'[');
            for (index, item) in nodes.items(at).enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                write(nodes, item, depth + 1, json).map_err(|trouble| trouble.below(&index))?;
            }
            json.push(b']');
        }
        View::Entries => {
            json.push(b'{');
            for (index, (key, value)) in nodes.members(at).enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                write_text(&key, json);
                json.push(b':');
                write(nodes, value, depth + 1, json).map_err(|trouble| trouble.below(&*key))?;
            }
            json.push(b'}');
        }
    }
    if json.len() > JSON_BYTES_MAX {
        return Err(too_large());
    }
    Ok(())
}

fn quoted(text: Option<String>, number: i64, json: &mut Vec<u8>) -> Outcome<()> {
    let text = text.ok_or_else(|| {
        let reason = format!("{number} lies beyond what ISO 8601 can say");
        Trouble::new(code::OUT_OF_RANGE, reason)
    })?;
    write_text(&text, json);
    Ok(())
}

#[cold]
fn too_large() -> Trouble {
    Trouble::new(code::TOO_LARGE, "the value is larger than one answer may be")
}
