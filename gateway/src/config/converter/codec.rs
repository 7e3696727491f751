//! The plugin that decodes and encodes for a converter.

use super::super::mistake::{CONNECTOR, Found, UNKNOWN_KEY, VALUE, nearest};
use super::{Asked, FRAMING, OWN};
use crate::plugin::{self, Field, Limits, PluginPlan};
use culvert_proto::schema::Kind;
use std::sync::Arc;

impl Asked<'_> {
    pub(super) fn codec(&self, kind: Kind, found: &mut Found) -> Option<PluginPlan> {
        let (name, defaults): (_, &[(&str, &str)]) = match kind {
            Kind::Avro => ("avro", &[]),
            // What Connect's transformations are written for: the schema's own names, numbers, and fields that are there.
            Kind::Protobuf => (
                "protobuf",
                &[
                    ("names", "proto"),
                    ("int64.format", "number"),
                    ("defaults", "write"),
                ],
            ),
            Kind::Json => ("json", &[]),
        };
        let codec = self
            .shelf
            .get(name)
            .filter(|plugin| plugin.role() == Some(plugin::Role::Codec));
        let Some(codec) = codec else {
            let problem = self.shelf.why_not(name);
            let problem = problem.unwrap_or_else(|| format!("there is no codec {name} in this program"));
            self.definition
                .mistake(VALUE, self.key, problem, "see plugins.directory", found);
            return None;
        };
        let fields: Vec<&Field> = codec
            .description
            .fields
            .iter()
            .filter(|field| field.name != FRAMING)
            .collect();
        let known = |key: &str| {
            fields
                .iter()
                .any(|field| format!("culvert.{}", field.name) == key)
        };
        for key in self.own_keys().filter(|key| !known(key)) {
            let names: Vec<String> = fields
                .iter()
                .map(|field| format!("culvert.{}", field.name))
                .collect();
            let hint = nearest(&key, names.iter().map(String::as_str)).map_or_else(
                || format!("valid: {}", names.join(", ")),
                |near| format!("did you mean {}.{near}?", self.key),
            );
            self.mistake(UNKNOWN_KEY, &key, format!("is no setting of {name}"), hint, found);
        }
        let settings = fields.iter().map(|field| {
            let key = format!("culvert.{}", field.name);
            let given = self.get(&key);
            if let Some(Err(wrong)) = given.map(|value| plugin::check(field, value)) {
                let hint = format!("valid: {}", wrong.valid);
                self.mistake(CONNECTOR, &key, wrong.problem, hint, found);
            }
            let ours = defaults.iter().find(|(name, _)| *name == field.name);
            let value = given.or(ours.map(|(_, value)| *value)).map(str::to_owned);
            (field.name.clone(), value.or_else(|| field.default_value.clone()))
        });
        Some(PluginPlan {
            plugin: name.to_owned(),
            settings: settings.collect(),
            limits: Limits::default(),
            grants: Arc::default(),
        })
    }

    /// Keys of the codec, behind `value.converter.`.
    pub(super) fn own_keys(&self) -> impl Iterator<Item = String> {
        self.definition.settings.shown().filter_map(|(key, _)| {
            let own = key.strip_prefix(self.key)?.strip_prefix('.')?;
            own.starts_with(OWN).then(|| own.to_owned())
        })
    }
}
