//! Proof that what one end holds is what the other end had (digests travel, records do not).
//!
//! The sink's gateway asks the origin, over the link, for digests of a stream; the origin reads its source again and
//! answers block by block; the sink's gateway reads its target and compares. Where blocks differ, both ends are
//! asked for single records, a window at a time, which tells missing, doubled and moved ones apart.
//!
//! Constraints: memory does not grow with the stream (a block is [`BLOCK_RECORDS`] records, an answer at most
//! [`BLOCKS_PER_ANSWER`] blocks); a proof never disturbs the path, and at most [`PROOFS_MAX`] run at once.

use super::exchange::{Exchange, Outlet};
use super::seen::{Seen, Testimony, Witness};
use super::{Reader, SourceFault};
use culvert_proto::digest::{self, Digest};
use culvert_proto::message::{Block, Fault, Message, Signed};
use culvert_proto::schema::Part;
use culvert_proto::stream::RouteId;
use culvert_proto::{Interval, Sequence, StreamId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Records in a block: ten million records make 1,000 blocks of 44 bytes.
pub const BLOCK_RECORDS: u32 = 10_000;

/// Blocks in one answer, far below the limit of a message.
const BLOCKS_PER_ANSWER: usize = 1_000;

/// What is known by then is sent, so that whoever asked a slow source sees it at work.
const PART_EVERY: Duration = Duration::from_secs(5);

/// Proofs answered at once. Each reads the source as fast as it can.
const PROOFS_MAX: usize = 2;

/// Statements that are wanted with answers that are not asked for yet: a question follows at once.
const WANTED_MAX: usize = 64;

/// Opens a reader of the source that a topic of this site comes from.
pub type OpenReader = dyn Fn(&str) -> Result<Box<dyn Reader>, SourceFault> + Send + Sync;

/// Questions that wait for their answers, and the means to answer those of others.
#[derive(Default)]
pub struct Proofs {
    waiting: Mutex<HashMap<u128, mpsc::UnboundedSender<Message>>>,
    sources: Mutex<Option<Arc<OpenReader>>>,
    answering: AtomicUsize,
    wanted: Mutex<VecDeque<(u128, Wanted)>>,
    witness: Mutex<Option<Arc<Witness>>>,
}

/// What is asked of the origin: digests of `interval`, one for each `block_records` records.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The route.
    pub route: &'a RouteId,
    /// The stream.
    pub stream: &'a StreamId,
    /// Which part of it.
    pub interval: Interval,
    /// One digest for each so many records.
    pub block_records: u32,
    /// The parts of records that are compared without the numbers of their schemas.
    pub without_ids: &'a [Part],
}

/// A statement that is wanted with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The hash of the receipt before.
    pub before: Option<[u8; 32]>,
}

impl Proofs {
    /// How this gateway reads its own sources again.
    pub fn set_sources(&self, open: Arc<OpenReader>) {
        *self.sources.lock() = Some(open);
    }

    /// A part of an answer came.
    pub(super) fn answered(&self, nonce: u128, message: Message) {
        if let Some(waiting) = self.waiting.lock().get(&nonce) {
            // Whoever asked may have given up.
            let _ = waiting.send(message);
        }
    }

    /// Who signs what this gateway has read of its own sources.
    pub fn set_witness(&self, witness: Arc<Witness>) {
        *self.witness.lock() = Some(witness);
    }

    /// A statement is wanted with the answer to the question of this nonce, which comes next.
    pub(super) fn want_statement(&self, nonce: u128, before: Option<[u8; 32]>) {
        let mut wanted = self.wanted.lock();
        if wanted.len() == WANTED_MAX {
            wanted.pop_front();
        }
        wanted.push_back((nonce, Wanted { before }));
    }

    fn take_wanted(&self, nonce: u128) -> Option<Wanted> {
        let mut wanted = self.wanted.lock();
        let at = wanted.iter().position(|(known, _)| *known == nonce)?;
        wanted.remove(at).map(|(_, wanted)| wanted)
    }

