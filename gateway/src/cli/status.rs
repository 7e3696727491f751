//! `culvert status`: what a running gateway is doing.

use super::asking::Asking;
use super::table::Table;
use super::terminal::Tone;
use super::words::{bytes, count, seconds};
use super::{Exit, Format, Session};
use crate::observe::control;
use crate::observe::report::{
    ConnectorStatus, Fault, Guarantee, PeerStatus, ResumePoint, Role, State, StatusReport, StreamStatus,
};
use std::fmt::Write;

/// Which gateway, and how much of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  culvert status
  culvert status --streams
  culvert status --ready
  culvert status --output json | jq '.connectors[].state'

The exit code is 0 when everything runs or waits, and 1 when something stands until an operator decides.")]
pub(super) struct Args {
    #[command(flatten)]
    asking: Asking,
    /// Show each stream too
    #[arg(long)]
    streams: bool,
    /// Say only whether the gateway is ready, for a health check: the exit code is 0 when it is
    #[arg(long, conflicts_with = "streams")]
    ready: bool,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let report = control::status(&args.asking.socket(session)?)?;
    if args.ready {
        let (said, exit) = if report.ready {
            ("ready", Exit::Ok)
        } else {
            ("not ready", Exit::Failed)
        };
        session.terminal.answer(said)?;
        return Ok(exit);
    }
    match session.terminal.format() {
        Format::Json => session.terminal.json(&report)?,
        Format::Text => session
            .terminal
            .answer(text(&report, args.streams, &|text, tone| {
                session.terminal.paint(text, tone)
            }))?,
    }
    let halted = report
        .connectors
        .iter()
        .any(|connector| state(connector) == State::Halted);
    Ok(if halted { Exit::Failed } else { Exit::Ok })
}

type Paint<'a> = &'a dyn Fn(&str, Tone) -> String;

fn text(report: &StatusReport, streams: bool, paint: Paint<'_>) -> String {
    let ready = if report.ready {
        paint("ready", Tone::Good)
    } else {
        paint("not ready", Tone::Warning)
    };
    let mut text = format!(
        "gateway {} at site {}: {ready}, up {}, version {}\noutbox holds {} of {}, {} on disk",
        report.gateway,
        report.site,
        seconds(report.uptime_seconds),
        report.version,
        bytes(report.outbox.held_bytes),
        bytes(report.outbox.quota_bytes),
        bytes(report.outbox.disk_bytes),
    );
    if let Some(full) = report.outbox.full_in_seconds {
        let grows = format!("full in {} as it grows now", seconds(full));
        let _ = write!(text, "; {}", paint(&grows, Tone::Warning));
    } else if let Some(runway) = report.outbox.runway_seconds {
        let _ = write!(text, "; lasts {} with no link", seconds(runway));
    }
    if let Some(lanes) = report.outbox.mended_lanes {
        let mended = format!(
            "was damaged at the start: {} cut and filled again",
            count(usize::try_from(lanes).unwrap_or(usize::MAX), "lane")
        );
        let _ = write!(text, "; {}", paint(&mended, Tone::Warning));
    }
    if !report.peers.is_empty() {
        let _ = write!(text, "\n\n{}", peers(&report.peers));
    }
    if !report.connectors.is_empty() {
        let _ = write!(text, "\n\n{}", connectors(&report.connectors));
    }
    if report
        .connectors
        .iter()
        .any(|connector| !connector.stages.is_empty())
    {
        let _ = write!(text, "\n\n{}", stages(&report.connectors));
    }
    if streams {
        for connector in report
            .connectors
            .iter()
            .filter(|connector| !connector.streams.is_empty())
        {
            let _ = write!(
                text,
                "\n\n{}\n{}",
                paint(&connector.name, Tone::Strong),
                stream_table(connector)
            );
            if !connector.resume_points.is_empty() {
                let _ = write!(text, "\n\n{}", resume_points(&connector.resume_points));
            }
        }
    }
    for (what, fault) in faults(report) {
        let _ = write!(
            text,
            "\n\n{} {} [{}]",
            paint(&format!("{what}:"), Tone::Bad),
            fault.message,
            fault.code
        );
    }
    text
}

fn peers(peers: &[PeerStatus]) -> Table {
    let mut table = Table::new(&["PEER", "GATEWAY", "LINK", "SINCE", "RTT"], &[3, 4]);
    for peer in peers {
        let rtt = peer
            .rtt_seconds
            .map_or("-".into(), |rtt| format!("{:.1} ms", rtt * 1_000.0));
        let link = match (peer.up, peer.over_tcp) {
            (false, _) => "down",
            (true, false) => "up",
            (true, true) => "up, over TCP",
        };
        table.row([
            peer.site.clone(),
            peer.gateway.clone(),
            link.into(),
            seconds(peer.since_seconds),
            rtt,
        ]);
    }
    table
}

