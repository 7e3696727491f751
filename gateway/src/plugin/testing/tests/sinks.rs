//! Sinks with one fault each, which must be found, and sinks without, in which none must be.

use super::*;

fn tried(plugin: &Subject, cases: &[Case], set: &[(&str, &str)], seed: u64, runs: u64) -> Explored {
    let options = Options {
        runs,
        ..options(seed, set)
    };
    explore(plugin, cases, &options, &mut |_| ()).expect("it can be tried")
}

fn leaky() -> (Subject, Vec<Case>) {
    let plugin = subject("tests/leaky-sink");
    let folder = format!("{}/../plugins/leaky-sink/cases", env!("CARGO_MANIFEST_DIR"));
    let cases = read_cases(Path::new(&folder), &plugin.plugin().description).expect("its cases");
    (plugin, cases)
}

fn verdict(explored: &Explored, promise: Promise) -> &Verdict {
    let found = explored
        .promises
        .iter()
        .find(|verdict| verdict.promise == promise);
    found.expect("a verdict on each promise")
}

/// Each of its faults breaks `transactional`, with the smallest script already.
#[test]
fn a_sink_that_breaks_its_promise_is_found() {
    let (plugin, cases) = leaky();
    let check = |fault: &str, how: &str| {
        let explored = tried(&plugin, &cases, &[("fault", fault)], 1, 1);
        assert!(!explored.held(), "{fault}");
        let verdict = verdict(&explored, Promise::Transactional);
        let breach = verdict
            .breach
            .as_ref()
            .unwrap_or_else(|| panic!("{fault}: {explored:?}"));
        assert!(breach.how.contains(how), "{fault}: {breach:?}");
        assert!(
            !breach.steps.is_empty() && breach.expected != breach.got,
            "{fault}: {breach:?}"
        );
    };
    check("token-first", "cut off at call 6 of write 1 (files.append)");
    check("no-truncate", "cut off at call 4 of write 1 (files.append)");
    check("ignores-writer", "another writer opened the target");
    check("forgets-token", "without any fault");
    check("ignores-from", "begins behind where its stream stands");
    check("applies-twice", "without any fault");
    check("drops-last", "without any fault");
    check("writes-refused", "is refused: refuse");
    check("skips-empty", "without any fault");
}

#[test]
fn a_sink_that_keeps_its_promise_is_found_to_keep_it() {
    let (plugin, cases) = leaky();
    let explored = tried(&plugin, &cases, &[("fault", "none")], 7, 50);
    let verdict = verdict(&explored, Promise::Transactional);
    assert!(explored.held() && verdict.breach.is_none(), "{explored:?}");
    assert!(verdict.attacks > 100, "{}", verdict.attacks);
    for case in &cases {
        let (report, _) = run_case(&plugin, case, false);
        assert!(report.misses.is_empty(), "{:?}", report.misses);
    }
}

#[test]
fn bundled_sinks_hold_what_they_promise() {
    let check = |name: &str, promise: Promise, settings: usize| {
        let explored = tried(&subject(name), &[], &[], 1, 1);
        let verdict = verdict(&explored, promise);
        assert!(
            explored.held() && verdict.breach.is_none(),
            "{name}: {explored:#?}"
        );
        assert!(verdict.declared && verdict.attacks > 50, "{name}: {explored:#?}");
        let opened = explored
            .openings
            .iter()
            .filter(|opening| opening.refused.is_none());
        assert_eq!(opened.count(), settings, "{name}: {:?}", explored.openings);
    };
    check("file-sink", Promise::Transactional, 2);
    check("http-sink", Promise::Idempotent, 4);
}

#[test]
fn a_promise_of_another_role_is_not_attacked() {
    let explored = tried(&subject("file-sink"), &[], &[], 1, 0);
    for promise in [Promise::Deterministic, Promise::Stateless, Promise::Replayable] {
        let verdict = verdict(&explored, promise);
        assert!(verdict.cannot.is_some() && verdict.attacks == 0, "{verdict:?}");
    }
}
