//! `culvert plugin replay`: a failing batch that a gateway recorded, played again.

use super::run::Notes;
use super::target::Component;
use crate::cli::{Exit, Format, Session, exit};
use crate::plugin::{Digest, FILE_BYTES_MAX, Recorded, ReplayError, Replayed, Seen, replay};
use anyhow::Context;
use serde::Serialize;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is played.
#[derive(Debug, clap::Args)]
#[command(
    about = "Play a failing batch again that a gateway recorded",
    after_help = "\
A gateway records failing batches where plugins.record_failures says so, in the folder failures of
its state. The plugin is given the time, randomness, answers of servers and files of then; nothing
outside is touched. The plugin's log goes to standard error.

Examples:
  culvert plugin replay orders.failure
  culvert plugin replay orders.failure --plugin ./order-check.wasm --output json

The exit code is 0 when the same fault is seen again, 1 when the batch succeeds now or fails in
another way, 2 when the file is damaged or of an unknown version, 3 when the file or the plugin is
not there."
)]
pub(in crate::cli) struct Args {
    /// What a gateway recorded
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What is run: a component, a plugin's folder, or a name [default: the plugin of then]
    #[arg(long, value_name = "COMPONENT")]
    plugin: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answered<'a> {
    plugin: &'a str,
    version: &'a str,
    /// Whether it is the very file of then.
    is_same_plugin: bool,
    connector: &'a str,
    stage: &'a str,
    recorded_ms: i64,
    records: usize,
    batches_before: u64,
    settings_left_out: Vec<&'a str>,
    then: &'a Seen,
    now: &'a Replayed,
    is_same: bool,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let shown = args.file.display();
    let recorded =
        Recorded::read(&read(&args.file)?).map_err(|error| exit::Invalid(format!("{shown}: {error}")))?;
    let (component, is_same_plugin) = component(args, &recorded, session)?;
    let log = Arc::new(Notes(session.terminal));
    let replayed = replay(&recorded, &component.bytes, log).map_err(|error| match error {
        ReplayError::File(error) => exit::Invalid(format!("{shown}: {error}")).into(),
        ReplayError::Load(error) => anyhow::Error::new(error).context(component.named.clone()),
    })?;
    let is_same = replayed.is_same(&recorded);
    let answered = Answered {
        plugin: &recorded.plugin,
        version: &recorded.version,
        is_same_plugin,
        connector: &recorded.connector,
        stage: &recorded.stage,
        recorded_ms: recorded.recorded_ms,
        records: recorded.records(),
        batches_before: recorded.batches_before,
        settings_left_out: recorded.left_out().collect(),
        then: &recorded.fault,
        now: &replayed,
        is_same,
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&answered)?,
        Format::Text => session.terminal.answer(text(&answered))?,
    }
    Ok(if is_same { Exit::Ok } else { Exit::Failed })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("read {}", file.display());
    let mut bytes = Vec::new();
    let open = std::fs::File::open(file).with_context(reading)?;
    open.take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    Ok(bytes)
}

/// The plugin that is named, or else the one of then, and whether it is that one.
fn component(args: &Args, recorded: &Recorded, session: &Session) -> anyhow::Result<(Component, bool)> {
    let component = match &args.plugin {
        Some(plugin) => Component::find(plugin, session)?,
        None => Component::of_shelf(&recorded.plugin, session)?,
    };
    let is_same = Digest::of(&component.bytes).to_string() == recorded.digest;
    if args.plugin.is_none() && !is_same {
        let Recorded { plugin, version, .. } = recorded;
        let other = format!(
            "[CULVERT-W063] the plugin {plugin} that is here ({}) is not the one that failed, {version} of sha256 {}\n\n\
             Name what is to be run: --plugin COMPONENT",
            component.from, recorded.digest
        );
        return Err(exit::Absent(other.into()).into());
    }
    Ok((component, is_same))
}

fn text(answered: &Answered<'_>) -> String {
    let Answered {
        plugin,
        version,
        connector,
        stage,
        records,
        then,
        now,
        ..
    } = answered;
    let records = match records {
        1 => "1 record".to_owned(),
        many => format!("{many} records"),
    };
    let mut lines = vec![
        format!("{plugin} {version}, stage {stage} of {connector}, {records}"),
        format!("then  {}: {}", then.kind, then.text),
        format!("now   {}", told(now)),
    ];
    if !answered.is_same_plugin {
        lines.push("      by another component than then".into());
    }
    if let Some(strayed) = now.strayed.as_ref().filter(|_| now.fault.is_none()) {
        lines.push(format!("      it {strayed}"));
    }
    if !answered.settings_left_out.is_empty() {
        let names = answered.settings_left_out.join(", ");
        lines.push(format!("      passwords are not recorded: {names}"));
    }
    if !answered.is_same && answered.batches_before > 0 {
        let before = answered.batches_before;
        lines.push(format!(
            "      the instance had treated {before} batches before; what it remembered of them is not recorded"
        ));
    }
    lines.push(if answered.is_same {
        "the same fault".into()
    } else {
        "not the same".into()
    });
    lines.join("\n")
}

fn told(now: &Replayed) -> String {
    match (&now.fault, now.outcomes.as_slice()) {
        (Some(Seen { kind, text }), _) => format!("{kind}: {text}"),
        (None, [one]) => format!("succeeds: {one}"),
        (None, many) => format!("succeeds: {} outcomes", many.len()),
    }
}
