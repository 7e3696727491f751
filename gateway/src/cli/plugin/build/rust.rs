//! Rust: a target without a system, so that nothing is imported that the plugin does not name.

use super::component;
use super::tools::{Lack, Tools};
use anyhow::Context;
use serde::Deserialize;
use std::path::{Path, PathBuf};

const TARGET: &str = "wasm32-unknown-unknown";

pub(super) fn lacks(tools: &Tools<'_>) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if tools.ask("cargo", &["--version"]).is_none() {
        lacks.push(Lack::of("cargo", "Rust: see rustup.rs"));
    }
    // The folder of a target's libraries is named whether it is there or not.
    let libraries = tools.ask("rustc", &["--print", "target-libdir", "--target", TARGET]);
    if !libraries.is_some_and(|folder| Path::new(&folder).exists()) {
        lacks.push(Lack::of(
            format!("rust's target {TARGET}"),
            "rustup target add wasm32-unknown-unknown",
        ));
    }
    lacks
}

pub(super) fn compile(tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    let output = tools.run(
        "cargo",
        &[
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ],
    )?;
    let module = module(&String::from_utf8_lossy(&output.stdout)).context("cargo built no module")?;
    let module = std::fs::read(&module).with_context(|| format!("read {}", module.display()))?;
    component::of_module(&module)
}

/// A line of what cargo says, as far as it is of use here.
#[derive(Deserialize)]
struct Said {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The module that cargo built last: the plugin's own, behind those it depends on.
fn module(said: &str) -> Option<PathBuf> {
    said.lines()
        .filter_map(|line| serde_json::from_str::<Said>(line).ok())
        .filter(|said| said.reason == "compiler-artifact")
        .flat_map(|said| said.filenames)
        .rfind(|file| file.extension().is_some_and(|ending| ending == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_the_last_one_that_cargo_names() {
        let said = "{\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/libserde.rlib\"]}\n\
                    {\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/plugin.wasm\"]}\nnot JSON\n\
                    {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(module(said), Some(PathBuf::from("/t/plugin.wasm")));
        assert_eq!(module("{\"reason\":\"build-finished\"}"), None);
    }
}
