//! Judges receipts by what stands in them, and by authorities and earlier receipts that are given.

use super::{Hash, Receipt, Refusal, Role, Statement, read};
use crate::identity::{self, Authorities, Description};
use culvert_proto::message::Signed;
use std::collections::BTreeMap;

/// A receipt in which everything holds that can be looked at without its gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What names it.
    pub hash: Hash,
    /// What the origin says.
    pub origin: Statement,
    /// What the sink says.
    pub sink: Statement,
    /// SHA-256 over the origin's certificate, in hexadecimal.
    pub origin_fingerprint: String,
    /// The same of the sink's.
    pub sink_fingerprint: String,
}

impl Verified {
    /// What the receipt is of: one chain each.
    #[must_use]
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.sink.route, &self.sink.stream, &self.sink.lineage)
    }
}

/// Reads a document and checks each receipt in it. Without authorities it stays open whose the signatures are.
///
/// # Errors
/// The first [`Refusal`].
pub fn verify(document: &[u8], authorities: Option<&Authorities>) -> Result<Vec<Verified>, Refusal> {
    let mut verified: Vec<Verified> = Vec::new();
    for receipt in read(document)? {
        let one = check(&receipt, authorities)?;
        if verified.iter().any(|other| other.key() == one.key()) {
            let problem = "there are two of one stream of one route in this document".to_owned();
            return Err(of(&one, Refusal::Chain { problem }));
        }
        verified.push(one);
    }
    Ok(verified)
}

/// Checks one receipt: signatures, names, authorities at the time of each statement, agreement, wholeness.
///
/// # Errors
/// The first [`Refusal`].
pub fn check(receipt: &Receipt, authorities: Option<&Authorities>) -> Result<Verified, Refusal> {
    let origin = Statement::read(&receipt.origin.statement)?;
    let sink = Statement::read(&receipt.sink.statement)?;
    let within = |fault| Refusal::Of {
        route: sink.route.clone(),
        stream: sink.stream.clone(),
        fault: Box::new(fault),
    };
    let holds = || -> Result<(String, String), Refusal> {
        let origin_fingerprint = check_signed(Role::Origin, &receipt.origin, &origin, authorities)?;
        let sink_fingerprint = check_signed(Role::Sink, &receipt.sink, &sink, authorities)?;
        agree(&origin, &sink)?;
        for (role, statement) in [(Role::Origin, &origin), (Role::Sink, &sink)] {
            possible(statement).map_err(|problem| Refusal::Impossible { role, problem })?;
        }
        if origin.gateway == sink.gateway {
            return Err(Refusal::Impossible {
                role: Role::Sink,
                problem: format!("{} has signed for both ends", sink.gateway),
            });
        }
        Ok((origin_fingerprint, sink_fingerprint))
    };
    let (origin_fingerprint, sink_fingerprint) = holds().map_err(within)?;
    Ok(Verified {
        hash: receipt.hash(),
        origin,
        sink,
        origin_fingerprint,
        sink_fingerprint,
    })
}

/// The signature, and whose it is. Answers the fingerprint of the certificate.
fn check_signed(
    role: Role,
    signed: &Signed,
    statement: &Statement,
    authorities: Option<&Authorities>,
) -> Result<String, Refusal> {
    let fault = |problem| Refusal::Signature { role, problem };
    identity::check_signature(signed).map_err(fault)?;
    let own = signed.certificates.first().map_or(&[][..], Vec::as_slice);
    let own = Description::read(own).map_err(fault)?;
    if own.uris != [statement.gateway.as_str()] {
        return Err(Refusal::Name {
            role,
            stated: statement.gateway.clone(),
            found: own.uris.join(", "),
        });
    }
    let seconds = statement.seconds()?;
    if let Some(authorities) = authorities {
        let checked = authorities.check(&signed.certificates, seconds);
        checked.map_err(|refusal| Refusal::Authority {
            role,
            gateway: statement.gateway.clone(),
            time: statement.time.clone(),
            cause: refusal.to_string(),
        })?;
    }
    if statement.role != role {
        let problem = format!("it was signed for the {}", statement.role);
        return Err(Refusal::Impossible { role, problem });
    }
    if statement.gaps > 0 || statement.duplicates > 0 {
        return Err(Refusal::NotWhole {
            role,
            gaps: statement.gaps,
            duplicates: statement.duplicates,
        });
    }
    Ok(own.fingerprint)
}

