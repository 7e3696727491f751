//! Requests to granted addresses.

use super::Reach;
use crate::bindings::capabilities::culvert::plugin::http as contract;
use crate::grants::{Grants, Method, Request};
use crate::tape::{Taped, ask as ask_taped};
use contract::{Auth, Error, Response};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{AsSendBody, Body, http};

/// The most requests of one call.
const REQUESTS_MAX: usize = 16;

/// As long as a request may take that does not say.
const TIME_DEFAULT: Duration = Duration::from_secs(10);

/// The most bytes of a body, in either direction, and of all answers of one call.
const BODY_BYTES_MAX: u64 = 16 << 20;
const ANSWERS_BYTES_MAX: u64 = 64 << 20;

/// The most headers of a request, and their bytes. What servers commonly take.
const HEADERS_MAX: usize = 100;
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// What belongs to the connection and not to the request: with these, a server could be told of another host, or of
/// another end of the body than is sent.
const RESERVED: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
];

/// A request that may be made, or why it may not.
struct Asked {
    method: Method,
    url: Request,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    until: Instant,
}

impl contract::Host for Reach {
    fn send(
        &mut self,
        requests: Vec<contract::Request>,
        auth: Auth,
    ) -> wasmtime::Result<Vec<Result<Response, Error>>> {
        let tape = self.tape.clone();
        let told = self.told(&auth)?;
        let asked = ask_taped(tape.as_ref(), "http.send", |out| {
            requests.put(out);
            told.put(out);
        });
        asked.answer(|| self.reach_out(|reach| reach.send_all(requests, &auth)))
    }
}

impl Reach {
    fn send_all(
        &mut self,
        requests: Vec<contract::Request>,
        auth: &Auth,
    ) -> wasmtime::Result<Vec<Result<Response, Error>>> {
        let count = requests.len();
        if count > REQUESTS_MAX {
            wasmtime::bail!("http.send: {count} requests; at most {REQUESTS_MAX} at once");
        }
        let proof = match self.proof(auth)? {
            Ok(proof) => proof,
            Err(error) => return Ok(vec![Err(error); count]),
        };
        let cut = self.outside("http.send");
        let patience = self.patience();
        let asked: Vec<Result<Asked, Error>> = requests
            .into_iter()
            .map(|request| asked(&self.grants, request, proof.as_ref(), patience))
            .collect();
        let bytes_max = BODY_BYTES_MAX.min(ANSWERS_BYTES_MAX / count.max(1) as u64);
        let agent = match self.agent() {
            Ok(agent) => agent,
            Err(error) => return Ok(vec![Err(error); count]),
        };
        let answer = |asked: Result<Asked, Error>| asked.and_then(|asked| ask(agent, asked, bytes_max));
        let answers = if count == 1 {
            asked.into_iter().map(answer).collect()
        } else {
            side_by_side(asked, answer)
        };
        // Cut off here, the requests were received, and nobody is left whom the answers could reach.
        cut.map(|()| answers)
    }
}

/// All at the same time.
fn side_by_side(
    asked: Vec<Result<Asked, Error>>,
    answer: impl Fn(Result<Asked, Error>) -> Result<Response, Error> + Copy + Send,
) -> Vec<Result<Response, Error>> {
    thread::scope(|scope| {
        let running: Vec<_> = asked
            .into_iter()
            .map(|asked| scope.spawn(move || answer(asked)))
            .collect();
        let lost = |_| Err(Error::Network("the request was lost".into()));
        running
            .into_iter()
            .map(|one| one.join().unwrap_or_else(lost))
            .collect()
    })
}

