//! A client of schema registries that speak Confluent's interface.
//!
//! - Calls block: they are made by threads of intake and delivery, once for each schema.
//! - Where a registry is away, nothing is decided: [`Fault::Away`] is waited for. What was seen once is kept on disk, by
//!   the registry it came from, and is used while no registry answers, and only then: a registry that was made anew numbers
//!   its schemas anew.
//! - A 404 counts as "there is no such schema" only where the registry's own error code says so; one by a proxy is an
//!   environment that is not right yet.

mod attack;
mod client;
mod kept;
mod subjects;
mod talk;
#[cfg(test)]
pub(crate) mod tests;

pub use attack::read_answers;
pub use client::{Auth, Tls};
pub use subjects::Subjects;

use client::{Client, Reply};
use culvert_proto::schema::{Kind, Part, Piece, Schema};
use kept::Kept;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use talk::Talk;

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
        let found = match self.talk(|talk| talk.schema(id)) {
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
        let id = match self.talk(|talk| talk.number_of(schema, subject, registers)) {
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

    /// The newest schema of a subject, with all it refers to. Asked each time: nobody is told when there is a newer one.
    ///
    /// # Errors
    /// Any [`Fault`] but `Incompatible`.
    pub fn latest(&self, part: Part, subject: &str) -> Result<Schema, Fault> {
        let (id, kind, pieces) = self.talk(|talk| talk.latest(subject))?;
        Ok(Schema {
            kind,
            part,
            id,
            pieces,
        })
    }

    fn talk<T>(&self, about: impl FnOnce(&Talk<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
        about(&Talk::with(&|method, path, body| self.ask(method, path, body)))
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, Fault> {
        if let Some((until, why)) = &self.known.lock().away
            && Instant::now() < *until
        {
            return Err(Fault::Away(why.clone()));
        }
        let asked = self.client.ask(method, path, body);
        if path.starts_with(talk::COMPATIBILITY) {
            // Not every registry has it: one that does not answer this may be there all the same.
            return asked.map_err(Fault::Away);
        }
        self.known.lock().away = asked
            .as_ref()
            .err()
            .map(|why| (Instant::now() + AWAY_FOR, why.clone()));
        asked.map_err(Fault::Away)
    }
}
