//! Why there is no link, why one ended, and what can go wrong on a live one.

use crate::identity::{self, Name, Refusal, Verdict};
use culvert_proto::wire::Malformed;
use quinn::{ConnectionError, TransportErrorCode, VarInt};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

/// Why the room cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Our own certificate, key or authorities.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// A socket of the tunnel.
    #[error(
        "[CULVERT-L001] open {protocol} {address}: {cause}\n\nhint: another process may listen there; `tunnel.listen` \
         sets the address"
    )]
    Bind {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// Where we wanted to listen.
        address: SocketAddr,
        /// What the system answered.
        #[source]
        cause: io::Error,
    },
    /// The task that moves datagrams ended although nobody asked it to. The room has to be started anew.
    #[error("[CULVERT-L010] the tunnel's endpoint stopped by itself")]
    EndpointLost,
}

/// Why a session was not made, or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The peer's certificate is not accepted here.
    #[error(transparent)]
    Certificate(#[from] Refusal),
    /// No protocol version is spoken by both.
    #[error(
        "[CULVERT-L002] no common protocol version: {gateway} speaks {} to {}, this gateway {} to {}",
        theirs.start(), theirs.end(), ours.start(), ours.end()
    )]
    Version {
        /// The peer, by its certificate.
        gateway: Name,
        /// Versions spoken here.
        ours: RangeInclusive<u16>,
        /// Versions spoken there.
        theirs: RangeInclusive<u16>,
    },
    /// The peer says it belongs to another site than our configuration puts it in.
    #[error(
        "[CULVERT-L003] {gateway} says it belongs to site {found:?}, the configuration here puts it in {expected:?}"
    )]
    Site {
        /// The peer, by its certificate.
        gateway: Name,
        /// What our configuration says.
        expected: String,
        /// What the peer says.
        found: String,
    },
    /// The peer calls itself otherwise than its certificate does.
    #[error("[CULVERT-L004] the certificate says {gateway}, the hello says {found:?}")]
    Name {
        /// The peer, by its certificate.
        gateway: Name,
        /// What the hello says.
        found: String,
    },
    /// The peer does not want a session with us, and says why.
    #[error("[CULVERT-L005] the peer refuses this gateway: {reason}")]
    Refused {
        /// In the peer's words.
        reason: String,
    },
    /// Nobody answers at the address, or it cannot be resolved.
    #[error("[CULVERT-L006] reach {address}: {cause}")]
    Unreachable {
        /// As configured.
        address: String,
        /// What happened.
        cause: String,
    },
    /// The TCP connection under the link ended.
    #[error("[CULVERT-L006] the TCP connection under the link ended: {cause}")]
    Cut {
        /// What TCP or TLS says.
        cause: String,
    },
    /// The peer sent what the protocol does not allow.
    #[error("[CULVERT-L007] the peer broke the protocol: {what}")]
    Protocol {
        /// What was wrong.
        what: String,
    },
    /// Nothing was heard for longer than the idle time.
    #[error("[CULVERT-L006] nothing was heard from the peer for too long")]
    Silent,
    /// The peer's process died and came back, or lost its state.
    #[error("the peer was started anew")]
    Restarted,
    /// Another session with the same peer has taken its place.
    #[error("replaced by another session with the same gateway")]
    Superseded,
    /// Closed in good order, by either side.
    #[error("closed: {reason}")]
    Closed {
        /// What the closing side said.
        reason: String,
    },
}

/// The application error codes of QUIC that close a session. Part of the protocol: numbers keep their meaning.
pub(super) mod code {
    /// In good order.
    pub(crate) const CLOSED: u32 = 0;
    /// Another session stays.
    pub(crate) const SUPERSEDED: u32 = 1;
    /// No common protocol version.
    pub(crate) const VERSION: u32 = 2;
    /// Another site than configured.
    pub(crate) const SITE: u32 = 3;
    /// Hello and certificate differ.
    pub(crate) const NAME: u32 = 4;
    /// The certificate is no longer accepted.
    pub(crate) const CERTIFICATE: u32 = 5;
    /// The protocol was broken.
    pub(crate) const PROTOCOL: u32 = 7;
}

