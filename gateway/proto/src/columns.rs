//! Records of one stream side by side, as a stage sees them, and what a stage made of them.
//!
//! Keys lie behind keys and values behind values, so that a batch crosses into a plugin in a few copies and not in some
//! for each record. The layout is that of `transform-columns` in the plugin contract.

use crate::limits;
use crate::record::{Headers, RecordRef};
use crate::sequence::{Interval, Sequence};
use crate::wire::{self, Malformed};
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// In [`Columns::absent`]: the record has no key.
pub const NO_KEY: u8 = 1;
/// In [`Columns::absent`]: the record is a tombstone.
pub const NO_VALUE: u8 = 2;
/// In [`Columns::absent`]: the record has no timestamp.
pub const NO_TIMESTAMP: u8 = 4;

/// A batch of records, column by column. Cleared and filled again, it keeps its memory.
///
/// Sequences grow; equal ones are the parts that one record was expanded to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    interval: Interval,
    sequences: Vec<u64>,
    /// Whether a sequence is missing or there twice.
    has_holes: bool,
    absent: Vec<u8>,
    timestamps: Vec<i64>,
    key_ends: Vec<u32>,
    keys: Vec<u8>,
    value_ends: Vec<u32>,
    values: Vec<u8>,
    header_ends: Vec<u32>,
    headers: Vec<u8>,
    /// Topics that records were sent to in place of their stream's.
    topics: Vec<String>,
    /// For each record the number of its topic among them, from 1; empty where all are in their stream's.
    routes: Vec<u16>,
}

impl Columns {
    /// A batch without records that begins at `from`.
    #[must_use]
    pub fn begin(from: Sequence) -> Columns {
        Columns {
            interval: Interval::empty_at(from),
            ..Columns::default()
        }
    }

    /// Forgets the records, keeps the memory, and begins at `from`.
    pub fn restart(&mut self, from: Sequence) {
        self.interval = Interval::empty_at(from);
        self.has_holes = false;
        self.sequences.clear();
        self.absent.clear();
        self.timestamps.clear();
        self.key_ends.clear();
        self.keys.clear();
        self.value_ends.clear();
        self.values.clear();
        self.header_ends.clear();
        self.headers.clear();
        self.topics.clear();
        self.routes.clear();
    }

    /// Adds a record behind the others.
    ///
    /// # Errors
    /// When it does not come behind them, or a column would grow beyond [`limits::FRAME_BYTES_MAX`]. The batch is then
    /// as before.
    pub fn push(&mut self, sequence: Sequence, record: &RecordRef<'_>) -> Result<(), Malformed> {
        let is_part = self.sequences.last() == Some(&sequence.0);
        if sequence < self.interval.to && !is_part {
            return Err(Malformed::Invalid {
                what: "record",
                why: "does not come behind the one before it",
            });
        }
        let size = self.bytes() + record.size() + 10;
        if size > limits::FRAME_BYTES_MAX {
            return Err(Malformed::TooLarge {
                what: "batch",
                size,
                max: limits::FRAME_BYTES_MAX,
            });
        }
        self.has_holes |= sequence != self.interval.to;
        self.sequences.push(sequence.0);
        self.interval.to = sequence.next();
        let mark = |is_absent: bool, bit: u8| if is_absent { bit } else { 0 };
        self.absent.push(
            mark(record.key.is_none(), NO_KEY)
                | mark(record.value.is_none(), NO_VALUE)
                | mark(record.timestamp < 0, NO_TIMESTAMP),
        );
        self.timestamps.push(record.timestamp);
        self.keys.extend_from_slice(record.key.unwrap_or_default());
        self.key_ends.push(end(&self.keys));
        self.values.extend_from_slice(record.value.unwrap_or_default());
        self.value_ends.push(end(&self.values));
        wire::put_varint(&mut self.headers, record.headers.len() as i64);
        self.headers.extend_from_slice(record.headers.as_bytes());
        self.header_ends.push(end(&self.headers));
        if !self.routes.is_empty() {
            self.routes.push(OWN_TOPIC);
        }
        Ok(())
    }

