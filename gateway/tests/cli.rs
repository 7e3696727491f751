//! The command line from outside: what stands on standard output, what on standard error, and the exit code.
//!
//! Outputs are compared with `tests/golden/`; `UPDATE_GOLDEN=1 cargo test -p culvert --test cli` writes them anew.

use culvert_proto::columns::Columns;
use culvert_proto::record::{Headers, RecordRef};
use culvert_proto::{Lineage, Sequence, StreamId};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

/// A directory with a `culvert.toml` and connectors, and commands that run in it.
struct Site(tempfile::TempDir);

impl Site {
    fn new(toml: &str, connectors: &[(&str, &str)]) -> Site {
        let site = Site(tempfile::tempdir().expect("a directory"));
        site.write("culvert.toml", toml);
        for (name, json) in connectors {
            site.write(&format!("connectors/{name}"), json);
        }
        site
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.path().join(file);
        std::fs::create_dir_all(path.parent().expect("it is in the directory")).expect("make the directory");
        std::fs::write(path, text).expect("write the file");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_clear()
            .envs(variables.iter().copied());
        command.output().expect("the binary runs")
    }
}

const GOOD: &str = r#"gateway = "gw3"
site = "site3"
state = "state"

[outbox]
quota = "20 GiB"

[identity]
certificate = "pki/gw3.pem"
key = "pki/gw3.key"
ca = "pki/ca.pem"

[[peer]]
site = "site2"
gateways = ["gw2", "gw2b"]
address = "gw2.example.com:7443"

[kafka]
bootstrap.servers = "kafka3:9092"
sasl.password = "${env:KAFKA_PASSWORD}"
"#;

const SINK: &str = r#"{
  "name": "orders-in",
  "config": {
    "connector.class": "io.culvert.sqlite.SqliteSink",
    "topics": "orders",
    "culvert.from": "site1",
    "culvert.via": "site2",
    "sqlite.path": "orders.db"
  }
}
"#;

const BAD: &str = r#"gateway = "GW3"
site = "site3"
stat = "x"

[outbox]
quota = "10 GB/s"
flush_every = 5

[[peer]]
site = "site2"
gateways = ["gw2"]

[[grant]]
to = "site9"
topics = ["orders"]

[kafka]
sasl.password = "hunter2"
"#;

const BAD_SINK: &str = r#"{
  "name": "orders-in",
  "connector.class": "SqliteSnik",
  "transforms": "mask",
  "tasks.max": "many"
}
"#;

fn good() -> Site {
    let site = Site::new(GOOD, &[("orders-in.json", SINK)]);
    ["pki/gw3.pem", "pki/gw3.key", "pki/ca.pem"]
        .iter()
        .for_each(|file| site.write(file, "present"));
    site
}

const SECRET: [(&str, &str); 1] = [("KAFKA_PASSWORD", "hunter2")];

#[track_caller]
fn golden(name: &str, output: &Output, code: i32) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}\n{errors}");
    assert!(
        !text.contains("hunter2") && !errors.contains("hunter2"),
        "a secret is shown"
    );
    let both = if errors.is_empty() {
        text
    } else {
        format!("{text}--- standard error\n{errors}")
    };
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name]
        .iter()
        .collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &both).expect("write the golden file");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        both, expected,
        "differs from tests/golden/{name}; UPDATE_GOLDEN=1 writes it anew"
    );
}

#[test]
fn check_says_what_a_good_configuration_holds() {
    golden("check-good.txt", &good().run_with(&["check"], &SECRET), 0);
    golden(
        "check-good.json",
        &good().run_with(&["check", "--output", "json"], &SECRET),
        0,
    );
}

#[test]
fn check_reports_every_mistake_at_once() {
    let site = Site::new(BAD, &[("orders-in.json", BAD_SINK)]);
    golden("check-bad.txt", &site.run(&["check"]), 2);
    golden("check-bad.json", &site.run(&["check", "--output", "json"]), 2);
}

