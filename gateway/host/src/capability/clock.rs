//! Time and randomness.

use crate::bindings::capabilities::culvert::plugin::clock;
use crate::tape::{Tape, Taped, ask};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What time it is, in milliseconds since 1970-01-01 UTC: asked each time that a plugin asks.
pub type Now = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The time of this machine.
pub(crate) fn system() -> Now {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// The most random bytes of one call.
const RANDOM_BYTES_MAX: usize = 64 * 1024;

pub(crate) struct Clock {
    pub(crate) now: Now,
    pub(crate) tape: Option<Tape>,
}

impl clock::Host for Clock {
    fn now_ms(&mut self) -> wasmtime::Result<i64> {
        let asked = ask(self.tape.as_ref(), "clock.now-ms", |_| ());
        asked.answer(|| Ok((self.now)()))
    }

    fn random(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        let asked = ask(self.tape.as_ref(), "clock.random", |out| count.put(out));
        asked.answer(|| random(count as usize))
    }
}

fn random(count: usize) -> wasmtime::Result<Vec<u8>> {
    if count > RANDOM_BYTES_MAX {
        wasmtime::bail!("clock.random: {count} bytes asked for; at most {RANDOM_BYTES_MAX} at once");
    }
    let mut bytes = vec![0; count];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| wasmtime::format_err!("clock.random: the system has no randomness"))?;
    Ok(bytes)
}
