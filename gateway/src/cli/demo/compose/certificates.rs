//! `culvert demo certificates`: what `culvert pki` makes, for everybody in the compose demo, each in a folder of its own.
//!
//! ```text
//! <directory>/authority/<name>/ca.pem ca.key            seen by this service alone
//!             <network>/<service>/<purpose>.pem .key .keystore.pem <purpose>-ca.pem
//! ```
//!
//! A network's folder is a volume of its own, and a service's files belong to that service's user: what breaks into one
//! finds no other's key. The tunnel and each Kafka cluster have an authority of their own.

use crate::cli::{Exit, Format, Session};
use crate::identity::issue::{Authority, Kind};
use crate::identity::{self, Description};
use anyhow::Context;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Make the certificates of the compose demo where they are not there yet
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Makes an authority for the tunnel and one for each Kafka cluster, and what they sign for every
service. What is there and valid for 30 days more is left alone. As root it gives each service's
files to that service's user.

Examples:
  culvert demo certificates --directory /certs")]
pub(in crate::cli) struct Args {
    /// Where the authorities and the networks' folders are
    #[arg(long, value_name = "DIR", default_value = "certs")]
    directory: PathBuf,
}

const AUTHORITY_DAYS: u32 = 3_650;
const LEAF_DAYS: u32 = 365;

/// Renewed that long before it ends.
const RENEW_SECONDS: i64 = 30 * 86_400;

/// The users that images run as: ours as `docker-compose.yml` says, Kafka's and Confluent's `appuser`, and nginx' root.
const GATEWAY: u32 = 65_532;
const TOOL: u32 = 65_533;
const KAFKA: u32 = 1_000;
const ROOT: u32 = 0;

/// An authority and the trust domain of its names.
const AUTHORITIES: [(&str, &str); 4] = [
    ("tunnel", "culvert"),
    ("kafka1", "kafka1.culvert"),
    ("kafka3", "kafka3.culvert"),
    ("web", "web.culvert"),
];

/// Who gets what.
struct Leaf {
    network: &'static str,
    service: &'static str,
    /// What the files are called.
    purpose: &'static str,
    authority: &'static str,
    holder: Holder,
    user: u32,
}

#[derive(Clone, Copy)]
enum Holder {
    Gateway,
    Server(&'static [&'static str]),
    Client,
}

const fn leaf(
    place: (&'static str, &'static str),
    (purpose, authority): (&'static str, &'static str),
    holder: Holder,
    user: u32,
) -> Leaf {
    Leaf {
        network: place.0,
        service: place.1,
        purpose,
        authority,
        holder,
        user,
    }
}

