//! Proof that what one end holds is what the other end had (DECISIONS: digests travel, records do not).
//!
//! The sink's gateway asks the origin, over the link, for digests of a stream; the origin reads its source again and
//! answers block by block; the sink's gateway reads its target and compares. Where blocks differ, both ends are
//! asked for single records, and a window of them tells missing, doubled and moved ones apart.
//!
//! Constraints: memory does not grow with the stream (a block is [`BLOCK_RECORDS`] records, an answer at most
//! [`BLOCKS_PER_ANSWER`] blocks); a proof never disturbs the path, and at most [`PROOFS_MAX`] run at once.

use super::exchange::{Exchange, Outlet};
use super::{Reader, SourceFault};
use culvert_proto::digest::{self, Digest};
use culvert_proto::message::{Block, Fault, Message};
use culvert_proto::stream::RouteId;
use culvert_proto::{Interval, Sequence, StreamId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Records in a block: ten million records make 1,000 blocks of 44 bytes.
pub const BLOCK_RECORDS: u32 = 10_000;

/// Blocks in one answer, far below the limit of a message.
const BLOCKS_PER_ANSWER: usize = 1_000;

/// Proofs answered at once. Each reads the source as fast as it can.
const PROOFS_MAX: usize = 2;

/// Opens a reader of the source that a topic of this site comes from.
pub type OpenReader = dyn Fn(&str) -> Result<Box<dyn Reader>, SourceFault> + Send + Sync;

/// Questions that wait for their answers, and the means to answer those of others.
#[derive(Default)]
pub struct Proofs {
    waiting: Mutex<HashMap<u128, mpsc::UnboundedSender<Message>>>,
    sources: Mutex<Option<Arc<OpenReader>>>,
    answering: AtomicUsize,
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

    /// Asks the origin of `stream` for digests of `interval`, one for each `block_records` records. The parts of the
    /// answer come in order; [`Proofs::done`] must follow.
    #[must_use]
    pub fn ask(
        &self,
        exchange: &Exchange,
        upstream: &str,
        route: &RouteId,
        stream: &StreamId,
        interval: Interval,
        block_records: u32,
    ) -> (u128, mpsc::UnboundedReceiver<Message>) {
        let (send, receive) = mpsc::unbounded_channel();
        let nonce = rand::random();
        self.waiting.lock().insert(nonce, send);
        let (route, stream) = (route.clone(), stream.clone());
        exchange.post_to_site(
            upstream,
            &Message::DigestAsk {
                nonce,
                route,
                stream,
                interval,
                block_records,
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
pub(super) fn answer(
    exchange: &Arc<Exchange>,
    outlet: &Outlet,
    nonce: u128,
    route: &RouteId,
    stream: &StreamId,
    interval: Interval,
    block_records: u32,
) {
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
    let sources = exchange.proofs.sources.lock().clone();
    let Some(open) = sources.filter(|_| {
        exchange
            .stream(stream)
            .is_some_and(|stream| stream.is_read_here())
    }) else {
        // Another gateway of this site reads the stream, and answers.
        return;
    };
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
    let (exchange, outlet, stream) = (exchange.clone(), outlet.clone(), stream.clone());
    exchange.runtime.clone().spawn_blocking(move || {
        let mut post = |blocks| outlet.post(part(blocks, false, None));
        let outcome = open(&stream.topic).and_then(|mut reader| {
            digests(
                &mut *reader,
                &stream.topic,
                stream.partition,
                interval,
                block_records,
                &mut post,
            )
        });
        // Before the last part is sent: whoever has it may ask again at once.
        exchange.proofs.answering.fetch_sub(1, Ordering::AcqRel);
        outlet.post(match outcome {
            Ok(last) => part(last, true, None),
            Err(fault) => part(Vec::new(), true, refuse("CULVERT-F031", fault.to_string())),
        });
    });
}

/// Digests of the records of `interval`, handed on in parts; the last part is the answer.
fn digests(
    reader: &mut dyn Reader,
    topic: &str,
    partition: u32,
    interval: Interval,
    block_records: u32,
    post: &mut dyn FnMut(Vec<Block>),
) -> Result<Vec<Block>, SourceFault> {
    let mut blocks = Vec::new();
    let (mut open, mut end) = (Digest::EMPTY, interval.from);
    reader.read(
        topic,
        partition,
        interval.from,
        Some(interval.to),
        &mut |sequence, record| {
            open.add(digest::content(record));
            end = sequence.next();
            if open.count >= u64::from(block_records.max(1)) {
                blocks.push(Block {
                    to: sequence.next(),
                    digest: std::mem::replace(&mut open, Digest::EMPTY),
                });
            }
            if blocks.len() >= BLOCKS_PER_ANSWER {
                post(std::mem::take(&mut blocks));
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
    /// The first place where the two differ.
    pub first: Option<Sequence>,
}

/// Compares two runs of records by their content, record by record, where their blocks differ.
///
/// Equal heads and tails are cut off; what is left is matched as a multiset. A content that both sides hold equally
/// often is at most out of order; more at the origin is missing; more at the sink is doubled if the origin has it at
/// all, else foreign.
#[must_use]
pub fn compare(origin: &[(Sequence, u128)], sink: &[u128]) -> Findings {
    let head = origin
        .iter()
        .zip(sink)
        .take_while(|((_, left), right)| left == *right)
        .count();
    let (origin_left, sink_left) = (&origin[head..], &sink[head..]);
    let tail = origin_left
        .iter()
        .rev()
        .zip(sink_left.iter().rev())
        .take_while(|((_, left), right)| left == *right)
        .count();
    let origin_left = &origin_left[..origin_left.len() - tail];
    let sink_left = &sink_left[..sink_left.len() - tail];
    let mut counts: HashMap<u128, (u64, u64)> = HashMap::new();
    origin_left
        .iter()
        .for_each(|(_, content)| counts.entry(*content).or_default().0 += 1);
    sink_left
        .iter()
        .for_each(|content| counts.entry(*content).or_default().1 += 1);
    let known: std::collections::HashSet<u128> = origin.iter().map(|(_, content)| *content).collect();
    let mut findings = Findings {
        first: origin_left.first().map(|(sequence, _)| *sequence),
        ..Findings::default()
    };
    for (content, (here, there)) in counts {
        findings.missing += here.saturating_sub(there);
        let surplus = there.saturating_sub(here);
        if known.contains(&content) {
            findings.duplicated += surplus;
        } else {
            findings.foreign += surplus;
        }
    }
    if findings.first.is_none() && !sink_left.is_empty() {
        findings.first = origin.get(head).or(origin.last()).map(|(sequence, _)| *sequence);
    }
    let moved = findings.missing == 0 && findings.duplicated == 0 && findings.foreign == 0;
    if moved {
        findings.out_of_order = origin_left
            .iter()
            .zip(sink_left)
            .filter(|((_, left), right)| left != *right)
            .count() as u64;
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origin: &[u128], sink: &[u128], expected: (u64, u64, u64, u64)) {
        let origin: Vec<(Sequence, u128)> = origin
            .iter()
            .enumerate()
            .map(|(at, content)| (Sequence(at as u64), *content))
            .collect();
        let found = compare(&origin, sink);
        let found = (found.missing, found.duplicated, found.out_of_order, found.foreign);
        assert_eq!(found, expected, "{origin:?} against {sink:?}");
    }

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        check(&[1, 2, 3], &[1, 2, 3], (0, 0, 0, 0));
        check(&[1, 2, 3], &[1, 3], (1, 0, 0, 0));
        check(&[1, 2, 3], &[1, 2, 2, 3], (0, 1, 0, 0));
        check(&[1, 2, 3], &[1, 2, 3, 1], (0, 1, 0, 0));
        check(&[1, 2, 3], &[1, 3, 2], (0, 0, 2, 0));
        check(&[1, 2, 3], &[1, 9, 2, 3], (0, 0, 0, 1));
        check(&[1, 2, 3], &[1, 9, 3], (1, 0, 0, 1));
        check(&[], &[], (0, 0, 0, 0));
        check(&[1], &[], (1, 0, 0, 0));
    }
}
