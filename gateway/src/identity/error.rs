//! What can be wrong with our own certificate, and with a peer's.

use super::Name;
use std::io;
use std::path::PathBuf;

/// Why this gateway's own identity cannot be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or cannot be read or written.
    #[error("[CULVERT-P001] {act} {}: {cause}", path.display())]
    File {
        /// What was tried, as a verb.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// A file does not hold what it should.
    #[error("[CULVERT-P002] read {}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "[CULVERT-P003] the key in {} does not belong to the certificate in {}",
        key.display(),
        certificate.display()
    )]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Our certificate has ended.
    #[error(
        "[CULVERT-P004] the certificate in {} expired at {not_after}\n\n\
         hint: `culvert pki renew` makes a new one under the same name",
        path.display()
    )]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// Its last moment, RFC 3339.
        not_after: String,
    },
    /// Our certificate has not begun.
    #[error(
        "[CULVERT-P005] the certificate in {} is not valid before {not_before}\n\n\
         hint: check this machine's clock",
        path.display()
    )]
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// Its first moment, RFC 3339.
        not_before: String,
    },
    /// Our certificate was made out to somebody else.
    #[error(
        "[CULVERT-P006] the configuration says this gateway is {configured}, the certificate in {} says {found}",
        path.display()
    )]
    OtherName {
        /// The certificate's file.
        path: PathBuf,
        /// The URI that the configuration asks for.
        configured: String,
        /// The URIs in the certificate.
        found: String,
    },
    /// Our certificate may not be used for what a gateway does.
    #[error(
        "[CULVERT-P007] the certificate in {} does not allow {missing} authentication; a gateway both dials and \
         is dialled",
        path.display()
    )]
    Purpose {
        /// The certificate's file.
        path: PathBuf,
        /// Which use is missing: `client` or `server`.
        missing: &'static str,
    },
    /// A file is in the way.
    #[error(
        "[CULVERT-P008] {} exists and is left as it is\n\nhint: `--force` replaces it",
        path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Not a gateway's name.
    #[error(
        "[CULVERT-P009] {name:?} cannot name a gateway: use lower-case DNS labels (a-z, 0-9, inner -), the last \
         one not only digits"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// Not a trust domain.
    #[error("[CULVERT-P009] {name:?} cannot be a trust domain: use a-z, 0-9, '.', '-' and '_', at most 255")]
    TrustDomain {
        /// What was given.
        name: String,
    },
    /// Making or reading a certificate failed for a reason of its own.
    #[error("[CULVERT-P002] {act}: {cause}")]
    Certificate {
        /// What was tried, as a verb phrase.
        act: &'static str,
        /// What the certificate library answered.
        cause: String,
    },
}

/// Why a peer's certificate was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No authority in our bundle signed it.
    #[error("[CULVERT-P010] the peer's certificate was not signed by an authority that is trusted here")]
    Authority,
    /// It has ended.
    #[error("[CULVERT-P011] the peer's certificate expired at {not_after}")]
    Expired {
        /// Its last moment, RFC 3339.
        not_after: String,
    },
    /// It has not begun.
    #[error("[CULVERT-P012] the peer's certificate is not valid before {not_before}; check both clocks")]
    NotYetValid {
        /// Its first moment, RFC 3339.
        not_before: String,
    },
    /// We dialled one gateway and another answered.
    #[error("[CULVERT-P013] {expected} was dialled, but the certificate there belongs to {found}")]
    OtherGateway {
        /// Whom the configuration expects at that address.
        expected: String,
        /// Who answered.
        found: Name,
    },
    /// A gateway that our configuration does not list.
    #[error("[CULVERT-P014] gateway {found} is not among the configured peers")]
    UnknownPeer {
        /// Who called.
        found: Name,
    },
    /// It was not made for this use.
    #[error("[CULVERT-P015] the peer's certificate does not allow {missing} authentication")]
    Purpose {
        /// Which use is missing: `client` or `server`.
        missing: &'static str,
    },
    /// It names no gateway, several, or one of another trust domain.
    #[error(
        "[CULVERT-P016] the peer's certificate does not name one gateway of trust domain {domain}: {found}"
    )]
    NoName {
        /// Our trust domain.
        domain: String,
        /// The URIs that were found.
        found: String,
    },
    /// It cannot be read, or its signatures do not hold.
    #[error("[CULVERT-P017] the peer's certificate is not acceptable: {cause}")]
    Malformed {
        /// What the verifier answered.
        cause: String,
    },
}

impl Refusal {
    /// The code of the page in `docs/errors/`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Authority => "CULVERT-P010",
            Refusal::Expired { .. } => "CULVERT-P011",
            Refusal::NotYetValid { .. } => "CULVERT-P012",
            Refusal::OtherGateway { .. } => "CULVERT-P013",
            Refusal::UnknownPeer { .. } => "CULVERT-P014",
            Refusal::Purpose { .. } => "CULVERT-P015",
            Refusal::NoName { .. } => "CULVERT-P016",
            Refusal::Malformed { .. } => "CULVERT-P017",
        }
    }
}
