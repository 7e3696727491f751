//! Files of receipts: `culvert prove --receipt` writes one, `culvert prove --verify` checks one, with nothing but the file.

use super::exit::{Absent, Invalid};
use super::table::Table;
use super::terminal::Tone;
use super::words::{count, thousands};
use super::{Exit, Format, Session};
use crate::identity::{self, Authorities};
use crate::observe::report::Fault;
use crate::receipt::{self, Refusal, Statement, Verified, without_code};
use anyhow::Context;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A file that is taken before anything is signed, and removed again unless it is filled.
pub(super) struct Place {
    path: PathBuf,
    file: File,
    filled: bool,
}

impl Place {
    /// Makes the file.
    pub(super) fn take(path: &Path) -> anyhow::Result<Place> {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = format!(
                    "{} exists, and receipts are not written over\n\nName another file.",
                    path.display()
                );
                return Err(Invalid(text).into());
            }
            made => made.with_context(|| format!("make {}", path.display()))?,
        };
        Ok(Place {
            path: path.to_owned(),
            file,
            filled: false,
        })
    }

    /// Writes the document. It is on disk when this returns.
    pub(super) fn fill(mut self, document: &str) -> anyhow::Result<PathBuf> {
        self.file
            .write_all(document.as_bytes())
            .and_then(|()| self.file.sync_all())
            .with_context(|| format!("write {}", self.path.display()))?;
        self.filled = true;
        Ok(self.path.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What became of a file, for others to read.
#[derive(Serialize)]
struct Judged<'a> {
    verdict: &'static str,
    fault: Option<Fault>,
    /// Whether authorities were given, and stand behind every certificate.
    names_proven: bool,
    /// Whether an earlier file was given, and every receipt comes right behind one in it.
    follows: bool,
    receipts: Vec<JudgedReceipt<'a>>,
}

#[derive(Serialize)]
struct JudgedReceipt<'a> {
    hash: String,
    before: Option<String>,
    origin: JudgedStatement<'a>,
    sink: JudgedStatement<'a>,
}

#[derive(Serialize)]
struct JudgedStatement<'a> {
    certificate: &'a str,
    #[serde(flatten)]
    statement: &'a Statement,
}

/// Checks `file` by the authorities in `ca`, and that it comes right behind `after`.
pub(super) fn verify(
    file: &Path,
    ca: &[PathBuf],
    after: Option<&Path>,
    session: &Session,
) -> anyhow::Result<Exit> {
    let authorities = authorities(ca)?;
    let document = document(file)?;
    let earlier = match after {
        Some(path) => Some((path, self::document(path)?)),
        None => None,
    };
    let judged = judge(
        &document,
        earlier.as_ref().map(|(_, bytes)| &bytes[..]),
        authorities.as_ref(),
    );
    let in_file = |is_earlier: bool| match (&earlier, is_earlier) {
        (Some((path, _)), true) => path.display().to_string(),
        _ => file.display().to_string(),
    };
    match (judged, session.terminal.format()) {
        (Ok(verified), Format::Json) => {
            session.terminal.json(&Judged {
                verdict: "holds",
                fault: None,
                names_proven: authorities.is_some(),
                follows: earlier.is_some(),
                receipts: verified.iter().map(JudgedReceipt::of).collect(),
            })?;
            Ok(Exit::Ok)
        }
        (Ok(verified), Format::Text) => {
            let text = text(&verified, authorities.is_some(), earlier.is_some());
            let holds = session.terminal.paint(&sentence(&verified), Tone::Good);
            session.terminal.answer(format_args!("{text}\n\n{holds}"))?;
            Ok(Exit::Ok)
        }
        (Err((is_earlier, refusal)), Format::Json) => {
            session.terminal.json(&Judged {
                verdict: "refused",
                fault: Some(Fault {
                    code: refusal.code().into(),
                    message: format!("{}: {}", in_file(is_earlier), without_code(&refusal.to_string())),
                }),
                names_proven: false,
                follows: false,
                receipts: Vec::new(),
            })?;
            Ok(Exit::Failed)
        }
        (Err((is_earlier, refusal)), Format::Text) => {
            Err(anyhow::Error::from(refusal).context(format!("verify {}", in_file(is_earlier))))
        }
    }
}

/// What stands in a document, or what does not hold and whether that is of the earlier one.
fn judge(
    document: &[u8],
    earlier: Option<&[u8]>,
    authorities: Option<&Authorities>,
) -> Result<Vec<Verified>, (bool, Refusal)> {
    let verified = receipt::verify(document, authorities).map_err(|refusal| (false, refusal))?;
    if let Some(earlier) = earlier {
        let earlier = receipt::verify(earlier, authorities).map_err(|refusal| (true, refusal))?;
        receipt::follows(&verified, &earlier).map_err(|refusal| (false, refusal))?;
    }
    Ok(verified)
}

