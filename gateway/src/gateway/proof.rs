//! Compares both ends of the sinks of this gateway: what the origin's gateway answers over the link, and what the target
//! holds.

use super::answer::shown;
use super::holdings::{Beginning, Holdings, Look, Span, digest_of_topics, reading_the_sink};
use super::receipts::{Made, Receipting, Window};
use super::{Gateway, changer_of, renumbered_parts};
use crate::config::Connector;
use crate::config::connector::Checked;
use crate::connector::kafka;
use crate::flow::delivery::{self, Trouble};
use crate::flow::prove::{self, BLOCK_RECORDS, DIFFERENCES_MAX, Differences, Findings, Question, Wanted};
use crate::flow::seen::Seen;
use crate::observe::control::{Progress, Prove};
use crate::observe::report::{Difference, Fault, Held, ProofReport, StreamProof, Tally};
use culvert_proto::digest::Digest;
use culvert_proto::message::{Block, Message, Signed};
use culvert_proto::stream::RouteId;
use culvert_proto::{Interval, Position, Sequence, StreamId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an origin may be silent while it reads its source again.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// How long to wait for the answer to a question for nothing: one request to a broker, and two links.
const PROBE_WAIT: Duration = Duration::from_secs(5);

/// Blocks of the origin that are compared record by record at once: 100,000 records, some 20 MB at both ends together.
const WINDOW_BLOCKS: usize = 10;

/// Records of the sink that are looked at behind those that a window of the origin should have there.
const WINDOW_SLACK: u64 = 10_000;

/// Records of the sink in the last window, and what is too much of them.
const WINDOW_RECORDS_MAX: u64 = 1_000_000;

/// Windows in which both ends may differ. Each costs a look through the rest of the sink.
const WINDOWS_MAX: usize = 100;

/// Blocks that an origin may answer: 10,000 million records, 72 MB.
const BLOCKS_MAX: usize = 1_000_000;

/// How long a sink's position may take to count what its target shows already: commits come within milliseconds.
const COUNTED_WAIT: Duration = Duration::from_secs(2);

/// Places in which the record before a part is looked for: more than a source leaves out behind one another but for holes of
/// compaction.
const BEFORE_PLACES: u64 = 1_000;

/// How long a sink that starts may take to read its positions: without them a proof would leave streams out.
const POSITIONS_WAIT: Duration = Duration::from_secs(10);

/// How often the ends are looked at while waiting for what is on its way.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Gateway {
    pub(super) async fn prove_all(
        &self,
        prove: &Prove,
        progress: &watch::Sender<Progress>,
    ) -> Result<ProofReport, Fault> {
        let deadline = Instant::now() + Duration::from_millis(prove.wait_ms);
        let receipting = match prove.receipt {
            true => Some(self.receipting().await?),
            false => None,
        };
        let (mut streams, mut made) = (Vec::new(), Vec::new());
        for connector in self
            .config
            .connectors
            .iter()
            .filter(|connector| !connector.checked.is_source())
        {
            if prove
                .connector
                .as_ref()
                .is_some_and(|wanted| wanted != &connector.name)
            {
                continue;
            }
            let asked = Asked {
                prove,
                connector,
                deadline,
                receipting: receipting.as_ref(),
            };
            for (proof, receipt) in self.prove_connector(&asked, progress).await? {
                streams.push(proof);
                made.extend(receipt);
            }
        }
        if let (Some(stream), true) = (&prove.stream, streams.is_empty()) {
            return Err(Fault {
                code: "CULVERT-F069".into(),
                message: format!("no sink of this gateway holds anything of stream {stream}"),
            });
        }
        let mut report = ProofReport {
            gateway: self.config.gateway.clone(),
            streams,
            receipts: None,
            no_receipts: None,
        };
        if let Some(receipting) = receipting {
            match receipting.finish(&report, made).await {
                Ok(document) => report.receipts = Some(document),
                Err(fault) => report.no_receipts = Some(fault),
            }
        }
        Ok(report)
    }

    async fn prove_connector(
        &self,
        asked: &Asked<'_>,
        progress: &watch::Sender<Progress>,
    ) -> Result<Vec<(StreamProof, Option<Made>)>, Fault> {
        let Asked {
            prove,
            connector,
            deadline,
            ..
        } = *asked;
        let Some(delivery) = self.delivery_of(connector) else {
            return Ok(Vec::new());
        };
        let alone = |proof: StreamProof| vec![(proof, None)];
        let until = deadline.max(Instant::now() + POSITIONS_WAIT);
        while !delivery.knows_positions() && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if !delivery.knows_positions() {
            return Ok(alone(unknown(&delivery)));
        }
        let mut known = delivery.status().positions;
        if let Some(wanted) = &prove.stream {
            known.retain(|stream, _| stream.to_string() == *wanted);
            if known.is_empty() {
                return Ok(Vec::new());
            }
        }
        if let Some(changer) = changer_of(connector) {
            let why = format!("{changer} of {} change what they pass", connector.name);
            return Ok(alone(not_comparable(&delivery, &why)));
        }
        if let Checked::PluginSink(_) = &connector.checked {
            let why = format!("the target of {} is read by its plugin alone", connector.name);
            return Ok(alone(not_comparable(&delivery, &why)));
        }
        if let Checked::KafkaSink(config) = &connector.checked
            && config.partitioner != kafka::config::Partitioner::Same
        {
            if prove.stream.is_some() {
                let why = format!(
                    "the partitioner of {} mixes streams in its target",
                    connector.name
                );
                return Ok(alone(not_comparable(&delivery, &why)));
            }
            let proof = self
                .prove_together(connector, config, &delivery, deadline, progress)
                .await;
            return Ok(proof.into_iter().flat_map(alone).collect());
        }
        let mut proofs = Vec::new();
        // Each record is looked at once at each end.
        let total: u64 = known.values().map(|position| position.digest.count * 2).sum();
        let mut done = 0;
        for (stream, position) in known {
            progress.send_modify(|progress| progress.what = stream.to_string());
            let ahead = self
                .wait_for_arrival(connector, &delivery, &stream, deadline, progress)
                .await;
            progress.send_modify(|progress| (progress.done, progress.total) = (done, total));
            done += position.digest.count * 2;
            let Some(position) = delivery.status().positions.get(&stream).cloned() else {
                continue;
            };
            let (mut proof, made) = self
                .prove_stream(asked, &delivery.route, &stream, &position, progress)
                .await;
            match ahead {
                Ok(Some(to)) if to > position.at => {
                    proof.held.push(Held {
                        place: "not arrived yet".into(),
                        from: position.at.0,
                        to: to.0,
                    });
                }
                Ok(_) => {}
                Err(fault) => proof.fault = proof.fault.or(Some(fault)),
            }
            proofs.push((proof, made));
        }
        Ok(proofs)
    }

    /// Compares all streams of a sink at once, by count and content: where a partitioner decides, a partition of the
    /// target says of no record which stream it is of, so that order cannot be compared. The target topics must hold
    /// nothing else. `None` while no stream has a position.
    async fn prove_together(
        &self,
        connector: &Connector,
        config: &kafka::config::SinkConfig,
        delivery: &delivery::Delivery,
        deadline: Instant,
        progress: &watch::Sender<Progress>,
    ) -> Option<StreamProof> {
        let streams: Vec<StreamId> = delivery.status().positions.into_keys().collect();
        let mut proof = StreamProof {
            lineage: streams.first()?.lineage_hex(),
            ..nothing(&delivery.route)
        };
        for stream in &streams {
            progress.send_modify(|progress| progress.what = stream.to_string());
            match self
                .wait_for_arrival(connector, delivery, stream, deadline, progress)
                .await
            {
                Ok(None) => {}
                Ok(Some(to)) => proof.held.push(Held {
                    place: format!("{stream} not arrived yet"),
                    from: delivery.status().positions.get(stream)?.at.0,
                    to: to.0,
                }),
                Err(fault) => proof.fault = Some(fault),
            }
        }
        let started = Instant::now();
        loop {
            let positions = delivery.status().positions;
            let outcome = self
                .compare_together(connector, config, &delivery.route, &positions, &mut proof)
                .await;
            let moved = delivery.status().positions != positions;
            match outcome {
                Err(fault) => proof.fault = proof.fault.or(Some(fault)),
                // What is delivered meanwhile is read from the target and not from the source.
                Ok(()) if moved && proof.origin != proof.sink && started.elapsed() < COUNTED_WAIT => continue,
                Ok(()) => {}
            }
            return Some(proof);
        }
    }

    /// Reads what both ends hold of all streams into `proof`.
    async fn compare_together(
        &self,
        connector: &Connector,
        config: &kafka::config::SinkConfig,
        route: &RouteId,
        positions: &BTreeMap<StreamId, Position>,
        proof: &mut StreamProof,
    ) -> Result<(), Fault> {
        let mut origin = Digest::EMPTY;
        for (stream, position) in positions {
            let interval = Interval::new(position.start, position.at);
            let (blocks, _) = self
                .origin_blocks(connector, route, stream, interval, BLOCK_RECORDS, None)
                .await?;
            origin = blocks.iter().fold(origin, |sum, block| sum.then(&block.digest));
        }
        let targets: BTreeSet<String> = positions
            .keys()
            .map(|stream| config.target(&stream.topic))
            .collect();
        let (config, parts) = (config.clone(), renumbered_parts(connector));
        let sink = reading_the_sink(move || digest_of_topics(&config, &targets, &parts)).await?;
        proof.origin = Some(tally_without_order(&origin));
        proof.sink = Some(tally_without_order(&sink));
        proof.missing = origin.count.saturating_sub(sink.count);
        proof.duplicated = sink.count.saturating_sub(origin.count);
        if origin.count == sink.count && origin.set != sink.set {
            proof.fault = Some(Fault {
                code: "CULVERT-F033".into(),
                message: "as many records are in the sink as at the origin, and not the same ones".into(),
            });
        }
        Ok(())
    }

    /// Waits until the sink holds all that the origin has now; answers where the origin ends if it does not.
    async fn wait_for_arrival(
        &self,
        connector: &Connector,
        delivery: &delivery::Delivery,
        stream: &StreamId,
        deadline: Instant,
        progress: &watch::Sender<Progress>,
    ) -> Result<Option<Sequence>, Fault> {
        let arrived = || {
            delivery
                .status()
                .positions
                .get(stream)
                .map_or(Sequence::ZERO, |position| position.at)
        };
        let beyond = Interval::new(arrived(), Sequence(u64::MAX));
        let (blocks, _) = self
            .origin_blocks(connector, &delivery.route, stream, beyond, u32::MAX, None)
            .await?;
        let Some(end) = blocks
            .iter()
            .filter(|block| block.digest.count > 0)
            .map(|block| block.to)
            .max()
        else {
            return Ok(None);
        };
        while arrived() < end && Instant::now() < deadline {
            progress.send_modify(|progress| (progress.done, progress.total) = (arrived().0, end.0));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok((arrived() < end).then_some(end))
    }

    /// Compares what the origin has with what the sink holds of the stream: of `[start, at)`, or of the part of it that was
    /// asked for. What both ends have signed of it comes with the proof.
    async fn prove_stream(
        &self,
        asked: &Asked<'_>,
        route: &RouteId,
        stream: &StreamId,
        position: &Position,
        progress: &watch::Sender<Progress>,
    ) -> (StreamProof, Option<Made>) {
        let mut proof = StreamProof {
            stream: stream.to_string(),
            lineage: stream.lineage_hex(),
            start: position.start.0,
            at: position.at.0,
            out_of_order: Some(0),
            ..nothing(route)
        };
        let outcome = self
            .compare_stream(asked, route, stream, position, progress, &mut proof)
            .await;
        let made = outcome.unwrap_or_else(|fault| {
            proof.fault = Some(fault);
            None
        });
        (proof, made)
    }

    async fn compare_stream(
        &self,
        asked: &Asked<'_>,
        route: &RouteId,
        stream: &StreamId,
        position: &Position,
        progress: &watch::Sender<Progress>,
        proof: &mut StreamProof,
    ) -> Result<Option<Made>, Fault> {
        let connector = asked.connector;
        let window = Window::of(asked.prove, connector, stream, position)?;
        (proof.start, proof.at) = (window.from.0, window.compared_to.0);
        let wanted = match asked.receipting {
            Some(receipting) if window.from < window.to => Some(receipting.wanted(route, stream)?),
            _ => None,
        };
        let interval = Interval::new(window.from, window.to);
        let (mut origin, statement) = self
            .origin_blocks(connector, route, stream, interval, BLOCK_RECORDS, wanted)
            .await?;
        let count = |blocks: &[Block]| blocks.iter().map(|block| block.digest.count).sum::<u64>();
        let signed = count(&origin);
        if window.compared_to > window.to {
            let behind = Interval::new(window.to, window.compared_to);
            let (more, _) = self
                .origin_blocks(connector, route, stream, behind, BLOCK_RECORDS, None)
                .await?;
            origin.extend(more);
        }
        progress.send_modify(|progress| progress.done += position.digest.count);
        let part = match window.is_whole {
            true => position.clone(),
            false => Position {
                start: window.from,
                at: window.compared_to,
                digest: Digest::from_parts(count(&origin), 0, 0),
                ..position.clone()
            },
        };
        let ends = Ends {
            connector,
            route,
            stream,
            position: &part,
        };
        let skipped = position.digest.count.saturating_sub(part.digest.count);
        let span = self.span_of(&ends, &origin, skipped).await?;
        let look = Look {
            block_records: BLOCK_RECORDS,
            span,
            witnessed: wanted.map(|_| signed),
        };
        let (sink, seen) = self.sink_records(&ends, look).await?;
        progress.send_modify(|progress| progress.done += position.digest.count);
        let whole = |blocks: &mut dyn Iterator<Item = &Digest>| {
            blocks.fold(Digest::EMPTY, |sum, next| sum.then(next))
        };
        let origin_whole = whole(&mut origin.iter().map(|block| &block.digest));
        let sink_whole = whole(&mut sink.iter());
        proof.origin = Some(Tally::from(&origin_whole));
        proof.sink = Some(Tally::from(&sink_whole));
        if origin_whole != sink_whole {
            let findings = self.tell_apart(&ends, &origin, sink, span).await?;
            enter(proof, &findings);
            return Ok(None);
        }
        let (Some(receipting), Some(wanted), Some(seen)) = (asked.receipting, wanted, seen) else {
            return Ok(None);
        };
        let made = receipting.sign(&ends, interval, wanted, statement, &seen)?;
        proof.receipt = Some(made.link());
        Ok(Some(made))
    }

    /// Both ends differ: record by record where they do, a window at a time, and by blocks in between.
    async fn tell_apart(
        &self,
        ends: &Ends<'_>,
        origin: &[Block],
        sink: Vec<Digest>,
        span: Span,
    ) -> Result<Findings, Fault> {
        let count = |digests: &[Digest]| digests.iter().map(|digest| digest.count).sum::<u64>();
        let mut differences = Differences::default();
        let (mut block, mut rest, mut there) = (0, span, sink);
        for _ in 0..WINDOWS_MAX {
            let same = origin[block..]
                .iter()
                .zip(&there)
                .take_while(|(block, digest)| block.digest == **digest)
                .count();
            block += same;
            rest = rest.without(count(&there[..same]));
            let there_left = count(&there[same..]);
            if block == origin.len() && there_left == 0 {
                return self.settled(ends, origin, differences).await;
            }
            let (end, last) = match origin.get(block + WINDOW_BLOCKS - 1) {
                Some(end) if block + WINDOW_BLOCKS < origin.len() => (end.to, false),
                _ => (ends.position.at, true),
            };
            let from = block
                .checked_sub(1)
                .map_or(ends.position.start, |before| origin[before].to);
            let here = self.origin_records(ends, Interval::new(from, end)).await?;
            let here_left: u64 = origin[block..].iter().map(|block| block.digest.count).sum();
            let surplus = there_left.saturating_sub(here_left);
            if surplus > DIFFERENCES_MAX as u64 || (last && there_left > WINDOW_RECORDS_MAX) {
                return Err(too_wide(ends.stream));
            }
            let window = Span {
                count: rest.count.min(here.len() as u64 + surplus + WINDOW_SLACK),
                ..rest
            };
            let (records, _) = self.sink_records(ends, Look::at(1, window)).await?;
            let records: Vec<u128> = records.iter().map(|digest| digest.order).collect();
            let balance = there_left.cast_signed() - here_left.cast_signed();
            let taken = differences.compare(&here, &records, last, balance);
            if differences.are_too_many() {
                return Err(too_wide(ends.stream));
            }
            if last {
                return self.settled(ends, origin, differences).await;
            }
            block += WINDOW_BLOCKS;
            rest = rest.without(taken as u64);
            (there, _) = self.sink_records(ends, Look::at(BLOCK_RECORDS, rest)).await?;
        }
        Err(too_wide(ends.stream))
    }

    /// Whether the sink holds too much of what the origin has elsewhere, or strangers, is found out by looking through
    /// the whole origin, a window at a time.
    async fn settled(
        &self,
        ends: &Ends<'_>,
        origin: &[Block],
        mut differences: Differences,
    ) -> Result<Findings, Fault> {
        if differences.settle() {
            let suspects = differences.suspects();
            let mut from = ends.position.start;
            for window in origin.chunks(WINDOW_BLOCKS) {
                let Some(end) = window.last() else { break };
                for (at, content) in self.origin_records(ends, Interval::new(from, end.to)).await? {
                    differences.origin_has(&suspects, at, content);
                }
                from = end.to;
            }
        }
        Ok(differences.findings())
    }

    /// The content of each of the origin's records in `interval`, by its sequence.
    async fn origin_records(
        &self,
        ends: &Ends<'_>,
        interval: Interval,
    ) -> Result<Vec<(Sequence, u128)>, Fault> {
        let (blocks, _) = self
            .origin_blocks(ends.connector, ends.route, ends.stream, interval, 1, None)
            .await?;
        let record = |block: &Block| (Sequence(block.to.0.saturating_sub(1)), block.digest.order);
        Ok(blocks.iter().map(record).collect())
    }

    /// Digests of the origin's records, asked over the link, and its statement of them where one is wanted and can be had.
    async fn origin_blocks(
        &self,
        connector: &Connector,
        route: &RouteId,
        stream: &StreamId,
        interval: Interval,
        block_records: u32,
        statement: Option<Wanted>,
    ) -> Result<(Vec<Block>, Option<Signed>), Fault> {
        let site = connector
            .via
            .last()
            .or(connector.from.as_ref())
            .map_or("", String::as_str);
        self.find_reader(site, route, stream, interval.from).await;
        let proofs = &self.exchange.proofs;
        let question = Question {
            route,
            stream,
            interval,
            block_records,
            without_ids: &renumbered_parts(connector),
        };
        let (nonce, mut parts) = proofs.ask(&self.exchange, site, &question, statement);
        let (mut blocks, mut signed) = (Vec::new(), None);
        let outcome = loop {
            let part = match tokio::time::timeout(ANSWER_WAIT, parts.recv()).await {
                Ok(Some(Message::DigestAnswer {
                    blocks, done, fault, ..
                })) => (blocks, done, fault),
                Ok(Some(Message::Statement { signed: said, .. })) => {
                    signed = Some(said);
                    continue;
                }
                _ => {
                    let message =
                        format!("the origin of {stream} does not answer: is the link up? (culvert status)");
                    break Err(Fault {
                        code: "CULVERT-F034".into(),
                        message,
                    });
                }
            };
            blocks.extend(part.0);
            if let Some(fault) = part.2 {
                break Err(shown(&fault));
            }
            if part.1 {
                break Ok(());
            }
            if blocks.len() > BLOCKS_MAX {
                break Err(too_wide(stream));
            }
        };
        proofs.done(nonce);
        outcome.map(|()| (blocks, signed))
    }

    /// Which records of the target are to be those of the stream. A topic of Kafka does not say of a record where it
    /// came from: they begin with the stream's first record, and are as many as its position counts.
    ///
    /// Behind those stand either records that were delivered since the position was read, which it counts soon, or
    /// strangers, which it never counts. Strangers belong to the proof. `skipped` records of the stream stand before those
    /// that are compared, and are not.
    async fn span_of(&self, ends: &Ends<'_>, origin: &[Block], skipped: u64) -> Result<Span, Fault> {
        let Ends {
            connector,
            route,
            stream,
            position,
        } = *ends;
        match &connector.checked {
            Checked::KafkaSink(config) if config.partitioner == kafka::config::Partitioner::Same => {}
            _ => return Ok(Span::ALL),
        }
        let mut beginning = Beginning::default();
        if let Some(block) = origin.first() {
            let first = Interval::new(position.start, block.to);
            let (blocks, _) = self
                .origin_blocks(connector, route, stream, first, 1, None)
                .await?;
            beginning.first = blocks.first().map(|block| block.digest.order);
        }
        if skipped > 0 {
            let near = Sequence(position.start.0.saturating_sub(BEFORE_PLACES));
            let before = Interval::new(near, position.start);
            // It helps to find the place; a source that has forgotten it is no fault of the part.
            let blocks = self
                .origin_blocks(connector, route, stream, before, 1, None)
                .await;
            let blocks = blocks.map(|(blocks, _)| blocks).unwrap_or_default();
            beginning.before = blocks.last().map(|block| block.digest.order);
        }
        let (sink, named, count) = (connector.clone(), stream.clone(), position.digest.count);
        let at = position.clone();
        let (front, all) =
            reading_the_sink(move || Holdings::open(&sink, &named, &at)?.front(beginning, count)).await?;
        let behind = all - front;
        let counted = || {
            let positions = self.delivery_of(connector)?.status().positions;
            Some(positions.get(stream)?.digest.count.saturating_sub(skipped))
        };
        let deadline = Instant::now() + COUNTED_WAIT;
        while behind > count && counted().is_some_and(|counted| counted < behind) {
            if Instant::now() >= deadline {
                return Ok(Span { front, count: behind });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Span { front, count })
    }

    /// Only the gateway that reads a stream answers for it, and while a group is dealt anew there is none: asks for
    /// nothing until somebody answers. What follows may take long, and must not be asked for twice.
    async fn find_reader(&self, site: &str, route: &RouteId, stream: &StreamId, at: Sequence) {
        let proofs = &self.exchange.proofs;
        let started = Instant::now();
        while started.elapsed() < ANSWER_WAIT {
            let nothing = Question {
                route,
                stream,
                interval: Interval::new(at, at),
                block_records: 1,
                without_ids: &[],
            };
            let (nonce, mut parts) = proofs.ask(&self.exchange, site, &nothing, None);
            let answer = tokio::time::timeout(PROBE_WAIT, parts.recv()).await;
            proofs.done(nonce);
            if answer.is_ok() {
                return;
            }
        }
    }

    /// Digests of the records the sink holds of the stream, in blocks, and what was seen of the first of them where that is
    /// wanted.
    async fn sink_records(&self, ends: &Ends<'_>, look: Look) -> Result<(Vec<Digest>, Option<Seen>), Fault> {
        let (sink, stream, position) = (ends.connector.clone(), ends.stream.clone(), ends.position.clone());
        reading_the_sink(move || Holdings::open(&sink, &stream, &position)?.digests(look)).await
    }
}

/// What one sink is asked for.
#[derive(Clone, Copy)]
struct Asked<'a> {
    prove: &'a Prove,
    connector: &'a Connector,
    deadline: Instant,
    receipting: Option<&'a Receipting<'a>>,
}

/// Whose two ends are compared, and how far.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) connector: &'a Connector,
    pub(super) route: &'a RouteId,
    pub(super) stream: &'a StreamId,
    pub(super) position: &'a Position,
}