    /// Asks the origin, by way of site `upstream`. The parts of the answer come in order; [`Proofs::done`] must follow.
    /// A statement that is wanted, and can be had, comes before the last part.
    #[must_use]
    pub fn ask(
        &self,
        exchange: &Exchange,
        upstream: &str,
        question: &Question<'_>,
        statement: Option<Wanted>,
    ) -> (u128, mpsc::UnboundedReceiver<Message>) {
        let (send, receive) = mpsc::unbounded_channel();
        let nonce = rand::random();
        self.waiting.lock().insert(nonce, send);
        let (route, stream) = (question.route.clone(), question.stream.clone());
        if let Some(Wanted { before }) = statement {
            let (route, stream) = (route.clone(), stream.clone());
            exchange.post_to_site(
                upstream,
                &Message::StatementAsk {
                    nonce,
                    route,
                    stream,
                    before,
                },
            );
        }
        exchange.post_to_site(
            upstream,
            &Message::DigestAsk {
                nonce,
                route,
                stream,
                interval: question.interval,
                block_records: question.block_records,
                without_ids: question.without_ids.to_vec(),
            },
        );
        (nonce, receive)
    }

    /// No more of this answer is wanted.
    pub fn done(&self, nonce: u128) {
        self.waiting.lock().remove(&nonce);
    }
}

/// Answers a question of the sink's gateway: reads the source again, on a thread of its own.
pub(super) fn answer(exchange: &Arc<Exchange>, outlet: &Outlet, nonce: u128, question: &Question<'_>) {
    let (route, stream) = (question.route.clone(), question.stream.clone());
    let wanted = exchange.proofs.take_wanted(nonce);
    let part = {
        let (route, stream) = (route.clone(), stream.clone());
        move |blocks, done, fault| Message::DigestAnswer {
            nonce,
            route: route.clone(),
            stream: stream.clone(),
            blocks,
            done,
            fault,
        }
    };
    let refuse = |code: &str, reason: String| {
        Some(Fault {
            code: code.into(),
            reason,
        })
    };
    let (reader, hop) = (route.site(), outlet.site());
    if !exchange.grants.may_read(reader, hop, &stream.topic) {
        let topic = &stream.topic;
        let reason = format!("topic {topic} is not granted to {reader}, nor is what could be counted in it");
        return outlet.post(part(Vec::new(), true, refuse("CULVERT-F004", reason)));
    }
    let sources = exchange.proofs.sources.lock().clone();
    let Some(open) = sources.filter(|_| {
        exchange
            .stream(&stream)
            .is_some_and(|stream| stream.is_read_here())
    }) else {
        // Another gateway of this site reads the stream, and answers.
        return;
    };
    let interval = question.interval;
    if interval.from >= interval.to {
        // Only asked to find out who reads the stream.
        return outlet.post(part(Vec::new(), true, None));
    }
    if exchange.proofs.answering.fetch_add(1, Ordering::AcqRel) >= PROOFS_MAX {
        exchange.proofs.answering.fetch_sub(1, Ordering::AcqRel);
        let reason = format!(
            "{PROOFS_MAX} proofs are under way at {}; try again later",
            exchange.site
        );
        return outlet.post(part(Vec::new(), true, refuse("CULVERT-F030", reason)));
    }
    let (exchange, outlet) = (exchange.clone(), outlet.clone());
    let (block_records, without_ids) = (question.block_records, question.without_ids.to_vec());
    exchange.runtime.clone().spawn_blocking(move || {
        let question = Question {
            route: &route,
            stream: &stream,
            interval,
            block_records,
            without_ids: &without_ids,
        };
        let mut seen = wanted.map(|_| Seen::new(&without_ids));
        let mut post = |blocks| outlet.post(part(blocks, false, None));
        let outcome = open(&stream.topic)
            .and_then(|mut reader| digests(&mut *reader, &question, seen.as_mut(), &mut post));
        // Before the last part is sent: whoever has it may ask again at once.
        exchange.proofs.answering.fetch_sub(1, Ordering::AcqRel);
        outlet.post(match outcome {
            Ok(last) => {
                if let (Some(wanted), Some(seen)) = (wanted, seen)
                    && let Some(signed) = sign(&exchange.proofs, &question, wanted, &seen)
                {
                    let route = route.clone();
                    outlet.post(Message::Statement { nonce, route, signed });
                }
                part(last, true, None)
            }
            Err(fault) => part(Vec::new(), true, refuse("CULVERT-F031", fault.to_string())),
        });
    });
}

