//! Stages: what is done to records between a source and its outbox, and between a link and its sink.
//!
//! A stage sees a batch of one stream and says what becomes of each record. A [`Chain`] passes a batch through its stages
//! in order. What a record becomes is decided as a whole: when one part of what it was expanded to is refused later, the
//! record is refused, and none of its parts goes on.

use super::schema::Named;
use culvert_proto::columns::{Columns, Outcome, Outcomes, Rejection};
use culvert_proto::record::RecordRef;
use culvert_proto::schema::Fingerprint;
use culvert_proto::wire::Malformed;
use culvert_proto::{Sequence, StreamId};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A step of a connector's chain: one instance of a plugin, for one task.
pub trait Stage: Send {
    /// The step's name in the connector's settings.
    fn name(&self) -> &str;

    /// One outcome for each record of the batch, in order. `topic` is that of all its records: the stream's, or the one that
    /// a stage before sent them to.
    ///
    /// # Errors
    /// When it cannot now, or not at all. Nothing of the batch counts then.
    fn process(&mut self, stream: &StreamId, topic: &str, batch: &Columns) -> Result<Outcomes, StageFault>;

    /// At a sink: the schemas that the records of the next batch were written with, by their origin's word.
    fn named(&mut self, _schemas: &[Named]) {}

    /// At a source: adds the schemas that a record which goes on was written with.
    fn schemas_of(&self, _record: &RecordRef<'_>, _into: &mut Vec<Fingerprint>) {}
}

/// Why a batch was not treated.
#[derive(Debug, thiserror::Error)]
pub enum StageFault {
    /// Heals by waiting: the same batch again.
    #[error("{reason}")]
    Retry {
        /// What the stage waits for.
        reason: String,
        /// The least pause before it is tried again.
        after: Option<Duration>,
    },
    /// This stream alone cannot go on, until an operator has decided.
    #[error("[{code}] {reason}")]
    Stream {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened and what the operator can do.
        reason: String,
    },
    /// Needs an operator.
    #[error("[{code}] {reason}")]
    Stop {
        /// The code of the page in `docs/errors/`.
        code: &'static str,
        /// What happened and what the operator can do.
        reason: String,
    },
}

/// Makes the stages of one task; called once for each task at its start.
pub type MakeChain = dyn Fn() -> Result<Chain, StageFault> + Send + Sync;

/// The stages of one task, in order. Without any, records pass untouched.
#[derive(Default)]
pub struct Chain {
    stages: Vec<Box<dyn Stage>>,
}

/// A batch behind all stages.
#[derive(Debug)]
pub struct Passed<'a> {
    /// What goes on; the batch itself where all of it does. Equal sequences are parts of one record.
    pub records: Cow<'a, Columns>,
    /// What does not, by the place of its record.
    pub refused: BTreeMap<Sequence, Refused>,
}

/// Why a record does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The stage that refused it.
    pub stage: Arc<str>,
    /// Its reason.
    pub rejection: Rejection,
}

impl Chain {
    /// The chain of these stages.
    #[must_use]
    pub fn new(stages: Vec<Box<dyn Stage>>) -> Chain {
        Chain { stages }
    }

    /// The stages, in order.
    #[must_use]
    pub fn into_stages(self) -> Vec<Box<dyn Stage>> {
        self.stages
    }

    /// Whether records pass untouched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The same stages, behind one more.
    #[must_use]
    pub fn behind(mut self, first: Box<dyn Stage>) -> Chain {
        self.stages.insert(0, first);
        self
    }

    /// The same stages, before one more.
    #[must_use]
    pub fn before(mut self, last: Box<dyn Stage>) -> Chain {
        self.stages.push(last);
        self
    }

    /// See [`Stage::named`].
    pub fn named(&mut self, schemas: &[Named]) {
        self.stages.iter_mut().for_each(|stage| stage.named(schemas));
    }

    /// See [`Stage::schemas_of`].
    pub fn schemas_of(&self, record: &RecordRef<'_>, into: &mut Vec<Fingerprint>) {
        self.stages
            .iter()
            .for_each(|stage| stage.schemas_of(record, into));
    }

