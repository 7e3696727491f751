//! Whose plugins may run here, and keys as people keep them: PEM.

use super::testing::base64;
use culvert_host::{PublicKey, SignatureError, SigningKey, signers};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

/// Whom an operator trusts with the files of the plugin directory. Bundled plugins are of the program itself.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Keys of which one must have signed.
    pub keys: Vec<PublicKey>,
    /// Whether a file that none of them has signed is refused.
    pub is_required: bool,
}

impl Trust {
    /// Checks a component, and says who has signed it.
    ///
    /// # Errors
    /// When its signatures do not fit it, or a signature is required and no trusted key has signed.
    pub fn check(&self, component: &[u8]) -> Result<Vec<PublicKey>, String> {
        let signers = match signers(component) {
            Ok(signers) => signers,
            Err(error) => return Err(error.to_string()),
        };
        if !self.is_required || signers.iter().any(|signer| self.keys.contains(signer)) {
            return Ok(signers);
        }
        let found = match signers.as_slice() {
            [] => "it is not signed".to_owned(),
            [signer] => format!("it is signed by {signer}, which plugins.trusted_keys does not name"),
            many => format!("none of its {} signers is among plugins.trusted_keys", many.len()),
        };
        Err(format!(
            "[CULVERT-W051] plugins.require_signature is set, and {found}"
        ))
    }
}

/// A `PUBLIC KEY` in PEM.
///
/// # Errors
/// When it is none, or of another kind than Ed25519.
pub fn public_key(pem: &[u8]) -> Result<PublicKey, SignatureError> {
    let der = SubjectPublicKeyInfoDer::from_pem_slice(pem);
    let der = der.map_err(|_| SignatureError::Key("there is no PUBLIC KEY in PEM in it"))?;
    PublicKey::of_der(&der)
}

/// A `PRIVATE KEY` (PKCS#8) in PEM.
///
/// # Errors
/// When it is none, or of another kind than Ed25519.
pub fn signing_key(pem: &[u8]) -> Result<SigningKey, SignatureError> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem);
    let der = der.map_err(|_| SignatureError::Key("there is no PRIVATE KEY (PKCS#8) in PEM in it"))?;
    SigningKey::of_der(der.secret_pkcs8_der())
}

/// A new key, private and public, in PEM.
///
/// # Errors
/// When the system has no randomness.
pub fn generated() -> Result<(String, String), SignatureError> {
    let private = SigningKey::generate()?;
    let public = SigningKey::of_der(&private)?.public();
    Ok((pem("PRIVATE KEY", &private), pem("PUBLIC KEY", &public.der())))
}

/// Keys are short: one line of base64.
fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        base64::encoded(der)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least there is: looking for signatures needs no plugin.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn only_signatures_of_trusted_keys_count() {
        let (private, public) = generated().unwrap();
        let (key, trusted) = (
            signing_key(private.as_bytes()).unwrap(),
            public_key(public.as_bytes()).unwrap(),
        );
        assert_eq!(key.public(), trusted);
        let (stranger, _) = generated().unwrap();
        let stranger = signing_key(stranger.as_bytes()).unwrap();
        let strict = Trust {
            keys: vec![trusted],
            is_required: true,
        };
        let signed = culvert_host::sign(COMPONENT, &key).unwrap();
        assert_eq!(strict.check(&signed), Ok(vec![trusted]));
        let foreign = culvert_host::sign(COMPONENT, &stranger).unwrap();
        assert!(strict.check(&foreign).unwrap_err().contains("[CULVERT-W051]"));
        assert!(strict.check(COMPONENT).unwrap_err().contains("it is not signed"));
        let both = culvert_host::sign(&foreign, &key).unwrap();
        assert_eq!(strict.check(&both).map(|signers| signers.len()), Ok(2));
        assert_eq!(Trust::default().check(COMPONENT), Ok(vec![]));
        let mut changed = signed;
        changed[9] ^= 1;
        assert!(
            Trust::default()
                .check(&changed)
                .unwrap_err()
                .contains("[CULVERT-W050]")
        );
    }

    #[test]
    fn what_is_no_key_says_so() {
        let (private, public) = generated().unwrap();
        assert!(public_key(private.as_bytes()).is_err());
        assert!(signing_key(public.as_bytes()).is_err());
        assert!(public_key(b"").unwrap_err().to_string().contains("no PUBLIC KEY"));
    }
}