/// The statement of what was read, where this gateway can sign it.
fn sign(proofs: &Proofs, question: &Question<'_>, wanted: Wanted, seen: &Seen) -> Option<Signed> {
    let witness = proofs.witness.lock().clone()?;
    let signed = witness(&Testimony {
        route: question.route,
        stream: question.stream,
        interval: question.interval,
        before: wanted.before,
        seen,
    });
    signed
        .inspect_err(|fault| tracing::warn!(stream = %question.stream, %fault, "statement not signed"))
        .ok()
}

/// Digests of the records of the question's interval, handed on in parts; the last part is the answer. `seen` sees the
/// same records.
fn digests(
    reader: &mut dyn Reader,
    question: &Question<'_>,
    mut seen: Option<&mut Seen>,
    post: &mut dyn FnMut(Vec<Block>),
) -> Result<Vec<Block>, SourceFault> {
    let (stream, interval) = (question.stream, question.interval);
    let mut blocks = Vec::new();
    let (mut open, mut end, mut posted) = (Digest::EMPTY, interval.from, Instant::now());
    reader.read(
        &stream.topic,
        stream.partition,
        interval.from,
        Some(interval.to),
        &mut |sequence, record| {
            open.add(digest::content_without_ids(record, question.without_ids));
            if let Some(seen) = &mut seen {
                seen.add(sequence, record);
            }
            end = sequence.next();
            if open.count >= u64::from(question.block_records.max(1)) {
                blocks.push(Block {
                    to: sequence.next(),
                    digest: std::mem::replace(&mut open, Digest::EMPTY),
                });
            }
            if blocks.len() >= BLOCKS_PER_ANSWER || (!blocks.is_empty() && posted.elapsed() >= PART_EVERY) {
                post(std::mem::take(&mut blocks));
                posted = Instant::now();
            }
            ControlFlow::Continue(())
        },
    )?;
    if open.count > 0 {
        blocks.push(Block {
            to: end,
            digest: open,
        });
    }
    Ok(blocks)
}

// ----- telling differences apart ---------------------------------------------------------------------------------

/// What a comparison of two ends found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Records of the origin that the sink does not hold.
    pub missing: u64,
    /// Records of the sink that the origin has fewer times.
    pub duplicated: u64,
    /// Records that stand elsewhere in the sink than at the origin.
    pub out_of_order: u64,
    /// Records of the sink that the origin never had.
    pub foreign: u64,
    /// The first [`PLACES_MAX`] of them, in the order of their places.
    pub places: Vec<Place>,
}

/// One record that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its sequence at the origin; of a foreign record that of the record before it.
    pub at: Sequence,
    /// How it differs.
    pub what: Difference,
}

/// How a record differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The sink does not hold it.
    Missing,
    /// The sink holds it more often than the origin.
    Doubled,
    /// It stands elsewhere in the sink.
    Moved,
    /// The origin never had it.
    Foreign,
}

/// How many records that differ are named: a screen of them.
pub const PLACES_MAX: usize = 20;

/// Records that differ and are remembered, 32 bytes each: more is not a difference but another stream.
pub const DIFFERENCES_MAX: usize = 100_000;

/// All that differs of one stream, collected window by window: memory follows the differences, not the stream.
#[derive(Debug, Default)]
pub struct Differences {
    missing: Vec<(Sequence, u128)>,
    surplus: Vec<Surplus>,
    moved: Vec<Sequence>,
}

