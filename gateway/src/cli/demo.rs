//! `culvert demo`: three gateways on this host, a cut link, a kill of each gateway, and a proof.

pub(super) mod chaos;
mod compose;
mod ends;
mod kafka;
mod network;
mod outcome;
mod program;
mod stage;
mod story;
mod view;
mod watch;
mod wire;

use super::{Exit, Format, Session, prove};
use anyhow::{Context, bail};
use clap::ValueEnum;
use ends::Ends;
use network::Network;
use outcome::Outcome;
use program::Launcher;
use stage::Stage;
use std::fs;
use std::path::{Path, PathBuf};
use story::Story;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use view::View;

/// What the demo does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --bootstrap-source it needs no service: generators write, a SQLite file receives. With
it, topics with fresh names are made in the source cluster, filled, and delivered to the target.

Examples:
  culvert demo
  culvert demo --records 1000000 --rate 20000
  culvert demo --directory my-demo        keep configurations, certificates, logs and records
  culvert demo --bootstrap-source kafka-a:9092 --bootstrap-target kafka-b:9092

The exit code is 0 only when every record is proven to have arrived exactly once.")]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// What the containers of docker-compose.yml run
    #[command(subcommand)]
    verb: Option<compose::Verb>,
    /// At least so many records
    #[arg(long, value_name = "N", default_value_t = 120_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000),
          conflicts_with = "input")]
    records: u64,
    /// Records a second [default: as many as make it last 20 seconds, with Kafka 40]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Other seeds make other records
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    ground: Ground,
    /// Leave the gateways running until they are interrupted, to look around
    #[arg(long)]
    stay: bool,
    #[command(flatten)]
    clusters: kafka::Args,
}

/// On what the gateways stand.
#[derive(Debug, clap::Args)]
struct Ground {
    /// How the outboxes store records: sled or log
    #[arg(long, value_enum, default_value = "sled", hide_possible_values = true)]
    engine: Engine,
    /// Work in this directory, made anew, and leave everything there
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Leave the temporary directory, and say where it is
    #[arg(long, conflicts_with = "directory")]
    keep: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Sled,
    Log,
}

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Engine::Sled => "sled",
            Engine::Log => "log",
        }
    }
}

/// How much, how fast, and of which kind.
struct Plan {
    records: u64,
    rate: f64,
    seed: u64,
    engine: Engine,
}

/// Somebody wants it to end.
#[derive(Debug, thiserror::Error)]
#[error("stopped by signal {0}")]
struct Interrupted(u8);

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    if let Some(verb) = &args.verb {
        return compose::run(verb, session);
    }
    let ends = Ends::open(&args.clusters)?;
    let plan = args.plan(&ends);
    Place::open(args.ground.directory.as_deref())?.within(args.ground.keep, session, |directory| {
        let outcome = play(args, &plan, &ends, directory, session)?;
        Ok(outcome.judgement.is_proven(ends.records(&plan)))
    })
}

fn play(
    args: &Args,
    plan: &Plan,
    ends: &Ends,
    directory: &Path,
    session: &Session,
) -> anyhow::Result<Outcome> {
    let (stage, _runtime) = set(plan, ends, directory, session)?;
    let mut story = Story { stage };
    let played = story.play();
    let mut stage = story.stage;
    stage.view.close();
    let outcome = played?;
    show(&outcome, ends.records(plan), session)?;
    if args.stay {
        session.terminal.note(format_args!(
            "\nthe gateways run in {} until you press Ctrl-C; for example, in gw3 there: culvert status --streams",
            directory.display()
        ));
        stage.stay()?;
    }
    stage.network.leave(plan)?;
    Ok(outcome)
}

/// The stage, on which nothing runs yet, and the runtime of its wires.
fn set<'a>(
    plan: &'a Plan,
    ends: &'a Ends,
    directory: &Path,
    session: &Session,
) -> anyhow::Result<(Stage<'a>, Runtime)> {
    let (runtime, stop) = super::runtime(Some(1))?;
    let launcher = Launcher::new(&session.environment)?;
    let network = Network::lay(directory, ends, plan, launcher, runtime.handle())?;
    let view = View::new(session.terminal, ends.records(plan));
    Ok((Stage::new(plan, ends, network, view, stop), runtime))
}

fn show(outcome: &Outcome, records: u64, session: &Session) -> anyhow::Result<()> {
    let terminal = &session.terminal;
    match terminal.format() {
        Format::Json => terminal.json(&outcome.judged(records))?,
        Format::Text => {
            let paint = |text: &str, tone| terminal.paint(text, tone);
            let proof = outcome
                .judgement
                .proof
                .as_ref()
                .map_or(String::new(), |proof| prove::text(proof, &paint));
            terminal.answer(outcome.text(records, &proof, &paint))?;
        }
    }
    Ok(())
}

