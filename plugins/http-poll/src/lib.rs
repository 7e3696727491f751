#![doc = include_str!("../README.md")]

mod answer;

use answer::{Reading, Record};
use culvert_plugin::http::{self, Credentials, Method, Request, Response};
use culvert_plugin::prelude::*;
use culvert_plugin::source::{Limits, Page, ResumePoint, Source};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;
use who_asks::{Way, WhoAsks};

/// The settings.
#[derive(Config)]
struct Settings {
    /// The address that is asked.
    #[config(url = ["http", "https"], importance = "high", grants = ["http.get"], example = "https://api.example.org/v1/orders")]
    url: String,
    /// The topic of the records.
    #[config(non_empty, importance = "high", example = "orders")]
    topic: String,
    /// The pause between two answers that brought nothing new.
    #[config(default = "1min", importance = "high")]
    interval: Duration,
    /// JSON pointer to the records in an answer: an array has one in each item. The whole answer unless said.
    #[config(default = "", importance = "medium", example = "/items")]
    records: String,
    /// JSON pointer in a record to its key. Without it, records have none.
    #[config(importance = "medium", example = "/id")]
    key: Option<String>,
    /// JSON pointer in an answer to what the next one is asked for with: a number or a text.
    #[config(
        name = "cursor.pointer",
        importance = "medium",
        group = "Going on",
        example = "/next"
    )]
    cursor_pointer: Option<String>,
    /// The parameter of the address that holds it.
    #[config(
        name = "cursor.parameter",
        default = "cursor",
        non_empty,
        importance = "medium",
        group = "Going on"
    )]
    cursor_parameter: String,
    /// How long an answer may take; what is left of a call's own time always wins.
    #[config(default = "10s", importance = "low")]
    timeout: Duration,
    /// The `Accept` header.
    #[config(default = "application/json", importance = "low")]
    accept: String,
    /// How the server is told who asks.
    #[config(default = "none", importance = "medium", group = "Who asks", dependents = ["auth.secret", "auth.user", "auth.header"])]
    auth: Way,
    /// The name of the secret, as in `culvert.grant.secrets.NAME`. The plugin never sees its bytes.
    #[config(
        name = "auth.secret",
        importance = "medium",
        group = "Who asks",
        example = "api"
    )]
    auth_secret: Option<String>,
    /// The user, where `auth` is `basic`.
    #[config(name = "auth.user", importance = "low", group = "Who asks")]
    auth_user: Option<String>,
    /// The header, where `auth` is `header`.
    #[config(
        name = "auth.header",
        default = "x-api-key",
        importance = "low",
        group = "Who asks"
    )]
    auth_header: String,
}

impl Settings {
    fn who_asks(&self) -> WhoAsks<'_> {
        WhoAsks {
            way: self.auth,
            secret: self.auth_secret.as_deref(),
            user: self.auth_user.as_deref(),
            header: &self.auth_header,
        }
    }
}

/// A resume point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Place {
    /// What the next answer is asked for with.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// The last whole answer: its `ETag`, and its checksum.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// An answer that was begun: its checksum, and how many of its records were brought in.
    #[serde(skip_serializing_if = "Option::is_none")]
    begun: Option<(String, usize)>,
}

/// The plugin.
struct HttpPoll {
    settings: Settings,
    credentials: Credentials,
    place: Place,
    /// Records of an answer that did not fit into a page, and where to go on behind the last of them.
    waiting: VecDeque<Record>,
    then: Place,
}

impl Source for HttpPoll {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .asks(&[
            Ask {
                what: Capability::Http,
                because: "asks the address",
            },
            Ask {
                what: Capability::Secrets,
                because: "proves who asks, where `auth` says so",
            },
        ])
        .optional(&[Capability::Secrets]);

    fn open(settings: Settings, resume: Vec<ResumePoint>) -> Result<HttpPoll, Failure> {
        let partition = partition(&settings.url);
        let place = match resume.iter().find(|point| point.partition == partition) {
            Some(point) => serde_json::from_str(&point.offset).map_err(|error| {
                Failure::fatal(format!(
                    "the resume point {} is none of this plugin: {error}",
                    point.offset
                ))
            })?,
            None => Place::default(),
        };
        Ok(HttpPoll {
            credentials: settings.who_asks().credentials()?,
            settings,
            then: Place::default(),
            place,
            waiting: VecDeque::new(),
        })
    }

