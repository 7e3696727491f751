//! From raw values to checked ones: one function for each kind of key. Each value is read once, is remembered for
//! `culvert config show`, and what is wrong with it goes to the list of mistakes instead of ending the reading.

use super::keys::{self, Kind, Need};
use super::mistake::{Found, MISSING, Place, VALUE};
use super::names::{self, Endpoint, TopicPattern};
use super::raw::{Item, Literal, Raw};
use crate::identity;
use crate::units::{self, ByteSize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One value in force, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Effective {
    /// The full key.
    pub key: String,
    /// The value as one would write it in the file; secrets are hidden.
    pub value: String,
    /// Where it comes from.
    pub from: Place,
}

/// Reads checked values from raw ones. A method answers `None` for what is absent or wrong; what is wrong, or
/// absent and required, has been noted then.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a Raw,
    /// The file, for mistakes about what is not in it.
    pub(super) file: &'a Path,
    pub(super) found: &'a mut Found,
    pub(super) effective: Vec<Effective>,
}

type Wrong = (String, String);

impl Reader<'_> {
    pub(super) fn gateway(&mut self, key: &str) -> Option<String> {
        self.read(key, |item, _| name(item, Kind::Gateway))
    }

    pub(super) fn gateways(&mut self, key: &str) -> Option<Vec<String>> {
        self.read(key, |item, _| some(each(item, |item| name(item, Kind::Gateway))?))
    }

    pub(super) fn site(&mut self, key: &str) -> Option<String> {
        self.read(key, |item, _| name(item, Kind::Site))
    }

    pub(super) fn sites(&mut self, key: &str) -> Option<Vec<String>> {
        self.read(key, |item, _| each(item, |item| name(item, Kind::Site)))
    }

    pub(super) fn trust_domain(&mut self, key: &str) -> Option<String> {
        self.read(key, |item, _| name(item, Kind::TrustDomain))
    }

    /// As written: whose directory a relative path is relative to is the caller's to know.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.read(key, |item, _| path(item))
    }

    pub(super) fn paths(&mut self, key: &str) -> Option<Vec<PathBuf>> {
        self.read(key, |item, _| some(each(item, path)?))
    }

    pub(super) fn size(&mut self, key: &str) -> Option<ByteSize> {
        self.read(key, |item, kind| {
            let Kind::Size { min, max } = kind else {
                unreachable!("{key} is declared as a size")
            };
            let bounds = format!("valid: \"{}\" to \"{}\"", ByteSize(min), ByteSize(max));
            let size = scalar(item).and_then(ByteSize::parse).ok_or_else(|| {
                (
                    format!("{} is not a size", shown(item)),
                    "valid: a number and a unit, such as \"10 GiB\" or \"500 MB\"".into(),
                )
            })?;
            within(size, ByteSize(min), ByteSize(max), || {
                (format!("{} is out of bounds", shown(item)), bounds)
            })
        })
    }

    pub(super) fn count(&mut self, key: &str) -> Option<u16> {
        self.read(key, |item, kind| {
            let Kind::Count { max } = kind else {
                unreachable!("{key} is declared as a count")
            };
            let count = scalar(item).and_then(|text| text.parse().ok());
            count.filter(|count| *count <= max).ok_or_else(|| {
                (
                    format!("{} is no number that it can be", shown(item)),
                    format!("valid: 0 to {max}"),
                )
            })
        })
    }

    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        self.read(key, |item, kind| {
            let Kind::Time { min_ms, max_ms } = kind else {
                unreachable!("{key} is declared as a duration")
            };
            let (min, max) = (Duration::from_millis(min_ms), Duration::from_millis(max_ms));
            let bounds = format!(
                "valid: \"{}\" to \"{}\"",
                units::show_duration(min),
                units::show_duration(max)
            );
            let duration = scalar(item).and_then(units::parse_duration).ok_or_else(|| {
                (
                    format!("{} is not a duration", shown(item)),
                    "valid: a number and a unit, such as \"5ms\" or \"30s\"".into(),
                )
            })?;
            within(duration, min, max, || {
                (format!("{} is out of bounds", shown(item)), bounds)
            })
        })
    }

    pub(super) fn listen(&mut self, key: &str) -> Option<SocketAddr> {
        self.read(key, |item, _| {
            scalar(item).and_then(|text| text.parse().ok()).ok_or_else(|| {
                let hint = "valid: an IP address and a port, such as \"127.0.0.1:7443\", \"0.0.0.0:7443\" or \"[::]:7443\"";
                (format!("{} is not an address to listen on", shown(item)), hint.into())
            })
        })
    }

    pub(super) fn endpoints(&mut self, key: &str) -> Option<Vec<Endpoint>> {
        self.read(key, |item, _| {
            some(each(item, |item| {
                scalar(item).and_then(Endpoint::parse).ok_or_else(|| {
                    let hint = "valid: a host and a port, such as \"gw2.example.com:7443\"";
                    (format!("{} is not an address to dial", shown(item)), hint.into())
                })
            })?)
        })
    }

    pub(super) fn choice(&mut self, key: &str) -> Option<&'static str> {
        self.read(key, |item, kind| {
            let Kind::Choice(words) = kind else {
                unreachable!("{key} is declared as a choice")
            };
            let text = scalar(item).unwrap_or_default();
            words.iter().find(|word| **word == text).copied().ok_or_else(|| {
                let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                (
                    format!("{} is not one of its words", shown(item)),
                    format!("valid: {}", quoted.join(" or ")),
                )
            })
        })
    }

    pub(super) fn topics(&mut self, key: &str) -> Option<Vec<TopicPattern>> {
        self.read(key, |item, _| {
            some(each(item, |item| {
                scalar(item).and_then(TopicPattern::parse).ok_or_else(|| {
                    let hint = "valid: a topic's name, or a pattern with * and ?, such as \"orders-*\"";
                    (format!("{} is not a topic", shown(item)), hint.into())
                })
            })?)
        })
    }

    pub(super) fn log_filter(&mut self, key: &str) -> Option<String> {
        self.read(key, |item, _| {
            scalar(item).filter(|text| is_log_filter(text)).map(str::to_owned).ok_or_else(|| {
                let hint = "valid: error, warn, info, debug or trace, or by room, such as \"info,culvert::link=debug\"";
                (format!("{} is not a log filter", shown(item)), hint.into())
            })
        })
    }

    /// Notes a value that was read by other means.
    pub(super) fn note(&mut self, key: String, value: String, place: &Place) {
        self.effective.push(Effective {
            key,
            value,
            from: place.clone(),
        });
    }

    /// Where `key` stands, or its table, or the file.
    pub(super) fn place(&self, key: &str) -> Place {
        if let Some(item) = self.raw.get(key) {
            return item.place.clone();
        }
        let table = key.split_once('[').and_then(|(list, rest)| {
            let index: usize = rest.split_once(']')?.0.parse().ok()?;
            self.raw.list(list).get(index).cloned()
        });
        table.unwrap_or_else(|| Place::file(self.file))
    }

    fn read<T>(&mut self, key: &str, parse: impl Fn(&Item, Kind) -> Result<T, Wrong>) -> Option<T> {
        let declared = keys::find(key).expect("every key that is read is declared in keys.rs");
        let item = match (self.raw.get(key), declared.need) {
            (Some(item), _) => item.clone(),
            (None, Need::Default(text)) => default_item(text),
            (None, Need::Optional) => return None,
            (None, Need::Required) => {
                let hint = format!("add {}: {}", key.rsplit('.').next().unwrap_or(key), declared.doc);
                self.found.add(MISSING, self.place(key), key, "is missing", hint);
                return None;
            }
        };
        match parse(&item, declared.kind) {
            Ok(value) => {
                self.note(key.to_owned(), written(&item), &item.place);
                Some(value)
            }
            Err((problem, hint)) => {
                self.found.add(VALUE, item.place, key, problem, hint);
                None
            }
        }
    }
}