#[test]
fn config_show_names_the_source_of_each_value_and_no_secret() {
    let variables = [SECRET[0], ("CULVERT_TELEMETRY__LOG_LEVEL", "debug")];
    golden("show.txt", &good().run_with(&["config", "show"], &variables), 0);
    golden(
        "show.json",
        &good().run_with(&["config", "show", "--output", "json"], &variables),
        0,
    );
}

const VERBS: [&str; 42] = [
    "",
    "demo",
    "demo certificates",
    "demo generate",
    "demo verify",
    "demo verify-isolation",
    "chaos",
    "run",
    "check",
    "config",
    "config show",
    "config reference",
    "config metrics",
    "status",
    "prove",
    "fsck",
    "generate",
    "verify",
    "completions",
    "install",
    "pki",
    "pki init",
    "pki issue",
    "pki issue gateway",
    "pki issue kafka",
    "pki issue client",
    "pki renew",
    "pki show",
    "plugin",
    "plugin new",
    "plugin build",
    "plugin list",
    "plugin pack",
    "plugin test",
    "plugin run",
    "plugin bench",
    "plugin inspect",
    "plugin keygen",
    "plugin sign",
    "plugin verify",
    "plugin diff",
    "plugin replay",
];

#[test]
fn help_texts_are_as_agreed() {
    let site = good();
    for verb in VERBS {
        let arguments: Vec<_> = verb.split_whitespace().chain(["--help"]).collect();
        let name = format!(
            "help-{}.txt",
            if verb.is_empty() {
                "culvert".into()
            } else {
                verb.replace(' ', "-")
            }
        );
        golden(&name, &site.run(&arguments), 0);
    }
}

/// Lines that somebody broke by hand are not broken once more.
#[test]
fn help_texts_fit_their_width() {
    for verb in VERBS {
        let arguments: Vec<_> = verb.split_whitespace().chain(["--help"]).collect();
        let help = String::from_utf8_lossy(&good().run(&arguments).stdout).into_owned();
        let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(long.is_empty(), "{verb}: {long:#?}");
        let torn: Vec<_> = help
            .lines()
            .zip(help.lines().skip(1))
            .filter(|(line, next)| {
                line.starts_with("  culvert ") && next.starts_with("  ") && !next.contains("culvert ")
            })
            .collect();
        assert!(
            torn.is_empty(),
            "an example of {verb} is broken over two lines: {torn:#?}"
        );
    }
}

#[test]
fn what_is_not_there_ends_with_3() {
    let site = Site::new("", &[]);
    std::fs::remove_file(site.0.path().join("culvert.toml")).expect("it was there");
    if !Path::new("/etc/culvert/culvert.toml").exists() {
        golden("no-configuration.txt", &site.run(&["check"]), 3);
    }
    golden(
        "no-file.txt",
        &site.run(&["status", "--config", "absent.toml"]),
        3,
    );
    golden(
        "no-gateway.txt",
        &site.run(&["status", "--socket", "absent.sock"]),
        3,
    );
    let missing = Site::new(GOOD, &[]);
    golden("no-certificate.txt", &missing.run_with(&["check"], &SECRET), 3);
}

#[test]
fn wrong_arguments_end_with_2() {
    let site = good();
    for arguments in [
        &["fly"][..],
        &["check", "--colour"],
        &["prove", "--wait", "soon"],
        &["check", "--output", "xml"],
    ] {
        let output = site.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn colour_is_used_when_asked_for_and_only_then() {
    let escape = |output: Output| output.stdout.contains(&0x1b);
    let site = good();
    assert!(
        !escape(site.run_with(&["config", "show"], &SECRET)),
        "not into a pipe"
    );
    assert!(escape(
        site.run_with(&["config", "show", "--color", "always"], &SECRET)
    ));
    let no_color = [SECRET[0], ("NO_COLOR", "1")];
    assert!(!escape(site.run_with(&["config", "show"], &no_color)));
}

#[test]
fn every_shell_gets_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = good().run(&["completions", shell]);
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && script.contains("culvert") && script.contains("prove"),
            "{shell}"
        );
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command
        .args(["config", "reference"])
        .env_clear()
        .stdout(writer)
        .stderr(std::process::Stdio::piped());
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .expect("the binary runs");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(128 + 13), 0));
}

