//! The plugin is `plugins/leaky-sink`, made by `cargo xtask plugins`.

use super::*;
use crate::outbox::Options;
use culvert_host::{Engine, FolderGrant, Grants, Limits, Line, LogSink, Plugin};
use culvert_proto::record::Headers;
use culvert_proto::{Guard, Lineage};
use std::path::Path;
use std::sync::LazyLock;

static LEAKY: LazyLock<Plugin> = LazyLock::new(|| {
    let path = format!(
        "{}/../target/plugins/tests/leaky-sink.wasm",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes =
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}; run `cargo xtask plugins`"));
    let engine = Engine::new(culvert_host::Options::default()).unwrap();
    engine.load(&bytes).unwrap()
});

struct Silent;

impl LogSink for Silent {
    fn line(&self, _line: &Line<'_>) {}
}

/// A folder with a target, and the outbox of its gateway.
struct Site {
    folder: tempfile::TempDir,
    outbox: Outbox,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&Options::new(folder.path().join("outbox"))).unwrap();
        Site { folder, outbox }
    }

    fn sink(&self, route: &str, fault: &str, dead_letters: bool) -> PluginSink {
        let path = self.folder.path().join("out.txt").display().to_string();
        let settings = [("file", path.as_str()), ("fault", fault)]
            .map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        let grant = |word: &str| {
            FolderGrant::parse(
                &format!("{word} {}", self.folder.path().display()),
                Path::new("/"),
            )
            .unwrap()
        };
        let grants = Grants {
            files: vec![grant("read"), grant("write")],
            ..Grants::default()
        };
        let around = culvert_host::Surroundings::new(Arc::new(Silent)).granting(Arc::new(grants));
        let sink = culvert_host::Sink::new(&LEAKY, &settings, Limits::default(), around).unwrap();
        let end = RouteEnd {
            route: RouteId::new("site2", route),
            connector: route.into(),
            dead_letters,
            outbox: self.outbox.clone(),
        };
        PluginSink::new(sink, end)
    }

    /// Places in the file, dead letters with their code.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("out.txt")).unwrap_or_default();
        let words = |line: &str| {
            let words: Vec<&str> = line.split('\t').collect();
            match words.as_slice() {
                [code, _, place, _] => format!("{code} {place}"),
                [_, place, _] => (*place).to_owned(),
                _ => line.to_owned(),
            }
        };
        text.lines().map(words).collect()
    }
}

fn stream() -> StreamId {
    StreamId {
        site: "site1".into(),
        topic: "orders".into(),
        partition: 3,
        lineage: Lineage::Replayable {
            cluster: "c".into(),
            topic: [7; 16],
        },
    }
}

fn position(at: u64) -> Position {
    Position {
        at: Sequence(at),
        guard: Guard { epoch: 4, crc: 9 },
        ..Position::beginning(0, Sequence(0), Guard::NONE)
    }
}

fn write(sink: &mut PluginSink, from: u64, values: &[&str]) -> Result<(), SinkFault> {
    let mut records = (from..).zip(values).map(|(at, value)| {
        let record = RecordRef {
            timestamp: 5,
            key: None,
            value: Some(value.as_bytes()),
            headers: Headers::NONE,
        };
        (Sequence(at), record)
    });
    sink.write(&stream(), &mut records)?;
    sink.commit(&[(stream(), position(from + values.len() as u64))])
}

#[test]
fn the_position_is_found_in_the_target_by_the_next_writer() {
    let site = Site::new();
    let mut first = site.sink("out", "none", false);
    assert_eq!(first.take().unwrap(), []);
    first.commit(&[(stream(), position(0))]).unwrap();
    write(&mut first, 0, &["a", "b"]).unwrap();
    let mut second = site.sink("out", "none", false);
    assert_eq!(second.take().unwrap(), [(stream(), position(2))]);
    let fault = write(&mut first, 2, &["c"]).unwrap_err();
    assert!(matches!(fault, SinkFault::Fenced(_)), "{fault}");
    write(&mut second, 2, &["c"]).unwrap();
    second.commit(&[]).unwrap();
    assert_eq!(site.lines(), ["0", "1", "2"]);
}

