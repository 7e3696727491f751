//! Go: the stock compiler, with the system it asks for answered inside the component.

use super::bindings::{self, World};
use super::component;
use super::tools::{Lack, Tools};
use crate::cli::plugin::project::Project;
use crate::cli::plugin::template::GO_RUNTIME;
use anyhow::Context;
use regex::Regex;
use std::collections::BTreeSet;
use wit_bindgen_core::Files;

/// `go:wasmexport` came with 1.24; the bindings' own package asks for 1.25.
const GO_MIN: (u32, u32) = (1, 25);

pub(super) fn lacks(tools: &Tools<'_>) -> Vec<Lack> {
    match tools.version("go", &["version"]) {
        Some(version) if version >= GO_MIN => Vec::new(),
        _ => vec![Lack::of(
            format!("go {}.{} or newer", GO_MIN.0, GO_MIN.1),
            "Go: see go.dev/doc/install; TinyGo is not needed",
        )],
    }
}

pub(super) fn compile(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    tools.scratch()?;
    tools.run_with(
        "go",
        &[
            "build",
            "-buildmode=c-shared", // no main: functions that are called
            "-trimpath",
            // The bindings allocate before the runtime is up, through a function of it that is not public.
            "-ldflags=-s -w -checklinkname=0",
            "-o",
            "build/module.wasm",
            ".",
        ],
        &[("GOOS", "wasip1"), ("GOARCH", "wasm")],
    )?;
    component::of_module_for(&World::of(project)?, tools.read("build/module.wasm")?)
}

/// The bindings as packages of the author's module, with what they rest on. What the component exports are the
/// functions of one package, `plugin`.
pub(super) fn bindings(project: &Project, world: &mut World) -> anyhow::Result<Files> {
    let module = module(project)?;
    let options = wit_bindgen_go::Opts {
        pkg_name: Some(format!("{module}/bindings")),
        export_pkg_name: Some(module.clone()),
        ..wit_bindgen_go::Opts::default()
    };
    let mut made = bindings::generate(options.build().as_mut(), world)?;
    let exports = made.remove(EXPORTS).context("the bindings have no exports")?;
    let exports = String::from_utf8(exports).context("the bindings are text")?;
    made.push(EXPORTS, in_one_package(&exports, &module).as_bytes());
    for (path, text) in GO_RUNTIME {
        made.push(&format!("pkg/{path}"), text.as_bytes());
    }
    Ok(made)
}

/// Where the generator puts what calls the author's functions.
const EXPORTS: &str = "wit_exports/wit_exports.go";

/// The module's path, of `go.mod`.
fn module(project: &Project) -> anyhow::Result<String> {
    let path = project.folder.join("go.mod");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let module = text.lines().find_map(|line| line.strip_prefix("module "));
    module
        .map(|module| module.trim().trim_matches('"').to_owned())
        .with_context(|| format!("{} names no module", path.display()))
}

/// The generator looks for each interface's functions in a package `export_<package>_<interface>`; here all of them are
/// in one. No two interfaces of a world have functions of the same name.
fn in_one_package(exports: &str, module: &str) -> String {
    let import =
        Regex::new(&format!(r#"^\s*"{}/export_\w+"$"#, regex::escape(module))).expect("a path is escaped");
    let call = Regex::new(r"\bexport_\w+\.").expect("a constant pattern");
    let plugin = format!("\t\"{module}/plugin\"");
    let mut seen = BTreeSet::new();
    exports
        .lines()
        .map(|line| {
            if import.is_match(line) {
                plugin.clone()
            } else {
                call.replace_all(line, "plugin.").into_owned()
            }
        })
        .filter(|line| *line != plugin || seen.insert(line.clone()))
        .map(|line| line + "\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_interfaces_are_functions_of_one_package() {
        let generated = "import (\n\t\"a/b/bindings/culvert_plugin_meta\"\n\t\"a/b/export_culvert_plugin_meta\"\n\
                         \t\"a/b/export_culvert_plugin_transform\"\n)\n\tx := export_culvert_plugin_meta.Describe()\n\
                         \ty := export_culvert_plugin_transform.Open(wasm_export_z)\n";
        assert_eq!(
            in_one_package(generated, "a/b"),
            "import (\n\t\"a/b/bindings/culvert_plugin_meta\"\n\t\"a/b/plugin\"\n)\n\tx := plugin.Describe()\n\
             \ty := plugin.Open(wasm_export_z)\n"
        );
    }
}
