//! A client of schema registries that speak Confluent's interface.
//!
//! - Calls block: they are made by threads of intake and delivery, once for each schema.
//! - Where a registry is away, nothing is decided: [`Fault::Away`] is waited for. What was seen once is kept on disk, by
//!   the registry it came from, and is used while no registry answers, and only then: a registry that was made anew numbers
//!   its schemas anew.
//! - A 404 counts as "there is no such schema" only where the registry's own error code says so; one by a proxy is an
//!   environment that is not right yet.

mod client;
mod kept;
mod subjects;
#[cfg(test)]
pub(crate) mod tests;

pub use client::{Auth, Tls};
pub use subjects::Subjects;

use client::{Client, Reply};
use culvert_proto::schema::{Kind, Part, Piece, Schema};
use kept::Kept;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// For how long a registry that did not answer is not asked again: whoever waits for one schema holds up others.
const AWAY_FOR: Duration = Duration::from_secs(1);

/// The most schemas kept in memory. A topic has a few.
const KNOWN_MAX: usize = 10_000;

/// How a registry is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its addresses, tried in order.
    pub urls: Vec<String>,
    /// Who we are.
    pub auth: Auth,
    /// Certificates.
    pub tls: Tls,
    /// Where what was seen is kept.
    pub directory: PathBuf,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does not answer, or not as a registry does: heals by waiting.
    #[error("[CULVERT-R001] the schema registry does not help now: {0}")]
    Away(String),
    /// It answers that there is no such schema.
    #[error("the schema registry has {0}")]
    Unknown(String),
    /// The subject's rule of compatibility forbids the schema.
    #[error("{0}")]
    Incompatible(String),
    /// It takes this for no schema, or it is above a limit.
    #[error("{0}")]
    Invalid(String),
}

/// One registry.
pub struct Registry {
    client: Client,
    kept: Kept,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    schemas: HashMap<u32, (Kind, Vec<Piece>)>,
    ids: HashMap<(String, [u8; 32]), u32>,
    away: Option<(Instant, String)>,
}

impl Registry {
    /// Prepares a client; nothing is asked yet.
    ///
    /// # Errors
    /// What is wrong with the files it names.
    pub fn new(options: &Options) -> Result<Registry, String> {
        Ok(Registry {
            client: Client::new(options)?,
            kept: Kept::of(&options.directory, &options.urls),
            known: Mutex::default(),
        })
    }

    /// The schema of this number, with all it refers to.
    ///
    /// # Errors
    /// Any [`Fault`] but `Incompatible`.
    pub fn schema(&self, part: Part, id: u32) -> Result<Schema, Fault> {
        let made = |(kind, pieces)| Schema {
            kind,
            part,
            id,
            pieces,
        };
        if let Some(known) = self.known.lock().schemas.get(&id) {
            return Ok(made(known.clone()));
        }
        let found = match self.fetch(id) {
            Ok(found) => {
                self.kept.put_schema(&made(found.clone()));
                found
            }
            Err(away @ Fault::Away(_)) => {
                let kept = self.kept.schema(id).ok_or(away)?;
                (kept.kind, kept.pieces)
            }
            Err(fault) => return Err(fault),
        };
        let mut known = self.known.lock();
        if known.schemas.len() >= KNOWN_MAX {
            known.schemas.clear();
        }
        known.schemas.insert(id, found.clone());
        Ok(made(found))
    }

    fn fetch(&self, id: u32) -> Result<(Kind, Vec<Piece>), Fault> {
        let answer = self.ask("GET", &format!("/schemas/ids/{id}"), None)?;
        let root = match answer {
            Reply::Ok(root) => root,
            Reply::NotFound(_) => return Err(Fault::Unknown(format!("no schema {id}"))),
            other => return Err(unexpected(&other)),
        };
        let (subject, version) = self.named(id)?;
        let mut pieces = Pieces::default();
        let kind = kind(&root)?;
        self.add(&root, subject, version, &mut pieces)?;
        let schema = Schema {
            kind,
            part: Part::Value,
            id,
            pieces: pieces.list,
        };
        schema
            .encode()
            .map_err(|error| Fault::Invalid(format!("schema {id}: {error}")))?;
        Ok((kind, schema.pieces))
    }