/// A record of the sink that its window of the origin has fewer times.
#[derive(Clone, Copy, Debug)]
struct Surplus {
    content: u128,
    /// Its sequence at the origin, where it is known to have one.
    known: Option<Sequence>,
    /// The record of the origin that it stands behind.
    behind: Sequence,
}

impl Differences {
    /// Compares a window of the origin's records, their content by sequence, with the sink's from the same place on.
    /// Answers how many of the sink's belong to the window. `last`: nothing follows at the origin. `balance`: how many
    /// records more than the origin the sink has from here to the end.
    ///
    /// Equal heads and tails are cut off; what is left is matched as a multiset. A content that both sides hold equally
    /// often is at most out of order.
    pub fn compare(&mut self, origin: &[(Sequence, u128)], sink: &[u128], last: bool, balance: i64) -> usize {
        let end = if last {
            sink.len()
        } else {
            window_end(origin, sink, balance)
        };
        let sink = &sink[..end];
        let head = equal(origin.iter(), sink.iter());
        let (origin_left, sink_left) = (&origin[head..], &sink[head..]);
        let tail = equal(origin_left.iter().rev(), sink_left.iter().rev());
        let origin_left = &origin_left[..origin_left.len() - tail];
        let sink_left = &sink_left[..sink_left.len() - tail];
        let before = (self.missing.len(), self.surplus.len());
        let mut there: HashMap<u128, u64> = HashMap::new();
        sink_left
            .iter()
            .for_each(|content| *there.entry(*content).or_default() += 1);
        let absent = |(_, content): &&(Sequence, u128)| !take(&mut there, *content);
        self.missing.extend(origin_left.iter().filter(absent));
        self.add_surplus(origin, head, origin_left, sink_left);
        if before == (self.missing.len(), self.surplus.len()) {
            let differs = |((at, left), right): ((Sequence, u128), &u128)| (left != *right).then_some(at);
            let pairs = origin_left.iter().copied().zip(sink_left);
            self.moved.extend(pairs.filter_map(differs));
        }
        end
    }

    fn add_surplus(
        &mut self,
        origin: &[(Sequence, u128)],
        head: usize,
        origin_left: &[(Sequence, u128)],
        sink_left: &[u128],
    ) {
        let mut here: HashMap<u128, u64> = HashMap::new();
        origin_left
            .iter()
            .for_each(|(_, content)| *here.entry(*content).or_default() += 1);
        let known: HashMap<u128, Sequence> = if sink_left.is_empty() {
            HashMap::new()
        } else {
            origin.iter().map(|(at, content)| (*content, *at)).collect()
        };
        let mut behind = head.checked_sub(1).map_or(Sequence::ZERO, |last| origin[last].0);
        for content in sink_left {
            if take(&mut here, *content) {
                behind = known[content];
            } else {
                self.surplus.push(Surplus {
                    content: *content,
                    known: known.get(content).copied(),
                    behind,
                });
            }
        }
    }

    /// Whether there are more than are remembered.
    #[must_use]
    pub fn are_too_many(&self) -> bool {
        self.missing.len() + self.surplus.len() + self.moved.len() > DIFFERENCES_MAX
    }

    /// Finds what is missing in one window and too much in another: it has moved. Answers whether it is still unknown of
    /// some record of the sink if the origin has it anywhere.
    pub fn settle(&mut self) -> bool {
        let mut missing: HashMap<u128, Vec<Sequence>> = HashMap::new();
        for (at, content) in &self.missing {
            missing.entry(*content).or_default().push(*at);
        }
        let mut found = Vec::new();
        self.surplus.retain(
            |surplus| match missing.get_mut(&surplus.content).and_then(Vec::pop) {
                Some(at) => {
                    found.push(at);
                    false
                }
                None => true,
            },
        );
        let gone: HashSet<Sequence> = found.iter().copied().collect();
        self.missing.retain(|(at, _)| !gone.contains(at));
        self.moved.extend(found);
        self.surplus.iter().any(|surplus| surplus.known.is_none())
    }

