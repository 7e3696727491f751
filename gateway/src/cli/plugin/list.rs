//! `culvert plugin list`: the plugins that connectors of this gateway may name.

use crate::cli::table::Table;
use crate::cli::words::bytes;
use crate::cli::{Exit, Format, Session};
use crate::plugin::Shelf;
use serde::Serialize;
use std::path::PathBuf;

/// Where to look.
#[derive(Debug, clap::Args)]
#[command(
    about = "Show the plugins that connectors may name",
    after_help = "\
Bundled plugins, and those of the plugin directory, which take the place of a bundled one of the
same name. Without --directory it is the directory of the configuration, if there is one.

Examples:
  culvert plugin list
  culvert plugin list --directory ./plugins --output json

The exit code is 0 when all files are plugins, 1 when one of them is not."
)]
pub(in crate::cli) struct Args {
    /// The plugin directory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// One plugin.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    version: &'a str,
    role: String,
    from: String,
    bytes: usize,
    summary: &'a str,
}

/// All of them.
#[derive(Serialize)]
struct Listed<'a> {
    plugins: Vec<Entry<'a>>,
    refused: Vec<Refused>,
}

/// A file that is no plugin.
#[derive(Serialize)]
struct Refused {
    file: PathBuf,
    reason: String,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let shelf = match &args.directory {
        Some(directory) => Shelf::open(directory),
        None if session.config_file().is_ok() => session.config()?.plugins,
        None => Shelf::open("plugins".as_ref()),
    };
    let listed = Listed {
        plugins: shelf
            .plugins()
            .map(|plugin| Entry {
                name: &plugin.description.name,
                version: &plugin.description.version,
                role: plugin
                    .examined
                    .roles
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                from: plugin.origin.to_string(),
                bytes: plugin.examined.size,
                summary: &plugin.description.summary,
            })
            .collect(),
        refused: shelf
            .refused()
            .iter()
            .map(|(file, reason)| Refused {
                file: file.clone(),
                reason: reason.clone(),
            })
            .collect(),
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&listed)?,
        Format::Text => session.terminal.answer(text(&listed))?,
    }
    Ok(if listed.refused.is_empty() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

fn text(listed: &Listed<'_>) -> String {
    let mut table = Table::new(
        &["PLUGIN", "VERSION", "ROLE", "SIZE", "FROM", "WHAT IT DOES"],
        &[3],
    );
    for plugin in &listed.plugins {
        table.row([
            plugin.name.to_owned(),
            plugin.version.to_owned(),
            plugin.role.clone(),
            bytes(plugin.bytes as u64),
            plugin.from.clone(),
            plugin.summary.to_owned(),
        ]);
    }
    let refused = listed
        .refused
        .iter()
        .map(|refused| format!("\n\n{}: {}", refused.file.display(), refused.reason));
    format!("{table}{}", refused.collect::<String>())
}
