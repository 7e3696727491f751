//! Packs the bundled plugins, which `cargo xtask plugins` puts into `target/plugins`. Without them the gateway builds all the
//! same, and names none. Says how the program is linked.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Two fifths of the size; more would take longer than it is worth, here without optimisation.
const LEVEL: i32 = 12;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    fold_alike();
    let folder =
        PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../target/plugins");
    println!("cargo::rerun-if-changed={}", folder.display());
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let entries: String = components(&folder).iter().map(|path| entry(path, &out)).collect();
    let list = format!("const BUNDLED: &[Bundled] = &[\n{entries}];\n");
    fs::write(out.join("bundled.rs"), list).expect("the build's own folder can be written to");
}

/// Functions that became the same code are kept once, in what is shipped. Nothing here goes by a function's address, as it
/// would have to: Rust promises none of its own. The linker is LLD, which is rustc's own for this target since 1.90.
fn fold_alike() {
    let of = |name: &str| env::var(name).unwrap_or_default();
    let is_shipped = of("PROFILE") == "release" && of("DEBUG") == "false";
    let target = ["ARCH", "OS", "ENV"].map(|part| of(&format!("CARGO_CFG_TARGET_{part}")));
    if is_shipped && target == ["x86_64", "linux", "gnu"] {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
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

fn entry(path: &Path, out: &Path) -> String {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    println!("cargo::rerun-if-changed={}", path.display());
    let bytes = fs::read(path).expect("it was found a moment ago");
    let packed = out.join(format!("{name}.zst"));
    let fresh = zstd::bulk::compress(&bytes, LEVEL).expect("memory holds a plugin twice");
    fs::write(&packed, fresh).expect("the build's own folder can be written to");
    let size = bytes.len();
    format!("    Bundled {{ name: {name:?}, size: {size}, packed: include_bytes!({packed:?}) }},\n")
}