fn too_wide(stream: &StreamId) -> Fault {
    Fault {
        code: "CULVERT-F035".into(),
        message: format!("the ends of {stream} differ over more than {DIFFERENCES_MAX} records"),
    }
}

fn enter(proof: &mut StreamProof, findings: &Findings) {
    proof.missing = findings.missing;
    proof.duplicated = findings.duplicated;
    proof.out_of_order = Some(findings.out_of_order);
    let word = |what| match what {
        prove::Difference::Missing => "missing",
        prove::Difference::Doubled => "doubled",
        prove::Difference::Moved => "moved",
        prove::Difference::Foreign => "foreign",
    };
    let shown = |place: &prove::Place| Difference {
        what: word(place.what).into(),
        sequence: place.at.0,
    };
    proof.differences = findings.places.iter().map(shown).collect();
    if findings.foreign > 0 {
        let foreign = |place: &&prove::Place| place.what == prove::Difference::Foreign;
        let first = findings
            .places
            .iter()
            .find(foreign)
            .map(|place| format!(", the first behind {}", place.at));
        let message = format!(
            "{} records of the sink never were at the origin{}",
            findings.foreign,
            first.unwrap_or_default()
        );
        proof.fault = Some(Fault {
            code: "CULVERT-F033".into(),
            message,
        });
    }
}

