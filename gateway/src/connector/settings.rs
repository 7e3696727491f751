//! A connector's flat map of settings on its way to a checked configuration: each key is asked for once, each
//! mistake is collected, and what nobody asked for is a mistake too.

use super::Mistake;
use culvert_proto::limits;
use culvert_proto::message::TopicFilter;
use regex::Regex;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// Keys that every connector may carry and that the config room judges.
const COMMON: &[&str] = &[
    "name",
    "connector.class",
    "tasks.max",
    "tasks.max.enforce",
    "culvert.from",
    "culvert.via",
    "culvert.start",
    "exactly.once.support",
    "config.action.reload",
    "offsets.storage.topic",
];

/// Families of keys that the config room judges.
const COMMON_PREFIXES: &[&str] = &[
    "key.converter",
    "value.converter",
    "header.converter",
    "errors.",
    "transforms",
    "predicates",
    "transaction.boundary",
];

/// The settings of one connector, and what was found wrong with them so far.
pub(super) struct Settings<'a> {
    map: &'a BTreeMap<String, String>,
    asked: Vec<&'static str>,
    mistakes: Vec<Mistake>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(map: &'a BTreeMap<String, String>) -> Settings<'a> {
        Settings {
            map,
            asked: Vec::new(),
            mistakes: Vec::new(),
        }
    }

    /// The value of `key` without the blanks around it. An empty value is a mistake, and absent.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        self.asked.push(key);
        let value = self.map.get(key)?.trim();
        if value.is_empty() {
            self.mistake(key, "is empty", None);
            return None;
        }
        Some(value)
    }

    /// As [`Settings::text`]; absence is a mistake, and `example` shows what to write.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<&'a str> {
        let value = self.text(key);
        if !self.map.contains_key(key) {
            self.mistake(
                key,
                "is missing",
                Some(format!("for example \"{key}\": \"{example}\"")),
            );
        }
        value
    }

    /// The value of `key` as a `T` that is `fit`; `valid` says what would be.
    pub(super) fn parsed<T: FromStr>(
        &mut self,
        key: &'static str,
        valid: &str,
        fit: impl Fn(&T) -> bool,
    ) -> Option<T> {
        let text = self.text(key)?;
        let value = text.parse().ok().filter(|value| fit(value));
        if value.is_none() {
            self.mistake(
                key,
                format!("cannot be {text:?}"),
                Some(format!("valid is {valid}")),
            );
        }
        value
    }

    /// A connector of which only one task makes sense: `why`.
    pub(super) fn one_task(&mut self, why: &str) {
        if self.map.get("tasks.max").is_some_and(|tasks| tasks.trim() != "1") {
            self.mistake("tasks.max", "is not 1", Some(format!("set it to 1: {why}")));
        }
    }

    /// The topics a sink reads: `topics` or `topics.regex`, exactly one of them.
    pub(super) fn topics(&mut self) -> Option<TopicFilter> {
        match (self.text("topics"), self.text("topics.regex")) {
            (Some(names), None) => self.names(names),
            (None, Some(pattern)) => self.pattern(pattern),
            (Some(_), Some(_)) => {
                self.mistake(
                    "topics.regex",
                    "stands beside topics",
                    Some("keep one of the two".into()),
                );
                None
            }
            (None, None) if self.map.contains_key("topics") || self.map.contains_key("topics.regex") => None,
            (None, None) => {
                let hint = "for example \"topics\": \"orders,clicks\", or \"topics.regex\": \"orders-.*\"";
                self.mistake("topics", "is missing", Some(hint.into()));
                None
            }
        }
    }

    /// Names between commas, none of them empty, none twice.
    fn names(&mut self, list: &str) -> Option<TopicFilter> {
        let names: Vec<Arc<str>> = list.split(',').map(|name| name.trim().into()).collect();
        if names.iter().any(|name| name.is_empty()) {
            self.mistake(
                "topics",
                "holds an empty name",
                Some("names stand between single commas".into()),
            );
            return None;
        }
        if let Some((_, twice)) = names
            .iter()
            .enumerate()
            .find(|(at, name)| names[..*at].contains(name))
        {
            self.mistake(
                "topics",
                format!("names {twice:?} twice"),
                Some("name it once".into()),
            );
            return None;
        }
        Some(TopicFilter { names, pattern: None })
    }

    fn pattern(&mut self, pattern: &str) -> Option<TopicFilter> {
        let problem = match Regex::new(pattern) {
            Ok(_) if pattern.len() <= limits::PATTERN_BYTES_MAX => {
                return Some(TopicFilter {
                    names: Vec::new(),
                    pattern: Some(pattern.to_owned()),
                });
            }
            Ok(_) => format!("is longer than {} bytes", limits::PATTERN_BYTES_MAX),
            // The last line says what is wrong; those before it draw where.
            Err(error) => format!(
                "is no regular expression: {}",
                error.to_string().lines().last().unwrap_or("")
            ),
        };
        self.mistake(
            "topics.regex",
            problem,
            Some("for example orders-.*; it has to match the whole name".into()),
        );
        None
    }

    pub(super) fn mistake(&mut self, key: &str, problem: impl Display, hint: Option<String>) {
        self.mistakes.push(Mistake {
            key: key.into(),
            problem: problem.to_string(),
            hint,
        });
    }

    /// Everything that was found wrong so far.
    pub(super) fn mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// Everything that is wrong, with the keys that nobody asked for.
    pub(super) fn finish(mut self) -> Vec<Mistake> {
        for key in self.map.keys() {
            let common = COMMON.contains(&key.as_str()) || COMMON_PREFIXES.iter().any(|p| key.starts_with(p));
            if common || self.asked.contains(&key.as_str()) {
                continue;
            }
            let hint = self.nearest(key).map(|near| format!("did you mean {near}?"));
            self.mistakes.push(Mistake {
                key: key.clone(),
                problem: "is not a key of this connector".into(),
                hint,
            });
        }
        self.mistakes
    }

    /// 0.75 by eye: catches swapped letters and a missing dot, and suggests nothing for a word that is far off.
    fn nearest(&self, key: &str) -> Option<&'static str> {
        let known = self.asked.iter().chain(COMMON);
        known
            .map(|known| (strsim::jaro_winkler(key, known), *known))
            .filter(|(likeness, _)| *likeness > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known)
    }
}
