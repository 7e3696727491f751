//! Requests to a registry, and what its statuses mean.

use super::Options;
use serde_json::Value;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use ureq::http::Request;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// How long connecting may take, and a whole request. A thread of a connector waits for it.
const CONNECT_MAX: Duration = Duration::from_secs(2);
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// The largest answer read: a schema, with room for what it is wrapped in.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How much of an answer that is not understood is told.
const TOLD_CHARS_MAX: usize = 300;

/// The authorities of this system, where they lie on Debian and on Red Hat.
const SYSTEM_AUTHORITIES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Who we are to a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody.
    #[default]
    None,
    /// User and password, between them a colon.
    Basic(String),
    /// A token.
    Bearer(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Auth::None => "None",
            Auth::Basic(_) => "Basic([hidden])",
            Auth::Bearer(_) => "Bearer([hidden])",
        })
    }
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that a registry's certificate may be of; those of the system where there is none.
    pub authorities: Option<PathBuf>,
    /// Our own certificate and key, both in one file.
    pub identity: Option<PathBuf>,
}

/// What a registry answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Ok(Value),
    /// There is no such subject, version or schema.
    NotFound(String),
    /// Not compatible.
    Conflict(String),
    /// No schema.
    Invalid(String),
}

pub(super) struct Client {
    agent: ureq::Agent,
    urls: Vec<String>,
    /// The address that answered last.
    at: AtomicUsize,
    authorization: Option<String>,
}

impl Client {
    pub(super) fn new(options: &Options) -> Result<Client, String> {
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(REQUEST_MAX))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None);
        if options.urls.iter().any(|url| url.starts_with("https://")) {
            config = config.tls_config(tls(&options.tls)?);
        }
        Ok(Client {
            agent: config.build().into(),
            urls: options
                .urls
                .iter()
                .map(|url| url.trim_end_matches('/').to_owned())
                .collect(),
            at: AtomicUsize::new(0),
            authorization: match &options.auth {
                Auth::None => None,
                Auth::Basic(user) => Some(format!("Basic {}", base64(user.as_bytes()))),
                Auth::Bearer(token) => Some(format!("Bearer {token}")),
            },
        })
    }

    /// One request, at the first address that answers.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, String> {
        let first = self.at.load(Ordering::Relaxed);
        let mut why = String::from("no address is given");
        for next in 0..self.urls.len() {
            let at = (first + next) % self.urls.len();
            match self.ask_at(&self.urls[at], method, path, body) {
                Ok(reply) => {
                    self.at.store(at, Ordering::Relaxed);
                    return Ok(reply);
                }
                Err(reason) => why = format!("{}{path}: {reason}", self.urls[at]),
            }
        }
        Err(why)
    }

    fn ask_at(&self, url: &str, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{url}{path}"))
            .header("Accept", format!("{MEDIA_TYPE}, application/json"));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let sent = match body {
            None => request.body(()).map(|request| self.agent.run(request)),
            Some(body) => request
                .header("Content-Type", MEDIA_TYPE)
                .body(body.to_string())
                .map(|request| self.agent.run(request)),
        };
        let sent = sent.map_err(|error| error.to_string())?;
        let mut response = sent.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let answer = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec();
        reply(status, &answer.map_err(|error| error.to_string())?)
    }
}

/// What a status means. An error that another address, or the same one later, may not have is the outer one.
pub(super) fn reply(status: u16, answer: &[u8]) -> Result<Reply, String> {
    let parsed: Option<Value> = serde_json::from_slice(answer).ok();
    let code = parsed.as_ref().and_then(|answer| answer["error_code"].as_u64());
    let told = parsed.as_ref().and_then(|answer| answer["message"].as_str());
    let told = told.map_or_else(|| String::from_utf8_lossy(answer).into_owned(), str::to_owned);
    let told: String = told.chars().take(TOLD_CHARS_MAX).collect();
    match (status, code) {
        (200..=299, _) => parsed
            .map(Reply::Ok)
            .ok_or_else(|| format!("answered {status}, and no JSON")),
        (404, Some(40_400..=40_499 | 404)) => Ok(Reply::NotFound(told)),
        (409, _) => Ok(Reply::Conflict(told)),
        (422, _) => Ok(Reply::Invalid(told)),
        (401 | 403, _) => Err(format!("refuses us with {status}: {told}")),
        _ => Err(format!("answered {status}: {told}")),
    }
}

fn tls(tls: &Tls) -> Result<TlsConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let authorities = match &tls.authorities {
        Some(path) => path.clone(),
        None => SYSTEM_AUTHORITIES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .ok_or("this system has no file of authorities: give ssl.truststore.location")?,
    };
    let (certificates, _) = pem(&authorities)?;
    config = config.root_certs(RootCerts::new_with_certs(&certificates));
    if let Some(path) = &tls.identity {
        let (certificates, key) = pem(path)?;
        let key = key.ok_or_else(|| format!("{} holds no private key", path.display()))?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&certificates, key)));
    }
    Ok(config.build())
}

fn pem(path: &Path) -> Result<(Vec<Certificate<'static>>, Option<PrivateKey<'static>>), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (mut certificates, mut key) = (Vec::new(), None);
    for item in parse_pem(&bytes) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(PemItem::PrivateKey(found)) => key = Some(found),
            Ok(_) => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok((certificates, key))
}

/// A path's segment.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            // Writing to a String does not fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit)) & 63;
            let is_there = digit <= chunk.len();
            out.push(if is_there {
                DIGITS[value as usize].into()
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let check = |status, answer: &str, expected: Result<Reply, &str>| {
            let found = reply(status, answer.as_bytes());
            assert_eq!(found, expected.map_err(str::to_owned), "{status} {answer}");
        };
        let because = |code: u32| format!("{{\"error_code\":{code},\"message\":\"because\"}}");
        check(200, "{\"id\":1}", Ok(Reply::Ok(serde_json::json!({"id": 1}))));
        check(200, "<html>", Err("answered 200, and no JSON"));
        check(404, &because(40_403), Ok(Reply::NotFound("because".into())));
        check(404, "no such page", Err("answered 404: no such page"));
        check(409, &because(409), Ok(Reply::Conflict("because".into())));
        check(422, &because(42_201), Ok(Reply::Invalid("because".into())));
        check(401, &because(401), Err("refuses us with 401: because"));
        check(500, &because(50_001), Err("answered 500: because"));
    }

    #[test]
    fn words_are_spelled_for_the_wire() {
        assert_eq!(escaped("shop.Order/ä-value"), "shop.Order%2F%C3%A4-value");
        for (plain, spelled) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("ann:x?>", "YW5uOng/Pg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), spelled, "{plain}");
        }
    }
}
