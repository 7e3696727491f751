//! What the verbs that ask a running gateway have in common.

use super::Session;
use crate::config;
use std::path::PathBuf;

/// Where the gateway is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Asking {
    /// The gateway's control socket [default: the one the configuration names]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Asking {
    /// The named socket, else the configuration's.
    pub(super) fn socket(&self, session: &Session) -> anyhow::Result<PathBuf> {
        match &self.socket {
            Some(path) => Ok(path.clone()),
            None => Ok(config::control_socket(
                &session.config_file()?,
                &session.environment,
            )?),
        }
    }
}