    fn poll(&mut self, limits: Limits) -> Result<Page, Failure> {
        let before = self.place.clone();
        if self.waiting.is_empty() {
            self.ask()?;
        }
        let is_idle = self.waiting.is_empty();
        let records = self.take(limits);
        let mut page = Page::empty();
        if is_idle {
            page = page.idle(self.settings.interval);
        }
        if self.place != before {
            let offset =
                serde_json::to_string(&self.place).map_err(|error| Failure::fatal(error.to_string()))?;
            page.resume(partition(&self.settings.url), offset);
        }
        for Record { key, value } in records {
            let message = NewMessage::new(value).topic(self.settings.topic.as_str());
            page.add(match key {
                Some(key) => message.key(key),
                None => message,
            });
        }
        Ok(page)
    }

    fn check(settings: &Settings) -> Vec<Verdict> {
        let mut verdicts = settings.who_asks().check();
        let pointers = [
            ("records", Some(&settings.records)),
            ("key", settings.key.as_ref()),
            ("cursor.pointer", settings.cursor_pointer.as_ref()),
        ];
        for (name, pointer) in pointers {
            if pointer.is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
                verdicts.push(Verdict::error(
                    name,
                    "is no JSON pointer: it does not begin with `/`",
                ));
            }
        }
        verdicts
    }
}

impl HttpPoll {
    /// Asks for an answer. What it brought waits then.
    fn ask(&mut self) -> Result<(), Failure> {
        let mut request = Request::new(Method::Get, self.address())
            .header("accept", self.settings.accept.as_str())
            .timeout_ms(u32::try_from(self.settings.timeout.as_millis()).unwrap_or(u32::MAX));
        if let Some(etag) = self.place.etag.as_ref().filter(|_| self.place.begun.is_none()) {
            request = request.header("if-none-match", etag.as_str());
        }
        let answer = http::send(&[request], self.credentials.auth()).pop();
        let answer = answer.ok_or_else(|| Failure::retry("the gateway gave no answer"))??;
        match answer.status {
            200..=299 => self.read(&answer),
            304 => Ok(()),
            status @ (408 | 425 | 429 | 500..=599) => {
                let failure = Failure::retry(format!("{} answers {status}", self.settings.url));
                Err(match answer.retry_after() {
                    Some(pause) => failure.after(pause),
                    None => failure,
                })
            }
            status @ 300..=399 => {
                let to = answer.header("location").unwrap_or("nowhere");
                Err(Failure::fatal(format!(
                    "{} answers {status} and leads to {to}; redirects are not followed: set `url`",
                    self.settings.url
                )))
            }
            status => Err(Failure::fatal(format!("{} answers {status}", self.settings.url))),
        }
    }

    fn read(&mut self, answer: &Response) -> Result<(), Failure> {
        let checksum = answer::checksum(&answer.body);
        let is_known = self.place.seen.as_ref() == Some(&checksum) && self.place.begun.is_none();
        if answer.body.is_empty() || is_known {
            return Ok(());
        }
        let Reading { records, cursor } = answer::read(&answer.body, &self.settings)
            .map_err(|why| Failure::fatal(format!("{}: {why}", self.settings.url)))?;
        // Only of the same answer is it known which of its records were brought in.
        let done = match &self.place.begun {
            Some((begun, done)) if *begun == checksum => *done,
            _ => 0,
        };
        self.waiting = records.into_iter().skip(done).collect();
        self.then = Place {
            cursor: cursor.or_else(|| self.place.cursor.clone()),
            etag: answer.header("etag").map(str::to_owned),
            seen: Some(checksum.clone()),
            begun: None,
        };
        // With another cursor another address is asked, and what is known of this one means nothing there.
        if self.then.cursor != self.place.cursor {
            (self.then.etag, self.then.seen) = (None, None);
        }
        if self.waiting.is_empty() {
            self.place = self.then.clone();
        } else {
            self.place.begun = Some((checksum, done));
        }
        Ok(())
    }

    fn take(&mut self, limits: Limits) -> Vec<Record> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < limits.messages as usize
            && (taken.is_empty() || bytes < limits.bytes as usize)
            && let Some(record) = self.waiting.pop_front()
        {
            bytes += record.value.len();
            taken.push(record);
        }
        if !taken.is_empty() {
            match &mut self.place.begun {
                Some((_, done)) if !self.waiting.is_empty() => *done += taken.len(),
                _ => self.place = self.then.clone(),
            }
        }
        taken
    }

    fn address(&self) -> String {
        let url = &self.settings.url;
        match &self.place.cursor {
            Some(cursor) => {
                let joint = if url.contains('?') { '&' } else { '?' };
                format!(
                    "{url}{joint}{}={}",
                    answer::escaped(&self.settings.cursor_parameter),
                    answer::escaped(cursor)
                )
            }
            None => url.clone(),
        }
    }
}

fn partition(url: &str) -> String {
    serde_json::json!({ "url": url }).to_string()
}

culvert_plugin::export_source!(HttpPoll);

#[cfg(test)]
mod tests;
