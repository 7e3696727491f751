//! What a schema stands under in a registry.

use culvert_proto::schema::{Kind, Part, Schema};

/// What a schema stands under: Confluent's strategies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subjects {
    /// `<topic>-key` or `<topic>-value`.
    #[default]
    Topic,
    /// The record's full name.
    Record,
    /// `<topic>-<the record's full name>`.
    TopicRecord,
}

impl Subjects {
    /// The subject of a schema.
    ///
    /// # Errors
    /// When it is to be the name of a record, and the schema has none.
    pub fn subject(self, topic: &str, schema: &Schema) -> Result<String, String> {
        match self {
            Subjects::Topic => self.of_topic(topic, schema.part),
            Subjects::Record => record_name(schema),
            Subjects::TopicRecord => Ok(format!("{topic}-{}", record_name(schema)?)),
        }
    }

    /// The subject of a topic, where no schema is known yet.
    ///
    /// # Errors
    /// When it is to be made of the name of a record.
    pub fn of_topic(self, topic: &str, part: Part) -> Result<String, String> {
        let part = match part {
            Part::Key => "key",
            Part::Value => "value",
        };
        match self {
            Subjects::Topic => Ok(format!("{topic}-{part}")),
            Subjects::Record | Subjects::TopicRecord => Err(format!(
                "the subject is named by a record, and its schema is yet to be found: name it as culvert.{part}.schema"
            )),
        }
    }
}

/// The full name of what a schema describes: an Avro type's, the first message's of a `.proto`, a JSON Schema's title.
fn record_name(schema: &Schema) -> Result<String, String> {
    let text = schema.root().map_or("", |root| root.text.as_str());
    let json = || serde_json::from_str::<serde_json::Value>(text).ok();
    let name = match schema.kind {
        Kind::Avro => json().and_then(|schema| avro_name(&schema)),
        Kind::Json => json().and_then(|schema| schema["title"].as_str().map(str::to_owned)),
        Kind::Protobuf => message_name(text),
        Kind::Other => None,
    };
    name.ok_or_else(|| format!("schema {} has no name to be its subject", schema.id))
}

fn avro_name(schema: &serde_json::Value) -> Option<String> {
    if let Some(name) = schema.as_str() {
        return Some(name.to_owned());
    }
    let name = schema["name"].as_str().or_else(|| schema["type"].as_str())?;
    match schema["namespace"].as_str() {
        Some(namespace) if !namespace.is_empty() && !name.contains('.') => {
            Some(format!("{namespace}.{name}"))
        }
        _ => Some(name.to_owned()),
    }
}

/// Package and name of the first message; comments are left out.
fn message_name(text: &str) -> Option<String> {
    let plain: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let words: Vec<&str> = plain
        .split(|character: char| character.is_whitespace() || "{};".contains(character))
        .filter(|word| !word.is_empty())
        .collect();
    let behind = |word: &str| {
        let at = words.iter().position(|found| *found == word)?;
        words.get(at + 1).copied()
    };
    let message = behind("message")?;
    Some(behind("package").map_or_else(|| message.to_owned(), |package| format!("{package}.{message}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::schema::Piece;

    fn schema(kind: Kind, text: &str) -> Schema {
        let piece = Piece {
            text: text.into(),
            ..Piece::default()
        };
        Schema {
            kind,
            part: Part::Value,
            id: 1,
            pieces: vec![piece],
        }
    }

    #[test]
    fn a_subject_is_made_of_topic_and_name() {
        let check = |kind, text: &str, name: &str| {
            let schema = schema(kind, text);
            let subject = |subjects: Subjects| subjects.subject("orders", &schema).expect(text);
            assert_eq!(subject(Subjects::Topic), "orders-value");
            assert_eq!(subject(Subjects::Record), name, "{text}");
            assert_eq!(subject(Subjects::TopicRecord), format!("orders-{name}"));
        };
        check(
            Kind::Avro,
            r#"{"type":"record","name":"Order","namespace":"shop"}"#,
            "shop.Order",
        );
        check(
            Kind::Avro,
            r#"{"type":"record","name":"a.Order","namespace":"shop"}"#,
            "a.Order",
        );
        check(Kind::Avro, r#""string""#, "string");
        check(Kind::Avro, r#"{"type":"long"}"#, "long");
        check(Kind::Json, r#"{"title":"Order","type":"object"}"#, "Order");
        check(
            Kind::Protobuf,
            "syntax = \"proto3\"; // message Not\npackage shop;\nmessage Order{}",
            "shop.Order",
        );
        check(Kind::Protobuf, "message Order { message Item {} }", "Order");
        let nameless = schema(Kind::Json, "{}");
        assert!(Subjects::Record.subject("orders", &nameless).is_err());
        assert!(Subjects::Topic.subject("orders", &nameless).is_ok());
    }
}
