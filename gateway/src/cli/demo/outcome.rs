//! What came of it: the verdict, and the numbers behind it.

use crate::cli::table::Table;
use crate::cli::terminal::Tone;
use crate::cli::words::{bytes, seconds, thousands};
use crate::observe::report::{ProofReport, Verdict};
use serde::Serialize;
use std::fmt::Write;

/// Everything that is known at the end. A field may be added; none changes its meaning.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    /// How long the link was cut.
    pub(super) cut_seconds: f64,
    /// What the cut swallowed.
    pub(super) datagrams_dropped: u64,
    /// What waited at gateway 1 when the link came back.
    pub(super) backlog_records_max: u64,
    /// Their bytes in its outbox.
    pub(super) backlog_bytes_max: u64,
    /// How much longer it could have gone on.
    pub(super) runway_seconds: Option<u64>,
    /// From the link's return until everything that had waited was delivered.
    pub(super) caught_up_seconds: f64,
    pub(super) kills: Vec<Kill>,
    #[serde(flatten)]
    pub(super) judgement: Judgement,
    /// How long it all took.
    pub(super) seconds: f64,
}

/// What is known of the records at the end, from two who do not trust each other.
#[derive(Debug, Default, Serialize)]
pub(super) struct Judgement {
    pub(super) proof: Option<ProofReport>,
    pub(super) verified: Vec<Verified>,
}

/// A gateway that was killed.
#[derive(Debug, Serialize)]
pub(super) struct Kill {
    pub(super) gateway: String,
    /// Records on their way at that moment.
    pub(super) backlog_records: u64,
    /// What its outbox held.
    pub(super) held_bytes: u64,
    pub(super) back_after_seconds: f64,
}

/// What `culvert verify` said of a part of the target.
#[derive(Debug, Serialize)]
pub(super) struct Verified {
    pub(super) command: String,
    pub(super) clean: bool,
    #[serde(skip)]
    pub(super) answer: String,
}

/// The outcome with what follows from it.
#[derive(Serialize)]
pub(super) struct Judged<'a> {
    pub(super) proven: bool,
    pub(super) verdict: Verdict,
    pub(super) records: u64,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

impl Judgement {
    /// Records that the proof has compared and found at the sink.
    pub(super) fn records(&self) -> u64 {
        let streams = self.proof.iter().flat_map(|proof| &proof.streams);
        streams
            .filter_map(|stream| Some(stream.sink.as_ref()?.count))
            .sum()
    }

    /// Whether the proof is complete, holds at least `records`, and the target alone says so, too.
    pub(super) fn is_proven(&self, records: u64) -> bool {
        self.verdict() == Verdict::Complete
            && self.records() >= records
            && !self.verified.is_empty()
            && self.verified.iter().all(|verified| verified.clean)
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.proof
            .as_ref()
            .map_or(Verdict::NotProven, ProofReport::verdict)
    }

    /// For people: the proof, which reads as `proof`, what is wrong, and where nothing is, `through` what all came.
    pub(super) fn text(
        &self,
        records: u64,
        proof: &str,
        through: &str,
        paint: &dyn Fn(&str, Tone) -> String,
    ) -> String {
        let mut text = proof.to_owned();
        for verified in self.verified.iter().filter(|verified| !verified.clean) {
            let _ = write!(
                text,
                "\n{} {}\n{}",
                paint("the target is not as it should be:", Tone::Bad),
                verified.command,
                verified.answer
            );
        }
        if self.records() < records {
            let few = format!(
                "only {} of {} records were proven",
                thousands(self.records()),
                thousands(records)
            );
            let _ = write!(text, "\n{}", paint(&few, Tone::Bad));
        }
        if self.is_proven(records) {
            let verdict = format!(
                "proven: {} records, each exactly once, through {through}",
                thousands(self.records())
            );
            let _ = write!(text, "\n{}", paint(&verdict, Tone::Good));
        }
        text
    }

    /// What the look at the target alone found, as rows of a table of facts.
    pub(super) fn rows(&self) -> impl Iterator<Item = [String; 2]> {
        self.verified.iter().map(|verified| {
            let found = if verified.clean {
                "every record once, whole and in order"
            } else {
                "faults, see below"
            };
            ["target read on its own".into(), found.into()]
        })
    }
}

impl Outcome {
    pub(super) fn judged(&self, records: u64) -> Judged<'_> {
        Judged {
            proven: self.judgement.is_proven(records),
            verdict: self.judgement.verdict(),
            records: self.judgement.records(),
            outcome: self,
        }
    }

    /// For people: what was done to it, and what came of it. `proof` is how the proof reads.
    pub(super) fn text(&self, records: u64, proof: &str, paint: &dyn Fn(&str, Tone) -> String) -> String {
        let through = format!("a cut link and {} killed gateways", self.kills.len());
        let judged = self.judgement.text(records, proof, &through, paint);
        format!("{}\n\n{judged}", self.facts())
    }

    fn facts(&self) -> Table {
        let mut table = Table::new(&["WHAT HAPPENED", "WHAT CAME OF IT"], &[]);
        let runway = self.runway_seconds.map_or(String::new(), |runway| {
            format!(", room for {} more", seconds(runway))
        });
        table.row([
            format!("link cut for {:.1} s", self.cut_seconds),
            format!(
                "{} records ({}) waited at gateway 1{runway}; delivered {:.1} s after the link was back",
                thousands(self.backlog_records_max),
                bytes(self.backlog_bytes_max),
                self.caught_up_seconds
            ),
        ]);
        for kill in &self.kills {
            table.row([
                format!("{} killed (SIGKILL)", kill.gateway),
                format!(
                    "back after {:.1} s; {} records were on their way, {} of them in its outbox",
                    kill.back_after_seconds,
                    thousands(kill.backlog_records),
                    bytes(kill.held_bytes)
                ),
            ]);
        }
        for row in self.judgement.rows() {
            table.row(row);
        }
        table
    }
}
