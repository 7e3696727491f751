//! The schema of a payload that a stage has changed: what still fits keeps its schema, what is new has the one that Kafka
//! Connect infers from a value (`org.apache.kafka.connect.data.Values.inferSchema`), and what is gone has none.

use crate::check::check;
use crate::schema::{Kind, Schema};
use crate::value::Value;
use plain::trouble::{Outcome, Trouble};

/// No schema can be told from the value.
pub(crate) const NOT_DERIVED: &str = "schema-not-derived";

/// The schema to write beside a value that had this one.
///
/// # Errors
/// [`NOT_DERIVED`].
pub(crate) fn derived(schema: &Schema, value: &Value) -> Outcome<Value> {
    match (&schema.kind, value) {
        (_, Value::Null) if schema.optional => Ok(schema.source.clone()),
        (_, Value::Null) => Ok(with(&schema.source, "optional", Value::Boolean(true))),
        (Kind::Struct(fields), Value::Object(members)) => {
            let mut list = Vec::with_capacity(members.len());
            for (name, field) in fields {
                if let Some(member) = value.get(name) {
                    let own = derived(field, member).map_err(|why| why.below(name))?;
                    list.push(with(&own, "field", Value::text(name)));
                }
            }
            let is_new = |name: &String| !fields.iter().any(|(known, _)| known == name);
            for (name, member) in members.iter().filter(|(name, _)| is_new(name)) {
                let own = inferred(member).map_err(|why| why.below(name))?;
                list.push(with(&own, "field", Value::text(name)));
            }
            Ok(with(&schema.source, "fields", Value::Array(list)))
        }
        (Kind::Array(items), Value::Array(values)) => {
            one_for_all(schema, "items", items, values.iter().enumerate())
        }
        (Kind::Map(keys, values), Value::Object(members)) if keys.kind == Kind::String => {
            let members = members.iter().map(|(name, value)| (name, value));
            one_for_all(schema, "values", values, members)
        }
        _ if check(schema, value, false).is_ok() => Ok(schema.source.clone()),
        _ => {
            let optional = Value::Boolean(schema.optional);
            Ok(with(&inferred(value)?, "optional", optional))
        }
    }
}

/// The same schema with another one for what it holds, which must be one for all.
fn one_for_all<'v, At: ToString>(
    schema: &Schema,
    member: &str,
    inner: &Schema,
    values: impl Iterator<Item = (At, &'v Value)>,
) -> Outcome<Value> {
    let (mut one, mut has_null): (Option<Value>, _) = (None, false);
    for (at, value) in values {
        if *value == Value::Null {
            has_null = true;
            continue;
        }
        let own = derived(inner, value).map_err(|why| why.below(&at))?;
        match &one {
            Some(one) if *one != own => {
                return Err(not_derived("it has another schema than those before it").below(&at));
            }
            _ => one = Some(own),
        }
    }
    let one = one.unwrap_or_else(|| inner.source.clone());
    let one = match has_null && !inner.optional {
        true => with(&one, "optional", Value::Boolean(true)),
        false => one,
    };
    Ok(with(&schema.source, member, one))
}

/// What Connect infers.
fn inferred(value: &Value) -> Outcome<Value> {
    let word = match value {
        Value::Null => return Err(not_derived("null has no type")),
        Value::Boolean(_) => "boolean",
        Value::Number(text) if text.contains(['.', 'e', 'E']) => "double",
        Value::Number(text) if text.parse::<i64>().is_ok() => "int64",
        Value::Number(_) => return Err(not_derived("the number is beyond 64 bits")),
        Value::Text(_) => "string",
        Value::Array(items) => {
            let items = same(items.iter().enumerate())?;
            return Ok(schema_of("array", vec![("items", items)]));
        }
        Value::Object(members) => {
            let values = same(members.iter().map(|(name, value)| (name, value)))?;
            let keys = schema_of("string", Vec::new());
            return Ok(schema_of("map", vec![("keys", keys), ("values", values)]));
        }
    };
    Ok(schema_of(word, Vec::new()))
}

/// The one schema of several values; nulls make it optional.
fn same<'v, At: ToString>(values: impl Iterator<Item = (At, &'v Value)>) -> Outcome<Value> {
    let (mut one, mut optional): (Option<Value>, _) = (None, false);
    for (at, value) in values {
        if *value == Value::Null {
            optional = true;
            continue;
        }
        let own = inferred(value).map_err(|why| why.below(&at))?;
        match &one {
            Some(one) if *one != own => {
                let reason = "it has another type than those before it, and Connect has one for all";
                return Err(not_derived(reason).below(&at));
            }
            _ => one = Some(own),
        }
    }
    let one = one.ok_or_else(|| not_derived("nothing in it has a type"))?;
    Ok(match optional {
        true => with(&one, "optional", Value::Boolean(true)),
        false => one,
    })
}

fn schema_of(word: &str, inner: Vec<(&str, Value)>) -> Value {
    let mut schema = Value::Object(vec![("type".to_owned(), Value::text(word))]);
    for (name, value) in inner {
        schema.put(name, value);
    }
    schema.put("optional", Value::Boolean(false));
    schema
}

fn with(schema: &Value, name: &str, value: Value) -> Value {
    let mut schema = schema.clone();
    schema.put(name, value);
    schema
}

fn not_derived(reason: &str) -> Trouble {
    Trouble::new(NOT_DERIVED, format!("no schema can be told from it: {reason}"))
}
