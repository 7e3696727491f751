//! What the control socket is answered: `status` out of the tables, `prove` by [`super::proof`].

use super::Gateway;
use crate::config::Connector;
use crate::config::connector::Checked;
use crate::flow::delivery::{self, Trouble};
use crate::flow::exchange::Role as RouteRole;
use crate::flow::intake::{self, OriginStream, Task};
use crate::observe::control::{Answering, Handler, Progress, Prove};
use crate::observe::report::{
    ConnectorStatus, Fault, Guarantee, OutboxStatus, PeerStatus, ProofReport, QuotaStatus, ResumePoint, Role,
    StageStatus, State, StatusReport, StreamStatus,
};
use culvert_proto::message;
use culvert_proto::stream::RouteId;
use culvert_proto::{Interval, Position, Sequence, StreamId};
use std::sync::Arc;
use tokio::sync::watch;

impl Handler for Gateway {
    fn status(&self) -> Answering<'_, StatusReport> {
        Box::pin(async { Ok(self.status_report()) })
    }

    fn prove(&self, prove: Prove, progress: watch::Sender<Progress>) -> Answering<'_, ProofReport> {
        Box::pin(async move { self.prove_all(&prove, &progress).await })
    }
}

impl Gateway {
    fn status_report(&self) -> StatusReport {
        let stats = self.exchange.outbox.stats();
        let (runway, full_in) = {
            let runway = self.runway.lock();
            (runway.left(), runway.full_in())
        };
        StatusReport {
            gateway: self.config.gateway.clone(),
            site: self.config.site.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: self.started.elapsed().as_secs(),
            ready: self.health.serves(),
            outbox: OutboxStatus {
                held_bytes: stats.held_bytes,
                quota_bytes: stats.quota_bytes,
                disk_bytes: stats.disk_bytes,
                mended_lanes: self.mended_lanes,
                runway_seconds: runway.map(|left| left.as_secs()),
                full_in_seconds: full_in.map(|left| left.as_secs()),
            },
            peers: self.peer_statuses(),
            connectors: self
                .config
                .connectors
                .iter()
                .map(|connector| self.connector_status(connector))
                .collect(),
        }
    }

    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let unreached = self
            .links
            .as_ref()
            .map(crate::link::Handle::unreached)
            .unwrap_or_default();
        let live = self.exchange.all_outlets();
        let status = |site: &str, gateway: &str| {
            let outlet = live
                .iter()
                .find(|outlet| outlet.link.peer().gateway.as_str() == gateway);
            let fault = unreached
                .get(site)
                .filter(|_| outlet.is_none())
                .map(|reason| Fault {
                    code: reason.code().unwrap_or("CULVERT-L006").into(),
                    message: reason.to_string(),
                });
            PeerStatus {
                site: site.into(),
                gateway: gateway.into(),
                up: outlet.is_some(),
                over_tcp: outlet.is_some_and(|outlet| outlet.link.is_carried()),
                since_seconds: outlet.map_or(0, |outlet| outlet.since.elapsed().as_secs()),
                rtt_seconds: outlet.map(|outlet| outlet.link.stats().rtt.as_secs_f64()),
                fault,
            }
        };
        let peers = self.config.peers.iter();
        peers
            .flat_map(|peer| peer.gateways.iter().map(|gateway| status(&peer.site, gateway)))
            .collect()
    }

    fn connector_status(&self, connector: &Connector) -> ConnectorStatus {
        let (role, streams, trouble) = if connector.checked.is_source() {
            let tasks = self.tasks_of(connector);
            let trouble = tasks.iter().find_map(|task| task.status().trouble);
            let trouble = trouble.or_else(|| self.letters_trouble(connector));
            (Role::Source, self.source_streams(connector), trouble)
        } else {
            let status = self
                .delivery_of(connector)
                .map(|delivery| delivery.status())
                .unwrap_or_default();
            let trouble = status.trouble.values().next().cloned();
            let trouble = trouble.or(status.refused.clone().map(Trouble::Failed));
            (Role::Sink, self.sink_streams(connector, &status), trouble)
        };
        let worst = streams
            .iter()
            .map(|stream| stream.state)
            .max()
            .unwrap_or(State::Running);
        let (state, fault) = match trouble {
            None => (worst, None),
            Some(Trouble::Retrying(reason)) => (
                State::Waiting.max(worst),
                Some(Fault {
                    code: "CULVERT-F040".into(),
                    message: self.with_brokers(connector, reason),
                }),
            ),
            Some(Trouble::Paused(fault)) => (State::Paused.max(worst), Some(shown(&fault))),
            Some(Trouble::Waiting(fault)) => (State::Waiting.max(worst), Some(shown(&fault))),
            Some(Trouble::Failed(fault)) => (State::Halted, Some(shown(&fault))),
        };
        ConnectorStatus {
            name: connector.name.clone(),
            class: connector.checked.class_name().into(),
            role,
            state,
            guarantee: self.guarantee(connector),
            from: connector.from.clone().unwrap_or_else(|| self.config.site.clone()),
            fault,
            stages: self.stages_status(connector),
            resume_points: self.resume_points(connector),
            streams,
        }
    }

    fn tasks_of(&self, connector: &Connector) -> &[Task] {
        self.tasks
            .get(&connector.name)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Where a source that brings pages goes on.
    fn resume_points(&self, connector: &Connector) -> Vec<ResumePoint> {
        let kept = self
            .tasks_of(connector)
            .iter()
            .flat_map(|task| task.status().resume);
        kept.map(|point| ResumePoint {
            partition: point.partition,
            offset: point.offset,
        })
        .collect()
    }

    /// What a plugin promises decides; connectors of this program are exactly-once.
    fn guarantee(&self, connector: &Connector) -> Guarantee {
        let sink = match &connector.checked {
            Checked::PluginSource(_) => return Guarantee::ExactlyOnceWhileDiskLives,
            Checked::PluginSink(sink) => sink,
            _ => return Guarantee::ExactlyOnce,
        };
        let found = self.config.plugins.get(&sink.plan.plugin);
        let promises = found.map(|found| found.description.promises).unwrap_or_default();
        match (promises.transactional, promises.idempotent) {
            (true, _) => Guarantee::ExactlyOnce,
            (false, true) => Guarantee::AtLeastOnceIdempotent,
            (false, false) => Guarantee::AtLeastOnce,
        }
    }

    /// Why dead letters of a source are not written, if they are not.
    fn letters_trouble(&self, connector: &Connector) -> Option<Trouble> {
        let route = RouteId::new(&self.config.site, &format!("{}#refused", connector.name));
        let writers = self.exchange.all_letters();
        let ours = writers.iter().find(|letters| letters.route == route)?;
        ours.status().trouble
    }

    fn stages_status(&self, connector: &Connector) -> Vec<StageStatus> {
        let used = self.plugins.iter().flat_map(|plugins| plugins.usage());
        used.filter(|stage| *stage.connector == *connector.name)
            .map(|stage| StageStatus {
                name: stage.stage.to_string(),
                plugin: stage.plugin,
                grants: connector
                    .stages
                    .iter()
                    .filter(|plan| plan.name == stage.stage)
                    .flat_map(|plan| plan.plan.grants.shown())
                    .map(|(what, grant)| format!("{what}: {grant}"))
                    .collect(),
                calls: stage.usage.calls,
                records: stage.usage.records,
                bytes_in: stage.usage.bytes_in,
                bytes_out: stage.usage.bytes_out,
                cpu_seconds: stage.usage.cpu.as_secs_f64(),
                memory_bytes_peak: stage.usage.memory_bytes_peak,
                traps: stage.usage.traps,
                timeouts: stage.usage.timeouts,
                memory_faults: stage.usage.memory_faults,
                log_lines_suppressed: stage.usage.log_lines_suppressed,
            })
            .collect()
    }

    /// Clients say that brokers are away, and not always which: the ones that are configured are named then.
    fn with_brokers(&self, connector: &Connector, reason: String) -> String {
        let mut own = connector.shown.shown();
        let own = own.find_map(|(key, value)| (key == "kafka.bootstrap.servers").then_some(value));
        let is_kafka = matches!(connector.checked, Checked::KafkaSource(_) | Checked::KafkaSink(_));
        let common = self.config.kafka.get("bootstrap.servers");
        match own.or(common).filter(|_| is_kafka) {
            Some(brokers) if !reason.contains(brokers) => format!("{reason}; bootstrap.servers is {brokers}"),
            _ => reason,
        }
    }

    pub(super) fn delivery_of(&self, connector: &Connector) -> Option<Arc<delivery::Delivery>> {
        self.exchange
            .delivery(&RouteId::new(&self.config.site, &connector.name))
    }

    /// The streams that a source connector brings in, ordered by name.
    pub(super) fn streams_of(&self, connector: &Connector) -> Vec<Arc<OriginStream>> {
        let own: Vec<StreamId> = self
            .tasks_of(connector)
            .iter()
            .flat_map(|task| task.status().streams)
            .collect();
        let reads = |stream: &&Arc<OriginStream>| {
            let by_topic = stream.id.is_replayable() && super::reads_topic(connector, &stream.id.topic);
            by_topic || own.contains(&stream.id)
        };
        let mut streams: Vec<Arc<OriginStream>> =
            self.exchange.streams().iter().filter(reads).cloned().collect();
        streams.sort_by(|a, b| a.id.cmp(&b.id));
        streams
    }

    fn source_streams(&self, connector: &Connector) -> Vec<StreamStatus> {
        let routes = self.exchange.routes();
        self.streams_of(connector)
            .iter()
            .map(|stream| {
                let mine = routes
                    .iter()
                    .filter(|r| r.role == RouteRole::Origin && r.topics.matches(&stream.id.topic));
                let applied = mine
                    .clone()
                    .map(|route| stream.applied(&route.id))
                    .min()
                    .flatten();
                let fault = mine
                    .clone()
                    .find_map(|route| self.exchange.halt_of(&stream.id, &route.id));
                let fault = fault.or_else(|| self.exchange.halt_of(&stream.id, &RouteId::new("", "")));
                let held = stream.held();
                let quota = stream.quota_use();
                let full = quota.filter(|quota| !quota.has_room);
                let (state, fault) = match (fault, stream.is_read_here(), full) {
                    (Some(fault), ..) => (State::Halted, Some(fault)),
                    (None, false, _) => (State::Waiting, None),
                    (None, true, None) => (State::Running, None),
                    (None, true, Some(full)) => (State::Paused, Some(intake::at_quota(&stream.id, &full))),
                };
                let status = stream_status(
                    &stream.id,
                    held.map(|held| held.interval()),
                    applied,
                    state,
                    fault.as_ref(),
                );
                StreamStatus {
                    backlog_bytes: stream.lane.held_bytes(),
                    quota: quota.map(|quota| QuotaStatus {
                        held_bytes: quota.used_bytes,
                        quota_bytes: quota.quota_bytes,
                        waits: state == State::Paused,
                    }),
                    records_per_second: self.rates.of(&stream.id, true),
                    ..status
                }
            })
            .collect()
    }

    fn sink_streams(&self, connector: &Connector, status: &delivery::Status) -> Vec<StreamStatus> {
        let route = RouteId::new(&self.config.site, &connector.name);
        let one = |(stream, position): (&StreamId, &Position)| {
            let fault = self.exchange.halt_of(stream, &route);
            let state = if fault.is_some() {
                State::Halted
            } else {
                State::Running
            };
            let status = stream_status(stream, None, Some(position.at), state, fault.as_ref());
            StreamStatus {
                records_per_second: self.rates.of(stream, false),
                ..status
            }
        };
        status.positions.iter().map(one).collect()
    }
}

fn stream_status(
    stream: &StreamId,
    held: Option<Interval>,
    applied: Option<Sequence>,
    state: State,
    fault: Option<&message::Fault>,
) -> StreamStatus {
    let tail = held.map(|held| held.to);
    StreamStatus {
        stream: stream.to_string(),
        lineage: stream.lineage_hex(),
        state,
        held_from: held.map(|held| held.from.0),
        tail: tail.map(|tail| tail.0),
        applied: applied.map(|applied| applied.0),
        backlog_records: tail.map_or(0, |tail| {
            tail.since(applied.unwrap_or_default().max(held.unwrap_or_default().from))
        }),
        backlog_bytes: 0,
        quota: None,
        records_per_second: 0.0,
        fault: fault.map(shown),
    }
}

pub(super) fn shown(fault: &message::Fault) -> Fault {
    Fault {
        code: fault.code.to_string(),
        message: fault.reason.clone(),
    }
}
