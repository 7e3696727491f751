//! Reaching a peer: one dialler for each configured peer that has an address.

use super::endpoint::client_config;
use super::local::Local;
use super::room::News;
use super::session::establish;
use super::{Link, PeerConfig, Reason};
use crate::identity::Side;
use rand::RngExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

/// The pause after the first failed attempt: short, because a peer that restarts is back at once.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The longest pause: a peer that comes back after a week is found again in this time. A packet a second is nothing.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long the first attempt may take; the next ones longer, up to [`ATTEMPT_MAX`]. Short at first, so that one
/// lost packet at the wrong moment does not cost a second; longer later, so that a path of 0.6 s gets through.
const ATTEMPT_MIN: Duration = Duration::from_secs(1);
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// A session that lasted this long was a success: the next dial begins with the shortest pause again.
const SUCCESS_AFTER: Duration = Duration::from_secs(1);

/// How long names may take to resolve.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Dials one peer whenever there is no living session with it.
pub(super) struct Dialler {
    pub(super) local: Arc<Local>,
    pub(super) peer: PeerConfig,
    /// Whether a session is wanted now; the room decides.
    pub(super) wanted: watch::Receiver<bool>,
    pub(super) news: mpsc::Sender<News>,
}

impl Dialler {
    /// Runs until the room stops or the peer leaves the configuration.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut attempt = 0;
        while self.wanted.wait_for(|wanted| *wanted).await.is_ok() {
            if let Some(pause) = backoff.after_session() {
                sleep(pause).await;
                continue;
            }
            let address = self.peer.addresses[attempt % self.peer.addresses.len()].clone();
            let mut wanted = self.wanted.clone();
            let outcome = tokio::select! {
                outcome = self.attempt(&address, attempt, backoff.attempt_max()) => outcome,
                _ = wanted.wait_for(|wanted| !*wanted) => continue, // the peer dialled us, or is heard again
            };
            attempt = attempt.wrapping_add(1);
            match outcome {
                Ok(link) => {
                    if !self.announce(link).await {
                        return;
                    }
                    attempt = attempt.wrapping_sub(1); // the address that worked is the first to try again
                    backoff.session_began();
                }
                Err(reason) => {
                    let news = News::Unreached {
                        site: Arc::clone(&self.peer.site),
                        address,
                        reason,
                    };
                    if self.news.send(news).await.is_err() {
                        return;
                    }
                    sleep(backoff.pause()).await;
                }
            }
        }
    }

    /// Hands the session to the room and waits until it has decided about it. Answers whether the room is there.
    async fn announce(&self, link: Link) -> bool {
        let (decided, decision) = oneshot::channel();
        let news = News::Established {
            link,
            decided: Some(decided),
        };
        let heard = self.news.send(news).await.is_ok();
        let _ = decision.await; // dropped, not sent: there is nothing to say
        heard
    }

    async fn attempt(&self, address: &str, nth: usize, longest: Duration) -> Result<Link, Reason> {
        let unreachable = |cause: String| Reason::Unreachable {
            address: address.to_owned(),
            cause,
        };
        let socket = resolve(address, nth).await.map_err(unreachable)?;
        match timeout(longest, self.connect(socket, address)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable(format!("no answer from {socket} in {longest:?}"))),
        }
    }

    async fn connect(&self, socket: SocketAddr, address: &str) -> Result<Link, Reason> {
        let config = self.local.config();
        let (tls, verdict) = config.identity.dialling(Arc::clone(&self.peer.gateways));
        let name = self.peer.gateways.first().map_or("", |gateway| gateway.as_str());
        let connecting = self
            .local
            .endpoint
            .connect_with(client_config(tls, &self.local.transport), socket, name)
            .map_err(|error| Reason::Unreachable {
                address: address.to_owned(),
                cause: error.to_string(),
            })?;
        let connection = connecting.await.map_err(|error| {
            verdict
                .refusal()
                .map_or_else(|| Reason::of(&error), Reason::Certificate)
        })?;
        establish(connection, Side::Server, &self.local, &self.peer.gateways).await
    }
}

/// One of the addresses behind a name, another one at each attempt.
async fn resolve(address: &str, nth: usize) -> Result<SocketAddr, String> {
    let found = timeout(RESOLVE_MAX, tokio::net::lookup_host(address)).await;
    let mut found: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(format!("resolve: {error}")),
        Err(_) => return Err("resolve: no answer from the name server".to_owned()),
    };
    if found.is_empty() {
        return Err("resolve: no address behind this name".to_owned());
    }
    let nth = nth % found.len();
    Ok(found.swap_remove(nth))
}

/// Pauses between attempts: doubling, with jitter, so that gateways which lost the same link do not all come back
/// in the same millisecond.
struct Backoff {
    step: u32,
    since: Option<Instant>,
}

impl Backoff {
    fn new() -> Backoff {
        Backoff { step: 0, since: None }
    }

    fn session_began(&mut self) {
        self.since = Some(Instant::now());
    }

    fn attempt_max(&self) -> Duration {
        (ATTEMPT_MIN + ATTEMPT_MIN / 2 * self.step).min(ATTEMPT_MAX)
    }

    fn pause(&mut self) -> Duration {
        let full = PAUSE_MAX.min(PAUSE_MIN * 2u32.saturating_pow(self.step));
        self.step = (self.step + 1).min(16);
        full.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    /// What the last session, if there was one, means for the next dial: none to wait if it was a success.
    fn after_session(&mut self) -> Option<Duration> {
        let lasted = self.since.take()?.elapsed();
        if lasted < SUCCESS_AFTER {
            return Some(self.pause());
        }
        self.step = 0;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_milliseconds_to_the_cap_and_no_further() {
        let mut backoff = Backoff::new();
        assert!(backoff.pause() <= PAUSE_MIN);
        let last = (0..40).map(|_| backoff.pause()).last().unwrap();
        assert!(last >= PAUSE_MAX / 2 && last <= PAUSE_MAX);
        assert_eq!(backoff.attempt_max(), ATTEMPT_MAX);
    }
}