    /// Passes a batch through all stages.
    ///
    /// # Errors
    /// The first stage's that cannot. Nothing of the batch counts then; it may be passed again.
    pub fn pass<'a>(&mut self, stream: &StreamId, batch: &'a Columns) -> Result<Passed<'a>, StageFault> {
        let mut passed = Passed {
            records: Cow::Borrowed(batch),
            refused: BTreeMap::new(),
        };
        for stage in &mut self.stages {
            if passed.records.is_empty() {
                break;
            }
            let outcomes = process(&mut **stage, stream, &passed.records)?;
            if outcomes.len() != passed.records.len() {
                return Err(StageFault::Stop {
                    code: "CULVERT-W023",
                    reason: format!(
                        "stage {} gave {} outcomes for {} records",
                        stage.name(),
                        outcomes.len(),
                        passed.records.len()
                    ),
                });
            }
            if !outcomes.are_all_kept() {
                passed.apply(stage.name(), &outcomes);
            }
        }
        Ok(passed)
    }
}

/// Shows a batch to a stage: as one, or in runs of one topic where a stage before has sent records elsewhere.
fn process(stage: &mut dyn Stage, stream: &StreamId, batch: &Columns) -> Result<Outcomes, StageFault> {
    if !batch.is_routed() {
        return stage.process(stream, &stream.topic, batch);
    }
    let mut outcomes = Outcomes::default();
    for (topic, run) in batch.runs() {
        let topic = topic.unwrap_or(&stream.topic);
        outcomes.append(&stage.process(stream, topic, &batch.part(run))?);
    }
    Ok(outcomes)
}

impl Passed<'_> {
    /// Refuses every record that would go to another topic, for an end that has one for each stream.
    pub(super) fn refuse_routed(&mut self) {
        if !self.records.is_routed() {
            return;
        }
        let routed: BTreeSet<Sequence> = self
            .records
            .iter()
            .enumerate()
            .filter(|(index, _)| self.records.topic(*index).is_some())
            .map(|(_, (sequence, _))| sequence)
            .collect();
        self.refuse(
            &routed,
            "sink-takes-no-topic",
            "a stage sent the record to another topic, and this sink keeps the records of a stream together",
        );
    }

    /// Refuses every record of which several parts would go on, for an end that can take one for each place.
    pub(super) fn refuse_parts(&mut self) {
        let sequences: Vec<Sequence> = self.records.iter().map(|(sequence, _)| sequence).collect();
        let expanded: BTreeSet<Sequence> = sequences
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .map(|pair| pair[0])
            .collect();
        self.refuse(
            &expanded,
            "sink-takes-one",
            "a stage expanded the record to several, and this sink keeps one for each place",
        );
    }

    /// Takes the records of these places out, all of their parts, and refuses them in the sink's name.
    fn refuse(&mut self, places: &BTreeSet<Sequence>, code: &str, reason: &str) {
        if places.is_empty() {
            return;
        }
        let stays = |index| {
            let place = self.records.get(index).map(|(sequence, _)| sequence);
            place.is_some_and(|place| !places.contains(&place))
        };
        self.records = Cow::Owned(self.records.retained(stays));
        let stage: Arc<str> = "sink".into();
        for place in places {
            let rejection = Rejection {
                code: code.into(),
                reason: reason.into(),
                field: None,
            };
            let stage = stage.clone();
            self.refused.insert(*place, Refused { stage, rejection });
        }
    }

    /// Makes the next stage's batch of what this one decided.
    fn apply(&mut self, stage: &str, outcomes: &Outcomes) {
        let mut stage_name = None;
        let mut refuse = |refused: &mut BTreeMap<_, _>, sequence, rejection: Rejection| {
            let stage = stage_name.get_or_insert_with(|| Arc::<str>::from(stage)).clone();
            refused.entry(sequence).or_insert(Refused { stage, rejection });
        };
        let before = std::mem::replace(&mut self.records, Cow::Owned(Columns::default()));
        for ((sequence, _), outcome) in before.iter().zip(outcomes.iter()) {
            if let Outcome::Reject(rejection) = outcome {
                refuse(&mut self.refused, sequence, rejection.clone());
            }
        }
        loop {
            match rebuilt(&before, outcomes, &self.refused) {
                Ok(records) => return self.records = Cow::Owned(records),
                // One more is left out each time: this ends.
                Err((sequence, rejection)) => refuse(&mut self.refused, sequence, rejection),
            }
        }
    }
}

