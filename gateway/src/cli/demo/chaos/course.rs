//! Does what a schedule says, and looks how soon records flow again.

use super::schedule::{Fault, Kind, Place};
use crate::cli::demo::outcome::Judgement;
use crate::cli::demo::stage::{LOOK_EVERY, READY_WITHIN, STUCK_AFTER, Stage};
use crate::cli::demo::watch::{Picture, Span};
use crate::cli::demo::wire::Weather;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// The faults, and the stage they befall.
pub(super) struct Course<'a> {
    pub(super) stage: Stage<'a>,
    schedule: Vec<Fault>,
    active: Vec<(Fault, Instant)>,
    /// The last fault that has ended and nothing else broken since: its place among `done`, when, and how far streams were taken in.
    waits: Option<(usize, Instant, BTreeMap<String, Span>)>,
    pub(super) done: Vec<Done>,
}

/// A fault that is over.
pub(super) struct Done {
    pub(super) fault: Fault,
    /// How long it really lasted: a gateway in good order ends when it is done.
    pub(super) lasted: Duration,
    /// From its end to the first record at the target that came in after it. Not where something else was broken by then.
    pub(super) flows_after: Option<Duration>,
}

impl<'a> Course<'a> {
    pub(super) fn new(stage: Stage<'a>, schedule: Vec<Fault>) -> Course<'a> {
        Course {
            stage,
            schedule,
            active: Vec::new(),
            waits: None,
            done: Vec::new(),
        }
    }

    /// Runs all of it, and has judged what came of it.
    pub(super) fn run(&mut self) -> anyhow::Result<Judgement> {
        self.stage.begin()?;
        self.stage.flow(1)?;
        let began = Instant::now();
        let mut coming = std::mem::take(&mut self.schedule).into_iter().peekable();
        while coming.peek().is_some() || !self.active.is_empty() {
            self.end_what_is_over()?;
            while let Some(fault) = coming.next_if(|fault| fault.at <= began.elapsed()) {
                self.begin(fault)?;
            }
            self.look()?;
            thread::sleep(LOOK_EVERY);
            if self.stage.picture().delivered() >= self.stage.ends.records(self.stage.plan) {
                coming = Vec::new().into_iter().peekable(); // nothing is left that could be lost
            }
        }
        self.stage.until("all gateways to be back", READY_WITHIN, |now| {
            now.ready.iter().all(|ready| *ready)
        })?;
        let healed = Instant::now();
        while self.waits.is_some() && healed.elapsed() < STUCK_AFTER {
            self.look()?;
            thread::sleep(LOOK_EVERY);
        }
        self.stage.judge()
    }

    fn look(&mut self) -> anyhow::Result<()> {
        self.stage.look()?;
        if let Some((nth, since, before)) = &self.waits
            && flows(before, self.stage.picture())
        {
            self.done[*nth].flows_after = Some(since.elapsed());
            self.waits = None;
        }
        Ok(())
    }

    fn begin(&mut self, fault: Fault) -> anyhow::Result<()> {
        let amount = fault
            .amount()
            .map_or_else(String::new, |amount| format!(" of {amount}"));
        let lasts = fault.lasts.as_secs_f64();
        self.stage.view.event(&format!(
            "{} {}{amount} for {lasts:.1} s",
            fault.kind, fault.place
        ));
        self.waits = None;
        let began = Instant::now();
        let network = &mut self.stage.network;
        match fault.place {
            Place::Link(index) => network.wires[index].set(weather(&fault)),
            Place::Gateway(index) => match fault.kind {
                Kind::Freeze => network.gateways[index].freeze()?,
                Kind::Restart => network.gateways[index].end()?,
                _ => network.gateways[index].kill(),
            },
        }
        self.active.push((fault, began));
        self.show();
        Ok(())
    }

    fn end_what_is_over(&mut self) -> anyhow::Result<()> {
        let is_over = |(fault, began): &mut (Fault, Instant)| began.elapsed() >= fault.lasts;
        let over: Vec<(Fault, Instant)> = self.active.extract_if(.., is_over).collect();
        for (fault, began) in over {
            let network = &mut self.stage.network;
            match fault.place {
                Place::Link(index) => network.wires[index].set(Weather::Fair),
                Place::Gateway(index) if fault.kind == Kind::Freeze => network.gateways[index].thaw()?,
                Place::Gateway(index) => network.start(index)?,
            }
            self.done.push(Done {
                fault,
                lasted: began.elapsed(),
                flows_after: None,
            });
            if self.active.is_empty() {
                let streams = self.stage.picture().streams.clone();
                self.waits = Some((self.done.len() - 1, Instant::now(), streams));
            }
            self.show();
        }
        Ok(())
    }

    fn show(&mut self) {
        let active = self.active.iter();
        self.stage.view.broken = active
            .map(|(fault, _)| format!("{} {}", fault.place, fault.kind))
            .collect();
    }
}

/// Whether a record is delivered that was not taken in before.
fn flows(before: &BTreeMap<String, Span>, now: &Picture) -> bool {
    now.streams.iter().any(|(stream, span)| {
        let before = before.get(stream).copied().unwrap_or_default();
        span.delivered > before.taken_in
    })
}

fn weather(fault: &Fault) -> Weather {
    match fault.kind {
        Kind::CutIn => Weather::CutToward,
        Kind::CutOut => Weather::CutBack,
        Kind::Loss => Weather::Loss(fault.degree),
        Kind::Delay => Weather::Delay(Duration::from_millis(fault.degree.into())),
        _ => Weather::Cut,
    }
}
