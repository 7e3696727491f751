//! What is asked of a registry, in which order, and what its answers mean. Nothing is remembered here.

use super::Fault;
use super::client::{self, Reply};
use culvert_proto::limits::SCHEMA_PIECES_MAX;
use culvert_proto::schema::{Kind, Part, Piece, Schema};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where it is asked whether a schema may stand beside others.
pub(super) const COMPATIBILITY: &str = "/compatibility";

/// Asks one thing: method, path, body.
type Ask<'a> = dyn 'a + Fn(&str, &str, Option<&Value>) -> Result<Reply, Fault>;

/// One conversation with a registry.
pub(super) struct Talk<'a> {
    ask: &'a Ask<'a>,
}

impl<'a> Talk<'a> {
    pub(super) fn with(ask: &'a Ask<'a>) -> Talk<'a> {
        Talk { ask }
    }

    /// The schema of a number, with all it refers to, each behind what it refers to.
    pub(super) fn schema(&self, id: u32) -> Result<(Kind, Vec<Piece>), Fault> {
        let answer = (self.ask)("GET", &format!("/schemas/ids/{id}"), None)?;
        let root = match answer {
            Reply::Ok(root) => root,
            Reply::NotFound(_) => return Err(Fault::Unknown(format!("no schema {id}"))),
            other => return Err(unexpected(&other)),
        };
        let (subject, version) = self.named(id)?;
        self.whole(&root, id, subject, version)
    }

    /// The newest schema of a subject: its number, and as [`Talk::schema`].
    pub(super) fn latest(&self, subject: &str) -> Result<(u32, Kind, Vec<Piece>), Fault> {
        let path = format!("/subjects/{}/versions/latest", client::escaped(subject));
        let root = match (self.ask)("GET", &path, None)? {
            Reply::Ok(root) => root,
            Reply::NotFound(_) => return Err(Fault::Unknown("no such subject".to_owned())),
            other => return Err(unexpected(&other)),
        };
        let (id, version) = (number(&root["id"]), number(&root["version"]));
        let (kind, pieces) = self.whole(&root, id, subject.to_owned(), version)?;
        Ok((id, kind, pieces))
    }

    /// A schema that was found, with all it refers to.
    fn whole(
        &self,
        root: &Value,
        id: u32,
        subject: String,
        version: u32,
    ) -> Result<(Kind, Vec<Piece>), Fault> {
        let mut pieces = Pieces::default();
        let kind = kind(root)?;
        self.add(root, subject, version, &mut pieces)?;
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
        match (self.ask)("GET", &format!("/schemas/ids/{id}/versions"), None)? {
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
                    if pieces.places.len() >= SCHEMA_PIECES_MAX {
                        return Err(too_many());
                    }
                    pieces.places.insert(key.clone(), None);
                    let path = format!("/subjects/{}/versions/{version}", client::escaped(&subject));
                    let found = match (self.ask)("GET", &path, None)? {
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
        let at = u16::try_from(pieces.list.len())
            .ok()
            .filter(|at| usize::from(*at) < SCHEMA_PIECES_MAX);
        let at = at.ok_or_else(too_many)?;
        pieces.list.push(Piece {
            subject,
            version,
            text,
            references,
        });
        Ok(at)
    }

    /// The number of a schema that came from another registry; see [`super::Registry::id`].
    pub(super) fn number_of(&self, schema: &Schema, subject: &str, registers: bool) -> Result<u32, Fault> {
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
        let known = (self.ask)("POST", &path, Some(body))?;
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
        self.check_compatible(subject, body)?;
        match (self.ask)("POST", &format!("{path}/versions"), Some(body))? {
            Reply::Ok(made) if is_root => Ok((number(&made["id"]), 0)),
            // What refers to it names its version, which registering does not tell everywhere.
            Reply::Ok(_) => match (self.ask)("POST", &path, Some(body))? {
                Reply::Ok(found) => Ok((number(&found["id"]), number(&found["version"]))),
                other => Err(unexpected(&other)),
            },
            other => Err(refused(&other, subject)),
        }
    }

    /// Whether a subject's rule allows this schema beside those that are there, asked before it is registered: some registries
    /// have their reasons in this answer alone. One that has none here decides when it is registered.
    fn check_compatible(&self, subject: &str, body: &Value) -> Result<(), Fault> {
        let path = format!(
            "{COMPATIBILITY}/subjects/{}/versions?verbose=true",
            client::escaped(subject)
        );
        match (self.ask)("POST", &path, Some(body)) {
            Ok(Reply::Ok(answer)) if answer["is_compatible"] == Value::Bool(false) => {
                let reasons = answer["messages"].as_array().into_iter().flatten();
                let told: Vec<&str> = reasons.filter_map(Value::as_str).take(REASONS_MAX).collect();
                match told.as_slice() {
                    // It says why where it refuses to register.
                    [] => Ok(()),
                    told => {
                        let told = cut(&told.join("; "));
                        Err(Fault::Incompatible(format!("subject {subject}: {told}")))
                    }
                }
            }
            _ => Ok(()),
        }
    }
}

/// How many reasons of a registry are told, and how much of them.
const REASONS_MAX: usize = 5;
const REASONS_CHARS_MAX: usize = 1_000;

fn cut(text: &str) -> String {
    text.chars().take(REASONS_CHARS_MAX).collect()
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
        // Nobody asks a registry about a language that it does not know.
        Kind::Avro | Kind::Other => {}
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

fn too_many() -> Fault {
    Fault::Invalid(format!("it refers to more than {SCHEMA_PIECES_MAX} schemas"))
}
