//! What a gateway is called, and how its certificate says so.

use super::Error;
use culvert_proto::limits::NAME_BYTES_MAX;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of one gateway, as its certificate states it.
///
/// It stands in the certificate twice: as the path of the SPIFFE URI (what is verified) and as a DNS name (what a
/// dialler asks for, SNI). Hence the shape: lower-case DNS labels of `a-z`, `0-9` and inner `-`, at most
/// [`NAME_BYTES_MAX`] bytes, the last label not all digits, so that it can never be taken for an IP address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Name, Error> {
        let last = text.rsplit('.').next().unwrap_or_default();
        let fits = text.len() <= NAME_BYTES_MAX
            && text.split('.').all(is_label)
            && !last.bytes().all(|byte| byte.is_ascii_digit());
        if fits {
            Ok(Name(text.into()))
        } else {
            Err(Error::Name {
                name: text.to_owned(),
            })
        }
    }
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&label.len())
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The authority that names belong to: the host part of every SPIFFE URI of one installation.
///
/// `a-z`, `0-9`, `.`, `-` and `_`, at most 255 bytes (SPIFFE ID, section 2.1).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The trust domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URI that identifies `gateway` in its certificate.
    #[must_use]
    pub fn uri(&self, gateway: &Name) -> String {
        format!("spiffe://{self}/{gateway}")
    }

    /// The gateway that `uri` names in this trust domain, if it names one.
    #[must_use]
    pub fn gateway_of(&self, uri: &str) -> Option<Name> {
        uri.strip_prefix("spiffe://")?
            .strip_prefix(self.as_str())?
            .strip_prefix('/')?
            .parse()
            .ok()
    }
}

impl FromStr for TrustDomain {
    type Err = Error;

    fn from_str(text: &str) -> Result<TrustDomain, Error> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if (1..=255).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(TrustDomain(text.into()))
        } else {
            Err(Error::TrustDomain {
                name: text.to_owned(),
            })
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_names_in_lower_case_and_never_addresses() {
        for good in ["north", "gw-1.north", "a", "1.b", "x9"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "a.",
            "-a",
            "a-",
            "North",
            "a_b",
            "a/b",
            "10.0.0.1",
            "7",
            "ä",
            long.as_str(),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_uri_names_a_gateway_of_its_own_trust_domain_only() {
        let domain: TrustDomain = "example.org".parse().unwrap();
        let north: Name = "north".parse().unwrap();
        assert_eq!(domain.uri(&north), "spiffe://example.org/north");
        assert_eq!(domain.gateway_of("spiffe://example.org/north"), Some(north));
        for other in [
            "spiffe://example.org.evil/north",
            "spiffe://other/north",
            "https://example.org/north",
            "spiffe://example.org/",
            "spiffe://example.org",
            "spiffe://example.org/a/b",
            "spiffe://example.org/north?x",
        ] {
            assert_eq!(domain.gateway_of(other), None, "{other}");
        }
    }
}
