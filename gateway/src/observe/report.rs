//! What `culvert status` and `culvert prove` are answered: made by the gateway, shown by the command line, and read by
//! others from `--output json`. A field may be added; none changes its meaning.

use serde::{Deserialize, Serialize};

/// A code with its page in `docs/errors/`, and what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// `CULVERT-K003`.
    pub code: String,
    /// What happened, with the numbers, and what the operator can do.
    pub message: String,
}

/// What a gateway is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Its name.
    pub gateway: String,
    /// Its site.
    pub site: String,
    /// The version that runs.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether every part is ready.
    pub ready: bool,
    /// Its durable queue.
    pub outbox: OutboxStatus,
    /// A line for each gateway of each peer.
    pub peers: Vec<PeerStatus>,
    /// Its connectors, ordered by name.
    pub connectors: Vec<ConnectorStatus>,
}

/// How full the durable queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// Bytes of records it holds.
    pub held_bytes: u64,
    /// Bytes of records it may hold.
    pub quota_bytes: u64,
    /// Bytes it takes on disk.
    pub disk_bytes: u64,
    /// Lanes that were cut when this gateway started, because the outbox was damaged. Absent where it was not.
    #[serde(default)]
    pub mended_lanes: Option<u64>,
    /// Seconds for which everything can be kept should nothing leave from now on, at the rate of the last hour. Absent where
    /// nothing comes in.
    #[serde(default)]
    pub runway_seconds: Option<u64>,
    /// Seconds until it is full, at the growth of the last minutes. Absent where it does not grow.
    #[serde(default)]
    pub full_in_seconds: Option<u64>,
}

/// A peer's gateway, and the link to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its site.
    pub site: String,
    /// Its name.
    pub gateway: String,
    /// Whether there is a live session.
    pub up: bool,
    /// Whether it goes over TCP, because UDP does not pass.
    #[serde(default)]
    pub over_tcp: bool,
    /// Seconds since that changed.
    pub since_seconds: u64,
    /// Smoothed round-trip time of the session.
    pub rtt_seconds: Option<f64>,
    /// Why there is no session.
    pub fault: Option<Fault>,
}

/// What a connector is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: String,
    /// Its class, in full.
    pub class: String,
    /// Whether it brings records in or writes them out.
    pub role: Role,
    /// Its state: that of its worst task.
    pub state: State,
    /// What is promised of its records.
    pub guarantee: Guarantee,
    /// The site its records come from; its own, for a source.
    pub from: String,
    /// Why it does not run.
    pub fault: Option<Fault>,
    /// What its records pass through, in order.
    #[serde(default)]
    pub stages: Vec<StageStatus>,
    /// Where its source goes on, if that is a plugin; the first hundred.
    #[serde(default)]
    pub resume_points: Vec<ResumePoint>,
    /// Its streams.
    pub streams: Vec<StreamStatus>,
}

/// Where the source of a plugin goes on: its own partition and its own offset there, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumePoint {
    /// Which part of the outside system.
    pub partition: String,
    /// How far.
    pub offset: String,
}

/// A stage of a connector and what it has used since the start, its tasks together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Its name in the connector's settings.
    pub name: String,
    /// Plugin and version.
    pub plugin: String,
    /// What it may use, secrets by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<String>,
    /// Calls of the plugin.
    pub calls: u64,
    /// Records shown to it, also again after a fault.
    pub records: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Bytes that came back.
    pub bytes_out: u64,
    /// Processor time of its calls.
    pub cpu_seconds: f64,
    /// The most memory one instance had.
    pub memory_bytes_peak: u64,
    /// Calls that trapped or answered wrongly.
    pub traps: u64,
    /// Calls that were ended at their time limit.
    pub timeouts: u64,
    /// Calls that wanted too much memory.
    pub memory_faults: u64,
    /// Log lines above the limit.
    pub log_lines_suppressed: u64,
}

/// Which end a connector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It brings records in.
    Source,
    /// It writes records out.
    Sink,
}

/// What a connector or a stream is doing. Ordered from well to unwell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It moves, or there is nothing to move.
    Running,
    /// It is on its way to running.
    Starting,
    /// It stands by choice: the outbox or the stream is at its quota, or it was paused.
    Paused,
    /// It waits for something outside to come back, and goes on by itself.
    Waiting,
    /// It stands until an operator decides.
    Halted,
}