#[test]
fn a_refused_record_is_a_dead_letter_or_stops_its_stream() {
    let site = Site::new();
    let mut strict = site.sink("out", "none", false);
    strict.take().unwrap();
    let fault = write(&mut strict, 0, &["a", "refuse", "b"]).unwrap_err();
    assert!(
        matches!(&fault, SinkFault::Unwritable { sequence: Sequence(1), reason, .. } if reason.contains("asked-for")),
        "{fault}"
    );
    assert!(site.lines().is_empty());
    let mut tolerant = site.sink("out", "none", true);
    tolerant.take().unwrap();
    write(&mut tolerant, 0, &["a", "refuse", "b"]).unwrap();
    assert_eq!(site.lines(), ["0", "2", "!asked-for 1"]);
    assert_eq!(tolerant.take().unwrap(), [(stream(), position(3))]);
}

#[test]
fn a_plugin_that_does_not_hold_what_it_confirmed_is_stopped() {
    let site = Site::new();
    let mut sink = site.sink("out", "forgets-token", false);
    sink.take().unwrap();
    write(&mut sink, 0, &["a"]).unwrap();
    let fault = sink.take().unwrap_err();
    assert!(
        matches!(
            fault,
            SinkFault::Stop {
                code: "CULVERT-W047",
                ..
            }
        ),
        "{fault}"
    );
}

#[test]
fn a_target_of_another_connector_is_left_alone() {
    let site = Site::new();
    let mut sink = site.sink("out", "none", false);
    sink.take().unwrap();
    write(&mut sink, 0, &["a"]).unwrap();
    let fault = site.sink("other", "none", false).take().unwrap_err();
    assert!(
        matches!(&fault, SinkFault::Stop { code: "CULVERT-W046", reason } if reason.contains("site2/out")),
        "{fault}"
    );
}

#[test]
fn a_call_that_traps_is_told_as_poison() {
    let site = Site::new();
    let mut sink = site.sink("out", "none", false);
    sink.take().unwrap();
    let fault = write(&mut sink, 0, &["panic"]).unwrap_err();
    assert!(
        matches!(
            fault,
            SinkFault::Poison {
                code: "plugin-trap",
                ..
            }
        ),
        "{fault}"
    );
}

#[test]
fn a_note_that_was_changed_anywhere_is_refused() {
    let route = RouteId::new("site2", "out");
    let id = notes::stream_id(&stream());
    let token = notes::token(&id, Some(&position(3)), &stream(), &position(5), &route).unwrap();
    assert_eq!((token.from, token.to), (3, 5));
    assert_eq!(notes::read(&token, &route).unwrap(), (stream(), position(5)));
    for at in 0..token.position.len() {
        let mut changed = token.clone();
        changed.position[at] ^= 1;
        assert!(notes::read(&changed, &route).is_err(), "byte {at}");
        changed.position.truncate(at);
        assert!(notes::read(&changed, &route).is_err(), "cut at {at}");
    }
    let moved = Token { to: 6, ..token };
    assert!(matches!(
        notes::read(&moved, &route),
        Err(notes::Error::Mixed { .. })
    ));
}

#[test]
fn positions_of_a_plugin_that_keeps_none_outlive_the_gateway() {
    let site = Site::new();
    let (one, other) = (RouteId::new("site2", "out"), RouteId::new("site2", "out2"));
    Ledger::new(&site.outbox, &one)
        .keep(&[(stream(), position(5))])
        .unwrap();
    assert_eq!(
        Ledger::new(&site.outbox, &one).positions().unwrap(),
        [(stream(), position(5))]
    );
    assert_eq!(Ledger::new(&site.outbox, &other).positions().unwrap(), []);
}
