//! Who vouches for a plugin's file: Ed25519 signatures (RFC 8032), in custom sections at its very end.
//!
//! ```text
//! component | section "culvert:signature" | section "culvert:signature" | …
//! section:  u8 version = 1 | 32 public key | 64 signature
//! signed:   "culvert:signature 1" | SHA-256 of all bytes before the first of these sections
//! ```
//!
//! Constraints:
//! - Each byte of a file is either before the first signature, and signed, or is of a signature. What follows a signature
//!   must be another one: otherwise something could be added to what was signed.
//! - The description lies before the signatures, so it is signed with the code.
//! - Signatures do not sign each other: each says the same of the same bytes, and may be added or taken away.

use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;

/// The custom section of one signature.
const SECTION: &[u8] = b"culvert:signature";

const VERSION: u8 = 1;
const CONTEXT: &[u8] = b"culvert:signature 1";
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// The most signatures of one file. By eye: authors, reviewers and the operator's own.
const SIGNATURES_MAX: usize = 16;

/// RFC 8410, sections 4 and 7: what stands before the 32 bytes of a key in DER.
const PUBLIC_DER: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const PRIVATE_DER: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What is wrong with signatures or keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The file's signatures do not fit it.
    #[error("[CULVERT-W050] {0}")]
    Damaged(String),
    /// The key is none that can sign or be trusted.
    #[error("[CULVERT-W052] {0}")]
    Key(&'static str),
}

/// Who signs is known by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// From a `SubjectPublicKeyInfo` in DER, as a `PUBLIC KEY` in PEM holds it.
    ///
    /// # Errors
    /// When it is no Ed25519 key.
    pub fn of_der(der: &[u8]) -> Result<PublicKey, SignatureError> {
        let key = der.strip_prefix(&PUBLIC_DER).and_then(|key| key.try_into().ok());
        key.map(PublicKey).ok_or(SignatureError::Key(
            "the public key is none of Ed25519; `culvert plugin keygen` makes one",
        ))
    }

    /// The same, written.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        [&PUBLIC_DER[..], &self.0].concat()
    }
}

/// As `openssl pkey -pubin -outform DER | sha256sum` shows it: SHA-256 of its DER.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sha256(&self.der())
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Signs. Never shown.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key, as PKCS#8 in DER (version 1, which every tool reads), to be kept by the caller.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Vec<u8>, SignatureError> {
        let mut seed = [0; KEY_BYTES];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| SignatureError::Key("the system has no randomness"))?;
        Ok([&PRIVATE_DER[..], &seed].concat())
    }

    /// From PKCS#8 in DER, as a `PRIVATE KEY` in PEM holds it.
    ///
    /// # Errors
    /// When it is no Ed25519 key.
    pub fn of_der(der: &[u8]) -> Result<SigningKey, SignatureError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map(SigningKey)
            .map_err(|_| {
                SignatureError::Key("the private key is none of Ed25519; `culvert plugin keygen` makes one")
            })
    }

    /// Its other half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {:?}", self.public())
    }
}

/// The component with one signature more; an older one of the same key is replaced.
///
/// # Errors
/// When it is no WebAssembly, or has signatures that do not fit it.
pub fn sign(component: &[u8], key: &SigningKey) -> Result<Vec<u8>, SignatureError> {
    let parts = parts(component)?;
    let mut others = parts.signatures;
    others.retain(|(signer, _)| *signer != key.public());
    if others.len() >= SIGNATURES_MAX {
        return Err(damaged(format!(
            "the file has {SIGNATURES_MAX} signatures, the most there may be"
        )));
    }
    let mut own = [0; SIGNATURE_BYTES];
    own.copy_from_slice(key.0.sign(&message(parts.signed)).as_ref());
    others.push((key.public(), own));
    let mut whole = parts.signed.to_vec();
    for (signer, signature) in others {
        whole.extend_from_slice(&section(&signer, &signature));
    }
    Ok(whole)
}

/// Who has signed these very bytes, in the order of the file. None have where it is empty.
///
/// # Errors
/// When a signature does not fit, is not at the end, or is of a later version.
pub fn signers(component: &[u8]) -> Result<Vec<PublicKey>, SignatureError> {
    let parts = parts(component)?;
    let message = message(parts.signed);
    parts
        .signatures
        .into_iter()
        .map(|(signer, signature)| {
            let fits = UnparsedPublicKey::new(&ED25519, signer.0).verify(&message, &signature);
            fits.map(|()| signer).map_err(|_| {
                damaged(format!(
                    "the signature of {signer} is not of these bytes: the file was changed"
                ))
            })
        })
        .collect()
}

/// The file without signatures, and these.
struct Parts<'a> {
    signed: &'a [u8],
    signatures: Vec<(PublicKey, [u8; SIGNATURE_BYTES])>,
}