fn authorities(files: &[PathBuf]) -> anyhow::Result<Option<Authorities>> {
    if files.is_empty() {
        return Ok(None);
    }
    match Authorities::read(files) {
        Ok(authorities) => Ok(Some(authorities)),
        Err(error @ identity::Error::File { .. }) => Err(Absent(error.to_string().into()).into()),
        Err(error) => Err(Invalid(error.to_string()).into()),
    }
}

/// A file, up to one byte above what a document may have, so that a larger one is refused as such.
fn document(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(receipt::DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| format!("read {}", path.display()))?;
    Ok(bytes)
}

impl<'a> JudgedReceipt<'a> {
    fn of(one: &'a Verified) -> JudgedReceipt<'a> {
        JudgedReceipt {
            hash: one.hash.to_string(),
            before: one.sink.before.map(|hash| hash.to_string()),
            origin: JudgedStatement {
                certificate: &one.origin_fingerprint,
                statement: &one.origin,
            },
            sink: JudgedStatement {
                certificate: &one.sink_fingerprint,
                statement: &one.sink,
            },
        }
    }
}

/// How receipts that hold read.
fn text(verified: &[Verified], names_proven: bool, follows: bool) -> String {
    let head = [
        "ROUTE",
        "STREAM",
        "PLACES",
        "RECORDS",
        "ORIGIN SIGNED",
        "SINK SIGNED",
        "RECEIPT BEFORE",
    ];
    let mut table = Table::new(&head, &[3]);
    for one in verified {
        let before = match one.sink.before {
            None => "none: begins a chain".to_owned(),
            Some(_) if follows => "in the earlier file".to_owned(),
            Some(hash) => format!("{hash}, not looked at"),
        };
        table.row([
            one.sink.route.clone(),
            one.sink.stream.clone(),
            format!("[{}, {})", one.sink.from, one.sink.to),
            thousands(one.sink.count),
            one.origin.time.clone(),
            one.sink.time.clone(),
            before,
        ]);
    }
    let mut text = table.to_string();
    let signers: BTreeSet<(&str, &str, &str)> = verified
        .iter()
        .flat_map(|one| {
            [
                (&one.origin, &one.origin_fingerprint),
                (&one.sink, &one.sink_fingerprint),
            ]
        })
        .map(|(by, fingerprint)| (by.site.as_str(), by.gateway.as_str(), fingerprint.as_str()))
        .collect();
    for (site, gateway, fingerprint) in signers {
        let proven = match names_proven {
            true => "proven by the given authorities",
            false => "NOT PROVEN without --ca",
        };
        let _ = write!(
            text,
            "\n{gateway} signed for site {site}; name {proven}; certificate {fingerprint}"
        );
    }
    text
}

fn sentence(verified: &[Verified]) -> String {
    let records: u64 = verified.iter().map(|one| one.sink.count).sum();
    format!(
        "holds: {} records in {}, none missing, none doubled; signed by both ends",
        thousands(records),
        count(verified.len(), "receipt")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::{Hash, Role};

    fn verified() -> Verified {
        let statement = |role, gateway: &str, site: &str| Statement {
            gateway: format!("spiffe://example.org/{gateway}"),
            site: site.into(),
            route: "site3/orders".into(),
            stream: "site1/orders/0".into(),
            to: 5_000,
            count: 4_500,
            ..Statement::new(role, 1_795_874_400)
        };
        Verified {
            hash: Hash([1; 32]),
            origin: statement(Role::Origin, "gw1", "site1"),
            sink: statement(Role::Sink, "gw3", "site3"),
            origin_fingerprint: "aa".into(),
            sink_fingerprint: "bb".into(),
        }
    }

    #[test]
    fn receipts_that_hold_read_well() {
        let one = verified();
        let shown = text(std::slice::from_ref(&one), false, false);
        let expected = "\
ROUTE         STREAM          PLACES     RECORDS  ORIGIN SIGNED         SINK SIGNED           RECEIPT BEFORE
site3/orders  site1/orders/0  [0, 5000)    4,500  2026-11-28T14:00:00Z  2026-11-28T14:00:00Z  none: begins a chain
spiffe://example.org/gw1 signed for site site1; name NOT PROVEN without --ca; certificate aa
spiffe://example.org/gw3 signed for site site3; name NOT PROVEN without --ca; certificate bb";
        assert_eq!(shown, expected, "\n{shown}\n");
        let shown = text(std::slice::from_ref(&one), true, false);
        assert!(shown.contains("name proven by the given authorities"), "{shown}");
        assert_eq!(
            sentence(&[one.clone(), one]),
            "holds: 9,000 records in 2 receipts, none missing, none doubled; signed by both ends"
        );
    }

    #[test]
    fn a_place_is_left_as_it_was_unless_it_is_filled() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("receipts.json");
        drop(Place::take(&path).expect("it is free"));
        assert!(!path.exists(), "it is given back");
        let file = Place::take(&path).and_then(|place| place.fill("x"));
        assert_eq!(file.expect("it is filled"), path);
        let error = Place::take(&path).err().expect("it is taken");
        assert_eq!(Exit::of(&error), Exit::Invalid);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "x");
    }
}
