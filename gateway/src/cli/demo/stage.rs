//! The stage of the demo: three gateways, those who write to their source, and everyone who watches. What is done to them is
//! told elsewhere. Each wait is for a condition, not for a time, and gives up at a deadline.

use super::ends::Ends;
use super::network::{GATEWAYS, Network};
use super::outcome::{Judgement, Verified};
use super::program::Program;
use super::view::View;
use super::watch::{Picture, Watch};
use super::{Interrupted, Plan};
use crate::cli::words::thousands;
use crate::observe::control::{self, Prove};
use crate::observe::report::ProofReport;
use crate::observe::stop::Stop;
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// The stage and everyone on it.
pub(super) struct Stage<'a> {
    pub(super) plan: &'a Plan,
    pub(super) ends: &'a Ends,
    pub(super) network: Network,
    pub(super) view: View,
    stop: Stop,
    watch: Watch,
    generators: Vec<Program>,
}

/// A gateway is ready in about a second; a busy host or a first contact with Kafka takes several times that.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);

/// Without any progress for so long, something is wrong.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How long the proof may take.
const PROVEN_WITHIN: Duration = Duration::from_secs(120);

/// How often everyone is asked and the view redrawn.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

impl<'a> Stage<'a> {
    pub(super) fn new(plan: &'a Plan, ends: &'a Ends, network: Network, view: View, stop: Stop) -> Stage<'a> {
        Stage {
            plan,
            ends,
            network,
            view,
            stop,
            watch: Watch::default(),
            generators: Vec::new(),
        }
    }

    /// Where everything was at the last look.
    pub(super) fn picture(&self) -> &Picture {
        self.watch.picture()
    }

    /// The last gateway first, so that each finds whom it dials.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        let launcher = &self.network.launcher;
        let directory = &self.network.gateways[0].directory;
        for (number, arguments) in self.ends.generates(self.plan).iter().enumerate() {
            self.generators
                .push(launcher.start(directory, &format!("generate-{number}"), arguments)?);
        }
        for index in (0..GATEWAYS).rev() {
            self.network.start(index)?;
        }
        self.until("three gateways and their links", READY_WITHIN, |now| {
            now.ready == [true; GATEWAYS] && now.links == [true; 2]
        })?;
        self.view.event(&format!("running: {}", self.ends.describe()));
        Ok(())
    }

    /// Until `records` are delivered, and some in every stream: one that has never heard of its sink has to wait for it.
    pub(super) fn flow(&mut self, records: u64) -> anyhow::Result<()> {
        self.until_progress_to("records to be delivered", records, Picture::delivered)?;
        let streams = self.ends.streams();
        self.until("records to cross in every stream", STUCK_AFTER, |now| {
            let crossed = now.streams.values().filter(|span| span.delivered > 0).count();
            crossed >= streams
        })
    }

    /// Lets everything run until somebody wants it to end.
    pub(super) fn stay(&mut self) -> anyhow::Result<()> {
        while self.stop.asked_by().is_none() {
            self.network.check()?;
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits for all records, and has them judged: by the gateways at both ends, and by a look at the target alone.
    pub(super) fn judge(&mut self) -> anyhow::Result<Judgement> {
        let contents = self.end_of_generators()?;
        self.until_progress_to("all records", self.ends.records(self.plan), Picture::delivered)?;
        self.view.event("everything has arrived; comparing both ends");
        Ok(Judgement {
            proof: Some(self.prove()?),
            verified: self.verify(&contents)?,
        })
    }

    /// Waits for those who write to the source; answers the hashes of what they wrote.
    fn end_of_generators(&mut self) -> anyhow::Result<Vec<String>> {
        let mut contents = Vec::new();
        for generator in std::mem::take(&mut self.generators) {
            let answer = self.answer_of(generator, "culvert generate")?;
            let written: serde_json::Value =
                serde_json::from_str(&answer).context("read what culvert generate wrote")?;
            contents.push(written["content"].as_str().unwrap_or_default().to_owned());
        }
        Ok(contents)
    }

    fn prove(&mut self) -> anyhow::Result<ProofReport> {
        let socket: PathBuf = self.network.gateways[GATEWAYS - 1].socket();
        let wait_ms = u64::try_from(PROVEN_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let prove = Prove {
            wait_ms,
            ..Prove::default()
        };
        let proving = thread::spawn(move || control::prove(&socket, prove, &mut |_| {}));
        self.until("the proof", PROVEN_WITHIN, |_| proving.is_finished())?;
        match proving.join() {
            Ok(report) => Ok(report?),
            Err(_) => bail!("the proof panicked"),
        }
    }

    /// The second opinion: it reads the target alone and knows nothing of positions.
    fn verify(&mut self, contents: &[String]) -> anyhow::Result<Vec<Verified>> {
        let mut verified = Vec::new();
        for (number, arguments) in self.ends.verifies(self.plan, contents).iter().enumerate() {
            let directory = &self.network.gateways[GATEWAYS - 1].directory;
            let program = self
                .network
                .launcher
                .start(directory, &format!("verify-{number}"), arguments)?;
            // It ends with 1 when it finds something, and has answered then, too.
            let (answer, clean) = self.ended(program, "culvert verify")?;
            verified.push(Verified {
                command: format!("culvert {}", arguments.join(" ")),
                clean,
                answer,
            });
        }
        Ok(verified)
    }

    fn answer_of(&mut self, program: Program, what: &str) -> anyhow::Result<String> {
        let (answer, clean) = self.ended(program, what)?;
        if !clean {
            bail!("{what} failed: {answer}");
        }
        Ok(answer)
    }

    /// Waits until `program` has ended; what it printed, or the end of what it complained about, and whether it
    /// ended with 0.
    fn ended(&mut self, mut program: Program, what: &str) -> anyhow::Result<(String, bool)> {
        let began = Instant::now();
        loop {
            if let Some(status) = program.ended()? {
                let answer = program.answer()?;
                if !status.success() && answer.is_empty() {
                    return program.fail(&format!("{what}: {status}"));
                }
                return Ok((answer, status.success()));
            }
            if began.elapsed() > PROVEN_WITHIN {
                return program.fail(&format!("{what} did not end in {} s", PROVEN_WITHIN.as_secs()));
            }
            self.look()?;
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until `count` is at `goal`, as long as it grows.
    pub(super) fn until_progress_to(
        &mut self,
        what: &str,
        goal: u64,
        count: impl Fn(&Picture) -> u64,
    ) -> anyhow::Result<()> {
        while count(self.watch.picture()) < goal {
            let before = count(self.watch.picture());
            self.until(what, STUCK_AFTER, |now| count(now) > before)?;
        }
        Ok(())
    }

    pub(super) fn until(
        &mut self,
        what: &str,
        within: Duration,
        met: impl Fn(&Picture) -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            self.look()?;
            if met(self.watch.picture()) {
                return Ok(());
            }
            if began.elapsed() > within {
                let now = self.watch.picture();
                bail!(
                    "waited {} s for {what}, in vain: {} records were taken in, {} delivered",
                    within.as_secs(),
                    thousands(now.taken_in()),
                    thousands(now.delivered())
                );
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks everyone, shows it, and notices what must not be.
    pub(super) fn look(&mut self) -> anyhow::Result<()> {
        if let Some(signal) = self.stop.asked_by() {
            return Err(Interrupted(signal).into());
        }
        self.network.check()?;
        self.watch.look(&self.network);
        self.view.show(self.watch.picture());
        match self.watch.picture().halted.first() {
            Some(halted) => bail!("a stream stands still: {halted}"),
            None => Ok(()),
        }
    }
}