impl Reason {
    /// The code of the page in `docs/errors/`, where a person may have to act.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Reason::Certificate(refusal) => Some(refusal.code()),
            Reason::Version { .. } => Some("CULVERT-L002"),
            Reason::Site { .. } => Some("CULVERT-L003"),
            Reason::Name { .. } => Some("CULVERT-L004"),
            Reason::Refused { .. } => Some("CULVERT-L005"),
            Reason::Unreachable { .. } | Reason::Silent | Reason::Cut { .. } => Some("CULVERT-L006"),
            Reason::Protocol { .. } => Some("CULVERT-L007"),
            Reason::Restarted | Reason::Superseded | Reason::Closed { .. } => None,
        }
    }

    /// What the peer is told when we close for this reason.
    pub(super) fn close_code(&self) -> VarInt {
        VarInt::from_u32(match self {
            Reason::Version { .. } => code::VERSION,
            Reason::Site { .. } => code::SITE,
            Reason::Name { .. } => code::NAME,
            Reason::Certificate(_) => code::CERTIFICATE,
            Reason::Protocol { .. } => code::PROTOCOL,
            Reason::Superseded => code::SUPERSEDED,
            _ => code::CLOSED,
        })
    }

    /// Why a handshake failed: what its verdict on the certificate says, else what the transport does.
    pub(super) fn judged(verdict: &Verdict, otherwise: impl FnOnce() -> Reason) -> Reason {
        verdict.refusal().map_or_else(otherwise, Reason::Certificate)
    }

    pub(super) fn protocol(what: impl Into<String>) -> Reason {
        Reason::Protocol { what: what.into() }
    }

    /// What QUIC says, in our words. What this side itself closed for is known to the one who closed.
    pub(super) fn of(error: &ConnectionError) -> Reason {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                closed_by_peer(close.error_code, &String::from_utf8_lossy(&close.reason))
            }
            // What an application says before the handshake is done must not be shown (RFC 9000, section 10.2.3): a
            // peer that gave up waiting, not one that refuses.
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::APPLICATION_ERROR =>
            {
                Reason::Closed {
                    reason: "by the peer, during the handshake".to_owned(),
                }
            }
            ConnectionError::ConnectionClosed(close) => Reason::Refused {
                reason: alert(u64::from(close.error_code)).map_or_else(|| close.to_string(), str::to_owned),
            },
            ConnectionError::Reset => Reason::Restarted,
            ConnectionError::TimedOut => Reason::Silent,
            ConnectionError::LocallyClosed => Reason::Closed {
                reason: "by this gateway".to_owned(),
            },
            other => Reason::protocol(other.to_string()),
        }
    }
}

/// The TLS alerts by which a gateway refuses a certificate, in words. In QUIC, alert `a` is error `0x100 + a`
/// (RFC 9001, section 4.8; numbers: RFC 8446, section 6).
pub(super) fn alert(error: u64) -> Option<&'static str> {
    Some(match error.checked_sub(0x100)? {
        42 | 43 | 46 => "it does not accept our certificate for this use",
        44 => "it holds our certificate for revoked",
        45 => "by its clock our certificate has expired or has not begun",
        48 => "it does not trust the authority of our certificate",
        49 => "it does not list this gateway as a peer, or expects another one here",
        116 => "it wants a certificate and got none",
        120 => "it speaks another protocol",
        _ => return None,
    })
}

fn closed_by_peer(number: VarInt, reason: &str) -> Reason {
    match u32::try_from(number.into_inner()) {
        Ok(code::CLOSED) => Reason::Closed {
            reason: reason.to_owned(),
        },
        Ok(code::SUPERSEDED) => Reason::Superseded,
        _ => Reason::Refused {
            reason: reason.to_owned(),
        },
    }
}

/// What can go wrong on a live link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The session is gone, and with it all its lanes.
    #[error("link closed: {0}")]
    Closed(#[from] Reason),
    /// A message of ours is above the protocol's limits; nothing was sent and the link goes on.
    #[error("spell a message: {0}")]
    Unspeakable(Malformed),
    /// The lane announced a frame that is larger than any may be. The lane is given up, the link goes on.
    #[error("[CULVERT-L008] the peer announced a frame of {size} bytes; at most {max} are accepted")]
    FrameSize {
        /// As announced, without the four bytes of the length.
        size: usize,
        /// The most that is accepted.
        max: usize,
    },
    /// The sender gave the lane up, or ended it inside a frame.
    #[error("[CULVERT-L009] the lane was cut by its sender")]
    LaneCut,
    /// The reader does not want more of the lane.
    #[error("the lane is no longer read at the other end")]
    LaneStopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_of_ours_comes_back_as_its_meaning() {
        let north: Name = "north".parse().unwrap();
        let told = |reason: &Reason| closed_by_peer(reason.close_code(), &reason.to_string());
        let version = Reason::Version {
            gateway: north,
            ours: 1..=2,
            theirs: 3..=4,
        };
        assert_eq!(
            told(&version),
            Reason::Refused {
                reason: version.to_string()
            }
        );
        assert!(version.to_string().contains("3 to 4") && version.to_string().contains("1 to 2"));
        assert_eq!(told(&Reason::Superseded), Reason::Superseded);
        assert!(matches!(
            told(&Reason::Closed { reason: "bye".into() }),
            Reason::Closed { .. }
        ));
        assert!(matches!(closed_by_peer(VarInt::MAX, ""), Reason::Refused { .. }));
    }

    #[test]
    fn a_peer_that_gave_up_during_the_handshake_does_not_refuse_us() {
        let closed = |error_code| {
            Reason::of(&ConnectionError::ConnectionClosed(quinn::ConnectionClose {
                error_code,
                frame_type: None,
                reason: bytes::Bytes::new(),
            }))
        };
        assert_eq!(closed(TransportErrorCode::APPLICATION_ERROR).code(), None);
        assert_eq!(
            closed(TransportErrorCode::crypto(48)).code(),
            Some("CULVERT-L005")
        );
    }

    #[test]
    fn alerts_of_certificates_are_put_in_words() {
        assert!(alert(0x100 + 48).unwrap().contains("authority"));
        assert_eq!(alert(0x100 + 80), None);
        assert_eq!(alert(3), None);
    }
}
