//! `culvert demo verify-isolation`: tries every forbidden path between the demo's networks, from inside of every container.
//!
//! ```text
//! 1  the engine says who runs, and who stands in which network         engine.rs
//! 2  a probe joins each container's network namespace, says what listens there, and answers whoever comes    probe.rs
//! 3  another one tries from there all that must not be reached: addresses, ports, names                      paths.rs
//! ```
//!
//! What is allowed is what the labels in `docker-compose.yml` say, and not what the engine has set up: a container that was
//! put into a network by hand is found by both, by its standing there and by what it reaches.

mod engine;
mod paths;
pub(super) mod probe;

use crate::cli::terminal::Tone;
use crate::cli::words::count;
use crate::cli::{Exit, Format, Session};
use engine::{Engine, Probes};
use paths::{Attempt, Member};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Try every forbidden path between the demo's networks; 0 only when all fail
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs the socket of the container engine. From inside of every container it tries every other one
that it must not reach: each address over TCP and UDP, each port that anything listens on, each
name. Gateways that share a link may reach each other's tunnel there, and nothing else.

A path that a profile opens on purpose is named with its reason, and is no success either, unless
that service is accepted.

Examples:
  docker compose run --rm isolation                  without this program on the host
  culvert demo verify-isolation
  culvert demo verify-isolation --accept prometheus")]
pub(in crate::cli) struct Args {
    /// The demo's name in compose
    #[arg(long, value_name = "NAME", default_value = "culvert")]
    project: String,
    /// The engine's socket
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    engine: PathBuf,
    /// A service whose open paths are right
    #[arg(long, value_name = "SERVICE", value_delimiter = ',')]
    accept: Vec<String>,
}

/// How long probes answer: longer than all attempts together may take, and not for ever if this program is killed.
const PROBES_LIVE: Duration = Duration::from_secs(180);

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Verdict {
    /// Paths that were tried.
    tried: usize,
    /// Containers they were tried from.
    from: usize,
    /// What should not be.
    open: Vec<String>,
    /// What a service opens that says so itself.
    opened: Vec<Opened>,
}

/// A path that is open on purpose.
#[derive(Debug, Serialize)]
struct Opened {
    service: String,
    why: String,
    path: String,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let engine = Engine::new(&args.engine);
    let (members, networks) = engine.demo(&args.project)?;
    let probes = Probes::join(&engine, &args.project, &members, PROBES_LIVE)?;
    let seen = probes.seen()?;
    let mut verdict = Verdict {
        open: paths::standing(&members, &networks, &seen),
        from: members.len(),
        ..Verdict::default()
    };
    let plans: Vec<Vec<Attempt>> = (0..members.len())
        .map(|from| paths::forbidden(from, &members, &seen))
        .collect();
    verdict.tried = plans.iter().map(Vec::len).sum();
    for (from, (plan, results)) in plans.iter().zip(probes.attempt(&plans)?).enumerate() {
        for (attempt, how) in plan.iter().zip(results) {
            if let Some(how) = how {
                verdict.add(&members, from, attempt, &how);
            }
        }
    }
    drop(probes);
    answer(&verdict, session)?;
    let refused = verdict
        .opened
        .iter()
        .any(|path| !args.accept.contains(&path.service));
    Ok(if verdict.open.is_empty() && !refused {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

impl Verdict {
    fn add(&mut self, members: &[Member], from: usize, attempt: &Attempt, how: &str) {
        let (here, there) = (&members[from], &members[attempt.to]);
        let path = format!("{} -> {}: {} {how}", here.service, there.service, attempt.what);
        match paths::opener(here, there) {
            Some(opener) => self.opened.push(Opened {
                service: opener.service.clone(),
                why: opener.opens.clone().unwrap_or_default(),
                path,
            }),
            None => self.open.push(path),
        }
    }
}

fn answer(verdict: &Verdict, session: &Session) -> std::io::Result<()> {
    let terminal = &session.terminal;
    if terminal.format() == Format::Json {
        return terminal.json(verdict);
    }
    for path in &verdict.open {
        terminal.answer(format_args!("{} {path}", terminal.paint("OPEN", Tone::Bad)))?;
    }
    for Opened { service, why, path } in &verdict.opened {
        let opened = terminal.paint("opened on purpose", Tone::Warning);
        terminal.answer(format_args!("{opened} by {service} ({why}): {path}"))?;
    }
    let tried = format!(
        "{} tried from {}: ",
        count(verdict.tried, "forbidden path"),
        count(verdict.from, "container")
    );
    match (verdict.open.len(), verdict.opened.len()) {
        (0, 0) => terminal.answer(format_args!("{tried}all fail")),
        (open, opened) => terminal.answer(format_args!("{tried}{open} open, {opened} opened on purpose")),
    }
}
