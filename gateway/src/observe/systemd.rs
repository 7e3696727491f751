//! What systemd is told (`Type=notify`, sd_notify(3)), and the sockets it hands over (sd_listen_fds(3)). Without systemd,
//! nothing happens.

use super::Error;
use super::health::Health;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

/// Sockets that were open before this process, and that outlive it: what arrives while the gateway is started anew waits
/// in them, and they may have ports below 1024.
#[derive(Debug, Default)]
pub struct Sockets {
    /// That of the tunnel, in place of `tunnel.listen`.
    pub tunnel: Option<UdpSocket>,
    /// That of metrics and health, in place of `telemetry.listen`.
    pub telemetry: Option<TcpListener>,
}

impl Sockets {
    /// Takes what was handed over: the UDP socket is the tunnel's, the TCP socket that of metrics and health. To be called
    /// once, before there are threads: the variables that announce them are removed.
    ///
    /// # Errors
    /// [`Error::Handed`]: two of a kind, or a socket of another kind.
    pub fn take() -> Result<Sockets, Error> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Sockets::default();
        for place in 0..handed.len() {
            if let Ok(Some(socket)) = handed.take_udp_socket(place) {
                if sockets.tunnel.replace(socket).is_some() {
                    return Err(Error::Handed("two UDP sockets"));
                }
            } else if let Ok(Some(listener)) = handed.take_tcp_listener(place) {
                if sockets.telemetry.replace(listener).is_some() {
                    return Err(Error::Handed("two TCP sockets"));
                }
            } else {
                return Err(Error::Handed("a socket that is neither UDP nor TCP"));
            }
        }
        Ok(sockets)
    }
}

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
