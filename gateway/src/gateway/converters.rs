//! A connector's converters: what finds, carries, decodes and encodes with the schemas of its records.

use super::{Connector, Error, Gateway, target_of};
use crate::codec::registry::Registry;
use crate::config::{self, SchemasFrom};
use crate::flow::schema::translate::{self, Carried, End, Schemas, Translated, Writes};
use crate::flow::schema::{Converter, Renumberer, Tagger};
use crate::flow::stage::{Chain, MakeChain, Stage, StageFault};
use std::sync::Arc;

/// The stages of a connector behind its converters, or between them where records are decoded for the stages.
pub(super) fn chain(
    gateway: &Gateway,
    connector: &Connector,
    stages: Arc<MakeChain>,
) -> Result<Arc<MakeChain>, Error> {
    let plans = &connector.converters;
    let mut numbered = Vec::new();
    let mut translated = Vec::new();
    let is_source = connector.checked.is_source();
    for plan in plans {
        let (schemas, writes) = match &plan.from {
            SchemasFrom::Registry(registry) => {
                let converter = converter(gateway, connector, plan, registry)?;
                // A source names schemas in frames whether it decodes or not, unless JSON crosses; a sink's encoder puts the
                // numbers in itself.
                let is_named = plan.carried == Carried::Bytes && is_source;
                if is_named || plan.codec.is_none() {
                    numbered.push(converter.clone());
                }
                (Schemas::Registry(converter), registry.writes.clone())
            }
            SchemasFrom::One(schema, message) => (Schemas::One(schema.clone(), message.clone()), Writes::Own),
            SchemasFrom::Within => (Schemas::Within, Writes::Own),
        };
        if let (Some(codec), Some(plugins)) = (&plan.codec, &gateway.plugins) {
            translated.push(Translated {
                part: plan.part,
                schemas,
                writes,
                carried: plan.carried,
                codec: plugins.codec(&connector.name, codec),
            });
        }
    }
    let target = target_of(&connector.checked);
    let ledger = gateway.exchange.schemas.clone();
    let end = match is_source {
        true => End::Source(ledger.clone()),
        false => End::Sink(target.clone()),
    };
    let staged = !connector.stages.is_empty();
    // Stages may see schema and payload; where JSON crosses, there is no schema beside it.
    let is_within = |translated: &Translated| {
        matches!(translated.schemas, Schemas::Within) && translated.carried == Carried::Bytes
    };
    let (within, translated): (Vec<_>, Vec<_>) = translated.into_iter().partition(is_within);
    let envelopes: Vec<bool> = connector.stages.iter().map(|stage| stage.envelopes).collect();
    let only_looks = translated
        .iter()
        .all(|translated| translated.writes == Writes::Own && translated.carried == Carried::Bytes);
    Ok(Arc::new(move || {
        let mut chain = stages()?;
        if !within.is_empty() {
            chain = enveloped(chain, &envelopes, &within, &end)?;
        }
        if !translated.is_empty() {
            chain = decoding(chain, &translated, &end, staged || !only_looks)?;
        }
        Ok(match (numbered.clone(), is_source) {
            (numbered, _) if numbered.is_empty() => chain,
            (numbered, true) => chain.behind(Box::new(Tagger::new(numbered, ledger.clone()))),
            (numbered, false) => chain.behind(Box::new(Renumberer::new(numbered, target.clone()))),
        })
    }))
}

/// Stages that see payloads between a decoder and an encoder, those that see envelopes as they are. All that comes in is
/// looked at.
fn enveloped(
    stages: Chain,
    envelopes: &[bool],
    within: &[Translated],
    end: &End,
) -> Result<Chain, StageFault> {
    let mut made: Vec<Box<dyn Stage>> = Vec::new();
    if envelopes.first() == Some(&true) {
        made.push(Box::new(translate::checker(within.to_vec(), end)?));
    }
    let mut open = None;
    for (stage, sees_envelopes) in stages.into_stages().into_iter().zip(envelopes) {
        match (sees_envelopes, open.take()) {
            (false, None) => {
                let (decoder, encoder) = translate::pair(within.to_vec(), end)?;
                made.push(Box::new(decoder));
                open = Some(encoder);
            }
            (true, Some(encoder)) => made.push(Box::new(encoder)),
            (_, still) => open = still,
        }
        made.push(stage);
    }
    made.extend(open.map(|encoder| Box::new(encoder) as Box<dyn Stage>));
    Ok(Chain::new(made))
}

/// The stages between a decoder and an encoder; where nothing is to be written anew, behind a look at every record.
fn decoding(stages: Chain, translated: &[Translated], end: &End, writes: bool) -> Result<Chain, StageFault> {
    if !writes {
        let checker = translate::checker(translated.to_vec(), end)?;
        return Ok(stages.behind(Box::new(checker)));
    }
    let (decoder, encoder) = translate::pair(translated.to_vec(), end)?;
    Ok(stages.behind(Box::new(decoder)).before(Box::new(encoder)))
}

/// A converter, with a client of its registry.
fn converter(
    gateway: &Gateway,
    connector: &Connector,
    plan: &config::ConverterPlan,
    registry: &config::RegistryPlan,
) -> Result<Converter, Error> {
    let options = registry.options(gateway.config.state.join("schemas"));
    let client = Registry::new(&options).map_err(|reason| Error::Connector {
        name: connector.name.clone(),
        reason: format!("[CULVERT-R005] schema registry: {reason}"),
    })?;
    Ok(Converter {
        part: plan.part,
        kind: registry.kind,
        registry: Arc::new(client),
        subjects: registry.subjects,
        registers: registry.registers,
    })
}