    /// A subject and version that the schema stands under: for people, and the first one where there are several.
    fn named(&self, id: u32) -> Result<(String, u32), Fault> {
        match self.ask("GET", &format!("/schemas/ids/{id}/versions"), None)? {
            Reply::Ok(Value::Array(names)) => {
                let first = names.first();
                let subject = first
                    .and_then(|name| name["subject"].as_str())
                    .unwrap_or_default();
                Ok((
                    subject.to_owned(),
                    first.map_or(0, |name| number(&name["version"])),
                ))
            }
            _ => Ok((String::new(), 0)),
        }
    }

    /// Adds a schema behind all that it refers to; answers its place.
    fn add(&self, schema: &Value, subject: String, version: u32, pieces: &mut Pieces) -> Result<u16, Fault> {
        let text = schema["schema"].as_str().unwrap_or_default().to_owned();
        let mut references = Vec::new();
        for reference in schema["references"].as_array().into_iter().flatten() {
            let name = reference["name"].as_str().unwrap_or_default().to_owned();
            let subject = reference["subject"].as_str().unwrap_or_default().to_owned();
            let version = number(&reference["version"]);
            let key = (subject.clone(), version);
            let at = match pieces.places.get(&key) {
                Some(Some(at)) => *at,
                Some(None) => {
                    return Err(Fault::Invalid(format!(
                        "{subject} version {version} refers to itself"
                    )));
                }
                None => {
                    pieces.places.insert(key.clone(), None);
                    let path = format!("/subjects/{}/versions/{version}", client::escaped(&subject));
                    let found = match self.ask("GET", &path, None)? {
                        Reply::Ok(found) => found,
                        Reply::NotFound(_) => {
                            return Err(Fault::Unknown(format!(
                                "no {subject} version {version}, which is referred to"
                            )));
                        }
                        other => return Err(unexpected(&other)),
                    };
                    let at = self.add(&found, subject, version, pieces)?;
                    pieces.places.insert(key, Some(at));
                    at
                }
            };
            references.push((name, at));
        }
        let max = culvert_proto::limits::SCHEMA_PIECES_MAX;
        let at = u16::try_from(pieces.list.len())
            .ok()
            .filter(|at| usize::from(*at) < max);
        let at = at.ok_or_else(|| Fault::Invalid(format!("it refers to more than {max} schemas")))?;
        pieces.list.push(Piece {
            subject,
            version,
            text,
            references,
        });
        Ok(at)
    }

    /// This registry's number of a schema that came from another one. `registers`: it is registered under `subject` where
    /// it is not there yet; else it must be.
    ///
    /// # Errors
    /// Any [`Fault`]; `Unknown` only where it is not registered.
    pub fn id(&self, schema: &Schema, subject: &str, registers: bool) -> Result<u32, Fault> {
        let content = kept::content(schema);
        let key = (subject.to_owned(), content);
        if let Some(id) = self.known.lock().ids.get(&key) {
            return Ok(*id);
        }
        let id = match self.number_of(schema, subject, registers) {
            Ok(id) => {
                self.kept.put_id(subject, &content, id);
                id
            }
            Err(away @ Fault::Away(_)) => self.kept.id(subject, &content).ok_or(away)?,
            Err(fault) => return Err(fault),
        };
        let mut known = self.known.lock();
        if known.ids.len() >= KNOWN_MAX {
            known.ids.clear();
        }
        known.ids.insert(key, id);
        Ok(id)
    }

