//! Files that are no plugin, or not one for this gateway: each is refused with what is wrong and what to do.

mod common;

use common::file;
use culvert_host::{Compiler, Engine, LoadError, Options, Role, examine, pack};

/// The same before it was asked what it is.
fn unpacked(name: &str) -> Vec<u8> {
    file(&format!("unpacked/{name}"))
}

fn refused(bytes: &[u8]) -> LoadError {
    let examined = examine(bytes).expect_err("it is refused");
    let engine = Engine::new(Options::default()).expect("an engine starts");
    let loaded = engine.load(bytes).expect_err("it is refused");
    assert_eq!(
        examined.to_string(),
        loaded.to_string(),
        "looking and loading agree"
    );
    loaded
}

fn check(bytes: &[u8], words: &[&str]) {
    let said = refused(bytes).to_string();
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}

fn check_text(text: &str, words: &[&str]) {
    check(&wat::parse_str(text).expect("the test's own text"), words);
}

const META: &str = r#"(instance $none) (export "culvert:plugin/meta@0.1.0" (instance $none))"#;

#[test]
fn other_files_are_told_what_they_are() {
    check(b"", &["W001", "empty"]);
    check(b"hello world", &["W001", "68"]);
    check(b"(module)", &["W001", "text"]);
    check_text("(module)", &["W002", "core module", "culvert plugin build"]);
    check(b"\0asm\x09\0\x07\0", &["W001", "version"]);
}

#[test]
fn damaged_components_are_refused_wherever_they_are_cut() {
    let whole = unpacked("hostile");
    for at in [9, 100, whole.len() / 2, whole.len() - 1] {
        let _ = refused(&whole[..at]);
    }
    let mut flipped = whole.clone();
    for at in (8..whole.len()).step_by(whole.len() / 40) {
        flipped[at] ^= 0x55;
        // Some bytes are names or data: then it is another component. It must not bring anything down.
        let _ = Engine::new(Options::default())
            .expect("an engine starts")
            .load(&flipped);
        flipped[at] ^= 0x55;
    }
}

#[test]
fn missing_exports_and_wrong_contracts_are_named() {
    check_text("(component)", &["W004", "culvert:plugin/meta"]);
    check_text(&format!("(component {META})"), &["W004", "a role"]);
    check_text(
        r#"(component (instance $none) (export "culvert:plugin/meta@0.2.0" (instance $none)))"#,
        &["W005", "0.2.0", "0.1.0"],
    );
    check_text(
        r#"(component (instance $none) (export "culvert:plugin/meta@0.1.9" (instance $none)))"#,
        &["W005", "0.1.9"],
    );
}

#[test]
fn imports_that_no_gateway_offers_are_named() {
    let with_import = |import: &str| {
        format!(
            r#"(component (import "{import}" (instance)) {META}
                (export "culvert:plugin/transform@0.1.0" (instance $none)))"#
        )
    };
    check_text(
        &with_import("wasi:cli/stdout@0.2.3"),
        &["W006", "wasi:cli/stdout", "without WASI"],
    );
    check_text(&with_import("my:own/thing@1.0.0"), &["W006", "my:own/thing"]);
    check_text(
        &with_import("culvert:plugin/teleport@0.1.0"),
        &["W006", "teleport"],
    );
}

/// The shape is checked when it is linked: an export of the right name alone is not enough.
#[test]
fn an_export_of_another_shape_is_refused() {
    let text = format!(r#"(component {META} (export "culvert:plugin/transform@0.1.0" (instance $none)))"#);
    let bytes = wat::parse_str(text).expect("the test's own text");
    examine(&bytes).expect("its names are right");
    let engine = Engine::new(Options::default()).expect("an engine starts");
    let said = engine.load(&bytes).expect_err("it has no describe").to_string();
    assert!(said.contains("W004"), "{said}");
}

#[test]
fn a_file_is_looked_at_without_running_it() {
    let examined = examine(&file("tests/hostile")).expect("a plugin");
    assert_eq!(examined.roles, [Role::TransformColumns]);
    assert_eq!(examined.imports, ["culvert:plugin/log@0.1.0"]);
}

#[test]
fn a_packed_plugin_says_what_it_is() {
    let packed = pack(&unpacked("hostile")).expect("it packs");
    let examined = examine(&packed).expect("a plugin");
    let description = examined.description.expect("it was packed");
    assert_eq!(description.name, "hostile");
    assert_eq!(
        pack(&packed).expect("it is packed"),
        packed,
        "packing again changes nothing"
    );
    let engine = Engine::new(Options::default()).expect("an engine starts");
    let loaded = engine.load(&packed).expect("it loads");
    assert_eq!(loaded.description, description);
}

#[test]
fn compiled_code_is_kept_and_a_damaged_copy_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || Options {
        cache: Some(folder.path().to_owned()),
        compiler: Compiler::Here,
        ..Options::default()
    };
    let kept = || {
        let entries = std::fs::read_dir(folder.path()).expect("the folder is there");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect::<Vec<_>>()
    };
    let load = || {
        let engine = Engine::new(options()).expect("an engine starts");
        engine
            .load(&file("tests/hostile"))
            .expect("it loads")
            .description
            .name
    };
    assert_eq!(load(), "hostile");
    let first = kept();
    assert_eq!(first.len(), 1, "{first:?}");
    let written = std::fs::metadata(&first[0])
        .expect("it is there")
        .modified()
        .expect("a time");
    assert_eq!(load(), "hostile");
    let again = std::fs::metadata(&first[0])
        .expect("it is there")
        .modified()
        .expect("a time");
    assert_eq!(written, again, "it was not compiled again");

    let mut bytes = std::fs::read(&first[0]).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first[0], bytes).expect("it is ours");
    assert_eq!(load(), "hostile");
    assert_eq!(kept(), first, "the damaged copy was replaced");

    // Who only reads finds it, and leaves a damaged one and an absent folder as they are.
    let reading = |folder: &std::path::Path| {
        let engine = Engine::new(Options {
            cache: Some(folder.to_owned()),
            is_reader: true,
            ..Options::default()
        });
        let engine = engine.expect("an engine starts");
        engine
            .load(&file("tests/hostile"))
            .expect("it loads")
            .description
            .name
    };
    assert_eq!(reading(folder.path()), "hostile");
    std::fs::write(&first[0], b"damaged").expect("it is ours");
    assert_eq!(reading(folder.path()), "hostile");
    assert_eq!(std::fs::read(&first[0]).expect("it is there"), b"damaged");
    let absent = folder.path().join("absent");
    assert_eq!(reading(&absent), "hostile");
    assert!(!absent.exists());
}
