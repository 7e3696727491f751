//! `culvert plugin`: from an empty folder to a component that a gateway can run.

use super::{Exit, Session};

mod bench;
mod build;
mod diff;
mod inspect;
mod list;
mod new;
mod pack;
mod project;
mod replay;
mod run;
mod sign;
mod target;
mod template;
mod test;

/// The verbs under `culvert plugin`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    New(new::Args),
    Build(build::Args),
    Test(test::Args),
    Run(run::Args),
    Replay(replay::Args),
    Bench(bench::Args),
    Inspect(inspect::Args),
    List(list::Args),
    Diff(diff::Args),
    Pack(pack::Args),
    Keygen(sign::Keygen),
    Sign(sign::Sign),
    Verify(sign::Verify),
    Compile(pack::Compile),
}

pub(super) fn run(verb: &Verb, session: &Session) -> anyhow::Result<Exit> {
    match verb {
        Verb::New(args) => new::run(args, session),
        Verb::Build(args) => build::run(args, session),
        Verb::Test(args) => test::run(args, session),
        Verb::Run(args) => run::run(args, session),
        Verb::Replay(args) => replay::run(args, session),
        Verb::Bench(args) => bench::run(args, session),
        Verb::Inspect(args) => inspect::run(args, session),
        Verb::List(args) => list::run(args, session),
        Verb::Diff(args) => diff::run(args, session),
        Verb::Pack(args) => pack::run(args, session),
        Verb::Keygen(args) => sign::keygen(args, session),
        Verb::Sign(args) => sign::sign(args, session),
        Verb::Verify(args) => sign::verify(args, session),
        Verb::Compile(args) => pack::compile(args),
    }
}