/// Both speak of the same, and say the same of it.
fn agree(origin: &Statement, sink: &Statement) -> Result<(), Refusal> {
    let place = |place: Option<u64>| place.map_or("absent".to_owned(), |place| place.to_string());
    let fields = |statement: &Statement| {
        [
            ("the route", statement.route.clone()),
            ("the stream", statement.stream.clone()),
            ("the lineage", statement.lineage.clone()),
            ("the beginning", statement.from.to_string()),
            ("the end", statement.to.to_string()),
            ("the first record", place(statement.first)),
            ("the last record", place(statement.last)),
            ("the count", statement.count.to_string()),
            ("the content", statement.content.to_string()),
            (
                "what is compared without numbers of schemas",
                statement.without_ids.join("+"),
            ),
            (
                "the receipt before",
                statement
                    .before
                    .map_or("absent".to_owned(), |hash| hash.to_string()),
            ),
        ]
    };
    let pairs = fields(origin).into_iter().zip(fields(sink));
    match { pairs }.find(|((_, origin), (_, sink))| origin != sink) {
        None => Ok(()),
        Some(((what, origin), (_, sink))) => Err(Refusal::Disagree { what, origin, sink }),
    }
}

/// What no reader of an interval could have seen.
fn possible(statement: &Statement) -> Result<(), String> {
    let Statement { from, to, count, .. } = *statement;
    if from >= to {
        return Err(format!("[{from}, {to}) is empty"));
    }
    let held = match (statement.first, statement.last) {
        (None, None) => count == 0,
        (Some(first), Some(last)) => {
            from <= first && first <= last && last < to && (1..=last - first + 1).contains(&count)
        }
        _ => false,
    };
    if !held {
        return Err(format!("{count} records are not in [{from}, {to}) in this way"));
    }
    let (name, whose) = match statement.role {
        Role::Origin => (&statement.stream, "stream"),
        Role::Sink => (&statement.route, "route"),
    };
    let own = name.strip_prefix(statement.site.as_str());
    if !own.is_some_and(|rest| rest.starts_with('/')) {
        return Err(format!("{whose} {name} is not of its site, {}", statement.site));
    }
    if statement
        .without_ids
        .iter()
        .any(|part| !["key", "value"].contains(&part.as_str()))
    {
        return Err("a part of records is neither key nor value".to_owned());
    }
    Ok(())
}

/// Whether each of `newer` comes right behind the one of the same route and stream among `older`.
///
/// # Errors
/// [`Refusal::Chain`].
pub fn follows(newer: &[Verified], older: &[Verified]) -> Result<(), Refusal> {
    let known: BTreeMap<_, Hash> = older.iter().map(|one| (one.key(), one.hash)).collect();
    for one in newer {
        let problem = match (known.get(&one.key()), one.sink.before) {
            (Some(hash), Some(before)) if *hash == before => continue,
            (Some(hash), Some(before)) => format!("{hash} was given, and it names {before}"),
            (Some(_), None) => "it begins a chain".to_owned(),
            (None, _) => "none of this stream of this route is in the earlier document".to_owned(),
        };
        return Err(of(one, Refusal::Chain { problem }));
    }
    Ok(())
}

fn of(one: &Verified, fault: Refusal) -> Refusal {
    Refusal::Of {
        route: one.sink.route.clone(),
        stream: one.sink.stream.clone(),
        fault: Box::new(fault),
    }
}