/// Nothing is known of a sink before all of its shards have read their positions.
fn unknown(delivery: &delivery::Delivery) -> StreamProof {
    let trouble = delivery.status().trouble.into_values().next();
    let trouble = trouble.map(|trouble| match trouble {
        Trouble::Retrying(reason) => reason,
        Trouble::Paused(fault) | Trouble::Waiting(fault) | Trouble::Failed(fault) => fault.reason,
    });
    let why = trouble.map(|reason| format!(": {reason}")).unwrap_or_default();
    StreamProof {
        fault: Some(Fault {
            code: "CULVERT-F036".into(),
            message: format!("read the sink: its positions are not known yet{why}"),
        }),
        ..nothing(&delivery.route)
    }
}

/// A proof of nothing: the ends do not hold the same records, by the operator's wish.
fn not_comparable(delivery: &delivery::Delivery, why: &str) -> StreamProof {
    StreamProof {
        fault: Some(Fault {
            code: "CULVERT-F037".into(),
            message: format!("{why}: the ends cannot be compared"),
        }),
        ..nothing(&delivery.route)
    }
}

/// A proof of all streams of a route, with nothing compared.
fn nothing(route: &RouteId) -> StreamProof {
    StreamProof {
        route: route.to_string(),
        stream: "*".into(),
        lineage: String::new(),
        start: 0,
        at: 0,
        origin: None,
        sink: None,
        missing: 0,
        duplicated: 0,
        out_of_order: None,
        differences: Vec::new(),
        held: Vec::new(),
        fault: None,
        receipt: None,
    }
}

fn tally_without_order(digest: &Digest) -> Tally {
    Tally {
        order: String::new(),
        ..Tally::from(digest)
    }
}
