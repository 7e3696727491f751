//! How the server is told who asks.

use crate::Settings;
use culvert_plugin::http::Credentials;
use culvert_plugin::prelude::*;
use culvert_plugin::secrets;

/// The ways there are.
#[derive(Choice, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// It is not told.
    None,
    /// The secret as `Authorization: Bearer …`.
    Bearer,
    /// `auth.user` and the secret as its password.
    Basic,
    /// The secret in the header `auth.header`.
    Header,
}

/// What the settings leave open.
pub(crate) fn check(settings: &Settings) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let needs_secret = settings.auth != Way::None;
    if needs_secret && settings.auth_secret.is_none() {
        verdicts.push(Verdict::error("auth.secret", "is needed by `auth`, and not set"));
    }
    if !needs_secret && settings.auth_secret.is_some() {
        verdicts.push(Verdict::error(
            "auth.secret",
            "is set, and `auth` does not use it",
        ));
    }
    if settings.auth == Way::Basic && settings.auth_user.is_none() {
        verdicts.push(Verdict::error(
            "auth.user",
            "is needed by `auth` = `basic`, and not set",
        ));
    }
    verdicts
}

pub(crate) fn credentials(settings: &Settings) -> Result<Credentials, Failure> {
    let Some(name) = settings
        .auth_secret
        .as_deref()
        .filter(|_| settings.auth != Way::None)
    else {
        return Ok(Credentials::None);
    };
    let secret = secrets::get(name).map_err(|_| {
        Failure::fatal(format!(
            "secret `{name}` is not granted: set culvert.grant.secrets.{name} to a reference"
        ))
    })?;
    Ok(match settings.auth {
        Way::None => Credentials::None,
        Way::Bearer => Credentials::Bearer(secret),
        Way::Basic => Credentials::Basic(settings.auth_user.clone().unwrap_or_default(), secret),
        Way::Header => Credentials::Header(settings.auth_header.clone(), secret),
    })
}
