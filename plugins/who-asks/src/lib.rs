//! How a server is told who asks: the keys `auth`, `auth.secret`, `auth.user` and `auth.header`.

use culvert_plugin::http::Credentials;
use culvert_plugin::prelude::*;
use culvert_plugin::secrets;

/// The ways there are.
#[derive(Choice, Clone, Copy, PartialEq)]
pub enum Way {
    /// It is not told.
    None,
    /// The secret as `Authorization: Bearer …`.
    Bearer,
    /// `auth.user` and the secret as its password.
    Basic,
    /// The secret in the header `auth.header`.
    Header,
}

/// What the settings say.
pub struct WhoAsks<'a> {
    /// `auth`.
    pub way: Way,
    /// `auth.secret`.
    pub secret: Option<&'a str>,
    /// `auth.user`.
    pub user: Option<&'a str>,
    /// `auth.header`.
    pub header: &'a str,
}

impl WhoAsks<'_> {
    /// What the settings leave open.
    #[must_use]
    pub fn check(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        let needs_secret = self.way != Way::None;
        if needs_secret && self.secret.is_none() {
            verdicts.push(Verdict::error("auth.secret", "is needed by `auth`, and not set"));
        }
        if !needs_secret && self.secret.is_some() {
            verdicts.push(Verdict::error(
                "auth.secret",
                "is set, and `auth` does not use it",
            ));
        }
        if self.way == Way::Basic && self.user.is_none() {
            verdicts.push(Verdict::error(
                "auth.user",
                "is needed by `auth` = `basic`, and not set",
            ));
        }
        verdicts
    }

    /// What goes with each request.
    ///
    /// # Errors
    /// When the secret was not granted.
    pub fn credentials(&self) -> Result<Credentials, Failure> {
        let Some(name) = self.secret.filter(|_| self.way != Way::None) else {
            return Ok(Credentials::None);
        };
        let secret = secrets::get(name).map_err(|_| {
            Failure::fatal(format!(
                "secret `{name}` is not granted: set culvert.grant.secrets.{name} to a reference"
            ))
        })?;
        Ok(match self.way {
            Way::None => Credentials::None,
            Way::Bearer => Credentials::Bearer(secret),
            Way::Basic => Credentials::Basic(self.user.unwrap_or_default().to_owned(), secret),
            Way::Header => Credentials::Header(self.header.to_owned(), secret),
        })
    }
}
