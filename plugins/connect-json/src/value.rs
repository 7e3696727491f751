//! JSON that is held: numbers stay the text they are.

use culvert_plugin::codec::{Node, Tree};
use plain::base64;
use plain::json::{At, Json, Token, write_text};
use plain::source::{Nodes, Source, View, parsed};
use plain::tree::TreeOut;
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, too_deep};

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    /// As it is written.
    Number(String),
    Text(String),
    Array(Vec<Value>),
    /// In their order, each name once.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// # Errors
    /// `not-json`.
    pub(crate) fn read(bytes: &[u8]) -> Outcome<Value> {
        let json = parsed(bytes)?;
        Ok(of(&json, 0))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Puts a member in the place of the one of its name, or behind all.
    pub(crate) fn put(&mut self, name: &str, value: Value) {
        if let Value::Object(members) = self {
            match members.iter_mut().find(|(known, _)| known == name) {
                Some((_, there)) => *there = value,
                None => members.push((name.to_owned(), value)),
            }
        }
    }

    pub(crate) fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    /// What it is, for a person.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }

    pub(crate) fn write(&self, json: &mut Vec<u8>) {
        match self {
            Value::Null => json.extend_from_slice(b"null"),
            Value::Boolean(truth) => json.extend_from_slice(truth.to_string().as_bytes()),
            Value::Number(text) => json.extend_from_slice(text.as_bytes()),
            Value::Text(text) => write_text(text, json),
            Value::Array(items) => {
                json.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        json.push(b',');
                    }
                    item.write(json);
                }
                json.push(b']');
            }
            Value::Object(members) => {
                json.push(b'{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        json.push(b',');
                    }
                    write_text(name, json);
                    json.push(b':');
                    value.write(json);
                }
                json.push(b'}');
            }
        }
    }

    /// As the contract's tree: numbers that are not whole are floats.
    pub(crate) fn tree(&self) -> Outcome<Tree> {
        let mut tree = TreeOut::default();
        self.put_into(&mut tree)?;
        Ok(tree.finish())
    }

    fn put_into(&self, tree: &mut TreeOut) -> Outcome<()> {
        match self {
            Value::Null => tree.push(Node::Null),
            Value::Boolean(truth) => tree.push(Node::Boolean(*truth)),
            Value::Number(text) => tree.push(number(text)?),
            Value::Text(text) => tree.push_text(text),
            Value::Array(items) => {
                tree.begin();
                for item in items {
                    item.put_into(tree)?;
                }
                tree.end_items();
            }
            Value::Object(members) => {
                tree.begin();
                for (name, value) in members {
                    tree.push_text(name);
                    value.put_into(tree)?;
                }
                tree.end_entries();
            }
        }
        match tree.is_full() {
            true => Err(Trouble::new(
                code::TOO_LARGE,
                "the value is larger than one answer may be",
            )),
            false => Ok(()),
        }
    }

    /// # Errors
    /// Of a tree that is none, or holds what JSON has no word for.
    pub(crate) fn of_tree(tree: &Tree) -> Outcome<Value> {
        of_nodes(&Nodes::new(tree)?, 0, 0)
    }
}

fn of(json: &Json<'_>, at: At) -> Value {
    match json.token(at) {
        Token::Null => Value::Null,
        Token::Boolean(truth) => Value::Boolean(truth),
        Token::Number(text) => Value::Number(text.to_owned()),
        Token::Text(text) => Value::Text(text.read().into_owned()),
        Token::Array(_) => Value::Array(json.items(at).map(|item| of(json, item)).collect()),
        Token::Object(_) => {
            let mut object = Value::Object(Vec::new());
            // Of several of a name the last one counts, as in Jackson.
            for (name, value) in json.members(at) {
                object.put(&name.read(), of(json, value));
            }
            object
        }
    }
}

fn number(text: &str) -> Outcome<Node> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Node::Integer(number));
    }
    if let Ok(number) = text.parse::<u64>() {
        return Ok(Node::Unsigned(number));
    }
    let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite());
    number
        .map(Node::Float)
        .ok_or_else(|| Trouble::new(code::OUT_OF_RANGE, "the number is beyond 64 bits"))
}

fn of_nodes<'a>(nodes: &Nodes<'a>, at: u32, depth: u32) -> Outcome<Value> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    Ok(match nodes.view(at)? {
        View::Null => Value::Null,
        View::Boolean(truth) => Value::Boolean(truth),
        View::Integer(number) | View::Timestamp(number) => Value::Number(number.to_string()),
        View::Unsigned(number) => Value::Number(number.to_string()),
        View::Number(text) => Value::Number(text.to_owned()),
        View::Float(number) if number.is_finite() => Value::Number(format!("{number:?}")),
        View::Days(days) => Value::Number(days.to_string()),
        View::Text(text) => Value::Text(text.into_owned()),
        View::Bytes(bytes) | View::Decimal(bytes, _) => {
            let mut text = Vec::new();
            base64::write(bytes, &mut text);
            Value::Text(String::from_utf8_lossy(&text).into_owned())
        }
        View::Float(_) => {
            return Err(Trouble::new(
                code::OUT_OF_RANGE,
                "JSON has no such number as NaN or infinity",
            ));
        }
        View::Items => {
            let items = nodes.items(at).map(|item| of_nodes(nodes, item, depth + 1));
            Value::Array(items.collect::<Outcome<_>>()?)
        }
        View::Entries => {
            let mut object = Value::Object(Vec::new());
            for (name, value) in nodes.members(at) {
                object.put(&name, of_nodes(nodes, value, depth + 1)?);
            }
            object
        }
    })
}
