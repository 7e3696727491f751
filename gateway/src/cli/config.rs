//! `culvert config`: what is in force, and the reference.

use super::terminal::Tone;
use super::{Exit, Format, Session};
use crate::config::{Effective, reference_page};
use crate::observe::metrics;
use serde::Serialize;
use std::collections::BTreeMap;

/// The verbs under `culvert config`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Print every value in force and where it comes from; secrets stay references
    #[command(
        after_help = "Examples:\n  culvert config show\n  CULVERT_OUTBOX__QUOTA='20 GiB' culvert config show --output json"
    )]
    Show,
    /// Print the reference of all keys as Markdown
    Reference,
    /// Print the reference of all metrics as Markdown
    Metrics,
}

pub(super) fn run(verb: &Verb, session: &Session) -> anyhow::Result<Exit> {
    match verb {
        Verb::Show => show(session)?,
        Verb::Reference => session.terminal.answer(reference_page::page().trim_end())?,
        Verb::Metrics => session.terminal.answer(metrics::page().trim_end())?,
    }
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Shown<'a> {
    values: &'a [Effective],
    connectors: Vec<ShownConnector<'a>>,
}

#[derive(Serialize)]
struct ShownConnector<'a> {
    name: &'a str,
    class: std::borrow::Cow<'static, str>,
    file: String,
    config: BTreeMap<&'a str, &'a str>,
}

fn show(session: &Session) -> anyhow::Result<()> {
    let config = session.config()?;
    let connectors = config.connectors.iter().map(|connector| ShownConnector {
        name: &connector.name,
        class: connector.checked.class_name(),
        file: connector.file.display().to_string(),
        config: connector.shown.shown().collect(),
    });
    let shown = Shown {
        values: &config.effective,
        connectors: connectors.collect(),
    };
    match session.terminal.format() {
        Format::Json => session.terminal.json(&shown)?,
        Format::Text => text(session, &shown)?,
    }
    Ok(())
}

/// TOML that could be a `culvert.toml` again but for its dotted keys, each line with where the value comes from.
fn text(session: &Session, shown: &Shown<'_>) -> std::io::Result<()> {
    let line = |value: &Effective| format!("{} = {}", value.key, value.value);
    let width = shown
        .values
        .iter()
        .map(|value| line(value).chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    let from = |text: String| session.terminal.paint(&text, Tone::Dim);
    for value in shown.values {
        session.terminal.answer(format_args!(
            "{:width$}  {}",
            line(value),
            from(format!("# {}", value.from))
        ))?;
    }
    for connector in &shown.connectors {
        let head = format!("connector {} ({})", connector.name, connector.class);
        session.terminal.answer(format_args!(
            "\n{}  {}",
            head,
            from(format!("# {}", connector.file))
        ))?;
        for (key, value) in &connector.config {
            session.terminal.answer(format_args!("  {key} = {value:?}"))?;
        }
    }
    Ok(())
}
