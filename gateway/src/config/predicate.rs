//! A connector's predicates: which records a stage sees, in Kafka Connect's words.
//!
//! ```json
//! "transforms.check.predicate": "here",
//! "transforms.check.negate": "true",
//! "predicates": "here",
//! "predicates.here.type": "org.apache.kafka.connect.transforms.predicates.TopicNameMatches",
//! "predicates.here.pattern": "orders-.*"
//! ```

use super::connector::Definition;
use super::mistake::{CONTRADICTION, Found, MISSING, UNKNOWN_KEY, VALUE, nearest};
use super::names;
use crate::plugin::{Predicate, Selection};
use regex::Regex;
use std::cell::Cell;

/// What Connect's classes begin with.
const PACKAGE: &str = "org.apache.kafka.connect.transforms.predicates.";

/// Classes, and the one key that each needs.
const CLASSES: [(&str, Option<&str>); 3] = [
    ("TopicNameMatches", Some("pattern")),
    ("HasHeaderKey", Some("name")),
    ("RecordIsTombstone", None),
];

/// The most predicates of one connector. By eye.
const PREDICATES_MAX: usize = 20;

/// The predicates of one connector, and which of them were asked for.
pub(super) struct Predicates<'a> {
    definition: &'a Definition<'a>,
    named: Vec<Named<'a>>,
}

struct Named<'a> {
    name: &'a str,
    /// Nothing where its settings are wrong: that was said already.
    predicate: Option<Predicate>,
    is_used: Cell<bool>,
}

impl<'a> Predicates<'a> {
    /// Reads all of them. What is wrong goes to `found`.
    pub(super) fn read(definition: &'a Definition<'a>, found: &mut Found) -> Predicates<'a> {
        let list = definition.settings.get("predicates").unwrap_or_default();
        let names: Vec<&str> = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .collect();
        let mut named: Vec<Named<'_>> = Vec::new();
        if names.len() > PREDICATES_MAX {
            let problem = format!("names {} predicates", names.len());
            let hint = format!("valid: at most {PREDICATES_MAX}");
            definition.mistake(VALUE, "predicates", problem, hint, found);
        }
        for &name in names.iter().take(PREDICATES_MAX) {
            if named.iter().any(|known| known.name == name) {
                let problem = format!("names {name:?} twice");
                definition.mistake(
                    CONTRADICTION,
                    "predicates",
                    problem,
                    "name each predicate once",
                    found,
                );
            } else if !names::is_plain(name, 100) {
                let problem = format!("{name:?} is not a name");
                let hint = "valid: letters, digits, '.', '_' and '-'";
                definition.mistake(VALUE, "predicates", problem, hint, found);
            } else {
                named.push(Named {
                    name,
                    predicate: predicate(definition, name, found),
                    is_used: Cell::new(false),
                });
            }
        }
        strangers(definition, &named, found);
        Predicates { definition, named }
    }

    /// The selection of the stage whose keys begin with `prefix`. What is wrong goes to `found`.
    pub(super) fn selection(&self, prefix: &str, found: &mut Found) -> Option<Selection> {
        let get = |key: &str| self.definition.settings.get(&format!("{prefix}{key}"));
        let (predicate_key, negate_key) = (format!("{prefix}predicate"), format!("{prefix}negate"));
        let negate = match get("negate").map(|text| text.trim().to_ascii_lowercase()) {
            None => false,
            Some(text) if text == "true" || text == "false" => text == "true",
            Some(text) => {
                let problem = format!("{text:?} is no truth value");
                self.definition
                    .mistake(VALUE, &negate_key, problem, "valid: true or false", found);
                false
            }
        };
        let Some(name) = get("predicate").map(str::trim) else {
            if get("negate").is_some() {
                let hint = format!("name one with {predicate_key}, or leave the key out");
                let problem = "negates a predicate, and none is named";
                self.definition
                    .mistake(CONTRADICTION, &negate_key, problem, hint, found);
            }
            return None;
        };
        let Some(named) = self.named.iter().find(|named| named.name == name) else {
            let known: Vec<&str> = self.named.iter().map(|named| named.name).collect();
            let hint = match known.as_slice() {
                [] => format!("name it in predicates, and give predicates.{name}.type"),
                known => format!("valid: {}", known.join(", ")),
            };
            let problem = format!("{name:?} is not among the predicates");
            self.definition
                .mistake(VALUE, &predicate_key, problem, hint, found);
            return None;
        };
        named.is_used.set(true);
        let predicate = named.predicate.clone()?;
        Some(Selection { predicate, negate })
    }

    /// What no stage has asked for is a mistake: it would be ignored.
    pub(super) fn unused(&self, found: &mut Found) {
        for named in self.named.iter().filter(|named| !named.is_used.get()) {
            let problem = format!("defines {:?}, which no stage uses", named.name);
            let hint = format!(
                "name it with transforms.….predicate, or leave it out of predicates: {}",
                named.name
            );
            self.definition
                .mistake(CONTRADICTION, "predicates", problem, hint, found);
        }
    }
}