impl Args {
    fn plan(&self, ends: &Ends) -> Plan {
        let records = ends.lines().unwrap_or(self.records);
        Plan {
            records,
            rate: self
                .rate
                .map_or(records as f64 / ends.flow_seconds(), |rate| rate as f64),
            seed: self.seed,
            engine: self.ground.engine,
        }
    }
}

/// Where everything is written: gone at the end, also after a panic, unless somebody wants it.
enum Place {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Place {
    fn open(directory: Option<&Path>) -> anyhow::Result<Place> {
        let Some(directory) = directory else {
            let made = tempfile::Builder::new().prefix("culvert-demo-").tempdir();
            return Ok(Place::Temporary(made.context("make a temporary directory")?));
        };
        empty(directory)?;
        Ok(Place::Given(directory.canonicalize()?))
    }

    /// Does what is to be done in it; `play` answers whether all is proven. It stays where somebody may need it: where it is to
    /// be kept, where something failed or is not proven.
    fn within(
        self,
        keep: bool,
        session: &Session,
        play: impl FnOnce(&Path) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Exit> {
        let proven = match play(self.path()) {
            Ok(proven) => proven,
            Err(error) => {
                if let Some(Interrupted(signal)) = error.downcast_ref() {
                    return Ok(Exit::Signal(*signal));
                }
                // The logs are what somebody needs now.
                self.keep(session);
                return Err(error);
            }
        };
        if keep || !proven {
            self.keep(session);
        }
        Ok(if proven { Exit::Ok } else { Exit::Failed })
    }

    fn path(&self) -> &Path {
        match self {
            Place::Given(path) => path,
            Place::Temporary(directory) => directory.path(),
        }
    }

    fn keep(self, session: &Session) {
        let path = match self {
            Place::Given(path) => path,
            Place::Temporary(directory) => directory.keep(),
        };
        session.terminal.note(format_args!("kept in {}", path.display()));
    }
}

/// The file by which a directory is known for a demo's, and may be emptied.
const MARK: &str = "this-is-a-culvert-demo";

/// Makes an empty directory. One that holds anything but a demo is not touched.
fn empty(directory: &Path) -> anyhow::Result<()> {
    if directory.join(MARK).exists() {
        fs::remove_dir_all(directory).with_context(|| format!("empty {}", directory.display()))?;
    }
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    if fs::read_dir(directory)?.next().is_some() {
        bail!(
            "{} is there and is not a demo's\n\nName another --directory.",
            directory.display()
        );
    }
    fs::write(directory.join(MARK), "").with_context(|| format!("write in {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    const PLAN: Plan = Plan {
        records: 11,
        rate: 5.0,
        seed: 1,
        engine: Engine::Sled,
    };

    #[test]
    fn every_gateway_has_a_valid_configuration_with_and_without_the_wires() {
        let place = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let launcher = Launcher::new(&Environment::default()).unwrap();
        let network = Network::lay(place.path(), &Ends::Embedded, &PLAN, launcher, runtime.handle()).unwrap();
        let wires = network.wires.each_ref().map(|wire| wire.address().to_string());
        let check = || {
            let texts = ["gw1", "gw2", "gw3"].map(|gateway| {
                let file = place.path().join(gateway).join("culvert.toml");
                let config = Config::load(&file, &Environment::default()).unwrap();
                config.check_files().unwrap();
                fs::read_to_string(&file).unwrap()
            });
            [texts[0].contains(&wires[0]), texts[2].contains(&wires[1])]
        };
        assert_eq!(check(), [true, true], "gateways 1 and 3 dial the wires");
        network.leave(&PLAN).unwrap();
        assert_eq!(check(), [false, false], "what is left needs no wire");
    }

    #[test]
    fn generators_make_at_least_what_was_asked_for() {
        for (records, made) in [(1, 5), (10, 10), (11, 15), (120_000, 120_000)] {
            assert_eq!(Ends::Embedded.records(&Plan { records, ..PLAN }), made);
        }
    }

    #[test]
    fn only_a_demos_directory_is_emptied() {
        let place = tempfile::tempdir().unwrap();
        let demo = place.path().join("demo");
        for _ in 0..2 {
            empty(&demo).unwrap();
            fs::write(demo.join("left"), "").unwrap();
        }
        fs::write(place.path().join("thesis.tex"), "").unwrap();
        let error = empty(place.path()).unwrap_err().to_string();
        assert!(error.contains("is not a demo's"), "{error}");
        assert!(place.path().join("thesis.tex").exists());
    }
}
