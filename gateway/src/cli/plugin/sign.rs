//! `culvert plugin keygen, sign, verify`: who vouches for a plugin's file.

use super::target::Component;
use crate::cli::{Exit, Format, Session, exit};
use crate::plugin::{self, PublicKey};
use anyhow::Context;
use serde::Serialize;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Where the key goes.
#[derive(Debug, clap::Args)]
#[command(
    about = "Make a key to sign plugins with",
    after_help = "\
Writes NAME.key, to be kept secret (mode 0600), and NAME.pub, to be named in plugins.trusted_keys.
Both are PEM. OpenSSL makes the same:
  openssl genpkey -algorithm ed25519 -out acme.key
  openssl pkey -in acme.key -pubout -out acme.pub

Example:
  culvert plugin keygen acme

A file that is there is not replaced. The exit code is 0 when the key is made, 1 when not."
)]
pub(in crate::cli) struct Keygen {
    /// The files' name, without an ending
    #[arg(value_name = "NAME")]
    name: PathBuf,
}

pub(super) fn keygen(args: &Keygen, session: &Session) -> anyhow::Result<Exit> {
    let (private, public) = plugin::generated()?;
    let (key, other) = (with_ending(&args.name, ".key"), with_ending(&args.name, ".pub"));
    write_new(&key, &private, 0o600)?;
    write_new(&other, &public, 0o644)?;
    session
        .terminal
        .note(format!("{} signs; keep it secret", key.display()));
    let place = format!("{} is for plugins.trusted_keys", other.display());
    session.terminal.note(place);
    Ok(Exit::Ok)
}

fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut path = name.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(|| format!("make {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}

/// What is signed.
#[derive(Debug, clap::Args)]
#[command(
    about = "Sign a plugin's file",
    after_help = "\
The signature (Ed25519) covers every byte of the file, the description too, and lies at its end. A
file may have several, of several keys; signing again with the same key replaces its own.

Example:
  culvert plugin sign order-check.wasm --key acme.key

The exit code is 0 when it is signed, 1 when it cannot be, 3 when a file is not there."
)]
pub(in crate::cli) struct Sign {
    /// The component; it is changed in place
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The private key, PEM (PKCS#8)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn sign(args: &Sign, session: &Session) -> anyhow::Result<Exit> {
    let pem = std::fs::read(&args.key).with_context(|| format!("read {}", args.key.display()))?;
    let key = plugin::signing_key(&pem).with_context(|| args.key.display().to_string())?;
    let component = std::fs::read(&args.file).with_context(|| format!("read {}", args.file.display()))?;
    let examined = plugin::examine(&component).with_context(|| args.file.display().to_string())?;
    if examined.description.is_none() {
        let what = "a description is missing, and would lie behind the signature";
        let hint = format!("`culvert plugin pack {}` puts it in", args.file.display());
        anyhow::bail!("{}: {what}\n\n{hint}", args.file.display());
    }
    let signed = plugin::sign(&component, &key).with_context(|| args.file.display().to_string())?;
    super::pack::replace(&args.file, &signed)?;
    let note = format!("{} is signed by {}", args.file.display(), key.public());
    session.terminal.note(note);
    Ok(Exit::Ok)
}

/// What is checked.
#[derive(Debug, clap::Args)]
#[command(
    about = "Check who has signed a plugin's file",
    after_help = "\
Without --key every signature must fit the file, and there must be one. With keys, one of them
must have signed. A key is shown as the SHA-256 of its public half in DER.

Examples:
  culvert plugin verify order-check.wasm --key acme.pub
  culvert plugin verify order-check.wasm --output json

The exit code is 0 when it is signed so, 1 when not, 3 when a file is not there."
)]
pub(in crate::cli) struct Verify {
    /// A component, a plugin's folder, or a name that `culvert plugin list` shows
    #[arg(value_name = "PLUGIN")]
    plugin: PathBuf,
    /// A public key that may have signed, PEM; may be given again
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
}

/// What came of it.
#[derive(Serialize)]
struct Verified {
    from: String,
    signers: Vec<Signer>,
    is_signed: bool,
    /// Why not.
    problem: Option<String>,
}

/// One of them.
#[derive(Serialize)]
struct Signer {
    key: String,
    /// The file of `--key` that it is.
    file: Option<PathBuf>,
}

pub(super) fn verify(args: &Verify, session: &Session) -> anyhow::Result<Exit> {
    let keys = args
        .key
        .iter()
        .map(|file| Ok((read_public(file)?, file)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let component = Component::find(&args.plugin, session)?;
    let verified = verified(component.from, &component.bytes, &keys);
    match session.terminal.format() {
        Format::Json => session.terminal.json(&verified)?,
        Format::Text => session.terminal.answer(text(&verified))?,
    }
    Ok(if verified.is_signed {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

fn read_public(file: &Path) -> anyhow::Result<PublicKey> {
    let pem = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let key =
        plugin::public_key(&pem).map_err(|error| exit::Invalid(format!("{}: {error}", file.display())))?;
    Ok(key)
}

fn verified(from: String, component: &[u8], keys: &[(PublicKey, &PathBuf)]) -> Verified {
    let file_of = |key: &PublicKey| {
        keys.iter()
            .find(|(known, _)| known == key)
            .map(|(_, file)| (*file).clone())
    };
    let (signers, mut problem) = match plugin::signers(component) {
        Ok(signers) => (signers, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let signers: Vec<Signer> = signers
        .iter()
        .map(|key| Signer {
            key: key.to_string(),
            file: file_of(key),
        })
        .collect();
    if problem.is_none() {
        problem = if signers.is_empty() {
            Some("it is not signed".into())
        } else if !keys.is_empty() && signers.iter().all(|signer| signer.file.is_none()) {
            Some("none of the keys given has signed it".into())
        } else {
            None
        };
    }
    Verified {
        from,
        signers,
        is_signed: problem.is_none(),
        problem,
    }
}

fn text(verified: &Verified) -> String {
    let verdict = match &verified.problem {
        Some(problem) => format!("{}: {problem}", verified.from),
        None => format!("{}: signed, and as it was signed", verified.from),
    };
    let line = |signer: &Signer| {
        let file = signer
            .file
            .as_ref()
            .map_or(String::new(), |file| format!("  {}", file.display()));
        format!("\n  {}{file}", signer.key)
    };
    verdict + &verified.signers.iter().map(line).collect::<String>()
}