    fn number_of(&self, schema: &Schema, subject: &str, registers: bool) -> Result<u32, Fault> {
        // Where each piece stands in this registry.
        let mut placed: Vec<(String, u32)> = Vec::new();
        let mut id = 0;
        for (at, piece) in schema.pieces.iter().enumerate() {
            let is_root = at + 1 == schema.pieces.len();
            let subject = if is_root { subject } else { piece.subject.as_str() };
            let body = body(schema.kind, piece, &placed);
            let version;
            (id, version) = self.place(subject, &body, registers, is_root)?;
            placed.push((subject.to_owned(), version));
        }
        Ok(id)
    }

    /// Number and version of one text under a subject.
    fn place(
        &self,
        subject: &str,
        body: &Value,
        registers: bool,
        is_root: bool,
    ) -> Result<(u32, u32), Fault> {
        let path = format!("/subjects/{}", client::escaped(subject));
        let known = self.ask("POST", &path, Some(body))?;
        match known {
            Reply::Ok(found) => return Ok((number(&found["id"]), number(&found["version"]))),
            Reply::NotFound(_) if registers => {}
            Reply::NotFound(_) => {
                let reason = format!(
                    "no such schema under {subject}, and value.converter.auto.register.schemas is false: register it there"
                );
                return Err(Fault::Unknown(reason));
            }
            other => return Err(refused(&other, subject)),
        }
        match self.ask("POST", &format!("{path}/versions"), Some(body))? {
            Reply::Ok(made) if is_root => Ok((number(&made["id"]), 0)),
            // What refers to it names its version, which registering does not tell everywhere.
            Reply::Ok(_) => match self.ask("POST", &path, Some(body))? {
                Reply::Ok(found) => Ok((number(&found["id"]), number(&found["version"]))),
                other => Err(unexpected(&other)),
            },
            other => Err(refused(&other, subject)),
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, Fault> {
        if let Some((until, why)) = &self.known.lock().away
            && Instant::now() < *until
        {
            return Err(Fault::Away(why.clone()));
        }
        let asked = self.client.ask(method, path, body);
        self.known.lock().away = asked
            .as_ref()
            .err()
            .map(|why| (Instant::now() + AWAY_FOR, why.clone()));
        asked.map_err(Fault::Away)
    }
}

/// Schemas that were found, each behind what it refers to.
#[derive(Default)]
struct Pieces {
    list: Vec<Piece>,
    /// Where a subject's version stands; none while what it refers to is still looked up.
    places: BTreeMap<(String, u32), Option<u16>>,
}

fn body(kind: Kind, piece: &Piece, placed: &[(String, u32)]) -> Value {
    let mut body = json!({ "schema": piece.text });
    match kind {
        Kind::Avro => {}
        Kind::Protobuf => body["schemaType"] = json!("PROTOBUF"),
        Kind::Json => body["schemaType"] = json!("JSON"),
    }
    let reference = |(name, at): &(String, u16)| {
        let (subject, version) = placed.get(usize::from(*at))?;
        Some(json!({ "name": name, "subject": subject, "version": version }))
    };
    if !piece.references.is_empty() {
        body["references"] = piece.references.iter().filter_map(reference).collect();
    }
    body
}

fn kind(schema: &Value) -> Result<Kind, Fault> {
    match schema["schemaType"].as_str() {
        None | Some("AVRO") => Ok(Kind::Avro),
        Some("PROTOBUF") => Ok(Kind::Protobuf),
        Some("JSON") => Ok(Kind::Json),
        Some(other) => Err(Fault::Invalid(format!("a schema of the unknown type {other:?}"))),
    }
}

fn number(value: &Value) -> u32 {
    value
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .unwrap_or(0)
}

fn refused(reply: &Reply, subject: &str) -> Fault {
    match reply {
        Reply::Conflict(why) => Fault::Incompatible(format!("subject {subject}: {why}")),
        Reply::Invalid(why) => Fault::Invalid(format!("subject {subject}: {why}")),
        other => unexpected(other),
    }
}

fn unexpected(reply: &Reply) -> Fault {
    Fault::Away(match reply {
        Reply::Ok(_) => "its answer is not understood".to_owned(),
        Reply::NotFound(why) | Reply::Conflict(why) | Reply::Invalid(why) => why.clone(),
    })
}
