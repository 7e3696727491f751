//! `SetSchemaMetadata`: the name and the version of the schema that Connect's converter writes beside a payload.

use super::{Flow, Opened, Step};
use crate::envelope;
use crate::json::Json;
use crate::record::{Record, Side};
use crate::settings::Given;
use culvert_plugin::Rejection;

pub(super) struct SetSchemaMetadata {
    side: Side,
    name: Option<Json<'static>>,
    version: Option<Json<'static>>,
}

impl SetSchemaMetadata {
    pub(super) fn open(given: &Given, side: Side) -> Opened {
        let name = given.text("schema.name").map(Json::string);
        let version = given
            .text("schema.version")
            .map(|text| Json::written(text.trim().to_owned()));
        if name.is_none() && version.is_none() {
            return Err(vec![(
                "",
                "sets nothing: give it schema.name or schema.version".to_owned(),
            )]);
        }
        Ok(Box::new(SetSchemaMetadata { side, name, version }))
    }
}

impl Step for SetSchemaMetadata {
    fn apply<'a>(&'a self, record: &mut Record<'a>) -> Result<Flow, Rejection> {
        let part = record.part(self.side);
        let (schema, payload) = part.change_both()?;
        match schema {
            Some(schema) => {
                // Of a struct alone, as in Connect.
                envelope::require_struct(schema)?;
                let Some(schema) = schema.fields() else {
                    return Ok(Flow::GoesOn);
                };
                if let Some(name) = &self.name {
                    schema.put("name", name.clone());
                }
                if let Some(version) = &self.version {
                    schema.put("version", version.clone());
                }
                Ok(Flow::GoesOn)
            }
            None if payload.is_null() => {
                part.keep();
                Ok(Flow::GoesOn)
            }
            None => Err(Rejection::new(
                "no-schema",
                "SetSchemaMetadata needs a schema beside the payload (schemas.enable=true), and there is none",
            )),
        }
    }
}
