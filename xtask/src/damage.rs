//! `cargo xtask damage`: damages outboxes byte by byte, and prints what came of it.

use crate::steps;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which engine: log or sled; both where none is named.
    engine: Option<String>,
    /// What chooses bits, and the bytes of a sample.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the long form of the outbox's tests of damage. Only the gateway is built anew for it, for speed: what it is made of
/// is that of every other test.
///
/// # Errors
/// When it cannot be built, or a store did not say that it was damaged.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let whole = match arguments.engine.as_deref() {
        None => "outbox::tests::damage::the_whole_of_a",
        Some("log") => "outbox::tests::damage::the_whole_of_a_log",
        Some("sled") => "outbox::tests::damage::the_whole_of_a_sled",
        Some(other) => anyhow::bail!("engine {other:?}: valid are log and sled"),
    };
    let mut tests = steps::cargo(&[
        "test",
        "--locked",
        "--config",
        "profile.dev.package.culvert.opt-level=2",
        "-p",
        "culvert",
        "--lib",
        "--",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
        whole,
    ]);
    tests.env("CULVERT_DAMAGE_SEED", arguments.seed.to_string());
    steps::run(tests)
}