    /// Adds a record that goes to another topic than its stream's, where one is given.
    ///
    /// # Errors
    /// As [`Columns::push`], and when the topic's name is empty or above [`limits::NAME_BYTES_MAX`], or is one more than
    /// [`limits::TOPICS_PER_FRAME_MAX`].
    pub fn push_to(
        &mut self,
        topic: Option<&str>,
        sequence: Sequence,
        record: &RecordRef<'_>,
    ) -> Result<(), Malformed> {
        let route = self.route(topic)?;
        self.push(sequence, record)?;
        if route != OWN_TOPIC {
            self.routes.resize(self.sequences.len(), OWN_TOPIC);
            self.routes[self.sequences.len() - 1] = route;
        }
        Ok(())
    }

    /// The number of a topic, which is noted where it is new.
    fn route(&mut self, topic: Option<&str>) -> Result<u16, Malformed> {
        let Some(topic) = topic else { return Ok(OWN_TOPIC) };
        let at = match self.topics.iter().position(|known| known == topic) {
            Some(at) => at,
            None => {
                check_topic(topic, self.topics.len())?;
                self.topics.push(topic.into());
                self.topics.len() - 1
            }
        };
        u16::try_from(at + 1).map_err(|_| Malformed::Invalid {
            what: "topic",
            why: "has no number",
        })
    }

    /// Accounts for all places below `to`. Going back is ignored.
    pub fn cover(&mut self, to: Sequence) {
        self.interval.to = self.interval.to.max(to);
    }

    /// The places accounted for.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Bytes of keys, values and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len() + self.headers.len()
    }

    /// The record at `index`, if there are so many.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(Sequence, RecordRef<'_>)> {
        let absent = *self.absent.get(index)?;
        let present = |bit: u8, bytes| (absent & bit == 0).then_some(bytes);
        let record = RecordRef {
            timestamp: self.timestamps[index],
            key: present(NO_KEY, &self.keys[range(&self.key_ends, index)]),
            value: present(NO_VALUE, &self.values[range(&self.value_ends, index)]),
            headers: own_headers(&self.headers[range(&self.header_ends, index)]),
        };
        Some((Sequence(self.sequences[index]), record))
    }

    /// The records, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Sequence, RecordRef<'_>)> {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// The topic that the record at `index` was sent to; `None` where it is its stream's.
    #[must_use]
    pub fn topic(&self, index: usize) -> Option<&str> {
        let route = usize::from(*self.routes.get(index)?);
        Some(&self.topics[route.checked_sub(1)?])
    }

    /// Whether a record was sent to another topic than its stream's.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        !self.topics.is_empty()
    }

    /// The records in runs of one topic, in order.
    pub fn runs(&self) -> impl Iterator<Item = (Option<&str>, Range<usize>)> {
        let mut next = 0;
        core::iter::from_fn(move || {
            let start = next;
            if start == self.len() {
                return None;
            }
            let topic = self.topic(start);
            next = match self.routes.get(start) {
                None => self.len(),
                Some(route) => {
                    start
                        + self.routes[start..]
                            .iter()
                            .take_while(|other| *other == route)
                            .count()
                }
            };
            Some((topic, start..next))
        })
    }

    /// The records of a part, in order.
    pub fn range(&self, part: Range<usize>) -> impl Iterator<Item = (Sequence, RecordRef<'_>)> {
        part.map_while(|index| self.get(index))
    }

    /// A copy of the records that are to stay, told by index; it accounts for the same places.
    #[must_use]
    pub fn retained(&self, mut stays: impl FnMut(usize) -> bool) -> Columns {
        let mut copy = Columns::begin(self.interval.from);
        for (index, (sequence, record)) in self.iter().enumerate().filter(|(index, _)| stays(*index)) {
            copy.push_to(self.topic(index), sequence, &record)
                .expect("records of a batch are in order and within its limits");
        }
        copy.cover(self.interval.to);
        copy
    }

    /// A copy of some of the records.
    ///
    /// # Panics
    /// When `part` is not within the records.
    #[must_use]
    pub fn part(&self, part: Range<usize>) -> Columns {
        let Some(first) = self.sequences.get(part.start) else {
            return Columns::begin(self.interval.to);
        };
        let mut copy = Columns::begin(Sequence(*first));
        for index in part {
            let Some((sequence, record)) = self.get(index) else {
                break;
            };
            copy.push_to(self.topic(index), sequence, &record)
                .expect("records of a batch are in order and within its limits");
        }
        copy
    }

    /// The place of each record; empty where each comes right behind the one before it.
    #[must_use]
    pub fn sequences(&self) -> &[u64] {
        if self.has_holes { &self.sequences } else { &[] }
    }

    /// For each record what it lacks: [`NO_KEY`], [`NO_VALUE`], [`NO_TIMESTAMP`].
    #[must_use]
    pub fn absent(&self) -> &[u8] {
        &self.absent
    }

    /// The timestamps; -1 where there is none.
    #[must_use]
    pub fn timestamps(&self) -> &[i64] {
        &self.timestamps
    }

    /// Where each key ends, and the keys.
    #[must_use]
    pub fn keys(&self) -> (&[u32], &[u8]) {
        (&self.key_ends, &self.keys)
    }

    /// Where each value ends, and the values.
    #[must_use]
    pub fn values(&self) -> (&[u32], &[u8]) {
        (&self.value_ends, &self.values)
    }

    /// Where the headers of each record end, and the headers, each record's behind their count.
    #[must_use]
    pub fn headers(&self) -> (&[u32], &[u8]) {
        (&self.header_ends, &self.headers)
    }
}