impl Reach {
    /// How a request proves who asks, without the secret: the way, a user or a header, the secret's name.
    fn told(&self, auth: &Auth) -> wasmtime::Result<Vec<String>> {
        let (way, of, secret) = match auth {
            Auth::None => return Ok(Vec::new()),
            Auth::Bearer(secret) => ("bearer", "", secret),
            Auth::Basic((user, secret)) => ("basic", user.as_str(), secret),
            Auth::Header((name, secret)) => ("header", name.as_str(), secret),
        };
        let handle = self.handles.get(secret)?;
        Ok(vec![way.into(), of.into(), handle.name.clone()])
    }

    /// The header that proves who asks.
    fn proof(&self, auth: &Auth) -> wasmtime::Result<Result<Option<(HeaderName, HeaderValue)>, Error>> {
        let (name, secret, before) = match auth {
            Auth::None => return Ok(Ok(None)),
            Auth::Bearer(secret) => (header::AUTHORIZATION, secret, "Bearer "),
            Auth::Basic((_, secret)) => (header::AUTHORIZATION, secret, "Basic "),
            Auth::Header((name, secret)) => match header_name(name) {
                Ok(name) => (name, secret, ""),
                Err(error) => return Ok(Err(error)),
            },
        };
        let handle = self.handles.get(secret)?;
        let mut value = before.as_bytes().to_vec();
        match auth {
            Auth::Basic((user, _)) => {
                let pair = [user.as_bytes(), b":", handle.bytes.expose()].concat();
                value.extend_from_slice(base64(&pair).as_bytes());
            }
            _ => value.extend_from_slice(handle.bytes.expose()),
        }
        let unfit = |_| Error::Network(format!("secret {} does not fit into a header", handle.name));
        Ok(HeaderValue::from_bytes(&value).map_err(unfit).map(|mut value| {
            value.set_sensitive(true);
            Some((name, value))
        }))
    }

    fn agent(&mut self) -> Result<&ureq::Agent, Error> {
        if self.client.is_none() {
            self.client = Some(agent(&self.grants)?);
        }
        self.client
            .as_ref()
            .ok_or_else(|| Error::Network("there is no client".into()))
    }
}

/// A client that does what it is told and nothing by itself: no redirects, no proxy of the environment.
fn agent(grants: &Grants) -> Result<ureq::Agent, Error> {
    let mut authorities = system_authorities().to_vec();
    authorities.extend(own_authorities(&grants.http_authorities).map_err(Error::Network)?);
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(authorities)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Ok(ureq::Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_response_header_size(HEADER_BYTES_MAX)
        .user_agent(concat!("culvert/", env!("CARGO_PKG_VERSION")))
        .max_idle_connections(REQUESTS_MAX)
        .build()
        .new_agent())
}

/// Whether these are certificates in PEM.
///
/// # Errors
/// Why not.
pub fn check_authorities(pem: &[u8]) -> Result<(), String> {
    let found = own_authorities(pem)?;
    if found.is_empty() {
        return Err("there is no certificate in it".into());
    }
    Ok(())
}

fn own_authorities(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let certificate = |item: Result<PemItem<'static>, ureq::Error>| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(error.to_string())),
    };
    parse_pem(pem).filter_map(certificate).collect()
}

/// What this machine trusts, read once.
fn system_authorities() -> &'static [Certificate<'static>] {
    static READ: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    READ.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let owned = |der: &[u8]| Certificate::from_der(der).to_owned();
        found.certs.iter().map(|der| owned(der)).collect()
    })
}