#[test]
fn the_pages_in_docs_are_the_programs_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (verb, file) in [
        ("reference", "docs/reference/config.md"),
        ("metrics", "docs/reference/metrics.md"),
    ] {
        let committed = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        let printed = String::from_utf8_lossy(&good().run(&["config", verb]).stdout).into_owned();
        assert!(committed == printed, "run `culvert config {verb} > {file}`");
    }
}

#[test]
fn the_demo_is_complete_although_each_gateway_is_killed() {
    let site = good();
    let output = site.run(&["demo", "--records", "4000", "--rate", "4000", "--output", "json"]);
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{notes}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the answer is JSON");
    assert_eq!(report["verdict"], "complete");
    assert_eq!(report["records"], 4000);
    for gateway in ["gw1", "gw2", "gw3"] {
        assert!(
            notes.contains(&format!("{gateway} is killed (SIGKILL)")),
            "{notes}"
        );
    }
}

#[test]
fn a_store_that_is_none_does_not_verify() {
    let output = good().run(&["outbox", "verify", "absent"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.is_empty());
}

/// What `cargo xtask plugins` made.
fn plugin(name: &str) -> String {
    format!("{}/../target/plugins/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_plugin_is_tried_and_its_exit_code_says_what_came_of_it() {
    let site = good();
    let check = |arguments: &[&str], code: i32, said: &str| {
        let output = site.run_with(&[&["plugin"], arguments].concat(), &SECRET);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    };
    let faulty = &plugin("tests/faulty");
    check(
        &["test", faulty, "--set", "fault=none", "--runs", "5"],
        0,
        "all of it held",
    );
    check(
        &["test", faulty, "--set", "fault=batch-size", "--runs", "5"],
        1,
        "promise broken stateless",
    );
    check(&["test", faulty, "--set", "falt=none"], 2, "valid: fault");
    let leaky = &plugin("tests/leaky-sink");
    let sink = |fault: &'static str| ["test", leaky, "--set", fault, "--runs", "1"];
    check(&sink("fault=none"), 0, "held");
    check(
        &sink("fault=no-truncate"),
        1,
        "promise broken transactional: cut off at call 4 of write 1",
    );
    let ledger = &plugin("tests/ledger");
    let source = |fault: &'static str| ["test", ledger, "--set", fault, "--runs", "1"];
    check(&source("misbehave=none"), 0, "replayable  yes");
    check(
        &source("misbehave=doubles"),
        1,
        "promise broken replayable: opened from the resume point before page 2",
    );
    check(&["run", leaky, "--sample", "culvert.toml"], 1, "is a sink");
    check(&["test", "nowhere.wasm"], 3, "read nowhere.wasm");
    check(&["inspect", faulty], 0, "deterministic, stateless");
    check(&["inspect", "culvert.toml"], 1, "CULVERT-W001");
    check(
        &["inspect", "nobody"],
        3,
        "neither a file nor a plugin is called nobody",
    );
    site.write("sample.jsonl", "one\n{\"key\":\"k\",\"value\":null}\n");
    check(
        &["run", faulty, "--sample", "sample.jsonl"],
        0,
        "   2  none, key k\n      keep",
    );
    check(
        &[
            "run",
            faulty,
            "--sample",
            "sample.jsonl",
            "--set",
            "fault=panic-at-tombstone",
        ],
        1,
        "plugin-trap",
    );
    check(
        &[
            "bench",
            faulty,
            "--sample",
            "sample.jsonl",
            "--seconds",
            "0.02",
            "--batch",
            "1,7",
        ],
        0,
        "RECORDS/S",
    );
    check(&["bench", faulty], 3, "--sample FILE");
}

#[test]
fn cases_are_blessed_only_where_they_say_something_else() {
    let site = good();
    let case = |outcome: &str| {
        format!(
            "{{\n  \"settings\": {{ \"fault\": \"counter\" }},\n  \"messages\": [{{ \"value\": \"a\"{outcome} }}]\n}}\n"
        )
    };
    site.write("cases/one.json", &case(""));
    let faulty = &plugin("tests/faulty");
    let test = ["plugin", "test", faulty, "--cases", "cases", "--runs", "0"];
    let output = site.run(&test);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("got       replace by a1"), "{text}");
    site.run(&[&test[..], &["--bless"]].concat());
    let written = std::fs::read_to_string(site.0.path().join("cases/one.json")).expect("it is there");
    assert_eq!(
        written,
        case(", \"outcome\": { \"replace\": { \"value\": \"a1\" } }")
    );
    let again = site.run(&test);
    assert!(
        String::from_utf8_lossy(&again.stdout).contains("1 of 1 hold"),
        "{again:?}"
    );
}

/// A sink whose stage is a plugin of the directory.
const STAGED: &str = r#"{
  "name": "orders-in",
  "connector.class": "io.culvert.sqlite.SqliteSink",
  "topics": "orders",
  "culvert.from": "site1",
  "culvert.via": "site2",
  "sqlite.path": "orders.db",
  "transforms": "check",
  "transforms.check.type": "order-check"
}
"#;