fn parts(component: &[u8]) -> Result<Parts<'_>, SignatureError> {
    let mut rest = component
        .get(8..)
        .ok_or_else(|| damaged("the file is not WebAssembly".into()))?;
    let mut parts = Parts {
        signed: component,
        signatures: Vec::new(),
    };
    while !rest.is_empty() {
        let at = component.len() - rest.len();
        let (id, body) = take_section(&mut rest).ok_or_else(|| damaged("a section is cut off".into()))?;
        match signature_of(id, body)? {
            Some(signature) if parts.signatures.len() < SIGNATURES_MAX => {
                if parts.signatures.is_empty() {
                    parts.signed = &component[..at];
                }
                parts.signatures.push(signature);
            }
            Some(_) => return Err(damaged(format!("more than {SIGNATURES_MAX} signatures"))),
            None if parts.signatures.is_empty() => {}
            None => {
                return Err(damaged(
                    "something follows the signatures, which they do not cover".into(),
                ));
            }
        }
    }
    Ok(parts)
}

/// A signature, if the section is one.
fn signature_of(id: u8, body: &[u8]) -> Result<Option<(PublicKey, [u8; SIGNATURE_BYTES])>, SignatureError> {
    let mut rest = body;
    let name = take_size(&mut rest).and_then(|size| rest.split_at_checked(size));
    let (0, Some((SECTION, held))) = (id, name) else {
        return Ok(None);
    };
    match held.split_first() {
        Some((&VERSION, held)) if held.len() == KEY_BYTES + SIGNATURE_BYTES => {
            let (mut key, mut signature) = ([0; KEY_BYTES], [0; SIGNATURE_BYTES]);
            key.copy_from_slice(&held[..KEY_BYTES]);
            signature.copy_from_slice(&held[KEY_BYTES..]);
            Ok(Some((PublicKey(key), signature)))
        }
        Some((&VERSION, _)) | None => Err(damaged("a signature is cut off".into())),
        Some((version, _)) => Err(damaged(format!(
            "a signature of version {version}; this gateway reads {VERSION}"
        ))),
    }
}

fn message(signed: &[u8]) -> Vec<u8> {
    [CONTEXT, &sha256(signed)].concat()
}

fn section(signer: &PublicKey, signature: &[u8; SIGNATURE_BYTES]) -> Vec<u8> {
    let held = [&[VERSION][..], &signer.0, signature].concat();
    crate::pack::section(SECTION, &held)
}

/// Number and body of the next section of a component or a module.
fn take_section<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (id, behind) = rest.split_first()?;
    *rest = behind;
    let size = take_size(rest)?;
    let (body, behind) = rest.split_at_checked(size)?;
    *rest = behind;
    Some((*id, body))
}

/// WebAssembly's unsigned LEB128, of 32 bits.
fn take_size(rest: &mut &[u8]) -> Option<usize> {
    let mut size = 0u64;
    for place in 0..5 {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        size |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return usize::try_from(u32::try_from(size).ok()?).ok();
        }
    }
    None
}

fn damaged(why: String) -> SignatureError {
    SignatureError::Damaged(why)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut own = [0; 32];
    own.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component() -> Vec<u8> {
        wat::parse_str(r#"(component (core module (func)) (@custom "note" "x"))"#).unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::of_der(&SigningKey::generate().unwrap()).unwrap()
    }

    #[test]
    fn each_signer_is_told_and_signing_again_changes_nothing() {
        let (author, reviewer) = (key(), key());
        assert_eq!(signers(&component()), Ok(vec![]));
        let once = sign(&component(), &author).unwrap();
        let both = sign(&once, &reviewer).unwrap();
        assert_eq!(signers(&both), Ok(vec![author.public(), reviewer.public()]));
        assert_eq!(sign(&once, &author).unwrap(), once);
        assert_eq!(sign(&both, &reviewer).unwrap(), both);
        assert!(wasmparser::Parser::is_component(&both));
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let whole = sign(&component(), &key()).unwrap();
        let signed = signers(&whole).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_ne!(signers(&changed), Ok(signed.clone()), "byte {at}");
        }
    }

    #[test]
    fn what_is_added_behind_a_signature_is_refused() {
        let whole = sign(&component(), &key()).unwrap();
        let added = [&whole[..], &crate::pack::section(b"culvert:describe", b"{}")].concat();
        let fault = signers(&added).unwrap_err().to_string();
        assert!(fault.contains("something follows the signatures"), "{fault}");
        assert!(sign(&added, &key()).is_err());
        assert!(signers(&whole[..whole.len() - 1]).is_err());
    }

    #[test]
    fn keys_are_read_as_other_tools_write_them() {
        // RFC 8410, section 10.3: the private key of the RFC and its public one.
        let private = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20\xd4\xee\x72\xdb\xf9\x13\x58\x4a\xd5\xb6\xd8\xf1\xf7\x69\xf8\xad\x3a\xfe\x7c\x28\xcb\xf1\xd4\xfb\xe0\x97\xa8\x8f\x44\x75\x58\x42";
        let public = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00\x19\xbf\x44\x09\x69\x84\xcd\xfe\x85\x41\xba\xc1\x67\xdc\x3b\x96\xc8\x50\x86\xaa\x30\xb6\xb6\xcb\x0c\x5c\x38\xad\x70\x31\x66\xe1";
        let key = SigningKey::of_der(private).unwrap();
        assert_eq!(key.public().der(), public);
        assert_eq!(PublicKey::of_der(public), Ok(key.public()));
        assert!(!format!("{key:?}").contains("d4ee72"));
        assert!(SigningKey::of_der(public).is_err());
        assert!(PublicKey::of_der(private).is_err());
    }
}
