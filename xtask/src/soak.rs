//! `cargo xtask soak`: builds the product for speed and lets `culvert-chaos` break things around it.

use crate::{chaos, steps};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What `culvert-chaos` is told, for example `--quick --seed 7 kills` (`--help` lists it all).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the soak; what passed is added to `docs/soak.md`.
///
/// # Errors
/// When something cannot be built, or a part fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut chaos = chaos::lab()?;
    chaos
        .args(["soak", "--record", "docs/soak.md"])
        .args(&arguments.arguments);
    steps::run(chaos)
}
