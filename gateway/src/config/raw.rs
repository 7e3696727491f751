//! The raw form: every value that was given, under its full key, with its place. Environment over file.

use super::environment::Environment;
use super::keys;
use super::mistake::{Found, Place, SYNTAX, UNKNOWN_KEY, VALUE};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// A text. From the environment, also a list whose items are separated by commas.
    Text(String),
    /// A number or a boolean, as it was written.
    Bare(String),
    /// A list.
    List(Vec<Item>),
    /// Something no key takes: a date, a table.
    Other(&'static str),
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) literal: Literal,
    pub(super) place: Place,
}

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Raw {
    values: BTreeMap<String, Item>,
    /// The places of the tables of each list, in order.
    lists: BTreeMap<&'static str, Vec<Place>>,
}

impl Raw {
    /// Reads the file's text and lays the environment over it. Unknown keys are found here; `None` where the text
    /// is not TOML at all.
    pub(super) fn read(path: &Path, text: &str, environment: &Environment, found: &mut Found) -> Option<Raw> {
        let lines = Lines { path, text };
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let place = lines.at(error.span().map_or(0, |span| span.start));
            found.add(
                SYNTAX,
                place,
                "",
                format!("not TOML: {}", error.message()),
                "see https://toml.io/en/v1.0.0",
            );
        }
        if !errors.is_empty() {
            return None;
        }
        let mut raw = Raw::default();
        raw.table("", document.get_ref(), &lines, found);
        raw.overlay(environment, found);
        Some(raw)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Item> {
        self.values.get(key)
    }

    /// Every given key that begins with `prefix`.
    pub(super) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Item)> {
        self.values
            .iter()
            .filter_map(move |(key, item)| Some((key.strip_prefix(prefix)?, item)))
    }

    /// The places of the tables of the list `name`.
    pub(super) fn list(&self, name: &str) -> &[Place] {
        self.lists.get(name).map_or(&[], Vec::as_slice)
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, lines: &Lines<'_>, found: &mut Found) {
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            let list = keys::LISTS.iter().find(|list| **list == path);
            match (value.get_ref(), list) {
                (DeValue::Array(items), Some(list)) => self.tables(list, items.iter(), lines, found),
                (_, Some(list)) => {
                    let hint = format!("write [[{list}]], then its keys below");
                    found.add(VALUE, lines.of(key), &path, "is not a list of tables", hint);
                }
                (DeValue::Table(inner), None) if keys::is_section(&path) || path.starts_with("kafka.") => {
                    self.table(&format!("{path}."), inner, lines, found);
                }
                (_, None) if keys::find(&path).is_some() => {
                    self.values.insert(path, item(value, lines));
                }
                (_, None) if keys::is_section(&path) => {
                    let hint = format!("write [{path}], then its keys below");
                    found.add(VALUE, lines.of(key), &path, "is a table, not a value", hint);
                }
                _ => unknown(lines.of(key), &path, found),
            }
        }
    }

    fn tables<'i>(
        &mut self,
        list: &'static str,
        items: impl Iterator<Item = &'i Spanned<DeValue<'i>>>,
        lines: &Lines<'_>,
        found: &mut Found,
    ) {
        for (n, item) in items.enumerate() {
            let place = lines.at(item.span().start);
            self.lists.entry(list).or_default().push(place.clone());
            let path = format!("{list}[{n}]");
            match item.get_ref() {
                DeValue::Table(table) => self.table(&format!("{path}."), table, lines, found),
                _ => {
                    found.add(
                        VALUE,
                        place,
                        path,
                        "is not a table",
                        format!("write [[{list}]], then its keys below"),
                    );
                }
            }
        }
    }

    fn overlay(&mut self, environment: &Environment, found: &mut Found) {
        for (variable, key, value) in environment.overrides() {
            let place = Place::Environment(variable.to_owned());
            match self.indexed(&key) {
                Ok(key) if keys::find(&key).is_some() => {
                    let literal = Literal::Text(value.to_owned());
                    if let Some((list, n)) = list_and_index(&key)
                        && n == self.list(list).len()
                    {
                        self.lists.entry(list).or_default().push(place.clone());
                    }
                    self.values.insert(key, Item { literal, place });
                }
                Ok(key) if is_meant(&key) => unknown(place, &key, found),
                // A container platform may set CULVERT_PORT and the like for a service that is named culvert.
                Ok(_) => {}
                Err(problem) => found.add(
                    UNKNOWN_KEY,
                    place,
                    key,
                    problem,
                    "count from 0, without leaving one out",
                ),
            }
        }
    }

    /// `peer.0.site` → `peer[0].site`; anything else stays.
    fn indexed(&self, key: &str) -> Result<String, String> {
        let mut parts = key.splitn(3, '.');
        let (Some(list), Some(index), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Ok(key.to_owned());
        };
        match (keys::LISTS.contains(&list), index.parse::<usize>()) {
            (true, Ok(n)) if n > self.list(list).len() => Err(format!(
                "there is no [[{list}]] number {n}: the next one is {}",
                self.list(list).len()
            )),
            (true, Ok(n)) => Ok(format!("{list}[{n}].{rest}")),
            _ => Ok(key.to_owned()),
        }
    }
}

fn list_and_index(key: &str) -> Option<(&'static str, usize)> {
    let (list, rest) = key.split_once('[')?;
    let list = keys::LISTS.iter().find(|known| **known == list)?;
    Some((list, rest.split_once(']')?.0.parse().ok()?))
}

/// Whether a variable's key looks like one of ours: it names a table, or is nearly a key.
fn is_meant(key: &str) -> bool {
    key.contains('.') || keys::suggestion(key).is_some()
}

fn unknown(place: Place, key: &str, found: &mut Found) {
    let hint = match keys::suggestion(key) {
        Some(near) => format!("did you mean {near}?"),
        None => "every key is listed in docs/reference/config.md".into(),
    };
    found.add(UNKNOWN_KEY, place, key, "no such key", hint);
}

fn item(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Item {
    let literal = match value.get_ref() {
        DeValue::String(text) => Literal::Text(text.to_string()),
        DeValue::Integer(number) => Literal::Bare(number.to_string()),
        DeValue::Float(number) => Literal::Bare(number.to_string()),
        DeValue::Boolean(truth) => Literal::Bare(truth.to_string()),
        DeValue::Array(items) => Literal::List(items.iter().map(|value| item(value, lines)).collect()),
        other => Literal::Other(other.type_str()),
    };
    Item {
        literal,
        place: lines.at(value.span().start),
    }
}

/// Byte offsets to lines.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    fn at(&self, offset: usize) -> Place {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Place::line(self.path, 1 + before.iter().filter(|b| **b == b'\n').count())
    }

    fn of(&self, key: &Spanned<DeString<'_>>) -> Place {
        self.at(key.span().start)
    }
}
