//! Making certificates: a small authority in a directory, enough for one installation, its tests and its demos.
//!
//! ```text
//! <directory>/ca.pem  ca.key            the authority; its URI name is the trust domain
//!             gateways/<name>.pem .key  a gateway: URI and DNS name, client and server
//!             kafka/<host>.pem .key .keystore.pem   a broker: DNS names and addresses, server
//!             clients/<name>.pem .key .keystore.pem a Kafka client
//! ```
//!
//! `.pem` holds the certificate, then the authority's. `.key` and `.keystore.pem` (key and certificates in one file,
//! as a JVM wants it for `ssl.keystore.location`) have mode 0600. Keys are P-256 in PKCS#8.

use super::{Description, Error, Name, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Purpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// How far back validity begins, so that a machine whose clock runs a little behind accepts a fresh certificate.
const BACKDATED: Duration = Duration::hours(1);

/// The longest validity that is made: a hundred years, still inside what X.509 can spell.
const DAYS_MAX: u32 = 36_500;

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A gateway: dials and is dialled.
    Gateway(Name),
    /// A Kafka broker under these host names and addresses; the first names the files.
    Kafka(Vec<String>),
    /// A Kafka client with this common name.
    Client(String),
}

/// An authority that can sign.
pub struct Authority {
    directory: PathBuf,
    pem: String,
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority in `directory`, valid for `days`.
    ///
    /// # Errors
    /// [`Error::Exists`] unless `force`; [`Error::File`] when the directory cannot be written.
    pub fn init(
        directory: &Path,
        trust_domain: &TrustDomain,
        days: u32,
        force: bool,
    ) -> Result<Authority, Error> {
        let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        refuse_to_replace([&certificate, &key], force)?;
        let pair = new_key()?;
        let params = authority_params(trust_domain, days)?;
        let signed = params
            .self_signed(&pair)
            .map_err(|cause| library("sign the authority", &cause))?;
        write(&key, pair.serialize_pem().as_bytes(), Secrecy::Owner)?;
        write(&certificate, signed.pem().as_bytes(), Secrecy::Public)?;
        Authority::open(directory)
    }