#[test]
fn a_plugin_runs_only_as_it_was_signed_by_who_is_trusted() {
    let strict = format!("{GOOD}\n[plugins]\ntrusted_keys = \"acme.pub\"\nrequire_signature = true\n");
    let site = Site::new(&strict, &[("orders-in.json", STAGED)]);
    ["pki/gw3.pem", "pki/gw3.key", "pki/ca.pem"]
        .iter()
        .for_each(|file| site.write(file, "present"));
    let said = |arguments: &[&str], code: i32| {
        let output = site.run_with(arguments, &SECRET);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    };
    said(&["plugin", "keygen", "acme"], 0);
    said(&["plugin", "keygen", "acme"], 1);
    said(&["plugin", "keygen", "other"], 0);
    said(&["check"], 0); // The bundled one is of the program.
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins/order-check.wasm");
    let file = site.0.path().join("plugins/order-check.wasm");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::copy(&component, &file).expect("`cargo xtask plugins` has built it");
    let plugin = "plugins/order-check.wasm";
    assert!(said(&["check"], 2).contains("[CULVERT-W051]"));
    assert!(said(&["plugin", "verify", plugin], 1).contains("it is not signed"));
    assert!(said(&["plugin", "sign", plugin, "--key", "acme.pub"], 1).contains("[CULVERT-W052]"));
    said(&["plugin", "sign", plugin, "--key", "other.key"], 0);
    assert!(said(&["check"], 2).contains("which plugins.trusted_keys does not name"));
    said(&["plugin", "verify", plugin, "--key", "acme.pub"], 1);
    said(&["plugin", "sign", plugin, "--key", "acme.key"], 0);
    said(&["check"], 0);
    said(&["plugin", "verify", plugin, "--key", "acme.pub"], 0);
    assert_eq!(
        said(&["plugin", "inspect", plugin], 0)
            .matches("  signed ")
            .count(),
        2
    );
    assert!(said(&["plugin", "diff", "order-check", plugin], 0).contains("the same file"));
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    said(&["check"], 2);
    assert!(said(&["plugin", "verify", plugin], 1).contains("[CULVERT-W050]"));
}

/// A source that is a plugin of the directory; `more` are settings.
fn counted(more: &str) -> String {
    format!(
        "{{\n  \"name\": \"counted\",\n  \"connector.class\": \"ledger\",\n{more}  \"culvert.grant.state\": \"true\"\n}}\n"
    )
}

