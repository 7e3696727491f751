//! The schema that Connect's `JsonConverter` writes beside a payload: `{"type": "struct", "fields": [{"field": …}, …]}`. What
//! a transformation does to fields it does to their schemas.

use crate::json::{Fields, Json, Kind};
use culvert_plugin::Rejection;
use std::borrow::Cow;

/// A type that is inserted, and the members of its schema that are no strings.
#[derive(Clone, Copy)]
pub(crate) enum Inserted {
    String,
    Int32,
    Int64,
    Timestamp,
}

impl Inserted {
    fn schema(self, optional: bool) -> Fields<'static> {
        let mut fields = Fields::default();
        let kind = match self {
            Inserted::String => "\"string\"",
            Inserted::Int32 => "\"int32\"",
            Inserted::Int64 | Inserted::Timestamp => "\"int64\"",
        };
        fields.put("type", Json::written(kind));
        fields.put("optional", Json::written(if optional { "true" } else { "false" }));
        if matches!(self, Inserted::Timestamp) {
            fields.put("name", Json::string("org.apache.kafka.connect.data.Timestamp"));
            fields.put("version", Json::written("1"));
        }
        fields
    }
}

/// # Errors
/// `schema-broken` where it is no schema of a struct, and where a field of this name is there already.
pub(crate) fn insert(
    schema: &mut Json<'_>,
    name: &str,
    inserted: Inserted,
    optional: bool,
) -> Result<(), Rejection> {
    let mut fields = fields_of(schema)?;
    if fields.iter_mut().any(|field| is_named(field, name)) {
        let reason = format!("the schema has a field {name:?} already");
        return Err(Rejection::new("schema-broken", reason));
    }
    let mut field = inserted.schema(optional);
    field.put("field", Json::string(name));
    fields.push(Json::Object(field));
    put_fields(schema, &fields)
}

/// Leaves out the fields for which there is no new name, and names the others so.
///
/// # Errors
/// `schema-broken` where it is no schema of a struct.
pub(crate) fn rename<'n>(
    schema: &mut Json<'_>,
    new_name: impl Fn(&str) -> Option<Cow<'n, str>>,
) -> Result<(), Rejection> {
    let mut kept = Vec::new();
    for mut field in fields_of(schema)? {
        let name = name_of(&mut field).ok_or_else(broken)?;
        let Some(new) = new_name(&name) else { continue };
        if new != name.as_str()
            && let Some(members) = field.fields()
        {
            members.put("field", Json::string(&new));
        }
        kept.push(field);
    }
    put_fields(schema, &kept)
}

/// The schema of a struct with one field.
///
/// # Errors
/// `schema-broken` where it is no schema.
pub(crate) fn wrap<'a>(mut schema: Json<'a>, name: &'a str) -> Result<Json<'a>, Rejection> {
    schema
        .fields()
        .ok_or_else(broken)?
        .put("field", Json::string(name));
    let mut outer = Fields::default();
    outer.put("type", Json::written("\"struct\""));
    outer.put("fields", array(&[schema]));
    outer.put("optional", Json::written("false"));
    Ok(Json::Object(outer))
}

