//! C: clang with wasm-ld, and wasi-libc without the system it asks for.

use super::component;
use super::tools::{Lack, Tools};
use crate::cli::plugin::project::Project;
use anyhow::{Context, bail};
use std::path::Path;

/// The oldest clang whose libraries and linker have been seen to agree on WASI's names.
const CLANG_MIN: u32 = 16;

const TARGET: &str = "--target=wasm32-wasi";

const INSTALL: &str = "Debian: apt-get install clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 (where there is no 19: another one from 16 on)";

/// Newest first: a host may have several, and an old one under the plain name.
const NAMES: [&str; 7] = [
    "clang-21", "clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang",
];

fn clang(tools: &Tools<'_>) -> Option<&'static str> {
    let is_new_enough = |name: &&str| {
        tools
            .version(name, &["--version"])
            .is_some_and(|(major, _)| major >= CLANG_MIN)
    };
    // One that brings its libraries before one that does not.
    let found: Vec<&'static str> = NAMES.iter().copied().filter(is_new_enough).collect();
    let complete = found.iter().copied().find(|name| parts(tools, name).is_empty());
    complete.or(found.first().copied())
}

/// What a clang finds missing around it.
fn parts(tools: &Tools<'_>, clang: &str) -> Vec<&'static str> {
    let finds = |question: &str| {
        tools
            .ask(clang, &[TARGET, question])
            .is_some_and(|path| path.contains('/') && Path::new(&path).exists())
    };
    let parts = [
        ("-print-prog-name=wasm-ld", "a linker for WebAssembly (lld)"),
        ("-print-file-name=libc.a", "wasi-libc"),
        ("-print-libgcc-file-name", "compiler-rt for WebAssembly"),
    ];
    parts
        .into_iter()
        .filter(|(question, _)| !finds(question))
        .map(|(_, part)| part)
        .collect()
}

pub(super) fn lacks(tools: &Tools<'_>) -> Vec<Lack> {
    match clang(tools) {
        None => vec![Lack::of(
            format!("clang {CLANG_MIN} or newer with wasi-libc"),
            INSTALL,
        )],
        Some(name) => {
            let parts = parts(tools, name);
            let what = || format!("{} (beside {name})", parts.join(", "));
            if parts.is_empty() {
                Vec::new()
            } else {
                vec![Lack::of(what(), INSTALL)]
            }
        }
    }
}

pub(super) fn compile(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    let clang = clang(tools).context("clang has gone")?;
    tools.scratch()?;
    let sources = sources(&project.folder)?;
    let world = project.world.replace('-', "_");
    let (bindings, types) = (
        format!("bindings/{world}.c"),
        format!("bindings/{world}_component_type.o"),
    );
    let mut arguments = vec![
        TARGET,
        "-mexec-model=reactor", // no main: functions that are called
        "-std=c17",
        "-D_GNU_SOURCE",
        "-O2",
        "-Wall",
        "-Wl,--strip-all",
        "-Ibindings",
        "-Isrc",
    ];
    arguments.extend(sources.iter().map(String::as_str));
    arguments.extend([bindings.as_str(), types.as_str(), "-o", "build/module.wasm"]);
    tools.run(clang, &arguments)?;
    component::of_module(&tools.read("build/module.wasm")?)
}

/// The author's own: `src/*.c`.
fn sources(folder: &Path) -> anyhow::Result<Vec<String>> {
    let folder = folder.join("src");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".c")) {
            sources.push(format!("src/{name}"));
        }
    }
    if sources.is_empty() {
        bail!("{} holds no .c file", folder.display());
    }
    sources.sort();
    Ok(sources)
}
