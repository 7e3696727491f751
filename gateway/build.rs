//! Lists the bundled plugins, which `cargo xtask plugins` puts into `target/plugins`. Without them the gateway
//! builds all the same, and names none.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let folder =
        PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../target/plugins");
    println!("cargo::rerun-if-changed={}", folder.display());
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("bundled.rs");
    let entries: String = components(&folder).iter().map(|path| entry(path)).collect();
    let list =
        format!("/// Names and components, by name.\nconst BUNDLED: &[(&str, &[u8])] = &[\n{entries}];\n");
    fs::write(&out, list).expect("the build's own folder can be written to");
}

fn components(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    found.sort();
    found
}

fn entry(path: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    println!("cargo::rerun-if-changed={}", path.display());
    let path = fs::canonicalize(path).expect("it was found a moment ago");
    format!("    ({name:?}, include_bytes!({path:?})),\n")
}
