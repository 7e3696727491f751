//! Signatures that outlive a session: over bytes that are kept, with the certificates that say whose they are.
//!
//! The key is that of the tunnel. TLS 1.3 signs 64 spaces and a fixed text before anything else (RFC 8446, section 4.4.3),
//! certificates begin with 0x30; what is signed here begins with `{`. None can pass for another.

use super::verify::refusal;
use super::{Error, Identity, Refusal, Side, anchors, provider};
use culvert_proto::limits::{CERTIFICATE_BYTES_MAX, CERTIFICATES_MAX};
use culvert_proto::message::Signed;
use rustls::SignatureScheme;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::path::PathBuf;
use webpki::EndEntityCert;

/// What keys can sign with, the best first, and how it is called.
const ALGORITHMS: [(SignatureScheme, &str); 7] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ecdsa-p256-sha256"),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ecdsa-p384-sha384"),
    (SignatureScheme::ED25519, "ed25519"),
    (SignatureScheme::RSA_PSS_SHA256, "rsa-pss-sha256"),
    (SignatureScheme::RSA_PSS_SHA384, "rsa-pss-sha384"),
    (SignatureScheme::RSA_PSS_SHA512, "rsa-pss-sha512"),
    (SignatureScheme::RSA_PKCS1_SHA256, "rsa-pkcs1-sha256"),
];

impl Identity {
    /// Signs `statement` with the key of the tunnel.
    ///
    /// # Errors
    /// When the key can do nothing that is known here, or fails.
    pub fn sign(&self, statement: Vec<u8>) -> Result<Signed, Error> {
        let failed = |cause: String| Error::Certificate {
            act: "sign with the gateway's key",
            cause,
        };
        let certificates: Vec<Vec<u8>> = self.key.cert.iter().map(|der| der.to_vec()).collect();
        if certificates.len() > CERTIFICATES_MAX
            || certificates.iter().any(|der| der.len() > CERTIFICATE_BYTES_MAX)
        {
            return Err(failed(format!(
                "its chain is above {CERTIFICATES_MAX} certificates of {CERTIFICATE_BYTES_MAX} bytes"
            )));
        }
        let offered = ALGORITHMS.map(|(scheme, _)| scheme);
        let signer = self.key.key.choose_scheme(&offered);
        let signer = signer.ok_or_else(|| failed("its kind is not known".to_owned()))?;
        let signature = signer
            .sign(&statement)
            .map_err(|error| failed(error.to_string()))?;
        Ok(Signed {
            statement,
            scheme: signer.scheme().into(),
            signature,
            certificates,
        })
    }
}

/// What a scheme of TLS is called. `None` for one that no gateway signs with.
#[must_use]
pub fn algorithm(scheme: u16) -> Option<&'static str> {
    let known = ALGORITHMS.iter().find(|(known, _)| u16::from(*known) == scheme);
    known.map(|(_, name)| *name)
}

/// The scheme of TLS that is called so.
#[must_use]
pub fn scheme(algorithm: &str) -> Option<u16> {
    let known = ALGORITHMS.iter().find(|(_, name)| *name == algorithm);
    known.map(|(scheme, _)| (*scheme).into())
}

/// Whether the key of the first certificate signed the statement. Says nothing about whose key it is.
///
/// # Errors
/// When it did not, or the certificate cannot be read; with the reason.
pub fn check_signature(signed: &Signed) -> Result<(), String> {
    let own = signed.certificates.first().ok_or("no certificate is there")?;
    let own = CertificateDer::from(own.as_slice());
    let own = EndEntityCert::try_from(&own).map_err(|error| error.to_string())?;
    let known = algorithm(signed.scheme).ok_or("its kind is not known")?;
    let all = provider().signature_verification_algorithms.mapping;
    let fitting = all
        .iter()
        .filter(|(scheme, _)| u16::from(*scheme) == signed.scheme)
        .flat_map(|(_, algorithms)| algorithms.iter());
    for algorithm in fitting {
        if own
            .verify_signature(*algorithm, &signed.statement, &signed.signature)
            .is_ok()
        {
            return Ok(());
        }
    }
    Err(format!("the key of the certificate did not make this {known}"))
}

/// Authorities by whom certificates are judged without a gateway.
#[derive(Debug)]
pub struct Authorities(Vec<TrustAnchor<'static>>);

impl Authorities {
    /// Those in files, PEM, any number in each.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Content`].
    pub fn read(files: &[PathBuf]) -> Result<Authorities, Error> {
        anchors(files).map(Authorities)
    }

    /// Whether one of them has signed the first certificate, over the others, and all were valid at `seconds` after 1970.
    ///
    /// # Errors
    /// [`Refusal`], as a handshake would refuse it then.
    pub fn check(&self, certificates: &[Vec<u8>], seconds: u64) -> Result<(), Refusal> {
        let chain: Vec<CertificateDer<'_>> = certificates
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let (own, between) = chain.split_first().ok_or_else(|| Refusal::Malformed {
            cause: "none was shown".to_owned(),
        })?;
        let side = Side::Server;
        let own = EndEntityCert::try_from(own).map_err(|error| refusal(&error, side))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        own.verify_for_usage(
            provider().signature_verification_algorithms.all,
            &self.0,
            between,
            now,
            side.usage(),
            None,
            None,
        )
        .map(drop)
        .map_err(|error| refusal(&error, side))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_has_one_name_and_can_be_checked() {
        let all = provider().signature_verification_algorithms.mapping;
        for (known, name) in ALGORITHMS {
            assert_eq!(algorithm(known.into()), Some(name));
            assert_eq!(scheme(name), Some(known.into()));
            assert!(all.iter().any(|(scheme, _)| *scheme == known), "{name}");
        }
        assert_eq!(scheme("md5"), None);
    }
}
