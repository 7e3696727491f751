#![doc = include_str!("../README.md")]

use culvert_plugin::clock;
use culvert_plugin::http::{self, Credentials, Method, Request, Response};
use culvert_plugin::prelude::*;
use culvert_plugin::sink::{Batch, Message, PutError, Refusal, Sink, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use who_asks::{Way, WhoAsks};

/// After so long a call gives way, and is made again for what is left. By eye: a part of the 10 s that a call has.
const CALL_MS_MAX: i64 = 3_000;

/// The pause behind a failure where the server took something before it. Where it took nothing, the gateway's pause grows.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest part of a server's answer that a dead letter quotes.
const QUOTE_BYTES_MAX: usize = 200;

/// The settings.
#[derive(Config)]
struct Settings {
    /// The address that records are sent to.
    #[config(
        url = ["http", "https"], importance = "high", grants = ["http.post", "http.put", "http.patch"],
        example = "https://api.example.org/v1/orders"
    )]
    url: String,
    /// The method.
    #[config(default = "post", importance = "medium")]
    method: Verb,
    /// What one request holds.
    #[config(default = "record", importance = "high")]
    send: Unit,
    /// The `Content-Type` header.
    #[config(
        name = "content.type",
        default = "application/json",
        non_empty,
        importance = "medium"
    )]
    content_type: String,
    /// How long an answer may take; what is left of a call's own time always wins.
    #[config(default = "10s", importance = "low")]
    timeout: Duration,
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

/// The method.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Verb {
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
}

/// What one request holds.
#[derive(Choice, Clone, Copy, PartialEq)]
enum Unit {
    /// The value of one record.
    Record,
    /// A JSON array with the values of up to 500 records.
    Batch,
}

/// The plugin.
struct HttpSink {
    settings: Settings,
    credentials: Credentials,
    /// What the server took of a `put` that was not finished, by stream: the gateway makes the same call again. Only for as
    /// long as the instance lives; the key of each request is what makes sending it twice harmless.
    taken: BTreeMap<String, BTreeSet<u64>>,
    /// When the call gives way.
    until_ms: i64,
}

/// One request: its messages of one batch.
struct Parcel<'a> {
    batch: &'a Batch,
    /// The number of the batch in the call.
    number: usize,
    /// Which of its messages, ascending.
    messages: &'a [usize],
}

/// What the server made of a request.
enum Told {
    Taken,
    Refused(Rejection),
}

impl Sink for HttpSink {
    type Config = Settings;

    const ABOUT: About = culvert_plugin::about!()
        .documentation(include_str!("../README.md"))
        .promises(Promises::IDEMPOTENT)
        .asks(&[
            Ask {
                what: Capability::Http,
                because: "sends records to the address",
            },
            Ask {
                what: Capability::Secrets,
                because: "proves who sends, where `auth` says so",
            },
        ])
        .optional(&[Capability::Secrets]);

    fn open(settings: Settings, _writer: Vec<u8>) -> Result<(HttpSink, Vec<Token>), Failure> {
        let sink = HttpSink {
            credentials: settings.who_asks().credentials()?,
            settings,
            taken: BTreeMap::new(),
            until_ms: 0,
        };
        Ok((sink, Vec::new()))
    }

    fn put(&mut self, batches: Vec<Batch>, _tokens: Vec<Token>) -> Result<(), PutError> {
        self.until_ms = clock::now_ms() + CALL_MS_MAX;
        let taken_before = self.taken();
        let mut refusals = Vec::new();
        match self.send(&batches, &mut refusals) {
            // What is known to be refused is not asked for again.
            _ if !refusals.is_empty() => Err(PutError::Refused(refusals)),
            Ok(()) => {
                self.taken.clear();
                Ok(())
            }
            Err(Failure::Retry(later)) if later.after_ms.is_none() && self.taken() > taken_before => {
                Err(Failure::Retry(later).after(PAUSE).into())
            }
            Err(failure) => Err(failure.into()),
        }
    }

    fn check(settings: &Settings) -> Vec<Verdict> {
        settings.who_asks().check()
    }
}

impl HttpSink {
    /// How many records of this `put` the server took.
    fn taken(&self) -> usize {
        self.taken.values().map(BTreeSet::len).sum()
    }

    fn send(&mut self, batches: &[Batch], refusals: &mut Vec<Refusal>) -> Result<(), Failure> {
        for (number, batch) in batches.iter().enumerate() {
            let taken = self.taken.get(&batch.stream);
            let is_left = |index: &usize| taken.is_none_or(|taken| !taken.contains(&sequence(batch, *index)));
            let left: Vec<usize> = (0..batch.messages.len()).filter(is_left).collect();
            let size = match self.settings.send {
                Unit::Record => 1,
                Unit::Batch => left.len().max(1),
            };
            for messages in left.chunks(size) {
                let parcel = Parcel {
                    batch,
                    number,
                    messages,
                };
                self.deliver(&parcel, refusals)?;
            }
        }
        Ok(())
    }

