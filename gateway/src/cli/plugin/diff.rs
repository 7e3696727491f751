//! `culvert plugin diff`: what users of a plugin notice of its next version.

use super::target::Component;
use crate::cli::table::Table;
use crate::cli::{Exit, Format, Session};
use crate::plugin::diff::{Change, Weight, diff, fits};
use crate::plugin::{Description, Examined, examine};
use anyhow::Context;
use semver::Version;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Which two.
#[derive(Debug, clap::Args)]
#[command(
    about = "Show what a user of a plugin notices of its next version",
    after_help = "\
major: a connector that works with OLD may be refused by NEW, needs a grant more, or does something
else. minor: what worked goes on, and more is possible. patch: nobody notices. A key that keeps its
old name as an alias is not gone. Below 1.0.0 the minor number of a version stands for major.

Nothing of either is run.

Examples:
  culvert plugin diff released.wasm target/order-check.wasm
  culvert plugin diff order-check ./order-check.wasm --output json

The exit code is 0 when nothing breaks, 1 when something does or a file is no plugin, 3 when there
is no such plugin."
)]
pub(in crate::cli) struct Args {
    /// What is in use: a component, a plugin's folder, or a name that `culvert plugin list` shows
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// What is to take its place
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

#[derive(Serialize)]
struct Compared {
    old: String,
    new: String,
    /// None where nothing has changed.
    weight: Option<Weight>,
    /// Whether the new version number says so.
    version_fits: bool,
    changes: Vec<Change>,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (old, new) = (looked_at(&args.old, session)?, looked_at(&args.new, session)?);
    let mut changes = diff(
        (&old.examined, &old.description),
        (&new.examined, &new.description),
    );
    if changes.is_empty() && old.bytes != new.bytes {
        changes.push(Change {
            weight: Weight::Patch,
            of: "file".into(),
            what: "has other bytes".into(),
        });
    }
    let weight = changes.iter().map(|change| change.weight).max();
    let version = |description: &Description| Version::parse(&description.version);
    let compared = Compared {
        old: format!("{} {}", old.description.name, old.description.version),
        new: format!("{} {}", new.description.name, new.description.version),
        weight,
        version_fits: fits(&version(&old.description)?, &version(&new.description)?, weight),
        changes,
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&compared)?,
        Format::Text => session.terminal.answer(text(&compared))?,
    }
    Ok(match weight {
        Some(Weight::Major) => Exit::Failed,
        _ => Exit::Ok,
    })
}

struct LookedAt {
    bytes: Vec<u8>,
    examined: Examined,
    description: Description,
}

fn looked_at(plugin: &Path, session: &Session) -> anyhow::Result<LookedAt> {
    let component = Component::find(plugin, session)?;
    let examined = examine(&component.bytes).with_context(|| component.named.clone())?;
    let description = examined.description.clone().with_context(|| {
        let what = "there is no description in the file, so nothing can be compared";
        format!("{}: {what}\n\n`culvert plugin pack` puts it in", component.named)
    })?;
    Ok(LookedAt {
        bytes: component.bytes,
        examined,
        description,
    })
}

fn text(compared: &Compared) -> String {
    let Some(weight) = compared.weight else {
        return format!("{}: the same file", compared.new);
    };
    let mut table = Table::new(&["WEIGHT", "OF", "CHANGE"], &[]);
    for change in &compared.changes {
        table.row([change.weight.to_string(), change.of.clone(), change.what.clone()]);
    }
    let verdict = if compared.version_fits {
        "which its version says"
    } else {
        "which its version does not say"
    };
    format!(
        "{table}\n\n{} to {}: {weight}, {verdict}",
        compared.old, compared.new
    )
}
