//! Requests to the addresses that were granted, by scheme, host, port, path and method. Redirects are not followed.
//! Needs a grant.

use crate::Failure;
use crate::secrets::Secret;
use std::time::Duration;

pub use crate::bindings::capabilities::culvert::plugin::http::{Error, Method, Request, Response};

/// What the gateway puts on the wire to prove who asks.
#[derive(Clone, Copy)]
pub enum Auth<'a> {
    /// Nothing.
    None,
    /// `Authorization: Bearer …`.
    Bearer(&'a Secret),
    /// User and password.
    Basic(&'a str, &'a Secret),
    /// Name and value of a header.
    Header(&'a str, &'a Secret),
}

/// What proves who asks, kept from `open` on.
pub enum Credentials {
    /// Nothing does.
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// User and password.
    Basic(String, Secret),
    /// Name and value of a header.
    Header(String, Secret),
}

impl Credentials {
    /// For one `send`.
    #[must_use]
    pub fn auth(&self) -> Auth<'_> {
        match self {
            Credentials::None => Auth::None,
            Credentials::Bearer(secret) => Auth::Bearer(secret),
            Credentials::Basic(user, secret) => Auth::Basic(user, secret),
            Credentials::Header(name, secret) => Auth::Header(name, secret),
        }
    }
}

impl Response {
    /// The first header of this name, whatever its capitals.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// How long the server wants to be left alone, at most an hour. A date in its place is not read.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(3_600)))
    }
}

impl Request {
    /// A request without headers or body, which takes 10 s at most.
    pub fn new(method: Method, url: impl Into<String>) -> Request {
        Request {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: None,
            timeout_ms: None,
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Request {
        Request {
            body: Some(body.into()),
            ..self
        }
    }

    /// With a time-out; what is left of the call's own time always wins.
    #[must_use]
    pub fn timeout_ms(self, timeout_ms: u32) -> Request {
        Request {
            timeout_ms: Some(timeout_ms),
            ..self
        }
    }
}

/// Up to 16 requests, made at the same time; one answer for each, in order.
#[must_use]
pub fn send(requests: &[Request], auth: Auth<'_>) -> Vec<Result<Response, Error>> {
    #[cfg(target_family = "wasm")]
    {
        use crate::bindings::capabilities::culvert::plugin::http;
        let auth = match auth {
            Auth::None => http::Auth::None,
            Auth::Bearer(secret) => http::Auth::Bearer(&secret.handle),
            Auth::Basic(user, secret) => http::Auth::Basic((user.to_owned(), &secret.handle)),
            Auth::Header(name, secret) => http::Auth::Header((name.to_owned(), &secret.handle)),
        };
        http::send(requests, &auth)
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::fake::http(requests, auth)
}

/// What was not granted needs a person; all else heals by waiting.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Denied(what) => Failure::fatal(format!("{what} was not granted to this connector")),
            Error::Timeout => Failure::retry("the request took too long"),
            Error::TooLarge => Failure::fatal("the answer is above 16 MiB"),
            Error::Network(what) => Failure::retry(what),
        }
    }
}