/// The batch that goes on, without those that are refused; or one more that must be.
fn rebuilt(
    before: &Columns,
    outcomes: &Outcomes,
    refused: &BTreeMap<Sequence, Refused>,
) -> Result<Columns, (Sequence, Rejection)> {
    let mut records = Columns::begin(before.interval().from);
    for (index, ((sequence, record), outcome)) in before.iter().zip(outcomes.iter()).enumerate() {
        if refused.contains_key(&sequence) {
            continue;
        }
        let topic = before.topic(index);
        let mut push = |topic: Option<&str>, record: &RecordRef<'_>| {
            records
                .push_to(topic, sequence, record)
                .map_err(|error| (sequence, unfit(&error)))
        };
        match outcome {
            Outcome::Keep => push(topic, &record)?,
            Outcome::Value(value) => push(
                topic,
                &RecordRef {
                    value: Some(value),
                    ..record
                },
            )?,
            Outcome::Rewrite(made) => {
                for made in made {
                    let named = made.topic.as_deref();
                    push(named.or(topic), &made.as_record())?;
                }
            }
            Outcome::Drop | Outcome::Reject(_) => {}
        }
    }
    records.cover(before.interval().to);
    Ok(records)
}

/// What a stage made of the record cannot be carried.
fn unfit(error: &Malformed) -> Rejection {
    let code = match error {
        Malformed::TooLarge { .. } => "stage-output-too-large",
        _ => "stage-output-invalid",
    };
    Rejection {
        code: code.into(),
        reason: error.to_string(),
        field: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::columns::Made;
    use culvert_proto::record::{Headers, HeadersBuf};
    use culvert_proto::{Interval, Lineage};

    /// Does what a record's value says.
    struct Obedient;

    impl Stage for Obedient {
        fn name(&self) -> &'static str {
            "obedient"
        }

        fn process(
            &mut self,
            _stream: &StreamId,
            topic: &str,
            batch: &Columns,
        ) -> Result<Outcomes, StageFault> {
            let mut outcomes = Outcomes::default();
            for (_, record) in batch.iter() {
                match record.value.unwrap_or_default() {
                    b"topic" => outcomes.value(topic.as_bytes()),
                    b"drop" => outcomes.dropped(),
                    b"reject" => outcomes.reject(rejection("bad")),
                    b"twice" => outcomes.rewrite(vec![made(b"keep"), made(b"keep")]),
                    b"half" => outcomes.rewrite(vec![made(b"keep"), made(b"reject")]),
                    b"elsewhere" => outcomes.rewrite(vec![Made {
                        topic: Some("other".into()),
                        ..made(b"topic")
                    }]),
                    b"nowhere" => outcomes.rewrite(vec![Made {
                        topic: Some(String::new()),
                        ..made(b"keep")
                    }]),
                    b"later" => {
                        return Err(StageFault::Retry {
                            reason: "later".into(),
                            after: None,
                        });
                    }
                    b"short" => return Ok(outcomes),
                    b"double" => outcomes.value(b"twice"),
                    _ => outcomes.keep(),
                }
            }
            Ok(outcomes)
        }
    }

    fn made(value: &[u8]) -> Made {
        Made {
            topic: None,
            key: None,
            value: Some(value.to_vec()),
            headers: HeadersBuf::new(),
            timestamp: 1,
        }
    }

    fn rejection(code: &str) -> Rejection {
        Rejection {
            code: code.into(),
            ..Rejection::default()
        }
    }

    fn stream() -> StreamId {
        StreamId {
            site: "a".into(),
            topic: "t".into(),
            partition: 0,
            lineage: Lineage::Replayable {
                cluster: "c".into(),
                topic: [1; 16],
            },
        }
    }

    fn pass(stages: usize, values: &[&str]) -> Result<Passed<'static>, StageFault> {
        let mut batch = Columns::begin(Sequence(10));
        for (at, value) in (10..).zip(values) {
            let record = RecordRef {
                timestamp: 1,
                key: None,
                value: Some(value.as_bytes()),
                headers: Headers::NONE,
            };
            batch.push(Sequence(at), &record).unwrap();
        }
        let stages = (0..stages)
            .map(|_| Box::new(Obedient) as Box<dyn Stage>)
            .collect();
        let Passed { records, refused } = Chain::new(stages).pass(&stream(), &batch)?;
        let records = Cow::Owned(records.into_owned());
        Ok(Passed { records, refused })
    }

    fn check(stages: usize, values: &[&str], goes_on: &[(u64, &str)], refused: &[(u64, &str)]) {
        let passed = pass(stages, values).unwrap();
        let records: Vec<(u64, &str)> = passed
            .records
            .iter()
            .map(|(at, record)| (at.0, std::str::from_utf8(record.value.unwrap()).unwrap()))
            .collect();
        assert_eq!(records, goes_on, "{values:?}");
        let codes: Vec<(u64, &str)> = passed
            .refused
            .iter()
            .map(|(at, refused)| (at.0, refused.rejection.code.as_str()))
            .collect();
        assert_eq!(codes, refused, "{values:?}");
        let all = Interval::new(Sequence(10), Sequence(10 + values.len() as u64));
        assert_eq!(passed.records.interval(), all, "every place is accounted for");
    }

    #[test]
    fn each_record_becomes_what_its_stage_says() {
        check(
            1,
            &["a", "drop", "reject", "twice"],
            &[(10, "a"), (13, "keep"), (13, "keep")],
            &[(12, "bad")],
        );
        check(0, &["a", "drop"], &[(10, "a"), (11, "drop")], &[]);
        check(2, &["double", "a"], &[(10, "keep"), (10, "keep"), (11, "a")], &[]);
        check(2, &["drop", "drop"], &[], &[]);
        check(
            1,
            &["nowhere", "a"],
            &[(11, "a")],
            &[(10, "stage-output-invalid")],
        );
    }

    #[test]
    fn a_record_that_was_sent_elsewhere_stays_there_and_is_shown_with_its_topic() {
        let check = |stages, expected: &[(u64, &str, Option<&str>)]| {
            let passed = pass(stages, &["a", "elsewhere", "topic"]).unwrap();
            let records = passed.records.iter().enumerate();
            let found: Vec<_> = records
                .map(|(index, (at, record))| {
                    let value = std::str::from_utf8(record.value.unwrap()).unwrap();
                    (at.0, value, passed.records.topic(index))
                })
                .collect();
            assert_eq!(found, expected);
        };
        check(
            1,
            &[(10, "a", None), (11, "topic", Some("other")), (12, "t", None)],
        );
        check(
            2,
            &[(10, "a", None), (11, "other", Some("other")), (12, "t", None)],
        );
    }

    #[test]
    fn where_a_stream_has_one_topic_a_record_sent_elsewhere_is_refused() {
        let mut passed = pass(1, &["a", "elsewhere", "b"]).unwrap();
        passed.refuse_routed();
        let places: Vec<u64> = passed.records.iter().map(|(at, _)| at.0).collect();
        assert_eq!(places, [10, 12]);
        assert_eq!(
            passed.refused[&Sequence(11)].rejection.code,
            "sink-takes-no-topic"
        );
    }

    /// S10: a record is refused or goes on, never both.
    #[test]
    fn a_record_with_a_refused_part_is_refused_as_a_whole() {
        check(1, &["half"], &[(10, "keep"), (10, "reject")], &[]);
        check(2, &["a", "half", "b"], &[(10, "a"), (12, "b")], &[(11, "bad")]);
    }

    #[test]
    fn where_one_record_is_taken_for_each_place_an_expanded_one_is_refused() {
        let mut passed = pass(1, &["a", "twice", "b"]).unwrap();
        passed.refuse_parts();
        let places: Vec<u64> = passed.records.iter().map(|(at, _)| at.0).collect();
        assert_eq!(places, [10, 12]);
        assert_eq!(passed.records.interval().to, Sequence(13));
        assert_eq!(passed.refused[&Sequence(11)].rejection.code, "sink-takes-one");
    }

    #[test]
    fn a_batch_that_cannot_be_treated_is_left_alone() {
        assert!(matches!(pass(2, &["a", "later"]), Err(StageFault::Retry { .. })));
        assert!(matches!(
            pass(2, &["a", "short"]),
            Err(StageFault::Stop {
                code: "CULVERT-W023",
                ..
            })
        ));
    }
}