/// What is promised of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guarantee {
    /// Each once, whatever fails.
    ExactlyOnce,
    /// Each once, unless the disk of the gateway that took them is lost.
    ExactlyOnceWhileDiskLives,
    /// Each, some more than once, to a target that holds one of them.
    AtLeastOnceIdempotent,
    /// Each, some more than once.
    AtLeastOnce,
}

/// What a stream of a connector is doing. A place that is not known yet is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// `site/topic/partition`.
    pub stream: String,
    /// What its numbers rest on, in hexadecimal: two streams may have one name.
    pub lineage: String,
    /// Its state.
    pub state: State,
    /// The first place this gateway still holds.
    pub held_from: Option<u64>,
    /// The end of what was read, or has arrived here.
    pub tail: Option<u64>,
    /// The end of what the sink is known to have applied.
    pub applied: Option<u64>,
    /// Records that are here and not applied; counted in places, where holes count too.
    pub backlog_records: u64,
    /// Bytes of them in the outbox.
    pub backlog_bytes: u64,
    /// What the stream may hold in this gateway's outbox. Absent where only `outbox.quota` limits it.
    #[serde(default)]
    pub quota: Option<QuotaStatus>,
    /// Records a second, over the last ten seconds.
    pub records_per_second: f64,
    /// Why it stands.
    pub fault: Option<Fault>,
}

/// A stream's quota, and how much of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// Bytes that count: records that wait for the disk and dead letters too.
    pub held_bytes: u64,
    /// The most that there may be.
    pub quota_bytes: u64,
    /// The stream waits for this quota, whatever the outbox has room for.
    pub waits: bool,
}

/// The answer to `prove`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProofReport {
    /// The gateway that was asked: that of the sinks.
    pub gateway: String,
    /// Every stream that was compared, or could not be.
    pub streams: Vec<StreamProof>,
    /// The receipts of all of them as one document, where they were wanted and none is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipts: Option<String>,
    /// Why there are no receipts although they were wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_receipts: Option<Fault>,
}

/// What was compared of one stream of one route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamProof {
    /// `site/connector`.
    pub route: String,
    /// `site/topic/partition`.
    pub stream: String,
    /// What its numbers rest on, in hexadecimal.
    pub lineage: String,
    /// The first place that was to be delivered.
    pub start: u64,
    /// The end of what was delivered: `[start, at)` was compared.
    pub at: u64,
    /// What the origin's source holds of it. Absent if it could not be asked.
    pub origin: Option<Tally>,
    /// What the sink holds of it. Absent if it could not be asked.
    pub sink: Option<Tally>,
    /// Records at the origin and not at the sink.
    pub missing: u64,
    /// Records more than once at the sink.
    pub duplicated: u64,
    /// Records at the sink behind a later one. Absent where a partitioner spreads the stream, so that order is only
    /// kept for each key.
    pub out_of_order: Option<u64>,
    /// The first records that differ: at most 20.
    #[serde(default)]
    pub differences: Vec<Difference>,
    /// Records that are at the origin and behind `at`, and where they are: they are on their way.
    pub held: Vec<Held>,
    /// Why it could not be compared.
    pub fault: Option<Fault>,
    /// What both ends have signed of it, where that was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptLink>,
}

/// A receipt in the chain of its stream of its route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptLink {
    /// SHA-256, in hexadecimal.
    pub hash: String,
    /// The hash of the receipt before. Absent where this one begins a chain.
    pub before: Option<String>,
    /// `[from, to)` was signed.
    pub from: u64,
    /// The end.
    pub to: u64,
    /// The records in it.
    pub count: u64,
}

/// Count and content of the records of one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many records.
    pub count: u64,
    /// Their content in order, 128 bits in hexadecimal.
    pub order: String,
    /// Their content without order, 128 bits in hexadecimal.
    pub set: String,
}

impl From<&culvert_proto::digest::Digest> for Tally {
    fn from(digest: &culvert_proto::digest::Digest) -> Tally {
        Tally {
            count: digest.count,
            order: format!("{:032x}", digest.order),
            set: format!("{:032x}", digest.set),
        }
    }
}

/// A record that is not at the sink as it is at the origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// `missing`, `doubled`, `moved` or `foreign`.
    pub what: String,
    /// Its sequence at the origin; of a foreign record that of the record before it.
    pub sequence: u64,
}

