//! Writes the seeds of binary targets into `corpus/`, after a format has changed. Those that are text are kept by hand.

use bytes::Bytes;
use culvert_proto::batch::{BatchBuilder, Codec, NoCompression};
use culvert_proto::frame::FrameBuilder;
use culvert_proto::message::{LaneHeader, Message, Priority, Signed};
use culvert_proto::record::{HeadersBuf, RecordRef};
use culvert_proto::stream::RouteId;
use culvert_proto::{Guard, Interval, Lineage, Position, Sequence, StreamId};
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    for (name, stream) in streams() {
        put("stream", name, &stream.encode().map_err(io::Error::other)?)?;
        put("frame", name, &frame(&stream)?)?;
        for (kind, message) in messages(&stream) {
            let mut bytes = Vec::new();
            message.encode(&mut bytes).map_err(io::Error::other)?;
            put("message", &format!("{kind}-{name}"), &bytes)?;
        }
        let mut bytes = Vec::new();
        let (route, stream) = (route(), stream);
        LaneHeader { route, stream }
            .encode(&mut bytes)
            .map_err(io::Error::other)?;
        put("message", &format!("lane-{name}"), &bytes)?;
    }
    put("batch", "three", &batch()?)?;
    put(
        "columns",
        "each-verdict",
        &[5, 0, 1, 2, 3, 4, 2, 0, 3, 3, b'a', b'b', b'c', 1, 1, 1, 1, b'x'],
    )?;
    put("columns", "kept", &[3, 0, 0, 0, 0, 0, 0, 0])
}

fn put(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder: PathBuf = culvert_fuzz::home().join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}

fn streams() -> [(&'static str, StreamId); 2] {
    let stream = |lineage| StreamId {
        site: "plant".into(),
        topic: "orders".into(),
        partition: 3,
        lineage,
    };
    let (cluster, topic) = ("cluster".into(), [7; 16]);
    [
        ("replayable", stream(Lineage::Replayable { cluster, topic })),
        (
            "run",
            stream(Lineage::Run {
                outbox: [8; 16],
                run: [9; 16],
            }),
        ),
    ]
}

fn route() -> RouteId {
    RouteId::new("office", "mirror")
}

fn records() -> [(u64, HeadersBuf); 3] {
    let mut headers = HeadersBuf::new();
    headers.push("trace", Some(b"1"));
    headers.push("none", None);
    [(100, headers), (101, HeadersBuf::new()), (104, HeadersBuf::new())]
}

fn record<'a>(at: u64, headers: &'a HeadersBuf) -> RecordRef<'a> {
    RecordRef {
        timestamp: 1_700_000_000_000,
        key: (at.is_multiple_of(2)).then_some(&b"key"[..]),
        value: (at != 101).then_some(&b"{\"id\":4711}"[..]),
        headers: headers.as_headers(),
    }
}

fn frame(stream: &StreamId) -> io::Result<Bytes> {
    let mut builder = FrameBuilder::new(stream, Sequence(100), Guard::NONE).map_err(io::Error::other)?;
    for (at, headers) in &records() {
        let pushed = builder.push(Sequence(*at), 1, &record(*at, headers));
        let _ = pushed.map_err(io::Error::other)?;
    }
    let frame = builder
        .finish(Codec::None, &NoCompression)
        .map_err(io::Error::other)?;
    frame
        .map(|frame| frame.bytes().clone())
        .ok_or_else(|| io::Error::other("no frame"))
}

fn batch() -> io::Result<Vec<u8>> {
    let mut builder = BatchBuilder::new(0, Sequence(100));
    for (at, headers) in &records() {
        builder
            .push(Sequence(*at), &record(*at, headers))
            .map_err(io::Error::other)?;
    }
    builder
        .finish(Sequence(105), 1, 0, Codec::None, &NoCompression)
        .map_err(io::Error::other)
}

fn messages(stream: &StreamId) -> Vec<(&'static str, Message)> {
    let (route, stream) = (route(), stream.clone());
    let position = Position::beginning(0, Sequence(100), Guard::NONE);
    let held = Interval {
        from: Sequence(100),
        to: Sequence(200),
    };
    vec![
        (
            "offer",
            Message::Offer {
                route: route.clone(),
                stream: stream.clone(),
                held,
                applied: Some(Sequence(120)),
            },
        ),
        (
            "want",
            Message::Want {
                route: route.clone(),
                stream: stream.clone(),
                at: Sequence(150),
            },
        ),
        (
            "priority",
            Message::PriorityIs {
                route: route.clone(),
                stream: stream.clone(),
                priority: Priority::High,
            },
        ),
        (
            "position",
            Message::PositionIs {
                route: route.clone(),
                stream: stream.clone(),
                writer: 5,
                position: position.clone(),
            },
        ),
        (
            "ask",
            Message::Ask {
                nonce: 1,
                route: route.clone(),
                streams: vec![stream.clone()],
            },
        ),
        (
            "answer",
            Message::Answer {
                nonce: 1,
                route: route.clone(),
                writer: 5,
                positions: vec![(stream.clone(), Some(position))],
            },
        ),
        (
            "statement-ask",
            Message::StatementAsk {
                nonce: 1,
                route: route.clone(),
                stream,
                before: Some([6; 32]),
            },
        ),
        (
            "statement",
            Message::Statement {
                nonce: 1,
                route,
                signed: Signed {
                    statement: b"{\"format\":\"culvert-statement/1\"}".to_vec(),
                    scheme: 0x0403,
                    signature: vec![7; 70],
                    certificates: vec![vec![0x30, 0x82, 1, 2], vec![0x30]],
                },
            },
        ),
    ]
}
