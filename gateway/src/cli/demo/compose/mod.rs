//! What the containers of `docker-compose.yml` run beside the gateways: certificates, records, a look at the target, and
//! the proof that the networks are apart.

mod beat;
mod certificates;
mod generate;
mod isolation;
mod verify;

use crate::cli::{Exit, Session, duration};
use crate::observe::stop::Stop;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    Certificates(certificates::Args),
    Generate(Box<generate::Args>),
    Verify(Box<verify::Args>),
    VerifyIsolation(isolation::Args),
    #[command(hide = true)]
    Health(beat::Args),
    /// What verify-isolation starts inside of containers' networks
    #[command(hide = true, subcommand)]
    Probe(isolation::probe::Verb),
}

pub(super) fn run(verb: &Verb, session: &Session) -> anyhow::Result<Exit> {
    match verb {
        Verb::Certificates(args) => certificates::run(args, session),
        Verb::Generate(args) => generate::run(args, session),
        Verb::Verify(args) => verify::run(args, session),
        Verb::VerifyIsolation(args) => isolation::run(args, session),
        Verb::Health(args) => beat::run(args, session),
        Verb::Probe(verb) => isolation::probe::run(verb, session),
    }
}

/// Tells a service that somebody wants it to end: as process 1 of a container it has no other way to know.
struct Ending {
    stop: Stop,
    runtime: Runtime,
}

impl Ending {
    fn new() -> anyhow::Result<Ending> {
        let (runtime, stop) = crate::cli::runtime(Some(1))?;
        Ok(Ending { stop, runtime })
    }

    fn is_wanted(&self) -> bool {
        self.stop.drain().is_cancelled()
    }

    /// Waits, unless the end is wanted before.
    fn pause(&self, time: Duration) {
        let wanted = self.stop.drain().cancelled();
        // What matters is asked for again.
        let _ = self
            .runtime
            .block_on(async { tokio::time::timeout(time, wanted).await });
    }

    /// Tries again until it works or the end is wanted. What goes wrong is told once in a while.
    fn until_done<T>(&self, session: &Session, mut attempt: impl FnMut() -> anyhow::Result<T>) -> Option<T> {
        let mut told: Option<Instant> = None;
        while !self.is_wanted() {
            match attempt() {
                Ok(done) => return Some(done),
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                        session.terminal.note(format_args!("{error:#}; trying again"));
                        told = Some(Instant::now());
                    }
                    self.pause(AGAIN);
                }
            }
        }
        None
    }
}

/// By eye: a broker that starts is met soon, and one that is away is not pressed.
const AGAIN: Duration = Duration::from_secs(2);

/// A log that can be read through after a night.
const TELL_EVERY: Duration = Duration::from_secs(60);
