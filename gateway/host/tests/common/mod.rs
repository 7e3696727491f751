//! What several of these tests need: plugins that `cargo xtask plugins` has made, and records to show them.

#![allow(dead_code, reason = "each test uses its own part")]

use culvert_host::{Engine, Options, Plugin};
use culvert_proto::Sequence;
use culvert_proto::columns::Columns;
use culvert_proto::record::{Headers, RecordRef};

/// A plugin's file; those that only tests load lie in `tests/`.
pub(crate) fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/../../target/plugins/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}; run `cargo xtask plugins`"))
}

/// The same, loaded by an engine of its own.
pub(crate) fn plugin(name: &str) -> Plugin {
    let engine = Engine::new(Options::default()).expect("an engine starts");
    engine.load(&file(name)).expect("it loads")
}

/// Records with these values, from sequence 100 on.
pub(crate) fn batch(values: &[&str]) -> Columns {
    let mut batch = Columns::begin(Sequence(100));
    for (at, value) in (100..).zip(values) {
        let record = RecordRef {
            timestamp: 5,
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: Headers::NONE,
        };
        batch.push(Sequence(at), &record).expect("a small record");
    }
    batch
}