#[test]
fn a_plugin_is_asked_what_it_thinks_of_its_settings() {
    let check = |more: &str, code: i32, said: &[&str]| {
        let polled = r#"{
  "name": "polled",
  "connector.class": "http-poll",
  "topic": "orders",
  "url": "https://example.org/v1",
  "records": "items"
}
"#;
        let sources = [
            ("counted.json", counted(more)),
            ("polled.json", polled.to_owned()),
        ];
        let sources: Vec<(&str, &str)> = sources
            .iter()
            .filter(|(name, _)| code != 0 || *name == "counted.json")
            .map(|(name, text)| (*name, text.as_str()))
            .collect();
        let site = Site::new(GOOD, &sources);
        ["pki/gw3.pem", "pki/gw3.key", "pki/ca.pem"]
            .iter()
            .for_each(|file| site.write(file, "present"));
        let folder = site.0.path().join("plugins");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::copy(plugin("tests/ledger"), folder.join("ledger.wasm"))
            .expect("`cargo xtask plugins` has built it");
        let output = site.run_with(&["check"], &SECRET);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}");
        for part in said {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!site.0.path().join("state").exists(), "a check writes nothing");
        if code != 0 {
            let output = site.run_with(&["run"], &SECRET);
            assert_eq!(
                output.status.code(),
                Some(code),
                "the gateway does not start with it: {output:?}"
            );
        }
    };
    check("  \"at\": \"3\",\n", 0, &["is valid"]);
    // Of two plugins, with the line of each key.
    check(
        "  \"at\": \"5000\",\n",
        2,
        &[
            "connectors/counted.json:4: at: is no number below 1000 [CULVERT-C011]",
            "connectors/polled.json:6: records: is no JSON pointer",
        ],
    );
    check(
        "  \"misbehave\": \"check\",\n",
        2,
        &[
            "connectors/counted.json:3: connector.class: plugin ledger cannot be asked",
            "[CULVERT-W060]",
        ],
    );
    // What is data is looked at first: of what does not pass, the plugin sees nothing.
    check(
        "  \"misbehave\": \"check\",\n  \"page\": \"0\",\n",
        2,
        &["page: \"0\" is not valid"],
    );
}

