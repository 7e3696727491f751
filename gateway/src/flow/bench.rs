//! One gateway with real tables, outbox and link. The gateway at the other end is played by the test.

use super::exchange::{Exchange, Grants, ReadGrant, Role, Route, Topics};
use super::transit;
use crate::link::Link;
use crate::link::tests::bench::{Bench, Gateway, soon};
use crate::outbox::{EngineKind, Options, Outbox};
use culvert_proto::batch::NoCompression;
use culvert_proto::frame::{Frame, FrameBuilder};
use culvert_proto::message::{Message, Start, TopicFilter};
use culvert_proto::record::{Headers, RecordRef};
use culvert_proto::stream::RouteId;
use culvert_proto::{Guard, Lineage, Sequence, StreamId};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Handle;

/// The site of the gateway under test.
pub(super) const HERE: &str = "south-site";

/// The site that the test plays.
pub(super) const THERE: &str = "north-site";

/// A route that ends here and reads all of [`THERE`].
pub(super) fn sink_route(name: &str) -> Route {
    Route {
        id: RouteId::new(HERE, name),
        origin: THERE.into(),
        topics: Arc::new(Topics::new(TopicFilter::default()).unwrap()),
        start: Start::Earliest,
        incarnation: 0,
        role: Role::Sink {
            upstream: THERE.into(),
        },
        downstream: None,
    }
}

/// The one topic that nobody may read.
pub(super) const NOT_GRANTED: &str = "salaries";

pub(super) struct Stage {
    pub(super) exchange: Arc<Exchange>,
    /// Our end of the link.
    pub(super) link: Link,
    /// The other end.
    pub(super) peer: Link,
    _gateways: (Gateway, Gateway),
    _bench: Bench,
    _directory: TempDir,
}

impl Stage {
    pub(super) async fn new() -> Stage {
        Stage::with_reserve(0).await
    }

    /// A gateway whose disk counts as full: nothing that is written becomes durable.
    pub(super) async fn with_full_disk() -> Stage {
        Stage::with_reserve(u64::MAX / 4).await
    }

    async fn with_reserve(reserve_bytes: u64) -> Stage {
        let bench = Bench::new();
        let (north, south, peer, link) = bench.pair().await;
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            engine: EngineKind::Log,
            reserve_bytes,
            ..Options::new(directory.path().join("outbox"))
        };
        let outbox = Outbox::open(&options).unwrap();
        let read = ReadGrant {
            to: THERE.into(),
            covers: Arc::new(|topic| topic != NOT_GRANTED),
            via: Vec::new(),
        };
        let grants = Grants {
            read: vec![read],
            relay: Vec::new(),
        };
        let exchange = Arc::new(Exchange::new(HERE.into(), outbox, grants, Handle::current()));
        Stage {
            exchange,
            link,
            peer,
            _gateways: (north, south),
            _bench: bench,
            _directory: directory,
        }
    }

    /// Runs our end of the link.
    pub(super) fn serve(&self) {
        tokio::spawn(transit::serve(self.exchange.clone(), self.link.clone()));
    }

    pub(super) async fn say(&self, message: Message) {
        soon("sending", self.peer.send(&message)).await.unwrap();
    }

    /// The next message that `wanted` makes something of.
    pub(super) async fn hear<T>(&self, what: &str, wanted: impl Fn(Message) -> Option<T>) -> T {
        soon(what, async {
            loop {
                if let Some(found) = wanted(self.peer.recv().await.unwrap()) {
                    return found;
                }
            }
        })
        .await
    }

    /// Waits until everything said so far was taken in: a request behind it is refused.
    pub(super) async fn heard(&self) {
        self.say(Message::Register {
            route: RouteId::new("nowhere", "probe"),
            origin: HERE.into(),
            topics: TopicFilter::default(),
            start: Start::Earliest,
            incarnation: 0,
        })
        .await;
        self.hear("the refusal of a stranger", |message| {
            matches!(message, Message::Refused { .. }).then_some(())
        })
        .await;
    }
}

/// Stream `partition` of `site`.
pub(super) fn stream(site: &str, partition: u32) -> StreamId {
    StreamId {
        site: site.into(),
        topic: "orders".into(),
        partition,
        lineage: Lineage::Replayable {
            cluster: "cluster".into(),
            topic: [7; 16],
        },
    }
}

/// One frame of so many small records from `from` on.
pub(super) fn frame(stream: &StreamId, from: u64, records: u64) -> Frame {
    frame_of(stream, from, records, &[7; 10])
}

pub(super) fn frame_of(stream: &StreamId, from: u64, records: u64, value: &[u8]) -> Frame {
    let mut builder = FrameBuilder::new(stream, Sequence(from), Guard::NONE).unwrap();
    let record = RecordRef {
        timestamp: 0,
        key: None,
        value: Some(value),
        headers: Headers::NONE,
    };
    for at in from..from + records {
        let _ = builder.push(Sequence(at), 0, &record).unwrap();
    }
    builder
        .finish(culvert_proto::batch::Codec::None, &NoCompression)
        .unwrap()
        .unwrap()
}
