//! `culvert outbox`: hidden; a gateway runs it on its own store in a process of its own, which damage may break.

use super::Exit;
use crate::outbox;
use anyhow::bail;
use std::path::PathBuf;

/// The verbs under `culvert outbox`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Read every entry of a store, and say what is wrong with it
    Verify {
        /// The store's directory
        path: PathBuf,
    },
}

pub(super) fn run(verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Verify { path } if !path.is_dir() => bail!("verify {}: it is no directory", path.display()),
        Verb::Verify { path } => outbox::verify_main(&[path.into()]).map_err(anyhow::Error::msg)?,
    }
    Ok(Exit::Ok)
}
