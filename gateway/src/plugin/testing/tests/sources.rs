//! Sources with one fault each, which must be found, and sources without, in which none must be.

use super::*;

fn tried(plugin: &Subject, set: &[(&str, &str)], runs: u64) -> (Explored, Verdict) {
    let options = Options {
        runs,
        ..options(1, set)
    };
    let explored = explore(plugin, &[], &options, &mut |_| ()).expect("it can be tried");
    let verdicts = explored.promises.iter();
    let found = verdicts
        .clone()
        .find(|verdict| verdict.promise == Promise::Replayable);
    let verdict = found.expect("a verdict on each promise").clone();
    (explored, verdict)
}

#[test]
fn a_source_that_breaks_its_promise_is_found() {
    let plugin = subject("tests/ledger");
    let check = |fault: &str, how: &str| {
        let (explored, verdict) = tried(&plugin, &[("misbehave", fault), ("page", "10")], 1);
        assert!(!explored.held(), "{fault}");
        let breach = verdict.breach.unwrap_or_else(|| panic!("{fault}: {explored:?}"));
        assert!(breach.how.contains(how), "{fault}: {breach:?}");
        assert!(
            !breach.steps.is_empty() && breach.expected != breach.got,
            "{fault}: {breach:?}"
        );
    };
    check("forgets", "opened from the resume point before page 2");
    check("doubles", "opened from the resume point before page 2");
    check("reorders", "opened from the resume point before page 2");
    check("ahead", "opened from the resume point before page 2");
    check("memory", "opened from the resume point before page 2");
    check("clock", "at another time");
    check("settles", "told late");
}

#[test]
fn a_source_that_keeps_its_promise_is_found_to_keep_it() {
    let check = |name: &str, set: &[(&str, &str)], is_declared: bool, runs: u64| {
        let (explored, verdict) = tried(&subject(name), set, runs);
        assert!(
            explored.held() && verdict.breach.is_none(),
            "{name}: {explored:#?}"
        );
        assert_eq!(verdict.declared, is_declared, "{name}");
        assert!(
            verdict.attacks > 50 && explored.messages > 500,
            "{name}: {explored:#?}"
        );
        assert!(explored.notes.is_empty(), "{name}: {:?}", explored.notes);
    };
    check("tests/ledger", &[("misbehave", "none"), ("page", "10")], true, 50);
    check("tests/ledger", &[("misbehave", "retry"), ("page", "10")], true, 1);
    check("file-source", &[], true, 100);
    // It promises nothing, and holds it as long as its server answers the same.
    let paged = [
        ("records", "/items"),
        ("key", "/id"),
        ("cursor.pointer", "/next"),
        ("auth", "none"),
    ];
    check("http-poll", &paged, false, 50);
}

/// What a source must do whatever it promises.
#[test]
fn a_source_that_does_not_bring_pages_is_in_trouble() {
    let (explored, _) = tried(&subject("tests/ledger"), &[("misbehave", "page")], 1);
    assert!(!explored.held());
    let what = &explored.troubles.first().expect("a trouble").what;
    assert!(what.contains("message 0 lies before resume point 7"), "{what}");
    // Settings that the plugin itself finds wrong, and a plugin that cannot say.
    let check = |set: &[(&str, &str)], said: &str| {
        let (explored, verdict) = tried(&subject("tests/ledger"), set, 1);
        assert!(!explored.held() && verdict.attacks == 0, "{explored:?}");
        let refused = explored
            .openings
            .first()
            .and_then(|opening| opening.refused.as_deref());
        assert!(
            refused.is_some_and(|refused| refused.contains(said)),
            "{explored:?}"
        );
    };
    let fixed = ("misbehave", "none");
    check(&[fixed, ("at", "2000")], "at: is no number below 1000");
    check(
        &[("misbehave", "check")],
        "asked about its settings, it does not answer",
    );
}
