//! Which requests a plugin may make.
//!
//! A URL is read once, by the reader of the client that sends it, and compared part by part: what was allowed and what goes
//! out are the same value. What several readers could understand differently (users, dots, escaped slashes) is refused
//! rather than put right.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use ureq::http::Uri;
use ureq::http::uri::{PathAndQuery, Scheme};

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the usual ones")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    const ALL: [Method; 6] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Patch,
        Method::Delete,
    ];

    /// As it stands on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }

    /// Reads its word, in capitals or not.
    #[must_use]
    pub fn parse(word: &str) -> Option<Method> {
        let is_it = |method: &Method| method.word().eq_ignore_ascii_case(word);
        Method::ALL.into_iter().find(is_it)
    }
}

/// Methods and the addresses they may be used on: `GET,POST https://host:port/path/*`. Without `*` the path is meant as it
/// stands, with any query; with `*` at its end, everything that begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressGrant {
    methods: Vec<Method>,
    target: Target,
    is_prefix: bool,
}

/// A URL that was read, and passed what is asked of every URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    target: Target,
    uri: Uri,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    is_secure: bool,
    host: Host,
    port: u16,
    path: String,
}

/// A name is compared by its letters, an IPv6 address by its number. All other spellings of an IPv4 address than the usual
/// one are names that nobody granted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    V6(Ipv6Addr),
}

impl AddressGrant {
    /// Reads a grant.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<AddressGrant, String> {
        let Some((methods, address)) = text.trim().split_once(char::is_whitespace) else {
            return Err(format!("{text:?} does not name methods and an address"));
        };
        let methods = methods
            .split(',')
            .map(|word| Method::parse(word).ok_or_else(|| format!("{word:?} is no method")))
            .collect::<Result<Vec<_>, _>>()?;
        AddressGrant::of(methods, address.trim())
    }

    /// These methods on `address`.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn of(methods: Vec<Method>, address: &str) -> Result<AddressGrant, String> {
        let (address, is_prefix) = match address.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (address, false),
        };
        if address.contains('*') {
            return Err(format!("{address:?} has a '*' that is not its end"));
        }
        let Request { target, uri } = Request::parse(address)?;
        if is_prefix && uri.query().is_some() {
            return Err(format!("{address:?} has a query, which a '*' cannot follow"));
        }
        // `https://host*` would be every host that begins so.
        if is_prefix && !has_path(address) {
            return Err(format!("{address:?} has no path; write a '/' before the '*'"));
        }
        Ok(AddressGrant {
            methods,
            target,
            is_prefix,
        })
    }

    /// Whether the request may be made.
    #[must_use]
    pub fn allows(&self, method: Method, request: &Request) -> bool {
        let (granted, asked) = (&self.target, &request.target);
        let fits = if self.is_prefix {
            asked.path.starts_with(&granted.path)
        } else {
            asked.path == granted.path
        };
        self.methods.contains(&method)
            && granted.is_secure == asked.is_secure
            && granted.host == asked.host
            && granted.port == asked.port
            && fits
    }
}

impl fmt::Display for AddressGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods: Vec<&str> = self.methods.iter().map(|method| method.word()).collect();
        let end = if self.is_prefix { "*" } else { "" };
        write!(f, "{} {}{end}", methods.join(","), self.target)
    }
}

impl Request {
    /// Reads a URL.
    ///
    /// # Errors
    /// Why it is none that may be asked for.
    pub fn parse(url: &str) -> Result<Request, String> {
        if url.len() > URL_BYTES_MAX {
            return Err(format!("the address is longer than {URL_BYTES_MAX} bytes"));
        }
        let refuse = |why: &str| Err(format!("{url:?} {why}"));
        if url.contains('#') {
            return refuse("has a fragment");
        }
        let Ok(uri) = url.parse::<Uri>() else {
            return refuse("is no address; names beyond ASCII are written as xn--…");
        };
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return refuse("is neither http nor https"),
        };
        let Some(authority) = uri.authority() else {
            return refuse("names no host");
        };
        if authority.as_str().contains('@') {
            return refuse("names a user; a secret goes into `auth`");
        }
        let Some(host) = host(authority.host()) else {
            return refuse("has a host that is none");
        };
        // A port that is no number is one that `Uri` leaves out.
        let port = match (
            authority.as_str().strip_prefix(authority.host()),
            authority.port_u16(),
        ) {
            (Some(""), _) => u16::from(is_secure) * (443 - 80) + 80,
            (Some(_), Some(port)) if port > 0 => port,
            _ => return refuse("has a port that is none"),
        };
        let path = uri.path_and_query().map_or("/", PathAndQuery::path).to_owned();
        if !is_plain(&path) {
            return refuse("has a path with '.', '..', an empty part or an escaped '/', '\\' or '.'");
        }
        let target = Target {
            is_secure,
            host,
            port,
            path,
        };
        Ok(Request { target, uri })
    }

    /// What is sent.
    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }
}

/// Without its query, which may hold what is nobody's business.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        let Target { host, port, path, .. } = self;
        match host {
            Host::Name(name) => write!(f, "{scheme}://{name}:{port}{path}"),
            Host::V6(address) => write!(f, "{scheme}://[{address}]:{port}{path}"),
        }
    }
}

