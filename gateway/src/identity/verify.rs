//! The check of a peer's certificate, the same on both sides: chain and validity and purpose by webpki, then the
//! one URI that names the gateway. "The chain is valid" alone authorises nobody.

use super::description::rfc3339;
use super::{Name, Refusal, TrustDomain};
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use std::collections::BTreeSet;
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage};

/// What a certificate was used for by the one who showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The peer dialled us.
    Client,
    /// We dialled the peer.
    Server,
}

impl Side {
    pub(super) fn usage(self) -> KeyUsage {
        match self {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// Whom we trust: authorities, and the trust domain whose names count.
#[derive(Debug)]
pub(super) struct Trust {
    pub(super) domain: TrustDomain,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// The gateway that `chain` (its own certificate first) proves to be, if it is among `expected`.
    pub(super) fn check(
        &self,
        chain: &[CertificateDer<'_>],
        side: Side,
        expected: &BTreeSet<Name>,
        now: UnixTime,
    ) -> Result<Name, Refusal> {
        let (own, intermediates) = chain.split_first().ok_or_else(|| Refusal::Malformed {
            cause: "none was shown".to_owned(),
        })?;
        let own = EndEntityCert::try_from(own).map_err(|error| refusal(&error, side))?;
        own.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            intermediates,
            now,
            side.usage(),
            None,
            None,
        )
        .map_err(|error| refusal(&error, side))?;
        let found = self.name(&own)?;
        if expected.contains(&found) {
            Ok(found)
        } else {
            Err(stranger(found, side, expected))
        }
    }

    /// Exactly one URI, as SPIFFE X.509-SVID (section 2) demands, and of our trust domain.
    fn name(&self, own: &EndEntityCert<'_>) -> Result<Name, Refusal> {
        let uris: Vec<&str> = own.valid_uri_names().collect();
        match uris.as_slice() {
            [uri] => self.domain.gateway_of(uri),
            _ => None,
        }
        .ok_or_else(|| Refusal::NoName {
            domain: self.domain.to_string(),
            found: listed(&uris),
        })
    }
}

fn stranger(found: Name, side: Side, expected: &BTreeSet<Name>) -> Refusal {
    match side {
        Side::Client => Refusal::UnknownPeer { found },
        Side::Server => {
            let names: Vec<&str> = expected.iter().map(Name::as_str).collect();
            Refusal::OtherGateway {
                expected: listed(&names),
                found,
            }
        }
    }
}

pub(super) fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        "no name".to_owned()
    } else {
        names.join(", ")
    }
}

pub(super) fn refusal(error: &webpki::Error, side: Side) -> Refusal {
    match error {
        // An authority of the same name with another key is another authority.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => Refusal::Authority,
        webpki::Error::CertExpired { not_after, .. } => Refusal::Expired {
            not_after: moment(*not_after),
        },
        webpki::Error::CertNotValidYet { not_before, .. } => Refusal::NotYetValid {
            not_before: moment(*not_before),
        },
        webpki::Error::RequiredEkuNotFoundContext(_) | webpki::Error::EmptyEkuExtension => {
            Refusal::Purpose { missing: side.name() }
        }
        other => Refusal::Malformed {
            cause: other.to_string(),
        },
    }
}

fn moment(time: UnixTime) -> String {
    rfc3339(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Where one handshake leaves its refusal: TLS carries only an alert, and we want to say more than that.
#[derive(Clone, Debug, Default)]
pub struct Verdict(Arc<Mutex<Option<Refusal>>>);

impl Verdict {
    /// Why the peer's certificate was refused in this handshake, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.lock().clone()
    }
}

/// The verifier of one handshake.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Arc<Trust>,
    pub(super) expected: Arc<BTreeSet<Name>>,
    pub(super) verdict: Verdict,
}

impl Verifier {
    fn verify(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: Side,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let mut chain = vec![own.clone()];
        chain.extend_from_slice(intermediates);
        match self.trust.check(&chain, side, &self.expected, now) {
            Ok(_) => Ok(()),
            Err(refusal) => {
                let alert = alert(&refusal);
                *self.verdict.0.lock() = Some(refusal);
                Err(alert.into())
            }
        }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, own, signature, &self.trust.algorithms)
    }
}

/// What the peer is told: the alert that rustls makes of this.
fn alert(refusal: &Refusal) -> CertificateError {
    match refusal {
        Refusal::Authority => CertificateError::UnknownIssuer,
        Refusal::Expired { .. } => CertificateError::Expired,
        Refusal::NotYetValid { .. } => CertificateError::NotValidYet,
        Refusal::Purpose { .. } => CertificateError::InvalidPurpose,
        Refusal::OtherGateway { .. } | Refusal::UnknownPeer { .. } | Refusal::NoName { .. } => {
            CertificateError::ApplicationVerificationFailure
        }
        Refusal::Malformed { .. } => CertificateError::BadEncoding,
    }
}

fn no_tls12() -> rustls::Error {
    rustls::Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>, // the URI decides; the DNS name is only there to be asked for
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, Side::Server, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, own, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, Side::Client, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, own, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
