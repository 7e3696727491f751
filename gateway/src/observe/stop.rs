//! How a gateway is asked to stop, and to read its configuration again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The wish to stop, as everyone who runs sees it; cheap to clone.
///
/// The first SIGTERM or SIGINT asks to drain: finish what is under way, lose nothing, take nothing new. The second
/// asks to end at once, which loses nothing either, and costs the next start some time. SIGHUP asks to read the certificates again.
#[derive(Clone, Debug)]
pub struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
    reloads: watch::Receiver<u64>,
    signal: Arc<AtomicU8>,
}

/// The other end of a [`Stop`].
#[derive(Debug)]
pub struct Stopper {
    drain: CancellationToken,
    now: CancellationToken,
    reloads: watch::Sender<u64>,
    signal: Arc<AtomicU8>,
}

impl Stop {
    /// A wish that somebody in this process can have.
    #[must_use]
    pub fn new() -> (Stopper, Stop) {
        let (drain, now) = (CancellationToken::new(), CancellationToken::new());
        let (reload, reloads) = watch::channel(0);
        let signal = Arc::new(AtomicU8::new(0));
        let stopper = Stopper {
            drain: drain.clone(),
            now: now.clone(),
            reloads: reload,
            signal: Arc::clone(&signal),
        };
        (
            stopper,
            Stop {
                drain,
                now,
                reloads,
                signal,
            },
        )
    }

    /// The wish that the process's signals express. Needs a running tokio runtime.
    ///
    /// # Errors
    /// The system does not let us listen to signals.
    pub fn on_signals() -> io::Result<Stop> {
        let (stopper, stop) = Stop::new();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        tokio::spawn(listen(stopper, terminate, interrupt, hangup));
        Ok(stop)
    }

    /// Cancelled when draining is to begin.
    #[must_use]
    pub fn drain(&self) -> &CancellationToken {
        &self.drain
    }

    /// Cancelled when the end is to come at once.
    #[must_use]
    pub fn now(&self) -> &CancellationToken {
        &self.now
    }

    /// Changes with each wish to reload.
    #[must_use]
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.clone()
    }

    /// The signal that asked to end at once, if one did.
    #[must_use]
    pub fn ended_by(&self) -> Option<u8> {
        self.now.is_cancelled().then(|| self.asked_by()).flatten()
    }

    /// The last signal that asked to stop, if one did.
    #[must_use]
    pub fn asked_by(&self) -> Option<u8> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }
}

impl Stopper {
    /// Asks to drain; the second time, to end at once.
    pub fn stop(&self) {
        if self.drain.is_cancelled() {
            self.now.cancel();
        }
        self.drain.cancel();
    }

    /// Asks to reload.
    pub fn reload(&self) {
        self.reloads.send_modify(|count| *count += 1);
    }
}

async fn listen(stopper: Stopper, mut terminate: Signal, mut interrupt: Signal, mut hangup: Signal) {
    loop {
        let number = tokio::select! {
            Some(()) = terminate.recv() => SignalKind::terminate(),
            Some(()) = interrupt.recv() => SignalKind::interrupt(),
            Some(()) = hangup.recv() => SignalKind::hangup(),
            else => return,
        };
        if number == SignalKind::hangup() {
            stopper.reload();
        } else {
            let number = u8::try_from(number.as_raw_value()).unwrap_or(0);
            stopper.signal.store(number, Ordering::Relaxed);
            stopper.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wish_drains_and_the_second_ends() {
        let (stopper, stop) = Stop::new();
        assert!(!stop.drain().is_cancelled());
        stopper.stop();
        assert!(stop.drain().is_cancelled() && !stop.now().is_cancelled());
        stopper.stop();
        assert!(stop.now().is_cancelled());
        assert_eq!(stop.ended_by(), None, "no signal was involved");
    }

    #[test]
    fn each_reload_is_seen() {
        let (stopper, stop) = Stop::new();
        let mut reloads = stop.reloads();
        assert!(!reloads.has_changed().expect("the sender lives"));
        stopper.reload();
        assert!(reloads.has_changed().expect("the sender lives"));
        reloads.mark_unchanged();
        assert!(!reloads.has_changed().expect("the sender lives"));
    }
}