fn host(text: &str) -> Option<Host> {
    if let Some(inner) = text.strip_prefix('[') {
        return inner.strip_suffix(']')?.parse().ok().map(Host::V6);
    }
    let name = text.to_ascii_lowercase();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty() || !name.bytes().all(is_plain) {
        return None;
    }
    // What a resolver may read as a number is compared only in its usual spelling.
    let looks_numeric = name
        .rsplit('.')
        .find(|part| !part.is_empty())
        .is_some_and(|last| last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit()));
    if looks_numeric && name.parse::<IpAddr>().is_err() {
        return None;
    }
    Some(Host::Name(name))
}

fn has_path(address: &str) -> bool {
    address
        .split_once("://")
        .is_some_and(|(_, rest)| rest.contains('/'))
}

/// Whether every server reads the path as the same one.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let tricks = ["%2e", "%2f", "%5c", "%00", "\\", "//"];
    let mut parts = path.split('/');
    !tricks.iter().any(|trick| lower.contains(trick)) && !parts.any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(grant: &str, method: Method, url: &str, expected: bool) {
        let grant = AddressGrant::parse(grant).expect(grant);
        let is_allowed = Request::parse(url).is_ok_and(|request| grant.allows(method, &request));
        assert_eq!(is_allowed, expected, "{grant} for {url:?}");
    }

    #[test]
    fn a_request_is_compared_part_by_part() {
        let grant = "GET,POST https://api.example.org/v1/*";
        let is_get = |url, expected| check(grant, Method::Get, url, expected);
        is_get("https://api.example.org/v1/orders?since=../..", true);
        is_get("https://API.example.org:443/v1/", true);
        check(grant, Method::Post, "https://api.example.org/v1/x", true);
        check(grant, Method::Delete, "https://api.example.org/v1/x", false);
        for other in [
            "http://api.example.org/v1/x",
            "https://api.example.org:8443/v1/x",
            "https://api.example.org/v2/x",
            "https://api.example.org/v1",
            "https://api.example.org.evil.example/v1/x",
            "https://evil.example/v1/x",
            "https://api.example.org./v1/x",
            "ftp://api.example.org/v1/x",
            "/v1/x",
        ] {
            is_get(other, false);
        }
        let exact = "GET https://api.example.org/v1/orders";
        check(
            exact,
            Method::Get,
            "https://api.example.org/v1/orders?page=2",
            true,
        );
        check(exact, Method::Get, "https://api.example.org/v1/orders/7", false);
    }

    #[test]
    fn spellings_that_others_may_read_differently_are_refused() {
        for trick in [
            "https://api.example.org@evil.example/v1/x",
            "https://evil.example@api.example.org/v1/x",
            "https://u:p@api.example.org/v1/x",
            "https://api.example.org/v1/../admin",
            "https://api.example.org/v1/./x",
            "https://api.example.org/v1/%2e%2e/admin",
            "https://api.example.org/v1/..%2fadmin",
            "https://api.example.org/v1/%5c..%5cadmin",
            "https://api.example.org/v1//evil.example/x",
            "https://api.example.org/v1/\\evil.example",
            "https://api.example.org\\@evil.example/v1/x",
            "https://api.example.org/v1/x\r\nHost: evil.example",
            "https://api.example.org/v1/x y",
            "https://api.example.org/v1/x#y",
            "https://api.example.org:0443x/v1/x",
            "https://api.example.org:/v1/x",
            "https://api.example.org:0/v1/x",
            "https://api.ex\u{e4}mple.org/v1/x",
            "https://api.example.org\u{3002}evil.example/v1/x",
            "https://[::ffff/v1/x",
        ] {
            check("GET https://api.example.org/*", Method::Get, trick, false);
        }
    }

    #[test]
    fn addresses_of_numbers_are_compared_as_numbers() {
        let v6 = "GET http://[::1]:8080/*";
        check(v6, Method::Get, "http://[0:0:0:0:0:0:0:1]:8080/a", true);
        check(v6, Method::Get, "http://[::ffff:127.0.0.1]:8080/a", false);
        let v4 = "GET http://127.0.0.1/*";
        check(v4, Method::Get, "http://127.0.0.1/a", true);
        for other in [
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "127.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "localhost",
        ] {
            check(v4, Method::Get, &format!("http://{other}/a"), false);
        }
    }

    #[test]
    fn a_grant_that_means_more_than_it_says_is_none() {
        for wrong in [
            "https://example.org/",
            "GET",
            "FETCH https://example.org/",
            "GET https://*.example.org/",
            "GET https://example.org*",
            "GET https://user@example.org/",
            "GET file:///etc/passwd",
            "GET https://example.org/a?b=*",
        ] {
            assert!(AddressGrant::parse(wrong).is_err(), "{wrong}");
        }
        let shown = AddressGrant::parse("get https://Example.org/a/*").map(|grant| grant.to_string());
        assert_eq!(shown.as_deref(), Ok("GET https://example.org:443/a/*"));
    }
}
