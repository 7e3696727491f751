//! What systemd is told (`Type=notify`, sd_notify(3)). Without systemd, nothing happens.

use super::health::Health;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// The gateway serves.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {
    // The service manager wants to know that the notice is not older than its own signal.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The gateway drains.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Feeds the watchdog, if there is one, at half its interval for as long as the gateway lives, so that one that has
/// failed is started anew. Runs until `stop`.
pub async fn watchdog(health: Health, stop: CancellationToken) {
    let Some(interval) = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()) else {
        return;
    };
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        if health.lives() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// A service manager that does not listen is no reason to stop.
fn tell(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}
