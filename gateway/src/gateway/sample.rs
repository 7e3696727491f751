//! Once a second: what moved, for `status` and for the gauges.

use super::Gateway;
use crate::flow::exchange::Role;
use crate::observe::metrics;
use crate::plugin::Figure;
use culvert_proto::{Sequence, StreamId};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// Over how many looks a rate is taken: ten seconds, long enough for a transaction to stand still in between.
const LOOKS: usize = 10;

/// How fast each stream moves.
#[derive(Default)]
pub(super) struct Rates(Mutex<HashMap<(StreamId, bool), Looks>>);

/// When was looked, and how far the stream was.
type Looks = VecDeque<(Instant, u64)>;

impl Rates {
    /// Records a second of the stream, at the origin (`true`) or at the sink.
    pub(super) fn of(&self, stream: &StreamId, origin: bool) -> f64 {
        let rates = self.0.lock();
        let Some(looks) = rates.get(&(stream.clone(), origin)) else {
            return 0.0;
        };
        let (Some(first), Some(last)) = (looks.front(), looks.back()) else {
            return 0.0;
        };
        let seconds = last.0.duration_since(first.0).as_secs_f64();
        #[expect(clippy::cast_precision_loss)] // a rate for people
        let moved = last.1.saturating_sub(first.1) as f64;
        if seconds > 0.0 { moved / seconds } else { 0.0 }
    }

    fn look(&self, stream: &StreamId, origin: bool, count: u64) {
        let mut rates = self.0.lock();
        let looks = rates.entry((stream.clone(), origin)).or_default();
        if looks.len() > LOOKS {
            looks.pop_front();
        }
        looks.push_back((Instant::now(), count));
    }
}

/// Looks until `stop`.
pub(super) async fn run(gateway: Arc<Gateway>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        gateway.look();
    }
}

#[expect(clippy::cast_precision_loss)] // gauges are floats
impl Gateway {
    fn look(&self) {
        let stats = self.exchange.outbox.stats();
        metrics::OUTBOX_HELD_BYTES.with(&[]).set(stats.held_bytes as f64);
        metrics::OUTBOX_QUOTA_BYTES
            .with(&[])
            .set(stats.quota_bytes as f64);
        metrics::OUTBOX_DISK_BYTES.with(&[]).set(stats.disk_bytes as f64);
        self.look_ahead(stats.added_bytes, stats.held_bytes + stats.pending_bytes);
        self.look_at_quotas();
        for stream in self.exchange.streams() {
            if let Some(held) = stream.held() {
                self.rates.look(&stream.id, true, held.tail.0);
            }
        }
        for delivery in self.exchange.deliveries() {
            for (stream, position) in delivery.status().positions {
                self.rates.look(&stream, false, position.digest.count);
            }
        }
        for route in self
            .exchange
            .routes()
            .iter()
            .filter(|route| route.role == Role::Origin)
        {
            let streams = self.exchange.streams();
            let of_route = streams
                .iter()
                .filter(|stream| route.topics.matches(&stream.id.topic));
            let backlog: u64 = of_route
                .filter_map(|stream| {
                    let held = stream.held()?;
                    Some(
                        held.tail
                            .since(stream.applied(&route.id).unwrap_or(Sequence::ZERO).max(held.base)),
                    )
                })
                .sum();
            metrics::BACKLOG_RECORDS.with(&[&route.id.0]).set(backlog as f64);
        }
        for stage in self.plugins.iter().flat_map(|plugins| plugins.usage()) {
            let (of, usage) = ([&*stage.connector, &*stage.stage], &stage.usage);
            metrics::STAGE_RECORDS.with(&of).absolute(usage.records);
            metrics::STAGE_IN_BYTES.with(&of).absolute(usage.bytes_in);
            metrics::STAGE_OUT_BYTES.with(&of).absolute(usage.bytes_out);
            metrics::STAGE_CALLS.with(&of).absolute(usage.calls);
            metrics::STAGE_CPU.with(&of).set(usage.cpu.as_secs_f64());
            metrics::STAGE_MEMORY
                .with(&of)
                .set(usage.memory_bytes_peak as f64);
            let faults = [
                ("trap", usage.traps),
                ("timeout", usage.timeouts),
                ("memory", usage.memory_faults),
            ];
            for (fault, count) in faults {
                metrics::STAGE_FAULTS.with(&[of[0], of[1], fault]).absolute(count);
            }
        }
        self.look_at_figures();
        for peer in self.config.peers.iter().flat_map(|peer| &peer.gateways) {
            let outlets = self.exchange.all_outlets();
            let outlet = outlets
                .iter()
                .find(|outlet| outlet.link.peer().gateway.as_str() == peer);
            let is = |so: bool| f64::from(u8::from(so));
            metrics::LINK_UP.with(&[peer]).set(is(outlet.is_some()));
            let over_tcp = outlet.is_some_and(|outlet| outlet.link.is_carried());
            metrics::LINK_OVER_TCP.with(&[peer]).set(is(over_tcp));
        }
    }

    /// How long the outbox lasts, and a warning while there is time to act.
    fn look_ahead(&self, added: u64, held: u64) {
        let (left, full_in) = {
            let mut runway = self.runway.lock();
            runway.look(Instant::now(), added, held);
            (runway.left(), runway.full_in())
        };
        let seconds = |left: Option<Duration>| left.map_or(f64::INFINITY, |left| left.as_secs_f64());
        metrics::OUTBOX_RUNWAY.with(&[]).set(seconds(left));
        metrics::OUTBOX_FULL_IN.with(&[]).set(seconds(full_in));
        let alarm = self.config.outbox.alarm;
        // Twice the time: one that hovers around it is said once.
        let is_over = full_in.is_none_or(|left| left > alarm * 2);
        match full_in {
            Some(left) if left <= alarm && !self.alarmed.swap(true, Ordering::Relaxed) => tracing::warn!(
                code = "CULVERT-O010",
                full_in_seconds = left.as_secs(),
                held_bytes = held,
                quota_bytes = self.config.outbox.quota.0,
                "the outbox fills: intake will pause, and nothing is dropped"
            ),
            _ if is_over && self.alarmed.swap(false, Ordering::Relaxed) => {
                tracing::info!(held_bytes = held, "the outbox does not fill any more");
            }
            _ => {}
        }
    }

    /// What plugins have counted themselves.
    fn look_at_figures(&self) {
        let Some(plugins) = &self.plugins else { return };
        let (figures, left_out) = plugins.figures();
        metrics::PLUGIN_LEFT_OUT.with(&[]).absolute(left_out);
        for figure in figures {
            let labels: Vec<String> = figure
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let labels = labels.join(",");
            let of = [
                &*figure.connector,
                &*figure.stage,
                figure.name.as_str(),
                labels.as_str(),
            ];
            match figure.figure {
                Figure::Count(count) => metrics::PLUGIN_COUNTED.with(&of).absolute(count),
                Figure::Gauge(value) => metrics::PLUGIN_GAUGE.with(&of).set(value),
                Figure::Observed { count, sum } => {
                    metrics::PLUGIN_OBSERVED.with(&of).absolute(count);
                    metrics::PLUGIN_OBSERVED_SUM.with(&of).set(sum);
                }
            }
        }
    }
}
