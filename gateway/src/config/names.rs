//! Names, and patterns that match them.

use std::fmt;
use std::net::SocketAddr;

/// The longest name of a connector. Its positions topic is `culvert.positions.<name>`, and a topic's name ends at
/// 249 bytes.
pub(super) const CONNECTOR_NAME_BYTES_MAX: usize = 200;

/// Whether `text` can name a site, a topic or a connector: Kafka's own rule for topics.
pub(super) fn is_plain(text: &str, bytes_max: usize) -> bool {
    !matches!(text, "" | "." | "..")
        && text.len() <= bytes_max
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A topic's name, or a pattern of names with `*` (any run of characters) and `?` (any one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Reads a name or a pattern: letters, digits, `.`, `_`, `-`, `*`, `?`.
    #[must_use]
    pub fn parse(text: &str) -> Option<TopicPattern> {
        let plain = text.replace(['*', '?'], "x");
        is_plain(&plain, culvert_proto::limits::NAME_BYTES_MAX).then(|| TopicPattern(text.to_owned()))
    }

    /// Whether `topic` is meant. Linear in both lengths for each `*`; never exponential.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let (pattern, topic) = (self.0.as_bytes(), topic.as_bytes());
        let (mut p, mut t, mut star) = (0, 0, None);
        while t < topic.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(&b) if b == b'?' || b == topic[t] => (p, t) = (p + 1, t + 1),
                _ => match star {
                    // Let the last star swallow one more character.
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        (p, t) = (at + 1, from + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|b| *b == b'*')
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a peer is dialled: `host:port`, where the host may be a name, an IPv4 or a bracketed IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// Reads `host:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Endpoint> {
        let (host, port) = text.rsplit_once(':')?;
        let port_is_good = port.parse::<u16>().is_ok_and(|port| port != 0);
        let host_is_good = text.parse::<SocketAddr>().is_ok() || is_host(host);
        (port_is_good && host_is_good).then(|| Endpoint(text.to_owned()))
    }

    /// As it was written, to be resolved anew at each attempt.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A DNS name, or the name of a container, which may hold underscores.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner)
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, topic, matches) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("orders-*", "orders-eu", true),
            ("orders-*", "orders-", true),
            ("*-eu", "orders-eu-eu", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("o?ders", "orders", true),
            ("*", "anything", true),
            ("a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(
                TopicPattern::parse(pattern).expect(pattern).matches(topic),
                matches,
                "{pattern} {topic}"
            );
        }
        for bad in ["", "a b", "ä", ".", "a/b"] {
            assert_eq!(TopicPattern::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn endpoints_need_a_host_and_a_port() {
        for (text, good) in [
            ("gw2.example.com:7443", true),
            ("culvert_2:7443", true),
            ("10.0.0.1:7443", true),
            ("[::1]:7443", true),
            ("gw2", false),
            ("gw2:0", false),
            ("gw2:70000", false),
            (":7443", false),
            ("::1:7443", false),
        ] {
            assert_eq!(Endpoint::parse(text).is_some(), good, "{text:?}");
        }
    }
}
