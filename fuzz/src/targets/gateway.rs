//! What the gateway itself reads: batches of brokers, files of plugins, its own disk, its configuration.

use super::wire::read_batches;
use culvert::codec::compression::Codecs;
use culvert::codec::registry::read_answers;
use culvert::config::{Config, Environment};
use culvert::receipt::{self, Statement};
use culvert::{connector, outbox, plugin};
use culvert_proto::schema::Schema;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Record batches, compressed or not.
pub(super) fn compression(bytes: &[u8]) {
    read_batches(bytes, &Codecs::default());
}

/// A plugin's file, looked at without running it.
pub(super) fn examine(bytes: &[u8]) {
    if let Ok(examined) = culvert_host::examine(bytes) {
        assert!(!examined.roles.is_empty(), "a plugin has a role");
        assert_eq!(examined.size, bytes.len());
    }
}

/// A component that exports what a transform does, without anything in it.
const TRANSFORM: &str = r#"(component
    (instance $nothing)
    (export "culvert:plugin/meta@0.1.0" (instance $nothing))
    (export "culvert:plugin/transform@0.1.0" (instance $nothing)))"#;

/// The description in such a component. What was read is written and is the same.
pub(super) fn description(json: &[u8]) {
    static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| wat::parse_str(TRANSFORM).expect("a component"));
    let section = b"culvert:describe";
    let mut body = vec![u8::try_from(section.len()).expect("a short name")];
    body.extend_from_slice(section);
    body.extend_from_slice(json);
    let mut component = COMPONENT.clone();
    component.push(0);
    let size = u32::try_from(body.len()).expect("an input is short");
    component.extend((0..5).map(|place| {
        let low = u8::try_from((size >> (7 * place)) & 0x7f).expect("seven bits");
        if place < 4 { low | 0x80 } else { low }
    }));
    component.extend_from_slice(&body);
    if let Ok(examined) = culvert_host::examine(&component) {
        let description = examined.description.expect("there is one in the file");
        for field in &description.fields {
            let _ = field.is_required();
            for value in ["", "1", "true", "x".repeat(100).as_str()] {
                let _ = plugin::check(field, value);
            }
        }
    }
}

/// A segment of an outbox's log.
pub(super) fn segment(bytes: &[u8]) {
    outbox::read_segment(bytes);
}

/// A record of a positions topic; the first byte says how long the key is.
pub(super) fn positions(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let (key, value) = bytes.split_at(usize::from(*size).min(bytes.len()));
    connector::kafka::read_record(key, value);
}

/// A recorded failure, without the line that sums it.
pub(super) fn failure(bytes: &[u8]) {
    plugin::read_failure(bytes);
}

/// A document of receipts, and a statement. What was read is written and is the same.
pub(super) fn receipt(bytes: &[u8]) {
    if let Ok(receipts) = receipt::read(bytes) {
        let again = receipt::write(&receipts).expect("what was read can be written");
        assert_eq!(again.as_bytes(), bytes, "a document has one spelling");
        let _ = receipt::verify(bytes, None);
    }
    if let Ok(statement) = Statement::read(bytes) {
        assert_eq!(statement.bytes(), bytes, "a statement has one spelling");
        let _ = statement.seconds();
    }
}

/// What a registry answers to whoever asks for a schema and then for its number: an answer a line, a status and what it says.
pub(super) fn registry(bytes: &[u8]) {
    let answers = bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let (status, body) = line.split_at_checked(3)?;
        let status = str::from_utf8(status).ok()?.parse().ok()?;
        Some((status, body.trim_ascii()))
    });
    let answers: Vec<(u16, &[u8])> = answers.collect();
    if let Ok(schema) = read_answers(&answers) {
        let spelled = schema.encode().expect("what was found can be carried");
        assert_eq!(Schema::decode(&spelled), Ok(schema));
    }
}

/// The file of the configuration.
pub(super) fn config(text: &[u8]) {
    read(&SITE.join("culvert.toml"), text, &SITE.join("culvert.toml"));
}

/// A connector's definition beside a configuration that is right.
pub(super) fn connector(text: &[u8]) {
    let site = &*SITE_OF_CONNECTORS;
    read(&site.join("connectors/x.json"), text, &site.join("culvert.toml"));
}

fn read(file: &Path, text: &[u8], configuration: &Path) {
    std::fs::write(file, text).expect("a folder of our own");
    if let Err(mistakes) = Config::load(configuration, &Environment::default()) {
        assert!(!mistakes.to_string().is_empty(), "a refusal has a reason");
    }
}

/// Folders of this process, one for each target, so that tests may run beside each other.
static SITE: LazyLock<PathBuf> = LazyLock::new(|| site("config"));
static SITE_OF_CONNECTORS: LazyLock<PathBuf> = LazyLock::new(|| {
    let site = site("connector");
    std::fs::create_dir_all(site.join("connectors")).expect("a folder of our own");
    let valid = "gateway = \"g\"\nsite = \"s\"\nstate = \"state\"\n";
    std::fs::write(site.join("culvert.toml"), valid).expect("a folder of our own");
    site
});

fn site(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("culvert-fuzz-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}