/// In [`Columns::routes`]: the stream's own topic.
const OWN_TOPIC: u16 = 0;

/// Whether one more topic of this name can stand beside `others`.
pub(crate) fn check_topic(topic: &str, others: usize) -> Result<(), Malformed> {
    let too_large = |what, size, max| Err(Malformed::TooLarge { what, size, max });
    if topic.is_empty() {
        Err(Malformed::Invalid {
            what: "topic",
            why: "is empty",
        })
    } else if topic.len() > limits::NAME_BYTES_MAX {
        too_large("topic", topic.len(), limits::NAME_BYTES_MAX)
    } else if others >= limits::TOPICS_PER_FRAME_MAX {
        too_large("number of topics", others + 1, limits::TOPICS_PER_FRAME_MAX)
    } else {
        Ok(())
    }
}

/// Where a column ends: checked against [`limits::FRAME_BYTES_MAX`], so it has room.
fn end(column: &[u8]) -> u32 {
    u32::try_from(column.len()).unwrap_or(u32::MAX)
}

fn range(ends: &[u32], index: usize) -> Range<usize> {
    let start = index.checked_sub(1).map_or(0, |before| ends[before]);
    start as usize..ends[index] as usize
}

/// Headers that were written by [`Columns::push`].
fn own_headers(mut bytes: &[u8]) -> Headers<'_> {
    let count = wire::take_varint(&mut bytes, "header count").unwrap_or(0);
    Headers::trusted(u32::try_from(count).unwrap_or(0), bytes)
}

/// Why a record goes to the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    /// Stable and of few values: what dead letters are counted and searched by.
    pub code: String,
    /// For a person.
    pub reason: String,
    /// JSON pointer of the field at fault.
    pub field: Option<String>,
}

/// A record that a stage made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Another topic than that of its stream.
    pub topic: Option<String>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: crate::record::HeadersBuf,
    /// Milliseconds since 1970-01-01 UTC; -1 for none.
    pub timestamp: i64,
}

