//! Who this gateway is, and how it knows who a peer is.
//!
//! Constraints of this room:
//! - A gateway is the one URI in its certificate, `spiffe://<trust domain>/<gateway>`. The same name stands there as
//!   a DNS name, so that a dialler can ask for it (SNI); it decides nothing.
//! - Both sides check the other: chain, validity, purpose, then the name, against a list of names. A valid chain
//!   alone is not enough.
//! - TLS 1.3 only, no early data, no session resumption: a resumed session would not look at the certificate again.
//! - The trust bundle is a set of authorities, so that an old and a new one hold side by side while one replaces
//!   the other.
//! - Keys are written with mode 0600, by rename, and replaced only when asked to ([`issue`]).

mod description;
mod error;
pub mod issue;
mod name;
mod sign;
mod verify;

pub use description::Description;
pub use error::{Error, Refusal};
pub use name::{Name, TrustDomain};
pub use sign::{Authorities, algorithm, check_signature, scheme};
pub use verify::{Side, Verdict};

use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor, UnixTime};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use verify::{Trust, Verifier};

/// The application protocol that is asked for in the handshake (ALPN). The versions above it are negotiated in the
/// hello.
pub const PROTOCOL: &[u8] = b"culvert";

/// Where an identity comes from and what it must say.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name in the configuration; the certificate must state the same.
    pub gateway: Name,
    /// Whose names count.
    pub trust_domain: TrustDomain,
    /// Our certificate (PEM), intermediates behind it.
    pub certificate: PathBuf,
    /// Its key (PEM: PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// Files of trusted authorities (PEM, any number in each).
    pub authorities: Vec<PathBuf>,
}

/// A gateway's own certificate and key, and the authorities it trusts: checked, ready for handshakes.
///
/// Made anew when the files change; handshakes under way keep the one they began with.
#[derive(Debug)]
pub struct Identity {
    gateway: Name,
    description: Description,
    credentials: Arc<SingleCertAndKey>,
    key: Arc<CertifiedKey>,
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
}

impl Identity {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`Error`], naming the file and what is wrong: unreadable, not PEM, key of another certificate, expired, not
    /// yet valid, made out to another gateway, or not for both dialling and being dialled.
    pub fn load(options: &Options) -> Result<Identity, Error> {
        let identity = Identity::load_unchecked(options)?;
        check_own(options, &identity.description, UnixTime::now())?;
        Ok(identity)
    }

    /// [`Identity::load`] without looking at what the certificate says: tests show peers what no gateway would.
    pub(crate) fn load_unchecked(options: &Options) -> Result<Identity, Error> {
        let chain = certificates(&options.certificate)?;
        let description = describe(&options.certificate, &chain)?;
        let provider = provider();
        let key = Arc::new(key_pair(options, chain, &provider)?);
        let credentials = Arc::new(SingleCertAndKey::from(Arc::clone(&key)));
        let trust = Arc::new(Trust {
            domain: options.trust_domain.clone(),
            anchors: anchors(&options.authorities)?,
            algorithms: provider.signature_verification_algorithms,
        });
        Ok(Identity {
            gateway: options.gateway.clone(),
            description,
            credentials,
            key,
            trust,
            provider,
        })
    }

    /// The name that the certificate proves.
    #[must_use]
    pub fn gateway(&self) -> &Name {
        &self.gateway
    }

    /// The trust domain whose names count.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust.domain
    }

    /// What stands in our own certificate.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The TLS side of one dial to a gateway that must be among `expected`; the refusal, if any, is left in the
    /// [`Verdict`].
    #[must_use]
    pub fn dialling(&self, expected: Arc<BTreeSet<Name>>) -> (rustls::ClientConfig, Verdict) {
        let (verifier, verdict) = self.verifier(expected);
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider has TLS 1.3 suites")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::<SingleCertAndKey>::clone(&self.credentials));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        (config, verdict)
    }

    /// The TLS side of one incoming session; the gateway must be among `peers`.
    #[must_use]
    pub fn accepting(&self, peers: Arc<BTreeSet<Name>>) -> (rustls::ServerConfig, Verdict) {
        let (verifier, verdict) = self.verifier(peers);
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the ring provider has TLS 1.3 suites")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::<SingleCertAndKey>::clone(&self.credentials));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        (config, verdict)
    }

    /// Checks again what a peer showed in its handshake, by what we trust and what time it is now. Answers who the
    /// peer is.
    ///
    /// # Errors
    /// [`Refusal`], as the handshake would refuse it now.
    pub fn check(
        &self,
        chain: &[CertificateDer<'_>],
        side: Side,
        expected: &BTreeSet<Name>,
    ) -> Result<Name, Refusal> {
        self.trust.check(chain, side, expected, UnixTime::now())
    }

    fn verifier(&self, expected: Arc<BTreeSet<Name>>) -> (Arc<Verifier>, Verdict) {
        let verdict = Verdict::default();
        let verifier = Verifier {
            trust: Arc::clone(&self.trust),
            expected,
            verdict: verdict.clone(),
        };
        (Arc::new(verifier), verdict)
    }
}

