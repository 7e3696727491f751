//! The folders that `culvert plugin new` writes, held in the program: none of it is fetched.

use super::project::{Language, Name};
use std::borrow::Cow;

/// What stands for the plugin's name in every template. It is a name itself, so that a template is a valid plugin.
const PLACEHOLDER: &str = "plugin-name";

/// A file: its path in the folder, and its content.
pub(super) type File = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal: $($path:literal)+) => {
        &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $folder, "/", $path)))),+]
    };
}

/// The plugin contract, as it is put into `wit/deps/culvert-plugin`.
pub(super) const CONTRACT: &[File] = files!("wit/culvert-plugin":
    "codec.wit" "config.wit" "host.wit" "meta.wit" "package.wit" "sink.wit" "source.wit" "transform.wit" "types.wit");

/// What Go bindings rest on, as it is put into `bindings/pkg`: of wit-bindgen-go, without what only asynchronous
/// worlds use.
pub(super) const GO_RUNTIME: &[File] = files!("plugins/template/go-runtime":
    "LICENSE" "go.mod" "wit/runtime/runtime.go" "wit/types/option.go" "wit/types/result.go" "wit/types/tuple.go"
    "wit/types/unit.go");

/// The SDK for Rust and the workspace it is a member of, as they are put into `culvert-sdk`: so a plugin in Rust speaks the
/// contract of the program that wrote it, whether or not a registry holds the SDK.
const RUST_SDK: &[File] = files!("plugins":
    "Cargo.toml" "sdk/Cargo.toml" "sdk/README.md" "sdk/derive/Cargo.toml" "sdk/derive/src/choice.rs"
    "sdk/derive/src/config.rs" "sdk/derive/src/lib.rs" "sdk/src/about.rs" "sdk/src/bindings.rs"
    "sdk/src/capability/clock.rs" "sdk/src/capability/files.rs" "sdk/src/capability/http.rs" "sdk/src/capability/log.rs"
    "sdk/src/capability/metrics.rs" "sdk/src/capability/mod.rs" "sdk/src/capability/secrets.rs"
    "sdk/src/capability/state.rs" "sdk/src/codec.rs" "sdk/src/config.rs" "sdk/src/lib.rs" "sdk/src/message.rs"
    "sdk/src/outcome.rs" "sdk/src/panics.rs" "sdk/src/sink.rs" "sdk/src/slot.rs" "sdk/src/source.rs"
    "sdk/src/testing.rs" "sdk/src/testing/fake.rs" "sdk/src/testing/fake/files.rs" "sdk/src/transform.rs");

/// What JavaScript stands on beside QuickJS, as it is put into `bindings`.
pub(super) const JAVASCRIPT_RUNTIME: &[File] =
    files!("plugins/template/javascript-runtime": "runtime.d.ts" "utf8.js");

/// In each folder, whatever its language.
const COMMON: &[File] = files!("plugins/template/common":
    "cases/default.json" "cases/mark.json" "cases/off.json" "cases/validate.json");

/// Where a folder has a world of its own; Rust's is in the SDK.
const WORLD: &[File] = files!("plugins/template/common": "wit/world.wit");

/// Stands at the end of each language's own README.
const CASES: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../plugins/template/common/README.md"
));

const README: &str = "README.md";

const RUST: &[File] = files!("plugins/template/rust":
    ".gitignore" "Cargo.lock" "Cargo.toml" "README.md" "plugin.toml" "src/lib.rs");
const C: &[File] = files!("plugins/template/c":
    ".gitignore" "README.md" "plugin.toml" "src/json.c" "src/json.h" "src/plugin.c");
const GO: &[File] = files!("plugins/template/go":
    ".gitignore" "README.md" "go.mod" "main.go" "plugin.toml" "plugin/plugin.go");
const JS: &[File] = files!("plugins/template/js":
    ".gitignore" "README.md" "jsconfig.json" "package-lock.json" "package.json" "plugin.js" "plugin.toml");
const TS: &[File] = files!("plugins/template/ts":
    ".gitignore" "README.md" "package-lock.json" "package.json" "plugin.toml" "plugin.ts" "tsconfig.json");
const PYTHON: &[File] = files!("plugins/template/python":
    ".gitignore" "README.md" "plugin.py" "plugin.toml" "requirements.txt");

fn own(language: Language) -> &'static [File] {
    match language {
        Language::Rust => RUST,
        Language::C => C,
        Language::Go => GO,
        Language::Js => JS,
        Language::Ts => TS,
        Language::Python => PYTHON,
    }
}

/// All files of a new plugin, by their paths in its folder.
pub(super) fn files(language: Language, name: &Name) -> Vec<(String, Cow<'static, str>)> {
    let named = |(path, text): &File| {
        let text = text.replace(PLACEHOLDER, name.as_str());
        let text = if *path == README {
            format!("{text}\n{CASES}")
        } else {
            text
        };
        ((*path).to_owned(), Cow::Owned(text))
    };
    let mut files: Vec<_> = COMMON.iter().chain(own(language)).map(named).collect();
    if language == Language::Rust {
        files.extend(sdk());
    } else {
        files.extend(WORLD.iter().map(named));
        files.extend(contract("wit/deps/culvert-plugin"));
    }
    files
}

