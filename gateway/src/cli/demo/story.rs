//! What happens in the demo, in acts. Each act waits for a condition, not for a time, and gives up at a deadline.

use super::outcome::{Kill, Outcome};
use super::stage::{READY_WITHIN, Stage};
use super::view::runway;
use super::watch::Picture;
use super::wire::Weather;
use crate::cli::words::{bytes, thousands};
use std::time::{Duration, Instant};

/// The acts, and the stage they are played on.
pub(super) struct Story<'a> {
    pub(super) stage: Stage<'a>,
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

impl Story<'_> {
    /// Plays it all.
    pub(super) fn play(&mut self) -> anyhow::Result<Outcome> {
        self.stage.begin()?;
        self.stage.flow(self.share(CUT_AT))?;
        let cut_at = self.cut();
        self.while_cut(cut_at, KILL_FIRST_AT, CUT_FOR_MAX / 2)?;
        let mut kills = vec![self.kill(0)?];
        self.while_cut(cut_at, HEAL_AT, CUT_FOR_MAX)?;
        let mut outcome = self.heal(cut_at);
        let healed_at = Instant::now();
        let waited = self.stage.picture().clone();
        for (index, share) in [(1, KILL_SECOND_AT), (2, KILL_THIRD_AT)] {
            let goal = waited.delivered() + (waited.backlog() as f64 * share) as u64;
            self.stage
                .until_progress_to("the backlog to move", goal, Picture::delivered)?;
            kills.push(self.kill(index)?);
        }
        let stage = &mut self.stage;
        stage.until_progress_to("the backlog of the cut", waited.taken_in(), Picture::delivered)?;
        outcome.caught_up_seconds = healed_at.elapsed().as_secs_f64();
        stage.view.event(&format!(
            "what had waited is delivered, {:.1} s after the link was back",
            outcome.caught_up_seconds
        ));
        outcome.kills = kills;
        outcome.judgement = stage.judge()?;
        outcome.seconds = stage.view.elapsed().as_secs_f64();
        Ok(outcome)
    }

    fn cut(&mut self) -> Instant {
        let Stage { network, view, .. } = &mut self.stage;
        network.wires[0].set(Weather::Cut);
        let now = Instant::now();
        view.cut_since = Some(now);
        view.event("the link between gateways 1 and 2 is cut; gateway 1 goes on taking records in");
        now
    }

    fn heal(&mut self, cut_at: Instant) -> Outcome {
        let wire = &self.stage.network.wires[0];
        let now = self.stage.picture();
        let outcome = Outcome {
            cut_seconds: cut_at.elapsed().as_secs_f64(),
            datagrams_dropped: wire.dropped(),
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
        wire.set(Weather::Fair);
        self.stage.view.cut_since = None;
        self.stage.view.event(&event);
        outcome
    }

    /// Kills gateway `index` and has it back.
    fn kill(&mut self, index: usize) -> anyhow::Result<Kill> {
        let stage = &mut self.stage;
        let now = stage.picture();
        let (held_bytes, backlog_records) = (now.held_bytes[index], now.backlog());
        let name = stage.network.gateways[index].name.clone();
        stage.network.gateways[index].kill();
        let died = Instant::now();
        stage.view.event(&format!(
            "{name} is killed (SIGKILL) with {} records on their way, {} in its outbox",
            thousands(backlog_records),
            bytes(held_bytes)
        ));
        stage.look()?;
        stage.network.start(index)?;
        stage.until(&format!("{name} to be back"), READY_WITHIN, |now| {
            now.ready[index]
        })?;
        let back_after_seconds = died.elapsed().as_secs_f64();
        stage
            .view
            .event(&format!("{name} is back after {back_after_seconds:.1} s"));
        Ok(Kill {
            gateway: name,
            backlog_records,
            held_bytes,
            back_after_seconds,
        })
    }

    /// Until `share` of all records is taken in, but not shorter or longer than is good to watch.
    fn while_cut(&mut self, cut_at: Instant, share: f64, longest: Duration) -> anyhow::Result<()> {
        let goal = self.share(share);
        self.stage.until("the cut to end", longest * 2, |now| {
            let lasted = cut_at.elapsed();
            lasted >= longest || now.taken_in() >= goal && lasted >= CUT_FOR_MIN.min(longest / 2)
        })
    }

    fn share(&self, share: f64) -> u64 {
        (self.stage.ends.records(self.stage.plan) as f64 * share) as u64
    }
}