/// Records on their way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `source`, `origin outbox`, `relay gw2`, `sink`.
    pub place: String,
    /// The first of them.
    pub from: u64,
    /// The end of them.
    pub to: u64,
}

/// What a proof says. Ordered from well to unwell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All that was produced has arrived, once and in order.
    Complete,
    /// All that was to have arrived has, once and in order; the rest is on its way.
    OnTheWay,
    /// Something could not be compared, or there was nothing to compare.
    NotProven,
    /// Something is missing, doubled, out of order, or different.
    Broken,
}

impl StreamProof {
    /// What follows from the numbers; worked out anew wherever it is wanted, so that nothing can contradict them.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (Some(origin), Some(sink)) = (&self.origin, &self.sink) else {
            return Verdict::NotProven;
        };
        let ordered = self.out_of_order.is_some();
        let same =
            origin.count == sink.count && origin.set == sink.set && (!ordered || origin.order == sink.order);
        if !same || self.missing + self.duplicated + self.out_of_order.unwrap_or(0) > 0 {
            Verdict::Broken
        } else if self.fault.is_some() {
            Verdict::NotProven
        } else if self.held.iter().any(|held| held.to > held.from) {
            Verdict::OnTheWay
        } else {
            Verdict::Complete
        }
    }
}

impl ProofReport {
    /// The worst verdict of all streams. Without a stream nothing is proven.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.streams
            .iter()
            .map(StreamProof::verdict)
            .max()
            .unwrap_or(Verdict::NotProven)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn proof() -> StreamProof {
        let tally = Tally {
            count: 5,
            order: "a".into(),
            set: "b".into(),
        };
        StreamProof {
            route: "site3/orders".into(),
            stream: "site1/orders/0".into(),
            lineage: "00ff".into(),
            start: 0,
            at: 5,
            origin: Some(tally.clone()),
            sink: Some(tally),
            missing: 0,
            duplicated: 0,
            out_of_order: Some(0),
            differences: Vec::new(),
            held: Vec::new(),
            fault: None,
            receipt: None,
        }
    }

    /// A report of gateway 3 without receipts.
    pub(crate) fn report(streams: Vec<StreamProof>) -> ProofReport {
        ProofReport {
            gateway: "gw3".into(),
            streams,
            receipts: None,
            no_receipts: None,
        }
    }

    fn check(change: impl Fn(&mut StreamProof), expected: Verdict) {
        let mut proof = proof();
        change(&mut proof);
        assert_eq!(proof.verdict(), expected, "{proof:?}");
        let report = report(vec![tests::proof(), proof]);
        assert_eq!(report.verdict(), expected, "the worst counts");
    }

    #[test]
    fn a_verdict_follows_from_the_numbers() {
        let sink = |p: &mut StreamProof| p.sink.clone().expect("the proof has a sink");
        check(|_| {}, Verdict::Complete);
        check(|p| p.missing = 1, Verdict::Broken);
        check(|p| p.duplicated = 1, Verdict::Broken);
        check(|p| p.out_of_order = Some(1), Verdict::Broken);
        check(|p| p.sink = Some(Tally { count: 4, ..sink(p) }), Verdict::Broken);
        check(
            |p| {
                p.sink = Some(Tally {
                    set: "c".into(),
                    ..sink(p)
                });
            },
            Verdict::Broken,
        );
        check(
            |p| {
                p.sink = Some(Tally {
                    order: "c".into(),
                    ..sink(p)
                });
            },
            Verdict::Broken,
        );
        check(|p| p.sink = None, Verdict::NotProven);
        check(
            |p| {
                p.held = vec![Held {
                    place: "origin outbox".into(),
                    from: 5,
                    to: 9,
                }];
            },
            Verdict::OnTheWay,
        );
        check(
            |p| {
                p.fault = Some(Fault {
                    code: "CULVERT-F001".into(),
                    message: "away".into(),
                });
            },
            Verdict::NotProven,
        );
        let spread = |p: &mut StreamProof| {
            (p.out_of_order, p.sink) = (
                None,
                Some(Tally {
                    order: "c".into(),
                    ..sink(p)
                }),
            );
        };
        check(spread, Verdict::Complete);
    }

    #[test]
    fn nothing_compared_is_nothing_proven() {
        let report = report(Vec::new());
        assert_eq!(report.verdict(), Verdict::NotProven);
    }
}
