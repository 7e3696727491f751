//! What a connector's settings grant to a plugin, and what is said where they do not.

use super::*;

/// A generator with a stage of `reach`, which imports every capability that is granted, and these settings of it.
fn granting(settings: &[(&str, &str)]) -> Site {
    let plugins = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/plugins/tests");
    let mut json = String::from(
        "{\"name\": \"c\", \"connector.class\": \"GeneratorSource\",
         \"transforms\": \"a\", \"transforms.a.type\": \"reach\"",
    );
    for (key, value) in settings {
        write!(json, ",\n\"transforms.a.culvert.grant.{key}\": \"{value}\"").expect("a text grows");
    }
    json.push('}');
    Site::new(&format!("{HEAD}plugins.directory = \"{plugins}\"\n"))
        .variable("API_KEY", "correct-horse")
        .connector("c.json", &json)
}

/// All that `reach` needs.
const GRANTED: [(&str, &str); 4] = [
    ("secrets.api", "${env:API_KEY}"),
    ("secrets.reveal", "api"),
    (
        "http",
        "GET,POST https://api.example.org/v1/*; GET https://other.example.org/x",
    ),
    ("files", "read /var/lib/in; write out"),
];

fn check_grants(settings: &[(&str, &str)], expected: &[&str]) {
    let mistakes = granting(settings).mistakes();
    let of_grants: Vec<String> = mistakes
        .iter()
        .filter_map(|said| Some(said.split_once("transforms.a.culvert.grant.")?.1.to_owned()))
        .collect();
    assert_eq!(of_grants.len(), expected.len(), "{settings:?}\n{mistakes:#?}");
    for (said, expected) in of_grants.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said} is not {expected}");
    }
}

#[test]
fn what_a_plugin_imports_has_to_be_granted_and_all_that_is_not_is_said_together() {
    check_grants(
        &[],
        &[
            "secrets.NAME CULVERT-W030 is missing: plugin reach imports secrets, for this: tests ask for them",
            "secrets.reveal CULVERT-W030 is missing: plugin reach imports secrets-reveal, for this: tests look",
            "http CULVERT-W030 is missing: plugin reach imports http, for this: tests make requests",
            "files CULVERT-W030 is missing: plugin reach imports files, for this: tests read and write",
        ],
    );
    check_grants(&GRANTED[..2], &["http CULVERT-W030", "files CULVERT-W030"]);
    check_grants(&GRANTED, &[]);
}

#[test]
fn a_stage_that_wants_a_store_is_told_that_only_sources_have_one() {
    for granted in ["", ", \"transforms.a.culvert.grant.state\": \"true\""] {
        let plugins = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/plugins/tests");
        let json = format!(
            "{{\"name\": \"c\", \"connector.class\": \"GeneratorSource\", \"transforms\": \"a\",
             \"transforms.a.type\": \"tally\"{granted}}}"
        );
        let site =
            Site::new(&format!("{HEAD}plugins.directory = \"{plugins}\"\n")).connector("c.json", &json);
        let mistakes = site.mistakes();
        let of_state: Vec<&String> = mistakes
            .iter()
            .filter(|said| said.contains("grant.state"))
            .collect();
        assert_eq!(of_state.len(), 1, "{mistakes:#?}");
        assert!(
            of_state[0].contains("CULVERT-W080 cannot be granted: plugin tally is no source"),
            "{}",
            of_state[0]
        );
    }
}

#[test]
fn a_grant_says_exactly_what_it_grants() {
    let with = |key: &str, value: &str, expected: &[&str]| {
        let mut settings: Vec<(&str, &str)> = GRANTED
            .iter()
            .copied()
            .filter(|(known, _)| *known != key)
            .collect();
        settings.push((key, value));
        check_grants(&settings, expected);
    };
    with(
        "secrets.other",
        "hunter2",
        &["secrets.other CULVERT-C007 stands in the clear"],
    );
    with(
        "secrets.other",
        "${env:API_KEY}x",
        &["secrets.other CULVERT-C007 stands in the clear"],
    );
    with(
        "secrets.reveal",
        "api,nobody",
        &["secrets.reveal CULVERT-C006 names \"nobody\", which is not granted"],
    );
    with("http", "https://api.example.org/", &["http CULVERT-C004"]);
    with("http", "GET https://*.example.org/", &["http CULVERT-C004"]);
    with("files", "read ../up", &["files CULVERT-C004"]);
    with("file", "read /x", &["file CULVERT-C003 is no grant"]);
    with("http.ca", "nowhere.pem", &["http.ca CULVERT-C001"]);
    with(
        "state",
        "true",
        &["state CULVERT-C006 grants state, which plugin reach does not import"],
    );
}

#[test]
fn a_granted_secret_is_not_shown() {
    let config = granting(&GRANTED).load().expect("a valid configuration");
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("correct-horse") && shown.contains("${env:API_KEY}"),
        "{shown}"
    );
    let grants = config.connectors[0].stages[0].plan.grants.shown();
    let texts: Vec<String> = grants
        .iter()
        .map(|(what, grant)| format!("{what} {grant}"))
        .collect();
    assert_eq!(texts[0], "secrets api, its bytes");
    assert_eq!(texts[1], "http GET,POST https://api.example.org:443/v1/*");
    assert!(
        texts[3].ends_with("read /var/lib/in") && texts[4].ends_with("/out"),
        "{texts:?}"
    );
}
