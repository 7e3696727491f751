//! `cargo xtask deb`: a package for Debian and its relatives, and what installing it does to a host.

use crate::steps;
use anyhow::Context;
use culvert_tests::process::find_program;
use culvert_tests::workspace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which cargo-deb is fetched where the host has none.
const CARGO_DEB: &str = "3.8.0";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install it in a container, upgrade it with its state, remove and purge it (needs docker and the image)
    #[arg(long)]
    try_it: bool,
    /// The image to try it in
    #[arg(long, default_value = "debian:bookworm-slim")]
    image: String,
}

/// Builds a release and packs it.
///
/// # Errors
/// When something cannot be built, or does not do what it should.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = workspace().join("target/deb");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    completions(&steps::release()?, &folder)?;
    let packer = packer()?;
    let package = pack(&packer, &folder.join("culvert.deb"), None)?;
    println!("{}", package.display());
    if arguments.try_it {
        // The same program as a version that came before: what an upgrade does is the scripts' work.
        let before = pack(&packer, &folder.join("culvert-before.deb"), Some("0.0.1~before"))?;
        let mut trial = Command::new(workspace().join("packaging/deb_test.sh"));
        trial.arg(before).arg(package).arg(&arguments.image);
        steps::run(trial)?;
    }
    Ok(())
}

fn completions(program: &Path, folder: &Path) -> anyhow::Result<()> {
    for (shell, file) in [
        ("bash", "culvert.bash"),
        ("zsh", "_culvert"),
        ("fish", "culvert.fish"),
    ] {
        let mut culvert = Command::new(program);
        culvert.args(["completions", shell]);
        fs::write(folder.join(file), steps::output(culvert)?)?;
    }
    Ok(())
}

/// The host's cargo-deb, or one that is built once below `.lab`.
fn packer() -> anyhow::Result<PathBuf> {
    if let Some(found) = find_program("cargo-deb") {
        return Ok(found);
    }
    let tools = workspace().join(".lab/tools");
    let built = tools.join("bin/cargo-deb");
    if !built.is_file() {
        let mut install = steps::cargo(&["install", "cargo-deb", "--locked", "--version", CARGO_DEB]);
        install.arg("--root").arg(&tools);
        steps::run(install)?;
    }
    Ok(built)
}

fn pack(packer: &Path, file: &Path, version: Option<&str>) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(packer);
    command
        .args([
            "deb",
            "--package",
            "culvert",
            "--no-build",
            "--no-strip",
            "--output",
        ])
        .arg(file)
        .current_dir(workspace());
    if let Some(version) = version {
        command.args(["--deb-version", version]);
    }
    steps::run(command)?;
    Ok(file.to_owned())
}