impl Made {
    /// The record, to be written down.
    #[must_use]
    pub fn as_record(&self) -> RecordRef<'_> {
        RecordRef {
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.as_headers(),
        }
    }
}

/// What becomes of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It goes on as it is.
    Keep,
    /// It goes on with this value.
    Value(&'a [u8]),
    /// Nothing goes on.
    Drop,
    /// It goes to the dead letters.
    Reject(&'a Rejection),
    /// These go on in its place; at least one.
    Rewrite(&'a [Made]),
}

/// Why columns of outcomes do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit(pub &'static str);

/// What a stage made of a batch: one outcome for each record, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    kinds: Vec<Kind>,
    value_ends: Vec<u32>,
    values: Vec<u8>,
    rejections: Vec<Rejection>,
    rewritten: Vec<Vec<Made>>,
}

/// An outcome, and where what belongs to it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Keep,
    Value(u32),
    Drop,
    Reject(u32),
    Rewrite(u32),
}

impl Outcomes {
    /// All of `count` records are kept.
    #[must_use]
    pub fn kept(count: usize) -> Outcomes {
        Outcomes {
            kinds: alloc::vec![Kind::Keep; count],
            ..Outcomes::default()
        }
    }

    /// As `transform-columns` answers in the plugin contract: a number for each record, and in columns what belongs to
    /// those with a number of their kind.
    ///
    /// # Errors
    /// When a number is not known, or columns and numbers do not fit.
    pub fn of_columns(
        verdicts: &[u8],
        value_ends: Vec<u32>,
        values: Vec<u8>,
        rejections: Vec<Rejection>,
        rewritten: Vec<Vec<Made>>,
    ) -> Result<Outcomes, Unfit> {
        let (mut replaced, mut rejected, mut remade) = (0, 0, 0);
        let next = |count: &mut u32| {
            *count += 1;
            *count - 1
        };
        let kinds = verdicts
            .iter()
            .map(|verdict| match verdict {
                0 => Ok(Kind::Keep),
                1 => Ok(Kind::Value(next(&mut replaced))),
                2 => Ok(Kind::Drop),
                3 => Ok(Kind::Reject(next(&mut rejected))),
                4 => Ok(Kind::Rewrite(next(&mut remade))),
                _ => Err(Unfit("a verdict is none of 0 to 4")),
            })
            .collect::<Result<Vec<Kind>, Unfit>>()?;
        let check = |fits: bool, why| if fits { Ok(()) } else { Err(Unfit(why)) };
        check(
            value_ends.len() == replaced as usize,
            "value-ends has not one entry for each verdict 1",
        )?;
        check(
            value_ends.is_sorted() && value_ends.last().map_or(0, |last| *last as usize) == values.len(),
            "value-ends does not divide the values",
        )?;
        check(
            rejections.len() == rejected as usize,
            "rejections has not one entry for each verdict 3",
        )?;
        check(
            rewritten.len() == remade as usize,
            "rewritten has not one entry for each verdict 4",
        )?;
        Ok(Outcomes {
            kinds,
            value_ends,
            values,
            rejections,
            rewritten,
        })
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Whether every record goes on as it is.
    #[must_use]
    pub fn are_all_kept(&self) -> bool {
        self.kinds.iter().all(|kind| *kind == Kind::Keep)
    }

    /// The next record is kept.
    pub fn keep(&mut self) {
        self.kinds.push(Kind::Keep);
    }

    /// The next record goes on with another value.
    pub fn value(&mut self, value: &[u8]) {
        self.kinds.push(Kind::Value(number(self.value_ends.len())));
        self.values.extend_from_slice(value);
        self.value_ends.push(end(&self.values));
    }

    /// The next record is dropped.
    pub fn dropped(&mut self) {
        self.kinds.push(Kind::Drop);
    }

    /// The next record goes to the dead letters.
    pub fn reject(&mut self, rejection: Rejection) {
        self.kinds.push(Kind::Reject(number(self.rejections.len())));
        self.rejections.push(rejection);
    }

    /// These go on in place of the next record.
    pub fn rewrite(&mut self, made: Vec<Made>) {
        self.kinds.push(Kind::Rewrite(number(self.rewritten.len())));
        self.rewritten.push(made);
    }

    /// The outcomes of records behind these.
    pub fn append(&mut self, others: &Outcomes) {
        for outcome in others.iter() {
            match outcome {
                Outcome::Keep => self.keep(),
                Outcome::Value(value) => self.value(value),
                Outcome::Drop => self.dropped(),
                Outcome::Reject(rejection) => self.reject(rejection.clone()),
                Outcome::Rewrite(made) => self.rewrite(made.to_vec()),
            }
        }
    }

    /// One for each record, in order.
    pub fn iter(&self) -> impl Iterator<Item = Outcome<'_>> {
        self.kinds.iter().map(|kind| match *kind {
            Kind::Keep => Outcome::Keep,
            Kind::Drop => Outcome::Drop,
            Kind::Value(at) => Outcome::Value(&self.values[range(&self.value_ends, at as usize)]),
            Kind::Reject(at) => Outcome::Reject(&self.rejections[at as usize]),
            Kind::Rewrite(at) => Outcome::Rewrite(&self.rewritten[at as usize]),
        })
    }
}

