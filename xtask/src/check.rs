//! `cargo xtask check`: what a change must pass beside the tests.

use crate::{steps, tidy};
use anyhow::bail;
use culvert_tests::process::find_program;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Ask the RustSec advisory database too (needs a network), and fail when a check's program is not installed.
    #[arg(long)]
    all: bool,
}

/// Runs every check, also after one has failed.
///
/// # Errors
/// When one fails, or with `--all` cannot run here.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    let mut see =
        |outcome: anyhow::Result<()>| faults.extend(outcome.err().map(|fault| format!("{fault:#}")));
    see(steps::run(steps::cargo(&["fmt", "--all", "--check"])));
    let clippy = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    see(steps::run(steps::cargo(&clippy)));
    see(tidy::run());
    match find_program("cargo-deny") {
        Some(_) => {
            let mut what = vec!["bans", "licenses", "sources"];
            if arguments.all {
                what.push("advisories");
            }
            for workspace in ["Cargo.toml", "plugins/Cargo.toml"] {
                let deny = [
                    "deny",
                    "--locked",
                    "--manifest-path",
                    workspace,
                    "--config",
                    "deny.toml",
                    "check",
                ];
                see(steps::run(steps::cargo(&[&deny[..], &what].concat())));
            }
        }
        None => {
            const MISSING: &str = "licences and advisories not checked: cargo-deny is not installed\n\n\
                                   cargo install cargo-deny --locked";
            eprintln!("{MISSING}");
            if arguments.all {
                see(Err(anyhow::anyhow!(MISSING)));
            }
        }
    }
    if !faults.is_empty() {
        bail!("{} of the checks failed:\n{}", faults.len(), faults.join("\n"));
    }
    Ok(())
}
