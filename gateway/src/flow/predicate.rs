//! Predicates: a stage that sees only some of the records, as Kafka Connect's `predicate` and `negate` have it. The others
//! pass untouched, each at its place.

use super::stage::{Stage, StageFault};
use culvert_proto::StreamId;
use culvert_proto::columns::{Columns, Outcome, Outcomes};
use culvert_proto::record::RecordRef;
use regex::Regex;

/// What is asked of a record.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// Whether the name of its topic, where it goes by now, matches from end to end.
    TopicNameMatches(Regex),
    /// Whether it has a header of this name.
    HasHeaderKey(String),
    /// Whether it has no value.
    RecordIsTombstone,
}

impl Predicate {
    fn holds(&self, topic: &str, record: &RecordRef<'_>) -> bool {
        match self {
            Predicate::TopicNameMatches(pattern) => pattern.is_match(topic),
            Predicate::HasHeaderKey(name) => record.headers.iter().any(|(known, _)| known == name),
            Predicate::RecordIsTombstone => record.value.is_none(),
        }
    }
}

/// Which records a stage sees.
#[derive(Clone, Debug)]
pub struct Selection {
    /// What is asked.
    pub predicate: Predicate,
    /// Those for which it does not hold are seen.
    pub negate: bool,
}

/// A stage behind its selection.
pub struct Selecting {
    stage: Box<dyn Stage>,
    selection: Selection,
}

impl Selecting {
    /// `stage` sees what `selection` says.
    #[must_use]
    pub fn new(stage: Box<dyn Stage>, selection: Selection) -> Selecting {
        Selecting { stage, selection }
    }
}

impl Stage for Selecting {
    fn name(&self) -> &str {
        self.stage.name()
    }

    fn process(&mut self, stream: &StreamId, topic: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
        let Selection { predicate, negate } = &self.selection;
        let seen: Vec<bool> = batch
            .iter()
            .map(|(_, record)| predicate.holds(topic, &record) != *negate)
            .collect();
        let count = seen.iter().filter(|seen| **seen).count();
        if count == 0 {
            return Ok(Outcomes::kept(batch.len()));
        }
        if count == batch.len() {
            return self.stage.process(stream, topic, batch);
        }
        let selected = batch.retained(|index| seen[index]);
        let outcomes = self.stage.process(stream, topic, &selected)?;
        if outcomes.len() != count {
            // The chain names the stage and both numbers.
            return Ok(outcomes);
        }
        Ok(spread(&seen, &outcomes))
    }
}

/// Outcomes of the records that were seen, with the others kept between them.
fn spread(seen: &[bool], outcomes: &Outcomes) -> Outcomes {
    let mut all = Outcomes::default();
    let mut of_seen = outcomes.iter();
    for seen in seen {
        let outcome = if *seen { of_seen.next() } else { None };
        match outcome.unwrap_or(Outcome::Keep) {
            Outcome::Keep => all.keep(),
            Outcome::Value(value) => all.value(value),
            Outcome::Drop => all.dropped(),
            Outcome::Reject(rejection) => all.reject(rejection.clone()),
            Outcome::Rewrite(made) => all.rewrite(made.to_vec()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::stage::Chain;
    use culvert_proto::record::HeadersBuf;
    use culvert_proto::{Interval, Lineage, Sequence};

    /// Drops `drop`, and marks every other record that it sees.
    struct Marks;

    impl Stage for Marks {
        fn name(&self) -> &'static str {
            "marks"
        }

        fn process(&mut self, _: &StreamId, _: &str, batch: &Columns) -> Result<Outcomes, StageFault> {
            let mut outcomes = Outcomes::default();
            for (_, record) in batch.iter() {
                match record.value {
                    Some(b"drop") => outcomes.dropped(),
                    _ => outcomes.value(b"seen"),
                }
            }
            Ok(outcomes)
        }
    }

    /// Records (value, name of a header) through a stage with this selection: what their values become.
    fn check(
        predicate: Predicate,
        negate: bool,
        records: &[(Option<&str>, Option<&str>)],
        expected: &[&str],
    ) {
        let mut batch = Columns::begin(Sequence(10));
        for (at, (value, header)) in (10..).zip(records) {
            let mut headers = HeadersBuf::new();
            if let Some(name) = header {
                headers.push(name, None);
            }
            let record = RecordRef {
                timestamp: 1,
                key: None,
                value: value.map(str::as_bytes),
                headers: headers.as_headers(),
            };
            batch.push(Sequence(at), &record).unwrap();
        }
        let stream = StreamId {
            site: "a".into(),
            topic: "orders".into(),
            partition: 0,
            lineage: Lineage::Replayable {
                cluster: "c".into(),
                topic: [1; 16],
            },
        };
        let stage = Selecting::new(Box::new(Marks), Selection { predicate, negate });
        let mut chain = Chain::new(vec![Box::new(stage)]);
        let passed = chain.pass(&stream, &batch).unwrap();
        let values: Vec<&str> = passed
            .records
            .iter()
            .map(|(_, record)| {
                record
                    .value
                    .map_or("none", |value| std::str::from_utf8(value).unwrap())
            })
            .collect();
        assert_eq!(values, expected);
        let all = Interval::new(Sequence(10), Sequence(10 + records.len() as u64));
        assert_eq!(passed.records.interval(), all, "every place is accounted for");
    }

    #[test]
    fn a_stage_sees_what_its_predicate_selects_and_the_others_pass_in_order() {
        let records = [
            (Some("a"), Some("x")),
            (None, None),
            (Some("drop"), Some("x")),
            (Some("drop"), Some("y")),
            (Some("b"), None),
        ];
        let header = || Predicate::HasHeaderKey("x".into());
        check(header(), false, &records, &["seen", "none", "drop", "b"]);
        check(header(), true, &records, &["a", "seen", "drop", "seen"]);
        let tombstone = || Predicate::RecordIsTombstone;
        check(tombstone(), false, &records, &["a", "seen", "drop", "drop", "b"]);
        check(tombstone(), true, &records, &["seen", "none", "seen"]);
        let topic = |pattern| Predicate::TopicNameMatches(Regex::new(pattern).unwrap());
        check(topic("^(?:ord.*)$"), false, &records, &["seen", "seen", "seen"]);
        check(
            topic("^(?:ord)$"),
            false,
            &records,
            &["a", "none", "drop", "drop", "b"],
        );
    }
}
