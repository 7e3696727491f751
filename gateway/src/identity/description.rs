//! What stands in a certificate, for people and for our own checks.

use culvert_proto::hex::hex;
use serde::Serialize;
use std::net::IpAddr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The parts of a certificate that matter here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// The subject as one line.
    pub subject: String,
    /// The issuer as one line.
    pub issuer: String,
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Address names.
    pub addresses: Vec<IpAddr>,
    /// First moment, RFC 3339, UTC.
    pub not_before: String,
    /// Last moment, RFC 3339, UTC.
    pub not_after: String,
    /// Whether it may sign other certificates.
    pub authority: bool,
    /// Whether its holder may dial.
    pub client: bool,
    /// Whether its holder may be dialled.
    pub server: bool,
    /// SHA-256 over the DER form, in hexadecimal.
    pub fingerprint: String,
    /// [`Description::not_before`] as Unix seconds.
    #[serde(skip)]
    pub begins: i64,
    /// [`Description::not_after`] as Unix seconds.
    #[serde(skip)]
    pub ends: i64,
}

impl Description {
    /// Reads one certificate in DER form.
    ///
    /// # Errors
    /// When the bytes are not a certificate, with what is wrong.
    pub fn read(der: &[u8]) -> Result<Description, String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let usage = certificate
            .extended_key_usage()
            .map_err(|error| error.to_string())?;
        let basic = certificate
            .basic_constraints()
            .map_err(|error| error.to_string())?;
        let validity = certificate.validity();
        let mut description = Description {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            uris: Vec::new(),
            dns: Vec::new(),
            addresses: Vec::new(),
            not_before: rfc3339(validity.not_before.timestamp()),
            not_after: rfc3339(validity.not_after.timestamp()),
            authority: basic.is_some_and(|basic| basic.value.ca),
            client: usage
                .as_ref()
                .is_some_and(|usage| usage.value.client_auth || usage.value.any),
            server: usage
                .as_ref()
                .is_some_and(|usage| usage.value.server_auth || usage.value.any),
            fingerprint: fingerprint(der),
            begins: validity.not_before.timestamp(),
            ends: validity.not_after.timestamp(),
        };
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| error.to_string())?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            description.add(name);
        }
        Ok(description)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => self.dns.push((*dns).to_owned()),
            GeneralName::IPAddress(octets) => self.addresses.extend(address(octets)),
            _ => {}
        }
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// A Unix time for people; out-of-range times as plain seconds.
pub(super) fn rfc3339(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    hex(digest.as_ref())
}
