//! What the three gateways say they are doing, put together: how far the records are, and how fast.

use super::network::{GATEWAYS, Network};
use crate::observe::report::{Role, State, StatusReport, StreamStatus};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The numbers of one moment. What a gateway that is down would say is what it said last.
#[derive(Clone, Default)]
pub(super) struct Picture {
    /// Which gateways answer and are ready.
    pub(super) ready: [bool; GATEWAYS],
    /// Whether gateway 1 has a live session with gateway 2, and gateway 3 with it.
    pub(super) links: [bool; 2],
    /// Each stream: how far it was taken in, and how far it was delivered.
    pub(super) streams: BTreeMap<String, Span>,
    /// Bytes in the outboxes.
    pub(super) held_bytes: [u64; GATEWAYS],
    /// Bytes that each outbox may hold.
    pub(super) quota_bytes: u64,
    /// Records a second that gateway 1 takes in and gateway 3 delivers.
    pub(super) rates: [f64; 2],
    /// Streams that stand until an operator decides, and why.
    pub(super) halted: Vec<String>,
    /// Bytes of a record in the outbox, as seen while some waited there.
    record_bytes: Option<f64>,
}

/// One stream's places.
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) taken_in: u64,
    pub(super) delivered: u64,
}

impl Picture {
    /// Records that gateway 1 has taken in.
    pub(super) fn taken_in(&self) -> u64 {
        self.streams.values().map(|span| span.taken_in).sum()
    }

    /// Records that the sink holds.
    pub(super) fn delivered(&self) -> u64 {
        self.streams.values().map(|span| span.delivered).sum()
    }

    /// Records that are on their way.
    pub(super) fn backlog(&self) -> u64 {
        self.taken_in().saturating_sub(self.delivered())
    }

    /// How long gateway 1 could go on without the link: its free quota, at the rate at which records come in.
    pub(super) fn runway(&self) -> Option<Duration> {
        let free = self.quota_bytes.saturating_sub(self.held_bytes[0]) as f64;
        let bytes_per_second = self.rates[0] * self.record_bytes?;
        (bytes_per_second > 0.0)
            .then(|| Duration::try_from_secs_f64(free / bytes_per_second).ok())
            .flatten()
    }
}

/// Asks, and remembers.
#[derive(Default)]
pub(super) struct Watch {
    now: Picture,
    /// (when, taken in, delivered), the oldest first.
    past: VecDeque<(Instant, u64, u64)>,
}

/// Rates are over this time: short enough to see a cut at once, long enough to be steady.
const RATE_OVER: Duration = Duration::from_secs(2);

/// Fewer waiting records say little about the size of one.
const SAMPLE_RECORDS_MIN: u64 = 1_000;

impl Watch {
    pub(super) fn picture(&self) -> &Picture {
        &self.now
    }

    /// Asks every gateway that runs.
    pub(super) fn look(&mut self, network: &Network) {
        let statuses = network.gateways.each_ref().map(|gateway| gateway.status());
        let now = &mut self.now;
        now.halted.clear();
        for (index, status) in statuses.iter().enumerate() {
            now.ready[index] = status.as_ref().is_some_and(|status| status.ready);
            let Some(status) = status else { continue };
            now.held_bytes[index] = status.outbox.held_bytes;
            now.quota_bytes = status.outbox.quota_bytes;
            now.take_streams(status);
        }
        let up = |index: usize| {
            let status: &Option<StatusReport> = &statuses[index];
            status
                .as_ref()
                .is_some_and(|status| status.peers.iter().any(|peer| peer.up))
        };
        now.links = [up(0), up(2)];
        self.measure();
    }

    fn measure(&mut self) {
        let (taken_in, delivered) = (self.now.taken_in(), self.now.delivered());
        let at = Instant::now();
        self.past.push_back((at, taken_in, delivered));
        while self.past.len() > 2 && at.duration_since(self.past[1].0) >= RATE_OVER {
            self.past.pop_front();
        }
        if let Some(&(then, taken_in_then, delivered_then)) = self.past.front() {
            let seconds = at.duration_since(then).as_secs_f64().max(0.001);
            let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
            self.now.rates = [rate(taken_in, taken_in_then), rate(delivered, delivered_then)];
        }
        // What gateway 1 holds is what waits, as long as gateway 2 gets nothing.
        if !self.now.links[0] && self.now.backlog() >= SAMPLE_RECORDS_MIN && self.now.ready[0] {
            self.now.record_bytes = Some(self.now.held_bytes[0] as f64 / self.now.backlog() as f64);
        }
    }
}

impl Picture {
    fn take_streams(&mut self, status: &StatusReport) {
        for connector in &status.connectors {
            if let Some(fault) = &connector.fault
                && connector.state == State::Halted
            {
                self.halted
                    .push(format!("{}: {} [{}]", connector.name, fault.message, fault.code));
            }
            for stream in &connector.streams {
                self.take_stream(connector.role, stream);
            }
        }
    }

    fn take_stream(&mut self, role: Role, stream: &StreamStatus) {
        let span = self.streams.entry(stream.stream.clone()).or_default();
        let (place, seen) = match role {
            Role::Source => (&mut span.taken_in, stream.tail),
            Role::Sink => (&mut span.delivered, stream.applied),
        };
        // A gateway that has just started may not know yet.
        *place = (*place).max(seen.unwrap_or(0));
        if let Some(fault) = &stream.fault
            && stream.state == State::Halted
        {
            self.halted
                .push(format!("{}: {} [{}]", stream.stream, fault.message, fault.code));
        }
    }
}