fn contract(folder: &'static str) -> impl Iterator<Item = (String, Cow<'static, str>)> {
    CONTRACT
        .iter()
        .map(move |(path, text)| (format!("{folder}/{path}"), Cow::Borrowed(*text)))
}

/// The SDK, in a workspace with nothing beside it.
fn sdk() -> impl Iterator<Item = (String, Cow<'static, str>)> {
    let alone = |text: &'static str| {
        let parts = text.split_once("members = [").and_then(|(before, rest)| {
            let (_, behind) = rest.split_once(']')?;
            Some(format!("{before}members = [\"sdk\", \"sdk/derive\"]{behind}"))
        });
        parts.map_or(Cow::Borrowed(text), Cow::Owned)
    };
    let files = RUST_SDK.iter().map(move |(path, text)| {
        let text = if *path == "Cargo.toml" {
            alone(text)
        } else {
            Cow::Borrowed(*text)
        };
        (format!("culvert-sdk/{path}"), text)
    });
    files.chain(contract("culvert-sdk/sdk/wit"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Everything below `folder`, but what builds leave there.
    fn below(folder: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in std::fs::read_dir(&next).expect("a folder of the repository") {
                let entry = entry.expect("an entry");
                let path = entry.path();
                let built = [
                    "bindings",
                    "build",
                    "target",
                    "node_modules",
                    ".venv",
                    "__pycache__",
                ];
                if built.iter().any(|name| entry.file_name() == *name) {
                    continue;
                }
                // A test's module is compiled with its own crate alone; a link leads to what is listed elsewhere.
                let is_left_out = path.is_symlink() || entry.file_name() == "tests.rs";
                if path.is_dir() && !is_left_out {
                    folders.push(path);
                } else if !is_left_out {
                    let path = path.strip_prefix(folder).expect("it is below");
                    found.insert(path.to_string_lossy().into_owned());
                }
            }
        }
        found
    }

    #[track_caller]
    fn check<'a>(folder: &str, listed: impl IntoIterator<Item = &'a str>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        assert_eq!(
            below(&root),
            listed.into_iter().map(str::to_owned).collect(),
            "{folder}"
        );
    }

    fn paths(files: &[File]) -> impl Iterator<Item = &'static str> {
        files.iter().map(|(path, _)| *path)
    }

    #[test]
    fn every_file_of_a_template_is_in_the_program() {
        check("wit/culvert-plugin", paths(CONTRACT));
        check(
            "plugins/template/common",
            paths(COMMON).chain(paths(WORLD)).chain([README]),
        );
        check("plugins/template/go-runtime", paths(GO_RUNTIME));
        check("plugins/template/javascript-runtime", paths(JAVASCRIPT_RUNTIME));
        for (folder, files) in [
            ("rust", RUST),
            ("c", C),
            ("go", GO),
            ("js", JS),
            ("ts", TS),
            ("python", PYTHON),
        ] {
            check(&format!("plugins/template/{folder}"), paths(files));
        }
        check(
            "plugins/sdk",
            paths(RUST_SDK).filter_map(|path| path.strip_prefix("sdk/")),
        );
    }

    /// However the workspace's members are laid out.
    #[test]
    fn the_sdk_is_written_as_a_workspace_of_its_own() {
        let (_, manifest) = sdk()
            .find(|(path, _)| path == "culvert-sdk/Cargo.toml")
            .expect("a workspace");
        let manifest: toml::Table = manifest.parse().expect("TOML");
        let members = manifest["workspace"]["members"].as_array().expect("a list");
        assert_eq!(members, &["sdk", "sdk/derive"].map(toml::Value::from));
    }

    #[test]
    fn the_name_takes_the_placeholders_place_everywhere() {
        let name: Name = "order-check".parse().expect("a name");
        for language in [
            Language::Rust,
            Language::C,
            Language::Go,
            Language::Js,
            Language::Ts,
            Language::Python,
        ] {
            for (path, text) in files(language, &name) {
                assert!(!text.contains(PLACEHOLDER), "{language:?}: {path}");
            }
        }
    }

    /// `cargo xtask prepare` fetches the crates of `plugins/`, and a plugin's are to be among them.
    #[test]
    fn a_plugin_in_rust_is_built_from_the_crates_of_the_sdk() {
        let crates = |lock: &str| -> BTreeSet<(String, String)> {
            let lock: toml::Table = toml::from_str(lock).expect("cargo wrote it");
            let packages = lock["package"].as_array().expect("it lists packages").iter();
            let text =
                |package: &toml::Value, key: &str| package[key].as_str().unwrap_or_default().to_owned();
            packages
                .map(|package| (text(package, "name"), text(package, "version")))
                .collect()
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/Cargo.lock");
        let known = crates(&std::fs::read_to_string(path).expect("a file of the repository"));
        let (_, lock) = RUST
            .iter()
            .find(|(path, _)| *path == "Cargo.lock")
            .expect("it is listed");
        let own = crates(lock);
        let unknown: Vec<_> = own
            .difference(&known)
            .filter(|(name, _)| name != PLACEHOLDER)
            .collect();
        assert!(
            own.len() > 10 && unknown.is_empty(),
            "not in plugins/Cargo.lock: {unknown:?}"
        );
    }
}
