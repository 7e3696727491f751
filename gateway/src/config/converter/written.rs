//! What a converter writes: the schema of a record itself, that of a subject, or that of a file.

use super::super::mistake::{CONTRADICTION, Found, UNKNOWN_KEY, UNREADABLE};
use super::Asked;
use crate::plugin::{Message, Writes};
use culvert_proto::limits::SCHEMA_BYTES_MAX;
use culvert_proto::schema::{Kind, Piece, Schema};
use std::sync::Arc;

impl Asked<'_> {
    pub(super) fn writes(&self, given: Option<(Arc<Schema>, Message)>, found: &mut Found) -> Writes {
        let latest = self.truth("use.latest.version", false, found);
        let subject = self.definition.settings.get(&self.schema);
        let is_said = self.get("use.latest.version").is_some();
        match (subject, given) {
            (Some(_), Some(_)) => {
                let hint = format!("keep one of {} and {}.file", self.schema, self.schema);
                self.own_mistake(CONTRADICTION, "", "is given beside a file", hint, found);
                Writes::Own
            }
            (None, Some(_)) if latest => {
                let hint = format!(
                    "keep one of {}.use.latest.version and {}.file",
                    self.key, self.schema
                );
                self.own_mistake(
                    CONTRADICTION,
                    ".file",
                    "is given beside use.latest.version",
                    hint,
                    found,
                );
                Writes::Own
            }
            (None, Some((schema, message))) => Writes::This(schema, message),
            (Some(_), None) if is_said && !latest => {
                let hint =
                    "what is written is the newest schema of that subject: leave use.latest.version out";
                self.own_mistake(
                    CONTRADICTION,
                    "",
                    "is given with use.latest.version = false",
                    hint,
                    found,
                );
                Writes::Own
            }
            (Some(subject), None) => Writes::Latest(Some(subject.to_owned())),
            (None, None) if latest => Writes::Latest(None),
            (None, None) => Writes::Own,
        }
    }

    /// The schema of a file, and which of its messages.
    pub(super) fn given(&self, kind: Kind, found: &mut Found) -> Option<(Arc<Schema>, Message)> {
        let named = self.schema_key(".message");
        let message = match (named, kind) {
            (Some(name), Kind::Protobuf) => Message::Named(name.to_owned()),
            (Some(_), _) => {
                let hint = "leave it out: only schemas of Protobuf have messages";
                self.own_mistake(CONTRADICTION, ".message", "is given", hint, found);
                Message::Any
            }
            (None, _) => Message::Any,
        };
        let Some(file) = self.schema_key(".file") else {
            if named.is_some() {
                let hint = format!("add {}.file, or leave it out", self.schema);
                self.own_mistake(CONTRADICTION, ".message", "is given without a file", hint, found);
            }
            return None;
        };
        let path = self.owner.base.join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let text = text.and_then(|text| match text.len() {
            0..=SCHEMA_BYTES_MAX => Ok(text),
            size => Err(format!(
                "it has {size} bytes, and {SCHEMA_BYTES_MAX} are the most"
            )),
        });
        match text {
            Ok(text) => {
                let piece = Piece {
                    subject: file.to_owned(),
                    text,
                    ..Piece::default()
                };
                let schema = Schema {
                    kind,
                    part: self.part,
                    id: 0,
                    pieces: vec![piece],
                };
                Some((Arc::new(schema), message))
            }
            Err(error) => {
                let problem = format!("{}: {error}", path.display());
                let hint = "valid: a file with the schema's text, relative to the configuration";
                self.own_mistake(UNREADABLE, ".file", problem, hint, found);
                None
            }
        }
    }

    pub(super) fn schema_key(&self, behind: &str) -> Option<&str> {
        self.definition.settings.get(&format!("{}{behind}", self.schema))
    }

    /// A schema of which there is no more to say than that there is none.
    pub(super) fn no_text(&self) -> Arc<Schema> {
        Arc::new(Schema {
            kind: Kind::Other,
            part: self.part,
            id: 0,
            pieces: vec![Piece::default()],
        })
    }

    /// A codec whose schemas no registry keeps has none of a subject.
    pub(super) fn no_subject(&self, codec: &str, found: &mut Found) {
        if self.schema_key("").is_some() {
            let problem = format!("names a subject, and no registry keeps schemas of {codec}");
            let hint = format!("name a file in {}.file, or leave it out", self.schema);
            self.own_mistake(CONTRADICTION, "", problem, hint, found);
        }
    }

    /// Keys about a schema that no converter asks for.
    pub(super) fn no_schema(&self, found: &mut Found) {
        for behind in ["", ".file", ".message"] {
            if self.schema_key(behind).is_some() {
                let hint = format!("name a converter with schemas as {}, or leave it out", self.key);
                self.own_mistake(UNKNOWN_KEY, behind, "has no converter to use it", hint, found);
            }
        }
    }
}
