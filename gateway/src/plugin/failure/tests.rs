use super::*;
use crate::observe::log::Written;
use crate::plugin::plan::PluginPlan;
use crate::plugin::{Grants, Line, LogSink, SecretBytes, replay};
use culvert_host::{Engine, FieldType, Options, Plugin, Stream, Surroundings, Tape, Transform};
use culvert_proto::record::Headers;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

const PASSWORD: &str = "hunter2-of-the-settings";
const SECRET: &str = "correct-horse-battery-staple";

static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let path = format!(
        "{}/../target/plugins/tests/hostile.wasm",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}; run `cargo xtask plugins`"))
});

/// Hostile, as if it had a password among its settings.
static HOSTILE: LazyLock<Plugin> = LazyLock::new(|| {
    let engine = Engine::new(Options::default()).expect("an engine starts");
    let mut plugin = engine.load(&COMPONENT).expect("hostile loads");
    let mut token = plugin.description.fields[0].clone();
    token.name = "token".into();
    token.kind = FieldType::Password;
    plugin.description.fields.push(token);
    plugin
});

struct Silent;

impl LogSink for Silent {
    fn line(&self, _: &Line<'_>) {}
}

/// A stage whose failures are kept in `folder`, as fast as they come.
fn stage(folder: &Path, kept_max: u16) -> Transform {
    stage_pausing(folder, kept_max, Duration::ZERO)
}

fn stage_pausing(folder: &Path, kept_max: u16, pause: Duration) -> Transform {
    let mut grants = Grants::default();
    grants
        .secrets
        .insert("held".into(), SecretBytes::new(SECRET.as_bytes().to_vec()));
    let plan = PluginPlan {
        plugin: "hostile".into(),
        settings: vec![
            ("open".into(), Some("ok".into())),
            ("token".into(), Some(PASSWORD.into())),
        ],
        limits: Limits {
            call_time_max: Duration::from_secs(1),
            memory_bytes_max: 16 << 20,
            ..Limits::default()
        },
        grants: Arc::new(grants),
    };
    let tape = Tape::recording(Arc::new(Recorder {
        failures: Arc::new(Failures::new(folder.to_owned(), kept_max).pausing(pause)),
        connector: "orders-in".into(),
        stage: "check".into(),
        plugin: HOSTILE.clone(),
        plan: plan.clone(),
    }));
    let around = Surroundings::new(Arc::new(Silent))
        .granting(plan.grants.clone())
        .taped(tape);
    Transform::open(&HOSTILE, &plan.settings, plan.limits, around).expect("hostile opens")
}

fn show(stage: &mut Transform, records: &[(&str, &str)]) {
    let mut batch = Columns::begin(Sequence(100));
    for (at, (key, value)) in (100..).zip(records) {
        let record = RecordRef {
            timestamp: 5,
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: Headers::NONE,
        };
        batch.push(Sequence(at), &record).expect("a small record");
    }
    let stream = Stream {
        id: "a/orders/0",
        topic: "orders",
        partition: 0,
    };
    // That it fails is what is wanted.
    let _ = stage.process(&stream, &batch);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = entries.map(Iterator::collect).unwrap_or_default();
    files.sort();
    files
}

/// The key of each record that is kept, in the order of their files.
fn keys(folder: &Path) -> Vec<String> {
    let key = |file: &PathBuf| {
        let recorded = Recorded::read(&std::fs::read(file).expect("it is there")).expect("it is whole");
        let columns = recorded.columns().expect("it is whole");
        let (_, record) = columns.get(0).expect("a record");
        String::from_utf8_lossy(record.key.unwrap_or_default()).into_owned()
    };
    files(folder).iter().map(key).collect()
}

/// What is logged meanwhile, line by line.
fn logged(act: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    written.lines()
}

fn recorded() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    show(&mut stage(folder.path(), 1), &[("a", "fine"), ("b", "panic")]);
    std::fs::read(&files(folder.path())[0]).expect("it is recorded")
}

#[test]
fn what_was_recorded_fails_alike_when_it_is_played_and_holds_no_secret() {
    for (value, kind, records) in [
        ("panic", "trap", 1),
        ("spin", "timeout", 1),
        ("fatal", "fatal", 2),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        show(&mut stage(folder.path(), 3), &[("a", "fine"), ("b", value)]);
        let files = files(folder.path());
        assert_eq!(files.len(), 1, "{value}: {files:?}");
        let file = std::fs::read(&files[0]).expect("it is there");
        for secret in [PASSWORD, SECRET] {
            let coded = base64::encoded(secret.as_bytes());
            let text = String::from_utf8_lossy(&file);
            assert!(!text.contains(secret) && !text.contains(&coded), "{value}");
        }
        let recorded = Recorded::read(&file).expect("it can be read");
        assert_eq!(
            (recorded.fault.kind.as_str(), recorded.records()),
            (kind, records)
        );
        assert_eq!(recorded.left_out().collect::<Vec<_>>(), ["token"]);
        assert_eq!(recorded.write(), file, "{value}");
        let replayed = replay(&recorded, &COMPONENT, Arc::new(Silent)).expect("it is played");
        assert!(replayed.is_same(&recorded), "{value}: {replayed:?}");
    }
}