/// The process's one provider of cryptography: ring. Installed on first use; a provider that is already there
/// stays, and ours is passed to each configuration by hand all the same.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let provider = rustls::crypto::ring::default_provider();
    let _ = provider.clone().install_default();
    Arc::new(provider)
}

fn check_own(options: &Options, own: &Description, now: UnixTime) -> Result<(), Error> {
    let path = || options.certificate.clone();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let configured = options.trust_domain.uri(&options.gateway);
    if own.uris != [configured.as_str()] {
        let found: Vec<&str> = own.uris.iter().map(String::as_str).collect();
        return Err(Error::OtherName {
            path: path(),
            configured,
            found: verify::listed(&found),
        });
    }
    if now > own.ends {
        return Err(Error::Expired {
            path: path(),
            not_after: own.not_after.clone(),
        });
    }
    if now < own.begins {
        return Err(Error::NotYetValid {
            path: path(),
            not_before: own.not_before.clone(),
        });
    }
    for (allowed, missing) in [(own.client, "client"), (own.server, "server")] {
        if !allowed {
            return Err(Error::Purpose {
                path: path(),
                missing,
            });
        }
    }
    Ok(())
}

fn key_pair(
    options: &Options,
    chain: Vec<CertificateDer<'static>>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let pem = read(&options.key)?;
    let content = |problem: String| Error::Content {
        path: options.key.clone(),
        problem,
    };
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| content(format!("no private key in PEM form: {error}")))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => Error::KeyMismatch {
            certificate: options.certificate.clone(),
            key: options.key.clone(),
        },
        other => content(format!("not a usable private key: {other}")),
    })
}

fn anchors(files: &[PathBuf]) -> Result<Vec<TrustAnchor<'static>>, Error> {
    let mut anchors = Vec::new();
    for path in files {
        for certificate in certificates(path)? {
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|error| Error::Content {
                path: path.clone(),
                problem: error.to_string(),
            })?;
            anchors.push(anchor.to_owned());
        }
    }
    Ok(anchors)
}

fn describe(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Description, Error> {
    let problem = |problem: String| Error::Content {
        path: path.to_owned(),
        problem,
    };
    let own = chain
        .first()
        .ok_or_else(|| problem("no certificate in PEM form".to_owned()))?;
    Description::read(own).map_err(problem)
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
/// [`Error::File`] and [`Error::Content`].
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let content = |problem: String| Error::Content {
        path: path.to_owned(),
        problem,
    };
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| content(format!("damaged PEM: {error}")))?;
    if found.is_empty() {
        Err(content("no certificate in PEM form".to_owned()))
    } else {
        Ok(found)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|cause| Error::File {
        act: "read",
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests;