fn connectors(connectors: &[ConnectorStatus]) -> Table {
    let head = [
        "CONNECTOR",
        "ROLE",
        "STATE",
        "DELIVERY",
        "FROM",
        "STREAMS",
        "BACKLOG",
        "BYTES",
        "RATE",
    ];
    let mut table = Table::new(&head, &[5, 6, 7, 8]);
    for connector in connectors {
        let streams = &connector.streams;
        let sum = |of: fn(&StreamStatus) -> u64| streams.iter().map(of).fold(0, u64::saturating_add);
        table.row([
            connector.name.clone(),
            role(connector.role).into(),
            word(state(connector)).into(),
            guarantee(connector.guarantee).into(),
            connector.from.clone(),
            streams.len().to_string(),
            sum(|stream| stream.backlog_records).to_string(),
            bytes(sum(|stream| stream.backlog_bytes)),
            rate(streams.iter().map(|stream| stream.records_per_second).sum()),
        ]);
    }
    table
}

fn stages(connectors: &[ConnectorStatus]) -> Table {
    let head = [
        "STAGE",
        "CONNECTOR",
        "PLUGIN",
        "RECORDS",
        "CPU/RECORD",
        "MEMORY",
        "FAULTS",
    ];
    let mut table = Table::new(&head, &[3, 4, 5, 6]);
    for connector in connectors {
        for stage in &connector.stages {
            #[expect(clippy::cast_precision_loss)] // a mean for people
            let micros = stage.cpu_seconds * 1e6 / stage.records.max(1) as f64;
            table.row([
                stage.name.clone(),
                connector.name.clone(),
                stage.plugin.clone(),
                stage.records.to_string(),
                format!("{micros:.1} µs"),
                bytes(stage.memory_bytes_peak),
                (stage.traps + stage.timeouts + stage.memory_faults).to_string(),
            ]);
        }
    }
    table
}

fn stream_table(connector: &ConnectorStatus) -> Table {
    let head = [
        "STREAM",
        "STATE",
        "HELD FROM",
        "TAIL",
        "APPLIED",
        "BACKLOG",
        "BYTES",
        "RATE",
    ];
    let mut table = Table::new(&head, &[2, 3, 4, 5, 6, 7]);
    let place = |place: Option<u64>| place.map_or("-".to_owned(), |place| place.to_string());
    for stream in &connector.streams {
        table.row([
            stream.stream.clone(),
            word(stream.state).into(),
            place(stream.held_from),
            place(stream.tail),
            place(stream.applied),
            stream.backlog_records.to_string(),
            held(stream),
            rate(stream.records_per_second),
        ]);
    }
    table
}

/// What is held of a stream, and what may be.
fn held(stream: &StreamStatus) -> String {
    match &stream.quota {
        Some(quota) => format!("{} of {}", bytes(quota.held_bytes), bytes(quota.quota_bytes)),
        None => bytes(stream.backlog_bytes),
    }
}

fn resume_points(points: &[ResumePoint]) -> Table {
    let mut table = Table::new(&["PARTITION", "GOES ON AT"], &[]);
    for point in points {
        table.row([point.partition.clone(), point.offset.clone()]);
    }
    table
}

/// Everything that has a reason to tell, and whose it is.
fn faults(report: &StatusReport) -> Vec<(String, &Fault)> {
    let peers = report.peers.iter().filter_map(|peer| {
        Some((
            format!("peer {} {}", peer.site, peer.gateway),
            peer.fault.as_ref()?,
        ))
    });
    let connectors = report.connectors.iter().flat_map(|connector| {
        let own = connector
            .fault
            .iter()
            .map(|fault| (format!("connector {}", connector.name), fault));
        let streams = connector.streams.iter().filter_map(|stream| {
            Some((
                format!("stream {} of {}", stream.stream, connector.name),
                stream.fault.as_ref()?,
            ))
        });
        own.chain(streams)
    });
    peers.chain(connectors).collect()
}

/// The connector's own state, or that of its worst stream.
fn state(connector: &ConnectorStatus) -> State {
    connector
        .streams
        .iter()
        .map(|stream| stream.state)
        .fold(connector.state, State::max)
}

fn word(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Starting => "starting",
        State::Paused => "paused",
        State::Waiting => "waiting",
        State::Halted => "halted",
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Sink => "sink",
    }
}

fn guarantee(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::ExactlyOnce => "exactly-once",
        Guarantee::ExactlyOnceWhileDiskLives => "exactly-once while this disk lives",
        Guarantee::AtLeastOnceIdempotent => "at-least-once, idempotent",
        Guarantee::AtLeastOnce => "at-least-once",
    }
}