/// The item's text, if it is a single value.
fn scalar(item: &Item) -> Option<&str> {
    match &item.literal {
        Literal::Text(text) | Literal::Bare(text) => Some(text),
        Literal::List(_) | Literal::Other(_) => None,
    }
}

/// Reads one value or a list of them; from the environment, a list separated by commas.
fn each<T>(item: &Item, parse: impl Fn(&Item) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    match (&item.literal, &item.place) {
        (Literal::List(items), _) => items.iter().map(parse).collect(),
        (Literal::Text(text), Place::Environment(_)) => text
            .split(',')
            .map(|part| Item {
                literal: Literal::Text(part.trim().to_owned()),
                place: item.place.clone(),
            })
            .map(|part| parse(&part))
            .collect(),
        _ => parse(item).map(|one| vec![one]),
    }
}

fn some<T>(list: Vec<T>) -> Result<Vec<T>, Wrong> {
    if list.is_empty() {
        Err(("is empty".into(), "name at least one".into()))
    } else {
        Ok(list)
    }
}

fn within<T: PartialOrd + Copy>(value: T, min: T, max: T, wrong: impl FnOnce() -> Wrong) -> Result<T, Wrong> {
    if min <= value && value <= max {
        Ok(value)
    } else {
        Err(wrong())
    }
}