fn predicate(definition: &Definition<'_>, name: &str, found: &mut Found) -> Option<Predicate> {
    let prefix = format!("predicates.{name}.");
    let get = |key: &str| definition.settings.get(&format!("{prefix}{key}"));
    let valid = || format!("valid: {}", CLASSES.map(|(class, _)| class).join(", "));
    let type_key = format!("{prefix}type");
    let Some(class) = get("type") else {
        definition.mistake(MISSING, &type_key, "is missing", valid(), found);
        return None;
    };
    let short = class.strip_prefix(PACKAGE).unwrap_or(class);
    let Some((class, needed)) = CLASSES.iter().find(|(known, _)| *known == short) else {
        let near = nearest(short, CLASSES.iter().map(|(class, _)| *class));
        let hint = near.map_or_else(valid, |near| format!("did you mean {near}?"));
        let problem = format!("there is no predicate {class:?}");
        definition.mistake(VALUE, &type_key, problem, hint, found);
        return None;
    };
    for (key, _) in definition.settings.shown() {
        let inner = key.strip_prefix(&prefix);
        if inner.is_some_and(|inner| inner != "type" && Some(inner) != *needed) {
            let hint = needed.map_or("it has none".to_owned(), |needed| format!("valid: {needed}"));
            definition.mistake(UNKNOWN_KEY, key, format!("is not a key of {class}"), hint, found);
        }
    }
    let Some(needed) = needed else {
        return Some(Predicate::RecordIsTombstone);
    };
    let needed_key = format!("{prefix}{needed}");
    let Some(text) = get(needed).filter(|text| !text.is_empty()) else {
        let hint = format!("{class} needs it");
        definition.mistake(MISSING, &needed_key, "is missing", hint, found);
        return None;
    };
    if *class == "HasHeaderKey" {
        return Some(Predicate::HasHeaderKey(text.to_owned()));
    }
    match Regex::new(&format!("^(?:{text})$")) {
        Ok(pattern) => Some(Predicate::TopicNameMatches(pattern)),
        Err(_) => {
            let problem = format!("{text:?} cannot be read as a regular expression");
            let hint = "look-around and back references are not offered; negate turns a predicate round";
            definition.mistake(VALUE, &needed_key, problem, hint, found);
            None
        }
    }
}

/// Settings of predicates that `predicates` does not name.
fn strangers(definition: &Definition<'_>, named: &[Named<'_>], found: &mut Found) {
    for (key, _) in definition.settings.shown() {
        let Some(inner) = key.strip_prefix("predicates.") else {
            continue;
        };
        let is_of = |named: &Named<'_>| {
            inner
                .strip_prefix(named.name)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        if !named.iter().any(is_of) {
            let hint = "name the predicate in predicates, or leave the key out";
            let problem = "is of no predicate that predicates names";
            definition.mistake(UNKNOWN_KEY, key, problem, hint, found);
        }
    }
}
