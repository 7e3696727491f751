//! Python: CPython, made ready at build time by componentize-py.

use super::tools::{Lack, Tools};
use crate::cli::plugin::project::Project;

/// What componentize-py asks for.
const PYTHON_MIN: (u32, u32) = (3, 10);

const PYTHON: &str = "python3";

/// The plugin's own environment.
const VENV: &str = ".venv";

pub(super) fn lacks(tools: &Tools<'_>) -> Vec<Lack> {
    let has_python = tools
        .version(PYTHON, &["--version"])
        .is_some_and(|version| version >= PYTHON_MIN);
    let has_venv = tools.ask(PYTHON, &["-c", "import ensurepip, venv"]).is_some();
    Lack::of_all([
        (
            has_python,
            format!("python {}.{} or newer", PYTHON_MIN.0, PYTHON_MIN.1),
            "Debian: apt-get install python3 python3-venv",
        ),
        (
            has_venv,
            "python's venv".to_owned(),
            "Debian: apt-get install python3-venv",
        ),
    ])
}

pub(super) fn compile(project: &Project, tools: &Tools<'_>) -> anyhow::Result<Vec<u8>> {
    tools.installed(VENV, "requirements.txt", || {
        tools.run(PYTHON, &["-m", "venv", "--clear", VENV])?;
        let pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
            "requirements.txt",
        ];
        tools.run(".venv/bin/python", &pip).map(drop)
    })?;
    tools.scratch()?;
    let arguments = [
        "--wit-path",
        "wit",
        "--world",
        &project.world,
        "componentize",
        "--stub-wasi", // what asks for a system ends the call; nothing is imported
        "plugin",
        "--output",
        "build/component.wasm",
    ];
    tools.run(".venv/bin/componentize-py", &arguments)?;
    tools.read("build/component.wasm")
}