    /// Sends a parcel. One of several messages that is refused is cut in halves, until those at fault stand alone.
    fn deliver(&mut self, parcel: &Parcel<'_>, refusals: &mut Vec<Refusal>) -> Result<(), Failure> {
        if clock::now_ms() >= self.until_ms {
            let more = Failure::retry(format!("{} has more to take", self.settings.url));
            return Err(more.after(Duration::ZERO));
        }
        let why = match self.body(parcel) {
            Ok(body) => match self.ask(&parcel.key(), body)? {
                Told::Taken => {
                    let taken = self.taken.entry(parcel.batch.stream.clone()).or_default();
                    taken.extend(parcel.messages.iter().map(|index| sequence(parcel.batch, *index)));
                    return Ok(());
                }
                Told::Refused(why) => why,
            },
            Err(why) => why,
        };
        if let [alone] = parcel.messages {
            refusals.push(Refusal::new(parcel.number, *alone, why));
            return Ok(());
        }
        let (before, behind) = parcel.messages.split_at(parcel.messages.len() / 2);
        for messages in [before, behind] {
            self.deliver(&Parcel { messages, ..*parcel }, refusals)?;
        }
        Ok(())
    }

    fn body(&self, parcel: &Parcel<'_>) -> Result<Vec<u8>, Rejection> {
        let mut values = parcel
            .messages
            .iter()
            .map(|index| value(&parcel.batch.messages[*index]));
        match self.settings.send {
            Unit::Record => values.next().unwrap_or(Ok(&[])).map(<[u8]>::to_vec),
            Unit::Batch => {
                let mut body = Vec::from(*b"[");
                for value in values {
                    let value = value?;
                    if serde_json::from_slice::<serde::de::IgnoredAny>(value).is_err() {
                        return Err(Rejection::new("not-json", "an array holds JSON only"));
                    }
                    if body.len() > 1 {
                        body.push(b',');
                    }
                    body.extend_from_slice(value);
                }
                body.push(b']');
                Ok(body)
            }
        }
    }

    fn ask(&self, key: &str, body: Vec<u8>) -> Result<Told, Failure> {
        let method = match self.settings.method {
            Verb::Post => Method::Post,
            Verb::Put => Method::Put,
            Verb::Patch => Method::Patch,
        };
        let request = Request::new(method, self.settings.url.as_str())
            .header("content-type", self.settings.content_type.as_str())
            .header("idempotency-key", key)
            .body(body)
            .timeout_ms(u32::try_from(self.settings.timeout.as_millis()).unwrap_or(u32::MAX));
        let answer = match http::send(&[request], self.credentials.auth()).pop() {
            Some(Err(http::Error::TooLarge)) => {
                return Ok(Told::Refused(Rejection::new(
                    "too-large",
                    "it is above 16 MiB, or its answer is",
                )));
            }
            Some(answer) => answer?,
            None => return Err(Failure::retry("the gateway gave no answer")),
        };
        match answer.status {
            200..=299 => Ok(Told::Taken),
            408 | 425 | 429 | 500..=599 => {
                let failure = Failure::retry(format!("{} answers {}", self.settings.url, quote(&answer)));
                Err(match answer.retry_after() {
                    Some(pause) => failure.after(pause),
                    None => failure,
                })
            }
            // What is wrong with who asks or where is not the record's fault.
            300..=399 | 401 | 403 | 404 | 405 | 407 => Err(Failure::fatal(format!(
                "{} answers {}",
                self.settings.url,
                quote(&answer)
            ))),
            status => {
                let code = format!("http-{status}");
                Ok(Told::Refused(Rejection::new(
                    code,
                    format!("the server answers {}", quote(&answer)),
                )))
            }
        }
    }
}

impl Parcel<'_> {
    /// Stream and sequence name a record for ever, and so do the first and last of several.
    fn key(&self) -> String {
        let stream = escaped(&self.batch.stream);
        match self.messages {
            [] => stream,
            [one] => format!("{stream}/{}", sequence(self.batch, *one)),
            [first, .., last] => {
                format!(
                    "{stream}/{}-{}",
                    sequence(self.batch, *first),
                    sequence(self.batch, *last)
                )
            }
        }
    }
}

fn sequence(batch: &Batch, index: usize) -> u64 {
    batch
        .sequences
        .get(index)
        .copied()
        .unwrap_or(batch.from + index as u64)
}

fn value(message: &Message) -> Result<&[u8], Rejection> {
    let value = message.value.as_deref();
    value.ok_or_else(|| Rejection::new("no-value", "a tombstone has nothing to send"))
}

/// What a header can hold.
fn escaped(stream: &str) -> String {
    let mut escaped = String::with_capacity(stream.len());
    for byte in stream.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Status and the beginning of the body, where it is text.
fn quote(answer: &Response) -> String {
    let body = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
    let body = &body[..body.floor_char_boundary(QUOTE_BYTES_MAX)];
    match (answer.header("location"), body) {
        (Some(to), _) => format!("{} and leads to {to}; redirects are not followed", answer.status),
        (None, "") => answer.status.to_string(),
        (None, body) => format!("{}: {body}", answer.status),
    }
}

culvert_plugin::export_sink!(HttpSink);

#[cfg(test)]
mod tests;
