//! Reaching a peer: one dialler for each configured peer that has an address.

use super::endpoint::client_config;
use super::local::Local;
use super::room::News;
use super::session::{Path, establish};
use super::{Link, PeerConfig, Reason, carried};
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

/// After so many attempts over UDP in a row to which nobody answered, each further one is followed by one over TCP.
const UNANSWERED_MAX: u32 = 2;

/// How long a session over TCP is left alone before UDP is tried again: at first, and at most. A session over UDP that did not
/// last makes the next pause longer.
const CLIMB_MIN: Duration = Duration::from_secs(5);
const CLIMB_MAX: Duration = Duration::from_secs(60);

/// What the room wants of a dialler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// There is a session, and none that is better.
    Nothing,
    /// There is none that is heard.
    Session,
    /// There is one over TCP.
    Udp,
}

/// Dials one peer whenever there is no living session with it.
pub(super) struct Dialler {
    pub(super) local: Arc<Local>,
    pub(super) peer: PeerConfig,
    /// The room decides.
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) news: mpsc::Sender<News>,
}

impl Dialler {
    /// Runs until the room stops or the peer leaves the configuration.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut climb = Climb::new();
        let mut attempt = 0;
        while let Some(wanted) = self.wish().await {
            let pause = match wanted {
                Wanted::Udp => Some(climb.pause()),
                _ => backoff.after_session(),
            };
            if let Some(pause) = pause
                && !self.holds_for(wanted, pause).await
            {
                continue;
            }
            let address = self.peer.addresses[attempt % self.peer.addresses.len()].clone();
            let outcome = tokio::select! {
                outcome = self.attempt(&address, attempt, &mut backoff, wanted) => outcome,
                () = self.changed_from(wanted) => continue, // the peer dialled us, or is heard again
            };
            attempt = attempt.wrapping_add(1);
            match outcome {
                Ok(link) => {
                    climb.session_began(&link);
                    if !self.announce(link).await {
                        return;
                    }
                    attempt = attempt.wrapping_sub(1); // the address that worked is the first to try again
                    backoff.session_began();
                }
                // A session is there; that it goes over TCP was said.
                Err(_) if wanted == Wanted::Udp => {}
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

    /// What is wanted, once something is. None when the room stops.
    async fn wish(&mut self) -> Option<Wanted> {
        let wanted = self.wanted.wait_for(|wanted| *wanted != Wanted::Nothing).await;
        wanted.ok().map(|wanted| *wanted)
    }

    /// Waits, and answers whether the same is wanted all the time.
    async fn holds_for(&self, wanted: Wanted, pause: Duration) -> bool {
        timeout(pause, self.changed_from(wanted)).await.is_err()
    }

    async fn changed_from(&self, before: Wanted) {
        let _ = self.wanted.clone().wait_for(|wanted| *wanted != before).await; // the room is stopping
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

    /// Over UDP; and then over TCP, where that is allowed and nobody answered over UDP lately.
    async fn attempt(
        &self,
        address: &str,
        nth: usize,
        backoff: &mut Backoff,
        wanted: Wanted,
    ) -> Result<Link, Reason> {
        let longest = backoff.attempt_max();
        let unreachable = |cause: String| Reason::Unreachable {
            address: address.to_owned(),
            cause,
        };
        let socket = resolve(address, nth).await.map_err(unreachable)?;
        let no_answer = |_| unreachable(format!("no answer from {socket} in {longest:?}"));
        let outcome = timeout(longest, self.over_udp(socket, address)).await;
        let outcome = outcome.unwrap_or_else(|late| Err(no_answer(late)));
        backoff.heard(&outcome);
        match outcome {
            Err(_) if wanted == Wanted::Session && self.local.tcp && backoff.is_unanswered() => {
                let outcome = timeout(longest, carried::dial(&self.local, &self.peer, socket)).await;
                outcome
                    .unwrap_or_else(|_| Err(unreachable(format!("no answer from {socket}, over TCP either"))))
            }
            outcome => outcome,
        }
    }

    async fn over_udp(&self, socket: SocketAddr, address: &str) -> Result<Link, Reason> {
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
        let connection = connecting
            .await
            .map_err(|error| Reason::judged(&verdict, || Reason::of(&error)))?;
        establish(
            connection,
            Side::Server,
            Path::Udp,
            &self.local,
            &self.peer.gateways,
        )
        .await
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
    /// Attempts over UDP in a row to which nobody answered.
    unanswered: u32,
}

impl Backoff {
    fn new() -> Backoff {
        Backoff {
            step: 0,
            since: None,
            unanswered: 0,
        }
    }

    fn session_began(&mut self) {
        self.since = Some(Instant::now());
    }

    /// What came of an attempt over UDP.
    fn heard(&mut self, outcome: &Result<Link, Reason>) {
        let is_silent = matches!(outcome, Err(Reason::Unreachable { .. } | Reason::Silent));
        self.unanswered = if is_silent {
            self.unanswered.saturating_add(1)
        } else {
            0
        };
    }

    fn is_unanswered(&self) -> bool {
        self.unanswered >= UNANSWERED_MAX
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

/// Pauses between attempts to come back to UDP: doubling, and from the shortest again only after a session over UDP that lasted.
struct Climb {
    next: Duration,
    over_udp_since: Option<Instant>,
}

impl Climb {
    fn new() -> Climb {
        Climb {
            next: CLIMB_MIN,
            over_udp_since: None,
        }
    }

    fn session_began(&mut self, link: &Link) {
        if !link.is_carried() {
            self.over_udp_since = Some(Instant::now());
        }
    }

    fn pause(&mut self) -> Duration {
        let lasted = self.over_udp_since.take().map(|since| since.elapsed());
        if lasted.is_some_and(|lasted| lasted > CLIMB_MAX) {
            self.next = CLIMB_MIN;
        }
        let pause = self.next;
        self.next = CLIMB_MAX.min(self.next * 2);
        pause
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
