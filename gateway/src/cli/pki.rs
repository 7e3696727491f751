//! `culvert pki`: certificates for gateways, brokers and clients, from an authority in a directory.

use super::{Exit, Format, Session};
use crate::identity::issue::{Authority, Kind};
use crate::identity::{self, Description, Name, TrustDomain};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How long an authority holds: long enough that gateways renewed each year outlive it a few times.
const AUTHORITY_DAYS: u32 = 3650;

/// How long what it signs holds.
const LEAF_DAYS: u32 = 365;

/// What `culvert pki` understands.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  culvert pki init --trust-domain example.org          make the authority in ./certs
  culvert pki issue gateway north                      certs/gateways/north.pem and .key
  culvert pki issue kafka kafka-1 10.0.0.7             certs/kafka/kafka-1.pem, .key, .keystore.pem
  culvert pki renew certs/gateways/north.pem           a new key and certificate, same names
  culvert pki show certs/gateways/north.pem

The authority's key (ca.key) is needed to issue and renew only; keep it off the gateways.")]
pub(super) struct Args {
    /// Where the authority and what it issues are kept
    #[arg(long, value_name = "DIR", default_value = "certs", global = true)]
    directory: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a certificate authority
    Init {
        /// The authority of all names, as in spiffe://<trust domain>/<gateway>
        #[arg(long, value_name = "NAME")]
        trust_domain: String,
        /// How many days it is valid
        #[arg(long, default_value_t = AUTHORITY_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace one that is there; what it issued is then worth nothing
        #[arg(long)]
        force: bool,
    },
    /// Make a key and a certificate
    Issue {
        #[command(subcommand)]
        kind: Wanted,
        /// How many days it is valid
        #[arg(long, global = true, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
        /// Replace one that is there
        #[arg(long, global = true)]
        force: bool,
    },
    /// Make a new key and certificate with the same names, in the same files
    Renew {
        /// The certificates to renew
        #[arg(required = true, value_name = "CERTIFICATE")]
        certificates: Vec<PathBuf>,
        /// How many days the new ones are valid
        #[arg(long, default_value_t = LEAF_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Show what stands in certificates
    Show {
        /// Files in PEM form
        #[arg(required = true, value_name = "CERTIFICATE")]
        certificates: Vec<PathBuf>,
    },
}

#[derive(Debug, clap::Subcommand)]
enum Wanted {
    /// For a gateway, under the name that its configuration gives it
    Gateway {
        /// The gateway's name
        name: String,
    },
    /// For a Kafka broker, under the names and addresses by which clients reach it
    Kafka {
        /// Host names and IP addresses; the first names the files
        #[arg(required = true)]
        hosts: Vec<String>,
    },
    /// For a Kafka client
    Client {
        /// Its common name, which Kafka's rules see as CN=<name>
        name: String,
    },
}

/// A certificate and where it is.
#[derive(Debug, Serialize)]
struct Shown {
    file: PathBuf,
    #[serde(flatten)]
    description: Description,
}

pub(super) fn run(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let shown = act(args)?;
    match session.terminal.format() {
        Format::Json => session.terminal.json(&shown)?,
        Format::Text => {
            for certificate in &shown {
                session.terminal.answer(text(certificate))?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Does what was asked for, and answers the certificates that were made or looked at.
fn act(args: &Args) -> Result<Vec<Shown>, identity::Error> {
    let directory = &args.directory;
    match &args.verb {
        Verb::Init {
            trust_domain,
            days,
            force,
        } => {
            let domain: TrustDomain = trust_domain.parse()?;
            show(&Authority::init(directory, &domain, *days, *force)?.certificate())
        }
        Verb::Issue { kind, days, force } => {
            show(&Authority::open(directory)?.issue(&kind.checked()?, *days, *force)?)
        }
        Verb::Renew { certificates, days } => {
            let authority = Authority::open(directory)?;
            for certificate in certificates {
                authority.renew(certificate, *days)?;
            }
            show_first_of_each(certificates)
        }
        Verb::Show { certificates } => {
            let mut shown = Vec::new();
            for path in certificates {
                for der in identity::certificates(path)? {
                    shown.push(described(path, &der)?);
                }
            }
            Ok(shown)
        }
    }
}

impl Wanted {
    fn checked(&self) -> Result<Kind, identity::Error> {
        Ok(match self {
            Wanted::Gateway { name } => Kind::Gateway(name.parse::<Name>()?),
            Wanted::Kafka { hosts } => Kind::Kafka(hosts.clone()),
            Wanted::Client { name } => Kind::Client(name.clone()),
        })
    }
}

fn show(path: &Path) -> Result<Vec<Shown>, identity::Error> {
    show_first_of_each(&[path.to_owned()])
}

/// Of a chain, only what it was made for.
fn show_first_of_each(paths: &[PathBuf]) -> Result<Vec<Shown>, identity::Error> {
    paths
        .iter()
        .map(|path| described(path, &identity::certificates(path)?[0]))
        .collect()
}

fn described(path: &Path, der: &[u8]) -> Result<Shown, identity::Error> {
    let description = Description::read(der).map_err(|problem| identity::Error::Content {
        path: path.to_owned(),
        problem,
    })?;
    Ok(Shown {
        file: path.to_owned(),
        description,
    })
}

fn text(shown: &Shown) -> String {
    let Shown {
        file,
        description: it,
    } = shown;
    let addresses: Vec<String> = it.addresses.iter().map(ToString::to_string).collect();
    let uses: Vec<&str> = [
        (it.authority, "authority"),
        (it.client, "client"),
        (it.server, "server"),
    ]
    .into_iter()
    .filter_map(|(allowed, name)| allowed.then_some(name))
    .collect();
    let names = [it.uris.as_slice(), it.dns.as_slice(), addresses.as_slice()].concat();
    let rows = [
        ("subject", it.subject.clone()),
        ("issuer", it.issuer.clone()),
        ("names", names.join(", ")),
        ("uses", uses.join(", ")),
        ("valid", format!("{} to {}", it.not_before, it.not_after)),
        ("sha256", it.fingerprint.clone()),
    ];
    let mut text = file.display().to_string();
    for (label, value) in rows {
        text += &format!("\n  {label:<8} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// Runs `culvert pki --directory <directory> <line>`.
    fn pki(directory: &Path, line: &str) -> Result<Vec<Shown>, identity::Error> {
        let arguments = ["pki", "--directory", directory.to_str().unwrap()]
            .into_iter()
            .chain(line.split_whitespace());
        act(&Line::try_parse_from(arguments).unwrap().args)
    }

    #[test]
    fn an_authority_a_gateway_a_broker_and_a_client() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let names = |line: &str| {
            let it = pki(at, line).unwrap().remove(0).description;
            (
                it.uris,
                it.dns,
                it.addresses.len(),
                (it.authority, it.client, it.server),
            )
        };
        let none = Vec::<String>::new;
        let uri = |uri: &str| vec![uri.to_owned()];
        assert_eq!(
            names("init --trust-domain example.org"),
            (uri("spiffe://example.org"), none(), 0, (true, false, false))
        );
        assert_eq!(
            names("issue gateway north --days 7"),
            (
                uri("spiffe://example.org/north"),
                uri("north"),
                0,
                (false, true, true)
            )
        );
        assert_eq!(
            names("issue kafka kafka-1 10.0.0.7 ::1"),
            (none(), uri("kafka-1"), 2, (false, true, true))
        );
        assert_eq!(
            names("issue client billing"),
            (none(), none(), 0, (false, true, false))
        );
        let north = at.join("gateways/north.pem");
        let shown = pki(at, &format!("show {}", north.display())).unwrap();
        assert_eq!(shown.len(), 2, "the certificate and its authority");
        assert!(text(&shown[0]).contains("spiffe://example.org/north, north"));
        let renewed = pki(at, &format!("renew {}", north.display())).unwrap();
        assert_ne!(
            renewed[0].description.fingerprint,
            shown[0].description.fingerprint
        );
        let json = serde_json::to_value(&renewed).unwrap();
        assert_eq!(json[0]["uris"][0], "spiffe://example.org/north");
    }

    #[test]
    fn nothing_is_replaced_by_accident() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        assert!(matches!(
            pki(at, "issue gateway north"),
            Err(identity::Error::File { .. })
        ));
        pki(at, "init --trust-domain example.org").unwrap();
        assert!(matches!(
            pki(at, "init --trust-domain example.org"),
            Err(identity::Error::Exists { .. })
        ));
        pki(at, "issue gateway north").unwrap();
        assert!(matches!(
            pki(at, "issue gateway north"),
            Err(identity::Error::Exists { .. })
        ));
        pki(at, "issue gateway north --force").unwrap();
        assert!(matches!(
            pki(at, "issue gateway North"),
            Err(identity::Error::Name { .. })
        ));
    }
}
