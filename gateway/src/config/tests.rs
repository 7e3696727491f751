//! The room as a whole: what is read, what is refused and how it is said.

mod converters;
mod grants;

use super::*;
use culvert_proto::message::Priority;
use std::fmt::Write;

/// A directory with a `culvert.toml` and connectors.
struct Site {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Site {
    fn new(toml: &str) -> Site {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("culvert.toml"), toml).expect("write the file");
        std::fs::create_dir(directory.path().join("connectors")).expect("make the directory");
        Site {
            directory,
            environment: Vec::new(),
        }
    }

    fn connector(self, file: &str, json: &str) -> Site {
        std::fs::write(self.directory.path().join("connectors").join(file), json).expect("write the file");
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Site {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn load(&self) -> Result<Config, Mistakes> {
        let environment = self.environment.iter().cloned().collect();
        Config::load(&self.directory.path().join("culvert.toml"), &environment)
    }

    /// Every mistake as one line: `file:line key code problem`, without the directory.
    fn mistakes(&self) -> Vec<String> {
        let prefix = format!("{}/", self.directory.path().display());
        let said = |m: &Mistake| {
            assert!(!m.hint.is_empty(), "{m}: has no way out");
            format!("{} {} {} {}", m.place, m.key, m.code, m.problem).replace(&prefix, "")
        };
        self.load()
            .err()
            .map_or_else(Vec::new, |mistakes| mistakes.0.iter().map(said).collect())
    }
}

const HEAD: &str = "gateway = \"gw1\"\nsite = \"site1\"\n";

const PEER: &str = "\
[identity]
certificate = \"gw1.pem\"
key = \"gw1.key\"
ca = \"ca.pem\"

[[peer]]
site = \"site2\"
gateways = [\"gw2\"]
";

/// `toml`, behind two lines with name and site, has exactly these mistakes.
fn check(toml: &str, expected: &[&str]) {
    assert_eq!(Site::new(&format!("{HEAD}{toml}")).mistakes(), expected, "{toml}");
}

/// A connector's JSON, beside a good file with a peer `site2`, has exactly these mistakes.
fn check_connector(json: &str, expected: &[&str]) {
    let site = Site::new(&format!("{HEAD}{PEER}")).connector("c.json", json);
    assert_eq!(site.mistakes(), expected, "{json}");
}

#[test]
fn little_is_needed() {
    let config = Site::new(HEAD).load().expect("it is valid");
    assert_eq!((config.gateway.as_str(), config.site.as_str()), ("gw1", "site1"));
    assert_eq!(config.state, Path::new("/var/lib/culvert"));
    assert_eq!(config.control_socket, Path::new("/var/lib/culvert/control.sock"));
    assert_eq!(config.outbox.quota, ByteSize(10 << 30));
    assert_eq!(config.outbox.flush_every, Duration::from_millis(5));
    assert!(config.identity.is_none() && config.peers.is_empty() && config.connectors.is_empty());
}

#[test]
fn every_declared_key_is_read_and_shown() {
    let toml = format!(
        "{HEAD}{PEER}address = \"gw2:7443\"\n[[grant]]\nto = \"site2\"\ntopics = \"a\"\n\
         [[relay]]\nfrom = \"site2\"\nto = \"site3\"\n[[peer]]\nsite = \"site3\"\ngateways = \"gw3\"\n\
         [kafka]\nclient.id = \"x\"\n[plugins]\ntrusted_keys = \"own.pub\"\n"
    );
    let site = Site::new(&toml);
    let (_, public) = plugin::generated().expect("a key");
    std::fs::write(site.directory.path().join("own.pub"), public).expect("a file of the site");
    let config = site.load().expect("it is valid");
    for key in keys::KEYS {
        let shown = |value: &Effective| keys::find(&value.key).is_some_and(|found| found.path == key.path);
        assert!(
            config.effective.iter().any(shown),
            "{} is declared and never read",
            key.path
        );
    }
}

#[test]
fn signatures_that_are_required_need_someone_whose_they_are() {
    check(
        "plugins.require_signature = true\n",
        &[
            "culvert.toml:3 plugins.require_signature CULVERT-C006 is set, and plugins.trusted_keys names nobody",
        ],
    );
    check(
        "plugins.trusted_keys = \"a.pub\"\nplugins.require_signature = \"perhaps\"\n",
        &[
            "culvert.toml:3 plugins.trusted_keys CULVERT-C001 read a.pub: No such file or directory (os error 2)",
            "culvert.toml:4 plugins.require_signature CULVERT-C004 \"perhaps\" is not one of its words",
        ],
    );
}

#[test]
fn a_whole_file_becomes_a_config() {
    let toml = format!(
        "{HEAD}state = \"state\"\n[outbox]\nengine = \"log\"\nquota = \"500 MB\"\nflush_every = \"10ms\"\n\
         [control]\nsocket = \"/run/c.sock\"\n[telemetry]\nlog_format = \"json\"\n\
         log_level = \"warn,culvert::link=debug\"\n{PEER}address = [\"gw2:7443\", \"10.0.0.2:7443\"]\n\
         [[grant]]\nto = \"site2\"\ntopics = [\"orders-*\"]\nvia = [\"site2\"]\n"
    );
    let site = Site::new(&toml);
    let config = site.load().expect("it is valid");
    assert_eq!(config.state, site.directory.path().join("state"));
    assert_eq!(config.control_socket, Path::new("/run/c.sock"));
    assert_eq!(
        (config.outbox.engine, config.outbox.quota.0),
        (Engine::Log, 500_000_000)
    );
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
    let identity = config.identity.as_ref().expect("there is one");
    assert_eq!(identity.ca, [site.directory.path().join("ca.pem")]);
    let peer = config.peer("site2").expect("there is one");
    assert_eq!(
        peer.addresses.iter().map(Endpoint::as_str).collect::<Vec<_>>(),
        ["gw2:7443", "10.0.0.2:7443"]
    );
    assert!(config.grants[0].topics[0].matches("orders-eu") && !config.grants[0].topics[0].matches("clicks"));
}

#[test]
fn the_environment_overrides_the_file() {
    let site = Site::new(&format!("{HEAD}{PEER}"))
        .variable("CULVERT_OUTBOX__QUOTA", "1 GiB")
        .variable("CULVERT_PEER__0__GATEWAYS", "gw2, gw2b")
        .variable("CULVERT_PEER__1__SITE", "site3")
        .variable("CULVERT_PEER__1__GATEWAYS", "gw3")
        .variable("CULVERT_KAFKA__BOOTSTRAP__SERVERS", "k:9092")
        .variable("CULVERT_SERVICE_HOST", "10.0.0.1")
        .variable("HOME", "/root");
    let config = site.load().expect("it is valid");
    assert_eq!(config.outbox.quota, ByteSize(1 << 30));
    assert_eq!(config.peers[0].gateways, ["gw2", "gw2b"]);
    assert_eq!(config.peers[1].site, "site3");
    assert_eq!(config.kafka.get("bootstrap.servers"), Some("k:9092"));
    let quota = config
        .effective
        .iter()
        .find(|value| value.key == "outbox.quota")
        .expect("it is shown");
    assert_eq!(quota.from.to_string(), "env CULVERT_OUTBOX__QUOTA");
}

#[test]
fn the_environment_is_checked_too() {
    let site = Site::new(HEAD)
        .variable("CULVERT_OUTBOX__QOUTA", "1 GiB")
        .variable("CULVERT_OUTBOX__CACHE", "lots")
        .variable("CULVERT_PEER__3__SITE", "site3")
        .variable("CULVERT_KAFKA__SASL__PASSWORD", "hunter2")
        .variable("CULVERT_SITES", "x");
    let mut mistakes = site.mistakes();
    mistakes.sort();
    assert_eq!(
        mistakes,
        [
            "env CULVERT_KAFKA__SASL__PASSWORD kafka.sasl.password CULVERT-C007 is a secret and stands in the clear",
            "env CULVERT_OUTBOX__CACHE outbox.cache CULVERT-C004 \"lots\" is not a size",
            "env CULVERT_OUTBOX__QOUTA outbox.qouta CULVERT-C003 no such key",
            "env CULVERT_PEER__3__SITE peer.3.site CULVERT-C003 there is no [[peer]] number 3: the next one is 0",
            "env CULVERT_SITES sites CULVERT-C003 no such key",
        ]
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let mistakes =
        Config::load(Path::new("/nowhere/culvert.toml"), &Environment::default()).expect_err("absent");
    assert!(mistakes.only_unreadable(), "{mistakes}");
    assert!(
        mistakes
            .to_string()
            .contains("/nowhere/culvert.toml: cannot be read"),
        "{mistakes}"
    );
    check(
        "[connectors]\ndirectory = \"absent\"\n",
        &["absent connectors.directory CULVERT-C001 cannot be read: No such file or directory (os error 2)"],
    );
    let mistakes = Site::new(&format!("{HEAD}{PEER}"))
        .load()
        .expect("valid")
        .check_files()
        .expect_err("no files");
    let keys: Vec<_> = mistakes.0.iter().map(|m| m.key.as_str()).collect();
    assert_eq!(keys, ["identity.certificate", "identity.key", "identity.ca"]);
}

#[test]
fn what_is_not_toml_is_said_with_its_line() {
    check(
        "x = \n[outbox\n",
        &[
            "culvert.toml:3  CULVERT-C002 not TOML: string values must be quoted, expected literal string",
            "culvert.toml:4  CULVERT-C002 not TOML: unclosed table, expected `]`",
        ],
    );
    check(
        "site = \"twice\"\n",
        &["culvert.toml:3  CULVERT-C002 not TOML: duplicate key"],
    );
}

#[test]
fn unknown_keys_are_found() {
    check(
        "sate = \"x\"\n[outbox]\nqouta = 1\n[telemetri]\nlisten = \"x\"\n[[peers]]\nsite = \"a\"\n",
        &[
            "culvert.toml:3 sate CULVERT-C003 no such key",
            "culvert.toml:5 outbox.qouta CULVERT-C003 no such key",
            "culvert.toml:6 telemetri CULVERT-C003 no such key",
            "culvert.toml:8 peers CULVERT-C003 no such key",
        ],
    );
}

#[test]
fn unknown_keys_get_the_nearest_name() {
    for (unknown, suggested) in [
        ("sate", Some("state")),
        ("outbox.qouta", Some("outbox.quota")),
        ("outbox.quota_bytes", Some("outbox.quota")),
        ("telemetri", Some("telemetry")),
        ("peers", Some("peer")),
        ("peer[2].adress", Some("peer[2].address")),
        ("quota", Some("outbox.quota")),
        ("log_level", Some("telemetry.log_level")),
        ("xyzzy", None),
    ] {
        assert_eq!(keys::suggestion(unknown).as_deref(), suggested, "{unknown}");
    }
}

#[test]
fn values_of_the_wrong_kind_are_found() {
    check(
        "[outbox]\nquota = \"10 GB/s\"\nengine = \"rocks\"\nflush_every = 5\ncache = \"1 B\"\nreserve = true\n",
        &[
            "culvert.toml:4 outbox.quota CULVERT-C004 \"10 GB/s\" is not a size",
            "culvert.toml:5 outbox.engine CULVERT-C004 \"rocks\" is not one of its words",
            "culvert.toml:6 outbox.flush_every CULVERT-C004 5 is not a duration",
            "culvert.toml:7 outbox.cache CULVERT-C004 \"1 B\" is out of bounds",
            "culvert.toml:8 outbox.reserve CULVERT-C004 true is not a size",
        ],
    );
    check(
        "state = 5\n[tunnel]\nlisten = \"localhost:7443\"\n[telemetry]\nlog_level = \"inof\"\nlisten = [\"a\"]\n",
        &[
            "culvert.toml:3 state CULVERT-C004 5 is not a path",
            "culvert.toml:5 tunnel.listen CULVERT-C004 \"localhost:7443\" is not an address to listen on",
            "culvert.toml:7 telemetry.log_level CULVERT-C004 \"inof\" is not a log filter",
            "culvert.toml:8 telemetry.listen CULVERT-C004 [\"a\"] is not an address to listen on",
        ],
    );
    for wrong in ["101", "-1", "1.5", "true", "\"many\""] {
        let said = format!(
            "culvert.toml:4 plugins.record_failures CULVERT-C004 {wrong} is no number that it can be"
        );
        check(&format!("[plugins]\nrecord_failures = {wrong}\n"), &[&said]);
    }
    check(
        "outbox = 3\npeer = 4\n[kafka]\nx = 2020-01-01\ny = [1]\n",
        &[
            "culvert.toml:3 outbox CULVERT-C004 is a table, not a value",
            "culvert.toml:4 peer CULVERT-C004 is not a list of tables",
            "culvert.toml:6 kafka.x CULVERT-C004 is not a single value",
            "culvert.toml:7 kafka.y CULVERT-C004 is not a single value",
        ],
    );
    let site = Site::new("gateway = \"GW_1\"\nsite = \"a b\"\n").mistakes();
    assert_eq!(
        site,
        [
            "culvert.toml:1 gateway CULVERT-C004 \"GW_1\" is not a name",
            "culvert.toml:2 site CULVERT-C004 \"a b\" is not a name",
        ]
    );
}

#[test]
fn keys_that_are_missing_are_found() {
    assert_eq!(
        Site::new("").mistakes(),
        [
            "culvert.toml gateway CULVERT-C005 is missing",
            "culvert.toml site CULVERT-C005 is missing",
        ]
    );
    check(
        "[[peer]]\nsite = \"site2\"\n[[grant]]\nto = \"site2\"\n",
        &[
            "culvert.toml identity.certificate CULVERT-C005 is missing, and there is a [[peer]]",
            "culvert.toml identity.key CULVERT-C005 is missing, and there is a [[peer]]",
            "culvert.toml identity.ca CULVERT-C005 is missing, and there is a [[peer]]",
            "culvert.toml:3 peer[0].gateways CULVERT-C005 is missing",
            "culvert.toml:5 grant[0].topics CULVERT-C005 is missing",
        ],
    );
}

#[test]
fn half_an_identity_is_a_mistake_without_a_peer_too() {
    check(
        "[identity]\nkey = \"k\"\n",
        &[
            "culvert.toml identity.certificate CULVERT-C005 is missing beside the other two",
            "culvert.toml identity.ca CULVERT-C005 is missing beside the other two",
        ],
    );
}

#[test]
fn keys_that_contradict_each_other_are_found() {
    let more = "\
[[peer]]
site = \"site2\"
gateways = [\"gw3\", \"gw2\"]
[[peer]]
site = \"site1\"
gateways = [\"gw1\"]
[[grant]]
to = \"site9\"
topics = [\"a\"]
[[grant]]
to = \"site9\"
topics = [\"a\"]
via = [\"site2\", \"site8\"]
[[relay]]
from = \"site2\"
to = \"site2\"
";
    check(
        &format!("{PEER}{more}"),
        &[
            "culvert.toml:12 peer[1].site CULVERT-C006 \"site2\" is also at culvert.toml:9",
            "culvert.toml:13 peer[1].gateways CULVERT-C006 \"gw2\" is also at culvert.toml:10",
            "culvert.toml:15 peer[2].site CULVERT-C006 \"site1\" is this gateway's own site",
            "culvert.toml:16 peer[2].gateways CULVERT-C006 \"gw1\" is this gateway's own gateway",
            "culvert.toml:18 grant[0].to CULVERT-C006 no [[peer]] has the site \"site9\"",
            "culvert.toml:23 grant[1].via CULVERT-C006 no [[peer]] has the site \"site8\"",
            "culvert.toml:26 relay[0].to CULVERT-C006 is where it comes from",
        ],
    );
}

#[test]
fn secrets_stand_as_references() {
    let toml = format!("{HEAD}[kafka]\nsasl.password = \"${{env:SECRET}}\"\nssl.key.password = \"open\"\n");
    let site = Site::new(&toml).variable("SECRET", "hunter2");
    assert_eq!(
        site.mistakes(),
        ["culvert.toml:5 kafka.ssl.key.password CULVERT-C007 is a secret and stands in the clear",]
    );
    let site = Site::new(&toml.replace("\"open\"", "\"${file:absent:x}\"")).variable("SECRET", "hunter2");
    let mistakes = site.mistakes();
    assert!(
        mistakes[0].starts_with("culvert.toml:5 kafka.ssl.key.password CULVERT-C008 read "),
        "{mistakes:?}"
    );
}

#[test]
fn a_resolved_secret_is_in_the_settings_and_nowhere_else() {
    let toml = format!("{HEAD}[kafka]\nsasl.password = \"${{env:SECRET}}\"\n");
    let json = r#"{"name": "c", "connector.class": "KafkaSource", "topics": "a", "kafka.ssl.key.password": "sw0rdfish",
                   "kafka.bootstrap.servers": "k:9092"}"#;
    let site = Site::new(&toml)
        .variable("SECRET", "hunter2")
        .connector("c.json", json);
    let config = site.load().expect("it is valid");
    assert_eq!(config.kafka.get("sasl.password"), Some("hunter2"));
    assert_eq!(
        config.connectors[0].shown.get("kafka.sasl.password"),
        Some("hunter2"),
        "connectors start from [kafka]"
    );
    let printed = format!("{config:?}");
    assert!(
        !printed.contains("hunter2") && !printed.contains("sw0rdfish"),
        "{printed}"
    );
    assert!(printed.contains("${env:SECRET}") && printed.contains(HIDDEN));
}

#[test]
fn both_forms_of_a_definition_are_read() {
    let site = Site::new(&format!("{HEAD}{PEER}"))
        .connector(
            "b.json",
            r#"{"name": "b", "config": {"connector.class": "GeneratorSource", "partitions": 3}}"#,
        )
        .connector(
            "a.json",
            r#"{"name": "a", "connector.class": "io.culvert.sqlite.SqliteSink", "topics": "orders",
                                 "culvert.from": "site9", "culvert.via": "site2", "culvert.start": "latest",
                                 "sqlite.path": "x.db", "value.converter": "ByteArrayConverter"}"#,
        )
        .connector("README.md", "not a connector")
        .connector(".hidden.json", "nor this");
    let config = site.load().expect("it is valid");
    let names: Vec<_> = config
        .connectors
        .iter()
        .map(|c| (c.name.as_str(), c.checked.class_name()))
        .collect();
    assert_eq!(
        names,
        [
            ("a", "io.culvert.sqlite.SqliteSink".into()),
            ("b", "io.culvert.generator.GeneratorSource".into())
        ]
    );
    let sink = &config.connectors[0];
    assert_eq!(
        (sink.from.as_deref(), sink.via.as_slice()),
        (Some("site9"), ["site2".to_owned()].as_slice())
    );
    assert_eq!(sink.start, connector::Start::Latest);
    let connector::Checked::GeneratorSource(generator) = &config.connectors[1].checked else {
        panic!("it is a generator");
    };
    assert_eq!(generator.partitions.get(), 3);
}

#[test]
fn what_is_not_json_is_said_with_its_line() {
    check_connector(
        "{\n \"name\": \"c\",\n}",
        &["connectors/c.json:3  CULVERT-C002 not JSON: trailing comma at line 3 column 1"],
    );
    check_connector("[1]", &["connectors/c.json:1  CULVERT-C002 is not a JSON object"]);
    check_connector(
        "{\n\"name\": \"c\",\n\"name\": \"c\",\n\"connector.class\": \"GeneratorSource\"}",
        &["connectors/c.json:3 name CULVERT-C006 is also at line 2"],
    );
}

#[test]
fn what_connectors_have_in_common_is_checked() {
    check_connector("{}", &["connectors/c.json name CULVERT-C005 is missing"]);
    check_connector(
        "{\"name\": \"a/b\"}",
        &["connectors/c.json:1 name CULVERT-C004 \"a/b\" is not a name"],
    );
    check_connector(
        "{\"name\": \"c\"}",
        &["connectors/c.json connector.class CULVERT-C005 is missing"],
    );
    check_connector(
        "{\"name\": \"c\",\n\"connector.class\": \"io.culvert.kafka.KafkaSnk\"}",
        &[
            "connectors/c.json:2 connector.class CULVERT-C009 this version has no class \"io.culvert.kafka.KafkaSnk\"",
        ],
    );
    check_connector(
        "{\"name\": \"c\", \"config\": {\n\"connector.class\": \"GeneratorSource\",\n\"name\": \"d\"}, \"x\": 1}",
        &[
            "connectors/c.json:3 x CULVERT-C003 no such key",
            "connectors/c.json:3 name CULVERT-C006 \"d\" differs from the definition's own name \"c\"",
        ],
    );
    check_connector(
        "{\"name\": \"c\",\n\"connector.class\": \"GeneratorSource\",\n\"tasks.max\": 65,\n\"culvert.start\": \"now\",\n\
         \"culvert.from\": \"site2\",\n\"count\": null,\n\"seed\": \"${env:ABSENT}\"}",
        &[
            "connectors/c.json:3 tasks.max CULVERT-C004 \"65\" is not a number of tasks",
            "connectors/c.json:4 culvert.start CULVERT-C004 \"now\" is not one of its words",
            "connectors/c.json:5 culvert.from CULVERT-C006 is a key of sinks",
            "connectors/c.json:6 count CULVERT-C004 is not a single value",
            "connectors/c.json:7 seed CULVERT-C008 environment variable ABSENT is not set",
        ],
    );
}

#[test]
fn a_quota_is_a_size_and_of_sources_alone() {
    let source = |quota: &str| {
        format!("{{\"name\": \"c\", \"connector.class\": \"GeneratorSource\",\n\"culvert.quota\": {quota}}}")
    };
    for (written, bytes) in [
        ("\"2 GiB\"", 2 << 30),
        ("\"1MiB\"", 1 << 20),
        ("1500000", 1_500_000),
    ] {
        let site = Site::new(HEAD).connector("c.json", &source(written));
        let quota = site.load().expect("it is valid").connectors[0].quota;
        assert_eq!(quota, Some(ByteSize(bytes)), "{written}");
    }
    let site = Site::new(HEAD).connector("c.json", r#"{"name": "c", "connector.class": "GeneratorSource"}"#);
    assert_eq!(site.load().expect("it is valid").connectors[0].quota, None);
    for wrong in ["1 KiB", "much", "0", "", "2 PiB", "2048 TiB"] {
        let said =
            format!("connectors/c.json:2 culvert.quota CULVERT-C004 {wrong:?} is no quota of a stream");
        check_connector(&source(&format!("{wrong:?}")), &[&said]);
    }
    check_connector(
        "{\"name\": \"c\", \"connector.class\": \"SqliteSink\", \"topics\": \"a\", \"sqlite.path\": \"x\",\n\
         \"culvert.from\": \"site2\", \"culvert.quota\": \"2 GiB\"}",
        &["connectors/c.json:2 culvert.quota CULVERT-C006 is a key of sources"],
    );
}

#[test]
fn a_priority_is_one_of_three_words_and_of_sources_alone() {
    let source = |priority: &str| {
        format!(
            "{{\"name\": \"c\", \"connector.class\": \"GeneratorSource\",\n\"culvert.priority\": {priority:?}}}"
        )
    };
    for (written, priority) in [
        ("high", Priority::High),
        ("normal", Priority::Normal),
        ("low", Priority::Low),
    ] {
        let site = Site::new(HEAD).connector("c.json", &source(written));
        assert_eq!(site.load().expect("it is valid").connectors[0].priority, priority);
    }
    for wrong in ["High", "1", "lowest", ""] {
        let said =
            format!("connectors/c.json:2 culvert.priority CULVERT-C004 {wrong:?} is not one of its words");
        check_connector(&source(wrong), &[&said]);
    }
    check_connector(
        "{\"name\": \"c\", \"connector.class\": \"SqliteSink\", \"topics\": \"a\", \"sqlite.path\": \"x\",\n\
         \"culvert.from\": \"site2\", \"culvert.priority\": \"low\"}",
        &["connectors/c.json:2 culvert.priority CULVERT-C006 is a key of sources"],
    );
}

#[test]
fn a_sink_names_sites_that_can_be_reached() {
    let sink = |more: &str| {
        format!(
            "{{\"name\": \"c\", \"connector.class\": \"SqliteSink\", \"topics\": \"a\", \"sqlite.path\": \"x\",\n{more}}}"
        )
    };
    check_connector(
        &sink("\"culvert.from\": \"site3\""),
        &["connectors/c.json:2 culvert.from CULVERT-C006 no [[peer]] has the site \"site3\""],
    );
    check_connector(
        &sink("\"culvert.from\": \"site3\", \"culvert.via\": \"site4\""),
        &["connectors/c.json:2 culvert.via CULVERT-C006 no [[peer]] has the site \"site4\""],
    );
    check_connector(
        &sink("\"culvert.via\": \"site2\""),
        &["connectors/c.json:2 culvert.via CULVERT-C006 stands without culvert.from"],
    );
    check_connector(
        &sink("\"culvert.from\": \"site2\", \"culvert.via\": \"site2\""),
        &["connectors/c.json:2 culvert.via CULVERT-C006 names the origin itself"],
    );
    check_connector(
        &sink("\"culvert.from\": \"site3\", \"culvert.via\": \"site4,site2\""),
        &["connectors/c.json:2 culvert.via CULVERT-C010 is not supported by this version"],
    );
    check_connector(
        &sink("\"culvert.start\": \"latest\""),
        &["connectors/c.json culvert.from CULVERT-C005 is missing"],
    );
    check_connector(
        &sink("\"culvert.from\": \"site3\", \"culvert.via\": \"site2\""),
        &[],
    );
}

#[test]
fn settings_of_kafka_connect_that_cannot_be_honoured_are_refused() {
    let class = "\"name\": \"c\", \"connector.class\": \"GeneratorSource\"";
    for (key, value, refused) in [
        (
            "header.converter",
            "org.apache.kafka.connect.json.JsonConverter",
            true,
        ),
        (
            "value.converter",
            "org.apache.kafka.connect.converters.ByteArrayConverter",
            false,
        ),
        ("errors.tolerance", "all", true),
        ("errors.retry.timeout", "1000", true),
        ("errors.tolerance", "none", false),
        ("errors.deadletterqueue.topic.name", "dlq", true),
        ("exactly.once.support", "required", false),
        ("offsets.storage.topic", "x", true),
    ] {
        let expected = format!("connectors/c.json:2 {key} CULVERT-C010 is not supported by this version");
        let expected: &[&str] = if refused { &[expected.as_str()] } else { &[] };
        check_connector(&format!("{{{class},\n\"{key}\": \"{value}\"}}"), expected);
    }
}

#[test]
fn a_connectors_own_mistakes_come_with_file_and_line() {
    check_connector(
        "{\"name\": \"c\", \"connector.class\": \"GeneratorSource\",\n\"kind\": \"poems\",\n\"cuont\": 1}",
        &[
            "connectors/c.json:2 kind CULVERT-C011 cannot be \"poems\"",
            "connectors/c.json:3 cuont CULVERT-C011 is not a key of this connector",
        ],
    );
    let site = Site::new(HEAD).variable("SECRET", "hunter2").connector(
        "c.json",
        "{\"name\": \"c\", \"connector.class\": \"GeneratorSource\", \"kind\": \"${env:SECRET}\"}",
    );
    assert_eq!(
        site.mistakes(),
        ["connectors/c.json:1 kind CULVERT-C011 cannot be \"${env:SECRET}\""]
    );
}

#[test]
fn two_connectors_of_one_name_are_a_mistake() {
    let json = "{\"connector.class\": \"GeneratorSource\",\n\"name\": \"c\"}";
    let site = Site::new(HEAD)
        .connector("a.json", json)
        .connector("b.json", json);
    let mistakes = site.mistakes();
    assert_eq!(
        mistakes,
        ["connectors/b.json:2 name CULVERT-C006 \"c\" is also the name of connectors/a.json"]
    );
}

#[test]
fn the_control_socket_is_found_among_mistakes() {
    let site = Site::new("state = \"s\"\nnonsense = 1\n[outbox]\nquota = 0\n");
    let file = site.directory.path().join("culvert.toml");
    let socket = control_socket(&file, &Environment::default()).expect("the key is right");
    assert_eq!(socket, site.directory.path().join("s/control.sock"));
    std::fs::write(&file, "state = 5\n").expect("write");
    let mistakes = control_socket(&file, &Environment::default())
        .expect_err("the key is wrong")
        .to_string();
    assert!(mistakes.contains("state"), "{mistakes}");
}

#[test]
fn the_reference_page_is_the_one_in_docs() {
    let committed = include_str!("../../../docs/reference/config.md");
    assert!(
        committed == reference_page::page(),
        "run `culvert config reference > docs/reference/config.md`"
    );
}

/// A good file and connector, broken in every way that comes to mind: one change each.
#[test]
fn malformed_configurations_are_refused_by_name() {
    let good = format!(
        "{HEAD}state = \"s\"\n{}{PEER}address = \"gw2:7443\"\n",
        settings()
    );
    assert_eq!(Site::new(&good).mistakes(), [""; 0], "the good one is good");
    let mut cases = 0;
    for (n, line) in good.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else {
            continue;
        };
        for value in VALUES {
            let broken = replace_line(&good, n, &format!("{key} = {value}"));
            refused_by_name(&broken, key);
            cases += 1;
        }
        for (wrong, name) in [
            (format!("{key}x"), format!("{key}x")),
            (format!("x{key}"), format!("x{key}")),
        ] {
            refused_by_name(&replace_line(&good, n, &format!("{wrong} = 1")), &name);
            cases += 1;
        }
    }
    assert!(cases >= 200, "{cases} cases");
}

/// No value of any key.
const VALUES: [&str; 12] = [
    "-1",
    "1e400",
    "nan",
    "true",
    "[]",
    "[[]]",
    "{}",
    "\"\"",
    "\"\\u0000\"",
    "2020-01-01",
    "[\"\", 1]",
    "\"\\n\\u001b[2J\"",
];

fn settings() -> String {
    let mut text = String::new();
    let mut table = "";
    for key in keys::KEYS
        .iter()
        .filter(|key| !key.path.contains(['[', '*']) && key.path.contains('.'))
    {
        let (section, name) = key.path.split_once('.').expect("it has a dot");
        let keys::Need::Default(default) = key.need else {
            continue;
        };
        if section == "identity" || name == "directory" {
            continue;
        }
        if section != table {
            let _ = writeln!(text, "[{section}]");
            table = section;
        }
        let _ = writeln!(text, "{name} = {default:?}");
    }
    text
}

fn replace_line(text: &str, n: usize, line: &str) -> String {
    text.lines()
        .enumerate()
        .map(|(at, old)| if at == n { line } else { old })
        .fold(String::new(), |text, line| text + line + "\n")
}

fn refused_by_name(toml: &str, key: &str) {
    let mistakes = Site::new(toml).load().expect_err(toml).0;
    let named = mistakes
        .iter()
        .any(|m| m.key.rsplit('.').next().is_some_and(|last| last == key));
    assert!(
        named || mistakes.iter().any(|m| m.code == "CULVERT-C002"),
        "{toml}\n{mistakes:?}"
    );
    assert!(
        mistakes.iter().all(|m| !m.to_string().contains('\u{1b}')),
        "{mistakes:?}"
    );
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_panic(edits in proptest::collection::vec((0usize..400, proptest::prelude::any::<char>()), 1..6)) {
        let mut toml: Vec<char> = format!("{HEAD}{PEER}[kafka]\na.b = \"${{env:X}}\"\n").chars().collect();
        let json = "{\"name\": \"c\", \"config\": {\"connector.class\": \"GeneratorSource\", \"kind\": \"${file:a:b}\"}}";
        let mut json: Vec<char> = json.chars().collect();
        for (at, with) in edits {
            let (in_toml, in_json) = (at % toml.len(), at % json.len());
            (toml[in_toml], json[in_json]) = (with, with);
        }
        let (toml, json): (String, String) = (toml.into_iter().collect(), json.into_iter().collect());
        if let Err(mistakes) = Site::new(&toml).connector("c.json", &json).load() {
            assert!(!mistakes.0.is_empty() && !mistakes.to_string().is_empty());
        }
    }
}

// ----- stages ----------------------------------------------------------------------------------------------------

/// A generator with these settings of stages has exactly these mistakes. The bundled plugins are those of
/// `cargo xtask plugins`.
fn check_stages(settings: &str, expected: &[&str]) {
    let json = format!(
        "{{\"name\": \"c\", \"connector.class\": \"GeneratorSource\", \"topic\": \"t\", \"shape\": \"orders\",\n{settings}}}"
    );
    let mistakes = Site::new(HEAD).connector("c.json", &json).mistakes();
    let of_stages: Vec<&String> = mistakes
        .iter()
        .filter(|said| said.contains("transforms") || said.contains("predicates"))
        .collect();
    assert_eq!(of_stages, expected, "{settings}\n{mistakes:#?}");
}

#[test]
fn stages_are_checked_by_what_their_plugin_says_of_itself() {
    check_stages(
        "\"transforms\": \"a\", \"transforms.a.type\": \"order-check\"",
        &[],
    );
    check_stages(
        "\"transforms\": \"a, b\", \"transforms.a.type\": \"order-check\", \"transforms.a.transform\": \"storage\",
         \"transforms.b.type\": \"field-policy\", \"transforms.b.mask\": \"/customer_id\", \"transforms.b.culvert.time.max\": \"250ms\"",
        &[],
    );
    check_stages(
        "\"transforms\": \"a\"",
        &["connectors/c.json transforms.a.type CULVERT-C005 is missing"],
    );
    check_stages(
        "\"transforms\": \"a\", \"transforms.a.type\": \"order-chekc\"",
        &["connectors/c.json:2 transforms.a.type CULVERT-C004 no transform plugin is called \"order-chekc\""],
    );
    check_stages(
        "\"transforms\": \"a\", \"transforms.a.type\": \"order-check\", \"transforms.a.transform\": \"x\"",
        &["connectors/c.json:2 transforms.a.transform CULVERT-C011 \"x\" is not valid"],
    );
    check_stages(
        "\"transforms\": \"a\", \"transforms.a.type\": \"order-check\", \"transforms.a.tranform\": \"off\"",
        &["connectors/c.json:2 transforms.a.tranform CULVERT-C003 is not a key of this plugin"],
    );
    check_stages(
        "\"transforms\": \"a\", \"transforms.a.type\": \"order-check\", \"transforms.b.type\": \"order-check\"",
        &["connectors/c.json:2 transforms.b.type CULVERT-C003 is of no stage that transforms names"],
    );
    check_stages(
        "\"transforms\": \"a\", \"transforms.a.type\": \"order-check\", \"transforms.a.culvert.memory.max\": \"2GiB\"",
        &["connectors/c.json:2 transforms.a.culvert.memory.max CULVERT-C004 \"2GiB\" is no amount of memory"],
    );
    check_stages(
        "\"transforms\": \"a,a\", \"transforms.a.type\": \"order-check\"",
        &["connectors/c.json:2 transforms CULVERT-C006 names \"a\" twice"],
    );
}

/// Kafka Connect's own words, unchanged.
#[test]
fn connects_transformations_are_named_by_their_classes() {
    const PACKAGE: &str = "org.apache.kafka.connect.transforms";
    check_stages(
        &format!(
            "\"transforms\": \"a,b\", \"transforms.a.type\": \"{PACKAGE}.InsertField$Value\",
             \"transforms.a.static.field\": \"site\", \"transforms.a.static.value\": \"plant\",
             \"transforms.b.type\": \"ReplaceField$Key\", \"transforms.b.blacklist\": \"x\", \"transforms.b.renames\": \"a:b, c:d\""
        ),
        &[],
    );
    check_stages(
        "\"transforms\": \"a\", \"transforms.a.type\": \"InsertField\"",
        &["connectors/c.json:2 transforms.a.type CULVERT-C004 no transform plugin is called \"InsertField\""],
    );
    check_stages(
        "\"transforms\": \"a,b,c\", \"transforms.a.type\": \"HoistField$Value\", \"transforms.a.feild\": \"x\",
         \"transforms.b.type\": \"TimestampConverter$Value\", \"transforms.b.target.type\": \"date\",
         \"transforms.c.type\": \"ReplaceField$Value\", \"transforms.c.renames\": \"a\"",
        &[
            "connectors/c.json transforms.a.field CULVERT-C005 is missing",
            "connectors/c.json:2 transforms.a.feild CULVERT-C003 is not a key of this plugin",
            "connectors/c.json:3 transforms.b.target.type CULVERT-C011 \"date\" is not valid",
            "connectors/c.json:4 transforms.c.renames CULVERT-C011 \"a\" is not valid",
        ],
    );
}

/// A record is read and written once for all transformations that follow each other.
#[test]
fn transformations_that_follow_each_other_are_one_stage() {
    let stages = |more: &str| {
        let json = format!(
            "{{\"name\": \"c\", \"connector.class\": \"GeneratorSource\",
             \"transforms\": \"a,b,c\", \"transforms.a.type\": \"Flatten$Value\", \"transforms.b.type\": \"Filter\",
             \"transforms.c.type\": \"Flatten$Key\"{more}}}"
        );
        let config = Site::new(HEAD).connector("c.json", &json).load().unwrap();
        let names = config.connectors[0]
            .stages
            .iter()
            .map(|stage| stage.name.to_string());
        names.collect::<Vec<String>>()
    };
    assert_eq!(stages(""), ["a+b+c"]);
    let predicate = ", \"predicates\": \"p\", \"predicates.p.type\": \"RecordIsTombstone\", \"transforms.b.predicate\": \"p\"";
    assert_eq!(stages(predicate), ["a", "b", "c"]);
    assert_eq!(
        stages(", \"transforms.c.culvert.time.max\": \"2s\""),
        ["a+b", "c"]
    );
}

#[test]
fn predicates_are_named_defined_and_used() {
    let stage = "\"transforms\": \"a\", \"transforms.a.type\": \"Filter\"";
    let check = |more: &str, expected: &[&str]| check_stages(&format!("{stage}, {more}"), expected);
    check(
        "\"transforms.a.predicate\": \"p\", \"transforms.a.negate\": \"true\", \"predicates\": \"p\",
         \"predicates.p.type\": \"org.apache.kafka.connect.transforms.predicates.TopicNameMatches\",
         \"predicates.p.pattern\": \"orders-.*\"",
        &[],
    );
    check(
        "\"transforms.a.predicate\": \"q\", \"predicates\": \"p,r\", \"predicates.p.type\": \"HasHeaderKey\",
         \"predicates.r.type\": \"IsTombstone\"",
        &[
            "connectors/c.json predicates.p.name CULVERT-C005 is missing",
            "connectors/c.json:2 transforms.a.predicate CULVERT-C004 \"q\" is not among the predicates",
            "connectors/c.json:2 predicates CULVERT-C006 defines \"p\", which no stage uses",
            "connectors/c.json:2 predicates CULVERT-C006 defines \"r\", which no stage uses",
            "connectors/c.json:3 predicates.r.type CULVERT-C004 there is no predicate \"IsTombstone\"",
        ],
    );
    check(
        "\"transforms.a.negate\": \"true\"",
        &["connectors/c.json:2 transforms.a.negate CULVERT-C006 negates a predicate, and none is named"],
    );
    check(
        "\"transforms.a.predicate\": \"p\", \"predicates\": \"p\", \"predicates.p.type\": \"TopicNameMatches\",
         \"predicates.p.pattern\": \"(?!a).*\", \"predicates.q.type\": \"HasHeaderKey\"",
        &[
            "connectors/c.json:3 predicates.p.pattern CULVERT-C004 \"(?!a).*\" cannot be read as a regular expression",
            "connectors/c.json:3 predicates.q.type CULVERT-C003 is of no predicate that predicates names",
        ],
    );
}

/// S10: refused records are never thrown away.
#[test]
fn dead_letters_need_a_place() {
    let sink = |more: &str| {
        format!(
            "{{\"name\": \"c\", \"connector.class\": \"KafkaSink\", \"topics\": \"t\", \"culvert.from\": \"site2\",
             \"kafka.bootstrap.servers\": \"k:9092\",\n{more}}}"
        )
    };
    check_connector(
        &sink("\"errors.tolerance\": \"all\""),
        &["connectors/c.json:3 errors.deadletterqueue.topic.name CULVERT-C005 is missing"],
    );
    check_connector(
        &sink("\"errors.tolerance\": \"all\", \"errors.deadletterqueue.topic.name\": \"dead\""),
        &[],
    );
    check_connector(
        &sink("\"errors.tolerance\": \"some\""),
        &["connectors/c.json:3 errors.tolerance CULVERT-C004 \"some\" is not one of its words"],
    );
}

/// A Kafka source has a cluster to keep them in. Any other source has not, and is told what helps.
#[test]
fn of_sources_only_those_of_kafka_keep_dead_letters() {
    let source = |class: &str, more: &str| {
        format!("{{\"name\": \"c\", \"connector.class\": \"{class}\",\n\"errors.tolerance\": \"all\"{more}}}")
    };
    let kafka = ",\n\"kafka.bootstrap.servers\": \"k:9092\", \"topics\": \"t\"";
    check_connector(
        &source("KafkaSource", kafka),
        &["connectors/c.json:2 errors.deadletterqueue.topic.name CULVERT-C005 is missing"],
    );
    let topic = ", \"errors.deadletterqueue.topic.name\": \"dead\"";
    check_connector(&source("KafkaSource", &format!("{kafka}{topic}")), &[]);
    for class in ["GeneratorSource", "file-source", "http-poll"] {
        let definition = source(class, "");
        let site = Site::new(HEAD).connector("c.json", &definition);
        let mistakes = site.load().expect_err("it has nowhere to keep them").0;
        let told = mistakes.iter().find(|mistake| mistake.key == "errors.tolerance");
        let told = told.unwrap_or_else(|| panic!("{class}: {mistakes:?}"));
        assert!(
            told.code == "CULVERT-C010" && told.hint.contains("transforms of the sink"),
            "{class}: {told}"
        );
    }
}

// ----- connectors that are plugins -------------------------------------------------------------------------------

#[test]
fn a_plugin_that_is_no_source_and_no_sink_is_no_class() {
    let class = |class: &str| format!("{{\"name\": \"c\", \"connector.class\": \"{class}\"}}");
    let expected = [
        "connectors/c.json:1 connector.class CULVERT-C009 plugin order-check is a transform, and no connector",
    ];
    check_connector(&class("order-check"), &expected);
    check_connector(&class("io.culvert.plugin.order-check"), &expected);
}
