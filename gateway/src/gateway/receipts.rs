//! Makes receipts: the statement of this gateway, as the origin for others and as the sink for its own routes, and what
//! both ends have signed, put into the chain.

use super::proof::Ends;
use super::{Gateway, renumbered_parts};
use crate::config::connector::Checked;
use crate::config::{Config, Connector};
use crate::flow::prove::Wanted;
use crate::flow::seen::{Seen, Testimony, Witness};
use crate::link;
use crate::observe::control::Prove;
use crate::observe::report::{Fault, ProofReport, ReceiptLink, StreamProof, Verdict};
use crate::receipt::{self, Chain, Hash, Receipt, Refusal, Role, Statement, Unkept, Verified, without_code};
use culvert_proto::message::Signed;
use culvert_proto::schema::Part;
use culvert_proto::stream::RouteId;
use culvert_proto::{Interval, Position, Sequence, StreamId};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::MutexGuard;

// ----- what is compared ------------------------------------------------------------------------------------------

/// Which part of a stream is compared, and which part of that is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The beginning of both.
    pub(super) from: Sequence,
    /// The end of what is signed.
    pub(super) to: Sequence,
    /// The end of what is compared. A topic of Kafka does not say of a record where it came from: there a piece of a stream
    /// is found from its end, so that everything behind it is compared too.
    pub(super) compared_to: Sequence,
    /// Whether it is all that was delivered.
    pub(super) is_whole: bool,
}

impl Window {
    /// What was asked for of a stream whose sink stands at `position`.
    pub(super) fn of(
        prove: &Prove,
        connector: &Connector,
        stream: &StreamId,
        position: &Position,
    ) -> Result<Window, Fault> {
        let keeps_places = matches!(connector.checked, Checked::SqliteSink(_));
        Window::within(prove, keeps_places, stream, position)
    }

    fn within(
        prove: &Prove,
        keeps_places: bool,
        stream: &StreamId,
        position: &Position,
    ) -> Result<Window, Fault> {
        let (start, at) = (position.start, position.at);
        let from = prove.from.map_or(start, Sequence);
        let to = prove.to.map_or(at, Sequence);
        if prove.from.or(prove.to).is_some() && (from < start || from >= to || to > at) {
            return Err(Fault {
                code: "CULVERT-F069".into(),
                message: format!(
                    "[{from}, {to}) of {stream} is no part of what was delivered, which is [{start}, {at})"
                ),
            });
        }
        Ok(Window {
            from,
            to,
            compared_to: if keeps_places { to } else { at },
            is_whole: (from, to) == (start, at),
        })
    }
}

// ----- signing ---------------------------------------------------------------------------------------------------

/// Signs in the name of this gateway.
#[derive(Clone)]
pub(super) struct Signer {
    site: String,
    links: link::Handle,
}

impl Signer {
    pub(super) fn new(config: &Config, links: link::Handle) -> Signer {
        Signer {
            site: config.site.clone(),
            links,
        }
    }

    /// Signs, for the sinks of others, what this gateway has read of its own sources.
    pub(super) fn witness(self) -> Arc<Witness> {
        Arc::new(move |testimony| {
            let statement = self.statement(Role::Origin, testimony);
            self.sign(&Statement {
                duplicates: testimony.seen.repeated,
                ..statement
            })
        })
    }

    fn statement(&self, role: Role, testimony: &Testimony<'_>) -> Statement {
        let identity = self.links.identity();
        let seen = testimony.seen;
        let part = |part: &Part| match part {
            Part::Key => "key".to_owned(),
            Part::Value => "value".to_owned(),
        };
        Statement {
            gateway: identity.trust_domain().uri(identity.gateway()),
            site: self.site.clone(),
            route: testimony.route.to_string(),
            stream: testimony.stream.to_string(),
            lineage: testimony.stream.lineage_hex(),
            from: testimony.interval.from.0,
            to: testimony.interval.to.0,
            first: seen.first.map(|first| first.0),
            last: seen.last.map(|last| last.0),
            count: seen.count,
            content: Hash(seen.content()),
            without_ids: seen.without_ids.iter().map(part).collect(),
            before: testimony.before.map(Hash),
            ..Statement::new(role, OffsetDateTime::now_utc().unix_timestamp())
        }
    }

    fn sign(&self, statement: &Statement) -> Result<Signed, String> {
        let signed = self.links.identity().sign(statement.bytes());
        signed.map_err(|error| error.to_string())
    }
}

// ----- the chain -------------------------------------------------------------------------------------------------

/// Receipts in the making; one at a time, for each names the one before.
pub(super) struct Receipting<'a> {
    signer: Signer,
    chain: Chain,
    _alone: MutexGuard<'a, ()>,
}

/// A receipt that holds, and is in no chain yet.
pub(super) struct Made {
    receipt: Receipt,
    verified: Verified,
}

impl Made {
    pub(super) fn link(&self) -> ReceiptLink {
        let sink = &self.verified.sink;
        ReceiptLink {
            hash: self.verified.hash.to_string(),
            before: sink.before.map(|hash| hash.to_string()),
            from: sink.from,
            to: sink.to,
            count: sink.count,
        }
    }
}

impl Gateway {
    /// Waits until nobody else makes receipts.
    pub(super) async fn receipting(&self) -> Result<Receipting<'_>, Fault> {
        let Some(links) = &self.links else {
            return Err(Fault {
                code: "CULVERT-F067".into(),
                message: "this gateway has no certificate, and so no key to sign with".into(),
            });
        };
        Ok(Receipting {
            signer: Signer::new(&self.config, links.clone()),
            chain: Chain::new(self.config.state.join("receipts")),
            _alone: self.receipting.lock().await,
        })
    }
}

