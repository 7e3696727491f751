//! What a plugin answers by columns: the host reads numbers and lengths that a guest chose.

use culvert_proto::columns::{Columns, Made, Outcome, Outcomes, Rejection};
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::{Interval, Sequence};

/// The bytes are dealt out: a count of verdicts, the verdicts, ends of values, values. What remains decides the rest.
pub(super) fn answer(bytes: &[u8]) {
    let mut dealt = Dealt(bytes);
    let verdicts = dealt.part();
    let ends: Vec<u32> = dealt
        .part()
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .collect();
    let values = dealt.part().to_vec();
    let rejections = (0..dealt.byte()).map(|_| rejection()).collect();
    let rewritten = (0..dealt.byte())
        .map(|_| (0..dealt.byte() % 4).map(|_| made(dealt.part())).collect())
        .collect();
    let told = Outcomes::of_columns(verdicts, ends, values.clone(), rejections, rewritten);
    let Ok(outcomes) = told else { return };
    assert_eq!(outcomes.len(), verdicts.len(), "one outcome for each verdict");
    check(&outcomes, verdicts);
    let mut twice = Outcomes::kept(1);
    twice.append(&outcomes);
    twice.append(&outcomes);
    assert_eq!(twice.len(), 1 + 2 * outcomes.len());
    let all: Vec<u8> = [&[0], verdicts, verdicts].concat();
    check(&twice, &all);
    let valued: usize = outcomes
        .iter()
        .map(|outcome| {
            if let Outcome::Value(value) = outcome {
                value.len()
            } else {
                0
            }
        })
        .sum();
    assert_eq!(valued, values.len(), "each byte of the values is of one record");
    cut(verdicts, &values);
}

fn check(outcomes: &Outcomes, verdicts: &[u8]) {
    for (outcome, verdict) in outcomes.iter().zip(verdicts) {
        let number = match outcome {
            Outcome::Keep => 0,
            Outcome::Value(_) => 1,
            Outcome::Drop => 2,
            Outcome::Reject(_) => 3,
            Outcome::Rewrite(_) => 4,
        };
        assert_eq!(number, *verdict, "an outcome is what its verdict says");
    }
}

/// Columns of records, cut at each place.
fn cut(verdicts: &[u8], values: &[u8]) {
    let mut columns = Columns::begin(Sequence(7));
    for (place, verdict) in (7..).zip(verdicts) {
        let record = RecordRef {
            timestamp: i64::from(*verdict),
            key: (verdict % 2 == 0).then_some(values),
            value: (verdict % 3 == 0).then_some(values),
            headers: culvert_proto::record::Headers::NONE,
        };
        if columns.push(Sequence(place), &record).is_err() {
            return;
        }
    }
    let Interval { from, to } = columns.interval();
    assert!(from <= to);
    for middle in [0, columns.len() / 2, columns.len()] {
        let parts = [columns.part(0..middle), columns.part(middle..columns.len())];
        let joined: Vec<_> = parts.iter().flat_map(Columns::iter).collect();
        assert!(columns.iter().eq(joined), "parts are the whole");
    }
}

fn rejection() -> Rejection {
    Rejection {
        code: "no".into(),
        reason: String::new(),
        field: None,
    }
}

fn made(value: &[u8]) -> Made {
    Made {
        topic: None,
        key: None,
        value: Some(value.to_vec()),
        headers: HeadersBuf::new(),
        timestamp: -1,
    }
}

/// What was not yet dealt.
struct Dealt<'a>(&'a [u8]);

impl<'a> Dealt<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn part(&mut self) -> &'a [u8] {
        let size = usize::from(self.byte()).min(self.0.len());
        let (part, rest) = self.0.split_at(size);
        self.0 = rest;
        part
    }
}