fn asked(
    grants: &Grants,
    request: contract::Request,
    proof: Option<&(HeaderName, HeaderValue)>,
    patience: Duration,
) -> Result<Asked, Error> {
    let method = match request.method {
        contract::Method::Get => Method::Get,
        contract::Method::Head => Method::Head,
        contract::Method::Post => Method::Post,
        contract::Method::Put => Method::Put,
        contract::Method::Patch => Method::Patch,
        contract::Method::Delete => Method::Delete,
    };
    let url = Request::parse(&request.url).map_err(Error::Denied)?;
    if !grants.http.iter().any(|grant| grant.allows(method, &url)) {
        return Err(Error::Denied(format!("{} {url}", method.word())));
    }
    if request
        .body
        .as_ref()
        .is_some_and(|body| body.len() as u64 > BODY_BYTES_MAX)
    {
        return Err(Error::TooLarge);
    }
    let mut headers = headers(&request.headers)?;
    if let Some((name, value)) = proof {
        headers.insert(name.clone(), value.clone());
    }
    let wished = request
        .timeout_ms
        .map_or(TIME_DEFAULT, |ms| Duration::from_millis(ms.into()));
    Ok(Asked {
        method,
        url,
        headers,
        body: request.body,
        until: Instant::now() + wished.min(patience),
    })
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, Error> {
    let bytes: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if given.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(Error::TooLarge);
    }
    let mut headers = HeaderMap::with_capacity(given.len());
    for (name, text) in given {
        let value = HeaderValue::from_str(text);
        let value = value.map_err(|_| Error::Denied(format!("a value that header {name:?} cannot have")))?;
        headers.append(header_name(name)?, value);
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    let denied = || Error::Denied(format!("header {name:?}"));
    let parsed: HeaderName = name.parse().map_err(|_| denied())?;
    let is_reserved = RESERVED.contains(&parsed.as_str()) || parsed.as_str().starts_with("proxy-");
    if is_reserved { Err(denied()) } else { Ok(parsed) }
}

fn ask(agent: &ureq::Agent, mut asked: Asked, bytes_max: u64) -> Result<Response, Error> {
    match asked.body.take() {
        Some(body) => make(agent, asked, body, bytes_max),
        // An empty body has a length, which servers want to see.
        None if matches!(asked.method, Method::Post | Method::Put | Method::Patch) => {
            make(agent, asked, Vec::new(), bytes_max)
        }
        None => make(agent, asked, (), bytes_max),
    }
}

fn make(agent: &ureq::Agent, asked: Asked, body: impl AsSendBody, bytes_max: u64) -> Result<Response, Error> {
    let left = asked.until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::Timeout);
    }
    let request = http::Request::builder()
        .method(asked.method.word())
        .uri(asked.url.uri().clone())
        .body(body);
    let mut request = request.map_err(|error| Error::Network(error.to_string()))?;
    *request.headers_mut() = asked.headers;
    let request = agent
        .configure_request(request)
        .timeout_global(Some(left))
        .build();
    let answer = agent.run(request).map_err(error)?;
    read(answer, bytes_max)
}

fn read(answer: http::Response<Body>, bytes_max: u64) -> Result<Response, Error> {
    let (head, mut body) = answer.into_parts();
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    Ok(Response {
        status: head.status.as_u16(),
        headers: head.headers.iter().filter_map(text).collect(),
        body: body.with_config().limit(bytes_max).read_to_vec().map_err(error)?,
    })
}

fn error(error: ureq::Error) -> Error {
    match error {
        ureq::Error::Timeout(_) => Error::Timeout,
        ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => Error::TooLarge,
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Error::Timeout,
        other => Error::Network(other.to_string()),
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), expected, "{plain}");
        }
    }

    #[test]
    fn a_header_cannot_speak_for_the_connection_or_hold_another_one() {
        let check = |name: &str, value: &str, is_taken: bool| {
            let given = [(name.to_owned(), value.to_owned())];
            assert_eq!(headers(&given).is_ok(), is_taken, "{name:?}: {value:?}");
        };
        check("accept", "application/json", true);
        check("X-Trace", "a\tb", true);
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "proxy-authorization",
            "TE",
        ] {
            check(name, "x", false);
        }
        check("x-a", "1\r\nhost: evil.example", false);
        check("x-a", "1\nx", false);
        check("x-a\r\nhost", "x", false);
        check("x a", "x", false);
        check("", "x", false);
        check("x-long", &"x".repeat(HEADER_BYTES_MAX), false);
    }
}