#[test]
fn a_batch_with_a_secret_in_it_is_not_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stage = stage(folder.path(), 3);
    for secret in [PASSWORD, SECRET] {
        show(&mut stage, &[(&format!("the key is {secret}"), "panic")]);
    }
    assert_eq!(files(folder.path()), [] as [PathBuf; 0]);
}

#[test]
fn the_newest_are_kept_and_only_their_owner_reads_them() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("failures");
    let mut stage = stage(&folder, 2);
    for key in ["one", "two", "three"] {
        show(&mut stage, &[(key, "panic")]);
    }
    let mode = |path: &Path| {
        let status = std::fs::metadata(path).expect("it is there");
        status.permissions().mode() & 0o777
    };
    // As after a restart: what is there already counts.
    show(&mut self::stage(&folder, 2), &[("four", "panic")]);
    for file in files(&folder) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let mut kept = keys(&folder);
    kept.sort();
    assert_eq!(
        (mode(&folder), kept),
        (0o700, vec!["four".into(), "three".into()])
    );
}

#[test]
fn a_folder_that_is_full_takes_no_more_than_one_in_a_while() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stage = stage_pausing(folder.path(), 2, Duration::from_secs(3_600));
    let lines = logged(|| {
        for key in ["one", "two", "three", "four"] {
            show(&mut stage, &[(key, "panic")]);
        }
    });
    assert_eq!(
        (keys(folder.path()), lines.len()),
        (vec!["one".into(), "two".into()], 2),
        "{lines:?}"
    );
}

#[test]
fn the_newest_stays_where_the_clock_was_set_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let later = folder.path().join("99999999999999-0000-hostile.failure");
    std::fs::write(&later, "of a time to come").expect("written");
    show(&mut stage(folder.path(), 1), &[("now", "panic")]);
    assert_eq!(keys(folder.path()), ["now"]);
}

#[test]
fn the_log_names_the_file_and_what_is_not_recorded_with_its_reason() {
    let check = |folder: &Path, key: &str, said: &[&str]| {
        let mut stage = stage(folder, 3);
        let lines = logged(|| show(&mut stage, &[(key, "panic")]));
        let [line] = lines.as_slice() else {
            panic!("{said:?}: {lines:?}");
        };
        for said in said {
            assert!(line.contains(said), "{said}: {line}");
        }
        assert!(!line.contains(PASSWORD), "{line}");
        line.clone()
    };
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("failures");
    let line = check(
        &folder,
        "a",
        &[
            " INFO ",
            "a failing batch is recorded",
            "connector=\"orders-in\" stage=\"check\"",
            "fault=trap: ",
        ],
    );
    let [file] = &files(&folder)[..] else {
        panic!("{line}");
    };
    assert!(line.contains(&format!("file={} ", file.display())), "{line}");
    let hidden = format!("the key is {PASSWORD}");
    check(
        &folder,
        &hidden,
        &[
            " INFO ",
            "a failing batch is not recorded",
            "reason=\"a secret is in ",
        ],
    );
    // A file stands where the folder is to be.
    check(
        file,
        "a",
        &[
            " WARN ",
            "[CULVERT-W064] a failing batch is not recorded",
            "folder=",
            "error=",
        ],
    );
}

#[test]
fn what_is_damaged_or_of_another_version_is_refused_with_the_reason() {
    let file = recorded();
    let check = |file: &[u8], said: &str| {
        let error = Recorded::read(file).expect_err(said).to_string();
        assert!(error.contains(said), "{said}: {error}");
    };
    check(b"", "[CULVERT-W061] it is no recorded failure");
    check(b"{\"key\": 1}\n", "it is no recorded failure");
    check(&file[..file.len() - 1], "it was cut or changed");
    for at in [file.len() / 2, file.len() - 2] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        check(&changed, "it was cut or changed");
    }
    let text = String::from_utf8(file).expect("text");
    let later = text.replacen(&format!("{MAGIC} 1"), &format!("{MAGIC} 2"), 1);
    check(
        later.as_bytes(),
        "[CULVERT-W062] format 2 is not known here, but 1",
    );
    // With a checksum that fits.
    let forged = |from: &str, to: &str| {
        let body = text.split_once('\n').expect("two lines").1;
        assert!(body.contains(from), "{body}");
        let body = body.replacen(from, to, 1);
        format!("{MAGIC} {FORMAT} {}\n{body}", Digest::of(body.as_bytes())).into_bytes()
    };
    check(
        &forged(&format!("\"contract\":\"{CONTRACT}\""), "\"contract\":\"9.9.9\""),
        "[CULVERT-W062] the contract culvert:plugin 9.9.9",
    );
    check(&forged("\"fault\"", "\"folt\""), "it cannot be read");
    check(
        &forged("\"call_nanos\":1", "\"call_nanos\":999"),
        "its limits are above",
    );
    check(
        &forged("\"sequence\":101", "\"sequence\":18446744073709551615"),
        "its batch",
    );
    check(&vec![b' '; FILE_BYTES_MAX + 1], "larger than 8 MiB");
}
