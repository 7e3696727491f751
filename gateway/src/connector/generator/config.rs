//! The settings of `io.culvert.generator.GeneratorSource`.

use super::records::{Format, Kind, Recipe};
use crate::connector::Mistake;
use crate::connector::settings::Settings;
use culvert_proto::limits;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A checked configuration of a generator.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorConfig {
    /// The connector's name: part of the identity of its streams.
    pub name: Arc<str>,
    /// `topic`: where the records belong. Default: the name of the kind.
    pub topic: Arc<str>,
    /// `partitions`: how many streams it makes, 1 to 10,000. Default 1.
    pub partitions: NonZeroU32,
    /// `kind`, `format`, `schema.id`, `seed`, `faults`: what it makes. Defaults: `orders`, `json`, 1, 1, 0.
    pub recipe: Recipe,
    /// `count`: records for each partition. Absent: without end.
    pub count: Option<u64>,
    /// `rate`: records a second over all partitions. Absent: as fast as they are taken.
    pub rate: Option<f64>,
}

/// Far above what one source task can fill; bounds the memory of the list of streams.
pub(super) const PARTITIONS_MAX: u32 = 10_000;

impl GeneratorConfig {
    /// Checks the settings of the connector `name`.
    ///
    /// # Errors
    /// Everything that is wrong with them, together.
    pub fn from_map(name: &str, map: &BTreeMap<String, String>) -> Result<GeneratorConfig, Vec<Mistake>> {
        let mut settings = Settings::new(map);
        let recipe = recipe(&mut settings);
        let topic = settings.text("topic").unwrap_or(recipe.kind.name());
        if topic.len() > limits::NAME_BYTES_MAX {
            let valid = format!("at most {} bytes", limits::NAME_BYTES_MAX);
            settings.mistake("topic", "is too long", Some(valid));
        }
        let few = format!("1 to {PARTITIONS_MAX}");
        let config = GeneratorConfig {
            name: name.into(),
            topic: topic.into(),
            partitions: settings
                .parsed("partitions", &few, |count: &NonZeroU32| {
                    count.get() <= PARTITIONS_MAX
                })
                .unwrap_or(NonZeroU32::MIN),
            recipe,
            count: settings.parsed("count", "a number of records", |_| true),
            rate: settings.parsed("rate", "a number of records a second above 0", |rate: &f64| {
                rate.is_finite() && *rate > 0.0
            }),
        };
        settings.one_task("one task makes all partitions");
        let mistakes = settings.finish();
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(mistakes)
        }
    }
}

fn recipe(settings: &mut Settings<'_>) -> Recipe {
    let kinds = Kind::ALL.map(Kind::name).join(", ");
    let schema_id = settings.parsed("schema.id", "a number up to 4294967295", |_| true);
    let format = match settings.text("format") {
        Some("avro") => Format::Avro {
            schema_id: schema_id.unwrap_or(1),
        },
        Some("json") | None => Format::Json,
        Some(other) => {
            settings.mistake(
                "format",
                format!("cannot be {other:?}"),
                Some("valid is json, avro".into()),
            );
            Format::Json
        }
    };
    Recipe {
        kind: settings.parsed("kind", &kinds, |_| true).unwrap_or(Kind::Orders),
        format,
        seed: settings
            .parsed("seed", "a number up to 18446744073709551615", |_| true)
            .unwrap_or(1),
        faults: settings
            .parsed("faults", "a share from 0 to 1, for example 0.01", |share| {
                (0.0..=1.0).contains(share)
            })
            .unwrap_or(0.0),
    }
}
