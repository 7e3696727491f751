//! `culvert check`: every mistake at once.

use super::words::count;
use super::{Exit, Format, Session};
use crate::config::{Asks, Config, Mistake};
use serde::Serialize;

#[derive(Serialize)]
struct Verdict<'a> {
    valid: bool,
    mistakes: &'a [Mistake],
}

/// Checks the configuration and the files it names. Mistakes are the answer, so they go to standard output.
pub(super) fn run(session: &Session) -> anyhow::Result<Exit> {
    let file = session.config_file()?;
    let checked = Config::load_and_ask(&file, &session.environment, Asks::Reader)
        .and_then(|config| config.check_files().map(|()| config));
    match (&checked, session.terminal.format()) {
        (Ok(config), Format::Text) => session.terminal.answer(summary(config))?,
        (Ok(_), Format::Json) => session.terminal.json(&Verdict {
            valid: true,
            mistakes: &[],
        })?,
        (Err(mistakes), Format::Text) => {
            session.terminal.answer(mistakes)?;
            session.terminal.note(count(mistakes.0.len(), "mistake"));
        }
        (Err(mistakes), Format::Json) => session.terminal.json(&Verdict {
            valid: false,
            mistakes: &mistakes.0,
        })?,
    }
    Ok(checked
        .err()
        .map_or(Exit::Ok, |mistakes| Exit::of(&mistakes.into())))
}

fn summary(config: &Config) -> String {
    format!(
        "{} is valid: gateway {} at site {}, {}, {}, {}, {}",
        config.file.strip_prefix("./").unwrap_or(&config.file).display(),
        config.gateway,
        config.site,
        count(config.peers.len(), "peer"),
        count(config.grants.len(), "grant"),
        count(config.relays.len(), "relay"),
        count(config.connectors.len(), "connector"),
    )
}
