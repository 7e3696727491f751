//! A plugin that reads and writes a schema language, for the converters of a connector.

use super::log::StageLog;
use super::plan::PluginPlan;
use super::stage::{Runner, fault};
use crate::flow::schema::translate::{Converted, MakeCodec, Message, Payloads, Prepared, SchemaCodec, Shown};
use crate::flow::stage::StageFault;
use culvert_host::Surroundings;
use culvert_proto::columns::Rejection;
use std::sync::Arc;

/// What people know it by.
const STAGE: &str = "converter";

/// One codec of one task.
struct PluginCodec {
    codec: culvert_host::Codec,
    prepared: Vec<culvert_host::Prepared>,
}

impl Runner {
    /// What opens a codec for one task of `connector`.
    #[must_use]
    pub fn codec(self: &Arc<Runner>, connector: &str, plan: &PluginPlan) -> Arc<MakeCodec> {
        let (runner, connector, plan) = (self.clone(), Arc::<str>::from(connector), plan.clone());
        Arc::new(move || {
            let plugin = runner.loaded(&plan.plugin).ok_or_else(|| StageFault::Stop {
                code: "CULVERT-G003",
                reason: format!("converter: plugin {} was not loaded", plan.plugin),
            })?;
            let log = Arc::new(StageLog {
                connector: connector.clone(),
                stage: STAGE.into(),
            });
            let around = Surroundings::new(log).granting(plan.grants.clone());
            let codec = culvert_host::Codec::open(&plugin, &plan.settings, plan.limits.clone(), around)
                .map_err(|error| fault(STAGE, error.into()))?;
            runner.meter(&connector, STAGE, &plugin, codec.meter());
            Ok(Box::new(PluginCodec {
                codec,
                prepared: Vec::new(),
            }))
        })
    }
}

impl SchemaCodec for PluginCodec {
    fn prepare(&mut self, shown: &Shown) -> Result<Result<Prepared, Rejection>, StageFault> {
        let root = shown.schema.root();
        let named = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
        let schema = culvert_host::Schema {
            id: shown.id,
            subject: root.map(|root| root.subject.clone()).unwrap_or_default(),
            version: root.map_or(0, |root| root.version),
            text: root.map(|root| root.text.clone()).unwrap_or_default(),
            references: shown.schema.references().map(named).collect(),
            attributes: attributes(&shown.message),
        };
        let prepared = self.codec.prepare(schema).map_err(|error| fault(STAGE, error))?;
        Ok(prepared.map(|prepared| {
            self.prepared.push(prepared);
            self.prepared.len() - 1
        }))
    }

    fn decode(&mut self, schema: Prepared, payloads: Payloads<'_>) -> Result<Converted, StageFault> {
        let schema = self.known(schema)?;
        let converted = self.codec.to_json(schema, schema, shown(payloads));
        converted.map(told).map_err(|error| fault(STAGE, error))
    }

    fn encode(&mut self, schema: Prepared, payloads: Payloads<'_>) -> Result<Converted, StageFault> {
        let schema = self.known(schema)?;
        let converted = self.codec.from_json(schema, shown(payloads));
        converted.map(told).map_err(|error| fault(STAGE, error))
    }
}

impl PluginCodec {
    fn known(&self, schema: Prepared) -> Result<culvert_host::Prepared, StageFault> {
        self.prepared
            .get(schema)
            .copied()
            .ok_or_else(|| StageFault::Stop {
                code: "CULVERT-W023",
                reason: "converter: a schema is named that was not prepared".to_owned(),
            })
    }
}

fn attributes(message: &Message) -> Vec<(String, String)> {
    match message {
        Message::Any => Vec::new(),
        Message::Named(name) => vec![("message".to_owned(), name.clone())],
        Message::At(path) => {
            let path: Vec<String> = path.iter().map(u32::to_string).collect();
            vec![("message.indexes".to_owned(), path.join(","))]
        }
    }
}

fn shown(payloads: Payloads<'_>) -> culvert_host::Payloads<'_> {
    culvert_host::Payloads {
        ends: payloads.ends,
        bytes: payloads.bytes,
    }
}

fn told(converted: culvert_host::Converted) -> Converted {
    Converted {
        ends: converted.ends,
        bytes: converted.bytes,
        rejections: converted.rejections,
    }
}
