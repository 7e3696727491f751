//! Whether the gateway lives and whether it serves, as its parts report it.
//!
//! Neither depends on the far side: a gateway whose peer is away is well, and must not be restarted for it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// The health of a gateway; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, State>>>);

/// How one part is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    /// Broken for good: the process must be restarted.
    Failed(String),
}

/// One part's own handle to the gateway's health. Starting until it says otherwise.
#[derive(Clone, Debug)]
pub struct Part {
    health: Health,
    name: &'static str,
}

impl Health {
    /// A gateway of no parts, which lives and does not serve.
    #[must_use]
    pub fn new() -> Health {
        Health::default()
    }

    /// Adds the part `name`, starting.
    #[must_use]
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part {
            health: self.clone(),
            name,
        };
        part.set(State::Starting);
        part
    }

    /// Whether no part has failed.
    #[must_use]
    pub fn lives(&self) -> bool {
        !self
            .0
            .lock()
            .values()
            .any(|state| matches!(state, State::Failed(_)))
    }

    /// Whether every part is ready.
    #[must_use]
    pub fn serves(&self) -> bool {
        let parts = self.0.lock();
        !parts.is_empty() && parts.values().all(|state| *state == State::Ready)
    }

    /// A line for each part.
    #[must_use]
    pub fn describe(&self) -> String {
        self.0
            .lock()
            .iter()
            .fold(String::new(), |mut text, (name, state)| {
                let _ = match state {
                    State::Starting => writeln!(text, "{name}: starting"),
                    State::Ready => writeln!(text, "{name}: ready"),
                    State::Failed(reason) => writeln!(text, "{name}: failed: {reason}"),
                };
                text
            })
    }
}

impl Part {
    /// This part does its work.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// This part does not do its work yet, or not now.
    pub fn starting(&self) {
        self.set(State::Starting);
    }

    /// This part will not do its work again before a restart.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(State::Failed(reason.into()));
    }

    fn set(&self, state: State) {
        self.health.0.lock().insert(self.name, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serves_when_all_parts_are_ready_and_lives_until_one_fails() {
        let health = Health::new();
        assert!(health.lives() && !health.serves(), "nothing is there yet");
        let (outbox, link) = (health.part("outbox"), health.part("link"));
        outbox.ready();
        assert!(!health.serves(), "the link is still starting");
        link.ready();
        assert!(health.lives() && health.serves());
        outbox.failed("fsync: Input/output error");
        assert!(!health.lives() && !health.serves());
        assert_eq!(
            health.describe(),
            "link: ready\noutbox: failed: fsync: Input/output error\n"
        );
    }
}