/// The schema of a struct with these fields alone, in this order.
///
/// # Errors
/// `no-field` where there is none of a name, and where it is no schema of a struct.
pub(crate) fn select(schema: &mut Json<'_>, names: &[String]) -> Result<Json<'static>, Rejection> {
    let mut fields = Vec::with_capacity(names.len());
    for name in names {
        let mut field = extract(schema, name)?.ok_or_else(|| no_field(name))?;
        field
            .fields()
            .ok_or_else(broken)?
            .put("field", Json::string(name));
        fields.push(field);
    }
    let mut outer = Fields::default();
    outer.put("type", Json::written("\"struct\""));
    outer.put("fields", array(&fields));
    outer.put("optional", Json::written("false"));
    Ok(Json::Object(outer))
}

/// The schema of what lies at a path.
///
/// # Errors
/// `no-field` where there is nothing, and where what is above is no schema of a struct.
pub(crate) fn follow(schema: &Json<'_>, path: &[String]) -> Result<Json<'static>, Rejection> {
    let mut schema = schema.clone().into_owned();
    for name in path {
        schema = extract(&mut schema, name)?.ok_or_else(|| no_field(name))?;
    }
    Ok(schema)
}

/// # Errors
/// `not-an-object` where it is the schema of something else.
pub(crate) fn require_struct(schema: &mut Json<'_>) -> Result<(), Rejection> {
    fields_of(schema).map(drop)
}

/// Whether null is a value of it.
pub(crate) fn takes_null(schema: &mut Json<'_>) -> bool {
    let Some(members) = schema.fields() else {
        return false;
    };
    let is_optional = members
        .get("optional")
        .is_some_and(|optional| optional.text() == "true");
    is_optional || members.get("default").is_some_and(|default| !default.is_null())
}

fn no_field(name: &str) -> Rejection {
    Rejection::new("no-field", format!("the schema has no field {name:?}")).at(crate::step::pointer(name))
}

/// The schema of one field; nothing where it has none of this name.
///
/// # Errors
/// `schema-broken` where it is no schema of a struct.
fn extract(schema: &mut Json<'_>, name: &str) -> Result<Option<Json<'static>>, Rejection> {
    let found = fields_of(schema)?
        .into_iter()
        .find_map(|mut field| is_named(&mut field, name).then_some(field));
    Ok(found.map(|mut field| {
        if let Some(members) = field.fields() {
            members.remove("field");
        }
        field.into_owned()
    }))
}

fn fields_of<'a>(schema: &mut Json<'a>) -> Result<Vec<Json<'a>>, Rejection> {
    let members = schema.fields().ok_or_else(broken)?;
    if members.get("type").and_then(Json::as_string).as_deref() != Some("struct") {
        let reason = "the schema is not that of a struct, and the transformation is one of fields";
        return Err(Rejection::new("not-an-object", reason));
    }
    members.get("fields").and_then(Json::items).ok_or_else(broken)
}

fn put_fields(schema: &mut Json<'_>, fields: &[Json<'_>]) -> Result<(), Rejection> {
    schema
        .fields()
        .ok_or_else(broken)?
        .put("fields", array(fields).into_owned());
    Ok(())
}

fn is_named(field: &mut Json<'_>, name: &str) -> bool {
    name_of(field).is_some_and(|known| known == name)
}

fn name_of(field: &mut Json<'_>) -> Option<String> {
    let name = field.fields()?.get("field")?.as_string()?;
    Some(name.into_owned())
}

fn array(items: &[Json<'_>]) -> Json<'static> {
    let mut written = String::from("[");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            written.push(',');
        }
        item.write(&mut written);
    }
    written.push(']');
    Json::written(written)
}

fn broken() -> Rejection {
    Rejection::new(
        "schema-broken",
        "the schema beside the payload is none of Connect's",
    )
}

/// Schema and payload of what `JsonConverter` writes with `schemas.enable=true`; anything else has no schema.
pub(crate) fn apart(mut json: Json<'_>) -> (Option<Json<'_>>, Json<'_>) {
    let Json::Object(fields) = &mut json else {
        return (None, json);
    };
    let is_schema = |schema: &Json<'_>| schema.kind() == Kind::Map && schema.text().contains("\"type\"");
    let is_envelope =
        fields.len() == 2 && fields.get("payload").is_some() && fields.get("schema").is_some_and(is_schema);
    if !is_envelope {
        return (None, json);
    }
    let (mut schema, mut payload) = (None, Json::NULL);
    for (name, value) in fields.take() {
        match name.as_ref() {
            "schema" => schema = Some(value),
            _ => payload = value,
        }
    }
    (schema, payload)
}

/// Both together again.
pub(crate) fn together<'a>(schema: Json<'a>, payload: Json<'a>) -> Json<'a> {
    Json::Object(Fields::of(vec![
        ("schema".into(), schema),
        ("payload".into(), payload),
    ]))
}
