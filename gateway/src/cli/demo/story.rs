//! What happens in the demo, in acts. Each act waits for a condition, not for a time, and gives up at a deadline.

use super::ends::Ends;
use super::network::{GATEWAYS, Network};
use super::outcome::{Kill, Outcome, Verified};
use super::program::Program;
use super::view::{View, runway};
use super::watch::{Picture, Watch};
use super::{Interrupted, Plan};
use crate::cli::words::{bytes, thousands};
use crate::observe::control::{self, Prove};
use crate::observe::report::ProofReport;
use crate::observe::stop::Stop;
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// The stage and everyone on it.
pub(super) struct Story<'a> {
    plan: &'a Plan,
    ends: &'a Ends,
    pub(super) network: Network,
    pub(super) view: View,
    stop: Stop,
    watch: Watch,
    generators: Vec<Program>,
}

/// When the link is cut, gateway 1 killed and the link healed, as shares of all records taken in. By eye: there is
/// something to see between two of them, and something to come behind the last.
const CUT_AT: f64 = 0.15;
const KILL_FIRST_AT: f64 = 0.35;
const HEAL_AT: f64 = 0.6;

/// When gateways 2 and 3 are killed, as shares of what had waited and is delivered by then: they die while they are
/// busiest.
const KILL_SECOND_AT: f64 = 0.15;
const KILL_THIRD_AT: f64 = 0.5;

/// However fast records come, the link is cut for so long: longer than a live session can pretend to be one.
const CUT_FOR_MIN: Duration = Duration::from_secs(4);

/// However slowly they come, it is not cut for longer; gateway 1 is killed at half of that at the latest.
const CUT_FOR_MAX: Duration = Duration::from_secs(20);

/// A gateway is ready in about a second; a busy host or a first contact with Kafka takes several times that.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Without any progress for so long, something is wrong.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How long the proof may take.
const PROVEN_WITHIN: Duration = Duration::from_secs(120);

/// How often everyone is asked and the view redrawn.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl<'a> Story<'a> {
    pub(super) fn new(plan: &'a Plan, ends: &'a Ends, network: Network, view: View, stop: Stop) -> Story<'a> {
        Story {
            plan,
            ends,
            network,
            view,
            stop,
            watch: Watch::default(),
            generators: Vec::new(),
        }
    }

    /// Plays it all.
    pub(super) fn play(&mut self) -> anyhow::Result<Outcome> {
        self.begin()?;
        self.flow()?;
        let cut_at = self.cut();
        self.while_cut(cut_at, KILL_FIRST_AT, CUT_FOR_MAX / 2)?;
        let mut kills = vec![self.kill(0)?];
        self.while_cut(cut_at, HEAL_AT, CUT_FOR_MAX)?;
        let mut outcome = self.heal(cut_at);
        let healed_at = Instant::now();
        let waited = self.watch.picture().clone();
        for (index, share) in [(1, KILL_SECOND_AT), (2, KILL_THIRD_AT)] {
            let goal = waited.delivered() + (waited.backlog() as f64 * share) as u64;
            self.until_progress_to("the backlog to move", goal, Picture::delivered)?;
            kills.push(self.kill(index)?);
        }
        self.until_progress_to("the backlog of the cut", waited.taken_in(), Picture::delivered)?;
        outcome.caught_up_seconds = healed_at.elapsed().as_secs_f64();
        self.view.event(&format!(
            "what had waited is delivered, {:.1} s after the link was back",
            outcome.caught_up_seconds
        ));
        let contents = self.end_of_generators()?;
        self.until_progress_to("all records", self.ends.records(self.plan), Picture::delivered)?;
        self.view.event("everything has arrived; comparing both ends");
        outcome.kills = kills;
        outcome.proof = Some(self.prove()?);
        outcome.verified = self.verify(&contents)?;
        outcome.seconds = self.view.elapsed().as_secs_f64();
        Ok(outcome)
    }

    /// Lets everything run until somebody wants it to end.
    pub(super) fn stay(&mut self) -> anyhow::Result<()> {
        while self.stop.asked_by().is_none() {
            self.network.check()?;
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// The last gateway first, so that each finds whom it dials.
    fn begin(&mut self) -> anyhow::Result<()> {
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

    /// Until records cross in every stream: one that has never heard of its sink has to wait for it.
    fn flow(&mut self) -> anyhow::Result<()> {
        let goal = self.share(CUT_AT);
        self.until_progress_to("records to be delivered", goal, Picture::delivered)?;
        let streams = self.ends.streams();
        self.until("records to cross in every stream", STUCK_AFTER, |now| {
            let crossed = now.streams.values().filter(|span| span.delivered > 0).count();
            crossed >= streams
        })
    }

    fn cut(&mut self) -> Instant {
        self.network.wire.cut();
        let now = Instant::now();
        self.view.cut_since = Some(now);
        self.view
            .event("the link between gateways 1 and 2 is cut; gateway 1 goes on taking records in");
        now
    }

    fn heal(&mut self, cut_at: Instant) -> Outcome {
        let now = self.watch.picture();
        let outcome = Outcome {
            cut_seconds: cut_at.elapsed().as_secs_f64(),
            datagrams_dropped: self.network.wire.dropped(),
            backlog_records_max: now.backlog(),
            backlog_bytes_max: now.held_bytes[0],
            runway_seconds: now.runway().map(|runway| runway.as_secs()),
            ..Outcome::default()
        };
        let event = format!(
            "the link is back after {:.1} s; {} records ({}) wait, runway {}",
            outcome.cut_seconds,
            thousands(outcome.backlog_records_max),
            bytes(outcome.backlog_bytes_max),
            runway(now),
        );
        self.network.wire.heal();
        self.view.cut_since = None;
        self.view.event(&event);
        outcome
    }

    /// Kills gateway `index` and has it back.
    fn kill(&mut self, index: usize) -> anyhow::Result<Kill> {
        let now = self.watch.picture();
        let (held_bytes, backlog_records) = (now.held_bytes[index], now.backlog());
        let name = self.network.gateways[index].name.clone();
        self.network.gateways[index].kill();
        let died = Instant::now();
        self.view.event(&format!(
            "{name} is killed (SIGKILL) with {} records on their way, {} in its outbox",
            thousands(backlog_records),
            bytes(held_bytes)
        ));
        self.look()?;
        self.network.start(index)?;
        self.until(&format!("{name} to be back"), READY_WITHIN, |now| {
            now.ready[index]
        })?;
        let back_after_seconds = died.elapsed().as_secs_f64();
        self.view
            .event(&format!("{name} is back after {back_after_seconds:.1} s"));
        Ok(Kill {
            gateway: name,
            backlog_records,
            held_bytes,
            back_after_seconds,
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

    /// Until `share` of all records is taken in, but not shorter or longer than is good to watch.
    fn while_cut(&mut self, cut_at: Instant, share: f64, longest: Duration) -> anyhow::Result<()> {
        let goal = self.share(share);
        self.until("the cut to end", longest * 2, |now| {
            let lasted = cut_at.elapsed();
            lasted >= longest || now.taken_in() >= goal && lasted >= CUT_FOR_MIN.min(longest / 2)
        })
    }

    fn share(&self, share: f64) -> u64 {
        (self.ends.records(self.plan) as f64 * share) as u64
    }

    /// Waits until `count` is at `goal`, as long as it grows.
    fn until_progress_to(
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

    fn until(&mut self, what: &str, within: Duration, met: impl Fn(&Picture) -> bool) -> anyhow::Result<()> {
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
    fn look(&mut self) -> anyhow::Result<()> {
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