fn name(item: &Item, kind: Kind) -> Result<String, Wrong> {
    let (good, hint): (fn(&str) -> bool, _) = match kind {
        Kind::Site => (
            |text| names::is_plain(text, culvert_proto::limits::NAME_BYTES_MAX),
            "valid: letters, digits, '.', '_' and '-', such as \"site1\"",
        ),
        Kind::TrustDomain => (
            |text| text.parse::<identity::TrustDomain>().is_ok(),
            "valid: small letters, digits, '.', '_' and '-', such as \"culvert.example.com\"",
        ),
        _ => (
            |text| text.parse::<identity::Name>().is_ok(),
            "valid: a DNS name in lower case, such as \"gw1\" or \"gw1.example.com\"",
        ),
    };
    match &item.literal {
        Literal::Text(text) if good(text) => Ok(text.clone()),
        _ => Err((format!("{} is not a name", shown(item)), hint.into())),
    }
}

fn path(item: &Item) -> Result<PathBuf, Wrong> {
    match &item.literal {
        Literal::Text(text) if !text.is_empty() && !text.contains(char::is_control) => {
            Ok(PathBuf::from(text))
        }
        _ => Err((
            format!("{} is not a path", shown(item)),
            "valid: a path in quotes, without control characters".into(),
        )),
    }
}

/// A filter that says what it means. `EnvFilter` takes any single word for a target, so that a misspelt level would
/// silently log nothing else.
fn is_log_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let clear = |part: &str| part.contains('=') || LEVELS.contains(&part.trim().to_lowercase().as_str());
    text.split(',').all(clear) && tracing_subscriber::EnvFilter::try_new(text).is_ok()
}

fn default_item(text: &str) -> Item {
    let literal = if text == "[]" {
        Literal::List(Vec::new())
    } else {
        Literal::Text(text.to_owned())
    };
    Item {
        literal,
        place: Place::Default,
    }
}

/// The item as one would write it in the file.
pub(super) fn written(item: &Item) -> String {
    match &item.literal {
        Literal::Text(text) => format!("{text:?}"),
        Literal::Bare(text) => text.clone(),
        Literal::List(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Literal::Other(kind) => format!("a {kind}"),
    }
}

/// The item for a mistake's text, which people read: cut where it is long.
fn shown(item: &Item) -> String {
    const CHARS_MAX: usize = 120;
    let text = written(item);
    match text.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