#[test]
fn the_program_is_installed_with_its_units_and_a_gateway_is_prepared() {
    let site = Site::new(GOOD, &[]);
    let root = site.0.path().join("root");
    let place = root.to_str().expect("a path in Unicode");
    let install = ["install", "plant", "--site", "plant", "--root", place];
    let said = |arguments: &[&str]| {
        let output = site.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let planned = said(&[&install[..], &["--dry-run"]].concat());
    assert!(planned.contains("would write  ") && !root.exists(), "{planned}");

    let first = said(&install);
    assert_eq!(first.matches("written").count(), 8, "{first}");
    assert!(first.contains("systemctl enable --now culvert@plant"), "{first}");
    let program = root.join("usr/local/bin/culvert");
    let version = Command::new(&program).arg("--version").output();
    assert!(version.expect("the installed program runs").status.success());
    let unit = std::fs::read_to_string(root.join("etc/systemd/system/culvert@.service")).expect("a unit");
    assert!(unit.contains("ExecStart=/usr/local/bin/culvert run"), "{unit}");
    let file = root.join("etc/culvert/plant/culvert.toml");
    said(&["check", "--config", file.to_str().expect("a path in Unicode")]);

    let again = said(&install);
    assert_eq!(again.matches("unchanged").count(), 7, "{again}");
    assert!(again.contains("kept"), "{again}");
}

/// What a gateway records where a stage's plugin fails at a record: the file.
fn recorded_failure(state: &Path) -> PathBuf {
    use culvert::plugin::{Failures, Limits, PluginPlan, Runner, Shelf, StagePlan};
    let runner = Runner::new(state.join("plugins"), None).expect("an engine starts");
    let runner = Arc::new(runner.recording(Some(Failures::new(state.join("failures"), 1))));
    let shelf = Shelf::open(
        Path::new(&plugin("tests/hostile"))
            .parent()
            .expect("it lies in a folder"),
    );
    runner
        .load(shelf.get("hostile").expect("`cargo xtask plugins` has built it"))
        .expect("it loads");
    let stage = StagePlan {
        name: "check".into(),
        plan: PluginPlan {
            plugin: "hostile".into(),
            settings: vec![("open".into(), Some("ok".into()))],
            limits: Limits::default(),
            grants: Arc::default(),
        },
        selection: None,
        envelopes: false,
    };
    let mut chain = runner.chain("orders-in", &[stage])().expect("it opens");
    let mut batch = Columns::begin(Sequence(7));
    for (at, value) in [(7, "fine"), (8, "panic"), (9, "fine")] {
        let record = RecordRef {
            timestamp: 5,
            key: None,
            value: Some(value.as_bytes()),
            headers: Headers::NONE,
        };
        batch.push(Sequence(at), &record).expect("a small record");
    }
    let stream = StreamId {
        site: "a".into(),
        topic: "orders".into(),
        partition: 0,
        lineage: Lineage::Replayable {
            cluster: "c".into(),
            topic: [7; 16],
        },
    };
    chain.pass(&stream, &batch).expect("the others are treated");
    let mut files = std::fs::read_dir(state.join("failures")).expect("one is recorded");
    files
        .next()
        .expect("one is recorded")
        .expect("it is there")
        .path()
}

#[test]
fn a_recorded_failure_is_played_again_and_the_exit_code_says_whether_it_is_the_same() {
    let site = good();
    let recorded = recorded_failure(&site.0.path().join("state"));
    let file = recorded.to_str().expect("a plain name");
    let said = |arguments: &[&str], code: i32| {
        let output = site.run_with(&[&["plugin", "replay"], arguments].concat(), &SECRET);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        text
    };
    let hostile = &plugin("tests/hostile");
    let same = said(&[file, "--plugin", hostile], 0);
    assert!(same.contains("stage check of orders-in, 1 record\n"), "{same}");
    assert!(
        same.contains("told to panic by message 0") && same.contains("\nthe same fault\n"),
        "{same}"
    );
    // A plugin that treats it now.
    let other = said(
        &[file, "--plugin", &plugin("tests/faulty"), "--output", "json"],
        1,
    );
    let other: serde_json::Value = serde_json::from_str(&other).expect("JSON");
    assert_eq!(other["then"]["kind"], "trap");
    assert_eq!(
        (&other["is_same"], &other["is_same_plugin"]),
        (&false.into(), &false.into())
    );
    // Of the shelf only the very same one.
    assert!(said(&[file], 3).contains("neither a file nor a plugin is called hostile"));
    let folder = site.0.path().join("plugins");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::copy(hostile, folder.join("hostile.wasm")).expect("a copy");
    assert!(said(&[file], 0).contains("\nthe same fault\n"));
    let mut changed = std::fs::read(hostile).expect("it is there");
    // A custom section without meaning, named `x`.
    changed.extend_from_slice(&[0, 2, 1, b'x']);
    std::fs::write(folder.join("hostile.wasm"), changed).expect("written");
    let refused = said(&[file], 3);
    assert!(
        refused.contains("[CULVERT-W063]") && refused.contains("--plugin COMPONENT"),
        "{refused}"
    );
    let mut damaged = std::fs::read(&recorded).expect("it is there");
    damaged.pop();
    std::fs::write(&recorded, damaged).expect("written");
    assert!(said(&[file, "--plugin", hostile], 2).contains("[CULVERT-W061]"));
    assert!(said(&["nowhere.failure"], 3).contains("nowhere.failure"));
}