    /// Opens the authority in `directory`.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Content`].
    pub fn open(directory: &Path) -> Result<Authority, Error> {
        let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        let der = first(&certificate)?;
        let description = read_description(&certificate, &der)?;
        let trust_domain = description
            .uris
            .iter()
            .find_map(|uri| uri.strip_prefix("spiffe://")?.parse().ok())
            .ok_or_else(|| content(&certificate, "is not an authority made by `culvert pki init`"))?;
        let pair = KeyPair::from_pem(&text(&key)?).map_err(|cause| content(&key, &cause.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, pair)
            .map_err(|cause| content(&certificate, &cause.to_string()))?;
        Ok(Authority {
            directory: directory.to_owned(),
            pem: text(&certificate)?,
            trust_domain,
            issuer,
        })
    }

    /// Whose names this authority gives out.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authority's own certificate file.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Makes a key and a certificate for `kind`, valid for `days`, and answers where the certificate is.
    ///
    /// # Errors
    /// [`Error::Exists`] unless `force`; [`Error::Name`] for a host that is none; [`Error::File`].
    pub fn issue(&self, kind: &Kind, days: u32, force: bool) -> Result<PathBuf, Error> {
        let (folder, file) = match kind {
            Kind::Gateway(name) => ("gateways", name.to_string()),
            Kind::Kafka(hosts) => ("kafka", hosts.first().cloned().unwrap_or_default()),
            Kind::Client(name) => ("clients", name.clone()),
        };
        check_file_name(&file)?;
        let path = self.directory.join(folder).join(format!("{file}.pem"));
        let keystore = !matches!(kind, Kind::Gateway(_));
        self.write_pair(
            &path,
            &leaf_params(kind, &self.trust_domain, days)?,
            keystore,
            force,
        )?;
        Ok(path)
    }

    /// Replaces the certificate at `path` and its key by new ones with the same names and uses.
    ///
    /// # Errors
    /// [`Error::Content`] when it is not a certificate that this authority could have made.
    pub fn renew(&self, path: &Path, days: u32) -> Result<(), Error> {
        let old = read_description(path, &first(path)?)?;
        if old.authority {
            return Err(content(
                path,
                "is an authority; make a new one with `culvert pki init` elsewhere",
            ));
        }
        let keystore = path.with_extension("keystore.pem").exists();
        self.write_pair(path, &renewed_params(path, &old, days)?, keystore, true)
    }

    fn write_pair(
        &self,
        path: &Path,
        params: &CertificateParams,
        keystore: bool,
        force: bool,
    ) -> Result<(), Error> {
        let (key, store) = (path.with_extension("key"), path.with_extension("keystore.pem"));
        refuse_to_replace([path, &key], force)?;
        let pair = new_key()?;
        let signed = params
            .signed_by(&pair, &self.issuer)
            .map_err(|cause| library("sign the certificate", &cause))?;
        let chain = signed.pem() + &self.pem;
        write(&key, pair.serialize_pem().as_bytes(), Secrecy::Owner)?;
        write(path, chain.as_bytes(), Secrecy::Public)?;
        if keystore {
            write(&store, (pair.serialize_pem() + &chain).as_bytes(), Secrecy::Owner)?;
        }
        Ok(())
    }
}

fn authority_params(trust_domain: &TrustDomain, days: u32) -> Result<CertificateParams, Error> {
    let mut params = params(&format!("Culvert authority of {trust_domain}"), days)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    Ok(params)
}

fn leaf_params(kind: &Kind, trust_domain: &TrustDomain, days: u32) -> Result<CertificateParams, Error> {
    let (subject, names, purposes) = match kind {
        Kind::Gateway(name) => (
            name.as_str(),
            vec![uri(&trust_domain.uri(name))?, dns(name.as_str())?],
            vec![Purpose::ClientAuth, Purpose::ServerAuth],
        ),
        Kind::Kafka(hosts) => (
            hosts.first().map_or("", String::as_str),
            hosts
                .iter()
                .map(|host| host_name(host))
                .collect::<Result<_, _>>()?,
            // Brokers of one cluster also dial each other.
            vec![Purpose::ServerAuth, Purpose::ClientAuth],
        ),
        Kind::Client(name) => (name.as_str(), Vec::new(), vec![Purpose::ClientAuth]),
    };
    let mut params = leaf(subject, days)?;
    params.subject_alt_names = names;
    params.extended_key_usages = purposes;
    Ok(params)
}

fn renewed_params(path: &Path, old: &Description, days: u32) -> Result<CertificateParams, Error> {
    let subject = old
        .subject
        .strip_prefix("CN=")
        .ok_or_else(|| content(path, "its subject is not one common name"))?;
    let mut params = leaf(subject, days)?;
    for name in &old.uris {
        params.subject_alt_names.push(uri(name)?);
    }
    for name in &old.dns {
        params.subject_alt_names.push(dns(name)?);
    }
    params
        .subject_alt_names
        .extend(old.addresses.iter().copied().map(SanType::IpAddress));
    if old.client {
        params.extended_key_usages.push(Purpose::ClientAuth);
    }
    if old.server {
        params.extended_key_usages.push(Purpose::ServerAuth);
    }
    Ok(params)
}

fn leaf(subject: &str, days: u32) -> Result<CertificateParams, Error> {
    let mut params = params(subject, days)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(subject: &str, days: u32) -> Result<CertificateParams, Error> {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + Duration::days(i64::from(days.min(DAYS_MAX)));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    Ok(params)
}

fn host_name(host: &str) -> Result<SanType, Error> {
    host.parse::<IpAddr>()
        .map(SanType::IpAddress)
        .or_else(|_| dns(host))
}

fn dns(name: &str) -> Result<SanType, Error> {
    let spelled = rustls_pki_types::DnsName::try_from(name).is_ok();
    match name.try_into() {
        Ok(name) if spelled => Ok(SanType::DnsName(name)),
        _ => Err(Error::Name {
            name: name.to_owned(),
        }),
    }
}

fn uri(name: &str) -> Result<SanType, Error> {
    name.try_into().map(SanType::URI).map_err(|_| Error::Name {
        name: name.to_owned(),
    })
}

/// A name from the command line becomes a file's name: no separators, no dots in front.
fn check_file_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    let fits = (1..=200).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
    if fits {
        Ok(())
    } else {
        Err(Error::Name {
            name: name.to_owned(),
        })
    }
}

fn new_key() -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|cause| library("make a key", &cause))
}

fn refuse_to_replace(paths: [&Path; 2], force: bool) -> Result<(), Error> {
    match paths.into_iter().find(|path| path.exists()) {
        Some(path) if !force => Err(Error::Exists {
            path: path.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn first(path: &Path) -> Result<CertificateDer<'static>, Error> {
    Ok(super::certificates(path)?.swap_remove(0))
}

fn read_description(path: &Path, der: &[u8]) -> Result<Description, Error> {
    Description::read(der).map_err(|problem| content(path, &problem))
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|cause| Error::File {
        act: "read",
        path: path.to_owned(),
        cause,
    })
}

fn content(path: &Path, problem: &str) -> Error {
    Error::Content {
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}

fn library(act: &'static str, cause: &rcgen::Error) -> Error {
    Error::Certificate {
        act,
        cause: cause.to_string(),
    }
}

#[derive(Clone, Copy)]
enum Secrecy {
    Owner,
    Public,
}

/// Writes a file whole or not at all: beside its place, synced, then renamed. The mode is set when the file is
/// made, so that a key is at no moment readable by others.
fn write(path: &Path, bytes: &[u8], secrecy: Secrecy) -> Result<(), Error> {
    let failed = |act| {
        move |cause| Error::File {
            act,
            path: path.to_owned(),
            cause,
        }
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed("make the folder of"))?;
    let mode = match secrecy {
        Secrecy::Owner => 0o600,
        Secrecy::Public => 0o644,
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{:016x}.new", rand::random::<u64>()));
    let beside = PathBuf::from(beside);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| fs::File::open(folder)?.sync_all());
    written.map_err(|cause| {
        let _ = fs::remove_file(&beside);
        failed("write")(cause)
    })
}
