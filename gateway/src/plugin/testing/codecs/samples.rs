//! JSON that a codec takes, found by asking it: what it refuses names the field at fault, where another value is tried, and
//! words of the schema's text are tried as names of fields.

use super::Known;
use super::bench::{Bench, Fault};
use crate::plugin::testing::generate::Dice;
use culvert_proto::columns::Rejection;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How often it is asked for a first value. By eye: each field costs a few questions.
const STEPS_MAX: usize = 300;

/// So many words of a schema are tried as names. By eye.
const WORDS_MAX: usize = 60;

/// How many changed values are tried.
const CHANGES: usize = 60;

/// Bytes of JSON that the codec takes.
pub(super) fn made(bench: &mut Bench, known: &Known, dice: &mut Dice) -> Result<Vec<Vec<u8>>, Fault> {
    let words = words(&known.text);
    let palette = palette(&words);
    let mut taken: Vec<Value> = Vec::new();
    for told in bench.json_of(&known.values)? {
        taken.extend(told.ok().and_then(|json| serde_json::from_slice(&json).ok()));
    }
    if let Some(found) = found(bench, &palette)? {
        let grown = grown(bench, found, &words, &palette)?;
        taken.push(grown);
    }
    for _ in 0..CHANGES {
        let Some(mut value) = taken.get(dice.below(taken.len())).cloned() else {
            break;
        };
        changed(&mut value, &palette, dice);
        if asked(bench, &value)?.is_ok() && !taken.contains(&value) {
            taken.push(value);
        }
    }
    let texts: Vec<Vec<u8>> = taken.iter().map(|value| value.to_string().into_bytes()).collect();
    Ok(bench
        .bytes_of(&texts)?
        .into_iter()
        .filter_map(Result::ok)
        .collect())
}

fn asked(bench: &mut Bench, value: &Value) -> Result<Result<(), Rejection>, Fault> {
    let told = bench.bytes_of(&[value.to_string().into_bytes()])?;
    Ok(told.into_iter().next().unwrap_or(Ok(Vec::new())).map(drop))
}

/// Names and texts of a schema, whatever its language.
fn words(text: &str) -> Vec<String> {
    let is_within = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    let words = text.split(|letter| !is_within(letter));
    let all: BTreeSet<&str> = words.filter(|word| !word.is_empty()).collect();
    all.into_iter().take(WORDS_MAX).map(str::to_owned).collect()
}

fn palette(words: &[String]) -> Vec<Value> {
    let mut palette = vec![
        json!("a"),
        json!(7),
        json!(true),
        json!({}),
        json!([]),
        json!(1.5),
        json!("AAAA"),
        json!("2024-01-02"),
        json!("12:30:00"),
        json!("2024-01-02T03:04:05Z"),
        json!("0.25"),
        json!("7"),
        json!("00000000-0000-4000-8000-000000000000"),
        Value::Null,
    ];
    palette.extend(words.iter().map(|word| json!(word)));
    palette
}

/// A value that is taken, if one is found.
fn found(bench: &mut Bench, palette: &[Value]) -> Result<Option<Value>, Fault> {
    // Most are records.
    let roots = std::iter::once(json!({})).chain(palette.iter().cloned());
    let mut steps = 0;
    for root in roots {
        let mut value = root;
        // How far the palette was tried at each place.
        let mut tried: BTreeMap<String, usize> = BTreeMap::new();
        while steps < STEPS_MAX {
            steps += 1;
            let Err(why) = asked(bench, &value)? else {
                return Ok(Some(value));
            };
            let Some(pointer) = why.field.filter(|pointer| !pointer.is_empty()) else {
                break;
            };
            let at = tried.entry(pointer.clone()).or_default();
            let Some(next) = palette.get(*at) else { break };
            *at += 1;
            if !put(&mut value, &pointer, next.clone()) {
                break;
            }
        }
    }
    Ok(None)
}

/// The same value with more fields, of those that the words may be.
fn grown(bench: &mut Bench, mut value: Value, words: &[String], palette: &[Value]) -> Result<Value, Fault> {
    if !value.is_object() {
        return Ok(value);
    }
    for word in words {
        let pointer = format!("/{word}");
        if value.pointer(&pointer).is_some() {
            continue;
        }
        for content in palette.iter().take(12) {
            let mut more = value.clone();
            if put(&mut more, &pointer, content.clone()) && asked(bench, &more)?.is_ok() {
                value = more;
                break;
            }
        }
    }
    Ok(value)
}

/// Puts a value at a place, whose parent is there.
fn put(value: &mut Value, pointer: &str, content: Value) -> bool {
    if let Some(there) = value.pointer_mut(pointer) {
        *there = content;
        return true;
    }
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return false;
    };
    match value.pointer_mut(parent) {
        Some(Value::Object(members)) => {
            members.insert(name.replace("~1", "/").replace("~0", "~"), content);
            true
        }
        Some(Value::Array(items)) => {
            items.push(content);
            true
        }
        _ => false,
    }
}

/// Another value at one place, or one member fewer.
fn changed(value: &mut Value, palette: &[Value], dice: &mut Dice) {
    let inner = match value {
        Value::Object(members) if !members.is_empty() && dice.below(6) > 0 => nth(members, dice),
        Value::Array(items) if !items.is_empty() && dice.below(3) > 0 => {
            let at = dice.below(items.len());
            items.get_mut(at)
        }
        Value::Array(items) => {
            let more = items.first().cloned();
            items.extend(more);
            return;
        }
        Value::Object(members) if members.len() > 1 => {
            let at = dice.below(members.len());
            let name = members.keys().nth(at).cloned().unwrap_or_default();
            members.shift_remove(&name);
            return;
        }
        other => {
            *other = match (&*other, dice.below(3)) {
                (Value::Number(_), 0 | 1) => json!(i64::try_from(dice.seed() >> dice.below(64)).unwrap_or(0)),
                (Value::String(text), 0) => json!(format!("{text} ü\"\\\n")),
                (Value::String(_), 1) => json!(""),
                _ => palette[dice.below(palette.len())].clone(),
            };
            return;
        }
    };
    if let Some(inner) = inner {
        changed(inner, palette, dice);
    }
}

fn nth<'a>(members: &'a mut Map<String, Value>, dice: &mut Dice) -> Option<&'a mut Value> {
    let at = dice.below(members.len());
    members.values_mut().nth(at)
}