impl Receipting<'_> {
    /// What the next receipt of a stream of a route must name.
    pub(super) fn wanted(&self, route: &RouteId, stream: &StreamId) -> Result<Wanted, Fault> {
        let newest = self
            .chain
            .newest(&route.to_string(), &stream.to_string(), &stream.lineage_hex())
            .map_err(|error| unkept(&error))?;
        Ok(Wanted {
            before: newest.map(|newest| newest.hash.0),
        })
    }

    /// Signs for the sink what was compared and found equal, and joins it with what the origin has signed.
    pub(super) fn sign(
        &self,
        ends: &Ends<'_>,
        interval: Interval,
        wanted: Wanted,
        origin: Option<Signed>,
        seen: &Seen,
    ) -> Result<Made, Fault> {
        let Some(origin) = origin else {
            return Err(Fault {
                code: "CULVERT-F066".into(),
                message: format!(
                    "the origin of {} has answered and not signed: it, or a relay between, runs a version that cannot",
                    ends.stream
                ),
            });
        };
        let said = Statement::read(&origin.statement).map_err(|refusal| refused(&refusal))?;
        let statement = self.signer.statement(
            Role::Sink,
            &Testimony {
                route: ends.route,
                stream: ends.stream,
                interval,
                before: wanted.before,
                seen,
            },
        );
        let keeps_places = matches!(ends.connector.checked, Checked::SqliteSink(_));
        let (first, last) = match keeps_places {
            true => (statement.first, statement.last),
            // Equal one by one: the target's records are those.
            false => (said.first, said.last),
        };
        debug_assert_eq!(seen.without_ids, renumbered_parts(ends.connector));
        let statement = Statement {
            first,
            last,
            ..statement
        };
        let sink = self.signer.sign(&statement).map_err(|message| Fault {
            code: "CULVERT-F067".into(),
            message,
        })?;
        let receipt = Receipt { origin, sink };
        // As anybody else will: what would be refused elsewhere is not given away.
        let verified = receipt::check(&receipt, None).map_err(|refusal| refused(&refusal))?;
        Ok(Made { receipt, verified })
    }

    /// The document of all receipts, each now the newest of its chain; or why there is none. Either all streams have one, or
    /// none has.
    pub(super) async fn finish(self, report: &ProofReport, made: Vec<Made>) -> Result<String, Fault> {
        let without = |why: String| Fault {
            code: "CULVERT-F067".into(),
            message: why,
        };
        if let Some(stream) = report.streams.iter().find(|stream| lacks(stream)) {
            return Err(without(format!(
                "stream {} of route {} was not found whole, so no receipt was made",
                stream.stream, stream.route
            )));
        }
        if made.is_empty() {
            return Err(without(
                "nothing was delivered yet, so no receipt was made".into(),
            ));
        }
        let chain = self.chain.clone();
        // Disks are waited for elsewhere, so that whoever asked goes on to hear of it.
        let kept = tokio::task::spawn_blocking(move || keep(&chain, &made));
        kept.await.map_err(|error| without(error.to_string()))?
    }
}

fn keep(chain: &Chain, made: &[Made]) -> Result<String, Fault> {
    let receipts: Vec<Receipt> = made.iter().map(|made| made.receipt.clone()).collect();
    let document = receipt::write(&receipts).map_err(|refusal| refused(&refusal))?;
    for made in made {
        let kept = chain.put(&made.receipt, &made.verified);
        kept.map_err(|error| unkept(&error))?;
    }
    Ok(document)
}

/// Whether a stream of which something was delivered has no receipt.
fn lacks(stream: &StreamProof) -> bool {
    let is_whole = matches!(stream.verdict(), Verdict::Complete | Verdict::OnTheWay);
    !is_whole || (stream.receipt.is_none() && stream.at > stream.start)
}

fn refused(refusal: &Refusal) -> Fault {
    Fault {
        code: refusal.code().into(),
        message: without_code(&refusal.to_string()).into(),
    }
}

fn unkept(error: &Unkept) -> Fault {
    Fault {
        code: "CULVERT-F068".into(),
        message: without_code(&error.to_string()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::{Guard, Lineage};

    fn check(from: Option<u64>, to: Option<u64>, keeps_places: bool) -> Option<(u64, u64, u64, bool)> {
        let prove = Prove {
            from,
            to,
            ..Prove::default()
        };
        let stream = StreamId {
            site: "site1".into(),
            topic: "orders".into(),
            partition: 0,
            lineage: Lineage::Run {
                outbox: [0; 16],
                run: [0; 16],
            },
        };
        let mut position = Position::beginning(0, Sequence(10), Guard::NONE);
        position.at = Sequence(50);
        match Window::within(&prove, keeps_places, &stream, &position) {
            Ok(window) => Some((window.from.0, window.to.0, window.compared_to.0, window.is_whole)),
            Err(fault) => {
                assert!(fault.message.contains("which is [10, 50)"), "{}", fault.message);
                None
            }
        }
    }

    #[test]
    fn a_part_of_what_was_delivered_can_be_asked_for() {
        assert_eq!(check(None, None, false), Some((10, 50, 50, true)));
        assert_eq!(check(Some(20), None, false), Some((20, 50, 50, false)));
        assert_eq!(check(None, Some(20), false), Some((10, 20, 50, false)));
        assert_eq!(check(Some(20), Some(30), true), Some((20, 30, 30, false)));
        assert_eq!(check(Some(10), Some(50), true), Some((10, 50, 50, true)));
        for (from, to) in [(9, 20), (20, 51), (20, 20), (30, 20)] {
            assert_eq!(check(Some(from), Some(to), false), None, "[{from}, {to})");
        }
    }
}
