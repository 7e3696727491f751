//! JavaScript and TypeScript: QuickJS, made ready at build time by componentize-qjs.

use super::bindings::World;
use super::tools::{Lack, Tools};
use super::typescript;
use crate::cli::plugin::project::{Language, Project};
use crate::cli::plugin::template::JAVASCRIPT_RUNTIME;
use wit_bindgen_core::Files;

/// What componentize-qjs asks for.
const NODE_MIN: u32 = 18;

const COMPONENTIZE: &str = "node_modules/.bin/componentize-qjs";
const TSC: &str = "node_modules/.bin/tsc";

pub(super) fn lacks(tools: &Tools<'_>) -> Vec<Lack> {
    let has_node = tools
        .version("node", &["--version"])
        .is_some_and(|(major, _)| major >= NODE_MIN);
    let has_npm = tools.ask("npm", &["--version"]).is_some();
    Lack::of_all([
        (
            has_node,
            format!("node {NODE_MIN} or newer"),
            "Node.js: see nodejs.org, or Debian: apt-get install nodejs",
        ),
        (
            has_npm,
            "npm".to_owned(),
            "npm comes with Node.js; Debian: apt-get install npm",
        ),
    ])
}

pub(super) fn compile(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    install(tools)?;
    tools.scratch()?;
    componentize(project, tools)
}

/// As [`compile`], of what tsc makes of `plugin.ts`: it must hold against the contract's types first.
pub(super) fn compile_typescript(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    install(tools)?;
    tools.scratch()?;
    tools.run(TSC, &["--project", "tsconfig.json"])?;
    componentize(project, tools)
}

/// The contract's types, and the module that the component is made from: the plugin's, with what QuickJS lacks loaded
/// before it.
pub(super) fn bindings(language: Language, world: &World) -> Files {
    let mut files = typescript::types(world);
    for (path, text) in JAVASCRIPT_RUNTIME {
        files.push(path, text.as_bytes());
    }
    let plugin = if language == Language::Ts {
        "../build/plugin.js"
    } else {
        "../plugin.js"
    };
    files.push(
        "entry.js",
        format!("import './utf8.js';\nexport * from '{plugin}';\n").as_bytes(),
    );
    files
}

/// What `package-lock.json` pins; from npm's cache where it holds that already.
fn install(tools: &Tools<'_>) -> anyhow::Result<()> {
    tools.installed("node_modules", "package-lock.json", || {
        tools
            .run("npm", &["ci", "--prefer-offline", "--no-audit", "--no-fund"])
            .map(drop)
    })
}

fn componentize(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    let arguments = [
        "--wit",
        "wit",
        "--world",
        &project.world,
        "--js",
        "bindings/entry.js",
        "--module-root",
        ".",
        "--sync",      // the contract has no asynchronous functions
        "--stub-wasi", // what asks for a system ends the call; nothing is imported
        "--output",
        "build/component.wasm",
    ];
    tools.run(COMPONENTIZE, &arguments)?;
    tools.read("build/component.wasm")
}
