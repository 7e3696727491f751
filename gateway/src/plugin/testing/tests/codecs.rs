//! Codecs with one fault each, which must be found, and codecs without, in which none must be.

use super::*;

fn tried(plugin: &Subject, cases: &[Case], set: &[(&str, &str)], seed: u64) -> Explored {
    let options = Options {
        runs: 60,
        ..options(seed, set)
    };
    explore(plugin, cases, &options, &mut |_| ()).expect("it can be tried")
}

#[test]
fn a_codec_that_breaks_a_rule_is_found() {
    let plugin = subject("tests/shaky-codec");
    let check = |fault: &str, what: &str| {
        for seed in [1, 2] {
            let explored = tried(&plugin, &[], &[("breaks", fault)], seed);
            assert!(!explored.held(), "{fault}, seed {seed}: {explored:?}");
            let troubles = explored.troubles.iter().map(|trouble| trouble.what.clone());
            let breaches = explored
                .promises
                .iter()
                .filter_map(|verdict| verdict.breach.as_ref());
            let told: Vec<String> = troubles
                .chain(breaches.map(|breach| breach.how.clone()))
                .collect();
            assert!(
                told.iter().any(|told| told.contains(what)),
                "{fault}, seed {seed}: {told:?}"
            );
            let shown = explored.troubles.first().map_or(1, |trouble| trouble.batch.len());
            assert!(
                shown <= 1,
                "{fault}, seed {seed}: one payload is enough: {:?}",
                explored.troubles
            );
        }
    };
    check("panics", "it traps");
    check("lenient", "bytes that are cut off are taken for whole");
    check("unescaped", "does not take back");
    check("grows", "bytes made of JSON are other JSON than that");
    check("fatal", "ends the task");
    check("any-schema", "what is no schema is taken for one");
    check("clock", "at another time");
    check("tree", "a tree is another value than the JSON");
    assert!(!tried(&plugin, &[], &[("breaks", "seen")], 1).held());
}

#[test]
fn a_codec_that_keeps_all_rules_is_found_to_keep_them() {
    let check = |name: &str, cases: &str, set: &[(&str, &str)]| {
        let plugin = subject(name);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../plugins")
            .join(cases);
        let cases = read_cases(&folder.join("cases"), &plugin.plugin().description).expect("cases");
        for case in &cases {
            let (report, _) = run_case(&plugin, case, false);
            assert!(report.misses.is_empty(), "{name}: {report:#?}");
        }
        let explored = tried(&plugin, &cases, set, 1);
        assert!(explored.held(), "{name}: {explored:#?}");
        for verdict in explored.promises.iter().filter(|verdict| verdict.declared) {
            assert!(
                verdict.attacks > 50 && verdict.breach.is_none(),
                "{name}: {verdict:?}"
            );
        }
        assert!(explored.messages > 300, "{name}: {explored:#?}");
    };
    check("avro", "avro", &[]);
    check("protobuf", "protobuf", &[]);
    check("json", "json", &[]);
    check("connect-json", "connect-json", &[]);
    check("tests/table-codec", "book/table-codec", &[("columns", "id,name")]);
    check("tests/shaky-codec", "shaky-codec", &[("breaks", "none")]);
}