/// A count of entries of one batch.
fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::HeadersBuf;
    use alloc::vec;

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: &'a HeadersBuf) -> RecordRef<'a> {
        RecordRef {
            timestamp: 7,
            key,
            value,
            headers: headers.as_headers(),
        }
    }

    #[test]
    fn records_are_read_as_they_were_pushed() {
        let (none, mut two) = (HeadersBuf::new(), HeadersBuf::new());
        two.push("a", Some(b"1"));
        two.push("b", None);
        let pushed = [
            (Sequence(3), record(Some(b"k"), Some(b"v"), &none)),
            (Sequence(4), record(None, Some(b""), &two)),
            (Sequence(6), record(Some(b""), None, &none)),
            (
                Sequence(6),
                RecordRef {
                    timestamp: -1,
                    ..record(None, None, &two)
                },
            ),
        ];
        let mut columns = Columns::begin(Sequence(3));
        for (count, (sequence, record)) in pushed.iter().enumerate() {
            columns.push(*sequence, record).unwrap();
            assert_eq!(columns.sequences().is_empty(), count < 2);
        }
        assert_eq!(columns.iter().collect::<Vec<_>>(), pushed);
        assert_eq!(columns.interval(), Interval::new(Sequence(3), Sequence(7)));
        assert_eq!(
            columns.absent(),
            [0, NO_KEY, NO_VALUE, NO_KEY | NO_VALUE | NO_TIMESTAMP]
        );
        assert_eq!(columns.part(1..3).iter().collect::<Vec<_>>(), pushed[1..3]);
        assert!(columns.part(4..4).is_empty());
        columns.cover(Sequence(9));
        columns.cover(Sequence(8));
        assert_eq!(columns.interval().to, Sequence(9));
        columns.restart(Sequence(20));
        assert_eq!(columns, Columns::begin(Sequence(20)));
    }

    #[test]
    fn records_of_other_topics_are_found_in_runs() {
        let none = HeadersBuf::new();
        let mut columns = Columns::begin(Sequence(0));
        for (at, topic) in (0..).zip([None, None, Some("b"), Some("b"), Some("c"), None, Some("b")]) {
            columns
                .push_to(topic, Sequence(at), &record(None, None, &none))
                .unwrap();
        }
        columns.push(Sequence(7), &record(None, None, &none)).unwrap();
        let runs = |columns: &Columns| {
            let runs = columns.runs();
            runs.map(|(topic, run)| (topic.map(String::from), run))
                .collect::<Vec<_>>()
        };
        let named = |topic: &str| Some(String::from(topic));
        assert_eq!(
            runs(&columns),
            [
                (None, 0..2),
                (named("b"), 2..4),
                (named("c"), 4..5),
                (None, 5..6),
                (named("b"), 6..7),
                (None, 7..8)
            ]
        );
        assert_eq!(
            runs(&columns.part(3..5)),
            [(named("b"), 0..1), (named("c"), 1..2)]
        );
        let kept = columns.retained(|index| index % 2 == 0);
        assert_eq!(
            runs(&kept),
            [
                (None, 0..1),
                (named("b"), 1..2),
                (named("c"), 2..3),
                (named("b"), 3..4)
            ]
        );
        assert_eq!(kept.interval(), columns.interval());
        assert!(columns.is_routed());
        let before = columns.clone();
        for bad in [String::new(), "t".repeat(limits::NAME_BYTES_MAX + 1)] {
            let refused = columns.push_to(Some(&bad), Sequence(8), &record(None, None, &none));
            assert!(refused.is_err());
            assert_eq!(columns, before);
        }
        let mut own = Columns::begin(Sequence(0));
        own.push_to(None, Sequence(0), &record(None, None, &none))
            .unwrap();
        assert_eq!(runs(&own), [(None, 0..1)]);
        assert!(!own.is_routed());
    }

    #[test]
    fn a_record_that_goes_back_is_refused() {
        let none = HeadersBuf::new();
        let mut columns = Columns::begin(Sequence(5));
        columns.push(Sequence(6), &record(None, None, &none)).unwrap();
        let before = columns.clone();
        for back in [0, 5] {
            assert!(columns.push(Sequence(back), &record(None, None, &none)).is_err());
            assert_eq!(columns, before);
        }
    }

    #[test]
    fn outcomes_are_read_as_they_were_given() {
        let rejection = Rejection {
            code: "bad".into(),
            reason: "it is".into(),
            field: Some("/a".into()),
        };
        let made = vec![Made::default(), Made::default()];
        let mut outcomes = Outcomes::kept(1);
        assert!(outcomes.are_all_kept());
        outcomes.value(b"one");
        outcomes.dropped();
        outcomes.value(b"");
        outcomes.reject(rejection.clone());
        outcomes.rewrite(made.clone());
        let expected = [
            Outcome::Keep,
            Outcome::Value(b"one"),
            Outcome::Drop,
            Outcome::Value(b""),
            Outcome::Reject(&rejection),
            Outcome::Rewrite(&made),
        ];
        assert_eq!(outcomes.iter().collect::<Vec<_>>(), expected);
        assert!(!outcomes.are_all_kept());
        let same = Outcomes::of_columns(
            &[0, 1, 2, 1, 3, 4],
            vec![3, 3],
            b"one".to_vec(),
            vec![rejection.clone()],
            vec![made.clone()],
        );
        assert_eq!(same, Ok(outcomes.clone()));
        let mut twice = outcomes.clone();
        twice.append(&outcomes);
        assert_eq!(twice.len(), 12);
        assert_eq!(twice.iter().skip(6).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn columns_that_do_not_fit_are_refused() {
        let check = |verdicts: &[u8], value_ends: &[u32], values: &[u8]| {
            let outcomes =
                Outcomes::of_columns(verdicts, value_ends.to_vec(), values.to_vec(), vec![], vec![]);
            assert!(outcomes.is_err(), "{verdicts:?} {value_ends:?}");
        };
        check(&[5], &[], &[]);
        check(&[1], &[], &[]);
        check(&[0], &[0], &[]);
        check(&[1, 1], &[3, 1], b"abc"); // backwards
        check(&[1], &[4], b"abc"); // beyond
        check(&[1], &[2], b"abc"); // not all
        check(&[3], &[], &[]);
        check(&[4], &[], &[]);
    }
}