    /// The origin has this record.
    pub fn origin_has(&mut self, suspects: &HashSet<u128>, at: Sequence, content: u128) {
        if suspects.contains(&content) {
            let same = self
                .surplus
                .iter_mut()
                .filter(|surplus| surplus.content == content);
            same.for_each(|surplus| surplus.known = Some(at));
        }
    }

    /// Contents of which it is unknown whether the origin has them.
    #[must_use]
    pub fn suspects(&self) -> HashSet<u128> {
        let unknown = self.surplus.iter().filter(|surplus| surplus.known.is_none());
        unknown.map(|surplus| surplus.content).collect()
    }

    /// The sum of it.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let count = |n: usize| n as u64;
        let doubled = self.surplus.iter().filter(|surplus| surplus.known.is_some());
        let place = |what| move |at: &Sequence| Place { at: *at, what };
        let of_surplus = |surplus: &Surplus| match surplus.known {
            Some(at) => place(Difference::Doubled)(&at),
            None => place(Difference::Foreign)(&surplus.behind),
        };
        let missing = self.missing.iter().map(|(at, _)| at);
        let mut places: Vec<Place> = missing
            .map(place(Difference::Missing))
            .chain(self.moved.iter().map(place(Difference::Moved)))
            .chain(self.surplus.iter().map(of_surplus))
            .collect();
        places.sort_unstable();
        places.truncate(PLACES_MAX);
        let duplicated = count(doubled.count());
        Findings {
            missing: count(self.missing.len()),
            duplicated,
            out_of_order: count(self.moved.len()),
            foreign: count(self.surplus.len()) - duplicated,
            places,
        }
    }
}

/// How many records stand equal, from where both begin.
fn equal<'a>(
    origin: impl Iterator<Item = &'a (Sequence, u128)>,
    sink: impl Iterator<Item = &'a u128>,
) -> usize {
    let same = origin.zip(sink).take_while(|((_, left), right)| left == *right);
    same.count()
}

/// Takes one of `content`, if one is left.
fn take(left: &mut HashMap<u128, u64>, content: u128) -> bool {
    match left.get_mut(&content) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    }
}