/// The sum of nothing is -0.0, which a person would take for a mistake.
fn rate(records_per_second: f64) -> String {
    format!("{:.0}/s", records_per_second + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_without_streams_moves_nothing() {
        assert_eq!(rate(std::iter::empty::<f64>().sum()), "0/s");
        assert_eq!(rate(1234.4), "1234/s");
    }
    use crate::observe::report::{OutboxStatus, QuotaStatus, StageStatus};

    fn report() -> StatusReport {
        let stream = |partition: u32, state, fault| StreamStatus {
            stream: format!("site1/orders/{partition}"),
            lineage: "00ff".into(),
            state,
            held_from: Some(40),
            tail: Some(1_040),
            applied: (partition == 0).then_some(900),
            backlog_records: 140,
            backlog_bytes: 28_000,
            quota: (partition == 1).then_some(QuotaStatus {
                held_bytes: 28_000,
                quota_bytes: 1 << 30,
                waits: false,
            }),
            records_per_second: 1234.4,
            fault,
        };
        let truncated = Fault {
            code: "CULVERT-K007".into(),
            message: "the source no longer holds [900, 950)".into(),
        };
        StatusReport {
            gateway: "gw3".into(),
            site: "site3".into(),
            version: "0.1.0".into(),
            uptime_seconds: 3_725,
            ready: true,
            outbox: OutboxStatus {
                held_bytes: 56_000,
                quota_bytes: 10 << 30,
                disk_bytes: 131_072,
                mended_lanes: None,
                runway_seconds: Some(187_200),
                full_in_seconds: None,
            },
            peers: vec![
                PeerStatus {
                    site: "site2".into(),
                    gateway: "gw2".into(),
                    up: true,
                    over_tcp: false,
                    since_seconds: 3_700,
                    rtt_seconds: Some(0.0123),
                    fault: None,
                },
                PeerStatus {
                    site: "site2".into(),
                    gateway: "gw2b".into(),
                    up: false,
                    over_tcp: false,
                    since_seconds: 3_725,
                    rtt_seconds: None,
                    fault: Some(Fault {
                        code: "CULVERT-L003".into(),
                        message: "its certificate has expired".into(),
                    }),
                },
            ],
            connectors: vec![ConnectorStatus {
                name: "orders-in".into(),
                class: "io.culvert.kafka.KafkaSink".into(),
                role: Role::Sink,
                state: State::Running,
                guarantee: Guarantee::ExactlyOnce,
                from: "site1".into(),
                fault: None,
                resume_points: vec![ResumePoint {
                    partition: r#"{"file":"orders.log"}"#.into(),
                    offset: r#"{"line":812}"#.into(),
                }],
                stages: vec![StageStatus {
                    name: "check".into(),
                    plugin: "order-check 0.1.0".into(),
                    grants: Vec::new(),
                    calls: 12,
                    records: 4_000,
                    bytes_in: 800_000,
                    bytes_out: 0,
                    cpu_seconds: 0.0048,
                    memory_bytes_peak: 1_310_720,
                    traps: 1,
                    timeouts: 2,
                    memory_faults: 0,
                    log_lines_suppressed: 0,
                }],
                streams: vec![
                    stream(0, State::Running, None),
                    stream(1, State::Halted, Some(truncated)),
                ],
            }],
        }
    }

    #[test]
    fn a_report_reads_well() {
        let expected = "\
gateway gw3 at site site3: ready, up 1h 2min, version 0.1.0
outbox holds 54.7 KiB of 10.0 GiB, 128.0 KiB on disk; lasts 2d 4h with no link

PEER   GATEWAY  LINK    SINCE      RTT
site2  gw2      up    1h 1min  12.3 ms
site2  gw2b     down  1h 2min        -

CONNECTOR  ROLE  STATE   DELIVERY      FROM   STREAMS  BACKLOG     BYTES    RATE
orders-in  sink  halted  exactly-once  site1        2      280  54.7 KiB  2469/s

STAGE  CONNECTOR  PLUGIN             RECORDS  CPU/RECORD   MEMORY  FAULTS
check  orders-in  order-check 0.1.0     4000      1.2 µs  1.2 MiB       3

orders-in
STREAM          STATE    HELD FROM  TAIL  APPLIED  BACKLOG                BYTES    RATE
site1/orders/0  running         40  1040      900      140             27.3 KiB  1234/s
site1/orders/1  halted          40  1040        -      140  27.3 KiB of 1.0 GiB  1234/s

PARTITION              GOES ON AT
{\"file\":\"orders.log\"}  {\"line\":812}

peer site2 gw2b: its certificate has expired [CULVERT-L003]

stream site1/orders/1 of orders-in: the source no longer holds [900, 950) [CULVERT-K007]";
        let shown = text(&report(), true, &|text, _| text.to_owned());
        assert_eq!(shown, expected, "\n{shown}\n");
        let short = text(&report(), false, &|text, _| text.to_owned());
        assert!(
            !short.contains("HELD FROM") && short.contains("CULVERT-K007"),
            "faults are never left out"
        );
    }
}