const LEAVES: [Leaf; 12] = [
    leaf(
        ("network1", "gw1"),
        ("tunnel", "tunnel"),
        Holder::Gateway,
        GATEWAY,
    ),
    leaf(("network1", "gw1"), ("kafka", "kafka1"), Holder::Client, GATEWAY),
    leaf(
        ("network1", "generator"),
        ("kafka", "kafka1"),
        Holder::Client,
        TOOL,
    ),
    leaf(
        ("network1", "kafka1"),
        ("kafka", "kafka1"),
        Holder::Server(&["kafka1", "localhost"]),
        KAFKA,
    ),
    leaf(
        ("network2", "gw2"),
        ("tunnel", "tunnel"),
        Holder::Gateway,
        GATEWAY,
    ),
    leaf(
        ("network2", "proxy"),
        ("web", "web"),
        Holder::Server(&["proxy", "localhost", "127.0.0.1"]),
        ROOT,
    ),
    leaf(
        ("network2", "control-center"),
        ("kafka1", "kafka1"),
        Holder::Client,
        KAFKA,
    ),
    leaf(
        ("network2", "control-center"),
        ("kafka3", "kafka3"),
        Holder::Client,
        KAFKA,
    ),
    leaf(
        ("network3", "gw3"),
        ("tunnel", "tunnel"),
        Holder::Gateway,
        GATEWAY,
    ),
    leaf(("network3", "gw3"), ("kafka", "kafka3"), Holder::Client, GATEWAY),
    leaf(
        ("network3", "verifier"),
        ("kafka", "kafka3"),
        Holder::Client,
        TOOL,
    ),
    leaf(
        ("network3", "kafka3"),
        ("kafka", "kafka3"),
        Holder::Server(&["kafka3", "localhost"]),
        KAFKA,
    ),
];

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let owned = rustix::process::geteuid().is_root();
    let made = lay(&args.directory, owned)?;
    match session.terminal.format() {
        Format::Json => session.terminal.json(&made)?,
        Format::Text if made.is_empty() => session.terminal.answer("every certificate is there")?,
        Format::Text => {
            for path in &made {
                session.terminal.answer(path.display())?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Makes what is missing, and answers which certificates those are.
fn lay(directory: &Path, owned: bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for (name, domain) in AUTHORITIES {
        let place = directory.join("authority").join(name);
        let authority = if place.join("ca.pem").exists() {
            Authority::open(&place)?
        } else {
            Authority::init(&place, &domain.parse()?, AUTHORITY_DAYS, true)?
        };
        for leaf in LEAVES.iter().filter(|leaf| leaf.authority == name) {
            let target = directory.join(leaf.network).join(leaf.service);
            if !leaf.holds(&target, &authority) {
                let issued = authority.issue(&leaf.kind()?, LEAF_DAYS, true)?;
                leaf.publish(&issued, &authority, &target, owned)?;
                made.push(target.join(format!("{}.pem", leaf.purpose)));
            }
        }
    }
    Ok(made)
}

impl Leaf {
    fn kind(&self) -> anyhow::Result<Kind> {
        Ok(match self.holder {
            Holder::Gateway => Kind::Gateway(self.service.parse()?),
            Holder::Server(names) => Kind::Kafka(names.iter().map(|name| (*name).to_owned()).collect()),
            Holder::Client => Kind::Client(self.service.to_owned()),
        })
    }

    /// Whether the certificate is there, of this authority, and valid for a while.
    fn holds(&self, target: &Path, authority: &Authority) -> bool {
        let ca = fs::read(target.join(self.ca()));
        let same = matches!((ca, fs::read(authority.certificate())), (Ok(there), Ok(ours)) if there == ours);
        same && ends(&target.join(format!("{}.pem", self.purpose)))
            .is_some_and(|ends| ends - now() > RENEW_SECONDS)
    }

    fn ca(&self) -> String {
        format!("{}-ca.pem", self.purpose)
    }

    /// The certificate last: where it is, all is.
    fn publish(
        &self,
        issued: &Path,
        authority: &Authority,
        target: &Path,
        owned: bool,
    ) -> anyhow::Result<()> {
        fs::create_dir_all(target).with_context(|| format!("make {}", target.display()))?;
        self.hand_over(target, 0o500, owned)?;
        let files = [
            (authority.certificate(), self.ca(), 0o444),
            (
                issued.with_extension("key"),
                format!("{}.key", self.purpose),
                0o400,
            ),
            (
                issued.with_extension("keystore.pem"),
                format!("{}.keystore.pem", self.purpose),
                0o400,
            ),
            (issued.to_owned(), format!("{}.pem", self.purpose), 0o444),
        ];
        for (from, to, mode) in files.into_iter().filter(|(from, ..)| from.exists()) {
            let fresh = target.join(format!(".{to}"));
            let act = || format!("write {}", target.join(&to).display());
            // One that a process left behind as it died may belong to another user by now.
            let _ = fs::remove_file(&fresh);
            fs::copy(&from, &fresh).with_context(act)?;
            self.hand_over(&fresh, mode, owned)?;
            fs::rename(&fresh, target.join(&to)).with_context(act)?;
        }
        Ok(())
    }

    fn hand_over(&self, path: &Path, mode: u32, owned: bool) -> anyhow::Result<()> {
        // The owner of a folder that is no root has to write into it.
        let mode = if owned { mode } else { mode | 0o200 };
        fs::set_permissions(path, Permissions::from_mode(mode))
            .and_then(|()| {
                if owned {
                    chown(path, Some(self.user), Some(self.user))
                } else {
                    Ok(())
                }
            })
            .with_context(|| format!("give {} to user {}", path.display(), self.user))
    }
}

fn ends(certificate: &Path) -> Option<i64> {
    let chain = identity::certificates(certificate).ok()?;
    Some(Description::read(chain.first()?).ok()?.ends)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn everybody_gets_what_is_his_and_a_second_time_makes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let certs = place.path();
        assert_eq!(lay(certs, false).unwrap().len(), LEAVES.len());
        assert_eq!(lay(certs, false).unwrap(), Vec::<PathBuf>::new());
        for leaf in &LEAVES {
            let folder = certs.join(leaf.network).join(leaf.service);
            let found: BTreeSet<String> = fs::read_dir(&folder)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .filter(|file| file.starts_with(&format!("{}.", leaf.purpose)) || *file == leaf.ca())
                .collect();
            let store = !matches!(leaf.holder, Holder::Gateway);
            assert_eq!(
                found.len(),
                if store { 4 } else { 3 },
                "{}: {found:?}",
                folder.display()
            );
            let key = fs::metadata(folder.join(format!("{}.key", leaf.purpose))).unwrap();
            assert_eq!(key.permissions().mode() & 0o077, 0, "others read a key");
        }
        let network1 = certs.join("network1");
        let own = identity::certificates(&network1.join("kafka1/kafka.pem")).unwrap();
        let names = Description::read(&own[0]).unwrap().dns;
        assert_eq!(names, ["kafka1", "localhost"]);
        assert!(!certs.join("network1/gw3").exists() && !certs.join("network3/gw1").exists());
    }

    #[test]
    fn what_is_lost_or_of_another_authority_is_made_anew() {
        let place = tempfile::tempdir().unwrap();
        let certs = place.path();
        lay(certs, false).unwrap();
        fs::remove_file(certs.join("network3/verifier/kafka.pem")).unwrap();
        let made = lay(certs, false).unwrap();
        assert_eq!(made, [certs.join("network3/verifier/kafka.pem")]);
        fs::remove_dir_all(certs.join("authority/tunnel")).unwrap();
        let made = lay(certs, false).unwrap();
        let gateways = ["network1/gw1", "network2/gw2", "network3/gw3"];
        assert_eq!(
            made,
            gateways.map(|gateway| certs.join(gateway).join("tunnel.pem"))
        );
    }
}