/// How many of the sink's records belong to a window of the origin's: those up to its last record that stands exactly
/// once in both, and what follows both alike. Where none does, the balance of the two ends decides who has too much.
fn window_end(origin: &[(Sequence, u128)], sink: &[u128], balance: i64) -> usize {
    let mut at: HashMap<u128, Option<usize>> = HashMap::with_capacity(sink.len());
    for (index, content) in sink.iter().enumerate() {
        at.entry(*content)
            .and_modify(|once| *once = None)
            .or_insert(Some(index));
    }
    let mut times: HashMap<u128, u64> = HashMap::with_capacity(origin.len());
    origin
        .iter()
        .for_each(|(_, content)| *times.entry(*content).or_default() += 1);
    let anchored = origin.iter().enumerate().rev().find_map(|(index, (_, content))| {
        let there = at.get(content).copied().flatten()?;
        (times[content] == 1).then_some((index + 1, there + 1))
    });
    match anchored {
        Some((here, there)) => there + equal(origin[here..].iter(), sink[there..].iter()),
        None if balance < 0 => 0,
        None => origin.len().min(sink.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Difference::{Doubled, Foreign, Missing, Moved};

    /// Records whose content is their number; the sequence is ten times the place.
    fn origin(contents: &[u128]) -> Vec<(Sequence, u128)> {
        let place = |(at, content): (usize, &u128)| (Sequence(at as u64 * 10), *content);
        contents.iter().enumerate().map(place).collect()
    }

    /// Compares in windows of `window` records, as a proof does: equal heads of both are passed over.
    fn compared(here: &[u128], sink: &[u128], window: usize) -> Findings {
        let here = origin(here);
        let mut differences = Differences::default();
        let (mut from, mut begun) = (0, 0);
        while from < here.len() || begun < sink.len() {
            let to = (from + window).min(here.len());
            let balance = (sink.len() - begun) as i64 - (here.len() - from) as i64;
            let wanted = (window + usize::try_from(balance.max(0)).unwrap()).min(sink.len() - begun);
            let last = to == here.len();
            let end = if last { sink.len() } else { begun + wanted };
            begun += differences.compare(&here[from..to], &sink[begun..end], last, balance);
            from = to;
            if last {
                break;
            }
        }
        if differences.settle() {
            let suspects = differences.suspects();
            here.iter()
                .for_each(|(at, content)| differences.origin_has(&suspects, *at, *content));
        }
        differences.findings()
    }

    /// The same is found whatever the window.
    #[track_caller]
    fn check(here: &[u128], sink: &[u128], expected: &[(u64, Difference)]) {
        for window in [1_000, 4, 3] {
            let found = compared(here, sink, window);
            let places: Vec<_> = found
                .places
                .iter()
                .map(|place| (place.at.0, place.what))
                .collect();
            assert_eq!(places, expected, "{here:?} against {sink:?} by {window}");
            let count = |what| expected.iter().filter(|(_, known)| *known == what).count() as u64;
            assert_eq!(
                (found.missing, found.duplicated, found.out_of_order, found.foreign),
                (count(Missing), count(Doubled), count(Moved), count(Foreign))
            );
        }
    }

    #[test]
    fn a_statement_is_wanted_with_one_answer_and_those_never_asked_for_are_forgotten() {
        let proofs = Proofs::default();
        let wanted = |number: u8| Wanted {
            before: Some([number; 32]),
        };
        proofs.want_statement(1, Some([1; 32]));
        proofs.want_statement(2, None);
        assert_eq!(proofs.take_wanted(1), Some(wanted(1)));
        assert_eq!(proofs.take_wanted(1), None);
        (100..100 + WANTED_MAX as u128).for_each(|nonce| proofs.want_statement(nonce, Some([3; 32])));
        assert_eq!(proofs.take_wanted(2), None);
        assert_eq!(proofs.take_wanted(100), Some(wanted(3)));
    }

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        check(&[1, 2, 3], &[1, 2, 3], &[]);
        check(&[1, 2, 3], &[1, 3], &[(10, Missing)]);
        check(&[1, 2, 3], &[1, 2, 2, 3], &[(10, Doubled)]);
        check(&[1, 2, 3], &[1, 2, 3, 1], &[(0, Doubled)]);
        check(&[1, 2, 3], &[1, 3, 2], &[(10, Moved), (20, Moved)]);
        check(&[1, 2, 3], &[1, 9, 2, 3], &[(0, Foreign)]);
        check(&[1, 2, 3], &[1, 9, 3], &[(0, Foreign), (10, Missing)]);
        check(&[], &[], &[]);
        check(&[1], &[], &[(0, Missing)]);
    }

    #[test]
    fn what_is_far_apart_is_found_in_windows_too() {
        let here: Vec<u128> = (1..=12).collect();
        check(&here, &here, &[]);
        // One missing at the beginning, one doubled near the end: what lies between is not blamed.
        let sink = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 12];
        check(&here, &sink, &[(10, Missing), (100, Doubled)]);
        // The first record once more at the end.
        let sink: Vec<u128> = here.iter().copied().chain([1]).collect();
        check(&here, &sink, &[(0, Doubled)]);
        // A whole window is not there.
        check(
            &here,
            &[1, 2, 3, 4, 9, 10, 11, 12],
            &[(40, Missing), (50, Missing), (60, Missing), (70, Missing)],
        );
    }

    #[test]
    fn a_record_that_moved_far_is_neither_missing_nor_doubled() {
        let here: Vec<u128> = (1..=12).collect();
        let sink = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 2];
        for window in [4, 3] {
            let found = compared(&here, &sink, window);
            assert_eq!(
                (found.missing, found.duplicated, found.foreign),
                (0, 0, 0),
                "{found:?}"
            );
            assert_eq!(
                found.places,
                [Place {
                    at: Sequence(10),
                    what: Moved
                }]
            );
        }
    }
}
