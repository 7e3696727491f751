//! Connect's schemas as JSON: `{"type": "struct", "fields": [{"field": "id", "type": "int32", "optional": false}, …]}`.
//! Names and members: `org.apache.kafka.connect.json.JsonSchema`.

use crate::check::check;
use crate::value::Value;
use plain::trouble::{DEPTH_MAX, Outcome, Trouble, code, too_deep};

/// A schema that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub(crate) kind: Kind,
    pub(crate) optional: bool,
    pub(crate) default: Option<Value>,
    /// Says what is meant by it, such as `org.apache.kafka.connect.data.Decimal`.
    pub(crate) name: Option<String>,
    /// As it is written; of a field without its name.
    pub(crate) source: Value,
}

/// What values of it are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// How many bits.
    Integer(u32),
    Float,
    Boolean,
    String,
    Bytes,
    Array(Box<Schema>),
    Map(Box<Schema>, Box<Schema>),
    Struct(Vec<(String, Schema)>),
}

impl Schema {
    /// None for `null`, which says that the payload has no schema.
    ///
    /// # Errors
    /// `schema-invalid`.
    pub(crate) fn read(value: &Value) -> Outcome<Option<Schema>> {
        match value {
            Value::Null => Ok(None),
            value => read(value, 0).map(Some),
        }
    }

    pub(crate) fn is_decimal(&self) -> bool {
        self.name.as_deref() == Some("org.apache.kafka.connect.data.Decimal")
    }

    /// The type as schemas spell it.
    pub(crate) fn word(&self) -> &str {
        match self.source.get("type") {
            Some(Value::Text(word)) => word,
            _ => "",
        }
    }
}

fn read(value: &Value, depth: u32) -> Outcome<Schema> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    let Some(Value::Text(word)) = value.get("type") else {
        return Err(invalid("a schema has a type, and this one has none"));
    };
    let inner = |name: &str| match value.get(name) {
        Some(inner) => read(inner, depth + 1).map(Box::new),
        None => Err(invalid(format!("a schema of type {word} has a member {name:?}"))),
    };
    let kind = match word.as_str() {
        "int8" => Kind::Integer(8),
        "int16" => Kind::Integer(16),
        "int32" => Kind::Integer(32),
        "int64" => Kind::Integer(64),
        "float" | "double" => Kind::Float,
        "boolean" => Kind::Boolean,
        "string" => Kind::String,
        "bytes" => Kind::Bytes,
        "array" => Kind::Array(inner("items")?),
        "map" => Kind::Map(inner("keys")?, inner("values")?),
        "struct" => Kind::Struct(fields(value, depth)?),
        other => return Err(invalid(format!("no type of Kafka Connect is called {other:?}"))),
    };
    let mut source = value.clone();
    if let Value::Object(members) = &mut source {
        members.retain(|(name, _)| name != "field");
    }
    let mut schema = Schema {
        kind,
        optional: matches!(value.get("optional"), Some(Value::Boolean(true))),
        default: None,
        name: match value.get("name") {
            Some(Value::Text(name)) => Some(name.clone()),
            _ => None,
        },
        source,
    };
    if let Some(default) = value.get("default").filter(|default| **default != Value::Null) {
        let checked = check(&schema, default, true);
        let why = |trouble: Trouble| invalid(format!("the default is no {word}: {}", trouble.code()));
        schema.default = Some(checked.map_err(why)?);
    }
    Ok(schema)
}

fn fields(value: &Value, depth: u32) -> Outcome<Vec<(String, Schema)>> {
    let Some(Value::Array(list)) = value.get("fields") else {
        return Err(invalid("the schema of a struct has a list of fields"));
    };
    let mut fields: Vec<(String, Schema)> = Vec::with_capacity(list.len());
    for field in list {
        let Some(Value::Text(name)) = field.get("field") else {
            return Err(invalid("a field of a struct has no name"));
        };
        if fields.iter().any(|(known, _)| known == name) {
            return Err(invalid(format!("two fields are called {name:?}")));
        }
        fields.push((name.clone(), read(field, depth + 1)?));
    }
    Ok(fields)
}

fn invalid(reason: impl Into<String>) -> Trouble {
    Trouble::new(code::SCHEMA_INVALID, reason)
}
